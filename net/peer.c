#include "net/peer.h"
#include "base/check.h"
#include "base/mem.h"
#include "net/sock.h"
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <unistd.h>

#define CONNECT_TIMEOUT_US 2000000

struct peer {
    struct loop *loop;
    struct peer_config c;
    struct peer_ops ops;
    void *ctx;
    enum peer_state state;
    struct addr_lookup *lookup; // while a name is looked up
    struct sock sock;           // from the connect on (has_sock)
    bool has_sock;
    struct http_client *client;
    struct wheel_timer timer; // connect_timeout
    struct loop_call later;   // a failure found inside peer_connect; a close from inside a callback
    const char *why;
    unsigned busy; // inside a callback of the http room: what it stands on may not be freed
    bool close_later, free_later;
    bool ours; // being closed by its owner: its calls are abandoned, not lost
    uint64_t bytes_in;
};

static void drop(struct peer *p)
{
    struct http_client *client = p->client;
    wheel_cancel(loop_wheel(p->loop), &p->timer);
    loop_defer_cancel(&p->later);
    addr_resolve_cancel(p->lookup);
    p->lookup = NULL;
    p->state = PEER_DOWN;
    p->client = NULL; // calls that end now cannot be followed by new ones
    p->busy++;
    if (client)
        http_client_free(client);
    p->busy--;
    p->ours = false;
    if (p->has_sock)
        sock_close(&p->sock);
    p->has_sock = false;
    p->close_later = false;
}

static void down(struct peer *p, const char *why)
{
    bool free_later = p->free_later;
    bool told = p->close_later || free_later; // closed by its owner: nobody waits for on_down
    p->ours = told;
    drop(p);
    free_later |= p->free_later; // from inside an on_end
    if (free_later) {
        loop_defer_cancel(&p->later);
        mem_free(p);
    } else if (!told)
        p->ops.on_down(p, why, p->ctx);
}

static void on_later(struct loop *l, struct loop_call *c)
{
    struct peer *p = container_of(c, struct peer, later);
    down(p, p->why);
}

static void down_later(struct peer *p, const char *why)
{
    p->why = why;
    loop_defer(p->loop, &p->later);
}

// ---- the stream's callbacks ----------------------------------------------------------------------------

static struct peer *peer_of(struct sock *s)
{
    return container_of(s, struct peer, sock);
}

static void on_open(struct sock *s)
{
}

static void on_data(struct sock *s, const uint8_t *bytes, size_t n)
{
    struct peer *p = peer_of(s);
    p->bytes_in += n;
    if (!p->client)
        return;
    p->busy++;
    http_client_recv(p->client, bytes, n, loop_now_us(s->loop));
    p->busy--;
    sock_flush(s);
}

static void on_eof(struct sock *s)
{
    struct peer *p = peer_of(s);
    down(p, p->state == PEER_UP ? "closed by the peer" : "closed by the peer before its SETTINGS");
}

static void on_error(struct sock *s, const char *why)
{
    down(peer_of(s), why);
}

static int gather(struct sock *s, struct iovec *iov, int max)
{
    struct peer *p = peer_of(s);
    if (!p->client)
        return 0;
    p->busy++;
    int n = http_client_gather(p->client, iov, max);
    p->busy--;
    return n;
}

static void sent(struct sock *s, size_t n)
{
    struct peer *p = peer_of(s);
    p->busy++;
    http_client_sent(p->client, n);
    p->busy--;
}

// What the socket does not take is made into frames all the same: a cancel need not wait for a worker that
// has stopped reading.
static void fill(struct peer *p)
{
    p->busy++;
    http_client_fill(p->client);
    p->busy--;
}

static void on_flushed(struct sock *s, bool drained)
{
    struct peer *p = peer_of(s);
    if (!drained && p->client)
        fill(p);
    if (p->close_later || p->free_later)
        down(p, "closed");
    else if (p->client && http_client_done(p->client))
        down(p, "HTTP/2 connection ended");
}

static const struct sock_ops peer_sock_ops = {
    .on_open = on_open,
    .on_data = on_data,
    .on_eof = on_eof,
    .on_error = on_error,
    .gather = gather,
    .sent = sent,
    .on_flushed = on_flushed,
};

// ---- the http room's callbacks -------------------------------------------------------------------------

static void on_ready(struct http_client *client, void *ctx)
{
    struct peer *p = ctx;
    if (p->state != PEER_CONNECTING)
        return;
    p->state = PEER_UP;
    wheel_cancel(loop_wheel(p->loop), &p->timer);
    p->ops.on_up(p, p->ctx);
}

static void on_end(struct http_call *call, enum http_call_end end, void *ctx)
{
    struct peer *p = ctx;
    bool abandoned = end == CALL_LOST && p->ours;
    p->ops.on_end(call, abandoned ? CALL_ABANDONED : end, p->ctx);
}

static const struct http_client_ops client_ops = {.on_ready = on_ready, .on_end = on_end};

// ---- connecting ----------------------------------------------------------------------------------------

static void on_timeout(struct wheel_timer *t, uint64_t now_us)
{
    struct peer *p = container_of(t, struct peer, timer);
    down(p, p->lookup ? "look-up timed out" : "connect timed out");
}

