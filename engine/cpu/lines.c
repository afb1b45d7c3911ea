// Convolutions over one axis whose weights are constant: the weights are turned once, [depth, outs], so that a pixel is
// a row of a product. There are few pixels in a line and many channels, where a product by pixels would idle.
#include "engine/cpu/cpu.h"

struct turned_lines { // [groups][depth, step]
    float *w;
    size_t depth, outs, step; // of a group
};

bool cpu_conv_prepare(struct graph *g, struct node *n, struct engine_error *e)
{
    const struct value *v = &g->values[n->input[1]];
    const struct array *w = &v->array;
    int64_t groups = node_int(n, "group", 1);
    if (!v->constant || w->rank != 3 || w->dtype != ENGINE_F32 || groups < 1 ||
        w->shape[0] % groups != 0 || (w->shape[1] == 1 && w->shape[0] == groups))
        return true; // the other way, or refused there
    struct turned_lines *t = arena_alloc(&g->arena, sizeof(*t));
    if (!t)
        return engine_fail(e, "out of memory");
    t->depth = (size_t)(w->shape[1] * w->shape[2]);
    t->outs = (size_t)(w->shape[0] / groups);
    t->step = (t->outs + PRODUCT_PAD - 1) / PRODUCT_PAD * PRODUCT_PAD;
    size_t bytes;
    if (__builtin_mul_overflow((size_t)groups * t->depth * sizeof(float), t->step, &bytes))
        return engine_fail(e, "out of memory");
    if (!(t->w = graph_alloc(g, bytes, e)))
        return false;
    memset(t->w, 0, bytes);
    for (size_t o = 0; o < (size_t)w->shape[0]; o++) {
        float *to = t->w + o / t->outs * t->depth * t->step + o % t->outs;
        for (size_t d = 0; d < t->depth; d++)
            to[d * t->step] = ((const float *)w->data)[o * t->depth + d];
    }
    n->prepared = t;
    n->reads = 4; // the bias
    return true;
}

#define PIXELS 96 // that are rows at a time: they stay in the caches, with what they become

static size_t at_a_time(size_t pixels)
{
    return pixels < PIXELS ? pixels : PIXELS;
}

size_t cpu_lines_scratch(const struct job *j)
{
    const struct turned_lines *t = j->node->prepared;
    return at_a_time((size_t)j->out->shape[2]) * (t->depth + t->outs) * sizeof(float);
}

// What the kernel sees of each channel where it begins at `at`.
static float *row_of(const struct conv *c, const float *x, int64_t at, float *to)
{
    const struct window *w = &c->w;
    int64_t n = w->kernel[1], by = w->dilation[1], in = w->in[1];
    bool inside = at >= 0 && at + (n - 1) * by < in;
    for (int64_t ch = 0; ch < c->channels; ch++, x += in) {
        for (int64_t k = 0; inside && k < n; k++)
            *to++ = x[at + k * by];
        for (int64_t k = 0; !inside && k < n; k++)
            *to++ = at + k * by >= 0 && at + k * by < in ? x[at + k * by] : 0;
    }
    return to;
}

// One image's group: y[outs, pixels].
static void run_group(const struct turned_lines *t, const struct conv *c, const float *x,
                      const float *w, const float *bias, float *y, float *rows)
{
    size_t pixels = (size_t)c->w.out[1], most = at_a_time(pixels);
    float *turned = rows + most * t->depth;
    for (size_t first = 0, n; first < pixels; first += n) {
        float *to = rows;
        n = at_a_time(pixels - first);
        for (size_t p = first; p < first + n; p++)
            to = row_of(c, x, (int64_t)p * c->w.stride[1] - c->w.pad[1], to);
        struct product q = {.x = rows,
                            .w = w,
                            .y = turned,
                            .rows = n,
                            .depth = t->depth,
                            .cols = t->outs,
                            .x_step = t->depth,
                            .w_step = t->step,
                            .y_step = t->outs};
        cpu_product(&q);
        for (size_t o = 0; o < t->outs; o++) {
            float b = bias ? bias[o] : 0, *line = y + o * pixels + first;
            for (size_t i = 0; i < n; i++)
                line[i] = turned[i * t->outs + o] + b;
        }
    }
}

void cpu_lines(const struct job *j)
{
    const struct turned_lines *t = j->node->prepared;
    struct conv c = cpu_conv_of(j, 2);
    const float *bias = job_data(j, 2);
    const float *x = j->in[0]->data;
    float *y = j->out->data;
    for (int64_t n = 0; n < j->in[0]->shape[0] * c.groups; n++) {
        size_t group = (size_t)(n % c.groups);
        run_group(t, &c, x, t->w + group * t->depth * t->step, bias ? bias + group * t->outs : NULL,
                  y, j->scratch);
        x += c.channels * c.w.in[1];
        y += t->outs * (size_t)c.w.out[1];
    }
}
