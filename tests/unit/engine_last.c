// Convolutions by the library against the plain kernels: random shapes, strides, pads, groups, with and
// without bias and Relu, in chains with what may stand between them. Each model is loaded twice.
#include "base/rand.h"
#include "engine/engine.h"
#include "tests/unit/engine_guard.h"
#include "tests/unit/engine_kit.h"

#include <math.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static struct rand dice;

static int64_t roll(int64_t low, int64_t high)
{
    return low + (int64_t)(rand_u64(&dice) % (uint64_t)(high - low + 1));
}

// Loads with and without the library, runs `rows` rows, compares; and row by row with the batch, bits.
static void compare_on(struct engine *library, struct msg graph, int64_t rows, const int64_t *image,
                       unsigned rank)
{
    struct engine_error e;
    struct engine_model *m[2];
    struct engine_instance *in[2];
    struct engine_data x = {.rank = rank}, out[2];
    struct msg file = onnx_model(graph, 13);
    size_t n = (size_t)rows;
    for (unsigned i = 1; i < rank; i++)
        n *= (size_t)(x.shape[i] = image[i]);
    x.shape[0] = rows;
    float *memory = noise(&dice, n + 1), *data = memory + 1; // aligned to 4, no better
    x.data = data;
    x.bytes = n * 4;
    for (unsigned k = 0; k < 2; k++) {
        m[k] =
            engine_model_load(k == 1 ? library : engine_any(true), view_of(file.p, file.n), 64, &e);
        if (!m[k])
            fail_msg("%s", e.text);
        in[k] = engine_instance_new(m[k], &e);
        if (!engine_run(in[k], &x, &out[k], &e))
            fail_msg("%s", e.text);
        assert_true(engine_model_max_batch(m[k]) > 0);
    }
    assert_int_equal(out[0].bytes, out[1].bytes);
    assert_memory_equal(out[0].shape, out[1].shape, sizeof(out[0].shape[0]) * out[0].rank);
    size_t answers = out[0].bytes / 4;
    float *kept = malloc(out[1].bytes);
    memcpy(kept, out[1].data, out[1].bytes);
    for (size_t i = 0; i < answers; i++) {
        float want = ((const float *)out[0].data)[i];
        if (!(fabsf(kept[i] - want) <= 1e-4f + 1e-3f * fabsf(want)))
            fail_msg("element %zu: the plain kernel %g, the library %g", i, (double)want,
                     (double)kept[i]);
    }
    x.shape[0] = 1;
    x.bytes /= (size_t)rows;
    for (int64_t r = 0; r < rows; r++) {
        x.data = (const char *)data + (size_t)r * x.bytes;
        assert_true(engine_run(in[1], &x, &out[1], &e));
        assert_memory_equal(out[1].data, (char *)kept + (size_t)r * out[1].bytes, out[1].bytes);
    }
    for (unsigned k = 0; k < 2; k++) {
        engine_instance_free(in[k]);
        engine_model_free(m[k]);
    }
    free(kept);
    free(memory);
    free(file.p);
}

static void compare(struct msg graph, int64_t rows, const int64_t *image, unsigned rank)
{
    compare_on(engine_any(false), graph, rows, image, rank);
}

static struct msg graph_of(const int64_t *image, unsigned rank, const char *output)
{
    struct msg g = {0};
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", ONNX_F32, image, rank));
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value(output, ONNX_F32, NULL, 0));
    return g;
}

static struct msg conv(struct msg *g, const char *from, const char *to, const char *weights,
                       const int64_t *w, bool bias)
{
    char in[64], b[32];
    snprintf(b, sizeof(b), "%s-bias", weights);
    snprintf(in, sizeof(in), bias ? "%s,%s,%s" : "%s,%s", from, weights, b);
    graph_noise(g, weights, 4, w, &dice);
    if (bias)
        graph_noise(g, b, 1, w, &dice);
    return onnx_node("Conv", in, to);
}

