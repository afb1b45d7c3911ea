/* HTTP/2 as a server: slow peers, rows 75 to 80 of the hostile input. */
#include "tests/unit/http_h2_kit.h"

static void a_preface_without_settings(void **state)
{
    struct h2 *h = begin_bare();
    wire_put(&h->say, PREFACE, 24);
    h2_say(h);
    h2_pass(h, 10 * SECOND - 1);
    assert_int_equal(h->r->goaways, 0);
    h2_pass(h, 1);
    expect_goaway(h, NGHTTP2_SETTINGS_TIMEOUT);
    end(h);
}

static void a_block_that_does_not_end(void **state)
{
    struct h2 *h = begin();
    h2_pass(h, 5 * SECOND);
    wire_frame(&h->say, HEADERS, END_STREAM, 1, SHORT, 6);
    h2_say(h);
    assert_true(http_conn_midway(h->w.c));
    for (unsigned i = 0; i < 5; i++) {
        h2_pass(h, 2 * SECOND - 1);
        assert_int_equal(h->r->goaways, 0);
        wire_frame(&h->say, CONTINUATION, 0, 1, "", 0); // dripping does not help
        h2_say(h);
    }
    h2_pass(h, 10);
    expect_goaway(h, CALM);
    end(h);

    h = begin(); // one that ends in time, also one that is rejected, is over
    wire_frame(&h->say, HEADERS, END_STREAM, 1, SHORT, 6);
    h2_say(h);
    h2_pass(h, 9 * SECOND);
    wire_frame(&h->say, CONTINUATION, END_HEADERS, 1, "", 0);
    wire_head(&h->say, END_STREAM, 3, FORM "/a\nconnection: x\n");
    h2_say(h);
    assert_false(http_conn_midway(h->w.c));
    h2_pass(h, 30 * SECOND);
    expect_alive(h, 5);
    end(h);
}

// The request of a block that took too long must not come to life behind an output that nobody takes.
static void a_block_that_ends_after_its_time(void **state)
{
    struct h2 *h = begin();
    wire_setting(&h->say, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1 << 30);
    wire_number(&h->say, WINDOW_UPDATE, 0, 1 << 30);
    for (uint32_t id = 1; id < 10; id += 2)
        wire_head(&h->say, END_STREAM, id, FORM "/big\n");
    h2_say_only(h);
    h2_take(h, 1);
    assert_true(h->w.c->out.bytes > 256 << 10);
    wire_frame(&h->say, HEADERS, END_STREAM, 11, SHORT, 6);
    h2_say_only(h);
    for (unsigned i = 0; i < 30; i++) {
        h->w.now_us += SECOND / 2;
        if (i % 10 == 0)
            h2_take(h, 1);
        http_conn_on_timer(h->w.c, h->w.now_us);
    }
    wire_frame(&h->say, CONTINUATION, END_HEADERS, 11, "", 0);
    h2_say_only(h);
    assert_int_equal(h->w.heads, 5);
    h2_flush(h);
    end(h);
}

static void bodies_must_come(void **state)
{
    struct h2 *h = begin();
    wire_head(&h->say, 0, 1, POST_FORM "/a\n");
    wire_head(&h->say, 0, 3, POST_FORM "/a\ncontent-length: 100\n");
    wire_frame(&h->say, DATA, 0, 3, "abc", 3);
    h2_say(h);
    h2_pass(h, 9 * SECOND);
    assert_int_equal(h->w.gone, 0);
    h2_pass(h, 2 * SECOND);
    expect_body(h, 1, 408, "body");
    expect_body(h, 3, 408, "body");
    assert_int_equal(h->w.sent_whole, 2);
    assert_int_equal(http_conn_live(h->w.c), 0);
    expect_alive(h, 5);
    end(h);
}

