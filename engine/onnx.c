// ONNX's protobuf (onnx/onnx onnx/onnx.proto) read into a struct graph. Field numbers stand in the enums;
// what we do not use is skipped. The nesting is fixed by the messages we enter, but for subgraphs (attributes of
// type GRAPH) and functions (a node that stands for several), whose depth is bounded.
//
// A name is looked up in its graph, then in those around it: a value found there is captured, graph by graph.
// A function sees nothing but its inputs; its nodes stand in the graph in place of the node that calls it.
#include "base/hash.h"
#include "base/pb.h"
#include "engine/device.h"
#include "engine/external.h"
#include "engine/graph.h"
#include "engine/ops.h"
#include "engine/refuse.h"
#include <stdio.h>

enum { MODEL_GRAPH = 7, MODEL_OPSET = 8, MODEL_FUNCTION = 25 };
enum {
    FUNCTION_NAME = 1,
    FUNCTION_INPUT = 4,
    FUNCTION_OUTPUT = 5,
    FUNCTION_NODE = 7,
    FUNCTION_OPSET = 9,
    FUNCTION_DOMAIN = 10,
    FUNCTION_ATTRIBUTE = 11 // with what it is when the call does not say
};
enum { OPSET_DOMAIN = 1, OPSET_VERSION = 2 };
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
    TENSOR_DIMS = 1,
    TENSOR_TYPE = 2,
    TENSOR_FLOATS = 4,
    TENSOR_INT32 = 5,
    TENSOR_STRINGS = 6,
    TENSOR_INT64 = 7,
    TENSOR_NAME = 8,
    TENSOR_RAW = 9,
    TENSOR_DOUBLES = 10,
    TENSOR_UINT64 = 11,
    TENSOR_EXTERNAL = 13,
    TENSOR_LOCATION = 14
};
enum { INFO_NAME = 1, INFO_TYPE = 2 };

#define ONNX_MAX_OPSET 28
#define NO_SHAPE (ENGINE_MAX_RANK + 1) // for a rank

struct name {
    struct view name;
    int32_t value; // -1: the slot is free
};

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
    struct name *table; // open addressing
    unsigned table_size, n_names;
    struct versions versions;
    bool without_onnx; // the file names no version of ONNX's own ops
    struct view
        rows; // what the file calls the first dimension of the first input that has a free one
    bool has_rows;
    struct external *external; // of the file
};

enum engine_dtype dtype_from_onnx(uint64_t type)
{
    switch (type) {
    case 1:
        return ENGINE_F32;
    case 2:
        return ENGINE_U8;
    case 3:
        return ENGINE_I8;
    case 6:
        return ENGINE_I32;
    case 7:
        return ENGINE_I64;
    case 8:
        return ENGINE_STRING;
    case 9:
        return ENGINE_BOOL;
    case 4:
        return ENGINE_U16;
    case 5:
        return ENGINE_I16;
    case 10:
        return ENGINE_F16;
    case 11:
        return ENGINE_F64;
    case 12:
        return ENGINE_U32;
    case 13:
        return ENGINE_U64;
    case 16:
        return ENGINE_BF16;
    default:
        return ENGINE_NONE;
    }
}

// ---- values by name ----------------------------------------------------------------------------------

static struct name *slot_of(const struct import *im, struct view name)
{
    unsigned at = (unsigned)hash64(name, 0) & (im->table_size - 1);
    while (im->table[at].value >= 0 && !view_eq(im->table[at].name, name))
        at = (at + 1) & (im->table_size - 1);
    return &im->table[at];
}

static bool grow_table(struct import *im)
{
    struct name *old = im->table;
    unsigned n = im->table_size;
    if (2 * im->n_names < n)
        return true;
    im->table_size = n > 0 ? 2 * n : 64;
    im->table = arena_array(&im->g->arena, im->table_size, sizeof(*im->table));
    if (!im->table) {
        im->table = old;
        im->table_size = n;
        return false;
    }
    for (unsigned i = 0; i < im->table_size; i++)
        im->table[i].value = -1;
    for (unsigned i = 0; i < n; i++) {
        if (old[i].value >= 0)
            *slot_of(im, old[i].name) = old[i];
    }
    return true;
}

// False: the name exists, or there is no memory.
static bool bind_name(struct import *im, struct view name, int32_t value)
{
    if (!grow_table(im))
        return false;
    struct name *slot = slot_of(im, name);
    if (slot->value >= 0)
        return false;
    *slot = (struct name){name, value};
    im->n_names++;
    return true;
}

// A new array of twice as many, the old ones copied; NULL: out of memory.
static void *grown(struct graph *g, void *old, unsigned n, unsigned *cap, size_t size)
{
    unsigned more = *cap > 0 ? 2 * *cap : 64;
    void *to = arena_array(&g->arena, more + 1, size);
    if (!to)
        return NULL;
    if (n > 0)
        memcpy(to, old, n * size);
    *cap = more;
    return to;
}

// A value without a name; -1: the bound is reached, or there is no memory.
static int32_t add_unnamed(struct graph *g)
{
    if (g->root->all_values == GRAPH_MAX_VALUES)
        return -1;
    if (g->n_values == g->cap_values) {
        struct value *more = grown(g, g->values, g->n_values, &g->cap_values, sizeof(*g->values));
        if (!more)
            return -1;
        g->values = more;
    }
    g->root->all_values++;
    g->values[g->n_values] = (struct value){.name = VIEW(""), .maker = -1};
    return (int32_t)g->n_values++;
}

// A new value; -1: the name exists, or the bound is reached.
static int32_t add_value(struct import *im, struct view name)
{
    struct view copy = arena_copy(&im->g->arena, name);
    if (name.n > 0 && !copy.p)
        return -1;
    if (!grow_table(im) || slot_of(im, name)->value >= 0)
        return -1;
    int32_t v = add_unnamed(im->g);
    if (v < 0)
        return -1;
    im->g->values[v].name = copy;
    return bind_name(im, copy, v) ? v : -1;
}

static bool add_capture(struct graph *g, struct capture c)
{
    if (g->n_captures == g->cap_captures) {
        struct capture *more =
            grown(g, g->captures, g->n_captures, &g->cap_captures, sizeof(*more));
        if (!more)
            return false;
        g->captures = more;
    }
    g->captures[g->n_captures++] = c;
    return true;
}

