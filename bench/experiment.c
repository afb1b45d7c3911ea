/* bench/experiment.c: nanoseconds of a draw: which experiment of a layer, and which of its four variants. Keys are as
 * user ids are, 36 bytes each, and more than a cache has.
 * Usage: experiment [seconds per row, default 0.5] */
#include "router/experiment.h"
#include "base/rand.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define KEYS 65536
#define PERCENT 10000u

static char text[KEYS][36];

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void draw_keys(void)
{
    struct rand r;
    rand_seed(&r, 1);
    for (unsigned i = 0; i < KEYS; i++) {
        for (unsigned k = 0; k < 36; k++)
            text[i][k] = k % 9 == 8 ? '-' : "0123456789abcdef"[rand_below(&r, 16)];
    }
}

static void measure(const char *name, const struct experiment_site *s, double seconds)
{
    double best = 1e9;
    uint64_t treated = 0;
    for (double t0 = now_s(), until = t0 + seconds, t1; t0 < until; t0 = t1) {
        for (unsigned i = 0; i < KEYS; i++) {
            struct view said = view_of(text[i], sizeof(text[i]));
            struct experiment_draw d;
            experiment_draw(s, &said, &d);
            treated += d.variant != NULL;
        }
        t1 = now_s();
        if (t1 - t0 < best)
            best = t1 - t0;
    }
    if (treated == 0)
        abort();
    printf("%-44s %8.1f ns\n", name, best * 1e9 / KEYS);
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 0.5;
    static const struct experiment_variant variants[4] = {{VIEW("a"), VIEW("a")},
                                                          {VIEW("b"), VIEW("b")},
                                                          {VIEW("c"), VIEW("c")},
                                                          {VIEW("d"), VIEW("d")}};
    static const uint32_t weights[3][4] = {
        {70 * PERCENT, 10 * PERCENT, 10 * PERCENT, 10 * PERCENT},
        {40 * PERCENT, 30 * PERCENT, 5 * PERCENT, 25 * PERCENT},
        {25 * PERCENT, 25 * PERCENT, 25 * PERCENT, 25 * PERCENT}};
    static struct experiment e[2];
    static struct experiment_live live[2];
    for (unsigned i = 0; i < 2; i++) {
        e[i] = (struct experiment){.from = i * (BUCKETS / 2),
                                   .to = (i + 1) * (BUCKETS / 2),
                                   .seed = experiment_seed(i ? VIEW("y") : VIEW("x"), 0),
                                   .variants = variants,
                                   .n_variants = 4};
        atomic_store(&e[i].live, &live[i]);
        buckets_init(&live[i].buckets);
        for (unsigned k = 0; k < 3; k++)
            if (!buckets_change(&live[i].buckets, weights[k], 4))
                abort();
    }
    struct experiment_site s = {.n_traits = 1, .experiments = e, .n = 1};
    draw_keys();
    measure("draw, four variants", &s, seconds);
    s.layered = true;
    s.layer_seed = experiment_seed(VIEW("layer"), DRAW_FOR_LAYER);
    s.n = 2;
    measure("draw in a layer, four variants", &s, seconds);
    return 0;
}
