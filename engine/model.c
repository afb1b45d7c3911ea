#include "engine/model.h"

#include "base/mem.h"
#include "base/rand.h"

#include <math.h>
#include <stdio.h>

#define SEED 0x51a1ce

// ---- ports -------------------------------------------------------------------------------------------

static const char *copy_name(struct arena *a, struct view name)
{
    char *copy = arena_alloc(a, name.n + 1);
    if (!copy)
        return NULL;
    memcpy(copy, name.p, name.n);
    copy[name.n] = '\0';
    return copy;
}

static struct engine_port *ports_of(struct graph *g, const int32_t *values, unsigned n,
                                    const struct plan *p)
{
    struct engine_port *ports = arena_array(&g->arena, n, sizeof(*ports));
    for (unsigned i = 0; ports && i < n; i++) {
        const struct array *a = p ? &p->arrays[values[i]] : &g->values[values[i]].array;
        ports[i] = (struct engine_port){.name = copy_name(&g->arena, g->values[values[i]].name),
                                        .dtype = a->dtype,
                                        .rank = a->rank};
        memcpy(ports[i].shape, a->shape, sizeof(ports[i].shape));
        if (!ports[i].name)
            return NULL;
    }
    return ports;
}

// ---- does it batch? ----------------------------------------------------------------------------------

static bool inputs_free(struct engine_model *m)
{
    for (unsigned i = 0; i < m->graph.n_inputs; i++) {
        const struct engine_port *p = &m->inputs[i];
        if (p->rank == 0 || p->shape[0] >= 0) {
            snprintf(m->single, sizeof(m->single), "input \"%.60s\" has a fixed first dimension",
                     p->name);
            return false;
        }
    }
    return true;
}

// The outputs of plans for different rows tell which dimensions follow the rows.
static bool outputs_free(struct engine_model *m, const struct plan *one, const struct plan *three)
{
    bool all = true;
    for (unsigned i = 0; i < m->graph.n_outputs; i++) {
        const struct array *a = &one->arrays[m->graph.outputs[i]],
                           *b = &three->arrays[m->graph.outputs[i]];
        struct engine_port *p = &m->outputs[i];
        for (unsigned d = 0; d < a->rank && a->rank == b->rank; d++) {
            if (a->shape[d] != b->shape[d])
                p->shape[d] = -1;
        }
        if (a->rank == 0 || a->rank != b->rank || a->shape[0] != 1 || b->shape[0] != 3) {
            snprintf(m->single, sizeof(m->single),
                     "output \"%.60s\" does not have a row for each row", p->name);
            all = false;
        }
    }
    return all;
}

static void *random_rows(const struct array *a, size_t count, struct rand *r)
{
    size_t bytes = count * dtype_bytes(a->dtype);
    char *data = mem_alloc(bytes ? bytes : 1);
    if (!data)
        return NULL;
    memset(data, 0, bytes);
    for (size_t i = 0; i < count; i++) {
        float f = (float)rand_unit(r);
        double d = (double)f;
        // No op of ours takes a whole number for an index or a length: any will do, but they must differ.
        uint64_t whole = rand_below(r, a->dtype == ENGINE_BOOL ? 2 : 128);
        const void *from = a->dtype == ENGINE_F32   ? (const void *)&f
                           : a->dtype == ENGINE_F64 ? (const void *)&d
                                                    : (const void *)&whole;
        memcpy(data + i * dtype_bytes(a->dtype), from, dtype_bytes(a->dtype));
    }
    return data;
}

static bool close_enough(const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!(fabsf(a[i] - b[i]) <= 1e-5f + 1e-4f * fabsf(a[i])) && !(a[i] != a[i] && b[i] != b[i]))
            return false;
    }
    return true;
}

// Random rows give alone what they give in a batch: rows that influence each other (a mean over the batch,
// a transposed batch) are found here, not by a client.
static bool rows_agree(struct engine_model *m, struct engine_instance *i, struct engine_error *e)
{
    struct graph *g = &m->graph;
    struct engine_data batch[MODEL_MAX_PORTS], alone[MODEL_MAX_PORTS], out[MODEL_MAX_PORTS],
        single[MODEL_MAX_PORTS];
    void *memory[MODEL_MAX_PORTS] = {0}, *kept[MODEL_MAX_PORTS] = {0};
    struct rand r;
    bool ok = true;
    rand_seed(&r, SEED);
    for (unsigned k = 0; k < g->n_inputs && ok; k++) {
        struct array a = g->values[g->inputs[k]].array;
        size_t count = 0;
        a.shape[0] = 3;
        ok = array_count(&a, &count) && (memory[k] = random_rows(&a, count, &r)) != NULL;
        batch[k] = (struct engine_data){memory[k], count * dtype_bytes(a.dtype), a.rank, {0}};
        memcpy(batch[k].shape, a.shape, sizeof(a.shape));
    }
    ok = ok && engine_run(i, batch, out, e);
    for (unsigned k = 0; k < g->n_outputs && ok; k++) {
        kept[k] = mem_alloc(out[k].bytes + 1);
        ok = kept[k] != NULL;
        if (ok)
            memcpy(kept[k], out[k].data, out[k].bytes);
    }
    for (unsigned row = 0; row < 3 && ok; row++) {
        for (unsigned k = 0; k < g->n_inputs; k++) {
            alone[k] = batch[k];
            alone[k].shape[0] = 1;
            alone[k].bytes = batch[k].bytes / 3;
            alone[k].data = (char *)memory[k] + row * alone[k].bytes;
        }
        ok = engine_run(i, alone, single, e);
        for (unsigned k = 0; k < g->n_outputs && ok; k++) {
            const float *in_batch =
                (const float *)(void *)((char *)kept[k] + row * single[k].bytes);
            ok = m->outputs[k].dtype == ENGINE_F32
                     ? close_enough(in_batch, single[k].data, single[k].bytes / 4)
                     : memcmp(in_batch, single[k].data, single[k].bytes) == 0;
        }
    }
    for (unsigned k = 0; k < MODEL_MAX_PORTS; k++) {
        mem_free(memory[k]);
        mem_free(kept[k]);
    }
    return ok;
}

