// Tensors without elements: none of their rows, or none of their columns. Shapes follow as ever, sums of nothing are 0.
#include "engine/engine.h"
#include "tests/unit/engine_kit.h"

#include <math.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static struct engine_error e;

static struct msg begin(const int64_t *dims, unsigned rank)
{
    struct msg g = {0};
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", ONNX_F32, dims, rank));
    return g;
}

static void floats(struct msg *g, const char *name, unsigned rank, const int64_t *dims, float v)
{
    size_t n = 1;
    for (unsigned i = 0; i < rank; i++)
        n *= (size_t)dims[i];
    float *x = malloc((n + 1) * sizeof(*x));
    for (size_t i = 0; i < n; i++)
        x[i] = v;
    msg_msg(g, GRAPH_CONSTANTS, onnx_tensor(name, ONNX_F32, dims, rank, x, n * 4));
    free(x);
}

static struct engine_model *load(struct msg g)
{
    struct msg file;
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", ONNX_F32, NULL, 0));
    file = onnx_model(g, 16);
    struct engine_model *m = engine_model_load(engine_any(false), view_of(file.p, file.n), 8, &e);
    free(file.p);
    if (!m)
        fail_msg("%s", e.text);
    return m;
}

// Runs x of those dimensions, which has no elements, and says what came out; y: its n floats.
static void run(struct engine_model *m, unsigned rank, const int64_t *dims, unsigned out_rank,
                const int64_t *want, const float *y, const char *what)
{
    struct engine_instance *i = engine_instance_new(m, &e);
    struct engine_data in = {NULL, 0, rank, {0}}, out;
    size_t n = 1;
    memcpy(in.shape, dims, rank * sizeof(*dims));
    if (!engine_run(i, &in, &out, &e))
        fail_msg("%s: %s", what, e.text);
    assert_int_equal(out.rank, out_rank);
    for (unsigned d = 0; d < out_rank; d++) {
        if (out.shape[d] != want[d])
            fail_msg("%s: shape[%u]: expected %lld, got %lld", what, d, (long long)want[d],
                     (long long)out.shape[d]);
        n *= (size_t)want[d];
    }
    assert_int_equal(out.bytes, n * 4);
    for (size_t k = 0; k < n; k++) {
        float got = ((const float *)out.data)[k];
        if (got != *y && !(isnan(got) && isnan(*y)))
            fail_msg("%s: expected %g, got %g", what, (double)*y, (double)got);
    }
    engine_instance_free(i);
}

static const int64_t any[4] = {-1, -1, -1, -1};

static void element_by_element(void **state)
{
    (void)state;
    static const struct {
        const char *type, *in;
    } ops[] = {{"Relu", "x"},     {"Exp", "x"},   {"Sigmoid", "x"}, {"Identity", "x"},
               {"Add", "x,x"},    {"Mul", "x,c"}, {"Max", "x,x"},   {"Pow", "x,c"},
               {"PRelu", "x,c"},  {"Clip", "x"},  {"Softmax", "x"}, {"LogSoftmax", "x"},
               {"Transpose", "x"}};
    for (unsigned k = 0; k < sizeof(ops) / sizeof(ops[0]); k++) {
        struct msg g = begin(any, 2);
        floats(&g, "c", 0, NULL, 2);
        graph_node(&g, ops[k].type, ops[k].in, "y");
        struct engine_model *m = load(g);
        bool turned = strcmp(ops[k].type, "Transpose") == 0;
        run(m, 2, (int64_t[]){0, 3}, 2, turned ? (int64_t[]){3, 0} : (int64_t[]){0, 3}, NULL,
            ops[k].type);
        run(m, 2, (int64_t[]){2, 0}, 2, turned ? (int64_t[]){0, 2} : (int64_t[]){2, 0}, NULL,
            ops[k].type);
        run(m, 2, (int64_t[]){0, 0}, 2, (int64_t[]){0, 0}, NULL, ops[k].type);
        engine_model_free(m);
    }
}

static void taken_together(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        float none; // of no elements
    } ops[] = {{"ReduceL1", 0},          {"ReduceL2", 0},         {"ReduceLogSum", -INFINITY},
               {"ReduceMax", -INFINITY}, {"ReduceMin", INFINITY}, {"ReduceProd", 1},
               {"ReduceSumSquare", 0},   {"ReduceMean", NAN}};
    for (unsigned k = 0; k < sizeof(ops) / sizeof(ops[0]); k++) {
        struct msg g = begin(any, 2), n = onnx_node(ops[k].type, "x", "y");
        onnx_ints(&n, "axes", 1, (int64_t[]){1});
        onnx_int(&n, "keepdims", 0);
        msg_msg(&g, GRAPH_NODES, n);
        struct engine_model *m = load(g);
        run(m, 2, (int64_t[]){5, 0}, 1, (int64_t[]){5}, &ops[k].none, ops[k].type);
        run(m, 2, (int64_t[]){0, 4}, 1, (int64_t[]){0}, NULL, ops[k].type);
        engine_model_free(m);
    }
}

