#include "engine/plan.h"

#include "base/mem.h"
#include "engine/device.h"
#include "engine/refuse.h"
#include "engine/strings.h"

#define ALIGN 64

static size_t rounded(size_t n)
{
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

// ---- shapes ------------------------------------------------------------------------------------------

static void gather_values(struct job *j, const struct node *n, struct array *arrays)
{
    for (unsigned i = 0; i < n->n_inputs; i++)
        j->in[i] = n->input[i] >= 0 ? &arrays[n->input[i]] : NULL;
    for (unsigned i = 0; i < n->n_outputs; i++)
        j->outs[i] = n->output[i] >= 0 ? &arrays[n->output[i]] : NULL;
    j->out = j->outs[0];
}

bool plan_work(const struct graph *g, const struct job *j, double *work, struct engine_error *e)
{
    char title[128];
    *work += op_work(j);
    if (*work <= g->limits.work)
        return true;
    return engine_fail(e, "%s: the model takes more than %.3g multiplications up to there",
                       node_title(j->node, title), g->limits.work);
}

// ---- what is late ------------------------------------------------------------------------------------

// Does the shape of what n makes follow from data that is not known?
static bool is_late(const struct plan *p, const struct node *n)
{
    for (unsigned i = 0; i < n->n_inputs; i++) {
        int32_t v = n->input[i];
        if (v >= 0 && (p->is_late[v] || (i < 8 && (n->op->by_data >> i & 1) && !p->arrays[v].data)))
            return true;
    }
    return n->op->control != NULL;
}

static bool add_late(struct plan *p, struct node *n, struct engine_error *e)
{
    if (n->op->check && !n->op->check(&(struct job){.node = n}, e))
        return false;
    p->late[p->n_late++] = n;
    for (unsigned i = 0; i < n->n_outputs; i++) {
        if (n->output[i] >= 0)
            p->is_late[n->output[i]] = true;
    }
    return true;
}

static void count_late(struct plan *p)
{
    const struct graph *g = p->graph;
    for (unsigned i = 0; i < g->n_outputs; i++)
        p->late_reads[g->outputs[i]]++;
    for (unsigned k = 0; k < p->n_late; k++) {
        const struct node *n = p->late[k];
        for (unsigned i = 0; i < n->n_inputs; i++) {
            if (node_reads(n, i))
                p->late_reads[n->input[i]]++;
        }
        for (unsigned i = 0; i < n->n_captures; i++)
            p->late_reads[n->captures[i]]++;
    }
}

static bool make_late(struct plan *p, struct engine_error *e)
{
    const struct graph *g = p->graph;
    char title[128];
    count_late(p);
    if (p->n_late == 0)
        return true;
    if (!g->device->ops->step || !g->device->ops->shared)
        return engine_fail(e, "%s: its shape follows from data, which the device %s does not do",
                           node_title(p->late[0], title), g->device->ops->name);
    p->frame.graph = g;
    p->frame.slots = arena_zalloc(&p->memory, (p->n_values + 1) * sizeof(*p->frame.slots));
    p->run = arena_zalloc(&p->memory, sizeof(*p->run));
    return (p->frame.slots && p->run) || engine_fail(e, "out of memory");
}

void plan_drop(struct plan *p)
{
    for (unsigned v = 0; p->frame.slots && v < p->n_values; v++) {
        if (p->frame.slots[v].cell)
            slot_drop(p->run, &p->frame.slots[v]);
    }
}

bool plan_run_late(struct plan *p, struct queue *q, struct engine_error *e)
{
    const struct graph *g = p->graph;
    bool ok = true;
    plan_drop(p);
    *p->run = (struct late){
        .device = g->device, .queue = q, .limits = g->limits, .text = &p->text, .e = e};
    p->run->limits.bytes -= g->bytes + p->bytes;
    p->run->work = p->work;
    for (unsigned v = 0; v < p->n_values; v++)
        p->frame.slots[v] = (struct slot){.array = p->is_late[v] ? (struct array){0} : p->arrays[v],
                                          .left = p->late_reads[v]};
    for (unsigned i = 0; i < p->n_late && ok; i++) {
        uint64_t from = p->now_ns ? p->now_ns() : 0;
        ok = late_node(p->run, &p->frame, p->late[i]);
        if (p->now_ns)
            p->spent_ns[p->n_steps + i] += p->now_ns() - from;
    }
    late_end(p->run);
    for (unsigned i = 0; i < g->n_outputs && ok; i++)
        p->arrays[g->outputs[i]] = p->frame.slots[g->outputs[i]].array;
    if (!ok)
        plan_drop(p);
    return ok;
}

// ---- steps -------------------------------------------------------------------------------------------

// One node: known, or a step of the plan.
static bool add_step(struct plan *p, struct node *n, struct engine_error *e)
{
    struct plan_step *s = &p->steps[p->n_steps];
    bool known;
    s->job = (struct job){.node = n, .text = &p->known_text, .failure = &p->failure};
    gather_values(&s->job, n, p->arrays);
    if (!op_shape(&s->job, e) || !plan_work(p->graph, &s->job, &p->work, e) ||
        !plan_know(p, &s->job, &known, e))
        return false;
    s->job.text = &p->text;
    p->n_steps += !known;
    return true;
}

static bool add_node(struct plan *p, struct node *n, struct engine_error *e)
{
    const struct graph *branch = branch_known(p, n);
    unsigned count;
    if (!branch)
        return is_late(p, n) ? add_late(p, n, e) : add_step(p, n, e);
    struct node *nodes = branch_nodes(p, n, branch, &count, e);
    for (unsigned i = 0; nodes && i < count; i++) {
        if (!add_node(p, &nodes[i], e))
            return false;
    }
    return nodes != NULL;
}

static bool infer_shapes(struct plan *p, const struct graph *g, struct engine_error *e)
{
    for (unsigned i = 0; i < g->n_nodes; i++) {
        if (g->nodes[i].op && !add_node(p, &g->nodes[i], e))
            return false;
    }
    return true;
}

static bool any_wanted(const struct node *n, const bool *wanted)
{
    for (unsigned i = 0; i < n->n_outputs; i++) {
        if (n->output[i] >= 0 && wanted[n->output[i]])
            return true;
    }
    return false;
}

static void want_reads(const struct node *n, bool *wanted, int32_t none)
{
    for (unsigned i = 0; i < n->n_inputs; i++)
        wanted[n->input[i] >= 0 ? n->input[i] : none] = true;
    for (unsigned i = 0; i < n->n_captures; i++)
        wanted[n->captures[i]] = true;
}

// Those of the late nodes whose outputs are read.
static void prune_late(struct plan *p, bool *wanted)
{
    unsigned kept = p->n_late;
    for (unsigned k = p->n_late; k-- > 0;) {
        if (!any_wanted(p->late[k], wanted))
            continue;
        want_reads(p->late[k], wanted, (int32_t)p->n_values);
        p->late[--kept] = p->late[k];
    }
    p->late += kept;
    p->n_late -= kept;
}

// Drops steps whose outputs are not read: what they were for is known.
static bool prune(struct plan *p, struct engine_error *e)
{
    const struct graph *g = p->graph;
    bool *wanted = arena_zalloc(&p->memory, p->n_values + 1);
    unsigned kept = p->n_steps;
    if (!wanted)
        return engine_fail(e, "out of memory");
    for (unsigned i = 0; i < g->n_outputs; i++)
        wanted[g->outputs[i]] = true;
    prune_late(p, wanted);
    for (unsigned s = p->n_steps; s-- > 0;) {
        const struct node *n = p->steps[s].job.node;
        if (!any_wanted(n, wanted))
            continue;
        want_reads(n, wanted, (int32_t)p->n_values);
        p->steps[--kept] = p->steps[s];
    }
    p->n_steps -= kept;
    memmove(p->steps, p->steps + kept, p->n_steps * sizeof(*p->steps));
    return true;
}

// ---- places ------------------------------------------------------------------------------------------

struct life { // of one root: the steps between which its bytes are needed
    int32_t first, last;
    size_t bytes;
};

static void stretch(struct life *lives, const struct plan *p, int32_t value, int32_t step)
{
    struct life *l = &lives[p->root[value]];
    l->last = step > l->last ? step : l->last;
}

static void find_lives(struct plan *p, const struct graph *g, struct life *lives)
{
    for (unsigned v = 0; v < p->n_values; v++) {
        p->root[v] = (int32_t)v;
        lives[v] = (struct life){.first = -1, .last = -1};
    }
    // Copied there before the first step, where they have to be.
    for (unsigned i = 0; i < g->n_inputs; i++)
        lives[g->inputs[i]].bytes = rounded(array_bytes(&p->arrays[g->inputs[i]]));
    for (unsigned i = 0; !g->device->ops->shared && i < p->n_known; i++)
        lives[p->known[i].value].bytes = rounded(array_bytes(&p->arrays[p->known[i].value]));
    for (unsigned s = 0; s < p->n_steps; s++) {
        const struct node *n = p->steps[s].job.node;
        if (n->op->alias)
            p->root[n->output[0]] = p->root[n->input[0]];
        for (unsigned i = 0; !n->op->alias && i < n->n_outputs; i++) {
            int32_t out = n->output[i];
            if (out >= 0)
                lives[out] =
                    (struct life){(int32_t)s, (int32_t)s, rounded(array_bytes(&p->arrays[out]))};
        }
        for (unsigned i = 0; i < n->n_inputs; i++) {
            if (n->input[i] >= 0)
                stretch(lives, p, n->input[i], (int32_t)s);
        }
    }
    for (unsigned v = 0; v < p->n_values; v++) {
        if (p->late_reads[v] > 0) // outputs and what is read late stay until the next run
            stretch(lives, p, (int32_t)v, (int32_t)p->n_steps);
    }
}

// First fit: the lowest place where no other life of the same time lies.
static size_t find_place(const struct plan *p, const struct life *lives, const int32_t *order,
                         unsigned placed, int32_t value)
{
    size_t at = 0;
    bool moved = true;
    while (moved) {
        moved = false;
        for (unsigned k = 0; k < placed; k++) {
            const struct life *o = &lives[order[k]], *l = &lives[value];
            size_t start = p->place[order[k]];
            if (o->first <= l->last && l->first <= o->last && start < at + l->bytes &&
                at < start + o->bytes) {
                at = start + o->bytes;
                moved = true;
            }
        }
    }
    return at;
}

static bool too_large(const struct plan *p, struct engine_error *e)
{
    return engine_fail(e, "the model needs more than %zu MiB of memory for %u rows",
                       p->graph->limits.bytes >> 20, p->bound.rows);
}

struct placing {
    struct plan *plan;
    const struct life *lives;
    int32_t *
        order; // what has a place and is needed still: places are given in the order of lives' beginnings
    unsigned placed;
    size_t room; // for the arena
};

// What ended before the value begins stands in nobody's way any more.
static void forget_ended(struct placing *at, int32_t value)
{
    unsigned kept = 0;
    for (unsigned k = 0; k < at->placed; k++) {
        if (at->lives[at->order[k]].last >= at->lives[value].first)
            at->order[kept++] = at->order[k];
    }
    at->placed = kept;
}

// False: it is full.
static bool place_one(struct placing *at, int32_t value)
{
    struct plan *p = at->plan;
    if (at->lives[value].bytes == 0)
        return true;
    forget_ended(at, value);
    p->place[value] = find_place(p, at->lives, at->order, at->placed, value);
    at->order[at->placed++] = value;
    size_t end = p->place[value] + at->lives[value].bytes;
    p->bytes = end > p->bytes ? end : p->bytes;
    return p->bytes <= at->room;
}

static bool place_outputs(struct placing *at, const struct node *n)
{
    bool ok = true;
    for (unsigned i = 0; i < n->n_outputs && !n->op->alias && ok; i++)
        ok = n->output[i] < 0 || place_one(at, n->output[i]);
    return ok;
}

static size_t scratch_of(const struct job *j)
{
    const struct kernel *k = j->node->kernel;
    return k && k->scratch && (!k->open || j->state) ? k->scratch(j) : 0;
}

static bool place_all(struct plan *p, struct engine_error *e)
{
    const struct graph *g = p->graph;
    struct life *lives = arena_array(&p->memory, p->n_values, sizeof(*lives));
    struct placing at = {.plan = p,
                         .lives = lives,
                         .order = arena_array(&p->memory, p->n_values, sizeof(*at.order)),
                         .room = g->limits.bytes - g->bytes}; // beside the constants
    size_t scratch = 0;
    if (!lives || !at.order)
        return engine_fail(e, "out of memory");
    find_lives(p, g, lives);
    for (unsigned v = 0; v < p->n_values; v++)
        p->place[v] = SIZE_MAX;
    for (unsigned i = 0; i < g->n_inputs; i++) {
        if (!place_one(&at, g->inputs[i]))
            return too_large(p, e);
    }
    for (unsigned i = 0; i < p->n_known; i++) {
        if (!place_one(&at, p->known[i].value))
            return too_large(p, e);
    }
    for (unsigned s = 0; s < p->n_steps; s++) {
        const struct job *j = &p->steps[s].job;
        size_t n = scratch_of(j);
        scratch = n > scratch ? n : scratch;
        if (scratch > at.room) // before a sum of such could wrap
            return too_large(p, e);
        if (!place_outputs(&at, j->node))
            return too_large(p, e);
    }
    p->scratch_at = p->bytes;
    p->bytes += rounded(scratch) + ALIGN;
    return p->bytes <= at.room || too_large(p, e);
}

static bool open_steps(struct plan *p, struct engine_error *e)
{
    for (unsigned s = 0; s < p->n_steps; s++) {
        struct job *j = &p->steps[s].job;
        const struct kernel *k = j->node->kernel;
        if (k && k->open && !(j->state = k->open(j)))
            return engine_fail(e, "out of memory");
    }
    return true;
}

// From here on constants are where the device reads them.
static void bind_constants(struct plan *p)
{
    for (unsigned v = 0; v < p->graph->n_values; v++) {
        if (p->graph->values[v].on_device)
            p->arrays[v].data = p->graph->values[v].on_device;
    }
}

// ---- binding -----------------------------------------------------------------------------------------

bool binding_same(const struct binding *a, const struct binding *b)
{
    return a->rows == b->rows && a->n == b->n &&
           memcmp(a->dims, b->dims, a->n * sizeof(a->dims[0])) == 0;
}

struct binding binding_of(const struct graph *g, uint32_t rows, int64_t length)
{
    struct binding b = {.rows = rows, .n = g->n_free + g->n_apart};
    for (unsigned i = 0; i < b.n; i++)
        b.dims[i] = i < g->n_free ? length : 1;
    return b;
}

static void bind_inputs(struct plan *p)
{
    unsigned n = 0, apart = p->graph->n_free;
    for (unsigned i = 0; i < p->graph->n_inputs; i++) {
        struct array *a = &p->arrays[p->graph->inputs[i]];
        for (unsigned d = 0; d < a->rank; d++) {
            if (a->shape[d] < 0)
                a->shape[d] = d > 0                ? p->bound.dims[n++]
                              : p->graph->apart[i] ? p->bound.dims[apart++]
                                                   : p->bound.rows;
        }
    }
}

// ---- life --------------------------------------------------------------------------------------------

// For the graph, and every branch of it once.
static bool make_room(struct plan *p)
{
    const struct graph *g = p->graph;
    unsigned values = g->n_values + 1, nodes = g->n_nodes + 1;
    for (const struct graph *b = g->bodies; b; b = b->next) {
        values += b->n_values;
        nodes += b->n_nodes + b->n_outputs;
    }
    p->arrays = arena_array(&p->memory, values, sizeof(*p->arrays));
    p->place = arena_array(&p->memory, values, sizeof(*p->place));
    p->root = arena_array(&p->memory, values, sizeof(*p->root));
    p->steps = arena_zalloc(&p->memory, nodes * sizeof(*p->steps));
    p->known = arena_array(&p->memory, values, sizeof(*p->known));
    p->late = arena_array(&p->memory, nodes, sizeof(struct node *));
    p->is_late = arena_zalloc(&p->memory, values);
    p->late_reads = arena_zalloc(&p->memory, values * sizeof(*p->late_reads));
    return p->arrays && p->place && p->root && p->steps && p->known && p->late && p->is_late &&
           p->late_reads;
}

static bool make_clocks(struct plan *p, struct engine_error *e)
{
    p->spent_ns = arena_zalloc(&p->memory, (p->n_steps + p->n_late + 1) * sizeof(*p->spent_ns));
    return p->spent_ns || engine_fail(e, "out of memory");
}

// With its inputs bound, and no step yet. NULL with e.
static struct plan *plan_begin(const struct graph *g, const struct binding *b,
                               struct engine_error *e)
{
    struct plan *p = mem_zalloc(sizeof(*p));
    if (!p) {
        engine_fail(e, "out of memory");
        return NULL;
    }
    arena_init(&p->memory, 64 << 10);
    arena_init(&p->text_memory, 0);
    p->text = (struct text){&p->text_memory, g->limits.bytes / 4};
    p->known_text = (struct text){&p->memory, g->limits.bytes / 4};
    p->graph = g;
    p->bound = *b;
    p->n_values = g->n_values;
    if (!make_room(p)) {
        engine_fail(e, "out of memory");
        plan_free(p);
        return NULL;
    }
    for (unsigned v = 0; v < g->n_values; v++)
        p->arrays[v] = g->values[v].array;
    bind_inputs(p);
    return p;
}

static struct plan *make_plan(const struct graph *g, const struct binding *b, bool runs,
                              struct engine_error *e)
{
    struct plan *p = plan_begin(g, b, e);
    if (!p)
        return NULL;
    if (!infer_shapes(p, g, e) || !prune(p, e) || !make_late(p, e) || (runs && !open_steps(p, e)) ||
        !place_all(p, e) || !make_clocks(p, e)) {
        plan_free(p);
        return NULL;
    }
    bind_constants(p);
    return p;
}

struct plan *plan_new(const struct graph *g, const struct binding *b, struct engine_error *e)
{
    return make_plan(g, b, true, e);
}

struct plan *plan_sketch(const struct graph *g, const struct binding *b, struct engine_error *e)
{
    return make_plan(g, b, false, e);
}

void plan_free(struct plan *p)
{
    if (!p)
        return;
    plan_drop(p);
    for (unsigned s = 0; s < p->n_steps; s++) {
        struct job *j = &p->steps[s].job;
        if (j->state)
            j->node->kernel->close(j->state);
    }
    arena_deinit(&p->text_memory);
    arena_deinit(&p->memory);
    mem_free(p);
}

// The error without the node's title, which stands before it.
static const char *shape_why(const struct node *n, const struct engine_error *e)
{
    char title[128];
    size_t length = strlen(node_title(n, title));
    bool titled = strncmp(e->text, title, length) == 0 && strncmp(e->text + length, ": ", 2) == 0;
    return e->text + (titled ? length + 2 : 0);
}

static bool reads_any(const struct node *n, const bool *broken)
{
    for (unsigned i = 0; i < n->n_inputs; i++) {
        if (n->input[i] >= 0 && broken[n->input[i]])
            return true;
    }
    return false;
}

void plan_refuse(const struct graph *g, const struct binding *b, struct engine_error *e)
{
    struct refusals all = {.graph = g};
    struct engine_error why;
    struct plan *p = plan_begin(g, b, &why);
    bool *broken = p ? arena_zalloc(&p->memory, g->n_values + 1) : NULL;
    for (unsigned i = 0; broken && i < g->n_nodes && p->work <= g->limits.work; i++) {
        struct node *n = &g->nodes[i];
        if (!n->op)
            continue;
        bool skipped = reads_any(n, broken);
        if (!skipped && add_node(p, n, &why))
            continue;
        if (!skipped)
            refuse_node(&all, n, shape_why(n, &why));
        for (unsigned k = 0; k < n->n_outputs; k++)
            broken[n->output[k] >= 0 ? n->output[k] : (int32_t)g->n_values] = true;
        broken[g->n_values] = false;
    }
    if (all.nodes > 1)
        refuse_all(&all, e);
    plan_free(p);
}

// ---- running -----------------------------------------------------------------------------------------

void *plan_place(const struct plan *p, char *arena, int32_t value)
{
    return arena + (p->place[value] == SIZE_MAX ? 0 : p->place[value]);
}

void plan_bind(struct plan *p, char *arena, void *const *inputs)
{
    arena_reset(&p->text_memory);
    for (unsigned i = 0; i < p->graph->n_inputs; i++)
        p->arrays[p->graph->inputs[i]].data = inputs[i];
    for (unsigned i = 0; !p->graph->device->ops->shared && i < p->n_known; i++)
        p->arrays[p->known[i].value].data = plan_place(p, arena, p->known[i].value);
    for (unsigned s = 0; s < p->n_steps; s++) {
        struct job *j = &p->steps[s].job;
        const struct node *n = j->node;
        for (unsigned i = 0; i < n->n_outputs; i++) {
            if (j->outs[i])
                j->outs[i]->data =
                    n->op->alias ? j->in[0]->data : plan_place(p, arena, n->output[i]);
        }
        j->scratch = arena + p->scratch_at;
    }
}

bool step_runs(const struct plan_step *s)
{
    return !s->job.node->op->alias && job_bytes(&s->job) > 0;
}
