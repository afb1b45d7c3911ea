// base/json: accepted and refused texts, every truncation, strings, the lanes, the writer.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/pen.h"
#include "base/rand.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

// The last token of the text: JSON_END or JSON_ERROR. Reads a copy that ends where malloc's ends.
static enum json_token read_all(struct view text, const char **error, size_t *error_at)
{
    char *copy = malloc(text.n ? text.n : 1);
    if (text.n)
        memcpy(copy, text.p, text.n);
    struct json_reader r;
    json_read(&r, view_of(copy, text.n));
    enum json_token t;
    do
        t = json_next(&r);
    while (t != JSON_END && t != JSON_ERROR);
    assert_int_equal(json_next(&r), t); // both last
    assert_int_equal(r.error != NULL, t == JSON_ERROR);
    if (error)
        *error = r.error;
    if (error_at)
        *error_at = r.error_at;
    assert_true(r.error_at <= text.n);
    free(copy);
    return t;
}

static const char *const accepted[] = {
    "0",
    "-0",
    "1.5e+3",
    " 12 ",
    "\t\r\n true\n",
    "null",
    "false",
    "\"\"",
    "\"a\"",
    "[]",
    "{}",
    "[[]]",
    "[1]",
    "[1,2 , 3]",
    "{\"a\":1}",
    "{\"\":\"\"}",
    "{\"a\":[],\"b\":{}}",
    "[0.1,1e5,1E-5,-0.0]",
    "[[1,2],[3,4]]",
    "{\"a\":{\"b\":[1,{\"c\":null}]}}",
    "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
    "\"\\u0041\\u00e9\\uD83D\\ude00\"",
    "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"",
    "\"\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf\"",
    "\"\x7f\"",
    "\"01234567\\n89abcdef\xc2\x80ghijklmn\"",
    "[1e999999999]",
    "{\"a\":1,\"a\":2}",
    "\"\\uFFFF\\u0001\"",
    "[true,false,null,\"x\",-1.0E+2,{\"k\" : [ ] } ]",
};

static const struct {
    const char *text, *error;
    int at;
} refused[] = {
    {"", "text ends too early", 0},
    {" ", "text ends too early", 1},
    {"[", "text ends too early", 1},
    {"[1", "text ends too early", 2},
    {"[1,", "text ends too early", 3},
    {"[1,]", "not a JSON value", 3},
    {"[,1]", "not a JSON value", 1},
    {"[1 2]", "expected ',' or ']'", 3},
    {"[1}", "expected ',' or ']'", 2},
    {"{]", "expected a key", 1},
    {"{\"a\"}", "expected ':'", 4},
    {"{\"a\" 1}", "expected ':'", 5},
    {"{\"a\":}", "not a JSON value", 5},
    {"{\"a\":1,}", "expected a key", 7},
    {"{a:1}", "expected a key", 1},
    {"{1:1}", "expected a key", 1},
    {"{\"a\":1 \"b\":2}", "expected ',' or '}'", 7},
    {"{\"a\":1]", "expected ',' or '}'", 6},
    {"1 2", "more text after the value", 2},
    {"{}{}", "more text after the value", 2},
    {"[]]", "more text after the value", 2},
    {"nul", "not a JSON value", 0},
    {"nULL", "not a JSON value", 0},
    {"truex", "more text after the value", 4},
    {"NaN", "not a JSON value", 0},
    {"Infinity", "not a JSON value", 0},
    {"-Infinity", "not a number", 0},
    {"01", "not a number", 0},
    {"-", "not a number", 0},
    {"+1", "not a JSON value", 0},
    {".5", "not a JSON value", 0},
    {"1.", "not a number", 0},
    {"1e", "not a number", 0},
    {"0x10", "more text after the value", 1},
    {"1_000", "more text after the value", 1},
    {"'a'", "not a JSON value", 0},
    {"/* c */ 1", "not a JSON value", 0},
    {"1 // c", "more text after the value", 2},
    {"\f1", "not a JSON value", 0},
    {"\"", "text ends inside a string", 1},
    {"\"abc", "text ends inside a string", 4},
    {"\"\\", "unknown escape in a string", 1},
    {"\"\\x\"", "unknown escape in a string", 1},
    {"\"\\u12\"", "\\u needs four hexadecimal digits", 1},
    {"\"\\u00g0\"", "\\u needs four hexadecimal digits", 1},
    {"\"\\u0000\"", "\\u0000 is not accepted in a string", 1},
    {"\"\\ud800\"", "lone surrogate in a string", 1},
    {"\"\\udc00\"", "lone surrogate in a string", 1},
    {"\"\\ud800\\u0041\"", "lone surrogate in a string", 1},
    {"\"\\ud800\\n\"", "lone surrogate in a string", 1},
    {"\"\\ud83d\\ud83d\"", "lone surrogate in a string", 1},
    {"\"a\nb\"", "control character in a string", 2},
    {"\"a\tb\"", "control character in a string", 2},
    {"\"\x1f\"", "control character in a string", 1},
    {"\"0123456789\x01\"", "control character in a string", 11},
    {"\"\x80\"", "string is not valid UTF-8", 1},
    {"\"\xc0\xaf\"", "string is not valid UTF-8", 1},         // overlong
    {"\"\xc1\xbf\"", "string is not valid UTF-8", 1},         // overlong
    {"\"\xe0\x9f\xbf\"", "string is not valid UTF-8", 1},     // overlong
    {"\"\xf0\x8f\xbf\xbf\"", "string is not valid UTF-8", 1}, // overlong
    {"\"\xed\xa0\x80\"", "string is not valid UTF-8", 1},     // surrogate
    {"\"\xf4\x90\x80\x80\"", "string is not valid UTF-8", 1}, // above U+10FFFF
    {"\"\xf5\x80\x80\x80\"", "string is not valid UTF-8", 1},
    {"\"\xff\"", "string is not valid UTF-8", 1},
    {"\"\xe2\x82\"", "string is not valid UTF-8", 1},
    {"\"\xe2\x82", "string is not valid UTF-8", 1},
    {"{\"\xff\":1}", "string is not valid UTF-8", 2},
    {"[1,\n2,\nx]", "not a JSON value", 7},
};

