// An If whose condition follows from shapes: what exporters write for a squeeze of a dimension that is 1 or not. The
// nodes of its branch stand in the plan in its place, as copies that know the plan's values.
#include "engine/device.h"
#include "engine/plan.h"

const struct graph *branch_known(const struct plan *p, const struct node *n)
{
    if (n->op->control != control_if || p->is_late[n->input[0]] || !p->graph->device->ops->shared)
        return NULL;
    const struct array *yes = &p->arrays[n->input[0]];
    size_t count;
    if (!yes->data || yes->dtype != ENGINE_BOOL || !array_count(yes, &count) || count != 1)
        return NULL;
    return control_branch(n, *(const uint8_t *)yes->data != 0);
}

// The plan's number of each of the branch's values.
static int32_t *branch_values(struct plan *p, const struct node *n, const struct graph *b)
{
    int32_t *map = arena_array(&p->memory, b->n_values + 1, sizeof(*map));
    const int32_t *captures = node_captures(n, b);
    if (!map)
        return NULL;
    for (unsigned v = 0; v < b->n_values; v++) {
        map[v] = (int32_t)p->n_values;
        p->arrays[p->n_values++] = b->values[v].array;
    }
    for (unsigned i = 0; i < b->n_captures; i++) {
        if (!b->values[b->captures[i].inner].constant)
            map[b->captures[i].inner] = captures[i];
    }
    return map;
}

static bool map_node(struct plan *p, struct node *n, const int32_t *map)
{
    int32_t *captures = arena_array(&p->memory, n->n_captures + 1, sizeof(*captures));
    if (!captures)
        return false;
    for (unsigned i = 0; i < n->n_inputs; i++)
        n->input[i] = n->input[i] >= 0 ? map[n->input[i]] : -1;
    for (unsigned i = 0; i < n->n_outputs; i++)
        n->output[i] = n->output[i] >= 0 ? map[n->output[i]] : -1;
    for (unsigned i = 0; i < n->n_captures; i++)
        captures[i] = map[n->captures[i]];
    n->captures = captures;
    return true;
}

struct node *branch_nodes(struct plan *p, const struct node *n, const struct graph *b,
                          unsigned *count, struct engine_error *e)
{
    int32_t *map = branch_values(p, n, b);
    struct node *nodes = arena_array(&p->memory, b->n_nodes + b->n_outputs + 1, sizeof(*nodes));
    bool ok = map && nodes;
    *count = 0;
    for (unsigned i = 0; ok && i < b->n_nodes; i++) {
        if (!b->nodes[i].op)
            continue;
        nodes[*count] = b->nodes[i];
        ok = map_node(p, &nodes[(*count)++], map);
    }
    for (unsigned k = 0; ok && k < n->n_outputs; k++) {
        if (n->output[k] < 0)
            continue;
        nodes[(*count)++] = (struct node){.name = n->name,
                                          .type = VIEW("Identity"),
                                          .op = op_find(VIEW("Identity"), VIEW("")),
                                          .input = {map[b->outputs[k]]},
                                          .output = {n->output[k]},
                                          .n_inputs = 1,
                                          .n_outputs = 1,
                                          .opset = n->opset};
    }
    if (!ok)
        engine_fail(e, "out of memory");
    return ok ? nodes : NULL;
}
