#include "tests/sim/sim.h"

#include <stdlib.h>

#define MISTAUGHT 20    // times as long as it should
#define KEEPER_US 10000 // it takes to kill
#define CONNECT_US 40000
#define LOOK_US 500000 // a device that stands still is looked at so often

const struct replica *replica_known(const struct replica_of *r)
{
    return r->model->desk ? replicas_find(&r->model->desk->replicas, r->worker->id) : NULL;
}

bool replica_used(const struct replica_of *r)
{
    const struct replica *known = r->told ? replica_known(r) : NULL;
    return known && known->standing != STANDING_OPEN;
}

// ---- what happened to whom ---------------------------------------------------------------------------

static void life_lost(struct life *x, const struct call *c)
{
    x->model->suspects += x->losses == 0;
    if (x->losses < SIM_LOSSES)
        x->loss[x->losses] = (struct loss){.incarnation = c->incarnation,
                                           .only = c->only,
                                           .alone = c->only && c->batch->n == 1,
                                           .local = c->local};
    x->losses++;
}

// A failure is the client's only when the batch was it alone, and a sibling has had its turn or there was none.
static void life_failed(struct life *x, const struct call *c, bool elsewhere)
{
    const struct batch *b = c->batch;
    bool either = c->end == END_ERROR || c->end == END_SHAPE || c->end == END_MALFORMED;
    bool shown = b->shown || !elsewhere || x->in.request.sequence_id > 0;
    x->err_alone |= b->n == 1 && (c->end == END_BAD || (c->end == END_ERROR && shown));
    x->bad_answer |= b->n == 1 && shown && either && c->end != END_ERROR;
    x->avoid = either && !shown && !x->ticket->alone ? b->replica : 0;
}

// What counts as a death with it aboard: a crash that the keeper sees; where no keeper watches, a connection that
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

// A replica that refuses is left alone, the longer the more often; here the least that it may be.
static void note_pause(const struct loop_of *l, const struct call *c)
{
    struct replica_of *r = c->replica;
    if (end_is_heard(c->end)) {
        r->paused_until = r->pauses = 0;
        r->silent = false;
        if (replica_known(r)->standing == STANDING_HALF)
            r->opened = 0;
    }
    if (!end_refuses(c->end) || l->now_us < replica_known(r)->not_before_us)
        return;
    r->probe_due = true;
    r->paused_until = l->now_us + most_us(REPLICA_PAUSE_US, c->pushback_us);
}

// In a row: what it failed, and what of that a sibling has answered.
static void note_failure(const struct call *c)
{
    struct replica_of *r = c->replica;
    struct replica_of *other = replica_by_id(r->model, c->batch->failed_at);
    if (end_is_heard(c->end))
        r->failed = r->shamed = 0;
    else if (c->end >= END_SHAPE && c->end <= END_ERROR)
        r->failed++;
    if (c->end == END_ANSWER && other)
        other->shamed++;
    double us = calls_time_us(r->model, c->batch->rows ? c->batch->rows : 1) * calls_slower(r);
    r->model->mistaught |=
        c->end == END_ANSWER &&
        (double)(r->model->w->now_us - c->batch->sent_us) > MISTAUGHT * us * r->model->tail;
}

void demands_on_end(struct loop_of *l, struct call *c)
{
    static const char *const name[ENDS] = {"answered",   "without room", "misshapen", "malformed",
                                           "failed",     "bad",          "not found", "stopping",
                                           "overloaded", "refused",      "lost",      "recalled"};
    const struct batch *b = c->batch;
    bool counts = c->end == END_LOST && !c->ours;
    bool elsewhere = demands_elsewhere(c->replica, life_of(b->tickets[0]), b->rows);
    if (c->end <= END_BAD)
        c->replica->worker->heard_us = l->w->now_us;
    if (c->end == END_ANSWER)
        c->replica->model->answered_rows += b->rows ? b->rows : 1;
    for (uint32_t i = 0; i < b->n; i++) {
        struct life *x = life_of(b->tickets[i]);
        if (counts)
            life_lost(x, c);
        x->ends++;
        x->ours += c->end == END_LOST && c->ours;
        life_failed(x, c, elsewhere);
        x->refused = end_refuses(c->end);
        x->refusals += x->refused;
        x->no_rooms += c->end == END_NO_ROOM;
        x->no_room_alone |= c->end == END_NO_ROOM && b->n == 1;
        x->failures += c->end >= END_SHAPE && c->end <= END_BAD;
        trace(l->w, x, "its batch of %u ends: %s%s", b->n, name[c->end],
              c->end == END_LOST && c->ours ? " by us" : "");
    }
    note_pause(l, c);
    note_failure(c);
}

