// What shape each op's output has, given its inputs' shapes (and, where the standard says so, their
// constant data). Everything a kernel relies on is checked here, so that kernels need no checks.
// Source of the rules: onnx/onnx docs/Operators.md and docs/Broadcasting.md.
#include "engine/ops.h"

#include <stdio.h>

bool shape_wrong(struct job *j, struct engine_error *e, const char *what)
{
    char title[128];
    return engine_fail(e, "%s: %s", node_title(j->node, title), what);
}

static bool floats(struct job *j, struct engine_error *e)
{
    for (unsigned i = 0; i < j->node->n_inputs; i++) {
        if (j->in[i] && j->in[i]->dtype != ENGINE_F32)
            return shape_wrong(j, e, "expected float32 inputs");
    }
    return true;
}

// Axis a of rank dimensions, negative ones counted from the end; -1: out of range.
static int64_t axis_of(int64_t a, unsigned rank)
{
    if (a < 0)
        a += rank;
    return a >= 0 && a < (int64_t)rank ? a : -1;
}

bool shape_make_at(struct job *j, unsigned k, enum engine_dtype dtype, unsigned rank,
                   const int64_t *shape, struct engine_error *e)
{
    struct array *out = k == 0 ? j->out : j->outs[k];
    size_t count;
    if (!out)
        return true;
    out->dtype = dtype;
    out->rank = rank;
    for (unsigned i = 0; i < rank; i++)
        out->shape[i] = shape[i];
    return array_count(out, &count) || shape_wrong(j, e, "its output has too many elements");
}

bool shape_make(struct job *j, enum engine_dtype dtype, unsigned rank, const int64_t *shape,
                struct engine_error *e)
{
    return shape_make_at(j, 0, dtype, rank, shape, e);
}

const int64_t *shape_list(struct job *j, const char *attr, unsigned input, unsigned *n,
                          int64_t room[ENGINE_MAX_RANK])
{
    const struct attr *a = node_attr(j->node, attr);
    const struct array *x = job_input(j, input);
    *n = 0;
    if (a && a->kind == ATTR_INTS) {
        *n = a->n;
        return a->ints;
    }
    if (!x || !x->data || x->rank > 1 || (x->dtype != ENGINE_I64 && x->dtype != ENGINE_I32))
        return NULL;
    *n = x->rank ? (unsigned)x->shape[0] : 1;
    if (x->dtype == ENGINE_I64)
        return x->data;
    if (*n > ENGINE_MAX_RANK) {
        *n = 0;
        return NULL;
    }
    for (unsigned i = 0; i < *n; i++)
        room[i] = ((const int32_t *)x->data)[i];
    return room;
}

bool shape_same(struct job *j, struct engine_error *e)
{
    const struct array *a = j->in[0];
    if (!j->node->op->alias && a->dtype != ENGINE_F32 && a->dtype != ENGINE_F64)
        return shape_wrong(j, e, "expected floats");
    return shape_make(j, a->dtype, a->rank, a->shape, e);
}

bool shape_clip(struct job *j, struct engine_error *e)
{
    const struct array *a = j->in[0];
    for (unsigned i = 1; i < j->node->n_inputs; i++) {
        size_t n;
        if (j->in[i] && (j->in[i]->dtype != a->dtype || !array_count(j->in[i], &n) || n != 1))
            return shape_wrong(j, e, "min, max: expected one of the input's datatype");
    }
    if (a->dtype == ENGINE_BOOL ||
        (a->dtype != ENGINE_F32 && (node_attr(j->node, "min") || node_attr(j->node, "max"))))
        return shape_wrong(j, e, "expected numbers, or float32 with bounds as attributes");
    return shape_make(j, a->dtype, a->rank, a->shape, e);
}

bool shape_gelu(struct job *j, struct engine_error *e)
{
    const struct attr *how = node_attr(j->node, "approximate");
    if (how && !view_is(how->s, "tanh") && !view_is(how->s, "none"))
        return shape_wrong(j, e, "approximate: expected none or tanh");
    return shape_same(j, e);
}

