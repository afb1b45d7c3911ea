// Element by element: activations, Softmax, BatchNormalization.
#include "engine/cpu/cpu.h"
#include "engine/cpu/curves.h"
#include "engine/cpu/parts.h"

#include <tgmath.h>

// ---- activations -------------------------------------------------------------------------------------

#define EACH_OF(T, expression)                                                                     \
    {                                                                                              \
        const T *x_ = j->in[0]->data;                                                              \
        T *y_ = j->out->data;                                                                      \
        size_t n_ = count_all(j->out);                                                             \
        EACH_BY_ITSELF                                                                             \
        for (size_t i_ = 0; i_ < n_; i_++) {                                                       \
            T x = x_[i_];                                                                          \
            y_[i_] = (T)(expression);                                                              \
        }                                                                                          \
    }
// In float32 or float64: functions are chosen by the type of x (tgmath.h).
#define EACH(expression)                                                                           \
    do {                                                                                           \
        if (j->out->dtype == ENGINE_F32)                                                           \
            EACH_OF(float, expression)                                                             \
        else                                                                                       \
            EACH_OF(double, expression)                                                            \
    } while (0)

// Of float32 piece by piece, so that what was copied is still in the cache.
static bool along_curve(const struct job *j, void (*curve)(float *x, size_t n))
{
    enum { PIECE = 4096 };
    const float *x = j->in[0]->data;
    float *y = j->out->data;
    if (j->out->dtype != ENGINE_F32)
        return false;
    for (size_t n = count_all(j->out), k; n > 0; n -= k, x += k, y += k) {
        k = n < PIECE ? n : PIECE;
        memmove(y, x, k * sizeof(*x)); // it may be done in place
        curve(y, k);
    }
    return true;
}

void cpu_exp(const struct job *j)
{
    if (!along_curve(j, curve_exp))
        EACH(exp(x));
}

void cpu_sigmoid(const struct job *j)
{
    if (!along_curve(j, curve_sigmoid))
        EACH(1 / (1 + exp(-x)));
}

void cpu_tanh(const struct job *j)
{
    if (!along_curve(j, curve_tanh))
        EACH(tanh(x));
}

#define UNARY(name, expression)                                                                    \
    void cpu_##name(const struct job *j)                                                           \
    {                                                                                              \
        EACH(expression);                                                                          \
    }

UNARY(acos, acos(x))
UNARY(acosh, acosh(x))
UNARY(asin, asin(x))
UNARY(asinh, asinh(x))
UNARY(atan, atan(x))
UNARY(atanh, atanh(x))
UNARY(ceil, ceil(x))
UNARY(cos, cos(x))
UNARY(cosh, cosh(x))
UNARY(erf, erf(x))
UNARY(floor, floor(x))
UNARY(log, log(x))
UNARY(reciprocal, 1 / x)
UNARY(round, rint(x))
UNARY(sin, sin(x))
UNARY(sinh, sinh(x))
UNARY(softplus, x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)))
UNARY(softsign, x / (1 + fabs(x)))
UNARY(sqrt, sqrt(x))
UNARY(tan, tan(x))
UNARY(mish, x *tanh(log1p(exp(x))))

// What is not a number stays so. A compiler that knows the ends makes branches of them, and no vectors.
static const volatile float ends[2] = {0, 1};

#define CLAMP_LINE(name, T)                                                                        \
    static void name(const T *x, T *y, size_t n, T alpha, T beta, bool times_x)                    \
    {                                                                                              \
        const T low = (T)ends[0], high = (T)ends[1];                                               \
        EACH_BY_ITSELF                                                                             \
        for (size_t i = 0; i < n; i++) {                                                           \
            T v = x[i], t = alpha * v + beta;                                                      \
            t = t < low ? low : t;                                                                 \
            t = t > high ? high : t;                                                               \
            y[i] = times_x ? v * t : t;                                                            \
        }                                                                                          \
    }
CLAMP_LINE(clamp_line_f32, float)
CLAMP_LINE(clamp_line_f64, double)

static void clamp_line(const struct job *j, double alpha, double beta, bool times_x)
{
    size_t n = count_all(j->out);
    if (j->out->dtype == ENGINE_F32)
        clamp_line_f32(j->in[0]->data, j->out->data, n, (float)alpha, (float)beta, times_x);
    else
        clamp_line_f64(j->in[0]->data, j->out->data, n, alpha, beta, times_x);
}

void cpu_hard_swish(const struct job *j)
{
    clamp_line(j, 1.0 / 6, 0.5, true);
}

void cpu_hard_sigmoid(const struct job *j)
{
    float alpha = node_float(j->node, "alpha", 0.2f), beta = node_float(j->node, "beta", 0.5f);
    clamp_line(j, (double)alpha, (double)beta, false);
}

void cpu_celu(const struct job *j)
{
    float alpha = node_float(j->node, "alpha", 1.0f);
    EACH(x > 0 ? x : alpha * expm1(x / alpha));
}

