/* A server connection and the rooms above it, for tests: every event becomes a line of `log`, every byte
 * sent is kept in `out`. Requests are answered by their path:
 *   /later       not at once: world_answer does
 *   /early       from on_head, /wrong/... in on_head with 404
 *   /big         200,000 bytes in one block        /empty   no body at all
 *   /trailers    with trailers                      /close   closes
 *   /only        trailers and no body
 *   /talk        the same, and its body streams: it is consumed as it comes; /hoard: it is not
 *   /flow        an answer that flows, by the letters of its query, one for each on_want (world_on_want)
 *   else         one line that tells what was understood */
#ifndef SLUICE_TESTS_HTTP_WORLD_H
#define SLUICE_TESTS_HTTP_WORLD_H

#include "base/check.h"
#include "base/mem.h"
#include "http/conn.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define BIG_ANSWER 200000
#define RUNS_ANSWER 200 // small ones
#define RUN_BYTES 4000
#define SECOND 1000000u

struct world {
    struct http_conn *c;
    struct http_limits limits;
    struct buffer out;
    struct buffer log;
    uint64_t now_us;
    struct exchange *later[256];
    unsigned n_later;
    int64_t charged, charge_limit;
    unsigned heads, requests, gone, sent, sent_whole, refused, refused_status;
    unsigned abused[ABUSE_VERDICTS];
    unsigned wants;
    size_t heard;      // bytes of bodies that stream
    bool hurry;        // sources end as soon as they are asked
    bool shapes;       // refusals are answered here, as gRPC
    bool answers_half; // who has closed his half is still answered
    bool hush;         // no lines: floods
    bool terse; // no lines of ends: when an answer has left depends on how its request came in
};

static struct block_owner world_blocks;

