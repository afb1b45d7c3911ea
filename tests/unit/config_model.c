// config.pbtxt: text protobuf, what we follow of it, and what is refused with which line.
#include "base/mem.h"
#include "base/pbtxt.h"
#include "config/model.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// cmocka wants the four above before it
#include <cmocka.h>

static struct arena arena;

static int setup(void **state)
{
    (void)state;
    arena_init(&arena, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_deinit(&arena);
    return 0;
}

static const struct model_settings *good(const char *text)
{
    struct model_settings_error e;
    const struct model_settings *c = model_settings_parse(view_str(text), &arena, &e);
    if (!c)
        fail_msg("line %u: %s", e.line, e.text);
    return c;
}

static void bad(struct view text, unsigned line, const char *why)
{
    struct model_settings_error e = {0};
    if (model_settings_parse(text, &arena, &e))
        fail_msg("taken: %.*s", VIEW_ARG(text));
    if (e.line != line || !strstr(e.text, why))
        fail_msg("%.*s: want line %u: %s; got line %u: %s", VIEW_ARG(text), line, why, e.line,
                 e.text);
}

// Every way to write a thing that people use.
static void syntax(void **state)
{
    (void)state;
    static const char *const same[] = {
        "input [ { name: \"x\" dims: [ 1, 2 ] } ]",
        "input { name: 'x', dims: 1; dims: 2; }",
        "input: { name: \"\\x78\" dims: [1,2] }",
        "input: < name: \"\" \"x\" \n '' dims: [1] dims: [2] > # a comment",
        "# first\ninput:[{name:\"\\170\"dims:1 dims:2}]",
        "input { name: \"\" # and\n \"x\" dims: [ ] dims: [ 1 # one\n , 2 ] }",
    };
    for (unsigned i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
        const struct model_settings *c = good(same[i]);
        assert_int_equal(c->n_inputs, 1);
        assert_string_equal(c->inputs[0].name, "x");
        assert_int_equal(c->inputs[0].rank, 2);
        assert_int_equal(c->inputs[0].dims[1], 2);
    }
    assert_string_equal(good("name: \"a\\tb\\\\\\\"\\n\"")->name, "a\tb\\\"\n");
}

static void what_is_followed(void **state)
{
    (void)state;
    const struct model_settings *c = good(
        "name: \"m\" platform: \"onnxruntime_onnx\" backend: \"onnxruntime\"\n"
        "max_batch_size: 32 default_model_filename: \"net.onnx\"\n"
        "input [ { name: \"a\" data_type: TYPE_STRING dims: -1 }, { name: \"b\" } ]\n"
        "output { name: \"y\" data_type: TYPE_BF16 dims: [ 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13,"
        " 14, 15, 16, 17 ] label_filename: \"l.txt\" }\n"
        "dynamic_batching { preferred_batch_size: [ 16, 4 ] max_queue_delay_microseconds: 100\n"
        "  preserve_ordering: false }\n"
        "instance_group [ { count: 2 kind: KIND_CPU }, { kind: KIND_AUTO } ]\n"
        "version_policy { specific { versions: [ 3, 1 ] } }\n"
        "model_warmup { name: \"w\" batch_size: 4 count: 3 inputs { key: \"a\" value {\n"
        "  data_type: TYPE_STRING dims: 7 zero_data: true } } }\n"
        "optimization { execution_accelerators { gpu_execution_accelerator: [ { name: \"t\" } ] } "
        "}");
    assert_string_equal(c->file, "net.onnx");
    assert_true(c->batch_said);
    assert_int_equal(c->max_batch, 32);
    assert_int_equal(c->n_inputs, 2);
    assert_string_equal(c->inputs[0].dtype, "BYTES");
    assert_false(c->inputs[1].shaped);
    assert_string_equal(c->outputs[0].dtype, "BF16");
    assert_int_equal(c->outputs[0].rank, 16);
    assert_int_equal(c->outputs[0].dims[15], 17);
    assert_int_equal(c->max_wait_us, 100);
    assert_int_equal(c->preferred[0], 4);
    assert_int_equal(c->preferred[1], 16);
    assert_int_equal(c->instances, 3);
    assert_int_equal(c->versions, MODEL_SPECIFIC);
    assert_int_equal(c->n_specific, 2);
    assert_int_equal(c->warmups[0].runs, 3);
    assert_int_equal(c->warmups[0].batch, 4);
    assert_int_equal(c->warmups[0].inputs[0].shape.dims[0], 7);
    assert_string_equal(c->ignored, "output.label_filename (line 4), optimization (line 11)");
    c = good("");
    assert_false(c->batch_said);
    assert_int_equal(c->versions, MODEL_LATEST);
    assert_int_equal(c->latest, 1);
    assert_null(c->ignored);
}

static void what_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        unsigned line;
        const char *why;
    } rows[] = {
        {"max_batch_size 8", 1, "expected : or {"},
        {"\n\nmax_batch_size: eight", 3, "max_batch_size: expected 0 to 65536, got eight"},
        {"max_batch_size: 70000", 1, "expected 0 to 65536"},
        {"max_batch_size: 8.5", 1, "got 8.5"},
        {"max_batch_size: \"8\"", 1, "max_batch_size: expected a word or number"},
        {"max_batch_size: 8\nmax_batch_size: 8", 2, "max_batch_size: stands there twice"},
        {"max_batch_size:\n", 2, "expected a value"},
        {"name: m", 1, "name: expected a string in quotes"},
        {"name: \"m", 1, "not closed"},
        {"name: \"m\n\"", 1, "not closed on its line"},
        {"name: \"\\q\"", 1, "escape"},
        {"name: \"\\777\"", 1, "escape"},
        {"name: \"a\\0b\"", 1, "has a zero byte"},
        {"nam: \"m\"", 1, "unknown field \"nam\""},
        {"dynamic_batching { max_delay: 1 }", 1, "unknown field \"dynamic_batching.max_delay\""},
        {"input { data_type: TYPE_FP32 }", 1, "input: has no name"},
        {"input { name: \"x\"\n data_type: FP32 }", 2, "data_type: expected TYPE_FP32 or"},
        {"input { name: \"x\" dims: [ 1, 0 ] }", 1, "dims: expected -1, or 1 and more"},
        {"input { name: \"x\" dims: [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1] }", 1,
         "dims: expected at most 16"},
        {"input { name: \"x\" reshape { shape: [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1] } }", 1,
         "reshape: expected at most 16"},
        {"input { name: \"x\" } input { name: \"y\" }\ninput { name: \"x\" }", 2,
         "input \"x\": stands there twice"},
        {"output [ { name: \"x\" },\n{ name: \"x\" } ]", 2, "output \"x\": stands there twice"},
        {"model_warmup { inputs { key: \"x\" value { data_type: TYPE_FP32 dims: 1 } }\n"
         "inputs { key: \"x\" value { data_type: TYPE_FP32 dims: 1 } } }",
         2, "model_warmup.inputs \"x\": stands there twice"},
        {"input [ { name: \"x\" }", 1, "expected , or ]"},
        {"input { name: \"x\" } }", 1, "expected a field's name"},
        {"[com.example.x]: 1", 1, "extensions"},
        {"instance_group { count: 0 }", 1, "count: expected 1 to 256"},
        {"instance_group [ { count: 200 }, { count: 200 } ]", 1, "more than 256"},
        {"instance_group { kind: KIND_TPU }", 1, "kind: expected KIND_AUTO"},
        {"version_policy { all { } latest { } }", 1, "expected one of"},
        {"version_policy { latest { num_versions: 0 } }", 1, "num_versions: expected 1"},
        {"default_model_filename: \"../m.onnx\"", 1, "without folders"},
        {"default_model_filename: \".\"", 1, "without folders"},
        {"model_warmup { inputs { key: \"x\" } }", 1, "expected a key and a value"},
        {"model_warmup { inputs { key: \"x\" value { data_type: TYPE_FP32 dims: -1 } } }", 1,
         "dims: expected 1 and more"},
        {"model_warmup { count: 4294967296 }", 1, "count: expected 0 to 1000"},
        {"\x08\x01\x12\x03", 1, "this is not text"},
        {"# a comment\n\xff\xfe", 2, "this is not text"},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        bad(view_str(rows[i].text), rows[i].line, rows[i].why);
    bad(VIEW("max_batch_size: 8\n\0"), 2, "this is not text");
}

