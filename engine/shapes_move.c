// Shapes of what puts elements elsewhere: Split, Pad, Tile, TopK, gathers and scatters by place. As
// engine/shapes.c: whatever a kernel relies on is checked here; places that are data, the kernels check.
#include "engine/ops.h"
#include "engine/small.h"

static bool is_index(const struct array *a)
{
    return a->dtype == ENGINE_I32 || a->dtype == ENGINE_I64;
}

int64_t split_length(const struct job *j, unsigned k)
{
    const struct array *x = j->in[0];
    unsigned n, outs = j->node->n_outputs;
    int64_t room[ENGINE_MAX_RANK], dim = x->shape[shape_axis(j, 0)], each = (dim + outs - 1) / outs;
    const int64_t *parts = shape_list((struct job *)j, "split", 1, &n, room);
    if (parts)
        return k < n ? parts[k] : 0;
    int64_t rest = dim - each * k; // the last ones may be short
    return rest < 0 ? 0 : rest < each ? rest : each;
}

bool shape_split(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    int64_t axis = shape_axis(j, 0), shape[ENGINE_MAX_RANK], at = 0;
    unsigned n, outs = j->node->n_outputs;
    int64_t room[ENGINE_MAX_RANK];
    const int64_t *parts = shape_list(j, "split", 1, &n, room);
    if (axis < 0 || axis >= (int64_t)x->rank)
        return shape_wrong(j, e, "axis is out of range");
    if (parts ? n != outs : job_input(j, 1) != NULL)
        return shape_wrong(j, e, "split: expected one an output, known from shapes");
    if (node_int(j->node, "num_outputs", outs) != outs)
        return shape_wrong(j, e, "num_outputs: expected as many as there are");
    memcpy(shape, x->shape, sizeof(shape));
    for (unsigned k = 0; k < outs; k++) {
        shape[axis] = split_length(j, k);
        if (shape[axis] < 0 || shape[axis] > x->shape[axis] - at)
            return shape_wrong(j, e, "split: expected parts that fill the axis");
        at += shape[axis];
        if (!shape_make_at(j, k, x->dtype, x->rank, shape, e))
            return false;
    }
    return at == x->shape[axis] || shape_wrong(j, e, "split: expected parts that fill the axis");
}

bool shape_tile(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    unsigned n;
    int64_t shape[ENGINE_MAX_RANK], room[ENGINE_MAX_RANK];
    const int64_t *times = shape_list(j, "repeats", 1, &n, room);
    if (!times || n != x->rank)
        return shape_wrong(j, e, "repeats: expected one a dimension, known from shapes");
    for (unsigned i = 0; i < n; i++) {
        if (times[i] < 0 || __builtin_mul_overflow(x->shape[i], times[i], &shape[i]))
            return shape_wrong(j, e, "repeats: out of range");
    }
    return shape_make(j, x->dtype, n, shape, e);
}

bool pad_of(const struct job *job, struct pad *p, struct engine_error *e)
{
    static const char *const modes[] = {"constant", "reflect", "edge", "wrap"};
    struct job *j = (struct job *)job;
    const struct array *x = j->in[0];
    const struct attr *mode = node_attr(j->node, "mode");
    unsigned n, n_axes;
    int64_t room[2 * ENGINE_MAX_RANK], axes_room[ENGINE_MAX_RANK];
    const int64_t *pads = shape_list(j, "pads", 1, &n, room),
                  *axes = shape_list(j, "axes", 3, &n_axes, axes_room);
    bool known = !mode;
    memset(p, 0, sizeof(*p));
    for (unsigned i = 0; mode && i < 4; i++) {
        if (view_is(mode->s, modes[i])) {
            p->mode = (enum pad_mode)i;
            known = true;
        }
    }
    if (!known)
        return shape_wrong(j, e, "mode: expected constant, reflect, edge or wrap");
    if (!axes && job_input(j, 3))
        return shape_wrong(j, e, "axes: expected a list that is known from shapes");
    n_axes = axes ? n_axes : x->rank;
    if (!pads || n != 2 * n_axes || n_axes > x->rank)
        return shape_wrong(j, e, "pads: expected two an axis, known from shapes");
    for (unsigned i = 0; i < n_axes; i++) {
        int64_t a = axes ? axes[i] : i;
        a += a < 0 ? x->rank : 0;
        if (a < 0 || a >= (int64_t)x->rank)
            return shape_wrong(j, e, "axes are out of range");
        p->before[a] = pads[i];
        p->after[a] = pads[n_axes + i];
    }
    return true;
}