// ---- retries -----------------------------------------------------------------------------------------

// Does it take so many rows, or does nobody else?
static bool takes(const struct replica_of *r, const struct life *x, uint32_t rows)
{
    const struct model_of *m = r->model;
    bool others = false;
    for (unsigned i = 0; i < m->n_replicas; i++) {
        const struct replica_of *o = &m->replica[i];
        others |= o->told && replica_known(o)->facts.max_batch >= rows &&
                  (x->kind != KIND_VERSION2 || o->second);
    }
    return !others || replica_known(r)->facts.max_batch >= rows;
}

bool demands_elsewhere(const struct replica_of *r, const struct life *x, uint32_t rows)
{
    const struct model_of *m = r->model;
    uint64_t now_us = m->w->loop[m->home].now_us;
    for (unsigned i = 0; i < m->n_replicas; i++) {
        const struct replica_of *other = &m->replica[i];
        if (other != r && replica_used(other) && now_us >= replica_known(other)->not_before_us &&
            (x->kind != KIND_VERSION2 || other->second) && takes(other, x, rows))
            return true;
    }
    return false;
}

static uint64_t doubled_us(uint64_t us, unsigned times, uint64_t cap_us)
{
    for (unsigned i = 0; i < times && us < cap_us; i++)
        us *= 2;
    return least_us(us, cap_us);
}

// Twice as long as the one before, or what it asks for.
static void check_pause(const struct loop_of *l, struct replica_of *r, uint64_t pushback_us)
{
    uint64_t us = doubled_us(REPLICA_PAUSE_US, r->pauses++, REPLICA_PAUSE_MAX_US);
    demand(l->w, NULL, replica_known(r)->not_before_us == l->now_us + most_us(us, pushback_us),
           "a pause is twice as long as the one before it");
}

// Overload is not answered with more load: where no other replica is at hand there is a budget.
void demands_refused(struct loop_of *l, struct replica_of *r, struct ticket **tickets, uint32_t n,
                     bool elsewhere, uint64_t pushback_us)
{
    struct world *w = l->w;
    struct model_of *m = r->model;
    struct life *again = NULL;
    if (r->probe_due) // else it was paused already
        check_pause(l, r, pushback_us);
    excuse_until(&m->excuse, FAULT_REFUSE, replica_known(r)->not_before_us + SIM_EPSILON_US);
    for (uint32_t i = 0; i < n; i++) {
        if (tickets[i]->place != PLACE_NONE)
            again = life_of(tickets[i]);
    }
    if (!again || elsewhere)
        return;
    m->tokens++;
    double seconds = (double)(l->now_us - m->first_us) / 1e6;
    double budget = RETRY_SHARE * (double)m->batches + RETRY_A_SECOND * (seconds + 1) + RETRY_START;
    demand(w, again, (double)m->tokens <= budget,
           "what was refused is sent again within the budget");
    demand(w, again, again->refusals <= DESK_REFUSALS, "a ticket is refused so often at most");
}

// The lack is the gateway's: nothing is held against the worker, and the same answer is not asked for again.
void demands_no_room(struct loop_of *l, const struct replica_of *r, struct ticket **tickets,
                     uint32_t n)
{
    const struct replica *known = replica_known(r);
    demand(l->w, life_of(tickets[0]),
           known->not_before_us == 0 && known->doubt_us == 0 && known->standing != STANDING_HALF,
           "what found no room is not held against a replica");
    for (uint32_t i = 0; i < n; i++) {
        const struct ticket *t = tickets[i];
        demand(l->w, life_of(t), t->place == PLACE_NONE || n > 1, "what found no room alone ends");
        demand(l->w, life_of(t), t->place != PLACE_ABOARD || t->batch->n <= (n + 1) / 2,
               "what found no room goes again in smaller parts");
    }
}

