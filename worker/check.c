#include "worker/check.h"

#include "base/arena.h"
#include "base/mem.h"
#include "base/pb.h"
#include "worker/files.h"
#include "worker/repository.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define DATA_MAX ((size_t)4 << 30)
#define PORTS 64

struct recorded {
    struct view name; // may be empty: then the place tells
    enum dtype dtype;
    struct engine_data data;
};

struct test_case {
    char name[128];
    struct recorded in[PORTS], out[PORTS];
    unsigned n_in, n_out;
    struct arena arena; // of all of it
};

struct checking {
    struct engine_model *model;
    struct engine_instance *instance;
    struct check_tolerance tolerance;
    struct files_place place;
    unsigned wrong, right;
};

static bool complain(const char *what, const char *why)
{
    fprintf(stderr, "sluice-worker: %s: %s\n", what, why);
    return false;
}

static struct dims dims_of(const struct engine_data *d)
{
    struct dims out = {.rank = d->rank};
    memcpy(out.at, d->shape, sizeof(out.at));
    return out;
}

static uint64_t count_of(const struct engine_data *d)
{
    struct dims shape = dims_of(d);
    uint64_t n = 0;
    return dims_count(&shape, &n) ? n : 0;
}

// ---- a tensor of ONNX --------------------------------------------------------------------------------

static enum dtype dtype_of_onnx(uint64_t type)
{
    static const uint8_t map[] = {DT_INVALID, DT_FP32,  DT_UINT8,  DT_INT8,   DT_UINT16,
                                  DT_INT16,   DT_INT32, DT_INT64,  DT_BYTES,  DT_BOOL,
                                  DT_FP16,    DT_FP64,  DT_UINT32, DT_UINT64, DT_INVALID,
                                  DT_INVALID, DT_BF16};
    return type < sizeof(map) ? (enum dtype)map[type] : DT_INVALID;
}

struct proto {
    struct view message, raw;
    bool has_raw;
    size_t text; // bytes of all strings
};

static bool read_dim(struct engine_data *d, uint64_t dim)
{
    if (d->rank == ENGINE_MAX_RANK || dim > INT32_MAX)
        return false;
    d->shape[d->rank++] = (int64_t)dim;
    return true;
}

static bool read_proto(struct view message, struct recorded *t, struct proto *p)
{
    struct pb_reader r, packed;
    struct pb_field f;
    uint64_t v;
    *p = (struct proto){.message = message};
    pb_read(&r, message);
    while (pb_next(&r, &f)) {
        if (f.number == 1 && f.wire == PB_VARINT && !read_dim(&t->data, f.value))
            return false;
        if (f.number == 1 && f.wire == PB_LEN) {
            pb_read(&packed, f.data);
            while (pb_packed_varint(&packed, &v)) {
                if (!read_dim(&t->data, v))
                    return false;
            }
        } else if (f.number == 2) {
            t->dtype = dtype_of_onnx(f.value);
        } else if (f.number == 6) {
            p->text += f.data.n;
        } else if (f.number == 8) {
            t->name = f.data;
        } else if (f.number == 9) {
            p->raw = f.data;
            p->has_raw = true;
        }
    }
    return !r.error && t->dtype != DT_INVALID;
}

// Elements of the typed fields, one behind the other, up to `bytes`. How many bytes there were.
static size_t typed_elements(struct view message, enum dtype d, char *to, size_t bytes)
{
    struct pb_reader r, packed;
    struct pb_field f;
    size_t at = 0, size = dtype_table[d].bytes;
    pb_read(&r, message);
    while (pb_next(&r, &f)) {
        uint64_t v = f.value;
        if (d == DT_BYTES && f.number == 6 && bytes - at >= 4 + f.data.n) {
            uint32_t n = (uint32_t)f.data.n;
            memcpy(to + at, &n, 4);
            memcpy(to + at + 4, f.data.n ? f.data.p : "", f.data.n);
            at += 4 + f.data.n;
        } else if ((f.number == 4 || f.number == 10) && f.wire == PB_LEN &&
                   f.data.n <= bytes - at) {
            memcpy(to + at, f.data.n ? f.data.p : "", f.data.n);
            at += f.data.n;
        } else if (f.number == 4 || f.number == 5 || f.number == 7 || f.number == 10 ||
                   f.number == 11) {
            pb_read(&packed, f.data);
            while ((f.wire != PB_LEN || pb_packed_varint(&packed, &v)) && size <= bytes - at) {
                memcpy(to + at, &v, size);
                at += size;
                if (f.wire != PB_LEN)
                    break;
            }
        }
    }
    return at;
}

