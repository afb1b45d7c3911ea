// Requests out of JSON: every datatype, every refusal with its exact words, every truncation, every step size.
#include "base/mem.h"
#include "infer/oip_json.h"
#include "infer/oip_rest.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static struct arena arena;
static struct infer_request req;
static struct error err;

static bool decode_parts(struct view json, struct view binary)
{
    arena_reset(&arena);
    req = (struct infer_request){.model = VIEW("m"), .version = VIEW("1")};
    err = (struct error){0};
    return oip_json_decode(&arena, json, binary, &req, &err);
}

static bool decode(const char *json)
{
    return decode_parts(view_str(json), VIEW(""));
}

#define INPUT(shape, dtype, data)                                                                  \
    "{\"inputs\":[{\"name\":\"x\",\"shape\":" shape ",\"datatype\":\"" dtype "\",\"data\":" data   \
    "}]}"

static void plain_request(void **state)
{
    assert_true(decode("{\"id\":\"a\\u0062\",\"parameters\":{\"timeout\":1500,\"priority\":2,"
                       "\"binary_data_output\":true},\"inputs\":[{\"name\":\"x\",\"datatype\":"
                       "\"FP32\",\"shape\":[2,2],\"data\":[1,-2.5,3e2,0.1]}],"
                       "\"outputs\":[{\"name\":\"y\"},{\"name\":\"z\",\"parameters\":"
                       "{\"binary_data\":false,\"classification\":3}}],\"extra\":{\"a\":[1,{}]}}"));
    assert_true(view_is(req.model, "m"));
    assert_true(view_is(req.id, "ab"));
    assert_int_equal(req.timeout_us, 1500);
    assert_int_equal(req.priority, 2);
    assert_int_equal(req.n_inputs, 1);
    assert_int_equal(req.rows, 2);
    assert_int_equal(req.bytes, 16);
    assert_false(req.sequence);
    assert_int_equal(req.format, FORMAT_OIP_BINARY);
    const float want[] = {1, -2.5f, 300, 0.1f};
    assert_memory_equal(req.inputs[0].data, want, sizeof(want));
    assert_int_equal(req.n_outputs, 2);
    assert_true(req.outputs[0].binary);
    assert_false(req.outputs[1].binary);
    assert_int_equal(req.outputs[1].classification, 3);
}

#define CHECK(dtype, json, type, ...)                                                              \
    do {                                                                                           \
        const type want[] = {__VA_ARGS__};                                                         \
        assert_true(decode(INPUT("[1,3]", dtype, json)));                                          \
        assert_int_equal(req.inputs[0].bytes, sizeof(want));                                       \
        assert_memory_equal(req.inputs[0].data, want, sizeof(want));                               \
    } while (0)

static void every_datatype(void **state)
{
    CHECK("BOOL", "[true,false,true]", uint8_t, 1, 0, 1);
    CHECK("UINT8", "[0,7,255]", uint8_t, 0, 7, 255);
    CHECK("UINT16", "[0,7,65535]", uint16_t, 0, 7, 65535);
    CHECK("UINT32", "[0,7,4294967295]", uint32_t, 0, 7, 4294967295u);
    CHECK("UINT64", "[0,7,18446744073709551615]", uint64_t, 0, 7, UINT64_MAX);
    CHECK("INT8", "[-128,0,127]", int8_t, -128, 0, 127);
    CHECK("INT16", "[-32768,0,32767]", int16_t, -32768, 0, 32767);
    CHECK("INT32", "[-2147483648,0,2147483647]", int32_t, INT32_MIN, 0, INT32_MAX);
    CHECK("INT64", "[-9223372036854775808,0,9223372036854775807]", int64_t, INT64_MIN, 0,
          INT64_MAX);
    CHECK("FP32", "[1e30,-0.0,3.4028235e38]", float, 1e30f, -0.0f, 3.4028235e38f);
    CHECK("FP64", "[1e300,-0.0,5e-324]", double, 1e300, -0.0, 5e-324);
    CHECK("FP32", "[\"Infinity\",\"-Infinity\",1]", float, __builtin_inff(), -__builtin_inff(), 1);
    CHECK("FP64", "[1,\"Infinity\",\"-Infinity\"]", double, 1, __builtin_inf(), -__builtin_inf());
    assert_true(decode(INPUT("[1]", "FP32", "[\"NaN\"]")));
    float f = load_f32(req.inputs[0].data);
    assert_true(f != f);
    static const char bytes[] = "\x01\0\0\0a\0\0\0\0\x04\0\0\0\xc3\xa9\n\"";
    assert_true(decode(INPUT("[1,3]", "BYTES", "[\"a\",\"\",\"\\u00e9\\n\\\"\"]")));
    assert_int_equal(req.inputs[0].bytes, sizeof(bytes) - 1);
    assert_memory_equal(req.inputs[0].data, bytes, sizeof(bytes) - 1);
    assert_true(tensor_bytes_check(req.inputs[0].data, req.inputs[0].bytes, 3));
}

