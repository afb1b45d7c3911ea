#include "engine/trees.h"

#include "base/mem.h"
#include <stdio.h>
#include <stdlib.h>

#define MAX_NODES (1 << 24)

// A list of numbers: floats, or a tensor of the same name with _as_tensor behind it.
struct numbers {
    const float *f;
    const double *d;
    unsigned n;
};

struct tree_reading {
    struct graph *g;
    struct node *n;
    struct engine_error *e;
    struct trees *t;
    // By the file's order, n of each.
    const int64_t *ids, *tree_ids, *features, *true_ids, *false_ids, *missing;
    struct numbers values;
    unsigned n_nodes;
    int32_t *order;  // by tree and id
    int32_t *placed; // where a node of the file went; -1: nowhere yet
};

static bool bad(struct tree_reading *r, const char *what)
{
    char title[128];
    return engine_fail(r->e, "%s: %s", node_title(r->n, title), what);
}

static struct numbers numbers_of(const struct node *n, const char *name)
{
    char tensor[64];
    const struct attr *a = node_attr(n, name);
    struct numbers v = {0};
    size_t count = 0;
    snprintf(tensor, sizeof(tensor), "%s_as_tensor", name);
    if (!a || (a->kind == ATTR_FLOATS && a->n == 0))
        a = node_attr(n, tensor) ? node_attr(n, tensor) : a;
    if (!a)
        return v;
    if (a->kind == ATTR_FLOATS) {
        v.f = a->floats;
        v.n = a->n;
    } else if (a->kind == ATTR_TENSOR && array_count(&a->tensor, &count)) {
        v.n = (unsigned)count;
        if (a->tensor.dtype == ENGINE_F64)
            v.d = a->tensor.data;
        else if (a->tensor.dtype == ENGINE_F32)
            v.f = a->tensor.data;
        else
            v.n = 0;
    }
    return v;
}

static double number_at(const struct numbers *v, size_t i)
{
    return v->d ? v->d[i] : (double)v->f[i];
}

// NULL: absent, or not `n` long.
static const int64_t *ints_of(const struct node *n, const char *name, unsigned count)
{
    const struct attr *a = node_attr(n, name);
    return a && a->kind == ATTR_INTS && a->n == count ? a->ints : NULL;
}

static void *take(struct tree_reading *r, size_t count, size_t size)
{
    return count > SIZE_MAX / size ? NULL : graph_alloc(r->g, count ? count * size : 1, r->e);
}

// ---- nodes by tree and id ----------------------------------------------------------------------------

static int compare_ids(const void *a, const void *b, void *reading)
{
    const struct tree_reading *r = reading;
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    if (r->tree_ids[x] != r->tree_ids[y])
        return r->tree_ids[x] < r->tree_ids[y] ? -1 : 1;
    return r->ids[x] < r->ids[y] ? -1 : r->ids[x] > r->ids[y];
}

// The file's node with this tree and id; -1: there is none.
static int32_t find_node(const struct tree_reading *r, int64_t tree, int64_t id)
{
    unsigned low = 0, high = r->n_nodes;
    while (low < high) {
        unsigned mid = (low + high) / 2;
        int32_t k = r->order[mid];
        if (r->tree_ids[k] < tree || (r->tree_ids[k] == tree && r->ids[k] < id))
            low = mid + 1;
        else
            high = mid;
    }
    if (low == r->n_nodes)
        return -1;
    int32_t k = r->order[low];
    return r->tree_ids[k] == tree && r->ids[k] == id ? k : -1;
}

static bool sort_nodes(struct tree_reading *r)
{
    for (unsigned i = 0; i < r->n_nodes; i++) {
        r->order[i] = (int32_t)i;
        r->placed[i] = -1;
    }
    qsort_r(r->order, r->n_nodes, sizeof(*r->order), compare_ids, r);
    for (unsigned i = 1; i < r->n_nodes; i++) {
        if (compare_ids(&r->order[i - 1], &r->order[i], r) == 0)
            return bad(r, "nodes_nodeids: a tree has two nodes of one id");
    }
    return true;
}

// ---- branches ----------------------------------------------------------------------------------------