// x [n, k] times [k, 3] of what is no constant: k may be 0, and then sums are of nothing.
static void products_of_nothing(void **state)
{
    (void)state;
    struct msg g = begin(any, 2);
    floats(&g, "seven", 1, (int64_t[]){3}, 7);
    graph_node(&g, "Transpose", "x", "t"); // [k, n]
    graph_node(&g, "MatMul", "x,t", "m");  // [n, n]
    graph_node(&g, "Gemm", "m,m", "q");
    floats(&g, "zero", 0, NULL, 0);
    graph_node(&g, "Add", "q,zero", "y");
    struct engine_model *m = load(g);
    run(m, 2, (int64_t[]){3, 0}, 2, (int64_t[]){3, 3}, &(float){0}, "MatMul");
    run(m, 2, (int64_t[]){0, 3}, 2, (int64_t[]){0, 0}, NULL, "MatMul");
    engine_model_free(m);
    g = begin((int64_t[]){-1, 0}, 2); // and with weights of no rows
    floats(&g, "w", 2, (int64_t[]){0, 3}, 1);
    floats(&g, "b", 1, (int64_t[]){3}, 7);
    graph_node(&g, "Gemm", "x,w,b", "y");
    m = load(g);
    run(m, 2, (int64_t[]){4, 0}, 2, (int64_t[]){4, 3}, &(float){7}, "Gemm");
    run(m, 2, (int64_t[]){0, 0}, 2, (int64_t[]){0, 3}, NULL, "Gemm");
    engine_model_free(m);
}

static void put_together_and_cut(void **state)
{
    (void)state;
    struct msg g = begin((int64_t[]){2, -1}, 2), n = onnx_node("Concat", "x,c,x", "y");
    floats(&g, "c", 2, (int64_t[]){2, 3}, 5);
    onnx_int(&n, "axis", 1);
    msg_msg(&g, GRAPH_NODES, n);
    struct engine_model *m = load(g);
    run(m, 2, (int64_t[]){2, 0}, 2, (int64_t[]){2, 3}, &(float){5}, "Concat");
    engine_model_free(m);
    g = begin(any, 3); // flattened by a shape that says 0 and -1
    msg_msg(&g, GRAPH_CONSTANTS,
            onnx_tensor("s", ONNX_I64, (int64_t[]){2}, 1, (int64_t[]){0, -1}, 16));
    graph_node(&g, "Reshape", "x,s", "y");
    m = load(g);
    run(m, 3, (int64_t[]){0, 3, 4}, 2, (int64_t[]){0, 12}, NULL, "Reshape");
    run(m, 3, (int64_t[]){2, 0, 4}, 2, (int64_t[]){2, 0}, NULL, "Reshape");
    engine_model_free(m);
    g = begin(any, 2); // padded, tiled
    msg_msg(&g, GRAPH_CONSTANTS,
            onnx_tensor("p", ONNX_I64, (int64_t[]){4}, 1, (int64_t[]){1, 0, 0, 2}, 32));
    graph_node(&g, "Pad", "x,p", "y");
    m = load(g);
    run(m, 2, (int64_t[]){2, 0}, 2, (int64_t[]){3, 2}, &(float){0}, "Pad");
    engine_model_free(m);
}

// A network of images: no images are none after it too.
static void no_images(void **state)
{
    (void)state;
    struct msg g = begin((int64_t[]){-1, 3, 16, 16}, 4), n;
    floats(&g, "w", 4, (int64_t[]){8, 3, 3, 3}, 0.5f);
    graph_node(&g, "Conv", "x,w", "c");
    graph_node(&g, "Relu", "c", "r");
    n = onnx_node("MaxPool", "r", "p");
    onnx_ints(&n, "kernel_shape", 2, (int64_t[]){2, 2});
    msg_msg(&g, GRAPH_NODES, n);
    graph_node(&g, "GlobalAveragePool", "p", "y");
    struct engine_model *m = load(g);
    assert_int_equal(engine_model_max_batch(m), 8);
    run(m, 4, (int64_t[]){0, 3, 16, 16}, 4, (int64_t[]){0, 8, 1, 1}, NULL, "Conv");
    engine_model_free(m);
}

// Rows may be 0 in one input as long as they are in the others.
static void rows_of_two(void **state)
{
    (void)state;
    struct msg g = begin((int64_t[]){-1, 2}, 2);
    msg_msg(&g, GRAPH_INPUTS, onnx_value("t", ONNX_F32, (int64_t[]){-1, 2}, 2));
    graph_node(&g, "Add", "x,t", "y");
    struct engine_model *m = load(g);
    struct engine_instance *i = engine_instance_new(m, &e);
    float x[4] = {0};
    struct engine_data in[2] = {{x, 0, 2, {0, 2}}, {x, 0, 2, {0, 2}}}, out;
    assert_true(engine_run(i, in, &out, &e));
    assert_true(out.shape[0] == 0 && out.bytes == 0);
    in[1] = (struct engine_data){x, 8, 2, {1, 2}};
    assert_false(engine_run(i, in, &out, &e));
    assert_string_equal(e.text, "input \"t\": shape[0]: expected 0 as in the others, got 1");
    engine_instance_free(i);
    engine_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(element_by_element),  cmocka_unit_test(taken_together),
        cmocka_unit_test(products_of_nothing), cmocka_unit_test(put_together_and_cut),
        cmocka_unit_test(no_images),           cmocka_unit_test(rows_of_two),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
