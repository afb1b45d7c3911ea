/* engine/plan.h: a graph for one number of rows, ready to run: every shape known, every intermediate tensor
 * at its place in one arena. Places are shared by what is never alive at the same time. Thinks. */
#ifndef SLUICE_ENGINE_PLAN_H
#define SLUICE_ENGINE_PLAN_H

#include "engine/ops.h"

struct step {
    struct job job;
    struct array out; // job.out
};

struct plan {
    uint32_t rows;
    struct array *arrays; // [n_values]; data: constants at once, others by plan_place
    size_t *place;        // [n_values]: octets from the arena's start; SIZE_MAX: not in the arena
    int32_t *root;        // [n_values]: whose octets these are (an alias shares its input's)
    struct step *steps;
    unsigned n_steps;
    size_t bytes; // of the arena, scratch included
    size_t scratch_at;
    struct arena memory;
};

// See engine_set_limits. Process-wide; set before models are loaded.
extern size_t plan_max_bytes;
extern double plan_max_work;

// rows: what stands for a free first dimension. The graph stays. NULL with e.
struct plan *plan_new(const struct graph *g, uint32_t rows, struct engine_error *e);
void plan_free(struct plan *p);
// Binds the plan to an arena (aligned to 64, p->bytes long) and to the callers' inputs, and runs it.
void plan_run(struct plan *p, const struct graph *g, char *arena, const void *const *inputs);

// Runs what depends on constants only, once, and turns it into constants. Then fuses, and prepares weights.
// Part of loading.
bool graph_fold(struct graph *g, struct engine_error *e);

// Puts ops into what makes their input (engine/fuse.c). The values' readers are known.
bool graph_fuse(struct graph *g, struct engine_error *e);

// Rewrites the graph so that convolutions that oneDNN does fast, and what stands between them, work on
// images that stand channels last (engine/last.c). *one: its plan for one row; made anew when the graph
// was rewritten. Part of loading.
bool graph_last(struct graph *g, struct plan **one, struct engine_error *e);

#endif
