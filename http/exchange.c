#include "base/check.h"
#include "base/pool.h"
#include "http/conn.h"
#include <stdio.h>

#define CONNECTION_OPTIONS 100 // each is compared with each field
#define RATE_WINDOW_US 20000000
#define ARENA_CHUNK 6144 // a small inference's fields, decoder and answer

const char out_of_memory[] = "out of memory";

_Thread_local char http_date[32];
_Thread_local unsigned http_date_n;

void http_set_date(struct view date)
{
    http_date_n = date.n < sizeof(http_date) ? (unsigned)date.n : 0;
    memcpy(http_date, date.p, http_date_n);
}

void http_limits_default(struct http_limits *l)
{
    *l = (struct http_limits){
        .max_headers = 100,
        .max_header_bytes = 32 << 10,
        .max_target = 8 << 10,
        .max_body = 64 << 20,
        .max_streams = 128,
        .abuse_budget = 200,
        .header_timeout_us = 10000000,
        .body_timeout_us = 10000000,
        .body_min_rate = 500,
        .idle_timeout_us = 75000000,
        .send_timeout_us = 30000000,
        .stream_stall_us = 10000000,
    };
}

const char *http_reason(unsigned status)
{
    static const struct {
        unsigned status;
        const char *reason;
    } table[] = {
        {200, "OK"},
        {304, "Not Modified"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (table[i].status == status)
            return table[i].reason;
    }
    return "Answer";
}

// ---- life --------------------------------------------------------------------------------------------

struct exchange *exchange_new(struct http_conn *c, enum http_carrier carrier, uint64_t now_us)
{
    struct exchange *ex = pool_alloc(sizeof(*ex));
    if (!ex)
        return NULL;
    memset(ex, 0, sizeof(*ex));
    arena_init(&ex->arena, ARENA_CHUNK);
    buffer_init(&ex->body);
    ex->conn = c;
    ex->ops = c->ops;
    ex->ctx = c->ctx;
    ex->carrier = carrier;
    ex->scheme = c->secure ? VIEW("https") : VIEW("http");
    ex->started_us = ex->progress_us = ex->rate_from_us = now_us;
    ex->max_body = c->limits->max_body;
    ex->refs = 1;
    ex->next = c->live;
    ex->prev = &c->live;
    if (c->live)
        c->live->prev = &ex->next;
    c->live = ex;
    c->n_live++;
    c->idle_since_us = 0;
    return ex;
}

bool exchange_account(struct exchange *ex, size_t beside)
{
    int64_t delta = (int64_t)(ex->body.cap + ex->arena.bytes + beside) - ex->charged;
    if (delta == 0 || !ex->ops->on_charge)
        return true;
    if (!ex->ops->on_charge(ex, delta, ex->ctx))
        return false;
    ex->charged += delta;
    return true;
}

void exchange_ref(struct exchange *ex)
{
    ex->refs++;
}

void exchange_unref(struct exchange *ex)
{
    invariant(ex->refs > 0);
    if (--ex->refs > 0)
        return;
    if (ex->charged > 0 && ex->ops->on_charge)
        ex->ops->on_charge(ex, -ex->charged, ex->ctx);
    for (uint32_t i = ex->out_at; i < ex->n_out; i++) { // an answer that never left
        if (ex->out[i].block)
            block_unref(ex->out[i].block);
    }
    buffer_deinit(&ex->body);
    arena_deinit(&ex->arena);
    pool_free(ex);
}

void exchange_detach(struct exchange *ex)
{
    struct http_conn *c = ex->conn;
    if (!c)
        return;
    if (ex->next)
        ex->next->prev = ex->prev;
    *ex->prev = ex->next;
    c->n_live--;
    if (ex->carrier == HTTP_2)
        h2_detach(c, ex);
    if (c->n_live == 0) {
        c->idle_since_us = c->now_us;
        c->rest_begins = true;
    }
    ex->conn = NULL;
    exchange_unref(ex);
}

// ---- telling -----------------------------------------------------------------------------------------

void exchange_tell_head(struct exchange *ex)
{
    ex->told = true;
    ex->ops->on_head(ex, ex->ctx);
}

void exchange_tell_request(struct exchange *ex, uint64_t now_us)
{
    ex->whole_request = true;
    ex->body_us = now_us;
    if ((!ex->responded || is_streaming(ex)) && !ex->gone)
        ex->ops->on_request(ex, ex->ctx);
}

void exchange_tell_sent(struct exchange *ex, bool whole)
{
    if (!ex->responded || ex->sent_told || !ex->told)
        return;
    ex->sent_told = true;
    if (ex->ops->on_sent)
        ex->ops->on_sent(ex, whole, ex->ctx);
}

void exchange_tell_gone(struct exchange *ex)
{
    if (ex->responded) {
        exchange_tell_sent(ex, false);
    } else if (ex->told && !ex->gone) {
        ex->gone = true;
        ex->ops->on_gone(ex, ex->ctx);
    }
    ex->gone = true;
}

void exchange_lose(struct exchange *ex)
{
    exchange_ref(ex);
    exchange_tell_gone(ex);
    if (ex->conn->h1.ex == ex)
        ex->conn->h1.ex = NULL;
    exchange_detach(ex);
    exchange_unref(ex);
}

// ---- fields ------------------------------------------------------------------------------------------

struct view exchange_header(const struct exchange *ex, const char *lower_name)
{
    size_t n = strlen(lower_name);
    for (unsigned i = 0; i < ex->n_headers; i++) {
        const struct http_header *h = &ex->headers[i];
        if (h->name.n == n && memcmp(h->name.p, lower_name, n) == 0)
            return h->value;
    }
    return view_of(NULL, 0);
}

// Eight bytes at once: 'A' to 'Z' get the bit that makes them lower case.
static uint64_t lower_of(uint64_t eight)
{
    const uint64_t ones = 0x0101010101010101;
    uint64_t low = eight & 0x7f * ones;
    uint64_t from_a = low + (0x80 - 'A') * ones, past_z = low + (0x7f - 'Z') * ones;
    return eight | ((from_a ^ past_z) & ~eight & 0x80 * ones) >> 2;
}

// The name in lower case.
static void put_lower(char *to, struct view name)
{
    uint64_t eight;
    size_t i = 0;
    for (; name.n - i >= sizeof(eight); i += sizeof(eight)) {
        memcpy(&eight, name.p + i, sizeof(eight));
        eight = lower_of(eight);
        memcpy(to + i, &eight, sizeof(eight));
    }
    for (; i < name.n; i++)
        to[i] = name.p[i] >= 'A' && name.p[i] <= 'Z' ? (char)(name.p[i] | 0x20) : name.p[i];
}

enum field_result exchange_add_field(struct exchange *ex, struct view name, struct view value)
{
    const struct http_limits *l = ex->conn->limits;
    // What a peer makes us keep (RFC 9113 6.5.2 counts the same 32), checked in the middle of a block: one
    // byte of HPACK can stand for thousands (CVE-2026-49975, CVE-2016-6581).
    size_t cost = name.n + value.n + 32;
    if (ex->n_headers >= l->max_headers || cost > l->max_header_bytes - ex->header_bytes)
        return FIELD_TOO_MANY;
    if (ex->n_headers == ex->cap_headers) {
        uint32_t cap = ex->cap_headers ? 2 * ex->cap_headers : 16;
        struct http_header *grown = arena_array(&ex->arena, cap, sizeof(*grown));
        if (!grown)
            return FIELD_NO_MEMORY;
        if (ex->n_headers > 0)
            memcpy(grown, ex->headers, ex->n_headers * sizeof(*grown));
        ex->headers = grown;
        ex->cap_headers = cap;
    }
    char *copy = arena_alloc_aligned(&ex->arena, name.n + value.n, 1);
    if (!copy && name.n + value.n > 0)
        return FIELD_NO_MEMORY;
    put_lower(copy, name);
    if (value.n > 0)
        memcpy(copy + name.n, value.p, value.n);
    ex->headers[ex->n_headers++] =
        (struct http_header){view_of(copy, name.n), view_of(copy + name.n, value.n)};
    ex->header_bytes += (uint32_t)cost;
    return FIELD_OK;
}

static bool same_name(struct view lower, struct view any)
{
    return lower.n == any.n && strncasecmp(lower.p, any.p, any.n) == 0;
}

static bool is_hop(struct view name)
{
    return view_is(name, "connection") || view_is(name, "keep-alive") ||
           view_is(name, "proxy-connection") || view_is(name, "transfer-encoding") ||
           view_is(name, "upgrade") || view_is(name, "te") || view_is(name, "trailer") ||
           view_is(name, "proxy-authorization") || view_is(name, "http2-settings");
}

// Is this field nominated by Connection (RFC 9110 7.6.1)? Nobody may drop what guards us that way.
static bool nominated(const struct exchange *ex, struct view name)
{
    static const char *const kept[] = {"authorization", "host", "content-length", "x-request-id"};
    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
        if (view_is(name, kept[i]))
            return false;
    }
    if (name.n > 12 && memcmp(name.p, "x-forwarded-", 12) == 0)
        return false;
    for (unsigned i = 0; i < ex->n_headers; i++) {
        if (!view_is(ex->headers[i].name, "connection"))
            continue;
        struct view v = ex->headers[i].value;
        for (size_t at = 0; at < v.n;) {
            size_t end = at;
            while (end < v.n && v.p[end] != ',')
                end++;
            size_t from = at, to = end;
            while (from < to && (v.p[from] == ' ' || v.p[from] == '\t'))
                from++;
            while (to > from && (v.p[to - 1] == ' ' || v.p[to - 1] == '\t'))
                to--;
            if (same_name(name, view_of(v.p + from, to - from)))
                return true;
            at = end + 1;
        }
    }
    return false;
}

