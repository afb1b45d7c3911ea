/* bench/engine.c: microseconds of CPU per row for each model, batches of 1, 8, 32 and 64 rows, on the plain C
 * kernels alone and with oneDNN where the engine takes it; one thread. A markdown table. The demo models of
 * models/, and the reference models when ../shared/models (or SLUICE_SHARED) is there.
 * Usage: engine [seconds per cell, default 0.3] [FILE.onnx ...]
 *        engine --one SECONDS FILE.onnx [INPUT:1x3x48 ...]
 * The second is one model on the inputs of those files and shapes, for a comparison (bench/beside.py): CPU of loading,
 * microseconds a run, kilobytes that the process grew by, sum of its first output. */
#include "engine/engine.h"
#include "base/mem.h"
#include "base/rand.h"
#include "engine/cpu/device.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const unsigned batches[] = {1, 8, 32, 64};
#define BATCHES (sizeof(batches) / sizeof(batches[0]))
#define MAX_PORTS 8

static double seconds_per_cell = 0.3;

static double cpu_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static char *read_file(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return NULL;
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    rewind(f);
    char *data = mem_must(*n + 1);
    if (fread(data, 1, *n, f) != *n)
        abort();
    fclose(f);
    return data;
}

// Sizes for the free dimensions other than the batch dimension, in order.
struct lengths {
    unsigned n;
    int64_t at[4];
};

static size_t element_bytes(enum engine_dtype d)
{
    static const size_t bytes[ENGINE_DTYPES] = {
        [ENGINE_F32] = 4, [ENGINE_F64] = 8, [ENGINE_I32] = 4, [ENGINE_I64] = 8, [ENGINE_BOOL] = 1,
        [ENGINE_U8] = 1,  [ENGINE_I8] = 1,  [ENGINE_U16] = 2, [ENGINE_I16] = 2, [ENGINE_U32] = 4,
        [ENGINE_U64] = 8, [ENGINE_F16] = 2, [ENGINE_BF16] = 2};
    return bytes[d];
}

// Inputs of `rows` random rows; whole numbers are 0. Without lengths free dimensions are 64.
static void make_inputs(const struct engine_model *m, unsigned rows, const struct lengths *l,
                        struct engine_data *x)
{
    struct rand r;
    unsigned at = 0;
    rand_seed(&r, 1);
    for (unsigned k = 0; k < engine_model_inputs(m); k++) {
        const struct engine_port *p = engine_model_input(m, k);
        size_t n = 1;
        x[k] = (struct engine_data){.rank = p->rank};
        for (unsigned d = 0; d < p->rank; d++) {
            int64_t dim = p->shape[d];
            if (dim < 0 && d == 0)
                dim = rows;
            else if (dim < 0)
                dim = at < l->n ? l->at[at++] : 64;
            x[k].shape[d] = dim;
            n *= (size_t)dim;
        }
        x[k].bytes = n * element_bytes(p->dtype);
        float *data = mem_must_zero(x[k].bytes);
        for (size_t i = 0; i < n && p->dtype == ENGINE_F32; i++)
            data[i] = (float)rand_unit(&r);
        x[k].data = data;
    }
}

// The best of several passes, in microseconds a row.
static double measure(struct engine_instance *in, const struct engine_data *x, unsigned rows)
{
    struct engine_data out[MAX_PORTS];
    struct engine_error e;
    double best = 1e9, start = cpu_s(), until = start + seconds_per_cell;
    unsigned times = 1;
    for (double t0 = start; t0 < until || best == 1e9;) {
        for (unsigned i = 0; i < times; i++) {
            if (!engine_run(in, x, out, &e)) {
                fprintf(stderr, "%s\n", e.text);
                exit(1);
            }
        }
        double t1 = cpu_s(), each = (t1 - t0) / times;
        if (each < best && t0 > start) // the first pass makes the plan
            best = each;
        if ((t1 - t0) < 0.005)
            times *= 2;
        t0 = t1;
    }
    return best * 1e6 / rows;
}

static void row_of(struct engine *engine, const char *path, const char *name,
                   const struct lengths *l, bool onednn)
{
    size_t n;
    struct engine_error e;
    char *onnx = read_file(path, &n);
    if (!onnx)
        return;
    struct engine_model *m = engine_model_load(engine, view_of(onnx, n), 64, &e);
    mem_free(onnx);
    if (!m) {
        fprintf(stderr, "%s: %s\n", path, e.text);
        exit(1);
    }
    struct engine_instance *in = engine_instance_new(m, &e);
    printf("| %s | %s |", name, onednn ? "oneDNN and C" : "C alone");
    for (unsigned b = 0; b < BATCHES && in; b++) {
        struct engine_data x[MAX_PORTS];
        if (batches[b] > 1 && engine_model_max_batch(m) < batches[b]) {
            printf(" – |");
            continue;
        }
        make_inputs(m, batches[b], l, x);
        printf(" %.2f |", measure(in, x, batches[b]));
        fflush(stdout);
        for (unsigned k = 0; k < engine_model_inputs(m); k++)
            mem_free((void *)x[k].data);
    }
    printf("\n");
    engine_instance_free(in);
    engine_model_free(m);
}

