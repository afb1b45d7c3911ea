#include "net/server_conn.h"
#include "base/check.h"
#include "base/mem.h"
#include <netinet/in.h>
#include <stdio.h>
#include <unistd.h>

// What a client still sends is read and thrown away this long, so that no reset destroys our last words
// on their way.
#define LINGER_US 1000000
#define DRAINS_A_TURN 64 // each may cost a GOAWAY and a write
#define TLS_HANDSHAKE 22 // RFC 8446 5.1: the first byte of who speaks TLS

/*   accepted ──sock_start──► HANDSHAKE ──on_open──► OPEN ──http done──► LINGER ──FIN, time──► freed
 *                                └─ error, header_timeout, cut: freed from any of them ─┘
 * OPEN also ends without LINGER when the socket stays full: nobody reads our last words. */
enum conn_state { CONN_HANDSHAKE, CONN_OPEN, CONN_LINGER };

struct conn {
    struct loop_task hand_over;
    struct sock sock;
    struct server_part *part;
    struct conn *next, **prev;
    struct http_conn *http; // NULL before OPEN
    struct wheel_timer timer;
    enum conn_state state;
    bool closing;
    int fd;                    // until sock_init
    struct http_limits limits; // those of its beginning
    uint64_t accepted_us;
    uint64_t full_us;            // the socket has taken nothing since; 0: it takes what comes
    char name[INET6_ADDRSTRLEN]; // printed address; "" until somebody asks
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    } peer; // Unix: only the family
};

static struct conn *conn_of(struct sock *s)
{
    return container_of(s, struct conn, sock);
}

static void release(struct conn *c)
{
    struct server_part *p = c->part;
    budget_release_addr(p->server->c.budget, &c->peer.sa);
    budget_release(p->server->c.budget);
    loop_conns_add(p->loop, -1);
    atomic_fetch_sub_explicit(&p->server->conns, 1, memory_order_release);
    mem_free(c);
}

static void conn_close(struct conn *c)
{
    struct server_part *p = c->part;
    c->closing = true;
    wheel_cancel(loop_wheel(p->loop), &c->timer);
    if (c->http)
        http_conn_free(c->http, loop_now_us(p->loop));
    c->http = NULL;
    COUNT(p, bytes_in, c->sock.bytes_in);
    COUNT(p, bytes_out, c->sock.bytes_out);
    sock_close(&c->sock);
    if (p->to_drain == c)
        p->to_drain = c->next;
    *c->prev = c->next;
    if (c->next)
        c->next->prev = c->prev;
    release(c);
    server_resume(p);
}

// A reader that does not read (row 78). The HTTP room gives its answers up at about the same moment, but a full
// socket flushes no more: its end has to come from here, whatever waits in it (a TLS record, say).
static uint64_t full_deadline(const struct conn *c)
{
    return c->full_us ? c->full_us + c->limits.send_timeout_us : UINT64_MAX;
}

// Timers are lazy: one that is too early asks again, so that most moves of a deadline cost nothing.
static void rearm(struct conn *c)
{
    struct loop *l = c->part->loop;
    if (c->state != CONN_OPEN)
        return;
    uint64_t at = http_conn_deadline(c->http), full = full_deadline(c);
    at = full < at ? full : at;
    if (at != UINT64_MAX && (!wheel_is_set(&c->timer) || at < c->timer.at_us))
        wheel_set(loop_wheel(l), &c->timer, at);
}

static void on_timer(struct wheel_timer *t, uint64_t now_us)
{
    struct conn *c = container_of(t, struct conn, timer);
    if (c->state == CONN_HANDSHAKE)
        COUNT(c->part, tls_failed, 1);
    if (c->state != CONN_OPEN) {
        conn_close(c);
        return;
    }
    if (full_deadline(c) <= now_us) {
        sock_abandon(&c->sock);
        conn_close(c);
        return;
    }
    if (http_conn_deadline(c->http) <= now_us) {
        http_conn_on_timer(c->http, now_us);
        sock_flush(&c->sock); // its end may follow in on_flushed
    }
    rearm(c);
}

// ---- the stream's callbacks ----------------------------------------------------------------------------

