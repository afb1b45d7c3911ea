#include "router/shadow.h"
#include "tests/sim/sim.h"

#include "base/mem.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define TWICE_EVERY 20 // seeds of which one is run a second time: the same digest

static void add(struct totals *sum, const struct totals *one)
{
    sum->lives += one->lives;
    sum->virtual_us += one->virtual_us;
    sum->fallbacks += one->fallbacks;
    sum->defaults += one->defaults;
    for (unsigned i = 0; i < STATUS_COUNT; i++)
        sum->settled[i] += one->settled[i];
    for (unsigned i = 0; i < SOURCES; i++)
        sum->sources[i] += one->sources[i];
    sum->followers += one->followers;
    sum->awaited += one->awaited;
    sum->asked += one->asked;
    sum->found += one->found;
    sum->told += one->told;
    for (unsigned i = 0; i < SHADOW_ENDS; i++)
        sum->shadows[i] += one->shadows[i];
    for (unsigned i = 0; i < FAULTS; i++)
        sum->faults[i] += one->faults[i];
}

static void show(const struct totals *t, uint64_t seeds, double cpu_s)
{
    printf("%" PRIu64 " seeds, %" PRIu64 " infers in %.1f virtual hours, %.0f lives a second\n",
           seeds, t->lives, (double)t->virtual_us / 3.6e9, (double)t->lives / cpu_s);
    printf("settled:");
    for (unsigned i = 0; i < STATUS_COUNT; i++) {
        if (t->settled[i] > 0)
            printf(" %s %" PRIu64, status_table[i].name, t->settled[i]);
    }
    printf(" (by another model %" PRIu64 ", as written down %" PRIu64 ")", t->fallbacks,
           t->defaults);
    printf("\nanswered by:");
    for (unsigned i = 0; i < SOURCES; i++)
        printf(" %s %" PRIu64, answer_source_name[i], t->sources[i]);
    printf(", in a flight of another %" PRIu64 "; waited for a worker to tell %" PRIu64,
           t->followers, t->awaited);
    printf("\nstore: asked %" PRIu64 ", found %" PRIu64 ", told %" PRIu64, t->asked, t->found,
           t->told);
    printf("\nshadows:");
    for (unsigned i = 0; i < SHADOW_ENDS; i++)
        printf(" %s %" PRIu64, shadow_end_name[i], t->shadows[i]);
    printf("\nfaults:");
    for (unsigned i = 0; i < FAULTS; i++)
        printf(" %s %" PRIu64, fault_name[i], t->faults[i]);
    printf("\n");
}

static double cpu_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int usage(void)
{
    fprintf(stderr, "usage: sim [--seeds N] [--from S] | --seed S [--trace INFER]\n");
    return 2;
}

// A world gives back all the memory that it took.
static void run_seed(struct world *w, uint64_t seed, uint64_t trace)
{
    int64_t before = mem_live();
    world_run(w, seed, trace);
    arena_thread_done(); // its spares
    demand(w, NULL, mem_live() == before, "all memory was given back");
}

int main(int argc, char **argv)
{
    uint64_t from = 1, seeds = 1000, trace = 0;
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc)
            return usage();
        uint64_t n = strtoull(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--seeds") == 0)
            seeds = n;
        else if (strcmp(argv[i], "--from") == 0)
            from = n;
        else if (strcmp(argv[i], "--seed") == 0)
            from = n, seeds = 1;
        else if (strcmp(argv[i], "--trace") == 0)
            trace = n;
        else
            return usage();
    }
    struct world *w = malloc(sizeof(*w));
    struct totals all = {0};
    double start_s = cpu_s();
    for (uint64_t seed = from; seed < from + seeds; seed++) {
        run_seed(w, seed, trace);
        add(&all, &w->totals);
        if (seed % TWICE_EVERY == 0) {
            uint64_t digest = w->digest;
            run_seed(w, seed, 0);
            demand(w, NULL, w->digest == digest, "the same seed gives the same digest");
            add(&all, &w->totals);
        }
    }
    show(&all, seeds, cpu_s() - start_s);
    if (seeds == 1)
        printf("digest %016" PRIx64 "\n", w->digest);
    free(w);
    return 0;
}
