/* base/pool.h: small blocks that come and go with each request: its exchange, the buffer of its body, what
 * nghttp2 needs toward workers. Sizes are rounded up to 64 bytes; blocks given back wait in a list of the calling thread, bounded in bytes, and
 * are handed out again, last in first out, so that they are still in the cache. Larger ones go to mem.h.
 * Not under ASan, which wants to see each block's own life.
 * Every call counts at mem.h's test door. Thread: any; a block may be freed by another thread. */
#ifndef SLUICE_BASE_POOL_H
#define SLUICE_BASE_POOL_H

#include <stddef.h>

// NULL when out of memory. 16-byte aligned. Free with pool_free.
void *pool_alloc(size_t bytes);
void *pool_zalloc(size_t count, size_t size); // NULL also when the product wraps
void *pool_realloc(void *p, size_t bytes);    // p may be NULL
void pool_free(void *p);                      // p may be NULL
// Gives back what waits in the calling thread's lists.
void pool_thread_done(void);

#endif