// Before opset 7 BatchNormalization and Dropout trained unless told not to.
static bool trains(const struct job *j)
{
    return j->node->opset < 7 && node_int(j->node, "is_test", 0) == 0;
}

// When serving it does nothing; asked to train it would.
bool shape_dropout(struct job *j, struct engine_error *e)
{
    const struct array *train = job_input(j, 2);
    size_t n;
    if (train && (train->dtype != ENGINE_BOOL || !train->data || !array_count(train, &n) ||
                  n != 1 || *(const uint8_t *)train->data))
        return shape_wrong(j, e, "training_mode: expected a constant false");
    if (trains(j))
        return shape_wrong(j, e, "is_test: expected 1");
    return shape_make(j, j->in[0]->dtype, j->in[0]->rank, j->in[0]->shape, e);
}

bool shape_together(struct job *j, const struct array *const *in, unsigned n, int64_t *shape,
                    unsigned *rank, struct engine_error *e)
{
    *rank = 0;
    for (unsigned k = 0; k < n; k++)
        *rank = in[k]->rank > *rank ? in[k]->rank : *rank;
    for (unsigned back = 0; back < *rank; back++) {
        int64_t dim = 1;
        for (unsigned k = 0; k < n; k++) {
            int64_t d = back < in[k]->rank ? in[k]->shape[in[k]->rank - 1 - back] : 1;
            if (d != dim && d != 1 && dim != 1)
                return shape_wrong(j, e, "the shapes cannot be broadcast to each other");
            dim = dim == 1 ? d : dim;
        }
        shape[*rank - 1 - back] = dim;
    }
    return true;
}

// All inputs broadcast to each other, of one datatype that counts.
bool shape_several(struct job *j, struct engine_error *e)
{
    enum engine_dtype d = j->in[0]->dtype;
    int64_t shape[ENGINE_MAX_RANK];
    unsigned rank;
    if (d == ENGINE_BOOL)
        return shape_wrong(j, e, "expected numbers");
    for (unsigned i = 1; i < j->node->n_inputs; i++) {
        if (!j->in[i] || j->in[i]->dtype != d)
            return shape_wrong(j, e, "expected inputs of one datatype");
    }
    return shape_together(j, j->in, j->node->n_inputs, shape, &rank, e) &&
           shape_make(j, d, rank, shape, e);
}

// Before opset 7 the second operand's axes stood at `axis` of the first one's, or at its end, when asked to.
static bool broadcasts_as_now(const struct job *j)
{
    const struct array *a = j->in[0], *b = j->in[1];
    int64_t behind = (int64_t)a->rank - (int64_t)b->rank;
    int64_t axis = node_int(j->node, "axis", behind);
    if (node_int(j->node, "broadcast", 0) == 0)
        return a->rank == b->rank && memcmp(a->shape, b->shape, a->rank * sizeof(a->shape[0])) == 0;
    return behind >= 0 && (axis == behind || axis + a->rank == behind);
}

bool shape_broadcast(struct job *j, struct engine_error *e)
{
    if (j->node->opset < 7 && !broadcasts_as_now(j))
        return shape_wrong(j, e, "broadcast, axis: expected the last axes, of one shape without");
    return shape_several(j, e);
}

static bool is_float(const struct array *a)
{
    return a->dtype == ENGINE_F32 || a->dtype == ENGINE_F64;
}

bool shape_several_floats(struct job *j, struct engine_error *e)
{
    if (!is_float(j->in[0]))
        return shape_wrong(j, e, "expected floats");
    return shape_several(j, e);
}

bool shape_whole(struct job *j, struct engine_error *e)
{
    if (is_float(j->in[0]))
        return shape_wrong(j, e, "expected whole numbers");
    return shape_several(j, e);
}

bool shape_shift(struct job *j, struct engine_error *e)
{
    enum engine_dtype d = j->in[0]->dtype;
    const struct attr *where = node_attr(j->node, "direction");
    if (d == ENGINE_F32 || d == ENGINE_F64)
        return shape_wrong(j, e, "expected whole numbers");
    if (!where || (!view_is(where->s, "LEFT") && !view_is(where->s, "RIGHT")))
        return shape_wrong(j, e, "direction: expected LEFT or RIGHT");
    return shape_several(j, e);
}

