#include "tests/sim/sim.h"

#define STARVED ((BATCHER_PASSES + BATCHER_LANES) * (BATCHER_PASSES + BATCHER_GROUPS) + 1)

// Late, and let end since it teaches how long it takes: one of a server, and not for ever.
static bool teaches(const struct loop_of *l, const struct batch *b)
{
    uint64_t had_us = b->deadline_us - b->sent_us;
    uint64_t most_us = had_us > REPLICA_SILENT_US ? had_us : REPLICA_SILENT_US;
    bool only = l->now_us < b->until_us && b->until_us <= b->deadline_us + most_us;
    for (const struct batch *o = b->next; o; o = o->next)
        only &= o->until_us <= o->deadline_us || o->replica != b->replica || o->server != b->server;
    return only;
}

// Nobody computes for nobody, unless to learn, and nobody waits for a replica beyond the grace.
void demands_decided(struct loop_of *l, struct model_of *m)
{
    struct world *w = l->w;
    const struct desk *d = m->desk;
    for (const struct batch *b = d->sent; b; b = b->next) {
        bool wanted = false;
        for (uint32_t i = 0; i < b->n; i++)
            wanted |= !life_of(b->tickets[i])->cancelled || b->tickets[i]->followers;
        demand(w, life_of(b->tickets[0]),
               b->state == BATCH_RECALLED || (wanted && l->now_us < b->deadline_us) ||
                   teaches(l, b),
               "a call that serves nobody is cancelled");
    }
    for (unsigned i = 0; w->plan.calm && m->no_credit_us < w->now_us && i < BATCHER_GROUPS; i++) {
        const struct group *g = d->batcher.groups[i];
        if (!g || !g->used || g->single || g->oldest->request->version.n > 0)
            continue;
        demand(w, life_of(g->oldest),
               g->rows < batch_cap(m) &&
                   (m->rules.policy == POLICY_AUTO || m->rules.n_preferred == 0 ||
                    g->rows < m->rules.preferred[0]),
               "with credit a batch that is large enough goes");
    }
    demands_doubt(l, m);
    demands_ready(w, m);
    bool alone = m->alone_since_us > 0 && w->now_us >= m->alone_since_us + m->rules.grace_us +
                                                           (w->now_us - l->now_us) + SIM_EPSILON_US;
    demand(w, NULL, !alone || (d->batcher.count == 0 && !d->again),
           "without a replica nobody waits longer than the grace");
}

// It was split before a class with smaller batches was there, and is not for that one.
static bool is_large(const struct model_of *m, uint32_t rows)
{
    return m->ranked && rows > m->max_batch / 2;
}

