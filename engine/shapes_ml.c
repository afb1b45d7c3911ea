// Shapes of ai.onnx.ml: trees, linear models, support vectors, and what prepares features. As engine/shapes.c:
// whatever a kernel relies on is checked here. Source of the rules: onnx/onnx docs/Operators-ml.md.
#include "engine/strings.h"

// ---- what all have -----------------------------------------------------------------------------------

static bool is_number(const struct array *x)
{
    return x->dtype == ENGINE_F32 || x->dtype == ENGINE_F64 || x->dtype == ENGINE_I32 ||
           x->dtype == ENGINE_I64;
}

// Rows of features, or one row as a vector: its rows and their length.
static bool rows_of(struct job *j, int64_t *rows, int64_t *each, struct engine_error *e)
{
    const struct array *x = j->in[0];
    if (!is_number(x) || x->rank < 1 || x->rank > 2)
        return shape_wrong(j, e, "expected rows of floats, int32 or int64");
    *rows = x->rank == 2 ? x->shape[0] : 1;
    *each = x->shape[x->rank - 1];
    return true;
}

bool ml_transform_of(const struct node *n, enum ml_transform *t)
{
    static const char *const names[] = {"NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"};
    const struct attr *a = node_attr(n, "post_transform");
    *t = ML_NONE;
    for (unsigned i = 0; a && i < sizeof(names) / sizeof(names[0]); i++) {
        if (view_is(a->s, names[i])) {
            *t = (enum ml_transform)i;
            return true;
        }
    }
    return !a;
}

// ---- trees -------------------------------------------------------------------------------------------

bool trees_of(const struct node *n, int64_t *targets, unsigned *sum, enum ml_transform *t,
              struct engine_error *e)
{
    static const char *const sums[] = {"SUM", "AVERAGE", "MIN", "MAX"};
    const struct attr *how = node_attr(n, "aggregate_function");
    struct job j = {.node = (struct node *)n};
    bool classes = view_is(n->type, "TreeEnsembleClassifier"), known = !how;
    *sum = 0;
    for (unsigned i = 0; how && i < 4; i++) {
        if (view_is(how->s, sums[i])) {
            *sum = i;
            known = true;
        }
    }
    if (!known || !ml_transform_of(n, t))
        return shape_wrong(&j, e, "aggregate_function or post_transform is not known");
    enum engine_dtype labels = ENGINE_I64;
    *targets = classes ? (int64_t)class_labels(n, &labels) : node_int(n, "n_targets", 1);
    if (labels == ENGINE_NONE)
        return shape_wrong(&j, e, "expected labels that are strings or numbers, not both");
    if (*targets < (classes ? 2 : 1) || *targets > 1 << 16)
        return shape_wrong(&j, e, "expected 1 to 65536 targets, or 2 to 65536 labels");
    if (!classes && *targets == 1 && *t != ML_NONE && *t != ML_PROBIT)
        return shape_wrong(&j, e, "post_transform: expected NONE or PROBIT for one target");
    return true;
}

static bool features_fit(struct job *j, int64_t each, struct engine_error *e)
{
    const struct attr *features = node_attr(j->node, "nodes_featureids");
    for (unsigned i = 0; features && i < features->n; i++) {
        if (features->ints[i] >= each)
            return shape_wrong(j, e, "nodes_featureids: beyond the features of a row");
    }
    return each > 0 || shape_wrong(j, e, "expected features");
}

// scores: [rows, targets].
static bool tree_scores(struct job *j, int64_t scores[2], struct engine_error *e)
{
    int64_t each = 0;
    unsigned sum;
    enum ml_transform t;
    return rows_of(j, &scores[0], &each, e) && trees_of(j->node, &scores[1], &sum, &t, e) &&
           features_fit(j, each, e);
}

bool shape_tree_regressor(struct job *j, struct engine_error *e)
{
    int64_t scores[2];
    return tree_scores(j, scores, e) && shape_make(j, ENGINE_F32, 2, scores, e);
}

bool shape_tree_classifier(struct job *j, struct engine_error *e)
{
    int64_t scores[2];
    enum engine_dtype d;
    class_labels(j->node, &d);
    return tree_scores(j, scores, e) && shape_make(j, d, 1, scores, e) &&
           shape_make_at(j, 1, ENGINE_F32, 2, scores, e);
}

