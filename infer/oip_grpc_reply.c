#include "infer/oip_grpc.h"
#include "infer/oip_pb.h"
#include "infer/oip_rest.h"

/* ModelInferResponse toward a client: head and small tensors in one run of the arena, large ones lent. */

// ModelInferResponse's numbers.
enum { MODEL = 1, VERSION, ID, PARAMETERS, OUTPUTS, RAW };

struct reply {
    const struct oip_said *said;
    struct tensor *outputs;
    unsigned n;
};

static size_t memory_size(const struct reply *r, unsigned *lent)
{
    const struct oip_said *s = r->said;
    size_t n = oip_pb_text_size(MODEL, s->model) + oip_pb_text_size(VERSION, s->version) +
               oip_pb_text_size(ID, s->id);
    for (unsigned i = 0; i < s->n_params; i++)
        n += oip_pb_param_size(PARAMETERS, &s->params[i]);
    for (unsigned k = 0; k < r->n; k++) {
        size_t bytes = r->outputs[k].bytes;
        n += oip_pb_tensor_size(OUTPUTS, &r->outputs[k], 0) + pb_len_size(RAW, bytes);
        if (bytes >= OIP_PIN_FROM) {
            n -= bytes;
            ++*lent;
        }
    }
    return n;
}

static void add(struct oip_message *m, const uint8_t *p, size_t n, bool lent)
{
    if (n)
        m->segs[m->n++] = (struct oip_seg){p, n, lent};
    m->bytes += n;
}

static void w_reply(struct oip_message *m, const struct reply *r, uint8_t *at)
{
    const struct oip_said *s = r->said;
    uint8_t *from = at;
    at = oip_pb_w_text(at, MODEL, s->model);
    at = oip_pb_w_text(at, VERSION, s->version);
    at = oip_pb_w_text(at, ID, s->id);
    for (unsigned i = 0; i < s->n_params; i++)
        at = oip_pb_w_param(at, PARAMETERS, &s->params[i]);
    for (unsigned k = 0; k < r->n; k++)
        at = oip_pb_w_tensor(at, OUTPUTS, &r->outputs[k], 0);
    for (unsigned k = 0; k < r->n; k++) {
        const struct tensor *t = &r->outputs[k];
        at = pb_w_len(at, RAW, t->bytes);
        if (t->bytes < OIP_PIN_FROM) {
            if (t->bytes)
                memcpy(at, t->data, t->bytes);
            at += t->bytes;
            continue;
        }
        add(m, from, (size_t)(at - from), false);
        add(m, t->data, t->bytes, true);
        from = at;
    }
    add(m, from, (size_t)(at - from), false);
}

bool oip_grpc_write_answer(struct arena *a, const struct infer_request *request,
                           const struct slice *s, const struct oip_said *said,
                           struct oip_message *out, bool *pins, struct error *e)
{
    struct reply r = {.said = said, .n = oip_rest_outputs(request, s->answer)};
    r.outputs = arena_array(a, r.n, sizeof(*r.outputs));
    if (!r.outputs)
        return error_set(e, STATUS_UNAVAILABLE, "out of memory");
    for (unsigned k = 0; k < r.n; k++) {
        bool binary;
        unsigned index = oip_wanted_output(request, s->answer, k, &binary);
        if (index == UINT32_MAX)
            return error_set(e, STATUS_BAD_ANSWER, "outputs[%u]: the worker did not answer it", k);
        r.outputs[k] = slice_output(s, index);
    }
    unsigned lent = 0;
    size_t memory = memory_size(&r, &lent);
    *out = (struct oip_message){.segs = arena_array(a, 2 * (size_t)lent + 1, sizeof(*out->segs))};
    uint8_t *at = arena_alloc_aligned(a, memory, 1);
    if (!out->segs || !at)
        return error_set(e, STATUS_UNAVAILABLE, "out of memory");
    w_reply(out, &r, at);
    *pins = lent > 0;
    return true;
}
