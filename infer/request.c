#include "infer/request.h"

bool model_name_ok(struct view name)
{
    if (name.n == 0 || name.n > MODEL_NAME_MAX)
        return false;
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
              c == '_' || c == '-'))
            return false;
    }
    return !view_is(name, ".") && !view_is(name, "..");
}

// ---- the batch key -----------------------------------------------------------------------------------

// What two requests must have in common, written one after the other with lengths, so that no two
// different signatures give the same octets. Long signatures are folded by hashing what is full.
struct key_text {
    char text[512];
    size_t n;
    uint64_t seed;
};

static void key_put(struct key_text *k, const void *p, size_t n)
{
    while (n > 0) {
        if (k->n == sizeof(k->text)) {
            struct hash128 h = hash128(view_of(k->text, k->n), k->seed);
            k->seed = h.lo;
            memcpy(k->text, &h, sizeof(h));
            k->n = sizeof(h);
        }
        size_t room = sizeof(k->text) - k->n, part = n < room ? n : room;
        memcpy(k->text + k->n, p, part);
        k->n += part;
        p = (const char *)p + part;
        n -= part;
    }
}

static void key_view(struct key_text *k, struct view v)
{
    uint32_t n = (uint32_t)v.n;
    key_put(k, &n, sizeof(n));
    key_put(k, v.p, v.n);
}

static struct hash128 batch_key(const struct infer_request *r)
{
    struct key_text k;
    k.n = 0;
    k.seed = 0;
    key_view(&k, r->model);
    key_view(&k, r->version);
    for (unsigned i = 0; i < r->n_inputs; i++) {
        const struct tensor *t = &r->inputs[i];
        uint8_t kind[2] = {(uint8_t)t->dtype, t->rank};
        key_view(&k, t->name);
        key_put(&k, kind, sizeof(kind));
        if (t->rank > 1)
            key_put(&k, &t->shape[1], (t->rank - 1u) * sizeof(t->shape[0]));
    }
    key_put(&k, "|", 1);
    for (unsigned i = 0; i < r->n_outputs; i++) {
        key_view(&k, r->outputs[i].name);
        key_put(&k, &r->outputs[i].classification, sizeof(r->outputs[i].classification));
    }
    return hash128(view_of(k.text, k.n), k.seed);
}

void request_seal(struct infer_request *r)
{
    bool shared = r->n_inputs > 0;
    int64_t rows = -1;
    r->bytes = 0;
    for (unsigned i = 0; i < r->n_inputs; i++) {
        const struct tensor *t = &r->inputs[i];
        r->bytes += t->bytes;
        if (t->rank == 0 || t->shape[0] < 1 || t->shape[0] > UINT32_MAX ||
            (rows >= 0 && t->shape[0] != rows))
            shared = false;
        else
            rows = t->shape[0];
    }
    r->rows = shared ? (uint32_t)rows : 0;
    if (r->n_params > 0) // nobody knows what they mean to the model
        r->sequence = true;
    r->batch_key = batch_key(r);
}

struct tensor slice_output(const struct slice *s, unsigned k)
{
    struct tensor t = s->answer->outputs[k];
    uint32_t all = s->answer->rows;
    if (s->rows == 0 || all == 0)
        return t;
    const uint64_t *offsets = s->answer->row_offsets ? s->answer->row_offsets[k] : NULL;
    if (offsets) {
        t.data += offsets[s->row];
        t.bytes = offsets[s->row + s->rows] - offsets[s->row];
    } else {
        size_t row_bytes = t.bytes / all;
        t.data += s->row * row_bytes;
        t.bytes = s->rows * row_bytes;
    }
    t.shape[0] = s->rows;
    return t;
}
