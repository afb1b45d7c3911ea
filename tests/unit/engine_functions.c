// Functions of a file: attributes that are lists, the call's and the function's own; inputs that the call leaves out,
// read in a subgraph; how many of both there may be; what each call takes of memory.
#include "engine/engine.h"
#include "tests/unit/engine_kit.h"

#include <setjmp.h>
#include <stddef.h>

#include <cmocka.h>

enum {
    BOOLS = 9,
    FUNCTIONS = 25,
    FUNCTION_NODES = 7,
    FUNCTION_ATTRIBUTES = 11,
    NODE_ATTRIBUTES = 5
};

static struct engine_error e;

static struct msg list(const char *name, const int64_t *v, unsigned n)
{
    struct msg a = {0}, packed = {0};
    msg_text(&a, 1, name);
    for (unsigned i = 0; i < n; i++)
        msg_varint(&packed, (uint64_t)v[i]);
    msg_msg(&a, 8, packed);
    msg_uint(&a, 20, 7);
    return a;
}

// Transpose whose perm is the call's attribute of that name.
static struct msg turn(const char *in, const char *out, const char *from)
{
    struct msg n = onnx_node("Transpose", in, out), a = {0};
    msg_text(&a, 1, "perm");
    msg_text(&a, 21, from);
    msg_uint(&a, 20, 7);
    msg_msg(&n, NODE_ATTRIBUTES, a);
    return n;
}

// y = turned(x), by a and then by b; the call says a, which the function says too, with n elements.
static struct msg turned_twice(unsigned n)
{
    struct msg g = {0}, f = {0}, call = onnx_node("turned", "x", "y");
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", ONNX_F32, (int64_t[]){2, 2}, 2));
    msg_text(&call, 7, "own");
    msg_msg(&call, NODE_ATTRIBUTES, list("a", (int64_t[]){0, 1}, 2));
    msg_msg(&g, GRAPH_NODES, call);
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", ONNX_F32, (int64_t[]){2, 2}, 2));
    msg_text(&f, 1, "turned");
    msg_text(&f, 10, "own");
    msg_text(&f, 4, "v");
    msg_text(&f, 5, "w");
    msg_msg(&f, FUNCTION_ATTRIBUTES, list("a", (int64_t[]){1, 0}, n));
    msg_msg(&f, FUNCTION_ATTRIBUTES, list("b", (int64_t[]){1, 0}, 2));
    msg_msg(&f, FUNCTION_NODES, turn("v", "u", "a"));
    msg_msg(&f, FUNCTION_NODES, turn("u", "w", "b"));
    struct msg file = onnx_model(g, 16);
    msg_msg(&file, FUNCTIONS, f);
    return file;
}

// The function's own a is passed over, and leaves nothing in its b.
static void lists_of_the_function(void **state)
{
    (void)state;
    for (unsigned n = 0; n <= 2; n += 2) {
        struct msg file = turned_twice(n);
        struct engine_model *m =
            engine_model_load(engine_any(false), view_of(file.p, file.n), 8, &e);
        free(file.p);
        if (!m)
            fail_msg("%s", e.text);
        struct engine_instance *i = engine_instance_new(m, &e);
        float x[4] = {1, 2, 3, 4}, want[4] = {1, 3, 2, 4};
        struct engine_data in = {x, sizeof(x), 2, {2, 2}}, out;
        assert_non_null(i);
        assert_true(engine_run(i, &in, &out, &e));
        assert_int_equal(out.bytes, sizeof(want));
        assert_memory_equal(out.data, want, sizeof(want));
        engine_instance_free(i);
        engine_model_free(m);
    }
}

static struct msg body(const char *type, const char *in)
{
    struct msg b = {0};
    msg_msg(&b, GRAPH_NODES, onnx_node(type, in, "t"));
    msg_msg(&b, GRAPH_OUTPUTS, onnx_value("t", ONNX_F32, (int64_t[]){2}, 1));
    return b;
}

// y = c ? Clip(x, least) : x, and no call says a least.
static struct msg clipped(void)
{
    struct msg g = {0}, f = {0}, call = onnx_node("clipped", "c,x", "y"), n;
    msg_msg(&g, GRAPH_INPUTS, onnx_value("c", BOOLS, NULL, 0));
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", ONNX_F32, (int64_t[]){2}, 1));
    msg_text(&call, 7, "own");
    msg_msg(&g, GRAPH_NODES, call);
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", ONNX_F32, (int64_t[]){2}, 1));
    msg_text(&f, 1, "clipped");
    msg_text(&f, 10, "own");
    msg_text(&f, 4, "yes");
    msg_text(&f, 4, "v");
    msg_text(&f, 4, "least");
    msg_text(&f, 5, "w");
    n = onnx_node("If", "yes", "w");
    onnx_graph(&n, "then_branch", body("Clip", "v,least"));
    onnx_graph(&n, "else_branch", body("Identity", "v"));
    msg_msg(&f, FUNCTION_NODES, n);
    struct msg file = onnx_model(g, 16);
    msg_msg(&file, FUNCTIONS, f);
    return file;
}

