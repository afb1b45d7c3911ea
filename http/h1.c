// HTTP/1.1 as a server: our own strict reading of RFC 9112. Bytes come in any pieces; whole lines are
// looked at one by one, each state in a function of its own. Whatever two programs might read differently
// is refused and the connection closed.
//
//   REQUEST_LINE ─► FIELDS ─► BODY ─────────────────────────────► WAIT ─answered─► REQUEST_LINE
//                     │       CHUNK_SIZE ─► CHUNK_DATA ─► CHUNK_END    │
//                     │          └─0─► TRAILERS ───────────────►       └─close─► STOP
#include "base/check.h"
#include "base/pen.h"
#include "http/conn.h"
#include <stdio.h>

#define CHUNK_LINE_MAX 4096    // row 22: an extension is no place to hide a body
#define OVERHEAD_FACTOR 16     // framing bytes per byte of body, beyond the first 64 KiB
#define DISCARD_MAX (64 << 10) // a body nobody wants: read it if it is small, else close
#define LINE_KEPT 4096         // of a connection that rests
#define OUTPUT_HIGH                                                                                \
    (64 << 10) // requests wait while so much of earlier answers is not taken (row 78)

void h1_init(struct http_conn *c)
{
    c->kind = CONN_H1;
    c->h1 = (struct h1){.state = H1_REQUEST_LINE};
    buffer_init(&c->h1.line);
    buffer_init(&c->h1.pending);
}

void h1_deinit(struct http_conn *c)
{
    buffer_deinit(&c->h1.line);
    buffer_deinit(&c->h1.pending);
}

void h1_rest(struct http_conn *c)
{
    if (buffer_len(&c->h1.line) > 0 || c->h1.line.cap <= LINE_KEPT)
        return;
    buffer_deinit(&c->h1.line);
    buffer_init(&c->h1.line);
}

static void stop(struct http_conn *c)
{
    c->h1.state = H1_STOP;
    c->done = true;
    c->head_since_us = 0;
    buffer_reset(&c->h1.pending);
}

// Bytes that are no request: there is no exchange to answer.
static void refuse_unread(struct http_conn *c, unsigned status, const char *why)
{
    char text[512];
    c->ops->on_refuse(c, NULL, status, why, c->ctx);
    int n = snprintf(text, sizeof(text),
                     "HTTP/1.1 %u %s\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n"
                     "%sconnection: close\r\n\r\n{\"error\":\"%s\"}",
                     status, http_reason(status), strlen(why) + 12,
                     status == 503 ? "retry-after: 1\r\n" : "", why);
    out_copy(&c->out, text, (size_t)n);
}

void h1_refuse(struct http_conn *c, unsigned status, const char *why, uint64_t now_us)
{
    struct exchange *ex = c->h1.ex;
    if (c->h1.state == H1_STOP)
        return;
    if (!ex)
        refuse_unread(c, status, why);
    else if (!ex->responded) // else its answer may still leave whole
        exchange_refuse(ex, status, why, now_us);
    if (c->sent_us == 0 && c->out.bytes > 0)
        c->sent_us = now_us;
    stop(c);
    c->h1.ex = NULL;
    if (ex)
        exchange_detach(ex);
}

static void refuse_why(struct http_conn *c, const char *why, uint64_t now_us)
{
    h1_refuse(c, why == out_of_memory ? 503 : 400, why, now_us);
}

// ---- the request line --------------------------------------------------------------------------------

// token characters, RFC 9110 5.6.2
static bool is_tchar(unsigned char ch)
{
    static const uint64_t set[4] = {0x03ff6cfa00000000, 0x57ffffffc7fffffe};
    return set[ch >> 6] >> (ch & 63) & 1;
}

static bool is_control(unsigned char ch)
{
    return ch < 0x20 || ch == 0x7f;
}

// Eight at a time: nearly no text has one.
static bool has_control(struct view v)
{
    const uint64_t ones = 0x0101010101010101, high = 0x8080808080808080;
    size_t i = 0;
    for (; i + 8 <= v.n; i += 8) {
        uint64_t w, del;
        memcpy(&w, v.p + i, 8);
        del = w ^ 0x7f * ones;
        if (((w - 0x20 * ones) & ~w & high) | ((del - ones) & ~del & high))
            return true;
    }
    for (; i < v.n; i++) {
        if (is_control((unsigned char)v.p[i]))
            return true;
    }
    return false;
}

