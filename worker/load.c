#include "worker/load.h"

#include "base/mem.h"
#include "base/printable.h"
#include "base/rand.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#define MODEL_FILE_MAX ((size_t)2 << 30) // protobuf's own bound
#define WARMUP_FILE_MAX ((size_t)1 << 30)
#define SINGLE_ROWS 64 // of one request, where max_batch_size is 0
#define WARMUP_SEED 0x57a3

struct loading {
    const struct version_wanted *w;
    struct served *s;
    bool batched; // ports of the configuration stand there without the batch dimension
    char *why;    // [256]
};

__attribute__((format(printf, 2, 3))) static bool refuse(struct loading *l, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (vsnprintf(l->why, 256, format, args) < 0)
        l->why[0] = '\0';
    va_end(args);
    return false;
}

// config.pbtxt:LINE: FIELD "NAME"; for messages.
__attribute__((format(printf, 3, 4))) static bool config_wrong(struct loading *l, unsigned line,
                                                               const char *format, ...)
{
    va_list args;
    int n = snprintf(l->why, 256, line > 0 ? "config.pbtxt:%u: " : "config.pbtxt: ", line);
    va_start(args, format);
    if (n < 0 || vsnprintf(l->why + n, 256 - (size_t)n, format, args) < 0)
        l->why[0] = '\0';
    va_end(args);
    printable(l->why);
    return false;
}

void served_say(enum log_level level, const char *event, const char *model, const char *version,
                const char *why)
{
    const struct log_field fields[] = {LOG_CSTR("model", model), LOG_CSTR("version", version),
                                       LOG_CSTR("why", why)};
    log_line_fd(STDERR_FILENO, level, log_wall_us(), event, fields, 3);
}

// ---- the file ----------------------------------------------------------------------------------------

static void on_note(void *ctx, enum engine_note what, const char *text)
{
    static const char *const events[] = {
        [ENGINE_REFUSED] = "op_refused", [ENGINE_CHANGED] = "served_otherwise"};
    const struct loading *l = ctx;
    if (what < sizeof(events) / sizeof(events[0]))
        served_say(LOG_WARN, events[what], l->w->name, l->w->version, text);
}

static bool load_file(struct loading *l, struct engine *engine)
{
    const struct model_settings *c = l->w->config;
    const char *file = c && c->file ? c->file : "model.onnx";
    struct engine_error e = {"out of memory"};
    struct engine_source source = {.note = on_note, .ctx = l};
    struct files_maps maps;
    files_maps_init(&maps, &l->w->place);
    source.files = &maps.files;
    bool ok = files_map(&maps, file, &source.onnx, l->why);
    if (ok && source.onnx.n > MODEL_FILE_MAX)
        ok = refuse(l, "%.150s: too large", file);
    if (ok) {
        uint32_t rows = l->w->max_batch ? l->w->max_batch : SINGLE_ROWS;
        l->s->engine = engine_model_open(engine, &source, rows, &e);
        ok = l->s->engine || refuse(l, "%s", e.text);
    }
    if (!files_unmap(&maps) && ok)
        ok = refuse(l, "a file became shorter while it was read");
    return ok;
}

// ---- what it says of itself --------------------------------------------------------------------------

static bool tensor_of(struct served *s, const struct engine_port *p, struct tensor *t)
{
    *t = (struct tensor){.name = view_str(p->name), .dtype = dtype_of_engine(p->dtype)};
    return tensor_set_shape(&s->arena, t, p->shape, p->rank);
}