// What is left out of a call is left out in the subgraphs too: no value that they capture.
static void left_out_of_a_body(void **state)
{
    (void)state;
    struct msg file = clipped();
    struct engine_model *m = engine_model_load(engine_any(false), view_of(file.p, file.n), 8, &e);
    free(file.p);
    if (!m)
        fail_msg("%s", e.text);
    struct engine_instance *i = engine_instance_new(m, &e);
    uint8_t yes = 1;
    float x[2] = {-5, 7};
    struct engine_data in[2] = {{&yes, 1, 0, {0}}, {x, sizeof(x), 1, {2}}}, out;
    assert_non_null(i);
    assert_true(engine_run(i, in, &out, &e));
    assert_int_equal(out.bytes, sizeof(x));
    assert_memory_equal(out.data, x, sizeof(x));
    engine_instance_free(i);
    engine_model_free(m);
}

// Every call takes room for what the function has of each, so a small file would ask for any amount.
static void more_than_a_node_has(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 2; k++) {
        struct msg g = {0}, f = {0};
        msg_msg(&g, GRAPH_INPUTS, onnx_value("x", ONNX_F32, (int64_t[]){2}, 1));
        msg_text(&f, 1, "wide");
        for (char c = '!'; c < '!' + (k ? 33 : 65); c++) {
            char name[2] = {c};
            if (k)
                msg_msg(&f, FUNCTION_ATTRIBUTES, list(name, NULL, 0));
            else
                msg_text(&f, 4, name);
        }
        struct msg file = onnx_model(g, 16);
        msg_msg(&file, FUNCTIONS, f);
        assert_null(engine_model_load(engine_any(false), view_of(file.p, file.n), 8, &e));
        free(file.p);
        assert_string_equal(e.text, k ? "function \"wide\": expected at most 64 inputs and 32 "
                                        "attributes, got 0 and 33"
                                      : "function \"wide\": expected at most 64 inputs and 32 "
                                        "attributes, got 65 and 0");
    }
}

// A function that says much in a few bytes of file, called often: what its calls take counts, and is bounded.
static void many_calls(void **state)
{
    (void)state;
    enum { BYTES = 64 << 10, CALLS = 200, IN_INTS = 0, IN_STRINGS, IN_A_NAME, PLACES };
    struct engine *en =
        engine_with((struct cpu_options){0}, (struct engine_limits){.bytes = 8 << 20});
    char *much = calloc(1, BYTES + 1);
    for (unsigned k = 0; k < PLACES; k++) {
        struct msg g = {0}, f = {0}, a = {0}, n = onnx_node("Relu", "v", "w");
        msg_msg(&g, GRAPH_INPUTS, onnx_value("x", ONNX_F32, (int64_t[]){-1}, 1));
        for (unsigned i = 0; i < CALLS; i++) {
            struct msg call = {0};
            msg_text(&call, 1, "x");
            msg_text(&call, 4, "says_much");
            msg_msg(&g, GRAPH_NODES, call);
        }
        msg_msg(&g, GRAPH_NODES, onnx_node("Relu", "x", "y"));
        msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", ONNX_F32, (int64_t[]){-1}, 1));
        msg_text(&f, 1, "says_much");
        msg_text(&f, 4, "v");
        msg_text(&a, 1, "list");
        if (k == IN_INTS)
            msg_bytes(&a, 8, much, BYTES);
        if (k == IN_STRINGS)
            msg_bytes(&a, 9, much, BYTES);
        msg_msg(&f, FUNCTION_ATTRIBUTES, a);
        if (k == IN_A_NAME)
            msg_bytes(&n, 3, much, BYTES);
        msg_msg(&f, FUNCTION_NODES, n);
        struct msg file = onnx_model(g, 16);
        msg_msg(&file, FUNCTIONS, f);
        assert_null(engine_model_load(en, view_of(file.p, file.n), 8, &e));
        free(file.p);
        assert_string_equal(e.text, "the model's constants take more than 8 MiB");
    }
    free(much);
    engine_free(en);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_of_the_function), cmocka_unit_test(left_out_of_a_body),
        cmocka_unit_test(more_than_a_node_has), cmocka_unit_test(many_calls)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
