// What slides a window over an image: Conv, MaxPool, AveragePool, GlobalAveragePool. NCHW.
#include "engine/cpu/cpu.h"

#include <math.h>

static struct window window_for(const struct job *j, unsigned axis, const int64_t *kernel)
{
    struct window w;
    struct engine_error e;
    memset(&w, 0, sizeof(w));
    window_of(j, axis, kernel, &w, &e); // the plan has asked the same and was answered
    return w;
}

// The part of kernel axis `a` that lies inside the image when the window stands at `out`.
static void inside(const struct window *w, unsigned a, int64_t out, int64_t *first, int64_t *end)
{
    int64_t at = out * w->stride[a] - w->pad[a];
    int64_t k = 0, n = w->kernel[a];
    while (k < n && at + k * w->dilation[a] < 0)
        k++;
    while (n > k && at + (n - 1) * w->dilation[a] >= w->in[a])
        n--;
    *first = k;
    *end = n;
}

// ---- pools -------------------------------------------------------------------------------------------

static float pool_at(const struct window *w, const float *x, int64_t oy, int64_t ox, bool max,
                     bool count_pads)
{
    int64_t y0, y1, x0, x1;
    inside(w, 0, oy, &y0, &y1);
    inside(w, 1, ox, &x0, &x1);
    float best = -INFINITY, sum = 0;
    for (int64_t ky = y0; ky < y1; ky++) {
        const float *row = x + (oy * w->stride[0] - w->pad[0] + ky * w->dilation[0]) * w->in[1];
        for (int64_t kx = x0; kx < x1; kx++) {
            float v = row[ox * w->stride[1] - w->pad[1] + kx * w->dilation[1]];
            best = v > best || v != v ? v : best;
            sum += v;
        }
    }
    if (max)
        return best;
    int64_t n = count_pads ? w->kernel[0] * w->kernel[1] : (y1 - y0) * (x1 - x0);
    return n > 0 ? sum / (float)n : 0;
}

static void pool(const struct job *j, bool max)
{
    const struct attr *kernel = node_attr(j->node, "kernel_shape");
    struct window w = window_for(j, 2, kernel->ints);
    bool count_pads = node_int(j->node, "count_include_pad", 0) != 0;
    size_t planes = (size_t)(j->out->shape[0] * j->out->shape[1]);
    const float *x = j->in[0]->data;
    float *y = j->out->data;
    for (size_t p = 0; p < planes; p++, x += w.in[0] * w.in[1]) {
        for (int64_t oy = 0; oy < w.out[0]; oy++) {
            for (int64_t ox = 0; ox < w.out[1]; ox++)
                *y++ = pool_at(&w, x, oy, ox, max, count_pads);
        }
    }
}

// Float32 of one axis or two, and nothing but the values.
static bool is_plain(const struct job *j)
{
    return j->in[0]->rank <= 4 && j->in[0]->dtype == ENGINE_F32 && !j->outs[1];
}

void cpu_max_pool(const struct job *j)
{
    if (is_plain(j))
        pool(j, true);
    else
        cpu_max_pool_any(j);
}

// A rounded-up window may reach beyond the pads, which do not count there.
void cpu_average_pool(const struct job *j)
{
    bool beyond =
        node_int(j->node, "ceil_mode", 0) != 0 && node_int(j->node, "count_include_pad", 0) != 0;
    if (is_plain(j) && !beyond)
        pool(j, false);
    else
        cpu_average_pool_any(j);
}

void cpu_global_average_pool(const struct job *j)
{
    const struct array *a = j->in[0];
    size_t planes = count_between(a, 0, 2), inner = count_from(a, 2);
    const float *x = a->data;
    for (size_t p = 0; p < planes; p++) {
        float sum = 0;
        for (size_t i = 0; i < inner; i++)
            sum += *x++;
        ((float *)j->out->data)[p] = sum / (float)inner;
    }
}

// In lanes, so that the loop is vectorised. What is not a number is larger than all.
static float largest(const float *x, size_t n)
{
    enum { LANES = 16 };
    float best[LANES], most = -INFINITY;
    uint32_t odd[LANES] = {0};
    size_t i = 0;
    for (unsigned k = 0; k < LANES; k++)
        best[k] = -INFINITY;
    for (; i + LANES <= n; i += LANES) {
        for (unsigned k = 0; k < LANES; k++) {
            float v = x[i + k];
            best[k] = v > best[k] ? v : best[k];
            odd[k] |= v != v;
        }
    }
    for (; i < n; i++) {
        best[0] = x[i] > best[0] ? x[i] : best[0];
        odd[0] |= x[i] != x[i];
    }
    for (unsigned k = 0; k < LANES; k++)
        most = odd[k] ? NAN : best[k] > most ? best[k] : most;
    for (unsigned k = 0; k < LANES; k++)
        most = odd[k] ? NAN : most;
    return most;
}

void cpu_global_max_pool(const struct job *j)
{
    const struct array *a = j->in[0];
    size_t planes = count_between(a, 0, 2), inner = count_from(a, 2);
    const float *x = a->data;
    for (size_t p = 0; p < planes; p++, x += inner)
        ((float *)j->out->data)[p] = largest(x, inner);
}

// ---- convolution -------------------------------------------------------------------------------------

