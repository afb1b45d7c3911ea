// Shapes of what is taken along axes. As engine/shapes.c: whatever a kernel relies on is checked here.
#include "engine/ops.h"

bool reduce_axes(struct job *j, unsigned *set, struct engine_error *e)
{
    const struct array *x = j->in[0];
    unsigned n;
    int64_t room[ENGINE_MAX_RANK];
    const int64_t *axes = shape_list(j, "axes", 1, &n, room);
    *set = 0;
    if (!axes && job_input(j, 1))
        return shape_wrong(j, e, "axes: expected a list that is known from shapes");
    if (n == 0 && node_int(j->node, "noop_with_empty_axes", 0) == 0)
        *set = (1u << x->rank) - 1;
    for (unsigned i = 0; i < n; i++) {
        int64_t a = axes[i] < 0 ? axes[i] + x->rank : axes[i];
        if (a < 0 || a >= (int64_t)x->rank)
            return shape_wrong(j, e, "axes are out of range");
        *set |= 1u << a;
    }
    return true;
}

static bool make_reduced(struct job *j, unsigned set, enum engine_dtype d, struct engine_error *e)
{
    const struct array *x = j->in[0];
    bool keep = node_int(j->node, "keepdims", 1) != 0;
    int64_t shape[ENGINE_MAX_RANK];
    unsigned rank = 0;
    for (unsigned i = 0; i < x->rank; i++) {
        bool reduced = set >> i & 1;
        if (!reduced || keep)
            shape[rank++] = reduced ? 1 : x->shape[i];
    }
    return shape_make(j, d, rank, shape, e);
}

bool shape_reduce(struct job *j, struct engine_error *e)
{
    enum engine_dtype d = j->in[0]->dtype;
    unsigned set;
    bool extreme = view_is(j->node->type, "ReduceMax") || view_is(j->node->type, "ReduceMin");
    if (d != ENGINE_F32 && d != ENGINE_F64 && d != ENGINE_I32 && d != ENGINE_I64 &&
        !(extreme && (d == ENGINE_U8 || d == ENGINE_I8 || d == ENGINE_BOOL)))
        return shape_wrong(j, e, "expected floats, int32 or int64");
    return reduce_axes(j, &set, e) && make_reduced(j, set, d, e);
}

bool shape_reduce_floats(struct job *j, struct engine_error *e)
{
    enum engine_dtype d = j->in[0]->dtype;
    if (d != ENGINE_F32 && d != ENGINE_F64)
        return shape_wrong(j, e, "expected floats");
    return shape_reduce(j, e);
}

bool shape_arg(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    int64_t axis = shape_axis(j, 0);
    if (x->dtype == ENGINE_BOOL)
        return shape_wrong(j, e, "expected numbers");
    if (axis < 0 || axis >= (int64_t)x->rank || x->shape[axis] == 0)
        return shape_wrong(j, e, "axis is out of range, or has nothing along it");
    return make_reduced(j, 1u << axis, ENGINE_I64, e);
}
