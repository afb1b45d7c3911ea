#include "router/standing.h"

#include "router/desk_inner.h"
#include <math.h>

#define STEP (MODEL_SHARE / 64)
#define MATTERS_US 1000
#define YIELD_GAIN 0.25
#define YIELD_BACK 1.02
#define YIELD_LEAST (1.0 / 64) // a step of the share

void standing_init(struct desk_standing *s)
{
    *s = (struct desk_standing){.yield = 1, .backlog = UINT64_MAX};
}

// ---- S1: waits ---------------------------------------------------------------------------------------

static void tell_lane(struct model *m, unsigned lane, uint64_t begins_us, uint64_t now_us)
{
    uint64_t was_us = model_wait_us(m, lane, now_us), is_us = begins_us - now_us;
    uint64_t differs_us = was_us > is_us ? was_us - is_us : is_us - was_us;
    if (differs_us > MATTERS_US + is_us / 8)
        atomic_store_explicit(&m->begins_us[lane], begins_us, memory_order_relaxed);
}

static void tell_waits(struct desk *d, uint64_t now_us)
{
    struct model *m = d->model;
    const struct batcher *b = &d->batcher;
    struct desk_standing *s = &d->standing;
    bool current = b->policy.kind == POLICY_AUTO && !d->outlook_stale;
    struct outlook at = current ? b->outlook : replicas_outlook(&d->replicas, now_us);
    uint64_t free_us = at.soonest_free_us > now_us ? at.soonest_free_us : now_us;
    uint64_t round_rows = (uint64_t)b->policy.max_rows * (at.servers ? at.servers : 1);
    bool single = d->replicas.max_batch == 0;
    if (b->count == 0 && !s->spread && now_us + MATTERS_US >= free_us &&
        model_wait_us(m, 0, now_us) <= MATTERS_US)
        return; // as nearly always
    s->spread = b->count > 0;
    uint64_t ahead = single ? b->count : 0;
    for (unsigned lane = 0; lane < POLICY_LANES; lane++) {
        ahead += single ? 0 : b->lane_rows[lane];
        tell_lane(m, lane, free_us + ahead / round_rows * b->full_us, now_us);
    }
}

// ---- S2, S3: the share -------------------------------------------------------------------------------

static double rows_a_us(const struct desk *d, uint64_t now_us)
{
    uint64_t full_us = estimate_mean_us(&d->batcher.estimate, d->most_rows);
    if (full_us == 0)
        return 0;
    struct outlook at = replicas_outlook(&d->replicas, now_us);
    return (double)at.servers * d->most_rows / (double)full_us + at.beside;
}

static void count_demand(struct desk_standing *s, uint64_t rows, double us)
{
    double keep = exp(-us / STANDING_TAU_US);
    s->demand = s->demand * keep + (1 - keep) * ((double)rows / us);
}

static void learn_yield(struct desk_standing *s, double can, double did, bool backlog)
{
    if (backlog && can > 0)
        s->yield = fmax(YIELD_LEAST, s->yield + YIELD_GAIN * (fmin(1, did / can) - s->yield));
    else
        s->yield = fmin(1, s->yield * YIELD_BACK);
}

static double share_of(const struct desk *d, double can)
{
    const struct desk_standing *s = &d->standing;
    const struct replicas *rs = &d->replicas;
    if (rs->n_ready == 0)
        return 0;
    if (can == 0)
        return fmin(1, STANDING_SPARE * rs->n_ready / rs->n_known);
    return s->demand > 0 ? fmin(1, can * s->yield / s->demand) : 1;
}

static void count_rows(struct desk *d, double can, uint64_t now_us)
{
    struct desk_standing *s = &d->standing;
    uint64_t turned = atomic_load_explicit(&d->model->turned_rows, memory_order_relaxed);
    double us = (double)(now_us - s->seen_us);
    if (s->seen_us > 0 && us > 0) {
        bool backlog = s->backlog >= d->batcher.policy.max_rows;
        count_demand(s, s->came - s->came_seen + turned - s->turned_seen, us);
        learn_yield(s, can, (double)(s->served - s->served_seen) / us, backlog);
    }
    s->seen_us = now_us;
    s->came_seen = s->came;
    s->served_seen = s->served;
    s->turned_seen = turned;
    s->backlog = UINT64_MAX;
}

