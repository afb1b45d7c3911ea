#include "router/desk_inner.h"

#include "base/check.h"
#include "base/mem.h"
#include "router/preference.h"

// Of one that knows no replica yet.
static struct policy policy_of(const struct model_rules *k)
{
    struct policy p = {.kind = k->policy,
                       .max_rows = k->max_rows ? k->max_rows : 1,
                       .max_wait_us = k->max_wait_us,
                       .n_preferred = k->n_preferred};
    memcpy(p.preferred, k->preferred, sizeof(p.preferred));
    return p;
}

struct desk *desk_new(struct model *m, unsigned home, uint64_t seed, uint64_t now_us)
{
    struct desk *d = mem_zalloc(sizeof(*d));
    if (!d)
        return NULL;
    struct policy p = policy_of(&m->rules);
    d->model = m;
    d->home = home;
    d->most_rows = p.max_rows;
    d->wake_us = d->overdue_us = d->held_us = UINT64_MAX;
    d->again_last = &d->again;
    d->shadows_last = &d->shadows;
    d->outlook_stale = true;
    standing_init(&d->standing);
    replicas_init(&d->replicas, d, seed, now_us);
    batcher_init(&d->batcher, &p);
    return d;
}

void desk_free(struct desk *d)
{
    invariant(!d->sent && !d->again && !d->lost && !d->asks && !d->shadows && d->followers == 0);
    while (d->spare) {
        struct batch *b = d->spare;
        d->spare = b->next;
        arena_deinit(&b->arena);
        mem_free(b->tickets);
        mem_free(b);
    }
    replicas_deinit(&d->replicas);
    sequences_free(&d->sequences);
    batcher_deinit(&d->batcher);
    if (d->kept)
        cache_leave(d->kept);
    mem_free(d);
}

bool desk_is_idle(const struct desk *d)
{
    return d->batcher.count == 0 && !d->again && !d->sent && !d->lost && !d->asks && !d->shadows &&
           replicas_absent(&d->replicas) && atomic_load(&d->model->room_rows) == 0;
}

// ---- inputs: replicas --------------------------------------------------------------------------------

// auto plans with when servers are free. Of the one at hand nothing is said here: see group_may_go.
static void expect_servers(struct desk *d, uint64_t now_us)
{
    struct outlook o = {0};
    if (d->batcher.policy.kind == POLICY_AUTO) {
        replicas_watch_devices(&d->replicas, now_us);
        o = replicas_outlook(&d->replicas, now_us);
    }
    batcher_expect(&d->batcher, &o);
    d->outlook_stale = false;
}

void desk_adopt_policy(struct desk *d)
{
    struct policy p = policy_of(&d->model->rules);
    p.max_rows = d->most_rows;
    standing_ease(d, &p);
    d->outlook_stale |= p.max_rows != d->batcher.policy.max_rows;
    d->batcher.policy = p;
}

// What those that are up take at once is what the queue forms batches for.
static void adopt_batch_size(struct desk *d)
{
    struct model *m = d->model;
    d->replicas.moved = false;
    if (d->replicas.n_up == 0)
        return;
    uint32_t max = d->replicas.max_batch ? d->replicas.max_batch : 1;
    if (m->rules.max_rows > 0 && m->rules.max_rows < max)
        max = m->rules.max_rows;
    d->most_rows = max;
    desk_adopt_policy(d);
    if (m->rules.queue_rows == 0)
        atomic_store(&m->queue_limit, model_queue_rows(max));
}

void desk_on_rules(struct desk *d, const struct model_rules *rules)
{
    model_set_rules(d->model, rules);
    if (d->replicas.n_up > 0 || rules->max_rows > 0) // else of those that were here last
        d->most_rows = rules->max_rows ? rules->max_rows : 1;
    d->outlook_stale = true;
    desk_adopt_policy(d);
    adopt_batch_size(d);
    standing_doubt(&d->standing);
}

