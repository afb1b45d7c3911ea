#include "infer/cache_key.h"

bool cache_key_fits(const struct infer_request *r)
{
    return r->sequence_id == 0 && !r->sequence_start && !r->sequence_end;
}

static void put_input(struct sha256 *s, const struct tensor *t)
{
    uint8_t kind[2] = {(uint8_t)t->dtype, t->rank};
    uint64_t bytes = t->bytes;
    sha256_view(s, t->name);
    sha256_put(s, kind, sizeof(kind));
    for (unsigned i = 0; i < t->rank; i++) {
        int64_t dim = tensor_dim(t, i);
        sha256_put(s, &dim, sizeof(dim));
    }
    sha256_put(s, &bytes, sizeof(bytes));
}

static void put_param(struct sha256 *s, const struct param *p)
{
    uint8_t type = (uint8_t)p->type;
    sha256_view(s, p->key);
    sha256_put(s, &type, sizeof(type));
    if (p->type == PARAM_STRING)
        sha256_view(s, p->s);
    else if (p->type == PARAM_BOOL)
        sha256_put(s, &p->b, sizeof(p->b));
    else
        sha256_put(s, &p->u, sizeof(p->u));
}

static int by_key(struct view a, struct view b)
{
    int order = memcmp(a.n ? a.p : "", b.n ? b.p : "", a.n < b.n ? a.n : b.n);
    return order ? order : (a.n > b.n) - (a.n < b.n);
}

// In the order of their names: a map has none of its own, and clients give it any. There are INFER_MAX_PARAMS at most.
static void put_params(struct sha256 *s, const struct infer_request *r)
{
    const struct param *last = NULL;
    for (unsigned n = 0; n < r->n_params; n++) {
        const struct param *next = NULL;
        for (unsigned i = 0; i < r->n_params; i++) {
            const struct param *p = &r->params[i];
            int behind = last ? by_key(p->key, last->key) : 1;
            if (behind < 0 || (behind == 0 && p <= last))
                continue; // it has gone in
            if (!next || by_key(p->key, next->key) < 0)
                next = p;
        }
        put_param(s, next);
        last = next;
    }
}

void cache_key_begin(struct cache_keying *k, const struct infer_request *r, struct view tenant)
{
    static const char layout[] = "sluice cache 1";
    uint16_t counts[3] = {r->n_inputs, r->n_outputs, r->n_params};
    k->request = r;
    k->input = 0;
    k->at = 0;
    sha256_begin(&k->sha);
    sha256_put(&k->sha, layout, sizeof(layout));
    sha256_view(&k->sha, tenant);
    sha256_put(&k->sha, counts, sizeof(counts));
    for (unsigned i = 0; i < r->n_inputs; i++)
        put_input(&k->sha, &r->inputs[i]);
    for (unsigned i = 0; i < r->n_outputs; i++) {
        sha256_view(&k->sha, r->outputs[i].name);
        sha256_put(&k->sha, &r->outputs[i].classification, sizeof(r->outputs[i].classification));
    }
    put_params(&k->sha, r);
}

bool cache_key_step(struct cache_keying *k, size_t max_bytes, struct cache_key *out)
{
    const struct infer_request *r = k->request;
    while (k->input < r->n_inputs) {
        const struct tensor *t = &r->inputs[k->input];
        size_t n = t->bytes - k->at < max_bytes ? t->bytes - k->at : max_bytes;
        if (n > 0)
            sha256_put(&k->sha, t->data + k->at, n);
        k->at += n;
        max_bytes -= n;
        if (k->at < t->bytes)
            return false;
        k->input++;
        k->at = 0;
    }
    sha256_end(&k->sha, out->sha256);
    return true;
}
