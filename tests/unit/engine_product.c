// The matrix product of engine/cpu/product.c against sums in double, of shapes that leave rows and columns over, with
// each kind of vectors that the machine has; and a row's bits, which are its own: alone and in any batch the same.
#include "base/rand.h"
#include "engine/cpu/cpu.h"
#include "tests/unit/engine_vectors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static struct rand dice;

static size_t roll(size_t low, size_t high)
{
    return low + (size_t)rand_below(&dice, (uint32_t)(high - low + 1));
}

// In as much memory as they take, so that a sanitizer sees a read past the end.
static float *numbers(size_t n)
{
    float *x = malloc(n * sizeof(*x));
    for (size_t i = 0; i < n; i++)
        x[i] = (float)rand_unit(&dice) - 0.5f;
    return x;
}

// Weights and bias whose columns from `cols` on are 0.
static void clear_pads(float *w, float *bias, const struct product *p)
{
    for (size_t k = 0; k < p->depth; k++) {
        for (size_t c = p->cols; c < p->w_step; c++)
            w[k * p->w_step + c] = 0;
    }
    for (size_t c = p->cols; bias && c < p->w_step; c++)
        bias[c] = 0;
}

static void check(const struct product *p)
{
    for (size_t r = 0; r < p->rows; r++) {
        for (size_t c = 0; c < p->cols; c++) {
            double sum = p->bias ? (double)p->bias[c] : 0;
            for (size_t k = 0; k < p->depth; k++)
                sum += (double)p->x[r * p->x_step + k] * (double)p->w[k * p->w_step + c];
            sum = p->relu && sum < 0 ? 0 : sum;
            if (!(fabs((double)p->y[r * p->y_step + c] - sum) < 1e-4))
                fail_msg("%zu by %zu by %zu, row %zu, column %zu: %g instead of %g", p->rows,
                         p->depth, p->cols, r, c, (double)p->y[r * p->y_step + c], sum);
        }
    }
}

static void check_alone(const struct product *p)
{
    float *alone = malloc(p->cols * sizeof(*alone));
    for (size_t r = 0; r < p->rows; r++) {
        struct product one = *p;
        one.x = p->x + r * p->x_step;
        one.y = alone;
        one.rows = 1;
        cpu_product(&one);
        assert_memory_equal(alone, p->y + r * p->y_step, p->cols * sizeof(*alone));
    }
    free(alone);
}

static void products(void **state)
{
    (void)state;
    rand_seed(&dice, 21);
    for (unsigned i = 0; i < 400; i++) {
        struct product p = {.rows = roll(1, 40), .depth = roll(0, 50), .relu = roll(0, 1)};
        p.cols = roll(1, i % 4 ? 70 : 300);
        p.padded = roll(0, 1);
        p.x_step = p.depth + roll(0, 3);
        p.y_step = p.cols + roll(0, 3);
        p.w_step =
            p.padded ? (p.cols + PRODUCT_PAD - 1) / PRODUCT_PAD * PRODUCT_PAD : p.cols + roll(0, 3);
        float *x = numbers(p.rows * p.x_step), *w = numbers(p.depth * p.w_step);
        float *bias = roll(0, 1) ? numbers(p.w_step) : NULL;
        float *y = numbers(p.rows * p.y_step);
        clear_pads(w, bias, &p);
        p.x = x;
        p.w = w;
        p.bias = bias;
        p.y = y;
        cpu_product(&p);
        check(&p);
        check_alone(&p);
        free(x);
        free(w);
        free(bias);
        free(y);
    }
}

// A Relu keeps what is not a number.
static void not_a_number(void **state)
{
    (void)state;
    float x[40], w[40 * 48], y[48];
    for (unsigned i = 0; i < 40; i++)
        x[i] = i == 20 ? NAN : 1;
    for (unsigned i = 0; i < 40 * 48; i++)
        w[i] = 1;
    const struct product p = {.x = x,
                              .w = w,
                              .y = y,
                              .rows = 1,
                              .depth = 40,
                              .cols = 47,
                              .x_step = 40,
                              .w_step = 48,
                              .y_step = 48,
                              .relu = true};
    cpu_product(&p);
    for (unsigned c = 0; c < 47; c++)
        assert_true(isnan(y[c]));
}

static int all(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(products), cmocka_unit_test(not_a_number)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
    return vectors_each(all);
}
