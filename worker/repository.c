#include "worker/repository.h"

#include "base/mem.h"
#include "worker/load.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum dtype dtype_of_engine(enum engine_dtype d)
{
    static const uint8_t map[] = {
        [ENGINE_NONE] = DT_INVALID, [ENGINE_F32] = DT_FP32,   [ENGINE_F64] = DT_FP64,
        [ENGINE_I32] = DT_INT32,    [ENGINE_I64] = DT_INT64,  [ENGINE_BOOL] = DT_BOOL,
        [ENGINE_U8] = DT_UINT8,     [ENGINE_I8] = DT_INT8,    [ENGINE_U16] = DT_UINT16,
        [ENGINE_I16] = DT_INT16,    [ENGINE_U32] = DT_UINT32, [ENGINE_U64] = DT_UINT64,
        [ENGINE_F16] = DT_FP16,     [ENGINE_BF16] = DT_BF16,  [ENGINE_STRING] = DT_BYTES};
    return (enum dtype)map[d];
}

// Found, and not served: said, and kept for the index.
static void refuse(struct repository *r, const char *model, const char *version, const char *why)
{
    served_say(LOG_ERROR, "model_refused", model, version, why);
    struct refused *f = mem_zalloc(sizeof(*f));
    if (!f)
        return;
    snprintf(f->name, sizeof(f->name), "%.*s", MODEL_NAME_MAX, model);
    snprintf(f->version, sizeof(f->version), "%.15s", version);
    snprintf(f->why, sizeof(f->why), "%.247s", why);
    struct refused **last = &r->refused;
    while (*last)
        last = &(*last)->next;
    *last = f;
    r->n_refused++;
}

// ---- what is configured -------------------------------------------------------------------------------

// NULL, or what is wrong with it, in why.
static const char *check_config(const json_t *config, const json_error_t *error, char why[256])
{
    const json_t *max = json_object_get(config, "max_batch_size");
    if (!config) {
        snprintf(why, 256, "config.json:%d: %s", error->line, error->text);
        return why;
    }
    if (!json_is_object(config))
        return "config.json: expected an object";
    if (!max || (json_is_integer(max) && json_integer_value(max) >= 0 &&
                 json_integer_value(max) <= MODEL_CONFIG_BATCH))
        return NULL;
    char *got = json_dumps(max, JSON_ENCODE_ANY | JSON_COMPACT);
    snprintf(why, 256, "max_batch_size: expected 0 to %d, got %.80s", MODEL_CONFIG_BATCH,
             got ? got : "something else");
    free(got); // jansson's own
    return why;
}

// The model being looked at: its directory, and what its configuration says.
struct found_model {
    struct repository *r;
    const char *name;
    struct files_place place;
    struct model_settings *config; // of config.pbtxt
    uint32_t max_batch;
    struct arena arena; // of config
};

static bool is_there(const struct found_model *f, const char *file)
{
    int fd = files_open(&f->place, file, O_PATH | O_NOFOLLOW);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

// config.json: what is wrong with it is told, and it is as if it were not there.
static void read_json(struct found_model *f)
{
    char why[256];
    size_t n;
    char *text = files_read(&f->place, "config.json", 1 << 20, &n, why);
    json_error_t error;
    json_t *config =
        text ? json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error) : NULL;
    const char *wrong = text ? check_config(config, &error, why) : why;
    const json_t *max = json_object_get(config, "max_batch_size");
    if (wrong)
        served_say(LOG_WARN, "model_config_ignored", f->name, "", wrong);
    if (max && !wrong)
        f->max_batch = (uint32_t)json_integer_value(max);
    json_decref(config);
    mem_free(text);
    if (is_there(f, "config.pbtxt"))
        served_say(LOG_WARN, "model_config_ignored", f->name, "",
                   "config.pbtxt is not read: there is a config.json");
}

static bool is_ours(const char *said, const char *ours)
{
    return !said || !said[0] || strcmp(said, ours) == 0;
}

