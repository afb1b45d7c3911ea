/* worker/repository: what a directory must look like, and what is said where it does not. The models are the
 * demo models of models/, copied to a directory of our own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/mem.h"
#include "engine/cpu/device.h"
#include "worker/repository.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
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
    int status = repository_load(&repo, engine(), dir, max_batch, 1, why);
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
    assert_int_equal(repository_load(&repo, engine(), path, 64, 1, why), -1);
    snprintf(want, sizeof(want), "repository %s: No such file or directory", path);
    assert_string_equal(why, want);
    put_text("file", "");
    snprintf(path, sizeof(path), "%s/file", dir);
    assert_int_equal(repository_load(&repo, engine(), path, 64, 1, why), -1);
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
    expect_said("\"model\":\"b ad\",\"version\":\"\",\"why\":\"name: expected [A-Za-z0-9._-]");
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
    sh("ln -s /dev/zero %s/link/1/model.onnx && ln -s 1 %s/link/2", dir, dir);
    load(64);
    assert_int_equal(repo.n, 2);
    assert_int_equal(repo.n_refused, 6);
    assert_string_equal(repo.refused->name, "fifo");
    assert_string_equal(repo.refused->version, "1");
    assert_string_equal(repo.refused->why, "model.onnx: not a regular file");
    expect_said("\"model\":\"junk\",\"version\":\"1\"");
    expect_said("\"model\":\"half\",\"version\":\"2\"");
    expect_said(
        "\"model\":\"none\",\"version\":\"1\",\"why\":\"model.onnx: No such file or directory\"");
    expect_said("\"model\":\"fifo\",\"version\":\"1\",\"why\":\"model.onnx: not a regular file\"");
    expect_said("\"model\":\"link\",\"version\":\"1\",\"why\":\"model.onnx: Too many levels");
    expect_said("\"model\":\"link\",\"version\":\"2\",\"why\":\"Not a directory\"");
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
    expect_said("\"model\":\"link\",\"version\":\"\",\"why\":\"config.json: Too many levels");
    expect_said("\"model\":\"large\",\"version\":\"\",\"why\":\"config.json: too large\"");
    assert_int_equal(repo.n, 3);
    assert_int_equal(batch_of("large"), 8);
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
    };
    alarm(300); // a FIFO that nobody writes to must not hold us up
    return cmocka_run_group_tests(tests, NULL, NULL);
}
