// Signals: Fourier transforms (by their sum; in float64), windows, mel weights. And Einsum and Det.
#include "engine/cpu/cpu.h"

#include <math.h>

#define TURN 6.283185307179586

static double float_at(const struct array *a, size_t i)
{
    return a->dtype == ENGINE_F32 ? (double)((const float *)a->data)[i]
                                  : ((const double *)a->data)[i];
}

static void put_float(struct array *a, size_t i, double v)
{
    if (a->dtype == ENGINE_F32)
        ((float *)a->data)[i] = (float)v;
    else
        ((double *)a->data)[i] = v;
}

static double number_of(const struct array *a)
{
    return a->dtype == ENGINE_I64   ? (double)*(const int64_t *)a->data
           : a->dtype == ENGINE_I32 ? *(const int32_t *)a->data
                                    : (double)*(const float *)a->data;
}

// ---- transforms --------------------------------------------------------------------------------------

// cos and sin of i turns of n, [n] each.
static void turns(double *table, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        table[i] = cos(TURN * (double)i / (double)n);
        table[n + i] = sin(TURN * (double)i / (double)n);
    }
}

// Frequency k of the first `have` of n numbers, re and im (NULL: 0), `step` apart. sign: -1 forth, 1 back.
static void frequency(const double *table, int64_t n, int64_t have, const double *re,
                      const double *im, int64_t k, double sign, double *out_re, double *out_im)
{
    double r = 0, i = 0;
    for (int64_t t = 0; t < have; t++) {
        int64_t at = (int64_t)((uint64_t)k * (uint64_t)t % (uint64_t)n);
        double c = table[at], s = sign * table[n + at];
        r += re[t] * c - (im ? im[t] * s : 0);
        i += re[t] * s + (im ? im[t] * c : 0);
    }
    *out_re = r;
    *out_im = i;
}

size_t cpu_dft_scratch(const struct job *j)
{
    struct dft d;
    struct engine_error e;
    return dft_of(j, &d, &e) ? (size_t)d.n * 4 * sizeof(double) : 0;
}

void cpu_dft(const struct job *j)
{
    const struct array *x = j->in[0];
    struct dft d;
    struct engine_error e;
    if (!dft_of(j, &d, &e))
        return; // the plan has asked the same and was answered
    size_t outer = count_between(x, 0, d.axis), inner = count_between(x, d.axis + 1, x->rank - 1);
    size_t parts = d.pair ? 2 : 1, dim = (size_t)x->shape[d.axis];
    double *table = j->scratch, *re = table + 2 * d.n, *im = re + d.n;
    int64_t have = (int64_t)dim < d.n ? (int64_t)dim : d.n;
    turns(table, d.n);
    for (size_t o = 0; o < outer * inner; o++) {
        size_t first = o / inner * dim * inner + o % inner;
        for (int64_t t = 0; t < have; t++) {
            re[t] = float_at(x, (first + (size_t)t * inner) * parts);
            im[t] = d.pair ? float_at(x, (first + (size_t)t * inner) * parts + 1) : 0;
        }
        for (int64_t k = 0; k < d.outs; k++) {
            double r, i, by = d.inverse ? 1 / (double)d.n : 1;
            size_t to = (o / inner * (size_t)d.outs + (size_t)k) * inner + o % inner;
            frequency(table, d.n, have, re, im, k, d.inverse ? 1 : -1, &r, &i);
            put_float(j->out, 2 * to, r * by);
            put_float(j->out, 2 * to + 1, i * by);
        }
    }
}

size_t cpu_stft_scratch(const struct job *j)
{
    struct stft s;
    struct engine_error e;
    return stft_of(j, &s, &e) ? (size_t)s.n * 3 * sizeof(double) : 0;
}

