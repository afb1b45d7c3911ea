/* gateway/budget.h: the bytes that requests may hold in the whole process, leased to the loops by the
 * MiB, so that charging a body touches no shared word. Thread: a lease belongs to its loop; the process's
 * count is the one atomic. */
#ifndef SLUICE_GATEWAY_BUDGET_H
#define SLUICE_GATEWAY_BUDGET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define BUDGET_SLICE (1 << 20)

struct budget_lease {     // zeroed: nothing leased
    int64_t leased, used; // used <= leased
};

// Charges (delta > 0) or gives back (delta < 0, never refused). False: the process's limit is reached.
static inline bool budget_charge(struct budget_lease *l, _Atomic int64_t *granted, int64_t limit,
                                 int64_t delta)
{
    int64_t used = l->used + delta;
    if (used > l->leased) {
        int64_t more = (used - l->leased + BUDGET_SLICE - 1) / BUDGET_SLICE * BUDGET_SLICE;
        int64_t all = atomic_fetch_add_explicit(granted, more, memory_order_relaxed) + more;
        if (all > limit) {
            atomic_fetch_sub_explicit(granted, more, memory_order_relaxed);
            return false;
        }
        l->leased += more;
    } else if (l->leased - used >= 2 * BUDGET_SLICE) { // keep one slice at hand, return the rest
        int64_t back = (l->leased - used) / BUDGET_SLICE * BUDGET_SLICE - BUDGET_SLICE;
        atomic_fetch_sub_explicit(granted, back, memory_order_relaxed);
        l->leased -= back;
    }
    l->used = used;
    return true;
}

#endif