static unsigned options_of(const struct http_header *h)
{
    unsigned n = 1;
    if (!view_is(h->name, "connection"))
        return 0;
    for (size_t i = 0; i < h->value.n; i++)
        n += h->value.p[i] == ',';
    return n;
}

const char *exchange_drop_hops(struct exchange *ex)
{
    bool any = false;
    unsigned options = 0;
    for (unsigned i = 0; i < ex->n_headers; i++) {
        any |= is_hop(ex->headers[i].name);
        options += options_of(&ex->headers[i]);
    }
    if (options > CONNECTION_OPTIONS)
        return "connection: too many options";
    if (!any)
        return NULL;
    struct http_header *kept = arena_array(&ex->arena, ex->n_headers, sizeof(*kept));
    unsigned n = 0;
    for (unsigned i = 0; kept && i < ex->n_headers; i++) {
        if (!is_hop(ex->headers[i].name) && !nominated(ex, ex->headers[i].name))
            kept[n++] = ex->headers[i];
    }
    if (!kept)
        return out_of_memory;
    ex->headers = kept;
    ex->n_headers = n;
    ex->cap_headers = n;
    return NULL;
}

bool content_length_of(struct view v, int64_t *out)
{
    uint64_t n = 0;
    if (v.n == 0 || v.n > 40)
        return false;
    for (size_t i = 0; i < v.n; i++) {
        unsigned d = (unsigned char)v.p[i] - (unsigned)'0';
        if (d > 9 || __builtin_mul_overflow(n, 10u, &n) || __builtin_add_overflow(n, d, &n))
            return false;
    }
    *out = (int64_t)n;
    return n <= INT64_MAX;
}

