// What stands between DequantizeLinear and QuantizeLinear becomes one op on bytes: Conv, MatMul and Gemm with constant
// weights, with the bias and the Relu that belong to them. The bytes are summed exactly and rounded once, where the file's
// own ops sum in float32: an answer may be the next whole number where that sum lies at the half between two.
#include "engine/plan.h"

#include <math.h>

struct joined {                // of one QuantizeLinear
    struct node *x, *w, *bias; // DequantizeLinear in front; bias NULL: none
    struct node *op, *relu;    // relu NULL: none
};

static bool is_bytes(const struct array *a)
{
    return a && (a->dtype == ENGINE_U8 || a->dtype == ENGINE_I8);
}

static size_t elements(const struct array *a)
{
    size_t n = 0;
    return a && array_count(a, &n) ? n : 0;
}

// Constant scale and zero point of n, a QuantizeLinear or DequantizeLinear of bytes: one, or as many as `count` along the
// axis.
static bool is_scaled(const struct graph *g, const struct node *n, size_t count, int64_t axis,
                      unsigned rank)
{
    const struct array *scale = node_constant(g, n, 1), *zero = node_constant(g, n, 2);
    size_t have = elements(scale);
    int64_t own = node_int(n, "axis", 1);
    own += own < 0 ? rank : 0;
    return scale && scale->dtype == ENGINE_F32 && is_bytes(zero) && elements(zero) == have &&
           (have == 1 || (have == count && scale->rank == 1 && own == axis)) &&
           node_int(n, "block_size", 0) == 0;
}

// Which axis of the weights are the columns.
static int64_t column_axis(const struct node *op)
{
    bool conv = view_is(op->type, "Conv");
    return conv ? 0 : view_is(op->type, "Gemm") && node_int(op, "transB", 0) != 0 ? 0 : 1;
}

static bool weights_fit(const struct graph *g, struct joined *j)
{
    const struct array *w = node_constant(g, j->w, 0);
    bool conv = view_is(j->op->type, "Conv");
    int64_t axis = column_axis(j->op);
    return is_bytes(w) && (conv ? w->rank == 3 || w->rank == 4 : w->rank == 2) && elements(w) > 0 &&
           is_scaled(g, j->w, (size_t)w->shape[axis], axis, w->rank);
}

// An int32 bias in the product's own scale, one a column.
static bool bias_fits(const struct graph *g, const struct joined *j)
{
    const struct array *w = node_constant(g, j->w, 0), *b = node_constant(g, j->bias, 0);
    const struct array *scale = node_constant(g, j->bias, 1), *zero = node_constant(g, j->bias, 2);
    const struct array *sx = node_constant(g, j->x, 1), *sw = node_constant(g, j->w, 1);
    size_t count = (size_t)w->shape[column_axis(j->op)], n = elements(scale), each = elements(sw);
    if (!b || b->dtype != ENGINE_I32 || b->rank != 1 || elements(b) != count || !scale ||
        scale->dtype != ENGINE_F32 || (n != 1 && n != count))
        return false;
    for (size_t c = 0; c < elements(zero); c++) {
        if (zero->dtype != ENGINE_I32 || ((const int32_t *)zero->data)[c] != 0)
            return false;
    }
    for (size_t c = 0; c < count; c++) {
        float is = ((const float *)scale->data)[n == 1 ? 0 : c];
        float own = *(const float *)sx->data * ((const float *)sw->data)[each == 1 ? 0 : c];
        if (!(fabsf(is - own) <= 1e-6f * own))
            return false;
    }
    return true;
}

static bool is_plain_gemm(const struct node *n)
{
    return node_int(n, "transA", 0) == 0 && node_float(n, "alpha", 1) == 1 &&
           node_float(n, "beta", 1) == 1;
}

