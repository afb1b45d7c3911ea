#include "base/count.h"
#include "gateway/metrics.h"
#include "gateway/process.h"
#include "gateway/prom.h"
#include "gateway/shadows.h"
#include "gateway/snapshot.h"
#include "router/shadow.h"

#define N(array) (sizeof(array) / sizeof((array)[0]))

static void each_shadow(struct prom_of *p, void (*fn)(struct prom_of *p, const struct trial *t))
{
    const struct experiments *all = p->g->snap->experiments;
    for (unsigned i = 0; i < all->n; i++)
        for (unsigned k = 0; k < all->places[i].site.n; k++)
            for (unsigned v = 0; v < all->places[i].site.experiments[k].n_shadows; v++)
                fn(p, all->places[i].keeps[k].shadow_trials[v]);
}

// NULL: nothing was counted at that loop.
static const struct shadow_counts *shadow_at(const struct trial *t, unsigned loop)
{
    const struct trial_counts *c = atomic_load_explicit(&t->shard[loop], memory_order_acquire);
    return c ? atomic_load_explicit(&c->shadow, memory_order_acquire) : NULL;
}

#define SHADOW_LABELS(t)                                                                           \
    {"experiment", view_str((t)->name)},                                                           \
    {                                                                                              \
        "shadow", view_str((t)->variant)                                                           \
    }

static uint64_t sum_of_shadow(const struct prom_of *p, const struct trial *t, size_t offset,
                              unsigned k)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < p->g->loops.n; i++) {
        const struct shadow_counts *c = shadow_at(t, i);
        sum += c ? count_get((const _Atomic uint64_t *)((const char *)c + offset) + k) : 0;
    }
    return sum;
}

static void shadow_ends(struct prom_of *p, const struct trial *t)
{
    for (unsigned end = 0; end < SHADOW_ENDS; end++) {
        struct prom_label labels[] = {SHADOW_LABELS(t), {"end", view_str(shadow_end_name[end])}};
        uint64_t n = sum_of_shadow(p, t, offsetof(struct shadow_counts, ends), end);
        if (n > 0 || end == SHADOW_ANSWERED)
            prom_count(p->prom, labels, N(labels), n);
    }
}

static void shadow_failures(struct prom_of *p, const struct trial *t)
{
    for (unsigned status = 0; status < STATUS_COUNT; status++) {
        struct prom_label labels[] = {SHADOW_LABELS(t),
                                      {"status", view_str(status_table[status].name)}};
        uint64_t n = sum_of_shadow(p, t, offsetof(struct shadow_counts, failures), status);
        if (n > 0)
            prom_count(p->prom, labels, N(labels), n);
    }
}

static void shadow_took(struct prom_of *p, const struct trial *t)
{
    struct prom_label labels[] = {SHADOW_LABELS(t)};
    hist_init(&p->sum);
    for (unsigned i = 0; i < p->g->loops.n; i++)
        if (shadow_at(t, i))
            hist_merge(&p->sum, &shadow_at(t, i)->took);
    if (atomic_load(&p->sum.count) > 0)
        prom_hist(p->prom, labels, N(labels), &p->sum, metrics_latency_us, METRICS_LATENCIES, 1e6);
}

// The i-th name of the loop's, unless a loop before it has it too.
static bool is_first_output(const struct trial *t, unsigned loop, const struct shadow_output *o)
{
    for (unsigned i = 0; i < loop; i++) {
        const struct shadow_counts *c = shadow_at(t, i);
        unsigned n = c ? atomic_load_explicit(&c->n, memory_order_acquire) : 0;
        for (unsigned k = 0; k < n; k++)
            if (view_eq(view_of(c->outputs[k].name, c->outputs[k].name_bytes),
                        view_of(o->name, o->name_bytes)))
                return false;
    }
    return true;
}

struct output_sum { // over all loops
    uint64_t found[LIKE_KINDS], same, elements, equal;
    double max_abs, max_rel;
};

static double larger_of(double a, const _Atomic uint64_t *bits)
{
    uint64_t at = count_get(bits);
    double b;
    memcpy(&b, &at, sizeof(b));
    return a > b ? a : b;
}

