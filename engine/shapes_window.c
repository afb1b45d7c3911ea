// Windows that slide over images of one axis or more: convolutions and pools. As engine/shapes.c: whatever a
// kernel relies on is checked here.
#include "engine/ops.h"

#include <stdio.h>

static bool text_is(const struct node *n, const char *attr, const char *what)
{
    const struct attr *a = node_attr(n, attr);
    return a && a->kind == ATTR_STRING && view_is(a->s, what);
}

// n numbers of low or more; `otherwise` where the list is not there.
static bool numbers_at(struct job *j, const char *attr, unsigned n, int64_t *out, int64_t otherwise,
                       int64_t low, int64_t most, struct engine_error *e)
{
    const struct attr *a = node_attr(j->node, attr);
    char what[96];
    for (unsigned i = 0; i < n; i++) {
        out[i] = a && i < a->n ? a->ints[i] : otherwise;
        if ((a && a->n != n) || out[i] < low || out[i] > most) {
            snprintf(what, sizeof(what), "%s: expected %u of %d or more", attr, n, (int)low);
            return shape_wrong(j, e, what);
        }
    }
    return true;
}

static bool known_padding(struct job *j, struct engine_error *e)
{
    const struct attr *a = node_attr(j->node, "auto_pad");
    if (a && !view_is(a->s, "NOTSET") && !view_is(a->s, "VALID") && !view_is(a->s, "SAME_UPPER") &&
        !view_is(a->s, "SAME_LOWER"))
        return shape_wrong(j, e, "auto_pad: expected NOTSET, VALID, SAME_UPPER or SAME_LOWER");
    return true;
}

// Axis i of w, whose kernel, stride, dilation and in are known. pads: before and behind; same: -1 not, 0 upper,
// 1 lower.
static bool window_axis(struct job *j, struct windows *w, unsigned i, int64_t before, int64_t after,
                        int same, struct engine_error *e)
{
    bool ceil = node_int(j->node, "ceil_mode", 0) != 0;
    int64_t span = (w->kernel[i] - 1) * w->dilation[i] + 1;
    if (same >= 0) {
        int64_t out = (w->in[i] + w->stride[i] - 1) / w->stride[i];
        int64_t all = (out - 1) * w->stride[i] + span - w->in[i];
        all = all > 0 ? all : 0;
        before = same == 0 ? all / 2 : all - all / 2;
        after = all - before;
    }
    int64_t room = w->in[i] + before + after - span;
    if (before > 1 << 15 || after > 1 << 15 || room < 0)
        return shape_wrong(j, e, "the window is larger than the image, or pads out of range");
    w->pad[i] = before;
    w->behind[i] = after;
    w->out[i] = (ceil ? room + w->stride[i] - 1 : room) / w->stride[i] + 1;
    if (ceil && (w->out[i] - 1) * w->stride[i] >= w->in[i] + before)
        w->out[i]--; // a window that would begin behind the image does not count
    return true;
}

bool windows_of(const struct job *job, unsigned axis, unsigned n, const int64_t *kernel,
                struct windows *w, struct engine_error *e)
{
    struct job *j = (struct job *)job;
    int64_t pads[2 * WINDOW_AXES];
    bool valid = text_is(j->node, "auto_pad", "VALID");
    int same = text_is(j->node, "auto_pad", "SAME_UPPER")   ? 0
               : text_is(j->node, "auto_pad", "SAME_LOWER") ? 1
                                                            : -1;
    memset(w, 0, sizeof(*w));
    w->n = n;
    if (n < 1 || n > WINDOW_AXES)
        return shape_wrong(j, e, "expected images of one axis to " AXES_TEXT);
    if (!known_padding(j, e) || !numbers_at(j, "strides", n, w->stride, 1, 1, 1 << 20, e) ||
        !numbers_at(j, "dilations", n, w->dilation, 1, 1, 1 << 20, e) ||
        !numbers_at(j, "pads", 2 * n, pads, 0, 0, 1 << 20, e))
        return false;
    for (unsigned i = 0; i < n; i++) {
        if (kernel[i] < 1 || kernel[i] > 1 << 15)
            return shape_wrong(j, e, "kernel: expected 1 or more");
        w->kernel[i] = kernel[i];
        w->in[i] = j->in[0]->shape[axis + i];
        if (!window_axis(j, w, i, valid ? 0 : pads[i], valid ? 0 : pads[n + i], same, e))
            return false;
    }
    return true;
}

