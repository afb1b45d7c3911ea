/* router/guards: whole experiments, with all of their guards at once, looked at again and again: where nothing is wrong few are
 * ended, where something is, soon. A table is printed. Fixed seeds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/rand.h"
#include "router/cohorts.h"
#include "router/guards.h"
#include <math.h>

#define WORLDS 2000

static struct rand dice;

struct truth { // of one variant
    double errors, fallbacks, slow, reward;
};

struct world { // two variants under all guards
    struct guards g;
    struct guard_counts counts[2];
    double weight; // of the variant
};

static const struct guard_rules all = {.on = {true, true, true, true, true, true, true},
                                       .limit = {[GUARD_MAX_ERRORS] = 0.05,
                                                 [GUARD_MAX_FALLBACKS] = 0.2,
                                                 [GUARD_MAX_P99] = 0.01,
                                                 [GUARD_MIN_REWARD] = 0.05},
                                       .least = 100,
                                       .split = true,
                                       .variants = 2};

static void begin(struct world *w, const struct guard_rules *r, double weight)
{
    *w = (struct world){.weight = weight};
    guards_begin(&w->g, r, (double[]){1 - weight, weight}, w->counts);
}

static double graded; // of rewards, those that are no whole ones

// In the mean `mean`: all or nothing, or anything up to twice that.
static double draw_reward(double mean)
{
    if (graded > 0 && rand_unit(&dice) < graded)
        return 2 * mean * rand_unit(&dice);
    return rand_unit(&dice) < mean;
}

static void ask(struct guard_counts *c, const struct truth *t)
{
    bool failed = rand_unit(&dice) < t->errors;
    c->drawn++;
    c->errors.n++;
    c->errors.bad += failed;
    c->rewards.n++;
    c->rewards.bad += 1 - draw_reward(t->reward);
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
    static const struct truth kinds[][2] = {{{0.001, 0, 0, 0.3}, {0.001, 0, 0, 0.3}},
                                            {{0.01, 0.02, 0.005, 0.1}, {0.01, 0.02, 0.005, 0.1}},
                                            {{0.05, 0.2, 0.01, 0.05}, {0.05, 0.2, 0.01, 0.05}}};
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
    } cases[] = {{{{0.01, 0, 0, 0.05}, {0.1, 0, 0, 0.05}}, GUARD_ERRORS},
                 {{{0, 0.01, 0, 0.05}, {0, 0.1, 0, 0.05}}, GUARD_FALLBACKS},
                 {{{0, 0, 0.005, 0.05}, {0, 0, 0.1, 0.05}}, GUARD_MAX_P99},
                 {{{0, 0, 0, 0.4}, {0, 0, 0, 0.1}}, GUARD_REWARD}};
    static const double weights[] = {0.5, 0.1};
    static const unsigned blocks[] = {20, 200};
    rand_seed(&dice, 16);
    for (unsigned k = 0; k < 16; k++) {
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
    assert_in_range(run(&w, (struct truth[2]){{0, 0, 0, 1}, {1, 0, 0, 1}}, 10, 1000, &v), 300, 320);
    char words[GUARD_WORDS];
    guard_words(&v, words);
    assert_non_null(strstr(words, "errors: 3"));
    assert_non_null(strstr(words, "(100.00%), control 0 of "));
    assert_non_null(strstr(words, ", 160 to 1 needed")); // eight of them share 5 %
}

static void only_what_is_asked_for_is_said(void **state)
{
    (void)state;
    struct guard_rules none = {.variants = 2, .least = 1};
    struct guard_verdict v;
    struct world w;
    rand_seed(&dice, 18);
    begin(&w, &none, 0.5);
    assert_int_equal(run(&w, (struct truth[2]){{0, 0, 0, 1}, {1, 1, 1, 0}}, 10, 1000, &v), 0);
    assert_false(guards_skewed(&w.g));
    none.on[GUARD_MAX_ERRORS] = true;
    none.limit[GUARD_MAX_ERRORS] = 0.5;
    begin(&w, &none, 0.5);
    assert_true(run(&w, (struct truth[2]){{0, 0, 0, 1}, {1, 0, 0, 1}}, 10, 1000, &v) > 0);
    assert_int_equal(v.kind, GUARD_MAX_ERRORS);
    char words[GUARD_WORDS];
    guard_words(&v, words);
    assert_non_null(strstr(words, "at most 50%; evidence"));
    none.on[GUARD_MAX_ERRORS] = false;
    none.on[GUARD_MIN_REWARD] = true;
    none.limit[GUARD_MIN_REWARD] = 0.125;
    begin(&w, &none, 0.5);
    assert_true(run(&w, (struct truth[2]){{0, 0, 0, 0}, {0, 0, 0, 0}}, 10, 1000, &v) > 0);
    assert_int_equal(v.kind, GUARD_MIN_REWARD);
    guard_words(&v, words);
    if (!strstr(words, "min_reward: 0 of ") || !strstr(words, "(0.00%), at least 12.5%; evidence"))
        fail_msg("%s", words);
}

// ---- rewards -----------------------------------------------------------------------------------------

static const struct guard_rules by_reward = {
    .on = {[GUARD_REWARD] = true}, .least = 100, .variants = 2};

static double variance_of(double mean, double share_graded)
{
    return share_graded * 4 * mean * mean / 3 + (1 - share_graded) * mean - mean * mean;
}

// Requests of each that a fixed test wants for 80 of 100 to be found, one-sided at 5 % (normal approximation).
static double fixed_size(double a, double b, double share_graded)
{
    double z = 1.6449 + 0.8416,
           variance = variance_of(a, share_graded) + variance_of(b, share_graded);
    return z * z * variance / ((a - b) * (a - b));
}

// Of graded rewards, which vary less than clicks of that mean do, as many are needed as of clicks.
static void less_reward_is_found(void **state)
{
    (void)state;
    static const struct {
        double of[2], graded;
    } cases[] = {{{0.2, 0.1}, 0},    {{0.1, 0.05}, 0},  {{0.1, 0.07}, 0},
                 {{0.05, 0.025}, 0}, {{0.4, 0.3}, 0.5}, {{0.1, 0.05}, 1}};
    rand_seed(&dice, 20);
    for (unsigned k = 0; k < 12; k++) {
        double a = cases[k / 2].of[0], b = cases[k / 2].of[1], clicks = fixed_size(a, b, 0),
               fixed = fixed_size(a, b, cases[k / 2].graded);
        struct truth of[2] = {{.reward = a}, {.reward = b}};
        unsigned found = 0, by_then = 0, in = 300;
        double sum = 0;
        graded = cases[k / 2].graded;
        for (unsigned i = 0; i < in; i++) {
            struct world w;
            struct guard_verdict v;
            begin(&w, &by_reward, k % 2 ? 0.1 : 0.5);
            uint64_t at = run(&w, of, 20, (uint64_t)(5 * clicks), &v);
            found += at > 0;
            by_then += at > 0 && (double)at <= clicks;
            sum += (double)at;
        }
        print_message(
            "reward %4.1f%% against %4.1f%%%s, weight %2.0f%%: fixed test %4.0f, of clicks "
            "%4.0f; looked at always %4.0f in the mean, %3.0f %% by those, %3.0f %% by "
            "five times those\n",
            100 * b, 100 * a, graded > 0 ? ", graded" : "", k % 2 ? 10. : 50., fixed, clicks,
            sum / found, 100.0 * by_then / in, 100.0 * found / in);
        assert_true(found >= in * 0.9);
    }
    graded = 0;
}

// Means that are the same, or better, of whatever is in between nothing and all.
static void no_less_reward_is_seldom_ended(void **state)
{
    (void)state;
    static const double means[][2] = {{0.01, 0.01}, {0.1, 0.1}, {0.5, 0.5}, {0.05, 0.1}};
    rand_seed(&dice, 21);
    for (unsigned k = 0; k < 16; k++) {
        unsigned ended = 0;
        graded = k / 4 % 2 ? 1 : 0;
        double weight = k / 8 ? 0.1 : 0.5, a = means[k % 4][0], b = means[k % 4][1];
        for (unsigned n = 0; n < WORLDS; n++) {
            struct world w;
            struct guard_verdict v;
            begin(&w, &by_reward, weight);
            ended += run(&w, (struct truth[2]){{.reward = a}, {.reward = b}}, 20, 1000, &v) > 0;
        }
        print_message("A/A, reward %4.1f%% against %4.1f%%%s, weight %2.0f%%: of %u ended %u\n",
                      100 * b, 100 * a, graded > 0 ? ", graded" : "", 100 * weight, WORLDS, ended);
        assert_true(ended <= WORLDS * GUARDS_ALPHA);
    }
    graded = 0;
}

#define TICK_US 250000
#define WITHIN_US 8000000
#define LATEST 40 // ticks
#define TICKS 480

struct late { // a world in which rewards come late, and weights move
    struct cohort_sum cohorts[2][COHORTS], settled[2][COHORTS];
    struct cohort_sum at_once[2];
    unsigned due[TICKS + LATEST][2][COHORT_MARKS]; // rewards
};

static void pass_tick(struct late *l, unsigned tick, double weight)
{
    uint64_t now_us = (uint64_t)tick * TICK_US;
    unsigned mark = cohort_at(now_us, WITHIN_US);
    for (unsigned i = 0; i < 10; i++) {
        unsigned v = rand_unit(&dice) < weight;
        l->cohorts[v][mark % COHORTS].n++;
        l->at_once[v].n++;
        if (rand_unit(&dice) < 0.3)
            l->due[tick + rand_below(&dice, LATEST)][v][mark]++;
    }
    for (unsigned v = 0; v < 2; v++) {
        for (unsigned m = 0; m < COHORT_MARKS; m++) {
            unsigned n = l->due[tick][v][m];
            l->at_once[v].gained += n * 1000000ull;
            if (cohort_takes(m, 0, now_us, WITHIN_US))
                l->cohorts[v][m % COHORTS].gained += n * 1000000ull;
        }
        unsigned k = cohort_settled(now_us, WITHIN_US);
        l->settled[v][k] = l->cohorts[v][k];
    }
}

static struct stats_arm settled_arm(const struct cohort_sum of[COHORTS])
{
    struct cohort_sum sum = {0};
    for (unsigned k = 0; k < COHORTS; k++) {
        sum.n += of[k].n;
        sum.gained += of[k].gained;
    }
    return cohort_arm(sum);
}

// Both the same; the variant is ramped up, while its rewards, as the control's, come up to ten seconds late. Who counts requests and
// rewards as they come believes that the variant has fewer.
static void late_rewards_and_other_weights_end_nobody(void **state)
{
    (void)state;
    static struct late l;
    unsigned ended[2] = {0};
    rand_seed(&dice, 22);
    for (unsigned n = 0; n < WORLDS; n++) {
        struct world w, naive;
        struct guard_verdict v;
        bool over[2] = {false, false};
        memset(&l, 0, sizeof(l));
        begin(&w, &by_reward, 0.05);
        begin(&naive, &by_reward, 0.05);
        for (unsigned tick = 0; tick < TICKS; tick++) {
            pass_tick(&l, tick, tick < 160 ? 0.05 : tick < 320 ? 0.5 : 0.95);
            for (unsigned k = 0; k < 2; k++) {
                w.counts[k].rewards = settled_arm(l.settled[k]);
                naive.counts[k].rewards = cohort_arm(l.at_once[k]);
            }
            over[0] |= guards_look(&w.g, w.counts, &v);
            over[1] |= guards_look(&naive.g, naive.counts, &v);
        }
        assert_true(w.counts[1].rewards.n > 1500);
        ended[0] += over[0];
        ended[1] += over[1];
    }
    print_message(
        "A/A, rewards up to 10 s late, weight 5%% to 95%%: of %u ended %u; counted as they "
        "come %u\n",
        WORLDS, ended[0], ended[1]);
    assert_true(ended[0] <= WORLDS * GUARDS_ALPHA);
    assert_true(ended[1] > WORLDS * GUARDS_ALPHA);
}

static void of_no_rewards_nothing_is_said(void **state)
{
    (void)state;
    struct guard_verdict v;
    struct guard_rules r = by_reward;
    struct world w;
    r.on[GUARD_MIN_REWARD] = true;
    r.limit[GUARD_MIN_REWARD] = 0.999999;
    r.least = 1;
    begin(&w, &r, 0.5);
    for (unsigned i = 1; i < 100; i++) {
        assert_false(guards_look(&w.g, w.counts, &v));
        w.counts[0].rewards = (struct stats_arm){100 * i, 0};
    }
    assert_true(guards_evidence(&w.g, GUARD_REWARD, 1) == 0);
    assert_true(guards_evidence(&w.g, GUARD_MIN_REWARD, 1) == 0);
    w.counts[1].rewards = (struct stats_arm){100, 33.5};
    assert_true(
        guards_look(&w.g, w.counts, &v)); // by the number alone: a first block is learnt from
    assert_int_equal(v.kind, GUARD_MIN_REWARD);
    w.counts[0].rewards = (struct stats_arm){10100, 0};
    w.counts[1].rewards = (struct stats_arm){200, 67};
    assert_true(guards_look(&w.g, w.counts, &v));
    assert_int_equal(v.kind, GUARD_REWARD);
    char words[GUARD_WORDS];
    guard_words(&v, words);
    if (!strstr(words, "reward: 133 of 200 (66.50%), control 10100 of 10100 (100.00%); evidence "))
        fail_msg("%s", words);
}

// Other weights are no skew; requests that come otherwise than they should are one.
static void a_split_follows_the_weights(void **state)
{
    (void)state;
    struct guard_verdict v;
    const struct truth fine[2] = {{0, 0, 0, 1}, {0, 0, 0, 1}};
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
    struct guards was = w.g;
    assert_false(guards_look(&w.g, w.counts, &v)); // nothing has come
    assert_memory_equal(&w.g.seen, &was.seen, sizeof(was.seen));
    w.counts[1] = (struct guard_counts){0}; // whoever counts has begun anew
    assert_false(guards_look(&w.g, w.counts, &v));
    assert_memory_equal(&w.g.seen, &was.seen, sizeof(was.seen));
    assert_memory_equal(&w.g.bounds, &was.bounds, sizeof(was.bounds));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_is_no_worse_is_seldom_ended),
        cmocka_unit_test(who_is_much_worse_is_ended_soon),
        cmocka_unit_test(nothing_is_said_of_few),
        cmocka_unit_test(only_what_is_asked_for_is_said),
        cmocka_unit_test(less_reward_is_found),
        cmocka_unit_test(no_less_reward_is_seldom_ended),
        cmocka_unit_test(late_rewards_and_other_weights_end_nobody),
        cmocka_unit_test(of_no_rewards_nothing_is_said),
        cmocka_unit_test(a_split_follows_the_weights),
        cmocka_unit_test(counts_are_read_while_they_are_written),
    };
    return cmocka_run_group_tests_name("router/guards", tests, NULL, NULL);
}
