// Convolutions and pools of images of three axes and more, of other datatypes, and with what others do not make:
// places of the largest, Lp. Plain loops along the last axis.
#include "engine/cpu/window_any.h"
#include "engine/cpu/cpu.h"

#include <math.h>

int64_t windows_pixels(const struct windows *w, const int64_t *sides)
{
    int64_t n = 1;
    for (unsigned i = 0; i < w->n; i++)
        n *= sides[i];
    return n;
}

// The n-th place of a box of these sides, last axis first.
static void place_of(int64_t n, const int64_t *sides, unsigned axes, int64_t *at)
{
    for (unsigned i = axes; i-- > 0; n /= sides[i])
        at[i] = n % sides[i];
}

// Where tap `tap` of the window that stands at `out` looks, but on the last axis; -1: outside.
static int64_t row_under(const struct windows *w, const int64_t *out, const int64_t *tap)
{
    int64_t row = 0;
    for (unsigned i = 0; i + 1 < w->n; i++) {
        int64_t at = out[i] * w->stride[i] - w->pad[i] + tap[i] * w->dilation[i];
        if (at < 0 || at >= w->in[i])
            return -1;
        row = row * w->in[i] + at;
    }
    return row;
}

// The windows of a row of the answer, [*first, *end), whose tap at k of the last axis is inside.
static void inside_row(const struct windows *w, int64_t k, int64_t *first, int64_t *end)
{
    unsigned a = w->n - 1;
    int64_t shift = k * w->dilation[a] - w->pad[a]; // x = out * stride + shift
    *first = shift < 0 ? (-shift + w->stride[a] - 1) / w->stride[a] : 0;
    int64_t last = w->in[a] - 1 - shift;
    *end = last < 0 ? 0 : last / w->stride[a] + 1;
    *end = *end > w->out[a] ? w->out[a] : *end;
}

// y += one channel of x under one channel of weights: every tap adds to each row of the answer.
#define CONV_CHANNEL(name, T)                                                                      \
    static void name(const struct windows *w, const T *x, const T *k, T *y)                        \
    {                                                                                              \
        unsigned a = w->n - 1;                                                                     \
        int64_t taps = windows_pixels(w, w->kernel), rows = windows_pixels(w, w->out) / w->out[a]; \
        int64_t tap[WINDOW_AXES], out[WINDOW_AXES], first, end;                                    \
        for (int64_t t = 0; t < taps; t++) {                                                       \
            place_of(t, w->kernel, w->n, tap);                                                     \
            inside_row(w, tap[a], &first, &end);                                                   \
            for (int64_t r = 0; r < rows; r++) {                                                   \
                place_of(r, w->out, a, out);                                                       \
                int64_t row = row_under(w, out, tap);                                              \
                if (row < 0)                                                                       \
                    continue;                                                                      \
                const T *from = x + row * w->in[a] + tap[a] * w->dilation[a] - w->pad[a];          \
                for (int64_t o = first; o < end; o++)                                              \
                    y[r * w->out[a] + o] += k[t] * from[o * w->stride[a]];                         \
            }                                                                                      \
        }                                                                                          \
    }
CONV_CHANNEL(conv_channel_f32, float)
CONV_CHANNEL(conv_channel_i32, int32_t)

#define CONV_ANY(name, T, channel)                                                                 \
    void name(const struct windows *w, const struct conv_sizes *s, const T *x, const T *k, T *y)   \
    {                                                                                              \
        int64_t image = windows_pixels(w, w->in), taps = windows_pixels(w, w->kernel);             \
        int64_t answer = windows_pixels(w, w->out);                                                \
        for (int64_t n = 0; n < s->images * s->groups; n++) {                                      \
            const T *weights = k + n % s->groups * s->outs * s->channels * taps;                   \
            for (int64_t o = 0; o < s->outs; o++, y += answer) {                                   \
                for (int64_t c = 0; c < s->channels; c++)                                          \
                    channel(w, x + (n * s->channels + c) * image,                                  \
                            weights + (o * s->channels + c) * taps, y);                            \
            }                                                                                      \
        }                                                                                          \
    }
CONV_ANY(conv_any_f32, float, conv_channel_f32)
CONV_ANY(conv_any_i32, int32_t, conv_channel_i32)

struct windows windows_for(const struct job *j, unsigned n, const int64_t *kernel)
{
    struct windows w;
    struct engine_error e;
    memset(&w, 0, sizeof(w));
    windows_of(j, 2, n, kernel, &w, &e); // the plan has asked the same and was answered
    return w;
}