void desk_on_chain(struct desk *d, const struct table *t, const struct chain *c)
{
    d->table = t;
    d->chain = c;
    standing_doubt(&d->standing);
}

void desk_on_replica_up(struct desk *d, uint32_t id, const struct replica_facts *facts,
                        uint64_t now_us, struct effects *fx)
{
    // It was here before, or nobody is who was: under its name there may be another model now.
    bool another = replicas_find(&d->replicas, id) || (d->replicas.n > 0 && d->replicas.n_up == 0);
    replicas_up(&d->replicas, id, facts, now_us, fx);
    cache_replicas(d, another, now_us);
    d->outlook_stale = true;
    adopt_batch_size(d);
}

void desk_on_replica_down(struct desk *d, uint32_t id, uint64_t now_us, struct effects *fx)
{
    replicas_down(&d->replicas, id, now_us, fx);
    cache_replicas(d, false, now_us);
    d->outlook_stale = true;
    adopt_batch_size(d);
}

void desk_on_replica_gone(struct desk *d, uint32_t id, uint64_t now_us)
{
    replicas_vacate(&d->replicas, id, now_us);
}

void desk_on_ranks(struct desk *d, unsigned (*rank_of)(uint32_t id, void *ctx), void *ctx,
                   uint64_t now_us, struct effects *fx)
{
    if (!replicas_rank(&d->replicas, rank_of, ctx, now_us, fx))
        return;
    for (struct batch *b = d->sent; b; b = b->next) // what comes of it says something of who has it
        b->rank = replicas_find(&d->replicas, b->replica)->facts.rank;
    d->outlook_stale = true;
    adopt_batch_size(d);
}

// ---- sending -----------------------------------------------------------------------------------------

// What failed at one replica is for its siblings, as long as there are any. *gone: no replica has its state.
static struct replica *choose_for(struct desk *d, struct batch *b, uint64_t now_us, bool *gone)
{
    const struct ticket *t = b->tickets[0];
    if (t->request->sequence_id > 0)
        return sequences_choose(&d->sequences, &d->replicas, t, now_us, gone);
    struct wanted w = {
        .version = t->to.version, .avoid = b->failed_at, .rows = b->rows, .rank = b->rank};
    if (!replicas_sibling(&d->replicas, &w, now_us))
        w.avoid = REPLICA_NONE;
    struct replica *r = replicas_choose(&d->replicas, &w, now_us);
    if (r && r->id == b->failed_at)
        b->failed_at = REPLICA_NONE; // an answer to it says nothing against itself
    return r;
}

static void send_or_wait(struct desk *d, struct batch *b, uint64_t now_us, struct effects *fx)
{
    bool gone = false, left = batch_prune(d, b, now_us, fx);
    struct replica *r = left ? choose_for(d, b, now_us, &gone) : NULL;
    if (gone)
        batch_fail(d, b, FAILED(STATUS_WORKER_LOST, desk_gone_text), fx);
    if (gone || !left)
        batch_free(d, b);
    else if (r)
        batch_send(d, b, r, now_us, fx);
    else
        batch_wait(d, b);
}

// ---- inputs: tickets ---------------------------------------------------------------------------------

static bool is_past_grace(const struct desk *d, uint64_t now_us)
{
    return d->replicas.n_ready == 0 &&
           now_us >= d->replicas.alone_since_us + d->model->rules.grace_us;
}

static void fail_version(struct desk *d, struct ticket *t, struct effects *fx)
{
    struct failure e =
        failure_format(fx->blocks, STATUS_NOT_FOUND, "model %.*s has no version %.*s",
                       VIEW_ARG(t->to.name), VIEW_ARG(t->to.version));
    ticket_failed(d, t, &e, fx);
    fx_forget(fx, &e);
}

