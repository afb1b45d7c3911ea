#include "tests/sim/sim.h"

#include "base/mem.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define TURNS_MAX 20000000ull
#define REST_US 120000000 // after the last fault a world that does not come to rest is wrong
#define MAIL_A_TURN 256

bool world_chance(struct world *w, double p)
{
    return p > 0 && rand_unit(&w->rand) < p;
}

uint64_t world_exponential(struct world *w, double mean_us)
{
    return (uint64_t)(-mean_us * log(1 - rand_unit(&w->rand)));
}

bool world_slow(const struct world *w)
{
    return w->plan.shift && 2 * w->submitted < w->plan.lives;
}

uint64_t world_soon(struct world *w, uint64_t within_us)
{
    return w->now_us + rand_below(&w->rand, within_us + 1);
}

void world_count(struct world *w, enum fault f)
{
    w->totals.faults[f]++;
}

// ---- mail --------------------------------------------------------------------------------------------

static struct model_of *model_of(struct world *w, const struct model *m)
{
    for (unsigned i = 0; i < w->plan.models; i++) {
        if (w->model[i].m == m)
            return &w->model[i];
    }
    abort();
}

static void deliver(struct loop_of *l, struct msg *m)
{
    struct world *w = l->w;
    demand(w, NULL, m->to == l->index, "a message arrives where it was sent");
    demands_on_deliver(l, m);
    if (m->kind == MSG_LEND || m->kind == MSG_CANCEL) {
        bool lends = m->kind == MSG_LEND;
        struct ticket *t =
            lends ? container_of(m, struct ticket, lend) : container_of(m, struct ticket, cancel);
        struct model_of *of = model_of(w, t->to.model);
        struct desk *d = world_desk(w, of);
        if (!lends)
            demands_credit(w, of);
        world_memory(w, of);
        (lends ? desk_on_ticket : desk_on_cancel)(d, t, l->now_us, &l->fx);
        world_memory_end();
        if (lends)
            demands_queued(l, t);
        of->dirty = true;
        kept_look(l, of);
        world_effects(l);
        if (!lends)
            demands_called_home(l, t);
    } else if (m->kind == MSG_BACK) {
        struct ticket *t = container_of(m, struct ticket, lend);
        flow_on_back(&l->flow, t, l->now_us, &l->fx);
        demands_at_origin(life_of(t));
    } else {
        demand(w, NULL, m->kind == MSG_ECHO, "only the router's messages travel");
        struct ticket *t = container_of(m, struct ticket, cancel);
        flow_on_echo(&l->flow, t, l->now_us, &l->fx);
        demands_at_origin(life_of(t));
    }
    world_effects(l);
}

static void read_mail(struct loop_of *l)
{
    struct world *w = l->w;
    unsigned start = (unsigned)rand_below(&w->rand, w->plan.loops), left = MAIL_A_TURN;
    for (bool any = true; any && left > 0;) {
        any = false;
        for (unsigned i = 0; i < w->plan.loops && left > 0; i++) {
            struct mailbox *b = &l->in[(start + i) % w->plan.loops];
            // A few of one, then a few of another: any order across producers.
            for (unsigned run = 1 + (start & 3); run > 0 && b->n > 0; run--) {
                struct msg *m = mail_take(l, b);
                if (!m)
                    break;
                left--;
                any = true;
                deliver(l, m);
            }
        }
    }
}

// ---- effects -----------------------------------------------------------------------------------------

static void run_effect(struct loop_of *l, const struct fx *f)
{
    struct world *w = l->w;
    switch (f->kind) {
    case FX_POST:
        if (f->msg->kind == MSG_LEND)
            clients_lend(l, container_of(f->msg, struct ticket, lend));
        mail_send(l, f->msg);
        break;
    case FX_DISPATCH:
        demands_on_dispatch(l, f->batch);
        calls_dispatch(l, f->batch);
        break;
    case FX_CANCEL:
        calls_cancel(l, f->batch);
        break;
    case FX_PROBE:
        demands_on_probe(l, replica_by_id(f->desk->user, f->replica));
        links_probe(l, replica_by_id(f->desk->user, f->replica)->worker);
        break;
    case FX_HANGS:
        links_silent(l, replica_by_id(f->desk->user, f->replica)->worker);
        break;
    case FX_USE:
        clients_use(l, f->model);
        break;
    case FX_SETTLE:
        clients_settle(l, f->infer);
        break;
    case FX_SHADOW:
        shadows_told(l, f->infer);
        break;
    case FX_RELEASE:
        clients_release(l, f->infer);
        break;
    case FX_UNREF:
        block_unref(f->block);
        break;
    case FX_WAKE:
        if (f->desk) {
            demand(w, NULL, f->desk->home == l->index, "a desk is woken on its home loop");
            ((struct model_of *)f->desk->user)->desk_wake_us = f->at_us;
        } else {
            l->flow_wake_us = f->at_us;
        }
        break;
    case FX_STORE_GET:
        store_get(l, f->ask);
        break;
    case FX_STORE_PUT:
        store_put(l, f->ask);
        break;
    case FX_NOTE:
        demands_on_note(l, &f->note);
        break;
    }
}

