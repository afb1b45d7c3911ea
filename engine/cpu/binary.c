// Element by element, in every datatype: two operands that are broadcast (arithmetic, comparisons, logic), Max
// and Min of any number, and Abs and Neg of one.
// Whole numbers wrap as two's complement does; divided by 0 they give 0.
#include "engine/cpu/broadcast.h"
#include "engine/cpu/cpu.h"

#include <math.h>

// A row of `T` to `U` by an expression of a and b; the loops differ so that each can be vectorised.
#define ROW(name, T, U, expression)                                                                \
    static void name(void *y_, const void *const *in, const size_t *step, size_t n)                \
    {                                                                                              \
        const T *pa = in[0], *pb = in[1];                                                          \
        U *y = y_;                                                                                 \
        if (step[0] && step[1]) {                                                                  \
            for (size_t i = 0; i < n; i++) {                                                       \
                T a = pa[i], b = pb[i];                                                            \
                (void)b;                                                                           \
                y[i] = (U)(expression);                                                            \
            }                                                                                      \
        } else if (step[0]) {                                                                      \
            T b = *pb;                                                                             \
            (void)b;                                                                               \
            for (size_t i = 0; i < n; i++) {                                                       \
                T a = pa[i];                                                                       \
                y[i] = (U)(expression);                                                            \
            }                                                                                      \
        } else {                                                                                   \
            T a = *pa;                                                                             \
            for (size_t i = 0; i < n; i++) {                                                       \
                T b = pb[i * step[1]];                                                             \
                (void)b;                                                                           \
                y[i] = (U)(expression);                                                            \
            }                                                                                      \
        }                                                                                          \
    }

struct rows { // of one op by datatype; NULL: the shape function refuses it
    broadcast_row *f32, *f64, *i32, *i64, *u8, *i8, *boolean;
};

