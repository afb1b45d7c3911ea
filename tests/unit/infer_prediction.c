/* infer/prediction: what a record holds, what it does not, and that nothing in it is more than a line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/mem.h"
#include "infer/prediction.h"
#include <stdio.h>
#include <stdlib.h>

static const float pixels[4] = {0.5f, 1, -2, 3.25f};
static const struct prediction_place place = {
    .instance = {"gw-1", 4}, .loop = 3, .ms = 1764175000123, .seq = 7};

static struct tensor floats(const char *name, const float *p, int64_t rows, int64_t columns)
{
    return (struct tensor){.name = view_str(name),
                           .dtype = DT_FP32,
                           .rank = 2,
                           .shape = {rows, columns},
                           .data = (const uint8_t *)p,
                           .bytes = (size_t)(rows * columns) * sizeof(float)};
}

static struct tensor bytes_of(const char *name, const void *p, size_t n, int64_t elements)
{
    return (struct tensor){.name = view_str(name),
                           .dtype = DT_BYTES,
                           .rank = 1,
                           .shape = {elements},
                           .data = p,
                           .bytes = n};
}

// Packed with not a byte more than it asked for, and printed; malloc'ed.
static char *record(const struct prediction *p, const struct prediction_rules *r)
{
    size_t room = prediction_room(p, r);
    void *packed = malloc(room); // a byte more would be noticed
    struct buffer out;
    assert_non_null(packed);
    size_t n = prediction_pack(packed, p, r);
    assert_true(n <= room && n % 8 == 0);
    assert_int_equal(prediction_bytes(packed), n);
    buffer_init(&out);
    assert_true(prediction_print(&out, packed, &place));
    free(packed);
    char *line = malloc(buffer_len(&out) + 1);
    memcpy(line, out.data, buffer_len(&out));
    line[buffer_len(&out)] = '\0';
    buffer_deinit(&out);
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1); // one line
    return line;
}

static void expect(const struct prediction *p, const struct prediction_rules *r, const char *part)
{
    char *line = record(p, r);
    if (!strstr(line, part))
        fail_msg("%s is not in %s", part, line);
    free(line);
}

static void expect_not(const struct prediction *p, const struct prediction_rules *r,
                       const char *part)
{
    char *line = record(p, r);
    if (strstr(line, part))
        fail_msg("%s is in %s", part, line);
    free(line);
}

static void all_of_one(void **state)
{
    (void)state;
    struct tensor in = floats("x", pixels, 1, 2), out = floats("p", pixels + 2, 1, 2);
    struct infer_request q = {.inputs = &in, .n_inputs = 1};
    struct answer a = {.outputs = &out, .n_outputs = 1};
    struct slice s = {.answer = &a};
    struct prediction p = {.facts = {.wall_us = 1764175000123456,
                                     .parse_us = 1,
                                     .queue_us = 2,
                                     .compute_us = 3,
                                     .total_us = 9,
                                     .outcome = "ok",
                                     .source = "model",
                                     .reason = "idle",
                                     .rows = 1,
                                     .batch_rows = 8,
                                     .level = 2},
                           .text = {[PREDICTION_ID] = VIEW("r1"),
                                    [PREDICTION_TENANT] = VIEW("acme"),
                                    [PREDICTION_ASKED] = VIEW("digits"),
                                    [PREDICTION_ANSWERED] = VIEW("digits-small"),
                                    [PREDICTION_VERSION] = VIEW("2"),
                                    [PREDICTION_EXPERIMENT] = VIEW("e"),
                                    [PREDICTION_VARIANT] = VIEW("v"),
                                    [PREDICTION_ATTEMPTS] = VIEW("digits: 503")},
                           .request = &q,
                           .answer = &s};
    struct prediction_rules r = {.inputs = DETAIL_FULL, .outputs = DETAIL_NONE, .most = 1024};
    char *line = record(&p, &r);
    assert_string_equal(
        line,
        "{\"record\":\"1764175000123-7\",\"instance\":\"gw-1\",\"loop\":3,"
        "\"time\":\"2025-11-26T16:36:40.123456Z\",\"id\":\"r1\",\"tenant\":\"acme\",\"model\":"
        "\"digits\",\"answered\":\"digits-small\",\"version\":\"2\",\"experiment\":\"e\","
        "\"variant\":\"v\",\"attempts\":\"digits: 503\",\"outcome\":\"ok\",\"source\":\"model\","
        "\"level\":2,\"rows\":1,\"batch\":8,\"reason\":\"idle\",\"parse_us\":1,\"queue_us\":2,"
        "\"compute_us\":3,\"total_us\":9,\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\","
        "\"shape\":[1,2],\"data\":[0.5,1]}]}\n");
    free(line);
    r = (struct prediction_rules){.outputs = DETAIL_FULL, .most = 1024};
    expect(&p, &r, "\"total_us\":9,\"outputs\":[{\"name\":\"p\"");
    p.answer = NULL;
    p.facts.outcome = "deadline";
    expect(&p, &r, "\"outcome\":\"deadline\"");
    expect_not(&p, &r, "outputs");
}

static struct prediction of(const struct infer_request *q, const struct slice *s)
{
    return (struct prediction){.facts = {.outcome = "ok"}, .request = q, .answer = s};
}

// The text of a hash in such a record.
static void hash_of(const struct prediction *p, const struct prediction_rules *r, char out[33])
{
    char *line = record(p, r);
    const char *at = strstr(line, "\"hash\":\"");
    assert_non_null(at);
    memcpy(out, at + 8, 32);
    out[32] = '\0';
    free(line);
}

static void hashes(void **state)
{
    (void)state;
    char whole[33], other[33];
    struct prediction_rules r = {.outputs = DETAIL_HASH};
    struct infer_request q = {0};
    struct tensor all = floats("p", pixels, 2, 2);
    struct answer a = {.outputs = &all, .n_outputs = 1};
    struct slice s = {.answer = &a};
    struct prediction p = of(&q, &s);
    hash_of(&p, &r, whole);
    expect(&p, &r, "\",\"bytes\":16}");

    // The same rows in two parts, of two answers.
    struct tensor first = floats("p", pixels, 1, 2), second = floats("p", pixels + 2, 1, 2);
    struct answer one = {.outputs = &first, .n_outputs = 1, .rows = 1},
                  two = {.outputs = &second, .n_outputs = 1, .rows = 1};
    struct slice behind = {.answer = &two, .rows = 1},
                 before = {.answer = &one, .rows = 1, .next = &behind};
    p = of(&q, &before);
    hash_of(&p, &r, other);
    assert_string_equal(whole, other);

    // Another value, shape, name or datatype: another hash.
    p = of(&q, &s);
    struct tensor same = all;
    all.data = (const uint8_t *)(pixels + 1);
    all.shape[0] = 1;
    all.bytes = 8;
    hash_of(&p, &r, other);
    assert_string_not_equal(whole, other);
    all = same;
    all.shape[0] = 4;
    all.shape[1] = 1;
    hash_of(&p, &r, other);
    assert_string_not_equal(whole, other);
    all = same;
    all.name = VIEW("q");
    hash_of(&p, &r, other);
    assert_string_not_equal(whole, other);
    all = same;
    all.dtype = DT_INT32;
    hash_of(&p, &r, other);
    assert_string_not_equal(whole, other);
}

static void what_is_redacted(void **state)
{
    (void)state;
    static const char *const words[] = {"input:secret", "output:p", "tenant"};
    struct tensor in[] = {floats("secret", pixels, 1, 2), floats("x", pixels, 1, 2)};
    struct tensor out = floats("p", pixels, 1, 2);
    struct infer_request q = {.inputs = in, .n_inputs = 2};
    struct answer a = {.outputs = &out, .n_outputs = 1};
    struct slice s = {.answer = &a};
    struct prediction p = of(&q, &s);
    p.text[PREDICTION_TENANT] = VIEW("acme");
    struct prediction_rules r = {
        .inputs = DETAIL_FULL, .outputs = DETAIL_HASH, .most = 1024, .redact = words, .redacts = 3};
    expect(&p, &r,
           "{\"name\":\"secret\",\"datatype\":\"FP32\",\"shape\":[1,2],\"redacted\":true,"
           "\"bytes\":8},{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1,2],\"data\":[0.5,1]}");
    expect(&p, &r, "\"bytes\":8,\"redacted\":1}");
    expect_not(&p, &r, "acme");
    // What is not to be seen is in no hash either.
    char before[33], after[33];
    r.inputs = DETAIL_HASH;
    r.outputs = DETAIL_NONE;
    hash_of(&p, &r, before);
    in[0].data = (const uint8_t *)(pixels + 1);
    hash_of(&p, &r, after);
    assert_string_equal(before, after);
}

static struct param text_param(const char *key, const char *value)
{
    return (struct param){.key = view_str(key), .type = PARAM_STRING, .s = view_str(value)};
}

static void headers_and_parameters(void **state)
{
    (void)state;
    static const char *const words[] = {"header:x-secret", "parameter:hidden", "input:x"};
    struct param headers[] = {text_param("x-country", "d\"e"), text_param("x-secret", "s1"),
                              text_param("x-empty", "")};
    struct param own[] = {text_param("name", "n"),
                          text_param("hidden", "s2"),
                          {.key = VIEW("b"), .type = PARAM_BOOL, .b = true},
                          {.key = VIEW("i"), .type = PARAM_INT64, .i = -5},
                          {.key = VIEW("u"), .type = PARAM_UINT64, .u = UINT64_MAX},
                          {.key = VIEW("d"), .type = PARAM_DOUBLE, .d = 0.25}};
    struct param of_x[] = {text_param("k", "s3")}, of_y[] = {text_param("k", "v"), own[1]};
    struct params lists[] = {{of_x, 1, 1}, {of_y, 2, 2}};
    struct tensor in[] = {floats("x", pixels, 1, 1), floats("y", pixels, 1, 1)};
    in[0].params = &lists[0];
    in[1].params = &lists[1];
    struct infer_request q = {.inputs = in, .n_inputs = 2, .params = own, .n_params = 6};
    struct prediction p = of(&q, NULL);
    p.headers = headers;
    p.n_headers = 3;
    struct prediction_rules r = {.inputs = DETAIL_FULL, .most = 64};
    expect(
        &p, &r,
        "\"headers\":{\"x-country\":\"d\\\"e\",\"x-secret\":\"s1\",\"x-empty\":\"\"},\"inputs\":[");
    expect_not(&p, &r, "parameters");
    r.parameters = true;
    expect(&p, &r,
           "},\"parameters\":{\"name\":\"n\",\"hidden\":\"s2\",\"b\":true,\"i\":-5,"
           "\"u\":18446744073709551615,\"d\":0.25},\"inputs\":[");
    expect(&p, &r, "\"data\":[0.5],\"parameters\":{\"k\":\"s3\"}},{\"name\":\"y\"");
    expect_not(&p, &r, "cut");
    // Those of an input go with its values; what is redacted is nowhere.
    r.redact = words;
    r.redacts = 3;
    expect(&p, &r, "\"headers\":{\"x-country\":\"d\\\"e\",\"x-empty\":\"\"}");
    expect(&p, &r, "\"data\":[0.5],\"parameters\":{\"k\":\"v\"}}]}");
    expect_not(&p, &r, "\"s1\"");
    expect_not(&p, &r, "\"s2\"");
    expect_not(&p, &r, "\"s3\"");
    r.inputs = DETAIL_HASH;
    expect(&p, &r, "\"d\":0.25},\"inputs\":{\"hash\"");
    expect_not(&p, &r, "\"k\"");
}

// As many and as long as a request may have them: no more than the bound, each whole or not at all, and that is told.
static void too_many_parameters(void **state)
{
    (void)state;
    static struct param own[INFER_MAX_PARAMS], many[INFER_MAX_TENSORS][INFER_MAX_PARAMS];
    static struct params lists[INFER_MAX_TENSORS];
    static struct tensor in[INFER_MAX_TENSORS];
    static char text[2 * PREDICTION_SAID];
    memset(text, 1, sizeof(text)); // each needs six bytes
    for (unsigned i = 0; i < INFER_MAX_PARAMS; i++)
        own[i] = (struct param){.key = VIEW("\xff"), .type = PARAM_BOOL};
    for (unsigned i = 0; i < INFER_MAX_TENSORS; i++) {
        memcpy(many[i], own, sizeof(own));
        lists[i] = (struct params){many[i], INFER_MAX_PARAMS, INFER_MAX_PARAMS};
        in[i] = floats("x", pixels, 1, 0);
        in[i].params = &lists[i];
    }
    struct infer_request q = {
        .inputs = in, .n_inputs = INFER_MAX_TENSORS, .params = own, .n_params = INFER_MAX_PARAMS};
    struct prediction p = of(&q, NULL);
    struct prediction_rules r = {.inputs = DETAIL_FULL, .parameters = true};
    // 8 bytes, a key and a value: 16 of them.
    char *line = record(&p, &r), cut[32];
    snprintf(cut, sizeof(cut), ",\"cut\":%u,",
             (INFER_MAX_TENSORS + 1) * INFER_MAX_PARAMS - PREDICTION_SAID / 16);
    assert_non_null(strstr(line, cut));
    assert_true(strlen(line) < 64 * PREDICTION_SAID);
    free(line);
    // One that is too long leaves room for those behind it.
    own[0].s = view_of(text, sizeof(text));
    own[0].type = PARAM_STRING;
    q = (struct infer_request){.params = own, .n_params = 2};
    expect(&p, &r, "\"parameters\":{\"\xef\xbf\xbd\":false},\"cut\":1}");
    // And one that just fits.
    own[0] = (struct param){.type = PARAM_STRING, .s = view_of(text, PREDICTION_SAID - 8)};
    line = record(&p, &r);
    assert_true(strlen(line) > 6 * (PREDICTION_SAID - 8));
    assert_true(strlen(line) < 6 * PREDICTION_SAID + 512);
    free(line);
}

static void every_datatype(void **state)
{
    (void)state;
    static const struct {
        enum dtype type;
        const char *bytes;
        size_t n;
        const char *data;
    } rows[] = {
        {DT_BOOL, "\1\0", 2, "\"data\":[true,false]"},
        {DT_UINT8, "\xff\1", 2, "\"data\":[255,1]"},
        {DT_UINT16, "\xff\xff", 2, "\"data\":[65535]"},
        {DT_UINT32, "\xff\xff\xff\xff", 4, "\"data\":[4294967295]"},
        {DT_UINT64, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, "\"data\":[18446744073709551615]"},
        {DT_INT8, "\xff\x7f", 2, "\"data\":[-1,127]"},
        {DT_INT16, "\xfe\xff", 2, "\"data\":[-2]"},
        {DT_INT32, "\xfd\xff\xff\xff", 4, "\"data\":[-3]"},
        {DT_INT64, "\xfc\xff\xff\xff\xff\xff\xff\xff", 8, "\"data\":[-4]"},
        {DT_FP16, "\0\x3c", 2, "\"raw\":\"ADw=\""},
        {DT_BF16, "\x80\x3f\0", 2, "\"raw\":\"gD8=\""},
        {DT_FP32, "\0\0\x80\x7f", 4, "\"data\":[\"Infinity\"]"},
        {DT_FP64, "\0\0\0\0\0\0\xf8\x3f", 8, "\"data\":[1.5]"},
        {DT_BYTES, "\1\0\0\0a\2\0\0\0\n\"", 11, "\"data\":[\"a\",\"\\n\\\"\"]"},
        {DT_BYTES, "\1\0\0\0\xff", 5, "\"raw\":\"AQAAAP8=\""},
    };
    struct prediction_rules r = {.inputs = DETAIL_FULL, .most = 1024};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct tensor in = {.name = VIEW("x"),
                            .dtype = rows[i].type,
                            .rank = 1,
                            .shape = {1},
                            .data = (const uint8_t *)rows[i].bytes,
                            .bytes = rows[i].n};
        struct infer_request q = {.inputs = &in, .n_inputs = 1};
        struct prediction p = of(&q, NULL);
        expect(&p, &r, rows[i].data);
    }
}

static void what_is_cut(void **state)
{
    (void)state;
    struct tensor in[] = {floats("x", pixels, 1, 4), bytes_of("t", "\2\0\0\0ab\3\0\0\0cde", 13, 2),
                          floats("y", pixels, 1, 1)};
    struct infer_request q = {.inputs = in, .n_inputs = 3};
    struct prediction p = of(&q, NULL);
    struct prediction_rules r = {.inputs = DETAIL_FULL, .most = 15};
    // Whole elements, and nothing is left for those behind.
    expect(&p, &r, "\"cut\":true,\"bytes\":16,\"data\":[0.5,1,-2]},{\"name\":\"t\"");
    r.most = 16 + 12;
    expect(&p, &r, "\"cut\":true,\"bytes\":13,\"data\":[\"ab\"]");
    r.most = 16 + 13;
    expect(&p, &r, "\"data\":[\"ab\",\"cde\"]},{\"name\":\"y\"");
    expect(&p, &r, "\"cut\":true,\"bytes\":4,\"data\":[]}");
    r.most = 0;
    expect(&p, &r, "\"bytes\":16,\"data\":[]");

    // Parts: the second one's first element is not whole within the bound.
    struct tensor one = bytes_of("t", "\1\0\0\0a", 5, 1), two = bytes_of("t", "\1\0\0\0b", 5, 1);
    static const uint64_t offsets[] = {0, 5};
    static const uint64_t *of_outputs[] = {offsets};
    struct answer a = {.outputs = &one, .n_outputs = 1, .rows = 1, .row_offsets = of_outputs},
                  b = {.outputs = &two, .n_outputs = 1, .rows = 1, .row_offsets = of_outputs};
    struct slice behind = {.answer = &b, .rows = 1}, s = {.answer = &a, .rows = 1, .next = &behind};
    p = of(&q, &s);
    r = (struct prediction_rules){.outputs = DETAIL_FULL, .most = 9};
    expect(&p, &r, "\"shape\":[2],\"cut\":true,\"bytes\":10,\"data\":[\"a\"]");
    r.most = 10;
    expect(&p, &r, "\"shape\":[2],\"data\":[\"a\",\"b\"]");
}

// Of 2 GiB no more is looked at than the bound says: the memory behind it is not there.
static void large(void **state)
{
    (void)state;
    uint8_t *data = calloc(1, PREDICTION_HASHED);
    struct tensor in = {.name = VIEW("x"),
                        .dtype = DT_UINT8,
                        .rank = 1,
                        .shape = {(int64_t)1 << 31},
                        .data = data,
                        .bytes = (size_t)1 << 31};
    struct infer_request q = {.inputs = &in, .n_inputs = 1};
    struct prediction p = of(&q, NULL);
    struct prediction_rules r = {.inputs = DETAIL_HASH, .most = 2};
    expect(&p, &r, "\"bytes\":2147483648,\"hashed\":1048576}");
    r.inputs = DETAIL_FULL;
    expect(&p, &r, "\"cut\":true,\"bytes\":2147483648,\"data\":[0,0]}");
    free(data);
}

static void hostile_texts(void **state)
{
    (void)state;
    char text[2 * PREDICTION_TEXT];
    struct infer_request q = {0};
    struct prediction p = of(&q, NULL);
    struct prediction_rules r = {0};
    p.text[PREDICTION_ID] = VIEW("\"}\n{\"\x1b[2J\\\0");
    p.text[PREDICTION_TENANT] = VIEW("\xff\xc3");
    expect(&p, &r, "\"id\":\"\\\"}\\n{\\\"\\u001b[2J\\\\\\u0000\"");
    expect(&p, &r, "\"tenant\":\"\xef\xbf\xbd\xef\xbf\xbd\"");
    memset(text, 1, sizeof(text)); // each needs six bytes
    for (unsigned i = 0; i < PREDICTION_TEXTS; i++)
        p.text[i] = view_of(text, sizeof(text));
    char *line = record(&p, &r);
    assert_true(strlen(line) > 6 * PREDICTION_TEXTS * PREDICTION_TEXT);
    assert_true(strlen(line) < 6 * PREDICTION_TEXTS * PREDICTION_TEXT + 1024);
    free(line);
    // And a tensor's name.
    struct tensor in = floats("", pixels, 1, 1);
    in.name = view_of(text, sizeof(text));
    q = (struct infer_request){.inputs = &in, .n_inputs = 1};
    p = of(&q, NULL);
    r = (struct prediction_rules){.inputs = DETAIL_FULL, .most = 64};
    line = record(&p, &r);
    assert_true(strlen(line) < 6 * PREDICTION_NAME + 512);
    free(line);
}

static void without_memory(void **state)
{
    (void)state;
    struct tensor in = floats("x", pixels, 1, 4);
    struct infer_request q = {.inputs = &in, .n_inputs = 1};
    struct prediction p = of(&q, NULL);
    struct prediction_rules r = {.inputs = DETAIL_FULL, .most = 64};
    uint64_t packed[128];
    struct buffer out;
    assert_true(prediction_room(&p, &r) <= sizeof(packed));
    prediction_pack(packed, &p, &r);
    buffer_init(&out);
    bool failed = true;
    for (unsigned n = 1; failed && n < 100; n++) {
        buffer_deinit(&out);
        buffer_init(&out);
        assert_true(buffer_append(&out, "before", 6));
        mem_fail_at(n);
        failed = !prediction_print(&out, packed, &place);
        mem_fail_at(0);
        if (failed)
            assert_int_equal(buffer_len(&out), 6);
        else
            assert_true(n > 1);
    }
    assert_false(failed);
    buffer_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_of_one),
        cmocka_unit_test(hashes),
        cmocka_unit_test(what_is_redacted),
        cmocka_unit_test(every_datatype),
        cmocka_unit_test(headers_and_parameters),
        cmocka_unit_test(too_many_parameters),
        cmocka_unit_test(what_is_cut),
        cmocka_unit_test(large),
        cmocka_unit_test(hostile_texts),
        cmocka_unit_test(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
