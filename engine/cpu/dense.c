// Gemm and MatMul: prepared once (weights as [depth, cols padded], bias padded), then one product.
#include "engine/cpu/cpu.h"

struct dense_weights { // shared by all nodes that want a constant this way
    float *w;
    size_t depth, cols, step;
};

struct dense {
    const struct dense_weights *weights;
    float *bias; // NULL: none
};

static bool is_f32(const struct array *a)
{
    return a && a->dtype == ENGINE_F32;
}

static bool pack(struct graph *g, const struct array *w, bool transposed, float scale,
                 struct dense_weights *d, struct engine_error *e)
{
    d->depth = (size_t)w->shape[transposed ? 1 : 0];
    d->cols = (size_t)w->shape[transposed ? 0 : 1];
    d->step = (d->cols + PRODUCT_PAD - 1) / PRODUCT_PAD * PRODUCT_PAD;
    // Rows 1, 2, 4 KiB apart fall into few sets of the caches (1024 by 1024, 64 rows: half the time so).
    if (d->step > 0 && d->step % 256 == 0)
        d->step += PRODUCT_PAD;
    size_t bytes;
    if (__builtin_mul_overflow(d->depth * sizeof(float), d->step, &bytes))
        return engine_fail(e, "out of memory");
    d->w = graph_alloc(g, bytes, e);
    if (!d->w)
        return false;
    memset(d->w, 0, bytes);
    const float *from = w->data;
    for (size_t k = 0; k < d->depth; k++) {
        for (size_t c = 0; c < d->cols; c++)
            d->w[k * d->step + c] =
                scale * (transposed ? from[c * d->depth + k] : from[k * d->cols + c]);
    }
    return true;
}

static uint64_t variant_of(bool transposed, float scale)
{
    uint32_t bits;
    memcpy(&bits, &scale, sizeof(bits));
    return (uint64_t)transposed << 32 | bits;
}

static const struct dense_weights *weights_of(struct graph *g, int32_t value, bool transposed,
                                              float scale, struct engine_error *e)
{
    uint64_t variant = variant_of(transposed, scale);
    for (const struct packed *p = g->packed; p; p = p->next) {
        if (p->value == value && p->variant == variant)
            return p->data;
    }
    struct packed *p = arena_alloc(&g->arena, sizeof(*p));
    struct dense_weights *d = arena_alloc(&g->arena, sizeof(*d));
    if (!p || !d) {
        engine_fail(e, "out of memory");
        return NULL;
    }
    if (!pack(g, &g->values[value].array, transposed, scale, d, e))
        return NULL;
    *p = (struct packed){.next = g->packed, .value = value, .variant = variant, .data = d};
    g->packed = p;
    return d;
}

// What n->prepared becomes; without a bias. NULL with e.
static struct dense *dense_new(struct graph *g, int32_t value, bool transposed, float scale,
                               struct engine_error *e)
{
    const struct dense_weights *w = weights_of(g, value, transposed, scale, e);
    struct dense *d = w ? arena_zalloc(&g->arena, sizeof(*d)) : NULL;
    if (d)
        d->weights = w;
    else if (w)
        engine_fail(e, "out of memory");
    return d;
}

static void dense_run(const struct dense *d, const float *x, float *y, size_t rows, bool relu)
{
    const struct dense_weights *w = d->weights;
    struct product p = {.x = x,
                        .w = w->w,
                        .bias = d->bias,
                        .y = y,
                        .rows = rows,
                        .depth = w->depth,
                        .cols = w->cols,
                        .x_step = w->depth,
                        .w_step = w->step,
                        .y_step = w->cols,
                        .relu = relu,
                        .padded = true};
    cpu_product(&p);
}

// ---- Gemm: y = alpha x w + beta c --------------------------------------------------------------------

// One number, or one a column.
static bool is_bias(const struct array *c, size_t cols)
{
    size_t n = 0;
    if (!array_count(c, &n) || c->rank > 2)
        return false;
    return n == 1 || (n == cols && c->shape[c->rank - 1] == (int64_t)cols);
}

static float *bias_of(struct graph *g, const struct dense_weights *w, const struct array *c,
                      float beta, struct engine_error *e)
{
    float *bias = graph_alloc(g, w->step * sizeof(*bias), e);
    size_t n = 0;
    if (!bias || !array_count(c, &n))
        return NULL;
    memset(bias, 0, w->step * sizeof(*bias));
    for (size_t i = 0; i < w->cols; i++)
        bias[i] = beta * ((const float *)c->data)[n == 1 ? 0 : i];
    return bias;
}

bool cpu_gemm_prepare(struct graph *g, struct node *n, struct engine_error *e)
{
    const struct array *w = node_constant(g, n, 1), *c = node_constant(g, n, 2);
    bool transposed = node_int(n, "transB", 0) != 0;
    if (!is_f32(w) || w->rank != 2 || node_int(n, "transA", 0) != 0)
        return true; // the plain way
    if (n->n_inputs > 2 && n->input[2] >= 0 &&
        (!is_f32(c) || !is_bias(c, (size_t)w->shape[transposed ? 0 : 1])))
        return true;
    struct dense *d = dense_new(g, n->input[1], transposed, node_float(n, "alpha", 1), e);
    if (!d)
        return false;
    if (c) {
        d->bias = bias_of(g, d->weights, c, node_float(n, "beta", 1), e);
        if (!d->bias)
            return false;
    }
    n->prepared = d;
    return true;
}

