// A table of rows for each message: a field's name, what its value has to be, who reads it. What has no reader
// is known to Triton and not followed here: it is told by name.
#include "config/model.h"

#include "base/num.h"
#include "base/pbtxt.h"
#include "base/printable.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define IGNORED_BYTES 1024

struct model_reader {
    struct arena *arena;
    struct model_settings *config;
    struct model_settings_error *e;
    char ignored[IGNORED_BYTES];
    size_t n_ignored;
};

enum row_kind { ROW_WORD, ROW_TEXT, ROW_MESSAGE };

struct config_row {
    const char *name;
    enum row_kind kind;
    bool repeated;
    bool (*read)(struct model_reader *r, const struct pbtxt_field *f, void *into); // NULL: told
};

__attribute__((format(printf, 3, 4))) static bool
wrong(struct model_reader *r, const struct pbtxt_field *f, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    r->e->line = f->line;
    if (vsnprintf(r->e->text, sizeof(r->e->text), format, args) < 0)
        r->e->text[0] = '\0';
    va_end(args);
    printable(r->e->text);
    return false;
}

static bool no_memory(struct model_reader *r, const struct pbtxt_field *f)
{
    return wrong(r, f, "out of memory");
}

// ---- what is not followed ----------------------------------------------------------------------------

static void ignored(struct model_reader *r, const char *path, struct view name, unsigned line)
{
    char *to = r->ignored + r->n_ignored;
    size_t room = sizeof(r->ignored) - r->n_ignored;
    int n =
        snprintf(to, room, "%s%s%s%.*s (line %u)", r->n_ignored > 0 ? ", " : "", path,
                 path[0] ? "." : "", (int)(name.n < 64 ? name.n : 64), name.n ? name.p : "", line);
    if (n < 0 || (size_t)n >= room) { // so many that the log has enough of them
        *to = '\0';
        return;
    }
    printable(to);
    r->n_ignored += (size_t)n;
}

// "false" and 0 are what is there without the field.
static bool says_nothing(const struct pbtxt_field *f)
{
    return f->kind == PBTXT_WORD && (view_is(f->text, "false") || view_is(f->text, "0"));
}

// ---- a message by its rows ---------------------------------------------------------------------------

static const struct config_row *row_of(const struct config_row *rows, struct view name)
{
    for (; rows->name; rows++) {
        if (view_is(name, rows->name))
            return rows;
    }
    return NULL;
}

static bool read_rows(struct model_reader *r, const struct pbtxt_field *message, const char *path,
                      const struct config_row *rows, void *into)
{
    static const char *const kinds[] = {"a word or number", "a string in quotes", "a message {}"};
    uint64_t seen = 0;
    for (const struct pbtxt_field *f = message->fields; f; f = f->next) {
        const struct config_row *row = row_of(rows, f->name);
        const char *dot = path[0] ? "." : "";
        if (!row)
            return wrong(r, f, "unknown field \"%s%s%.*s\"", path, dot,
                         (int)(f->name.n < 64 ? f->name.n : 64), f->name.p);
        if ((unsigned)f->kind != (unsigned)row->kind)
            return wrong(r, f, "%s%s%s: expected %s", path, dot, row->name, kinds[row->kind]);
        uint64_t bit = (uint64_t)1 << (row - rows);
        if (!row->repeated && (seen & bit))
            return wrong(r, f, "%s%s%s: stands there twice", path, dot, row->name);
        if (row->read && !row->read(r, f, into))
            return false;
        if (!row->read && !(seen & bit) && (row->repeated || !says_nothing(f)))
            ignored(r, path, f->name, f->line);
        seen |= bit;
    }
    return true;
}

// ---- values ------------------------------------------------------------------------------------------

static bool whole(struct model_reader *r, const struct pbtxt_field *f, int64_t least, int64_t most,
                  int64_t *out)
{
    if (num_parse_i64(f->text, out) == NUM_OK && *out >= least && *out <= most)
        return true;
    return wrong(r, f, "%.*s: expected %" PRId64 " to %" PRId64 ", got %.*s", VIEW_ARG(f->name),
                 least, most, (int)(f->text.n < 40 ? f->text.n : 40), f->text.p);
}

static bool count32(struct model_reader *r, const struct pbtxt_field *f, uint32_t least,
                    uint32_t most, uint32_t *out)
{
    int64_t v = 0;
    bool ok = whole(r, f, least, most, &v);
    *out = (uint32_t)v;
    return ok;
}

