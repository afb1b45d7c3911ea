/* HTTP/2 as a client: gRPC calls to a worker, written by hand, that answers well. */
#include "tests/unit/http_h2_client_kit.h"

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

// ---- windows and output ------------------------------------------------------------------------------

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ready_when_settings_came),
        cmocka_unit_test(a_call_says_what_grpc_wants),
        cmocka_unit_test(answers_whole_and_cut_anywhere),
        cmocka_unit_test(a_long_grpc_message_is_cut),
        cmocka_unit_test(answers_without_a_message),
        cmocka_unit_test(as_many_calls_as_the_worker_takes),
        cmocka_unit_test(pings_are_answered),
        cmocka_unit_test(large_messages_follow_the_windows),
        cmocka_unit_test(frames_are_as_long_as_the_worker_allows),
        cmocka_unit_test(output_is_bounded),
        cmocka_unit_test(filling_is_bounded),
    };
    return cmocka_run_group_tests_name("http: HTTP/2 as a client", tests, NULL, NULL);
}
