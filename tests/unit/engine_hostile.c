// Model files from strangers: cut anywhere, with lengths, shapes and references that lie. Each is refused
// with a message that names what is wrong, or loads and runs; nothing is taken from an unchecked length
// (ASan and UBSan see to the rest).
#include "base/rand.h"
#include "engine/engine.h"
#include "tests/unit/engine_kit.h"

#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static const int64_t row4[2] = {-1, 4};

static struct msg input(const char *name, const int64_t *dims, unsigned rank)
{
    struct msg g = {0};
    msg_msg(&g, GRAPH_INPUTS, onnx_value(name, ONNX_F32, dims, rank));
    return g;
}

static void output(struct msg *g, const char *name)
{
    msg_msg(g, GRAPH_OUTPUTS, onnx_value(name, ONNX_F32, NULL, 0));
}

static void floats(struct msg *g, const char *name, unsigned rank, const int64_t *dims, size_t n)
{
    float *x = calloc(n + 1, sizeof(*x));
    msg_msg(g, GRAPH_CONSTANTS, onnx_tensor(name, ONNX_F32, dims, rank, x, n * 4));
    free(x);
}

// A small model with a bit of everything: convolution, pool, constants of both kinds, Gemm, Softmax.
static struct msg small_graph(void)
{
    int64_t image[4] = {-1, 1, 6, 6}, w[4] = {4, 1, 3, 3}, b[1] = {4}, kernel[2] = {2, 2};
    int64_t flat[2] = {-1, 16}, dense[2] = {16, 3};
    struct msg g = input("x", image, 4), n;
    floats(&g, "w", 4, w, 36);
    floats(&g, "b", 1, b, 4);
    graph_integers(&g, "shape", 1, 2, flat);
    floats(&g, "dense", 2, dense, 48);
    graph_node(&g, "Conv", "x,w,b", "c");
    graph_node(&g, "Relu", "c", "r");
    n = onnx_node("MaxPool", "r", "p");
    onnx_ints(&n, "kernel_shape", 2, kernel);
    onnx_ints(&n, "strides", 2, kernel);
    msg_msg(&g, GRAPH_NODES, n);
    graph_node(&g, "Reshape", "p,shape", "f");
    graph_node(&g, "Gemm", "f,dense", "d");
    graph_node(&g, "Softmax", "d", "y");
    output(&g, "y");
    return g;
}

// Loads; runs a row of zeros when that works. What the engine said otherwise.
static const char *attempt(const void *p, size_t n)
{
    static struct engine_error e;
    void *exact = malloc(n ? n : 1); // so that a read past the end is seen
    if (n > 0)
        memcpy(exact, p, n);
    struct engine_model *m = engine_model_load(engine_any(false), view_of(exact, n), 8, &e);
    free(exact);
    if (!m) {
        assert_true(e.text[0] != '\0' && strlen(e.text) < sizeof(e.text));
        return e.text;
    }
    struct engine_instance *i = engine_instance_new(m, &e);
    struct engine_data in[64], out[64];
    void *zeros[64] = {0};
    for (unsigned k = 0; k < engine_model_inputs(m); k++) {
        const struct engine_port *port = engine_model_input(m, k);
        size_t count = port->dtype == ENGINE_F64 || port->dtype == ENGINE_I64   ? 8
                       : port->dtype == ENGINE_F32 || port->dtype == ENGINE_I32 ? 4
                                                                                : 1;
        in[k] = (struct engine_data){.rank = port->rank};
        for (unsigned d = 0; d < port->rank; d++)
            count *= (size_t)(in[k].shape[d] = port->shape[d] < 0 ? 1 : port->shape[d]);
        in[k].bytes = count;
        in[k].data = zeros[k] = calloc(count + 1, 1);
    }
    // What zeros say of a shape may be nonsense; then that is said.
    const char *single = engine_model_single_reason(m);
    bool ran = engine_run(i, in, out, &e);
    assert_true(ran || (single && strstr(single, "follow from data") && e.text[0] != '\0'));
    for (unsigned k = 0; ran && k < engine_model_outputs(m); k++) {
        volatile uint8_t last = out[k].bytes ? ((const uint8_t *)out[k].data)[out[k].bytes - 1] : 0;
        (void)last;
    }
    for (unsigned k = 0; k < 64; k++)
        free(zeros[k]);
    engine_instance_free(i);
    engine_model_free(m);
    return NULL;
}

static void takes(struct msg file)
{
    const char *why = attempt(file.p, file.n);
    free(file.p);
    if (why)
        fail_msg("refused: %s", why);
}

static void refuses(struct msg file, const char *what)
{
    const char *why = attempt(file.p, file.n);
    free(file.p);
    if (!why)
        fail_msg("taken; expected: %s", what);
    if (!strstr(why, what))
        fail_msg("expected \"%s\", got \"%s\"", what, why);
}

// ---- the file ----------------------------------------------------------------------------------------

static void cut_anywhere(void **state)
{
    (void)state;
    struct msg file = onnx_model(small_graph(), 13);
    assert_null(attempt(file.p, file.n));
    for (size_t n = 0; n < file.n; n++)
        assert_non_null(attempt(file.p, n));
    free(file.p);
}

