/* The kernels that the machine would not choose, tested on it: a test that includes this is linked with
 * --wrap=cpu_vectors (Makefile) and says how much kernels may have of what is there. Included by tests alone. */
#ifndef SLUICE_TESTS_ENGINE_VECTORS_H
#define SLUICE_TESTS_ENGINE_VECTORS_H

#include "engine/cpu/vectors.h"

#include <stdio.h>

static enum vectors vectors_most; // that kernels may have

enum vectors __real_cpu_vectors(void);
enum vectors __wrap_cpu_vectors(void);

enum vectors __wrap_cpu_vectors(void)
{
    return vectors_most;
}

// Runs everything once for each kind of vectors that the machine has; how often it failed.
static inline int vectors_each(int (*all)(void))
{
    static const char *const names[VECTORS] = {"plain C", "AVX2", "AVX-512", "AVX-512 VNNI"};
    int failed = 0;
    for (unsigned v = 0; v <= (unsigned)__real_cpu_vectors(); v++) {
        vectors_most = (enum vectors)v;
        printf("with %s:\n", names[v]);
        fflush(stdout);
        failed += all();
    }
    return failed;
}

#endif
