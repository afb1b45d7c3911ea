// Ensembles of decision trees. Eight ways down are walked at a time, so that one's loads hide the other's: eight
// rows down one tree, or, of rows that are left, one row down eight trees. A row adds its leaves in the trees'
// order, in float64, either way.
#include "engine/cpu/cpu.h"
#include "engine/cpu/ml.h"
#include "engine/trees.h"

#include <float.h>
#include <math.h>

#define LANES 8

// Where all comparisons are x <= value. A leaf: step 0, and its value is its weight when it has one.
struct branch {
    float value;
    int32_t feature, child, step;
};

struct forest {
    struct trees *trees;
    struct branch *branches; // NULL: other comparisons
    bool single;             // one target, one weight a leaf, summed: the leaf's value
    bool missing;            // some comparison is true of what is not a number
};

// ---- preparing ---------------------------------------------------------------------------------------

// The largest float that is not above v, or, `strict`, that is below it. NAN: there is none. Of those that are
// not between 0 and FLT_MIN on either side: while a plan runs these count as 0, on both sides of a comparison.
static float float_below(double v, bool strict)
{
    float f = (float)v;
    if (isinf(v) && v < 0 && strict)
        return NAN;
    if ((double)f > v || (strict && (double)f == v))
        f = nextafterf(f, -INFINITY);
    if (fpclassify(f) == FP_SUBNORMAL)
        f = f < 0 ? -FLT_MIN : 0;
    return f;
}

static bool is_simple(const struct trees *t)
{
    for (unsigned i = 0; i < t->n_nodes; i++) {
        uint8_t mode = t->nodes[i].mode;
        if (mode != TREE_LEQ && mode != TREE_LT && mode != TREE_LEAF)
            return false;
    }
    return true;
}

static struct branch branch_of(const struct tree_node *n, const struct trees *t)
{
    if (n->mode == TREE_LEAF)
        return (struct branch){n->end > n->first ? (float)t->weights[n->first].weight : 0, 0,
                               n->child, 0};
    return (struct branch){float_below(n->value, n->mode == TREE_LT), n->feature, n->child, 1};
}

static bool simplify(struct graph *g, struct forest *f, struct engine_error *e)
{
    const struct trees *t = f->trees;
    f->single = t->n_targets == 1 && t->sum <= TREE_AVERAGE;
    if (!is_simple(t))
        return true;
    f->branches = graph_alloc(g, t->n_nodes * sizeof(*f->branches), e);
    if (!f->branches)
        return false;
    for (unsigned i = 0; i < t->n_nodes; i++) {
        const struct tree_node *n = &t->nodes[i];
        f->branches[i] = branch_of(n, t);
        f->missing |= n->mode != TREE_LEAF && n->missing_true;
        f->single &= n->mode != TREE_LEAF || n->end - n->first <= 1;
    }
    return true;
}

bool cpu_trees_prepare(struct graph *g, struct node *n, struct engine_error *e)
{
    struct forest *f = arena_zalloc(&g->arena, sizeof(*f));
    if (!f)
        return engine_fail(e, "out of memory");
    f->trees = view_is(n->type, "TreeEnsemble") ? trees_read_5(g, n, e) : trees_read(g, n, e);
    n->prepared = f;
    return f->trees && simplify(g, f, e);
}

// ---- ways down ---------------------------------------------------------------------------------------

static void descend(const struct branch *b, const float *const *x, int32_t *at)
{
    int32_t live;
    do {
        live = 0;
        for (unsigned l = 0; l < LANES; l++) {
            const struct branch *n = &b[at[l]];
            live |= n->step;
            at[l] = n->child + (x[l][n->feature] <= n->value ? 0 : n->step);
        }
    } while (live);
}

static bool is_member(const struct trees *t, const struct tree_node *n, double x)
{
    for (int32_t i = n->first; i < n->end; i++) {
        if (t->members[i] == x)
            return true;
    }
    return false;
}