// Of one axis or two; an image of one axis is one of two, of which the first has one pixel.
static struct window of_images(const struct windows *all)
{
    struct window w = {.kernel = {1}, .stride = {1}, .dilation = {1}, .in = {1}, .out = {1}};
    for (unsigned i = 0, to = 2 - all->n; i < all->n; i++, to++) {
        w.kernel[to] = all->kernel[i];
        w.stride[to] = all->stride[i];
        w.dilation[to] = all->dilation[i];
        w.pad[to] = all->pad[i];
        w.in[to] = all->in[i];
        w.out[to] = all->out[i];
    }
    return w;
}

bool window_of(const struct job *j, unsigned axis, const int64_t *kernel, struct window *w,
               struct engine_error *e)
{
    struct windows all;
    unsigned n = axis == 2 ? j->in[0]->rank - 2 : 2;
    if (n > 2 || !windows_of(j, axis, n, kernel, &all, e))
        return false;
    *w = of_images(&all);
    return true;
}

// ---- convolutions ------------------------------------------------------------------------------------

// x and its kernels k, [outs, channels of a group, axes...]; kernel_shape, where it is there, as they are.
bool conv_fits(struct job *j, const struct array *x, const struct array *k, struct engine_error *e)
{
    int64_t groups = node_int(j->node, "group", 1);
    const struct attr *kernel = node_attr(j->node, "kernel_shape");
    if (x->rank < 3 || k->rank != x->rank)
        return shape_wrong(j, e, "expected images and kernels of three dimensions or more");
    if (groups < 1 || k->shape[1] < 1 || k->shape[0] % groups != 0 || x->shape[1] % groups != 0 ||
        x->shape[1] / groups != k->shape[1])
        return shape_wrong(j, e, "the channels of image, kernel and group do not fit");
    if (kernel && (kernel->n != k->rank - 2 ||
                   memcmp(kernel->ints, &k->shape[2], kernel->n * sizeof(int64_t)) != 0))
        return shape_wrong(j, e, "kernel_shape: expected the size of the kernels");
    return true;
}

bool conv_make(struct job *j, enum engine_dtype d, const struct array *k, struct engine_error *e)
{
    const struct array *x = j->in[0];
    int64_t shape[ENGINE_MAX_RANK] = {x->shape[0], k->shape[0]};
    struct windows w;
    if (!windows_of(j, 2, x->rank - 2, &k->shape[2], &w, e))
        return false;
    memcpy(shape + 2, w.out, w.n * sizeof(w.out[0]));
    return shape_make(j, d, x->rank, shape, e);
}

bool shape_conv(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0], *k = j->in[1], *b = job_input(j, 2);
    if (x->dtype != ENGINE_F32 || k->dtype != ENGINE_F32 || (b && b->dtype != ENGINE_F32))
        return shape_wrong(j, e, "expected float32 inputs");
    if (!conv_fits(j, x, k, e))
        return false;
    if (b && (b->rank != 1 || b->shape[0] != k->shape[0]))
        return shape_wrong(j, e, "expected one bias a channel");
    return conv_make(j, ENGINE_F32, k, e);
}

// ---- pools -------------------------------------------------------------------------------------------

static bool pool_kernel(struct job *j, const struct attr **kernel, struct engine_error *e)
{
    *kernel = node_attr(j->node, "kernel_shape");
    if (j->in[0]->rank < 3 || !*kernel || (*kernel)->n != j->in[0]->rank - 2)
        return shape_wrong(j, e, "expected images, and a kernel_shape of as many axes");
    return true;
}

