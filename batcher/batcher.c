#include "batcher/batcher.h"

#include "base/check.h"
#include "base/mem.h"

#define MIXED (BATCHER_GROUPS - 1)
#define MISSED_UNKNOWN 1
#define MISSED_WRONG 3
#define RATE_BATCHES 10
#define RATE_UNKNOWN_US 100000
#define DRIFT_SHARE 16 // of what stands before a request: kept free
#define TRIP_GAIN 0.05
#define TRIP_MOST 4 // times what it was: more is a hiccup

uint8_t batcher_lane_of(uint8_t priority)
{
    static const uint8_t lane[] = {1, 0, 1, 2, 2};
    return priority < sizeof(lane) ? lane[priority] : BATCHER_LANES - 1;
}

void batcher_init(struct batcher *b, const struct policy *p)
{
    *b = (struct batcher){.policy = *p};
    invariant(p->max_rows >= 1);
    estimate_init(&b->estimate);
}

void batcher_deinit(struct batcher *b)
{
    invariant(b->count == 0);
    for (unsigned i = 0; i < BATCHER_GROUPS; i++)
        mem_free(b->groups[i]);
    mem_free(b->due);
}

// ---- groups ------------------------------------------------------------------------------------------

static struct group *open_group(struct batcher *b, unsigned index, struct hash128 key, bool single,
                                uint64_t now_us)
{
    struct group *g = b->groups[index];
    if (!g) {
        g = mem_alloc(sizeof(*g));
        if (!g)
            return NULL;
        b->groups[index] = g;
        for (unsigned i = 0; i < BATCHER_LANES; i++)
            lane_init(&g->lane[i], now_us);
    }
    g->key = key;
    g->used = true;
    g->mixed = index == MIXED;
    g->overtaken = false;
    g->single = single || g->mixed;
    g->count = 0;
    g->rows = 0;
    g->oldest = g->newest = NULL;
    return g;
}

static struct group *group_of(struct batcher *b, const struct ticket *t, uint64_t now_us)
{
    bool single = !ticket_batches(t);
    struct hash128 key = single ? hash128(t->to.version, 0) : t->key;
    unsigned spare = MIXED;
    for (unsigned i = 0; i < MIXED; i++) {
        struct group *g = b->groups[i];
        if (g && g->used && g->single == single && hash128_eq(g->key, key))
            return g;
        if (spare == MIXED && (!g || !g->used))
            spare = i;
    }
    if (spare == MIXED && b->groups[MIXED] && b->groups[MIXED]->used)
        return b->groups[MIXED];
    return open_group(b, spare, key, single, now_us);
}

static void arrive(struct group *g, struct ticket *t)
{
    // Nearly always at the end. One that came back goes to the front: to walk to its place would cost what
    // waits in between, and the oldest stays the oldest.
    bool last = !g->newest || t->queued_us >= g->newest->senior_us;
    t->senior_us = t->queued_us;
    if (!last && t->senior_us > g->oldest->senior_us)
        t->senior_us = g->oldest->senior_us;
    t->older = last ? g->newest : NULL;
    t->newer = last ? NULL : g->oldest;
    *(t->newer ? &t->newer->older : &g->newest) = t;
    *(t->older ? &t->older->newer : &g->oldest) = t;
    g->count++;
    g->rows += ticket_rows(t);
}

static void depart(struct group *g, struct ticket *t)
{
    *(t->newer ? &t->newer->older : &g->newest) = t->older;
    *(t->older ? &t->older->newer : &g->oldest) = t->newer;
    t->older = t->newer = NULL;
    g->count--;
    g->rows -= ticket_rows(t);
}