static void check_members(struct loop_of *l, const struct batch *b, const struct model_of *m)
{
    struct world *w = l->w;
    const struct replica_of *r = replica_by_id((struct model_of *)m, b->replica);
    uint32_t rows = 0;
    bool waited = false;
    for (uint32_t i = 0; i < b->n; i++) {
        struct life *x = life_of(b->tickets[i]);
        const struct life *first = life_of(b->tickets[0]);
        const struct ticket *t = b->tickets[i];
        demand(w, x, x->lent && x->model == m && t->place == PLACE_ABOARD && t->batch == b,
               "who is sent is lent, here and aboard");
        demand(w, x, l->now_us < x->in.deadline_us, "nothing past its deadline is sent");
        demand(w, x, !x->cancelled, "nothing cancelled is sent");
        demand(w, x, x->kind == first->kind, "rows of a batch have an equal key");
        demand(w, x, b->n == 1 || !(goes_alone(x) || x->losses > 1),
               "who goes alone has no company");
        demand(w, x, x->losses < 3, "what was lost three times is not sent again");
        demand(w, x, x->losses == 0 || t->deaths <= demands_evidence(w, x),
               "no more deaths are counted than there is evidence for");
        rows += x->in.request.rows;
        // Who came back may have been given the seniority of another.
        waited |= l->now_us >= x->first_us + m->rules.max_wait_us || x->sent > 0 ||
                  t->senior_us < t->queued_us;
        if (x->waiting && !w->plan.flood && x->in.request.sequence_id == 0 &&
            m->desk->replicas.suspects == 0 && !is_large(m, x->in.request.rows)) {
            uint64_t since = most_us(most_us(x->since_us, m->no_credit_us), m->memory_us + 4000);
            since = most_us(since, most_us(l->stalled_until, l->frozen_until));
            uint64_t credit = credit_since(m, r, l->now_us);
            since = most_us(since, credit < SIM_NEVER ? credit : w->now_us);
            demand(w, x, w->now_us <= since + m->rules.max_wait_us + SIM_EPSILON_US,
                   "with credit nobody waits longer than max_wait");
        }
        x->sent++;
        x->aboard_of = b->replica;
        trace(w, x, "is sent to replica %u in a batch of %u tickets, %u rows, reason %s",
              b->replica, b->n, b->rows, batch_reason_name[b->reason]);
    }
    struct life *x = life_of(b->tickets[0]);
    uint32_t cap = batch_cap(m);
    if (w->plan.calm) {
        demand(w, x, b->n == 1 || rows <= cap, "a batch is no larger than it may be");
        demand(w, x, b->reason != BATCH_FULL || rows + SIM_ROWS > cap || !w->plan.flood,
               "a full batch is full");
    }
    demand(w, x, b->rows == (m->desk->replicas.max_batch ? rows : 0),
           "a batch has the rows of its tickets");
    if (m->rules_us >= x->first_us && m->rules_us > 0)
        return; // it may have been put together by others
    demand(w, x,
           b->reason != BATCH_WAIT || m->rules.policy == POLICY_AUTO || waited || b->halvings > 0 ||
               w->plan.gone > 0 || x->losses,
           "max_wait is over when a batch goes for it");
    demand(w, x,
           b->reason != BATCH_IDLE || m->rules.policy == POLICY_AUTO || goes_alone(x) ||
               m->rules.max_wait_us == 0 || demands_eased(m, x),
           "who has to wait does not go at once");
    demand(w, x, b->reason != BATCH_PREFERRED || m->rules.policy == POLICY_FIXED,
           "auto prefers no size");
    demand(w, x, b->reason != BATCH_PREFERRED || b->n == 1 || rows <= m->rules.preferred[1],
           "a preferred batch has a preferred size");
}

// Who stays behind in a lane has no earlier deadline than who goes, but for what batcher/lane.h says. It
// looks at everybody: one batch in eight is enough.
static void check_order(struct world *w, const struct loop_of *l, const struct batch *b)
{
    const struct model_of *m = b->desk->user;
    if (++w->n_batches % 8 != 0 || (b->n == 1 && is_large(m, b->rows)))
        return; // or it is one that had to wait for the class that takes so many
    const struct life *last[BATCHER_LANES] = {NULL};
    for (uint32_t i = 0; i < b->n; i++) {
        const struct life *x = life_of(b->tickets[i]);
        unsigned lane = x->ticket->lane;
        if (x->waiting && (!last[lane] || x->in.deadline_us > last[lane]->in.deadline_us))
            last[lane] = x;
    }
    const struct life *first = life_of(b->tickets[0]);
    for (unsigned i = 0; i < w->plan.lives; i++) {
        const struct life *y = &w->lives[i];
        if (!y->live || !y->waiting || y->model != first->model || y->group != group_of(first) ||
            y->ticket->place != PLACE_QUEUED || y->in.deadline_us <= l->now_us)
            continue;
        const struct life *x = last[y->ticket->lane];
        if (!x || x->in.deadline_us <= y->in.deadline_us)
            continue;
        uint64_t wrong_us = x->in.deadline_us - y->in.deadline_us;
        demand(w, y, wrong_us < LANE_TICK_US || 32 * wrong_us < x->in.deadline_us - l->now_us,
               "within a lane the earliest deadline goes first");
    }
}

