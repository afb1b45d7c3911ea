// What repeats or cuts: Pad, Tile, Split. Any datatype: whole elements.
#include "engine/cpu/cpu.h"

// Copies from x by the place in it of each place of the output, axis by axis; -1: the value.
struct mapped {
    const struct array *x, *y;
    const int64_t *at[ENGINE_MAX_RANK]; // [y->shape[i]]
    const void *value;
    size_t element, inner[ENGINE_MAX_RANK]; // elements of x behind each axis
};

static void fill(char *to, const void *value, size_t element, size_t n)
{
    for (size_t i = 0; i < n; i++)
        memcpy(to + i * element, value, element);
}

static size_t behind(const struct array *a, unsigned axis)
{
    size_t n = 1;
    for (unsigned i = axis; i < a->rank; i++)
        n *= (size_t)a->shape[i];
    return n;
}

// The last axis: runs of neighbours are copied as one.
static void map_row(const struct mapped *m, unsigned axis, const char *from, char *to)
{
    const int64_t *at = m->at[axis];
    size_t n = (size_t)m->y->shape[axis];
    for (size_t i = 0, run; i < n; i += run) {
        for (run = 1; at[i] >= 0 && i + run < n && at[i + run] == at[i] + (int64_t)run; run++)
            ;
        if (at[i] < 0)
            memcpy(to + i * m->element, m->value, m->element);
        else
            memcpy(to + i * m->element, from + (size_t)at[i] * m->element, run * m->element);
    }
}

static void map_axis(const struct mapped *m, unsigned axis, const char *from, char *to)
{
    size_t step = behind(m->y, axis + 1) * m->element;
    if (axis + 1 == m->x->rank) {
        map_row(m, axis, from, to);
        return;
    }
    for (int64_t i = 0; i < m->y->shape[axis]; i++, to += step) {
        int64_t k = m->at[axis][i];
        if (k < 0)
            fill(to, m->value, m->element, step / m->element);
        else
            map_axis(m, axis + 1, from + (size_t)k * m->inner[axis] * m->element, to);
    }
}

static void run_map(struct mapped *m)
{
    m->element = dtype_bytes(m->x->dtype);
    for (unsigned i = 0; i < m->x->rank; i++)
        m->inner[i] = behind(m->x, i + 1);
    if (m->x->rank == 0)
        memcpy(m->y->data, m->x->data, m->element);
    else
        map_axis(m, 0, m->x->data, m->y->data);
}

size_t cpu_map_scratch(const struct job *j)
{
    size_t n = 0;
    for (unsigned i = 0; i < j->out->rank; i++)
        n += (size_t)j->out->shape[i];
    return n * sizeof(int64_t);
}

// ---- Pad ---------------------------------------------------------------------------------------------

// Where place k of an axis of n elements is from, when it lies outside of it.
static int64_t outside(enum pad_mode mode, int64_t k, int64_t n)
{
    switch (mode) {
    case PAD_CONSTANT:
        return -1;
    case PAD_EDGE:
        return k < 0 ? 0 : n - 1;
    case PAD_REFLECT:
        return k < 0 ? -k : 2 * (n - 1) - k;
    case PAD_WRAP:
        return (k % n + n) % n;
    }
    return -1;
}

void cpu_pad(const struct job *j)
{
    struct padding p;
    struct engine_error e;
    if (!padding_of(j, &p, &e))
        return; // the plan has asked the same and was answered
    static const char zeros[8];
    const struct attr *attr = node_attr(j->node, "value");
    struct mapped m = {.x = j->in[0], .y = j->out, .value = zeros};
    if (p.value)
        m.value = p.value->data;
    else if (attr)
        m.value = &attr->f;
    int64_t *at = j->scratch;
    for (unsigned i = 0; i < m.x->rank; i++) {
        m.at[i] = at;
        for (int64_t k = 0; k < m.y->shape[i]; k++) {
            int64_t from = k - p.before[i], n = m.x->shape[i];
            *at++ = from >= 0 && from < n ? from : outside(p.mode, from, n);
        }
    }
    run_map(&m);
}

// ---- Tile --------------------------------------------------------------------------------------------

void cpu_tile(const struct job *j)
{
    struct mapped m = {.x = j->in[0], .y = j->out};
    int64_t *at = j->scratch;
    for (unsigned i = 0; i < m.x->rank; i++) {
        m.at[i] = at;
        for (int64_t k = 0; k < m.y->shape[i]; k++)
            *at++ = k % m.x->shape[i];
    }
    run_map(&m);
}

// ---- Split -------------------------------------------------------------------------------------------

void cpu_split(const struct job *j)
{
    const struct array *x = j->in[0];
    unsigned axis = (unsigned)shape_axis(j, 0);
    size_t element = dtype_bytes(x->dtype), row = behind(x, axis) * element, outer = 1, at = 0;
    for (unsigned i = 0; i < axis; i++)
        outer *= (size_t)x->shape[i];
    for (unsigned k = 0; k < j->node->n_outputs; k++) {
        const struct array *y = j->outs[k]; // NULL: nobody asks
        size_t part = (size_t)split_part(j, k) * behind(x, axis + 1) * element;
        for (size_t o = 0; y && part > 0 && o < outer; o++)
            memcpy((char *)y->data + o * part, (const char *)x->data + o * row + at, part);
        at += part;
    }
}
