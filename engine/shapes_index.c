// Shapes of the ops that are about shapes and places, or compare and choose. As engine/shapes.c: whatever a
// kernel relies on is checked here.
#include "engine/ops.h"
#include "engine/small.h"

#include <math.h>

// ---- from shapes -------------------------------------------------------------------------------------

static int64_t axis_within(int64_t v, int64_t rank)
{
    v += v < 0 ? rank : 0;
    return v < 0 ? 0 : v > rank ? rank : v;
}

int64_t shape_range(const struct job *j, int64_t *first)
{
    int64_t rank = j->in[0]->rank, end = axis_within(node_int(j->node, "end", rank), rank);
    *first = axis_within(node_int(j->node, "start", 0), rank);
    return end > *first ? end - *first : 0;
}

bool shape_shape(struct job *j, struct engine_error *e)
{
    int64_t first, n = shape_range(j, &first);
    return shape_make(j, ENGINE_I64, 1, &n, e);
}

bool shape_size(struct job *j, struct engine_error *e)
{
    return shape_make(j, ENGINE_I64, 0, NULL, e);
}

// ---- datatypes ---------------------------------------------------------------------------------------

enum engine_dtype cast_target(const struct job *j)
{
    const struct attr *to = node_attr(j->node, "to");
    return to && to->kind == ATTR_INT && to->i > 0 ? dtype_from_onnx((uint64_t)to->i)
                                                   : j->out->dtype;
}

bool shape_cast(struct job *j, struct engine_error *e)
{
    j->out->dtype = ENGINE_NONE;
    enum engine_dtype d = cast_target(j);
    if (d == ENGINE_NONE)
        return shape_wrong(j, e, "to: this datatype is not supported");
    enum engine_dtype from = j->in[0]->dtype;
    bool whole = d == ENGINE_I32 || d == ENGINE_I64;
    if ((from == ENGINE_STRING && !whole && d != ENGINE_F32 && d != ENGINE_F64 && d != from) ||
        (d == ENGINE_STRING && (from == ENGINE_BOOL || dtype_is_small(from))))
        return shape_wrong(j, e, "to: strings and this datatype do not go together");
    struct small_rounding r;
    if (!small_rounding_of(j->node, &r))
        return shape_wrong(j, e, "round_mode: expected up, down or nearest");
    return shape_make(j, dtype_inside(d), j->in[0]->rank, j->in[0]->shape, e);
}

bool shape_port(struct job *j, struct engine_error *e)
{
    bool in = dtype_inside(j->in[0]->dtype) != j->in[0]->dtype;
    if (!in && j->in[0]->dtype != ENGINE_F32)
        return shape_wrong(j, e, "the file says that this output is of 16-bit floats");
    return shape_make(j, in ? ENGINE_F32 : (enum engine_dtype)node_int(j->node, "port", 0),
                      j->in[0]->rank, j->in[0]->shape, e);
}

// ---- places ------------------------------------------------------------------------------------------

int64_t shape_axis(const struct job *j, int64_t otherwise)
{
    int64_t axis = node_int(j->node, "axis", otherwise);
    return axis < 0 ? axis + j->in[0]->rank : axis;
}

bool shape_gather(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0], *at = j->in[1];
    int64_t axis = shape_axis(j, 0), shape[2 * ENGINE_MAX_RANK];
    unsigned rank = 0;
    if (axis < 0 || axis >= (int64_t)x->rank)
        return shape_wrong(j, e, "axis is out of range");
    if (at->dtype != ENGINE_I32 && at->dtype != ENGINE_I64)
        return shape_wrong(j, e, "indices: expected int32 or int64");
    for (unsigned i = 0; i < x->rank; i++) {
        for (unsigned k = 0; i == axis && k < at->rank; k++)
            shape[rank++] = at->shape[k];
        if (i != axis)
            shape[rank++] = x->shape[i];
    }
    if (rank > ENGINE_MAX_RANK)
        return shape_wrong(j, e, "its output has more than " RANK_TEXT " dimensions");
    return shape_make(j, x->dtype, rank, shape, e);
}