static bool describe(struct loading *l)
{
    struct served *s = l->s;
    unsigned n_in = engine_model_inputs(s->engine), n_out = engine_model_outputs(s->engine);
    struct tensor *in = arena_array(&s->arena, n_in + 1, sizeof(*in));
    struct tensor *out = arena_array(&s->arena, n_out + 1, sizeof(*out));
    uint8_t *output_of = arena_array(&s->arena, n_out + 1, sizeof(*output_of));
    s->meta = (struct model_metadata){
        .name = view_str(s->name),
        .platform = VIEW("onnx_onnxv1"),
        .inputs = in,
        .outputs = out,
        .n_inputs = (uint16_t)n_in,
        .n_outputs = (uint16_t)n_out,
        .max_batch = engine_model_max_batch(s->engine),
    };
    s->meta.versions = arena_array(&s->arena, REPOSITORY_VERSIONS, sizeof(*s->meta.versions));
    s->output_of = output_of;
    s->in_shapes = arena_zalloc(&s->arena, (n_in + 1) * sizeof(*s->in_shapes));
    s->out_shapes = arena_zalloc(&s->arena, (n_out + 1) * sizeof(*s->out_shapes));
    bool ok = in && out && output_of && s->meta.versions && s->in_shapes && s->out_shapes;
    for (unsigned i = 0; i < n_in && ok; i++)
        ok = tensor_of(s, engine_model_input(s->engine, i), &in[i]);
    for (unsigned i = 0; i < n_out && ok; i++) {
        ok = tensor_of(s, engine_model_output(s->engine, i), &out[i]);
        output_of[i] = (uint8_t)i;
    }
    return ok || refuse(l, "out of memory");
}

// ---- what is configured ------------------------------------------------------------------------------

static struct tensor *named(const struct tensor *list, unsigned n, const char *name)
{
    for (unsigned i = 0; i < n; i++) {
        if (view_is(list[i].name, name))
            return (struct tensor *)&list[i];
    }
    return NULL;
}

// Dims or reshape of p with the batch in front, where they leave it out.
static bool whole_dims(struct loading *l, const char *what, const struct model_shape *p,
                       unsigned rank, const int64_t *dims, struct dims *out)
{
    unsigned first = l->batched ? 1 : 0;
    if (rank + first > ENGINE_MAX_RANK)
        return config_wrong(
            l, p->line,
            "%s \"%.60s\": expected at most %d dimensions, the batch among them, got %u", what,
            p->name, ENGINE_MAX_RANK, rank + first);
    *out = (struct dims){.rank = rank + first, .at = {-1}};
    memcpy(out->at + first, dims, rank * sizeof(dims[0]));
    return true;
}

static struct dims tensor_dims(const struct tensor *t)
{
    struct dims d = {.rank = t->rank};
    for (unsigned i = 0; i < t->rank; i++)
        d.at[i] = tensor_dim(t, i);
    return d;
}

// Where the model leaves a dimension free and the configuration does not, it is the configuration's. False: they do
// not fit.
static bool narrow(struct dims *model, const struct dims *configured)
{
    bool ok = model->rank == configured->rank;
    for (unsigned d = 0; d < model->rank && ok; d++) {
        ok = model->at[d] < 0 || configured->at[d] < 0 || model->at[d] == configured->at[d];
        model->at[d] = model->at[d] < 0 ? configured->at[d] : model->at[d];
    }
    return ok;
}

// Does the port fit the model's tensor, which becomes what clients see of it?
static bool port_fits(struct loading *l, const char *what, const struct model_shape *p,
                      struct tensor *t, struct served_shape *shape)
{
    struct dims has = tensor_dims(t), fixed = has, seen, inside;
    char text[96];
    if (p->dtype && !view_is(view_str(dtype_table[t->dtype].name), p->dtype))
        return config_wrong(l, p->line, "%s \"%.60s\": data_type: the model has %s, not %s", what,
                            p->name, dtype_table[t->dtype].name, p->dtype);
    if (!p->shaped)
        return true;
    if (!whole_dims(l, what, p, p->rank, p->dims, &seen))
        return false;
    inside = seen;
    if (p->reshaped && !whole_dims(l, what, p, p->reshape_rank, p->reshape, &inside))
        return false;
    if (!narrow(&fixed, &inside))
        return config_wrong(l, p->line, "%s \"%.60s\": %s: the model has %s%s", what, p->name,
                            p->reshaped ? "reshape" : "dims", dims_text(text, &has),
                            l->batched ? " with the batch in front, which dims leave out" : "");
    if (p->reshaped && !dims_alike(&seen, &inside))
        return config_wrong(l, p->line, "%s \"%.60s\": reshape: not as many elements as dims", what,
                            p->name);
    if (p->reshaped)
        *shape = (struct served_shape){true, seen, inside};
    const struct dims *now = p->reshaped ? &seen : &fixed;
    return tensor_set_shape(&l->s->arena, t, now->at, now->rank) || refuse(l, "out of memory");
}

