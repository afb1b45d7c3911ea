#include "base/check.h"
#include "infer/oip_grpc.h"
#include "infer/oip_pb.h"
#include <inttypes.h>

/* An answer's own memory (struct, outputs, offsets, converted contents) is an arena that holds itself and
 * goes when the block goes. */
struct holder {
    struct arena arena;
    struct answer answer;
};

static void on_block_free(struct block *b, void *arg)
{
    struct arena arena = ((struct holder *)arg)->arena;
    arena_deinit(&arena);
}

static struct holder *holder_new(void)
{
    struct arena arena;
    arena_init(&arena, 0);
    struct holder *h = arena_zalloc(&arena, sizeof(*h));
    if (!h)
        return NULL;
    h->arena = arena;
    return h;
}

static void holder_free(struct holder *h)
{
    on_block_free(NULL, h);
}

static void attach(struct holder *h, struct block *block)
{
    invariant(!block->on_free);
    block->on_free = on_block_free;
    block->arg = h;
    h->answer.block = block;
}

static bool no_memory(struct error *e)
{
    return error_set(e, STATUS_UNAVAILABLE, "out of memory");
}

static bool bad_bytes(unsigned k, struct error *e)
{
    return error_set(e, STATUS_BAD_ANSWER,
                     "outputs[%u]: the bytes are not as many BYTES elements as the shape says", k);
}

// Where each row of a BYTES output begins; shape[0] == rows > 0.
static bool find_rows(struct holder *h, unsigned k, struct error *e)
{
    struct answer *a = &h->answer;
    const struct tensor *t = &a->outputs[k];
    uint64_t count;
    if (!tensor_count(t, &count) || !tensor_bytes_check(t->data, t->bytes, count))
        return bad_bytes(k, e);
    if (a->rows == 0 || t->rank == 0 || t->shape[0] != a->rows)
        return true;
    if (!a->row_offsets) {
        a->row_offsets = arena_zalloc(&h->arena, a->n_outputs * sizeof(*a->row_offsets));
        if (!a->row_offsets)
            return no_memory(e);
    }
    uint64_t *offsets = arena_array(&h->arena, (size_t)a->rows + 1, sizeof(*offsets));
    if (!offsets)
        return no_memory(e);
    uint64_t at = 0, per_row = count / a->rows;
    for (uint32_t row = 0; row < a->rows; row++) {
        offsets[row] = at;
        for (uint64_t i = 0; i < per_row; i++)
            at += 4 + load_u32(t->data + at);
    }
    offsets[a->rows] = at;
    a->row_offsets[k] = offsets;
    return true;
}

// t is a copy, whose name and data are of the block.
static bool own_tensor(struct arena *a, struct tensor *t)
{
    bool had = t->params;
    t->params = params_copy(a, t->params);
    return tensor_own_shape(a, t) && (!had || t->params);
}

struct answer *answer_new(struct block *block, const struct tensor *outputs, unsigned n,
                          uint32_t rows)
{
    struct error e;
    struct holder *h = holder_new();
    if (!h)
        return NULL;
    struct answer *a = &h->answer;
    a->outputs = arena_array(&h->arena, n, sizeof(*outputs));
    bool ok = a->outputs != NULL;
    if (ok) {
        memcpy(a->outputs, outputs, n * sizeof(*outputs));
        a->n_outputs = (uint16_t)n;
        a->rows = rows;
    }
    for (unsigned k = 0; ok && k < n; k++)
        ok = own_tensor(&h->arena, &a->outputs[k]) &&
             (outputs[k].dtype != DT_BYTES || find_rows(h, k, &e));
    if (!ok) {
        holder_free(h);
        return NULL;
    }
    attach(h, block);
    return a;
}

// ---- ModelInferResponse --------------------------------------------------------------------------------

struct reading {
    struct holder *h;
    struct view *contents, *raw;
    unsigned n_raw, cap_outputs, cap_contents, cap_raw;
    struct params_sum sum;
};

static bool malformed(const char *why, struct error *e)
{
    return error_set(e, STATUS_BAD_ANSWER, "the worker's message: %s",
                     why ? why : "a field has another wire type");
}

// The codecs say whose field is wrong; here it is the worker's, whatever they call it.
static bool blame_worker(struct error *e)
{
    if (e->status == STATUS_BAD_REQUEST)
        e->status = STATUS_BAD_ANSWER;
    return false;
}

static uint64_t figure(const struct param *p)
{
    if (p->type == PARAM_UINT64 || (p->type == PARAM_INT64 && p->i >= 0))
        return p->u;
    return p->type == PARAM_DOUBLE && p->d >= 0 && p->d < 1e15 ? (uint64_t)p->d : 0;
}

// What an answer of ours says of itself (api/meta.c): a worker that is a gateway, too, says it of another answer.
static bool is_ours(struct view key)
{
    return (key.n > 7 && memcmp(key.p, "sluice-", 7) == 0) || view_is(key, "age_s");
}

