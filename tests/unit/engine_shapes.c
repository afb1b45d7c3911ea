// Several free dimensions: each combination that comes has a plan of its own, with the numbers of the plain
// kernels, row by row the same bits in any batch.
#include "base/rand.h"
#include "engine/engine.h"
#include "tests/unit/engine_kit.h"

#include <math.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static struct engine_error e;
static struct rand dice;

static struct msg begin(const int64_t *dims, unsigned rank, const char *output)
{
    struct msg g = {0};
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", ONNX_F32, dims, rank));
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value(output, ONNX_F32, NULL, 0));
    return g;
}

static struct engine_model *load(struct engine *engine, struct msg file)
{
    struct engine_model *m = engine_model_load(engine, view_of(file.p, file.n), 64, &e);
    if (!m)
        fail_msg("%s", e.text);
    return m;
}

// ---- sixteen dimensions ------------------------------------------------------------------------------

// y = (x, all its dimensions but the first turned round) + w, which is broadcast along most of them.
static void sixteen_dimensions(void **state)
{
    enum { RANK = 16, ROWS = 3, ROW = 24 };
    int64_t x_dims[RANK] = {-1, 2, 1, 3, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 2}, perm[RANK] = {0},
            w_dims[RANK] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3, 1, 1};
    for (int64_t i = 1; i < RANK; i++)
        perm[i] = RANK - i;
    struct msg g = begin(x_dims, RANK, "y"), n = onnx_node("Transpose", "x", "t");
    const float w[3] = {100, 200, 300};
    onnx_ints(&n, "perm", RANK, perm);
    msg_msg(&g, GRAPH_NODES, n);
    msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("w", ONNX_F32, w_dims, RANK, w, sizeof(w)));
    msg_msg(&g, GRAPH_NODES, onnx_node("Add", "t,w", "y"));
    struct msg file = onnx_model(g, 13);
    struct engine_model *m = load(engine_any(false), file);
    struct engine_instance *i = engine_instance_new(m, &e);
    float x[ROWS * ROW];
    for (unsigned k = 0; k < ROWS * ROW; k++)
        x[k] = (float)k;
    struct engine_data in = {.data = x, .bytes = sizeof(x), .rank = RANK}, out;
    memcpy(in.shape, x_dims, sizeof(x_dims));
    in.shape[0] = ROWS;
    if (!engine_run(i, &in, &out, &e))
        fail_msg("%s", e.text);
    const int64_t want[RANK] = {ROWS, 2, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1, 1, 3, 1, 2};
    assert_int_equal(out.rank, RANK);
    assert_memory_equal(out.shape, want, sizeof(want));
    const float *y = out.data;
    for (unsigned r = 0; r < ROWS; r++)
        for (unsigned d = 0; d < 2; d++)
            for (unsigned c = 0; c < 2; c++)
                for (unsigned b = 0; b < 3; b++)
                    for (unsigned a = 0; a < 2; a++)
                        assert_true(*y++ == x[r * ROW + ((a * 3 + b) * 2 + c) * 2 + d] + w[b]);
    engine_instance_free(i);
    engine_model_free(m);
    free(file.p);
}

// ---- images of any size ------------------------------------------------------------------------------

// Two convolutions, a pool, and a gate: what the mean of an image says, multiplied into its channels.
static struct msg images_graph(void)
{
    int64_t image[4] = {-1, 3, -1, -1}, w1[4] = {8, 3, 3, 3}, w2[4] = {8, 8, 1, 1},
            pads[4] = {1, 1, 1, 1};
    int64_t two[2] = {2, 2};
    struct msg g = begin(image, 4, "y"), n;
    rand_seed(&dice, 3);
    graph_noise(&g, "w1", 4, w1, &dice);
    graph_noise(&g, "b1", 1, w1, &dice);
    graph_noise(&g, "w2", 4, w2, &dice);
    n = onnx_node("Conv", "x,w1,b1", "a");
    onnx_ints(&n, "pads", 4, pads);
    onnx_ints(&n, "strides", 2, two);
    msg_msg(&g, GRAPH_NODES, n);
    msg_msg(&g, GRAPH_NODES, onnx_node("Relu", "a", "b"));
    msg_msg(&g, GRAPH_NODES, onnx_node("GlobalAveragePool", "b", "c"));
    msg_msg(&g, GRAPH_NODES, onnx_node("Conv", "c,w2", "d"));
    msg_msg(&g, GRAPH_NODES, onnx_node("Sigmoid", "d", "s"));
    msg_msg(&g, GRAPH_NODES, onnx_node("Mul", "b,s", "m"));
    n = onnx_node("MaxPool", "m", "p");
    onnx_ints(&n, "kernel_shape", 2, two);
    msg_msg(&g, GRAPH_NODES, n);
    msg_msg(&g, GRAPH_NODES, onnx_node("Conv", "p,w2", "y"));
    return onnx_model(g, 13);
}

