#include "gateway/rewards.h"

#include "api/feedback.h"
#include "base/check.h"
#include "base/count.h"
#include "base/mem.h"
#include "base/siphash.h"
#include "gateway/origin.h"
#include "gateway/prom.h"
#include <stdio.h>

// ---- what is remembered ------------------------------------------------------------------------------

static void hash_id(const struct gateway *g, struct view id, uint64_t out[2])
{
    struct siphash h; // a client that chooses its ids chooses no place
    siphash_begin(&h, g->secret);
    siphash_put(&h, id.p, id.n);
    siphash_end(&h, (uint8_t *)out);
}

static uint32_t now_s(const struct part *p)
{
    return (uint32_t)(loop_now_us(p->loop) / 1000000);
}

// NULL: nothing is to be remembered, or memory is out.
static struct reward_place *places_of(struct part *p)
{
    struct reward_memory *m = &p->rewards;
    struct reward_place *all = atomic_load_explicit(&m->places, memory_order_relaxed);
    uint32_t sets = p->gateway->birth->limits.rewards_kept / p->gateway->loops.n / REWARD_WAYS;
    if (all || sets == 0 || !(all = mem_zalloc(sets * REWARD_WAYS * sizeof(*all))))
        return all;
    m->sets = sets;
    atomic_store_explicit(&m->places, all, memory_order_release);
    return all;
}

void rewards_deinit(struct reward_memory *m)
{
    mem_free(atomic_load(&m->places));
}

// The one that has that tag, is free, or is the oldest.
static struct reward_place *place_for(struct reward_place *set, uint64_t tag)
{
    struct reward_place *oldest = set;
    for (unsigned i = 0; i < REWARD_WAYS; i++) {
        uint64_t word = atomic_load_explicit(&set[i].word, memory_order_relaxed);
        if (word == 0 || atomic_load_explicit(&set[i].tag, memory_order_relaxed) == tag)
            return &set[i];
        if (word < atomic_load_explicit(&oldest->word, memory_order_relaxed))
            oldest = &set[i];
    }
    return oldest;
}

static const struct experiment_keep *keep_of(const struct request *r)
{
    return &r->place->keeps[r->draw.experiment - r->place->site.experiments];
}

unsigned rewards_enter(struct request *r)
{
    const struct config_guard *guard = &keep_of(r)->config->guard;
    struct part *p = r->part;
    if (!guard->reward || r->in_cohort)
        return COHORT_MARKS;
    struct trial_counts *c =
        experiments_counts(experiments_trial(r->place, &r->draw), p->loop->index);
    if (!c)
        return COHORT_MARKS;
    unsigned mark = cohort_at(loop_now_us(p->loop), guard->reward_within_us);
    count_add(&c->cohorts[mark % COHORTS].n, 1);
    r->in_cohort = true;
    return mark;
}

void rewards_remember(struct request *r)
{
    const struct experiment_draw *d = &r->draw;
    if (!r->place || !d->experiment || d->how != DRAW_TAKEN)
        return;
    struct reward_place *all = keep_of(r)->config->reward_count > 0 ? places_of(r->part) : NULL;
    if (!all)
        return;
    unsigned mark = rewards_enter(r);
    uint32_t id = experiments_trial(r->place, d)->id & (REWARD_TRIALS - 1);
    if (mark < COHORT_MARKS)
        id |= REWARD_WAITED | keep_of(r)->era << 29 | mark << 23;
    uint64_t hash[2];
    hash_id(r->part->gateway, r->serving.meta.request_id, hash);
    struct reward_place *at =
        place_for(&all[hash[1] % r->part->rewards.sets * REWARD_WAYS], hash[0]);
    atomic_store(&at->word, 0); // in this order for all who read
    atomic_store(&at->tag, hash[0]);
    atomic_store(&at->word, (uint64_t)now_s(r->part) << 32 | id);
}

struct remembered { // of a request
    struct reward_place *at;
    uint64_t word; // 0: it is not
};

// By that loop.
static struct remembered remembered_by(const struct part *p, const uint64_t hash[2], uint32_t now)
{
    struct reward_place *all = atomic_load_explicit(&p->rewards.places, memory_order_acquire);
    for (unsigned i = 0; all && i < REWARD_WAYS; i++) {
        struct reward_place *at = &all[hash[1] % p->rewards.sets * REWARD_WAYS + i];
        uint64_t word = atomic_load(&at->word);
        bool its = word > 0 && atomic_load(&at->tag) == hash[0] && atomic_load(&at->word) == word;
        if (its && now - (uint32_t)(word >> 32) < REWARD_DAY_S)
            return (struct remembered){at, word};
    }
    return (struct remembered){0};
}

