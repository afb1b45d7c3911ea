/* worker/repository: what a directory must look like, and what is said where it does not. The models are the
 * demo models of models/, copied to a directory of our own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/mem.h"
#include "engine/cpu/device.h"
#include "worker/files.h"
#include "worker/repository.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[64], said[65536];
static struct repository repo;

static struct engine *engine(void)
{
    static struct engine *one;
    struct engine_error e;
    if (!one)
        one = engine_new(cpu_device_new((struct cpu_options){0}), NULL, (struct engine_limits){0},
                         &e);
    assert_non_null(one);
    return one;
}

static struct repository_options options(uint32_t max_batch)
{
    return (struct repository_options){.max_batch = max_batch, .instances = 1, .threads = 2};
}

static void sh(const char *format, ...)
{
    char command[512];
    va_list args;
    va_start(args, format);
    vsnprintf(command, sizeof(command), format, args);
    va_end(args);
    assert_int_equal(system(command), 0);
}

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/sluice-repository-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    repository_free(&repo);
    repo = (struct repository){0};
    sh("rm -r %s", dir);
    return 0;
}

// Loads `dir` and keeps what was said on standard error.
static void load(uint32_t max_batch)
{
    char why[256] = "", path[96];
    snprintf(path, sizeof(path), "%s.said", dir);
    fflush(stderr);
    int kept = dup(STDERR_FILENO), fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0 && dup2(fd, STDERR_FILENO) >= 0);
    int status = repository_load(&repo, engine(), dir, options(max_batch), why);
    dup2(kept, STDERR_FILENO);
    ssize_t n = pread(fd, said, sizeof(said) - 1, 0);
    said[n > 0 ? n : 0] = '\0';
    close(fd);
    close(kept);
    unlink(path);
    if (status != 0)
        fail_msg("%s", why);
}

static void expect_said(const char *text)
{
    if (!strstr(said, text))
        fail_msg("want: %s\ngot: %s", text, said);
}

static void put_model(const char *name, const char *version)
{
    sh("mkdir -p %s/%s/%s && cp models/digits-small/1/model.onnx %s/%s/%s/", dir, name, version,
       dir, name, version);
}

static void put_text(const char *file, const char *text)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", dir, file);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0 && fclose(f) == 0);
}

static struct served *find(struct view name, struct view version)
{
    struct error e;
    struct served *s = repository_find(&repo, name, version, &e);
    if (!s)
        assert_int_equal(e.status, STATUS_NOT_FOUND);
    return s;
}

static uint32_t batch_of(const char *name)
{
    const struct served *s = find(view_str(name), VIEW(""));
    assert_non_null(s);
    return s->meta.max_batch;
}

static void a_missing_directory(void **state)
{
    (void)state;
    char why[256] = "", path[128], want[256];
    snprintf(path, sizeof(path), "%s/none", dir);
    assert_int_equal(repository_load(&repo, engine(), path, options(64), why), -1);
    snprintf(want, sizeof(want), "repository %s: No such file or directory", path);
    assert_string_equal(why, want);
    put_text("file", "");
    snprintf(path, sizeof(path), "%s/file", dir);
    assert_int_equal(repository_load(&repo, engine(), path, options(64), why), -1);
    assert_non_null(strstr(why, "Not a directory"));
}

static void versions(void **state)
{
    (void)state;
    put_model("m", "9");
    put_model("m", "10");
    put_model("m", "2");
    put_model("m", "latest"); // no version: passed over
    put_model("other", "1");
    sh("mkdir %s/empty %s/.git && touch %s/README.md && ln -s nowhere %s/lost", dir, dir, dir, dir);
    load(64);
    assert_int_equal(repo.n, 4);
    assert_int_equal(repo.n_refused, 2); // README.md is no model, and nobody thought it one
    expect_said("\"model\":\"empty\",\"version\":\"\",\"why\":\"it has no version: expected a "
                "directory 1 with model.onnx\"");
    expect_said("\"model\":\"lost\",\"version\":\"\",\"why\":\"No such file or directory\"");
    assert_null(strstr(said, ".git"));
    assert_null(strstr(said, "README"));
    assert_string_equal(find(VIEW("m"), VIEW(""))->version, "10");
    assert_string_equal(find(VIEW("m"), VIEW("2"))->version, "2");
    assert_null(find(VIEW("m"), VIEW("3")));
    assert_null(find(VIEW("m"), VIEW("latest")));
    assert_null(find(VIEW("empty"), VIEW("")));
    const struct served *s = find(VIEW("m"), VIEW("9"));
    assert_int_equal(s->meta.n_versions, 3);
    assert_true(view_is(s->meta.versions[0], "10") && view_is(s->meta.versions[2], "2"));
    assert_int_equal(s->meta.n_inputs, 1);
    assert_true(view_is(s->meta.inputs[0].name, "input") && s->meta.inputs[0].shape[1] == 64);
}

// Row 120: a name that no request could ask for is no model.
static void names(void **state)
{
    (void)state;
    put_model("good-1.0_x", "1");
    put_model("b\\ ad", "1");
    put_model(".hidden", "1");
    sh("mkdir %s/.git %s/_", dir, dir);
    load(64);
    assert_non_null(find(VIEW("good-1.0_x"), VIEW("")));
    assert_null(find(VIEW("b ad"), VIEW("")));
    expect_said("\"model\":\"b ad\",\"version\":\"\",\"why\":\"name: expected [A-Za-z0-9._+@~-]");
    assert_null(strstr(said, ".git"));
}

// The highest are served, whatever order the directory has them in, and the others are told.
static void many_versions(void **state)
{
    (void)state;
    char version[16];
    for (unsigned v = 1; v <= 20; v++) {
        snprintf(version, sizeof(version), "%u", v);
        put_model("m", version);
    }
    put_model("zeros", "007"); // as Triton: no version
    put_model("few", "1");
    load(64);
    assert_string_equal(find(VIEW("m"), VIEW(""))->version, "20");
    assert_non_null(find(VIEW("m"), VIEW("13")));
    assert_null(find(VIEW("m"), VIEW("12")));
    assert_int_equal(repo.n, REPOSITORY_VERSIONS + 1);
    assert_null(find(VIEW("zeros"), VIEW("")));
    expect_said("\"event\":\"versions_left_out\",\"model\":\"m\",\"version\":\"12\",\"why\":"
                "\"the 8 highest of 20 versions are served\"");
}

static struct tensor tensor(int64_t rows)
{
    return (struct tensor){.name = VIEW("input"),
                           .dtype = DT_FP32,
                           .rank = 2,
                           .shape = {rows, 64},
                           .bytes = (size_t)rows * 256};
}

static void check_fit(const struct infer_request *q, enum status status, const char *text)
{
    struct error e = {0};
    const struct tensor *in[1];
    const struct served *s = find(q->model, VIEW(""));
    bool fits = served_inputs(s, q, in, &e);
    assert_int_equal(fits, status == STATUS_OK);
    assert_int_equal(e.status, status);
    assert_string_equal(e.text, text);
}

static void what_fits_a_model(void **state)
{
    (void)state;
    put_model("batched", "1");
    put_model("single", "1");
    put_text("single/config.json", "{\"max_batch_size\": 0}");
    load(8);
    assert_int_equal(batch_of("single"), 0);
    expect_said("served singly: its max_batch_size is 0");
    struct tensor t = tensor(8);
    struct requested_output o = {.name = VIEW("probabilities")};
    struct infer_request q = {
        .model = VIEW("batched"), .inputs = &t, .n_inputs = 1, .outputs = &o, .n_outputs = 1};
    check_fit(&q, STATUS_OK, "");
    t = tensor(9);
    check_fit(&q, STATUS_BAD_REQUEST, "inputs: expected at most 8 rows for model batched, got 9");
    q.model = VIEW("single"); // not batched, and yet a request may have rows
    check_fit(&q, STATUS_OK, "");
    t = tensor(65);
    check_fit(&q, STATUS_BAD_REQUEST, "inputs: expected at most 64 rows for model single, got 65");
    t = tensor(1);
    o.classification = 3;
    check_fit(&q, STATUS_UNSUPPORTED,
              "outputs[0].parameters.classification: expected none (model single is served as "
              "tensors only), got 3");
    o = (struct requested_output){.name = VIEW("hunter2")};
    check_fit(&q, STATUS_BAD_REQUEST,
              "outputs[0].name: expected an output of model single (it has probabilities), got "
              "another");
}

static void refused_ones_leave_the_others(void **state)
{
    (void)state;
    put_model("good", "1");
    put_model("junk", "1");
    put_text("junk/1/model.onnx", "junk");
    put_model("half", "1");
    put_model("half", "2");
    sh("truncate -s 1000 %s/half/2/model.onnx", dir);
    sh("mkdir -p %s/none/1 %s/fifo/1 %s/link/1 && mkfifo %s/fifo/1/model.onnx", dir, dir, dir, dir);
    sh("ln -s /dev/zero %s/link/1/model.onnx && ln -s %s/good/1 %s/link/2", dir, dir, dir);
    sh("ln -s ../half/1 %s/link/3", dir);
    load(64);
    assert_int_equal(repo.n, 3);
    assert_int_equal(repo.n_refused, 6);
    assert_string_equal(repo.refused->name, "fifo");
    assert_string_equal(repo.refused->version, "1");
    assert_string_equal(repo.refused->why, "model.onnx: not a regular file");
    expect_said("\"model\":\"junk\",\"version\":\"1\"");
    expect_said("\"model\":\"half\",\"version\":\"2\"");
    expect_said(
        "\"model\":\"none\",\"version\":\"1\",\"why\":\"model.onnx: No such file or directory\"");
    expect_said("\"model\":\"fifo\",\"version\":\"1\",\"why\":\"model.onnx: not a regular file\"");
    // An absolute link leads out even where its end lies within: the root may be mounted elsewhere.
    expect_said(
        "\"model\":\"link\",\"version\":\"1\",\"why\":\"model.onnx: a link leads out of the "
        "repository\"");
    expect_said(
        "\"model\":\"link\",\"version\":\"2\",\"why\":\"a link leads out of the repository\"");
    assert_string_equal(find(VIEW("link"), VIEW(""))->version, "3");
    assert_string_equal(find(VIEW("half"), VIEW(""))->version, "1");
}

static void config_json(void **state)
{
    (void)state;
    static const struct {
        const char *text, *why;
        uint32_t batch; // what is served then
    } rows[] = {
        {"{}", NULL, 64},
        {"{\"max_batch_size\": 16}", NULL, 16},
        {"{\"max_batch_size\": 0}", NULL, 0},
        {"{\"max_batch_size\": 65536, \"platform\": \"onnx\"}", NULL, 65536},
        {"{\"max_batch_size\": 65537}", "max_batch_size: expected 0 to 65536, got 65537", 64},
        {"{\"max_batch_size\": -1}", "max_batch_size: expected 0 to 65536, got -1", 64},
        {"{\"max_batch_size\": \"8\"}", "max_batch_size: expected 0 to 65536, got \\\"8\\\"", 64},
        {"{\"max_batch_size\": 8.0}", "max_batch_size: expected 0 to 65536, got 8.0", 64},
        {"{\"max_batch_size\": null}", "max_batch_size: expected 0 to 65536, got null", 64},
        {"{\"max_batch_size\": 1, \"max_batch_size\": 2}", "duplicate", 64},
        {"{ not json", "config.json:1: ", 64},
        {"", "config.json:1: ", 64},
        {"[16]", "config.json: expected an object", 64},
        {"16", "config.json: expected an object", 64},
    };
    enum { N = sizeof(rows) / sizeof(rows[0]) };
    char name[32], file[64], want[256];
    for (unsigned i = 0; i < N; i++) {
        snprintf(name, sizeof(name), "m%02u", i);
        snprintf(file, sizeof(file), "m%02u/config.json", i);
        put_model(name, "1");
        put_text(file, rows[i].text);
    }
    load(64);
    assert_int_equal(repo.n, N);
    for (unsigned i = 0; i < N; i++) {
        snprintf(name, sizeof(name), "m%02u", i);
        if (batch_of(name) != rows[i].batch)
            fail_msg("%s: batches of %u", rows[i].text, batch_of(name));
        snprintf(want, sizeof(want), "\"event\":\"model_config_ignored\",\"model\":\"%s\"", name);
        char *line = strstr(said, want), *end = line ? strchr(line, '\n') : NULL;
        if ((line != NULL) != (rows[i].why != NULL))
            fail_msg("%s: %s", rows[i].text, line ? line : "nothing was said");
        if (!line)
            continue;
        *end = '\0';
        if (!strstr(line, rows[i].why))
            fail_msg("%s: want %s, got %s", rows[i].text, rows[i].why, line);
        *end = '\n';
    }
}

static void files_that_are_no_config(void **state)
{
    (void)state;
    put_model("dir", "1");
    put_model("link", "1");
    put_model("large", "1");
    sh("mkdir %s/dir/config.json && ln -s /dev/zero %s/link/config.json", dir, dir);
    sh("truncate -s 2M %s/large/config.json", dir);
    load(8);
    expect_said("\"model\":\"dir\",\"version\":\"\",\"why\":\"config.json: not a regular file\"");
    expect_said("\"model\":\"link\",\"version\":\"\",\"why\":\"config.json: a link leads out of "
                "the repository");
    expect_said("\"model\":\"large\",\"version\":\"\",\"why\":\"config.json: too large\"");
    assert_int_equal(repo.n, 3);
    assert_int_equal(batch_of("large"), 8);
}

// ---- config.pbtxt ------------------------------------------------------------------------------------

static const char *model_log(const char *name, const char *event)
{
    static char line[1024];
    char want[256];
    snprintf(want, sizeof(want), "\"event\":\"%s\",\"model\":\"%s\"", event, name);
    const char *at = strstr(said, want);
    snprintf(line, sizeof(line), "%.*s", at ? (int)strcspn(at, "\n") : 0, at ? at : "");
    return line;
}

static void config_pbtxt(void **state)
{
    (void)state;
    static const struct {
        const char *text, *why; // why: what the log says of it
        int batch;              // -1: refused
    } rows[] = {
        {"", NULL, 64},
        {"max_batch_size: 8", NULL, 8},
        {"max_batch_size: 0", NULL, 0},
        {"name: \"m03\" platform: \"onnxruntime_onnx\" max_batch_size: 4 input [ { name: \"input\" "
         "data_type: TYPE_FP32 dims: [ 64 ] } ] output { name: \"probabilities\" data_type: "
         "TYPE_FP32 dims: 10 }",
         NULL, 4},
        {"input { name: \"input\" data_type: TYPE_FP32 dims: [ -1, 64 ] }", NULL, 0},
        {"input { name: \"input\" data_type: TYPE_FP32 dims: [ 64 ] }", NULL, 64},
        {"max_batch_size: 8\noptimization { graph { level: 1 } }\nparameters { key: \"threads\" "
         "value { string_value: \"2\" } }",
         "optimization (line 2), parameters.threads (line 3)", 8},
        {"name: \"other\"", "config.pbtxt: name: expected m07, as its folder, got", -1},
        {"backend: \"python\"", "config.pbtxt: backend: expected onnxruntime, got", -1},
        {"platform: \"tensorrt_plan\"", "config.pbtxt: platform: expected onnxruntime_onnx", -1},
        {"max_batch_size: 8\n\nmax_batchsize: 4", "config.pbtxt:3: unknown field", -1},
        {"max_batch_size: 8\ninput {", "config.pbtxt:2: a message is not closed", -1},
        {"\x7f"
         "ELF",
         "config.pbtxt:1: this is not text", -1},
        {"max_batch_size: 8 input { name: \"x\" }", "input \\\"x\\\": the model has none such", -1},
        {"max_batch_size: 8\ninput {\nname: \"input\" data_type: TYPE_INT8 }",
         "config.pbtxt:2: input \\\"input\\\": data_type: the model has FP32, not INT8", -1},
        {"max_batch_size: 8 input { name: \"input\" dims: [ -1, 64 ] }",
         "dims: the model has [-1,64] with the batch in front, which dims leave out", -1},
        {"output { name: \"input\" }", "output \\\"input\\\": the model has none such", -1},
        {"default_model_filename: \"../1/model.onnx\"", "expected the name of a file", -1},
        {"default_model_filename: \"other.onnx\"", "other.onnx: No such file", -1},
        {"model_warmup { name: \"w\" batch_size: 2 inputs { key: \"input\" value { data_type: "
         "TYPE_FP32 dims: 64 random_data: true } } }",
         NULL, 64},
        {"model_warmup { name: \"w\" batch_size: 1 inputs { key: \"input\" value { data_type: "
         "TYPE_FP32 dims: 63 zero_data: true } } }",
         "model_warmup \\\"w\\\": input \\\"input\\\"", -1},
        {"model_warmup { name: \"w\" batch_size: 1 inputs { key: \"input\" value { data_type: "
         "TYPE_FP32 dims: 64 input_data_file: \"x\" } } }",
         "warmup/x: No such file", -1},
        // Sixteen, and the batch is one more.
        {"max_batch_size: 8 input { name: \"input\" dims: [ 1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1 ] }",
         "input \\\"input\\\": expected at most 16 dimensions, the batch among them, got 17", -1},
        {"max_batch_size: 8 output { name: \"probabilities\" dims: 10 reshape { shape: [ "
         "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1 ] } }",
         "output \\\"probabilities\\\": expected at most 16 dimensions", -1},
        {"model_warmup { name: \"w\" batch_size: 1 inputs { key: \"input\" value { data_type: "
         "TYPE_FP32 dims: [ 1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1 ] } } }",
         "model_warmup: input \\\"input\\\": expected at most 16 dimensions", -1},
        {"max_batch_size: 0 input { name: \"input\" dims: [ 1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1 ] }",
         "dims: the model has [-1,64]", -1},
    };
    enum { N = sizeof(rows) / sizeof(rows[0]) };
    char name[32], file[64];
    for (unsigned i = 0; i < N; i++) {
        snprintf(name, sizeof(name), "m%02u", i);
        snprintf(file, sizeof(file), "m%02u/config.pbtxt", i);
        put_model(name, "1");
        put_text(file, rows[i].text);
    }
    load(64);
    for (unsigned i = 0; i < N; i++) {
        snprintf(name, sizeof(name), "m%02u", i);
        const struct served *s = find(view_str(name), VIEW(""));
        const char *line =
            model_log(name, rows[i].batch < 0 ? "model_refused" : "model_config_not_followed");
        int batch = s ? (int)s->meta.max_batch : -1;
        if (batch != rows[i].batch)
            fail_msg("%s: batches of %d; %s", rows[i].text, batch, line);
        if (rows[i].why ? !strstr(line, rows[i].why) : line[0] != '\0')
            fail_msg("%s: want %s, got %s", rows[i].text, rows[i].why, line);
    }
}

static void config_json_goes_first(void **state)
{
    (void)state;
    put_model("both", "1");
    put_text("both/config.json", "{\"max_batch_size\": 2}");
    put_text("both/config.pbtxt", "max_batch_size: 8");
    load(64);
    assert_int_equal(batch_of("both"), 2);
    expect_said("config.pbtxt is not read: there is a config.json");
}

static void version_policies(void **state)
{
    (void)state;
    static const char *const policies[] = {"", "version_policy { latest { num_versions: 2 } }",
                                           "version_policy: { all { } }",
                                           "version_policy { specific { versions: [ 1, 3 ] } }",
                                           "version_policy { specific { versions: 9 } }"};
    static const char *const served[] = {"4", "4 3", "4 3 2 1", "3 1", ""};
    for (unsigned i = 0; i < 5; i++) {
        char name[8], version[8], file[32];
        snprintf(name, sizeof(name), "p%u", i);
        for (unsigned v = 1; v <= 4; v++) {
            snprintf(version, sizeof(version), "%u", v);
            put_model(name, version);
        }
        snprintf(file, sizeof(file), "%s/config.pbtxt", name);
        put_text(file, policies[i]);
    }
    load(64);
    for (unsigned i = 0; i < 5; i++) {
        char name[8], got[64] = "";
        snprintf(name, sizeof(name), "p%u", i);
        for (const struct served *s = repo.models; s; s = s->next) {
            if (strcmp(s->name, name) == 0)
                snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s%s", got[0] ? " " : "",
                         s->version);
        }
        assert_string_equal(got, served[i]);
    }
    expect_said("\"model\":\"p4\",\"version\":\"\",\"why\":\"config.pbtxt: version_policy: none");
}

static void instances_and_batching(void **state)
{
    (void)state;
    put_model("two", "1");
    put_text("two/config.pbtxt",
             "max_batch_size: 16 instance_group [ { count: 1 kind: KIND_CPU }, { "
             "count: 1 } ] dynamic_batching { preferred_batch_size: [ 8, 4 ] "
             "max_queue_delay_microseconds: 300 }");
    put_model("many", "1");
    put_text("many/config.pbtxt", "instance_group { count: 5 kind: KIND_GPU gpus: [ 0, 1 ] }");
    put_model("none", "1");
    load(64);
    const struct served *s = find(VIEW("two"), VIEW(""));
    assert_int_equal(s->n_instances, 2);
    assert_int_equal(s->batcher.policy.max_wait_us, 300);
    assert_int_equal(s->batcher.policy.n_preferred, 2);
    assert_int_equal(s->batcher.policy.preferred[0], 4);
    assert_int_equal(find(VIEW("none"), VIEW(""))->n_instances, 1);
    assert_int_equal(find(VIEW("many"), VIEW(""))->n_instances, 2);
    assert_int_equal(repo.instances, 2);
    expect_said("instance_group: 2 of 5 instances, as many as threads compute");
    expect_said("instance_group.kind KIND_GPU (line 1), instance_group.gpus (line 1)");
}

// ---- files -------------------------------------------------------------------------------------------

// A volume of Kubernetes: each name is a link into ..data, which is one to a folder of the day.
static void links_within(void **state)
{
    (void)state;
    put_model("..day/m", "1");
    sh("cd %s && ln -s ..day ..data && ln -s ..data/m m", dir);
    sh("mkdir -p %s/deep/1 && ln -s ../../..day/m/1/model.onnx %s/deep/1/model.onnx", dir, dir);
    load(64);
    assert_non_null(find(VIEW("m"), VIEW("")));
    assert_non_null(find(VIEW("deep"), VIEW("")));
    assert_int_equal(repo.n_refused, 0);
}

// Row 121: who cuts a file that is mapped gets a refusal, not a signal.
static void a_mapped_file_is_cut(void **state)
{
    (void)state;
    char why[256] = "", path[128];
    struct files_maps maps;
    struct files_place place = {.base = open(dir, O_RDONLY | O_DIRECTORY)};
    struct view all;
    unsigned sum = 0;
    snprintf(path, sizeof(path), "%s/w", dir);
    sh("head -c 100000 /dev/zero | tr '\\0' a > %s", path);
    files_maps_init(&maps, &place);
    assert_true(files_map(&maps, "w", &all, why));
    assert_int_equal(all.n, 100000);
    assert_int_equal(truncate(path, 0), 0);
    for (size_t i = 0; i < all.n; i += 512)
        sum += (unsigned char)all.p[i];
    assert_int_equal(sum, 0);
    assert_false(files_unmap(&maps));
    files_maps_init(&maps, &place);
    assert_true(files_map(&maps, "w", &all, why) && all.n == 0);
    assert_false(files_map(&maps, "../w", &all, why));
    assert_string_equal(why, "../w: a link leads out of the repository");
    assert_true(files_unmap(&maps));
    close(place.base);
}

// From here on this process is on a kernel without openat2.
static bool forget_openat2(void)
{
    struct sock_filter rows[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {.len = 4, .filter = rows};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

static int openable(const struct files_place *p, const char *name) // 0 or errno
{
    int fd = files_open(p, name, O_RDONLY);
    if (fd < 0)
        return errno;
    close(fd);
    return 0;
}

static unsigned wrong_without_openat2(const struct files_place *p)
{
    static const struct {
        const char *name;
        int error;
    } rows[] = {
        {"m/1/file", 0},
        {"m//1/file", 0},
        {"./m/./1/file", 0},
        {"..m/..file", 0},
        {"..", EXDEV},
        {"../outside", EXDEV},
        {"m/../../outside", EXDEV},
        {"m/..", EXDEV},
        {"m/1/../1/file", EXDEV},
        {"/etc/passwd", EXDEV},
        {"m/none", ENOENT},
        {"link/outside", ENOTDIR},
        {"m/link", ELOOP},
        {"m/1/file/x", ENOTDIR},
    };
    unsigned wrong = 0;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int error = openable(p, rows[i].name);
        if (error != rows[i].error)
            fprintf(stderr, "%s: want %s, got %s\n", rows[i].name, strerror(rows[i].error),
                    strerror(error));
        wrong += error != rows[i].error;
    }
    return wrong;
}

// Where the kernel has no openat2 nothing leads out of the repository either.
static void without_openat2(void **state)
{
    (void)state;
    int status = -1;
    sh("mkdir -p %s/r/m/1 %s/r/..m && touch %s/outside %s/r/m/1/file %s/r/..m/..file", dir, dir,
       dir, dir, dir);
    sh("ln -s .. %s/r/link && ln -s 1/file %s/r/m/link", dir, dir);
    char root[96];
    snprintf(root, sizeof(root), "%s/r", dir);
    struct files_place place = {.base = open(root, O_RDONLY | O_DIRECTORY)};
    pid_t child = fork();
    if (child == 0)
        _exit(forget_openat2() ? (int)wrong_without_openat2(&place) : 100);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    close(place.base);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_missing_directory),
        TEST(versions),
        TEST(names),
        TEST(refused_ones_leave_the_others),
        TEST(config_json),
        TEST(files_that_are_no_config),
        TEST(many_versions),
        TEST(what_fits_a_model),
        TEST(config_pbtxt),
        TEST(config_json_goes_first),
        TEST(version_policies),
        TEST(instances_and_batching),
        TEST(links_within),
        TEST(a_mapped_file_is_cut),
        TEST(without_openat2),
    };
    alarm(300); // a FIFO that nobody writes to must not hold us up
    return cmocka_run_group_tests(tests, NULL, NULL);
}