static void queue_ticket(struct desk *d, struct ticket *t, uint64_t now_us, struct effects *fx)
{
    if (!batcher_push(&d->batcher, t, now_us))
        ticket_failed(d, t, FAILED(STATUS_UNAVAILABLE, "out of memory"), fx);
    else if (t->cache == CACHE_USE)
        cache_lead(d, t);
}

// A step of a sequence goes where its state is, at once: no credit of ours delays it.
static void send_step(struct desk *d, struct ticket *t, uint64_t now_us, struct effects *fx)
{
    struct batch *b = batch_new(d, 1);
    if (!b) {
        queue_ticket(d, t, now_us, fx);
        return;
    }
    batch_join(b, t);
    b->reason = BATCH_IDLE;
    send_or_wait(d, b, now_us, fx);
}

// R6: it would wait in vain, and those behind it longer. False: it is not refused.
static bool refuse_early(struct desk *d, struct ticket *t, uint64_t now_us, struct effects *fx)
{
    const struct model_rules *k = &d->model->rules;
    if (k->policy != POLICY_AUTO || !k->refuse_early || d->replicas.n_ready == 0)
        return false;
    uint64_t late_us = batcher_refuses(&d->batcher, t, now_us);
    if (late_us > 0)
        ticket_refused(d, t, late_us, fx);
    return late_us > 0;
}

// led: it was accepted when it began to wait for another one's answer, and is not refused for being late now.
static void admit(struct desk *d, struct ticket *t, bool led, uint64_t now_us, struct effects *fx)
{
    if (d->outlook_stale)
        expect_servers(d, now_us);
    bool timely = batcher_timely(&d->batcher, t, now_us);
    const char *why;
    if (!timely && batcher_hopeless(&d->batcher, t, now_us))
        ticket_expired(d, t, fx);
    else if (d->replicas.n_up > 0 && t->to.version.n > 0 &&
             !replicas_serve(&d->replicas, t->to.version, false, now_us))
        fail_version(d, t, fx);
    else if ((why = standing_refusal(d)) != NULL)
        ticket_failed(d, t, FAILED(STATUS_UNAVAILABLE, why), fx);
    else if (is_past_grace(d, now_us) || (t->elsewhere && d->replicas.n_ready == 0))
        ticket_let_go(d, t, fx);
    else if (t->request->sequence_id > 0)
        send_step(d, t, now_us, fx);
    else if (timely || led || !refuse_early(d, t, now_us, fx))
        queue_ticket(d, t, now_us, fx);
}

void desk_missed(struct desk *d, struct ticket *t, uint64_t now_us, struct effects *fx)
{
    batcher_came(&d->batcher, ticket_rows(t), now_us);
    standing_came(&d->standing, ticket_rows(t));
    admit(d, t, false, now_us, fx);
}

void desk_on_ticket(struct desk *d, struct ticket *t, uint64_t now_us, struct effects *fx)
{
    ticket_taken_up(d, t, now_us);
    if (t->shadow) {
        shadow_came(d, t, fx);
        return;
    }
    if (t->cache != CACHE_NONE && cache_met(d, t, now_us, fx))
        return;
    desk_missed(d, t, now_us, fx);
}

// Those whose leaders have not been answered take their turn.
static void admit_leads(struct desk *d, uint64_t now_us, struct effects *fx)
{
    struct ticket *t;
    while ((t = flight_next(d)) != NULL)
        admit(d, t, true, now_us, fx);
}

// Nobody waits for it any more. It is recalled, unless it was sent to teach.
static void batch_late(struct desk *d, struct batch *b, uint64_t now_us, struct effects *fx)
{
    replicas_overdue(&d->replicas, b, now_us, fx);
    if (b->state == BATCH_SENT && now_us >= b->until_us) {
        if (b->rank == d->replicas.rank)
            batcher_missed(&d->batcher);
        else
            preference_late(&d->replicas, b, now_us);
        batch_recall(d, b, now_us, fx);
    } else if (b->state == BATCH_SENT) {
        d->overdue_us = desk_least(d->overdue_us, b->until_us);
    }
    d->overdue_us = desk_least(d->overdue_us, now_us + REPLICA_FAIR_US);
}

