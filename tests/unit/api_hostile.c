// Rows 86 to 97 of hostile input, as JSON: every body is refused with the field and the place, in every step
// size, without a word of its own in the answer, and for no more memory than the body backs.
#include "api_kit.h"

#define MARK "Zqx" // in every body; in no message
#define HEAD "{\"" MARK "\":0,"
#define X_HEAD HEAD "\"inputs\":[{\"name\":\"x\",\"datatype\":"
#define X(dtype, shape, data) X_HEAD "\"" dtype "\",\"shape\":" shape ",\"data\":" data "}]}"
#define MANY "9999999999999999999999" // 22 digits

static struct infer_request req;
static struct error err;
static unsigned steps;

static bool decode(struct view body, size_t max)
{
    struct api_call call;
    kit_ask("POST", "/v2/models/m/infer");
    kit_send(body);
    err = (struct error){0};
    assert_int_equal(api_route(&kit_ex, &call, &err), API_INFER);
    struct api_decoder *d = api_decode_begin(&kit_ex, &call, NULL, &req);
    uint64_t calls = mem_count();
    enum oip_step s;
    for (steps = 1; (s = api_decode_step(d, max, &err)) == OIP_MORE; steps++)
        ;
    // Typed arrays are at most four times the text ("1," is an FP64), the rest is small; few calls.
    assert_true(kit_ex.arena.bytes <= 32768 + 5 * body.n);
    assert_true(mem_count() - calls <= 64 + body.n / 512);
    return s == OIP_DONE;
}

static void check(struct view body, enum status status, const char *text)
{
    for (size_t max = SIZE_MAX; max; max = max == SIZE_MAX ? 1 : max == 1 ? 7 : 0) {
        if (max != SIZE_MAX && body.n > 100000)
            continue;
        if (decode(body, max))
            fail_msg("taken: %.200s", body.p);
        if (err.status != status || (text && strcmp(err.text, text) != 0))
            fail_msg("%.200s\n got:  %s\n want: %s", body.p, err.text, text);
        assert_null(strstr(err.text, MARK));
        api_answer_error(&kit_api, &kit_ex, NULL, FAILED(err.status, err.text), 0, NULL, 0);
        assert_null(strstr(kit_body_text(), MARK));
    }
}

