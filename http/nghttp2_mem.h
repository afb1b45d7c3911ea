/* http/nghttp2_mem.h: nghttp2's memory comes from base/pool.h: a dozen small blocks a request, and like all
 * other memory behind the test door. */
#ifndef SLUICE_HTTP_NGHTTP2_MEM_H
#define SLUICE_HTTP_NGHTTP2_MEM_H

#include "base/pool.h"
#include <nghttp2/nghttp2.h>

static inline void *nghttp2_mem_alloc(size_t bytes, void *user)
{
    return pool_alloc(bytes);
}

static inline void nghttp2_mem_free(void *p, void *user)
{
    pool_free(p);
}

static inline void *nghttp2_mem_calloc(size_t n, size_t bytes, void *user)
{
    return pool_zalloc(n, bytes);
}

static inline void *nghttp2_mem_realloc(void *p, size_t bytes, void *user)
{
    return pool_realloc(p, bytes);
}

static inline nghttp2_mem *nghttp2_mem_ours(void)
{
    static nghttp2_mem ours = {NULL, nghttp2_mem_alloc, nghttp2_mem_free, nghttp2_mem_calloc,
                               nghttp2_mem_realloc};
    return &ours;
}

#endif
