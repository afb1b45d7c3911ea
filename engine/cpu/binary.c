// Element by element, in every datatype: two operands that are broadcast (arithmetic, comparisons, logic, bits),
// Max, Min, Sum and Mean of any number, and Abs, Neg, Sign and BitwiseNot of one.
// Whole numbers wrap as two's complement does; divided by 0 they give 0.
#include "engine/cpu/broadcast.h"
#include "engine/cpu/cpu.h"

#include <math.h>

// What is written for signed numbers serves the others too.
#pragma GCC diagnostic ignored "-Wtype-limits"

// A row of `T` to `U` by an expression of a and b; the loops differ so that each can be vectorised.
#define ROW(name, T, U, expression)                                                                \
    static void name(void *y_, const void *const *in, const size_t *step, size_t n)                \
    {                                                                                              \
        const T *pa = in[0], *pb = in[1];                                                          \
        U *y = y_;                                                                                 \
        if (step[0] && step[1]) {                                                                  \
            EACH_BY_ITSELF                                                                         \
            for (size_t i = 0; i < n; i++) {                                                       \
                T a = pa[i], b = pb[i];                                                            \
                (void)b;                                                                           \
                y[i] = (U)(expression);                                                            \
            }                                                                                      \
        } else if (step[0]) {                                                                      \
            T b = *pb;                                                                             \
            (void)b;                                                                               \
            EACH_BY_ITSELF                                                                         \
            for (size_t i = 0; i < n; i++) {                                                       \
                T a = pa[i];                                                                       \
                y[i] = (U)(expression);                                                            \
            }                                                                                      \
        } else if (step[1]) {                                                                      \
            T a = *pa;                                                                             \
            EACH_BY_ITSELF                                                                         \
            for (size_t i = 0; i < n; i++) {                                                       \
                T b = pb[i];                                                                       \
                (void)b;                                                                           \
                y[i] = (U)(expression);                                                            \
            }                                                                                      \
        } else {                                                                                   \
            T a = *pa, b = *pb;                                                                    \
            EACH_BY_ITSELF                                                                         \
            for (size_t i = 0; i < n; i++) {                                                       \
                (void)b;                                                                           \
                y[i] = (U)(expression);                                                            \
            }                                                                                      \
        }                                                                                          \
    }

struct rows { // of one op by datatype; NULL: the shape function refuses it
    broadcast_row *of[ENGINE_DTYPES];
};