static bool inputs_fit(struct loading *l, const struct model_settings *c)
{
    struct model_metadata *m = &l->s->meta;
    for (unsigned i = 0; i < c->n_inputs; i++) {
        struct tensor *t = named(m->inputs, m->n_inputs, c->inputs[i].name);
        if (!t)
            return config_wrong(l, c->inputs[i].line, "input \"%.60s\": the model has none such",
                                c->inputs[i].name);
        struct served_shape *shapes = (struct served_shape *)l->s->in_shapes;
        if (!port_fits(l, "input", &c->inputs[i], t, &shapes[t - m->inputs]))
            return false;
    }
    return c->n_inputs == 0 || c->n_inputs == m->n_inputs ||
           config_wrong(l, c->inputs[0].line, "input: the model has %u, not %u", m->n_inputs,
                        c->n_inputs);
}

// Those that the configuration names are served, in its order.
static bool choose_outputs(struct loading *l, const struct model_settings *c)
{
    struct served *s = l->s;
    struct tensor *chosen = arena_array(&s->arena, c->n_outputs + 1, sizeof(*chosen));
    uint8_t *output_of = arena_array(&s->arena, c->n_outputs + 1, sizeof(*output_of));
    if (!chosen || !output_of)
        return refuse(l, "out of memory");
    for (unsigned i = 0; i < c->n_outputs; i++) {
        struct tensor *t = named(s->meta.outputs, s->meta.n_outputs, c->outputs[i].name);
        if (!t)
            return config_wrong(l, c->outputs[i].line, "output \"%.60s\": the model has none such",
                                c->outputs[i].name);
        output_of[i] = (uint8_t)(t - s->meta.outputs);
        struct served_shape *shapes = (struct served_shape *)s->out_shapes;
        chosen[i] = *t;
        if (!port_fits(l, "output", &c->outputs[i], &chosen[i], &shapes[i]))
            return false;
        if (!c->outputs[i].reshaped)
            chosen[i] = *t; // what it is, not what was expected
    }
    if (c->n_outputs > 0) {
        s->meta.outputs = chosen;
        s->meta.n_outputs = (uint16_t)c->n_outputs;
        s->output_of = output_of;
    }
    return true;
}

// A max_batch_size that is not said is 0 when the dims are the model's whole shapes.
static bool whole_shapes(const struct served *s, const struct model_settings *c)
{
    for (unsigned i = 0; i < c->n_inputs; i++) {
        const struct tensor *t = named(s->meta.inputs, s->meta.n_inputs, c->inputs[i].name);
        const struct model_shape *p = &c->inputs[i];
        if (t && p->shaped && (p->reshaped ? p->reshape_rank : p->rank) != t->rank)
            return false;
    }
    return c->n_inputs > 0 && c->inputs[0].shaped;
}

static bool apply_config(struct loading *l, uint32_t *max_batch)
{
    const struct model_settings *c = l->w->config;
    if (!c)
        return true;
    if (!c->batch_said && whole_shapes(l->s, c))
        *max_batch = 0;
    l->batched = *max_batch > 0;
    return inputs_fit(l, c) && choose_outputs(l, c);
}

static struct policy policy_of(const struct loading *l, uint32_t max_batch)
{
    const struct model_settings *c = l->w->config;
    struct policy p = {.max_rows =
                           max_batch > 0 && l->s->meta.max_batch > 0 ? l->s->meta.max_batch : 1};
    if (!c)
        return p;
    p.max_wait_us = c->max_wait_us;
    p.n_preferred = c->n_preferred;
    memcpy(p.preferred, c->preferred, sizeof(p.preferred));
    return p;
}
_Static_assert(MODEL_CONFIG_PREFERRED == POLICY_MAX_PREFERRED, "one is copied to the other");

