// Products of bytes: of uint8 by int8, four at a time, with the machine's instruction for it (AVX-512 VNNI), with AVX2 by
// way of int16, or in plain C. Every way sums exactly: all give the same bits. (AVX2's own product of bytes would not:
// its sums of two are cut off at 16 bits.)
#include "engine/cpu/bytes.h"

#include "engine/cpu/cpu.h"
#include "engine/cpu/vectors.h"

#ifdef __x86_64__
#include <immintrin.h>
#endif

// ---- whole numbers ----------------------------------------------------------------------------------

bool bytes_is(const struct array *a)
{
    return a->dtype == ENGINE_U8 || a->dtype == ENGINE_I8;
}

int32_t bytes_at(const struct array *a, size_t i)
{
    if (!a)
        return 0;
    i = count_all(a) == 1 ? 0 : i;
    switch (a->dtype) {
    case ENGINE_U8:
    case ENGINE_U4:
    case ENGINE_U2:
        return ((const uint8_t *)a->data)[i];
    case ENGINE_I8:
    case ENGINE_I4:
    case ENGINE_I2:
        return ((const int8_t *)a->data)[i];
    case ENGINE_U16:
        return ((const uint16_t *)a->data)[i];
    case ENGINE_I16:
        return ((const int16_t *)a->data)[i];
    default:
        return ((const int32_t *)a->data)[i];
    }
}

bool bytes_zeros(struct graph *g, const struct node *n, unsigned i, size_t count, int32_t **room,
                 struct engine_error *e)
{
    const struct array *z = node_constant(g, n, i);
    size_t have = 1;
    if (i < n->n_inputs && n->input[i] >= 0 &&
        (!z || !bytes_is(z) || !array_count(z, &have) || (have != 1 && have != count)))
        return false;
    *room = arena_array(&g->arena, count, sizeof(**room));
    for (size_t c = 0; *room && c < count; c++)
        (*room)[c] = z ? bytes_at(z, c) : 0;
    return *room || engine_fail(e, "out of memory");
}

// ---- the constant ------------------------------------------------------------------------------------

static int32_t source_at(const struct bytes_source *s, size_t k, size_t c)
{
    const uint8_t *at = (const uint8_t *)s->data + k * s->k_step + c * s->c_step;
    return s->is_signed ? (int8_t)*at : *at;
}

static int8_t *place_of(const struct bytes *b, size_t k, size_t c)
{
    size_t block = c / BYTES_LANES * b->quads + k / 4;
    return b->w + (block * BYTES_LANES + c % BYTES_LANES) * 4 + k % 4;
}

// int8 as it is, uint8 less 128.
static void fill(struct bytes *b, const struct bytes_source *s)
{
    int32_t shift = s->is_signed ? 0 : 128;
    for (size_t c = 0; c < s->cols; c++) {
        int32_t zero = s->zeros ? s->zeros[c] : 0;
        uint32_t sum = 0;
        for (size_t k = 0; k < s->depth; k++) {
            int32_t v = source_at(s, k, c);
            *place_of(b, k, c) = (int8_t)(v - shift);
            sum += (uint32_t)(v - zero);
        }
        b->sums[c] = (int32_t)sum;
        if (b->delta)
            b->delta[c] = shift - zero;
    }
    for (size_t k = 0; b->delta && k < s->depth; k++)
        *place_of(b, k, s->cols) = 1;
}

static bool has_delta(const struct bytes_source *s)
{
    int32_t shift = s->is_signed ? 0 : 128;
    for (size_t c = 0; c < s->cols; c++) {
        if ((s->zeros ? s->zeros[c] : 0) != shift)
            return true;
    }
    return false;
}

struct bytes *bytes_new(struct graph *g, const struct bytes_source *s, struct engine_error *e)
{
    struct bytes *b = arena_zalloc(&g->arena, sizeof(*b));
    bool delta = has_delta(s);
    size_t bytes;
    if (!b) {
        engine_fail(e, "out of memory");
        return NULL;
    }
    b->depth = s->depth;
    b->cols = s->cols;
    b->quads = (s->depth + 3) / 4;
    b->step = (s->cols + delta + BYTES_LANES - 1) / BYTES_LANES * BYTES_LANES;
    if (__builtin_mul_overflow(b->quads * 4, b->step, &bytes)) {
        engine_fail(e, "out of memory");
        return NULL;
    }
    b->w = graph_alloc(g, bytes, e);
    b->sums = b->w ? graph_alloc(g, (s->cols + 1) * sizeof(*b->sums), e) : NULL;
    b->delta = b->sums && delta ? graph_alloc(g, (s->cols + 1) * sizeof(*b->delta), e) : NULL;
    if (!b->sums || (delta && !b->delta))
        return NULL;
    memset(b->w, 0, bytes);
    fill(b, s);
    return b;
}

void bytes_settle(const struct bytes *w, int32_t zero, int32_t *y)
{
    uint32_t sum = w->delta ? (uint32_t)y[w->cols] : 0, z = (uint32_t)zero;
    for (size_t c = 0; c < w->cols; c++)
        y[c] = (int32_t)((uint32_t)y[c] - z * (uint32_t)w->sums[c]);
    for (size_t c = 0; w->delta && c < w->cols; c++)
        y[c] = (int32_t)((uint32_t)y[c] + sum * (uint32_t)w->delta[c]);
}

// ---- the product -------------------------------------------------------------------------------------

