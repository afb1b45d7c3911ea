#include "engine/late.h"

#include "base/mem.h"
#include "engine/plan.h"
#include "engine/strings.h"

// What a step costs beside its work, in multiplications: a loop of empty steps is bounded too.
#define STEP_WORK 64

struct cell {
    void *data;
    size_t bytes;
    uint32_t holders;
};

// ---- slots -------------------------------------------------------------------------------------------

static bool too_much(struct late *l, const struct node *n)
{
    char title[128];
    return engine_fail(l->e, "%s: the run takes more than %zu MiB up to there",
                       node_title(n, title), l->limits.bytes >> 20);
}

bool slot_make(struct late *l, struct slot *s, const struct array *a, const struct node *n)
{
    size_t count, bytes = 0;
    bool sized =
        array_count(a, &count) && !__builtin_mul_overflow(count, dtype_bytes(a->dtype), &bytes);
    if (!sized || bytes > l->limits.bytes - l->bytes)
        return too_much(l, n);
    struct cell *c = mem_alloc(sizeof(*c));
    void *data = c ? l->device->ops->alloc(l->device, bytes ? bytes : 1) : NULL;
    if (!data) {
        mem_free(c);
        return engine_fail(l->e, "out of memory: %zu MiB", bytes >> 20);
    }
    *c = (struct cell){.data = data, .bytes = bytes, .holders = 1};
    l->bytes += bytes;
    s->array = *a;
    s->array.data = data;
    s->cell = c;
    return true;
}

void slot_share(struct slot *to, const struct slot *from)
{
    to->array = from->array;
    to->cell = from->cell;
    if (to->cell)
        to->cell->holders++;
}

void slot_drop(struct late *l, struct slot *s)
{
    struct cell *c = s->cell;
    s->cell = NULL;
    s->array.data = NULL;
    if (!c || --c->holders > 0)
        return;
    l->bytes -= c->bytes;
    l->device->ops->release(l->device, c->data);
    mem_free(c);
}

// ---- one node ----------------------------------------------------------------------------------------

static bool make_outputs(struct late *l, struct frame *f, const struct job *j)
{
    const struct node *n = j->node;
    for (unsigned i = 0; i < n->n_outputs; i++) {
        struct slot *s = n->output[i] >= 0 ? &f->slots[n->output[i]] : NULL;
        struct array a = s ? s->array : (struct array){0};
        if (s && !slot_make(l, s, &a, n))
            return false;
    }
    return true;
}

static bool make_scratch(struct late *l, struct job *j)
{
    const struct kernel *k = j->node->kernel;
    size_t bytes = k->scratch ? k->scratch(j) : 0;
    if (bytes > l->scratch_bytes) {
        if (bytes > l->limits.bytes)
            return too_much(l, j->node);
        l->device->ops->release(l->device, l->scratch);
        l->scratch = l->device->ops->alloc(l->device, bytes);
        l->scratch_bytes = l->scratch ? bytes : 0;
        if (!l->scratch)
            return engine_fail(l->e, "out of memory: %zu MiB", bytes >> 20);
    }
    j->scratch = l->scratch;
    return true;
}

static bool run_kernel(struct late *l, struct job *j)
{
    const struct kernel *k = j->node->kernel;
    char title[128];
    if (job_bytes(j) == 0)
        return true;
    if (k->open && !(j->state = k->open(j)))
        return engine_fail(l->e, "out of memory");
    bool ok = make_scratch(l, j);
    if (ok)
        l->device->ops->step(l->queue, j);
    if (j->state)
        k->close(j->state);
    return ok &&
           (!*j->failure || engine_fail(l->e, "%s: %s", node_title(j->node, title), *j->failure));
}

static bool compute(struct late *l, struct frame *f, struct node *n)
{
    const char *failure = NULL;
    struct job j = {.node = n, .text = l->text, .failure = &failure};
    for (unsigned i = 0; i < n->n_inputs; i++)
        j.in[i] = n->input[i] >= 0 ? &f->slots[n->input[i]].array : NULL;
    for (unsigned i = 0; i < n->n_outputs; i++)
        j.outs[i] = n->output[i] >= 0 ? &f->slots[n->output[i]].array : NULL;
    j.out = j.outs[0];
    l->work += STEP_WORK;
    if (!op_shape(&j, l->e) || !plan_work(f->graph, &j, &l->work, l->e))
        return false;
    if (!n->op->alias)
        return make_outputs(l, f, &j) && run_kernel(l, &j);
    struct array shape = *j.out; // the same bytes
    slot_share(&f->slots[n->output[0]], &f->slots[n->input[0]]);
    shape.data = j.out->data;
    *j.out = shape;
    return true;
}

static void has_read(struct late *l, struct slot *s)
{
    if (s->left > 0 && --s->left == 0)
        slot_drop(l, s);
}

bool late_node(struct late *l, struct frame *f, struct node *n)
{
    if (!(n->op->control ? n->op->control(l, f, n) : compute(l, f, n)))
        return false;
    for (unsigned i = 0; i < n->n_inputs; i++) {
        if (node_reads(n, i))
            has_read(l, &f->slots[n->input[i]]);
    }
    for (unsigned i = 0; i < n->n_captures; i++)
        has_read(l, &f->slots[n->captures[i]]);
    for (unsigned i = 0; i < n->n_outputs; i++) { // nobody does
        if (n->output[i] >= 0 && f->slots[n->output[i]].left == 0)
            slot_drop(l, &f->slots[n->output[i]]);
    }
    return true;
}

void late_end(struct late *l)
{
    l->device->ops->release(l->device, l->scratch);
    l->scratch = NULL;
    l->scratch_bytes = 0;
}

// ---- bodies ------------------------------------------------------------------------------------------

bool frame_begin(struct late *l, struct frame *f, const struct graph *body, const struct node *n,
                 const struct frame *outer)
{
    const int32_t *captures = node_captures(n, body);
    *f =
        (struct frame){.graph = body, .slots = mem_alloc((body->n_values + 1) * sizeof(*f->slots))};
    if (!f->slots)
        return engine_fail(l->e, "out of memory");
    for (unsigned v = 0; v < body->n_values; v++)
        f->slots[v] = (struct slot){body->values[v].array, NULL, body->values[v].readers};
    for (unsigned i = 0; i < body->n_captures; i++) {
        const struct capture *c = &body->captures[i];
        if (!body->values[c->inner].constant && f->slots[c->inner].left > 0)
            slot_share(&f->slots[c->inner], &outer->slots[captures[i]]);
    }
    return true;
}

bool frame_run(struct late *l, struct frame *f)
{
    for (unsigned i = 0; i < f->graph->n_nodes; i++) {
        struct node *n = &f->graph->nodes[i];
        if (n->op && !late_node(l, f, n))
            return false;
    }
    return true;
}

void frame_end(struct late *l, struct frame *f)
{
    for (unsigned v = 0; f->slots && v < f->graph->n_values; v++) {
        if (f->slots[v].cell)
            slot_drop(l, &f->slots[v]);
    }
    mem_free(f->slots);
    f->slots = NULL;
}