// ---- warming up --------------------------------------------------------------------------------------

// One input's data; mem_free. NULL with why.
static char *warmup_data(struct loading *l, const struct model_warmup_input *in, size_t bytes,
                         size_t *bytes_out, struct rand *r)
{
    size_t n = 0;
    struct files_place at = *l->w->beside;
    if (in->file) {
        char name[160];
        snprintf(name, sizeof(name), "warmup/%.128s", in->file);
        char *data = files_read(&at, name, WARMUP_FILE_MAX, &n, l->why);
        bool text = strcmp(in->shape.dtype, "BYTES") == 0; // checked when it is run
        if (data && n != bytes && !text) {
            config_wrong(l, in->shape.line, "model_warmup: %s: expected %zu bytes, got %zu", name,
                         bytes, n);
            mem_free(data);
            return NULL;
        }
        *bytes_out = n;
        return data;
    }
    *bytes_out = bytes;
    char *data = mem_zalloc(bytes + 1);
    if (!data) {
        refuse(l, "out of memory");
        return NULL;
    }
    bool floats = strcmp(in->shape.dtype, "FP32") == 0;
    bool text = strcmp(in->shape.dtype, "BYTES") == 0; // of strings: empty ones
    for (size_t i = 0; in->random && !text && i < bytes; i += floats ? 4 : 1) {
        float f = (float)rand_unit(r);
        uint8_t byte = (uint8_t)rand_below(r, 2); // whole numbers: small ones
        memcpy(data + i, floats ? (const void *)&f : &byte, floats ? 4 : 1);
    }
    return data;
}

// Of strings: empty ones.
static bool warmup_bytes(enum dtype d, const struct dims *shape, uint64_t *bytes)
{
    uint64_t size = d == DT_BYTES ? 4 : dtype_table[d].bytes;
    return dims_count(shape, bytes) && !__builtin_mul_overflow(*bytes, size, bytes);
}

// Input i of the model as this warm-up has it. False with why.
static bool warmup_input(struct loading *l, const struct model_warmup *w, unsigned i,
                         struct engine_data *out, struct rand *r)
{
    const struct tensor *t = &l->s->meta.inputs[i];
    const struct served_shape *change = &l->s->in_shapes[i];
    const struct model_warmup_input *in = NULL;
    uint64_t bytes = 0;
    for (unsigned k = 0; k < w->n_inputs && !in; k++)
        in = view_is(t->name, w->inputs[k].shape.name) ? &w->inputs[k] : NULL;
    if (!in)
        return config_wrong(l, w->line, "model_warmup: no input \"%.*s\"", VIEW_ARG(t->name));
    if (!view_is(view_str(dtype_table[t->dtype].name), in->shape.dtype))
        return config_wrong(l, in->shape.line, "model_warmup: input \"%.60s\": the model has %s",
                            in->shape.name, dtype_table[t->dtype].name);
    struct dims shape;
    if (!whole_dims(l, "model_warmup: input", &in->shape, in->shape.rank, in->shape.dims, &shape))
        return false;
    if (l->batched)
        shape.at[0] = w->batch ? w->batch : 1;
    if (!warmup_bytes(t->dtype, &shape, &bytes) || bytes > WARMUP_FILE_MAX)
        return config_wrong(l, in->shape.line, "model_warmup: input \"%.60s\": more than %zu bytes",
                            in->shape.name, WARMUP_FILE_MAX);
    *out = (struct engine_data){.rank = change->changed ? change->inside.rank : shape.rank};
    if (change->changed && shape.rank == change->outside.rank)
        dims_change(&change->outside, shape.at, &change->inside, out->shape);
    else
        memcpy(out->shape, shape.at, sizeof(out->shape));
    out->data = warmup_data(l, in, bytes, &out->bytes, r);
    return out->data != NULL;
}

