// Arithmetic on shapes, as exporters write it: done when a plan is made. And the ops that it is made of, where
// they are data: places out of range, numbers that a type does not have.
#include "engine/engine.h"
#include "tests/unit/engine_kit.h"

#include <math.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

enum { I32 = 6, F64 = 11, U8 = 2 };

static struct engine_error e;

static void with_axis(struct msg *g, const char *type, const char *in, const char *out,
                      int64_t axis)
{
    struct msg n = onnx_node(type, in, out);
    onnx_int(&n, "axis", axis);
    msg_msg(g, GRAPH_NODES, n);
}

static void cast(struct msg *g, const char *in, const char *out, int64_t to)
{
    struct msg n = onnx_node("Cast", in, out);
    onnx_int(&n, "to", to);
    msg_msg(g, GRAPH_NODES, n);
}

static struct msg begin(unsigned type, const int64_t *dims, unsigned rank)
{
    struct msg g = {0};
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", type, dims, rank));
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", type, NULL, 0));
    graph_integers(&g, "zero", 0, 1, (int64_t[]){0});
    graph_integers(&g, "one", 0, 1, (int64_t[]){1});
    graph_integers(&g, "two", 0, 1, (int64_t[]){2});
    graph_integers(&g, "first", 1, 1, (int64_t[]){0});
    graph_integers(&g, "rest", 1, 1, (int64_t[]){-1});
    return g;
}

static struct engine_model *try(struct msg g)
{
    struct msg file = onnx_model(g, 13);
    struct engine_model *m = engine_model_load(engine_any(false), view_of(file.p, file.n), 16, &e);
    free(file.p);
    return m;
}

static struct engine_model *load(struct msg g)
{
    struct engine_model *m = try(g);
    if (!m)
        fail_msg("%s", e.text);
    return m;
}

// ---- shapes ------------------------------------------------------------------------------------------

// x.view(x.size(0), -1), as torch writes it.
static void flattened(void **state)
{
    (void)state;
    struct msg g = begin(ONNX_F32, (int64_t[]){-1, -1, 3}, 3);
    graph_node(&g, "Shape", "x", "shape");
    with_axis(&g, "Gather", "shape,zero", "rows", 0);
    graph_node(&g, "Unsqueeze", "rows,first", "rows1");
    with_axis(&g, "Concat", "rows1,rest", "to", 0);
    graph_node(&g, "Reshape", "x,to", "y");
    struct engine_model *m = load(g);
    struct engine_instance *i = engine_instance_new(m, &e);
    float x[5 * 7 * 3] = {0};
    assert_int_equal(engine_model_max_batch(m), 16);
    for (int64_t rows = 1; rows <= 5; rows++) {
        for (int64_t n = 1; n <= 7; n++) {
            struct engine_data in = {x, (size_t)(rows * n) * 12, 3, {rows, n, 3}}, out;
            assert_true(engine_run(i, &in, &out, &e));
            assert_true(out.rank == 2 && out.shape[0] == rows && out.shape[1] == 3 * n);
        }
    }
    engine_instance_free(i);
    engine_model_free(m);
}

// The second half of each row: floor(n / 2) by way of floats, as Paddle writes it.
static void halves(void **state)
{
    (void)state;
    struct msg g = begin(ONNX_F32, (int64_t[]){-1, -1}, 2);
    graph_node(&g, "Shape", "x", "shape");
    cast(&g, "shape", "floats", 1);
    cast(&g, "floats", "whole", 7);
    with_axis(&g, "Gather", "whole,one", "n", 0);
    graph_node(&g, "Div", "n,two", "half");
    graph_node(&g, "Mul", "half,two", "even");
    graph_node(&g, "Equal", "even,n", "is_even");
    graph_node(&g, "Where", "is_even,half,half", "from");
    graph_node(&g, "Unsqueeze", "from,first", "from1");
    graph_node(&g, "Unsqueeze", "n,first", "n1");
    graph_node(&g, "Unsqueeze", "one,first", "axis");
    graph_node(&g, "Slice", "x,from1,n1,axis", "y");
    struct engine_model *m = load(g);
    struct engine_instance *i = engine_instance_new(m, &e);
    float x[2 * 9];
    for (unsigned k = 0; k < 18; k++)
        x[k] = (float)k;
    for (int64_t n = 1; n <= 9; n++) {
        struct engine_data in = {x, (size_t)n * 8, 2, {2, n}}, out;
        assert_true(engine_run(i, &in, &out, &e));
        assert_int_equal(out.shape[1], n - n / 2);
        assert_true(*(const float *)out.data == (float)(n / 2));
    }
    engine_instance_free(i);
    engine_model_free(m);
}

