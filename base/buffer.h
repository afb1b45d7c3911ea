/* base/buffer.h: a growable run of bytes: data[at..end). Append at the end, consume from the front.
 * Owner: whoever embeds it. Thread: one at a time. */
#ifndef SLUICE_BASE_BUFFER_H
#define SLUICE_BASE_BUFFER_H

#include "base/view.h"
#include <stdint.h>

struct buffer {
    uint8_t *data;
    size_t at, end, cap; // at <= end <= cap
};

void buffer_init(struct buffer *b); // no allocation
void buffer_deinit(struct buffer *b);
static inline size_t buffer_len(const struct buffer *b)
{
    return b->end - b->at;
}
static inline struct view buffer_view(const struct buffer *b)
{
    return view_of(b->data ? b->data + b->at : NULL, b->end - b->at);
}
// Room for `bytes` more behind end (doubles; moves consumed space away first). NULL: out of memory,
// the buffer is unchanged. Write there, then buffer_commit.
uint8_t *buffer_reserve(struct buffer *b, size_t bytes);
// A capacity of exactly `cap`, which is more than it has: for a length that is known. Nothing was consumed yet.
bool buffer_grow(struct buffer *b, size_t cap);
// The same as buffer_reserve, without a call where there is room already.
static inline uint8_t *buffer_room(struct buffer *b, size_t bytes)
{
    return b->cap - b->end > bytes ? b->data + b->end : buffer_reserve(b, bytes);
}
static inline void buffer_commit(struct buffer *b, size_t bytes)
{
    b->end += bytes;
}
bool buffer_append(struct buffer *b, const void *p, size_t bytes); // false: out of memory
void buffer_consume(struct buffer *b, size_t bytes);               // bytes <= buffer_len
void buffer_reset(struct buffer *b);                               // empty, keeps memory

#endif