// The value of that name, captured when a graph around this one has it; -1: none has.
static int32_t find_value(struct import *im, struct view name)
{
    if (im->table_size > 0 && slot_of(im, name)->value >= 0)
        return slot_of(im, name)->value;
    int32_t outer = im->outer ? find_value(im->outer, name) : -1;
    if (outer < 0)
        return -1;
    if (im->g == im->outer->g)
        return outer;
    int32_t v = add_value(im, name);
    return v >= 0 && add_capture(im->g, (struct capture){outer, v}) ? v : -1;
}

// ---- tensors -----------------------------------------------------------------------------------------

struct raw_tensor { // as it stands in the file
    struct array array;
    struct view name, raw;
    bool external, lent;
    struct external_ref where; // external
};

static bool read_dims(struct raw_tensor *t, const struct pb_field *f)
{
    struct pb_reader packed;
    uint64_t d = f->value;
    pb_read(&packed, f->data);
    while (f->wire != PB_LEN || pb_packed_varint(&packed, &d)) {
        if (t->array.rank == ENGINE_MAX_RANK || (int64_t)d < 0)
            return false;
        t->array.shape[t->array.rank++] = (int64_t)d;
        if (f->wire != PB_LEN)
            return true;
    }
    return packed.error == NULL;
}

// Which of the typed fields (float_data, …) a data type's elements stand in.
static uint32_t typed_field(enum engine_dtype d)
{
    return d == ENGINE_F32                      ? TENSOR_FLOATS
           : d == ENGINE_F64                    ? TENSOR_DOUBLES
           : d == ENGINE_I64                    ? TENSOR_INT64
           : d == ENGINE_U32 || d == ENGINE_U64 ? TENSOR_UINT64
                                                : TENSOR_INT32;
}

// The typed field when there is no raw_data: one pass to copy what is there, counted.
static bool copy_typed(const struct raw_tensor *t, struct view message, uint8_t *out, size_t count)
{
    struct pb_reader r;
    struct pb_field f;
    size_t n = 0, size = dtype_bytes(t->array.dtype);
    pb_read(&r, message);
    while (pb_next(&r, &f)) {
        if (f.number != typed_field(t->array.dtype))
            continue;
        if (f.number == TENSOR_FLOATS || f.number == TENSOR_DOUBLES) {
            struct view v = f.wire == PB_LEN ? f.data : view_of(&f.value, size);
            if (v.n % size != 0 || v.n / size > count - n)
                return false;
            if (v.n > 0)
                memcpy(out + n * size, v.p, v.n);
            n += v.n / size;
        } else {
            struct pb_reader packed;
            uint64_t v = f.value;
            pb_read(&packed, f.data);
            while (f.wire != PB_LEN || pb_packed_varint(&packed, &v)) {
                if (n == count)
                    return false;
                memcpy(out + n++ * size, &v, size); // little-endian: the low bytes
                if (f.wire != PB_LEN)
                    break;
            }
        }
    }
    return n == count;
}

// 16-bit floats become float32.
static bool widen(struct import *im, struct array *a, size_t count)
{
    const uint16_t *bits = a->data;
    float *wide = graph_alloc(im->g, count * sizeof(*wide), im->e);
    if (!wide)
        return false;
    for (size_t i = 0; i < count; i++)
        wide[i] = float_of_half(a->dtype, bits[i]);
    graph_drop(im->g, a->data);
    a->data = wide;
    a->dtype = ENGINE_F32;
    return true;
}

// Data of another file is used where it lies until the load has ended, when it lies well: kernels that want
// it in another form make that of it, and nothing was copied.
static bool external_take(struct import *im, struct raw_tensor *t, size_t bytes)
{
    bool as_it_is = dtype_inside(t->array.dtype) == t->array.dtype;
    bool lies_well = bytes > 0 && (uintptr_t)t->raw.p % 64 == 0;
    t->lent = as_it_is && lies_well && im->g == im->g->root;
    if (t->lent) {
        t->array.data = (void *)t->raw.p; // constants are only read
        return graph_charge(im->g, bytes, im->e);
    }
    t->array.data = graph_alloc(im->g, bytes, im->e);
    if (!t->array.data)
        return false;
    if (bytes > 0)
        memcpy(t->array.data, t->raw.p, bytes);
    return as_it_is || widen(im, &t->array, bytes / 2);
}

static bool read_text(struct import *im, struct raw_tensor *t, struct view message, size_t count)
{
    struct pb_reader r;
    struct pb_field f;
    struct view *to = t->array.data = graph_alloc(im->g, count * sizeof(*to), im->e);
    size_t n = 0;
    if (!to)
        return false;
    pb_read(&r, message);
    while (pb_next(&r, &f)) {
        if (f.number != TENSOR_STRINGS)
            continue;
        if (n == count || f.wire != PB_LEN)
            return engine_fail(im->e, "tensor \"%.*s\": expected %zu strings", VIEW_ARG(t->name),
                               count);
        to[n] = arena_copy(&im->g->arena, f.data);
        if (to[n++].n != f.data.n)
            return engine_fail(im->e, "out of memory");
    }
    return n == count || engine_fail(im->e, "tensor \"%.*s\": expected %zu strings, got %zu",
                                     VIEW_ARG(t->name), count, n);
}

