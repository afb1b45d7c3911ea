// Shapes of normalizations, losses and attention. As engine/shapes.c: whatever a kernel relies on is checked here.
#include "engine/ops.h"

static bool all_f32(struct job *j, struct engine_error *e)
{
    for (unsigned i = 0; i < j->node->n_inputs; i++) {
        if (j->in[i] && j->in[i]->dtype != ENGINE_F32)
            return shape_wrong(j, e, "expected float32");
    }
    return true;
}

// Is a of the shape of x's last axes (dimensions of 1 in front may stand there)?
static bool is_tail(const struct array *a, const struct array *x)
{
    unsigned skip = 0;
    while (skip < a->rank && a->shape[skip] == 1)
        skip++;
    unsigned rank = a->rank - skip;
    return a->rank <= x->rank &&
           memcmp(a->shape + skip, x->shape + x->rank - rank, rank * sizeof(a->shape[0])) == 0;
}

// LayerNormalization, RMSNormalization: scale, and bias if any, over the axes from `axis` on.
bool shape_layer_norm(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0], *b = job_input(j, 2);
    int64_t axis = shape_axis(j, -1), small[ENGINE_MAX_RANK];
    if (!all_f32(j, e))
        return false;
    if (axis < 0 || axis >= (int64_t)x->rank || node_int(j->node, "stash_type", 1) != 1)
        return shape_wrong(j, e, "axis is out of range, or stash_type is not 1");
    if (!is_tail(j->in[1], x) || (b && !is_tail(b, x)))
        return shape_wrong(j, e, "scale, bias: expected the shape of the last axes, or one number");
    for (unsigned i = 0; i < x->rank; i++)
        small[i] = i < axis ? x->shape[i] : 1;
    return shape_make(j, ENGINE_F32, x->rank, x->shape, e) &&
           shape_make_at(j, 1, ENGINE_F32, x->rank, small, e) &&
           shape_make_at(j, 2, ENGINE_F32, x->rank, small, e);
}

static bool is_vector_of(const struct array *a, int64_t n)
{
    return a->rank == 1 && a->shape[0] == n;
}

bool shape_instance_norm(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    if (!all_f32(j, e))
        return false;
    if (x->rank < 2 || !is_vector_of(j->in[1], x->shape[1]) || !is_vector_of(j->in[2], x->shape[1]))
        return shape_wrong(j, e, "expected a scale and a bias a channel");
    return shape_make(j, ENGINE_F32, x->rank, x->shape, e);
}

bool shape_group_norm(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    int64_t groups = node_int(j->node, "num_groups", 0);
    if (!all_f32(j, e))
        return false;
    if (x->rank < 2 || groups < 1 || x->shape[1] % groups != 0 ||
        node_int(j->node, "stash_type", 1) != 1)
        return shape_wrong(j, e,
                           "num_groups: does not divide the channels, or stash_type is not 1");
    int64_t n = j->node->opset < 21 ? groups : x->shape[1];
    if (!is_vector_of(j->in[1], n) || !is_vector_of(j->in[2], n))
        return shape_wrong(j, e,
                           "expected a scale and a bias a channel (before opset 21: a group)");
    return shape_make(j, ENGINE_F32, x->rank, x->shape, e);
}

bool shape_lp_norm(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    int64_t axis = shape_axis(j, -1), p = node_int(j->node, "p", 2);
    if (!all_f32(j, e))
        return false;
    if (axis < 0 || axis >= (int64_t)x->rank || p < 1 || p > 2)
        return shape_wrong(j, e, "axis is out of range, or p is not 1 or 2");
    return shape_make(j, ENGINE_F32, x->rank, x->shape, e);
}

bool shape_mean_variance(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    const struct attr *axes = node_attr(j->node, "axes");
    if (!all_f32(j, e))
        return false;
    for (unsigned i = 0; axes && i < axes->n; i++) {
        if (axes->ints[i] < -(int64_t)x->rank || axes->ints[i] >= (int64_t)x->rank)
            return shape_wrong(j, e, "axes are out of range");
    }
    if (!axes && x->rank != 4)
        return shape_wrong(j, e, "axes: expected, where there are not four dimensions");
    return shape_make(j, ENGINE_F32, x->rank, x->shape, e);
}

bool shape_lrn(struct job *j, struct engine_error *e)
{
    int64_t size = node_int(j->node, "size", 0);
    if (!all_f32(j, e))
        return false;
    if (j->in[0]->rank < 3 || size < 1 || size > 1 << 20)
        return shape_wrong(j, e, "expected images, and a size of 1 or more");
    return shape_make(j, ENGINE_F32, j->in[0]->rank, j->in[0]->shape, e);
}

// ---- losses ------------------------------------------------------------------------------------------

