// If, Loop, Scan, and functions of a file: subgraphs that read what is around them, in each other, never without
// end. Expected numbers are computed here by hand.
#include "engine/engine.h"
#include "tests/unit/engine_kit.h"

#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

enum { BOOLS = 9 };

static struct engine_error e;

static void add_input(struct msg *g, const char *name, unsigned type, unsigned rank, int64_t dim)
{
    msg_msg(g, GRAPH_INPUTS, onnx_value(name, type, (int64_t[]){dim, dim}, rank));
}

static void add_output(struct msg *g, const char *name, unsigned type, unsigned rank)
{
    msg_msg(g, GRAPH_OUTPUTS, onnx_value(name, type, (int64_t[]){-1, -1}, rank));
}

static void number(struct msg *g, const char *name, float v)
{
    msg_msg(g, GRAPH_CONSTANTS, onnx_tensor(name, ONNX_F32, NULL, 0, &v, 4));
}

static struct engine_model *load_in(struct engine *engine, struct msg file)
{
    struct engine_model *m = engine_model_load(engine, view_of(file.p, file.n), 8, &e);
    free(file.p);
    return m;
}

static struct engine_model *load(struct msg graph)
{
    struct engine_model *m = load_in(engine_any(false), onnx_model(graph, 16));
    if (!m)
        fail_msg("%s", e.text);
    return m;
}

static void refuses_file(struct msg file, const char *why)
{
    expect_refusal(load_in(engine_any(false), file), e.text, why);
}

static void refuses(struct msg graph, const char *why)
{
    refuses_file(onnx_model(graph, 16), why);
}

static void expect_floats(const struct engine_data *d, const float *want, size_t n)
{
    assert_int_equal(d->bytes, n * 4);
    for (size_t i = 0; i < n; i++) {
        if (((const float *)d->data)[i] != want[i])
            fail_msg("element %zu: expected %g, got %g", i, (double)want[i],
                     (double)((const float *)d->data)[i]);
    }
}

// ---- If ----------------------------------------------------------------------------------------------

// y = yes ? x + k : [x, x], with k made outside.
static struct msg chosen(void)
{
    struct msg g = {0}, yes = {0}, no = {0}, n;
    add_input(&g, "yes", BOOLS, 0, 0);
    add_input(&g, "x", ONNX_F32, 1, -1);
    number(&g, "one", 1);
    graph_node(&g, "Add", "one,one", "k");
    graph_node(&yes, "Add", "x,k", "sum");
    add_output(&yes, "sum", ONNX_F32, 1);
    n = onnx_node("Concat", "x,x", "twice");
    onnx_int(&n, "axis", 0);
    msg_msg(&no, GRAPH_NODES, n);
    add_output(&no, "twice", ONNX_F32, 1);
    n = onnx_node("If", "yes", "y");
    onnx_graph(&n, "then_branch", yes);
    onnx_graph(&n, "else_branch", no);
    msg_msg(&g, GRAPH_NODES, n);
    add_output(&g, "y", ONNX_F32, 1);
    return g;
}

static void either_branch(void **state)
{
    (void)state;
    struct engine_model *m = load(chosen());
    struct engine_instance *i = engine_instance_new(m, &e);
    float x[3] = {1, 2, 3};
    uint8_t yes;
    struct engine_data in[2] = {{&yes, 1, 0, {0}}, {x, 12, 1, {3}}}, out;
    assert_int_equal(engine_model_max_batch(m), 0);
    assert_non_null(strstr(engine_model_single_reason(m), "If (node \"the-node\")"));
    for (unsigned k = 0; k < 6; k++) {
        yes = k % 2;
        assert_true(engine_run(i, in, &out, &e));
        if (yes)
            expect_floats(&out, (float[]){3, 4, 5}, 3);
        else
            expect_floats(&out, (float[]){1, 2, 3, 1, 2, 3}, 6);
    }
    engine_instance_free(i);
    engine_model_free(m);
}

// z = type(in).
static struct msg branch(const char *type, const char *in)
{
    struct msg b = {0};
    graph_node(&b, type, in, "z");
    add_output(&b, "z", BOOLS, 0);
    return b;
}