static bool text(struct model_reader *r, const struct pbtxt_field *f, const char **out)
{
    if (memchr(f->text.p, '\0', f->text.n))
        return wrong(r, f, "%.*s: has a zero byte", VIEW_ARG(f->name));
    char *copy = arena_zalloc(r->arena, f->text.n + 1);
    if (!copy)
        return no_memory(r, f);
    memcpy(copy, f->text.p, f->text.n);
    *out = copy;
    return true;
}

// One more element of a growing array of the arena's; the count is bounded by the caller.
static void *grown(struct model_reader *r, const struct pbtxt_field *f, const void *old, unsigned n,
                   unsigned most, size_t size)
{
    char *more = n < most ? arena_zalloc(r->arena, (n + 1) * size) : NULL;
    if (!more) {
        if (n >= most)
            wrong(r, f, "%.*s: more than %u", VIEW_ARG(f->name), most);
        else
            no_memory(r, f);
        return NULL;
    }
    if (n > 0)
        memcpy(more, old, n * size);
    return more;
}

// Is the name of the last of n shapes, which lie `size` apart, none of the others'?
static bool name_is_new(struct model_reader *r, const struct pbtxt_field *f, const char *path,
                        const void *list, unsigned n, size_t size)
{
    const struct model_shape *last = (const void *)((const char *)list + (n - 1) * size);
    for (unsigned i = 0; i + 1 < n; i++) {
        const struct model_shape *other = (const void *)((const char *)list + i * size);
        if (strcmp(other->name, last->name) == 0)
            return wrong(r, f, "%s \"%.60s\": stands there twice", path, last->name);
    }
    return true;
}

// ---- inputs and outputs ------------------------------------------------------------------------------

static bool shape_name(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    return text(r, f, &((struct model_shape *)into)->name);
}

static bool shape_type(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    static const char *const types[][2] = {
        {"TYPE_BOOL", "BOOL"},     {"TYPE_UINT8", "UINT8"},   {"TYPE_UINT16", "UINT16"},
        {"TYPE_UINT32", "UINT32"}, {"TYPE_UINT64", "UINT64"}, {"TYPE_INT8", "INT8"},
        {"TYPE_INT16", "INT16"},   {"TYPE_INT32", "INT32"},   {"TYPE_INT64", "INT64"},
        {"TYPE_FP16", "FP16"},     {"TYPE_FP32", "FP32"},     {"TYPE_FP64", "FP64"},
        {"TYPE_BF16", "BF16"},     {"TYPE_STRING", "BYTES"}};
    for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (view_is(f->text, types[i][0])) {
            ((struct model_shape *)into)->dtype = types[i][1];
            return true;
        }
    }
    return wrong(r, f, "data_type: expected TYPE_FP32 or another of Triton's, got %.*s",
                 (int)(f->text.n < 40 ? f->text.n : 40), f->text.p);
}

static bool shape_dim(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    struct model_shape *s = into;
    int64_t d;
    if (s->rank == MODEL_CONFIG_RANK)
        return wrong(r, f, "dims: expected at most %d", MODEL_CONFIG_RANK);
    if (!whole(r, f, -1, INT32_MAX, &d))
        return false;
    if (d == 0)
        return wrong(r, f, "dims: expected -1, or 1 and more, got 0");
    s->dims[s->rank++] = d;
    s->shaped = true;
    return true;
}

static bool reshape_dim(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    struct model_shape *s = into;
    if (s->reshape_rank == MODEL_CONFIG_RANK)
        return wrong(r, f, "reshape: expected at most %d", MODEL_CONFIG_RANK);
    int64_t *d = &s->reshape[s->reshape_rank++];
    return whole(r, f, -1, INT32_MAX, d) &&
           (*d != 0 || wrong(r, f, "reshape: expected -1, or 1 and more, got 0"));
}

static bool reshape(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    static const struct config_row rows[] = {{"shape", ROW_WORD, true, reshape_dim},
                                             {.name = NULL}};
    ((struct model_shape *)into)->reshaped = true;
    return read_rows(r, f, "reshape", rows, into);
}

static bool port(struct model_reader *r, const struct pbtxt_field *f, const struct config_row *rows,
                 struct model_shape **list, unsigned *n)
{
    struct model_shape *more = grown(r, f, *list, *n, MODEL_CONFIG_PORTS, sizeof(*more));
    if (!more)
        return false;
    const char *path = n == &r->config->n_inputs ? "input" : "output";
    more[*n].line = f->line;
    if (!read_rows(r, f, path, rows, &more[*n]))
        return false;
    if (!more[*n].name)
        return wrong(r, f, "%s: has no name", path);
    *list = more;
    return name_is_new(r, f, path, more, ++*n, sizeof(*more));
}

