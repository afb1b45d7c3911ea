// Shapes that follow from data: sized when the data is there, within what the limits leave, each run its own.
#include "base/rand.h"
#include "engine/engine.h"
#include "tests/unit/engine_guard.h"
#include "tests/unit/engine_kit.h"

#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

enum { BOOLS = 9 };

static struct engine_error e;

static struct engine_model *load_in(struct engine *engine, struct msg g)
{
    struct msg file = onnx_model(g, 16);
    struct engine_model *m = engine_model_load(engine, view_of(file.p, file.n), 8, &e);
    free(file.p);
    if (!m)
        fail_msg("%s", e.text);
    return m;
}

static struct engine_model *load(struct msg g)
{
    return load_in(engine_any(false), g);
}

static struct msg begin(unsigned type, const int64_t *dims, unsigned rank, unsigned out)
{
    struct msg g = {0};
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", type, dims, rank));
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", out, (int64_t[]){-1}, 1));
    return g;
}

static void expect(const struct engine_data *d, const void *want, size_t bytes)
{
    assert_int_equal(d->bytes, bytes);
    assert_memory_equal(d->data, want, bytes);
}

// ---- picked ------------------------------------------------------------------------------------------

// The places of what is not 0, whose sum is what the sums of x are at those places: NonZero, then Gather.
static void places(void **state)
{
    (void)state;
    struct engine *engine = engine_new(guard_device_new(), NULL, (struct engine_limits){0}, &e);
    struct msg g = begin(ONNX_F32, (int64_t[]){-1}, 1, ONNX_F32);
    graph_node(&g, "NonZero", "x", "at");
    graph_integers(&g, "flat", 1, 1, (int64_t[]){-1});
    graph_node(&g, "Reshape", "at,flat", "list");
    graph_node(&g, "Gather", "x,list", "y");
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("at", ONNX_I64, (int64_t[]){1, -1}, 2));
    struct engine_model *m = load_in(engine, g);
    struct engine_instance *i = engine_instance_new(m, &e);
    struct rand dice;
    rand_seed(&dice, 1);
    for (unsigned round = 0; round < 50; round++) {
        float x[40], want[40];
        int64_t at[40];
        size_t n = rand_below(&dice, 41), k = 0;
        for (size_t c = 0; c < n; c++) {
            x[c] = (float)rand_below(&dice, 3);
            if (x[c] != 0) {
                at[k] = (int64_t)c;
                want[k++] = x[c];
            }
        }
        struct engine_data in = {x, n * 4, 1, {(int64_t)n}}, out[2];
        assert_true(engine_run(i, &in, out, &e));
        assert_true(out[1].rank == 2 && out[1].shape[0] == 1 && out[1].shape[1] == (int64_t)k);
        expect(&out[0], want, k * 4);
        expect(&out[1], at, k * 8);
    }
    engine_instance_free(i);
    engine_model_free(m);
    engine_free(engine);
}

static void kinds(void **state)
{
    (void)state;
    struct engine *engine = engine_new(guard_device_new(), NULL, (struct engine_limits){0}, &e);
    for (unsigned sorted = 0; sorted < 2; sorted++) {
        struct msg g = begin(ONNX_F32, (int64_t[]){-1}, 1, ONNX_F32),
                   n = onnx_node("Unique", "x", "y,first,kind,count");
        static const char *const more[] = {"first", "kind", "count"};
        onnx_int(&n, "sorted", sorted);
        msg_msg(&g, GRAPH_NODES, n);
        for (unsigned k = 0; k < 3; k++)
            msg_msg(&g, GRAPH_OUTPUTS, onnx_value(more[k], ONNX_I64, (int64_t[]){-1}, 1));
        struct engine_model *m = load_in(engine, g);
        struct engine_instance *i = engine_instance_new(m, &e);
        static const float x[] = {2, 1, 1, 3, 4, 3};
        struct engine_data in = {x, sizeof(x), 1, {6}}, out[4];
        assert_true(engine_run(i, &in, out, &e));
        expect(&out[0], sorted ? (float[]){1, 2, 3, 4} : (float[]){2, 1, 3, 4}, 16);
        expect(&out[1], sorted ? (int64_t[]){1, 0, 3, 4} : (int64_t[]){0, 1, 3, 4}, 32);
        expect(&out[2], sorted ? (int64_t[]){1, 0, 0, 2, 3, 2} : (int64_t[]){0, 1, 1, 2, 3, 2}, 48);
        expect(&out[3], sorted ? (int64_t[]){2, 1, 2, 1} : (int64_t[]){1, 2, 2, 1}, 32);
        in = (struct engine_data){x, 0, 1, {0}};
        assert_true(engine_run(i, &in, out, &e));
        for (unsigned k = 0; k < 4; k++)
            assert_true(out[k].rank == 1 && out[k].shape[0] == 0);
        engine_instance_free(i);
        engine_model_free(m);
    }
    engine_free(engine);
}

