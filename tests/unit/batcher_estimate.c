/* batcher/estimate: a line that is known is found, hiccups do not bend it, and what is old is forgotten. */
#include "tests/unit/batcher_kit.h"

#include <math.h>

static void near(double got, double want, double share)
{
    if (fabs(got - want) > share * want)
        fail_msg("got %.3f, wanted %.3f within %.1f %%", got, want, 100 * share);
}

static void feed(struct estimate *e, unsigned n, double alpha, double beta)
{
    for (unsigned i = 0; i < n; i++) {
        uint32_t b = 1 + i * 7 % 32;
        estimate_add(e, b, (uint64_t)(alpha + beta * b));
    }
}

static void nothing_is_said_before_it_is_trusted(void **state)
{
    (void)state;
    struct estimate e;
    estimate_init(&e);
    assert_int_equal(estimate_mean_us(&e, 8), 0);
    for (unsigned i = 1; i <= ESTIMATE_MIN_SEEN; i++) {
        assert_false(estimate_trusted(&e));
        assert_int_equal(estimate_low_us(&e, 8) + estimate_high_us(&e, 8), 0);
        estimate_add(&e, 1 + i % 3, 1000);
    }
    assert_true(estimate_trusted(&e));
    assert_true(estimate_low_us(&e, 8) > 0);
}

static void one_or_two_sizes_show_no_line(void **state)
{
    (void)state;
    struct estimate e;
    estimate_init(&e);
    for (unsigned i = 0; i < 100; i++)
        estimate_add(&e, 8, 1000);
    assert_false(estimate_trusted(&e));
    near(e.alpha, 1000, 1e-6);
    assert_true(e.beta == 0);
    estimate_add(&e, 4, 1000);
    assert_false(estimate_trusted(&e));
    estimate_add(&e, 4, 1000); // the same size twice is one size
    assert_false(estimate_trusted(&e));
    estimate_add(&e, 2, 1000);
    assert_true(estimate_trusted(&e));
}

// What rounding leaves of a variance is no slope.
static void one_size_has_no_slope_however_noisy(void **state)
{
    (void)state;
    struct rand r;
    rand_seed(&r, 4);
    for (uint32_t rows = 1; rows < 100000; rows = 3 * rows + 4) {
        struct estimate e;
        estimate_init(&e);
        for (unsigned i = 0; i < 400; i++) {
            estimate_add(&e, rows, 1000 + rand_below(&r, 100000));
            assert_true(e.beta == 0);
        }
    }
}

// Nor has one that was known a slope for ever: when the other sizes are forgotten, so is it.
static void a_slope_is_forgotten(void **state)
{
    (void)state;
    struct estimate e;
    estimate_init(&e);
    feed(&e, 200, 1000, 50);
    assert_true(e.beta > 49);
    for (unsigned i = 0; i < 3000; i++)
        estimate_add(&e, 16, 1800);
    assert_true(e.beta == 0);
    near((double)estimate_mean_us(&e, 16), 1800, 0.01);
}

static void a_known_line_is_found(void **state)
{
    (void)state;
    static const double lines[][2] = {{500, 20}, {3000, 1}, {0, 100}, {100000, 4000}, {50, 0}};
    for (unsigned i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        struct estimate e;
        estimate_init(&e);
        feed(&e, 200, lines[i][0], lines[i][1]);
        for (uint32_t b = 1; b <= 64; b *= 2) {
            double t = lines[i][0] + lines[i][1] * b;
            near((double)estimate_mean_us(&e, b), t, 0.01);
            assert_true(estimate_low_us(&e, b) <= estimate_mean_us(&e, b));
            assert_true(estimate_high_us(&e, b) >= estimate_mean_us(&e, b));
        }
    }
}