#define SHAPE_ROWS                                                                                 \
    {"name", ROW_TEXT, false, shape_name}, {"data_type", ROW_WORD, false, shape_type},             \
    {                                                                                              \
        "dims", ROW_WORD, true, shape_dim                                                          \
    }

static bool input(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    static const struct config_row rows[] = {
        SHAPE_ROWS,
        {"format", ROW_WORD, false, NULL},
        {"reshape", ROW_MESSAGE, false, reshape},
        {"is_shape_tensor", ROW_WORD, false, NULL},
        {"allow_ragged_batch", ROW_WORD, false, NULL},
        {"optional", ROW_WORD, false, NULL},
        {"is_non_linear_format_io", ROW_WORD, false, NULL},
        {.name = NULL},
    };
    struct model_settings *c = into;
    return port(r, f, rows, &c->inputs, &c->n_inputs);
}

static bool output(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    static const struct config_row rows[] = {
        SHAPE_ROWS,
        {"reshape", ROW_MESSAGE, false, reshape},
        {"label_filename", ROW_TEXT, false, NULL},
        {"is_shape_tensor", ROW_WORD, false, NULL},
        {"is_non_linear_format_io", ROW_WORD, false, NULL},
        {.name = NULL},
    };
    struct model_settings *c = into;
    return port(r, f, rows, &c->outputs, &c->n_outputs);
}

// ---- dynamic_batching --------------------------------------------------------------------------------

static bool preferred(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    struct model_settings *c = into;
    uint32_t size, at;
    if (c->n_preferred == MODEL_CONFIG_PREFERRED)
        return wrong(r, f, "preferred_batch_size: more than %d", MODEL_CONFIG_PREFERRED);
    if (!count32(r, f, 1, MODEL_CONFIG_BATCH, &size))
        return false;
    for (at = c->n_preferred++; at > 0 && c->preferred[at - 1] > size; at--)
        c->preferred[at] = c->preferred[at - 1];
    c->preferred[at] = size;
    return true;
}

static bool max_wait(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    int64_t us;
    if (!whole(r, f, 0, INT64_C(60000000), &us))
        return false;
    ((struct model_settings *)into)->max_wait_us = (uint64_t)us;
    return true;
}

static bool batching(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    static const struct config_row rows[] = {
        {"preferred_batch_size", ROW_WORD, true, preferred},
        {"max_queue_delay_microseconds", ROW_WORD, false, max_wait},
        {"preserve_ordering", ROW_WORD, false, NULL},
        {"priority_levels", ROW_WORD, false, NULL},
        {"default_priority_level", ROW_WORD, false, NULL},
        {"default_queue_policy", ROW_MESSAGE, false, NULL},
        {"priority_queue_policy", ROW_MESSAGE, true, NULL},
        {.name = NULL},
    };
    return read_rows(r, f, "dynamic_batching", rows, into);
}

// ---- instance_group ----------------------------------------------------------------------------------

static bool group_count(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    return count32(r, f, 1, MODEL_CONFIG_INSTANCES, into);
}

static bool group_kind(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    (void)into;
    if (view_is(f->text, "KIND_GPU"))
        ignored(r, "instance_group", VIEW("kind KIND_GPU"), f->line);
    else if (!view_is(f->text, "KIND_AUTO") && !view_is(f->text, "KIND_CPU") &&
             !view_is(f->text, "KIND_MODEL"))
        return wrong(r, f, "kind: expected KIND_AUTO, KIND_CPU, KIND_GPU or KIND_MODEL");
    return true;
}

static bool group(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    static const struct config_row rows[] = {
        {"count", ROW_WORD, false, group_count},
        {"kind", ROW_WORD, false, group_kind},
        {"name", ROW_TEXT, false, NULL},
        {"gpus", ROW_WORD, true, NULL},
        {"rate_limiter", ROW_MESSAGE, false, NULL},
        {"secondary_devices", ROW_MESSAGE, true, NULL},
        {"profile", ROW_TEXT, true, NULL},
        {"passive", ROW_WORD, false, NULL},
        {"host_policy", ROW_TEXT, false, NULL},
        {.name = NULL},
    };
    struct model_settings *c = into;
    uint32_t n = 1;
    if (!read_rows(r, f, "instance_group", rows, &n))
        return false;
    c->instances += n;
    return c->instances <= MODEL_CONFIG_INSTANCES ||
           wrong(r, f, "instance_group: more than %d instances", MODEL_CONFIG_INSTANCES);
}

// ---- version_policy ----------------------------------------------------------------------------------