static int mode_of(struct view name)
{
    static const char *const names[] = {"BRANCH_LEQ", "BRANCH_LT",  "BRANCH_GTE", "BRANCH_GT",
                                        "BRANCH_EQ",  "BRANCH_NEQ", "",           "LEAF"};
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (view_is(name, names[i]))
            return (int)i;
    }
    return -1;
}

static bool place(struct tree_reading *r, int32_t from, int32_t at)
{
    const struct attr *modes = node_attr(r->n, "nodes_modes");
    struct tree_node *n = &r->t->nodes[at];
    int mode = mode_of(modes->strings[from]);
    if (mode < 0 || mode == TREE_MEMBER)
        return bad(r, "nodes_modes: expected LEAF or one of the branches");
    if (r->placed[from] >= 0)
        return bad(r, "a node is reached twice");
    if (r->features[from] < 0 || r->features[from] > INT32_MAX)
        return bad(r, "nodes_featureids: expected 0 or more");
    r->placed[from] = at;
    *n = (struct tree_node){.value = number_at(&r->values, (size_t)from),
                            .feature = mode == TREE_LEAF ? 0 : (int32_t)r->features[from],
                            .child = at,
                            .mode = (uint8_t)mode,
                            .missing_true = r->missing && r->missing[from] != 0};
    return true;
}

// Breadth first: the two that a branch leads to stand side by side. `from` of each place is kept in order[]'s
// stead: queue[at] is the file's node at place `at`.
static bool spread(struct tree_reading *r, int32_t root, int32_t *queue, unsigned *used)
{
    unsigned at = *used;
    queue[(*used)++] = root;
    if (!place(r, root, (int32_t)at))
        return false;
    for (; at < *used; at++) {
        int32_t from = queue[at];
        struct tree_node *n = &r->t->nodes[at];
        if (n->mode == TREE_LEAF)
            continue;
        int32_t yes = find_node(r, r->tree_ids[from], r->true_ids[from]);
        int32_t no = find_node(r, r->tree_ids[from], r->false_ids[from]);
        if (yes < 0 || no < 0)
            return bad(r, "nodes_truenodeids, nodes_falsenodeids: there is no such node");
        n->child = (int32_t)*used;
        for (unsigned k = 0; k < 2; k++) {
            if (r->placed[k ? no : yes] >= 0 || *used == r->n_nodes)
                return bad(r, "a node is reached twice");
            queue[*used] = k ? no : yes;
            if (!place(r, queue[*used], (int32_t)*used))
                return false;
            (*used)++;
        }
    }
    return true;
}

// A tree's root is the node that no branch of it leads to.
static bool find_roots(struct tree_reading *r, bool *child)
{
    memset(child, 0, r->n_nodes);
    const struct attr *modes = node_attr(r->n, "nodes_modes");
    for (unsigned i = 0; i < r->n_nodes; i++) {
        if (mode_of(modes->strings[i]) == TREE_LEAF)
            continue;
        for (unsigned k = 0; k < 2; k++) {
            int32_t to = find_node(r, r->tree_ids[i], k ? r->false_ids[i] : r->true_ids[i]);
            if (to >= 0)
                child[to] = true;
        }
    }
    for (unsigned i = 0; i < r->n_nodes; i++) {
        int32_t k = r->order[i];
        bool new_tree = i == 0 || r->tree_ids[r->order[i - 1]] != r->tree_ids[k];
        if (new_tree)
            r->t->roots[r->t->n_trees++] = -1;
        if (child[k])
            continue;
        if (r->t->roots[r->t->n_trees - 1] >= 0)
            return bad(r, "a tree has two roots");
        r->t->roots[r->t->n_trees - 1] = k;
    }
    return true;
}

static bool build(struct tree_reading *r, int32_t *queue, bool *child)
{
    unsigned used = 0;
    if (!sort_nodes(r) || !find_roots(r, child))
        return false;
    for (unsigned i = 0; i < r->t->n_trees; i++) {
        int32_t root = r->t->roots[i];
        if (root < 0)
            return bad(r, "a tree has no root");
        r->t->roots[i] = (int32_t)used;
        if (!spread(r, root, queue, &used))
            return false;
    }
    r->t->n_nodes = used;
    return true;
}

