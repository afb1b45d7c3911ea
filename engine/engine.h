/* engine/engine.h: the octets of a model.onnx -> a checked graph -> a plan with one memory arena per batch
 * bucket -> answers. Thinks: opens no file, reads no clock, starts no thread of its own (oneDNN's are held
 * to what engine_set_threads says). Knows nothing of serving or networks.
 *
 * Memory: a model owns its weights and may be shared by instances read-only; an instance owns its plans
 * and their arenas. Thread: a model is loaded on any thread; an instance runs on one thread at a time.
 * Model files are hostile input: every length is backed by octets at hand before anything is allocated. */
#ifndef SLUICE_ENGINE_ENGINE_H
#define SLUICE_ENGINE_ENGINE_H

#include "base/view.h"
#include <stdbool.h>
#include <stdint.h>

#define ENGINE_MAX_RANK 8

enum engine_dtype {
    ENGINE_NONE,
    ENGINE_F32,
    ENGINE_F64,
    ENGINE_I32,
    ENGINE_I64,
    ENGINE_BOOL,
    ENGINE_U8,
    ENGINE_I8
};

struct engine_port { // an input or output as the model declares it
    const char *name;
    enum engine_dtype dtype;
    unsigned rank;
    int64_t shape[ENGINE_MAX_RANK]; // -1: free
};

struct engine_error {
    char text[248]; // names the node, the op or the field; printable
};

struct engine_data {
    const void *data; // row-major, aligned to 4
    size_t bytes;
    unsigned rank;
    int64_t shape[ENGINE_MAX_RANK];
};

struct engine_model;
struct engine_instance;

// Copies what it needs. max_batch: the largest batch that instances shall plan for. Runs the load-time
// check: a model is batched only when random rows give alone what they give in a batch. NULL with e.
struct engine_model *engine_model_load(struct view onnx, uint32_t max_batch,
                                       struct engine_error *e);
void engine_model_free(struct engine_model *m); // after its instances
unsigned engine_model_inputs(const struct engine_model *m);
const struct engine_port *engine_model_input(const struct engine_model *m, unsigned i);
unsigned engine_model_outputs(const struct engine_model *m);
const struct engine_port *engine_model_output(const struct engine_model *m, unsigned i);
uint32_t engine_model_max_batch(const struct engine_model *m); // 0: served singly
uint32_t engine_model_max_rows(const struct engine_model *m);  // of one run, where they are free
const char *engine_model_single_reason(const struct engine_model *m); // why; NULL when batched

struct engine_instance *engine_instance_new(struct engine_model *m, struct engine_error *e);
void engine_instance_free(struct engine_instance *i);
// Takes the memory of the largest batch and runs a row of zeros, so that the first request finds everything
// made, and what cannot be had is known now. False with e.
bool engine_instance_warm(struct engine_instance *i, struct engine_error *e);
// inputs in the model's order; their shapes must fit its ports (e names the input that does not). All
// that have a free first dimension have the same one. outputs: filled in the model's order, memory of the
// instance, valid until its next run.
bool engine_run(struct engine_instance *i, const struct engine_data *inputs,
                struct engine_data *outputs, struct engine_error *e);

// What a model may take: bytes of memory (its constants, what kernels make of them, and one plan) and
// multiplications of one run; for models loaded from now on, 4 GiB and 2^40 by default. A model that takes
// more for one row is refused; for max_batch rows: it is given fewer rows. A few bytes of a hostile file can
// ask for any amount.
void engine_set_limits(size_t bytes, double work);

// How many threads the kernels of this process may use, from now on.
void engine_set_threads(unsigned n);

#endif
