// ONNX's protobuf (onnx/onnx onnx/onnx.proto) read into a struct graph. Field numbers stand in the enums;
// what we do not use is skipped. The nesting is fixed by the messages we enter, so depth is bounded by this
// code; subgraphs (attribute type GRAPH) are refused.
#include "base/hash.h"
#include "base/pb.h"
#include "engine/graph.h"
#include "engine/ops.h"
#include <stdio.h>

enum { MODEL_GRAPH = 7, MODEL_OPSET = 8 };
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
    ATTRIBUTE_TYPE = 20
};
enum {
    TENSOR_DIMS = 1,
    TENSOR_TYPE = 2,
    TENSOR_FLOATS = 4,
    TENSOR_INT32 = 5,
    TENSOR_INT64 = 7,
    TENSOR_NAME = 8,
    TENSOR_RAW = 9,
    TENSOR_DOUBLES = 10,
    TENSOR_UINT64 = 11,
    TENSOR_EXTERNAL = 13,
    TENSOR_LOCATION = 14
};
enum { INFO_NAME = 1, INFO_TYPE = 2 };

#define NO_SHAPE (ENGINE_MAX_RANK + 1) // for a rank

struct import {
    struct graph *g;
    struct engine_error *e;
    int64_t opset_ml, opset_other; // versions of the domains that are not ONNX's own
    bool without_onnx;             // its own has none
    unsigned cap_values, cap_nodes;
    int32_t *table; // open addressing: value by name; -1: free
    unsigned table_size;
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

static int32_t *slot_of(struct import *im, struct view name)
{
    unsigned at = (unsigned)hash64(name, 0) & (im->table_size - 1);
    while (im->table[at] >= 0 && !view_eq(im->g->values[im->table[at]].name, name))
        at = (at + 1) & (im->table_size - 1);
    return &im->table[at];
}

static int32_t find_value(struct import *im, struct view name)
{
    return *slot_of(im, name);
}

// A new value; -1: the name exists, or the bound is reached.
static int32_t add_value(struct import *im, struct view name)
{
    int32_t *slot = slot_of(im, name);
    if (*slot >= 0 || im->g->n_values == im->cap_values)
        return -1;
    struct value *v = &im->g->values[im->g->n_values];
    *v = (struct value){.name = arena_copy(&im->g->arena, name), .maker = -1};
    if (name.n > 0 && !v->name.p)
        return -1;
    *slot = (int32_t)im->g->n_values++;
    return *slot;
}

// One that nobody can ask for; -1: the bound is reached.
static int32_t add_nameless(struct import *im)
{
    if (im->g->n_values == im->cap_values)
        return -1;
    im->g->values[im->g->n_values] = (struct value){.maker = -1};
    return (int32_t)im->g->n_values++;
}

// ---- tensors -----------------------------------------------------------------------------------------

struct raw_tensor { // as it stands in the file
    struct array array;
    struct view name, raw;
    const struct view *message;
    bool external, bad_dims;
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
        } else if (f.number == TENSOR_EXTERNAL || (f.number == TENSOR_LOCATION && f.value != 0))
            t->external = true;
    }
    if (r.error)
        return engine_fail(im->e, "tensor: %s", r.error);
    size_t count;
    t->array.dtype = dtype_from_onnx(type);
    if (t->external)
        return engine_fail(im->e, "tensor \"%.*s\": external data is not read", VIEW_ARG(t->name));
    if (t->array.dtype == ENGINE_NONE)
        return engine_fail(im->e, "tensor \"%.*s\": data type %llu is not supported",
                           VIEW_ARG(t->name), (unsigned long long)type);
    if (!array_count(&t->array, &count))
        return engine_fail(im->e, "tensor \"%.*s\": dims: too many elements", VIEW_ARG(t->name));
    size_t bytes = count * dtype_bytes(t->array.dtype);
    // Every element costs at least a byte of the message: nothing is allocated that is not backed.
    if (has_raw ? t->raw.n != bytes : count > message.n)
        return engine_fail(im->e, "tensor \"%.*s\": expected %zu octets of data, got %zu",
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
        if (d.error || (dim != -1 && (dim < 1 || dim > INT32_MAX)))
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

// a: NULL when the type does not matter (what an output is, its maker says).
static bool read_info(struct import *im, struct view message, struct view *name, struct array *a)
{
    struct pb_reader r;
    struct pb_field f;
    bool shaped = a == NULL;
    if (a)
        *a = (struct array){0};
    *name = VIEW("");
    pb_read(&r, message);
    while (pb_next(&r, &f)) {
        if (f.number == INFO_NAME)
            *name = f.data;
        else if (f.number == INFO_TYPE && a && !read_type(f.data, a, &shaped))
            return engine_fail(
                im->e,
                "value \"%.*s\": its type cannot be read (rank up to %d, dimensions of 1 or more)",
                VIEW_ARG(*name), ENGINE_MAX_RANK);
    }
    if (r.error)
        return engine_fail(im->e, "value info: %s", r.error);
    if (!shaped) // of any number of dimensions, says the standard
        a->rank = NO_SHAPE;
    return true;
}

// A port of 16-bit floats: from value `from` to `to`.
static bool add_port(struct import *im, int32_t from, int32_t to, enum engine_dtype d)
{
    struct graph *g = im->g;
    struct node *n = &g->nodes[g->n_nodes];
    struct attr *port = arena_zalloc(&g->arena, sizeof(*port));
    if (!port)
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
    int32_t wide = add_nameless(im);
    if (wide < 0)
        return engine_fail(im->e, "out of memory");
    *slot_of(im, im->g->values[v].name) = wide;
    im->g->values[wide].name = im->g->values[v].name;
    return add_port(im, v, wide, im->g->values[v].array.dtype);
}

// What an output of 16-bit floats is made of is float32.
static bool narrow_output(struct import *im, int32_t *v, enum engine_dtype d)
{
    int32_t narrow = add_nameless(im);
    if (narrow < 0)
        return engine_fail(im->e, "out of memory");
    im->g->values[narrow].name = im->g->values[*v].name;
    int32_t from = *v;
    *v = narrow;
    return add_port(im, from, narrow, d);
}

static bool read_input(struct import *im, struct view message)
{
    struct view name;
    struct array a;
    if (!read_info(im, message, &name, &a))
        return false;
    int32_t v = find_value(im, name);
    if (v >= 0 && im->g->values[v].constant)
        return true; // IR 3 lists initializers among the inputs
    if (a.dtype == ENGINE_NONE)
        return engine_fail(im->e, "input \"%.*s\": its data type is not supported", VIEW_ARG(name));
    if (a.rank == NO_SHAPE)
        return engine_fail(im->e, "input \"%.*s\": has no shape", VIEW_ARG(name));
    for (unsigned i = 1; i < a.rank; i++)
        im->g->n_free += a.shape[i] < 0;
    if (im->g->n_free > GRAPH_MAX_FREE)
        return engine_fail(im->e, "input \"%.*s\": more than %d dimensions are free",
                           VIEW_ARG(name), GRAPH_MAX_FREE);
    if (im->g->n_inputs == sizeof(im->g->inputs) / sizeof(im->g->inputs[0]) ||
        (v = add_value(im, name)) < 0)
        return engine_fail(im->e, "input \"%.*s\": twice, or too many inputs", VIEW_ARG(name));
    im->g->values[v].array = a;
    im->g->inputs[im->g->n_inputs++] = v;
    return dtype_inside(a.dtype) == a.dtype || widen_input(im, v);
}

// ENGINE_NONE: the file does not say. Its shape its maker knows better.
static enum engine_dtype output_dtype(struct view message)
{
    struct pb_reader r;
    struct pb_field f;
    struct array a = {0};
    bool shaped;
    pb_read(&r, message);
    while (pb_next(&r, &f)) {
        if (f.number == INFO_TYPE && f.wire == PB_LEN)
            (void)read_type(f.data, &a, &shaped);
    }
    return a.dtype;
}

static bool read_output(struct import *im, struct view message)
{
    struct view name;
    enum engine_dtype said = output_dtype(message);
    if (!read_info(im, message, &name, NULL))
        return false;
    int32_t v = find_value(im, name);
    if (v < 0)
        return engine_fail(im->e, "output \"%.*s\": no node makes it as its first output",
                           VIEW_ARG(name));
    if (im->g->n_outputs == sizeof(im->g->outputs) / sizeof(im->g->outputs[0]))
        return engine_fail(im->e, "output \"%.*s\": too many outputs", VIEW_ARG(name));
    if (dtype_inside(said) != said && !narrow_output(im, &v, said))
        return false;
    im->g->outputs[im->g->n_outputs++] = v;
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
                                           ATTR_STRING, ATTR_TENSOR, ATTR_OTHER,
                                           ATTR_FLOATS, ATTR_INTS,   ATTR_STRINGS};
    return type < sizeof(kinds) / sizeof(kinds[0]) ? kinds[type] : ATTR_OTHER;
}