// ---- body --------------------------------------------------------------------------------------------

// Charged as it grows: 64 KiB, then doubling, but no more than what is announced.
static bool grow_body(struct exchange *ex, size_t n)
{
    size_t need = ex->body.end + n, cap = ex->body.cap ? 2 * ex->body.cap : n;
    size_t whole = ex->body_left > 0 ? ex->body.end + (size_t)ex->body_left : SIZE_MAX;
    if (ex->body.cap == 0 && ex->body_left > 0)
        cap = 64 << 10;
    cap = cap < whole ? cap : whole;
    cap = cap < need ? need : cap;
    int64_t more = (int64_t)cap - ex->charged;
    if (more > 0 && ex->ops->on_charge) {
        if (!ex->ops->on_charge(ex, more, ex->ctx))
            return false;
        ex->charged += more;
    }
    return buffer_grow(&ex->body, cap);
}

// Its reader consumes it meanwhile: what waits is little, and charged as it is.
static bool stream_body(struct exchange *ex, const uint8_t *p, size_t n)
{
    if (!buffer_append(&ex->body, p, n) || !exchange_account(ex, 0))
        return false;
    ex->ops->on_body(ex, ex->ctx);
    if (buffer_len(&ex->body) == 0)
        buffer_reset(&ex->body);
    return true;
}

// However much comes at once: what bounds it is what its reader leaves.
static bool stream_pieces(struct exchange *ex, const uint8_t *p, size_t n, unsigned *status)
{
    while (n > 0 && is_streaming(ex)) {
        size_t room = ex->max_body - buffer_len(&ex->body), part = n < room ? n : room;
        *status = part == 0 ? 413 : 503;
        if (part == 0 || !stream_body(ex, p, part))
            return false;
        p += part;
        n -= part;
    }
    return true;
}

