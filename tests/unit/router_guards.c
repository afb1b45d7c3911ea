/* router/guards: whole experiments, with all of their guards at once, looked at again and again: where nothing is wrong few are
 * ended, where something is, soon. A table is printed. Fixed seeds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/rand.h"
#include "router/guards.h"
#include <math.h>

#define WORLDS 2000

static struct rand dice;

struct truth { // of one variant
    double errors, fallbacks, slow;
};

struct world { // two variants under all guards
    struct guards g;
    struct guard_counts counts[2];
    double weight; // of the variant
};

static const struct guard_rules all = {
    .on = {true, true, true, true, true},
    .limit = {[GUARD_MAX_ERRORS] = 0.05, [GUARD_MAX_FALLBACKS] = 0.2, [GUARD_MAX_P99] = 0.01},
    .least = 100,
    .split = true,
    .variants = 2};

static void begin(struct world *w, const struct guard_rules *r, double weight)
{
    *w = (struct world){.weight = weight};
    guards_begin(&w->g, r, (double[]){1 - weight, weight}, w->counts);
}

static void ask(struct guard_counts *c, const struct truth *t)
{
    bool failed = rand_unit(&dice) < t->errors;
    c->drawn++;
    c->errors.n++;
    c->errors.bad += failed;
    if (failed)
        return;
    c->fallbacks.n++;
    c->fallbacks.bad += rand_unit(&dice) < t->fallbacks;
    c->slow.n++;
    c->slow.bad += rand_unit(&dice) < t->slow;
}

// So many requests between two looks, until the variant has had `most`. Gives how many it had when it was ended; 0: it was not.
static uint64_t run(struct world *w, const struct truth of[2], unsigned block, uint64_t most,
                    struct guard_verdict *v)
{
    while (w->counts[1].drawn < most) {
        for (unsigned i = 0; i < block; i++) {
            unsigned variant = rand_unit(&dice) < w->weight;
            ask(&w->counts[variant], &of[variant]);
        }
        if (guards_look(&w->g, w->counts, v))
            return w->counts[1].drawn;
    }
    return 0;
}

// A/A: both the same, with the limits just kept.
static void who_is_no_worse_is_seldom_ended(void **state)
{
    (void)state;
    static const struct truth kinds[][2] = {{{0.001, 0, 0}, {0.001, 0, 0}},
                                            {{0.01, 0.02, 0.005}, {0.01, 0.02, 0.005}},
                                            {{0.05, 0.2, 0.01}, {0.05, 0.2, 0.01}}};
    static const double weights[] = {0.5, 0.1};
    rand_seed(&dice, 15);
    for (unsigned k = 0; k < 3; k++) {
        for (unsigned i = 0; i < 2; i++) {
            unsigned ended = 0, skewed = 0;
            for (unsigned n = 0; n < WORLDS; n++) {
                struct world w;
                struct guard_verdict v;
                begin(&w, &all, weights[i]);
                bool over = run(&w, kinds[k], 20, 1500, &v) > 0;
                ended += over;
                skewed += !over && guards_skewed(&w.g);
            }
            print_message("A/A, errors %4.1f%%, weight %2.0f%%: of %u ended %u, called skewed %u\n",
                          100 * kinds[k][0].errors, 100 * weights[i], WORLDS, ended, skewed);
            assert_true(ended + skewed <= WORLDS * GUARDS_ALPHA);
        }
    }
}

static void who_is_much_worse_is_ended_soon(void **state)
{
    (void)state;
    static const struct {
        struct truth of[2];
        enum guard_kind kind;
    } cases[] = {{{{0.01, 0, 0}, {0.1, 0, 0}}, GUARD_ERRORS},
                 {{{0, 0.01, 0}, {0, 0.1, 0}}, GUARD_FALLBACKS},
                 {{{0, 0, 0.005}, {0, 0, 0.1}}, GUARD_MAX_P99}};
    static const double weights[] = {0.5, 0.1};
    static const unsigned blocks[] = {20, 200};
    rand_seed(&dice, 16);
    for (unsigned k = 0; k < 12; k++) {
        unsigned c = k / 4, soon = 0;
        uint64_t sum = 0;
        for (unsigned n = 0; n < WORLDS; n++) {
            struct world w;
            struct guard_verdict v;
            begin(&w, &all, weights[k % 2]);
            uint64_t at = run(&w, cases[c].of, blocks[k / 2 % 2], 500, &v);
            soon += at > 0 && at <= 500;
            sum += at;
            assert_true(at == 0 || v.variant == 1);
        }
        print_message("%s, weight %2.0f%%, looked at every %3u: %5.1f %% ended within 500 of the "
                      "variant's own, after %.0f in the mean\n",
                      guard_name[cases[c].kind], 100 * weights[k % 2], blocks[k / 2 % 2],
                      100.0 * soon / WORLDS, (double)sum / soon);
        assert_true(soon >= WORLDS * 0.95);
    }
}

static void nothing_is_said_of_few(void **state)
{
    (void)state;
    struct guard_rules r = all;
    struct guard_verdict v;
    struct world w;
    r.least = 300;
    rand_seed(&dice, 17);
    begin(&w, &r, 0.5);
    assert_in_range(run(&w, (struct truth[2]){{0, 0, 0}, {1, 0, 0}}, 10, 1000, &v), 300, 320);
    char words[GUARD_WORDS];
    guard_words(&v, words);
    assert_non_null(strstr(words, "errors: 3"));
    assert_non_null(strstr(words, "(100.00%), control 0 of "));
    assert_non_null(strstr(words, ", 120 to 1 needed")); // six of them share 5 %
}

static void only_what_is_asked_for_is_said(void **state)
{
    (void)state;
    struct guard_rules none = {.variants = 2, .least = 1};
    struct guard_verdict v;
    struct world w;
    rand_seed(&dice, 18);
    begin(&w, &none, 0.5);
    assert_int_equal(run(&w, (struct truth[2]){{0, 0, 0}, {1, 1, 1}}, 10, 1000, &v), 0);
    assert_false(guards_skewed(&w.g));
    none.on[GUARD_MAX_ERRORS] = true;
    none.limit[GUARD_MAX_ERRORS] = 0.5;
    begin(&w, &none, 0.5);
    assert_true(run(&w, (struct truth[2]){{0, 0, 0}, {1, 0, 0}}, 10, 1000, &v) > 0);
    assert_int_equal(v.kind, GUARD_MAX_ERRORS);
    char words[GUARD_WORDS];
    guard_words(&v, words);
    assert_non_null(strstr(words, "at most 50%; evidence"));
}

// Other weights are no skew; requests that come otherwise than they should are one.
static void a_split_follows_the_weights(void **state)
{
    (void)state;
    struct guard_verdict v;
    const struct truth fine[2] = {{0, 0, 0}, {0, 0, 0}};
    rand_seed(&dice, 19);
    struct world w;
    begin(&w, &all, 0.1);
    run(&w, fine, 50, 1000, &v);
    w.weight = 0.9;
    guards_weigh(&w.g, (double[]){0.1, 0.9}, w.counts);
    run(&w, fine, 50, 5000, &v);
    assert_false(guards_skewed(&w.g));
    w.weight = 0.8;
    run(&w, fine, 50, 9000, &v);
    assert_true(guards_skewed(&w.g));
    begin(&w, &all, 0);
    for (unsigned i = 0; i < 1000; i++)
        ask(&w.counts[0], &fine[0]);
    assert_false(guards_look(&w.g, w.counts, &v)); // one alone has all
    assert_false(guards_skewed(&w.g));
}

// What goes wrong may be read before the request that it is one of, or long behind it: it counts once, and no sum is upset.
static void counts_are_read_while_they_are_written(void **state)
{
    (void)state;
    struct guard_verdict v;
    struct world w;
    begin(&w, &all, 0.5);
    for (unsigned i = 1; i <= 1000; i++) {
        for (unsigned k = 0; k < 2; k++) {
            w.counts[k].fallbacks = (struct stats_arm){100ull * i, 10ull * i + (i % 3 ? 9 : 0)};
            w.counts[k].slow = (struct stats_arm){10ull * i - i % 2 * 5, 0};
        }
        assert_false(guards_look(&w.g, w.counts, &v));
    }
    assert_int_equal(w.g.bounds[1][GUARD_MAX_FALLBACKS].seen.n, 100000);
    assert_in_range(w.g.bounds[1][GUARD_MAX_FALLBACKS].seen.bad, 10000, 10009);
    assert_true(isfinite(w.g.pairs[1][GUARD_FALLBACKS].log_e));
    w.counts[1] = (struct guard_counts){0}; // whoever counts has begun anew
    assert_false(guards_look(&w.g, w.counts, &v));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_is_no_worse_is_seldom_ended),
        cmocka_unit_test(who_is_much_worse_is_ended_soon),
        cmocka_unit_test(nothing_is_said_of_few),
        cmocka_unit_test(only_what_is_asked_for_is_said),
        cmocka_unit_test(a_split_follows_the_weights),
        cmocka_unit_test(counts_are_read_while_they_are_written),
    };
    return cmocka_run_group_tests_name("router/guards", tests, NULL, NULL);
}
