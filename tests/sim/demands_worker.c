#include "tests/sim/sim.h"

// Batches that go again after they were refused: a share of what is sent, so many a second, and a burst.
#define RETRY_SHARE 0.1
#define RETRY_A_SECOND 3.0
#define RETRY_BURST 30.0
#define SILENT_US 2000000 // a worker that lives and ends nothing for so long computes nothing
#define SILENT_TIMES 10
#define DOUBT_US 1000000 // it is asked so often meanwhile

// ---- what happened to whom ---------------------------------------------------------------------------

static void life_lost(struct life *x, const struct call *c)
{
#ifdef SIM_TODAY
    x->model->suspects += x->losses + x->ours == 0;
#else
    x->model->suspects += x->losses == 0;
#endif
    if (x->losses < SIM_LOSSES)
        x->loss[x->losses] =
            (struct loss){.incarnation = c->incarnation, .only = c->only, .local = c->local};
    x->losses++;
}

static bool end_refuses(enum end end)
{
    return end == END_NOT_FOUND || end == END_STOPPING || end == END_OVERLOADED ||
           end == END_REFUSED;
}

// What counts as a death with it aboard: a crash that the keeper sees; where nobody watches, a connection that
// was lost while it was alone there.
unsigned demands_evidence(const struct world *w, const struct life *x)
{
    unsigned deaths = 0;
    for (unsigned i = 0; i < x->losses && i < SIM_LOSSES; i++) {
        const struct loss *loss = &x->loss[i];
        deaths += loss->local ? w->crashed[loss->incarnation % SIM_INCARNATIONS] : loss->only;
    }
    return deaths;
}

void demands_on_end(struct loop_of *l, struct call *c)
{
    static const char *const name[ENDS] = {"answered", "misshapen", "malformed", "failed",
                                           "bad",      "not found", "stopping",  "overloaded",
                                           "refused",  "lost",      "recalled"};
    const struct batch *b = c->batch;
    bool counts = c->end == END_LOST && !c->ours;
    if (c->end == END_ANSWER)
        c->replica->model->answered_rows += b->rows ? b->rows : 1;
    for (uint32_t i = 0; i < b->n; i++) {
        struct life *x = life_of(b->tickets[i]);
        if (counts)
            life_lost(x, c);
        x->ends++;
#ifdef SIM_TODAY
        x->model->suspects += c->end == END_LOST && c->ours && x->losses + x->ours == 0;
#endif
        x->ours += c->end == END_LOST && c->ours;
        x->err_alone |= (c->end == END_ERROR || c->end == END_BAD) && b->n == 1;
        x->bad_answer |= c->end == END_MALFORMED || c->end == END_SHAPE;
        x->refused = end_refuses(c->end);
        x->refusals += x->refused;
        x->failures += c->end >= END_SHAPE && c->end <= END_BAD;
        trace(l->w, x, "its batch of %u ends: %s%s", b->n, name[c->end],
              c->end == END_LOST && c->ours ? " by us" : "");
    }
#ifdef SIM_TODAY
    if (c->end != END_REFUSED)
        return;
#endif
    if (end_refuses(c->end))
        c->replica->paused_until = l->now_us + DESK_REFUSED_PAUSE_US;
}

// ---- retries -----------------------------------------------------------------------------------------

// A replica that refuses is left alone for a while, and another may be at hand at once.
double demands_elsewhere(const struct model_of *m)
{
    return m->n_replicas;
}

// Overload is not answered with more load: beyond what would have been sent anyway there is a budget.
void demands_retry(struct loop_of *l, const struct batch *b)
{
    struct world *w = l->w;
    struct model_of *m = b->desk->user;
    struct life *again = NULL;
    for (uint32_t i = 0; i < b->n; i++) {
        if (life_of(b->tickets[i])->refused)
            again = life_of(b->tickets[i]);
    }
    if (m->batches++ == 0)
        m->first_us = w->now_us;
    if (!again)
        return;
    m->retries++;
    double seconds = (double)(w->now_us - m->first_us) / 1e6;
    double budget = RETRY_SHARE * (double)m->batches + RETRY_A_SECOND * seconds + RETRY_BURST;
    demand(w, again, (double)m->retries <= budget * demands_elsewhere(m),
           "what was refused is sent again within the budget");
}

// ---- who is counted on -------------------------------------------------------------------------------

static unsigned told_replicas(const struct model_of *m)
{
    unsigned n = 0;
    for (unsigned i = 0; i < m->n_replicas; i++)
        n += m->replica[i].told && !m->replica[i].ejected;
    return n;
}

bool demands_second(const struct model_of *m)
{
    for (unsigned i = 0; i < m->n_replicas; i++) {
        if (m->replica[i].told && m->replica[i].second)
            return true;
    }
    return false;
}

