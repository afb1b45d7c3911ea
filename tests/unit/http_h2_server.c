/* HTTP/2 as a server: ordinary life, and rows 46 to 80 of the hostile input with their precise outcomes. The
 * other side is written by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/http_h2_world.h"

#define SHORT "\x82\x86\x84\x41\1h" // GET http://h/
#define CALM NGHTTP2_ENHANCE_YOUR_CALM
#define PROTOCOL NGHTTP2_PROTOCOL_ERROR

static struct h2 *begin_bare(void)
{
    static struct h2 h;
    free(h.say.p);
    memset(&h, 0, sizeof(h));
    if (world_blocks.live_blocks > 0) // a test before has failed
        world_blocks = (struct block_owner){0};
    world_init(&h.w, false);
    h.r = reader_new(false);
    return &h;
}

static struct h2 *begin(void)
{
    struct h2 *h = begin_bare();
    h2_greet(h);
    h2_say(h);
    return h;
}

static void end(struct h2 *h)
{
    const char *wrong = h->r->wrong;
    world_close(&h->w);
    if (!wrong)
        wrong = world_books(&h->w);
    if (wrong)
        fail_msg("%s", wrong);
    world_deinit(&h->w);
    reader_free(h->r);
    free(h->say.p);
    h->say = (struct wire){0};
}

static void expect_body(struct h2 *h, uint32_t id, int status, const char *part)
{
    struct reader_stream *s = h2_stream(h, id);
    if (s->status != status || !s->ended || !strstr(s->body, part))
        fail_msg("stream %u: %d, %s: %s%s", id, s->status, s->ended ? "ended" : "open", s->fields,
                 s->body);
}

static void expect_goaway(struct h2 *h, uint32_t code)
{
    h2_flush(h);
    if (h->r->goaways == 0 || h->r->goaway_code != code)
        fail_msg("expected GOAWAY %u, got %u of them, the last with %u", code, h->r->goaways,
                 h->r->goaway_code);
    assert_true(http_conn_done(h->w.c));
}

// A request like any other is served.
static void expect_alive(struct h2 *h, uint32_t id)
{
    wire_head(&h->say, END_STREAM, id, FORM "/alive\n");
    h2_say(h);
    expect_body(h, id, 200, "GET /alive");
    assert_false(http_conn_done(h->w.c));
}

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

static void a_conversation_is_the_same_octet_by_octet(void **state)
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

static void other_carriers_are_known_by_their_first_octets(void **state)
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

// ---- 46 to 48: resets --------------------------------------------------------------------------------

#define RESETS_BORNE (200 + 8 * 128)

// Nothing is left when the last one is reset: the GOAWAY that takes no new streams is the end.
static void rapid_reset(void **state)
{
    static const char *const asks[] = {
        FORM "/later\n",
        FORM "/a\n",
        ":method: HEAD\n:scheme: http\n:authority: h\n:path: /a\n",
        FORM "/empty\n",
        FORM "/early\n",
        FORM "/bad%2f\n",
        FORM "/only\n",
    };
    for (size_t k = 0; k < sizeof(asks) / sizeof(asks[0]); k++) {
        struct h2 *h = begin();
        unsigned n = 0;
        h->w.hush = true;
        for (; n < 2000 && !http_conn_done(h->w.c); n++) {
            wire_head(&h->say, END_STREAM, 2 * n + 1, asks[k]);
            wire_number(&h->say, RST_STREAM, 2 * n + 1, NGHTTP2_CANCEL);
            h2_say(h);
        }
        if (n != RESETS_BORNE + 1)
            fail_msg("%zu: cut after %u", k, n);
        expect_goaway(h, NGHTTP2_NO_ERROR);
        assert_int_equal(h->r->goaway_last, 2 * n - 1);
        assert_int_equal(h->w.abused[ABUSE_NO_NEW], 1);
        end(h);
    }
}

static void put_pairs(struct h2 *h, uint32_t id, unsigned n)
{
    for (; n > 0; n--, id += 2) {
        wire_head(&h->say, END_STREAM, id, FORM "/later\n");
        wire_number(&h->say, RST_STREAM, id, NGHTTP2_CANCEL);
    }
}

// Nor is anything begun of what comes in the same piece as the last straw; all of it is counted.
static void rapid_reset_in_one_piece(void **state)
{
    struct h2 *h = begin();
    h->w.hush = true;
    put_pairs(h, 1, 4000);
    h2_say(h);
    assert_int_equal(h->w.heads, RESETS_BORNE + 1);
    assert_int_equal(h->w.abused[ABUSE_NO_NEW] + h->w.abused[ABUSE_WENT_ON], 2);
    put_pairs(h, 8001, 1);
    h2_say(h);
    assert_int_equal(h->w.heads, RESETS_BORNE + 1);
    expect_goaway(h, CALM);
    end(h);
}

// Live streams outlast the resets of others on their connection; what is opened behind the GOAWAY was not processed.
static void live_streams_finish_after_too_many_resets(void **state)
{
    struct h2 *h = begin();
    uint32_t last = 2 * (RESETS_BORNE + 1) + 1;
    wire_head(&h->say, END_STREAM, 1, FORM "/later\n");
    h2_say(h);
    h->w.hush = true;
    put_pairs(h, 3, RESETS_BORNE + 1);
    h2_say(h);
    assert_int_equal(h->r->goaways, 1);
    assert_int_equal(h->r->goaway_code, NGHTTP2_NO_ERROR);
    assert_int_equal(h->r->goaway_last, last);
    unsigned heads = h->w.heads;
    put_pairs(h, last + 2, 100); // they were on their way
    wire_head(&h->say, 0, last + 300, POST_FORM "/a\n");
    wire_frame(&h->say, DATA, END_STREAM, last + 300, "x", 1);
    h2_say(h);
    assert_int_equal(h->w.heads, heads);
    assert_false(http_conn_done(h->w.c));
    http_conn_drain(h->w.c, h->w.now_us, h->w.now_us); // nothing new to say about new streams
    h2_pass(h, 2 * SECOND);
    assert_int_equal(h->r->goaways, 1);
    while (h->w.n_later > 0) // those that were reset as well: their answers go nowhere
        h2_answer(h);
    expect_body(h, 1, 200, "GET /later");
    assert_true(http_conn_done(h->w.c)); // it was the last
    assert_int_equal(h->w.abused[ABUSE_NO_NEW], 1);
    assert_int_equal(h->w.abused[ABUSE_CUT] + h->w.abused[ABUSE_WENT_ON], 0);
    end(h);
}

static void resets_that_go_on_are_cut(void **state)
{
    struct h2 *h = begin();
    unsigned n = 0;
    wire_head(&h->say, END_STREAM, 1, FORM "/later\n");
    h2_say(h);
    h->w.hush = true;
    for (; n < 4000 && !http_conn_done(h->w.c); n++) {
        put_pairs(h, 2 * n + 3, 1);
        h2_say(h);
    }
    assert_int_equal(n, RESETS_BORNE + 1 + RESETS_BORNE / 2 +
                            1); // a late stream and its reset count each
    expect_goaway(h, CALM);
    assert_int_equal(h->w.abused[ABUSE_WENT_ON], 1);
    end(h);
}

// A gateway is its worker's client: what it cancels at once is more than any limit by time alone would bear.
static void a_gateway_may_cancel_in_bursts(void **state)
{
    struct h2 *h = begin_bare();
    h->w.hush = true;
    http_conn_free(h->w.c, h->w.now_us);
    h->w.limits.abuse_budget = 100000;
    world_open(&h->w, false);
    h2_greet(h);
    put_pairs(h, 1, 20000);
    h2_say(h);
    assert_int_equal(h->r->goaways, 0);
    expect_alive(h, 50001);
    end(h);
}

// Where even the GOAWAY cannot be made the connection ends: its client would wait for streams that are not taken.
static void no_memory_for_the_goaway(void **state)
{
    uint64_t used = 1;
    for (uint64_t n = 1; used >= n - 1; n++) { // until a run in which none failed
        struct h2 *h = begin();
        h->w.hush = true;
        wire_head(&h->say, END_STREAM, 1, FORM "/later\n");
        put_pairs(h, 3, RESETS_BORNE);
        h2_say(h);
        while (h->w.n_later > 1) // the room above lets them go
            exchange_unref(h->w.later[--h->w.n_later]);
        wire_head(&h->say, END_STREAM, 50001, FORM "/later\n");
        h2_say(h);
        wire_number(&h->say, RST_STREAM, 50001, NGHTTP2_CANCEL);
        wire_head(&h->say, END_STREAM, 50003, FORM "/late\n");
        unsigned heads = h->w.heads;
        uint64_t before = mem_count();
        mem_fail_at(n);
        h2_say(h);
        used = mem_count() - before;
        mem_fail_at(0);
        h2_flush(h);
        assert_true(h->r->goaways > 0 || http_conn_done(h->w.c));
        assert_int_equal(h->w.heads, heads);
        end(h);
    }
}

// Hedging, time-outs, users who leave: thirty at a time, three times a second, and nothing else is completed.
static void cancels_of_some_end_no_calls_of_others(void **state)
{
    struct h2 *h = begin();
    h->w.hush = true;
    wire_head(&h->say, END_STREAM, 1, FORM "/later\n");
    h2_say(h);
    for (unsigned round = 0; round < 200; round++) {
        for (unsigned i = 0; i < 30; i++)
            wire_head(&h->say, END_STREAM, 3 + 2 * (30 * round + i), FORM "/later\n");
        h2_say(h);
        h2_pass(h, 30000);
        for (unsigned i = 0; i < 30; i++)
            wire_number(&h->say, RST_STREAM, 3 + 2 * (30 * round + i), NGHTTP2_CANCEL);
        h2_say(h);
        while (h->w.n_later > 1) // the room above lets them go
            exchange_unref(h->w.later[--h->w.n_later]);
        h2_pass(h, 300000);
    }
    assert_int_equal(h->r->goaways, 0);
    h2_answer(h);
    expect_body(h, 1, 200, "GET /later");
    expect_alive(h, 100001);
    end(h);
}

static void honest_work_pays_for_resets(void **state)
{
    struct h2 *h = begin();
    h->w.hush = true;
    for (uint32_t id = 1; id < 4000; id += 4) {
        wire_head(&h->say, END_STREAM, id, FORM "/a\n");
        wire_head(&h->say, END_STREAM, id + 2, FORM "/later\n");
        h2_say(h);
        wire_number(&h->say, RST_STREAM, id + 2, NGHTTP2_CANCEL);
        h2_say(h);
        h2_answer(h);
    }
    assert_false(http_conn_done(h->w.c));
    end(h);
}

static void put_made_to_reset(struct wire *w, unsigned how, uint32_t id)
{
    uint8_t self[5] = {0, 0, (uint8_t)(id >> 8), (uint8_t)id, 1};
    wire_head(w, how == 2 || how == 3 ? END_STREAM : 0, id, FORM "/later\n");
    switch (how) {
    case 0:
        wire_number(w, WINDOW_UPDATE, id, 0);
        break;
    case 1:
        wire_number(w, WINDOW_UPDATE, id, 0x7fffffff);
        break;
    case 2:
        wire_frame(w, DATA, 0, id, "x", 1);
        break;
    case 3:
        wire_head(w, END_STREAM, id, FORM "/later\n");
        break;
    case 4:
        wire_frame(w, PRIORITY, 0, id, self, 4);
        break;
    case 5:
        wire_frame(w, PRIORITY, 0, id, self, 5);
        break;
    default:
        wire_head(w, END_STREAM, id,
                  "a: b\n"); // trailers with a body that is not as long as it says
        break;
    }
}

static void made_you_reset(void **state)
{
    for (unsigned how = 0; how < 6; how++) {
        struct h2 *h = begin();
        unsigned n = 0;
        h->w.hush = true;
        for (; n < 1000 && !http_conn_done(h->w.c); n++) {
            put_made_to_reset(&h->say, how, 2 * n + 1);
            h2_say(h);
        }
        if (n > 202)
            fail_msg("%u: cut after %u", how, n);
        h2_flush(h);
        assert_true(h->r->goaways > 0);
        assert_true(n == 1 || h->r->goaway_code == CALM ||
                    h->r->goaway_code == NGHTTP2_STREAM_CLOSED);
        end(h);
    }
}

static void malformed_streams_are_counted(void **state)
{
    struct h2 *h = begin();
    unsigned n = 0;
    for (; n < 1000 && !http_conn_done(h->w.c); n++) {
        wire_head(&h->say, END_STREAM, 2 * n + 1, ":method: GET\n");
        h2_say(h);
        assert_int_equal(h2_stream(h, 2 * n + 1)->code, PROTOCOL);
    }
    assert_int_equal(n, 201);
    expect_goaway(h, CALM);
    assert_int_equal(h->w.heads, 0);
    end(h);
}

// Whoever does not take what we must write is not read from: resets that wait count too.
static void resets_that_are_not_taken_are_bounded(void **state)
{
    struct h2 *h = begin_bare();
    h->w.hush = true;
    wire_put(&h->say, PREFACE, 24);
    wire_setting(&h->say, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE,
                 1 << 30); // our SETTINGS are never answered
    wire_number(&h->say, WINDOW_UPDATE, 0, 1 << 30);
    uint32_t id = 1;
    for (; id < 20; id += 2)
        wire_head(&h->say, END_STREAM, id, FORM "/big\n");
    h2_say_only(h);
    h2_take(h, 1);
    unsigned n = 0;
    for (; n < 100000 && http_conn_wants_read(h->w.c); n++, id += 2) {
        wire_head(&h->say, END_STREAM, id, FORM "/later\n"); // REFUSED_STREAM when there are enough
        h2_say_only(h);
    }
    assert_in_range(n, 128, 2000);
    h2_flush(h);
    expect_goaway(h, CALM);
    end(h);
}

// Small answers that a reader does not take are copies of the connection's: they are counted while they wait, and
// given back when they have left.
static void output_that_waits_is_counted(void **state)
{
    struct h2 *h = begin();
    h->w.hush = true;
    for (uint32_t id = 1; id < 256; id += 2)
        wire_head(&h->say, END_STREAM, id, FORM "/fine\n");
    h2_say_only(h);
    assert_int_equal(h->w.output, 0); // a little is each connection's
    h2_take(h, 1);
    for (uint32_t id = 257; id < 4001; id += 2) {
        wire_head(&h->say, END_STREAM, id, FORM "/fine\n");
        if (id % 64 == 1) {
            h2_say_only(h);
            h2_take(h, 1);
        }
    }
    assert_in_range(h->w.output, 64 << 10, 2 << 20);
    h2_flush(h);
    h2_flush(h);
    assert_in_range(h->w.output_most, 64 << 10, 2 << 20);
    end(h); // all of it came back
}

// ---- 49 to 56: floods --------------------------------------------------------------------------------

static void continuation_floods(void **state)
{
    static char many[1 << 20];
    static const size_t sizes[] = {0, 1, 1000, 16384, 1 << 20};
    for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
        struct h2 *h = begin();
        memset(many, 0x82, sizeof(many)); // :method GET again and again
        wire_frame(&h->say, HEADERS, 0, 1, "\x82", 1);
        unsigned n = 0;
        for (; n < 100 && !http_conn_done(h->w.c); n++) {
            wire_frame(&h->say, CONTINUATION, 0, 1, many, sizes[k]);
            h2_say(h);
        }
        assert_in_range(n, 1, 10);
        h2_flush(h);
        assert_true(h->r->goaways > 0 && h->r->goaway_code != NGHTTP2_NO_ERROR);
        assert_int_equal(h->w.heads, 0);
        end(h);
    }
}

// A block past its hard bound ends the connection with the piece that passes it.
static void a_long_block_in_pieces(void **state)
{
    struct h2 *h = begin();
    struct wire b = {0};
    static char value[20000];
    memset(value, 'a', sizeof(value));
    wire_lines(&b, FORM "/x\n");
    wire_frame(&h->say, HEADERS, 0, 1, b.p, b.n);
    unsigned n = 0;
    for (; n < 8 && !http_conn_done(h->w.c); n++) {
        b.n = 0;
        wire_field(&b, 0, VIEW("a"), view_of(value, sizeof(value)));
        wire_frame(&h->say, CONTINUATION, 0, 1, b.p, b.n);
        h2_say(h);
    }
    assert_int_equal(n, 7);
    expect_goaway(h, CALM);
    assert_int_equal(h->w.heads, 0);
    end(h);
    free(b.p);
}

// A header that is too large, in as many frames as it likes, is the fault of its own stream alone.
static void a_fat_head_is_431_for_its_stream_alone(void **state)
{
    struct h2 *h = begin();
    struct wire b = {0};
    static char value[7000];
    memset(value, 'v', sizeof(value));
    wire_head(&h->say, END_STREAM, 1, FORM "/later\n");
    for (unsigned fields = 5; fields <= 16; fields++) {
        uint32_t id = 2 * fields + 1;
        b.n = 0;
        wire_lines(&b, FORM "/x\ncontent-type: application/grpc\n");
        for (unsigned i = 0; i < fields; i++)
            wire_field(&b, 0, VIEW("a"), view_of(value, sizeof(value)));
        size_t cut = b.n / 2;
        wire_frame(&h->say, HEADERS, END_STREAM, id, b.p, cut);
        wire_frame(&h->say, CONTINUATION, END_HEADERS, id, b.p + cut, b.n - cut);
        h2_say(h);
        expect_body(h, id, 431, "fields: too many or too large");
        assert_int_equal(h2_stream(h, id)->resets, 0);
    }
    wire_head(&h->say, 0, 41, POST_FORM "/x\n"); // trailers are fields too
    b.n = 0;
    for (unsigned i = 0; i < 5; i++)
        wire_field(&b, 0, VIEW("a"), view_of(value, sizeof(value)));
    wire_frame(&h->say, HEADERS, END_HEADERS | END_STREAM, 41, b.p, b.n);
    h2_say(h);
    expect_body(h, 41, 431, "trailers: too many or too large");
    assert_int_equal(h->w.requests, 1);
    assert_int_equal(h->w.refused, 13);
    h2_answer(h);
    expect_body(h, 1, 200, "GET /later");
    expect_alive(h, 43);
    end(h);
    free(b.p);
}

// A refusal of a head must know its method: the answer to HEAD has no body.
static void a_fat_path_before_the_method(void **state)
{
    struct h2 *h = begin();
    struct wire b = {0};
    static char path[40000] = "/";
    memset(path + 1, 'p', sizeof(path) - 1);
    wire_lines(&b, ":scheme: http\n:authority: h\n");
    wire_field(&b, 0, VIEW(":path"), view_of(path, sizeof(path)));
    wire_lines(&b, ":method: HEAD\n");
    wire_frame(&h->say, HEADERS, END_HEADERS | END_STREAM, 1, b.p, b.n);
    h2_say(h);
    assert_int_equal(h2_stream(h, 1)->status, 431);
    assert_int_equal(h2_stream(h, 1)->body_n, 0);
    assert_true(h2_stream(h, 1)->ended);
    expect_alive(h, 3);
    end(h);
    free(b.p);
}

static void one_huge_block(void **state)
{
    struct h2 *h = begin();
    static char many[140000];
    memset(many, 0x82, sizeof(many));
    wire_frame(&h->say, HEADERS, END_HEADERS | END_STREAM, 1, many, sizeof(many));
    h2_say(h);
    expect_goaway(h, CALM);
    assert_int_equal(h->w.abused[ABUSE_CUT], 1);
    end(h);
}

static unsigned flood(unsigned type, unsigned flags, uint32_t id, const void *p, size_t n,
                      size_t again)
{
    struct h2 *h = begin();
    unsigned sent = 0;
    h->w.hush = true;
    wire_head(&h->say, 0, 1, POST_FORM "/a\n");
    h2_say(h);
    for (; sent < 5000 && !http_conn_done(h->w.c); sent++) {
        wire_frame(&h->say, type, flags, id, p, n);
        if (again)
            wire_frame(&h->say, type, flags, id, (const char *)p + again, n);
        h2_say(h);
    }
    if (http_conn_done(h->w.c))
        expect_goaway(h, type == RST_STREAM ? NGHTTP2_NO_ERROR : CALM);
    assert_int_equal(h->w.abused[type == RST_STREAM ? ABUSE_NO_NEW : ABUSE_CUT],
                     http_conn_done(h->w.c));
    end(h);
    return sent;
}

static void floods_of_frames(void **state)
{
    static const char padding[11] = "\x0a";
    assert_int_equal(flood(SETTINGS, 0, 0, "\0\4\0\0\xff\xff", 6, 0), 201); // 50
    assert_int_equal(flood(PING, 0, 0, "01234567", 8, 0), 201);             // 51
    assert_int_equal(flood(DATA, 0, 1, "", 0, 0), 202);                     // 52
    assert_int_equal(flood(DATA, PADDED, 1, "\0", 1, 0), 202);              // 52, padded
    assert_int_equal(flood(DATA, PADDED, 1, padding, 11, 0), 202);          // 52, only padding
    assert_int_equal(flood(PRIORITY, 0, 1, "\0\0\0\3\1", 5, 0), 401);       // 54
    assert_int_equal(flood(WINDOW_UPDATE, 0, 0, "\0\0\0\1", 4, 0), 3201);   // 55
    assert_int_equal(flood(SETTINGS, 0, 0, "\0\4\0\0\0\0\0\4\0\0\xff\xff", 6, 6),
                     101); // 55, toggled
    assert_int_equal(flood(RST_STREAM, 0, 1, "\0\0\0\x8", 4, 0), RESETS_BORNE + 1);
    assert_int_equal(flood(DATA, 0, 1, "x", 1, 0), 5000); // a body in single octets is a body
}

// Acknowledgements wait in the library; there are at most a thousand.
static void floods_that_want_answers_which_are_not_taken(void **state)
{
    for (unsigned type = SETTINGS; type <= PING; type += 2) {
        struct h2 *h = begin();
        abuse_init(&h->w.c->abuse, UINT32_MAX / 16, 0, h->w.now_us);
        for (unsigned n = 0; n < 5000; n++) {
            wire_frame(&h->say, type, 0, 0, "01234567", type == PING ? 8 : 0);
            h2_say_only(h);
        }
        expect_goaway(h, CALM);
        assert_in_range(h->r->ping_acks + h->r->settings_acks, 0, 1001);
        end(h);
    }
}

// nghttp2 asserts that a frame of a wrong size ends the session; one that we have ended already is not read.
static void nothing_is_read_after_the_end(void **state)
{
    for (unsigned how = 0; how < 4; how++) { // by PING or by empty DATA, in one piece or in two
        struct h2 *h = begin();
        wire_head(&h->say, 0, 1, POST_FORM "/a\n");
        for (unsigned n = 0; n < 300 && how < 2; n++)
            wire_frame(&h->say, PING, 0, 0, "01234567", 8);
        for (unsigned n = 0; n < 202 && how >= 2; n++) // the last one is the last straw
            wire_frame(&h->say, DATA, 0, 1, "", 0);
        if (how % 2)
            h2_say_only(h);
        wire_frame(&h->say, PING, 0, 0, "0123456", 7);
        wire_frame(&h->say, WINDOW_UPDATE, 0, 0, "012", 3);
        wire_head(&h->say, END_STREAM, 3, FORM "/a\n");
        h2_say_only(h);
        wire_frame(&h->say, SETTINGS, 0, 0, "01234", 5);
        h2_say_only(h);
        assert_int_equal(h->w.heads, 1);
        expect_goaway(h, CALM);
        end(h);
    }
    struct h2 *h = begin(); // ended by time
    h->w.now_us += 75 * (uint64_t)SECOND;
    http_conn_on_timer(h->w.c, h->w.now_us);
    wire_head(&h->say, END_STREAM, 1, FORM "/a\n");
    wire_frame(&h->say, PING, 0, 0, "0123456", 7);
    h2_say_only(h);
    assert_int_equal(h->w.heads, 0);
    expect_goaway(h, NGHTTP2_NO_ERROR);
    end(h);
}

static void an_answer_behind_a_shut_window_is_given_up(void **state)
{
    struct h2 *h = begin();
    wire_setting(&h->say, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0);
    wire_head(&h->say, END_STREAM, 1, FORM "/big\n");
    h2_say(h);
    h2_pass(h, 9 * SECOND);
    assert_int_equal(h2_stream(h, 1)->resets, 0);
    h2_pass(h, 2 * SECOND);
    assert_int_equal(h2_stream(h, 1)->resets, 1);
    assert_int_equal(h2_stream(h, 1)->code, NGHTTP2_CANCEL);
    assert_int_equal(h->w.sent, 1);
    assert_int_equal(h->w.sent_whole, 0);
    assert_int_equal(world_blocks.live_blocks, 0);
    wire_setting(&h->say, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 65535);
    expect_alive(h, 3);
    end(h);
}

static void a_window_that_opens_slowly_is_enough(void **state)
{
    struct h2 *h = begin();
    wire_setting(&h->say, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0);
    wire_head(&h->say, END_STREAM, 1, FORM "/a\n");
    h2_say(h);
    unsigned length = (unsigned)atoi(strstr(h2_stream(h, 1)->fields, "content-length: ") + 16);
    for (unsigned i = 0; i < length; i++) {
        assert_int_equal(h2_stream(h, 1)->body_n, i);
        assert_int_equal(h->w.sent, 0);
        h2_pass(h, 9 * SECOND);
        wire_number(&h->say, WINDOW_UPDATE, 1, 1);
        h2_say(h);
    }
    assert_int_equal(h->w.sent_whole, 1);
    end(h);
}

// ---- 53, 57 to 62: header blocks ---------------------------------------------------------------------

// The block is rejected in its middle, and what it put into the table is there all the same.
static void rejected_blocks_leave_hpack_in_step(void **state)
{
    for (unsigned how = 0; how < 5; how++) {
        struct h2 *h = begin();
        struct wire b = {0};
        static char big[4000];
        memset(big, 'b', sizeof(big));
        wire_lines(&b, FORM "/x\n");
        if (how == 0) { // 57
            wire_field(&b, 0x40, VIEW("a"), VIEW("b"));
            for (unsigned i = 0; i < 16000; i++)
                wire_byte(&b, 0xbe);
        } else if (how == 1) { // 58
            for (unsigned i = 0; i < 1500; i++)
                wire_field(&b, 0, VIEW("cookie"), VIEW("a"));
        } else if (how == 2) { // 59
            wire_field(&b, 0x40, VIEW("a"), view_of(big, sizeof(big)));
            for (unsigned i = 0; i < 4000; i++)
                wire_byte(&b, 0xbe);
        } else if (how == 3) { // 53
            for (unsigned i = 0; i < 8; i++)
                wire_field(&b, 0, VIEW(""), VIEW(""));
        } else {
            wire_field(&b, 0, VIEW("connection"), VIEW("x"));
        }
        wire_field(&b, 0x40, VIEW("x-kept"), VIEW("in the table"));
        wire_frame(&h->say, HEADERS, END_HEADERS | END_STREAM, 1, b.p, b.n);
        h2_say(h);
        bool answered = how == 1; // of those that are too large, what is within the hard bound
        assert_int_equal(h2_stream(h, 1)->resets, !answered);
        assert_int_equal(h2_stream(h, 1)->status, answered ? 431 : 0);
        assert_int_equal(h->r->resets, !answered);
        assert_int_equal(h->w.heads, 0);
        b.n = 0;
        wire_lines(&b, FORM "/y\n");
        wire_byte(&b, 0xbe); // the newest entry
        wire_frame(&h->say, HEADERS, END_HEADERS | END_STREAM, 3, b.p, b.n);
        h2_say(h);
        expect_body(h, 3, 200, "GET /y");
        assert_non_null(strstr(world_text(&h->w.log), "  x-kept: in the table\n"));
        end(h);
        free(b.p);
    }
}

static void fields_are_counted_in_the_middle_of_a_block(void **state)
{
    struct h2 *h = begin();
    for (unsigned n = 100; n <= 101; n++) {
        struct wire b = {0};
        wire_lines(&b, FORM "/x\n");
        for (unsigned i = 0; i < n; i++)
            wire_field(&b, 0, VIEW("a"), VIEW("b"));
        wire_frame(&h->say, HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, b.p, b.n);
        h2_say(h);
        assert_int_equal(h2_stream(h, 2 * n + 1)->status, n == 100 ? 200 : 431);
        free(b.p);
    }
    static char big[32768];
    memset(big, 'b', sizeof(big));
    for (unsigned k = 0; k < 2; k++) { // 32 KiB, with what each field costs
        struct wire b = {0};
        size_t others = 4 * 32 + 7 + 3 + 7 + 4 + 10 + 1 + 5 + 2; // pseudo-fields cost the same
        wire_lines(&b, FORM "/x\n");
        wire_field(&b, 0, VIEW("a"), view_of(big, 32768 - others - 33 + k));
        wire_frame(&h->say, HEADERS, END_HEADERS | END_STREAM, 301 + 2 * k, b.p, b.n);
        h2_say(h);
        assert_int_equal(h2_stream(h, 301 + 2 * k)->status, k == 0 ? 200 : 431);
        free(b.p);
    }
    end(h);
}

static void trailers_are_counted_too(void **state)
{
    struct h2 *h = begin();
    struct wire b = {0};
    wire_head(&h->say, 0, 1, POST_FORM "/a\n");
    wire_field(&b, 0x40, VIEW("a"), VIEW("bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"));
    for (unsigned i = 0; i < 20000; i++)
        wire_byte(&b, 0xbe);
    wire_frame(&h->say, HEADERS, END_HEADERS | END_STREAM, 1, b.p, b.n);
    h2_say(h);
    assert_int_equal(h2_stream(h, 1)->resets, 1);
    assert_int_equal(h->w.requests, 0);
    assert_int_equal(h->w.gone, 1);
    expect_alive(h, 3);
    end(h);
    free(b.p);
}

static void broken_hpack_ends_the_connection(void **state)
{
    static const struct {
        const char *octets;
        size_t n;
    } rows[] = {
        {"\x80", 1},                                              // index 0
        {"\xff\x80\x01", 3},                                      // beyond the table
        {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12}, // an integer that overflows
        {"\x00\x84\xff\xff\xff\xff\x01"
         "a",
         8}, // EOS within
        {"\x00\x82\x1f\xff\x01"
         "a",
         6},                     // padding that is too long
        {"\x3f\xe1\xff\x3f", 4}, // a table that is too large
        {"\x82\x20", 2},         // a size update behind a field
        {"\x00\x7f", 2},         // cut
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct h2 *h = begin();
        wire_frame(&h->say, HEADERS, END_HEADERS | END_STREAM, 1, rows[i].octets, rows[i].n);
        h2_say(h);
        expect_goaway(h, NGHTTP2_COMPRESSION_ERROR);
        end(h);
    }
}

// ---- 63 to 70: requests ------------------------------------------------------------------------------

static void malformed_requests_are_reset(void **state)
{
    static const char *const rows[] = {
        FORM "/a\nx: a\rb\n",
        FORM "/a\nX: upper\n",
        FORM "/a\nx y: z\n",
        FORM "/a\nx\r: z\n",
        FORM "/a\nx:y: z\n",
        FORM "/a\nx:  z\n",
        FORM "/a\nx: z \n",
        FORM "/a\nconnection: close\n", // 64
        FORM "/a\nkeep-alive: 5\n",
        FORM "/a\nproxy-connection: x\n",
        FORM "/a\ntransfer-encoding: chunked\n", // H2.TE
        FORM "/a\nupgrade: h2c\n",
        FORM "/a\nte: gzip\n",
        FORM "/a\ncontent-length: 5, 5\n", // 65
        FORM "/a\ncontent-length: +5\n",
        FORM "/a\ncontent-length: -5\n",
        FORM "/a\ncontent-length: 0x5\n",
        FORM "/a\ncontent-length: 18446744073709551621\n",
        FORM "/a\ncontent-length: 0\ncontent-length: 0\n",
        FORM "/a\ncontent-length: 5\n", // 66
        FORM "/a\n:what: x\n",          // 67
        FORM "/a\n:status: 200\n",
        FORM "/a\n:path: /b\n",
        "x: y\n" FORM "/a\n",
        ":scheme: http\n:path: /a\n",
        ":method: GET\n:path: /a\n",
        ":method: GET\n:scheme: http\n",
        FORM "\n", // 68: empty
        FORM "/a\rb\n",
        FORM "a\n",
        ":method: GET /x HTTP/1.1\n:scheme: http\n:path: /a\n", // 69
        ":method: GET\n:scheme: http://a/\n:path: /a\n",
        ":method: GET\n:scheme: http\n:authority: a\rb\n:path: /a\n",
        ":method: GET\n:scheme: http\n:path: /a\nhost: a/b\n",
        ":method: GET\n:scheme: http\n:path: /a\n",
        ":method: CONNECT\n:scheme: http\n:authority: h\n:path: /a\n:protocol: websocket\n", // 70
        ":method: CONNECT\n:scheme: http\n:authority: h\n:path: /a\n",
    };
    struct h2 *h = begin();
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        wire_head(&h->say, END_STREAM, 2 * i + 1, rows[i]);
        h2_say(h);
        struct reader_stream *s = h2_stream(h, 2 * i + 1);
        if (s->resets != 1 || s->blocks > 0 ||
            (s->code != PROTOCOL && s->code != NGHTTP2_INTERNAL_ERROR))
            fail_msg("row %u: %s: status %d, %u resets, code %u", i, rows[i], s->status, s->resets,
                     s->code);
    }
    assert_int_equal(h->w.heads, 0);
    expect_alive(h, 999);
    end(h);
}

static void requests_that_are_refused_are_answered(void **state)
{
    static const struct {
        const char *lines;
        int status;
    } rows[] = {
        {FORM "/a/%2f\n", 400},
        {FORM "/a/%00\n", 400},
        {FORM "/a/..;/b\n", 400},
        {FORM "/a#b\n", 400},
        {FORM "/a\\b\n", 400},
        {":method: GET\n:scheme: http\n:authority: h:99999\n:path: /a\n", 400},
        {":method: GET\n:scheme: http\n:path: /a\nhost: a:b\n", 400},
        {":method: CONNECT\n:authority: h:22\n", 405},
        {":method: TRACE\n:scheme: http\n:authority: h\n:path: /a\n", 405},
    };
    struct h2 *h = begin();
    unsigned i = 0;
    for (; i < sizeof(rows) / sizeof(rows[0]); i++) {
        wire_head(&h->say, END_STREAM, 2 * i + 1, rows[i].lines);
        h2_say(h);
        expect_body(h, 2 * i + 1, rows[i].status, "{\"error\":\"");
    }
    assert_non_null(strstr(h2_stream(h, 2 * i - 1)->fields, "allow: GET, HEAD, POST\n"));
    assert_int_equal(h->w.heads, 0);
    assert_int_equal(h->w.refused, sizeof(rows) / sizeof(rows[0]));
    struct wire b = {0}, path = {0};
    static char many[8193] = "/";
    memset(many + 1, 'a', 8192);
    wire_lines(&b, ":method: GET\n:scheme: http\n:authority: h\n");
    wire_field(&b, 0, VIEW(":path"), view_of(many, 8193));
    wire_frame(&h->say, HEADERS, END_HEADERS | END_STREAM, 101, b.p, b.n);
    h2_say(h);
    expect_body(h, 101, 414, "target");
    free(b.p);
    free(path.p);
    end(h);
}

// 69: by us, or already by nghttp2, which looks at more of it in newer versions.
static void userinfo_is_no_authority(void **state)
{
    struct h2 *h = begin();
    wire_head(&h->say, END_STREAM, 1, ":method: GET\n:scheme: http\n:authority: u@h\n:path: /a\n");
    h2_say(h);
    assert_true(h2_stream(h, 1)->status == 400 || h2_stream(h, 1)->code == PROTOCOL);
    assert_int_equal(h->w.heads, 0);
    expect_alive(h, 3);
    end(h);
}

static void what_goes_on(void **state)
{
    struct h2 *h = begin();
    wire_head(
        &h->say, END_STREAM, 1,
        ":method: GET\n:scheme: http\n:authority: real\n:path: /a\nhost: other\nte: trailers\n");
    wire_head(&h->say, END_STREAM, 3, ":method: GET\n:scheme: http\n:path: /b\nhost: only\n");
    wire_head(&h->say, END_STREAM, 5, ":method: OPTIONS\n:scheme: http\n:authority: h\n:path: *\n");
    h2_say(h);
    expect_body(h, 1, 200, "GET /a ? @real");
    expect_body(h, 3, 200, "GET /b ? @only");
    expect_body(h, 5, 200, "OPTIONS /* ? @h");
    assert_null(strstr(world_text(&h->w.log), "te:"));
    end(h);
}

static void lengths_must_be_true(void **state)
{
    struct h2 *h = begin();
    for (uint32_t id = 1; id <= 5; id += 2)
        wire_head(&h->say, 0, id, POST_FORM "/a\ncontent-length: 5\n");
    wire_frame(&h->say, DATA, END_STREAM, 1, "abc", 3);
    wire_frame(&h->say, DATA, 0, 3, "abcdefg", 7);
    wire_frame(&h->say, DATA, END_STREAM, 5, "abcde", 5);
    wire_head(&h->say, 0, 7, POST_FORM "/a\ncontent-length: 0\n");
    wire_frame(&h->say, DATA, END_STREAM, 7, "GET / HTTP/1.1\r\n\r\n", 18);
    h2_say(h);
    for (uint32_t id = 1; id <= 7; id += 2)
        assert_int_equal(h2_stream(h, id)->resets, id == 5 ? 0 : 1);
    expect_body(h, 5, 200, " 5:abcde");
    assert_int_equal(h->w.requests, 1);
    assert_int_equal(h->w.gone, 3);
    end(h);
}

static void trailers_without_an_end_or_with_pseudo_fields(void **state)
{
    struct h2 *h = begin();
    for (uint32_t id = 1; id <= 3; id += 2)
        wire_head(&h->say, 0, id, POST_FORM "/a\n");
    wire_head(&h->say, 0, 1, "a: b\n");
    wire_head(&h->say, END_STREAM, 3, ":path: /b\n");
    h2_say(h);
    assert_int_equal(h2_stream(h, 1)->resets + h2_stream(h, 3)->resets, 2);
    assert_int_equal(h->w.requests, 0);
    assert_int_equal(h->w.gone, 2);
    expect_alive(h, 5);
    end(h);
}

// ---- 71 to 74: the connection ------------------------------------------------------------------------

static void connection_errors(void **state)
{
    struct {
        unsigned type, flags;
        uint32_t id;
        const char *octets;
        size_t n;
        uint32_t code;
    } rows[] = {
        {DATA, 0, 9, "x", 1, PROTOCOL}, // 71: idle streams
        {RST_STREAM, 0, 9, "\0\0\0\0", 4, PROTOCOL},
        {WINDOW_UPDATE, 0, 9, "\0\0\0\1", 4, PROTOCOL},
        {CONTINUATION, END_HEADERS, 1, "", 0, PROTOCOL},
        {HEADERS, END_HEADERS | END_STREAM, 2, SHORT, 6, PROTOCOL}, // an even id
        {HEADERS, END_HEADERS | END_STREAM, 0, SHORT, 6, PROTOCOL},
        {DATA, 0, 0, "x", 1, PROTOCOL},
        {SETTINGS, 0, 1, "", 0, PROTOCOL},
        {PING, 0, 1, "01234567", 8, PROTOCOL},
        {GOAWAY, 0, 1, "01234567", 8, PROTOCOL},
        {PRIORITY, 0, 0, "\0\0\0\3\1", 5, PROTOCOL},
        {RST_STREAM, 0, 0, "\0\0\0\0", 4, PROTOCOL},
        {PUSH_PROMISE, END_HEADERS, 1, "\0\0\0\2", 4, PROTOCOL},
        {PING, 0, 0, "0123456", 7, NGHTTP2_FRAME_SIZE_ERROR}, // 72: lengths
        {SETTINGS, 0, 0, "01234", 5, NGHTTP2_FRAME_SIZE_ERROR},
        {SETTINGS, ACK, 0, "012345", 6, NGHTTP2_FRAME_SIZE_ERROR},
        {RST_STREAM, 0, 1, "012", 3, NGHTTP2_FRAME_SIZE_ERROR},
        {WINDOW_UPDATE, 0, 0, "012", 3, NGHTTP2_FRAME_SIZE_ERROR},
        {GOAWAY, 0, 0, "0123456", 7, NGHTTP2_FRAME_SIZE_ERROR},
        {WINDOW_UPDATE, 0, 0, "\0\0\0\0", 4, PROTOCOL},
        {WINDOW_UPDATE, 0, 0, "\x7f\xff\xff\xff", 4, NGHTTP2_FLOW_CONTROL_ERROR},
        {DATA, PADDED, 1, "\5abc", 4, PROTOCOL}, // more padding than frame
        {HEADERS, PADDED | END_HEADERS, 9, "\xff\x82\x86\x84", 4, PROTOCOL},
        {SETTINGS, 0, 0, "\0\2\0\0\0\2", 6, PROTOCOL}, // ENABLE_PUSH 2
        {SETTINGS, 0, 0, "\0\4\x80\0\0\0", 6, NGHTTP2_FLOW_CONTROL_ERROR},
        {SETTINGS, 0, 0, "\0\5\0\0\0\0", 6, PROTOCOL}, // MAX_FRAME_SIZE 0
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct h2 *h = begin();
        wire_head(&h->say, 0, 1, POST_FORM "/later\n");
        wire_frame(&h->say, rows[i].type, rows[i].flags, rows[i].id, rows[i].octets, rows[i].n);
        h2_say(h);
        if (h->r->goaways == 0 || h->r->goaway_code != rows[i].code)
            fail_msg("row %zu: %u GOAWAYs, code %u", i, h->r->goaways, h->r->goaway_code);
        assert_true(http_conn_done(h->w.c));
        end(h);
    }
}

static void frames_within_a_block_or_too_long(void **state)
{
    struct h2 *h = begin();
    wire_frame(&h->say, HEADERS, END_STREAM, 1, SHORT, 6);
    wire_frame(&h->say, PING, 0, 0, "01234567", 8);
    h2_say(h);
    expect_goaway(h, PROTOCOL);
    end(h);
    h = begin();
    wire_frame(&h->say, HEADERS, END_STREAM, 1, SHORT, 6);
    wire_frame(&h->say, CONTINUATION, END_HEADERS, 3, "", 0);
    h2_say(h);
    expect_goaway(h, PROTOCOL);
    end(h);
    h = begin();
    wire_put(&h->say, "\xff\xff\xff\0\0\0\0\0\1", 9); // 16 MiB
    h2_say(h);
    expect_goaway(h, NGHTTP2_FRAME_SIZE_ERROR);
    end(h);
    h = begin_bare();
    wire_put(&h->say, PREFACE, 24);
    wire_frame(&h->say, PING, 0, 0, "01234567", 8); // no SETTINGS
    h2_say(h);
    h2_flush(h);
    assert_true(http_conn_done(h->w.c));
    end(h);
}

static void more_streams_than_were_promised(void **state)
{
    struct h2 *h = begin_bare(); // before it can know
    wire_put(&h->say, PREFACE, 24);
    wire_frame(&h->say, SETTINGS, 0, 0, NULL, 0);
    for (uint32_t i = 0; i < 140; i++)
        wire_head(&h->say, END_STREAM, 2 * i + 1, FORM "/later\n");
    h2_say(h);
    assert_int_equal(h->w.heads, 128);
    for (uint32_t i = 0; i < 140; i++) {
        assert_int_equal(h2_stream(h, 2 * i + 1)->resets, i >= 128);
        assert_int_equal(h2_stream(h, 2 * i + 1)->code, i >= 128 ? NGHTTP2_REFUSED_STREAM : 0);
    }
    h2_answer(h);
    h2_flush(h);
    expect_alive(h, 301); // there is room again
    end(h);
    h = begin(); // when it has agreed
    for (uint32_t i = 0; i < 129; i++)
        wire_head(&h->say, END_STREAM, 2 * i + 1, FORM "/later\n");
    h2_say(h);
    assert_int_equal(h->w.heads, 128);
    expect_goaway(h, PROTOCOL);
    end(h);
}

static void data_past_the_windows(void **state)
{
    struct h2 *h = begin();
    static char piece[65536];
    wire_head(&h->say, 0, 1, POST_FORM "/a\n");
    for (unsigned i = 0; i < 2000; i++) // 125 MiB before anything of ours is taken
        wire_frame(&h->say, DATA, 0, 1, piece, sizeof(piece));
    h2_say(h);
    assert_true(h->r->goaways > 0 || h2_stream(h, 1)->resets > 0);
    assert_true(h->w.charged <= 64 << 20);
    end(h);
}

// ---- 75 to 80: slow peers ----------------------------------------------------------------------------

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
    static char octets[500];
    wire_head(&h->say, 0, 1, POST_FORM "/a\n");
    wire_head(&h->say, 0, 3, POST_FORM "/a\n");
    h2_say(h);
    for (unsigned i = 0; i < 50; i++) { // 500 octets a second are enough, one is not
        wire_frame(&h->say, DATA, 0, 1, octets, 500);
        wire_frame(&h->say, DATA, 0, 3, octets, 1);
        h2_say(h);
        h2_pass(h, SECOND);
        assert_int_equal(h2_stream(h, 1)->status, 0);
        if (i < 18)
            assert_int_equal(h2_stream(h, 3)->status, 0);
    }
    expect_body(h, 3, 408, "body");
    wire_frame(&h->say, DATA, END_STREAM, 1, octets, 500);
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
        cmocka_unit_test(a_conversation_is_the_same_octet_by_octet),
        cmocka_unit_test(head_and_answers_without_body),
        cmocka_unit_test(trailers_follow_the_answer),
        cmocka_unit_test(an_early_answer_ends_the_request),
        cmocka_unit_test(bodies_are_bounded),
        cmocka_unit_test(the_room_above_shapes_refusals),
        cmocka_unit_test(big_answers_follow_the_window),
        cmocka_unit_test(windows_are_given_back_as_bodies_are_kept),
        cmocka_unit_test(the_window_of_padding_is_given_back),
        cmocka_unit_test(answers_that_are_not_taken_are_bounded),
        cmocka_unit_test(gone_and_cut),
        cmocka_unit_test(other_carriers_are_known_by_their_first_octets),
        cmocka_unit_test(rapid_reset),
        cmocka_unit_test(rapid_reset_in_one_piece),
        cmocka_unit_test(live_streams_finish_after_too_many_resets),
        cmocka_unit_test(resets_that_go_on_are_cut),
        cmocka_unit_test(cancels_of_some_end_no_calls_of_others),
        cmocka_unit_test(a_gateway_may_cancel_in_bursts),
        cmocka_unit_test(no_memory_for_the_goaway),
        cmocka_unit_test(honest_work_pays_for_resets),
        cmocka_unit_test(made_you_reset),
        cmocka_unit_test(malformed_streams_are_counted),
        cmocka_unit_test(resets_that_are_not_taken_are_bounded),
        cmocka_unit_test(output_that_waits_is_counted),
        cmocka_unit_test(continuation_floods),
        cmocka_unit_test(a_long_block_in_pieces),
        cmocka_unit_test(a_fat_head_is_431_for_its_stream_alone),
        cmocka_unit_test(a_fat_path_before_the_method),
        cmocka_unit_test(one_huge_block),
        cmocka_unit_test(floods_of_frames),
        cmocka_unit_test(floods_that_want_answers_which_are_not_taken),
        cmocka_unit_test(nothing_is_read_after_the_end),
        cmocka_unit_test(an_answer_behind_a_shut_window_is_given_up),
        cmocka_unit_test(a_window_that_opens_slowly_is_enough),
        cmocka_unit_test(rejected_blocks_leave_hpack_in_step),
        cmocka_unit_test(fields_are_counted_in_the_middle_of_a_block),
        cmocka_unit_test(trailers_are_counted_too),
        cmocka_unit_test(broken_hpack_ends_the_connection),
        cmocka_unit_test(malformed_requests_are_reset),
        cmocka_unit_test(requests_that_are_refused_are_answered),
        cmocka_unit_test(userinfo_is_no_authority),
        cmocka_unit_test(what_goes_on),
        cmocka_unit_test(lengths_must_be_true),
        cmocka_unit_test(trailers_without_an_end_or_with_pseudo_fields),
        cmocka_unit_test(connection_errors),
        cmocka_unit_test(frames_within_a_block_or_too_long),
        cmocka_unit_test(more_streams_than_were_promised),
        cmocka_unit_test(data_past_the_windows),
        cmocka_unit_test(a_preface_without_settings),
        cmocka_unit_test(a_block_that_does_not_end),
        cmocka_unit_test(bodies_must_come),
        cmocka_unit_test(bodies_have_a_minimum_rate),
        cmocka_unit_test(pings_are_no_sign_of_life),
        cmocka_unit_test(rest_begins_when_the_answers_have_left),
        cmocka_unit_test(readers_must_make_progress),
        cmocka_unit_test(drain_takes_what_is_on_its_way),
        cmocka_unit_test(drain_does_not_wait_for_a_peer_that_is_silent),
        cmocka_unit_test(a_connection_that_begins_while_we_drain),
        cmocka_unit_test(any_allocation_may_fail),
        cmocka_unit_test(no_block_follows_one_that_failed),
        cmocka_unit_test(a_block_that_ends_after_its_time),
    };
    return cmocka_run_group_tests_name("http: HTTP/2 as a server", tests, NULL, NULL);
}