// A number that is known, as a double; false: it is not one, or not known.
static bool number_of(const struct array *a, double *v)
{
    size_t n = 0;
    if (!a->data || !array_count(a, &n) || n != 1)
        return false;
    if (a->dtype == ENGINE_F32)
        *v = *(const float *)a->data;
    else if (a->dtype == ENGINE_F64)
        *v = *(const double *)a->data;
    else if (a->dtype == ENGINE_I32)
        *v = *(const int32_t *)a->data;
    else if (a->dtype == ENGINE_I64)
        *v = (double)*(const int64_t *)a->data;
    else
        return false;
    return true;
}

bool shape_range_of(struct job *j, struct engine_error *e)
{
    double v[3];
    for (unsigned i = 0; i < 3; i++) {
        if (j->in[i]->dtype != j->in[0]->dtype || !number_of(j->in[i], &v[i]))
            return shape_wrong(j, e, "expected three numbers of one datatype, known from shapes");
    }
    double n = ceil((v[1] - v[0]) / v[2]);
    if (!(n <= INT32_MAX)) // what is not a number too
        return shape_wrong(j, e, "its output has too many elements, or delta is 0");
    return shape_make(j, j->in[0]->dtype, 1, &(int64_t){n > 0 ? (int64_t)n : 0}, e);
}

// Input i as a list of dimensions; NULL: it is none, or not known.
static const int64_t *dims_of(const struct job *j, unsigned i, unsigned *n)
{
    const struct array *a = j->in[i];
    *n = a->rank == 1 && a->shape[0] <= ENGINE_MAX_RANK ? (unsigned)a->shape[0] : 0;
    if (a->dtype != ENGINE_I64 || a->rank != 1 || a->shape[0] > ENGINE_MAX_RANK || !a->data)
        return NULL;
    return a->data;
}

bool shape_constant_of_shape(struct job *j, struct engine_error *e)
{
    unsigned n;
    const int64_t *dims = dims_of(j, 0, &n);
    const struct attr *value = node_attr(j->node, "value");
    size_t count = 1;
    if (!dims)
        return shape_wrong(
            j, e, "expected a list of at most " RANK_TEXT " dimensions, known from shapes");
    if (value && (!array_count(&value->tensor, &count) || count != 1))
        return shape_wrong(j, e, "value: expected one element");
    return shape_make(j, value ? value->tensor.dtype : ENGINE_F32, n, dims, e);
}

bool shape_expand(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    unsigned n;
    const int64_t *dims = dims_of(j, 1, &n);
    struct array to = {.rank = n};
    if (!dims)
        return shape_wrong(j, e,
                           "shape: expected a list of at most " RANK_TEXT ", known from shapes");
    memcpy(to.shape, dims, n * sizeof(*dims));
    int64_t shape[ENGINE_MAX_RANK];
    unsigned rank;
    const struct array *both[] = {x, &to};
    return shape_together(j, both, 2, shape, &rank, e) && shape_make(j, x->dtype, rank, shape, e);
}

// ---- comparisons and choices -------------------------------------------------------------------------

bool shape_compare(struct job *j, struct engine_error *e)
{
    int64_t shape[ENGINE_MAX_RANK];
    unsigned rank;
    if (j->in[0]->dtype != j->in[1]->dtype)
        return shape_wrong(j, e, "expected two inputs of one datatype");
    return shape_together(j, j->in, 2, shape, &rank, e) &&
           shape_make(j, ENGINE_BOOL, rank, shape, e);
}

bool shape_logic(struct job *j, struct engine_error *e)
{
    for (unsigned i = 0; i < j->node->n_inputs; i++) {
        if (j->in[i]->dtype != ENGINE_BOOL)
            return shape_wrong(j, e, "expected bools");
    }
    return j->node->n_inputs == 1 ? shape_make(j, ENGINE_BOOL, j->in[0]->rank, j->in[0]->shape, e)
                                  : shape_compare(j, e);
}

bool shape_where(struct job *j, struct engine_error *e)
{
    int64_t shape[ENGINE_MAX_RANK];
    unsigned rank;
    if (j->in[0]->dtype != ENGINE_BOOL || j->in[1]->dtype != j->in[2]->dtype)
        return shape_wrong(j, e, "expected bools and two inputs of one datatype");
    return shape_together(j, j->in, 3, shape, &rank, e) &&
           shape_make(j, j->in[1]->dtype, rank, shape, e);
}