static const struct {
    const char *body, *text;
} rows[] = {
    // 87: numbers
    {X("FP64", "[1]", "[1e999999999]"), "inputs[0].data: number is out of range (FP64, byte 69)"},
    {X("FP32", "[1]", "[" MANY MANY "]"), "inputs[0].data: number is out of range (FP32, byte 69)"},
    {X("INT64", "[1]", "[9223372036854775808]"),
     "inputs[0].data: number is out of range (INT64, byte 70)"},
    {X("UINT64", "[1]", "[18446744073709551616]"),
     "inputs[0].data: number is out of range (UINT64, byte 71)"},
    {X("INT32", "[1]", "[1e3]"), "inputs[0].data: expected an integer (INT32, byte 70)"},
    {HEAD "\"parameters\":{\"timeout\":1e400}}",
     "parameters: expected a number in range, got a larger one (byte 33)"},
    // 88: duplicate keys, also behind an escape and when unknown
    {HEAD "\"" MARK "\":0}", "body: duplicate key (byte 9)"},
    {HEAD "\"\\u005aqx\":0}", "body: duplicate key (byte 9)"},
    {X_HEAD "\"FP32\",\"shape\":[1],\"sh\\u0061pe\":[1]}]}", "body: duplicate key (byte 61)"},
    {HEAD "\"parameters\":{\"a\":0,\"b\":0,\"a\":0}}", "body: duplicate key (byte 35)"},
    // 89: UTF-8, surrogates, escapes
    {HEAD "\"id\":\"" MARK "\xff\"}", "body: string is not valid UTF-8 (byte 18)"},
    {HEAD "\"id\":\"" MARK "\xc0\xaf\"}", "body: string is not valid UTF-8 (byte 18)"},
    {HEAD "\"id\":\"" MARK "\xed\xa0\x80\"}", "body: string is not valid UTF-8 (byte 18)"},
    {HEAD "\"id\":\"" MARK "\xf4\x90\x80\x80\"}", "body: string is not valid UTF-8 (byte 18)"},
    {HEAD "\"id\":\"\\ud800\"}", NULL},
    {HEAD "\"id\":\"\\udc00\\ud800\"}", NULL},
    {HEAD "\"id\":\"\\x41\"}", NULL},
    {HEAD "\"id\":\"a\\u0000b\"}", NULL},
    {HEAD "\"id\":\"\\\"}", NULL},
    {HEAD "\"id\":\"a\nb\"}", NULL},
    // 91: not JSON
    {X("FP32", "[1]", "[1]") " " MARK, "body: more text after the value (byte 75)"},
    {X("FP32", "[1]", "[1]") "{}", "body: more text after the value (byte 74)"},
    {X("INT8", "[1]", "[NaN]"), "inputs[0].data: expected a number (INT8, byte 69)"},
    {X("INT8", "[1]", "[Infinity]"), "inputs[0].data: expected a number (INT8, byte 69)"},
    {X("FP32", "[1]", "[Inf]"), "inputs[0].data: expected a number (FP32, byte 69)"},
    {HEAD "/*" MARK "*/\"inputs\":[]}", NULL},
    {HEAD "//" MARK "\n\"inputs\":[]}", NULL},
    {"\xef\xbb\xbf\xef\xbb\xbf" X("FP32", "[1]", "[1]"), "body: not a JSON value (byte 3)"},
    {HEAD "'inputs':[]}", NULL},
    {HEAD "}", NULL},
    {HEAD, NULL},
    // 93: the shape's product wraps
    {X("FP32", "[4294967296,4294967296]", "[1]"),
     "inputs[0].shape: the size of [4294967296,4294967296] is out of range"},
    {X("FP32", "[4611686018427387904,4]", "[1]"),
     "inputs[0].shape: the size of [4611686018427387904,4] is out of range"},
    {X("FP64", "[0,4611686018427387904,4]", "[]"),
     "inputs[0].shape: the size of [0,4611686018427387904,4] is out of range"},
    // 94: dimensions that are none, data that does not fit
    {X("FP32", "[-1]", "[1]"),
     "inputs[0].shape: expected non-negative integers, got another number (byte 58)"},
    {X("FP32", "[1.5]", "[1]"),
     "inputs[0].shape: expected non-negative integers, got another number (byte 58)"},
    {X("FP32", "[\"" MARK "\"]", "[1]"),
     "inputs[0].shape: expected non-negative integers, got a string (byte 58)"},
    {X("FP32", "[null]", "[1]"),
     "inputs[0].shape: expected non-negative integers, got null (byte 58)"},
    {X("FP32", "[[1]]", "[1]"),
     "inputs[0].shape: expected non-negative integers, got an array (byte 58)"},
    {X("FP32", "[18446744073709551616]", "[1]"),
     "inputs[0].shape: expected non-negative integers, got another number (byte 58)"},
    {X("FP32", "[0]", "[1]"), "inputs[0].data: expected 0 FP32 values for shape [0], got more"},
    {X("FP32", "[2]", "[1]"), "inputs[0].data: expected 2 FP32 values for shape [2], got 1"},
    {X("FP32", "[1]", "[1,2]"), "inputs[0].data: expected 1 FP32 values for shape [1], got more"},
    {X("BYTES", "[1]", "[\"" MARK "\",\"" MARK "\"]"),
     "inputs[0].data: expected 1 BYTES values for shape [1], got more"},
    {X("FP32", "[2,2]", "[[1,2],[3]]"),
     "inputs[0].data: ragged: arrays of one depth differ in length (FP32, byte 79)"},
    {X("FP32", "[2,2]", "[[1,2],3,4]"),
     "inputs[0].data: ragged: a value where an array stood before (FP32, byte 80)"},
    {X("FP32", "[1]", "[\"" MARK "\"]"), "inputs[0].data: expected a number, \"NaN\", \"Infinity\" "
                                         "or \"-Infinity\", got another string (FP32, byte 69)"},
    {X(MARK, "[1]", "[1]"),
     "inputs[0].datatype: expected a known datatype, got another string (byte 42)"},
    // 95: huge dimensions, no data
    {X("FP64", "[1000000000]", "[]"), "inputs[0].data: expected 1000000000 FP64 values for shape "
                                      "[1000000000], the body has room for "
                                      "at most 3"},
    {X("BYTES", "[4611686018427387904]", "[\"\"]"),
     "inputs[0].data: expected 4611686018427387904 BYTES values for shape [4611686018427387904], "
     "the body has room for at most 4"},
    // 96: one name twice
    {HEAD "\"outputs\":[{\"name\":\"" MARK "\"},{\"name\":\"" MARK
          "\"}],\"inputs\":[{\"name\":\"x\","
          "\"shape\":[1],\"datatype\":\"INT8\",\"data\":[1]}]}",
     "outputs[1].name: same name as outputs[0]"},
    {HEAD "\"inputs\":[{\"name\":\"" MARK
          "\",\"shape\":[0],\"datatype\":\"INT8\",\"data\":[]},{\"name\""
          ":\"" MARK "\",\"shape\":[0],\"datatype\":\"INT8\",\"data\":[]}]}",
     "inputs[1].name: same name as inputs[0]"},
    // 97: binary data that is not there
    {X_HEAD "\"FP32\",\"shape\":[1],\"parameters\":{\"binary_data_size\":-1}}]}",
     "inputs[0].parameters.binary_data_size: expected a non-negative integer, got a negative "
     "integer (byte 94)"},
    {X_HEAD "\"FP32\",\"shape\":[1],\"parameters\":{\"binary_data_size\":18446744073709551615}}]}",
     "inputs[0].parameters.binary_data_size: expected a non-negative integer, got an integer of "
     "2^63 or more (byte 94)"},
    {X_HEAD "\"FP32\",\"shape\":[1],\"parameters\":{\"binary_data_size\":9223372036854775807}}]}",
     "inputs[0].parameters.binary_data_size: 9223372036854775807 bytes, but only 0 are left "
     "behind "
     "the JSON"},
    {X_HEAD "\"FP32\",\"shape\":[1],\"data\":[1],\"parameters\":{\"binary_data_size\":0}}]}",
     "inputs[0]: has both data and binary_data_size"},
};