// Until when a group may be made to wait although a replica is free. auto waits for those that come back too: from
// the last answer on.
uint64_t waits_until(const struct model_of *m, uint64_t senior_us)
{
    uint64_t answered_us = m->desk->batcher.arrivals.returns.answered_us;
    bool planned = m->rules.policy == POLICY_AUTO && answered_us > senior_us;
    return (planned ? answered_us : senior_us) + m->rules.max_wait_us;
}

// A batch of a lower priority goes before a higher one that waits only when its lane is starving: so at most one
// of each lane in a row (and as many again for those whose tickets had all left when they were chosen).
static void check_priority(struct world *w, const struct batch *b, struct model_of *m)
{
    unsigned first = b->tickets[0]->lane;
    bool inverted = false;
    if (b->tickets[0]->request->sequence_id > 0 || (m->ranked && m->desk->n_again > 0))
        return; // goes as soon as it can, whatever waits; or those before it are for another class
    for (unsigned i = 0; i < BATCHER_GROUPS; i++) {
        const struct group *g = m->desk->batcher.groups[i];
        if (!g || !g->used || g->mixed || g->oldest->request->version.n > 0 ||
            b->sent_us <= waits_until(m, g->oldest->senior_us))
            continue; // it may have to wait, or its version for a replica
        for (unsigned lane = 0; lane < first; lane++)
            inverted |= g->lane[lane].count > 0;
    }
    m->inversions = inverted ? m->inversions + 1 : 0;
    demand(w, life_of(b->tickets[0]), m->inversions < 2 * BATCHER_LANES,
           "a priority is before the lower ones, of whatever group");
}

// Lanes are strict, but none is passed over for ever.
static void check_lanes(const struct loop_of *l, const struct batch *b, struct model_of *m)
{
    struct world *w = l->w;
    bool served[KINDS][BATCHER_LANES] = {{false}}, fresh = false;
    for (uint32_t i = 0; i < b->n; i++) {
        struct life *x = life_of(b->tickets[i]);
        if (!x->waiting)
            continue;
        fresh = true;
        served[x->group][x->ticket->lane] = true;
        stop_waiting(x);
    }
    if (fresh)
        check_priority(w, b, m);
    for (unsigned k = 0; fresh && k < KINDS; k++) {
        for (unsigned lane = 0; lane < BATCHER_LANES; lane++) {
            if (served[k][lane] || m->waiting[k][lane] == 0) {
                m->passed[k][lane] = 0;
                m->lane_since[k][lane] = w->now_us;
                continue;
            }
            if (l->now_us > m->lane_since[k][lane] + m->rules.max_wait_us)
                m->passed[k][lane]++;
            demand(w, life_of(b->tickets[0]), m->passed[k][lane] <= STARVED,
                   "no lane is passed over beyond its bound");
        }
    }
}

// What one replica failed goes to another that could have it.
static void check_sibling(struct life *x, const struct replica_of *r)
{
    demand(r->model->w, x,
           x->avoid != r->worker->id || x->ticket->alone || !demands_elsewhere(r, x),
           "what a replica failed goes to its sibling");
    x->avoid = 0;
}

// The steps of a sequence go where its state is.
static void check_step(struct loop_of *l, const struct life *x, const struct replica_of *r)
{
    struct model_of *m = x->model;
    const struct infer_request *q = &x->in.request;
    unsigned i = (unsigned)q->sequence_id % SIM_SEQUENCES;
    const struct replica_of *had = replica_by_id(m, m->sequence[i].replica);
    const struct replica *known = had ? replica_known(had) : NULL;
    bool there = known && replica_used(had) &&
                 known->facts.incarnation == m->sequence[i].incarnation &&
                 known->id == m->sequence[i].replica && (x->kind != KIND_VERSION2 || had->second);
    demand(l->w, x, !there || had == r, "a sequence keeps its replica");
    m->sequence[i].replica = q->sequence_end ? 0 : r->worker->id;
    m->sequence[i].incarnation = replica_known(r)->facts.incarnation;
}