void world_effects(struct loop_of *l)
{
    for (unsigned i = 0; i < l->fx.n; i++) {
        struct fx f = l->fx.at[i];
        run_effect(l, &f);
    }
    l->fx.n = 0;
    demands_rooms(l->w);
}

// ---- models ------------------------------------------------------------------------------------------

void world_add_model(struct world *w, struct model_of *m)
{
    if (m->m)
        return;
    m->m = table_add(w->table, view_str(m->name), &m->rules);
    demand(w, NULL, m->m && model_home(m->m) == m->home, "a model has its home by its name");
    atomic_store(&m->m->user, m);
}

struct desk *world_desk(struct world *w, struct model_of *m)
{
    if (!m->desk) {
        m->desk = desk_new(m->m, m->home, rand_u64(&w->rand), w->loop[m->home].now_us);
        m->desk->user = m;
        m->m->desk = m->desk;
        desk_keep_in(m->desk, w->loop[m->home].cache);
        desk_on_chain(m->desk, w->table, m->chain.n > 0 ? &m->chain : NULL);

        desk_store_in(m->desk, w->plan.stored);
        m->alone_since_us = m->alone_us = m->second_us = w->now_us;
    }
    return m->desk;
}

// What its desk knew and the books keep of that desk is gone with it.
static void forget_desk(struct model_of *m)
{
    m->m = NULL;
    m->desk = NULL;
    m->desk_wake_us = SIM_NEVER;
    m->dirty = false;
    m->batches = m->tokens = m->first_us = 0;
    m->level = m->reckoned = 0;
    m->shut = false;
    m->moved_us = m->shut_us = m->eased_us = m->late_us = m->lost_us = m->out_us = 0;
    memset(m->sequence, 0, sizeof(m->sequence));
    for (unsigned i = 0; i < m->n_replicas; i++) {
        struct replica_of *r = &m->replica[i];
        r->failed = r->shamed = r->pauses = r->opened = 0;
        r->paused_until = 0;
        r->said_us = r->overdue_us = r->probed_us = 0;
        r->probe_due = false;
    }
}

// The doer's part is played in one step: it waits until no worker has the model, and no request refers to it.
static void remove_model(struct world *w, struct model_of *m)
{
    if (w->healed || m->configured || m->uses > 0 || !desk_is_idle(m->desk) ||
        !world_chance(w, 0.5))
        return;
    desk_free(m->desk);
    model_offer(m->m);
    demand(w, NULL, table_remove(w->table, m->m), "a model that no worker has can be removed");
    table_release(w->table, m->m);
    forget_desk(m);
    world_count(w, FAULT_REMOVED);
}

void world_memory(struct world *w, struct model_of *m)
{
    if (!w->healed && world_chance(w, w->plan.memory)) {
        mem_fail_at(1 + rand_below(&w->rand, 3));
        m->memory_us = w->now_us;
        excuse_until(&m->excuse, FAULT_MEMORY, w->now_us + 2000);
        world_count(w, FAULT_MEMORY);
    }
}

void world_memory_end(void)
{
    mem_fail_at(0);
}

// ---- turns -------------------------------------------------------------------------------------------

static void loop_faults(struct loop_of *l)
{
    struct world *w = l->w;
    if (w->healed || !world_chance(w, w->plan.loop_fault))
        return;
    if (rand_below(&w->rand, 2)) {
        l->frozen_until = w->now_us + rand_below(&w->rand, 20000);
        world_count(w, FAULT_CLOCK);
    } else {
        l->stalled_until = w->now_us + rand_below(&w->rand, 3000000);
        world_count(w, FAULT_STALL);
    }
    uint64_t until = most_us(l->stalled_until, l->frozen_until) + 2 * SIM_EPSILON_US;
    w->stalled_us = most_us(w->stalled_us, until);
    w->trouble_until = most_us(w->trouble_until, until);
}

static unsigned rank_of(uint32_t id, void *ctx)
{
    const struct replica_of *r = replica_by_id(ctx, id);
    return r ? replica_rank(r) : REPLICA_RANKS;
}

// As its home does when a configuration is taken up: between turns of its desk, which decides by the new ones next.
static void change_rules(struct loop_of *l, struct model_of *m)
{
    struct world *w = l->w;
    if (w->healed || !world_chance(w, w->plan.rules))
        return;
    plan_rules(m);
    desk_on_rules(m->desk, &m->rules);
    m->lesser_first ^= m->ranked && m->drawn % 2;
    desk_on_ranks(m->desk, rank_of, m, l->now_us, &l->fx);
    world_effects(l);
    m->rules_us = m->no_credit_us = w->now_us; // what is promised of waiting begins anew
    excuse_until(&m->excuse, FAULT_RULES, w->now_us + 20000);
    world_count(w, FAULT_RULES);
}

