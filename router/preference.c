#include "router/preference.h"

#include "router/desk.h"

// ---- C1, C5: who leads -------------------------------------------------------------------------------

static bool is_before(const struct replica *a, const struct replica *b)
{
    bool a_ready = a->standing != STANDING_OPEN, b_ready = b->standing != STANDING_OPEN;
    return a_ready != b_ready ? a_ready : a->facts.rank < b->facts.rank;
}

// What is known of the class in force, to the others.
static void put_beside(struct replicas *rs)
{
    const struct batcher *b = &rs->desk->batcher;
    rs->known[rs->rank] = (struct class_known){b->estimate, b->estimate, b->learned_us};
}

static void put_in_force(struct replicas *rs, unsigned rank)
{
    rs->rank = rank;
    batcher_knows(&rs->desk->batcher, &rs->known[rank].answered, rs->known[rank].met_us);
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
    if (first->facts.rank != rs->rank) {
        put_beside(rs);
        put_in_force(rs, first->facts.rank);
    }
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

struct class_known preference_unknown(void)
{
    struct class_known k = {.met_us = 0};
    estimate_init(&k.beside);
    estimate_init(&k.answered);
    return k;
}

// What is to be believed of a class, of what was known of those that its replicas were of.
static struct class_known known_of(const struct replicas *rs, unsigned rank, const uint8_t *was,
                                   const struct class_known *known)
{
    const struct class_known *best = NULL;
    uint32_t rows = rs->desk->batcher.policy.max_rows;
    for (unsigned i = 0; i < rs->n; i++) {
        const struct class_known *k = &known[was[i]];
        if (rs->at[i].id == REPLICA_NONE || rs->at[i].facts.rank != rank)
            continue;
        if (!best || estimate_mean_us(&k->beside, rows) > estimate_mean_us(&best->beside, rows))
            best = k;
    }
    return best ? *best : preference_unknown();
}

void preference_carry(struct replicas *rs, const uint8_t *was)
{
    struct class_known known[REPLICA_RANKS + 1];
    put_beside(rs);
    for (unsigned rank = 0; rank <= REPLICA_RANKS; rank++)
        known[rank] = rs->known[rank];
    for (unsigned rank = 0; rank <= REPLICA_RANKS; rank++)
        rs->known[rank] = known_of(rs, rank, was, known);
    put_in_force(rs, rs->rank);
}

// ---- C3: what is known of the others -----------------------------------------------------------------

const struct estimate *preference_estimate(const struct replicas *rs, unsigned rank)
{
    return rank == rs->rank ? &rs->desk->batcher.estimate : &rs->known[rank].beside;
}

static uint32_t rows_of(const struct batch *b)
{
    return b->rows ? b->rows : 1;
}

static void learn(struct estimate *e, uint32_t rows, uint64_t took_us)
{
    if (2 * took_us < estimate_mean_us(e, rows))
        estimate_init(e);
    estimate_add(e, rows, took_us);
}

void preference_learn(struct replicas *rs, const struct batch *b, uint64_t took_us, uint64_t now_us)
{
    struct class_known *k = &rs->known[b->rank];
    learn(&k->beside, rows_of(b), took_us);
    learn(&k->answered, rows_of(b), took_us);
    k->met_us = now_us;
}

// Nobody would wait for it again to find out: it is believed at once.
void preference_late(struct replicas *rs, const struct batch *b, uint64_t now_us)
{
    struct estimate *e = &rs->known[b->rank].beside;
    uint64_t out_us = now_us - b->sent_us;
    do
        estimate_add(e, rows_of(b), out_us);
    while (!estimate_trusted(e));
    rs->known[b->rank].met_us = now_us;
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
    return estimate_trusted(c->t) && now_us >= rs->known[rank].met_us + PREFERENCE_DOUBT_US;
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
        rs->known[h->rank].met_us = now_us;
}