struct conv_sizes conv_sizes_of(const struct job *j, const struct array *k)
{
    struct conv_sizes s = {.images = j->in[0]->shape[0], .groups = node_int(j->node, "group", 1)};
    s.channels = k->shape[1];
    s.outs = k->shape[0] / s.groups;
    return s;
}

void cpu_conv_any(const struct job *j)
{
    const struct array *k = j->in[1];
    struct windows w = windows_for(j, k->rank - 2, &k->shape[2]);
    struct conv_sizes s = conv_sizes_of(j, k);
    const float *bias = job_data(j, 2);
    int64_t answer = windows_pixels(&w, w.out), outs = s.groups * s.outs;
    float *y = j->out->data;
    for (int64_t i = 0; i < s.images * outs * answer; i++)
        y[i] = bias ? bias[i / answer % outs] : 0;
    conv_any_f32(&w, &s, j->in[0]->data, k->data, y);
}

// ---- ConvTranspose -----------------------------------------------------------------------------------

static void transpose_channel(const struct windows *w, const float *x, const float *k, float *y)
{
    int64_t pixels = windows_pixels(w, w->in), taps = windows_pixels(w, w->kernel);
    int64_t in[WINDOW_AXES], tap[WINDOW_AXES];
    for (int64_t p = 0; p < pixels; p++) {
        place_of(p, w->in, w->n, in);
        for (int64_t t = 0; t < taps; t++) {
            int64_t to = 0;
            place_of(t, w->kernel, w->n, tap);
            for (unsigned i = 0; i < w->n && to >= 0; i++) {
                int64_t at = in[i] * w->stride[i] - w->pad[i] + tap[i] * w->dilation[i];
                to = at < 0 || at >= w->out[i] ? -1 : to * w->out[i] + at;
            }
            if (to >= 0)
                y[to] += x[p] * k[t];
        }
    }
}

void cpu_conv_transpose_any(const struct job *j)
{
    const struct array *x = j->in[0], *k = j->in[1];
    const float *bias = job_data(j, 2);
    struct windows w;
    struct engine_error e;
    if (!transposed_windows(j, &w, &e))
        return; // the plan has asked the same and was answered
    int64_t groups = node_int(j->node, "group", 1), channels = k->shape[0] / groups,
            outs = k->shape[1];
    int64_t image = windows_pixels(&w, w.in), taps = windows_pixels(&w, w.kernel);
    int64_t answer = windows_pixels(&w, w.out);
    float *y = j->out->data;
    for (int64_t i = 0; i < x->shape[0] * groups * outs * answer; i++)
        y[i] = bias ? bias[i / answer % (groups * outs)] : 0;
    for (int64_t n = 0; n < x->shape[0] * groups; n++) {
        for (int64_t o = 0; o < outs; o++, y += answer) {
            for (int64_t c = 0; c < channels; c++)
                transpose_channel(
                    &w, (const float *)x->data + (n * channels + c) * image,
                    (const float *)k->data + ((n % groups * channels + c) * outs + o) * taps, y);
        }
    }
}

// ---- pools -------------------------------------------------------------------------------------------

static double number_at(const struct array *x, int64_t i)
{
    return x->dtype == ENGINE_F32   ? (double)((const float *)x->data)[i]
           : x->dtype == ENGINE_F64 ? ((const double *)x->data)[i]
           : x->dtype == ENGINE_I8  ? ((const int8_t *)x->data)[i]
                                    : ((const uint8_t *)x->data)[i];
}

static void put_number(struct array *y, int64_t i, double v)
{
    if (y->dtype == ENGINE_F32)
        ((float *)y->data)[i] = (float)v;
    else if (y->dtype == ENGINE_F64)
        ((double *)y->data)[i] = v;
    else if (y->dtype == ENGINE_I8)
        ((int8_t *)y->data)[i] = (int8_t)v;
    else
        ((uint8_t *)y->data)[i] = (uint8_t)v;
}

enum pool_kind { POOL_MAX, POOL_AVERAGE, POOL_LP };

struct pooling {
    enum pool_kind kind;
    const struct job *j;
    struct windows w;
    int64_t taps;
    bool count_pads, columns; // columns: places count down them first (storage_order 1)
    double p;
};

struct pooled {
    double value;
    int64_t from;    // the largest's pixel
    int64_t counted; // pixels, with the pads that count
};

// Pads count that the image is given; what a rounded-up window has beyond them does not.
static bool in_pads(const struct windows *w, const int64_t *at)
{
    for (unsigned i = 0; i < w->n; i++) {
        if (at[i] < -w->pad[i] || at[i] >= w->in[i] + w->behind[i])
            return false;
    }
    return true;
}

