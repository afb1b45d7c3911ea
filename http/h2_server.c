// HTTP/2 as a server, on nghttp2's memory interface. Requests become exchanges; answers are pulled frame by
// frame into the connection's output. nghttp2 checks the protocol (RFC 9113); what it leaves to us, the
// bounds and the abuse, is here.
#include "base/check.h"
#include "base/mem.h"
#include "base/pen.h"
#include "http/conn.h"
#include "http/nghttp2_compat.h"
#include "http/nghttp2_mem.h"

#define STREAM_WINDOW (1 << 20)
#define CONNECTION_WINDOW (16 << 20)
#define OUTPUT_HIGH (256u << 10) // stop making frames while so much waits
#define TICK_US 500000
#define LAST_CALL_US 1000000 // how long we wait for a peer to see that we drain

// A client is waited for: its streams are looked at.
static void tick_soon(struct http_conn *c)
{
    if (c->tick_us > c->now_us + TICK_US || c->tick_us < c->now_us)
        c->tick_us = c->now_us + TICK_US;
}

static struct exchange *stream_of(nghttp2_session *s, int32_t id)
{
    return id > 0 ? nghttp2_session_get_stream_user_data(s, id) : NULL;
}

// Streams up to `last` finish. The client knows of those behind it that they were not processed, and repeats them
// elsewhere. The text is for who looks at the frame.
static void goaway_submit(struct http_conn *c, int32_t last, const char *text)
{
    c->h2_last_call_us = 0;
    if (nghttp2_submit_goaway(c->h2, NGHTTP2_FLAG_NONE, last, NGHTTP2_NO_ERROR,
                              (const uint8_t *)text, strlen(text)) != 0)
        h2_terminate(c, NGHTTP2_INTERNAL_ERROR);
}

static void conn_punish(struct http_conn *c, enum abuse_kind kind, enum abuse_verdict verdict)
{
    if (verdict == ABUSE_BORNE || c->h2_cut)
        return;
    if (verdict == ABUSE_NO_NEW) {
        c->h2_last_stream = nghttp2_session_get_last_proc_stream_id(c->h2);
        goaway_submit(c, c->h2_last_stream, abuse_name[kind]);
    } else {
        h2_terminate(c, NGHTTP2_ENHANCE_YOUR_CALM);
    }
    if (c->ops->on_abuse)
        c->ops->on_abuse(c, kind, verdict, c->ctx);
}

static void pay(struct http_conn *c, enum abuse_kind kind)
{
    conn_punish(c, kind, abuse_pay(&c->abuse, kind, c->now_us));
}

static void last_call(struct http_conn *c);

static bool stream_is_late(const struct http_conn *c, int32_t id)
{
    return c->h2_last_stream > 0 && id > c->h2_last_stream;
}

static void reset(struct http_conn *c, int32_t id, uint32_t code)
{
    nghttp2_submit_rst_stream(c->h2, NGHTTP2_FLAG_NONE, id, code);
}

// ---- requests ----------------------------------------------------------------------------------------

// The hard bound of a header block, on the wire and decoded. Up to it, what is over max_header_bytes is dropped
// and the stream answered 431.
static size_t block_bound(const struct http_conn *c)
{
    return 4 * (size_t)c->limits->max_header_bytes;
}

