// What a model holds: constants once in the form that its kernels want, shared by all nodes that want the
// same, the file's own form gone with its last reader; and all of it counted in the engine's limits.
#include "engine/engine.h"
#include "tests/unit/engine_kit.h"

#include <malloc.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define SIDE 512
#define MIB ((int64_t)1 << 20)
#define WEIGHTS (SIDE * SIDE * (int64_t)sizeof(float)) // 1 MiB

static struct engine_error e;

static struct msg graph_of_rows(void)
{
    int64_t row[2] = {-1, SIDE};
    struct msg g = {0};
    msg_msg(&g, GRAPH_INPUTS, onnx_value("v0", ONNX_F32, row, 2));
    return g;
}

static void weights(struct msg *g, const char *name, unsigned rank, const int64_t *dims)
{
    float *x = calloc((size_t)SIDE * SIDE, sizeof(*x));
    for (unsigned i = 0; i < SIDE; i++)
        x[i * SIDE + (i + 1) % SIDE] = 1; // y[i + 1] = x[i]
    msg_msg(g, GRAPH_CONSTANTS, onnx_tensor(name, ONNX_F32, dims, rank, x, (size_t)WEIGHTS));
    free(x);
}

static void square(struct msg *g, const char *name)
{
    weights(g, name, 2, (int64_t[]){SIDE, SIDE});
}

// v<at> -> v<at + 1> by a product with the constant.
static void product(struct msg *g, unsigned at, const char *constant, bool transposed)
{
    char in[32], out[16];
    snprintf(in, sizeof(in), "v%u,%s", at, constant);
    snprintf(out, sizeof(out), "v%u", at + 1);
    struct msg n = onnx_node("Gemm", in, out);
    onnx_int(&n, "transB", transposed);
    msg_msg(g, GRAPH_NODES, n);
}

// limit: of the engine, in bytes.
static struct engine_model *load(struct msg graph, uint32_t max_batch, int64_t limit,
                                 struct engine **engine)
{
    *engine = engine_with((struct cpu_options){0}, (struct engine_limits){.bytes = (size_t)limit});
    struct msg file = onnx_model(graph, 13);
    struct engine_model *m = engine_model_load(*engine, view_of(file.p, file.n), max_batch, &e);
    free(file.p);
    return m;
}

// Bytes that malloc has given out.
static int64_t heap(void)
{
    struct mallinfo2 all = mallinfo2();
    return (int64_t)(all.uordblks + all.hblkhd);
}

// What the loaded model adds to the heap.
static int64_t held_by(struct msg graph, struct engine_model **m)
{
    struct msg file = onnx_model(graph, 13);
    engine_any(false); // not in the difference
    int64_t before = heap();
    *m = engine_model_load(engine_any(false), view_of(file.p, file.n), 1, &e);
    if (!*m)
        fail_msg("%s", e.text);
    int64_t held = heap() - before;
    free(file.p);
    return held;
}

static void expect_about(int64_t held, int64_t want)
{
#ifdef SLUICE_ASAN
    return; // its malloc does not say
#endif
    if (held < want || held > want + MIB / 2)
        fail_msg("expected about %lld KiB, got %lld", (long long)want >> 10, (long long)held >> 10);
}

static void nodes_share_a_constant(void **state)
{
    (void)state;
    struct engine_model *m;
    struct msg g = graph_of_rows();
    square(&g, "w");
    for (unsigned i = 0; i < 40; i++)
        product(&g, i, "w", false);
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("v40", ONNX_F32, NULL, 0));
    expect_about(held_by(g, &m), WEIGHTS);
    engine_model_free(m);
}

static void a_copy_for_each_way_to_read_it(void **state)
{
    (void)state;
    struct engine_model *m;
    struct msg g = graph_of_rows();
    square(&g, "w");
    for (unsigned i = 0; i < 6; i++)
        product(&g, i, "w", i % 2);
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("v6", ONNX_F32, NULL, 0));
    expect_about(held_by(g, &m), 2 * WEIGHTS);
    // Turned forwards and back three times: what went in comes out.
    struct engine_instance *i = engine_instance_new(m, &e);
    float x[SIDE];
    struct engine_data in = {x, sizeof(x), 2, {1, SIDE}}, out;
    for (unsigned k = 0; k < SIDE; k++)
        x[k] = (float)k;
    assert_true(engine_run(i, &in, &out, &e));
    assert_memory_equal(out.data, x, sizeof(x));
    engine_instance_free(i);
    engine_model_free(m);
}