// The decayed sums are those of least squares with forgetting: checked beside sums made anew each time.
static void the_sums_forget(void **state)
{
    (void)state;
    struct estimate e;
    struct rand r;
    rand_seed(&r, 5);
    estimate_init(&e);
    double x[15], y[15];
    for (unsigned n = 0; n < 15; n++) { // before the estimate is old enough for Huber's rule
        x[n] = 1 + (double)rand_below(&r, 40);
        y[n] = 1000 + 50 * x[n] + (double)rand_below(&r, 300);
        estimate_add(&e, (uint32_t)x[n], (uint64_t)y[n]);
        double w = 0, sx = 0, sy = 0, sxx = 0, sxy = 0;
        for (unsigned i = 0; i <= n; i++) {
            double k = pow(0.99, n - i);
            w += k, sx += k * x[i], sy += k * y[i], sxx += k * x[i] * x[i], sxy += k * x[i] * y[i];
        }
        near(e.weight, w, 1e-9);
        near(e.x, sx, 1e-9);
        near(e.y, sy, 1e-9);
        near(e.xx, sxx, 1e-9);
        near(e.xy, sxy, 1e-9);
    }
    double d = e.weight * e.xx - e.x * e.x, beta = (e.weight * e.xy - e.x * e.y) / d;
    near(e.beta, beta, 1e-9);
    near(e.alpha, (e.y - beta * e.x) / e.weight, 1e-9);
    assert_true(e.deviation > 20 && e.deviation < 300);
}

static void a_hiccup_does_not_bend_it(void **state)
{
    (void)state;
    struct estimate e;
    estimate_init(&e);
    feed(&e, 200, 1000, 50);
    double deviation = e.deviation;
    assert_true(deviation < 1);
    estimate_add(&e, 16, 10000000); // ten seconds instead of 1.8 ms
    near((double)estimate_mean_us(&e, 16), 1800, 0.01);
    assert_true(e.deviation <= deviation + 0.05 * 2 * (3 * deviation + 1));
    estimate_add(&e, 16, 0);
    near((double)estimate_mean_us(&e, 16), 1800, 0.01);
    // One in fifty does no harm either.
    for (unsigned i = 0; i < 500; i++) {
        uint32_t b = 1 + i % 32;
        estimate_add(&e, b, i % 50 == 0 ? 1000000 : (uint64_t)(1000 + 50 * b));
    }
    near((double)estimate_mean_us(&e, 16), 1800, 0.03);
}

// What is further off than three mean deviations counts as if it were there (Huber's rule).
static void three_deviations_and_no_more(void **state)
{
    (void)state;
    struct estimate e;
    estimate_init(&e);
    for (unsigned i = 0; i < 100; i++)
        estimate_add(&e, 1 + i % 4, 10000 + (i / 4 % 2 ? 100 : 0)); // deviations of 50
    near(e.deviation, 50, 0.1);
    for (int sign = -1; sign <= 1; sign += 2) {
        struct estimate within = e, beyond = e;
        double fitted = e.alpha + 2 * e.beta, bound = 3 * e.deviation + 1;
        estimate_add(&within, 2, (uint64_t)(fitted + sign * 140));
        near(within.y, 0.99 * e.y + (double)(uint64_t)(fitted + sign * 140), 1e-9);
        estimate_add(&beyond, 2, (uint64_t)(fitted + sign * 5000));
        near(beyond.y, 0.99 * e.y + fitted + sign * bound, 1e-9);
        // Nor does it make the next one's bound much wider.
        near(beyond.deviation, e.deviation + 0.05 * (2 * bound - e.deviation), 1e-9);
    }
}

// Until Huber's rule holds the deviation is the plain mean of what was off the line of that moment.
static void the_first_deviations_are_averaged(void **state)
{
    (void)state;
    struct estimate e;
    struct rand r;
    rand_seed(&r, 11);
    estimate_init(&e);
    double sum = 0;
    for (unsigned i = 0; i < ESTIMATE_MIN_SEEN; i++) {
        uint32_t b = 1 + (uint32_t)rand_below(&r, 9);
        double t = 5000 + 100 * b + (double)rand_below(&r, 500);
        if (i > 0)
            sum += fabs((double)(uint64_t)t - (e.alpha + e.beta * b));
        estimate_add(&e, b, (uint64_t)t);
        near(e.deviation, sum / (i + 1), 1e-9);
    }
}

// A worker that is twice as fast as it was: some forty answers, and the low quantile is half as high.
static void quantiles_follow_in_some_forty_steps(void **state)
{
    (void)state;
    struct estimate e;
    estimate_init(&e);
    feed(&e, 100, 100000, 100);
    double low = e.low, high = e.high;
    for (unsigned i = 0; i < 36; i++)
        estimate_add(&e, 16, 0);
    near(e.low, low / 2, 0.05);
    assert_true(e.high < 1); // but no batch is planned for less than the mean
    assert_int_equal(estimate_high_us(&e, 16), estimate_mean_us(&e, 16));
    for (unsigned i = 0; i < 36; i++)
        estimate_add(&e, 16, 100000000);
    near(e.high, 2 * high, 0.1);
    for (unsigned i = 0; i < 1500; i++)
        estimate_add(&e, 16, 100000000 + 1000000ull * i * i);
    assert_true(e.low > 1); // and nobody is refused for more
    assert_int_equal(estimate_low_us(&e, 16), estimate_mean_us(&e, 16));
}

