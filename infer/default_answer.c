#include "infer/default_answer.h"

#include "base/mem.h"
#include "infer/oip_grpc.h"
#include "infer/oip_json.h"

static bool read_outputs(struct default_answer *d, struct view json, struct error *e)
{
    unsigned n = 0;
    struct view text = arena_copy(&d->arena, json);
    if (!text.p && json.n > 0)
        return error_set(e, STATUS_UNAVAILABLE, "out of memory");
    if (!oip_json_decode_answer(&d->arena, text, &d->outputs, &n, e))
        return false;
    d->n_outputs = (uint16_t)n;
    d->rows = true;
    for (unsigned k = 0; k < n; k++)
        d->rows &= d->outputs[k].rank > 0 && d->outputs[k].shape[0] == 1;
    return true;
}

struct default_answer *default_answer_read(struct view json, struct error *e)
{
    struct default_answer *d = mem_zalloc(sizeof(*d));
    if (!d) {
        error_set(e, STATUS_UNAVAILABLE, "out of memory");
        return NULL;
    }
    arena_init(&d->arena, 0);
    if (read_outputs(d, json, e))
        return d;
    default_answer_free(d);
    return NULL;
}

void default_answer_free(struct default_answer *d)
{
    if (!d)
        return;
    arena_deinit(&d->arena);
    mem_free(d);
}

static bool has_output(const struct default_answer *d, struct view name)
{
    for (unsigned k = 0; k < d->n_outputs; k++)
        if (view_eq(d->outputs[k].name, name))
            return true;
    return false;
}

bool default_answer_has(const struct default_answer *d, const struct infer_request *r,
                        struct view *missing)
{
    for (unsigned i = 0; i < r->n_outputs; i++) {
        *missing = r->outputs[i].name;
        if (!has_output(d, *missing))
            return false;
    }
    return true;
}

// Each output's one row as often as there are rows, one output behind the other.
static void fill(const struct default_answer *d, uint32_t rows, uint8_t *to, struct tensor *outputs)
{
    for (unsigned k = 0; k < d->n_outputs; k++) {
        const struct tensor *one = &d->outputs[k];
        outputs[k] = *one;
        outputs[k].data = one->bytes ? to : NULL;
        outputs[k].bytes = one->bytes * rows;
        if (d->rows)
            outputs[k].shape[0] = rows;
        for (uint32_t i = 0; i < rows && one->bytes; i++, to += one->bytes)
            memcpy(to, one->data, one->bytes);
    }
}

static size_t row_bytes(const struct default_answer *d)
{
    size_t bytes = 0;
    for (unsigned k = 0; k < d->n_outputs; k++)
        bytes += d->outputs[k].bytes;
    return bytes;
}

struct answer *default_answer_give(const struct default_answer *d, uint32_t rows,
                                   struct block_owner *o)
{
    struct tensor outputs[INFER_MAX_TENSORS];
    uint32_t times = d->rows ? rows : 1;
    size_t bytes = row_bytes(d);
    if (bytes > DEFAULT_ANSWER_BYTES / times)
        return NULL;
    struct block *b = block_new(o, bytes * times + 1);
    if (!b)
        return NULL;
    fill(d, times, b->data, outputs);
    struct answer *a = answer_new(b, outputs, d->n_outputs, d->rows ? rows : 0);
    if (!a)
        block_unref(b);
    return a;
}