static void run_desks(struct loop_of *l)
{
    struct world *w = l->w;
    for (unsigned i = 0; i < w->plan.models; i++) {
        struct model_of *m = &w->model[i];
        if (m->home != l->index || !m->desk)
            continue;
        bool woken = m->desk_wake_us <= l->now_us;
        if (!woken && !m->dirty)
            continue;
        change_rules(l, m);
        world_memory(w, m);
        if (woken)
            m->desk_wake_us = SIM_NEVER;
        demands_credit(w, m);
        demands_before_run(w, m);
        (woken ? desk_on_wake : desk_run)(m->desk, l->now_us, &l->fx);
        world_memory_end();
        m->dirty = false;
        world_effects(l);
        kept_look(l, m);
        demands_credit(w, m);
        demands_decided(l, m);
        demands_standing(l, m);
        remove_model(w, m);
    }
}

// When it has something to do again. A clock that stands shows a time that is not yet there.
static void plan_wake(struct loop_of *l)
{
    struct world *w = l->w;
    uint64_t clock = least_us(l->flow_wake_us, await_wish_us(&l->await)), at = l->next_arrival_us;
    for (unsigned i = 0; i < w->plan.models; i++) {
        if (w->model[i].home == l->index)
            clock = least_us(clock, w->model[i].desk_wake_us);
    }
    if (clock != SIM_NEVER && clock < l->frozen_until)
        clock = l->frozen_until;
    if (l->n_agenda > 0)
        at = least_us(at, l->agenda[0].at_us);
    for (unsigned i = 0; i < w->plan.loops; i++) {
        struct mailbox *b = &l->in[i];
        if (b->n > 0)
            at = least_us(at, b->ring[b->head].at_us);
    }
    at = least_us(at, clock);
    if (at == SIM_NEVER) {
        l->wake_us = at;
        return;
    }
    at = at > w->now_us ? at : w->now_us;
    l->wake_us = at + rand_below(&w->rand, w->plan.turn_us + 1);
}

static void run_event(struct loop_of *l, const struct entry *e)
{
    switch (e->event) {
    case EVENT_GONE:
        clients_gone(l, e->p, e->tag);
        break;
    case EVENT_PINNED:
        pins_event(e);
        break;
    case EVENT_TOLD:
        late_event(e);
        break;
    case EVENT_STORED:
        store_event(l, e->p, e->tag);
        break;
    case EVENT_CALL:
        calls_event(l, e);
        break;
    case EVENT_TRY:
    case EVENT_CUT:
    case EVENT_TIMER:
    case EVENT_PROBED:
    case EVENT_DOUBT:
    case EVENT_CLOSE:
    case EVENT_NEWS:
        links_event(l, e);
        break;
    default:
        workers_event(l, e);
    }
}

static void turn(struct loop_of *l)
{
    struct world *w = l->w;
    block_owner_adopt(l->blocks);
    block_owner_collect(l->blocks);
    if (w->now_us >= l->frozen_until)
        l->now_us = w->now_us;
    loop_faults(l);
    clients_arrive(l);
    while (l->n_agenda > 0 && l->agenda[0].at_us <= w->now_us) {
        struct entry e = agenda_pop(l);
        run_event(l, &e);
        world_effects(l);
    }
    read_mail(l);
    late_turn(l);
    if (l->flow_wake_us <= l->now_us) {
        l->flow_wake_us = SIM_NEVER;
        flow_on_wake(&l->flow, l->now_us, &l->fx);
        world_effects(l);
    }
    run_desks(l);
    shadows_turn(l);
    kept_turn(l);
    store_turn(l);
    pins_turn(l);
    demands_turned(l);
    plan_wake(l);
}

// ---- a world's life ----------------------------------------------------------------------------------

