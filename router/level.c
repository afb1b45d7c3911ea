#include "router/level.h"

const char *const level_cause_name[LEVEL_CAUSES] = {
    [LEVEL_CAUSE_NONE] = "none",
    [LEVEL_CAUSE_STRAIN] = "latency",
    [LEVEL_CAUSE_LOST] = "replica_lost",
    [LEVEL_CAUSE_SHORT] = "over_capacity",
    [LEVEL_CAUSE_MOST] = "most_replicas_lost",
    [LEVEL_CAUSE_REST] = "chain_over_capacity",
    [LEVEL_CAUSE_NOBODY] = "nobody_can_answer",
    [LEVEL_CAUSE_CALM] = "in_time",
    [LEVEL_CAUSE_CAPACITY] = "capacity_back",
    [LEVEL_CAUSE_SOMEBODY] = "somebody_can_answer",
    [LEVEL_CAUSE_ALL] = "all_back",
    [LEVEL_CAUSE_RULES] = "rules",
};

struct aim { // where the signals point to, and why
    enum level level;
    enum level_cause cause;
};

// ---- what is measured, over time (L3) ------------------------------------------------------------------

static void keep_since(uint64_t *since_us, bool holds, uint64_t now_us)
{
    if (!holds)
        *since_us = 0;
    else if (*since_us == 0)
        *since_us = now_us;
}

static bool has_held(uint64_t since_us, uint64_t us, uint64_t now_us)
{
    return since_us > 0 && now_us - since_us >= us;
}

static void watch(struct level_state *s, const struct level_rules *k, const struct level_signals *g,
                  uint64_t now_us)
{
    uint32_t low = s->short_us > 0 ? LEVEL_SHARE_BACK : LEVEL_SHARE_LOW;
    keep_since(&s->strained_us, g->strain > k->enter, now_us);
    keep_since(&s->calm_us, g->strain <= k->leave, now_us);
    keep_since(&s->short_us, g->known > 0 && g->share_ppm < low, now_us);
}

// ---- where it should be ------------------------------------------------------------------------------

static bool most_lost(const struct level_signals *g)
{
    return 2 * g->ready < g->known;
}

// The highest level whose condition holds.
static struct aim wanted(const struct level_state *s, const struct level_rules *k,
                         const struct level_signals *g, uint64_t now_us)
{
    bool is_short = has_held(s->short_us, k->hold_us, now_us);
    if (g->known == 0)
        return (struct aim){LEVEL_HEALTHY, LEVEL_CAUSE_ALL}; // L4
    if (g->ready == 0 && g->rest == LEVEL_REST_NONE)
        return (struct aim){LEVEL_OUTAGE, LEVEL_CAUSE_NOBODY};
    if (g->alternatives && most_lost(g))
        return (struct aim){LEVEL_PARTIAL, LEVEL_CAUSE_MOST};
    if (g->alternatives && is_short && g->rest != LEVEL_REST_ROOM)
        return (struct aim){LEVEL_PARTIAL, LEVEL_CAUSE_REST};
    if (g->alternatives && g->ready < g->known)
        return (struct aim){LEVEL_CAPACITY, LEVEL_CAUSE_LOST};
    if (g->alternatives && is_short)
        return (struct aim){LEVEL_CAPACITY, LEVEL_CAUSE_SHORT};
    if (has_held(s->strained_us, k->hold_us, now_us))
        return (struct aim){LEVEL_LATENCY, LEVEL_CAUSE_STRAIN};
    return (struct aim){LEVEL_HEALTHY, LEVEL_CAUSE_CALM};
}

static enum level above(enum level l, bool alternatives)
{
    return l >= LEVEL_LATENCY && !alternatives ? LEVEL_OUTAGE : l + 1;
}

static enum level below(enum level l, bool alternatives)
{
    return l > LEVEL_LATENCY && !alternatives ? LEVEL_LATENCY : l - 1;
}

// May it leave where it is, for below? What entered it is over, with the gap.
static bool may_leave(const struct level_state *s, const struct level_rules *k,
                      const struct level_signals *g, uint64_t now_us)
{
    if (s->level == LEVEL_LATENCY)
        return has_held(s->calm_us, 2 * k->hold_us, now_us);
    if (s->level == LEVEL_CAPACITY && g->alternatives)
        return g->ready >= g->known && s->short_us == 0;
    return true;
}

static enum level_cause leaving(enum level from)
{
    static const enum level_cause cause[LEVELS] = {
        [LEVEL_LATENCY] = LEVEL_CAUSE_CALM,
        [LEVEL_CAPACITY] = LEVEL_CAUSE_CAPACITY,
        [LEVEL_PARTIAL] = LEVEL_CAUSE_CAPACITY,
        [LEVEL_OUTAGE] = LEVEL_CAUSE_SOMEBODY,
    };
    return cause[from];
}

// One step from where it is towards what is wanted; where it is: it stays.
static struct aim next_step(const struct level_state *s, const struct level_rules *k,
                            const struct level_signals *g, uint64_t now_us)
{
    struct aim w = wanted(s, k, g, now_us);
    enum level at = s->level;
    if (w.level > at)
        return (struct aim){above(at, g->alternatives), w.cause};
    if (w.level == at || !may_leave(s, k, g, now_us))
        return (struct aim){at, LEVEL_CAUSE_NONE};
    if (at == LEVEL_OUTAGE && g->ready >= g->known && g->strain <= k->enter)
        return (struct aim){LEVEL_HEALTHY, LEVEL_CAUSE_ALL};
    return (struct aim){below(at, g->alternatives), leaving(at)};
}

static bool move(struct level_state *s, struct aim to, uint64_t now_us)
{
    if (to.level == s->level)
        return false;
    s->level = (uint8_t)to.level;
    s->cause = (uint8_t)to.cause;
    s->since_us = now_us;
    return true;
}

bool level_step(struct level_state *s, const struct level_rules *k, const struct level_signals *g,
                uint64_t now_us)
{
    watch(s, k, g, now_us);
    if (k->off)
        return move(s, (struct aim){LEVEL_HEALTHY, LEVEL_CAUSE_RULES}, now_us);
    if (s->since_us > 0 && now_us - s->since_us < k->hold_us) // L2
        return false;
    return move(s, next_step(s, k, g, now_us), now_us);
}