// NULL, or what in it makes the model another than the one that lies here.
static const char *check_model(const struct found_model *f, char why[256])
{
    const struct model_settings *c = f->config;
    if (!is_ours(c->name, f->name))
        snprintf(why, 256, "config.pbtxt: name: expected %.60s, as its folder, got \"%.60s\"",
                 f->name, c->name);
    else if (!is_ours(c->platform, "onnxruntime_onnx"))
        snprintf(why, 256, "config.pbtxt: platform: expected onnxruntime_onnx, got \"%.60s\"",
                 c->platform);
    else if (!is_ours(c->backend, "onnxruntime"))
        snprintf(why, 256, "config.pbtxt: backend: expected onnxruntime, got \"%.60s\"",
                 c->backend);
    else
        return NULL;
    return why;
}

// config.pbtxt: an existing repository is served as it says, or, when it cannot be read, not at all.
static bool read_pbtxt(struct found_model *f, char why[256])
{
    struct model_settings_error e;
    size_t n;
    char *text = files_read(&f->place, "config.pbtxt", 1 << 20, &n, why);
    if (!text)
        return false;
    f->config = model_settings_parse(view_of(text, n), &f->arena, &e);
    mem_free(text);
    if (!f->config) {
        snprintf(why, 256, "config.pbtxt:%u: %s", e.line, e.text);
        return false;
    }
    if (check_model(f, why))
        return false;
    if (f->config->batch_said)
        f->max_batch = f->config->max_batch;
    if (f->config->ignored)
        served_say(LOG_WARN, "model_config_not_followed", f->name, "", f->config->ignored);
    return true;
}

static bool configure(struct found_model *f, char why[256])
{
    if (is_there(f, "config.json"))
        read_json(f);
    else if (is_there(f, "config.pbtxt"))
        return read_pbtxt(f, why);
    return true;
}

// ---- the directory -----------------------------------------------------------------------------------

// A number as Triton wants it: no sign, no leading zero.
static bool is_version(const char *name)
{
    size_t n = strlen(name);
    return n <= 9 && name[0] != '0' && n > 0 && strspn(name, "0123456789") == n;
}

static int highest_first(const struct dirent **a, const struct dirent **b)
{
    long x = atol((*a)->d_name), y = atol((*b)->d_name);
    return x < y ? 1 : x > y ? -1 : 0;
}

static int is_entry(const struct dirent *d)
{
    return strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0;
}

static int is_version_dir(const struct dirent *d)
{
    return is_version(d->d_name);
}

static void append(struct repository *r, struct served *s)
{
    struct served **last = &r->models;
    while (*last)
        last = &(*last)->next;
    *last = s;
    r->n++;
    r->instances = s->n_instances > r->instances ? s->n_instances : r->instances;
}

static struct served *load_version(struct found_model *f, const char *version)
{
    char why[256];
    struct version_wanted w = {.name = f->name,
                               .version = version,
                               .place = f->place,
                               .beside = &f->place,
                               .config = f->config,
                               .max_batch = f->max_batch};
    int fd = files_open(&f->place, version, O_RDONLY | O_DIRECTORY);
    if (fd < 0) {
        refuse(f->r, f->name, version, files_error(errno));
        return NULL;
    }
    close(fd);
    size_t n = strlen(w.place.folder);
    snprintf(w.place.folder + n, sizeof(w.place.folder) - n, "%s%s", n > 0 ? "/" : "", version);
    struct served *s = served_load(f->r->engine, &w, &f->r->options, why);
    if (!s)
        refuse(f->r, f->name, version, why);
    return s;
}

// Keeps the versions that the configuration's version_policy wants: n is theirs, the highest first.
static int choose_versions(const struct found_model *f, struct dirent **versions, int n)
{
    const struct model_settings *c = f->config;
    int kept = 0;
    for (int i = 0; i < n && c; i++) {
        struct dirent *v = versions[i];
        bool wanted =
            c->versions == MODEL_ALL || (c->versions == MODEL_LATEST && i < (int)c->latest);
        for (unsigned k = 0; k < c->n_specific && !wanted; k++)
            wanted = c->specific[k] == atol(v->d_name);
        if (!wanted)
            continue;
        versions[i] = versions[kept]; // all stay, to be freed
        versions[kept++] = v;
    }
    return c ? kept : n;
}

