#include "tests/sim/sim.h"

#include <math.h>

#define FAULT_US 50000      // mean time that most last
#define LONG_US 5000000     // likewise, where nothing else happens
#define STUCK_US 1500000    // mean time that a device stands still
#define FOREVER_US 20000000 // until somebody does something about it
#define ROLL_US 60000       // from one worker's turn to the next, at least

void faults_next(struct worker_of *k)
{
    struct world *w = k->w;
    if (w->plan.fault_us > 0 && w->plan.weights > 0 && !w->healed)
        world_at(w, &w->loop[k->owner], w->now_us + world_exponential(w, (double)w->plan.fault_us),
                 EVENT_FAULT, k, 0);
}

static enum fault fault_draw(struct world *w)
{
    unsigned at = (unsigned)rand_below(&w->rand, w->plan.weights), f = 0;
    for (; at >= w->plan.weight[f]; f++)
        at -= w->plan.weight[f];
    return (enum fault)f;
}

static struct replica_of *some_replica(struct worker_of *k)
{
    return k->replica[rand_below(&k->w->rand, k->n_replicas)];
}

// All of a model's replicas are exchanged, one after the other, for some that say something else of themselves.
static void reload(struct model_of *m)
{
    struct world *w = m->w;
    m->generation++;
    if (m->max_batch > 0)
        m->max_batch = SIM_ROWS / 2 + (uint32_t)rand_below(&w->rand, 61);
    for (unsigned i = 0; i < m->n_replicas; i++)
        workers_unload(&m->replica[i], rand_below(&w->rand, 20000));
}

static void overload(struct worker_of *k, uint64_t for_us)
{
    k->bound = (unsigned)rand_below(&k->w->rand, 3);
    k->overload_until = k->w->now_us + for_us;
    excuse_until(&k->excuse, FAULT_OVERLOAD, k->overload_until + 1000000);
}

static void slow(struct worker_of *k, uint64_t for_us)
{
    double us = 0;
    for (unsigned i = 0; i < k->n_replicas; i++)
        us += calls_time_us(k->replica[i]->model, 64);
    k->slow_until = k->w->now_us + for_us;
    excuse_until(&k->excuse, FAULT_SLOW, k->slow_until + 20 * (uint64_t)us);
}

static void flap(struct worker_of *k)
{
    struct world *w = k->w;
    bool all = rand_below(&w->rand, 2);
    excuse_until(&k->excuse, FAULT_FLAP, w->now_us + 20000);
    for (unsigned i = 0; i < w->plan.loops; i++) {
        if (all || rand_below(&w->rand, 2))
            links_cut_soon(&k->link[i], world_soon(w, 1000));
    }
}

static void replica_fails(struct replica_of *r, enum fault f, uint64_t for_us)
{
    uint64_t until_us = r->worker->w->now_us + for_us;
    *(f == FAULT_REFUSE ? &r->refuse_until : &r->broken_until) = until_us;
    excuse_until(&r->worker->excuse, f, until_us + 1000000);
}

static void fault(struct worker_of *k, enum fault f)
{
    struct world *w = k->w;
    uint64_t for_us = world_exponential(w, w->plan.silent ? LONG_US : FAULT_US);
    switch (f) {
    case FAULT_CRASH:
        workers_crash(k, f);
        break;
    case FAULT_EXIT:
        workers_exit(k);
        break;
    case FAULT_HANG:
        workers_stand(k, PROCESS_HANGS, rand_below(&w->rand, 2) ? for_us : FOREVER_US);
        break;
    case FAULT_STUCK:
        workers_stand(k, PROCESS_STUCK,
                      w->plan.silent ? FOREVER_US : world_exponential(w, STUCK_US));
        break;
    case FAULT_SLOW:
        slow(k, for_us);
        break;
    case FAULT_STOP:
        workers_stop(k);
        break;
    case FAULT_UNLOAD:
        workers_unload(some_replica(k), for_us);
        break;
    case FAULT_RELOAD:
        reload(some_replica(k)->model);
        break;
    case FAULT_OVERLOAD:
        overload(k, 4 * for_us);
        break;
    case FAULT_FLAP:
        flap(k);
        break;
    default:
        replica_fails(some_replica(k), f, for_us);
    }
}

void faults_strike(struct worker_of *k)
{
    struct world *w = k->w;
    if (w->healed)
        return;
    enum fault f = fault_draw(w);
    if (k->process == PROCESS_RUNS && !k->stopping) {
        world_count(w, f);
        tell(w, "worker %u: fault %s", k->id, fault_name[f]);
        fault(k, f);
    }
    faults_next(k);
}

// ---- one after the other -----------------------------------------------------------------------------

static bool all_is_well(const struct world *w)
{
    for (unsigned i = 0; i < w->plan.models; i++) {
        const struct model_of *m = &w->model[i];
        for (unsigned j = 0; j < m->n_replicas; j++) {
            const struct replica_of *r = &m->replica[j];
            if (!replica_used(r) || !r->loaded || r->worker->process != PROCESS_RUNS)
                return false;
        }
    }
    return true;
}

// Who lost a batch has time to be answered by the other: three losses are enough for the gateway to give it up.
static uint64_t roll_us(struct world *w)
{
    double us = ROLL_US;
    for (unsigned i = 0; i < w->plan.models; i++)
        us = fmax(us, 2 * demands_batch_us(&w->model[i]));
    return (uint64_t)us + rand_below(&w->rand, ROLL_US);
}

// A worker is restarted, killed or emptied; the next one when all are there again.
void faults_roll(struct worker_of *k)
{
    static const enum fault ways[] = {FAULT_STOP, FAULT_CRASH, FAULT_EXIT, FAULT_UNLOAD,
                                      FAULT_HANG};
    struct world *w = k->w;
    if (w->healed)
        return;
    struct worker_of *next = &w->worker[k->id % SIM_IDS % w->plan.workers];
    bool turn = all_is_well(w);
    if (turn) {
        // Who hangs is found out before the deadlines of those aboard.
        bool quick = 3 * demands_patience_us(k) < k->replica[0]->model->rules.deadline_us;
        enum fault f = ways[rand_below(&w->rand, quick ? 5 : 4)];
        world_count(w, f);
        tell(w, "worker %u: fault %s", k->id, fault_name[f]);
        fault(k, f);
    }
    world_at(w, &w->loop[next->owner], w->now_us + roll_us(w), EVENT_ROLL, turn ? next : k, 0);
}
