/* HTTP/2 as a client: each call ends once, however that comes about, and not before its bytes have left. */
#include "tests/unit/http_h2_client_kit.h"

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
        cmocka_unit_test(refused_calls_may_be_repeated),
        cmocka_unit_test(calls_that_were_not_sent_are_refused_by_goaway),
        cmocka_unit_test(a_notice_of_shutdown_takes_what_is_on_its_way),
        cmocka_unit_test(resets_tell_their_code),
        cmocka_unit_test(a_server_may_ask_for_a_pause),
        cmocka_unit_test(an_early_answer_is_an_answer),
        cmocka_unit_test(lent_bytes_are_not_given_back_before_they_left),
        cmocka_unit_test(lost_connections_end_every_call),
        cmocka_unit_test(cancel_before_it_was_sent),
        cmocka_unit_test(cancel_while_it_waits),
        cmocka_unit_test(a_cancelled_call_ends_when_its_bytes_have_left),
        cmocka_unit_test(a_cancel_needs_no_room_in_the_socket),
        cmocka_unit_test(cancel_crosses_the_answer),
        cmocka_unit_test(no_room_for_an_answer),
        cmocka_unit_test(any_allocation_may_fail),
    };
    return cmocka_run_group_tests_name("http: ends of calls", tests, NULL, NULL);
}