// U+0000 is a byte of data like any other, and stands nowhere else.
static void zero_bytes(void **state)
{
    static const char *const good[] = {
        INPUT("[2]", "BYTES", "[\"\\u0000\",\"a\\u0000b\"]"),
        "{\"inputs\":[{\"data\":[\"\\u0000\",\"a\\u0000b\"],\"datatype\":\"BYTES\",\"shape\":[2],"
        "\"name\":\"x\"}]}"};
    static const char *const bad[] = {INPUT("[1]", "FP32", "[\"\\u0000\"]"),
                                      INPUT("[1]", "BYTES", "[\"\\u0000\"],\"\\u0000\":1"),
                                      "{\"inputs\":[{\"data\":[\"\\u0000\"],\"datatype\":\"BYTES\","
                                      "\"shape\":[1],\"name\":\"\\u0000\"}]}",
                                      "{\"inputs\":[{\"data\":[\"\\u0000\"],\"datatype\":\"BYTES\","
                                      "\"shape\":[1],\"name\":\"x\"}],"
                                      "\"id\":\"\\u0000\"}"};
    for (unsigned i = 0; i < 2; i++) {
        if (!decode(good[i]))
            fail_msg("%s: %s", good[i], err.text);
        assert_int_equal(req.inputs[0].bytes, 12);
        assert_memory_equal(req.inputs[0].data, "\1\0\0\0\0\3\0\0\0a\0b", 12);
    }
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(decode(bad[i]));
        assert_non_null(strstr(err.text, "u0000 is not accepted in a string"));
    }
}

// NaN and infinities: as clients say them, wherever the data stands, nested or not.
static void floats_without_a_number(void **state)
{
    static const char *const good[] = {
        INPUT("[2,3]", "FP32", "[1.5,NaN,-Infinity,Infinity,null,8]"),
        INPUT("[2,3]", "FP32", "[[1.5,\"NaN\",\"-Infinity\"], [ Infinity , null , 8 ]]"),
        "\xef\xbb\xbf{\"inputs\":[{\"data\":[[1.5,NaN,-Infinity],[Infinity,null,8]],"
        "\"datatype\":\"FP32\",\"shape\":[2,3],\"name\":\"x\"}]}",
    };
    const float inf = (float)INFINITY;
    for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        float v[6];
        if (!decode(good[i]))
            fail_msg("%s: %s", good[i], err.text);
        assert_int_equal(req.inputs[0].bytes, sizeof(v));
        memcpy(v, req.inputs[0].data, sizeof(v));
        assert_true(v[0] == 1.5f && isnan(v[1]) && v[2] == -inf && v[3] == inf && isnan(v[4]));
        assert_true(v[5] == 8);
    }
    assert_true(decode(INPUT("[2]", "FP64", "[null,-Infinity]")));
    double d[2];
    memcpy(d, req.inputs[0].data, sizeof(d));
    assert_true(isnan(d[0]) && d[1] == -INFINITY);
}

// An optional member that is null is not there.
static void null_members(void **state)
{
    assert_true(decode("{\"id\":null,\"parameters\":null,\"outputs\":null,\"inputs\":[{\"name\":"
                       "\"x\",\"shape\":[1],\"datatype\":\"INT8\",\"parameters\":null,"
                       "\"data\":[7]}]}"));
    assert_true(req.id.n == 0 && req.n_params == 0 && req.n_outputs == 0 && req.n_inputs == 1);
    assert_true(decode("{\"parameters\":{\"a\":null,\"timeout\":null,\"priority\":3},\"outputs\":"
                       "[{\"name\":\"y\",\"parameters\":null},{\"name\":\"z\",\"parameters\":"
                       "{\"binary_data\":null,\"classification\":null}}],\"inputs\":[{\"name\":"
                       "\"x\",\"shape\":[1],\"datatype\":\"INT8\",\"data\":[7],\"parameters\":"
                       "{\"binary_data_size\":null}}]}"));
    assert_true(req.n_params == 0 && req.timeout_us == 0 && req.priority == 3 && !req.sequence);
    assert_true(req.n_outputs == 2 && !req.outputs[1].binary);
    assert_true(decode_parts(VIEW("{\"inputs\":[{\"name\":\"x\",\"shape\":[1],\"datatype\":"
                                  "\"INT8\",\"data\":null,\"parameters\":"
                                  "{\"binary_data_size\":1}}]}"),
                             VIEW("\7")));
    assert_memory_equal(req.inputs[0].data, "\7", 1);
}

