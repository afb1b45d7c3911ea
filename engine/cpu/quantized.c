// Whole-number arithmetic that stands for floats. Sums are exact, in int32 as the standard has them; then one
// rounding, to the nearest, to even ones where two are.
#include "engine/cpu/broadcast.h"
#include "engine/cpu/bytes.h"
#include "engine/cpu/bytes_conv.h"
#include "engine/cpu/cpu.h"
#include "engine/cpu/window_any.h"
#include "engine/small.h"

#include <math.h>

// Element i of whole numbers and small floats; of one element: that one; NULL: 0.
static float number_at(const struct array *a, size_t i)
{
    if (!a || !dtype_is_small_float(a->dtype))
        return (float)bytes_at(a, i);
    return (float)small_value(a->dtype, ((const uint8_t *)a->data)[count_all(a) == 1 ? 0 : i]);
}

static float scale_at(const struct array *a, size_t i)
{
    return ((const float *)a->data)[count_all(a) == 1 ? 0 : i];
}

// v is rounded, zero is added; held to what the datatype has. What is not a number is the lowest.
static void put_whole(struct array *y, size_t i, float v, int32_t zero)
{
    static const struct {
        float low, high;
    } ends[ENGINE_DTYPES] = {
        [ENGINE_U8] = {0, 255},    [ENGINE_I8] = {-128, 127},     [ENGINE_U4] = {0, 15},
        [ENGINE_I4] = {-8, 7},     [ENGINE_U2] = {0, 3},          [ENGINE_I2] = {-2, 1},
        [ENGINE_U16] = {0, 65535}, [ENGINE_I16] = {-32768, 32767}};
    float low = ends[y->dtype].low, high = ends[y->dtype].high;
    v = rintf(v) + (float)zero;
    int32_t whole = v >= high ? (int32_t)high : v > low ? (int32_t)v : (int32_t)low;
    if (dtype_bytes(y->dtype) == 1)
        ((uint8_t *)y->data)[i] = (uint8_t)whole;
    else if (y->dtype == ENGINE_U16)
        ((uint16_t *)y->data)[i] = (uint16_t)whole;
    else
        ((int16_t *)y->data)[i] = (int16_t)whole;
}

// ---- QuantizeLinear, DequantizeLinear ----------------------------------------------------------------

struct scaling { // which scale an element has
    size_t dim, inner, block, blocks;
    bool one;
};

static struct scaling scaling_of(const struct job *j)
{
    const struct array *x = j->in[0];
    struct scaling s = {.one = count_all(j->in[1]) == 1, .inner = 1, .dim = 1, .block = 1};
    if (s.one)
        return s;
    int64_t axis = shape_axis(j, 1), block = node_int(j->node, "block_size", 0);
    s.dim = (size_t)x->shape[axis];
    s.block = block > 0 ? (size_t)block : 1;
    s.inner = count_from(x, (unsigned)axis + 1);
    // 0: by place of the axis alone
    s.blocks = block > 0 ? (size_t)quantize_blocks(x->shape[axis], block) : 0;
    return s;
}

static size_t scale_place(const struct scaling *s, size_t i)
{
    if (s->one)
        return 0;
    size_t at = i / s->inner % s->dim, outer = i / s->inner / s->dim;
    return s->blocks ? (outer * s->blocks + at / s->block) * s->inner + i % s->inner : at;
}

// A small float: the zero point is one too.
static void put_small(const struct job *j, size_t i, float v, size_t k, struct small_rounding r)
{
    const struct array *zero = job_input(j, 2);
    enum engine_dtype d = j->out->dtype;
    double z =
        zero ? small_value(d, ((const uint8_t *)zero->data)[count_all(zero) == 1 ? 0 : k]) : 0;
    ((uint8_t *)j->out->data)[i] = small_of_float(d, (double)v + z, r);
}

