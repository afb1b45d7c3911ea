// A model on one queue of its device: plans for the shapes that come, one arena for all of them.
#include "base/check.h"
#include "base/mem.h"
#include "engine/explain.h"
#include "engine/model.h"
#include "engine/strings.h"

// Bindings for which an instance keeps a plan; the one used longest ago makes room.
#define PLANS 64

struct engine_instance {
    struct engine_model *model;
    struct queue *queue;
    struct plan *plans[PLANS];
    uint64_t used[PLANS], clock;
    char *arena; // shared by the plans: one runs at a time
    size_t arena_bytes;
    char *host; // outputs of a device whose memory the host does not see
    size_t host_bytes;
    struct engine_call *call; // what runs
    struct plan *last;        // whose late outputs may still be held; NULL: none
    struct plan *running;     // its plan, until the next run
    uint64_t (*now_ns)(void); // NULL: nobody watches
    struct engine_task task;
};

static const struct device_ops *ops_of(const struct engine_instance *i)
{
    return i->model->engine->device->ops;
}

// ---- life --------------------------------------------------------------------------------------------

struct engine_instance *engine_instance_new(struct engine_model *m, struct engine_error *e)
{
    struct device *d = m->engine->device;
    struct engine_instance *i = mem_zalloc(sizeof(*i));
    if (i) {
        i->model = m;
        i->queue = d->ops->queue_new(d);
    }
    if (!i || !i->queue) {
        engine_fail(e, "out of memory");
        mem_free(i);
        return NULL;
    }
    return i;
}

void engine_instance_free(struct engine_instance *i)
{
    if (!i)
        return;
    for (unsigned k = 0; k < PLANS; k++)
        plan_free(i->plans[k]);
    ops_of(i)->queue_free(i->queue);
    ops_of(i)->release(i->model->engine->device, i->arena);
    mem_free(i->host);
    mem_free(i);
}

static bool instance_arena(struct engine_instance *i, const struct plan *p, struct engine_error *e)
{
    struct device *d = i->model->engine->device;
    if (p->bytes <= i->arena_bytes)
        return true;
    char *arena = d->ops->alloc(d, p->bytes);
    if (!arena)
        return engine_fail(e, "out of memory: %zu MiB for %u rows", p->bytes >> 20, p->bound.rows);
    d->ops->release(d, i->arena);
    i->arena = arena;
    i->arena_bytes = p->bytes;
    return true;
}

struct plan *instance_plan(struct engine_instance *i, const struct binding *b,
                           struct engine_error *e)
{
    unsigned oldest = 0;
    for (unsigned k = 0; k < PLANS; k++) {
        if (i->plans[k] && binding_same(&i->plans[k]->bound, b)) {
            i->used[k] = ++i->clock;
            return i->plans[k];
        }
        if (i->used[k] < i->used[oldest])
            oldest = k;
    }
    struct plan *p = plan_new(&i->model->graph, b, e);
    if (!p || !instance_arena(i, p, e)) {
        plan_free(p);
        return NULL;
    }
    if (i->last == i->plans[oldest])
        i->last = NULL;
    plan_free(i->plans[oldest]);
    i->plans[oldest] = p;
    i->used[oldest] = ++i->clock;
    return p;
}

const struct plan *instance_running(const struct engine_instance *i)
{
    return i->running;
}

void engine_watch(struct engine_instance *i, uint64_t (*now_ns)(void))
{
    i->now_ns = now_ns;
}

// ---- inputs ------------------------------------------------------------------------------------------

// What stands in the free dimensions of an input's.
struct bound_so_far {
    struct binding *b;
    bool rows;      // known
    unsigned apart; // the next of those dimensions
};

// One dimension against its port. False with e.
static bool check_dim(const struct engine_port *p, unsigned d, int64_t got, struct bound_so_far *s,
                      struct engine_error *e)
{
    int64_t want = p->shape[d];
    if (want < 0 && d == 0 && s->rows && !p->apart)
        want = s->b->rows;
    if (want >= 0 ? got != want : got < 0 || got > INT32_MAX)
        return engine_fail(e, "input \"%.60s\": shape[%u]: expected %lld%s, got %lld", p->name, d,
                           (long long)(want < 0 ? 0 : want),
                           want < 0          ? " or more"
                           : p->shape[d] < 0 ? " as in the others"
                                             : "",
                           (long long)got);
    if (p->shape[d] < 0 && p->apart && d == 0) {
        s->b->dims[s->apart++] = got;
    } else if (p->shape[d] < 0 && d == 0) {
        s->b->rows = (uint32_t)got;
        s->rows = true;
    } else if (p->shape[d] < 0) {
        s->b->dims[s->b->n++] = got;
    }
    return true;
}