static void one(void **state)
{
    (void)state;
    rand_seed(&dice, 7);
    for (unsigned i = 0; i < 150; i++) {
        int64_t groups = roll(0, 2) ? 1 : roll(2, 8), channels = roll(0, 3) ? roll(1, 20) : 1;
        int64_t outs = roll(1, 24), k[2] = {roll(1, 5), roll(1, 5)},
                stride[2] = {roll(1, 3), roll(1, 2)};
        int64_t dilation[2] = {roll(1, 2), roll(1, 3)};
        int64_t pads[4] = {roll(0, k[0] - 1), roll(0, k[1] - 1), roll(0, 3), roll(0, 2)};
        int64_t image[4] = {-1, groups * channels, roll(15, 24), roll(15, 24)};
        int64_t w[4] = {groups * (groups > 1 && channels == 1 ? 1 : outs), channels, k[0], k[1]};
        bool bias = roll(0, 1), relu = roll(0, 1);
        struct msg g = graph_of(image, 4, relu ? "z" : "y");
        struct msg n = conv(&g, "x", "y", "w", w, bias);
        onnx_ints(&n, "strides", 2, stride);
        onnx_ints(&n, "dilations", 2, dilation);
        onnx_ints(&n, "pads", 4, pads);
        onnx_int(&n, "group", groups);
        msg_msg(&g, GRAPH_NODES, n);
        if (relu)
            msg_msg(&g, GRAPH_NODES, onnx_node("Relu", "y", "z"));
        compare(g, roll(1, 5), image, 4);
    }
}

// A convolution's answer through a Transpose that is none of ours: its first form is asked for.
static void transposed_once_more(void **state)
{
    (void)state;
    static const int64_t to_first[4] = {0, 3, 1, 2};
    rand_seed(&dice, 13);
    int64_t image[4] = {-1, 4, 10, 11}, w1[4] = {9, 4, 3, 3}, w2[4] = {5, 9, 3, 3};
    struct msg g = graph_of(image, 4, "out"), n;
    msg_msg(&g, GRAPH_NODES, conv(&g, "x", "a", "w1", w1, true)); // [N, 9, 8, 9]
    n = onnx_node("Transpose", "a", "b");                         // [N, 9, 9, 8]
    onnx_ints(&n, "perm", 4, to_first);
    msg_msg(&g, GRAPH_NODES, n);
    msg_msg(&g, GRAPH_NODES, conv(&g, "b", "c", "w2", w2, true));
    msg_msg(&g, GRAPH_NODES, onnx_node("Flatten", "c", "out"));
    compare(g, 2, image, 4);
}

