// Ops of com.microsoft against the ops of ONNX's own that they stand for, in one graph on the same inputs: what
// both give is compared. Between guard pages.
#include "engine/engine.h"
#include "tests/unit/engine_guard.h"
#include "tests/unit/engine_kit.h"

#include <math.h>
#include <setjmp.h>
#include <stddef.h>

#include <cmocka.h>

static struct engine_error e;

enum { ONNX_U8 = 2, ONNX_I32 = 6, MAX_INPUTS = 8 };

static struct msg graph;
static struct engine_data inputs[MAX_INPUTS];
static unsigned n_inputs;

static struct engine *guarded(void)
{
    static struct engine *g;
    if (!g)
        g = engine_new(guard_device_new(), NULL, (struct engine_limits){0}, &e);
    return g;
}

static size_t elements(const int64_t *shape, unsigned rank)
{
    size_t n = 1;
    for (unsigned i = 0; i < rank; i++)
        n *= (size_t)shape[i];
    return n;
}

static void add_input(const char *name, unsigned type, unsigned rank, const int64_t *shape,
                      void *data, size_t bytes)
{
    struct engine_data *in = &inputs[n_inputs++];
    *in = (struct engine_data){.data = data, .bytes = bytes, .rank = rank};
    memcpy(in->shape, shape, rank * sizeof(*shape));
    msg_msg(&graph, GRAPH_INPUTS, onnx_value(name, type, shape, rank));
}

// An input of numbers between -1 and 1, another one for each name.
static void floats(const char *name, unsigned rank, const int64_t *shape)
{
    size_t n = elements(shape, rank);
    float *x = malloc(n * sizeof(*x));
    uint32_t state = (uint32_t)(name[0] * 131 + name[1]);
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525 + 1013904223;
        x[i] = (float)(state >> 8) / (1 << 23) - 1;
    }
    add_input(name, ONNX_F32, rank, shape, x, n * sizeof(*x));
}

static void whole(const char *name, unsigned rank, const int64_t *shape, const int32_t *v)
{
    size_t bytes = elements(shape, rank) * sizeof(*v);
    int32_t *x = malloc(bytes);
    memcpy(x, v, bytes);
    add_input(name, ONNX_I32, rank, shape, x, bytes);
}

static void constant(const char *name, unsigned type, unsigned rank, const int64_t *shape,
                     const void *v, size_t bytes)
{
    msg_msg(&graph, GRAPH_CONSTANTS, onnx_tensor(name, type, shape, rank, v, bytes));
}

static struct msg microsoft(const char *type, const char *in, const char *out)
{
    struct msg n = onnx_node(type, in, out);
    msg_text(&n, 7, "com.microsoft");
    return n;
}

static void put(struct msg node)
{
    msg_msg(&graph, GRAPH_NODES, node);
}

static struct msg whole_model(void)
{
    struct msg m = {0}, own = {0}, other = {0};
    msg_msg(&graph, GRAPH_OUTPUTS, onnx_value("y", ONNX_F32, NULL, 0));
    msg_msg(&graph, GRAPH_OUTPUTS, onnx_value("z", ONNX_F32, NULL, 0));
    msg_uint(&m, 1, 10);
    msg_msg(&m, 7, graph);
    msg_uint(&own, 2, 23);
    msg_msg(&m, 8, own);
    msg_text(&other, 1, "com.microsoft");
    msg_uint(&other, 2, 1);
    msg_msg(&m, 8, other);
    graph = (struct msg){0};
    return m;
}

// Outputs y and z of the graph are the same.
static void compare(void)
{
    struct msg file = whole_model();
    struct engine_data out[2];
    struct engine_model *m = engine_model_load(guarded(), view_of(file.p, file.n), 4, &e);
    if (!m)
        fail_msg("%s", e.text);
    struct engine_instance *i = engine_instance_new(m, &e);
    if (!engine_run(i, inputs, out, &e))
        fail_msg("%s", e.text);
    assert_int_equal(out[0].bytes, out[1].bytes);
    assert_true(out[0].bytes > 0);
    for (size_t k = 0; k < out[0].bytes / sizeof(float); k++) {
        float a = ((const float *)out[0].data)[k], b = ((const float *)out[1].data)[k];
        if (!(fabsf(a - b) <= 1e-5f + 1e-5f * fabsf(b)))
            fail_msg("element %zu: %g instead of %g", k, (double)a, (double)b);
    }
    engine_instance_free(i);
    engine_model_free(m);
    free(file.p);
    for (unsigned k = 0; k < n_inputs; k++)
        free((void *)inputs[k].data);
    n_inputs = 0;
}

