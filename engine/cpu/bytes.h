/* engine/cpu/bytes.h: products of bytes with a constant matrix of bytes, summed exactly in int32. Thinks. */
#ifndef SLUICE_ENGINE_CPU_BYTES_H
#define SLUICE_ENGINE_CPU_BYTES_H

#include "engine/graph.h"

#define BYTES_LANES 16 // columns are padded to as many

// A constant [depth, cols] of int8 or uint8 in the product's form. What x stands for is a byte less its zero point, as
// is w; so a sum is: what bytes_product gives, plus delta times the sum of x, less x's zero point times w's sum.
struct bytes {
    int8_t *w;      // [padded cols / 16][quads][16][4], as int8
    int32_t *sums;  // [cols], of w less its zero points, over depth
    int32_t *delta; // [cols]; NULL: 0 everywhere. Else x's sum stands in column `cols`
    size_t depth, cols;
    size_t
        quads; // depth / 4, rounded up; x has as many times four bytes a row, the last ones are whatever
    size_t step; // columns of the answer
};

struct bytes_source { // element (k, c) is data[k * k_step + c * c_step]
    const void *data;
    size_t depth, cols, k_step, c_step;
    bool is_signed;
    const int32_t *zeros; // [cols]; NULL: 0
};

// In g's memory, charged to it. NULL with e.
struct bytes *bytes_new(struct graph *g, const struct bytes_source *s, struct engine_error *e);
// y[rows, w->step] = x[rows, depth] w; rows of x are x_step apart.
void bytes_product(const struct bytes *w, const uint8_t *x, size_t x_step, size_t rows, int32_t *y);
// What a row's sums in the product's form (changed) stand for: with x's zero point.
void bytes_settle(const struct bytes *w, int32_t zero, int32_t *y);

bool bytes_is(const struct array *a); // int8 or uint8
// Element i of whole numbers; of one element: that one; NULL: 0.
int32_t bytes_at(const struct array *a, size_t i);
// n's input i is constant zero points for `count` columns, or left out: one for each in *room. False: they are not
// known, or as many others; with e: out of memory.
bool bytes_zeros(struct graph *g, const struct node *n, unsigned i, size_t count, int32_t **room,
                 struct engine_error *e);

// Numbers that are rounded into bytes of an array, without a call or a branch, so that loops are vectors. relu: nothing below zero.
struct put {
    uint8_t *y;
    float low, high; // of what is rounded, before zero is added
    int32_t zero;
};

static inline struct put put_of(const struct array *y, int32_t zero, bool relu)
{
    bool is_signed = y->dtype == ENGINE_I8;
    float low = (float)((is_signed ? -128 : 0) - zero),
          high = (float)((is_signed ? 127 : 255) - zero);
    return (struct put){y->data, relu && low < 0 ? 0 : low, high, zero};
}

static inline void put_byte(const struct put *p, size_t i, float v)
{
    const float whole = 12582912; // 1.5 * 2^23: next to it floats are a whole number apart
    v = v > p->low ? v : p->low;
    v = v < p->high ? v : p->high;
    p->y[i] = (uint8_t)((int32_t)(v + whole - whole) + p->zero);
}

#endif