bool batcher_push(struct batcher *b, struct ticket *t, uint64_t now_us)
{
    invariant(t->place != PLACE_QUEUED && t->lane < BATCHER_LANES);
    struct group *g = group_of(b, t, now_us);
    if (!g)
        return false;
    if (t->queued_us == 0)
        t->queued_us = now_us;
    t->group = g;
    t->place = PLACE_QUEUED;
    arrive(g, t);
    lane_push(&g->lane[t->lane], t, now_us);
    b->count++;
    b->elsewhere += t->elsewhere;
    b->rows += ticket_rows(t);
    b->lane_rows[t->lane] += ticket_rows(t);
    b->bytes += t->request->bytes;
    return true;
}

void batcher_remove(struct batcher *b, struct ticket *t)
{
    invariant(t->place == PLACE_QUEUED);
    struct group *g = t->group;
    lane_remove(&g->lane[t->lane], t);
    depart(g, t);
    b->count--;
    b->elsewhere -= t->elsewhere;
    b->rows -= ticket_rows(t);
    b->lane_rows[t->lane] -= ticket_rows(t);
    b->bytes -= t->request->bytes;
    t->group = NULL;
    t->place = PLACE_NONE;
    if (g->count == 0)
        g->used = false;
}

// ---- choosing ----------------------------------------------------------------------------------------

static uint64_t group_earliest_us(const struct group *g)
{
    uint64_t earliest = UINT64_MAX;
    for (unsigned i = 0; i < BATCHER_LANES; i++) {
        uint64_t e = lane_earliest_us(&g->lane[i]);
        earliest = e < earliest ? e : earliest;
    }
    return earliest;
}

// Who was passed over too often goes first, the longest passed over before others. 0: neither was.
static int compare_turns(uint32_t a_passed, uint32_t b_passed)
{
    uint32_t a = a_passed >= BATCHER_PASSES ? a_passed : 0;
    uint32_t b = b_passed >= BATCHER_PASSES ? b_passed : 0;
    return a > b ? 1 : a < b ? -1 : 0;
}

// Does lane a go before the best so far? Between priorities: a starving one, then the higher. Between groups of
// one priority: a starving one, then the earlier deadline.
static bool goes_before(const struct batcher *b, const struct lane *a, unsigned a_lane,
                        const struct lane *best, unsigned best_lane)
{
    int turn = a_lane != best_lane ? compare_turns(b->passed[a_lane], b->passed[best_lane])
                                   : compare_turns(a->passed, best->passed);
    if (turn != 0)
        return turn > 0;
    if (a_lane != best_lane)
        return a_lane < best_lane;
    return lane_earliest_us(a) < lane_earliest_us(best);
}

// The lane with which a batch of this group would begin.
static unsigned leading_lane(const struct batcher *b, const struct group *g)
{
    unsigned best = BATCHER_LANES;
    for (unsigned lane = 0; lane < BATCHER_LANES; lane++) {
        if (g->lane[lane].count > 0 &&
            (best == BATCHER_LANES || goes_before(b, &g->lane[lane], lane, &g->lane[best], best)))
            best = lane;
    }
    return best;
}

// The i-th lane in the order in which they go when that one leads.
static unsigned lane_at(unsigned lead, unsigned i)
{
    return i == 0 ? lead : i <= lead ? i - 1 : i;
}

// ---- deciding ----------------------------------------------------------------------------------------

void batcher_expect(struct batcher *b, const struct outlook *at)
{
    b->outlook = *at;
    if (b->outlook.servers == 0)
        b->outlook.servers = 1;
    b->round_rows = (double)b->policy.max_rows * b->outlook.servers;
    b->full_us = estimate_mean_us(&b->estimate, b->policy.max_rows);
    b->full_high_us = estimate_high_us(&b->estimate, b->policy.max_rows);
    b->round_rows += b->outlook.beside * (double)b->full_us;
}

// The rate is that of some ten full batches.
static double rate_of(struct batcher *b, uint64_t now_us)
{
    return arrivals_rate(&b->arrivals,
                         b->full_us ? RATE_BATCHES * (double)b->full_us : RATE_UNKNOWN_US, now_us);
}

