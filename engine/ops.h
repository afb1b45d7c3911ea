/* engine/ops.h: the table of operators: one row an op. Adding one is a row, its shape function, its
 * kernel and its test. Kernels are the CPU device's (engine/cpu/). Thinks. */
#ifndef SLUICE_ENGINE_OPS_H
#define SLUICE_ENGINE_OPS_H

#include "engine/graph.h"

struct job { // one node on its tensors
    struct node *node;
    const struct array *in[NODE_MAX_INPUTS]; // NULL: left out
    struct array *out;                       // the first output; others are not made
    void *scratch;                           // as many octets as op->scratch said, aligned to 64
    void *state;                             // what op->open gave
};

struct op_attr {
    const char *name; // NULL: behind the last
    enum attr_kind kind;
};

struct op {
    const char *name;
    uint8_t min_inputs, max_inputs;
    // Those that the shape function or the kernel looks at, or that mean nothing when serving. A node with
    // any other is refused: it would mean something that we do not do.
    struct op_attr attrs[8];
    bool alias; // the output is the first input under another shape: nothing runs
    // Fills j->out's dtype, rank and shape from the inputs (shapes, and data where constant).
    bool (*shape)(struct job *j, struct engine_error *e);
    void (*run)(const struct job *j);       // NULL with alias
    size_t (*scratch)(const struct job *j); // NULL: none
    // Multiplications (or looks) for each element of the output; NULL: one, or one for each that is read.
    double (*work)(const struct job *j);
    // Once a node, at load: weights as the kernel wants them, in n->prepared; false with e. NULL: nothing.
    bool (*prepare)(struct graph *g, struct node *n, struct engine_error *e);
    void (*forget)(struct node *n); // frees what `prepared` holds beyond the graph's; NULL: nothing
    // What a plan keeps for this step, from its making (NULL: out of memory) to its end. NULL: nothing.
    void *(*open)(const struct job *j);
    void (*close)(void *state);
};

extern const struct op op_table[];
extern const unsigned op_count;
double op_work(const struct job *j);        // about how many steps a run takes
const struct op *op_find(struct view type); // NULL: not supported
bool op_takes(const struct op *op, const struct attr *a);
// What engine/last.c puts in their place where images stand channels last; no file can name them.
extern const struct op op_conv_last, op_max_pool_last, op_average_pool_last,
    op_global_average_pool_last;

// ---- shape functions (engine/shapes.c) ---------------------------------------------------------------
bool shape_same(struct job *j, struct engine_error *e);
bool shape_dropout(struct job *j, struct engine_error *e);
bool shape_broadcast(struct job *j, struct engine_error *e);
bool shape_gemm(struct job *j, struct engine_error *e);
bool shape_matmul(struct job *j, struct engine_error *e);
bool shape_conv(struct job *j, struct engine_error *e);
bool shape_pool(struct job *j, struct engine_error *e);
bool shape_global_pool(struct job *j, struct engine_error *e);
bool shape_conv_last(struct job *j, struct engine_error *e);
bool shape_pool_last(struct job *j, struct engine_error *e);
bool shape_global_pool_last(struct job *j, struct engine_error *e);
bool shape_reshape(struct job *j, struct engine_error *e);
bool shape_flatten(struct job *j, struct engine_error *e);
bool shape_squeeze(struct job *j, struct engine_error *e);
bool shape_unsqueeze(struct job *j, struct engine_error *e);
bool shape_transpose(struct job *j, struct engine_error *e);
bool shape_concat(struct job *j, struct engine_error *e);
bool shape_slice(struct job *j, struct engine_error *e);
bool shape_softmax(struct job *j, struct engine_error *e);
bool shape_constant(struct job *j, struct engine_error *e);
bool shape_batchnorm(struct job *j, struct engine_error *e);

// What a window (convolution, pool) does along its two axes, after auto_pad.
struct window {
    int64_t kernel[2], stride[2], dilation[2], pad[2] /* before */, in[2], out[2];
};
// axis: the first of the image's two (2, or 1 with channels last).
bool window_of(const struct job *j, unsigned axis, const int64_t *kernel, struct window *w,
               struct engine_error *e);
// Slice's start and step along each axis of the input.
bool slice_of(const struct job *j, int64_t *start, int64_t *step, int64_t *length,
              struct engine_error *e);

#endif