static bool read_tensor(struct import *im, struct view message, struct raw_tensor *t)
{
    struct pb_reader r;
    struct pb_field f;
    uint64_t type = 0;
    bool has_raw = false;
    *t = (struct raw_tensor){0};
    pb_read(&r, message);
    while (pb_next(&r, &f)) {
        if (f.number == TENSOR_DIMS && !read_dims(t, &f))
            return engine_fail(im->e, "tensor \"%.*s\": dims: expected at most %d, none negative",
                               VIEW_ARG(t->name), ENGINE_MAX_RANK);
        else if (f.number == TENSOR_TYPE)
            type = f.value;
        else if (f.number == TENSOR_NAME)
            t->name = f.data;
        else if (f.number == TENSOR_RAW) {
            t->raw = f.data;
            has_raw = true;
        } else if (f.number == TENSOR_EXTERNAL || (f.number == TENSOR_LOCATION && f.value != 0)) {
            t->external = true;
            if (f.number == TENSOR_EXTERNAL && !external_entry(&t->where, f.data))
                return engine_fail(im->e, "tensor \"%.*s\": external_data cannot be read",
                                   VIEW_ARG(t->name));
        }
    }
    if (r.error)
        return engine_fail(im->e, "tensor: %s", r.error);
    size_t count;
    t->array.dtype = dtype_from_onnx(type);
    if (t->array.dtype == ENGINE_NONE)
        return engine_fail(im->e, "tensor \"%.*s\": data type %llu is not supported",
                           VIEW_ARG(t->name), (unsigned long long)type);
    if (!array_count(&t->array, &count))
        return engine_fail(im->e, "tensor \"%.*s\": dims: too many elements", VIEW_ARG(t->name));
    size_t bytes = count * dtype_bytes(t->array.dtype);
    if (t->array.dtype == ENGINE_STRING) {
        if (t->external || has_raw || count > message.n || !im->g->device->ops->shared)
            return engine_fail(im->e,
                               "tensor \"%.*s\": expected %zu strings in string_data, on a "
                               "device that has them",
                               VIEW_ARG(t->name), count);
        return read_text(im, t, message, count);
    }
    if (t->external) {
        if (has_raw)
            return engine_fail(im->e, "tensor \"%.*s\": has data here and elsewhere",
                               VIEW_ARG(t->name));
        return external_find(im->external, im->g->root, t->name, &t->where, bytes, &t->raw,
                             im->e) &&
               external_take(im, t, bytes);
    }
    // Every element costs at least a byte of the message: nothing is allocated that is not backed.
    if (has_raw ? t->raw.n != bytes : count > message.n)
        return engine_fail(im->e, "tensor \"%.*s\": expected %zu bytes of data, got %zu",
                           VIEW_ARG(t->name), bytes, has_raw ? t->raw.n : message.n);
    uint8_t *data = graph_alloc(im->g, bytes, im->e);
    if (!data)
        return false;
    if (has_raw && bytes > 0)
        memcpy(data, t->raw.p, bytes);
    else if (!has_raw && !copy_typed(t, message, data, count))
        return engine_fail(im->e, "tensor \"%.*s\": expected %zu elements of its data type",
                           VIEW_ARG(t->name), count);
    t->array.data = data;
    return dtype_inside(t->array.dtype) == t->array.dtype || widen(im, &t->array, count);
}

static bool read_initializer(struct import *im, struct view message)
{
    struct raw_tensor t;
    if (!read_tensor(im, message, &t))
        return false;
    int32_t v = add_value(im, t.name);
    if (v < 0)
        return engine_fail(im->e, "initializer \"%.*s\": the name exists twice", VIEW_ARG(t.name));
    im->g->values[v].array = t.array;
    im->g->values[v].constant = true;
    im->g->values[v].lent = t.lent;
    return true;
}

// ---- inputs and outputs ------------------------------------------------------------------------------

// TypeProto.tensor_type.shape.dim: 1 -> {1 elem_type, 2 shape -> {1 dim -> {1 value, 2 param}}}
static bool read_shape(struct view message, struct array *a)
{
    struct pb_reader r, d;
    struct pb_field f, g;
    pb_read(&r, message);
    while (pb_next(&r, &f)) {
        if (f.number != 1 || f.wire != PB_LEN)
            continue;
        if (a->rank == ENGINE_MAX_RANK)
            return false;
        int64_t dim = -1;
        pb_read(&d, f.data);
        while (pb_next(&d, &g)) {
            if (g.number == 1)
                dim = (int64_t)g.value;
        }
        if (d.error || dim < -1 || dim > INT32_MAX)
            return false;
        a->shape[a->rank++] = dim;
    }
    return r.error == NULL;
}

// *shaped: it has a shape, of however many dimensions.
static bool read_type(struct view message, struct array *a, bool *shaped)
{
    struct pb_reader r, t;
    struct pb_field f, g;
    pb_read(&r, message);
    while (pb_next(&r, &f)) {
        if (f.number != 1 || f.wire != PB_LEN)
            continue;
        pb_read(&t, f.data);
        while (pb_next(&t, &g)) {
            if (g.number == 1)
                a->dtype = dtype_from_onnx(g.value);
            if (g.number != 2)
                continue;
            *shaped = true;
            if (!read_shape(g.data, a))
                return false;
        }
        if (t.error)
            return false;
    }
    return r.error == NULL;
}

static bool is_body(const struct import *im)
{
    return im->g != im->g->root;
}

// strict: a type that we cannot read fails; otherwise it counts as none.
static bool read_info(struct import *im, struct view message, bool strict, struct view *name,
                      struct array *a)
{
    struct pb_reader r;
    struct pb_field f;
    bool shaped = false, readable = true;
    *a = (struct array){0};
    *name = VIEW("");
    pb_read(&r, message);
    while (pb_next(&r, &f)) {
        if (f.number == INFO_NAME)
            *name = f.data;
        else if (f.number == INFO_TYPE)
            readable = read_type(f.data, a, &shaped);
    }
    if (r.error)
        return engine_fail(im->e, "value info: %s", r.error);
    if (!readable && strict)
        return engine_fail(
            im->e,
            "value \"%.*s\": its type cannot be read (rank up to %d, dimensions of 0 or more)",
            VIEW_ARG(*name), ENGINE_MAX_RANK);
    if (!shaped || !readable) // of any number of dimensions, says the standard
        a->rank = NO_SHAPE;
    return true;
}

// The next node; the caller counts it. NULL: out of memory.
static struct node *add_node(struct import *im)
{
    struct graph *g = im->g;
    if (g->n_nodes == g->cap_nodes) {
        struct node *more = grown(g, g->nodes, g->n_nodes, &g->cap_nodes, sizeof(*more));
        if (!more)
            return NULL;
        g->nodes = more;
    }
    return &g->nodes[g->n_nodes];
}

// A port of 16-bit floats: from value `from` to `to`.
static bool add_port(struct import *im, int32_t from, int32_t to, enum engine_dtype d)
{
    struct graph *g = im->g;
    struct node *n = add_node(im);
    struct attr *port = arena_zalloc(&g->arena, sizeof(*port));
    if (!port || !n)
        return engine_fail(im->e, "out of memory");
    *port = (struct attr){.name = VIEW("port"), .kind = ATTR_INT, .i = d};
    *n = (struct node){.name = g->values[from].name,
                       .type = VIEW("Cast"),
                       .input = {from},
                       .output = {to},
                       .n_inputs = 1,
                       .n_outputs = 1,
                       .n_attrs = 1,
                       .attrs = port,
                       .opset = g->opset};
    g->values[to].maker = (int32_t)g->n_nodes++;
    return node_set(g, n, &op_port, im->e);
}

// Whoever asks for input v by its name gets it as float32.
static bool widen_input(struct import *im, int32_t v)
{
    int32_t wide = add_unnamed(im->g);
    if (wide < 0)
        return engine_fail(im->e, "out of memory");
    slot_of(im, im->g->values[v].name)->value = wide;
    im->g->values[wide].name = im->g->values[v].name;
    return add_port(im, v, wide, im->g->values[v].array.dtype);
}

