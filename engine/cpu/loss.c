// NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss: some exporters leave them in what is served.
#include "engine/cpu/cpu.h"

#include <math.h>

struct losses {
    const struct job *j;
    size_t rows, classes, per; // scores are [rows, classes, per]
    const float *weights;      // NULL: 1
    bool ignores;
    int64_t ignored;
};

static struct losses losses_of(const struct job *j)
{
    const struct array *x = j->in[0];
    struct losses l = {.j = j,
                       .rows = (size_t)x->shape[0],
                       .classes = (size_t)x->shape[1],
                       .per = count_from(x, 2)};
    l.weights = job_data(j, 2);
    l.ignores = node_attr(j->node, "ignore_index") != NULL;
    l.ignored = node_int(j->node, "ignore_index", 0);
    return l;
}

// Log probabilities to the loss of each label, put together as asked.
static void put_together(const struct losses *l, const float *logs)
{
    const struct attr *how = node_attr(l->j->node, "reduction");
    bool none = how && view_is(how->s, "none"), sum = how && view_is(how->s, "sum");
    double all = 0, weights = 0;
    float *y = l->j->out->data;
    for (size_t i = 0; i < l->rows * l->per; i++) {
        int64_t k = integer_at(l->j->in[1], i);
        bool skip = l->ignores && k == l->ignored;
        if (!skip && (k < 0 || k >= (int64_t)l->classes)) {
            *l->j->failure = "a label is out of range";
            return;
        }
        size_t at = skip ? 0 : (i / l->per * l->classes + (size_t)k) * l->per + i % l->per;
        float w = skip ? 0 : l->weights ? l->weights[k] : 1, v = skip ? 0 : -logs[at] * w;
        if (none)
            y[i] = v;
        all += (double)v;
        weights += (double)w;
    }
    if (!none)
        *y = (float)(sum ? all : all / weights);
}

void cpu_negative_log_likelihood(const struct job *j)
{
    struct losses l = losses_of(j);
    put_together(&l, j->in[0]->data);
}

size_t cpu_cross_entropy_scratch(const struct job *j)
{
    size_t n = 0;
    return array_count(j->in[0], &n) ? n * sizeof(float) : 0;
}

void cpu_cross_entropy(const struct job *j)
{
    struct losses l = losses_of(j);
    float *logs = j->outs[1] ? j->outs[1]->data : j->scratch;
    const float *x = j->in[0]->data;
    for (size_t i = 0; i < l.rows * l.per; i++) {
        size_t first = i / l.per * l.classes * l.per + i % l.per;
        float most = -INFINITY, sum = 0;
        for (size_t c = 0; c < l.classes; c++)
            most = fmaxf(most, x[first + c * l.per]);
        for (size_t c = 0; c < l.classes; c++)
            sum += expf(x[first + c * l.per] - most);
        for (size_t c = 0; c < l.classes; c++)
            logs[first + c * l.per] = x[first + c * l.per] - most - logf(sum);
    }
    put_together(&l, logs);
}