static void refuses_if(struct msg n, const char *why)
{
    struct msg g = {0};
    add_input(&g, "x", BOOLS, 0, 0);
    msg_msg(&g, GRAPH_NODES, n);
    add_output(&g, "y", BOOLS, 0);
    refuses(g, why);
}

static void ifs_that_cannot_be(void **state)
{
    (void)state;
    struct msg n = onnx_node("If", "x", "y");
    refuses_if(n, "If (node \"the-node\"): expected two subgraphs");
    n = onnx_node("If", "x", "y");
    onnx_graph(&n, "then_branch", (struct msg){0});
    onnx_graph(&n, "else_branch", branch("Not", "x"));
    refuses_if(n, "with an output for each");
    n = onnx_node("If", "x", "y");
    onnx_graph(&n, "then_branch", branch("Not", "nowhere"));
    refuses_if(n, "\"nowhere\" is made by no earlier node");
    n = onnx_node("If", "x", "y");
    onnx_graph(&n, "then_branch", branch("Fizz", "x"));
    refuses_if(n, "op Fizz");
}

// y = x squeezed of its last dimension when that is 1, else as it is; in there another such If. What is known from
// shapes is planned: rows batch.
static void known_from_shapes(void **state)
{
    (void)state;
    struct msg g = {0}, yes = {0}, no = {0}, inner = {0}, other = {0}, n;
    int64_t last = -1, one = 1;
    add_input(&g, "x", ONNX_F32, 2, -1);
    msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("last", ONNX_I64, NULL, 0, &last, 8));
    msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("one", ONNX_I64, (int64_t[]){1}, 1, &one, 8));
    number(&g, "two", 2);
    graph_node(&g, "Shape", "x", "shape");
    graph_node(&g, "Gather", "shape,last", "cols");
    graph_node(&g, "Equal", "cols,one", "is_one");
    graph_node(&inner, "Mul", "x,two", "doubled"); // taken when there is one column
    add_output(&inner, "doubled", ONNX_F32, 2);
    graph_node(&other, "Neg", "x", "negated");
    add_output(&other, "negated", ONNX_F32, 2);
    n = onnx_node("If", "is_one", "within");
    onnx_graph(&n, "then_branch", inner);
    onnx_graph(&n, "else_branch", other);
    msg_msg(&yes, GRAPH_NODES, n);
    graph_node(&yes, "Squeeze", "within,one", "flat");
    add_output(&yes, "flat", ONNX_F32, 1);
    add_output(&no, "x", ONNX_F32, 2); // as it is around it
    n = onnx_node("If", "is_one", "y");
    onnx_graph(&n, "then_branch", yes);
    onnx_graph(&n, "else_branch", no);
    msg_msg(&g, GRAPH_NODES, n);
    graph_node(&g, "Add", "y,two", "z");
    add_output(&g, "z", ONNX_F32, 2);
    add_output(&g, "y", ONNX_F32, 2);
    struct engine_model *m = load(g);
    struct engine_instance *i = engine_instance_new(m, &e);
    float x[4] = {1, 2, 3, 4};
    struct engine_data in = {x, 16, 2, {4, 1}}, out[2];
    assert_int_equal(engine_model_max_batch(m), 8);
    assert_true(engine_run(i, &in, out, &e));
    assert_int_equal(out[1].rank, 1);
    expect_floats(&out[0], (float[]){4, 6, 8, 10}, 4);
    expect_floats(&out[1], (float[]){2, 4, 6, 8}, 4);
    in = (struct engine_data){x, 16, 2, {2, 2}};
    assert_true(engine_run(i, &in, out, &e));
    assert_int_equal(out[1].rank, 2);
    expect_floats(&out[0], (float[]){3, 4, 5, 6}, 4);
    expect_floats(&out[1], x, 4);
    engine_instance_free(i);
    engine_model_free(m);
}

