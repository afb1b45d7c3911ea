// Convolutions of bytes with constant weights. An image is turned channels last, as uint8 with its pads, which are the
// zero point; then what a window sees is a row of a product of bytes, put together of whole pieces. A channel by
// itself (depthwise) is summed beside its neighbours.
#include "engine/cpu/bytes_conv.h"

#include "engine/cpu/cpu.h"
#include "engine/cpu/vectors.h"

#ifdef __x86_64__
#include <immintrin.h>
#endif

#define PIXELS 64 // whose sums are under way at a time

struct byte_conv {
    size_t groups, channels, outs; // channels and outs of one group
    struct bytes **of;             // [groups]; NULL: depthwise
    int16_t *taps;                 // [kernel][groups] of a depthwise one, less the zero points
};

// ---- weights -----------------------------------------------------------------------------------------

// Group `from`'s weights [outs, channels, kernel] as [kernel, channels] by outs.
static struct bytes *group_new(struct graph *g, const struct byte_conv *c, const struct array *k,
                               const int32_t *zeros, size_t group, struct engine_error *e)
{
    size_t kernel = count_from(k, 2), depth = kernel * c->channels, n = c->outs * depth;
    const uint8_t *from = (const uint8_t *)k->data + group * n;
    uint8_t *turned = graph_alloc(g, n, e);
    for (size_t i = 0; turned && i < n; i++) {
        size_t out = i / depth, channel = i / kernel % c->channels, tap = i % kernel;
        turned[(tap * c->channels + channel) * c->outs + out] = from[i];
    }
    struct bytes_source s = {.data = turned,
                             .depth = depth,
                             .cols = c->outs,
                             .k_step = c->outs,
                             .c_step = 1,
                             .is_signed = k->dtype == ENGINE_I8,
                             .zeros = zeros + group * c->outs};
    struct bytes *b = turned ? bytes_new(g, &s, e) : NULL;
    graph_drop(g, turned);
    return b;
}

static bool depthwise_new(struct graph *g, struct byte_conv *c, const struct array *k,
                          const int32_t *zeros, struct engine_error *e)
{
    size_t kernel = count_from(k, 2);
    c->taps = graph_alloc(g, kernel * c->groups * sizeof(*c->taps), e);
    for (size_t i = 0; c->taps && i < kernel * c->groups; i++)
        c->taps[i % kernel * c->groups + i / kernel] =
            (int16_t)(bytes_at(k, i) - zeros[i / kernel]);
    return c->taps != NULL;
}

static bool groups_new(struct graph *g, struct byte_conv *c, const struct array *k,
                       const int32_t *zeros, struct engine_error *e)
{
    if (c->channels == 1 && c->outs == 1)
        return depthwise_new(g, c, k, zeros, e);
    c->of = arena_array(&g->arena, c->groups, sizeof(struct bytes *));
    if (!c->of)
        return engine_fail(e, "out of memory");
    for (size_t i = 0; i < c->groups; i++) {
        if (!(c->of[i] = group_new(g, c, k, zeros, i, e)))
            return false;
    }
    return true;
}

bool cpu_byte_conv_prepare(struct graph *g, struct node *n, struct engine_error *e)
{
    unsigned at = view_is(n->type, "ConvInteger") ? 1 : 3;
    const struct array *k = node_constant(g, n, at);
    int64_t groups = node_int(n, "group", 1);
    int32_t *zeros;
    size_t count;
    if (!k || k->rank < 3 || k->rank > 4 || !bytes_is(k) || !array_count(k, &count) || count < 1 ||
        groups < 1 || k->shape[0] % groups != 0)
        return true; // the other way, or refused there
    e->text[0] = '\0';
    if (!bytes_zeros(g, n, at + 2, (size_t)k->shape[0], &zeros, e))
        return !e->text[0];
    struct byte_conv *c = arena_zalloc(&g->arena, sizeof(*c));
    if (!c)
        return engine_fail(e, "out of memory");
    c->groups = (size_t)groups;
    c->channels = (size_t)k->shape[1];
    c->outs = (size_t)(k->shape[0] / groups);
    n->prepared = c;
    n->reads = ~((uint64_t)1 << at);
    return groups_new(g, c, k, zeros, e);
}

// ---- a run -------------------------------------------------------------------------------------------

struct bytes_run {
    const struct job *j;
    const struct byte_conv *c;
    const struct byte_conv_answer *answer;
    struct window w;
    size_t all;       // channels in, of all groups
    int64_t sides[2]; // of the image with its pads, as far as windows see it
    uint8_t zero;     // of uint8
    bool flip;        // they were int8
    bool pointwise;   // a window is a pixel, and lies well
    uint8_t *image;   // [sides, all]
    uint8_t *rows;    // [PIXELS, quads * 4]
    int32_t *sums;    // [PIXELS, step]
};

