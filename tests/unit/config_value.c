// The words that values are written in.
#include "base/check.h"
#include "config/value.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
// cmocka wants the four above before it
#include <cmocka.h>

struct row {
    const char *text;
    enum value_result result;
    uint64_t value;
};

typedef enum value_result reader(struct view v, uint64_t *out);

static void each(reader *read, const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t v = 0;
        enum value_result r = read(view_str(rows[i].text), &v);
        if (r != rows[i].result || (r == VALUE_OK && v != rows[i].value))
            fail_msg("\"%s\": got result %d, value %llu", rows[i].text, r, (unsigned long long)v);
    }
}
#define EACH(read, rows) each(read, rows, sizeof(rows) / sizeof(*(rows)))

static void durations(void **state)
{
    static const struct row rows[] = {
        {"0", VALUE_OK, 0},
        {"2ms", VALUE_OK, 2000},
        {"1.5s", VALUE_OK, 1500000},
        {"250us", VALUE_OK, 250},
        {"10m", VALUE_OK, 600000000},
        {"24h", VALUE_OK, 86400000000},
        {"7d", VALUE_OK, 604800000000},
        {"0.25h", VALUE_OK, 900000000},
        {"1.5us", VALUE_SYNTAX, 0}, // half a microsecond cannot be kept
        {"", VALUE_SYNTAX, 0},
        {"s", VALUE_SYNTAX, 0},
        {"5", VALUE_SYNTAX, 0}, // of what?
        {"5 s", VALUE_SYNTAX, 0},
        {"-5s", VALUE_SYNTAX, 0},
        {"5S", VALUE_SYNTAX, 0},
        {"5s ", VALUE_SYNTAX, 0},
        {"1.s", VALUE_SYNTAX, 0},
        {".5s", VALUE_SYNTAX, 0},
        {"1.0000001s", VALUE_SYNTAX, 0},
        {"1e3s", VALUE_SYNTAX, 0},
        {"5weeks", VALUE_SYNTAX, 0},
        {"18446744073709551615us", VALUE_OK, UINT64_MAX},
        {"18446744073709551616us", VALUE_RANGE, 0},
        {"18446744073709551615s", VALUE_RANGE, 0},
        {"999999999999999999999999999999s", VALUE_RANGE, 0},
    };
    EACH(value_duration, rows);
}

static void sizes(void **state)
{
    static const struct row rows[] = {
        {"0", VALUE_OK, 0},
        {"512", VALUE_OK, 512},
        {"64KiB", VALUE_OK, 65536},
        {"64MiB", VALUE_OK, 64u << 20},
        {"1.5KiB", VALUE_OK, 1536},
        {"64kB", VALUE_OK, 64000},
        {"1TiB", VALUE_OK, 1ull << 40},
        {"0.3KiB", VALUE_SYNTAX, 0},
        {"64mib", VALUE_SYNTAX, 0},
        {"0x10", VALUE_SYNTAX, 0},
        {"64MiBx", VALUE_SYNTAX, 0},
        {"16777216TiB", VALUE_RANGE, 0},
        {"16777215TiB", VALUE_OK, 16777215ull << 40},
    };
    EACH(value_size, rows);
}

static void shares_counts_bools(void **state)
{
    static const struct row shares[] = {
        {"0%", VALUE_OK, 0},         {"2%", VALUE_OK, 20000},       {"12.5%", VALUE_OK, 125000},
        {"100%", VALUE_OK, 1000000}, {"100.0001%", VALUE_RANGE, 0}, {"0.00001%", VALUE_SYNTAX, 0},
        {"2", VALUE_SYNTAX, 0},      {"0.5", VALUE_SYNTAX, 0},
    };
    static const struct row counts[] = {
        {"0", VALUE_OK, 0},      {"64", VALUE_OK, 64},     {"+5", VALUE_SYNTAX, 0},
        {"-1", VALUE_SYNTAX, 0}, {"5.0", VALUE_SYNTAX, 0}, {"18446744073709551616", VALUE_RANGE, 0},
        {"", VALUE_SYNTAX, 0},
    };
    static const struct row bools[] = {
        {"true", VALUE_OK, 1}, {"on", VALUE_OK, 1},       {"no", VALUE_OK, 0},
        {"off", VALUE_OK, 0},  {"True", VALUE_SYNTAX, 0}, {"1", VALUE_SYNTAX, 0},
    };
    EACH(value_share, shares);
    EACH(value_count, counts);
    EACH(value_bool, bools);
}

