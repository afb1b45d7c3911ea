#include "tests/sim/sim.h"

#define START_US 100000 // mean time from an end to the next start
#define STOP_STEP_US 20000
#define HEAL_US 50000
#define MASK_40 ((1ull << 40) - 1)

static struct loop_of *owner_of(struct worker_of *k)
{
    return &k->w->loop[k->owner];
}

static void worker_at(struct worker_of *k, uint64_t at_us, enum event event, uint64_t tag)
{
    world_at(k->w, owner_of(k), at_us, event, k, tag);
}

static void worker_enters(struct worker_of *k, enum process p)
{
    static const char *const name[] = {"is dead", "runs", "hangs", "is stuck"};
    tell(k->w, "worker %u %s (was process %u)", k->id, name[p], k->incarnation);
    k->process = p;
    k->since_us = k->w->now_us;
    k->state = ++k->w->tag;
    memset(k->free_us, 0, sizeof(k->free_us));
}

uint64_t workers_compute(struct worker_of *k, uint64_t us)
{
    uint64_t *first = &k->free_us[0];
    for (unsigned i = 1; i < k->instances; i++) {
        if (k->free_us[i] < *first)
            first = &k->free_us[i];
    }
    *first = most_us(*first, k->w->now_us) + us + 1;
    return *first;
}

// ---- the end of a process ----------------------------------------------------------------------------

// When a connection's own end is seen. Seldom it is not: a machine that lost its power says nothing.
static void ends_seen(struct worker_of *k)
{
    struct world *w = k->w;
    uint64_t late_us = 500;
    unsigned luck = w->healed || w->plan.rolling ? 0 : (unsigned)rand_below(&w->rand, 20);
    if (luck == 1 && !k->local) {
        world_count(w, FAULT_NO_END);
        excuse_until(&k->excuse, FAULT_NO_END, w->now_us + demands_patience_us(k));
        return;
    }
    if (luck > 17)
        late_us = 20000;
    for (unsigned i = 0; i < w->plan.loops; i++)
        links_cut_soon(&k->link[i], world_soon(w, late_us));
}

// The keeper's word comes to every loop, before or after the end of its connection, or never.
static void word_comes(struct worker_of *k, bool crashed)
{
    struct world *w = k->w;
    if (!k->local)
        return;
    if (rand_below(&w->rand, 20) == 0) {
        world_count(w, FAULT_NO_WORD);
        return;
    }
    uint64_t at_us = world_soon(w, rand_below(&w->rand, 3) ? 5000 : 300);
    for (unsigned i = 0; i < w->plan.loops; i++)
        world_at(w, &w->loop[i], at_us + rand_below(&w->rand, w->plan.mail_us + 1), EVENT_WORD, k,
                 (uint64_t)k->id << 40 | (uint64_t)k->incarnation << 1 | crashed);
}

static void process_ends(struct worker_of *k, bool crashed, uint64_t start_us)
{
    struct world *w = k->w;
    if (k->process == PROCESS_DEAD)
        return;
    k->stopping = 0;
    worker_enters(k, PROCESS_DEAD);
    w->crashed[k->incarnation % SIM_INCARNATIONS] = crashed;
    for (unsigned i = 0; i < w->plan.loops; i++)
        calls_stall(&k->link[i]);
    ends_seen(k);
    word_comes(k, crashed);
    worker_at(k, start_us, EVENT_START, k->state);
    worker_at(k, w->now_us + demands_patience_us(k), EVENT_JUDGE, k->state);
}

static uint64_t start_time(struct worker_of *k)
{
    return k->w->now_us + 1000 + world_exponential(k->w, START_US);
}

void workers_crash(struct worker_of *k, enum fault why)
{
    excuse_until(&k->excuse, why, k->w->now_us);
    process_ends(k, true, start_time(k));
}

void workers_exit(struct worker_of *k)
{
    excuse_until(&k->excuse, FAULT_EXIT, k->w->now_us);
    process_ends(k, false, start_time(k));
}

// It hangs, says the gateway.
void workers_hang_word(struct loop_of *l, struct worker_of *k, uint32_t incarnation)
{
    if (k->local)
        worker_at(k, world_soon(l->w, 3000), EVENT_KILL, incarnation);
}