// ---- who comes late ----------------------------------------------------------------------------------

static void delays_turn(struct delays *l, uint64_t window_us, uint64_t now_us)
{
    uint64_t pane_us = window_us / RECENT_PANES;
    for (unsigned i = 0; i < RECENT_PANES && now_us - l->since_us >= pane_us; i++) {
        l->at = (l->at + 1) % RECENT_PANES;
        l->n[l->at] = l->half[l->at] = l->quarter[l->at] = 0;
        l->since_us += pane_us;
    }
    if (now_us - l->since_us >= pane_us)
        l->since_us = now_us;
}

static void delays_add(struct delays *l, uint64_t queue_us, uint64_t slack_us)
{
    l->n[l->at]++;
    l->half[l->at] += 2 * queue_us > slack_us;
    l->quarter[l->at] += 4 * queue_us > slack_us;
}

void standing_answered(struct desk_standing *s, const struct ticket *t, uint64_t now_us)
{
    uint64_t took_us = now_us - t->queued_us, left_us = t->deadline_us - t->queued_us;
    uint64_t worked_us = took_us - t->queue_us;
    recent_add(&s->took, took_us);
    delays_add(&s->delays, t->queue_us, left_us > worked_us ? left_us - worked_us : 0);
}

void standing_late(struct desk *d, const struct ticket *t)
{
    struct desk_standing *s = &d->standing;
    uint64_t one_us = estimate_mean_us(&d->batcher.estimate, 1);
    if (t->shadow || t->deadline_us <= t->queued_us + one_us)
        return; // in no time can it be done: that says nothing of us
    recent_add(&s->took, t->deadline_us - t->queued_us);
    delays_add(&s->delays, 1, 0);
}

// The bounds of LATENCY, and where this stands between them.
#define OVER_HALF 3
#define OVER_QUARTER 2
#define IN_TIME 1

static struct level_rules bounds_of(const struct model_rules *k)
{
    struct level_rules l = {.off = !k->levels, .hold_us = k->hold_us};
    l.enter = k->p99_enter_us > 0 ? k->p99_enter_us : OVER_QUARTER;
    l.leave = k->p99_enter_us > 0 ? k->p99_leave_us : IN_TIME;
    return l;
}

static uint64_t strain_of(const struct desk_standing *s, const struct model_rules *k,
                          uint64_t p99_us)
{
    uint32_t n = 0, half = 0, quarter = 0;
    if (k->p99_enter_us > 0)
        return p99_us;
    for (unsigned i = 0; i < RECENT_PANES; i++) {
        n += s->delays.n[i];
        half += s->delays.half[i];
        quarter += s->delays.quarter[i];
    }
    return half > recent_spare(n) ? OVER_HALF : quarter > recent_spare(n) ? OVER_QUARTER : IN_TIME;
}

// ---- S4: the level -----------------------------------------------------------------------------------

static uint8_t pin_of(const struct model *m)
{
    return atomic_load_explicit(&m->pin, memory_order_relaxed);
}

static bool is_pinned(const struct desk *d)
{
    return d->model->rules.levels && d->standing.pin > 0;
}

// Why the level in force is what it is now; NULL: nothing has changed.
static const char *cause_of(const struct desk *d, bool was_pinned, bool moves)
{
    const struct model *m = d->model;
    if (is_pinned(d))
        return "pinned";
    if (was_pinned)
        return "unpinned";
    return moves ? level_cause_name[m->rules.levels ? d->standing.state.cause : LEVEL_CAUSE_RULES]
                 : NULL;
}

static void tell_level(struct desk *d, uint64_t now_us, struct effects *fx)
{
    struct desk_standing *s = &d->standing;
    struct model *m = d->model;
    bool was_pinned = is_pinned(d);
    s->pin = pin_of(m);
    enum level was = standing_level(m), is = is_pinned(d) ? s->pin - 1u : s->state.level;
    const char *cause = cause_of(d, was_pinned, is != was);
    if (cause)
        atomic_store(&m->level_cause, cause);
    if (is == was)
        return;
    atomic_store(&m->level_since_us, now_us);
    atomic_store(&m->level, (uint8_t)is);
    fx_note(fx, NOTE_LEVEL, m, is, was);
}

