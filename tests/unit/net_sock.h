/* An echoing stream on a loop turned by hand: what net_sock.c and net_tls.c share. */
#ifndef SLUICE_TESTS_NET_SOCK_H
#define SLUICE_TESTS_NET_SOCK_H

#include "base/buffer.h"
#include "net/sock.h"

struct echo {
    struct sock s;
    struct buffer b;
    unsigned opened, eofs, errors;
    size_t got;
    bool sink;   // keeps what comes instead of echoing it
    bool paused; // wants_read says no
    bool close_on_eof;
    char why[128];
};

static inline struct echo *echo_of(struct sock *s)
{
    return (struct echo *)s;
}

static void echo_open(struct sock *s)
{
    echo_of(s)->opened++;
}

static void echo_data(struct sock *s, const uint8_t *p, size_t n)
{
    struct echo *e = echo_of(s);
    e->got += n;
    buffer_append(&e->b, p, n);
    sock_flush(s);
}

static void echo_eof(struct sock *s)
{
    struct echo *e = echo_of(s);
    e->eofs++;
    if (e->close_on_eof)
        sock_close(s);
}

static void echo_error(struct sock *s, const char *why)
{
    struct echo *e = echo_of(s);
    e->errors++;
    snprintf(e->why, sizeof e->why, "%s", why);
    sock_close(s);
}

static int echo_gather(struct sock *s, struct iovec *iov, int max)
{
    struct echo *e = echo_of(s);
    size_t n = e->sink ? 0 : buffer_len(&e->b), at = 0;
    int i = 0;
    while (at < n && i < max) { // small and large runs, so that both ways of writing are used
        size_t len = i % 3 == 0 ? 5 : i % 3 == 1 ? 100 : 70000;
        len = len < n - at ? len : n - at;
        iov[i++] = (struct iovec){e->b.data + e->b.at + at, len};
        at += len;
    }
    return i;
}

static void echo_sent(struct sock *s, size_t n)
{
    buffer_consume(&echo_of(s)->b, n);
}

static void echo_flushed(struct sock *s, bool drained)
{
}

static bool echo_wants_read(struct sock *s)
{
    return !echo_of(s)->paused;
}

static const struct sock_ops echo_ops = {
    .on_open = echo_open,
    .on_data = echo_data,
    .on_eof = echo_eof,
    .on_error = echo_error,
    .gather = echo_gather,
    .sent = echo_sent,
    .on_flushed = echo_flushed,
    .wants_read = echo_wants_read,
};

#endif