static bool is_true(const struct trees *t, const struct tree_node *n, double x)
{
    if (x != x && n->missing_true)
        return true;
    switch ((enum tree_mode)n->mode) {
    case TREE_LEQ:
        return x <= n->value;
    case TREE_LT:
        return x < n->value;
    case TREE_GTE:
        return x >= n->value;
    case TREE_GT:
        return x > n->value;
    case TREE_EQ:
        return x == n->value;
    case TREE_NEQ:
        return x != n->value;
    case TREE_MEMBER:
        return is_member(t, n, x);
    case TREE_LEAF:
        break;
    }
    return false;
}

static int32_t leaf_of(const struct trees *t, int32_t at, const float *x, const double *wide)
{
    const struct tree_node *n = &t->nodes[at];
    while (n->mode != TREE_LEAF) {
        double v = wide ? wide[n->feature] : (double)x[n->feature];
        n = &t->nodes[n->child + !is_true(t, n, v)];
    }
    return (int32_t)(n - t->nodes);
}

// ---- sums --------------------------------------------------------------------------------------------

struct score {
    double sum;
    bool has; // some leaf had a weight of it
};

static void add_leaf(const struct trees *t, int32_t at, struct score *s)
{
    const struct tree_node *leaf = &t->nodes[at];
    for (int32_t i = leaf->first; i < leaf->end; i++) {
        struct score *to = &s[t->weights[i].target];
        double w = t->weights[i].weight;
        if (t->sum == TREE_MIN)
            to->sum = !to->has || w < to->sum ? w : to->sum;
        else if (t->sum == TREE_MAX)
            to->sum = !to->has || w > to->sum ? w : to->sum;
        else
            to->sum += w;
        to->has = true;
    }
}

static void add_at(const struct forest *f, int32_t at, struct score *s)
{
    if (f->single)
        s->sum += (double)f->branches[at].value;
    else
        add_leaf(f->trees, at, s);
}

// Eight rows; s: n_targets of each.
static void rows_down(const struct forest *f, const float *const *x, struct score *s)
{
    const struct trees *t = f->trees;
    for (unsigned k = 0; k < t->n_trees; k++) {
        int32_t at[LANES];
        for (unsigned l = 0; l < LANES; l++)
            at[l] = t->roots[k];
        descend(f->branches, x, at);
        for (unsigned l = 0; l < LANES; l++)
            add_at(f, at[l], s + l * t->n_targets);
    }
}

static void row_down(const struct forest *f, const float *x, struct score *s)
{
    const struct trees *t = f->trees;
    const float *same[LANES] = {x, x, x, x, x, x, x, x};
    for (unsigned k = 0; k < t->n_trees; k += LANES) {
        int32_t at[LANES];
        for (unsigned l = 0; l < LANES; l++) // the last ones twice
            at[l] = t->roots[k + l < t->n_trees ? k + l : k];
        descend(f->branches, same, at);
        for (unsigned l = 0; l < LANES && k + l < t->n_trees; l++)
            add_at(f, at[l], s);
    }
}

// Any comparison, and rows with what is not a number.
static void row_slowly(const struct forest *f, const float *x, const double *wide, struct score *s)
{
    for (unsigned k = 0; k < f->trees->n_trees; k++)
        add_leaf(f->trees, leaf_of(f->trees, f->trees->roots[k], x, wide), s);
}

// ---- scores to answers -------------------------------------------------------------------------------

static double finished(const struct trees *t, const struct score *s, unsigned target)
{
    double v = t->sum == TREE_AVERAGE ? s->sum / t->n_trees : s->sum;
    return v + (t->n_base > target ? t->base[target] : 0);
}

static void finish_targets(const struct trees *t, const struct score *s, const struct array *out,
                           size_t at)
{
    bool wide = out->dtype == ENGINE_F64;
    for (unsigned i = 0; i < t->n_targets; i++) {
        if (wide)
            ((double *)out->data)[at + i] = finished(t, &s[i], i);
        else
            ((float *)out->data)[at + i] = (float)finished(t, &s[i], i);
    }
    if (!wide)
        ml_apply(t->transform, (float *)out->data + at, t->n_targets);
}

