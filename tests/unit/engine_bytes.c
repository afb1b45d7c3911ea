// Ops on bytes with constant weights, which have kernels of their own, against the same ops with the weights as inputs,
// which go the plain way: the same bits. And what stands between DequantizeLinear and QuantizeLinear, joined, against
// its twin that is not, since somebody looks between: the next whole number at most. Between guard pages.
#include "engine/engine.h"
#include "tests/unit/engine_guard.h"
#include "tests/unit/engine_kit.h"
#include "tests/unit/engine_vectors.h"

#include <math.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

enum { ONNX_U8 = 2, ONNX_I8 = 3, ONNX_I32 = 6, MOST = 1 << 15 };

static struct rand dice;
static struct engine_error e;

static int64_t roll(int64_t low, int64_t high)
{
    return low + (int64_t)(rand_u64(&dice) % (uint64_t)(high - low + 1));
}

static struct engine *guarded(void)
{
    static struct engine *g;
    if (!g)
        g = engine_new(guard_device_new(), NULL, (struct engine_limits){0}, &e);
    return g;
}

struct tensor {
    const char *name;
    unsigned type, rank;
    int64_t shape[4];
    uint8_t data[MOST];
    size_t bytes;
};

static size_t element(unsigned type)
{
    return type == ONNX_F32 || type == ONNX_I32 ? 4 : 1;
}

static struct tensor *tensor(const char *name, unsigned type, unsigned rank, const int64_t *shape)
{
    struct tensor *t = calloc(1, sizeof(*t));
    *t = (struct tensor){.name = name, .type = type, .rank = rank};
    t->bytes = element(type);
    for (unsigned i = 0; i < rank; i++)
        t->bytes *= (size_t)(t->shape[i] = shape[i]);
    assert_true(t->bytes <= MOST);
    for (size_t i = 0; i < t->bytes; i++)
        t->data[i] = (uint8_t)rand_u64(&dice);
    for (size_t i = 0; i < t->bytes / 4 && type == ONNX_F32; i++)
        ((float *)(void *)t->data)[i] = 0.01f * (float)roll(1, 40);
    for (size_t i = 0; i < t->bytes / 4 && type == ONNX_I32; i++)
        ((int32_t *)(void *)t->data)[i] = (int32_t)roll(-5000, 5000);
    return t;
}

// ---- two ways ----------------------------------------------------------------------------------------

enum { MOST_TENSORS = 9 };

struct two { // a node and what it reads; the first is an input always
    struct tensor *t[MOST_TENSORS];
    unsigned n;
    struct msg node;
};

static void add(struct two *w, struct tensor *t)
{
    w->t[w->n++] = t;
}

// A file of that graph, with com.microsoft's ops. NULL with e.
static struct engine_model *load(struct msg g)
{
    struct msg file = {0}, own = {0}, other = {0};
    msg_uint(&file, 1, 10);
    msg_msg(&file, 7, g);
    msg_uint(&own, 2, 21);
    msg_msg(&file, 8, own);
    msg_text(&other, 1, "com.microsoft");
    msg_uint(&other, 2, 1);
    msg_msg(&file, 8, other);
    struct engine_model *m = engine_model_load(guarded(), view_of(file.p, file.n), 4, &e);
    free(file.p);
    return m;
}

static void run_two(struct two *w, struct msg node, bool constants, struct engine_data *out,
                    struct engine_model **m, struct engine_instance **in)
{
    struct msg g = {0};
    struct engine_data x[MOST_TENSORS];
    unsigned inputs = 0;
    for (unsigned i = 0; i < w->n; i++) {
        const struct tensor *t = w->t[i];
        if (i > 0 && constants) {
            msg_msg(&g, GRAPH_CONSTANTS,
                    onnx_tensor(t->name, t->type, t->shape, t->rank, t->data, t->bytes));
            continue;
        }
        msg_msg(&g, GRAPH_INPUTS, onnx_value(t->name, t->type, t->shape, t->rank));
        x[inputs] = (struct engine_data){.data = t->data, .bytes = t->bytes, .rank = t->rank};
        memcpy(x[inputs++].shape, t->shape, sizeof(t->shape));
    }
    msg_msg(&g, GRAPH_NODES, node);
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", 0, NULL, 0));
    if (!(*m = load(g)))
        fail_msg("%s", e.text);
    *in = engine_instance_new(*m, &e);
    if (!engine_run(*in, x, out, &e))
        fail_msg("%s", e.text);
}

