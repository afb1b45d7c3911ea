// ctl/frame: events of /live as a frame of text: rates, order, who comes and goes, what is missing.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ctl/frame.h"
#include <stdio.h>
#include <string.h>

static struct top_frame frame;

static int begin(void **state)
{
    (void)state;
    frame_init(&frame);
    return 0;
}

static int end(void **state)
{
    (void)state;
    frame_deinit(&frame);
    return 0;
}

static bool take(const char *text)
{
    json_t *event = json_loads(text, 0, NULL);
    assert_non_null(event);
    bool ok = frame_take(&frame, event);
    json_decref(event);
    return ok;
}

// The names of the models in the order of a frame, each with a space behind it.
static void shows(enum frame_sort by, size_t first, size_t most, const char *names)
{
    char got[200] = "";
    struct buffer text;
    buffer_init(&text);
    assert_true(frame_text(&frame, by, first, most, &text));
    assert_true(buffer_append(&text, "", 1));
    const char *at = strstr((const char *)buffer_view(&text).p, "\n\n");
    at = at ? strchr(at + 2, '\n') : NULL; // behind the heads
    while (at && at[1]) {
        size_t n = strcspn(at + 1, " ");
        snprintf(got + strlen(got), sizeof(got) - strlen(got), "%.*s ", (int)n, at + 1);
        at = strchr(at + 1, '\n');
    }
    assert_string_equal(got, names);
    buffer_deinit(&text);
}

static bool has(const char *part)
{
    struct buffer text;
    buffer_init(&text);
    assert_true(frame_text(&frame, FRAME_BY_RATE, 0, 100, &text) && buffer_append(&text, "", 1));
    bool found = strstr((const char *)buffer_view(&text).p, part) != NULL;
    buffer_deinit(&text);
    return found;
}

#define WHOLE                                                                                      \
    "{\"whole\":true,\"models\":["                                                                 \
    "{\"name\":\"a\",\"waiting\":1,\"level\":0,\"answers\":{\"model\":900}},"                      \
    "{\"name\":\"b\",\"waiting\":5,\"level\":1,\"answers\":{\"model\":100}},"                      \
    "{\"name\":\"c\",\"waiting\":3,\"level\":2}]}"

static void sorts(void **state)
{
    assert_true(take(WHOLE));
    assert_true(take("{\"whole\":false,\"ms\":1000,\"models\":["
                     "{\"name\":\"a\",\"waiting\":1,\"answers\":{\"model\":1},\"p99_us\":700},"
                     "{\"name\":\"c\",\"waiting\":3,\"level\":2,\"answers\":{\"model\":2},"
                     "\"failures\":{\"deadline\":1},\"p99_us\":20}]}"));
    shows(FRAME_BY_RATE, 0, 9, "c a b ");
    shows(FRAME_BY_P99, 0, 9, "a c b ");
    shows(FRAME_BY_WAITING, 0, 9, "b c a ");
    shows(FRAME_BY_LEVEL, 0, 9, "c b a ");
    shows(FRAME_BY_NAME, 0, 9, "a b c ");
    shows(FRAME_BY_NAME, 1, 1, "b ");
    shows(FRAME_BY_NAME, 3, 9, "");
    shows(FRAME_BY_NAME, 0, 0, "");
}

static void rates_are_of_the_last_event_alone(void **state)
{
    assert_true(take(WHOLE));
    assert_true(has("- requests/s"));
    assert_true(take("{\"whole\":false,\"ms\":500,\"models\":["
                     "{\"name\":\"a\",\"answers\":{\"model\":3,\"cache\":1}}]}"));
    assert_true(has(": 8.0 requests/s, 0.0 failed/s"));
    assert_true(take("{\"whole\":false,\"ms\":1000,\"models\":[]}"));
    assert_true(has(": 0.0 requests/s, 0.0 failed/s")); // it was silent
    assert_true(take(WHOLE));
    assert_true(has("- requests/s")); // all of its life is no rate
}

static void models_come_and_go(void **state)
{
    assert_true(take(WHOLE));
    assert_true(
        take("{\"whole\":false,\"ms\":1,\"gone\":[\"b\",\"x\",7],\"models\":[{\"name\":\"d\"}]}"));
    shows(FRAME_BY_NAME, 0, 9, "a c d ");
    assert_true(take("{\"whole\":true,\"models\":[{\"name\":\"e\"}]}"));
    shows(FRAME_BY_NAME, 0, 9, "e ");
}

static void what_is_missing_or_none(void **state)
{
    static const char *const none[] = {
        "{}",
        "[]",
        "{\"whole\":true}",
        "{\"models\":[]}",
        "{\"whole\":true,\"models\":{}}",
        "{\"whole\":true,\"models\":[7]}",
        "{\"whole\":true,\"models\":[{}]}",
        "{\"whole\":true,\"models\":[{\"name\":7}]}",
    };
    struct buffer text;
    buffer_init(&text);
    assert_false(frame_text(&frame, FRAME_BY_RATE, 0, 9, &text));
    buffer_deinit(&text);
    for (unsigned i = 0; i < sizeof(none) / sizeof(none[0]); i++)
        assert_false(take(none[i]));
    assert_true(take("{\"whole\":false,\"ms\":-5,\"loops\":7,\"models\":[{\"name\":\"a\","
                     "\"answers\":7,\"failures\":{\"x\":\"y\",\"z\":-3},\"level\":\"high\","
                     "\"cause\":null}]}"));
    shows(FRAME_BY_RATE, 0, 9, "a ");
    assert_true(has("sluice - for 0s, level 0: - requests/s"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(sorts, begin, end),
        cmocka_unit_test_setup_teardown(rates_are_of_the_last_event_alone, begin, end),
        cmocka_unit_test_setup_teardown(models_come_and_go, begin, end),
        cmocka_unit_test_setup_teardown(what_is_missing_or_none, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