static void one_byte_wrong(void **state)
{
    (void)state;
    static const uint8_t with[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
    struct msg file = onnx_model(small_graph(), 13);
    unsigned refused = 0;
    for (size_t at = 0; at < file.n; at++) {
        uint8_t was = file.p[at];
        for (unsigned k = 0; k < sizeof(with); k++) {
            file.p[at] = with[k];
            refused += attempt(file.p, file.n) != NULL;
        }
        file.p[at] = was;
    }
    assert_true(refused > 100); // most of the bytes are weights
    free(file.p);
}

static void not_onnx(void **state)
{
    (void)state;
    refuses((struct msg){0}, "no graph");
    struct msg text = {0};
    msg_raw(&text, "<html>not found</html>", 22);
    refuses(text, "not an ONNX file");
    struct msg deep = {0};
    for (unsigned i = 0; i < 3000;
         i++) { // a graph in a graph in a graph: fields of no meaning to us
        struct msg outer = {0};
        msg_msg(&outer, 7, deep);
        deep = outer;
    }
    refuses(deep, "");
    struct msg group = {0};
    for (unsigned i = 0; i < 100000; i++)
        msg_raw(&group, "\x0b", 1); // groups, opened and never closed
    refuses(group, "not an ONNX file");
    struct msg huge = {0};
    msg_raw(&huge, "\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 10); // a graph of 2^63 - 1 bytes
    refuses(huge, "not an ONNX file");
    refuses(onnx_model(small_graph(), 0), "opset_import");
    refuses(onnx_model(small_graph(), 29), "opset_import");
    refuses(onnx_model(small_graph(), INT64_MIN), "opset_import");
}

// ---- tensors -----------------------------------------------------------------------------------------

static struct msg with_tensor(struct msg tensor)
{
    struct msg g = input("x", row4, 2);
    msg_msg(&g, GRAPH_CONSTANTS, tensor);
    graph_node(&g, "Add", "x,t", "y");
    output(&g, "y");
    return onnx_model(g, 13);
}

static void tensors(void **state)
{
    (void)state;
    float four[4] = {0};
    int64_t negative[1] = {-4}, huge[2] = {(int64_t)1 << 62, 4}, wraps[3] = {1 << 30, 1 << 30, 16};
    int64_t right[1] = {4}, many[17] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 4};
    int64_t twins[2] = {(int64_t)1 << 32, (int64_t)1 << 32}, big[1] = {1 << 30};
    takes(with_tensor(onnx_tensor("t", 1, right, 1, four, 16)));
    refuses(with_tensor(onnx_tensor("t", 1, negative, 1, four, 16)), "none negative");
    refuses(with_tensor(onnx_tensor("t", 1, huge, 2, four, 16)), "too many elements");
    refuses(with_tensor(onnx_tensor("t", 1, twins, 2, four, 0)), "too many elements");
    refuses(with_tensor(onnx_tensor("t", 1, wraps, 3, four, 16)), "too many elements");
    refuses(with_tensor(onnx_tensor("t", 1, big, 1, four, 16)), "bytes of data");
    refuses(with_tensor(onnx_tensor("t", 1, many, 17, four, 16)), "at most 16");
    refuses(with_tensor(onnx_tensor("t", 1, right, 1, four, 15)), "bytes of data");
    refuses(with_tensor(onnx_tensor("t", 1, right, 1, four, 0)), "bytes of data");
    refuses(with_tensor(onnx_tensor("t", 7, right, 1, four, 16)), "bytes of data");
    refuses(with_tensor(onnx_tensor("t", 8, right, 1, four, 16)),
            "expected 4 strings in string_data");
    refuses(with_tensor(onnx_tensor("t", 14, right, 1, four, 16)), "data type 14");
    refuses(with_tensor(onnx_tensor("t", 0, right, 1, four, 16)), "data type 0");
    refuses(with_tensor(onnx_tensor("other", 1, right, 1, four, 16)),
            "\"t\" is made by no earlier");
}

// A tensor that says 2^30 elements in the typed fields, and has a few.
static void typed_tensors(void **state)
{
    (void)state;
    for (unsigned field = 4; field <= 10; field++) {
        struct msg t = {0};
        msg_uint(&t, 1, 1 << 30);
        msg_uint(&t, 2, 1);
        msg_text(&t, 8, "t");
        if (field != 8 && field != 9)
            msg_bytes(&t, field, "\0\0\0\0\0\0\0\0", 8);
        refuses(with_tensor(t), "tensor \"t\"");
    }
    for (unsigned field = 5; field <= 7; field += 2) { // whole numbers are no floats
        struct msg t = {0};
        msg_uint(&t, 1, 4);
        msg_uint(&t, 2, 1);
        msg_text(&t, 8, "t");
        msg_bytes(&t, field, "\1\2\3\4", 4);
        refuses(with_tensor(t), "expected 4 elements of its data type");
    }
}

static void external_data(void **state)
{
    (void)state;
    static const char *const places[] = {"../weights.bin", "/etc/passwd", "weights.bin", ""};
    for (unsigned i = 0; i < 4; i++) {
        int64_t dims[1] = {4};
        struct msg t = onnx_tensor("t", 1, dims, 1, "0123456789abcdef", 16), entry = {0};
        msg_text(&entry, 1, "location");
        msg_text(&entry, 2, places[i]);
        msg_msg(&t, 13, entry);
        if (i & 1)
            msg_uint(&t, 14, 1);
        refuses(with_tensor(t), "tensor \"t\": has data here and elsewhere");
    }
}

static void twice(void **state)
{
    (void)state;
    int64_t four[1] = {4};
    struct msg g = input("x", row4, 2);
    floats(&g, "t", 1, four, 4);
    floats(&g, "t", 1, four, 4);
    graph_node(&g, "Add", "x,t", "y");
    output(&g, "y");
    refuses(onnx_model(g, 13), "\"t\": the name exists twice");
    g = input("x", row4, 2);
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", ONNX_F32, row4, 2));
    graph_node(&g, "Relu", "x", "y");
    output(&g, "y");
    refuses(onnx_model(g, 13), "\"x\": twice");
    g = input("x", row4, 2);
    graph_node(&g, "Relu", "x", "y");
    graph_node(&g, "Exp", "x", "y");
    output(&g, "y");
    refuses(onnx_model(g, 13), "\"y\" is made twice");
    g = input("x", row4, 2);
    graph_node(&g, "Relu", "x", "x");
    output(&g, "x");
    refuses(onnx_model(g, 13), "\"x\" is made twice");
    struct msg n = onnx_node("Softmax", "x", "y");
    onnx_int(&n, "axis", 1);
    onnx_int(&n, "axis", 0);
    g = input("x", row4, 2);
    msg_msg(&g, GRAPH_NODES, n);
    output(&g, "y");
    refuses(onnx_model(g, 13), "\"axis\"");
}

// ---- the graph ---------------------------------------------------------------------------------------

static void references(void **state)
{
    (void)state;
    struct msg g = input("x", row4, 2);
    graph_node(&g, "Add", "x,b", "a"); // a needs b, b needs a
    graph_node(&g, "Relu", "a", "b");
    output(&g, "b");
    refuses(onnx_model(g, 13), "a cycle");
    g = input("x", row4, 2);
    graph_node(&g, "Add", "x,y", "y");
    output(&g, "y");
    refuses(onnx_model(g, 13), "a cycle");
    g = input("x", row4, 2);
    graph_node(&g, "Relu", "x", "y");
    output(&g, "z");
    refuses(onnx_model(g, 13), "output \"z\"");
    g = input("x", row4, 2);
    graph_node(&g, "Relu", "x", "y");
    refuses(onnx_model(g, 13), "expected inputs and outputs");
    g = input("x", row4, 2);
    graph_node(&g, "Dropout", "x", "y,mask");
    output(&g, "mask");
    refuses(onnx_model(g, 13), "\"mask\"");
    g = input("x", row4, 2);
    graph_node(&g, "Dropout", "x", "y,mask");
    graph_node(&g, "Add", "y,mask", "z");
    output(&g, "z");
    refuses(onnx_model(g, 13), "\"mask\"");
    g = input("x", row4, 2);
    graph_node(&g, "Dropout", "x", "y,mask");
    output(&g, "y");
    takes(onnx_model(g, 13));
    g = input("x", row4, 2); // what goes in comes out
    output(&g, "x");
    graph_node(&g, "Relu", "x", "y");
    output(&g, "y");
    takes(onnx_model(g, 13));
}

static void unknown(void **state)
{
    (void)state;
    struct msg g = input("x", row4, 2), n;
    graph_node(&g, "FlashAttention9", "x", "y");
    output(&g, "y");
    refuses(onnx_model(g, 13), "op FlashAttention9 (node \"the-node\") is not supported");
    g = input("x", row4, 2); // all of them at once, each op with its first node
    graph_node(&g, "Relu", "x", "a");
    graph_node(&g, "Fizz", "a", "b");
    graph_node(&g, "Buzz", "b", "c");
    graph_node(&g, "Fizz", "c", "y");
    output(&g, "y");
    refuses(onnx_model(g, 13), "ops that are not supported: Fizz (node \"the-node\"), Buzz (node "
                               "\"the-node\")");
    g = input("x", row4, 2);
    for (unsigned i = 0; i < 300; i++) {
        char type[64], from[16], to[16];
        snprintf(type, sizeof(type), "AnOpWithAnInconvenientlyLongName%u", i);
        snprintf(from, sizeof(from), i ? "v%u" : "x", i);
        snprintf(to, sizeof(to), "v%u", i + 1);
        graph_node(&g, type, from, to);
    }
    output(&g, "v300");
    refuses(onnx_model(g, 13), "ops that are not supported: AnOpWithAnInconvenientlyLongName0");
    // Also what about an op is not done, and what only its datatype tells.
    g = input("x", row4, 2);
    n = onnx_node("Relu", "x", "a");
    onnx_int(&n, "secret", 1);
    msg_msg(&g, GRAPH_NODES, n);
    graph_node(&g, "Fizz", "a", "y");
    output(&g, "y");
    refuses(onnx_model(g, 13), "refused: Relu (node \"the-node\"): attribute \"secret\" is not "
                               "supported, Fizz (node \"the-node\")");
    g = input("x", row4, 2);
    graph_node(&g, "And", "x,x", "a");
    graph_node(&g, "Not", "a", "b"); // nothing is said of what reads what cannot be
    graph_node(&g, "Not", "x", "y");
    output(&g, "b");
    output(&g, "y");
    refuses(onnx_model(g, 13), "refused: And (node \"the-node\"): expected bools, Not (node "
                               "\"the-node\"): expected bools");
    n = onnx_node("Relu", "x", "y");
    msg_text(&n, 7, "com.stranger");
    g = input("x", row4, 2);
    msg_msg(&g, GRAPH_NODES, n);
    output(&g, "y");
    refuses(onnx_model(g, 13), "op Relu");
    n = onnx_node("Relu", "x", "y");
    onnx_int(&n, "secret", 1);
    g = input("x", row4, 2);
    msg_msg(&g, GRAPH_NODES, n);
    output(&g, "y");
    refuses(onnx_model(g, 13), "attribute \"secret\"");
    n = onnx_node("Softmax", "x", "y"); // an axis that is a text
    onnx_string(&n, "axis", "1");
    g = input("x", row4, 2);
    msg_msg(&g, GRAPH_NODES, n);
    output(&g, "y");
    refuses(onnx_model(g, 13), "attribute \"axis\"");
    struct msg body = {0}, attr = {0};
    graph_node(&body, "Relu", "x", "q");
    msg_text(&attr, 1, "then_branch");
    msg_msg(&attr, 6, body);
    n = onnx_node("Relu", "x", "y");
    msg_msg(&n, 5, attr);
    g = input("x", row4, 2);
    msg_msg(&g, GRAPH_NODES, n);
    output(&g, "y");
    refuses(onnx_model(g, 13), "attribute \"then_branch\" is not supported");
    char name[4096], bad[16] = "Re\x1b[2J\nlu\x01";
    memset(name, 'a', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    g = input("x", row4, 2);
    graph_node(&g, name, "x", "y");
    output(&g, "y");
    refuses(onnx_model(g, 13), "op aaaa");
    g = input("x", row4, 2);
    graph_node(&g, bad, "x", "y");
    output(&g, "y");
    refuses(onnx_model(g, 13), "op Re?[2J?lu?");
}

// m so many times.
static void repeat(struct msg *to, struct msg m, size_t times)
{
    uint8_t *all = malloc(m.n * times);
    for (size_t i = 0; i < times; i++)
        memcpy(all + i * m.n, m.p, m.n);
    msg_raw(to, all, m.n * times);
    free(all);
    free(m.p);
}

static void too_many(void **state)
{
    (void)state;
    struct msg g, n, one;
    char from[16];
    static const size_t nodes[] = {16385, 1000000};
    static const char *const types[] = {"Relu", "Fizz"};
    for (unsigned i = 0; i < 4; i++) {
        g = input("x", row4, 2);
        one = (struct msg){0};
        graph_node(&one, types[i / 2], "x", "y");
        repeat(&g, one, nodes[i % 2]);
        output(&g, "y");
        refuses(onnx_model(g, 13), i / 2 ? "op Fizz" : "16384 nodes");
    }
    g = input("x", row4, 2);
    one = (struct msg){0};
    floats(&one, "c", 0, NULL, 1);
    repeat(&g, one, 65536);
    graph_node(&g, "Relu", "x", "y");
    output(&g, "y");
    refuses(onnx_model(g, 13), "65536 values");
    n = (struct msg){0};
    for (unsigned i = 0; i < 100; i++)
        msg_text(&n, 1, "x");
    msg_text(&n, 2, "y");
    msg_text(&n, 4, "Concat");
    g = input("x", row4, 2);
    msg_msg(&g, GRAPH_NODES, n);
    output(&g, "y");
    refuses(onnx_model(g, 13), "more than 64 inputs");
    n = onnx_node("Relu", "x", "y");
    for (unsigned i = 0; i < 100000; i++)
        msg_raw(&n, "\x2a\x00", 2); // attributes of nothing
    g = input("x", row4, 2);
    msg_msg(&g, GRAPH_NODES, n);
    output(&g, "y");
    refuses(onnx_model(g, 13), "attributes");
    g = (struct msg){0};
    for (unsigned i = 0; i < 70; i++) {
        snprintf(from, sizeof(from), "x%u", i);
        msg_msg(&g, GRAPH_INPUTS, onnx_value(from, ONNX_F32, row4, 2));
    }
    refuses(onnx_model(g, 13), "too many inputs");
}

// ---- shapes ------------------------------------------------------------------------------------------

static struct msg shaped(const int64_t *dims, unsigned rank)
{
    struct msg g = input("x", dims, rank);
    graph_node(&g, "Relu", "x", "y");
    output(&g, "y");
    return onnx_model(g, 13);
}

static void inputs(void **state)
{
    (void)state;
    refuses(shaped((int64_t[]){-2, 4}, 2), "value \"x\"");
    takes(shaped((int64_t[]){1, 0}, 2)); // no elements
    refuses(shaped((int64_t[]){1, INT64_MIN}, 2), "value \"x\"");
    refuses(shaped((int64_t[]){1, (int64_t)1 << 40}, 2), "value \"x\"");
    refuses(shaped((int64_t[]){1, INT32_MAX, INT32_MAX}, 3), "elements");
    takes(shaped((int64_t[]){1, 4, -1}, 3));
    takes(shaped((int64_t[]){-1, -1, -1, -1, -1, -1, -1, -1}, 8));
    struct msg nameless = input("", row4, 2);
    graph_node(&nameless, "Relu", "x", "y");
    output(&nameless, "");
    refuses(onnx_model(nameless, 13), "\"x\" is made by no earlier node");
    nameless = input("", row4, 2);
    output(&nameless, "");
    takes(onnx_model(nameless, 13));
    struct msg many = {0};
    for (unsigned i = 0; i < 10; i++) {
        char name[16];
        snprintf(name, sizeof(name), "x%u", i);
        msg_msg(&many, GRAPH_INPUTS,
                onnx_value(name, ONNX_F32, (int64_t[]){-1, -1, -1, -1, -1, -1, -1, -1}, 8));
    }
    refuses(onnx_model(many, 13), "more than 64 dimensions are free");
    refuses(shaped((int64_t[]){1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, 17),
            "rank up to 16");
    takes(shaped((int64_t[]){-1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3}, 16));
    refuses(shaped((int64_t[]){1, 1 << 30, 1}, 3), "memory"); // 4 GiB of input and of output
    takes(shaped((int64_t[]){-1, 1, 1, 1, 1, 1, 1, 1}, 8));
    takes(shaped(NULL, 0));
    struct msg g = {0}, v = {0}, kind = {0}, tensor = {0};
    msg_uint(&tensor, 1, ONNX_F32);
    msg_msg(&kind, 1, tensor);
    msg_text(&v, 1, "x");
    msg_msg(&v, 2, kind);
    msg_msg(&g, GRAPH_INPUTS, v);
    graph_node(&g, "Identity", "x", "y");
    output(&g, "y");
    refuses(onnx_model(g, 13), "input \"x\": has no shape");
}

// One op on x of [1, 4, 6, 6] and constant integers.
static struct msg with_list(const char *type, const char *in, int64_t opset, unsigned n,
                            const int64_t *a, const int64_t *b, const int64_t *c, const int64_t *d)
{
    int64_t dims[4] = {1, 4, 6, 6};
    struct msg g = input("x", dims, 4);
    graph_integers(&g, "a", 1, n, a);
    if (b)
        graph_integers(&g, "b", 1, n, b);
    if (c)
        graph_integers(&g, "c", 1, n, c);
    if (d)
        graph_integers(&g, "d", 1, n, d);
    graph_node(&g, type, in, "y");
    graph_node(&g, "Flatten", "y", "z");
    output(&g, "z");
    return onnx_model(g, opset);
}

#define L(...) ((int64_t[]){__VA_ARGS__})

static void lists(void **state)
{
    (void)state;
    int64_t most = INT64_MAX, least = INT64_MIN;
    refuses(with_list("Reshape", "x,a", 13, 2, L(-1, -1), NULL, NULL, NULL), "Reshape");
    refuses(with_list("Reshape", "x,a", 13, 2, L(-2, 72), NULL, NULL, NULL), "Reshape");
    refuses(with_list("Reshape", "x,a", 13, 3, L((int64_t)1 << 62, 4, 36), NULL, NULL, NULL),
            "Reshape");
    refuses(with_list("Reshape", "x,a", 13, 2, L(5, -1), NULL, NULL, NULL),
            "Reshape (node \"the-node\"): shape: the elements of [1,4,6,6] do not fit [5,-1]");
    refuses(with_list("Reshape", "x,a", 13, 3, L(2, 0, 12), NULL, NULL, NULL),
            "the elements of [1,4,6,6] do not fit [2,4,12]");
    refuses(with_list("Reshape", "x,a", 13, 5, L(1, 4, 6, 6, 0), NULL, NULL, NULL), "Reshape");
    refuses(with_list("Reshape", "x,a", 13, 17,
                      L(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 144), NULL, NULL, NULL),
            "Reshape");
    refuses(with_list("Unsqueeze", "x,a", 13, 1, L(9), NULL, NULL, NULL), "Unsqueeze");
    refuses(with_list("Unsqueeze", "x,a", 13, 2, L(0, 0), NULL, NULL, NULL), "Unsqueeze");
    refuses(with_list("Unsqueeze", "x,a", 13, 13, L(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12), NULL,
                      NULL, NULL),
            "Unsqueeze");
    refuses(with_list("Unsqueeze", "x,a", 13, 1, &least, NULL, NULL, NULL), "Unsqueeze");
    refuses(with_list("Squeeze", "x,a", 13, 1, L(1), NULL, NULL, NULL), "Squeeze");
    refuses(with_list("Squeeze", "x,a", 13, 1, &most, NULL, NULL, NULL), "Squeeze");
    refuses(with_list("Slice", "x,a", 13, 1, L(0), NULL, NULL, NULL), "Slice");
    refuses(with_list("Slice", "x,a,b,c", 13, 1, L(0), L(1), L(4), NULL), "Slice");
    refuses(with_list("Slice", "x,a,b,c,d", 13, 1, L(0), L(1), L(1), L(0)), "Slice");
    refuses(with_list("Slice", "x,a,b,c,d", 13, 1, L(0), L(1), L(1), &least), "Slice");
    refuses(with_list("Slice", "x,a,b", 13, 5, L(0, 0, 0, 0, 0), L(1, 1, 1, 1, 1), NULL, NULL),
            "Slice");
    takes(with_list("Slice", "x,a,b,c,d", 13, 1, &least, &most, L(1), &most));
    takes(with_list("Slice", "x,a,b,c,d", 13, 1, &most, &least, L(-1), L(-1)));
    takes(with_list("Slice", "x,a,b,c,d", 13, 1, &most, &least, L(2), L(INT64_MIN + 1)));
    takes(with_list("Slice", "x,a,b,c", 13, 1, L(6), L(1), L(2), NULL)); // nothing is left
}

// Nothing times very much is nothing, and its dimensions still multiply.
static void nothing(void **state)
{
    (void)state;
    int64_t dims[4] = {1, 4, 6, 6};
    struct msg g = input("x", dims, 4);
    graph_integers(&g, "a", 1, 1, L(0));
    graph_integers(&g, "shape", 1, 4, L(0, INT32_MAX, INT32_MAX, INT32_MAX));
    struct msg n = onnx_node("Reshape", "e,shape", "h");
    onnx_int(&n, "allowzero", 1);
    graph_node(&g, "Slice", "x,a,a", "e");
    msg_msg(&g, GRAPH_NODES, n);
    graph_node(&g, "Flatten", "h", "y");
    output(&g, "y");
    refuses(onnx_model(g, 14), "elements");
}

static struct msg window(const char *type, const int64_t *image, const int64_t *w, const char *attr,
                         unsigned n, const int64_t *v)
{
    struct msg g = input("x", image, 4), k;
    bool conv = strcmp(type, "Conv") == 0;
    if (conv)
        floats(&g, "w", 4, w, (size_t)(w[0] * w[1] * w[2] * w[3]));
    k = onnx_node(type, conv ? "x,w" : "x", "y");
    if (attr && strcmp(attr, "group") == 0)
        onnx_int(&k, attr, v[0]);
    else if (attr)
        onnx_ints(&k, attr, n, v);
    if (!conv && (!attr || strcmp(attr, "kernel_shape") != 0))
        onnx_ints(&k, "kernel_shape", 2, w + 2);
    msg_msg(&g, GRAPH_NODES, k);
    output(&g, "y");
    return onnx_model(g, 13);
}

static void windows(void **state)
{
    (void)state;
    static const char *const types[] = {"Conv", "MaxPool", "AveragePool"};
    int64_t image[4] = {-1, 4, 8, 8}, w[4] = {4, 4, 3, 3}, most = INT64_MAX, least = INT64_MIN;
    for (unsigned i = 0; i < 3; i++) {
        takes(window(types[i], image, w, NULL, 0, NULL));
        refuses(window(types[i], image, w, "strides", 2, L(0, 1)), types[i]);
        refuses(window(types[i], image, w, "strides", 2, L(-1, 1)), types[i]);
        refuses(window(types[i], image, w, "strides", 2, L(1, most)), types[i]);
        refuses(window(types[i], image, w, "strides", 1, L(1)), types[i]);
        refuses(window(types[i], image, w, "strides", 3, L(1, 1, 1)), types[i]);
        takes(window(types[i], image, w, "strides", 2, L(1 << 20, 1 << 20)));
        refuses(window(types[i], image, w, "dilations", 2, L(0, 1)), types[i]);
        refuses(window(types[i], image, w, "dilations", 2, L(most, 1)), types[i]);
        refuses(window(types[i], image, w, "dilations", 2, L(1 << 20, 1)), types[i]);
        refuses(window(types[i], image, w, "pads", 4, L(-1, 0, 0, 0)), types[i]);
        refuses(window(types[i], image, w, "pads", 4, L(0, 0, most, 0)), types[i]);
        refuses(window(types[i], image, w, "pads", 4, L(least, 0, 0, 0)), types[i]);
        refuses(window(types[i], image, w, "pads", 2, L(1, 1)), types[i]);
        takes(window(types[i], image, w, "pads", 4, L(40, 0, 3, 9)));
        refuses(window(types[i], image, w, "kernel_shape", 2, L(9, 9)), types[i]);
        refuses(window(types[i], image, w, "kernel_shape", 2, L(0, 3)), types[i]);
        refuses(window(types[i], image, w, "kernel_shape", 2, L(most, most)), types[i]);
        refuses(window(types[i], image, w, "kernel_shape", 1, L(3)), types[i]);
    }
    refuses(window("Conv", image, w, "group", 0, L(0)), "Conv");
    refuses(window("Conv", image, w, "group", 0, L(-1)), "Conv");
    refuses(window("Conv", image, w, "group", 0, L(3)), "Conv");
    refuses(window("Conv", image, w, "group", 0, &most), "Conv");
    refuses(window("Conv", image, w, "group", 0, &least), "Conv");
}

// Two inputs of as many dimensions as there are letters before and behind the comma.
static struct msg einsum(const char *equation)
{
    struct msg g = {0}, n = onnx_node("Einsum", "a,b", "y");
    unsigned ranks[2] = {(unsigned)strcspn(equation, ","), 0};
    ranks[1] = (unsigned)strcspn(equation + ranks[0] + 1, "-");
    int64_t ones[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    msg_msg(&g, GRAPH_INPUTS, onnx_value("a", ONNX_F32, ones, ranks[0]));
    msg_msg(&g, GRAPH_INPUTS, onnx_value("b", ONNX_F32, ones, ranks[1]));
    onnx_string(&n, "equation", equation);
    msg_msg(&g, GRAPH_NODES, n);
    output(&g, "y");
    return onnx_model(g, 13);
}

// The answer has no more dimensions than there may be, whether the equation says them or not.
static void equations(void **state)
{
    (void)state;
    takes(einsum("abcdefgh,ijklmnop"));
    takes(einsum("abcdefgh,ijklmnop->abcdefghijklmnop"));
    takes(einsum("abcdefghi,ijklmnopq")); // i is summed: sixteen are left
    takes(einsum("abcdefghi,jklmnopqr->a"));
    refuses(einsum("abcdefghi,jklmnopqr"), "more than 16 dimensions");
    refuses(einsum("abcdefghi,jklmnopqr->abcdefghijklmnopq"), "more than 16 dimensions");
}

static struct msg of_dimensions(const char *type, unsigned n, unsigned rank)
{
    static const int64_t ones[17] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    static const int64_t none[17] = {0};
    struct msg g = input("x", ones, rank);
    if (strcmp(type, "GatherND") == 0)
        msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("s", ONNX_I64, ones, n, none, 8));
    else
        graph_integers(&g, "s", 1, n, ones);
    graph_node(&g, type, "x,s", "y");
    output(&g, "y");
    return onnx_model(g, 13);
}

// Tensors of sixteen dimensions are made, and what would have seventeen is told how many there may be.
static void most_dimensions(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        unsigned rank; // of the input
        const char *why;
    } rows[] = {{"Reshape", 1, "shape: expected a constant list of at most 16"},
                {"Expand", 1, "shape: expected a list of at most 16, known from shapes"},
                {"GatherND", 2, "its output has more than 16 dimensions"}};
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        takes(of_dimensions(rows[i].type, 16, rows[i].rank));
        if (rows[i].rank == 1)
            refuses(of_dimensions(rows[i].type, 17, 1), rows[i].why);
        else
            refuses(of_dimensions(rows[i].type, 16, 3), rows[i].why);
    }
}

// An image has as many axes as a tensor has dimensions behind the first two.
static void most_axes(void **state)
{
    (void)state;
    static const char *const types[] = {"Conv", "ConvTranspose", "MaxPool", "AveragePool",
                                        "LpPool"};
    enum { AXES = 14 };
    int64_t image[2 + AXES] = {-1, 1}, kernel[2 + AXES] = {1, 1};
    for (unsigned i = 0; i < AXES; i++) {
        image[2 + i] = i % 7 == 0 ? 3 : 1;
        kernel[2 + i] = i % 7 == 0 ? 2 : 1;
    }
    for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        struct msg g = input("x", image, 2 + AXES), n;
        n = onnx_node(types[i], i < 2 ? "x,w" : "x", "y");
        if (i < 2)
            floats(&g, "w", 2 + AXES, kernel, 4);
        onnx_ints(&n, "kernel_shape", AXES, kernel + 2);
        msg_msg(&g, GRAPH_NODES, n);
        output(&g, "y");
        takes(onnx_model(g, 13));
    }
    char line[1024];
    unsigned told = 0;
    for (unsigned i = 0; engine_op_line(i, line, sizeof(line)); i++) {
        assert_null(strstr(line, "axis to six"));
        told += strstr(line, "images of one axis to 14") != NULL;
    }
    assert_int_equal(told, sizeof(types) / sizeof(types[0]));
}