// A replica of another class is used only when none that comes before it has capacity.
static void check_class(const struct loop_of *l, const struct batch *b, const struct replica_of *r)
{
    const struct model_of *m = r->model;
    const struct life *x = life_of(b->tickets[0]);
    for (unsigned i = 0; i < m->n_replicas; i++) {
        const struct replica_of *o = &m->replica[i];
        const struct replica *known = replica_known(o);
        bool busy = m->rules.policy == POLICY_AUTO && known && known->batches > 0;
        if (!known || busy || replica_rank(o) >= replica_rank(r) || known->id == b->failed_at ||
            l->now_us < known->rest_us || m->desk->replicas.suspects > 0 ||
            b->rows > known->facts.max_batch || (x->kind == KIND_VERSION2 && !o->second))
            continue;
        demand(l->w, x, credit_since(m, o, l->now_us) > l->now_us,
               "a class is used only when those before it have no capacity");
    }
}

// Who has just come and rests is used only when nobody else could have the batch now.
static void check_rest(const struct loop_of *l, const struct batch *b, const struct replica_of *r)
{
    const struct model_of *m = r->model;
    const struct life *x = life_of(b->tickets[0]);
    bool planned = m->rules.policy == POLICY_AUTO;
    for (unsigned i = 0; l->now_us < replica_known(r)->rest_us && i < m->n_replicas; i++) {
        const struct replica_of *o = &m->replica[i];
        const struct replica *known = replica_known(o);
        if (o == r || !known || known->id == b->failed_at || l->now_us < known->rest_us ||
            m->desk->replicas.suspects > 0 || b->rows > known->facts.max_batch ||
            (planned && known->batches > 0) || (x->kind == KIND_VERSION2 && !o->second) ||
            l->now_us >= m->desk->replicas.ramp_until_us || replica_rank(o) != replica_rank(r))
            continue;
        demand(l->w, x, credit_since(m, o, l->now_us) > l->now_us,
               "who has just come goes last of those that are free");
    }
}

void demands_on_dispatch(struct loop_of *l, struct batch *b)
{
    struct world *w = l->w;
    struct model_of *m = b->desk->user;
    if (b->shadow) {
        shadows_dispatched(l, b);
        return;
    }
    struct life *x = life_of(b->tickets[0]);
    const struct replica_of *r = replica_by_id(m, b->replica);
    demand(w, x, b->n > 0 && m->home == l->index, "a batch leaves from its home");
    demand(w, x, r && r->told, "a batch goes to a replica that is up");
    bool step = x->in.request.sequence_id > 0; // no credit of ours delays it
    demand(w, x, step || r->in_flight < m->rules.pipeline,
           "no more batches than the pipeline's credit");
    demand(w, x, step || r->in_flight == 0 || m->desk->replicas.suspects == 0,
           "beside a suspect a replica has one batch at a time");
    check_sibling(x, r);
    demand(w, x, replica_known(r)->standing != STANDING_OPEN, "an ejected replica gets no batch");
    if (step)
        check_step(l, x, r);
    demand(w, x, !w->plan.calm || m->max_batch == 0 || b->rows <= r->max_batch || b->n == 1,
           "a batch has no more rows than its replica takes");
    if (!step) {
        check_class(l, b, r);
        check_rest(l, b, r);
    }
    demand(w, x, x->kind != KIND_VERSION9 && (x->kind != KIND_VERSION2 || r->second),
           "a batch goes to a replica that has the version");
    demand(w, x, step || l->now_us >= r->paused_until,
           "a replica that refused is left alone for a while");
    check_members(l, b, m);
    kept_dispatched(l, b, m);
    for (uint32_t i = 0; i < b->n; i++)
        life_of(b->tickets[i])->queued_behind = r->in_flight > 0;
    check_order(w, l, b);
    check_lanes(l, b, m);
    if (m->batches++ == 0)
        m->first_us = w->now_us;
    m->dispatched_rows += b->rows ? b->rows : 1;
    m->met_us = w->now_us;
    if (w->first_dispatch_us == 0)
        w->first_dispatch_us = w->now_us;
}