// The newest request of that id.
static struct remembered remembered_of(const struct part *p, struct view id)
{
    const struct gateway *g = p->gateway;
    struct remembered newest = {0};
    uint64_t hash[2];
    hash_id(g, id, hash);
    for (unsigned i = 0; i < g->loops.n; i++) {
        struct remembered m = remembered_by(g->parts[i], hash, now_s(p));
        newest = m.word > newest.word ? m : newest;
    }
    return newest;
}

// Is that the first reward of a request that a guard waits for, and in time? Of several at once one is. mark: of it.
// Marks of another era mean something else: what had come of their rewards by then is what they have had.
static bool claim(struct remembered m, const struct experiment_keep *keep, uint64_t now_us,
                  unsigned *mark)
{
    uint64_t age_s = now_us / 1000000 - (m.word >> 32);
    *mark = m.word >> 23 & (COHORT_MARKS - 1);
    return (m.word & REWARD_WAITED) && (m.word >> 29 & (EXPERIMENT_ERAS - 1)) == keep->era &&
           cohort_takes(*mark, age_s, now_us, keep->config->guard.reward_within_us) &&
           atomic_compare_exchange_strong(&m.at->word, &m.word, m.word & ~(uint64_t)REWARD_WAITED);
}

// ---- whose it is -------------------------------------------------------------------------------------

struct reward_target { // an experiment of the configuration
    const struct experiment_place *place;
    const struct experiment *experiment;
    const struct experiment_keep *keep;
};

static bool find_named(const struct experiments *all, struct view name, struct reward_target *out,
                       struct error *e)
{
    for (unsigned i = 0; all && i < all->n; i++) {
        const struct experiment_place *p = &all->places[i];
        for (unsigned k = 0; k < p->site.n; k++) {
            if (!view_eq(p->site.experiments[k].name, name))
                continue;
            *out = (struct reward_target){p, &p->site.experiments[k], &p->keeps[k]};
            return true;
        }
    }
    return error_set(e, STATUS_NOT_FOUND, "experiment: there is none of that name");
}

static bool find_reward(const struct config_experiment *c, struct view name, unsigned *out,
                        struct error *e)
{
    char known[200] = "";
    for (*out = 0; *out < c->reward_count; ++*out)
        if (view_is(name, c->rewards[*out]))
            return true;
    for (unsigned i = 0, n = 0; i < c->reward_count && n < sizeof(known); i++)
        n += (unsigned)snprintf(known + n, sizeof(known) - n, "%s%s", i ? ", " : "", c->rewards[i]);
    return error_set(e, STATUS_BAD_REQUEST,
                     c->reward_count ? "name: expected one of %s, got another"
                                     : "name: the experiment has no rewards%s",
                     known);
}

static bool find_by_id(const struct remembered *m, const struct reward_target *t, unsigned *variant,
                       struct error *e)
{
    uint32_t trial = (uint32_t)m->word & (REWARD_TRIALS - 1);
    for (*variant = 0; trial > 0 && *variant < t->experiment->n_variants; ++*variant)
        if (t->keep->trials[*variant]->id == trial)
            return true;
    if (trial > 0)
        return error_set(e, STATUS_NOT_FOUND, "request_id: it was drawn by another experiment");
    return error_set(e, STATUS_NOT_FOUND,
                     "request_id: it is not remembered: this instance drew no variant for it since "
                     "its start, or too many since, or it is a day ago");
}

static bool find_by_key(const struct reward_target *t, struct view key, unsigned *variant,
                        struct error *e)
{
    struct experiment_draw d;
    experiment_draw_key(&t->place->site, t->experiment, key, &d);
    if (!d.experiment)
        return error_set(e, STATUS_NOT_FOUND, "key: it has no variant: %s", draw_how_name[d.how]);
    *variant = (unsigned)(d.variant - t->experiment->variants);
    return true;
}

// ---- the sums ----------------------------------------------------------------------------------------

static double double_of(const _Atomic uint64_t *bits)
{
    uint64_t at = atomic_load_explicit(bits, memory_order_relaxed);
    double v;
    memcpy(&v, &at, sizeof(v));
    return v;
}

static void add_double(_Atomic uint64_t *bits, double by)
{
    double sum = double_of(bits) + by;
    uint64_t is;
    memcpy(&is, &sum, sizeof(is));
    atomic_store_explicit(bits, is, memory_order_relaxed);
}

