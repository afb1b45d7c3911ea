// Ops that fit nowhere else: BitCast, TensorScatter, CenterCropPad, Col2Im.
#include "engine/cpu/cpu.h"

void cpu_bit_cast(const struct job *j)
{
    memcpy(j->out->data, j->in[0]->data, array_bytes(j->out));
}

void cpu_tensor_scatter(const struct job *j)
{
    const struct array *x = j->in[0], *u = j->in[1], *at = job_input(j, 2);
    const struct attr *mode = node_attr(j->node, "mode");
    unsigned axis = (unsigned)shape_axis(j, -2);
    bool circular = mode && view_is(mode->s, "circular");
    size_t block = dtype_bytes(x->dtype) * count_from(x, axis + 1),
           outer = count_between(x, 0, axis),
           rows = x->shape[0] > 0 ? outer / (size_t)x->shape[0] : 1; // before the axis, of one row
    memcpy(j->out->data, x->data, array_bytes(x));
    for (size_t o = 0; o < outer; o++) {
        int64_t first = at ? ((const int64_t *)at->data)[o / rows] : 0;
        for (int64_t k = 0; k < u->shape[axis]; k++) {
            int64_t to;
            if (first < 0 || __builtin_add_overflow(first, k, &to) ||
                (!circular && to >= x->shape[axis])) {
                *j->failure = "a place is out of range";
                return;
            }
            to %= x->shape[axis];
            memcpy((char *)j->out->data + (o * (size_t)x->shape[axis] + (size_t)to) * block,
                   (const char *)u->data + (o * (size_t)u->shape[axis] + (size_t)k) * block, block);
        }
    }
}

void cpu_center_crop_pad(const struct job *j)
{
    const struct array *x = j->in[0], *y = j->out;
    int64_t from[ENGINE_MAX_RANK], to[ENGINE_MAX_RANK], n[ENGINE_MAX_RANK], shape[ENGINE_MAX_RANK];
    size_t all = 1, size = dtype_bytes(x->dtype);
    if (!center_of(j, from, to, n, shape))
        return; // the plan has asked the same and was answered
    memset(y->data, 0, array_bytes(y));
    for (unsigned i = 0; i < x->rank; i++)
        all *= (size_t)n[i];
    for (size_t i = 0; i < all; i++) {
        size_t rest = i, read = 0, write = 0, read_size = 1, write_size = 1;
        for (unsigned a = x->rank; a-- > 0; rest /= (size_t)n[a]) {
            size_t k = rest % (size_t)n[a];
            read += (k + (size_t)from[a]) * read_size;
            write += (k + (size_t)to[a]) * write_size;
            read_size *= (size_t)x->shape[a];
            write_size *= (size_t)y->shape[a];
        }
        memcpy((char *)y->data + write * size, (const char *)x->data + read * size, size);
    }
}

// Where tap t of the window at place p lies; -1: outside the image.
static int64_t patch_pixel(const struct windows *w, int64_t t, int64_t p)
{
    int64_t pixel = 0, size = 1;
    for (unsigned i = w->n; i-- > 0; t /= w->kernel[i], p /= w->out[i]) {
        int64_t at = p % w->out[i] * w->stride[i] - w->pad[i] + t % w->kernel[i] * w->dilation[i];
        if (at < 0 || at >= w->in[i])
            return -1;
        pixel += at * size;
        size *= w->in[i];
    }
    return pixel;
}

void cpu_col2im(const struct job *j)
{
    const struct array *x = j->in[0];
    struct windows w;
    struct engine_error e;
    if (!patches_of(j, &w, &e))
        return; // the plan has asked the same and was answered
    int64_t taps = 1, pixels = 1, places = x->shape[2];
    for (unsigned i = 0; i < w.n; i++) {
        taps *= w.kernel[i];
        pixels *= w.in[i];
    }
    memset(j->out->data, 0, array_bytes(j->out));
    for (int64_t c = 0; c < x->shape[0] * x->shape[1]; c++) {
        float *y = (float *)j->out->data + c / taps * pixels;
        for (int64_t p = 0; p < places; p++) {
            int64_t to = patch_pixel(&w, c % taps, p);
            if (to >= 0)
                y[to] += ((const float *)x->data)[c * places + p];
        }
    }
}
