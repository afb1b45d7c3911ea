#include "engine/explain.h"

#include "engine/model.h"

static bool is_known(const struct plan *p, int32_t value)
{
    for (unsigned i = 0; i < p->n_known; i++) {
        if (p->known[i].value == value)
            return true;
    }
    return false;
}

struct engine_sizes engine_sizes(const struct engine_instance *i)
{
    const struct plan *p = instance_running(i);
    struct engine_sizes s = {.values = p->n_values,
                             .steps = p->n_steps + p->n_late,
                             .known = p->n_known,
                             .constants = p->graph->bytes,
                             .arena = p->bytes,
                             .scratch = p->bytes - p->scratch_at};
    for (unsigned k = 0; k < p->n_steps; k++) {
        if (step_runs(&p->steps[k]))
            s.made += job_bytes(&p->steps[k].job);
    }
    return s;
}

struct engine_step engine_step_of(const struct engine_instance *i, unsigned step)
{
    const struct plan *p = instance_running(i);
    bool late = step >= p->n_steps;
    const struct job *j = late ? NULL : &p->steps[step].job;
    const struct node *n = late ? p->late[step - p->n_steps] : j->node;
    return (struct engine_step){.op = view_str(n->op->name),
                                .node = n->name,
                                .runs = late || step_runs(&p->steps[step]),
                                .late = late,
                                .relu = n->relu != 0,
                                .n_inputs = n->n_inputs,
                                .n_outputs = n->n_outputs,
                                .inputs = n->input,
                                .outputs = n->output,
                                .work = late ? 0 : op_work(j),
                                .spent_ns = p->spent_ns[step]};
}

struct engine_value engine_value_of(const struct engine_instance *i, int32_t value)
{
    const struct plan *p = instance_running(i);
    // Those behind the graph's are of a branch that is known to be taken.
    const struct value *v = value < (int32_t)p->graph->n_values ? &p->graph->values[value] : NULL;
    const struct array *a = &p->arrays[value];
    size_t at = p->place[p->root[value]];
    struct engine_value out = {.name = v ? v->name : VIEW(""),
                               .dtype = a->dtype,
                               .rank = a->rank,
                               .bytes = array_bytes(a),
                               .place = is_known(p, value)  ? ENGINE_AT_KNOWN
                                        : !v || v->constant ? ENGINE_AT_CONSTANT
                                        : v->maker < 0      ? ENGINE_AT_INPUT
                                                            : ENGINE_AT_ARENA};
    if (!v && at != SIZE_MAX)
        out.place = ENGINE_AT_ARENA;
    memcpy(out.shape, a->shape, sizeof(out.shape));
    out.at = at == SIZE_MAX ? 0 : at;
    return out;
}

int64_t engine_model_length(const struct engine_model *m)
{
    return m->lengths[0];
}