static bool read_attr(struct import *im, const struct node *n, struct view message, struct attr *a)
{
    struct pb_reader r;
    struct pb_field f;
    char title[128];
    enum attr_kind said = ATTR_OTHER;
    a->kind = ATTR_OTHER;
    pb_read(&r, message);
    while (pb_next(&r, &f)) {
        switch (f.number) {
        case ATTRIBUTE_NAME:
            a->name = arena_copy(&im->g->arena, f.data);
            break;
        case ATTRIBUTE_F:
            a->kind = ATTR_FLOAT;
            memcpy(&a->f, &f.value, sizeof(a->f));
            break;
        case ATTRIBUTE_I:
            a->kind = ATTR_INT;
            a->i = (int64_t)f.value;
            break;
        case ATTRIBUTE_S:
            a->kind = ATTR_STRING;
            a->s = arena_copy(&im->g->arena, f.data);
            break;
        case ATTRIBUTE_T: {
            struct raw_tensor t;
            if (!read_tensor(im, f.data, &t))
                return false;
            a->kind = ATTR_TENSOR;
            a->tensor = t.array;
            break;
        }
        case ATTRIBUTE_INTS:
        case ATTRIBUTE_FLOATS:
        case ATTRIBUTE_STRINGS:
            if (!read_list(im, a, message, &f))
                return engine_fail(im->e, "%s: an attribute's list cannot be read",
                                   node_title(n, title));
            break;
        case ATTRIBUTE_TYPE:
            said = kind_from_onnx(f.value);
            break;
        case ATTRIBUTE_G:
        case ATTRIBUTE_GRAPHS:
            return engine_fail(im->e, "%s: subgraphs are not supported", node_title(n, title));
        default:
            break;
        }
    }
    if (r.error)
        return engine_fail(im->e, "%s: attribute: %s", node_title(n, title), r.error);
    if (a->kind == ATTR_OTHER && said != ATTR_TENSOR)
        a->kind = said; // a 0, an empty text or list that the writer left out
    if (node_find(n, a->name) != a)
        return engine_fail(im->e, "%s: attribute \"%.*s\" stands there twice", node_title(n, title),
                           (int)(a->name.n < 64 ? a->name.n : 64), a->name.p);
    if (!op_takes(n->op, a) || (said != ATTR_OTHER && said != a->kind))
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
    n->input[n->n_inputs++] = v;
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
        v = name.n > 0 ? add_value(im, name) : add_nameless(im);
        if (v < 0)
            return engine_fail(im->e, "%s: output \"%.*s\" is made twice", node_title(n, title),
                               VIEW_ARG(name));
        im->g->values[v].maker = (int32_t)(n - im->g->nodes);
    }
    n->output[n->n_outputs++] = v;
    return true;
}

