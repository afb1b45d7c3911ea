// Shapes of whole-number arithmetic that stands for floats: quantization, products, convolutions. As
// engine/shapes.c: whatever a kernel relies on is checked here.
#include "engine/ops.h"
#include "engine/small.h"

#include <math.h>

static bool is_byte(const struct array *a)
{
    return a && (a->dtype == ENGINE_U8 || a->dtype == ENGINE_I8);
}

static bool is_scalar(const struct array *a)
{
    size_t n = 0;
    return a && array_count(a, &n) && n == 1;
}

// A scalar, or one for each of n.
static bool is_one_or(const struct array *a, int64_t n)
{
    return is_scalar(a) || (a && a->rank == 1 && a->shape[0] == n);
}

static bool same_shape(const struct array *a, const struct array *b)
{
    return a->rank == b->rank && memcmp(a->shape, b->shape, a->rank * sizeof(a->shape[0])) == 0;
}

// A constant scale that is divided by. Numbers below 1.2e-38 count as 0 while a plan runs; 0 divided by one would not be 0.
static bool divides(struct job *j, const struct array *scale, struct engine_error *e)
{
    size_t n = 0;
    const float *x = scale->data;
    for (size_t i = 0; x && array_count(scale, &n) && i < n; i++) {
        if (fpclassify(x[i]) == FP_SUBNORMAL)
            return shape_wrong(j, e, "scale: expected no number between 0 and 1.2e-38");
    }
    return true;
}

// ---- QuantizeLinear, DequantizeLinear ----------------------------------------------------------------

int64_t quantize_blocks(int64_t dim, int64_t block)
{
    return dim / block + (dim % block != 0);
}

// Where the scale of each element stands: one, one a place of the axis, or one a block along it.
static bool scale_fits(struct job *j, const struct array *x, const struct array *scale,
                       const struct array *zero, struct engine_error *e)
{
    int64_t axis = shape_axis(j, 1), block = node_int(j->node, "block_size", 0);
    if (scale->dtype != ENGINE_F32)
        return shape_wrong(j, e, "scale: expected float32");
    if (zero && !same_shape(zero, scale) && !(is_scalar(zero) && is_scalar(scale)))
        return shape_wrong(j, e, "zero point: expected the scale's shape");
    if (is_scalar(scale) && block == 0)
        return true;
    if (axis < 0 || axis >= (int64_t)x->rank || block < 0)
        return shape_wrong(j, e, "axis is out of range, or block_size below 0");
    if (block == 0)
        return (scale->rank == 1 && scale->shape[0] == x->shape[axis]) ||
               shape_wrong(j, e, "scale: expected one, or one a place of the axis");
    bool fits = scale->rank == x->rank;
    for (unsigned i = 0; i < x->rank && fits; i++)
        fits = scale->shape[i] == (i == axis ? quantize_blocks(x->shape[i], block) : x->shape[i]);
    return fits || shape_wrong(j, e, "scale: expected one a block of the axis");
}

// What a number may be quantized to; a scale's own exponents are none.
static bool is_quantized(enum engine_dtype d)
{
    return d == ENGINE_U8 || d == ENGINE_I8 || d == ENGINE_U16 || d == ENGINE_I16 ||
           (dtype_is_small(d) && d != ENGINE_F8E8M0);
}

bool shape_quantize(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0], *zero = job_input(j, 2);
    int64_t asked = node_int(j->node, "output_dtype", 0);
    enum engine_dtype d = zero        ? zero->dtype
                          : asked > 0 ? dtype_from_onnx((uint64_t)asked)
                                      : ENGINE_U8;
    if (x->dtype != ENGINE_F32 && x->dtype != ENGINE_I32)
        return shape_wrong(j, e, "expected float32 or int32");
    if (!is_quantized(d))
        return shape_wrong(
            j, e, "expected to make whole numbers of 16 bits or less, or floats of 8 or 4");
    int64_t precision = node_int(j->node, "precision", 0);
    if (precision != 0 && precision != 1)
        return shape_wrong(j, e, "precision: expected float32");
    return scale_fits(j, x, j->in[1], zero, e) && divides(j, j->in[1], e) &&
           shape_make(j, d, x->rank, x->shape, e);
}

bool shape_dequantize(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0], *zero = job_input(j, 2);
    enum engine_dtype d = x->dtype;
    int64_t asked = node_int(j->node, "output_dtype", 0);
    if (!is_quantized(d) && d != ENGINE_I32)
        return shape_wrong(j, e,
                           "expected whole numbers of 16 bits or less, int32, or floats of 8 or 4");
    if (zero && zero->dtype != d)
        return shape_wrong(j, e, "zero point: expected the input's datatype");
    if (asked > 0 && dtype_inside(dtype_from_onnx((uint64_t)asked)) != ENGINE_F32)
        return shape_wrong(j, e, "output_dtype: expected a float of 16 or 32 bits");
    return scale_fits(j, x, j->in[1], zero, e) && shape_make(j, ENGINE_F32, x->rank, x->shape, e);
}

