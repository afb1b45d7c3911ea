// Shapes of what changes the size of images: Resize, Upsample, ConvTranspose. As engine/shapes.c: whatever a
// kernel relies on is checked here.
#include "engine/ops.h"

#include <math.h>

// ---- Resize ------------------------------------------------------------------------------------------

static bool text_is(const struct node *n, const char *name, const char *otherwise, const char *is)
{
    const struct attr *a = node_attr(n, name);
    return a && a->kind == ATTR_STRING ? view_is(a->s, is) : strcmp(otherwise, is) == 0;
}

// Which of `names` the attribute is; -1: another one.
static int choice_of(const struct node *n, const char *name, const char *otherwise,
                     const char *const *names, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (text_is(n, name, otherwise, names[i]))
            return (int)i;
    }
    return -1;
}

static bool modes_of(struct job *j, struct resize *r, struct engine_error *e)
{
    static const char *const modes[] = {"nearest", "linear", "cubic"};
    static const char *const places[] = {"half_pixel",           "asymmetric",
                                         "align_corners",        "pytorch_half_pixel",
                                         "half_pixel_symmetric", "tf_half_pixel_for_nn"};
    static const char *const roundings[] = {"round_prefer_floor", "round_prefer_ceil", "floor",
                                            "ceil"};
    const struct node *n = j->node;
    bool old = n->opset < 11; // then a pixel's place was its number times the scale
    int mode = choice_of(n, "mode", "nearest", modes, 3);
    int place = old ? RESIZE_ASYMMETRIC
                    : choice_of(n, "coordinate_transformation_mode", "half_pixel", places, 6);
    int rounding =
        old ? RESIZE_FLOOR : choice_of(n, "nearest_mode", "round_prefer_floor", roundings, 4);
    if (mode < 0 || place < 0 || rounding < 0)
        return shape_wrong(j, e, "its mode, or how it maps coordinates, is not supported");
    if (node_int(n, "antialias", 0) != 0 ||
        !text_is(n, "keep_aspect_ratio_policy", "stretch", "stretch"))
        return shape_wrong(j, e, "antialias: expected 0; keep_aspect_ratio_policy: stretch");
    *r = (struct resize){.mode = (enum resize_mode)mode,
                         .place = (enum resize_place)place,
                         .rounding = (enum resize_rounding)rounding,
                         .cubic = node_float(n, "cubic_coeff_a", -0.75f),
                         .exclude_outside = node_int(n, "exclude_outside", 0) != 0};
    return true;
}

// Input i when it is there, known and not empty.
static const struct array *list_at(const struct job *j, unsigned i)
{
    const struct array *a = i < j->node->n_inputs ? j->in[i] : NULL;
    return a && a->rank == 1 && a->shape[0] > 0 && a->data ? a : NULL;
}

static bool set_axis(struct job *j, struct resize *r, unsigned axis, const struct array *scales,
                     const struct array *sizes, unsigned i, struct engine_error *e)
{
    double in = (double)j->in[0]->shape[axis], out;
    if (scales) {
        r->scale[axis] = ((const float *)scales->data)[i];
        out = floor(in * r->scale[axis]);
    } else {
        out = (double)((const int64_t *)sizes->data)[i];
        r->scale[axis] = (float)(in > 0 ? out / in : 1);
    }
    if (!(out >= 1 && out <= INT32_MAX) || !(r->scale[axis] > 0) || in < 1)
        return shape_wrong(j, e, "scales and sizes: expected an image of one pixel or more");
    r->out[axis] = (int64_t)out;
    return true;
}

bool resize_of(const struct job *job, struct resize *r, struct engine_error *e)
{
    struct job *j = (struct job *)job;
    const struct array *x = j->in[0];
    bool old = j->node->opset < 11;
    const struct array *scales = list_at(j, old ? 1 : 2), *sizes = old ? NULL : list_at(j, 3);
    const struct attr *axes = node_attr(j->node, "axes");
    const struct array *given = scales ? scales : sizes;
    unsigned n = axes ? axes->n : x->rank;
    if (!modes_of(j, r, e))
        return false;
    if (!given || given->shape[0] != n || (scales && scales->dtype != ENGINE_F32) ||
        (!scales && sizes->dtype != ENGINE_I64))
        return shape_wrong(j, e, "expected scales or sizes, one an axis, known from shapes");
    for (unsigned i = 0; i < x->rank; i++) {
        r->scale[i] = 1;
        r->out[i] = x->shape[i];
    }
    for (unsigned i = 0; i < n; i++) {
        int64_t axis = axes ? axes->ints[i] : i;
        axis += axis < 0 ? x->rank : 0;
        if (axis < 0 || axis >= (int64_t)x->rank)
            return shape_wrong(j, e, "axes are out of range");
        if (!set_axis(j, r, (unsigned)axis, scales, sizes, i, e))
            return false;
    }
    return true;
}

