// What /metrics has of experiments: what is counted of variants, how they stand, and the store that shares them.
#include "gateway/experiments.h"

#include "base/count.h"
#include "gateway/metrics.h"
#include "gateway/process.h"
#include "gateway/prom.h"
#include "gateway/snapshot.h"
#include "gateway/trial_store.h"
#include "gateway/trials.h"

#define N(array) (sizeof(array) / sizeof((array)[0]))

// Runs fn for each of a place's trials.
static void each_trial(struct prom_of *p, void (*fn)(struct prom_of *p, const struct trial *t))
{
    const struct experiments *all = p->g->snap->experiments;
    for (unsigned i = 0; i < all->n; i++)
        for (unsigned k = 0; k < all->places[i].site.n; k++)
            for (unsigned v = 0; v < all->places[i].site.experiments[k].n_variants; v++)
                fn(p, all->places[i].keeps[k].trials[v]);
}

static uint64_t sum_of_trial(const struct prom_of *p, const struct trial *t, size_t offset,
                             unsigned k)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < p->g->loops.n; i++) {
        const struct trial_counts *c = atomic_load_explicit(&t->shard[i], memory_order_acquire);
        sum += c ? count_get((const _Atomic uint64_t *)((const char *)c + offset) + k) : 0;
    }
    return sum;
}

#define TRIAL_LABELS(t)                                                                            \
    {"experiment", view_str((t)->name)},                                                           \
    {                                                                                              \
        "variant", view_str((t)->variant)                                                          \
    }

static void draws_of(struct prom_of *p, const struct trial *t)
{
    for (unsigned status = 0; status < STATUS_COUNT; status++) {
        struct prom_label labels[] = {TRIAL_LABELS(t),
                                      {"status", view_str(status_table[status].name)}};
        uint64_t n = sum_of_trial(p, t, offsetof(struct trial_counts, requests), status);
        if (n > 0 || status == STATUS_OK)
            prom_count(p->prom, labels, N(labels), n);
    }
}

static void put_trial(struct prom_of *p, const struct trial *t, size_t offset)
{
    struct prom_label labels[] = {TRIAL_LABELS(t)};
    uint64_t n = sum_of_trial(p, t, offset, 0);
    if (n > 0)
        prom_count(p->prom, labels, N(labels), n);
}

static void trial_forced(struct prom_of *p, const struct trial *t)
{
    put_trial(p, t, offsetof(struct trial_counts, forced));
}

static void trial_fallbacks(struct prom_of *p, const struct trial *t)
{
    put_trial(p, t, offsetof(struct trial_counts, fallbacks));
}

static void trial_took(struct prom_of *p, const struct trial *t)
{
    struct prom_label labels[] = {TRIAL_LABELS(t)};
    hist_init(&p->sum);
    for (unsigned i = 0; i < p->g->loops.n; i++) {
        const struct trial_counts *c = atomic_load_explicit(&t->shard[i], memory_order_acquire);
        if (c)
            hist_merge(&p->sum, &c->took);
    }
    if (atomic_load(&p->sum.count) > 0)
        prom_hist(p->prom, labels, N(labels), &p->sum, metrics_latency_us, METRICS_LATENCIES, 1e6);
}

static void experiments_outside(struct prom_of *p)
{
    const struct experiments *all = p->g->snap->experiments;
    for (unsigned i = 0; i < all->n; i++) {
        const struct trial *t = all->places[i].outside;
        for (unsigned how = DRAW_NO_KEY; how < DRAW_HOWS; how++) {
            struct prom_label labels[] = {{"model", view_str(t->name)},
                                          {"why", view_str(draw_how_name[how])}};
            uint64_t n = sum_of_trial(p, t, offsetof(struct trial_counts, outside), how);
            if (n > 0)
                prom_count(p->prom, labels, N(labels), n);
        }
    }
}

// Runs fn for each experiment that the main thread holds.
static void each_run(struct prom_of *p, void (*fn)(struct prom_of *p, const struct trial_run *run))
{
    const struct experiments *all = p->g->snap->experiments;
    for (unsigned i = 0; i < all->n; i++)
        for (unsigned k = 0; k < all->places[i].site.n; k++) {
            const struct trial_run *run =
                trials_find(p->g, all->places[i].site.experiments[k].name);
            if (run)
                fn(p, run);
        }
}

