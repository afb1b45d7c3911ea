// ai.onnx.ml where exporters write it: trees at their thresholds and with what is not a number, labels of two
// classes, linear models; ensembles that cannot be. (The files of many exporters are compared elsewhere: these
// hold the rules.)
#include "engine/engine.h"
#include "tests/unit/engine_guard.h"
#include "tests/unit/engine_kit.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stddef.h>

#include <cmocka.h>

static struct engine_error e;

// Imports ai.onnx.ml alone.
static struct msg ml_model(struct msg graph)
{
    struct msg m = {0}, set = {0};
    msg_uint(&m, 1, 8);
    msg_msg(&m, 7, graph);
    msg_text(&set, 1, "ai.onnx.ml");
    msg_uint(&set, 2, 3);
    msg_msg(&m, 8, set);
    return m;
}

static struct msg ml_graph(struct msg node, int64_t features, unsigned type, const char *outputs)
{
    struct msg g = {0};
    msg_text(&node, 7, "ai.onnx.ml");
    msg_msg(&g, GRAPH_NODES, node);
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", ONNX_F32, (int64_t[]){-1, features}, 2));
    for (const char *at = outputs; *at; at++) {
        char name[2] = {*at, 0};
        msg_msg(&g, GRAPH_OUTPUTS, onnx_value(name, *at == 'l' ? ONNX_I64 : type, NULL, 0));
    }
    return g;
}

static struct engine *guarded(void)
{
    static struct engine *g;
    if (!g)
        g = engine_new(guard_device_new(), NULL, (struct engine_limits){0}, &e);
    return g;
}

static struct engine_model *load_on(struct engine *engine, struct msg g)
{
    struct msg file = ml_model(g);
    struct engine_model *m = engine_model_load(engine, view_of(file.p, file.n), 16, &e);
    free(file.p);
    return m;
}

static struct engine_model *load(struct msg g)
{
    return load_on(guarded(), g);
}

static void refuses(struct msg g, const char *why)
{
    expect_refusal(load(g), e.text, why);
}

// rows of `features`; want: [rows, outs].
static void expect_on(struct engine *engine, struct msg g, unsigned rows, unsigned features,
                      const float *x, unsigned outs, const float *want)
{
    struct engine_model *m = load_on(engine, g);
    if (!m)
        fail_msg("%s", e.text);
    struct engine_instance *i = engine_instance_new(m, &e);
    struct engine_data in = {x, rows * features * sizeof(*x), 2, {rows, features}}, out[2];
    assert_true(engine_run(i, &in, out, &e));
    const struct engine_data *y = &out[engine_model_outputs(m) - 1];
    assert_int_equal(y->bytes, rows * outs * sizeof(float));
    for (unsigned k = 0; k < rows * outs; k++)
        assert_float_equal(((const float *)y->data)[k], want[k], 1e-6f);
    engine_instance_free(i);
    engine_model_free(m);
}

static void expect(struct msg g, unsigned rows, unsigned features, const float *x, unsigned outs,
                   const float *want)
{
    expect_on(guarded(), g, rows, features, x, outs, want);
}

// ---- trees -------------------------------------------------------------------------------------------

struct tree_lists { // the lists of one ensemble; weights are `n_weights` of leaf and target
    unsigned n, n_weights;
    const char *const *modes;
    int64_t tree[8], id[8], feature[8], yes[8], no[8], missing[8];
    float value[8];
    int64_t weight_tree[8], weight_node[8], weight_target[8];
    float weight[8];
};

static const char *const stump_modes[] = {"BRANCH_LEQ", "LEAF", "LEAF"};

// x[0] `mode` 0.5: 1, else 2.
static struct tree_lists stump(const char *const *modes)
{
    return (struct tree_lists){.n = 3,
                               .n_weights = 2,
                               .modes = modes,
                               .id = {0, 1, 2},
                               .yes = {1},
                               .no = {2},
                               .value = {0.5f},
                               .weight_node = {1, 2},
                               .weight = {1, 2}};
}

