/* HTTP/2 as a server: ordinary life, drain, and want of memory. The other side is written by hand. */
#include "tests/unit/http_h2_kit.h"

// ---- ordinary life -----------------------------------------------------------------------------------

static void settings_are_said_first(void **state)
{
    struct h2 *h = begin();
    assert_int_equal(h->r->settings, 1);
    assert_int_equal(h->r->settings_acks, 1);
    assert_int_equal(h->r->setting[NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS], 128);
    assert_int_equal(h->r->setting[NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE], 32768);
    assert_int_equal(h->r->setting[NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE], 1 << 20);
    assert_int_equal(h->r->window[0], (16 << 20) - 65535);
    expect_alive(h, 1);
    end(h);
}

static void requests_are_answered(void **state)
{
    struct h2 *h = begin();
    wire_head(&h->say, END_STREAM, 1, FORM "/a/../b?x=1\nx-y: z\ncookie: a=b\ncookie: c=d\n");
    h2_say(h);
    expect_body(h, 1, 200, "GET /b ?x=1 @h host= 0:\n");
    assert_non_null(strstr(h2_stream(h, 1)->fields, "content-length: 24\n"));
    assert_non_null(strstr(world_text(&h->w.log), "  x-y: z\n  cookie: a=b\n  cookie: c=d\n"));
    wire_head(&h->say, 0, 3, POST_FORM "/a\ncontent-length: 10\n");
    wire_frame(&h->say, DATA, 0, 3, "01234", 5);
    wire_frame(&h->say, DATA, PADDED | END_STREAM, 3,
               "\x03"
               "56789\0\0\0",
               9);
    h2_say(h);
    expect_body(h, 3, 200, "POST /a ? @h host= 10:0123456789\n");
    assert_int_equal(h->w.sent_whole, 2);
    assert_int_equal(http_conn_live(h->w.c), 0);
    end(h);
}

// Row 44 of hostile input, over this carrier.
static void expectations(void **state)
{
    struct h2 *h = begin();
    wire_head(&h->say, 0, 1, POST_FORM "/a\nexpect: 100-Continue\ncontent-length: 3\n");
    h2_say(h);
    assert_string_equal(h2_stream(h, 1)->fields, ":status: 100\n"); // and the stream is open
    assert_false(h2_stream(h, 1)->ended);
    wire_frame(&h->say, DATA, END_STREAM, 1, "abc", 3);
    h2_say(h);
    expect_body(h, 1, 200, "3:abc");
    wire_head(&h->say, END_STREAM, 3,
              POST_FORM "/a\nexpect: 100-continue\n");                    // nothing to wait for
    wire_head(&h->say, 0, 5, POST_FORM "/early\nexpect: 100-continue\n"); // answered already
    wire_head(&h->say, 0, 7, POST_FORM "/a\nexpect: 200-ok\n");
    wire_head(&h->say, 0, 9, POST_FORM "/a\nexpect: 100-continue\ncontent-length: 99999999999\n");
    h2_say(h);
    for (uint32_t id = 3; id <= 9; id += 2)
        assert_null(strstr(h2_stream(h, id)->fields, ":status: 100"));
    expect_body(h, 3, 200, "POST /a");
    expect_body(h, 7, 417, "expect: only 100-continue is known");
    expect_body(h, 9, 413, "larger than");
    assert_true(h2_stream(h, 5)->ended);
    expect_alive(h, 11);
    end(h);
}