static void on_open(struct sock *s)
{
    struct conn *c = conn_of(s);
    const struct server_config *cfg = &c->part->server->c;
    bool h2 = s->tls && tls_is_h2(s->tls);
    // The header's time-out counts from accept: a slow handshake has used it up in part.
    c->http = http_conn_new(&c->limits, cfg->ops, cfg->ctx, s->tls != NULL, h2, c->accepted_us);
    wheel_cancel(loop_wheel(s->loop), &c->timer);
    if (!c->http) {
        c->state = CONN_LINGER; // closed by its timer at once: this callback must not
        wheel_set(loop_wheel(s->loop), &c->timer, 0);
        return;
    }
    c->state = CONN_OPEN;
    http_conn_set_user(c->http, c);
    if (s->plain) {
        COUNT(c->part, plain_on_tls, 1);
        http_conn_misled(c->http, true, loop_now_us(s->loop));
    }
    if (c->part->draining)
        http_conn_drain(c->http, c->part->serve_until_us, loop_now_us(s->loop));
    rearm(c);
}

static void on_data(struct sock *s, const uint8_t *p, size_t n)
{
    struct conn *c = conn_of(s);
    if (c->state != CONN_OPEN)
        return; // lingering
    if (s->bytes_in == n && p[0] == TLS_HANDSHAKE && !s->tls) {
        COUNT(c->part, tls_on_plain, 1);
        http_conn_misled(c->http, false, loop_now_us(s->loop));
    }
    http_conn_recv(c->http, p, n, loop_now_us(s->loop));
    sock_flush(s);
}

static bool wants_read(struct sock *s)
{
    struct conn *c = conn_of(s);
    return c->state != CONN_OPEN || http_conn_wants_read(c->http);
}

static bool expects_more(struct sock *s)
{
    struct conn *c = conn_of(s);
    // Nobody is owed an answer: no write of ours would meet the reset that may lie behind these bytes.
    return c->state != CONN_OPEN || http_conn_midway(c->http) || http_conn_live(c->http) == 0;
}

static void on_eof(struct sock *s)
{
    struct conn *c = conn_of(s);
    if (c->state != CONN_OPEN) {
        conn_close(c);
        return;
    }
    http_conn_eof(c->http, loop_now_us(s->loop));
    sock_flush(s); // an answer that is already there leaves before we close
}

static void on_error(struct sock *s, const char *why)
{
    struct conn *c = conn_of(s);
    if (c->state == CONN_HANDSHAKE)
        COUNT(c->part, tls_failed, 1);
    conn_close(c);
}

static int gather(struct sock *s, struct iovec *iov, int max)
{
    struct conn *c = conn_of(s);
    return c->state == CONN_OPEN ? http_conn_gather(c->http, iov, max, loop_now_us(s->loop)) : 0;
}

static void sent(struct sock *s, size_t n)
{
    struct conn *c = conn_of(s);
    c->full_us = 0;
    http_conn_sent(c->http, n, loop_now_us(s->loop));
}

static void on_flushed(struct sock *s, bool drained)
{
    struct conn *c = conn_of(s);
    if (c->state != CONN_OPEN)
        return;
    if (s->writable)
        c->full_us = 0;
    else if (c->full_us == 0)
        c->full_us = loop_now_us(s->loop);
    bool done = http_conn_done(c->http) || (s->eof && http_conn_live(c->http) == 0);
    if (drained && done) {
        if (s->eof) {
            conn_close(c);
            return;
        }
        c->state = CONN_LINGER;
        sock_shut(s);
        wheel_set(loop_wheel(s->loop), &c->timer, loop_now_us(s->loop) + LINGER_US);
        sock_resume(s);
        return;
    }
    rearm(c);
    if (s->readable && !s->eof && http_conn_wants_read(c->http))
        sock_resume(s);
}

static const struct sock_ops conn_ops = {
    .on_open = on_open,
    .on_data = on_data,
    .on_eof = on_eof,
    .on_error = on_error,
    .gather = gather,
    .sent = sent,
    .on_flushed = on_flushed,
    .wants_read = wants_read,
    .expects_more = expects_more,
};

// ---- beginning -----------------------------------------------------------------------------------------

// On the loop that keeps it.
static void begin(struct conn *c)
{
    struct server_part *p = c->part;
    struct tls_server *ts = p->tls;
    struct tls *tls = NULL;
    c->limits = p->limits;
    if (p->cut || (ts && !(tls = tls_accept(ts, p->loop->index, c->fd)))) {
        close(c->fd);
        release(c);
        return;
    }
    if (sock_init(&c->sock, p->loop, c->fd, tls, &conn_ops) < 0) {
        release(c);
        return;
    }
    c->next = p->conns;
    c->prev = &p->conns;
    if (c->next)
        c->next->prev = &c->next;
    p->conns = c;
    c->sock.may_be_plain = tls;
    wheel_set(loop_wheel(p->loop), &c->timer, c->accepted_us + c->limits.header_timeout_us);
    sock_start(&c->sock);
}

