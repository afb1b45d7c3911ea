// What depends on constants only is computed once, at load, by the CPU's kernels whatever the device: constants
// live on the host until the model is whole.
#include "base/mem.h"
#include "engine/cpu/device.h"
#include "engine/device.h"
#include "engine/plan.h"

static bool all_constant(const struct graph *g, const struct node *n)
{
    for (unsigned i = 0; i < n->n_inputs; i++) {
        if (n->input[i] >= 0 && !g->values[n->input[i]].constant)
            return false;
    }
    return n->output[0] >= 0;
}

struct fold_budget { // of all that is folded
    size_t bytes;
    double work;
};

static bool fold_one(struct graph *g, struct node *n, struct fold_budget *spent,
                     struct engine_error *e)
{
    struct array in[NODE_MAX_INPUTS], out = {0};
    char title[128];
    const char *failure = NULL;
    struct job j = {.node = n, .out = &out, .failure = &failure};
    for (unsigned i = 0; i < n->n_inputs; i++) {
        if (n->input[i] >= 0) {
            in[i] = g->values[n->input[i]].array;
            j.in[i] = &in[i];
        }
    }
    if (!n->op->shape(&j, e))
        return false;
    size_t bytes = array_bytes(&out), scratch = n->op->alias ? 0 : cpu_scratch(&j);
    if (!plan_work(g, &j, &spent->work, e))
        return false;
    if (bytes > g->limits.bytes / 4 - spent->bytes || scratch > g->limits.bytes)
        return engine_fail(e, "more than %zu MiB of constants come out of the model's constants",
                           g->limits.bytes >> 22);
    spent->bytes += bytes;
    out.data = graph_alloc(g, bytes, e);
    j.scratch = scratch ? mem_alloc(scratch) : NULL;
    if (!out.data || (scratch && !j.scratch)) {
        mem_free(j.scratch);
        return out.data ? engine_fail(e, "out of memory") : false;
    }
    if (n->op->alias && bytes > 0)
        memcpy(out.data, in[0].data, bytes);
    else if (bytes > 0)
        cpu_run(&j);
    mem_free(j.scratch);
    if (failure)
        return engine_fail(e, "%s: %s", node_title(n, title), failure);
    g->values[n->output[0]].array = out;
    g->values[n->output[0]].constant = true;
    node_remove(g, n);
    return true;
}

static bool prepare(struct graph *g, struct node *n, struct engine_error *e)
{
    if (n->kernel && n->kernel->prepare && !n->kernel->prepare(g, n, e))
        return false;
    if (n->prepared)
        node_release(g, n, 1);
    return true;
}

bool graph_fold(struct graph *g, struct engine_error *e)
{
    struct fold_budget spent = {0};
    graph_readers(g);
    for (unsigned i = 0; i < g->n_nodes; i++) {
        if (all_constant(g, &g->nodes[i]) && !fold_one(g, &g->nodes[i], &spent, e))
            return false;
    }
    if (!graph_fuse(g, e))
        return false;
    for (unsigned i = 0; i < g->n_nodes; i++) {
        if (g->nodes[i].op && !prepare(g, &g->nodes[i], e))
            return false;
    }
    return true;
}