static struct msg copy_of(struct msg m)
{
    struct msg copy = {0};
    msg_raw(&copy, m.p, m.n);
    return copy;
}

static void same_bits(struct two *w)
{
    struct engine_model *m[2];
    struct engine_instance *in[2];
    struct engine_data out[2];
    struct msg again = copy_of(w->node);
    run_two(w, w->node, true, &out[0], &m[0], &in[0]);
    run_two(w, again, false, &out[1], &m[1], &in[1]);
    assert_int_equal(out[0].bytes, out[1].bytes);
    assert_true(out[0].bytes > 0);
    for (size_t i = 0; i < out[0].bytes; i++) {
        const uint8_t *a = out[0].data, *b = out[1].data;
        if (a[i] != b[i])
            fail_msg("byte %zu of %zu: %u instead of %u", i, out[0].bytes, a[i], b[i]);
    }
    for (unsigned k = 0; k < 2; k++) {
        engine_instance_free(in[k]);
        engine_model_free(m[k]);
    }
    for (unsigned i = 0; i < w->n; i++)
        free(w->t[i]);
}

static unsigned byte_type(void)
{
    return roll(0, 1) ? ONNX_U8 : ONNX_I8;
}

static void add_scaled(struct two *w, const char *const names[3], unsigned type, unsigned rank,
                       const int64_t *shape, int64_t scales)
{
    add(w, tensor(names[0], type, rank, shape));
    add(w, tensor(names[1], ONNX_F32, scales > 1, &scales));
    add(w, tensor(names[2], type, scales > 1, &scales));
}

static const char *const x_names[] = {"x", "sx", "zx"}, *const w_names[] = {"w", "sw", "zw"},
                         *const y_names[] = {"", "sy", "zy"};

static void add_answer(struct two *w, unsigned type)
{
    add(w, tensor(y_names[1], ONNX_F32, 0, NULL));
    ((float *)(void *)w->t[w->n - 1]->data)[0] *= 40;
    add(w, tensor(y_names[2], type, 0, NULL));
}

static void products(void **state)
{
    (void)state;
    rand_seed(&dice, 11);
    for (unsigned i = 0; i < 200; i++) {
        int64_t rows = roll(1, 70), depth = roll(1, 40), cols = roll(1, 50);
        unsigned a = byte_type(), b = byte_type();
        struct two whole = {0}, linear = {0};
        add(&whole, tensor("x", a, 2, (int64_t[]){rows, depth}));
        add(&whole, tensor("w", b, 2, (int64_t[]){depth, cols}));
        bool each = roll(0, 1) && cols > 1;
        add(&whole, tensor("zx", a, 0, NULL));
        add(&whole, tensor("zw", b, each, &cols));
        whole.node = onnx_node("MatMulInteger", i % 3 ? "x,w,zx,zw" : "x,w", "y");
        whole.n = i % 3 ? 4 : 2;
        for (unsigned k = whole.n; k < 4; k++)
            free(whole.t[k]);
        same_bits(&whole);
        add_scaled(&linear, x_names, a, 2, (int64_t[]){rows, depth}, 1);
        add_scaled(&linear, w_names, b, 2, (int64_t[]){depth, cols}, each ? cols : 1);
        add_answer(&linear, byte_type());
        linear.node = onnx_node("QLinearMatMul", "x,sx,zx,w,sw,zw,sy,zy", "y");
        same_bits(&linear);
    }
}

static void gemms(void **state)
{
    (void)state;
    rand_seed(&dice, 12);
    for (unsigned i = 0; i < 100; i++) {
        int64_t rows = roll(1, 40), depth = roll(1, 40), cols = roll(2, 50);
        struct two w = {0};
        bool floats = roll(0, 1), each = roll(0, 1);
        add_scaled(&w, x_names, byte_type(), 2, (int64_t[]){rows, depth}, 1);
        add_scaled(&w, w_names, byte_type(), 2, (int64_t[]){depth, cols}, each ? cols : 1);
        add(&w, tensor("c", ONNX_I32, 1, &cols));
        if (!floats)
            add_answer(&w, byte_type());
        w.node = onnx_node("QGemm", floats ? "x,sx,zx,w,sw,zw,c" : "x,sx,zx,w,sw,zw,c,sy,zy", "y");
        msg_text(&w.node, 7, "com.microsoft");
        onnx_float(&w.node, "alpha", 0.5f);
        same_bits(&w);
    }
}