// ---- who is counted on -------------------------------------------------------------------------------

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
    r->paused_until = r->probed_us = 0;
    r->asked_us = w->now_us;
    r->failed = r->shamed = r->pauses = 0;
    for (unsigned i = 0; i < m->n_replicas; i++)
        demand(w, NULL, !m->replica[i].told || m->replica[i].generation == r->generation,
               "replicas that are up agree");
}

static void replica_differs(struct world *w, struct model_of *m, struct replica_of *r)
{
    bool other = false;
    for (unsigned i = 0; i < m->n_replicas; i++)
        other |= m->replica[i].told && m->replica[i].generation != r->generation;
    demand(w, NULL, other, "only who differs is kept out");
    r->paused_until = r->pauses = 0;
    world_count(w, FAULT_DIFFERS);
}

// A state that comes and goes is no line a batch.
static void replica_paused(struct world *w, struct replica_of *r)
{
    demand(w, NULL, r->said_us == 0 || w->now_us + SIM_EPSILON_US >= r->said_us + REPLICA_SAID_US,
           "a pause is said once for a while");
    r->said_us = w->now_us;
}

// Since when there is none that it could use.
void demands_alone(struct world *w, struct model_of *m)
{
    bool alone = atomic_load(&m->m->ready) == 0;
    if (alone || m->alone_since_us > 0)
        m->alone_us = w->now_us;
    if (!alone)
        m->alone_since_us = 0;
    else if (m->alone_since_us == 0)
        m->alone_since_us = w->now_us;
}

static unsigned count_open(const struct model_of *m, unsigned *up)
{
    unsigned open = 0;
    for (unsigned i = 0; i < m->n_replicas; i++) {
        *up += m->replica[i].told;
        open += m->replica[i].told && !replica_used(&m->replica[i]);
    }
    return open;
}

// What is said of it is true, and a fault's doing.
static void replica_silent(const struct world *w, const struct worker_of *k, const char *why)
{
    uint64_t still_us = 1000 * strtoull(strstr(why, "no batch for ") + 13, NULL, 10);
    uint64_t since_us = w->now_us - least_us(still_us, w->now_us);
    demand(w, NULL, k->process != PROCESS_RUNS || k->excuse.until_us > since_us,
           "a worker that computes is not silent");
    demand(w, NULL, k->heard_us <= since_us + SIM_EPSILON_US || w->stalled_us > since_us,
           "who is silent has ended nothing for so long");
}

// For its failures only when they were many and others did better, and at most half of them; or it is silent.
static void replica_ejected(struct world *w, const struct model_of *m, struct replica_of *r,
                            const char *why)
{
    unsigned up = 0, open = count_open(m, &up);
    uint64_t us = doubled_us(REPLICA_OPEN_US, r->opened++, REPLICA_OPEN_MAX_US);
    demand(w, NULL, replica_known(r)->open_until_us == w->loop[m->home].now_us + us,
           "an ejection is twice as long as the one before it");
    world_count(w, FAULT_EJECTED);
    if (strstr(why, "other replicas answer")) {
        demand(w, NULL, 2 * open <= up, "at most half of the replicas are ejected for failures");
        demand(w, NULL, r->shamed >= REPLICA_FAULTS,
               "a replica that others put to shame is ejected");
        r->shamed = 0;
        r->silent = false; // it has answered since: it had been closed
    } else if (strstr(why, "no batch for")) {
        replica_silent(w, r->worker, why);
        r->silent = true;
    } else {
        demand(w, NULL, strstr(why, "the batch that tried it"),
               "a replica is ejected for a reason");
    }
}

// Its sibling has just answered what it failed: once too often, where half of them may be ejected?
void demands_shamed(const struct replica_of *r)
{
    unsigned up = 0, open = count_open(r->model, &up);
    demand(r->model->w, NULL,
           !r->told || r->shamed < REPLICA_FAULTS ||
               replica_known(r)->standing != STANDING_CLOSED || 2 * (open + 1) > up,
           "a replica that fails what its siblings answer is ejected");
}

