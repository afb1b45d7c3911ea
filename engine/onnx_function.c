#include "engine/onnx_inner.h"

bool import_function(struct import *im, struct view message)
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
                 !import_opset(&fn->versions, f.data))
            return engine_fail(im->e, "function \"%.*s\": opset_import cannot be read",
                               VIEW_ARG(fn->name));
    }
    im->functions = fn;
    if (fn->versions.onnx > ONNX_MAX_OPSET)
        return engine_fail(im->e, "function \"%.*s\": opset_import: expected at most %d",
                           VIEW_ARG(fn->name), ONNX_MAX_OPSET);
    if (r.error)
        return engine_fail(im->e, "function: %s", r.error);
    unsigned inputs = field_count(message, FUNCTION_INPUT);
    unsigned attrs = field_count(message, FUNCTION_ATTRIBUTE);
    if (inputs > NODE_MAX_INPUTS || attrs > NODE_MAX_ATTRS) // each call takes room for all of them
        return engine_fail(im->e,
                           "function \"%.*s\": expected at most %d inputs and %d attributes, got "
                           "%u and %u",
                           VIEW_ARG(fn->name), NODE_MAX_INPUTS, NODE_MAX_ATTRS, inputs, attrs);
    return true;
}

struct function *function_of(const struct import *im, struct view type, struct view domain)
{
    for (struct function *f = im->functions; f; f = f->next) {
        if (view_eq(f->name, type) && view_eq(f->domain, domain))
            return f;
    }
    return NULL;
}

// ---- a call ------------------------------------------------------------------------------------------

// Input k of the function is the call's.
static bool bind_input(struct import *in, const struct function *fn, unsigned k, struct view name)
{
    int32_t v = k < in->call->n_inputs ? in->call->input[k] : -1;
    return names_bind(in, name, v < 0 ? LEFT_OUT : v) ||
           engine_fail(in->e, "function \"%.*s\": input \"%.*s\" stands there twice",
                       VIEW_ARG(fn->name), VIEW_ARG(name));
}

// An attribute of the function's becomes the call's, which has room for it, unless it has one of that name.
static bool add_default(struct import *in, struct node *call, struct view message)
{
    struct node own = {
        .type = call->type, .name = call->name, .attrs = &call->attrs[call->n_attrs]};
    if (!import_attr(in, &own, message))
        return false;
    if (own.n_attrs == 1 && !node_find(call, own.attrs->name))
        call->n_attrs++;
    else
        *own.attrs = (struct attr){0}; // the next one's room
    return true;
}

// The function's inputs are the call's; the attributes that the call does not have are the function's.
static bool begin_call(struct import *in, struct node *call, const struct function *fn)
{
    struct pb_reader r;
    struct pb_field f;
    unsigned k = 0, more = field_count(fn->message, FUNCTION_ATTRIBUTE);
    struct attr *attrs = arena_zalloc(&in->g->arena, (call->n_attrs + more + 1) * sizeof(*attrs));
    if (!attrs)
        return engine_fail(in->e, "out of memory");
    memcpy(attrs, call->attrs, call->n_attrs * sizeof(*attrs));
    call->attrs = attrs;
    pb_read(&r, fn->message);
    while (pb_next(&r, &f)) {
        if (f.wire != PB_LEN)
            continue;
        if (f.number == FUNCTION_INPUT && !bind_input(in, fn, k++, f.data))
            return false;
        if (f.number == FUNCTION_ATTRIBUTE && !add_default(in, call, f.data))
            return false;
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
    struct pb_field f, own;
    pb_read(&outputs, fn->message);
    pb_read(&r, message);
    while (field_next(&r, NODE_OUTPUT, &f)) {
        bool more = field_next(&outputs, FUNCTION_OUTPUT, &own);
        if (f.data.n == 0)
            continue;
        int32_t v = more && own.wire == PB_LEN ? names_find(in, own.data) : -1;
        if (v < 0 || v == LEFT_OUT)
            return engine_fail(im->e, "function \"%.*s\": does not make its output for \"%.*s\"",
                               VIEW_ARG(fn->name), VIEW_ARG(f.data));
        struct view name = arena_copy(&im->g->arena, f.data);
        if (!name.p || !names_bind(im, name, v))
            return engine_fail(im->e, "function \"%.*s\": output \"%.*s\" is made twice",
                               VIEW_ARG(fn->name), VIEW_ARG(f.data));
    }
    return true;
}

bool import_call(struct import *im, struct function *fn, struct view message)
{
    struct node call;
    struct view domain;
    struct import in = import_within(im, im->g);
    in.call = &call;
    in.without_onnx = im->without_onnx && fn->versions.onnx == 0;
    if (fn->versions.onnx > 0)
        in.versions.onnx = fn->versions.onnx;
    if (fn->versions.ml > 0)
        in.versions.ml = fn->versions.ml;
    if (in.depth > GRAPH_MAX_DEPTH)
        return import_too_deep(im);
    if (!import_node_head(im, &call, message, &domain) || !import_node_fields(im, &call, message))
        return false;
    im->g->root->all_nodes++; // also when it has none
    return begin_call(&in, &call, fn) &&
           import_each(&in, fn->message, FUNCTION_NODE, import_node) &&
           end_call(im, &in, fn, message);
}
