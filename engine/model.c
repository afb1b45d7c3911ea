#include "engine/engine.h"

#include "base/mem.h"
#include "base/rand.h"
#include "engine/cpu/cpu.h"
#include "engine/plan.h"
#include <math.h>
#include <stdio.h>

#define PLANS                                                                                      \
    64 // row counts for which an instance keeps a plan; the one used longest ago makes room
#define SEED 0x51a1ce

struct engine_model {
    struct graph graph;
    struct engine_port *inputs, *outputs;
    uint32_t max_batch; // 0: served singly
    uint32_t limit;     // the largest number of rows
    char single[160];
};

struct engine_instance {
    struct engine_model *model;
    struct plan *plans[PLANS];
    uint64_t used[PLANS], clock;
    char *arena; // shared by the plans: one runs at a time
    size_t arena_bytes;
};

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
    struct engine_data batch[64], alone[64], out[64], single[64];
    void *memory[64] = {0}, *kept[64] = {0};
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
    for (unsigned k = 0; k < 64; k++) {
        mem_free(memory[k]);
        mem_free(kept[k]);
    }
    return ok;
}

// As many rows as engine_set_limits allows.
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

static bool load(struct engine_model *m, struct view onnx, struct engine_error *e)
{
    struct graph *g = &m->graph;
    if (!graph_import(g, onnx, plan_max_bytes, e) || !graph_fold(g, e))
        return false;
    struct plan *one = plan_new(g, 1, e);
    if (one && !graph_last(g, &one, e)) {
        plan_free(one);
        return false;
    }
    if (!one)
        return false;
    m->inputs = ports_of(g, g->inputs, g->n_inputs, NULL);
    m->outputs = ports_of(g, g->outputs, g->n_outputs, one);
    bool ok = m->inputs && m->outputs ? check_batching(m, one, e) : engine_fail(e, "out of memory");
    plan_free(one);
    return ok;
}

