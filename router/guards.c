#include "router/guards.h"

#include <math.h>
#include <stdio.h>

const char *const guard_name[GUARD_KINDS] = {
    [GUARD_ERRORS] = "errors",
    [GUARD_FALLBACKS] = "fallbacks",
    [GUARD_REWARD] = "reward",
    [GUARD_MAX_ERRORS] = "max_errors",
    [GUARD_MAX_FALLBACKS] = "max_fallbacks",
    [GUARD_MAX_P99] = "max_p99",
    [GUARD_MIN_REWARD] = "min_reward",
};

static bool is_of_reward(enum guard_kind kind)
{
    return kind == GUARD_REWARD || kind == GUARD_MIN_REWARD;
}

static struct stats_arm *arm_of(struct guard_counts *c, enum guard_kind kind)
{
    if (is_of_reward(kind))
        return &c->rewards;
    if (kind == GUARD_MAX_P99)
        return &c->slow;
    return kind == GUARD_ERRORS || kind == GUARD_MAX_ERRORS ? &c->errors : &c->fallbacks;
}

void guards_begin(struct guards *g, const struct guard_rules *r, const double *weights,
                  const struct guard_counts *counts)
{
    *g = (struct guards){.rules = *r};
    for (unsigned v = 0; v < r->variants; v++) {
        g->seen[v] = counts[v];
        for (unsigned k = GUARD_PAIRS; k < GUARD_KINDS; k++)
            g->bounds[v][k].limit = is_of_reward(k) ? 1 - r->limit[k] : r->limit[k];
    }
    guards_weigh(g, weights, counts);
}

void guards_weigh(struct guards *g, const double *weights, const struct guard_counts *counts)
{
    g->split_before = g->split_log_e;
    for (unsigned v = 0; v < g->rules.variants; v++) {
        g->weights[v] = weights[v];
        g->from[v] = counts[v].drawn;
    }
}

// ---- looking -----------------------------------------------------------------------------------------

static unsigned tests_of(const struct guard_rules *r)
{
    unsigned kinds = 0;
    for (unsigned k = 0; k < GUARD_KINDS; k++)
        kinds += r->on[k];
    return kinds * (r->variants - 1) + r->split;
}

double guards_needed(const struct guards *g)
{
    return log(tests_of(&g->rules) / GUARDS_ALPHA);
}

double guards_evidence(const struct guards *g, enum guard_kind kind, unsigned variant)
{
    return g->evidence[variant][kind];
}

// Evidence of several times that nobody deals otherwise is multiplied: each is fair given those before.
static void look_at_split(struct guards *g, const struct guard_counts *counts)
{
    uint64_t drawn[EXPERIMENT_VARIANTS];
    double weights[EXPERIMENT_VARIANTS];
    unsigned n = 0;
    for (unsigned v = 0; v < g->rules.variants; v++) {
        if (g->weights[v] <= 0) // what was drawn before comes to an end there
            continue;
        drawn[n] = counts[v].drawn - g->from[v];
        weights[n++] = g->weights[v];
    }
    g->split_log_e = g->split_before + (n > 1 ? stats_split(drawn, weights, n) : 0);
    g->split_most = fmax(g->split_most, g->split_log_e);
}

bool guards_skewed(const struct guards *g)
{
    return g->rules.split && g->split_most >= guards_needed(g);
}

// What has come: of so many requests at most so many went wrong.
static struct stats_arm take_arm(struct stats_arm *seen, struct stats_arm now)
{
    struct stats_arm come = {now.n > seen->n ? now.n - seen->n : 0,
                             now.bad > seen->bad ? now.bad - seen->bad : 0};
    come.bad = fmin(come.bad, (double)come.n);
    seen->n += come.n;
    seen->bad += come.bad;
    return come;
}

static void add_block(struct guards *g, unsigned v, enum guard_kind k, struct guard_counts *come)
{
    struct stats_arm *now = arm_of(&come[v], k);
    if (k < GUARD_PAIRS) {
        stats_pair_add(&g->pairs[v][k], *arm_of(&come[0], k), *now);
        g->evidence[v][k] = g->pairs[v][k].log_e_most;
    } else if (now->n > 0) {
        stats_bound_add(&g->bounds[v][k], *now);
        g->evidence[v][k] = g->bounds[v][k].log_e_most;
    }
}

static bool judge(const struct guards *g, unsigned v, enum guard_kind k, struct guard_verdict *out)
{
    const struct stats_pair *p = k < GUARD_PAIRS ? &g->pairs[v][k] : NULL;
    const struct stats_bound *b = &g->bounds[v][k];
    struct stats_arm seen = p ? p->variant : b->seen;
    double log_e = guards_evidence(g, k, v);
    if (!stats_is_worse(log_e, seen.n, g->rules.least, GUARDS_ALPHA, tests_of(&g->rules)))
        return false;
    *out = (struct guard_verdict){.kind = k,
                                  .variant = v,
                                  .control = p ? p->control : (struct stats_arm){0},
                                  .seen = seen,
                                  .limit = g->rules.limit[k],
                                  .log_e = log_e,
                                  .needed = guards_needed(g)};
    return true;
}

bool guards_look(struct guards *g, const struct guard_counts *counts, struct guard_verdict *out)
{
    struct guard_counts come[EXPERIMENT_VARIANTS];
    bool found = false;
    for (unsigned v = 0; v < g->rules.variants; v++) {
        come[v].errors = take_arm(&g->seen[v].errors, counts[v].errors);
        come[v].fallbacks = take_arm(&g->seen[v].fallbacks, counts[v].fallbacks);
        come[v].slow = take_arm(&g->seen[v].slow, counts[v].slow);
        come[v].rewards = take_arm(&g->seen[v].rewards, counts[v].rewards);
    }
    for (unsigned v = 1; v < g->rules.variants; v++) {
        for (unsigned k = 0; k < GUARD_KINDS; k++) {
            if (!g->rules.on[k])
                continue;
            add_block(g, v, k, come);
            found = found || judge(g, v, k, out);
        }
    }
    if (g->rules.split)
        look_at_split(g, counts);
    return found;
}

// ---- in words ----------------------------------------------------------------------------------------

#define ARM_WORDS 64

static void put_arm(enum guard_kind kind, struct stats_arm a, char out[ARM_WORDS])
{
    double had = is_of_reward(kind) ? (double)a.n - a.bad : a.bad;
    snprintf(out, ARM_WORDS, "%.9g of %llu (%.2f%%)", had, (unsigned long long)a.n,
             a.n > 0 ? 100 * had / (double)a.n : 0);
}

static double to_one(double log_e)
{
    return exp(fmin(log_e, 40)); // nobody needs more digits
}

void guard_words(const struct guard_verdict *v, char out[GUARD_WORDS])
{
    char seen[ARM_WORDS], control[ARM_WORDS], other[ARM_WORDS + 16];
    put_arm(v->kind, v->seen, seen);
    put_arm(v->kind, v->control, control);
    if (v->kind < GUARD_PAIRS)
        snprintf(other, sizeof(other), "control %s", control);
    else
        snprintf(other, sizeof(other), "at %s %.4g%%", is_of_reward(v->kind) ? "least" : "most",
                 100 * v->limit);
    snprintf(out, GUARD_WORDS, "%s: %s, %s; evidence %.3g to 1, %.3g to 1 needed",
             guard_name[v->kind], seen, other, to_one(v->log_e), to_one(v->needed));
}
