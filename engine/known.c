// What is known when the inputs' shapes are: arithmetic on shapes (Shape, Gather, Concat, Mul ...) is done when
// a plan is made, by the CPU's kernels whatever the device, and its results serve as constants do.
#include "engine/cpu/device.h"
#include "engine/device.h"
#include "engine/plan.h"

#define VALUE_BYTES 8192             // of one such value: shapes are short
#define PLAN_BYTES ((size_t)1 << 20) // of all in a plan

static bool inputs_known(const struct job *j)
{
    for (unsigned i = 0; i < j->node->n_inputs; i++) {
        if (j->in[i] && !j->in[i]->data)
            return false;
    }
    return true;
}

static bool known_compute(struct plan *p, struct job *j, struct engine_error *e)
{
    char title[128];
    size_t scratch = cpu_scratch(j);
    j->scratch = scratch > 0 ? arena_alloc_aligned(&p->memory, scratch, 64) : NULL;
    if (scratch > 0 && !j->scratch)
        return engine_fail(e, "out of memory");
    if (array_bytes(j->out) > 0)
        cpu_run(j);
    return !p->failure || engine_fail(e, "%s: %s", node_title(j->node, title), p->failure);
}

bool plan_know(struct plan *p, struct job *j, bool *known, struct engine_error *e)
{
    size_t bytes = array_bytes(j->out);
    // What is prepared is a device's kernel's and no arithmetic on shapes.
    *known = !j->node->prepared && (j->node->op->of_shape || inputs_known(j)) &&
             bytes <= VALUE_BYTES && p->known_bytes + bytes <= PLAN_BYTES;
    if (!*known)
        return true;
    j->out->data = j->node->op->alias ? j->in[0]->data
                                      : arena_alloc_aligned(&p->memory, bytes ? bytes : 1, 64);
    if (!j->out->data)
        return engine_fail(e, "out of memory");
    p->known_bytes += bytes;
    p->known[p->n_known++] = (struct known){j->node->output[0], j->out->data};
    return j->node->op->alias || known_compute(p, j, e);
}