void cpu_stft(const struct job *j)
{
    const struct array *x = j->in[0], *window = job_input(j, 2);
    struct stft s;
    struct engine_error e;
    size_t to = 0;
    if (!stft_of(j, &s, &e))
        return; // the plan has asked the same and was answered
    double *table = j->scratch, *re = table + 2 * s.n;
    turns(table, s.n);
    for (int64_t f = 0; f < x->shape[0] * s.frames; f++) {
        size_t first = (size_t)(f / s.frames * x->shape[1] + f % s.frames * s.step);
        for (int64_t t = 0; t < s.n; t++)
            re[t] = float_at(x, first + (size_t)t) * (window ? float_at(window, (size_t)t) : 1);
        for (int64_t k = 0; k < s.outs; k++, to += 2) {
            double r, i;
            frequency(table, s.n, s.n, re, NULL, k, -1, &r, &i);
            put_float(j->out, to, r);
            put_float(j->out, to + 1, i);
        }
    }
}

// ---- windows -----------------------------------------------------------------------------------------

// a - b cos(2 pi i / n) + c cos(4 pi i / n)
static void window(const struct job *j, double a, double b, double c)
{
    int64_t size = j->out->shape[0];
    double n = (double)(node_int(j->node, "periodic", 1) != 0 ? size : size - 1);
    for (int64_t i = 0; i < size; i++) {
        double t = n > 0 ? TURN * (double)i / n : 0;
        put_float(j->out, (size_t)i, a - b * cos(t) + c * cos(2 * t));
    }
}

void cpu_hann_window(const struct job *j)
{
    window(j, 0.5, 0.5, 0);
}

void cpu_hamming_window(const struct job *j)
{
    window(j, 25.0 / 46, 21.0 / 46, 0);
}

void cpu_blackman_window(const struct job *j)
{
    window(j, 0.42, 0.5, 0.08);
}

// The bin of the spectrum at `edge` of the mel bins + 2 edges.
static int64_t mel_edge(const struct job *j, int64_t edge)
{
    double bins = number_of(j->in[0]), length = floor(number_of(j->in[1])),
           rate = number_of(j->in[2]);
    double low = 2595 * log10(1 + number_of(j->in[3]) / 700);
    double high = 2595 * log10(1 + number_of(j->in[4]) / 700);
    double mel = low + (double)edge * (high - low) / (floor(bins) + 2);
    double hertz = 700 * (pow(10, mel / 2595) - 1);
    int64_t bin = (int64_t)floor((length + 1) * hertz / rate), most = j->out->shape[0] - 1;
    return bin < 0 ? 0 : bin > most ? most : bin;
}

void cpu_mel_weights(const struct job *j)
{
    int64_t rows = j->out->shape[0], cols = j->out->shape[1];
    float *y = j->out->data;
    memset(y, 0, (size_t)(rows * cols) * sizeof(*y));
    for (int64_t c = 0; c < cols; c++) {
        int64_t low = mel_edge(j, c), mid = mel_edge(j, c + 1), high = mel_edge(j, c + 2);
        if (low == mid)
            y[mid * cols + c] = 1;
        for (int64_t r = low; low < mid && r <= mid; r++)
            y[r * cols + c] = (float)(r - low) / (float)(mid - low);
        for (int64_t r = mid; r < high; r++)
            y[r * cols + c] = (float)(high - r) / (float)(high - mid);
    }
}

// ---- Einsum ------------------------------------------------------------------------------------------

// Elements that a label moves each operand by; twice in one term: along the diagonal.
static void label_steps(const struct job *j, const struct einsum *s,
                        size_t step[EINSUM_INPUTS][EINSUM_LABELS])
{
    memset(step, 0, sizeof(step[0]) * EINSUM_INPUTS);
    for (unsigned k = 0; k < j->node->n_inputs; k++) {
        size_t size = 1;
        for (unsigned i = j->in[k]->rank; i-- > 0; size *= (size_t)j->in[k]->shape[i]) {
            if (j->in[k]->shape[i] > 1)
                step[k][s->labels[k][i]] += size;
        }
    }
}

