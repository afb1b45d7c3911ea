/* What the tests of HTTP/2 as a server share: a connection that is begun and ended with its books checked, and what is
 * expected of a stream and of a connection. */
#ifndef SLUICE_TESTS_HTTP_H2_KIT_H
#define SLUICE_TESTS_HTTP_H2_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/http_h2_world.h"

#define SHORT "\x82\x86\x84\x41\1h" // GET http://h/
#define CALM NGHTTP2_ENHANCE_YOUR_CALM
#define PROTOCOL NGHTTP2_PROTOCOL_ERROR

static inline struct h2 *begin_bare(void)
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

static inline struct h2 *begin(void)
{
    struct h2 *h = begin_bare();
    h2_greet(h);
    h2_say(h);
    return h;
}

static inline void end(struct h2 *h)
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

static inline void expect_body(struct h2 *h, uint32_t id, int status, const char *part)
{
    struct reader_stream *s = h2_stream(h, id);
    if (s->status != status || !s->ended || !strstr(s->body, part))
        fail_msg("stream %u: %d, %s: %s%s", id, s->status, s->ended ? "ended" : "open", s->fields,
                 s->body);
}

static inline void expect_goaway(struct h2 *h, uint32_t code)
{
    h2_flush(h);
    if (h->r->goaways == 0 || h->r->goaway_code != code)
        fail_msg("expected GOAWAY %u, got %u of them, the last with %u", code, h->r->goaways,
                 h->r->goaway_code);
    assert_true(http_conn_done(h->w.c));
}

// A request like any other is served.
static inline void expect_alive(struct h2 *h, uint32_t id)
{
    wire_head(&h->say, END_STREAM, id, FORM "/alive\n");
    h2_say(h);
    expect_body(h, id, 200, "GET /alive");
    assert_false(http_conn_done(h->w.c));
}

#endif
