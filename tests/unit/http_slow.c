// Slow peers, rows 75 to 79 of hostile input, in virtual time: what each phase of a request may take, and that
// dripping bytes buy no more. Over HTTP/1.1 and HTTP/2.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http_world.h"

static struct world w;

static int setup(void **state)
{
    (void)state;
    world_init(&w, false);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    world_close(&w);
    assert_null(world_books(&w));
    world_deinit(&w);
    return 0;
}

static void say_frame(uint8_t kind, uint8_t flags, uint8_t stream, const void *p, size_t n)
{
    uint8_t f[512] = {
        (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n, kind, flags, 0, 0, 0, stream};
    memcpy(f + 9, p, n);
    world_feed(&w, f, 9 + n);
}

enum { DATA = 0, HEADERS = 1, SETTINGS = 4, END_HEADERS = 4 };

// HTTP/2 as far as the body of a POST to /x, on stream 1.
static void begin_h2(void)
{
    static const char block[] = "\x83\x86\x04\x02/x\x01\x06sluice"; // POST, http, :path, :authority
    world_say(&w, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    say_frame(SETTINGS, 0, 0, "", 0);
    say_frame(HEADERS, END_HEADERS, 1, block, sizeof(block) - 1);
    assert_int_equal(w.heads, 1);
}

static void begin_h1(void)
{
    world_say(&w, "POST /x HTTP/1.1\r\nHost: sluice\r\nContent-Length: 1000000\r\n\r\n");
    assert_int_equal(w.heads, 1);
}

static void begin_chunked(void)
{
    world_say(&w,
              "POST /x HTTP/1.1\r\nHost: sluice\r\nTransfer-Encoding: chunked\r\n\r\n7a120\r\n");
}

static const struct carrier {
    void (*begin)(void);
    bool h2;
} carriers[] = {{begin_h1, false}, {begin_chunked, false}, {begin_h2, true}};

static void body(const struct carrier *c, size_t n)
{
    char bytes[500];
    memset(bytes, 'x', sizeof(bytes));
    if (c->h2)
        say_frame(DATA, 0, 1, bytes, n);
    else
        world_feed(&w, bytes, n);
}

#define EACH_CARRIER(c)                                                                            \
    for (const struct carrier *c = carriers; c < carriers + 3; teardown(NULL), setup(NULL), c++)

// One byte a second is never silent for long, and yet must end with its first window of 20 s.
static void a_dripped_body(void **state)
{
    EACH_CARRIER(c)
    {
        c->begin();
        for (int s = 0; s < 19; s++) {
            body(c, 1);
            world_pass(&w, SECOND);
        }
        assert_int_equal(w.refused, 0);
        world_pass(&w, 2 * SECOND);
        assert_int_equal(w.refused, 1);
        assert_int_equal(w.refused_status, 408);
    }
}

static void a_body_that_is_fast_enough_may_take_its_time(void **state)
{
    EACH_CARRIER(c)
    {
        c->begin();
        for (int s = 0; s < 100; s++) {
            body(c, 500);
            world_pass(&w, SECOND - 1000);
        }
        assert_int_equal(w.refused, 0);
        for (int s = 0; s < 41 && w.refused == 0;
             s++) { // what came before pays for no later window
            body(c, 1);
            world_pass(&w, SECOND);
        }
        assert_int_equal(w.refused_status, 408);
    }
}

static void no_rate_is_asked_for_when_the_key_is_0(void **state)
{
    w.limits.body_min_rate = 0;
    begin_h1();
    for (int s = 0; s < 60; s++) {
        body(carriers, 1);
        world_pass(&w, SECOND);
    }
    assert_int_equal(w.refused, 0);
}

static void a_silent_body(void **state)
{
    EACH_CARRIER(c)
    {
        c->begin();
        body(c, 500);
        world_pass(&w, 10 * SECOND - 1);
        assert_int_equal(w.refused, 0);
        world_pass(&w, SECOND / 2 + 1); // HTTP/2 looks at its streams twice a second
        assert_int_equal(w.refused_status, 408);
    }
}

static void a_dripped_head(void **state)
{
    static const char *const heads[] = {"GET / HTTP/1.1\r\nX-Abcdefghijklmnopq: y\r\n",
                                        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"};
    for (int i = 0; i < 2; i++, teardown(NULL), setup(NULL)) {
        for (int s = 0; s < 10; s++) { // counted from accept
            assert_false(http_conn_done(w.c));
            world_feed(&w, heads[i] + s, 1);
            world_pass(&w, SECOND);
        }
        assert_true(http_conn_done(w.c));
    }
    world_say(&w,
              "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /"); // the next request's: from its first byte
    world_pass(&w, 10 * SECOND - 1);
    assert_false(http_conn_done(w.c));
    world_pass(&w, 1);
    assert_true(http_conn_done(w.c));
    assert_int_equal(w.refused_status, 408);
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_dripped_body),
        TEST(a_body_that_is_fast_enough_may_take_its_time),
        TEST(no_rate_is_asked_for_when_the_key_is_0),
        TEST(a_silent_body),
        TEST(a_dripped_head),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
