#include "engine/onnx_inner.h"

struct node *node_room(struct graph *g)
{
    struct node *nodes = graph_room(g, g->nodes, g->n_nodes, &g->cap_nodes, sizeof(*g->nodes));
    if (!nodes)
        return NULL;
    g->nodes = nodes;
    return &g->nodes[g->n_nodes];
}

void node_identity(struct view message, struct node *n, struct view *domain)
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

static bool read_input(struct import *im, struct node *n, struct view name)
{
    if (n->n_inputs == NODE_MAX_INPUTS)
        return node_fail(n, im->e, "more than %d inputs", NODE_MAX_INPUTS);
    int32_t v = name.n ? names_find(im, name) : -1;
    if (name.n && v < 0)
        return node_fail(n, im->e,
                         "input \"%.*s\" is made by no earlier node: unknown, a cycle, or not a "
                         "first output",
                         VIEW_ARG(name));
    n->input[n->n_inputs++] = v == LEFT_OUT ? -1 : v;
    return true;
}

static bool read_output(struct import *im, struct node *n, struct view name)
{
    if (n->n_outputs == NODE_MAX_OUTPUTS)
        return node_fail(n, im->e, "more than %d outputs", NODE_MAX_OUTPUTS);
    int32_t v = -1;
    // Whoever asks for more than the kernels make is refused; the first one they always make.
    if (n->n_outputs == 0 || (name.n > 0 && n->n_outputs < n->op->outputs)) {
        v = name.n > 0 ? names_add(im, name) : value_add(im->g);
        if (v < 0)
            return node_fail(n, im->e, "output \"%.*s\" is made twice", VIEW_ARG(name));
        im->g->values[v].maker = (int32_t)(n - im->g->nodes);
    }
    n->output[n->n_outputs++] = v;
    return true;
}

static bool read_outputs(struct import *im, struct node *n, struct view message)
{
    struct pb_reader r;
    struct pb_field f;
    pb_read(&r, message);
    while (field_next(&r, NODE_OUTPUT, &f)) {
        if (!read_output(im, n, f.data))
            return false;
    }
    return true;
}

bool import_node_fields(struct import *im, struct node *n, struct view message)
{
    struct pb_reader r;
    struct pb_field f;
    pb_read(&r, message);
    while (pb_next(&r, &f)) {
        if (f.number == NODE_INPUT && !read_input(im, n, f.data))
            return false;
        if (f.number == NODE_ATTRIBUTE && !import_attr(im, n, f.data))
            return false;
    }
    return !r.error || engine_fail(im->e, "node: %s", r.error);
}

bool import_node_head(struct import *im, struct node *n, struct view message, struct view *domain)
{
    struct arena *arena = &im->g->arena;
    const struct graph *root = im->g->root;
    unsigned attrs = field_count(message, NODE_ATTRIBUTE);
    unsigned values =
        field_count(message, NODE_OUTPUT) + field_count(message, NODE_INPUT) * (im->depth + 1) + 1;
    node_identity(message, n, domain);
    n->opset = im->versions.onnx;
    n->name = arena_copy(arena, n->name);
    n->type = arena_copy(arena, n->type);
    if (attrs > NODE_MAX_ATTRS)
        return engine_fail(im->e, "a node has %u attributes, expected at most %d", attrs,
                           NODE_MAX_ATTRS);
    if (values > GRAPH_MAX_VALUES - root->all_values || root->all_nodes == GRAPH_MAX_NODES)
        return import_too_many(im);
    n->attrs = arena_zalloc(arena, (attrs + 1) * sizeof(*n->attrs));
    return n->attrs || engine_fail(im->e, "out of memory");
}

// It has what its op asks for.
static bool is_whole(struct import *im, const struct node *n)
{
    const struct op *op = n->op;
    if (n->n_inputs < op->min_inputs || n->n_inputs > op->max_inputs || n->n_outputs < 1)
        return node_fail(n, im->e, "expected %u to %u inputs and an output, got %u and %u",
                         op->min_inputs, op->max_inputs, n->n_inputs, n->n_outputs);
    for (unsigned i = 0; i < op->min_inputs; i++) {
        if (n->input[i] < 0 && !(i < 8 && (op->optional >> i & 1)))
            return node_fail(n, im->e, "input %u is left out", i);
    }
    return true;
}

bool import_node(struct import *im, struct view message)
{
    struct node *n = node_room(im->g);
    struct view domain;
    char title[128];
    if (!n)
        return engine_fail(im->e, "out of memory");
    if (!import_node_head(im, n, message, &domain))
        return false;
    const struct op *op = op_find(n->type, domain);
    struct function *fn = op ? NULL : function_of(im, n->type, domain);
    if (fn)
        return import_call(im, fn, message);
    if (!op)
        return engine_fail(im->e, "op %s is not supported", node_title(n, title));
    if (!op->domain && im->without_onnx)
        return node_fail(n, im->e, "opset_import has no version of ONNX's own ops");
    if (op->domain && strcmp(op->domain, OP_ML) == 0)
        n->opset = im->versions.ml;
    if (!node_set(im->g, n, op, im->e) || !import_node_fields(im, n, message) ||
        !read_outputs(im, n, message) || !is_whole(im, n))
        return false;
    im->g->n_nodes++;
    im->g->root->all_nodes++;
    return true;
}
