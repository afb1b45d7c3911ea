#include "engine/cpu/broadcast.h"

struct walk { // from the outermost axis to the innermost
    unsigned rank, n_in;
    size_t length[ENGINE_MAX_RANK], step[ENGINE_MAX_RANK][BROADCAST_MAX]; // in elements
};

// Elements between neighbours of `a` along each axis of the output: 0 where it is broadcast.
static void steps_of(const struct array *a, const struct array *out, size_t step[ENGINE_MAX_RANK])
{
    size_t size = 1;
    for (unsigned i = out->rank; i-- > 0;) {
        unsigned back = out->rank - 1 - i;
        int64_t dim = back < a->rank ? a->shape[a->rank - 1 - back] : 1;
        step[i] = dim == 1 ? 0 : size;
        size *= (size_t)dim;
    }
}

// May the axis be walked with the one outside it as one?
static bool continues(const struct walk *w, size_t length, const size_t *step)
{
    if (w->rank == 0)
        return false;
    for (unsigned k = 0; k < w->n_in; k++) {
        if (w->step[w->rank - 1][k] != step[k] * length)
            return false;
    }
    return true;
}

static void add_axis(struct walk *w, size_t length, const size_t *step)
{
    if (length == 1)
        return;
    if (continues(w, length, step))
        w->length[w->rank - 1] *= length;
    else
        w->length[w->rank++] = length;
    memcpy(w->step[w->rank - 1], step, sizeof(w->step[0]));
}

static struct walk walk_of(const struct array *out, const struct array *const *in, unsigned n_in)
{
    struct walk w = {.n_in = n_in};
    size_t step[BROADCAST_MAX][ENGINE_MAX_RANK];
    for (unsigned k = 0; k < n_in; k++)
        steps_of(in[k], out, step[k]);
    for (unsigned i = 0; i < out->rank; i++) {
        size_t one[BROADCAST_MAX] = {0};
        for (unsigned k = 0; k < n_in; k++)
            one[k] = step[k][i];
        add_axis(&w, (size_t)out->shape[i], one);
    }
    if (w.rank == 0)
        w.length[w.rank++] = 1;
    return w;
}

// Most often every operand has all elements, or one: a single row.
static bool is_one_row(const struct array *out, const struct array *const *in, unsigned n_in,
                       size_t *n, size_t *step)
{
    size_t have = 0;
    if (!array_count(out, n))
        return false;
    for (unsigned k = 0; k < n_in; k++) {
        if (!array_count(in[k], &have) || (have != *n && have != 1))
            return false;
        step[k] = have == *n;
    }
    return true;
}

static void walk_rows(const struct walk *w, const struct array *out, const struct array *const *in,
                      broadcast_row *row)
{
    size_t at[ENGINE_MAX_RANK] = {0}, all = 1, last = w->rank - 1, size[BROADCAST_MAX] = {0};
    const void *from[BROADCAST_MAX] = {0};
    char *y = out->data;
    for (unsigned i = 0; i < w->rank; i++)
        all *= w->length[i];
    for (unsigned k = 0; k < w->n_in; k++)
        size[k] = dtype_bytes(in[k]->dtype);
    for (size_t done = 0; done < all; done += w->length[last]) {
        for (unsigned k = 0; k < w->n_in; k++) {
            size_t offset = 0;
            for (unsigned i = 0; i < last; i++)
                offset += at[i] * w->step[i][k];
            from[k] = (const char *)in[k]->data + offset * size[k];
        }
        row(y, from, w->step[last], w->length[last]);
        y += w->length[last] * dtype_bytes(out->dtype);
        for (unsigned i = (unsigned)last; i-- > 0;) {
            if (++at[i] < w->length[i])
                break;
            at[i] = 0;
        }
    }
}

void broadcast(const struct array *out, const struct array *const *in, unsigned n_in,
               broadcast_row *row)
{
    const void *from[BROADCAST_MAX] = {0};
    size_t n, step[BROADCAST_MAX];
    for (unsigned k = 0; k < n_in; k++)
        from[k] = in[k]->data;
    if (is_one_row(out, in, n_in, &n, step)) {
        row(out->data, from, step, n);
        return;
    }
    struct walk w = walk_of(out, in, n_in);
    walk_rows(&w, out, in, row);
}
