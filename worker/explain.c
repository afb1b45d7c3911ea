#include "worker/explain.h"

#include "base/mem.h"
#include "base/rand.h"
#include "engine/cpu/device.h"
#include "engine/explain.h"
#include "net/memory.h"
#include "worker/check.h"
#include "worker/files.h"
#include "worker/repository.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PORTS 64
#define OPS 256 // different ones in the summary
#define NOTES 4096
#define CHECK_ROWS 1024 // of a recorded case

static const char usage[] =
    "usage: sluice-worker explain MODEL [options]\n"
    "  MODEL            model.onnx, or the folder that holds it\n"
    "  --rows N         rows of a run (default 1)\n"
    "  --length N       in free dimensions behind the first (default: what it was tried with)\n"
    "  --shape NAME=D,D input NAME has that shape; may be given several times\n"
    "  --runs N         how many are measured (default 20)\n"
    "  --threads N      that a kernel may use (default 1)\n"
    "  --dot            the graph as it runs, for graphviz\n"
    "  --check DATA     compare with a folder of input_K.pb and output_K.pb, or reference.json\n"
    "  --atol X, --rtol X   how far numbers may be apart (default 1e-5 and 1e-3)\n";

struct explaining {
    const char *model, *check;
    unsigned rows, runs, threads, n_shapes;
    const char *shapes[PORTS]; // "NAME=1,512"
    int64_t length;
    bool dot, given; // given: a length was
    struct check_tolerance tolerance;
    char *notes[NOTES]; // fusions and what was folded, as they come
    enum engine_note kinds[NOTES];
    unsigned n_notes;
    struct engine_model *m;
    struct engine_instance *i;
};

static _Noreturn void die(int status, const char *what, const char *why)
{
    fprintf(stderr, "sluice-worker explain: %s: %s\n", what, why);
    exit(status);
}

static unsigned whole(const char *option, const char *text, unsigned least, unsigned most)
{
    char *end;
    errno = 0;
    unsigned long n = strtoul(text, &end, 10);
    if (errno || *end || end == text || text[0] == '-' || n < least || n > most)
        die(2, option, "expected a number within its bounds");
    return (unsigned)n;
}

static double real(const char *option, const char *text)
{
    char *end;
    double d = strtod(text, &end);
    if (*end || end == text || !(d >= 0))
        die(2, option, "expected a number of 0 or more");
    return d;
}

