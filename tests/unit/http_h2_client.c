/* HTTP/2 as a client: gRPC calls to a worker, written by hand, that answers well, badly, late, or not at all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/http_client_world.h"

static struct client *begin_bare(void)
{
    static struct client w;
    w = (struct client){0};
    if (client_blocks.live_blocks > 0) // a test before has failed
        client_blocks = (struct block_owner){0};
    client_init(&w);
    return &w;
}

static struct client *begin(void)
{
    struct client *w = begin_bare();
    wire_setting(&w->say, NGHTTP2_SETTINGS_MAX_FRAME_SIZE, 1 << 20);
    wire_frame(&w->say, SETTINGS, ACK, 0, NULL, 0);
    client_hear(w);
    return w;
}

static void end(struct client *w)
{
    const char *wrong = client_deinit(w);
    if (wrong)
        fail_msg("%s", wrong);
}

static void put_answer(struct client *w, uint32_t id, const char *text)
{
    wire_head(&w->say, 0, id, ANSWER);
    wire_message(&w->say, 0, id, 0, (uint32_t)strlen(text), text, strlen(text));
    wire_head(&w->say, END_STREAM, id, "grpc-status: 0\n");
}

static void expect_end(struct asked *a, enum http_call_end end)
{
    if (a->ends != 1 || a->end != end)
        fail_msg("expected end %d once, got %d, %u times", (int)end, (int)a->end, a->ends);
}

// A call like any other is answered.
static void expect_alive(struct client *w)
{
    assert_non_null(client_ask(w, 10, 10, 0));
    unsigned k = w->n_asked - 1;
    client_flush(w);
    put_answer(w, (uint32_t)w->asked[k].call->stream_id, "alive");
    client_hear(w);
    expect_end(&w->asked[k], CALL_ANSWERED);
    assert_string_equal(w->asked[k].body, "alive");
}

// ---- ordinary life -----------------------------------------------------------------------------------

static void ready_when_settings_came(void **state)
{
    struct client *w = begin_bare();
    client_flush(w);
    assert_int_equal(w->r->settings, 1);
    assert_int_equal(w->r->setting[NGHTTP2_SETTINGS_ENABLE_PUSH], 0);
    assert_int_equal(w->r->setting[NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE], 16 << 20);
    assert_int_equal(w->r->setting[NGHTTP2_SETTINGS_MAX_FRAME_SIZE], 1 << 20);
    assert_int_equal(w->r->window[0], (16 << 20) - 65535);
    assert_false(http_client_ready(w->c));
    assert_int_equal(http_client_room(w->c), 0);
    assert_null(client_ask(w, 1, 1, 0));
    wire_frame(&w->say, SETTINGS, 0, 0, NULL, 0);
    client_hear(w);
    assert_true(http_client_ready(w->c));
    wire_frame(&w->say, SETTINGS, 0, 0, NULL, 0);
    client_hear(w);
    assert_int_equal(w->readies, 1);
    assert_int_equal(w->r->settings_acks, 2);
    end(w);
}

static void a_call_says_what_grpc_wants(void **state)
{
    struct client *w = begin();
    client_ask(w, 11, 4, 1500000);
    client_flush(w);
    struct reader_stream *s = reader_stream(w->r, 1);
    assert_string_equal(s->fields, ":method: POST\n:scheme: http\n:path: /service/Method\n"
                                   ":authority: worker:1\nte: trailers\n"
                                   "content-type: application/grpc\nuser-agent: sluice\n"
                                   "grpc-timeout: 1500000u\n");
    assert_true(s->ended);
    assert_int_equal(s->body_n, 16);
    assert_memory_equal(s->body, "\0\0\0\0\x0b", 5);
    for (size_t i = 0; i < 11; i++)
        assert_int_equal((uint8_t)s->body[5 + i], client_byte(0, i));
    client_ask(w, 0, 1, 0); // an empty message
    client_flush(w);
    s = reader_stream(w->r, 3);
    assert_int_equal(s->body_n, 5);
    assert_true(s->ended);
    assert_null(strstr(s->fields, "grpc-timeout"));
    end(w);
}

static void answers_whole_and_cut_anywhere(void **state)
{
    struct wire all = {0};
    struct client *w = begin();
    wire_frame(&w->say, SETTINGS, 0, 0, NULL, 0);
    wire_head(&w->say, 0, 1, ":status: 103\nlink: x\n"); // interim
    wire_head(&w->say, 0, 1, ANSWER);
    wire_message(&w->say, 0, 1, 0, 11, "hello", 5);
    wire_frame(&w->say, DATA, 0, 1, "", 0);
    wire_frame(&w->say, DATA, PADDED, 1, "\3 worl\0\0\0", 9);
    wire_frame(&w->say, DATA, 0, 1, "d", 1);
    wire_head(&w->say, END_STREAM, 1, "grpc-status: 0\ngrpc-message: all%20is%20well%21%2\n");
    wire_put(&all, w->say.p, w->say.n);
    w->say.n = 0;
    end(w);
    for (size_t cut = 0; cut <= all.n; cut++) {
        w = begin();
        client_ask(w, 1000, 100, 0);
        client_flush(w);
        for (size_t at = 0; at < all.n;) { // cut == all.n: byte by byte
            size_t part = cut == all.n ? 1 : at < cut ? cut : all.n - at;
            wire_put(&w->say, all.p + at, part);
            client_hear(w);
            at += part;
        }
        struct asked *a = &w->asked[0];
        expect_end(a, CALL_ANSWERED);
        assert_int_equal(a->status, 200);
        assert_int_equal(a->grpc_status, 0);
        assert_string_equal(a->text, "all is well!%2");
        assert_int_equal(a->body_n, 11);
        assert_string_equal(a->body, "hello world");
        end(w);
    }
    free(all.p);
}

// The bound is one of what was said, not of how it was written.
static void a_long_grpc_message_is_cut(void **state)
{
    (void)state;
    char lines[12000] = ANSWER "grpc-status: 13\ngrpc-message: ";
    for (unsigned i = 0; i < HTTP_GRPC_MESSAGE / 2 + 10; i++)
        strcat(lines, "%C3%a9");
    strcat(lines, "\n");
    struct client *w = begin();
    client_ask(w, 10, 10, 0);
    client_flush(w);
    wire_head(&w->say, END_STREAM, 1, lines);
    client_hear(w);
    struct asked *a = &w->asked[0];
    expect_end(a, CALL_ANSWERED);
    assert_int_equal(a->grpc_status, 13);
    assert_int_equal(strlen(a->text), HTTP_GRPC_MESSAGE);
    for (unsigned i = 0; i < HTTP_GRPC_MESSAGE; i += 2)
        assert_memory_equal(a->text + i, "\xc3\xa9", 2);
    end(w);
}

static void answers_without_a_message(void **state)
{
    static const struct {
        const char *lines;
        int grpc_status;
        const char *text;
    } rows[] = {
        {ANSWER "grpc-status: 5\ngrpc-message: no%0asuch\n", 5, "no\nsuch"},
        {ANSWER, -1, ""},
        {ANSWER "grpc-status: 99999\n", 2, ""}, // what is no status is UNKNOWN
        {ANSWER "grpc-status: -1\n", 2, ""},
        {ANSWER "grpc-status: \n", 2, ""},
        {":status: 503\n", -1, ""},
    };
    struct client *w = begin();
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        client_ask(w, 10, 10, 0);
        client_flush(w);
        wire_head(&w->say, END_STREAM, 2 * i + 1, rows[i].lines);
        client_hear(w);
        struct asked *a = &w->asked[i];
        expect_end(a, CALL_ANSWERED);
        assert_int_equal(a->grpc_status, rows[i].grpc_status);
        assert_string_equal(a->text, rows[i].text);
        assert_false(a->has_body);
    }
    assert_int_equal(w->asked[5].status, 503);
    end(w);
}

static void large_messages_follow_the_windows(void **state)
{
    struct client *w = begin();
    size_t n = 3 << 20, sent = 0;
    client_ask(w, n, 700000, 0);
    client_flush(w);
    struct reader_stream *s = reader_stream(w->r, 1);
    assert_int_equal(s->body_n, 65535);
    wire_number(&w->say, WINDOW_UPDATE, 0, 1 << 30);
    while (!s->ended && sent < 100) {
        wire_number(&w->say, WINDOW_UPDATE, 1, 200001);
        client_hear(w);
        sent++;
    }
    assert_int_equal(s->body_n, n + 5);
    assert_int_equal(sent, (n + 5 - 65535 + 200000) / 200001);
    put_answer(w, 1, "x");
    client_hear(w);
    expect_end(&w->asked[0], CALL_ANSWERED);
    end(w);
}

// Toward a worker that takes them: few heads, few calls.
static void frames_are_as_long_as_the_worker_allows(void **state)
{
    for (uint32_t most = 16384; most <= 4 << 20; most *= 8) {
        struct client *w = begin();
        wire_setting(&w->say, NGHTTP2_SETTINGS_MAX_FRAME_SIZE, most);
        wire_setting(&w->say, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1 << 30);
        wire_number(&w->say, WINDOW_UPDATE, 0, 1 << 30);
        client_hear(w);
        client_ask(w, 5 << 20, 5 << 20, 0);
        client_flush(w);
        assert_int_equal(reader_stream(w->r, 1)->body_n, (5 << 20) + 5);
        assert_int_equal(reader_stream(w->r, 1)->longest, most > 1 << 20 ? 1 << 20 : most);
        end(w);
    }
}

// Calls do not wait for one that is long: output is made as it leaves.
static void output_is_bounded(void **state)
{
    struct client *w = begin();
    static struct iovec iov[4096];
    wire_setting(&w->say, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1 << 30);
    wire_number(&w->say, WINDOW_UPDATE, 0, 1 << 30);
    client_hear(w);
    for (unsigned i = 0; i < 4; i++)
        client_ask(w, 20 << 20, 20 << 20, 0);
    w->in_call++;
    int k = http_client_gather(w->c, iov, 4096);
    w->in_call--;
    size_t waits = 0;
    for (int i = 0; i < k; i++)
        waits += iov[i].iov_len;
    assert_in_range(waits, 4 << 20, (5 << 20) + 1000);
    client_flush(w);
    for (uint32_t id = 1; id < 8; id += 2)
        assert_int_equal(reader_stream(w->r, id)->body_n, (20 << 20) + 5);
    end(w);
}

static void as_many_calls_as_the_worker_takes(void **state)
{
    struct client *w = begin();
    wire_setting(&w->say, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 2);
    client_hear(w);
    assert_int_equal(http_client_room(w->c), 2);
    assert_non_null(client_ask(w, 1, 1, 0));
    assert_non_null(client_ask(w, 1, 1, 0));
    assert_int_equal(http_client_room(w->c), 0);
    assert_null(client_ask(w, 1, 1, 0));
    client_flush(w);
    wire_setting(&w->say, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 1);
    put_answer(w, 1, "x");
    client_hear(w);
    assert_int_equal(http_client_room(w->c), 0);
    put_answer(w, 3, "x");
    client_hear(w);
    assert_int_equal(http_client_room(w->c), 1);
    end(w);
}

static void pings_are_answered(void **state)
{
    struct client *w = begin();
    wire_frame(&w->say, PING, 0, 0, "01234567", 8);
    client_hear(w);
    assert_int_equal(w->r->ping_acks, 1);
    end(w);
}

// ---- framing of gRPC (row 100) -----------------------------------------------------------------------

static void broken_framing(void **state)
{
    static const struct {
        const char *a, *b; // of one DATA frame each
        size_t a_n, b_n;
        enum http_call_end end;
    } rows[] = {
        {"\0\0\0\0\3abc", "", 8, 0, CALL_ANSWERED},
        {"\0\0\0\0\0", "", 5, 0, CALL_ANSWERED},
        {"", "", 0, 0, CALL_ANSWERED},                         // no message at all
        {"\1\0\0\0\3abc", "", 8, 0, CALL_MALFORMED},           // compressed: we did not ask for it
        {"\2\0\0\0\3abc", "", 8, 0, CALL_MALFORMED},           // no such flag
        {"\0\0\0\0\4abc", "", 8, 0, CALL_MALFORMED},           // says more than comes
        {"\0\0\0\0\2abc", "", 8, 0, CALL_MALFORMED},           // less
        {"\0\0\0\0\3abc", "d", 8, 1, CALL_MALFORMED},          // in the next frame
        {"\0\0\0\0\1a\0\0\0\0\1b", "", 12, 0, CALL_MALFORMED}, // two messages
        {"\0\0\0\0\1a", "\0\0\0\0\1b", 6, 6, CALL_MALFORMED},  // two messages, two frames
        {"\0\0\0\0\0", "\0\0\0\0\0", 5, 5, CALL_MALFORMED},    // two empty ones
        {"\0\0\0\0", "", 4, 0, CALL_MALFORMED},                // half a prefix
        {"\0", "", 1, 0, CALL_MALFORMED},
        {"\0\0", "\0\0\3abc", 2, 6, CALL_ANSWERED},          // a prefix in two pieces
        {"\0\xff\xff\xff\xff", "abc", 5, 3, CALL_TOO_LARGE}, // 2^32 - 1
        {"\0\x10\0\0\1", "", 5, 0, CALL_TOO_LARGE},          // one more than max_answer
        {"\0\x10\0\0\0", "", 5, 0, CALL_MALFORMED},          // max_answer, of which nothing comes
        {"<html>an error page", "", 19, 0, CALL_MALFORMED},
    };
    struct client *w = begin();
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (unsigned step = 0; step < 2; step++) {
            client_ask(w, 10, 10, 0);
            client_flush(w);
            unsigned k = w->n_asked - 1;
            uint32_t id = 2 * k + 1;
            wire_head(&w->say, 0, id, ANSWER);
            if (step == 0)
                wire_frame(&w->say, DATA, 0, id, rows[i].a, rows[i].a_n);
            for (size_t at = 0; step == 1 && at < rows[i].a_n; at++)
                wire_frame(&w->say, DATA, 0, id, rows[i].a + at, 1);
            wire_frame(&w->say, DATA, 0, id, rows[i].b, rows[i].b_n);
            wire_head(&w->say, END_STREAM, id, "grpc-status: 0\n");
            client_hear(w);
            if (w->asked[k].ends != 1 || w->asked[k].end != rows[i].end)
                fail_msg("row %u, step %u: end %d", i, step, (int)w->asked[k].end);
        }
    }
    expect_alive(w);
    end(w);
}

// A prefix that says much costs nothing before the bytes come.
static void nothing_is_allocated_by_the_prefix(void **state)
{
    struct client *w = begin();
    client_ask(w, 10, 10, 0);
    client_flush(w);
    wire_head(&w->say, 0, 1, ANSWER);
    wire_message(&w->say, 0, 1, 0, 200 << 20, "abc", 3);
    client_hear(w);
    assert_in_range(client_blocks.live_bytes, 1, 64 << 10);
    static char piece[16384];
    size_t n = 3;
    for (unsigned i = 0; i < 100; i++, n += sizeof(piece)) {
        wire_frame(&w->say, DATA, 0, 1, piece, sizeof(piece));
        client_hear(w);
        assert_true(client_blocks.live_bytes <=
                    (n + sizeof(piece) > 65536 ? 2 * (n + sizeof(piece)) : 65536));
    }
    assert_int_equal(w->n_ends, 0);
    end(w);
}

static void what_is_too_large_is_reset(void **state)
{
    struct client *w = begin();
    client_ask(w, 10, 10, 0);
    client_flush(w);
    wire_head(&w->say, 0, 1, ANSWER);
    wire_message(&w->say, 0, 1, 0, (256 << 20) + 1, "abc", 3);
    client_hear(w);
    expect_end(&w->asked[0], CALL_TOO_LARGE);
    assert_int_equal(reader_stream(w->r, 1)->resets, 1);
    assert_int_equal(reader_stream(w->r, 1)->code, NGHTTP2_CANCEL);
    wire_frame(&w->say, DATA, 0, 1, "late", 4); // was on its way
    client_hear(w);
    expect_alive(w);
    end(w);
}

// ---- header blocks -----------------------------------------------------------------------------------

static void header_bombs(void **state)
{
    for (unsigned how = 0; how < 4; how++) {
        struct client *w = begin();
        struct wire b = {0};
        static char big[4000];
        memset(big, 'b', sizeof(big));
        client_ask(w, 10, 10, 0);
        client_flush(w);
        wire_lines(&b, how == 3 ? "" : ANSWER);
        if (how == 3)
            wire_head(&w->say, 0, 1, ANSWER); // then in the trailers
        wire_field(&b, 0x40, how == 1 ? VIEW("grpc-message") : VIEW("a"),
                   view_of(big, how == 2 ? 4000 : 900));
        for (unsigned i = 0; i < 16000; i++)
            wire_byte(&b, 0xbe);
        wire_field(&b, 0x40, VIEW("grpc-status"), VIEW("7"));
        wire_frame(&w->say, HEADERS, END_HEADERS | END_STREAM, 1, b.p, b.n);
        client_hear_only(w);
        if (w->asked[0].call)
            assert_in_range(w->asked[0].call->arena.bytes, 0, 128 << 10);
        client_flush(w);
        expect_end(&w->asked[0], CALL_MALFORMED);
        client_ask(w, 10, 10, 0); // and HPACK is in step
        client_flush(w);
        b.n = 0;
        wire_lines(&b, ANSWER);
        wire_byte(&b, 0xbe);
        wire_frame(&w->say, HEADERS, END_HEADERS | END_STREAM, 3, b.p, b.n);
        client_hear(w);
        expect_end(&w->asked[1], CALL_ANSWERED);
        assert_int_equal(w->asked[1].grpc_status, 7);
        end(w);
        free(b.p);
    }
}

static void malformed_answers(void **state)
{
    static const char *const rows[] = {
        "content-type: application/grpc\n",
        ":status: 2000\n",
        ":status: x\n",
        ":status: \n",
        ":path: /\n:status: 200\n",
        ":status: 200\nA: b\n",
        ":status: 200\nconnection: x\n",
        ":status: 101\n",
        ":status: 200\n:status: 200\n",
    };
    struct client *w = begin();
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        client_ask(w, 10, 10, 0);
        client_flush(w);
        wire_head(&w->say, END_STREAM, 2 * i + 1, rows[i]);
        client_hear(w);
        struct asked *a = &w->asked[i];
        if (a->ends != 1 || a->end == CALL_ANSWERED || a->end == CALL_REFUSED)
            fail_msg("row %u: end %d, %u times", i, (int)a->end, a->ends);
    }
    expect_alive(w);
    end(w);
}

static void lengths_must_be_true(void **state)
{
    struct client *w = begin();
    client_ask(w, 10, 10, 0);
    client_flush(w);
    wire_head(&w->say, 0, 1, ANSWER "content-length: 5\n");
    wire_message(&w->say, END_STREAM, 1, 0, 3, "abc", 3);
    client_hear(w);
    assert_int_equal(w->asked[0].ends, 1);
    assert_true(w->asked[0].end == CALL_RESET || w->asked[0].end == CALL_MALFORMED);
    end(w);
}

// ---- ends --------------------------------------------------------------------------------------------

static void refused_calls_may_be_repeated(void **state)
{
    struct client *w = begin();
    for (unsigned i = 0; i < 4; i++)
        client_ask(w, 10, 10, 0);
    client_flush(w);
    wire_number(&w->say, RST_STREAM, 1, NGHTTP2_REFUSED_STREAM);
    client_hear(w);
    expect_end(&w->asked[0], CALL_REFUSED);
    wire_frame(&w->say, GOAWAY, 0, 0, "\0\0\0\3\0\0\0\0", 8); // the second was processed, no more
    client_hear(w);
    assert_int_equal(w->asked[1].ends, 0);
    expect_end(&w->asked[2], CALL_REFUSED);
    expect_end(&w->asked[3], CALL_REFUSED);
    assert_false(http_client_ready(w->c));
    assert_false(http_client_done(w->c));
    assert_null(client_ask(w, 10, 10, 0));
    put_answer(w, 3, "last");
    client_hear(w);
    expect_end(&w->asked[1], CALL_ANSWERED);
    assert_true(http_client_done(w->c));
    end(w);
}

static void calls_that_were_not_sent_are_refused_by_goaway(void **state)
{
    struct client *w = begin();
    for (unsigned i = 0; i < 3; i++)
        client_ask(w, 10000, 5000, 0);
    wire_frame(&w->say, GOAWAY, 0, 0, "\0\0\0\0\0\0\0\0", 8);
    client_hear(w);
    for (unsigned i = 0; i < 3; i++)
        expect_end(&w->asked[i], CALL_REFUSED);
    assert_int_equal(reader_stream(w->r, 1)->blocks, 0);
    assert_true(http_client_done(w->c));
    end(w);
}

static void a_notice_of_shutdown_takes_what_is_on_its_way(void **state)
{
    struct client *w = begin();
    client_ask(w, 10, 10, 0);
    client_flush(w);
    wire_frame(&w->say, GOAWAY, 0, 0, "\x7f\xff\xff\xff\0\0\0\0", 8);
    client_hear(w);
    assert_int_equal(w->n_ends, 0);
    assert_int_equal(http_client_room(w->c), 0);
    put_answer(w, 1, "x");
    client_hear(w);
    expect_end(&w->asked[0], CALL_ANSWERED);
    assert_true(http_client_done(w->c));
    end(w);
}

static void resets_tell_their_code(void **state)
{
    struct client *w = begin();
    for (unsigned i = 0; i < 4; i++)
        client_ask(w, 10, 10, 0);
    client_flush(w);
    wire_number(&w->say, RST_STREAM, 1, NGHTTP2_INTERNAL_ERROR);
    wire_head(&w->say, 0, 3, ANSWER); // in the middle of its answer
    wire_message(&w->say, 0, 3, 0, 100, "abc", 3);
    wire_number(&w->say, RST_STREAM, 3, NGHTTP2_CANCEL);
    wire_head(&w->say, 0, 5, ANSWER); // without an error, and without an end
    wire_message(&w->say, 0, 5, 0, 100, "abc", 3);
    wire_number(&w->say, RST_STREAM, 5, NGHTTP2_NO_ERROR);
    wire_number(&w->say, RST_STREAM, 7, NGHTTP2_NO_ERROR);
    client_hear(w);
    expect_end(&w->asked[0], CALL_RESET);
    assert_int_equal(w->asked[0].rst_code, NGHTTP2_INTERNAL_ERROR);
    expect_end(&w->asked[1], CALL_RESET);
    assert_int_equal(w->asked[1].rst_code, NGHTTP2_CANCEL);
    expect_end(&w->asked[2], CALL_MALFORMED);
    expect_end(&w->asked[3], CALL_MALFORMED);
    end(w);
}

// gRFC A6: milliseconds; negative or unreadable: not soon.
static void a_server_may_ask_for_a_pause(void **state)
{
    static const struct {
        const char *says;
        uint64_t us;
    } rows[] = {
        {"", 0},
        {"grpc-retry-pushback-ms: 0\n", 0},
        {"grpc-retry-pushback-ms: 25\n", 25000},
        {"grpc-retry-pushback-ms: 2147483647\n", 2147483647000},
        {"grpc-retry-pushback-ms: 2147483648\n", 1000000},
        {"grpc-retry-pushback-ms: 99999999999999999999\n", 1000000},
        {"grpc-retry-pushback-ms: -1\n", 1000000},
        {"grpc-retry-pushback-ms: soon\n", 1000000},
        {"grpc-retry-pushback-ms: \n", 1000000},
    };
    struct client *w = begin();
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char head[200];
        client_ask(w, 10, 10, 0);
        client_flush(w);
        snprintf(head, sizeof(head), ANSWER "grpc-status: 8\n%s", rows[i].says);
        wire_head(&w->say, END_STREAM, 2 * i + 1, head);
        client_hear(w);
        expect_end(&w->asked[i], CALL_ANSWERED);
        if (w->asked[i].pushback_us != rows[i].us)
            fail_msg("%s: %llu us", rows[i].says, (unsigned long long)w->asked[i].pushback_us);
    }
    end(w);
}

// RFC 9113 8.1: a whole answer, and "no need to send the rest".
static void an_early_answer_is_an_answer(void **state)
{
    struct client *w = begin();
    client_ask(w, 1 << 20, 1 << 20, 0);
    client_flush(w);
    assert_false(reader_stream(w->r, 1)->ended);
    wire_head(&w->say, END_STREAM, 1, ANSWER "grpc-status: 8\n");
    wire_number(&w->say, RST_STREAM, 1, NGHTTP2_NO_ERROR);
    wire_number(&w->say, WINDOW_UPDATE, 0, 1000);
    client_hear(w);
    expect_end(&w->asked[0], CALL_ANSWERED);
    assert_int_equal(w->asked[0].grpc_status, 8);
    expect_alive(w);
    end(w);
}

static void lost_connections_end_every_call(void **state)
{
    struct client *w = begin();
    client_ask(w, 10, 10, 0);           // sent
    client_ask(w, 1 << 20, 1 << 20, 0); // half
    client_flush(w);
    client_ask(w, 10, 10, 0); // not at all
    client_ask(w, 10, 10, 0);
    http_call_cancel(w->asked[3].call);
    w->in_call++;
    http_client_free(w->c);
    w->in_call--;
    w->c = NULL;
    for (unsigned i = 0; i < 3; i++)
        expect_end(&w->asked[i], CALL_LOST);
    expect_end(&w->asked[3], CALL_CANCELLED);
    end(w);
}

static void a_worker_that_breaks_the_protocol_is_left(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
    } rows[] = {
        {"HTTP/1.1 400 Bad Request\r\n\r\n", 28},
        {"\0\0\1\0\0\0\0\0\1x", 10},            // DATA before SETTINGS
        {"\0\0\0\4\0\0\0\0\1", 9},              // SETTINGS of a stream
        {"\xff\xff\xff\0\0\0\0\0\1", 9},        // 16 MiB
        {"\0\0\3\1\4\0\0\0\2\x88\x88\x88", 12}, // a stream that nobody opened
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct client *w = begin_bare();
        if (i >= 2) {
            wire_frame(&w->say, SETTINGS, 0, 0, NULL, 0);
            client_hear(w);
            client_ask(w, 10, 10, 0);
            client_flush(w);
        }
        wire_put(&w->say, rows[i].bytes, rows[i].n);
        client_hear(w);
        if (!http_client_done(w->c))
            fail_msg("row %zu: not done", i);
        assert_int_equal(w->n_ends, 0);
        unsigned n = w->n_asked;
        w->in_call++;
        http_client_free(w->c);
        w->in_call--;
        w->c = NULL;
        for (unsigned k = 0; k < n; k++)
            expect_end(&w->asked[k], CALL_LOST);
        end(w);
    }
}

static void floods_of_a_worker_are_bounded(void **state)
{
    for (unsigned type = SETTINGS; type <= PING; type += 2) {
        struct client *w = begin();
        for (unsigned n = 0; n < 5000; n++) {
            wire_frame(&w->say, type, 0, 0, "01234567", type == PING ? 8 : 0);
            client_hear_only(w);
        }
        client_flush(w);
        assert_true(http_client_done(w->c));
        assert_in_range(w->r->ping_acks + w->r->settings_acks, 0, 1001);
        end(w);
    }
}

// ---- cancel ------------------------------------------------------------------------------------------

static void cancel_before_it_was_sent(void **state)
{
    struct client *w = begin();
    client_ask(w, 10000, 5000, 0);
    client_ask(w, 10, 10, 0);
    http_call_cancel(w->asked[0].call);
    http_call_cancel(w->asked[0].call); // twice is as good as once
    assert_int_equal(w->n_ends, 0);
    client_flush(w);
    expect_end(&w->asked[0], CALL_CANCELLED);
    assert_int_equal(reader_stream(w->r, 1)->blocks, 0); // the worker never hears of it
    assert_int_equal(reader_stream(w->r, 1)->resets, 0);
    assert_true(reader_stream(w->r, 3)->ended);
    put_answer(w, 3, "x");
    client_hear(w);
    expect_end(&w->asked[1], CALL_ANSWERED);
    end(w);
}

static void cancel_while_it_waits(void **state)
{
    struct client *w = begin();
    client_ask(w, 10, 10, 0);
    client_ask(w, 1 << 20, 1 << 20, 0); // behind its window
    client_flush(w);
    http_call_cancel(w->asked[0].call);
    http_call_cancel(w->asked[1].call);
    assert_int_equal(w->n_ends, 0);
    client_flush(w);
    for (uint32_t i = 0; i < 2; i++) {
        expect_end(&w->asked[i], CALL_CANCELLED);
        assert_int_equal(reader_stream(w->r, 2 * i + 1)->resets, 1);
        assert_int_equal(reader_stream(w->r, 2 * i + 1)->code, NGHTTP2_CANCEL);
    }
    put_answer(w, 1, "late"); // was on its way
    wire_number(&w->say, WINDOW_UPDATE, 0, 1000);
    client_hear(w);
    expect_alive(w);
    end(w);
}

// Told only when nothing in the output refers to its bytes any more.
static void a_cancelled_call_ends_when_its_bytes_have_left(void **state)
{
    struct client *w = begin();
    client_ask(w, 50000, 50000, 0);
    client_take(w, 1000); // the rest is in the output
    http_call_cancel(w->asked[0].call);
    client_take(w, 1000);
    wire_frame(&w->say, PING, 0, 0, "01234567", 8);
    client_hear_only(w);
    assert_int_equal(w->n_ends, 0);
    client_flush(w);
    expect_end(&w->asked[0], CALL_CANCELLED);
    end(w);
}

// A socket that takes nothing holds back the bytes, never the end of a call whose own have left.
static void a_cancel_needs_no_room_in_the_socket(void **state)
{
    struct client *w = begin();
    client_ask(w, 10, 10, 0);
    client_flush(w);
    client_ask(w, 50000, 50000, 0);
    http_call_cancel(w->asked[0].call);
    w->in_call++;
    http_client_fill(w->c);
    w->in_call--;
    expect_end(&w->asked[0], CALL_CANCELLED);
    assert_int_equal(w->asked[1].ends, 0);
    client_flush(w);
    assert_int_equal(reader_stream(w->r, 1)->resets, 1);
    assert_true(reader_stream(w->r, 3)->ended);
    end(w);
}

static void filling_is_bounded(void **state)
{
    struct client *w = begin();
    static struct iovec iov[4096];
    wire_setting(&w->say, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1 << 30);
    wire_number(&w->say, WINDOW_UPDATE, 0, 1 << 30);
    client_hear(w);
    client_ask(w, 40 << 20, 40 << 20, 0);
    w->in_call++;
    for (unsigned i = 0; i < 10; i++)
        http_client_fill(w->c);
    int k = http_client_gather(w->c, iov, 4096);
    w->in_call--;
    size_t waits = 0;
    for (int i = 0; i < k; i++)
        waits += iov[i].iov_len;
    assert_in_range(waits, 4 << 20, (5 << 20) + 1000);
    client_flush(w);
    end(w);
}

static void cancel_crosses_the_answer(void **state)
{
    struct client *w = begin();
    client_ask(w, 10, 10, 0);
    client_ask(w, 10, 10, 0);
    client_ask(w, 10, 10, 0);
    client_flush(w);
    http_call_cancel(w->asked[0].call); // its reset has not left when the answer comes
    put_answer(w, 1, "x");
    client_hear_only(w);
    client_flush(w);
    expect_end(&w->asked[0], CALL_CANCELLED);
    http_call_cancel(w->asked[1].call); // the worker resets it at the same time
    wire_number(&w->say, RST_STREAM, 3, NGHTTP2_REFUSED_STREAM);
    client_hear(w);
    expect_end(&w->asked[1], CALL_CANCELLED);
    wire_head(&w->say, 0, 5, ANSWER); // in the middle of its answer
    wire_message(&w->say, 0, 5, 0, 100, "abc", 3);
    client_hear(w);
    http_call_cancel(w->asked[2].call);
    client_flush(w);
    expect_end(&w->asked[2], CALL_CANCELLED);
    end(w);
}

// An answer that is there before the message has left ends the call only then.
static void lent_bytes_are_not_given_back_before_they_left(void **state)
{
    struct client *w = begin();
    client_ask(w, 50000, 50000, 0);
    client_take(w, 2000);
    put_answer(w, 1, "early");
    client_hear_only(w);
    assert_int_equal(w->n_ends, 0);
    client_take(w, 47000);
    assert_int_equal(w->n_ends, 0);
    client_flush(w);
    expect_end(&w->asked[0], CALL_ANSWERED);
    assert_int_equal(reader_stream(w->r, 1)->body_n, 50005);
    end(w);
}

// ---- want of memory ----------------------------------------------------------------------------------

static bool takes_no_more(void *ctx, int64_t delta_bytes)
{
    return delta_bytes < *(int64_t *)ctx;
}

// An end of its own: the worker has done nothing wrong, and is told to stop. What had come is given back at once.
static void no_room_for_an_answer(void **state)
{
    int64_t least_refused = 128 << 10;
    static const uint8_t part[100 << 10];
    struct client *w = begin();
    client_ask(w, 10, 10, 0);
    client_flush(w);
    client_blocks.account = takes_no_more;
    client_blocks.account_ctx = &least_refused;
    wire_head(&w->say, 0, 1, ANSWER);
    wire_message(&w->say, 0, 1, 0, 300 << 10, part, 60 << 10);
    client_hear(w);
    assert_int_equal(w->asked[0].ends, 0);
    assert_int_equal(client_blocks.live_blocks, 1);
    wire_frame(&w->say, DATA, 0, 1, part, sizeof(part));
    client_hear_only(w);
    assert_int_equal(client_blocks.live_blocks, 0);
    client_flush(w);
    expect_end(&w->asked[0], CALL_NO_ROOM);
    assert_false(w->asked[0].has_body);
    assert_int_equal(reader_stream(w->r, 1)->code, NGHTTP2_CANCEL);
    wire_frame(&w->say, DATA, 0, 1, part, sizeof(part)); // on its way still
    client_hear(w);
    client_blocks.account = NULL;
    expect_alive(w);
    end(w);
}

static void any_allocation_may_fail(void **state)
{
    uint64_t used = 1;
    for (uint64_t n = 1; used >= n - 1; n++) { // until a run in which none failed
        static struct client w;
        w = (struct client){0};
        uint64_t before = mem_count();
        mem_fail_at(n);
        client_init(&w);
        if (w.c) {
            wire_setting(&w.say, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1 << 20);
            wire_number(&w.say, WINDOW_UPDATE, 0, 1 << 20);
            client_hear(&w);
            for (unsigned i = 0; i < 4; i++)
                client_ask(&w, 20000, 6000, 1000);
            client_flush(&w);
            for (unsigned i = 0; i < w.n_asked; i++) {
                if (w.asked[i].call)
                    put_answer(&w, (uint32_t)w.asked[i].call->stream_id, "hello");
            }
            if (w.n_asked > 1 && w.asked[1].call)
                http_call_cancel(w.asked[1].call);
            client_hear(&w);
            client_flush(&w);
        }
        used = mem_count() - before;
        mem_fail_at(0);
        for (unsigned i = 0; i < w.n_asked; i++) {
            struct asked *a = &w.asked[i];
            bool answered = a->ends == 1 && a->end == CALL_ANSWERED;
            if (answered && (strcmp(a->body, "hello") != 0 || a->grpc_status != 0))
                fail_msg("allocation %u: another answer: %s", (unsigned)n, a->body);
            if (used < n ? a->ends != 1 || (i != 1 && !answered)
                         : a->ends == 0 && !http_client_done(w.c))
                fail_msg("allocation %u of %u: call %u: %u ends", (unsigned)n, (unsigned)used, i,
                         a->ends);
        }
        if (used < n)
            assert_int_equal(w.n_asked, 4);
        end(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ready_when_settings_came),
        cmocka_unit_test(a_call_says_what_grpc_wants),
        cmocka_unit_test(answers_whole_and_cut_anywhere),
        cmocka_unit_test(answers_without_a_message),
        cmocka_unit_test(a_long_grpc_message_is_cut),
        cmocka_unit_test(large_messages_follow_the_windows),
        cmocka_unit_test(frames_are_as_long_as_the_worker_allows),
        cmocka_unit_test(output_is_bounded),
        cmocka_unit_test(as_many_calls_as_the_worker_takes),
        cmocka_unit_test(pings_are_answered),
        cmocka_unit_test(broken_framing),
        cmocka_unit_test(nothing_is_allocated_by_the_prefix),
        cmocka_unit_test(what_is_too_large_is_reset),
        cmocka_unit_test(header_bombs),
        cmocka_unit_test(malformed_answers),
        cmocka_unit_test(lengths_must_be_true),
        cmocka_unit_test(refused_calls_may_be_repeated),
        cmocka_unit_test(calls_that_were_not_sent_are_refused_by_goaway),
        cmocka_unit_test(a_notice_of_shutdown_takes_what_is_on_its_way),
        cmocka_unit_test(resets_tell_their_code),
        cmocka_unit_test(a_server_may_ask_for_a_pause),
        cmocka_unit_test(an_early_answer_is_an_answer),
        cmocka_unit_test(lost_connections_end_every_call),
        cmocka_unit_test(a_worker_that_breaks_the_protocol_is_left),
        cmocka_unit_test(floods_of_a_worker_are_bounded),
        cmocka_unit_test(cancel_before_it_was_sent),
        cmocka_unit_test(cancel_while_it_waits),
        cmocka_unit_test(a_cancelled_call_ends_when_its_bytes_have_left),
        cmocka_unit_test(a_cancel_needs_no_room_in_the_socket),
        cmocka_unit_test(filling_is_bounded),
        cmocka_unit_test(cancel_crosses_the_answer),
        cmocka_unit_test(lent_bytes_are_not_given_back_before_they_left),
        cmocka_unit_test(no_room_for_an_answer),
        cmocka_unit_test(any_allocation_may_fail),
    };
    return cmocka_run_group_tests_name("http: HTTP/2 as a client", tests, NULL, NULL);
}
