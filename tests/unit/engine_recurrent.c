// RNN, GRU and LSTM against the plainest loops in double: directions, lengths, states, peepholes, clip, weights as
// constants and as inputs, on a device that runs every step between guard pages.
#include "base/rand.h"
#include "engine/engine.h"
#include "tests/unit/engine_guard.h"
#include "tests/unit/engine_kit.h"

#include <math.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

enum { I32 = 6, MOST = 8 };

static struct engine_error e;
static struct rand dice;

static int64_t roll(int64_t low, int64_t high)
{
    return low + (int64_t)rand_below(&dice, (uint64_t)(high - low + 1));
}

struct tensor_of { // an input
    const char *name;
    unsigned rank;
    int64_t shape[3];
    float *x;
    bool there;
};

struct setup {
    const char *type;
    unsigned gates;
    int64_t t, n, d, i, h;
    bool reverse, linear, coupled;
    float clip; // 0: none
    int32_t len[MOST];
    struct tensor_of x, w, r, b, h0, c0, p;
    bool has_len, constant;
};

static void fill(struct tensor_of *a, const char *name, bool there, unsigned rank, int64_t s0,
                 int64_t s1, int64_t s2)
{
    size_t n = (size_t)(s0 * s1 * (rank > 2 ? s2 : 1));
    *a = (struct tensor_of){.name = name, .rank = rank, .shape = {s0, s1, s2}, .there = there};
    a->x = malloc((n + 1) * sizeof(float));
    for (size_t k = 0; k < n; k++)
        a->x[k] = there ? (float)rand_unit(&dice) - 0.5f : 0;
}

static struct setup set_up(unsigned kind)
{
    static const char *const types[] = {"RNN", "GRU", "LSTM"};
    static const unsigned gates[] = {1, 3, 4};
    struct setup s = {.type = types[kind], .gates = gates[kind]};
    s.t = roll(1, 5);
    s.n = roll(1, 4);
    s.d = roll(1, 2);
    s.i = roll(1, 20);
    s.h = roll(1, 20);
    s.reverse = s.d == 1 && roll(0, 1);
    s.linear = kind == 1 && roll(0, 1);
    s.coupled = kind == 2 && roll(0, 3) == 0;
    s.clip = roll(0, 2) ? 0 : 0.3f;
    s.has_len = roll(0, 1);
    s.constant = roll(0, 1);
    for (int64_t k = 0; k < s.n; k++)
        s.len[k] = s.has_len ? (int32_t)roll(1, s.t) : (int32_t)s.t;
    fill(&s.x, "x", true, 3, s.t, s.n, s.i);
    fill(&s.w, "w", true, 3, s.d, s.gates * s.h, s.i);
    fill(&s.r, "r", true, 3, s.d, s.gates * s.h, s.h);
    fill(&s.b, "b", roll(0, 1), 2, s.d, 2 * s.gates * s.h, 0);
    fill(&s.h0, "h0", roll(0, 1), 3, s.d, s.n, s.h);
    fill(&s.c0, "c0", kind == 2 && roll(0, 1), 3, s.d, s.n, s.h);
    fill(&s.p, "p", kind == 2 && roll(0, 1), 2, s.d, 3 * s.h, 0);
    return s;
}

static void tear_down(struct setup *s)
{
    struct tensor_of *const all[] = {&s->x, &s->w, &s->r, &s->b, &s->h0, &s->c0, &s->p};
    for (unsigned k = 0; k < 7; k++)
        free(all[k]->x);
}

// ---- the plainest loops ------------------------------------------------------------------------------

static double held(const struct setup *s, double v)
{
    double c = s->clip > 0 ? (double)s->clip : INFINITY;
    return v > c ? c : v < -c ? -c : v;
}

static double logistic(double v)
{
    return 1 / (1 + exp(-v));
}