// What BatchNormalization, Add and Relu behind a convolution give fused, and when somebody else looks at the
// values between (then nothing may be fused). The first output is the same one in both.
static void fused(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 16; i++) {
        struct engine_error e;
        struct engine_data x = {NULL, 3 * 7 * 7 * 4, 4, {1, 3, 7, 7}}, out[4];
        int64_t image[4] = {-1, 3, 7, 7}, w[4] = {6, 3, 3, 3}, each[4] = {1, 6, 1, 1};
        float kept[6 * 5 * 5];
        for (unsigned seen = 0; seen < 2; seen++) {
            rand_seed(&dice, 12 + i);
            struct msg g = graph_of(image, 4, "r"), n;
            msg_msg(&g, GRAPH_NODES, conv(&g, "x", "c", "w", w, i & 1));
            graph_noise(&g, "scale", 1, w, &dice);
            graph_noise(&g, "shift", 1, w, &dice);
            graph_noise(&g, "mean", 1, w, &dice);
            float *variance = noise(&dice, 6);
            for (unsigned k = 0; k < 6; k++)
                variance[k] += 1;
            msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("variance", ONNX_F32, w, 1, variance, 24));
            free(variance);
            n = onnx_node("BatchNormalization", "c,scale,shift,mean,variance", "b");
            msg_msg(&g, GRAPH_NODES, n);
            graph_noise(&g, "each", i & 2 ? 4 : 3, each + (i & 2 ? 0 : 1), &dice);
            n = onnx_node("Add", i & 4 ? "b,each" : "each,b", "a");
            msg_msg(&g, GRAPH_NODES, n);
            msg_msg(&g, GRAPH_NODES, onnx_node(i & 8 ? "Relu" : "Identity", "a", "r"));
            for (unsigned k = 0; seen && k < 3; k++)
                msg_msg(&g, GRAPH_OUTPUTS, onnx_value(&"c\0b\0a"[2 * k], ONNX_F32, NULL, 0));
            float *data = noise(&dice, 3 * 7 * 7);
            struct msg file = onnx_model(g, 13);
            struct engine_model *m =
                engine_model_load(engine_any(false), view_of(file.p, file.n), 4, &e);
            if (!m)
                fail_msg("%s", e.text);
            struct engine_instance *in = engine_instance_new(m, &e);
            x.data = data;
            assert_true(engine_run(in, &x, out, &e));
            assert_int_equal(out[0].bytes, sizeof(kept));
            for (unsigned k = 0; seen && k < 6 * 5 * 5; k++)
                assert_true(fabsf(kept[k] - ((const float *)out[0].data)[k]) < 1e-4f);
            memcpy(kept, out[0].data, sizeof(kept));
            engine_instance_free(in);
            engine_model_free(m);
            free(data);
            free(file.p);
        }
    }
}

// Large enough to be worth a second thread.
static void threads(void **state)
{
    (void)state;
    rand_seed(&dice, 11);
    for (unsigned n = 1; n <= 3; n++) {
        int64_t image[4] = {-1, 16, 40, 40}, w[4] = {32, 16, 3, 3};
        struct msg g = graph_of(image, 4, "z");
        struct engine *engine =
            engine_with((struct cpu_options){.threads = n}, (struct engine_limits){0});
        msg_msg(&g, GRAPH_NODES, conv(&g, "x", "y", "w", w, true));
        msg_msg(&g, GRAPH_NODES, onnx_node("Relu", "y", "z"));
        compare_on(engine, g, 3, image, 4);
        engine_free(engine);
    }
}

// conv -> pool -> Add of a branch, of a number a channel, of one number -> conv -> Reshape.
static void chain(void **state)
{
    (void)state;
    static const char *const pools[] = {"MaxPool", "AveragePool"};
    rand_seed(&dice, 8);
    for (unsigned i = 0; i < 20; i++) {
        int64_t image[4] = {-1, 3, 12, 14}, w1[4] = {12, 3, 3, 3}, w2[4] = {12, 12, 1, 1};
        int64_t w3[4] = {5, 12, 3, 3}, each[4] = {1, 12, 1, 1}, single[1] = {1};
        int64_t kernel[2] = {roll(2, 3), 2}, pads[4] = {0, roll(0, 1), roll(0, 1), 1};
        struct msg g = graph_of(image, 4, "out"), n;
        msg_msg(&g, GRAPH_NODES, conv(&g, "x", "a", "w1", w1, true));
        n = onnx_node(pools[i % 2], "a", "b");
        onnx_ints(&n, "kernel_shape", 2, kernel);
        onnx_ints(&n, "pads", 4, pads);
        if (i % 2 == 1)
            onnx_int(&n, "count_include_pad", roll(0, 1));
        msg_msg(&g, GRAPH_NODES, n);
        msg_msg(&g, GRAPH_NODES, conv(&g, "b", "c", "w2", w2, false));
        msg_msg(&g, GRAPH_NODES, onnx_node("Add", i & 2 ? "b,c" : "c,b", "d"));
        graph_noise(&g, "each", i & 4 ? 4 : 3, each + (i & 4 ? 0 : 1), &dice);
        graph_noise(&g, "single", 1, single, &dice);
        msg_msg(&g, GRAPH_NODES, onnx_node("Mul", "each,d", "e"));
        msg_msg(&g, GRAPH_NODES, onnx_node("Sub", "e,single", "f"));
        msg_msg(&g, GRAPH_NODES, onnx_node("Relu", "f", "h"));
        msg_msg(&g, GRAPH_NODES, conv(&g, "h", "k", "w3", w3, true));
        msg_msg(&g, GRAPH_NODES, onnx_node("Sigmoid", "k", "l"));
        if (i % 3 == 0)
            msg_msg(&g, GRAPH_NODES, onnx_node("GlobalAveragePool", "l", "m"));
        n = onnx_node("Flatten", i % 3 == 0 ? "m" : "l", "out");
        msg_msg(&g, GRAPH_NODES, n);
        compare(g, roll(1, 3), image, 4);
    }
}

