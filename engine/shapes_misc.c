// Shapes of ops that fit nowhere else: bits under another datatype, patches, caches. As
// engine/shapes.c: whatever a kernel relies on is checked here.
#include "engine/ops.h"

bool shape_bit_cast(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    const struct attr *to = node_attr(j->node, "to");
    enum engine_dtype d = to ? dtype_from_onnx((uint64_t)to->i) : ENGINE_NONE;
    if (d == ENGINE_NONE || dtype_inside(d) != d || dtype_bytes(d) != dtype_bytes(x->dtype) ||
        d == ENGINE_BOOL)
        return shape_wrong(j, e, "to: expected a datatype of as many bits (not of floats of 16)");
    return shape_make(j, d, x->rank, x->shape, e);
}

bool shape_tensor_scatter(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0], *u = j->in[1], *at = job_input(j, 2);
    const struct attr *mode = node_attr(j->node, "mode");
    int64_t axis = shape_axis(j, -2);
    if (mode && !view_is(mode->s, "linear") && !view_is(mode->s, "circular"))
        return shape_wrong(j, e, "mode: expected linear or circular");
    if (u->dtype != x->dtype || u->rank != x->rank || axis < 1 || axis >= (int64_t)x->rank)
        return shape_wrong(
            j, e, "update: expected the cache's datatype and rank, and an axis behind the first");
    for (unsigned i = 0; i < x->rank; i++) {
        if (i == axis ? u->shape[i] > x->shape[i] : u->shape[i] != x->shape[i])
            return shape_wrong(j, e, "update: does not fit the cache");
    }
    if (at && (at->dtype != ENGINE_I64 || at->rank != 1 || at->shape[0] != x->shape[0]))
        return shape_wrong(j, e, "write_indices: expected one int64 a row");
    return shape_make(j, x->dtype, x->rank, x->shape, e);
}

// The start along each axis of input and output, and how much there is of both.
bool center_of(const struct job *job, int64_t *from, int64_t *to, int64_t *n, int64_t *shape)
{
    struct job *j = (struct job *)job;
    const struct array *x = j->in[0];
    const struct attr *axes = node_attr(j->node, "axes");
    unsigned count;
    int64_t room[ENGINE_MAX_RANK];
    const int64_t *want = shape_list(j, "shape", 1, &count, room);
    unsigned most = axes ? axes->n : x->rank;
    if (!want || count != most || count > x->rank)
        return false;
    for (unsigned i = 0; i < x->rank; i++) {
        from[i] = to[i] = 0;
        n[i] = shape[i] = x->shape[i];
    }
    for (unsigned i = 0; i < count; i++) {
        int64_t a = axes ? axes->ints[i] : i;
        a += a < 0 ? x->rank : 0;
        if (a < 0 || a >= (int64_t)x->rank || want[i] < 0 || want[i] > INT32_MAX)
            return false;
        int64_t dim = x->shape[a];
        shape[a] = want[i];
        n[a] = want[i] < dim ? want[i] : dim;
        from[a] = want[i] < dim ? (dim - want[i]) / 2 : 0;
        to[a] = want[i] > dim ? (want[i] - dim) / 2 : 0;
    }
    return true;
}

bool shape_center_crop_pad(struct job *j, struct engine_error *e)
{
    int64_t from[ENGINE_MAX_RANK], to[ENGINE_MAX_RANK], n[ENGINE_MAX_RANK], shape[ENGINE_MAX_RANK];
    if (!center_of(j, from, to, n, shape))
        return shape_wrong(j, e, "shape: expected one an axis, known from shapes");
    return shape_make(j, j->in[0]->dtype, j->in[0]->rank, shape, e);
}

// image and block known from shapes; the columns are [rows, channels * block, places].
bool patches_of(const struct job *job, struct windows *w, struct engine_error *e)
{
    struct job *j = (struct job *)job;
    unsigned n, blocks;
    int64_t room[ENGINE_MAX_RANK], block_room[ENGINE_MAX_RANK];
    const int64_t *image = shape_list(j, "image_shape", 1, &n, room),
                  *block = shape_list(j, "block_shape", 2, &blocks, block_room);
    struct array like = {.dtype = j->in[0]->dtype, .rank = n + 2};
    struct job of = {.node = j->node, .in = {&like}, .out = j->out};
    if (!image || !block || n != blocks || n < 1 || n > WINDOW_AXES || j->in[0]->rank != 3)
        return shape_wrong(
            j, e, "image_shape, block_shape: expected lists of one length, known from shapes");
    for (unsigned i = 0; i < n; i++) {
        if (image[i] < 1 || image[i] > INT32_MAX)
            return shape_wrong(j, e, "image_shape: expected 1 or more");
        like.shape[2 + i] = image[i];
    }
    return windows_of(&of, 2, n, block, w, e);
}

bool shape_col2im(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    int64_t taps = 1, places = 1, shape[ENGINE_MAX_RANK];
    struct windows w;
    if (x->dtype != ENGINE_F32)
        return shape_wrong(j, e, "expected float32");
    if (!patches_of(j, &w, e))
        return false;
    for (unsigned i = 0; i < w.n; i++) {
        if (__builtin_mul_overflow(taps, w.kernel[i], &taps) ||
            __builtin_mul_overflow(places, w.out[i], &places))
            return shape_wrong(j, e, "block_shape: out of range");
        shape[2 + i] = w.in[i];
    }
    if (x->shape[1] % taps != 0 || x->shape[2] != places)
        return shape_wrong(j, e, "expected a column of every block's elements for each place");
    shape[0] = x->shape[0];
    shape[1] = x->shape[1] / taps;
    return shape_make(j, ENGINE_F32, w.n + 2, shape, e);
}
