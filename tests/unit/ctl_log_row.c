/* ctl/log_row: records read, and as CSV that nothing breaks out of. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/mem.h"
#include "ctl/log_row.h"

static struct arena arena;
static struct buffer out;

static int setup(void **state)
{
    (void)state;
    arena_init(&arena, 0);
    buffer_init(&out);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    buffer_deinit(&out);
    arena_deinit(&arena);
    return 0;
}

static void expect(const char *line, const char *csv)
{
    struct log_row r;
    buffer_reset(&out);
    assert_true(log_row_read(&r, &arena, view_str(line)));
    assert_true(log_row_print(&r, &out));
    if (!view_is(buffer_view(&out), csv))
        fail_msg("%s: %.*s", line, VIEW_ARG(buffer_view(&out)));
}

#define REST ",,,,,,,,,,,,,,,,,,,,,,,,\r\n" // of the columns behind the fourth

static void rows(void **state)
{
    (void)state;
    expect("{\"record\":\"1-0\",\"instance\":\"a\",\"loop\":3,\"time\":\"t\"}",
           "\"1-0\",\"a\",3,\"t\"" REST);
    expect("{\"loop\":3,\"unknown\":[{\"record\":\"no\"}],\"record\":\"1-0\"}", "\"1-0\",,3," REST);
    expect("{\"record\":\"1-0\",\"time\":\"a\\\"b,\\nc\"}", "\"1-0\",,,\"a\"\"b,\nc\"" REST);
    expect("{\"record\":\"=1\",\"instance\":\"\",\"time\":\"\\u0009x\"}",
           "\"'=1\",\"\",,\"'\tx\"" REST);
    // What is no number of ours is in quotes, whatever its type.
    expect("{\"record\":\"1\",\"loop\":-1,\"time\":null}", "\"1\",,\"'-1\",\"null\"" REST);
    expect("{\"record\":\"1\",\"loop\":{\"a\":[1,\"=\"]}}",
           "\"1\",,\"{\"\"a\"\":[1,\"\"=\"\"]}\"," REST);
    buffer_reset(&out);
    assert_true(log_row_head(&out));
    assert_memory_equal(out.data, "record,instance,loop,time,id,tenant,model,", 42);
}

static void no_records(void **state)
{
    static const char *const lines[] = {"",
                                        "1",
                                        "[]",
                                        "{}",
                                        "{\"a\":1}",
                                        "{\"record\":\"\"}",
                                        "{\"record\":\"1\"",
                                        "{\"record\":\"1\"}x",
                                        "{\"record\":}",
                                        "{\"record\":\"\xff\"}"};
    struct log_row r;
    (void)state;
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        assert_false(log_row_read(&r, &arena, view_str(lines[i])));
}

static void values(void **state)
{
    struct log_row r;
    (void)state;
    assert_true(log_row_read(&r, &arena,
                             VIEW("{\"record\":\"1\",\"model\":\"di\\u0067its\",\"id\":\"\"}")));
    assert_true(view_is(log_row_value(&r, "model"), "digits"));
    assert_non_null(log_row_value(&r, "id").p);
    assert_null(log_row_value(&r, "answered").p);
    assert_null(log_row_value(&r, "nothing").p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rows, setup, teardown),
        cmocka_unit_test_setup_teardown(no_records, setup, teardown),
        cmocka_unit_test_setup_teardown(values, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
