/* infer/likeness: what is found between two answers, whatever parts they are in, and however large they are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "infer/likeness.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>

static struct likeness found[LIKENESS_OUTPUTS];

static struct tensor output(const char *name, enum dtype d, int64_t rows, int64_t columns,
                            const void *data, size_t bytes)
{
    return (struct tensor){.name = view_str(name),
                           .dtype = d,
                           .rank = 2,
                           .shape = {rows, columns},
                           .data = data,
                           .bytes = bytes};
}

// Of one output each.
static const struct likeness *of_one(const struct tensor *a, const struct tensor *b,
                                     double tolerance)
{
    struct tensor x = *a, y = *b;
    struct answer p = {.outputs = &x, .n_outputs = 1}, q = {.outputs = &y, .n_outputs = 1};
    struct slice s = {.answer = &p}, t = {.answer = &q};
    assert_int_equal(likeness_find(&s, &t, tolerance, found), 1);
    return &found[0];
}

static const struct likeness *of_floats(const float *a, const float *b, unsigned n,
                                        double tolerance)
{
    struct tensor x = output("y", DT_FP32, 1, n, a, n * sizeof(*a));
    struct tensor y = output("y", DT_FP32, 1, n, b, n * sizeof(*b));
    return of_one(&x, &y, tolerance);
}

static void numbers(void **state)
{
    (void)state;
    const float a[] = {1, 100, 0.001f, -3, 0}, b[] = {1, 101, 0.002f, -3, 0};
    const struct likeness *l = of_floats(a, b, 5, 0.0015);
    assert_int_equal(l->kind, LIKE_VALUES);
    assert_int_equal(l->elements, 5);
    assert_int_equal(l->equal, 4); // small ones by what they are apart, large ones by the share
    assert_true(l->max_abs == 1);
    assert_true(fabs(l->max_rel - 0.5) < 1e-6);
    assert_int_equal(of_floats(a, b, 5, 0.01)->equal, 5);
    assert_int_equal(of_floats(a, a, 5, 0)->equal, 5);
    assert_true(found[0].max_abs == 0 && found[0].max_rel == 0);
}

static void what_is_not_finite(void **state)
{
    (void)state;
    const float a[] = {NAN, NAN, INFINITY, INFINITY, -INFINITY, 1, FLT_MAX};
    const float b[] = {NAN, 1, INFINITY, -INFINITY, NAN, INFINITY, -FLT_MAX};
    const struct likeness *l = of_floats(a, b, 7, 0.001);
    assert_int_equal(l->elements, 7);
    assert_int_equal(l->equal, 2);
    assert_true(isfinite(l->max_abs) && l->max_abs == 2 * (double)FLT_MAX && l->max_rel == 2);
    const double big[] = {DBL_MAX}, small[] = {-DBL_MAX};
    struct tensor x = output("y", DT_FP64, 1, 1, big, 8), y = output("y", DT_FP64, 1, 1, small, 8);
    assert_int_equal(of_one(&x, &y, 0.5)->equal, 0); // however far apart they are
}

static void short_floats(void **state)
{
    (void)state;
    // 1.5, 2^-24, -65504, infinity, NaN; each beside another
    const uint16_t half[] = {0x3e00, 0x0001, 0xfbff, 0x7c00, 0x7e00};
    const uint16_t other[] = {0x3c00, 0x0000, 0xfbff, 0x7c00, 0x7e01};
    struct tensor x = output("y", DT_FP16, 1, 5, half, 10),
                  y = output("y", DT_FP16, 1, 5, other, 10);
    const struct likeness *l = of_one(&x, &y, 0.001);
    assert_int_equal(l->equal, 4);
    assert_true(l->max_abs == 0.5 && l->max_rel == 1);                    // of 2^-24 and nothing
    const uint16_t wide[] = {0x3fc0, 0xff80}, wider[] = {0x3f80, 0xff80}; // 1.5, 1; -infinity
    x = output("y", DT_BF16, 1, 2, wide, 4);
    y = output("y", DT_BF16, 1, 2, wider, 4);
    l = of_one(&x, &y, 0);
    assert_int_equal(l->equal, 1);
    assert_true(l->max_abs == 0.5);
}

static void what_has_no_fraction(void **state)
{
    (void)state;
    const int64_t a[] = {1ll << 60, -1, 7}, b[] = {(1ll << 60) + 1, -1, 7};
    struct tensor x = output("y", DT_INT64, 1, 3, a, 24), y = output("y", DT_INT64, 1, 3, b, 24);
    assert_int_equal(of_one(&x, &y, 1)->equal, 2); // no tolerance for what is counted
    assert_true(found[0].max_abs == 0);
    const uint8_t t[] = {2, 0, 0, 0, 'a', 'b', 0, 0, 0, 0, 1, 0, 0, 0, 'c'};
    const uint8_t u[] = {2, 0, 0, 0, 'a', 'b', 1, 0, 0, 0, 'x', 1, 0, 0, 0, 'c'};
    x = output("y", DT_BYTES, 3, 1, t, sizeof(t));
    y = output("y", DT_BYTES, 3, 1, u, sizeof(u));
    assert_int_equal(of_one(&x, &y, 0)->elements, 3);
    assert_int_equal(found[0].equal, 2);
    x.bytes = y.bytes = 9; // shorter than they say: nothing beyond is read
    assert_int_equal(of_one(&x, &y, 0)->elements, 3);
}

static void shapes_types_and_names(void **state)
{
    (void)state;
    const float v[] = {1, 2};
    struct tensor a = output("a", DT_FP32, 1, 2, v, 8), b = output("b", DT_FP32, 1, 2, v, 8);
    struct tensor x[] = {a, b, output("c", DT_FP32, 1, 2, v, 8), output("d", DT_FP32, 1, 1, v, 4)};
    struct tensor y[] = {output("d", DT_FP32, 1, 2, v, 8), output("b", DT_INT32, 1, 2, v, 8), a,
                         output("e", DT_FP32, 1, 2, v, 8)};
    struct answer p = {.outputs = x, .n_outputs = 4}, q = {.outputs = y, .n_outputs = 4};
    struct slice s = {.answer = &p}, t = {.answer = &q};
    assert_int_equal(likeness_find(&s, &t, 0, found), 5);
    static const enum likeness_kind kind[] = {LIKE_VALUES, LIKE_DTYPE, LIKE_MISSING, LIKE_SHAPE,
                                              LIKE_MISSING};
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(found[i].kind, kind[i]);
        assert_true(view_is(found[i].name, (const char *[]){"a", "b", "c", "d", "e"}[i]));
        assert_int_equal(found[i].elements, i == 0 ? 2 : 0);
    }
    struct answer none = {.n_outputs = 0};
    t.answer = &none;
    assert_int_equal(likeness_find(&s, &t, 0, found), 4);
    s.answer = &none;
    assert_int_equal(likeness_find(&s, &t, 0, found), 0);
}

// 3 + 5 rows of one batch beside 6 + 2 of others.
static void parts(void **state)
{
    (void)state;
    float v[8][2], u[8][2];
    for (unsigned i = 0; i < 16; i++)
        v[i / 2][i % 2] = u[i / 2][i % 2] = (float)i;
    u[7][1] = 99;
    struct tensor x = output("y", DT_FP32, 8, 2, v, sizeof(v));
    struct tensor y0 = output("y", DT_FP32, 6, 2, u, 48), y1 = output("y", DT_FP32, 2, 2, u[6], 16);
    struct answer p = {.outputs = &x, .n_outputs = 1, .rows = 8};
    struct answer q0 = {.outputs = &y0, .n_outputs = 1, .rows = 6},
                  q1 = {.outputs = &y1, .n_outputs = 1, .rows = 2};
    struct slice s1 = {.answer = &p, .row = 3, .rows = 5}, s0 = {&p, 0, 3, &s1};
    struct slice t1 = {.answer = &q1}, t0 = {&q0, 0, 6, &t1};
    assert_int_equal(likeness_find(&s0, &t0, 0, found), 1);
    assert_int_equal(found[0].kind, LIKE_VALUES);
    assert_int_equal(found[0].elements, 16);
    assert_int_equal(found[0].equal, 15);
    assert_true(found[0].max_abs == 84);
}

static void large_ones_are_sampled(void **state)
{
    (void)state;
    size_t n = 10 * LIKENESS_ELEMENTS + 3;
    uint8_t *a = calloc(n, 1), *b = calloc(n, 1);
    memset(b + n / 2, 1, n - n / 2);
    struct tensor x = output("y", DT_UINT8, 1, (int64_t)n, a, n);
    struct tensor y = output("y", DT_UINT8, 1, (int64_t)n, b, n);
    of_one(&x, &y, 0);
    assert_true(found[0].elements <= LIKENESS_ELEMENTS);
    assert_true(found[0].elements > LIKENESS_ELEMENTS / 2);
    assert_in_range(found[0].equal, found[0].elements / 2 - 1, found[0].elements / 2 + 1);
    free(a);
    free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers),
        cmocka_unit_test(what_is_not_finite),
        cmocka_unit_test(short_floats),
        cmocka_unit_test(what_has_no_fraction),
        cmocka_unit_test(shapes_types_and_names),
        cmocka_unit_test(parts),
        cmocka_unit_test(large_ones_are_sampled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