static void convolutions(void **state)
{
    (void)state;
    rand_seed(&dice, 13);
    for (unsigned i = 0; i < 300; i++) {
        int64_t groups = roll(0, 1) ? 1 : roll(2, 20), channels = roll(0, 2) ? roll(1, 9) : 1;
        int64_t outs = roll(0, 1) ? 1 : roll(1, 20), line = i % 5 == 0;
        int64_t k[2] = {roll(1, 3), roll(1, 4)};
        int64_t pads[4] = {roll(0, 2), roll(0, 2), roll(0, 3), roll(0, 1)};
        int64_t strides[2] = {roll(1, 2), roll(1, 3)}, dilations[2] = {roll(1, 2), roll(1, 2)};
        int64_t image[4] = {roll(1, 2), groups * channels, roll(6, 9), roll(7, 11)};
        int64_t kernel[4] = {groups * outs, channels, k[0], k[1]};
        struct two w = {0};
        unsigned rank = line ? 3 : 4;
        bool integer = roll(0, 1), each = roll(0, 1) && groups * outs > 1;
        if (i % 7 == 0)
            kernel[2] = kernel[3] = strides[0] = strides[1] = 1;
        unsigned xt = byte_type(), wt = byte_type();
        int64_t zeros = groups * outs;
        if (integer) {
            add(&w, tensor("x", xt, rank, image));
            add(&w, tensor("w", wt, rank, kernel));
            add(&w, tensor("zx", xt, 0, NULL));
            add(&w, tensor("zw", wt, each, &zeros));
            w.node = onnx_node("ConvInteger", "x,w,zx,zw", "y");
        } else {
            add_scaled(&w, x_names, xt, rank, image, 1);
            add_scaled(&w, w_names, wt, rank, kernel, each ? zeros : 1);
            add_answer(&w, xt);
            add(&w, tensor("b", ONNX_I32, 1, &zeros));
            w.node = onnx_node("QLinearConv", "x,sx,zx,w,sw,zw,sy,zy,b", "y");
        }
        onnx_ints(&w.node, "pads", 2 * (rank - 2), pads);
        onnx_ints(&w.node, "strides", rank - 2, strides);
        onnx_ints(&w.node, "dilations", rank - 2, dilations);
        onnx_int(&w.node, "group", groups);
        same_bits(&w);
    }
}

// ---- joined ------------------------------------------------------------------------------------------

static void scale_of(struct msg *g, const char *name, float v)
{
    msg_msg(g, GRAPH_CONSTANTS, onnx_tensor(name, ONNX_F32, NULL, 0, &v, sizeof(v)));
}

static void constant(struct msg *g, struct tensor *t)
{
    msg_msg(g, GRAPH_CONSTANTS,
            onnx_tensor(t->name, t->type, t->shape, t->rank, t->data, t->bytes));
    free(t);
}

// x is quantized, goes through `op`, Relu if there is one, and is quantized again. watched: the float is an output.
static struct msg quantized(const char *op, bool relu, bool watched, bool turned)
{
    static const int64_t image[] = {3, 4, 9, 9}, rows[] = {37, 20};
    static const float sx = 0.02f, sw = 0.03f;
    const float both = sx * sw;
    bool conv = strcmp(op, "Conv") == 0, matmul = strcmp(op, "MatMul") == 0;
    struct msg g = {0};
    rand_seed(&dice, 14);
    int64_t kernel[] = {8, 4, 3, 3}, wide[] = {turned ? 8 : 20, turned ? 20 : 8}, outs = 8;
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", ONNX_F32, conv ? image : rows, conv ? 4 : 2));
    constant(&g, tensor("w", ONNX_I8, conv ? 4 : 2, conv ? kernel : wide));
    constant(&g, tensor("b", ONNX_I32, 1, &outs));
    scale_of(&g, "sx", sx);
    scale_of(&g, "sw", sw);
    scale_of(&g, "sb", both);
    scale_of(&g, "sy", 0.4f);
    msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("zx", ONNX_U8, NULL, 0, &(uint8_t){120}, 1));
    msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("zw", ONNX_I8, NULL, 0, &(uint8_t){0}, 1));
    graph_node(&g, "QuantizeLinear", "x,sx,zx", "xq");
    graph_node(&g, "DequantizeLinear", "xq,sx,zx", "xf");
    graph_node(&g, "DequantizeLinear", "w,sw,zw", "wf");
    graph_node(&g, "DequantizeLinear", "b,sb", "bf");
    struct msg n = onnx_node(op, matmul ? "xf,wf" : "xf,wf,bf", relu ? "r" : "f");
    if (turned)
        onnx_int(&n, "transB", 1);
    msg_msg(&g, GRAPH_NODES, n);
    if (relu)
        graph_node(&g, "Relu", "r", "f");
    graph_node(&g, "QuantizeLinear", "f,sy,zx", "yq");
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("yq", ONNX_U8, NULL, 0));
    if (watched)
        msg_msg(&g, GRAPH_OUTPUTS, onnx_value("f", ONNX_F32, NULL, 0));
    return onnx_model(g, 13);
}