#define SHAPE(...)                                                                                 \
    (const int64_t[])                                                                              \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

// ---- what adds before it computes --------------------------------------------------------------------

static void gelus(void **state)
{
    (void)state;
    floats("x", 3, SHAPE(2, 3, 8));
    floats("b", 1, SHAPE(8));
    put(microsoft("BiasGelu", "x,b", "y"));
    put(onnx_node("Add", "x,b", "s"));
    put(onnx_node("Gelu", "s", "z"));
    compare();
    floats("x", 3, SHAPE(2, 3, 8));
    floats("b", 1, SHAPE(8));
    put(microsoft("FastGelu", "x,b", "y"));
    put(onnx_node("Add", "x,b", "s"));
    struct msg fast = onnx_node("Gelu", "s", "z");
    onnx_string(&fast, "approximate", "tanh");
    put(fast);
    compare();
}

static void skips(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 2; k++) { // with beta and bias, or simplified
        floats("x", 3, SHAPE(2, 3, 19));
        floats("s", 3, SHAPE(2, 3, 19));
        floats("g", 1, SHAPE(19));
        floats("b", 1, SHAPE(19));
        struct msg skip = k ? microsoft("SkipSimplifiedLayerNormalization", "x,s,g,b", "y,,,sum")
                            : microsoft("SkipLayerNormalization", "x,s,g,b,b", "y,,,sum");
        onnx_float(&skip, "epsilon", 1e-5f);
        put(skip);
        put(onnx_node("Add", "x,s", "t"));
        put(onnx_node("Add", "t,b", "u"));
        put(onnx_node(k ? "RMSNormalization" : "LayerNormalization", k ? "u,g" : "u,g,b", "z"));
        compare();
    }
}

static void embeddings(void **state)
{
    (void)state;
    whole("ids", 2, SHAPE(2, 3), (const int32_t[]){4, 0, 2, 1, 1, 3});
    whole("segments", 2, SHAPE(2, 3), (const int32_t[]){0, 1, 1, 0, 0, 1});
    floats("words", 2, SHAPE(5, 8));
    floats("places", 2, SHAPE(3, 8));
    floats("kinds", 2, SHAPE(2, 8));
    floats("g", 1, SHAPE(8));
    floats("b", 1, SHAPE(8));
    struct msg embed =
        microsoft("EmbedLayerNormalization", "ids,segments,words,places,kinds,g,b", "y");
    onnx_float(&embed, "epsilon", 1e-5f);
    put(embed);
    put(onnx_node("Gather", "words,ids", "w"));
    put(onnx_node("Gather", "kinds,segments", "k"));
    put(onnx_node("Add", "w,k", "s"));
    put(onnx_node("Add", "s,places", "t"));
    put(onnx_node("LayerNormalization", "t,g,b", "z"));
    compare();
}

static void embeddings_without_segments(void **state)
{
    (void)state;
    whole("ids", 2, SHAPE(2, 3), (const int32_t[]){4, 0, 2, 1, 1, 3});
    floats("words", 2, SHAPE(5, 8));
    floats("places", 2, SHAPE(3, 8));
    floats("g", 1, SHAPE(8));
    floats("b", 1, SHAPE(8));
    struct msg embed = microsoft("EmbedLayerNormalization", "ids,,words,places,,g,b", "y");
    onnx_float(&embed, "epsilon", 1e-5f);
    put(embed);
    put(onnx_node("Gather", "words,ids", "w"));
    put(onnx_node("Add", "w,places", "t"));
    put(onnx_node("LayerNormalization", "t,g,b", "z"));
    compare();
}

static void tables_that_cannot_be(void **state)
{
    (void)state;
    whole("ids", 2, SHAPE(1, 2), (const int32_t[]){0, 1});
    whole("segments", 2, SHAPE(1, 2), (const int32_t[]){0, 0});
    floats("words", 2, SHAPE(5, 8));
    floats("b", 1, SHAPE(8));
    constant("g", ONNX_F32, 0, NULL, &(float){1}, 4); // one number is no vector
    put(microsoft("EmbedLayerNormalization", "ids,segments,words,words,words,g,b", "y"));
    put(onnx_node("Identity", "y", "z"));
    struct msg file = whole_model();
    assert_null(engine_model_load(guarded(), view_of(file.p, file.n), 4, &e));
    assert_non_null(strstr(e.text, "expected float32 tables"));
    free(file.p);
    while (n_inputs > 0)
        free((void *)inputs[--n_inputs].data);
}