static void accepts(void **state)
{
    for (unsigned i = 0; i < sizeof(accepted) / sizeof(*accepted); i++) {
        const char *error;
        if (read_all(view_str(accepted[i]), &error, NULL) != JSON_END)
            fail_msg("%s: %s", accepted[i], error);
    }
}

static void refuses(void **state)
{
    for (unsigned i = 0; i < sizeof(refused) / sizeof(*refused); i++) {
        const char *error;
        size_t at;
        if (read_all(view_str(refused[i].text), &error, &at) != JSON_ERROR)
            fail_msg("%s was accepted", refused[i].text);
        if (strcmp(error, refused[i].error) != 0 || at != (size_t)refused[i].at)
            fail_msg("row %u %s: %s at %zu", i, refused[i].text, error, at);
    }
    assert_int_equal(read_all(VIEW("\"a\0b\""), NULL, NULL), JSON_ERROR);
    assert_int_equal(read_all(VIEW("[1]\0"), NULL, NULL), JSON_ERROR);
    assert_int_equal(read_all(VIEW("[\0\x31]"), NULL, NULL), JSON_ERROR); // UTF-16
    assert_int_equal(read_all(view_of(NULL, 0), NULL, NULL), JSON_ERROR);
}

// A number alone may be cut and stay one; nothing else may.
static void refuses_every_truncation(void **state)
{
    for (unsigned i = 0; i < sizeof(accepted) / sizeof(*accepted); i++) {
        struct view text = view_str(accepted[i]);
        if (!strchr("[{\"", text.p[0]))
            continue;
        for (size_t n = 0; n < text.n; n++)
            if (memchr("]}\" ", text.p[text.n - 1], 4))
                assert_int_equal(read_all(view_of(text.p, n), NULL, NULL), JSON_ERROR);
    }
}

// Any single byte changed, inserted or removed: no crash, and the same verdict twice.
static void survives_mutation(void **state)
{
    struct rand r;
    rand_seed(&r, 21);
    for (int i = 0; i < 20000; i++) {
        char text[200];
        const char *from = accepted[rand_below(&r, sizeof(accepted) / sizeof(*accepted))];
        size_t n = strlen(from);
        memcpy(text, from, n);
        for (uint64_t k = rand_below(&r, 3) + 1; k > 0 && n; k--)
            text[rand_below(&r, n)] =
                rand_below(&r, 2) ? (char)rand_u64(&r) : "[]{},:\"\\u0"[rand_below(&r, 10)];
        read_all(view_of(text, n), NULL, NULL);
    }
}

static void depth_is_bounded(void **state)
{
    static char deep[400000];
    const char *error;
    size_t at;
    for (int n = 99; n <= 101; n++) {
        memset(deep, '[', (size_t)n);
        memset(deep + n, ']', (size_t)n);
        assert_int_equal(read_all(view_of(deep, 2 * (size_t)n), &error, &at),
                         n <= JSON_MAX_DEPTH ? JSON_END : JSON_ERROR);
    }
    assert_string_equal(error, "nested deeper than 100");
    assert_int_equal(at, 100);
    memset(deep, '[', 100000); // unclosed
    assert_int_equal(read_all(view_of(deep, 100000), &error, &at), JSON_ERROR);
    assert_int_equal(at, 100);
    for (int i = 0; i < 80000; i++)
        memcpy(deep + 5 * i, "{\"a\":", 5);
    assert_int_equal(read_all(view_of(deep, 400000), &error, &at), JSON_ERROR);
    assert_string_equal(error, "nested deeper than 100");
    // Mixed containers at every depth are told apart.
    size_t n = 0;
    for (int i = 0; i < 50; i++)
        n += (size_t)sprintf(deep + n, "[{\"a\":");
    deep[n++] = '0';
    for (int i = 0; i < 50; i++)
        n += (size_t)sprintf(deep + n, "}]");
    assert_int_equal(read_all(view_of(deep, n), NULL, NULL), JSON_END);
    deep[n - 61] = deep[n - 61] == ']' ? '}' : ']';
    assert_int_equal(read_all(view_of(deep, n), NULL, NULL), JSON_ERROR);
}

