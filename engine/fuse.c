// Nodes that become part of the node that makes their input: BatchNormalization, and a Mul or an Add of one number or
// one a channel, go into a convolution's weights and bias, Relu goes into whatever can end with it; a HardSwish or
// a Gelu that is written out becomes one. Only where
// nobody else reads the value between, and where the constants to be changed are read once. A node computes
// its sum and then its Relu: what stands behind a fused Relu can no longer go into the sum.
#include "engine/plan.h"

#include <math.h>

struct fuse {
    struct graph *g;
    struct engine_error *e;
    bool failed; // with e
};

// The node that makes n's input i, when it is a `type` that still ends with its own sum and nobody else
// reads that value. NULL otherwise.
static struct node *maker_of(const struct fuse *f, const struct node *n, unsigned i,
                             const char *type)
{
    struct node *m = node_only_maker(f->g, n, i, type);
    return m && !m->relu ? m : NULL;
}

// m makes what n made; n is gone.
static void replace(struct fuse *f, struct node *m, struct node *n)
{
    graph_note(f->g, ENGINE_FUSED, "%.*s into %.*s", VIEW_ARG(n->type), VIEW_ARG(m->type));
    m->output[0] = n->output[0];
    f->g->values[n->output[0]].maker = (int32_t)(m - f->g->nodes);
    node_remove(f->g, n);
}

// Input i of n as a constant of `count` floats that nobody else reads; NULL: it is something else.
static struct value *own_floats(const struct fuse *f, const struct node *n, unsigned i,
                                size_t count)
{
    struct value *v = i < n->n_inputs && n->input[i] >= 0 ? &f->g->values[n->input[i]] : NULL;
    size_t have;
    if (!v || !v->constant || v->borrowed || v->array.dtype != ENGINE_F32 || v->readers != 1 ||
        !array_count(&v->array, &have) || have != count)
        return NULL;
    return v;
}

static bool is_vector(const struct value *v)
{
    return v && v->array.rank == 1;
}

// ---- into a convolution ------------------------------------------------------------------------------

// What the file says of a convolution that may be changed: weights and, if any, bias.
struct fused_into {
    struct node *node;
    struct value *weights, *bias; // bias NULL: none
    size_t outs, each;            // channels out, weights of each
};

static bool is_target(const struct fuse *f, struct node *conv, struct fused_into *t)
{
    const struct value *w = conv && conv->input[1] >= 0 ? &f->g->values[conv->input[1]] : NULL;
    size_t count;
    if (!w || w->array.rank != 4 || !array_count(&w->array, &count) || count == 0)
        return false;
    *t = (struct fused_into){.node = conv, .outs = (size_t)w->array.shape[0]};
    t->each = count / t->outs;
    t->weights = own_floats(f, conv, 1, count);
    t->bias = own_floats(f, conv, 2, t->outs);
    bool none = conv->n_inputs < 3 || conv->input[2] < 0;
    return t->weights && (none || is_vector(t->bias));
}

static bool all_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i]))
            return false;
    }
    return true;
}

// weights *= scale, bias = bias * scale + shift, channel by channel.
static void scale_into(const struct fused_into *t, const float *scale, const float *shift, float *w,
                       float *b)
{
    const float *old_w = t->weights->array.data, *old_b = t->bias ? t->bias->array.data : NULL;
    for (size_t o = 0; o < t->outs; o++) {
        float s = scale ? scale[o] : 1;
        for (size_t i = 0; i < t->each; i++)
            w[o * t->each + i] = old_w[o * t->each + i] * s;
        b[o] = (old_b ? old_b[o] * s : 0) + shift[o];
    }
}

// spare: the value that becomes the bias of a convolution that had none (a constant of as many floats,
// nobody else's). False, with nothing changed: out of memory, or the products are beyond float32 where the
// ops one by one may not be.
static bool rescale(struct fuse *f, struct fused_into *t, const float *scale, const float *shift,
                    int32_t spare)
{
    struct graph *g = f->g;
    float *w = graph_alloc(g, t->outs * t->each * sizeof(*w), f->e);
    float *b = w ? graph_alloc(g, t->outs * sizeof(*b), f->e) : NULL;
    f->failed = !b;
    if (b)
        scale_into(t, scale, shift, w, b);
    if (!b || !all_finite(w, t->outs * t->each) || !all_finite(b, t->outs)) {
        graph_drop(g, w);
        graph_drop(g, b);
        return false;
    }
    if (!t->bias) {
        t->node->input[2] = spare;
        t->node->n_inputs = 3;
        t->bias = &g->values[spare];
        t->bias->readers++;
    }
    value_set(g, t->weights, w);
    value_set(g, t->bias, b);
    t->bias->array.rank = 1;
    t->bias->array.shape[0] = (int64_t)t->outs;
    return true;
}

