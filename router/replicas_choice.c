// Who may take a batch, and who of them does (router/replicas.h).
#include "router/replicas_inner.h"

#include "router/desk.h"
#include "router/preference.h"

// ---- who may take a batch ----------------------------------------------------------------------------

bool replica_usable(const struct replica *r, uint64_t now_us)
{
    return r->up && r->standing != STANDING_OPEN && now_us >= r->not_before_us;
}

static uint32_t credit_of(const struct replicas *rs, const struct replica *r)
{
    if (rs->model->rules.pipeline > 0)
        return rs->model->rules.pipeline;
    return r->n_servers * (replicas_auto(rs) ? REPLICA_PIPELINE_AUTO : REPLICA_PIPELINE_FIXED);
}

static bool has_credit(const struct replicas *rs, const struct replica *r, uint64_t now_us)
{
    bool single = rs->suspects > 0 || r->standing != STANDING_CLOSED;
    return r->batches < (single ? 1 : credit_of(rs, r)) && replica_usable(r, now_us);
}

bool replicas_serve(const struct replicas *rs, struct view version, bool with_credit,
                    uint64_t now_us)
{
    for (unsigned i = 0; i < rs->n; i++) {
        const struct replica *r = &rs->at[i];
        if (r->up && replica_has(r, version) && (!with_credit || has_credit(rs, r, now_us)))
            return true;
    }
    return false;
}

bool replicas_credit(const struct replicas *rs, uint64_t now_us)
{
    return replicas_serve(rs, (struct view){0}, true, now_us);
}

// ---- choosing ----------------------------------------------------------------------------------------

unsigned replica_soonest(const struct replica *r, uint64_t now_us)
{
    unsigned best = 0;
    for (unsigned i = 1; i < r->n_servers; i++) {
        if (server_before(&r->server[i], &r->server[best], now_us))
            best = i;
    }
    return best;
}

static struct replica *soonest(struct replica **fit, unsigned n, uint64_t now_us)
{
    struct replica *best = fit[0];
    for (unsigned i = 1; i < n; i++) {
        if (server_before(&fit[i]->server[replica_soonest(fit[i], now_us)],
                          &best->server[replica_soonest(best, now_us)], now_us))
            best = fit[i];
    }
    return best;
}

static double load(const struct replica *r)
{
    return (r->rows + 1.0) * (r->latency_us + 1.0);
}

// Could it have the batch now, so that nobody waits if another one rests? Under auto, where credit is no measure, one that is
// idle.
static bool is_free(const struct replicas *rs, const struct replica *r, uint64_t now_us)
{
    return !replicas_auto(rs) ||
           server_busy_us(&r->server[replica_soonest(r, now_us)], now_us) == 0;
}

// Too many rows for r, and not for another one that is up?
static bool is_for_others(const struct replicas *rs, const struct replica *r,
                          const struct wanted *w)
{
    for (unsigned i = 0; i < rs->n && w->rows > r->facts.max_batch; i++) {
        const struct replica *o = &rs->at[i];
        if (o->up && o->facts.max_batch >= w->rows && replica_has(o, w->version))
            return true;
    }
    return false;
}

bool replicas_sibling(const struct replicas *rs, const struct wanted *w, uint64_t now_us)
{
    for (unsigned i = 0; i < rs->n; i++) {
        const struct replica *r = &rs->at[i];
        if (r->id != w->avoid && replica_usable(r, now_us) && replica_has(r, w->version) &&
            !is_for_others(rs, r, w))
            return true;
    }
    return false;
}

struct fitting { // those that a batch may go to
    struct replica *at[DESK_REPLICAS];
    unsigned n;
};

// Of the lowest class that has any.
static void find_fitting(struct replicas *rs, const struct wanted *w, bool fresh, struct fitting *f,
                         uint64_t now_us)
{
    unsigned rank = REPLICA_RANKS;
    f->n = 0;
    for (unsigned i = 0; i < rs->n; i++) {
        struct replica *r = &rs->at[i];
        if (!has_credit(rs, r, now_us) || r->id == w->avoid || !replica_has(r, w->version))
            continue;
        if (r->facts.rank < w->rank || r->facts.rank > rank || is_for_others(rs, r, w) ||
            (fresh && (now_us < r->rest_us || !is_free(rs, r, now_us))))
            continue;
        f->n = r->facts.rank < rank ? 0 : f->n;
        rank = r->facts.rank;
        f->at[f->n++] = r;
    }
}

