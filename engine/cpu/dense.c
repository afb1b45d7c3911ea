// Gemm and MatMul: prepared once (weights as [depth, cols padded], bias padded), then one product.
#include "engine/cpu/cpu.h"

struct dense {
    float *w, *bias; // bias NULL: none
    size_t depth, cols, step;
};

static bool is_f32(const struct array *a)
{
    return a && a->dtype == ENGINE_F32;
}

static struct dense *dense_new(const struct array *w, bool transposed, float scale, struct arena *a)
{
    struct dense *d = arena_zalloc(a, sizeof(*d));
    if (!d)
        return NULL;
    d->depth = (size_t)w->shape[transposed ? 1 : 0];
    d->cols = (size_t)w->shape[transposed ? 0 : 1];
    d->step = (d->cols + PRODUCT_PAD - 1) / PRODUCT_PAD * PRODUCT_PAD;
    // Rows 1, 2, 4 KiB apart fall into few sets of the caches (1024 by 1024, 64 rows: half the time so).
    if (d->step > 0 && d->step % 256 == 0)
        d->step += PRODUCT_PAD;
    size_t bytes;
    if (__builtin_mul_overflow(d->depth * sizeof(float), d->step, &bytes))
        return NULL;
    d->w = arena_alloc_aligned(a, bytes ? bytes : 1, 64);
    if (!d->w)
        return NULL;
    memset(d->w, 0, bytes);
    const float *from = w->data;
    for (size_t k = 0; k < d->depth; k++) {
        for (size_t c = 0; c < d->cols; c++)
            d->w[k * d->step + c] =
                scale * (transposed ? from[c * d->depth + k] : from[k * d->cols + c]);
    }
    return d;
}

static void dense_run(const struct dense *d, const float *x, float *y, size_t rows, bool relu)
{
    struct product p = {.x = x,
                        .w = d->w,
                        .bias = d->bias,
                        .y = y,
                        .rows = rows,
                        .depth = d->depth,
                        .cols = d->cols,
                        .x_step = d->depth,
                        .w_step = d->step,
                        .y_step = d->cols,
                        .relu = relu,
                        .padded = true};
    cpu_product(&p);
}

// ---- Gemm: y = alpha x w + beta c --------------------------------------------------------------------

bool cpu_gemm_prepare(struct node *n, const struct array *const *constant, struct arena *a)
{
    const struct array *w = constant[1], *c = n->n_inputs > 2 ? constant[2] : NULL;
    if (!is_f32(w) || w->rank != 2 || node_int(n, "transA", 0) != 0)
        return true; // the plain way
    if (n->n_inputs > 2 && n->input[2] >= 0 && !is_f32(c))
        return true;
    bool transposed = node_int(n, "transB", 0) != 0;
    size_t cols = (size_t)w->shape[transposed ? 0 : 1], elements = 0;
    if (c && (!array_count(c, &elements) || (elements != cols && elements != 1) || c->rank > 2 ||
              (elements != 1 && c->shape[c->rank - 1] != (int64_t)cols)))
        return true;
    struct dense *d = dense_new(w, transposed, node_float(n, "alpha", 1), a);
    if (!d)
        return false;
    if (c) {
        d->bias = arena_alloc_aligned(a, d->step * sizeof(float), 64);
        if (!d->bias)
            return false;
        memset(d->bias, 0, d->step * sizeof(float));
        float beta = node_float(n, "beta", 1);
        for (size_t i = 0; i < cols; i++)
            d->bias[i] = beta * ((const float *)c->data)[elements == 1 ? 0 : i];
    }
    n->prepared = d;
    return true;
}

// x as [rows, depth] and w as [depth, cols], whatever the transposes say.
size_t cpu_gemm_scratch(const struct job *j)
{
    size_t x, w;
    if (j->node->prepared || !array_count(j->in[0], &x) || !array_count(j->in[1], &w))
        return 0;
    return (x + w) * sizeof(float);
}