static void read_words(struct explaining *x, int argc, char **argv)
{
    static const struct option known[] = {
        {"rows", required_argument, NULL, 'r'},
        {"length", required_argument, NULL, 'l'},
        {"runs", required_argument, NULL, 'n'},
        {"shape", required_argument, NULL, 's'},
        {"threads", required_argument, NULL, 't'},
        {"dot", no_argument, NULL, 'd'},
        {"check", required_argument, NULL, 'c'},
        {"atol", required_argument, NULL, 'a'},
        {"rtol", required_argument, NULL, 'e'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int c;
    *x = (struct explaining){
        .rows = 1, .runs = 20, .threads = 1, .tolerance = {.absolute = 1e-5, .relative = 1e-3}};
    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (c == 'r')
            x->rows = whole("--rows", optarg, 1, 65536);
        else if (c == 'l')
            x->length = whole("--length", optarg, 1, INT32_MAX);
        else if (c == 's' && x->n_shapes < PORTS)
            x->shapes[x->n_shapes++] = optarg;
        else if (c == 'n')
            x->runs = whole("--runs", optarg, 1, 1000000);
        else if (c == 't')
            x->threads = whole("--threads", optarg, 1, 1024);
        else if (c == 'd')
            x->dot = true;
        else if (c == 'c')
            x->check = optarg;
        else if (c == 'a')
            x->tolerance.absolute = real("--atol", optarg);
        else if (c == 'e')
            x->tolerance.relative = real("--rtol", optarg);
        else if (c == 'h')
            exit(fputs(usage, stdout) < 0 || fflush(stdout) != 0);
        else
            exit(fputs(usage, stderr) < 0 ? 1 : 2);
    }
    if (optind + 1 != argc)
        die(2, "MODEL", "expected one; see --help");
    x->model = argv[optind];
}

// ---- loading -----------------------------------------------------------------------------------------

static void on_note(void *ctx, enum engine_note what, const char *text)
{
    struct explaining *x = ctx;
    if (what == ENGINE_REFUSED || what == ENGINE_CHANGED)
        fprintf(stderr, "%s\n", text);
    else if (x->n_notes < NOTES) {
        size_t n = strlen(text) + 1;
        x->notes[x->n_notes] = memcpy(mem_must(n), text, n);
        x->kinds[x->n_notes++] = what;
    }
}

// The folder and the file's name in it.
static void find_model(const char *path, struct files_place *p, char file[256])
{
    struct stat st;
    char folder[1024];
    const char *slash = strrchr(path, '/');
    if (stat(path, &st) != 0)
        die(1, path, strerror(errno));
    bool is_folder = S_ISDIR(st.st_mode);
    snprintf(file, 256, "%.255s", is_folder ? "model.onnx" : slash ? slash + 1 : path);
    if (is_folder)
        snprintf(folder, sizeof(folder), "%.1000s", path);
    else
        snprintf(folder, sizeof(folder), "%.*s", slash ? (int)(slash - path) + 1 : 1,
                 slash ? path : ".");
    *p = (struct files_place){.base = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (p->base < 0)
        die(1, folder, strerror(errno));
}

static void load(struct explaining *x, struct engine *engine)
{
    struct engine_source source = {.note = on_note, .ctx = x};
    struct engine_error e = {""};
    struct files_place place;
    struct files_maps maps;
    char file[256], why[256];
    find_model(x->model, &place, file);
    files_maps_init(&maps, &place);
    source.files = &maps.files;
    if (!files_map(&maps, file, &source.onnx, why))
        die(1, x->model, why);
    uint32_t rows = x->check ? CHECK_ROWS : 64;
    x->m = engine_model_open(engine, &source, x->rows > rows ? x->rows : rows, &e);
    if (!files_unmap(&maps))
        die(1, x->model, "a file became shorter while it was read");
    if (!x->m || !(x->i = engine_instance_new(x->m, &e)))
        die(1, x->model, e.text);
    close(place.base);
}

// ---- running -----------------------------------------------------------------------------------------

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

// What --shape says of the input. False: nothing.
static bool shape_given(const struct explaining *x, const char *name, unsigned rank,
                        int64_t shape[ENGINE_MAX_RANK])
{
    size_t n = strlen(name);
    for (unsigned i = 0; i < x->n_shapes; i++) {
        const char *at = x->shapes[i];
        if (strncmp(at, name, n) != 0 || at[n] != '=')
            continue;
        at += n + 1;
        for (unsigned d = 0; d < rank; d++) {
            char *end;
            shape[d] = strtol(at, &end, 10);
            if (end == at || shape[d] < 0 || shape[d] > INT32_MAX ||
                *end != (d + 1 < rank ? ',' : '\0'))
                die(2, x->shapes[i], "expected as many dimensions as the input has");
            at = end + 1;
        }
        return true;
    }
    return false;
}

// Random numbers below 1, small whole ones, empty strings.
static struct engine_data input_of(const struct explaining *x, unsigned k, struct rand *r)
{
    const struct engine_port *p = engine_model_input(x->m, k);
    enum dtype d = dtype_of_engine(p->dtype);
    struct engine_data in = {.rank = p->rank};
    uint64_t count = 0;
    int64_t length = x->length ? x->length : engine_model_length(x->m);
    for (unsigned i = 0; i < p->rank; i++)
        in.shape[i] = p->shape[i] >= 0 ? p->shape[i] : i == 0 ? (int64_t)x->rows : length;
    shape_given(x, p->name, p->rank, in.shape);
    size_t size = d == DT_BYTES ? 4 : dtype_table[d].bytes;
    struct dims shape = {.rank = in.rank};
    memcpy(shape.at, in.shape, sizeof(shape.at));
    if (!dims_count(&shape, &count) || count > SIZE_MAX / 8)
        die(1, p->name, "its shape is too large");
    in.bytes = count * size;
    char *data = mem_must_zero(in.bytes + 1);
    for (uint64_t i = 0; i < count && d != DT_BYTES; i++) {
        float f = (float)rand_unit(r);
        double g = (double)f;
        uint8_t small = (uint8_t)rand_below(r, 2);
        memcpy(data + i * size,
               d == DT_FP32   ? (const void *)&f
               : d == DT_FP64 ? (const void *)&g
                              : (const void *)&small,
               d == DT_FP32 || d == DT_FP64 ? size : 1);
    }
    in.data = data;
    return in;
}

static void make_inputs(const struct explaining *x, struct engine_data *in)
{
    struct rand r;
    rand_seed(&r, 1);
    for (unsigned k = 0; k < engine_model_inputs(x->m); k++)
        in[k] = input_of(x, k, &r);
}

static void free_inputs(const struct explaining *x, struct engine_data *in)
{
    for (unsigned k = 0; k < engine_model_inputs(x->m); k++)
        mem_free((void *)in[k].data);
}

// Inputs that the model can take: what its data decides may want another length than what was tried at load.
static void find_inputs(struct explaining *x, struct engine_data *in)
{
    static const int64_t lengths[] = {512, 256, 1024, 128, 32, 16, 8, 4, 3, 2, 1};
    struct engine_data out[PORTS];
    struct engine_error first, e;
    make_inputs(x, in);
    if (engine_run(x->i, in, out, &first))
        return;
    for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]) && !x->given; i++) {
        free_inputs(x, in);
        x->length = lengths[i];
        make_inputs(x, in);
        if (engine_run(x->i, in, out, &e))
            return;
    }
    die(1, x->model, first.text);
}