// Within a branch that is planned an If that is not, which reads what the branch made.
static void known_and_not(void **state)
{
    (void)state;
    struct msg g = {0}, yes = {0}, no = {0}, inner = {0}, other = {0}, n;
    int64_t two = 2;
    add_input(&g, "x", ONNX_F32, 1, -1);
    add_input(&g, "t", BOOLS, 0, 0);
    msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("two", ONNX_I64, (int64_t[]){1}, 1, &two, 8));
    graph_node(&g, "Shape", "x", "shape");
    graph_node(&g, "Equal", "shape,two", "are_two");
    graph_node(&g, "Neg", "x", "n");
    graph_node(&yes, "Add", "x,n", "sum");
    graph_node(&yes, "Sub", "x,n", "difference");
    graph_node(&inner, "Identity", "sum", "a");
    add_output(&inner, "a", ONNX_F32, 1);
    graph_node(&other, "Identity", "difference", "b");
    add_output(&other, "b", ONNX_F32, 1);
    n = onnx_node("If", "t", "either");
    onnx_graph(&n, "then_branch", inner);
    onnx_graph(&n, "else_branch", other);
    msg_msg(&yes, GRAPH_NODES, n);
    add_output(&yes, "either", ONNX_F32, 1);
    graph_node(&no, "Mul", "n,n", "square");
    add_output(&no, "square", ONNX_F32, 1);
    n = onnx_node("If", "are_two", "y");
    onnx_graph(&n, "then_branch", yes);
    onnx_graph(&n, "else_branch", no);
    msg_msg(&g, GRAPH_NODES, n);
    add_output(&g, "y", ONNX_F32, 1);
    struct engine_model *m = load(g);
    struct engine_instance *i = engine_instance_new(m, &e);
    float x[3] = {1, 2, 3};
    uint8_t t = 1;
    struct engine_data in[2] = {{x, 8, 1, {2}}, {&t, 1, 0, {0}}}, out;
    assert_true(engine_run(i, in, &out, &e));
    expect_floats(&out, (float[]){0, 0}, 2);
    t = 0;
    assert_true(engine_run(i, in, &out, &e));
    expect_floats(&out, (float[]){2, 4}, 2);
    in[0] = (struct engine_data){x, 12, 1, {3}};
    assert_true(engine_run(i, in, &out, &e));
    expect_floats(&out, (float[]){1, 4, 9}, 3);
    engine_instance_free(i);
    engine_model_free(m);
}

// A branch within a branch ... that reads the input of the file.
static struct msg nested(unsigned depth)
{
    struct msg b = {0}, other = {0}, n;
    if (depth == 0) {
        graph_node(&b, "Neg", "x", "v");
        add_output(&b, "v", ONNX_F32, 1);
        return b;
    }
    n = onnx_node("If", "yes", "w");
    onnx_graph(&n, "then_branch", nested(depth - 1));
    graph_node(&other, "Identity", "x", "u");
    add_output(&other, "u", ONNX_F32, 1);
    onnx_graph(&n, "else_branch", other);
    msg_msg(&b, GRAPH_NODES, n);
    add_output(&b, "w", ONNX_F32, 1);
    return b;
}

static struct msg nested_in_a_file(unsigned depth)
{
    struct msg g = nested(depth);
    add_input(&g, "yes", BOOLS, 0, 0);
    add_input(&g, "x", ONNX_F32, 1, -1);
    return g;
}

static void branches_in_branches(void **state)
{
    (void)state;
    struct engine_model *m = load(nested_in_a_file(16));
    struct engine_instance *i = engine_instance_new(m, &e);
    float x[2] = {1, -2};
    uint8_t yes = 1;
    struct engine_data in[2] = {{&yes, 1, 0, {0}}, {x, 8, 1, {2}}}, out;
    assert_true(engine_run(i, in, &out, &e));
    expect_floats(&out, (float[]){-1, 2}, 2);
    yes = 0;
    assert_true(engine_run(i, in, &out, &e));
    expect_floats(&out, x, 2);
    engine_instance_free(i);
    engine_model_free(m);
    refuses(nested_in_a_file(17), "more than 16 deep");
    refuses(nested_in_a_file(400), "more than 16 deep");
}

// ---- Loop --------------------------------------------------------------------------------------------