void desk_aboard_gone(struct desk *d, struct batch *b, uint64_t now_us, struct effects *fx)
{
    if (++b->cancelled < b->n || b->state != BATCH_SENT)
        return;
    // At the deadline the origins' timers and ours race: it is late all the same.
    if (now_us >= b->deadline_us)
        batch_late(d, b, now_us, fx);
    else
        batch_recall(d, b, now_us, fx);
}

void desk_on_cancel(struct desk *d, struct ticket *t, uint64_t now_us, struct effects *fx)
{
    unsigned origin = t->cancel.from;
    if (t->place != PLACE_NONE && !t->cancelled && now_us >= t->deadline_us &&
        t->cache != CACHE_ONLY_STALE)
        standing_late(d, t); // it waited for the model
    if (t->place == PLACE_QUEUED) {
        batcher_remove(&d->batcher, t);
        ticket_failed(d, t, FAILED(STATUS_CLIENT_GONE, "cancelled"), fx);
    } else if (t->place == PLACE_HELD) {
        ticket_failed(d, t, FAILED(STATUS_CLIENT_GONE, "cancelled"), fx);
    } else if (t->place == PLACE_SHADOW) {
        shadow_left(d, t);
        ticket_failed(d, t, FAILED(STATUS_CLIENT_GONE, "cancelled"), fx);
    } else if (t->place == PLACE_ASKS) {
        store_forgotten(t);
        ticket_failed(d, t, FAILED(STATUS_CLIENT_GONE, "cancelled"), fx);
    } else if (t->place == PLACE_WAITS) {
        flight_cancelled(d, t, now_us, fx);
    } else if (t->place == PLACE_ABOARD && !t->cancelled) {
        t->cancelled = true;
        d->again_cancelled |= t->batch->state == BATCH_AGAIN;
        if (!t->followers)
            desk_aboard_gone(d, t->batch, now_us, fx);
    } // else it is on its way back: the two cross
    fx_post(fx, &t->cancel, MSG_ECHO, d->home, origin);
}

// ---- deciding ----------------------------------------------------------------------------------------

static void drop_doomed(struct desk *d, uint64_t now_us, struct effects *fx)
{
    struct ticket *t;
    while ((t = batcher_doomed(&d->batcher, now_us)) != NULL) {
        batcher_remove(&d->batcher, t);
        ticket_expired(d, t, fx);
    }
}

// When it is late: the deadline of its last ticket, or a recall that is not confirmed as quickly as it should.
static uint64_t late_us(const struct batch *b)
{
    return b->state == BATCH_SENT ? b->deadline_us : b->recalled_us + REPLICA_FAIR_US;
}

// A call past its deadline serves no client, and its worker may hang. One that is recalled and does not end is
// looked at again and again: nothing else would ever say that its worker hangs.
static void recall_overdue(struct desk *d, uint64_t now_us, struct effects *fx)
{
    if (now_us < d->overdue_us)
        return;
    d->overdue_us = UINT64_MAX;
    for (struct batch *b = d->sent; b; b = b->next) {
        bool late = now_us >= late_us(b);
        if (late)
            batch_late(d, b, now_us, fx);
        else
            d->overdue_us = desk_least(d->overdue_us, late_us(b));
    }
}

// No replica is left that could answer, and the time to wait for one is over.
static void refuse_all(struct desk *d, struct effects *fx)
{
    uint64_t n = d->batcher.count;
    struct ticket *t;
    while ((t = batcher_any(&d->batcher)) != NULL) {
        batcher_remove(&d->batcher, t);
        ticket_let_go(d, t, fx);
    }
    while (d->again) {
        struct batch *b = d->again;
        d->again = b->next;
        n += b->n;
        for (uint32_t i = 0; i < b->n; i++)
            ticket_let_go(d, b->tickets[i], fx);
        batch_free(d, b);
    }
    d->again_last = &d->again;
    d->n_again = 0;
    if (n > 0)
        fx_note(fx, NOTE_NO_REPLICA, d->model, n, 0);
}