typedef size_t (*pixel_sums)(const struct bytes_run *r, const uint8_t *from, int32_t *sums);

static bool run_of(const struct job *j, unsigned k, struct bytes_run *r)
{
    struct engine_error e;
    *r = (struct bytes_run){.j = j, .c = j->node->prepared};
    memset(&r->w, 0, sizeof(r->w));
    if (!window_of(j, 2, &j->in[k]->shape[2], &r->w, &e))
        return false; // the plan has asked the same and was answered
    r->all = r->c->groups * r->c->channels;
    r->pointwise = r->c->of && r->c->groups == 1 && r->w.kernel[0] * r->w.kernel[1] == 1 &&
                   r->w.stride[0] == 1 && r->w.stride[1] == 1 && r->all % 4 == 0;
    for (unsigned a = 0; a < 2; a++)
        r->sides[a] =
            (r->w.out[a] - 1) * r->w.stride[a] + (r->w.kernel[a] - 1) * r->w.dilation[a] + 1;
    return true;
}

static size_t row_bytes(const struct byte_conv *c)
{
    return c->of ? c->of[0]->quads * 4 : 0;
}

// A group's sums: with x's own where weights want it.
static size_t row_sums(const struct byte_conv *c)
{
    size_t step = c->of ? 0 : c->groups;
    for (size_t i = 0; c->of && i < c->groups; i++)
        step = c->of[i]->step > step ? c->of[i]->step : step;
    return step;
}

static size_t in_lines(size_t n)
{
    return (n + 63) / 64 * 64;
}

size_t byte_conv_scratch(const struct job *j, unsigned k)
{
    struct bytes_run r;
    if (!run_of(j, k, &r))
        return 0;
    double image = (double)r.sides[0] * (double)r.sides[1] * (double)r.all;
    if (r.w.out[0] < 1 || r.w.out[1] < 1)
        return 0; // no answer, no run
    if (image > 1e15)
        return SIZE_MAX / 2; // past every limit
    return in_lines((size_t)image) + PIXELS * (row_bytes(r.c) + row_sums(r.c) * sizeof(int32_t)) +
           64;
}

#define INLINE static inline __attribute__((always_inline))
#define PIECE 64 // pixels of a line that are turned at a time

// A line of x[channels, height, width] at `from`, channels last at `to`.
INLINE void turn_line(const struct bytes_run *r, const uint8_t *from, size_t n, uint8_t *to)
{
    const size_t plane = (size_t)(r->w.in[0] * r->w.in[1]), all = r->all;
    uint8_t flip = r->flip ? 0x80 : 0;
    for (size_t first = 0; first < n; first += PIECE) {
        size_t most = n - first < PIECE ? n - first : PIECE;
        for (size_t c = 0; c < all; c++) {
            const uint8_t *x = from + c * plane + first;
            uint8_t *y = to + first * all + c;
            for (size_t i = 0; i < most; i++)
                y[i * all] = x[i] ^ flip;
        }
    }
}

// Into the image, whose pads are the zero point.
INLINE void turn_image(const struct bytes_run *r, const uint8_t *x)
{
    const struct window *w = &r->w;
    int64_t left = w->pad[1], n = r->sides[1] - left < w->in[1] ? r->sides[1] - left : w->in[1];
    if (w->pad[0] > 0 || left > 0 || n < r->sides[1] || w->in[0] < r->sides[0])
        memset(r->image, r->zero, (size_t)(r->sides[0] * r->sides[1]) * r->all);
    for (int64_t y = 0; y < w->in[0] && y + w->pad[0] < r->sides[0] && n > 0; y++)
        turn_line(r, x + y * w->in[1], (size_t)n,
                  r->image + (size_t)((y + w->pad[0]) * r->sides[1] + left) * r->all);
}

INLINE const uint8_t *seen_by(const struct bytes_run *r, size_t pixel)
{
    int64_t y = (int64_t)pixel / r->w.out[1], x = (int64_t)pixel % r->w.out[1];
    return r->image + (size_t)(y * r->w.stride[0] * r->sides[1] + x * r->w.stride[1]) * r->all;
}

