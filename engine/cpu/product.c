// The matrix product, in the vectors of the machine: compiled twice for x86-64 (AVX2 with FMA, and the
// baseline), chosen once. Blocks of 4 rows by 16 columns stay in registers while depth runs; what is left
// of rows and columns runs the same sums in the same order, so that a row's bits do not depend on its block.
#include "engine/cpu/cpu.h"

typedef float vec __attribute__((vector_size(32), aligned(4)));
typedef int32_t mask __attribute__((vector_size(32), aligned(4)));

#define WIDE 16 // columns of a block: two vectors
#define TALL 4  // rows of a block

// One block: `tall` rows, a constant after inlining. Columns beyond `cols` are not touched.
static inline __attribute__((always_inline)) void block(const struct product *p, size_t row,
                                                        size_t col, const unsigned tall)
{
    vec acc[TALL][2];
    for (unsigned r = 0; r < tall; r++) {
        acc[r][0] = p->bias ? *(const vec *)(p->bias + col) : (vec){0};
        acc[r][1] = p->bias ? *(const vec *)(p->bias + col + 8) : (vec){0};
    }
    const float *w = p->w + col;
    const float *x = p->x + row * p->x_step;
    for (size_t k = 0; k < p->depth; k++, w += p->w_step) {
        vec w0 = *(const vec *)w, w1 = *(const vec *)(w + 8);
        for (unsigned r = 0; r < tall; r++) {
            float s = x[r * p->x_step + k];
            vec v = {s, s, s, s, s, s, s, s};
            acc[r][0] += v * w0;
            acc[r][1] += v * w1;
        }
    }
    for (unsigned r = 0; r < tall; r++) {
        float *y = p->y + (row + r) * p->y_step + col;
        for (unsigned half = 0; half < 2; half++) {
            vec v = acc[r][half];
            if (p->relu) // a NaN stays a NaN
                v = (vec)((mask)v & ~(mask)(v < 0));
            *(vec *)(y + 8 * half) = v;
        }
    }
}

static inline __attribute__((always_inline)) void tail(const struct product *p, size_t row,
                                                       size_t col)
{
    for (size_t c = col; c < p->cols; c++) {
        float sum = p->bias ? p->bias[c] : 0;
        const float *x = p->x + row * p->x_step, *w = p->w + c;
        for (size_t k = 0; k < p->depth; k++, w += p->w_step)
            sum += x[k] * *w;
        p->y[row * p->y_step + c] = p->relu && sum < 0 ? 0 : sum;
    }
}

// The last columns, when the weights are padded with zeros to whole blocks: computed aside, copied out.
static inline __attribute__((always_inline)) void padded_tail(const struct product *p, size_t col)
{
    float aside[TALL * WIDE];
    struct product q = *p;
    q.y = (float *)((uintptr_t)aside - col * sizeof(float)); // block() adds col
    q.y_step = WIDE;
    for (size_t row = 0; row < p->rows; row += TALL) {
        size_t tall = p->rows - row < TALL ? p->rows - row : TALL;
        q.x = p->x + row * p->x_step;
        if (tall == TALL)
            block(&q, 0, col, TALL);
        for (size_t r = 0; tall < TALL && r < tall; r++)
            block(&q, r, col, 1);
        for (size_t r = 0; r < tall; r++)
            memcpy(p->y + (row + r) * p->y_step + col, aside + r * WIDE,
                   (p->cols - col) * sizeof(float));
    }
}

static inline __attribute__((always_inline)) void product(const struct product *p)
{
    size_t wide = p->cols / WIDE * WIDE;
    for (size_t col = 0; col < wide; col += WIDE) {
        size_t row = 0;
        for (; row + TALL <= p->rows; row += TALL)
            block(p, row, col, TALL);
        for (; row < p->rows; row++)
            block(p, row, col, 1);
    }
    if (wide < p->cols && p->padded)
        padded_tail(p, wide);
    for (size_t row = 0; row < p->rows && wide < p->cols && !p->padded; row++)
        tail(p, row, wide);
}

#ifdef __x86_64__
__attribute__((target("avx2,fma"))) static void product_avx2(const struct product *p)
{
    product(p);
}
#endif

__attribute__((noinline)) static void product_plain(const struct product *p)
{
    product(p);
}

void cpu_product(const struct product *p)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        product_avx2(p);
        return;
    }
#endif
    product_plain(p);
}