static void what_others_read_stays(void **state)
{
    (void)state;
    struct engine_model *m;
    struct msg g = graph_of_rows();
    square(&g, "w");
    product(&g, 0, "w", false);
    msg_msg(&g, GRAPH_NODES, onnx_node("Add", "v1,w", "sum"));
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("sum", ONNX_F32, NULL, 0));
    expect_about(held_by(g, &m), 2 * WEIGHTS);
    engine_model_free(m);
}

static void unread_constants_go(void **state)
{
    (void)state;
    struct engine_model *m;
    struct msg g = graph_of_rows();
    square(&g, "never read");
    msg_msg(&g, GRAPH_NODES, onnx_node("Relu", "v0", "y"));
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", ONNX_F32, NULL, 0));
    expect_about(held_by(g, &m), 0);
    engine_model_free(m);
}

static void convolutions_too(void **state)
{
    (void)state;
    struct engine_model *m;
    int64_t image[4] = {-1, SIDE, 4, 4}, w[4] = {SIDE, SIDE, 1, 1};
    struct msg g = {0};
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", ONNX_F32, image, 4));
    weights(&g, "w", 4, w);
    msg_msg(&g, GRAPH_NODES, onnx_node("Conv", "x,w", "y"));
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", ONNX_F32, NULL, 0));
    expect_about(held_by(g, &m), WEIGHTS);
    engine_model_free(m);
}

// ---- limits ------------------------------------------------------------------------------------------

// `n` products, each with a constant of its own.
static struct msg products(unsigned n)
{
    struct msg g = graph_of_rows();
    char name[16];
    for (unsigned i = 0; i < n; i++) {
        snprintf(name, sizeof(name), "w%u", i);
        square(&g, name);
        product(&g, i, name, false);
    }
    snprintf(name, sizeof(name), "v%u", n);
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value(name, ONNX_F32, NULL, 0));
    return g;
}

static void expect_refused(struct msg graph, int64_t limit, const char *why)
{
    struct engine *engine;
    expect_refusal(load(graph, 1, limit, &engine), e.text, why);
    engine_free(engine);
}

static void constants_are_counted(void **state)
{
    (void)state;
    struct engine *engine;
    struct engine_model *m = // the eight, and the one that is being prepared
        load(products(8), 1, 10 * MIB, &engine);
    if (!m)
        fail_msg("%s", e.text);
    engine_model_free(m);
    engine_free(engine);
    expect_refused(products(8), 8 * MIB, "constants take more than 8 MiB");
    expect_refused(products(8), 7 * MIB, "constants take more than 7 MiB");
}

// One constant that is prepared in many ways.
static void prepared_ones_are_counted(void **state)
{
    (void)state;
    struct msg g = graph_of_rows();
    square(&g, "w");
    for (unsigned i = 0; i < 16; i++) {
        char in[32], out[16];
        snprintf(in, sizeof(in), "v%u,w", i);
        snprintf(out, sizeof(out), "v%u", i + 1);
        struct msg n = onnx_node("Gemm", in, out);
        onnx_float(&n, "alpha", 1 + (float)i);
        msg_msg(&g, GRAPH_NODES, n);
    }
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("v16", ONNX_F32, NULL, 0));
    expect_refused(g, 12 * MIB, "constants take more than 12 MiB");
}

// Constants and a plan share one limit: fewer rows fit beside large weights.
static void plans_get_what_is_left(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 2; k++) {
        struct engine *engine;
        struct engine_model *m = load(products(2), 1024, k == 0 ? 4 * MIB : 40 * MIB, &engine);
        if (!m)
            fail_msg("%s", e.text);
        assert_int_equal(engine_model_max_rows(m), k == 0 ? 256 : 1024); // 4 MiB of values at 1024
        engine_model_free(m);
        engine_free(engine);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_share_a_constant),
        cmocka_unit_test(a_copy_for_each_way_to_read_it),
        cmocka_unit_test(what_others_read_stays),
        cmocka_unit_test(unread_constants_go),
        cmocka_unit_test(convolutions_too),
        cmocka_unit_test(constants_are_counted),
        cmocka_unit_test(prepared_ones_are_counted),
        cmocka_unit_test(plans_get_what_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
