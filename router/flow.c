#include "router/flow.h"

#include "base/check.h"
#include "batcher/batcher.h"

void flow_init(struct flow *f, unsigned loop, struct table *t, const struct flow_rules *r,
               uint64_t now_us)
{
    *f = (struct flow){.loop = loop, .table = t, .rules = *r, .wake_us = UINT64_MAX};
    wheel_init(&f->wheel, now_us);
}

void flow_deinit(struct flow *f)
{
    invariant(f->n_live == 0 && f->wheel.count == 0);
}

// ---- room --------------------------------------------------------------------------------------------

// What it takes of the model's room. Only where a model batches is the first dimension one of rows: an image
// of 1,024 lines is one request.
static uint32_t rows_of(const struct infer *in)
{
    const struct model *m = in->ticket.model;
    bool single = atomic_load_explicit(&m->single, memory_order_relaxed);
    return in->request.rows && !single ? in->request.rows : 1;
}

static bool charge(struct infer *in)
{
    struct model *m = in->ticket.model;
    int64_t bytes = (int64_t)in->request.bytes;
    in->charged_rows = rows_of(in); // kept: the model may change its ways meanwhile
    int64_t all_rows =
        atomic_fetch_add_explicit(&m->room_rows, in->charged_rows, memory_order_relaxed) +
        in->charged_rows;
    int64_t all_bytes =
        atomic_fetch_add_explicit(&m->room_bytes, bytes, memory_order_relaxed) + bytes;
    return all_rows <= atomic_load_explicit(&m->queue_limit, memory_order_relaxed) &&
           (m->rules.queue_bytes == 0 || all_bytes <= (int64_t)m->rules.queue_bytes);
}

static void discharge(struct infer *in)
{
    if (in->charged_rows == 0)
        return;
    struct model *m = in->ticket.model;
    atomic_fetch_sub_explicit(&m->room_rows, in->charged_rows, memory_order_relaxed);
    atomic_fetch_sub_explicit(&m->room_bytes, (int64_t)in->request.bytes, memory_order_relaxed);
    in->charged_rows = 0;
}

// ---- the list of live infers -------------------------------------------------------------------------

static void enlist(struct flow *f, struct infer *in)
{
    in->next = f->live;
    in->prev = &f->live;
    if (f->live)
        f->live->prev = &in->next;
    f->live = in;
    f->n_live++;
}

static void delist(struct flow *f, struct infer *in)
{
    if (in->next)
        in->next->prev = in->prev;
    *in->prev = in->next;
    in->prev = NULL;
    f->n_live--;
}

// ---- ends --------------------------------------------------------------------------------------------

// All that was out has come home: the caller may free it.
static void release_if_home(struct flow *f, struct infer *in, struct effects *fx)
{
    if (in->ticket_out || in->cancel_out)
        return;
    discharge(in);
    if (in->state == INFER_ZOMBIE)
        f->n_zombies--;
    in->state = INFER_OVER;
    if (in->prev)
        delist(f, in);
    effects_add(fx, FX_RELEASE)->infer = in;
}

// The only place where an infer settles.
static void settle(struct flow *f, struct infer *in, struct effects *fx)
{
    invariant(in->state == INFER_NEW || in->state == INFER_OUT); // exactly once
    wheel_cancel(&f->wheel, &in->timer);
    if (in->error.status == STATUS_UNAVAILABLE || in->error.status == STATUS_WORKER_LOST)
        in->retry_after_s = f->rules.retry_after_s;
    in->state = in->ticket_out ? INFER_ZOMBIE : INFER_SETTLED;
    f->n_zombies += in->ticket_out;
    effects_add(fx, FX_SETTLE)->infer = in;
    fx_forget(fx, &in->error);
    release_if_home(f, in, fx);
}

// It is settled without its ticket: call the ticket home.
static void settle_early(struct flow *f, struct infer *in, struct effects *fx)
{
    struct ticket *t = &in->ticket;
    in->cancel_out = true;
    fx_post(fx, &t->cancel, MSG_CANCEL, f->loop, model_home(t->model));
    settle(f, in, fx);
}

static void on_deadline(struct wheel_timer *timer, uint64_t now_us)
{
    (void)now_us;
    struct infer *in = container_of(timer, struct infer, timer);
    in->error = *FAILED(STATUS_DEADLINE, "the deadline passed before the model answered");
    settle_early(in->flow, in, in->flow->fx);
}

// ---- inputs ------------------------------------------------------------------------------------------

// One wish is open at a time: the earliest. A wish that turns out too early asks again.
static void ask_wake(struct flow *f, struct effects *fx)
{
    uint64_t next = wheel_next_us(&f->wheel);
    if (next < f->wake_us) {
        f->wake_us = next;
        fx_wake(fx, NULL, next);
    }
}

