#include "infer/oip_grpc.h"
#include "infer/oip_pb.h"
#include "infer/oip_rest.h"

/* ModelInferResponse toward a client: head and small tensors in one run of the arena, large ones lent. */

// ModelInferResponse's numbers.
enum { MODEL = 1, VERSION, ID, PARAMETERS, OUTPUTS, RAW };

struct reply {
    const struct oip_said *said;
    const struct slice *first;
    struct tensor *outputs; // of all parts
    unsigned *index;        // in their answers
    unsigned n;
};

static bool is_lent(const struct tensor *part)
{
    return part->bytes >= OIP_PIN_FROM;
}

static size_t memory_size(const struct reply *r, unsigned *lent)
{
    const struct oip_said *s = r->said;
    size_t n = oip_pb_text_size(MODEL, s->model) + oip_pb_text_size(VERSION, s->version) +
               oip_pb_text_size(ID, s->id);
    for (unsigned i = 0; i < s->n_params; i++)
        n += oip_pb_param_size(PARAMETERS, &s->params[i]);
    n += oip_pb_params_size(PARAMETERS, s->theirs);
    for (unsigned k = 0; k < r->n; k++) {
        n += oip_pb_tensor_size(OUTPUTS, &r->outputs[k], 0) + pb_len_size(RAW, r->outputs[k].bytes);
        for (const struct slice *part = r->first; part; part = part->next) {
            struct tensor t = slice_output(part, r->index[k]);
            if (is_lent(&t)) {
                n -= t.bytes;
                ++*lent;
            }
        }
    }
    return n;
}

static void add(struct oip_message *m, const uint8_t *p, size_t n, struct block *lent)
{
    if (n)
        m->segs[m->n++] = (struct oip_seg){p, n, lent != NULL, lent};
    m->bytes += n;
}

// Returns where the next byte is written; *from: from where on no segment is made of what is written.
static uint8_t *w_rows(struct oip_message *m, const struct slice *part, unsigned index,
                       uint8_t **from, uint8_t *at)
{
    struct tensor t = slice_output(part, index);
    if (!is_lent(&t)) {
        if (t.bytes)
            memcpy(at, t.data, t.bytes);
        return at + t.bytes;
    }
    add(m, *from, (size_t)(at - *from), NULL);
    add(m, t.data, t.bytes, part->answer->block);
    return *from = at;
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
    at = oip_pb_w_params(at, PARAMETERS, s->theirs);
    for (unsigned k = 0; k < r->n; k++)
        at = oip_pb_w_tensor(at, OUTPUTS, &r->outputs[k], 0);
    for (unsigned k = 0; k < r->n; k++) {
        at = pb_w_len(at, RAW, r->outputs[k].bytes);
        for (const struct slice *part = r->first; part; part = part->next)
            at = w_rows(m, part, r->index[k], &from, at);
    }
    add(m, from, (size_t)(at - from), NULL);
}

bool oip_grpc_write_answer(struct arena *a, const struct infer_request *request,
                           const struct slice *s, const struct oip_said *said,
                           struct oip_message *out, bool *pins, struct error *e)
{
    struct reply r = {.said = said, .first = s, .n = oip_rest_outputs(request, s->answer)};
    r.outputs = arena_array(a, r.n, sizeof(*r.outputs));
    r.index = arena_array(a, r.n, sizeof(*r.index));
    if (!r.outputs || !r.index)
        return error_set(e, STATUS_UNAVAILABLE, "out of memory");
    unsigned n = 0;
    for (unsigned k = 0; k < r.n; k++) {
        bool binary;
        unsigned index = oip_wanted_output(request, s->answer, k, &binary);
        if (index == UINT32_MAX)
            continue;
        r.index[n] = index;
        r.outputs[n++] = slice_whole(s, index);
    }
    r.n = n;
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