// Boxes along a line, each overlapping the next: every other one is left, the best of a class first.
static void boxes(void **state)
{
    (void)state;
    struct engine *engine = engine_new(guard_device_new(), NULL, (struct engine_limits){0}, &e);
    struct msg g = {0};
    float box[5][4], score[2][5] = {{0.1f, 0.2f, 0.9f, 0.2f, 0.3f}, {0.5f, 0.4f, 0, 0, 0}};
    float overlap = 0.3f, least = 0.15f;
    int64_t most = 10;
    for (unsigned k = 0; k < 5; k++)
        memcpy(box[k], (float[]){(float)k, 0, (float)k + 2, 1}, 16);
    msg_msg(&g, GRAPH_INPUTS, onnx_value("box", ONNX_F32, (int64_t[]){1, -1, 4}, 3));
    msg_msg(&g, GRAPH_INPUTS, onnx_value("score", ONNX_F32, (int64_t[]){1, 2, -1}, 3));
    msg_msg(&g, GRAPH_INPUTS, onnx_value("most", ONNX_I64, NULL, 0));
    msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("overlap", ONNX_F32, NULL, 0, &overlap, 4));
    msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("least", ONNX_F32, NULL, 0, &least, 4));
    graph_node(&g, "NonMaxSuppression", "box,score,most,overlap,least", "y");
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", ONNX_I64, (int64_t[]){-1, 3}, 2));
    struct engine_model *m = load_in(engine, g);
    struct engine_instance *i = engine_instance_new(m, &e);
    struct engine_data in[3] = {
        {box, 80, 3, {1, 5, 4}}, {score, 40, 3, {1, 2, 5}}, {&most, 8, 0, {0}}};
    struct engine_data out;
    static const int64_t all[] = {0, 0, 2, 0, 0, 4, 0, 1, 0}; // (4 is left: 2 hides 1 and 3)
    assert_true(engine_run(i, in, &out, &e));
    expect(&out, all, sizeof(all));
    most = 1;
    assert_true(engine_run(i, in, &out, &e));
    expect(&out, (int64_t[]){0, 0, 2, 0, 1, 0}, 48);
    most = 0;
    assert_true(engine_run(i, in, &out, &e));
    assert_true(out.rank == 2 && out.shape[0] == 0 && out.shape[1] == 3);
    engine_instance_free(i);
    engine_model_free(m);
    engine_free(engine);
}

static void chosen(void **state)
{
    (void)state;
    struct msg g = begin(ONNX_F32, (int64_t[]){-1, 3}, 2, ONNX_F32),
               n = onnx_node("Compress", "x,yes", "y");
    onnx_int(&n, "axis", 0);
    msg_msg(&g, GRAPH_NODES, n);
    msg_msg(&g, GRAPH_INPUTS, onnx_value("yes", BOOLS, (int64_t[]){ONNX_OTHER}, 1));
    struct engine_model *m = load(g);
    struct engine_instance *i = engine_instance_new(m, &e);
    static const float x[] = {0, 1, 2, 3, 4, 5, 6, 7, 8};
    uint8_t yes[] = {1, 0, 1, 1};
    struct engine_data in[2] = {{x, 36, 2, {3, 3}}, {yes, 3, 1, {3}}}, out;
    assert_true(engine_run(i, in, &out, &e));
    expect(&out, (float[]){0, 1, 2, 6, 7, 8}, 24);
    in[1] = (struct engine_data){yes, 1, 1, {1}}; // a first dimension of its own
    assert_true(engine_run(i, in, &out, &e));
    expect(&out, x, 12);
    in[1] = (struct engine_data){yes, 4, 1, {4}};
    assert_false(engine_run(i, in, &out, &e));
    assert_non_null(strstr(e.text, "condition: more than there are elements"));
    engine_instance_free(i);
    engine_model_free(m);
}

// ---- sizes -------------------------------------------------------------------------------------------

