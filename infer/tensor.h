/* infer/tensor.h: a named array as it travels: row-major, little-endian, no strides. The data is a view
 * (into a body, a worker's answer) at any alignment; read it with load_*. Thinks. Thread: any.
 * Source of names and sizes: Open Inference Protocol v2, Triton's BF16. */
#ifndef SLUICE_INFER_TENSOR_H
#define SLUICE_INFER_TENSOR_H

#include "base/arena.h"
#include "base/view.h"
#include "infer/status.h"
#include <stdint.h>
#include <string.h>

enum dtype {
    DT_INVALID,
    DT_BOOL,
    DT_UINT8,
    DT_UINT16,
    DT_UINT32,
    DT_UINT64,
    DT_INT8,
    DT_INT16,
    DT_INT32,
    DT_INT64,
    DT_FP16,
    DT_BF16,
    DT_FP32,
    DT_FP64,
    DT_BYTES, // each element: 4-byte little-endian length, then the bytes
    DT_COUNT
};

struct dtype_info {
    const char *name; // "FP32"
    uint8_t bytes;    // of one element; 0 for BYTES
    bool json;        // has a JSON form (not FP16, BF16)
    uint8_t config;   // Triton's ModelConfig enum TYPE_*
};
extern const struct dtype_info dtype_table[DT_COUNT];
enum dtype dtype_of(struct view name); // DT_INVALID: unknown

#define TENSOR_MAX_RANK 16
#define TENSOR_INLINE_RANK                                                                         \
    8 // dimensions that lie in the tensor itself: nearly all tensors have no more

// Read the shape with tensor_dim. The first dimension is always shape[0]: that of rows.
struct tensor {
    struct view name;
    enum dtype dtype;
    uint8_t rank;
    int64_t
        shape[TENSOR_INLINE_RANK]; // each >= 0 in a request or answer; -1 = free, in metadata only
    int64_t *more;                 // of rank > 8: those behind; copies of the tensor share them
    const uint8_t *data;           // any alignment; NULL when bytes == 0
    size_t bytes;
    const struct params *params; // infer/params.h: what its sender says beside it; NULL: nothing
};

static inline int64_t tensor_dim(const struct tensor *t, unsigned i)
{
    return i < TENSOR_INLINE_RANK ? t->shape[i] : t->more[i - TENSOR_INLINE_RANK];
}
static inline void tensor_set_dim(struct tensor *t, unsigned i, int64_t v)
{
    *(i < TENSOR_INLINE_RANK ? &t->shape[i] : &t->more[i - TENSOR_INLINE_RANK]) = v;
}
// The next dimension; rank < TENSOR_MAX_RANK. False: out of memory.
bool tensor_add_dim(struct arena *a, struct tensor *t, int64_t v);
// The whole shape anew; rank <= TENSOR_MAX_RANK. False: out of memory.
bool tensor_set_shape(struct arena *a, struct tensor *t, const int64_t *shape, unsigned rank);
// t is a copy: from here on it shares no dimensions with where it was copied from. False: out of memory.
bool tensor_own_shape(struct arena *a, struct tensor *t);
bool tensor_same_shape(const struct tensor *a, const struct tensor *b);

// Product of its shape; false when it wraps or a dimension is negative (no allocation comes before this).
bool tensor_count(const struct tensor *t, uint64_t *count);
// Bytes that its shape and dtype ask for; false on wrap, or for BYTES (its size is in the data).
bool tensor_size(const struct tensor *t, uint64_t *bytes);
// BYTES data: walks its elements, a few at a time: whether `count` of them fill `bytes` exactly.
enum tensor_walk_end { WALK_WRONG, WALK_MORE, WALK_RIGHT };
struct tensor_walk { // zeroed: at the beginning
    size_t at;
    uint64_t seen;
};
enum tensor_walk_end tensor_bytes_walk(struct tensor_walk *w, const uint8_t *data, size_t bytes,
                                       uint64_t count, uint64_t most);
// The same in one go.
bool tensor_bytes_check(const uint8_t *data, size_t bytes, uint64_t count);

static inline uint32_t load_u32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
static inline uint64_t load_u64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}
static inline float load_f32(const void *p)
{
    float v;
    memcpy(&v, p, 4);
    return v;
}
static inline double load_f64(const void *p)
{
    double v;
    memcpy(&v, p, 8);
    return v;
}
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors travel little-endian");

#endif
