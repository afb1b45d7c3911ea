// Resize and ConvTranspose where ONNX's own tests do not look: sizes that cannot be, images of one pixel, and
// every pixel of a transposed convolution against the plainest loop.
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

static int64_t roll(int64_t low, int64_t high)
{
    return low + (int64_t)rand_below(&dice, (uint64_t)(high - low + 1));
}

static struct engine_model *try(struct msg g)
{
    struct msg file = onnx_model(g, 13);
    struct engine_model *m = engine_model_load(engine_any(false), view_of(file.p, file.n), 16, &e);
    free(file.p);
    return m;
}

// ---- Resize ------------------------------------------------------------------------------------------

static struct msg resize(const int64_t *image, const float *scales, const int64_t *sizes,
                         const char *mode)
{
    struct msg g = {0}, n = onnx_node("Resize", scales ? "x,,s" : "x,,,s", "y");
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", ONNX_F32, image, 4));
    if (scales)
        msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("s", ONNX_F32, (int64_t[]){4}, 1, scales, 16));
    else
        msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("s", ONNX_I64, (int64_t[]){4}, 1, sizes, 32));
    onnx_string(&n, "mode", mode);
    msg_msg(&g, GRAPH_NODES, n);
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", ONNX_F32, NULL, 0));
    return g;
}

static void refuses(struct msg g, const char *why)
{
    expect_refusal(try(g), e.text, why);
}

static void sizes_that_cannot_be(void **state)
{
    (void)state;
    static const int64_t image[4] = {-1, 1, 8, 8};
    static const float wrong[] = {0, -1, NAN, INFINITY, 1e-30f, 1e30f};
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        float scales[4] = {1, 1, wrong[i], 1};
        refuses(resize(image, scales, NULL, "linear"), "one pixel or more");
    }
    refuses(resize(image, NULL, (int64_t[]){1, 1, 0, 4}, "nearest"), "one pixel or more");
    refuses(resize(image, NULL, (int64_t[]){1, 1, INT64_MIN, 4}, "nearest"), "one pixel or more");
    refuses(resize(image, NULL, (int64_t[]){1, 1, INT64_MAX, 4}, "nearest"), "one pixel or more");
    refuses(resize(image, NULL, (int64_t[]){1, 1, 1 << 20, 1 << 20}, "cubic"), "elements");
    refuses(resize(image, NULL, (int64_t[]){1, 1, 32000, 32000}, "cubic"), "memory");
    // As many pixels at both ends, 2^56 between two axes.
    refuses(resize((int64_t[]){1, 1, 1, 1 << 28}, NULL, (int64_t[]){1, 1, 1 << 28, 1}, "linear"),
            "memory");
    refuses(resize(image, (float[]){1, 1, 2, 2}, NULL, "sinc"), "mode");
}

// The scales are an input: each run has its own size, or says what is wrong with it.
static void sizes_that_come_as_data(void **state)
{
    (void)state;
    struct msg g = {0}, n = onnx_node("Resize", "x,,s", "y");
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", ONNX_F32, (int64_t[]){1, 1, 2, 2}, 4));
    msg_msg(&g, GRAPH_INPUTS, onnx_value("s", ONNX_F32, (int64_t[]){4}, 1));
    msg_msg(&g, GRAPH_NODES, n);
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", ONNX_F32, (int64_t[]){-1, -1, -1, -1}, 4));
    struct engine_model *m = try(g);
    assert_non_null(m);
    struct engine_instance *i = engine_instance_new(m, &e);
    float x[4] = {1, 2, 3, 4}, s[4] = {1, 1, 1, 1};
    struct engine_data in[2] = {{x, 16, 4, {1, 1, 2, 2}}, {s, 16, 1, {4}}}, out;
    for (int64_t k = 1; k < 5; k++) {
        s[2] = (float)k;
        assert_true(engine_run(i, in, &out, &e));
        assert_true(out.shape[2] == 2 * k && out.shape[3] == 2);
        assert_true(((const float *)out.data)[4 * k - 1] == 4);
    }
    static const float wrong[] = {0, -1, NAN, INFINITY, 1e30f};
    for (unsigned k = 0; k < sizeof(wrong) / sizeof(wrong[0]); k++) {
        s[2] = wrong[k];
        assert_false(engine_run(i, in, &out, &e));
        assert_non_null(strstr(e.text, "Resize (node \"the-node\")"));
    }
    s[2] = 3;
    assert_true(engine_run(i, in, &out, &e)); // and goes on
    engine_instance_free(i);
    engine_model_free(m);
}

// One pixel becomes many of the same, whatever the mode.
static void images_of_one_pixel(void **state)
{
    (void)state;
    static const char *const modes[] = {"nearest", "linear", "cubic"};
    static const float x[2] = {3.5f, -2};
    for (unsigned k = 0; k < 3; k++) {
        struct engine_model *m =
            try(resize((int64_t[]){-1, 2, 1, 1}, (float[]){1, 1, 3, 5}, NULL, modes[k]));
        struct engine_instance *i = engine_instance_new(m, &e);
        struct engine_data in = {x, sizeof(x), 4, {1, 2, 1, 1}}, out;
        assert_true(engine_run(i, &in, &out, &e));
        assert_int_equal(out.bytes, sizeof(x) * 15);
        for (unsigned p = 0; p < 30; p++)
            assert_true(fabsf(((const float *)out.data)[p] - x[p / 15]) < 1e-5f);
        engine_instance_free(i);
        engine_model_free(m);
    }
}