// A header block as it comes. Past its hard bound it ends the connection, since HPACK must see all of a block
// or nothing more (CVE-2024-27316 and its kin; row 49).
static int on_begin_frame(nghttp2_session *s, const nghttp2_frame_hd *hd, void *user)
{
    struct http_conn *c = user;
    (void)s;
    if (hd->type == NGHTTP2_CONTINUATION) {
        c->block_bytes += hd->length;
    } else if (hd->type == NGHTTP2_HEADERS) {
        c->block_bytes = hd->length;
        if (stream_is_late(c, hd->stream_id))
            pay(c, ABUSE_LATE_STREAM);
    } else {
        return 0;
    }
    if (c->block_bytes > block_bound(c) + 512) // padding and priority are not counted
        conn_punish(c, ABUSE_BLOCK, abuse_end(&c->abuse));
    return c->h2_cut ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static int on_begin_headers(nghttp2_session *s, const nghttp2_frame *f, void *user)
{
    struct http_conn *c = user;
    c->head_since_us = c->now_us;
    c->block_stream = f->hd.stream_id;
    c->block_of = NULL;
    c->block_cost = 0;
    c->block_over = false;
    if (f->hd.type != NGHTTP2_HEADERS || f->headers.cat != NGHTTP2_HCAT_REQUEST) {
        c->block_of = stream_of(s, f->hd.stream_id);
        return 0;
    }
    if (stream_is_late(c, f->hd.stream_id))
        return 0; // until the GOAWAY has been made nghttp2 opens it; then it closes it
    if (c->done)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    struct exchange *ex = exchange_new(c, HTTP_2, c->now_us);
    if (!ex)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    ex->stream_id = f->hd.stream_id;
    ex->body_left = -1;
    c->block_of = ex;
    nghttp2_session_set_stream_user_data(s, f->hd.stream_id, ex);
    tick_soon(c);
    return 0;
}

static enum field_result add_pseudo(struct exchange *ex, struct view name, struct view value)
{
    size_t cost = name.n + value.n + 32;
    if (cost > ex->conn->limits->max_header_bytes - ex->header_bytes)
        return FIELD_TOO_MANY;
    ex->header_bytes += (uint32_t)cost;
    struct view *to = view_is(name, ":method")      ? &ex->method
                      : view_is(name, ":path")      ? &ex->path
                      : view_is(name, ":authority") ? &ex->authority
                                                    : NULL;
    if (!to) // :scheme is what the connection is
        return FIELD_OK;
    *to = arena_copy(&ex->arena, value);
    return value.n == 0 || to->p ? FIELD_OK : FIELD_NO_MEMORY;
}

// A field that is counted and no more: of trailers, or of a head that is too large. False: past the hard bound, for
// one byte of HPACK can stand for thousands (rows 57, 59).
static bool field_drop(struct http_conn *c, const struct exchange *ex, bool head, size_t cost)
{
    if (head && !c->block_over)
        c->block_cost = ex->header_bytes;
    c->block_cost += cost;
    c->block_over |= head || c->block_cost > c->limits->max_header_bytes;
    return c->block_cost <= block_bound(c);
}

static int on_header(nghttp2_session *s, const nghttp2_frame *f, const uint8_t *name, size_t name_n,
                     const uint8_t *value, size_t value_n, uint8_t flags, void *user)
{
    struct http_conn *c = user;
    struct exchange *ex = f->hd.stream_id == c->block_stream ? c->block_of : NULL;
    (void)s;
    (void)flags;
    if (!ex || f->hd.type != NGHTTP2_HEADERS)
        return 0;
    struct view n = view_of(name, name_n), v = view_of(value, value_n);
    bool head = f->headers.cat == NGHTTP2_HCAT_REQUEST, pseudo = n.n > 0 && n.p[0] == ':';
    enum field_result r = FIELD_TOO_MANY;
    if (head && (pseudo || !c->block_over)) // a refusal must know the method
        r = pseudo ? add_pseudo(ex, n, v) : exchange_add_field(ex, n, v);
    if (r == FIELD_OK || (r == FIELD_TOO_MANY && field_drop(c, ex, head, n.n + v.n + 32)))
        return 0;
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; // the stream is reset, its block still decoded to its end
}

static int on_invalid_header(nghttp2_session *s, const nghttp2_frame *f, const uint8_t *name,
                             size_t name_n, const uint8_t *value, size_t value_n, uint8_t flags,
                             void *user)
{
    (void)s;
    (void)f;
    (void)name;
    (void)name_n;
    (void)value;
    (void)value_n;
    (void)flags;
    (void)user;
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; // not ignored: the stream is reset
}

// What nghttp2 does not look at. NULL, or what is wrong.
static const char *check_head(struct exchange *ex, unsigned *status)
{
    struct view target = ex->path;
    *status = 400;
    if (view_is(ex->method, "CONNECT") || view_is(ex->method, "TRACE")) {
        *status = 405;
        return "method: CONNECT and TRACE are not served";
    }
    if (target.n > ex->conn->limits->max_target) {
        *status = 414;
        return "target: too long";
    }
    if (ex->authority.n == 0) {
        struct view host = exchange_header(ex, "host");
        ex->authority = host;
    }
    if (ex->authority.n > 0 && !authorities_ok(ex->authority))
        return "authority: expected a host name and an optional port";
    if (view_is(target, "*") && view_is(ex->method, "OPTIONS"))
        target = VIEW("/*");
    return path_canonical(&ex->arena, target, &ex->path, &ex->query);
}

static void on_head(struct http_conn *c, struct exchange *ex, bool last)
{
    unsigned status;
    ex->is_head = view_is(ex->method, "HEAD");
    ex->whole_request = last; // also of one that is refused now: nothing of it is left to be reset
    if (c->block_over) {
        exchange_refuse(ex, 431, "fields: too many or too large", c->now_us);
        return;
    }
    const char *why = check_head(ex, &status);
    struct view length = exchange_header(ex, "content-length");
    if (!why && length.p && !content_length_of(length, &ex->body_left))
        why = "content-length: expected one decimal number";
    if (!why)
        why = exchange_drop_hops(ex);
    if (!why)
        why = c->misled;
    if (why) {
        exchange_refuse(ex, why == out_of_memory ? 503 : status, why, c->now_us);
        return;
    }
    ex->rate_from_us = c->now_us;
    exchange_tell_head(ex);
    if (!ex->responded && ex->body_left > 0 && (uint64_t)ex->body_left > ex->max_body) {
        exchange_refuse(ex, 413, "body: larger than limits.max_body", c->now_us);
        return;
    }
    if (last)
        exchange_tell_request(ex, c->now_us);
}

static void on_trailers(struct http_conn *c, struct exchange *ex, bool last)
{
    if (c->block_over && !ex->responded) {
        ex->whole_request = last;
        exchange_refuse(ex, 431, "trailers: too many or too large", c->now_us);
    } else if (last && !ex->whole_request) {
        exchange_tell_request(ex, c->now_us);
    }
}

static int on_frame_recv(nghttp2_session *s, const nghttp2_frame *f, void *user)
{
    struct http_conn *c = user;
    struct exchange *ex = stream_of(s, f->hd.stream_id);
    bool last = f->hd.flags & NGHTTP2_FLAG_END_STREAM;
    switch (f->hd.type) {
    case NGHTTP2_HEADERS:
        c->head_since_us = 0;
        if (ex && f->headers.cat == NGHTTP2_HCAT_REQUEST)
            on_head(c, ex, last);
        else if (ex)
            on_trailers(c, ex, last);
        break;
    case NGHTTP2_DATA:
        if (f->hd.length == f->data.padlen && !last) { // padding is no data
            if (++c->empty_data > 1)
                pay(c, ABUSE_EMPTY_DATA);
        } else {
            c->empty_data = 0;
        }
        if (ex && last && !ex->whole_request)
            exchange_tell_request(ex, c->now_us);
        break;
    case NGHTTP2_RST_STREAM:
        pay(c, ABUSE_RESET);
        break;
    case NGHTTP2_PRIORITY:
        pay(c, ABUSE_PRIORITY);
        break;
    case NGHTTP2_PING:
        if (f->hd.flags & NGHTTP2_FLAG_ACK)
            last_call(c);
        else
            pay(c, ABUSE_PING);
        break;
    case NGHTTP2_SETTINGS:
        if (!(f->hd.flags & NGHTTP2_FLAG_ACK)) {
            if (c->h2_greeted)
                pay(c, ABUSE_SETTINGS);
            c->h2_greeted = true;
            c->head_since_us = 0;
            if (c->n_live == 0)
                c->idle_since_us = c->now_us;
        }
        break;
    case NGHTTP2_WINDOW_UPDATE:
        pay(c, ABUSE_WINDOW_UPDATE);
        break;
    default:
        break;
    }
    return c->h2_cut ? NGHTTP2_ERR_CALLBACK_FAILURE : 0; // the rest of this piece is not looked at
}

static int on_data(nghttp2_session *s, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
                   void *user)
{
    struct http_conn *c = user;
    struct exchange *ex = stream_of(s, id);
    unsigned status;
    (void)flags;
    // What has come is kept or dropped at once, so its window is given back at once; what bounds memory is
    // max_body and the process's budget.
    nghttp2_session_consume(s, id, n);
    if (!ex)
        return 0;
    ex->progress_us = c->now_us;
    ex->rate_bytes += n;
    if (exchange_body(ex, p, n, &status))
        return 0;
    if (ex->responded) // its answer flows: no other can be given
        reset(c, id, NGHTTP2_ENHANCE_YOUR_CALM);
    else
        exchange_refuse(ex, status,
                        status == 413 ? "body: larger than limits.max_body"
                                      : "no room for the body now",
                        c->now_us);
    return 0;
}

static int on_stream_close(nghttp2_session *s, int32_t id, uint32_t code, void *user)
{
    struct http_conn *c = user;
    struct exchange *ex = stream_of(s, id);
    (void)code;
    if (id == c->block_stream)
        c->head_since_us = 0; // its block was rejected
    if (!ex)
        return 0;
    nghttp2_session_set_stream_user_data(s, id, NULL);
    exchange_ref(ex);
    exchange_tell_gone(ex); // nothing when its end has been told
    exchange_detach(ex);
    exchange_unref(ex);
    return 0;
}

static int on_frame_send(nghttp2_session *s, const nghttp2_frame *f, void *user)
{
    struct http_conn *c = user;
    bool ends = (f->hd.type == NGHTTP2_HEADERS || f->hd.type == NGHTTP2_DATA) &&
                f->hd.flags & NGHTTP2_FLAG_END_STREAM;
    struct exchange *ex = ends ? stream_of(s, f->hd.stream_id) : NULL;
    if (f->hd.type == NGHTTP2_RST_STREAM && f->rst_stream.error_code != NGHTTP2_NO_ERROR)
        pay(c, ABUSE_RESET_BY_US);
    if (ex) {
        exchange_tell_sent(ex, true);
        abuse_answered(&c->abuse);
        if (!ex->whole_request) // answered early: the rest of the body is of no use (RFC 9113 8.1)
            reset(c, f->hd.stream_id, NGHTTP2_NO_ERROR);
    }
    return 0;
}

static int on_frame_not_sent(nghttp2_session *s, const nghttp2_frame *f, int error, void *user)
{
    (void)s;
    (void)f;
    (void)error;
    (void)user;
    return 0;
}

// ---- answers -----------------------------------------------------------------------------------------

static size_t left_of(const struct exchange *ex)
{
    size_t n = 0;
    for (uint32_t i = ex->out_at; i < ex->n_out; i++)
        n += ex->out[i].n;
    return n - ex->out_off;
}

static void seg_done(struct exchange *ex)
{
    struct http_seg *seg = &ex->out[ex->out_at++];
    ex->out_off = 0;
    if (seg->block)
        block_unref(seg->block);
}

// Copies up to n bytes of the answer.
static void take_copy(struct exchange *ex, uint8_t *to, size_t n)
{
    while (n > 0) {
        struct http_seg *seg = &ex->out[ex->out_at];
        size_t part = seg->n - ex->out_off < n ? seg->n - ex->out_off : n;
        memcpy(to, seg->p + ex->out_off, part);
        to += part;
        n -= part;
        ex->out_off += part;
        if (ex->out_off == seg->n)
            seg_done(ex);
    }
}

static void ref_done(void *arg)
{
    exchange_unref(arg);
}

// References up to n bytes of the answer in the output; false: out of memory.
static bool take_refs(struct exchange *ex, struct out *out, size_t n)
{
    while (n > 0) {
        struct http_seg *seg = &ex->out[ex->out_at];
        size_t part = seg->n - ex->out_off < n ? seg->n - ex->out_off : n;
        exchange_ref(ex);
        struct block *b = seg->block ? block_ref(seg->block) : NULL;
        if (!out_refer(out, seg->p + ex->out_off, part, b, ref_done, ex)) {
            exchange_unref(ex);
            if (b)
                block_unref(b);
            return false;
        }
        n -= part;
        ex->out_off += part;
        if (ex->out_off == seg->n)
            seg_done(ex);
    }
    return true;
}

// A name in static memory, a value in the exchange's arena: nghttp2 copies and lowers nothing.
static nghttp2_nv nv_of(struct view name, struct view value)
{
    return (nghttp2_nv){(uint8_t *)name.p, (uint8_t *)value.p, name.n, value.n,
                        NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE};
}

// Fields whose value no other answer repeats: in the peer's table they would only drive others out.
static bool is_of_this_answer(struct view name)
{
    return view_is(name, "x-request-id") || view_is(name, "server-timing");
}

// But once in NAMES_US they go there, for their names: those between refer to them.
#define NAMES_US 1000000

static bool names_are_due(struct http_conn *c)
{
    if (c->now_us < c->h2_names_us)
        return false;
    c->h2_names_us = c->now_us + NAMES_US;
    return true;
}

// Something of an answer that flows is at hand, or its end. Else it was cut, or its source is silent.
static bool flow_has(struct exchange *ex)
{
    if (ex->out_at < ex->n_out)
        return true;
    return (ex->flow->state == FLOW_ENDED || flow_ask(ex)) &&
           (ex->out_at < ex->n_out || !ex->flow->cut);
}

static ssize_t read_body(nghttp2_session *s, int32_t id, uint8_t *buf, size_t room, uint32_t *flags,
                         nghttp2_data_source *source, void *user)
{
    struct exchange *ex = source->ptr;
    struct http_conn *c = user;
    ex->progress_us = c->now_us;
    if (ex->flow && !flow_has(ex))
        return ex->flow->cut ? NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE : NGHTTP2_ERR_DEFERRED;
    size_t left = left_of(ex), n = left < room ? left : room;
    if (n == left && (!ex->flow || (ex->flow->state == FLOW_ENDED && !ex->flow->cut))) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (ex->n_trailers > 0) {
            nghttp2_nv nv[TRAILERS_MOST];
            for (uint32_t i = 0; i < ex->n_trailers; i++)
                nv[i] = nv_of(ex->trailers[i].name, ex->trailers[i].value);
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            if (nghttp2_submit_trailer(s, id, nv, ex->n_trailers) != 0)
                return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
        }
    }
    if (n >= OUT_COPY_BELOW)
        *flags |= NGHTTP2_DATA_FLAG_NO_COPY; // send_data takes it from the segments
    else
        take_copy(ex, buf, n);
    return (ssize_t)n;
}