// What an output of 16-bit floats is made of is float32.
static bool narrow_output(struct import *im, int32_t *v, enum engine_dtype d)
{
    int32_t narrow = add_unnamed(im->g);
    if (narrow < 0)
        return engine_fail(im->e, "out of memory");
    im->g->values[narrow].name = im->g->values[*v].name;
    int32_t from = *v;
    *v = narrow;
    return add_port(im, from, narrow, d);
}

// The first field of that number that holds bytes; empty: none does.
static struct view within(struct view message, uint32_t number)
{
    struct pb_reader r;
    struct pb_field f;
    pb_read(&r, message);
    while (pb_next(&r, &f)) {
        if (f.number == number && f.wire == PB_LEN)
            return f.data;
    }
    return VIEW("");
}

// Input k, whose first dimension is free: are they the rows of the first such input?
static void name_rows(struct import *im, unsigned k, struct view message)
{
    struct view shape = within(within(within(message, INFO_TYPE), 1), 2);
    struct view name = within(within(shape, 1), 2);
    if (im->has_rows)
        im->g->may_part[k] = name.n == 0 || !view_eq(name, im->rows);
    else
        im->rows = name;
    im->has_rows = true;
}

static bool read_input(struct import *im, struct view message)
{
    struct view name;
    struct array a;
    if (!read_info(im, message, !is_body(im), &name, &a))
        return false;
    int32_t v = im->table_size > 0 ? slot_of(im, name)->value : -1;
    if (v >= 0 && im->g->values[v].constant)
        return true; // IR 3 lists initializers among the inputs
    if (!is_body(im) && a.dtype == ENGINE_NONE)
        return engine_fail(im->e, "input \"%.*s\": its data type is not supported", VIEW_ARG(name));
    if (a.dtype == ENGINE_STRING && !im->g->device->ops->shared)
        return engine_fail(im->e, "input \"%.*s\": the device %s has no strings", VIEW_ARG(name),
                           im->g->device->ops->name);
    if (!is_body(im) && a.rank == NO_SHAPE)
        return engine_fail(im->e, "input \"%.*s\": has no shape", VIEW_ARG(name));
    for (unsigned i = 1; i < a.rank && !is_body(im); i++)
        im->g->n_free += a.shape[i] < 0;
    if (im->g->n_free > GRAPH_MAX_FREE)
        return engine_fail(im->e, "input \"%.*s\": more than %d dimensions are free",
                           VIEW_ARG(name), GRAPH_MAX_FREE);
    if (im->g->n_inputs == sizeof(im->g->inputs) / sizeof(im->g->inputs[0]) ||
        (v = add_value(im, name)) < 0)
        return engine_fail(im->e, "input \"%.*s\": twice, or too many inputs", VIEW_ARG(name));
    if (!is_body(im)) // what a body is given, its node knows
        im->g->values[v].array = a;
    if (!is_body(im) && a.rank > 0 && a.shape[0] < 0)
        name_rows(im, im->g->n_inputs, message);
    im->g->inputs[im->g->n_inputs++] = v;
    return is_body(im) || dtype_inside(a.dtype) == a.dtype || widen_input(im, v);
}

static bool read_output(struct import *im, struct view message)
{
    struct graph *g = im->g;
    struct view name;
    struct array a;
    if (!read_info(im, message, false, &name, &a))
        return false;
    int32_t v = find_value(im, name);
    if (v < 0 || v == LEFT_OUT)
        return engine_fail(im->e, "output \"%.*s\": no node makes it as its first output",
                           VIEW_ARG(name));
    if (g->n_outputs == sizeof(g->outputs) / sizeof(g->outputs[0]))
        return engine_fail(im->e, "output \"%.*s\": too many outputs", VIEW_ARG(name));
    enum engine_dtype said = a.dtype;
    if (a.rank == NO_SHAPE) { // a list, as far as anybody can tell before it runs
        a.rank = 1;
        a.shape[0] = -1;
        a.dtype = is_body(im) ? ENGINE_NONE : a.dtype;
    }
    if (is_body(im))
        a.dtype = dtype_inside(a.dtype);
    g->declared[g->n_outputs] = (struct declared){arena_copy(&g->arena, name), a};
    if (!is_body(im) && dtype_inside(said) != said && !narrow_output(im, &v, said))
        return false;
    g->outputs[g->n_outputs++] = v;
    return true;
}

// ---- nodes -------------------------------------------------------------------------------------------

// How many elements an attribute's list has at most: packed ones are of at least a byte each.
static size_t list_room(struct view message, uint32_t number)
{
    struct pb_reader r;
    struct pb_field f;
    size_t n = 0;
    pb_read(&r, message);
    while (pb_next(&r, &f)) {
        if (f.number == number)
            n += f.wire == PB_LEN && number != ATTRIBUTE_STRINGS ? f.data.n : 1;
    }
    return n;
}

// Room for a list, made with its first element; *list is NULL until then.
static void *list_of(struct import *im, void *list, struct view message, uint32_t number,
                     size_t size)
{
    return list ? list : arena_array(&im->g->arena, list_room(message, number), size);
}

static bool read_ints(struct import *im, struct attr *a, struct view message,
                      const struct pb_field *f)
{
    struct pb_reader packed;
    uint64_t v;
    a->ints = list_of(im, a->ints, message, ATTRIBUTE_INTS, sizeof(*a->ints));
    if (!a->ints)
        return false;
    if (f->wire != PB_LEN) {
        a->ints[a->n++] = (int64_t)f->value;
        return true;
    }
    pb_read(&packed, f->data);
    while (pb_packed_varint(&packed, &v))
        a->ints[a->n++] = (int64_t)v;
    return packed.error == NULL;
}

static bool read_floats(struct import *im, struct attr *a, struct view message,
                        const struct pb_field *f)
{
    struct view v = f->wire == PB_LEN ? f->data : view_of(&f->value, sizeof(float));
    a->floats = list_of(im, a->floats, message, ATTRIBUTE_FLOATS, sizeof(*a->floats));
    if (!a->floats || v.n % sizeof(float) != 0)
        return false;
    if (v.n > 0)
        memcpy(a->floats + a->n, v.p, v.n);
    a->n += (unsigned)(v.n / sizeof(float));
    return true;
}