static void a_conversation_is_the_same_byte_by_byte(void **state)
{
    struct h2 *h = begin_bare();
    struct wire all = {0};
    h2_greet(h);
    wire_head(&h->say, END_STREAM, 1, FORM "/later\n");
    wire_head(&h->say, 0, 3, POST_FORM "/b\n");
    wire_head(&h->say, END_STREAM, 5, FORM "/trailers\n");
    wire_frame(&h->say, DATA, 0, 3, "abc", 3);
    wire_head(&h->say, END_STREAM, 3, "x-tail: end\n");
    wire_put(&all, h->say.p, h->say.n);
    h2_say(h);
    char *log = strdup(world_text(&h->w.log));
    end(h);
    h = begin_bare();
    for (size_t i = 0; i < all.n; i++) {
        wire_put(&h->say, all.p + i, 1);
        h2_say(h);
    }
    h->w.terse = true;
    expect_body(h, 3, 200, "3:abc");
    expect_body(h, 5, 200, "GET /trailers");
    assert_null(strstr(world_text(&h->w.log), "tail"));
    assert_non_null(strstr(log, "head POST /b\n"));
    assert_int_equal(strlen(log), strlen(world_text(&h->w.log)));
    h2_answer(h);
    end(h);
    free(all.p);
    free(log);
}

static void head_and_answers_without_body(void **state)
{
    struct h2 *h = begin();
    wire_head(&h->say, END_STREAM, 1, ":method: HEAD\n:scheme: http\n:authority: h\n:path: /big\n");
    wire_head(&h->say, END_STREAM, 3, FORM "/empty\n");
    wire_head(&h->say, END_STREAM, 5,
              ":method: HEAD\n:scheme: http\n:authority: h\n:path: /b%2f\n");
    h2_say(h);
    expect_body(h, 1, 200, "");
    assert_non_null(strstr(h2_stream(h, 1)->fields, "content-length: 200000\n"));
    expect_body(h, 3, 200, "");
    assert_non_null(strstr(h2_stream(h, 3)->fields, "content-length: 0\n"));
    expect_body(h, 5, 400, "");
    assert_int_equal(h2_stream(h, 1)->body_n + h2_stream(h, 3)->body_n + h2_stream(h, 5)->body_n,
                     0);
    end(h);
}

static void trailers_follow_the_answer(void **state)
{
    struct h2 *h = begin();
    wire_head(&h->say, END_STREAM, 1, FORM "/trailers\n");
    wire_head(&h->say, END_STREAM, 3, FORM "/only\n"); // the Trailers-Only form of gRPC
    h2_say(h);
    expect_body(h, 1, 200, "GET /trailers");
    assert_int_equal(h2_stream(h, 1)->blocks, 2);
    assert_non_null(strstr(h2_stream(h, 1)->fields, "grpc-status: 0\ngrpc-message: fine\n"));
    assert_null(strstr(h2_stream(h, 1)->fields, "content-length"));
    expect_body(h, 3, 200, "");
    assert_int_equal(h2_stream(h, 3)->blocks, 1);
    assert_non_null(strstr(h2_stream(h, 3)->fields, "grpc-status: 0\n"));
    assert_int_equal(h->w.sent_whole, 2);
    end(h);
}

// The bytes of an answer that has no more than this field.
static size_t answer_with(struct h2 *h, uint32_t id, struct view name, struct view value)
{
    struct http_header field = {name, value};
    struct http_response r = {.status = 200, .headers = &field, .n_headers = 1};
    wire_head(&h->say, END_STREAM, id, FORM "/later\n");
    h2_say(h);
    struct exchange *ex = h->w.later[--h->w.n_later];
    exchange_respond(ex, &r, h->w.now_us);
    exchange_unref(ex);
    size_t bytes = h2_take(h, SIZE_MAX);
    assert_int_equal(h2_stream(h, id)->status, 200);
    return bytes;
}

// A value that no other answer repeats does not fill the peer's table, but its name is found there.
static void names_of_passing_values_are_spelled_once(void **state)
{
    struct h2 *h = begin();
    static char large[3000];
    struct view id = VIEW("x-request-id");
    memset(large, 'x', sizeof(large));
    size_t spelled = answer_with(h, 1, id, VIEW("0001")),
           brief = answer_with(h, 3, id, VIEW("0002"));
    assert_int_equal(brief, spelled - 12); // twelve letters
    assert_non_null(strstr(h2_stream(h, 3)->fields, "x-request-id: 0002\n"));
    answer_with(h, 5, VIEW("x-large"), view_of(large, 3000)); // drives all others out
    answer_with(h, 7, VIEW("x-large"), view_of(large, 2999));
    assert_int_equal(answer_with(h, 9, id, VIEW("0003")), spelled);
    assert_int_equal(answer_with(h, 11, id, VIEW("0004")), brief);
    end(h);
}

