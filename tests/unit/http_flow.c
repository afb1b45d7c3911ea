/* Answers that flow, over HTTP/1.1 and HTTP/2: what is sent, who is waited for, how they end. Sources are those of
 * the world, by the letters of /flow?… */
#include "tests/unit/http_h2_kit.h"
#include <unistd.h>

#define GET(query) "GET /flow?" query " HTTP/1.1\r\nHost: h\r\n\r\n"
#define FLOW(query) FORM "/flow?" query "\n"

// ---- HTTP/1.1 ----------------------------------------------------------------------------------------

static struct world *h1_begin(void)
{
    static struct world w;
    if (world_blocks.live_blocks > 0) // a test before has failed
        world_blocks = (struct block_owner){0};
    world_init(&w, false);
    return &w;
}

static void h1_end(struct world *w)
{
    world_close(w);
    const char *wrong = world_books(w);
    if (wrong)
        fail_msg("%s", wrong);
    world_deinit(w);
}

static const char *h1_body(struct world *w)
{
    const char *at = strstr(world_text(&w->out), "\r\n\r\n");
    assert_non_null(at);
    return at + 4;
}

static void chunks(void **state)
{
    struct world *w = h1_begin();
    world_say(w, GET("a"));
    assert_non_null(strstr(world_text(&w->out), "HTTP/1.1 200 OK\r\n"));
    assert_non_null(strstr(world_text(&w->out), "\r\ntransfer-encoding: chunked\r\n"));
    assert_null(strstr(world_text(&w->out), "content-length"));
    assert_string_equal(h1_body(w), "1\r\na\r\n0\r\n\r\n");
    assert_int_equal(w->sent_whole, 1);
    buffer_reset(&w->out);
    world_say(
        w,
        GET("8a0bl")); // several in one chunk, none of nothing, a block, the end with the last one
    const char *body = h1_body(w);
    assert_memory_equal(body, "8\r\n88888888\r\n1\r\na\r\n1\r\n0\r\n30d40\r\nbbb", 35);
    assert_memory_equal(body + strlen(body) - 13, "\r\n1\r\nl\r\n0\r\n\r\n", 13);
    assert_int_equal(w->sent_whole, 2);
    assert_false(http_conn_done(w->c)); // and the next request is served
    buffer_reset(&w->out);
    world_say(w, GET("t"));
    assert_string_equal(h1_body(w), "0\r\n\r\n"); // trailers are HTTP/2's
    h1_end(w);
}