// x as [rows, depth] and w as [depth, cols], whatever the transposes say.
size_t cpu_gemm_scratch(const struct job *j)
{
    size_t x, w;
    if (j->node->prepared || j->out->dtype == ENGINE_F64 || !array_count(j->in[0], &x) ||
        !array_count(j->in[1], &w))
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

// Where c's element for row r and column i stands.
static size_t addend_place(const struct array *c, size_t r, size_t i)
{
    size_t last = c->rank ? (size_t)c->shape[c->rank - 1] : 1;
    return (c->rank == 2 && c->shape[0] > 1 ? r * last : 0) + (last > 1 ? i : 0);
}

static void gemm_f64(const struct job *j)
{
    const struct node *n = j->node;
    const struct array *a = j->in[0], *b = j->in[1], *c = job_input(j, 2);
    bool ta = node_int(n, "transA", 0) != 0, tb = node_int(n, "transB", 0) != 0;
    size_t rows = (size_t)j->out->shape[0], cols = (size_t)j->out->shape[1];
    size_t depth = (size_t)a->shape[ta ? 0 : 1];
    double alpha = (double)node_float(n, "alpha", 1), beta = (double)node_float(n, "beta", 1);
    const double *x = a->data, *w = b->data;
    double *y = j->out->data;
    for (size_t r = 0; r < rows; r++) {
        for (size_t i = 0; i < cols; i++) {
            double sum = 0;
            for (size_t k = 0; k < depth; k++)
                sum += x[ta ? k * rows + r : r * depth + k] * w[tb ? i * depth + k : k * cols + i];
            sum *= alpha;
            if (c)
                sum += beta * ((const double *)c->data)[addend_place(c, r, i)];
            y[r * cols + i] = n->relu && sum < 0 ? 0 : sum;
        }
    }
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
    if (j->out->dtype == ENGINE_F64) {
        gemm_f64(j);
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
            if (c)
                v += beta * ((const float *)c->data)[addend_place(c, r, i)];
            y[r * cols + i] = n->relu && v < 0 ? 0 : v;
        }
    }
}

// ---- MatMul ------------------------------------------------------------------------------------------

bool cpu_matmul_prepare(struct graph *g, struct node *n, struct engine_error *e)
{
    const struct array *w = node_constant(g, n, 1);
    if (!is_f32(w) || w->rank != 2)
        return true;
    n->prepared = dense_new(g, n->input[1], false, 1, e);
    return n->prepared != NULL;
}

#define MULTIPLY(T, U)                                                                             \
    for (int64_t r = 0; r < m->rows; r++) {                                                        \
        for (int64_t c = 0; c < m->cols; c++) {                                                    \
            U sum = 0;                                                                             \
            for (int64_t k = 0; k < m->depth; k++)                                                 \
                sum += (U)((const T *)a)[r * m->depth + k] * (U)((const T *)b)[k * m->cols + c];   \
            ((T *)y)[r * m->cols + c] = (T)sum;                                                    \
        }                                                                                          \
    }

static void multiply(const struct matmul *m, enum engine_dtype d, const void *a, const void *b,
                     void *y)
{
    if (d == ENGINE_F64)
        MULTIPLY(double, double)
    else if (d == ENGINE_I32 || d == ENGINE_U32)
        MULTIPLY(uint32_t, uint32_t)
    else
        MULTIPLY(uint64_t, uint64_t)
}

static void multiply_f32(const struct matmul *m, const float *a, const float *b, float *y)
{
    size_t depth = (size_t)m->depth, cols = (size_t)m->cols;
    struct product p = {.x = a,
                        .w = b,
                        .y = y,
                        .rows = (size_t)m->rows,
                        .depth = depth,
                        .cols = cols,
                        .x_step = depth,
                        .w_step = cols,
                        .y_step = cols};
    cpu_product(&p);
}

static void matmul_each(const struct job *j, const struct matmul *m)
{
    enum engine_dtype d = j->out->dtype;
    size_t size = dtype_bytes(d);
    for (int64_t i = 0; i < m->batch; i++) {
        int64_t a, b;
        matmul_place(m, i, &a, &b);
        const char *x = (const char *)j->in[0]->data + (size_t)a * size;
        const char *w = (const char *)j->in[1]->data + (size_t)b * size;
        char *y = (char *)j->out->data + (size_t)(i * m->rows * m->cols) * size;
        if (d == ENGINE_F32)
            multiply_f32(m, (const float *)(const void *)x, (const float *)(const void *)w,
                         (float *)(void *)y);
        else
            multiply(m, d, x, w, y);
    }
}

void cpu_matmul(const struct job *j)
{
    const struct array *x = j->in[0];
    struct matmul m;
    struct engine_error e;
    if (j->node->prepared) { // all leading dimensions are rows
        size_t rows = count_between(x, 0, x->rank - 1);
        dense_run(j->node->prepared, x->data, j->out->data, rows, j->node->relu);
        return;
    }
    if (!matmul_of(j, x, j->in[1], &m, &e))
        return; // the plan has asked the same and was answered
    matmul_each(j, &m);
    if (j->node->relu)
        cpu_relu(&(struct job){.node = j->node, .in = {j->out}, .out = j->out});
}