static void an_early_answer_ends_the_request(void **state)
{
    struct h2 *h = begin();
    wire_head(&h->say, 0, 1, POST_FORM "/early\n");
    h2_say(h);
    expect_body(h, 1, 404, "POST /early");
    assert_int_equal(h2_stream(h, 1)->resets, 1);
    assert_int_equal(h2_stream(h, 1)->code, NGHTTP2_NO_ERROR);
    wire_frame(&h->say, DATA, END_STREAM, 1, "late", 4); // was on its way
    h2_say(h);
    assert_int_equal(h->w.requests, 0);
    assert_int_equal(h->w.sent_whole, 1);
    expect_alive(h, 3);
    end(h);
}

static void bodies_are_bounded(void **state)
{
    struct h2 *h = begin();
    wire_head(&h->say, 0, 1, POST_FORM "/small\ncontent-length: 9\n");
    wire_head(&h->say, 0, 3, POST_FORM "/small\n");
    wire_frame(&h->say, DATA, END_STREAM, 3, "123456789", 9);
    h->w.charge_limit = 5000;
    wire_head(&h->say, 0, 5, POST_FORM "/a\ncontent-length: 6000\n");
    wire_frame(&h->say, DATA, 0, 5, "1", 1);
    h2_say(h);
    expect_body(h, 1, 413, "larger");
    expect_body(h, 3, 413, "larger");
    expect_body(h, 5, 503, "no room");
    assert_non_null(strstr(h2_stream(h, 5)->fields, "retry-after: 1\n"));
    assert_int_equal(h->w.refused, 3);
    assert_int_equal(h->w.sent_whole, 3); // answers like any other
    assert_int_equal(h->w.gone, 0);
    expect_alive(h, 7);
    end(h);
}

// What the room refuses is answered by the room above, in its own form, and ends as any answer does.
static void the_room_above_shapes_refusals(void **state)
{
    struct h2 *h = begin();
    h->w.shapes = true;
    h->w.charge_limit = 5000;
    wire_head(&h->say, 0, 1, POST_FORM "/small\ncontent-length: 9\n");
    wire_head(&h->say, 0, 3, POST_FORM "/small\n");
    wire_frame(&h->say, DATA, 0, 3, "123456789", 9);
    wire_head(&h->say, 0, 5, POST_FORM "/a\ncontent-length: 6000\n");
    wire_frame(&h->say, DATA, 0, 5, "1", 1);
    wire_head(&h->say, END_STREAM, 7, FORM "/bad%2f\n"); // before on_head
    wire_head(&h->say, 0, 9, POST_FORM "/later\n");
    h2_say(h);
    h2_pass(h, 11 * SECOND);
    static const char *const why[] = {
        "body: larger than limits.max_body", "body: larger than limits.max_body",
        "no room for the body now", "target: ", "body: it did not come in time"};
    for (uint32_t id = 1; id <= 9; id += 2) {
        struct reader_stream *s = h2_stream(h, id);
        assert_int_equal(s->status, 200);
        assert_true(s->ended && s->body_n == 0 && s->blocks == 1);
        assert_non_null(strstr(s->fields, "grpc-status: 8\n"));
        assert_non_null(strstr(s->fields, why[id / 2]));
        assert_int_equal(s->resets, id == 7 ? 0 : 1); // its body is of no use
        assert_true(s->code == NGHTTP2_NO_ERROR);
    }
    assert_int_equal(h->w.refused, 5);
    assert_int_equal(h->w.sent_whole, 4);
    assert_int_equal(h->w.gone, 0);
    expect_alive(h, 11);
    end(h);
}