static bool read_strings(struct import *im, struct attr *a, struct view message,
                         const struct pb_field *f)
{
    a->strings = list_of(im, a->strings, message, ATTRIBUTE_STRINGS, sizeof(*a->strings));
    if (!a->strings || f->wire != PB_LEN)
        return false;
    struct view v = arena_copy(&im->g->arena, f->data);
    a->strings[a->n++] = v;
    return v.n == f->data.n;
}

// One field of a list. False: it cannot be read, or another list stands there too.
static bool read_list(struct import *im, struct attr *a, struct view message,
                      const struct pb_field *f)
{
    enum attr_kind kind = f->number == ATTRIBUTE_INTS     ? ATTR_INTS
                          : f->number == ATTRIBUTE_FLOATS ? ATTR_FLOATS
                                                          : ATTR_STRINGS;
    if (a->n > 0 && a->kind != kind)
        return false;
    a->kind = kind;
    return kind == ATTR_INTS     ? read_ints(im, a, message, f)
           : kind == ATTR_FLOATS ? read_floats(im, a, message, f)
                                 : read_strings(im, a, message, f);
}

static enum attr_kind kind_from_onnx(uint64_t type)
{
    static const enum attr_kind kinds[] = {ATTR_OTHER,  ATTR_FLOAT,  ATTR_INT,
                                           ATTR_STRING, ATTR_TENSOR, ATTR_GRAPH,
                                           ATTR_FLOATS, ATTR_INTS,   ATTR_STRINGS};
    return type < sizeof(kinds) / sizeof(kinds[0]) ? kinds[type] : ATTR_OTHER;
}

static bool read_body(struct import *im, struct node *n, struct view message, struct graph **to);

// What the function's call says of the attribute `reference`; false with e. *there: it says something, or the
// function does.
static bool read_reference(struct import *im, const struct node *n, struct view reference,
                           struct attr *a, bool *there)
{
    const struct attr *from = im->call ? node_find(im->call, reference) : NULL;
    struct view name = a->name;
    char title[128];
    *there = from != NULL;
    if (!from)
        return true;
    *a = *from;
    a->name = name;
    if (a->kind == ATTR_GRAPH)
        return engine_fail(im->e, "%s: a subgraph from a function's call is not supported",
                           node_title(n, title));
    if (a->kind != ATTR_TENSOR)
        return true;
    size_t bytes = array_bytes(&a->tensor); // each node has its own
    a->tensor.data = graph_alloc(im->g, bytes, im->e);
    if (a->tensor.data && bytes > 0)
        memcpy(a->tensor.data, from->tensor.data, bytes);
    return a->tensor.data != NULL;
}

// One field of an attribute. *said: the kind that it says it has; *reference: the name in ref_attr_name.
static bool read_attr_field(struct import *im, struct node *n, struct view message,
                            const struct pb_field *f, struct attr *a, enum attr_kind *said,
                            struct view *reference)
{
    char title[128];
    switch (f->number) {
    case ATTRIBUTE_NAME:
        a->name = arena_copy(&im->g->arena, f->data);
        break;
    case ATTRIBUTE_F:
        a->kind = ATTR_FLOAT;
        memcpy(&a->f, &f->value, sizeof(a->f));
        break;
    case ATTRIBUTE_I:
        a->kind = ATTR_INT;
        a->i = (int64_t)f->value;
        break;
    case ATTRIBUTE_S:
        a->kind = ATTR_STRING;
        a->s = arena_copy(&im->g->arena, f->data);
        break;
    case ATTRIBUTE_T: {
        struct raw_tensor t;
        if (!read_tensor(im, f->data, &t))
            return false;
        if (t.external)
            return engine_fail(im->e, "%s: an attribute's tensor has external data",
                               node_title(n, title));
        a->kind = ATTR_TENSOR;
        a->tensor = t.array;
        break;
    }
    case ATTRIBUTE_INTS:
    case ATTRIBUTE_FLOATS:
    case ATTRIBUTE_STRINGS:
        return read_list(im, a, message, f) ||
               engine_fail(im->e, "%s: an attribute's list cannot be read", node_title(n, title));
    case ATTRIBUTE_G:
        if (a->kind == ATTR_GRAPH)
            return engine_fail(im->e, "%s: two subgraphs in one attribute", node_title(n, title));
        a->kind = ATTR_GRAPH;
        return read_body(im, n, f->data, &a->graph);
    case ATTRIBUTE_GRAPHS:
        return engine_fail(im->e, "%s: lists of subgraphs are not supported", node_title(n, title));
    case ATTRIBUTE_TYPE:
        *said = kind_from_onnx(f->value);
        break;
    case ATTRIBUTE_REFERENCE:
        *reference = f->data;
        break;
    default:
        break;
    }
    return true;
}

// n->op is NULL: any attribute (of a function's call). *there: it counts.
static bool read_attr(struct import *im, struct node *n, struct view message, struct attr *a,
                      bool *there)
{
    struct pb_reader r;
    struct pb_field f;
    char title[128];
    struct view reference = VIEW("");
    enum attr_kind said = ATTR_OTHER;
    *there = true;
    a->kind = ATTR_OTHER;
    pb_read(&r, message);
    while (pb_next(&r, &f)) {
        if (!read_attr_field(im, n, message, &f, a, &said, &reference))
            return false;
    }
    if (r.error)
        return engine_fail(im->e, "%s: attribute: %s", node_title(n, title), r.error);
    if (reference.n > 0 && !read_reference(im, n, reference, a, there))
        return false;
    if (!*there)
        return true;
    if (a->kind == ATTR_OTHER && said != ATTR_TENSOR && said != ATTR_GRAPH)
        a->kind = said; // a 0, an empty text or list that the writer left out
    if (node_find(n, a->name) != a)
        return engine_fail(im->e, "%s: attribute \"%.*s\" stands there twice", node_title(n, title),
                           (int)(a->name.n < 64 ? a->name.n : 64), a->name.p);
    if (n->op && (!op_takes(n->op, a) || (said != ATTR_OTHER && said != a->kind)))
        return engine_fail(im->e, "%s: attribute \"%.*s\" is not supported, or not with this type",
                           node_title(n, title), (int)(a->name.n < 64 ? a->name.n : 64), a->name.p);
    return true;
}

static unsigned count_fields(struct view message, uint32_t number)
{
    struct pb_reader r;
    struct pb_field f;
    unsigned n = 0;
    pb_read(&r, message);
    while (pb_next(&r, &f))
        n += f.number == number;
    return n;
}

