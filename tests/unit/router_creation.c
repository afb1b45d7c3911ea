/* router/creation: an experiment that was created, as it is kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "router/creation.h"
#include <string.h>

#define HEAD "# sluice 1 size 00000000000000ab 1700000000000000 "
#define TEXT "experiment \"size\" {\n}\n"

static void what_is_written_is_read(void **state)
{
    (void)state;
    struct creation c, got;
    struct buffer out;
    char wrong[TRIAL_WRONG];
    creation_init(&c);
    creation_init(&got);
    buffer_init(&out);
    strcpy(c.name, "size");
    strcpy(c.who, "127.0.0.1");
    strcpy(c.why, "two\nlines");
    c.mark = 0xab;
    c.at_us = UINT64_C(1700000000000000);
    c.start = true;
    assert_true(buffer_append(&c.text, TEXT, strlen(TEXT)));
    assert_true(creation_write(&out, &c));
    assert_true(view_is(buffer_view(&out), HEAD "start own 127.0.0.1\n# two lines\n" TEXT));
    assert_true(creation_read(&got, buffer_view(&out), wrong));
    assert_string_equal(got.name, "size");
    assert_string_equal(got.who, "127.0.0.1");
    assert_string_equal(got.why, "two lines");
    assert_true(got.mark == c.mark && got.at_us == c.at_us && got.start && !got.shared);
    assert_true(view_is(buffer_view(&got.text), TEXT));
    creation_deinit(&got);
    for (size_t n = 0; n + strlen(TEXT) <= buffer_len(&out); n++) { // cut anywhere before the text
        creation_init(&got);
        assert_false(creation_read(&got, view_of(buffer_view(&out).p, n), wrong));
        assert_true(wrong[0]);
        creation_deinit(&got);
    }
    creation_deinit(&c);
    buffer_deinit(&out);
}

static void what_is_no_creation(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"experiment \"size\" {}\n", "line 1: expected # sluice 1"},
        {"# sluice 2 size 00000000000000ab 1 start own me\n# w\nx", "line 1: expected # sluice 1"},
        {"# sluice 1 size 00000000000000ab 1 start own\n# w\nx", "NAME MARK TIME"},
        {"# sluice 1 a/b 00000000000000ab 1 start own me\n# w\nx", "it is no name"},
        {"# sluice 1  00000000000000ab 1 start own me\n# w\nx", "it is no name"},
        {"# sluice 1 size 00000000000000aB 1 start own me\n# w\nx", "16 hexadecimal digits"},
        {"# sluice 1 size 0000000000000000 1 start own me\n# w\nx", "16 hexadecimal digits"},
        {"# sluice 1 size 0ab 1 start own me\n# w\nx", "16 hexadecimal digits"},
        {"# sluice 1 size 00000000000000ab -1 start own me\n# w\nx", "a time"},
        {"# sluice 1 size 00000000000000ab 99999999999999999 start own me\n# w\nx", "a time"},
        {"# sluice 1 size 00000000000000ab 1 begin own me\n# w\nx", "draft or start"},
        {"# sluice 1 size 00000000000000ab 1 draft mine me\n# w\nx", "own or shared"},
        {"# sluice 1 size 00000000000000ab 1 draft own "
         "mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm\n# w\nx",
         "who"},
        {"# sluice 1 size 00000000000000ab 1 draft own me\nwhy\nx", "line 2"},
        {"# sluice 1 size 00000000000000ab 1 draft own me\n# w\n", "the text of a section"},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct creation got;
        char wrong[TRIAL_WRONG];
        creation_init(&got);
        if (creation_read(&got, view_str(rows[i][0]), wrong))
            fail_msg("taken: %s", rows[i][0]);
        if (!strstr(wrong, rows[i][1]))
            fail_msg("%s: %s", rows[i][0], wrong);
        creation_deinit(&got);
    }
}

static void a_text_is_bounded(void **state)
{
    (void)state;
    struct creation got;
    struct buffer bytes;
    char wrong[TRIAL_WRONG];
    for (unsigned more = 0; more < 2; more++) {
        buffer_init(&bytes);
        creation_init(&got);
        assert_true(buffer_append(&bytes, HEAD "draft shared me\n# \n", strlen(HEAD) + 19));
        uint8_t *at = buffer_reserve(&bytes, CREATION_TEXT + more);
        memset(at, '#', CREATION_TEXT + more);
        buffer_commit(&bytes, CREATION_TEXT + more);
        assert_int_equal(creation_read(&got, buffer_view(&bytes), wrong), more == 0);
        buffer_deinit(&bytes);
        creation_deinit(&got);
    }
}

static void the_older_comes_first(void **state)
{
    (void)state;
    struct creation a = {.name = "b", .at_us = 1}, b = {.name = "a", .at_us = 2},
                    c = {.name = "c", .at_us = 2};
    assert_true(creation_compare(&a, &b) < 0 && creation_compare(&b, &a) > 0);
    assert_true(creation_compare(&b, &c) < 0 && creation_compare(&c, &b) > 0);
    assert_true(creation_compare(&b, &b) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(what_is_no_creation),
        cmocka_unit_test(a_text_is_bounded),
        cmocka_unit_test(the_older_comes_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