void cpu_elu(const struct job *j)
{
    float alpha = node_float(j->node, "alpha", 1.0f);
    EACH(x < 0 ? alpha * expm1(x) : x);
}

void cpu_leaky_relu(const struct job *j)
{
    float alpha = node_float(j->node, "alpha", 0.01f);
    EACH(x < 0 ? alpha * x : x);
}

void cpu_selu(const struct job *j)
{
    float alpha = node_float(j->node, "alpha", 1.6732631921768188f),
          gamma = node_float(j->node, "gamma", 1.0507010221481323f);
    EACH(gamma * (x > 0 ? x : alpha * expm1(x)));
}

void cpu_thresholded_relu(const struct job *j)
{
    float alpha = node_float(j->node, "alpha", 1.0f);
    EACH(x > alpha ? x : x != x ? x : 0);
}

// Numbers in the precision of x.
#define AS(x, v) _Generic((x), float : (float)(v), double : (v))
#define HALF_ROOT(x) AS(x, 0.70710678118654752)
#define TWO_ROOT_PI(x) AS(x, 0.79788456080286536)
#define CUBED(x) AS(x, 0.044715)

// By tanh, of float32: piece by piece, so that what was computed is still in the cache.
static void gelu_f32(const float *x, float *y, size_t n)
{
    enum { PIECE = 1024 };
    float curve[PIECE];
    for (size_t k; n > 0; n -= k, x += k, y += k) {
        k = n < PIECE ? n : PIECE;
        for (size_t i = 0; i < k; i++)
            curve[i] = TWO_ROOT_PI(*x) * (x[i] + CUBED(*x) * x[i] * x[i] * x[i]);
        curve_tanh(curve, k);
        EACH_BY_ITSELF
        for (size_t i = 0; i < k; i++)
            y[i] = x[i] * 0.5f * (1 + curve[i]);
    }
}

void cpu_gelu(const struct job *j)
{
    const struct attr *how = node_attr(j->node, "approximate");
    bool by_tanh = how && view_is(how->s, "tanh");
    if (by_tanh && j->out->dtype == ENGINE_F32)
        gelu_f32(j->in[0]->data, j->out->data, count_all(j->out));
    else if (by_tanh)
        EACH(x / 2 * (1 + tanh(TWO_ROOT_PI(x) * (x + CUBED(x) * x * x * x))));
    else
        EACH(x / 2 * (1 + erf(x * HALF_ROOT(x))));
}

void cpu_swish(const struct job *j)
{
    float alpha = node_float(j->node, "alpha", 1.0f);
    EACH(x / (1 + exp(-alpha * x)));
}

void cpu_shrink(const struct job *j)
{
    float bias = node_float(j->node, "bias", 0), lambd = node_float(j->node, "lambd", 0.5f);
    EACH(x < -lambd ? x + bias : x > lambd ? x - bias : x != x ? x : 0);
}

#define EACH_BOOL(T, expression)                                                                   \
    for (size_t i = 0; i < n; i++) {                                                               \
        T x = ((const T *)j->in[0]->data)[i];                                                      \
        ((uint8_t *)j->out->data)[i] = (expression);                                               \
    }

void cpu_is_nan(const struct job *j)
{
    size_t n = count_all(j->out);
    if (j->in[0]->dtype == ENGINE_F32)
        EACH_BOOL(float, x != x)
    else
        EACH_BOOL(double, x != x)
}

void cpu_is_inf(const struct job *j)
{
    bool below = node_int(j->node, "detect_negative", 1) != 0;
    bool above = node_int(j->node, "detect_positive", 1) != 0;
    size_t n = count_all(j->out);
    if (j->in[0]->dtype == ENGINE_F32)
        EACH_BOOL(float, (above && x == INFINITY) || (below && x == -INFINITY))
    else
        EACH_BOOL(double, (above && x == INFINITY) || (below && x == -INFINITY))
}

void cpu_not(const struct job *j)
{
    const uint8_t *x = j->in[0]->data;
    size_t n = count_all(j->out);
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)j->out->data)[i] = !x[i];
}

// ---- Softmax -----------------------------------------------------------------------------------------

// Each along n elements of T that stand `step` apart.
#define ALONG(name, T, body)                                                                       \
    static void name(const void *from, void *to, size_t n, size_t step)                            \
    {                                                                                              \
        const T *x = from;                                                                         \
        T *y = to, most = -(T)INFINITY, sum = 0;                                                   \
        for (size_t i = 0; i < n; i++)                                                             \
            most = x[i * step] > most ? x[i * step] : most;                                        \
        body                                                                                       \
    }

#define SOFTMAX                                                                                    \
    for (size_t i = 0; i < n; i++) {                                                               \
        y[i * step] = exp(x[i * step] - most);                                                     \
        sum += y[i * step];                                                                        \
    }                                                                                              \
    for (size_t i = 0; i < n; i++)                                                                 \
        y[i * step] /= sum;