bool shape_mod(struct job *j, struct engine_error *e)
{
    if (is_float(j->in[0]) && node_int(j->node, "fmod", 0) == 0)
        return shape_wrong(j, e, "fmod: expected 1 for floats");
    return shape_several(j, e);
}

bool shape_power(struct job *j, struct engine_error *e)
{
    const struct array *a = j->in[0], *b = j->in[1];
    int64_t shape[ENGINE_MAX_RANK];
    unsigned rank;
    bool whole = a->dtype == ENGINE_I32 || a->dtype == ENGINE_I64;
    bool fits = b->dtype == ENGINE_I32 || b->dtype == ENGINE_I64 || is_float(b);
    if ((!whole && !is_float(a)) || b->dtype == ENGINE_BOOL || (whole && !fits))
        return shape_wrong(j, e, "expected floats, int32 or int64, to a power that is a number");
    if (j->node->opset < 7 && !broadcasts_as_now(j))
        return shape_wrong(j, e, "broadcast, axis: expected the last axes, of one shape without");
    return shape_together(j, j->in, 2, shape, &rank, e) && shape_make(j, a->dtype, rank, shape, e);
}

// The slope is broadcast to the input, never the other way.
bool shape_prelu(struct job *j, struct engine_error *e)
{
    size_t have, want;
    const struct array *x = j->in[0], *slope = j->in[1];
    if (j->node->opset < 7 && slope->rank == 1 && x->rank >= 2 && slope->dtype == x->dtype &&
        x->dtype != ENGINE_BOOL && slope->shape[0] == x->shape[1])
        return shape_make(j, x->dtype, x->rank, x->shape, e); // one a channel, then
    return shape_several(j, e) &&
           ((array_count(j->in[0], &have) && array_count(j->out, &want) && have == want) ||
            shape_wrong(j, e, "slope: expected a shape that can be broadcast to the input's"));
}

bool shape_gemm(struct job *j, struct engine_error *e)
{
    const struct array *a = j->in[0], *b = j->in[1], *c = job_input(j, 2);
    bool ta = node_int(j->node, "transA", 0) != 0, tb = node_int(j->node, "transB", 0) != 0;
    if ((a->dtype != ENGINE_F32 && a->dtype != ENGINE_F64) || b->dtype != a->dtype ||
        (c && c->dtype != a->dtype))
        return shape_wrong(j, e, "expected inputs of float32, or of float64");
    if (a->rank != 2 || b->rank != 2 || a->shape[ta ? 0 : 1] != b->shape[tb ? 1 : 0])
        return shape_wrong(j, e, "expected two matrices that can be multiplied");
    int64_t shape[2] = {a->shape[ta ? 1 : 0], b->shape[tb ? 0 : 1]};
    if (c) {
        if (c->rank > 2 ||
            (c->rank >= 1 && c->shape[c->rank - 1] != shape[1] && c->shape[c->rank - 1] != 1) ||
            (c->rank == 2 && c->shape[0] != shape[0] && c->shape[0] != 1))
            return shape_wrong(j, e, "the third input cannot be broadcast to the product");
    }
    return shape_make(j, a->dtype, 2, shape, e);
}

// ---- pools of whole images ---------------------------------------------------------------------------

bool shape_global_pool(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    int64_t shape[ENGINE_MAX_RANK];
    if (!floats(j, e))
        return false;
    if (x->rank < 3)
        return shape_wrong(j, e, "expected at least three dimensions");
    for (unsigned i = 0; i < x->rank; i++)
        shape[i] = i < 2 ? x->shape[i] : 1;
    return shape_make(j, ENGINE_F32, x->rank, shape, e);
}

