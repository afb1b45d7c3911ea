#include "infer/tensor.h"

const struct dtype_info dtype_table[] = {
    [DT_INVALID] = {"", 0, false, 0},
    [DT_BOOL] = {"BOOL", 1, true, 1},     [DT_UINT8] = {"UINT8", 1, true, 2},
    [DT_UINT16] = {"UINT16", 2, true, 3}, [DT_UINT32] = {"UINT32", 4, true, 4},
    [DT_UINT64] = {"UINT64", 8, true, 5}, [DT_INT8] = {"INT8", 1, true, 6},
    [DT_INT16] = {"INT16", 2, true, 7},   [DT_INT32] = {"INT32", 4, true, 8},
    [DT_INT64] = {"INT64", 8, true, 9},   [DT_FP16] = {"FP16", 2, false, 10},
    [DT_BF16] = {"BF16", 2, false, 14},   [DT_FP32] = {"FP32", 4, true, 11},
    [DT_FP64] = {"FP64", 8, true, 12},    [DT_BYTES] = {"BYTES", 0, true, 13},
};
_Static_assert(sizeof(dtype_table) / sizeof(dtype_table[0]) == DT_COUNT, "one row a datatype");

enum dtype dtype_of(struct view name)
{
    if (view_eq(name, VIEW("FP32"))) // by far the most asked for
        return DT_FP32;
    for (unsigned i = 1; i < DT_COUNT; i++) {
        if (view_is(name, dtype_table[i].name))
            return (enum dtype)i;
    }
    return DT_INVALID;
}

bool tensor_count(const int64_t *shape, unsigned rank, uint64_t *count)
{
    uint64_t n = 1;
    bool zero = false;
    for (unsigned i = 0; i < rank; i++) {
        if (shape[i] < 0)
            return false;
        if (shape[i] == 0)
            zero = true; // the others are still checked against wrapping
        else if (__builtin_mul_overflow(n, (uint64_t)shape[i], &n))
            return false;
    }
    *count = zero ? 0 : n;
    return n <= INT64_MAX;
}

bool tensor_size(enum dtype dtype, const int64_t *shape, unsigned rank, uint64_t *bytes)
{
    uint64_t count;
    if (dtype == DT_BYTES || dtype == DT_INVALID || !tensor_count(shape, rank, &count))
        return false;
    return !__builtin_mul_overflow(count, (uint64_t)dtype_table[dtype].bytes, bytes);
}

bool tensor_bytes_check(const uint8_t *data, size_t bytes, uint64_t count)
{
    while (count-- > 0) {
        if (bytes < 4)
            return false;
        size_t n = load_u32(data);
        if (n > bytes - 4)
            return false;
        data += 4 + n;
        bytes -= 4 + n;
    }
    return bytes == 0;
}