void cpu_quantize(const struct job *j)
{
    struct small_rounding r;
    bool small = dtype_is_small_float(j->out->dtype) && small_rounding_of(j->node, &r);
    const struct array *x = j->in[0], *zero = job_input(j, 2);
    struct scaling s = scaling_of(j);
    size_t n = count_all(x);
    if (s.one && x->dtype == ENGINE_F32 && bytes_is(j->out)) {
        struct put y = put_of(j->out, bytes_at(zero, 0), false);
        const float *from = x->data, scale = scale_at(j->in[1], 0);
        for (size_t i = 0; i < n; i++)
            put_byte(&y, i, from[i] / scale);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        size_t k = scale_place(&s, i);
        float v = x->dtype == ENGINE_F32 ? ((const float *)x->data)[i]
                                         : (float)((const int32_t *)x->data)[i];
        v /= scale_at(j->in[1], k);
        if (small)
            put_small(j, i, v, k, r);
        else
            put_whole(j->out, i, v, bytes_at(zero, k));
    }
}

// One scale for all of n bytes.
static void dequantize_bytes(const struct array *x, int32_t zero, float scale, size_t n, float *y)
{
    const uint8_t *from = x->data;
    if (x->dtype == ENGINE_I8) {
        for (size_t i = 0; i < n; i++)
            y[i] = (float)((int8_t)from[i] - zero) * scale;
    } else {
        for (size_t i = 0; i < n; i++)
            y[i] = (float)(from[i] - zero) * scale;
    }
}

void cpu_dequantize(const struct job *j)
{
    const struct array *x = j->in[0], *zero = job_input(j, 2);
    struct scaling s = scaling_of(j);
    size_t n = count_all(x);
    if (s.one && bytes_is(x)) {
        dequantize_bytes(x, bytes_at(zero, 0), scale_at(j->in[1], 0), n, j->out->data);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        size_t k = scale_place(&s, i);
        ((float *)j->out->data)[i] = (number_at(x, i) - number_at(zero, k)) * scale_at(j->in[1], k);
    }
}

struct range_scale {
    float scale;
    int32_t zero;
};

