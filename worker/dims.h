/* worker/dims.h: shapes that are no tensor's: of ports, of configurations, of recorded data. Thinks. */
#ifndef SLUICE_WORKER_DIMS_H
#define SLUICE_WORKER_DIMS_H

#include "engine/engine.h"

struct dims { // -1: free
    unsigned rank;
    int64_t at[ENGINE_MAX_RANK];
};

// Their product; false when it wraps or one is negative.
bool dims_count(const struct dims *d, uint64_t *count);
const char *dims_text(char out[96], const struct dims *d); // "[1,64]", cut when long
// May a shape of one form be read as the other: as many free dimensions, as many elements in the others?
bool dims_alike(const struct dims *a, const struct dims *b);
// shape, which is of form `from`, as `to` has it: what stands in its free dimensions, in their order. to_shape may
// not be shape.
void dims_change(const struct dims *from, const int64_t *shape, const struct dims *to,
                 int64_t *to_shape);

#endif