// Is it late, and not for want of time?
static bool is_overdue(const struct loop_of *l, const struct batch *b, const struct replica_of *r)
{
    uint64_t out_us = l->now_us - b->sent_us;
    return l->now_us >= b->deadline_us + REPLICA_FAIR_US && out_us >= REPLICA_FAIR_US && r->told &&
           (double)out_us >= REPLICA_FAIR_TIMES * replica_known(r)->latency_us;
}

static bool has_overdue(const struct loop_of *l, const struct replica_of *r)
{
    for (const struct batch *b = r->model->desk->sent; b; b = b->next) {
        if (b->replica == r->worker->id && is_overdue(l, b, r))
            return true;
    }
    return false;
}

// A worker that gives reason to doubt is asked whether it lives.
void demands_doubt(const struct loop_of *l, struct model_of *m)
{
    for (unsigned i = 0; i < m->n_replicas; i++) {
        struct replica_of *r = &m->replica[i];
        demand(l->w, NULL, !r->probe_due, "a replica that refuses is probed");
        if (r->in_flight == 0 || !has_overdue(l, r))
            r->overdue_us = 0;
        else if (r->overdue_us == 0)
            r->overdue_us = l->now_us;
        demand(l->w, NULL,
               r->overdue_us == 0 || l->now_us <= most_us(r->asked_us, r->overdue_us) +
                                                      REPLICA_PROBE_US + 2 * REPLICA_FAIR_US +
                                                      SIM_EPSILON_US,
               "a replica whose batch is overdue is probed");
    }
}

// It is asked when it refuses, which makes it pause, or when a batch is overdue, once a second.
void demands_on_probe(struct loop_of *l, struct replica_of *r)
{
    bool paused = replica_known(r)->not_before_us > l->now_us;
    r->probe_due = false;
    r->asked_us = l->now_us;
    demand(l->w, NULL, paused || r->probed_us == 0 || l->now_us >= r->probed_us + REPLICA_PROBE_US,
           "a replica is not probed all the time");
    if (!paused)
        r->probed_us = l->now_us;
}

static void note_replica(struct world *w, struct model_of *m, const struct note *n)
{
    struct replica_of *r = replica_by_id(m, (uint32_t)n->a);
    if (!demands_second(m))
        m->second_us = w->now_us;
    tell(w, "%s: %s at replica %u %s", m->name, note_name[n->kind], r->worker->id, n->why);
    if (n->kind == NOTE_REPLICA_UP)
        replica_up(w, m, r);
    else if (n->kind == NOTE_REPLICA_DIFFERS)
        replica_differs(w, m, r);
    else if (n->kind == NOTE_REPLICA_DOWN)
        r->told = false;
    else if (n->kind == NOTE_REPLICA_EJECTED)
        replica_ejected(w, m, r, n->why);
    else
        replica_paused(w, r);
    m->downs += n->kind == NOTE_REPLICA_DOWN || n->kind == NOTE_REPLICA_EJECTED;
    demands_alone(w, m);
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
    case NOTE_REPLICA_EJECTED:
    case NOTE_REPLICA_PAUSED:
        note_replica(w, m, n);
        break;
    case NOTE_LEVEL:
        demands_on_level(l, m, n);
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
    us += CONNECT_US + p->probe.timeout_us; // the owner may not have a connection at that moment
    return us + p->mail_us + 4 * p->turn_us + SIM_EPSILON_US;
}

// Who answers is not found to hang; unless it stood still in the meantime, or we did.
void demands_on_hang(struct loop_of *l, const struct link_of *k)
{
    struct world *w = l->w;
    uint64_t patience_us = demands_patience_us(k->worker);
    demand(w, NULL,
           !link_answers(k) || k->worker->since_us + patience_us >= w->now_us ||
               w->stalled_us + patience_us >= w->now_us,
           "a worker that answers is not found to hang");
}

void demands_ready(struct world *w, const struct model_of *m)
{
    unsigned n = 0;
    for (unsigned i = 0; i < m->n_replicas; i++)
        n += replica_used(&m->replica[i]);
    demand(w, NULL, atomic_load(&m->m->ready) == n, "ready are those that are up and used");
}