static const float *straight(const struct array *a, bool transposed, float *scratch)
{
    size_t rows = (size_t)a->shape[1], cols = (size_t)a->shape[0];
    const float *from = a->data;
    if (!transposed)
        return from;
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < cols; c++)
            scratch[r * cols + c] = from[c * rows + r];
    }
    return scratch;
}

void cpu_gemm(const struct job *j)
{
    const struct node *n = j->node;
    size_t rows = (size_t)j->out->shape[0], cols = (size_t)j->out->shape[1];
    float *y = j->out->data;
    if (n->prepared) {
        dense_run(n->prepared, j->in[0]->data, y, rows, n->relu);
        return;
    }
    bool ta = node_int(n, "transA", 0) != 0, tb = node_int(n, "transB", 0) != 0;
    size_t depth = (size_t)j->in[0]->shape[ta ? 0 : 1], x_count;
    float alpha = node_float(n, "alpha", 1), beta = node_float(n, "beta", 1);
    float *scratch = j->scratch;
    if (!array_count(j->in[0], &x_count))
        return;
    struct product p = {.x = straight(j->in[0], ta, scratch),
                        .w = straight(j->in[1], tb, scratch + x_count),
                        .y = y,
                        .rows = rows,
                        .depth = depth,
                        .cols = cols,
                        .x_step = depth,
                        .w_step = cols,
                        .y_step = cols};
    cpu_product(&p);
    const struct array *c = n->n_inputs > 2 ? j->in[2] : NULL;
    for (size_t r = 0; r < rows; r++) {
        for (size_t i = 0; i < cols; i++) {
            float v = alpha * y[r * cols + i];
            if (c) {
                size_t cr = c->rank == 2 && c->shape[0] > 1 ? r : 0;
                size_t last = c->rank ? (size_t)c->shape[c->rank - 1] : 1;
                v += beta * ((const float *)c->data)[cr * last + (last > 1 ? i : 0)];
            }
            y[r * cols + i] = n->relu && v < 0 ? 0 : v;
        }
    }
}

// ---- MatMul ------------------------------------------------------------------------------------------

bool cpu_matmul_prepare(struct node *n, const struct array *const *constant, struct arena *a)
{
    if (!is_f32(constant[1]) || constant[1]->rank != 2)
        return true;
    n->prepared = dense_new(constant[1], false, 1, a);
    return n->prepared != NULL;
}

size_t cpu_matmul_scratch(const struct job *j)
{
    (void)j;
    return 0;
}

void cpu_matmul(const struct job *j)
{
    const struct array *x = j->in[0], *w = j->in[1], *y = j->out;
    size_t depth = (size_t)x->shape[x->rank - 1], rows = 1, matrices = 1;
    size_t cols = w->rank > 1 ? (size_t)w->shape[w->rank - 1] : 1;
    if (j->node->prepared) { // all leading dimensions are rows
        for (unsigned i = 0; i + 1 < x->rank; i++)
            rows *= (size_t)x->shape[i];
        dense_run(j->node->prepared, x->data, y->data, rows, j->node->relu);
        return;
    }
    rows = x->rank > 1 ? (size_t)x->shape[x->rank - 2] : 1;
    for (unsigned i = 0; i + 2 < y->rank; i++)
        matrices *= (size_t)y->shape[i];
    size_t w_size = w->rank > 2 ? depth * cols : 0, x_size = x->rank > 2 ? rows * depth : 0;
    for (size_t m = 0; m < matrices;
         m++) { // shape_matmul has seen that the leading dimensions agree
        struct product p = {.x = (const float *)x->data + m * x_size,
                            .w = (const float *)w->data + m * w_size,
                            .y = (float *)y->data + m * rows * cols,
                            .rows = rows,
                            .depth = depth,
                            .cols = cols,
                            .x_step = depth,
                            .w_step = cols,
                            .y_step = cols,
                            .relu = j->node->relu};
        cpu_product(&p);
    }
}
