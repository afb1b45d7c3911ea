#include "router/preference.h"

#include "router/desk.h"

// ---- C1, C5: who leads -------------------------------------------------------------------------------

static bool is_before(const struct replica *a, const struct replica *b)
{
    bool a_ready = a->standing != STANDING_OPEN, b_ready = b->standing != STANDING_OPEN;
    return a_ready != b_ready ? a_ready : a->facts.rank < b->facts.rank;
}

static void take_force(struct replicas *rs, unsigned rank)
{
    struct estimate *in_force = &rs->desk->batcher.estimate;
    rs->beside[rs->rank] = *in_force;
    rs->beside_met_us[rs->rank] = rs->desk->batcher.learned_us;
    *in_force = rs->beside[rank];
    rs->rank = rank;
}

void preference_lead(struct replicas *rs)
{
    const struct replica *first = NULL;
    uint32_t least = UINT32_MAX;
    rs->mixed = false;
    for (unsigned i = 0; i < rs->n; i++) {
        const struct replica *r = &rs->at[i];
        if (!r->up)
            continue;
        rs->mixed |= first && first->facts.rank != r->facts.rank;
        least = r->facts.max_batch < least ? r->facts.max_batch : least;
        if (!first || is_before(r, first))
            first = r;
    }
    if (!first)
        return;
    rs->moved |= first->facts.rank != rs->rank;
    if (first->facts.rank != rs->rank)
        take_force(rs, first->facts.rank);
    rs->max_batch = first->facts.max_batch;
    atomic_store(&rs->model->max_batch, least);
}

uint32_t preference_batch(const struct replicas *rs, const struct replica *r)
{
    uint32_t max = r->facts.max_batch;
    for (unsigned i = 0; i < rs->n; i++) {
        const struct replica *o = &rs->at[i];
        bool fits = o->facts.rank == r->facts.rank ? o->facts.max_batch == max
                                                   : (o->facts.max_batch == 0) == (max == 0);
        if (o->up && o != r && !fits)
            return o->facts.max_batch;
    }
    return max;
}

// ---- C3: what is known of the others -----------------------------------------------------------------

const struct estimate *preference_estimate(const struct replicas *rs, unsigned rank)
{
    return rank == rs->rank ? &rs->desk->batcher.estimate : &rs->beside[rank];
}

static uint32_t rows_of(const struct batch *b)
{
    return b->rows ? b->rows : 1;
}

void preference_learn(struct replicas *rs, const struct batch *b, uint64_t took_us, uint64_t now_us)
{
    struct estimate *e = &rs->beside[b->rank];
    if (2 * took_us < estimate_mean_us(e, rows_of(b)))
        estimate_init(e);
    estimate_add(e, rows_of(b), took_us);
    rs->beside_met_us[b->rank] = now_us;
}

// Nobody would wait for it again to find out: it is believed at once.
void preference_late(struct replicas *rs, const struct batch *b, uint64_t now_us)
{
    struct estimate *e = &rs->beside[b->rank];
    uint64_t out_us = now_us - b->sent_us;
    do
        estimate_add(e, rows_of(b), out_us);
    while (!estimate_trusted(e));
    rs->beside_met_us[b->rank] = now_us;
}

// ---- C2, C4: what they can do ------------------------------------------------------------------------

struct class
{ // one that is not in force
    struct outlook at;
    uint32_t cap_rows;
    const struct estimate *t;
};

// False: none of it can have a batch.
static bool look_at_class(const struct replicas *rs, unsigned rank, struct class *c,
                          uint64_t now_us)
{
    *c = (struct class){.t = preference_estimate(rs, rank)};
    for (unsigned i = 0; i < rs->n; i++) {
        const struct replica *r = &rs->at[i];
        if (r->facts.rank != rank || !replica_usable(r, now_us))
            continue;
        c->cap_rows = r->facts.max_batch ? r->facts.max_batch : 1;
        for (unsigned k = 0; k < r->n_servers; k++)
            outlook_add(&c->at, &r->server[k], now_us);
    }
    return c->at.servers > 0;
}

