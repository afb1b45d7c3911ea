// A server connection: which carrier it is, its deadlines, and what both carriers have in common.
#include "base/check.h"
#include "base/mem.h"
#include "http/h2_conn.h"

#define PENDING_MAX (64u << 10)
#define CONTROL_MAX                                                                                \
    (16u << 10) // control frames that wait; an honest peer's are a few for each stream
#define DRAIN_IDLE_US 1000000 // how long a resting connection stays open when we serve no more

const char http_preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

struct http_conn *http_conn_new(const struct http_limits *l, const struct http_server_ops *ops,
                                void *ctx, bool secure, bool h2, uint64_t now_us)
{
    struct http_conn *c = mem_zalloc(sizeof(*c));
    if (!c)
        return NULL;
    c->limits = l;
    c->ops = ops;
    c->ctx = ctx;
    c->secure = secure;
    c->accepted_us = c->head_since_us = c->now_us = now_us;
    out_init(&c->out);
    abuse_init(&c->abuse, l->abuse_budget, l->max_streams, now_us);
    if (h2 && !h2_init(c, now_us)) {
        http_conn_free(c, now_us);
        return NULL;
    }
    return c;
}

void http_conn_misled(struct http_conn *c, bool tls_wanted, uint64_t now_us)
{
    c->now_us = now_us;
    if (tls_wanted) {
        c->misled =
            "this port speaks TLS, and the request came without: use https, or grpc with TLS";
        return;
    }
    h1_init(c);
    h1_refuse(c, 400, "this port speaks no TLS: use http, or grpc without TLS", now_us);
}

// What waits will never leave: its exchanges learn that before their marks are dropped.
static void drop_output(struct http_conn *c)
{
    for (unsigned i = c->out.at; i < c->out.n; i++) {
        if (c->out.items[i].n == 0 && c->out.items[i].done)
            exchange_tell_sent(c->out.items[i].arg, false);
    }
    out_deinit(&c->out);
}

void http_conn_free(struct http_conn *c, uint64_t now_us)
{
    c->now_us = now_us;
    while (c->live) {
        struct exchange *ex = c->live;
        exchange_ref(ex);
        exchange_detach(ex);
        exchange_tell_gone(ex);
        exchange_unref(ex);
    }
    if (c->kind == CONN_H2)
        h2_deinit(c);
    drop_output(c);
    if (c->kind == CONN_H1)
        h1_deinit(c);
    mem_free(c);
}

// ---- bytes in ---------------------------------------------------------------------------------------

// The first bytes decide: HTTP/2 by prior knowledge begins with its preface, everything else is HTTP/1.
static void recv_fresh(struct http_conn *c, const uint8_t *p, size_t n, uint64_t now_us)
{
    size_t k = 0;
    while (k < n && c->n_preface < HTTP_PREFACE_BYTES &&
           p[k] == (uint8_t)http_preface[c->n_preface])
        c->preface[c->n_preface++] = p[k++];
    bool whole = c->n_preface == HTTP_PREFACE_BYTES;
    if (!whole && k == n)
        return; // it may still become one
    uint8_t head[HTTP_PREFACE_BYTES];
    size_t head_n = c->n_preface;
    memcpy(head, c->preface, head_n);
    if (whole && !h2_init(c, now_us)) {
        c->done = true;
        return;
    }
    if (!whole)
        h1_init(c);
    else if (c->closing) // it was told before we knew its language
        h2_drain(c);
    http_conn_recv(c, head, head_n, now_us);
    if (n > k)
        http_conn_recv(c, p + k, n - k, now_us);
}

void http_conn_recv(struct http_conn *c, const uint8_t *p, size_t n, uint64_t now_us)
{
    c->now_us = now_us;
    if (c->done)
        return; // thrown away: a lingering close
    switch (c->kind) {
    case CONN_FRESH:
        recv_fresh(c, p, n, now_us);
        break;
    case CONN_H1:
        h1_recv(c, p, n, now_us);
        break;
    case CONN_H2:
        h2_recv(c, p, n, now_us);
        break;
    }
}