// How long one run takes, in nanoseconds, steps measured.
static double measure(struct explaining *x)
{
    struct engine_data in[PORTS], out[PORTS];
    struct engine_error e;
    x->given = x->length > 0;
    find_inputs(x, in);
    engine_watch(x->i, now_ns);
    uint64_t from = now_ns();
    for (unsigned n = 0; n < x->runs; n++) {
        if (!engine_run(x->i, in, out, &e))
            die(1, x->model, e.text);
    }
    double took = (double)(now_ns() - from) / x->runs;
    free_inputs(x, in);
    return took;
}

// ---- tables ------------------------------------------------------------------------------------------

static void show_port(const char *what, const struct engine_port *p)
{
    struct dims shape = {.rank = p->rank};
    char text[96];
    memcpy(shape.at, p->shape, sizeof(shape.at));
    printf("%-9s %s %s %s\n", what, p->name, dtype_table[dtype_of_engine(p->dtype)].name,
           dims_text(text, &shape));
}

// Notes of one kind, equal ones counted.
static void show_notes(const struct explaining *x, const char *title, enum engine_note kind)
{
    bool any = false;
    for (unsigned i = 0; i < x->n_notes; i++) {
        unsigned same = 0, before = 0;
        for (unsigned k = 0; k < x->n_notes; k++) {
            bool equal =
                x->kinds[k] == kind && x->kinds[i] == kind && strcmp(x->notes[k], x->notes[i]) == 0;
            same += equal;
            before += equal && k < i;
        }
        if (same == 0 || before > 0)
            continue;
        printf("%-9s %u x %s\n", any ? "" : title, same, x->notes[i]);
        any = true;
    }
}

static const char *size_text(char out[32], size_t n)
{
    bool large = n >= 1 << 20;
    snprintf(out, 32, "%.1f %s", (double)n / (large ? 1 << 20 : 1 << 10), large ? "MiB" : "KiB");
    return out;
}

static void show_head(const struct explaining *x)
{
    struct engine_sizes s = engine_sizes(x->i);
    const char *single = engine_model_single_reason(x->m);
    for (unsigned k = 0; k < engine_model_inputs(x->m); k++)
        show_port("input", engine_model_input(x->m, k));
    for (unsigned k = 0; k < engine_model_outputs(x->m); k++)
        show_port("output", engine_model_output(x->m, k));
    printf("%-9s %s%s\n", "batches", single ? "no: " : "yes", single ? single : "");
    show_notes(x, "fused", ENGINE_FUSED);
    show_notes(x, "folded", ENGINE_FOLDED);
    char a[32], b[32], c[32];
    printf("%-9s %s of constants, as kernels want them, and nodes\n", "memory",
           size_text(a, s.constants));
    printf("%-9s %s for a run: %s of values that share places, %s of scratch\n", "",
           size_text(a, s.arena), size_text(b, s.made), size_text(c, s.scratch));
    printf("%-9s %u steps, %u values follow from shapes alone\n\n", "plan", s.steps, s.known);
}

static void shape_of(char out[96], const struct engine_value *v)
{
    struct dims shape = {.rank = v->rank};
    memcpy(shape.at, v->shape, sizeof(shape.at));
    dims_text(out, &shape);
}

static double step_us(const struct explaining *x, const struct engine_step *s)
{
    return (double)s->spent_ns / x->runs / 1000;
}

static void show_steps(const struct explaining *x, double all_us)
{
    unsigned n = engine_sizes(x->i).steps;
    printf("%5s  %-26s %-32s %-20s %10s %10s %6s\n", "step", "op", "node", "makes", "at", "us",
           "%");
    for (unsigned k = 0; k < n; k++) {
        struct engine_step s = engine_step_of(x->i, k);
        struct engine_value v = engine_value_of(x->i, s.outputs[0]);
        char shape[96], op[64];
        double us = step_us(x, &s);
        shape_of(shape, &v);
        if (s.late)
            snprintf(shape, sizeof(shape), "as its data says");
        snprintf(op, sizeof(op), "%.*s%s", VIEW_ARG(s.op), s.relu ? " + Relu" : "");
        printf("%5u  %-26.40s %-32.*s %-20s ", k, op, (int)(s.node.n < 32 ? s.node.n : 32),
               s.node.n ? s.node.p : "", shape);
        if (s.runs)
            printf("%10zu %10.1f %6.1f\n", v.at, us, all_us > 0 ? 100 * us / all_us : 0);
        else
            printf("%10s\n", "the same");
    }
}