struct missing { // ops that we do not have, each named once, with its first node
    struct view types[16];
    unsigned n;
    char text[200];
    size_t at;
};

static void add_missing(struct missing *m, const struct node *n)
{
    char title[128];
    for (unsigned i = 0; i < m->n; i++) {
        if (view_eq(m->types[i], n->type))
            return;
    }
    if (m->n == sizeof(m->types) / sizeof(m->types[0]) || m->at >= sizeof(m->text))
        return;
    m->types[m->n++] = n->type;
    m->at += (size_t)snprintf(m->text + m->at, sizeof(m->text) - m->at, "%s%s",
                              m->n > 1 ? ", " : "", node_title(n, title));
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

// All ops of the graph that we do not have are named at once.
static bool check_ops(struct import *im, struct view graph)
{
    struct missing m = {.n = 0};
    struct pb_reader r;
    struct pb_field f;
    pb_read(&r, graph);
    while (pb_next(&r, &f)) {
        struct node n;
        struct view domain;
        if (f.number != GRAPH_NODE || f.wire != PB_LEN)
            continue;
        read_identity(f.data, &n, &domain);
        if (!op_find(n.type, domain))
            add_missing(&m, &n);
    }
    return m.n == 0 ||
           engine_fail(im->e,
                       m.n == 1 ? "op %s is not supported" : "ops that are not supported: %s",
                       m.text);
}

static bool read_node(struct import *im, struct view message)
{
    struct node *n = &im->g->nodes[im->g->n_nodes];
    struct pb_reader r;
    struct pb_field f;
    struct view domain = VIEW("");
    char title[128];
    unsigned attrs = count_fields(message, NODE_ATTRIBUTE);
    *n = (struct node){.opset = im->g->opset};
    if (attrs > NODE_MAX_ATTRS)
        return engine_fail(im->e, "a node has %u attributes, expected at most %d", attrs,
                           NODE_MAX_ATTRS);
    n->attrs = arena_array(&im->g->arena, attrs ? attrs : 1, sizeof(*n->attrs));
    if (!n->attrs)
        return engine_fail(im->e, "out of memory");
    memset(n->attrs, 0, (attrs ? attrs : 1) * sizeof(*n->attrs));
    pb_read(&r, message); // first who it is, for the messages
    while (pb_next(&r, &f)) {
        if (f.number == NODE_NAME)
            n->name = arena_copy(&im->g->arena, f.data);
        else if (f.number == NODE_TYPE)
            n->type = arena_copy(&im->g->arena, f.data);
        else if (f.number == NODE_DOMAIN)
            domain = f.data;
    }
    if (r.error)
        return engine_fail(im->e, "node: %s", r.error);
    const struct op *op = op_find(n->type, domain);
    if (!op->domain && im->without_onnx)
        return engine_fail(im->e, "%s: opset_import has no version of ONNX's own ops",
                           node_title(n, title));
    if (op->domain && strcmp(op->domain, OP_ML) == 0)
        n->opset = im->opset_ml;
    if (!node_set(im->g, n, op, im->e))
        return false;
    pb_read(&r, message);
    while (pb_next(&r, &f)) {
        if (f.number == NODE_INPUT && !read_node_input(im, n, f.data))
            return false;
        if (f.number == NODE_ATTRIBUTE) {
            struct attr *a = &n->attrs[n->n_attrs++];
            if (!read_attr(im, n, f.data, a))
                return false;
        }
    }
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
    return true;
}

// ---- the model ---------------------------------------------------------------------------------------

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

// Of the domains whose ops we have; the version of a node's is the node's.
static int64_t *opset_of(struct import *im, struct view domain)
{
    if (domain.n == 0 || view_is(domain, "ai.onnx"))
        return &im->g->opset;
    return view_is(domain, OP_ML) ? &im->opset_ml : &im->opset_other;
}

static bool read_opset(struct import *im, struct view message)
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
    *opset_of(im, domain) = (int64_t)v;
    return true;
}