bool shape_batchnorm(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    if (!floats(j, e))
        return false;
    if (x->rank < 2)
        return shape_wrong(j, e, "expected at least two dimensions");
    if (node_int(j->node, "training_mode", 0) != 0 || node_int(j->node, "spatial", 1) != 1)
        return shape_wrong(j, e, "training_mode: expected 0; spatial: expected 1");
    if (trains(j))
        return shape_wrong(j, e, "is_test: expected 1");
    for (unsigned i = 1; i < 5; i++) {
        if (j->in[i]->rank != 1 || j->in[i]->shape[0] != x->shape[1])
            return shape_wrong(j, e, "expected one scale, bias, mean and variance a channel");
    }
    return shape_make(j, ENGINE_F32, x->rank, x->shape, e);
}

bool shape_softmax(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    int64_t axis = node_int(j->node, "axis", j->node->opset < 13 ? 1 : -1);
    if (!is_float(x))
        return shape_wrong(j, e, "expected floats");
    if (axis_of(axis, x->rank) < 0)
        return shape_wrong(j, e, "axis is out of range");
    return shape_make(j, x->dtype, x->rank, x->shape, e);
}

// ---- other shapes of the same elements ---------------------------------------------------------------

// The elements of the input and of the shape that is wanted, without the dimensions that this copies.
static void without_copied(const struct job *j, const int64_t *want, unsigned n, size_t *all,
                           size_t *known)
{
    struct array rest = *j->in[0], given = {.rank = 0};
    for (unsigned i = 0; i < n; i++) {
        if (want[i] == 0 && i < rest.rank)
            rest.shape[i] = 1;
        else if (want[i] > 0)
            given.shape[given.rank++] = want[i];
    }
    if (node_int(j->node, "allowzero", 0) != 0 || !array_count(&rest, all) ||
        !array_count(&given, known))
        *known = 0;
}

// "[1,4,-1]", or as much of it as there is room for.
static const char *dims_text(const int64_t *shape, unsigned rank, char out[80])
{
    size_t at = 0;
    snprintf(out, 80, "[]");
    for (unsigned i = 0; i < rank && at < 80; i++)
        at += (size_t)snprintf(out + at, 80 - at, "%s%lld%s", i ? "," : "[", (long long)shape[i],
                               i + 1 == rank ? "]" : "");
    return out;
}

// Files that were written for other sizes than they say end here.
static bool elements_wrong(struct job *j, const int64_t *shape, unsigned n, struct engine_error *e)
{
    char have[80], want[80];
    return node_fail(j->node, e, "shape: the elements of %s do not fit %s",
                     dims_text(j->in[0]->shape, j->in[0]->rank, have), dims_text(shape, n, want));
}

bool shape_reshape(struct job *j, struct engine_error *e)
{
    unsigned n;
    size_t all, known = 1;
    int free_axis = -1;
    int64_t shape[ENGINE_MAX_RANK], room[ENGINE_MAX_RANK];
    const int64_t *want = shape_list(j, "shape", 1, &n, room);
    bool allow_zero = node_int(j->node, "allowzero", 0) != 0;
    if (!want || n > ENGINE_MAX_RANK || !array_count(j->in[0], &all))
        return shape_wrong(j, e, "shape: expected a constant list of at most " RANK_TEXT);
    for (unsigned i = 0; i < n; i++) {
        shape[i] = want[i];
        if (want[i] == 0 && !allow_zero) {
            if (i >= j->in[0]->rank)
                return shape_wrong(j, e, "shape: a 0 where the input has no dimension");
            shape[i] = j->in[0]->shape[i];
        }
        if (shape[i] == -1 && free_axis < 0)
            free_axis = (int)i;
        else if (shape[i] < 0 || __builtin_mul_overflow(known, (size_t)shape[i], &known))
            return shape_wrong(j, e, "shape: expected dimensions of 0 or more and at most one -1");
    }
    if (free_axis >= 0) {
        if (known == 0) // a 0 that is the input's own says nothing of the other dimensions
            without_copied(j, want, n, &all, &known);
        if (known == 0 || all % known != 0)
            return elements_wrong(j, shape, n, e);
        shape[free_axis] = (int64_t)(all / known);
    } else if (known != all) {
        return elements_wrong(j, shape, n, e);
    }
    return shape_make(j, j->in[0]->dtype, n, shape, e);
}