static void expect_close(const struct engine_data *a, const struct engine_data *b)
{
    assert_int_equal(a->rank, b->rank);
    assert_memory_equal(a->shape, b->shape, a->rank * sizeof(a->shape[0]));
    for (size_t i = 0; i < a->bytes / 4; i++) {
        float x = ((const float *)a->data)[i], y = ((const float *)b->data)[i];
        if (!(fabsf(x - y) <= 1e-4f + 1e-3f * fabsf(y)))
            fail_msg("element %zu of %lldx%lld: %g, plain %g", i, (long long)a->shape[2],
                     (long long)a->shape[3], (double)x, (double)y);
    }
}

static void images_of_any_size(void **state)
{
    (void)state;
    struct msg file = images_graph();
    struct engine_model *m = load(engine_any(false), file), *p = load(engine_any(true), file);
    struct engine_instance *a = engine_instance_new(m, &e), *b = engine_instance_new(p, &e);
    const struct engine_port *y = engine_model_output(m, 0);
    assert_int_equal(engine_model_max_batch(m), 64);
    assert_true(y->shape[0] == -1 && y->shape[1] == 8 && y->shape[2] == -1 && y->shape[3] == -1);
    for (unsigned i = 0; i < 40; i++) {
        int64_t rows = 1 + (int64_t)rand_below(&dice, 3), h = 5 + (int64_t)rand_below(&dice, 70),
                w = i % 4 == 0 ? 64 : 5 + (int64_t)rand_below(&dice, 70);
        struct engine_data in = {NULL, (size_t)(rows * 3 * h * w) * 4, 4, {rows, 3, h, w}}, got,
                           want;
        float *x = noise(&dice, (size_t)(rows * 3 * h * w));
        in.data = x;
        assert_true(engine_run(a, &in, &got, &e) && engine_run(b, &in, &want, &e));
        expect_close(&got, &want);
        char *kept = malloc(got.bytes);
        memcpy(kept, got.data, got.bytes);
        in.shape[0] = 1;
        in.bytes /= (size_t)rows;
        for (int64_t r = 0; r < rows; r++) {
            in.data = (const char *)x + (size_t)r * in.bytes;
            assert_true(engine_run(a, &in, &got, &e));
            assert_memory_equal(got.data, kept + (size_t)r * got.bytes, got.bytes);
        }
        free(kept);
        free(x);
    }
    engine_instance_free(a);
    engine_instance_free(b);
    engine_model_free(m);
    engine_model_free(p);
    free(file.p);
}

static void images_that_do_not_fit(void **state)
{
    (void)state;
    struct msg file = images_graph();
    struct engine_model *m = load(engine_any(false), file);
    struct engine_instance *i = engine_instance_new(m, &e);
    float *x = calloc(3 * 40000, 4);
    struct engine_data in = {x, 3 * 2 * 2 * 4, 4, {1, 3, 2, 2}}, out;
    assert_false(engine_run(i, &in, &out, &e)); // 1 by 1 after the first step
    assert_non_null(strstr(e.text, "MaxPool (node \"the-node\"): the window is larger"));
    in = (struct engine_data){x, 3 * 4 * 10000 * 4, 4, {1, 3, 4, 10000}};
    assert_false(engine_run(i, &in, &out, &e));
    assert_non_null(strstr(e.text, "Conv (node \"the-node\"): its images are too large"));
    in = (struct engine_data){x, 3 * 8 * 8 * 4, 4, {1, 3, 8, 8}};
    assert_true(engine_run(i, &in, &out, &e)); // and goes on
    free(x);
    engine_instance_free(i);
    engine_model_free(m);
    free(file.p);
}