static void fuse_batchnorm(struct fuse *f, struct node *n)
{
    struct fused_into t;
    const float *in[5];
    if (!is_target(f, maker_of(f, n, 0, "Conv"), &t) || n->opset < 7 ||
        node_int(n, "training_mode", 0) != 0 || node_int(n, "spatial", 1) != 1)
        return;
    for (unsigned i = 1; i < 5; i++) {
        const struct value *v = own_floats(f, n, i, t.outs);
        if (!is_vector(v))
            return;
        in[i] = v->array.data;
    }
    float *scale = arena_array(&f->g->arena, t.outs, sizeof(*scale));
    float *shift = arena_array(&f->g->arena, t.outs, sizeof(*shift));
    if (!scale || !shift) {
        f->failed = !engine_fail(f->e, "out of memory");
        return;
    }
    float epsilon = node_float(n, "epsilon", 1e-5f);
    for (size_t o = 0; o < t.outs; o++) {
        scale[o] = in[1][o] / sqrtf(in[4][o] + epsilon);
        shift[o] = in[2][o] - in[3][o] * scale[o];
        if (!isfinite(scale[o]) || !isfinite(shift[o]))
            return; // what the file asks for is no number: as it stands there
    }
    if (rescale(f, &t, scale, shift, n->input[2]))
        replace(f, t.node, n);
}

// Constant v as one number for each of t's channels: it is one number, or [C, 1, 1] or [1, C, 1, 1]. NULL: another one.
static const float *for_channels(struct fuse *f, const struct fused_into *t, const struct value *v)
{
    size_t n = 0;
    if (!array_count(&v->array, &n) || v->array.rank > 4)
        return NULL;
    const float *x = v->array.data;
    if (n != 1)
        return n == t->outs && v->array.rank >= 3 &&
                       v->array.shape[v->array.rank - 3] == (int64_t)t->outs
                   ? x
                   : NULL;
    float *each = arena_array(&f->g->arena, t->outs, sizeof(*each));
    f->failed = !each && !engine_fail(f->e, "out of memory");
    for (size_t o = 0; each && o < t->outs; o++)
        each[o] = *x;
    return each;
}

// A Mul or an Add with a constant.
static void fuse_channels(struct fuse *f, struct node *n)
{
    for (unsigned i = 0; i < 2; i++) {
        struct fused_into t;
        if (!is_target(f, maker_of(f, n, i, "Conv"), &t))
            continue;
        const struct value *v = own_floats(f, n, 1 - i, t.outs);
        v = v ? v : own_floats(f, n, 1 - i, 1);
        const float *x = v ? for_channels(f, &t, v) : NULL;
        if (!x)
            continue;
        const float *none = arena_zalloc(&f->g->arena, t.outs * sizeof(*none));
        bool scale = view_is(n->type, "Mul");
        f->failed = !none && !engine_fail(f->e, "out of memory");
        if (none && rescale(f, &t, scale ? x : NULL, scale ? none : x, n->input[1 - i]))
            replace(f, t.node, n);
        return;
    }
}

// ---- HardSwish ---------------------------------------------------------------------------------------

// Input i of n is this number, of no dimensions, so that nothing is made longer by it.
static bool is_number(const struct fuse *f, const struct node *n, unsigned i, float number)
{
    const struct value *v = i < n->n_inputs && n->input[i] >= 0 ? &f->g->values[n->input[i]] : NULL;
    return v && v->constant && v->array.dtype == ENGINE_F32 && v->array.rank == 0 &&
           *(const float *)v->array.data == number;
}

static bool is_bound(const struct fuse *f, const struct node *clip, unsigned i, const char *name,
                     float number)
{
    if (clip->opset < 11)
        return node_float(clip, name, number + 1) == number;
    return is_number(f, clip, i, number);
}