static struct msg in_blocks(const char *type, int64_t block, int64_t scales)
{
    bool from = strcmp(type, "DequantizeLinear") == 0;
    struct msg g = {0}, n = onnx_node(type, "x,s", "y");
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", from ? 2 : ONNX_F32, (int64_t[]){4, 5}, 2));
    floats(&g, "s", 2, (int64_t[]){scales, 5}, (size_t)scales * 5);
    onnx_int(&n, "axis", 0);
    onnx_int(&n, "block_size", block);
    msg_msg(&g, GRAPH_NODES, n);
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", from ? ONNX_F32 : 2, NULL, 0));
    return onnx_model(g, 21);
}

// Sizes of blocks, the last one short, and up to where adding to them wraps.
static void blocks(void **state)
{
    (void)state;
    static const char *const types[] = {"QuantizeLinear", "DequantizeLinear"};
    static const int64_t large[] = {4, INT32_MAX, INT64_MAX - 4, INT64_MAX};
    for (unsigned i = 0; i < 2; i++) {
        takes(in_blocks(types[i], 1, 4));
        takes(in_blocks(types[i], 2, 2));
        takes(in_blocks(types[i], 3, 2));
        refuses(in_blocks(types[i], 3, 1), "one a block of the axis");
        refuses(in_blocks(types[i], -1, 4), "block_size below 0");
        for (unsigned k = 0; k < sizeof(large) / sizeof(large[0]); k++) {
            takes(in_blocks(types[i], large[k], 1));
            refuses(in_blocks(types[i], large[k], 0), "one a block of the axis");
        }
    }
}