bool shape_loss(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0], *at = j->in[1], *w = job_input(j, 2);
    const struct attr *how = node_attr(j->node, "reduction");
    bool none = how && view_is(how->s, "none");
    if (x->dtype != ENGINE_F32 || (w && w->dtype != ENGINE_F32) ||
        (at->dtype != ENGINE_I32 && at->dtype != ENGINE_I64))
        return shape_wrong(j, e, "expected float32 scores and weights, int32 or int64 labels");
    if (how && !none && !view_is(how->s, "sum") && !view_is(how->s, "mean"))
        return shape_wrong(j, e, "reduction: expected none, sum or mean");
    if (x->rank < 2 || at->rank + 1 != x->rank || at->shape[0] != x->shape[0] ||
        memcmp(at->shape + 1, x->shape + 2, (x->rank - 2) * sizeof(x->shape[0])) != 0)
        return shape_wrong(j, e, "labels: expected one where the scores have classes");
    if (w && !is_vector_of(w, x->shape[1]))
        return shape_wrong(j, e, "weights: expected one a class");
    return shape_make(j, ENGINE_F32, none ? at->rank : 0, at->shape, e) &&
           shape_make_at(j, 1, ENGINE_F32, x->rank, x->shape, e);
}

// ---- com.microsoft -----------------------------------------------------------------------------------

bool shape_bias_gelu(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0], *b = job_input(j, 1);
    if (!all_f32(j, e))
        return false;
    if (b && (x->rank < 1 || !is_vector_of(b, x->shape[x->rank - 1])))
        return shape_wrong(j, e, "bias: expected one a column");
    return shape_make(j, ENGINE_F32, x->rank, x->shape, e);
}

// Inputs: x, skip, gamma, and what is left of beta and bias.
bool shape_skip_layer_norm(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0], *skip = j->in[1];
    if (!all_f32(j, e))
        return false;
    if (x->rank < 2 || skip->rank != x->rank ||
        memcmp(skip->shape, x->shape, x->rank * sizeof(x->shape[0])) != 0)
        return shape_wrong(j, e, "skip: expected the input's shape");
    int64_t n = x->shape[x->rank - 1], small[ENGINE_MAX_RANK];
    for (unsigned i = 2; i < j->node->n_inputs; i++) {
        if (j->in[i] && !is_vector_of(j->in[i], n))
            return shape_wrong(j, e, "gamma, beta, bias: expected one a column");
    }
    memcpy(small, x->shape, sizeof(small));
    small[x->rank - 1] = 1;
    return shape_make(j, ENGINE_F32, x->rank, x->shape, e) &&
           shape_make_at(j, 1, ENGINE_F32, x->rank, small, e) &&
           shape_make_at(j, 2, ENGINE_F32, x->rank, small, e) &&
           shape_make_at(j, 3, ENGINE_F32, x->rank, x->shape, e);
}

bool shape_embed_layer_norm(struct job *j, struct engine_error *e)
{
    const struct array *ids = j->in[0], *segments = j->in[1], *words = j->in[2], *places = j->in[3],
                       *kinds = job_input(j, 4), *gamma = job_input(j, 5), *beta = job_input(j, 6),
                       *mask = job_input(j, 7), *at = job_input(j, 8);
    if (ids->rank != 2 || ids->dtype != ENGINE_I32 || words->rank != 2 || places->rank != 2 ||
        !gamma || !beta)
        return shape_wrong(j, e, "expected int32 ids [rows, tokens], and tables");
    int64_t n = words->shape[1];
    const struct array *floats[] = {words, places, kinds, gamma, beta};
    for (unsigned i = 0; i < 5; i++) {
        const struct array *a = floats[i];
        if (a &&
            (a->dtype != ENGINE_F32 || a->rank != (i < 3 ? 2 : 1) || a->shape[a->rank - 1] != n))
            return shape_wrong(j, e, "expected float32 tables and gamma, beta of one width");
    }
    const struct array *like[] = {segments, mask, at};
    for (unsigned i = 0; i < 3; i++) {
        if (like[i] && (like[i]->dtype != ENGINE_I32 || like[i]->rank != 2 ||
                        memcmp(like[i]->shape, ids->shape, sizeof(int64_t) * 2) != 0))
            return shape_wrong(j, e, "segments, mask, position ids: expected the ids' shape");
    }
    if (!at && places->shape[0] < ids->shape[1])
        return shape_wrong(j, e, "position embedding: fewer places than tokens");
    if (!segments != !kinds || node_int(j->node, "mask_index_type", 0) != 0)
        return shape_wrong(j, e,
                           "segments: expected with their table; mask_index_type: expected 0");
    int64_t shape[3] = {ids->shape[0], ids->shape[1], n};
    return shape_make(j, ENGINE_F32, 3, shape, e) && shape_make_at(j, 1, ENGINE_I32, 1, shape, e) &&
           shape_make_at(j, 2, ENGINE_F32, 3, shape, e);
}
