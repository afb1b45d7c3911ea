/* engine/late.h: what cannot be planned: nodes whose shapes follow from data, whatever reads what they make, and
 * the bodies of control flow. They run one by one, in the graph's order: the shape is asked for when the inputs
 * are there, memory is taken then and given back after the last reader. On devices whose memory the host sees.
 *
 * Bounded: memory by what the limits leave beside constants and plan, work and trips by the limits. Thinks.
 * Thread: the instance's. */
#ifndef SLUICE_ENGINE_LATE_H
#define SLUICE_ENGINE_LATE_H

#include "engine/device.h"
#include "engine/ops.h"

struct cell; // memory of the device's that slots share; the last one gives it back

struct slot { // a value while it is run
    struct array array;
    struct cell *cell; // NULL: its memory stays until the run ends, whoever reads it
    uint32_t left;     // reads that are still to come
};

struct frame { // a graph while it is run
    const struct graph *graph;
    struct slot *slots; // [n_values]
};

struct late { // one run
    struct device *device;
    struct queue *queue;
    struct engine_limits limits; // bytes: of the run alone
    size_t bytes;                // taken
    double work;
    uint32_t trips;
    void *scratch;
    size_t scratch_bytes;
    const struct text *text;
    struct engine_error *e;
};

// Runs n, whose inputs are in f; what has been read for the last time is given back. False with l->e.
bool late_node(struct late *l, struct frame *f, struct node *n);
// Gives back what is no value's.
void late_end(struct late *l);

// ---- slots -------------------------------------------------------------------------------------------

// Memory for what a says; *s held nothing. False with l->e: out of memory, or too much.
bool slot_make(struct late *l, struct slot *s, const struct array *a, const struct node *n);
// `to`, which held nothing, is what `from` is; `from` may go.
void slot_share(struct slot *to, const struct slot *from);
void slot_drop(struct late *l, struct slot *s); // it holds nothing from here on

// ---- bodies ------------------------------------------------------------------------------------------

// The values of `body`, a subgraph of n in `outer`, before any of its nodes has run. False with l->e.
bool frame_begin(struct late *l, struct frame *f, const struct graph *body, const struct node *n,
                 const struct frame *outer);
bool frame_run(struct late *l, struct frame *f); // its nodes; outputs and inputs stay
void frame_end(struct late *l, struct frame *f);

// ---- control flow (engine/control.c) -----------------------------------------------------------------

const struct graph *control_branch(const struct node *n, bool yes); // of an If
bool control_if(struct late *l, struct frame *f, struct node *n);
bool control_loop(struct late *l, struct frame *f, struct node *n);
bool control_scan(struct late *l, struct frame *f, struct node *n);

#endif