static void shapes_and_nesting(void **state)
{
    static const char *const good[] = {
        INPUT("[2,3]", "INT32", "[1,2,3,4,5,6]"),
        INPUT("[2,3]", "INT32", "[[1,2,3],[4,5,6]]"),
        INPUT("[1,2,3]", "INT32", "[[1,2,3],[4,5,6]]"), // Triton's rule: values in order
        INPUT("[1,2,3]", "INT32", "[[[1,2,3],[4,5,6]]]"),
        INPUT("[3,2]", "BYTES", "[[\"a\",\"b\"],[\"c\",\"d\"],[\"e\",\"f\"]]"),
        INPUT("[2,1]", "BOOL", "[[true],[false]]"),
        INPUT("[]", "FP32", "[1]"),
        INPUT("[0]", "FP32", "[]"),
        INPUT("[2,0]", "FP32", "[[],[]]"),
        INPUT("[0,3]", "FP32", "[]"),
        INPUT("[1,1,1,1,1,1,1,1]", "FP32", "[[[[[[[[1]]]]]]]]"),
        "{\"inputs\":[{\"data\":[1,2],\"shape\":[2],\"name\":\"x\",\"datatype\":\"INT8\"}]}",
        "{\"inputs\":[{\"data\":[\"1\",\"2\"],\"datatype\":\"BYTES\",\"shape\":[2],\"name\":\"x\"}]"
        "}",
    };
    for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        if (!decode(good[i]))
            fail_msg("%s: %s", good[i], err.text);
    }
    assert_true(decode(INPUT("[2,3]", "INT32", "[[1,2,3],[4,5,6]]")));
    const int32_t want[] = {1, 2, 3, 4, 5, 6};
    assert_memory_equal(req.inputs[0].data, want, sizeof(want));
}