// What x adds to gate g of state k (and the bias), what h does.
static double from_x(const struct setup *s, int64_t d, int64_t g, int64_t k, const float *x)
{
    double sum = s->b.x[d * 2 * s->gates * s->h + g * s->h + k];
    for (int64_t i = 0; i < s->i; i++)
        sum += (double)s->w.x[(d * s->gates * s->h + g * s->h + k) * s->i + i] * x[i];
    return sum;
}

static double from_h(const struct setup *s, int64_t d, int64_t g, int64_t k, const double *h)
{
    double sum = s->b.x[d * 2 * s->gates * s->h + (s->gates + g) * s->h + k];
    for (int64_t i = 0; i < s->h; i++)
        sum += (double)s->r.x[(d * s->gates * s->h + g * s->h + k) * s->h + i] * h[i];
    return sum;
}

static void next_state(const struct setup *s, int64_t d, const float *x, double *h, double *c)
{
    double was[32], reset[32];
    const float *peep = s->p.x + d * 3 * s->h;
    memcpy(was, h, sizeof(was));
    for (int64_t k = 0; k < s->h && s->gates == 3; k++)
        reset[k] = logistic(held(s, from_x(s, d, 1, k, x) + from_h(s, d, 1, k, was)));
    double hidden[32];
    for (int64_t k = 0; k < s->h && s->gates == 3; k++)
        hidden[k] = reset[k] * was[k];
    for (int64_t k = 0; k < s->h; k++) {
        if (s->gates == 1) {
            h[k] = tanh(held(s, from_x(s, d, 0, k, x) + from_h(s, d, 0, k, was)));
        } else if (s->gates == 3) {
            double z = logistic(held(s, from_x(s, d, 0, k, x) + from_h(s, d, 0, k, was)));
            double g = s->linear ? reset[k] * from_h(s, d, 2, k, was) : from_h(s, d, 2, k, hidden);
            g = tanh(held(s, from_x(s, d, 2, k, x) + g));
            h[k] = (1 - z) * g + z * was[k];
        } else {
            double sum[4];
            for (int64_t g = 0; g < 4; g++)
                sum[g] = from_x(s, d, g, k, x) + from_h(s, d, g, k, was);
            double in = logistic(held(s, sum[0] + peep[k] * c[k]));
            double forget =
                s->coupled ? 1 - in : logistic(held(s, sum[2] + peep[2 * s->h + k] * c[k]));
            c[k] = forget * c[k] + in * tanh(held(s, sum[3]));
            h[k] = logistic(held(s, sum[1] + peep[s->h + k] * c[k])) * tanh(c[k]);
        }
    }
}

static void expect_near(const char *what, float got, double want)
{
    if (!(fabs((double)got - want) <= 1e-5 + 1e-4 * fabs(want)))
        fail_msg("%s: expected %g, got %g", what, want, (double)got);
}

static void check(const struct setup *s, const struct engine_data *out)
{
    const float *y = out[0].data, *last_h = out[1].data, *last_c = out[2].data;
    for (int64_t d = 0; d < s->d; d++) {
        for (int64_t n = 0; n < s->n; n++) {
            double h[32] = {0}, c[32] = {0};
            for (int64_t k = 0; k < s->h; k++) {
                h[k] = s->h0.x[(d * s->n + n) * s->h + k];
                c[k] = s->c0.x[(d * s->n + n) * s->h + k];
            }
            for (int64_t step = 0; step < s->t; step++) {
                bool in = step < s->len[n], back = s->reverse || d == 1;
                int64_t t = in && back ? s->len[n] - 1 - step : step;
                if (in)
                    next_state(s, d, s->x.x + (t * s->n + n) * s->i, h, c);
                for (int64_t k = 0; k < s->h; k++)
                    expect_near(s->type, y[((t * s->d + d) * s->n + n) * s->h + k], in ? h[k] : 0);
            }
            for (int64_t k = 0; k < s->h; k++) {
                expect_near("the last state", last_h[(d * s->n + n) * s->h + k], h[k]);
                if (s->gates == 4)
                    expect_near("the last cell", last_c[(d * s->n + n) * s->h + k], c[k]);
            }
        }
    }
}

