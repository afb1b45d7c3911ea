/* engine/onnx_inner.h: what the files that read ONNX's protobuf (onnx/onnx onnx/onnx.proto) into a struct graph share:
 * onnx.c and onnx_*.c, nobody else includes it. Field numbers stand in the enums; what we do not use is skipped. The
 * nesting is fixed by the messages we enter, but for subgraphs (attributes of type GRAPH) and functions (a node that
 * stands for several), whose depth is bounded.
 *
 * Each function that answers bool answers false with im->e, if it does not say otherwise. Memory: the arena of im->g;
 * views point into the file until something copies them. A part of loading. Thinks. */
#ifndef SLUICE_ENGINE_ONNX_INNER_H
#define SLUICE_ENGINE_ONNX_INNER_H

#include "base/pb.h"
#include "engine/external.h"
#include "engine/graph.h"
#include "engine/ops.h"

enum { GRAPH_NODE = 1, GRAPH_INITIALIZER = 5, GRAPH_INPUT = 11, GRAPH_OUTPUT = 12 };
enum {
    NODE_INPUT = 1,
    NODE_OUTPUT = 2,
    NODE_NAME = 3,
    NODE_TYPE = 4,
    NODE_ATTRIBUTE = 5,
    NODE_DOMAIN = 7
};
enum {
    ATTRIBUTE_NAME = 1,
    ATTRIBUTE_F = 2,
    ATTRIBUTE_I = 3,
    ATTRIBUTE_S = 4,
    ATTRIBUTE_T = 5,
    ATTRIBUTE_G = 6,
    ATTRIBUTE_FLOATS = 7,
    ATTRIBUTE_INTS = 8,
    ATTRIBUTE_STRINGS = 9,
    ATTRIBUTE_GRAPHS = 11,
    ATTRIBUTE_TYPE = 20,
    ATTRIBUTE_REFERENCE = 21
};
enum {
    FUNCTION_NAME = 1,
    FUNCTION_INPUT = 4,
    FUNCTION_OUTPUT = 5,
    FUNCTION_NODE = 7,
    FUNCTION_OPSET = 9,
    FUNCTION_DOMAIN = 10,
    FUNCTION_ATTRIBUTE = 11 // with what it is when the call does not say
};

#define ONNX_MAX_OPSET 28
#define LEFT_OUT INT32_MAX // as a value: a function's input that its call leaves out

struct versions { // of the ops, by their domain; 0: not said
    int64_t onnx, ml, other;
};

struct function {
    struct function *next;
    struct view name, domain, message;
    struct versions versions;
    bool checked; // its ops
};

struct import { // of one graph, or of a function's nodes into it
    struct graph *g;
    struct engine_error *e;
    struct import *outer;    // of the graph around this one; NULL: nothing is seen from here
    const struct node *call; // of the function; NULL: not within one
    struct function *functions;
    unsigned depth;
    struct name *table; // open addressing (onnx_names.c)
    unsigned table_size, n_names;
    struct versions versions;
    bool without_onnx; // the file names no version of ONNX's own ops
    struct view rows;  // the file's name for the first dimension of the first input with a free one
    bool has_rows;
    struct external *external; // of the file
};

// ---- onnx_fields.c: fields of a message --------------------------------------------------------------

// The next field of that number; false: there is none, or r->error.
bool field_next(struct pb_reader *r, uint32_t number, struct pb_field *f);
// How many there are before the message ends or breaks: each costs the file a byte at least.
unsigned field_count(struct view message, uint32_t number);
// The bytes of the first one that holds bytes; empty: none does.
struct view field_bytes(struct view message, uint32_t number);

// A repeated number: one varint, or a packed run of them.
struct varints {
    struct pb_reader packed; // packed.error after the last one: the run is broken
    const struct pb_field *alone;
};
void varints_of(struct varints *s, const struct pb_field *f);
bool varints_next(struct varints *s, uint64_t *v);
// A repeated fixed-width number, one or packed: its bytes, little-endian, of `size` each if whole. Points into *f
// where it is one.
struct view fixed_of(const struct pb_field *f, size_t size);