static void run_status(struct prom_of *p, const struct trial_run *run)
{
    for (unsigned s = 0; s < TRIAL_STATUSES; s++) {
        struct prom_label labels[] = {{"experiment", view_str(run->state.name)},
                                      {"status", view_str(trial_status_name[s])}};
        prom_count(p->prom, labels, N(labels), run->state.status == s);
    }
}

static void run_skewed(struct prom_of *p, const struct trial_run *run)
{
    struct prom_label labels[] = {{"experiment", view_str(run->state.name)}};
    if (run->guards.rules.split)
        prom_count(p->prom, labels, N(labels), run->skewed);
}

static void run_weights(struct prom_of *p, const struct trial_run *run)
{
    for (unsigned v = 0; v < run->state.n_variants; v++) {
        struct prom_label labels[] = {{"experiment", view_str(run->state.name)},
                                      {"variant", view_str(run->state.variant[v])}};
        prom_value(p->prom, labels, N(labels), run->state.weight[v] / 1e6);
    }
}

static void run_evidence(struct prom_of *p, const struct trial_run *run)
{
    for (unsigned v = 1; trials_watched(run) && v < run->state.n_variants; v++) {
        for (unsigned k = 0; k < GUARD_KINDS; k++) {
            struct prom_label labels[] = {{"experiment", view_str(run->state.name)},
                                          {"variant", view_str(run->state.variant[v])},
                                          {"guard", view_str(guard_name[k])}};
            if (run->guards.rules.on[k])
                prom_value(p->prom, labels, N(labels),
                           guards_evidence(&run->guards, k, v) / guards_needed(&run->guards));
        }
    }
}

static void experiments_store(struct prom_of *p)
{
    struct trial_store_figures f;
    if (!trial_store_read(p->g, &f))
        return;
    prom_family(p->prom, "sluice_experiments_store_up", "gauge",
                "1: the store that experiments are shared by answers the main thread.");
    prom_count(p->prom, NULL, 0, f.up);
    prom_family(p->prom, "sluice_experiments_to_flush", "gauge",
                "Experiments whose counts have not all been told to the store.");
    prom_count(p->prom, NULL, 0, f.to_flush);
    prom_family(p->prom, "sluice_experiments_flushed_total", "counter",
                "Flushes of counts that the store has added.");
    prom_count(p->prom, NULL, 0, f.flushed);
    prom_family(p->prom, "sluice_experiments_flushes_lost_total", "counter",
                "Flushes that a store has lost which went back too far.");
    prom_count(p->prom, NULL, 0, f.lost);
    prom_family(p->prom, "sluice_experiments_fenced_total", "counter",
                "Records that were written over a store that had gone back.");
    prom_count(p->prom, NULL, 0, f.fenced);
}

void experiments_metrics(struct prom *o, struct gateway *g)
{
    struct prom_of of = {.prom = o, .g = g}, *p = &of;
    if (!g->snap->experiments)
        return;
    prom_family(o, "sluice_experiment_requests_total", "counter",
                "Requests that were drawn into a variant, by outcome.");
    each_trial(p, draws_of);
    prom_family(o, "sluice_experiment_fallbacks_total", "counter",
                "Of the answers, those that another model than the variant's gave.");
    each_trial(p, trial_fallbacks);
    prom_family(o, "sluice_experiment_forced_total", "counter",
                "Requests of testers, which are counted nowhere else here.");
    each_trial(p, trial_forced);
    prom_family(o, "sluice_experiment_latency_seconds", "histogram",
                "Time of requests that were answered.");
    each_trial(p, trial_took);
    prom_family(o, "sluice_experiment_outside_total", "counter",
                "Requests for a name that stands for experiments, none of which took them.");
    experiments_outside(p);
    prom_family(o, "sluice_experiment_status", "gauge",
                "1 for the status that an experiment has, 0 for the others.");
    each_run(p, run_status);
    prom_family(o, "sluice_experiment_weight", "gauge", "Share of the keys, as it is live.");
    each_run(p, run_weights);
    prom_family(o, "sluice_experiment_skewed", "gauge",
                "1: requests do not come to the variants as the weights say.");
    each_run(p, run_skewed);
    prom_family(
        o, "sluice_experiment_guard_evidence", "gauge",
        "The most evidence that a variant is worse, its logarithm over what is needed: at 1 "
        "it is rolled back.");
    each_run(p, run_evidence);
    experiments_store(p);
}
