#include "engine/onnx_inner.h"

struct attr_says { // beside its value
    enum attr_kind kind;
    struct view reference; // to an attribute of the function's call; empty: none
};

// ---- lists -------------------------------------------------------------------------------------------

// How many elements an attribute's list has at most: packed ones are of at least a byte each.
static size_t list_room(struct view message, uint32_t number)
{
    struct pb_reader r;
    struct pb_field f;
    size_t n = 0;
    pb_read(&r, message);
    while (field_next(&r, number, &f))
        n += f.wire == PB_LEN && number != ATTRIBUTE_STRINGS ? f.data.n : 1;
    return n;
}

// Room for a list, made with its first element; *list is NULL until then. NULL with e.
static void *list_of(struct import *im, void *list, struct view message, uint32_t number,
                     size_t size)
{
    return list ? list : graph_alloc(im->g, list_room(message, number) * size, im->e);
}

static bool list_wrong(struct import *im, const struct node *n)
{
    return node_fail(n, im->e, "an attribute's list cannot be read");
}

static bool read_ints(struct import *im, const struct node *n, struct attr *a, struct view message,
                      const struct pb_field *f)
{
    struct varints s;
    uint64_t v;
    a->ints = list_of(im, a->ints, message, ATTRIBUTE_INTS, sizeof(*a->ints));
    if (!a->ints)
        return false;
    varints_of(&s, f);
    while (varints_next(&s, &v))
        a->ints[a->n++] = (int64_t)v;
    return !s.packed.error || list_wrong(im, n);
}

static bool read_floats(struct import *im, const struct node *n, struct attr *a,
                        struct view message, const struct pb_field *f)
{
    struct view v = fixed_of(f, sizeof(*a->floats));
    if (v.n % sizeof(*a->floats) != 0)
        return list_wrong(im, n);
    a->floats = list_of(im, a->floats, message, ATTRIBUTE_FLOATS, sizeof(*a->floats));
    if (!a->floats)
        return false;
    if (v.n > 0)
        memcpy(a->floats + a->n, v.p, v.n);
    a->n += (unsigned)(v.n / sizeof(*a->floats));
    return true;
}

static bool read_strings(struct import *im, const struct node *n, struct attr *a,
                         struct view message, const struct pb_field *f)
{
    if (f->wire != PB_LEN)
        return list_wrong(im, n);
    a->strings = list_of(im, a->strings, message, ATTRIBUTE_STRINGS, sizeof(*a->strings));
    if (!a->strings)
        return false;
    struct view v = arena_copy(&im->g->arena, f->data);
    a->strings[a->n++] = v;
    return v.n == f->data.n || engine_fail(im->e, "out of memory");
}

// One field of a list. False with e: it cannot be read, or another list stands there too.
static bool read_list(struct import *im, const struct node *n, struct attr *a, struct view message,
                      const struct pb_field *f)
{
    enum attr_kind kind = f->number == ATTRIBUTE_INTS     ? ATTR_INTS
                          : f->number == ATTRIBUTE_FLOATS ? ATTR_FLOATS
                                                          : ATTR_STRINGS;
    if (a->n > 0 && a->kind != kind)
        return list_wrong(im, n);
    a->kind = kind;
    return kind == ATTR_INTS     ? read_ints(im, n, a, message, f)
           : kind == ATTR_FLOATS ? read_floats(im, n, a, message, f)
                                 : read_strings(im, n, a, message, f);
}

// ---- one attribute -----------------------------------------------------------------------------------

static enum attr_kind kind_from_onnx(uint64_t type)
{
    static const enum attr_kind kinds[] = {ATTR_OTHER,  ATTR_FLOAT,  ATTR_INT,
                                           ATTR_STRING, ATTR_TENSOR, ATTR_GRAPH,
                                           ATTR_FLOATS, ATTR_INTS,   ATTR_STRINGS};
    return type < sizeof(kinds) / sizeof(kinds[0]) ? kinds[type] : ATTR_OTHER;
}

