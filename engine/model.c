#include "engine/model.h"

#include "base/mem.h"
#include "base/rand.h"
#include "engine/strings.h"

#include <math.h>
#include <stdio.h>

#define SEED 0x51a1ce
#define TRIED_ROWS 3
// Of them so many are run together and alone: what influences another row does so in both directions, and most of
// what a load costs is runs.
#define RUN_ROWS 2

// ---- ports -------------------------------------------------------------------------------------------

static const char *copy_name(struct arena *a, struct view name)
{
    char *copy = arena_alloc(a, name.n + 1);
    if (!copy)
        return NULL;
    if (name.n > 0)
        memcpy(copy, name.p, name.n);
    copy[name.n] = '\0';
    return copy;
}

static bool set_port(struct graph *g, struct engine_port *p, struct view name,
                     const struct array *a)
{
    *p = (struct engine_port){
        .name = copy_name(&g->arena, name), .dtype = a->dtype, .rank = a->rank};
    memcpy(p->shape, a->shape, sizeof(p->shape));
    return p->name != NULL;
}

static struct engine_port *input_ports(struct graph *g)
{
    struct engine_port *ports = arena_array(&g->arena, g->n_inputs, sizeof(*ports));
    for (unsigned i = 0; ports && i < g->n_inputs; i++) {
        const struct value *v = &g->values[g->inputs[i]];
        if (!set_port(g, &ports[i], v->name, &v->array))
            return NULL;
    }
    return ports;
}

static struct engine_port *output_ports(struct graph *g, const struct plan *p)
{
    struct engine_port *ports = arena_array(&g->arena, g->n_outputs, sizeof(*ports));
    for (unsigned i = 0; ports && i < g->n_outputs; i++) {
        if (!set_port(g, &ports[i], g->declared[i].name, &p->arrays[g->outputs[i]]))
            return NULL;
    }
    return ports;
}

// What the free dimensions of inputs mostly are: sides of images, tokens, samples; some have to be multiples.
static const int64_t lengths[] = {64, 32, 96, 128, 224, 256, 512, 16, 8, 3, 1};

static unsigned lengths_of(const struct graph *g)
{
    return g->n_free > 0 ? sizeof(lengths) / sizeof(lengths[0]) : 1;
}

// ---- outputs whose shapes follow from data -----------------------------------------------------------

// Their datatypes and ranks are what a run of zeros gives, or else what the file says; dimensions are free but
// where both agree.
static bool late_port(struct engine_port *p, const struct declared *d, const struct array *made,
                      struct engine_error *e)
{
    const struct array *a = made ? made : &d->array;
    if (a->dtype == ENGINE_NONE)
        return engine_fail(e,
                           "output \"%.60s\": its type follows from data, and the file does not "
                           "say it",
                           p->name);
    p->dtype = a->dtype;
    p->rank = a->rank;
    for (unsigned i = 0; i < a->rank; i++) {
        int64_t said =
            d->array.dtype == a->dtype && d->array.rank == a->rank ? d->array.shape[i] : -1;
        p->shape[i] = !made || said == made->shape[i] ? said : -1;
    }
    return true;
}

// A plan of which zeros were run; NULL: the model could not take them.
static struct plan *try_zeros(struct engine_model *m, struct engine_instance *in)
{
    struct engine_error why;
    for (unsigned i = 0; i < lengths_of(&m->graph); i++) {
        struct binding b = binding_of(&m->graph, 1, lengths[i]);
        if (instance_zeros(in, lengths[i], &why)) {
            m->lengths[0] = lengths[i];
            return instance_plan(in, &b, &why);
        }
    }
    return NULL;
}

static bool late_ports(struct engine_model *m, const struct plan *one, struct engine_port *ports,
                       struct engine_error *e)
{
    struct graph *g = &m->graph;
    struct engine_instance *in = engine_instance_new(m, e);
    bool ok = in != NULL;
    const struct plan *p = in ? try_zeros(m, in) : NULL;
    for (unsigned i = 0; i < g->n_outputs && ok; i++) {
        if (one->is_late[g->outputs[i]])
            ok = late_port(&ports[i], &g->declared[i], p ? &p->arrays[g->outputs[i]] : NULL, e);
    }
    engine_instance_free(in);
    node_title(one->late[0], m->late);
    snprintf(m->single, sizeof(m->single), "shapes follow from data, first in %.120s", m->late);
    return ok;
}

