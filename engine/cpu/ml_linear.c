// Linear models and support vectors of ai.onnx.ml. Sums in float64.
#include "engine/cpu/cpu.h"
#include "engine/cpu/ml.h"

#include <math.h>

static double dot(const float *x, const float *w, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)w[i];
    return sum;
}

// A row of another datatype as floats, and whatever else a kernel says.
static size_t row_scratch(const struct job *j, size_t more)
{
    size_t each;
    ml_rows(j->in[0], &each);
    return each * sizeof(float) + more;
}

// Of a classifier also the scores, one a label, that nobody reads.
size_t cpu_ml_linear_scratch(const struct job *j)
{
    return row_scratch(j, class_labels(j->node, NULL) * sizeof(float));
}

static void linear_scores(const struct node *n, const float *x, size_t each, size_t classes,
                          float *y)
{
    const float *w = node_attr(n, "coefficients")->floats;
    const struct attr *b = node_attr(n, "intercepts");
    for (size_t i = 0; i < classes; i++)
        y[i] = (float)(dot(x, w + i * each, each) + (b && b->n ? (double)b->floats[i] : 0));
}

void cpu_linear_regressor(const struct job *j)
{
    size_t each, rows = ml_rows(j->in[0], &each), targets = (size_t)j->out->shape[1];
    enum ml_transform t;
    ml_transform_of(j->node, &t);
    for (size_t r = 0; r < rows; r++) {
        float *y = (float *)j->out->data + r * targets;
        linear_scores(j->node, ml_row(j->in[0], r, each, j->scratch), each, targets, y);
        ml_apply(t, y, targets);
    }
}

static size_t highest(const float *s, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        best = s[i] > s[best] ? i : best;
    return best;
}

// One score stands for two classes: the second one's, and what it leaves is the first one's.
static size_t score_of_two(enum ml_transform t, float *s)
{
    float p = s[0];
    s[1] = p;
    s[0] = t == ML_LOGISTIC ? -p : 1 - p;
    ml_apply(t, s, 2);
    return p > 0;
}

void cpu_linear_classifier(const struct job *j)
{
    size_t each, rows = ml_rows(j->in[0], &each), classes = class_labels(j->node, NULL);
    size_t scores = node_attr(j->node, "intercepts")->n;
    enum ml_transform t;
    float *own = (float *)j->scratch + each;
    ml_transform_of(j->node, &t);
    for (size_t r = 0; r < rows; r++) {
        float *y = j->outs[1] ? (float *)j->outs[1]->data + r * classes : own;
        linear_scores(j->node, ml_row(j->in[0], r, each, j->scratch), each, scores, y);
        size_t best = highest(y, scores);
        if (scores < classes)
            best = score_of_two(t, y);
        else
            ml_apply(t, y, classes);
        ml_label(j, r, best);
    }
}

// ---- support vectors ---------------------------------------------------------------------------------

static float svm_kernel_of(const struct svm *s, const float *x, const float *v, size_t n)
{
    double sum = 0;
    if (s->kernel == SVM_RBF) {
        for (size_t i = 0; i < n; i++)
            sum += ((double)x[i] - (double)v[i]) * ((double)x[i] - (double)v[i]);
        return (float)exp(-(double)s->gamma * sum);
    }
    sum = dot(x, v, n);
    if (s->kernel == SVM_LINEAR)
        return (float)sum;
    sum = sum * (double)s->gamma + (double)s->coef0;
    return (float)(s->kernel == SVM_POLY ? pow(sum, (double)s->degree) : tanh(sum));
}

size_t cpu_svm_regressor_scratch(const struct job *j)
{
    return row_scratch(j, 0);
}

void cpu_svm_regressor(const struct job *j)
{
    size_t each, rows = ml_rows(j->in[0], &each);
    size_t n = (size_t)node_int(j->node, "n_supports", 0);
    bool one_class = node_int(j->node, "one_class", 0) != 0;
    struct svm s;
    struct engine_error e;
    if (!svm_of(j->node, &s, &e))
        return; // the plan has asked the same and was answered
    for (size_t r = 0; r < rows; r++) {
        const float *x = ml_row(j->in[0], r, each, j->scratch);
        double sum = n == 0 ? dot(x, s.w, each) : 0;
        for (size_t k = 0; k < n; k++)
            sum += (double)s.w[k] * (double)svm_kernel_of(&s, x, s.vectors + k * each, each);
        sum += (double)s.rho[0];
        ((float *)j->out->data)[r] = (float)(one_class ? (sum > 0 ? 1 : -1) : sum);
    }
}

struct voting { // of one row
    const struct svm *svm;
    const int64_t *per_class;
    size_t classes, vectors;
    float *kernels; // [vectors]
    float *pairs;   // [classes * (classes - 1) / 2]
    float *votes;   // [classes]
    double *square; // [classes, classes], twice, and 2 rows
};

// One against one: the vectors of both, with the coefficients that each has against the other.
static void vote(struct voting *v)
{
    const float *w = v->svm->w;
    size_t at = 0, first_i = 0;
    memset(v->votes, 0, v->classes * sizeof(*v->votes));
    for (size_t i = 0; i < v->classes; first_i += (size_t)v->per_class[i++]) {
        size_t first_j = first_i + (size_t)v->per_class[i];
        for (size_t k = i + 1; k < v->classes; first_j += (size_t)v->per_class[k++], at++) {
            double sum =
                dot(w + (k - 1) * v->vectors + first_i, v->kernels + first_i,
                    (size_t)v->per_class[i]) +
                dot(w + i * v->vectors + first_j, v->kernels + first_j, (size_t)v->per_class[k]) +
                (double)v->svm->rho[at];
            v->pairs[at] = (float)sum;
            v->votes[sum > 0 ? i : k]++;
        }
    }
}