static const char *split_absolute(struct exchange *ex, struct view *target)
{
    // absolute-form: its host is the one that counts (RFC 9112 3.2.2)
    size_t skip = target->n > 7 && strncasecmp(target->p, "http://", 7) == 0    ? 7
                  : target->n > 8 && strncasecmp(target->p, "https://", 8) == 0 ? 8
                                                                                : 0;
    if (skip == 0)
        return "target: expected a path that starts with /";
    size_t end = skip;
    while (end < target->n && target->p[end] != '/' && target->p[end] != '?')
        end++;
    struct view authority = view_of(target->p + skip, end - skip);
    if (!authority_ok(authority))
        return "target: its authority is no host";
    ex->authority = arena_copy(&ex->arena, authority);
    if (!ex->authority.p)
        return out_of_memory;
    struct view rest = view_of(target->p + end, target->n - end);
    if (rest.n > 0 && rest.p[0] == '/') {
        *target = rest;
        return NULL;
    }
    char *path = arena_alloc(&ex->arena, rest.n + 1); // an empty path is "/" (RFC 3986 6.2.3)
    if (!path)
        return out_of_memory;
    path[0] = '/';
    memcpy(path + 1, rest.p, rest.n);
    *target = view_of(path, rest.n + 1);
    return NULL;
}

static void on_request_line(struct http_conn *c, struct view line, uint64_t now_us)
{
    const char *first = memchr(line.p, ' ', line.n);
    const char *last = memrchr(line.p, ' ', line.n);
    size_t method_n = first ? (size_t)(first - line.p) : 0;
    for (size_t i = 0; i < method_n; i++) {
        if (!is_tchar((unsigned char)line.p[i]))
            method_n = 0;
    }
    if (method_n == 0 || method_n > 32 || first == last) {
        h1_refuse(c, 400, "request line: expected METHOD target HTTP/1.1", now_us);
        return;
    }
    struct view target = view_of(first + 1, (size_t)(last - first - 1));
    struct view version = view_of(last + 1, line.n - (size_t)(last + 1 - line.p));
    bool one_one = view_is(version, "HTTP/1.1");
    if (!one_one && !view_is(version, "HTTP/1.0")) {
        bool other = version.n == 8 && memcmp(version.p, "HTTP/", 5) == 0 && version.p[6] == '.';
        h1_refuse(c, other ? 505 : 400, "version: expected HTTP/1.1 or HTTP/1.0", now_us);
        return;
    }
    if (target.n > c->limits->max_target) {
        h1_refuse(c, 414, "target: too long", now_us);
        return;
    }
    struct exchange *ex = exchange_new(c, one_one ? HTTP_1_1 : HTTP_1_0, c->h1.started_us);
    if (!ex) {
        refuse_why(c, out_of_memory, now_us);
        return;
    }
    c->h1.ex = ex;
    ex->method = arena_copy(&ex->arena, view_of(line.p, method_n));
    ex->is_head = view_is(ex->method, "HEAD");
    if (view_is(ex->method, "CONNECT") || view_is(ex->method, "TRACE")) {
        h1_refuse(c, 405, "method: CONNECT and TRACE are not served", now_us);
        return;
    }
    const char *why = ex->method.p ? NULL : out_of_memory;
    if (view_is(target, "*") && view_is(ex->method, "OPTIONS"))
        target = VIEW("/*");
    if (!why && (target.n == 0 || target.p[0] != '/'))
        why = split_absolute(ex, &target);
    if (!why)
        why = path_canonical(&ex->arena, target, &ex->path, &ex->query);
    if (!why && ex->query.n > 0) {
        ex->query = arena_copy(&ex->arena, ex->query);
        why = ex->query.p ? NULL : out_of_memory;
    }
    if (why) {
        refuse_why(c, why, now_us);
        return;
    }
    c->h1.state = H1_FIELDS;
    c->h1.saw_host = c->h1.saw_length = c->h1.saw_coding = c->h1.expect_continue = false;
    c->h1.close_asked = c->h1.keep_asked = false;
    c->h1.trailer_bytes = 0;
    ex->body_left = 0;
}

