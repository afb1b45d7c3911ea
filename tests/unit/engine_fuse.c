// Whatever order of ops stands behind a convolution, a product or a sum: the model gives what it gives when
// every value between is an output too, and nothing may be fused.
#include "base/rand.h"
#include "engine/engine.h"
#include "tests/unit/engine_kit.h"

#include <math.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

enum { CHANNELS = 6, DEPTH = 5, MAX_OPS = 4, ROWS = 2 };

static const char *const kinds[] = {
    "Relu", "BatchNormalization", "bias", "bias first", "Clip", "Sigmoid", "half"};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static struct rand dice;

static void constant(struct msg *g, const char *name, unsigned rank, const int64_t *dims,
                     float least)
{
    float x[CHANNELS * CHANNELS * 9];
    size_t n = 1;
    for (unsigned i = 0; i < rank; i++)
        n *= (size_t)dims[i];
    for (size_t i = 0; i < n; i++)
        x[i] = least + 2 * (float)rand_unit(&dice);
    msg_msg(g, GRAPH_CONSTANTS, onnx_tensor(name, ONNX_F32, dims, rank, x, n * 4));
}

// One op of kind k from value v<at> to v<at + 1>. images: values are [rows, CHANNELS, 2, 2], else
// [rows, CHANNELS].
static void add_op(struct msg *g, unsigned k, unsigned at, bool images)
{
    char in[128], out[16], name[16];
    const char *type = kinds[k];
    int64_t each[3] = {CHANNELS, 1, 1};
    snprintf(out, sizeof(out), "v%u", at + 1);
    snprintf(in, sizeof(in), "v%u", at);
    snprintf(name, sizeof(name), "k%u", at);
    if (strcmp(type, "BatchNormalization") == 0) {
        static const char *const parts[] = {"scale", "shift", "mean", "variance"};
        for (unsigned i = 0; i < 4; i++) {
            snprintf(name, sizeof(name), "%.2s%u", parts[i], at);
            snprintf(in + strlen(in), sizeof(in) - strlen(in), ",%s", name);
            constant(g, name, 1, each, i == 3 ? 0.5f : -1);
        }
    } else if (strcmp(type, "bias") == 0 || strcmp(type, "bias first") == 0) {
        snprintf(in, sizeof(in), "%s%u,%s%u", k == 2 ? "v" : "k", at, k == 2 ? "k" : "v", at);
        constant(g, name, images ? 3 : 1, each, -1);
        type = "Add";
    } else if (strcmp(type, "half") == 0) {
        snprintf(in, sizeof(in), "v%u,k%u", at, at);
        constant(g, name, 0, NULL, -1);
        type = "Mul";
    } else if (strcmp(type, "Clip") == 0) {
        snprintf(in, sizeof(in), "v%u,low,high", at);
    }
    msg_msg(g, GRAPH_NODES, onnx_node(type, in, out));
}

// x -> `first` -> the ops of the list, one digit of base KINDS each -> v<n>, and every value between.
static struct msg file_of(const char *first, unsigned list, unsigned n, bool seen)
{
    bool images = strcmp(first, "Conv") == 0;
    int64_t image[4] = {-1, DEPTH, 2, 2}, w[4] = {CHANNELS, DEPTH, 1, 1};
    int64_t depth = images || strcmp(first, "Add") != 0 ? DEPTH : CHANNELS;
    int64_t row[2] = {-1, depth}, dense[2] = {depth, CHANNELS};
    struct msg g = {0};
    char name[16];
    rand_seed(&dice, list);
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", ONNX_F32, images ? image : row, images ? 4 : 2));
    if (images)
        constant(&g, "w", 4, w, -1);
    else
        constant(&g, "w", strcmp(first, "Add") != 0 ? 2 : 1,
                 strcmp(first, "Add") != 0 ? dense : dense + 1, -1);
    msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("low", ONNX_F32, NULL, 0, &(float){-0.5f}, 4));
    msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("high", ONNX_F32, NULL, 0, &(float){0.75f}, 4));
    msg_msg(&g, GRAPH_NODES, onnx_node(first, "x,w", "v0"));
    for (unsigned i = 0, left = list; i < n; i++, left /= KINDS)
        add_op(&g, left % KINDS, i, images);
    for (unsigned i = n + 1; i-- > (seen ? 0 : n);) {
        snprintf(name, sizeof(name), "v%u", i);
        msg_msg(&g, GRAPH_OUTPUTS, onnx_value(name, ONNX_F32, NULL, 0));
    }
    return onnx_model(g, 13);
}