bool shape_flatten(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    int64_t axis = node_int(j->node, "axis", 1), shape[2] = {1, 1};
    axis += axis < 0 ? x->rank : 0;
    if (axis < 0 || axis > (int64_t)x->rank)
        return shape_wrong(j, e, "axis is out of range");
    for (unsigned i = 0; i < x->rank; i++)
        shape[i >= axis] *= x->shape[i];
    return shape_make(j, x->dtype, 2, shape, e);
}

// The axes of Squeeze and Unsqueeze as a set of bits, for a tensor of `rank`; false: out of range or twice.
static bool axes_of(const int64_t *axes, unsigned n, unsigned rank, unsigned *set)
{
    *set = 0;
    for (unsigned i = 0; i < n; i++) {
        int64_t a = axis_of(axes[i], rank);
        if (a < 0 || (*set & 1u << a))
            return false;
        *set |= 1u << a;
    }
    return true;
}

bool shape_squeeze(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    unsigned n, set = 0, rank = 0;
    int64_t shape[ENGINE_MAX_RANK], room[ENGINE_MAX_RANK];
    const int64_t *axes = shape_list(j, "axes", 1, &n, room);
    if (!axes && job_input(j, 1))
        return shape_wrong(j, e, "axes: expected a constant list");
    if (axes && !axes_of(axes, n, x->rank, &set))
        return shape_wrong(j, e, "axes are out of range");
    for (unsigned i = 0; i < x->rank; i++) {
        bool drop = axes ? set >> i & 1 : x->shape[i] == 1;
        if (drop && x->shape[i] != 1)
            return shape_wrong(j, e, "axes: expected dimensions of 1");
        if (!drop)
            shape[rank++] = x->shape[i];
    }
    return shape_make(j, x->dtype, rank, shape, e);
}

bool shape_unsqueeze(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    unsigned n, set, from = 0;
    int64_t shape[ENGINE_MAX_RANK], room[ENGINE_MAX_RANK];
    const int64_t *axes = shape_list(j, "axes", 1, &n, room);
    if (!axes || x->rank + n > ENGINE_MAX_RANK || !axes_of(axes, n, x->rank + n, &set))
        return shape_wrong(j, e, "axes: expected a constant list within 16 dimensions");
    for (unsigned i = 0; i < x->rank + n; i++)
        shape[i] = set >> i & 1 ? 1 : x->shape[from++];
    return shape_make(j, x->dtype, x->rank + n, shape, e);
}

bool shape_transpose(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    const struct attr *perm = node_attr(j->node, "perm");
    unsigned seen = 0;
    int64_t shape[ENGINE_MAX_RANK];
    if (perm && (perm->kind != ATTR_INTS || perm->n != x->rank))
        return shape_wrong(j, e, "perm: expected one axis a dimension");
    for (unsigned i = 0; i < x->rank; i++) {
        int64_t axis = perm ? perm->ints[i] : (int64_t)(x->rank - 1 - i);
        if (axis < 0 || axis >= (int64_t)x->rank || (seen & 1u << axis))
            return shape_wrong(j, e, "perm: expected each axis once");
        seen |= 1u << axis;
        shape[i] = x->shape[axis];
    }
    return shape_make(j, x->dtype, x->rank, shape, e);
}

bool shape_concat(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    int64_t axis = axis_of(node_int(j->node, "axis", INT32_MAX), x->rank), shape[ENGINE_MAX_RANK];
    if (axis < 0)
        return shape_wrong(j, e, "axis is out of range, or missing");
    memcpy(shape, x->shape, sizeof(shape));
    for (unsigned k = 1; k < j->node->n_inputs; k++) {
        const struct array *a = j->in[k];
        if (!a || a->rank != x->rank || a->dtype != x->dtype)
            return shape_wrong(j, e, "expected inputs of one rank and datatype");
        for (unsigned i = 0; i < x->rank; i++) {
            if (i != axis && a->shape[i] != x->shape[i])
                return shape_wrong(j, e, "expected equal dimensions beside the axis");
        }
        if (__builtin_add_overflow(shape[axis], a->shape[axis], &shape[axis]))
            return shape_wrong(j, e, "its output has too many elements");
    }
    return shape_make(j, x->dtype, x->rank, shape, e);
}