static void check_not_used(struct world *w, const struct worker_of *k)
{
    for (unsigned i = 0; i < k->n_replicas; i++) {
        if (k->replica[i]->model->desk)
            demands_ready(w, k->replica[i]->model);
        demand(w, NULL, !replica_used(k->replica[i]),
               "a worker that does nothing is not counted as ready beyond its probes' patience");
    }
}

bool demands_tried(const struct replica_of *r, const struct batch *b)
{
    const struct ticket *t = b->tickets[0];
    return r->silent && replica_known(r)->standing == STANDING_HALF &&
           t->request->sequence_id == 0 && demands_elsewhere(r, life_of(t), b->rows);
}

// How long a device may stand still with this batch before its desk must have seen it: a fair chance, unless it tries
// who was silent, a probe, and then nothing of that worker ends for long.
static uint64_t silence_us(const struct replica_of *r, const struct call *c)
{
    uint64_t slowest_us = atomic_load(&r->worker->vitals.slowest_us);
    uint64_t us = most_us(REPLICA_SILENT_US, REPLICA_SILENT_TIMES * slowest_us);
    if (!c->tried || replica_known(r)->latency_us == 0) // it may not have answered anything yet
        us = most_us(us, r->model->rules.deadline_us);
    uint64_t from_us = c->batch->sent_us;
    if (!c->tried)
        from_us = c->batch->deadline_us + REPLICA_FAIR_UNKNOWN_US;
    return most_us(from_us, r->worker->since_us) + us + REPLICA_PROBE_US +
           2 * r->model->w->plan.mail_us + SIM_EPSILON_US;
}

static void stuck_is_seen(struct loop_of *l, struct worker_of *k)
{
    struct world *w = l->w;
    for (unsigned i = 0; i < w->plan.loops; i++) {
        for (const struct call *c = k->link[i].calls; c; c = c->next) {
            const struct replica *known = replica_known(c->replica);
            demand(w, life_of(c->batch->tickets[0]),
                   known->standing == STANDING_OPEN ||
                       (known->standing == STANDING_HALF && !c->tried) ||
                       w->now_us < silence_us(c->replica, c),
                   "a worker that computes nothing is not used as if it did");
        }
    }
    world_at(w, l, w->now_us + LOOK_US, EVENT_JUDGE, k, k->state);
}

void demands_judge(struct loop_of *l, struct worker_of *k)
{
    struct world *w = l->w;
    if (w->stalled_us >= k->since_us)
        return; // a loop of ours stood still: nothing is judged meanwhile
    if (k->process == PROCESS_STUCK) {
        stuck_is_seen(l, k);
        return;
    }
    check_not_used(w, k);
    if (k->process != PROCESS_HANGS || !k->local)
        return;
    for (unsigned i = 0; i < w->plan.loops; i++) { // else nothing of ours can reach it
        const struct link_of *link = &k->link[i];
        demand(w, NULL,
               !link->up || link->incarnation != k->incarnation ||
                   w->now_us < k->since_us + demands_patience_us(k) + KEEPER_US,
               "the keeper kills a local worker that hangs");
    }
    world_at(w, l, w->now_us + KEEPER_US, EVENT_JUDGE, k, k->state);
}

// ---- one turn ----------------------------------------------------------------------------------------

static bool has_room(const struct world *w, const struct model_of *m, const struct life *x)
{
    uint64_t now_us = w->loop[m->home].now_us;
    for (unsigned i = 0; i < m->n_replicas; i++) {
        const struct replica_of *r = &m->replica[i];
        if (r->in_flight == 0 && credit_since(m, r, now_us) <= now_us &&
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
            x->model->home != l->index || x->ticket->place != PLACE_QUEUED || x->cancelled)
            continue;
        // Its group may be filled up again for as long as it was to wait in the first place.
        if (l->now_us < waits_until(x->model, x->ticket->senior_us))
            continue;
        demand(w, x, !has_room(w, x->model, x) || x->model->memory_us == w->now_us,
               "who lost a worker is on the way again in the same turn");
    }
}
