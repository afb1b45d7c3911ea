#include "router/flow.h"

#include "base/check.h"
#include "batcher/batcher.h"
#include "router/retry.h"
#include "router/shadow.h"
#include "router/step.h"

static void on_time_up(struct wheel_timer *timer, uint64_t now_us);

void flow_init(struct flow *f, unsigned loop, struct table *t, const struct flow_rules *r,
               uint64_t seed, uint64_t now_us)
{
    *f = (struct flow){.loop = loop, .table = t, .rules = *r, .wake_us = UINT64_MAX};
    rand_seed(&f->rand, seed);
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

static bool is_home(const struct infer *in)
{
    for (const struct step *s = in->at; s; s = s->before)
        if (s->out > 0)
            return false;
    return !in->shadow || in->shadow->step.out == 0;
}

// All that was out has come home: the caller may free it.
static void release_if_home(struct flow *f, struct infer *in, struct effects *fx)
{
    if (!is_home(in))
        return;
    if (in->state == INFER_ZOMBIE)
        f->n_zombies--;
    in->state = INFER_OVER;
    if (in->prev)
        delist(f, in);
    effects_add(fx, FX_RELEASE)->infer = in;
}

static void forget_texts(const struct infer *in, struct effects *fx)
{
    fx_forget(fx, &in->error);
    for (unsigned i = 0; in->walk && i < in->walk->n; i++)
        fx_forget(fx, &in->walk->attempt[i].why);
}

// Is it worth while to ask again?
static bool may_come_back(const struct infer *in)
{
    switch (in->error.status) {
    case STATUS_QUOTA:
    case STATUS_UNAVAILABLE:
        return true;
    case STATUS_WORKER_LOST:
        return in->request.sequence_id ==
               0; // else its state is lost: what comes next is no next step
    case STATUS_DEADLINE:
        return in->room_in_us > 0; // it was refused early
    default:
        return false;
    }
}

uint32_t flow_retry_ms(struct flow *f, const struct model *m, unsigned lane, uint64_t room_in_us,
                       uint64_t now_us)
{
    uint64_t wait_us = m ? model_wait_us(m, lane, now_us) : 0;
    return retry_after_ms(room_in_us > 0 ? room_in_us : wait_us, rand_u64(&f->rand));
}

// Its last ticket, if it was refused early, says when there is room; else its model does.
static void say_when(struct flow *f, struct infer *in, uint64_t now_us)
{
    if (may_come_back(in))
        in->retry_after_ms = flow_retry_ms(
            f, in->step.to.model, batcher_lane_of(in->request.priority), in->room_in_us, now_us);
}

// The only place where an infer settles.
static void settle(struct flow *f, struct infer *in, uint64_t now_us, struct effects *fx)
{
    invariant(in->state == INFER_NEW || in->state == INFER_OUT); // exactly once
    wheel_cancel(&f->wheel, &in->timer);
    if (in->error.status != STATUS_OK)
        say_when(f, in, now_us);
    effects_add(fx, FX_SETTLE)->infer = in;
    forget_texts(in, fx);
    if (in->shadow)
        shadow_begin(f, in, now_us, fx);
    bool home = is_home(in);
    in->state = home ? INFER_SETTLED : INFER_ZOMBIE;
    f->n_zombies += !home;
    release_if_home(f, in, fx);
}

// It is settled without some of its tickets: they are called home.
static void settle_early(struct flow *f, struct infer *in, uint64_t now_us, struct effects *fx)
{
    step_give_up(in->at, f->loop, fx);
    settle(f, in, now_us, fx);
}

// ---- asking ------------------------------------------------------------------------------------------

static void lend(struct flow *f, struct infer *in, uint64_t until_us, struct effects *fx)
{
    if (!in->prev)
        enlist(f, in);
    in->state = INFER_OUT;
    in->timer.fn = on_time_up;
    wheel_set(&f->wheel, &in->timer, until_us);
    step_lend(in->at, f->loop, fx);
}

// The step that in->at is goes out. False: in->error says why not.
static bool ask(struct flow *f, struct infer *in, uint64_t until_us, uint64_t now_us,
                struct effects *fx)
{
    bool begun = step_begin(in->at, in, until_us, now_us, fx);
    if (begun)
        lend(f, in, until_us, fx);
    return begun;
}

// ---- along a chain -----------------------------------------------------------------------------------

// What takes no batch is one request, whatever its first dimension is.
static uint32_t rows_wanted(const struct infer *in)
{
    bool single = atomic_load_explicit(&in->step.to.model->single, memory_order_relaxed);
    return in->request.rows && !single ? in->request.rows : 1;
}

static struct model *model_of_link(const struct flow *f, const struct infer *in, unsigned i)
{
    return i == 0 ? in->step.to.model : table_find(f->table, in->chain->links[i].name);
}

static void look_along(const struct flow *f, const struct infer *in, struct chance *at,
                       uint64_t now_us)
{
    unsigned lane = batcher_lane_of(in->request.priority);
    for (unsigned i = 0; i < in->chain->n; i++) {
        bool model = in->chain->links[i].kind == LINK_MODEL;
        at[i] = table_chance(model ? model_of_link(f, in, i) : NULL, lane, now_us);
    }
}

// Demand for models that their desks never see.
static void tell_passed(const struct flow *f, const struct infer *in, unsigned from,
                        struct effects *fx)
{
    for (unsigned k = from; k < in->walk->n; k++) {
        const struct attempt *a = &in->walk->attempt[k];
        struct model *m = model_of_link(f, in, a->link);
        if (!m)
            continue;
        fx_note(fx, NOTE_STEP, m, STATUS_COUNT + a->passed, 0);
        if (a->passed != PASSED_POISON)
            model_turned(m, rows_wanted(in));
    }
}

static unsigned called_home(const struct infer *in)
{
    unsigned n = 0;
    for (const struct step *s = in->at; s; s = s->before)
        n += s->out > 0;
    return n;
}

// Link 0's first step is the infer's own; the others are made when they are begun. NULL: it cannot be asked.
static struct step *step_of_link(struct flow *f, struct infer *in, unsigned i, struct effects *fx)
{
    bool first = i == 0 && in->step.n == 0;
    if (first && in->at == &in->step)
        return &in->step;
    struct step *s = called_home(in) < FLOW_CALLED ? arena_zalloc(in->arena, sizeof(*s)) : NULL;
    if (!s)
        return NULL;
    s->infer = in;
    s->before = in->at;
    if (in->chain->links[i].kind == LINK_CACHED) {
        s->cache = CACHE_ONLY_STALE;
        s->cache_key = in->step.cache_key;
        i = 0; // what is kept is the model's
    }
    s->to.model = model_of_link(f, in, i);
    s->to.name = s->to.model->name;
    if (i == 0)
        s->to.version = in->request.version;
    effects_add(fx, FX_USE)->model = s->to.model;
    return s;
}

static bool ask_link(struct flow *f, struct infer *in, unsigned i, const struct chance *at,
                     uint64_t now_us, struct effects *fx)
{
    struct chain_walk *w = in->walk;
    uint64_t left_us = in->deadline_us - now_us;
    if (in->chain->links[i].kind == LINK_CACHED && !in->step.cache_key) {
        in->error = *FAILED(STATUS_UNAVAILABLE, "no answer to this request is kept");
        return false;
    }
    struct step *s = step_of_link(f, in, i, fx);
    if (!s) {
        in->error = *FAILED(STATUS_UNAVAILABLE, "no room for one more step");
        return false;
    }
    s->elsewhere = chain_has_more(in->chain, w, i);
    s->losses = w->losses;
    s->deaths = w->deaths;
    in->at = s;
    return ask(f, in, now_us + chain_patience(in->chain, at, w, i, left_us), now_us, fx);
}

// What the attempt that is out came to: in->error.
static void attempt_over(struct flow *f, struct infer *in, uint64_t now_us, struct effects *fx)
{
    struct attempt *a = &in->walk->attempt[in->walk->n - 1];
    if (in->chain->links[a->link].kind == LINK_MODEL)
        fx_note(fx, NOTE_STEP, model_of_link(f, in, a->link), in->error.status, 0);
    a->out = false;
    a->why = in->error;
    a->took_us = now_us - a->began_us;
    in->error = (struct failure){.status = STATUS_OK};
}

// The answer that the operator wrote down. False: in->error says why it is none.
static bool give_default(struct flow *f, struct infer *in, uint64_t now_us, struct effects *fx)
{
    const struct default_answer *d = in->chain->answer;
    struct view missing;
    if (!default_answer_has(d, &in->request, &missing)) {
        in->error = failure_format(fx->blocks, STATUS_UNAVAILABLE, "it has no output %.*s",
                                   VIEW_ARG(missing));
        return false;
    }
    struct slice *s = arena_zalloc(in->arena, sizeof(*s));
    s = s && (s->answer = default_answer_give(d, rows_wanted(in), fx->blocks)) ? s : NULL;
    if (!s) {
        in->error = *FAILED(STATUS_UNAVAILABLE, "no memory for it");
        return false;
    }
    attempt_over(f, in, now_us, fx);
    in->answer = s;
    in->source = SOURCE_DEFAULT;
    settle(f, in, now_us, fx);
    return true;
}

// It failed there: in->error. True: that was its end, and it has settled.
static bool link_failed(struct flow *f, struct infer *in, uint64_t now_us, struct effects *fx)
{
    struct attempt *a = &in->walk->attempt[in->walk->n - 1];
    attempt_over(f, in, now_us, fx);
    if (chain_goes_on(in->chain, in->walk, a->link, a->why.status))
        return false;
    in->error = a->why;
    a->why.block = NULL; // one of the two holds its text
    settle(f, in, now_us, fx);
    return true;
}

// True: a step is out, or it has settled.
static bool try_link(struct flow *f, struct infer *in, unsigned i, const struct chance *at,
                     uint64_t now_us, struct effects *fx)
{
    bool written = in->chain->links[i].kind == LINK_DEFAULT;
    chain_begin(in->walk, i, now_us);
    return (written ? give_default(f, in, now_us, fx) : ask_link(f, in, i, at, now_us, fx)) ||
           link_failed(f, in, now_us, fx);
}

// Nothing is left to try, or no time.
static void chain_ended(struct flow *f, struct infer *in, uint64_t now_us, struct effects *fx)
{
    char reasons[FAILURE_WORDS];
    enum status status = chain_verdict(in->walk, now_us >= in->deadline_us);
    chain_reasons(in->chain, in->walk, reasons, sizeof(reasons));
    in->error = failure_format(fx->blocks, status, "nothing of its chain answered: %s", reasons);
    settle(f, in, now_us, fx);
}

static void walk_on(struct flow *f, struct infer *in, uint64_t now_us, struct effects *fx)
{
    struct chance at[CHAIN_LINKS];
    unsigned i = CHAIN_END;
    do {
        unsigned before = in->walk->n;
        look_along(f, in, at, now_us);
        i = now_us >= in->deadline_us
                ? CHAIN_END
                : chain_next(in->chain, at, in->walk, now_us, in->deadline_us - now_us);
        tell_passed(f, in, before, fx);
    } while (i != CHAIN_END && !try_link(f, in, i, at, now_us, fx));
    if (i == CHAIN_END)
        chain_ended(f, in, now_us, fx);
}

static void remember_deaths(struct chain_walk *w, const struct ticket *t)
{
    w->losses = t->losses > w->losses ? t->losses : w->losses;
    w->deaths = t->deaths > w->deaths ? t->deaths : w->deaths;
    w->poisonous |= t->error.status == STATUS_POISON || w->losses >= TICKET_LOSSES;
}

static void step_failed(struct flow *f, struct infer *in, const struct ticket *t, uint64_t now_us,
                        struct effects *fx)
{
    in->room_in_us = t->room_in_us;
    if (!in->walk) {
        settle_early(f, in, now_us, fx);
        return;
    }
    step_give_up(in->at, f->loop, fx);
    remember_deaths(in->walk, t);
    if (t->let_go)
        chain_spare(in->walk);
    if (!link_failed(f, in, now_us, fx))
        walk_on(f, in, now_us, fx);
}

static void step_answered(struct flow *f, struct infer *in, uint64_t now_us, struct effects *fx)
{
    in->answer = &in->at->tickets[0].slice;
    in->source = in->at->source;
    if (in->walk)
        attempt_over(f, in, now_us, fx);
    settle(f, in, now_us, fx);
}

// Of its step, or of all.
static void on_time_up(struct wheel_timer *timer, uint64_t now_us)
{
    struct infer *in = container_of(timer, struct infer, timer);
    struct flow *f = in->flow;
    in->error =
        *FAILED(STATUS_DEADLINE,
                in->walk ? "it took too long" : "the deadline passed before the model answered");
    if (!in->walk) {
        settle_early(f, in, now_us, f->fx);
        return;
    }
    step_give_up(in->at, f->loop, f->fx);
    attempt_over(f, in, now_us, f->fx);
    walk_on(f, in, now_us, f->fx);
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

// False: it cannot even be tried, in->error says why.
static bool admit(struct flow *f, struct infer *in, uint64_t now_us, struct effects *fx)
{
    if (!find_target(f, in, fx))
        return false;
    in->deadline_us = deadline_of(f, in, in->step.to.model);
    if (now_us < in->deadline_us)
        return true;
    in->error = *FAILED(STATUS_DEADLINE, "the deadline passed before the request was read");
    return false;
}

// A sequence's state is where it is; and who wants that model or nothing has no chain.
static bool has_chain(const struct infer *in)
{
    return in->chain && in->request.sequence_id == 0 && !in->request.no_chain;
}

void flow_submit(struct flow *f, struct infer *in, uint64_t now_us, struct effects *fx)
{
    invariant(in->state == INFER_NEW && !in->prev);
    in->flow = f;
    in->at = &in->step;
    in->step.infer = in;
    in->error.status = STATUS_OK;
    if (!admit(f, in, now_us, fx)) {
        settle(f, in, now_us, fx);
        return;
    }
    in->walk = has_chain(in) ? arena_zalloc(in->arena, sizeof(*in->walk)) : NULL;
    if (in->walk) {
        in->walk->lot = in->lot;
        walk_on(f, in, now_us, fx);
    } else if (!ask(f, in, in->deadline_us, now_us, fx)) {
        settle(f, in, now_us, fx);
    }
    ask_wake(f, fx);
}

void flow_on_gone(struct flow *f, struct infer *in, uint64_t now_us, struct effects *fx)
{
    if (in->state != INFER_OUT)
        return;
    in->error = *FAILED(STATUS_CLIENT_GONE, "the client has gone");
    if (in->walk) {
        attempt_over(f, in, now_us, fx);
        in->error = *FAILED(STATUS_CLIENT_GONE, "the client has gone");
    }
    settle_early(f, in, now_us, fx);
}

void flow_on_back(struct flow *f, struct ticket *t, uint64_t now_us, struct effects *fx)
{
    struct infer *in = t->step->infer;
    invariant(in->state == INFER_OUT || in->state == INFER_ZOMBIE);
    if (t->shadow) {
        shadow_on_back(f, t, now_us, fx);
        release_if_home(f, in, fx);
        return;
    }
    switch (step_on_back(t->step, t, &in->error, fx)) {
    case STEP_OUT:
        if (in->state == INFER_ZOMBIE)
            release_if_home(f, in, fx);
        return;
    case STEP_ANSWERED:
        step_answered(f, in, now_us, fx);
        ask_wake(f, fx); // for its shadow
        return;
    case STEP_FAILED:
        step_failed(f, in, t, now_us, fx);
        ask_wake(f, fx);
    }
}

void flow_on_echo(struct flow *f, struct ticket *t, uint64_t now_us, struct effects *fx)
{
    (void)now_us;
    struct infer *in = t->step->infer;
    step_on_echo(t->step, t);
    if (in->state == INFER_ZOMBIE)
        release_if_home(f, in, fx);
    else
        invariant(in->state == INFER_OUT);
}

void flow_on_wake(struct flow *f, uint64_t now_us, struct effects *fx)
{
    f->wake_us = UINT64_MAX;
    f->fx = fx;
    wheel_run(&f->wheel, now_us);
    f->fx = NULL;
    ask_wake(f, fx);
}