// What a mode asks of an axis that grows.
static bool pads_fit(const struct pad *p, unsigned axis, int64_t dim)
{
    int64_t most = p->before[axis] > p->after[axis] ? p->before[axis] : p->after[axis];
    if (p->mode == PAD_CONSTANT || most <= 0)
        return true;
    return p->mode == PAD_REFLECT ? most < dim : dim > 0;
}

bool shape_pad(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0], *value = job_input(j, 2);
    int64_t shape[ENGINE_MAX_RANK];
    struct pad p;
    size_t one = 0;
    if (!pad_of(j, &p, e))
        return false;
    if (value && (value->dtype != x->dtype || !array_count(value, &one) || one != 1))
        return shape_wrong(j, e, "constant_value: expected one of the input's datatype");
    if (!value && node_float(j->node, "value", 0) != 0 && x->dtype != ENGINE_F32)
        return shape_wrong(j, e, "value: expected 0, or float32");
    for (unsigned i = 0; i < x->rank; i++) {
        if (p.before[i] < -(1 << 30) || p.before[i] > 1 << 30 || p.after[i] < -(1 << 30) ||
            p.after[i] > 1 << 30 || !pads_fit(&p, i, x->shape[i]))
            return shape_wrong(j, e, "pads: out of range, or more than the mode has");
        shape[i] = x->shape[i] + p.before[i] + p.after[i];
        if (shape[i] < 0)
            return shape_wrong(j, e, "pads: nothing is left");
    }
    return shape_make(j, x->dtype, x->rank, shape, e);
}

bool shape_trilu(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0], *k = job_input(j, 1);
    size_t one = 0;
    if (x->rank < 2)
        return shape_wrong(j, e, "expected matrices");
    if (k && (k->dtype != ENGINE_I64 || !array_count(k, &one) || one != 1))
        return shape_wrong(j, e, "k: expected one int64");
    return shape_make(j, x->dtype, x->rank, x->shape, e);
}

static bool block_of(struct job *j, int64_t *b, struct engine_error *e)
{
    *b = node_int(j->node, "blocksize", 0);
    if (j->in[0]->rank != 4 || *b < 1 || *b > 1 << 15)
        return shape_wrong(j, e, "expected images of four dimensions and a blocksize of 1 or more");
    return true;
}

bool shape_depth_to_space(struct job *j, struct engine_error *e)
{
    const int64_t *x = j->in[0]->shape;
    const struct attr *mode = node_attr(j->node, "mode");
    int64_t b;
    if (!block_of(j, &b, e))
        return false;
    if (mode && !view_is(mode->s, "DCR") && !view_is(mode->s, "CRD"))
        return shape_wrong(j, e, "mode: expected DCR or CRD");
    if (x[1] % (b * b) != 0)
        return shape_wrong(j, e, "blocksize: does not divide the channels");
    return shape_make(j, j->in[0]->dtype, 4, (int64_t[]){x[0], x[1] / b / b, x[2] * b, x[3] * b},
                      e);
}

bool shape_space_to_depth(struct job *j, struct engine_error *e)
{
    const int64_t *x = j->in[0]->shape;
    int64_t b;
    if (!block_of(j, &b, e))
        return false;
    if (x[2] % b != 0 || x[3] % b != 0)
        return shape_wrong(j, e, "blocksize: does not divide the image");
    return shape_make(j, j->in[0]->dtype, 4, (int64_t[]){x[0], x[1] * b * b, x[2] / b, x[3] / b},
                      e);
}

// ---- by place ----------------------------------------------------------------------------------------

// Is every dimension of a but `axis` within b's?
static bool within(const struct array *a, const struct array *b, int64_t axis)
{
    for (unsigned i = 0; i < a->rank; i++) {
        if (i != axis && a->shape[i] > b->shape[i])
            return false;
    }
    return true;
}

bool shape_gather_elements(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0], *at = j->in[1];
    int64_t axis = shape_axis(j, 0);
    if (axis < 0 || axis >= (int64_t)x->rank || at->rank != x->rank || !is_index(at))
        return shape_wrong(j, e, "expected an axis, and int32 or int64 places of the input's rank");
    if (!within(at, x, axis))
        return shape_wrong(j, e, "indices: larger than the input beside the axis");
    return shape_make(j, x->dtype, x->rank, at->shape, e);
}

