// Shapes of what is picked by its data: NonZero, Compress, Unique, NonMaxSuppression. As engine/shapes.c:
// whatever a kernel relies on is checked here, where the data is known.
#include "engine/ops.h"

bool array_nonzero(const struct array *a, size_t i)
{
    switch (a->dtype) {
    case ENGINE_F32:
        return ((const float *)a->data)[i] != 0;
    case ENGINE_F64:
        return ((const double *)a->data)[i] != 0;
    default:
        break;
    }
    static const char zeros[8];
    size_t size = dtype_bytes(a->dtype);
    return memcmp((const char *)a->data + i * size, zeros, size) != 0;
}

bool shape_nonzero(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    size_t all = 0;
    int64_t n = 0;
    if (x->rank == 0 || !array_count(x, &all))
        return shape_wrong(j, e, "expected one dimension or more");
    for (size_t i = 0; i < all; i++)
        n += array_nonzero(x, i);
    return shape_make(j, ENGINE_I64, 2, (int64_t[]){x->rank, n}, e);
}

bool shape_compress(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0], *yes = j->in[1];
    const struct attr *given = node_attr(j->node, "axis");
    int64_t axis = given ? given->i : 0, n = 0, shape[ENGINE_MAX_RANK];
    size_t all = 0;
    axis += axis < 0 ? x->rank : 0;
    if (yes->dtype != ENGINE_BOOL || yes->rank != 1 || !array_count(x, &all))
        return shape_wrong(j, e, "condition: expected a list of bools");
    if (given && (axis < 0 || axis >= (int64_t)x->rank))
        return shape_wrong(j, e, "axis is out of range");
    int64_t most = given ? x->shape[axis] : (int64_t)all;
    for (int64_t i = 0; i < yes->shape[0]; i++) {
        if (i >= most && array_nonzero(yes, (size_t)i))
            return shape_wrong(j, e, "condition: more than there are elements");
        n += array_nonzero(yes, (size_t)i);
    }
    memcpy(shape, x->shape, sizeof(shape));
    if (!given)
        return shape_make(j, x->dtype, 1, &n, e);
    shape[axis] = n;
    return shape_make(j, x->dtype, x->rank, shape, e);
}

// As many as there are, at most: its kernel says how many they are.
bool shape_unique(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    const struct attr *given = node_attr(j->node, "axis");
    int64_t axis = given ? given->i : 0;
    size_t all = 0;
    axis += axis < 0 ? x->rank : 0;
    if (given && (axis < 0 || axis >= (int64_t)x->rank))
        return shape_wrong(j, e, "axis is out of range");
    if (!array_count(x, &all))
        return shape_wrong(j, e, "its input has too many elements");
    int64_t n = given ? x->shape[axis] : (int64_t)all;
    if (all == 0 && n > 0)
        return shape_wrong(j, e, "expected elements along the other axes");
    bool ok =
        given ? shape_make(j, x->dtype, x->rank, x->shape, e) : shape_make(j, x->dtype, 1, &n, e);
    for (unsigned k = 1; ok && k < 4 && k < j->node->n_outputs; k++)
        ok = shape_make_at(j, k, ENGINE_I64, 1, &n, e);
    return ok;
}

// ---- NonMaxSuppression -------------------------------------------------------------------------------

static const struct array *one_of(const struct job *j, unsigned i, enum engine_dtype d, bool *wrong)
{
    const struct array *a = job_input(j, i);
    size_t n = 0;
    *wrong |= a && (a->dtype != d || !array_count(a, &n) || n != 1);
    return a;
}

bool suppression_of(const struct job *j, struct suppression *s, struct engine_error *e)
{
    const struct array *boxes = j->in[0], *scores = j->in[1];
    bool wrong = false;
    const struct array *most = one_of(j, 2, ENGINE_I64, &wrong),
                       *overlap = one_of(j, 3, ENGINE_F32, &wrong),
                       *least = one_of(j, 4, ENGINE_F32, &wrong);
    if (boxes->dtype != ENGINE_F32 || scores->dtype != ENGINE_F32 || boxes->rank != 3 ||
        scores->rank != 3 || boxes->shape[2] != 4 || boxes->shape[0] != scores->shape[0] ||
        boxes->shape[1] != scores->shape[2])
        return shape_wrong((struct job *)j, e,
                           "expected boxes [batch, n, 4] and scores [batch, "
                           "classes, n] of float32");
    if (wrong)
        return shape_wrong((struct job *)j, e, "expected one number of boxes and one threshold");
    *s = (struct suppression){.images = boxes->shape[0],
                              .boxes = boxes->shape[1],
                              .classes = scores->shape[1],
                              .overlap = overlap ? *(const float *)overlap->data : 0,
                              .has_least = least != NULL,
                              .least = least ? *(const float *)least->data : 0,
                              .centers = node_int(j->node, "center_point_box", 0) != 0};
    int64_t most_of_class = most ? *(const int64_t *)most->data : 0;
    s->most = most_of_class < 0 ? 0 : most_of_class > s->boxes ? s->boxes : most_of_class;
    if (!(s->overlap >= 0 && s->overlap <= 1))
        return shape_wrong((struct job *)j, e, "iou_threshold: expected 0 to 1");
    return true;
}

// As many as are asked for, at most: its kernel says how many they are.
bool shape_suppression(struct job *j, struct engine_error *e)
{
    struct suppression s;
    int64_t n;
    if (!suppression_of(j, &s, e))
        return false;
    if (__builtin_mul_overflow(s.images * s.classes, s.most, &n)) // both products of an input's
        return shape_wrong(j, e, "its output has too many elements");
    return shape_make(j, ENGINE_I64, 2, (int64_t[]){n, 3}, e);
}

// Each box against those that were chosen before it.
double suppression_work(const struct job *j)
{
    return (double)j->in[0]->shape[1] / 3 + 1;
}