static void channels_that_are_free(void **state)
{
    (void)state;
    int64_t image[4] = {-1, -1, 12, 12}, w[4] = {8, 64, 3, 3};
    struct msg g = begin(image, 4, "y"), file;
    graph_noise(&g, "w", 4, w, &dice);
    msg_msg(&g, GRAPH_NODES, onnx_node("Conv", "x,w", "y"));
    file = onnx_model(g, 13);
    struct engine_model *m = load(engine_any(false), file);
    struct engine_instance *i = engine_instance_new(m, &e);
    float *x = calloc(64 * 144, 4);
    struct engine_data in = {x, 64 * 144 * 4, 4, {1, 64, 12, 12}}, out;
    assert_true(engine_run(i, &in, &out, &e));
    in = (struct engine_data){x, 63 * 144 * 4, 4, {1, 63, 12, 12}};
    assert_false(engine_run(i, &in, &out, &e));
    assert_non_null(strstr(e.text, "channels"));
    free(x);
    engine_instance_free(i);
    engine_model_free(m);
    free(file.p);
}

// ---- bindings ----------------------------------------------------------------------------------------

// x [-1, -1, 4] + t [-1, 1, 4]: two inputs, one of them with a length of its own.
static struct msg sums(void)
{
    struct msg g = begin((int64_t[]){-1, -1, 4}, 3, "y");
    msg_msg(&g, GRAPH_INPUTS, onnx_value("t", ONNX_F32, (int64_t[]){-1, -1, 4}, 3));
    msg_msg(&g, GRAPH_NODES, onnx_node("Add", "x,t", "y"));
    return onnx_model(g, 13);
}

static void run_sums(struct engine_instance *i, int64_t rows, int64_t n, int64_t k)
{
    float *x = noise(&dice, (size_t)(rows * n * 4)), *t = noise(&dice, (size_t)(rows * k * 4));
    struct engine_data in[2] = {{x, (size_t)(rows * n) * 16, 3, {rows, n, 4}},
                                {t, (size_t)(rows * k) * 16, 3, {rows, k, 4}}};
    struct engine_data out;
    if (!engine_run(i, in, &out, &e))
        fail_msg("%s", e.text);
    assert_int_equal(out.shape[1], n > k ? n : k);
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t a = 0; a < out.shape[1]; a++) {
            for (int64_t c = 0; c < 4; c++) {
                float want =
                    x[(r * n + (n > 1 ? a : 0)) * 4 + c] + t[(r * k + (k > 1 ? a : 0)) * 4 + c];
                assert_true(((const float *)out.data)[(r * out.shape[1] + a) * 4 + c] == want);
            }
        }
    }
    free(x);
    free(t);
}

// More bindings than an instance keeps plans for, in an order that brings them back.
static void many_bindings(void **state)
{
    (void)state;
    struct msg file = sums();
    struct engine_model *m = load(engine_any(false), file);
    struct engine_instance *i = engine_instance_new(m, &e);
    assert_int_equal(engine_model_max_batch(m), 64);
    for (unsigned round = 0; round < 2; round++) {
        for (int64_t n = 1; n <= 150; n++) {
            run_sums(i, 1 + n % 3, n, 1);
            run_sums(i, 1 + n % 3, n, n);
            run_sums(i, 2, 1, n);
        }
    }
    engine_instance_free(i);
    engine_model_free(m);
    free(file.p);
}

static void lengths_that_cannot_be(void **state)
{
    (void)state;
    struct msg file = sums();
    struct engine_model *m = load(engine_any(false), file);
    struct engine_instance *i = engine_instance_new(m, &e);
    float x[64] = {0};
    struct engine_data in[2] = {{x, 2 * 16, 3, {1, 2, 4}}, {x, 3 * 16, 3, {1, 3, 4}}}, out;
    assert_false(engine_run(i, in, &out, &e));
    assert_non_null(strstr(e.text, "cannot be broadcast"));
    in[1] = (struct engine_data){x, 0, 3, {1, 0, 4}};
    assert_false(engine_run(i, in, &out, &e));
    assert_non_null(strstr(e.text, "cannot be broadcast"));
    in[1] = (struct engine_data){x, 0, 3, {1, -1, 4}};
    assert_false(engine_run(i, in, &out, &e));
    assert_string_equal(e.text, "input \"t\": shape[1]: expected 0 or more, got -1");
    in[1] = (struct engine_data){x, 2 * 16, 3, {2, 1, 4}};
    assert_false(engine_run(i, in, &out, &e));
    assert_string_equal(e.text, "input \"t\": shape[0]: expected 1 as in the others, got 2");
    in[1] = (struct engine_data){x, 64, 3, {1, (int64_t)1 << 40, 4}};
    assert_false(engine_run(i, in, &out, &e));
    engine_instance_free(i);
    engine_model_free(m);
    free(file.p);
}