// Weights that are an input, as large as a shape can say: the columns of such a convolution are 2^62
// numbers, and their bytes with the rest of the plan are more than 2^64.
static void scratch_that_wraps(void **state)
{
    (void)state;
    int64_t image[4] = {1, 46000, 46000, 1}, w[4] = {1, 46000, 200, 1};
    struct msg g = input("x", image, 4);
    msg_msg(&g, GRAPH_INPUTS, onnx_value("w", ONNX_F32, w, 4));
    graph_node(&g, "Conv", "x,w", "c");
    graph_node(&g, "Relu", "x", "y");
    graph_node(&g, "Exp", "x", "z");
    output(&g, "c");
    output(&g, "y");
    output(&g, "z");
    refuses(onnx_model(g, 13), "");
}

// A few bytes that ask for much: doubled 60 times, or multiplied for years.
static void much_of_little(void **state)
{
    (void)state;
    struct msg g = input("x", (int64_t[]){-1, 1024}, 2), n;
    char from[64], to[16];
    floats(&g, "c0", 1, L(1024), 1024);
    for (unsigned i = 0; i < 60; i++) {
        snprintf(from, sizeof(from), "c%u,c%u", i, i);
        snprintf(to, sizeof(to), "c%u", i + 1);
        n = onnx_node("Concat", from, to);
        onnx_int(&n, "axis", 0);
        msg_msg(&g, GRAPH_NODES, n);
    }
    graph_node(&g, "Add", "x,c0", "y");
    output(&g, "y");
    refuses(onnx_model(g, 13), "constant");
    g = input("x", (int64_t[]){-1, 64}, 2); // the same of what is no constant
    for (unsigned i = 0; i < 40; i++) {
        snprintf(from, sizeof(from), i ? "v%u,v%u" : "x,x", i, i);
        snprintf(to, sizeof(to), "v%u", i + 1);
        n = onnx_node("Concat", from, to);
        onnx_int(&n, "axis", 1);
        msg_msg(&g, GRAPH_NODES, n);
    }
    output(&g, "v40");
    refuses(onnx_model(g, 13), "Concat");
    g = input("x", (int64_t[]){1, 16000, 16000}, 3); // 4 * 10^12 multiplications, five times
    for (unsigned i = 0; i < 5; i++) {
        snprintf(from, sizeof(from), i ? "m%u,x" : "x,x", i);
        snprintf(to, sizeof(to), "m%u", i + 1);
        graph_node(&g, "MatMul", from, to);
    }
    output(&g, "m5");
    refuses(onnx_model(g, 13), "multiplications");
    g = input("x", (int64_t[]){1, 1, 20000, 20000}, 4);
    n = onnx_node("MaxPool", "x", "y");
    onnx_ints(&n, "kernel_shape", 2, L(10000, 10000));
    msg_msg(&g, GRAPH_NODES, n);
    output(&g, "y");
    refuses(onnx_model(g, 13), "multiplications");
}

