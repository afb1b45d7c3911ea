#include "engine/plan.h"

#include "base/mem.h"

#ifdef __x86_64__
#include <xmmintrin.h>
#endif

#define ALIGN 64

size_t plan_max_bytes = (size_t)4 << 30;
double plan_max_work = (double)((uint64_t)1 << 40);

static size_t rounded(size_t n)
{
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

static size_t bytes_of(const struct array *a)
{
    size_t n;
    return array_count(a, &n) ? n * dtype_bytes(a->dtype) : 0;
}

// ---- shapes ------------------------------------------------------------------------------------------

static void gather_inputs(struct job *j, const struct node *n, struct array *arrays)
{
    for (unsigned i = 0; i < n->n_inputs; i++)
        j->in[i] = n->input[i] >= 0 ? &arrays[n->input[i]] : NULL;
}

static bool too_much(const struct job *j, double *work, struct engine_error *e)
{
    char title[128];
    *work += op_work(j);
    if (*work <= plan_max_work)
        return false;
    engine_fail(e, "%s: the model takes more than %.3g multiplications up to there",
                node_title(j->node, title), plan_max_work);
    return true;
}

static bool infer_shapes(struct plan *p, const struct graph *g, struct engine_error *e)
{
    double work = 0;
    for (unsigned i = 0; i < g->n_nodes; i++) {
        struct node *n = &g->nodes[i];
        if (!n->op || n->output[0] < 0)
            continue; // folded or fused
        struct step *s = &p->steps[p->n_steps++];
        s->job.node = n;
        s->job.out = &p->arrays[n->output[0]];
        gather_inputs(&s->job, n, p->arrays);
        if (!n->op->shape(&s->job, e) || too_much(&s->job, &work, e))
            return false;
    }
    return true;
}

// ---- places ------------------------------------------------------------------------------------------

struct life { // of one root: the steps between which its octets are needed
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
    for (unsigned v = 0; v < g->n_values; v++) {
        p->root[v] = (int32_t)v;
        lives[v] = (struct life){.first = -1, .last = -1};
    }
    for (unsigned s = 0; s < p->n_steps; s++) {
        const struct node *n = p->steps[s].job.node;
        int32_t out = n->output[0];
        if (n->op->alias)
            p->root[out] = p->root[n->input[0]];
        else
            lives[out] = (struct life){(int32_t)s, (int32_t)s, rounded(bytes_of(&p->arrays[out]))};
        for (unsigned i = 0; i < n->n_inputs; i++) {
            if (n->input[i] >= 0)
                stretch(lives, p, n->input[i], (int32_t)s);
        }
    }
    for (unsigned i = 0; i < g->n_outputs; i++) // outputs stay until the next run
        stretch(lives, p, g->outputs[i], (int32_t)p->n_steps);
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
                       plan_max_bytes >> 20, p->rows);
}

static bool place_all(struct plan *p, const struct graph *g, struct engine_error *e)
{
    struct life *lives = arena_array(&p->memory, g->n_values, sizeof(*lives));
    int32_t *order = arena_array(&p->memory, g->n_values, sizeof(*order));
    unsigned placed = 0;
    size_t scratch = 0, room = g->max_bytes - g->bytes; // beside the constants
    if (!lives || !order)
        return engine_fail(e, "out of memory");
    find_lives(p, g, lives);
    for (unsigned v = 0; v < g->n_values; v++)
        p->place[v] = SIZE_MAX;
    for (unsigned s = 0; s < p->n_steps; s++) {
        const struct job *j = &p->steps[s].job;
        int32_t out = j->node->output[0];
        if (j->node->op->scratch) {
            size_t n = j->node->op->scratch(j);
            scratch = n > scratch ? n : scratch;
            if (scratch > room) // before a sum of such could wrap
                return too_large(p, e);
        }
        if (j->node->op->alias || lives[out].bytes == 0)
            continue;
        p->place[out] = find_place(p, lives, order, placed, out);
        order[placed++] = out;
        size_t end = p->place[out] + lives[out].bytes;
        p->bytes = end > p->bytes ? end : p->bytes;
        if (p->bytes > room)
            return too_large(p, e);
    }
    p->scratch_at = p->bytes;
    p->bytes += rounded(scratch) + ALIGN;
    return p->bytes <= room || too_large(p, e);
}

static bool open_steps(struct plan *p, struct engine_error *e)
{
    for (unsigned s = 0; s < p->n_steps; s++) {
        struct job *j = &p->steps[s].job;
        if (j->node->op->open && !(j->state = j->node->op->open(j)))
            return engine_fail(e, "out of memory");
    }
    return true;
}

// ---- life --------------------------------------------------------------------------------------------

