#include "infer/prediction_inner.h"

static struct view cut(struct view v, size_t most)
{
    return v.n > most ? view_of(v.p, most) : v;
}

// ---- what is not to be seen ----------------------------------------------------------------------------

static const char *const side_word[PACKED_SIDES] = {"input:", "output:"};

static bool is_redacted(const struct prediction_rules *r, const char *kind, struct view name)
{
    size_t n = strlen(kind);
    for (unsigned i = 0; i < r->redacts; i++) {
        struct view word = view_str(r->redact[i]);
        if (word.n == n + name.n && memcmp(word.p, kind, n) == 0 &&
            view_eq(view_of(word.p + n, name.n), name))
            return true;
    }
    return false;
}

// The text that is left out; PREDICTION_TEXTS: none.
static unsigned hidden_text(const struct prediction_rules *r)
{
    bool tenant = r->redacts > 0 && is_redacted(r, "tenant", VIEW(""));
    return tenant ? PREDICTION_TENANT : PREDICTION_TEXTS;
}

// ---- headers and parameters ----------------------------------------------------------------------------

static struct view value_of(const struct param *p)
{
    if (p->type == PARAM_STRING)
        return p->s;
    return p->type == PARAM_BOOL ? view_of(&p->b, sizeof(p->b)) : view_of(&p->u, sizeof(p->u));
}

static size_t said_bytes(const struct param *p)
{
    return packed_up(sizeof(struct packed_said) + p->key.n + value_of(p).n);
}

static size_t room_of_list(const struct param *list, unsigned n)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < n && bytes < PREDICTION_SAID; i++)
        bytes += said_bytes(&list[i]);
    return bytes;
}

// Of all lists.
static size_t room_of_said(const struct prediction *p, const struct prediction_rules *r)
{
    const struct infer_request *q = p->request;
    size_t n = room_of_list(p->headers, p->n_headers);
    if (r->parameters)
        n += room_of_list(q->params, q->n_params);
    for (unsigned i = 0; r->parameters && r->inputs == DETAIL_FULL && i < q->n_inputs; i++)
        if (q->inputs[i].params)
            n += room_of_list(q->inputs[i].params->at, q->inputs[i].params->n);
    return n < PREDICTION_SAID ? n : PREDICTION_SAID;
}

static char *pack_one(char *at, const struct param *p)
{
    struct view value = value_of(p);
    *(struct packed_said *)at = (struct packed_said){
        .key = (uint16_t)p->key.n, .type = (uint8_t)p->type, .bytes = (uint32_t)value.n};
    char *to = at + sizeof(struct packed_said);
    if (p->key.n > 0)
        memcpy(to, p->key.p, p->key.n);
    if (value.n > 0)
        memcpy(to + p->key.n, value.p, value.n);
    return at + said_bytes(p);
}

// Each whole, or not at all. *kept: how many.
static char *pack_list(char *at, struct packed_head *h, const struct prediction_rules *r,
                       const char *kind, const struct param *list, unsigned n, uint16_t *kept)
{
    for (const struct param *p = list; p < list + n; p++) {
        size_t bytes = said_bytes(p);
        if (bytes > PREDICTION_SAID - h->said) {
            h->cut++;
        } else if (r->redacts == 0 || !is_redacted(r, kind, p->key)) {
            at = pack_one(at, p);
            h->said = (uint16_t)(h->said + bytes);
            ++*kept;
        }
    }
    return at;
}

static char *pack_parameters(char *at, struct packed_head *h, const struct prediction_rules *r,
                             const struct param *list, unsigned n, uint16_t *kept)
{
    return r->parameters && n > 0 ? pack_list(at, h, r, "parameter:", list, n, kept) : at;
}

// ---- the two sides -------------------------------------------------------------------------------------

struct values { // of one side
    unsigned side;
    const struct tensor *inputs; // or
    const struct slice *answer;
    unsigned n;
};

static struct values values_of(const struct prediction *p, unsigned side)
{
    struct values v = {.side = side};
    if (side == SIDE_INPUTS) {
        v.inputs = p->request->inputs;
        v.n = p->request->n_inputs;
    } else if (p->answer) {
        v.answer = p->answer;
        v.n = p->answer->answer->n_outputs;
    }
    return v;
}

// Of an answer, with the rows and bytes of all parts, and the data of the first.
static struct tensor answered(const struct values *v, unsigned i)
{
    return v->answer->next ? slice_whole(v->answer, i) : slice_output(v->answer, i);
}

// It, or a copy in `own`.
static const struct tensor *tensor_at(const struct values *v, unsigned i, struct tensor *own)
{
    if (v->inputs)
        return &v->inputs[i];
    *own = answered(v, i);
    return own;
}