// What is kept, or written down, answers too; but nobody would call that service.
static enum level_rest rest_of(const struct desk *d)
{
    enum level_rest rest = LEVEL_REST_NONE;
    for (unsigned i = 1; d->chain && i < d->chain->n && rest != LEVEL_REST_ROOM; i++) {
        const struct chain_link *l = &d->chain->links[i];
        const struct model *m = l->kind == LINK_MODEL ? table_find(d->table, l->name) : NULL;
        if (!m || atomic_load_explicit(&m->ready, memory_order_relaxed) == 0)
            continue;
        bool room = atomic_load_explicit(&m->share, memory_order_relaxed) >= STANDING_ROOM;
        rest = room ? LEVEL_REST_ROOM : LEVEL_REST_FULL;
    }
    return rest;
}

static struct level_signals signals_of(const struct desk *d, double share, uint64_t p99_us)
{
    const struct replicas *rs = &d->replicas;
    const struct model_rules *k = &d->model->rules;
    return (struct level_signals){.strain = strain_of(&d->standing, k, p99_us),
                                  .ready = rs->n_ready,
                                  .known = rs->n_known,
                                  .share_ppm = (uint32_t)(share * 1e6),
                                  .alternatives = k->alternatives,
                                  .rest = rest_of(d)};
}

static void reckon_level(struct desk *d, double share, uint64_t p99_us, uint64_t now_us,
                         struct effects *fx)
{
    struct desk_standing *s = &d->standing;
    struct level_rules k = bounds_of(&d->model->rules);
    s->signals = signals_of(d, share, p99_us);
    level_step(&s->state, &k, &s->signals, now_us);
    tell_level(d, now_us, fx);
}

// ---- S5: what it does --------------------------------------------------------------------------------

// Rows of a batch that take no longer than half of what p99 may come down to; all: nobody says, or not even one.
static double rows_in_time(const struct desk *d, uint32_t all)
{
    const struct estimate *e = &d->batcher.estimate;
    const struct model_rules *k = &d->model->rules;
    double us = (double)k->p99_leave_us / 2 - e->alpha;
    bool can = k->p99_enter_us > 0 && estimate_trusted(e) && us >= e->beta && e->beta > 0;
    return can ? floor(us / e->beta) : all;
}

// At which the servers keep up with what is asked for: b / t(b) = demand.
static double rows_needed(const struct desk *d)
{
    const struct estimate *e = &d->batcher.estimate;
    unsigned servers = d->batcher.outlook.servers > 0 ? d->batcher.outlook.servers : 1;
    double rate = STANDING_LOAD * d->standing.demand / servers;
    if (!estimate_trusted(e))
        return 1;
    return rate * e->beta < 1 ? ceil(e->alpha * rate / (1 - rate * e->beta)) : UINT32_MAX;
}

void standing_ease(const struct desk *d, struct policy *p)
{
    if (standing_level(d->model) == LEVEL_HEALTHY)
        return;
    double rows = p->kind == POLICY_AUTO ? rows_in_time(d, p->max_rows) : ceil(p->max_rows / 2.0);
    rows = fmax(rows, fmax(rows_needed(d), 1));
    p->max_wait_us = 0;
    p->max_rows = rows < p->max_rows ? (uint32_t)rows : p->max_rows;
}

const char *standing_refusal(const struct desk *d)
{
    if (standing_level(d->model) != LEVEL_OUTAGE)
        return NULL;
    if (is_pinned(d))
        return "an operator has set the model to level 4, as if nothing could answer";
    return d->replicas.n_ready == 0 ? "no replica of the model is ready" : NULL;
}

// ---- telling -----------------------------------------------------------------------------------------

// S4: a pinned level pretends a loss.
static double share_left(const struct desk *d, double share)
{
    static const double left[LEVELS] = {1, 1, 0.5, 0.25, 0};
    return is_pinned(d) ? fmin(share, left[standing_level(d->model)]) : share;
}