// ---- leaves ------------------------------------------------------------------------------------------

struct leaf_weight {
    int32_t node; // its place
    unsigned i;   // in the file
};

static int by_node(const void *a, const void *b)
{
    const struct leaf_weight *x = a, *y = b;
    if (x->node != y->node)
        return x->node < y->node ? -1 : 1;
    return x->i < y->i ? -1 : x->i > y->i;
}

static bool weigh(struct tree_reading *r, const char *prefix, struct leaf_weight *sorted,
                  unsigned n, const struct numbers *weights)
{
    char name[32];
    snprintf(name, sizeof(name), "%s_treeids", prefix);
    const int64_t *trees = ints_of(r->n, name, n);
    snprintf(name, sizeof(name), "%s_nodeids", prefix);
    const int64_t *nodes = ints_of(r->n, name, n);
    snprintf(name, sizeof(name), "%s_ids", prefix);
    const int64_t *targets = ints_of(r->n, name, n);
    struct trees *t = r->t;
    if (n > 0 && (!trees || !nodes || !targets))
        return bad(r, "trees, nodes, ids and weights of the leaves: expected as many of each");
    for (unsigned i = 0; i < n; i++) {
        int32_t from = find_node(r, trees[i], nodes[i]), at = from < 0 ? -1 : r->placed[from];
        if (at < 0 || t->nodes[at].mode != TREE_LEAF)
            return bad(r, "a weight is of no leaf");
        if (targets[i] < 0 || targets[i] >= (int64_t)t->n_targets)
            return bad(r, "a weight is of no target");
        sorted[i] = (struct leaf_weight){at, i};
    }
    qsort(sorted, n, sizeof(*sorted), by_node);
    t->positive = true;
    t->one_class = n > 0 ? (int32_t)targets[0] : -1;
    for (unsigned i = 0; i < n; i++) {
        struct tree_node *leaf = &t->nodes[sorted[i].node];
        double w = number_at(weights, sorted[i].i);
        t->weights[i] = (struct tree_weight){(int32_t)targets[sorted[i].i], w};
        leaf->first = leaf->end == 0 ? (int32_t)i : leaf->first;
        leaf->end = (int32_t)i + 1;
        t->positive &= w >= 0;
        if (t->weights[i].target != t->one_class)
            t->one_class = -1;
    }
    return true;
}

static bool read_leaves(struct tree_reading *r, const char *prefix)
{
    char name[32];
    snprintf(name, sizeof(name), "%s_weights", prefix);
    struct numbers weights = numbers_of(r->n, name);
    struct leaf_weight *sorted = mem_alloc((weights.n + (size_t)1) * sizeof(*sorted));
    r->t->weights = take(r, weights.n, sizeof(*r->t->weights));
    bool ok = sorted && r->t->weights ? weigh(r, prefix, sorted, weights.n, &weights)
                                      : engine_fail(r->e, "out of memory");
    mem_free(sorted);
    return ok;
}

// ---- the ensemble ------------------------------------------------------------------------------------

static bool read_base(struct tree_reading *r)
{
    struct numbers base = numbers_of(r->n, "base_values");
    r->t->n_base = base.n;
    r->t->base = take(r, base.n, sizeof(double));
    if (!r->t->base)
        return false;
    for (unsigned i = 0; i < base.n; i++)
        r->t->base[i] = number_at(&base, i);
    return base.n == 0 || base.n == r->t->n_targets || base.n == 1 ||
           bad(r, "base_values: expected none, or one a target");
}

static bool read_lists(struct tree_reading *r)
{
    const struct attr *modes = node_attr(r->n, "nodes_modes");
    unsigned n = modes ? modes->n : 0;
    r->n_nodes = n;
    r->ids = ints_of(r->n, "nodes_nodeids", n);
    r->tree_ids = ints_of(r->n, "nodes_treeids", n);
    r->features = ints_of(r->n, "nodes_featureids", n);
    r->true_ids = ints_of(r->n, "nodes_truenodeids", n);
    r->false_ids = ints_of(r->n, "nodes_falsenodeids", n);
    r->missing = ints_of(r->n, "nodes_missing_value_tracks_true", n);
    r->values = numbers_of(r->n, "nodes_values");
    if (n == 0 || n > MAX_NODES || !r->ids || !r->tree_ids || !r->features || !r->true_ids ||
        !r->false_ids || r->values.n != n)
        return bad(r, "nodes_*: expected lists of one length, of 1 to 2^24");
    const struct attr *missing = node_attr(r->n, "nodes_missing_value_tracks_true");
    if (missing && missing->n > 0 && !r->missing)
        return bad(r, "nodes_missing_value_tracks_true: expected one a node");
    return true;
}