static int64_t clamp(int64_t v, int64_t low, int64_t high)
{
    return v < low ? low : v > high ? high : v;
}

bool slice_of(const struct job *job, int64_t *start, int64_t *step, int64_t *length,
              struct engine_error *e)
{
    struct job *j = (struct job *)job;
    const struct array *x = j->in[0];
    unsigned n, ends, axes_n, steps_n;
    int64_t room[4][ENGINE_MAX_RANK];
    const int64_t *from = shape_list(j, "starts", 1, &n, room[0]),
                  *to = shape_list(j, "ends", 2, &ends, room[1]);
    const int64_t *axes = shape_list(j, "axes", 3, &axes_n, room[2]),
                  *steps = shape_list(j, "steps", 4, &steps_n, room[3]);
    if (!from || !to || n != ends || n > x->rank || (axes && axes_n != n) ||
        (steps && steps_n != n))
        return shape_wrong(j, e,
                           "starts, ends, axes, steps: expected constant lists of one length");
    for (unsigned i = 0; i < x->rank; i++) {
        start[i] = 0;
        step[i] = 1;
        length[i] = x->shape[i];
    }
    for (unsigned i = 0; i < n; i++) {
        int64_t a = axis_of(axes ? axes[i] : (int64_t)i, x->rank), by = steps ? steps[i] : 1;
        if (a < 0 || by == 0 || by == INT64_MIN)
            return shape_wrong(j, e, "axes or steps are out of range");
        int64_t dim = x->shape[a];
        int64_t s = from[i] < 0 ? from[i] + dim : from[i], end = to[i] < 0 ? to[i] + dim : to[i];
        s = by > 0 ? clamp(s, 0, dim) : clamp(s, 0, dim - 1);
        end = by > 0 ? clamp(end, 0, dim) : clamp(end, -1, dim - 1);
        int64_t span = by > 0 ? end - s : s - end, stride = by > 0 ? by : -by;
        start[a] = s;
        step[a] = by;
        length[a] = span > 0 && dim > 0 ? (span - 1) / stride + 1 : 0;
        if (length[a] <= 1)
            step[a] = 1; // never taken; it may be anything up to 2^63
    }
    return true;
}

bool shape_slice(struct job *j, struct engine_error *e)
{
    int64_t start[ENGINE_MAX_RANK], step[ENGINE_MAX_RANK], length[ENGINE_MAX_RANK];
    if (!slice_of(j, start, step, length, e))
        return false;
    return shape_make(j, j->in[0]->dtype, j->in[0]->rank, length, e);
}

bool shape_constant(struct job *j, struct engine_error *e)
{
    const struct attr *a = j->node->n_attrs == 1 ? &j->node->attrs[0] : NULL;
    if (!a)
        return shape_wrong(j, e, "expected one value");
    switch (a->kind) {
    case ATTR_TENSOR:
        return shape_make(j, a->tensor.dtype, a->tensor.rank, a->tensor.shape, e);
    case ATTR_FLOAT:
        return shape_make(j, ENGINE_F32, 0, NULL, e);
    case ATTR_INT:
        return shape_make(j, ENGINE_I64, 0, NULL, e);
    case ATTR_INTS:
        return shape_make(j, ENGINE_I64, 1, &(int64_t){a->n}, e);
    case ATTR_FLOATS:
        return shape_make(j, ENGINE_F32, 1, &(int64_t){a->n}, e);
    case ATTR_STRING:
    case ATTR_STRINGS:
    case ATTR_GRAPH:
    case ATTR_OTHER:
        break;
    }
    return shape_wrong(j, e, "expected a tensor, numbers or a number");
}
