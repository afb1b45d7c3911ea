/* http/h2_mem.h: nghttp2 takes its memory where we take ours: from base/pool.h, behind the test door. */
#ifndef SLUICE_HTTP_H2_MEM_H
#define SLUICE_HTTP_H2_MEM_H

#include "base/pool.h"
#include <nghttp2/nghttp2.h>

static inline void *h2_mem_alloc(size_t bytes, void *user)
{
    return pool_alloc(bytes);
}

static inline void h2_mem_free(void *p, void *user)
{
    pool_free(p);
}

static inline void *h2_mem_zalloc(size_t count, size_t size, void *user)
{
    return pool_zalloc(count, size);
}

static inline void *h2_mem_realloc(void *p, size_t bytes, void *user)
{
    return pool_realloc(p, bytes);
}

// A session keeps its own copy.
static inline nghttp2_mem h2_mem(void)
{
    return (nghttp2_mem){NULL, h2_mem_alloc, h2_mem_free, h2_mem_zalloc, h2_mem_realloc};
}

#endif