static void bodies_have_a_minimum_rate(void **state)
{
    struct h2 *h = begin();
    static char bytes[500];
    wire_head(&h->say, 0, 1, POST_FORM "/a\n");
    wire_head(&h->say, 0, 3, POST_FORM "/a\n");
    h2_say(h);
    for (unsigned i = 0; i < 50; i++) { // 500 bytes a second are enough, one is not
        wire_frame(&h->say, DATA, 0, 1, bytes, 500);
        wire_frame(&h->say, DATA, 0, 3, bytes, 1);
        h2_say(h);
        h2_pass(h, SECOND);
        assert_int_equal(h2_stream(h, 1)->status, 0);
        if (i < 18)
            assert_int_equal(h2_stream(h, 3)->status, 0);
    }
    expect_body(h, 3, 408, "body");
    wire_frame(&h->say, DATA, END_STREAM, 1, bytes, 500);
    h2_say(h);
    expect_body(h, 1, 200, " 25500:");
    end(h);
}

static void pings_are_no_sign_of_life(void **state)
{
    struct h2 *h = begin();
    expect_alive(h, 1);
    for (unsigned i = 0; i < 74; i++) {
        h2_pass(h, SECOND);
        wire_frame(&h->say, PING, 0, 0, "01234567", 8);
        h2_say(h);
        assert_int_equal(h->r->ping_acks, i + 1);
        assert_int_equal(h->r->goaways, 0);
    }
    h2_pass(h, SECOND);
    expect_goaway(h, NGHTTP2_NO_ERROR);
    end(h);
}

static void rest_begins_when_the_answers_have_left(void **state)
{
    struct h2 *h = begin();
    wire_setting(&h->say, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1 << 30);
    wire_number(&h->say, WINDOW_UPDATE, 0, 1 << 30);
    wire_head(&h->say, END_STREAM, 1, FORM "/big\n");
    h2_say_only(h);
    for (unsigned i = 0; i < 9; i++) {
        h2_take(h, 20000);
        h->w.now_us += 10 * (uint64_t)SECOND;
        http_conn_on_timer(h->w.c, h->w.now_us);
    }
    h2_flush(h);
    assert_int_equal(h->r->goaways, 0);
    assert_int_equal(h2_stream(h, 1)->body_n, BIG_ANSWER);
    h2_pass(h, 75 * SECOND);
    expect_goaway(h, NGHTTP2_NO_ERROR);
    end(h);
}

static void readers_must_make_progress(void **state)
{
    struct h2 *h = begin();
    wire_setting(&h->say, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1 << 30);
    wire_number(&h->say, WINDOW_UPDATE, 0, 1 << 30);
    for (uint32_t id = 1; id < 20; id += 2)
        wire_head(&h->say, END_STREAM, id, FORM "/big\n");
    wire_head(&h->say, END_STREAM, 21, FORM "/later\n");
    h2_say_only(h);
    h2_take(h, 1);
    h->w.now_us += 29 * (uint64_t)SECOND;
    http_conn_on_timer(h->w.c, h->w.now_us);
    assert_false(http_conn_done(h->w.c));
    h2_take(h, 1);
    h->w.now_us += 30 * (uint64_t)SECOND;
    http_conn_on_timer(h->w.c, h->w.now_us);
    assert_true(http_conn_done(h->w.c));
    assert_int_equal(h2_take(h, SIZE_MAX), 0); // nothing may follow what was dropped
    h2_answer(h);
    assert_int_equal(h2_take(h, SIZE_MAX), 0);
    end(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_preface_without_settings),
        cmocka_unit_test(a_block_that_does_not_end),
        cmocka_unit_test(bodies_must_come),
        cmocka_unit_test(bodies_have_a_minimum_rate),
        cmocka_unit_test(pings_are_no_sign_of_life),
        cmocka_unit_test(rest_begins_when_the_answers_have_left),
        cmocka_unit_test(readers_must_make_progress),
        cmocka_unit_test(a_block_that_ends_after_its_time),
    };
    return cmocka_run_group_tests_name("http: slow peers over HTTP/2", tests, NULL, NULL);
}