static bool read_ensemble(struct tree_reading *r, const char *prefix)
{
    size_t n = r->n_nodes;
    int32_t *queue = mem_alloc(n * sizeof(*queue));
    bool *child = mem_alloc(n);
    r->order = mem_alloc(n * sizeof(*r->order));
    r->placed = mem_alloc(n * sizeof(*r->placed));
    r->t->nodes = take(r, n, sizeof(*r->t->nodes));
    r->t->roots = take(r, n, sizeof(*r->t->roots));
    bool ok = (queue && child && r->order && r->placed && r->t->nodes && r->t->roots) ||
              engine_fail(r->e, "out of memory");
    ok = ok && build(r, queue, child) && read_leaves(r, prefix) && read_base(r);
    mem_free(queue);
    mem_free(child);
    mem_free(r->order);
    mem_free(r->placed);
    return ok;
}

// Two classes: of weights of both, and of what else comes out of one, nobody says what it means.
static bool classes_fit(struct tree_reading *r)
{
    const struct trees *t = r->t;
    bool plain = t->transform == ML_NONE || t->transform == ML_LOGISTIC;
    if (t->n_targets > 2)
        return t->n_base == 0 || t->n_base == t->n_targets ||
               bad(r, "base_values: expected none, or one a class");
    if (t->one_class < 0)
        return bad(r, "class_ids: expected weights of one class where there are two");
    return (plain && t->n_base <= (t->one_class == 0)) ||
           bad(r,
               "of two classes: expected post_transform NONE or LOGISTIC, and no base_values but "
               "one of class 0");
}

static struct trees *trees_new(struct graph *g, struct engine_error *e)
{
    struct trees *t = arena_zalloc(&g->arena, sizeof(*t));
    if (!t)
        engine_fail(e, "out of memory");
    return t;
}

struct trees *trees_read(struct graph *g, struct node *n, struct engine_error *e)
{
    struct tree_reading r = {.g = g, .n = n, .e = e};
    bool classes = view_is(n->type, "TreeEnsembleClassifier");
    int64_t targets = 0;
    unsigned sum = 0;
    r.t = trees_new(g, e);
    if (!r.t || !trees_of(n, &targets, &sum, &r.t->transform, e) || !read_lists(&r))
        return NULL;
    r.t->n_targets = (unsigned)targets;
    r.t->sum = (enum tree_sum)sum;
    if (!read_ensemble(&r, classes ? "class" : "target") || (classes && !classes_fit(&r)))
        return NULL;
    return r.t;
}

// ---- TreeEnsemble, of version 5 ----------------------------------------------------------------------

struct lists5 { // n inner nodes, m leaves
    const struct attr *splits, *modes, *weights, *members;
    const int64_t *features, *yes, *no, *yes_leaf, *no_leaf, *missing, *targets, *roots;
    unsigned n, m, n_roots;
};

static unsigned length_of(const struct node *n, const char *name)
{
    const struct attr *a = node_attr(n, name);
    return a && a->kind == ATTR_INTS ? a->n : 0;
}

// A tensor attribute of a vector of floats, or, `bytes`, of uint8; NULL: it is not there or another one.
static const struct attr *vector_of(const struct node *n, const char *name, bool bytes)
{
    const struct attr *a = node_attr(n, name);
    if (!a || a->kind != ATTR_TENSOR || a->tensor.rank != 1)
        return NULL;
    enum engine_dtype d = a->tensor.dtype;
    return (bytes ? d == ENGINE_U8 : d == ENGINE_F32 || d == ENGINE_F64) ? a : NULL;
}

