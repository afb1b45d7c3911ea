#include "infer/oip_json.h"

/* Raw binary requests: nothing but bytes came, so names, datatype and shape are the model's.
 * Source: Triton, docs/protocol/extension_binary_data.md, "Raw Binary Request". */

// BYTES: the body is the one element; the length before it is ours to add.
static bool one_element(struct oip_raw *w, struct arena *a, struct view body, struct tensor *t,
                        struct error *e)
{
    uint32_t n = (uint32_t)body.n;
    uint8_t *p = body.n > UINT32_MAX - 4 ? NULL : arena_alloc(a, 4 + body.n);
    if (!p)
        return error_set(e, STATUS_UNAVAILABLE, "out of memory");
    memcpy(p, &n, sizeof(n));
    t->data = p;
    t->bytes = 4 + body.n;
    for (unsigned i = 0; i < t->rank; i++)
        tensor_set_dim(t, i, 1);
    w->left = body;
    w->to = p + 4;
    return true;
}

// Settles the free dimensions: a leading one is the batch, and 1; one more follows from the bytes.
static bool settle_shape(struct tensor *t, bool batched, size_t bytes, struct error *e)
{
    unsigned free_dims = 0, last = 0;
    for (unsigned i = 0; i < t->rank; i++) {
        if (tensor_dim(t, i) < 0) {
            free_dims++;
            last = i;
        }
    }
    if (free_dims > 1 && batched && t->shape[0] < 0) {
        t->shape[0] = 1;
        free_dims--;
    }
    if (free_dims > 1)
        return error_set(
            e, STATUS_BAD_REQUEST,
            "body: a raw binary request needs an input with at most one free dimension");
    if (free_dims == 0)
        return true;
    uint64_t rest;
    tensor_set_dim(t, last, 1);
    if (!tensor_size(t, &rest) || rest == 0 || bytes % rest != 0)
        return error_set(e, STATUS_BAD_REQUEST,
                         "body: %zu bytes do not fill whole elements of the input's free dimension",
                         bytes);
    tensor_set_dim(t, last, (int64_t)(bytes / rest));
    return true;
}

bool oip_raw_begin(struct oip_raw *w, struct arena *a, struct view body,
                   const struct model_metadata *m, struct infer_request *out, struct error *e)
{
    *w = (struct oip_raw){.out = out};
    *out = (struct infer_request){.model = out->model, .version = out->version};
    if (!m || m->n_inputs != 1)
        return error_set(e, STATUS_BAD_REQUEST,
                         "body: a raw binary request needs a model with exactly one input");
    struct tensor *t = arena_alloc(a, sizeof(*t));
    if (!t)
        return error_set(e, STATUS_UNAVAILABLE, "out of memory");
    *t = m->inputs[0];
    t->name = arena_copy(a, m->inputs[0].name); // the model may be reloaded under the request
    if (!t->name.n || !tensor_own_shape(a, t))
        return error_set(e, STATUS_UNAVAILABLE, "out of memory");
    t->data = body.n ? (const uint8_t *)body.p : NULL;
    t->bytes = body.n;
    struct oip_place at = {"inputs", 0, "data"};
    if (t->dtype == DT_BYTES) {
        if (!one_element(w, a, body, t, e))
            return false;
    } else if (!settle_shape(t, m->max_batch > 0, body.n, e) || !oip_check_raw(e, &at, t)) {
        return false;
    }
    out->inputs = t;
    out->n_inputs = 1;
    out->binary_output = true;
    out->format = FORMAT_OIP_BINARY;
    return true;
}

enum oip_step oip_raw_step(struct oip_raw *w, size_t max_bytes, struct error *e)
{
    size_t n = w->left.n < max_bytes ? w->left.n : max_bytes;
    if (n > 0)
        memcpy(w->to, w->left.p, n);
    w->to += n;
    w->left = view_of(w->left.p + n, w->left.n - n);
    if (w->left.n > 0)
        return OIP_MORE;
    return oip_seal(w->out, e) ? OIP_DONE : OIP_ERROR;
}
