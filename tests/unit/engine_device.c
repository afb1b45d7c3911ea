// What the engine asks of a device, by one that has memory of its own, which the host must not touch, and a
// queue that only works when it is waited for, on a thread of its own. It computes with the CPU's kernels.
#include "base/mem.h"
#include "engine/device.h"
#include "engine/ops.h"
#include "engine/plan.h"
#include "tests/unit/engine_kit.h"

#include <pthread.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>

#include <cmocka.h>

enum { MAX_ORDERS = 512, COLS = 24 };

struct far_order { // of a queue
    enum { COPY, PLAN, EVENT } kind;
    void *to;
    const void *from;
    size_t bytes;
    struct plan *plan;
    void (*fn)(void *ctx, const char *error);
    void *ctx;
};

struct queue {
    struct far_device *device;
    struct far_order orders[MAX_ORDERS];
    unsigned n;
};

struct far_device {
    struct device base;
    char *memory; // readable and writable only while the queue works
    size_t bytes, used;
    unsigned blocks, copies_in, copies_out, plans, closed;
    const char *error;   // what the next work ends with
    const char *missing; // the op that it has no kernel for
    unsigned open, scratches, steps;
};

static struct far_device *device_of(struct device *d)
{
    return (struct far_device *)d;
}

static void allow(const struct far_device *d, int what)
{
    assert_int_equal(mprotect(d->memory, d->bytes, what), 0);
}

static bool is_far(const struct far_device *d, const void *p)
{
    return (const char *)p >= d->memory && (const char *)p < d->memory + d->bytes;
}

static void *far_alloc(struct device *base, size_t bytes)
{
    struct far_device *d = device_of(base);
    size_t at = d->used;
    d->used += (bytes + 63) / 64 * 64;
    d->blocks++;
    return d->used <= d->bytes ? d->memory + at : NULL;
}

static void far_release(struct device *base, void *p)
{
    device_of(base)->blocks -= p != NULL;
}

static struct queue *far_queue_new(struct device *base)
{
    struct queue *q = mem_zalloc(sizeof(*q));
    if (q)
        q->device = device_of(base);
    return q;
}

static void far_queue_free(struct queue *q)
{
    assert_int_equal(q->n, 0);
    mem_free(q);
}

static void add(struct queue *q, struct far_order o)
{
    assert_true(q->n < MAX_ORDERS);
    q->orders[q->n++] = o;
}

static void far_upload(struct queue *q, void *to, const void *from, size_t bytes)
{
    assert_true(is_far(q->device, to) && !is_far(q->device, from));
    q->device->copies_in++;
    add(q, (struct far_order){.kind = COPY, .to = to, .from = from, .bytes = bytes});
}

static void far_download(struct queue *q, void *to, const void *from, size_t bytes)
{
    assert_true(!is_far(q->device, to) && is_far(q->device, from));
    q->device->copies_out++;
    add(q, (struct far_order){.kind = COPY, .to = to, .from = from, .bytes = bytes});
}

static void far_enqueue(struct queue *q, struct plan *p)
{
    q->device->plans++;
    add(q, (struct far_order){.kind = PLAN, .plan = p});
}

static struct far_device *the_device;

static void run_plan(const struct far_device *d, const struct plan *p)
{
    for (unsigned s = 0; s < p->n_steps; s++) {
        const struct job *j = &p->steps[s].job;
        if (!step_runs(&p->steps[s]))
            continue;
        for (unsigned k = 0; k < j->node->n_inputs; k++)
            assert_true(!j->in[k] || is_far(d, j->in[k]->data));
        assert_true(is_far(d, j->out->data) && is_far(d, j->scratch));
        cpu_run(j);
        the_device->steps++;
    }
}

// Everything that is in the queue, in order.
static void *far_work(void *queue)
{
    struct queue *q = queue;
    struct far_device *d = q->device;
    const char *error = d->error;
    for (unsigned i = 0; i < q->n; i++) {
        struct far_order o = q->orders[i];
        if (o.kind == EVENT) {
            q->n = 0; // the last one: another run may be put in from its callback
            o.fn(o.ctx, error);
            return NULL;
        }
        allow(d, PROT_READ | PROT_WRITE);
        if (o.kind == COPY)
            memcpy(o.to, o.from, o.bytes);
        else
            run_plan(d, o.plan);
        allow(d, PROT_NONE);
    }
    q->n = 0;
    return NULL;
}