// Images that come and go channels last: the file's own Transposes fall away or meet ours.
static void transposes(void **state)
{
    (void)state;
    static const int64_t to_last[4] = {0, 2, 3, 1}, to_first[4] = {0, 3, 1, 2};
    rand_seed(&dice, 9);
    for (unsigned both = 0; both < 2; both++) {
        int64_t image[4] = {-1, 10, 11, 4}, w1[4] = {9, 4, 3, 3};
        struct msg g = graph_of(image, 4, "out"), n = onnx_node("Transpose", "x", "a");
        onnx_ints(&n, "perm", 4, to_first);
        msg_msg(&g, GRAPH_NODES, n);
        msg_msg(&g, GRAPH_NODES, conv(&g, "a", "b", "w1", w1, true));
        n = onnx_node("Transpose", "b", both ? "c" : "out");
        onnx_ints(&n, "perm", 4, to_last);
        msg_msg(&g, GRAPH_NODES, n);
        if (both) { // b is wanted in its first form too
            n = onnx_node("Flatten", "b", "d");
            msg_msg(&g, GRAPH_NODES, n);
            msg_msg(&g, GRAPH_NODES, onnx_node("Flatten", "c", "f"));
            msg_msg(&g, GRAPH_NODES, onnx_node("Add", "d,f", "out"));
        }
        compare(g, 3, image, 4);
    }
}

// A Transpose of the file's right before a convolution, of every order that keeps the rows: both moves are one. Somebody
// else may look at what it makes.
static void turned_before(void **state)
{
    (void)state;
    static const int64_t orders[6][4] = {{0, 1, 2, 3}, {0, 1, 3, 2}, {0, 2, 1, 3},
                                         {0, 2, 3, 1}, {0, 3, 1, 2}, {0, 3, 2, 1}};
    rand_seed(&dice, 16);
    for (unsigned k = 0; k < 12; k++) {
        const int64_t *order = orders[k / 2];
        int64_t image[4] = {-1, 9, 10, 11}, w[4] = {8, image[order[1]], 3, 3};
        struct msg g = graph_of(image, 4, "out"), n = onnx_node("Transpose", "x", "a");
        onnx_ints(&n, "perm", 4, order);
        msg_msg(&g, GRAPH_NODES, n);
        msg_msg(&g, GRAPH_NODES, conv(&g, "a", k & 1 ? "b" : "out", "w", w, true));
        if (k & 1) {
            msg_msg(&g, GRAPH_NODES, onnx_node("Flatten", "a", "d"));
            msg_msg(&g, GRAPH_NODES, onnx_node("Flatten", "b", "f"));
            n = onnx_node("Concat", "d,f", "out");
            onnx_int(&n, "axis", 1);
            msg_msg(&g, GRAPH_NODES, n);
        }
        compare(g, 3, image, 4);
    }
}

