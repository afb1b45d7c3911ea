// Elements by place: gathers, scatters, TopK, OneHot, Pad, Tile and their like. Any datatype unless said
// otherwise: whole elements.
#include "engine/cpu/cpu.h"

static size_t size_of(const struct array *a)
{
    return dtype_bytes(a->dtype);
}

// Elements between neighbours along each axis.
static void strides_of(const struct array *a, size_t *stride)
{
    size_t n = 1;
    for (unsigned i = a->rank; i-- > 0; n *= (size_t)a->shape[i])
        stride[i] = n;
}

// The next place of a tensor, last axis first.
static void next_place(const struct array *a, int64_t *at)
{
    for (unsigned i = a->rank; i-- > 0;) {
        if (++at[i] < a->shape[i])
            return;
        at[i] = 0;
    }
}

// A place along an axis of dim, counted from its end when it is below 0; -1 with j's failure: none.
static int64_t checked(const struct job *j, int64_t at, int64_t dim)
{
    at += at < 0 ? dim : 0;
    if (at >= 0 && at < dim)
        return at;
    *j->failure = "an index is out of range";
    return -1;
}

struct around { // of an axis: what stands before and behind it, in elements
    size_t outer, dim, inner;
};

static struct around around(const struct array *a, int64_t axis)
{
    unsigned at = (unsigned)axis;
    return (struct around){count_between(a, 0, at), (size_t)a->shape[at], count_from(a, at + 1)};
}

void cpu_split(const struct job *j)
{
    int64_t axis = shape_axis(j, 0);
    struct around r = around(j->in[0], axis);
    size_t size = size_of(j->in[0]), row = r.dim * r.inner * size;
    const char *from = j->in[0]->data;
    for (unsigned k = 0; k < j->node->n_outputs; k++) {
        struct array *y = j->outs[k];
        size_t part = (size_t)split_length(j, k) * r.inner * size;
        for (size_t o = 0; y && o < r.outer && part > 0; o++)
            memcpy((char *)y->data + o * part, from + o * row, part);
        from += part;
    }
}

void cpu_tile(const struct job *j)
{
    const struct array *x = j->in[0], *y = j->out;
    size_t stride[ENGINE_MAX_RANK], size = size_of(x), n = count_all(y);
    int64_t at[ENGINE_MAX_RANK] = {0};
    strides_of(x, stride);
    for (size_t i = 0; i < n; i++, next_place(y, at)) {
        size_t from = 0;
        for (unsigned a = 0; a < x->rank; a++)
            from += (size_t)(at[a] % x->shape[a]) * stride[a];
        memcpy((char *)y->data + i * size, (const char *)x->data + from * size, size);
    }
}

// ---- Pad ---------------------------------------------------------------------------------------------

// Where along an axis of n a place outside comes from; -1: it is the constant.
static int64_t pad_source(enum pad_mode mode, int64_t at, int64_t n)
{
    if (at >= 0 && at < n)
        return at;
    if (mode == PAD_EDGE)
        return at < 0 ? 0 : n - 1;
    if (mode == PAD_WRAP)
        return (at % n + n) % n;
    if (mode == PAD_REFLECT)
        return at < 0 ? -at : 2 * (n - 1) - at;
    return -1;
}

void cpu_pad(const struct job *j)
{
    static const uint64_t zero;
    const struct array *x = j->in[0], *y = j->out, *value = job_input(j, 2);
    float old = node_float(j->node, "value", 0);
    const void *with = value ? value->data : x->dtype == ENGINE_F32 ? (const void *)&old : &zero;
    size_t stride[ENGINE_MAX_RANK], size = size_of(x), n = count_all(y);
    int64_t at[ENGINE_MAX_RANK] = {0};
    struct pad p;
    struct engine_error e;
    if (!pad_of(j, &p, &e))
        return; // the plan has asked the same and was answered
    strides_of(x, stride);
    for (size_t i = 0; i < n; i++, next_place(y, at)) {
        int64_t from = 0;
        for (unsigned a = 0; a < x->rank && from >= 0; a++) {
            int64_t s = pad_source(p.mode, at[a] - p.before[a], x->shape[a]);
            from = s < 0 ? -1 : from + s * (int64_t)stride[a];
        }
        memcpy((char *)y->data + i * size,
               from < 0 ? with : (const char *)x->data + (size_t)from * size, size);
    }
}

// ---- matrices and blocks -----------------------------------------------------------------------------