// What the model's first output is; *n numbers of it.
static void run(struct engine *engine, struct msg file, bool images, float *y, size_t *n)
{
    struct engine_error e;
    float x[ROWS * CHANNELS * 4];
    struct engine_data out[MAX_OPS + 1], in = {x, sizeof(x), 2, {ROWS, DEPTH, 2, 2}};
    struct engine_model *m = engine_model_load(engine, view_of(file.p, file.n), 4, &e);
    free(file.p);
    if (!m)
        fail_msg("%s", e.text);
    rand_seed(&dice, 5);
    for (unsigned i = 0; i < ROWS * CHANNELS * 4; i++)
        x[i] = 2 * (float)rand_unit(&dice) - 1;
    in.rank = images ? 4 : 2;
    in.shape[1] = engine_model_input(m, 0)->shape[1];
    in.bytes = (size_t)(in.shape[0] * in.shape[1]) * 4 * (images ? 4 : 1);
    struct engine_instance *i = engine_instance_new(m, &e);
    if (!engine_run(i, &in, out, &e))
        fail_msg("%s", e.text);
    assert_true(out[0].bytes <= ROWS * CHANNELS * 4 * sizeof(float));
    *n = out[0].bytes / 4;
    memcpy(y, out[0].data, out[0].bytes);
    engine_instance_free(i);
    engine_model_free(m);
}

static const char *names_of(unsigned list, unsigned n, char out[160])
{
    size_t at = 0;
    out[0] = '\0';
    for (unsigned i = 0; i < n; i++, list /= KINDS)
        at += (size_t)snprintf(out + at, 160 - at, " -> %s", kinds[list % KINDS]);
    return out;
}

static void compare(struct engine *engine, const char *first, unsigned list, unsigned n)
{
    bool images = strcmp(first, "Conv") == 0;
    float fused[ROWS * CHANNELS * 4], apart[ROWS * CHANNELS * 4];
    size_t count, same;
    char names[160];
    run(engine, file_of(first, list, n, false), images, fused, &count);
    run(engine, file_of(first, list, n, true), images, apart, &same);
    assert_int_equal(count, same);
    for (size_t i = 0; i < count; i++) {
        if (!(fabsf(fused[i] - apart[i]) <= 1e-5f + 1e-5f * fabsf(apart[i])))
            fail_msg("%s%s: element %zu: fused %g, one by one %g", first, names_of(list, n, names),
                     i, (double)fused[i], (double)apart[i]);
    }
}

static void every_order(const char *first, bool library, unsigned most)
{
    for (unsigned n = 1, lists = KINDS; n <= most; n++, lists *= KINDS) {
        for (unsigned list = 0; list < lists; list++)
            compare(engine_any(!library), first, list, n);
    }
}

static void behind_a_convolution(void **state)
{
    (void)state;
    every_order("Conv", false, MAX_OPS);
    every_order("Conv", true, MAX_OPS - 1);
}

static void behind_a_product(void **state)
{
    (void)state;
    every_order("MatMul", false, MAX_OPS - 1);
    every_order("Gemm", false, MAX_OPS - 1);
}

static void behind_a_sum(void **state)
{
    (void)state;
    every_order("Add", false, MAX_OPS - 1);
}