// A zero for each element, then one for each of the other: ConstantOfShape, Expand.
static void made_to_measure(void **state)
{
    (void)state;
    struct msg g = begin(ONNX_F32, (int64_t[]){-1, -1}, 2);
    graph_node(&g, "Shape", "x", "shape");
    graph_node(&g, "ConstantOfShape", "shape", "zeros");
    msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("pi", ONNX_F32, NULL, 0, &(float){3.25f}, 4));
    graph_node(&g, "Expand", "pi,shape", "pies");
    graph_node(&g, "Add", "zeros,pies", "sum");
    graph_node(&g, "Add", "sum,x", "y");
    struct engine_model *m = load(g);
    struct engine_instance *i = engine_instance_new(m, &e);
    static float x[3 * 5000];
    int64_t lengths[] = {1, 7, 5000}; // the last one is too long to be kept with the plan
    for (unsigned k = 0; k < 3; k++) {
        struct engine_data in = {x, (size_t)lengths[k] * 12, 2, {3, lengths[k]}}, out;
        assert_true(engine_run(i, &in, &out, &e));
        assert_int_equal(out.bytes, in.bytes);
        for (size_t n = 0; n < out.bytes / 4; n++)
            assert_true(((const float *)out.data)[n] == 3.25f);
    }
    engine_instance_free(i);
    engine_model_free(m);
}

// A convolution of zeros that are made to measure: its kernel is one that a plan opens, and its weights are
// still there, since they are an output too.
static void convolved(void **state)
{
    (void)state;
    struct msg g = begin(ONNX_F32, (int64_t[]){-1, 3, 8, 8}, 4);
    float w[8 * 3 * 9], x[3 * 64];
    for (unsigned k = 0; k < 8 * 3 * 9; k++)
        w[k] = (float)(k % 7) - 3;
    for (unsigned k = 0; k < 3 * 64; k++)
        x[k] = (float)(k % 5) - 2;
    msg_msg(&g, GRAPH_CONSTANTS,
            onnx_tensor("w", ONNX_F32, (int64_t[]){8, 3, 3, 3}, 4, w, sizeof(w)));
    graph_node(&g, "Shape", "x", "shape");
    graph_node(&g, "ConstantOfShape", "shape", "zeros");
    graph_node(&g, "Conv", "zeros,w", "nothing");
    graph_node(&g, "Conv", "x,w", "c");
    graph_node(&g, "Add", "c,nothing", "y");
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("c", ONNX_F32, NULL, 0));
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("w", ONNX_F32, NULL, 0));
    struct engine_model *m = load(g);
    struct engine_instance *i = engine_instance_new(m, &e);
    struct engine_data in = {x, sizeof(x), 4, {1, 3, 8, 8}}, out[3];
    assert_true(engine_run(i, &in, out, &e));
    assert_memory_equal(out[0].data, out[1].data, out[0].bytes);
    engine_instance_free(i);
    engine_model_free(m);
}

// What a known step takes to be computed counts as the model's memory: [1, n] of zeros becomes [n, 1] by way of
// [n, n], which is far more than either.
static struct msg turned(void)
{
    struct msg g = begin(ONNX_F32, (int64_t[]){-1, 2048}, 2),
               n = onnx_node("Resize", "zeros,,,to", "z");
    graph_node(&g, "Shape", "x", "shape");
    with_axis(&g, "Gather", "shape,one", "cols", 0);
    graph_node(&g, "Unsqueeze", "cols,first", "cols1");
    graph_integers(&g, "one1", 1, 1, (int64_t[]){1});
    with_axis(&g, "Concat", "one1,cols1", "row", 0);
    graph_node(&g, "ConstantOfShape", "row", "zeros");
    graph_integers(&g, "to", 1, 2, (int64_t[]){2048, 1});
    onnx_string(&n, "mode", "linear");
    msg_msg(&g, GRAPH_NODES, n);
    graph_node(&g, "Reshape", "z,row", "bias");
    graph_node(&g, "Add", "x,bias", "y");
    return g;
}

static void known_at_a_price(void **state)
{
    (void)state;
    struct engine *small =
        engine_with((struct cpu_options){0}, (struct engine_limits){.bytes = 8 << 20});
    struct msg file = onnx_model(turned(), 13);
    assert_null(engine_model_load(small, view_of(file.p, file.n), 1, &e));
    assert_string_equal(e.text, "the model needs more than 8 MiB of memory for 1 rows");
    free(file.p);
    engine_free(small);
    struct engine_model *m = load(turned());
    struct engine_instance *i = engine_instance_new(m, &e);
    static float x[2048];
    for (unsigned k = 0; k < 2048; k++)
        x[k] = (float)k;
    struct engine_data in = {x, sizeof(x), 2, {1, 2048}}, out;
    assert_true(engine_run(i, &in, &out, &e));
    assert_int_equal(out.bytes, sizeof(x));
    assert_memory_equal(out.data, x, sizeof(x));
    engine_instance_free(i);
    engine_model_free(m);
}