static enum prediction_detail detail_of(const struct prediction_rules *r, unsigned side)
{
    return side == SIDE_INPUTS ? r->inputs : r->outputs;
}

// Runs fn over the data of tensor i, part by part, until `most` bytes have been seen.
static void each_part(const struct values *v, unsigned i, uint64_t most,
                      void (*fn)(void *ctx, struct view part), void *ctx)
{
    const struct slice *s = v->answer;
    do {
        struct tensor t = s ? slice_output(s, i) : v->inputs[i];
        size_t n = t.bytes < most ? t.bytes : (size_t)most;
        fn(ctx, view_of(t.data, n));
        most -= n;
        s = s ? s->next : NULL;
    } while (s && most > 0);
}

static void put_hashed(void *ctx, struct view part)
{
    hash_run_put(ctx, part);
}

static struct hash128 hash_tensor(const struct values *v, unsigned i, const struct tensor *t,
                                  uint64_t most, uint64_t seed)
{
    int64_t shape[TENSOR_MAX_RANK];
    for (unsigned k = 0; k < t->rank; k++)
        shape[k] = tensor_dim(t, k);
    seed = hash64(view_of(shape, t->rank * sizeof(*shape)), seed + t->dtype);
    seed = hash64(t->name, seed);
    uint64_t n = t->bytes < most ? t->bytes : most;
    if (!v->answer || !v->answer->next) // in one piece, as nearly all are
        return hash128(view_of(t->data, (size_t)n), seed);
    struct hash_run run;
    hash_run_begin(&run, seed);
    each_part(v, i, n, put_hashed, &run);
    return hash_run_end(&run);
}

static void add_hash(struct packed_side *s, const struct values *v, unsigned i,
                     const struct tensor *t, const struct prediction_rules *r)
{
    s->bytes += t->bytes;
    if (r->redacts > 0 && is_redacted(r, side_word[v->side], t->name)) {
        s->redacted++;
        return;
    }
    uint64_t left = PREDICTION_HASHED - s->hashed;
    s->digest = hash_tensor(v, i, t, left, s->digest.lo ^ s->digest.hi);
    s->hashed += t->bytes < left ? t->bytes : left;
}

static char *pack_hash(char *at, const struct values *v, const struct prediction_rules *r)
{
    struct packed_side *s = (struct packed_side *)at;
    *s = (struct packed_side){.detail = DETAIL_HASH, .n = (uint16_t)v->n};
    for (unsigned i = 0; v->inputs && i < v->n; i++)
        add_hash(s, v, i, &v->inputs[i], r);
    for (unsigned i = 0; v->answer && i < v->n; i++) {
        struct tensor t = answered(v, i);
        add_hash(s, v, i, &t, r);
    }
    return at + sizeof(*s);
}

// Whole elements of the data that are no more than `most` bytes.
static uint64_t whole_elements(const struct tensor *t, uint64_t most)
{
    if (t->bytes <= most)
        return t->bytes;
    if (t->dtype != DT_BYTES)
        return most - most % dtype_table[t->dtype].bytes;
    uint64_t at = 0;
    while (at + 4 <= most && at + 4 + load_u32(t->data + at) <= most)
        at += 4 + load_u32(t->data + at);
    return at;
}

struct packing {
    char *at;
};

static void put_copied(void *ctx, struct view part)
{
    struct packing *k = ctx;
    if (part.n > 0)
        memcpy(k->at, part.p, part.n);
    k->at += part.n;
}

static uint64_t kept_of(const struct values *v, unsigned i, const struct tensor *t, uint64_t most)
{
    if (!v->answer || !v->answer->next || t->bytes <= most)
        return whole_elements(t, most);
    // In parts: those that fit whole, as each of them has whole elements.
    uint64_t kept = 0;
    for (const struct slice *s = v->answer; s; s = s->next) {
        struct tensor part = slice_output(s, i);
        uint64_t n = whole_elements(&part, most - kept);
        kept += n;
        if (n < part.bytes)
            break;
    }
    return kept;
}

