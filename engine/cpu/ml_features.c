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

static int64_t category_at(const struct array *x, size_t i)
{
    if (x->dtype == ENGINE_F32)
        return (int64_t)fminf(fmaxf(((const float *)x->data)[i], -9e18f), 9e18f);
    if (x->dtype == ENGINE_F64)
        return (int64_t)fmin(fmax(((const double *)x->data)[i], -9e18), 9e18);
    return x->dtype == ENGINE_I64 ? ((const int64_t *)x->data)[i] : ((const int32_t *)x->data)[i];
}

void cpu_one_hot_encoder(const struct job *j)
{
    const struct attr *cats = node_attr(j->node, "cats_int64s");
    bool zeros = node_int(j->node, "zeros", 1) != 0;
    size_t n = 0;
    if (!array_count(j->in[0], &n))
        return;
    float *y = j->out->data;
    for (size_t i = 0; i < n; i++, y += cats->n) {
        int64_t v = category_at(j->in[0], i);
        bool any = false;
        for (unsigned k = 0; k < cats->n; k++) {
            y[k] = v == cats->ints[k];
            any |= v == cats->ints[k];
        }
        if (!any && !zeros)
            *j->failure = "a value is none of the categories";
    }
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

static bool same_label(const struct array *keys, size_t k, const void *v)
{
    size_t size = dtype_bytes(keys->dtype);
    const char *key = (const char *)keys->data + k * size;
    if (memcmp(key, v, size) == 0)
        return true;
    if (keys->dtype == ENGINE_F32) { // 0 has two forms, what is not a number many
        float a = *(const float *)(const void *)key, b = *(const float *)v;
        return a == b || (a != a && b != b);
    }
    if (keys->dtype == ENGINE_F64) {
        double a = *(const double *)(const void *)key, b = *(const double *)v;
        return a == b || (a != a && b != b);
    }
    return false;
}

void cpu_label_encoder(const struct job *j)
{
    const struct array *x = j->in[0];
    struct labels l;
    size_t n = 0, in = dtype_bytes(x->dtype), out = dtype_bytes(j->out->dtype);
    if (!labels_read(j->node, &l) || !array_count(x, &n))
        return; // the plan has asked the same and was answered
    for (size_t i = 0; i < n; i++) {
        const void *v = (const char *)x->data + i * in, *to = l.other;
        for (size_t k = 0; k < l.n; k++) {
            if (same_label(&l.keys, k, v)) {
                to = (const char *)l.values.data + k * out;
                break;
            }
        }
        memcpy((char *)j->out->data + i * out, to, out);
    }
}
