// ConvTranspose: a product of the image's pixels with the weights, then each pixel's patch is added where it
// belongs in the answer. NCHW.
#include "engine/cpu/cpu.h"

static struct window transposed_window(const struct job *j)
{
    struct window w;
    struct engine_error e;
    memset(&w, 0, sizeof(w));
    transposed_of(j, &w, &e); // the plan has asked the same and was answered
    return w;
}

// Pixels turned, [pixels, channels of a group], and patches, [pixels, outs of a group x kernel].
size_t cpu_conv_transpose_scratch(const struct job *j)
{
    if (j->in[0]->rank > 4)
        return 0;
    struct window w = transposed_window(j);
    const int64_t *k = j->in[1]->shape;
    double pixels = (double)w.in[0] * (double)w.in[1];
    double each = (double)(k[0] / node_int(j->node, "group", 1)) +
                  (double)k[1] * (double)w.kernel[0] * (double)w.kernel[1];
    double bytes = pixels * each * sizeof(float);
    return bytes < 1e18 ? (size_t)bytes : SIZE_MAX / 2; // past every limit
}

static void turn_pixels(const float *x, float *to, size_t channels, size_t pixels)
{
    for (size_t p = 0; p < pixels; p++) {
        for (size_t c = 0; c < channels; c++)
            *to++ = x[c * pixels + p];
    }
}

// The patches of one channel of the answer; `step` from one pixel's to the next one's.
static void add_patches(const struct window *w, const float *patches, size_t step, float *y)
{
    for (int64_t iy = 0; iy < w->in[0]; iy++) {
        for (int64_t ix = 0; ix < w->in[1]; ix++, patches += step) {
            for (int64_t ky = 0; ky < w->kernel[0]; ky++) {
                int64_t oy = iy * w->stride[0] - w->pad[0] + ky * w->dilation[0];
                if (oy < 0 || oy >= w->out[0])
                    continue;
                for (int64_t kx = 0; kx < w->kernel[1]; kx++) {
                    int64_t ox = ix * w->stride[1] - w->pad[1] + kx * w->dilation[1];
                    if (ox >= 0 && ox < w->out[1])
                        y[oy * w->out[1] + ox] += patches[ky * w->kernel[1] + kx];
                }
            }
        }
    }
}

static void transposed_group(const struct window *w, const float *x, const float *weights,
                             const float *bias, float *y, float *scratch, size_t channels,
                             size_t outs)
{
    size_t pixels = (size_t)(w->in[0] * w->in[1]), kernel = (size_t)(w->kernel[0] * w->kernel[1]);
    size_t plane = (size_t)(w->out[0] * w->out[1]), step = outs * kernel;
    float *patches = scratch + pixels * channels;
    turn_pixels(x, scratch, channels, pixels);
    struct product p = {.x = scratch,
                        .w = weights,
                        .y = patches,
                        .rows = pixels,
                        .depth = channels,
                        .cols = step,
                        .x_step = channels,
                        .w_step = step,
                        .y_step = step};
    cpu_product(&p);
    for (size_t o = 0; o < outs; o++, y += plane) {
        for (size_t i = 0; i < plane; i++)
            y[i] = bias ? bias[o] : 0;
        add_patches(w, patches + o * kernel, step, y);
    }
}

void cpu_conv_transpose(const struct job *j)
{
    if (j->in[0]->rank > 4) {
        cpu_conv_transpose_any(j);
        return;
    }
    struct window w = transposed_window(j);
    const struct array *x = j->in[0], *k = j->in[1];
    int64_t groups = node_int(j->node, "group", 1);
    size_t channels = (size_t)(k->shape[0] / groups), outs = (size_t)k->shape[1];
    size_t image = channels * (size_t)(w.in[0] * w.in[1]);
    size_t answer = outs * (size_t)(w.out[0] * w.out[1]);
    size_t weights = channels * outs * (size_t)(w.kernel[0] * w.kernel[1]);
    const float *bias = job_data(j, 2);
    for (int64_t n = 0; n < x->shape[0] * groups; n++) {
        size_t g = (size_t)(n % groups);
        transposed_group(&w, (const float *)x->data + (size_t)n * image,
                         (const float *)k->data + g * weights, bias ? bias + g * outs : NULL,
                         (float *)j->out->data + (size_t)n * answer, j->scratch, channels, outs);
    }
}