static bool latest_n(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    return count32(r, f, 1, INT32_MAX, &((struct model_settings *)into)->latest);
}

static bool latest(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    static const struct config_row rows[] = {{"num_versions", ROW_WORD, false, latest_n},
                                             {.name = NULL}};
    return read_rows(r, f, "version_policy.latest", rows, into);
}

static bool all_versions(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    static const struct config_row rows[] = {{.name = NULL}};
    ((struct model_settings *)into)->versions = MODEL_ALL;
    return read_rows(r, f, "version_policy.all", rows, into);
}

static bool specific_one(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    struct model_settings *c = into;
    if (c->n_specific == MODEL_CONFIG_VERSIONS)
        return wrong(r, f, "versions: more than %d", MODEL_CONFIG_VERSIONS);
    return whole(r, f, 1, INT64_MAX, &c->specific[c->n_specific++]);
}

static bool specific(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    static const struct config_row rows[] = {{"versions", ROW_WORD, true, specific_one},
                                             {.name = NULL}};
    ((struct model_settings *)into)->versions = MODEL_SPECIFIC;
    return read_rows(r, f, "version_policy.specific", rows, into);
}

static bool version_policy(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    static const struct config_row rows[] = {
        {"latest", ROW_MESSAGE, false, latest},
        {"all", ROW_MESSAGE, false, all_versions},
        {"specific", ROW_MESSAGE, false, specific},
        {.name = NULL},
    };
    if (f->fields && f->fields->next)
        return wrong(r, f, "version_policy: expected one of latest, all, specific");
    return read_rows(r, f, "version_policy", rows, into);
}

// ---- model_warmup ------------------------------------------------------------------------------------

static bool is_true(struct model_reader *r, const struct pbtxt_field *f, bool *out)
{
    *out = view_is(f->text, "true");
    return *out || view_is(f->text, "false") ||
           wrong(r, f, "%.*s: expected true or false", VIEW_ARG(f->name));
}

static bool zeros(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    bool v;
    (void)into; // zeros are what there is without any
    return is_true(r, f, &v);
}

static bool random_data(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    return is_true(r, f, &((struct model_warmup_input *)into)->random);
}

static bool plain_name(struct model_reader *r, const struct pbtxt_field *f, const char *name)
{
    return (name[0] && name[0] != '.' && !strchr(name, '/') && f->text.n <= 128) ||
           wrong(r, f, "%.*s: expected the name of a file, without folders", VIEW_ARG(f->name));
}

static bool data_file(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    struct model_warmup_input *i = into;
    return text(r, f, &i->file) && plain_name(r, f, i->file);
}

static bool warmup_value(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    static const struct config_row rows[] = {
        SHAPE_ROWS,
        {"zero_data", ROW_WORD, false, zeros},
        {"random_data", ROW_WORD, false, random_data},
        {"input_data_file", ROW_TEXT, false, data_file},
        {.name = NULL},
    };
    return read_rows(r, f, "model_warmup.inputs", rows, into);
}

static bool warmup_key(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    return text(r, f, &((struct model_warmup_input *)into)->shape.name);
}

static bool warmup_input(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    static const struct config_row rows[] = {{"key", ROW_TEXT, false, warmup_key},
                                             {"value", ROW_MESSAGE, false, warmup_value},
                                             {.name = NULL}};
    struct model_warmup *w = into;
    struct model_warmup_input *more =
        grown(r, f, w->inputs, w->n_inputs, MODEL_CONFIG_PORTS, sizeof(*more));
    if (!more)
        return false;
    w->inputs = more;
    struct model_warmup_input *i = &more[w->n_inputs++];
    i->shape.line = f->line;
    if (!read_rows(r, f, "model_warmup.inputs", rows, i))
        return false;
    if (!i->shape.name || !i->shape.dtype)
        return wrong(r, f, "model_warmup.inputs: expected a key and a value with data_type");
    for (unsigned d = 0; d < i->shape.rank; d++) {
        if (i->shape.dims[d] < 1)
            return wrong(r, f, "model_warmup.inputs: dims: expected 1 and more");
    }
    return name_is_new(r, f, "model_warmup.inputs", more, w->n_inputs, sizeof(*more));
}

static bool warmup_name(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    return text(r, f, &((struct model_warmup *)into)->name);
}

static bool warmup_batch(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    return count32(r, f, 0, MODEL_CONFIG_BATCH, &((struct model_warmup *)into)->batch);
}

static bool warmup_runs(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    return count32(r, f, 0, MODEL_CONFIG_WARMUP_RUNS, &((struct model_warmup *)into)->runs);
}