static bool warm_up(struct loading *l, const struct model_warmup *w)
{
    struct engine_data in[MODEL_CONFIG_PORTS], out[MODEL_CONFIG_PORTS];
    struct served *s = l->s;
    struct engine_error e;
    struct rand r;
    unsigned n = 0;
    bool ok = s->meta.n_inputs <= MODEL_CONFIG_PORTS;
    for (unsigned i = 0; i < w->n_inputs && ok; i++) {
        const struct model_shape *p = &w->inputs[i].shape;
        ok = named(s->meta.inputs, s->meta.n_inputs, p->name) ||
             config_wrong(l, p->line, "model_warmup: input \"%.60s\": the model has none such",
                          p->name);
    }
    rand_seed(&r, WARMUP_SEED);
    while (n < s->meta.n_inputs && ok)
        ok = warmup_input(l, w, n, &in[n], &r) && ++n;
    for (unsigned i = 0; i < s->n_instances && ok; i++) {
        for (uint32_t k = 0; k < (w->runs ? w->runs : 1) && ok; k++)
            ok = engine_run(s->instances[i].engine, in, out, &e) ||
                 config_wrong(l, w->line, "model_warmup \"%.40s\": %.140s", w->name ? w->name : "",
                              e.text);
    }
    for (unsigned i = 0; i < n; i++)
        mem_free((void *)in[i].data);
    return ok;
}

static bool make_instances(struct loading *l, unsigned n)
{
    struct served *s = l->s;
    struct engine_error e = {"out of memory"};
    s->instances = mem_zalloc((n + 1) * sizeof(*s->instances));
    for (; s->instances && s->n_instances < n; s->n_instances++) {
        struct engine_instance *i = engine_instance_new(s->engine, &e);
        s->instances[s->n_instances].engine = i;
        if (!i || !engine_instance_warm(i, &e))
            return refuse(l, "%s", e.text);
    }
    s->meta.instances = s->n_instances;
    return s->instances || refuse(l, "%s", e.text);
}

// ---- all of it ---------------------------------------------------------------------------------------

static unsigned instances_of(const struct version_wanted *w, const struct repository_options *o)
{
    unsigned n = w->config && w->config->instances ? w->config->instances : o->instances;
    char why[96];
    if (n <= o->threads)
        return n;
    snprintf(why, sizeof(why), "instance_group: %u of %u instances, as many as threads compute",
             o->threads, n);
    served_say(LOG_WARN, "instances_left_out", w->name, w->version, why);
    return o->threads;
}

void served_free(struct served *s)
{
    for (unsigned i = 0; s->instances && s->instances[i].engine; i++)
        engine_instance_free(s->instances[i].engine);
    mem_free(s->instances);
    engine_model_free(s->engine);
    batcher_deinit(&s->batcher);
    arena_deinit(&s->arena);
    mem_free(s);
}

static void say_loaded(const struct served *s, uint32_t max_batch)
{
    const char *single =
        max_batch ? engine_model_single_reason(s->engine) : "its max_batch_size is 0";
    char how[200];
    snprintf(how, sizeof(how), single ? "served singly: %s" : "batched", single);
    served_say(LOG_INFO, "model_loaded", s->name, s->version, how);
}

struct served *served_load(struct engine *engine, const struct version_wanted *w,
                           const struct repository_options *o, char why[256])
{
    struct served *s = mem_zalloc(sizeof(*s));
    struct loading l = {.w = w, .s = s, .why = why};
    uint32_t max_batch = w->max_batch;
    if (!s) {
        refuse(&l, "out of memory");
        return NULL;
    }
    snprintf(s->name, sizeof(s->name), "%.*s", MODEL_NAME_MAX, w->name);
    snprintf(s->version, sizeof(s->version), "%.15s", w->version);
    arena_init(&s->arena, 1024);
    bool ok = load_file(&l, engine) && describe(&l) && apply_config(&l, &max_batch) &&
              make_instances(&l, instances_of(w, o));
    for (unsigned i = 0; ok && w->config && i < w->config->n_warmups; i++)
        ok = warm_up(&l, &w->config->warmups[i]);
    if (max_batch == 0)
        s->meta.max_batch = 0;
    struct policy p = policy_of(&l, max_batch);
    batcher_init(&s->batcher, &p);
    if (ok) {
        say_loaded(s, max_batch);
        return s;
    }
    served_free(s);
    return NULL;
}