// Time and memory are bounded whatever comes.
static void hostile(void **state)
{
    (void)state;
    size_t n = PBTXT_MAX_BYTES;
    char *text = mem_must(n + 1);
    for (size_t i = 0; i < n; i++)
        text[i] = "a{"[i % 2];
    bad(view_of(text, n), 1, "nested too deep");
    for (size_t i = 0; i < n; i++)
        text[i] = "a:1 "[i % 4];
    bad(view_of(text, n), 1, "too many fields");
    memcpy(text, "name:", 5);
    for (size_t i = 5; i < n; i++)
        text[i] = "\"\""[i % 2];
    bad(view_of(text, n), 1, "a string is not closed");
    memset(text, '\n', n);
    bad(view_of(text, n + 1), 0 + 1, "larger than 1 MiB");
    bad(view_of("x", 1), 1, "expected : or {");
    memset(text, '[', n);
    bad(view_of(text, n), 1, "extensions");
    memcpy(text, "input:", 6);
    bad(view_of(text, n), 1, "expected a value");
    mem_free(text);
}

static void cut_anywhere(void **state)
{
    (void)state;
    static const char whole[] =
        "input [ { name: \"x\" dims: [ 1, -2e+3 ] } ] parameters { key: 'k' }";
    for (size_t n = 0; n < sizeof(whole); n++) {
        struct pbtxt_error e = {0};
        char *exact = mem_must(n + 1); // so that a read past the end is seen
        memcpy(exact, whole, n);
        struct pbtxt_field *f = pbtxt_parse(view_of(exact, n), &arena, &e);
        if (!f)
            assert_true(e.line == 1 && e.text);
        mem_free(exact);
    }
}

// Without memory at the n-th try: refused, nothing else.
static void out_of_memory(void **state)
{
    (void)state;
    struct model_settings_error e;
    const struct model_settings *c = NULL;
    for (unsigned k = 1; !c; k++) {
        arena_deinit(&arena);
        arena_init(&arena, 64);
        mem_fail_at(k);
        c = model_settings_parse(VIEW("input { name: \"x\" dims: 1 } parameters { key: \"k\" }"),
                                 &arena, &e);
        mem_fail_at(0);
        assert_true(c || strcmp(e.text, "out of memory") == 0);
    }
    assert_int_equal(c->n_inputs, 1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(syntax),  TEST(what_is_followed), TEST(what_is_refused),
        TEST(hostile), TEST(cut_anywhere),     TEST(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
