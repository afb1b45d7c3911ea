/* engine/cpu/bytes_conv.h: convolutions of bytes over one axis or two with constant weights: n->prepared is a struct
 * byte_conv. Thinks. */
#ifndef SLUICE_ENGINE_CPU_BYTES_CONV_H
#define SLUICE_ENGINE_CPU_BYTES_CONV_H

#include "engine/cpu/bytes.h"
#include "engine/ops.h"

struct byte_conv_answer { // what becomes of exact sums
    int32_t *whole;       // as they are; NULL: bytes
    struct put y;
    const struct array *scales; // of the weights: one, or one a channel out
    float x, by;                // scale of the images; of the answer
    const int32_t *bias;        // a channel out each; NULL: 0
};

// k: which input the weights are. zero: of the images.
size_t byte_conv_scratch(const struct job *j, unsigned k);
void byte_conv_run(const struct job *j, unsigned k, int32_t zero, const struct byte_conv_answer *a);

#endif
