#include "worker/repository.h"

#include "base/mem.h"
#include "net/log.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define MODEL_FILE_MAX ((size_t)2 << 30)
#define CONFIG_BATCH_MAX 65536
#define SINGLE_ROWS 64 // of one request, where max_batch_size is 0

enum dtype dtype_of_engine(enum engine_dtype d)
{
    static const uint8_t map[] = {
        [ENGINE_NONE] = DT_INVALID, [ENGINE_F32] = DT_FP32,  [ENGINE_F64] = DT_FP64,
        [ENGINE_I32] = DT_INT32,    [ENGINE_I64] = DT_INT64, [ENGINE_BOOL] = DT_BOOL,
        [ENGINE_U8] = DT_UINT8,     [ENGINE_I8] = DT_INT8};
    return (enum dtype)map[d];
}

static void say(enum log_level level, const char *event, const char *model, const char *version,
                const char *why)
{
    const struct log_field fields[] = {LOG_CSTR("model", model), LOG_CSTR("version", version),
                                       LOG_CSTR("why", why)};
    log_line_fd(STDERR_FILENO, level, log_wall_us(), event, fields, 3);
}

// Found, and not served: said, and kept for the index.
static void refuse(struct repository *r, const char *model, const char *version, const char *why)
{
    say(LOG_ERROR, "model_refused", model, version, why);
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

// ---- files -------------------------------------------------------------------------------------------

// A regular file below `at`, whole; NULL with why.
static char *read_whole(int at, const char *name, size_t most, size_t *n, char why[256])
{
    int fd = openat(at, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        snprintf(why, 256, "%s: %s", name, strerror(errno));
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    size_t size = (size_t)st.st_size, got = 0;
    char *data = S_ISREG(st.st_mode) && size <= most ? mem_alloc(size + 1) : NULL;
    while (data && got < size) {
        ssize_t k = read(fd, data + got, size - got);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            break;
        got += (size_t)k;
    }
    close(fd);
    if (!data || got < size) { // it became shorter while we read: what we have is no model
        snprintf(why, 256, "%s: %s", name,
                 !S_ISREG(st.st_mode) ? "not a regular file"
                 : size > most        ? "too large"
                 : data               ? "it changed while it was read"
                                      : "out of memory");
        mem_free(data);
        return NULL;
    }
    *n = size;
    return data;
}

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
                 json_integer_value(max) <= CONFIG_BATCH_MAX))
        return NULL;
    char *got = json_dumps(max, JSON_ENCODE_ANY | JSON_COMPACT);
    snprintf(why, 256, "max_batch_size: expected 0 to %d, got %.80s", CONFIG_BATCH_MAX,
             got ? got : "something else");
    free(got); // jansson's own
    return why;
}

static uint32_t configured_batch(int model_dir, uint32_t otherwise, const char *name)
{
    char why[256];
    size_t n;
    if (faccessat(model_dir, "config.json", F_OK, 0) != 0)
        return otherwise;
    char *text = read_whole(model_dir, "config.json", 1 << 20, &n, why);
    json_error_t error;
    json_t *config =
        text ? json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error) : NULL;
    const char *wrong = text ? check_config(config, &error, why) : why;
    const json_t *max = json_object_get(config, "max_batch_size");
    if (wrong)
        say(LOG_WARN, "model_config_ignored", name, "", wrong);
    uint32_t rows = max && !wrong ? (uint32_t)json_integer_value(max) : otherwise;
    json_decref(config);
    mem_free(text);
    return rows;
}

// ---- one version -------------------------------------------------------------------------------------

static struct tensor *tensors_of(struct served *s, bool outputs, unsigned n)
{
    struct tensor *out = arena_array(&s->arena, n ? n : 1, sizeof(*out));
    for (unsigned i = 0; out && i < n; i++) {
        const struct engine_port *p =
            outputs ? engine_model_output(s->engine, i) : engine_model_input(s->engine, i);
        out[i] = (struct tensor){.name = view_str(p->name), .dtype = dtype_of_engine(p->dtype)};
        if (!tensor_set_shape(&s->arena, &out[i], p->shape, p->rank))
            return NULL;
    }
    return out;
}

// Each model has as many instances as batches are computed at a time, of whatever model: one is a serial device.
static bool describe(struct served *s, unsigned instances)
{
    s->meta = (struct model_metadata){
        .name = view_str(s->name),
        .platform = VIEW("onnx_onnxv1"),
        .n_inputs = (uint16_t)engine_model_inputs(s->engine),
        .n_outputs = (uint16_t)engine_model_outputs(s->engine),
        .max_batch = engine_model_max_batch(s->engine),
        .instances = instances,
        .serial = instances == 1,
    };
    s->meta.inputs = tensors_of(s, false, s->meta.n_inputs);
    s->meta.outputs = tensors_of(s, true, s->meta.n_outputs);
    s->meta.versions = arena_array(&s->arena, REPOSITORY_VERSIONS, sizeof(*s->meta.versions));
    return s->meta.inputs && s->meta.outputs && s->meta.versions;
}

static void served_free(struct served *s)
{
    for (unsigned i = 0; s->instances && s->instances[i].engine; i++)
        engine_instance_free(s->instances[i].engine);
    mem_free(s->instances);
    engine_model_free(s->engine);
    batcher_deinit(&s->batcher);
    arena_deinit(&s->arena);
    mem_free(s);
}

static bool make_instances(struct served *s, unsigned n, struct engine_error *e)
{
    s->instances = mem_zalloc((n + 1) * sizeof(*s->instances));
    for (unsigned i = 0; s->instances && i < n; i++) {
        s->instances[i].engine = engine_instance_new(s->engine, e);
        if (!s->instances[i].engine || !engine_instance_warm(s->instances[i].engine, e))
            return false;
    }
    return s->instances != NULL;
}