// ---- ConvTranspose -----------------------------------------------------------------------------------

struct shape {
    int64_t rows, groups, channels, outs, in[2], kernel[2], stride[2], dilation[2], pads[4], out[2];
};

static void plainly(const struct shape *s, const float *x, const float *w, const float *bias,
                    float *y)
{
    int64_t ins = s->groups * s->channels, outs = s->groups * s->outs;
    for (int64_t i = 0; i < s->rows * outs * s->out[0] * s->out[1]; i++)
        y[i] = bias[i / (s->out[0] * s->out[1]) % outs];
    for (int64_t n = 0; n < s->rows; n++) {
        for (int64_t c = 0; c < ins; c++) {
            for (int64_t at = 0; at < s->in[0] * s->in[1]; at++) {
                float v = x[(n * ins + c) * s->in[0] * s->in[1] + at];
                for (int64_t k = 0; k < s->outs * s->kernel[0] * s->kernel[1]; k++) {
                    int64_t o = k / (s->kernel[0] * s->kernel[1]),
                            ky = k / s->kernel[1] % s->kernel[0], kx = k % s->kernel[1];
                    int64_t oy = at / s->in[1] * s->stride[0] - s->pads[0] + ky * s->dilation[0];
                    int64_t ox = at % s->in[1] * s->stride[1] - s->pads[1] + kx * s->dilation[1];
                    if (oy < 0 || oy >= s->out[0] || ox < 0 || ox >= s->out[1])
                        continue;
                    int64_t channel = n * outs + c / s->channels * s->outs + o;
                    y[(channel * s->out[0] + oy) * s->out[1] + ox] +=
                        v * w[c * s->outs * s->kernel[0] * s->kernel[1] + k];
                }
            }
        }
    }
}

static void fill(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)rand_unit(&dice) - 0.5f;
}

static struct msg transposed(const struct shape *s, const float *w, const float *bias)
{
    int64_t image[4] = {-1, s->groups * s->channels, s->in[0], s->in[1]};
    int64_t dims[4] = {image[1], s->outs, s->kernel[0], s->kernel[1]};
    int64_t outs = s->groups * s->outs;
    struct msg g = {0}, n = onnx_node("ConvTranspose", "x,w,b", "y");
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", ONNX_F32, image, 4));
    msg_msg(&g, GRAPH_CONSTANTS,
            onnx_tensor("w", ONNX_F32, dims, 4, w,
                        (size_t)(dims[0] * dims[1] * dims[2] * dims[3]) * 4));
    msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("b", ONNX_F32, &outs, 1, bias, (size_t)outs * 4));
    onnx_ints(&n, "strides", 2, s->stride);
    onnx_ints(&n, "dilations", 2, s->dilation);
    onnx_ints(&n, "pads", 4, s->pads);
    onnx_int(&n, "group", s->groups);
    msg_msg(&g, GRAPH_NODES, n);
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", ONNX_F32, NULL, 0));
    return g;
}

static void against_the_plainest_loop(void **state)
{
    (void)state;
    static float x[20000], w[20000], bias[64], want[200000];
    rand_seed(&dice, 21);
    for (unsigned round = 0; round < 60; round++) {
        struct shape s = {.rows = roll(1, 3),
                          .groups = roll(0, 2) ? 1 : roll(2, 3),
                          .channels = roll(1, 5),
                          .outs = roll(1, 5)};
        for (unsigned a = 0; a < 2; a++) {
            s.in[a] = roll(1, 8);
            s.kernel[a] = roll(1, 4);
            s.stride[a] = roll(1, 3);
            s.dilation[a] = roll(1, 2);
            s.out[a] = s.stride[a] * (s.in[a] - 1) + (s.kernel[a] - 1) * s.dilation[a] + 1;
            s.pads[a] = roll(0, (s.out[a] - 1) / 2);
            s.pads[2 + a] = roll(0, (s.out[a] - 1) / 2);
            s.out[a] -= s.pads[a] + s.pads[2 + a];
        }
        int64_t image = s.groups * s.channels * s.in[0] * s.in[1];
        fill(x, s.rows * image);
        fill(w, s.groups * s.channels * s.outs * s.kernel[0] * s.kernel[1]);
        fill(bias, s.groups * s.outs);
        struct engine_model *m = try(transposed(&s, w, bias));
        if (!m)
            fail_msg("%s", e.text);
        assert_int_equal(engine_model_max_batch(m), 16);
        struct engine_instance *i = engine_instance_new(m, &e);
        struct engine_data out, in = {x,
                                      (size_t)(s.rows * image) * 4,
                                      4,
                                      {s.rows, s.groups * s.channels, s.in[0], s.in[1]}};
        assert_true(engine_run(i, &in, &out, &e));
        assert_true(out.shape[2] == s.out[0] && out.shape[3] == s.out[1]);
        plainly(&s, x, w, bias, want);
        for (size_t k = 0; k < out.bytes / 4; k++) {
            float d = ((const float *)out.data)[k] - want[k];
            if (!(fabsf(d) <= 1e-5f))
                fail_msg("round %u, element %zu: off by %g", round, k, (double)d);
        }
        engine_instance_free(i);
        engine_model_free(m);
    }
}