// As many rows as the limits allow.
static void fit_limit(struct engine_model *m)
{
    struct engine_error why;
    struct plan *p = NULL;
    while (m->limit > 3 && !(p = plan_new(&m->graph, m->limit, &why)))
        m->limit /= 2;
    plan_free(p);
}

static bool check_batching(struct engine_model *m, const struct plan *one, struct engine_error *e)
{
    if (!inputs_free(m))
        return true;
    struct engine_error why;
    struct plan *three = plan_new(&m->graph, 3, &why);
    if (!three) { // written for one row only, although it does not say so
        snprintf(m->single, sizeof(m->single), "it cannot take three rows: %.120s", why.text);
        return true;
    }
    bool batches = outputs_free(m, one, three);
    plan_free(three);
    fit_limit(m);
    if (!batches)
        return true;
    struct engine_instance *i = engine_instance_new(m, e);
    if (!i)
        return false;
    if (rows_agree(m, i, &why))
        m->max_batch = m->limit;
    else
        snprintf(m->single, sizeof(m->single),
                 "random rows give in a batch what they do not give alone");
    engine_instance_free(i);
    return true;
}

// ---- the model ---------------------------------------------------------------------------------------

// Constants where the device reads them.
static bool upload_constants(struct engine_model *m, struct engine_error *e)
{
    struct graph *g = &m->graph;
    struct device *d = g->device;
    struct queue *q = d->ops->queue_new(d);
    bool ok = q || engine_fail(e, "out of memory");
    for (unsigned i = 0; i < g->n_values && ok; i++) {
        struct value *v = &g->values[i];
        size_t bytes = array_bytes(&v->array);
        if (!v->constant || !v->array.data)
            continue;
        v->on_device = v->array.data;
        if (d->ops->shared)
            continue;
        v->on_device = NULL;
        ok = graph_charge(g, bytes, e) &&
             ((v->on_device = d->ops->alloc(d, bytes)) || engine_fail(e, "out of memory"));
        if (ok)
            d->ops->upload(q, v->on_device, v->array.data, bytes);
    }
    const char *error = q ? d->ops->sync(q) : NULL;
    if (q)
        d->ops->queue_free(q);
    return ok && (!error || engine_fail(e, "%s", error));
}

// The graph in the form that runs. *one: its plan for one row.
static bool compile(struct engine_model *m, struct plan **one, struct engine_error *e)
{
    struct graph *g = &m->graph;
    struct device *d = g->device;
    bool changed = false;
    if (!graph_fold(g, e) || !(*one = plan_new(g, 1, e)))
        return false;
    if (d->ops->layout && !d->ops->layout(d, g, (*one)->arrays, &changed, e))
        return false;
    if (!changed)
        return true;
    plan_free(*one);
    *one = plan_new(g, 1, e);
    return *one != NULL;
}

static bool load(struct engine_model *m, struct view onnx, struct engine_error *e)
{
    struct graph *g = &m->graph;
    struct plan *one = NULL;
    bool ok = graph_import(g, onnx, e) && compile(m, &one, e) && upload_constants(m, e);
    if (ok) {
        m->inputs = ports_of(g, g->inputs, g->n_inputs, NULL);
        m->outputs = ports_of(g, g->outputs, g->n_outputs, one);
        ok = m->inputs && m->outputs ? check_batching(m, one, e) : engine_fail(e, "out of memory");
    }
    plan_free(one);
    return ok;
}

struct engine_model *engine_model_load(struct engine *engine, struct view onnx, uint32_t max_batch,
                                       struct engine_error *e)
{
    struct engine_model *m = mem_zalloc(sizeof(*m));
    e->text[0] = '\0';
    if (!m) {
        engine_fail(e, "out of memory");
        return NULL;
    }
    m->engine = engine;
    m->limit = max_batch ? max_batch : 1;
    graph_init(&m->graph, engine->device, engine->limits);
    if (!load(m, onnx, e)) {
        engine_model_free(m);
        return NULL;
    }
    return m;
}

void engine_model_free(struct engine_model *m)
{
    if (!m)
        return;
    graph_free(&m->graph);
    mem_free(m);
}

unsigned engine_model_inputs(const struct engine_model *m)
{
    return m->graph.n_inputs;
}

const struct engine_port *engine_model_input(const struct engine_model *m, unsigned i)
{
    return &m->inputs[i];
}

unsigned engine_model_outputs(const struct engine_model *m)
{
    return m->graph.n_outputs;
}

const struct engine_port *engine_model_output(const struct engine_model *m, unsigned i)
{
    return &m->outputs[i];
}

uint32_t engine_model_max_batch(const struct engine_model *m)
{
    return m->max_batch;
}

uint32_t engine_model_max_rows(const struct engine_model *m)
{
    return m->limit;
}

const char *engine_model_single_reason(const struct engine_model *m)
{
    return m->max_batch ? NULL : m->single;
}