// What a window at `from` sees of a group.
INLINE void gather(const struct bytes_run *r, const uint8_t *from, uint8_t *to)
{
    const struct window *w = &r->w;
    size_t n = r->c->channels, pixel = r->all;
    if (r->c->groups == 1 && w->dilation[1] == 1) { // a line of the kernel in one piece
        n *= (size_t)w->kernel[1];
        for (int64_t y = 0; y < w->kernel[0]; y++, to += n)
            memcpy(to, from + (size_t)(y * w->dilation[0] * r->sides[1]) * pixel, n);
        return;
    }
    for (int64_t y = 0; y < w->kernel[0]; y++) {
        const uint8_t *line = from + (size_t)(y * w->dilation[0] * r->sides[1]) * pixel;
        for (int64_t x = 0; x < w->kernel[1]; x++, to += n)
            memcpy(to, line + (size_t)(x * w->dilation[1]) * pixel, n);
    }
}

INLINE void group_pixels(const struct bytes_run *r, size_t group, size_t first, size_t n)
{
    const struct bytes *b = r->c->of[group];
    size_t step = b->quads * 4;
    if (r->pointwise) {
        bytes_product(b, r->image + first * r->all, r->all, n, r->sums);
        return;
    }
    for (size_t p = 0; p < n; p++) {
        uint8_t *row = r->rows + p * step;
        memset(row + step - 4, 0, 4);
        gather(r, seen_by(r, first + p) + group * r->c->channels, row);
    }
    bytes_product(b, r->rows, step, n, r->sums);
}

INLINE void depthwise_one(const struct bytes_run *r, const uint8_t *from, size_t c, int32_t *sums)
{
    const struct window *w = &r->w;
    const int16_t *taps = r->c->taps + c;
    int32_t sum = 0;
    for (int64_t y = 0; y < w->kernel[0]; y++) {
        const uint8_t *at = from + (size_t)(y * w->dilation[0] * r->sides[1]) * r->all + c;
        for (int64_t x = 0; x < w->kernel[1]; x++, taps += r->all)
            sum += (at[(size_t)(x * w->dilation[1]) * r->all] - r->zero) * *taps;
    }
    sums[c] = sum;
}

// The channels of a pixel as far as they fill vectors, in sums; how many those are.
#ifdef __x86_64__
__attribute__((target("avx512f"))) static size_t
depthwise_avx512(const struct bytes_run *r, const uint8_t *from, int32_t *sums)
{
    const struct window *w = &r->w;
    const __m512i zero = _mm512_set1_epi32(r->zero);
    size_t c = 0;
    for (; c + 16 <= r->all; c += 16) {
        const int16_t *taps = r->c->taps + c;
        __m512i sum = _mm512_setzero_si512();
        for (int64_t y = 0; y < w->kernel[0]; y++) {
            const uint8_t *at = from + (size_t)(y * w->dilation[0] * r->sides[1]) * r->all + c;
            for (int64_t x = 0; x < w->kernel[1]; x++, taps += r->all) {
                __m128i seen = _mm_loadu_si128((const __m128i *)(const void *)at);
                __m256i tap = _mm256_loadu_si256((const __m256i *)(const void *)taps);
                __m512i v = _mm512_sub_epi32(_mm512_cvtepu8_epi32(seen), zero);
                sum = _mm512_add_epi32(sum, _mm512_mullo_epi32(v, _mm512_cvtepi16_epi32(tap)));
                at += (size_t)w->dilation[1] * r->all;
            }
        }
        _mm512_storeu_si512(sums + c, sum);
    }
    return c;
}

__attribute__((target("avx2"))) static size_t depthwise_avx2(const struct bytes_run *r,
                                                             const uint8_t *from, int32_t *sums)
{
    const struct window *w = &r->w;
    const __m256i zero = _mm256_set1_epi32(r->zero);
    size_t c = 0;
    for (; c + 8 <= r->all; c += 8) {
        const int16_t *taps = r->c->taps + c;
        __m256i sum = _mm256_setzero_si256();
        for (int64_t y = 0; y < w->kernel[0]; y++) {
            const uint8_t *at = from + (size_t)(y * w->dilation[0] * r->sides[1]) * r->all + c;
            for (int64_t x = 0; x < w->kernel[1]; x++, taps += r->all) {
                __m128i seen = _mm_loadl_epi64((const __m128i *)(const void *)at);
                __m128i tap = _mm_loadu_si128((const __m128i *)(const void *)taps);
                __m256i v = _mm256_sub_epi32(_mm256_cvtepu8_epi32(seen), zero);
                sum = _mm256_add_epi32(sum, _mm256_mullo_epi32(v, _mm256_cvtepi16_epi32(tap)));
                at += (size_t)w->dilation[1] * r->all;
            }
        }
        _mm256_storeu_si256((__m256i *)(void *)(sums + c), sum);
    }
    return c;
}
#endif

static size_t depthwise_plain(const struct bytes_run *r, const uint8_t *from, int32_t *sums)
{
    (void)r;
    (void)from;
    (void)sums;
    return 0;
}

