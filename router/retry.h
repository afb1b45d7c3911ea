/* router/retry.h: when to come again, as it is said with a refusal (`retry-after`, `grpc-retry-pushback-ms`): when there will be
 * room, as far as one knows, and not all at once: up to half as long again, by the dice that the caller gives. A
 * client of gRPC comes at that very moment (gRFC A6) and adds nothing of its own. Thinks. Thread: any. */
#ifndef SLUICE_ROUTER_RETRY_H
#define SLUICE_ROUTER_RETRY_H

#include <stdint.h>

#define RETRY_LEAST_US 20000    // nobody is asked to hammer
#define RETRY_UNKNOWN_US 600000 // where nothing is known: with what is added, within a second
#define RETRY_MOST_US 60000000  // queues change sooner than that

// wait_us: until there is room; 0: not known. random: uniform. In milliseconds, never 0.
static inline uint32_t retry_after_ms(uint64_t wait_us, uint64_t random)
{
    uint64_t us = wait_us == 0 ? RETRY_UNKNOWN_US : wait_us;
    us = us < RETRY_LEAST_US ? RETRY_LEAST_US : us > RETRY_MOST_US ? RETRY_MOST_US : us;
    return (uint32_t)((us + random % (us / 2 + 1)) / 1000);
}

#endif