// The beginning of a name, for messages.
static inline struct view brief(struct view name)
{
    return view_of(name.p, name.n < 64 ? name.n : 64);
}

// ---- onnx_names.c: values by name --------------------------------------------------------------------
// A name is looked up in its graph, then in those around it: a value found there is captured, graph by graph.

// The value of that name in im's own graph; -1: none so far.
int32_t names_own(const struct import *im, struct view name);
// The value of that name (LEFT_OUT too), captured when a graph around this one has it; -1: none has.
int32_t names_find(struct import *im, struct view name);
// A new value; -1: the name exists, the bound is reached, or there is no memory. Says nothing in im->e.
int32_t names_add(struct import *im, struct view name);
// A new value without a name; -1: the bound is reached, or there is no memory.
int32_t value_add(struct graph *g);
// Value v under that name, whose bytes stay. False, without im->e: the name exists, or there is no memory.
bool names_bind(struct import *im, struct view name, int32_t v);
// The name, which exists, stands for v from here on.
void names_rebind(struct import *im, struct view name, int32_t v);

// ---- onnx_tensor.c -----------------------------------------------------------------------------------

struct raw_tensor { // as it stands in the file
    struct array array;
    struct view name, raw;
    bool has_raw, external, lent;
    struct external_ref where; // external
};
// TensorProto: its data is the graph's, or lent (t->lent) until the load has ended.
bool import_tensor(struct import *im, struct view message, struct raw_tensor *t);
bool import_initializer(struct import *im, struct view message); // a constant

// ---- onnx_ports.c: inputs and outputs of a graph -----------------------------------------------------

bool import_input(struct import *im, struct view message); // ValueInfoProto; initializers were read
bool import_output(struct import *im, struct view message); // ValueInfoProto; nodes were read

// ---- onnx_attr.c -------------------------------------------------------------------------------------

// AttributeProto: n's next attribute, for which there is room (zeroed); none when it is one of the function's call
// that the call does not have. n->op NULL: any goes (those of a function's call).
bool import_attr(struct import *im, struct node *n, struct view message);

// ---- onnx_node.c -------------------------------------------------------------------------------------

// Room for one more node, which the caller counts. NULL: out of memory.
struct node *node_room(struct graph *g);
// Name, type and domain, the rest of *n zeroed.
void node_identity(struct view message, struct node *n, struct view *domain);
// Who it is, and room for its attributes.
bool import_node_head(struct import *im, struct node *n, struct view message, struct view *domain);
// Inputs and attributes, in the order of the file.
bool import_node_fields(struct import *im, struct node *n, struct view message);
bool import_node(struct import *im,
                 struct view message); // NodeProto: a node, or a function's nodes

// ---- onnx_function.c ---------------------------------------------------------------------------------
// A function sees nothing but its inputs; its nodes stand in the graph in place of the node that calls it.

bool import_function(struct import *im, struct view message); // FunctionProto, for calls to come
// NULL: the file has none of that name.
struct function *function_of(const struct import *im, struct view type, struct view domain);
// Its nodes, and its outputs under the names that the call (message: NodeProto) gives them.
bool import_call(struct import *im, struct function *fn, struct view message);

// ---- onnx_refused.c ----------------------------------------------------------------------------------

// All that we do not do of the file's ops and attributes is told at once.
bool import_check(struct import *im, struct view graph);

// ---- onnx.c: graphs ----------------------------------------------------------------------------------

// An import one deeper, of nodes into g; what the file says goes along, names do not.
struct import import_within(const struct import *im, struct graph *g);
bool import_too_deep(struct import *im); // false
bool import_too_many(struct import *im); // false
// OperatorSetIdProto. False, without im->e: it cannot be read.
bool import_opset(struct versions *to, struct view message);
// Each field of that number in the file's order.
bool import_each(struct import *im, struct view message, uint32_t number,
                 bool (*read)(struct import *im, struct view message));
// GraphProto: a subgraph of n, and what it reads of the graph that n is in.
bool import_body(struct import *im, struct node *n, struct view message, struct graph **to);

#endif