static int send_data(nghttp2_session *s, nghttp2_frame *f, const uint8_t *head, size_t n,
                     nghttp2_data_source *source, void *user)
{
    struct http_conn *c = user;
    (void)s;
    (void)f; // we pad no frame
    if (c->out.bytes >= OUTPUT_HIGH || out_is_full(&c->out))
        return NGHTTP2_ERR_WOULDBLOCK; // nghttp2 would make all the frames that the windows allow
    return out_copy(&c->out, head, 9) && take_refs(source->ptr, &c->out, n)
               ? 0
               : NGHTTP2_ERR_CALLBACK_FAILURE;
}

// Takes the blocks over, also when it fails.
static bool keep_answer(struct exchange *ex, const struct http_response *r)
{
    ex->out = arena_array(&ex->arena, r->n_body ? r->n_body : 1, sizeof(*ex->out));
    if (!ex->out) {
        drop_segs(r);
        return false;
    }
    for (unsigned i = 0; i < r->n_body; i++) {
        bool empty = r->body[i].n == 0 || ex->is_head;
        if (!empty)
            ex->out[ex->n_out++] = r->body[i];
        else if (r->body[i].block)
            block_unref(r->body[i].block);
    }
    return r->n_trailers == 0 || keep_trailers(ex, r->trailers, r->n_trailers);
}