static void products(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 4; k++) {
        bool a = k & 1, b = k & 2;
        struct msg fused = microsoft("FusedMatMul", "x,w", "y");
        struct msg turn_a = onnx_node("Transpose", "x", "xt"),
                   turn_b = onnx_node("Transpose", "w", "wt");
        floats("x", 3, a ? SHAPE(2, 5, 3) : SHAPE(2, 3, 5));
        floats("w", 3, b ? SHAPE(1, 4, 5) : SHAPE(1, 5, 4));
        onnx_int(&fused, "transA", a);
        onnx_int(&fused, "transB", b);
        onnx_float(&fused, "alpha", 0.5f);
        put(fused);
        onnx_ints(&turn_a, "perm", 3, a ? SHAPE(0, 2, 1) : SHAPE(0, 1, 2));
        onnx_ints(&turn_b, "perm", 3, b ? SHAPE(0, 2, 1) : SHAPE(0, 1, 2));
        put(turn_a);
        put(turn_b);
        put(onnx_node("MatMul", "xt,wt", "p"));
        constant("half", ONNX_F32, 0, NULL, &(float){0.5f}, 4);
        put(onnx_node("Mul", "p,half", "z"));
        compare();
    }
}

// ---- exporters' ways ---------------------------------------------------------------------------------

// A scale of other axes than those that are normalized: of the last one, one number, all.
static void scales_of_other_axes(void **state)
{
    (void)state;
    static const int64_t shape[] = {2, 3, 8};
    for (unsigned k = 0; k < 6; k++) {
        unsigned rank = k / 2 == 2 ? 3 : k / 2;
        const char *op = k & 1 ? "RMSNormalization" : "LayerNormalization";
        floats("x", 3, shape);
        floats("s", rank, shape + 3 - rank);
        constant("one", ONNX_F32, 1, SHAPE(8), (const float[]){1, 1, 1, 1, 1, 1, 1, 1}, 32);
        struct msg own = onnx_node(op, k & 1 ? "x,s" : "x,s,s", "y");
        struct msg plain = onnx_node(op, "x,one", "n");
        onnx_int(&own, "axis", rank == 1 ? 1 : -1);
        if (rank == 1) {
            constant("to", 7, 1, SHAPE(2), SHAPE(3, 8), 16);
            put(onnx_node("Expand", "one,to", "ones"));
            free(plain.p);
            plain = onnx_node(op, "x,ones", "n");
            onnx_int(&plain, "axis", 1);
        }
        put(own);
        put(plain);
        put(onnx_node("Mul", "n,s", k & 1 ? "z" : "m"));
        if (!(k & 1))
            put(onnx_node("Add", "m,s", "z"));
        compare();
    }
}

// Gemm of float64 is Gemm.
static void doubles(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 8; k++) {
        bool a = k & 1, b = k & 2, third = k & 4;
        const char *const names[] = {"x", "w", "c"};
        floats("x", 2, a ? SHAPE(5, 3) : SHAPE(3, 5));
        floats("w", 2, b ? SHAPE(4, 5) : SHAPE(5, 4));
        floats("c", third ? 2 : 1, third ? SHAPE(3, 1) : SHAPE(4));
        struct msg gemm = onnx_node("Gemm", "x,w,c", "z"),
                   wide = onnx_node("Gemm", "xd,wd,cd", "yd"), back = onnx_node("Cast", "yd", "y");
        for (unsigned i = 0; i < 3; i++) {
            char to[4];
            snprintf(to, sizeof(to), "%sd", names[i]);
            struct msg cast = onnx_node("Cast", names[i], to);
            onnx_int(&cast, "to", 11);
            put(cast);
        }
        struct msg *const both[] = {&gemm, &wide};
        for (unsigned i = 0; i < 2; i++) {
            onnx_int(both[i], "transA", a);
            onnx_int(both[i], "transB", b);
            onnx_float(both[i], "alpha", 0.5f);
            onnx_float(both[i], "beta", 2);
        }
        put(gemm);
        put(wide);
        onnx_int(&back, "to", ONNX_F32);
        put(back);
        compare();
    }
}

// ---- attention ---------------------------------------------------------------------------------------

static struct msg own_attention(const char *in, bool causal)
{
    struct msg n = onnx_node("Attention", in, "z");
    onnx_int(&n, "q_num_heads", 2);
    onnx_int(&n, "kv_num_heads", 2);
    onnx_int(&n, "is_causal", causal);
    return n;
}

static void heads(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 3; k++) { // plain, causal, with a bias that is added
        struct msg many = microsoft("MultiHeadAttention", k == 2 ? "q,k,v,,,m" : "q,k,v", "y");
        floats("q", 3, SHAPE(2, 4, 8));
        floats("k", 3, SHAPE(2, 4, 8));
        floats("v", 3, SHAPE(2, 4, 6));
        if (k == 2)
            floats("m", 4, SHAPE(1, 2, 4, 4));
        onnx_int(&many, "num_heads", 2);
        onnx_int(&many, "unidirectional", k == 1);
        onnx_float(&many, "mask_filter_value", -INFINITY);
        put(many);
        put(own_attention(k == 2 ? "q,k,v,m" : "q,k,v", k == 1));
        compare();
    }
}