// ---- the engine's ------------------------------------------------------------------------------------

struct feed { // the model's inputs, as they are added
    struct engine_data in[10];
    unsigned n;
};

static void add(struct msg *g, struct feed *f, const struct tensor_of *a, bool constant)
{
    size_t bytes = 4;
    for (unsigned k = 0; k < a->rank; k++)
        bytes *= (size_t)a->shape[k];
    if (!a->there)
        return;
    if (constant) {
        msg_msg(g, GRAPH_CONSTANTS, onnx_tensor(a->name, ONNX_F32, a->shape, a->rank, a->x, bytes));
        return;
    }
    msg_msg(g, GRAPH_INPUTS, onnx_value(a->name, ONNX_F32, a->shape, a->rank));
    struct engine_data *d = &f->in[f->n++];
    *d = (struct engine_data){a->x, bytes, a->rank, {0}};
    memcpy(d->shape, a->shape, sizeof(a->shape));
}

static struct msg model_of(const struct setup *s, struct feed *f)
{
    struct msg g = {0}, n;
    char in[64];
    add(&g, f, &s->x, false);
    add(&g, f, &s->w, s->constant);
    add(&g, f, &s->r, s->constant);
    add(&g, f, &s->b, s->constant);
    if (s->has_len) {
        msg_msg(&g, GRAPH_INPUTS, onnx_value("len", I32, &s->n, 1));
        f->in[f->n++] = (struct engine_data){s->len, (size_t)s->n * 4, 1, {s->n}};
    }
    add(&g, f, &s->h0, false);
    add(&g, f, &s->c0, false);
    add(&g, f, &s->p, s->constant);
    snprintf(in, sizeof(in), "x,w,r,%s,%s,%s", s->b.there ? "b" : "", s->has_len ? "len" : "",
             s->h0.there ? "h0" : "");
    if (s->gates == 4)
        snprintf(in + strlen(in), sizeof(in) - strlen(in), ",%s%s", s->c0.there ? "c0" : "",
                 s->p.there ? ",p" : "");
    n = onnx_node(s->type, in, s->gates == 4 ? "y,yh,yc" : "y,yh");
    onnx_string(&n, "direction", s->d == 2 ? "bidirectional" : s->reverse ? "reverse" : "forward");
    onnx_int(&n, "hidden_size", s->h);
    if (s->clip > 0)
        onnx_float(&n, "clip", s->clip);
    if (s->linear)
        onnx_int(&n, "linear_before_reset", 1);
    if (s->coupled)
        onnx_int(&n, "input_forget", 1);
    msg_msg(&g, GRAPH_NODES, n);
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", ONNX_F32, NULL, 0));
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("yh", ONNX_F32, NULL, 0));
    if (s->gates == 4)
        msg_msg(&g, GRAPH_OUTPUTS, onnx_value("yc", ONNX_F32, NULL, 0));
    return onnx_model(g, 14);
}

static void against_the_plainest(void **state)
{
    struct engine *engine = engine_new(guard_device_new(), NULL, (struct engine_limits){0}, &e);
    (void)state;
    rand_seed(&dice, 5);
    for (unsigned round = 0; round < 150; round++) {
        struct setup s = set_up(round % 3);
        struct feed f = {.n = 0};
        struct engine_data out[3];
        struct msg file = model_of(&s, &f);
        struct engine_model *m = engine_model_load(engine, view_of(file.p, file.n), 1, &e);
        free(file.p);
        if (!m)
            fail_msg("%s", e.text);
        struct engine_instance *i = engine_instance_new(m, &e);
        if (!engine_run(i, f.in, out, &e))
            fail_msg("%s", e.text);
        check(&s, out);
        engine_instance_free(i);
        engine_model_free(m);
        tear_down(&s);
    }
    engine_free(engine);
}