static void summarize_lanes(struct group *g, unsigned lead, struct summary *s)
{
    for (unsigned i = 0; i < BATCHER_LANES; i++) {
        const struct lane *l = &g->lane[lane_at(lead, i)];
        if (l->count > 0)
            s->lane[s->n_lanes++] =
                (struct lane_rows){.rows = (uint32_t)l->rows, .earliest_us = lane_earliest_us(l)};
    }
}

static struct summary summarize(struct batcher *b, struct group *g, unsigned lead, uint64_t now_us)
{
    const struct estimate *e = &b->estimate;
    struct summary s = {
        .rows = g->rows, .oldest_us = g->oldest->senior_us, .earliest_us = group_earliest_us(g)};
    if (b->policy.kind == POLICY_FIXED) {
        s.high_us = estimate_high_us(e, (uint32_t)g->rows);
        return s;
    }
    summarize_lanes(g, lead, &s);
    s.at = b->outlook;
    s.trusted = estimate_trusted(e);
    s.alpha = e->alpha;
    s.beta = e->beta;
    s.high = estimate_high(e);
    s.trip_us = b->trip_us;
    s.rate = rate_of(b, now_us);
    s.returns = b->arrivals.returns;
    s.sent = b->sent;
    return s;
}

// In one pass over the slots of the lanes that have rows: asked for only when a deadline presses.
static void count_due(struct batcher *b, struct group *g, unsigned lead, uint64_t now_us,
                      struct summary *s)
{
    unsigned n = 0;
    if (!b->due)
        b->due = mem_must(BATCHER_LANES * sizeof(*b->due));
    for (unsigned i = 0; i < BATCHER_LANES; i++) {
        struct lane *l = &g->lane[lane_at(lead, i)];
        if (l->count == 0)
            continue;
        lane_first(l, now_us);
        lane_due(l, &b->due[n]);
        s->lane[n].due = &b->due[n];
        n++;
    }
}

static struct verdict decide(struct batcher *b, struct group *g, unsigned lead, uint32_t cap_rows,
                             uint64_t now_us)
{
    if (g->single && b->policy.kind == POLICY_FIXED)
        return (struct verdict){.rows = 1, .reason = BATCH_IDLE};
    struct policy p = b->policy;
    if (p.max_rows > cap_rows)
        p.max_rows = cap_rows;
    if (g->overtaken && p.kind == POLICY_AUTO)
        p.max_wait_us = 0;
    struct summary s = summarize(b, g, lead, now_us);
    if (g->single) {
        uint64_t turn_us = policy_turn_us(&s, now_us);
        return (struct verdict){.rows = turn_us == 0, .reason = BATCH_IDLE, .wake_us = turn_us};
    }
    if (policy_presses(&p, &s, now_us))
        count_due(b, g, lead, now_us, &s);
    return policy_decide(&p, &s, now_us);
}

// Drops are said of the summary's lanes, which are those with rows.
static struct batch_plan plan_of(struct group *g, unsigned lead, const struct verdict *v)
{
    struct batch_plan plan = {
        .group = g, .lane = (uint8_t)lead, .rows = v->rows, .reason = v->reason};
    unsigned n = 0;
    for (unsigned i = 0; i < BATCHER_LANES; i++) {
        unsigned lane = lane_at(lead, i);
        if (g->lane[lane].count > 0)
            plan.drop_us[lane] = v->drop_us[n++];
    }
    return plan;
}

struct batch_plan batcher_plan(struct batcher *b, uint32_t cap_rows, uint64_t now_us,
                               bool (*may_send)(const struct group *g, void *ctx), void *ctx)
{
    struct batch_plan plan = {.wake_us = UINT64_MAX};
    for (unsigned i = 0; i < BATCHER_GROUPS; i++) {
        struct group *g = b->groups[i];
        if (!g || !g->used || (may_send && !may_send(g, ctx)))
            continue;
        unsigned lead = leading_lane(b, g);
        if (plan.group &&
            !goes_before(b, &g->lane[lead], lead, &plan.group->lane[plan.lane], plan.lane))
            continue;
        struct verdict v = decide(b, g, lead, cap_rows, now_us);
        if (v.rows > 0)
            plan = plan_of(g, lead, &v);
        else
            plan.wake_us = v.wake_us < plan.wake_us ? v.wake_us : plan.wake_us;
    }
    return plan;
}