// Weights of queries, keys and values side by side; a mask of lengths as bools.
static void one_product(void **state)
{
    (void)state;
    static const uint8_t seen[8] = {1, 1, 1, 0, 1, 0, 0, 0};
    for (unsigned k = 0; k < 2; k++) {
        struct msg all = microsoft("Attention", k ? "x,w,b,n" : "x,w,b", "y");
        struct msg split = onnx_node("Split", "p", "q,k,v");
        floats("x", 3, SHAPE(2, 4, 5));
        floats("w", 2, SHAPE(5, 24));
        floats("b", 1, SHAPE(24));
        if (k)
            whole("n", 1, SHAPE(2), (const int32_t[]){3, 1});
        onnx_int(&all, "num_heads", 2);
        onnx_float(&all, "mask_filter_value", -INFINITY);
        put(all);
        put(onnx_node("MatMul", "x,w", "xw"));
        put(onnx_node("Add", "xw,b", "p"));
        onnx_int(&split, "axis", 2);
        put(split);
        constant("seen", 9, 4, SHAPE(2, 1, 1, 4), seen, sizeof(seen));
        put(own_attention(k ? "q,k,v,seen" : "q,k,v", false));
        compare();
    }
}

// ---- bytes -------------------------------------------------------------------------------------------

// x and w to bytes and back, then in floats, and to bytes; the other way in bytes, where a zero point of 0 is left
// out.
static void bytes(const char *op, const char *plain, uint8_t zero)
{
    static const float scale = 0.01f, wide = 0.03f; // no sum of two is a tie
    const char *in;
    bool two = strcmp(plain, "Add") == 0 || strcmp(plain, "Mul") == 0;
    bool images = strcmp(plain, "GlobalAveragePool") == 0;
    floats("x", images ? 3 : 2, images ? SHAPE(3, 2, 7) : SHAPE(3, 7));
    floats("w", 2, SHAPE(1, 7));
    constant("s", ONNX_F32, 0, NULL, &scale, 4);
    constant("t", ONNX_F32, 0, NULL, &wide, 4);
    constant("o", ONNX_U8, 0, NULL, &zero, 1);
    put(onnx_node("QuantizeLinear", "x,s,o", "xq"));
    put(onnx_node("QuantizeLinear", "w,s,o", "wq"));
    if (zero)
        in = two ? "xq,s,o,wq,s,o,t,o" : "xq,s,o,t,o";
    else
        in = two ? "xq,s,,wq,s,,t" : "xq,s,,t";
    struct msg direct = microsoft(op, in, "yq"),
               floating = onnx_node(plain, two ? "xf,wf" : "xf", "zf");
    if (strcmp(plain, "LeakyRelu") == 0) {
        onnx_float(&direct, "alpha", 0.125f);
        onnx_float(&floating, "alpha", 0.125f);
    }
    put(direct);
    put(onnx_node("DequantizeLinear", "yq,t,o", "y"));
    put(onnx_node("DequantizeLinear", "xq,s,o", "xf"));
    put(onnx_node("DequantizeLinear", "wq,s,o", "wf"));
    put(floating);
    put(onnx_node("QuantizeLinear", "zf,t,o", "zq"));
    put(onnx_node("DequantizeLinear", "zq,t,o", "z"));
    compare();
}

static void bytes_for_floats(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 2; k++) {
        uint8_t zero = k ? 0 : 120;
        bytes("QLinearAdd", "Add", zero);
        bytes("QLinearMul", "Mul", zero);
        bytes("QLinearSoftmax", "Softmax", zero);
        bytes("QLinearSigmoid", "Sigmoid", zero);
        bytes("QLinearLeakyRelu", "LeakyRelu", zero);
        bytes("QLinearGlobalAveragePool", "GlobalAveragePool", zero);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gelus),
        cmocka_unit_test(skips),
        cmocka_unit_test(embeddings),
        cmocka_unit_test(embeddings_without_segments),
        cmocka_unit_test(tables_that_cannot_be),
        cmocka_unit_test(products),
        cmocka_unit_test(scales_of_other_axes),
        cmocka_unit_test(doubles),
        cmocka_unit_test(heads),
        cmocka_unit_test(one_product),
        cmocka_unit_test(bytes_for_floats),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    engine_free(guarded());
    return failed;
}
