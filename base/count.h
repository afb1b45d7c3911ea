/* base/count.h: counters that one thread writes and all may read: a load and a store, no locked instruction. A reader sees
 * each of them as it was a moment ago, and of two of them not the same moment. */
#ifndef SLUICE_BASE_COUNT_H
#define SLUICE_BASE_COUNT_H

#include <stdatomic.h>
#include <stdint.h>

static inline uint64_t count_get(const _Atomic uint64_t *c)
{
    return atomic_load_explicit(c, memory_order_relaxed);
}

// Its writer's thread.
static inline void count_add(_Atomic uint64_t *c, uint64_t n)
{
    atomic_store_explicit(c, count_get(c) + n, memory_order_relaxed);
}

#endif