static pthread_t worker;
static bool working;

static void far_event(struct queue *q, void (*fn)(void *ctx, const char *error), void *ctx)
{
    add(q, (struct far_order){.kind = EVENT, .fn = fn, .ctx = ctx});
    working = pthread_create(&worker, NULL, far_work, q) == 0;
}

static const char *far_sync(struct queue *q)
{
    far_work(q);
    return q->device->error;
}

static void far_free(struct device *base)
{
    struct far_device *d = device_of(base);
    assert_int_equal(d->blocks, 0);
    assert_int_equal(d->open, 0);
    munmap(d->memory, d->bytes);
    mem_free(d);
}

// ---- kernels: what a plan opens for a step is closed with it -----------------------------------------

static size_t far_scratch(const struct job *j)
{
    the_device->scratches++;
    return cpu_scratch(j);
}

static void *far_open(const struct job *j)
{
    for (unsigned k = 0; k < j->node->n_inputs; k++) // shapes are known, constants still the host's
        assert_true(!j->in[k] || !is_far(the_device, j->in[k]->data));
    the_device->open++;
    return the_device;
}

static void far_close(void *state)
{
    ((struct far_device *)state)->open--;
}

static const struct kernel far_any = {.scratch = far_scratch, .open = far_open, .close = far_close};

static const struct kernel *far_kernel(const struct device *base, const struct op *op)
{
    const struct far_device *d = (const struct far_device *)base;
    return d->missing && strcmp(op->name, d->missing) == 0 ? NULL : &far_any;
}

static const struct device_ops far_ops = {
    .name = "far",
    .kernel = far_kernel,
    .free = far_free,
    .alloc = far_alloc,
    .release = far_release,
    .queue_new = far_queue_new,
    .queue_free = far_queue_free,
    .upload = far_upload,
    .download = far_download,
    .enqueue = far_enqueue,
    .event = far_event,
    .sync = far_sync,
};

static struct device *far_new(void)
{
    struct far_device *d = mem_must_zero(sizeof(*d));
    d->base.ops = &far_ops;
    d->bytes = 8 << 20;
    d->memory = mmap(NULL, d->bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(d->memory != MAP_FAILED);
    the_device = d;
    return &d->base;
}

// ---- a host ------------------------------------------------------------------------------------------

static struct engine_task *posted;

static void keep(struct engine_host *h, struct engine_task *t)
{
    (void)h;
    assert_null(posted);
    posted = t;
}

static struct engine_host host = {.post = keep};

static void run_posted(void)
{
    struct engine_task *t = posted;
    posted = NULL;
    t->run(t);
    if (working)
        pthread_join(worker, NULL);
    working = false;
}

// ---- tests -------------------------------------------------------------------------------------------

static struct engine_error e;

// x [-1, COLS] -> Gemm -> Relu -> Reshape [-1, 4, 6] -> MatMul with itself turned -> y; and the Relu as z.
static struct msg some_graph(void)
{
    int64_t row[2] = {-1, COLS}, w[2] = {COLS, COLS}, b[1] = {COLS}, shape[1] = {3};
    int64_t to[3] = {-1, 4, 6}, perm[3] = {0, 2, 1};
    float x[COLS * COLS];
    for (unsigned i = 0; i < COLS * COLS; i++)
        x[i] = (float)(i * 7 % 13) / 8 - 0.75f;
    struct msg g = {0}, n;
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", ONNX_F32, row, 2));
    msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("w", ONNX_F32, w, 2, x, sizeof(x)));
    msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("b", ONNX_F32, b, 1, x, COLS * 4));
    msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("shape", ONNX_I64, shape, 1, to, sizeof(to)));
    msg_msg(&g, GRAPH_NODES, onnx_node("Gemm", "x,w,b", "h"));
    msg_msg(&g, GRAPH_NODES, onnx_node("Relu", "h", "z"));
    msg_msg(&g, GRAPH_NODES, onnx_node("Reshape", "z,shape", "r"));
    n = onnx_node("Transpose", "r", "t");
    onnx_ints(&n, "perm", 3, perm);
    msg_msg(&g, GRAPH_NODES, n);
    msg_msg(&g, GRAPH_NODES, onnx_node("MatMul", "r,t", "y"));
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", ONNX_F32, NULL, 0));
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("z", ONNX_F32, NULL, 0));
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("x", ONNX_F32, NULL, 0));
    return onnx_model(g, 13);
}