// n is op(x) from here on; what was made for it alone is gone.
static void becomes(struct fuse *f, struct node *n, const char *op, int32_t x,
                    struct node *const *gone, unsigned n_gone)
{
    f->g->values[x].readers++; // n is one
    node_release(f->g, n, 0);
    for (unsigned k = 0; k < n_gone; k++)
        node_remove(f->g, gone[k]);
    n->input[0] = x;
    n->n_inputs = 1;
    n->type = view_of(op, strlen(op));
    graph_note(f->g, ENGINE_FUSED, "%u nodes into %s", n_gone + 1, op);
    f->failed = !node_set(f->g, n, op_find(n->type, VIEW("")), f->e);
}

// x * Clip(x + 3, 0, 6) / 6, of which nobody sees a part.
static void fuse_hard_swish(struct fuse *f, struct node *n)
{
    struct node *mul = is_number(f, n, 1, 6) ? maker_of(f, n, 0, "Mul") : NULL;
    for (unsigned i = 0; mul && i < 2; i++) {
        struct node *clip = maker_of(f, mul, i, "Clip");
        if (!clip || !is_bound(f, clip, 1, "min", 0) || !is_bound(f, clip, 2, "max", 6))
            continue;
        struct node *add = maker_of(f, clip, 0, "Add");
        int32_t x = mul->input[1 - i];
        if (!add || !((add->input[0] == x && is_number(f, add, 1, 3)) ||
                      (add->input[1] == x && is_number(f, add, 0, 3))))
            continue;
        struct node *const gone[] = {mul, clip, add};
        becomes(f, n, "HardSwish", x, gone, 3);
        return;
    }
}

// ---- Gelu --------------------------------------------------------------------------------------------

enum { GELU_NODES = 12 };

struct product_of {                // factors of a product, whatever stands first
    unsigned xs;                   // how often x is one
    double number;                 // the constants' product
    int32_t other;                 // another one; -1: none
    bool fails;                    // two others, or too many
    struct node *gone[GELU_NODES]; // that multiply, and nothing else
    unsigned n_gone;
};

// As many dimensions as value v has at least, as far as the node that makes it tells.
static unsigned least_rank(const struct fuse *f, int32_t v)
{
    int32_t maker = f->g->values[v].maker;
    const struct node *m = maker >= 0 ? &f->g->nodes[maker] : NULL;
    unsigned rank = 0;
    for (unsigned i = 0; m && m->op && i < m->n_inputs && view_is(m->type, "Add"); i++) {
        const struct value *c = m->input[i] >= 0 ? &f->g->values[m->input[i]] : NULL;
        rank = c && c->constant && c->array.rank > rank ? c->array.rank : rank;
    }
    return rank;
}

// A constant of one element, which makes nothing longer that has `rank` dimensions.
static bool is_factor(const struct fuse *f, int32_t v, unsigned rank, double *number)
{
    const struct value *c = v >= 0 ? &f->g->values[v] : NULL;
    size_t n = 0;
    if (!c || !c->constant || c->array.dtype != ENGINE_F32 || c->array.rank > rank ||
        !array_count(&c->array, &n) || n != 1)
        return false;
    *number = (double)*(const float *)c->array.data;
    return true;
}

// Input i of m is one factor, or a product of more that nobody else reads.
static void add_factor(const struct fuse *f, const struct node *m, unsigned i, int32_t x,
                       struct product_of *p)
{
    struct node *mul = m->input[i] == x ? NULL : maker_of(f, m, i, "Mul");
    double number;
    if (m->input[i] == x) {
        p->xs++;
    } else if (is_factor(f, m->input[i], least_rank(f, x), &number)) {
        p->number *= number;
    } else if (mul && p->n_gone < GELU_NODES) {
        p->gone[p->n_gone++] = mul;
        for (unsigned k = 0; k < 2; k++)
            add_factor(f, mul, k, x, p);
    } else {
        p->fails |= p->other >= 0 || mul;
        p->other = m->input[i];
    }
}

static bool is_near(double a, double b)
{
    return fabs(a - b) <= 1e-5 * b;
}

// The node of that type which makes `v` for p's last node alone, or for n.
static struct node *only_maker(const struct fuse *f, int32_t v, const char *type)
{
    const struct node reader = {.input = {v}, .n_inputs = 1};
    return v >= 0 ? maker_of(f, &reader, 0, type) : NULL;
}

// Which input of a sum is not `other`, which is the first or the second. -1: other is neither.
static int other_side(const struct node *add, int32_t other)
{
    return add->input[0] == other ? 1 : add->input[1] == other ? 0 : -1;
}