static uint32_t full_rows(const struct replicas *rs, const struct class *c)
{
    uint32_t most = rs->model->rules.max_rows;
    return most > 0 && most < c->cap_rows ? most : c->cap_rows;
}

void preference_beside(const struct replicas *rs, struct outlook *o, uint64_t now_us)
{
    const struct batcher *b = &rs->desk->batcher;
    struct class c;
    for (unsigned rank = 0; rank < REPLICA_RANKS; rank++) {
        if (rank == rs->rank || !look_at_class(rs, rank, &c, now_us))
            continue;
        uint32_t rows = full_rows(rs, &c);
        uint64_t us = estimate_mean_us(c.t, rows), free_us = c.at.soonest_free_us;
        if (us == 0) // it is thought to be as quick, until it is known
            us = estimate_mean_us(&b->estimate, rows);
        o->beside += us > 0 ? (double)c.at.servers * rows / (double)us : 0;
        uint64_t end_us = (free_us > now_us + b->half_us ? free_us : now_us + b->half_us) +
                          b->half_us + estimate_low_us(c.t, 1);
        o->beside_us = o->beside_us == 0 || end_us < o->beside_us ? end_us : o->beside_us;
    }
}

// When the last of what waits would be answered by the class in force.
static uint64_t last_end_us(const struct batcher *b, uint64_t now_us)
{
    uint64_t round = (uint64_t)b->policy.max_rows * b->outlook.servers;
    uint64_t free_us = b->outlook.soonest_free_us;
    return (free_us > now_us ? free_us : now_us) + (1 + b->rows / round) * b->full_us;
}

// The first deadline is not to be met by it; or nobody knows how long what is there takes, or it takes longer than it should.
static bool is_pressed(const struct batcher *b, uint64_t now_us)
{
    uint64_t free_us = b->outlook.soonest_free_us;
    return free_us <= now_us || batcher_doom_us(b) <= free_us;
}

static bool is_saturated(const struct batcher *b)
{
    return b->rows > (uint64_t)b->policy.max_rows * b->outlook.servers;
}

// In doubt it is tried, as one of which nothing is known.
static bool is_doubted(const struct replicas *rs, unsigned rank, const struct class *c,
                       uint64_t now_us)
{
    return estimate_trusted(c->t) && now_us >= rs->beside_met_us[rank] + PREFERENCE_DOUBT_US;
}

// Would it answer sooner than those in force?
static bool is_sooner(const struct replicas *rs, const struct class *c, uint64_t now_us)
{
    const struct batcher *b = &rs->desk->batcher;
    uint32_t full = full_rows(rs, c);
    uint64_t us = estimate_mean_us(c->t, b->rows < full ? (uint32_t)b->rows : full);
    return b->full_us == 0 || now_us + us <= last_end_us(b, now_us);
}

struct preference_help preference_helps(const struct replicas *rs, uint64_t now_us)
{
    const struct batcher *b = &rs->desk->batcher;
    struct preference_help h = {.rank = REPLICA_RANKS};
    bool pressed = is_pressed(b, now_us);
    struct class c;
    if (b->outlook.idle > 0 || !(pressed || is_saturated(b)))
        return h;
    for (unsigned rank = 0; rank < REPLICA_RANKS; rank++) {
        if (rank == rs->rank || !look_at_class(rs, rank, &c, now_us) || c.at.idle == 0)
            continue;
        bool doubted = is_doubted(rs, rank, &c, now_us);
        if (!doubted && !pressed && !is_sooner(rs, &c, now_us))
            continue;
        h = (struct preference_help){
            .rank = rank, .cap_rows = doubted ? 1 : c.cap_rows, .at = c.at};
        if (doubted)
            estimate_init(&h.t);
        else
            h.t = *c.t;
        return h;
    }
    return h;
}

void preference_helped(struct replicas *rs, const struct preference_help *h, uint64_t now_us)
{
    if (!estimate_trusted(&h->t))
        rs->beside_met_us[h->rank] = now_us;
}
