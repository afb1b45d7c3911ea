#include "engine/device.h"
#include "engine/onnx_inner.h"
#include "engine/small.h"

enum { INFO_NAME = 1, INFO_TYPE = 2 };
// TypeProto.tensor_type.shape.dim: 1 -> {1 elem_type, 2 shape -> {1 dim -> {1 value, 2 param}}}
enum { TYPE_TENSOR = 1 };
enum { TENSOR_TYPE_ELEMENTS = 1, TENSOR_TYPE_SHAPE = 2 };
enum { SHAPE_DIM = 1 };
enum { DIM_VALUE = 1, DIM_PARAM = 2 };

#define NO_SHAPE (ENGINE_MAX_RANK + 1) // for a rank

// ---- types -------------------------------------------------------------------------------------------

// -1: free; below: it cannot be read.
static int64_t read_dim(struct view message)
{
    struct pb_reader r;
    struct pb_field f;
    int64_t dim = -1;
    pb_read(&r, message);
    while (field_next(&r, DIM_VALUE, &f))
        dim = (int64_t)f.value;
    return r.error || dim < -1 || dim > INT32_MAX ? -2 : dim;
}

static bool read_shape(struct view message, struct array *a)
{
    struct pb_reader r;
    struct pb_field f;
    pb_read(&r, message);
    while (field_next(&r, SHAPE_DIM, &f)) {
        if (f.wire != PB_LEN)
            continue;
        int64_t dim = read_dim(f.data);
        if (a->rank == ENGINE_MAX_RANK || dim < -1)
            return false;
        a->shape[a->rank++] = dim;
    }
    return r.error == NULL;
}

// *shaped: it has a shape, of however many dimensions.
static bool read_tensor_type(struct view message, struct array *a, bool *shaped)
{
    struct pb_reader r;
    struct pb_field f;
    pb_read(&r, message);
    while (pb_next(&r, &f)) {
        if (f.number == TENSOR_TYPE_ELEMENTS)
            a->dtype = dtype_from_onnx(f.value);
        if (f.number != TENSOR_TYPE_SHAPE)
            continue;
        *shaped = true;
        if (!read_shape(f.data, a))
            return false;
    }
    return r.error == NULL;
}