// v = v * 2 + step, `most` times or while v < bound; all v's one behind the other, and the last one.
static struct msg doubling(bool conditional, bool grows)
{
    struct msg g = {0}, b = {0}, n;
    add_input(&g, "most", ONNX_I64, 0, 0);
    add_input(&g, "v", ONNX_F32, 1, -1);
    number(&g, "two", 2);
    number(&g, "step", 1);
    number(&g, "bound", 100);
    add_input(&b, "trip", ONNX_I64, 0, 0);
    add_input(&b, "go", BOOLS, 0, 0);
    add_input(&b, "v_in", ONNX_F32, 1, -1);
    graph_node(&b, "Mul", "v_in,two", "twice");
    graph_node(&b, "Add", "twice,step", "more");
    if (grows) {
        n = onnx_node("Concat", "v_in,more", "v_out");
        onnx_int(&n, "axis", 0);
        msg_msg(&b, GRAPH_NODES, n);
    } else {
        graph_node(&b, "Identity", "more", "v_out");
    }
    msg_msg(&b, GRAPH_CONSTANTS, onnx_tensor("always", BOOLS, NULL, 0, "\1", 1));
    if (conditional) {
        graph_node(&b, "ReduceMax", "more", "largest");
        graph_node(&b, "Less", "largest,bound", "go_on");
        msg_msg(&b, GRAPH_CONSTANTS, onnx_tensor("flat", ONNX_I64, (int64_t[]){0}, 1, "", 0));
        graph_node(&b, "Reshape", "go_on,flat", "going");
    } else {
        graph_node(&b, "Identity", "always", "going");
    }
    add_output(&b, "going", BOOLS, 0);
    add_output(&b, "v_out", ONNX_F32, 1);
    if (!grows)
        msg_msg(&b, GRAPH_OUTPUTS, onnx_value("more", ONNX_F32, (int64_t[]){-1}, 1));
    n = onnx_node("Loop", conditional ? ",,v" : "most,,v", grows ? "last" : "last,all");
    onnx_graph(&n, "body", b);
    msg_msg(&g, GRAPH_NODES, n);
    add_output(&g, "last", ONNX_F32, 1);
    if (!grows)
        add_output(&g, "all", ONNX_F32, 2);
    return g;
}

static void counted_trips(void **state)
{
    (void)state;
    struct engine_model *m = load(doubling(false, false));
    struct engine_instance *i = engine_instance_new(m, &e);
    float v[2] = {0, 1}, want[40], *at = want;
    int64_t most;
    struct engine_data in[2] = {{&most, 8, 0, {0}}, {v, 8, 1, {2}}}, out[2];
    for (most = -1; most < 20; most++) {
        float a = 0, b = 1;
        at = want;
        for (int64_t k = 0; k < most; k++) {
            *at++ = a = 2 * a + 1;
            *at++ = b = 2 * b + 1;
        }
        assert_true(engine_run(i, in, out, &e));
        expect_floats(&out[0], (float[]){a, b}, 2);
        assert_int_equal(out[1].rank, 2);
        assert_int_equal(out[1].shape[0], most > 0 ? most : 0);
        expect_floats(&out[1], want, (size_t)(at - want));
    }
    engine_instance_free(i);
    engine_model_free(m);
}