// One pixel through Conv (weight w, 1x1) -> op, or nothing -> BatchNormalization of scale and shift -> y.
static void one_channel(const char *op, float w, float scale, float shift, const float *x,
                        const float *want)
{
    int64_t image[4] = {1, 1, 2, 2}, one[4] = {1, 1, 1, 1};
    struct engine_error e;
    struct msg g = {0};
    const float parts[] = {w, scale, shift, 0, 1};
    static const char *const names[] = {"w", "scale", "shift", "mean", "variance"};
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", ONNX_F32, image, 4));
    for (unsigned i = 0; i < 5; i++)
        msg_msg(&g, GRAPH_CONSTANTS,
                onnx_tensor(names[i], ONNX_F32, one, i == 0 ? 4 : 1, &parts[i], 4));
    msg_msg(&g, GRAPH_NODES, onnx_node("Conv", "x,w", "c"));
    if (op)
        msg_msg(&g, GRAPH_NODES, onnx_node(op, "c", "r"));
    msg_msg(&g, GRAPH_NODES,
            onnx_node("BatchNormalization",
                      op ? "r,scale,shift,mean,variance" : "c,scale,shift,mean,variance", "y"));
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", ONNX_F32, NULL, 0));
    struct msg file = onnx_model(g, 13);
    struct engine_model *m = engine_model_load(engine_any(false), view_of(file.p, file.n), 1, &e);
    assert_non_null(m);
    struct engine_instance *i = engine_instance_new(m, &e);
    struct engine_data in = {x, 16, 4, {1, 1, 2, 2}}, out;
    assert_true(engine_run(i, &in, &out, &e));
    for (unsigned k = 0; k < 4; k++) {
        float got = ((const float *)out.data)[k];
        if (!(fabsf(got - want[k]) <= 1e-4f + 1e-4f * fabsf(want[k])))
            fail_msg("element %u: expected %g, got %g", k, (double)want[k], (double)got);
    }
    engine_instance_free(i);
    engine_model_free(m);
    free(file.p);
}

// y = 5 - 2 relu(x): the order that Keras writes, in numbers to be looked at.
static void scale_below_zero(void **state)
{
    (void)state;
    one_channel("Relu", 1, -2, 5, (float[]){-1, 0, 1, 2}, (float[]){5, 5, 3, 1});
}

// The product of weight and scale is beyond float32; what comes out of the two ops is not.
static void scale_beyond_float32(void **state)
{
    (void)state;
    one_channel(NULL, 1e25f, 1e25f, 1, (float[]){0, 1e-30f, 0, 2e-30f},
                (float[]){1, 1e20f, 1, 2e20f});
}

// x * Clip(x + 3, 0, 6) / 6, as exporters write it; which of two stands first varies, and so does what is not quite it.
struct swish {
    bool x_first, clip_first, seen; // seen: the sum is an output too
    float three, six, high;
    bool fused;
};

static struct msg swish_file(const struct swish *s, int64_t opset)
{
    struct msg g = {0}, clip = onnx_node("Clip", opset < 11 ? "a" : "a,low,high", "c");
    const float low = 0;
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", ONNX_F32, (int64_t[]){-1, 8}, 2));
    msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("three", ONNX_F32, NULL, 0, &s->three, 4));
    msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("six", ONNX_F32, NULL, 0, &s->six, 4));
    msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("low", ONNX_F32, NULL, 0, &low, 4));
    msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("high", ONNX_F32, NULL, 0, &s->high, 4));
    if (opset < 11) {
        onnx_float(&clip, "min", low);
        onnx_float(&clip, "max", s->high);
    }
    graph_node(&g, "Add", s->x_first ? "x,three" : "three,x", "a");
    msg_msg(&g, GRAPH_NODES, clip);
    graph_node(&g, "Mul", s->clip_first ? "c,x" : "x,c", "m");
    graph_node(&g, "Div", "m,six", "y");
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", ONNX_F32, NULL, 0));
    if (s->seen)
        msg_msg(&g, GRAPH_OUTPUTS, onnx_value("a", ONNX_F32, NULL, 0));
    return onnx_model(g, opset);
}

static const char *awaited; // what a fusion is told of
static bool swish_told;