static void numbers_are_bounded(void **state)
{
    static char digits[1000000];
    const char *error;
    float f;
    size_t n;
    memset(digits, '1', sizeof(digits));
    assert_int_equal(read_all(view_of(digits, 400), NULL, NULL), JSON_END);
    assert_int_equal(read_all(view_of(digits, 401), &error, NULL), JSON_ERROR);
    assert_string_equal(error, "number is longer than 400 characters");
    assert_int_equal(read_all(view_of(digits, sizeof(digits)), &error, NULL), JSON_ERROR);
    assert_string_equal(error, "number is longer than 400 characters");
    digits[0] = '[';
    digits[1] = '.'; // not a digit: the lane must refuse it too
    struct json_reader r;
    json_read(&r, view_of(digits, sizeof(digits)));
    json_next(&r);
    assert_int_equal(json_numbers_f32(&r, &f, 1, &n), JSON_ERROR);
    digits[1] = '0';
    digits[2] = '.';
    json_read(&r, view_of(digits, sizeof(digits)));
    json_next(&r);
    assert_int_equal(json_numbers_f32(&r, &f, 1, &n), JSON_ERROR);
    assert_string_equal(r.error, "number is longer than 400 characters");
}

// A slice changes nothing but how often one calls: the same tokens, texts and errors at the same places.
static void strings_in_every_slice(void **state)
{
    static const char *const texts[] = {
        "{\"key\\n\":\"plain text that is longer than a "
        "word\",\"\xc3\xa4\xe2\x82\xac\":[\"\\ud83d\\ude00x\"]}",
        "[\"\", \"a\", \"\\\"\\\\\", \"\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\"]",
        "[\"never ends",
        "[\"a bad escape\\q\"]",
        "[\"\\ud83d alone\"]",
        "{\"a control \x01\":1}",
        "[\"not UTF-8 \xff\"]",
        "{\"key\" 1}",
    };
    for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        for (size_t slice = 1; slice < 60; slice++) {
            struct json_reader whole, cut;
            json_read(&whole, view_str(texts[i]));
            json_read(&cut, view_str(texts[i]));
            cut.slice = slice;
            for (enum json_token want = JSON_NULL; want != JSON_END && want != JSON_ERROR;) {
                want = json_next(&whole);
                enum json_token got = json_next(&cut);
                for (unsigned calls = 0; got == JSON_MORE && calls < 60; calls++)
                    got = json_next(&cut);
                assert_int_equal(got, want);
                assert_int_equal(cut.token_at, whole.token_at);
                if (want == JSON_STRING || want == JSON_KEY) {
                    assert_true(view_eq(cut.text, whole.text));
                    assert_int_equal(cut.escaped, whole.escaped);
                }
            }
            assert_int_equal(cut.error_at, whole.error_at);
            assert_ptr_equal(cut.error, whole.error);
        }
    }
}

static void unescapes_in_every_slice(void **state)
{
    static const char text[] =
        "plain \\n\\u00e4 \\ud83d\\ude00\\ud83d\\ude00 and \xe2\x82\xac \\\\";
    static const char want[] =
        "plain \n\xc3\xa4 \xf0\x9f\x98\x80\xf0\x9f\x98\x80 and \xe2\x82\xac \\";
    for (size_t slice = 1; slice < sizeof(text); slice++) {
        char out[sizeof(text)], *to = out;
        const char *from = text, *end = text + sizeof(text) - 1;
        while (from < end)
            json_unescape_some(&from, end, &to, slice);
        assert_true(view_is(view_of(out, (size_t)(to - out)), want));
    }
}

static void tokens_in_order(void **state)
{
    struct json_reader r;
    struct view v;
    struct arena a;
    arena_init(&a, 0);
    json_read(&r, VIEW(" {\"k\\n\" : [1.50, \"s\", true], \"e\":{}} "));
    assert_int_equal(json_next(&r), JSON_OBJECT);
    assert_int_equal(json_next(&r), JSON_KEY);
    assert_true(r.escaped);
    assert_true(json_unescape(&r, &a, &v));
    assert_true(view_is(v, "k\n"));
    assert_int_equal(json_next(&r), JSON_ARRAY);
    assert_int_equal(json_next(&r), JSON_NUMBER);
    assert_true(view_is(r.text, "1.50"));
    assert_int_equal(json_next(&r), JSON_STRING);
    assert_false(r.escaped);
    assert_true(json_unescape(&r, &a, &v));
    assert_ptr_equal(v.p, r.text.p); // in the body, not copied
    assert_int_equal(json_next(&r), JSON_TRUE);
    assert_int_equal(r.token_at, 22);
    assert_int_equal(json_next(&r), JSON_ARRAY_END);
    assert_int_equal(json_next(&r), JSON_KEY);
    assert_int_equal(json_next(&r), JSON_OBJECT);
    assert_int_equal(json_next(&r), JSON_OBJECT_END);
    assert_int_equal(json_next(&r), JSON_OBJECT_END);
    assert_int_equal(json_next(&r), JSON_END);

    json_read(&r, VIEW("{\"skip\":[{\"a\":[1,[2]]},3],\"n\":5}"));
    json_next(&r);
    json_next(&r);
    assert_true(json_skip(&r, json_next(&r)));
    assert_int_equal(json_next(&r), JSON_KEY);
    assert_true(view_is(r.text, "n"));
    assert_true(json_skip(&r, json_next(&r)));
    assert_int_equal(json_fail(&r, "expected a string"), JSON_ERROR);
    assert_string_equal(r.error, "expected a string");
    assert_int_equal(r.error_at, 30); // where the 5 stands
    assert_int_equal(json_next(&r), JSON_ERROR);
    json_read(&r, VIEW("[[1,2"));
    json_next(&r);
    assert_false(json_skip(&r, json_next(&r)));
    assert_int_equal(json_fail(&r, "in data"), JSON_ERROR);
    assert_int_equal(r.error_at, 5);
    arena_deinit(&a);
}

