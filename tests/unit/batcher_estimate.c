/* batcher/estimate: a line that is known is found, hiccups do not bend it, full batches do not wear it out. */
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

static struct estimate fed(unsigned n, double alpha, double beta)
{
    struct estimate e;
    estimate_init(&e);
    feed(&e, n, alpha, beta);
    return e;
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

// One size is enough: what another one takes is not known, so nobody is refused for it.
static void one_size_shows_no_line(void **state)
{
    (void)state;
    struct estimate e;
    estimate_init(&e);
    for (unsigned i = 0; i < 100; i++)
        estimate_add(&e, 8 + i % 8, 1000 + 10 * (i % 8)); // nor does one octave
    assert_true(estimate_trusted(&e) && e.beta == 0 && e.octaves == 1);
    near((double)estimate_mean_us(&e, 64), 1035, 0.03);
    assert_int_equal(estimate_mean_us(&e, 1), estimate_mean_us(&e, 64));
    assert_true(estimate_low(&e) == 0 && estimate_high(&e) >= 1);
    assert_int_equal(estimate_low_us(&e, 8), 0);
    estimate_add(&e, 4, 900);
    assert_true(e.octaves == 2 && e.beta > 0 && estimate_low_us(&e, 8) > 0);
}

static void octaves_of_every_size(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {0, 1, 2, 3, 4, 7, 8, 2047, 2048, 4096, UINT32_MAX};
    static const unsigned octave[] = {0, 0, 1, 1, 2, 2, 3, 10, 11, 11, 11};
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct estimate e;
        estimate_init(&e);
        estimate_add(&e, sizes[i], 500);
        assert_true(e.octave[octave[i]].n == 1 && e.octave[octave[i]].us == 500);
        assert_true(e.octave[octave[i]].rows == sizes[i]);
    }
}

static void a_known_line_is_found(void **state)
{
    (void)state;
    static const double lines[][2] = {{500, 20}, {3000, 1}, {0, 100}, {100000, 4000}, {50, 0}};
    for (unsigned i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        struct estimate e = fed(200, lines[i][0], lines[i][1]);
        for (uint32_t b = 1; b <= 64; b *= 2) {
            double t = lines[i][0] + lines[i][1] * b;
            near((double)estimate_mean_us(&e, b), t, 0.03);
            assert_true(estimate_low_us(&e, b) <= estimate_mean_us(&e, b));
            assert_true(estimate_high_us(&e, b) >= estimate_mean_us(&e, b));
        }
    }
}

// The line through the means of the octaves, by weighted least squares made anew.
static void the_line_goes_through_the_means(void **state)
{
    (void)state;
    struct estimate e;
    estimate_init(&e);
    for (uint32_t i = 0; i < 21; i++) {
        uint32_t b = 1 + i * 7 % 32;
        estimate_add(&e, b, 1000 + 50 * b + 300 * (i % 3)); // on no line
    }
    double w = 0, x = 0, y = 0, xx = 0, xy = 0;
    for (unsigned i = 0; i < ESTIMATE_OCTAVES; i++) {
        if (e.octave[i].n == 0)
            continue;
        double k = e.octave[i].weight / (e.octave[i].us * e.octave[i].us);
        w += k, x += k * e.octave[i].rows, y += k * e.octave[i].us;
        xx += k * e.octave[i].rows * e.octave[i].rows, xy += k * e.octave[i].rows * e.octave[i].us;
    }
    near(e.beta, (w * xy - x * y) / (w * xx - x * x), 1e-9);
    near(e.alpha, (y - e.beta * x) / w, 1e-9);
}

static void what_is_not_seen_counts_less(void **state)
{
    (void)state;
    struct estimate e;
    estimate_init(&e);
    for (unsigned i = 1; i <= 20; i++) {
        estimate_add(&e, 1, 100);
        assert_true(e.octave[0].weight == fmin(i, 10));
    }
    for (unsigned i = 1; i <= 60; i++) {
        estimate_add(&e, 2, 120);
        near(e.octave[0].weight, fmax(10 * pow(0.95, i), 1), 1e-9);
        assert_true(e.octave[1].weight == fmin(i, 10) && e.octave[2].weight == 0);
    }
}

// A mean of the first ten, and from then on a tenth of the way to each new one.
static void a_mean_moves_by_a_tenth(void **state)
{
    (void)state;
    struct estimate e;
    estimate_init(&e);
    double mean = 0, rows = 0;
    for (unsigned i = 1; i <= 30; i++) {
        double us = 1000 + 10 * i;
        uint32_t b = 4 + i % 4;
        estimate_add(&e, b, (uint64_t)us);
        mean += (us - mean) / fmin(i, 10);
        rows += (b - rows) / fmin(i, 10);
        near(e.octave[2].us, mean, 1e-9);
        near(e.octave[2].rows, rows, 1e-9);
    }
}