static void hear(void *ctx, enum engine_note what, const char *text)
{
    (void)ctx;
    swish_told |= what == ENGINE_FUSED && strstr(text, awaited);
}

static void try_swish(const struct swish *s, int64_t opset)
{
    static const float x[] = {-4, -3, -1.5f, 0, 1, 2.9f, 3.1f, 100};
    struct engine_error e;
    struct msg file = swish_file(s, opset);
    const struct engine_source source = {.onnx = view_of(file.p, file.n), .note = hear};
    swish_told = false;
    awaited = "HardSwish";
    struct engine_model *m = engine_model_open(engine_any(false), &source, 2, &e);
    free(file.p);
    assert_non_null(m);
    assert_int_equal(swish_told, s->fused);
    struct engine_instance *i = engine_instance_new(m, &e);
    struct engine_data in = {x, sizeof(x), 2, {1, 8}}, out[2];
    assert_true(engine_run(i, &in, out, &e));
    for (unsigned k = 0; k < 8; k++) {
        float sum = x[k] + s->three, held = sum < 0 ? 0 : sum > s->high ? s->high : sum;
        float want = x[k] * held / s->six, got = ((const float *)out[0].data)[k];
        if (!(fabsf(got - want) <= 1e-5f + 1e-5f * fabsf(want)))
            fail_msg("of %g: expected %g, got %g", (double)x[k], (double)want, (double)got);
    }
    engine_instance_free(i);
    engine_model_free(m);
}

static void hard_swish_written_out(void **state)
{
    static const struct swish rows[] = {
        {true, false, false, 3, 6, 6, true},  {false, true, false, 3, 6, 6, true},
        {true, true, true, 3, 6, 6, false},   {true, false, false, 2, 6, 6, false},
        {true, false, false, 3, 5, 6, false}, {true, false, false, 3, 6, 7, false}};
    (void)state;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        try_swish(&rows[i], 13);
        try_swish(&rows[i], 9);
    }
}

// Gelu by tanh as two exporters write it, and what is not quite it: lists of nodes, the constants' numbers by name.
struct spelled {
    const char *nodes; // op inputs output, separated by ;
    float half, root, cubed, one;
    unsigned rank; // of the constant `one`
    bool fused;
};

#define BY_TENSORFLOW                                                                              \
    "Add x,shift s;Mul cubed,s a;Mul s,a b;Mul s,b c;Add s,c d;Mul root,d e;Tanh e t;Add one,t g;" \
    "Mul half,g h;Mul s,h y"
#define BY_TORCH                                                                                   \
    "Add x,shift s;Mul s,half k;Mul s,s a;Mul a,s b;Mul b,cubed c;Add c,s d;Mul d,root e;Tanh e "  \
    "t;Add t,one g;Mul k,g y"

static void add_words(struct msg *g, const char *nodes)
{
    char op[16], in[32], out[8];
    for (int n = 0; sscanf(nodes, "%15s %31s %7[^;]%n", op, in, out, &n) == 3; n = 0) {
        graph_node(g, op, in, out);
        nodes += n + (nodes[n] == ';');
    }
}