// No trip, of a body whose file does not say what it would give: as a trip would make it.
static void no_trips(void **state)
{
    (void)state;
    struct msg g = {0}, b = {0}, n, name = {0};
    add_input(&g, "most", ONNX_I64, 0, 0);
    add_input(&g, "v", ONNX_F32, 1, -1);
    add_input(&b, "trip", ONNX_I64, 0, 0);
    add_input(&b, "go", BOOLS, 0, 0);
    n = onnx_node("Concat", "v,v", "twice");
    onnx_int(&n, "axis", 0);
    msg_msg(&b, GRAPH_NODES, n);
    add_output(&b, "go", BOOLS, 0);
    msg_text(&name, 1, "twice");
    msg_msg(&b, GRAPH_OUTPUTS, name);
    n = onnx_node("Loop", "most,", "y");
    onnx_graph(&n, "body", b);
    msg_msg(&g, GRAPH_NODES, n);
    add_output(&g, "y", ONNX_F32, 2);
    struct engine_model *m = load(g);
    struct engine_instance *i = engine_instance_new(m, &e);
    float v[2] = {1, 2};
    int64_t most = 0;
    struct engine_data in[2] = {{&most, 8, 0, {0}}, {v, 8, 1, {2}}}, out;
    assert_true(engine_run(i, in, &out, &e));
    assert_true(out.rank == 2 && out.shape[0] == 0 && out.shape[1] == 4);
    most = 1;
    assert_true(engine_run(i, in, &out, &e));
    expect_floats(&out, (float[]){1, 2, 1, 2}, 4);
    engine_instance_free(i);
    engine_model_free(m);
}

static void until_it_is_enough(void **state)
{
    (void)state;
    struct engine_model *m = load(doubling(true, false));
    struct engine_instance *i = engine_instance_new(m, &e);
    float v[1] = {0};
    int64_t most = 0;
    struct engine_data in[2] = {{&most, 8, 0, {0}}, {v, 4, 1, {1}}}, out[2];
    assert_true(engine_run(i, in, out, &e));
    expect_floats(&out[0], (float[]){127}, 1);
    expect_floats(&out[1], (float[]){1, 3, 7, 15, 31, 63, 127}, 7);
    v[0] = -1; // stays there: without an end
    assert_false(engine_run(i, in, out, &e));
    assert_string_equal(e.text, "Loop (node \"the-node\"): more than 1048576 trips in one run");
    v[0] = 1;
    assert_true(engine_run(i, in, out, &e)); // and goes on
    expect_floats(&out[0], (float[]){127}, 1);
    engine_instance_free(i);
    engine_model_free(m);
}

// What is carried grows with each trip, without bound but that of memory.
static void growing_values(void **state)
{
    (void)state;
    struct engine *engine = engine_with((struct cpu_options){0},
                                        (struct engine_limits){.bytes = 1 << 20, .trips = 100});
    struct engine_model *m = load_in(engine, onnx_model(doubling(false, true), 16));
    struct engine_instance *i = engine_instance_new(m, &e);
    float v[1] = {0};
    int64_t most = 3;
    struct engine_data in[2] = {{&most, 8, 0, {0}}, {v, 4, 1, {1}}}, out[2];
    assert_true(engine_run(i, in, out, &e));
    expect_floats(&out[0], (float[]){0, 1, 1, 3, 1, 3, 3, 7}, 8);
    most = 50;
    assert_false(engine_run(i, in, out, &e));
    assert_non_null(strstr(e.text, "the run takes more than"));
    most = 2;
    assert_true(engine_run(i, in, out, &e));
    expect_floats(&out[0], (float[]){0, 1, 1, 3}, 4);
    engine_instance_free(i);
    engine_model_free(m);
    engine_free(engine);
}

