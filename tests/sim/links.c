#include "tests/sim/sim.h"

#define ANSWER_US 400 // a probe is answered within so long
#define PROBE_BYTES 40
#define RETRY_US 20000 // a connection is tried again within so long

static struct loop_of *link_loop(const struct link_of *k)
{
    return &k->worker->w->loop[k->loop];
}

static void link_at(struct link_of *k, uint64_t at_us, enum event event, uint64_t tag)
{
    world_at(k->worker->w, link_loop(k), at_us, event, k, tag);
}

static bool link_owns(const struct link_of *k)
{
    return k->worker->owner == k->loop;
}

// ---- what is told to the desks of this loop ----------------------------------------------------------

static void model_up(struct loop_of *l, struct replica_of *r)
{
    struct model_of *m = r->model;
    struct world *w = m->w;
    const struct link_of *k = link_at_home(r);
    world_add_model(w, m);
    r->connected = true;
    r->paused_until = 0;
    r->generation = m->generation;
    r->max_batch = replica_batch(r);
    excuse_until(&r->worker->excuse, FAULT_BORN, w->now_us + 2000);
    struct replica_facts facts = {.max_batch = r->max_batch,
                                  .rank = replica_rank(r),
                                  .instances = r->worker->instances,
                                  .metadata = {r->generation, 7},
                                  .versions = (struct view[]){VIEW("1"), VIEW("2")},
                                  .n_versions = r->second ? 2 : 1};
    facts.incarnation = r->worker->local ? k->incarnation : 0;
    facts.vitals = &r->worker->vitals;
    if (r->worker->serial) {
        facts.device = &r->worker->device;
        facts.turn = &r->worker->link[l->index].turn;
    }
    world_desk(w, m);
    demands_credit(w, m);
    desk_on_replica_up(m->desk, r->worker->id, &facts, l->now_us, &l->fx);
    m->dirty = true;
    world_effects(l);
}

static void model_down(struct loop_of *l, struct replica_of *r)
{
    struct model_of *m = r->model;
    if (!r->connected)
        return;
    r->connected = false;
    demands_credit(m->w, m);
    desk_on_replica_down(m->desk, r->worker->id, l->now_us, &l->fx);
    m->dirty = true;
    world_effects(l);
}

static bool is_listed(const struct replica_of *r)
{
    const struct worker_of *k = r->worker;
    return r->loaded && (k->stopping == 0 || (k->stopping == 1 && k->listed));
}

// What the worker says of its models now, to the desks whose home this loop is.
static void link_news(struct loop_of *l, struct link_of *k)
{
    struct worker_of *of = k->worker;
    for (unsigned i = 0; i < of->n_replicas; i++) {
        struct replica_of *r = of->replica[i];
        if (r->model->home != l->index)
            continue;
        bool same = r->generation == r->model->generation && r->max_batch == replica_batch(r);
        if (r->connected && (!is_listed(r) || !same))
            model_down(l, r);
        if (!r->connected && is_listed(r))
            model_up(l, r);
    }
}

void links_news_soon(struct link_of *k, uint64_t within_us)
{
    if (k->used && link_answers(k))
        link_at(k, world_soon(k->worker->w, within_us), EVENT_NEWS, k->generation);
}

// The owner asks what there is with every probe, and says it to all when it is something else than before.
static void owner_tells(struct worker_of *k)
{
    for (unsigned i = 0; i < k->n_replicas; i++) {
        struct replica_of *r = k->replica[i];
        if (r->connected != is_listed(r) || r->generation != r->model->generation)
            links_news_soon(link_at_home(r), k->w->plan.mail_us + ANSWER_US);
    }
}

// ---- probes ------------------------------------------------------------------------------------------

static void timer_set(struct link_of *k)
{
    k->probe_tag = ++k->worker->w->tag;
    if (k->up && k->probe.due_us != UINT64_MAX) // a clock that stands reaches no time
        link_at(k, most_us(k->probe.due_us, link_loop(k)->frozen_until), EVENT_TIMER, k->probe_tag);
}

static void links_hangs(struct loop_of *l, struct link_of *k);

static void link_act(struct loop_of *l, struct link_of *k, enum probe_act act)
{
    struct world *w = l->w;
    struct worker_of *of = k->worker;
    if (act == PROBE_HANGS) {
        links_hangs(l, k);
        return;
    }
    if (act == PROBE_ASK && link_answers(k))
        link_at(k, world_soon(w, ANSWER_US), EVENT_PROBED, k->generation);
    else if (act == PROBE_ASK && of->process == PROCESS_HANGS)
        k->owed = true;
    timer_set(k);
}

static void other_loops_doubt(struct loop_of *l, struct worker_of *k)
{
    struct world *w = l->w;
    for (unsigned i = 0; i < w->plan.loops; i++) {
        struct link_of *other = &k->link[i];
        if (i != l->index && other->used && other->up)
            link_at(other, world_soon(w, w->plan.mail_us), EVENT_DOUBT, other->generation);
    }
}

static void link_timer(struct loop_of *l, struct link_of *k)
{
    enum probe_act act = probe_on_time(&k->probe, k->heard, l->now_us);
    if (act == PROBE_ASK && k->probe.failures == 1 && link_owns(k))
        other_loops_doubt(l, k->worker);
    link_act(l, k, act);
}