// What the values take in the arena: the caller's memory is its own again when we return.
static char *make_room(struct exchange *ex, const struct http_response *r)
{
    size_t n = 2 * PEN_NUMBER + http_date_n; // :status, content-length
    for (unsigned i = 0; i < r->n_headers; i++)
        n += r->headers[i].value.n;
    return arena_alloc_aligned(&ex->arena, n, 1);
}

static struct view keep(char **at, struct view v)
{
    char *from = *at;
    *at = pen_view(from, v);
    return view_of(from, v.n);
}

static struct view keep_number(char **at, size_t v)
{
    char *from = *at;
    *at = pen_u64(from, v);
    return view_of(from, (size_t)(*at - from));
}

#define FLOWS SIZE_MAX // for a length that nobody knows yet

// False: out of memory.
static bool put_fields(const struct http_response *r, struct exchange *ex, size_t length,
                       nghttp2_nv *nv, unsigned *n)
{
    char *at = make_room(ex, r);
    if (!at)
        return false;
    uint8_t once = names_are_due(ex->conn) ? 0 : NGHTTP2_NV_FLAG_NO_INDEX;
    *n = 0;
    nv[(*n)++] = nv_of(VIEW(":status"), keep_number(&at, r->status));
    for (unsigned i = 0; i < r->n_headers; i++) {
        const struct http_header *h = &r->headers[i];
        nv[*n] = nv_of(h->name, keep(&at, h->value));
        if (is_of_this_answer(h->name))
            nv[*n].flags |= once;
        (*n)++;
    }
    bool trailers_only = r->n_trailers > 0 && ex->n_out == 0;
    if (trailers_only) {
        for (uint32_t i = 0; i < ex->n_trailers; i++)
            nv[(*n)++] = nv_of(ex->trailers[i].name, ex->trailers[i].value);
    } else if (r->n_trailers == 0 && length != FLOWS) {
        nv[(*n)++] = nv_of(VIEW("content-length"), keep_number(&at, length));
    }
    if (http_date_n > 0)
        nv[(*n)++] = nv_of(VIEW("date"), keep(&at, view_of(http_date, http_date_n)));
    return true;
}

