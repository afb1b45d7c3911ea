// Normalizations: layer, RMS, instance, group, Lp, mean and variance, LRN; and the ops of com.microsoft that add
// before they normalize. Float32; sums in one order whatever the batch.
#include "engine/cpu/cpu.h"
#include "engine/cpu/parts.h"

#include <math.h>

PARTS_OF(sum_of, float, 0, s + v, s + v)
PARTS_OF(squares_of, float, 0, s + (v - mean) * (v - mean), s + v)

struct moments {
    float mean, inverse; // 1 / sqrt(variance + epsilon)
};

static struct moments moments_of(const float *x, size_t n, float epsilon)
{
    float mean = sum_of(x, n, 0) / (float)n;
    return (struct moments){mean, 1 / sqrtf(squares_of(x, n, mean) / (float)n + epsilon)};
}

// y = (x - mean) * inverse * scale + bias, element by element; bias NULL: none.
static void scale_row(const float *x, struct moments m, const float *scale, const float *bias,
                      size_t n, float *y)
{
    for (size_t i = 0; i < n; i++) {
        float v = (x[i] - m.mean) * m.inverse * scale[i];
        y[i] = bias ? v + bias[i] : v;
    }
}

// Row `at` to at + n of LayerNormalization and its like, whose scale and bias may be of fewer axes or of more.
static void scale_tail(const struct job *j, size_t at, struct moments m, size_t n)
{
    const struct array *scale = j->in[1], *bias = job_input(j, 2);
    const float *x = (const float *)j->in[0]->data + at;
    float *y = (float *)j->out->data + at;
    size_t scales = count_all(scale), biases = bias ? count_all(bias) : n;
    if (scales == n && biases == n) {
        scale_row(x, m, scale->data, job_data(j, 2), n, y);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        float v = (x[i] - m.mean) * m.inverse * ((const float *)scale->data)[(at + i) % scales];
        y[i] = bias ? v + ((const float *)bias->data)[(at + i) % biases] : v;
    }
}

static void keep_moments(const struct job *j, size_t row, struct moments m)
{
    if (j->outs[1])
        ((float *)j->outs[1]->data)[row] = m.mean;
    if (j->outs[2])
        ((float *)j->outs[2]->data)[row] = m.inverse;
}

void cpu_layer_norm(const struct job *j)
{
    const float *x = j->in[0]->data;
    size_t all = count_from(j->in[0], 0), n = count_from(j->in[0], (unsigned)shape_axis(j, -1));
    float epsilon = node_float(j->node, "epsilon", 1e-5f);
    for (size_t at = 0, row = 0; at < all; at += n, row++) {
        struct moments m = moments_of(x + at, n, epsilon);
        scale_tail(j, at, m, n);
        keep_moments(j, row, m);
    }
}

void cpu_rms_norm(const struct job *j)
{
    const float *x = j->in[0]->data;
    size_t all = count_from(j->in[0], 0), n = count_from(j->in[0], (unsigned)shape_axis(j, -1));
    float epsilon = node_float(j->node, "epsilon", 1e-5f);
    for (size_t at = 0; at < all; at += n) {
        float inverse = 1 / sqrtf(squares_of(x + at, n, 0) / (float)n + epsilon);
        scale_tail(j, at, (struct moments){0, inverse}, n);
    }
}

// Blocks of n elements of x, one a channel or group; scale and bias by channel, `per` elements each.
static void norm_blocks(const struct job *j, size_t n, size_t per, size_t channels, size_t scales)
{
    const float *x = j->in[0]->data, *scale = j->in[1]->data, *bias = j->in[2]->data;
    float *y = j->out->data, epsilon = node_float(j->node, "epsilon", 1e-5f);
    size_t all = count_from(j->in[0], 0);
    for (size_t at = 0; at < all; at += n) {
        struct moments m = moments_of(x + at, n, epsilon);
        for (size_t i = at; i < at + n; i++) {
            size_t c = i / per % channels, s = c * scales / channels;
            y[i] = (x[i] - m.mean) * m.inverse * scale[s] + bias[s];
        }
    }
}

void cpu_instance_norm(const struct job *j)
{
    size_t per = count_from(j->in[0], 2), channels = (size_t)j->in[0]->shape[1];
    norm_blocks(j, per, per, channels, channels);
}

void cpu_group_norm(const struct job *j)
{
    size_t per = count_from(j->in[0], 2), channels = (size_t)j->in[0]->shape[1];
    size_t groups = (size_t)node_int(j->node, "num_groups", 1);
    norm_blocks(j, per * channels / groups, per, channels, (size_t)j->in[1]->shape[0]);
}

