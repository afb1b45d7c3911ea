// What looks into images between pixels: GridSample, AffineGrid, RoiAlign. Float32.
#include "engine/cpu/cpu.h"

#include <math.h>

// ---- GridSample --------------------------------------------------------------------------------------

struct image { // of one channel, `axes` sides
    const float *x;
    unsigned axes;
    const int64_t *sides;
};

static float reflect(float v, float low, float high)
{
    float range = high - low, apart = v < low ? low - v : v - high;
    if (v >= low && v <= high)
        return v;
    if (range <= 0)
        return low;
    float times = floorf(apart / range), rest = apart - times * range;
    bool even = fmodf(times, 2) == 0;
    return (v < low) == even ? low + rest : high - rest;
}

// The pixel along one axis that place i stands for; -1: none, a zero.
static int64_t pixel_of(const struct grid *g, int64_t i, int64_t side)
{
    if (i >= 0 && i < side)
        return i;
    if (g->pad == GRID_ZEROS)
        return -1;
    if (g->pad == GRID_BORDER)
        return i < 0 ? 0 : side - 1;
    float low = g->corners ? 0 : -0.5f, high = (float)side - (g->corners ? 1 : 0.5f);
    int64_t k = (int64_t)reflect((float)i, low, high);
    return k < 0 ? 0 : k >= side ? side - 1 : k;
}

// -1 to 1 as a place among `side` pixels, inside as far as the padding says. What is not a number is outside.
static float place_in(const struct grid *g, float v, int64_t side)
{
    float n = (float)side, x = g->corners ? (v + 1) / 2 * (n - 1) : ((v + 1) * n - 1) / 2;
    float low = g->corners ? 0 : -0.5f, high = n - (g->corners ? 1 : 0.5f);
    x = x > -1e8f ? (x < 1e8f ? x : 1e8f) : -1e8f;
    if (g->mode == GRID_NEAREST)
        x = rintf(x);
    if (x >= low && x <= high)
        return x;
    if (g->pad == GRID_BORDER)
        return x < 0 ? 0 : n - 1 < x ? n - 1 : x;
    return g->pad == GRID_REFLECTION ? reflect(x, low, high) : x;
}

// Of the taps around a place, `taps` along each axis: their weights.
static unsigned taps_of(enum grid_mode mode, float x, float *weight, int64_t *first)
{
    const float a = -0.75f;
    float at = floorf(x), t = x - at;
    if (mode == GRID_NEAREST) {
        *first = (int64_t)x;
        weight[0] = 1;
        return 1;
    }
    if (mode == GRID_LINEAR) {
        *first = (int64_t)at;
        weight[0] = 1 - t;
        weight[1] = t;
        return 2;
    }
    *first = (int64_t)at -
             1; // Keys, "Cubic convolution interpolation for digital image processing", 1981
    weight[0] = ((a * (t + 1) - 5 * a) * (t + 1) + 8 * a) * (t + 1) - 4 * a;
    weight[1] = ((a + 2) * t - (a + 3)) * t * t + 1;
    weight[2] = ((a + 2) * (1 - t) - (a + 3)) * (1 - t) * (1 - t) + 1;
    weight[3] = ((a * (2 - t) - 5 * a) * (2 - t) + 8 * a) * (2 - t) - 4 * a;
    return 4;
}

// The grid names its last axis first.
static float sample(const struct grid *g, const struct image *m, const float *at)
{
    float weight[3][4], sum = 0;
    int64_t first[3];
    unsigned taps = 1, all = 1;
    for (unsigned i = 0; i < m->axes; i++) {
        float x = place_in(g, at[m->axes - 1 - i], m->sides[i]);
        taps = taps_of(g->mode, x, weight[i], &first[i]);
        all *= taps;
    }
    for (unsigned t = 0; t < all; t++) {
        unsigned rest = t, each[3] = {0};
        float w = 1;
        int64_t pixel = 0;
        for (unsigned i = m->axes; i-- > 0; rest /= taps)
            each[i] = rest % taps;
        for (unsigned i = 0; i < m->axes && pixel >= 0; i++) {
            int64_t p = pixel_of(g, first[i] + each[i], m->sides[i]);
            w *= weight[i][each[i]];
            pixel = p < 0 ? -1 : pixel * m->sides[i] + p;
        }
        sum += pixel < 0 ? 0 : w * m->x[pixel];
    }
    return sum;
}

void cpu_grid_sample(const struct job *j)
{
    const struct array *x = j->in[0], *grid = j->in[1];
    unsigned axes = x->rank - 2;
    size_t pixels = 1, places = 1;
    struct grid g;
    float *y = j->out->data;
    grid_of(j->node, &g);
    for (unsigned i = 0; i < axes; i++) {
        pixels *= (size_t)x->shape[2 + i];
        places *= (size_t)grid->shape[1 + i];
    }
    for (int64_t n = 0; n < x->shape[0]; n++) {
        const float *at = (const float *)grid->data + (size_t)n * places * axes;
        for (int64_t c = 0; c < x->shape[1]; c++) {
            struct image m = {(const float *)x->data + (size_t)(n * x->shape[1] + c) * pixels, axes,
                              x->shape + 2};
            for (size_t p = 0; p < places; p++)
                *y++ = sample(&g, &m, at + p * axes);
        }
    }
}