// Probabilities of classes from those of pairs: Wu, Lin and Weng, "Probability Estimates for Multi-class
// Classification by Pairwise Coupling", 2004, section 4.1 (method 2, as libsvm has it).
static void couple(size_t k, const double *r, double *q, double *p, double *qp)
{
    double limit = 0.005 / (double)k;
    for (size_t t = 0; t < k; t++) {
        p[t] = 1.0 / (double)k;
        q[t * k + t] = 0;
        for (size_t i = 0; i < k; i++) {
            if (i == t)
                continue;
            q[t * k + t] += r[i * k + t] * r[i * k + t];
            q[t * k + i] = i < t ? q[i * k + t] : -r[i * k + t] * r[t * k + i];
        }
    }
    for (size_t round = 0; round < (k > 100 ? k : 100); round++) {
        double all = 0, worst = 0;
        for (size_t t = 0; t < k; t++) {
            qp[t] = 0;
            for (size_t i = 0; i < k; i++)
                qp[t] += q[t * k + i] * p[i];
            all += p[t] * qp[t];
        }
        for (size_t t = 0; t < k; t++)
            worst = fmax(worst, fabs(qp[t] - all));
        if (worst < limit)
            return;
        for (size_t t = 0; t < k; t++) {
            double diff = (all - qp[t]) / q[t * k + t];
            p[t] += diff;
            all = (all + diff * (diff * q[t * k + t] + 2 * qp[t])) / (1 + diff) / (1 + diff);
            for (size_t i = 0; i < k; i++) {
                qp[i] = (qp[i] + diff * q[t * k + i]) / (1 + diff);
                p[i] /= 1 + diff;
            }
        }
    }
}

static void probabilities(struct voting *v, const float *a, const float *b, float *out)
{
    size_t k = v->classes, at = 0;
    double *r = v->square, *q = r + k * k, *p = q + k * k, *qp = p + k;
    for (size_t i = 0; i < k; i++) {
        for (size_t n = i + 1; n < k; n++, at++) {
            double z = (double)v->pairs[at] * (double)a[at] + (double)b[at];
            double one = fmin(fmax(1 / (1 + exp(z)), 1e-7), 1 - 1e-7);
            r[i * k + n] = one;
            r[n * k + i] = 1 - one;
        }
    }
    couple(k, r, q, p, qp);
    for (size_t i = 0; i < k; i++)
        out[i] = (float)p[i];
}

static size_t svm_vectors(const struct node *n)
{
    const struct attr *count = node_attr(n, "vectors_per_class");
    size_t all = 0;
    for (unsigned i = 0; i < count->n; i++)
        all += (size_t)count->ints[i];
    return all;
}

size_t cpu_svm_classifier_scratch(const struct job *j)
{
    size_t k = class_labels(j->node, NULL), pairs = k * (k - 1) / 2;
    return row_scratch(j, (svm_vectors(j->node) + pairs + 2 * k) * sizeof(float) + 8 +
                              (2 * k * k + 2 * k) * sizeof(double));
}

static struct voting voting_of(const struct job *j, const struct svm *s, size_t each)
{
    size_t k = class_labels(j->node, NULL), vectors = svm_vectors(j->node);
    double *square = j->scratch;
    float *floats = (float *)(square + 2 * k * k + 2 * k) + each;
    return (struct voting){.svm = s,
                           .per_class = node_attr(j->node, "vectors_per_class")->ints,
                           .classes = k,
                           .vectors = vectors,
                           .square = square,
                           .kernels = floats,
                           .pairs = floats + vectors,
                           .votes = floats + vectors + k * (k - 1) / 2};
}

static size_t scores_of_row(const struct voting *v, const struct attr *a, const struct attr *b,
                            float *y)
{
    size_t best = highest(v->votes, v->classes), pairs = v->classes * (v->classes - 1) / 2;
    if (a) {
        probabilities((struct voting *)v, a->floats, b->floats, y);
        return best; // what the votes say, as libsvm
    }
    if (v->classes > 2) {
        memcpy(y, v->pairs, pairs * sizeof(*y));
        return best;
    }
    y[0] = -v->pairs[0];
    y[1] = v->pairs[0];
    return best;
}

void cpu_svm_classifier(const struct job *j)
{
    const struct attr *a = node_attr(j->node, "prob_a"), *b = node_attr(j->node, "prob_b");
    size_t each, rows = ml_rows(j->in[0], &each);
    struct svm s;
    struct engine_error e;
    if (!svm_of(j->node, &s, &e))
        return; // the plan has asked the same and was answered
    struct voting v = voting_of(j, &s, each);
    float *own = v.votes + v.classes, *room = v.kernels - each;
    size_t scores = a && a->n ? v.classes : v.classes == 2 ? 2 : v.classes * (v.classes - 1) / 2;
    for (size_t r = 0; r < rows; r++) {
        const float *x = ml_row(j->in[0], r, each, room);
        for (size_t k = 0; k < v.vectors; k++)
            v.kernels[k] = svm_kernel_of(&s, x, s.vectors + k * each, each);
        vote(&v);
        float *y = j->outs[1] ? (float *)j->outs[1]->data + r * scores : own;
        size_t best = scores_of_row(&v, a && a->n ? a : NULL, b, y);
        ml_label(j, r, best);
    }
}
