#include "infer/request.h"
#include "base/check.h"

bool model_name_ok(struct view name)
{
    return view_is_model_name(name, MODEL_NAME_MAX);
}

const char *const answer_source_name[SOURCES] = {[SOURCE_MODEL] = "model",
                                                 [SOURCE_CACHE] = "cache",
                                                 [SOURCE_STALE] = "stale",
                                                 [SOURCE_DEFAULT] = "default"};

// The key's preimage, hashed in runs: when the run is full, its hash becomes the start of the next.
struct key {
    size_t n;
    char run[496];
};

static void key_put(struct key *k, const void *p, size_t n)
{
    const char *from = p;
    while (n) {
        if (k->n == sizeof(k->run)) {
            struct hash128 h = hash128(view_of(k->run, k->n), 0);
            memcpy(k->run, &h, sizeof(h));
            k->n = sizeof(h);
        }
        size_t part = n < sizeof(k->run) - k->n ? n : sizeof(k->run) - k->n;
        memcpy(k->run + k->n, from, part);
        k->n += part;
        from += part;
        n -= part;
    }
}

// With its length before it, so that neighbours cannot trade bytes.
static void key_view(struct key *k, struct view v)
{
    uint32_t n = (uint32_t)v.n;
    key_put(k, &n, sizeof(n));
    key_put(k, v.p, v.n);
}

static void key_params(struct key *k, const struct param *at, unsigned n)
{
    struct hash128 h = params_hash(at, n);
    key_put(k, &h, sizeof(h));
}

// Of an input or a requested output, if it has any: behind a length that no text has.
static void key_list(struct key *k, const struct params *l)
{
    static const uint32_t mark = UINT32_MAX;
    if (!l)
        return;
    key_put(k, &mark, sizeof(mark));
    key_params(k, l->at, l->n);
}

static uint32_t shared_rows(const struct infer_request *r)
{
    if (r->n_inputs == 0)
        return 0;
    for (unsigned i = 0; i < r->n_inputs; i++)
        if (r->inputs[i].rank == 0 || r->inputs[i].shape[0] != r->inputs[0].shape[0])
            return 0;
    int64_t rows = r->inputs[0].shape[0];
    return rows > 0 && rows <= UINT32_MAX ? (uint32_t)rows : 0;
}

static struct hash128 batch_key(const struct infer_request *r)
{
    struct key k;
    k.n = 0;
    uint16_t counts[3] = {r->n_inputs, r->n_outputs, r->n_params};
    key_put(&k, counts, sizeof(counts));
    for (unsigned i = 0; i < r->n_inputs; i++) {
        const struct tensor *t = &r->inputs[i];
        unsigned skip = r->rows ? 1 : 0;
        uint8_t kind[2] = {(uint8_t)t->dtype, t->rank};
        key_view(&k, t->name);
        key_put(&k, kind, sizeof(kind));
        unsigned near = t->rank < TENSOR_INLINE_RANK ? t->rank : TENSOR_INLINE_RANK;
        if (near > skip)
            key_put(&k, t->shape + skip, (near - skip) * sizeof(t->shape[0]));
        if (t->rank > near)
            key_put(&k, t->more, (t->rank - near) * sizeof(t->more[0]));
        key_list(&k, t->params);
    }
    for (unsigned i = 0; i < r->n_outputs; i++) {
        key_view(&k, r->outputs[i].name);
        key_put(&k, &r->outputs[i].classification, sizeof(r->outputs[i].classification));
        key_list(&k, r->outputs[i].params);
    }
    if (r->n_params)
        key_params(&k, r->params, r->n_params);
    return hash128(view_of(k.run, k.n), 0);
}

void request_seal(struct infer_request *r)
{
    r->bytes = 0;
    for (unsigned i = 0; i < r->n_inputs; i++)
        r->bytes += r->inputs[i].bytes;
    r->rows = shared_rows(r);
    r->batch_key = batch_key(r);
    r->sequence |= r->sequence_id != 0 || r->sequence_start || r->sequence_end;
}

struct tensor slice_output(const struct slice *s, unsigned k)
{
    const struct answer *a = s->answer;
    struct tensor t = a->outputs[k];
    if (s->rows == 0 || t.rank == 0 || a->rows == 0)
        return t;
    debug_invariant(s->row <= a->rows && s->rows <= a->rows - s->row);
    size_t from, until;
    if (a->row_offsets && a->row_offsets[k]) {
        from = a->row_offsets[k][s->row];
        until = a->row_offsets[k][s->row + s->rows];
    } else {
        size_t row_bytes = t.bytes / a->rows;
        from = row_bytes * s->row;
        until = from + row_bytes * s->rows;
    }
    t.shape[0] = s->rows;
    t.bytes = until - from;
    t.data = t.bytes ? t.data + from : NULL;
    return t;
}