bool trees_of_5(const struct node *n, int64_t *targets, unsigned *sum, enum ml_transform *t,
                struct engine_error *e)
{
    struct job j = {.node = (struct node *)n};
    int64_t how = node_int(n, "aggregate_function", 1),
            transform = node_int(n, "post_transform", 0);
    *targets = node_int(n, "n_targets", 1);
    if (how < 0 || how > 3 || transform < 0 || transform > ML_PROBIT)
        return shape_wrong(&j, e, "aggregate_function or post_transform is not known");
    if (*targets < 1 || *targets > 1 << 16)
        return shape_wrong(&j, e, "expected 1 to 65536 targets");
    *sum = (unsigned)how;
    *t = (enum ml_transform)transform;
    if (*targets == 1 && *t != ML_NONE && *t != ML_PROBIT)
        return shape_wrong(&j, e, "post_transform: expected NONE or PROBIT for one target");
    return true;
}

bool shape_tree_ensemble(struct job *j, struct engine_error *e)
{
    int64_t rows = 0, each = 0, targets = 0;
    unsigned sum;
    enum ml_transform t;
    if (j->in[0]->dtype != ENGINE_F32 && j->in[0]->dtype != ENGINE_F64)
        return shape_wrong(j, e, "expected floats");
    if (j->in[0]->dtype == ENGINE_F64 && node_int(j->node, "post_transform", 0) != 0)
        return shape_wrong(j, e, "post_transform: expected 0 for float64");
    return rows_of(j, &rows, &each, e) && trees_of_5(j->node, &targets, &sum, &t, e) &&
           features_fit(j, each, e) &&
           shape_make(j, j->in[0]->dtype, 2, (int64_t[]){rows, targets}, e);
}

// ---- linear models and support vectors ---------------------------------------------------------------

static const struct attr *floats_of(const struct node *n, const char *name)
{
    const struct attr *a = node_attr(n, name);
    return a && a->kind == ATTR_FLOATS && a->n > 0 ? a : NULL;
}

// How many, and their datatype. False with e: of two.
static bool labels_of(struct job *j, int64_t *n, enum engine_dtype *d, struct engine_error *e)
{
    *n = (int64_t)class_labels(j->node, d);
    return *d != ENGINE_NONE ||
           shape_wrong(j, e, "expected labels that are strings or numbers, not both");
}

bool shape_linear_regressor(struct job *j, struct engine_error *e)
{
    int64_t rows = 0, each = 0, targets = node_int(j->node, "targets", 1);
    const struct attr *w = floats_of(j->node, "coefficients"),
                      *b = floats_of(j->node, "intercepts");
    enum ml_transform t;
    if (!rows_of(j, &rows, &each, e))
        return false;
    if (targets < 1 || targets > 1 << 20 || !w || (int64_t)w->n != targets * each ||
        (b && (int64_t)b->n != targets))
        return shape_wrong(
            j, e, "coefficients, intercepts: expected one a feature and target, one a target");
    if (!ml_transform_of(j->node, &t) || (targets == 1 && t != ML_NONE && t != ML_PROBIT))
        return shape_wrong(j, e, "post_transform: expected NONE or PROBIT for one target");
    return shape_make(j, ENGINE_F32, 2, (int64_t[]){rows, targets}, e);
}

bool shape_linear_classifier(struct job *j, struct engine_error *e)
{
    int64_t rows = 0, each = 0, labels = 0;
    enum engine_dtype d;
    const struct attr *w = floats_of(j->node, "coefficients"),
                      *b = floats_of(j->node, "intercepts");
    enum ml_transform t;
    if (!rows_of(j, &rows, &each, e) || !labels_of(j, &labels, &d, e))
        return false;
    if (!w || !b || each < 1 || (int64_t)w->n != (int64_t)b->n * each)
        return shape_wrong(
            j, e, "coefficients, intercepts: expected one a feature and class, one a class");
    if (!(labels == (int64_t)b->n && labels >= 2) && !(labels == 2 && b->n == 1))
        return shape_wrong(j, e, "classlabels_ints: expected two or more, one a class");
    if (!ml_transform_of(j->node, &t) || (b->n == 1 && t != ML_NONE && t != ML_LOGISTIC))
        return shape_wrong(j, e,
                           "post_transform: expected NONE or LOGISTIC for one class's scores");
    return shape_make(j, d, 1, &rows, e) &&
           shape_make_at(j, 1, ENGINE_F32, 2, (int64_t[]){rows, labels}, e);
}