// length: FLOWS, or of the body that is kept. Both kinds of answer come through here, so that put_fields stays inline.
static void send_head(struct exchange *ex, const struct http_response *r, size_t length,
                      uint64_t now_us)
{
    struct http_conn *c = ex->conn;
    nghttp2_nv nv[64];
    unsigned n;
    invariant(r->n_headers + r->n_trailers + 4 <= 64);
    if (!put_fields(r, ex, length, nv, &n)) {
        reset(c, ex->stream_id, NGHTTP2_INTERNAL_ERROR);
        return;
    }
    bool trailers_only = r->n_trailers > 0 && ex->n_out == 0;
    if (trailers_only)
        ex->n_trailers = 0;
    ex->progress_us = now_us;
    nghttp2_data_provider body = {.source = {.ptr = ex}, .read_callback = read_body};
    bool has_body = (ex->n_out > 0 || length == FLOWS) && !ex->is_head;
    if (nghttp2_submit_response(c->h2, ex->stream_id, nv, n, has_body ? &body : NULL) != 0)
        reset(c, ex->stream_id, NGHTTP2_INTERNAL_ERROR);
}

void h2_respond(struct exchange *ex, const struct http_response *r, uint64_t now_us)
{
    size_t length = 0;
    ex->conn->now_us = now_us;
    for (unsigned i = 0; i < r->n_body; i++)
        length += r->body[i].n;
    if (keep_answer(ex, r))
        send_head(ex, r, length, now_us);
    else
        reset(ex->conn, ex->stream_id, NGHTTP2_INTERNAL_ERROR);
}