static void refuses(struct msg g, const char *why)
{
    expect_refusal(try(g), e.text, why);
}

static void shapes_that_cannot_be(void **state)
{
    (void)state;
    struct msg g = begin(ONNX_F32, (int64_t[]){-1, 4}, 2);
    graph_integers(&g, "huge", 1, 2, (int64_t[]){INT32_MAX, INT32_MAX});
    graph_node(&g, "ConstantOfShape", "huge", "y");
    refuses(g, "too many elements");
    g = begin(ONNX_F32, (int64_t[]){-1, 4}, 2);
    graph_integers(&g, "less", 1, 2, (int64_t[]){-1, 4});
    graph_node(&g, "Expand", "x,less", "y");
    refuses(g, "Expand");
    g = begin(ONNX_F32, (int64_t[]){-1, 4}, 2);
    graph_node(&g, "Range", "zero,two,zero", "y");
    refuses(g, "delta is 0");
    g = begin(ONNX_F32, (int64_t[]){-1, 4}, 2);
    graph_integers(&g, "far", 0, 1, (int64_t[]){INT64_MAX});
    graph_node(&g, "Range", "zero,far,one", "y");
    refuses(g, "too many elements");
    g = begin(ONNX_F32, (int64_t[]){-1, 4}, 2);
    graph_node(&g, "Shape", "x", "shape");
    with_axis(&g, "Gather", "shape,two", "y", 0); // two dimensions, and the third is asked for
    refuses(g, "Gather (node \"the-node\"): an index is out of range");
    g = begin(ONNX_F32, (int64_t[]){-1, 4}, 2); // the same of a constant
    graph_integers(&g, "list", 1, 2, (int64_t[]){5, 6});
    with_axis(&g, "Gather", "list,two", "y", 0);
    refuses(g, "Gather (node \"the-node\"): an index is out of range");
    g = begin(ONNX_F32, (int64_t[]){-1, 4}, 2);
    cast(&g, "x", "y", 14); // complex numbers
    refuses(g, "to: this datatype is not supported");
}

// ---- data --------------------------------------------------------------------------------------------

static void places_out_of_range(void **state)
{
    (void)state;
    struct msg g = begin(ONNX_I64, (int64_t[]){-1, 3}, 2);
    float table[5 * 2];
    for (unsigned k = 0; k < 10; k++)
        table[k] = (float)k;
    msg_msg(&g, GRAPH_CONSTANTS,
            onnx_tensor("table", ONNX_F32, (int64_t[]){5, 2}, 2, table, sizeof(table)));
    graph_node(&g, "Gather", "table,x", "y");
    struct engine_model *m = load(g); // by rows of numbers that a table of five has
    struct engine_instance *i = engine_instance_new(m, &e);
    assert_int_equal(engine_model_max_batch(m), 16);
    int64_t right[3] = {4, -5, 0};
    struct engine_data in = {right, sizeof(right), 2, {1, 3}}, out;
    static const float want[6] = {8, 9, 0, 1, 0, 1};
    assert_true(engine_run(i, &in, &out, &e));
    assert_memory_equal(out.data, want, sizeof(want));
    static const int64_t wrong[] = {5, -6, INT64_MAX, INT64_MIN};
    for (unsigned k = 0; k < 4; k++) {
        int64_t x[3] = {0, wrong[k], 0};
        in.data = x;
        assert_false(engine_run(i, &in, &out, &e));
        assert_string_equal(e.text, "Gather (node \"the-node\"): an index is out of range");
    }
    in.data = right;
    assert_true(engine_run(i, &in, &out, &e)); // and goes on
    assert_memory_equal(out.data, want, sizeof(want));
    engine_instance_free(i);
    engine_model_free(m);
}

// One op on x (and x), n elements in, and their bytes out.
static void compute(const char *type, const char *in, unsigned dtype, int64_t to, const void *x,
                    size_t bytes, size_t n, const void *want, size_t want_bytes)
{
    struct msg g = begin(dtype, (int64_t[]){(int64_t)n}, 1);
    if (to)
        cast(&g, "x", "y", to);
    else
        graph_node(&g, type, in, "y");
    struct engine_model *m = load(g);
    struct engine_instance *i = engine_instance_new(m, &e);
    struct engine_data d = {x, bytes, 1, {(int64_t)n}}, out;
    assert_true(engine_run(i, &d, &out, &e));
    assert_int_equal(out.bytes, want_bytes);
    assert_memory_equal(out.data, want, want_bytes);
    engine_instance_free(i);
    engine_model_free(m);
}