static bool make_room(struct import *im, struct view graph)
{
    // Names cost bytes, so these counts are backed by the file.
    uint64_t values = 0, nodes = count_fields(graph, GRAPH_NODE);
    struct pb_reader r;
    struct pb_field f;
    pb_read(&r, graph);
    while (pb_next(&r, &f)) {
        if (f.number == GRAPH_NODE && f.wire == PB_LEN)
            values += count_fields(f.data, NODE_OUTPUT);
    }
    values += count_fields(graph, GRAPH_INITIALIZER) + count_fields(graph, GRAPH_INPUT);
    if (values > GRAPH_MAX_VALUES || nodes > GRAPH_MAX_NODES)
        return engine_fail(im->e, "graph: expected at most %d values and %d nodes",
                           GRAPH_MAX_VALUES, GRAPH_MAX_NODES);
    uint64_t ports = count_fields(graph, GRAPH_INPUT) + count_fields(graph, GRAPH_OUTPUT);
    values += ports; // each may be of 16-bit floats
    nodes += ports;
    im->cap_values = (unsigned)values;
    im->cap_nodes = (unsigned)nodes;
    im->table_size = 16;
    while (im->table_size < 2 * values)
        im->table_size *= 2;
    im->g->values = arena_array(&im->g->arena, values + 1, sizeof(*im->g->values));
    im->g->nodes = arena_array(&im->g->arena, nodes + 1, sizeof(*im->g->nodes));
    im->table = arena_array(&im->g->arena, im->table_size, sizeof(*im->table));
    if (!im->g->values || !im->g->nodes || !im->table)
        return engine_fail(im->e, "out of memory");
    memset(im->table, 0xff, im->table_size * sizeof(*im->table));
    return true;
}