static void lengths_that_cannot_be(void **state)
{
    (void)state;
    struct msg g = {0};
    float zeros[64] = {0};
    int32_t len[2] = {1, 3};
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", ONNX_F32, (int64_t[]){3, 2, 4}, 3));
    msg_msg(&g, GRAPH_INPUTS, onnx_value("len", I32, (int64_t[]){2}, 1));
    msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("w", ONNX_F32, (int64_t[]){1, 5, 4}, 3, zeros, 80));
    msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("r", ONNX_F32, (int64_t[]){1, 5, 5}, 3, zeros, 100));
    msg_msg(&g, GRAPH_NODES, onnx_node("RNN", "x,w,r,,len", "y"));
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", ONNX_F32, NULL, 0));
    struct msg file = onnx_model(g, 14);
    struct engine_model *m = engine_model_load(engine_any(false), view_of(file.p, file.n), 1, &e);
    free(file.p);
    assert_non_null(m);
    struct engine_instance *i = engine_instance_new(m, &e);
    struct engine_data in[2] = {{zeros, 96, 3, {3, 2, 4}}, {len, 8, 1, {2}}}, out;
    assert_true(engine_run(i, in, &out, &e));
    static const int32_t wrong[] = {0, -1, 4, INT32_MAX, INT32_MIN};
    for (unsigned k = 0; k < 5; k++) {
        len[1] = wrong[k];
        assert_false(engine_run(i, in, &out, &e));
        assert_non_null(strstr(e.text, "sequence_lens: expected 1 to the number of steps"));
    }
    engine_instance_free(i);
    engine_model_free(m);
}

static void refuses(struct msg n, int64_t gates, const char *why)
{
    struct msg g = {0};
    float zeros[400] = {0};
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", ONNX_F32, (int64_t[]){3, 2, 4}, 3));
    msg_msg(&g, GRAPH_CONSTANTS,
            onnx_tensor("w", ONNX_F32, (int64_t[]){1, gates, 4}, 3, zeros, (size_t)gates * 16));
    msg_msg(&g, GRAPH_CONSTANTS,
            onnx_tensor("r", ONNX_F32, (int64_t[]){1, gates, 5}, 3, zeros, (size_t)gates * 20));
    msg_msg(&g, GRAPH_NODES, n);
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", ONNX_F32, NULL, 0));
    struct msg file = onnx_model(g, 14);
    expect_refusal(engine_model_load(engine_any(false), view_of(file.p, file.n), 1, &e), e.text,
                   why);
    free(file.p);
}

static void what_cannot_be(void **state)
{
    (void)state;
    refuses(onnx_node("LSTM", "x,w,r", "y"), 19, "fit each other");
    refuses(onnx_node("LSTM", "x,w,r,x", "y"), 20, "B, P");
    refuses(onnx_node("GRU", "x,w,r,,,x", "y"), 15, "initial_h");
    struct msg n = onnx_node("RNN", "x,w,r", "y");
    onnx_string(&n, "direction", "sideways");
    refuses(n, 5, "direction");
    n = onnx_node("RNN", "x,w,r", "y");
    onnx_string(&n, "direction", "bidirectional");
    refuses(n, 5, "fit each other");
    n = onnx_node("LSTM", "x,w,r", "y");
    onnx_strings(&n, "activations", 2, (const char *const[]){"Tanh", "Tanh"});
    refuses(n, 20, "activations: expected one to three");
    n = onnx_node("RNN", "x,w,r", "y");
    onnx_strings(&n, "activations", 1, (const char *const[]){"Gelu"});
    refuses(n, 5, "activations: one of them");
    n = onnx_node("RNN", "x,w,r", "y");
    onnx_strings(&n, "activations", 1, (const char *const[]){"ThresholdedRelu"});
    refuses(n, 5, "without its alpha");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_the_plainest),
        cmocka_unit_test(lengths_that_cannot_be),
        cmocka_unit_test(what_cannot_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
