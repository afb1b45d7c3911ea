#include "infer/copy.h"

#include "base/check.h"

/* One run of memory: structs, the dimensions of tensors beyond the inline ones, lists of parameters, then texts and data. */

static size_t dims_bytes(const struct tensor *t)
{
    return t->rank > TENSOR_INLINE_RANK ? (t->rank - TENSOR_INLINE_RANK) * sizeof(*t->more) : 0;
}

static size_t list_bytes(const struct params *l)
{
    size_t n = l ? sizeof(*l) + l->n * sizeof(*l->at) : 0;
    for (unsigned i = 0; l && i < l->n; i++)
        n += l->at[i].key.n + (l->at[i].type == PARAM_STRING ? l->at[i].s.n : 0);
    return n;
}

size_t answer_copy_bytes(const struct slice *s)
{
    const struct answer *a = s->answer;
    size_t n = sizeof(*a) + a->n_outputs * sizeof(*a->outputs) + a->model.n + a->version.n;
    n += list_bytes(a->params);
    for (unsigned k = 0; k < a->n_outputs; k++) {
        struct tensor t = slice_output(s, k);
        n += dims_bytes(&t) + list_bytes(t.params) + t.name.n + t.bytes;
    }
    return n;
}

static void *put(uint8_t **at, const void *p, size_t n)
{
    void *here = *at;
    if (n > 0)
        memcpy(here, p, n);
    *at += n;
    return here;
}

static struct view put_view(uint8_t **at, struct view v)
{
    return view_of(put(at, v.p, v.n), v.n);
}

// The list, whose texts are still where they were.
static const struct params *put_list(uint8_t **at, const struct params *from)
{
    struct params *l = from ? put(at, from, sizeof(*from)) : NULL;
    if (l)
        l->at = put(at, from->at, from->n * sizeof(*from->at));
    return l;
}

static void put_texts(uint8_t **at, const struct params *l)
{
    for (unsigned i = 0; l && i < l->n; i++) {
        struct param *p = &l->at[i];
        p->key = put_view(at, p->key);
        if (p->type == PARAM_STRING)
            p->s = put_view(at, p->s);
    }
}

struct answer *answer_copy(struct block *block, const struct slice *s)
{
    const struct answer *from = s->answer;
    struct answer *a = (struct answer *)block->data;
    uint8_t *at = block->data + sizeof(*a) + from->n_outputs * sizeof(*a->outputs);
    *a = (struct answer){.block = block,
                         .outputs = (struct tensor *)(block->data + sizeof(*a)),
                         .n_outputs = from->n_outputs};
    for (unsigned k = 0; k < a->n_outputs; k++) {
        struct tensor *t = &a->outputs[k];
        *t = slice_output(s, k);
        if (dims_bytes(t) > 0)
            t->more = put(&at, t->more, dims_bytes(t));
    }
    a->params = put_list(&at, from->params);
    for (unsigned k = 0; k < a->n_outputs; k++)
        a->outputs[k].params = put_list(&at, a->outputs[k].params);
    put_texts(&at, a->params);
    for (unsigned k = 0; k < a->n_outputs; k++) {
        struct tensor *t = &a->outputs[k];
        put_texts(&at, t->params);
        t->name = put_view(&at, t->name);
        t->data = t->bytes > 0 ? put(&at, t->data, t->bytes) : NULL;
    }
    a->model = put_view(&at, from->model);
    a->version = put_view(&at, from->version);
    debug_invariant(at <= block->data + block->bytes);
    return a;
}

// ---- requests ----------------------------------------------------------------------------------------

// Its own parameters, which have no struct.
static struct params params_of(const struct infer_request *r)
{
    return (struct params){.at = r->params, .n = r->n_params, .cap = r->n_params};
}

size_t request_copy_bytes(const struct infer_request *r)
{
    struct params own = params_of(r);
    size_t n = list_bytes(&own) - sizeof(own) + r->id.n;
    n += r->n_inputs * sizeof(*r->inputs) + r->n_outputs * sizeof(*r->outputs);
    for (unsigned i = 0; i < r->n_inputs; i++) {
        const struct tensor *t = &r->inputs[i];
        n += dims_bytes(t) + list_bytes(t->params) + t->name.n + t->bytes;
    }
    for (unsigned i = 0; i < r->n_outputs; i++)
        n += list_bytes(r->outputs[i].params) + r->outputs[i].name.n;
    return n;
}

static void put_structs(uint8_t **at, struct infer_request *r)
{
    r->inputs = put(at, r->inputs, r->n_inputs * sizeof(*r->inputs));
    r->outputs = put(at, r->outputs, r->n_outputs * sizeof(*r->outputs));
    r->params = put(at, r->params, r->n_params * sizeof(*r->params));
    for (unsigned i = 0; i < r->n_inputs; i++) {
        struct tensor *t = &r->inputs[i];
        if (dims_bytes(t) > 0)
            t->more = put(at, t->more, dims_bytes(t));
        t->params = put_list(at, t->params);
    }
    for (unsigned i = 0; i < r->n_outputs; i++)
        r->outputs[i].params = put_list(at, r->outputs[i].params);
}

void request_copy(struct infer_request *out, void *memory, const struct infer_request *from)
{
    uint8_t *at = memory;
    *out = *from;
    out->model = out->version = VIEW("");
    out->trace = NULL;
    put_structs(&at, out);
    struct params own = params_of(out);
    put_texts(&at, &own);
    out->id = put_view(&at, out->id);
    for (unsigned i = 0; i < out->n_inputs; i++) {
        struct tensor *t = &out->inputs[i];
        put_texts(&at, t->params);
        t->name = put_view(&at, t->name);
        t->data = t->bytes > 0 ? put(&at, t->data, t->bytes) : NULL;
    }
    for (unsigned i = 0; i < out->n_outputs; i++) {
        put_texts(&at, out->outputs[i].params);
        out->outputs[i].name = put_view(&at, out->outputs[i].name);
    }
}