void h2_start(struct exchange *ex, const struct http_response *r, uint64_t now_us)
{
    ex->conn->now_us = now_us;
    if (ex->flow && ex->is_head)
        ex->flow->state = FLOW_ENDED;
    if (ex->flow)
        send_head(ex, r, FLOWS, now_us);
    else
        reset(ex->conn, ex->stream_id, NGHTTP2_INTERNAL_ERROR);
}

void h2_wake(struct exchange *ex)
{
    nghttp2_session_resume_data(ex->conn->h2, ex->stream_id);
    tick_soon(ex->conn);
}

void h2_fill(struct http_conn *c, uint64_t now_us)
{
    c->now_us = now_us;
    while (c->h2 && !c->h2_broken && c->out.bytes < OUTPUT_HIGH && !out_is_full(&c->out)) {
        const uint8_t *p;
        ssize_t n = nghttp2_session_mem_send(c->h2, &p);
        if (n < 0 || (n > 0 && !out_copy(&c->out, p, (size_t)n))) {
            // Out of memory, or a callback said so. Half a frame, or a header block that changed our table and was
            // lost, may have gone: no frame can follow.
            c->done = c->h2_broken = true;
            return;
        }
        if (n == 0)
            break;
    }
    if (c->h2 && !nghttp2_session_want_read(c->h2) && !nghttp2_session_want_write(c->h2))
        c->done = true;
}