// Batches at a replica from which on nobody has a right to another one: under auto a second one goes when the
// first is about to end, which is the estimate's business.
static uint32_t most_in_flight(const struct model_of *m, const struct replica *known)
{
    bool planned = m->rules.policy == POLICY_AUTO && known->n_servers < m->rules.pipeline;
    return planned ? known->n_servers : m->rules.pipeline;
}

// auto thinks a server busy for a while with what was recalled there. When one of the idle ones is free of that; 0: one is.
static uint64_t rid_us(const struct model_of *m, const struct replica *known, uint64_t now_us)
{
    uint64_t rid = SIM_NEVER;
    for (unsigned i = 0; i < known->n_servers && m->rules.policy == POLICY_AUTO; i++) {
        if (known->server[i].in_flight == 0)
            rid = least_us(rid, server_busy_us(&known->server[i], now_us));
    }
    return rid < SIM_NEVER ? rid : 0;
}

// auto: when another class helps is a matter of what is known of it, and how much waits.
static bool is_beside(const struct model_of *m, const struct replica_of *r)
{
    bool before = false;
    for (unsigned i = 0; m->rules.policy == POLICY_AUTO && i < m->n_replicas; i++) {
        const struct replica_of *o = &m->replica[i];
        before |= replica_rank(o) < replica_rank(r) && replica_used(o);
    }
    return before;
}

// Since when a replica has had credit, by what its desk knows; SIM_NEVER: it has none.
uint64_t credit_since(const struct model_of *m, const struct replica_of *r, uint64_t now_us)
{
    const struct replica *known = replica_known(r);
    if (!known || !replica_used(r) || r->in_flight >= most_in_flight(m, known))
        return SIM_NEVER;
    if (known->standing != STANDING_CLOSED && r->in_flight > 0)
        return SIM_NEVER; // one batch tries it
    if (is_beside(m, r))
        return SIM_NEVER;
    if (known->seat.prev)
        return SIM_NEVER; // others may have the turn: see demands_turns
    demand(m->w, NULL, known->not_before_us <= now_us + REPLICA_PAUSE_MAX_US,
           "a replica that refused is not left alone for ever");
    uint64_t tried_us = known->standing == STANDING_HALF ? known->open_until_us : 0;
    return most_us(rid_us(m, known, now_us), most_us(known->not_before_us, tried_us));
}

// Who waits for a turn at a serial device is not passed over for ever: those who starve go by how long they do.
static void demands_turns(struct world *w, const struct model_of *m)
{
    demand(w, NULL, m->desk->passed < DEVICE_PASSES + SIM_MODELS,
           "no model is passed over at a device beyond its bound");
}

void demands_credit(struct world *w, struct model_of *m)
{
    demands_turns(w, m);
    uint64_t now_us = w->loop[m->home].now_us, pause_ends = SIM_NEVER;
    // Beside a suspect a replica takes one batch at a time: no promise then.
    for (unsigned i = 0; i < m->n_replicas && m->desk->replicas.suspects == 0; i++)
        pause_ends = least_us(pause_ends, credit_since(m, &m->replica[i], now_us));
    for (unsigned i = 0; i < m->n_replicas; i++) {
        if (!replica_used(&m->replica[i]))
            m->replica[i].unused_us = w->now_us;
    }
    demands_alone(w, m);
    if (pause_ends > now_us)
        m->no_credit_us = pause_ends < SIM_NEVER ? pause_ends : w->now_us;
}
