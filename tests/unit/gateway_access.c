/* gateway/access: a line of the access log, byte for byte; what comes from outside in it; time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rand.h"
#include "gateway/access.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define NEW_YEAR_2026 1767225600000000u

static struct buffer line;

static int setup(void **state)
{
    (void)state;
    buffer_init(&line);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mem_fail_at(0);
    buffer_deinit(&line);
    return 0;
}

static struct access_entry entry(void)
{
    return (struct access_entry){.wall_us = NEW_YEAR_2026 + 1,
                                 .client = VIEW("::1"),
                                 .request_id = VIEW("r1"),
                                 .method = VIEW("POST"),
                                 .path = VIEW("/v2/models/digits/infer"),
                                 .model = VIEW("digits"),
                                 .version = VIEW("1"),
                                 .protocol = "h2",
                                 .source = "model",
                                 .reason = "full",
                                 .outcome = "ok",
                                 .status = 200,
                                 .loop = 3,
                                 .whole = true,
                                 .rows = 2,
                                 .batch_rows = 64,
                                 .in_bytes = 300,
                                 .out_bytes = 400,
                                 .parse_us = 1,
                                 .queue_us = 2,
                                 .compute_us = 3,
                                 .total_us = 7};
}

static void expect(const struct access_entry *e, const char *text)
{
    buffer_reset(&line);
    assert_true(access_format(&line, e));
    if (!view_is(buffer_view(&line), text))
        fail_msg("got  %.*swant %s", VIEW_ARG(buffer_view(&line)), text);
}

static void lines(void **state)
{
    (void)state;
    struct access_entry e = entry();
    expect(&e,
           "{\"time\":\"2026-01-01T00:00:00.000001Z\",\"client\":\"::1\",\"id\":\"r1\","
           "\"protocol\":\"h2\","
           "\"method\":\"POST\",\"path\":\"/v2/models/digits/infer\",\"status\":200,"
           "\"outcome\":\"ok\",\"model\":\"digits\",\"version\":\"1\",\"rows\":2,"
           "\"source\":\"model\",\"batch\":64,\"reason\":\"full\",\"queue_us\":2,"
           "\"compute_us\":3,\"in\":300,\"out\":400,\"parse_us\":1,\"total_us\":7,\"loop\":3}\n");
    e.batch_id = 0x1f;
    buffer_reset(&line);
    assert_true(access_format(&line, &e));
    assert_true(buffer_append(&line, "", 1));
    assert_non_null(strstr((char *)line.data, ",\"batch_id\":\"000000000000001f\",\"batch\":64,"));
    e.batch_id = 0;
    e.whole = false;
    e.model = (struct view){0};
    e.outcome = "client_gone";
    e.status = 499;
    expect(&e, "{\"time\":\"2026-01-01T00:00:00.000001Z\",\"client\":\"::1\",\"id\":\"r1\","
               "\"protocol\":\"h2\","
               "\"method\":\"POST\",\"path\":\"/v2/models/digits/infer\",\"status\":499,"
               "\"outcome\":\"client_gone\",\"in\":300,\"out\":400,\"parse_us\":1,\"total_us\":7,"
               "\"loop\":3,\"cut\":true}\n");
    e = entry();
    e.source = "cache";
    e.reason = NULL;
    e.aged = true;
    e.age_s = 61;
    expect(&e, "{\"time\":\"2026-01-01T00:00:00.000001Z\",\"client\":\"::1\",\"id\":\"r1\","
               "\"protocol\":\"h2\","
               "\"method\":\"POST\",\"path\":\"/v2/models/digits/infer\",\"status\":200,"
               "\"outcome\":\"ok\",\"model\":\"digits\",\"version\":\"1\",\"rows\":2,"
               "\"source\":\"cache\",\"age_s\":61,\"in\":300,\"out\":400,\"parse_us\":1,"
               "\"total_us\":7,\"loop\":3}\n");
    e = entry(); // asked for a model, and in no batch
    e.source = e.reason = NULL;
    e.version = (struct view){0};
    e.rows = 0;
    expect(&e, "{\"time\":\"2026-01-01T00:00:00.000001Z\",\"client\":\"::1\",\"id\":\"r1\","
               "\"protocol\":\"h2\","
               "\"method\":\"POST\",\"path\":\"/v2/models/digits/infer\",\"status\":200,"
               "\"outcome\":\"ok\",\"model\":\"digits\",\"in\":300,\"out\":400,\"parse_us\":1,"
               "\"total_us\":7,\"loop\":3}\n");
}

static void lines_of_experiments(void **state)
{
    (void)state;
    struct access_entry e = entry();
    e.experiment = VIEW("size");
    e.variant = VIEW("small");
    e.answered = VIEW("digits-small");
    e.draw = "forced";
    expect(&e,
           "{\"time\":\"2026-01-01T00:00:00.000001Z\",\"client\":\"::1\",\"id\":\"r1\","
           "\"protocol\":\"h2\","
           "\"method\":\"POST\",\"path\":\"/v2/models/digits/infer\",\"status\":200,"
           "\"outcome\":\"ok\",\"model\":\"digits\",\"answered\":\"digits-small\","
           "\"version\":\"1\",\"experiment\":\"size\",\"variant\":\"small\",\"draw\":\"forced\","
           "\"rows\":2,\"source\":\"model\",\"batch\":64,\"reason\":\"full\",\"queue_us\":2,"
           "\"compute_us\":3,\"in\":300,\"out\":400,\"parse_us\":1,\"total_us\":7,\"loop\":3}\n");
}

static void refused_lines(void **state)
{
    (void)state;
    struct access_entry e = {.wall_us = NEW_YEAR_2026,
                             .client = VIEW("10.0.0.7"),
                             .status = 400,
                             .outcome = "bad_request",
                             .why = "host: missing",
                             .loop = 1};
    expect(&e, "{\"time\":\"2026-01-01T00:00:00.000000Z\",\"client\":\"10.0.0.7\",\"status\":400,"
               "\"outcome\":\"bad_request\",\"why\":\"host: missing\",\"loop\":1}\n");
}

// Row 133: whatever the bytes are, it is one line of JSON without a control character, and bounded.
static void hostile_fields(void **state)
{
    (void)state;
    char bytes[4096];
    struct rand r;
    rand_seed(&r, 133);
    for (unsigned round = 0; round < 500; round++) {
        size_t n = 1 + rand_below(&r, sizeof(bytes));
        unsigned span = round % 3 == 0 ? 256 : round % 3 == 1 ? 32 : 128;
        for (size_t i = 0; i < n; i++)
            bytes[i] = (char)(rand_below(&r, span));
        struct access_entry e = entry();
        e.request_id = e.method = e.path = e.model = e.version = view_of(bytes, n);
        buffer_reset(&line);
        assert_true(access_format(&line, &e));
        struct view v = buffer_view(&line);
        assert_true(v.n < 5 * ACCESS_FIELD_MAX * 6 + 1000);
        assert_int_equal(v.p[v.n - 1], '\n');
        for (size_t i = 0; i + 1 < v.n; i++)
            assert_true((unsigned char)v.p[i] >= 0x20);
        json_t *json = json_loadb(v.p, v.n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
        assert_non_null(json);
        json_decref(json);
    }
}

static size_t path_bytes(size_t n, const char *end)
{
    char path[2 * ACCESS_FIELD_MAX];
    struct access_entry e = entry();
    memset(path, 'a', n);
    size_t more = strlen(end);
    memcpy(path + n, end, more);
    e.path = view_of(path, n + more);
    buffer_reset(&line);
    assert_true(access_format(&line, &e));
    json_t *json = json_loadb(buffer_view(&line).p, buffer_len(&line), 0, NULL);
    size_t got = json_string_length(json_object_get(json, "path"));
    json_decref(json);
    return got;
}

static void long_fields_are_cut(void **state)
{
    (void)state;
    assert_int_equal(path_bytes(ACCESS_FIELD_MAX - 1, ""), ACCESS_FIELD_MAX - 1);
    assert_int_equal(path_bytes(ACCESS_FIELD_MAX, ""), ACCESS_FIELD_MAX);
    assert_int_equal(path_bytes(ACCESS_FIELD_MAX, "b"), ACCESS_FIELD_MAX);
    // In the middle of a character: what is left of it becomes U+FFFD, and the line stays JSON.
    assert_int_equal(path_bytes(ACCESS_FIELD_MAX - 1, "\xc3\xa9"), ACCESS_FIELD_MAX - 1 + 3);
}

static void times(void **state)
{
    (void)state;
    static const struct {
        uint64_t wall_us;
        const char *text;
    } rows[] = {
        {0, "1970-01-01T00:00:00.000000Z"},
        {NEW_YEAR_2026 - 1, "2025-12-31T23:59:59.999999Z"},
        {NEW_YEAR_2026, "2026-01-01T00:00:00.000000Z"},
        {NEW_YEAR_2026 + 999999, "2026-01-01T00:00:00.999999Z"},
        {1709164799123456, "2024-02-28T23:59:59.123456Z"},
        {1709251199000001, "2024-02-29T23:59:59.000001Z"},
        {2147483648000000, "2038-01-19T03:14:08.000000Z"}, // beyond 32 bits
        {4294967296000000, "2106-02-07T06:28:16.000000Z"},
        {NEW_YEAR_2026, "2026-01-01T00:00:00.000000Z"}, // the clock was set back
    };
    char text[32];
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(access_time(text, rows[i].wall_us), 27);
        text[27] = '\0';
        assert_string_equal(text, rows[i].text);
    }
}

static void no_memory(void **state)
{
    (void)state;
    struct access_entry e = entry();
    char long_id[ACCESS_FIELD_MAX];
    memset(long_id, 'i', sizeof(long_id));
    e.request_id = e.path = view_of(long_id, sizeof(long_id));
    assert_true(buffer_append(&line, "before\n", 7));
    for (unsigned n = 1;; n++) {
        mem_fail_at(n);
        bool ok = access_format(&line, &e);
        mem_fail_at(0);
        if (ok) {
            assert_true(n > 1);
            return;
        }
        assert_true(view_is(buffer_view(&line), "before\n"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lines, setup, teardown),
        cmocka_unit_test_setup_teardown(lines_of_experiments, setup, teardown),
        cmocka_unit_test_setup_teardown(refused_lines, setup, teardown),
        cmocka_unit_test_setup_teardown(hostile_fields, setup, teardown),
        cmocka_unit_test_setup_teardown(long_fields_are_cut, setup, teardown),
        cmocka_unit_test_setup_teardown(times, setup, teardown),
        cmocka_unit_test_setup_teardown(no_memory, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
