/* engine/cpu/broadcast.h: walks over tensors that are broadcast to one shape, row by row. Thinks. */
#ifndef SLUICE_ENGINE_CPU_BROADCAST_H
#define SLUICE_ENGINE_CPU_BROADCAST_H

#include "engine/graph.h"

#define BROADCAST_MAX 3

// y[0..n) from the operands, whose elements stand step[k] apart: 1, or 0 for one element again and again.
typedef void broadcast_row(void *y, const void *const *in, const size_t *step, size_t n);

// in: n_in operands, of any element size each; axes that may be walked as one are.
void broadcast(const struct array *out, const struct array *const *in, unsigned n_in,
               broadcast_row *row);

#endif