static uint64_t deadline_of(const struct flow *f, const struct infer *in, const struct model *m)
{
    uint64_t left = in->request.timeout_us;
    if (left == 0)
        left = m->rules.deadline_us ? m->rules.deadline_us : f->rules.deadline_us;
    if (left > f->rules.deadline_max_us)
        left = f->rules.deadline_max_us;
    return in->arrived_us + left;
}

// Why this infer cannot even be tried; STATUS_OK: it can.
static void admit(struct flow *f, struct infer *in, uint64_t now_us, struct effects *fx)
{
    struct model *m = in->ticket.model;
    uint32_t max_batch = atomic_load_explicit(&m->max_batch, memory_order_relaxed);
    in->deadline_us = deadline_of(f, in, m);
    if (now_us >= in->deadline_us)
        in->error = *FAILED(STATUS_DEADLINE, "the deadline passed before the request was read");
    else if (max_batch > 0 && in->request.rows > max_batch)
        in->error = failure_format(fx->blocks, STATUS_BAD_REQUEST,
                                   "inputs: expected at most %u rows for model %.*s, got %u",
                                   max_batch, VIEW_ARG(m->name), in->request.rows);
    else if (!charge(in))
        in->error = failure_format(fx->blocks, STATUS_UNAVAILABLE, "model %.*s: the queue is full",
                                   VIEW_ARG(m->name));
}

static void lend(struct flow *f, struct infer *in, struct effects *fx)
{
    struct ticket *t = &in->ticket;
    t->request = &in->request;
    t->deadline_us = in->deadline_us;
    t->lane = batcher_lane_of(in->request.priority);
    in->ticket_out = true;
    in->state = INFER_OUT;
    in->timer.fn = on_deadline;
    wheel_set(&f->wheel, &in->timer, in->deadline_us);
    enlist(f, in);
    fx_post(fx, &t->lend, MSG_LEND, f->loop, model_home(t->model));
}

void flow_submit(struct flow *f, struct infer *in, uint64_t now_us, struct effects *fx)
{
    invariant(in->state == INFER_NEW && !in->prev);
    in->flow = f;
    in->error.status = STATUS_OK;
    if (!in->ticket.model)
        in->ticket.model = table_find(f->table, in->request.model);
    if (!in->ticket.model)
        in->error = failure_format(fx->blocks, STATUS_NOT_FOUND, "model %.*s is not known",
                                   VIEW_ARG(in->request.model));
    else
        admit(f, in, now_us, fx);
    if (in->error.status != STATUS_OK) {
        if (in->error.status == STATUS_UNAVAILABLE)
            fx_note(fx, NOTE_SHED, in->ticket.model, (uint64_t)rows_of(in), 0);
        settle(f, in, fx);
        return;
    }
    lend(f, in, fx);
    ask_wake(f, fx);
}

void flow_on_gone(struct flow *f, struct infer *in, uint64_t now_us, struct effects *fx)
{
    (void)now_us;
    if (in->state != INFER_OUT)
        return;
    in->error = *FAILED(STATUS_CLIENT_GONE, "the client has gone");
    settle_early(f, in, fx);
}

void flow_on_back(struct flow *f, struct ticket *t, uint64_t now_us, struct effects *fx)
{
    (void)now_us;
    struct infer *in = container_of(t, struct infer, ticket);
    invariant(in->ticket_out && (in->state == INFER_OUT || in->state == INFER_ZOMBIE));
    in->ticket_out = false;
    if (in->state == INFER_OUT) { // a chain would judge here whether its next step is tried
        in->error = t->error;
        in->retry_after_s = t->retry_after_s;
        settle(f, in, fx);
        return;
    }
    if (t->error.status == STATUS_OK) // answered too late: nobody wants it
        effects_add(fx, FX_UNREF)->block = t->slice.answer->block;
    fx_forget(fx, &t->error);
    release_if_home(f, in, fx);
}

void flow_on_echo(struct flow *f, struct ticket *t, uint64_t now_us, struct effects *fx)
{
    (void)now_us;
    struct infer *in = container_of(t, struct infer, ticket);
    invariant(in->cancel_out && in->state == INFER_ZOMBIE);
    in->cancel_out = false;
    release_if_home(f, in, fx);
}

void flow_on_wake(struct flow *f, uint64_t now_us, struct effects *fx)
{
    f->wake_us = UINT64_MAX;
    f->fx = fx;
    wheel_run(&f->wheel, now_us);
    f->fx = NULL;
    ask_wake(f, fx);
}