static unsigned joins;

static void count_joins(void *ctx, enum engine_note what, const char *text)
{
    (void)ctx;
    joins += what == ENGINE_FUSED && strstr(text, "DequantizeLinear") != NULL;
}

static struct engine_model *load_counted(struct msg file)
{
    struct engine_source s = {.onnx = view_of(file.p, file.n), .note = count_joins};
    joins = 0;
    struct engine_model *m = engine_model_open(guarded(), &s, 4, &e);
    if (!m)
        fail_msg("%s", e.text);
    free(file.p);
    return m;
}

static void twins(const char *op, bool relu, bool turned)
{
    bool conv = strcmp(op, "Conv") == 0;
    size_t n = conv ? 3 * 4 * 9 * 9 : 37 * 20, off = 0;
    float *x = malloc(n * sizeof(*x));
    struct engine_model *m[2];
    struct engine_instance *in[2];
    struct engine_data out[2][2];
    struct engine_data data = {.data = x, .bytes = n * sizeof(*x), .rank = conv ? 4 : 2};
    memcpy(data.shape, conv ? (int64_t[]){3, 4, 9, 9} : (int64_t[]){37, 20, 0, 0}, 32);
    rand_seed(&dice, 15);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)roll(-250, 250) / 100;
    for (unsigned k = 0; k < 2; k++) {
        m[k] = load_counted(quantized(op, relu, k == 1, turned));
        assert_int_equal(joins, k == 0); // somebody looks at the float of the other
        in[k] = engine_instance_new(m[k], &e);
        if (!engine_run(in[k], &data, out[k], &e))
            fail_msg("%s", e.text);
    }
    assert_int_equal(out[0][0].bytes, out[1][0].bytes);
    for (size_t i = 0; i < out[0][0].bytes; i++) {
        int a = ((const uint8_t *)out[0][0].data)[i], b = ((const uint8_t *)out[1][0].data)[i];
        if (abs(a - b) > 1)
            fail_msg("%s: byte %zu: %d instead of %d", op, i, a, b);
        off += a != b;
    }
    assert_true(off * 50 <= out[0][0].bytes); // ties are few
    for (unsigned k = 0; k < 2; k++) {
        engine_instance_free(in[k]);
        engine_model_free(m[k]);
    }
    free(x);
}

static void joined(void **state)
{
    (void)state;
    for (unsigned relu = 0; relu < 2; relu++) {
        twins("Conv", relu, false);
        twins("MatMul", relu, false);
        twins("Gemm", relu, false);
        twins("Gemm", relu, true);
    }
}

// ---- scales ------------------------------------------------------------------------------------------

static void byte_of(struct msg *g, const char *name, uint8_t v)
{
    msg_msg(g, GRAPH_CONSTANTS, onnx_tensor(name, ONNX_U8, NULL, 0, &v, 1));
}

static struct engine_model *quantizing(float scale)
{
    struct msg g = {0};
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", ONNX_F32, (int64_t[]){8}, 1));
    scale_of(&g, "s", scale);
    byte_of(&g, "z", 120);
    graph_node(&g, "QuantizeLinear", "x,s,z", "y");
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", ONNX_U8, NULL, 0));
    return load(g);
}

static void run_once(struct engine_model *m, const float *x, unsigned n, struct engine_data *out,
                     struct engine_instance **in)
{
    const struct engine_data data = {.data = x, .bytes = n * sizeof(*x), .rank = 1, .shape = {n}};
    if (!m)
        fail_msg("%s", e.text);
    *in = engine_instance_new(m, &e);
    if (!engine_run(*in, &data, out, &e))
        fail_msg("%s", e.text);
}