struct batcher_bid batcher_bid(const struct batcher *b)
{
    const struct group *best = NULL;
    unsigned best_lane = 0;
    for (unsigned i = 0; i < BATCHER_GROUPS; i++) {
        const struct group *g = b->groups[i];
        if (!g || !g->used)
            continue;
        unsigned lead = leading_lane(b, g);
        if (!best || goes_before(b, &g->lane[lead], lead, &best->lane[best_lane], best_lane)) {
            best = g;
            best_lane = lead;
        }
    }
    struct batcher_bid bid = {.lane = (uint8_t)best_lane, .share = 1};
    uint32_t most = best->single ? 1 : b->policy.max_rows;
    uint32_t rows = best->rows < most ? (uint32_t)best->rows : most;
    uint64_t us = estimate_mean_us(&b->estimate, rows);
    if (us > 0)
        bid.share = (double)rows * (double)estimate_mean_us(&b->estimate, most) /
                    ((double)most * (double)us);
    return bid;
}

// ---- taking ------------------------------------------------------------------------------------------

struct taking {
    struct batcher *b;
    struct ticket **out;
    unsigned n, max;
    uint32_t rows_left;
    uint64_t now_us;
};

struct ticket *batcher_dropped(struct batcher *b, const struct batch_plan *plan, uint64_t now_us)
{
    for (unsigned lane = 0; lane < BATCHER_LANES; lane++) {
        struct ticket *t = lane_first(&plan->group->lane[lane], now_us);
        if (t && t->deadline_us < plan->drop_us[lane])
            return t;
    }
    return NULL;
}

// False: the batch is full, or the next ticket does not fit: to look behind it would break the order.
static bool take_lane(struct taking *k, struct lane *l)
{
    struct ticket *t, *behind = NULL; // behind: in its slot
    while (k->n < k->max && (t = behind ? behind : lane_first(l, k->now_us)) != NULL) {
        uint32_t rows = request_rows(t->request);
        behind = t->next;
        if (rows > k->rows_left && k->n > 0)
            return false;
        batcher_remove(k->b, t);
        t->place = PLACE_ABOARD;
        k->out[k->n++] = t;
        k->rows_left = rows < k->rows_left ? k->rows_left - rows : 0;
    }
    return true;
}

static bool is_higher(const struct group *g, unsigned lane)
{
    while (lane-- > 0)
        if (g->lane[lane].count > 0)
            return true;
    return false;
}

// Each full batch of a lower priority would move the moment on from which company is waited for.
static void note_overtaken(struct batcher *b, const struct group *gone, unsigned batch_lane)
{
    for (unsigned i = 0; i < BATCHER_GROUPS; i++) {
        struct group *g = b->groups[i];
        if (g && g->used)
            g->overtaken = g != gone && (g->overtaken || is_higher(g, batch_lane));
    }
}

// Who had to watch this batch go without a row of theirs: groups within a lane that had rows in it; and lanes in
// which somebody was left out, until a batch begins with them: to fill up those of others serves one group only.
static void count_passes(struct batcher *b, unsigned batch_lane,
                         const uint32_t before[][BATCHER_LANES])
{
    bool left[BATCHER_LANES] = {false}, served[BATCHER_LANES] = {false};
    for (unsigned i = 0; i < BATCHER_GROUPS; i++) {
        for (unsigned lane = 0; b->groups[i] && lane < BATCHER_LANES; lane++) {
            uint32_t count = b->groups[i]->lane[lane].count;
            served[lane] |= count != before[i][lane];
            left[lane] |= count > 0 && count == before[i][lane];
        }
    }
    for (unsigned i = 0; i < BATCHER_GROUPS; i++) {
        for (unsigned lane = 0; b->groups[i] && lane < BATCHER_LANES; lane++) {
            struct lane *l = &b->groups[i]->lane[lane];
            if (l->count != before[i][lane])
                l->passed = 0;
            else if (l->count > 0)
                l->passed += served[lane];
        }
    }
    for (unsigned lane = 0; lane < BATCHER_LANES; lane++)
        b->passed[lane] = left[lane] && lane != batch_lane ? b->passed[lane] + 1 : 0;
}

