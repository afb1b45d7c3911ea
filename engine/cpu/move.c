// Elements that move and do not change: Concat, Slice, Transpose, Constant. Any datatype: whole elements.
#include "engine/cpu/cpu.h"

#ifdef __x86_64__
#include <xmmintrin.h>
#endif

static size_t size_from(const struct array *a, unsigned axis)
{
    return dtype_bytes(a->dtype) * count_from(a, axis);
}

void cpu_constant(const struct job *j)
{
    const struct attr *a = &j->node->attrs[0];
    const void *from = a->kind == ATTR_TENSOR   ? a->tensor.data
                       : a->kind == ATTR_FLOAT  ? (const void *)&a->f
                       : a->kind == ATTR_FLOATS ? (const void *)a->floats
                       : a->kind == ATTR_INT    ? (const void *)&a->i
                                                : a->ints;
    memcpy(j->out->data, from, size_from(j->out, 0));
}

void cpu_concat(const struct job *j)
{
    int64_t axis = node_int(j->node, "axis", 0);
    axis += axis < 0 ? j->out->rank : 0;
    size_t outer = count_between(j->out, 0, (unsigned)axis),
           row = size_from(j->out, (unsigned)axis);
    char *to = j->out->data;
    for (unsigned k = 0; k < j->node->n_inputs; k++) {
        size_t part = size_from(j->in[k], (unsigned)axis);
        for (size_t o = 0; o < outer && part > 0; o++)
            memcpy(to + o * row, (const char *)j->in[k]->data + o * part, part);
        to += part;
    }
}

// Copies along axis `axis` and below, from and to these places.
struct mover {
    size_t element;
    unsigned rank;
    int64_t length[ENGINE_MAX_RANK], from_step[ENGINE_MAX_RANK]; // steps in bytes
};

#define TILE                                                                                       \
    16 // rows and columns that are turned at a time: their lines of the cache are read and written whole

// `n` rows of `k` elements of four bytes; from: rows `outer` bytes apart, elements `inner`.
static void move_tile(const char *from, int64_t outer, int64_t inner, int64_t n, int64_t k,
                      char *to, int64_t to_row)
{
    for (int64_t i = 0; i < n; i++) {
        for (int64_t x = 0; x < k; x++)
            memcpy(to + i * to_row + x * 4, from + i * outer + x * inner, 4);
    }
}

#ifdef __x86_64__
// A whole tile whose columns stand side by side, four by four.
static void turn_tile(const char *from, int64_t inner, char *to, int64_t to_row)
{
    for (int64_t x = 0; x < TILE; x += 4) {
        for (int64_t i = 0; i < TILE; i += 4) {
            const float *f = (const float *)(const void *)(from + x * inner + i * 4);
            float *t = (float *)(void *)(to + i * to_row + x * 4);
            __m128 a = _mm_loadu_ps(f), b = _mm_loadu_ps(f + inner / 4),
                   c = _mm_loadu_ps(f + inner / 2), d = _mm_loadu_ps(f + inner / 4 * 3);
            _MM_TRANSPOSE4_PS(a, b, c, d);
            _mm_storeu_ps(t, a);
            _mm_storeu_ps(t + to_row / 4, b);
            _mm_storeu_ps(t + to_row / 2, c);
            _mm_storeu_ps(t + to_row / 4 * 3, d);
        }
    }
}
#else
static void turn_tile(const char *from, int64_t inner, char *to, int64_t to_row)
{
    move_tile(from, 4, inner, TILE, TILE, to, to_row);
}
#endif

// The last two axes, the last one in steps: what a Transpose of images comes to.
static char *move_plane(const struct mover *m, unsigned axis, const char *from, char *to)
{
    int64_t n = m->length[axis], k = m->length[axis + 1], row = 4 * k;
    int64_t outer = m->from_step[axis], inner = m->from_step[axis + 1];
    for (int64_t i = 0; i < n; i += TILE) {
        int64_t rows = n - i < TILE ? n - i : TILE;
        for (int64_t x = 0; x < k; x += TILE) {
            int64_t columns = k - x < TILE ? k - x : TILE;
            const char *at = from + i * outer + x * inner;
            if (outer == 4 && rows == TILE && columns == TILE)
                turn_tile(at, inner, to + i * row + x * 4, row);
            else
                move_tile(at, outer, inner, rows, columns, to + i * row + x * 4, row);
        }
    }
    return to + n * row;
}

static char *move(const struct mover *m, unsigned axis, const char *from, char *to)
{
    if (axis == m->rank) {
        memcpy(to, from, m->element);
        return to + m->element;
    }
    if (axis + 1 == m->rank && m->from_step[axis] == (int64_t)m->element) {
        size_t n = (size_t)m->length[axis] * m->element;
        memcpy(to, from, n);
        return to + n;
    }
    if (axis + 2 == m->rank && m->element == 4 && m->from_step[axis + 1] != 4)
        return move_plane(m, axis, from, to);
    if (axis + 1 == m->rank && m->element == 4) {
        for (int64_t i = 0; i < m->length[axis]; i++, to += 4)
            memcpy(to, from + i * m->from_step[axis], 4);
        return to;
    }
    for (int64_t i = 0; i < m->length[axis]; i++)
        to = move(m, axis + 1, from + i * m->from_step[axis], to);
    return to;
}

// Axes of one step fall out, and two that follow each other in both are one: a Slice that cuts nothing is one copy.
static void move_all(const struct mover *all, const char *from, char *to)
{
    struct mover m = {.element = all->element};
    for (unsigned i = 0; i < all->rank; i++) {
        int64_t n = all->length[i], step = all->from_step[i];
        if (n == 1)
            continue;
        if (m.rank > 0 && m.from_step[m.rank - 1] == n * step) {
            m.length[m.rank - 1] *= n;
            m.from_step[m.rank - 1] = step;
        } else {
            m.length[m.rank] = n;
            m.from_step[m.rank++] = step;
        }
    }
    move(&m, 0, from, to);
}

void cpu_slice(const struct job *j)
{
    const struct array *a = j->in[0];
    struct mover m = {.element = dtype_bytes(a->dtype), .rank = a->rank};
    int64_t start[ENGINE_MAX_RANK], step[ENGINE_MAX_RANK];
    struct engine_error e;
    if (!slice_of(j, start, step, m.length, &e))
        return; // the plan has asked the same and was answered
    const char *from = a->data;
    for (unsigned i = 0; i < a->rank; i++) {
        int64_t size = (int64_t)size_from(a, i + 1);
        from += start[i] * size;
        m.from_step[i] = step[i] * size;
        if (m.length[i] == 0)
            return;
    }
    move_all(&m, from, j->out->data);
}

void cpu_transpose(const struct job *j)
{
    const struct array *a = j->in[0];
    const struct attr *perm = node_attr(j->node, "perm");
    struct mover m = {.element = dtype_bytes(a->dtype), .rank = a->rank};
    for (unsigned i = 0; i < a->rank; i++) {
        unsigned axis = perm && perm->kind == ATTR_INTS ? (unsigned)perm->ints[i] : a->rank - 1 - i;
        m.length[i] = a->shape[axis];
        m.from_step[i] = (int64_t)size_from(a, axis + 1);
        if (m.length[i] == 0)
            return;
    }
    move_all(&m, a->data, j->out->data);
}