static bool reduces(struct job *j, struct engine_error *e)
{
    static const char *const names[] = {"none", "add", "mul", "max", "min"};
    const struct attr *how = node_attr(j->node, "reduction");
    bool known = !how;
    for (unsigned i = 0; how && i < 5; i++)
        known |= view_is(how->s, names[i]);
    if (!known)
        return shape_wrong(j, e, "reduction: expected none, add, mul, max or min");
    if (how && !view_is(how->s, "none") && j->in[0]->dtype == ENGINE_BOOL)
        return shape_wrong(j, e, "reduction: expected numbers");
    return true;
}

bool shape_scatter_elements(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0], *at = j->in[1], *from = j->in[2];
    int64_t axis = shape_axis(j, 0);
    if (axis < 0 || axis >= (int64_t)x->rank || at->rank != x->rank || !is_index(at))
        return shape_wrong(j, e, "expected an axis, and int32 or int64 places of the input's rank");
    if (from->dtype != x->dtype || from->rank != x->rank || !within(at, x, axis) ||
        memcmp(from->shape, at->shape, x->rank * sizeof(at->shape[0])) != 0)
        return shape_wrong(j, e, "updates: expected the input's datatype and the places' shape");
    return reduces(j, e) && shape_make(j, x->dtype, x->rank, x->shape, e);
}

bool shape_gather_nd(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0], *at = j->in[1];
    int64_t batch = node_int(j->node, "batch_dims", 0), shape[2 * ENGINE_MAX_RANK];
    unsigned rank = 0;
    if (at->dtype != ENGINE_I64 || x->rank < 1 || at->rank < 1 || batch < 0 ||
        batch >= (int64_t)at->rank || batch >= (int64_t)x->rank)
        return shape_wrong(j, e, "expected int64 places, and fewer batch_dims than dimensions");
    int64_t deep = at->shape[at->rank - 1];
    if (deep < 1 || deep + batch > (int64_t)x->rank ||
        memcmp(x->shape, at->shape, (size_t)batch * sizeof(int64_t)) != 0)
        return shape_wrong(j, e, "indices: do not fit the input");
    for (unsigned i = 0; i + 1 < at->rank; i++)
        shape[rank++] = at->shape[i];
    for (unsigned i = (unsigned)(deep + batch); i < x->rank; i++)
        shape[rank++] = x->shape[i];
    if (rank > ENGINE_MAX_RANK)
        return shape_wrong(j, e, "its output has more than " RANK_TEXT " dimensions");
    return shape_make(j, x->dtype, rank, shape, e);
}

bool shape_scatter_nd(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0], *at = j->in[1], *from = j->in[2];
    int64_t shape[2 * ENGINE_MAX_RANK];
    unsigned rank = 0;
    if (at->dtype != ENGINE_I64 || x->rank < 1 || at->rank < 1 || from->dtype != x->dtype)
        return shape_wrong(j, e, "expected int64 places and updates of the input's datatype");
    int64_t deep = at->shape[at->rank - 1];
    if (deep < 1 || deep > (int64_t)x->rank)
        return shape_wrong(j, e, "indices: do not fit the input");
    for (unsigned i = 0; i + 1 < at->rank; i++)
        shape[rank++] = at->shape[i];
    for (unsigned i = (unsigned)deep; i < x->rank; i++)
        shape[rank++] = x->shape[i];
    if (from->rank != rank || memcmp(from->shape, shape, rank * sizeof(shape[0])) != 0)
        return shape_wrong(j, e, "updates: expected what the places stand for");
    return reduces(j, e) && shape_make(j, x->dtype, x->rank, x->shape, e);
}

// ---- others ------------------------------------------------------------------------------------------

// One whole number that is known, of whatever datatype.
static bool whole_at(const struct array *a, int64_t *v)
{
    size_t one = 0;
    if (!a || !a->data || !array_count(a, &one) || one != 1)
        return false;
    if (a->dtype == ENGINE_I64)
        *v = *(const int64_t *)a->data;
    else if (a->dtype == ENGINE_I32)
        *v = *(const int32_t *)a->data;
    else if (a->dtype == ENGINE_F32 && *(const float *)a->data >= 0 &&
             *(const float *)a->data < 1e9f)
        *v = (int64_t) * (const float *)a->data;
    else
        return false;
    return true;
}

