/* router/stats: over thousands of experiments in which nothing is wrong, looked at again and again, few are stopped; where
 * something is, it is found soon. Tables are printed. And each figure is what its paper's formula says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/rand.h"
#include "router/stats.h"
#include <math.h>

#define ALPHA 0.05
#define GUARDS 4
#define WORLDS 2000

static struct rand dice;

static struct stats_arm draw_arm(unsigned n, double rate)
{
    struct stats_arm a = {.n = n};
    for (unsigned i = 0; i < n; i++)
        a.bad += rand_unit(&dice) < rate;
    return a;
}

// How many requests of its own the variant had when it was stopped; 0: it was not, within `most`.
static unsigned run_pair(double control, double variant, unsigned control_block, unsigned guards,
                         unsigned most)
{
    struct stats_pair p = {0};
    for (unsigned n = 10; n <= most; n += 10) {
        stats_pair_add(&p, draw_arm(control_block, control), draw_arm(10, variant));
        if (stats_is_worse(p.log_e_most, p.variant.n, STATS_MIN_REQUESTS, ALPHA, guards))
            return n;
    }
    return 0;
}

static void who_is_no_worse_is_seldom_stopped(void **state)
{
    (void)state;
    static const double rates[] = {0.001, 0.01, 0.1, 0.5};
    rand_seed(&dice, 1);
    for (unsigned r = 0; r < 4; r++) {
        for (unsigned block = 10; block <= 90; block += 80) { // halves, and a tenth
            unsigned stopped = 0;
            for (unsigned i = 0; i < WORLDS; i++)
                stopped += run_pair(rates[r], rates[r], block, 1, 2000) > 0;
            print_message("rate %5.3f, control x%u: %u of %u stopped\n", rates[r], block / 10,
                          stopped, WORLDS);
            assert_true(stopped <= WORLDS * ALPHA);
        }
    }
    unsigned better = 0;
    for (unsigned i = 0; i < WORLDS; i++)
        better += run_pair(0.05, 0.02, 10, 1, 2000) > 0;
    assert_true(better <= WORLDS * ALPHA);
}

static void who_is_much_worse_is_stopped_soon(void **state)
{
    (void)state;
    rand_seed(&dice, 2);
    for (unsigned block = 10; block <= 90; block += 80) {
        unsigned soon = 0, sum = 0;
        for (unsigned i = 0; i < WORLDS; i++) {
            unsigned n = run_pair(0.01, 0.1, block, GUARDS, 500);
            soon += n > 0;
            sum += n;
        }
        print_message(
            "10%% against 1%%, control x%u: %.1f %% stopped within 500, after %.0f in the mean\n",
            block / 10, 100.0 * soon / WORLDS, (double)sum / soon);
        assert_true(soon >= WORLDS * 0.95);
    }
}

// Requests of each that a fixed test wants for 80 of 100 to be found, one-sided, at the same alpha (normal approximation).
static double fixed_size(double a, double b)
{
    double z = 2.2414 + 0.8416; // of 0.0125 and 0.8
    return z * z * (a * (1 - a) + b * (1 - b)) / ((b - a) * (b - a));
}

static void what_looking_costs(void **state)
{
    (void)state;
    static const double pairs[][2] = {
        {0.01, 0.02}, {0.01, 0.03}, {0.01, 0.05}, {0.05, 0.1}, {0.1, 0.2}};
    rand_seed(&dice, 3);
    for (unsigned k = 0; k < 5; k++) {
        double a = pairs[k][0], b = pairs[k][1], fixed = fixed_size(a, b);
        unsigned found = 0, first = 0, in = 300;
        double sum = 0;
        for (unsigned i = 0; i < in; i++) {
            unsigned n = run_pair(a, b, 10, GUARDS, (unsigned)(5 * fixed));
            found += n > 0;
            first += n > 0 && n <= fixed;
            sum += n;
        }
        print_message("%4.0f%% against %2.0f%%: fixed test %5.0f; looked at always %5.0f in the "
                      "mean, %2.0f %% by then, %3.0f %% by five times that\n",
                      b * 100, a * 100, fixed, sum / found, 100.0 * first / in, 100.0 * found / in);
        assert_true(found >= in * 0.9);
    }
}

static void a_bound_is_one(void **state)
{
    (void)state;
    rand_seed(&dice, 4);
    unsigned at = 0, above = 0;
    for (unsigned i = 0; i < WORLDS; i++) {
        struct stats_bound fine = {.limit = 0.01}, slow = {.limit = 0.01};
        for (unsigned n = 0; n < 200; n++) {
            stats_bound_add(&fine, draw_arm(10, 0.01));
            stats_bound_add(&slow, draw_arm(10, 0.05));
        }
        at += stats_is_worse(fine.log_e_most, 2000, 100, ALPHA, 1);
        above += stats_is_worse(slow.log_e_most, 2000, 100, ALPHA, GUARDS);
    }
    assert_true(at <= WORLDS * ALPHA);
    assert_true(above >= WORLDS * 0.99);
    assert_false(stats_is_worse(1e9, 99, 100, ALPHA, 1));
}

static void a_split_is_as_the_weights_say(void **state)
{
    (void)state;
    const double weights[3] = {0.8, 0.1, 0.1};
    rand_seed(&dice, 5);
    unsigned fair = 0, skewed = 0;
    for (unsigned i = 0; i < WORLDS; i++) {
        uint64_t a[3] = {0}, b[3] = {0};
        bool said = false;
        for (unsigned n = 0; n < 4000; n++) {
            double at = rand_unit(&dice);
            a[at < 0.8 ? 0 : at < 0.9 ? 1 : 2]++;
            b[at < 0.75 ? 0 : at < 0.9 ? 1 : 2]++;
            said |= n % 50 == 0 && stats_split(a, weights, 3) >= log(1 / ALPHA);
        }
        fair += said;
        skewed += stats_split(b, weights, 3) >= log(1 / ALPHA);
    }
    assert_true(fair <= WORLDS * ALPHA);
    assert_true(skewed >= WORLDS * 0.99);
}

static void means_and_lifts_hold(void **state)
{
    (void)state;
    rand_seed(&dice, 6);
    unsigned wrong = 0, found = 0, worlds = 1000;
    for (unsigned i = 0; i < worlds; i++) {
        struct stats_sum a = {0}, b = {0}, c = {0};
        bool out = false;
        struct stats_interval lift = {0};
        for (unsigned n = 0; n < 4000; n++) {
            double x[3] = {rand_unit(&dice), rand_unit(&dice), rand_unit(&dice) + 0.1};
            struct stats_sum *s[3] = {&a, &b, &c};
            for (unsigned k = 0; k < 3; k++) {
                s[k]->n++;
                s[k]->sum += x[k];
                s[k]->squares += x[k] * x[k];
            }
            if (n < STATS_MIN_REQUESTS || n % 10)
                continue;
            lift = stats_lift(&a, &b, ALPHA, 1000);
            out |= lift.low > 0 || lift.high < 0;
        }
        wrong += out;
        lift = stats_lift(&a, &c, ALPHA, 1000);
        found += lift.low > 0 && lift.low < 0.1 && lift.high > 0.1;
    }
    assert_true(wrong <= worlds * ALPHA);
    assert_true(found >= worlds * 0.95);
    struct stats_sum one = {.n = 1};
    assert_true(isinf(stats_mean(&one, ALPHA, 1000).high));
}

static void rates_hold(void **state)
{
    (void)state;
    static const double rates[] = {0.001, 0.01, 0.1, 0.5};
    rand_seed(&dice, 8);
    for (unsigned r = 0; r < sizeof(rates) / sizeof(*rates); r++) {
        unsigned wrong = 0, apart = 0, worlds = 500;
        for (unsigned i = 0; i < worlds; i++) {
            struct stats_arm a = {0}, b = {0};
            bool out = false, out_lift = false;
            for (unsigned n = 0; n < 1500; n++) {
                struct stats_arm x = draw_arm(1, rates[r]), y = draw_arm(1, rates[r]);
                a = (struct stats_arm){a.n + x.n, a.bad + x.bad};
                b = (struct stats_arm){b.n + y.n, b.bad + y.bad};
                if (n % 10)
                    continue;
                struct stats_interval own = stats_rate(a, ALPHA),
                                      lift = stats_rate_lift(a, b, ALPHA);
                out |= own.low > rates[r] || own.high < rates[r];
                out_lift |= lift.low > 0 || lift.high < 0;
            }
            wrong += out;
            apart += out_lift;
        }
        assert_true(wrong <= worlds * ALPHA && apart <= worlds * ALPHA);
    }
    struct stats_interval none = stats_rate((struct stats_arm){120, 0}, ALPHA),
                          all = stats_rate((struct stats_arm){120, 120}, ALPHA);
    assert_true(none.low == 0 && none.high > 0.03 && none.high < 0.08);
    assert_true(all.high == 1 && fabs(all.low + none.high - 1) < 1e-9);
    struct stats_interval lift =
        stats_rate_lift((struct stats_arm){1000, 10}, (struct stats_arm){1000, 100}, ALPHA);
    assert_true(lift.low > 0.03 && lift.low < 0.09 && lift.high > 0.09 && lift.high < 0.16);
    assert_true(isinf(stats_rate((struct stats_arm){1, 1}, ALPHA).high));
}

static void quantiles_hold(void **state)
{
    (void)state;
    static struct hist h;
    rand_seed(&dice, 7);
    unsigned wrong = 0, worlds = 300;
    for (unsigned i = 0; i < worlds; i++) {
        bool out = false;
        hist_init(&h);
        for (unsigned n = 0; n < 3000; n++) {
            hist_add(&h, rand_below(&dice, 32)); // exact there; the upper quartile is 23
            struct stats_interval q = stats_quantile(&h, 0.75, ALPHA);
            out |= n % 10 == 0 && (q.low > 24 || q.high < 23);
        }
        wrong += out;
    }
    struct stats_interval q = stats_quantile(&h, 0.75, ALPHA);
    assert_true(q.low >= 20 && q.high <= 27);
    assert_true(wrong <= worlds * ALPHA);
}

// ---- figures: worked out from the papers' formulas, apart from this code -------------------------------------

static void assert_near(double is, double want)
{
    if (!(fabs(is - want) <= 1e-9 * fmax(1, fabs(want))))
        fail_msg("%.15g, not %.15g", is, want);
}

static void assert_interval(struct stats_interval is, double low, double high)
{
    assert_near(is.low, low);
    assert_near(is.high, high);
}

// What the next block brings, of those that have been learnt from.
static double pair_gain(struct stats_arm control, struct stats_arm variant, uint64_t n, uint64_t m)
{
    struct stats_pair p = {.control = control, .variant = variant};
    stats_pair_add(&p, (struct stats_arm){n, 1}, (struct stats_arm){m, 3});
    assert_true(p.control.n == control.n + n && p.control.bad == control.bad + 1);
    assert_true(p.variant.n == variant.n + m && p.variant.bad == variant.bad + 3);
    assert_true(p.log_e_most == fmax(p.log_e, 0));
    return p.log_e;
}

static void a_pair_in_figures(void **state)
{
    (void)state;
    assert_near(pair_gain((struct stats_arm){30, 1}, (struct stats_arm){30, 6}, 20, 10),
                1.6221875025776722);
    assert_true(pair_gain((struct stats_arm){29, 1}, (struct stats_arm){30, 6}, 20, 10) == 0);
    assert_true(pair_gain((struct stats_arm){30, 1}, (struct stats_arm){29, 6}, 20, 10) == 0);
    assert_true(pair_gain((struct stats_arm){30, 6}, (struct stats_arm){30, 1}, 20, 10) == 0);
    assert_true(pair_gain((struct stats_arm){30, 1}, (struct stats_arm){30, 6}, 0, 10) == 0);
    assert_true(pair_gain((struct stats_arm){30, 1}, (struct stats_arm){30, 6}, 20, 0) == 0);
    struct stats_pair p = {{30, 1}, {30, 6}, 0, 0};
    stats_pair_add(&p, (struct stats_arm){20, 1}, (struct stats_arm){10, 3});
    stats_pair_add(&p, (struct stats_arm){20, 5}, (struct stats_arm){10, 0});
    assert_true(p.log_e < 0);
    assert_near(p.log_e_most, 1.6221875025776722); // what was known once is not forgotten
}

static void a_bound_in_figures(void **state)
{
    (void)state;
    static const struct {
        double bad, log_e;
    } rows[] = {{0, -1.276079622904187}, {2, -0.19153554646833196}, {3, 0.6039326363099129},
                {5, 2.9367681458152064}, {10, 12.570575016441826},  {20, 40.61974018307513}};
    for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct stats_bound b = {.limit = 0.01};
        stats_bound_add(&b, (struct stats_arm){60, rows[i].bad}); // in whatever parts they come
        stats_bound_add(&b, (struct stats_arm){40, 0});
        assert_near(b.log_e, rows[i].log_e);
        assert_true(b.log_e_most >= b.log_e);
    }
}

static void enough_evidence_in_figures(void **state)
{
    (void)state;
    assert_true(stats_is_worse(4.3820267, 100, 100, ALPHA, GUARDS)); // 80 to 1
    assert_false(stats_is_worse(4.3820266, 100, 100, ALPHA, GUARDS));
    assert_false(stats_is_worse(4.3820267, 99, 100, ALPHA, GUARDS));
}

static void a_split_in_figures(void **state)
{
    (void)state;
    const double weights[3] = {0.8, 0.1, 0.1};
    assert_near(stats_split((uint64_t[]){0, 0, 0}, weights, 3), 0);
    assert_near(stats_split((uint64_t[]){80, 10, 10}, weights, 3), -0.7015798323928948);
    assert_near(stats_split((uint64_t[]){60, 20, 20}, weights, 3), 4.590529389771177);
}

// Of n requests with a mean of 0.5 and a variance of 0.25.
static void assert_mean(uint64_t n, double alpha, double tight_at, double radius)
{
    struct stats_sum s = {n, (double)n / 2, (double)n / 2};
    assert_interval(stats_mean(&s, alpha, tight_at), 0.5 - radius, 0.5 + radius);
}

static void means_in_figures(void **state)
{
    (void)state;
    assert_mean(2, 0.05, 1000, 6.596683057303506);
    assert_mean(100, 0.05, 1000, 0.18816281731920648);
    assert_mean(1000, 0.05, 1000, 0.04799462164360205);
    assert_mean(10000, 0.05, 1000, 0.016276800578237025);
    assert_mean(1000, 0.01, 500, 0.05693064522580022);
    const struct stats_sum control = {1000, 500, 500}, variant = {500, 50, 50};
    double radius = 0.05185230508206718 + 0.044444062566527935; // at half of 0.05 each
    assert_interval(stats_lift(&control, &variant, 0.05, 1000), -0.4 - radius, -0.4 + radius);
    struct stats_sum same = {10, 1, 0.1}; // rounded, its variance is below 0
    assert_interval(stats_mean(&same, 0.05, 1000), 0.1, 0.1);
}

static void rates_in_figures(void **state)
{
    (void)state;
    assert_interval(stats_rate((struct stats_arm){2, 1}, 0.05), 0.006289558546712526,
                    0.9937104414532876);
    assert_interval(stats_rate((struct stats_arm){100, 10}, 0.05), 0.02906085128407283,
                    0.22750994985855252);
    assert_interval(stats_rate((struct stats_arm){120, 0}, 0.05), 0, 0.04847632069229993);
    struct stats_interval lift =
        stats_rate_lift((struct stats_arm){1000, 10}, (struct stats_arm){1000, 100}, 0.05);
    assert_interval(lift, 0.06751591529206413 - 0.0272430375162889,
                    0.14030068814258675 - 0.0021997202918649147); // at half of 0.05 each
}

// One of each bucket: 327 of 499 are 0.75 - 0.0952, and 422 are 0.75 + 0.0952.
static void quantiles_in_figures(void **state)
{
    (void)state;
    static struct hist h;
    hist_init(&h);
    for (unsigned i = 0; i < 499; i++)
        hist_add(&h, hist_upper(i));
    struct stats_interval q = stats_quantile(&h, 0.75, 0.05);
    assert_int_equal(hist_index((uint64_t)q.low), 326);
    assert_int_equal(hist_index((uint64_t)q.high), 421);
    q = stats_quantile(&h, 0.05, 0.05);
    assert_true(q.low == 0 && q.high > 0 && isfinite(q.high));
    q = stats_quantile(&h, 0.95, 0.05);
    assert_true(q.low > 0 && isinf(q.high));
    hist_init(&h);
    hist_add(&h, 7);
    q = stats_quantile(&h, 0.5, 0.05);
    assert_true(q.low == 0 && isinf(q.high));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_is_no_worse_is_seldom_stopped),
        cmocka_unit_test(who_is_much_worse_is_stopped_soon),
        cmocka_unit_test(what_looking_costs),
        cmocka_unit_test(a_bound_is_one),
        cmocka_unit_test(a_split_is_as_the_weights_say),
        cmocka_unit_test(means_and_lifts_hold),
        cmocka_unit_test(rates_hold),
        cmocka_unit_test(quantiles_hold),
        cmocka_unit_test(a_pair_in_figures),
        cmocka_unit_test(a_bound_in_figures),
        cmocka_unit_test(enough_evidence_in_figures),
        cmocka_unit_test(a_split_in_figures),
        cmocka_unit_test(means_in_figures),
        cmocka_unit_test(rates_in_figures),
        cmocka_unit_test(quantiles_in_figures),
    };
    return cmocka_run_group_tests_name("router/stats", tests, NULL, NULL);
}
