/* net/memory.h: how much memory this process may have: the machine's, or what its control groups leave it
 * (kernel Documentation/admin-guide/cgroup-v2.rst, memory.max; cgroup-v1/memory.rst,
 * memory.limit_in_bytes). Does. Thread: any. */
#ifndef SLUICE_NET_MEMORY_H
#define SLUICE_NET_MEMORY_H

#include <stdint.h>

// Bytes. Reads files: for the start.
int64_t memory_total(void);
// The least of machine_bytes and every limit from the process's own group up to the root: a service is
// bounded by its slice as well. self: /proc/self/cgroup; root: /sys/fs/cgroup. What cannot be read bounds
// nothing.
uint64_t memory_allowed(uint64_t machine_bytes, const char *self, const char *root);

#endif