static bool read_tensor(struct view message, struct arena *a, struct recorded *t)
{
    struct proto p;
    if (!read_proto(message, t, &p))
        return false;
    uint64_t count = count_of(&t->data);
    t->data.bytes = t->dtype == DT_BYTES ? 4 * count + p.text : count * dtype_table[t->dtype].bytes;
    if (p.has_raw) {
        t->data.data = p.raw.p;
        return p.raw.n == t->data.bytes;
    }
    if (count > message.n) // each takes a byte at least
        return false;
    char *to = arena_alloc(a, t->data.bytes + 1);
    t->data.data = to;
    return to && typed_elements(message, t->dtype, to, t->data.bytes) == t->data.bytes;
}

// The tensors PREFIX0.pb, PREFIX1.pb ... of a folder.
static bool read_set(const struct files_place *p, const char *prefix, struct test_case *c,
                     struct recorded *list, unsigned *n)
{
    char name[64], why[256];
    for (; *n < PORTS; ++*n) {
        size_t bytes;
        snprintf(name, sizeof(name), "%s_%u.pb", prefix, *n);
        int fd = files_open(p, name, O_PATH);
        if (fd < 0)
            break;
        close(fd);
        char *data = files_read(p, name, DATA_MAX, &bytes, why);
        if (!data)
            return complain(c->name, why);
        struct view copy = arena_copy(&c->arena, view_of(data, bytes));
        mem_free(data);
        list[*n] = (struct recorded){0};
        if (!read_tensor(copy, &c->arena, &list[*n]))
            return complain(name, "not a tensor that can be read");
    }
    return true;
}

// ---- a tensor of JSON --------------------------------------------------------------------------------

static enum dtype dtype_of_json(const char *name)
{
    static const struct {
        const char *name;
        enum dtype dtype;
    } names[] = {{"f32", DT_FP32},  {"f64", DT_FP64},  {"i8", DT_INT8},   {"u8", DT_UINT8},
                 {"i32", DT_INT32}, {"i64", DT_INT64}, {"bool", DT_BOOL}, {"str", DT_BYTES}};
    for (unsigned i = 0; name && i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(name, names[i].name) == 0)
            return names[i].dtype;
    }
    return name ? dtype_of(view_str(name)) : DT_INVALID;
}

static void json_number(const json_t *v, enum dtype d, char *to)
{
    float f = (float)json_number_value(v);
    double g = json_number_value(v);
    int64_t i = json_is_integer(v) ? json_integer_value(v) : json_is_true(v);
    if (d == DT_FP32)
        memcpy(to, &f, sizeof(f));
    else if (d == DT_FP64)
        memcpy(to, &g, sizeof(g));
    else
        memcpy(to, &i, dtype_table[d].bytes);
}

// The bytes of a file, as the engine has them. Those of strings are as long as they say; whoever reads them sees.
static bool json_file(const struct checking *c, const char *file, struct arena *a,
                      struct recorded *t, char why[256])
{
    size_t n, size = dtype_table[t->dtype].bytes;
    char *data = files_read(&c->place, file, DATA_MAX, &n, why);
    if (!data)
        return false;
    bool fills = t->dtype == DT_BYTES || (n % size == 0 && n / size == count_of(&t->data));
    t->data.bytes = n;
    t->data.data = fills ? n > 0 ? arena_copy(a, view_of(data, n)).p : "" : NULL;
    mem_free(data);
    if (!t->data.data)
        snprintf(why, 256, fills ? "out of memory" : "its data does not fill its shape");
    return t->data.data != NULL;
}

static bool json_data(const json_t *data, struct arena *a, struct recorded *t)
{
    uint64_t count = count_of(&t->data);
    size_t text = 0, at = 0, i;
    const json_t *v;
    json_array_foreach(data, i, v) text += json_string_length(v) + 4;
    t->data.bytes = t->dtype == DT_BYTES ? text : count * dtype_table[t->dtype].bytes;
    char *to = json_array_size(data) == count ? arena_alloc(a, t->data.bytes + 1) : NULL;
    t->data.data = to;
    if (!to)
        return false;
    json_array_foreach(data, i, v)
    {
        if (t->dtype == DT_BYTES) {
            uint32_t n = (uint32_t)json_string_length(v);
            memcpy(to + at, &n, 4);
            memcpy(to + at + 4, n ? json_string_value(v) : "", n);
            at += 4 + (size_t)n;
        } else {
            json_number(v, t->dtype, to + i * dtype_table[t->dtype].bytes);
        }
    }
    return true;
}