void cpu_trilu(const struct job *j)
{
    const struct array *x = j->in[0], *shift = job_input(j, 1);
    int64_t k = shift ? *(const int64_t *)shift->data : 0;
    bool upper = node_int(j->node, "upper", 1) != 0;
    int64_t rows = x->shape[x->rank - 2], cols = x->shape[x->rank - 1];
    size_t size = size_of(x), n = count_all(x);
    k = k < -rows ? -rows : k > cols ? cols : k;
    for (size_t i = 0; i < n; i++) {
        int64_t c = (int64_t)i % cols, r = (int64_t)i / cols % rows;
        char *to = (char *)j->out->data + i * size;
        if (upper ? c >= r + k : c <= r + k)
            memcpy(to, (const char *)x->data + i * size, size);
        else
            memset(to, 0, size);
    }
}

// Of an image of depth [b, b, c] (DCR) or [c, b, b]: the block's row and column are pixels' then.
void cpu_depth_to_space(const struct job *j)
{
    const int64_t *s = j->out->shape;
    const struct attr *mode = node_attr(j->node, "mode");
    bool crd = mode && view_is(mode->s, "CRD");
    int64_t b = node_int(j->node, "blocksize", 1), c = s[1], h = s[2], w = s[3], at[4] = {0};
    size_t size = size_of(j->out), n = count_all(j->out);
    for (size_t i = 0; i < n; i++, next_place(j->out, at)) {
        int64_t by = at[2] % b, bx = at[3] % b;
        int64_t depth = crd ? (at[1] * b + by) * b + bx : (by * b + bx) * c + at[1];
        int64_t from = ((at[0] * c * b * b + depth) * (h / b) + at[2] / b) * (w / b) + at[3] / b;
        memcpy((char *)j->out->data + i * size, (const char *)j->in[0]->data + (size_t)from * size,
               size);
    }
}

void cpu_space_to_depth(const struct job *j)
{
    const int64_t *s = j->in[0]->shape;
    int64_t b = node_int(j->node, "blocksize", 1), c = s[1], h = s[2], w = s[3], at[4] = {0};
    size_t size = size_of(j->out), n = count_all(j->out);
    for (size_t i = 0; i < n; i++, next_place(j->out, at)) {
        int64_t block = at[1] / c, y = at[2] * b + block / b, x = at[3] * b + block % b;
        int64_t from = ((at[0] * c + at[1] % c) * h + y) * w + x;
        memcpy((char *)j->out->data + i * size, (const char *)j->in[0]->data + (size_t)from * size,
               size);
    }
}

// ---- gathers -----------------------------------------------------------------------------------------

void cpu_gather_elements(const struct job *j)
{
    const struct array *x = j->in[0], *at = j->in[1];
    int64_t axis = shape_axis(j, 0), place[ENGINE_MAX_RANK] = {0};
    size_t stride[ENGINE_MAX_RANK], size = size_of(x), n = count_all(at);
    strides_of(x, stride);
    for (size_t i = 0; i < n; i++, next_place(at, place)) {
        int64_t k = checked(j, integer_at(at, i), x->shape[axis]);
        size_t from = 0;
        if (k < 0)
            return;
        for (unsigned a = 0; a < x->rank; a++)
            from += (size_t)(a == axis ? k : place[a]) * stride[a];
        memcpy((char *)j->out->data + i * size, (const char *)x->data + from * size, size);
    }
}

// The element that `deep` places from axis `first` on stand for; false: out of range.
static bool deep_place(const struct job *j, const int64_t *places, int64_t deep, unsigned first,
                       const size_t *stride, size_t *from)
{
    for (int64_t d = 0; d < deep; d++) {
        int64_t k = checked(j, places[d], j->in[0]->shape[first + (size_t)d]);
        if (k < 0)
            return false;
        *from += (size_t)k * stride[first + (size_t)d];
    }
    return true;
}

void cpu_gather_nd(const struct job *j)
{
    const struct array *x = j->in[0], *at = j->in[1];
    unsigned batch = (unsigned)node_int(j->node, "batch_dims", 0);
    int64_t deep = at->shape[at->rank - 1];
    size_t n = count_all(at) / (size_t)deep, batches = count_between(at, 0, batch);
    size_t each = batches > 0 ? n / batches : 0; // places of each batch
    size_t stride[ENGINE_MAX_RANK], block = size_of(x) * count_from(x, batch + (unsigned)deep);
    strides_of(x, stride);
    for (size_t i = 0; i < n; i++) {
        size_t from = batch > 0 ? i / each * stride[batch - 1] : 0;
        if (!deep_place(j, (const int64_t *)at->data + (int64_t)i * deep, deep, batch, stride,
                        &from))
            return;
        memcpy((char *)j->out->data + i * block, (const char *)x->data + from * size_of(x), block);
    }
}