unsigned batcher_take(struct batcher *b, const struct batch_plan *plan, struct ticket **out,
                      unsigned max, uint64_t now_us)
{
    uint32_t before[BATCHER_GROUPS][BATCHER_LANES];
    for (unsigned i = 0; i < BATCHER_GROUPS; i++) {
        for (unsigned lane = 0; b->groups[i] && lane < BATCHER_LANES; lane++)
            before[i][lane] = b->groups[i]->lane[lane].count;
    }
    struct group *g = plan->group;
    struct taking k = {.b = b, .out = out, .max = max, .rows_left = plan->rows, .now_us = now_us};
    bool more = take_lane(&k, &g->lane[plan->lane]);
    for (unsigned lane = 0; more && lane < BATCHER_LANES; lane++) {
        if (lane != plan->lane)
            more = take_lane(&k, &g->lane[lane]);
    }
    count_passes(b, plan->lane, before);
    note_overtaken(b, g, plan->lane);
    invariant(k.n > 0);
    b->sent++;
    if (b->refusing && now_us >= b->learned_us + BATCHER_DOUBT_US) {
        b->probing = true;
        b->learned_us = now_us;
    }
    return k.n;
}

// ---- what comes too late -----------------------------------------------------------------------------

static double alpha_of(const struct batcher *b)
{
    return estimate_trusted(&b->estimate) ? b->estimate.alpha : 0;
}

void batcher_came(struct batcher *b, uint32_t rows, uint64_t now_us)
{
    if (b->policy.kind == POLICY_AUTO)
        arrivals_came(&b->arrivals, rows, now_us);
}

void batcher_trip(struct batcher *b, uint64_t us)
{
    double most = TRIP_MOST * b->trip_us, now = (double)us;
    if (b->trip_us == 0)
        b->trip_us = now;
    else
        b->trip_us += TRIP_GAIN * ((now < most ? now : most) - b->trip_us);
    b->half_us = (uint64_t)(b->trip_us / 2);
}

void batcher_learn(struct batcher *b, uint32_t rows, uint64_t took_us, uint64_t now_us)
{
    if (b->probing && took_us < estimate_low_us(&b->estimate, rows))
        estimate_init(&b->estimate);
    if (b->missed >= MISSED_WRONG)
        estimate_raise(&b->estimate, rows, took_us);
    else
        estimate_add(&b->estimate, rows, took_us);
    b->missed = 0;
    b->learned_us = now_us;
    b->refusing = b->probing = false;
    if (b->policy.kind == POLICY_AUTO)
        arrivals_answered(&b->arrivals, rows, alpha_of(b), now_us);
}

void batcher_knows(struct batcher *b, const struct estimate *t, uint64_t met_us)
{
    b->estimate = *t;
    b->learned_us = met_us;
    b->refusing = b->probing = false;
    b->missed = 0;
}

void batcher_missed(struct batcher *b)
{
    b->missed += b->missed < MISSED_WRONG;
}

bool batcher_curious(const struct batcher *b)
{
    return b->missed >= (estimate_trusted(&b->estimate) ? MISSED_WRONG : MISSED_UNKNOWN);
}

// When a batch that is formed now can begin at the soonest, at any server, and its answer be on its way back.
static uint64_t soonest_us(const struct batcher *b, uint64_t now_us)
{
    if (b->policy.kind == POLICY_FIXED)
        return now_us;
    uint64_t there_us = now_us + b->half_us, free_us = b->outlook.soonest_free_us;
    return b->half_us + (there_us > free_us ? there_us : free_us);
}

