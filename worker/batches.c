#include "worker/batches.h"

#include "base/check.h"
#include "base/mem.h"
#include "infer/oip_grpc.h"
#include <time.h>

#define DEADLINE_US 600000000 // of a request that names none: nobody waits for ever

#define LOOK_US 5000 // as long as somebody waits: deadlines, and memory that may be there again

struct work { // a batch that is computed
    struct engine_call call;
    struct loop_task home;
    struct batches *batches;
    struct served *model;
    struct served_instance *instance;
    struct ticket **tickets; // of the requests aboard
    uint32_t n, rows;
    enum batch_reason reason; // why it went
    struct block *block;      // outputs, as large as the model's ports say
    char *spill; // or, when they turn out larger, memory of the computing thread's making
    struct tensor *outputs;
    bool ok;
    uint64_t started_us, compute_us;
    struct arena arena;
};

static uint64_t now(const struct batches *b)
{
    return loop_now_us(b->loop);
}

static struct worker_request *request_of(struct ticket *t)
{
    return container_of(t, struct worker_request, ticket);
}

// ---- on the thread that computes ---------------------------------------------------------------------

static uint64_t monotonic_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

// The shape of output k as clients see it.
static void show_shape(const struct served *m, unsigned k, const struct engine_data *out,
                       struct tensor *t)
{
    const struct served_shape *s = &m->out_shapes[k];
    int64_t shape[ENGINE_MAX_RANK];
    t->rank = (uint8_t)(s->changed ? s->outside.rank : out->rank);
    if (s->changed)
        dims_change(&s->inside, out->shape, &s->outside, shape);
    for (unsigned d = 0; d < t->rank; d++)
        tensor_set_dim(t, d, s->changed ? shape[d] : out->shape[d]);
}

static bool keep_outputs(struct work *w, const struct engine_data *of_engine)
{
    const uint8_t *at = w->model->output_of;
    size_t all = 0;
    for (unsigned k = 0; k < w->model->meta.n_outputs; k++)
        all += (of_engine[at[k]].bytes + 63) / 64 * 64;
    char *to = w->block ? (char *)w->block->data : NULL;
    if (!w->block || all > w->block->bytes)
        to = w->spill = mem_alloc(all ? all : 1);
    for (unsigned k = 0; to && k < w->model->meta.n_outputs; k++) {
        const struct engine_data *out = &of_engine[at[k]];
        struct tensor *t = &w->outputs[k];
        int64_t *more = t->more;
        *t = w->model->meta.outputs[k];
        t->more = more;
        show_shape(w->model, k, out, t);
        t->bytes = out->bytes;
        t->data = (const uint8_t *)to;
        if (out->bytes > 0)
            memcpy(to, out->data, out->bytes);
        to += (out->bytes + 63) / 64 * 64;
    }
    return to != NULL;
}

static void on_computed(struct engine_call *c)
{
    struct work *w = container_of(c, struct work, call);
    w->ok = c->ok && keep_outputs(w, c->outputs);
    if (!w->ok && c->ok)
        memcpy(c->error.text, "out of memory", 14);
    w->compute_us = monotonic_us() - w->started_us;
    loop_post_task(NULL, w->batches->loop, &w->home);
}

// ---- a batch comes home ------------------------------------------------------------------------------

static void work_free(struct work *w)
{
    if (w->block)
        block_unref(w->block);
    mem_free(w->spill);
    arena_deinit(&w->arena);
    mem_free(w);
}

// The spilled outputs in a block of the loop's.
static bool take_spill(struct work *w)
{
    size_t all = 0;
    for (unsigned k = 0; k < w->model->meta.n_outputs; k++)
        all += (w->outputs[k].bytes + 63) / 64 * 64;
    struct block *b = block_new(loop_blocks(w->batches->loop), all ? all : 1);
    if (!b)
        return false;
    memcpy(b->data, w->spill, all);
    for (unsigned k = 0; k < w->model->meta.n_outputs; k++)
        w->outputs[k].data = b->data + (w->outputs[k].data - (const uint8_t *)w->spill);
    if (w->block)
        block_unref(w->block);
    w->block = b;
    return true;
}

