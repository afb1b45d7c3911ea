/* What the tests of HTTP/2 as a client share: a connection that is begun and ended with its books checked, an answer, and
 * what is expected of a call. */
#ifndef SLUICE_TESTS_HTTP_H2_CLIENT_KIT_H
#define SLUICE_TESTS_HTTP_H2_CLIENT_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/http_client_world.h"

static inline struct client *begin_bare(void)
{
    static struct client w;
    w = (struct client){0};
    if (client_blocks.live_blocks > 0) // a test before has failed
        client_blocks = (struct block_owner){0};
    client_init(&w);
    return &w;
}

static inline struct client *begin(void)
{
    struct client *w = begin_bare();
    wire_setting(&w->say, NGHTTP2_SETTINGS_MAX_FRAME_SIZE, 1 << 20);
    wire_frame(&w->say, SETTINGS, ACK, 0, NULL, 0);
    client_hear(w);
    return w;
}

static inline void end(struct client *w)
{
    const char *wrong = client_deinit(w);
    if (wrong)
        fail_msg("%s", wrong);
}

static inline void put_answer(struct client *w, uint32_t id, const char *text)
{
    wire_head(&w->say, 0, id, ANSWER);
    wire_message(&w->say, 0, id, 0, (uint32_t)strlen(text), text, strlen(text));
    wire_head(&w->say, END_STREAM, id, "grpc-status: 0\n");
}

static inline void expect_end(struct asked *a, enum http_call_end end)
{
    if (a->ends != 1 || a->end != end)
        fail_msg("expected end %d once, got %d, %u times", (int)end, (int)a->end, a->ends);
}

// A call like any other is answered.
static inline void expect_alive(struct client *w)
{
    assert_non_null(client_ask(w, 10, 10, 0));
    unsigned k = w->n_asked - 1;
    client_flush(w);
    put_answer(w, (uint32_t)w->asked[k].call->stream_id, "alive");
    client_hear(w);
    expect_end(&w->asked[k], CALL_ANSWERED);
    assert_string_equal(w->asked[k].body, "alive");
}

#endif