// ---- fields ------------------------------------------------------------------------------------------

static struct view trimmed(struct view v)
{
    while (v.n > 0 && (v.p[0] == ' ' || v.p[0] == '\t')) {
        v.p++;
        v.n--;
    }
    while (v.n > 0 && (v.p[v.n - 1] == ' ' || v.p[v.n - 1] == '\t'))
        v.n--;
    return v;
}

// name ":" OWS value OWS; NULL or what is wrong.
static const char *split_field(struct view line, struct view *name, struct view *value)
{
    size_t n = 0;
    while (n < line.n && is_tchar((unsigned char)line.p[n]))
        n++;
    if (line.n > 0 && (line.p[0] == ' ' || line.p[0] == '\t'))
        return "field: folded lines are not accepted";
    if (n == 0 || n == line.n || line.p[n] != ':')
        return "field: expected name: value";
    *name = view_of(line.p, n);
    *value = trimmed(view_of(line.p + n + 1, line.n - n - 1));
    if (!has_control(*value))
        return NULL;
    for (size_t i = 0; i < value->n; i++) {
        if (is_control((unsigned char)value->p[i]) && value->p[i] != '\t')
            return "field: a control byte in its value";
    }
    return NULL;
}

static bool is_name(struct view name, const char *lower)
{
    return name.n == strlen(lower) && strncasecmp(name.p, lower, name.n) == 0;
}

static bool has_token(struct view v, const char *token)
{
    size_t n = strlen(token);
    for (size_t at = 0; at < v.n;) {
        size_t end = at;
        while (end < v.n && v.p[end] != ',')
            end++;
        struct view t = trimmed(view_of(v.p + at, end - at));
        if (t.n == n && strncasecmp(t.p, token, n) == 0)
            return true;
        at = end + 1;
    }
    return false;
}

static const char *on_host(struct http_conn *c, struct exchange *ex, struct view value)
{
    if (c->h1.saw_host)
        return "host: it came twice";
    c->h1.saw_host = true;
    if (value.n > 0 && !authority_ok(value))
        return "host: expected a host name and an optional port";
    if (ex->authority.n > 0 || value.n == 0)
        return NULL;
    ex->authority = arena_copy(&ex->arena, value);
    return ex->authority.p ? NULL : out_of_memory;
}

static const char *on_length(struct http_conn *c, struct exchange *ex, struct view value)
{
    if (c->h1.saw_length)
        return "content-length: it came twice";
    c->h1.saw_length = true;
    return content_length_of(value, &ex->body_left) ? NULL
                                                    : "content-length: expected one decimal number";
}

static const char *on_coding(struct http_conn *c, struct exchange *ex, struct view value)
{
    if (c->h1.saw_coding || ex->carrier == HTTP_1_0)
        return "transfer-encoding: twice, or in HTTP/1.0";
    c->h1.saw_coding = true;
    return is_name(value, "chunked") ? NULL : "transfer-encoding: expected chunked";
}

// What this field does to the framing; NULL or what is wrong (*status is set then).
static const char *frame_by(struct http_conn *c, struct exchange *ex, struct view name,
                            struct view value, unsigned *status)
{
    *status = 400;
    if (is_name(name, "host"))
        return on_host(c, ex, value);
    if (is_name(name, "content-length"))
        return on_length(c, ex, value);
    if (is_name(name, "transfer-encoding"))
        return on_coding(c, ex, value);
    if (is_name(name, "connection")) {
        c->h1.close_asked |= has_token(value, "close");
        c->h1.keep_asked |= has_token(value, "keep-alive");
    } else if (is_name(name, "expect")) {
        *status = 417;
        if (!is_name(value, "100-continue"))
            return "expect: only 100-continue is known";
        c->h1.expect_continue = true;
    }
    return NULL;
}

static void end_of_head(struct http_conn *c, uint64_t now_us);

static void on_field(struct http_conn *c, struct view line, uint64_t now_us)
{
    struct exchange *ex = c->h1.ex;
    struct view name, value;
    unsigned status = 400;
    if (line.n == 0) {
        end_of_head(c, now_us);
        return;
    }
    const char *why = split_field(line, &name, &value);
    if (!why)
        why = frame_by(c, ex, name, value, &status);
    if (why) {
        h1_refuse(c, why == out_of_memory ? 503 : status, why, now_us);
        return;
    }
    switch (exchange_add_field(ex, name, value)) {
    case FIELD_OK:
        break;
    case FIELD_TOO_MANY:
        h1_refuse(c, 431, "fields: too many or too large", now_us);
        break;
    case FIELD_NO_MEMORY:
        refuse_why(c, out_of_memory, now_us);
        break;
    }
}