static void big_answers_follow_the_window(void **state)
{
    struct h2 *h = begin();
    wire_head(&h->say, END_STREAM, 1, FORM "/big\n");
    h2_say(h);
    assert_int_equal(h2_stream(h, 1)->body_n, 65535);
    assert_int_equal(world_blocks.live_blocks, 1);
    wire_number(&h->say, WINDOW_UPDATE, 1, 1 << 20);
    h2_say(h);
    assert_int_equal(h2_stream(h, 1)->body_n, 65535); // the connection's is shut
    wire_number(&h->say, WINDOW_UPDATE, 0, 1);
    h2_say(h);
    assert_int_equal(h2_stream(h, 1)->body_n, 65536);
    wire_number(&h->say, WINDOW_UPDATE, 0, 1 << 20);
    h2_say(h);
    assert_int_equal(h2_stream(h, 1)->body_n, BIG_ANSWER);
    assert_in_range(h2_stream(h, 1)->longest, 10000, 16384);
    assert_true(h2_stream(h, 1)->ended);
    assert_int_equal(world_blocks.live_blocks, 0);
    end(h);
}

static void windows_are_given_back_as_bodies_are_kept(void **state)
{
    struct h2 *h = begin();
    static char piece[16384];
    wire_head(&h->say, 0, 1, POST_FORM "/a\n");
    for (unsigned i = 0; i < 1200; i++) { // more than the connection's window
        wire_frame(&h->say, DATA, 0, 1, piece, sizeof(piece));
        h2_say(h);
    }
    wire_frame(&h->say, DATA, END_STREAM, 1, "", 0);
    h2_say(h);
    expect_body(h, 1, 200, " 19660800:");
    assert_true(h->r->window[1] >= 17 << 20);
    assert_true(h->r->window[0] >= 20 << 20);
    end(h);
}

// Padding is not told to anybody, and counts in both windows all the same.
static void the_window_of_padding_is_given_back(void **state)
{
    struct h2 *h = begin();
    static char padding[256] = "\xff";
    wire_head(&h->say, 0, 1, POST_FORM "/a\n");
    wire_frame(&h->say, DATA, 0, 1, "x", 1);
    for (unsigned i = 0; i < 10000; i++) {
        padding[0] = (char)254;
        padding[1] = 'x';
        wire_frame(&h->say, DATA, PADDED, 1, padding, 256);
        h2_say(h);
    }
    wire_frame(&h->say, DATA, END_STREAM, 1, "", 0);
    h2_say(h);
    expect_body(h, 1, 200, " 10001:");
    end(h);
}

static void answers_that_are_not_taken_are_bounded(void **state)
{
    struct h2 *h = begin();
    wire_setting(&h->say, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1 << 30);
    wire_number(&h->say, WINDOW_UPDATE, 0, 1 << 30);
    for (uint32_t id = 1; id < 80; id += 2)
        wire_head(&h->say, END_STREAM, id, FORM "/big\n");
    h2_say_only(h);
    for (unsigned i = 0; i < 3; i++)
        h2_take(h, 1);
    assert_in_range(h->w.c->out.bytes, 256 << 10, (256 << 10) + 20000);
    h2_flush(h);
    assert_int_equal(h->w.sent_whole, 40);
    end(h);
}

static void gone_and_cut(void **state)
{
    struct h2 *h = begin();
    wire_head(&h->say, END_STREAM, 1, FORM "/later\n");
    wire_head(&h->say, END_STREAM, 3, FORM "/later\n");
    wire_head(&h->say, END_STREAM, 5, FORM "/big\n");
    wire_head(&h->say, 0, 7, POST_FORM "/a\n");
    wire_number(&h->say, RST_STREAM, 1, NGHTTP2_CANCEL);
    h2_say(h);
    assert_int_equal(h->w.gone, 1);
    wire_number(&h->say, RST_STREAM, 5, NGHTTP2_CANCEL); // mid-answer
    h2_say(h);
    assert_int_equal(h->w.gone, 1);
    assert_int_equal(h->w.sent - h->w.sent_whole, 1);
    assert_int_equal(world_blocks.live_blocks, 0);
    h2_answer(h); // the answer to the one that has gone is harmless
    http_conn_eof(h->w.c, h->w.now_us);
    assert_int_equal(h->w.gone, 3);
    assert_true(http_conn_done(h->w.c));
    end(h);
    h = begin();
    wire_head(&h->say, END_STREAM, 1, FORM "/later\n");
    wire_head(&h->say, END_STREAM, 3, FORM "/big\n");
    h2_say(h);
    h2_take(h, 30000);
    end(h); // freed with all of that
}