INLINE void depthwise_pixels(const struct bytes_run *r, size_t first, size_t n, pixel_sums vectors)
{
    for (size_t p = 0; p < n; p++) {
        const uint8_t *from = seen_by(r, first + p);
        int32_t *sums = r->sums + p * r->all;
        for (size_t c = vectors(r, from, sums); c < r->all; c++)
            depthwise_one(r, from, c, sums);
    }
}

// The sums of one channel out, `step` apart, become elements of the answer from `at` on. odd: delta, of the sum of x that
// stands `beside` each.
INLINE void put_channel(const struct byte_conv_answer *a, size_t channel, const int32_t *sums,
                        size_t step, size_t n, uint32_t add, uint32_t odd, size_t beside, size_t at)
{
    size_t scales = a->whole ? 1 : count_all(a->scales);
    float scale =
        a->whole ? 1 : a->x * ((const float *)a->scales->data)[scales == 1 ? 0 : channel] / a->by;
    add += a->bias ? (uint32_t)a->bias[channel] : 0;
    if (a->whole) {
        for (size_t p = 0; p < n; p++)
            a->whole[at + p] =
                (int32_t)((uint32_t)sums[p * step] + add + odd * (uint32_t)sums[p * step + beside]);
        return;
    }
    struct put y = a->y;
    for (size_t p = 0; p < n; p++) {
        uint32_t sum = (uint32_t)sums[p * step] + add + odd * (uint32_t)sums[p * step + beside];
        put_byte(&y, at + p, (float)(int32_t)sum * scale);
    }
}

INLINE void put_pixels(const struct bytes_run *r, size_t image, size_t group, size_t first,
                       size_t n)
{
    const struct byte_conv *c = r->c;
    const struct bytes *b = c->of ? c->of[group] : NULL;
    size_t outs = b ? c->outs : c->groups, pixels = (size_t)(r->w.out[0] * r->w.out[1]);
    for (size_t o = 0; o < outs; o++) {
        size_t channel = group * c->outs + o;
        uint32_t add = b ? -(uint32_t)r->zero * (uint32_t)b->sums[o] : 0;
        bool odd = b && b->delta;
        put_channel(r->answer, channel, r->sums + o, b ? b->step : outs, n, add,
                    odd ? (uint32_t)b->delta[o] : 0, odd ? b->cols - o : 0,
                    (image * c->groups * c->outs + channel) * pixels + first);
    }
}

INLINE void run_images(const struct bytes_run *r, pixel_sums vectors)
{
    size_t pixels = (size_t)(r->w.out[0] * r->w.out[1]);
    size_t each = r->all * (size_t)(r->w.in[0] * r->w.in[1]);
    for (size_t i = 0; i < (size_t)r->j->in[0]->shape[0]; i++) {
        turn_image(r, (const uint8_t *)r->j->in[0]->data + i * each);
        for (size_t first = 0, n; first < pixels; first += n) {
            n = pixels - first < PIXELS ? pixels - first : PIXELS;
            if (!r->c->of) {
                depthwise_pixels(r, first, n, vectors);
                put_pixels(r, i, 0, first, n);
            }
            for (size_t g = 0; r->c->of && g < r->c->groups; g++) {
                group_pixels(r, g, first, n);
                put_pixels(r, i, g, first, n);
            }
        }
    }
}

#ifdef __x86_64__
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))) static void
run_avx512(const struct bytes_run *r)
{
    run_images(r, depthwise_avx512);
}

__attribute__((target("avx2"))) static void run_avx2(const struct bytes_run *r)
{
    run_images(r, depthwise_avx2);
}
#endif

__attribute__((noinline)) static void run_plain(const struct bytes_run *r)
{
    run_images(r, depthwise_plain);
}

static void run(const struct bytes_run *r)
{
#ifdef __x86_64__
    enum vectors have = cpu_vectors();
    if (have >= VECTORS_AVX512) {
        run_avx512(r);
        return;
    }
    if (have >= VECTORS_AVX2) {
        run_avx2(r);
        return;
    }
#endif
    run_plain(r);
}

void byte_conv_run(const struct job *j, unsigned k, int32_t zero, const struct byte_conv_answer *a)
{
    struct bytes_run r;
    if (!run_of(j, k, &r))
        return;
    r.answer = a;
    r.flip = j->in[0]->dtype == ENGINE_I8;
    r.zero = (uint8_t)(zero + (r.flip ? 128 : 0));
    r.image = j->scratch;
    r.sums = (int32_t *)(void *)(r.image + in_lines((size_t)(r.sides[0] * r.sides[1]) * r.all));
    r.rows = (uint8_t *)(r.sums + PIXELS * row_sums(r.c));
    run(&r);
}