// All products of one element of the output: `at` is the place of its labels, the others are walked.
#define EINSUM_SUM(name, T, U)                                                                     \
    static U name(const struct job *j, const struct einsum *s,                                     \
                  size_t step[EINSUM_INPUTS][EINSUM_LABELS], const size_t *from, size_t sums)      \
    {                                                                                              \
        U all = 0;                                                                                 \
        for (size_t n = 0; n < sums; n++) {                                                        \
            U product = 1;                                                                         \
            for (unsigned k = 0; k < j->node->n_inputs; k++) {                                     \
                size_t rest = n, at = from[k];                                                     \
                for (unsigned l = s->n_order; l-- > s->n_out;) {                                   \
                    size_t dim = (size_t)s->dim[s->order[l]];                                      \
                    at += rest % dim * step[k][s->order[l]];                                       \
                    rest /= dim;                                                                   \
                }                                                                                  \
                product *= (U)((const T *)j->in[k]->data)[at];                                     \
            }                                                                                      \
            all += product;                                                                        \
        }                                                                                          \
        return all;                                                                                \
    }
EINSUM_SUM(einsum_f32, float, double)
EINSUM_SUM(einsum_f64, double, double)
EINSUM_SUM(einsum_i32, int32_t, uint32_t)
EINSUM_SUM(einsum_i64, int64_t, uint64_t)

void cpu_einsum(const struct job *j)
{
    size_t step[EINSUM_INPUTS][EINSUM_LABELS], outs = 1, sums = 1;
    struct einsum s;
    if (!einsum_of(j, &s))
        return; // the plan has asked the same and was answered
    label_steps(j, &s, step);
    for (unsigned l = 0; l < s.n_order; l++)
        *(l < s.n_out ? &outs : &sums) *= (size_t)s.dim[s.order[l]];
    for (size_t o = 0; o < outs; o++) {
        size_t from[EINSUM_INPUTS] = {0}, rest = o;
        for (unsigned l = s.n_out; l-- > 0;) {
            size_t dim = (size_t)s.dim[s.order[l]];
            for (unsigned k = 0; k < j->node->n_inputs; k++)
                from[k] += rest % dim * step[k][s.order[l]];
            rest /= dim;
        }
        if (j->out->dtype == ENGINE_F32)
            ((float *)j->out->data)[o] = (float)einsum_f32(j, &s, step, from, sums);
        else if (j->out->dtype == ENGINE_F64)
            ((double *)j->out->data)[o] = einsum_f64(j, &s, step, from, sums);
        else if (j->out->dtype == ENGINE_I32)
            ((int32_t *)j->out->data)[o] = (int32_t)einsum_i32(j, &s, step, from, sums);
        else
            ((int64_t *)j->out->data)[o] = (int64_t)einsum_i64(j, &s, step, from, sums);
    }
}

// ---- Det ---------------------------------------------------------------------------------------------

size_t cpu_det_scratch(const struct job *j)
{
    size_t n = (size_t)j->in[0]->shape[j->in[0]->rank - 1];
    return n * n * sizeof(double);
}

// Gauss, with the largest of each column as the pivot.
static double determinant(double *m, size_t n)
{
    double det = 1;
    for (size_t c = 0; c < n; c++) {
        size_t pivot = c;
        for (size_t r = c + 1; r < n; r++)
            pivot = fabs(m[r * n + c]) > fabs(m[pivot * n + c]) ? r : pivot;
        if (m[pivot * n + c] == 0)
            return 0;
        for (size_t k = 0; pivot != c && k < n; k++) {
            double keep = m[c * n + k];
            m[c * n + k] = m[pivot * n + k];
            m[pivot * n + k] = keep;
        }
        det *= pivot != c ? -m[c * n + c] : m[c * n + c];
        for (size_t r = c + 1; r < n; r++) {
            double by = m[r * n + c] / m[c * n + c];
            for (size_t k = c; k < n; k++)
                m[r * n + k] -= by * m[c * n + k];
        }
    }
    return det;
}

void cpu_det(const struct job *j)
{
    const struct array *x = j->in[0];
    size_t n = (size_t)x->shape[x->rank - 1], all = 0;
    double *m = j->scratch;
    if (!array_count(j->out, &all))
        return;
    for (size_t i = 0; i < all; i++) {
        for (size_t k = 0; k < n * n; k++)
            m[k] = float_at(x, i * n * n + k);
        put_float(j->out, i, determinant(m, n));
    }
}