// Two loops, one in the other: their trips are bounded together.
static void loops_in_loops(void **state)
{
    (void)state;
    struct engine *engine =
        engine_with((struct cpu_options){0}, (struct engine_limits){.trips = 1000});
    struct msg g = {0}, b = {0}, c = {0}, n;
    add_input(&g, "most", ONNX_I64, 0, 0);
    add_input(&g, "v", ONNX_F32, 1, -1);
    number(&g, "one", 1);
    msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("always", BOOLS, NULL, 0, "\1", 1));
    add_input(&c, "t2", ONNX_I64, 0, 0);
    add_input(&c, "g2", BOOLS, 0, 0);
    add_input(&c, "w", ONNX_F32, 1, -1);
    graph_node(&c, "Add", "w,one", "w2");
    graph_node(&c, "Identity", "always", "g3");
    add_output(&c, "g3", BOOLS, 0);
    add_output(&c, "w2", ONNX_F32, 1);
    add_input(&b, "t", ONNX_I64, 0, 0);
    add_input(&b, "go", BOOLS, 0, 0);
    add_input(&b, "u", ONNX_F32, 1, -1);
    n = onnx_node("Loop", "most,,u", "u2");
    onnx_graph(&n, "body", c);
    msg_msg(&b, GRAPH_NODES, n);
    graph_node(&b, "Identity", "always", "go2");
    add_output(&b, "go2", BOOLS, 0);
    add_output(&b, "u2", ONNX_F32, 1);
    n = onnx_node("Loop", "most,always,v", "y");
    onnx_graph(&n, "body", b);
    msg_msg(&g, GRAPH_NODES, n);
    add_output(&g, "y", ONNX_F32, 1);
    struct engine_model *m = load_in(engine, onnx_model(g, 16));
    assert_non_null(m);
    struct engine_instance *i = engine_instance_new(m, &e);
    float v[1] = {0};
    int64_t most = 30; // 30 and 900
    struct engine_data in[2] = {{&most, 8, 0, {0}}, {v, 4, 1, {1}}}, out;
    assert_true(engine_run(i, in, &out, &e));
    expect_floats(&out, (float[]){900}, 1);
    most = 32;
    assert_false(engine_run(i, in, &out, &e));
    assert_non_null(strstr(e.text, "more than 1000 trips"));
    engine_instance_free(i);
    engine_model_free(m);
    engine_free(engine);
}

static void loops_that_cannot_be(void **state)
{
    (void)state;
    struct msg g = {0}, b = {0}, n;
    add_input(&g, "v", ONNX_F32, 1, -1);
    add_input(&b, "trip", ONNX_I64, 0, 0);
    add_output(&b, "trip", ONNX_I64, 0);
    n = onnx_node("Loop", ",,v", "y");
    onnx_graph(&n, "body", b);
    msg_msg(&g, GRAPH_NODES, n);
    add_output(&g, "y", ONNX_F32, 1);
    refuses(g, "Loop (node \"the-node\"): body");
    g = (struct msg){0}; // a condition that is none
    b = (struct msg){0};
    add_input(&g, "v", ONNX_F32, 1, -1);
    add_input(&b, "trip", ONNX_I64, 0, 0);
    add_input(&b, "go", BOOLS, 0, 0);
    add_input(&b, "u", ONNX_F32, 1, -1);
    add_output(&b, "u", ONNX_F32, 1);
    add_output(&b, "u", ONNX_F32, 1);
    n = onnx_node("Loop", ",,v", "y");
    onnx_graph(&n, "body", b);
    msg_msg(&g, GRAPH_NODES, n);
    add_output(&g, "y", ONNX_F32, 1);
    struct engine_model *m = load(g);
    struct engine_instance *i = engine_instance_new(m, &e);
    float v[1] = {0};
    struct engine_data in = {v, 4, 1, {1}}, out;
    assert_false(engine_run(i, &in, &out, &e));
    assert_non_null(strstr(e.text, "its condition: expected one bool"));
    engine_instance_free(i);
    engine_model_free(m);
}

// ---- Scan --------------------------------------------------------------------------------------------