static double vector_at(const struct attr *a, size_t i)
{
    return a->tensor.dtype == ENGINE_F64 ? ((const double *)a->tensor.data)[i]
                                         : (double)((const float *)a->tensor.data)[i];
}

static bool read_lists5(struct tree_reading *r, struct lists5 *l)
{
    const struct node *n = r->n;
    *l = (struct lists5){.n = length_of(n, "nodes_featureids"),
                         .m = length_of(n, "leaf_targetids"),
                         .n_roots = length_of(n, "tree_roots"),
                         .splits = vector_of(n, "nodes_splits", false),
                         .modes = vector_of(n, "nodes_modes", true),
                         .weights = vector_of(n, "leaf_weights", false),
                         .members = vector_of(n, "membership_values", false)};
    l->features = ints_of(n, "nodes_featureids", l->n);
    l->yes = ints_of(n, "nodes_truenodeids", l->n);
    l->no = ints_of(n, "nodes_falsenodeids", l->n);
    l->yes_leaf = ints_of(n, "nodes_trueleafs", l->n);
    l->no_leaf = ints_of(n, "nodes_falseleafs", l->n);
    l->missing = ints_of(n, "nodes_missing_value_tracks_true", l->n);
    l->targets = ints_of(n, "leaf_targetids", l->m);
    l->roots = ints_of(n, "tree_roots", l->n_roots);
    if (!l->features || !l->yes || !l->no || !l->yes_leaf || !l->no_leaf || !l->targets ||
        !l->roots || l->n > MAX_NODES || l->m > MAX_NODES || l->n_roots == 0)
        return bad(r, "nodes_*, leaf_*, tree_roots: expected lists of one length, of 1 to 2^24");
    if (!l->splits || !l->modes || !l->weights || l->splits->tensor.shape[0] != l->n ||
        l->modes->tensor.shape[0] != l->n || l->weights->tensor.shape[0] != l->m)
        return bad(
            r, "nodes_splits, nodes_modes, leaf_weights: expected tensors as long as the lists");
    return true;
}

// The sets of all BRANCH_MEMBER nodes stand one behind the other, each ended by what is not a number.
struct sets5 {
    size_t at, n;
};

static bool place_set(struct tree_reading *r, struct sets5 *sets, struct tree_node *n)
{
    n->first = (int32_t)sets->at;
    while (sets->at < sets->n && !(r->t->members[sets->at] != r->t->members[sets->at]))
        sets->at++;
    n->end = (int32_t)sets->at;
    return sets->at++ < sets->n || bad(r, "membership_values: expected a set a BRANCH_MEMBER");
}

static bool place_leaf5(struct tree_reading *r, const struct lists5 *l, int64_t leaf, int32_t at)
{
    struct trees *t = r->t;
    if (leaf < 0 || leaf >= (int64_t)l->m || l->targets[leaf] < 0 ||
        l->targets[leaf] >= (int64_t)t->n_targets)
        return bad(r, "nodes_trueleafs, leaf_targetids: there is no such leaf or target");
    t->weights[leaf] =
        (struct tree_weight){(int32_t)l->targets[leaf], vector_at(l->weights, (size_t)leaf)};
    t->nodes[at] = (struct tree_node){
        .child = at, .mode = TREE_LEAF, .first = (int32_t)leaf, .end = (int32_t)leaf + 1};
    return true;
}

static bool place_branch5(struct tree_reading *r, const struct lists5 *l, int64_t from, int32_t at)
{
    // BRANCH_LEQ, LT, GTE, GT, EQ, NEQ, MEMBER: as the standard numbers them
    uint8_t mode = ((const uint8_t *)l->modes->tensor.data)[from];
    if (mode > TREE_MEMBER || l->features[from] < 0 || l->features[from] > INT32_MAX)
        return bad(r, "nodes_modes, nodes_featureids: out of range");
    if (r->placed[from] >= 0)
        return bad(r, "a node is reached twice");
    r->placed[from] = at;
    r->t->nodes[at] = (struct tree_node){.value = vector_at(l->splits, (size_t)from),
                                         .feature = (int32_t)l->features[from],
                                         .mode = mode,
                                         .missing_true = l->missing && l->missing[from] != 0};
    return true;
}

