/* engine/engine.h: the bytes of a model.onnx -> a checked graph -> plans for what inputs come -> answers, on a
 * device (engine/device.h). Thinks: opens no file, reads no clock, starts no thread: the host of an engine
 * lends it some. Knows nothing of serving or networks, and has no globals.
 *
 * Memory: an engine owns its device; a model owns its weights and may be shared by instances read-only; an
 * instance owns its plans and their arena. Thread: a model is loaded on any thread; an instance has one run
 * at a time. Model files are hostile input: every length is backed by bytes at hand before anything is
 * allocated. */
#ifndef SLUICE_ENGINE_ENGINE_H
#define SLUICE_ENGINE_ENGINE_H

#include "base/view.h"
#include <stdbool.h>
#include <stdint.h>

#define ENGINE_MAX_RANK 16

enum engine_dtype {
    ENGINE_NONE,
    ENGINE_F32,
    ENGINE_F64,
    ENGINE_I32,
    ENGINE_I64,
    ENGINE_BOOL,
    ENGINE_U8,
    ENGINE_I8,
    ENGINE_U16,
    ENGINE_I16,
    ENGINE_U32,
    ENGINE_U64,
    ENGINE_STRING,
    ENGINE_F16, // these two at ports only: inside they are float32
    ENGINE_BF16,
    ENGINE_F8E4M3FN, // these never at ports: a byte each (engine/small.h)
    ENGINE_F8E4M3FNUZ,
    ENGINE_F8E5M2,
    ENGINE_F8E5M2FNUZ,
    ENGINE_F8E8M0,
    ENGINE_F4E2M1,
    ENGINE_U4,
    ENGINE_I4,
    ENGINE_U2,
    ENGINE_I2,
    ENGINE_DTYPES
};

struct engine_port { // an input or output as the model declares it
    const char *name;
    enum engine_dtype dtype;
    unsigned rank;
    int64_t shape[ENGINE_MAX_RANK]; // -1: free
    bool apart; // an input whose first dimension, which is free, is not the rows'
};

struct engine_error {
    char text[248]; // names the node, the op or the field; printable
};

struct engine_data {
    // Row-major, at any address; outputs: aligned to 64. Strings: each 4 bytes of its length (little-endian),
    // then its bytes.
    const void *data;
    size_t bytes;
    unsigned rank;
    int64_t shape[ENGINE_MAX_RANK];
};

// ---- the engine --------------------------------------------------------------------------------------

struct device; // engine/device.h; engine/cpu/device.h makes one

// What a model may take: bytes of memory (its constants, what kernels make of them, and one plan) and
// multiplications of one run. A model that takes more for one row is refused; for max_batch rows: it is
// given fewer rows. A few bytes of a hostile file can ask for any amount.
// trips: of all loops of one run together.
struct engine_limits {
    size_t bytes;   // 0: 4 GiB
    double work;    // 0: 2^40
    uint32_t trips; // 0: 2^20
};

struct engine_task { // something to be done on a thread of the host's
    void (*run)(struct engine_task *t);
    struct engine_task *next; // the host's, until it runs it
};

struct engine_host { // lends threads; embedded in whatever has them
    // Any thread. t->run(t) is called once, from no call that posts.
    void (*post)(struct engine_host *h, struct engine_task *t);
};

struct engine;

// d: the engine's from here on, also when this fails; NULL: there was no memory for it. host: stays the
// caller's; NULL: engine_run alone is called. NULL with e.
struct engine *engine_new(struct device *d, struct engine_host *host, struct engine_limits limits,
                          struct engine_error *e);
void engine_free(struct engine *g); // after its models

// What the engine takes, a line of Markdown for each op: line i in out; false: behind the last.
bool engine_op_line(unsigned i, char *out, size_t room);

// ---- models ------------------------------------------------------------------------------------------

struct engine_model;
struct engine_instance;

struct engine_files { // lends other files' bytes; embedded in whatever has them
    // All of the file at `location`, a path below the model's folder without "." and "..", one path a file: the
    // bytes stay, and stay as they are, until the load has ended. False with why (which names the file).
    bool (*map)(struct engine_files *f, struct view location, struct view *all, char why[256]);
};

enum engine_note {
    ENGINE_REFUSED, // a node that the engine does not do, and what about it
    ENGINE_CHANGED, // what is served in another form than the file has it
    ENGINE_FUSED,   // nodes that became part of others
    ENGINE_FOLDED,  // nodes that were computed at load
};

struct engine_source {          // a model as it comes
    struct view onnx;           // stays until the load has ended
    struct engine_files *files; // NULL: there are none beside it
    // Called while it is loaded, also when it is refused; NULL: nobody listens. text: printable.
    void (*note)(void *ctx, enum engine_note what, const char *text);
    void *ctx;
};

// Copies what it needs. max_batch: the largest batch that instances shall plan for. Runs the load-time
// check: a model is batched only when random rows give alone what they give in a batch. NULL with e.
struct engine_model *engine_model_open(struct engine *engine, const struct engine_source *source,
                                       uint32_t max_batch, struct engine_error *e);
// The same of a file that stands by itself.
struct engine_model *engine_model_load(struct engine *engine, struct view onnx, uint32_t max_batch,
                                       struct engine_error *e);
void engine_model_free(struct engine_model *m); // after its instances
unsigned engine_model_inputs(const struct engine_model *m);
const struct engine_port *engine_model_input(const struct engine_model *m, unsigned i);
unsigned engine_model_outputs(const struct engine_model *m);
const struct engine_port *engine_model_output(const struct engine_model *m, unsigned i);
uint32_t engine_model_max_batch(const struct engine_model *m); // 0: served singly
uint32_t engine_model_max_rows(const struct engine_model *m);  // of one run, where they are free
const char *engine_model_single_reason(const struct engine_model *m); // why; NULL when batched

// ---- runs --------------------------------------------------------------------------------------------

struct engine_instance *engine_instance_new(struct engine_model *m, struct engine_error *e);
void engine_instance_free(struct engine_instance *i);
// Takes the memory of the largest batch and runs a row of zeros, so that the first request finds everything
// made, and what cannot be had is known now. False with e.
bool engine_instance_warm(struct engine_instance *i, struct engine_error *e);

struct engine_call { // one run; the caller's memory until done
    // [n_parts][inputs in the model's order]: parts are put one behind the other along the first dimension.
    // Their shapes must fit the ports, and all that have a free first dimension have the same one, but those
    // that are apart.
    const struct engine_data *inputs;
    unsigned n_parts;
    struct engine_data *outputs; // filled in the model's order; memory of the instance
    bool ok;
    struct engine_error error; // names the input that does not fit
    void (*done)(struct engine_call *c);
};

// Any thread. done is called exactly once, never inside this call, on a thread of the host's or the device's;
// the outputs are valid until it returns, and the next run may be submitted from then on.
void engine_submit(struct engine_instance *i, struct engine_call *c);
// The same on the caller's thread, waiting, with one part; outputs are valid until the next run.
bool engine_run(struct engine_instance *i, const struct engine_data *inputs,
                struct engine_data *outputs, struct engine_error *e);

#endif