// Sums along an axis of x [3, 4], forwards or backwards, each sum kept along the other axis.
static void sums_along(void **state)
{
    (void)state;
    float x[12], sum[4] = {0};
    for (unsigned k = 0; k < 12; k++)
        x[k] = (float)k;
    for (unsigned kind = 0; kind < 4; kind++) {
        bool columns = kind & 1, backwards = kind & 2;
        struct msg g = {0}, b = {0}, n;
        msg_msg(&g, GRAPH_INPUTS, onnx_value("x", ONNX_F32, (int64_t[]){3, 4}, 2));
        msg_msg(&g, GRAPH_INPUTS, onnx_value("s", ONNX_F32, (int64_t[]){columns ? 3 : 4}, 1));
        add_input(&b, "acc", ONNX_F32, 1, -1);
        add_input(&b, "part", ONNX_F32, 1, -1);
        graph_node(&b, "Add", "acc,part", "next");
        add_output(&b, "next", ONNX_F32, 1);
        add_output(&b, "next", ONNX_F32, 1);
        n = onnx_node("Scan", "s,x", "last,all");
        onnx_graph(&n, "body", b);
        onnx_int(&n, "num_scan_inputs", 1);
        onnx_ints(&n, "scan_input_axes", 1, (int64_t[]){columns ? -1 : 0});
        onnx_ints(&n, "scan_input_directions", 1, (int64_t[]){backwards});
        onnx_ints(&n, "scan_output_axes", 1, (int64_t[]){columns});
        onnx_ints(&n, "scan_output_directions", 1, (int64_t[]){backwards});
        msg_msg(&g, GRAPH_NODES, n);
        add_output(&g, "last", ONNX_F32, 1);
        add_output(&g, "all", ONNX_F32, 2);
        struct engine_model *m = load(g);
        struct engine_instance *i = engine_instance_new(m, &e);
        size_t width = columns ? 3 : 4;
        struct engine_data in[2] = {{x, 48, 2, {3, 4}}, {sum, width * 4, 1, {(int64_t)width}}},
                           out[2];
        assert_true(engine_run(i, in, out, &e));
        assert_true(out[1].shape[0] == 3 && out[1].shape[1] == 4);
        const float *all = out[1].data, *last = out[0].data;
        for (unsigned r = 0; r < 3; r++) {
            for (unsigned c = 0; c < 4; c++) {
                float want = 0;
                unsigned from = !backwards ? 0 : columns ? c : r;
                unsigned end = backwards ? (columns ? 4 : 3) : (columns ? c : r) + 1;
                for (unsigned k = from; k < end; k++)
                    want += columns ? x[r * 4 + k] : x[k * 4 + c];
                assert_true(all[r * 4 + c] == want);
                bool is_last = columns ? c == (backwards ? 0 : 3) : r == (backwards ? 0 : 2);
                if (is_last)
                    assert_true(last[columns ? r : c] == want);
            }
        }
        engine_instance_free(i);
        engine_model_free(m);
    }
}

// ---- functions ---------------------------------------------------------------------------------------

static struct msg function(const char *name, const char *in, const char *out)
{
    struct msg f = {0};
    msg_text(&f, 1, name);
    msg_text(&f, 10, "own");
    if (in[0])
        msg_text(&f, 4, in);
    msg_text(&f, 5, out);
    return f;
}

static void call(struct msg *to, uint32_t field, const char *name, const char *in, const char *out)
{
    struct msg n = onnx_node(name, in, out);
    msg_text(&n, 7, "own");
    msg_msg(to, field, n);
}

// quad(x) = twice(twice(x)), twice(x) = x + x; leaky(x, alpha) with an alpha of 0.5 unless said otherwise.
static void functions_of_the_file(void **state)
{
    (void)state;
    struct msg g = {0}, f, n, a = {0}, file;
    add_input(&g, "x", ONNX_F32, 1, -1);
    call(&g, GRAPH_NODES, "quad", "x", "q");
    call(&g, GRAPH_NODES, "leaky", "q", "y");
    n = onnx_node("leaky", "q", "z");
    msg_text(&n, 7, "own");
    onnx_float(&n, "a", 0.25f);
    msg_msg(&g, GRAPH_NODES, n);
    add_output(&g, "y", ONNX_F32, 1);
    add_output(&g, "z", ONNX_F32, 1);
    file = onnx_model(g, 16);
    f = function("twice", "v", "w");
    msg_msg(&f, 7, onnx_node("Add", "v,v", "w"));
    msg_msg(&file, 25, f);
    f = function("quad", "x", "y"); // names that the graph has too
    call(&f, 7, "twice", "x", "q");
    call(&f, 7, "twice", "q", "y");
    msg_msg(&file, 25, f);
    f = function("leaky", "v", "w");
    n = onnx_node("LeakyRelu", "v", "w");
    a = (struct msg){0};
    msg_text(&a, 1, "alpha");
    msg_text(&a, 21, "a");
    msg_uint(&a, 20, 1);
    msg_msg(&n, 5, a);
    msg_msg(&f, 7, n);
    a = (struct msg){0};
    msg_text(&a, 1, "a");
    msg_float(&a, 2, 0.5f);
    msg_uint(&a, 20, 1);
    msg_msg(&f, 11, a);
    msg_msg(&file, 25, f);
    struct engine_model *m = load_in(engine_any(false), file);
    if (!m)
        fail_msg("%s", e.text);
    assert_string_equal(engine_model_output(m, 0)->name, "y");
    assert_true(engine_model_max_batch(m) > 0);
    struct engine_instance *i = engine_instance_new(m, &e);
    float x[2] = {1, -1};
    struct engine_data in = {x, 8, 1, {2}}, out[2];
    assert_true(engine_run(i, &in, out, &e));
    expect_floats(&out[0], (float[]){4, -2}, 2);
    expect_floats(&out[1], (float[]){4, -1}, 2);
    engine_instance_free(i);
    engine_model_free(m);
}

