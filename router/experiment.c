#include "router/experiment.h"

#include "base/hash.h"

const char *const draw_how_name[DRAW_HOWS] = {
    [DRAW_TAKEN] = "drawn",
    [DRAW_FORCED] = "forced",
    [DRAW_NO_KEY] = "no_key",
    [DRAW_HELD_OUT] = "holdout",
    [DRAW_OTHER_SLICE] = "slice",
    [DRAW_NOT_TARGETED] = "target",
    [DRAW_BOUND] = "version",
    [DRAW_UNFIT] = "unfit",
    [DRAW_DRAFT] = "draft",
    [DRAW_PAUSED] = "paused",
    [DRAW_ROLLED_BACK] = "rolled_back",
    [DRAW_PROMOTED] = "promoted",
};

// ---- buckets -----------------------------------------------------------------------------------------

// Nobody's, while a change is being made: those that somebody gave up, and those that somebody keeps.
#define FREE_OF_ALL EXPERIMENT_VARIANTS
#define KEPT (EXPERIMENT_VARIANTS + 1)

void buckets_init(struct buckets *b)
{
    b->n = 1;
    b->last[0] = UINT32_MAX;
    b->of[0] = 0;
}

static inline unsigned run_at(const struct buckets *b, uint32_t bucket)
{
    unsigned low = 0;
    for (unsigned n = b->n; n > 1;) {
        unsigned half = n / 2;
        low += b->last[low + half - 1] < bucket ? half : 0;
        n -= half;
    }
    return low;
}

unsigned buckets_find(const struct buckets *b, uint32_t bucket)
{
    return b->of[run_at(b, bucket)];
}

uint64_t buckets_of(const struct buckets *b, unsigned variant)
{
    uint64_t sum = 0, from = 0;
    for (unsigned i = 0; i < b->n; i++) {
        sum += b->of[i] == variant ? b->last[i] + 1ull - from : 0;
        from = b->last[i] + 1ull;
    }
    return sum;
}

// A run begins with bucket `at`.
static bool cut_run(struct buckets *b, uint64_t at)
{
    if (at == 0 || at == BUCKETS)
        return true;
    unsigned i = run_at(b, (uint32_t)(at - 1));
    if (b->last[i] == at - 1)
        return true;
    if (b->n == BUCKET_RUNS)
        return false;
    memmove(&b->last[i + 1], &b->last[i], (b->n - i) * sizeof(b->last[0]));
    memmove(&b->of[i + 1], &b->of[i], (b->n - i) * sizeof(b->of[0]));
    b->last[i] = (uint32_t)(at - 1);
    b->n++;
    return true;
}

