#include "infer/request.h"
#include "base/check.h"

bool model_name_ok(struct view name)
{
    return view_is_name(name, MODEL_NAME_MAX);
}

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
    uint16_t counts[2] = {r->n_inputs, r->n_outputs};
    key_put(&k, counts, sizeof(counts));
    key_view(&k, r->model);
    key_view(&k, r->version);
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
    }
    for (unsigned i = 0; i < r->n_outputs; i++) {
        key_view(&k, r->outputs[i].name);
        key_put(&k, &r->outputs[i].classification, sizeof(r->outputs[i].classification));
    }
    return hash128(view_of(k.run, k.n), 0);
}

void request_seal(struct infer_request *r)
{
    r->bytes = 0;
    for (unsigned i = 0; i < r->n_inputs; i++)
        r->bytes += r->inputs[i].bytes;
    r->rows = shared_rows(r);
    r->batch_key = batch_key(r);
    if (r->n_params)
        r->sequence = true;
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
    if (!out->versions || !copied(a, &out->name) || !copied(a, &out->platform))
        return false;
    for (unsigned i = 0; i < from->n_versions; i++) {
        out->versions[i] = from->versions[i];
        if (!copied(a, &out->versions[i]))
            return false;
    }
    return copy_tensors(a, &out->inputs, from->n_inputs) &&
           copy_tensors(a, &out->outputs, from->n_outputs);
}
