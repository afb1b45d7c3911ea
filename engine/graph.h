/* engine/graph.h: a model as a graph: values (inputs, constants, what nodes make) and nodes in an order in
 * which every value is made before it is read. Built by engine/onnx*.c, read by everybody else. Thinks. */
#ifndef SLUICE_ENGINE_GRAPH_H
#define SLUICE_ENGINE_GRAPH_H

#include "base/arena.h"
#include "engine/engine.h"

#define GRAPH_MAX_VALUES 65536
#define GRAPH_MAX_NODES 16384 // planning looks at what is alive at a time
#define NODE_MAX_INPUTS 64
#define NODE_MAX_OUTPUTS 64
#define NODE_MAX_ATTRS 32
#define GRAPH_MAX_FREE 64  // free dimensions of the inputs behind their first ones
#define GRAPH_MAX_DEPTH 16 // of graphs in graphs and functions in functions

struct array { // a tensor: what a kernel sees
    enum engine_dtype dtype;
    unsigned rank;
    int64_t shape[ENGINE_MAX_RANK];
    void *data; // NULL: not known before it runs
};

struct value {
    struct view name;
    struct array
        array; // shape and data of constants and inputs (-1: free); others: filled by a plan
    bool constant;
    bool borrowed;   // its data is the surrounding graph's
    bool lent;       // its data lies in memory of the host's, which stays until the load has ended
    void *on_device; // where the device reads it: constants of a loaded model
    int32_t maker;   // node index; -1: input or constant
    uint32_t
        readers; // inputs of nodes, and outputs of the model, that look at its data (graph_readers)
};

enum attr_kind {
    ATTR_INT,
    ATTR_FLOAT,
    ATTR_STRING,
    ATTR_INTS,
    ATTR_FLOATS,
    ATTR_STRINGS,
    ATTR_TENSOR,
    ATTR_GRAPH,
    ATTR_OTHER
};

struct attr {
    struct view name;
    enum attr_kind kind;
    int64_t i;
    float f;
    struct view s;
    int64_t *ints;
    float *floats;
    struct view *strings;
    unsigned n; // of ints, floats or strings
    struct array tensor;
    struct graph *graph; // the root's
};

struct op;     // engine/ops.h
struct kernel; // engine/device.h

struct node {
    struct view name, type;
    const struct op *op;
    const struct kernel *kernel;      // the device's; NULL where nothing runs
    int32_t input[NODE_MAX_INPUTS];   // value index; -1: left out
    int32_t output[NODE_MAX_OUTPUTS]; // -1: left out; never the first one
    int32_t *captures;                // values that its subgraphs read beside the inputs
    unsigned n_inputs, n_outputs, n_attrs, n_captures;
    struct attr *attrs;
    int64_t opset;
    // Weights as the kernel wants them, made once (packed, transposed). Not NULL: of the inputs only the data of
    // the first one, and of those in `reads`, is looked at.
    void *prepared;
    uint64_t reads; // inputs, in bits
    uint8_t relu;   // 1: a Relu was fused into it
};

struct packed { // a constant as kernels want it, shared by all nodes that want it the same way
    struct packed *next;
    int32_t value;
    uint64_t variant; // how, in bits of the kernel's choice
    void *data;
};

struct graph_block;

struct declared { // what the file says of an output
    struct view name;
    struct array array; // -1: free; dtype ENGINE_NONE: nothing is said
};

struct capture {          // a value of the surrounding graph under a number of this one's
    int32_t outer, inner; // outer: when it was read; who runs the node goes by node_captures
};

struct graph {
    struct arena arena; // owns everything below
    struct value *values;
    unsigned n_values, cap_values;
    struct node *nodes;
    unsigned n_nodes, cap_nodes;
    int32_t inputs[64], outputs[64];
    unsigned n_inputs, n_outputs;
    struct declared *declared; // [n_outputs]
    unsigned n_free;           // dimensions of the inputs that are free, first ones not counted
    // First dimensions are the rows', the same in all inputs. An input may part from them when the file gives its
    // first dimension no name, or another one than the rows'; it does where rows are no batch (model.c).
    bool may_part[64], apart[64];
    unsigned n_apart;
    int64_t opset;
    struct packed *packed;
    struct graph_block *blocks; // data of constants and what was made of it
    size_t bytes;               // of the blocks, and of what is charged beside them
    size_t charged;             // of them for the arena
    struct device *device;
    struct engine_limits limits;
    // A file's graph is the root; the others are bodies, run by the node that has them as attributes.
    struct graph *root;          // whose bytes and limits count
    struct graph *bodies, *next; // of the root: all bodies, however deep
    struct capture *captures;
    unsigned n_captures, cap_captures;
    unsigned all_nodes, all_values;     // of the root: in all graphs
    const struct engine_source *source; // while it is loaded
};