static bool read_type(struct view message, struct array *a, bool *shaped)
{
    struct pb_reader r;
    struct pb_field f;
    pb_read(&r, message);
    while (field_next(&r, TYPE_TENSOR, &f)) {
        if (f.wire == PB_LEN && !read_tensor_type(f.data, a, shaped))
            return false;
    }
    return r.error == NULL;
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

// ---- ports of 16-bit floats and small numbers --------------------------------------------------------------------------

// Between what it is at a port and inside stands a node.
static bool has_port(enum engine_dtype d)
{
    return dtype_inside(d) != d || dtype_is_small(d);
}

// A value of its own with value v's name; -1 with im->e.
static int32_t add_twin(struct import *im, int32_t v)
{
    int32_t twin = value_add(im->g);
    if (twin < 0)
        engine_fail(im->e, "out of memory");
    else
        im->g->values[twin].name = im->g->values[v].name;
    return twin;
}

// What is small inside is told: a port has another datatype.
static void tell_small(struct import *im, int32_t v, enum engine_dtype d)
{
    graph_note(im->g, ENGINE_CHANGED, "\"%.*s\": %s is served as %s",
               VIEW_ARG(im->g->values[v].name), dtype_title(d),
               dtype_is_small_float(d)         ? "UINT8, its bits"
               : dtype_at_port(d) == ENGINE_I8 ? "INT8"
                                               : "UINT8");
}

// From value `from` to `to`, one of which has 16-bit floats, or small numbers.
static bool add_port(struct import *im, int32_t from, int32_t to, enum engine_dtype d)
{
    struct graph *g = im->g;
    struct node *n = node_room(g);
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
    if (dtype_is_small(d))
        tell_small(im, from, d);
    return node_set(g, n, dtype_is_small(d) ? &op_small_port : &op_port, im->e);
}

// Whoever asks for input v by its name gets it as it is inside.
static bool widen_input(struct import *im, int32_t v, enum engine_dtype d)
{
    int32_t wide = add_twin(im, v);
    if (wide < 0)
        return false;
    names_rebind(im, im->g->values[v].name, wide);
    return add_port(im, v, wide, d);
}

// What an output of 16-bit floats is made of is float32; of small numbers: they.
static bool narrow_output(struct import *im, int32_t *v, enum engine_dtype d)
{
    int32_t from = *v;
    *v = add_twin(im, from);
    return *v >= 0 && add_port(im, from, *v, d);
}

// ---- inputs ------------------------------------------------------------------------------------------

static bool is_body(const struct import *im)
{
    return im->g != im->g->root;
}

// Input k, whose first dimension is free: are they the rows of the first such input?
static void name_rows(struct import *im, unsigned k, struct view message)
{
    struct view type = field_bytes(field_bytes(message, INFO_TYPE), TYPE_TENSOR);
    struct view dim = field_bytes(field_bytes(type, TENSOR_TYPE_SHAPE), SHAPE_DIM);
    struct view name = field_bytes(dim, DIM_PARAM);
    if (im->has_rows)
        im->g->may_part[k] = name.n == 0 || !view_eq(name, im->rows);
    else
        im->rows = name;
    im->has_rows = true;
}

// What it says it is can be; of a body's there is little to ask: what it is given, its node knows.
static bool input_can_be(struct import *im, struct view name, const struct array *a)
{
    struct graph *g = im->g;
    bool body = is_body(im);
    if (!body && a->dtype == ENGINE_NONE)
        return engine_fail(im->e, "input \"%.*s\": its data type is not supported", VIEW_ARG(name));
    if (a->dtype == ENGINE_STRING && !g->device->ops->shared)
        return engine_fail(im->e, "input \"%.*s\": the device %s has no strings", VIEW_ARG(name),
                           g->device->ops->name);
    if (body)
        return true;
    if (a->rank == NO_SHAPE)
        return engine_fail(im->e, "input \"%.*s\": has no shape", VIEW_ARG(name));
    for (unsigned i = 1; i < a->rank; i++)
        g->n_free += a->shape[i] < 0;
    return g->n_free <= GRAPH_MAX_FREE ||
           engine_fail(im->e, "input \"%.*s\": more than %d dimensions are free", VIEW_ARG(name),
                       GRAPH_MAX_FREE);
}

bool import_input(struct import *im, struct view message)
{
    struct graph *g = im->g;
    struct view name;
    struct array a;
    if (!read_info(im, message, !is_body(im), &name, &a))
        return false;
    int32_t v = names_own(im, name);
    if (v >= 0 && g->values[v].constant)
        return true; // IR 3 lists initializers among the inputs
    if (!input_can_be(im, name, &a))
        return false;
    bool full = g->n_inputs == sizeof(g->inputs) / sizeof(g->inputs[0]);
    v = full ? -1 : names_add(im, name);
    if (v < 0)
        return engine_fail(im->e, "input \"%.*s\": twice, or too many inputs", VIEW_ARG(name));
    unsigned k = g->n_inputs++;
    g->inputs[k] = v;
    if (is_body(im))
        return true;
    g->values[v].array = a;
    g->values[v].array.dtype = dtype_at_port(a.dtype);
    if (a.rank > 0 && a.shape[0] < 0)
        name_rows(im, k, message);
    return !has_port(a.dtype) || widen_input(im, v, a.dtype);
}

// ---- outputs -----------------------------------------------------------------------------------------

// What is said of it, as a graph keeps it.
static struct array declared_of(const struct import *im, struct array a)
{
    bool list = a.rank == NO_SHAPE; // as far as anybody can tell before it runs
    if (list) {
        a.rank = 1;
        a.shape[0] = -1;
    }
    if (!is_body(im))
        a.dtype = dtype_at_port(a.dtype);
    else
        a.dtype = list ? ENGINE_NONE : dtype_inside(a.dtype);
    return a;
}

bool import_output(struct import *im, struct view message)
{
    struct graph *g = im->g;
    struct view name;
    struct array a;
    if (!read_info(im, message, false, &name, &a))
        return false;
    int32_t v = names_find(im, name);
    if (v < 0 || v == LEFT_OUT)
        return engine_fail(im->e, "output \"%.*s\": no node makes it as its first output",
                           VIEW_ARG(name));
    if (g->n_outputs == sizeof(g->outputs) / sizeof(g->outputs[0]))
        return engine_fail(im->e, "output \"%.*s\": too many outputs", VIEW_ARG(name));
    g->declared[g->n_outputs] = (struct declared){arena_copy(&g->arena, name), declared_of(im, a)};
    if (!is_body(im) && has_port(a.dtype) && !narrow_output(im, &v, a.dtype))
        return false;
    g->outputs[g->n_outputs++] = v;
    return true;
}