static struct msg tree_node(const char *op, const char *outputs, const char *of,
                            const struct tree_lists *t)
{
    struct msg n = onnx_node(op, "x", outputs);
    char name[32];
    onnx_strings(&n, "nodes_modes", t->n, t->modes);
    onnx_ints(&n, "nodes_treeids", t->n, t->tree);
    onnx_ints(&n, "nodes_nodeids", t->n, t->id);
    onnx_ints(&n, "nodes_featureids", t->n, t->feature);
    onnx_ints(&n, "nodes_truenodeids", t->n, t->yes);
    onnx_ints(&n, "nodes_falsenodeids", t->n, t->no);
    onnx_ints(&n, "nodes_missing_value_tracks_true", t->n, t->missing);
    onnx_floats(&n, "nodes_values", t->n, t->value);
    snprintf(name, sizeof(name), "%s_treeids", of);
    onnx_ints(&n, name, t->n_weights, t->weight_tree);
    snprintf(name, sizeof(name), "%s_nodeids", of);
    onnx_ints(&n, name, t->n_weights, t->weight_node);
    snprintf(name, sizeof(name), "%s_ids", of);
    onnx_ints(&n, name, t->n_weights, t->weight_target);
    snprintf(name, sizeof(name), "%s_weights", of);
    onnx_floats(&n, name, t->n_weights, t->weight);
    return n;
}

static struct msg regressor(const struct tree_lists *t)
{
    return ml_graph(tree_node("TreeEnsembleRegressor", "y", "target", t), 2, ONNX_F32, "y");
}

// 13 rows: eight together, the others alone.
static void thresholds(void **state)
{
    static const struct {
        const char *mode;
        float below, at, above, nothing;
    } cases[] = {{"BRANCH_LEQ", 1, 1, 2, 2}, {"BRANCH_LT", 1, 2, 2, 2}, {"BRANCH_GTE", 2, 1, 1, 2},
                 {"BRANCH_GT", 2, 2, 1, 2},  {"BRANCH_EQ", 2, 1, 2, 2}, {"BRANCH_NEQ", 1, 2, 1, 1}};
    (void)state;
    for (unsigned k = 0; k < sizeof(cases) / sizeof(cases[0]); k++) {
        const char *modes[] = {cases[k].mode, "LEAF", "LEAF"};
        const float in[4] = {nextafterf(0.5f, 0), 0.5f, nextafterf(0.5f, 1), NAN};
        const float out[4] = {cases[k].below, cases[k].at, cases[k].above, cases[k].nothing};
        struct tree_lists t = stump(modes);
        for (unsigned missing = 0; missing < 2; missing++) {
            float x[26] = {0}, want[13];
            t.missing[0] = missing;
            for (unsigned r = 0; r < 13; r++) {
                x[2 * r] = in[r % 4];
                want[r] = r % 4 == 3 && missing ? 1 : out[r % 4];
            }
            expect(regressor(&t), 13, 2, x, 1, want);
        }
    }
}

// Numbers below FLT_MIN count as 0 while a plan runs; so thresholds that a float cannot be strictly below are met
// by the numbers that there are.
static void thresholds_about_zero(void **state)
{
    static const struct {
        const char *mode;
        float threshold, below, zero, above;
    } cases[] = {
        {"BRANCH_LT", 0, 1, 2, 2},         {"BRANCH_LT", -0.0f, 1, 2, 2},
        {"BRANCH_LT", FLT_MIN, 1, 1, 2},   {"BRANCH_LT", 1e-40f, 1, 1, 2},
        {"BRANCH_LT", -FLT_MIN, 2, 2, 2},  {"BRANCH_LT", -1e-40f, 1, 2, 2},
        {"BRANCH_LEQ", -FLT_MIN, 1, 2, 2}, {"BRANCH_LEQ", -1e-40f, 1, 2, 2},
        {"BRANCH_LEQ", 1e-40f, 1, 1, 2},   {"BRANCH_GTE", -1e-40f, 2, 1, 1},
    };
    (void)state;
    for (unsigned k = 0; k < sizeof(cases) / sizeof(cases[0]); k++) {
        const char *modes[] = {cases[k].mode, "LEAF", "LEAF"};
        struct tree_lists t = stump(modes);
        t.value[0] = cases[k].threshold;
        float x[26] = {0}, want[13];
        for (unsigned r = 0; r < 13; r++) {
            x[2 * r] = (float[]){-FLT_MIN, 0, FLT_MIN}[r % 3];
            want[r] = (&cases[k].below)[r % 3];
        }
        expect_on(engine_any(false), regressor(&t), 13, 2, x, 1, want);
    }
}

