/* bench/batchsim/goodput: what is answered in time, as a share of capacity, at four loads: beside Triton as it comes, as
 * it can be tuned, and the bound. */
#include "bench/batchsim/batchsim.h"
#include <math.h>
#include <stdio.h>

static const double loads[] = {0.7, 1, 1.5, 2};
#define LOADS 4

struct cells {
    double v[LOADS];
};

static struct cells goodput(struct game g, const struct rule *rule)
{
    struct cells c;
    for (unsigned i = 0; i < LOADS; i++) {
        g.load = loads[i];
        c.v[i] = game_play(g, rule).goodput;
    }
    return c;
}

static struct cells bounds(struct game g)
{
    struct cells c;
    for (unsigned i = 0; i < LOADS; i++) {
        g.load = loads[i];
        c.v[i] = game_bound(g);
    }
    return c;
}

static void print_cells(const struct cells *c)
{
    printf(" %.2f / %.2f / %.2f / %.2f |", c->v[0], c->v[1], c->v[2], c->v[3]);
}

// Triton's best of 72 settings for these loads.
static struct cells tuned(struct game g)
{
    static const double delays[] = {0, 1000, 5000}, shares[] = {1, 0.75, 0.5, 0.25};
    struct cells best = {{0}};
    double best_score = -1;
    for (unsigned i = 0; i < 72; i++) {
        struct rule rule = {.triton = true,
                            .most = 1u << i % 3,
                            .delay_us = delays[i / 3 % 3],
                            .patience = shares[i / 9 % 4],
                            .pipeline = 1 + i / 36};
        struct cells c = goodput(g, &rule);
        double score = 0;
        for (unsigned k = 0; k < LOADS; k++)
            score += c.v[k] / fmin(1, loads[k]);
        if (score > best_score)
            best_score = score, best = c;
    }
    return best;
}

// Sums for the demands.
static struct {
    double wide_least;                      // medium, loose, loads 1 to 2
    double tight_least, tight_log, tight_n; // of the bound
    double mixed_least;                     // at 1.5 and 2
    double tuned_log, tuned_n, tuned_mixed_log, tuned_mixed_n;
} sum;

static void judge(const struct game *g, const struct cells *c, const struct cells *bound,
                  const struct cells *best)
{
    for (unsigned i = 0; i < LOADS; i++) {
        if ((g->kind == MEDIUM || g->kind == LOOSE) && loads[i] >= 1)
            sum.wide_least = fmin(sum.wide_least, c->v[i]);
        if (g->kind == MIXED && loads[i] > 1)
            sum.mixed_least = fmin(sum.mixed_least, c->v[i]);
        if (g->kind == TIGHT && bound) {
            sum.tight_least = fmin(sum.tight_least, c->v[i] / bound->v[i]);
            sum.tight_log += log(c->v[i] / bound->v[i]);
            sum.tight_n++;
        }
        double ratio = best ? log(fmax(c->v[i], 1e-3) / fmax(best->v[i], 1e-3)) : 0;
        if (best && g->kind == TIGHT && g->servers == 1)
            sum.tuned_log += ratio, sum.tuned_n++;
        if (best && g->kind == MIXED && loads[i] > 1)
            sum.tuned_mixed_log += ratio, sum.tuned_mixed_n++;
    }
}

static void goodput_row(struct game g, bool with_tuned)
{
    static const struct rule *const rules[] = {&triton0, &triton1, &triton5, &fixed2, &automatic};
    struct cells c = {{0}}, best, bound;
    bool bounded = g.servers == 1 && g.kind != MIXED && g.kind != LOOSE && g.coming == POISSON;
    printf("| %s %s, %u |", g.regime.name, kind_name[g.kind], g.servers);
    for (unsigned i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        c = goodput(g, rules[i]);
        print_cells(&c);
    }
    if (with_tuned) {
        best = tuned(g);
        print_cells(&best);
    } else {
        printf(" |");
    }
    if (bounded) {
        bound = bounds(g);
        print_cells(&bound);
    } else {
        printf(" |");
    }
    printf("\n");
    fflush(stdout);
    if (g.coming == POISSON)
        judge(&g, &c, bounded ? &bound : NULL, with_tuned ? &best : NULL);
}

static void goodput_head(const char *what)
{
    printf("\n### Goodput, %s, at loads .7 / 1 / 1.5 / 2\n\n", what);
    printf("| regime, servers | Triton 0 | Triton 1 ms | Triton 5 ms | fixed | **auto** | Triton "
           "tuned | bound |\n");
    printf("|---|---|---|---|---|---|---|---|\n");
}