static void on_hand_over(struct loop *l, struct loop_task *t)
{
    begin(container_of(t, struct conn, hand_over));
}

void server_conn_admit(struct server_part *to, struct loop *from, int fd, const struct sockaddr *sa,
                       uint64_t now_us)
{
    struct conn *c = mem_zalloc(sizeof *c);
    if (!c) {
        close(fd);
        budget_release_addr(to->server->c.budget, sa);
        budget_release(to->server->c.budget);
        return;
    }
    c->part = to;
    c->fd = fd;
    c->accepted_us = now_us;
    c->timer.fn = on_timer;
    c->hand_over.fn = on_hand_over;
    c->peer.sa.sa_family = AF_UNIX;
    if (sa->sa_family == AF_INET)
        memcpy(&c->peer.in, sa, sizeof c->peer.in);
    else if (sa->sa_family == AF_INET6)
        memcpy(&c->peer.in6, sa, sizeof c->peer.in6);
    // Counted before it arrives, or a burst would all choose the same idle loop.
    loop_conns_add(to->loop, 1);
    atomic_fetch_add_explicit(&to->server->conns, 1, memory_order_relaxed);
    if (to->loop == from)
        begin(c);
    else
        loop_post_task(from, to->loop, &c->hand_over);
}

// What comes from now on is told at its start and stands before to_drain.
static void drain_some(struct server_part *p)
{
    for (unsigned n = 0; p->to_drain && n < DRAINS_A_TURN; n++) {
        struct conn *c = p->to_drain;
        p->to_drain = c->next;
        if (c->state != CONN_OPEN)
            continue; // in its handshake: told when that is over
        http_conn_drain(c->http, p->serve_until_us, loop_now_us(p->loop));
        sock_flush(&c->sock); // the connection itself ends in the flush, not here
    }
    if (p->to_drain)
        loop_defer(p->loop, &p->drain_more);
}

static void on_drain_more(struct loop *l, struct loop_call *c)
{
    drain_some(container_of(c, struct server_part, drain_more));
}

void server_conn_drain(struct server_part *p, uint64_t serve_until_us)
{
    p->draining = true;
    p->serve_until_us = serve_until_us;
    p->drain_more.fn = on_drain_more;
    p->to_drain = p->conns;
    drain_some(p);
}

void server_conn_cut_all(struct server_part *p)
{
    p->cut = true;
    while (p->conns)
        conn_close(p->conns);
}

// ---- what the rooms above call ---------------------------------------------------------------------------

// NULL: it has gone. Looked up before the room is told: its connection may be gone afterwards.
static struct conn *conn_under(const struct exchange *ex)
{
    return ex->conn ? http_conn_user(ex->conn) : NULL;
}

static void conn_flush(struct conn *c)
{
    if (c && !c->closing)
        sock_flush(&c->sock);
}

void server_respond(struct exchange *ex, const struct http_response *r, uint64_t now_us)
{
    struct conn *c = conn_under(ex);
    exchange_respond(ex, r, now_us);
    conn_flush(c);
}

void server_flow(struct exchange *ex, const struct http_response *head, uint64_t now_us)
{
    struct conn *c = conn_under(ex);
    exchange_start(ex, head, now_us);
    conn_flush(c);
}

void server_wake(struct exchange *ex, uint64_t now_us)
{
    struct conn *c = conn_under(ex);
    exchange_wake(ex, now_us);
    conn_flush(c);
}

struct loop *server_conn_loop(struct http_conn *c)
{
    struct conn *conn = http_conn_user(c);
    return conn->part->loop;
}

struct view server_conn_peer(struct http_conn *c)
{
    struct conn *conn = http_conn_user(c);
    if (!conn->name[0]) {
        struct addr a;
        char text[ADDR_TEXT];
        addr_from_sockaddr(&a, &conn->peer.sa, sizeof conn->peer);
        snprintf(conn->name, sizeof conn->name, "%.45s", addr_print_host(&a, text));
    }
    return view_str(conn->name);
}
