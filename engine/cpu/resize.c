// Resize and Upsample, axis by axis: each pixel of the answer is a sum of one, two or four of the axis, or, with antialias
// where it becomes shorter, of as many as fall together, by weights that are the same for the whole axis. Source: onnx/onnx docs/Operators.md, Resize; Keys, "Cubic
// convolution interpolation", 1981, for the four.
#include "engine/cpu/cpu.h"

#include <math.h>

struct tap { // one of those that a pixel of the answer is a sum of
    int32_t at;
    float weight;
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

// How much a filter is stretched so that it sees all pixels that become one: 1 or less.
static float stretch_of(const struct resize *r, unsigned axis)
{
    return r->antialias && r->scale[axis] < 1 ? r->scale[axis] : 1;
}

// Taps of each pixel along the axis.
static double taps_along(const struct resize *r, unsigned axis)
{
    if (r->mode == RESIZE_NEAREST)
        return 1;
    return 2 * ceil((r->mode == RESIZE_LINEAR ? 1 : 2) / (double)stretch_of(r, axis));
}

static float weight_of(const struct resize *r, float distance)
{
    if (r->mode == RESIZE_NEAREST)
        return 1;
    if (r->mode == RESIZE_CUBIC)
        return cubic_weight(r->cubic, distance);
    return fabsf(distance) < 1 ? 1 - fabsf(distance) : 0;
}

// Those of pixel x, n of them.
static void taps_of(const struct resize *r, unsigned axis, int64_t in, int64_t x, int64_t n,
                    struct tap *t)
{
    float at = place_of(r, axis, in, x), stretch = stretch_of(r, axis), sum = 0;
    int64_t first =
        r->mode == RESIZE_NEAREST ? (int64_t)nearest_place(r, at) : (int64_t)floorf(at) + 1 - n / 2;
    bool excludes = r->mode == RESIZE_CUBIC && r->exclude_outside;
    for (int64_t i = 0; i < n; i++) {
        int64_t k = first + i;
        t[i].weight = weight_of(r, (at - (float)k) * stretch);
        if ((excludes || (stretch < 1 && r->exclude_outside)) && (k < 0 || k >= in))
            t[i].weight = 0;
        t[i].at = (int32_t)(k < 0 ? 0 : k >= in ? in - 1 : k);
        sum += t[i].weight;
    }
    for (int64_t i = 0; n > 1 && (excludes || stretch < 1) && i < n; i++)
        t[i].weight /= sum;
}

// ---- one axis ----------------------------------------------------------------------------------------

static void resize_axis(const float *x, float *y, size_t outer, int64_t in, int64_t out,
                        size_t inner, const struct tap *taps, size_t n)
{
    for (size_t o = 0; o < outer; o++, x += (size_t)in * inner) {
        for (int64_t k = 0; k < out; k++, y += inner) {
            const struct tap *t = taps + (size_t)k * n;
            const float *a = x + (size_t)t[0].at * inner;
            for (size_t i = 0; i < inner; i++)
                y[i] = n == 1 ? a[i] : t[0].weight * a[i];
            for (size_t m = 1; m < n; m++) {
                const float *b = x + (size_t)t[m].at * inner;
                for (size_t i = 0; i < inner; i++)
                    y[i] += t[m].weight * b[i];
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

// The taps of the axis that has most.
static double most_taps(const struct resize *r, unsigned rank)
{
    double most = 1;
    for (unsigned i = 0; i < rank; i++) {
        double n = taps_along(r, i) * (double)r->out[i];
        most = n > most ? n : most;
    }
    return most;
}

// Those taps, and what each pass but the last gives.
size_t cpu_resize_scratch(const struct job *j)
{
    const struct array *x = j->in[0];
    struct resize r;
    struct engine_error e;
    int64_t shape[ENGINE_MAX_RANK];
    double bytes = 0; // between two axes there may be far more than at either end
    if (!resize_of(j, &r, &e))
        return 0; // the plan has asked the same and was answered
    memcpy(shape, x->shape, sizeof(shape));
    for (unsigned i = 0; i < x->rank; i++) {
        shape[i] = r.out[i];
        double n = sizeof(float);
        for (unsigned k = 0; k < x->rank; k++)
            n *= (double)shape[k];
        bytes += axis_passes(&r, x, i) ? n : 0;
    }
    bytes += most_taps(&r, x->rank) * sizeof(struct tap);
    return bytes < 1e18 ? (size_t)bytes : SIZE_MAX / 2; // past every limit
}

void cpu_resize(const struct job *j)
{
    const struct array *x = j->in[0];
    struct resize r;
    struct engine_error e;
    int64_t shape[ENGINE_MAX_RANK];
    if (!resize_of(j, &r, &e))
        return;
    memcpy(shape, x->shape, sizeof(shape));
    struct tap *taps = j->scratch;
    float *aside = (float *)(void *)(taps + (size_t)most_taps(&r, x->rank));
    const float *from = x->data;
    for (unsigned i = 0; i < x->rank; i++) {
        size_t n = (size_t)taps_along(&r, i);
        if (!axis_passes(&r, x, i))
            continue;
        for (int64_t k = 0; k < r.out[i]; k++)
            taps_of(&r, i, x->shape[i], k, (int64_t)n, taps + (size_t)k * n);
        size_t outer = element_count(shape, i),
               inner = element_count(shape + i + 1, x->rank - i - 1);
        resize_axis(from, aside, outer, shape[i], r.out[i], inner, taps, n);
        shape[i] = r.out[i];
        from = aside;
        aside += element_count(shape, x->rank);
    }
    memcpy(j->out->data, from, element_count(shape, x->rank) * sizeof(float));
}