static const struct {
    const char *body, *message;
} bad[] = {
    {"", "body: text ends too early (byte 0)"},
    {"[]", "body: expected an object, got an array (byte 0)"},
    {"{}", "inputs: missing"},
    {"{\"inputs\":[]}", "inputs: expected at least one"},
    {"{\"inputs\":{}}", "inputs: expected an array, got an object (byte 10)"},
    {"{\"inputs\":[1]}", "inputs[0]: expected an object, got a number (byte 11)"},
    {"{\"inputs\":[{}]}", "inputs[0].name: missing"},
    {"{\"inputs\":[{\"name\":\"x\"}]}", "inputs[0].shape: missing"},
    {"{\"inputs\":[{\"name\":\"x\",\"shape\":[1]}]}", "inputs[0].datatype: missing"},
    {"{\"inputs\":[{\"name\":\"x\",\"shape\":[1],\"datatype\":\"FP32\"}]}",
     "inputs[0].data: missing"},
    {"{\"inputs\":[{\"name\":7}]}", "inputs[0].name: expected a string, got a number (byte 19)"},
    {"{\"inputs\":[{\"name\":\"\"}]}",
     "inputs[0].name: expected a name, got an empty string (byte 19)"},
    {INPUT("[1]", "FP31", "[1]"),
     "inputs[0].datatype: expected a known datatype, got another string (byte 46)"},
    {INPUT("1", "FP32", "[1]"),
     "inputs[0].shape: expected an array of non-negative integers, got a number (byte 31)"},
    {INPUT("[-1]", "FP32", "[1]"),
     "inputs[0].shape: expected non-negative integers, got another number (byte 32)"},
    {INPUT("[1.0]", "FP32", "[1]"),
     "inputs[0].shape: expected non-negative integers, got another number (byte 32)"},
    {INPUT("[\"1\"]", "FP32", "[1]"),
     "inputs[0].shape: expected non-negative integers, got a string (byte 32)"},
    {INPUT("[null]", "FP32", "[1]"),
     "inputs[0].shape: expected non-negative integers, got null (byte 32)"},
    {INPUT("[[1]]", "FP32", "[1]"),
     "inputs[0].shape: expected non-negative integers, got an array (byte 32)"},
    {INPUT("[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "FP32", "[1]"),
     "inputs[0].shape: expected at most 16 dimensions, got 17 (byte 65)"},
    {INPUT("[4294967296,4294967296]", "FP32", "[1]"),
     "inputs[0].shape: the size of [4294967296,4294967296] is out of range"},
    {INPUT("[4611686018427387904,4]", "FP32", "[1]"),
     "inputs[0].shape: the size of [4611686018427387904,4] is out of range"},
    {INPUT("[4294967295,0]", "FP32", "[]"),
     "inputs[0].shape: 4294967295 rows without data, at most 65536"},
    {INPUT("[65537,0]", "FP32", "[]"), "inputs[0].shape: 65537 rows without data, at most 65536"},
    {INPUT("[4611686018427387904,4,0]", "FP32", "[]"),
     "inputs[0].shape: the size of [4611686018427387904,4,0] is out of range"},
    {INPUT("[4611686018427387904]", "FP32", "[1]"),
     "inputs[0].data: expected 4611686018427387904 FP32 values for shape [4611686018427387904], "
     "the body has room for at most 3"},
    {INPUT("[1000000]", "FP64", "[1]"),
     "inputs[0].data: expected 1000000 FP64 values for shape [1000000], the body has room for at "
     "most 3"},
    {INPUT("[1,4]", "FP32", "[1,2,3]"),
     "inputs[0].data: expected 4 FP32 values for shape [1,4], got 3"},
    {INPUT("[1,2]", "FP32", "[1,2,3]"),
     "inputs[0].data: expected 2 FP32 values for shape [1,2], got more"},
    {INPUT("[1,2]", "FP32", "[[1,2],[3]]"),
     "inputs[0].data: expected 2 FP32 values for shape [1,2], got more"},
    {INPUT("[0]", "INT8", "[1]"), "inputs[0].data: expected 0 INT8 values for shape [0], got more"},
    {INPUT("[2]", "BYTES", "[\"a\"]"),
     "inputs[0].data: expected 2 BYTES values for shape [2], got 1"},
    {INPUT("[1]", "BYTES", "[\"a\",\"b\"]"),
     "inputs[0].data: expected 1 BYTES values for shape [1], got more"},
    {INPUT("[1]", "BOOL", "[true,false]"),
     "inputs[0].data: expected 1 BOOL values for shape [1], got more"},
    {INPUT("[2,2]", "FP32", "[[1,2],[3]]"),
     "inputs[0].data: ragged: arrays of one depth differ in length (FP32, byte 71)"},
    {INPUT("[2,2]", "FP32", "[[1,2],3,4]"),
     "inputs[0].data: ragged: a value where an array stood before (FP32, byte 72)"},
    {INPUT("[2,2]", "FP32", "[1,2,[3,4]]"),
     "inputs[0].data: ragged: an array where a value stood before (FP32, byte 67)"},
    {INPUT("[2,2]", "FP32", "[[],1,2,3,4]"),
     "inputs[0].data: ragged: a value where an array stood before (FP32, byte 73)"},
    {INPUT("[2,3]", "FP32", "[[1,2],[3,4],[5,6]]"),
     "inputs[0].data: nested arrays do not follow shape [2,3]"},
    {INPUT("[2]", "FP32", "[[1,2]]"),
     "inputs[0].data: nested deeper than the shape (FP32, byte 61)"},
    {INPUT("[1]", "FP32", "1"), "inputs[0].data: expected an array, got a number (byte 60)"},
    {INPUT("[1]", "FP32", "[true]"), "inputs[0].data: expected a number, got true (FP32, byte 61)"},
    {INPUT("[1]", "INT32", "[null]"),
     "inputs[0].data: expected a number, got null (INT32, byte 62)"},
    {INPUT("[1]", "INT64", "[NaN]"), "inputs[0].data: expected a number (INT64, byte 62)"},
    {INPUT("[1]", "BOOL", "[null]"),
     "inputs[0].data: expected true or false, got null (BOOL, byte 61)"},
    {INPUT("[1]", "BYTES", "[null]"),
     "inputs[0].data: expected a string, got null (BYTES, byte 62)"},
    {INPUT("[1]", "BYTES", "[NaN]"), "inputs[0].data: not a JSON value (BYTES, byte 62)"},
    {INPUT("[2]", "FP32", "[null,1,NaN]"),
     "inputs[0].data: expected 2 FP32 values for shape [2], got more"},
    {INPUT("[1]", "FP32", "[1]") ",\"x\":NaN", "body: more text after the value (byte 66)"},
    {"{\"inputs\":[{\"name\":\"x\",\"shape\":[NaN]}]}", "body: not a JSON value (byte 32)"},
    {"{\"inputs\":[{\"name\":null}]}", "inputs[0].name: expected a string, got null (byte 19)"},
    {"{\"inputs\":null}", "inputs: expected at least one"},
    {"{\"id\":null,\"id\":\"b\"}", "body: duplicate key (byte 11)"},
    {"{\"inputs\":[{\"name\":\"x\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":null}]}",
     "inputs[0].data: missing"},
    {INPUT("[1]", "FP32", "[\"1\"]"), "inputs[0].data: expected a number, \"NaN\", \"Infinity\" or "
                                      "\"-Infinity\", got another string (FP32, byte 61)"},
    {INPUT("[1]", "INT32", "[\"NaN\"]"),
     "inputs[0].data: expected a number, got a string (INT32, byte 62)"},
    {INPUT("[1]", "BOOL", "[1]"),
     "inputs[0].data: expected true or false, got a number (BOOL, byte 61)"},
    {INPUT("[1]", "BYTES", "[1]"),
     "inputs[0].data: expected a string, got a number (BYTES, byte 62)"},
    {INPUT("[1]", "FP16", "[1]"),
     "inputs[0].data: FP16 has no JSON form, send it with binary_data_size"},
    {INPUT("[1]", "BF16", "[1]"),
     "inputs[0].data: BF16 has no JSON form, send it with binary_data_size"},
    {INPUT("[1]", "FP32", "[1e39]"), "inputs[0].data: number is out of range (FP32, byte 61)"},
    {INPUT("[1]", "FP64", "[1e999999999]"),
     "inputs[0].data: number is out of range (FP64, byte 61)"},
    {INPUT("[1]", "INT64", "[9223372036854775808]"),
     "inputs[0].data: number is out of range (INT64, byte 62)"},
    {INPUT("[1]", "UINT64", "[18446744073709551616]"),
     "inputs[0].data: number is out of range (UINT64, byte 63)"},
    {INPUT("[1]", "UINT64", "[-1]"), "inputs[0].data: number is out of range (UINT64, byte 63)"},
    {INPUT("[1]", "INT64", "[1.5]"), "inputs[0].data: expected an integer (INT64, byte 62)"},
    {INPUT("[1]", "INT8", "[128]"), "inputs[0].data: number is out of range (INT8, element 0)"},
    {INPUT("[1]", "UINT8", "[-1]"), "inputs[0].data: number is out of range (UINT8, element 0)"},
    {INPUT("[1]", "FP32", "[01]"), "inputs[0].data: not a number (FP32, byte 61)"},
    {INPUT("[1]", "FP32", "[1,]"), "inputs[0].data: not a JSON value (FP32, byte 63)"},
    {INPUT("[1]", "FP32", "[1]") "x", "body: more text after the value (byte 66)"},
    {INPUT("[1]", "FP32", "[1]") "{}", "body: more text after the value (byte 66)"},
    {"\xef\xbb\xbf{}", "inputs: missing"},
    {"\xef\xbb\xbf\xef\xbb\xbf{}", "body: not a JSON value (byte 3)"},
    {"{\"id\":1}", "id: expected a string, got a number (byte 6)"},
    {"{\"id\":\"a\",\"id\":\"b\"}", "body: duplicate key (byte 10)"},
    {"{\"x\":1,\"x\":2}", "body: duplicate key (byte 7)"},
    {"{\"inputs\":[{\"name\":\"a\",\"n\\u0061me\":\"b\"}]}", "body: duplicate key (byte 23)"},
    {"{\"parameters\":{\"a\":1,\"a\":2}}", "body: duplicate key (byte 21)"},
    {"{\"parameters\":[]}", "parameters: expected an object, got an array (byte 14)"},
    {"{\"parameters\":{\"a\":{}}}",
     "parameters: expected a string, a number, true or false as value, got an object (byte 19)"},
    {"{\"parameters\":{\"a\":1e999}}",
     "parameters: expected a number in range, got a larger one (byte 19)"},
    {"{\"parameters\":{\"timeout\":-1}}",
     "parameters.timeout: expected microseconds as a non-negative integer, got a negative integer"},
    {"{\"parameters\":{\"timeout\":\"1\"}}",
     "parameters.timeout: expected microseconds as a non-negative integer, got a string"},
    {"{\"parameters\":{\"priority\":1.5}}",
     "parameters.priority: expected a non-negative integer, got a fraction"},
    {"{\"parameters\":{\"sequence_start\":1}}",
     "parameters.sequence_start: expected true or false, got an integer"},
    {"{\"parameters\":{\"sequence_id\":-1}}",
     "parameters.sequence_id: expected a non-negative integer or a string, got a negative integer"},
    {"{\"parameters\":{\"binary_data_output\":1}}",
     "parameters.binary_data_output: expected true or false, got an integer"},
    {"{\"parameters\":{\"triton_x\":1}}", "parameters: keys that start with triton_ are reserved"},
    {"{\"outputs\":[{}]}", "outputs[0].name: missing"},
    {"{\"outputs\":[{\"name\":\"y\",\"parameters\":{\"classification\":-1}}]}",
     "outputs[0].parameters.classification: expected a non-negative integer, got a negative "
     "integer (byte 55)"},
    {"{\"outputs\":[{\"name\":\"y\",\"parameters\":{\"binary_data\":1}}]}",
     "outputs[0].parameters.binary_data: expected true or false, got an integer (byte 52)"},
    {"{\"outputs\":[{\"name\":\"y\",\"parameters\":{\"shared_memory_region\":\"r\"}}]}",
     "outputs[0].parameters: shared memory is not served over a network"},
    {"{\"inputs\":[{\"name\":\"x\",\"shape\":[1],\"datatype\":\"INT8\",\"data\":[1]},"
     "{\"name\":\"x\",\"shape\":[1],\"datatype\":\"INT8\",\"data\":[1]}]}",
     "inputs[1].name: same name as inputs[0]"},
    {"{\"inputs\":[{\"name\":\"x\",\"shape\":[1],\"datatype\":\"INT8\",\"data\":[1]}],"
     "\"outputs\":[{\"name\":\"y\"},{\"name\":\"z\"},{\"name\":\"y\"}]}",
     "outputs[2].name: same name as outputs[0]"},
    {"{\"inputs\":[{\"name\":\"x\",\"shape\":[1],\"datatype\":\"INT8\",\"parameters\":"
     "{\"binary_data_size\":-1}}]}",
     "inputs[0].parameters.binary_data_size: expected a non-negative integer, got a negative "
     "integer (byte 86)"},
    {"{\"inputs\":[{\"name\":\"x\",\"shape\":[1],\"datatype\":\"INT8\",\"parameters\":"
     "{\"binary_data_size\":1}}]}",
     "inputs[0].parameters.binary_data_size: 1 bytes, but only 0 are left behind the JSON"},
    {"{\"inputs\":[{\"name\":\"x\xff\"}]}", "body: string is not valid UTF-8 (byte 21)"},
};