static void unescapes(void **state)
{
    struct json_reader r;
    struct view v;
    struct arena a;
    arena_init(&a, 0);
    json_read(&r,
              VIEW("\"a\\\"\\\\\\/\\b\\f\\n\\r\\tz\\u0041\\u00e9\\u20ac\\ud83d\\ude00\xc3\xa9\""));
    assert_int_equal(json_next(&r), JSON_STRING);
    assert_true(json_unescape(&r, &a, &v));
    assert_true(view_is(v, "a\"\\/\b\f\n\r\tzA\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xc3\xa9"));
    arena_deinit(&a);
    arena_thread_done();
    mem_fail_at(1);
    assert_false(json_unescape(&r, &a, &v));
    mem_fail_at(0);
    assert_null(v.p);
    assert_true(v.n > 0);
    arena_deinit(&a);
}

static void lanes_read_numbers(void **state)
{
    struct json_reader r;
    size_t n;
    float f[8];
    double d[8];
    int64_t s[8];
    uint64_t u[8];
    json_read(&r, VIEW("[ 0, 16 ,0.25,-1e-3,3.4028235e38,1e-60 ,-0.0]"));
    json_next(&r);
    assert_int_equal(json_numbers_f32(&r, f, 8, &n), JSON_ARRAY_END);
    assert_int_equal(n, 7);
    const float want[] = {0, 16, 0.25f, -1e-3f, 3.4028235e38f, 0, -0.0f};
    assert_memory_equal(f, want, sizeof(want));
    assert_int_equal(json_next(&r), JSON_END);

    json_read(&r, VIEW("[0.1,1e308]"));
    json_next(&r);
    assert_int_equal(json_numbers_f64(&r, d, 8, &n), JSON_ARRAY_END);
    assert_true(n == 2 && d[0] == 0.1 && d[1] == 1e308);

    json_read(&r, VIEW("[-9223372036854775808,9223372036854775807,0,-0]"));
    json_next(&r);
    assert_int_equal(json_numbers_i64(&r, s, 8, &n), JSON_ARRAY_END);
    assert_true(n == 4 && s[0] == INT64_MIN && s[1] == INT64_MAX && s[2] == 0 && s[3] == 0);

    json_read(&r, VIEW("[18446744073709551615,0]"));
    json_next(&r);
    assert_int_equal(json_numbers_u64(&r, u, 8, &n), JSON_ARRAY_END);
    assert_true(n == 2 && u[0] == UINT64_MAX && u[1] == 0);

    json_read(&r, VIEW("[]"));
    json_next(&r);
    assert_int_equal(json_numbers_u64(&r, u, 0, &n), JSON_ARRAY_END);
    assert_int_equal(n, 0);
}

static void lanes_stop_and_go_on(void **state)
{
    struct json_reader r;
    size_t n;
    float f[3];
    struct view text = VIEW("{\"data\":[[1,2,3,4],[5,\"NaN\",6],[],7]}");
    json_read(&r, text);
    for (int i = 0; i < 3; i++)
        json_next(&r);
    assert_int_equal(json_numbers_f32(&r, f, 3, &n), JSON_ARRAY);
    assert_int_equal(n, 0);
    assert_int_equal(json_numbers_f32(&r, f, 3, &n), JSON_NULL); // more than 3
    assert_true(n == 3 && f[2] == 3);
    assert_int_equal(json_numbers_f32(&r, f, 0, &n), JSON_NULL);
    assert_int_equal(n, 0);
    assert_int_equal(json_numbers_f32(&r, f, 1, &n),
                     JSON_ARRAY_END); // exactly full: the end is seen
    assert_true(n == 1 && f[0] == 4);
    assert_int_equal(json_numbers_f32(&r, f, 3, &n), JSON_ARRAY);
    assert_int_equal(json_numbers_f32(&r, f, 3, &n), JSON_STRING);
    assert_true(n == 1 && f[0] == 5 && view_is(r.text, "NaN"));
    assert_int_equal(json_numbers_f32(&r, f, 3, &n), JSON_ARRAY_END);
    assert_true(n == 1 && f[0] == 6);
    assert_int_equal(json_numbers_f32(&r, f, 3, &n), JSON_ARRAY);
    assert_int_equal(json_numbers_f32(&r, f, 3, &n), JSON_ARRAY_END);
    assert_int_equal(json_numbers_f32(&r, f, 3, &n), JSON_ARRAY_END);
    assert_true(n == 1 && f[0] == 7);
    assert_int_equal(json_numbers_f32(&r, f, 3, &n), JSON_ERROR); // we stand in the object now
    json_read(&r, VIEW("[1,2,true]"));                            // the lane first, tokens then
    json_next(&r);
    assert_int_equal(json_numbers_f32(&r, f, 2, &n), JSON_NULL);
    assert_int_equal(json_next(&r), JSON_TRUE);
    assert_int_equal(json_numbers_f32(&r, f, 2, &n), JSON_ARRAY_END);
    assert_int_equal(json_next(&r), JSON_END);
}

