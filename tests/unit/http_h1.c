/* HTTP/1.1 in ordinary life: keep-alive, pipelining, bodies, HEAD, HTTP/1.0, ends, the time of each phase, and
 * want of memory at any place. What is hostile stands in http_h1_hostile.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/http_world.h"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: h\r\n\r\n"
#define POST(fields) "POST /a HTTP/1.1\r\nHost: h\r\n" fields "\r\n"

static struct world *begin(void)
{
    static struct world w;
    if (world_blocks.live_blocks > 0) // a test before has failed
        world_blocks = (struct block_owner){0};
    world_init(&w, false);
    return &w;
}

static void end(struct world *w)
{
    world_close(w);
    const char *wrong = world_books(w);
    if (wrong)
        fail_msg("%s", wrong);
    world_deinit(w);
}

static unsigned count(struct buffer *b, const char *what)
{
    unsigned n = 0;
    for (const char *p = world_text(b); (p = strstr(p, what)); p += strlen(what))
        n++;
    return n;
}

static void expect_count(struct world *w, const char *what, unsigned n)
{
    if (count(&w->out, what) != n)
        fail_msg("expected %u times '%s' in:\n%s", n, what, world_text(&w->out));
}

// The bytes are spoken without anything being taken.
static void say_only(struct world *w, const char *text)
{
    http_conn_recv(w->c, (const uint8_t *)text, strlen(text), w->now_us);
}

// ---- one after the other -----------------------------------------------------------------------------

static void a_connection_is_kept(void **state)
{
    struct world *w = begin();
    for (unsigned i = 1; i <= 3; i++) {
        world_say(w, GET("/a"));
        assert_int_equal(w->sent_whole, i);
        assert_int_equal(http_conn_live(w->c), 0);
        assert_false(http_conn_done(w->c));
    }
    expect_count(w, "HTTP/1.1 200 OK\r\n", 3);
    expect_count(w, "connection:", 0);
    end(w);
}

// Of every length, and nothing else than capital letters is changed.
static void names_are_in_lower_case(void **state)
{
    (void)state;
    static const char name[] = "AzZ-a^_`|~!#$%&'*+.09MQ";
    static const char lower[] = "azz-a^_`|~!#$%&'*+.09mq";
    for (int n = 1; n < (int)sizeof(name); n++) {
        char line[128], want[128];
        struct world *w = begin();
        snprintf(line, sizeof(line), "GET /a HTTP/1.1\r\nHost: h\r\n%.*s: Val\r\n\r\n", n, name);
        snprintf(want, sizeof(want), "  %.*s: Val\n", n, lower);
        world_say(w, line);
        if (!strstr(world_text(&w->log), want))
            fail_msg("expected %s in:\n%s", want, world_text(&w->log));
        end(w);
    }
}

static void answers_keep_the_order_of_requests(void **state)
{
    struct world *w = begin();
    world_say(w, GET("/later?1") GET("/later?2") GET("/3") GET("/later?4"));
    assert_int_equal(w->n_later, 1); // the second waits until the first is answered
    assert_int_equal(w->heads, 1);
    world_answer(w);
    assert_int_equal(w->n_later, 1);
    world_answer(w);
    assert_int_equal(w->n_later, 1);
    assert_int_equal(w->sent_whole, 3);
    world_answer(w);
    const char *out = world_text(&w->out), *at = out;
    static const char *const order[] = {"/later ?1", "/later ?2", "/3 ?", "/later ?4"};
    for (size_t i = 0; i < 4; i++)
        assert_non_null(at = strstr(at, order[i]));
    end(w);
}

static void pipelined_bytes_wait_where_they_are(void **state)
{
    struct world *w = begin();
    world_say(w, GET("/later"));
    for (unsigned i = 0; i < 100; i++)
        world_say(w, GET("/later"));
    const uint8_t *data = w->c->h1.pending.data;
    size_t waiting = buffer_len(&w->c->h1.pending);
    for (unsigned i = 1; i <= 100; i++) {
        world_answer(w);
        assert_int_equal(w->heads, i + 1);
        if (i < 100)
            assert_ptr_equal(w->c->h1.pending.data, data); // not copied anew for each request
        assert_int_equal(buffer_len(&w->c->h1.pending), waiting - i * (waiting / 100));
    }
    world_answer(w);
    assert_int_equal(w->sent_whole, 101);
    end(w);
}

static void reading_stops_while_much_is_pending(void **state)
{
    struct world *w = begin();
    char *many = malloc(70000);
    memset(many, 'x', 70000);
    world_say(w, GET("/later"));
    assert_true(http_conn_wants_read(w->c));
    world_feed(w, many, 70000);
    assert_false(http_conn_wants_read(w->c));
    world_answer(w); // what was pending is no request: 414, and the end
    assert_true(http_conn_wants_read(w->c));
    assert_true(http_conn_done(w->c));
    free(many);
    end(w);
}

// Answers that nobody takes are not made (row 78).
static void requests_wait_while_answers_are_not_taken(void **state)
{
    struct world *w = begin();
    w->hush = true;
    size_t fed = 0;
    for (unsigned i = 0; i < 4000 && http_conn_wants_read(w->c); i++, fed++)
        say_only(w, GET("/big") GET("/big") GET("/big") GET("/big"));
    assert_false(http_conn_wants_read(w->c));
    assert_in_range(w->c->out.bytes, 1, (64 << 10) + BIG_ANSWER + 1000);
    assert_in_range(w->requests, 1, 3);
    world_flush(w); // as they are taken the rest is served
    assert_int_equal(w->sent_whole, 4 * fed);
    assert_true(http_conn_wants_read(w->c));
    end(w);
}

static void small_answers_that_are_not_taken_are_bounded_too(void **state)
{
    struct world *w = begin();
    w->hush = true;
    unsigned fed = 0;
    for (; fed < 20000 && http_conn_wants_read(w->c); fed++)
        say_only(w, GET("/a"));
    assert_in_range(fed, 100, 19999);
    assert_in_range(w->c->out.bytes, 1, OUT_COPIED_HIGH + 1000);
    world_output_is_small(w);
    world_flush(w);
    assert_int_equal(w->sent_whole, fed);
    end(w);
}

// One answer of many runs that would each be copied: it is whole, and what it is made of stays where it is charged.
static void an_answer_of_many_small_runs(void **state)
{
    struct world *w = begin();
    for (unsigned i = 0; i < 20; i++)
        say_only(w, GET("/a")); // some wait before it
    say_only(w, GET("/runs") GET("/runs") GET("/a"));
    world_output_is_small(w);
    assert_true(w->c->out.bytes > RUNS_ANSWER * RUN_BYTES);
    assert_int_equal(w->requests, 21);
    world_flush(w);
    assert_int_equal(w->sent_whole, 23);
    assert_in_range(buffer_len(&w->out), 2 * RUNS_ANSWER * RUN_BYTES,
                    2 * RUNS_ANSWER * RUN_BYTES + 5000);
    end(w);
}

// ---- bodies ------------------------------------------------------------------------------------------

static void bodies_come_by_length_or_in_chunks(void **state)
{
    static const char *const how[] = {
        POST("Content-Length: 10\r\n") "0123456789",
        POST("Transfer-Encoding: chunked\r\n") "a\r\n0123456789\r\n0\r\n\r\n",
        POST("Transfer-Encoding: chunked\r\n") "3\r\n012\r\n6;x=y\r\n345678\r\n1\r\n9\r\n0\r\nT: "
                                               "x\r\n\r\n",
    };
    for (size_t i = 0; i < 3; i++) {
        for (size_t step = 1; step < 100; step += 9) {
            struct world *w = begin();
            size_t n = strlen(how[i]);
            for (size_t at = 0; at < n; at += step)
                world_feed(w, how[i] + at, n - at < step ? n - at : step);
            world_say(w, GET("/next"));
            expect_count(w, "host=h 10:0123456789\n", 1);
            expect_count(w, "HTTP/1.1 200", 2);
            end(w);
        }
    }
}

static void continue_is_said_once_and_only_when_a_body_is_awaited(void **state)
{
    struct world *w = begin();
    world_say(w, POST("Expect: 100-continue\r\nContent-Length: 3\r\n"));
    expect_count(w, "HTTP/1.1 100 Continue\r\n\r\n", 1);
    world_say(w, "abc");
    expect_count(w, "HTTP/1.1 200 OK", 1);
    world_say(w, POST("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n"));
    expect_count(w, "HTTP/1.1 100", 2);
    world_say(w, "0\r\n\r\n");
    world_say(w, POST("Expect: 100-continue\r\nContent-Length: 0\r\n"));
    world_say(w, "POST /a HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\n"
                 "Content-Length: 2\r\n\r\n");
    world_say(w, "ab");
    expect_count(w, "HTTP/1.1 100", 2);
    expect_count(w, "HTTP/1.1 200", 4);
    end(w);
}

// Whether the body will come after all cannot be known (RFC 9110 10.1.1).
static void a_final_answer_instead_of_continue_ends_the_connection(void **state)
{
    struct world *w = begin();
    world_say(
        w, "POST /early HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    expect_count(w, "HTTP/1.1 100", 0);
    expect_count(w, "HTTP/1.1 404", 1);
    expect_count(w, "connection: close\r\n", 1);
    assert_true(http_conn_done(w->c));
    end(w);
}

static void an_early_answer_reads_a_small_body_away(void **state)
{
    struct world *w = begin();
    world_say(w, "POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n");
    expect_count(w, "HTTP/1.1 404", 1);
    world_say(w, "GET /x" + 1);
    assert_int_equal(w->heads, 1);
    world_say(w, GET("/next"));
    expect_count(w, "HTTP/1.1 200", 1);
    assert_int_equal(w->requests, 1); // the first was answered on its head
    assert_int_equal(w->charged, 0);
    end(w);
}

static void an_early_answer_before_a_large_body_says_that_it_ends(void **state)
{
    static const char *const how[] = {"Content-Length: 65537\r\n",
                                      "Transfer-Encoding: chunked\r\n"};
    for (size_t i = 0; i < 2; i++) {
        struct world *w = begin();
        world_say(w, "POST /early HTTP/1.1\r\nHost: h\r\n");
        world_say(w, how[i]);
        world_say(w, "\r\n");
        expect_count(w, "HTTP/1.1 404", 1);
        expect_count(w, "connection: close\r\n", 1);
        assert_true(http_conn_done(w->c));
        world_say(w, "whatever still comes is thrown away");
        assert_int_equal(w->sent_whole, 1);
        end(w);
    }
}

// Its answer has been given and taken: that what follows is broken does not change that.
static void an_answer_that_left_was_sent_whole_whatever_follows(void **state)
{
    for (unsigned taken = 0; taken < 2; taken++) {
        struct world *w = begin();
        say_only(w, "POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab");
        if (taken)
            world_flush(w);
        world_pass(w, 11 * SECOND); // the body does not come
        world_flush(w);
        assert_true(http_conn_done(w->c));
        assert_int_equal(w->sent, 1);
        assert_int_equal(w->sent_whole, 1);
        expect_count(w, "HTTP/1.1 ", 1);
        end(w);
    }
}

static void an_answer_in_the_middle_of_a_body_ends_the_connection(void **state)
{
    struct world *w = begin();
    world_say(w, POST("Transfer-Encoding: chunked\r\n") "3\r\nabc\r\n");
    struct exchange *ex = w->c->live;
    world_respond(w, ex, 503);
    world_flush(w);
    expect_count(w, "HTTP/1.1 503", 1);
    expect_count(w, "connection: close\r\n", 1);
    assert_true(http_conn_done(w->c));
    world_say(w, "3\r\nabc\r\n0\r\n\r\n");
    assert_int_equal(w->requests, 0);
    assert_int_equal(w->sent_whole, 1);
    end(w);
}

static void bodies_are_charged_and_bounded(void **state)
{
    struct world *w = begin();
    w->charge_limit = 5000;
    world_say(w, "POST /later HTTP/1.1\r\nHost: h\r\nContent-Length: 3000\r\n\r\nab");
    assert_int_equal(w->charged, 3000);
    end(w);
    w = begin();
    w->charge_limit = 5000;
    world_say(w, POST("Content-Length: 6000\r\n") "ab");
    expect_count(w, "HTTP/1.1 503", 1);
    expect_count(w, "retry-after: 1\r\n", 1);
    end(w);
    w = begin();
    world_say(w, "POST /small HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n");
    expect_count(w, "HTTP/1.1 413", 1);
    assert_int_equal(w->refused, 1);
    assert_int_equal(w->sent_whole, 1);
    end(w);
    w = begin();
    world_say(
        w,
        "POST /small HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n4\r\n");
    expect_count(w, "HTTP/1.1 413", 1);
    assert_int_equal(w->refused, 1);
    assert_int_equal(w->sent_whole, 1);
    end(w);
}

// ---- HEAD, HTTP/1.0, ends ----------------------------------------------------------------------------

static void head_has_the_length_and_no_body(void **state)
{
    struct world *w = begin();
    world_say(w, "HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n");
    expect_count(w, "content-length: 23\r\n", 1);
    expect_count(w, "host=h", 0);
    world_say(w, "HEAD /big HTTP/1.1\r\nHost: h\r\n\r\n");
    expect_count(w, "content-length: 200000\r\n\r\n", 1);
    assert_in_range(buffer_len(&w->out), 100, 400);
    assert_int_equal(w->sent_whole, 2);
    buffer_reset(&w->out);
    world_say(w, "HEAD /a HTTP/1.1\r\nHost: h\r\nX Y: z\r\n\r\n");
    expect_count(w, "HTTP/1.1 400", 1);
    expect_count(w, "error", 0);
    end(w);
}

static void what_is_served_is_told(void **state)
{
    struct world *w = begin();
    world_say(w, "TRACE /a HTTP/1.1\r\nHost: h\r\n\r\n");
    expect_count(w, "HTTP/1.1 405 ", 1);
    expect_count(w, "\r\nallow: GET, HEAD, POST\r\n", 1); // RFC 9110 15.5.6
    end(w);
}

static void old_clients(void **state)
{
    struct world *w = begin();
    world_say(w, "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    expect_count(w, "connection: keep-alive\r\n", 1);
    assert_false(http_conn_done(w->c));
    world_say(w, "GET /a HTTP/1.0\r\n\r\n");
    expect_count(w, "connection: close\r\n", 1);
    assert_true(http_conn_done(w->c));
    expect_count(w, "HTTP/1.1 200 OK\r\n", 2);
    end(w);
}

// No memory for requests behind one that is being answered: it is answered, and they are not.
static void pipelined_bytes_without_memory(void **state)
{
    for (unsigned cut = 1; cut <= 2; cut++) { // before the answer; while there is more
        struct world *w = begin();
        world_say(w, GET("/later"));
        for (unsigned i = 0; i < cut; i++) {
            mem_fail_at(1);
            say_only(w, GET("/a"));
            mem_fail_at(0);
        }
        say_only(w, GET("/b"));
        assert_int_equal(w->refused + w->gone, 0);
        world_answer(w);
        expect_count(w, "HTTP/1.1 200 OK\r\n", 1);
        expect_count(w, "connection: close\r\n", 1);
        assert_true(http_conn_done(w->c));
        end(w);
    }
}

// Whatever comes from outside into a field of an answer: it cannot begin a new line, wherever it stands.
static void no_byte_of_a_value_ends_its_line(void **state)
{
    for (int byte = 0; byte < 256; byte++) {
        for (size_t at = 0; at < 12; at++) {
            char value[] = "abcdefghijkl", expected[32];
            value[at] = (char)byte;
            struct http_header field = {VIEW("x"), view_of(value, sizeof(value) - 1)};
            struct http_response r = {.status = 200, .headers = &field, .n_headers = 1};
            struct world *w = begin();
            world_say(w, GET("/later"));
            struct exchange *ex = w->later[--w->n_later];
            exchange_respond(ex, &r, w->now_us);
            exchange_unref(ex);
            world_flush(w);
            value[at] = byte < 0x20 || byte == 0x7f ? ' ' : (char)byte;
            snprintf(expected, sizeof(expected), "\r\nx: %s\r\n", value);
            expect_count(w, expected, 1);
            end(w);
        }
    }
}

// With an exchange the room above answers; what is no request has none, and is answered all the same.
static void the_room_above_shapes_refusals(void **state)
{
    static const char *const rows[] = {
        "GET /a HTTP/1.1\r\n\r\n", // no host: before on_head
        "POST /small HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n",
        POST("Transfer-Encoding: chunked\r\n") "x\r\n",
    };
    for (size_t i = 0; i < 3; i++) {
        struct world *w = begin();
        w->shapes = true;
        world_say(w, rows[i]);
        expect_count(w, "HTTP/1.1 200 OK\r\n", 1);
        expect_count(w, "connection: close\r\n\r\n", 1);
        expect_count(w, "{", 0);
        assert_int_equal(w->refused, 1);
        assert_int_equal(w->sent_whole, i > 0);
        assert_true(http_conn_done(w->c));
        end(w);
    }
    struct world *w = begin();
    w->shapes = true;
    world_say(w, "junk\r\n");
    expect_count(w, "HTTP/1.1 400 Bad Request\r\n", 1);
    expect_count(w, "{\"error\":\"request line: ", 1);
    assert_int_equal(w->refused, 1);
    end(w);
}

static void ends_that_are_asked_for(void **state)
{
    static const char *const how[] = {
        "GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\nConnection: x , CLOSE\r\n\r\n",
        GET("/close"),
    };
    for (size_t i = 0; i < 3; i++) {
        struct world *w = begin();
        world_say(w, how[i]);
        expect_count(w, "connection: close\r\n", 1);
        assert_true(http_conn_done(w->c));
        world_say(w, GET("/next"));
        expect_count(w, "HTTP/1.1 ", 1);
        end(w);
    }
}

static void a_client_that_closes_its_half_has_gone(void **state)
{
    struct world *w = begin();
    world_say(w, GET("/later"));
    http_conn_eof(w->c, w->now_us);
    assert_int_equal(w->gone, 1);
    assert_true(http_conn_done(w->c));
    end(w); // the late answer is harmless
    assert_int_equal(w->sent, 0);

    w = begin(); // what was answered still leaves
    say_only(w, GET("/big"));
    http_conn_eof(w->c, w->now_us);
    world_flush(w);
    assert_int_equal(w->gone, 0);
    assert_int_equal(w->sent_whole, 1);
    end(w);
}

static void no_request_begins_after_the_end_of_the_file(void **state)
{
    struct world *w = begin();
    world_say(w, GET("/later") GET("/next"));
    struct exchange *ex = w->later[--w->n_later];
    world_respond(w, ex, 200);
    exchange_unref(ex);
    http_conn_eof(w->c, w->now_us);
    world_flush(w);
    assert_int_equal(w->heads, 1);
    assert_int_equal(w->sent_whole, 1);
    end(w);
}

// Where the listener says so: what has come whole is answered, the last one with an end, and nothing else begins.
static void a_client_that_closes_its_half_is_answered(void **state)
{
    struct world *w = begin();
    w->answers_half = true;
    world_say(w, GET("/later") GET("/a") GET("/later"));
    http_conn_eof(w->c, w->now_us);
    world_flush(w);
    assert_false(http_conn_done(w->c));
    world_answer(w);
    expect_count(w, "HTTP/1.1 200", 2);
    expect_count(w, "connection:", 0);
    assert_false(http_conn_done(w->c));
    world_answer(w);
    expect_count(w, "HTTP/1.1 200", 3);
    expect_count(w, "connection: close\r\n", 1);
    assert_true(http_conn_done(w->c));
    assert_int_equal(w->gone, 0);
    assert_int_equal(w->sent_whole, 3);
    end(w);

    w = begin(); // it was told that it may go on, and rests
    w->answers_half = true;
    say_only(w, GET("/big"));
    http_conn_eof(w->c, w->now_us);
    world_flush(w);
    assert_int_equal(w->sent_whole, 1);
    assert_true(http_conn_done(w->c));
    end(w);

    w = begin(); // an answer that flows goes on to its end
    w->answers_half = true;
    world_say(w, GET("/flow?asb"));
    http_conn_eof(w->c, w->now_us);
    world_flush(w);
    assert_false(http_conn_done(w->c));
    world_wake(w);
    world_flush(w);
    assert_int_equal(w->sent_whole, 1);
    assert_true(http_conn_done(w->c));
    end(w);

    w = begin(); // and it may leave all the same
    w->answers_half = true;
    world_say(w, GET("/later"));
    http_conn_eof(w->c, w->now_us);
    http_conn_free(w->c, w->now_us);
    w->c = NULL;
    assert_int_equal(w->gone, 1);
    end(w);
}

// What is not whole never will be: nobody is to be answered, and no time-out is waited for.
static void half_a_request_before_the_end(void **state)
{
    static const char *const half[] = {
        "GET /a HT",
        "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nabc",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nabc",
    };
    for (size_t i = 0; i < 8; i++) {
        struct world *w = begin();
        bool behind = i % 2, early = i / 2 == 3;
        w->answers_half = true;
        if (behind)
            world_say(w, GET("/later"));
        world_say(w, half[i / 2]);
        http_conn_eof(w->c, w->now_us);
        world_flush(w);
        if (behind) {
            assert_false(http_conn_done(w->c));
            world_answer(w);
        }
        assert_true(http_conn_done(w->c));
        assert_int_equal(w->sent_whole, behind + early);
        assert_int_equal(w->gone, i / 2 == 1 || i / 2 == 2);
        end(w);
    }
}

// Row 78: a reader that does not read was given up while a request of his was computed. Its answer goes nowhere.
static void an_answer_to_one_who_was_given_up(void **state)
{
    struct world *w = begin();
    struct iovec iov[2];
    say_only(w, GET("/a") GET("/later"));
    assert_true(http_conn_gather(w->c, iov, 2, w->now_us) > 0); // and he takes nothing
    assert_int_equal(w->n_later, 1);
    w->now_us += w->limits.send_timeout_us;
    http_conn_on_timer(w->c, w->now_us);
    assert_true(http_conn_done(w->c));
    world_answer(w);
    assert_int_equal(w->c->out.bytes, 0);
    assert_int_equal(w->sent_whole, 0);
    end(w);
}

static void draining_ends_after_the_answer(void **state)
{
    struct world *w = begin();
    world_say(w, GET("/later"));
    http_conn_drain(w->c, w->now_us, w->now_us);
    world_answer(w);
    expect_count(w, "connection: close\r\n", 1);
    assert_true(http_conn_done(w->c));
    end(w);

    w = begin(); // answered, and not yet on its way: its client was told that it may ask again
    world_say(w, GET("/later"));
    struct exchange *ex = w->later[--w->n_later];
    world_respond(w, ex, 200);
    exchange_unref(ex);
    http_conn_drain(w->c, w->now_us, w->now_us);
    world_flush(w);
    expect_count(w, "connection: close\r\n", 0);
    assert_false(http_conn_done(w->c));
    world_say(w, GET("/a"));
    expect_count(w, "connection: close\r\n", 1);
    assert_true(http_conn_done(w->c));
    end(w);

    w = begin(); // a resting connection stays a moment: a request may be on its way
    world_say(w, GET("/a"));
    http_conn_drain(w->c, w->now_us, w->now_us);
    world_flush(w);
    assert_false(http_conn_done(w->c));
    assert_int_equal(http_conn_deadline(w->c), w->now_us + 1000000);
    world_say(w, GET("/a"));
    expect_count(w, "connection: close\r\n", 1);
    assert_true(http_conn_done(w->c));
    end(w);

    w = begin();
    world_say(w, GET("/a"));
    http_conn_drain(w->c, w->now_us, w->now_us);
    world_pass(w, SECOND);
    assert_true(http_conn_done(w->c));
    end(w);

    w = begin(); // it has said nothing: who knows whether anybody is there
    http_conn_drain(w->c, w->now_us, w->now_us);
    world_pass(w, SECOND);
    assert_true(http_conn_done(w->c));
    end(w);

    w = begin(); // half of a head is a client: it has its time
    world_say(w, "GET");
    http_conn_drain(w->c, w->now_us, w->now_us);
    world_pass(w, SECOND);
    assert_false(http_conn_done(w->c));
    world_say(w, " /a HTTP/1.1\r\nHost: x\r\n\r\n");
    expect_count(w, "connection: close\r\n", 1);
    end(w);

    w = begin(); // requests are served for three seconds more: it may ask as long
    world_say(w, GET("/a"));
    http_conn_drain(w->c, w->now_us + 3 * SECOND, w->now_us);
    world_pass(w, 2 * SECOND);
    assert_false(http_conn_done(w->c));
    world_pass(w, 2 * SECOND);
    assert_true(http_conn_done(w->c));
    end(w);
}

#define NO_TLS "this port speaks TLS, and the request came without"

static void a_request_without_tls(void **state)
{
    struct world *w = begin();
    http_conn_misled(w->c, true, w->now_us);
    world_say(w, "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nxyz" GET("/b"));
    expect_count(w, "HTTP/1.1 400 ", 1);
    expect_count(w, NO_TLS, 1);
    expect_count(w, "connection: close\r\n", 1);
    assert_true(http_conn_done(w->c));
    assert_int_equal(w->heads + w->requests, 0);
    assert_int_equal(w->refused, 1);
    end(w);
    w = begin(); // it is waited for as for any head
    http_conn_misled(w->c, true, w->now_us);
    world_say(w, "GET / HT");
    world_pass(w, 10 * SECOND);
    expect_count(w, "HTTP/1.1 408 ", 1);
    assert_true(http_conn_done(w->c));
    end(w);
}

static void tls_where_there_is_none(void **state)
{
    struct world *w = begin();
    http_conn_misled(w->c, false, w->now_us);
    world_say(w, "\x16\x03\x01\x02");
    expect_count(w, "HTTP/1.1 400 ", 1);
    expect_count(w, "this port speaks no TLS", 1);
    assert_true(http_conn_done(w->c));
    assert_int_equal(w->refused, 1);
    end(w);
}

static void connections_that_die_tell_each_exchange_once(void **state)
{
    struct world *w = begin();
    say_only(w, GET("/big") GET("/later"));
    world_take(w, 100);
    end(w); // gone, and cut
    w = begin();
    say_only(w, GET("/big"));
    world_take(w, 100);
    world_close(w);
    assert_int_equal(w->sent, 1);
    assert_int_equal(w->sent_whole, 0);
    end(w);
}

// ---- time --------------------------------------------------------------------------------------------

static void heads_have_ten_seconds(void **state)
{
    struct world *w = begin(); // from accept, whatever drips
    for (unsigned i = 0; i < 9; i++) {
        world_pass(w, SECOND);
        world_feed(w, "GET / HTTP/1.1" + i, 1);
        assert_false(http_conn_done(w->c));
    }
    assert_true(http_conn_midway(w->c));
    world_pass(w, SECOND);
    expect_count(w, "HTTP/1.1 408 ", 1);
    assert_true(http_conn_done(w->c));
    end(w);

    w = begin(); // nothing at all: nothing is said
    world_pass(w, 10 * SECOND - 1);
    assert_false(http_conn_done(w->c));
    world_pass(w, 1);
    assert_true(http_conn_done(w->c));
    assert_int_equal(buffer_len(&w->out), 0);
    end(w);

    w = begin(); // of the next request: from its first byte
    world_say(w, GET("/a"));
    world_pass(w, 70 * SECOND);
    assert_false(http_conn_midway(w->c));
    world_say(w, "GET /a HTTP/1.1\r\n");
    world_pass(w, 10 * SECOND - 1);
    assert_false(http_conn_done(w->c));
    world_pass(w, 1);
    expect_count(w, "HTTP/1.1 408 ", 1);
    end(w);
}

// What a client spent before its request, on a connection opened in advance, is not the request's time.
static void a_request_begins_with_its_first_byte(void **state)
{
    struct world *w = begin();
    world_pass(w, 5 * SECOND);
    uint64_t first_us = w->now_us;
    world_say(w, "GET /later HT");
    world_pass(w, SECOND);
    world_say(w, "TP/1.1\r\nHost: h\r\n\r\n");
    assert_int_equal(w->later[0]->started_us, first_us);
    world_answer(w);
    world_pass(w, 5 * SECOND);
    world_say(w, GET("/later"));
    assert_int_equal(w->later[0]->started_us, w->now_us);
    world_answer(w);
    end(w);
}

static void a_resting_connection_ends_after_idle_timeout(void **state)
{
    struct world *w = begin();
    world_say(w, GET("/a"));
    world_pass(w, 75 * SECOND - 1);
    assert_false(http_conn_done(w->c));
    world_pass(w, 1);
    assert_true(http_conn_done(w->c));
    end(w);
}

static void bodies_must_come(void **state)
{
    static const char *const begun[] = {
        POST("Content-Length: 100\r\n"),
        POST("Content-Length: 100\r\n") "abc",
        POST("Transfer-Encoding: chunked\r\n") "3",
        POST("Transfer-Encoding: chunked\r\n") "3\r\na",
        POST("Transfer-Encoding: chunked\r\n") "3\r\nabc",
        POST("Transfer-Encoding: chunked\r\n") "0\r\n",
        POST("Transfer-Encoding: chunked\r\n") "0\r\nX: y",
    };
    for (size_t i = 0; i < sizeof(begun) / sizeof(begun[0]); i++) {
        struct world *w = begin();
        world_say(w, begun[i]);
        assert_true(http_conn_midway(w->c));
        world_pass(w, 10 * SECOND - 1);
        assert_false(http_conn_done(w->c));
        world_pass(w, 1);
        expect_count(w, "HTTP/1.1 408 ", 1);
        assert_int_equal(w->refused, 1);
        assert_int_equal(w->sent_whole, 1);
        assert_true(http_conn_done(w->c));
        end(w);
    }
}

static void trailers_that_drip_are_no_body(void **state)
{
    struct world *w = begin();
    world_say(w, POST("Transfer-Encoding: chunked\r\n") "0\r\n");
    for (unsigned i = 0; i < 10; i++) {
        assert_false(http_conn_done(w->c));
        world_say(w, "X: y\r\n");
        world_pass(w, SECOND);
    }
    expect_count(w, "HTTP/1.1 408 ", 1);
    end(w);
}

static void bodies_have_a_minimum_rate(void **state)
{
    char bytes[1000];
    memset(bytes, 'x', sizeof(bytes));
    struct world *w = begin();
    world_say(w, POST("Content-Length: 1000000\r\n"));
    for (unsigned i = 0; i < 40; i++) { // 500 a second are enough
        world_feed(w, bytes, 500);
        world_pass(w, SECOND);
        assert_false(http_conn_done(w->c));
    }
    for (unsigned i = 0; i < 20; i++) { // 499 are not
        assert_false(http_conn_done(w->c));
        world_feed(w, bytes, 499);
        world_pass(w, SECOND);
    }
    expect_count(w, "HTTP/1.1 408 ", 1);
    assert_true(http_conn_done(w->c));
    end(w);
}

static void readers_must_make_progress(void **state)
{
    struct world *w = begin();
    say_only(w, GET("/big"));
    world_take(w, 1);
    for (unsigned i = 0; i < 4; i++) { // slow is not stopped, even beyond idle_timeout
        uint64_t end_us = w->now_us + 29 * (uint64_t)SECOND;
        while (http_conn_deadline(w->c) <= end_us) {
            w->now_us = http_conn_deadline(w->c);
            http_conn_on_timer(w->c, w->now_us);
        }
        w->now_us = end_us;
        assert_false(http_conn_done(w->c));
        assert_int_equal(world_take(w, 1), 1);
        assert_int_equal(http_conn_deadline(w->c), w->now_us + 30 * (uint64_t)SECOND);
    }
    w->now_us += 30 * (uint64_t)SECOND;
    http_conn_on_timer(w->c, w->now_us);
    assert_true(http_conn_done(w->c));
    assert_int_equal(w->sent, 1);
    assert_int_equal(w->sent_whole, 0);
    assert_int_equal(world_blocks.live_blocks, 0); // what it was owed is given back
    end(w);

    w = begin(); // nor may an answer follow half a one
    say_only(w, GET("/big") GET("/later"));
    while (w->n_later == 0)
        world_take(w, 1000);
    assert_in_range(buffer_len(&w->out), 1, BIG_ANSWER);
    w->now_us += 30 * (uint64_t)SECOND;
    http_conn_on_timer(w->c, w->now_us);
    struct exchange *ex = w->later[--w->n_later];
    world_respond(w, ex, 200);
    exchange_unref(ex);
    assert_int_equal(world_take(w, SIZE_MAX), 0);
    end(w);
}

static void rest_begins_when_the_answer_has_left(void **state)
{
    struct world *w = begin();
    say_only(w, GET("/big"));
    for (unsigned i = 0; i < 10; i++) {
        world_take(w, 20000);
        w->now_us += 10 * (uint64_t)SECOND;
        http_conn_on_timer(w->c, w->now_us);
    }
    assert_false(http_conn_done(w->c));
    world_flush(w);
    assert_int_equal(w->sent_whole, 1);
    assert_int_equal(http_conn_deadline(w->c), w->now_us + 75 * (uint64_t)SECOND);
    end(w);
}

// What a busy moment needed is given back: there may be very many connections that rest.
static void a_resting_connection_holds_little(void **state)
{
    struct world *w = begin();
    char *field = malloc(30000);
    memset(field, 'a', 30000);
    w->hush = true;
    for (unsigned i = 0; i < 2000; i++)
        say_only(w, GET("/a"));
    assert_true(w->c->h1.pending.cap > 32 << 10);
    world_flush(w);
    world_say(w, "GET /a HTTP/1.1\r\nHost: h\r\nX: ");
    world_feed(w, field, 30000);
    world_say(w, "\r\n\r\n");
    assert_int_equal(w->sent_whole, 2001);
    assert_in_range(w->c->out.copy.cap + w->c->h1.line.cap + w->c->h1.pending.cap, 0, 32 << 10);
    assert_in_range(w->c->out.cap, 0, 256);
    world_say(w, GET("/a"));
    assert_int_equal(w->sent_whole, 2002);
    free(field);
    end(w);
}

// ---- fields ------------------------------------------------------------------------------------------

// Each of them is compared with each field: more than anybody means is refused.
static void options_of_connection_are_few(void **state)
{
    for (unsigned n = 10; n <= 10000; n *= 1000) {
        struct world *w = begin();
        world_say(w, "GET /a HTTP/1.1\r\nHost: h\r\nB: c\r\nConnection: z");
        for (unsigned i = 0; i < n; i++)
            world_say(w, ",b");
        world_say(w, "\r\n\r\n");
        expect_count(w, n == 10 ? "HTTP/1.1 200" : "HTTP/1.1 400", 1);
        assert_null(strstr(world_text(&w->log), "b: c"));
        end(w);
    }
}

// ---- want of memory ----------------------------------------------------------------------------------

// The n-th allocation fails: the request is answered as ever, or 503, or not at all; never another way. Of two in a
// row the first may be answered alone, and says that it was.
static void want_of_memory(const char *in, const char *good)
{
    uint64_t used = 1;
    for (uint64_t n = 1; used >= n - 1; n++) { // until a run in which none failed
        struct world *w = begin();
        w->hush = true;
        assert_true(buffer_grow(&w->out, 1 << 20)); // the kit's own
        uint64_t before = mem_count();
        mem_fail_at(n);
        say_only(w, in);
        world_flush(w);
        while (w->n_later > 0)
            world_answer(w);
        used = mem_count() - before;
        mem_fail_at(0);
        const char *out = world_text(&w->out);
        bool whole = strstr(out, good) != NULL, refused = strstr(out, " 503 ") != NULL;
        if (used < n ? !whole : !whole && !refused && !http_conn_done(w->c))
            fail_msg("allocation %u of %u: %s", (unsigned)n, (unsigned)used, out);
        bool first = strstr(out, "connection: close\r\n\r\nGET /later ? @h") != NULL;
        if (strstr(out, " 200 ") && !whole && !refused && !first && w->sent_whole > 0 &&
            strcmp(good, "xxxxxxxx") != 0)
            fail_msg("allocation %u: another answer: %s", (unsigned)n, out);
        end(w);
    }
}

static void any_allocation_may_fail(void **state)
{
    want_of_memory(GET("/a?query=1"), "GET /a ?query=1 @h host=h 0:\n");
    want_of_memory("GET http://real/b/%7e?q HTTP/1.1\r\nHost: h\r\n\r\n",
                   "GET /b/~ ?q @real host=h 0:\n");
    want_of_memory(GET("/later") GET("/later?2"), "GET /later ?2 @h");
    want_of_memory(GET("/big"), "xxxxxxxx");
    want_of_memory(
        POST("Transfer-Encoding: chunked\r\nConnection: a\r\nA: b\r\n") "3\r\nabc\r\n2\r\nde\r\n0\r"
                                                                        "\n\r\n",
        "POST /a ? @h host=h 5:abcde\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_connection_is_kept),
        cmocka_unit_test(names_are_in_lower_case),
        cmocka_unit_test(answers_keep_the_order_of_requests),
        cmocka_unit_test(pipelined_bytes_wait_where_they_are),
        cmocka_unit_test(reading_stops_while_much_is_pending),
        cmocka_unit_test(requests_wait_while_answers_are_not_taken),
        cmocka_unit_test(small_answers_that_are_not_taken_are_bounded_too),
        cmocka_unit_test(an_answer_of_many_small_runs),
        cmocka_unit_test(bodies_come_by_length_or_in_chunks),
        cmocka_unit_test(continue_is_said_once_and_only_when_a_body_is_awaited),
        cmocka_unit_test(a_final_answer_instead_of_continue_ends_the_connection),
        cmocka_unit_test(an_early_answer_reads_a_small_body_away),
        cmocka_unit_test(an_early_answer_before_a_large_body_says_that_it_ends),
        cmocka_unit_test(an_answer_that_left_was_sent_whole_whatever_follows),
        cmocka_unit_test(an_answer_in_the_middle_of_a_body_ends_the_connection),
        cmocka_unit_test(bodies_are_charged_and_bounded),
        cmocka_unit_test(head_has_the_length_and_no_body),
        cmocka_unit_test(old_clients),
        cmocka_unit_test(ends_that_are_asked_for),
        cmocka_unit_test(pipelined_bytes_without_memory),
        cmocka_unit_test(no_byte_of_a_value_ends_its_line),
        cmocka_unit_test(the_room_above_shapes_refusals),
        cmocka_unit_test(a_client_that_closes_its_half_has_gone),
        cmocka_unit_test(a_client_that_closes_its_half_is_answered),
        cmocka_unit_test(half_a_request_before_the_end),
        cmocka_unit_test(no_request_begins_after_the_end_of_the_file),
        cmocka_unit_test(an_answer_to_one_who_was_given_up),
        cmocka_unit_test(draining_ends_after_the_answer),
        cmocka_unit_test(a_request_without_tls),
        cmocka_unit_test(tls_where_there_is_none),
        cmocka_unit_test(connections_that_die_tell_each_exchange_once),
        cmocka_unit_test(heads_have_ten_seconds),
        cmocka_unit_test(a_request_begins_with_its_first_byte),
        cmocka_unit_test(a_resting_connection_ends_after_idle_timeout),
        cmocka_unit_test(bodies_must_come),
        cmocka_unit_test(trailers_that_drip_are_no_body),
        cmocka_unit_test(bodies_have_a_minimum_rate),
        cmocka_unit_test(readers_must_make_progress),
        cmocka_unit_test(rest_begins_when_the_answer_has_left),
        cmocka_unit_test(a_resting_connection_holds_little),
        cmocka_unit_test(what_is_served_is_told),
        cmocka_unit_test(options_of_connection_are_few),
        cmocka_unit_test(any_allocation_may_fail),
    };
    return cmocka_run_group_tests_name("http: HTTP/1.1", tests, NULL, NULL);
}