// ---- between head and body ---------------------------------------------------------------------------

// The request at hand is answered and whole: let it go; the next one may come.
static void let_go(struct http_conn *c)
{
    struct exchange *ex = c->h1.ex;
    if (c->h1.state != H1_WAIT || !ex || !ex->responded || is_flowing(ex))
        return;
    bool keep = ex->keep_alive;
    c->h1.ex = NULL;
    exchange_detach(ex);
    c->h1.state = H1_REQUEST_LINE;
    if (!keep)
        stop(c);
}

static void request_is_whole(struct http_conn *c, uint64_t now_us)
{
    struct exchange *ex = c->h1.ex;
    c->h1.state = H1_WAIT;
    c->head_since_us = 0;
    exchange_tell_request(ex, now_us);
    let_go(c);
}

static bool body_is_welcome(struct http_conn *c, struct exchange *ex, uint64_t now_us)
{
    if (!ex->responded && ex->body_left > 0 && (uint64_t)ex->body_left > ex->max_body) {
        h1_refuse(c, 413, "body: larger than limits.max_body", now_us);
        return false;
    }
    return true;
}

static void end_of_head(struct http_conn *c, uint64_t now_us)
{
    struct exchange *ex = c->h1.ex;
    const char *why = c->misled;
    if (c->h1.saw_length && c->h1.saw_coding)
        why = "content-length and transfer-encoding exclude each other";
    else if (!c->h1.saw_host && ex->carrier == HTTP_1_1)
        why = "host: missing";
    if (!why)
        why = exchange_drop_hops(ex);
    if (why) {
        refuse_why(c, why, now_us);
        return;
    }
    if (c->h1.saw_coding)
        ex->body_left = -1;
    ex->keep_alive =
        !c->draining && !c->h1.close_asked && (ex->carrier == HTTP_1_1 || c->h1.keep_asked);
    c->head_since_us = 0;
    ex->progress_us = ex->rate_from_us = now_us;
    c->h1.overhead = 0;
    c->h1.state = ex->body_left < 0 ? H1_CHUNK_SIZE : H1_BODY;
    c->h1.parsing = true;
    exchange_tell_head(ex);
    c->h1.parsing = false;
    if (c->h1.ex != ex || !body_is_welcome(c, ex, now_us))
        return;
    if (ex->body_left == 0) {
        request_is_whole(c, now_us);
    } else if (ex->responded && !ex->keep_alive) {
        stop(c);
    } else if (c->h1.expect_continue && !ex->responded && ex->carrier == HTTP_1_1) {
        out_copy(&c->out, "HTTP/1.1 100 Continue\r\n\r\n", 25);
        c->h1.expect_continue = false;
    }
}

// ---- body --------------------------------------------------------------------------------------------

static bool take_body(struct http_conn *c, const uint8_t *p, size_t n, uint64_t now_us)
{
    unsigned status;
    c->h1.ex->progress_us = now_us;
    c->h1.ex->rate_bytes += n;
    if (exchange_body(c->h1.ex, p, n, &status))
        return true;
    h1_refuse(c, status,
              status == 413 ? "body: larger than limits.max_body" : "no room for the body now",
              now_us);
    return false;
}

