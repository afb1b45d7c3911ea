/* engine/model.h: what an engine, a model and an instance are inside; for this room alone. Thinks. */
#ifndef SLUICE_ENGINE_MODEL_H
#define SLUICE_ENGINE_MODEL_H

#include "engine/device.h"
#include "engine/plan.h"

#define MODEL_MAX_PORTS 64

struct engine {
    struct device *device;
    struct engine_host *host; // NULL: nothing is submitted
    struct engine_limits limits;
};

struct engine_model {
    struct engine *engine;
    struct graph graph;
    struct engine_port *inputs, *outputs;
    uint32_t max_batch; // 0: served singly
    uint32_t limit;     // the largest number of rows
    char single[160];   // why it is served singly
    char late[128];     // the first node whose shape follows from data; empty: none
    // Sizes of the free dimensions other than the batch dimension that it was tried with at load.
    int64_t lengths[2];
    unsigned n_lengths;
};

// Input k with so many rows and that length in its other free dimensions.
struct array model_input(const struct engine_model *m, unsigned k, uint32_t rows, int64_t length);
// Runs a row of zeros. False with e.
bool instance_zeros(struct engine_instance *i, int64_t length, struct engine_error *e);
// The plan for what is bound, made when there is none yet, and memory for it. NULL with e.
struct plan *instance_plan(struct engine_instance *i, const struct binding *b,
                           struct engine_error *e);
// The plan of the run that was last; NULL: there was none.
const struct plan *instance_running(const struct engine_instance *i);

#endif
