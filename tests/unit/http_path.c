/* The one canonical form of a target, and what passes as an authority. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/mem.h"
#include "http/conn.h"
#include <stdio.h>

static const char *canonical(const char *target, size_t n, char out[4096], char query[4096])
{
    struct arena a;
    struct view path = {0}, q = {0};
    arena_init(&a, 0);
    char *exact = mem_must(n ? n : 1); // so that ASan sees a read past the end
    memcpy(exact, target, n);
    const char *why = path_canonical(&a, view_of(exact, n), &path, &q);
    if (!why) {
        snprintf(out, 4096, "%.*s", VIEW_ARG(path));
        snprintf(query, 4096, "%.*s", VIEW_ARG(q));
    }
    arena_deinit(&a);
    mem_free(exact);
    return why;
}

static void one_form_of_each_path(void **state)
{
    static const struct {
        const char *target, *path, *query;
    } rows[] = {
        {"/", "/", ""},
        {"/v2/models/a", "/v2/models/a", ""},
        {"/a?x=1&y=%2F?", "/a", "x=1&y=%2F?"},
        {"/a?", "/a", ""},
        {"/?q", "/", "q"},
        // row 35: dot segments, plain and escaped, in every mixture
        {"/a/../b", "/b", ""},
        {"/a/%2e%2e/b", "/b", ""},
        {"/a/%2E./b", "/b", ""},
        {"/a/.%2e/b", "/b", ""},
        {"/../../etc", "/etc", ""},
        {"/..", "/", ""},
        {"/.", "/", ""},
        {"/a/.", "/a/", ""},
        {"/a/..", "/", ""},
        {"/a/b/..", "/a/", ""},
        {"/a/./b", "/a/b", ""},
        {"/./a", "/a", ""},
        {"/a//b", "/a//b", ""},
        {"/a//../b", "/a/b", ""},
        {"/...", "/...", ""},
        {"/a/..b/.c", "/a/..b/.c", ""},
        {"/a/../../b/./c/..", "/b/", ""},
        {"/a/b?x=/../y", "/a/b", "x=/../y"},
        // escapes: unreserved decoded, the rest kept in capitals, decoded once only
        {"/%61%7E%2d", "/a~-", ""},
        {"/%3a%C3%a9", "/%3A%C3%A9", ""},
        {"/my%2Bmodel%40v1", "/my+model@v1", ""},
        {"/my+model@v1", "/my+model@v1", ""},
        {"/my%252Bmodel", "/my%252Bmodel", ""},
        {"/%252e%252e/x", "/%252e%252e/x", ""},
        {"/%25", "/%25", ""},
        {"/a%20b", "/a%20b", ""},
        {"/a;v=1", "/a;v=1", ""},
    };
    char path[4096], query[4096];
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_null(canonical(rows[i].target, strlen(rows[i].target), path, query));
        assert_string_equal(path, rows[i].path);
        assert_string_equal(query, rows[i].query);
        // canonical means: once more changes nothing
        char again[4096], q[4096];
        assert_null(canonical(path, strlen(path), again, q));
        assert_string_equal(again, path);
    }
}

static void refuses_what_programs_read_differently(void **state)
{
    static const struct {
        const char *target;
        size_t n;
    } rows[] = {
#define ROW(s) {s, sizeof(s) - 1}
        ROW(""),         ROW("a"),         ROW("?a"),         ROW("*"),          ROW("%2fa"),
        ROW("/a%2fb"),   ROW("/a%2Fb"),    ROW("/a%5cb"),     ROW("/a%00"),      ROW("/a\\b"),
        ROW("/a\0b"),    ROW("/a b"),      ROW("/a\tb"),      ROW("/a\x7f"),     ROW("/a\xc3\xa9"),
        ROW("/a#b"),     ROW("/a?b#c"),    ROW("/a?b c"),     ROW("/a?\x01"),    ROW("/a?\x80"),
        ROW("/%"),       ROW("/%4"),       ROW("/%4g"),       ROW("/%g4"),       ROW("/%%41"),
        ROW("/a/..;/b"), ROW("/a/..;x=1"), ROW("/a/%2e.;/b"), ROW("/a/.;/b"),    ROW("/a\r\nb"),
        ROW("/a\nb"),    ROW("/a?\r\n"),   ROW("/a?x\0"),     ROW("/a/%2e%2e;"),
    };
    char path[4096], query[4096];
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *why = canonical(rows[i].target, rows[i].n, path, query);
        if (!why)
            fail_msg("accepted: %s as %s", rows[i].target, path);
        assert_null(strchr(why, '%')); // it never quotes what came
    }
}

static void out_of_memory_is_said(void **state)
{
    char path[4096], query[4096];
    mem_fail_at(1);
    const char *why = canonical("/a/b", 4, path, query);
    mem_fail_at(0);
    assert_string_equal(why, "out of memory");
}

static void authorities(void **state)
{
    static const char *const good[] = {
        "a",
        "example.com",
        "example.com:80",
        "127.0.0.1:65535",
        "[::1]",
        "[::1]:8000",
        "[::]",
        "a_b",
        "a:",
        "[1:2::3.4.5.6]",
        "a:0",
        "xn--bcher-kva.example",
        "A.B-c~",
        "tmp%2Fa%3Db.sock", // gRPC over a Unix socket
        "%2frun%2fs",
    };
    static const struct {
        const char *p;
        size_t n;
    } bad[] = {
        ROW(""),         ROW("a b"),      ROW("a/b"),    ROW("a\0b"),
        ROW("a\x01"),    ROW("user@a"),   ROW("u:p@a"),  ROW("a:65536"),
        ROW("a:-1"),     ROW("a:123456"), ROW("a:x"),    ROW("a:80:80"),
        ROW(":80"),      ROW("[::1"),     ROW("[::1]x"), ROW("[]"),
        ROW("[g::1]"),   ROW("::1"),      ROW("a,b"),    ROW("a%41"),
        ROW("a\r\nx:1"), ROW("http://a"), ROW("a?b"),    ROW("a#b"),
        ROW("\xc3\xa9"), ROW("[::1]:x"),  ROW("a:80 "),  ROW(" a"),
        ROW("[:]"),      ROW("[:a"),      ROW("a\\b"),   ROW("[fe80::1%25eth0]"),
        ROW("a%40b"),    ROW("tmp%"),     ROW("tmp%00"), ROW("tmp%0d"),
        ROW("%2"),       ROW("a%2Fa@b"),  ROW("a%2F/b"), ROW("tmp%2g"),
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        if (!authority_ok(view_str(good[i])))
            fail_msg("refused: %s", good[i]);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char *exact = mem_must(bad[i].n ? bad[i].n : 1);
        memcpy(exact, bad[i].p, bad[i].n);
        if (authority_ok(view_of(exact, bad[i].n)))
            fail_msg("accepted: %s", bad[i].p);
        mem_free(exact);
    }
    assert_true(authorities_ok(VIEW("10.0.0.1:80,[::1]:81,b")) && authorities_ok(VIEW("a:80")));
    assert_false(authorities_ok(VIEW("a:80,")) || authorities_ok(VIEW(",a")) ||
                 authorities_ok(VIEW("a,,b")) || authorities_ok(VIEW("a,u@b")) ||
                 authorities_ok(VIEW("")) || authorities_ok(VIEW(",")));
    char long_name[300];
    memset(long_name, 'a', sizeof(long_name));
    assert_true(authority_ok(view_of(long_name, 255)));
    assert_false(authority_ok(view_of(long_name, 256)));
    long_name[200] = ',';
    assert_true(authorities_ok(view_of(long_name, 255)));
    assert_false(authorities_ok(view_of(long_name, 256)));
}

static void lengths(void **state)
{
    int64_t n = -1;
    assert_true(content_length_of(VIEW("0"), &n));
    assert_int_equal(n, 0);
    assert_true(content_length_of(VIEW("0005"), &n));
    assert_int_equal(n, 5);
    assert_true(content_length_of(VIEW("9223372036854775807"), &n));
    assert_int_equal(n, INT64_MAX);
    static const char *const bad[] = {
        "",
        "+5",
        "-5",
        "0x5",
        "5_0",
        "5 5",
        "5;",
        "\"5\"",
        "5,5",
        " 5",
        "5 ",
        "5.0",
        "1e3",
        "٥",
        "a",
        "9223372036854775808",                       // 2^63
        "18446744073709551621",                      // 2^64 + 5
        "99999999999999999999999999999999999999999", // past 40 digits
        "00000000000000000000000000000000000000000000000000000005",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (content_length_of(view_str(bad[i]), &n))
            fail_msg("accepted: %s", bad[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_form_of_each_path),
        cmocka_unit_test(refuses_what_programs_read_differently),
        cmocka_unit_test(out_of_memory_is_said),
        cmocka_unit_test(authorities),
        cmocka_unit_test(lengths),
    };
    return cmocka_run_group_tests_name("http: targets and authorities", tests, NULL, NULL);
}
