/* Workers that come late, tell late what they have, or cannot be reached for long. Who asks meanwhile for what they may have
 * waits at its origin: router/await says whose turn it is; what gateway/origin and gateway/awaiting do is played here. A loop
 * hears of each worker by itself, once, and of those that take another's place anew. */
#include "tests/sim/sim.h"

#include <stdio.h>

#define ASK_US 3000       // one that has nothing to tell yet is asked again within so long
#define HELD_UP 200       // once in so many of those who wait a turn has no time for the next one
#define NEARLY_OUT 100000 // microseconds that one which is not reached is still waited for

static void ask_soon(struct teller *t, uint64_t within_us)
{
    struct world *w = t->worker->w;
    world_at(w, &w->loop[t->loop], w->now_us + rand_below(&w->late, within_us + 1), EVENT_TOLD, t,
             t->worker->id);
}

static void teller_begins(struct teller *t, uint64_t known_for_us)
{
    t->of = (struct await_worker){.since_us = t->worker->w->now_us - known_for_us};
    ask_soon(t, t->worker->w->late_us);
}

void late_open(struct world *w)
{
    if (!w->plan.late)
        return;
    rand_seed(&w->late, w->plan.seed * 1000081 + 17);
    uint64_t all_us = (uint64_t)(w->arrival_us * w->plan.lives / w->plan.loops);
    w->late_us = (uint64_t[]){20000, 200000, all_us}[rand_below(&w->late, 3)];
    bool nearly = rand_below(&w->late, 4) == 0;
    for (unsigned i = 0; i < w->plan.loops; i++) {
        for (unsigned k = 0; k < w->plan.workers; k++) {
            struct teller *t = &w->loop[i].teller[k];
            t->worker = &w->worker[k];
            t->loop = i;
            teller_begins(t, nearly ? AWAIT_UNREACHED_US - NEARLY_OUT : 0);
        }
    }
}

uint64_t late_start_us(struct world *w)
{
    return w->plan.late ? rand_below(&w->late, w->late_us + 1) : 0;
}

void late_another(struct worker_of *k)
{
    struct world *w = k->w;
    for (unsigned i = 0; w->plan.late && i < w->plan.loops; i++)
        teller_begins(&w->loop[i].teller[k - w->worker], 0);
}

static bool may_tell(const struct worker_of *k)
{
    bool whole = workers_answers(k) && k->stopping == 0;
    for (unsigned i = 0; i < k->n_replicas; i++)
        whole &= k->replica[i]->loaded;
    return whole;
}

void late_event(const struct entry *e)
{
    struct teller *t = e->p;
    struct worker_of *k = t->worker;
    struct loop_of *l = &k->w->loop[t->loop];
    if (e->tag != k->id || t->of.told)
        return;
    if (!may_tell(k)) {
        ask_soon(t, ASK_US);
        return;
    }
    t->of.told = true;
    tell(k->w, "worker %u: loop %u knows what it has", k->id, l->index);
    for (unsigned i = 0; i < k->n_replicas; i++)
        world_add_model(k->w, k->replica[i]->model);
    l->told_us = l->now_us;
    await_soon(&l->await, l->now_us);
}

static bool is_unheard(const struct loop_of *l, const struct model_of *m)
{
    if (!l->w->plan.late || (m->m && atomic_load(&m->m->ready) > 0))
        return false;
    for (unsigned i = 0; i < l->w->plan.workers; i++) {
        struct await_worker k = l->teller[i].of;
        k.asked = workers_answers(l->teller[i].worker);
        if (await_expects(&k, l->now_us))
            return true;
    }
    return false;
}

bool late_unheard(const struct world *w, const struct life *x)
{
    return is_unheard(&w->loop[x->loop], x->model);
}

bool late_begins(struct loop_of *l, struct life *x)
{
    const struct model_of *m = x->model;
    if (!is_unheard(l, m) || (m->m && m->chain.n > 0))
        return false;
    x->in.deadline_us = flow_deadline(&l->flow, &x->in, m->m);
    if (l->now_us >= x->in.deadline_us)
        return false;
    await_begin(&l->await, &x->awaits, x->in.deadline_us, l->now_us);
    x->looked_us = l->now_us;
    return true;
}

// No flow has had it.
static void ends(struct loop_of *l, struct life *x, enum status status)
{
    struct world *w = l->w;
    x->settled = true;
    snprintf(x->told, sizeof(x->told), "%s while it waited", status_table[status].name);
    trace(w, x, "settles: %s", x->told);
    w->totals.settled[status]++;
    w->totals.lives++;
    uint64_t word[2] = {x->id << 8 | status, w->now_us};
    w->digest = hash64(view_of(word, sizeof(word)), w->digest);
    clients_over(w, x);
}

void late_gone(struct loop_of *l, struct life *x)
{
    await_leave(&l->await, &x->awaits);
    ends(l, x, STATUS_CLIENT_GONE);
}

static void again(struct loop_of *l, struct life *x)
{
    uint64_t latest = most_us(x->in.deadline_us, most_us(l->stalled_until, l->frozen_until));
    demand(l->w, x, x->live && !x->settled, "who waits is there");
    demand(l->w, x, l->w->now_us <= latest + SIM_EPSILON_US, "nobody waits past its deadline");
    if (late_begins(l, x))
        return;
    if (is_unheard(l, x->model) && l->now_us >= x->in.deadline_us) {
        ends(l, x, STATUS_DEADLINE);
        return;
    }
    trace(l->w, x, "goes on");
    clients_go_on(l, x);
}

// All have had their turn that wanted one: those whose time has come, those to whom something was told, and everyone a moment ago.
static void look_over(const struct loop_of *l)
{
    unsigned n = 0;
    for (const struct await_one *o = l->await.first; o; o = o->next, n++) {
        const struct life *x = container_of(o, struct life, awaits);
        demand(l->w, x, o->waits && x->loop == l->index, "who waits, waits at its origin");
        demand(l->w, x, l->now_us < x->in.deadline_us, "whose time has come has had its turn");
        demand(l->w, x, x->looked_us >= l->told_us, "what a worker told is told to all who wait");
        demand(l->w, x, l->now_us < x->looked_us + AWAIT_LOOK_US, "nobody is forgotten");
    }
    demand(l->w, NULL, n == l->await.n, "those who wait are counted");
}

void late_turn(struct loop_of *l)
{
    struct await_one *o;
    bool held_up = false;
    while (!held_up && (o = await_next(&l->await, l->now_us)) != NULL) {
        again(l, container_of(o, struct life, awaits));
        world_effects(l);
        held_up = rand_below(&l->w->late, HELD_UP) == 0;
    }
    if (await_wish_us(&l->await) > l->now_us) // else another look follows at once
        look_over(l);
}