void graph_init(struct graph *g, struct device *d, struct engine_limits limits);
bool graph_import(struct graph *g, struct view onnx, struct engine_error *e); // false with e
void graph_free(struct graph *g); // a root, and its bodies
// A list in g's arena with room for one more than its n elements: `list` itself, or a copy of twice as many (*cap).
// NULL: out of memory.
void *graph_room(struct graph *g, void *list, unsigned n, unsigned *cap, size_t size);
// A body of root's; NULL: out of memory.
struct graph *graph_body(struct graph *root);
// The i-th body among n's attributes; NULL: there are no more.
struct graph *node_body(const struct node *n, unsigned i);
// Which values of n's graph the captures of that body are, one for each of them.
const int32_t *node_captures(const struct node *n, const struct graph *body);

// ---- constants ---------------------------------------------------------------------------------------
// Data of constants and what is made of it is counted, and given back with its last reader.

// Aligned to 64; lives until graph_drop or graph_free. NULL with e: out of memory, or too much.
void *graph_alloc(struct graph *g, size_t bytes, struct engine_error *e);
void graph_drop(struct graph *g, void *data); // NULL: nothing
// The value's data is `data` from here on, the graph's own; what it was is dropped.
void value_set(struct graph *g, struct value *v, void *data);
// Data that was lent, and is still read, becomes the graph's own. False with e.
bool graph_own(struct graph *g, struct engine_error *e);
// Counts bytes that a kernel took by other means. False with e: too much.
bool graph_charge(struct graph *g, size_t bytes, struct engine_error *e);
// Counts what g's arena took since it was asked last. False with e: too much.
bool graph_charge_arena(struct graph *g, struct engine_error *e);
// Counts the readers of each value anew; constants without any are dropped.
void graph_readers(struct graph *g);
// Node n no longer looks at its inputs from `first` on: constants without other readers are dropped.
void node_release(struct graph *g, const struct node *n, unsigned first);
void node_remove(struct graph *g,
                 struct node *n); // it is gone: its output is made by others, or known

// Is the data of input i, which is there, looked at?
bool node_reads(const struct node *n, unsigned i);
// n's input i if it is a constant; NULL: it is not, or left out.
const struct array *node_constant(const struct graph *g, const struct node *n, unsigned i);
// node_maker: the node that computes n's input i, if its op is `type`, else NULL. The second one: only if n is its only
// reader (graph_readers has counted them).
struct node *node_maker(const struct graph *g, const struct node *n, unsigned i, const char *type);
struct node *node_only_maker(const struct graph *g, const struct node *n, unsigned i,
                             const char *type);
// n is an `op` from here on, with the device's kernel for it. False with e: it has none.
bool node_set(const struct graph *g, struct node *n, const struct op *op, struct engine_error *e);
const struct attr *node_find(const struct node *n, struct view name); // NULL: absent
const struct attr *node_attr(const struct node *n, const char *name); // the same
int64_t node_int(const struct node *n, const char *name, int64_t otherwise);
float node_float(const struct node *n, const char *name, float otherwise);

size_t dtype_bytes(enum engine_dtype d);
enum engine_dtype
dtype_from_onnx(uint64_t type); // TensorProto.DataType; ENGINE_NONE: not one of ours
enum engine_dtype dtype_inside(enum engine_dtype d); // what values of it are inside a graph
// One element of the 16 bits of a float16 or bfloat16, and back: to the nearest, even ones where two are.
float float_of_half(enum engine_dtype d, uint16_t bits);
uint16_t half_of_float(enum engine_dtype d, float f);
size_t array_bytes(const struct array *a); // 0 as well when array_count is false
// Elements of a shape without free dimensions; false when it wraps or is beyond 2^31 elements.
bool array_count(const struct array *a, size_t *count);
__attribute__((format(printf, 2, 3))) bool engine_fail(struct engine_error *e, const char *format,
                                                       ...);
// Tells whoever listens to the load; printable.
__attribute__((format(printf, 3, 4))) void graph_note(const struct graph *g, enum engine_note what,
                                                      const char *format, ...);
// "Conv (node \"n1\")" for messages.
const char *node_title(const struct node *n, char out[128]);
// False with e, which begins with the node's title.
__attribute__((format(printf, 3, 4))) bool node_fail(const struct node *n, struct engine_error *e,
                                                     const char *format, ...);

#endif
