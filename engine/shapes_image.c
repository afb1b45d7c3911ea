// Shapes of what changes the size of images: Resize, Upsample. As engine/shapes.c: whatever a
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
    static const char *const aspects[] = {"stretch", "not_larger", "not_smaller"};
    const struct node *n = j->node;
    bool old = n->opset < 11; // then a pixel's place was its number times the scale
    int mode = choice_of(n, "mode", "nearest", modes, 3);
    int place = old ? RESIZE_ASYMMETRIC
                    : choice_of(n, "coordinate_transformation_mode", "half_pixel", places, 6);
    int rounding =
        old ? RESIZE_FLOOR : choice_of(n, "nearest_mode", "round_prefer_floor", roundings, 4);
    if (mode < 0 || place < 0 || rounding < 0)
        return shape_wrong(j, e, "its mode, or how it maps coordinates, is not supported");
    int aspect = choice_of(n, "keep_aspect_ratio_policy", "stretch", aspects, 3);
    if (aspect < 0)
        return shape_wrong(j, e, "keep_aspect_ratio_policy: not one that is known");
    *r = (struct resize){.mode = (enum resize_mode)mode,
                         .place = (enum resize_place)place,
                         .rounding = (enum resize_rounding)rounding,
                         .cubic = node_float(n, "cubic_coeff_a", -0.75f),
                         .exclude_outside = node_int(n, "exclude_outside", 0) != 0,
                         .antialias = node_int(n, "antialias", 0) != 0,
                         .aspect = (enum resize_aspect)aspect};
    return true;
}

// Input i when it is there, known and not empty.
static const struct array *list_at(const struct job *j, unsigned i)
{
    const struct array *a = job_input(j, i);
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

// Sizes are bounds, which the axes together fill or cover: one scale for all of them. False: no such scale.
static bool keep_aspect(const struct job *j, struct resize *r, const int64_t *axes, unsigned n)
{
    double scale = 0;
    for (unsigned i = 0; i < n; i++) {
        double in = (double)j->in[0]->shape[axes[i]], own = (double)r->out[axes[i]] / in;
        bool takes = r->aspect == RESIZE_NOT_LARGER ? own < scale : own > scale;
        scale = i == 0 || takes ? own : scale;
    }
    for (unsigned i = 0; i < n; i++) {
        double out = floor(scale * (double)j->in[0]->shape[axes[i]] + 0.5);
        if (!(out >= 1 && out <= INT32_MAX))
            return false;
        r->scale[axes[i]] = (float)scale;
        r->out[axes[i]] = (int64_t)out;
    }
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
    if (!given || given->shape[0] != n || n > ENGINE_MAX_RANK ||
        (scales && scales->dtype != ENGINE_F32) || (!scales && sizes->dtype != ENGINE_I64))
        return shape_wrong(j, e, "expected scales or sizes, one an axis, known from shapes");
    for (unsigned i = 0; i < x->rank; i++) {
        r->scale[i] = 1;
        r->out[i] = x->shape[i];
    }
    int64_t resized[ENGINE_MAX_RANK];
    for (unsigned i = 0; i < n; i++) {
        int64_t axis = axes ? axes->ints[i] : i;
        axis += axis < 0 ? x->rank : 0;
        if (axis < 0 || axis >= (int64_t)x->rank)
            return shape_wrong(j, e, "axes are out of range");
        if (!set_axis(j, r, (unsigned)axis, scales, sizes, i, e))
            return false;
        resized[i] = axis;
    }
    if (!scales && r->aspect != RESIZE_STRETCH && !keep_aspect(j, r, resized, n))
        return shape_wrong(j, e, "sizes: expected an image of one pixel or more");
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