static void it_follows_a_worker_that_has_changed(void **state)
{
    (void)state;
    struct estimate e;
    estimate_init(&e);
    feed(&e, 200, 1000, 50);
    feed(&e, 600, 3000, 100); // each counts by three deviations at most, and deviations grow
    near((double)estimate_mean_us(&e, 8), 3800, 0.03);
    near((double)estimate_mean_us(&e, 32), 6200, 0.03);
    feed(&e, 600, 300, 10);
    near((double)estimate_mean_us(&e, 8), 380, 0.05);
}

static void a_bigger_batch_is_never_faster(void **state)
{
    (void)state;
    struct estimate e;
    estimate_init(&e);
    for (unsigned i = 0; i < 100; i++)
        estimate_add(&e, 1 + i % 10, 2000 - 100 * (i % 10));
    assert_true(e.beta == 0);
    near((double)estimate_mean_us(&e, 1), 1550, 0.05);
    near((double)estimate_mean_us(&e, 100), 1550, 0.05);
}

// Where the line would start below zero it starts at the origin.
static void no_time_is_negative(void **state)
{
    (void)state;
    struct estimate e;
    estimate_init(&e);
    for (unsigned i = 0; i < 16; i++) {
        uint64_t b = 10 + i;
        estimate_add(&e, (uint32_t)b, b * b * 10);
    }
    assert_true(e.alpha == 0);
    near(e.beta, e.xy / e.xx, 1e-9);
    struct estimate none;
    estimate_init(&none);
    for (unsigned i = 0; i < 100; i++)
        estimate_add(&none, 1 + i % 4, 0); // a clock that stands still
    assert_int_equal(estimate_mean_us(&none, 1), 1);
    assert_int_equal(estimate_low_us(&none, 1), 0); // nothing is doomed by it
}

// Times spread evenly over +-40 % of the line: 5 % of them are below 0.64, 95 % below 1.36.
static void two_quantiles(void **state)
{
    (void)state;
    struct estimate e;
    struct rand r;
    rand_seed(&r, 9);
    estimate_init(&e);
    double low = 0, high = 0, deviation = 0;
    unsigned n = 0;
    for (unsigned i = 0; i < 20000; i++) {
        uint32_t b = 1 + (uint32_t)rand_below(&r, 32);
        estimate_add(&e, b, (uint64_t)((10000 + 100 * b) * (0.6 + 0.8 * rand_unit(&r))));
        if (i < 4000)
            continue;
        n++;
        deviation += e.deviation;
        low += (double)estimate_low_us(&e, 10) / (double)estimate_mean_us(&e, 10);
        high += (double)estimate_high_us(&e, 10) / (double)estimate_mean_us(&e, 10);
    }
    near(low / n, 0.64, 0.03);
    near(high / n, 1.36, 0.03);
    near((double)estimate_mean_us(&e, 10), 11000, 0.08);
    near(deviation / n, 0.2 * 11650, 0.05); // the mean of a batch is 16.5 rows
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_said_before_it_is_trusted),
        cmocka_unit_test(one_or_two_sizes_show_no_line),
        cmocka_unit_test(one_size_has_no_slope_however_noisy),
        cmocka_unit_test(a_slope_is_forgotten),
        cmocka_unit_test(a_known_line_is_found),
        cmocka_unit_test(the_sums_forget),
        cmocka_unit_test(a_hiccup_does_not_bend_it),
        cmocka_unit_test(three_deviations_and_no_more),
        cmocka_unit_test(the_first_deviations_are_averaged),
        cmocka_unit_test(quantiles_follow_in_some_forty_steps),
        cmocka_unit_test(it_follows_a_worker_that_has_changed),
        cmocka_unit_test(a_bigger_batch_is_never_faster),
        cmocka_unit_test(no_time_is_negative),
        cmocka_unit_test(two_quantiles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