static void try_gelu(const struct spelled *s)
{
    static const float x[] = {-6, -3, -1.5f, 0, 1, 2.9f, 3.1f, 50};
    const struct {
        const char *name;
        float is;
        unsigned rank;
    } numbers[] = {{"half", s->half, 0},
                   {"root", s->root, 1},
                   {"cubed", s->cubed, 0},
                   {"one", s->one, s->rank}};
    struct engine_error e;
    struct msg g = {0};
    const float shift[8] = {0};
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", ONNX_F32, (int64_t[]){-1, 8}, 2));
    msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("shift", ONNX_F32, (int64_t[]){1, 8}, 2, shift, 32));
    for (unsigned i = 0; i < 4; i++)
        msg_msg(&g, GRAPH_CONSTANTS,
                onnx_tensor(numbers[i].name, ONNX_F32, (int64_t[]){1, 1, 1}, numbers[i].rank,
                            &numbers[i].is, 4));
    add_words(&g, s->nodes);
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", ONNX_F32, NULL, 0));
    struct msg file = onnx_model(g, 13);
    const struct engine_source source = {.onnx = view_of(file.p, file.n), .note = hear};
    swish_told = false;
    awaited = "Gelu";
    struct engine_model *m = engine_model_open(engine_any(false), &source, 2, &e);
    free(file.p);
    assert_non_null(m);
    assert_int_equal(swish_told, s->fused);
    struct engine_instance *i = engine_instance_new(m, &e);
    struct engine_data in = {x, sizeof(x), 2, {1, 8}}, out[1];
    assert_true(engine_run(i, &in, out, &e));
    assert_int_equal(out[0].rank, s->rank > 2 ? 3 : 2);
    for (unsigned k = 0; k < 8; k++) {
        float line = s->root * (x[k] + s->cubed * x[k] * x[k] * x[k]);
        float want = s->half * x[k] * (s->one + tanhf(line)), got = ((const float *)out[0].data)[k];
        if (!(fabsf(got - want) <= 1e-5f + 1e-5f * fabsf(want)))
            fail_msg("of %g: expected %g, got %g", (double)x[k], (double)want, (double)got);
    }
    engine_instance_free(i);
    engine_model_free(m);
}

static void gelu_written_out(void **state)
{
    static const struct spelled rows[] = {
        {BY_TENSORFLOW, 0.5f, 0.7978846f, 0.044715f, 1, 0, true},
        {BY_TENSORFLOW, 0.5f, 0.7978846f, 0.044715f, 1, 2, true},
        {BY_TENSORFLOW, 0.5f, 0.7978846f, 0.044715f, 1, 3, false}, // a dimension more
        {BY_TORCH, 0.5f, 0.7978846f, 0.044715f, 1, 0, true},
        {BY_TORCH, 0.6f, 0.7978846f, 0.044715f, 1, 0, false},
        {BY_TORCH, 0.5f, 0.7f, 0.044715f, 1, 0, false},
        {BY_TORCH, 0.5f, 0.7978846f, 0.05f, 1, 0, false},
        {BY_TORCH, 0.5f, 0.7978846f, 0.044715f, 2, 0, false}};
    (void)state;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        try_gelu(&rows[i]);
}

// A row of a table as a product by what numbers are equal to, and what is not quite that.
struct lookup {
    unsigned type; // of the numbers
    float first;   // of the places
    float table;   // its first number
    int64_t each;  // numbers for each row: 1, or one for each place
    bool places_first, seen, fused;
};

enum { I32 = 6, PLACES = 5, COLUMNS = 3, NUMBERS = 15 };

// `n` numbers from `first` on, one apart, or what `list` has.
static size_t numbers_of(unsigned type, float first, const float *list, size_t n, void *to)
{
    for (size_t i = 0; i < n; i++) {
        float v = list ? list[i] : first + (float)i;
        if (type == ONNX_F32)
            ((float *)to)[i] = v;
        else if (type == I32)
            ((int32_t *)to)[i] = (int32_t)v;
        else
            ((int64_t *)to)[i] = (int64_t)v;
    }
    return n * (type == ONNX_I64 ? 8 : 4);
}

static struct msg lookup_file(const struct lookup *l)
{
    int64_t table[PLACES * COLUMNS];
    float numbers[PLACES * COLUMNS];
    struct msg g = {0}, cast = onnx_node("Cast", "e", "c");
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", l->type, (int64_t[]){-1, 3, l->each}, 3));
    size_t bytes = numbers_of(l->type, l->first, NULL, PLACES, table);
    msg_msg(&g, GRAPH_CONSTANTS,
            onnx_tensor("places", l->type, (int64_t[]){1, PLACES}, 2, table, bytes));
    numbers_of(ONNX_F32, 1, NULL, PLACES * COLUMNS, numbers);
    numbers[0] = l->table;
    msg_msg(&g, GRAPH_CONSTANTS,
            onnx_tensor("w", ONNX_F32, (int64_t[]){PLACES, COLUMNS}, 2, numbers, sizeof(numbers)));
    graph_node(&g, "Equal", l->places_first ? "places,x" : "x,places", "e");
    onnx_int(&cast, "to", 1);
    msg_msg(&g, GRAPH_NODES, cast);
    graph_node(&g, "MatMul", "c,w", "y");
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", ONNX_F32, NULL, 0));
    if (l->seen)
        msg_msg(&g, GRAPH_OUTPUTS, onnx_value("c", ONNX_F32, NULL, 0));
    return onnx_model(g, 13);
}