static struct http_client *client_new(struct peer *p)
{
    char authority[ADDR_TEXT];
    if (addr_is_unix(&p->c.addr)) // a socket's path is no authority (RFC 3986, 3.2)
        snprintf(authority, sizeof authority, "localhost");
    else
        addr_print(&p->c.addr, authority);
    return http_client_new(&p->c.limits, &client_ops, p, loop_blocks(p->loop), view_str(authority));
}

// A connecting socket reads and writes EAGAIN until it is connected, and its failure is a read error: no
// state of its own is needed.
static const char *begin(struct peer *p, const struct addr *a)
{
    int fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return strerrordesc_np(errno);
    if (!addr_is_unix(a)) {
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    int rc;
    do
        rc = connect(fd, &a->sa, a->len);
    while (rc < 0 && errno == EINTR);
    if (rc < 0 && errno != EINPROGRESS) {
        const char *why = strerrordesc_np(errno); // Unix, EAGAIN: its backlog is full
        close(fd);
        return why;
    }
    struct tls *tls = NULL;
    if (p->c.tls && !(tls = tls_connect(p->c.tls, p->c.addr.host, fd))) {
        close(fd);
        return "out of memory";
    }
    if (sock_init(&p->sock, p->loop, fd, tls, &peer_sock_ops) < 0)
        return "the loop takes no more descriptors";
    p->has_sock = true;
    p->client = client_new(p);
    return p->client ? NULL : "out of memory";
}

// The first read and write happen from the next turn on, never from inside peer_connect.
static void on_begun(struct loop *l, struct loop_call *c)
{
    struct peer *p = container_of(c, struct peer, later);
    p->later.fn = on_later;
    sock_start(&p->sock);
}

static void begin_or_fail(struct peer *p, const struct addr *a)
{
    const char *why = begin(p, a);
    p->why = why;
    p->later.fn = why ? on_later : on_begun;
    loop_defer(p->loop, &p->later);
}

static void on_looked_up(const struct addr *a, const char *why, void *ctx)
{
    struct peer *p = ctx;
    p->lookup = NULL;
    if (a)
        begin_or_fail(p, a);
    else
        down(p, why);
}

void peer_connect(struct peer *p)
{
    invariant(p->state == PEER_DOWN && !p->free_later);
    p->state = PEER_CONNECTING;
    p->close_later = false;
    wheel_set(loop_wheel(p->loop), &p->timer, loop_now_us(p->loop) + p->c.connect_timeout_us);
    if (!addr_is_name(&p->c.addr)) {
        begin_or_fail(p, &p->c.addr);
        return;
    }
    p->lookup = addr_resolve(p->loop, &p->c.addr, on_looked_up, p);
    if (!p->lookup) {
        p->later.fn = on_later;
        down_later(p, "out of memory");
    }
}

// ---- the rest ------------------------------------------------------------------------------------------

struct peer *peer_new(struct loop *l, const struct peer_config *c, const struct peer_ops *ops,
                      void *ctx)
{
    struct peer *p = mem_zalloc(sizeof *p);
    if (!p)
        return NULL;
    p->loop = l;
    p->c = *c;
    p->c.limits.secure = c->tls != NULL;
    p->ops = *ops;
    p->ctx = ctx;
    p->timer.fn = on_timeout;
    p->later.fn = on_later;
    if (!p->c.connect_timeout_us)
        p->c.connect_timeout_us = CONNECT_TIMEOUT_US;
    return p;
}

void peer_close(struct peer *p)
{
    if (p->state == PEER_DOWN)
        return;
    if (p->busy) { // a call's end closes the connection that the call was on
        p->close_later = true;
        p->later.fn = on_later;
        down_later(p, "closed");
        return;
    }
    p->ours = true;
    drop(p);
}

void peer_free(struct peer *p)
{
    if (!p)
        return;
    if (p->busy) {
        p->free_later = true;
        p->later.fn = on_later;
        down_later(p, "closed");
        return;
    }
    p->ours = true;
    drop(p);
    mem_free(p);
}

void peer_set_max_answer(struct peer *p, size_t max_answer)
{
    p->c.limits.max_answer = max_answer;
    if (p->client)
        http_client_set_max_answer(p->client, max_answer);
}

enum peer_state peer_state(const struct peer *p)
{
    return p->close_later || p->free_later ? PEER_DOWN : p->state;
}

struct http_client *peer_client(struct peer *p)
{
    return peer_state(p) == PEER_UP ? p->client : NULL;
}

void peer_touch(struct peer *p)
{
    if (p->has_sock)
        sock_flush(&p->sock);
}

uint64_t peer_bytes_in(const struct peer *p)
{
    return p->bytes_in;
}

uint32_t peer_pid(const struct peer *p)
{
    struct ucred who = {0};
    socklen_t n = sizeof who;
    if (p->state != PEER_UP || !p->has_sock || !addr_is_unix(&p->c.addr) ||
        getsockopt(p->sock.fd, SOL_SOCKET, SO_PEERCRED, &who, &n) < 0 || who.pid < 0)
        return 0;
    return (uint32_t)who.pid;
}