static void keeper_kills(struct worker_of *k, uint32_t incarnation)
{
    if (k->incarnation != incarnation || k->process == PROCESS_DEAD)
        return;
    world_count(k->w, FAULT_KILLED);
    excuse_until(&k->excuse, FAULT_KILLED, k->w->now_us);
    process_ends(k, false, k->w->now_us + 2000 + rand_below(&k->w->rand, 10000));
}

static void keeper_says(struct loop_of *l, struct worker_of *k, uint64_t word)
{
    struct world *w = l->w;
    for (unsigned i = 0; i < k->n_replicas; i++) {
        struct model_of *m = k->replica[i]->model;
        if (m->home != l->index || !m->desk)
            continue;
        demands_credit(w, m);
        demands_before_word(m);
        desk_on_process_end(m->desk, (uint32_t)(word >> 40), (uint32_t)((word & MASK_40) >> 1),
                            word & 1, l->now_us, &l->fx);
        demands_after_word(l, m);
        m->dirty = true;
        world_effects(l);
    }
}

// ---- start -------------------------------------------------------------------------------------------

static bool is_left(const struct worker_of *k)
{
    for (unsigned i = 0; i < k->w->plan.loops; i++) {
        if (k->link[i].up)
            return false;
    }
    for (unsigned i = 0; i < k->n_replicas; i++) {
        const struct replica *known = replica_known(k->replica[i]);
        if (known && (known->up || known->differs || known->batches > 0))
            return false;
    }
    return true;
}

// By another configuration the one that has ended comes no more, and this is another, of which nobody knows anything.
// What is still said of the first (the keeper's word, tickets that were lost with it) is not about this one.
static void takes_place(struct worker_of *k)
{
    struct world *w = k->w;
    if (w->healed || w->plan.rules == 0 || rand_below(&w->rand, 3) > 0 || !is_left(k))
        return;
    for (unsigned i = 0; i < k->n_replicas; i++) {
        struct replica_of *r = k->replica[i];
        if (r->model->desk)
            desk_on_replica_gone(r->model->desk, k->id, w->loop[r->model->home].now_us);
        demand(w, NULL, !replica_known(r), "a desk forgets who comes no more");
        r->failed = r->shamed = r->pauses = r->opened = 0;
        r->paused_until = r->said_us = r->overdue_us = r->probed_us = 0;
        r->probe_due = r->silent = false;
    }
    memset(&k->vitals, 0, sizeof(k->vitals));
    memset(&k->device, 0, sizeof(k->device));
    k->id += SIM_IDS;
    world_count(w, FAULT_ANOTHER);
    tell(w, "worker %u is another one", k->id);
    late_another(k);
}

static void process_starts(struct worker_of *k)
{
    struct world *w = k->w;
    takes_place(k);
    worker_enters(k, PROCESS_RUNS);
    k->incarnation = ++w->incarnations;
    k->slow_until = k->overload_until = 0;
    for (unsigned i = 0; i < k->n_replicas; i++) {
        struct replica_of *r = k->replica[i];
        r->loaded = false;
        r->refuse_until = r->broken_until = 0;
        uint64_t load_us = w->plan.calm && k->incarnation <= w->plan.workers ? 0 : 20000;
        world_at(w, owner_of(k), world_soon(w, load_us), EVENT_LOAD, r, k->state);
    }
    for (unsigned i = 0; i < w->plan.loops; i++)
        links_try_soon(&k->link[i], 3000);
}

static void replica_loads(struct replica_of *r)
{
    struct worker_of *k = r->worker;
    if (k->process == PROCESS_DEAD)
        return;
    r->loaded = true;
    for (unsigned i = 0; i < k->w->plan.loops; i++)
        links_news_soon(&k->link[i], 2000);
}

void workers_unload(struct replica_of *r, uint64_t for_us)
{
    struct worker_of *k = r->worker;
    if (k->process != PROCESS_RUNS || !r->loaded)
        return;
    r->loaded = false;
    excuse_until(&k->excuse, FAULT_UNLOAD, k->w->now_us + for_us);
    world_at(k->w, owner_of(k), k->w->now_us + for_us, EVENT_LOAD, r, k->state);
}

// ---- it stands still, and goes on --------------------------------------------------------------------

