#include "net/server_conn.h"
#include "base/check.h"
#include "base/mem.h"
#include <unistd.h>

// What a client still sends is read and thrown away this long, so that no reset destroys our last words
// on their way.
#define LINGER_US 1000000

/*   accepted ──sock_start──► HANDSHAKE ──on_open──► OPEN ──http done──► LINGER ──FIN, time──► freed
 *                                └─ error, header_timeout, cut: freed from any of them ─┘          */
enum conn_state { CONN_HANDSHAKE, CONN_OPEN, CONN_LINGER };

struct conn {
    struct loop_task hand_over;
    struct sock sock;
    struct part *part;
    struct conn *next, **prev;
    struct http_conn *http; // NULL before OPEN
    struct wheel_timer timer;
    enum conn_state state;
    bool closing;
    int fd; // until sock_init
    uint64_t accepted_us;
    void *user;
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
    struct part *p = c->part;
    budget_release_addr(p->server->c.budget, &c->peer.sa);
    budget_release(p->server->c.budget);
    loop_conns_add(p->loop, -1);
    atomic_fetch_sub_explicit(&p->server->conns, 1, memory_order_release);
    mem_free(c);
}

static void conn_close(struct conn *c)
{
    struct part *p = c->part;
    c->closing = true;
    wheel_cancel(loop_wheel(p->loop), &c->timer);
    if (c->http)
        http_conn_free(c->http, loop_now_us(p->loop));
    c->http = NULL;
    COUNT(p, bytes_in, c->sock.bytes_in);
    COUNT(p, bytes_out, c->sock.bytes_out);
    sock_close(&c->sock);
    *c->prev = c->next;
    if (c->next)
        c->next->prev = c->prev;
    release(c);
    server_resume(p);
}

// Timers are lazy: one that is too early asks again, so that most moves of a deadline cost nothing.
static void rearm(struct conn *c)
{
    struct loop *l = c->part->loop;
    if (c->state != CONN_OPEN)
        return;
    uint64_t at = http_conn_deadline(c->http);
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
    c->http = http_conn_new(cfg->limits, cfg->ops, cfg->ctx, s->tls != NULL, h2, c->accepted_us);
    wheel_cancel(loop_wheel(s->loop), &c->timer);
    if (!c->http) {
        c->state = CONN_LINGER; // closed by its timer at once: this callback must not
        wheel_set(loop_wheel(s->loop), &c->timer, 0);
        return;
    }
    c->state = CONN_OPEN;
    http_conn_set_user(c->http, c);
    if (c->part->draining)
        http_conn_drain(c->http, loop_now_us(s->loop));
    rearm(c);
}

static void on_data(struct sock *s, const uint8_t *p, size_t n)
{
    struct conn *c = conn_of(s);
    if (c->state != CONN_OPEN)
        return; // lingering
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
    return c->state != CONN_OPEN || http_conn_midway(c->http);
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
    http_conn_sent(conn_of(s)->http, n, loop_now_us(s->loop));
}

static void on_flushed(struct sock *s, bool drained)
{
    struct conn *c = conn_of(s);
    if (c->state != CONN_OPEN)
        return;
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
    struct part *p = c->part;
    struct tls_server *ts = p->server->c.tls;
    struct tls *tls = NULL;
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
    wheel_set(loop_wheel(p->loop), &c->timer,
              c->accepted_us + p->server->c.limits->header_timeout_us);
    sock_start(&c->sock);
}

static void on_hand_over(struct loop *l, struct loop_task *t)
{
    begin(container_of(t, struct conn, hand_over));
}

void server_conn_admit(struct part *to, struct loop *from, int fd, const struct sockaddr *sa,
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

// Collect, then call: draining may end a connection.
void server_conn_drain(struct part *p)
{
    uint64_t now_us = loop_now_us(p->loop);
    p->draining = true;
    for (struct conn *c = p->conns; c; c = c->next) {
        if (c->state != CONN_OPEN)
            continue;
        http_conn_drain(c->http, now_us);
        sock_flush(&c->sock); // the connection itself ends in the flush, not here
    }
}

void server_conn_cut_all(struct part *p)
{
    p->cut = true;
    while (p->conns)
        conn_close(p->conns);
}

// ---- what the rooms above call ---------------------------------------------------------------------------

void server_touch(struct http_conn *c)
{
    struct conn *conn = c ? http_conn_user(c) : NULL;
    if (conn && !conn->closing)
        sock_flush(&conn->sock);
}

void server_respond(struct exchange *ex, const struct http_response *r)
{
    struct http_conn *c = ex->conn; // may be NULL afterwards
    struct conn *conn = c ? http_conn_user(c) : NULL;
    exchange_respond(ex, r, conn ? loop_now_us(conn->part->loop) : 0);
    if (conn && !conn->closing)
        sock_flush(&conn->sock);
}

struct loop *server_conn_loop(struct http_conn *c)
{
    struct conn *conn = http_conn_user(c);
    return conn->part->loop;
}

const char *server_conn_peer(struct http_conn *c, char out[ADDR_TEXT])
{
    struct conn *conn = http_conn_user(c);
    struct addr a;
    addr_from_sockaddr(&a, &conn->peer.sa, sizeof conn->peer);
    return addr_print_host(&a, out);
}

struct server *server_of(struct http_conn *c)
{
    struct conn *conn = http_conn_user(c);
    return conn->part->server;
}

void *server_conn_user(struct http_conn *c)
{
    struct conn *conn = http_conn_user(c);
    return conn->user;
}

void server_conn_set_user(struct http_conn *c, void *user)
{
    struct conn *conn = http_conn_user(c);
    conn->user = user;
}