static struct output_sum sum_of_output(const struct prom_of *p, const struct trial *t,
                                       struct view name)
{
    struct output_sum sum = {.same = 0};
    for (unsigned i = 0; i < p->g->loops.n; i++) {
        const struct shadow_counts *c = shadow_at(t, i);
        unsigned n = c ? atomic_load_explicit(&c->n, memory_order_acquire) : 0;
        for (unsigned k = 0; k < n; k++) {
            const struct shadow_output *o = &c->outputs[k];
            if (!view_eq(view_of(o->name, o->name_bytes), name))
                continue;
            for (unsigned kind = 0; kind < LIKE_KINDS; kind++)
                sum.found[kind] += count_get(&o->found[kind]);
            sum.same += count_get(&o->same);
            sum.elements += count_get(&o->elements);
            sum.equal += count_get(&o->equal);
            sum.max_abs = larger_of(sum.max_abs, &o->max_abs);
            sum.max_rel = larger_of(sum.max_rel, &o->max_rel);
        }
    }
    return sum;
}

typedef void put_output(struct prom_of *p, const struct trial *t, struct view name,
                        const struct output_sum *s);

static void each_output(struct prom_of *p, const struct trial *t, put_output *put)
{
    for (unsigned i = 0; i < p->g->loops.n; i++) {
        const struct shadow_counts *c = shadow_at(t, i);
        unsigned n = c ? atomic_load_explicit(&c->n, memory_order_acquire) : 0;
        for (unsigned k = 0; k < n; k++) {
            struct view name = view_of(c->outputs[k].name, c->outputs[k].name_bytes);
            if (!is_first_output(t, i, &c->outputs[k]))
                continue;
            struct output_sum s = sum_of_output(p, t, name);
            put(p, t, name, &s);
        }
    }
}

static void put_verdicts(struct prom_of *p, const struct trial *t, struct view name,
                         const struct output_sum *s)
{
    const struct {
        const char *name;
        uint64_t n;
    } verdict[] = {{"same", s->same},
                   {"differs", s->found[LIKE_VALUES] - s->same},
                   {"missing", s->found[LIKE_MISSING]},
                   {"datatype", s->found[LIKE_DTYPE]},
                   {"shape", s->found[LIKE_SHAPE]}};
    for (unsigned i = 0; i < N(verdict); i++) {
        struct prom_label labels[] = {
            SHADOW_LABELS(t), {"output", name}, {"verdict", view_str(verdict[i].name)}};
        if (verdict[i].n > 0)
            prom_count(p->prom, labels, N(labels), verdict[i].n);
    }
}

static void put_elements(struct prom_of *p, const struct trial *t, struct view name,
                         const struct output_sum *s)
{
    struct prom_label labels[] = {SHADOW_LABELS(t), {"output", name}, {"equal", VIEW("true")}};
    prom_count(p->prom, labels, N(labels), s->equal);
    labels[N(labels) - 1].value = VIEW("false");
    prom_count(p->prom, labels, N(labels), s->elements - s->equal);
}

static void put_largest(struct prom_of *p, const struct trial *t, struct view name,
                        const struct output_sum *s)
{
    struct prom_label labels[] = {SHADOW_LABELS(t), {"output", name}, {"of", VIEW("absolute")}};
    prom_value(p->prom, labels, N(labels), s->max_abs);
    labels[N(labels) - 1].value = VIEW("relative");
    prom_value(p->prom, labels, N(labels), s->max_rel);
}

static void shadow_verdicts(struct prom_of *p, const struct trial *t)
{
    each_output(p, t, put_verdicts);
}

static void shadow_elements(struct prom_of *p, const struct trial *t)
{
    each_output(p, t, put_elements);
}

static void shadow_largest(struct prom_of *p, const struct trial *t)
{
    each_output(p, t, put_largest);
}

void shadows_metrics(struct prom *o, struct gateway *g)
{
    struct prom_of of = {.prom = o, .g = g}, *p = &of;
    if (!g->snap->experiments)
        return;
    prom_family(o, "sluice_shadow_requests_total", "counter",
                "Requests that were given a shadow, by how it ended.");
    each_shadow(p, shadow_ends);
    prom_family(o, "sluice_shadow_failures_total", "counter", "Shadows that failed, by status.");
    each_shadow(p, shadow_failures);
    prom_family(o, "sluice_shadow_latency_seconds", "histogram",
                "Time of shadows that were answered, from the served answer on.");
    each_shadow(p, shadow_took);
    prom_family(o, "sluice_shadow_outputs_total", "counter",
                "Outputs that were compared, by what was found.");
    each_shadow(p, shadow_verdicts);
    prom_family(o, "sluice_shadow_elements_total", "counter",
                "Elements of outputs that were looked at, by whether they were equal.");
    each_shadow(p, shadow_elements);
    prom_family(o, "sluice_shadow_difference_max", "gauge",
                "The largest difference between two numbers, absolute and relative.");
    each_shadow(p, shadow_largest);
}