void workers_stand(struct worker_of *k, enum process how, uint64_t for_us)
{
    struct world *w = k->w;
    if (k->process != PROCESS_RUNS)
        return;
    worker_enters(k, how);
    for (unsigned i = 0; i < w->plan.loops; i++) {
        calls_stall(&k->link[i]);
        k->link[i].unread = 0;
    }
    worker_at(k, w->now_us + for_us, EVENT_RESUME, k->state);
    worker_at(k, w->now_us + demands_patience_us(k), EVENT_JUDGE, k->state);
}

static void worker_resumes(struct worker_of *k)
{
    struct world *w = k->w;
    uint64_t stood_us = w->now_us - k->since_us;
    if (k->process != PROCESS_HANGS && k->process != PROCESS_STUCK)
        return;
    excuse_until(&k->excuse, k->process == PROCESS_HANGS ? FAULT_HANG : FAULT_STUCK,
                 w->now_us + (stood_us < 100000 ? stood_us : 100000));
    worker_enters(k, PROCESS_RUNS);
    for (unsigned i = 0; i < w->plan.loops; i++) {
        links_resumed(&k->link[i]);
        calls_resume(&k->link[i]);
    }
}

// ---- it stops as Triton does -------------------------------------------------------------------------

void workers_stop(struct worker_of *k)
{
    if (k->process != PROCESS_RUNS || k->stopping)
        return;
    k->stopping = 1;
    tell(k->w, "worker %u is stopping", k->id);
    k->listed = rand_below(&k->w->rand, 2);
    k->refuses = rand_below(&k->w->rand, 3) == 0;
    worker_at(k, world_soon(k->w, STOP_STEP_US), EVENT_STEP, k->state);
}

static void worker_steps(struct worker_of *k)
{
    if (++k->stopping == 2)
        worker_at(k, world_soon(k->w, STOP_STEP_US), EVENT_STEP, k->state);
    else
        workers_exit(k);
}

// ---- events ------------------------------------------------------------------------------------------

static void state_event(struct loop_of *l, struct worker_of *k, const struct entry *e)
{
    if (k->state != e->tag)
        return; // it is something else by now
    switch (e->event) {
    case EVENT_START:
        process_starts(k);
        break;
    case EVENT_RESUME:
        worker_resumes(k);
        break;
    case EVENT_STEP:
        worker_steps(k);
        break;
    default: // EVENT_JUDGE
        demands_judge(l, k);
    }
}

void workers_event(struct loop_of *l, const struct entry *e)
{
    struct worker_of *k = e->p;
    struct replica_of *r = e->p;
    switch (e->event) {
    case EVENT_WORD:
        keeper_says(l, k, e->tag);
        break;
    case EVENT_KILL:
        keeper_kills(k, (uint32_t)e->tag);
        break;
    case EVENT_FAULT:
        faults_strike(k);
        break;
    case EVENT_ROLL:
        faults_roll(k);
        break;
    case EVENT_LOAD:
        if (r->worker->state == e->tag || r->worker->process != PROCESS_DEAD)
            replica_loads(r);
        break;
    default:
        state_event(l, k, e);
    }
}

void workers_start(struct world *w)
{
    for (unsigned i = 0; i < w->plan.workers; i++) {
        struct worker_of *k = &w->worker[i];
        k->process = PROCESS_DEAD;
        k->state = ++w->tag;
        excuse_until(&k->excuse, FAULT_BORN, w->now_us);
        worker_at(k, world_soon(w, 8000) + late_start_us(w), EVENT_START, k->state);
        faults_next(k);
    }
    if (w->plan.rolling)
        worker_at(&w->worker[0], w->now_us + 100000, EVENT_ROLL, 0);
}

// From now on nothing goes wrong any more; what stands still is replaced.
void workers_heal(struct world *w)
{
    for (unsigned i = 0; i < w->plan.workers; i++) {
        struct worker_of *k = &w->worker[i];
        k->slow_until = k->overload_until = 0;
        for (unsigned j = 0; j < k->n_replicas; j++)
            k->replica[j]->refuse_until = k->replica[j]->broken_until = 0;
        if (k->process == PROCESS_HANGS || k->process == PROCESS_STUCK)
            workers_crash(k, FAULT_CRASH);
        if (k->process == PROCESS_DEAD) {
            k->state = ++w->tag;
            worker_at(k, w->now_us + HEAL_US, EVENT_START, k->state);
        }
    }
    w->trouble_until = most_us(w->trouble_until, w->now_us + 2 * HEAL_US);
}
