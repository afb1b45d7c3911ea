// Sums, products and extremes along axes; ArgMax and ArgMin. Each element of the output takes its elements in
// one order, so a row's bits do not depend on the batch.
#include "engine/cpu/cpu.h"
#include "engine/cpu/parts.h"

#include <math.h>

// What stands at x into y: a row of n elements into one element (lines: 0), or `lines` rows into one row, each element
// into its own.
typedef void reduce_fn(void *y, const void *x, size_t n, size_t lines);

// Some columns at a time, whose parts stay in registers.
#define REDUCE_LINES(T, expression)                                                                \
    size_t from = 0;                                                                               \
    for (; from + PARTS <= n; from += PARTS) {                                                     \
        T part[PARTS];                                                                             \
        memcpy(part, y + from, sizeof(part));                                                      \
        for (size_t l = 0; l < lines; l++) {                                                       \
            for (unsigned p = 0; p < PARTS; p++) {                                                 \
                T v = x[l * n + from + p], s = part[p];                                            \
                part[p] = (T)(expression);                                                         \
            }                                                                                      \
        }                                                                                          \
        memcpy(y + from, part, sizeof(part));                                                      \
    }                                                                                              \
    for (size_t l = 0; l < lines; l++) {                                                           \
        for (size_t i = from; i < n; i++) {                                                        \
            T v = x[l * n + i], s = y[i];                                                          \
            y[i] = (T)(expression);                                                                \
        }                                                                                          \
    }

#define REDUCE(name, T, expression)                                                                \
    static void name(void *y_, const void *x_, size_t n, size_t lines)                             \
    {                                                                                              \
        const T *x = x_;                                                                           \
        T *y = y_;                                                                                 \
        if (lines == 0) {                                                                          \
            for (size_t i = 0; i < n; i++) {                                                       \
                T v = x[i], s = *y;                                                                \
                *y = (T)(expression);                                                              \
            }                                                                                      \
            return;                                                                                \
        }                                                                                          \
        REDUCE_LINES(T, expression)                                                                \
    }

