// Numbers of 8 bits and less: each float's bits and back, to the nearest by a search among all there are; what ports
// make of them, what a file packs, what ops do with them, and who refuses them.
#include "engine/small.h"
#include "tests/unit/engine_kit.h"

#include <math.h>
#include <stdio.h>

enum { F8E4M3FN = 17, U4 = 21, I4 = 22, F8E8M0 = 24, I2 = 26 }; // as the standard numbers them
static const enum engine_dtype floats[] = {ENGINE_F8E4M3FN, ENGINE_F8E4M3FNUZ, ENGINE_F8E5M2,
                                           ENGINE_F8E5M2FNUZ, ENGINE_F4E2M1};
enum { FLOATS = sizeof(floats) / sizeof(floats[0]) };
static const struct small_rounding held = {true, SMALL_UP};

// Landmarks that the standard's tables name: the largest, the least.
static void floats_have_their_values(void **state)
{
    static const struct {
        enum engine_dtype d;
        uint8_t bits;
        double is;
    } rows[] = {{ENGINE_F8E4M3FN, 0x7e, 448},
                {ENGINE_F8E4M3FN, 0x01, 1.0 / 512},
                {ENGINE_F8E4M3FN, 0xb8, -1},
                {ENGINE_F8E4M3FNUZ, 0x7f, 240},
                {ENGINE_F8E4M3FNUZ, 1, 1.0 / 1024},
                {ENGINE_F8E5M2, 0x7b, 57344},
                {ENGINE_F8E5M2, 1, 1.0 / 65536},
                {ENGINE_F8E5M2, 0xfc, -INFINITY},
                {ENGINE_F8E5M2FNUZ, 0x7f, 57344},
                {ENGINE_F8E5M2FNUZ, 1, 1.0 / 131072},
                {ENGINE_F4E2M1, 7, 6},
                {ENGINE_F4E2M1, 9, -0.5},
                {ENGINE_F8E8M0, 127, 1},
                {ENGINE_F8E8M0, 254, 0x1p127},
                {ENGINE_F8E8M0, 0, 0x1p-127}};
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_true(small_value(rows[i].d, rows[i].bits) == rows[i].is);
    assert_true(
        isnan(small_value(ENGINE_F8E4M3FN, 0x7f)) && isnan(small_value(ENGINE_F8E4M3FN, 0xff)) &&
        isnan(small_value(ENGINE_F8E4M3FNUZ, 0x80)) && isnan(small_value(ENGINE_F8E5M2, 0x7d)) &&
        isnan(small_value(ENGINE_F8E5M2FNUZ, 0x80)) && isnan(small_value(ENGINE_F8E8M0, 255)));
}

// The number nearest to v; of two, the one whose last bit is 0.
static uint8_t nearest(enum engine_dtype d, double v)
{
    unsigned best = 0, all = d == ENGINE_F4E2M1 ? 16 : 256;
    double off = INFINITY;
    for (unsigned i = 0; i < all; i++) {
        double at = small_value(d, (uint8_t)i);
        if (!isfinite(at) || (at != 0 && signbit(at) != signbit(v)))
            continue;
        double by = fabs(at - v);
        if (by < off || (by == off && i % 2 == 0)) {
            best = i;
            off = by;
        }
    }
    return (uint8_t)best;
}

static void to_the_nearest(void **state)
{
    struct rand r;
    rand_seed(&r, 7);
    (void)state;
    for (unsigned k = 0; k < FLOATS; k++) {
        enum engine_dtype d = floats[k];
        for (unsigned i = 0; i < (d == ENGINE_F4E2M1 ? 16 : 256); i++) {
            double v = small_value(d, (uint8_t)i), next = small_value(d, (uint8_t)(i + 1));
            if (!isfinite(v))
                continue;
            assert_int_equal(small_of_float(d, v, held), i);
            double mid = (v + next) / 2; // of two neighbours: to the even one
            if (isfinite(next) && signbit(next) == signbit(v))
                assert_true(small_value(d, small_of_float(d, mid, held)) ==
                            small_value(d, nearest(d, mid)));
        }
        for (unsigned i = 0; i < 20000; i++) {
            double v = ldexp((double)rand_unit(&r) - 0.5, (int)rand_below(&r, 40) - 22);
            uint8_t got = small_of_float(d, v, held);
            assert_true(small_value(d, got) == small_value(d, nearest(d, v)) || v == 0);
        }
    }
}