static void link_probed(struct loop_of *l, struct link_of *k)
{
    k->heard += PROBE_BYTES;
    probe_on_answer(&k->probe, l->now_us);
    atomic_store(&k->worker->vitals.probed_us, l->now_us);
    timer_set(k);
    if (link_owns(k))
        owner_tells(k->worker);
}

// A desk doubts it: this connection is probed, and the owner asked what there is.
void links_probe(struct loop_of *l, struct worker_of *of)
{
    struct link_of *k = &of->link[l->index];
    if (!k->up)
        return;
    link_act(l, k, probe_on_suspect(&k->probe, k->heard, l->now_us));
    links_news_soon(k, 2 * l->w->plan.mail_us + 2 * ANSWER_US);
}

// It lives and computes nothing: no loop needs to find that out for itself.
void links_silent(struct loop_of *l, struct worker_of *of)
{
    struct world *w = l->w;
    struct link_of *k = &of->link[l->index];
    if (!k->up)
        return;
    workers_hang_word(l, of, k->incarnation);
    for (unsigned i = 0; i < w->plan.loops; i++) {
        struct link_of *other = &of->link[i];
        if (other->used && other->up)
            link_at(other, other == k ? w->now_us : world_soon(w, w->plan.mail_us), EVENT_CLOSE,
                    other->generation);
    }
}

static void links_hangs(struct loop_of *l, struct link_of *k)
{
    if (!k->up)
        return;
    demands_on_hang(l, k);
    workers_hang_word(l, k->worker, k->incarnation);
    other_loops_doubt(l, k->worker);
    links_close(l, k, true);
}

// ---- up and down -------------------------------------------------------------------------------------

// The owner cannot reach it, so no loop asks it any more: each loop looks for itself, and the owner goes on trying.
static void try_failed(struct loop_of *l, struct link_of *k)
{
    if (!link_owns(k))
        return; // it is tried when there is somebody
    other_loops_doubt(l, k->worker);
    links_try_soon(k, most_us(RETRY_US, k->probe.rules.timeout_us));
}

static void link_up(struct loop_of *l, struct link_of *k)
{
    if (k->up)
        return;
    if (!workers_answers(k->worker)) {
        try_failed(l, k);
        return;
    }
    k->up = true;
    k->incarnation = k->worker->incarnation;
    k->unread = k->heard = 0;
    k->full = k->owed = false;
    tell(l->w, "worker %u: loop %u is connected", k->worker->id, l->index);
    bool periodic = link_owns(k);
    probe_start(&k->probe, &l->w->plan.probe, periodic, l->now_us);
    timer_set(k);
    links_news_soon(k, 1000);
}

void links_close(struct loop_of *l, struct link_of *k, bool ours)
{
    struct worker_of *of = k->worker;
    if (!k->up)
        return;
    tell(l->w, "worker %u: loop %u lost its connection%s", of->id, l->index, ours ? ", by us" : "");
    k->up = k->full = false;
    k->generation++;
    probe_stop(&k->probe);
    k->probe_tag = 0;
    calls_lose(k, ours);
    l->lost = true;
    for (unsigned i = 0; i < of->n_replicas; i++) {
        if (of->replica[i]->model->home == l->index)
            model_down(l, of->replica[i]);
    }
    excuse_until(&of->excuse, FAULT_FLAP, l->w->now_us);
    if (link_owns(k))
        other_loops_doubt(l, of);
    links_try_soon(k, RETRY_US);
}

void links_try_soon(struct link_of *k, uint64_t within_us)
{
    if (k->used)
        link_at(k, world_soon(k->worker->w, within_us), EVENT_TRY, 0);
}

void links_cut_soon(struct link_of *k, uint64_t at_us)
{
    if (k->used && k->up)
        link_at(k, at_us, EVENT_CUT, k->generation);
}

// The process reads on, and finds everything that was in the socket buffer.
void links_resumed(struct link_of *k)
{
    if (!k->used || (k->up && k->incarnation != k->worker->incarnation))
        return;
    k->unread = 0;
    k->full = false;
    if (!k->up)
        links_try_soon(k, 3000);
    else if (k->owed)
        link_at(k, world_soon(k->worker->w, ANSWER_US), EVENT_PROBED, k->generation);
    k->owed = false;
}

void links_event(struct loop_of *l, const struct entry *e)
{
    struct link_of *k = e->p;
    if (e->event == EVENT_TRY) {
        link_up(l, k);
        return;
    }
    if (e->event == EVENT_TIMER) {
        if (k->probe_tag == e->tag)
            link_timer(l, k);
        return;
    }
    if (k->generation != e->tag || !k->up)
        return; // of an earlier connection
    if (e->event == EVENT_CUT || e->event == EVENT_CLOSE)
        links_close(l, k, e->event == EVENT_CLOSE);
    else if (e->event == EVENT_DOUBT)
        link_act(l, k, probe_on_suspect(&k->probe, k->heard, l->now_us));
    else if (!link_answers(k))
        return;
    else if (e->event == EVENT_PROBED)
        link_probed(l, k);
    else
        link_news(l, k);
}
