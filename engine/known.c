// What is known when the inputs' shapes are: arithmetic on shapes (Shape, Gather, Concat, Mul ...) is done when
// a plan is made, by the CPU's kernels whatever the device, and its results serve as constants do.
#include "base/mem.h"
#include "engine/cpu/device.h"
#include "engine/device.h"
#include "engine/plan.h"

#define VALUE_BYTES 8192             // of one such value: shapes are short
#define PLAN_BYTES ((size_t)1 << 20) // of all in a plan, and of what one takes to be computed

static bool inputs_known(const struct job *j)
{
    for (unsigned i = 0; i < j->node->n_inputs; i++) {
        if (j->in[i] && !j->in[i]->data)
            return false;
    }
    return true;
}

static bool known_compute(struct plan *p, struct job *j, size_t scratch, struct engine_error *e)
{
    char title[128];
    void *room = scratch > 0 ? mem_alloc_aligned(scratch, 64) : NULL;
    if (scratch > 0 && !room)
        return engine_fail(e, "out of memory");
    j->scratch = room;
    if (job_bytes(j) > 0)
        cpu_run(j);
    j->scratch = NULL;
    mem_free(room);
    return !p->failure || engine_fail(e, "%s: %s", node_title(j->node, title), p->failure);
}

bool plan_know(struct plan *p, struct job *j, bool *known, struct engine_error *e)
{
    const struct node *n = j->node;
    size_t bytes = job_bytes(j);
    // What is prepared is a device's kernel's and no arithmetic on shapes.
    *known = !n->prepared && (n->op->of_shape || inputs_known(j)) && bytes <= VALUE_BYTES &&
             p->known_bytes + bytes <= PLAN_BYTES;
    size_t scratch = *known && !n->op->alias ? cpu_scratch(j) : 0;
    *known &= scratch <= PLAN_BYTES; // a step's is bounded by the model's limits
    if (!*known)
        return true;
    for (unsigned i = 0; i < n->n_outputs; i++) {
        struct array *out = j->outs[i];
        if (!out)
            continue;
        out->data = n->op->alias ? j->in[0]->data
                                 : arena_alloc_aligned(&p->memory, array_bytes(out) + 1, 64);
        if (!out->data)
            return engine_fail(e, "out of memory");
        p->known[p->n_known++] = (struct known){n->output[i], out->data};
    }
    p->known_bytes += bytes;
    return n->op->alias || known_compute(p, j, scratch, e);
}
