/* gateway/admin: what may be a token. Its pages and who may see them: tests/integration/test_admin.py. */
#include "tests/unit/token_file.h"

#include "gateway/admin.h"
#include <string.h>

static void taken(const char *bytes, size_t n, const char *want)
{
    char token[257];
    const char *why = NULL;
    put(bytes, n, 0600);
    if (admin_read_token(path, token, &why) != 0)
        fail_msg("%s", why);
    assert_string_equal(token, want);
}

static void refused(const char *bytes, size_t n, const char *want)
{
    char token[257];
    const char *why = NULL;
    put(bytes, n, 0600);
    assert_int_equal(admin_read_token(path, token, &why), -1);
    assert_non_null(strstr(why, want));
}
#define ACCEPT(text, want) taken(text, sizeof(text) - 1, want)
#define REFUSE(text, want) refused(text, sizeof(text) - 1, want)

static void tokens(void **state)
{
    (void)state;
    char long_one[300];
    memset(long_one, 'x', sizeof(long_one));
    ACCEPT("0123456789abcdef", "0123456789abcdef");
    ACCEPT("0123456789abcdef\n", "0123456789abcdef");
    ACCEPT("0123456789abcdef \t\r\n\n", "0123456789abcdef");
    ACCEPT("open sesame, please", "open sesame, please");
    REFUSE("0123456789abcde", "shorter than 16");
    REFUSE("0123456789abcde\n\n\n", "shorter than 16");
    REFUSE("", "shorter than 16");
    REFUSE("                    ", "shorter than 16");
    refused(long_one, 257, "longer than 256");
    long_one[256] = '\0';
    taken(long_one, 256, long_one);
}

// A NUL would end the comparison early, and what no header field may carry could never be sent.
static void bytes_that_no_token_has(void **state)
{
    (void)state;
    REFUSE("a\0bcdefghijklmnopqrstuvwxyz", "control character");
    REFUSE("\0bcdefghijklmnopqrstuvwxyz", "control character");
    REFUSE("first line of it\nsecond line\n", "control character");
    REFUSE("0123456789abcdef\x1b[31m", "control character");
}

static void files(void **state)
{
    (void)state;
    char token[257];
    const char *why = NULL;
    unlink(path);
    assert_int_equal(admin_read_token(path, token, &why), -1);
    assert_string_equal(why, "No such file or directory");
    assert_int_equal(admin_read_token(token_dir, token, &why), -1);
    assert_string_equal(why, "Is a directory");
    assert_int_equal(mkfifo(path, 0600), 0); // nobody writes: no start must wait for that
    assert_int_equal(admin_read_token(path, token, &why), -1);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens),
        cmocka_unit_test(bytes_that_no_token_has),
        cmocka_unit_test(files),
    };
    alarm(300); // a test that waits for ever is one that failed
    return cmocka_run_group_tests(tests, make, clean);
}
