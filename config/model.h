/* config/model.h: the bytes of a model's config.pbtxt, as Triton's users write it -> what we follow of it, and
 * the names of what we do not. Source: triton-inference-server/common protobuf/model_config.proto. A field that
 * the proto does not have, a value of another type or out of its bounds is an error with its line; a field
 * that it has and we do not follow is told. Thinks. Memory: the caller's arena; strings end in NUL. Thread:
 * any. */
#ifndef SLUICE_CONFIG_MODEL_H
#define SLUICE_CONFIG_MODEL_H

#include "base/arena.h"
#include "base/view.h"
#include <stdbool.h>
#include <stdint.h>

#define MODEL_CONFIG_PORTS 64
#define MODEL_CONFIG_RANK 16 // as many as the engine and the protocol have
#define MODEL_CONFIG_BATCH 65536
#define MODEL_CONFIG_PREFERRED 8
#define MODEL_CONFIG_VERSIONS 64
#define MODEL_CONFIG_WARMUPS 32
#define MODEL_CONFIG_WARMUP_RUNS 1000
#define MODEL_CONFIG_INSTANCES 256

struct
    model_shape { // of a port, or of a warm-up's input: without the batch dimension where there is one
    const char *name;
    const char *dtype; // "FP32", as in the Open Inference Protocol; NULL: not said
    unsigned rank;
    int64_t dims[MODEL_CONFIG_RANK]; // -1: free
    bool shaped;                     // dims were said
    // What the model has in their place (reshape).
    bool reshaped;
    unsigned reshape_rank;
    int64_t reshape[MODEL_CONFIG_RANK];
    unsigned line;
};

struct model_warmup_input {
    struct model_shape shape; // no dimension is free
    bool random;              // else zeros
    const char *file;         // in the folder "warmup" beside the versions; NULL: as `random` says
};

struct model_warmup {
    const char *name;
    uint32_t batch, runs;
    struct model_warmup_input *inputs; // no name twice
    unsigned n_inputs, line;
};

enum model_versions { MODEL_LATEST, MODEL_ALL, MODEL_SPECIFIC };

struct model_settings {
    const char *name, *platform, *backend, *file; // NULL: not said
    bool batch_said;
    uint32_t max_batch;
    struct model_shape *inputs, *outputs; // of each no name twice
    unsigned n_inputs, n_outputs;
    uint64_t max_wait_us;
    uint32_t preferred[MODEL_CONFIG_PREFERRED]; // ascending
    unsigned n_preferred;
    uint32_t instances; // of all groups together; 0: not said
    enum model_versions versions;
    uint32_t latest; // MODEL_LATEST: so many
    int64_t specific[MODEL_CONFIG_VERSIONS];
    unsigned n_specific;
    struct model_warmup *warmups;
    unsigned n_warmups;
    const char *ignored; // "optimization (line 9), parameters.x (line 12)"; NULL: nothing was
};

struct model_settings_error {
    unsigned line;
    char text[160]; // printable
};

// NULL with e.
struct model_settings *model_settings_parse(struct view text, struct arena *a,
                                            struct model_settings_error *e);

#endif