bool pool_window(struct job *j, unsigned axis, struct window *w, struct engine_error *e)
{
    const struct attr *kernel;
    if (j->in[0]->dtype != ENGINE_F32)
        return shape_wrong(j, e, "expected float32 inputs");
    return pool_kernel(j, &kernel, e) && window_of(j, axis, kernel->ints, w, e);
}

static bool pool_shape(struct job *j, struct windows *w, int64_t *shape, struct engine_error *e)
{
    const struct attr *kernel;
    if (!pool_kernel(j, &kernel, e) || !windows_of(j, 2, kernel->n, kernel->ints, w, e))
        return false;
    memcpy(shape, j->in[0]->shape, 2 * sizeof(shape[0]));
    memcpy(shape + 2, w->out, w->n * sizeof(w->out[0]));
    return true;
}

bool shape_pool(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    int64_t shape[ENGINE_MAX_RANK], p = node_int(j->node, "p", 2);
    struct windows w;
    if (x->dtype != ENGINE_F32)
        return shape_wrong(j, e, "expected float32 inputs");
    if (p < 1 || p > 64)
        return shape_wrong(j, e, "p: expected 1 to 64");
    return pool_shape(j, &w, shape, e) && shape_make(j, ENGINE_F32, x->rank, shape, e);
}

bool shape_max_pool(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0];
    int64_t shape[ENGINE_MAX_RANK];
    struct windows w;
    if (x->dtype != ENGINE_F32 && x->dtype != ENGINE_F64 && x->dtype != ENGINE_I8 &&
        x->dtype != ENGINE_U8)
        return shape_wrong(j, e, "expected floats, int8 or uint8");
    return pool_shape(j, &w, shape, e) && shape_make(j, x->dtype, x->rank, shape, e) &&
           shape_make_at(j, 1, ENGINE_I64, x->rank, shape, e);
}

// ---- ConvTranspose -----------------------------------------------------------------------------------

// What is left over of an axis goes to its front or its end: (out is known) auto_pad, output_shape.
static void spread_pads(const struct job *j, struct windows *w, unsigned i, int64_t more,
                        int64_t out)
{
    int64_t all =
        w->stride[i] * (w->in[i] - 1) + more + (w->kernel[i] - 1) * w->dilation[i] + 1 - out;
    // What is missing stands behind the image.
    int64_t half =
        all > 0 ? (text_is(j->node, "auto_pad", "SAME_UPPER") ? all / 2 : all - all / 2) : 0;
    w->pad[i] = half;
    w->out[i] = out;
}

bool transposed_windows(const struct job *job, struct windows *w, struct engine_error *e)
{
    struct job *j = (struct job *)job;
    const struct attr *size = node_attr(j->node, "output_shape");
    unsigned n = j->in[0]->rank - 2;
    int64_t pads[2 * WINDOW_AXES], more[WINDOW_AXES];
    bool valid = text_is(j->node, "auto_pad", "VALID"),
         same = text_is(j->node, "auto_pad", "SAME_UPPER") ||
                text_is(j->node, "auto_pad", "SAME_LOWER");
    memset(w, 0, sizeof(*w));
    w->n = n;
    if (size && size->n != n)
        return shape_wrong(j, e, "output_shape: expected one an axis");
    if (!known_padding(j, e) || !numbers_at(j, "pads", 2 * n, pads, 0, 0, 1 << 15, e) ||
        !numbers_at(j, "strides", n, w->stride, 1, 1, 1 << 15, e) ||
        !numbers_at(j, "dilations", n, w->dilation, 1, 1, 1 << 15, e) ||
        !numbers_at(j, "output_padding", n, more, 0, 0, 1 << 15, e))
        return false;
    for (unsigned i = 0; i < n; i++) {
        w->kernel[i] = j->in[1]->shape[2 + i];
        w->in[i] = j->in[0]->shape[2 + i];
        if (w->kernel[i] < 1 || w->kernel[i] > 1 << 15 || w->in[i] < 1)
            return shape_wrong(j, e, "kernel and image: expected one pixel or more");
        w->pad[i] = valid ? 0 : pads[i];
        w->out[i] = w->stride[i] * (w->in[i] - 1) + more[i] + (w->kernel[i] - 1) * w->dilation[i] +
                    1 - w->pad[i] - (valid ? 0 : pads[n + i]);
        if (size || same)
            spread_pads(j, w, i, more[i], size ? size->ints[i] : w->in[i] * w->stride[i]);
        if (w->out[i] < 1 || w->out[i] > INT32_MAX)
            return shape_wrong(j, e, "pads: nothing is left of the image");
    }
    return true;
}