static void beyond_the_largest(void **state)
{
    const struct small_rounding free = {false, SMALL_UP};
    (void)state;
    for (unsigned k = 0; k < FLOATS; k++) {
        enum engine_dtype d = floats[k];
        double most = small_value(d, small_of_float(d, 1e30, held));
        assert_true(isfinite(most) && most >= 6);
        assert_true(small_value(d, small_of_float(d, -INFINITY, held)) == -most);
        double over = small_value(d, small_of_float(d, 1e6, free));
        assert_true(d == ENGINE_F8E5M2   ? isinf(over)
                    : d == ENGINE_F4E2M1 ? over == most
                                         : isnan(over));
    }
    assert_int_equal(small_of_float(ENGINE_F8E4M3FNUZ, -1e-9, held), 0); // no negative zero
    assert_int_equal(small_of_float(ENGINE_F8E4M3FN, -1e-9, held), 0x80);
    assert_int_equal(small_of_float(ENGINE_F8E4M3FN, 464, free),
                     0x7e); // half way to what is no number
    assert_int_equal(small_of_float(ENGINE_F8E4M3FN, 465, free), 0x7f);
}

static void powers_of_two(void **state)
{
    static const struct {
        double v;
        struct small_rounding r;
        uint8_t is;
    } rows[] = {{0, {true, SMALL_UP}, 0},          {0, {false, SMALL_NEAREST}, 255},
                {1, {true, SMALL_UP}, 127},        {1.1, {true, SMALL_UP}, 128},
                {1.9, {true, SMALL_DOWN}, 127},    {1.5, {true, SMALL_NEAREST}, 128},
                {1.4, {true, SMALL_NEAREST}, 127}, {0.124, {true, SMALL_UP}, 124},
                {1e39, {true, SMALL_UP}, 254},     {1e39, {false, SMALL_UP}, 255},
                {1e-40, {true, SMALL_DOWN}, 0},    {1e-40, {false, SMALL_DOWN}, 255},
                {INFINITY, {true, SMALL_UP}, 254}, {INFINITY, {false, SMALL_UP}, 255},
                {-1, {true, SMALL_UP}, 255},       {NAN, {true, SMALL_UP}, 255}};
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(small_of_float(ENGINE_F8E8M0, rows[i].v, rows[i].r), rows[i].is);
}

// ---- in a graph --------------------------------------------------------------------------------------

struct made { // a model, and what it gives for one input
    struct engine_error e;
    struct engine_model *m;
    struct engine_instance *i;
    struct engine_data out[1];
    bool ran;
};

// y = node(x), x of n elements of `from`; constants of the graph may stand in it already.
static struct made made_of(struct msg g, struct msg node, unsigned from, unsigned to, const void *x,
                           size_t bytes, int64_t n)
{
    struct made d = {.e = {""}};
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", from, (int64_t[]){n}, 1));
    msg_msg(&g, GRAPH_NODES, node);
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", to, (int64_t[]){n}, 1));
    struct msg file = onnx_model(g, 25);
    d.m = engine_model_load(engine_any(false), view_of(file.p, file.n), 1, &d.e);
    free(file.p);
    d.i = d.m ? engine_instance_new(d.m, &d.e) : NULL;
    struct engine_data in = {x, bytes, 1, {n}};
    d.ran = d.i && engine_run(d.i, &in, d.out, &d.e);
    return d;
}

static void end(struct made *d)
{
    engine_instance_free(d->i);
    engine_model_free(d->m);
}

static struct msg cast_to(unsigned type)
{
    struct msg n = onnx_node("Cast", "x", "y");
    onnx_int(&n, "to", type);
    return n;
}

static void ports_have_bytes(void **state)
{
    const float x[] = {1, -3, 500, 0.3f};
    const uint8_t bits[] = {0x38, 0xc4, 0x7e, 0x2a};
    (void)state;
    struct made d = made_of((struct msg){0}, cast_to(F8E4M3FN), 1, F8E4M3FN, x, sizeof(x), 4);
    assert_true(d.ran);
    assert_int_equal(engine_model_output(d.m, 0)->dtype, ENGINE_U8);
    assert_memory_equal(d.out[0].data, bits, 4);
    end(&d);
    d = made_of((struct msg){0}, cast_to(ONNX_F32), F8E4M3FN, 1, bits, 4, 4);
    assert_true(d.ran && engine_model_input(d.m, 0)->dtype == ENGINE_U8);
    assert_true(((const float *)d.out[0].data)[2] == 448);
    end(&d);
}