// No replica is ready: who has something else to try waits for none.
static void let_go_queued(struct desk *d, struct effects *fx)
{
    struct ticket *next;
    bool any = d->batcher.elsewhere > 0 || d->followers_elsewhere > 0;
    for (unsigned i = 0; any && i < BATCHER_GROUPS; i++) {
        struct group *g = d->batcher.groups[i];
        for (struct ticket *t = g && g->used ? g->oldest : NULL; t; t = next) {
            next = t->newer;
            flight_let_go(d, t, fx);
            if (!t->elsewhere)
                continue;
            batcher_remove(&d->batcher, t);
            ticket_let_go(d, t, fx);
        }
    }
}

// Likewise of a batch that waits to be sent as it is. False: none of it is left.
static bool let_go_aboard(struct desk *d, struct batch *b, struct effects *fx)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        struct ticket *t = b->tickets[i];
        flight_let_go(d, t, fx);
        if (t->elsewhere)
            ticket_let_go(d, t, fx);
        else
            b->tickets[kept++] = t;
    }
    b->n = kept;
    return kept > 0;
}

static void let_go_again(struct desk *d, struct effects *fx)
{
    struct batch *list = d->again, *next;
    d->again = NULL;
    d->again_last = &d->again;
    d->n_again = 0;
    for (struct batch *b = list; b; b = next) {
        next = b->next;
        if (let_go_aboard(d, b, fx))
            batch_wait(d, b);
        else
            batch_free(d, b);
    }
}

static void send_again(struct desk *d, uint64_t now_us, struct effects *fx)
{
    struct batch *list = d->again, **list_last = d->again_last;
    bool all = d->again_cancelled;
    d->again = NULL;
    d->again_last = &d->again;
    d->again_cancelled = false;
    while (list && (all || replicas_credit(&d->replicas, now_us))) {
        struct batch *b = list;
        list = b->next;
        d->n_again--;
        send_or_wait(d, b, now_us, fx);
    }
    if (list) { // those that no replica has credit for
        *d->again_last = list;
        d->again_last = list_last;
    }
}

struct asking { // what group_may_go needs
    struct desk *d;
    uint64_t now_us;
    struct outlook all; // auto: of all servers that count
    unsigned rank;      // of the least class that is meant
};

// The server at hand for that version is what auto decides for.
static bool expect_at_hand(const struct asking *a, struct view version)
{
    const struct wanted w = {.version = version, .avoid = REPLICA_NONE, .rank = a->rank};
    const struct batch_server *s = replicas_at_hand(&a->d->replicas, &w, a->now_us);
    if (!s)
        return false;
    struct outlook o = a->all;
    outlook_at(&o, s, a->now_us);
    batcher_expect(&a->d->batcher, &o);
    return true;
}

static bool group_may_go(const struct group *g, void *ctx)
{
    const struct asking *a = ctx;
    bool planned = a->d->batcher.policy.kind == POLICY_AUTO;
    if (g->mixed) // one that has no replica at hand is set apart, for others behind may have one
        return a->d->n_again < DESK_ASIDE && (!planned || expect_at_hand(a, (struct view){0}));
    struct view version = g->oldest->to.version;
    return planned ? expect_at_hand(a, version)
                   : replicas_serve(&a->d->replicas, version, true, a->now_us);
}

// Heads that cannot be saved without losing others.
static void drop_heads(struct desk *d, const struct batch_plan *plan, uint64_t now_us,
                       struct effects *fx)
{
    struct ticket *t;
    while ((t = batcher_dropped(&d->batcher, plan, now_us)) != NULL) {
        batcher_remove(&d->batcher, t);
        ticket_dropped(d, t, fx);
    }
}