static bool json_tensor(const struct checking *c, const char *name, const json_t *j,
                        struct arena *a, struct recorded *t)
{
    char why[256];
    size_t i;
    const json_t *dim;
    const char *bin = json_string_value(json_object_get(j, "bin"));
    *t = (struct recorded){.name = view_str(name),
                           .dtype = dtype_of_json(json_string_value(json_object_get(j, "dtype")))};
    json_array_foreach(json_object_get(j, "shape"), i, dim)
    {
        if (!read_dim(&t->data, (uint64_t)json_integer_value(dim)))
            return complain(name, "its shape cannot be read");
    }
    if (t->dtype == DT_INVALID)
        return complain(name, "its dtype is not known");
    if (!bin)
        return json_data(json_object_get(j, "data"), a, t) ||
               complain(name, "its data does not fill its shape");
    return json_file(c, bin, a, t, why) || complain(name, why);
}

static bool json_tensors(const struct checking *c, const json_t *list, struct arena *a,
                         struct recorded *out, unsigned *n)
{
    const char *name;
    const json_t *j;
    json_object_foreach((json_t *)list, name, j)
    {
        if (*n == PORTS || !json_tensor(c, name, j, a, &out[(*n)++]))
            return false;
    }
    return *n > 0 || complain("a case", "expected inputs and outputs");
}

// ---- comparing ---------------------------------------------------------------------------------------

static double float_at(enum dtype d, const void *data, size_t i)
{
    const char *at = (const char *)data + i * dtype_table[d].bytes;
    uint16_t bits;
    uint32_t wide;
    float f;
    if (d == DT_FP64)
        return load_f64(at);
    if (d == DT_FP32)
        return (double)load_f32(at);
    memcpy(&bits, at, 2);
    if (d == DT_BF16) {
        wide = (uint32_t)bits << 16;
        memcpy(&f, &wide, 4);
        return (double)f;
    }
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    double v = exponent == 31 ? (fraction ? NAN : INFINITY)
               : exponent     ? ldexp(1024 + fraction, exponent - 25)
                              : ldexp(fraction, -24);
    return bits & 0x8000 ? -v : v;
}

static bool is_float(enum dtype d)
{
    return d == DT_FP32 || d == DT_FP64 || d == DT_FP16 || d == DT_BF16;
}

// The largest part of the tolerance that is used; more than 1: it is wrong.
static double share_of(const struct checking *c, enum dtype d, const void *got, const void *want,
                       size_t n)
{
    // Numbers of 16 bits are as far apart as their last bit, whatever is allowed.
    double most = 0, last = d == DT_BF16 ? 0x1p-7 : d == DT_FP16 ? 0x1p-10 : 0;
    for (size_t i = 0; i < n; i++) {
        double g = float_at(d, got, i), w = float_at(d, want, i);
        double room = c->tolerance.absolute + (c->tolerance.relative + last) * fabs(w);
        double share = g == w || (g != g && w != w) ? 0 : fabs(g - w) / room;
        most = share > most || share != share ? (share != share ? INFINITY : share) : most;
    }
    return most;
}

static void report(struct checking *c, const char *name, const char *output, bool right,
                   const char *how)
{
    c->right += right;
    c->wrong += !right;
    printf("%-7s %s: %s: %s\n", right ? "right" : "WRONG", name, output, how);
}

static void compare(struct checking *c, const struct test_case *t, const struct recorded *want,
                    const struct engine_port *port, const struct engine_data *got)
{
    char how[256], a[96], b[96];
    enum dtype d = dtype_of_engine(port->dtype);
    bool same = got->rank == want->data.rank && d == want->dtype &&
                memcmp(got->shape, want->data.shape, got->rank * sizeof(got->shape[0])) == 0;
    if (!same) {
        struct dims came = dims_of(got), expected = dims_of(&want->data);
        snprintf(how, sizeof(how), "%s %s, expected %s %s", dtype_table[d].name,
                 dims_text(a, &came), dtype_table[want->dtype].name, dims_text(b, &expected));
        report(c, t->name, port->name, false, how);
    } else if (is_float(d)) {
        double share = share_of(c, d, got->data, want->data.data, count_of(got));
        snprintf(how, sizeof(how), "%.3g of the tolerance", share);
        report(c, t->name, port->name, share <= 1, how);
    } else {
        bool right =
            got->bytes == want->data.bytes && memcmp(got->data, want->data.data, got->bytes) == 0;
        report(c, t->name, port->name, right, right ? "the same" : "not the same");
    }
}

static const struct recorded *recorded_as(const struct recorded *list, unsigned n, const char *name,
                                          unsigned place)
{
    for (unsigned i = 0; i < n; i++) {
        if (view_is(list[i].name, name))
            return &list[i];
    }
    return place < n && list[place].name.n == 0 ? &list[place] : NULL;
}