static void listen_addresses(void **state)
{
    struct arena a;
    struct config_address got;
    arena_init(&a, 0);
    assert_int_equal(value_listen_address(VIEW("127.0.0.1:8080"), &a, &got), VALUE_OK);
    assert_string_equal(got.host, "127.0.0.1");
    assert_int_equal(got.port, 8080);
    assert_int_equal(got.scheme, CONFIG_TCP);
    assert_int_equal(value_listen_address(VIEW("[::1]:0"), &a, &got), VALUE_OK);
    assert_string_equal(got.host, "::1");
    assert_int_equal(got.port, 0);
    assert_int_equal(value_listen_address(VIEW("unix:/run/s.sock"), &a, &got), VALUE_OK);
    assert_string_equal(got.path, "/run/s.sock");
    assert_int_equal(got.scheme, CONFIG_UNIX);
    static const char *const bad[] = {
        "",
        "8080",
        ":8080",
        "127.0.0.1",
        "127.0.0.1:",
        "1.2.3:80",
        "1.2.3.4.5:80",
        "localhost:80",
        "[::1]",
        "[::1]80",
        "[127.0.0.1]:80",
        "::1:80",
        "unix:",
        "127.0.0.1:65536",
        "127.0.0.1:8o",
        "1.2.3.4:-1",
        "[::1:80",
        "256.0.0.1:1",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        if (value_listen_address(view_str(bad[i]), &a, &got) == VALUE_OK)
            fail_msg("accepted \"%s\"", bad[i]);
    arena_deinit(&a);
}

static void worker_addresses(void **state)
{
    struct arena a;
    struct config_address got;
    arena_init(&a, 0);
    assert_int_equal(value_worker_address(VIEW("grpcs://gpu-1.lan:8001"), &a, &got), VALUE_OK);
    assert_int_equal(got.scheme, CONFIG_TLS);
    assert_string_equal(got.host, "gpu-1.lan");
    assert_int_equal(got.port, 8001);
    assert_int_equal(value_worker_address(VIEW("grpc://[fe80::1]:1"), &a, &got), VALUE_OK);
    static const char *const bad[] = {
        "10.0.0.1:8001",  "http://h:1",   "file:///etc/passwd", "grpc://h",  "grpc://h:0",
        "grpc://h:99999", "grpc://u@h:1", "grpc://h:1/path",    "grpc://:1", "grpc://a b:1",
        "gopher://h:1",   "grpc://h\n:1", "grpc://[::1]:1]",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        if (value_worker_address(view_str(bad[i]), &a, &got) == VALUE_OK)
            fail_msg("accepted \"%s\"", bad[i]);
    char deep[400];
    memset(deep, 'a', sizeof(deep));
    memcpy(deep, "unix:", 5);
    assert_int_equal(value_worker_address(view_of(deep, 5 + 107), &a, &got), VALUE_OK);
    assert_int_equal(value_worker_address(view_of(deep, 5 + 108), &a, &got), VALUE_RANGE);
    arena_deinit(&a);
}

// Where a Redis is: by URL, or by name and port.
static void stores(void **state)
{
    struct arena a;
    struct config_address got;
    arena_init(&a, 0);
    assert_int_equal(value_redis_address(VIEW("redis://r.lan"), &a, &got), VALUE_OK);
    assert_int_equal(got.scheme, CONFIG_TCP);
    assert_string_equal(got.host, "r.lan");
    assert_int_equal(got.port, 6379);
    assert_int_equal(got.database, 0);
    assert_int_equal(value_redis_address(VIEW("rediss://[::1]:7000/15"), &a, &got), VALUE_OK);
    assert_int_equal(got.scheme, CONFIG_TLS);
    assert_string_equal(got.host, "::1");
    assert_int_equal(got.port, 7000);
    assert_int_equal(got.database, 15);
    assert_int_equal(value_redis_address(VIEW("redis://[::1]/"), &a, &got), VALUE_OK);
    assert_int_equal(got.port, 6379);
    assert_int_equal(value_redis_address(VIEW("unix:/run/r.sock"), &a, &got), VALUE_OK);
    assert_string_equal(got.path, "/run/r.sock");
    assert_int_equal(value_peer_address(VIEW("10.0.0.1:26379"), &a, &got), VALUE_OK);
    assert_int_equal(got.port, 26379);
    static const char *const bad[] = {
        "",
        "redis://",
        "redis:///0",
        "redis://h:0",
        "redis://h:x",
        "redis://h/a",
        "redis://h/-1",
        "redis://h/65536",
        "redis://h/1/2",
        "redis://u:p@h",
        "h:1",
        "unix:",
        "http://h:1",
        "redis://h:1?db=2",
        "redis://[::1",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        if (value_redis_address(view_str(bad[i]), &a, &got) == VALUE_OK)
            fail_msg("accepted \"%s\"", bad[i]);
    assert_int_equal(value_peer_address(VIEW("h"), &a, &got), VALUE_SYNTAX);
    assert_int_equal(value_peer_address(VIEW("redis://h:1"), &a, &got), VALUE_SYNTAX);
    arena_deinit(&a);
}

// What is printed reads back as the same value.
static void printing(void **state)
{
    static const uint64_t values[] = {
        0,        1,    999,   1000,       1500000,        60000000,
        90000000, 1024, 65536, 1ull << 40, 86400000000ull, UINT64_MAX};
    for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++) {
        char text[32];
        uint64_t back = 1;
        value_print_duration(text, values[i]);
        assert_int_equal(value_duration(view_str(text), &back), VALUE_OK);
        assert_int_equal(back, values[i]);
        value_print_size(text, values[i]);
        assert_int_equal(value_size(view_str(text), &back), VALUE_OK);
        assert_int_equal(back, values[i]);
    }
    char text[32];
    value_print_share(text, 125000);
    assert_string_equal(text, "12.5%");
    value_print_share(text, 1000000);
    assert_string_equal(text, "100%");
}

static void origins(void **state)
{
    static const struct {
        const char *text, *why; // NULL: it is one
    } rows[] = {
        {"https://app.example", NULL},
        {"http://localhost:3000", NULL},
        {"http://127.0.0.1", NULL},
        {"http://[::1]:8080", NULL},
        {"https://xn--bcher-kva.example", NULL},
        {"chrome-extension://abcdefghijklmnop", NULL},
        {"https://app.example:80", NULL}, // another scheme's
        {"null", "every sandboxed page and every file says that"},
        {"https://App.example", "browsers say it in lower case"},
        {"HTTPS://app.example", "browsers say it in lower case"},
        {"app.example", "it does not begin with a scheme and ://"},
        {"//app.example", "it does not begin with a scheme and ://"},
        {"://app.example", "it does not begin with a scheme and ://"},
        {"1http://app.example", "it does not begin with a scheme and ://"},
        {"", "it does not begin with a scheme and ://"},
        {"https://", "it has no host"},
        {"https://:443", "it has no host"},
        {"https:///a", "it has no host"},
        {"https://[::1", "it has no host"},
        {"https://[]", "it has no host"},
        {"https://[::g]", "it has no host"},
        {"https://*.app.example", "it has no host"},
        {"https://app.example/", "nothing may stand behind host and port"},
        {"https://app.example?x", "nothing may stand behind host and port"},
        {"https://user@app.example", "nothing may stand behind host and port"},
        {"https://b\xc3\xbc.example", "nothing may stand behind host and port"},
        {"https://a b", "nothing may stand behind host and port"},
        {"https://app.example:", "its port is none"},
        {"https://app.example:0", "its port is none"},
        {"https://app.example:0443", "its port is none"},
        {"https://app.example:65536", "its port is none"},
        {"https://app.example:44x", "its port is none"},
        {"https://app.example:443", "browsers leave that port out"},
        {"http://app.example:80", "browsers leave that port out"},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *why = value_origin(view_str(rows[i].text));
        if (!why != !rows[i].why || (why && strcmp(why, rows[i].why) != 0))
            fail_msg("%s: %s", rows[i].text, why ? why : "taken");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stores),
        cmocka_unit_test(durations),
        cmocka_unit_test(sizes),
        cmocka_unit_test(shares_counts_bools),
        cmocka_unit_test(listen_addresses),
        cmocka_unit_test(worker_addresses),
        cmocka_unit_test(printing),
        cmocka_unit_test(origins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
