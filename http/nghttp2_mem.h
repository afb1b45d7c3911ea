/* http/nghttp2_mem.h: nghttp2's memory comes from base/mem.h like all other, so that tests can let it fail. */
#ifndef SLUICE_HTTP_NGHTTP2_MEM_H
#define SLUICE_HTTP_NGHTTP2_MEM_H

#include "base/mem.h"
#include <nghttp2/nghttp2.h>

static inline void *nghttp2_mem_alloc(size_t bytes, void *user)
{
    return mem_alloc(bytes);
}

static inline void nghttp2_mem_free(void *p, void *user)
{
    mem_free(p);
}

static inline void *nghttp2_mem_calloc(size_t n, size_t bytes, void *user)
{
    size_t all;
    return __builtin_mul_overflow(n, bytes, &all) ? NULL : mem_zalloc(all);
}

static inline void *nghttp2_mem_realloc(void *p, size_t bytes, void *user)
{
    return mem_realloc(p, bytes);
}

static inline nghttp2_mem *nghttp2_mem_ours(void)
{
    static nghttp2_mem ours = {NULL, nghttp2_mem_alloc, nghttp2_mem_free, nghttp2_mem_calloc,
                               nghttp2_mem_realloc};
    return &ours;
}

#endif