struct op_sum {
    char op[64];
    unsigned steps;
    double us, work;
};

static int slowest_first(const void *a, const void *b)
{
    double x = ((const struct op_sum *)a)->us, y = ((const struct op_sum *)b)->us;
    return x < y ? 1 : x > y ? -1 : 0;
}

static void show_ops(const struct explaining *x, double all_us)
{
    static struct op_sum sums[OPS];
    unsigned n = engine_sizes(x->i).steps, n_sums = 0;
    for (unsigned k = 0; k < n; k++) {
        struct engine_step s = engine_step_of(x->i, k);
        char op[64];
        unsigned at = 0;
        snprintf(op, sizeof(op), "%.*s%s", VIEW_ARG(s.op), s.relu ? " + Relu" : "");
        while (at < n_sums && strcmp(sums[at].op, op) != 0)
            at++;
        if (!s.runs || at == OPS)
            continue;
        if (at == n_sums)
            snprintf(sums[n_sums++].op, sizeof(op), "%s", op);
        sums[at].steps++;
        sums[at].us += step_us(x, &s);
        sums[at].work += s.work;
    }
    qsort(sums, n_sums, sizeof(sums[0]), slowest_first);
    printf("\n%-32s %6s %10s %6s %14s\n", "op", "steps", "us", "%", "Mmul");
    for (unsigned k = 0; k < n_sums; k++)
        printf("%-32s %6u %10.1f %6.1f %14.3f\n", sums[k].op, sums[k].steps, sums[k].us,
               all_us > 0 ? 100 * sums[k].us / all_us : 0, sums[k].work / 1e6);
    printf("%-32s %6s %10.1f\n", "a run", "", all_us);
}

// ---- a picture ---------------------------------------------------------------------------------------

static void quoted(struct view s)
{
    for (size_t i = 0; i < s.n && i < 64; i++)
        putchar(s.p[i] == '"' || s.p[i] == '\\' || s.p[i] < ' ' || s.p[i] > '~' ? '?' : s.p[i]);
}

static void draw(const struct explaining *x)
{
    unsigned n = engine_sizes(x->i).steps;
    printf("digraph model {\n  node [shape=box, fontname=\"sans\"];\n");
    for (unsigned k = 0; k < n; k++) {
        struct engine_step s = engine_step_of(x->i, k);
        printf("  s%u [label=\"%.*s%s\\n", k, VIEW_ARG(s.op), s.relu ? " + Relu" : "");
        quoted(s.node);
        printf("\\n%.1f us\"%s];\n", step_us(x, &s), s.runs ? "" : ", style=dashed");
        for (unsigned o = 0; o < s.n_outputs; o++) {
            struct engine_value v;
            char shape[96];
            if (s.outputs[o] < 0)
                continue;
            v = engine_value_of(x->i, s.outputs[o]);
            shape_of(shape, &v);
            printf("  v%d [shape=plaintext, label=\"", s.outputs[o]);
            quoted(v.name);
            printf(" %s\"];\n  s%u -> v%d;\n", shape, k, s.outputs[o]);
        }
        for (unsigned in = 0; in < s.n_inputs; in++) {
            struct engine_value v;
            if (s.inputs[in] < 0 ||
                (v = engine_value_of(x->i, s.inputs[in])).place == ENGINE_AT_CONSTANT)
                continue;
            printf("  v%d -> s%u;\n", s.inputs[in], k);
            if (v.place != ENGINE_AT_ARENA) {
                printf("  v%d [shape=ellipse, label=\"", s.inputs[in]);
                quoted(v.name);
                printf("\"];\n");
            }
        }
    }
    printf("}\n");
}

int explain_main(int argc, char **argv)
{
    static struct explaining x;
    struct engine_error e = {"out of memory"};
    int status = 0;
    read_words(&x, argc, argv);
    struct engine *engine = engine_new(cpu_device_new((struct cpu_options){.threads = x.threads}),
                                       NULL, (struct engine_limits){0}, &e);
    if (!engine)
        die(1, "engine", e.text);
    load(&x, engine);
    if (x.check) {
        status = check_data(x.m, x.i, x.check, x.tolerance) != 0;
    } else {
        double us = measure(&x) / 1000;
        if (x.dot) {
            draw(&x);
        } else {
            show_head(&x);
            show_steps(&x, us);
            show_ops(&x, us);
        }
    }
    for (unsigned i = 0; i < x.n_notes; i++)
        mem_free(x.notes[i]);
    engine_instance_free(x.i);
    engine_model_free(x.m);
    engine_free(engine);
    return fflush(stdout) == 0 ? status : 1;
}