bool transposed_of(const struct job *j, struct window *w, struct engine_error *e)
{
    struct windows all;
    unsigned n = j->in[0]->rank - 2;
    if (n > 2 || !transposed_windows(j, &all, e))
        return false;
    *w = of_images(&all);
    return true;
}

bool shape_conv_transpose(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0], *k = j->in[1], *b = job_input(j, 2);
    const struct attr *kernel = node_attr(j->node, "kernel_shape");
    int64_t groups = node_int(j->node, "group", 1);
    struct windows w;
    if (x->dtype != ENGINE_F32 || k->dtype != ENGINE_F32 || (b && b->dtype != ENGINE_F32))
        return shape_wrong(j, e, "expected float32 inputs");
    if (x->rank < 3 || k->rank != x->rank)
        return shape_wrong(j, e, "expected images and kernels of three dimensions or more");
    if (groups < 1 || x->shape[1] != k->shape[0] || k->shape[0] % groups != 0 || k->shape[1] < 1 ||
        k->shape[1] > INT32_MAX / groups)
        return shape_wrong(j, e, "the channels of image, kernel and group do not fit");
    if (b && (b->rank != 1 || b->shape[0] != k->shape[1] * groups))
        return shape_wrong(j, e, "expected one bias a channel");
    if (kernel && (kernel->n != k->rank - 2 ||
                   memcmp(kernel->ints, &k->shape[2], kernel->n * sizeof(int64_t)) != 0))
        return shape_wrong(j, e, "kernel_shape: expected the size of the kernels");
    if (!transposed_windows(j, &w, e))
        return false;
    int64_t shape[ENGINE_MAX_RANK] = {x->shape[0], k->shape[1] * groups};
    memcpy(shape + 2, w.out, w.n * sizeof(w.out[0]));
    return shape_make(j, ENGINE_F32, x->rank, shape, e);
}

// ---- MaxUnpool ---------------------------------------------------------------------------------------

bool shape_max_unpool(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0], *at = j->in[1];
    unsigned n = x->rank > 2 ? x->rank - 2 : 0;
    int64_t kernel[WINDOW_AXES], stride[WINDOW_AXES], pads[2 * WINDOW_AXES],
        shape[ENGINE_MAX_RANK] = {x->shape[0], x->shape[1]};
    if (x->dtype != ENGINE_F32 || at->dtype != ENGINE_I64 || n < 1 || at->rank != x->rank ||
        memcmp(at->shape, x->shape, x->rank * sizeof(x->shape[0])) != 0)
        return shape_wrong(j, e, "expected float32 images, and an int64 place for each pixel");
    if (!numbers_at(j, "kernel_shape", n, kernel, 1, 1, 1 << 15, e) ||
        !numbers_at(j, "strides", n, stride, 1, 1, 1 << 15, e) ||
        !numbers_at(j, "pads", 2 * n, pads, 0, 0, 1 << 15, e))
        return false;
    for (unsigned i = 0; i < n; i++) {
        shape[2 + i] = (x->shape[2 + i] - 1) * stride[i] + kernel[i] - pads[i] - pads[n + i];
        if (shape[2 + i] < 1)
            return shape_wrong(j, e, "pads: nothing is left of the image");
    }
    return shape_make(j, ENGINE_F32, x->rank, shape, e);
}
