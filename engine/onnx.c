#include "engine/onnx_inner.h"

enum { MODEL_GRAPH = 7, MODEL_OPSET = 8, MODEL_FUNCTION = 25 };
enum { OPSET_DOMAIN = 1, OPSET_VERSION = 2 };

#define ML_MAX_OPSET 5
#define OUR_OPSET 21 // of what we put into a file that names no version of ONNX's own ops

struct import import_within(const struct import *im, struct graph *g)
{
    return (struct import){.g = g,
                           .e = im->e,
                           .functions = im->functions,
                           .external = im->external,
                           .depth = im->depth + 1,
                           .versions = im->versions,
                           .without_onnx = im->without_onnx};
}

bool import_too_deep(struct import *im)
{
    return engine_fail(im->e, "subgraphs and functions stand in each other more than %d deep",
                       GRAPH_MAX_DEPTH);
}

bool import_too_many(struct import *im)
{
    return engine_fail(im->e, "graph: expected at most %d values and %d nodes in all",
                       GRAPH_MAX_VALUES, GRAPH_MAX_NODES);
}

// ---- graphs ------------------------------------------------------------------------------------------

bool import_each(struct import *im, struct view message, uint32_t number,
                 bool (*read)(struct import *im, struct view message))
{
    struct pb_reader r;
    struct pb_field f;
    pb_read(&r, message);
    while (field_next(&r, number, &f)) {
        if (f.wire != PB_LEN)
            return engine_fail(im->e, "graph: field %u has a wrong wire type", number);
        if (!read(im, f.data) || !graph_charge_arena(im->g, im->e))
            return false;
    }
    return !r.error || engine_fail(im->e, "graph: %s", r.error);
}

// What is counted before it is read costs the file a byte each, at least.
static bool read_graph(struct import *im, struct view graph)
{
    struct graph *g = im->g;
    unsigned values = field_count(graph, GRAPH_INITIALIZER) + field_count(graph, GRAPH_INPUT);
    if (values > GRAPH_MAX_VALUES - g->root->all_values ||
        field_count(graph, GRAPH_NODE) > GRAPH_MAX_NODES)
        return import_too_many(im);
    g->declared =
        arena_array(&g->arena, field_count(graph, GRAPH_OUTPUT) + 1, sizeof(*g->declared));
    if (!g->declared)
        return engine_fail(im->e, "out of memory");
    return import_each(im, graph, GRAPH_INITIALIZER, import_initializer) &&
           import_each(im, graph, GRAPH_INPUT, import_input) &&
           import_each(im, graph, GRAPH_NODE, import_node) &&
           import_each(im, graph, GRAPH_OUTPUT, import_output);
}

bool import_body(struct import *im, struct node *n, struct view message, struct graph **to)
{
    if (im->depth >= GRAPH_MAX_DEPTH)
        return import_too_deep(im);
    struct graph *b = *to = graph_body(im->g->root);
    if (!b)
        return engine_fail(im->e, "out of memory");
    struct import in = import_within(im, b);
    in.outer = im;
    in.call = im->call;
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

// ---- a file ------------------------------------------------------------------------------------------

// Of the domains whose ops we have; the version of a node's is the node's.
static int64_t *version_of(struct versions *v, struct view domain)
{
    if (domain.n == 0 || view_is(domain, "ai.onnx"))
        return &v->onnx;
    return view_is(domain, OP_ML) ? &v->ml : &v->other;
}

bool import_opset(struct versions *to, struct view message)
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

// Versions and functions; *graph is to be read.
static bool read_model(struct import *im, struct view onnx, struct view *graph)
{
    struct pb_reader r;
    struct pb_field f;
    pb_read(&r, onnx);
    while (pb_next(&r, &f)) {
        if (f.number == MODEL_GRAPH && f.wire == PB_LEN)
            *graph = f.data;
        else if (f.number == MODEL_OPSET &&
                 (f.wire != PB_LEN || !import_opset(&im->versions, f.data)))
            return engine_fail(im->e, "opset_import cannot be read");
        else if (f.number == MODEL_FUNCTION && f.wire == PB_LEN && !import_function(im, f.data))
            return false;
    }
    if (r.error)
        return engine_fail(im->e, "not an ONNX file: %s", r.error);
    return graph->n > 0 || engine_fail(im->e, "not an ONNX file: it has no graph");
}

static bool take_versions(struct import *im)
{
    struct versions *v = &im->versions;
    im->without_onnx = v->onnx == 0 && (v->ml != 0 || v->other != 0);
    if (im->without_onnx)
        v->onnx = OUR_OPSET;
    im->g->opset = v->onnx;
    if (v->onnx < 1 || v->onnx > ONNX_MAX_OPSET)
        return engine_fail(im->e, "opset_import: expected a version of 1 to %d, got %lld",
                           ONNX_MAX_OPSET, (long long)v->onnx);
    if (v->ml < 0 || v->ml > ML_MAX_OPSET)
        return engine_fail(im->e,
                           "opset_import: " OP_ML ": expected a version of 1 to %d, got %lld",
                           ML_MAX_OPSET, (long long)v->ml);
    return true;
}

bool graph_import(struct graph *g, struct view onnx, struct engine_error *e)
{
    struct external external = {.n_files = 0};
    struct import im = {.g = g, .e = e, .external = &external};
    struct view graph = VIEW("");
    if (!read_model(&im, onnx, &graph) || !take_versions(&im) || !import_check(&im, graph) ||
        !read_graph(&im, graph) || !external_check(&external, e))
        return false;
    return (g->n_outputs > 0 && g->n_inputs > 0) ||
           engine_fail(e, "graph: expected inputs and outputs, got %u and %u", g->n_inputs,
                       g->n_outputs);
}