bool check_resize(struct job *j, struct engine_error *e)
{
    return modes_of(j, &(struct resize){0}, e);
}

bool shape_resize(struct job *j, struct engine_error *e)
{
    struct resize r;
    if (j->in[0]->dtype != ENGINE_F32)
        return shape_wrong(j, e, "expected float32");
    return resize_of(j, &r, e) && shape_make(j, ENGINE_F32, j->in[0]->rank, r.out, e);
}

// ---- ConvTranspose -----------------------------------------------------------------------------------

// A list of n numbers of low to high; `otherwise` where it is not there.
static bool numbers(struct job *j, const char *attr, unsigned n, int64_t *out, int64_t otherwise,
                    int64_t low, struct engine_error *e)
{
    const struct attr *a = node_attr(j->node, attr);
    for (unsigned i = 0; i < n; i++) {
        out[i] = a && a->n == n ? a->ints[i] : otherwise;
        if ((a && a->n != n) || out[i] < low || out[i] > 1 << 15)
            return shape_wrong(j, e, "pads, strides, dilations, output_padding: out of range");
    }
    return true;
}

bool transposed_of(const struct job *job, struct window *w, struct engine_error *e)
{
    struct job *j = (struct job *)job;
    const struct attr *automatic = node_attr(j->node, "auto_pad"),
                      *size = node_attr(j->node, "output_shape");
    int64_t pads[4], more[2];
    bool valid = automatic && view_is(automatic->s, "VALID");
    if ((automatic && !valid && !view_is(automatic->s, "NOTSET")) || size)
        return shape_wrong(j, e, "auto_pad: expected NOTSET or VALID; output_shape: expected none");
    if (!numbers(j, "pads", 4, pads, 0, 0, e) || !numbers(j, "strides", 2, w->stride, 1, 1, e) ||
        !numbers(j, "dilations", 2, w->dilation, 1, 1, e) ||
        !numbers(j, "output_padding", 2, more, 0, 0, e))
        return false;
    for (unsigned i = 0; i < 2; i++) {
        w->kernel[i] = j->in[1]->shape[2 + i];
        w->in[i] = j->in[0]->shape[2 + i];
        w->pad[i] = valid ? 0 : pads[i];
        if (w->kernel[i] < 1 || w->kernel[i] > 1 << 15 || w->in[i] < 1)
            return shape_wrong(j, e, "kernel and image: expected one pixel or more");
        w->out[i] = w->stride[i] * (w->in[i] - 1) + more[i] + (w->kernel[i] - 1) * w->dilation[i] +
                    1 - w->pad[i] - (valid ? 0 : pads[2 + i]);
        if (w->out[i] < 1)
            return shape_wrong(j, e, "pads: nothing is left of the image");
    }
    return true;
}

bool shape_conv_transpose(struct job *j, struct engine_error *e)
{
    const struct array *x = j->in[0], *k = j->in[1], *b = j->node->n_inputs > 2 ? j->in[2] : NULL;
    const struct attr *kernel = node_attr(j->node, "kernel_shape");
    int64_t groups = node_int(j->node, "group", 1);
    struct window w;
    if (x->dtype != ENGINE_F32 || k->dtype != ENGINE_F32 || (b && b->dtype != ENGINE_F32))
        return shape_wrong(j, e, "expected float32 inputs");
    if (x->rank != 4 || k->rank != 4)
        return shape_wrong(j, e, "expected images and kernels of four dimensions");
    if (groups < 1 || x->shape[1] != k->shape[0] || k->shape[0] % groups != 0 || k->shape[1] < 1 ||
        k->shape[1] > INT32_MAX / groups)
        return shape_wrong(j, e, "the channels of image, kernel and group do not fit");
    if (b && (b->rank != 1 || b->shape[0] != k->shape[1] * groups))
        return shape_wrong(j, e, "expected one bias a channel");
    if (kernel && (kernel->n != 2 || memcmp(kernel->ints, &k->shape[2], 2 * sizeof(int64_t)) != 0))
        return shape_wrong(j, e, "kernel_shape: expected the size of the kernels");
    if (!transposed_of(j, &w, e))
        return false;
    int64_t shape[4] = {x->shape[0], k->shape[1] * groups, w.out[0], w.out[1]};
    return shape_make(j, ENGINE_F32, 4, shape, e);
}
