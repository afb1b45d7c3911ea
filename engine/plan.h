/* engine/plan.h: a graph whose inputs' free dimensions are bound, ready to run: every shape known, every
 * intermediate tensor at its place in one arena. Places are shared by what is never alive at the same time. Thinks. */
#ifndef SLUICE_ENGINE_PLAN_H
#define SLUICE_ENGINE_PLAN_H

#include "engine/late.h"
#include "engine/ops.h"

struct binding {   // what stands in the free dimensions of the inputs
    uint32_t rows; // in the first ones
    unsigned n;
    // In the others, in the inputs' order; then in the first ones that are apart.
    int64_t dims[GRAPH_MAX_FREE + 64];
};

struct plan_step {
    struct job job;
};

struct known { // a value that follows from shapes alone
    int32_t value;
    const void *host; // its data there
};

struct plan {
    const struct graph *graph;
    struct binding bound;
    unsigned n_values;    // the graph's, then those of branches that are known to be taken
    struct array *arrays; // [n_values]; data: constants at once, others by plan_bind
    size_t *place;        // [n_values]: bytes from the arena's start; SIZE_MAX: not in the arena
    int32_t *root;        // [n_values]: whose bytes these are (an alias shares its input's)
    struct plan_step *steps;
    unsigned n_steps;
    struct known *known; // beside the graph's constants
    unsigned n_known;
    size_t known_bytes;
    // What is run behind the steps, since its shapes follow from data: nodes in the graph's order, and how often
    // each value is read there or is an output. frame.slots is NULL without any.
    struct node **late;
    unsigned n_late;
    bool *is_late; // [n_values]: made there
    uint32_t *late_reads;
    struct frame frame;
    struct late *run;
    double work;         // multiplications of the steps
    const char *failure; // of the run that is under way: what a kernel found wrong with its data
    size_t bytes;        // of the arena, scratch included
    size_t scratch_at;
    uint64_t (*now_ns)(void); // NULL: nobody watches how long steps take
    uint64_t *spent_ns;       // [n_steps + n_late] of all watched runs
    struct text text;         // of what is made while it runs
    struct text known_text;   // of what is known
    struct arena text_memory; // of the run that was last
    struct arena memory;
};

bool binding_same(const struct binding *a, const struct binding *b);
// The same length in all free dimensions other than the first ones; 1 in those that are apart.
struct binding binding_of(const struct graph *g, uint32_t rows, int64_t length);
// The graph stays. NULL with e.
struct plan *plan_new(const struct graph *g, const struct binding *b, struct engine_error *e);
// The same without what kernels open and their scratch: for a look at its shapes, never to be run.
struct plan *plan_sketch(const struct graph *g, const struct binding *b, struct engine_error *e);
// Tells of all nodes for which there can be no plan, as far as what they read can be; e: says so, when they are
// several.
void plan_refuse(const struct graph *g, const struct binding *b, struct engine_error *e);
void plan_free(struct plan *p);
// Where a value belongs in the arena: also inputs and what is known, when they are copied there.
void *plan_place(const struct plan *p, char *arena, int32_t value);
// Gives every array its address: in the arena (aligned to 64, p->bytes long), and inputs where inputs[k] says.
void plan_bind(struct plan *p, char *arena, void *const *inputs);
// Does the step compute anything? Not when its output is its input, or has no elements.
bool step_runs(const struct plan_step *s);
// Adds the multiplications of one node. False with e: too many.
bool plan_work(const struct graph *g, const struct job *j, double *work, struct engine_error *e);

// Runs what is late, when the steps are done and bound; then the outputs have their arrays until plan_drop.
// False with e.
bool plan_run_late(struct plan *p, struct queue *q, struct engine_error *e);
void plan_drop(struct plan *p); // gives back what late outputs hold

// Parts of making a plan. The branch of n, an If whose condition is known; NULL: it is none. Then the branch's
// nodes on the plan's values, with what makes n's outputs of them. NULL with e.
const struct graph *branch_known(const struct plan *p, const struct node *n);
struct node *branch_nodes(struct plan *p, const struct node *n, const struct graph *b,
                          unsigned *count, struct engine_error *e);

// Part of making a plan: computes j now if its inputs are known and its output is small (*known). False with e.
bool plan_know(struct plan *p, struct job *j, bool *known, struct engine_error *e);

// ---- parts of loading --------------------------------------------------------------------------------

// Runs what depends on constants only, once, and turns it into constants. Then fuses, and prepares weights.
bool graph_fold(struct graph *g, struct engine_error *e);
// Conv, MatMul and Gemm between bytes become ops on bytes (engine/fuse_bytes.c). The values' readers are known. What
// makes floats of constant bytes is not folded until then. False with e.
bool fuse_bytes(struct graph *g, struct engine_error *e);
bool node_feeds_bytes(const struct graph *g, const struct node *n);
// Puts a Tokenizer into n, the TfIdfVectorizer behind it (engine/fuse_text.c). False with e: out of memory.
bool fuse_text(struct graph *g, struct node *n, struct engine_error *e);
bool set_stopwords(const struct graph *g, struct node *n, struct engine_error *e);
// Makes n, a MatMul, a look into a table where it is one (engine/fuse_lookup.c). False with e.
bool fuse_lookup(struct graph *g, struct node *n, struct engine_error *e);
// Puts ops into what makes their input (engine/fuse.c). The values' readers are known.
bool graph_fuse(struct graph *g, struct engine_error *e);

#endif