// What JSON has no number for, in the lanes of floats and, where it is asked for, as tokens.
static void lanes_without_a_number(void **state)
{
    const char text[] = "[NaN,1.5, null,-Infinity ,Infinity,-2,NaN]";
    struct json_reader r;
    float f[7];
    double d[7];
    size_t n;
    json_read(&r, view_str(text));
    json_next(&r);
    assert_int_equal(json_numbers_f32(&r, f, 7, &n), JSON_ARRAY_END);
    assert_int_equal(n, 7);
    json_read(&r, view_str(text));
    json_next(&r);
    assert_int_equal(json_numbers_f64(&r, d, 4, &n), JSON_NULL); // stopped in the middle
    assert_int_equal(json_numbers_f64(&r, d + n, 7 - n, &n), JSON_ARRAY_END);
    for (unsigned i = 0; i < 7; i++)
        assert_true(d[i] == (double)f[i] || (isnan(d[i]) && isnan(f[i])));
    assert_true(isnan(f[0]) && f[1] == 1.5f && isnan(f[2]) && f[5] == -2 && isnan(f[6]));
    assert_true(f[3] == -INFINITY && f[4] == INFINITY);
    json_read(&r, view_str(text));
    r.words = true;
    for (unsigned i = 0, nulls = 0; i < 9; i++) {
        nulls += json_next(&r) == JSON_NULL;
        assert_true(i < 8 || nulls == 5);
    }
    assert_int_equal(json_next(&r), JSON_END);
    json_read(&r, view_str(text));
    json_next(&r);
    assert_int_equal(json_next(&r), JSON_ERROR); // nobody asked for it
}

static void byte_order_mark(void **state)
{
    struct json_reader r;
    json_read(&r, VIEW("\xef\xbb\xbf {}"));
    assert_int_equal(json_next(&r), JSON_OBJECT);
    assert_int_equal(r.token_at, 4); // bytes of the text as it came
    assert_int_equal(json_next(&r), JSON_OBJECT_END);
    assert_int_equal(json_next(&r), JSON_END);
    static const char *const bad[] = {"\xef\xbb\xbf\xef\xbb\xbf{}", "\xef\xbb{}", "{}\xef\xbb\xbf",
                                      "\xef\xbb\xbf"};
    for (unsigned i = 0; i < 4; i++) {
        json_read(&r, view_str(bad[i]));
        enum json_token token;
        while ((token = json_next(&r)) != JSON_ERROR)
            assert_int_not_equal(token, JSON_END);
    }
}

static void lanes_refuse(void **state)
{
    static const struct {
        const char *text, *error;
        char lane; // f, d, i, u
        unsigned at, n;
    } rows[] = {
        {"[1,1e39]", "number is out of range", 'f', 3, 1},
        {"[-1e309]", "number is out of range", 'd', 1, 0},
        {"[1e999999999]", "number is out of range", 'd', 1, 0},
        {"[9223372036854775808]", "number is out of range", 'i', 1, 0},
        {"[-9223372036854775809]", "number is out of range", 'i', 1, 0},
        {"[18446744073709551616]", "number is out of range", 'u', 1, 0},
        {"[-1]", "number is out of range", 'u', 1, 0},
        {"[1.0]", "expected an integer", 'i', 1, 0},
        {"[1e2]", "expected an integer", 'u', 1, 0},
        {"[1,]", "expected a number", 'f', 3, 1},
        {"[,1]", "expected a number", 'i', 1, 0},
        {"[1 2]", "expected ',' or ']'", 'f', 3, 1},
        {"[1,null]", "expected a number", 'i', 3, 1},
        {"[1,NaN]", "expected a number", 'u', 3, 1},
        {"[-Infinity]", "not a number", 'i', 1, 0},
        {"[nul]", "expected a number", 'f', 1, 0},
        {"[nan]", "expected a number", 'd', 1, 0},
        {"[NaNa]", "expected ',' or ']'", 'f', 4, 1},
        {"[-NaN]", "not a number", 'd', 1, 0},
        {"[+Infinity]", "expected a number", 'f', 1, 0},
        {"[Infinit", "expected a number", 'f', 1, 0},
        {"[-Infinit", "not a number", 'f', 1, 0},
        {"[true]", "expected a number", 'u', 1, 0},
        {"[{}]", "expected a number", 'f', 1, 0},
        {"[01]", "not a number", 'i', 1, 0},
        {"[01]", "not a number", 'f', 1, 0},
        {"[-]", "not a number", 'u', 1, 0},
        {"[1.]", "not a number", 'f', 1, 0},
        {"[1", "text ends too early", 'f', 2, 1},
        {"[1,", "text ends too early", 'd', 3, 1},
        {"[", "text ends too early", 'i', 1, 0},
        {"[1}", "expected ',' or ']'", 'u', 2, 1},
        {"[\"\xff\"]", "string is not valid UTF-8", 'f', 2, 0},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct json_reader r;
        size_t n = 99;
        float f[4];
        double d[4];
        int64_t s[4];
        uint64_t u[4];
        json_read(&r, view_str(rows[i].text));
        assert_int_equal(json_next(&r), JSON_ARRAY);
        enum json_token t = rows[i].lane == 'f'   ? json_numbers_f32(&r, f, 4, &n)
                            : rows[i].lane == 'd' ? json_numbers_f64(&r, d, 4, &n)
                            : rows[i].lane == 'i' ? json_numbers_i64(&r, s, 4, &n)
                                                  : json_numbers_u64(&r, u, 4, &n);
        if (t != JSON_ERROR || strcmp(r.error, rows[i].error) != 0 || r.error_at != rows[i].at ||
            n != rows[i].n)
            fail_msg("row %u %s: %d %s at %zu, %zu read", i, rows[i].text, t, r.error, r.error_at,
                     n);
        assert_int_equal(json_next(&r), JSON_ERROR);
        assert_int_equal(json_numbers_f32(&r, f, 4, &n), JSON_ERROR);
    }
}

