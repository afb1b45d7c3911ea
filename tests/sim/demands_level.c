/* What a model's level may be, and why: one step at a time, each held, each explained by what the books saw and its desk did
 * not tell them. That is what is reckoned; in force is what an operator has set, while he has, and that was reckoned beneath
 * holds again at once when he has not. */
#include "tests/sim/sim.h"

static bool is_neighbour(unsigned a, unsigned b, bool alternatives)
{
    if (a == LEVEL_OUTAGE && b == LEVEL_HEALTHY)
        return true;
    if (alternatives || a == LEVEL_CAPACITY ||
        a == LEVEL_PARTIAL) // it had some, before its rules were others
        return a + 1 == b || b + 1 == a ||
               (!alternatives && (b == LEVEL_LATENCY || b == LEVEL_OUTAGE));
    return a != b && (a + b == LEVEL_LATENCY || a + b == LEVEL_LATENCY + LEVEL_OUTAGE);
}

// By what the world itself knows: who is there of those that were.
static void count(const struct model_of *m, unsigned *used, unsigned *lost)
{
    *used = *lost = 0;
    for (unsigned i = 0; i < m->n_replicas; i++) {
        const struct replica_of *r = &m->replica[i];
        *used += replica_used(r);
        const struct replica *known = replica_known(r);
        *lost += known && (known->up || known->lost) && !replica_used(r);
    }
    *lost += *used + *lost == 0 && m->desk && m->desk->replicas.bereft; // the last one is missed
}

// How long a desk may be late to see something: it looks eight times a hold.
static uint64_t looks_us(const struct world *w, const struct model_of *m)
{
    uint64_t look_us = least_us(STANDING_LOOK_US, m->rules.hold_us / 8 + 1);
    return 2 * look_us + w->plan.turn_us + SIM_EPSILON_US;
}

// What was in time by other rules may be late by these.
static bool came_late(const struct world *w, const struct model_of *m)
{
    uint64_t last_us = most_us(m->late_us, m->rules_us);
    uint64_t seen_us = m->rules.hold_us + m->rules.window_us + looks_us(w, m);
    return last_us > 0 && last_us + seen_us >= w->now_us;
}

static bool has_lost(const struct world *w, const struct model_of *m)
{
    return m->lost_us > 0 && m->lost_us + looks_us(w, m) >= w->now_us;
}

// With room to spare nobody is short of capacity.
static bool may_be_short(const struct world *w, const struct model_of *m)
{
    return !w->plan.calm || w->plan.flood || w->plan.load > 0.4 || w->plan.burst > 0 ||
           w->plan.shared || w->plan.shift || has_lost(w, m);
}

static const char *why_not(const struct world *w, const struct model_of *m, unsigned to)
{
    unsigned used, lost;
    count(m, &used, &lost);
    if (to == LEVEL_OUTAGE && (used > 0 || lost == 0))
        return "outage is when no replica is there that was";
    if (to < LEVEL_OUTAGE && m->reckoned == LEVEL_OUTAGE && used == 0 && m->chain.n == 0 &&
        m->rules.levels)
        return "an outage is over when a replica is there";
    if (to > m->reckoned && !has_lost(w, m) && !came_late(w, m) && !may_be_short(w, m))
        return "service comes down for a reason";
    if (to > m->reckoned && to == LEVEL_LATENCY && !m->rules.alternatives && !came_late(w, m) &&
        used > 0)
        return "who has no alternatives comes down when answers are late, or nobody is there";
    return NULL;
}

static void check_reckoned(struct loop_of *l, struct model_of *m)
{
    struct world *w = l->w;
    const struct level_state *s = &m->desk->standing.state;
    if (s->level == m->reckoned)
        return;
    const char *wrong = why_not(w, m, s->level);
    if (m->rules.levels) {
        demand(w, NULL, is_neighbour(m->reckoned, s->level, m->rules.alternatives),
               "levels move one step at a time");
        demand(w, NULL, m->moved_us == 0 || s->since_us - m->moved_us >= m->rules.hold_us,
               "a level is held");
    } else {
        demand(w, NULL, s->level == LEVEL_HEALTHY, "where levels are off there are none");
    }
    demand(w, NULL, !wrong, wrong);
    m->reckoned = s->level;
    m->moved_us = s->since_us;
}

