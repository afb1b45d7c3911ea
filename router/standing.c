#include "router/standing.h"

#include "router/desk.h"
#include <math.h>

#define STEP (MODEL_SHARE / 64)
#define MATTERS_US 1000
#define YIELD_GAIN 0.25
#define YIELD_BACK 1.02

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
    uint64_t full_us = estimate_mean_us(&d->batcher.estimate, d->batcher.policy.max_rows);
    if (full_us == 0)
        return 0;
    struct outlook at = replicas_outlook(&d->replicas, now_us);
    return (double)at.servers * d->batcher.policy.max_rows / (double)full_us;
}

static void count_demand(struct desk_standing *s, uint64_t rows, double us)
{
    double keep = exp(-us / STANDING_TAU_US);
    s->demand = s->demand * keep + (1 - keep) * ((double)rows / us);
}

static void learn_yield(struct desk_standing *s, double can, double did, bool backlog)
{
    if (backlog && can > 0)
        s->yield += YIELD_GAIN * (fmin(1, did / can) - s->yield);
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

static void tell_share(struct model *m, double share)
{
    uint32_t is = (uint32_t)(share * MODEL_SHARE) / STEP * STEP;
    if (is == 0 && share > 0)
        is = STEP; // some of its traffic says how it fares
    if (is != atomic_load_explicit(&m->share, memory_order_relaxed))
        atomic_store_explicit(&m->share, is, memory_order_relaxed);
}

static void tell_row(struct desk *d, uint64_t now_us)
{
    struct model *m = d->model;
    const struct desk_standing *s = &d->standing;
    uint64_t us = estimate_mean_us(&d->batcher.estimate, 1);
    if (us < s->cut_us && now_us < s->cut_until_us)
        us = s->cut_us;
    uint32_t was = atomic_load_explicit(&m->row_us, memory_order_relaxed);
    uint32_t is = us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
    uint32_t differs = was > is ? was - is : is - was;
    if (differs > is / 16)
        atomic_store_explicit(&m->row_us, is, memory_order_relaxed);
}

static void look(struct desk *d, uint64_t now_us)
{
    struct desk_standing *s = &d->standing;
    uint64_t turned = atomic_load_explicit(&d->model->turned_rows, memory_order_relaxed);
    double us = (double)(now_us - s->seen_us), can = rows_a_us(d, now_us);
    if (s->seen_us > 0 && us > 0) {
        bool backlog = s->backlog != UINT64_MAX && s->backlog >= d->batcher.policy.max_rows;
        count_demand(s, s->came - s->came_seen + turned - s->turned_seen, us);
        learn_yield(s, can, (double)(s->served - s->served_seen) / us, backlog);
    }
    s->seen_us = now_us;
    s->look_us = now_us + STANDING_LOOK_US;
    s->came_seen = s->came;
    s->served_seen = s->served;
    s->turned_seen = turned;
    s->backlog = UINT64_MAX;
    tell_share(d->model, share_of(d, can));
    tell_row(d, now_us);
}

void standing_cut(struct desk *d, uint64_t us, uint64_t now_us)
{
    struct desk_standing *s = &d->standing;
    if (us <= s->cut_us && now_us < s->cut_until_us)
        return;
    s->cut_us = us;
    s->cut_until_us = now_us + STANDING_CUT_US;
    tell_row(d, now_us);
}

void standing_tell(struct desk *d, uint64_t now_us)
{
    struct desk_standing *s = &d->standing;
    if (d->batcher.rows < s->backlog)
        s->backlog = d->batcher.rows;
    if (now_us >= s->look_us)
        look(d, now_us);
    tell_waits(d, now_us);
}

uint64_t standing_wake_us(const struct desk *d)
{
    bool whole = atomic_load_explicit(&d->model->share, memory_order_relaxed) == MODEL_SHARE;
    return whole || d->replicas.n_ready == 0 ? UINT64_MAX : d->standing.look_us;
}