// The same expression in floats, and one for whole numbers of `T`, whose unsigned kin is V.
#define NUMBERS(op, floats, whole)                                                                 \
    ROW(op##_f32, float, float, floats)                                                            \
    ROW(op##_f64, double, double, floats)                                                          \
    NUMBERS_WHOLE(op, whole)
#define NUMBERS_WHOLE(op, whole)                                                                   \
    ROW(op##_i32, int32_t, int32_t, whole(int32_t, uint32_t))                                      \
    ROW(op##_i64, int64_t, int64_t, whole(int64_t, uint64_t))                                      \
    ROW(op##_u8, uint8_t, uint8_t, whole(uint8_t, uint32_t))                                       \
    ROW(op##_i8, int8_t, int8_t, whole(int8_t, uint32_t))                                          \
    static const struct rows op = {.f32 = op##_f32,                                                \
                                   .f64 = op##_f64,                                                \
                                   .i32 = op##_i32,                                                \
                                   .i64 = op##_i64,                                                \
                                   .u8 = op##_u8,                                                  \
                                   .i8 = op##_i8};

#define WHOLE_ADD(T, V) (V) a + (V)b
#define WHOLE_SUB(T, V) (V) a - (V)b
#define WHOLE_MUL(T, V) (V) a *(V)b
#define WHOLE_DIV(T, V) b == 0 ? 0 : (V)b + 1 == 0 ? (T)(0 - (V)a) : a / b
#define WHOLE_MAX(T, V) a > b ? a : b
#define WHOLE_MIN(T, V) a < b ? a : b
#define WHOLE_ADD_RELU(T, V) (T)((V)a + (V)b) < 0 ? 0 : (T)((V)a + (V)b)

NUMBERS(add, a + b, WHOLE_ADD)
NUMBERS(sub, a - b, WHOLE_SUB)
NUMBERS(mul, a *b, WHOLE_MUL)
NUMBERS(div, a / b, WHOLE_DIV)
NUMBERS(max, a != a || a > b ? a : b, WHOLE_MAX) // what is not a number stays so
NUMBERS(min, a != a || a < b ? a : b, WHOLE_MIN)

// Of one operand, which stands as both.
#define WHOLE_NEG(T, V) 0 - (V)a
NUMBERS(neg, -a, WHOLE_NEG)
ROW(abs_f32, float, float, fabsf(a))
ROW(abs_f64, double, double, fabs(a))
ROW(abs_i32, int32_t, int32_t, a < 0 ? 0 - (uint32_t)a : (uint32_t)a)
ROW(abs_i64, int64_t, int64_t, a < 0 ? 0 - (uint64_t)a : (uint64_t)a)
ROW(abs_i8, int8_t, int8_t, a < 0 ? -a : a)
static const struct rows absolute = {.f32 = abs_f32,
                                     .f64 = abs_f64,
                                     .i32 = abs_i32,
                                     .i64 = abs_i64,
                                     .u8 = max_u8, // of it and itself
                                     .i8 = abs_i8};

ROW(add_relu_f32, float, float, a + b < 0 ? 0 : a + b)
ROW(add_relu_f64, double, double, a + b < 0 ? 0 : a + b)
ROW(add_relu_i32, int32_t, int32_t, WHOLE_ADD_RELU(int32_t, uint32_t))
ROW(add_relu_i64, int64_t, int64_t, WHOLE_ADD_RELU(int64_t, uint64_t))
ROW(add_relu_i8, int8_t, int8_t, WHOLE_ADD_RELU(int8_t, uint32_t))
static const struct rows add_relu = {.f32 = add_relu_f32,
                                     .f64 = add_relu_f64,
                                     .i32 = add_relu_i32,
                                     .i64 = add_relu_i64,
                                     .u8 = add_u8, // never below 0
                                     .i8 = add_relu_i8};

ROW(prelu_f32, float, float, a < 0 ? a * b : a)
ROW(prelu_f64, double, double, a < 0 ? a * b : a)
static const struct rows prelu = {.f32 = prelu_f32, .f64 = prelu_f64};

ROW(pow_f32, float, float, b == 2 ? a * a : powf(a, b))
ROW(pow_f64, double, double, pow(a, b))
static const struct rows power = {.f32 = pow_f32, .f64 = pow_f64};

#define COMPARE(op, expression)                                                                    \
    ROW(op##_f32, float, uint8_t, expression)                                                      \
    ROW(op##_f64, double, uint8_t, expression)                                                     \
    ROW(op##_i32, int32_t, uint8_t, expression)                                                    \
    ROW(op##_i64, int64_t, uint8_t, expression)                                                    \
    ROW(op##_u8, uint8_t, uint8_t, expression)                                                     \
    ROW(op##_i8, int8_t, uint8_t, expression)                                                      \
    ROW(op##_bool, uint8_t, uint8_t, expression)                                                   \
    static const struct rows op = {.f32 = op##_f32,                                                \
                                   .f64 = op##_f64,                                                \
                                   .i32 = op##_i32,                                                \
                                   .i64 = op##_i64,                                                \
                                   .u8 = op##_u8,                                                  \
                                   .i8 = op##_i8,                                                  \
                                   .boolean = op##_bool};

COMPARE(equal, a == b)
COMPARE(less, a < b)
COMPARE(less_or_equal, a <= b)
COMPARE(greater, a > b)
COMPARE(greater_or_equal, a >= b)

ROW(and_bool, uint8_t, uint8_t, a &&b)
ROW(or_bool, uint8_t, uint8_t, a || b)
ROW(xor_bool, uint8_t, uint8_t, !a != !b)
static const struct rows both = {.boolean = and_bool}, either = {.boolean = or_bool},
                         one_of = {.boolean = xor_bool};

static broadcast_row *row_for(const struct rows *r, enum engine_dtype d)
{
    broadcast_row *const by_dtype[] = {
        [ENGINE_F32] = r->f32,     [ENGINE_F64] = r->f64, [ENGINE_I32] = r->i32,
        [ENGINE_I64] = r->i64,     [ENGINE_U8] = r->u8,   [ENGINE_I8] = r->i8,
        [ENGINE_BOOL] = r->boolean};
    return by_dtype[d];
}

static void binary_run(const struct job *j, const struct rows *r)
{
    broadcast(j->out, j->in, 2, row_for(r, j->in[0]->dtype));
}

void cpu_add(const struct job *j)
{
    binary_run(j, j->node->relu ? &add_relu : &add);
}

#define BINARY(name, rows)                                                                         \
    void name(const struct job *j)                                                                 \
    {                                                                                              \
        binary_run(j, rows);                                                                       \
    }

BINARY(cpu_sub, &sub)
BINARY(cpu_mul, &mul)
BINARY(cpu_div, &div)
BINARY(cpu_pow, &power)
BINARY(cpu_prelu, &prelu)
BINARY(cpu_equal, &equal)
BINARY(cpu_less, &less)
BINARY(cpu_less_or_equal, &less_or_equal)
BINARY(cpu_greater, &greater)
BINARY(cpu_greater_or_equal, &greater_or_equal)
BINARY(cpu_and, &both)
BINARY(cpu_or, &either)
BINARY(cpu_xor, &one_of)

static void unary_run(const struct job *j, const struct rows *r)
{
    const struct array *in[2] = {j->in[0], j->in[0]};
    broadcast(j->out, in, 2, row_for(r, j->in[0]->dtype));
}

void cpu_abs(const struct job *j)
{
    unary_run(j, &absolute);
}

void cpu_neg(const struct job *j)
{
    unary_run(j, &neg);
}

// The first with the second, what comes out with the third, and so on.
static void several_run(const struct job *j, const struct rows *r)
{
    const struct array *in[2] = {j->in[0], j->in[j->node->n_inputs > 1 ? 1 : 0]};
    broadcast_row *row = row_for(r, j->out->dtype);
    broadcast(j->out, in, 2, row);
    for (unsigned i = 2; i < j->node->n_inputs; i++) {
        in[0] = j->out;
        in[1] = j->in[i];
        broadcast(j->out, in, 2, row);
    }
}

void cpu_max(const struct job *j)
{
    several_run(j, &max);
}

void cpu_min(const struct job *j)
{
    several_run(j, &min);
}