static bool warmup(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    static const struct config_row rows[] = {
        {"name", ROW_TEXT, false, warmup_name},
        {"batch_size", ROW_WORD, false, warmup_batch},
        {"inputs", ROW_MESSAGE, true, warmup_input},
        {"count", ROW_WORD, false, warmup_runs},
        {.name = NULL},
    };
    struct model_settings *c = into;
    struct model_warmup *more =
        grown(r, f, c->warmups, c->n_warmups, MODEL_CONFIG_WARMUPS, sizeof(*more));
    if (!more)
        return false;
    c->warmups = more;
    struct model_warmup *w = &more[c->n_warmups++];
    w->line = f->line;
    return read_rows(r, f, "model_warmup", rows, w);
}

// ---- the model ---------------------------------------------------------------------------------------

static bool name(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    return text(r, f, &((struct model_settings *)into)->name);
}

static bool platform(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    return text(r, f, &((struct model_settings *)into)->platform);
}

static bool backend(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    return text(r, f, &((struct model_settings *)into)->backend);
}

static bool filename(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    struct model_settings *c = into;
    if (f->text.n == 0)
        return true;
    return text(r, f, &c->file) && plain_name(r, f, c->file);
}

static bool max_batch(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    struct model_settings *c = into;
    c->batch_said = true;
    return count32(r, f, 0, MODEL_CONFIG_BATCH, &c->max_batch);
}

static bool parameter_key(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    (void)into;
    ignored(r, "parameters", f->text, f->line);
    return true;
}

static bool parameter_value(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    (void)r;
    (void)f;
    (void)into;
    return true; // its key was told
}

static bool parameter(struct model_reader *r, const struct pbtxt_field *f, void *into)
{
    static const struct config_row rows[] = {{"key", ROW_TEXT, false, parameter_key},
                                             {"value", ROW_MESSAGE, false, parameter_value},
                                             {.name = NULL}};
    return read_rows(r, f, "parameters", rows, into);
}

static const struct config_row model_rows[] = {
    {"name", ROW_TEXT, false, name},
    {"platform", ROW_TEXT, false, platform},
    {"backend", ROW_TEXT, false, backend},
    {"version_policy", ROW_MESSAGE, false, version_policy},
    {"max_batch_size", ROW_WORD, false, max_batch},
    {"input", ROW_MESSAGE, true, input},
    {"output", ROW_MESSAGE, true, output},
    {"dynamic_batching", ROW_MESSAGE, false, batching},
    {"instance_group", ROW_MESSAGE, true, group},
    {"default_model_filename", ROW_TEXT, false, filename},
    {"model_warmup", ROW_MESSAGE, true, warmup},
    {"parameters", ROW_MESSAGE, true, parameter},
    {"runtime", ROW_TEXT, false, NULL},
    {"batch_input", ROW_MESSAGE, true, NULL},
    {"batch_output", ROW_MESSAGE, true, NULL},
    {"optimization", ROW_MESSAGE, false, NULL},
    {"sequence_batching", ROW_MESSAGE, false, NULL},
    {"ensemble_scheduling", ROW_MESSAGE, false, NULL},
    {"cc_model_filenames", ROW_MESSAGE, true, NULL},
    {"metric_tags", ROW_MESSAGE, true, NULL},
    {"model_operations", ROW_MESSAGE, false, NULL},
    {"model_transaction_policy", ROW_MESSAGE, false, NULL},
    {"model_repository_agents", ROW_MESSAGE, false, NULL},
    {"response_cache", ROW_MESSAGE, false, NULL},
    {"model_metrics", ROW_MESSAGE, false, NULL},
    {.name = NULL},
};

struct model_settings *model_settings_parse(struct view bytes, struct arena *a,
                                            struct model_settings_error *e)
{
    struct pbtxt_error syntax;
    struct model_settings *c = arena_zalloc(a, sizeof(*c));
    struct pbtxt_field *root = c ? pbtxt_parse(bytes, a, &syntax) : NULL;
    if (!root) {
        e->line = c ? syntax.line : 0;
        snprintf(e->text, sizeof(e->text), "%s", c ? syntax.text : "out of memory");
        return NULL;
    }
    struct model_reader r = {.arena = a, .config = c, .e = e};
    c->latest = 1;
    if (!read_rows(&r, root, "", model_rows, c))
        return NULL;
    if (r.n_ignored == 0)
        return c;
    char *copy = arena_zalloc(a, r.n_ignored + 1);
    if (!copy) {
        no_memory(&r, root);
        return NULL;
    }
    memcpy(copy, r.ignored, r.n_ignored);
    c->ignored = copy;
    return c;
}