// Whatever is cut off, in pieces of any size: the same floats up to there.
static void lanes_in_every_piece(void **state)
{
    struct view text = VIEW("[1,-2.5 , 3e2,\n0.125,1234567890123456789012345,6]");
    const float want[] = {1, -2.5f, 300, 0.125f, 1234567890123456789012345.f, 6};
    for (size_t cut = 1; cut <= text.n; cut++) {
        char *copy = malloc(cut);
        memcpy(copy, text.p, cut);
        for (size_t piece = 1; piece < 8; piece++) {
            struct json_reader r;
            float out[8], all[8];
            size_t n, total = 0;
            enum json_token t;
            json_read(&r, view_of(copy, cut));
            json_next(&r);
            do {
                t = json_numbers_f32(&r, out, piece, &n);
                memcpy(all + total, out, n * sizeof(float));
                total += n;
            } while (t == JSON_NULL);
            assert_int_equal(t, cut == text.n ? JSON_ARRAY_END : JSON_ERROR);
            assert_true(total <= 6);
            if (t == JSON_ARRAY_END)
                assert_int_equal(total, 6);
            else if (total)
                total--; // the last may be cut short
            assert_memory_equal(all, want, total * sizeof(float));
        }
        free(copy);
    }
}

// What the f32 lane reads and where it stops, beside the tokens one by one.
static void same_as_tokens(struct view text)
{
    struct json_reader lane, tokens;
    float out[64], f = 0;
    size_t n;
    json_read(&lane, text);
    json_read(&tokens, text);
    assert_int_equal(json_next(&lane), JSON_ARRAY);
    json_next(&tokens);
    enum json_token t = json_numbers_f32(&lane, out, 64, &n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(json_next(&tokens), JSON_NUMBER);
        assert_int_equal(num_parse_f32(tokens.text, &f), NUM_OK);
        assert_memory_equal(&f, &out[i], sizeof(f));
    }
    if (t == JSON_ARRAY_END)
        assert_int_equal(json_next(&tokens), JSON_ARRAY_END);
    if (t == JSON_ERROR && json_next(&tokens) == JSON_ERROR)
        assert_int_equal(lane.error_at, tokens.error_at);
}

// Integers of one to nine digits, with and without Python's space, go through every lane; then with one
// byte changed, whatever it becomes, the lane says what the tokens say. The text ends where memory ends.
static void lanes_of_short_integers(void **state)
{
    struct rand rng;
    rand_seed(&rng, 11);
    for (int round = 0; round < 20000; round++) {
        uint32_t want[40];
        char text[40 * 12];
        size_t length = 0, n;
        unsigned count = 1 + (unsigned)rand_below(&rng, 40);
        for (unsigned i = 0; i < count; i++) {
            static const uint32_t below[] = {10, 100, 1000, 10000, 10000000, 1000000000};
            want[i] = (uint32_t)rand_below(&rng, below[rand_below(&rng, 6)]);
            const char *comma = i == 0 ? "[" : rand_below(&rng, 2) ? "," : ", ";
            length += (size_t)sprintf(text + length, "%s%u", comma, want[i]);
        }
        text[length++] = ']';
        char *exact = malloc(length);
        memcpy(exact, text, length);
        struct json_reader r;
        float f[40];
        double d[40];
        int64_t s[40];
        uint64_t u[40];
        for (unsigned lane = 0; lane < 4; lane++) {
            json_read(&r, view_of(exact, length));
            json_next(&r);
            enum json_token t = lane == 0   ? json_numbers_f32(&r, f, 40, &n)
                                : lane == 1 ? json_numbers_f64(&r, d, 40, &n)
                                : lane == 2 ? json_numbers_i64(&r, s, 40, &n)
                                            : json_numbers_u64(&r, u, 40, &n);
            assert_int_equal(t, JSON_ARRAY_END);
            assert_int_equal(n, count);
        }
        for (unsigned i = 0; i < count; i++)
            assert_true(f[i] == (float)want[i] && d[i] == want[i] && s[i] == want[i] &&
                        u[i] == want[i]);
        exact[1 + rand_below(&rng, length - 1)] =
            rand_below(&rng, 4) ? " ,-.]019e"[rand_below(&rng, 9)] : (char)rand_below(&rng, 256);
        same_as_tokens(view_of(exact, length));
        free(exact);
    }
}

