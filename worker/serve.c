#include "worker/serve.h"

#include "base/check.h"
#include "base/mem.h"
#include "base/version.h"
#include "infer/oip_grpc.h"
#include "net/memory.h"
#include <time.h>

#define LOOK_US 5000 // as long as somebody waits: deadlines, and memory that may be there again

enum serving_phase {
    REQUEST_HEAD,
    REQUEST_DECODING,
    REQUEST_QUEUED,
    REQUEST_RUNNING,
    REQUEST_ANSWERING,
    REQUEST_OVER
};

struct serving { // in its exchange's arena
    struct serve *serve;
    struct exchange *ex;
    enum serving_phase phase;
    bool gone;
    struct api_call call;
    struct infer_request infer;
    struct ticket ticket;
    struct served *model;
    const struct tensor **inputs; // in the model's order
    struct api_decoder *decoder;
    struct api_answer *answer;
    struct loop_call step;
    struct answer_meta meta;
    struct slice slice;
    char id[32];
};

struct work { // a batch that is computed
    struct engine_call call;
    struct loop_task home;
    struct serve *serve;
    struct served *model;
    struct served_instance *instance;
    struct serving **requests;
    uint32_t n, rows;
    struct block *block; // outputs, as large as the model's ports say
    char *spill;         // or, when they turn out larger, memory of the computing thread's making
    struct tensor *outputs;
    bool ok;
    uint64_t started_us, compute_us, done_us;
    struct arena arena;
};

static uint64_t now(const struct serve *s)
{
    return loop_now_us(s->loop);
}

static void run_batches(struct serve *s);

// ---- answers -----------------------------------------------------------------------------------------

static void answer_error(struct serving *r, const struct error *e)
{
    struct serve *s = r->serve;
    r->phase = REQUEST_OVER;
    api_answer_error(&s->api, r->ex, &r->call, e, e->status == STATUS_UNAVAILABLE ? 1 : 0, &r->meta,
                     now(s));
    server_touch(r->ex->conn);
}

static void answered(struct serving *r)
{
    r->phase = REQUEST_OVER;
    block_unref(r->slice.answer->block);
    server_touch(r->ex->conn);
    exchange_unref(r->ex);
}

static void on_encode(struct loop *l, struct loop_call *c)
{
    struct serving *r = container_of(c, struct serving, step);
    struct error e;
    if (api_answer_step(r->answer, now(r->serve), &e) == OIP_MORE)
        loop_defer(l, c);
    else
        answered(r);
}

static void answer(struct serving *r, struct answer *a, uint32_t row, const struct work *w)
{
    struct error e;
    r->slice = (struct slice){.answer = a, .row = row, .rows = w->n > 1 ? r->infer.rows : 0};
    block_ref(a->block);
    r->meta.model = view_str(w->model->name);
    r->meta.version = view_str(w->model->version);
    r->meta.source = "model";
    r->meta.batch_rows = w->rows;
    r->meta.batch_reason = batch_reason_name[BATCH_IDLE];
    r->meta.compute_us = w->compute_us;
    // The loop's clock is read once a turn, and a short batch may begin and end within one.
    uint64_t now_us = now(r->serve), end_us = w->done_us > now_us ? w->done_us : now_us;
    r->meta.total_us = end_us - r->ex->started_us;
    r->phase = REQUEST_ANSWERING;
    if (api_answer_infer(&r->serve->api, r->ex, &r->call, &r->infer, &r->slice, &r->meta, now_us,
                         &r->answer, &e) == OIP_MORE) {
        r->step.fn = on_encode;
        loop_defer(r->serve->loop, &r->step);
    } else {
        answered(r);
    }
}

// ---- on the thread that computes ---------------------------------------------------------------------