__attribute__((format(printf, 2, 3))) static void world_note(struct world *w, const char *fmt, ...)
{
    char text[2048];
    va_list ap;
    if (w->hush)
        return;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    buffer_append(&w->log, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

static void world_respond(struct world *w, struct exchange *ex, unsigned status)
{
    char text[16384]; // a path may have 8 KiB
    struct http_header type = {VIEW("content-type"), VIEW("text/plain")};
    struct http_header trailers[2] = {{VIEW("grpc-status"), VIEW("0")},
                                      {VIEW("grpc-message"), VIEW("fine")}};
    struct view host = exchange_header(ex, "host");
    struct view b = buffer_view(&ex->body);
    int n = snprintf(text, sizeof(text), "%.*s %.*s ?%.*s @%.*s host=%.*s %zu:%.*s\n",
                     VIEW_ARG(ex->method), VIEW_ARG(ex->path), VIEW_ARG(ex->query),
                     VIEW_ARG(ex->authority), VIEW_ARG(host), b.n, b.n < 40 ? (int)b.n : 40,
                     b.n ? b.p : "");
    size_t kept_n = (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1;
    struct view kept = arena_copy(&ex->arena, view_of(text, kept_n));
    struct http_seg seg = {(const uint8_t *)kept.p, kept.n, NULL};
    struct http_response r = {
        .status = (uint16_t)status, .headers = &type, .n_headers = 1, .body = &seg, .n_body = 1};
    if (view_is(ex->path, "/big")) {
        struct block *block = block_new(&world_blocks, BIG_ANSWER);
        if (block) {
            memset(block->data, 'x', BIG_ANSWER);
            seg = (struct http_seg){block->data, BIG_ANSWER, block};
        } else {
            r.status = 503;
        }
    }
    if (view_is(ex->path, "/empty") || view_is(ex->path, "/only"))
        r.n_body = 0;
    if (view_is(ex->path, "/trailers") || view_is(ex->path, "/only")) {
        r.trailers = trailers;
        r.n_trailers = 2;
    }
    r.close = view_is(ex->path, "/close");
    static const uint8_t run[RUN_BYTES] = {'r'};
    struct http_seg runs[RUNS_ANSWER];
    for (unsigned i = 0; view_is(ex->path, "/runs") && i < RUNS_ANSWER; i++) {
        runs[i] = (struct http_seg){run, RUN_BYTES, NULL};
        r.body = runs;
        r.n_body = RUNS_ANSWER;
    }
    exchange_respond(ex, &r, w->now_us);
}

// ---- an answer that flows

struct world_source { // ex->user
    const char *next, *start, *end;
    bool was_silent; // since it began, or began again
};

static void world_flow(struct world *w, struct exchange *ex)
{
    struct http_header type = {VIEW("content-type"), VIEW("text/event-stream")};
    struct http_response r = {.status = 200, .headers = &type, .n_headers = 1};
    struct world_source *s = ex->user = arena_zalloc(&ex->arena, sizeof(*s));
    if (!s) {
        world_respond(w, ex, 503);
        return;
    }
    s->next = s->start = ex->query.p;
    s->end = s->start + ex->query.n;
    exchange_start(ex, &r, w->now_us);
}

static void world_put_block(struct exchange *ex)
{
    struct block *block = block_new(&world_blocks, BIG_ANSWER);
    if (!block) {
        exchange_cut(ex);
        return;
    }
    memset(block->data, 'b', BIG_ANSWER);
    exchange_put(ex, (struct http_seg){block->data, BIG_ANSWER, block});
}

// s: silent until it is woken; q: or asked, ten seconds later; b: a block; 8: as many pieces as there may be; 0: an
// empty one before it, which is none; m: an eighth of what is copied; e: the end; t: with trailers; l: the end with the last
// piece; x: cut; *: from the start again. Any other letter is a piece. Behind the last one it ends.
static void world_on_want(struct exchange *ex, void *ctx)
{
    struct world *w = ctx;
    struct world_source *s = ex->user;
    struct http_header trailers[2] = {{VIEW("grpc-status"), VIEW("0")},
                                      {VIEW("grpc-message"), VIEW("fine")}};
    static uint8_t kilo[1024];
    memset(kilo, 'm', sizeof(kilo));
    w->wants++;
    if (s->next < s->end && *s->next == '*')
        s->next = s->was_silent ? s->start : s->end; // it must not go on for ever by itself
    char letter = s->next == s->end || w->hurry || ex->closing ? 'e' : *s->next++;
    struct http_seg piece = {(const uint8_t *)s->next - 1, 1, NULL};
    switch (letter) {
    case 'q':
        exchange_ask_at(ex, w->now_us + 10 * (uint64_t)SECOND);
        __attribute__((fallthrough));
    case 's':
        s->was_silent = true;
        break;
    case 'b':
        world_put_block(ex);
        break;
    case '8':
        for (unsigned i = 0; i < FLOW_PIECES; i++)
            exchange_put(ex, piece);
        break;
    case '0':
        exchange_put(ex, (struct http_seg){(const uint8_t *)"", 0, block_new(&world_blocks, 1)});
        exchange_put(ex, piece);
        break;
    case 'm':
        exchange_put(ex, (struct http_seg){kilo, sizeof(kilo), NULL});
        break;
    case 'e':
        exchange_end(ex, NULL, 0);
        break;
    case 't':
        exchange_end(ex, trailers, 2);
        break;
    case 'l':
        exchange_put(ex, piece);
        exchange_end(ex, NULL, 0);
        break;
    case 'x':
        exchange_cut(ex);
        break;
    default:
        exchange_put(ex, piece);
        break;
    }
}

// All sources have something again.
static inline void world_wake(struct world *w)
{
    for (struct exchange *ex = w->c->live; ex; ex = ex->next)
        exchange_wake(ex, w->now_us);
}

static inline bool world_flows(const struct world *w)
{
    for (const struct exchange *ex = w->c->live; ex; ex = ex->next) {
        if (is_flowing(ex))
            return true;
    }
    return false;
}

// As gRPC would have it: 200, and the reason in trailers.
static void world_refuse(struct world *w, struct exchange *ex, const char *why)
{
    struct http_header trailers[2] = {{VIEW("grpc-status"), VIEW("8")},
                                      {VIEW("grpc-message"), view_str(why)}};
    struct http_response r = {.status = 200, .trailers = trailers, .n_trailers = 2};
    exchange_respond(ex, &r, w->now_us);
}

static bool world_streams(const struct exchange *ex)
{
    return ex->carrier == HTTP_2 && (view_is(ex->path, "/talk") || view_is(ex->path, "/hoard"));
}

static void world_on_head(struct exchange *ex, void *ctx)
{
    struct world *w = ctx;
    w->heads++;
    world_note(w, "head %.*s %.*s\n", VIEW_ARG(ex->method), VIEW_ARG(ex->path));
    for (unsigned i = 0; i < ex->n_headers; i++)
        world_note(w, "  %.*s: %.*s\n", VIEW_ARG(ex->headers[i].name),
                   VIEW_ARG(ex->headers[i].value));
    if (view_is(ex->path, "/small"))
        ex->max_body = 8;
    ex->streams = world_streams(ex);
    if (view_is(ex->path, "/early"))
        world_respond(w, ex, 404);
}

static void world_on_body(struct exchange *ex, void *ctx)
{
    struct world *w = ctx;
    if (!ex->responded)
        world_flow(w, ex);
    if (view_is(ex->path, "/hoard"))
        return;
    w->heard += buffer_len(&ex->body);
    buffer_consume(&ex->body, buffer_len(&ex->body));
}

static void world_on_request(struct exchange *ex, void *ctx)
{
    struct world *w = ctx;
    w->requests++;
    world_note(w, "request %zu\n", buffer_len(&ex->body));
    if (view_is(ex->path, "/later") && w->n_later < 256) {
        exchange_ref(ex);
        w->later[w->n_later++] = ex;
    } else if (ex->responded) {
        exchange_wake(ex, w->now_us); // its body streams
    } else if (view_is(ex->path, "/flow") || ex->streams) {
        world_flow(w, ex);
    } else {
        world_respond(w, ex, 200);
    }
}

static void world_on_gone(struct exchange *ex, void *ctx)
{
    struct world *w = ctx;
    w->gone++;
    world_note(w, "gone\n");
}

static void world_on_sent(struct exchange *ex, bool whole, void *ctx)
{
    struct world *w = ctx;
    w->sent++;
    w->sent_whole += whole;
    if (!w->terse)
        world_note(w, whole ? "sent\n" : "cut\n");
}

static void world_on_refuse(struct http_conn *c, struct exchange *ex, unsigned status,
                            const char *why, void *ctx)
{
    struct world *w = ctx;
    w->refused++;
    w->refused_status = status;
    world_note(w, "refused %u %s\n", status, why);
    if (w->shapes && ex)
        world_refuse(w, ex, why);
}

static bool world_on_charge(struct exchange *ex, int64_t delta, void *ctx)
{
    struct world *w = ctx;
    if (delta > 0 && w->charge_limit > 0 && w->charged + delta > w->charge_limit)
        return false;
    w->charged += delta;
    return true;
}

static void world_on_abuse(struct http_conn *c, enum abuse_kind kind, enum abuse_verdict verdict,
                           void *ctx)
{
    struct world *w = ctx;
    w->abused[verdict]++;
    world_note(w, "%s: %u\n", abuse_name[kind], verdict);
}

static bool world_on_half_close(struct http_conn *c, void *ctx)
{
    struct world *w = ctx;
    return w->answers_half;
}

static const struct http_server_ops world_ops = {.on_head = world_on_head,
                                                 .on_request = world_on_request,
                                                 .on_body = world_on_body,
                                                 .on_gone = world_on_gone,
                                                 .on_sent = world_on_sent,
                                                 .on_refuse = world_on_refuse,
                                                 .on_charge = world_on_charge,
                                                 .on_abuse = world_on_abuse,
                                                 .on_half_close = world_on_half_close,
                                                 .on_want = world_on_want};

static void world_open(struct world *w, bool h2)
{
    w->now_us = 1000 * (uint64_t)SECOND;
    if (w->limits.max_headers == 0)
        http_limits_default(&w->limits);
    w->c = http_conn_new(&w->limits, &world_ops, w, false, h2, w->now_us);
}

static void world_init(struct world *w, bool h2)
{
    memset(w, 0, sizeof(*w));
    if (world_blocks.thread_tag == 0) {
        block_owner_init(&world_blocks);
        block_owner_adopt(&world_blocks);
    }
    world_open(w, h2);
}

// Reads what is about to be sent, so that ASan sees a run whose memory has gone.
static inline void world_hold(const struct iovec *iov, int n, size_t most)
{
    for (int i = 0; i < n; i++) {
        const volatile uint8_t *p = iov[i].iov_base;
        for (size_t k = 0; k < iov[i].iov_len && most > 0; k++, most--)
            (void)p[k];
    }
}

// What a connection's output holds of its own; a frame may be what it was filled to when the last one was begun.
static inline void world_output_is_small(const struct world *w)
{
    invariant(w->c->out.copy.cap <= OUT_COPIED_MOST);
    invariant(w->c->out.n - w->c->out.at <= OUT_RUNS_HIGH + RUNS_ANSWER + 8);
}

// Takes at most `most` bytes of output; how many came.
static size_t world_take(struct world *w, size_t most)
{
    struct iovec iov[4];
    size_t all = 0;
    while (all < most) {
        int n = http_conn_gather(w->c, iov, 4, w->now_us);
        size_t part = 0;
        for (int i = 0; i < n && all + part < most; i++) {
            size_t k = iov[i].iov_len < most - all - part ? iov[i].iov_len : most - all - part;
            buffer_append(&w->out, iov[i].iov_base, k);
            part += k;
        }
        if (part == 0)
            break;
        http_conn_sent(w->c, part, w->now_us);
        all += part;
    }
    return all;
}

static void world_flush(struct world *w)
{
    world_take(w, SIZE_MAX);
}

// Bytes of the peer; what is owed leaves at once.
static void world_feed(struct world *w, const void *p, size_t n)
{
    uint8_t *exact = mem_must(n ? n : 1); // so that ASan sees a read past the end
    memcpy(exact, p, n);
    http_conn_recv(w->c, exact, n, w->now_us);
    mem_free(exact);
    world_flush(w);
}

static inline void world_say(struct world *w, const char *text)
{
    world_feed(w, text, strlen(text));
}

// Answers the oldest request that waits.
static inline void world_answer(struct world *w)
{
    struct exchange *ex = w->later[0];
    memmove(w->later, w->later + 1, --w->n_later * sizeof(w->later[0]));
    world_respond(w, ex, 200);
    exchange_unref(ex);
    if (w->c)
        world_flush(w);
}

// Time goes on; each deadline on the way is served at its moment.
static inline void world_pass(struct world *w, uint64_t us)
{
    uint64_t end_us = w->now_us + us;
    for (int i = 0; i < 100000; i++) {
        uint64_t at = http_conn_deadline(w->c);
        if (at > end_us)
            break;
        w->now_us = at > w->now_us ? at : w->now_us;
        http_conn_on_timer(w->c, w->now_us);
        world_flush(w);
        if (http_conn_done(w->c))
            break;
    }
    w->now_us = end_us;
}

static void world_close(struct world *w)
{
    if (w->c)
        http_conn_free(w->c, w->now_us);
    w->c = NULL;
    while (w->n_later > 0)
        world_answer(w);
}

// The books: each head has had its one end, all charges and blocks came back.
static const char *world_books(const struct world *w)
{
    if (w->gone + w->sent != w->heads)
        return "an exchange without its one end";
    if (w->charged != 0)
        return "a charge was kept";
    if (world_blocks.live_blocks != 0)
        return "a block was kept";
    return NULL;
}

static void world_deinit(struct world *w)
{
    world_close(w);
    buffer_deinit(&w->out);
    buffer_deinit(&w->log);
}

static inline const char *world_text(struct buffer *b)
{
    buffer_append(b, "", 1);
    b->end--;
    return (const char *)b->data + b->at;
}

#endif