static void run_case(struct checking *c, const struct test_case *t)
{
    struct engine_data in[PORTS], out[PORTS];
    struct engine_error e;
    unsigned n_in = engine_model_inputs(c->model), n_out = engine_model_outputs(c->model);
    for (unsigned k = 0; k < n_in; k++) {
        const char *name = engine_model_input(c->model, k)->name;
        const struct recorded *r = recorded_as(t->in, t->n_in, name, k);
        if (!r) {
            report(c, t->name, name, false, "the data has no such input");
            return;
        }
        in[k] = r->data;
    }
    if (!engine_run(c->instance, in, out, &e)) {
        report(c, t->name, "run", false, e.text);
        return;
    }
    for (unsigned k = 0; k < n_out; k++) {
        const struct engine_port *p = engine_model_output(c->model, k);
        const struct recorded *r = recorded_as(t->out, t->n_out, p->name, k);
        if (r)
            compare(c, t, r, p, &out[k]);
    }
}

// ---- the two forms -----------------------------------------------------------------------------------

static struct test_case *case_new(const char *name)
{
    struct test_case *t = mem_must_zero(sizeof(*t));
    arena_init(&t->arena, 1 << 16);
    snprintf(t->name, sizeof(t->name), "%.127s", name);
    return t;
}

static void case_free(struct test_case *t)
{
    arena_deinit(&t->arena);
    mem_free(t);
}

static bool check_set(struct checking *c, const char *name, const struct files_place *p)
{
    struct test_case *t = case_new(name);
    bool ok =
        read_set(p, "input", t, t->in, &t->n_in) && read_set(p, "output", t, t->out, &t->n_out);
    if (ok && t->n_out == 0)
        ok = complain(name, "expected input_0.pb and output_0.pb");
    if (ok)
        run_case(c, t);
    case_free(t);
    return ok;
}

static int is_set(const struct dirent *d)
{
    return strncmp(d->d_name, "test_data_set_", 14) == 0;
}

static bool check_folder(struct checking *c, const char *path)
{
    struct dirent **sets = NULL;
    int n = scandir(path, &sets, is_set, versionsort);
    bool ok = n >= 0;
    for (int i = 0; i < n; i++) {
        struct files_place p = c->place;
        snprintf(p.folder, sizeof(p.folder), "%.200s", sets[i]->d_name);
        ok = ok && check_set(c, sets[i]->d_name, &p);
        free(sets[i]); // scandir's own
    }
    free(sets);
    return n > 0 ? ok : check_set(c, path, &c->place);
}

static bool check_json(struct checking *c, const char *file)
{
    char why[256];
    size_t n, i;
    json_error_t error;
    const json_t *one;
    char *text = files_read(&c->place, file, DATA_MAX, &n, why);
    if (!text)
        return complain(file, why);
    json_t *all = json_loadb(text, n, JSON_REJECT_DUPLICATES, &error);
    mem_free(text);
    if (!all)
        return complain(file, error.text);
    bool ok = json_array_size(json_object_get(all, "cases")) > 0 ||
              complain(file, "expected an array \"cases\"");
    json_array_foreach(json_object_get(all, "cases"), i, one)
    {
        const char *name = json_string_value(json_object_get(one, "name"));
        struct test_case *t = case_new(name ? name : "case");
        ok = ok && json_tensors(c, json_object_get(one, "inputs"), &t->arena, t->in, &t->n_in) &&
             json_tensors(c, json_object_get(one, "outputs"), &t->arena, t->out, &t->n_out);
        if (ok)
            run_case(c, t);
        case_free(t);
    }
    json_decref(all);
    return ok;
}

int check_data(struct engine_model *m, struct engine_instance *i, const char *path,
               struct check_tolerance t)
{
    struct checking c = {.model = m, .instance = i, .tolerance = t};
    struct stat st;
    char folder[1024];
    const char *file = strrchr(path, '/');
    if (stat(path, &st) != 0)
        return -1 + complain(path, strerror(errno));
    bool is_folder = S_ISDIR(st.st_mode);
    snprintf(folder, sizeof(folder), "%.*s",
             is_folder ? (int)strlen(path)
             : file    ? (int)(file - path)
                       : 1,
             is_folder || file ? path : ".");
    c.place.base = open(folder[0] ? folder : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (c.place.base < 0)
        return -1 + complain(folder, strerror(errno));
    bool ok = is_folder ? check_folder(&c, path) : check_json(&c, file ? file + 1 : path);
    close(c.place.base);
    printf("%u right, %u wrong\n", c.right, c.wrong);
    return ok ? (int)c.wrong : -1;
}