// Input k against its port. A single number may come as a list of one.
static bool check_input(const struct engine_port *p, const struct engine_data *x,
                        struct bound_so_far *s, struct engine_error *e)
{
    struct array a = {.dtype = p->dtype, .rank = x->rank};
    size_t count;
    if (x->rank != p->rank && !(p->rank == 0 && x->rank == 1 && x->shape[0] == 1))
        return engine_fail(e, "input \"%.60s\": expected %u dimensions, got %u", p->name, p->rank,
                           x->rank);
    for (unsigned d = 0; d < p->rank; d++) {
        a.shape[d] = x->shape[d];
        if (!check_dim(p, d, x->shape[d], s, e))
            return false;
    }
    a.rank = p->rank;
    bool fills = array_count(&a, &count);
    if (a.dtype == ENGINE_STRING)
        fills = fills && strings_read(x->data, x->bytes, count, NULL);
    else
        fills = fills && count * dtype_bytes(a.dtype) == x->bytes;
    return fills || engine_fail(e, "input \"%.60s\": its bytes do not fill its shape", p->name);
}

// Do the inputs of one part fit the ports? *b: what they bind.
static bool check_inputs(const struct engine_model *m, const struct engine_data *inputs,
                         struct binding *b, struct engine_error *e)
{
    struct bound_so_far s = {.b = b, .apart = m->graph.n_free};
    *b = (struct binding){0};
    for (unsigned k = 0; k < m->graph.n_inputs; k++) {
        if (!check_input(&m->inputs[k], &inputs[k], &s, e))
            return false;
    }
    b->rows = s.rows ? b->rows : 1;
    b->n = s.apart;
    return true;
}

// Several parts: nothing but the number of rows differs, and that is free in every input.
static bool check_parts(const struct engine_model *m, const struct engine_data *inputs,
                        unsigned n_parts, struct binding *b, struct engine_error *e)
{
    struct binding part;
    uint64_t all = 0;
    for (unsigned i = 0; i < n_parts; i++) {
        if (!check_inputs(m, inputs + i * m->graph.n_inputs, &part, e))
            return false;
        all += part.rows;
        if (i == 0)
            *b = part;
        else if (memcmp(part.dims, b->dims, sizeof(part.dims)) != 0)
            return engine_fail(e, "part %u has other lengths than the first one", i);
    }
    for (unsigned k = 0; n_parts > 1 && k < m->graph.n_inputs; k++) {
        if (m->inputs[k].rank == 0 || m->inputs[k].shape[0] >= 0 || m->inputs[k].apart)
            return engine_fail(e, "input \"%.60s\": its rows are not free: expected one part",
                               m->inputs[k].name);
    }
    if (all > m->limit)
        return engine_fail(e, "expected at most %u rows, got %llu", m->limit,
                           (unsigned long long)all);
    b->rows = (uint32_t)all;
    return true;
}

// The strings of input k, part by part.
static void *string_place(const struct engine_instance *i, const struct plan *p, unsigned k)
{
    const struct engine_call *c = i->call;
    struct view *at = plan_place(p, i->arena, p->graph->inputs[k]), *to = at;
    for (unsigned part = 0; part < c->n_parts; part++) {
        const struct engine_data *x = &c->inputs[part * i->model->graph.n_inputs + k];
        struct array a = {.rank = x->rank};
        size_t count = 0;
        memcpy(a.shape, x->shape, sizeof(a.shape));
        if (!array_count(&a, &count) || !strings_read(x->data, x->bytes, count, to))
            break; // check_input has asked the same and was answered
        to += count;
    }
    return at;
}

// Where the device reads input k: as it lies there, or copied to its place in the arena.
static void *input_place(const struct engine_instance *i, const struct plan *p, unsigned k)
{
    const struct engine_call *c = i->call;
    const struct engine_data *first = &c->inputs[k];
    size_t element = dtype_bytes(i->model->inputs[k].dtype);
    if (i->model->inputs[k].dtype == ENGINE_STRING)
        return string_place(i, p, k);
    if (ops_of(i)->shared && c->n_parts == 1 && first->data &&
        (uintptr_t)first->data % element == 0)
        return (void *)first->data;
    char *at = plan_place(p, i->arena, p->graph->inputs[k]), *to = at;
    for (unsigned part = 0; part < c->n_parts; part++) {
        const struct engine_data *x = &c->inputs[part * i->model->graph.n_inputs + k];
        if (x->bytes > 0)
            ops_of(i)->upload(i->queue, to, x->data, x->bytes);
        to += x->bytes;
    }
    return at;
}