// ---- life --------------------------------------------------------------------------------------------

static nghttp2_session_callbacks *callbacks(void)
{
    nghttp2_session_callbacks *cb;
    if (nghttp2_session_callbacks_new(&cb) != 0)
        return NULL;
    nghttp2_session_callbacks_set_on_begin_frame_callback(cb, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback(cb, on_invalid_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_send);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(cb, on_frame_not_sent);
    nghttp2_session_callbacks_set_send_data_callback(cb, send_data);
    return cb;
}

static nghttp2_option *options(const struct http_limits *l)
{
    nghttp2_option *o;
    if (nghttp2_option_new(&o) != 0)
        return NULL;
    nghttp2_option_set_no_auto_window_update(o, 1);
    nghttp2_option_set_max_settings(o, 32);       // SETTINGS of thousands of rows
    nghttp2_option_set_max_outbound_ack(o, 1000); // CVE-2019-9512, -9515
    nghttp2_option_set_max_send_header_block_length(o, 64 << 10);
    nghttp2_option_set_max_deflate_dynamic_table_size(o, 4096);
    nghttp2_option_set_peer_max_concurrent_streams(o, l->max_streams);
    // Else it keeps up to 128 streams that are over on each connection, for the tree of priorities.
    nghttp2_option_set_no_closed_streams(o, 1);
    // It counts resets by time alone and ends the connection; abuse.c weighs them (CVE-2023-44487).
    compat_reset_rate_limit(o, 1 << 30, 1 << 30);
    compat_max_continuations(o, 8); // CVE-2024-28182
    return o;
}

bool h2_init(struct http_conn *c, uint64_t now_us)
{
    nghttp2_session_callbacks *cb = callbacks();
    nghttp2_option *o = options(c->limits);
    c->now_us = now_us;
    c->tick_us = UINT64_MAX;
    bool ok = cb && o && nghttp2_session_server_new3(&c->h2, cb, c, o, nghttp2_mem_ours()) == 0;
    if (cb)
        nghttp2_session_callbacks_del(cb);
    if (o)
        nghttp2_option_del(o);
    if (!ok)
        return false;
    c->kind = CONN_H2;
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, c->limits->max_streams},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, c->limits->max_header_bytes},
        {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, 1 << 20},
    };
    return nghttp2_submit_settings(c->h2, NGHTTP2_FLAG_NONE, settings,
                                   sizeof(settings) / sizeof(settings[0])) == 0 &&
           nghttp2_session_set_local_window_size(c->h2, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW) ==
               0;
}