static void load_versions(struct found_model *f, struct dirent **versions, int n)
{
    struct served *loaded[REPOSITORY_VERSIONS];
    unsigned n_loaded = 0;
    char why[80];
    for (int i = 0; i < n && i < REPOSITORY_VERSIONS; i++) {
        struct served *s = load_version(f, versions[i]->d_name);
        if (s)
            append(f->r, loaded[n_loaded++] = s);
    }
    for (unsigned i = 0; i < n_loaded; i++) { // each version says which there are
        for (unsigned k = 0; k < n_loaded; k++)
            loaded[i]->meta.versions[k] = view_str(loaded[k]->version);
        loaded[i]->meta.n_versions = (uint16_t)n_loaded;
    }
    if (n == 0)
        refuse(f->r, f->name, "", "config.pbtxt: version_policy: none of these versions is there");
    if (n <= REPOSITORY_VERSIONS)
        return;
    snprintf(why, sizeof(why), "the %d highest of %d versions are served", REPOSITORY_VERSIONS, n);
    served_say(LOG_WARN, "versions_left_out", f->name, versions[REPOSITORY_VERSIONS]->d_name, why);
}

// Where what the model's directory holds has to be: in the repository, or, when the directory is a link that
// leads out of it (as operators lay them out), in that directory. Its descriptor, or -1 with errno.
static int open_model(struct found_model *f, int root)
{
    f->place = (struct files_place){.base = root};
    snprintf(f->place.folder, sizeof(f->place.folder), "%.128s", f->name);
    int dir =
        strlen(f->name) <= MODEL_NAME_MAX ? files_open(&f->place, ".", O_RDONLY | O_DIRECTORY) : -1;
    if (dir < 0) {
        dir = openat(root, f->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        f->place = (struct files_place){.base = dir};
    }
    return dir;
}

static void load_model(struct repository *r, int root, const char *name)
{
    struct found_model f = {.r = r, .name = name, .max_batch = r->options.max_batch};
    struct dirent **versions = NULL;
    char why[256];
    int dir = open_model(&f, root);
    if (dir < 0 && errno == ENOTDIR)
        return; // a file beside the models
    arena_init(&f.arena, 0);
    int n = dir >= 0 ? scandirat(dir, ".", &versions, is_version_dir, highest_first) : -1;
    if (n < 0)
        refuse(r, name, "", strerror(errno));
    else if (!model_name_ok(view_str(name))) // row 120: no request could name it
        refuse(r, name, "", "name: expected [A-Za-z0-9._+@~-]{1,128}");
    else if (n == 0 && name[0] != '.') // .git and its like
        refuse(r, name, "", "it has no version: expected a directory 1 with model.onnx");
    else if (n > 0 && !configure(&f, why))
        refuse(r, name, "", why);
    else if (n > 0)
        load_versions(&f, versions, choose_versions(&f, versions, n));
    for (int i = 0; i < n; i++)
        free(versions[i]); // scandirat's own
    free(versions);
    arena_deinit(&f.arena);
    if (dir >= 0)
        close(dir);
}

int repository_load(struct repository *r, struct engine *engine, const char *dir,
                    struct repository_options o, char why[256])
{
    struct dirent **names = NULL;
    *r = (struct repository){.engine = engine, .options = o};
    int root = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int n = root >= 0 ? scandirat(root, ".", &names, is_entry, alphasort) : -1;
    if (n < 0)
        snprintf(why, 256, "repository %s: %s", dir, strerror(errno));
    for (int i = 0; i < n; i++) {
        if (r->n < REPOSITORY_MODELS)
            load_model(r, root, names[i]->d_name);
        else
            refuse(r, names[i]->d_name, "", "the repository serves as many as it can");
        free(names[i]);
    }
    free(names);
    if (root >= 0)
        close(root);
    // One batch at a time, of whatever model: they share a serial device.
    for (struct served *s = r->models; s; s = s->next)
        s->meta.serial = r->instances == 1;
    return n < 0 ? -1 : 0;
}

void repository_free(struct repository *r)
{
    while (r->models) {
        struct served *s = r->models;
        r->models = s->next;
        served_free(s);
    }
    while (r->refused) {
        struct refused *f = r->refused;
        r->refused = f->next;
        mem_free(f);
    }
}

struct served *repository_find(const struct repository *r, struct view name, struct view version,
                               struct error *e)
{
    for (struct served *s = r->models; s; s = s->next) {
        if (view_is(name, s->name) && (version.n == 0 || view_is(version, s->version)))
            return s;
    }
    error_set(e, STATUS_NOT_FOUND, "model %.*s%s%.*s is not served here", VIEW_ARG(name),
              version.n ? " version " : "", VIEW_ARG(version));
    return NULL;
}

// ---- requests against it -----------------------------------------------------------------------------

static const struct tensor *input_named(const struct infer_request *q, struct view name)
{
    for (unsigned i = 0; i < q->n_inputs; i++) {
        if (view_eq(q->inputs[i].name, name))
            return &q->inputs[i];
    }
    return NULL;
}

static bool input_fits(const struct tensor *want, const struct tensor *got, struct error *e)
{
    char wanted[96], came[96];
    bool ok = got->rank == want->rank ||
              (want->rank == 0 && got->rank == 1 && got->shape[0] == 1); // a number as a list
    if (got->dtype != want->dtype)
        return error_set(e, STATUS_BAD_REQUEST, "input %.*s: datatype: expected %s, got %s",
                         VIEW_ARG(want->name), dtype_table[want->dtype].name,
                         dtype_table[got->dtype].name);
    for (unsigned d = 0; ok && d < want->rank; d++)
        ok = tensor_dim(want, d) < 0 ? tensor_dim(got, d) >= 0
                                     : tensor_dim(got, d) == tensor_dim(want, d);
    return ok ||
           error_set(e, STATUS_BAD_REQUEST, "input %.*s: shape: expected %s, got %s",
                     VIEW_ARG(want->name), oip_shape_text(wanted, want), oip_shape_text(came, got));
}

// Inputs with a free first dimension have the same one, and the engine takes so many rows.
static bool rows_fit(const struct served *s, const struct tensor *const *inputs, struct error *e)
{
    int64_t rows = -1, max = engine_model_max_rows(s->engine);
    for (unsigned i = 0; i < s->meta.n_inputs; i++) {
        const struct tensor *want = &s->meta.inputs[i];
        if (want->rank == 0 || want->shape[0] >= 0 || engine_model_input(s->engine, i)->apart)
            continue;
        if (rows >= 0 && rows != inputs[i]->shape[0])
            return error_set(e, STATUS_BAD_REQUEST,
                             "input %.*s: shape[0]: expected %" PRId64
                             " as in the others, got %" PRId64,
                             VIEW_ARG(want->name), rows, inputs[i]->shape[0]);
        rows = inputs[i]->shape[0];
    }
    return rows <= max ||
           error_set(e, STATUS_BAD_REQUEST,
                     "inputs: expected at most %" PRId64 " rows for model %s, got %" PRId64, max,
                     s->name, rows);
}

static bool output_fits(const struct served *s, const struct infer_request *q, unsigned k,
                        struct error *e)
{
    const struct requested_output *o = &q->outputs[k];
    char names[128] = "";
    size_t n = 0;
    bool known = false;
    for (unsigned i = 0; i < s->meta.n_outputs && !known; i++) {
        struct view name = s->meta.outputs[i].name;
        known = view_eq(o->name, name);
        if (n < sizeof(names))
            n += (size_t)snprintf(names + n, sizeof(names) - n, " %.*s", VIEW_ARG(name));
    }
    if (!known)
        return error_set(e, STATUS_BAD_REQUEST,
                         "outputs[%u].name: expected an output of model %s (it has%s), got another",
                         k, s->name, names);
    return o->classification == 0 ||
           error_set(e, STATUS_UNSUPPORTED,
                     "outputs[%u].parameters.classification: expected none (model %s is served as "
                     "tensors only), got %u",
                     k, s->name, o->classification);
}

bool served_inputs(const struct served *s, const struct infer_request *q, const struct tensor **out,
                   struct error *e)
{
    if (q->n_inputs != s->meta.n_inputs)
        return error_set(e, STATUS_BAD_REQUEST, "inputs: expected %u for model %s, got %u",
                         s->meta.n_inputs, s->name, q->n_inputs);
    for (unsigned i = 0; i < s->meta.n_inputs; i++) {
        const struct tensor *want = &s->meta.inputs[i];
        out[i] = input_named(q, want->name);
        if (!out[i])
            return error_set(e, STATUS_BAD_REQUEST, "inputs: expected one named %.*s for model %s",
                             VIEW_ARG(want->name), s->name);
        if (!input_fits(want, out[i], e))
            return false;
    }
    for (unsigned k = 0; k < q->n_outputs; k++) {
        if (!output_fits(s, q, k, e))
            return false;
    }
    return rows_fit(s, out, e);
}