// Batches that an eased policy keeps small serve a queue slowly: where more than two rounds of them wait they are as
// large as they may be, until the policy is adopted anew.
static void lift_ease(struct desk *d)
{
    struct policy *p = &d->batcher.policy;
    uint64_t servers = d->replicas.n_ready;
    if (p->max_rows == d->most_rows || d->batcher.rows <= 2 * servers * p->max_rows)
        return;
    p->max_rows = d->most_rows;
    d->outlook_stale = true;
}

static bool drops_any(const struct batch_plan *plan)
{
    uint64_t any = 0;
    for (unsigned lane = 0; lane < BATCHER_LANES; lane++)
        any |= plan->drop_us[lane];
    return any > 0;
}

// A batch for another class than the one in force, which is saturated: planned with what is known of that class. The
// group NULL: none, ask again at its wake_us.
static struct batch_plan plan_beside(struct asking *a)
{
    struct desk *d = a->d;
    struct batch_plan plan = {.wake_us = UINT64_MAX};
    struct preference_help h = preference_helps(&d->replicas, a->now_us);
    if (h.rank == REPLICA_RANKS)
        return plan;
    struct asking beside = {.d = d, .now_us = a->now_us, .all = h.at, .rank = h.rank};
    struct estimate in_force = d->batcher.estimate;
    d->batcher.estimate = h.t;
    plan = batcher_plan(&d->batcher, h.cap_rows, a->now_us, group_may_go, &beside);
    d->batcher.estimate = in_force;
    batcher_expect(&d->batcher, &a->all);
    if (plan.group && drops_any(&plan)) // those are for the others to save
        plan = (struct batch_plan){.wake_us = UINT64_MAX};
    else if (plan.group)
        preference_helped(&d->replicas, &h, a->now_us);
    a->rank = h.rank;
    return plan;
}

static struct batch_plan plan_next(struct asking *a)
{
    struct desk *d = a->d;
    a->rank = 0;
    if (d->batcher.policy.kind == POLICY_AUTO) {
        replicas_watch_devices(&d->replicas, a->now_us);
        a->all = replicas_outlook(&d->replicas, a->now_us);
    }
    const struct wanted any = {.avoid = REPLICA_NONE};
    uint32_t cap = replicas_cap(&d->replicas, &any, a->now_us);
    struct batch_plan plan = batcher_plan(&d->batcher, cap, a->now_us, group_may_go, a);
    if (plan.group || !d->replicas.mixed || d->batcher.policy.kind != POLICY_AUTO)
        return plan;
    batcher_expect(&d->batcher, &a->all); // of the one at hand nothing is meant
    uint64_t wake_us = plan.wake_us;
    plan = plan_beside(a);
    plan.wake_us = desk_least(plan.wake_us, wake_us);
    return plan;
}

// Who has its version may be of another class, and take less.
static void fit_to_class(struct desk *d, struct batch_plan *plan, unsigned rank, uint64_t now_us)
{
    if (!d->replicas.mixed)
        return;
    const struct wanted w = {
        .version = plan->group->oldest->to.version, .avoid = REPLICA_NONE, .rank = rank};
    uint32_t cap = replicas_cap(&d->replicas, &w, now_us);
    plan->rows = plan->rows < cap ? plan->rows : cap;
}

