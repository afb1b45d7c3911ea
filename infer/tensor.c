#include "infer/tensor.h"

const struct dtype_info dtype_table[DT_COUNT] = {
    [DT_INVALID] = {"INVALID", 0, false, 0}, [DT_BOOL] = {"BOOL", 1, true, 1},
    [DT_UINT8] = {"UINT8", 1, true, 2},      [DT_UINT16] = {"UINT16", 2, true, 3},
    [DT_UINT32] = {"UINT32", 4, true, 4},    [DT_UINT64] = {"UINT64", 8, true, 5},
    [DT_INT8] = {"INT8", 1, true, 6},        [DT_INT16] = {"INT16", 2, true, 7},
    [DT_INT32] = {"INT32", 4, true, 8},      [DT_INT64] = {"INT64", 8, true, 9},
    [DT_FP16] = {"FP16", 2, false, 10},      [DT_BF16] = {"BF16", 2, false, 14},
    [DT_FP32] = {"FP32", 4, true, 11},       [DT_FP64] = {"FP64", 8, true, 12},
    [DT_BYTES] = {"BYTES", 0, true, 13},
};
_Static_assert(DT_COUNT == 15, "a new datatype needs its row above");

enum dtype dtype_of(struct view name)
{
    if (name.n == 4 && memcmp(name.p, "FP32", 4) == 0) // nearly every request
        return DT_FP32;
    for (int d = DT_INVALID + 1; d < DT_COUNT; d++)
        if (view_is(name, dtype_table[d].name))
            return (enum dtype)d;
    return DT_INVALID;
}

static bool make_room(struct arena *a, struct tensor *t)
{
    t->more = arena_array(a, TENSOR_MAX_RANK - TENSOR_INLINE_RANK, sizeof(*t->more));
    return t->more != NULL;
}

bool tensor_add_dim(struct arena *a, struct tensor *t, int64_t v)
{
    if (t->rank == TENSOR_INLINE_RANK && !make_room(a, t))
        return false;
    tensor_set_dim(t, t->rank++, v);
    return true;
}

bool tensor_set_shape(struct arena *a, struct tensor *t, const int64_t *shape, unsigned rank)
{
    t->rank = 0;
    for (unsigned i = 0; i < rank; i++) {
        if (!tensor_add_dim(a, t, shape[i]))
            return false;
    }
    return true;
}

bool tensor_own_shape(struct arena *a, struct tensor *t)
{
    const int64_t *others = t->more;
    if (t->rank <= TENSOR_INLINE_RANK)
        return true;
    if (!make_room(a, t))
        return false;
    memcpy(t->more, others, (t->rank - TENSOR_INLINE_RANK) * sizeof(*others));
    return true;
}

bool tensor_same_shape(const struct tensor *a, const struct tensor *b)
{
    bool same = a->rank == b->rank;
    for (unsigned i = 0; same && i < a->rank; i++)
        same = tensor_dim(a, i) == tensor_dim(b, i);
    return same;
}

// A dimension of zero does not excuse others whose product wraps: the answer does not depend on order.
bool tensor_count(const struct tensor *t, uint64_t *count)
{
    uint64_t product = 1;
    bool zero = false;
    for (unsigned i = 0; i < t->rank; i++) {
        int64_t n = tensor_dim(t, i);
        if (n < 0)
            return false;
        if (n == 0)
            zero = true;
        else if (__builtin_mul_overflow(product, (uint64_t)n, &product))
            return false;
    }
    *count = zero ? 0 : product;
    return true;
}

bool tensor_size(const struct tensor *t, uint64_t *bytes)
{
    uint64_t count, each = dtype_table[t->dtype].bytes;
    if (each == 0 || !tensor_count(t, &count))
        return false;
    return !__builtin_mul_overflow(count, each, bytes);
}

enum tensor_walk_end tensor_bytes_walk(struct tensor_walk *w, const uint8_t *data, size_t bytes,
                                       uint64_t count, uint64_t most)
{
    if (count > bytes / 4)
        return WALK_WRONG;
    uint64_t until = count - w->seen > most ? w->seen + most : count;
    size_t at = w->at;
    for (uint64_t i = w->seen; i < until; i++) {
        if (bytes - at < 4)
            return WALK_WRONG;
        size_t n = load_u32(data + at);
        at += 4;
        if (n > bytes - at)
            return WALK_WRONG;
        at += n;
    }
    *w = (struct tensor_walk){at, until};
    if (until < count)
        return WALK_MORE;
    return at == bytes ? WALK_RIGHT : WALK_WRONG;
}

bool tensor_bytes_check(const uint8_t *data, size_t bytes, uint64_t count)
{
    struct tensor_walk w = {0};
    return tensor_bytes_walk(&w, data, bytes, count, UINT64_MAX) == WALK_RIGHT;
}