static void whole_numbers_keep_low_bits(void **state)
{
    const int64_t x[] = {((int64_t)1 << 60) + 1, 9, -9, -8};
    const int8_t is[] = {1, -7, 7, -8};
    (void)state;
    struct made d = made_of((struct msg){0}, cast_to(I4), ONNX_I64, I4, x, sizeof(x), 4);
    assert_true(d.ran && engine_model_output(d.m, 0)->dtype == ENGINE_I8);
    assert_memory_equal(d.out[0].data, is, 4);
    end(&d);
}

static void a_client_sends_too_much(void **state)
{
    const int8_t good[] = {7, -8, 0}, bad[] = {7, -9, 0};
    (void)state;
    struct made d = made_of((struct msg){0}, cast_to(1), I4, 1, good, 3, 3);
    assert_true(d.ran && ((const float *)d.out[0].data)[1] == -8);
    end(&d);
    d = made_of((struct msg){0}, cast_to(1), I4, 1, bad, 3, 3);
    assert_true(d.m && !d.ran);
    assert_non_null(strstr(d.e.text, "beyond what its 4 or 2 bits hold"));
    end(&d);
}

// A constant of five 4-bit numbers, three bytes in the file: x * w, x and w whole numbers with a scale of 1.
static struct made with_constant(unsigned type, const char *raw, size_t bytes, const char *op)
{
    static const float zeros[5] = {0}, one = 1;
    struct msg g = {0};
    msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("w", type, (int64_t[]){5}, 1, raw, bytes));
    msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("s", ONNX_F32, NULL, 0, &one, 4));
    graph_node(&g, op, "w,s", "v");
    return made_of(g, onnx_node("Add", "x,v", "y"), 1, 1, zeros, sizeof(zeros), 5);
}

static void files_pack_them(void **state)
{
    const float u4[] = {1, 2, 15, 8, 7}, i4[] = {1, 2, -1, -8, 7}, i2[] = {1, -2, -1, 0, 1};
    (void)state;
    struct made d = with_constant(U4, "\x21\x8f\xf7", 3, "DequantizeLinear");
    assert_true(d.ran);
    assert_memory_equal(d.out[0].data, u4, sizeof(u4));
    end(&d);
    d = with_constant(I4, "\x21\x8f\x07", 3, "DequantizeLinear");
    assert_true(d.ran);
    assert_memory_equal(d.out[0].data, i4, sizeof(i4));
    end(&d);
    d = with_constant(I2, "\x39\x01", 2, "DequantizeLinear");
    assert_true(d.ran);
    assert_memory_equal(d.out[0].data, i2, sizeof(i2));
    end(&d);
}

static void files_that_cannot_be(void **state)
{
    (void)state;
    struct made d = with_constant(U4, "\x21\x8f\xf7\x00\x00", 5, "DequantizeLinear");
    expect_refusal(d.m, d.e.text, "expected 3 bytes of data, got 5");
    d = with_constant(U4, "\x21\x8f", 2, "DequantizeLinear");
    expect_refusal(d.m, d.e.text, "expected 3 bytes of data, got 2");
    d = with_constant(F8E8M0, "\1\1\1\1\1", 5, "DequantizeLinear");
    expect_refusal(d.m, d.e.text, "floats of 8 or 4");
    d = with_constant(U4, "\x21\x8f\xf7", 3, "Mul");
    expect_refusal(d.m, d.e.text, "floats of 8 bits, and numbers of 4 and 2, are not supported");
    struct msg odd = cast_to(F8E8M0);
    onnx_string(&odd, "round_mode", "sideways");
    d = made_of((struct msg){0}, odd, 1, F8E8M0, "\0\0\0", 4, 1);
    expect_refusal(d.m, d.e.text, "round_mode");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(floats_have_their_values), cmocka_unit_test(to_the_nearest),
        cmocka_unit_test(beyond_the_largest),       cmocka_unit_test(powers_of_two),
        cmocka_unit_test(ports_have_bytes),         cmocka_unit_test(whole_numbers_keep_low_bits),
        cmocka_unit_test(a_client_sends_too_much),  cmocka_unit_test(files_pack_them),
        cmocka_unit_test(files_that_cannot_be)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
