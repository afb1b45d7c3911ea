// Tensors about tensors: Shape, Size, Gather, Range, ConstantOfShape, Expand, Where. Any datatype unless
// said otherwise: whole elements.
#include "engine/cpu/broadcast.h"
#include "engine/cpu/cpu.h"

void cpu_shape(const struct job *j)
{
    int64_t first, n = j->out->shape[0];
    shape_range(j, &first);
    for (int64_t i = 0; i < n; i++)
        ((int64_t *)j->out->data)[i] = j->in[0]->shape[first + i];
}

void cpu_size(const struct job *j)
{
    size_t n = 0;
    if (array_count(j->in[0], &n))
        *(int64_t *)j->out->data = (int64_t)n;
}

// ---- Gather ------------------------------------------------------------------------------------------

void cpu_gather(const struct job *j)
{
    const struct array *x = j->in[0], *at = j->in[1];
    unsigned axis = (unsigned)shape_axis(j, 0);
    size_t outer = count_between(x, 0, axis), n = count_all(at),
           block = dtype_bytes(x->dtype) * count_from(x, axis + 1);
    int64_t dim = x->shape[axis];
    char *to = j->out->data;
    for (size_t o = 0; o < outer; o++) {
        const char *from = (const char *)x->data + o * (size_t)dim * block;
        for (size_t i = 0; i < n; i++, to += block) {
            int64_t k = integer_at(at, i);
            k += k < 0 ? dim : 0;
            if (k < 0 || k >= dim) {
                *j->failure = "an index is out of range";
                return;
            }
            memcpy(to, from + (size_t)k * block, block);
        }
    }
}

// ---- Equal, Cast, MatMul -----------------------------------------------------------------------------

// Which of n places the number is; n: none.
#define PLACE(T)                                                                                   \
    {                                                                                              \
        T v = ((const T *)x->data)[i];                                                             \
        size_t k = v >= 0 && v < (T)n ? (size_t)v : n;                                             \
        return k < n && (T)k == v ? k : n;                                                         \
    }

static size_t place_of(const struct array *x, size_t i, size_t n)
{
    if (x->dtype == ENGINE_F32)
        PLACE(float)
    if (x->dtype == ENGINE_I32)
        PLACE(int32_t)
    PLACE(int64_t)
}

// One number a row of the answer, or one for each of the table's rows, of which those are added up that are there.
void cpu_lookup(const struct job *j)
{
    const struct array *x = j->in[0], *table = j->in[2];
    size_t n = (size_t)table->shape[0], columns = (size_t)table->shape[1];
    size_t each = x->rank > 0 && x->shape[x->rank - 1] > 1 ? n : 1, rows = count_all(x) / each;
    float *y = j->out->data;
    const float *from = table->data;
    for (size_t r = 0; r < rows; r++, y += columns) {
        size_t at = each == 1 ? place_of(x, r, n) : n;
        if (at < n) {
            memcpy(y, from + at * columns, columns * sizeof(*y));
            continue;
        }
        memset(y, 0, columns * sizeof(*y));
        for (size_t k = 0; each > 1 && k < n; k++) {
            if (place_of(x, r * n + k, n) != k)
                continue;
            for (size_t c = 0; c < columns; c++)
                y[c] += from[k * columns + c];
        }
    }
}

// ---- made from little --------------------------------------------------------------------------------

void cpu_range(const struct job *j)
{
    size_t n = (size_t)j->out->shape[0];
    const void *start = j->in[0]->data, *step = j->in[2]->data;
    for (size_t i = 0; i < n; i++) {
        if (j->out->dtype == ENGINE_F32)
            ((float *)j->out->data)[i] = *(const float *)start + (float)i * *(const float *)step;
        else if (j->out->dtype == ENGINE_F64)
            ((double *)j->out->data)[i] =
                *(const double *)start + (double)i * *(const double *)step;
        else if (j->out->dtype == ENGINE_I32)
            ((int32_t *)j->out->data)[i] =
                (int32_t)(*(const uint32_t *)start + (uint32_t)i * *(const uint32_t *)step);
        else
            ((int64_t *)j->out->data)[i] =
                (int64_t)(*(const uint64_t *)start + (uint64_t)i * *(const uint64_t *)step);
    }
}

static void repeat_element(void *y, const void *from, size_t element, size_t n)
{
    for (size_t i = 0; i < n; i++)
        memcpy((char *)y + i * element, from, element);
}

void cpu_constant_of_shape(const struct job *j)
{
    const struct attr *value = node_attr(j->node, "value");
    size_t n = 0;
    if (!array_count(j->out, &n))
        return;
    if (value)
        repeat_element(j->out->data, value->tensor.data, dtype_bytes(j->out->dtype), n);
    else
        memset(j->out->data, 0, n * sizeof(float));
}

// A row of elements of T: copied, or one of them again and again.
#define COPY(name, T)                                                                              \
    static void name(void *y_, const void *const *in, const size_t *step, size_t n)                \
    {                                                                                              \
        const T *x = in[0];                                                                        \
        T *y = y_;                                                                                 \
        for (size_t i = 0; i < n; i++)                                                             \
            y[i] = x[i * step[0]];                                                                 \
    }
#define CHOOSE(name, T)                                                                            \
    static void name(void *y_, const void *const *in, const size_t *step, size_t n)                \
    {                                                                                              \
        const uint8_t *c = in[0];                                                                  \
        const T *a = in[1], *b = in[2];                                                            \
        T *y = y_;                                                                                 \
        for (size_t i = 0; i < n; i++)                                                             \
            y[i] = c[i * step[0]] ? a[i * step[1]] : b[i * step[2]];                               \
    }

COPY(copy_1, uint8_t)
COPY(copy_2, uint16_t)
COPY(copy_4, uint32_t)
COPY(copy_8, uint64_t)
COPY(copy_16, struct view)
CHOOSE(choose_16, struct view)
CHOOSE(choose_1, uint8_t)
CHOOSE(choose_2, uint16_t)
CHOOSE(choose_4, uint32_t)
CHOOSE(choose_8, uint64_t)

void cpu_expand(const struct job *j)
{
    broadcast_row *const by_size[] = {
        [1] = copy_1, [2] = copy_2, [4] = copy_4, [8] = copy_8, [sizeof(struct view)] = copy_16};
    broadcast(j->out, j->in, 1, by_size[dtype_bytes(j->out->dtype)]);
}

void cpu_where(const struct job *j)
{
    broadcast_row *const by_size[] = {[1] = choose_1,
                                      [2] = choose_2,
                                      [4] = choose_4,
                                      [8] = choose_8,
                                      [sizeof(struct view)] = choose_16};
    broadcast(j->out, j->in, 3, by_size[dtype_bytes(j->out->dtype)]);
}
