/* net/memory.h: how much memory this process may count on. Does. Thread: any. */
#ifndef SLUICE_NET_MEMORY_H
#define SLUICE_NET_MEMORY_H

#include <stdint.h>

// Octets: the machine's memory, or the cgroup's if that is smaller.
int64_t memory_total(void);

#endif
