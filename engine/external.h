/* engine/external.h: a tensor's data in a file beside the model's (onnx/onnx docs/ExternalData.md): where it
 * lies is checked here, the bytes are lent by the host of the engine (struct engine_files). A part of loading.
 * Thinks. */
#ifndef SLUICE_ENGINE_EXTERNAL_H
#define SLUICE_ENGINE_EXTERNAL_H

#include "engine/graph.h"

struct external_ref { // as the tensor says
    struct view location, offset, length;
    unsigned n; // entries that were read
};

struct external_file {
    struct view location, bytes;
};

struct external_range {
    unsigned file;
    uint64_t at, end;
    struct view tensor;
};

struct external { // of one model; zeroed; memory: the graph's arena
    struct external_file *files;
    struct external_range *ranges;
    unsigned n_files, cap_files, n_ranges, cap_ranges;
};

// One entry of external_data. False: not one of key and value.
bool external_entry(struct external_ref *r, struct view message);
// Where the tensor's `bytes` bytes are. They stay until the load has ended. False with e, which names it.
bool external_find(struct external *x, struct graph *g, struct view tensor,
                   const struct external_ref *r, size_t bytes, struct view *data,
                   struct engine_error *e);
// No two tensors share a part of their data, unless they share all of it (tied weights). False with e.
bool external_check(struct external *x, struct engine_error *e);

#endif