bool graph_import(struct graph *g, struct view onnx, struct engine_error *e)
{
    struct import im = {.g = g, .e = e};
    struct pb_reader r;
    struct pb_field f;
    struct view graph = VIEW("");

    pb_read(&r, onnx);
    while (pb_next(&r, &f)) {
        if (f.number == MODEL_GRAPH && f.wire == PB_LEN)
            graph = f.data;
        else if (f.number == MODEL_OPSET && (f.wire != PB_LEN || !read_opset(&im, f.data)))
            return engine_fail(e, "opset_import cannot be read");
    }
    if (r.error)
        return engine_fail(e, "not an ONNX file: %s", r.error);
    if (graph.n == 0)
        return engine_fail(e, "not an ONNX file: it has no graph");
    if (g->opset == 0 && im.opset_ml + im.opset_other > 0) {
        im.without_onnx = true;
        g->opset = 21; // for what we put in
    }
    if (g->opset < 1 || g->opset > 28)
        return engine_fail(e, "opset_import: expected a version of 1 to 28, got %lld",
                           (long long)g->opset);
    if (im.opset_ml < 0 || im.opset_ml > 5)
        return engine_fail(e, "opset_import: " OP_ML ": expected a version of 1 to 5, got %lld",
                           (long long)im.opset_ml);
    if (!check_ops(&im, graph) || !make_room(&im, graph) ||
        !read_each(&im, graph, GRAPH_INITIALIZER, read_initializer) ||
        !read_each(&im, graph, GRAPH_INPUT, read_input) ||
        !read_each(&im, graph, GRAPH_NODE, read_node) ||
        !read_each(&im, graph, GRAPH_OUTPUT, read_output))
        return false;
    if (g->n_outputs == 0 || g->n_inputs == 0)
        return engine_fail(e, "graph: expected inputs and outputs, got %u and %u", g->n_inputs,
                           g->n_outputs);
    return true;
}