static void begin(struct world *w, uint64_t seed)
{
    plan_draw(&w->plan, seed);
    rand_seed(&w->rand, seed);
    w->now_us = SIM_START_US;
    w->table = table_new(w->plan.loops);
    w->lives = calloc(w->plan.lives, sizeof(*w->lives));
    for (unsigned i = w->plan.lives; i-- > 0;) {
        w->lives[i].next = w->free_lives;
        w->free_lives = &w->lives[i];
    }
    struct flow_rules rules = {.deadline_us = 1000000,
                               .deadline_max_us = 5000000,
                               .shadows = 1 + (uint32_t)(seed % 16),
                               .shadow_bytes = (uint64_t[]){64, 1000, 1 << 20}[seed % 3]};
    if (w->plan.flood)
        rules.deadline_max_us = 500000000;
    struct error e;
    w->written = default_answer_read(
        VIEW("{\"outputs\":[{\"name\":\"y\",\"datatype\":\"UINT64\",\"shape\":[1],\"data\":[7]}]}"),
        &e);
    plan_models(w);
    store_open(w);
    trials_open(w);
    cache_pool_set(&w->kept, w->plan.kept_bytes, w->plan.loops);
    for (unsigned i = 0; i < w->plan.loops; i++) {
        struct loop_of *l = &w->loop[i];
        l->w = w;
        l->index = i;
        l->now_us = w->now_us;
        l->flow_wake_us = SIM_NEVER;
        l->blocks = aligned_alloc(64, (sizeof(*l->blocks) + 63) & ~(size_t)63);
        block_owner_init(l->blocks);
        effects_init(&l->fx, l->blocks);
        l->cache = cache_new(&w->kept, i);
        flow_init(&l->flow, i, w->table, &rules, seed + i, w->now_us);
        l->next_arrival_us = w->now_us + 20000 + world_exponential(w, w->arrival_us);
        l->wake_us = l->next_arrival_us;
    }
    for (unsigned i = 0; i < w->plan.models; i++) {
        struct model_of *m = &w->model[i];
        if (m->configured)
            world_add_model(w, m);
        else
            world_count(w, FAULT_BORN);
    }
    late_open(w);
    workers_start(w);
}

static void end(struct world *w)
{
    for (unsigned i = 0; i < w->plan.models; i++) {
        if (w->model[i].desk)
            desk_free(w->model[i].desk);
    }
    for (unsigned i = 0; i < w->plan.loops; i++) {
        struct loop_of *l = &w->loop[i];
        block_owner_adopt(l->blocks);
        cache_free(l->cache);
        for (unsigned k = 0; k < 8; k++) {
            if (l->pinned[k])
                block_unref(l->pinned[k]);
        }
    }
    for (unsigned i = 0; i < w->plan.loops; i++) {
        struct loop_of *l = &w->loop[i];
        block_owner_adopt(l->blocks);
        block_owner_collect(l->blocks);
        demand(w, NULL, l->blocks->live_blocks == 0 && l->blocks->live_bytes == 0,
               "every block was given back");
        block_owner_deinit(l->blocks);
        free(l->blocks);
        flow_deinit(&l->flow);
        effects_deinit(&l->fx);
        free(l->agenda);
        for (unsigned k = 0; k < SIM_LOOPS; k++)
            free(l->in[k].ring);
    }
    table_free(w->table);
    default_answer_free(w->written);
    store_free(w);
    trials_free(w);
    while (w->free_calls) {
        struct call *c = w->free_calls;
        w->free_calls = c->next;
        free(c);
    }
    free(w->lives);
}

static struct loop_of *next_loop(struct world *w)
{
    struct loop_of *best = NULL;
    uint64_t best_us = SIM_NEVER;
    for (unsigned i = 0; i < w->plan.loops; i++) {
        struct loop_of *l = &w->loop[i];
        uint64_t at = l->wake_us;
        if (at != SIM_NEVER)
            at = most_us(at, l->stalled_until);
        if (at < best_us) {
            best_us = at;
            best = l;
        }
    }
    if (best && best_us > w->now_us)
        w->now_us = best_us;
    return best;
}

// No request is left, and all workers are there again; only probes go on.
static bool is_at_rest(const struct world *w)
{
    if (!w->healed || w->alive > 0 || w->asks_out > 0)
        return false;
    for (unsigned i = 0; i < w->plan.workers; i++) {
        const struct worker_of *k = &w->worker[i];
        if (k->process != PROCESS_RUNS || k->stopping)
            return false;
        for (unsigned j = 0; j < k->n_replicas; j++) {
            if (!replica_used(k->replica[j]) || !k->replica[j]->connected)
                return false;
        }
    }
    return true;
}

void world_run(struct world *w, uint64_t seed, uint64_t trace)
{
    *w = (struct world){.trace = trace};
    begin(w, seed);
    uint64_t turns = 0, healed_us = SIM_NEVER;
    for (struct loop_of *l; !is_at_rest(w) && (l = next_loop(w)) != NULL;) {
        turn(l);
        if (!w->healed && w->submitted == w->plan.lives) {
            w->healed = true;
            healed_us = w->now_us;
            workers_heal(w);
            pins_heal(w);
        }
        demand(w, NULL, ++turns < TURNS_MAX, "a world takes a bounded number of turns");
        demand(w, NULL, !w->healed || w->now_us < healed_us + REST_US,
               "a healed world comes to rest");
    }
    demands_at_rest(w);
    w->totals.virtual_us = w->now_us - SIM_START_US;
    end(w);
}
