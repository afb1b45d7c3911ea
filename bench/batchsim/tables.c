/* bench/batchsim/tables: regimes, and the tables of closed loops, latency and lanes. */
#include "bench/batchsim/batchsim.h"
#include <math.h>
#include <stdio.h>

const struct regime tiny = {"tiny", 30, 2, 64}, cnn = {"cnn", 50, 110, 32},
                    gpu = {"gpu", 1000, 20, 64}, xfmr = {"xfmr", 4000, 250, 32},
                    heavy = {"heavy", 20000, 1000, 32};

const char *const kind_name[] = {"tight", "medium", "loose", "mixed"};

static unsigned missed;

void demand(bool met, const char *what, double value)
{
    printf("%s: %s: %.3f\n", met ? "met" : "missed", what, value);
    missed += !met;
}

unsigned demands_missed(void)
{
    return missed;
}

void closed_table(bool small)
{
    static const struct {
        const struct regime *regime;
        unsigned clients, servers;
    } rows[] = {{&gpu, 1, 1},   {&gpu, 2, 1},   {&gpu, 32, 1}, {&gpu, 32, 4},
                {&xfmr, 32, 1}, {&xfmr, 32, 4}, {&tiny, 32, 1}};
    static const struct rule *const rules[] = {&triton0, &triton1, &fixed2, &fixed0, &automatic};
    double two = 0; // of two clients
    printf("\n### Closed loops: rows a second, p50 / p99 us\n\n");
    printf("| clients, servers | Triton 0 | Triton 1 ms | fixed | fixed, wait 0 | **auto** "
           "|\n|---|---|---|---|---|---|\n");
    for (unsigned i = 0; i < (small ? 2 : sizeof(rows) / sizeof(rows[0])); i++) {
        struct game g = {.regime = *rows[i].regime,
                         .kind = LOOSE,
                         .coming = CLOSED,
                         .load = 1,
                         .clients = rows[i].clients,
                         .servers = rows[i].servers,
                         .said = 1};
        printf("| %s, %u clients, %u |", g.regime.name, g.clients, g.servers);
        for (unsigned k = 0; k < 5; k++) {
            struct figures f = game_play(g, rules[k]);
            printf(" %.0f, %.0f / %.0f |", f.rows_per_s, f.p50_us, f.p99_us);
            two = k == 4 && g.clients == 2 ? f.rows_per_s : two;
        }
        printf("\n");
    }
    printf("\n");
    if (!small)
        demand(two >= 1400, "rows a second of two closed-loop clients, at least 1,400", two);
}

void latency_table(void)
{
    static const struct rule *const rules[] = {&triton0, &triton1, &fixed2, &automatic};
    static const double at[] = {0.02, 0.3, 0.5, 0.9};
    printf("\n### Poisson, loose deadlines: p50 / p99 us, device us a row\n\n");
    printf("| regime, servers, load | Triton 0 | Triton 1 ms | fixed | **auto** "
           "|\n|---|---|---|---|---|\n");
    for (unsigned i = 0; i < 8; i++) {
        struct game g = {.regime = i / 4 ? heavy : gpu,
                         .kind = LOOSE,
                         .servers = i / 4 ? 8 : 1,
                         .load = at[i % 4],
                         .said = 1};
        printf("| %s, %u, %g |", g.regime.name, g.servers, g.load);
        for (unsigned k = 0; k < 4; k++) {
            struct figures f = game_play(g, rules[k]);
            printf(" %.0f / %.0f, %.0f |", f.p50_us, f.p99_us, f.device_us);
        }
        printf("\n");
    }
}

void lanes_table(void)
{
    static const struct game games[] = {
        {.regime = {"gpu", 1000, 20, 64}, .kind = MEDIUM, .servers = 1},
        {.regime = {"xfmr", 4000, 250, 32}, .kind = MEDIUM, .servers = 4},
        {.regime = {"gpu", 1000, 20, 64}, .kind = TIGHT, .servers = 1}};
    printf("\n### A fifth of the rows in the highest lane, load 2: in time, high / low\n\n");
    printf("| regime, servers | fixed | **auto** |\n|---|---|---|\n");
    double least = 1;
    for (unsigned i = 0; i < 3; i++) {
        struct game g = games[i];
        g.high = 0.2;
        g.load = 2;
        g.said = 1;
        struct figures f = game_play(g, &fixed2), a = game_play(g, &automatic);
        printf("| %s %s, %u | %.2f / %.2f | %.2f / %.2f |\n", g.regime.name, kind_name[g.kind],
               g.servers, f.high, f.low, a.high, a.low);
        least = g.kind == MEDIUM ? fmin(least, a.high) : least;
    }
    printf("\n");
    demand(least >= 0.95, "high lane at load 2, medium deadlines, in time, at least .95", least);
}