bool shape_one_hot(struct job *j, struct engine_error *e)
{
    const struct array *at = j->in[0], *values = j->in[2];
    int64_t depth, axis = node_int(j->node, "axis", -1), shape[ENGINE_MAX_RANK + 1];
    axis += axis < 0 ? at->rank + 1 : 0;
    if (!whole_at(j->in[1], &depth) || depth < 1 || depth > INT32_MAX)
        return shape_wrong(j, e, "depth: expected a number that is known from shapes");
    if (values->rank != 1 || values->shape[0] != 2 || at->rank >= ENGINE_MAX_RANK || axis < 0 ||
        axis > (int64_t)at->rank || (!is_index(at) && at->dtype != ENGINE_F32))
        return shape_wrong(j, e, "expected places, an axis of the output, and two values");
    for (unsigned i = 0; i <= at->rank; i++)
        shape[i] = i < axis ? at->shape[i] : i == axis ? depth : at->shape[i - 1];
    return shape_make(j, values->dtype, at->rank + 1, shape, e);
}

bool shape_eye_like(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    const struct attr *to = node_attr(j->node, "dtype");
    enum engine_dtype d = to ? dtype_inside(dtype_from_onnx((uint64_t)to->i)) : x->dtype;
    if (x->rank != 2 || d == ENGINE_NONE)
        return shape_wrong(j, e, "expected a matrix, and a datatype that is supported");
    return shape_make(j, d, 2, x->shape, e);
}

bool shape_cumulative(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0], *axis = j->in[1];
    int64_t a;
    bool number = x->dtype == ENGINE_F32 || x->dtype == ENGINE_F64 || is_index(x);
    if (!number || !is_index(axis) || !whole_at(axis, &a))
        return shape_wrong(j, e, "expected floats, int32 or int64, and an axis known from shapes");
    if (a < -(int64_t)x->rank || a >= (int64_t)x->rank)
        return shape_wrong(j, e, "axis is out of range");
    return shape_make(j, x->dtype, x->rank, x->shape, e);
}

int64_t cumulative_axis(const struct job *j)
{
    int64_t a = 0;
    (void)whole_at(j->in[1], &a);
    return a < 0 ? a + j->in[0]->rank : a;
}

bool shape_top_k(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    int64_t axis = shape_axis(j, -1), k = node_int(j->node, "k", -1), shape[ENGINE_MAX_RANK];
    bool asked = j->node->n_inputs > 1;
    if (asked && !whole_at(j->in[1], &k))
        return shape_wrong(j, e, "k: expected a number that is known from shapes");
    if (axis < 0 || axis >= (int64_t)x->rank || k < 0 || k > x->shape[axis])
        return shape_wrong(j, e, "k, axis: out of range");
    if (x->dtype == ENGINE_BOOL)
        return shape_wrong(j, e, "expected numbers");
    memcpy(shape, x->shape, sizeof(shape));
    shape[axis] = k;
    return shape_make(j, x->dtype, x->rank, shape, e) &&
           shape_make_at(j, 1, ENGINE_I64, x->rank, shape, e);
}

bool shape_reverse_sequence(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0], *n = j->in[1];
    int64_t batch = node_int(j->node, "batch_axis", 1), time = node_int(j->node, "time_axis", 0);
    if (x->rank < 2 || batch + time != 1 || batch < 0 || time < 0)
        return shape_wrong(j, e, "batch_axis, time_axis: expected 0 and 1");
    if (n->dtype != ENGINE_I64 || n->rank != 1 || n->shape[0] != x->shape[batch])
        return shape_wrong(j, e, "sequence_lens: expected one int64 a row of the batch");
    return shape_make(j, x->dtype, x->rank, x->shape, e);
}

bool shape_cast_like(struct job *j, struct engine_error *e)
{
    struct small_rounding r;
    if (!small_rounding_of(j->node, &r))
        return shape_wrong(j, e, "round_mode: expected up, down or nearest");
    return shape_make(j, j->in[1]->dtype, j->in[0]->rank, j->in[0]->shape, e);
}

// Floats to bools.
bool shape_is(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    if (x->dtype != ENGINE_F32 && x->dtype != ENGINE_F64)
        return shape_wrong(j, e, "expected floats");
    return shape_make(j, ENGINE_BOOL, x->rank, x->shape, e);
}