static void refusals(void **state)
{
    unsigned wrong = 0;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        bool taken = decode(bad[i].body);
        if (!taken && err.status == STATUS_BAD_REQUEST && strcmp(err.text, bad[i].message) == 0)
            continue;
        wrong++;
        print_error("%s\n got:  %s\n want: %s\n", bad[i].body, taken ? "taken" : err.text,
                    bad[i].message);
    }
    assert_int_equal(wrong, 0);
}

static const char rich[] =
    "{ \"id\" : \"7\", \"unknown\":[[],{\"k\":[1,2,{\"z\":null}]}],\"inputs\":[ "
    "{\"name\":\"a\",\"shape\":[2,2],"
    "\"datatype\":\"FP32\",\"data\":[[1.5,2],[\"NaN\",4]]},{\"data\":[\"x\",\"y\\n\"],\"name\":"
    "\"b\","
    "\"shape\":[2],\"datatype\":\"BYTES\"},{\"name\":\"c\",\"shape\":[2,3],\"datatype\":\"INT16\","
    "\"data\":[1,2,3,4,5,6]},{\"name\":\"d\",\"shape\":[2],\"datatype\":\"BOOL\",\"data\":[true,"
    "false]}],"
    "\"outputs\":[{\"name\":\"o\",\"parameters\":{\"binary_data\":true}}],\"parameters\":{\"p\":"
    "\"q\"} }";