// 0 and all numbers, in 0 to 255.
static struct range_scale range_of(const float *x, size_t n)
{
    float low = 0, high = 0;
    for (size_t i = 0; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    float scale = (high - low) / 255;
    float zero = scale > 0 ? rintf(0 - low / scale) : 0;
    zero = zero > 0 ? zero : 0; // nor what is not a number: low may be infinite
    return (struct range_scale){scale, (int32_t)(zero < 255 ? zero : 255)};
}

void cpu_dynamic_quantize(const struct job *j)
{
    const float *x = j->in[0]->data;
    size_t n = count_all(j->in[0]);
    struct range_scale r = range_of(x, n);
    for (size_t i = 0; i < n; i++)
        put_whole(j->out, i, r.scale > 0 ? x[i] / r.scale : 0, r.zero);
    if (j->outs[1])
        *(float *)j->outs[1]->data = r.scale;
    if (j->outs[2])
        *(uint8_t *)j->outs[2]->data = (uint8_t)r.zero;
}

// ---- products ----------------------------------------------------------------------------------------

#define ROWS 32 // that go through the product at a time

struct byte_product {
    const struct array *a, *b, *za, *zb; // zero points: NULL is 0
    const struct bytes *w;               // b in the product's form; NULL: as it stands
    struct matmul m;
    int32_t *row;   // [cols], or [ROWS, w->step]
    uint8_t *rows;  // [ROWS, w->quads * 4] of a
    uint8_t *bytes; // a as bytes, of DynamicQuantizeMatMul
};

static size_t sums_bytes(const struct bytes *w, size_t cols)
{
    return w ? ROWS * (w->step * sizeof(int32_t) + w->quads * 4) : (cols + 1) * sizeof(int32_t);
}

size_t cpu_byte_product_scratch(const struct job *j)
{
    const struct array *y = j->out, *a = j->in[0];
    size_t cols = y->rank > 0 ? (size_t)y->shape[y->rank - 1] : 1, n = count_all(a);
    return sums_bytes(j->node->prepared, cols) + n;
}

// Places of b and of its zero point among the inputs.
static void weights_at(const struct node *n, unsigned *b, unsigned *zero)
{
    bool linear = view_is(n->type, "QLinearMatMul") || view_is(n->type, "QGemm");
    bool short_list =
        view_is(n->type, "MatMulInteger") || view_is(n->type, "DynamicQuantizeMatMul");
    *b = linear ? 3 : 1;
    *zero = short_list ? 3 : 5;
}

bool cpu_byte_product_prepare(struct graph *g, struct node *n, struct engine_error *e)
{
    unsigned at, zero;
    int32_t *zeros;
    weights_at(n, &at, &zero);
    const struct array *b = node_constant(g, n, at);
    bool turned = node_int(n, "transB", 0) != 0;
    if (!b || b->rank != 2 || !bytes_is(b) || b->shape[0] < 1 || b->shape[1] < 1 ||
        node_int(n, "transA", 0) != 0)
        return true;
    size_t rows = (size_t)b->shape[0], cols = (size_t)b->shape[1];
    struct bytes_source s = {.data = b->data,
                             .depth = turned ? cols : rows,
                             .cols = turned ? rows : cols,
                             .k_step = turned ? 1 : cols,
                             .c_step = turned ? cols : 1,
                             .is_signed = b->dtype == ENGINE_I8};
    e->text[0] = '\0';
    if (!bytes_zeros(g, n, zero, s.cols, &zeros, e))
        return !e->text[0];
    s.zeros = zeros;
    n->prepared = bytes_new(g, &s, e);
    n->reads = ~((uint64_t)1 << at);
    return n->prepared != NULL;
}

// Row r of matrix `batch` of a with that of b, less the zero points, into p->row.
static void byte_row(const struct byte_product *p, int64_t batch, int64_t r)
{
    int64_t at_a, at_b, cols = p->m.cols;
    matmul_place(&p->m, batch, &at_a, &at_b);
    int32_t za = bytes_at(p->za, (size_t)r);
    memset(p->row, 0, (size_t)cols * sizeof(*p->row));
    for (int64_t k = 0; k < p->m.depth; k++) {
        int32_t x = bytes_at(p->a, (size_t)(at_a + r * p->m.depth + k)) - za;
        const char *b = (const char *)p->b->data + at_b + k * cols;
        if (p->b->dtype == ENGINE_I8) {
            for (int64_t c = 0; c < cols; c++)
                p->row[c] += x * ((const int8_t *)b)[c];
        } else {
            for (int64_t c = 0; c < cols; c++)
                p->row[c] += x * ((const uint8_t *)b)[c];
        }
        if (p->zb) {
            bool each = count_all(p->zb) > 1;
            int32_t zero = bytes_at(p->zb, 0);
            for (int64_t c = 0; c < cols; c++)
                p->row[c] -= x * (each ? bytes_at(p->zb, (size_t)c) : zero);
        }
    }
}

// Rows `first` and behind through the product, as they lie there, or as uint8 of whole quads.
static void some_rows(const struct byte_product *p, int64_t first)
{
    size_t depth = p->w->depth, n = (size_t)(p->m.batch * p->m.rows - first),
           step = p->w->quads * 4;
    const uint8_t *x = (const uint8_t *)p->a->data + (size_t)first * depth;
    bool is_signed = p->a->dtype == ENGINE_I8;
    n = n < ROWS ? n : ROWS;
    if (!is_signed && step == depth) {
        bytes_product(p->w, x, step, n, p->row);
        return;
    }
    for (size_t r = 0; r < n; r++, x += depth) {
        uint8_t *to = p->rows + r * step;
        memset(to + step - 4, 0, 4);
        for (size_t k = 0; k < depth; k++)
            to[k] = is_signed ? x[k] ^ 0x80 : x[k];
    }
    bytes_product(p->w, p->rows, step, n, p->row);
}

// The sums of row i, counted through the batch; i ascends.
static const int32_t *byte_sums(const struct byte_product *p, int64_t i)
{
    int64_t r = i % p->m.rows;
    if (!p->w) {
        byte_row(p, i / p->m.rows, r);
        return p->row;
    }
    if (i % ROWS == 0)
        some_rows(p, i);
    int32_t *y = p->row + (size_t)(i % ROWS) * p->w->step;
    bytes_settle(p->w, bytes_at(p->za, (size_t)r) + (p->a->dtype == ENGINE_I8 ? 128 : 0), y);
    return y;
}

static bool product_of(const struct job *j, const struct array *a, const struct array *b,
                       struct byte_product *p)
{
    struct engine_error e;
    p->a = a;
    p->b = b;
    p->w = j->node->prepared;
    if (!matmul_of(j, a, b, &p->m, &e)) // the plan has asked the same and was answered
        return false;
    p->row = j->scratch;
    p->bytes = (uint8_t *)j->scratch + sums_bytes(p->w, (size_t)p->m.cols);
    p->rows = p->w ? (uint8_t *)(p->row + ROWS * p->w->step) : NULL;
    return true;
}

void cpu_matmul_integer(const struct job *j)
{
    struct byte_product p = {.za = job_input(j, 2), .zb = job_input(j, 3)};
    int32_t *y = j->out->data;
    if (!product_of(j, j->in[0], j->in[1], &p))
        return;
    for (int64_t i = 0; i < p.m.batch * p.m.rows; i++, y += p.m.cols)
        memcpy(y, byte_sums(&p, i), (size_t)p.m.cols * sizeof(*y));
}

void cpu_qlinear_matmul(const struct job *j)
{
    struct byte_product p = {.za = j->in[2], .zb = j->in[5]};
    size_t at = 0;
    if (!product_of(j, j->in[0], j->in[3], &p))
        return;
    struct put y = put_of(j->out, bytes_at(j->in[7], 0), j->node->relu);
    for (int64_t i = 0; i < p.m.batch * p.m.rows; i++) {
        const int32_t *sums = byte_sums(&p, i);
        float a = scale_at(j->in[1], (size_t)(i % p.m.rows)), by = scale_at(j->in[6], 0);
        for (int64_t c = 0; c < p.m.cols; c++, at++)
            put_byte(&y, at, (float)sums[c] * (a * scale_at(j->in[4], (size_t)c) / by));
    }
}

// a, its scale and zero point, b's, a bias of int32 if any, and the answer's if it is no float: inputs 0 to 8.
void cpu_qgemm(const struct job *j)
{
    struct array b = *j->in[3];
    const struct array *bias = job_input(j, 6), *sy = job_input(j, 7);
    struct byte_product p = {.za = j->in[2], .zb = j->in[5]};
    float alpha = node_float(j->node, "alpha", 1), *floats = j->out->data;
    size_t at = 0;
    if (node_int(j->node, "transB", 0) != 0) {
        b.shape[0] = j->in[3]->shape[1];
        b.shape[1] = j->in[3]->shape[0];
    }
    if (!product_of(j, j->in[0], &b, &p))
        return;
    struct put y = put_of(j->out, bytes_at(job_input(j, 8), 0), j->node->relu);
    for (int64_t i = 0; i < p.m.rows; i++) {
        const int32_t *sums = byte_sums(&p, i);
        for (int64_t c = 0; c < p.m.cols; c++, at++) {
            float scale = alpha * scale_at(j->in[1], 0) * scale_at(j->in[4], (size_t)c);
            int32_t sum = (int32_t)((uint32_t)sums[c] + (uint32_t)bytes_at(bias, (size_t)c));
            if (sy)
                put_byte(&y, at, (float)sum * (scale / scale_at(sy, 0)));
            else
                floats[at] = (float)sum * scale;
        }
    }
}

void cpu_matmul_to_float(const struct job *j)
{
    bool dynamic = view_is(j->node->type, "DynamicQuantizeMatMul");
    const struct array *sb = j->in[dynamic ? 2 : 3], *bias = job_input(j, dynamic ? 4 : 6);
    struct array bytes = *j->in[0], zero = {.dtype = ENGINE_U8};
    struct byte_product p = {.za = dynamic ? &zero : job_input(j, 4),
                             .zb = job_input(j, dynamic ? 3 : 5)};
    uint8_t zero_byte = 0;
    float sa = dynamic ? 0 : scale_at(j->in[2], 0), *y = j->out->data;
    if (!product_of(j, &bytes, j->in[1], &p))
        return;
    if (dynamic) {
        size_t n = count_all(j->in[0]);
        struct range_scale r = range_of(j->in[0]->data, n);
        bytes.dtype = ENGINE_U8;
        bytes.data = p.bytes;
        struct put to = put_of(&bytes, r.zero, false);
        for (size_t i = 0; i < n; i++)
            put_byte(&to, i, r.scale > 0 ? ((const float *)j->in[0]->data)[i] / r.scale : 0);
        zero_byte = (uint8_t)r.zero;
        zero.data = &zero_byte;
        sa = r.scale;
    }
    for (int64_t i = 0; i < p.m.batch * p.m.rows; i++) {
        const int32_t *sums = byte_sums(&p, i);
        for (int64_t c = 0; c < p.m.cols; c++)
            *y++ = (float)sums[c] * (sa * scale_at(sb, (size_t)c)) +
                   (bias ? ((const float *)bias->data)[c] : 0);
    }
}

// ---- convolutions ------------------------------------------------------------------------------------

// Images, kernels and answers as int32.
static size_t conv_ints(const struct job *j, const struct array *k)
{
    return (count_all(j->in[0]) + count_all(k) + count_all(j->out)) * sizeof(int32_t);
}

size_t cpu_conv_integer_scratch(const struct job *j)
{
    return j->node->prepared ? byte_conv_scratch(j, 1) : conv_ints(j, j->in[1]);
}

size_t cpu_qlinear_conv_scratch(const struct job *j)
{
    return j->node->prepared ? byte_conv_scratch(j, 3) : conv_ints(j, j->in[3]);
}

// Sums of (x - zx) (k - zk); pads are zx, which counts as 0. bias: int32, NULL: none. Returns the sums.
static const int32_t *conv_sums(const struct job *j, const struct array *k, const struct array *zx,
                                const struct array *zk, const struct array *bias)
{
    size_t nx = count_all(j->in[0]), nk = count_all(k), ny = count_all(j->out);
    int32_t *x = j->scratch, *w = x + nx, *y = w + nk;
    struct windows win = windows_for(j, k->rank - 2, &k->shape[2]);
    struct conv_sizes s = conv_sizes_of(j, k);
    size_t each = nk / (size_t)k->shape[0], answer = (size_t)windows_pixels(&win, win.out);
    size_t outs = (size_t)k->shape[0];
    for (size_t i = 0; i < nx; i++)
        x[i] = bytes_at(j->in[0], i) - bytes_at(zx, 0);
    for (size_t i = 0; i < nk; i++)
        w[i] = bytes_at(k, i) - bytes_at(zk, i / each);
    for (size_t i = 0; i < ny; i++)
        y[i] = bias ? ((const int32_t *)bias->data)[i / answer % outs] : 0;
    conv_any_i32(&win, &s, x, w, y);
    return y;
}

void cpu_conv_integer(const struct job *j)
{
    if (j->node->prepared) {
        const struct byte_conv_answer a = {.whole = j->out->data};
        byte_conv_run(j, 1, bytes_at(job_input(j, 2), 0), &a);
        return;
    }
    const int32_t *y = conv_sums(j, j->in[1], job_input(j, 2), job_input(j, 3), NULL);
    memcpy(j->out->data, y, count_all(j->out) * sizeof(*y));
}

void cpu_qlinear_conv(const struct job *j)
{
    const struct array *k = j->in[3];
    struct put put = put_of(j->out, bytes_at(j->in[7], 0), j->node->relu);
    if (j->node->prepared) {
        const struct byte_conv_answer a = {.y = put,
                                           .scales = j->in[4],
                                           .x = scale_at(j->in[1], 0),
                                           .by = scale_at(j->in[6], 0),
                                           .bias = job_data(j, 8)};
        byte_conv_run(j, 3, bytes_at(j->in[2], 0), &a);
        return;
    }
    const int32_t *y = conv_sums(j, k, j->in[2], j->in[5], job_input(j, 8));
    size_t n = count_all(j->out), outs = (size_t)k->shape[0];
    size_t answer = n / ((size_t)j->out->shape[0] * outs);
    for (size_t i = 0; i < n; i++) {
        float scale =
            scale_at(j->in[1], 0) * scale_at(j->in[4], i / answer % outs) / scale_at(j->in[6], 0);
        put_byte(&put, i, (float)y[i] * scale);
    }
}

// ---- com.microsoft -----------------------------------------------------------------------------------

struct real { // of a byte: (x - zero) * scale
    float scale;
    int32_t zero;
};

static struct real real_of(const struct job *j, unsigned scale)
{
    return (struct real){scale_at(j->in[scale], 0), bytes_at(job_input(j, scale + 1), 0)};
}

// The place in a of element i of the output that it is broadcast to.
static size_t broadcast_place(const struct array *a, const struct array *out, size_t i)
{
    size_t at = 0, size = 1;
    for (unsigned back = 0; back < out->rank; back++) {
        size_t dim = (size_t)out->shape[out->rank - 1 - back], k = i % dim;
        i /= dim;
        if (back >= a->rank)
            continue;
        size_t own = (size_t)a->shape[a->rank - 1 - back];
        at += own == 1 ? 0 : k * size;
        size *= own;
    }
    return at;
}

void cpu_qlinear_binary(const struct job *j)
{
    bool add = view_is(j->node->type, "QLinearAdd");
    struct real a = real_of(j, 1), b = real_of(j, 4), y = real_of(j, 6);
    size_t n = count_all(j->out);
    for (size_t i = 0; i < n; i++) {
        int32_t x = bytes_at(j->in[0], broadcast_place(j->in[0], j->out, i)) - a.zero;
        int32_t z = bytes_at(j->in[3], broadcast_place(j->in[3], j->out, i)) - b.zero;
        float v = add ? (float)x * (a.scale / y.scale) + (float)z * (b.scale / y.scale)
                      : (float)(x * z) * (a.scale * b.scale / y.scale);
        put_whole(j->out, i, v, y.zero);
    }
}

void cpu_qlinear_unary(const struct job *j)
{
    bool sigmoid = view_is(j->node->type, "QLinearSigmoid");
    float alpha = node_float(j->node, "alpha", 0.01f);
    struct real x = real_of(j, 1), y = real_of(j, 3);
    size_t n = count_all(j->out);
    for (size_t i = 0; i < n; i++) {
        float v = (float)(bytes_at(j->in[0], i) - x.zero) * x.scale;
        v = sigmoid ? 1 / (1 + expf(-v)) : v < 0 ? alpha * v : v;
        put_whole(j->out, i, v / y.scale, y.zero);
    }
}

// Of numbers `step` apart.
static void softmax_bytes(const struct array *x, size_t at, size_t n, size_t step, float scale,
                          float by, const struct put *y)
{
    int32_t most = INT32_MIN;
    float sum = 0;
    for (size_t i = 0; i < n; i++)
        most = bytes_at(x, at + i * step) > most ? bytes_at(x, at + i * step) : most;
    for (size_t i = 0; i < n; i++)
        sum += expf((float)(bytes_at(x, at + i * step) - most) * scale);
    for (size_t i = 0; i < n; i++)
        put_byte(y, at + i * step,
                 expf((float)(bytes_at(x, at + i * step) - most) * scale) / sum / by);
}

void cpu_qlinear_softmax(const struct job *j)
{
    const struct array *x = j->in[0];
    struct real in = real_of(j, 1), out = real_of(j, 3);
    struct put y = put_of(j->out, out.zero, false);
    unsigned axis = (unsigned)shape_axis(j, -1);
    bool flat = node_int(j->node, "opset", 13) < 13; // all axes from that one on
    size_t n = flat ? count_from(x, axis) : (size_t)x->shape[axis];
    size_t inner = flat ? 1 : count_from(x, axis + 1), all = count_all(x);
    for (size_t at = 0; at < all; at += n * inner) {
        for (size_t i = 0; i < inner; i++)
            softmax_bytes(x, at + i, n, inner, in.scale, out.scale, &y);
    }
}

void cpu_qlinear_global_pool(const struct job *j)
{
    struct real x = real_of(j, 1), y = real_of(j, 3);
    size_t planes = count_all(j->out), n = planes ? count_all(j->in[0]) / planes : 0;
    for (size_t p = 0; p < planes; p++) {
        int64_t sum = 0;
        for (size_t i = 0; i < n; i++)
            sum += bytes_at(j->in[0], p * n + i) - x.zero;
        put_whole(j->out, p, (float)((double)sum / (double)n) * x.scale / y.scale, y.zero);
    }
}