static struct served *load_version(struct repository *r, int dir, const char *name,
                                   const char *version, uint32_t max_batch)
{
    char why[256] = "out of memory";
    struct engine_error e = {"out of memory"};
    size_t n;
    char *onnx = read_whole(dir, "model.onnx", MODEL_FILE_MAX, &n, why);
    struct served *s = onnx ? mem_zalloc(sizeof(*s)) : NULL;
    if (!s) {
        refuse(r, name, version, why);
        mem_free(onnx);
        return NULL;
    }
    snprintf(s->name, sizeof(s->name), "%.*s", MODEL_NAME_MAX, name);
    snprintf(s->version, sizeof(s->version), "%.15s", version);
    arena_init(&s->arena, 1024);
    s->engine =
        engine_model_load(r->engine, view_of(onnx, n), max_batch ? max_batch : SINGLE_ROWS, &e);
    mem_free(onnx);
    struct policy p = {.max_rows = 1};
    bool ok = s->engine && make_instances(s, r->instances, &e) && describe(s, r->instances);
    if (ok && s->meta.max_batch > 0 && max_batch > 0)
        p.max_rows = s->meta.max_batch;
    if (max_batch == 0)
        s->meta.max_batch = 0;
    batcher_init(&s->batcher, &p);
    if (!ok) {
        refuse(r, name, version, e.text);
        served_free(s);
        return NULL;
    }
    const char *single =
        max_batch ? engine_model_single_reason(s->engine) : "its max_batch_size is 0";
    char how[200];
    snprintf(how, sizeof(how), single ? "served singly: %s" : "batched", single);
    say(LOG_INFO, "model_loaded", name, version, how);
    return s;
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
}

static struct served *open_version(struct repository *r, int dir, const char *name,
                                   const char *version, uint32_t max_batch)
{
    int fd = openat(dir, version, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        refuse(r, name, version, strerror(errno));
        return NULL;
    }
    struct served *s = load_version(r, fd, name, version, max_batch);
    close(fd);
    return s;
}

static void load_versions(struct repository *r, int dir, const char *name, struct dirent **versions,
                          int n, uint32_t max_batch)
{
    struct served *loaded[REPOSITORY_VERSIONS];
    unsigned n_loaded = 0;
    char why[80];
    for (int i = 0; i < n && i < REPOSITORY_VERSIONS; i++) {
        struct served *s = open_version(r, dir, name, versions[i]->d_name, max_batch);
        if (s)
            append(r, loaded[n_loaded++] = s);
    }
    for (unsigned i = 0; i < n_loaded; i++) { // each version says which there are
        for (unsigned k = 0; k < n_loaded; k++)
            loaded[i]->meta.versions[k] = view_str(loaded[k]->version);
        loaded[i]->meta.n_versions = (uint16_t)n_loaded;
    }
    if (n <= REPOSITORY_VERSIONS)
        return;
    snprintf(why, sizeof(why), "the %d highest of %d versions are served", REPOSITORY_VERSIONS, n);
    say(LOG_WARN, "versions_left_out", name, versions[REPOSITORY_VERSIONS]->d_name, why);
}

static void load_model(struct repository *r, int root, const char *name, uint32_t max_batch)
{
    struct dirent **versions = NULL;
    int dir = openat(root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 && errno == ENOTDIR)
        return; // a file beside the models
    int n = dir >= 0 ? scandirat(dir, ".", &versions, is_version_dir, highest_first) : -1;
    if (n < 0) {
        refuse(r, name, "", strerror(errno));
    } else if (!model_name_ok(view_str(name))) { // row 120: no request could name it
        refuse(r, name, "", "name: expected [A-Za-z0-9._-]{1,128}");
    } else if (n > 0) {
        max_batch = configured_batch(dir, max_batch, name);
        load_versions(r, dir, name, versions, n, max_batch);
    } else if (name[0] != '.') { // .git and its like
        refuse(r, name, "", "it has no version: expected a directory 1 with model.onnx");
    }
    for (int i = 0; i < n; i++)
        free(versions[i]); // scandirat's own
    free(versions);
    if (dir >= 0)
        close(dir);
}

int repository_load(struct repository *r, struct engine *engine, const char *dir,
                    uint32_t max_batch, unsigned instances, char why[256])
{
    struct dirent **names = NULL;
    *r = (struct repository){.engine = engine, .instances = instances};
    int root = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int n = root >= 0 ? scandirat(root, ".", &names, is_entry, alphasort) : -1;
    if (n < 0)
        snprintf(why, 256, "repository %s: %s", dir, strerror(errno));
    for (int i = 0; i < n; i++) {
        if (r->n < REPOSITORY_MODELS)
            load_model(r, root, names[i]->d_name, max_batch);
        else
            refuse(r, names[i]->d_name, "", "the repository serves as many as it can");
        free(names[i]);
    }
    free(names);
    if (root >= 0)
        close(root);
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
    bool ok = got->rank == want->rank;
    if (got->dtype != want->dtype)
        return error_set(e, STATUS_BAD_REQUEST, "input %.*s: datatype: expected %s, got %s",
                         VIEW_ARG(want->name), dtype_table[want->dtype].name,
                         dtype_table[got->dtype].name);
    for (unsigned d = 0; ok && d < want->rank; d++)
        ok = tensor_dim(want, d) < 0 ? tensor_dim(got, d) > 0
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
        if (want->rank == 0 || want->shape[0] >= 0)
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