static void every_truncation(void **state)
{
    assert_true(decode(rich));
    assert_false(req.sequence); // an unknown parameter goes with its like
    assert_int_equal(req.n_params, 1);
    for (size_t n = 0; n + 1 < sizeof(rich); n++) {
        char *cut = mem_must(n + 1); // exactly n bytes: ASan sees one read too many
        memcpy(cut, rich, n);
        char *exact = mem_realloc(cut, n ? n : 1);
        assert_false(decode_parts(view_of(exact, n), VIEW("")));
        mem_free(exact);
    }
}

static void every_step_size(void **state)
{
    assert_true(decode(rich));
    struct hash128 key = req.batch_key;
    for (size_t max = 1; max < sizeof(rich); max += 1 + max / 8) {
        arena_reset(&arena);
        req = (struct infer_request){.model = VIEW("m"), .version = VIEW("1")};
        struct oip_json *d = oip_json_begin(&arena, VIEW(rich), VIEW(""), &req);
        enum oip_step step;
        unsigned steps = 0;
        while ((step = oip_json_step(d, max, &err)) == OIP_MORE)
            assert_true(++steps < 4 * sizeof(rich));
        assert_int_equal(step, OIP_DONE);
        assert_true(hash128_eq(key, req.batch_key));
        assert_int_equal(req.bytes, 16 + 11 + 12 + 2);
        assert_int_equal(req.inputs[2].data[10], 6);
    }
}

// A large flat array does no more than it was told in one step.
static void steps_are_bounded(void **state)
{
    const size_t n = 300000;
    char *body = mem_must(n * 2 + 200);
    int at = sprintf(
        body, "{\"inputs\":[{\"name\":\"x\",\"shape\":[%zu],\"datatype\":\"FP32\",\"data\":[", n);
    for (size_t i = 0; i < n; i++) {
        body[at++] = '1';
        body[at++] = ',';
    }
    at += sprintf(body + at - 1, "]}]}") - 1;
    arena_reset(&arena);
    req = (struct infer_request){.model = VIEW("m")};
    struct oip_json *d = oip_json_begin(&arena, view_of(body, (size_t)at), VIEW(""), &req);
    unsigned steps = 0;
    enum oip_step step;
    while ((step = oip_json_step(d, 64 << 10, &err)) == OIP_MORE)
        steps++;
    assert_int_equal(step, OIP_DONE);
    assert_in_range(steps, 8, 10);
    assert_int_equal(req.rows, n);
    mem_free(body);
}

