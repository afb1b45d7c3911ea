// Tensors about tensors: Shape, Size, Cast, Gather, Range, ConstantOfShape, Expand, Where. Any datatype unless
// said otherwise: whole elements.
#include "engine/cpu/broadcast.h"
#include "engine/cpu/cpu.h"

#include <math.h>

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

// ---- Cast --------------------------------------------------------------------------------------------

// Towards 0, to the nearest that the type has; what is not a number is 0.
static int64_t whole_of(double v, double least, double most)
{
    if (v != v)
        return 0;
    return v <= least ? (int64_t)least : v >= most ? (int64_t)most : (int64_t)v;
}

static int64_t whole_of_i64(double v)
{
    if (v >= 9223372036854775808.0) // the next double below is a number of 64 bits
        return INT64_MAX;
    return whole_of(v, -9223372036854775808.0, 9223372036854774784.0);
}

#define EACH_TO(T, U, expression)                                                                  \
    for (size_t i = 0; i < n; i++) {                                                               \
        T v = ((const T *)from)[i];                                                                \
        ((U *)to)[i] = (U)(expression);                                                            \
    }                                                                                              \
    return;

// From floats of T: whole numbers are held to what their type has.
#define CAST_FLOATS(name, T)                                                                       \
    static void name(const void *from, void *to, enum engine_dtype d, size_t n)                    \
    {                                                                                              \
        switch (d) {                                                                               \
        case ENGINE_F32:                                                                           \
            EACH_TO(T, float, v)                                                                   \
        case ENGINE_F64:                                                                           \
            EACH_TO(T, double, v)                                                                  \
        case ENGINE_I32:                                                                           \
            EACH_TO(T, int32_t, whole_of((double)v, INT32_MIN, INT32_MAX))                         \
        case ENGINE_I64:                                                                           \
            EACH_TO(T, int64_t, whole_of_i64((double)v))                                           \
        case ENGINE_U8:                                                                            \
            EACH_TO(T, uint8_t, whole_of((double)v, 0, UINT8_MAX))                                 \
        case ENGINE_I8:                                                                            \
            EACH_TO(T, int8_t, whole_of((double)v, INT8_MIN, INT8_MAX))                            \
        case ENGINE_BOOL:                                                                          \
            EACH_TO(T, uint8_t, v != 0)                                                            \
        case ENGINE_NONE:                                                                          \
            return;                                                                                \
        }                                                                                          \
    }

// From whole numbers of T, which wrap; W: `v` as it counts.
#define CAST_WHOLE(name, T, W)                                                                     \
    static void name(const void *from, void *to, enum engine_dtype d, size_t n)                    \
    {                                                                                              \
        switch (d) {                                                                               \
        case ENGINE_F32:                                                                           \
            EACH_TO(T, float, W)                                                                   \
        case ENGINE_F64:                                                                           \
            EACH_TO(T, double, W)                                                                  \
        case ENGINE_I32:                                                                           \
            EACH_TO(T, int32_t, W)                                                                 \
        case ENGINE_I64:                                                                           \
            EACH_TO(T, int64_t, W)                                                                 \
        case ENGINE_U8:                                                                            \
            EACH_TO(T, uint8_t, W)                                                                 \
        case ENGINE_I8:                                                                            \
            EACH_TO(T, int8_t, W)                                                                  \
        case ENGINE_BOOL:                                                                          \
            EACH_TO(T, uint8_t, v != 0)                                                            \
        case ENGINE_NONE:                                                                          \
            return;                                                                                \
        }                                                                                          \
    }

CAST_FLOATS(cast_f32, float)
CAST_FLOATS(cast_f64, double)
CAST_WHOLE(cast_i32, int32_t, v)
CAST_WHOLE(cast_i64, int64_t, v)
CAST_WHOLE(cast_u8, uint8_t, v)
CAST_WHOLE(cast_i8, int8_t, v)
CAST_WHOLE(cast_bool, uint8_t, v != 0)

void cpu_cast(const struct job *j)
{
    static void (*const by_dtype[])(const void *, void *, enum engine_dtype, size_t) = {
        [ENGINE_F32] = cast_f32,  [ENGINE_F64] = cast_f64, [ENGINE_I32] = cast_i32,
        [ENGINE_I64] = cast_i64,  [ENGINE_U8] = cast_u8,   [ENGINE_I8] = cast_i8,
        [ENGINE_BOOL] = cast_bool};
    size_t n = 0;
    if (array_count(j->out, &n))
        by_dtype[j->in[0]->dtype](j->in[0]->data, j->out->data, j->out->dtype, n);
}

// ---- Gather ------------------------------------------------------------------------------------------

static int64_t index_at(const struct array *a, size_t i)
{
    return a->dtype == ENGINE_I32 ? ((const int32_t *)a->data)[i] : ((const int64_t *)a->data)[i];
}

void cpu_gather(const struct job *j)
{
    const struct array *x = j->in[0], *at = j->in[1];
    unsigned axis = (unsigned)shape_axis(j, 0);
    size_t outer = 1, block = dtype_bytes(x->dtype), n = 0;
    int64_t dim = x->shape[axis];
    if (!array_count(at, &n))
        return;
    for (unsigned i = 0; i < axis; i++)
        outer *= (size_t)x->shape[i];
    for (unsigned i = axis + 1; i < x->rank; i++)
        block *= (size_t)x->shape[i];
    char *to = j->out->data;
    for (size_t o = 0; o < outer; o++) {
        const char *from = (const char *)x->data + o * (size_t)dim * block;
        for (size_t i = 0; i < n; i++, to += block) {
            int64_t k = index_at(at, i);
            k += k < 0 ? dim : 0;
            if (k < 0 || k >= dim) {
                *j->failure = "an index is out of range";
                return;
            }
            memcpy(to, from + (size_t)k * block, block);
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
COPY(copy_4, uint32_t)
COPY(copy_8, uint64_t)
CHOOSE(choose_1, uint8_t)
CHOOSE(choose_4, uint32_t)
CHOOSE(choose_8, uint64_t)

void cpu_expand(const struct job *j)
{
    size_t element = dtype_bytes(j->out->dtype);
    broadcast(j->out, j->in, 1, element == 8 ? copy_8 : element == 4 ? copy_4 : copy_1);
}

void cpu_where(const struct job *j)
{
    size_t element = dtype_bytes(j->out->dtype);
    broadcast(j->out, j->in, 3, element == 8 ? choose_8 : element == 4 ? choose_4 : choose_1);
}