static struct msg calls(const char *name)
{
    struct msg g = {0};
    add_input(&g, "x", ONNX_F32, 1, -1);
    call(&g, GRAPH_NODES, name, "x", "y");
    add_output(&g, "y", ONNX_F32, 1);
    return onnx_model(g, 16);
}

static void functions_that_cannot_be(void **state)
{
    (void)state;
    struct msg file = calls("self"), f = function("self", "v", "w");
    call(&f, 7, "self", "v", "w");
    msg_msg(&file, 25, f);
    refuses_file(file, "more than 16 deep");
    file = calls("f0"); // 20 calls of 20 calls of ...: nothing in them
    for (unsigned k = 0; k < 12; k++) {
        char name[8], next[8];
        snprintf(name, sizeof(name), "f%u", k);
        snprintf(next, sizeof(next), "f%u", k + 1);
        f = function(name, "v", "v");
        for (unsigned c = 0; c < 20; c++)
            call(&f, 7, next, "", "");
        msg_msg(&file, 25, f);
    }
    msg_msg(&file, 25, function("f12", "v", "v"));
    refuses_file(file, "16384 nodes");
    file = calls("f");
    msg_msg(&file, 25, function("f", "v", "nowhere"));
    refuses_file(file, "does not make its output for \"y\"");
    file = calls("f");
    msg_msg(&file, 25, function("f", "", "w"));
    refuses_file(file, "expected at most 0 inputs, got 1");
    file = calls("f"); // it sees nothing but its inputs
    f = function("f", "v", "w");
    msg_msg(&f, 7, onnx_node("Add", "v,x", "w"));
    msg_msg(&file, 25, f);
    refuses_file(file, "\"x\" is made by no earlier node");
    file = calls("f");
    f = function("f", "v", "w");
    msg_msg(&f, 7, onnx_node("Buzz", "v", "w"));
    msg_msg(&file, 25, f);
    refuses_file(file, "op Buzz");
    refuses_file(calls("f"), "op f (node \"the-node\") is not supported");
}

// A loop, branches that are planned and that are not.
static void memory_runs_out(void **state)
{
    (void)state;
    float v[2] = {1, 2};
    int64_t most = 9;
    uint8_t yes = 1;
    struct engine_data loop[2] = {{&most, 8, 0, {0}}, {v, 8, 1, {2}}},
                       branch[2] = {{&yes, 1, 0, {0}}, {v, 8, 1, {2}}};
    expect_without_memory(onnx_model(doubling(false, false), 16), loop, 8, 21, 5001);
    expect_without_memory(onnx_model(nested_in_a_file(3), 16), branch, 8, 21, 5001);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(either_branch),         cmocka_unit_test(ifs_that_cannot_be),
        cmocka_unit_test(branches_in_branches),  cmocka_unit_test(known_from_shapes),
        cmocka_unit_test(known_and_not),         cmocka_unit_test(counted_trips),
        cmocka_unit_test(until_it_is_enough),    cmocka_unit_test(no_trips),
        cmocka_unit_test(growing_values),        cmocka_unit_test(loops_in_loops),
        cmocka_unit_test(loops_that_cannot_be),  cmocka_unit_test(sums_along),
        cmocka_unit_test(functions_of_the_file), cmocka_unit_test(functions_that_cannot_be),
        cmocka_unit_test(memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