// What all of them get a slice of; NULL: e.
static struct answer *work_answer(struct work *w, struct error *e)
{
    struct served *m = w->model;
    struct answer *a = NULL;
    if (w->ok && (!w->spill || take_spill(w)))
        a = answer_new(w->block, w->outputs, m->meta.n_outputs, w->n > 1 ? w->rows : 0);
    if (!a) {
        error_set(e, STATUS_INTERNAL, "model %s: %s", m->name,
                  w->ok ? "out of memory" : w->call.error.text);
        return NULL;
    }
    w->block = NULL; // the answer holds that reference now
    a->version = view_str(m->version);
    a->compute_us = w->compute_us;
    batcher_learn(&m->batcher, w->rows, w->compute_us, now(w->batches));
    return a;
}

static void answer_one(const struct work *w, struct worker_request *r, struct answer *a,
                       uint32_t row)
{
    struct loop *l = w->batches->loop;
    struct answer_meta *m = &r->serving.meta;
    m->model = view_str(w->model->name);
    m->version = view_str(w->model->version);
    m->source = answer_source_name[SOURCE_MODEL];
    m->batch_rows = w->rows;
    m->batch_reason = batch_reason_name[w->reason];
    m->compute_us = w->compute_us;
    r->ticket.slice =
        (struct slice){.answer = a, .row = row, .rows = w->n > 1 ? r->request.rows : 0};
    block_ref(a->block);
    bool more = serving_answer(&r->serving, &r->ticket.slice, loop_is_spent(l), loop_now_us(l));
    loop_worked(l, more ? OIP_STEP_BYTES : r->serving.ex->sent_bytes);
    if (more)
        loop_defer(l, &r->work);
}

static void add(struct oip_duration *d, uint64_t us)
{
    d->count++;
    d->us += us;
}

static void count_batch(const struct work *w)
{
    struct oip_figures *f = &w->model->figures;
    f->inferences += w->rows;
    f->executions++;
    f->last_ms = loop_wall_us(w->batches->loop) / 1000;
    oip_batches_add(w->model->sizes, &f->n_batches, SERVED_SIZES, w->rows,
                    (struct oip_duration){1, w->compute_us});
}

static void count_end(struct served *m, const struct worker_request *r, bool answered)
{
    struct oip_figures *f = &m->figures;
    uint64_t total_us = now(r->batches) - r->serving.ex->started_us;
    add(answered ? &f->success : &f->fail, total_us);
    if (!answered)
        return;
    add(&f->queue, r->serving.meta.queue_us);
    add(&f->compute, r->serving.meta.compute_us);
}

static void on_home(struct loop *l, struct loop_task *t)
{
    struct work *w = container_of(t, struct work, home);
    struct batches *b = w->batches;
    struct error e;
    struct answer *a = work_answer(w, &e);
    uint32_t row = 0;
    w->instance->busy = false;
    b->computing--;
    b->running -= w->n;
    if (a)
        count_batch(w);
    for (uint32_t i = 0; i < w->n; i++) {
        struct worker_request *r = request_of(w->tickets[i]);
        if (a)
            answer_one(w, r, a, row);
        else
            serving_fail(&r->serving, FAILED(e.status, e.text), 0, loop_now_us(l));
        count_end(w->model, r, a != NULL);
        row += r->request.rows;
        serving_release(&r->serving);
    }
    if (a)
        block_unref(a->block);
    work_free(w);
    batches_run(b);
}

// ---- a batch goes ------------------------------------------------------------------------------------

static size_t output_bytes(const struct served *m, uint32_t rows)
{
    size_t all = 0;
    for (unsigned k = 0; k < m->meta.n_outputs; k++) {
        const struct tensor *t = &m->meta.outputs[k];
        size_t n = dtype_table[t->dtype].bytes;
        for (unsigned d = 0; d < t->rank; d++) {
            if (__builtin_mul_overflow(n, tensor_dim(t, d) < 0 ? rows : (size_t)tensor_dim(t, d),
                                       &n))
                return 0;
        }
        all += (n + 63) / 64 * 64;
    }
    return all;
}