#define LOG_SOFTMAX                                                                                \
    for (size_t i = 0; i < n; i++)                                                                 \
        sum += exp(x[i * step] - most);                                                            \
    sum = n > 0 ? log(sum) : 0;                                                                    \
    for (size_t i = 0; i < n; i++)                                                                 \
        y[i * step] = x[i * step] - most - sum;
#define HARDMAX /* 1 for the first of the largest */                                               \
    for (size_t i = 0; i < n; i++) {                                                               \
        y[i * step] = sum == 0 && x[i * step] == most;                                             \
        sum += y[i * step];                                                                        \
    }

ALONG(softmax_f32, float, SOFTMAX)
ALONG(softmax_f64, double, SOFTMAX)
ALONG(log_softmax_f32, float, LOG_SOFTMAX)
ALONG(log_softmax_f64, double, LOG_SOFTMAX)
ALONG(hardmax_f32, float, HARDMAX)
ALONG(hardmax_f64, double, HARDMAX)

PARTS_OF(most_of, float, -INFINITY, v > s ? v : s, v > s ? v : s)
PARTS_OF(sum_of, float, 0, s + v, s + v)

#define BLOCK 1024 // elements of short rows whose exponentials are taken together

// Rows of n that stand one behind the other.
static void softmax_rows(const float *x, float *y, size_t rows, size_t n)
{
    for (size_t r = 0; r < rows; r++) {
        const float *from = x + r * n;
        float *to = y + r * n, most = n < PARTS ? -INFINITY : most_of(from, n, 0);
        for (size_t i = 0; n < PARTS && i < n; i++)
            most = from[i] > most ? from[i] : most;
        for (size_t i = 0; i < n; i++)
            to[i] = from[i] - most;
    }
    curve_exp(y, rows * n);
    for (size_t r = 0; r < rows; r++, y += n) {
        float sum = n < PARTS ? 0 : sum_of(y, n, 0);
        for (size_t i = 0; n < PARTS && i < n; i++)
            sum += y[i];
        for (size_t i = 0; i < n; i++)
            y[i] *= 1 / sum;
    }
}

static void softmax_lines(const float *x, float *y, size_t rows, size_t n)
{
    size_t most = n < BLOCK ? BLOCK / n : 1;
    for (size_t r = 0, some; r < rows; r += some) {
        some = rows - r < most ? rows - r : most;
        softmax_rows(x + r * n, y + r * n, some, n);
    }
}

typedef void along_fn(const void *x, void *y, size_t n, size_t step);

struct along { // n elements, `inner` apart, of which there are outer * inner
    size_t outer, n, inner;
};

static struct along along_of(const struct job *j)
{
    const struct array *a = j->in[0];
    bool flat = j->node->opset < 13; // before 13 the axes from `axis` on are one
    int64_t axis = node_int(j->node, "axis", flat ? 1 : -1);
    axis += axis < 0 ? a->rank : 0;
    unsigned first = (unsigned)axis, end = flat ? a->rank : first + 1;
    return (struct along){count_between(a, 0, first), count_between(a, first, end),
                          count_from(a, end)};
}

static void along_axis(const struct job *j, along_fn *f32, along_fn *f64)
{
    const struct array *a = j->in[0];
    struct along s = along_of(j);
    for (size_t o = 0; o < s.outer; o++) {
        for (size_t k = 0; k < s.inner; k++) {
            size_t at = (o * s.n * s.inner + k) * dtype_bytes(a->dtype);
            (a->dtype == ENGINE_F32 ? f32 : f64)((const char *)a->data + at,
                                                 (char *)j->out->data + at, s.n, s.inner);
        }
    }
}

void cpu_softmax(const struct job *j)
{
    struct along s = along_of(j);
    if (s.inner == 1 && j->in[0]->dtype == ENGINE_F32)
        softmax_lines(j->in[0]->data, j->out->data, s.outer, s.n);
    else
        along_axis(j, softmax_f32, softmax_f64);
}

void cpu_log_softmax(const struct job *j)
{
    along_axis(j, log_softmax_f32, log_softmax_f64);
}

void cpu_hardmax(const struct job *j)
{
    along_axis(j, hardmax_f32, hardmax_f64);
}

// ---- BatchNormalization ------------------------------------------------------------------------------

void cpu_batchnorm(const struct job *j)
{
    const struct array *a = j->in[0];
    const float *scale = j->in[1]->data, *bias = j->in[2]->data, *mean = j->in[3]->data,
                *variance = j->in[4]->data, *x = a->data;
    float epsilon = node_float(j->node, "epsilon", 1e-5f), *y = j->out->data;
    size_t channels = (size_t)a->shape[1], inner = count_from(a, 2);
    for (size_t image = 0; image < (size_t)a->shape[0]; image++) {
        for (size_t c = 0; c < channels; c++) {
            float m = scale[c] / sqrt(variance[c] + epsilon), b = bias[c] - mean[c] * m;
            for (size_t i = 0; i < inner; i++, x++, y++)
                *y = *x * m + b;
        }
    }
}