bool svm_of(const struct node *n, struct svm *s, struct engine_error *e)
{
    static const char *const kernels[] = {"LINEAR", "POLY", "RBF", "SIGMOID"};
    struct job j = {.node = (struct node *)n};
    const struct attr *kernel = node_attr(n, "kernel_type"),
                      *params = floats_of(n, "kernel_params"),
                      *vectors = floats_of(n, "support_vectors"), *w = floats_of(n, "coefficients"),
                      *rho = floats_of(n, "rho");
    bool known = !kernel;
    *s = (struct svm){
        .w = w ? w->floats : NULL, .rho = rho ? rho->floats : NULL, .n_w = w ? w->n : 0};
    for (unsigned i = 0; kernel && i < 4; i++) {
        if (view_is(kernel->s, kernels[i])) {
            s->kernel = (enum svm_kernel)i;
            known = true;
        }
    }
    if (!known || !w || !rho || (params && params->n != 3))
        return shape_wrong(&j, e,
                           "kernel_type, kernel_params, coefficients, rho: missing, or not known");
    s->gamma = params ? params->floats[0] : 0;
    s->coef0 = params ? params->floats[1] : 0;
    s->degree = params ? params->floats[2] : 0;
    s->n_rho = rho->n;
    s->vectors = vectors ? vectors->floats : NULL;
    s->n_floats = vectors ? vectors->n : 0;
    return true;
}

bool shape_svm_regressor(struct job *j, struct engine_error *e)
{
    int64_t rows = 0, each = 0, n = node_int(j->node, "n_supports", 0);
    struct svm s;
    enum ml_transform t;
    if (!rows_of(j, &rows, &each, e) || !svm_of(j->node, &s, e))
        return false;
    if (!ml_transform_of(j->node, &t) || t != ML_NONE)
        return shape_wrong(j, e, "post_transform: expected NONE");
    if (n < 0 || each < 1 || (n > 0 && ((int64_t)s.n_floats != n * each || (int64_t)s.n_w != n)) ||
        (n == 0 && (int64_t)s.n_w != each))
        return shape_wrong(j, e,
                           "support_vectors, coefficients: expected n_supports of a row's length");
    return shape_make(j, ENGINE_F32, 2, (int64_t[]){rows, 1}, e);
}

bool shape_svm_classifier(struct job *j, struct engine_error *e)
{
    int64_t rows = 0, each = 0, k = 0, all = 0;
    enum engine_dtype d;
    const struct attr *count = node_attr(j->node, "vectors_per_class"),
                      *a = floats_of(j->node, "prob_a"), *b = floats_of(j->node, "prob_b");
    struct svm s;
    enum ml_transform t;
    if (!rows_of(j, &rows, &each, e) || !svm_of(j->node, &s, e) || !labels_of(j, &k, &d, e))
        return false;
    if (k < 2 || k > 1024 || !count || (int64_t)count->n != k)
        return shape_wrong(
            j, e, "classlabels_ints, vectors_per_class: expected one a class, of 2 to 1024");
    for (unsigned i = 0; i < count->n; i++) {
        if (count->ints[i] < 0 || count->ints[i] > 1 << 24)
            return shape_wrong(j, e, "vectors_per_class: out of range");
        all += count->ints[i];
    }
    int64_t pairs = k * (k - 1) / 2;
    if (all < 1 || each < 1 || (int64_t)s.n_floats != all * each ||
        (int64_t)s.n_w != (k - 1) * all || (int64_t)s.n_rho != pairs)
        return shape_wrong(
            j, e, "support_vectors, coefficients, rho: not as many as the classes ask for");
    if ((a || b) && (!a || !b || (int64_t)a->n != pairs || (int64_t)b->n != pairs))
        return shape_wrong(j, e, "prob_a, prob_b: expected one a pair of classes");
    if (!ml_transform_of(j->node, &t) || t != ML_NONE)
        return shape_wrong(j, e, "post_transform: expected NONE");
    int64_t scores = a || k == 2 ? k : pairs;
    return shape_make(j, d, 1, &rows, e) &&
           shape_make_at(j, 1, ENGINE_F32, 2, (int64_t[]){rows, scores}, e);
}

