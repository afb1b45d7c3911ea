// Shapes of what repeats or cuts: Pad, Tile, Split. As engine/shapes.c: whatever a kernel relies on is checked
// here.
#include "engine/ops.h"

// ---- Pad ---------------------------------------------------------------------------------------------

static bool pad_mode(struct job *j, enum pad_mode *mode, struct engine_error *e)
{
    static const char *const names[] = {"constant", "edge", "reflect", "wrap"};
    const struct attr *a = node_attr(j->node, "mode");
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (a ? view_is(a->s, names[i]) : i == 0) {
            *mode = (enum pad_mode)i;
            return true;
        }
    }
    return shape_wrong(j, e, "mode: expected constant, reflect, edge or wrap");
}

bool check_pad(struct job *j, struct engine_error *e)
{
    enum pad_mode mode;
    return pad_mode(j, &mode, e);
}

// pads as [rank before, rank after], of the axes that are given.
static bool pad_amounts(struct job *j, struct padding *p, struct engine_error *e)
{
    const struct array *x = j->in[0];
    unsigned n, n_axes;
    int64_t room[ENGINE_MAX_RANK], axes_room[ENGINE_MAX_RANK];
    const struct array *given = j->node->n_inputs > 1 ? j->in[1] : NULL;
    const int64_t *axes = shape_list(j, "axes", 3, &n_axes, axes_room), *pads;
    if (given && given->dtype != ENGINE_I64)
        return shape_wrong(j, e, "pads: expected int64");
    pads = shape_list(j, j->node->opset < 2 ? "paddings" : "pads", 1, &n, room);
    if (!axes)
        n_axes = x->rank;
    if (!pads || n != 2 * n_axes || n_axes > x->rank)
        return shape_wrong(j, e, "pads: expected two for each axis");
    for (unsigned i = 0; i < n_axes; i++) {
        int64_t a = axes ? axes[i] : i;
        a += a < 0 ? x->rank : 0;
        if (a < 0 || a >= (int64_t)x->rank)
            return shape_wrong(j, e, "axes are out of range");
        if (pads[i] < -INT32_MAX || pads[i] > INT32_MAX || pads[n_axes + i] < -INT32_MAX ||
            pads[n_axes + i] > INT32_MAX)
            return shape_wrong(j, e, "pads are out of range");
        p->before[a] = pads[i];
        p->out[a] = x->shape[a] + pads[i] + pads[n_axes + i];
    }
    return true;
}

bool padding_of(const struct job *job, struct padding *p, struct engine_error *e)
{
    struct job *j = (struct job *)job;
    const struct array *x = j->in[0], *value = j->node->n_inputs > 2 ? j->in[2] : NULL;
    size_t one;
    *p = (struct padding){.value = value};
    memcpy(p->out, x->shape, sizeof(p->out));
    if (!pad_mode(j, &p->mode, e) || !pad_amounts(j, p, e))
        return false;
    if (value && (value->dtype != x->dtype || !array_count(value, &one) || one != 1))
        return shape_wrong(j, e, "constant_value: expected one, of the input's datatype");
    if (!value && node_attr(j->node, "value") && x->dtype != ENGINE_F32)
        return shape_wrong(j, e, "value: expected a float32 input");
    for (unsigned i = 0; i < x->rank; i++) {
        int64_t after = p->out[i] - x->shape[i] - p->before[i], most = p->before[i];
        most = after > most ? after : most;
        if (p->out[i] < 0)
            return shape_wrong(j, e, "pads: more are taken than there are");
        if (p->mode != PAD_CONSTANT && (p->before[i] < 0 || after < 0))
            return shape_wrong(j, e, "pads: expected 0 or more in this mode");
        if ((p->mode == PAD_REFLECT && most > 0 && most >= x->shape[i]) ||
            (p->mode != PAD_CONSTANT && most > 0 && x->shape[i] == 0))
            return shape_wrong(j, e, "pads: more than the axis has");
    }
    return true;
}

bool shape_pad(struct job *j, struct engine_error *e)
{
    struct padding p;
    return padding_of(j, &p, e) && shape_make(j, j->in[0]->dtype, j->in[0]->rank, p.out, e);
}

// ---- Tile --------------------------------------------------------------------------------------------

bool shape_tile(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0], *n = j->in[1];
    int64_t shape[ENGINE_MAX_RANK];
    if (n->dtype != ENGINE_I64 || n->rank != 1 || n->shape[0] != (int64_t)x->rank || !n->data)
        return shape_wrong(j, e, "repeats: expected an int64 for each axis");
    for (unsigned i = 0; i < x->rank; i++) {
        int64_t times = ((const int64_t *)n->data)[i];
        if (times < 0 || __builtin_mul_overflow(x->shape[i], times, &shape[i]))
            return shape_wrong(j, e, "repeats are out of range");
    }
    return shape_make(j, x->dtype, x->rank, shape, e);
}

// ---- Split -------------------------------------------------------------------------------------------

int64_t split_part(const struct job *job, unsigned i)
{
    struct job *j = (struct job *)job;
    unsigned given;
    int64_t room[ENGINE_MAX_RANK];
    const int64_t *parts = shape_list(j, "split", 1, &given, room);
    int64_t dim = j->in[0]->shape[shape_axis(j, 0)], n = j->node->n_outputs;
    int64_t each = (dim + n - 1) / n, left = dim - each * i;
    if (parts)
        return i < given ? parts[i] : 0;
    return left < 0 ? 0 : left < each ? left : each;
}

bool shape_split(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    const struct node *n = j->node;
    int64_t axis = shape_axis(j, 0), shape[ENGINE_MAX_RANK], room[ENGINE_MAX_RANK], sum = 0;
    unsigned given;
    const int64_t *parts = shape_list(j, "split", 1, &given, room);
    if (axis < 0 || axis >= (int64_t)x->rank)
        return shape_wrong(j, e, "axis is out of range");
    int64_t dim = x->shape[axis];
    if (parts ? given != n->n_outputs
              : node_int(n, "num_outputs", n->n_outputs) != (int64_t)n->n_outputs)
        return shape_wrong(j, e, "expected a length for each output");
    if (!parts && !node_attr(n, "num_outputs") && dim % n->n_outputs != 0)
        return shape_wrong(j, e, "the axis cannot be split into as many equal parts");
    memcpy(shape, x->shape, sizeof(shape));
    for (unsigned i = 0; i < n->n_outputs; i++) {
        shape[axis] = split_part(j, i);
        if (shape[axis] < 0 || shape[axis] > dim - sum)
            return shape_wrong(j, e, "split: the lengths do not fit the axis");
        sum += shape[axis];
        if (!shape_make_at(j, i, x->dtype, x->rank, shape, e))
            return false;
    }
    return sum == dim || shape_wrong(j, e, "split: the lengths do not fit the axis");
}