// `from` of the function's call, under the name of a.
static bool copy_attr(struct import *im, const struct node *n, const struct attr *from,
                      struct attr *a)
{
    struct view name = a->name;
    *a = *from;
    a->name = name;
    if (a->kind == ATTR_GRAPH)
        return node_fail(n, im->e, "a subgraph from a function's call is not supported");
    if (a->kind != ATTR_TENSOR)
        return true;
    size_t bytes = array_bytes(&a->tensor); // each node has its own
    a->tensor.data = graph_alloc(im->g, bytes, im->e);
    if (a->tensor.data && bytes > 0)
        memcpy(a->tensor.data, from->tensor.data, bytes);
    return a->tensor.data != NULL;
}

static bool read_tensor(struct import *im, const struct node *n, struct view message,
                        struct attr *a)
{
    struct raw_tensor t;
    if (!import_tensor(im, message, &t))
        return false;
    if (t.external)
        return node_fail(n, im->e, "an attribute's tensor has external data");
    a->kind = ATTR_TENSOR;
    a->tensor = t.array;
    return true;
}

static bool read_field(struct import *im, struct node *n, struct view message,
                       const struct pb_field *f, struct attr *a, struct attr_says *says)
{
    switch (f->number) {
    case ATTRIBUTE_NAME:
        a->name = arena_copy(&im->g->arena, f->data);
        return true;
    case ATTRIBUTE_F:
        a->kind = ATTR_FLOAT;
        memcpy(&a->f, &f->value, sizeof(a->f));
        return true;
    case ATTRIBUTE_I:
        a->kind = ATTR_INT;
        a->i = (int64_t)f->value;
        return true;
    case ATTRIBUTE_S:
        a->kind = ATTR_STRING;
        a->s = arena_copy(&im->g->arena, f->data);
        return true;
    case ATTRIBUTE_T:
        return read_tensor(im, n, f->data, a);
    case ATTRIBUTE_INTS:
    case ATTRIBUTE_FLOATS:
    case ATTRIBUTE_STRINGS:
        return read_list(im, n, a, message, f);
    case ATTRIBUTE_G:
        if (a->kind == ATTR_GRAPH)
            return node_fail(n, im->e, "two subgraphs in one attribute");
        a->kind = ATTR_GRAPH;
        return import_body(im, n, f->data, &a->graph);
    case ATTRIBUTE_GRAPHS:
        return node_fail(n, im->e, "lists of subgraphs are not supported");
    case ATTRIBUTE_TYPE:
        says->kind = kind_from_onnx(f->value);
        return true;
    case ATTRIBUTE_REFERENCE:
        says->reference = f->data;
        return true;
    default:
        return true;
    }
}

bool import_attr(struct import *im, struct node *n, struct view message)
{
    struct pb_reader r;
    struct pb_field f;
    struct attr_says says = {.kind = ATTR_OTHER};
    struct attr *a = &n->attrs[n->n_attrs++];
    a->kind = ATTR_OTHER;
    pb_read(&r, message);
    while (pb_next(&r, &f)) {
        if (!read_field(im, n, message, &f, a, &says))
            return false;
    }
    if (r.error)
        return node_fail(n, im->e, "attribute: %s", r.error);
    if (says.reference.n > 0) {
        const struct attr *from = im->call ? node_find(im->call, says.reference) : NULL;
        if (!from) {
            n->attrs[--n->n_attrs] = (struct attr){0};
            return true;
        }
        if (!copy_attr(im, n, from, a))
            return false;
    }
    if (a->kind == ATTR_OTHER && says.kind != ATTR_TENSOR && says.kind != ATTR_GRAPH)
        a->kind = says.kind; // a 0, an empty text or list that the writer left out
    if (node_find(n, a->name) != a)
        return node_fail(n, im->e, "attribute \"%.*s\" stands there twice",
                         VIEW_ARG(brief(a->name)));
    if (n->op && (!op_takes(n->op, a) || (says.kind != ATTR_OTHER && says.kind != a->kind)))
        return node_fail(n, im->e, "attribute \"%.*s\" is not supported, or not with this type",
                         VIEW_ARG(brief(a->name)));
    return true;
}