static bool read_node_input(struct import *im, struct node *n, struct view name)
{
    char title[128];
    if (n->n_inputs == NODE_MAX_INPUTS)
        return engine_fail(im->e, "%s: more than %d inputs", node_title(n, title), NODE_MAX_INPUTS);
    int32_t v = name.n ? find_value(im, name) : -1;
    if (name.n && v < 0)
        return engine_fail(im->e,
                           "%s: input \"%.*s\" is made by no earlier node: unknown, a cycle, or "
                           "not a first output",
                           node_title(n, title), VIEW_ARG(name));
    n->input[n->n_inputs++] = v == LEFT_OUT ? -1 : v;
    return true;
}

static bool read_node_output(struct import *im, struct node *n, struct view name)
{
    char title[128];
    if (n->n_outputs == NODE_MAX_OUTPUTS)
        return engine_fail(im->e, "%s: more than %d outputs", node_title(n, title),
                           NODE_MAX_OUTPUTS);
    int32_t v = -1;
    // Whoever asks for more than the kernels make is refused; the first one they always make.
    if (n->n_outputs == 0 || (name.n > 0 && n->n_outputs < n->op->outputs)) {
        v = name.n > 0 ? add_value(im, name) : add_unnamed(im->g);
        if (v < 0)
            return engine_fail(im->e, "%s: output \"%.*s\" is made twice", node_title(n, title),
                               VIEW_ARG(name));
        im->g->values[v].maker = (int32_t)(n - im->g->nodes);
    }
    n->output[n->n_outputs++] = v;
    return true;
}

static struct function *function_of(const struct import *im, struct view type, struct view domain)
{
    for (struct function *f = im->functions; f; f = f->next) {
        if (view_eq(f->name, type) && view_eq(f->domain, domain))
            return f;
    }
    return NULL;
}

static void read_identity(struct view message, struct node *n, struct view *domain)
{
    struct pb_reader r;
    struct pb_field f;
    *n = (struct node){0};
    *domain = VIEW("");
    pb_read(&r, message);
    while (pb_next(&r, &f)) {
        if (f.number == NODE_NAME)
            n->name = f.data;
        else if (f.number == NODE_TYPE)
            n->type = f.data;
        else if (f.number == NODE_DOMAIN)
            *domain = f.data;
    }
}

static bool too_deep(struct import *im)
{
    return engine_fail(im->e, "subgraphs and functions stand in each other more than %d deep",
                       GRAPH_MAX_DEPTH);
}

static bool find_refused(struct import *im, struct view nodes, uint32_t number, unsigned depth,
                         struct refusals *all);

// The node's attributes: those that its op does not know, and what is refused in its subgraphs.
static bool find_in_attrs(struct import *im, const struct node *n, const struct op *op,
                          struct view message, unsigned depth, struct refusals *all)
{
    struct pb_reader node, attr;
    struct pb_field f, a;
    char why[128];
    pb_read(&node, message);
    while (pb_next(&node, &f)) {
        if (f.number != NODE_ATTRIBUTE || f.wire != PB_LEN)
            continue;
        pb_read(&attr, f.data);
        while (pb_next(&attr, &a)) {
            if (a.number == ATTRIBUTE_NAME && op && !op_knows(op, a.data)) {
                snprintf(why, sizeof(why), "attribute \"%.*s\" is not supported",
                         (int)(a.data.n < 64 ? a.data.n : 64), a.data.n ? a.data.p : "");
                refuse_node(all, n, why);
            }
            if (a.number == ATTRIBUTE_G && a.wire == PB_LEN &&
                !find_refused(im, a.data, GRAPH_NODE, depth + 1, all))
                return false;
        }
    }
    return true;
}

// Adds what we do not do of the nodes of a graph or a function (`number`: the field they stand in).
static bool find_refused(struct import *im, struct view nodes, uint32_t number, unsigned depth,
                         struct refusals *all)
{
    struct pb_reader r;
    struct pb_field f;
    if (depth > GRAPH_MAX_DEPTH)
        return too_deep(im);
    pb_read(&r, nodes);
    while (pb_next(&r, &f)) {
        struct node n;
        struct view domain;
        if (f.number != number || f.wire != PB_LEN)
            continue;
        read_identity(f.data, &n, &domain);
        const struct op *op = op_find(n.type, domain);
        struct function *fn = op ? NULL : function_of(im, n.type, domain);
        if (!fn && !op)
            refuse_node(all, &n, NULL);
        if (fn && !fn->checked) {
            fn->checked = true;
            if (!find_refused(im, fn->message, FUNCTION_NODE, depth + 1, all))
                return false;
        }
        if (!find_in_attrs(im, &n, op, f.data, depth, all))
            return false;
    }
    return true;
}

// All that we do not do of the file is told at once.
static bool check_ops(struct import *im, struct view graph)
{
    struct refusals all = {.graph = im->g};
    return find_refused(im, graph, GRAPH_NODE, 0, &all) && refuse_all(&all, im->e);
}

// ---- one node ----------------------------------------------------------------------------------------

// Inputs and attributes, in the order of the file.
static bool read_node_fields(struct import *im, struct node *n, struct view message)
{
    struct pb_reader r;
    struct pb_field f;
    bool there;
    pb_read(&r, message);
    while (pb_next(&r, &f)) {
        if (f.number == NODE_INPUT && !read_node_input(im, n, f.data))
            return false;
        if (f.number == NODE_ATTRIBUTE) {
            struct attr *a = &n->attrs[n->n_attrs++];
            if (!read_attr(im, n, f.data, a, &there))
                return false;
            if (!there)
                n->attrs[--n->n_attrs] = (struct attr){0};
        }
    }
    return !r.error || engine_fail(im->e, "node: %s", r.error);
}

// Who it is, and room for its attributes.
static bool read_node_head(struct import *im, struct node *n, struct view message,
                           struct view *domain)
{
    struct arena *arena = &im->g->arena;
    unsigned attrs = count_fields(message, NODE_ATTRIBUTE);
    unsigned values = count_fields(message, NODE_OUTPUT) +
                      count_fields(message, NODE_INPUT) * (im->depth + 1) + 1;
    read_identity(message, n, domain);
    n->opset = im->versions.onnx;
    n->name = arena_copy(arena, n->name);
    n->type = arena_copy(arena, n->type);
    if (attrs > NODE_MAX_ATTRS)
        return engine_fail(im->e, "a node has %u attributes, expected at most %d", attrs,
                           NODE_MAX_ATTRS);
    if (values > GRAPH_MAX_VALUES - im->g->root->all_values ||
        im->g->root->all_nodes == GRAPH_MAX_NODES)
        return engine_fail(im->e, "graph: expected at most %d values and %d nodes in all",
                           GRAPH_MAX_VALUES, GRAPH_MAX_NODES);
    n->attrs = arena_zalloc(arena, (attrs + 1) * sizeof(*n->attrs));
    return n->attrs || engine_fail(im->e, "out of memory");
}

