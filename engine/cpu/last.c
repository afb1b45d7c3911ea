// What slides a window over images that stand channels last, [images, height, width, channels]: the pools in
// plain C (the innermost loop runs over channels), the convolution by oneDNN. Sums run in the order of
// engine/cpu/window.c.
#include "engine/cpu/cpu.h"

#include <math.h>

static size_t channels_of(const struct job *j)
{
    return (size_t)j->in[0]->shape[3];
}

// ---- pools -------------------------------------------------------------------------------------------

static void most(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] > y[i] || x[i] != x[i] ? x[i] : y[i];
}

static void plus(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] += x[i];
}

static void fill(float *y, float v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = v;
}

static void divide(float *y, float by, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] /= by;
}

// One window: returns how many of its pixels lie inside the image.
static int64_t gather(const struct window *w, const float *x, int64_t oy, int64_t ox,
                      size_t channels, bool max, float *y)
{
    int64_t n = 0;
    for (int64_t ky = 0; ky < w->kernel[0]; ky++) {
        int64_t iy = oy * w->stride[0] - w->pad[0] + ky * w->dilation[0];
        if (iy < 0 || iy >= w->in[0])
            continue;
        for (int64_t kx = 0; kx < w->kernel[1]; kx++) {
            int64_t ix = ox * w->stride[1] - w->pad[1] + kx * w->dilation[1];
            if (ix < 0 || ix >= w->in[1])
                continue;
            const float *pixel = x + (size_t)(iy * w->in[1] + ix) * channels;
            max ? most(y, pixel, channels) : plus(y, pixel, channels);
            n++;
        }
    }
    return n;
}

static void pool(const struct job *j, bool max)
{
    struct window w;
    struct engine_error e;
    size_t channels = channels_of(j);
    bool count_pads = node_int(j->node, "count_include_pad", 0) != 0;
    const float *x = j->in[0]->data;
    float *y = j->out->data;
    if (!window_of(j, 1, node_attr(j->node, "kernel_shape")->ints, &w, &e))
        return; // the plan has asked the same and was answered
    for (int64_t i = 0; i < j->in[0]->shape[0]; i++) {
        for (int64_t oy = 0; oy < w.out[0]; oy++) {
            for (int64_t ox = 0; ox < w.out[1]; ox++, y += channels) {
                fill(y, max ? -INFINITY : 0, channels);
                int64_t n = gather(&w, x, oy, ox, channels, max, y);
                if (count_pads)
                    n = w.kernel[0] * w.kernel[1];
                if (!max && n > 0)
                    divide(y, (float)n, channels);
            }
        }
        x += (size_t)(w.in[0] * w.in[1]) * channels;
    }
}

void cpu_max_pool_last(const struct job *j)
{
    pool(j, true);
}

void cpu_average_pool_last(const struct job *j)
{
    pool(j, false);
}

void cpu_global_average_pool_last(const struct job *j)
{
    size_t channels = channels_of(j), pixels = (size_t)(j->in[0]->shape[1] * j->in[0]->shape[2]);
    const float *x = j->in[0]->data;
    float *y = j->out->data;
    for (int64_t i = 0; i < j->in[0]->shape[0]; i++, y += channels) {
        fill(y, 0, channels);
        for (size_t p = 0; p < pixels; p++, x += channels)
            plus(y, x, channels);
        divide(y, (float)pixels, channels);
    }
}

// ---- convolution -------------------------------------------------------------------------------------

size_t cpu_conv_last_scratch(const struct job *j)
{
    return onednn_conv_scratch(j->state);
}

void cpu_conv_last_forget(struct node *n)
{
    onednn_conv_free(n->prepared);
    n->prepared = NULL;
}

void *cpu_conv_last_open(const struct job *j)
{
    struct conv c = cpu_conv_of(j, 1);
    return onednn_conv_open(j->node->prepared, &c);
}

void cpu_conv_last(const struct job *j)
{
    onednn_conv_run(j->node->prepared, j->state, j->in[0]->data, j->out->data,
                    (size_t)j->in[0]->shape[0], j->scratch);
}