static char *pack_tensor(char *at, const struct values *v, unsigned i,
                         const struct prediction_rules *r, struct packed_side *s,
                         struct packed_head *h)
{
    struct packed_tensor *p = (struct packed_tensor *)at;
    struct tensor own;
    const struct tensor *t = tensor_at(v, i, &own);
    struct view name = cut(t->name, PREDICTION_NAME);
    bool hidden = r->redacts > 0 && is_redacted(r, side_word[v->side], t->name);
    *p = (struct packed_tensor){.bytes = t->bytes,
                                .name = (uint16_t)name.n,
                                .dtype = (uint8_t)t->dtype,
                                .rank = t->rank,
                                .redacted = hidden};
    p->kept = hidden ? 0 : kept_of(v, i, t, r->most - s->hashed);
    s->bytes += t->bytes;
    s->hashed += p->kept;
    at += sizeof(*p);
    for (unsigned k = 0; k < t->rank; k++, at += sizeof(int64_t)) {
        int64_t dim = tensor_dim(t, k);
        memcpy(at, &dim, sizeof(dim));
    }
    if (name.n > 0)
        memcpy(at, name.p, name.n);
    at += packed_up(name.n);
    struct packing k = {at};
    if (p->kept > 0)
        each_part(v, i, p->kept, put_copied, &k);
    at += packed_up(p->kept);
    if (v->side == SIDE_INPUTS && t->params && !hidden)
        at = pack_parameters(at, h, r, t->params->at, t->params->n, &p->parameters);
    return at;
}

static char *pack_full(char *at, const struct values *v, const struct prediction_rules *r,
                       struct packed_head *h)
{
    struct packed_side *s = (struct packed_side *)at;
    *s = (struct packed_side){.detail = DETAIL_FULL, .n = (uint16_t)v->n};
    at += sizeof(*s);
    for (unsigned i = 0; i < v->n; i++)
        at = pack_tensor(at, v, i, r, s, h);
    return at;
}

static char *pack_side(char *at, const struct values *v, const struct prediction_rules *r,
                       struct packed_head *h)
{
    enum prediction_detail detail = v->n > 0 ? detail_of(r, v->side) : DETAIL_NONE;
    if (detail == DETAIL_HASH)
        return pack_hash(at, v, r);
    if (detail == DETAIL_FULL)
        return pack_full(at, v, r, h);
    *(struct packed_side *)at = (struct packed_side){.detail = DETAIL_NONE};
    return at + sizeof(struct packed_side);
}

// ---- all of it -----------------------------------------------------------------------------------------

// In full.
static size_t room_of_values(const struct values *v, const struct prediction_rules *r)
{
    size_t n = 0;
    uint64_t values = 0;
    for (unsigned i = 0; i < v->n; i++) {
        struct tensor own;
        const struct tensor *t = tensor_at(v, i, &own);
        values += t->bytes;
        n += sizeof(struct packed_tensor) + t->rank * sizeof(int64_t) +
             packed_up(t->name.n < PREDICTION_NAME ? t->name.n : PREDICTION_NAME) + 8;
    }
    return n + (size_t)(values < r->most ? values : r->most);
}

size_t prediction_room(const struct prediction *p, const struct prediction_rules *r)
{
    const size_t most = PREDICTION_TEXTS * PREDICTION_TEXT;
    size_t n = 0;
    for (unsigned i = 0; i < PREDICTION_TEXTS; i++)
        n += p->text[i].n;
    n = packed_up(sizeof(struct packed_head) + (n < most ? n : most)) + room_of_said(p, r);
    for (unsigned side = 0; side < PACKED_SIDES; side++) {
        n += sizeof(struct packed_side);
        if (detail_of(r, side) != DETAIL_FULL)
            continue;
        struct values v = values_of(p, side);
        n += room_of_values(&v, r);
    }
    return packed_up(n);
}

size_t prediction_pack(void *to, const struct prediction *p, const struct prediction_rules *r)
{
    struct packed_head *h = to;
    char *start = to, *at = start + sizeof(*h);
    unsigned hidden = hidden_text(r);
    h->facts = p->facts;
    h->headers = h->parameters = h->said = h->cut = 0;
    for (unsigned i = 0; i < PREDICTION_TEXTS; i++) {
        struct view v = cut(p->text[i], PREDICTION_TEXT);
        size_t n = i == hidden ? 0 : v.n;
        h->text[i] = (uint16_t)n;
        if (n > 0)
            memcpy(at, v.p, n);
        at += n;
    }
    at = start + packed_up((size_t)(at - start));
    const struct infer_request *q = p->request;
    if (p->n_headers > 0)
        at = pack_list(at, h, r, "header:", p->headers, p->n_headers, &h->headers);
    at = pack_parameters(at, h, r, q->params, q->n_params, &h->parameters);
    for (unsigned side = 0; side < PACKED_SIDES; side++) {
        struct values v = values_of(p, side);
        at = pack_side(at, &v, r, h);
    }
    h->bytes = (uint64_t)(at - start);
    return (size_t)h->bytes;
}

size_t prediction_bytes(const void *from)
{
    return (size_t)((const struct packed_head *)from)->bytes;
}