static struct engine_model *load_on(struct engine *engine)
{
    struct msg file = some_graph();
    struct engine_model *m = engine_model_load(engine, view_of(file.p, file.n), 8, &e);
    free(file.p);
    if (!m)
        fail_msg("%s", e.text);
    return m;
}

static void rows_of(float *x, unsigned rows)
{
    for (unsigned i = 0; i < rows * COLS; i++)
        x[i] = (float)(i * 5 % 17) / 4 - 2;
}

static void expect_same(const struct engine_data *a, const struct engine_data *b)
{
    assert_int_equal(a->rank, b->rank);
    assert_memory_equal(a->shape, b->shape, a->rank * sizeof(a->shape[0]));
    assert_int_equal(a->bytes, b->bytes);
    for (size_t i = 0; i < a->bytes / 4; i++) {
        float d = ((const float *)a->data)[i] - ((const float *)b->data)[i];
        assert_true(d < 1e-4f && d > -1e-4f);
    }
}

static void memory_of_its_own(void **state)
{
    (void)state;
    struct engine *engine = engine_new(far_new(), NULL, (struct engine_limits){0}, &e);
    struct engine_model *far = load_on(engine), *near = load_on(engine_any(false));
    struct engine_instance *a = engine_instance_new(far, &e), *b = engine_instance_new(near, &e);
    assert_int_equal(engine_model_max_batch(far), 8);
    assert_true(engine_instance_warm(a, &e));
    for (unsigned rows = 1; rows <= 8; rows++) {
        float x[8 * COLS];
        struct engine_data in = {x, rows * COLS * 4, 2, {rows, COLS}}, mine[3], theirs[3];
        rows_of(x, rows);
        assert_true(engine_run(a, &in, mine, &e));
        assert_true(engine_run(b, &in, theirs, &e));
        for (unsigned k = 0; k < 3; k++)
            expect_same(&mine[k], &theirs[k]);
    }
    engine_instance_free(a);
    engine_instance_free(b);
    engine_model_free(far);
    engine_model_free(near);
    engine_free(engine);
}

// x [-1, -1] + Range(0, its length, 1); and a Relu of which only the shape is asked.
static void what_follows_from_shapes(void **state)
{
    (void)state;
    struct engine *engine = engine_new(far_new(), NULL, (struct engine_limits){0}, &e);
    struct msg g = {0}, n;
    int64_t zero = 0, one = 1;
    float x[2][9];
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", ONNX_F32, (int64_t[]){-1, -1}, 2));
    msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("zero", ONNX_I64, NULL, 0, &zero, 8));
    msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("one", ONNX_I64, NULL, 0, &one, 8));
    msg_msg(&g, GRAPH_NODES, onnx_node("Relu", "x", "r"));
    msg_msg(&g, GRAPH_NODES, onnx_node("Shape", "r", "shape"));
    msg_msg(&g, GRAPH_NODES, onnx_node("Gather", "shape,one", "length"));
    msg_msg(&g, GRAPH_NODES, onnx_node("Range", "zero,length,one", "range"));
    n = onnx_node("Cast", "range", "floats");
    onnx_int(&n, "to", 1);
    msg_msg(&g, GRAPH_NODES, n);
    msg_msg(&g, GRAPH_NODES, onnx_node("Add", "x,floats", "y"));
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", ONNX_F32, NULL, 0));
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("length", ONNX_I64, NULL, 0));
    struct msg file = onnx_model(g, 13);
    struct engine_model *m = engine_model_load(engine, view_of(file.p, file.n), 8, &e);
    free(file.p);
    if (!m)
        fail_msg("%s", e.text);
    struct engine_instance *i = engine_instance_new(m, &e);
    for (int64_t length = 1; length <= 9; length++) {
        struct engine_data in = {x, (size_t)length * 8, 2, {2, length}}, out[2];
        memset(x, 0, sizeof(x));
        the_device->steps = 0;
        assert_true(engine_run(i, &in, out, &e));
        assert_int_equal(the_device->steps, 1);
        assert_int_equal(*(const int64_t *)out[1].data, length);
        for (int64_t k = 0; k < 2 * length; k++)
            assert_true(((const float *)out[0].data)[k] == (float)(k % length));
    }
    engine_instance_free(i);
    engine_model_free(m);
    engine_free(engine);
}

