/* infer/oip_statistics.h: what a server has counted of its models, as Triton's statistics extension gives it. Thinks.
 * Source: triton-inference-server/server docs/protocol/extension_statistics.md, common protobuf/grpc_service.proto. */
#ifndef SLUICE_INFER_OIP_STATISTICS_H
#define SLUICE_INFER_OIP_STATISTICS_H

#include "base/buffer.h"
#include "infer/oip.h"

struct oip_duration {
    uint64_t count, us; // said in nanoseconds
};

struct oip_batch_figures {
    uint32_t rows;
    struct oip_duration compute; // executions of so many rows
};

struct oip_figures { // of one version of a model
    struct view name, version;
    uint64_t last_ms;                // wall clock, of the last inference; 0: there was none
    uint64_t inferences, executions; // rows that were computed, and in how many batches
    struct oip_duration success, fail, queue, compute, cache_hit, cache_miss;
    const struct oip_batch_figures *batches; // [n_batches]
    unsigned n_batches;
};

struct oip_statistics {
    struct oip_figures *models;
    unsigned n;
};

// Adds to the batches of so many rows; the list, of room for `most`, is ascending. Sizes that find no room are left out.
void oip_batches_add(struct oip_batch_figures *list, unsigned *n, unsigned most, uint32_t rows,
                     struct oip_duration compute);
// Appended. False: out of memory.
bool oip_rest_statistics(struct buffer *out, const struct oip_statistics *s);
bool oip_grpc_statistics(struct buffer *out, const struct oip_statistics *s);

#endif
