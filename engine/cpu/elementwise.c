// Element by element: activations, Softmax, BatchNormalization.
#include "engine/cpu/cpu.h"

#include <math.h>

static size_t count_of(const struct array *a)
{
    size_t n = 1;
    for (unsigned i = 0; i < a->rank; i++)
        n *= (size_t)a->shape[i];
    return n;
}

// ---- activations -------------------------------------------------------------------------------------

#define EACH(expression)                                                                           \
    do {                                                                                           \
        const float *x_ = j->in[0]->data;                                                          \
        float *y_ = j->out->data;                                                                  \
        size_t n_ = count_of(j->out);                                                              \
        for (size_t i_ = 0; i_ < n_; i_++) {                                                       \
            float x = x_[i_];                                                                      \
            y_[i_] = (expression);                                                                 \
        }                                                                                          \
    } while (0)

void cpu_exp(const struct job *j)
{
    EACH(expf(x));
}

void cpu_sigmoid(const struct job *j)
{
    EACH(1 / (1 + expf(-x)));
}

void cpu_tanh(const struct job *j)
{
    EACH(tanhf(x));
}

static float bound(const struct job *j, unsigned input, const char *attr, float otherwise)
{
    if (input < j->node->n_inputs && j->in[input])
        return *(const float *)j->in[input]->data;
    return node_float(j->node, attr, otherwise);
}

void cpu_clip(const struct job *j)
{
    float low = bound(j, 1, "min", -INFINITY), high = bound(j, 2, "max", INFINITY);
    EACH((x < low ? low : x) > high ? high : x < low ? low : x); // high counts where they cross
}

static float clamp_to_one(float x)
{
    return x < 0 ? 0 : x > 1 ? 1 : x; // what is not a number stays so
}

#define UNARY(name, expression)                                                                    \
    void cpu_##name(const struct job *j)                                                           \
    {                                                                                              \
        EACH(expression);                                                                          \
    }

UNARY(acos, acosf(x))
UNARY(acosh, acoshf(x))
UNARY(asin, asinf(x))
UNARY(asinh, asinhf(x))
UNARY(atan, atanf(x))
UNARY(atanh, atanhf(x))
UNARY(ceil, ceilf(x))
UNARY(cos, cosf(x))
UNARY(cosh, coshf(x))
UNARY(erf, erff(x))
UNARY(floor, floorf(x))
UNARY(log, logf(x))
UNARY(reciprocal, 1 / x)
UNARY(round, rintf(x))
UNARY(sin, sinf(x))
UNARY(sinh, sinhf(x))
UNARY(softplus, x > 0 ? x + log1pf(expf(-x)) : log1pf(expf(x)))
UNARY(softsign, x / (1 + fabsf(x)))
UNARY(sqrt, sqrtf(x))
UNARY(tan, tanf(x))
UNARY(hard_swish, x *clamp_to_one(x / 6 + 0.5f))
UNARY(mish, x *tanhf(log1pf(expf(x))))

void cpu_celu(const struct job *j)
{
    float alpha = node_float(j->node, "alpha", 1.0f);
    EACH(x > 0 ? x : alpha * expm1f(x / alpha));
}

void cpu_elu(const struct job *j)
{
    float alpha = node_float(j->node, "alpha", 1.0f);
    EACH(x < 0 ? alpha * expm1f(x) : x);
}

void cpu_hard_sigmoid(const struct job *j)
{
    float alpha = node_float(j->node, "alpha", 0.2f), beta = node_float(j->node, "beta", 0.5f);
    EACH(clamp_to_one(alpha * x + beta));
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
    EACH(gamma * (x > 0 ? x : alpha * expm1f(x)));
}

void cpu_thresholded_relu(const struct job *j)
{
    float alpha = node_float(j->node, "alpha", 1.0f);
    EACH(x > alpha ? x : x != x ? x : 0);
}

void cpu_gelu(const struct job *j)
{
    const struct attr *how = node_attr(j->node, "approximate");
    if (how && view_is(how->s, "tanh"))
        EACH(0.5f * x * (1 + tanhf(0.7978845608f * (x + 0.044715f * x * x * x))));
    else
        EACH(0.5f * x * (1 + erff(x * 0.7071067812f)));
}

void cpu_not(const struct job *j)
{
    const uint8_t *x = j->in[0]->data;
    size_t n = count_of(j->out);
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)j->out->data)[i] = !x[i];
}

// ---- Softmax -----------------------------------------------------------------------------------------

// Along n elements that stand `step` apart.
static void softmax(const float *x, float *y, size_t n, size_t step)
{
    float most = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++)
        most = x[i * step] > most ? x[i * step] : most;
    for (size_t i = 0; i < n; i++) {
        y[i * step] = expf(x[i * step] - most);
        sum += y[i * step];
    }
    for (size_t i = 0; i < n; i++)
        y[i * step] /= sum;
}

static void log_softmax(const float *x, float *y, size_t n, size_t step)
{
    float most = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++)
        most = x[i * step] > most ? x[i * step] : most;
    for (size_t i = 0; i < n; i++)
        sum += expf(x[i * step] - most);
    float log_sum = n > 0 ? logf(sum) : 0;
    for (size_t i = 0; i < n; i++)
        y[i * step] = x[i * step] - most - log_sum;
}

static void along_axis(const struct job *j,
                       void (*fn)(const float *x, float *y, size_t n, size_t step))
{
    const struct array *a = j->in[0];
    bool flat = j->node->opset < 13; // before 13 the axes from `axis` on are one
    int64_t axis = node_int(j->node, "axis", flat ? 1 : -1);
    axis += axis < 0 ? a->rank : 0;
    size_t outer = 1, n = 1, inner = 1;
    for (unsigned i = 0; i < a->rank; i++) {
        size_t d = (size_t)a->shape[i];
        if (i < axis)
            outer *= d;
        else if (flat || i == axis)
            n *= d;
        else
            inner *= d;
    }
    for (size_t o = 0; o < outer; o++) {
        for (size_t k = 0; k < inner; k++) {
            size_t at = o * n * inner + k;
            fn((const float *)a->data + at, (float *)j->out->data + at, n, inner);
        }
    }
}

void cpu_softmax(const struct job *j)
{
    along_axis(j, softmax);
}

void cpu_log_softmax(const struct job *j)
{
    along_axis(j, log_softmax);
}

// ---- BatchNormalization ------------------------------------------------------------------------------

void cpu_batchnorm(const struct job *j)
{
    const struct array *a = j->in[0];
    const float *scale = j->in[1]->data, *bias = j->in[2]->data, *mean = j->in[3]->data,
                *variance = j->in[4]->data, *x = a->data;
    float epsilon = node_float(j->node, "epsilon", 1e-5f), *y = j->out->data;
    size_t channels = (size_t)a->shape[1], inner = 1;
    for (unsigned i = 2; i < a->rank; i++)
        inner *= (size_t)a->shape[i];
    for (size_t image = 0; image < (size_t)a->shape[0]; image++) {
        for (size_t c = 0; c < channels; c++) {
            float m = scale[c] / sqrtf(variance[c] + epsilon), b = bias[c] - mean[c] * m;
            for (size_t i = 0; i < inner; i++, x++, y++)
                *y = *x * m + b;
        }
    }
}