static void on_chunk_size(struct http_conn *c, struct view line, uint64_t now_us)
{
    uint64_t size = 0;
    size_t i = 0;
    bool quoted = false, escaped = false, bad = false;
    for (; i < line.n; i++) {
        unsigned char ch = (unsigned char)line.p[i];
        unsigned d = ch >= '0' && ch <= '9'   ? ch - 48u
                     : ch >= 'a' && ch <= 'f' ? ch - 'a' + 10u
                     : ch >= 'A' && ch <= 'F' ? ch - 'A' + 10u
                                              : 16u;
        if (d == 16)
            break;
        if (i == 15) // sixteen digits could wrap; nobody means them
            bad = true;
        size = size * 16 + d;
    }
    if (i == 0 || i > 15)
        bad = true;
    if (i < line.n && line.p[i] != ';')
        bad = true;
    for (; i < line.n; i++) { // extensions are ignored, but must be well formed
        unsigned char ch = (unsigned char)line.p[i];
        if ((ch < 0x20 && ch != '\t') || ch == 0x7f)
            bad = true;
        if (ch == '"' && !escaped)
            quoted = !quoted;
        escaped = quoted && ch == '\\' && !escaped;
    }
    c->h1.overhead += line.n + 4;
    uint64_t body = buffer_len(&c->h1.ex->body);
    if (bad || quoted)
        h1_refuse(c, 400, "chunk: expected a size in hexadecimal", now_us);
    else if (c->h1.overhead > (64 << 10) + OVERHEAD_FACTOR * body)
        h1_refuse(c, 400, "chunk: more framing than body", now_us);
    else if (size == 0)
        c->h1.state = H1_TRAILERS;
    else {
        c->h1.chunk_left = size;
        c->h1.state = H1_CHUNK_DATA;
        if (!c->h1.ex->discard && size > c->h1.ex->max_body - body)
            h1_refuse(c, 413, "body: larger than limits.max_body", now_us);
    }
}

// Trailers are checked like fields, counted, and dropped.
static void on_trailer(struct http_conn *c, struct view line, uint64_t now_us)
{
    struct view name, value;
    if (line.n == 0) {
        request_is_whole(c, now_us);
        return;
    }
    const char *why = split_field(line, &name, &value);
    c->h1.trailer_bytes += (uint32_t)line.n + 32;
    if (why)
        h1_refuse(c, 400, why, now_us);
    else if (c->h1.trailer_bytes > c->limits->max_header_bytes)
        h1_refuse(c, 431, "trailers: too many or too large", now_us);
}

// ---- bytes in ---------------------------------------------------------------------------------------

static size_t line_limit(const struct http_conn *c)
{
    switch (c->h1.state) {
    case H1_REQUEST_LINE:
        return c->limits->max_target + 64;
    case H1_CHUNK_SIZE:
        return CHUNK_LINE_MAX;
    case H1_CHUNK_END:
        return 2;
    default:
        return c->limits->max_header_bytes;
    }
}

static void too_long(struct http_conn *c, uint64_t now_us)
{
    switch (c->h1.state) {
    case H1_REQUEST_LINE:
        h1_refuse(c, 414, "target: too long", now_us);
        break;
    case H1_FIELDS:
    case H1_TRAILERS:
        h1_refuse(c, 431, "fields: too many or too large", now_us);
        break;
    default:
        h1_refuse(c, 400, "chunk: a line that is too long", now_us);
        break;
    }
}

static void on_line(struct http_conn *c, struct view line, uint64_t now_us)
{
    switch (c->h1.state) {
    case H1_REQUEST_LINE:
        if (line.n > 0) // one empty line before a request is forgiven (RFC 9112 2.2)
            on_request_line(c, line, now_us);
        break;
    case H1_FIELDS:
        on_field(c, line, now_us);
        break;
    case H1_CHUNK_SIZE:
        on_chunk_size(c, line, now_us);
        break;
    case H1_CHUNK_END:
        if (line.n > 0)
            h1_refuse(c, 400, "chunk: its data is longer than its size", now_us);
        else
            c->h1.state = H1_CHUNK_SIZE;
        break;
    case H1_TRAILERS:
        on_trailer(c, line, now_us);
        break;
    default:
        invariant(!"a state of lines");
    }
}

// What stands there before its line is whole must be able to become a request line: junk, and the first
// bytes of a TLS hello, are answered at once.
static bool may_become_request(struct view v)
{
    for (size_t i = 0; i < v.n && v.p[i] != ' '; i++) {
        if (i == 32 || !is_tchar((unsigned char)v.p[i]))
            return i == 0 && v.p[0] == '\r' && (v.n == 1 || v.p[1] == '\n');
    }
    return true;
}

// Nothing that could be a method stands at the beginning of a line that is too long.
static bool is_junk(struct http_conn *c, const uint8_t *p, size_t n)
{
    struct buffer *kept = &c->h1.line;
    return c->h1.state == H1_REQUEST_LINE && buffer_append(kept, p, n < 40 ? n : 40) &&
           !may_become_request(buffer_view(kept));
}