static void trees_together(void **state)
{
    static const char *const modes[] = {"BRANCH_LEQ", "LEAF", "LEAF", "LEAF"};
    static const struct {
        const char *how;
        float want[2];
    } cases[] = {{"SUM", {1 + 10.25f, 2 + 10.25f}},
                 {"AVERAGE", {5.5f + 0.25f, 6 + 0.25f}},
                 {"MIN", {1.25f, 2.25f}},
                 {"MAX", {10.25f, 10.25f}}};
    (void)state;
    for (unsigned k = 0; k < 4; k++) {
        struct tree_lists t = stump(modes);
        t.n = 4;
        t.tree[3] = 7; // a tree of one leaf
        t.n_weights = 3;
        t.weight_tree[2] = 7;
        t.weight[2] = 10;
        struct msg n = tree_node("TreeEnsembleRegressor", "y", "target", &t);
        onnx_string(&n, "aggregate_function", cases[k].how);
        onnx_floats(&n, "base_values", 1, (float[]){0.25f});
        expect(ml_graph(n, 2, ONNX_F32, "y"), 2, 2, (float[]){0, 0, 1, 0}, 1, cases[k].want);
    }
}

static void two_classes(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 4; k++) {
        bool logistic = k & 1, odds = k & 2;
        struct tree_lists t = stump(stump_modes);
        t.weight[0] = odds ? -1 : 0.25f;
        t.weight[1] = 0.75f;
        struct msg n = tree_node("TreeEnsembleClassifier", "l,y", "class", &t);
        onnx_ints(&n, "classlabels_int64s", 2, (int64_t[]){3, 9});
        onnx_string(&n, "post_transform", logistic ? "LOGISTIC" : "NONE");
        float want[4];
        for (unsigned r = 0; r < 2; r++) {
            float p = t.weight[r];
            want[2 * r] = logistic ? 1 / (1 + expf(p)) : odds ? -p : 1 - p;
            want[2 * r + 1] = logistic ? 1 / (1 + expf(-p)) : p;
        }
        expect(ml_graph(n, 2, ONNX_F32, "ly"), 2, 2, (float[]){0, 0, 1, 0}, 2, want);
    }
}

static void ensembles_that_cannot_be(void **state)
{
    (void)state;
    struct tree_lists t = stump(stump_modes);
    t.feature[0] = 2;
    refuses(regressor(&t), "beyond the features");
    t = stump(stump_modes);
    t.no[0] = 3;
    refuses(regressor(&t), "two roots"); // nobody leads to node 2
    t.no[0] = 0;
    refuses(regressor(&t), "of no leaf"); // nor, but itself, to the first
    t = stump((const char *const[]){"BRANCH_LEQ", "LEAF", "BRANCH_LEQ"});
    t.yes[2] = t.no[2] = 5;
    refuses(regressor(&t), "no such node");
    t = stump(stump_modes);
    t.id[2] = 1;
    refuses(regressor(&t), "two nodes of one id");
    t = stump(stump_modes);
    t.weight_node[0] = 0;
    refuses(regressor(&t), "of no leaf");
    t = stump(stump_modes);
    t.weight_target[1] = 1;
    refuses(regressor(&t), "of no target");
    t = stump((const char *const[]){"BRANCH_MEMBER", "LEAF", "LEAF"});
    refuses(regressor(&t), "nodes_modes");
    t = stump((const char *const[]){"BRANCH_LEQ", "BRANCH_LEQ", "LEAF"});
    t.yes[1] = t.no[1] = 2; // 2 is reached from both
    refuses(regressor(&t), "reached twice");
    t.yes[1] = t.no[1] = 0; // a cycle
    refuses(regressor(&t), "no root");
}