static void replica_up(struct world *w, struct model_of *m, struct replica_of *r)
{
    r->told = true;
    m->alone_since_us = 0;
    for (unsigned i = 0; i < m->n_replicas; i++)
        demand(w, NULL, !m->replica[i].told || m->replica[i].generation == r->generation,
               "replicas that are up agree");
}

static void replica_differs(struct world *w, struct model_of *m, const struct replica_of *r)
{
    bool other = false;
    for (unsigned i = 0; i < m->n_replicas; i++)
        other |= m->replica[i].told && m->replica[i].generation != r->generation;
    demand(w, NULL, other, "only who differs is kept out");
    world_count(w, FAULT_DIFFERS);
}

static void replica_down(struct world *w, struct model_of *m, struct replica_of *r)
{
    r->told = false;
    bool any = false;
    for (unsigned i = 0; i < m->n_replicas; i++)
        any |= m->replica[i].told;
    if (!any && m->alone_since_us == 0)
        m->alone_since_us = w->now_us;
}

static void note_replica(struct world *w, struct model_of *m, const struct note *n)
{
    struct replica_of *r = replica_by_id(m, (uint32_t)n->a);
    if (!demands_second(m))
        m->second_us = w->now_us;
    if (n->kind == NOTE_REPLICA_UP)
        replica_up(w, m, r);
    else if (n->kind == NOTE_REPLICA_DIFFERS)
        replica_differs(w, m, r);
    else if (n->kind == NOTE_REPLICA_DOWN)
        replica_down(w, m, r);
}

void demands_on_note(struct loop_of *l, const struct note *n)
{
    struct world *w = l->w;
    if (!n->model)
        return;
    struct model_of *m = atomic_load(&n->model->user);
    switch (n->kind) {
    case NOTE_REPLICA_UP:
    case NOTE_REPLICA_DIFFERS:
    case NOTE_REPLICA_DOWN:
        note_replica(w, m, n);
        break;
    case NOTE_BATCH:
        m->noted_rows += n->a;
        break;
    case NOTE_DONE:
        m->noted_done += n->a;
        break;
    case NOTE_SHED:
        m->shed++;
        world_count(w, FAULT_ROOM);
        break;
    default:
        break;
    }
}

// ---- a worker that does nothing ----------------------------------------------------------------------

// The owner's next question, the answers that do not come, the word to the other loops, and theirs.
uint64_t demands_patience_us(const struct worker_of *k)
{
    const struct plan *p = &k->w->plan;
    uint64_t us = p->probe.interval_us + (2 * p->probe.failures + 1) * p->probe.timeout_us;
    return us + p->mail_us + 4 * p->turn_us + SIM_EPSILON_US;
}

static void nobody_counts_on(struct world *w, const struct worker_of *k)
{
    for (unsigned i = 0; i < k->n_replicas; i++) {
        const struct replica_of *r = k->replica[i];
        const struct model_of *m = r->model;
        if (!m->desk)
            continue;
        demand(w, NULL, atomic_load(&m->m->ready) == told_replicas(m),
               "ready are those that are up and used");
        demand(w, NULL, !r->told || r->ejected,
               "a worker that does nothing is not counted as ready beyond its probes' patience");
    }
}

void demands_judge(struct loop_of *l, struct worker_of *k, uint64_t state)
{
    struct world *w = l->w;
    (void)state;
    if (w->stalled_us >= k->since_us)
        return; // a loop of ours stood still: nobody is judged meanwhile
    if (k->process == PROCESS_HANGS || k->process == PROCESS_DEAD)
        nobody_counts_on(w, k);
}

// ---- one turn ----------------------------------------------------------------------------------------

static bool has_room(const struct world *w, const struct model_of *m, const struct life *x)
{
    uint64_t now_us = w->loop[m->home].now_us;
    for (unsigned i = 0; i < m->n_replicas; i++) {
        const struct replica_of *r = &m->replica[i];
        if (r->told && !r->ejected && r->in_flight == 0 && now_us >= r->paused_until &&
            (x->kind != KIND_VERSION2 || r->second))
            return true;
    }
    return false;
}

// Who was aboard when a connection ended is on its way again in that turn, or given back.
void demands_turned(struct loop_of *l)
{
    struct world *w = l->w;
    if (!l->lost)
        return;
    l->lost = false;
    for (unsigned i = 0; i < w->plan.lives; i++) {
        const struct life *x = &w->lives[i];
        if (!x->live || !x->lent || x->losses + x->ours == 0 || x->ends < x->sent ||
            x->model->home != l->index || x->in.ticket.place != PLACE_QUEUED || x->cancelled)
            continue;
        demand(w, x, !has_room(w, x->model, x) || x->model->memory_us == w->now_us,
               "who lost a worker is on the way again in the same turn");
    }
}