// Kilobytes of /proc/self/status. 0: not Linux.
static long status_kib(const char *field)
{
    char line[256];
    long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof(line), f)) {
        if (strncmp(line, field, strlen(field)) == 0)
            kib = strtol(line + strlen(field) + 1, NULL, 10);
    }
    if (f)
        fclose(f);
    return kib;
}

// "FILE:2x3"; "FILE:" is a scalar.
static struct engine_data read_input(char *word)
{
    struct engine_data x = {.rank = 0};
    char *shape = strrchr(word, ':');
    if (!shape)
        abort();
    *shape++ = '\0';
    x.data = read_file(word, &x.bytes);
    for (; *shape && x.rank < ENGINE_MAX_RANK; shape += *shape == 'x')
        x.shape[x.rank++] = strtoll(shape, &shape, 10);
    return x;
}

static double sum_of(const struct engine_data *out, enum engine_dtype d)
{
    double sum = 0;
    for (size_t i = 0; d == ENGINE_F32 && i < out->bytes / 4; i++)
        sum += (double)((const float *)out->data)[i];
    return sum;
}

static int one(unsigned n, char **words)
{
    struct engine_data x[MAX_PORTS], out[MAX_PORTS];
    struct engine_error e = {""};
    size_t bytes;
    seconds_per_cell = atof(words[0]);
    for (unsigned k = 0; k + 2 < n && k < MAX_PORTS; k++)
        x[k] = read_input(words[k + 2]);
    struct engine *engine = engine_new(cpu_device_new((struct cpu_options){.threads = 1}), NULL,
                                       (struct engine_limits){0}, &e);
    long before = status_kib("VmRSS");
    double start = cpu_s();
    char *onnx = read_file(words[1], &bytes);
    struct engine_model *m = onnx ? engine_model_load(engine, view_of(onnx, bytes), 64, &e) : NULL;
    mem_free(onnx);
    struct engine_instance *in = m ? engine_instance_new(m, &e) : NULL;
    double loaded = cpu_s();
    if (!in || !engine_run(in, x, out, &e)) {
        fprintf(stderr, "%s: %s\n", words[1], e.text);
        return 1;
    }
    double first = cpu_s(), sum = sum_of(out, engine_model_output(m, 0)->dtype);
    long grown = status_kib("VmHWM") - before;
    printf("load_us %.1f first_us %.1f run_us %.3f kib %ld sum %.9g\n", (loaded - start) * 1e6,
           (first - loaded) * 1e6, measure(in, x, 1), grown, sum);
    return 0;
}

static void both(const char *path, const char *name, const struct lengths *l)
{
    for (unsigned library = 0; library < 2; library++) {
        struct engine_error e;
        struct device *d = cpu_device_new((struct cpu_options){.threads = 1, .plain = !library});
        struct engine *engine = engine_new(d, NULL, (struct engine_limits){0}, &e);
        if (!engine)
            abort();
        row_of(engine, path, name, l, library);
        engine_free(engine);
    }
}

int main(int argc, char **argv)
{
    static const char *const own[] = {"digits", "digits-small"};
    static const struct {
        const char *name;
        struct lengths lengths;
    } reference[] = {
        {"iris_logreg", {0}},          {"digits_mlp", {0}},          {"mnist_cntk", {0}},
        {"resnet8_cifar10", {0}},      {"ad01_autoencoder", {0}},    {"ultraface_rfb320", {0}},
        {"credit_gbt", {0}},           {"banking77_lsa", {1, {14}}}, {"magika_v3_3", {0}},
        {"ppocr_cls", {2, {48, 192}}}, {"ppocr_rec", {1, {160}}},    {"ppocr_det", {2, {96, 320}}}};
    const struct lengths none = {0};
    const char *shared = getenv("SLUICE_SHARED");
    char path[512];
    if (argc > 3 && strcmp(argv[1], "--one") == 0)
        return one((unsigned)argc - 2, argv + 2);
    if (argc > 1)
        seconds_per_cell = atof(argv[1]);
    printf("| model | kernels | 1 row | 8 | 32 | 64 |\n|---|---|---|---|---|---|\n");
    for (int i = 2; i < argc; i++)
        both(argv[i], argv[i], &none);
    for (unsigned i = 0; argc <= 2 && i < sizeof(own) / sizeof(own[0]); i++) {
        snprintf(path, sizeof(path), "models/%s/1/model.onnx", own[i]);
        both(path, own[i], &none);
    }
    for (unsigned i = 0; argc <= 2 && i < sizeof(reference) / sizeof(reference[0]); i++) {
        snprintf(path, sizeof(path), "%s/models/%s/model.onnx", shared ? shared : "../shared",
                 reference[i].name);
        both(path, reference[i].name, &reference[i].lengths);
    }
    return 0;
}