// Under overload all batches are full: the slope stays.
static void full_batches_do_not_wear_it_out(void **state)
{
    (void)state;
    struct estimate e = fed(100, 1000, 20);
    struct rand r;
    rand_seed(&r, 3);
    for (unsigned i = 0; i < 1000; i++)
        estimate_add(&e, 64, (uint64_t)(2280 * (0.95 + 0.1 * rand_unit(&r))));
    near((double)estimate_mean_us(&e, 1), 1020, 0.1);
    near((double)estimate_mean_us(&e, 64), 2280, 0.03);
}

// What is seen of one octave moves the others: by a fiftieth of the excess, which counts as one half at most.
static void the_other_octaves_follow(void **state)
{
    (void)state;
    static const double took[] = {10, 0.2, 1.2}, moved[] = {1.01, 0.99, 1.004};
    for (unsigned i = 0; i < 3; i++) {
        struct estimate e = fed(200, 1000, 50);
        double before = e.octave[2].us;
        double ratio = took[i], fitted = e.alpha + 16 * e.beta;
        estimate_add(&e, 16, (uint64_t)(ratio * fitted));
        near(e.octave[2].us, before * moved[i], 1e-4);
    }
    struct estimate young = fed(ESTIMATE_MIN_SEEN - 1, 1000, 50);
    double before = young.octave[0].us;
    estimate_add(&young, 16, 100000);
    assert_true(young.octave[0].us == before); // not before it is trusted
}

static void a_hiccup_does_not_bend_it(void **state)
{
    (void)state;
    struct estimate e = fed(200, 1000, 50);
    double mean = e.octave[4].us, line = e.alpha + 16 * e.beta;
    estimate_add(&e, 16, 10000000); // ten seconds instead of 1.8 ms: twice the line
    near(e.octave[4].us, mean + 0.1 * (2 * line - mean), 1e-6);
    // One in fifty does little harm.
    for (unsigned i = 0; i < 500; i++) {
        uint32_t b = 1 + i % 32;
        estimate_add(&e, b, i % 50 == 0 ? 1000000 : (uint64_t)(1000 + 50 * b));
    }
    near((double)estimate_mean_us(&e, 16), 1800, 0.06);
}

// An octave that is new believes what it sees.
static void the_first_of_an_octave_are_believed(void **state)
{
    (void)state;
    struct estimate e;
    estimate_init(&e);
    for (unsigned i = 0; i < 20; i++)
        estimate_add(&e, 1, 100);
    for (unsigned i = 0; i < 5; i++)
        estimate_add(&e, 64, 6400);
    near(e.octave[6].us, 6400, 1e-9);
    near((double)estimate_mean_us(&e, 32), 3200, 0.05);
}

// A worker that is twice as fast as it was: some forty answers, and the low quantile is half as high.
static void quantiles_follow_in_some_forty_steps(void **state)
{
    (void)state;
    struct estimate e = fed(100, 100000, 100);
    double low = e.low, high = e.high;
    for (unsigned i = 0; i < 36; i++)
        estimate_add(&e, 16, 0);
    near(e.low, low / 2, 0.06);
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
    struct estimate e = fed(200, 1000, 50);
    for (unsigned i = 0; i < 30; i++)
        estimate_add(&e, 32, 5200); // slower by two
    near((double)estimate_mean_us(&e, 32), 5200, 0.15);
    assert_true(e.octave[0].us > 1200 && e.octave[0].us < 1600); // what is not seen follows slowly
    e = fed(200, 1000, 50);
    feed(&e, 600, 3000, 100);
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
    assert_int_equal(estimate_mean_us(&e, 1), estimate_mean_us(&e, 100));
    assert_true(estimate_mean_us(&e, 1) > 1100 && estimate_mean_us(&e, 1) < 2000);
}