static struct pooled pool_window_at(const struct pooling *p, int64_t plane, const int64_t *out)
{
    const struct windows *w = &p->w;
    struct pooled r = {.value = p->kind == POOL_MAX ? -INFINITY : 0, .from = -1};
    int64_t tap[WINDOW_AXES], at[WINDOW_AXES];
    for (int64_t t = 0; t < p->taps; t++) {
        int64_t pixel = 0;
        place_of(t, w->kernel, w->n, tap);
        for (unsigned i = 0; i < w->n; i++) {
            at[i] = out[i] * w->stride[i] - w->pad[i] + tap[i] * w->dilation[i];
            pixel = pixel < 0 || at[i] < 0 || at[i] >= w->in[i] ? -1 : pixel * w->in[i] + at[i];
        }
        r.counted += pixel >= 0 || (p->count_pads && in_pads(w, at));
        if (pixel < 0)
            continue;
        double v = number_at(p->j->in[0], plane + pixel);
        if (p->kind == POOL_MAX && (v > r.value || v != v || r.from < 0)) {
            r.value = v;
            r.from = pixel;
        } else if (p->kind == POOL_AVERAGE) {
            r.value += v;
        } else if (p->kind == POOL_LP) {
            r.value += pow(fabs(v), p->p);
        }
    }
    return r;
}

// The number of a pixel when the first axis is counted first.
static int64_t column_order(const struct windows *w, int64_t pixel)
{
    int64_t at[WINDOW_AXES], n = 0;
    place_of(pixel, w->in, w->n, at);
    for (unsigned i = w->n; i-- > 0;)
        n = n * w->in[i] + at[i];
    return n;
}

static void pool_any(const struct job *j, enum pool_kind kind)
{
    const struct attr *kernel = node_attr(j->node, "kernel_shape");
    struct pooling p = {.kind = kind,
                        .j = j,
                        .w = windows_for(j, kernel->n, kernel->ints),
                        .count_pads = node_int(j->node, "count_include_pad", 0) != 0,
                        .columns = node_int(j->node, "storage_order", 0) != 0,
                        .p = (double)node_int(j->node, "p", 2)};
    int64_t planes = j->in[0]->shape[0] * j->in[0]->shape[1], out[WINDOW_AXES];
    int64_t pixels = windows_pixels(&p.w, p.w.in), answers = windows_pixels(&p.w, p.w.out);
    p.taps = windows_pixels(&p.w, p.w.kernel);
    for (int64_t i = 0; i < planes * answers; i++) {
        int64_t plane = i / answers * pixels;
        place_of(i % answers, p.w.out, p.w.n, out);
        struct pooled r = pool_window_at(&p, plane, out);
        if (kind == POOL_AVERAGE)
            r.value = r.counted > 0 ? r.value / (double)r.counted : 0;
        else if (kind == POOL_LP)
            r.value = pow(r.value, 1 / p.p);
        put_number(j->out, i, r.value);
        if (kind == POOL_MAX && j->outs[1])
            ((int64_t *)j->outs[1]->data)[i] =
                plane + (p.columns ? column_order(&p.w, r.from) : r.from);
    }
}

void cpu_max_pool_any(const struct job *j)
{
    pool_any(j, POOL_MAX);
}

void cpu_average_pool_any(const struct job *j)
{
    pool_any(j, POOL_AVERAGE);
}

void cpu_lp_pool(const struct job *j)
{
    pool_any(j, POOL_LP);
}

void cpu_global_lp_pool(const struct job *j)
{
    const struct array *a = j->in[0];
    double p = (double)node_int(j->node, "p", 2);
    size_t planes = count_between(a, 0, 2), inner = count_from(a, 2);
    const float *x = a->data;
    for (size_t k = 0; k < planes; k++) {
        double sum = 0;
        for (size_t i = 0; i < inner; i++)
            sum += pow(fabs((double)*x++), p);
        ((float *)j->out->data)[k] = (float)pow(sum, 1 / p);
    }
}

void cpu_max_unpool(const struct job *j)
{
    size_t n = 0, all = 0;
    if (!array_count(j->in[0], &n) || !array_count(j->out, &all))
        return;
    memset(j->out->data, 0, all * sizeof(float));
    for (size_t i = 0; i < n; i++) {
        int64_t to = ((const int64_t *)j->in[1]->data)[i];
        if (to < 0 || to >= (int64_t)all) {
            *j->failure = "a place is out of range";
            return;
        }
        ((float *)j->out->data)[to] = ((const float *)j->in[0]->data)[i];
    }
}
