// What prepares features in ai.onnx.ml: Scaler, Imputer, Normalizer, Binarizer, OneHotEncoder,
// ArrayFeatureExtractor, FeatureVectorizer, LabelEncoder.
#include "engine/cpu/cpu.h"
#include "engine/cpu/ml.h"

#include <math.h>

size_t cpu_ml_features_scratch(const struct job *j)
{
    size_t most = 0, each;
    for (unsigned i = 0; i < j->node->n_inputs; i++) {
        ml_rows(j->in[i], &each);
        most = each > most ? each : most;
    }
    return most * sizeof(float);
}

void cpu_scaler(const struct job *j)
{
    const struct attr *scale = node_attr(j->node, "scale"), *offset = node_attr(j->node, "offset");
    size_t each, rows = ml_rows(j->in[0], &each);
    for (size_t r = 0; r < rows; r++) {
        const float *x = ml_row(j->in[0], r, each, j->scratch);
        float *y = (float *)j->out->data + r * each;
        for (size_t i = 0; i < each; i++)
            y[i] = (x[i] - offset->floats[offset->n > 1 ? i : 0]) *
                   scale->floats[scale->n > 1 ? i : 0];
    }
}

#define IMPUTE(T, value, missing)                                                                  \
    for (size_t i = 0; i < n; i++) {                                                               \
        T v = ((const T *)j->in[0]->data)[i];                                                      \
        size_t at = with->n > 1 ? i % each : 0;                                                    \
        ((T *)j->out->data)[i] = (missing) ? (T)with->value[at] : v;                               \
    }

void cpu_imputer(const struct job *j)
{
    bool whole = j->in[0]->dtype == ENGINE_I64 || j->in[0]->dtype == ENGINE_I32;
    const struct attr *with =
        node_attr(j->node, whole ? "imputed_value_int64s" : "imputed_value_floats");
    float f = node_float(j->node, "replaced_value_float", 0);
    int64_t k = node_int(j->node, "replaced_value_int64", 0);
    size_t each, n = 0;
    ml_rows(j->in[0], &each);
    if (!array_count(j->out, &n))
        return;
    if (j->in[0]->dtype == ENGINE_F32)
        IMPUTE(float, floats, v == f || (v != v && f != f))
    else if (j->in[0]->dtype == ENGINE_F64)
        IMPUTE(double, floats, v == (double)f || (v != v && f != f))
    else if (j->in[0]->dtype == ENGINE_I64)
        IMPUTE(int64_t, ints, v == k)
    else
        IMPUTE(int32_t, ints, v == k)
}

static float norm_of(bool squares, const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += squares ? (double)x[i] * (double)x[i] : fabs((double)x[i]);
    return (float)(squares ? sqrt(sum) : sum);
}

// A row of zeros stays one.
void cpu_normalizer(const struct job *j)
{
    bool squares = view_is(node_attr(j->node, "norm")->s, "L2");
    size_t each, rows = ml_rows(j->in[0], &each);
    for (size_t r = 0; r < rows; r++) {
        const float *x = ml_row(j->in[0], r, each, j->scratch);
        float *y = (float *)j->out->data + r * each;
        float size = norm_of(squares, x, each);
        for (size_t i = 0; i < each; i++)
            y[i] = size != 0 ? x[i] / size : x[i];
    }
}

#define BINARIZE(T)                                                                                \
    for (size_t i = 0; i < n; i++)                                                                 \
        ((T *)j->out->data)[i] = (double)((const T *)j->in[0]->data)[i] > (double)least;

void cpu_binarizer(const struct job *j)
{
    float least = node_float(j->node, "threshold", 0);
    size_t n = 0;
    if (!array_count(j->out, &n))
        return;
    if (j->out->dtype == ENGINE_F32)
        BINARIZE(float)
    else if (j->out->dtype == ENGINE_F64)
        BINARIZE(double)
    else if (j->out->dtype == ENGINE_I64)
        BINARIZE(int64_t)
    else
        BINARIZE(int32_t)
}

void cpu_feature_extractor(const struct job *j)
{
    const struct array *x = j->in[0], *at = j->in[1];
    size_t size = dtype_bytes(x->dtype), n = 0, all = 0;
    int64_t last = x->shape[x->rank - 1];
    if (!array_count(at, &n) || !array_count(x, &all))
        return;
    char *to = j->out->data;
    for (size_t first = 0; first < all; first += (size_t)last) {
        for (size_t i = 0; i < n; i++, to += size) {
            int64_t k = ((const int64_t *)at->data)[i];
            if (k < 0 || k >= last) {
                *j->failure = "a place is out of range";
                return;
            }
            memcpy(to, (const char *)x->data + (first + (size_t)k) * size, size);
        }
    }
}

// A vector is a column. Cut, or filled with zeros, to what inputdimensions says.
void cpu_feature_vectorizer(const struct job *j)
{
    const struct attr *dims = node_attr(j->node, "inputdimensions");
    size_t rows = (size_t)j->out->shape[0], all = (size_t)j->out->shape[1], at = 0;
    for (unsigned i = 0; i < j->node->n_inputs; at += (size_t)dims->ints[i++]) {
        size_t each = j->in[i]->rank > 1 ? (size_t)j->in[i]->shape[1] : 1;
        size_t want = (size_t)dims->ints[i], have = each < want ? each : want;
        for (size_t r = 0; r < rows; r++) {
            float *y = (float *)j->out->data + r * all + at;
            const float *x = ml_row(j->in[i], r, each, j->scratch);
            memcpy(y, x, have * sizeof(*y));
            memset(y + have, 0, (want - have) * sizeof(*y));
        }
    }
}