static bool paint_run(struct buckets *b, uint64_t from, uint64_t to, uint8_t whose)
{
    if (!cut_run(b, from) || !cut_run(b, to))
        return false;
    for (unsigned i = run_at(b, (uint32_t)from); i < b->n && b->last[i] < to; i++)
        b->of[i] = whose;
    return true;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

// Of the buckets [at, at + length), round the circle, the first *want that are `from` become `to`; *want: what is missing.
static bool take_buckets(struct buckets *b, uint8_t from, uint8_t to, uint64_t at, uint64_t length,
                         uint64_t *want)
{
    while (length > 0 && *want > 0) {
        unsigned i = run_at(b, (uint32_t)at);
        uint64_t n = smaller(b->last[i] + 1ull - at, length);
        if (b->of[i] == from) {
            n = smaller(n, *want);
            if (!paint_run(b, at, at + n, to))
                return false;
            *want -= n;
        }
        at = (at + n) % BUCKETS;
        length -= n;
    }
    return true;
}

static uint64_t place_of(unsigned variant, unsigned n)
{
    return variant * BUCKETS / n;
}

// What it took last it gives up: all but the first `keep`.
static bool give_up(struct buckets *b, unsigned variant, unsigned n, uint64_t keep)
{
    uint64_t at = place_of(variant, n), all = BUCKETS, kept = BUCKETS;
    return take_buckets(b, (uint8_t)variant, KEPT, at, BUCKETS, &keep) &&
           take_buckets(b, (uint8_t)variant, FREE_OF_ALL, at, BUCKETS, &all) &&
           take_buckets(b, KEPT, (uint8_t)variant, at, BUCKETS, &kept);
}

static void join_runs(struct buckets *b)
{
    unsigned n = 0;
    for (unsigned i = 0; i < b->n; i++) {
        if (n > 0 && b->of[n - 1] == b->of[i])
            n--;
        b->last[n] = b->last[i];
        b->of[n++] = b->of[i];
    }
    b->n = n;
}

bool buckets_change(struct buckets *b, const uint32_t *weights, unsigned n)
{
    uint64_t want[EXPERIMENT_VARIANTS] = {0}, before = 0, sum = 0;
    for (unsigned i = 0; i < n; i++) {
        sum += weights[i];
        want[i] = sum * BUCKETS / EXPERIMENT_WHOLE - before;
        before += want[i];
    }
    bool room = true;
    for (unsigned i = 1; i < n; i++) {
        uint64_t has = buckets_of(b, i);
        room = room && (has <= want[i] || give_up(b, i, n, want[i]));
        want[i] = has < want[i] ? want[i] - has : 0; // more
    }
    for (unsigned i = 1; i < n; i++)
        room = room && take_buckets(b, FREE_OF_ALL, (uint8_t)i, place_of(i, n), BUCKETS, &want[i]);
    for (unsigned i = 1; i < n; i++) // all have their own places before anybody goes beyond them
        room = room && take_buckets(b, 0, (uint8_t)i, place_of(i, n), BUCKETS / n, &want[i]);
    for (unsigned i = 1; i < n; i++)
        room = room && take_buckets(b, 0, (uint8_t)i, place_of(i, n), BUCKETS, &want[i]);
    uint64_t rest = BUCKETS;
    room = room && take_buckets(b, FREE_OF_ALL, 0, 0, BUCKETS, &rest);
    join_runs(b);
    return room;
}

// ---- drawing -----------------------------------------------------------------------------------------

uint64_t experiment_seed(struct view salt, enum draw_for what)
{
    return hash64(salt, what);
}

uint32_t experiment_bucket(struct view key, uint64_t seed)
{
    return (uint32_t)(hash64(key, seed) >> 32);
}

static bool is_targeted(const struct experiment *e, const struct view *said)
{
    for (unsigned i = 0; i < e->n_conditions;) {
        unsigned trait = e->conditions[i].trait;
        bool fits = false;
        for (; i < e->n_conditions && e->conditions[i].trait == trait; i++)
            fits |= said[trait].n > 0 && view_eq(said[trait], e->conditions[i].value);
        if (!fits)
            return false;
    }
    return true;
}

static const struct experiment *find_slice(const struct experiment_site *s, struct view key)
{
    uint32_t bucket = experiment_bucket(key, s->layer_seed);
    for (unsigned i = 0; i < s->n; i++)
        if (s->experiments[i].from <= bucket && bucket < s->experiments[i].to)
            return &s->experiments[i];
    return NULL;
}

// Whose key that is; NULL: *how. A layer's slice is found by the key.
static const struct experiment *find_experiment(const struct experiment_site *s, struct view key,
                                                enum draw_how *how)
{
    *how = DRAW_NO_KEY;
    if (s->layered && key.n == 0)
        return NULL;
    *how = DRAW_OTHER_SLICE;
    return s->layered ? find_slice(s, key) : &s->experiments[0];
}

// Who is kept out although the experiment would have him. Without one that draws there is nothing to hold out of.
static bool is_kept_out(const struct experiment *e, const struct experiment_live *live,
                        const struct view *said, enum draw_how *how)
{
    bool draws = live->how == DRAW_TAKEN;
    *how = DRAW_NO_KEY;
    if (draws && said[0].n == 0)
        return true;
    *how = DRAW_HELD_OUT;
    if (draws && e->held > 0 && experiment_bucket(said[0], e->holdout_seed) < e->held)
        return true;
    *how = DRAW_NOT_TARGETED;
    return !is_targeted(e, said);
}

static void take_part(const struct experiment *e, unsigned variant, enum draw_how how,
                      struct experiment_draw *out)
{
    out->experiment = e;
    out->variant = &e->variants[variant];
    out->how = how;
    out->model = e->variants[variant].model;
}

// It takes the key, or none is taken.
static void draw_in(const struct experiment *e, const struct experiment_live *live,
                    struct experiment_draw *out)
{
    bool draws = live->how == DRAW_TAKEN;
    unsigned i =
        draws ? buckets_find(&live->buckets, experiment_bucket(out->key, e->seed)) : live->whole;
    out->how = live->how;
    if (e->unfit && atomic_load_explicit(e->unfit, memory_order_relaxed) >> i & 1)
        out->how = DRAW_UNFIT;
    else if (draws)
        take_part(e, i, DRAW_TAKEN, out);
    else
        out->model = e->variants[i].model;
}

void experiment_draw(const struct experiment_site *s, const struct view *said,
                     struct experiment_draw *out)
{
    *out = (struct experiment_draw){.model = s->control, .key = said[0]};
    const struct experiment *e = find_experiment(s, said[0], &out->how);
    if (!e)
        return;
    const struct experiment_live *live = atomic_load_explicit(&e->live, memory_order_acquire);
    if (!is_kept_out(e, live, said, &out->how))
        draw_in(e, live, out);
}

void experiment_draw_key(const struct experiment_site *s, const struct experiment *e,
                         struct view key, struct experiment_draw *out)
{
    *out = (struct experiment_draw){.how = DRAW_OTHER_SLICE, .model = s->control, .key = key};
    if (s->layered && find_slice(s, key) != e)
        return;
    const struct experiment_live *live = atomic_load_explicit(&e->live, memory_order_acquire);
    out->how = DRAW_HELD_OUT;
    if (e->held == 0 || experiment_bucket(key, e->holdout_seed) >= e->held)
        draw_in(e, live, out);
}

const struct experiment_shadow *experiment_shade(const struct experiment_draw *d)
{
    const struct experiment *e = d->experiment;
    if (d->how != DRAW_TAKEN || e->n_shadows == 0 || d->variant != &e->variants[0])
        return NULL;
    uint32_t bucket = experiment_bucket(d->key, e->shadow_seed);
    for (unsigned i = 0; i < e->n_shadows; i++)
        if (e->shadows[i].from <= bucket && bucket < e->shadows[i].to)
            return &e->shadows[i];
    return NULL;
}

bool experiment_force(const struct experiment_site *s, struct view experiment, struct view variant,
                      struct experiment_draw *out)
{
    for (unsigned i = 0; i < s->n; i++) {
        const struct experiment *e = &s->experiments[i];
        for (unsigned k = 0; view_eq(e->name, experiment) && k < e->n_variants; k++) {
            if (view_eq(e->variants[k].name, variant)) {
                *out = (struct experiment_draw){0};
                take_part(e, k, DRAW_FORCED, out);
                return true;
            }
        }
    }
    return false;
}
