// What depends on constants only is computed once, at load, by the CPU's kernels whatever the device: constants
// live on the host until the model is whole.
#include "base/mem.h"
#include "engine/cpu/device.h"
#include "engine/device.h"
#include "engine/plan.h"
#include "engine/strings.h"

static bool all_constant(const struct graph *g, const struct node *n)
{
    if (n->op->control)
        return false;
    for (unsigned i = 0; i < n->n_inputs; i++) {
        if (n->input[i] >= 0 && !g->values[n->input[i]].constant)
            return false;
    }
    return !n->op->kept;
}

struct fold_budget { // of all that is folded
    size_t bytes;
    double work;
};

// Room for the outputs, of the graph from here on. False with e.
static bool outputs_alloc(struct graph *g, const struct job *j, struct engine_error *e)
{
    for (unsigned i = 0; i < j->node->n_outputs; i++) {
        if (j->outs[i] && !(j->outs[i]->data = graph_alloc(g, array_bytes(j->outs[i]), e)))
            return false;
    }
    return true;
}

static void outputs_drop(struct graph *g, const struct job *j)
{
    for (unsigned i = 0; i < j->node->n_outputs; i++)
        graph_drop(g, j->outs[i] ? j->outs[i]->data : NULL);
}

static bool fold_compute(struct job *j, size_t scratch, struct engine_error *e)
{
    char title[128];
    size_t bytes = job_bytes(j);
    j->scratch = scratch ? mem_alloc_aligned(scratch, 64) : NULL;
    if (scratch && !j->scratch)
        return engine_fail(e, "out of memory");
    if (j->node->op->alias && bytes > 0)
        memcpy(j->out->data, j->in[0]->data, bytes);
    else if (bytes > 0)
        cpu_run(j);
    mem_free(j->scratch);
    return !*j->failure || engine_fail(e, "%s: %s", node_title(j->node, title), *j->failure);
}

static bool fold_one(struct graph *g, struct node *n, struct fold_budget *spent,
                     struct engine_error *e)
{
    struct array in[NODE_MAX_INPUTS], out[NODE_MAX_OUTPUTS] = {0};
    const char *failure = NULL;
    struct job j = {.node = n, .out = out, .failure = &failure};
    for (unsigned i = 0; i < n->n_inputs; i++) {
        if (n->input[i] >= 0) {
            in[i] = g->values[n->input[i]].array;
            j.in[i] = &in[i];
        }
    }
    for (unsigned i = 0; i < n->n_outputs; i++)
        j.outs[i] = n->output[i] >= 0 ? &out[i] : NULL;
    struct text text = {&g->arena, g->limits.bytes};
    j.text = &text;
    if (!op_shape(&j, e))
        return false;
    size_t bytes = job_bytes(&j), scratch = n->op->alias ? 0 : cpu_scratch(&j);
    if (!plan_work(g, &j, &spent->work, e))
        return false;
    if (bytes > g->limits.bytes / 4 - spent->bytes || scratch > g->limits.bytes)
        return engine_fail(e, "more than %zu MiB of constants come out of the model's constants",
                           g->limits.bytes >> 22);
    spent->bytes += bytes;
    if (!outputs_alloc(g, &j, e) || !fold_compute(&j, scratch, e)) {
        outputs_drop(g, &j);
        return false;
    }
    for (unsigned i = 0; i < n->n_outputs; i++) {
        if (!j.outs[i])
            continue;
        g->values[n->output[i]].array = *j.outs[i];
        g->values[n->output[i]].constant = true;
    }
    graph_note(g, ENGINE_FOLDED, "%.*s", VIEW_ARG(n->type));
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

static bool fold_graph(struct graph *g, struct fold_budget *spent, struct engine_error *e);

// What n's subgraphs read and is constant by now is constant there too, and stays the surrounding graph's.
static bool fold_bodies(struct graph *g, struct node *n, struct fold_budget *spent,
                        struct engine_error *e)
{
    struct graph *b;
    if (n->op->control && !n->op->shape(&(struct job){.node = n}, e))
        return false;
    for (unsigned k = 0; (b = node_body(n, k)); k++) {
        for (unsigned i = 0; i < b->n_captures; i++) {
            const struct value *outer = &g->values[b->captures[i].outer];
            struct value *inner = &b->values[b->captures[i].inner];
            if (!outer->constant)
                continue;
            inner->array = outer->array;
            inner->constant = inner->borrowed = true;
        }
        if (!fold_graph(b, spent, e))
            return false;
    }
    return true;
}

// What depends on constants only; `bytes`: but what makes floats of bytes, which may go into an op on bytes.
static bool fold_nodes(struct graph *g, bool bytes, struct fold_budget *spent,
                       struct engine_error *e)
{
    for (unsigned i = 0; i < g->n_nodes; i++) {
        struct node *n = &g->nodes[i];
        if (!n->op || (bytes && node_feeds_bytes(g, n)))
            continue;
        bool all = all_constant(g, n);
        if (!all && bytes)
            continue;
        if (g != g->root && n->op->check && !n->op->check(&(struct job){.node = n}, e))
            return false;
        bool ok = all ? fold_one(g, n, spent, e) : fold_bodies(g, n, spent, e);
        // Of a body it may be a step that is never reached; it says so when it is.
        if (!ok && (g == g->root || n->op->control))
            return false;
    }
    return true;
}

static bool fold_graph(struct graph *g, struct fold_budget *spent, struct engine_error *e)
{
    graph_readers(g);
    if (!fold_nodes(g, true, spent, e) || !fuse_bytes(g, e) || !fold_nodes(g, false, spent, e) ||
        !graph_fuse(g, e))
        return false;
    for (unsigned i = 0; i < g->n_nodes; i++) {
        if (g->nodes[i].op && !prepare(g, &g->nodes[i], e))
            return false;
    }
    if (g != g->root)
        graph_readers(g); // what counts when it is run
    return true;
}

bool graph_fold(struct graph *g, struct engine_error *e)
{
    return fold_graph(g, &(struct fold_budget){0}, e);
}