// ---- scatters ----------------------------------------------------------------------------------------

typedef void merge_fn(void *to, const void *from, size_t n);

#define MERGE(name, T, expression)                                                                 \
    static void name(void *to, const void *from, size_t n)                                         \
    {                                                                                              \
        for (size_t i = 0; i < n; i++) {                                                           \
            T a = ((T *)to)[i], b = ((const T *)from)[i];                                          \
            ((T *)to)[i] = (T)(expression);                                                        \
        }                                                                                          \
    }
// U: what sums and products are computed in.
#define MERGES(t, T, U)                                                                            \
    MERGE(add_##t, T, (U)a + (U)b)                                                                 \
    MERGE(mul_##t, T, (U)a *(U)b)                                                                  \
    MERGE(max_##t, T, b > a ? b : a)                                                               \
    MERGE(min_##t, T, b < a ? b : a)
MERGES(f32, float, float)
MERGES(f64, double, double)
MERGES(i8, int8_t, uint32_t)
MERGES(i16, int16_t, uint32_t)
MERGES(i32, int32_t, uint32_t)
MERGES(i64, int64_t, uint64_t)
MERGES(u8, uint8_t, uint32_t)
MERGES(u16, uint16_t, uint32_t)
MERGES(u32, uint32_t, uint32_t)
MERGES(u64, uint64_t, uint64_t)

#define MERGE_TABLE(op)                                                                            \
    {                                                                                              \
        [ENGINE_F32] = op##_f32, [ENGINE_F64] = op##_f64, [ENGINE_I8] = op##_i8,                   \
        [ENGINE_I16] = op##_i16, [ENGINE_I32] = op##_i32, [ENGINE_I64] = op##_i64,                 \
        [ENGINE_U8] = op##_u8, [ENGINE_U16] = op##_u16, [ENGINE_U32] = op##_u32,                   \
        [ENGINE_U64] = op##_u64                                                                    \
    }

// NULL: the update takes the element's place.
static merge_fn *merge_of(const struct job *j)
{
    static merge_fn *const add[ENGINE_DTYPES] = MERGE_TABLE(add);
    static merge_fn *const mul[ENGINE_DTYPES] = MERGE_TABLE(mul);
    static merge_fn *const max[ENGINE_DTYPES] = MERGE_TABLE(max);
    static merge_fn *const min[ENGINE_DTYPES] = MERGE_TABLE(min);
    const struct attr *how = node_attr(j->node, "reduction");
    enum engine_dtype d = j->in[0]->dtype;
    if (!how || view_is(how->s, "none"))
        return NULL;
    return view_is(how->s, "add")   ? add[d]
           : view_is(how->s, "mul") ? mul[d]
           : view_is(how->s, "max") ? max[d]
                                    : min[d];
}

static void put(merge_fn *merge, char *to, const char *from, size_t n, size_t size)
{
    if (merge)
        merge(to, from, n);
    else
        memcpy(to, from, n * size);
}

void cpu_scatter_elements(const struct job *j)
{
    const struct array *x = j->in[0], *at = j->in[1];
    int64_t axis = shape_axis(j, 0), place[ENGINE_MAX_RANK] = {0};
    size_t stride[ENGINE_MAX_RANK], size = size_of(x), n = count_all(at);
    merge_fn *merge = merge_of(j);
    strides_of(x, stride);
    memcpy(j->out->data, x->data, count_all(x) * size);
    for (size_t i = 0; i < n; i++, next_place(at, place)) {
        int64_t k = checked(j, integer_at(at, i), x->shape[axis]);
        size_t to = 0;
        if (k < 0)
            return;
        for (unsigned a = 0; a < x->rank; a++)
            to += (size_t)(a == axis ? k : place[a]) * stride[a];
        put(merge, (char *)j->out->data + to * size, (const char *)j->in[2]->data + i * size, 1,
            size);
    }
}

void cpu_scatter_nd(const struct job *j)
{
    const struct array *x = j->in[0], *at = j->in[1];
    int64_t deep = at->shape[at->rank - 1];
    size_t n = count_all(at) / (size_t)deep, block = count_from(x, (unsigned)deep);
    size_t stride[ENGINE_MAX_RANK], size = size_of(x);
    merge_fn *merge = merge_of(j);
    strides_of(x, stride);
    memcpy(j->out->data, x->data, count_all(x) * size);
    for (size_t i = 0; i < n; i++) {
        size_t to = 0;
        if (!deep_place(j, (const int64_t *)at->data + (int64_t)i * deep, deep, 0, stride, &to))
            return;
        put(merge, (char *)j->out->data + to * size,
            (const char *)j->in[2]->data + i * block * size, block, size);
    }
}

// ---- others ------------------------------------------------------------------------------------------

void cpu_one_hot(const struct job *j)
{
    const struct array *at = j->in[0];
    size_t size = size_of(j->out), n = count_all(at);
    int64_t axis = node_int(j->node, "axis", -1);
    axis += axis < 0 ? at->rank + 1 : 0;
    int64_t depth = j->out->shape[axis];
    size_t inner = count_from(at, (unsigned)axis);
    const char *off = j->in[2]->data, *on = off + size;
    for (size_t i = 0; i < count_all(j->out); i++)
        memcpy((char *)j->out->data + i * size, off, size);
    for (size_t i = 0; i < n; i++) {
        int64_t k =
            at->dtype == ENGINE_F32 ? (int64_t)((const float *)at->data)[i] : integer_at(at, i);
        k += k < 0 ? depth : 0;
        if (k < 0 || k >= depth)
            continue; // all off, says the standard
        size_t to = (i / inner * (size_t)depth + (size_t)k) * inner + i % inner;
        memcpy((char *)j->out->data + to * size, on, size);
    }
}

static void set_one(struct array *y, size_t i)
{
    static const float f = 1;
    static const double d = 1;
    static const uint64_t whole = 1; // little-endian: the low bytes of every size
    const void *one = y->dtype == ENGINE_F32   ? (const void *)&f
                      : y->dtype == ENGINE_F64 ? (const void *)&d
                                               : (const void *)&whole;
    memcpy((char *)y->data + i * size_of(y), one, size_of(y));
}

void cpu_eye_like(const struct job *j)
{
    int64_t k = node_int(j->node, "k", 0), rows = j->out->shape[0], cols = j->out->shape[1];
    memset(j->out->data, 0, count_all(j->out) * size_of(j->out));
    for (int64_t r = 0; r < rows; r++) {
        int64_t c;
        if (!__builtin_add_overflow(r, k, &c) && c >= 0 && c < cols)
            set_one(j->out, (size_t)(r * cols + c));
    }
}

void cpu_reverse_sequence(const struct job *j)
{
    const struct array *x = j->in[0];
    bool batch_first = node_int(j->node, "batch_axis", 1) == 0;
    int64_t batches = x->shape[batch_first ? 0 : 1], times = x->shape[batch_first ? 1 : 0];
    size_t block = size_of(x) * count_from(x, 2);
    for (int64_t b = 0; b < batches; b++) {
        int64_t n = ((const int64_t *)j->in[1]->data)[b];
        if (n < 0 || n > times) {
            *j->failure = "a length is out of range";
            return;
        }
        for (int64_t t = 0; t < times; t++) {
            int64_t from = t < n ? n - 1 - t : t;
            size_t to_at = (size_t)(batch_first ? b * times + t : t * batches + b);
            size_t from_at = (size_t)(batch_first ? b * times + from : from * batches + b);
            memcpy((char *)j->out->data + to_at * block, (const char *)x->data + from_at * block,
                   block);
        }
    }
}

// ---- CumSum, CumProd ------------------------------------------------------------------------------------------

#define CUMULATE(T, U)                                                                             \
    for (size_t o = 0; o < r.outer; o++) {                                                         \
        for (size_t i = 0; i < r.inner; i++) {                                                     \
            const T *x = (const T *)j->in[0]->data + o * r.dim * r.inner + i;                      \
            T *y = (T *)j->out->data + o * r.dim * r.inner + i;                                    \
            U all = product ? 1 : 0;                                                               \
            for (size_t k = 0; k < r.dim; k++) {                                                   \
                size_t at = (reverse ? r.dim - 1 - k : k) * r.inner;                               \
                U before = all;                                                                    \
                all = product ? all * (U)x[at] : all + (U)x[at];                                   \
                y[at] = (T)(exclusive ? before : all);                                             \
            }                                                                                      \
        }                                                                                          \
    }

static void cumulate(const struct job *j, bool product)
{
    bool reverse = node_int(j->node, "reverse", 0) != 0;
    bool exclusive = node_int(j->node, "exclusive", 0) != 0;
    struct around r = around(j->in[0], cumulative_axis(j));
    if (j->out->dtype == ENGINE_F32)
        CUMULATE(float, float)
    else if (j->out->dtype == ENGINE_F64)
        CUMULATE(double, double)
    else if (j->out->dtype == ENGINE_I32)
        CUMULATE(int32_t, uint32_t)
    else
        CUMULATE(int64_t, uint64_t)
}

void cpu_cum_sum(const struct job *j)
{
    cumulate(j, false);
}

void cpu_cum_prod(const struct job *j)
{
    cumulate(j, true);
}

// ---- TopK --------------------------------------------------------------------------------------------

typedef bool before_fn(const void *x, size_t a, size_t b);

// Is element a to stand before b? Of equals the one that comes first; what is not a number is the largest.
#define BEFORE(t, T)                                                                               \
    static bool larger_##t(const void *x_, size_t a, size_t b)                                     \
    {                                                                                              \
        const T *x = x_;                                                                           \
        bool nan_a = x[a] != x[a], nan_b = x[b] != x[b];                                           \
        if (nan_a != nan_b)                                                                        \
            return nan_a;                                                                          \
        return x[a] > x[b] || (!(x[a] < x[b]) && a < b);                                           \
    }                                                                                              \
    static bool smaller_##t(const void *x_, size_t a, size_t b)                                    \
    {                                                                                              \
        const T *x = x_;                                                                           \
        bool nan_a = x[a] != x[a], nan_b = x[b] != x[b];                                           \
        if (nan_a != nan_b)                                                                        \
            return nan_b;                                                                          \
        return x[a] < x[b] || (!(x[a] > x[b]) && a < b);                                           \
    }
BEFORE(f32, float)
BEFORE(f64, double)
BEFORE(i8, int8_t)
BEFORE(i16, int16_t)
BEFORE(i32, int32_t)
BEFORE(i64, int64_t)
BEFORE(u8, uint8_t)
BEFORE(u16, uint16_t)
BEFORE(u32, uint32_t)
BEFORE(u64, uint64_t)

// A heap of k places, the last one of them on top.
static void sift(const void *x, before_fn *before, size_t *heap, size_t n, size_t at, size_t step)
{
    for (;;) {
        size_t last = at, left = 2 * at + 1;
        if (left < n && before(x, heap[last] * step, heap[left] * step))
            last = left;
        if (left + 1 < n && before(x, heap[last] * step, heap[left + 1] * step))
            last = left + 1;
        if (last == at)
            return;
        size_t keep = heap[at];
        heap[at] = heap[last];
        heap[last] = keep;
        at = last;
    }
}

// The first k of n in order, in heap.
static void choose(const void *x, before_fn *before, size_t *heap, size_t k, size_t n, size_t step)
{
    for (size_t i = 0; i < k; i++)
        heap[i] = i;
    for (size_t i = k / 2; i-- > 0;)
        sift(x, before, heap, k, i, step);
    for (size_t i = k; i < n && k > 0; i++) {
        if (before(x, i * step, heap[0] * step)) {
            heap[0] = i;
            sift(x, before, heap, k, 0, step);
        }
    }
    for (size_t left = k; left-- > 1;) { // the last one of those that are left goes to the end
        size_t keep = heap[0];
        heap[0] = heap[left];
        heap[left] = keep;
        sift(x, before, heap, left, 0, step);
    }
}

void cpu_largest(const float *x, size_t *places, size_t n)
{
    choose(x, larger_f32, places, n, n, 1);
}

size_t cpu_top_k_scratch(const struct job *j)
{
    return (size_t)j->out->shape[shape_axis(j, -1)] * sizeof(size_t);
}

void cpu_top_k(const struct job *j)
{
    static before_fn *const larger[ENGINE_DTYPES] = MERGE_TABLE(larger);
    static before_fn *const smaller[ENGINE_DTYPES] = MERGE_TABLE(smaller);
    const struct array *x = j->in[0];
    int64_t axis = shape_axis(j, -1);
    struct around r = around(x, axis);
    size_t k = (size_t)j->out->shape[axis], size = size_of(x), *heap = j->scratch;
    before_fn *before = (node_int(j->node, "largest", 1) != 0 ? larger : smaller)[x->dtype];
    for (size_t o = 0; o < r.outer; o++) {
        for (size_t i = 0; i < r.inner; i++) {
            const char *from = (const char *)x->data + (o * r.dim * r.inner + i) * size;
            size_t to = o * k * r.inner + i;
            choose(from, before, heap, k, r.dim, r.inner);
            for (size_t m = 0; m < k; m++, to += r.inner) {
                memcpy((char *)j->out->data + to * size, from + heap[m] * r.inner * size, size);
                if (j->outs[1])
                    ((int64_t *)j->outs[1]->data)[to] = (int64_t)heap[m];
            }
        }
    }
}