// A key that a run takes for 0 is the key 0.
static void keys_about_zero(void **state)
{
    struct msg n = onnx_node("LabelEncoder", "x", "y");
    (void)state;
    onnx_floats(&n, "keys_floats", 2, (float[]){1e-40f, FLT_MIN});
    onnx_floats(&n, "values_floats", 2, (float[]){5, 6});
    expect_on(engine_any(false), ml_graph(n, 4, ONNX_F32, "y"), 1, 4,
              (float[]){0, 1e-40f, -1e-41f, FLT_MIN}, 4, (float[]){5, 5, 5, 6});
}

// ---- linear ------------------------------------------------------------------------------------------

static void linear(void **state)
{
    static const float x[4] = {1, 2, -1, 0.5f}, w[4] = {1, 0, -1, 2}, b[2] = {0.5f, -1};
    static const float plain[4] = {1.5f, 2, -0.5f, 1};
    struct msg r = onnx_node("LinearRegressor", "x", "y"),
               c = onnx_node("LinearClassifier", "x", "l,y");
    (void)state;
    onnx_floats(&r, "coefficients", 4, w);
    onnx_floats(&r, "intercepts", 2, b);
    onnx_int(&r, "targets", 2);
    expect(ml_graph(r, 2, ONNX_F32, "y"), 2, 2, x, 2, plain);
    onnx_floats(&c, "coefficients", 2, w);
    onnx_floats(&c, "intercepts", 1, b);
    onnx_ints(&c, "classlabels_ints", 2, (int64_t[]){0, 1});
    onnx_string(&c, "post_transform", "LOGISTIC");
    float want[4];
    for (unsigned i = 0; i < 2; i++) {
        want[2 * i] = 1 / (1 + expf(plain[2 * i]));
        want[2 * i + 1] = 1 - want[2 * i];
    }
    expect(ml_graph(c, 2, ONNX_F32, "ly"), 2, 2, x, 2, want);
}

// One score of two classes, and nobody asks for the scores: both lie in the scratch.
static void linear_labels(void **state)
{
    struct msg c = onnx_node("LinearClassifier", "x", "l");
    (void)state;
    onnx_floats(&c, "coefficients", 1, (float[]){2});
    onnx_floats(&c, "intercepts", 1, (float[]){1});
    onnx_ints(&c, "classlabels_ints", 2, (int64_t[]){3, 9});
    struct engine_model *m = load(ml_graph(c, 1, ONNX_F32, "l"));
    if (!m)
        fail_msg("%s", e.text);
    struct engine_instance *i = engine_instance_new(m, &e);
    struct engine_data in = {(float[]){-1, 1}, 2 * sizeof(float), 2, {2, 1}}, out;
    assert_true(engine_run(i, &in, &out, &e));
    assert_memory_equal(out.data, ((int64_t[]){3, 9}), 2 * sizeof(int64_t));
    engine_instance_free(i);
    engine_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(thresholds),
        cmocka_unit_test(thresholds_about_zero),
        cmocka_unit_test(trees_together),
        cmocka_unit_test(two_classes),
        cmocka_unit_test(ensembles_that_cannot_be),
        cmocka_unit_test(keys_about_zero),
        cmocka_unit_test(linear),
        cmocka_unit_test(linear_labels),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    engine_free(guarded());
    return failed;
}