struct plan *plan_new(const struct graph *g, uint32_t rows, struct engine_error *e)
{
    struct plan *p = mem_zalloc(sizeof(*p));
    if (!p) {
        engine_fail(e, "out of memory");
        return NULL;
    }
    arena_init(&p->memory, 64 << 10);
    p->rows = rows;
    p->arrays = arena_array(&p->memory, g->n_values + 1, sizeof(*p->arrays));
    p->place = arena_array(&p->memory, g->n_values + 1, sizeof(*p->place));
    p->root = arena_array(&p->memory, g->n_values + 1, sizeof(*p->root));
    p->steps = arena_array(&p->memory, g->n_nodes + 1, sizeof(*p->steps));
    if (!p->arrays || !p->place || !p->root || !p->steps) {
        engine_fail(e, "out of memory");
        plan_free(p);
        return NULL;
    }
    memset(p->steps, 0, (g->n_nodes + 1) * sizeof(*p->steps));
    for (unsigned v = 0; v < g->n_values; v++)
        p->arrays[v] = g->values[v].array;
    for (unsigned i = 0; i < g->n_inputs; i++) {
        struct array *a = &p->arrays[g->inputs[i]];
        if (a->rank > 0 && a->shape[0] < 0)
            a->shape[0] = rows;
    }
    if (!infer_shapes(p, g, e) || !place_all(p, g, e) || !open_steps(p, e)) {
        plan_free(p);
        return NULL;
    }
    return p;
}

void plan_free(struct plan *p)
{
    if (!p)
        return;
    for (unsigned s = 0; s < p->n_steps; s++) {
        struct job *j = &p->steps[s].job;
        if (j->state)
            j->node->op->close(j->state);
    }
    arena_deinit(&p->memory);
    mem_free(p);
}

// Numbers below 1.2e-38 count as 0 while a plan runs. Trained weights hold some (pixels that are always 0
// decay to them) and clients can send them; the machine takes a hundred times as long over each.
// (Measured: the demo model digits-small, 0.2 us a row instead of 2.0.) Returns what to give to leave.
#ifdef __x86_64__
static unsigned enter_flush(void)
{
    unsigned before = _mm_getcsr();
    _mm_setcsr(before | 0x8040); // flush results, take operands for zero
    return before;
}
static void leave_flush(unsigned before)
{
    _mm_setcsr(before);
}
#else
static unsigned enter_flush(void)
{
    return 0;
}
static void leave_flush(unsigned before)
{
    (void)before;
}
#endif

void plan_run(struct plan *p, const struct graph *g, char *arena, const void *const *inputs)
{
    unsigned before = enter_flush();
    for (unsigned i = 0; i < g->n_inputs; i++)
        p->arrays[g->inputs[i]].data = (void *)inputs[i];
    for (unsigned s = 0; s < p->n_steps; s++) {
        struct job *j = &p->steps[s].job;
        int32_t out = j->node->output[0];
        if (j->node->op->alias) {
            j->out->data = j->in[0]->data;
            continue;
        }
        j->out->data = arena + (p->place[out] == SIZE_MAX ? 0 : p->place[out]);
        j->scratch = arena + p->scratch_at;
        if (bytes_of(j->out) > 0)
            j->node->op->run(j);
    }
    leave_flush(before);
}

// ---- loading: constants, fusion, weights -------------------------------------------------------------

static bool all_constant(const struct graph *g, const struct node *n)
{
    for (unsigned i = 0; i < n->n_inputs; i++) {
        if (n->input[i] >= 0 && !g->values[n->input[i]].constant)
            return false;
    }
    return n->output[0] >= 0;
}

struct budget { // of all that is folded
    size_t bytes;
    double work;
};

static bool fold_one(struct graph *g, struct node *n, struct budget *spent, struct engine_error *e)
{
    struct array in[NODE_MAX_INPUTS], out = {0};
    struct job j = {.node = n, .out = &out};
    for (unsigned i = 0; i < n->n_inputs; i++) {
        if (n->input[i] >= 0) {
            in[i] = g->values[n->input[i]].array;
            j.in[i] = &in[i];
        }
    }
    if (!n->op->shape(&j, e))
        return false;
    size_t bytes = bytes_of(&out), scratch = n->op->scratch ? n->op->scratch(&j) : 0;
    if (too_much(&j, &spent->work, e))
        return false;
    if (bytes > plan_max_bytes / 4 - spent->bytes || scratch > plan_max_bytes)
        return engine_fail(e, "more than %zu MiB of constants come out of the model's constants",
                           plan_max_bytes >> 22);
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
        n->op->run(&j);
    mem_free(j.scratch);
    g->values[n->output[0]].array = out;
    g->values[n->output[0]].constant = true;
    node_remove(g, n);
    return true;
}

static bool prepare(struct graph *g, struct node *n, struct engine_error *e)
{
    if (!n->op->prepare(g, n, e))
        return false;
    if (n->prepared)
        node_release(g, n, 1);
    return true;
}

bool graph_fold(struct graph *g, struct engine_error *e)
{
    struct budget spent = {0};
    graph_readers(g);
    for (unsigned i = 0; i < g->n_nodes; i++) {
        if (all_constant(g, &g->nodes[i]) && !fold_one(g, &g->nodes[i], &spent, e))
            return false;
    }
    if (!graph_fuse(g, e))
        return false;
    for (unsigned i = 0; i < g->n_nodes; i++) {
        if (g->nodes[i].op && g->nodes[i].op->prepare && !prepare(g, &g->nodes[i], e))
            return false;
    }
    return true;
}