static void upload_known(const struct engine_instance *i, const struct plan *p)
{
    for (unsigned k = 0; !ops_of(i)->shared && k < p->n_known; k++) {
        const struct known *n = &p->known[k];
        size_t bytes = array_bytes(&p->arrays[n->value]);
        if (bytes > 0)
            ops_of(i)->upload(i->queue, plan_place(p, i->arena, n->value), n->host, bytes);
    }
}

// ---- outputs -----------------------------------------------------------------------------------------

static size_t output_bytes(const struct plan *p, unsigned k)
{
    return (array_bytes(&p->arrays[p->graph->outputs[k]]) + 63) / 64 * 64;
}

static bool host_room(struct engine_instance *i, size_t all, struct engine_error *e)
{
    if (all <= i->host_bytes)
        return true;
    mem_free(i->host);
    i->host = mem_alloc_aligned(all, 64);
    i->host_bytes = i->host ? all : 0;
    return i->host || engine_fail(e, "out of memory: %zu MiB of outputs", all >> 20);
}

static bool host_memory(struct engine_instance *i, const struct plan *p, struct engine_error *e)
{
    size_t all = 0;
    for (unsigned k = 0; k < p->graph->n_outputs; k++)
        all += output_bytes(p, k);
    return ops_of(i)->shared || host_room(i, all, e);
}

// Says where the outputs will be once the queue has done what is in it.
static void fetch_outputs(struct engine_instance *i, struct plan *p)
{
    char *to = i->host;
    for (unsigned k = 0; k < p->graph->n_outputs; k++) {
        const struct array *a = &p->arrays[p->graph->outputs[k]];
        struct engine_data *out = &i->call->outputs[k];
        *out = (struct engine_data){.data = a->data, .bytes = array_bytes(a), .rank = a->rank};
        memcpy(out->shape, a->shape, sizeof(a->shape));
        if (ops_of(i)->shared)
            continue;
        out->data = to;
        if (out->bytes > 0)
            ops_of(i)->download(i->queue, to, a->data, out->bytes);
        to += output_bytes(p, k);
    }
}

// The strings that output k has become; NULL: it is of numbers.
static const struct view *output_strings(const struct engine_instance *i, unsigned k, size_t *count)
{
    const struct array *a = &i->running->arrays[i->model->graph.outputs[k]];
    return a->dtype == ENGINE_STRING && array_count(a, count) ? a->data : NULL;
}

// Their bytes in outputs, *all together. One string may stand in many elements, so the plan's size does not bound them:
// the engine's limit does.
static bool size_strings(const struct engine_instance *i, struct engine_data *outputs, size_t *all,
                         struct engine_error *e)
{
    const struct graph *g = &i->model->graph;
    size_t count, most = g->limits.bytes;
    *all = 0;
    for (unsigned k = 0; k < g->n_outputs; k++) {
        const struct view *s = output_strings(i, k, &count);
        if (!s)
            continue;
        struct view name =
            g->declared[k].name; // the ports are not there yet while the model is tried
        if (!strings_bytes(s, count, most, &outputs[k].bytes))
            return engine_fail(e, "output \"%.*s\": its strings take more than %zu MiB",
                               (int)(name.n < 60 ? name.n : 60), name.p, g->limits.bytes >> 20);
        most -= outputs[k].bytes;
        *all += (outputs[k].bytes + 63) / 64 * 64;
    }
    return true;
}

// Outputs that are strings, once they are made: from the plan's form to that of ports.
static bool write_strings(struct engine_instance *i, struct engine_data *outputs,
                          struct engine_error *e)
{
    size_t all, count;
    if (!size_strings(i, outputs, &all, e) || !host_room(i, all, e))
        return false;
    char *to = i->host;
    for (unsigned k = 0; k < i->model->graph.n_outputs; k++) {
        const struct view *s = output_strings(i, k, &count);
        if (!s)
            continue;
        strings_write(s, count, to);
        outputs[k].data = to;
        to += (outputs[k].bytes + 63) / 64 * 64;
    }
    return true;
}

// ---- runs --------------------------------------------------------------------------------------------

