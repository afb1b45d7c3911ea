/* engine/cpu/vectors.h: which of the machine's vector instructions kernels use. Thinks. */
#ifndef SLUICE_ENGINE_CPU_VECTORS_H
#define SLUICE_ENGINE_CPU_VECTORS_H

enum vectors {      // each has those before it
    VECTORS_PLAIN,  // what the compiler takes as given
    VECTORS_AVX2,   // with FMA
    VECTORS_AVX512, // F, BW, DQ, VL
    VECTORS_VNNI,   // products of bytes
    VECTORS,
};

// The most that the machine has. Every choice among kernels asks here, so that tests can say less
// (tests/unit/engine_vectors.h).
enum vectors cpu_vectors(void);

#endif