static void other_carriers_are_known_by_their_first_bytes(void **state)
{
    struct h2 *h = begin_bare();
    wire_put(&h->say, PREFACE, 10);
    h2_say(h);
    assert_false(http_conn_done(h->w.c));
    h2_pass(h, 10 * SECOND);
    assert_true(http_conn_done(h->w.c)); // 79: half a preface
    assert_int_equal(h->r->n_all, 0);
    end(h);
}

// ---- drain -------------------------------------------------------------------------------------------

static void drain_takes_what_is_on_its_way(void **state)
{
    struct h2 *h = begin();
    wire_head(&h->say, END_STREAM, 1, FORM "/later\n");
    h2_say(h);
    http_conn_drain(h->w.c, h->w.now_us, h->w.now_us);
    h2_flush(h);
    assert_int_equal(h->r->goaways, 1);
    assert_int_equal(h->r->goaway_last, 0x7fffffff);
    assert_int_equal(h->r->goaway_code, NGHTTP2_NO_ERROR);
    assert_int_equal(h->r->pings, 1);
    wire_head(&h->say, END_STREAM, 3, FORM "/a\n"); // was sent before the GOAWAY came
    wire_frame(&h->say, PING, ACK, 0, "\0\0\0\0\0\0\0\0", 8);
    h2_say(h);
    expect_body(h, 3, 200, "GET /a");
    assert_int_equal(h->r->goaways, 2);
    assert_int_equal(h->r->goaway_last, 3);
    wire_head(&h->say, END_STREAM, 5, FORM "/a\n"); // was not
    h2_say(h);
    assert_int_equal(h2_stream(h, 5)->status, 0);
    assert_false(http_conn_done(h->w.c));
    h2_answer(h);
    h2_flush(h);
    expect_body(h, 1, 200, "GET /later");
    assert_true(http_conn_done(h->w.c));
    end(h);
}

static void drain_does_not_wait_for_a_peer_that_is_silent(void **state)
{
    struct h2 *h = begin();
    wire_head(&h->say, END_STREAM, 1, FORM "/later\n");
    h2_say(h);
    http_conn_drain(h->w.c, h->w.now_us, h->w.now_us);
    h2_pass(h, SECOND);
    assert_int_equal(h->r->goaways, 2);
    assert_int_equal(h->r->goaway_last, 1);
    http_conn_drain(h->w.c, h->w.now_us, h->w.now_us); // twice is as good as once
    h2_answer(h);
    h2_pass(h, 2 * SECOND);
    assert_true(http_conn_done(h->w.c));
    end(h);
}

static void is_served_for_five_seconds(struct h2 *h)
{
    for (uint32_t id = 1; id < 11; id += 2) {
        wire_head(&h->say, END_STREAM, id, FORM "/a\n");
        h2_say(h);
        expect_body(h, id, 200, "GET /a");
        h2_pass(h, SECOND);
    }
    assert_int_equal(h->r->goaways + h->r->pings, 0);
    http_conn_drain(h->w.c, h->w.now_us, h->w.now_us);
    h2_flush(h);
    assert_int_equal(h->r->goaway_last, 0x7fffffff);
    wire_head(&h->say, END_STREAM, 11, FORM "/a\n"); // was sent before that came
    wire_frame(&h->say, PING, ACK, 0, "\0\0\0\0\0\0\0\0", 8);
    h2_say(h);
    expect_body(h, 11, 200, "GET /a");
    assert_int_equal(h->r->goaways, 2);
    assert_int_equal(h->r->goaway_last, 11);
    assert_true(http_conn_done(h->w.c));
    end(h);
}