// Weights of one class stand for two (trees_read takes no others): what the other one's score is, the weights
// tell. Below 0 some: odds, about 0; else probabilities. The rules that exporters write for.
static unsigned finish_two(const struct trees *t, float p, float *y)
{
    bool logistic = t->transform == ML_LOGISTIC;
    y[0] = t->one_class == 1 ? 0 : logistic || !t->positive ? -p : 1 - p;
    y[1] = p;
    ml_apply(t->transform, y, 2);
    return p > (t->positive ? 0.5f : 0);
}

// The first of the highest is the label, of those that some leaf has spoken for.
static unsigned finish_classes(const struct trees *t, const struct score *s, float *y)
{
    unsigned best = 0;
    bool any = false;
    if (t->n_targets == 2)
        return finish_two(t, (float)finished(t, &s[t->one_class], (unsigned)t->one_class), y);
    for (unsigned i = 0; i < t->n_targets; i++) {
        y[i] = (float)finished(t, &s[i], i);
        if ((s[i].has || t->n_base > 0) && (!any || y[i] > y[best])) {
            best = i;
            any = true;
        }
    }
    ml_apply(t->transform, y, t->n_targets);
    return best;
}

// ---- kernels -----------------------------------------------------------------------------------------

static bool has_nan(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (x[i] != x[i])
            return true;
    }
    return false;
}

// A group of rows' sums, the floats of a row of another datatype, and scores that nobody reads.
size_t cpu_trees_scratch(const struct job *j)
{
    const struct forest *f = j->node->prepared;
    size_t each;
    ml_rows(j->in[0], &each);
    return LANES * (f->trees->n_targets * sizeof(struct score) + each * sizeof(float)) +
           f->trees->n_targets * sizeof(float);
}

// Up to LANES rows from `row` on.
static void group_down(const struct forest *f, const struct array *in, size_t row, size_t n,
                       size_t each, struct score *s, float *room)
{
    const float *x[LANES];
    bool simple = f->branches && in->dtype != ENGINE_F64, all = n == LANES;
    const double *wide = in->dtype == ENGINE_F64 ? (const double *)in->data + row * each : NULL;
    bool slow[LANES] = {0};
    for (size_t l = 0; l < n; l++) {
        x[l] = ml_row(in, row + l, each, room + l * each);
        slow[l] = !simple || (f->missing && has_nan(x[l], each));
        all &= !slow[l];
    }
    memset(s, 0, n * f->trees->n_targets * sizeof(*s));
    if (all) {
        rows_down(f, x, s);
        return;
    }
    for (size_t l = 0; l < n; l++) {
        if (slow[l])
            row_slowly(f, x[l], wide ? wide + l * each : NULL, s + l * f->trees->n_targets);
        else
            row_down(f, x[l], s + l * f->trees->n_targets);
    }
}

void cpu_trees(const struct job *j)
{
    const struct forest *f = j->node->prepared;
    bool classes = view_is(j->node->type, "TreeEnsembleClassifier");
    unsigned targets = f->trees->n_targets;
    size_t each, rows = ml_rows(j->in[0], &each);
    struct score *s = j->scratch;
    float *room = (float *)(s + LANES * targets);
    for (size_t row = 0; row < rows; row += LANES) {
        size_t n = rows - row < LANES ? rows - row : LANES;
        group_down(f, j->in[0], row, n, each, s, room);
        for (size_t l = 0; l < n; l++) {
            size_t at = (row + l) * targets;
            if (!classes) {
                finish_targets(f->trees, s + l * targets, j->out, at);
                continue;
            }
            float *y = j->outs[1] ? (float *)j->outs[1]->data + at : room + LANES * each;
            unsigned best = finish_classes(f->trees, s + l * targets, y);
            ml_label(j, row + l, best);
        }
    }
}