// Planes larger than what is turned at a time, and what is left over; each element where it belongs, between guard pages.
static void planes(void **state)
{
    (void)state;
    struct engine_error e;
    struct engine *guarded = engine_new(guard_device_new(), NULL, (struct engine_limits){0}, &e);
    static const int64_t shapes[][3] = {{2, 16, 16}, {1, 40, 37}, {3, 17, 64}, {2, 5, 33}};
    static const int64_t orders[][3] = {{0, 2, 1}, {1, 2, 0}, {2, 1, 0}, {2, 0, 1}};
    static float x[3 * 64 * 64];
    for (unsigned k = 0; k < 16; k++) {
        const int64_t *dims = shapes[k / 4], *order = orders[k % 4];
        struct msg g = graph_of(dims, 3, "y"), n = onnx_node("Transpose", "x", "y");
        onnx_ints(&n, "perm", 3, order);
        msg_msg(&g, GRAPH_NODES, n);
        struct msg file = onnx_model(g, 13);
        struct engine_model *m = engine_model_load(guarded, view_of(file.p, file.n), 1, &e);
        struct engine_instance *i = m ? engine_instance_new(m, &e) : NULL;
        struct engine_data in = {.data = x, .rank = 3}, out;
        memcpy(in.shape, dims, 3 * sizeof(*dims));
        in.bytes = (size_t)(dims[0] * dims[1] * dims[2]) * sizeof(*x);
        for (size_t at = 0; at < in.bytes / sizeof(*x); at++)
            x[at] = (float)at;
        if (!i || !engine_run(i, &in, &out, &e))
            fail_msg("%s", e.text);
        const int64_t *to = out.shape, step[3] = {dims[1] * dims[2], dims[2], 1};
        for (int64_t at = 0; at < to[0] * to[1] * to[2]; at++) {
            int64_t from = at / (to[1] * to[2]) * step[order[0]] +
                           at / to[2] % to[1] * step[order[1]] + at % to[2] * step[order[2]];
            assert_true(((const float *)out.data)[at] == (float)from);
        }
        engine_instance_free(i);
        engine_model_free(m);
        free(file.p);
    }
    engine_free(guarded);
}

// A row that holds what is not a number: its answer says so, behind a Relu too, and the other rows of the batch do not
// notice.
static void not_a_number(void **state)
{
    (void)state;
    for (unsigned relu = 0; relu < 2; relu++) {
        int64_t image[4] = {-1, 4, 8, 8}, w[4] = {16, 4, 3, 3};
        enum { ELEMENTS = 4 * 8 * 8 };
        rand_seed(&dice, 10);
        struct msg g = graph_of(image, 4, relu ? "z" : "y");
        msg_msg(&g, GRAPH_NODES, conv(&g, "x", "y", "w", w, true));
        if (relu)
            msg_msg(&g, GRAPH_NODES, onnx_node("Relu", "y", "z"));
        struct msg file = onnx_model(g, 13);
        struct engine_error e;
        struct engine_model *m =
            engine_model_load(engine_any(false), view_of(file.p, file.n), 8, &e);
        struct engine_instance *in = engine_instance_new(m, &e);
        float *data = noise(&dice, (size_t)2 * ELEMENTS);
        struct engine_data x = {data, 2 * ELEMENTS * 4, 4, {2, 4, 8, 8}}, out;
        assert_true(engine_run(in, &x, &out, &e));
        size_t half = out.bytes / 2;
        char *clean = malloc(out.bytes);
        memcpy(clean, out.data, out.bytes);
        data[0] = NAN;
        assert_true(engine_run(in, &x, &out, &e));
        float first = ((const float *)out.data)[0];
        assert_true(isnan(first));
        assert_memory_equal((const char *)out.data + half, clean + half, half);
        engine_instance_free(in);
        engine_model_free(m);
        free(clean);
        free(data);
        free(file.p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one),           cmocka_unit_test(threads),
        cmocka_unit_test(fused),         cmocka_unit_test(transposed_once_more),
        cmocka_unit_test(chain),         cmocka_unit_test(transposes),
        cmocka_unit_test(turned_before), cmocka_unit_test(planes),
        cmocka_unit_test(not_a_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