void cpu_lp_norm(const struct job *j)
{
    const struct array *a = j->in[0];
    unsigned axis = (unsigned)shape_axis(j, -1);
    bool squares = node_int(j->node, "p", 2) == 2;
    size_t inner = count_from(a, axis + 1), n = (size_t)a->shape[axis], all = count_from(a, 0);
    for (size_t at = 0; at < all; at += n * inner) {
        for (size_t k = 0; k < inner; k++) {
            const float *x = (const float *)a->data + at + k;
            float *y = (float *)j->out->data + at + k, sum = 0;
            for (size_t i = 0; i < n; i++)
                sum += squares ? x[i * inner] * x[i * inner] : fabsf(x[i * inner]);
            sum = squares ? sqrtf(sum) : sum;
            for (size_t i = 0; i < n; i++)
                y[i * inner] = sum == 0 ? 0 : x[i * inner] / sum;
        }
    }
}

// ---- mean and variance over any axes -----------------------------------------------------------------

static unsigned axes_set(const struct job *j)
{
    const struct attr *axes = node_attr(j->node, "axes");
    unsigned set = axes ? 0 : 1u << 0 | 1u << 2 | 1u << 3;
    for (unsigned i = 0; axes && i < axes->n; i++)
        set |= 1u << (axes->ints[i] < 0 ? axes->ints[i] + j->in[0]->rank : axes->ints[i]);
    return set;
}

// Which sum element `at` belongs to, of those over the axes of set.
static size_t sum_place(const struct array *x, unsigned set, size_t at)
{
    size_t place = 0, size = 1;
    for (unsigned i = x->rank; i-- > 0; at /= (size_t)x->shape[i]) {
        if (set >> i & 1)
            continue;
        place += at % (size_t)x->shape[i] * size;
        size *= (size_t)x->shape[i];
    }
    return place;
}

size_t cpu_mean_variance_scratch(const struct job *j)
{
    return 2 * count_from(j->in[0], 0) * sizeof(double);
}

void cpu_mean_variance(const struct job *j)
{
    const struct array *a = j->in[0];
    const float *x = a->data;
    unsigned set = axes_set(j);
    size_t all = count_from(a, 0), sums = 1, n;
    for (unsigned i = 0; i < a->rank; i++)
        sums *= set >> i & 1 ? 1 : (size_t)a->shape[i];
    double *mean = j->scratch, *square = mean + sums;
    n = all / (sums ? sums : 1);
    memset(mean, 0, 2 * sums * sizeof(*mean));
    for (size_t i = 0; i < all; i++)
        mean[sum_place(a, set, i)] += (double)x[i] / (double)n;
    for (size_t i = 0; i < all; i++) {
        double v = (double)x[i] - mean[sum_place(a, set, i)];
        square[sum_place(a, set, i)] += v * v / (double)n;
    }
    for (size_t i = 0; i < all; i++) {
        size_t s = sum_place(a, set, i);
        ((float *)j->out->data)[i] = (float)(((double)x[i] - mean[s]) / (sqrt(square[s]) + 1e-9));
    }
}

void cpu_lrn(const struct job *j)
{
    const struct array *a = j->in[0];
    float alpha = node_float(j->node, "alpha", 1e-4f), beta = node_float(j->node, "beta", 0.75f);
    float bias = node_float(j->node, "bias", 1);
    int64_t size = node_int(j->node, "size", 1), channels = a->shape[1];
    size_t per = count_from(a, 2), all = count_from(a, 0);
    for (size_t i = 0; i < all; i++) {
        int64_t c = (int64_t)(i / per) % channels, first = c - (size - 1) / 2, end = c + size / 2;
        const float *x = (const float *)a->data + i - (size_t)c * per;
        float sum = 0;
        for (int64_t k = first < 0 ? 0 : first; k <= end && k < channels; k++)
            sum += x[(size_t)k * per] * x[(size_t)k * per];
        ((float *)j->out->data)[i] =
            x[(size_t)c * per] / powf(bias + alpha / (float)size * sum, beta);
    }
}

// ---- com.microsoft -----------------------------------------------------------------------------------

// The sum is put where it is asked for, or where the answer goes.
static float *sum_row(const struct job *j, unsigned bias_at, size_t at, size_t n)
{
    const float *x = (const float *)j->in[0]->data + at, *skip = (const float *)j->in[1]->data + at;
    const float *bias = job_data(j, bias_at);
    float *sum = (float *)(j->outs[3] ? j->outs[3]->data : j->out->data) + at;
    for (size_t i = 0; i < n; i++)
        sum[i] = x[i] + skip[i] + (bias ? bias[i] : 0);
    return sum;
}