// What onnxruntime makes of them; a sum that is no number is the lowest byte.
static void scales_that_are_no_scales(void **state)
{
    (void)state;
    static const float x[8] = {0, 1, -1, 1e30f, -1e30f, INFINITY, -INFINITY, NAN};
    static const struct {
        float scale;
        uint8_t y[8];
    } rows[] = {{0, {0, 255, 0, 255, 0, 255, 0, 0}},
                {NAN, {0}},
                {INFINITY, {120, 120, 120, 120, 120, 0, 0, 0}},
                {-1, {120, 119, 121, 0, 255, 0, 255, 0}},
                {1.2e-38f, {120, 255, 0, 255, 0, 255, 0, 0}}};
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct engine_model *m = quantizing(rows[i].scale);
        struct engine_instance *in;
        struct engine_data out;
        run_once(m, x, 8, &out, &in);
        assert_memory_equal(out.data, rows[i].y, 8);
        engine_instance_free(in);
        engine_model_free(m);
    }
}

// Numbers below 1.2e-38 count as 0; nothing is divided by one.
static void scales_that_vanish(void **state)
{
    (void)state;
    static const struct {
        const char *op, *in, *domain;
        unsigned rank;
    } rows[] = {{"QLinearMatMul", "x,s,z,w,s,z,t,z", "", 4},
                {"QLinearConv", "x,s,z,w,s,z,t,z", "", 4},
                {"QGemm", "x,s,z,w,s,z,,t,z", "com.microsoft", 2},
                {"QLinearAdd", "x,s,z,w,s,z,t,z", "com.microsoft", 4},
                {"QLinearSigmoid", "x,s,z,t,z", "com.microsoft", 4}};
    static const int64_t ones[4] = {1, 1, 1, 1};
    for (unsigned i = 0; i < 2 * sizeof(rows) / sizeof(rows[0]); i++) {
        struct msg g = {0}, n = onnx_node(rows[i / 2].op, rows[i / 2].in, "y");
        msg_text(&n, 7, rows[i / 2].domain);
        msg_msg(&g, GRAPH_INPUTS, onnx_value("x", ONNX_U8, ones, rows[i / 2].rank));
        constant(&g, tensor("w", ONNX_U8, rows[i / 2].rank, ones));
        scale_of(&g, "s", 0.1f);
        scale_of(&g, "t", i % 2 ? 1e-40f : 0.1f);
        byte_of(&g, "z", 120);
        msg_msg(&g, GRAPH_NODES, n);
        msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", ONNX_U8, NULL, 0));
        struct engine_model *m = load(g);
        if ((m == NULL) != (i % 2 == 1) || (!m && !strstr(e.text, "between 0 and 1.2e-38")))
            fail_msg("%s: %s", rows[i / 2].op, m ? "taken" : e.text);
        engine_model_free(m);
    }
    assert_null(quantizing(1e-40f));
    assert_non_null(strstr(e.text, "between 0 and 1.2e-38"));
}

// A range without an end has no zero point: it is 0.
static void a_range_without_end(void **state)
{
    (void)state;
    static const float x[2] = {-INFINITY, 1};
    struct msg g = {0}, n = onnx_node("DynamicQuantizeMatMul", "x,w,s", "y");
    msg_text(&n, 7, "com.microsoft");
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", ONNX_F32, (int64_t[]){2}, 1));
    constant(&g, tensor("w", ONNX_U8, 2, (int64_t[]){2, 3}));
    scale_of(&g, "s", 0.1f);
    msg_msg(&g, GRAPH_NODES, n);
    graph_node(&g, "DynamicQuantizeLinear", "x", "q,r,zero");
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", ONNX_F32, NULL, 0));
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("zero", ONNX_U8, NULL, 0));
    struct engine_model *m = load(g);
    struct engine_instance *in;
    struct engine_data out[2];
    run_once(m, x, 2, out, &in);
    for (unsigned c = 0; c < 3; c++)
        assert_true(isnan(((const float *)out[0].data)[c]));
    assert_int_equal(*(const uint8_t *)out[1].data, 0);
    engine_instance_free(in);
    engine_model_free(m);
}

static int all(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products),
        cmocka_unit_test(gemms),
        cmocka_unit_test(convolutions),
        cmocka_unit_test(joined),
        cmocka_unit_test(scales_that_are_no_scales),
        cmocka_unit_test(scales_that_vanish),
        cmocka_unit_test(a_range_without_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
    return vectors_each(all);
}