struct conv cpu_conv_of(const struct job *j, unsigned axis)
{
    struct conv c = {.groups = node_int(j->node, "group", 1)};
    c.channels = j->in[1]->shape[1];
    c.outs = j->in[1]->shape[0] / c.groups;
    c.w = window_for(j, axis, &j->in[1]->shape[2]);
    return c;
}

static bool is_pointwise(const struct window *w)
{
    return w->kernel[0] == 1 && w->kernel[1] == 1 && w->stride[0] == 1 && w->stride[1] == 1 &&
           w->in[0] == w->out[0] && w->in[1] == w->out[1];
}

// The columns of a group: [channels * kernel, out pixels], so that a convolution is one product.
size_t cpu_conv_scratch(const struct job *j)
{
    if (j->node->prepared)
        return cpu_lines_scratch(j);
    if (j->in[0]->rank > 4)
        return 0;
    struct conv c = cpu_conv_of(j, 2);
    if (is_pointwise(&c.w) || (c.channels == 1 && c.outs == 1))
        return 0;
    return (size_t)(c.channels * c.w.kernel[0] * c.w.kernel[1] * c.w.out[0] * c.w.out[1]) *
           sizeof(float);
}

static void column(const struct window *w, const float *x, int64_t ky, int64_t kx, float *to)
{
    for (int64_t oy = 0; oy < w->out[0]; oy++) {
        int64_t iy = oy * w->stride[0] - w->pad[0] + ky * w->dilation[0];
        for (int64_t ox = 0; ox < w->out[1]; ox++) {
            int64_t ix = ox * w->stride[1] - w->pad[1] + kx * w->dilation[1];
            bool in = iy >= 0 && iy < w->in[0] && ix >= 0 && ix < w->in[1];
            *to++ = in ? x[iy * w->in[1] + ix] : 0;
        }
    }
}

static const float *columns(const struct conv *c, const float *x, float *scratch)
{
    const struct window *w = &c->w;
    int64_t pixels = w->out[0] * w->out[1];
    float *to = scratch;
    if (is_pointwise(w))
        return x;
    for (int64_t ch = 0; ch < c->channels; ch++, x += w->in[0] * w->in[1]) {
        for (int64_t ky = 0; ky < w->kernel[0]; ky++) {
            for (int64_t kx = 0; kx < w->kernel[1]; kx++, to += pixels)
                column(w, x, ky, kx, to);
        }
    }
    return scratch;
}

// One channel in, one out: no product to be had.
static void depthwise(const struct window *w, const float *x, const float *k, float bias, float *y)
{
    for (int64_t oy = 0; oy < w->out[0]; oy++) {
        int64_t y0, y1;
        inside(w, 0, oy, &y0, &y1);
        for (int64_t ox = 0; ox < w->out[1]; ox++) {
            int64_t x0, x1;
            float sum = bias;
            inside(w, 1, ox, &x0, &x1);
            for (int64_t ky = y0; ky < y1; ky++) {
                int64_t iy = oy * w->stride[0] - w->pad[0] + ky * w->dilation[0];
                const float *row = x + iy * w->in[1] + ox * w->stride[1] - w->pad[1];
                for (int64_t kx = x0; kx < x1; kx++)
                    sum += row[kx * w->dilation[1]] * k[ky * w->kernel[1] + kx];
            }
            *y++ = sum;
        }
    }
}

static void conv_group(const struct conv *c, const float *x, const float *weights,
                       const float *bias, float *y, float *scratch)
{
    size_t pixels = (size_t)(c->w.out[0] * c->w.out[1]);
    size_t depth = (size_t)(c->channels * c->w.kernel[0] * c->w.kernel[1]);
    if (c->channels == 1 && c->outs == 1) {
        depthwise(&c->w, x, weights, bias ? *bias : 0, y);
        return;
    }
    struct product p = {.x = weights,
                        .w = columns(c, x, scratch),
                        .y = y,
                        .rows = (size_t)c->outs,
                        .depth = depth,
                        .cols = pixels,
                        .x_step = depth,
                        .w_step = pixels,
                        .y_step = pixels};
    cpu_product(&p);
    for (int64_t o = 0; bias && o < c->outs; o++) {
        for (size_t i = 0; i < pixels; i++)
            y[(size_t)o * pixels + i] += bias[o];
    }
}

static void conv_planes(const struct job *j)
{
    struct conv c = cpu_conv_of(j, 2);
    const float *x = j->in[0]->data, *bias = job_data(j, 2);
    float *y = j->out->data;
    int64_t image = c.channels * c.w.in[0] * c.w.in[1], answer = c.outs * c.w.out[0] * c.w.out[1];
    int64_t kernel = c.outs * c.channels * c.w.kernel[0] * c.w.kernel[1];
    for (int64_t n = 0; n < j->in[0]->shape[0] * c.groups; n++) {
        int64_t g = n % c.groups;
        conv_group(&c, x + n * image, (const float *)j->in[1]->data + g * kernel,
                   bias ? bias + g * c.outs : NULL, y + n * answer, j->scratch);
    }
}

void cpu_conv(const struct job *j)
{
    if (j->node->prepared)
        cpu_lines(j);
    else if (j->in[0]->rank > 4)
        cpu_conv_any(j);
    else
        conv_planes(j);
    if (j->node->relu)
        cpu_relu(&(struct job){.node = j->node, .in = {j->out}, .out = j->out});
}