bool shape_dynamic_quantize(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    if (x->dtype != ENGINE_F32)
        return shape_wrong(j, e, "expected float32");
    return shape_make(j, ENGINE_U8, x->rank, x->shape, e) &&
           shape_make_at(j, 1, ENGINE_F32, 0, NULL, e) &&
           shape_make_at(j, 2, ENGINE_U8, 0, NULL, e);
}

// ---- products ----------------------------------------------------------------------------------------

bool matmul_of(const struct job *job, const struct array *a, const struct array *b,
               struct matmul *m, struct engine_error *e)
{
    struct job *j = (struct job *)job;
    struct array x = *a, y = *b;
    unsigned rank;
    if (a->rank == 0 || b->rank == 0)
        return shape_wrong(j, e, "expected vectors, matrices or more");
    // A vector is a row in front, a column behind.
    *m = (struct matmul){.rows = a->rank > 1 ? a->shape[a->rank - 2] : 1,
                         .depth = a->shape[a->rank - 1],
                         .cols = b->rank > 1 ? b->shape[b->rank - 1] : 1};
    if (m->depth != b->shape[b->rank > 1 ? b->rank - 2 : 0])
        return shape_wrong(j, e, "expected matrices that can be multiplied");
    x.rank = a->rank > 2 ? a->rank - 2 : 0;
    y.rank = b->rank > 2 ? b->rank - 2 : 0;
    const struct array *both[] = {&x, &y};
    if (!shape_together(j, both, 2, m->shape, &rank, e))
        return false;
    m->batch_rank = rank;
    m->batch = 1;
    for (unsigned i = rank; i-- > 0;)
        m->batch *= m->shape[i];
    for (unsigned k = 0; k < 2; k++) {
        int64_t size = 1;
        for (unsigned i = rank; i-- > 0;) {
            unsigned back = rank - 1 - i;
            int64_t dim = back < both[k]->rank ? both[k]->shape[both[k]->rank - 1 - back] : 1;
            m->step[k][i] = dim == 1 ? 0 : size;
            size *= dim;
        }
    }
    m->rank = rank;
    if (a->rank > 1)
        m->shape[m->rank++] = m->rows;
    if (b->rank > 1)
        m->shape[m->rank++] = m->cols;
    return true;
}

void matmul_place(const struct matmul *m, int64_t batch, int64_t *a, int64_t *b)
{
    *a = *b = 0;
    for (unsigned i = m->batch_rank; i-- > 0; batch /= m->shape[i]) {
        *a += batch % m->shape[i] * m->step[0][i];
        *b += batch % m->shape[i] * m->step[1][i];
    }
    *a *= m->rows * m->depth;
    *b *= m->depth * m->cols;
}

bool shape_matmul(struct job *j, struct engine_error *e)
{
    const struct array *a = j->in[0], *b = j->in[1];
    enum engine_dtype d = a->dtype;
    struct matmul m;
    if (d != b->dtype || (d != ENGINE_F32 && d != ENGINE_F64 && d != ENGINE_I32 &&
                          d != ENGINE_I64 && d != ENGINE_U32 && d != ENGINE_U64))
        return shape_wrong(j, e, "expected two inputs of floats, or of 32 or 64 bits a number");
    return matmul_of(j, a, b, &m, e) && shape_make(j, d, m.rank, m.shape, e);
}

// Zero points: one, one a row of a, one a column of b.
static bool zeros_fit(struct job *j, const struct matmul *m, const struct array *za,
                      const struct array *zb, struct engine_error *e)
{
    if ((za && (za->dtype != j->in[0]->dtype || !is_one_or(za, m->rows))) || (zb && !is_byte(zb)) ||
        (zb && !is_one_or(zb, m->cols)))
        return shape_wrong(j, e, "zero points: expected one, or one a row and a column");
    return true;
}

bool shape_matmul_integer(struct job *j, struct engine_error *e)
{
    struct matmul m;
    if (!is_byte(j->in[0]) || !is_byte(j->in[1]))
        return shape_wrong(j, e, "expected int8 or uint8");
    return matmul_of(j, j->in[0], j->in[1], &m, e) &&
           zeros_fit(j, &m, job_input(j, 2), job_input(j, 3), e) &&
           shape_make(j, ENGINE_I32, m.rank, m.shape, e);
}

