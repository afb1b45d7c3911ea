/* ctl/log_place: places of a prediction log in a Redis, and why others are none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "ctl/log_place.h"
#include <stdio.h>

static struct arena arena;

static int setup(void **state)
{
    (void)state;
    arena_init(&arena, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_deinit(&arena);
    return 0;
}

static void add_hosts(char out[512], const char *kind, const struct config_address *a, unsigned n)
{
    size_t at = strlen(out);
    for (unsigned i = 0; i < n; i++)
        at += (size_t)snprintf(out + at, 512 - at, "%s%s|%u", i ? " " : kind, a[i].host, a[i].port);
}

// What is read, as one line.
static void show(char out[512], const struct config_store *s)
{
    out[0] = '\0';
    if (s->redis.text && s->redis.scheme == CONFIG_UNIX)
        snprintf(out, 512, "unix %s", s->redis.path);
    else if (s->redis.text)
        add_hosts(out, "alone ", &s->redis, 1);
    add_hosts(out, "sentinels ", s->sentinels, s->sentinel_count);
    add_hosts(out, "cluster ", s->cluster, s->cluster_count);
    size_t at = strlen(out);
    if (s->redis.database)
        at += (size_t)snprintf(out + at, 512 - at, " database %u", s->redis.database);
    if (s->master)
        at += (size_t)snprintf(out + at, 512 - at, " master %s", s->master);
    if (s->user)
        at += (size_t)snprintf(out + at, 512 - at, " user %s", s->user);
    if (s->tls)
        snprintf(out + at, 512 - at, " tls");
}

static void places_are_read(void **state)
{
    static const struct {
        const char *place, *read;
    } rows[] = {
        {"redis://h", "alone h|6379"},
        {"redis://h:1", "alone h|1"},
        {"redis://h:65535/15", "alone h|65535 database 15"},
        {"redis://h/", "alone h|6379"},
        {"redis://h/65535", "alone h|6379 database 65535"},
        {"redis://127.0.0.1:7", "alone 127.0.0.1|7"},
        {"redis://[::1]", "alone ::1|6379"},
        {"redis://[2001:db8::7]:7/2", "alone 2001:db8::7|7 database 2"},
        {"redis://reader@h:7", "alone h|7 user reader"},
        {"redis://a.reader@h", "alone h|6379 user a.reader"},
        {"redis://a@b@h", "alone h|6379 user a@b"},
        {"rediss://h", "alone h|6379 tls"},
        {"rediss://u@[::1]:7/1", "alone ::1|7 database 1 user u tls"},
        {"unix:/run/redis.sock", "unix /run/redis.sock"},
        {"unix:r", "unix r"},
        {"sentinel://a/mine", "sentinels a|26379 master mine"},
        {"sentinel://a:1,b,[::1]:2,[::2]/m", "sentinels a|1 b|26379 ::1|2 ::2|26379 master m"},
        {"sentinel://u@a,b/my master", "sentinels a|26379 b|26379 master my master user u"},
        {"cluster://a", "cluster a|6379"},
        {"cluster://u@a:1,b,[::1]:2", "cluster a|1 b|6379 ::1|2 user u"},
        {"cluster://a/", "cluster a|6379"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct config_store s = {0};
        char why[LOG_WHY], read[512];
        assert_true(log_place_is_store(rows[i].place));
        if (!log_place_read(&s, &arena, rows[i].place, why))
            fail_msg("%s: %s", rows[i].place, why);
        show(read, &s);
        assert_true(s.on);
        assert_string_equal(read, rows[i].read);
    }
}

static void what_is_none_is_refused(void **state)
{
    static const struct {
        const char *place, *why;
    } rows[] = {
        {"redis://", "expected HOST[:PORT], got none"},
        {"redis:///2", "expected HOST[:PORT], got none"},
        {"redis://:6379", "\":6379\": expected HOST[:PORT]"},
        {"redis://h:", "\"h:\": expected HOST[:PORT]"},
        {"redis://h:0", "\"h:0\": expected a port from 1 to 65535"},
        {"redis://h:65536", "\"h:65536\": expected a port from 1 to 65535"},
        {"redis://h:99999999999999999999", "expected a port from 1 to 65535"},
        {"redis://h:-1", "\"h:-1\": expected HOST[:PORT]"},
        {"redis://h:6379x", "\"h:6379x\": expected HOST[:PORT]"},
        {"redis://h:0x7", "expected HOST[:PORT]"},
        {"redis://h 1:7", "\"h 1:7\": expected HOST[:PORT]"},
        {"redis://h?db=1", "\"h?db=1\": expected HOST[:PORT]"},
        {"redis://a:1,b:2", "an IPv6 address stands in brackets"},
        {"redis://a,b", "\"a,b\": expected HOST[:PORT]"},
        {"redis://::1", "\"::1\": an IPv6 address stands in brackets: [::1]:6379"},
        {"redis://::1:6379", "an IPv6 address stands in brackets"},
        {"redis://[::1", "\"[::1\": expected HOST[:PORT]"},
        {"redis://[::1]7", "\"[::1]7\": expected HOST[:PORT]"},
        {"redis://[::g]:7", "\"[::g]:7\": expected HOST[:PORT]"},
        {"redis://[::1]:0", "expected a port from 1 to 65535"},
        {"redis://[]:7", "expected HOST[:PORT]"},
        {"redis://h/x", "\"/x\": expected the number of a database, from 0 to 65535"},
        {"redis://h/65536", "expected the number of a database"},
        {"redis://h/1/2", "expected the number of a database"},
        {"redis://@h", "expected USER@ before the host"},
        {"redis://a/b@h", "expected USER@ before the host"},
        {"redis://u@", "expected HOST[:PORT], got none"},
        {"rediss://h:0", "expected a port from 1 to 65535"},
        {"unix:", "expected unix:PATH with a path of 1 to 107 bytes"},
        {"sentinel://a:1,b:2", "expected /MASTER behind the Sentinels"},
        {"sentinel://a/", "expected /MASTER behind the Sentinels"},
        {"sentinel://a/m/0", "expected /MASTER behind the Sentinels"},
        {"sentinel://a,,b/m", "expected HOST[:PORT], got none"},
        {"sentinel:///m", "expected HOST[:PORT], got none"},
        {"sentinel://a:1,b:70000/m", "\"b:70000\": expected a port from 1 to 65535"},
        {"cluster://", "expected HOST[:PORT], got none"},
        {"cluster://a,b/1", "expected nothing behind the nodes"},
        {"redis:h", "expected redis://, rediss://, sentinel://, cluster:// or unix:"},
        {"redis:/h", "expected redis://"},
        {"http://h", "expected redis://"},
        {"://h", "expected redis://"},
        {"REDIS://h", "expected redis://"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct config_store s = {0};
        char why[LOG_WHY];
        assert_true(log_place_is_store(rows[i].place));
        if (log_place_read(&s, &arena, rows[i].place, why) || !strstr(why, rows[i].why))
            fail_msg("%s: expected \"%s\", got \"%s\"", rows[i].place, rows[i].why, why);
    }
}

static void long_ones_are_refused(void **state)
{
    static char place[2000];
    struct config_store s = {0};
    char why[LOG_WHY];
    snprintf(place, sizeof(place), "redis://%0300d", 7);
    assert_false(log_place_read(&s, &arena, place, why));
    assert_string_equal(why, "expected HOST[:PORT], got 300 bytes");
    snprintf(place, sizeof(place), "unix:/%0110d", 7);
    assert_false(log_place_read(&s, &arena, place, why));
    int n = snprintf(place, sizeof(place), "cluster://h");
    for (unsigned i = 1; i < 64; i++)
        n += snprintf(place + n, sizeof(place) - (size_t)n, ",h");
    assert_true(log_place_read(&s, &arena, place, why) && s.cluster_count == 64);
    snprintf(place + n, sizeof(place) - (size_t)n, ",h");
    assert_false(log_place_read(&s, &arena, place, why));
    assert_string_equal(why, "expected 64 hosts at most");
}

static void passwords_are_not_repeated(void **state)
{
    static const char *const places[] = {"redis://u:secret@h",       "redis://:secret@h",
                                         "rediss://u:se/secret@h:1", "redis://u:x@secret@h",
                                         "cluster://u:secret@a,b",   "sentinel://:secret@a/m"};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        struct config_store s = {0};
        char why[LOG_WHY];
        assert_false(log_place_read(&s, &arena, places[i], why));
        if (strstr(why, "secret") || !strstr(why, "$SLUICE_REDIS_PASSWORD"))
            fail_msg("%s: %s", places[i], why);
    }
}

static void directories_are_no_stores(void **state)
{
    static const char *const places[] = {"/var/log/sluice", ".", "redis", "a:b", "./redis:x", ""};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
        if (log_place_is_store(places[i]))
            fail_msg("%s is a directory", places[i]);
}

static void refuses(struct config_store s, bool password, const char *expected)
{
    char why[LOG_WHY];
    assert_false(log_place_check(&s, password, why));
    if (!strstr(why, expected))
        fail_msg("expected \"%s\", got \"%s\"", expected, why);
}

static void what_belongs_together(void **state)
{
    char why[LOG_WHY];
    struct config_store s = {.redis = {.text = "h", .scheme = CONFIG_TCP}};
    assert_true(log_place_check(&s, false, why) && log_place_check(&s, true, why));
    s.user = "reader";
    assert_true(log_place_check(&s, true, why));
    refuses(s, false, "user reader: expected a password");
    s.ca = "ca.pem";
    refuses(s, true, "--ca-file goes with --tls or rediss://");
    s.ca = NULL;
    s.certificate = "cert.pem";
    refuses(s, true, "--cert-file and --key-file go together");
    s.key = "key.pem";
    refuses(s, true, "--cert-file goes with --tls or rediss://");
    s.tls = true;
#ifdef SLUICE_REDIS_TLS
    assert_true(log_place_check(&s, true, why));
#else
    refuses(s, true, "this build's hiredis speaks no TLS");
#endif
    s.redis.scheme = CONFIG_UNIX;
    refuses(s, true, "--tls: not over a Unix socket");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(places_are_read),           cmocka_unit_test(what_is_none_is_refused),
        cmocka_unit_test(long_ones_are_refused),     cmocka_unit_test(passwords_are_not_repeated),
        cmocka_unit_test(directories_are_no_stores), cmocka_unit_test(what_belongs_together),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
