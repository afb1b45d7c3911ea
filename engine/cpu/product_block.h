// The body of engine/cpu/product.c for one width of vectors; included once a width, so without a guard.
// LANES: floats in a vector. TALL x VECS vectors of sums stay in registers. N(x): x under this width's name.

typedef float N(vec) __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t N(mask) __attribute__((vector_size(4 * LANES), aligned(4)));

// One block: `tall` rows by `vecs` vectors, constants after inlining. Each sum: bias, then depth ascending.
static inline __attribute__((always_inline)) void
N(block)(const struct product *p, size_t row, size_t col, const unsigned tall, const unsigned vecs)
{
    N(vec) acc[TALL > 8 ? TALL : 8][8];
#pragma GCC unroll 8
    for (unsigned r = 0; r < tall; r++) {
#pragma GCC unroll 8
        for (unsigned v = 0; v < vecs; v++)
            acc[r][v] = p->bias ? *(const N(vec) *)(p->bias + col + v * LANES) : (N(vec)){0};
    }
    const float *w = p->w + col;
    const float *x = p->x + row * p->x_step;
    for (size_t k = 0; k < p->depth; k++, w += p->w_step) {
#pragma GCC unroll 8
        for (unsigned r = 0; r < tall; r++) {
            N(vec) s = x[r * p->x_step + k] - (N(vec)){0};
#pragma GCC unroll 8
            for (unsigned v = 0; v < vecs; v++)
                acc[r][v] += s * *(const N(vec) *)(w + v * LANES);
        }
    }
#pragma GCC unroll 8
    for (unsigned r = 0; r < tall; r++) {
#pragma GCC unroll 8
        for (unsigned v = 0; v < vecs; v++) {
            N(vec) sum = acc[r][v];
            if (p->relu) // what is not a number stays so
                sum = (N(vec))((N(mask))sum & ~(N(mask))(sum < 0));
            *(N(vec) *)(p->y + (row + r) * p->y_step + col + v * LANES) = sum;
        }
    }
}

// All rows of the columns from col on.
static inline __attribute__((always_inline)) void N(panel)(const struct product *p, size_t col,
                                                           const unsigned vecs)
{
    size_t row = 0;
    for (; row + TALL <= p->rows; row += TALL)
        N(block)(p, row, col, TALL, vecs);
    for (; row + 4 <= p->rows; row += 4)
        N(block)(p, row, col, 4, vecs);
    for (; row < p->rows; row++)
        N(block)(p, row, col, 1, vecs);
}

// The last columns, when the weights are padded with zeros to whole blocks: computed aside, copied out.
static inline __attribute__((always_inline)) void N(padded_tail)(const struct product *p,
                                                                 size_t col)
{
    float aside[TALL * PRODUCT_PAD];
    struct product q = *p;
    q.y = (float *)((uintptr_t)aside - col * sizeof(float)); // block() adds col
    q.y_step = PRODUCT_PAD;
    for (size_t row = 0; row < p->rows; row += q.rows) {
        q.rows = p->rows - row < TALL ? p->rows - row : TALL;
        q.x = p->x + row * p->x_step;
        N(panel)(&q, col, PRODUCT_PAD / LANES);
        for (size_t r = 0; r < q.rows; r++)
            memcpy(p->y + (row + r) * p->y_step + col, aside + r * PRODUCT_PAD,
                   (p->cols - col) * sizeof(float));
    }
}

static inline __attribute__((always_inline)) void N(product)(const struct product *p)
{
    size_t col = 0;
    // Few rows: wide blocks, so that enough sums are under way at a time.
    for (; p->rows < 4 && col + 8 * LANES <= p->cols; col += 8 * LANES) {
        for (size_t row = 0; row < p->rows; row++)
            N(block)(p, row, col, 1, 8);
    }
    for (; col + VECS * LANES <= p->cols; col += VECS * LANES)
        N(panel)(p, col, VECS);
    for (; VECS * LANES > PRODUCT_PAD && col + PRODUCT_PAD <= p->cols; col += PRODUCT_PAD)
        N(panel)(p, col, PRODUCT_PAD / LANES);
    if (col < p->cols && p->padded)
        N(padded_tail)(p, col);
    for (size_t row = 0; row < p->rows && col < p->cols && !p->padded; row++)
        tail(p, row, col);
}