// A client opens no stream on a connection that was told to end: while requests are served it is not told.
static void nothing_is_said_while_requests_are_served(void **state)
{
    struct h2 *h = begin();
    http_conn_drain(h->w.c, h->w.now_us + 5 * SECOND, h->w.now_us);
    is_served_for_five_seconds(h);
    h = begin_bare();
    http_conn_drain(h->w.c, h->w.now_us + 5 * SECOND, h->w.now_us);
    h2_greet(h);
    is_served_for_five_seconds(h);
}

static void a_connection_that_begins_while_we_drain(void **state)
{
    struct h2 *h = begin_bare();
    http_conn_drain(h->w.c, h->w.now_us, h->w.now_us);
    h2_greet(h);
    wire_head(&h->say, END_STREAM, 1, FORM "/a\n");
    h2_say(h);
    expect_body(h, 1, 200, "GET /a");
    assert_int_equal(h->r->goaways, 1);
    assert_int_equal(h->r->goaway_last, 0x7fffffff);
    h2_pass(h, SECOND);
    assert_int_equal(h->r->goaways, 2);
    assert_int_equal(h->r->goaway_last, 1);
    assert_true(http_conn_done(h->w.c));
    end(h);
}

static void a_request_without_tls(void **state)
{
    struct h2 *h = begin_bare();
    http_conn_misled(h->w.c, true, h->w.now_us);
    h2_greet(h);
    h2_say(h);
    assert_int_equal(h->r->goaways,
                     0); // a client opens no stream behind it, and would never hear why
    wire_head(&h->say, END_STREAM, 1, FORM "/a\n");
    wire_head(&h->say, END_STREAM, 3, FORM "/a\n");
    h2_say(h);
    expect_body(h, 1, 400, "this port speaks TLS");
    expect_body(h, 3, 400, "this port speaks TLS");
    assert_int_equal(h->w.heads + h->w.requests, 0);
    assert_int_equal(h->r->goaways, 1);
    assert_int_equal(h->r->goaway_last, 3);
    assert_true(http_conn_done(h->w.c));
    end(h);
}

// ---- want of memory ----------------------------------------------------------------------------------

static void put_fat_head(struct wire *w, uint32_t id)
{
    struct wire b = {0};
    wire_lines(&b, FORM "/x\n");
    for (unsigned i = 0; i < 101; i++)
        wire_field(&b, 0, VIEW("a"), VIEW("b"));
    wire_frame(w, HEADERS, END_HEADERS | END_STREAM, id, b.p, b.n);
    free(b.p);
}

static void talk(struct h2 *h)
{
    h2_greet(h);
    wire_head(&h->say, END_STREAM, 1, FORM "/a?q=1\nx: y\nte: trailers\n");
    wire_head(&h->say, END_STREAM, 3, FORM "/later\n");
    wire_head(&h->say, 0, 5, POST_FORM "/b\ncontent-length: 5\n");
    wire_frame(&h->say, DATA, END_STREAM, 5, "abcde", 5);
    wire_head(&h->say, END_STREAM, 7, FORM "/big\n");
    wire_head(&h->say, END_STREAM, 9, FORM "/trailers\n");
    wire_head(&h->say, END_STREAM, 11, FORM "/bad%2f\n");
    put_fat_head(&h->say, 13);
    wire_frame(&h->say, PING, 0, 0, "01234567", 8);
    h2_say_only(h);
    h2_flush(h);
    while (h->w.n_later > 0) {
        struct exchange *ex = h->w.later[--h->w.n_later];
        world_respond(&h->w, ex, 200);
        exchange_unref(ex);
    }
    wire_number(&h->say, WINDOW_UPDATE, 0, 1 << 20);
    wire_number(&h->say, WINDOW_UPDATE, 7, 1 << 20);
    h2_say(h);
}