// Takes one line, or what there is of it. Returns how many bytes were used.
static size_t take_line(struct http_conn *c, const uint8_t *p, size_t n, uint64_t now_us)
{
    struct buffer *kept = &c->h1.line;
    const uint8_t *end = memchr(p, '\n', n);
    size_t used = end ? (size_t)(end - p) + 1 : n;
    if (buffer_len(kept) + used > line_limit(c)) {
        if (is_junk(c, p, used))
            h1_refuse(c, 400, "request line: expected METHOD target HTTP/1.1", now_us);
        else
            too_long(c, now_us);
        return used;
    }
    struct view line = view_of(p, used);
    if (!end || buffer_len(kept) > 0) {
        if (!buffer_append(kept, p, used)) {
            refuse_why(c, out_of_memory, now_us);
            return used;
        }
        line = buffer_view(kept);
    }
    if (c->h1.state == H1_REQUEST_LINE && !may_become_request(line)) {
        h1_refuse(c, 400, "request line: expected METHOD target HTTP/1.1", now_us);
        return used;
    }
    if (!end)
        return used;
    if (line.n < 2 || line.p[line.n - 2] != '\r' || memchr(line.p, '\r', line.n - 2)) {
        h1_refuse(c, 400, "line: expected CR LF at its end and nowhere else", now_us);
        return used;
    }
    on_line(c, view_of(line.p, line.n - 2), now_us);
    buffer_reset(kept);
    return used;
}

static size_t take_sized(struct http_conn *c, const uint8_t *p, size_t n, uint64_t now_us)
{
    struct exchange *ex = c->h1.ex;
    bool chunk = c->h1.state == H1_CHUNK_DATA;
    uint64_t left = chunk ? c->h1.chunk_left : (uint64_t)ex->body_left;
    if (n > left)
        n = (size_t)left;
    if (!take_body(c, p, n, now_us))
        return n;
    left -= n;
    if (chunk) {
        c->h1.chunk_left = left;
        if (left == 0)
            c->h1.state = H1_CHUNK_END;
    } else {
        ex->body_left = (int64_t)left;
        if (left == 0)
            request_is_whole(c, now_us);
    }
    return n;
}

// Answers that nobody takes are not added to.
static bool must_hold(const struct http_conn *c)
{
    return c->h1.state == H1_REQUEST_LINE && buffer_len(&c->h1.line) == 0 &&
           (c->out.bytes >= OUTPUT_HIGH || out_is_full(&c->out));
}

// Takes what can be taken now: up to the end of a request that waits for its answer. Returns how many bytes.
static size_t take(struct http_conn *c, const uint8_t *p, size_t n, uint64_t now_us)
{
    size_t at = 0;
    while (at < n && c->h1.state != H1_STOP && c->h1.state != H1_WAIT && !must_hold(c)) {
        if (c->h1.state == H1_REQUEST_LINE && buffer_len(&c->h1.line) == 0) {
            c->h1.started_us = now_us;
            if (c->head_since_us == 0)
                c->head_since_us = now_us;
        }
        if (c->h1.state == H1_BODY || c->h1.state == H1_CHUNK_DATA)
            at += take_sized(c, p + at, n - at, now_us);
        else
            at += take_line(c, p + at, n - at, now_us);
    }
    return at;
}

void h1_recv(struct http_conn *c, const uint8_t *p, size_t n, uint64_t now_us)
{
    size_t used = 0;
    c->now_us = now_us;
    if (buffer_len(&c->h1.pending) == 0)
        used = take(c, p, n, now_us);
    if (used == n || c->h1.state == H1_STOP || buffer_append(&c->h1.pending, p + used, n - used))
        return;
    struct exchange *ex = c->h1.ex;
    if (ex && ex->whole_request && (!ex->responded || is_flowing(ex)))
        ex->keep_alive = false; // it is answered, and what follows it is not
    else
        refuse_why(c, out_of_memory, now_us);
}

