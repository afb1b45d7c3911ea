// The curves of engine/cpu/curves.h against the C library's in double, over all that float32 has of interest, and at any
// place in an array.
#include "base/rand.h"
#include "engine/cpu/curves.h"
#include "tests/unit/engine_vectors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { N = 4096 };

static double logistic(double x)
{
    return 1 / (1 + exp(-x));
}

static void check(void (*curve)(float *x, size_t n), double (*want)(double), float low, float high)
{
    static float x[N], y[N];
    double worst = 0;
    for (unsigned k = 0; k < N; k++)
        x[k] = y[k] = low + (high - low) * (float)k / (N - 1);
    curve(y, N);
    for (unsigned k = 0; k < N; k++) {
        double w = want((double)x[k]), off = fabs((double)y[k] - w) / (fabs(w) + 1e-30);
        worst = off > worst ? off : worst;
    }
    if (!(worst < 4e-7))
        fail_msg("from %g to %g: off by %g of it", (double)low, (double)high, worst);
}

static void close_everywhere(void **state)
{
    (void)state;
    static const float ranges[][2] = {
        {-80, 80}, {-9, 9}, {-1, 1}, {-0.63f, -0.62f}, {-1e-6f, 1e-6f}};
    for (unsigned k = 0; k < 5; k++) {
        check(curve_tanh, tanh, ranges[k][0], ranges[k][1]);
        check(curve_sigmoid, logistic, ranges[k][0], ranges[k][1]);
        check(curve_exp, exp, ranges[k][0], ranges[k][1]);
    }
    check(curve_exp, exp, 80, 88.72f); // close to the largest that there is
    check(curve_exp, exp, -87.3f, -80);
}

static void the_ends(void **state)
{
    (void)state;
    float x[6] = {INFINITY, -INFINITY, 3e38f, -3e38f, 0, NAN}, y[6];
    memcpy(y, x, sizeof(x));
    curve_tanh(y, 6);
    assert_true(y[0] == 1 && y[1] == -1 && y[2] == 1 && y[3] == -1 && y[4] == 0 && isnan(y[5]));
    memcpy(y, x, sizeof(x));
    curve_sigmoid(y, 6);
    assert_true(y[0] == 1 && y[1] < 1e-37f && y[2] == 1 && y[3] < 1e-37f && y[4] == 0.5f);
    assert_true(isnan(y[5]));
}

static void exponential_has_no_end(void **state)
{
    float y[] = {INFINITY, -INFINITY, 88.73f, 89, 3e38f, -87.4f, -200, -3e38f, 0, NAN};
    (void)state;
    curve_exp(y, 10);
    assert_true(isinf(y[0]) && y[1] == 0 && isinf(y[2]) && isinf(y[3]) && isinf(y[4]));
    assert_true(y[5] == 0 && y[6] == 0 && y[7] == 0 && y[8] == 1 && isnan(y[9]));
}

static void nothing_below_zero(void **state)
{
    float y[] = {INFINITY, -INFINITY, 1, -1, 0, -0.0f, 3e38f, -3e38f, NAN, 0.5f};
    (void)state;
    curve_relu(y, 10);
    assert_true(isinf(y[0]) && y[1] == 0 && y[2] == 1 && y[3] == 0 && y[4] == 0 && y[5] == 0);
    assert_true(y[6] == 3e38f && y[7] == 0 && isnan(y[8]) && y[9] == 0.5f);
}

// An element's bits are its own: wherever it stands, however many there are.
static void at_any_place(void **state)
{
    (void)state;
    struct rand dice;
    float x[100], whole[100], part[100];
    rand_seed(&dice, 9);
    for (unsigned k = 0; k < 100; k++)
        x[k] = ((float)rand_unit(&dice) - 0.5f) * 20;
    static void (*const curves[])(float *, size_t) = {curve_exp, curve_relu, curve_sigmoid,
                                                      curve_tanh};
    for (unsigned which = 0; which < 4; which++) {
        void (*curve)(float *, size_t) = curves[which];
        memcpy(whole, x, sizeof(x));
        curve(whole, 100);
        for (unsigned from = 0; from < 40; from++) {
            for (unsigned n = 1; n < 40; n++) {
                memcpy(part, x + from, n * sizeof(float));
                curve(part, n);
                assert_memory_equal(part, whole + from, n * sizeof(float));
            }
        }
    }
}

static int all(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(close_everywhere), cmocka_unit_test(the_ends),
        cmocka_unit_test(exponential_has_no_end), cmocka_unit_test(nothing_below_zero),
        cmocka_unit_test(at_any_place)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
    return vectors_each(all);
}