// ---- does it batch? ----------------------------------------------------------------------------------

static bool inputs_free(struct engine_model *m)
{
    for (unsigned i = 0; i < m->graph.n_inputs; i++) {
        const struct engine_port *p = &m->inputs[i];
        if (p->rank == 0 || p->shape[0] >= 0) {
            snprintf(m->single, sizeof(m->single), "input \"%.60s\" has a fixed first dimension",
                     p->name);
            return false;
        }
    }
    return true;
}

// Dimensions of the outputs that differ between two plans are free. False: an output's rank differs.
static bool mark_free(struct engine_model *m, const struct plan *p, const struct plan *q)
{
    bool same_ranks = true;
    for (unsigned i = 0; i < m->graph.n_outputs; i++) {
        const struct array *a = &p->arrays[m->graph.outputs[i]],
                           *b = &q->arrays[m->graph.outputs[i]];
        same_ranks &= a->rank == b->rank;
        for (unsigned d = 0; d < a->rank && a->rank == b->rank; d++) {
            if (a->shape[d] != b->shape[d])
                m->outputs[i].shape[d] = -1;
        }
    }
    return same_ranks;
}

// Sketches for one row and for three tell whether each output has a row for each row.
static bool outputs_follow(struct engine_model *m, const struct plan *one, const struct plan *three)
{
    mark_free(m, one, three);
    for (unsigned i = 0; i < m->graph.n_outputs; i++) {
        const struct array *a = &one->arrays[m->graph.outputs[i]],
                           *b = &three->arrays[m->graph.outputs[i]];
        if (a->rank > 0 && a->rank == b->rank && a->shape[0] == 1 && b->shape[0] == 3)
            continue;
        snprintf(m->single, sizeof(m->single), "output \"%.60s\" does not have a row for each row",
                 m->outputs[i].name);
        return false;
    }
    return true;
}

#define WORD_BYTES 3 // of a random string: all are as long, so that rows are as well

static size_t random_bytes(const struct array *a, size_t count)
{
    return count * (a->dtype == ENGINE_STRING ? 4 + WORD_BYTES : dtype_bytes(a->dtype));
}

static void random_word(char *to, struct rand *r)
{
    static const char letters[] = "aeinrst 019AEI.-";
    uint32_t n = WORD_BYTES;
    memcpy(to, &n, 4);
    for (unsigned i = 0; i < WORD_BYTES; i++)
        to[4 + i] = letters[rand_below(r, sizeof(letters) - 1)];
}

// Whole numbers are below `most`: a model may take them for places in a table.
static void *random_rows(const struct array *a, size_t count, unsigned most, struct rand *r)
{
    char *data = mem_zalloc(random_bytes(a, count) + 1);
    for (size_t i = 0; data && i < count && a->dtype == ENGINE_STRING; i++)
        random_word(data + i * (4 + WORD_BYTES), r);
    for (size_t i = 0; data && i < count && a->dtype != ENGINE_STRING; i++) {
        float f = (float)rand_unit(r);
        double d = (double)f;
        uint64_t whole = rand_below(r, a->dtype == ENGINE_BOOL ? 2 : most);
        if (dtype_inside(a->dtype) != a->dtype)
            whole = half_of_float(a->dtype, f);
        const void *from = a->dtype == ENGINE_F32   ? (const void *)&f
                           : a->dtype == ENGINE_F64 ? (const void *)&d
                                                    : (const void *)&whole;
        memcpy(data + i * dtype_bytes(a->dtype), from, dtype_bytes(a->dtype));
    }
    return data;
}

static bool close_enough(const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!(fabsf(a[i] - b[i]) <= 1e-5f + 1e-4f * fabsf(a[i])) && !(a[i] != a[i] && b[i] != b[i]))
            return false;
    }
    return true;
}