static void depth_and_counts(void **state)
{
    char *body = mem_must(400000);
    memset(body, '[', 100000);
    assert_false(decode_parts(view_of(body, 100000), VIEW("")));
    memcpy(body, "{\"k\":", 5);
    assert_false(decode_parts(view_of(body, 100000), VIEW("")));
    assert_string_equal(err.text, "body: nested deeper than 100 (byte 104)");
    // 257 inputs, 257 outputs, 65 parameters, 257 unknown keys
    static const struct {
        const char *head, *each, *message;
    } many[] = {
        {"{\"inputs\":[", "{\"name\":\"%u\",\"shape\":[1],\"datatype\":\"INT8\",\"data\":[1]},",
         "inputs: more than 256"},
        {"{\"outputs\":[", "{\"name\":\"%u\"},", "outputs: more than 256"},
        {"{\"parameters\":{", "\"%u\":1,", "parameters: more than 64"},
        {"{", "\"%u\":1,", "body: more than 256 keys in one object (byte 2193)"},
    };
    for (unsigned k = 0; k < 4; k++) {
        char *at = body + sprintf(body, "%s", many[k].head);
        for (unsigned i = 0; i < 1000; i++)
            at += sprintf(at, many[k].each, i + 10000);
        assert_false(decode_parts(view_of(body, (size_t)(at - body)), VIEW("")));
        if (k < 3)
            assert_string_equal(err.text, many[k].message);
        else
            assert_non_null(strstr(err.text, "more than 256 keys"));
    }
    mem_free(body);
}

#define BLOB(name, dtype, shape, n)                                                                \
    "{\"name\":\"" name "\",\"shape\":" shape ",\"datatype\":\"" dtype                             \
    "\",\"parameters\":{\"binary_data_size\":" n "}}"

static void binary_tensors(void **state)
{
    static const char two[] =
        "{\"inputs\":[" BLOB("a", "FP16", "[1,2]", "4") "," BLOB("b", "BYTES", "[2]", "9") "]}";
    static const char blob[] = "\1\2\3\4\1\0\0\0z\0\0\0\0";
    assert_true(decode_parts(VIEW(two), VIEW(blob)));
    assert_ptr_equal(req.inputs[0].data, blob);
    assert_ptr_equal(req.inputs[1].data, blob + 4);
    assert_int_equal(req.bytes, 13);
    assert_int_equal(req.rows, 0); // 1 and 2 are not one first dimension
    assert_false(decode_parts(VIEW(two), view_of(blob, sizeof(blob))));
    assert_string_equal(err.text, "body: 1 bytes behind the JSON belong to no input");
    for (size_t n = 0; n < sizeof(blob) - 1; n++)
        assert_false(decode_parts(VIEW(two), view_of(blob, n)));
    assert_string_equal(err.text, "inputs[1].parameters.binary_data_size: 9 bytes, but only 8 are "
                                  "left behind the JSON");
    assert_false(
        decode_parts(VIEW("{\"inputs\":[" BLOB("a", "FP32", "[2]", "4") "]}"), VIEW("abcd")));
    assert_string_equal(err.text, "inputs[0].parameters.binary_data_size: expected 8 bytes for "
                                  "FP32 [2], got 4");
    assert_false(
        decode_parts(VIEW("{\"inputs\":[" BLOB("a", "BYTES", "[1]", "5") "]}"), VIEW("\2\0\0\0a")));
    assert_string_equal(err.text, "inputs[0]: the binary data is not 1 BYTES elements");
    assert_false(
        decode_parts(VIEW("{\"inputs\":[{\"name\":\"a\",\"shape\":[4],\"datatype\":\"INT8\","
                          "\"data\":[1,2,3,4],\"parameters\":{\"binary_data_size\":4}}]}"),
                     VIEW("abcd")));
    assert_string_equal(err.text, "inputs[0]: has both data and binary_data_size");
}

static bool raw_decode(struct arena *a, struct view body, const struct model_metadata *m,
                       struct infer_request *out, struct error *e)
{
    struct oip_raw w;
    enum oip_step step = OIP_MORE;
    if (!oip_raw_begin(&w, a, body, m, out, e))
        return false;
    while (step == OIP_MORE)
        step = oip_raw_step(&w, 2, e);
    return step == OIP_DONE;
}

