// Cast, and what stands at ports of 16-bit floats: from every datatype to every other.
#include "engine/cpu/cpu.h"
#include "engine/small.h"

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

static uint64_t whole_of_u64(double v)
{
    if (v >= 18446744073709551616.0)
        return UINT64_MAX;
    return v > 0 ? (uint64_t)v : 0;
}

#define EACH_TO(T, U, expression)                                                                  \
    for (size_t i = 0; i < n; i++) {                                                               \
        T v = ((const T *)from)[i];                                                                \
        ((U *)to)[i] = (U)(expression);                                                            \
    }                                                                                              \
    return;

#define CAST(name, T, i8, i16, i32, i64, u8, u16, u32, u64)                                        \
    static void name(const void *from, void *to, enum engine_dtype d, size_t n)                    \
    {                                                                                              \
        switch (d) {                                                                               \
        case ENGINE_F32:                                                                           \
            EACH_TO(T, float, v)                                                                   \
        case ENGINE_F64:                                                                           \
            EACH_TO(T, double, v)                                                                  \
        case ENGINE_I8:                                                                            \
            EACH_TO(T, int8_t, i8)                                                                 \
        case ENGINE_I16:                                                                           \
            EACH_TO(T, int16_t, i16)                                                               \
        case ENGINE_I32:                                                                           \
            EACH_TO(T, int32_t, i32)                                                               \
        case ENGINE_I64:                                                                           \
            EACH_TO(T, int64_t, i64)                                                               \
        case ENGINE_U8:                                                                            \
            EACH_TO(T, uint8_t, u8)                                                                \
        case ENGINE_U16:                                                                           \
            EACH_TO(T, uint16_t, u16)                                                              \
        case ENGINE_U32:                                                                           \
            EACH_TO(T, uint32_t, u32)                                                              \
        case ENGINE_U64:                                                                           \
            EACH_TO(T, uint64_t, u64)                                                              \
        case ENGINE_BOOL:                                                                          \
            EACH_TO(T, uint8_t, v != 0)                                                            \
        case ENGINE_F16:                                                                           \
        case ENGINE_BF16:                                                                          \
            EACH_TO(T, uint16_t, half_of_float(d, (float)v))                                       \
        default:                                                                                   \
            return;                                                                                \
        }                                                                                          \
    }

// From floats of T: whole numbers are held to what their type has.
#define CAST_FLOATS(name, T)                                                                       \
    CAST(name, T, whole_of((double)v, INT8_MIN, INT8_MAX),                                         \
         whole_of((double)v, INT16_MIN, INT16_MAX), whole_of((double)v, INT32_MIN, INT32_MAX),     \
         whole_of_i64((double)v), whole_of((double)v, 0, UINT8_MAX),                               \
         whole_of((double)v, 0, UINT16_MAX), whole_of((double)v, 0, UINT32_MAX),                   \
         whole_of_u64((double)v))
// From whole numbers of T, which wrap.
#define CAST_WHOLE(name, T) CAST(name, T, v, v, v, v, v, v, v, v)

CAST_FLOATS(cast_f32, float)
CAST_FLOATS(cast_f64, double)
CAST_WHOLE(cast_i8, int8_t)
CAST_WHOLE(cast_i16, int16_t)
CAST_WHOLE(cast_i32, int32_t)
CAST_WHOLE(cast_i64, int64_t)
CAST_WHOLE(cast_u8, uint8_t)
CAST_WHOLE(cast_u16, uint16_t)
CAST_WHOLE(cast_u32, uint32_t)
CAST_WHOLE(cast_u64, uint64_t)

static void widen(const struct array *x, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = float_of_half(x->dtype, ((const uint16_t *)x->data)[i]);
}

// Float32 that stands for 16-bit floats: as those would be.
static void round_to(enum engine_dtype d, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = float_of_half(d, half_of_float(d, y[i]));
}

