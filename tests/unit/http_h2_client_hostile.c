/* HTTP/2 as a client: what a hostile or broken worker says (row 100 of docs/hostile.md). */
#include "tests/unit/http_h2_client_kit.h"

// ---- framing of gRPC ---------------------------------------------------------------------------------

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

// ---- the protocol ------------------------------------------------------------------------------------

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_framing),
        cmocka_unit_test(nothing_is_allocated_by_the_prefix),
        cmocka_unit_test(what_is_too_large_is_reset),
        cmocka_unit_test(header_bombs),
        cmocka_unit_test(malformed_answers),
        cmocka_unit_test(lengths_must_be_true),
        cmocka_unit_test(a_worker_that_breaks_the_protocol_is_left),
        cmocka_unit_test(floods_of_a_worker_are_bounded),
    };
    return cmocka_run_group_tests_name("http: hostile workers", tests, NULL, NULL);
}
