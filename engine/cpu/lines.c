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

// A group's pixels as rows, and what they become.
size_t cpu_lines_scratch(const struct job *j)
{
    const struct turned_lines *t = j->node->prepared;
    return (size_t)j->out->shape[2] * (t->depth + t->outs) * sizeof(float);
}

// Row p: the kernel's elements of each channel where it stands for pixel p.
static void rows_of(const struct conv *c, const float *x, float *to)
{
    const struct window *w = &c->w;
    for (int64_t p = 0; p < w->out[1]; p++) {
        int64_t at = p * w->stride[1] - w->pad[1];
        for (int64_t ch = 0; ch < c->channels; ch++) {
            const float *line = x + ch * w->in[1];
            for (int64_t k = 0; k < w->kernel[1]; k++) {
                int64_t i = at + k * w->dilation[1];
                *to++ = i >= 0 && i < w->in[1] ? line[i] : 0;
            }
        }
    }
}

void cpu_lines(const struct job *j)
{
    const struct turned_lines *t = j->node->prepared;
    struct conv c = cpu_conv_of(j, 2);
    const float *bias = j->node->n_inputs > 2 && j->in[2] ? j->in[2]->data : NULL;
    size_t pixels = (size_t)c.w.out[1];
    float *rows = j->scratch, *turned = rows + pixels * t->depth, *y = j->out->data;
    for (int64_t n = 0; n < j->in[0]->shape[0] * c.groups; n++, y += t->outs * pixels) {
        size_t group = (size_t)(n % c.groups);
        struct product p = {.x = rows,
                            .w = t->w + group * t->depth * t->step,
                            .y = turned,
                            .rows = pixels,
                            .depth = t->depth,
                            .cols = t->outs,
                            .x_step = t->depth,
                            .w_step = t->step,
                            .y_step = t->outs};
        rows_of(&c, (const float *)j->in[0]->data + n * c.channels * c.w.in[1], rows);
        cpu_product(&p);
        for (size_t o = 0; o < t->outs; o++) {
            float b = bias ? bias[group * t->outs + o] : 0;
            for (size_t i = 0; i < pixels; i++)
                y[o * pixels + i] = turned[i * t->outs + o] + b;
        }
    }
}
