// Nodes that become part of the node that makes their input: BatchNormalization, and a Mul or an Add of one number or
// one a channel, go into a convolution's weights and bias, Relu goes into whatever can end with it; a HardSwish that is
// written out becomes one. Only where
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
    if (n->input[i] < 0 || f->g->values[n->input[i]].readers != 1)
        return NULL;
    int32_t maker = f->g->values[n->input[i]].maker;
    struct node *m = maker >= 0 ? &f->g->nodes[maker] : NULL;
    return m && m->op && !m->relu && view_is(m->type, type) ? m : NULL;
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

// x * Clip(x + 3, 0, 6) / 6, of which nobody sees a part.
static void fuse_hard_swish(struct fuse *f, struct node *n)
{
    struct node *mul = is_number(f, n, 1, 6) ? maker_of(f, n, 0, "Mul") : NULL;
    const struct op *op = op_find(VIEW("HardSwish"), VIEW(""));
    for (unsigned i = 0; mul && i < 2; i++) {
        struct node *clip = maker_of(f, mul, i, "Clip");
        if (!clip || !is_bound(f, clip, 1, "min", 0) || !is_bound(f, clip, 2, "max", 6))
            continue;
        struct node *add = maker_of(f, clip, 0, "Add");
        int32_t x = mul->input[1 - i];
        if (!add || !((add->input[0] == x && is_number(f, add, 1, 3)) ||
                      (add->input[1] == x && is_number(f, add, 0, 3))))
            continue;
        f->g->values[x].readers++; // n is one
        struct node *const gone[] = {mul, clip, add};
        node_release(f->g, n, 0);
        for (unsigned k = 0; k < 3; k++)
            node_remove(f->g, gone[k]);
        n->input[0] = x;
        n->n_inputs = 1;
        n->type = VIEW("HardSwish");
        f->failed = !node_set(f->g, n, op, f->e);
        graph_note(f->g, ENGINE_FUSED, "Add, Clip, Mul, Div into HardSwish");
        return;
    }
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
        else if (view_is(n->type, "Add") || view_is(n->type, "Mul"))
            fuse_channels(&f, n);
        else if (view_is(n->type, "Div"))
            fuse_hard_swish(&f, n);
        else if (view_is(n->type, "Relu"))
            fuse_relu(&f, n);
        else if (view_is(n->type, "TfIdfVectorizer"))
            f.failed = !fuse_text(g, n, e);
        else if (view_is(n->type, "StringNormalizer"))
            f.failed = !set_stopwords(g, n, e);
    }
    return !f.failed;
}