// ---- AffineGrid --------------------------------------------------------------------------------------

void cpu_affine_grid(const struct job *j)
{
    const int64_t *size = j->in[1]->data;
    unsigned axes = j->out->rank - 2;
    bool corners = node_int(j->node, "align_corners", 0) != 0;
    size_t places = 1;
    float *y = j->out->data;
    for (unsigned i = 0; i < axes; i++)
        places *= (size_t)size[2 + i];
    for (int64_t n = 0; n < size[0]; n++) {
        const float *theta = (const float *)j->in[0]->data + n * axes * (axes + 1);
        for (size_t p = 0; p < places; p++) {
            float at[3] = {0};
            size_t rest = p;
            for (unsigned i = axes; i-- > 0; rest /= (size_t)size[2 + i]) {
                float k = (float)(rest % (size_t)size[2 + i]), side = (float)size[2 + i];
                // The first number is the last axis'.
                at[axes - 1 - i] =
                    corners ? (side > 1 ? 2 * k / (side - 1) - 1 : 0) : (2 * k + 1) / side - 1;
            }
            for (unsigned r = 0; r < axes; r++) {
                float sum = theta[r * (axes + 1) + axes];
                for (unsigned c = 0; c < axes; c++)
                    sum += theta[r * (axes + 1) + c] * at[c];
                *y++ = sum;
            }
        }
    }
}

// ---- RoiAlign ----------------------------------------------------------------------------------------

static float between(const float *x, int64_t h, int64_t w, float y, float at)
{
    if (!(y >= -1 && y <= (float)h && at >= -1 && at <= (float)w))
        return 0;
    y = y > 0 ? y : 0;
    at = at > 0 ? at : 0;
    int64_t y0 = (int64_t)y, x0 = (int64_t)at;
    if (y0 >= h - 1) {
        y0 = h - 1;
        y = (float)y0;
    }
    if (x0 >= w - 1) {
        x0 = w - 1;
        at = (float)x0;
    }
    int64_t y1 = y0 + (y0 < h - 1), x1 = x0 + (x0 < w - 1);
    float ly = y - (float)y0, lx = at - (float)x0;
    return (1 - ly) * ((1 - lx) * x[y0 * w + x0] + lx * x[y0 * w + x1]) +
           ly * ((1 - lx) * x[y1 * w + x0] + lx * x[y1 * w + x1]);
}

#define ROI_LOOKS 4096 // of one answer: what a region asks for is bounded

struct region {
    float y, x, bin_h, bin_w; // where it begins; of one answer
    int64_t rows, cols;       // looks in each
};

static struct region region_of(const struct job *j, const float *roi)
{
    const struct attr *how = node_attr(j->node, "coordinate_transformation_mode");
    bool half = how ? view_is(how->s, "half_pixel") : j->node->opset >= 16;
    float scale = node_float(j->node, "spatial_scale", 1), shift = half ? 0.5f : 0;
    int64_t ratio = node_int(j->node, "sampling_ratio", 0);
    float x0 = roi[0] * scale - shift, y0 = roi[1] * scale - shift;
    float w = roi[2] * scale - shift - x0, h = roi[3] * scale - shift - y0;
    if (!half) {
        w = w > 1 ? w : 1;
        h = h > 1 ? h : 1;
    }
    struct region r = {y0,    x0,   h / (float)j->out->shape[2], w / (float)j->out->shape[3],
                       ratio, ratio};
    if (ratio == 0) { // as many as pixels; a region may be as large as its numbers say
        r.rows = (int64_t)fminf(fmaxf(ceilf(r.bin_h), 0), 4096);
        r.cols = (int64_t)fminf(fmaxf(ceilf(r.bin_w), 0), 4096);
    }
    return r;
}

static float region_mean(const struct region *r, const float *x, int64_t h, int64_t w, int64_t oy,
                         int64_t ox)
{
    float sum = 0;
    int64_t count = r->rows * r->cols;
    for (int64_t iy = 0; iy < r->rows; iy++) {
        float y = r->y + (float)oy * r->bin_h + ((float)iy + 0.5f) * r->bin_h / (float)r->rows;
        for (int64_t ix = 0; ix < r->cols; ix++)
            sum += between(x, h, w, y,
                           r->x + (float)ox * r->bin_w +
                               ((float)ix + 0.5f) * r->bin_w / (float)r->cols);
    }
    return sum / (float)(count > 0 ? count : 1);
}

void cpu_roi_align(const struct job *j)
{
    const int64_t *s = j->in[0]->shape, *o = j->out->shape;
    float *y = j->out->data;
    for (int64_t n = 0; n < o[0]; n++) {
        int64_t image = ((const int64_t *)j->in[2]->data)[n];
        struct region r = region_of(j, (const float *)j->in[1]->data + 4 * n);
        if (image < 0 || image >= s[0]) {
            *j->failure = "an image's number is out of range";
            return;
        }
        if (r.rows * r.cols > ROI_LOOKS) {
            *j->failure = "a region is too large";
            return;
        }
        for (int64_t c = 0; c < o[1]; c++) {
            const float *x = (const float *)j->in[0]->data + (image * s[1] + c) * s[2] * s[3];
            for (int64_t i = 0; i < o[2] * o[3]; i++)
                *y++ = region_mean(&r, x, s[2], s[3], i / o[3], i % o[3]);
        }
    }
}