static void carriers_without_chunks(void **state)
{
    struct world *w = h1_begin();
    world_say(w, "HEAD /flow?abc HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_string_equal(h1_body(w), "");
    assert_non_null(strstr(world_text(&w->out), "transfer-encoding: chunked"));
    assert_int_equal(w->wants, 0);
    assert_int_equal(w->sent_whole, 1);
    assert_false(http_conn_done(w->c));
    buffer_reset(&w->out);
    world_say(w, "GET /flow?acd HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_string_equal(h1_body(w), "acd");
    assert_null(strstr(world_text(&w->out), "transfer-encoding"));
    assert_non_null(strstr(world_text(&w->out), "connection: close"));
    assert_true(http_conn_done(w->c)); // its end is the connection's
    assert_int_equal(w->sent_whole, 2);
    h1_end(w);
}

static void a_source_falls_silent(void **state)
{
    struct world *w = h1_begin();
    world_say(w, GET("asbs*") "GET /a HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_string_equal(h1_body(w), "1\r\na\r\n");
    assert_int_equal(w->wants, 2);
    world_pass(w, 3600 * (uint64_t)SECOND); // nobody is late: no clock of the connection runs
    assert_int_equal(w->wants, 2);
    assert_false(http_conn_done(w->c));
    for (unsigned i = 0; i < 4; i++) {
        world_wake(w);
        world_flush(w);
    }
    assert_int_equal(w->wants, 10);
    assert_int_equal(http_conn_live(w->c), 1);
    assert_int_equal(w->heads, 1); // the next request waits
    w->hurry = true;
    world_wake(w);
    world_flush(w);
    assert_int_equal(w->sent_whole, 2);
    h1_end(w);
}

static void a_source_that_wants_to_be_asked(void **state)
{
    struct world *w = h1_begin();
    world_say(w, GET("aq*"));
    assert_int_equal(w->wants, 2);
    world_pass(w, 9 * SECOND);
    assert_int_equal(w->wants, 2);
    world_pass(w, 1 * SECOND);
    assert_int_equal(w->wants, 4);
    assert_string_equal(h1_body(w), "1\r\na\r\n1\r\na\r\n");
    world_pass(w, 100 * (uint64_t)SECOND);
    assert_int_equal(w->wants, 24);
    h1_end(w);
}

// Pulled: what a client does not take is not asked for, and after send_timeout it is the client that is cut.
static void a_client_that_does_not_read(void **state)
{
    struct world *w = h1_begin();
    static char query[3000], ask[4000];
    memset(query, 'm', sizeof(query) - 1);
    snprintf(ask, sizeof(ask), "GET /flow?%s HTTP/1.1\r\nHost: h\r\n\r\n", query);
    http_conn_recv(w->c, (const uint8_t *)ask, strlen(ask), w->now_us);
    world_take(w, 1);
    assert_in_range(w->wants, 5, 12);
    world_output_is_small(w);
    world_take(w, 3000);
    assert_in_range(w->wants, 5, 14);
    w->now_us += w->limits.send_timeout_us - 1;
    assert_true(http_conn_deadline(w->c) > w->now_us);
    w->now_us++;
    http_conn_on_timer(w->c, w->now_us);
    assert_true(http_conn_done(w->c));
    exchange_wake(w->c->live, w->now_us); // harmless
    assert_int_equal(world_take(w, SIZE_MAX), 0);
    assert_in_range(w->wants, 5, 14);
    h1_end(w);
    assert_int_equal(w->sent_whole, 0);
}

static void a_cut_has_no_last_chunk(void **state)
{
    struct world *w = h1_begin();
    world_say(w, GET("abx"));
    const char *body = h1_body(w);
    assert_memory_equal(body + strlen(body) - 3, "b\r\n", 3);
    assert_true(http_conn_done(w->c));
    assert_int_equal(w->sent, 1);
    assert_int_equal(w->sent_whole, 0);
    h1_end(w);
}

// A client that closes its half has gone, but what its source has still leaves.
static void a_client_that_closes_its_half(void **state)
{
    struct world *w = h1_begin();
    http_conn_recv(w->c, (const uint8_t *)GET("aaa"), strlen(GET("aaa")), w->now_us);
    http_conn_eof(w->c, w->now_us);
    world_flush(w);
    assert_string_equal(h1_body(w), "1\r\na\r\n1\r\na\r\n1\r\na\r\n0\r\n\r\n");
    assert_int_equal(w->sent_whole, 1);
    h1_end(w);
    w = h1_begin();
    world_say(w, GET("as"));
    http_conn_eof(w->c, w->now_us);
    world_flush(w);
    assert_true(http_conn_done(w->c)); // nothing to send: it is closed
    h1_end(w);
    assert_int_equal(w->sent, 1);
    assert_int_equal(w->sent_whole, 0);
}

// What comes behind a request whose answer flows waits; when there is no memory for it the answer still ends.
static void no_memory_for_what_follows(void **state)
{
    struct world *w = h1_begin();
    world_say(w, GET("as"));
    mem_fail_at(1);
    http_conn_recv(w->c, (const uint8_t *)"GET / HTTP/1.1\r\n", 16, w->now_us);
    mem_fail_at(0);
    world_wake(w);
    world_flush(w);
    assert_string_equal(h1_body(w), "1\r\na\r\n0\r\n\r\n");
    assert_int_equal(w->sent_whole, 1);
    assert_true(http_conn_done(w->c));
    h1_end(w);
}

// ---- HTTP/2 ------------------------------------------------------------------------------------------

static void frames(void **state)
{
    struct h2 *h = begin();
    wire_head(&h->say, END_STREAM, 1, FLOW("ab8c0l"));
    wire_head(&h->say, END_STREAM, 3, FLOW("aat"));
    wire_head(&h->say, END_STREAM, 5, FLOW("e"));
    wire_head(&h->say, END_STREAM, 7, FLOW("as"));
    wire_head(&h->say, END_STREAM, 9,
              ":method: HEAD\n:scheme: http\n:authority: h\n:path: /flow?ab\n");
    wire_number(&h->say, WINDOW_UPDATE, 0, 1 << 20);
    wire_number(&h->say, WINDOW_UPDATE, 1, 1 << 20);
    h2_say(h);
    struct reader_stream *s = h2_stream(h, 1);
    assert_int_equal(s->body_n, 1 + BIG_ANSWER + 8 + 3);
    assert_true(s->ended);
    assert_null(strstr(s->fields, "content-length"));
    expect_body(h, 3, 200, "aa");
    assert_non_null(strstr(h2_stream(h, 3)->fields, "grpc-status: 0"));
    expect_body(h, 5, 200, "");
    expect_body(h, 9, 200, "");
    s = h2_stream(h, 7);
    assert_int_equal(s->body_n, 1);
    assert_false(s->ended);
    h2_pass(h, 3600 * (uint64_t)SECOND); // its source may be silent
    assert_false(s->ended);
    assert_int_equal(s->code, 0);
    assert_int_equal(http_conn_live(h->w.c), 1);
    assert_true(http_conn_deadline(h->w.c) == UINT64_MAX); // nor does it cost a timer
    world_wake(&h->w);
    h2_flush(h);
    assert_true(s->ended);
    assert_int_equal(h->w.sent_whole, 5);
    end(h);
}

static void a_window_that_stays_shut(void **state)
{
    struct h2 *h = begin_bare();
    wire_put(&h->say, PREFACE, 24);
    wire_setting(&h->say, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0);
    wire_head(&h->say, END_STREAM, 1, FLOW("aa"));
    wire_head(&h->say, END_STREAM, 3, FLOW("aas*"));
    h2_say(h);
    assert_int_equal(h->w.wants, 0); // no room, no question
    wire_number(&h->say, WINDOW_UPDATE, 3, 5);
    h2_say(h);
    assert_int_equal(h2_stream(h, 3)->body_n, 2);
    h2_pass(h, 9 * SECOND);
    world_wake(&h->w); // from now on it is 3's client that is waited for
    h2_flush(h);
    assert_int_equal(h2_stream(h, 3)->body_n, 4);
    h2_pass(h, 2 * SECOND);
    assert_int_equal(h2_stream(h, 1)->code, NGHTTP2_CANCEL);
    assert_int_equal(h2_stream(h, 3)->code, 0);
    h2_pass(h, 60 * SECOND);
    assert_int_equal(h2_stream(h, 3)->code, 0); // its source is silent
    world_wake(&h->w);
    h2_flush(h); // one byte of window: the second waits
    assert_int_equal(h2_stream(h, 3)->body_n, 5);
    h2_pass(h, 9 * SECOND);
    assert_int_equal(h2_stream(h, 3)->code, 0);
    h2_pass(h, 2 * SECOND);
    assert_int_equal(h2_stream(h, 3)->code, NGHTTP2_CANCEL);
    assert_int_equal(h->w.sent, 2);
    assert_int_equal(h->w.sent_whole, 0);
    end(h);
}

static void a_source_of_a_stream_that_wants_to_be_asked(void **state)
{
    struct h2 *h = begin();
    wire_head(&h->say, END_STREAM, 1, FLOW("aq*"));
    h2_say(h);
    h2_pass(h, 9 * SECOND);
    assert_int_equal(h2_stream(h, 1)->body_n, 1);
    h2_pass(h, 2 * SECOND);
    assert_int_equal(h2_stream(h, 1)->body_n, 2);
    end(h);
}

static void a_cut_is_a_reset(void **state)
{
    struct h2 *h = begin();
    wire_head(&h->say, END_STREAM, 1, FLOW("ax"));
    wire_head(&h->say, END_STREAM, 3, FLOW("as"));
    h2_say(h);
    assert_int_equal(h2_stream(h, 1)->body_n, 1);
    assert_int_equal(h2_stream(h, 1)->code, NGHTTP2_INTERNAL_ERROR);
    wire_number(&h->say, RST_STREAM, 3, NGHTTP2_CANCEL);
    h2_say(h);
    assert_int_equal(h->w.sent, 2); // the source is told of either end
    assert_int_equal(h->w.sent_whole, 0);
    assert_int_equal(h->w.gone, 0);
    expect_alive(h, 5);
    end(h);
}

// ---- bodies that stream --------------------------------------------------------------------------------

static void both_stream(void **state)
{
    static const uint8_t bytes[16000];
    struct h2 *h = begin();
    wire_head(&h->say, 0, 1, POST_FORM "/talk?aasdt\n");
    h2_say(h);
    assert_int_equal(h->w.wants, 0);
    h->w.c->live->max_body = 20000;
    for (unsigned i = 0; i < 3000; i++) { // more than max_body at a time, not at once
        wire_frame(&h->say, DATA, 0, 1, bytes, sizeof(bytes));
        h2_say(h);
    }
    assert_int_equal(h->w.heard, 3000 * 16000);
    assert_in_range(h->w.charged, 0, 64 << 10);
    assert_int_equal(h2_stream(h, 1)->body_n, 2);
    assert_int_equal(h->w.requests, 0);
    h2_pass(h, 3600 * (uint64_t)SECOND); // whoever is silent now: it is for the source to say
    assert_int_equal(h2_stream(h, 1)->code, 0);
    wire_frame(&h->say, DATA, END_STREAM, 1, "x", 1);
    h2_say(h);
    assert_int_equal(h->w.requests, 1);
    expect_body(h, 1, 200, "aad");
    end(h);
}

// What its reader does not consume is bounded; an answer that flows already cannot become a refusal.
static void a_body_that_nobody_consumes(void **state)
{
    static const uint8_t bytes[1000];
    struct h2 *h = begin();
    h->w.limits.max_body = 2500;
    wire_head(&h->say, 0, 1, POST_FORM "/hoard?as\n");
    for (unsigned i = 0; i < 3; i++)
        wire_frame(&h->say, DATA, 0, 1, bytes, sizeof(bytes));
    h2_say(h);
    assert_int_equal(h2_stream(h, 1)->code, CALM);
    assert_int_equal(h->w.sent, 1);
    wire_head(&h->say, 0, 3, POST_FORM "/hoard?as\n");
    for (unsigned i = 0; i < 3; i++)
        wire_frame(&h->say, DATA, 0, 3, bytes, i == 0 ? 0 : sizeof(bytes));
    wire_frame(&h->say, DATA, END_STREAM, 3, bytes, 1);
    h->w.charge_limit = h->w.charged + 20000;
    h2_say(h);
    h->w.hurry = true;
    world_wake(&h->w);
    h2_flush(h);
    expect_body(h, 3, 200, "a");
    h->w.charge_limit = 1; // no room for it
    wire_head(&h->say, 0, 5, POST_FORM "/hoard?as\n");
    wire_frame(&h->say, DATA, 0, 5, bytes, sizeof(bytes));
    h2_say(h);
    assert_int_equal(h2_stream(h, 5)->status, 503);
    end(h);
}

// The answer's end comes before the body's: what follows is of no use.
static void answered_before_the_body_ends(void **state)
{
    struct h2 *h = begin();
    wire_head(&h->say, 0, 1, POST_FORM "/talk?at\n");
    wire_frame(&h->say, DATA, 0, 1, "x", 1);
    wire_head(&h->say, END_STREAM, 3, POST_FORM "/talk?at\n"); // nothing is streamed at all
    h2_say(h);
    expect_body(h, 1, 200, "a");
    assert_int_equal(h2_stream(h, 1)->code, NGHTTP2_NO_ERROR);
    expect_body(h, 3, 200, "a");
    wire_frame(&h->say, DATA, 0, 1, "x", 1);
    h2_say(h);
    assert_int_equal(h->w.heard, 1);
    assert_int_equal(h->w.sent_whole, 2);
    end(h);
}

// ---- both --------------------------------------------------------------------------------------------

// Answers without an end end when the connection serves no more; the others go on.
static void drain(void **state)
{
    struct world *w = h1_begin();
    world_say(w, GET("as*"));
    http_conn_drain(w->c, w->now_us + 5 * SECOND, w->now_us);
    world_pass(w, 5 * SECOND);
    assert_int_equal(http_conn_live(w->c), 1);
    http_conn_drain(w->c, w->now_us, w->now_us);
    world_flush(w);
    assert_string_equal(h1_body(w), "1\r\na\r\n0\r\n\r\n");
    assert_int_equal(w->sent_whole, 1);
    h1_end(w);
    struct h2 *h = begin();
    wire_head(&h->say, END_STREAM, 1, FLOW("as*"));
    wire_head(&h->say, END_STREAM, 3, FORM "/later\n");
    h2_say(h);
    http_conn_drain(h->w.c, h->w.now_us + 5 * SECOND, h->w.now_us);
    h2_pass(h, 5 * SECOND);
    wire_head(&h->say, END_STREAM, 5, FLOW("as*"));
    h2_say(h);
    assert_int_equal(http_conn_live(h->w.c), 3);
    http_conn_drain(h->w.c, h->w.now_us, h->w.now_us);
    h2_flush(h);
    expect_body(h, 1, 200, "a");
    expect_body(h, 5, 200, "a");
    h2_pass(h, SECOND);
    wire_head(&h->say, END_STREAM, 7, FLOW("as*"));
    h2_say(h);
    assert_int_equal(http_conn_live(h->w.c), 1); // 7 came behind the last call
    h2_answer(h);
    assert_true(http_conn_done(h->w.c));
    assert_int_equal(h->w.sent_whole, 3);
    end(h);
}

// One that begins when nothing is served any more is told at once.
static void begun_while_closing(void **state)
{
    struct world *w = h1_begin();
    http_conn_recv(w->c, (const uint8_t *)"GET /flow?as* HT", 16, w->now_us);
    http_conn_drain(w->c, w->now_us, w->now_us);
    world_pass(w, 1);
    world_say(w, "TP/1.1\r\nHost: h\r\n\r\n");
    assert_string_equal(h1_body(w), "0\r\n\r\n");
    h1_end(w);
}

// However it fails, half an answer is not taken for a whole one, and everything is given back.
static void any_allocation_may_fail_in_http1(void **state)
{
    uint64_t used = 1;
    for (uint64_t n = 1; used >= n - 1; n++) { // until a run in which none failed
        struct world *w = h1_begin();
        assert_true(buffer_grow(&w->out, 1 << 20)); // the kit's own
        w->hush = true;
        uint64_t before = mem_count();
        mem_fail_at(n);
        http_conn_recv(w->c, (const uint8_t *)GET("amb8l"), strlen(GET("amb8l")), w->now_us);
        world_flush(w);
        used = mem_count() - before;
        mem_fail_at(0);
        bool whole = strstr(world_text(&w->out), "\r\n0\r\n\r\n") != NULL;
        bool refused = strstr(world_text(&w->out), " 503 ") != NULL;
        if (!(used < n ? whole : whole || refused || http_conn_done(w->c)))
            fail_msg("allocation %u of %u: %s", (unsigned)n, (unsigned)used, world_text(&w->out));
        assert_true(refused || w->sent_whole == whole);
        h1_end(w);
    }
}

static void any_allocation_may_fail_in_http2(void **state)
{
    uint64_t used = 1;
    for (uint64_t n = 1; used >= n - 1; n++) { // until a run in which none failed
        struct h2 *h = begin();
        h->w.hush = true;
        wire_head(&h->say, END_STREAM, 1, FLOW("amb8t"));
        wire_number(&h->say, WINDOW_UPDATE, 0, 1 << 20);
        wire_number(&h->say, WINDOW_UPDATE, 1, 1 << 20);
        uint64_t before = mem_count();
        mem_fail_at(n);
        h2_say(h);
        used = mem_count() - before;
        mem_fail_at(0);
        struct reader_stream *s = h2_stream(h, 1);
        bool whole = s->ended && s->status == 200 && s->body_n == 1033 + BIG_ANSWER &&
                     strstr(s->fields, "grpc-status: 0\ngrpc-message: fine\n");
        bool refused = s->ended && s->status == 503;
        assert_true(used < n ? whole : whole || refused || s->resets || http_conn_done(h->w.c));
        assert_true(whole || !s->ended || refused || s->status == 503);
        end(h);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks),
        cmocka_unit_test(carriers_without_chunks),
        cmocka_unit_test(a_source_falls_silent),
        cmocka_unit_test(a_source_that_wants_to_be_asked),
        cmocka_unit_test(a_client_that_does_not_read),
        cmocka_unit_test(a_cut_has_no_last_chunk),
        cmocka_unit_test(a_client_that_closes_its_half),
        cmocka_unit_test(no_memory_for_what_follows),
        cmocka_unit_test(frames),
        cmocka_unit_test(a_window_that_stays_shut),
        cmocka_unit_test(a_source_of_a_stream_that_wants_to_be_asked),
        cmocka_unit_test(a_cut_is_a_reset),
        cmocka_unit_test(both_stream),
        cmocka_unit_test(a_body_that_nobody_consumes),
        cmocka_unit_test(answered_before_the_body_ends),
        cmocka_unit_test(drain),
        cmocka_unit_test(begun_while_closing),
        cmocka_unit_test(any_allocation_may_fail_in_http1),
        cmocka_unit_test(any_allocation_may_fail_in_http2),
    };
    alarm(300); // a test that waits for ever is one that failed
    return cmocka_run_group_tests(tests, NULL, NULL);
}
