// The matrix product, in the vectors of the machine: compiled for AVX-512, for AVX2 with FMA and for the
// baseline, chosen once. Blocks of rows by columns stay in registers while depth runs (product_block.h); what
// is left of rows and columns runs the same sums in the same order, so that a row's bits do not depend on
// its block.
#include "engine/cpu/cpu.h"
#include "engine/cpu/vectors.h"

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

#define N(name) name##_256
#define LANES 8
#define TALL 4
#define VECS 2
#include "engine/cpu/product_block.h"
#undef N
#undef LANES
#undef TALL
#undef VECS

#ifdef __x86_64__
#define N(name) name##_512
#define LANES 16
#define TALL 8
#define VECS 2
#include "engine/cpu/product_block.h"

__attribute__((target("avx512f"))) static void product_avx512(const struct product *p)
{
    product_512(p);
}

__attribute__((target("avx2,fma"))) static void product_avx2(const struct product *p)
{
    product_256(p);
}
#endif

__attribute__((noinline)) static void product_plain(const struct product *p)
{
    product_256(p);
}

void cpu_product(const struct product *p)
{
#ifdef __x86_64__
    enum vectors have = cpu_vectors();
    if (have >= VECTORS_AVX512) {
        product_avx512(p);
        return;
    }
    if (have >= VECTORS_AVX2) {
        product_avx2(p);
        return;
    }
#endif
    product_plain(p);
}