struct tensor slice_whole(const struct slice *s, unsigned k)
{
    struct tensor t = slice_output(s, k);
    for (s = s->next; s; s = s->next) {
        struct tensor part = slice_output(s, k);
        t.shape[0] += part.shape[0];
        t.bytes += part.bytes;
    }
    return t;
}

static bool outputs_agree(const struct tensor *a, const struct tensor *b)
{
    bool same = view_eq(a->name, b->name) && a->dtype == b->dtype && a->rank == b->rank;
    for (unsigned i = 1; same && i < a->rank; i++)
        same = tensor_dim(a, i) == tensor_dim(b, i);
    return same && a->rank > 0;
}

bool slice_agrees(const struct slice *s, struct error *e)
{
    const struct answer *first = s->answer;
    for (s = s->next; s; s = s->next) {
        if (s->answer->n_outputs != first->n_outputs)
            return error_set(e, STATUS_BAD_ANSWER,
                             "the worker answered parts of the request with %u outputs and with %u",
                             first->n_outputs, s->answer->n_outputs);
        for (unsigned k = 0; k < first->n_outputs; k++) {
            if (!outputs_agree(&first->outputs[k], &s->answer->outputs[k]))
                return error_set(e, STATUS_BAD_ANSWER,
                                 "the worker's output %u differs between parts of the request, "
                                 "and they cannot be put together",
                                 k);
        }
    }
    return true;
}

// How far `elements` of BYTES reach from there.
static size_t bytes_of_elements(const uint8_t *data, uint64_t elements)
{
    size_t at = 0;
    for (uint64_t i = 0; i < elements; i++)
        at += 4 + load_u32(data + at);
    return at;
}

// row_elements: of one row. What is behind `before` begins at its end.
static void narrow(struct tensor *t, uint32_t rows, uint32_t of, const struct tensor *before)
{
    const uint8_t *data = before && t->bytes > 0 ? before->data + before->bytes : t->data;
    size_t bytes = t->bytes / of * rows;
    uint64_t count;
    if (t->dtype == DT_BYTES && tensor_count(t, &count) && t->bytes > 0)
        bytes = bytes_of_elements(data, count / of * rows);
    t->shape[0] = rows;
    t->data = t->bytes > 0 ? data : NULL;
    t->bytes = bytes;
}

struct infer_request *request_part(struct arena *a, const struct infer_request *r, uint32_t row,
                                   uint32_t rows, const struct infer_request *before)
{
    debug_invariant(rows > 0 && row <= r->rows && rows <= r->rows - row && (row == 0) == !before);
    struct infer_request *part = arena_alloc(a, sizeof(*part));
    struct tensor *inputs = arena_array(a, r->n_inputs, sizeof(*inputs));
    if (!part || !inputs)
        return NULL;
    *part = *r;
    part->inputs = inputs;
    part->rows = rows;
    part->bytes = 0;
    for (unsigned i = 0; i < r->n_inputs; i++) {
        inputs[i] = r->inputs[i];
        narrow(&inputs[i], rows, r->rows, before ? &before->inputs[i] : NULL);
        part->bytes += inputs[i].bytes;
    }
    return part;
}

static bool copied(struct arena *a, struct view *v)
{
    bool had = v->n > 0;
    *v = arena_copy(a, *v);
    return !had || v->p;
}

static bool copy_tensors(struct arena *a, struct tensor **list, unsigned n)
{
    const struct tensor *from = *list;
    *list = arena_array(a, n ? n : 1, sizeof(**list));
    for (unsigned i = 0; *list && i < n; i++) {
        (*list)[i] = from[i];
        if (!copied(a, &(*list)[i].name) || !tensor_own_shape(a, &(*list)[i]))
            return false;
    }
    return *list != NULL;
}

bool model_metadata_copy(struct arena *a, struct model_metadata *out,
                         const struct model_metadata *from)
{
    *out = *from;
    out->versions = arena_array(a, from->n_versions ? from->n_versions : 1, sizeof(*out->versions));
    if (!out->versions || !copied(a, &out->name) || !copied(a, &out->platform) ||
        !copied(a, &out->config))
        return false;
    for (unsigned i = 0; i < from->n_versions; i++) {
        out->versions[i] = from->versions[i];
        if (!copied(a, &out->versions[i]))
            return false;
    }
    return copy_tensors(a, &out->inputs, from->n_inputs) &&
           copy_tensors(a, &out->outputs, from->n_outputs);
}