static void windows_that_cannot_be(void **state)
{
    (void)state;
    float w[9] = {0}, bias[1] = {0};
    struct shape right = {1, 1, 1, 1, {4, 4}, {3, 3}, {1, 1}, {1, 1}, {0}, {0}}, s = right;
    struct engine_model *m = try(transposed(&right, w, bias));
    assert_non_null(m);
    engine_model_free(m);
    for (unsigned k = 0; k < 6; k++) {
        static const int64_t wrong[] = {0, -1, INT64_MAX, INT64_MIN, 1 << 20, 7};
        s = right;
        if (k < 5)
            s.stride[k % 2] = wrong[k];
        else
            s.pads[0] = wrong[k]; // of an answer of 6 rows
        refuses(transposed(&s, w, bias), "ConvTranspose");
    }
    refuses(
        transposed(&(struct shape){1, 1, 1, 1, {4, 4}, {3, 3}, {1, 1}, {INT64_MAX, 1}, {0}, {0}}, w,
                   bias),
        "ConvTranspose");
}

// ---- Conv over one axis ------------------------------------------------------------------------------

// Weights constant and not, longer than is done at a time, against the plainest loop.
static void lines(void **state)
{
    (void)state;
    rand_seed(&dice, 11);
    for (unsigned round = 0; round < 40; round++) {
        int64_t groups = roll(1, 3), in = groups * roll(1, 5), out = groups * roll(1, 5);
        int64_t kernel = roll(1, 4), by = roll(1, 2), step = roll(1, 3), pad = roll(0, 3);
        int64_t n = roll(1, 2), length = roll(12, 300), each = in / groups;
        size_t n_x = (size_t)(n * in * length), n_w = (size_t)(out * each * kernel);
        float *x = malloc(n_x * 4), *w = malloc(n_w * 4), b[15];
        for (size_t k = 0; k < n_x; k++)
            x[k] = (float)roll(-4, 4) / 4;
        for (size_t k = 0; k < n_w; k++)
            w[k] = (float)roll(-4, 4) / 4;
        for (int64_t k = 0; k < out; k++)
            b[k] = (float)k;
        struct msg g = {0}, node = onnx_node("Conv", "x,w,b", "y");
        bool constant = round % 2;
        msg_msg(&g, GRAPH_INPUTS, onnx_value("x", ONNX_F32, (int64_t[]){-1, in, -1}, 3));
        if (constant)
            msg_msg(&g, GRAPH_CONSTANTS,
                    onnx_tensor("w", ONNX_F32, (int64_t[]){out, each, kernel}, 3, w, n_w * 4));
        else
            msg_msg(&g, GRAPH_INPUTS, onnx_value("w", ONNX_F32, (int64_t[]){out, each, kernel}, 3));
        msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("b", ONNX_F32, &out, 1, b, (size_t)out * 4));
        onnx_int(&node, "group", groups);
        onnx_ints(&node, "pads", 2, (int64_t[]){pad, pad});
        onnx_ints(&node, "strides", 1, &step);
        onnx_ints(&node, "dilations", 1, &by);
        msg_msg(&g, GRAPH_NODES, node);
        msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", ONNX_F32, NULL, 0));
        struct engine_model *m = try(g);
        assert_non_null(m);
        struct engine_instance *i = engine_instance_new(m, &e);
        struct engine_data data[2] = {{x, n_x * 4, 3, {n, in, length}},
                                      {w, n_w * 4, 3, {out, each, kernel}}},
                           y;
        if (!engine_run(i, data, &y, &e))
            fail_msg("%s", e.text);
        int64_t places = (length + 2 * pad - (kernel - 1) * by - 1) / step + 1;
        assert_int_equal(y.shape[2], places);
        for (int64_t k = 0; k < n * out * places; k++) {
            int64_t image = k / places / out, o = k / places % out, p = k % places;
            double want = (double)b[o];
            for (int64_t c = 0; c < each; c++) {
                for (int64_t t = 0; t < kernel; t++) {
                    int64_t at = p * step - pad + t * by;
                    const float *line = x + (image * in + o / (out / groups) * each + c) * length;
                    if (at >= 0 && at < length)
                        want += (double)line[at] * (double)w[(o * each + c) * kernel + t];
                }
            }
            assert_true(fabs(want - (double)((const float *)y.data)[k]) < 1e-4);
        }
        engine_instance_free(i);
        engine_model_free(m);
        free(x);
        free(w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_that_cannot_be),      cmocka_unit_test(lines),
        cmocka_unit_test(sizes_that_come_as_data),   cmocka_unit_test(images_of_one_pixel),
        cmocka_unit_test(against_the_plainest_loop), cmocka_unit_test(windows_that_cannot_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