void h2_recv(struct http_conn *c, const uint8_t *p, size_t n, uint64_t now_us)
{
    c->now_us = now_us;
    if (c->h2_cut) // nghttp2 would go on, and asserts what holds only for ends of its own
        return;
    ssize_t used = nghttp2_session_mem_recv(c->h2, p, n);
    if (used == NGHTTP2_ERR_NOMEM)
        h2_terminate(c, NGHTTP2_INTERNAL_ERROR);
    else if (used == NGHTTP2_ERR_FLOODED || used == COMPAT_ERR_TOO_MANY_CONTINUATIONS)
        conn_punish(c, ABUSE_FLOOD, abuse_end(&c->abuse));
    else if (used < 0) // a bad preface: what it wrote still goes out
        h2_terminate(c, NGHTTP2_PROTOCOL_ERROR);
}

void h2_terminate(struct http_conn *c, uint32_t code)
{
    c->h2_cut = true;
    if (nghttp2_session_terminate_session(c->h2, code) != 0)
        c->done = true; // no memory even for that
}

// Graceful end (RFC 9113 6.8): a notice that takes every stream still on its way, and, when the peer has
// seen it (it answers our PING), the GOAWAY that names the last one. What comes behind that was not
// processed, and clients know that they may repeat it.
void h2_drain(struct http_conn *c)
{
    nghttp2_submit_shutdown_notice(c->h2);
    nghttp2_submit_ping(c->h2, NGHTTP2_FLAG_NONE, NULL);
    c->h2_last_call_us = c->now_us + LAST_CALL_US;
}

static void last_call(struct http_conn *c)
{
    uint64_t due_us = c->h2_last_call_us;
    c->h2_last_call_us = 0;
    if (due_us > 0 && c->h2_last_stream == 0) // else they were refused before
        goaway_submit(c, nghttp2_session_get_last_proc_stream_id(c->h2), "drain");
}

void h2_tick(struct http_conn *c, uint64_t now_us)
{
    const struct http_limits *l = c->limits;
    uint64_t next_us = UINT64_MAX; // when nobody but sources is waited for
    c->now_us = now_us;
    if (c->h2_last_call_us > 0 && now_us >= c->h2_last_call_us)
        last_call(c);
    for (struct exchange *ex = c->live, *next; ex; ex = next) {
        next = ex->next;
        if (ex->told && !ex->whole_request && !ex->responded &&
            exchange_body_is_slow(ex, l, now_us))
            exchange_refuse(ex, 408, "body: it did not come in time", now_us);
        else if (now_us >= flow_deadline(ex))
            exchange_wake(ex, now_us);
        else if (ex->responded && !flow_is_silent(ex) && c->out.bytes == 0 &&
                 now_us >= ex->progress_us + l->stream_stall_us)
            reset(c, ex->stream_id, NGHTTP2_CANCEL); // its window stays shut (CVE-2019-9517)
        uint64_t at = flow_is_silent(ex) ? flow_deadline(ex) : now_us;
        next_us = at < next_us ? at : next_us;
    }
    c->tick_us = next_us < now_us + TICK_US ? now_us + TICK_US : next_us;
}

void h2_deinit(struct http_conn *c)
{
    nghttp2_session_del(c->h2); // closes streams without telling: exchanges were told before
    c->h2 = NULL;
}