// a, its scale and zero point, b's, and the answer's: inputs 0 to 7.
bool shape_qlinear_matmul(struct job *j, struct engine_error *e)
{
    struct matmul m;
    if (!is_byte(j->in[0]) || !is_byte(j->in[3]) || !is_byte(j->in[7]))
        return shape_wrong(j, e, "expected int8 or uint8");
    if (!matmul_of(j, j->in[0], j->in[3], &m, e) || !zeros_fit(j, &m, j->in[2], j->in[5], e))
        return false;
    if (j->in[1]->dtype != ENGINE_F32 || j->in[4]->dtype != ENGINE_F32 ||
        j->in[6]->dtype != ENGINE_F32 || !is_one_or(j->in[1], m.rows) ||
        !is_one_or(j->in[4], m.cols) || !is_scalar(j->in[6]) || !is_scalar(j->in[7]) ||
        j->in[5]->dtype != j->in[3]->dtype)
        return shape_wrong(j, e, "scales: expected one float32, or one a row and a column");
    return divides(j, j->in[6], e) && shape_make(j, j->in[7]->dtype, m.rank, m.shape, e);
}

// ---- convolutions ------------------------------------------------------------------------------------

bool shape_conv_integer(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0], *k = j->in[1], *zx = job_input(j, 2), *zk = job_input(j, 3);
    if (!is_byte(x) || !is_byte(k) || (zx && (zx->dtype != x->dtype || !is_scalar(zx))) ||
        (zk && zk->dtype != k->dtype))
        return shape_wrong(j, e, "expected int8 or uint8, and zero points of theirs");
    if (zk && !is_one_or(zk, k->shape[0]))
        return shape_wrong(j, e, "zero points: expected one, or one a channel");
    return conv_fits(j, x, k, e) && conv_make(j, ENGINE_I32, k, e);
}

// x, its scale and zero point, w's, the answer's, and a bias: inputs 0 to 8.
bool shape_qlinear_conv(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0], *k = j->in[3], *bias = job_input(j, 8);
    if (!is_byte(x) || !is_byte(k) || !is_byte(j->in[7]) || j->in[2]->dtype != x->dtype ||
        j->in[5]->dtype != k->dtype || !is_scalar(j->in[1]) || !is_scalar(j->in[2]) ||
        !is_scalar(j->in[6]) || !is_scalar(j->in[7]))
        return shape_wrong(j, e, "expected int8 or uint8, with a scale and a zero point each");
    if (!conv_fits(j, x, k, e))
        return false;
    if (j->in[1]->dtype != ENGINE_F32 || j->in[4]->dtype != ENGINE_F32 ||
        j->in[6]->dtype != ENGINE_F32 || !is_one_or(j->in[4], k->shape[0]) ||
        !is_one_or(j->in[5], k->shape[0]) ||
        (bias && (bias->dtype != ENGINE_I32 || bias->rank != 1 || bias->shape[0] != k->shape[0])))
        return shape_wrong(j, e, "scales, zero points, bias: expected one, or one a channel");
    return divides(j, j->in[6], e) && conv_make(j, j->in[7]->dtype, k, e);
}

// ---- com.microsoft -----------------------------------------------------------------------------------

// A and B with scale and zero point, and the answer's: inputs 0 to 7; a zero point that is left out is 0.
bool shape_qlinear_binary(struct job *j, struct engine_error *e)
{
    const struct array *in[] = {j->in[0], j->in[3]};
    int64_t shape[ENGINE_MAX_RANK];
    unsigned rank;
    if (!is_byte(in[0]) || in[1]->dtype != in[0]->dtype)
        return shape_wrong(j, e, "expected two inputs of int8, or of uint8");
    for (unsigned i = 1; i < 8; i++) {
        bool scale = i == 1 || i == 4 || i == 6;
        const struct array *a = job_input(j, i);
        if (i != 3 && ((scale && !a) ||
                       (a && (!is_scalar(a) || a->dtype != (scale ? ENGINE_F32 : in[0]->dtype)))))
            return shape_wrong(j, e, "scales, zero points: expected one of each");
    }
    return divides(j, j->in[6], e) && shape_together(j, in, 2, shape, &rank, e) &&
           shape_make(j, in[0]->dtype, rank, shape, e);
}

