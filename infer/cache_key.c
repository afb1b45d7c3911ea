#include "infer/cache_key.h"

bool cache_key_fits(const struct infer_request *r)
{
    return r->sequence_id == 0 && !r->sequence_start && !r->sequence_end;
}

static void put(struct cache_keying *k, const void *p, size_t n)
{
    if (k->shared)
        sha256_put(&k->sha, p, n);
    else
        siphash_put(&k->sip, p, n);
}

// With its length before it, so that neighbours cannot trade bytes.
static void put_view(struct cache_keying *k, struct view v)
{
    uint64_t n = v.n;
    put(k, &n, sizeof(n));
    put(k, v.p, v.n);
}

static void put_input(struct cache_keying *k, const struct tensor *t)
{
    uint8_t kind[2] = {(uint8_t)t->dtype, t->rank};
    uint64_t bytes = t->bytes;
    put_view(k, t->name);
    put(k, kind, sizeof(kind));
    for (unsigned i = 0; i < t->rank; i++) {
        int64_t dim = tensor_dim(t, i);
        put(k, &dim, sizeof(dim));
    }
    put(k, &bytes, sizeof(bytes));
}

static void put_param(struct cache_keying *k, const struct param *p)
{
    uint8_t type = (uint8_t)p->type;
    put_view(k, p->key);
    put(k, &type, sizeof(type));
    if (p->type == PARAM_STRING)
        put_view(k, p->s);
    else if (p->type == PARAM_BOOL)
        put(k, &p->b, sizeof(p->b));
    else
        put(k, &p->u, sizeof(p->u));
}

// In the order of their names: a map has none of its own, and clients give it any. There are INFER_MAX_PARAMS at most.
static void put_params(struct cache_keying *k, const struct param *at, unsigned n)
{
    const struct param *p = NULL;
    while ((p = params_next(at, n, p)))
        put_param(k, p);
}

// Of a tensor or a requested output, which is the index-th.
static void put_list(struct cache_keying *k, unsigned index, const struct params *l)
{
    uint32_t head[2] = {index, l ? l->n : 0};
    if (!l)
        return;
    put(k, head, sizeof(head));
    put_params(k, l->at, l->n);
}

void cache_key_begin(struct cache_keying *k, const struct infer_request *r, struct view tenant,
                     const uint8_t secret[SIPHASH_KEY])
{
    static const char layout[] = "sluice cache 1";
    uint16_t counts[3] = {r->n_inputs, r->n_outputs, r->n_params};
    k->request = r;
    k->input = 0;
    k->at = 0;
    k->shared = !secret;
    if (secret)
        siphash_begin(&k->sip, secret);
    else
        sha256_begin(&k->sha);
    put(k, layout, sizeof(layout));
    put_view(k, tenant);
    put(k, counts, sizeof(counts));
    for (unsigned i = 0; i < r->n_inputs; i++)
        put_input(k, &r->inputs[i]);
    for (unsigned i = 0; i < r->n_outputs; i++) {
        put_view(k, r->outputs[i].name);
        put(k, &r->outputs[i].classification, sizeof(r->outputs[i].classification));
    }
    put_params(k, r->params, r->n_params);
    for (unsigned i = 0; i < r->n_inputs; i++)
        put_list(k, i, r->inputs[i].params);
    for (unsigned i = 0; i < r->n_outputs; i++)
        put_list(k, INFER_MAX_TENSORS + i, r->outputs[i].params);
}

static void end(struct cache_keying *k, struct cache_key *out)
{
    *out = (struct cache_key){.shared = k->shared};
    if (k->shared)
        sha256_end(&k->sha, out->bytes);
    else
        siphash_end(&k->sip, out->bytes);
}

bool cache_key_step(struct cache_keying *k, size_t max_bytes, struct cache_key *out)
{
    const struct infer_request *r = k->request;
    while (k->input < r->n_inputs) {
        const struct tensor *t = &r->inputs[k->input];
        size_t n = t->bytes - k->at < max_bytes ? t->bytes - k->at : max_bytes;
        if (n > 0)
            put(k, t->data + k->at, n);
        k->at += n;
        max_bytes -= n;
        if (k->at < t->bytes)
            return false;
        k->input++;
        k->at = 0;
    }
    end(k, out);
    return true;
}
