// Reductions where ONNX's own tests do not look: axes that cannot be, nothing along an axis, whole numbers at
// their ends, what is not a number, shapes multiplied together.
#include "engine/engine.h"
#include "tests/unit/engine_guard.h"
#include "tests/unit/engine_kit.h"

#include <math.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static struct engine_error e;

static struct engine_model *try_in(struct engine *engine, struct msg g)
{
    struct msg file = onnx_model(g, 13);
    struct engine_model *m = engine_model_load(engine, view_of(file.p, file.n), 16, &e);
    free(file.p);
    return m;
}

static struct engine_model *try(struct msg g)
{
    return try_in(engine_any(false), g);
}

// x -> [Slice of it ->] op along axes -> y; opset 13.
static struct msg graph_of(const char *op, unsigned type, const int64_t *dims, unsigned rank,
                           unsigned n, const int64_t *axes, bool nothing)
{
    struct msg g = {0}, r = onnx_node(op, nothing ? "none" : "x", "y");
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", type, dims, rank));
    if (nothing) {
        int64_t zero = 0;
        msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("zero", ONNX_I64, (int64_t[]){1}, 1, &zero, 8));
        msg_msg(&g, GRAPH_NODES, onnx_node("Slice", "x,zero,zero,zero", "none"));
    }
    if (n > 0)
        onnx_ints(&r, "axes", n, axes);
    onnx_int(&r, "keepdims", 0);
    msg_msg(&g, GRAPH_NODES, r);
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", type, NULL, 0));
    return g;
}

static void expect_in(struct engine *engine, struct msg g, const void *x, size_t bytes,
                      const int64_t *dims, unsigned rank, const void *want, size_t want_bytes)
{
    struct engine_model *m = try_in(engine, g);
    if (!m)
        fail_msg("%s", e.text);
    struct engine_instance *i = engine_instance_new(m, &e);
    struct engine_data in = {x, bytes, rank, {0}}, out;
    memcpy(in.shape, dims, rank * sizeof(dims[0]));
    assert_true(engine_run(i, &in, &out, &e));
    assert_int_equal(out.bytes, want_bytes);
    assert_memory_equal(out.data, want, want_bytes);
    engine_instance_free(i);
    engine_model_free(m);
}

static void expect(struct msg g, const void *x, size_t bytes, const int64_t *dims, unsigned rank,
                   const void *want, size_t want_bytes)
{
    expect_in(engine_any(false), g, x, bytes, dims, rank, want, want_bytes);
}

static void axes_that_cannot_be(void **state)
{
    (void)state;
    static const int64_t dims[2] = {2, 3}, wrong[] = {2, -3, INT64_MAX, INT64_MIN};
    for (unsigned k = 0; k < 4; k++) {
        assert_null(try(graph_of("ReduceMax", ONNX_F32, dims, 2, 1, &wrong[k], false)));
        assert_non_null(strstr(e.text, "ReduceMax (node \"the-node\"): axes are out of range"));
    }
    static const float x[6] = {1, 2, 3, 4, 5, 6}, most[] = {4, 5, 6};
    static const int64_t twice[] = {0, -2}; // the same one
    expect(graph_of("ReduceMax", ONNX_F32, dims, 2, 2, twice, false), x, sizeof(x), dims, 2, most,
           sizeof(most));
    assert_null(try(graph_of("ReduceMean", ONNX_I64, dims, 2, 0, NULL, false)));
    assert_non_null(strstr(e.text, "expected floats"));
}

static void nothing_along_an_axis(void **state)
{
    (void)state;
    static const int64_t dims[2] = {2, 3}, first[1] = {0};
    static const float x[6] = {1, 2, 3, 4, 5, 6}, zeros[3] = {0}, ones[3] = {1, 1, 1};
    static const float least[3] = {-INFINITY, -INFINITY, -INFINITY};
    expect(graph_of("ReduceL2", ONNX_F32, dims, 2, 1, first, true), x, 24, dims, 2, zeros, 12);
    expect(graph_of("ReduceProd", ONNX_F32, dims, 2, 1, first, true), x, 24, dims, 2, ones, 12);
    expect(graph_of("ReduceMax", ONNX_F32, dims, 2, 1, first, true), x, 24, dims, 2, least, 12);
    assert_null(try(graph_of("ArgMax", ONNX_F32, dims, 2, 0, NULL, true)));
    assert_non_null(strstr(e.text, "has nothing along it"));
}

static void whole_numbers(void **state)
{
    (void)state;
    static const int64_t dims[2] = {2, 2}, last[1] = {1};
    static const int64_t x[4] = {INT64_MAX, 1, INT64_MIN, INT64_MIN};
    static const int64_t sum[2] = {INT64_MIN, 0}, most[2] = {INT64_MAX, INT64_MIN};
    expect(graph_of("ReduceMax", ONNX_I64, dims, 2, 1, last, false), x, 32, dims, 2, most, 16);
    struct msg g = graph_of("ReduceSum", ONNX_I64, dims, 2, 1, last, false);
    expect(g, x, 32, dims, 2, sum, 16);
}

