#include "router/flow.h"

#include "base/check.h"
#include "router/step.h"

void flow_init(struct flow *f, unsigned loop, struct table *t, const struct flow_rules *r,
               uint64_t now_us)
{
    *f = (struct flow){.loop = loop, .table = t, .rules = *r, .wake_us = UINT64_MAX};
    wheel_init(&f->wheel, now_us);
}

void flow_set_rules(struct flow *f, const struct flow_rules *r)
{
    f->rules = *r;
}

void flow_deinit(struct flow *f)
{
    invariant(f->n_live == 0 && f->wheel.count == 0);
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
    if (in->step.out > 0)
        return;
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
    in->state = in->step.out > 0 ? INFER_ZOMBIE : INFER_SETTLED;
    f->n_zombies += in->step.out > 0;
    effects_add(fx, FX_SETTLE)->infer = in;
    fx_forget(fx, &in->error);
    release_if_home(f, in, fx);
}

// It is settled without some of its tickets: they are called home.
static void settle_early(struct flow *f, struct infer *in, struct effects *fx)
{
    step_give_up(&in->step, f->loop, fx);
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
        left = atomic_load_explicit(&m->deadline_us, memory_order_relaxed);
    if (left == 0)
        left = f->rules.deadline_us;
    if (left > f->rules.deadline_max_us)
        left = f->rules.deadline_max_us;
    return in->arrived_us + left;
}

// False: it cannot even be tried, in->error says why.
static bool admit(struct flow *f, struct infer *in, uint64_t now_us, struct effects *fx)
{
    const struct model *m = in->step.to.model;
    in->deadline_us = deadline_of(f, in, m);
    if (now_us < in->deadline_us)
        return step_begin(&in->step, in, in->deadline_us, fx);
    in->error = *FAILED(STATUS_DEADLINE, "the deadline passed before the request was read");
    return false;
}

static bool find_target(const struct flow *f, struct infer *in, struct effects *fx)
{
    struct target *to = &in->step.to;
    if (!to->model)
        to->model = table_find(f->table, in->request.model);
    if (to->model) {
        to->name = to->model->name;
        to->version = in->request.version;
        return true;
    }
    in->error = failure_format(fx->blocks, STATUS_NOT_FOUND, "model %.*s is not known",
                               VIEW_ARG(in->request.model));
    return false;
}

static void lend(struct flow *f, struct infer *in, struct effects *fx)
{
    in->state = INFER_OUT;
    in->timer.fn = on_deadline;
    wheel_set(&f->wheel, &in->timer, in->deadline_us);
    enlist(f, in);
    step_lend(&in->step, f->loop, fx);
}

void flow_submit(struct flow *f, struct infer *in, uint64_t now_us, struct effects *fx)
{
    invariant(in->state == INFER_NEW && !in->prev);
    in->flow = f;
    in->error.status = STATUS_OK;
    if (find_target(f, in, fx) && admit(f, in, now_us, fx)) {
        lend(f, in, fx);
        ask_wake(f, fx);
        return;
    }
    if (in->error.status == STATUS_UNAVAILABLE)
        fx_note(fx, NOTE_SHED, in->step.to.model, in->request.rows ? in->request.rows : 1, 0);
    settle(f, in, fx);
}

void flow_on_gone(struct flow *f, struct infer *in, uint64_t now_us, struct effects *fx)
{
    (void)now_us;
    if (in->state != INFER_OUT)
        return;
    in->error = *FAILED(STATUS_CLIENT_GONE, "the client has gone");
    settle_early(f, in, fx);
}

static struct infer *infer_of(const struct ticket *t)
{
    return container_of(t->step, struct infer, step);
}

void flow_on_back(struct flow *f, struct ticket *t, uint64_t now_us, struct effects *fx)
{
    (void)now_us;
    struct infer *in = infer_of(t);
    invariant(in->state == INFER_OUT || in->state == INFER_ZOMBIE);
    switch (step_on_back(&in->step, t, &in->error, fx)) {
    case STEP_OUT:
        if (in->step.over)
            release_if_home(f, in, fx);
        break;
    case STEP_ANSWERED:
        settle(f, in, fx);
        break;
    case STEP_FAILED: // a chain would judge here whether its next step is tried
        in->retry_after_s = t->retry_after_s;
        settle_early(f, in, fx);
        break;
    }
}

void flow_on_echo(struct flow *f, struct ticket *t, uint64_t now_us, struct effects *fx)
{
    (void)now_us;
    struct infer *in = infer_of(t);
    invariant(in->state == INFER_ZOMBIE);
    step_on_echo(&in->step, t);
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