// Sends what should go; returns when the next batch may be due.
static uint64_t send_queued(struct desk *d, uint64_t now_us, struct effects *fx)
{
    struct asking asking = {.d = d, .now_us = now_us};
    while (d->batcher.count > 0 && replicas_credit(&d->replicas, now_us)) {
        struct batch_plan plan = plan_next(&asking);
        if (!plan.group)
            return plan.wake_us;
        fit_to_class(d, &plan, asking.rank, now_us);
        struct batch *b = batch_new(d, plan.rows);
        if (!b)
            return now_us + 1000; // out of memory: what is queued stays queued
        drop_heads(d, &plan, now_us, fx);
        b->n = batcher_take(&d->batcher, &plan, b->tickets, b->cap, now_us);
        b->reason = plan.reason;
        b->rank = (uint8_t)asking.rank;
        for (uint32_t i = 0; i < b->n; i++)
            b->tickets[i]->batch = b;
        send_or_wait(d, b, now_us, fx);
    }
    return UINT64_MAX;
}

static void ask_wake(struct desk *d, uint64_t at_us, uint64_t now_us, struct effects *fx)
{
    uint64_t doom_us = batcher_doom_us(&d->batcher);
    at_us = desk_least(at_us, doom_us > now_us ? doom_us : now_us + 1000);
    at_us = desk_least(at_us, d->overdue_us);
    at_us = desk_least(at_us, d->replicas.look_us);
    at_us = desk_least(at_us, d->held_us);
    at_us = desk_least(at_us, standing_wake_us(d));
    bool waits = d->batcher.count > 0 || d->again;
    if (waits && d->replicas.n_ready == 0)
        at_us = desk_least(at_us, d->replicas.alone_since_us + d->model->rules.grace_us);
    if (waits)
        at_us = desk_least(at_us, replicas_pause_ends(&d->replicas, now_us));
    if (at_us < d->wake_us) {
        d->wake_us = at_us;
        fx_wake(fx, d, at_us);
    }
}

static void serve_queue(struct desk *d, uint64_t now_us, struct effects *fx)
{
    lift_ease(d);
    uint64_t at_us;
    do { // what is dropped on the way leaves its lead to others
        admit_leads(d, now_us, fx);
        at_us = send_queued(d, now_us, fx);
    } while (d->leads);
    at_us = desk_least(at_us, shadows_send(d, now_us, fx));
    standing_tell(d, now_us, fx);
    ask_wake(d, at_us, now_us, fx);
    atomic_store_explicit(&d->model->waiting, (uint32_t)d->batcher.rows, memory_order_relaxed);
    atomic_store_explicit(&d->model->running, d->running_rows, memory_order_relaxed);
}

// A shared device is nearly free: of all that want it the best goes. The others are asked after it, for one that
// waits deliberately, or has no credit, leaves the turn to them; they find it busy as soon as one has sent.
static void take_turns(struct device_turn *turn, uint64_t now_us, struct effects *fx)
{
    struct desk *d = device_next(turn, true);
    for (; d; d = device_next(turn, false)) {
        uint32_t sent = d->batcher.sent;
        expect_servers(d, now_us);
        drop_doomed(d, now_us, fx);
        serve_queue(d, now_us, fx);
        if (d->batcher.sent != sent)
            device_passed(turn, d);
    }
}

void desk_run(struct desk *d, uint64_t now_us, struct effects *fx)
{
    expect_servers(d, now_us);
    drop_doomed(d, now_us, fx);
    tickets_released(d, now_us, fx);
    recall_overdue(d, now_us, fx);
    replicas_look(&d->replicas, now_us, fx);
    if (d->replicas.moved) {
        adopt_batch_size(d);
        expect_servers(d, now_us);
    }
    if (is_past_grace(d, now_us)) {
        refuse_all(d, fx);
    } else if (d->replicas.n_ready == 0) {
        let_go_queued(d, fx);
        let_go_again(d, fx);
    }
    if (d->again)
        send_again(d, now_us, fx);
    struct device_turn *turn = replicas_open_turn(&d->replicas, now_us);
    if (turn)
        take_turns(turn, now_us, fx);
    serve_queue(d, now_us, fx);
}

void desk_on_wake(struct desk *d, uint64_t now_us, struct effects *fx)
{
    d->wake_us = UINT64_MAX;
    desk_run(d, now_us, fx);
}