static void memory_runs_out(void **state)
{
    (void)state;
    float zeros[36] = {0};
    struct engine_data in = {zeros, sizeof(zeros), 4, {1, 1, 6, 6}};
    expect_without_memory(onnx_model(small_graph(), 13), &in, 12, 6, 1001);
}

// Random files of valid pieces: whatever comes out, it is refused or it runs.
static void shuffled(void **state)
{
    (void)state;
    static const char *const types[] = {"Add",
                                        "Conv",
                                        "Gemm",
                                        "MatMul",
                                        "Reshape",
                                        "Slice",
                                        "Concat",
                                        "Transpose",
                                        "Softmax",
                                        "Flatten",
                                        "MaxPool",
                                        "Squeeze",
                                        "Unsqueeze",
                                        "Clip",
                                        "BatchNormalization",
                                        "GlobalAveragePool",
                                        "Identity",
                                        "Relu",
                                        "Sigmoid",
                                        "Dropout"};
    static const char *const names[] = {"x", "a", "b", "c", "d", "e", "", "f", "w"};
    struct rand dice;
    unsigned taken = 0;
    rand_seed(&dice, 20);
    for (unsigned round = 0; round < 3000; round++) {
        int64_t dims[4];
        for (unsigned i = 0; i < 4; i++)
            dims[i] = (int64_t)rand_below(&dice, 5) + 1;
        dims[0] = rand_below(&dice, 2) ? -1 : 1;
        unsigned rank = (unsigned)rand_below(&dice, 5);
        struct msg g = input("x", dims, rank);
        floats(&g, "w", 4, L(dims[1], dims[1], 1, 1), (size_t)(dims[1] * dims[1]));
        floats(&g, "f", 2, L(dims[1], 3), (size_t)dims[1] * 3);
        graph_integers(&g, "a", 1, 2,
                       L((int64_t)rand_below(&dice, 4) - 1, (int64_t)rand_below(&dice, 4) - 1));
        unsigned nodes = (unsigned)rand_below(&dice, 4) + 1;
        for (unsigned k = 0; k < nodes; k++) {
            char in[64] = "";
            unsigned n = (unsigned)rand_below(&dice, 4) + 1;
            for (unsigned i = 0; i < n; i++)
                snprintf(in + strlen(in), sizeof(in) - strlen(in), "%s%s", i ? "," : "",
                         rand_below(&dice, 2) && i == 0 ? "x" : names[rand_below(&dice, 9)]);
            struct msg node_of = onnx_node(types[rand_below(&dice, 20)], in, names[2 + k]);
            if (rand_below(&dice, 3) == 0)
                onnx_int(&node_of, "axis", (int64_t)rand_below(&dice, 6) - 3);
            if (rand_below(&dice, 3) == 0)
                onnx_ints(&node_of, rand_below(&dice, 2) ? "perm" : "kernel_shape", 2, L(1, 0));
            msg_msg(&g, GRAPH_NODES, node_of);
        }
        output(&g, names[1 + nodes]);
        struct msg file = onnx_model(g, (int64_t)rand_below(&dice, 17) + 1);
        taken += attempt(file.p, file.n) == NULL;
        free(file.p);
    }
    assert_true(taken > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cut_anywhere),
        cmocka_unit_test(one_byte_wrong),
        cmocka_unit_test(not_onnx),
        cmocka_unit_test(tensors),
        cmocka_unit_test(typed_tensors),
        cmocka_unit_test(external_data),
        cmocka_unit_test(twice),
        cmocka_unit_test(references),
        cmocka_unit_test(unknown),
        cmocka_unit_test(too_many),
        cmocka_unit_test(inputs),
        cmocka_unit_test(lists),
        cmocka_unit_test(nothing),
        cmocka_unit_test(windows),
        cmocka_unit_test(equations),
        cmocka_unit_test(most_dimensions),
        cmocka_unit_test(most_axes),
        cmocka_unit_test(blocks),
        cmocka_unit_test(scratch_that_wraps),
        cmocka_unit_test(much_of_little),
        cmocka_unit_test(shuffled),
        cmocka_unit_test(memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