static void raw_requests(void **state)
{
    struct tensor in = {.name = VIEW("x"), .dtype = DT_FP32, .rank = 2, .shape = {-1, 2}};
    struct model_metadata m = {.inputs = &in, .n_inputs = 1, .max_batch = 8};
    char bytes[24] = {0};
    req = (struct infer_request){.model = VIEW("m")};
    assert_true(raw_decode(&arena, view_of(bytes, 24), &m, &req, &err));
    assert_int_equal(req.rows, 3);
    assert_int_equal(req.format, FORMAT_OIP_BINARY);
    assert_true(req.binary_output);
    assert_false(raw_decode(&arena, view_of(bytes, 23), &m, &req, &err));
    assert_string_equal(err.text,
                        "body: 23 bytes do not fill whole elements of the input's free dimension");
    in.shape[1] = -1; // the batch is 1 then
    assert_true(raw_decode(&arena, view_of(bytes, 24), &m, &req, &err));
    assert_int_equal(req.inputs[0].shape[0], 1);
    assert_int_equal(req.inputs[0].shape[1], 6);
    m.max_batch = 0;
    assert_false(raw_decode(&arena, view_of(bytes, 24), &m, &req, &err));
    in = (struct tensor){.name = VIEW("x"), .dtype = DT_FP32, .rank = 1, .shape = {5}};
    assert_false(raw_decode(&arena, view_of(bytes, 24), &m, &req, &err));
    assert_string_equal(err.text, "inputs[0].data: expected 20 bytes for FP32 [5], got 24");
    in.dtype = DT_BYTES;
    in.shape[0] = -1;
    assert_true(raw_decode(&arena, VIEW("hey"), &m, &req, &err));
    assert_memory_equal(req.inputs[0].data, "\3\0\0\0hey", 7);
    m.n_inputs = 2;
    assert_false(raw_decode(&arena, VIEW("hey"), &m, &req, &err));
    assert_false(raw_decode(&arena, VIEW("hey"), NULL, &req, &err));
    assert_string_equal(err.text,
                        "body: a raw binary request needs a model with exactly one input");
}

static void allocation_fails_anywhere(void **state)
{
    for (uint64_t n = 1;; n++) {
        struct arena a;
        arena_init(&a, 256);
        req = (struct infer_request){.model = VIEW("m")};
        mem_fail_at(n);
        bool ok = oip_json_decode(&a, VIEW(rich), VIEW(""), &req, &err);
        mem_fail_at(0);
        arena_deinit(&a);
        if (ok) {
            assert_true(n > 3);
            return;
        }
        assert_int_equal(err.status, STATUS_UNAVAILABLE);
    }
}

static int setup(void **state)
{
    arena_init(&arena, 0);
    return 0;
}

static int teardown(void **state)
{
    arena_deinit(&arena);
    return 0;
}

static void index_requests(void **state)
{
    static const struct {
        const char *body, *message; // NULL: taken
        bool ready;
    } rows[] = {
        {"", NULL, false},
        {"{}", NULL, false},
        {"{\"ready\":true}", NULL, true},
        {" {\"x\":[1,{\"y\":2}],\"re\\u0061dy\":true,\"z\":null} ", NULL, true},
        {"\xef\xbb\xbf{\"ready\":true}", NULL, true},
        {"{\"ready\":null}", NULL, false},
        {"{\"ready\":false}", NULL, false},
        {"{\"ready\":1}", "ready: expected true or false", false},
        {"{\"ready\":true,\"ready\":true}", "body: duplicate key (byte 14)", false},
        {"{\"x\":1,\"x\":2}", "body: duplicate key (byte 7)", false},
        {"[]", "body: expected an object", false},
        {"{\"ready\":tru}", "body: not a JSON value (byte 9)", false},
        {"{\"ready\":true", "body: text ends too early (byte 13)", false},
        {"{\"ready\":true}{}", "body: more text after the value (byte 14)", false},
        {"{\"x\":[1,", "body: text ends too early (byte 8)", false},
        {"nonsense", "body: not a JSON value (byte 0)", false},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        bool ready = !rows[i].ready;
        bool ok = oip_rest_read_index_request(&arena, view_str(rows[i].body), &ready, &err);
        if (ok != !rows[i].message || (ok && ready != rows[i].ready) ||
            (!ok && strcmp(err.text, rows[i].message) != 0))
            fail_msg("%s: %s", rows[i].body, ok ? "taken" : err.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_request),    cmocka_unit_test(every_datatype),
        cmocka_unit_test(zero_bytes),       cmocka_unit_test(shapes_and_nesting),
        cmocka_unit_test(refusals),         cmocka_unit_test(every_truncation),
        cmocka_unit_test(every_step_size),  cmocka_unit_test(steps_are_bounded),
        cmocka_unit_test(depth_and_counts), cmocka_unit_test(binary_tensors),
        cmocka_unit_test(raw_requests),     cmocka_unit_test(allocation_fails_anywhere),
        cmocka_unit_test(index_requests),   cmocka_unit_test(floats_without_a_number),
        cmocka_unit_test(null_members),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