static void write_everything(struct json_writer *w)
{
    json_w_object(w);
    json_w_key(w, VIEW("a\"b"));
    json_w_array(w);
    json_w_i64(w, INT64_MIN);
    json_w_u64(w, UINT64_MAX);
    json_w_f64(w, 0.1);
    json_w_f32(w, 0.1f);
    json_w_f64(w, NAN);
    json_w_f32(w, INFINITY);
    json_w_f64(w, -INFINITY);
    json_w_bool(w, true);
    json_w_bool(w, false);
    json_w_null(w);
    json_w_array(w);
    json_w_array_end(w);
    json_w_object(w);
    json_w_object_end(w);
    json_w_array_end(w);
    json_w_key(w, VIEW("s"));
    json_w_string(w, VIEW("\x01\b\f\n\r\t\"\\/\x7f\xc3\xa9\xff\xed\xa0\x80z"));
    json_w_key(w, VIEW("f"));
    static const char floats[] = "x\0\0\x80\x3f\0\0\x20\xc1\0\0\xc0\x7f"; // from an odd address
    json_w_f32_array(w, floats + 1, 3);
    json_w_key(w, VIEW(""));
    json_w_string(w, view_of(NULL, 0));
    json_w_object_end(w);
}

static const char everything[] = "{\"a\\\"b\":[-9223372036854775808,18446744073709551615,0.1,0.1,"
                                 "\"NaN\",\"Infinity\",\"-Infinity\","
                                 "true,false,null,[],{}],\"s\":\"\\u0001\\b\\f\\n\\r\\t\\\"\\\\/"
                                 "\x7f\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd"
                                 "\xef\xbf\xbd\xef\xbf\xbdz\",\"f\":[1,-10,\"NaN\"],\"\":\"\"}";

static void writes(void **state)
{
    struct buffer b;
    struct json_writer w;
    buffer_init(&b);
    json_write(&w, &b);
    write_everything(&w);
    assert_false(w.failed);
    struct view got = buffer_view(&b);
    if (!view_is(got, everything))
        fail_msg("%.*s", VIEW_ARG(got));
    assert_int_equal(read_all(got, NULL, NULL), JSON_END);
    buffer_deinit(&b);
}

// The pen writes what the writer writes, and keeps to the room that it asks for.
static void pen_writes_the_same(void **state)
{
    struct rand r;
    struct buffer b;
    struct json_writer w;
    char text[64], *exact;
    rand_seed(&r, 5);
    buffer_init(&b);
    for (int round = 0; round < 20000; round++) {
        size_t n = rand_below(&r, sizeof(text));
        unsigned span = rand_below(&r, 2) ? 256 : 128;
        for (size_t i = 0; i < n; i++)
            text[i] = (char)rand_below(&r, span);
        struct view v = view_of(n ? text : NULL, n);
        buffer_reset(&b);
        json_write(&w, &b);
        json_w_string(&w, v);
        exact = malloc(PEN_JSON(n));
        size_t got = (size_t)(pen_json(exact, v) - exact);
        assert_true(got <= PEN_JSON(n) && view_eq(view_of(exact, got), buffer_view(&b)));
        free(exact);
    }
    buffer_deinit(&b);
}

static void writer_remembers_the_failure(void **state)
{
    for (uint64_t n = 1;; n++) {
        struct buffer b;
        struct json_writer w;
        buffer_init(&b);
        json_write(&w, &b);
        mem_fail_at(n);
        for (int i = 0; i < 50 && !w.failed; i++) {
            w.comma = false; // as many texts, one after the other
            write_everything(&w);
        }
        mem_fail_at(0);
        bool failed = w.failed;
        if (failed) {
            size_t before = buffer_len(&b);
            write_everything(&w);
            assert_int_equal(buffer_len(&b), before); // nothing more is written
        }
        buffer_deinit(&b);
        if (!failed) {
            assert_true(n > 3);
            break;
        }
    }
}