static void check_lookup(const struct lookup *l, const float *x, const float *y)
{
    for (unsigned i = 0; i < 3 * COLUMNS; i++) {
        float want = 0;
        for (unsigned k = 0; k < PLACES; k++) {
            float w =
                k == 0 && i % COLUMNS == 0 ? l->table : 1 + (float)(k * COLUMNS + i % COLUMNS);
            bool is =
                x[l->each == 1 ? i / COLUMNS : i / COLUMNS * PLACES + k] == l->first + (float)k;
            want += (is ? 1.0f : 0.0f) * w;
        }
        if (!(y[i] == want || (isnan(y[i]) && isnan(want))))
            fail_msg("element %u: expected %g, got %g", i, (double)want, (double)y[i]);
    }
}

static void try_lookup(const struct lookup *l, const float *numbers)
{
    int64_t x[NUMBERS];
    struct engine_error e;
    struct msg file = lookup_file(l);
    const struct engine_source source = {.onnx = view_of(file.p, file.n), .note = hear};
    swish_told = false;
    awaited = "a look into a table";
    struct engine_model *m = engine_model_open(engine_any(false), &source, 2, &e);
    free(file.p);
    if (!m)
        fail_msg("%s", e.text);
    assert_int_equal(swish_told, l->fused);
    struct engine_instance *i = engine_instance_new(m, &e);
    struct engine_data in = {x, 0, 3, {1, 3, l->each}}, out[2];
    in.bytes = numbers_of(l->type, 0, numbers, 3 * (size_t)l->each, x);
    if (!engine_run(i, &in, out, &e))
        fail_msg("%s", e.text);
    assert_int_equal(out[0].bytes, 3 * COLUMNS * sizeof(float));
    check_lookup(l, numbers, out[0].data);
    engine_instance_free(i);
    engine_model_free(m);
}

static void tables_written_out(void **state)
{
    static const struct lookup rows[] = {
        {I32, 0, 1, 1, false, false, true},          {ONNX_I64, 0, 1, 1, true, false, true},
        {ONNX_F32, 0, 1, 1, false, false, true},     {I32, 0, 1, PLACES, false, false, true},
        {ONNX_F32, 0, 1, PLACES, true, false, true}, {I32, 1, 1, 1, false, false, false},
        {I32, 0, INFINITY, 1, false, false, false},  {I32, 0, 1, 1, false, true, false}};
    static const float whole[NUMBERS] = {4, 0, 2, 3, 1, 0, 1, 2, 3, 4, 4, 4, 2, 4, 0},
                       none[NUMBERS] = {-1, 5, 1, 2147483520.0f, 0, 1, 2, 3, 3, 9, 9, 9, 9, 9, 9},
                       broken[NUMBERS] = {0.5f, NAN, INFINITY, 1, 1e30f, -0.0f, 1, 2};
    (void)state;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        try_lookup(&rows[i], whole);
        try_lookup(&rows[i], none);
        if (rows[i].type == ONNX_F32)
            try_lookup(&rows[i], broken);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scale_below_zero),     cmocka_unit_test(scale_beyond_float32),
        cmocka_unit_test(behind_a_convolution), cmocka_unit_test(behind_a_product),
        cmocka_unit_test(behind_a_sum),         cmocka_unit_test(hard_swish_written_out),
        cmocka_unit_test(gelu_written_out),     cmocka_unit_test(tables_written_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
