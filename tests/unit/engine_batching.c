// Which models share batches, and what an instance makes ready. Rows that influence each other, of any
// datatype, are found at load; a batch gives each row what it gets alone.
#include "base/mem.h"
#include "engine/engine.h"
#include "tests/unit/engine_kit.h"

#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

enum { F32 = 1, U8 = 2, I8 = 3, I32 = 6, I64 = 7, BOOL = 9, F64 = 11 };
enum { COLS = 16 };

static struct engine_error e;

static void shape_constant(struct msg *g, const char *name, int64_t a, int64_t b)
{
    int64_t dims[1] = {2}, v[2] = {a, b};
    msg_msg(g, GRAPH_CONSTANTS, onnx_tensor(name, ONNX_I64, dims, 1, v, sizeof(v)));
}

static struct engine_model *load_at(struct msg graph, uint32_t max_batch)
{
    struct msg file = onnx_model(graph, 13);
    struct engine_model *m =
        engine_model_load(engine_any(false), view_of(file.p, file.n), max_batch, &e);
    free(file.p);
    if (!m)
        fail_msg("%s", e.text);
    return m;
}

// x [-1, COLS] -> the nodes that add() puts there -> y
static struct engine_model *load(unsigned type, void (*add)(struct msg *g), uint32_t max_batch)
{
    int64_t dims[2] = {-1, COLS};
    struct msg g = {0};
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", type, dims, 2));
    add(&g);
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", type, NULL, 0));
    return load_at(g, max_batch);
}

// [n, COLS] read as [COLS, n] and turned: a row for each row, made of all rows.
static void mixes(struct msg *g)
{
    shape_constant(g, "turned", COLS, -1);
    msg_msg(g, GRAPH_NODES, onnx_node("Reshape", "x,turned", "r"));
    msg_msg(g, GRAPH_NODES, onnx_node("Transpose", "r", "y"));
}

static void only_passes(struct msg *g)
{
    msg_msg(g, GRAPH_NODES, onnx_node("Identity", "x", "y"));
}

static void softmax_over_rows(struct msg *g)
{
    struct msg n = onnx_node("Softmax", "x", "y");
    onnx_int(&n, "axis", 0);
    msg_msg(g, GRAPH_NODES, n);
}

static void expect_single(struct engine_model *m, const char *why)
{
    assert_int_equal(engine_model_max_batch(m), 0);
    assert_non_null(strstr(engine_model_single_reason(m), why));
    engine_model_free(m);
}

static void rows_that_influence_each_other(void **state)
{
    (void)state;
    static const unsigned types[] = {F32, U8, I8, I32, I64, BOOL, F64};
    for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        expect_single(load(types[i], mixes, 8), "random rows give in a batch");
    expect_single(load(F32, softmax_over_rows, 8), "random rows give in a batch");
}

static void rows_that_do_not(void **state)
{
    (void)state;
    static const unsigned types[] = {F32, U8, I8, I32, I64, BOOL, F64};
    for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        struct engine_model *m = load(types[i], only_passes, 8);
        assert_int_equal(engine_model_max_batch(m), 8);
        assert_int_equal(engine_model_max_rows(m), 8);
        assert_null(engine_model_single_reason(m));
        engine_model_free(m);
    }
}

static void more_rows_than_it_takes(void **state)
{
    (void)state;
    static const float x[9 * COLS];
    struct engine_model *m = load(F32, softmax_over_rows, 8);
    struct engine_instance *i = engine_instance_new(m, &e);
    struct engine_data in = {x, sizeof(x), 2, {9, COLS}}, out;
    assert_int_equal(engine_model_max_rows(m), 8);
    assert_false(engine_run(i, &in, &out, &e));
    assert_string_equal(e.text, "expected at most 8 rows, got 9");
    in = (struct engine_data){x, 8 * COLS * sizeof(float), 2, {8, COLS}};
    assert_true(engine_run(i, &in, &out, &e));
    engine_instance_free(i);
    engine_model_free(m);
}

// After warm() neither one row nor the largest batch asks for memory.
static void warm_instances(void **state)
{
    (void)state;
    static const float x[64 * COLS];
    static const int64_t rows[] = {1, 64};
    struct engine_model *m = load(F32, only_passes, 64);
    struct engine_instance *i = engine_instance_new(m, &e);
    struct engine_data out;
    assert_true(engine_instance_warm(i, &e));
    uint64_t before = mem_count();
    for (unsigned k = 0; k < 2; k++) {
        struct engine_data in = {x, (size_t)rows[k] * COLS * sizeof(float), 2, {rows[k], COLS}};
        assert_true(engine_run(i, &in, &out, &e));
    }
    assert_int_equal(mem_count(), before);
    engine_instance_free(i);
    engine_model_free(m);
}

static void warm_without_memory(void **state)
{
    (void)state;
    struct engine_model *m = load(I64, only_passes, 8);
    bool ok = false;
    for (unsigned nth = 1; !ok && nth < 1000; nth++) {
        struct engine_instance *i = engine_instance_new(m, &e);
        assert_non_null(i);
        e.text[0] = '\0';
        mem_fail_at(nth);
        ok = engine_instance_warm(i, &e);
        mem_fail_at(0);
        assert_true(ok || strstr(e.text, "out of memory"));
        engine_instance_free(i);
    }
    assert_true(ok);
    engine_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_that_influence_each_other),
        cmocka_unit_test(rows_that_do_not),
        cmocka_unit_test(more_rows_than_it_takes),
        cmocka_unit_test(warm_instances),
        cmocka_unit_test(warm_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