// What an operator has set: 1 + that level; 0: nothing that counts.
static unsigned pin_of(const struct model_of *m)
{
    return m->rules.levels ? atomic_load(&m->m->pin) : 0;
}

void demands_on_level(struct loop_of *l, struct model_of *m, const struct note *n)
{
    struct world *w = l->w;
    tell(w, "%s: level %u, was %u: %s", m->name, (unsigned)n->a, (unsigned)n->b,
         atomic_load(&m->m->level_cause));
    demand(w, NULL, n->b == m->level && n->a == atomic_load(&m->m->level),
           "every move is told, once");
    check_reckoned(l, m);
    m->level = (unsigned)n->a;
    m->eased_us = w->now_us;
}

void demands_before_run(struct world *w, struct model_of *m)
{
    if (m->level > LEVEL_HEALTHY)
        m->eased_us = w->now_us;
    if (m->shut)
        m->shut_us = w->now_us;
}

// Its desk may decide in another's turn at a device, too.
bool demands_eased(const struct model_of *m, const struct life *x)
{
    return m->level > LEVEL_HEALTHY || m->eased_us >= x->first_us;
}

// As the rules have it, but of a single one: half of the time that its deadline left, or longer than p99 may be.
void demands_on_back(struct loop_of *l, const struct ticket *t)
{
    struct model_of *m = life_of(t)->model;
    uint64_t took_us = l->now_us - t->queued_us, left_us = t->deadline_us - t->queued_us;
    bool answered = t->error.status == STATUS_OK;
    uint64_t computed_us = took_us - t->queue_us;
    bool waited = answered && 4 * t->queue_us > (left_us > computed_us ? left_us - computed_us : 0);
    bool was_long = m->rules.p99_enter_us > 0 &&
                    17 * took_us > 16 * m->rules.p99_leave_us; // as a histogram sees it
    if (waited || was_long || t->error.status == STATUS_DEADLINE ||
        l->now_us + SIM_EPSILON_US >= t->deadline_us)
        m->late_us = l->w->now_us;
}

// After its desk ran, which sees what is set.
static void check_pinned(struct world *w, struct model_of *m)
{
    static const uint32_t left[LEVELS] = {MODEL_SHARE, MODEL_SHARE, MODEL_SHARE / 2,
                                          MODEL_SHARE / 4, 0};
    unsigned pin = pin_of(m);
    demand(w, NULL, m->level == (pin > 0 ? pin - 1 : m->reckoned),
           "what is set is in force, whatever is seen, and else what is reckoned");
    m->shut = pin == 1 + LEVEL_OUTAGE;
    demand(w, NULL, pin == 0 || atomic_load(&m->m->share) <= left[pin - 1],
           "what is set pretends a loss");
    if (pin > 1 + LEVEL_HEALTHY)
        excuse_until(&m->excuse, FAULT_PINNED, w->now_us + 20000);
}

void demands_standing(struct loop_of *l, struct model_of *m)
{
    struct world *w = l->w;
    unsigned used, lost;
    if (!m->desk) // it was removed
        return;
    check_reckoned(l, m);
    check_pinned(w, m);
    count(m, &used, &lost);
    if (lost > 0)
        m->lost_us = w->now_us;
    if (used > 0 || lost == 0)
        m->out_us = 0;
    else if (m->out_us == 0)
        m->out_us = l->now_us;
    uint32_t share = atomic_load(&m->m->share);
    demand(w, NULL, (share == 0) == (used == 0 || m->shut),
           "the share is nothing when nobody is there");
    // Three moves at most, each after a hold; rules that are others may make it begin anew.
    uint64_t since_us = most_us(m->out_us, m->rules_us);
    since_us = most_us(since_us, w->stalled_us);
    bool overdue = m->out_us > 0 && m->rules.levels && m->chain.n == 0 && // else others may answer
                   l->now_us > since_us + 4 * (m->rules.hold_us + looks_us(w, m));
    demand(w, NULL, !overdue || m->reckoned == LEVEL_OUTAGE, "an outage is found");
    bool idle = m->desk->batcher.count == 0 && !m->desk->sent;
    for (unsigned lane = 0; idle && w->plan.flood && lane < POLICY_LANES; lane++)
        demand(w, NULL, used == 0 || model_wait_us(m->m, lane, l->now_us) <= 10000,
               "where nothing is nobody waits");
}