static bool call_function(struct import *im, struct function *fn, struct view message);

static bool read_node(struct import *im, struct view message)
{
    struct node *n = add_node(im);
    struct pb_reader r;
    struct pb_field f;
    struct view domain;
    char title[128];
    if (!n)
        return engine_fail(im->e, "out of memory");
    if (!read_node_head(im, n, message, &domain))
        return false;
    const struct op *op = op_find(n->type, domain);
    struct function *fn = op ? NULL : function_of(im, n->type, domain);
    if (fn)
        return call_function(im, fn, message);
    if (!op)
        return engine_fail(im->e, "op %s is not supported", node_title(n, title));
    if (!op->domain && im->without_onnx)
        return engine_fail(im->e, "%s: opset_import has no version of ONNX's own ops",
                           node_title(n, title));
    if (op->domain && strcmp(op->domain, OP_ML) == 0)
        n->opset = im->versions.ml;
    if (!node_set(im->g, n, op, im->e) || !read_node_fields(im, n, message))
        return false;
    pb_read(&r, message);
    while (pb_next(&r, &f)) {
        if (f.number == NODE_OUTPUT && !read_node_output(im, n, f.data))
            return false;
    }
    if (n->n_inputs < n->op->min_inputs || n->n_inputs > n->op->max_inputs || n->n_outputs < 1)
        return engine_fail(im->e, "%s: expected %u to %u inputs and an output, got %u and %u",
                           node_title(n, title), n->op->min_inputs, n->op->max_inputs, n->n_inputs,
                           n->n_outputs);
    for (unsigned i = 0; i < n->op->min_inputs; i++) {
        if (n->input[i] < 0)
            return engine_fail(im->e, "%s: input %u is left out", node_title(n, title), i);
    }
    im->g->n_nodes++;
    im->g->root->all_nodes++;
    return true;
}

// ---- functions ---------------------------------------------------------------------------------------

// The function's inputs are the call's; the attributes that the call does not have are the function's.
static bool begin_call(struct import *in, struct node *call, const struct function *fn)
{
    struct pb_reader r;
    struct pb_field f;
    unsigned k = 0;
    bool there;
    unsigned more = count_fields(fn->message, FUNCTION_ATTRIBUTE);
    struct attr *attrs = arena_zalloc(&in->g->arena, (call->n_attrs + more + 1) * sizeof(*attrs));
    if (!attrs)
        return engine_fail(in->e, "out of memory");
    memcpy(attrs, call->attrs, call->n_attrs * sizeof(*attrs));
    call->attrs = attrs;
    pb_read(&r, fn->message);
    while (pb_next(&r, &f)) {
        if (f.number == FUNCTION_INPUT && f.wire == PB_LEN) {
            int32_t v = k < call->n_inputs ? call->input[k] : -1;
            k++;
            if (!bind_name(in, f.data, v < 0 ? LEFT_OUT : v))
                return engine_fail(in->e, "function \"%.*s\": input \"%.*s\" stands there twice",
                                   VIEW_ARG(fn->name), VIEW_ARG(f.data));
        }
        if (f.number != FUNCTION_ATTRIBUTE || f.wire != PB_LEN)
            continue;
        struct node own = {
            .type = call->type, .name = call->name, .attrs = &attrs[call->n_attrs], .n_attrs = 1};
        if (!read_attr(in, &own, f.data, own.attrs, &there))
            return false;
        if (there && !node_find(call, own.attrs->name))
            call->n_attrs++;
        else
            *own.attrs = (struct attr){0}; // the next one's room
    }
    return k >= call->n_inputs ||
           engine_fail(in->e, "function \"%.*s\": expected at most %u inputs, got %u",
                       VIEW_ARG(fn->name), k, call->n_inputs);
}

// What the function calls its outputs is, under the call's names, its caller's.
static bool end_call(struct import *im, struct import *in, const struct function *fn,
                     struct view message)
{
    struct pb_reader r, outputs;
    struct pb_field f, g;
    bool more = true;
    pb_read(&outputs, fn->message);
    pb_read(&r, message);
    while (pb_next(&r, &f)) {
        if (f.number != NODE_OUTPUT)
            continue;
        while ((more = pb_next(&outputs, &g)) && g.number != FUNCTION_OUTPUT)
            ;
        if (f.data.n == 0)
            continue;
        int32_t v = more && g.wire == PB_LEN ? find_value(in, g.data) : -1;
        if (v < 0 || v == LEFT_OUT)
            return engine_fail(im->e, "function \"%.*s\": does not make its output for \"%.*s\"",
                               VIEW_ARG(fn->name), VIEW_ARG(f.data));
        struct view name = arena_copy(&im->g->arena, f.data);
        if (!name.p || !bind_name(im, name, v))
            return engine_fail(im->e, "function \"%.*s\": output \"%.*s\" is made twice",
                               VIEW_ARG(fn->name), VIEW_ARG(f.data));
    }
    return true;
}

static bool read_each(struct import *im, struct view graph, uint32_t number,
                      bool (*read)(struct import *im, struct view message));

// Its nodes in place of the one that calls it.
static bool call_function(struct import *im, struct function *fn, struct view message)
{
    struct node call;
    struct view domain;
    struct import in = {.g = im->g,
                        .e = im->e,
                        .functions = im->functions,
                        .external = im->external,
                        .depth = im->depth + 1,
                        .versions = im->versions,
                        .without_onnx = im->without_onnx && fn->versions.onnx == 0,
                        .call = &call};
    if (fn->versions.onnx > 0)
        in.versions.onnx = fn->versions.onnx;
    if (fn->versions.ml > 0)
        in.versions.ml = fn->versions.ml;
    if (in.depth > GRAPH_MAX_DEPTH)
        return too_deep(im);
    if (!read_node_head(im, &call, message, &domain) || !read_node_fields(im, &call, message))
        return false;
    im->g->root->all_nodes++; // also when it has none
    return begin_call(&in, &call, fn) && read_each(&in, fn->message, FUNCTION_NODE, read_node) &&
           end_call(im, &in, fn, message);
}

// Of the domains whose ops we have; the version of a node's is the node's.
static int64_t *version_of(struct versions *v, struct view domain)
{
    if (domain.n == 0 || view_is(domain, "ai.onnx"))
        return &v->onnx;
    return view_is(domain, OP_ML) ? &v->ml : &v->other;
}