static void numbers_that_a_type_lacks(void **state)
{
    (void)state;
    static const float x[] = {NAN, INFINITY, -INFINITY, 1e30f, -1e30f, 2.9f, -2.9f, 300};
    static const int32_t i32[] = {0, INT32_MAX, INT32_MIN, INT32_MAX, INT32_MIN, 2, -2, 300};
    static const int64_t i64[] = {0, INT64_MAX, INT64_MIN, INT64_MAX, INT64_MIN, 2, -2, 300};
    static const uint8_t u8[] = {0, 255, 0, 255, 0, 2, 0, 255}, yes[] = {1, 1, 1, 1, 1, 1, 1, 1};
    compute("", "", ONNX_F32, I32, x, sizeof(x), 8, i32, sizeof(i32));
    compute("", "", ONNX_F32, ONNX_I64, x, sizeof(x), 8, i64, sizeof(i64));
    compute("", "", ONNX_F32, U8, x, sizeof(x), 8, u8, sizeof(u8));
    compute("", "", ONNX_F32, 9, x, sizeof(x), 8, yes, sizeof(yes));
    static const int64_t wide[] = {-1, 256, INT64_MIN, 7};
    static const uint8_t low[] = {255, 0, 0, 7};
    compute("", "", ONNX_I64, U8, wide, sizeof(wide), 4, low, sizeof(low));
}

static void whole_numbers_at_their_ends(void **state)
{
    (void)state;
    static const int32_t x[] = {INT32_MIN, INT32_MAX, 0, -7};
    static const int32_t sum[] = {0, -2, 0, -14}, product[] = {0, 1, 0, 49}, one[] = {1, 1, 0, 1};
    compute("Add", "x,x", I32, 0, x, sizeof(x), 4, sum, sizeof(sum));
    compute("Mul", "x,x", I32, 0, x, sizeof(x), 4, product, sizeof(product));
    compute("Div", "x,x", I32, 0, x, sizeof(x), 4, one, sizeof(one));
    static const int64_t y[] = {INT64_MIN, INT64_MAX, -5, 5};
    struct msg g = begin(ONNX_I64, (int64_t[]){4}, 1);
    graph_node(&g, "Div", "x,rest", "y"); // by -1
    struct engine_model *m = load(g);
    struct engine_instance *i = engine_instance_new(m, &e);
    struct engine_data in = {y, sizeof(y), 1, {4}}, out;
    static const int64_t want[] = {INT64_MIN, -INT64_MAX, 5, -5};
    assert_true(engine_run(i, &in, &out, &e));
    assert_memory_equal(out.data, want, sizeof(want));
    engine_instance_free(i);
    engine_model_free(m);
    static const uint8_t b[] = {255, 254, 1, 0}, quotient[] = {1, 1, 1, 0},
                         twice[] = {254, 252, 2, 0};
    compute("Div", "x,x", U8, 0, b, sizeof(b), 4, quotient, sizeof(quotient));
    compute("Add", "x,x", U8, 0, b, sizeof(b), 4, twice, sizeof(twice));
}

// What is not a number is what Max and Min give, wherever it stands.
static void not_a_number(void **state)
{
    (void)state;
    static const float x[] = {NAN, 1};
    for (unsigned k = 0; k < 4; k++) {
        struct msg g = begin(ONNX_F32, (int64_t[]){2}, 1);
        msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("c", ONNX_F32, NULL, 0, &(float){3}, 4));
        graph_node(&g, k & 1 ? "Max" : "Min", k & 2 ? "x,c" : "c,x", "y");
        struct engine_model *m = load(g);
        struct engine_instance *i = engine_instance_new(m, &e);
        struct engine_data in = {x, sizeof(x), 1, {2}}, out;
        assert_true(engine_run(i, &in, &out, &e));
        const float *y = out.data;
        assert_true(isnan(y[0]) && y[1] == (k & 1 ? 3 : 1));
        engine_instance_free(i);
        engine_model_free(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flattened),
        cmocka_unit_test(halves),
        cmocka_unit_test(made_to_measure),
        cmocka_unit_test(convolved),
        cmocka_unit_test(known_at_a_price),
        cmocka_unit_test(shapes_that_cannot_be),
        cmocka_unit_test(places_out_of_range),
        cmocka_unit_test(numbers_that_a_type_lacks),
        cmocka_unit_test(whole_numbers_at_their_ends),
        cmocka_unit_test(not_a_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