// queue_us, compute_us: the worker's own figures; the rest is the model's, and for the client.
static bool take_param(struct reading *d, struct view entry, struct error *e)
{
    struct answer *a = &d->h->answer;
    struct param p;
    if (!oip_pb_param(entry, &p))
        return malformed("a parameter cannot be read", e);
    if (view_is(p.key, "queue_us"))
        a->queue_us = figure(&p);
    else if (view_is(p.key, "compute_us"))
        a->compute_us = figure(&p);
    else if (!is_ours(p.key))
        return oip_add_param(&d->h->arena, &a->params, &p, &d->sum, NULL, e) || blame_worker(e);
    return true;
}

static bool add_output(struct reading *d, struct view message, struct error *e)
{
    struct answer *a = &d->h->answer;
    struct arena *arena = &d->h->arena;
    struct oip_place at = {"outputs", a->n_outputs, "contents"};
    if (a->n_outputs == INFER_MAX_TENSORS)
        return malformed("more than 256 outputs", e);
    struct tensor *t = oip_grown(arena, a->outputs, a->n_outputs, &d->cap_outputs, sizeof(*t));
    struct view *c = oip_grown(arena, d->contents, a->n_outputs, &d->cap_contents, sizeof(*c));
    if (!t || !c)
        return no_memory(e);
    a->outputs = t;
    d->contents = c;
    if (!oip_pb_tensor(arena, message, &t[a->n_outputs], &c[a->n_outputs], &d->sum, &at, e))
        return blame_worker(e);
    a->n_outputs++;
    return true;
}

static bool add_raw(struct reading *d, struct view bytes, struct error *e)
{
    if (d->n_raw == INFER_MAX_TENSORS)
        return malformed("more than 256 raw_output_contents", e);
    struct view *raw = oip_grown(&d->h->arena, d->raw, d->n_raw, &d->cap_raw, sizeof(*raw));
    if (!raw)
        return no_memory(e);
    d->raw = raw;
    raw[d->n_raw++] = bytes;
    return true;
}

static bool on_field(struct reading *d, const struct pb_field *f, struct error *e)
{
    struct answer *a = &d->h->answer;
    if (f->number > 6)
        return true;
    if (f->wire != PB_LEN)
        return malformed(NULL, e);
    switch (f->number) {
    case 1:
        a->model = f->data;
        return true;
    case 2:
        a->version = f->data;
        return true;
    case 4:
        return take_param(d, f->data, e);
    case 5:
        return add_output(d, f->data, e);
    case 6:
        return add_raw(d, f->data, e);
    default:
        return true; // id: the batch has none
    }
}

static bool read_fields(struct reading *d, struct view message, struct error *e)
{
    struct pb_reader r;
    struct pb_field f;
    pb_read(&r, message);
    for (unsigned n = 0; pb_next(&r, &f); n++) {
        if (n == OIP_MAX_FIELDS)
            return malformed("too many fields", e);
        if (!on_field(d, &f, e))
            return false;
    }
    return !r.error || malformed(r.error, e);
}

static bool take_contents(struct reading *d, unsigned k, struct error *e)
{
    struct oip_place at = {"outputs", k, "contents"};
    struct oip_contents c;
    if (!oip_contents_begin(&c, &d->h->arena, d->contents[k], &d->h->answer.outputs[k], &at, e))
        return blame_worker(e);
    return oip_contents_step(&c, SIZE_MAX, e) == OIP_DONE || blame_worker(e);
}

static bool take_outputs(struct reading *d, struct error *e)
{
    struct answer *a = &d->h->answer;
    if (d->n_raw && d->n_raw != a->n_outputs)
        return error_set(e, STATUS_BAD_ANSWER,
                         "raw_output_contents: expected %u, one for each output, got %u",
                         a->n_outputs, d->n_raw);
    for (unsigned k = 0; k < a->n_outputs; k++) {
        struct oip_place at = {"outputs", k, "data"};
        struct tensor *t = &a->outputs[k];
        if (d->n_raw) {
            t->data = d->raw[k].n ? (const uint8_t *)d->raw[k].p : NULL;
            t->bytes = d->raw[k].n;
            if (!oip_check_raw(e, &at, t))
                return blame_worker(e);
        } else if (!take_contents(d, k, e)) {
            return false;
        }
        if (t->dtype == DT_BYTES && !find_rows(d->h, k, e))
            return false;
    }
    return true;
}

bool oip_grpc_read_answer(struct block *block, struct view message, uint32_t rows,
                          struct answer **out, struct error *e)
{
    struct reading d = {.h = holder_new()};
    if (!d.h)
        return no_memory(e);
    d.h->answer.rows = rows;
    if (!read_fields(&d, message, e) || !take_outputs(&d, e)) {
        holder_free(d.h);
        return false;
    }
    attach(d.h, block);
    *out = &d.h->answer;
    return true;
}