// Where the line would start below zero it starts at the origin.
static void no_time_is_negative(void **state)
{
    (void)state;
    struct estimate e;
    estimate_init(&e);
    for (unsigned i = 0; i < 32; i++) {
        uint64_t b = 1 + i;
        estimate_add(&e, (uint32_t)b, b * b * 10);
    }
    double xx = 0, xy = 0;
    for (unsigned i = 0; i < 6; i++) {
        double k = e.octave[i].weight / (e.octave[i].us * e.octave[i].us);
        xx += k * e.octave[i].rows * e.octave[i].rows, xy += k * e.octave[i].rows * e.octave[i].us;
    }
    assert_true(e.alpha == 0);
    near(e.beta, xy / xx, 1e-9);
    struct estimate none;
    estimate_init(&none);
    for (unsigned i = 0; i < 100; i++)
        estimate_add(&none, 1 + i % 4, 0); // a clock that stands still
    assert_int_equal(estimate_mean_us(&none, 1), 1);
    assert_int_equal(estimate_low_us(&none, 1), 0); // nothing is doomed by it
}

// Both begin at the line itself: with the first times below it, less is thought possible.
static void the_low_one_moves_from_the_line(void **state)
{
    (void)state;
    struct estimate e = fed(ESTIMATE_MIN_SEEN, 10000, 100);
    near(estimate_low(&e), 1, 1e-9);
    feed(&e, 10, 5000, 50);
    assert_true(estimate_low(&e) < 0.85); // a fiftieth of the way each time
    near(estimate_high(&e), 1, 1e-9);
}

// Times spread evenly over +-40 % of the line: 5 % of them are below 0.64, 95 % below 1.36.
static void two_quantiles(void **state)
{
    (void)state;
    struct estimate e;
    struct rand r;
    rand_seed(&r, 9);
    estimate_init(&e);
    double low = 0, high = 0;
    unsigned n = 0;
    for (unsigned i = 0; i < 20000; i++) {
        uint32_t b = 1 + (uint32_t)rand_below(&r, 32);
        estimate_add(&e, b, (uint64_t)((10000 + 100 * b) * (0.6 + 0.8 * rand_unit(&r))));
        if (i < 4000)
            continue;
        n++;
        low += estimate_low(&e);
        high += estimate_high(&e);
    }
    near(low / n, 0.64, 0.04);
    near(high / n, 1.36, 0.04);
    near((double)estimate_mean_us(&e, 10), 11000, 0.08);
}

// Others were late before it, so it is no hiccup; when the next one says that it was one, it is forgotten.
static void raised_at_once_and_lowered_again(void **state)
{
    (void)state;
    struct estimate e = fed(200, 1000, 20);
    estimate_raise(&e, 8, 11600);
    near((double)estimate_mean_us(&e, 8), 11600, 0.02);
    near((double)estimate_mean_us(&e, 32), 16400, 0.02);
    estimate_add(&e, 8, 11600); // it stays
    near((double)estimate_mean_us(&e, 8), 11600, 0.02);
    e = fed(200, 1000, 20);
    estimate_raise(&e, 8, 116000);
    estimate_add(&e, 8, 1160);
    near((double)estimate_mean_us(&e, 8), 1160, 0.02);
    e = fed(200, 1000, 20);
    estimate_raise(&e, 8, 11600);
    double before = e.octave[0].us;
    estimate_add(&e, 8, 17400); // more is one answer among many
    near(e.octave[0].us, before * 1.01, 1e-3);
    estimate_raise(&e, 8, 116000);
    estimate_add(&e, 8, 0); // a clock that stands still
    assert_true(e.octave[0].us > 0);
    e = fed(200, 1000, 20);
    estimate_raise(&e, 8, 580); // nothing is raised by less
    assert_true(estimate_mean_us(&e, 8) > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(raised_at_once_and_lowered_again),
        cmocka_unit_test(nothing_is_said_before_it_is_trusted),
        cmocka_unit_test(one_size_shows_no_line),
        cmocka_unit_test(octaves_of_every_size),
        cmocka_unit_test(a_known_line_is_found),
        cmocka_unit_test(the_line_goes_through_the_means),
        cmocka_unit_test(what_is_not_seen_counts_less),
        cmocka_unit_test(a_mean_moves_by_a_tenth),
        cmocka_unit_test(full_batches_do_not_wear_it_out),
        cmocka_unit_test(the_other_octaves_follow),
        cmocka_unit_test(a_hiccup_does_not_bend_it),
        cmocka_unit_test(the_first_of_an_octave_are_believed),
        cmocka_unit_test(quantiles_follow_in_some_forty_steps),
        cmocka_unit_test(it_follows_a_worker_that_has_changed),
        cmocka_unit_test(a_bigger_batch_is_never_faster),
        cmocka_unit_test(no_time_is_negative),
        cmocka_unit_test(the_low_one_moves_from_the_line),
        cmocka_unit_test(two_quantiles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