// A sum with a number: which input is not that number. -1: none is.
static int beside_number(const struct fuse *f, const struct node *add, unsigned rank, double number)
{
    double is;
    for (int i = 0; i < 2; i++) {
        if (is_factor(f, add->input[i], rank, &is) && is == number)
            return 1 - i;
    }
    return -1;
}

// x / 2 * (1 + tanh(0.79788 * (x + 0.044715 * x^3))), whatever stands first.
static bool gelu_of(struct fuse *f, struct node *n, int32_t x)
{
    struct product_of half = {.number = 1, .other = -1}, line = half, cube = half;
    unsigned rank = least_rank(f, x);
    for (unsigned i = 0; i < 2; i++)
        add_factor(f, n, i, x, &half);
    struct node *one = only_maker(f, half.other, "Add");
    int at = one ? beside_number(f, one, rank, 1) : -1;
    struct node *curve = at >= 0 ? maker_of(f, one, (unsigned)at, "Tanh") : NULL;
    if (half.fails || half.xs != 1 || half.number != 0.5 || !curve)
        return false;
    add_factor(f, curve, 0, x, &line);
    struct node *sum = only_maker(f, line.other, "Add");
    at = sum ? other_side(sum, x) : -1;
    if (line.fails || line.xs != 0 || !is_near(line.number, 0.7978845608) || at < 0)
        return false;
    add_factor(f, sum, (unsigned)at, x, &cube);
    if (cube.fails || cube.xs != 3 || cube.other >= 0 || !is_near(cube.number, 0.044715))
        return false;
    struct node *gone[3 * GELU_NODES + 3] = {one, curve, sum};
    unsigned n_gone = 3;
    const struct product_of *const parts[] = {&half, &line, &cube};
    for (unsigned k = 0; k < 3; k++) {
        for (unsigned i = 0; i < parts[k]->n_gone; i++)
            gone[n_gone++] = parts[k]->gone[i];
    }
    struct attr *how = arena_zalloc(&f->g->arena, sizeof(*how));
    if (!how) {
        f->failed = !engine_fail(f->e, "out of memory");
        return false;
    }
    *how = (struct attr){.name = VIEW("approximate"), .kind = ATTR_STRING, .s = VIEW("tanh")};
    n->attrs = how;
    n->n_attrs = 1;
    becomes(f, n, "Gelu", x, gone, n_gone);
    return true;
}

// x is a factor of n, or of a product that is one.
static bool fuse_gelu(struct fuse *f, struct node *n)
{
    for (unsigned i = 0; i < 2; i++) {
        const struct node *m = maker_of(f, n, i, "Mul");
        if (gelu_of(f, n, n->input[i]) || f->failed)
            return true;
        for (unsigned k = 0; m && k < 2; k++) {
            if (gelu_of(f, n, m->input[k]) || f->failed)
                return true;
        }
    }
    return false;
}

// ---- Relu --------------------------------------------------------------------------------------------

static void fuse_relu(struct fuse *f, struct node *n)
{
    static const char *const ops[] = {"Conv", "Gemm", "MatMul", "Add"};
    for (unsigned i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        struct node *m = maker_of(f, n, 0, ops[i]);
        if (m) {
            m->relu = 1;
            replace(f, m, n);
            return;
        }
    }
}

bool graph_fuse(struct graph *g, struct engine_error *e)
{
    struct fuse f = {.g = g, .e = e};
    for (unsigned i = 0; i < g->n_nodes && !f.failed; i++) {
        struct node *n = &g->nodes[i];
        if (!n->op)
            continue;
        if (view_is(n->type, "BatchNormalization"))
            fuse_batchnorm(&f, n);
        else if (view_is(n->type, "Mul") && fuse_gelu(&f, n))
            continue;
        else if (view_is(n->type, "Add") || view_is(n->type, "Mul"))
            fuse_channels(&f, n);
        else if (view_is(n->type, "Div"))
            fuse_hard_swish(&f, n);
        else if (view_is(n->type, "Relu"))
            fuse_relu(&f, n);
        else if (view_is(n->type, "MatMul"))
            f.failed = !fuse_lookup(g, n, e);
        else if (view_is(n->type, "TfIdfVectorizer"))
            f.failed = !fuse_text(g, n, e);
        else if (view_is(n->type, "StringNormalizer"))
            f.failed = !set_stopwords(g, n, e);
    }
    return !f.failed;
}