// Late outputs are of the ports' datatypes. Their shapes are what they are: files are often wrong about them.
static bool check_late(const struct engine_instance *i, const struct plan *p,
                       struct engine_error *e)
{
    const struct engine_model *m = i->model;
    for (unsigned k = 0; k < m->graph.n_outputs && m->outputs; k++) {
        if (p->arrays[m->graph.outputs[k]].dtype != m->outputs[k].dtype)
            return engine_fail(e, "output \"%.60s\": made another datatype than the model says",
                               m->outputs[k].name);
    }
    return true;
}

static bool run_late(struct engine_instance *i, struct plan *p)
{
    struct engine_error *e = &i->call->error;
    const char *error = ops_of(i)->sync(i->queue);
    if (error)
        return engine_fail(e, "%s", error);
    i->last = p;
    return plan_run_late(p, i->queue, e) && check_late(i, p, e);
}

// Puts the call into the queue. False with its error.
static bool run_begin(struct engine_instance *i)
{
    struct engine_call *c = i->call;
    void *at[MODEL_MAX_PORTS];
    struct binding b = {0};
    if (!check_parts(i->model, c->inputs, c->n_parts, &b, &c->error))
        return false;
    struct plan *p = instance_plan(i, &b, &c->error);
    if (!p || !host_memory(i, p, &c->error))
        return false;
    if (i->last)
        plan_drop(i->last);
    i->last = NULL;
    for (unsigned k = 0; k < i->model->graph.n_inputs; k++)
        at[k] = input_place(i, p, k);
    upload_known(i, p);
    i->running = p;
    p->now_ns = i->now_ns;
    plan_bind(p, i->arena, at);
    ops_of(i)->enqueue(i->queue, p);
    if (p->n_late > 0 && !run_late(i, p))
        return false;
    fetch_outputs(i, p);
    return true;
}

static void run_end(void *instance, const char *error)
{
    struct engine_instance *i = instance;
    struct engine_call *c = i->call;
    c->ok = error ? engine_fail(&c->error, "%s", error) : write_strings(i, c->outputs, &c->error);
    i->call = NULL;
    c->done(c);
}

static void run_task(struct engine_task *t)
{
    struct engine_instance *i = container_of(t, struct engine_instance, task);
    struct engine_call *c = i->call;
    if (run_begin(i)) {
        ops_of(i)->event(i->queue, run_end, i);
        return;
    }
    c->ok = false;
    i->call = NULL;
    c->done(c);
}

void engine_submit(struct engine_instance *i, struct engine_call *c)
{
    struct engine_host *host = i->model->engine->host;
    invariant(!i->call && host);
    i->call = c;
    i->task.run = run_task;
    host->post(host, &i->task);
}

bool engine_run(struct engine_instance *i, const struct engine_data *inputs,
                struct engine_data *outputs, struct engine_error *e)
{
    struct engine_call c = {.inputs = inputs, .n_parts = 1, .outputs = outputs};
    invariant(!i->call);
    i->call = &c;
    bool begun = run_begin(i);
    i->call = NULL;
    const char *error = begun ? ops_of(i)->sync(i->queue) : NULL;
    if (!begun)
        *e = c.error;
    if (!begun || error)
        return begun && engine_fail(e, "%s", error);
    return write_strings(i, outputs, e);
}

bool instance_zeros(struct engine_instance *i, int64_t length, struct engine_error *e)
{
    struct engine_model *m = i->model;
    struct engine_data in[MODEL_MAX_PORTS], out[MODEL_MAX_PORTS];
    void *memory[MODEL_MAX_PORTS] = {0};
    bool ok = true;
    for (unsigned k = 0; k < m->graph.n_inputs && ok; k++) {
        struct array a = model_input(m, k, 1, length);
        size_t bytes = strings_least(&a);
        ok = (memory[k] = mem_zalloc(bytes + 1)) != NULL || engine_fail(e, "out of memory");
        in[k] = (struct engine_data){memory[k], bytes, a.rank, {0}};
        memcpy(in[k].shape, a.shape, sizeof(a.shape));
    }
    ok = ok && engine_run(i, in, out, e);
    for (unsigned k = 0; k < m->graph.n_inputs; k++)
        mem_free(memory[k]);
    return ok;
}

bool engine_instance_warm(struct engine_instance *i, struct engine_error *e)
{
    struct engine_model *m = i->model;
    struct engine_error why;
    struct binding most = binding_of(&m->graph, m->max_batch ? m->max_batch : 1, m->lengths[0]);
    if (!instance_plan(i, &most, e))
        return false;
    // Zeros may be data that the model cannot take; then a request finds less made, and that is all.
    return instance_zeros(i, m->lengths[0], m->late[0] ? &why : e) || m->late[0];
}
