// What models of ai.onnx.ml do with their scores. Formulas: ONNX's reference implementation
// (onnx/onnx onnx/reference/ops/aionnxml/_common_classifier.py).
#include "engine/cpu/cpu.h"
#include "engine/cpu/ml.h"

#include <math.h>

static float logistic_of(float v)
{
    float p = 1 / (1 + expf(-fabsf(v)));
    return v < 0 ? 1 - p : p;
}

// Winitzki's approximation of the inverse error function, which is what the standard's own code takes.
static float inverse_erf(float x)
{
    float left = (1 - x) * (1 + x);
    if (left == 0)
        return 0;
    float log = logf(left), a = 2 / (3.14159265f * 0.147f) + 0.5f * log, b = log / 0.147f;
    float root = sqrtf(sqrtf(a * a - b) - a);
    return x < 0 ? -root : root;
}

static void softmax_scores(float *s, size_t n, bool zeros)
{
    float most = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++)
        most = s[i] > most ? s[i] : most;
    for (size_t i = 0; i < n; i++) {
        bool keeps = zeros && fabsf(s[i]) <= 1e-7f; // 0 stays about 0
        s[i] = keeps ? s[i] * expf(-most) : expf(s[i] - most);
        sum += s[i];
    }
    for (size_t i = 0; i < n; i++)
        s[i] = sum == 0 ? 0.5f : s[i] / sum;
}

void ml_apply(enum ml_transform t, float *scores, size_t n)
{
    if (t == ML_SOFTMAX || t == ML_SOFTMAX_ZERO)
        softmax_scores(scores, n, t == ML_SOFTMAX_ZERO);
    for (size_t i = 0; i < n && t == ML_LOGISTIC; i++)
        scores[i] = logistic_of(scores[i]);
    for (size_t i = 0; i < n && t == ML_PROBIT; i++)
        scores[i] = 1.41421356f * inverse_erf(2 * scores[i] - 1);
}

const float *ml_row(const struct array *x, size_t row, size_t n, float *room)
{
    size_t first = row * n;
    if (x->dtype == ENGINE_F32)
        return (const float *)x->data + first;
    for (size_t i = 0; i < n; i++) {
        if (x->dtype == ENGINE_F64)
            room[i] = (float)((const double *)x->data)[first + i];
        else if (x->dtype == ENGINE_I64)
            room[i] = (float)((const int64_t *)x->data)[first + i];
        else
            room[i] = (float)((const int32_t *)x->data)[first + i];
    }
    return room;
}

size_t ml_rows(const struct array *x, size_t *each)
{
    *each = x->rank > 0 ? (size_t)x->shape[x->rank - 1] : 1;
    return x->rank > 1 ? (size_t)x->shape[0] : 1;
}

void ml_label(const struct job *j, size_t row, size_t best)
{
    size_t n;
    const struct view *strings = node_strings(j->node, "classlabels_strings", &n);
    const int64_t *ints = node_ints(j->node, "classlabels_int64s", &n);
    if (!ints)
        ints = node_ints(j->node, "classlabels_ints", &n);
    if (strings)
        ((struct view *)j->out->data)[row] = strings[best];
    else
        ((int64_t *)j->out->data)[row] = ints[best];
}