static bool read_opset(struct versions *to, struct view message)
{
    struct pb_reader r;
    struct pb_field f;
    struct view domain = VIEW("");
    uint64_t v = 0;
    pb_read(&r, message);
    while (pb_next(&r, &f)) {
        if (f.number == OPSET_DOMAIN)
            domain = f.data;
        else if (f.number == OPSET_VERSION)
            v = f.value;
    }
    if (r.error)
        return false;
    *version_of(to, domain) = (int64_t)v;
    return true;
}

static bool read_function(struct import *im, struct view message)
{
    struct pb_reader r;
    struct pb_field f;
    struct function *fn = arena_zalloc(&im->g->arena, sizeof(*fn));
    if (!fn)
        return engine_fail(im->e, "out of memory");
    *fn = (struct function){.next = im->functions, .message = message};
    pb_read(&r, message);
    while (pb_next(&r, &f)) {
        if (f.number == FUNCTION_NAME)
            fn->name = f.data;
        else if (f.number == FUNCTION_DOMAIN)
            fn->domain = f.data;
        else if (f.number == FUNCTION_OPSET && f.wire == PB_LEN &&
                 !read_opset(&fn->versions, f.data))
            return engine_fail(im->e, "function \"%.*s\": opset_import cannot be read",
                               VIEW_ARG(fn->name));
    }
    im->functions = fn;
    if (fn->versions.onnx > ONNX_MAX_OPSET)
        return engine_fail(im->e, "function \"%.*s\": opset_import: expected at most %d",
                           VIEW_ARG(fn->name), ONNX_MAX_OPSET);
    return !r.error || engine_fail(im->e, "function: %s", r.error);
}

// ---- graphs ------------------------------------------------------------------------------------------

static bool read_each(struct import *im, struct view graph, uint32_t number,
                      bool (*read)(struct import *im, struct view message))
{
    struct pb_reader r;
    struct pb_field f;
    pb_read(&r, graph);
    while (pb_next(&r, &f)) {
        if (f.number != number)
            continue;
        if (f.wire != PB_LEN)
            return engine_fail(im->e, "graph: field %u has a wrong wire type", number);
        if (!read(im, f.data))
            return false;
    }
    return r.error ? engine_fail(im->e, "graph: %s", r.error) : true;
}

// What is counted before it is read costs the file a byte each, at least.
static bool read_graph(struct import *im, struct view graph)
{
    struct graph *g = im->g;
    unsigned values = count_fields(graph, GRAPH_INITIALIZER) + count_fields(graph, GRAPH_INPUT);
    if (values > GRAPH_MAX_VALUES - g->root->all_values ||
        count_fields(graph, GRAPH_NODE) > GRAPH_MAX_NODES)
        return engine_fail(im->e, "graph: expected at most %d values and %d nodes in all",
                           GRAPH_MAX_VALUES, GRAPH_MAX_NODES);
    g->declared =
        arena_array(&g->arena, count_fields(graph, GRAPH_OUTPUT) + 1, sizeof(*g->declared));
    if (!g->declared)
        return engine_fail(im->e, "out of memory");
    return read_each(im, graph, GRAPH_INITIALIZER, read_initializer) &&
           read_each(im, graph, GRAPH_INPUT, read_input) &&
           read_each(im, graph, GRAPH_NODE, read_node) &&
           read_each(im, graph, GRAPH_OUTPUT, read_output);
}

// A subgraph of n, and what it reads of the graph that n is in.
static bool read_body(struct import *im, struct node *n, struct view message, struct graph **to)
{
    struct graph *b = im->depth < GRAPH_MAX_DEPTH ? graph_body(im->g->root) : NULL;
    struct import in = {.g = b,
                        .e = im->e,
                        .outer = im,
                        .functions = im->functions,
                        .external = im->external,
                        .depth = im->depth + 1,
                        .versions = im->versions,
                        .without_onnx = im->without_onnx,
                        .call = im->call};
    if (!b)
        return im->depth < GRAPH_MAX_DEPTH ? engine_fail(im->e, "out of memory") : too_deep(im);
    *to = b;
    if (!read_graph(&in, message))
        return false;
    int32_t *all = arena_array(&im->g->arena, n->n_captures + b->n_captures + 1, sizeof(*all));
    if (!all)
        return engine_fail(im->e, "out of memory");
    if (n->n_captures > 0)
        memcpy(all, n->captures, n->n_captures * sizeof(*all));
    for (unsigned i = 0; i < b->n_captures; i++)
        all[n->n_captures++] = b->captures[i].outer;
    n->captures = all;
    return true;
}

bool graph_import(struct graph *g, struct view onnx, struct engine_error *e)
{
    struct external external = {.n_files = 0};
    struct import im = {.g = g, .e = e, .external = &external};
    struct pb_reader r;
    struct pb_field f;
    struct view graph = VIEW("");

    pb_read(&r, onnx);
    while (pb_next(&r, &f)) {
        if (f.number == MODEL_GRAPH && f.wire == PB_LEN)
            graph = f.data;
        else if (f.number == MODEL_OPSET && (f.wire != PB_LEN || !read_opset(&im.versions, f.data)))
            return engine_fail(e, "opset_import cannot be read");
        else if (f.number == MODEL_FUNCTION && f.wire == PB_LEN && !read_function(&im, f.data))
            return false;
    }
    if (r.error)
        return engine_fail(e, "not an ONNX file: %s", r.error);
    if (graph.n == 0)
        return engine_fail(e, "not an ONNX file: it has no graph");
    if (im.versions.onnx == 0 && (im.versions.ml != 0 || im.versions.other != 0)) {
        im.without_onnx = true;
        im.versions.onnx = 21; // for what we put in
    }
    g->opset = im.versions.onnx;
    if (g->opset < 1 || g->opset > ONNX_MAX_OPSET)
        return engine_fail(e, "opset_import: expected a version of 1 to %d, got %lld",
                           ONNX_MAX_OPSET, (long long)g->opset);
    if (im.versions.ml < 0 || im.versions.ml > 5)
        return engine_fail(e, "opset_import: " OP_ML ": expected a version of 1 to 5, got %lld",
                           (long long)im.versions.ml);
    if (!check_ops(&im, graph) || !read_graph(&im, graph) || !external_check(&external, e))
        return false;
    if (g->n_outputs == 0 || g->n_inputs == 0)
        return engine_fail(e, "graph: expected inputs and outputs, got %u and %u", g->n_inputs,
                           g->n_outputs);
    return true;
}