void cpu_skip_layer_norm(const struct job *j)
{
    const struct array *a = j->in[0];
    size_t all = count_from(a, 0), n = (size_t)a->shape[a->rank - 1];
    float epsilon = node_float(j->node, "epsilon", 1e-12f);
    for (size_t at = 0, row = 0; at < all; at += n, row++) {
        float *sum = sum_row(j, 4, at, n);
        struct moments m = moments_of(sum, n, epsilon);
        scale_row(sum, m, j->in[2]->data, job_data(j, 3), n, (float *)j->out->data + at);
        keep_moments(j, row, m);
    }
}

void cpu_skip_rms_norm(const struct job *j)
{
    const struct array *a = j->in[0];
    size_t all = count_from(a, 0), n = (size_t)a->shape[a->rank - 1];
    float epsilon = node_float(j->node, "epsilon", 1e-6f);
    for (size_t at = 0, row = 0; at < all; at += n, row++) {
        float *sum = sum_row(j, 3, at, n);
        struct moments m = {0, 1 / sqrtf(squares_of(sum, n, 0) / (float)n + epsilon)};
        scale_row(sum, m, j->in[2]->data, NULL, n, (float *)j->out->data + at);
        keep_moments(j, row, m);
    }
}

// Row k of a table; NULL with j's failure.
static const float *table_row(const struct job *j, unsigned table, int64_t k, size_t n)
{
    const struct array *t = j->in[table];
    if (k >= 0 && k < t->shape[0])
        return (const float *)t->data + (size_t)k * n;
    *j->failure = "an index is out of range";
    return NULL;
}

static int32_t id_at(const struct job *j, unsigned i, size_t at, int32_t otherwise)
{
    const float *ids = job_data(j, i);
    return ids ? ((const int32_t *)j->in[i]->data)[at] : otherwise;
}

// How many tokens of each row count, from the front.
static void mask_index(const struct job *j)
{
    size_t rows = (size_t)j->in[0]->shape[0], tokens = (size_t)j->in[0]->shape[1];
    for (size_t r = 0; j->outs[1] && r < rows; r++) {
        int32_t n = 0;
        for (size_t t = 0; t < tokens; t++)
            n += id_at(j, 7, r * tokens + t, 0) != 0;
        ((int32_t *)j->outs[1]->data)[r] = n;
    }
}

void cpu_embed_layer_norm(const struct job *j)
{
    size_t tokens = (size_t)j->in[0]->shape[1], all = (size_t)j->in[0]->shape[0] * tokens;
    size_t n = (size_t)j->out->shape[2];
    float epsilon = node_float(j->node, "epsilon", 1e-12f);
    mask_index(j);
    for (size_t at = 0; at < all; at++) {
        const float *word = table_row(j, 2, id_at(j, 0, at, 0), n);
        const float *place = table_row(j, 3, id_at(j, 8, at, (int32_t)(at % tokens)), n);
        const float *kind = job_data(j, 4) ? table_row(j, 4, id_at(j, 1, at, 0), n) : NULL;
        if (*j->failure)
            return;
        float *sum = (float *)(j->outs[2] ? j->outs[2]->data : j->out->data) + at * n;
        for (size_t i = 0; i < n; i++)
            sum[i] = word[i] + place[i] + (kind ? kind[i] : 0);
        scale_row(sum, moments_of(sum, n, epsilon), j->in[5]->data, j->in[6]->data, n,
                  (float *)j->out->data + at * n);
    }
}

static float gelu_of(float x, bool fast)
{
    if (fast)
        return 0.5f * x * (1 + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
    return 0.5f * x * (1 + erff(x * 0.7071067812f));
}

static void biased_gelu(const struct job *j, bool fast)
{
    const float *x = j->in[0]->data, *bias = job_data(j, 1);
    size_t all = count_from(j->in[0], 0), n = bias ? (size_t)j->in[1]->shape[0] : all;
    for (size_t at = 0; at < all; at += n) {
        for (size_t i = 0; i < n; i++)
            ((float *)j->out->data)[at + i] = gelu_of(x[at + i] + (bias ? bias[i] : 0), fast);
    }
}

void cpu_bias_gelu(const struct job *j)
{
    biased_gelu(j, false);
}

void cpu_fast_gelu(const struct job *j)
{
    biased_gelu(j, true);
}