static void every_row(void **state)
{
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        check(view_str(rows[i].body), STATUS_BAD_REQUEST, rows[i].text);
    check(view_of("{\"id\":\"a\0b\"}", 12), STATUS_BAD_REQUEST, NULL); // a raw NUL
    check(view_of("{\0\"\0i\0d\0\"\0", 10), STATUS_BAD_REQUEST, NULL); // UTF-16
}

static struct buffer big;

static void add(const char *text, size_t times)
{
    for (size_t i = 0; i < times; i++)
        assert_true(buffer_append(&big, text, strlen(text)));
}

static struct view made(const char *head, const char *each, size_t times, const char *tail)
{
    buffer_reset(&big);
    add(head, 1);
    add(each, times);
    add(tail, 1);
    return buffer_view(&big);
}

// 86: arrays and objects, closed or not, as a skipped value, as data, as the whole.
static void too_deep(void **state)
{
    check(made(HEAD "\"k\":", "[", 100000, ""), STATUS_BAD_REQUEST,
          "body: nested deeper than 100 (byte 112)");
    check(made(HEAD "\"k\":", "{\"k\":", 100000, ""), STATUS_BAD_REQUEST, NULL);
    check(made("[", "[", 100000, ""), STATUS_BAD_REQUEST,
          "body: expected an object, got an array (byte 0)");
    check(made(X_HEAD "\"FP32\",\"shape\":[1],\"data\":", "[", 100000, ""), STATUS_BAD_REQUEST,
          "inputs[0].data: nested deeper than the shape (FP32, byte 69)");
    check(made(X_HEAD "\"FP32\",\"data\":", "[", 100000, ""), STATUS_BAD_REQUEST, NULL);
    check(made(HEAD "\"k\":", "[", 99, "1"), STATUS_BAD_REQUEST, NULL);
}

