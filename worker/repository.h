/* worker/repository.h: the models of a directory in the layout that Triton's users know:
 * NAME/VERSION/model.onnx and, beside the versions, an optional NAME/config.json {"max_batch_size": N} or else
 * Triton's NAME/config.pbtxt (config/model.h). What serves lies in memory and was checked whole before; links
 * within the directory are followed (worker/files.h). Does. Thread: built before the loop runs, then the
 * loop's. */
#ifndef SLUICE_WORKER_REPOSITORY_H
#define SLUICE_WORKER_REPOSITORY_H

#include "batcher/batcher.h"
#include "engine/engine.h"
#include "infer/oip.h"
#include "infer/oip_statistics.h"
#include "worker/dims.h"

#define REPOSITORY_MODELS 256
#define REPOSITORY_VERSIONS 8 // the highest ones of a model

#define SERVED_SIZES 64 // of batches, that are told apart

struct served_instance {
    struct engine_instance *engine;
    bool busy; // a batch is on it
};

struct served_shape {
    bool changed; // else nothing is said
    struct dims outside, inside;
};

struct served { // one version of one model
    char name[MODEL_NAME_MAX + 1], version[16];
    struct engine_model *engine;
    struct served_instance *instances; // as many as batches of it are computed at a time
    unsigned n_instances;
    struct model_metadata meta; // what it says of itself; versions: all of its name
    const uint8_t *output_of;   // [meta.n_outputs]: which of the engine's each is
    // Of each input and output of meta, where config.pbtxt says "reshape": what clients see, what the model has.
    const struct served_shape *in_shapes, *out_shapes;
    struct arena arena;
    struct batcher batcher;
    struct oip_figures figures; // its name is `name`; batches is `sizes`. The loop's that serves it
    struct oip_batch_figures sizes[SERVED_SIZES];
    struct served *next;
};

struct repository_options {
    uint32_t max_batch; // rows of a batch where a model's configuration does not say
    unsigned
        instances; // of a model, where its configuration does not say: batches computed at a time
    unsigned threads; // that compute: no model has more instances
};

struct refused { // found, but not fit to serve
    char name[MODEL_NAME_MAX + 1], version[16], why[248];
    struct refused *next;
};

struct repository {
    struct served *models; // of one name: the highest version first
    struct refused *refused;
    unsigned n, n_refused;
    struct engine *engine;
    struct repository_options options;
    unsigned instances; // the most that one of them has
};

// engine: has to outlive the repository. Why a model was refused is said on standard error, one event line
// each; the others go on. 0, or -1 with why when the directory itself cannot be read.
int repository_load(struct repository *r, struct engine *engine, const char *dir,
                    struct repository_options o, char why[256]);
void repository_free(struct repository *r);
// version empty: the highest. NULL: e.
struct served *repository_find(const struct repository *r, struct view name, struct view version,
                               struct error *e);

// Do these inputs and requested outputs fit the model? Puts the inputs in the model's order into
// out[n_inputs]. False with e (400; 501: what no model here does).
bool served_inputs(const struct served *s, const struct infer_request *q, const struct tensor **out,
                   struct error *e);
enum dtype dtype_of_engine(enum engine_dtype d);

#endif
