/* backends/backoff.h: when to try again: doubling from first_us to cap_us, each wait drawn from its upper
 * half ("equal jitter"), so that a fleet does not come back in step. Thinks. */
#ifndef SLUICE_BACKENDS_BACKOFF_H
#define SLUICE_BACKENDS_BACKOFF_H

#include "base/rand.h"
#include <stdint.h>

struct backoff {
    uint64_t first_us, cap_us;
    unsigned failures; // in a row
};

// The wait before the next try; counts this failure.
static inline uint64_t backoff_next_us(struct backoff *b, struct rand *r)
{
    uint64_t wait = b->first_us;
    for (unsigned i = 0; i < b->failures && wait < b->cap_us; i++)
        wait *= 2;
    if (wait > b->cap_us)
        wait = b->cap_us;
    b->failures++;
    return wait / 2 + rand_below(r, wait / 2 + 1);
}

static inline void backoff_reset(struct backoff *b)
{
    b->failures = 0;
}

#endif