struct panel { // some rows by some blocks of columns
    const struct bytes *w;
    const uint8_t *x;
    int32_t *y;
    size_t x_step;
};

#ifdef __x86_64__
#define VNNI __attribute__((target("avx512f,avx512bw,avx512vnni")))

static inline __attribute__((always_inline)) int32_t four(const uint8_t *x)
{
    int32_t v;
    memcpy(&v, x, 4);
    return v;
}

VNNI static inline __attribute__((always_inline)) void block_vnni(const struct panel *p, size_t row,
                                                                  size_t block, const unsigned tall,
                                                                  const unsigned wide)
{
    const struct bytes *w = p->w;
    const int8_t *at = w->w + block * w->quads * 64;
    const uint8_t *x = p->x + row * p->x_step;
    // In registers but for AddressSanitizer, whose frames gcc 12 aligns to 32 bytes.
    __m512i_u sum[8][2];
#pragma GCC unroll 8
    for (unsigned r = 0; r < tall; r++) {
#pragma GCC unroll 2
        for (unsigned v = 0; v < wide; v++)
            sum[r][v] = _mm512_setzero_si512();
    }
    for (size_t q = 0; q < w->quads; q++, at += 64) {
#pragma GCC unroll 8
        for (unsigned r = 0; r < tall; r++) {
            __m512i s = _mm512_set1_epi32(four(x + r * p->x_step + 4 * q));
#pragma GCC unroll 2
            for (unsigned v = 0; v < wide; v++)
                sum[r][v] =
                    _mm512_dpbusd_epi32(sum[r][v], s, _mm512_loadu_si512(at + v * w->quads * 64));
        }
    }
#pragma GCC unroll 8
    for (unsigned r = 0; r < tall; r++) {
#pragma GCC unroll 2
        for (unsigned v = 0; v < wide; v++)
            _mm512_storeu_si512(p->y + (row + r) * w->step + (block + v) * BYTES_LANES, sum[r][v]);
    }
}

VNNI static void product_vnni(const struct panel *p, size_t rows)
{
    size_t blocks = p->w->step / BYTES_LANES, block = 0;
    for (; block + 2 <= blocks; block += 2) {
        size_t row = 0;
        for (; row + 8 <= rows; row += 8)
            block_vnni(p, row, block, 8, 2);
        for (; row < rows; row++)
            block_vnni(p, row, block, 1, 2);
    }
    for (size_t row = 0; block < blocks && row < rows;) {
        bool many = row + 8 <= rows;
        if (many)
            block_vnni(p, row, block, 8, 1);
        else
            block_vnni(p, row, block, 1, 1);
        row += many ? 8 : 1;
    }
}

// Four columns: each pair of products of two makes a sum of its own.
__attribute__((target("avx2"))) static void product_avx2(const struct panel *p, size_t rows)
{
    const struct bytes *w = p->w;
    for (size_t block = 0; block < w->step / BYTES_LANES; block++) {
        for (size_t row = 0; row < rows; row++) {
            const int8_t *at = w->w + block * w->quads * 64;
            const uint8_t *x = p->x + row * p->x_step;
            int32_t *y = p->y + row * w->step + block * BYTES_LANES;
            __m256i sum[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(),
                              _mm256_setzero_si256(), _mm256_setzero_si256()};
            for (size_t q = 0; q < w->quads; q++, at += 64) {
                __m256i s = _mm256_cvtepu8_epi16(_mm_set1_epi32(four(x + 4 * q)));
                for (unsigned v = 0; v < 4; v++) {
                    __m128i some = _mm_loadu_si128((const __m128i *)(const void *)(at + 16 * v));
                    sum[v] =
                        _mm256_add_epi32(sum[v], _mm256_madd_epi16(s, _mm256_cvtepi8_epi16(some)));
                }
            }
            for (unsigned v = 0; v < 4; v++) {
                int32_t half[8];
                _mm256_storeu_si256((__m256i *)(void *)half, sum[v]);
                for (unsigned c = 0; c < 4; c++)
                    y[4 * v + c] = (int32_t)((uint32_t)half[2 * c] + (uint32_t)half[2 * c + 1]);
            }
        }
    }
}
#endif

static void product_plain(const struct panel *p, size_t rows)
{
    const struct bytes *w = p->w;
    for (size_t row = 0; row < rows; row++) {
        for (size_t block = 0; block < w->step / BYTES_LANES; block++) {
            const int8_t *at = w->w + block * w->quads * 64;
            const uint8_t *x = p->x + row * p->x_step;
            uint32_t sum[BYTES_LANES] = {0};
            for (size_t q = 0; q < w->quads; q++, at += 64) {
                for (unsigned c = 0; c < BYTES_LANES; c++) {
                    for (unsigned k = 0; k < 4; k++)
                        sum[c] += (uint32_t)(x[4 * q + k] * at[4 * c + k]);
                }
            }
            memcpy(p->y + row * w->step + block * BYTES_LANES, sum, sizeof(sum));
        }
    }
}

void bytes_product(const struct bytes *w, const uint8_t *x, size_t x_step, size_t rows, int32_t *y)
{
    const struct panel p = {.w = w, .x = x, .y = y, .x_step = x_step};
#ifdef __x86_64__
    enum vectors have = cpu_vectors();
    if (have >= VECTORS_VNNI) {
        product_vnni(&p, rows);
        return;
    }
    if (have >= VECTORS_AVX2) {
        product_avx2(&p, rows);
        return;
    }
#endif
    product_plain(&p, rows);
}
