#include "gateway/removal.h"

#include "base/check.h"
#include "base/mem.h"
#include "gateway/card.h"
#include "gateway/doors.h"
#include "gateway/homes.h"
#include "gateway/workers.h"

#define LOOK_US 1000000
#define GONE_US 60000000ull   // a worker that was asked has it no more
#define AWAY_US 3600000000ull // one that had it is away

struct removal {
    struct loop_task task; // to the loop that it visits, or back to the main thread
    struct gateway *gateway;
    struct model *model;
    unsigned visited;             // loops that are done with it
    struct removal *next_waiting; // of part.removals: that loop is not done
    struct removal *next, **prev; // of gateway.removals
};

// ---- its home: who is idle ---------------------------------------------------------------------------

// A replica is missed no longer than its model would be.
static void forget_lost(const struct part *p, struct model *m, uint64_t now_us)
{
    struct replicas *rs = m->desk ? &m->desk->replicas : NULL;
    for (unsigned i = 0; rs && rs->n_known > rs->n_up && i < rs->n; i++) {
        struct replica *r = &rs->at[i];
        if (!r->lost)
            continue;
        bool there = workers_asked(p, r->id);
        if (now_us - r->lost_us < (there ? DOOR_GONE_US(GONE_US) : AWAY_US))
            continue;
        replicas_forget(rs, r->id, now_us);
        home_touch(m->desk->user);
    }
}

// Requests do not count: they keep a model alive that has left the table, but not in it.
static void look_at_model(const struct part *p, struct model *m, uint64_t now_us)
{
    if (m->rules.listed || (m->desk && !replicas_absent(&m->desk->replicas)))
        m->idle_us = 0;
    else if (m->idle_us == 0)
        m->idle_us = now_us;
    else if (now_us - m->idle_us >= (workers_deny(p, m) ? DOOR_GONE_US(GONE_US) : AWAY_US))
        model_offer(m);
}

static void look_at_models(struct part *p, uint64_t now_us)
{
    for (unsigned i = 0; i < TABLE_MODELS; i++) {
        struct model *m = table_at(p->gateway->table, i);
        if (!m || model_home(m) != p->loop->index)
            continue;
        forget_lost(p, m, now_us);
        look_at_model(p, m, now_us);
    }
}

// ---- from loop to loop -------------------------------------------------------------------------------

static void on_back(struct loop *l, struct loop_task *t);
static void on_visit(struct loop *l, struct loop_task *t);

// The loops after its home, round to its home.
static void send_on(struct removal *r, struct loop *from)
{
    struct loops *loops = &r->gateway->loops;
    bool over = r->visited == loops->n;
    unsigned next = (model_home(r->model) + 1 + r->visited) % loops->n;
    r->task.fn = over ? on_back : on_visit;
    loop_post_task(from, over ? &r->gateway->main : loops->loop[next], &r->task);
}

static bool may_leave(struct part *p, struct model *m)
{
    if (p->uses[m->index] > 0)
        return false;
    return model_home(m) != p->loop->index || homes_drop(p, m);
}

static void visit(struct part *p, struct removal *r)
{
    if (!may_leave(p, r->model)) {
        r->next_waiting = p->removals;
        p->removals = r;
        return;
    }
    r->visited++;
    send_on(r, p->loop);
}

static void on_visit(struct loop *l, struct loop_task *t)
{
    struct removal *r = container_of(t, struct removal, task);
    visit(r->gateway->parts[l->index], r);
}

static void on_look(struct wheel_timer *t, uint64_t now_us)
{
    struct part *p = container_of(t, struct part, look_timer);
    struct removal *waiting = p->removals, *next;
    p->removals = NULL;
    for (struct removal *r = waiting; r; r = next) {
        next = r->next_waiting;
        visit(p, r);
    }
    look_at_models(p, now_us);
    workers_retry(p);
    wheel_set(loop_wheel(p->loop), t, now_us + LOOK_US);
}

void removals_watch(struct part *p)
{
    p->look_timer.fn = on_look;
    wheel_set(loop_wheel(p->loop), &p->look_timer, loop_now_us(p->loop) + LOOK_US);
}

// ---- the main thread ---------------------------------------------------------------------------------

// Whoever has found the model in its table reads the counts of all loops within that turn: they go when each loop has
// had a turn since.
static void removal_free(struct removal *r)
{
    for (unsigned i = 0; i < r->gateway->loops.n; i++)
        if (r->gateway->parts[i])
            metrics_drop(&r->gateway->parts[i]->metrics, r->model);
    card_free(r->model);
    table_release(r->gateway->table, r->model);
    if (r->next)
        r->next->prev = r->prev;
    *r->prev = r->next;
    mem_free(r);
}

static void on_back(struct loop *l, struct loop_task *t)
{
    struct removal *r = container_of(t, struct removal, task);
    (void)l;
    GATEWAY_EVENT(r->gateway, NULL, LOG_INFO, "model_removed", LOG_S("model", r->model->name));
    removal_free(r);
}

static void remove_model(struct gateway *g, struct model *m)
{
    struct removal *r = mem_zalloc(sizeof(*r));
    if (!r || !table_remove(g->table, m)) { // next time; or somebody has it again
        mem_free(r);
        return;
    }
    r->gateway = g;
    r->model = m;
    r->next = g->removals;
    r->prev = &g->removals;
    if (r->next)
        r->next->prev = &r->next;
    g->removals = r;
    send_on(r, &g->main);
}

static void on_sweep(struct wheel_timer *t, uint64_t now_us)
{
    struct gateway *g = container_of(t, struct gateway, sweep_timer);
    for (unsigned i = 0; i < TABLE_MODELS; i++) {
        struct model *m = table_at(g->table, i);
        // One that has a section again, of which its home has not heard yet, stays.
        if (m && atomic_load(&m->life) == MODEL_IDLE && !snapshot_model(g->snap, m->name))
            remove_model(g, m);
    }
    chains_look(g);
    experiments_look(g);
    wheel_set(loop_wheel(&g->main), t, now_us + LOOK_US);
}

void removals_start(struct gateway *g)
{
    g->sweep_timer.fn = on_sweep;
    wheel_set(loop_wheel(&g->main), &g->sweep_timer, loop_now_us(&g->main) + LOOK_US);
}

void removals_free(struct gateway *g)
{
    wheel_cancel(loop_wheel(&g->main), &g->sweep_timer);
    while (g->removals)
        removal_free(g->removals);
}