static void not_a_number(void **state)
{
    (void)state;
    static const int64_t dims[2] = {2, 2}, axes[2][1] = {{0}, {1}};
    static const float x[4] = {NAN, 1, 2, NAN};
    for (unsigned k = 0; k < 4; k++) {
        struct engine_model *m = try(
            graph_of(k & 1 ? "ReduceMax" : "ReduceMin", ONNX_F32, dims, 2, 1, axes[k / 2], false));
        struct engine_instance *i = engine_instance_new(m, &e);
        struct engine_data in = {x, sizeof(x), 2, {2, 2}}, out;
        assert_true(engine_run(i, &in, &out, &e));
        float a = ((const float *)out.data)[0], b = ((const float *)out.data)[1];
        assert_true(isnan(a) && isnan(b));
        engine_instance_free(i);
        engine_model_free(m);
    }
}

enum { I32 = 6 }; // TensorProto.DataType

// Into which element of the sums along `set` element i of [dims] goes; no axes: all.
static size_t goes_to(const int64_t *dims, unsigned set, size_t i)
{
    size_t to = 0, step = 1;
    for (unsigned a = 3; a-- > 0; i /= (size_t)dims[a]) {
        if (set == 0 || set >> a & 1)
            continue;
        to += i % (size_t)dims[a] * step;
        step *= (size_t)dims[a];
    }
    return to;
}

// Small whole numbers, whose sums are exact in any order, in float32 too.
static void add_up(const int64_t *dims, unsigned set, unsigned type)
{
    size_t n = (size_t)(dims[0] * dims[1] * dims[2]), outs = 1;
    union {
        float f;
        int32_t i;
    } *x = malloc(n * sizeof(*x)), *want = calloc(n, sizeof(*want));
    int64_t axes[3];
    unsigned n_axes = 0;
    for (unsigned a = 0; a < 3; a++) {
        if (set >> a & 1)
            axes[n_axes++] = a;
        outs *= set == 0 || set >> a & 1 ? 1 : (size_t)dims[a];
    }
    for (size_t i = 0; i < n; i++) {
        int32_t v = (int32_t)(i * 7919 % 101) - 50;
        size_t to = goes_to(dims, set, i);
        if (type == I32)
            want[to].i += x[i].i = v;
        else
            want[to].f += x[i].f = (float)v;
    }
    struct engine *guarded = engine_new(guard_device_new(), NULL, (struct engine_limits){0}, &e);
    expect_in(guarded, graph_of("ReduceSum", type, dims, 3, n_axes, axes, false), x, n * sizeof(*x),
              dims, 3, want, outs * sizeof(*want));
    engine_free(guarded);
    free(x);
    free(want);
}

// Rows and columns longer than what is added up at a time, along every choice of three axes; between guard pages.
static void long_ones(void **state)
{
    (void)state;
    static const int64_t shapes[][3] = {{3, 5, 77}, {2, 300, 35}, {1, 1, 16}, {4, 3, 1}};
    for (unsigned k = 0; k < 4 * 8; k++) {
        add_up(shapes[k % 4], k / 4, ONNX_F32);
        add_up(shapes[k % 4], k / 4, I32);
    }
}

// x [-1, -1, 2] as one row of so many elements as its dimensions multiply to, known when they are.
static void shapes_multiplied(void **state)
{
    (void)state;
    struct msg g = {0}, n;
    int64_t axes[1] = {0};
    float x[24] = {0};
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", ONNX_F32, (int64_t[]){-1, -1, 2}, 3));
    msg_msg(&g, GRAPH_NODES, onnx_node("Shape", "x", "shape"));
    n = onnx_node("ReduceProd", "shape", "all");
    onnx_ints(&n, "axes", 1, axes);
    msg_msg(&g, GRAPH_NODES, n);
    msg_msg(&g, GRAPH_NODES, onnx_node("Reshape", "x,all", "y"));
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", ONNX_F32, NULL, 0));
    struct engine_model *m = try(g);
    if (!m)
        fail_msg("%s", e.text);
    struct engine_instance *i = engine_instance_new(m, &e);
    struct engine_data in = {x, sizeof(x), 3, {3, 4, 2}}, out;
    assert_true(engine_run(i, &in, &out, &e));
    assert_true(out.rank == 1 && out.shape[0] == 24);
    engine_instance_free(i);
    engine_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(axes_that_cannot_be), cmocka_unit_test(nothing_along_an_axis),
        cmocka_unit_test(whole_numbers),       cmocka_unit_test(not_a_number),
        cmocka_unit_test(long_ones),           cmocka_unit_test(shapes_multiplied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