static bool may_come(struct reward_memory *m, uint64_t now_us, struct error *e)
{
    if (now_us / 1000000 != m->second) {
        m->second = now_us / 1000000;
        m->taken = 0;
    }
    return m->taken++ < REWARDS_A_SECOND ||
           error_set(e, STATUS_UNAVAILABLE, "rewards: more than %u a second", REWARDS_A_SECOND);
}

// For the guard that looks at that reward.
static void gain(const struct experiment_keep *keep, const struct api_feedback *f,
                 struct remembered m, struct trial_counts *c, uint64_t now_us)
{
    const struct config_guard *guard = &keep->config->guard;
    unsigned mark;
    if (guard->reward && view_is(f->name, guard->reward) && claim(m, keep, now_us, &mark))
        count_add(&c->cohorts[mark % COHORTS].gained, cohort_gain(f->value, guard->reward_max));
}

bool rewards_take(struct serving *s, struct view *variant, struct error *e)
{
    struct request *r = container_of(s, struct request, serving);
    struct part *p = r->part;
    const struct api_feedback *f = s->call.feedback;
    struct reward_target t = {0};
    struct remembered m = {0};
    unsigned reward = 0, v = 0;
    if (!may_come(&p->rewards, loop_now_us(p->loop), e) ||
        !find_named(r->snap->experiments, f->experiment, &t, e) ||
        !find_reward(t.keep->config, f->name, &reward, e))
        return false;
    if (f->key.n == 0)
        m = remembered_of(p, f->request_id);
    if (f->key.n > 0 ? !find_by_key(&t, f->key, &v, e) : !find_by_id(&m, &t, &v, e)) {
        count_add(&p->rewards.unknown, 1);
        return false;
    }
    struct trial_counts *c = experiments_counts(t.keep->trials[v], p->loop->index);
    if (!c)
        return error_set(e, STATUS_UNAVAILABLE, "out of memory");
    struct reward_counts *at = &c->rewards[t.keep->reward_slots[v * CONFIG_MAX_REWARDS + reward]];
    add_double(&at->sum, f->value);
    add_double(&at->squares, f->value * f->value);
    count_add(&at->n, 1);
    gain(t.keep, f, m, c, loop_now_us(p->loop));
    *variant = t.experiment->variants[v].name;
    return true;
}

// ---- metrics -----------------------------------------------------------------------------------------

struct stats_sum rewards_sum(const struct trial *t, unsigned loops, unsigned slot)
{
    struct stats_sum sum = {0};
    for (unsigned i = 0; i < loops; i++) {
        const struct trial_counts *c = atomic_load_explicit(&t->shard[i], memory_order_acquire);
        if (!c)
            continue;
        sum.n += atomic_load_explicit(&c->rewards[slot].n, memory_order_relaxed);
        sum.sum += double_of(&c->rewards[slot].sum);
        sum.squares += double_of(&c->rewards[slot].squares);
    }
    return sum;
}

static void put_trial(struct prom *o, const struct trial *t, unsigned loops, unsigned what)
{
    for (unsigned slot = 0; slot < t->n_rewards; slot++) {
        const struct prom_label labels[] = {{"experiment", view_str(t->name)},
                                            {"variant", view_str(t->variant)},
                                            {"reward", view_str(t->reward[slot])}};
        struct stats_sum s = rewards_sum(t, loops, slot);
        prom_value(o, labels, 3, what == 0 ? (double)s.n : what == 1 ? s.sum : s.squares);
    }
}

void rewards_metrics(struct prom *o, struct gateway *g)
{
    static const char *const family[3][3] = {
        {"sluice_experiment_rewards_total", "counter", "Rewards that clients have posted."},
        {"sluice_experiment_reward_sum", "gauge", "The sum of their values."},
        {"sluice_experiment_reward_squares", "gauge", "The sum of the squares of their values."}};
    const struct experiments *all = g->snap->experiments;
    for (unsigned what = 0; all && what < 3; what++) {
        prom_family(o, family[what][0], family[what][1], family[what][2]);
        for (unsigned i = 0; i < all->n; i++)
            for (unsigned k = 0; k < all->places[i].site.n; k++)
                for (unsigned v = 0; v < all->places[i].site.experiments[k].n_variants; v++)
                    put_trial(o, all->places[i].keeps[k].trials[v], g->loops.n, what);
    }
    uint64_t unknown = 0;
    for (unsigned i = 0; i < g->loops.n; i++)
        unknown += atomic_load_explicit(&g->parts[i]->rewards.unknown, memory_order_relaxed);
    prom_family(o, "sluice_rewards_unknown_total", "counter",
                "Rewards whose request nobody remembers, or whose key has no variant.");
    prom_count(o, NULL, 0, unknown);
}
