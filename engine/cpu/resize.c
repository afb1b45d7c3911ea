// Resize and Upsample, axis by axis: each pixel of the answer is a sum of one, two or four of the axis, by
// weights that are the same for the whole axis. Source: onnx/onnx docs/Operators.md, Resize; Keys, "Cubic
// convolution interpolation", 1981, for the four.
#include "engine/cpu/cpu.h"

#include <math.h>

struct taps { // of one pixel of the answer
    int32_t at[4];
    float weight[4];
};

// ---- where a pixel comes from ------------------------------------------------------------------------

static float place_of(const struct resize *r, unsigned axis, int64_t in, int64_t x)
{
    float s = r->scale[axis], out = (float)r->out[axis], at = (float)x;
    switch (r->place) {
    case RESIZE_HALF_PIXEL:
        return (at + 0.5f) / s - 0.5f;
    case RESIZE_ASYMMETRIC:
        return at / s;
    case RESIZE_ALIGN_CORNERS: {
        float length = s * (float)in; // by the scale, which may not be a whole number of pixels
        return length > 1 ? at * (float)(in - 1) / (length - 1) : 0;
    }
    case RESIZE_PYTORCH:
        return r->out[axis] > 1 ? (at + 0.5f) / s - 0.5f : 0;
    case RESIZE_SYMMETRIC: {
        float center = (float)in / 2, adjustment = out / (s * (float)in);
        return center * (1 - adjustment) + (at + 0.5f) / s - 0.5f;
    }
    case RESIZE_TF_NEAREST:
        return (at + 0.5f) / s;
    }
    return 0;
}

static float nearest_place(const struct resize *r, float at)
{
    switch (r->rounding) {
    case RESIZE_PREFER_FLOOR:
        return ceilf(at - 0.5f);
    case RESIZE_PREFER_CEIL:
        return floorf(at + 0.5f);
    case RESIZE_FLOOR:
        return floorf(at);
    case RESIZE_CEIL:
        return ceilf(at);
    }
    return at;
}

// The weight of a pixel `d` away.
static float cubic_weight(float a, float d)
{
    d = fabsf(d);
    if (d <= 1)
        return ((a + 2) * d - (a + 3)) * d * d + 1;
    return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
}

static unsigned taps_of(const struct resize *r, unsigned axis, int64_t in, int64_t x,
                        struct taps *t)
{
    float at = place_of(r, axis, in, x), low = floorf(at), sum = 0;
    unsigned n = r->mode == RESIZE_NEAREST ? 1 : r->mode == RESIZE_LINEAR ? 2 : 4;
    float first = r->mode == RESIZE_NEAREST  ? nearest_place(r, at)
                  : r->mode == RESIZE_LINEAR ? low
                                             : low - 1;
    for (unsigned i = 0; i < n; i++) {
        int64_t k = (int64_t)first + i;
        t->weight[i] = n == 1   ? 1
                       : n == 2 ? 1 - fabsf(at - (float)k)
                                : cubic_weight(r->cubic, at - (float)k);
        if (n == 4 && r->exclude_outside && (k < 0 || k >= in))
            t->weight[i] = 0;
        t->at[i] = (int32_t)(k < 0 ? 0 : k >= in ? in - 1 : k);
        sum += t->weight[i];
    }
    for (unsigned i = 0; n == 4 && r->exclude_outside && i < n; i++)
        t->weight[i] /= sum;
    return n;
}

// ---- one axis ----------------------------------------------------------------------------------------

static void resize_axis(const float *x, float *y, size_t outer, int64_t in, int64_t out,
                        size_t inner, const struct taps *taps, unsigned n)
{
    for (size_t o = 0; o < outer; o++, x += (size_t)in * inner) {
        for (int64_t k = 0; k < out; k++, y += inner) {
            const struct taps *t = &taps[k];
            const float *a = x + (size_t)t->at[0] * inner;
            for (size_t i = 0; i < inner; i++)
                y[i] = n == 1 ? a[i] : t->weight[0] * a[i];
            for (unsigned m = 1; m < n; m++) {
                const float *b = x + (size_t)t->at[m] * inner;
                for (size_t i = 0; i < inner; i++)
                    y[i] += t->weight[m] * b[i];
            }
        }
    }
}

// An axis that stays as it is needs no pass, unless it moves all the same.
static bool axis_passes(const struct resize *r, const struct array *x, unsigned axis)
{
    return r->out[axis] != x->shape[axis] || r->scale[axis] != 1;
}

static size_t element_count(const int64_t *shape, unsigned rank)
{
    size_t n = 1;
    for (unsigned i = 0; i < rank; i++)
        n *= (size_t)shape[i];
    return n;
}

// The taps of the longest axis, and what each pass but the last gives.
size_t cpu_resize_scratch(const struct job *j)
{
    const struct array *x = j->in[0];
    struct resize r;
    struct engine_error e;
    int64_t shape[ENGINE_MAX_RANK], longest = 1;
    double bytes = 0; // between two axes there may be far more than at either end
    if (!resize_of(j, &r, &e))
        return 0; // the plan has asked the same and was answered
    memcpy(shape, x->shape, sizeof(shape));
    for (unsigned i = 0; i < x->rank; i++) {
        longest = r.out[i] > longest ? r.out[i] : longest;
        shape[i] = r.out[i];
        double n = sizeof(float);
        for (unsigned k = 0; k < x->rank; k++)
            n *= (double)shape[k];
        bytes += axis_passes(&r, x, i) ? n : 0;
    }
    bytes += (double)longest * sizeof(struct taps);
    return bytes < 1e18 ? (size_t)bytes : SIZE_MAX / 2; // past every limit
}

void cpu_resize(const struct job *j)
{
    const struct array *x = j->in[0];
    struct resize r;
    struct engine_error e;
    int64_t shape[ENGINE_MAX_RANK], longest = 1;
    if (!resize_of(j, &r, &e))
        return;
    memcpy(shape, x->shape, sizeof(shape));
    for (unsigned i = 0; i < x->rank; i++)
        longest = r.out[i] > longest ? r.out[i] : longest;
    struct taps *taps = j->scratch;
    float *aside = (float *)(void *)(taps + longest);
    const float *from = x->data;
    for (unsigned i = 0; i < x->rank; i++) {
        unsigned n = 1;
        if (!axis_passes(&r, x, i))
            continue;
        for (int64_t k = 0; k < r.out[i]; k++)
            n = taps_of(&r, i, x->shape[i], k, &taps[k]);
        size_t outer = element_count(shape, i),
               inner = element_count(shape + i + 1, x->rank - i - 1);
        resize_axis(from, aside, outer, shape[i], r.out[i], inner, taps, n);
        shape[i] = r.out[i];
        from = aside;
        aside += element_count(shape, x->rank);
    }
    memcpy(j->out->data, from, element_count(shape, x->rank) * sizeof(float));
}