// One expression for each whole datatype T, whose unsigned kin for sums and products is V.
#define WHOLE_ROWS(op, whole)                                                                      \
    ROW(op##_i8, int8_t, int8_t, whole(int8_t, uint32_t))                                          \
    ROW(op##_i16, int16_t, int16_t, whole(int16_t, uint32_t))                                      \
    ROW(op##_i32, int32_t, int32_t, whole(int32_t, uint32_t))                                      \
    ROW(op##_i64, int64_t, int64_t, whole(int64_t, uint64_t))                                      \
    ROW(op##_u8, uint8_t, uint8_t, whole(uint8_t, uint32_t))                                       \
    ROW(op##_u16, uint16_t, uint16_t, whole(uint16_t, uint32_t))                                   \
    ROW(op##_u32, uint32_t, uint32_t, whole(uint32_t, uint32_t))                                   \
    ROW(op##_u64, uint64_t, uint64_t, whole(uint64_t, uint64_t))
#define WHOLE_TABLE(op)                                                                            \
    [ENGINE_I8] = op##_i8, [ENGINE_I16] = op##_i16, [ENGINE_I32] = op##_i32,                       \
    [ENGINE_I64] = op##_i64, [ENGINE_U8] = op##_u8, [ENGINE_U16] = op##_u16,                       \
    [ENGINE_U32] = op##_u32, [ENGINE_U64] = op##_u64
#define NUMBERS(op, floats, whole)                                                                 \
    ROW(op##_f32, float, float, floats)                                                            \
    ROW(op##_f64, double, double, floats)                                                          \
    WHOLE_ROWS(op, whole)                                                                          \
    static const struct rows op = {                                                                \
        {[ENGINE_F32] = op##_f32, [ENGINE_F64] = op##_f64, WHOLE_TABLE(op)}};
#define WHOLE(op, whole)                                                                           \
    WHOLE_ROWS(op, whole)                                                                          \
    static const struct rows op = {{WHOLE_TABLE(op)}};

#define WHOLE_ADD(T, V) (V) a + (V)b
#define WHOLE_SUB(T, V) (V) a - (V)b
#define WHOLE_MUL(T, V) (V) a *(V)b
#define WHOLE_DIV(T, V) b == 0 ? 0 : (V)b + 1 == 0 && (T)-1 < 0 ? (T)(0 - (V)a) : a / b
#define WHOLE_MAX(T, V) a > b ? a : b
#define WHOLE_MIN(T, V) a < b ? a : b
#define WHOLE_ADD_RELU(T, V) (T)((V)a + (V)b) < 0 ? 0 : (T)((V)a + (V)b)
// What is left has the sign of what it was divided by, or (fmod) of what was divided.
#define WHOLE_REST(T, V) b == 0 || ((V)b + 1 == 0 && (T)-1 < 0) ? 0 : a % b
#define WHOLE_MOD(T, V)                                                                            \
    b == 0 || ((V)b + 1 == 0 && (T)-1 < 0) ? 0                                                     \
    : a % b != 0 && (a % b < 0) != (b < 0) ? a % b + b                                             \
                                           : a % b

NUMBERS(add, a + b, WHOLE_ADD)
NUMBERS(sub, a - b, WHOLE_SUB)
NUMBERS(mul, a *b, WHOLE_MUL)
NUMBERS(div, a / b, WHOLE_DIV)
NUMBERS(max, a != a || a > b ? a : b, WHOLE_MAX) // what is not a number stays so
NUMBERS(min, a != a || a < b ? a : b, WHOLE_MIN)
NUMBERS(add_relu, a + b < 0 ? 0 : a + b, WHOLE_ADD_RELU)
NUMBERS(modulo_as_c, sizeof(a) == 4 ? fmodf((float)a, (float)b) : fmod(a, b), WHOLE_REST)

#define BITS_AND(T, V) a &b
#define BITS_OR(T, V) a | b
#define BITS_XOR(T, V) a ^ b
#define BITS_NOT(T, V) ~(V)a
#define BITS_LEFT(T, V) b < 0 || (V)b >= 8 * sizeof(T) ? 0 : (V)a << b
#define BITS_RIGHT(T, V) b < 0 || (V)b >= 8 * sizeof(T) ? (T)(a < 0 ? -1 : 0) : a >> b
WHOLE(modulo, WHOLE_MOD)
WHOLE(bits_and, BITS_AND)
WHOLE(bits_or, BITS_OR)
WHOLE(bits_xor, BITS_XOR)
WHOLE(bits_not, BITS_NOT)
WHOLE(bits_left, BITS_LEFT)
WHOLE(bits_right, BITS_RIGHT)

// Of one operand, which stands as both.
#define WHOLE_NEG(T, V) 0 - (V)a
#define WHOLE_ABS(T, V) a < 0 ? 0 - (V)a : (V)a
#define WHOLE_SIGN(T, V) (a > 0) - (a < 0)
#define WHOLE_RELU(T, V) a < 0 ? 0 : a
NUMBERS(neg, -a, WHOLE_NEG)
NUMBERS(absolute, sizeof(a) == 4 ? fabsf((float)a) : fabs(a), WHOLE_ABS)
NUMBERS(sign, a > 0 ? 1 : a < 0 ? -1 : a, WHOLE_SIGN)
NUMBERS(rectify, a < 0 ? 0 : a, WHOLE_RELU) // what is not a number stays so

#define WHOLE_PRELU(T, V) a < 0 ? (T)((V)a * (V)b) : a
NUMBERS(prelu, a < 0 ? a * b : a, WHOLE_PRELU)

#define COMPARE(op, expression)                                                                    \
    ROW(op##_f32, float, uint8_t, expression)                                                      \
    ROW(op##_f64, double, uint8_t, expression)                                                     \
    ROW(op##_i8, int8_t, uint8_t, expression)                                                      \
    ROW(op##_i16, int16_t, uint8_t, expression)                                                    \
    ROW(op##_i32, int32_t, uint8_t, expression)                                                    \
    ROW(op##_i64, int64_t, uint8_t, expression)                                                    \
    ROW(op##_u8, uint8_t, uint8_t, expression)                                                     \
    ROW(op##_u16, uint16_t, uint8_t, expression)                                                   \
    ROW(op##_u32, uint32_t, uint8_t, expression)                                                   \
    ROW(op##_u64, uint64_t, uint8_t, expression)                                                   \
    static const struct rows op = {{[ENGINE_F32] = op##_f32,                                       \
                                    [ENGINE_F64] = op##_f64,                                       \
                                    [ENGINE_BOOL] = op##_u8, /* 0 and 1 */                         \
                                    WHOLE_TABLE(op)}};

ROW(equal_string, struct view, uint8_t, view_eq(a, b))
COMPARE(equal, a == b)
COMPARE(less, a < b)
COMPARE(less_or_equal, a <= b)
COMPARE(greater, a > b)
COMPARE(greater_or_equal, a >= b)

ROW(and_bool, uint8_t, uint8_t, a &&b)
ROW(or_bool, uint8_t, uint8_t, a || b)
ROW(xor_bool, uint8_t, uint8_t, !a != !b)
static const struct rows both = {{[ENGINE_BOOL] = and_bool}}, either = {{[ENGINE_BOOL] = or_bool}},
                         one_of = {{[ENGINE_BOOL] = xor_bool}};

static void binary_run(const struct job *j, const struct rows *r)
{
    broadcast(j->out, j->in, 2, r->of[j->in[0]->dtype]);
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
void cpu_equal(const struct job *j)
{
    if (j->in[0]->dtype == ENGINE_STRING)
        broadcast(j->out, j->in, 2, equal_string);
    else
        binary_run(j, &equal);
}

BINARY(cpu_less, &less)
BINARY(cpu_less_or_equal, &less_or_equal)
BINARY(cpu_greater, &greater)
BINARY(cpu_greater_or_equal, &greater_or_equal)
BINARY(cpu_and, &both)
BINARY(cpu_or, &either)
BINARY(cpu_xor, &one_of)
BINARY(cpu_bitwise_and, &bits_and)
BINARY(cpu_bitwise_or, &bits_or)
BINARY(cpu_bitwise_xor, &bits_xor)
BINARY(cpu_mod, node_int(j->node, "fmod", 0) != 0 ? &modulo_as_c : &modulo)

// Before opset 7 the slope was one a channel.
void cpu_prelu(const struct job *j)
{
    struct array slope = *j->in[1];
    const struct array *in[2] = {j->in[0], &slope};
    if (j->node->opset < 7 && slope.rank == 1 && j->in[0]->rank > 2 &&
        slope.shape[0] == j->in[0]->shape[1]) {
        for (unsigned i = 1; i + 1 < j->in[0]->rank; i++)
            slope.shape[slope.rank++] = 1;
    }
    broadcast(j->out, in, 2, prelu.of[j->in[0]->dtype]);
}

void cpu_bit_shift(const struct job *j)
{
    const struct attr *where = node_attr(j->node, "direction");
    binary_run(j, where && view_is(where->s, "LEFT") ? &bits_left : &bits_right);
}

#define UNARY(name, rows)                                                                          \
    void name(const struct job *j)                                                                 \
    {                                                                                              \
        const struct array *in[2] = {j->in[0], j->in[0]};                                          \
        broadcast(j->out, in, 2, (rows)->of[j->in[0]->dtype]);                                     \
    }

UNARY(cpu_abs, &absolute)
UNARY(cpu_neg, &neg)
UNARY(cpu_sign, &sign)
UNARY(cpu_relu, &rectify)
UNARY(cpu_bitwise_not, &bits_not)

// ---- of any number -----------------------------------------------------------------------------------

// The first with the second, what comes out with the third, and so on. One alone is taken with itself by
// `alone`, which leaves it as it is.
static void several_run(const struct job *j, const struct rows *r, const struct rows *alone)
{
    bool one = j->node->n_inputs == 1;
    const struct array *in[2] = {j->in[0], j->in[one ? 0 : 1]};
    broadcast(j->out, in, 2, (one ? alone : r)->of[j->out->dtype]);
    for (unsigned i = 2; i < j->node->n_inputs; i++) {
        in[0] = j->out;
        in[1] = j->in[i];
        broadcast(j->out, in, 2, r->of[j->out->dtype]);
    }
}

void cpu_max(const struct job *j)
{
    several_run(j, &max, &max);
}

void cpu_min(const struct job *j)
{
    several_run(j, &min, &min);
}

void cpu_sum(const struct job *j)
{
    several_run(j, &add, &max);
}

void cpu_mean(const struct job *j)
{
    size_t n = 0;
    several_run(j, &add, &max);
    if (!array_count(j->out, &n))
        return;
    for (size_t i = 0; i < n; i++) {
        if (j->out->dtype == ENGINE_F32)
            ((float *)j->out->data)[i] /= (float)j->node->n_inputs;
        else
            ((double *)j->out->data)[i] /= j->node->n_inputs;
    }
}

// ---- Clip --------------------------------------------------------------------------------------------

// Float32, whose bounds are numbers or left out: one pass.
static void clip_f32(const struct job *j, float low, float high)
{
    const float *x = j->in[0]->data;
    float *y = j->out->data;
    size_t n = 0;
    if (!array_count(j->out, &n))
        return;
    EACH_BY_ITSELF
    for (size_t i = 0; i < n; i++) {
        float v = x[i] < low ? low : x[i];
        y[i] = v > high ? high : v; // which counts where they cross
    }
}

void cpu_clip(const struct job *j)
{
    const struct array *low = job_input(j, 1), *high = job_input(j, 2);
    if (j->out->dtype == ENGINE_F32) {
        clip_f32(j, low ? *(const float *)low->data : node_float(j->node, "min", -INFINITY),
                 high ? *(const float *)high->data : node_float(j->node, "max", INFINITY));
        return;
    }
    const struct array *in[2] = {j->in[0], low ? low : j->in[0]};
    broadcast(j->out, in, 2, max.of[j->out->dtype]);
    in[0] = j->out;
    in[1] = high ? high : j->out;
    broadcast(j->out, in, 2, min.of[j->out->dtype]);
}

// ---- Pow: two datatypes ------------------------------------------------------------------------------

ROW(pow_f32, float, float, b == 2 ? a * a : powf(a, b))
ROW(pow_f64, double, double, pow(a, b))

// By squaring; below 0 it is 1 over a number: 0, but for 1 and -1.
static uint64_t whole_power(int64_t base, int64_t exponent)
{
    uint64_t result = 1, square = (uint64_t)base;
    if (exponent < 0)
        return base == 1 ? 1 : base == -1 ? (exponent % 2 ? UINT64_MAX : 1) : 0;
    for (; exponent > 0; exponent >>= 1, square *= square)
        result *= exponent & 1 ? square : 1;
    return result;
}

// A row with the operands' datatypes T and U; both whole, or computed in float64.
#define POWER(name, T, U, expression)                                                              \
    static void name(void *y_, const void *const *in, const size_t *step, size_t n)                \
    {                                                                                              \
        const T *pa = in[0];                                                                       \
        const U *pb = in[1];                                                                       \
        T *y = y_;                                                                                 \
        for (size_t i = 0; i < n; i++) {                                                           \
            T a = pa[i * step[0]];                                                                 \
            U b = pb[i * step[1]];                                                                 \
            y[i] = (T)(expression);                                                                \
        }                                                                                          \
    }
#define POWERS(T, t)                                                                               \
    POWER(pow_##t##_f32, T, float, pow((double)a, (double)b))                                      \
    POWER(pow_##t##_f64, T, double, pow((double)a, b))                                             \
    POWER(pow_##t##_i32, T, int32_t, whole_power((int64_t)a, b))                                   \
    POWER(pow_##t##_i64, T, int64_t, whole_power((int64_t)a, b))

POWERS(int32_t, i32)
POWERS(int64_t, i64)
POWER(pow_f32_f64, float, double, pow((double)a, b))
POWER(pow_f64_f32, double, float, pow(a, (double)b))
#define POWER_OF_WHOLE(t, T)                                                                       \
    POWER(pow_f32_##t, float, T, pow((double)a, (double)b))                                        \
    POWER(pow_f64_##t, double, T, pow(a, (double)b))
POWER_OF_WHOLE(i8, int8_t)
POWER_OF_WHOLE(i16, int16_t)
POWER_OF_WHOLE(i32, int32_t)
POWER_OF_WHOLE(i64, int64_t)
POWER_OF_WHOLE(u8, uint8_t)
POWER_OF_WHOLE(u16, uint16_t)
POWER_OF_WHOLE(u32, uint32_t)
POWER_OF_WHOLE(u64, uint64_t)

void cpu_pow(const struct job *j)
{
    static broadcast_row *const by_dtypes[ENGINE_DTYPES][ENGINE_DTYPES] = {
        [ENGINE_F32] = {[ENGINE_F32] = pow_f32, [ENGINE_F64] = pow_f32_f64, WHOLE_TABLE(pow_f32)},
        [ENGINE_F64] = {[ENGINE_F64] = pow_f64, [ENGINE_F32] = pow_f64_f32, WHOLE_TABLE(pow_f64)},
        [ENGINE_I32] = {[ENGINE_F32] = pow_i32_f32,
                        [ENGINE_F64] = pow_i32_f64,
                        [ENGINE_I32] = pow_i32_i32,
                        [ENGINE_I64] = pow_i32_i64},
        [ENGINE_I64] = {[ENGINE_F32] = pow_i64_f32,
                        [ENGINE_F64] = pow_i64_f64,
                        [ENGINE_I32] = pow_i64_i32,
                        [ENGINE_I64] = pow_i64_i64}};
    broadcast(j->out, j->in, 2, by_dtypes[j->in[0]->dtype][j->in[1]->dtype]);
}
