/* engine/device.h: the only thing that a device implements: which ops it can do, its memory, and a queue
 * that runs plans in order. engine/cpu/ is the first one. The engine itself runs no kernel and touches no
 * memory of a device; constants are folded on the host, by the CPU's kernels. Thinks.
 *
 * Life: device -> engine -> model (kernels prepare weights) -> instance (a queue) -> plan (kernels open).
 * Thread: models are loaded on any thread, one at a time each; a queue is used by one thread at a time. */
#ifndef SLUICE_ENGINE_DEVICE_H
#define SLUICE_ENGINE_DEVICE_H

#include "engine/ops.h"

struct plan;

// What the engine asks of a kernel. How it runs is the device's own: a device's table holds structs that
// begin with this one.
struct kernel {
    size_t (*scratch)(const struct job *j); // bytes while it runs; asked after open; NULL: none
    // Once a node, at load: weights as it wants them, in n->prepared; false with e. NULL: nothing.
    bool (*prepare)(struct graph *g, struct node *n, struct engine_error *e);
    void (*forget)(struct node *n); // frees what `prepared` holds beyond the graph's; NULL: nothing
    // What a plan keeps for this step, from its making (NULL: out of memory) to its end. Shapes are known,
    // constants still where the host sees them. NULL: nothing.
    void *(*open)(const struct job *j);
    void (*close)(void *state);
};

struct device {
    const struct device_ops *ops; // the device's own data stands behind it
};

struct queue; // the device's

struct device_ops {
    const char *name;
    // The host reads and writes the device's memory: constants, and inputs that lie well, are used where
    // they are; outputs are read where they were made; download is not called.
    bool shared;
    // What does `op`; NULL: nothing here does, and the model is refused.
    const struct kernel *(*kernel)(const struct device *d, const struct op *op);
    // Rewrites the graph into the device's preferred layouts, with ops of its own where it wants (see
    // node_set). shapes: of all values, for one row. NULL: values stay as the file has them. False with e.
    bool (*layout)(struct device *d, struct graph *g, const struct array *shapes, bool *changed,
                   struct engine_error *e);
    void (*free)(struct device *d); // after everything that was made with it

    // Memory: aligned to 64. NULL: none left.
    void *(*alloc)(struct device *d, size_t bytes);
    void (*release)(struct device *d, void *p); // NULL: nothing

    // A queue does what it is given in that order. NULL: out of memory.
    struct queue *(*queue_new)(struct device *d);
    void (*queue_free)(struct queue *q); // nothing is in it
    // Host -> device and back; the host's memory is the queue's until it has got there.
    void (*upload)(struct queue *q, void *to, const void *from, size_t bytes);
    void (*download)(struct queue *q, void *to, const void *from, size_t bytes);
    // All its steps; every array has its place. p->now_ns: it adds up how long each takes, in p->spent_ns.
    void (*enqueue)(struct queue *q, struct plan *p);
    // Runs j now, whose inputs are there, after what was given before; done when it returns. NULL: it runs plans
    // alone, and a model whose shapes follow from data is refused. Only of devices that share their memory.
    void (*step)(struct queue *q, const struct job *j);
    // fn is called once what was given before is done, on a thread of the device's choice, or inside this
    // call when it is done already. error: NULL, or why something before it failed.
    void (*event)(struct queue *q, void (*fn)(void *ctx, const char *error), void *ctx);
    const char *(*sync)(struct queue *q); // waits for the same; NULL or the error
};

#endif