struct engine_model *engine_model_load(struct view onnx, uint32_t max_batch, struct engine_error *e)
{
    struct engine_model *m = mem_zalloc(sizeof(*m));
    e->text[0] = '\0';
    if (!m) {
        engine_fail(e, "out of memory");
        return NULL;
    }
    m->limit = max_batch ? max_batch : 1;
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

void engine_set_limits(size_t bytes, double work)
{
    plan_max_bytes = bytes;
    plan_max_work = work;
}

void engine_set_threads(unsigned n)
{
    onednn_set_threads(n);
}

// ---- instances ---------------------------------------------------------------------------------------

struct engine_instance *engine_instance_new(struct engine_model *m, struct engine_error *e)
{
    struct engine_instance *i = mem_zalloc(sizeof(*i));
    if (!i)
        engine_fail(e, "out of memory");
    else
        i->model = m;
    return i;
}

void engine_instance_free(struct engine_instance *i)
{
    if (!i)
        return;
    for (unsigned k = 0; k < PLANS; k++)
        plan_free(i->plans[k]);
    mem_free(i->arena);
    mem_free(i);
}

static struct plan *plan_for(struct engine_instance *i, uint32_t rows, struct engine_error *e)
{
    unsigned oldest = 0;
    for (unsigned k = 0; k < PLANS; k++) {
        if (i->plans[k] && i->plans[k]->rows == rows) {
            i->used[k] = ++i->clock;
            return i->plans[k];
        }
        if (i->used[k] < i->used[oldest])
            oldest = k;
    }
    struct plan *p = plan_new(&i->model->graph, rows, e);
    if (!p)
        return NULL;
    if (p->bytes > i->arena_bytes) {
        char *arena = mem_alloc_aligned(p->bytes, 64);
        if (!arena) {
            engine_fail(e, "out of memory: %zu MiB for %u rows", p->bytes >> 20, rows);
            plan_free(p);
            return NULL;
        }
        mem_free(i->arena);
        i->arena = arena;
        i->arena_bytes = p->bytes;
    }
    plan_free(i->plans[oldest]);
    i->plans[oldest] = p;
    i->used[oldest] = ++i->clock;
    return p;
}

// Do the inputs fit the ports? *rows: what stands in their free first dimension (1 when none is free).
static bool check_inputs(const struct engine_model *m, const struct engine_data *inputs,
                         uint32_t *rows, struct engine_error *e)
{
    int64_t free_rows = -1;
    for (unsigned k = 0; k < m->graph.n_inputs; k++) {
        const struct engine_port *p = &m->inputs[k];
        struct array a = {.dtype = p->dtype, .rank = inputs[k].rank};
        size_t count;
        if (inputs[k].rank != p->rank)
            return engine_fail(e, "input \"%.60s\": expected %u dimensions, got %u", p->name,
                               p->rank, inputs[k].rank);
        for (unsigned d = 0; d < p->rank; d++) {
            int64_t got = a.shape[d] = inputs[k].shape[d];
            if (p->shape[d] >= 0 ? got != p->shape[d] : got < 1)
                return engine_fail(e, "input \"%.60s\": shape[%u]: expected %lld, got %lld",
                                   p->name, d, (long long)(p->shape[d] < 0 ? 1 : p->shape[d]),
                                   (long long)got);
        }
        if (!array_count(&a, &count) || count * dtype_bytes(a.dtype) != inputs[k].bytes)
            return engine_fail(e, "input \"%.60s\": its octets do not fill its shape", p->name);
        if (p->rank > 0 && p->shape[0] < 0) {
            if (free_rows >= 0 && free_rows != inputs[k].shape[0])
                return engine_fail(
                    e, "input \"%.60s\": shape[0]: expected %lld as in the others, got %lld",
                    p->name, (long long)free_rows, (long long)inputs[k].shape[0]);
            free_rows = inputs[k].shape[0];
        }
    }
    if (free_rows > m->limit)
        return engine_fail(e, "expected at most %u rows, got %lld", m->limit, (long long)free_rows);
    *rows = free_rows > 0 ? (uint32_t)free_rows : 1;
    return true;
}

bool engine_run(struct engine_instance *i, const struct engine_data *inputs,
                struct engine_data *outputs, struct engine_error *e)
{
    struct engine_model *m = i->model;
    const void *data[64];
    uint32_t rows = 1;
    if (!check_inputs(m, inputs, &rows, e))
        return false;
    struct plan *p = plan_for(i, rows, e);
    if (!p)
        return false;
    for (unsigned k = 0; k < m->graph.n_inputs; k++)
        data[k] = inputs[k].data;
    plan_run(p, &m->graph, i->arena, data);
    for (unsigned k = 0; k < m->graph.n_outputs; k++) {
        const struct array *a = &p->arrays[m->graph.outputs[k]];
        size_t count;
        outputs[k] = (struct engine_data){.data = a->data, .rank = a->rank};
        memcpy(outputs[k].shape, a->shape, sizeof(a->shape));
        outputs[k].bytes = array_count(a, &count) ? count * dtype_bytes(a->dtype) : 0;
    }
    return true;
}

bool engine_instance_warm(struct engine_instance *i, struct engine_error *e)
{
    struct engine_model *m = i->model;
    struct engine_data in[64], out[64];
    void *memory[64] = {0};
    bool ok = plan_for(i, m->max_batch ? m->max_batch : 1, e) != NULL;
    for (unsigned k = 0; k < m->graph.n_inputs && ok; k++) {
        struct array a = m->graph.values[m->graph.inputs[k]].array;
        size_t count = 0;
        if (a.rank > 0 && a.shape[0] < 0)
            a.shape[0] = 1;
        size_t bytes = array_count(&a, &count) ? count * dtype_bytes(a.dtype) : 0;
        ok = (memory[k] = mem_zalloc(bytes)) != NULL || engine_fail(e, "out of memory");
        in[k] = (struct engine_data){memory[k], bytes, a.rank, {0}};
        memcpy(in[k].shape, a.shape, sizeof(a.shape));
    }
    ok = ok && engine_run(i, in, out, e);
    for (unsigned k = 0; k < m->graph.n_inputs; k++)
        mem_free(memory[k]);
    return ok;
}
