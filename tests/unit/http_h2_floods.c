/* HTTP/2 as a server: resets and floods, rows 46 to 56 of the hostile input with their precise outcomes. */
#include "tests/unit/http_h2_kit.h"

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

// Small answers that a reader does not take are made one by one: what waits stays with its exchange, which is
// charged, and the connection's own part is small whatever comes.
static void output_that_waits_is_small(void **state)
{
    struct h2 *h = begin();
    unsigned asked = 0;
    h->w.hush = true;
    for (uint32_t id = 1; id < 256; id += 2, asked++) {
        wire_head(&h->say, END_STREAM, id, id % 8 == 1 ? FORM "/runs\n" : FORM "/fine\n");
        h2_say_only(h);
        h2_take(h, 1);
        world_output_is_small(&h->w);
    }
    assert_int_equal(h->w.requests, asked);
    assert_in_range(h->w.sent, 0, asked / 2);
    for (unsigned i = 0; i < 2000; i++) { // and what it makes us say beside
        wire_frame(&h->say, PING, 0, 0, "12345678", 8);
        h2_say_only(h);
        h2_take(h, 1);
        world_output_is_small(&h->w);
    }
    end(h);
}

static void output_goes_on_as_it_is_taken(void **state)
{
    struct h2 *h = begin();
    h->w.hush = true;
    wire_setting(&h->say, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 4 << 20);
    wire_number(&h->say, WINDOW_UPDATE, 0, 1 << 30);
    h2_say(h);
    for (uint32_t id = 1; id < 200; id += 2)
        wire_head(&h->say, END_STREAM, id, id % 8 == 1 ? FORM "/runs\n" : FORM "/fine\n");
    h2_say_only(h);
    for (size_t took = 1; took > 0; took = h2_take(h, 1000))
        world_output_is_small(&h->w);
    assert_int_equal(h->w.sent_whole, 100);
    assert_int_equal(reader_stream(h->r, 1)->body_n, RUNS_ANSWER * RUN_BYTES);
    end(h);
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
    assert_int_equal(flood(DATA, 0, 1, "x", 1, 0), 5000); // a body in single bytes is a body
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

int main(void)
{
    const struct CMUnitTest tests[] = {
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
        cmocka_unit_test(output_that_waits_is_small),
        cmocka_unit_test(output_goes_on_as_it_is_taken),
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
    };
    return cmocka_run_group_tests_name("http: resets and floods over HTTP/2", tests, NULL, NULL);
}