// What n, a QuantizeLinear, is the end of.
static bool find(const struct graph *g, const struct node *n, struct joined *j)
{
    static const char *const ops[] = {"Conv", "MatMul", "Gemm"};
    *j = (struct joined){.relu = node_only_maker(g, n, 0, "Relu")};
    const struct node *last = j->relu ? j->relu : n;
    for (unsigned i = 0; i < 3 && !j->op; i++)
        j->op = node_only_maker(g, last, 0, ops[i]);
    if (!j->op || j->op->relu || !is_scaled(g, n, 1, 0, 1) ||
        (view_is(j->op->type, "Gemm") && !is_plain_gemm(j->op)))
        return false;
    j->x = node_maker(g, j->op, 0, "DequantizeLinear");
    j->w = node_maker(g, j->op, 1, "DequantizeLinear");
    bool biased = j->op->n_inputs > 2 && j->op->input[2] >= 0;
    j->bias = biased ? node_maker(g, j->op, 2, "DequantizeLinear") : NULL;
    return j->x && j->w && biased == (j->bias != NULL) && is_scaled(g, j->x, 1, 0, 1) &&
           !node_constant(g, j->x, 0) && weights_fit(g, j) && (!biased || bias_fits(g, j));
}

// Attributes of the op that the one on bytes has as well.
static bool keep_attrs(struct graph *g, struct node *n, const struct node *from)
{
    n->attrs = arena_array(&g->arena, from->n_attrs + 1, sizeof(*n->attrs));
    n->n_attrs = 0;
    for (unsigned i = 0; n->attrs && i < from->n_attrs; i++) {
        if (op_takes(n->op, &from->attrs[i]))
            n->attrs[n->n_attrs++] = from->attrs[i];
    }
    return n->attrs != NULL;
}

static void drop_unread(struct graph *g, struct node *n)
{
    if (n && n->op && g->values[n->output[0]].readers == 0)
        node_remove(g, n);
}

// n is the op on bytes from here on.
static bool join(struct graph *g, struct node *n, const struct joined *j, const struct op *op,
                 struct engine_error *e)
{
    struct node made = *n;
    const struct node *const from[] = {j->x, j->w};
    unsigned at = 0;
    for (unsigned k = 0; k < 2; k++) {
        for (unsigned i = 0; i < 3; i++)
            made.input[at++] = from[k]->input[i];
    }
    bool gemm = view_is(j->op->type, "Gemm");
    int32_t bias = j->bias ? j->bias->input[0] : -1;
    if (gemm)
        made.input[at++] = bias;
    made.input[at++] = n->input[1];
    made.input[at++] = n->input[2];
    if (!gemm && bias >= 0)
        made.input[at++] = bias;
    made.n_inputs = at;
    made.name = j->op->name;
    made.type = view_of(op->name, strlen(op->name));
    made.opset = j->op->opset;
    made.relu = j->relu != NULL;
    if (!node_set(g, &made, op, e))
        return false;
    if (!keep_attrs(g, &made, j->op))
        return engine_fail(e, "out of memory");
    for (unsigned i = 0; i < at; i++) {
        if (made.input[i] >= 0)
            g->values[made.input[i]].readers++;
    }
    node_release(g, n, 0);
    if (j->relu)
        node_remove(g, j->relu);
    graph_note(g, ENGINE_FUSED, "DequantizeLinear, %.*s%s, QuantizeLinear into %s",
               VIEW_ARG(j->op->type), j->relu ? ", Relu" : "", op->name);
    node_remove(g, j->op);
    *n = made;
    drop_unread(g, j->x);
    drop_unread(g, j->w);
    drop_unread(g, j->bias);
    return true;
}

static const struct op *op_on_bytes(const struct node *op)
{
    if (view_is(op->type, "Conv"))
        return op_find(VIEW("QLinearConv"), VIEW(""));
    if (view_is(op->type, "MatMul"))
        return op_find(VIEW("QLinearMatMul"), VIEW(""));
    return op_find(VIEW("QGemm"), VIEW(OP_MICROSOFT));
}

bool node_feeds_bytes(const struct graph *g, const struct node *n)
{
    const struct array *x = node_constant(g, n, 0);
    return view_is(n->type, "DequantizeLinear") && x && (is_bytes(x) || x->dtype == ENGINE_I32);
}

bool fuse_bytes(struct graph *g, struct engine_error *e)
{
    for (unsigned i = 0; i < g->n_nodes; i++) {
        struct node *n = &g->nodes[i];
        struct joined j;
        if (!n->op || !view_is(n->type, "QuantizeLinear") || !find(g, n, &j))
            continue;
        const struct op *op = op_on_bytes(j.op);
        if (g->device->ops->kernel(g->device, op) && !join(g, n, &j, op, e))
            return false;
    }
    return true;
}
