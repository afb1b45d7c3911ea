#include "infer/oip_grpc.h"
#include "infer/oip_pb.h"

/* One ModelInferRequest for a whole batch. The head (names, shapes, parameters) and all small rows lie in
 * one run of the arena; a segment ends where a large row is referenced:
 *
 *   [ head | tag, length | row | row ] → lent row → [ row | tag, length ] → lent row …               */

struct batch_message {
    const struct target *to;
    const struct infer_request *const *members;
    unsigned n;
    uint32_t rows;
    const struct infer_request *first;
    struct param own[2]; // timeout, priority
    unsigned n_own;
    bool alone;
};

// ModelInferRequest's numbers.
enum { MODEL = 1, VERSION, ID, PARAMETERS, INPUTS, OUTPUTS, RAW };

static void add_own(struct batch_message *b, struct view key, uint64_t v)
{
    if (v)
        b->own[b->n_own++] = (struct param){.key = key, .type = PARAM_INT64, .i = (int64_t)v};
}

static struct param classification(const struct requested_output *o)
{
    return (struct param){
        .key = VIEW("classification"), .type = PARAM_INT64, .i = o->classification};
}

static size_t output_size(const struct requested_output *o)
{
    struct param c = classification(o);
    return pb_len_size(1, o->name.n) + (o->classification ? oip_pb_param_size(2, &c) : 0) +
           oip_pb_params_size(2, o->params);
}

static size_t head_size(const struct batch_message *b)
{
    const struct infer_request *r = b->first;
    size_t n = oip_pb_text_size(MODEL, b->to->name) + oip_pb_text_size(VERSION, b->to->version);
    if (b->alone)
        n += oip_pb_text_size(ID, r->id);
    for (unsigned i = 0; i < b->n_own; i++)
        n += oip_pb_param_size(PARAMETERS, &b->own[i]);
    for (unsigned i = 0; i < r->n_params; i++)
        n += oip_pb_param_size(PARAMETERS, &r->params[i]);
    for (unsigned k = 0; k < r->n_inputs; k++)
        n += oip_pb_tensor_size(INPUTS, &r->inputs[k], b->rows);
    for (unsigned k = 0; k < r->n_outputs; k++)
        n += pb_len_size(OUTPUTS, output_size(&r->outputs[k]));
    return n;
}

static uint8_t *w_head(uint8_t *at, const struct batch_message *b)
{
    const struct infer_request *r = b->first;
    at = oip_pb_w_text(at, MODEL, b->to->name);
    at = oip_pb_w_text(at, VERSION, b->to->version);
    if (b->alone)
        at = oip_pb_w_text(at, ID, r->id);
    for (unsigned i = 0; i < b->n_own; i++)
        at = oip_pb_w_param(at, PARAMETERS, &b->own[i]);
    for (unsigned i = 0; i < r->n_params; i++)
        at = oip_pb_w_param(at, PARAMETERS, &r->params[i]);
    for (unsigned k = 0; k < r->n_inputs; k++)
        at = oip_pb_w_tensor(at, INPUTS, &r->inputs[k], b->rows);
    for (unsigned k = 0; k < r->n_outputs; k++) {
        struct param c = classification(&r->outputs[k]);
        at = pb_w_len(at, OUTPUTS, output_size(&r->outputs[k]));
        at = pb_w_bytes(at, 1, r->outputs[k].name);
        if (c.i)
            at = oip_pb_w_param(at, 2, &c);
        at = oip_pb_w_params(at, 2, r->outputs[k].params);
    }
    return at;
}

// Bytes of input k over all members; how many of them are copied, and how many runs are lent.
static size_t input_bytes(const struct batch_message *b, unsigned k, size_t *copied, unsigned *lent)
{
    size_t sum = 0;
    for (unsigned i = 0; i < b->n; i++) {
        size_t n = b->members[i]->inputs[k].bytes;
        sum += n;
        if (n < OIP_COPY_BELOW)
            *copied += n;
        else
            ++*lent;
    }
    return sum;
}

// Ends the segment that starts at *from.
static void cut(struct oip_message *m, uint8_t **from, uint8_t *at)
{
    if (at > *from)
        m->segs[m->n++] = (struct oip_seg){.p = *from, .n = (size_t)(at - *from)};
    *from = at;
}

static void w_rows(struct oip_message *m, const struct batch_message *b, uint8_t *memory)
{
    uint8_t *from = memory, *at = w_head(memory, b);
    size_t copied = 0;
    unsigned lent = 0;
    for (unsigned k = 0; k < b->first->n_inputs; k++) {
        at = pb_w_len(at, RAW, input_bytes(b, k, &copied, &lent));
        for (unsigned i = 0; i < b->n; i++) {
            const struct tensor *t = &b->members[i]->inputs[k];
            if (t->bytes < OIP_COPY_BELOW) {
                if (t->bytes)
                    memcpy(at, t->data, t->bytes);
                at += t->bytes;
                continue;
            }
            cut(m, &from, at);
            m->segs[m->n++] = (struct oip_seg){.p = t->data, .n = t->bytes, .lent = true};
        }
    }
    cut(m, &from, at);
}

bool oip_grpc_write_batch(struct arena *a, const struct target *to,
                          const struct infer_request *const *members, unsigned n, uint32_t rows,
                          uint64_t timeout_us, struct oip_message *out)
{
    struct batch_message b = {
        .to = to, .members = members, .n = n, .rows = rows, .first = members[0], .alone = n == 1};
    add_own(&b, VIEW("timeout"), timeout_us);
    if (b.alone)
        add_own(&b, VIEW("priority"), b.first->priority);
    size_t memory = head_size(&b), copied = 0;
    unsigned lent = 0;
    *out = (struct oip_message){0};
    for (unsigned k = 0; k < b.first->n_inputs; k++) {
        size_t bytes = input_bytes(&b, k, &copied, &lent);
        out->bytes += pb_len_size(RAW, bytes);
        memory += pb_len_size(RAW, bytes) - bytes;
    }
    out->bytes += head_size(&b);
    memory += copied;
    out->segs = arena_array(a, 2 * (size_t)lent + 1, sizeof(*out->segs));
    uint8_t *at = arena_alloc_aligned(a, memory, 1);
    if (!out->segs || !at)
        return false;
    w_rows(out, &b, at);
    return true;
}