// Breadth first, as above; queue[at] is the file's inner node at place `at`, -1 of a leaf.
static bool spread5(struct tree_reading *r, const struct lists5 *l, int32_t *queue, unsigned most,
                    unsigned *used, unsigned at)
{
    for (; at < *used; at++) {
        int32_t from = queue[at];
        if (from < 0)
            continue;
        r->t->nodes[at].child = (int32_t)*used;
        for (unsigned k = 0; k < 2; k++) {
            int64_t to = k ? l->no[from] : l->yes[from];
            bool leaf = (k ? l->no_leaf[from] : l->yes_leaf[from]) != 0;
            if (to < 0 || (!leaf && to >= (int64_t)l->n) || *used == most)
                return bad(r,
                           "nodes_truenodeids, nodes_falsenodeids: no such node, or reached twice");
            queue[*used] = leaf ? -1 : (int32_t)to;
            if (!(leaf ? place_leaf5(r, l, to, (int32_t)*used)
                       : place_branch5(r, l, to, (int32_t)*used)))
                return false;
            (*used)++;
        }
    }
    return true;
}

static bool place_sets(struct tree_reading *r, const struct lists5 *l)
{
    struct sets5 sets = {.n = l->members ? (size_t)l->members->tensor.shape[0] : 0};
    r->t->members = take(r, sets.n, sizeof(double));
    if (!r->t->members)
        return false;
    for (size_t i = 0; i < sets.n; i++)
        r->t->members[i] = vector_at(l->members, i);
    for (unsigned i = 0; i < l->n; i++) { // in the file's order
        struct tree_node *n = r->placed[i] >= 0 ? &r->t->nodes[r->placed[i]] : NULL;
        struct tree_node none;
        bool member = ((const uint8_t *)l->modes->tensor.data)[i] == TREE_MEMBER;
        if (member && !place_set(r, &sets, n ? n : &none))
            return false;
    }
    return true;
}

static bool build5(struct tree_reading *r, const struct lists5 *l, int32_t *queue, unsigned most)
{
    unsigned used = 0;
    for (unsigned i = 0; i < l->n; i++)
        r->placed[i] = -1;
    for (unsigned i = 0; i < l->n_roots; i++) {
        unsigned at = used;
        int64_t root = l->roots[i];
        if (root < 0 || root >= (int64_t)l->n || used == most)
            return bad(r, "tree_roots: there is no such node");
        queue[used++] = (int32_t)root;
        r->t->roots[i] = (int32_t)at;
        if (!place_branch5(r, l, root, (int32_t)at) || !spread5(r, l, queue, most, &used, at))
            return false;
    }
    r->t->n_nodes = used;
    r->t->n_trees = l->n_roots;
    r->t->one_class = -1;
    return place_sets(r, l);
}

struct trees *trees_read_5(struct graph *g, struct node *n, struct engine_error *e)
{
    static const enum tree_sum sums[] = {TREE_AVERAGE, TREE_SUM, TREE_MIN, TREE_MAX};
    struct tree_reading r = {.g = g, .n = n, .e = e};
    struct lists5 l;
    int64_t targets = 0;
    unsigned sum = 0;
    r.t = trees_new(g, e);
    if (!r.t || !trees_of_5(n, &targets, &sum, &r.t->transform, e) || !read_lists5(&r, &l))
        return NULL;
    r.t->n_targets = (unsigned)targets;
    r.t->sum = sums[sum];
    unsigned most = 2 * l.n + l.n_roots; // each inner node, and two more below each
    int32_t *queue = mem_alloc((most + (size_t)1) * sizeof(*queue));
    r.placed = mem_alloc((l.n + (size_t)1) * sizeof(*r.placed));
    r.t->nodes = take(&r, most, sizeof(*r.t->nodes));
    r.t->roots = take(&r, l.n_roots, sizeof(*r.t->roots));
    r.t->weights = take(&r, l.m, sizeof(*r.t->weights));
    bool ok = (queue && r.placed && r.t->nodes && r.t->roots && r.t->weights) ||
              engine_fail(e, "out of memory");
    ok = ok && build5(&r, &l, queue, most);
    mem_free(queue);
    mem_free(r.placed);
    return ok ? r.t : NULL;
}