// Random floats through the writer and back through the lane: bit for bit.
static void floats_come_back(void **state)
{
    static float in[5000], out[5000];
    struct rand r;
    rand_seed(&r, 22);
    for (int i = 0; i < 5000; i++) {
        do {
            uint32_t bits = (uint32_t)rand_u64(&r);
            memcpy(&in[i], &bits, 4);
        } while (!isfinite(in[i]));
        if (i % 3 == 0)
            in[i] = (float)rand_unit(&r);
    }
    struct buffer b;
    struct json_writer w;
    struct json_reader rd;
    size_t n;
    buffer_init(&b);
    json_write(&w, &b);
    json_w_f32_array(&w, in, 5000);
    json_read(&rd, buffer_view(&b));
    json_next(&rd);
    assert_int_equal(json_numbers_f32(&rd, out, 5000, &n), JSON_ARRAY_END);
    assert_int_equal(n, 5000);
    assert_memory_equal(in, out, sizeof(in));
    buffer_deinit(&b);
}

static void keyset_finds_duplicates(void **state)
{
    struct arena a;
    struct json_keyset s;
    arena_init(&a, 0);
    json_keyset_init(&s, &a);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 3000; i++) {
            char key[20];
            int n = snprintf(key, sizeof(key), "key%d", i);
            struct view v = arena_copy(&a, view_of(key, (size_t)n));
            assert_int_equal(json_keyset_add(&s, v), round ? JSON_SEEN_BEFORE : JSON_SEEN_NEW);
        }
        assert_int_equal(json_keyset_add(&s, view_of(NULL, 0)),
                         round ? JSON_SEEN_BEFORE : JSON_SEEN_NEW);
    }
    arena_deinit(&a);
    arena_thread_done();
    json_keyset_init(&s, &a);
    mem_fail_at(1);
    assert_int_equal(json_keyset_add(&s, VIEW("a")), JSON_SEEN_ERROR);
    mem_fail_at(0);
    assert_int_equal(json_keyset_add(&s, VIEW("a")), JSON_SEEN_NEW);
    arena_deinit(&a);
}

// White space and strings in runs of every length: what is skipped by the word and what byte by byte.
static void runs_of_one_kind(void **state)
{
    static const char *const blanks[] = {" ", "\n", "\t", " \r", "         \n"};
    static const struct {
        const char *raw, *meant;
    } kinds[] = {{"a", "a"},
                 {"\xc3\xa9", "\xc3\xa9"},
                 {"\\n", "\n"},
                 {"\\u20ac", "\xe2\x82\xac"},
                 {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"}};
    enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };
    char text[2000], want[2000];
    struct json_reader r;
    struct arena a;
    struct view v;
    for (unsigned k = 0; k < sizeof(blanks) / sizeof(blanks[0]); k++) {
        size_t n = 0;
        for (unsigned i = 0; i < 40; i++) {
            memcpy(text + n, "7", 2);
            json_read(&r, view_of(text, n + 1));
            assert_int_equal(json_next(&r), JSON_NUMBER);
            assert_int_equal(r.token_at, n);
            assert_int_equal(json_next(&r), JSON_END);
            n += (size_t)sprintf(text + n, "%s", blanks[k]);
        }
    }
    for (unsigned seed = 0; seed < 2000; seed++) {
        size_t n = 1, m = 0;
        text[0] = '"';
        for (unsigned run = 0, x = seed * 2654435761u; run < 6;
             run++, x = x * 1664525 + 1013904223) {
            for (unsigned i = 0; i < (x >> 8) % 12; i++) {
                n += (size_t)sprintf(text + n, "%s", kinds[(x >> 20) % KINDS].raw);
                m += (size_t)sprintf(want + m, "%s", kinds[(x >> 20) % KINDS].meant);
            }
        }
        text[n++] = '"';
        arena_init(&a, 0);
        json_read(&r, view_of(text, n));
        assert_int_equal(json_next(&r), JSON_STRING);
        assert_true(json_unescape(&r, &a, &v));
        assert_true(view_eq(v, view_of(want, m)));
        assert_int_equal(json_next(&r), JSON_END);
        for (size_t cut = 0; cut < n; cut++) {
            json_read(&r, view_of(text, cut));
            assert_int_equal(json_next(&r), JSON_ERROR);
        }
        arena_deinit(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts),
        cmocka_unit_test(refuses),
        cmocka_unit_test(refuses_every_truncation),
        cmocka_unit_test(survives_mutation),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(numbers_are_bounded),
        cmocka_unit_test(strings_in_every_slice),
        cmocka_unit_test(unescapes_in_every_slice),
        cmocka_unit_test(tokens_in_order),
        cmocka_unit_test(unescapes),
        cmocka_unit_test(lanes_read_numbers),
        cmocka_unit_test(lanes_of_short_integers),
        cmocka_unit_test(lanes_stop_and_go_on),
        cmocka_unit_test(lanes_refuse),
        cmocka_unit_test(lanes_without_a_number),
        cmocka_unit_test(byte_order_mark),
        cmocka_unit_test(lanes_in_every_piece),
        cmocka_unit_test(writes),
        cmocka_unit_test(pen_writes_the_same),
        cmocka_unit_test(writer_remembers_the_failure),
        cmocka_unit_test(floats_come_back),
        cmocka_unit_test(keyset_finds_duplicates),
        cmocka_unit_test(runs_of_one_kind),
    };
    return cmocka_run_group_tests_name("base: json", tests, NULL, NULL);
}
