/* HTTP/2 as a server: header blocks, requests and frames that cannot be, rows 53 and 57 to 74 of the hostile input with
 * their precise outcomes. */
#include "tests/unit/http_h2_kit.h"

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
        const char *bytes;
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
        wire_frame(&h->say, HEADERS, END_HEADERS | END_STREAM, 1, rows[i].bytes, rows[i].n);
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
        const char *bytes;
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
        wire_frame(&h->say, rows[i].type, rows[i].flags, rows[i].id, rows[i].bytes, rows[i].n);
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
    assert_int_equal(h2_stream(h, 257)->code, NGHTTP2_REFUSED_STREAM);
    h2_answer(h);
    h2_flush(h);
    expect_alive(h, 301); // the others go on
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

int main(void)
{
    const struct CMUnitTest tests[] = {
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
    };
    return cmocka_run_group_tests_name("http: hostile blocks, requests and frames over HTTP/2",
                                       tests, NULL, NULL);
}