static void (*const by_dtype[])(const void *, void *, enum engine_dtype, size_t) = {
    [ENGINE_F32] = cast_f32, [ENGINE_F64] = cast_f64, [ENGINE_I32] = cast_i32,
    [ENGINE_I64] = cast_i64, [ENGINE_U8] = cast_u8,   [ENGINE_I8] = cast_i8,
    [ENGINE_BOOL] = cast_u8, [ENGINE_U16] = cast_u16, [ENGINE_I16] = cast_i16,
    [ENGINE_U32] = cast_u32, [ENGINE_U64] = cast_u64};

// A whole number beyond what its type has keeps its low bits, as the standard's own numbers do.
static uint8_t small_of(enum engine_dtype d, double v, struct small_rounding r)
{
    return dtype_is_small_float(d) ? small_of_float(d, v, r)
                                   : small_of_whole(d, (uint64_t)whole_of_i64(v));
}

enum { PIECE = 64 };

// Whole numbers to fewer bits: the low ones.
static void cut_whole(const struct array *x, struct array *y, size_t n)
{
    uint64_t piece[PIECE];
    for (size_t at = 0, k; at < n; at += k) {
        k = n - at < PIECE ? n - at : PIECE;
        by_dtype[x->dtype]((const char *)x->data + at * dtype_bytes(x->dtype), piece, ENGINE_U64,
                           k);
        for (size_t i = 0; i < k; i++)
            ((uint8_t *)y->data)[at + i] = small_of_whole(y->dtype, piece[i]);
    }
}

// From or to small numbers: by way of doubles, which have all that floats and 32 bits can say.
static void cast_small(const struct array *x, struct array *y, struct small_rounding r, size_t n)
{
    double piece[PIECE];
    size_t from = dtype_bytes(x->dtype), to = dtype_bytes(y->dtype);
    bool whole = x->dtype != ENGINE_F32 && x->dtype != ENGINE_F64 && !dtype_is_small(x->dtype);
    if (whole && !dtype_is_small_float(y->dtype)) {
        cut_whole(x, y, n);
        return;
    }
    for (size_t at = 0, k; at < n; at += k) {
        const char *in = (const char *)x->data + at * from;
        char *out = (char *)y->data + at * to;
        k = n - at < PIECE ? n - at : PIECE;
        if (!dtype_is_small(x->dtype))
            by_dtype[x->dtype](in, piece, ENGINE_F64, k);
        for (size_t i = 0; i < k && dtype_is_small(x->dtype); i++)
            piece[i] = small_value(x->dtype, (uint8_t)in[i]);
        if (!dtype_is_small(y->dtype))
            cast_f64(piece, out, y->dtype, k);
        for (size_t i = 0; i < k && dtype_is_small(y->dtype); i++)
            out[i] = (char)small_of(y->dtype, piece[i], r);
    }
}

void cpu_cast(const struct job *j)
{
    struct small_rounding r;
    const struct array *x = j->in[0];
    enum engine_dtype asked = cast_target(j);
    size_t n = 0;
    if (!array_count(j->out, &n))
        return;
    if (x->dtype == ENGINE_STRING || j->out->dtype == ENGINE_STRING)
        cpu_cast_text(j, n);
    else if (dtype_is_small(x->dtype) || dtype_is_small(j->out->dtype))
        cast_small(x, j->out, (small_rounding_of(j->node, &r), r), n);
    else if (x->dtype == ENGINE_F16 || x->dtype == ENGINE_BF16)
        widen(x, j->out->data, n); // to float32: at a port
    else
        by_dtype[x->dtype](x->data, j->out->data, j->out->dtype, n);
    if (asked != j->out->dtype)
        round_to(asked, j->out->data, n);
}

// A client's bytes may be beyond what the model's numbers hold.
void cpu_small_port(const struct job *j)
{
    enum engine_dtype d = j->out->dtype;
    const uint8_t *from = j->in[0]->data;
    size_t n = 0;
    if (!array_count(j->out, &n))
        return;
    for (size_t i = 0; i < n; i++) {
        if (dtype_is_small(d) && !small_holds(d, from[i])) {
            *j->failure = "a number is beyond what its 4 or 2 bits hold";
            return;
        }
        ((uint8_t *)j->out->data)[i] = from[i];
    }
}