static uint64_t monotonic_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static bool keep_outputs(struct work *w, const struct engine_data *all_of_them)
{
    const uint8_t *at = w->model->output_of;
    size_t all = 0;
    for (unsigned k = 0; k < w->model->meta.n_outputs; k++)
        all += (all_of_them[at[k]].bytes + 63) / 64 * 64;
    char *to = w->block ? (char *)w->block->data : NULL;
    if (!w->block || all > w->block->bytes)
        to = w->spill = mem_alloc(all ? all : 1);
    for (unsigned k = 0; to && k < w->model->meta.n_outputs; k++) {
        const struct engine_data *out = &all_of_them[at[k]];
        struct tensor *t = &w->outputs[k];
        *t = w->model->meta.outputs[k];
        t->rank = (uint8_t)out->rank;
        memcpy(t->shape, out->shape, sizeof(t->shape));
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
    w->done_us = monotonic_us();
    w->compute_us = w->done_us - w->started_us;
    loop_post_task(NULL, w->serve->loop, &w->home);
}

// ---- batches -----------------------------------------------------------------------------------------

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
    struct block *b = block_new(loop_blocks(w->serve->loop), all ? all : 1);
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

static void settle_one(struct work *w, struct serving *r, struct answer *a, uint32_t row,
                       const struct error *e)
{
    r->serve->running--;
    if (r->gone)
        exchange_unref(r->ex);
    else if (a)
        answer(r, a, row, w);
    else {
        answer_error(r, e);
        exchange_unref(r->ex);
    }
}

static void on_home(struct loop *l, struct loop_task *t)
{
    struct work *w = container_of(t, struct work, home);
    struct serve *s = w->serve;
    (void)l;
    s->computing--;
    w->instance->busy = false;
    struct answer *a = NULL;
    struct error e = {0};
    uint32_t row = 0;
    if (w->ok && (!w->spill || take_spill(w))) {
        a = answer_new(w->block, w->outputs, w->model->meta.n_outputs, w->n > 1 ? w->rows : 0);
        if (a) {
            w->block = NULL; // the answer holds that reference now
            a->version = view_str(w->model->version);
            a->compute_us = w->compute_us;
            batcher_learn(&w->model->batcher, w->rows, w->compute_us, now(s));
            w->model->inferences += w->rows;
            w->model->executions++;
        }
    }
    if (!a)
        error_set(&e, STATUS_INTERNAL, "model %s: %s", w->model->name,
                  w->ok ? "out of memory" : w->call.error.text);
    for (uint32_t i = 0; i < w->n; i++) {
        struct serving *r = w->requests[i];
        uint32_t rows = r->infer.rows;
        settle_one(w, r, a, row, &e);
        row += rows;
    }
    if (a)
        block_unref(a->block);
    work_free(w);
    run_batches(s);
}

static size_t output_bytes(const struct served *m, uint32_t rows)
{
    size_t all = 0;
    for (unsigned k = 0; k < m->meta.n_outputs; k++) {
        const struct tensor *t = &m->meta.outputs[k];
        size_t n = dtype_table[t->dtype].bytes;
        for (unsigned d = 0; d < t->rank; d++) {
            if (__builtin_mul_overflow(n, t->shape[d] < 0 ? rows : (size_t)t->shape[d], &n))
                return 0;
        }
        all += (n + 63) / 64 * 64;
    }
    return all;
}

static struct work *work_new(struct serve *s, struct served *m, uint32_t most)
{
    struct work *w = mem_zalloc(sizeof(*w));
    if (!w)
        return NULL;
    arena_init(&w->arena, 0);
    w->serve = s;
    w->model = m;
    w->requests = arena_array(&w->arena, most, sizeof(struct serving *));
    w->outputs = arena_array(&w->arena, m->meta.n_outputs, sizeof(*w->outputs));
    w->call.outputs =
        arena_array(&w->arena, engine_model_outputs(m->engine), sizeof(*w->call.outputs));
    if (!w->requests || !w->outputs || !w->call.outputs) {
        work_free(w);
        return NULL;
    }
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

// The requests' tensors as parts of one run.
static bool aim(struct work *w)
{
    unsigned n = w->model->meta.n_inputs;
    struct engine_data *parts = arena_array(&w->arena, (size_t)w->n * n, sizeof(*parts));
    if (!parts)
        return false;
    for (uint32_t r = 0; r < w->n; r++) {
        for (unsigned k = 0; k < n; k++) {
            const struct tensor *t = w->requests[r]->inputs[k];
            struct engine_data *d = &parts[r * n + k];
            *d = (struct engine_data){.data = t->data, .bytes = t->bytes, .rank = t->rank};
            memcpy(d->shape, t->shape, sizeof(d->shape));
        }
    }
    w->call.inputs = parts;
    w->call.n_parts = w->n;
    return true;
}

static void start(struct work *w)
{
    struct serve *s = w->serve;
    s->computing++;
    w->instance = idle_instance(w->model);
    w->instance->busy = true;
    w->started_us = monotonic_us();
    if (aim(w)) {
        engine_submit(w->instance->engine, &w->call);
        return;
    }
    memcpy(w->call.error.text, "out of memory", 14);
    loop_post_task(NULL, s->loop, &w->home);
}

static struct serving *request_of_ticket(struct ticket *t)
{
    return container_of(t, struct serving, ticket);
}

static void drop_late(struct serve *s, struct served *m)
{
    struct ticket *t;
    struct error e = {.status = STATUS_DEADLINE,
                      .text = "the deadline passed in the worker's queue"};
    while ((t = batcher_doomed(&m->batcher, now(s))) != NULL) {
        struct serving *r = request_of_ticket(t);
        batcher_remove(&m->batcher, t);
        s->waiting--;
        answer_error(r, &e);
        exchange_unref(r->ex);
    }
}

static bool send_batch(struct serve *s, struct served *m)
{
    uint32_t cap = m->meta.max_batch ? m->meta.max_batch : 1;
    drop_late(s, m);
    if (!idle_instance(m))
        return false;
    struct batch_plan plan = batcher_plan(&m->batcher, cap, now(s), NULL, NULL);
    if (!plan.group) {
        s->wake_us = plan.wake_us < s->wake_us ? plan.wake_us : s->wake_us;
        return false;
    }
    struct work *w = work_new(s, m, plan.rows);
    struct ticket **tickets = w ? arena_array(&w->arena, plan.rows, sizeof(*tickets)) : NULL;
    if (!tickets) {
        if (w)
            work_free(w);
        return false; // the timer tries again
    }
    w->n = batcher_take(&m->batcher, &plan, tickets, plan.rows, now(s));
    for (uint32_t i = 0; i < w->n; i++) {
        struct serving *r = w->requests[i] = request_of_ticket(tickets[i]);
        r->phase = REQUEST_RUNNING;
        r->meta.queue_us = now(s) - tickets[i]->queued_us;
        w->rows += r->infer.rows ? r->infer.rows : 1;
    }
    s->waiting -= w->n;
    s->running += w->n;
    w->block = block_new(loop_blocks(s->loop), output_bytes(m, w->rows) + 1);
    start(w);
    return true;
}

// Models take turns; a batch goes while fewer are computed than may be.
static void run_batches(struct serve *s)
{
    struct served *first = s->turn ? s->turn : s->repository->models, *m = first;
    s->wake_us = now(s) + LOOK_US;
    while (m && s->waiting > 0 && s->computing < s->repository->instances) {
        if (m->batcher.count > 0)
            send_batch(s, m);
        m = m->next ? m->next : s->repository->models;
        if (m == first && s->waiting > 0 && m->batcher.count == 0)
            break;
        s->turn = m;
        if (m == first)
            break;
    }
    if (s->waiting > 0)
        wheel_set(loop_wheel(s->loop), &s->timer, s->wake_us);
}

static void on_timer(struct wheel_timer *t, uint64_t now_us)
{
    struct serve *s = container_of(t, struct serve, timer);
    (void)now_us;
    for (struct served *m = s->repository->models; m; m = m->next)
        drop_late(s, m);
    run_batches(s);
}

// ---- inference requests ------------------------------------------------------------------------------

static bool not_served(struct error *e, struct view model, struct view version)
{
    return error_set(e, STATUS_NOT_FOUND, "model %.*s%s%.*s is not served here", VIEW_ARG(model),
                     version.n ? " version " : "", VIEW_ARG(version));
}

static bool enqueue(struct serving *r, struct error *e)
{
    struct serve *s = r->serve;
    struct infer_request *q = &r->infer;
    r->model = repository_find(s->repository, q->model, q->version);
    if (!r->model)
        return not_served(e, q->model, q->version);
    r->inputs = arena_array(&r->ex->arena, r->model->meta.n_inputs, sizeof(*r->inputs));
    if (!r->inputs)
        return error_set(e, STATUS_UNAVAILABLE, "out of memory");
    if (!served_inputs(r->model, q, r->inputs, e))
        return false;
    uint64_t bound = 64 * (uint64_t)r->model->meta.max_batch;
    if (r->model->batcher.rows + (q->rows ? q->rows : 1) > (bound > 1024 ? bound : 1024))
        return error_set(e, STATUS_UNAVAILABLE, "model %s: the queue is full", r->model->name);
    uint64_t left = q->timeout_us;
    if (r->call.timeout_us > 0 && (left == 0 || r->call.timeout_us < left))
        left = r->call.timeout_us;
    r->ticket =
        (struct ticket){.request = q,
                        .deadline_us = r->ex->started_us + (left ? left : SERVE_DEADLINE_US),
                        .lane = batcher_lane_of(q->priority)};
    if (!batcher_push(&r->model->batcher, &r->ticket, now(s)))
        return error_set(e, STATUS_UNAVAILABLE, "out of memory");
    return true;
}

static void submit(struct serving *r)
{
    struct error e = {0};
    r->meta.parse_us = now(r->serve) - r->ex->body_us;
    if (!enqueue(r, &e)) {
        answer_error(r, &e);
        return;
    }
    r->phase = REQUEST_QUEUED;
    r->serve->waiting++;
    exchange_ref(r->ex);
    run_batches(r->serve);
}

static void on_decode(struct loop *l, struct loop_call *c)
{
    struct serving *r = container_of(c, struct serving, step);
    struct error e = {0};
    switch (api_decode_step(r->decoder, OIP_STEP_BYTES, &e)) {
    case OIP_MORE:
        loop_defer(l, c);
        return;
    case OIP_DONE:
        r->decoder = NULL;
        submit(r);
        return;
    case OIP_ERROR:
        r->decoder = NULL;
        answer_error(r, &e);
        return;
    }
}

static void infer(struct serving *r)
{
    struct served *m = repository_find(r->serve->repository, r->call.model, r->call.version);
    r->phase = REQUEST_DECODING;
    r->decoder = api_decode_begin(r->ex, &r->call, m ? &m->meta : NULL, &r->infer);
    if (!r->decoder) {
        struct error e = {.status = STATUS_UNAVAILABLE, .text = "out of memory"};
        answer_error(r, &e);
        return;
    }
    r->step.fn = on_decode;
    on_decode(r->serve->loop, &r->step);
}

// ---- the small calls ---------------------------------------------------------------------------------

static void show_index(struct serving *r)
{
    struct serve *s = r->serve;
    const struct repository *all = s->repository;
    struct oip_index index = {0};
    index.models =
        arena_array(&r->ex->arena, (size_t)all->n + all->n_refused + 1, sizeof(*index.models));
    for (struct served *m = all->models; index.models && m; m = m->next)
        index.models[index.n++] = (struct oip_index_model){
            .name = view_str(m->name), .version = view_str(m->version), .state = VIEW("READY")};
    const struct refused *f = r->call.ready_only ? NULL : all->refused;
    for (; index.models && f; f = f->next)
        index.models[index.n++] = (struct oip_index_model){.name = view_str(f->name),
                                                           .version = view_str(f->version),
                                                           .state = VIEW("UNAVAILABLE"),
                                                           .reason = view_str(f->why)};
    api_answer_index(&s->api, r->ex, &r->call, &index, now(s));
}

static void show_model(struct serving *r)
{
    struct serve *s = r->serve;
    struct served *m = repository_find(s->repository, r->call.model, r->call.version);
    struct error e = {0};
    if (!m) {
        not_served(&e, r->call.model, r->call.version);
        answer_error(r, &e);
    } else if (r->call.kind == API_MODEL_READY || r->call.kind == API_HEALTH_CHECK) {
        api_answer_ready(&s->api, r->ex, &r->call, !s->draining, now(s));
    } else {
        api_answer_model(&s->api, r->ex, &r->call, &m->meta, now(s));
    }
}

static void small_call(struct serving *r)
{
    struct serve *s = r->serve;
    struct error e = {0};
    if (!api_read(r->ex, &r->call, &e)) {
        answer_error(r, &e);
        return;
    }
    bool server = r->call.model.n == 0 || view_is(r->call.model, "inference.GRPCInferenceService");
    if (r->call.kind == API_SERVER_LIVE)
        api_answer_live(&s->api, r->ex, &r->call, true, now(s));
    else if (r->call.kind == API_SERVER_READY || (r->call.kind == API_HEALTH_CHECK && server))
        api_answer_ready(&s->api, r->ex, &r->call, !s->draining, now(s));
    else if (r->call.kind == API_SERVER_METADATA)
        api_answer_server(&s->api, r->ex, &r->call, now(s));
    else if (r->call.kind == API_INDEX)
        show_index(r);
    else
        show_model(r);
    r->phase = REQUEST_OVER;
    server_touch(r->ex->conn);
}

// ---- what the HTTP room calls ------------------------------------------------------------------------

static void on_head(struct exchange *ex, void *ctx)
{
    struct serve *s = ctx;
    struct serving *r = arena_zalloc(&ex->arena, sizeof(*r));
    struct error e = {0};
    ex->user = r;
    if (!r) {
        error_set(&e, STATUS_UNAVAILABLE, "out of memory");
        api_answer_unrouted(&s->api, ex, &e, now(s));
        return;
    }
    r->ex = ex;
    r->serve = s;
    uint64_t random[2] = {rand_u64(&s->loop->rand), rand_u64(&s->loop->rand)};
    r->meta.request_id = api_request_id(ex, random, r->id);
    enum api_kind kind = api_route(ex, &r->call, &e);
    r->call.request_id = r->meta.request_id;
    if (kind == API_REFUSED)
        answer_error(r, &e);
}

static void on_request(struct exchange *ex, void *ctx)
{
    struct serving *r = ex->user;
    (void)ctx;
    if (!r || r->phase != REQUEST_HEAD)
        return;
    if (r->call.kind == API_INFER)
        infer(r);
    else
        small_call(r);
}

static void on_gone(struct exchange *ex, void *ctx)
{
    struct serving *r = ex->user;
    (void)ctx;
    if (!r)
        return;
    r->gone = true;
    loop_defer_cancel(&r->step);
    switch (r->phase) {
    case REQUEST_DECODING:
        if (r->decoder)
            api_decode_drop(r->decoder);
        break;
    case REQUEST_QUEUED:
        batcher_remove(&r->model->batcher, &r->ticket);
        r->serve->waiting--;
        exchange_unref(ex);
        break;
    case REQUEST_ANSWERING:
        api_answer_drop(r->answer);
        block_unref(r->slice.answer->block);
        exchange_unref(ex);
        break;
    case REQUEST_HEAD:
    case REQUEST_RUNNING: // its batch comes back and lets it go
    case REQUEST_OVER:
        break;
    }
}

static void on_sent(struct exchange *ex, bool whole, void *ctx)
{
    (void)ex;
    (void)whole;
    (void)ctx;
}

static void on_refuse(struct http_conn *c, struct exchange *ex, unsigned status, const char *why,
                      void *ctx)
{
    struct serve *s = ctx;
    struct serving *r = ex ? ex->user : NULL;
    struct error e;
    error_set(&e, status_from_http(status), "%s", why);
    if (r)
        answer_error(r, &e);
    else if (ex)
        api_answer_unrouted(&s->api, ex, &e, now(s));
}

static bool on_charge(struct exchange *ex, int64_t delta_bytes, void *ctx)
{
    struct serve *s = ctx;
    (void)ex;
    if (delta_bytes > 0 && delta_bytes > s->most - s->held)
        return false;
    s->held += delta_bytes;
    return true;
}

const struct http_server_ops serve_ops = {.on_head = on_head,
                                          .on_request = on_request,
                                          .on_gone = on_gone,
                                          .on_sent = on_sent,
                                          .on_refuse = on_refuse,
                                          .on_charge = on_charge};

void serve_init(struct serve *s, struct loop *l, struct repository *r)
{
    *s = (struct serve){
        .loop = l, .repository = r, .timer.fn = on_timer, .most = memory_total() / 4};
    api_init(&s->api, true, VIEW("sluice-worker"), VIEW(SLUICE_VERSION));
}

void serve_deinit(struct serve *s)
{
    wheel_cancel(loop_wheel(s->loop), &s->timer);
    api_deinit(&s->api);
}