// Is the row of the batch's output the same alone?
static bool row_agrees(enum engine_dtype d, const char *batch, unsigned row,
                       const struct engine_data *single)
{
    size_t n = single->bytes, at = row * n, count = 1;
    if (d == ENGINE_F32)
        return close_enough((const float *)(const void *)(batch + at), single->data, n / 4);
    for (unsigned i = 0; d == ENGINE_STRING && i < single->rank; i++)
        count *= (size_t)single->shape[i];
    if (d == ENGINE_STRING) {
        at = strings_skip(batch, row * count);
        if (strings_skip(batch + at, count) != n)
            return false;
    }
    return memcmp(batch + at, single->data, n) == 0;
}

// Random rows give alone what they give in a batch: rows that influence each other (a mean over the batch,
// a transposed batch) are found here, not by a client.
static bool rows_agree(struct engine_model *m, struct engine_instance *i, int64_t length,
                       unsigned most, struct engine_error *e)
{
    struct graph *g = &m->graph;
    struct engine_data batch[MODEL_MAX_PORTS], alone[MODEL_MAX_PORTS], out[MODEL_MAX_PORTS],
        single[MODEL_MAX_PORTS];
    void *memory[MODEL_MAX_PORTS] = {0}, *kept[MODEL_MAX_PORTS] = {0};
    struct rand r;
    bool ok = true;
    rand_seed(&r, SEED);
    for (unsigned k = 0; k < g->n_inputs && ok; k++) {
        struct array a = model_input(m, k, RUN_ROWS, length);
        size_t count = 0;
        ok = array_count(&a, &count) && (memory[k] = random_rows(&a, count, most, &r)) != NULL;
        batch[k] = (struct engine_data){memory[k], random_bytes(&a, count), a.rank, {0}};
        memcpy(batch[k].shape, a.shape, sizeof(a.shape));
    }
    ok = ok && engine_run(i, batch, out, e);
    for (unsigned k = 0; k < g->n_outputs && ok; k++) {
        kept[k] = mem_alloc(out[k].bytes + 1);
        ok = kept[k] != NULL;
        if (ok)
            memcpy(kept[k], out[k].data, out[k].bytes);
    }
    for (unsigned row = 0; row < RUN_ROWS && ok; row++) {
        for (unsigned k = 0; k < g->n_inputs; k++) {
            alone[k] = batch[k];
            alone[k].shape[0] = 1;
            alone[k].bytes = batch[k].bytes / RUN_ROWS;
            alone[k].data = (char *)memory[k] + row * alone[k].bytes;
        }
        ok = engine_run(i, alone, single, e);
        for (unsigned k = 0; k < g->n_outputs && ok; k++) {
            ok = row_agrees(m->outputs[k].dtype, kept[k], row, &single[k]);
        }
    }
    for (unsigned k = 0; k < MODEL_MAX_PORTS; k++) {
        mem_free(memory[k]);
        mem_free(kept[k]);
    }
    return ok;
}

// As many rows as the limits allow.
static void fit_limit(struct engine_model *m)
{
    struct engine_error why;
    struct plan *p = NULL;
    while (m->limit > 3) {
        struct binding most = binding_of(&m->graph, m->limit, m->lengths[0]);
        if ((p = plan_new(&m->graph, &most, &why)))
            break;
        m->limit /= 2;
    }
    plan_free(p);
}

// Are shapes right for batches, with this length in the free dimensions?
static bool shapes_follow(struct engine_model *m, int64_t length)
{
    struct engine_error why;
    struct binding b = binding_of(&m->graph, 1, length), c = binding_of(&m->graph, 3, length);
    struct plan *one = plan_sketch(&m->graph, &b, &why), *three = plan_sketch(&m->graph, &c, &why);
    bool ok = one && three && outputs_follow(m, one, three);
    if (!one || !three) // written for one row only, although it does not say so
        snprintf(m->single, sizeof(m->single), "it cannot take three rows: %.120s", why.text);
    plan_free(one);
    plan_free(three);
    return ok;
}

