/* engine/cpu/device.h: the CPU as a device: everything is done before a call returns. Thinks. */
#ifndef SLUICE_ENGINE_CPU_DEVICE_H
#define SLUICE_ENGINE_CPU_DEVICE_H

#include <stdbool.h>
#include <stddef.h>

struct device;
struct job;

struct cpu_options {
    unsigned threads; // that a kernel may use; 0 is 1
    bool plain;       // every op in plain C, without the library's kernels (comparisons)
};

struct device *cpu_device_new(struct cpu_options o); // NULL: out of memory

// For constants, at load: j's op on the host.
size_t cpu_scratch(const struct job *j);
void cpu_run(const struct job *j);

#endif
