/* An HTTP/2 connection of the unit tests' world with its peer: frames by hand in, the reader behind it. */
#ifndef SLUICE_TESTS_HTTP_H2_WORLD_H
#define SLUICE_TESTS_HTTP_H2_WORLD_H

#include "tests/unit/http_frames.h"
#include "tests/unit/http_world.h"

struct h2 {
    struct world w;
    struct reader *r;
    struct wire say; // frames that are being put together
};

#define FORM ":method: GET\n:scheme: http\n:authority: h\n:path: "
#define POST_FORM ":method: POST\n:scheme: http\n:authority: h\n:path: "

// Takes up to `most` bytes of what the server has to say.
static inline size_t h2_take(struct h2 *h, size_t most)
{
    struct iovec iov[4];
    size_t all = 0;
    while (all < most) {
        int n = http_conn_gather(h->w.c, iov, 4, h->w.now_us);
        size_t part = 0;
        for (int i = 0; i < n && all + part < most; i++) {
            size_t left = most - all - part, k = iov[i].iov_len < left ? iov[i].iov_len : left;
            reader_take(h->r, iov[i].iov_base, k);
            part += k;
        }
        if (part == 0)
            break;
        http_conn_sent(h->w.c, part, h->w.now_us);
        all += part;
    }
    return all;
}

static inline void h2_flush(struct h2 *h)
{
    h2_take(h, SIZE_MAX);
}

// Says what was put together; nothing is taken.
static inline void h2_say_only(struct h2 *h)
{
    uint8_t *exact = malloc(h->say.n ? h->say.n : 1); // so that ASan sees a read past the end
    memcpy(exact, h->say.p ? h->say.p : exact, h->say.n);
    http_conn_recv(h->w.c, exact, h->say.n, h->w.now_us);
    free(exact);
    h->say.n = 0;
}

static inline void h2_say(struct h2 *h)
{
    h2_say_only(h);
    h2_flush(h);
}

static inline void h2_greet(struct h2 *h)
{
    wire_put(&h->say, PREFACE, 24);
    wire_frame(&h->say, SETTINGS, 0, 0, NULL, 0);
    wire_frame(&h->say, SETTINGS, ACK, 0, NULL, 0);
}

// Time goes on; each deadline on the way is served at its moment.
static inline void h2_pass(struct h2 *h, uint64_t us)
{
    uint64_t end_us = h->w.now_us + us;
    for (unsigned i = 0; i < 10000 && http_conn_deadline(h->w.c) <= end_us; i++) {
        uint64_t at = http_conn_deadline(h->w.c);
        h->w.now_us = at > h->w.now_us ? at : h->w.now_us;
        http_conn_on_timer(h->w.c, h->w.now_us);
        h2_flush(h);
    }
    h->w.now_us = end_us;
}

// Answers the oldest request that waits.
static inline void h2_answer(struct h2 *h)
{
    struct exchange *ex = h->w.later[0];
    memmove(h->w.later, h->w.later + 1, --h->w.n_later * sizeof(h->w.later[0]));
    world_respond(&h->w, ex, 200);
    exchange_unref(ex);
    h2_flush(h);
}

static inline struct reader_stream *h2_stream(struct h2 *h, uint32_t id)
{
    return reader_stream(h->r, id);
}

#endif