// Tries small numbers where others are refused: places in a table that is short.
static bool check_rows(struct engine_model *m, struct engine_instance *in, int64_t length)
{
    static const unsigned most[] = {128, 2};
    struct engine_error why;
    for (unsigned i = 0; i < sizeof(most) / sizeof(most[0]); i++) {
        why.text[0] = '\0';
        if (rows_agree(m, in, length, most[i], &why))
            return true;
        if (!why.text[0])
            break;
    }
    if (why.text[0])
        snprintf(m->single, sizeof(m->single), "random rows cannot be run: %.120s", why.text);
    else
        snprintf(m->single, sizeof(m->single),
                 "random rows give in a batch what they do not give alone");
    return false;
}

// *batches: does it?
static bool try_batches(struct engine_model *m, bool *batches, struct engine_error *e)
{
    bool ok = *batches = !m->late[0] && inputs_free(m);
    if (ok)
        fit_limit(m);
    for (unsigned i = 0; i < m->n_lengths && ok; i++)
        ok = shapes_follow(m, m->lengths[i]);
    *batches = ok;
    if (!ok)
        return true;
    struct engine_instance *in = engine_instance_new(m, e);
    if (!in)
        return false;
    for (unsigned i = 0; i < m->n_lengths && ok; i++)
        ok = check_rows(m, in, m->lengths[i]);
    *batches = ok;
    engine_instance_free(in);
    return true;
}

static bool check_batching(struct engine_model *m, struct engine_error *e)
{
    uint32_t asked = m->limit;
    bool batches;
    m->limit = asked < TRIED_ROWS ? TRIED_ROWS : asked; // it is tried with so many, also for fewer
    bool ok = try_batches(m, &batches, e);
    m->limit = asked < m->limit ? asked : m->limit;
    if (batches)
        m->max_batch = m->limit;
    return ok;
}

// ---- the model ---------------------------------------------------------------------------------------

// Constants where the device reads them.
static bool upload_constants(struct engine_model *m, struct engine_error *e)
{
    struct graph *g = &m->graph;
    struct device *d = g->device;
    struct queue *q = d->ops->queue_new(d);
    bool ok = q || engine_fail(e, "out of memory");
    for (unsigned i = 0; i < g->n_values && ok; i++) {
        struct value *v = &g->values[i];
        size_t bytes = array_bytes(&v->array);
        if (!v->constant || !v->array.data)
            continue;
        v->on_device = v->array.data;
        if (d->ops->shared)
            continue;
        v->on_device = NULL;
        ok = graph_charge(g, bytes, e) &&
             ((v->on_device = d->ops->alloc(d, bytes)) || engine_fail(e, "out of memory"));
        if (ok)
            d->ops->upload(q, v->on_device, v->array.data, bytes);
    }
    const char *error = q ? d->ops->sync(q) : NULL;
    if (q)
        d->ops->queue_free(q);
    return ok && (!error || engine_fail(e, "%s", error));
}

struct array model_input(const struct engine_model *m, unsigned k, uint32_t rows, int64_t length)
{
    struct array a = m->graph.values[m->graph.inputs[k]].array;
    for (unsigned d = 0; d < a.rank; d++) {
        if (a.shape[d] < 0)
            a.shape[d] = d > 0 ? length : m->graph.apart[k] ? 1 : rows;
    }
    return a;
}

// A sketch for one row and the first of the lengths, but that one, that the graph can take. e: why it cannot
// take the first one.
static struct plan *first_plan(const struct graph *g, int64_t but, int64_t *length,
                               struct engine_error *e)
{
    struct engine_error why;
    for (unsigned i = 0; i < lengths_of(g); i++) {
        struct binding b = binding_of(g, 1, lengths[i]);
        struct plan *p = lengths[i] == but ? NULL : plan_sketch(g, &b, i == 0 ? e : &why);
        *length = lengths[i];
        if (p)
            return p;
    }
    return NULL;
}