struct replica *replicas_choose(struct replicas *rs, const struct wanted *w, uint64_t now_us)
{
    struct fitting f = {.n = 0};
    if (now_us < rs->ramp_until_us && rs->n_up > 1)
        find_fitting(rs, w, true, &f, now_us);
    if (f.n == 0)
        find_fitting(rs, w, false, &f, now_us);
    if (f.n <= 1)
        return f.n ? f.at[0] : NULL;
    if (replicas_auto(rs))
        return soonest(f.at, f.n, now_us);
    unsigned a = (unsigned)rand_below(&rs->rand, f.n), b = (unsigned)rand_below(&rs->rand, f.n - 1);
    b += b >= a;
    return load(f.at[a]) <= load(f.at[b]) ? f.at[a] : f.at[b];
}

uint32_t replicas_cap(struct replicas *rs, const struct wanted *w, uint64_t now_us)
{
    const struct replica *r = rs->mixed ? replicas_choose(rs, w, now_us) : NULL;
    uint32_t max = r ? r->facts.max_batch : rs->max_batch;
    return max ? max : 1;
}

struct outlook replicas_outlook(const struct replicas *rs, uint64_t now_us)
{
    struct outlook o = {0};
    unsigned rank = REPLICA_RANKS;
    for (unsigned i = 0; i < rs->n; i++) {
        const struct replica *r = &rs->at[i];
        if (!replica_usable(r, now_us) || r->facts.rank > rank)
            continue;
        if (r->facts.rank < rank)
            o = (struct outlook){0};
        rank = r->facts.rank;
        for (unsigned k = 0; k < r->n_servers; k++)
            outlook_add(&o, &r->server[k], now_us);
    }
    if (rs->mixed)
        preference_beside(rs, &o, now_us);
    return o;
}

// D4
static bool is_overtaken(const struct desk *d, struct replica *r, uint64_t free_us, uint64_t now_us)
{
    bool in_turn = d->passed == 0 || d->passed >= DEVICE_PASSES;
    if (d->batcher.count == 0 || r->batches > 0 || free_us <= now_us || !in_turn)
        r->promised_us = 0;
    else if (r->promised_us == 0)
        r->promised_us = free_us;
    return r->promised_us > 0 && now_us >= r->promised_us;
}

void replicas_watch_devices(struct replicas *rs, uint64_t now_us)
{
    for (unsigned i = 0; i < rs->n; i++) {
        struct replica *r = &rs->at[i];
        if (!r->facts.device || r->n_servers == 0) // it has not been up
            continue;
        r->server[0].others_us = device_free_us(r->facts.device);
        r->server[0].overtaken = is_overtaken(rs->desk, r, r->server[0].others_us, now_us);
    }
}

struct device_turn *replicas_open_turn(const struct replicas *rs, uint64_t now_us)
{
    uint64_t ahead_us = now_us + rs->desk->batcher.half_us + POLICY_LEAD_MOST_US;
    for (unsigned i = 0; i < rs->n; i++) {
        const struct replica *r = &rs->at[i];
        if (r->seat.prev && r->facts.turn->first->next && replica_usable(r, now_us) &&
            device_free_us(r->facts.device) <= ahead_us)
            return r->facts.turn;
    }
    return NULL;
}

const struct batch_server *replicas_at_hand(struct replicas *rs, const struct wanted *w,
                                            uint64_t now_us)
{
    const struct replica *r = replicas_choose(rs, w, now_us);
    return r ? &r->server[replica_soonest(r, now_us)] : NULL;
}

uint64_t replicas_pause_ends(const struct replicas *rs, uint64_t now_us)
{
    uint64_t ends = UINT64_MAX;
    for (unsigned i = 0; i < rs->n; i++) {
        const struct replica *r = &rs->at[i];
        uint64_t until =
            most(r->not_before_us, r->standing == STANDING_OPEN ? r->open_until_us : 0);
        if (r->up && until > now_us)
            ends = least(ends, until);
    }
    return ends;
}