// Behind the last byte of a peer that has closed its half: the request that waits is the last one, and one that is not
// whole never will be.
static void end_input(struct http_conn *c)
{
    struct exchange *ex = c->h1.ex;
    if (c->done || buffer_len(&c->h1.pending) > 0)
        return;
    if (c->h1.state == H1_WAIT) {
        ex->keep_alive &= ex->responded; // then it was told already that it may go on
        return;
    }
    if (ex && !ex->responded)
        exchange_lose(ex);
    stop(c);
}

void h1_end_input(struct http_conn *c)
{
    c->h1.ended = true;
    end_input(c);
}

static void pull(struct http_conn *c, struct exchange *ex);

static void take_pending(struct http_conn *c, uint64_t now_us)
{
    struct buffer *pending = &c->h1.pending;
    if (c->done || buffer_len(pending) == 0)
        return;
    size_t used = take(c, pending->data + pending->at, buffer_len(pending), now_us);
    if (c->h1.state != H1_STOP) // which has emptied it
        buffer_consume(pending, used);
    if (buffer_len(pending) == 0) {
        buffer_deinit(pending);
        buffer_init(pending);
    }
}

// The request at hand may have been answered: let it go, and take the next ones.
void h1_resume(struct http_conn *c, uint64_t now_us)
{
    c->now_us = now_us;
    if (c->h1.ex && is_flowing(c->h1.ex))
        pull(c, c->h1.ex);
    let_go(c);
    take_pending(c, now_us);
    if (c->h1.ended)
        end_input(c);
}

// ---- answers -----------------------------------------------------------------------------------------

static void on_left(void *arg)
{
    struct exchange *ex = arg;
    exchange_tell_sent(ex, true);
    exchange_unref(ex);
}

static void on_run_left(void *arg)
{
    exchange_unref(arg);
}

// What came from outside cannot begin a new line.
static char *put_value(char *at, struct view v)
{
    if (!has_control(v))
        return pen_view(at, v);
    for (size_t i = 0; i < v.n; i++)
        *at++ = is_control((unsigned char)v.p[i]) ? ' ' : v.p[i];
    return at;
}

#define FLOWS SIZE_MAX // for a length that nobody knows yet

static char *put_head(char *at, const struct http_response *r, const struct exchange *ex,
                      size_t length)
{
    at = PEN_LIT(at, "HTTP/1.1 ");
    at = pen_u64(at, r->status);
    *at++ = ' ';
    at = pen_view(at, view_str(http_reason(r->status)));
    at = PEN_LIT(at, "\r\n");
    if (http_date_n > 0) {
        at = PEN_LIT(at, "date: ");
        at = pen_view(at, view_of(http_date, http_date_n));
        at = PEN_LIT(at, "\r\n");
    }
    for (unsigned i = 0; i < r->n_headers; i++) {
        at = pen_view(at, r->headers[i].name);
        at = PEN_LIT(at, ": ");
        at = put_value(at, r->headers[i].value);
        at = PEN_LIT(at, "\r\n");
    }
    if (length == FLOWS && ex->carrier == HTTP_1_1)
        at = PEN_LIT(at, "transfer-encoding: chunked\r\n");
    else if (length != FLOWS)
        at = PEN_LIT(pen_u64(PEN_LIT(at, "content-length: "), length), "\r\n");
    if (!ex->keep_alive)
        at = PEN_LIT(at, "connection: close\r\n");
    else if (ex->carrier == HTTP_1_0)
        at = PEN_LIT(at, "connection: keep-alive\r\n");
    return PEN_LIT(at, "\r\n");
}

static bool send_head(struct http_conn *c, struct exchange *ex, const struct http_response *r)
{
    size_t room = 256 + sizeof(http_date), length = ex->flow ? FLOWS : 0;
    for (unsigned i = 0; i < r->n_headers; i++)
        room += r->headers[i].name.n + r->headers[i].value.n + 4;
    for (unsigned i = 0; i < r->n_body; i++)
        length += r->body[i].n;
    char small[2048], *head = room <= sizeof(small) ? small : arena_alloc(&ex->arena, room);
    return head && out_copy(&c->out, head, (size_t)(put_head(head, r, ex, length) - head));
}