// As many ones as the input says, and their sums along the way.
static void as_many_as_it_says(void **state)
{
    (void)state;
    struct engine *engine =
        engine_with((struct cpu_options){0}, (struct engine_limits){.bytes = 1 << 20});
    struct msg g = begin(ONNX_I64, (int64_t[]){1}, 1, ONNX_F32);
    graph_node(&g, "ConstantOfShape", "x", "zeros");
    float one = 1;
    msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("one", ONNX_F32, NULL, 0, &one, 4));
    graph_node(&g, "Add", "zeros,one", "y");
    struct engine_model *m = load_in(engine, g);
    struct engine_instance *i = engine_instance_new(m, &e);
    int64_t n;
    struct engine_data in = {&n, 8, 1, {1}}, out;
    for (n = 0; n < 1000; n += 333) {
        assert_true(engine_run(i, &in, &out, &e));
        assert_int_equal(out.bytes, (size_t)n * 4);
        for (int64_t k = 0; k < n; k++)
            assert_true(((const float *)out.data)[k] == 1);
    }
    static const struct {
        int64_t n;
        const char *why;
    } wrong[] = {{-1, "ConstantOfShape (node \"the-node\")"},
                 {INT64_MIN, "ConstantOfShape (node \"the-node\")"},
                 {INT64_MAX, "too many elements"},
                 {1 << 20, "the run takes more than 0 MiB"},
                 {200000, "the run takes more than 0 MiB"}}; // one of them is not too much
    for (unsigned k = 0; k < 5; k++) {
        n = wrong[k].n;
        assert_false(engine_run(i, &in, &out, &e));
        if (!strstr(e.text, wrong[k].why))
            fail_msg("expected \"%s\", got \"%s\"", wrong[k].why, e.text);
    }
    n = 7;
    assert_true(engine_run(i, &in, &out, &e)); // and goes on
    assert_int_equal(out.bytes, 28);
    engine_instance_free(i);
    engine_model_free(m);
    engine_free(engine);
}

// What one run made stays until the next, whichever plan that has; what is read for the last time does not.
static void nothing_is_kept(void **state)
{
    (void)state;
    struct engine *engine =
        engine_with((struct cpu_options){0}, (struct engine_limits){.bytes = 4 << 20});
    struct msg g = begin(ONNX_F32, (int64_t[]){-1, -1}, 2, ONNX_F32);
    graph_integers(&g, "flat", 1, 1, (int64_t[]){-1});
    graph_node(&g, "NonZero", "x", "at");
    graph_node(&g, "Shape", "at", "size");
    graph_node(&g, "ConstantOfShape", "size", "v0");
    for (unsigned k = 0; k < 100; k++) { // a hundred of them would be too much
        char from[16], to[16];
        snprintf(from, sizeof(from), "v%u", k);
        snprintf(to, sizeof(to), "v%u", k + 1);
        graph_node(&g, "Neg", from, to);
    }
    graph_node(&g, "Reshape", "v100,flat", "y");
    struct engine_model *m = load_in(engine, g);
    struct engine_instance *i = engine_instance_new(m, &e);
    static float x[20000];
    for (unsigned k = 0; k < 20000; k++)
        x[k] = 1;
    for (int64_t cols = 1; cols <= 200; cols++) {
        struct engine_data in = {x, (size_t)cols * 400, 2, {100, cols}}, out;
        if (!engine_run(i, &in, &out, &e))
            fail_msg("%s", e.text);
        assert_int_equal(out.bytes, (size_t)cols * 800);
    }
    engine_instance_free(i);
    engine_model_free(m);
    engine_free(engine);
}

static void memory_runs_out(void **state)
{
    (void)state;
    struct msg g = begin(ONNX_F32, (int64_t[]){-1}, 1, ONNX_F32);
    graph_node(&g, "NonZero", "x", "at");
    graph_integers(&g, "flat", 1, 1, (int64_t[]){-1});
    graph_node(&g, "Reshape", "at,flat", "list");
    graph_node(&g, "Gather", "x,list", "y");
    float x[4] = {1, 0, 2, 0};
    struct engine_data in = {x, 16, 1, {4}};
    expect_without_memory(onnx_model(g, 16), &in, 8, 6, 1001);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(places),
        cmocka_unit_test(kinds),
        cmocka_unit_test(boxes),
        cmocka_unit_test(chosen),
        cmocka_unit_test(as_many_as_it_says),
        cmocka_unit_test(nothing_is_kept),
        cmocka_unit_test(memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