// 87, 90: long things. Steps are as many as the bytes ask for, so that no other connection waits.
static void too_much(void **state)
{
    const size_t step = 256 << 10;
    check(made(X_HEAD "\"FP64\",\"shape\":[1],\"data\":[", "7", 1000000, "]}]}"),
          STATUS_BAD_REQUEST, NULL);
    check(made(HEAD "\"parameters\":{\"timeout\":", "7", 1000000, "}}"), STATUS_BAD_REQUEST, NULL);
    buffer_reset(&big);
    add("{\"k\":{", 1);
    for (unsigned i = 0; i < 200000; i++) {
        char key[32];
        snprintf(key, sizeof(key), "\"" MARK "%u\":0,", i);
        add(key, 1);
    }
    add("\"\":0}}", 1); // keys of a value that is skipped are not kept: it costs time only
    assert_false(decode(buffer_view(&big), step));
    assert_true(steps >= buffer_len(&big) / step);
    assert_string_equal(err.text, "inputs: missing");
    big.data[4] = ' ';
    big.data[1] = ' ', big.data[2] = ' ', big.data[3] = ' ', big.data[5] = ' ';
    check(buffer_view(&big), STATUS_BAD_REQUEST, NULL); // in the request itself: 256 of them
    assert_non_null(strstr(err.text, "body: more than 256 keys in one object (byte "));
    assert_false(decode(made(HEAD "\"k\":[", "{},", 500000, "0]}"), step));
    assert_true(steps >= 1500000 / step);
    assert_string_equal(err.text, "inputs: missing");
    assert_true(decode(
        made(X_HEAD "\"FP32\",\"shape\":[1000001],\"data\":[", "1,", 1000000, "1]}]}"), step));
    assert_true(steps >= 2000000 / step);
    check(made(HEAD "\"id\":\"", "12345678", 1 << 20, "\"}"), STATUS_BAD_REQUEST,
          "body: a string outside of data is longer than 131072 bytes (byte 14)");
    assert_false(decode(made(HEAD "\"k\":\"", "12345678", 1 << 20, "\"}"), step)); // skipped
    assert_true(steps >= (8 << 20) / step);
    assert_string_equal(err.text, "inputs: missing");
    assert_true(decode(
        made(X_HEAD "\"BYTES\",\"shape\":[1],\"data\":[\"", "12345678", 1 << 20, "\"]}]}"), step));
    assert_true(steps >= 2 * (8 << 20) / step); // measured, copied
}

// 96
static void too_many(void **state)
{
    check(made(HEAD "\"inputs\":[",
               "{\"name\":\"x\",\"shape\":[0],\"datatype\":\"INT8\",\"data\":[]},", 100000, ""),
          STATUS_BAD_REQUEST, "inputs: more than 256");
    check(made(HEAD "\"outputs\":[", "{\"name\":\"y\"},", 100000, ""), STATUS_BAD_REQUEST,
          "outputs: more than 256");
    check(made(X_HEAD "\"FP32\",\"shape\":[", "1,", 1000, "1],\"data\":[1]}]}"), STATUS_BAD_REQUEST,
          "inputs[0].shape: expected at most 16 dimensions, got 255 or more (byte 566)");
}

static int open_kit(void **state)
{
    kit_open(state);
    buffer_init(&big);
    return 0;
}

static int close_kit(void **state)
{
    buffer_deinit(&big);
    kit_close(state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row),
        cmocka_unit_test(too_deep),
        cmocka_unit_test(too_much),
        cmocka_unit_test(too_many),
    };
    return cmocka_run_group_tests(tests, open_kit, close_kit);
}