// Each stream is answered as ever, or refused, or reset, or the connection ends; and everything comes back.
static void any_allocation_may_fail(void **state)
{
    static const struct {
        uint32_t id;
        int status;
        const char *text;
    } good[] = {{1, 200, "GET /a ?q=1 @h host= 0:"},
                {3, 200, "GET /later"},
                {5, 200, " 5:abcde"},
                {7, 200, "xxxx"},
                {9, 200, "GET /trailers"},
                {11, 400, "target"},
                {13, 431, "fields"}};
    uint64_t used = 1;
    for (uint64_t n = 1; used >= n - 1; n++) { // until a run in which none failed
        struct h2 *h = begin_bare();
        h->w.hush = true;
        uint64_t before = mem_count();
        mem_fail_at(n);
        talk(h);
        used = mem_count() - before;
        mem_fail_at(0);
        bool over = http_conn_done(h->w.c);
        for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
            struct reader_stream *s = h2_stream(h, good[i].id);
            bool as_ever = s->ended && s->status == good[i].status && strstr(s->body, good[i].text);
            bool refused = s->ended && s->status == 503;
            if (good[i].id == 9 && as_ever)
                as_ever = strstr(s->fields, "grpc-status: 0\ngrpc-message: fine\n") != NULL;
            if (used < n ? !as_ever : !as_ever && !refused && !s->resets && !over)
                fail_msg("allocation %u of %u: stream %u: %d %s, %s: %s%s", (unsigned)n,
                         (unsigned)used, good[i].id, s->status, s->resets ? "reset" : "",
                         s->ended ? "ended" : "open", s->fields, s->body);
            if (!as_ever && s->ended && !refused && s->status != 503)
                fail_msg("allocation %u: stream %u: another answer: %d %s%s", (unsigned)n,
                         good[i].id, s->status, s->fields, s->body);
        }
        end(h);
    }
}

// A header block that could not be made may have changed our HPACK table: no other may follow it.
static void no_block_follows_one_that_failed(void **state)
{
    uint64_t used = 1;
    for (uint64_t n = 1; used >= n - 1; n++) { // until a run in which none failed
        struct h2 *h = begin_bare();
        h2_greet(h);
        wire_head(&h->say, END_STREAM, 1, FORM "/later\n");
        wire_head(&h->say, END_STREAM, 3, FORM "/big\n");
        uint64_t before = mem_count();
        mem_fail_at(n);
        h2_say_only(h);
        h2_take(h, 55); // SETTINGS and what belongs to them
        used = mem_count() - before;
        mem_fail_at(0);
        if (h->w.n_later > 0)
            h2_answer(h);
        if (h->r->wrong)
            fail_msg("allocation %u of %u: %s", (unsigned)n, (unsigned)used, h->r->wrong);
        end(h);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(settings_are_said_first),
        cmocka_unit_test(requests_are_answered),
        cmocka_unit_test(expectations),
        cmocka_unit_test(a_conversation_is_the_same_byte_by_byte),
        cmocka_unit_test(head_and_answers_without_body),
        cmocka_unit_test(trailers_follow_the_answer),
        cmocka_unit_test(names_of_passing_values_are_spelled_once),
        cmocka_unit_test(an_early_answer_ends_the_request),
        cmocka_unit_test(bodies_are_bounded),
        cmocka_unit_test(the_room_above_shapes_refusals),
        cmocka_unit_test(big_answers_follow_the_window),
        cmocka_unit_test(windows_are_given_back_as_bodies_are_kept),
        cmocka_unit_test(the_window_of_padding_is_given_back),
        cmocka_unit_test(answers_that_are_not_taken_are_bounded),
        cmocka_unit_test(gone_and_cut),
        cmocka_unit_test(other_carriers_are_known_by_their_first_bytes),
        cmocka_unit_test(drain_takes_what_is_on_its_way),
        cmocka_unit_test(drain_does_not_wait_for_a_peer_that_is_silent),
        cmocka_unit_test(nothing_is_said_while_requests_are_served),
        cmocka_unit_test(a_connection_that_begins_while_we_drain),
        cmocka_unit_test(a_request_without_tls),
        cmocka_unit_test(any_allocation_may_fail),
        cmocka_unit_test(no_block_follows_one_that_failed),
    };
    return cmocka_run_group_tests_name("http: HTTP/2 as a server", tests, NULL, NULL);
}