static void what_it_reports(void **state)
{
    (void)state;
    struct engine *engine = engine_new(far_new(), NULL, (struct engine_limits){0}, &e);
    struct engine_model *m = load_on(engine);
    struct engine_instance *i = engine_instance_new(m, &e);
    float x[COLS] = {0};
    struct engine_data in = {x, sizeof(x), 2, {1, COLS}}, out[3];
    the_device->error = "far: an illegal instruction";
    assert_false(engine_run(i, &in, out, &e));
    assert_string_equal(e.text, "far: an illegal instruction");
    the_device->error = NULL;
    assert_true(engine_run(i, &in, out, &e));
    engine_instance_free(i);
    engine_model_free(m);
    engine_free(engine);
}

static void ops_that_it_lacks(void **state)
{
    (void)state;
    struct engine *engine = engine_new(far_new(), NULL, (struct engine_limits){0}, &e);
    struct msg file = some_graph();
    the_device->missing = "MatMul";
    assert_null(engine_model_load(engine, view_of(file.p, file.n), 8, &e));
    assert_string_equal(e.text, "MatMul (node \"the-node\"): the device far does not have this op");
    free(file.p);
    engine_free(engine);
}

// The CPU has a kernel for every row of the table.
static void the_cpu_lacks_none(void **state)
{
    (void)state;
    struct device *d = cpu_device_new((struct cpu_options){0});
    for (unsigned i = 0; i < op_count; i++) {
        if (!op_table[i].alias && !op_table[i].control && !d->ops->kernel(d, &op_table[i]))
            fail_msg("%s", op_table[i].name);
    }
    d->ops->free(d);
}

// Memory of the device that runs out is refused, at whatever point.
static void its_memory_runs_out(void **state)
{
    (void)state;
    struct msg file = some_graph();
    unsigned refused = 0;
    for (size_t room = 0; room < 40000; room += 640) {
        struct engine *engine = engine_new(far_new(), NULL, (struct engine_limits){0}, &e);
        the_device->used = the_device->bytes - room;
        e.text[0] = '\0';
        struct engine_model *m = engine_model_load(engine, view_of(file.p, file.n), 8, &e);
        struct engine_instance *i = m ? engine_instance_new(m, &e) : NULL;
        bool ok = i && engine_instance_warm(i, &e);
        assert_true(ok || strstr(e.text, "memory"));
        refused += !ok;
        the_device->blocks = 0; // those that were not to be had were counted too
        engine_instance_free(i);
        engine_model_free(m);
        the_device->blocks = 0;
        engine_free(engine);
    }
    assert_true(refused > 3);
    free(file.p);
}

// ---- submitted runs ----------------------------------------------------------------------------------

struct guest {
    struct engine_call call;
    struct engine_data out[3];
    unsigned done;
    float first; // of the first output, read in time
    pthread_t on;
};

static void on_done(struct engine_call *c)
{
    struct guest *g = (struct guest *)c;
    g->done++;
    g->on = pthread_self();
    if (c->ok)
        g->first = *(const float *)g->out[0].data;
}

static struct guest guest_of(const struct engine_data *parts, unsigned n)
{
    return (struct guest){.call = {.inputs = parts, .n_parts = n, .done = on_done}};
}

static void submit(struct engine_instance *i, struct guest *g)
{
    g->call.outputs = g->out;
    engine_submit(i, &g->call);
    assert_int_equal(g->done, 0); // never inside the call
    run_posted();
    assert_int_equal(g->done, 1);
}