// ---- features ----------------------------------------------------------------------------------------

// One for all features, or one a feature.
static bool one_or_each(const struct attr *a, int64_t each)
{
    return a && (a->n == 1 || (int64_t)a->n == each);
}

bool shape_scaler(struct job *j, struct engine_error *e)
{
    int64_t rows = 0, each = 0;
    if (!rows_of(j, &rows, &each, e))
        return false;
    if (!one_or_each(floats_of(j->node, "scale"), each) ||
        !one_or_each(floats_of(j->node, "offset"), each))
        return shape_wrong(j, e, "scale, offset: expected one, or one a feature");
    return shape_make(j, ENGINE_F32, j->in[0]->rank, j->in[0]->shape, e);
}

bool shape_imputer(struct job *j, struct engine_error *e)
{
    int64_t rows = 0, each = 0;
    bool whole = j->in[0]->dtype == ENGINE_I64 || j->in[0]->dtype == ENGINE_I32;
    if (!rows_of(j, &rows, &each, e))
        return false;
    if (!one_or_each(node_attr(j->node, whole ? "imputed_value_int64s" : "imputed_value_floats"),
                     each))
        return shape_wrong(j, e, "imputed_value_floats or _int64s: expected one, or one a feature");
    return shape_make(j, j->in[0]->dtype, j->in[0]->rank, j->in[0]->shape, e);
}

bool shape_normalizer(struct job *j, struct engine_error *e)
{
    int64_t rows = 0, each = 0;
    const struct attr *norm = node_attr(j->node, "norm");
    if (!norm || (!view_is(norm->s, "L1") && !view_is(norm->s, "L2")))
        return shape_wrong(j, e,
                           "norm: expected L1 or L2 (what MAX means below 0 is not agreed on)");
    return rows_of(j, &rows, &each, e) &&
           shape_make(j, ENGINE_F32, j->in[0]->rank, j->in[0]->shape, e);
}

bool shape_binarizer(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    if (!is_number(x))
        return shape_wrong(j, e, "expected floats, int32 or int64");
    return shape_make(j, x->dtype, x->rank, x->shape, e);
}

bool shape_feature_extractor(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0], *at = j->in[1];
    size_t n = 0;
    int64_t shape[ENGINE_MAX_RANK];
    if (at->dtype != ENGINE_I64 || x->rank < 1 || !array_count(at, &n) || n == 0)
        return shape_wrong(j, e, "expected a tensor and places of its last axis as int64");
    memcpy(shape, x->shape, sizeof(shape));
    unsigned rank = x->rank == 1 ? 2 : x->rank;
    shape[0] = x->rank == 1 ? 1 : shape[0];
    shape[rank - 1] = (int64_t)n;
    return shape_make(j, x->dtype, rank, shape, e);
}

bool shape_feature_vectorizer(struct job *j, struct engine_error *e)
{
    const struct attr *dims = node_attr(j->node, "inputdimensions");
    int64_t rows = -1, all = 0;
    if (!dims || dims->n != j->node->n_inputs)
        return shape_wrong(j, e, "inputdimensions: expected one an input");
    for (unsigned i = 0; i < j->node->n_inputs; i++) {
        const struct array *x = j->in[i];
        if (!x || !is_number(x) || x->rank < 1 || x->rank > 2)
            return shape_wrong(j, e, "expected rows of numbers");
        if ((rows >= 0 && x->shape[0] != rows) || dims->ints[i] < 1 || dims->ints[i] > 1 << 24)
            return shape_wrong(j, e,
                               "expected inputs of as many rows; inputdimensions of 1 or more");
        rows = x->shape[0];
        all += dims->ints[i];
    }
    return shape_make(j, ENGINE_F32, 2, (int64_t[]){rows, all}, e);
}