// Of floats, whose sums depend on the order: a row of them in parts. together: of two parts.
#define REDUCE_PARTS(name, T, first, expression, together)                                         \
    PARTS_OF(name##_parts, T, first, expression, together)                                         \
    static void name(void *y_, const void *x_, size_t n, size_t lines)                             \
    {                                                                                              \
        const T *x = x_;                                                                           \
        T *y = y_;                                                                                 \
        if (lines == 0) {                                                                          \
            T v = name##_parts(x, n, 0), s = *y;                                                   \
            *y = (T)(together);                                                                    \
            return;                                                                                \
        }                                                                                          \
        REDUCE_LINES(T, expression)                                                                \
    }

struct reduction {
    reduce_fn *f32, *f64, *i32, *i64, *u8, *i8;
    double first; // before any element
    float (*last)(float sum, size_t n);
    double (*last_f64)(double sum, size_t n);
};

#define FLOATS(name, first, expression, together)                                                  \
    REDUCE_PARTS(name##_f32, float, first, expression, together)                                   \
    REDUCE_PARTS(name##_f64, double, first, expression, together)
#define NUMBERS(name, first, floats, i32, i64)                                                     \
    FLOATS(name, first, floats, floats)                                                            \
    REDUCE(name##_i32, int32_t, i32)                                                               \
    REDUCE(name##_i64, int64_t, i64)

NUMBERS(sum, 0, s + v, (uint32_t)s + (uint32_t)v, (uint64_t)s + (uint64_t)v)
NUMBERS(prod, 1, s *v, (uint32_t)s *(uint32_t)v, (uint64_t)s *(uint64_t)v)
NUMBERS(most, -INFINITY, v != v || v > s ? v : s, v > s ? v : s, v > s ? v : s)
NUMBERS(least, INFINITY, v != v || v < s ? v : s, v < s ? v : s, v < s ? v : s)
REDUCE(most_u8, uint8_t, v > s ? v : s)
REDUCE(most_i8, int8_t, v > s ? v : s)
REDUCE(least_u8, uint8_t, v < s ? v : s)
REDUCE(least_i8, int8_t, v < s ? v : s)
FLOATS(absolute, 0, s + (v < 0 ? -v : v), s + v)
FLOATS(square, 0, s + v * v, s + v)

static float mean_of(float sum, size_t n)
{
    return sum / (float)n;
}
static double mean_of_f64(double sum, size_t n)
{
    return sum / (double)n;
}
static float root_of(float sum, size_t n)
{
    (void)n;
    return sqrtf(sum);
}
static double root_of_f64(double sum, size_t n)
{
    (void)n;
    return sqrt(sum);
}
static float log_of(float sum, size_t n)
{
    (void)n;
    return logf(sum);
}
static double log_of_f64(double sum, size_t n)
{
    (void)n;
    return log(sum);
}

#define SUMS .f32 = sum_f32, .f64 = sum_f64

static const struct reduction
    reduce_sum = {SUMS, .i32 = sum_i32, .i64 = sum_i64},
    reduce_mean = {SUMS, .last = mean_of, .last_f64 = mean_of_f64},
    reduce_log_sum = {SUMS, .last = log_of, .last_f64 = log_of_f64},
    reduce_prod = {.f32 = prod_f32, .f64 = prod_f64, .i32 = prod_i32, .i64 = prod_i64, .first = 1},
    reduce_max = {.f32 = most_f32,
                  .f64 = most_f64,
                  .i32 = most_i32,
                  .i64 = most_i64,
                  .u8 = most_u8,
                  .i8 = most_i8,
                  .first = -INFINITY},
    reduce_min = {.f32 = least_f32,
                  .f64 = least_f64,
                  .i32 = least_i32,
                  .i64 = least_i64,
                  .u8 = least_u8,
                  .i8 = least_i8,
                  .first = INFINITY},
    reduce_l1 = {.f32 = absolute_f32, .f64 = absolute_f64},
    reduce_sum_square = {.f32 = square_f32, .f64 = square_f64},
    reduce_l2 = {.f32 = square_f32, .f64 = square_f64, .last = root_of, .last_f64 = root_of_f64};

static void reduction_fill(struct array *y, size_t n, double v)
{
    for (size_t i = 0; y->dtype == ENGINE_F32 && i < n; i++)
        ((float *)y->data)[i] = (float)v;
    for (size_t i = 0; y->dtype != ENGINE_F32 && i < n; i++) {
        if (y->dtype == ENGINE_F64)
            ((double *)y->data)[i] = v;
        else if (y->dtype == ENGINE_U8)
            ((uint8_t *)y->data)[i] = v > 1 ? UINT8_MAX : 0;
        else if (y->dtype == ENGINE_BOOL)
            ((uint8_t *)y->data)[i] = v > 1;
        else if (y->dtype == ENGINE_I8)
            ((int8_t *)y->data)[i] = v > 1 ? INT8_MAX : INT8_MIN;
        else if (y->dtype == ENGINE_I32)
            ((int32_t *)y->data)[i] = v < -1 ? INT32_MIN : v > 1 ? INT32_MAX : (int32_t)v;
        else
            ((int64_t *)y->data)[i] = v < -1 ? INT64_MIN : v > 1 ? INT64_MAX : (int64_t)v;
    }
}

// Where each axis of the input goes in the output: elements between neighbours, 0 along reduced ones.
static void reduction_steps(const struct array *x, unsigned set, size_t *step)
{
    size_t size = 1;
    for (unsigned i = x->rank; i-- > 0;) {
        bool reduced = set >> i & 1;
        step[i] = reduced ? 0 : size;
        size *= reduced ? 1 : (size_t)x->shape[i];
    }
}

#define BLOCK_BYTES                                                                                \
    16384 // of rows that are added up column by column: what stays in the nearest cache

static void reduction_add(const struct job *j, unsigned set, reduce_fn *add)
{
    const struct array *x = j->in[0];
    size_t step[ENGINE_MAX_RANK + 1] = {0}, at[ENGINE_MAX_RANK] = {0}, all = 0;
    size_t element = dtype_bytes(x->dtype);
    unsigned last = x->rank > 0 ? x->rank - 1 : 0;
    size_t n = x->rank > 0 ? (size_t)x->shape[last] : 1;
    reduction_steps(x, set, step);
    if (!array_count(x, &all) || all == 0)
        return;
    // Rows that go into the same row stand side by side where the axis outside is reduced.
    bool keeps = step[last] != 0, several = keeps && last > 0 && step[last - 1] == 0;
    unsigned outer = several ? last - 1 : last;
    size_t rows = several ? (size_t)x->shape[outer] : 1;
    size_t most = BLOCK_BYTES / (n * element) + 1, lines;
    const char *from = x->data;
    for (size_t done = 0; done < all; done += rows * n) {
        size_t to = 0;
        for (unsigned i = 0; i < outer; i++)
            to += at[i] * step[i];
        for (size_t row = 0; row < rows; row += lines, from += lines * n * element) {
            lines = rows - row < most ? rows - row : most;
            add((char *)j->out->data + to * element, from, n, keeps ? lines : 0);
        }
        for (unsigned i = outer; i-- > 0;) {
            if (++at[i] < (size_t)x->shape[i])
                break;
            at[i] = 0;
        }
    }
}

static void reduction_finish(const struct reduction *r, struct array *y, size_t outs, size_t each)
{
    for (size_t i = 0; r->last && i < outs; i++) {
        if (y->dtype == ENGINE_F32)
            ((float *)y->data)[i] = r->last(((float *)y->data)[i], each);
        else
            ((double *)y->data)[i] = r->last_f64(((double *)y->data)[i], each);
    }
}

static void reduction_run(const struct job *j, const struct reduction *r)
{
    reduce_fn *const by_dtype[] = {
        [ENGINE_F32] = r->f32, [ENGINE_F64] = r->f64, [ENGINE_I32] = r->i32, [ENGINE_I64] = r->i64,
        [ENGINE_U8] = r->u8,   [ENGINE_I8] = r->i8,   [ENGINE_BOOL] = r->u8};
    size_t outs = 0, all = 0;
    unsigned set;
    struct engine_error e;
    if (!reduce_axes((struct job *)j, &set, &e) || !array_count(j->out, &outs) ||
        !array_count(j->in[0], &all))
        return; // the plan has asked the same and was answered
    reduction_fill(j->out, outs, r->first);
    reduction_add(j, set, by_dtype[j->in[0]->dtype]);
    reduction_finish(r, j->out, outs, outs > 0 ? all / outs : 0);
}

#define REDUCTION(name)                                                                            \
    void cpu_##name(const struct job *j)                                                           \
    {                                                                                              \
        reduction_run(j, &name);                                                                   \
    }

REDUCTION(reduce_l1)
REDUCTION(reduce_l2)
REDUCTION(reduce_log_sum)
REDUCTION(reduce_max)
REDUCTION(reduce_mean)
REDUCTION(reduce_min)
REDUCTION(reduce_prod)
REDUCTION(reduce_sum)
REDUCTION(reduce_sum_square)

// ---- log of the sum of exponentials ------------------------------------------------------------------

static double reduced_at(const struct array *a, size_t i)
{
    return a->dtype == ENGINE_F32 ? (double)((const float *)a->data)[i]
                                  : ((const double *)a->data)[i];
}

size_t cpu_reduce_log_sum_exp_scratch(const struct job *j)
{
    size_t n = 0;
    return array_count(j->out, &n) ? n * sizeof(double) : 0;
}

// Where element i of the input goes.
static size_t reduced_place(const struct array *x, const size_t *step, size_t i)
{
    size_t to = 0;
    for (unsigned a = x->rank; a-- > 0; i /= (size_t)x->shape[a])
        to += i % (size_t)x->shape[a] * step[a];
    return to;
}

// Less the largest, so that no exponential is too large.
void cpu_reduce_log_sum_exp(const struct job *j)
{
    size_t step[ENGINE_MAX_RANK + 1] = {0}, all = 0, outs = 0;
    double *sum = j->scratch;
    unsigned set;
    struct engine_error e;
    if (!reduce_axes((struct job *)j, &set, &e) || !array_count(j->in[0], &all) ||
        !array_count(j->out, &outs))
        return; // the plan has asked the same and was answered
    reduction_run(j, &reduce_max);
    reduction_steps(j->in[0], set, step);
    memset(sum, 0, outs * sizeof(*sum));
    for (size_t i = 0; i < all; i++) {
        size_t to = reduced_place(j->in[0], step, i);
        double most = reduced_at(j->out, to);
        sum[to] += exp(reduced_at(j->in[0], i) - (isfinite(most) ? most : 0));
    }
    for (size_t i = 0; i < outs; i++) {
        double most = reduced_at(j->out, i), v = log(sum[i]) + (isfinite(most) ? most : 0);
        if (j->out->dtype == ENGINE_F32)
            ((float *)j->out->data)[i] = (float)v;
        else
            ((double *)j->out->data)[i] = v;
    }
}

// ---- places of extremes ------------------------------------------------------------------------------

typedef size_t extreme_fn(const void *x, size_t n, size_t step, bool max, bool late);

// The place of the first of the largest or smallest (late: the last) of n that stand `step` apart.
#define EXTREME(t, T)                                                                              \
    static size_t extreme_##t(const void *from, size_t n, size_t step, bool max, bool late)        \
    {                                                                                              \
        const T *v = from;                                                                         \
        size_t best = 0;                                                                           \
        for (size_t i = 1; i < n; i++) {                                                           \
            T a = v[i * step], b = v[best * step];                                                 \
            if ((max ? a > b : a < b) || (late && a == b))                                         \
                best = i;                                                                          \
        }                                                                                          \
        return best;                                                                               \
    }
EXTREME(f32, float)
EXTREME(f64, double)
EXTREME(i8, int8_t)
EXTREME(i16, int16_t)
EXTREME(i32, int32_t)
EXTREME(i64, int64_t)
EXTREME(u8, uint8_t)
EXTREME(u16, uint16_t)
EXTREME(u32, uint32_t)
EXTREME(u64, uint64_t)

static void find_extremes(const struct job *j, bool max)
{
    static extreme_fn *const by_dtype[ENGINE_DTYPES] = {
        [ENGINE_F32] = extreme_f32, [ENGINE_F64] = extreme_f64, [ENGINE_I8] = extreme_i8,
        [ENGINE_I16] = extreme_i16, [ENGINE_I32] = extreme_i32, [ENGINE_I64] = extreme_i64,
        [ENGINE_U8] = extreme_u8,   [ENGINE_U16] = extreme_u16, [ENGINE_U32] = extreme_u32,
        [ENGINE_U64] = extreme_u64};
    const struct array *x = j->in[0];
    unsigned axis = (unsigned)shape_axis(j, 0);
    bool late = node_int(j->node, "select_last_index", 0) != 0;
    size_t outer = count_between(x, 0, axis), inner = count_from(x, axis + 1);
    size_t n = (size_t)x->shape[axis], size = dtype_bytes(x->dtype);
    int64_t *to = j->out->data;
    for (size_t o = 0; o < outer; o++) {
        for (size_t k = 0; k < inner; k++)
            *to++ = (int64_t)by_dtype[x->dtype]((const char *)x->data + (o * n * inner + k) * size,
                                                n, inner, max, late);
    }
}

void cpu_arg_max(const struct job *j)
{
    find_extremes(j, true);
}

void cpu_arg_min(const struct job *j)
{
    find_extremes(j, false);
}