static void tell_share(struct model *m, double share)
{
    uint32_t is = (uint32_t)(share * MODEL_SHARE) / STEP * STEP;
    if (is == 0 && share > 0)
        is = STEP; // some of its traffic says how it fares
    if (is != atomic_load_explicit(&m->share, memory_order_relaxed))
        atomic_store_explicit(&m->share, is, memory_order_relaxed);
}

static void tell_us(_Atomic uint32_t *word, uint64_t us)
{
    uint32_t was = atomic_load_explicit(word, memory_order_relaxed);
    uint32_t is = us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
    uint32_t differs = was > is ? was - is : is - was;
    if (differs > is / 16)
        atomic_store_explicit(word, is, memory_order_relaxed);
}

static uint64_t look_after_us(const struct model_rules *k)
{
    uint64_t us = k->hold_us / 8;
    return k->levels && us < STANDING_LOOK_US ? us + 1 : STANDING_LOOK_US;
}

// S6
static void tell_cost(struct desk *d)
{
    _Atomic uint64_t *word = &d->model->cost_ns;
    uint64_t is = estimate_mean_us(&d->batcher.estimate, d->most_rows) * 1000 / d->most_rows;
    uint64_t was = atomic_load_explicit(word, memory_order_relaxed);
    if ((was > is ? was - is : is - was) > is / 16)
        atomic_store_explicit(word, is, memory_order_relaxed);
}

static uint64_t row_us(const struct desk *d, uint64_t now_us)
{
    const struct desk_standing *s = &d->standing;
    uint64_t us = estimate_mean_us(&d->batcher.estimate, 1);
    return us < s->cut_us && now_us < s->cut_until_us ? s->cut_us : us;
}

static void reckon_tenants(struct model *m, uint64_t now_us)
{
    struct tenant_books *b = atomic_load_explicit(&m->books, memory_order_acquire);
    uint32_t limit = atomic_load_explicit(&m->queue_limit, memory_order_relaxed);
    if (b)
        tenants_reckon(b, model_useful(m, limit, m->rules.deadline_us), now_us);
}

static void look(struct desk *d, uint64_t now_us, struct effects *fx)
{
    struct desk_standing *s = &d->standing;
    struct model *m = d->model;
    double can = rows_a_us(d, now_us);
    recent_turn(&s->took, m->rules.window_us, now_us);
    delays_turn(&s->delays, m->rules.window_us, now_us);
    count_rows(d, can, now_us);
    double share = share_of(d, can);
    uint64_t p99_us = recent_p99(&s->took);
    reckon_level(d, share, p99_us, now_us, fx);
    tell_share(m, share_left(d, share));
    tell_us(&m->row_us, row_us(d, now_us));
    tell_cost(d);
    tell_us(&m->p99_us, p99_us);
    tell_us(&m->rate, (uint64_t)(can * s->yield * 1e6));
    reckon_tenants(m, now_us);
    desk_adopt_policy(d);
    s->look_us = now_us + look_after_us(&m->rules);
}

void standing_cut(struct desk *d, uint64_t us, uint64_t now_us)
{
    struct desk_standing *s = &d->standing;
    if (us <= s->cut_us && now_us < s->cut_until_us)
        return;
    s->cut_us = us;
    s->cut_until_us = now_us + STANDING_CUT_US;
    tell_us(&d->model->row_us, row_us(d, now_us));
}

void standing_tell(struct desk *d, uint64_t now_us, struct effects *fx)
{
    struct desk_standing *s = &d->standing;
    if (d->batcher.rows < s->backlog)
        s->backlog = d->batcher.rows;
    if (now_us >= s->look_us || pin_of(d->model) != s->pin)
        look(d, now_us, fx);
    tell_waits(d, now_us);
}

uint64_t standing_wake_us(const struct desk *d)
{
    const struct desk_standing *s = &d->standing;
    bool whole = atomic_load_explicit(&d->model->share, memory_order_relaxed) == MODEL_SHARE;
    bool settled = !d->model->rules.levels || !level_unsettled(&s->state);
    return settled && (whole || d->replicas.n_ready == 0) ? UINT64_MAX : s->look_us;
}
