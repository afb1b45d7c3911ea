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
    if (name.n > 0)
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

// Dimensions of the outputs that differ between two plans are free. False: an output's rank differs.
static bool mark_free(struct engine_model *m, const struct plan *p, const struct plan *q)
{
    bool same_ranks = true;
    for (unsigned i = 0; i < m->graph.n_outputs; i++) {
        const struct array *a = &p->arrays[m->graph.outputs[i]],
                           *b = &q->arrays[m->graph.outputs[i]];
        same_ranks &= a->rank == b->rank;
        for (unsigned d = 0; d < a->rank && a->rank == b->rank; d++) {
            if (a->shape[d] != b->shape[d])
                m->outputs[i].shape[d] = -1;
        }
    }
    return same_ranks;
}

// Plans for one row and for three tell whether each output has a row for each row.
static bool outputs_follow(struct engine_model *m, const struct plan *one, const struct plan *three)
{
    mark_free(m, one, three);
    for (unsigned i = 0; i < m->graph.n_outputs; i++) {
        const struct array *a = &one->arrays[m->graph.outputs[i]],
                           *b = &three->arrays[m->graph.outputs[i]];
        if (a->rank > 0 && a->rank == b->rank && a->shape[0] == 1 && b->shape[0] == 3)
            continue;
        snprintf(m->single, sizeof(m->single), "output \"%.60s\" does not have a row for each row",
                 m->outputs[i].name);
        return false;
    }
    return true;
}