// Rows that go before it: of higher lanes, and of its own those that are due before.
static uint64_t rows_ahead(const struct batcher *b, const struct ticket *t)
{
    uint64_t ahead = 0;
    for (unsigned lane = 0; lane < t->lane; lane++)
        ahead += b->lane_rows[lane];
    for (unsigned i = 0; i < BATCHER_GROUPS && b->lane_rows[t->lane] > 0; i++) {
        const struct group *g = b->groups[i];
        if (g && g->used)
            ahead += lane_rows_before(&g->lane[t->lane], t->deadline_us);
    }
    return ahead;
}

// When full batches have served so many rows, and one more batch. The last one may take long, and a queue that is filled
// up to the last moment that its mean allows has all its answers come too late for clients that are some way off.
static uint64_t served_us(const struct batcher *b, uint64_t ahead, uint64_t now_us)
{
    uint64_t rounds = (uint64_t)((double)ahead / b->round_rows);
    uint64_t before_us = rounds * b->full_us;
    return soonest_us(b, now_us) + before_us + before_us / DRIFT_SHARE + b->full_high_us;
}

bool batcher_timely(const struct batcher *b, const struct ticket *t, uint64_t now_us)
{
    return b->full_us > 0 && ticket_rows(t) <= b->policy.max_rows &&
           served_us(b, b->rows, now_us) < t->deadline_us;
}

uint64_t batcher_refuses(const struct batcher *b, const struct ticket *t, uint64_t now_us)
{
    if (b->full_us == 0 || now_us + 2 * (b->full_high_us + b->half_us) > t->deadline_us)
        return 0;
    uint64_t end_us = served_us(b, rows_ahead(b, t), now_us);
    return end_us > t->deadline_us ? end_us - t->deadline_us : 0;
}

bool batcher_hopeless(struct batcher *b, const struct ticket *t, uint64_t now_us)
{
    if (now_us >= t->deadline_us)
        return true;
    uint64_t soon_us = soonest_us(b, now_us);
    uint64_t low_us = estimate_low_us(&b->estimate, ticket_rows(t));
    bool known = b->policy.kind == POLICY_AUTO ? estimate_trusted(&b->estimate) : low_us > 0;
    if (!known || soon_us + low_us < t->deadline_us ||
        (b->outlook.beside_us > 0 && b->outlook.beside_us < t->deadline_us))
        return false;
    b->refusing = true;
    return now_us < b->learned_us + BATCHER_DOUBT_US;
}

struct ticket *batcher_doomed(struct batcher *b, uint64_t now_us)
{
    for (unsigned i = 0; i < BATCHER_GROUPS && b->count > 0; i++) {
        struct group *g = b->groups[i];
        for (unsigned lane = 0; g && g->used && lane < BATCHER_LANES; lane++) {
            struct ticket *t = lane_first(&g->lane[lane], now_us);
            if (t && batcher_hopeless(b, t, now_us))
                return t;
        }
    }
    return NULL;
}

uint64_t batcher_doom_us(const struct batcher *b)
{
    uint64_t earliest = UINT64_MAX;
    for (unsigned i = 0; i < BATCHER_GROUPS && b->count > 0; i++) {
        const struct group *g = b->groups[i];
        if (!g || !g->used)
            continue;
        uint64_t e = group_earliest_us(g);
        earliest = e < earliest ? e : earliest;
    }
    uint64_t low_us = estimate_low_us(&b->estimate, 1);
    if (b->policy.kind == POLICY_AUTO)
        low_us += 2 * b->half_us;
    return earliest == UINT64_MAX ? earliest : earliest > low_us ? earliest - low_us : 0;
}

struct ticket *batcher_any(struct batcher *b)
{
    for (unsigned i = 0; i < BATCHER_GROUPS; i++) {
        struct group *g = b->groups[i];
        if (g && g->used)
            return g->oldest;
    }
    return NULL;
}