void http_conn_eof(struct http_conn *c, uint64_t now_us)
{
    c->now_us = now_us;
    if (c->kind == CONN_H1 && c->ops->on_half_close && c->ops->on_half_close(c, c->ctx)) {
        h1_end_input(c);
        return;
    }
    for (struct exchange *ex = c->live, *next; ex; ex = next) {
        next = ex->next;
        if (!ex->responded)
            exchange_lose(ex);
    }
    c->done = true;
}

bool http_conn_wants_read(const struct http_conn *c)
{
    if (c->done)
        return true;
    if (c->kind == CONN_H1)
        return buffer_len(&c->h1.pending) < PENDING_MAX;
    // Acknowledgements and resets that the peer makes us write and does not read (rows 47, 50, 51).
    return c->kind != CONN_H2 ||
           (c->out.bytes < (1 << 20) && !c->h2->cut && buffer_len(&c->h2->control) < CONTROL_MAX);
}

// ---- bytes out --------------------------------------------------------------------------------------

// Nothing is live from now on.
static void rest(struct http_conn *c, uint64_t now_us)
{
    c->rest_begins = false;
    c->idle_since_us = now_us;
    out_rest(&c->out);
    if (c->kind == CONN_H1)
        h1_rest(c);
    if (c->rest_until_us < now_us + DRAIN_IDLE_US)
        c->rest_until_us = now_us + DRAIN_IDLE_US;
    // Behind its answer, and without a notice: some clients take GOAWAY for the end of all, and nothing behind it.
    if (c->misled && c->kind == CONN_H2)
        h2_terminate(c, H2_NO_ERROR);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

// HTTP/1.1 cannot tell a client that rests to go away: while we drain it stays until we serve no more, and a
// moment longer, since a request may be on its way.
static uint64_t rest_deadline(const struct http_conn *c)
{
    uint64_t at = c->idle_since_us + c->limits->idle_timeout_us;
    return c->draining && c->kind == CONN_H1 ? earlier(at, c->rest_until_us) : at;
}

static bool is_resting(const struct http_conn *c)
{
    return c->idle_since_us > 0 && c->head_since_us == 0 && c->out.bytes == 0;
}

int http_conn_gather(struct http_conn *c, struct iovec *iov, int max, uint64_t now_us)
{
    c->now_us = now_us;
    if (c->mute)
        return 0;
    if (c->kind == CONN_H1)
        h1_resume(c, now_us);
    else if (c->kind == CONN_H2)
        h2_fill(c, now_us);
    if (c->out.bytes == 0 && c->out.at < c->out.n)
        out_sent(&c->out, 0); // marks behind which nothing waits
    if (c->out.bytes > 0 && c->sent_us == 0)
        c->sent_us = now_us;
    return out_gather(&c->out, iov, max);
}

void http_conn_sent(struct http_conn *c, size_t n, uint64_t now_us)
{
    c->now_us = now_us;
    out_sent(&c->out, n);
    c->sent_us = c->out.bytes > 0 ? now_us : 0;
    if (c->out.bytes == 0 && c->idle_since_us > 0 && c->rest_begins)
        rest(c, now_us);
}

bool http_conn_done(const struct http_conn *c)
{
    return c->done;
}

// ---- deadlines ---------------------------------------------------------------------------------------

static bool reads_body(const struct http_conn *c)
{
    return c->kind == CONN_H1 && c->h1.ex && !c->h1.ex->whole_request && c->h1.state >= H1_BODY &&
           c->h1.state <= H1_TRAILERS;
}

// How long the head at hand is waited for. A connection that has said nothing yet is, while we drain, like one
// that rests: there may be nobody behind it.
static uint64_t head_deadline(const struct http_conn *c)
{
    uint64_t at = c->head_since_us + c->limits->header_timeout_us;
    bool silent = c->kind == CONN_FRESH && c->n_preface == 0;
    return c->draining && silent ? earlier(at, c->rest_until_us) : at;
}

uint64_t http_conn_deadline(const struct http_conn *c)
{
    const struct http_limits *l = c->limits;
    uint64_t at = UINT64_MAX;
    if (c->head_since_us > 0)
        at = earlier(at, head_deadline(c));
    if (c->sent_us > 0)
        at = earlier(at, c->sent_us + l->send_timeout_us);
    if (reads_body(c))
        at = earlier(at, exchange_body_deadline(c->h1.ex, l));
    if (is_resting(c))
        at = earlier(at, rest_deadline(c));
    if (c->kind == CONN_H2 && c->n_live > 0)
        at = earlier(at, c->tick_us);
    if (c->kind == CONN_H1 && c->h1.ex && c->h1.ex->flow)
        at = earlier(at, flow_deadline(c->h1.ex));
    if (c->kind == CONN_H2 && c->h2->last_call_us > 0)
        at = earlier(at, c->h2->last_call_us);
    return at;
}

bool http_conn_midway(const struct http_conn *c)
{
    return !c->done && (c->head_since_us > 0 || reads_body(c));
}

static void give_up(struct http_conn *c)
{
    c->done = true;
    c->head_since_us = c->idle_since_us = 0;
    if (c->kind == CONN_H2)
        c->h2->last_call_us = 0;
    c->tick_us = UINT64_MAX;
}

static void on_slow_head(struct http_conn *c, uint64_t now_us)
{
    if (c->kind == CONN_H2)
        h2_terminate(c, c->h2->greeted ? H2_ENHANCE_YOUR_CALM : H2_SETTINGS_TIMEOUT);
    else if (c->kind == CONN_H1 && (c->h1.state != H1_REQUEST_LINE || buffer_len(&c->h1.line) > 0))
        h1_refuse(c, 408, "head: it did not come in time", now_us);
    else
        give_up(c);
    c->head_since_us = 0;
}

void http_conn_on_timer(struct http_conn *c, uint64_t now_us)
{
    const struct http_limits *l = c->limits;
    c->now_us = now_us;
    if (c->sent_us > 0 && now_us >= c->sent_us + l->send_timeout_us) {
        give_up(c); // a reader that does not read: what it was owed goes with it
        drop_output(c);
        c->sent_us = 0;
        c->mute = true;
        return;
    }
    if (c->head_since_us > 0 && now_us >= head_deadline(c))
        on_slow_head(c, now_us);
    if (reads_body(c) && exchange_body_is_slow(c->h1.ex, l, now_us))
        h1_refuse(c, 408, "body: it did not come in time", now_us);
    if (is_resting(c) && now_us >= rest_deadline(c)) {
        c->idle_since_us = 0;
        if (c->kind == CONN_H2)
            h2_terminate(c, H2_NO_ERROR);
        else
            give_up(c);
    }
    if (c->kind == CONN_H1 && c->h1.ex && now_us >= flow_deadline(c->h1.ex))
        exchange_wake(c->h1.ex, now_us);
    if (c->kind == CONN_H2 &&
        (now_us >= c->tick_us || (c->h2->last_call_us > 0 && now_us >= c->h2->last_call_us)))
        h2_tick(c, now_us);
}

void http_conn_drain(struct http_conn *c, uint64_t serve_until_us, uint64_t now_us)
{
    c->now_us = now_us;
    c->draining = true;
    c->rest_until_us = serve_until_us + DRAIN_IDLE_US;
    if (c->kind == CONN_H1 && c->h1.ex && !c->h1.ex->responded)
        c->h1.ex->keep_alive = false; // what is answered already was told that it may go on
    if (now_us < serve_until_us || c->closing)
        return;
    flow_tell_closing(c);
    if (c->kind == CONN_H2)
        h2_drain(c);
}

unsigned http_conn_live(const struct http_conn *c)
{
    return c->n_live;
}

void *http_conn_user(struct http_conn *c)
{
    return c->user;
}

void http_conn_set_user(struct http_conn *c, void *user)
{
    c->user = user;
}
