#include "engine/onnx_inner.h"
#include "engine/refuse.h"
#include <stdio.h>

static bool find_refused(struct import *im, struct view nodes, uint32_t number, unsigned depth,
                         struct refusals *all);

// An attribute of n: its op does not know it, or something is refused in its subgraph.
static bool find_in_attr(struct import *im, const struct node *n, struct view message,
                         unsigned depth, struct refusals *all)
{
    struct pb_reader r;
    struct pb_field f;
    char why[128];
    pb_read(&r, message);
    while (pb_next(&r, &f)) {
        if (f.number == ATTRIBUTE_NAME && n->op && !op_knows(n->op, f.data)) {
            snprintf(why, sizeof(why), "attribute \"%.*s\" is not supported",
                     VIEW_ARG(brief(f.data)));
            refuse_node(all, n, why);
        }
        if (f.number == ATTRIBUTE_G && f.wire == PB_LEN &&
            !find_refused(im, f.data, GRAPH_NODE, depth + 1, all))
            return false;
    }
    return true;
}

static bool find_in_node(struct import *im, struct view message, unsigned depth,
                         struct refusals *all)
{
    struct pb_reader r;
    struct pb_field f;
    struct node n;
    struct view domain;
    node_identity(message, &n, &domain);
    n.op = op_find(n.type, domain);
    struct function *fn = n.op ? NULL : function_of(im, n.type, domain);
    if (!fn && !n.op)
        refuse_node(all, &n, NULL);
    if (fn && !fn->checked) {
        fn->checked = true;
        if (!find_refused(im, fn->message, FUNCTION_NODE, depth + 1, all))
            return false;
    }
    pb_read(&r, message);
    while (field_next(&r, NODE_ATTRIBUTE, &f)) {
        if (f.wire == PB_LEN && !find_in_attr(im, &n, f.data, depth, all))
            return false;
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
        return import_too_deep(im);
    pb_read(&r, nodes);
    while (field_next(&r, number, &f)) {
        if (f.wire == PB_LEN && !find_in_node(im, f.data, depth, all))
            return false;
    }
    return true;
}

bool import_check(struct import *im, struct view graph)
{
    struct refusals all = {.graph = im->g};
    return find_refused(im, graph, GRAPH_NODE, 0, &all) && refuse_all(&all, im->e);
}