// A shape that only multiples of 96 can take.
static void lengths_that_the_model_wants(void **state)
{
    (void)state;
    int64_t to[2] = {-1, 96};
    struct msg g = begin((int64_t[]){1, -1}, 2, "y"), file;
    msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("to", ONNX_I64, (int64_t[]){2}, 1, to, 16));
    msg_msg(&g, GRAPH_NODES, onnx_node("Reshape", "x,to", "y"));
    file = onnx_model(g, 13);
    struct engine_model *m = load(engine_any(false), file);
    struct engine_instance *i = engine_instance_new(m, &e);
    float x[192] = {0};
    struct engine_data in = {x, sizeof(x), 2, {1, 192}}, out;
    assert_true(engine_run(i, &in, &out, &e));
    assert_true(out.shape[0] == 2 && out.shape[1] == 96);
    engine_instance_free(i);
    engine_model_free(m);
    free(file.p);
}

// Rows that influence each other, whatever the length.
static void rows_that_are_mixed(void **state)
{
    (void)state;
    struct msg g = begin((int64_t[]){-1, -1}, 2, "y"), file, n = onnx_node("Softmax", "x", "y");
    onnx_int(&n, "axis", 0);
    msg_msg(&g, GRAPH_NODES, n);
    file = onnx_model(g, 13);
    struct engine_model *m = load(engine_any(false), file);
    assert_int_equal(engine_model_max_batch(m), 0);
    assert_non_null(strstr(engine_model_single_reason(m), "random rows"));
    engine_model_free(m);
    free(file.p);
}

// ---- parts -------------------------------------------------------------------------------------------

static struct engine_task *posted;

static void keep(struct engine_host *h, struct engine_task *t)
{
    (void)h;
    posted = t;
}

static void on_done(struct engine_call *c)
{
    (void)c;
}

static void parts_of_other_lengths(void **state)
{
    (void)state;
    struct engine_host host = {.post = keep};
    struct engine *engine =
        engine_new(cpu_device_new((struct cpu_options){0}), &host, (struct engine_limits){0}, &e);
    struct msg file = sums();
    struct engine_model *m = load(engine, file);
    struct engine_instance *i = engine_instance_new(m, &e);
    float x[64] = {0};
    struct engine_data out, in[4] = {{x, 2 * 16, 3, {1, 2, 4}},
                                     {x, 2 * 16, 3, {1, 2, 4}},
                                     {x, 2 * 16, 3, {1, 2, 4}},
                                     {x, 16, 3, {1, 1, 4}}};
    struct engine_call c = {.inputs = in, .n_parts = 2, .outputs = &out, .done = on_done};
    engine_submit(i, &c);
    posted->run(posted);
    assert_false(c.ok);
    assert_string_equal(c.error.text, "part 1 has other lengths than the first one");
    in[3] = in[2];
    engine_submit(i, &c);
    posted->run(posted);
    assert_true(c.ok && out.shape[0] == 2);
    engine_instance_free(i);
    engine_model_free(m);
    engine_free(engine);
    free(file.p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sixteen_dimensions),
        cmocka_unit_test(images_of_any_size),
        cmocka_unit_test(images_that_do_not_fit),
        cmocka_unit_test(channels_that_are_free),
        cmocka_unit_test(many_bindings),
        cmocka_unit_test(lengths_that_cannot_be),
        cmocka_unit_test(lengths_that_the_model_wants),
        cmocka_unit_test(rows_that_are_mixed),
        cmocka_unit_test(parts_of_other_lengths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