bool exchange_body(struct exchange *ex, const uint8_t *p, size_t n, unsigned *status)
{
    bool streaming = is_streaming(ex);
    if (ex->discard || (ex->responded && !streaming) || n == 0)
        return true;
    if (streaming)
        return stream_pieces(ex, p, n, status);
    *status = 413;
    if (n > ex->max_body - buffer_len(&ex->body))
        return false;
    *status = 503;
    size_t need = ex->body.end + n;
    return (need <= ex->body.cap || grow_body(ex, n)) && buffer_append(&ex->body, p, n);
}

uint64_t exchange_body_deadline(const struct exchange *ex, const struct http_limits *l)
{
    uint64_t silent = ex->progress_us + l->body_timeout_us;
    uint64_t slow = ex->rate_from_us + RATE_WINDOW_US;
    return silent < slow ? silent : slow;
}

bool exchange_body_is_slow(struct exchange *ex, const struct http_limits *l, uint64_t now_us)
{
    if (now_us >= ex->progress_us + l->body_timeout_us)
        return true;
    if (now_us < ex->rate_from_us + RATE_WINDOW_US)
        return false;
    if (ex->rate_bytes < (uint64_t)l->body_min_rate * (RATE_WINDOW_US / 1000000))
        return true;
    ex->rate_from_us = now_us;
    ex->rate_bytes = 0;
    return false;
}

// ---- answers -----------------------------------------------------------------------------------------

void drop_segs(const struct http_response *r)
{
    for (unsigned i = 0; i < r->n_body; i++) {
        if (r->body[i].block)
            block_unref(r->body[i].block);
    }
}

bool keep_trailers(struct exchange *ex, const struct http_header *trailers, unsigned n)
{
    invariant(n <= TRAILERS_MOST);
    ex->trailers = arena_array(&ex->arena, n ? n : 1, sizeof(*ex->trailers));
    if (!ex->trailers)
        return false;
    for (unsigned i = 0; i < n; i++) {
        struct view value = arena_copy(&ex->arena, trailers[i].value);
        if (trailers[i].value.n > 0 && !value.p)
            return false;
        ex->trailers[ex->n_trailers++] = (struct http_header){trailers[i].name, value};
    }
    return true;
}

// For rooms above that give refusals no form of their own.
static void refusal_respond(struct exchange *ex, unsigned status, const char *why, uint64_t now_us)
{
    struct http_header headers[2] = {{VIEW("content-type"), VIEW("application/json")}};
    unsigned n = 1;
    if (status == 405)
        headers[n++] = (struct http_header){VIEW("allow"), VIEW(HTTP_ALLOWED)};
    if (status == 503)
        headers[n++] = (struct http_header){VIEW("retry-after"), VIEW("1")};
    char text[256];
    int length = snprintf(text, sizeof(text), "{\"error\":\"%s\"}", why);
    struct view body = arena_copy(&ex->arena, view_of(text, (size_t)length));
    struct http_seg seg = {(const uint8_t *)body.p, body.n, NULL};
    struct http_response r = {
        .status = (uint16_t)status, .headers = headers, .n_headers = n, .body = &seg, .n_body = 1};
    exchange_respond(ex, &r, now_us);
}

void exchange_refuse(struct exchange *ex, unsigned status, const char *why, uint64_t now_us)
{
    ex->discard = true;
    ex->keep_alive = false;
    buffer_deinit(&ex->body);
    buffer_init(&ex->body);
    ex->ops->on_refuse(ex->conn, ex, status, why, ex->ctx);
    if (!ex->responded)
        refusal_respond(ex, status, why, now_us);
}

void exchange_respond(struct exchange *ex, const struct http_response *r, uint64_t now_us)
{
    if (ex->gone || !ex->conn) {
        drop_segs(r);
        return;
    }
    invariant(!ex->responded);
    ex->responded = true;
    ex->status = r->status;
    ex->is_head |= r->status == 304; // the head of a 200, and no more (RFC 9110, 15.4.5)
    for (unsigned i = 0; i < r->n_body; i++)
        ex->sent_bytes += r->body[i].n;
    if (ex->conn->mute) { // its reader was given up: on_sent follows with the connection's end
        drop_segs(r);
        return;
    }
    if (ex->conn->kind == CONN_H2)
        h2_respond(ex, r, now_us);
    else
        h1_respond(ex, r, now_us);
}