// ---- tables

void goodput_table(bool small)
{
    static const struct {
        const struct regime *regime;
        enum kind kind;
        unsigned servers;
    } rows[] = {{&gpu, TIGHT, 1},   {&gpu, MEDIUM, 1},  {&cnn, TIGHT, 1},  {&xfmr, TIGHT, 1},
                {&heavy, TIGHT, 1}, {&xfmr, MEDIUM, 1}, {&gpu, LOOSE, 1},  {&xfmr, LOOSE, 1},
                {&gpu, MIXED, 1},   {&xfmr, MIXED, 1},  {&gpu, TIGHT, 4},  {&xfmr, TIGHT, 4},
                {&heavy, TIGHT, 4}, {&xfmr, MEDIUM, 4}, {&xfmr, MIXED, 4}, {&xfmr, LOOSE, 4}};
    sum.wide_least = sum.tight_least = sum.mixed_least = 1e9;
    goodput_head("Poisson");
    for (unsigned i = 0; i < (small ? 2 : sizeof(rows) / sizeof(rows[0])); i++) {
        struct game g = {
            .regime = *rows[i].regime, .kind = rows[i].kind, .servers = rows[i].servers, .said = 1};
        goodput_row(g, !small && (g.kind == TIGHT || g.kind == MIXED));
    }
}

void uneven_tables(bool small)
{
    static const enum coming comings[] = {BURSTS, AZURE, MOONCAKE};
    static const struct regime *const regimes[] = {&gpu, &xfmr};
    for (unsigned i = 0; i < 3; i++) {
        if (comings[i] != BURSTS && !trace_is_there(comings[i]))
            continue;
        goodput_head(coming_name[comings[i]]);
        for (unsigned k = 0; k < (small ? 1 : 4); k++) {
            struct game g = {.regime = *regimes[k / 2],
                             .kind = k % 2 ? MEDIUM : TIGHT,
                             .coming = comings[i],
                             .servers = 1,
                             .said = 1};
            goodput_row(g, false);
        }
    }
}

void wrong_table(void)
{
    static const struct {
        const char *what;
        double said, slow, from, to;
    } rows[] = {{"all is well", 1, 0, 0, 0},
                {"the worker says nothing", 0, 0, 0, 0},
                {"it says half its time", 0.5, 0, 0, 0},
                {"slower by two for a third of the time", 1, 2, 0.4, 0.7}};
    printf("\n### Wrong or late knowledge, one server, auto: goodput at .7 / 1 / 1.5 / 2\n\n");
    printf("| | gpu medium | gpu tight | xfmr tight |\n|---|---|---|---|\n");
    for (unsigned i = 0; i < 4; i++) {
        printf("| %s |", rows[i].what);
        for (unsigned k = 0; k < 3; k++) {
            struct game g = {.regime = k < 2 ? gpu : xfmr,
                             .kind = k ? TIGHT : MEDIUM,
                             .servers = 1,
                             .said = rows[i].said,
                             .slow = rows[i].slow,
                             .slow_from = rows[i].from,
                             .slow_to = rows[i].to};
            struct cells c = goodput(g, &automatic);
            print_cells(&c);
        }
        printf("\n");
    }
}

void goodput_demands(void)
{
    printf("\n");
    demand(sum.wide_least >= 0.90, "medium and loose, loads 1 to 2, at least .90 of capacity",
           sum.wide_least);
    demand(sum.tight_least >= 0.77, "tight, one server, at least .77 of the bound",
           sum.tight_least);
    demand(exp(sum.tight_log / sum.tight_n) >= 0.83, "and .83 by geometric mean",
           exp(sum.tight_log / sum.tight_n));
    demand(sum.mixed_least >= 0.85, "mixed, loads 1.5 and 2, at least .85", sum.mixed_least);
    demand(exp(sum.tuned_log / sum.tuned_n) >= 1.2,
           "tight, one server, at least 1.2 times tuned Triton by geometric mean",
           exp(sum.tuned_log / sum.tuned_n));
    demand(exp(sum.tuned_mixed_log / sum.tuned_mixed_n) >= 1.8,
           "mixed past capacity, at least 1.8 times tuned Triton",
           exp(sum.tuned_mixed_log / sum.tuned_mixed_n));
}
