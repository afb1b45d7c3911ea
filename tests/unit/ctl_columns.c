/* ctl/columns, ctl/units: columns for people, and what strangers' names do to them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/mem.h"
#include "ctl/columns.h"
#include "ctl/units.h"
#include <unistd.h>

static void printed(struct columns *t, const char *want)
{
    struct buffer out;
    buffer_init(&out);
    assert_true(columns_print(t, &out));
    assert_true(buffer_append(&out, "", 1));
    assert_string_equal((const char *)out.data, want);
    buffer_deinit(&out);
    columns_deinit(t);
}

static void columns(void **state)
{
    static const char *const heads[] = {"NAME", ">ROWS", "WHY", NULL};
    struct columns t;
    (void)state;
    columns_init(&t, heads);
    columns_cell(&t, "digits");
    columns_cellf(&t, "%d", 7);
    columns_cell(&t, "");
    columns_cell(&t, "a");
    columns_cellf(&t, "%d", 123456);
    columns_cell(&t, "longer than its head");
    columns_cell(&t, NULL);
    columns_cell(&t, NULL);
    columns_cell(&t, "x");
    printed(&t, "NAME      ROWS  WHY\n"
                "digits       7  -\n"
                "a       123456  longer than its head\n"
                "-            -  x\n");
}

// A column of numbers at the end, and one column alone: no space at the end of a line.
static void last_columns(void **state)
{
    static const char *const numbers[] = {"A", ">N", NULL}, *const one[] = {"ONE", NULL};
    struct columns t;
    (void)state;
    columns_init(&t, numbers);
    columns_cell(&t, "aa");
    columns_cell(&t, "100");
    columns_cell(&t, "b");
    columns_cell(&t, "2");
    printed(&t, "A     N\naa  100\nb     2\n");
    columns_init(&t, one);
    columns_cell(&t, "x");
    printed(&t, "ONE\nx\n");
    columns_init(&t, one);
    printed(&t, "");
}

static void a_row_that_is_not_whole(void **state)
{
    static const char *const heads[] = {"A", "B", NULL};
    struct columns t;
    (void)state;
    columns_init(&t, heads);
    for (unsigned i = 0; i < 3; i++)
        columns_cell(&t, "c");
    printed(&t, "A  B\nc  c\n");
}

// Nothing moves the terminal; the width is that of characters, not of bytes.
static void strangers_names(void **state)
{
    static const char *const heads[] = {"NAME", "X", NULL};
    struct columns t;
    (void)state;
    columns_init(&t, heads);
    columns_cell(&t, "gr\xc3\xbc\xc3\x9f");
    columns_cell(&t, "1");
    columns_cell(&t, "\x1b[31m\r\n\t\x7f");
    columns_cell(&t, "2");
    columns_cell(&t, "a\xc2\x9b"
                     "b");
    columns_cell(&t, "3");
    printed(&t, "NAME       X\n"
                "gr\xc3\xbc\xc3\x9f       1\n"
                "?[31m????  2\n"
                "a?b        3\n");
}

static void out_of_memory(void **state)
{
    static const char *const heads[] = {"NAME", "X", NULL};
    bool ok = false;
    (void)state;
    for (uint64_t n = 1; !ok; n++) {
        struct columns t;
        struct buffer out;
        assert_true(n < 100);
        buffer_init(&out);
        mem_fail_at(n);
        columns_init(&t, heads);
        columns_cell(&t, "a");
        columns_cell(&t, "b");
        ok = columns_print(&t, &out);
        mem_fail_at(0);
        assert_int_equal(ok, buffer_len(&out) == strlen("NAME  X\na     b\n"));
        columns_deinit(&t);
        buffer_deinit(&out);
    }
}

static void units(void **state)
{
    char t[UNITS_TEXT];
    (void)state;
    assert_string_equal(units_bytes(t, 0), "0 B");
    assert_string_equal(units_bytes(t, 1023), "1023 B");
    assert_string_equal(units_bytes(t, 1024), "1.0 KiB");
    assert_string_equal(units_bytes(t, 1048575), "1.0 MiB"); // not 1024.0 KiB
    assert_string_equal(units_bytes(t, 6319015936), "5.9 GiB");
    assert_string_equal(units_bytes(t, UINT64_MAX), "16.0 EiB");
    assert_string_equal(units_duration(t, 0), "0us");
    assert_string_equal(units_duration(t, 999), "999us");
    assert_string_equal(units_duration(t, 1000), "1.0ms");
    assert_string_equal(units_duration(t, 999949), "999.9ms");
    assert_string_equal(units_duration(t, 999950), "1.0s");
    assert_string_equal(units_uptime(t, 0), "0s");
    assert_string_equal(units_uptime(t, 59), "59s");
    assert_string_equal(units_uptime(t, 3599), "59m 59s");
    assert_string_equal(units_uptime(t, 3600), "1h 0m");
    assert_string_equal(units_uptime(t, 86399), "23h 59m");
    assert_string_equal(units_uptime(t, 86400 * 400), "400d 0h");
    assert_true(strlen(units_uptime(t, UINT64_MAX)) < UNITS_TEXT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns),
        cmocka_unit_test(last_columns),
        cmocka_unit_test(a_row_that_is_not_whole),
        cmocka_unit_test(strangers_names),
        cmocka_unit_test(out_of_memory),
        cmocka_unit_test(units),
    };
    alarm(300); // a test that waits for ever is one that failed
    return cmocka_run_group_tests(tests, NULL, NULL);
}