// Whole numbers are below `most`: a model may take them for places in a table.
static void *random_rows(const struct array *a, size_t count, unsigned most, struct rand *r)
{
    size_t bytes = count * dtype_bytes(a->dtype);
    char *data = mem_alloc(bytes ? bytes : 1);
    if (!data)
        return NULL;
    memset(data, 0, bytes);
    for (size_t i = 0; i < count; i++) {
        float f = (float)rand_unit(r);
        double d = (double)f;
        uint64_t whole = rand_below(r, a->dtype == ENGINE_BOOL ? 2 : most);
        if (dtype_inside(a->dtype) != a->dtype)
            whole = half_of_float(a->dtype, f);
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
static bool rows_agree(struct engine_model *m, struct engine_instance *i, int64_t length,
                       unsigned most, struct engine_error *e)
{
    struct graph *g = &m->graph;
    struct engine_data batch[MODEL_MAX_PORTS], alone[MODEL_MAX_PORTS], out[MODEL_MAX_PORTS],
        single[MODEL_MAX_PORTS];
    void *memory[MODEL_MAX_PORTS] = {0}, *kept[MODEL_MAX_PORTS] = {0};
    struct rand r;
    bool ok = true;
    rand_seed(&r, SEED);
    for (unsigned k = 0; k < g->n_inputs && ok; k++) {
        struct array a = model_input(m, k, 3, length);
        size_t count = 0;
        ok = array_count(&a, &count) && (memory[k] = random_rows(&a, count, most, &r)) != NULL;
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
    while (m->limit > 3) {
        struct binding most = binding_of(&m->graph, m->limit, m->lengths[0]);
        if ((p = plan_new(&m->graph, &most, &why)))
            break;
        m->limit /= 2;
    }
    plan_free(p);
}

// Are shapes right for batches, with this length in the free dimensions?
static bool shapes_follow(struct engine_model *m, int64_t length)
{
    struct engine_error why;
    struct binding b = binding_of(&m->graph, 1, length), c = binding_of(&m->graph, 3, length);
    struct plan *one = plan_new(&m->graph, &b, &why), *three = plan_new(&m->graph, &c, &why);
    bool ok = one && three && outputs_follow(m, one, three);
    if (!one || !three) // written for one row only, although it does not say so
        snprintf(m->single, sizeof(m->single), "it cannot take three rows: %.120s", why.text);
    plan_free(one);
    plan_free(three);
    return ok;
}

// Tries small numbers where others are refused: places in a table that is short.
static bool check_rows(struct engine_model *m, struct engine_instance *in, int64_t length)
{
    static const unsigned most[] = {128, 2};
    struct engine_error why;
    for (unsigned i = 0; i < sizeof(most) / sizeof(most[0]); i++) {
        why.text[0] = '\0';
        if (rows_agree(m, in, length, most[i], &why))
            return true;
        if (!why.text[0])
            break;
    }
    if (why.text[0])
        snprintf(m->single, sizeof(m->single), "random rows cannot be run: %.120s", why.text);
    else
        snprintf(m->single, sizeof(m->single),
                 "random rows give in a batch what they do not give alone");
    return false;
}

static bool check_batching(struct engine_model *m, struct engine_error *e)
{
    bool batches = inputs_free(m);
    if (batches)
        fit_limit(m);
    for (unsigned i = 0; i < m->n_lengths && batches; i++)
        batches = shapes_follow(m, m->lengths[i]);

    if (!batches)
        return true;
    struct engine_instance *in = engine_instance_new(m, e);
    if (!in)
        return false;
    for (unsigned i = 0; i < m->n_lengths && batches; i++)
        batches = check_rows(m, in, m->lengths[i]);
    if (batches)
        m->max_batch = m->limit;
    engine_instance_free(in);
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

struct array model_input(const struct engine_model *m, unsigned k, uint32_t rows, int64_t length)
{
    struct array a = m->graph.values[m->graph.inputs[k]].array;
    for (unsigned d = 0; d < a.rank; d++) {
        if (a.shape[d] < 0)
            a.shape[d] = d == 0 ? rows : length;
    }
    return a;
}

// A plan for one row and the first of the lengths, but that one, that the graph can take. e: why it cannot
// take the first one.
static struct plan *first_plan(const struct graph *g, int64_t but, int64_t *length,
                               struct engine_error *e)
{
    // What free dimensions mostly are: sides of images, tokens, samples; some have to be multiples.
    static const int64_t lengths[] = {64, 32, 96, 128, 224, 256, 512, 16, 8, 3, 1};
    const unsigned n = g->n_free > 0 ? sizeof(lengths) / sizeof(lengths[0]) : 1;
    struct engine_error why;
    for (unsigned i = 0; i < n; i++) {
        struct binding b = binding_of(g, 1, lengths[i]);
        struct plan *p = lengths[i] == but ? NULL : plan_new(g, &b, i == 0 ? e : &why);
        *length = lengths[i];
        if (p)
            return p;
    }
    return NULL;
}

// The graph in the form that runs. *one: its plan for one row.
static bool model_compile(struct engine_model *m, struct plan **one, struct engine_error *e)
{
    struct graph *g = &m->graph;
    struct device *d = g->device;
    bool changed = false;
    if (!graph_fold(g, e) || !(*one = first_plan(g, 0, &m->lengths[0], e)))
        return false;
    m->n_lengths = 1;
    if (d->ops->layout && !d->ops->layout(d, g, (*one)->arrays, &changed, e))
        return false;
    if (!changed)
        return true;
    struct binding b = (*one)->bound;
    plan_free(*one);
    *one = plan_new(g, &b, e);
    return *one != NULL;
}

// Which dimensions of the outputs follow the free ones of the inputs? Asks a second length.
static void try_lengths(struct engine_model *m, const struct plan *one)
{
    struct engine_error why;
    struct plan *other = NULL;
    if (m->graph.n_free > 0)
        other = first_plan(&m->graph, m->lengths[0], &m->lengths[1], &why);
    if (other && mark_free(m, one, other))
        m->n_lengths = 2;
    plan_free(other);
}

static bool load(struct engine_model *m, struct view onnx, struct engine_error *e)
{
    struct graph *g = &m->graph;
    struct plan *one = NULL;
    bool ok = graph_import(g, onnx, e) && model_compile(m, &one, e) && upload_constants(m, e);
    if (ok) {
        m->inputs = ports_of(g, g->inputs, g->n_inputs, NULL);
        m->outputs = ports_of(g, g->outputs, g->n_outputs, one);
        ok = (m->inputs && m->outputs) || engine_fail(e, "out of memory");
    }
    if (ok) {
        try_lengths(m, one);
        ok = check_batching(m, e);
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
