// Element by element: arithmetic with broadcasting, activations, Softmax, BatchNormalization.
#include "engine/cpu/cpu.h"

#include <math.h>

static size_t count_of(const struct array *a)
{
    size_t n = 1;
    for (unsigned i = 0; i < a->rank; i++)
        n *= (size_t)a->shape[i];
    return n;
}

// ---- arithmetic --------------------------------------------------------------------------------------

// Element steps of an operand along the output's axes: 0 where it is broadcast.
static void steps_of(const struct array *a, const struct array *out, size_t *step)
{
    size_t size = 1;
    for (unsigned i = out->rank; i-- > 0;) {
        unsigned back = out->rank - 1 - i;
        int64_t dim = back < a->rank ? a->shape[a->rank - 1 - back] : 1;
        step[i] = dim == 1 ? 0 : size;
        size *= (size_t)dim;
    }
}

typedef float (*binary)(float a, float b);

static float add(float a, float b)
{
    return a + b;
}
static float add_relu(float a, float b)
{
    return a + b < 0 ? 0 : a + b;
}
static float sub(float a, float b)
{
    return a - b;
}
static float mul(float a, float b)
{
    return a * b;
}
static float divide(float a, float b)
{
    return a / b;
}

// The innermost axis: both contiguous, or one of them standing still.
static inline __attribute__((always_inline)) void
run_axis(float *y, const float *a, size_t sa, const float *b, size_t sb, size_t n, binary f)
{
    if (sa == 1 && sb == 1) {
        for (size_t i = 0; i < n; i++)
            y[i] = f(a[i], b[i]);
    } else if (sa == 1) {
        for (size_t i = 0; i < n; i++)
            y[i] = f(a[i], *b);
    } else {
        for (size_t i = 0; i < n; i++)
            y[i] = f(a[i * sa], b[i * sb]);
    }
}

static inline __attribute__((always_inline)) void arithmetic(const struct job *j, binary f)
{
    const struct array *out = j->out;
    const float *a = j->in[0]->data, *b = j->in[1]->data;
    float *y = out->data;
    size_t sa[ENGINE_MAX_RANK + 1] = {0}, sb[ENGINE_MAX_RANK + 1] = {0},
                                at[ENGINE_MAX_RANK + 1] = {0};
    size_t all = count_of(out);
    if (all == 0)
        return;
    if (count_of(j->in[0]) == all && count_of(j->in[1]) == all) {
        run_axis(y, a, 1, b, 1, all, f);
        return;
    }
    steps_of(j->in[0], out, sa);
    steps_of(j->in[1], out, sb);
    unsigned last = out->rank - 1;
    size_t inner = (size_t)out->shape[last];
    for (size_t done = 0; done < all; done += inner) {
        size_t oa = 0, ob = 0;
        for (unsigned i = 0; i < last; i++) {
            oa += at[i] * sa[i];
            ob += at[i] * sb[i];
        }
        run_axis(y + done, a + oa, sa[last], b + ob, sb[last], inner, f);
        for (unsigned i = last; i-- > 0;) {
            if (++at[i] < (size_t)out->shape[i])
                break;
            at[i] = 0;
        }
    }
}

void cpu_add(const struct job *j)
{
    if (j->node->relu)
        arithmetic(j, add_relu);
    else
        arithmetic(j, add);
}

void cpu_sub(const struct job *j)
{
    arithmetic(j, sub);
}

void cpu_mul(const struct job *j)
{
    arithmetic(j, mul);
}

void cpu_div(const struct job *j)
{
    arithmetic(j, divide);
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

void cpu_relu(const struct job *j)
{
    EACH(x < 0 ? 0 : x); // a NaN stays a NaN
}

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
    EACH(x < low ? low : x > high ? high : x);
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

void cpu_softmax(const struct job *j)
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
            softmax((const float *)a->data + at, (float *)j->out->data + at, n, inner);
        }
    }
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