// Blocks are taken over, also when it fails (or the head has failed: !ok).
static bool send_body(struct http_conn *c, struct exchange *ex, const struct http_response *r,
                      bool ok)
{
    for (unsigned i = 0; i < r->n_body; i++) {
        const struct http_seg *s = &r->body[i];
        if (!ok || ex->is_head || out_may_copy(&c->out, s->n)) {
            ok = ok && (ex->is_head || out_copy(&c->out, s->p, s->n));
            if (s->block)
                block_unref(s->block);
            continue;
        }
        exchange_ref(ex); // its arena holds what has no block
        ok = out_refer(&c->out, s->p, s->n, s->block, on_run_left, ex);
        if (!ok) {
            exchange_unref(ex);
            if (s->block)
                block_unref(s->block);
        }
    }
    return ok;
}

// An answer before the body's end: what is left of it is read away when it is little, and surely comes. Who
// expected a 100 and sees this answer may keep its body for itself (RFC 9110 10.1.1).
static bool rest_is_read(const struct http_conn *c, const struct exchange *ex)
{
    if (ex->whole_request || ex->body_left == 0)
        return true;
    return !c->h1.expect_continue && ex->body_left > 0 && ex->body_left <= DISCARD_MAX;
}

// Nothing of the answer follows. Half an answer (!ok) is no answer.
static void end_answer(struct http_conn *c, struct exchange *ex, bool ok)
{
    exchange_ref(ex);
    if (ok && out_mark(&c->out, on_left, ex))
        return;
    exchange_tell_sent(ex, false);
    exchange_unref(ex);
    ex->keep_alive = false;
}

void h1_respond(struct exchange *ex, const struct http_response *r, uint64_t now_us)
{
    struct http_conn *c = ex->conn;
    c->now_us = now_us;
    if (r->close || c->draining || !rest_is_read(c, ex))
        ex->keep_alive = false;
    ex->discard = true;
    bool ok = send_body(c, ex, r, send_head(c, ex, r));
    if (c->sent_us == 0)
        c->sent_us = now_us;
    end_answer(c, ex, ok);
    if (!ex->whole_request && !ex->keep_alive && !c->h1.parsing)
        stop(c);
    // The exchange stays with its connection until gather lets it go: whoever answered from outside
    // must still find the connection, to have it flushed.
}

// ---- answers that flow: RFC 9112 7.1 -------------------------------------------------------------------

// Nothing more of it is asked for.
static void end_flow(struct http_conn *c, struct exchange *ex, bool ok)
{
    ex->flow->state = FLOW_ENDED;
    if (ok && ex->carrier == HTTP_1_1 && !ex->is_head)
        ok = out_copy(&c->out, "0\r\n\r\n", 5);
    end_answer(c, ex, ok);
}

void h1_start(struct exchange *ex, const struct http_response *r, uint64_t now_us)
{
    struct http_conn *c = ex->conn;
    c->now_us = now_us;
    if (r->close || c->draining || (ex->carrier == HTTP_1_0 && !ex->is_head))
        ex->keep_alive = false; // that is the end of what has neither length nor chunks
    ex->discard = true;
    if (!ex->flow)
        end_answer(c, ex, false);
    else if (!send_head(c, ex, r) || ex->is_head)
        end_flow(c, ex, ex->is_head);
}

// What the source gave, as one chunk. Blocks are taken over, also when it fails.
static bool send_chunk(struct http_conn *c, struct exchange *ex)
{
    struct http_response pieces = {.body = ex->out, .n_body = ex->n_out};
    size_t n = 0;
    char line[32];
    for (unsigned i = 0; i < ex->n_out; i++)
        n += ex->out[i].n;
    ex->n_out = 0;
    if (n == 0)
        return true;
    bool chunked = ex->carrier == HTTP_1_1;
    int length = snprintf(line, sizeof(line), "%zx\r\n", n);
    bool ok = !chunked || out_copy(&c->out, line, (size_t)length);
    return send_body(c, ex, &pieces, ok) && (!chunked || out_copy(&c->out, "\r\n", 2));
}

// Asks the source for as much as the output takes.
static void pull(struct http_conn *c, struct exchange *ex)
{
    while (ex->flow->state == FLOW_READY && c->out.bytes < OUTPUT_HIGH && !out_is_full(&c->out)) {
        if (!flow_ask(ex))
            return;
        bool ok = send_chunk(c, ex);
        if (!ok || ex->flow->state == FLOW_ENDED)
            end_flow(c, ex, ok && !ex->flow->cut);
    }
}
