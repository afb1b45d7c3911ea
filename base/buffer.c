#include "base/buffer.h"
#include "base/check.h"
#include "base/pool.h"

#define BUFFER_MIN 512

void buffer_init(struct buffer *b)
{
    *b = (struct buffer){0};
}

void buffer_deinit(struct buffer *b)
{
    pool_free(b->data);
    *b = (struct buffer){0};
}

static uint8_t *grow(struct buffer *b, size_t need)
{
    size_t cap = b->cap ? b->cap : BUFFER_MIN;
    while (cap < need)
        if (__builtin_mul_overflow(cap, 2, &cap))
            return NULL;
    size_t len = b->end - b->at;
    uint8_t *data;
    if (b->at == 0) {
        data = pool_realloc(b->data, cap);
        if (!data)
            return NULL;
    } else { // the consumed front is left behind, not copied
        data = pool_alloc(cap);
        if (!data)
            return NULL;
        if (len)
            memcpy(data, b->data + b->at, len);
        pool_free(b->data);
    }
    *b = (struct buffer){.data = data, .end = len, .cap = cap};
    return data + len;
}

bool buffer_grow(struct buffer *b, size_t cap)
{
    invariant(b->at == 0 && cap > b->cap);
    uint8_t *data = pool_realloc(b->data, cap);
    if (!data)
        return false;
    b->data = data;
    b->cap = cap;
    return true;
}

uint8_t *buffer_reserve(struct buffer *b, size_t bytes)
{
    if (b->data && b->cap - b->end >= bytes)
        return b->data + b->end;
    size_t len = b->end - b->at, need;
    if (__builtin_add_overflow(len, bytes, &need))
        return NULL;
    // Move only what is no longer than the gap it leaves: each byte consumed pays for one moved.
    if (b->data && need <= b->cap && b->at >= len) {
        if (len)
            memmove(b->data, b->data + b->at, len);
        b->at = 0;
        b->end = len;
        return b->data + len;
    }
    return grow(b, need);
}

bool buffer_append(struct buffer *b, const void *p, size_t bytes)
{
    if (bytes == 0)
        return true;
    uint8_t *at = buffer_reserve(b, bytes);
    if (!at)
        return false;
    memcpy(at, p, bytes);
    b->end += bytes;
    return true;
}

void buffer_consume(struct buffer *b, size_t bytes)
{
    invariant(bytes <= b->end - b->at);
    b->at += bytes;
    if (b->at == b->end)
        b->at = b->end = 0;
}

void buffer_reset(struct buffer *b)
{
    b->at = b->end = 0;
}