static struct work *work_new(struct batches *b, struct served *m, uint32_t most)
{
    struct work *w = mem_zalloc(sizeof(*w));
    if (!w)
        return NULL;
    arena_init(&w->arena, 0);
    w->batches = b;
    w->model = m;
    w->tickets = arena_array(&w->arena, most, sizeof(*w->tickets));
    w->outputs = arena_array(&w->arena, m->meta.n_outputs, sizeof(*w->outputs));
    w->call.outputs =
        arena_array(&w->arena, engine_model_outputs(m->engine), sizeof(*w->call.outputs));
    int64_t(*more)[TENSOR_MAX_RANK - TENSOR_INLINE_RANK] =
        arena_array(&w->arena, m->meta.n_outputs, sizeof(*more)); // for keep_outputs
    if (!w->tickets || !w->outputs || !w->call.outputs || !more) {
        work_free(w);
        return NULL;
    }
    for (unsigned k = 0; k < m->meta.n_outputs; k++)
        w->outputs[k].more = more[k];
    w->call.done = on_computed;
    w->home.fn = on_home;
    return w;
}

static struct served_instance *idle_instance(struct served *m) // NULL: none is
{
    struct served_instance *i = m->instances;
    while (i->busy)
        i++;
    return i->engine ? i : NULL;
}

// A request's tensor as the model's input k.
static struct engine_data part_of(const struct served *m, unsigned k, const struct tensor *t)
{
    const struct served_shape *s = &m->in_shapes[k];
    struct engine_data d = {.data = t->data, .bytes = t->bytes, .rank = t->rank};
    int64_t shape[TENSOR_MAX_RANK];
    for (unsigned i = 0; i < t->rank; i++)
        shape[i] = tensor_dim(t, i);
    if (s->changed) {
        d.rank = s->inside.rank;
        dims_change(&s->outside, shape, &s->inside, d.shape);
    } else {
        memcpy(d.shape, shape, t->rank * sizeof(shape[0]));
    }
    return d;
}
_Static_assert(TENSOR_MAX_RANK <= ENGINE_MAX_RANK, "every tensor fits the engine");

// The requests' tensors as parts of one run.
static bool work_aim(struct work *w)
{
    unsigned n = w->model->meta.n_inputs;
    struct engine_data *parts = arena_array(&w->arena, (size_t)w->n * n, sizeof(*parts));
    if (!parts)
        return false;
    for (uint32_t r = 0; r < w->n; r++) {
        for (unsigned k = 0; k < n; k++)
            parts[r * n + k] = part_of(w->model, k, request_of(w->tickets[r])->inputs[k]);
    }
    w->call.inputs = parts;
    w->call.n_parts = w->n;
    return true;
}

static void work_start(struct work *w)
{
    struct batches *b = w->batches;
    b->computing++;
    w->instance = idle_instance(w->model);
    w->instance->busy = true;
    w->started_us = monotonic_us();
    if (work_aim(w)) {
        engine_submit(w->instance->engine, &w->call);
        return;
    }
    memcpy(w->call.error.text, "out of memory", 14);
    loop_post_task(NULL, b->loop, &w->home);
}

static void drop_late(struct batches *b, struct served *m)
{
    struct ticket *t;
    while ((t = batcher_doomed(&m->batcher, now(b))) != NULL) {
        struct worker_request *r = request_of(t);
        batches_remove(b, r);
        count_end(m, r, false);
        serving_fail(&r->serving,
                     FAILED(STATUS_DEADLINE, "the deadline passed in the worker's queue"), 0,
                     now(b));
        serving_release(&r->serving);
    }
}