// The graph in the form that runs. *one: a sketch of it for one row.
static bool model_compile(struct engine_model *m, struct plan **one, struct engine_error *e)
{
    struct graph *g = &m->graph;
    struct device *d = g->device;
    bool changed = false;
    if (!graph_fold(g, e))
        return false;
    if (!(*one = first_plan(g, 0, &m->lengths[0], e))) {
        struct binding first = binding_of(g, 1, lengths[0]);
        plan_refuse(g, &first, e);
        return false;
    }
    m->n_lengths = 1;
    if (d->ops->layout && !d->ops->layout(d, g, (*one)->arrays, &changed, e))
        return false;
    if (!changed)
        return true;
    struct binding b = (*one)->bound;
    plan_free(*one);
    *one = plan_sketch(g, &b, e);
    return *one != NULL;
}

// Which dimensions of the outputs follow the free ones of the inputs? Asks a second length.
static void try_lengths(struct engine_model *m, const struct plan *one)
{
    struct engine_error why;
    struct plan *other = NULL;
    if (m->graph.n_free > 0)
        other = first_plan(&m->graph, m->lengths[0], &m->lengths[1], &why);
    if (other && mark_free(m, one, other))
        m->n_lengths = 2;
    plan_free(other);
}

// Rows are no batch: the inputs' first dimensions are whatever each is given.
static void part_inputs(struct engine_model *m)
{
    struct graph *g = &m->graph;
    for (unsigned k = 0; k < g->n_inputs; k++) {
        m->inputs[k].apart = g->apart[k] = g->may_part[k];
        g->n_apart += g->apart[k];
    }
    if (m->late[0])
        m->limit = INT32_MAX; // as any other dimension
}

static bool load(struct engine_model *m, const struct engine_source *source, struct engine_error *e)
{
    struct graph *g = &m->graph;
    struct plan *one = NULL;
    g->source = source;
    bool ok = graph_import(g, source->onnx, e);
    if (ok)
        strings_note(g);
    if (ok && g->bodies) // which will refer to this graph's constants
        ok = graph_own(g, e);
    ok = ok && model_compile(m, &one, e) && graph_own(g, e) && upload_constants(m, e);
    if (ok) {
        struct engine_port *outputs = output_ports(g, one);
        m->inputs = input_ports(g);
        ok = (m->inputs && outputs) || engine_fail(e, "out of memory");
        if (ok && one->n_late > 0)
            ok = late_ports(m, one, outputs, e);
        m->outputs = outputs; // before, what was made late was held against nothing
    }
    if (ok) {
        try_lengths(m, one);
        ok = check_batching(m, e);
    }
    if (ok && m->max_batch == 0)
        part_inputs(m);
    plan_free(one);
    return ok;
}

struct engine_model *engine_model_load(struct engine *engine, struct view onnx, uint32_t max_batch,
                                       struct engine_error *e)
{
    struct engine_source s = {.onnx = onnx};
    return engine_model_open(engine, &s, max_batch, e);
}

struct engine_model *engine_model_open(struct engine *engine, const struct engine_source *source,
                                       uint32_t max_batch, struct engine_error *e)
{
    struct engine_model *m = mem_zalloc(sizeof(*m));
    e->text[0] = '\0';
    if (!m) {
        engine_fail(e, "out of memory");
        return NULL;
    }
    m->engine = engine;
    m->limit = max_batch ? max_batch : 1;
    graph_init(&m->graph, engine->device, engine->limits);
    if (!load(m, source, e)) {
        engine_model_free(m);
        return NULL;
    }
    m->graph.source = NULL;
    return m;
}

void engine_model_free(struct engine_model *m)
{
    if (!m)
        return;
    graph_free(&m->graph);
    mem_free(m);
}

unsigned engine_model_inputs(const struct engine_model *m)
{
    return m->graph.n_inputs;
}

const struct engine_port *engine_model_input(const struct engine_model *m, unsigned i)
{
    return &m->inputs[i];
}

unsigned engine_model_outputs(const struct engine_model *m)
{
    return m->graph.n_outputs;
}

const struct engine_port *engine_model_output(const struct engine_model *m, unsigned i)
{
    return &m->outputs[i];
}

uint32_t engine_model_max_batch(const struct engine_model *m)
{
    return m->max_batch;
}

uint32_t engine_model_max_rows(const struct engine_model *m)
{
    return m->limit;
}

const char *engine_model_single_reason(const struct engine_model *m)
{
    return m->max_batch ? NULL : m->single;
}