// x with scale and zero point, and the answer's: inputs 0 to 4.
bool shape_qlinear_unary(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    if (!is_byte(x))
        return shape_wrong(j, e, "expected int8 or uint8");
    for (unsigned i = 1; i < 5; i++) {
        bool scale = i == 1 || i == 3;
        const struct array *a = job_input(j, i);
        if ((scale && !a) || (a && (!is_scalar(a) || a->dtype != (scale ? ENGINE_F32 : x->dtype))))
            return shape_wrong(j, e, "scales, zero points: expected one of each");
    }
    if (!divides(j, j->in[3], e))
        return false;
    int64_t axis = shape_axis(j, -1);
    if (view_is(j->node->type, "QLinearSoftmax") && (axis < 0 || axis >= (int64_t)x->rank))
        return shape_wrong(j, e, "axis is out of range");
    if (view_is(j->node->type, "QLinearGlobalAveragePool")) {
        int64_t shape[ENGINE_MAX_RANK];
        if (x->rank < 3 || node_int(j->node, "channels_last", 0) != 0)
            return shape_wrong(j, e, "expected images, channels first");
        for (unsigned i = 0; i < x->rank; i++)
            shape[i] = i < 2 ? x->shape[i] : 1;
        return shape_make(j, x->dtype, x->rank, shape, e);
    }
    return shape_make(j, x->dtype, x->rank, x->shape, e);
}

// a, its scale and zero point, b's, [bias], [the answer's scale], [its zero point]: inputs 0 to 8. Without the answer's
// scale it is float.
bool shape_qgemm(struct job *j, struct engine_error *e)
{
    const struct array *a = j->in[0], *b = j->in[3], *c = job_input(j, 6), *zero = job_input(j, 8);
    bool turned = node_int(j->node, "transB", 0) != 0;
    size_t n = 0;
    if (!is_byte(a) || !is_byte(b) || (zero && !is_byte(zero)))
        return shape_wrong(j, e, "expected int8 or uint8");
    if (node_int(j->node, "transA", 0) != 0 || (turned && !j->node->prepared))
        return shape_wrong(j, e, "transA: expected 0; transB: a constant");
    if (a->rank != 2 || b->rank != 2 || a->shape[1] != b->shape[turned ? 1 : 0])
        return shape_wrong(j, e, "expected two matrices that can be multiplied");
    int64_t shape[2] = {a->shape[0], b->shape[turned ? 0 : 1]};
    for (unsigned i = 1; i < 8; i += 3) {
        const struct array *scale = job_input(j, i);
        if (scale && (scale->dtype != ENGINE_F32 ||
                      !(i == 4 ? is_one_or(scale, shape[1]) : is_scalar(scale))))
            return shape_wrong(j, e, "scales: expected one float32, or one a column");
    }
    if (j->in[2]->dtype != a->dtype || !is_scalar(j->in[2]) || j->in[5]->dtype != b->dtype ||
        !is_one_or(j->in[5], shape[1]) || (zero && !is_scalar(zero)))
        return shape_wrong(j, e, "zero points: expected one, or one a column of the second input");
    if (c && (c->dtype != ENGINE_I32 || !array_count(c, &n) ||
              (n != 1 && (n != (size_t)shape[1] || c->shape[c->rank - 1] != shape[1]))))
        return shape_wrong(j, e, "bias: expected one int32, or one a column");
    if (job_input(j, 7) && !divides(j, job_input(j, 7), e))
        return false;
    return shape_make(j,
                      !job_input(j, 7) ? ENGINE_F32
                      : zero           ? zero->dtype
                                       : ENGINE_U8,
                      2, shape, e);
}

// a, b, their scales, [zero points], [bias] (MatMulIntegerToFloat); a is float in DynamicQuantizeMatMul, whose
// inputs are a, b, b's scale, [b's zero point], [bias].
bool shape_matmul_to_float(struct job *j, struct engine_error *e)
{
    bool dynamic = view_is(j->node->type, "DynamicQuantizeMatMul");
    const struct array *a = j->in[0], *b = j->in[1], *bias = job_input(j, dynamic ? 4 : 6);
    const struct array *sa = dynamic ? NULL : job_input(j, 2), *sb = job_input(j, dynamic ? 2 : 3);
    const struct array *za = dynamic ? NULL : job_input(j, 4), *zb = job_input(j, dynamic ? 3 : 5);
    struct matmul m;
    if ((dynamic ? a->dtype != ENGINE_F32 : !is_byte(a)) || !is_byte(b))
        return shape_wrong(j, e, "expected int8 or uint8");
    if (!matmul_of(j, a, b, &m, e) || !zeros_fit(j, &m, za, zb, e))
        return false;
    if ((!dynamic && (!is_scalar(sa) || sa->dtype != ENGINE_F32)) || !is_one_or(sb, m.cols) ||
        sb->dtype != ENGINE_F32 || (za && !is_scalar(za)) ||
        (bias && (bias->dtype != ENGINE_F32 || bias->rank != 1 || bias->shape[0] != m.cols)))
        return shape_wrong(j, e, "scales, bias: expected one float32, or one a column");
    return shape_make(j, ENGINE_F32, m.rank, m.shape, e);
}