// False: nothing went; wake_us, or a batch that comes home, asks again.
static bool send_batch(struct batches *b, struct served *m)
{
    uint32_t cap = m->meta.max_batch ? m->meta.max_batch : 1;
    drop_late(b, m);
    if (!idle_instance(m))
        return false;
    struct batch_plan plan = batcher_plan(&m->batcher, cap, now(b), NULL, NULL);
    if (!plan.group) {
        b->wake_us = plan.wake_us < b->wake_us ? plan.wake_us : b->wake_us;
        return false;
    }
    struct work *w = work_new(b, m, plan.rows);
    if (!w)
        return false; // the timer tries again
    w->reason = plan.reason;
    w->n = batcher_take(&m->batcher, &plan, w->tickets, plan.rows, now(b));
    for (uint32_t i = 0; i < w->n; i++) {
        struct ticket *t = w->tickets[i];
        request_of(t)->serving.meta.queue_us = now(b) - t->queued_us;
        w->rows += ticket_rows(t);
    }
    b->waiting -= w->n;
    b->running += w->n;
    w->block = block_new(loop_blocks(b->loop), output_bytes(m, w->rows) + 1);
    work_start(w);
    return true;
}

void batches_run(struct batches *b)
{
    const struct repository *all = b->repository;
    unsigned kept = 0; // models in a row of which nothing went
    b->wake_us = now(b) + LOOK_US;
    while (kept < all->n && b->waiting > 0 && b->computing < all->instances) {
        struct served *m = b->turn ? b->turn : all->models;
        b->turn = m->next;
        kept = m->batcher.count > 0 && send_batch(b, m) ? 0 : kept + 1;
    }
    if (b->waiting > 0)
        wheel_set(loop_wheel(b->loop), &b->timer, b->wake_us);
}

static void on_timer(struct wheel_timer *t, uint64_t now_us)
{
    struct batches *b = container_of(t, struct batches, timer);
    (void)now_us;
    for (struct served *m = b->repository->models; m; m = m->next)
        drop_late(b, m);
    batches_run(b);
}

// ---- the queues --------------------------------------------------------------------------------------

void batches_init(struct batches *b, struct loop *l, const struct repository *r)
{
    *b = (struct batches){.loop = l, .repository = r, .timer.fn = on_timer};
}

void batches_deinit(struct batches *b)
{
    wheel_cancel(loop_wheel(b->loop), &b->timer);
}

bool batches_add(struct batches *b, struct worker_request *r, struct error *e)
{
    struct infer_request *q = &r->request;
    struct served *m = r->model = repository_find(b->repository, q->model, q->version, e);
    if (!m)
        return false;
    r->inputs = arena_array(&r->serving.ex->arena, m->meta.n_inputs, sizeof(*r->inputs));
    if (!r->inputs)
        return error_set(e, STATUS_UNAVAILABLE, "out of memory");
    if (!served_inputs(m, q, r->inputs, e))
        return false;
    if (m->meta.max_batch == 0) // its first dimensions are no rows: one request, however long
        q->rows = 0;
    uint64_t bound = 64 * (uint64_t)m->meta.max_batch;
    if (m->batcher.rows + (q->rows ? q->rows : 1) > (bound > 1024 ? bound : 1024))
        return error_set(e, STATUS_UNAVAILABLE, "model %s: the queue is full", m->name);
    uint64_t left = q->timeout_us ? q->timeout_us : DEADLINE_US;
    r->ticket =
        (struct ticket){.request = q,
                        .key = ticket_key(q, VIEW("")), // a version has a batcher of its own
                        .deadline_us = r->serving.ex->started_us + left,
                        .lane = batcher_lane_of(q->priority)};
    if (!batcher_push(&m->batcher, &r->ticket, now(b)))
        return error_set(e, STATUS_UNAVAILABLE, "out of memory");
    b->waiting++;
    return true;
}

bool batches_remove(struct batches *b, struct worker_request *r)
{
    if (r->ticket.place != PLACE_QUEUED)
        return false;
    batcher_remove(&r->model->batcher, &r->ticket);
    b->waiting--;
    return true;
}