static void submit_on(struct device *d, bool other_thread)
{
    struct engine *engine = engine_new(d, &host, (struct engine_limits){0}, &e);
    struct engine_model *m = load_on(engine);
    struct engine_instance *i = engine_instance_new(m, &e);
    float x[8 * COLS + 1], *odd = (float *)(void *)((char *)x + 2);
    struct engine_data whole = {x, 8 * COLS * 4, 2, {8, COLS}}, want[3];
    struct engine_data parts[3] = {{x, 3 * COLS * 4, 2, {3, COLS}},
                                   {x + 3 * COLS, 4 * COLS * 4, 2, {4, COLS}},
                                   {x + 7 * COLS, COLS * 4, 2, {1, COLS}}};
    float kept[3][8 * COLS];
    rows_of(x, 8);
    assert_true(engine_run(i, &whole, want, &e));
    for (unsigned k = 0; k < 3; k++)
        memcpy(kept[k], want[k].data, want[k].bytes);
    struct guest g = guest_of(parts, 3);
    submit(i, &g);
    assert_true(g.call.ok);
    assert_int_equal(pthread_equal(g.on, pthread_self()) == 0, other_thread);
    for (unsigned k = 0; k < 3; k++) {
        assert_int_equal(g.out[k].bytes, want[k].bytes);
        assert_memory_equal(g.out[k].data, kept[k], want[k].bytes);
    }
    memmove(odd, x, (size_t)COLS * 4); // at an address that no float may have
    struct engine_data one = {odd, COLS * 4, 2, {1, COLS}};
    g = guest_of(&one, 1);
    submit(i, &g);
    assert_true(g.call.ok && g.first == kept[0][0]);
    parts[1].shape[1] = COLS - 1;
    g = guest_of(parts, 3);
    submit(i, &g);
    assert_false(g.call.ok);
    assert_string_equal(g.call.error.text, "input \"x\": shape[1]: expected 24, got 23");
    parts[1].shape[1] = COLS;
    struct engine_data twice[4] = {parts[0], parts[0], parts[0], parts[0]};
    g = guest_of(twice, 4);
    submit(i, &g);
    assert_string_equal(g.call.error.text, "expected at most 8 rows, got 12");
    engine_instance_free(i);
    engine_model_free(m);
    engine_free(engine);
}

static void submitted_to_the_cpu(void **state)
{
    (void)state;
    submit_on(cpu_device_new((struct cpu_options){0}), false);
}

static void submitted_far_away(void **state)
{
    (void)state;
    submit_on(far_new(), true);
}

static void submitted_and_failed(void **state)
{
    (void)state;
    struct engine *engine = engine_new(far_new(), &host, (struct engine_limits){0}, &e);
    struct engine_model *m = load_on(engine);
    struct engine_instance *i = engine_instance_new(m, &e);
    float x[COLS] = {0};
    struct engine_data in = {x, sizeof(x), 2, {1, COLS}};
    struct guest g = guest_of(&in, 1);
    the_device->error = "far: gone";
    submit(i, &g);
    assert_false(g.call.ok);
    assert_string_equal(g.call.error.text, "far: gone");
    engine_instance_free(i);
    engine_model_free(m);
    engine_free(engine);
}

static void engines_without_memory(void **state)
{
    (void)state;
    assert_null(engine_new(NULL, NULL, (struct engine_limits){0}, &e));
    assert_string_equal(e.text, "out of memory");
    struct device *d = cpu_device_new((struct cpu_options){0});
    mem_fail_at(1);
    assert_null(engine_new(d, NULL, (struct engine_limits){0}, &e)); // and d is freed
    mem_fail_at(1);
    assert_null(cpu_device_new((struct cpu_options){0}));
    mem_fail_at(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_of_its_own),    cmocka_unit_test(what_follows_from_shapes),
        cmocka_unit_test(what_it_reports),      cmocka_unit_test(ops_that_it_lacks),
        cmocka_unit_test(the_cpu_lacks_none),   cmocka_unit_test(its_memory_runs_out),
        cmocka_unit_test(submitted_to_the_cpu), cmocka_unit_test(submitted_far_away),
        cmocka_unit_test(submitted_and_failed), cmocka_unit_test(engines_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
