// HTTP/2 as a client of workers: unary gRPC calls, many at a time on one connection. A call's message is
// referenced, never copied, until no frame refers to it; its answer is de-framed into one block that grows
// as bytes arrive, so that a length announced costs nothing.
#include "base/check.h"
#include "base/mem.h"
#include "http/nghttp2_compat.h"
#include "http/nghttp2_mem.h"
#include "http/out.h"

#define OUTPUT_HIGH (4u << 20)
#define FIRST_BLOCK (64u << 10)
#define MAX_FIELDS 100 // of an answer, trailers included, as a client of ours may send them
#define MAX_FIELD_BYTES (32u << 10)
#define PUSHBACK_UNKNOWN_US 1000000 // "do not try again", or words that we cannot read: not soon

struct http_client {
    struct http_client_limits limits;
    const struct http_client_ops *ops;
    void *ctx;
    struct block_owner *blocks;
    struct arena arena;
    struct view authority;
    nghttp2_session *h2;
    struct out out;
    struct http_call *live; // open or ending
    struct http_call *over; // ended, to be told ("collect, then call")
    struct http_call **over_last;
    unsigned n_live;
    bool ready, told_ready, broken, draining;
};

// ---- calls -------------------------------------------------------------------------------------------

static void list_out(struct http_call *call)
{
    if (call->next)
        call->next->prev = call->prev;
    *call->prev = call->next;
    call->next = NULL;
    call->prev = NULL;
}

// It has ended for the protocol; it is told as soon as nothing in the output refers to its bytes.
static void maybe_over(struct http_call *call)
{
    struct http_client *c = call->client;
    if (!call->closed || call->queued > 0 || call->ended)
        return;
    call->ended = true;
    list_out(call);
    c->n_live--;
    call->next = NULL;
    *c->over_last = call;
    c->over_last = &call->next;
}

static void close_call(struct http_call *call, enum http_call_end end)
{
    if (call->closed)
        return;
    call->closed = true;
    call->end = end;
    maybe_over(call);
}

static void tell(struct http_client *c)
{
    while (c->over) {
        struct http_call *call = c->over;
        c->over = call->next;
        if (!c->over)
            c->over_last = &c->over;
        c->ops->on_end(call, call->end, c->ctx);
        if (call->body)
            block_unref(call->body);
        arena_deinit(&call->arena);
        mem_free(call);
    }
    if (c->ready && !c->told_ready) {
        c->told_ready = true;
        c->ops->on_ready(c, c->ctx);
    }
}

static struct http_call *call_of(nghttp2_session *s, int32_t id)
{
    return id > 0 ? nghttp2_session_get_stream_user_data(s, id) : NULL;
}

// ---- the request's message ---------------------------------------------------------------------------

static void run_left(void *arg)
{
    struct http_call *call = arg;
    call->queued--;
    maybe_over(call);
}

static ssize_t read_message(nghttp2_session *s, int32_t id, uint8_t *buf, size_t room,
                            uint32_t *flags, nghttp2_data_source *source, void *user)
{
    struct http_call *call = source->ptr;
    size_t left = 0;
    (void)s;
    (void)id;
    (void)buf;
    (void)user;
    for (uint32_t i = call->seg_at; i < call->n_segs; i++)
        left += call->segs[i].n;
    left -= call->seg_off;
    size_t n = left < room ? left : room;
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (n == left)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}

static bool send_run(struct http_client *c, struct http_call *call, const uint8_t *p, size_t n)
{
    if (n < OUT_COPY_BELOW)
        return out_copy(&c->out, p, n);
    call->queued++;
    if (out_refer(&c->out, p, n, NULL, run_left, call))
        return true;
    call->queued--;
    return false;
}

// Without it nghttp2 makes frames of 16 KiB, whatever the worker takes. It applies the windows itself.
static ssize_t frame_length(nghttp2_session *s, uint8_t type, int32_t id, int32_t window,
                            int32_t stream_window, uint32_t peer_max, void *user)
{
    const struct http_client *c = user;
    (void)s;
    (void)type;
    (void)id;
    (void)window;
    (void)stream_window;
    return peer_max < c->limits.frame_bytes ? peer_max : c->limits.frame_bytes;
}

static int send_data(nghttp2_session *s, nghttp2_frame *f, const uint8_t *head, size_t n,
                     nghttp2_data_source *source, void *user)
{
    struct http_client *c = user;
    struct http_call *call = source->ptr;
    (void)s;
    (void)f;
    if (c->out.bytes >= OUTPUT_HIGH)
        return NGHTTP2_ERR_WOULDBLOCK; // nghttp2 would make all the frames that the windows allow
    if (!out_copy(&c->out, head, 9))
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    while (n > 0) {
        const struct http_seg *seg = &call->segs[call->seg_at];
        size_t part = seg->n - call->seg_off < n ? seg->n - call->seg_off : n;
        if (!send_run(c, call, seg->p + call->seg_off, part))
            return NGHTTP2_ERR_CALLBACK_FAILURE;
        n -= part;
        call->seg_off += part;
        if (call->seg_off == seg->n) {
            call->seg_at++;
            call->seg_off = 0;
        }
    }
    return 0;
}

// ---- the answer --------------------------------------------------------------------------------------

static int hex_of(char ch)
{
    return ch >= '0' && ch <= '9'   ? ch - '0'
           : ch >= 'a' && ch <= 'f' ? ch - 'a' + 10
           : ch >= 'A' && ch <= 'F' ? ch - 'A' + 10
                                    : -1;
}

static struct view percent_decoded(struct arena *a, struct view v)
{
    size_t n = 0, most = v.n < HTTP_GRPC_MESSAGE ? v.n : HTTP_GRPC_MESSAGE;
    char *out = arena_alloc(a, most + 1);
    for (size_t i = 0; out && i < v.n && n < most; i++) {
        int high = v.p[i] == '%' && i + 2 < v.n ? hex_of(v.p[i + 1]) : -1;
        int low = high >= 0 ? hex_of(v.p[i + 2]) : -1;
        if (low >= 0) {
            out[n++] = (char)(high * 16 + low);
            i += 2;
        } else {
            out[n++] = v.p[i]; // a broken escape passes as it is
        }
    }
    return view_of(out, out ? n : 0);
}

static int number_of(struct view v)
{
    int n = 0;
    if (v.n == 0 || v.n > 4)
        return -1;
    for (size_t i = 0; i < v.n; i++) {
        if (v.p[i] < '0' || v.p[i] > '9')
            return -1;
        n = n * 10 + (v.p[i] - '0');
    }
    return n;
}

// Milliseconds, an int32 (gRFC A6).
static uint64_t pushback_of(struct view v)
{
    uint64_t ms = 0;
    if (v.n == 0 || v.n > 10)
        return PUSHBACK_UNKNOWN_US;
    for (size_t i = 0; i < v.n; i++) {
        if (v.p[i] < '0' || v.p[i] > '9')
            return PUSHBACK_UNKNOWN_US;
        ms = ms * 10 + (uint64_t)(v.p[i] - '0');
    }
    return ms <= INT32_MAX ? ms * 1000 : PUSHBACK_UNKNOWN_US;
}

static void fail_call(struct http_client *c, struct http_call *call, enum http_call_end end)
{
    if (nghttp2_submit_rst_stream(c->h2, NGHTTP2_FLAG_NONE, call->stream_id, NGHTTP2_CANCEL) != 0)
        c->broken = true; // no memory: it could not be ended otherwise
    if (!call->closed)
        call->end = end;
    call->grpc_flagged = true; // what still comes is dropped, and what came is given back at once
    if (call->body)
        block_unref(call->body);
    call->body = NULL;
    call->body_bytes = 0;
}

static int on_header(nghttp2_session *s, const nghttp2_frame *f, const uint8_t *name, size_t name_n,
                     const uint8_t *value, size_t value_n, uint8_t flags, void *user)
{
    struct http_call *call = call_of(s, f->hd.stream_id);
    struct view n = view_of(name, name_n), v = view_of(value, value_n);
    (void)flags;
    if (!call || call->grpc_flagged)
        return 0;
    size_t cost = name_n + value_n + 32;
    if (call->n_fields++ == MAX_FIELDS || cost > MAX_FIELD_BYTES - call->field_bytes) {
        fail_call(user, call, CALL_MALFORMED);
        return 0;
    }
    call->field_bytes += (uint32_t)cost;
    if (view_is(n, ":status"))
        call->status = (uint16_t)(number_of(v) > 0 ? number_of(v) : 0);
    else if (view_is(n, "grpc-status"))
        call->grpc_status = number_of(v) >= 0 ? number_of(v) : 2; // out of range: UNKNOWN
    else if (view_is(n, "grpc-message"))
        call->grpc_message = percent_decoded(&call->arena, v);
    else if (view_is(n, "grpc-retry-pushback-ms"))
        call->pushback_us = pushback_of(v);
    return 0;
}

// Room for n more bytes of the message; false: no memory, or the account of blocks refuses it.
static bool body_room(struct http_client *c, struct http_call *call, size_t n)
{
    size_t need = call->body_bytes + n;
    if (call->body && need <= call->body->bytes)
        return true;
    size_t bytes = call->body ? 2 * call->body->bytes : FIRST_BLOCK;
    bytes = bytes < need ? need : bytes;
    bytes = bytes > call->expect ? call->expect : bytes;
    struct block *b = block_new(c->blocks, bytes);
    if (!b)
        return false;
    if (call->body) {
        memcpy(b->data, call->body->data, call->body_bytes);
        block_unref(call->body);
    }
    call->body = b;
    return true;
}

static int on_data(nghttp2_session *s, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
                   void *user)
{
    struct http_client *c = user;
    struct http_call *call = call_of(s, id);
    (void)flags;
    nghttp2_session_consume(s, id, n);
    if (!call || call->grpc_flagged)
        return 0;
    while (n > 0 && call->n_prefix < 5) {
        call->got_prefix[call->n_prefix++] = *p++;
        n--;
        if (call->n_prefix < 5)
            continue;
        const uint8_t *g = call->got_prefix;
        call->expect = (uint32_t)g[1] << 24 | (uint32_t)g[2] << 16 | (uint32_t)g[3] << 8 | g[4];
        if (g[0] != 0) // we announced no compression
            fail_call(c, call, CALL_MALFORMED);
        else if (call->expect > c->limits.max_answer)
            fail_call(c, call, CALL_TOO_LARGE);
        if (call->grpc_flagged)
            return 0;
    }
    if (n == 0)
        return 0;
    if (n > call->expect - call->body_bytes) { // more than one message, or more than it said
        fail_call(c, call, CALL_MALFORMED);
        return 0;
    }
    if (!body_room(c, call, n)) {
        fail_call(c, call, CALL_NO_ROOM);
        return 0;
    }
    memcpy(call->body->data + call->body_bytes, p, n);
    call->body_bytes += n;
    return 0;
}

static enum http_call_end judge(struct http_call *call, uint32_t code)
{
    if (call->grpc_flagged)
        return call->end;
    if (code == NGHTTP2_REFUSED_STREAM)
        return CALL_REFUSED;
    call->rst_code = code;
    // An early answer may be followed by RST_STREAM(NO_ERROR): it is whole all the same.
    if (code != NGHTTP2_NO_ERROR)
        return CALL_RESET;
    bool cut = call->n_prefix > 0 && (call->n_prefix < 5 || call->body_bytes < call->expect);
    if (call->status == 0 || cut)
        return CALL_MALFORMED;
    return CALL_ANSWERED;
}

static int on_stream_close(nghttp2_session *s, int32_t id, uint32_t code, void *user)
{
    struct http_call *call = call_of(s, id);
    (void)user;
    if (call) {
        nghttp2_session_set_stream_user_data(s, id, NULL);
        close_call(call, judge(call, code));
    }
    return 0;
}

static int on_frame_recv(nghttp2_session *s, const nghttp2_frame *f, void *user)
{
    struct http_client *c = user;
    (void)s;
    if (f->hd.type == NGHTTP2_SETTINGS && !(f->hd.flags & NGHTTP2_FLAG_ACK))
        c->ready = true;
    else if (f->hd.type == NGHTTP2_GOAWAY)
        c->draining = true; // nghttp2 closes the streams above last_stream_id as REFUSED_STREAM
    return 0;
}

static int on_frame_not_sent(nghttp2_session *s, const nghttp2_frame *f, int error, void *user)
{
    struct http_call *call = call_of(s, f->hd.stream_id);
    (void)user;
    (void)error;
    if (call && f->hd.type == NGHTTP2_HEADERS) { // GOAWAY, or our own cancel, came first
        nghttp2_session_set_stream_user_data(s, f->hd.stream_id, NULL);
        close_call(call, call->grpc_flagged ? call->end : CALL_REFUSED);
    }
    return 0;
}

// ---- life --------------------------------------------------------------------------------------------

static bool session_new(struct http_client *c)
{
    nghttp2_session_callbacks *cb;
    nghttp2_option *o;
    if (nghttp2_session_callbacks_new(&cb) != 0)
        return false;
    if (nghttp2_option_new(&o) != 0) {
        nghttp2_session_callbacks_del(cb);
        return false;
    }
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame_recv);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(cb, on_frame_not_sent);
    nghttp2_session_callbacks_set_send_data_callback(cb, send_data);
    nghttp2_session_callbacks_set_data_source_read_length_callback(cb, frame_length);
    nghttp2_option_set_no_auto_window_update(o, 1);
    nghttp2_option_set_max_settings(o, 32);
    nghttp2_option_set_max_outbound_ack(o, 1000);
    compat_max_continuations(o, 8);
    nghttp2_option_set_peer_max_concurrent_streams(o, 100); // until its SETTINGS say
    bool ok = nghttp2_session_client_new3(&c->h2, cb, c, o, nghttp2_mem_ours()) == 0;
    nghttp2_session_callbacks_del(cb);
    nghttp2_option_del(o);
    return ok;
}

struct http_client *http_client_new(const struct http_client_limits *l,
                                    const struct http_client_ops *ops, void *ctx,
                                    struct block_owner *blocks, struct view authority)
{
    struct http_client *c = mem_zalloc(sizeof(*c));
    if (!c)
        return NULL;
    c->limits = *l;
    c->ops = ops;
    c->ctx = ctx;
    c->blocks = blocks;
    c->over_last = &c->over;
    out_init(&c->out);
    arena_init(&c->arena, 512);
    c->authority = arena_copy(&c->arena, authority);
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, l->window_bytes},
        {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, l->frame_bytes},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, 32 << 10},
    };
    if ((authority.n == 0 || c->authority.p) && session_new(c) &&
        nghttp2_submit_settings(c->h2, NGHTTP2_FLAG_NONE, settings,
                                sizeof(settings) / sizeof(settings[0])) == 0 &&
        nghttp2_session_set_local_window_size(c->h2, NGHTTP2_FLAG_NONE, 0,
                                              (int32_t)l->window_bytes) == 0)
        return c;
    nghttp2_session_del(c->h2);
    arena_deinit(&c->arena);
    mem_free(c);
    return NULL;
}

static void lose_all(struct http_client *c)
{
    out_deinit(&c->out); // runs that wait are dropped: nothing refers to lent bytes any more
    while (c->live) {
        struct http_call *call = c->live;
        call->queued = 0;
        if (!call->closed)
            call->end = call->grpc_flagged ? call->end : CALL_LOST;
        call->closed = true;
        maybe_over(call);
    }
}

void http_client_set_max_answer(struct http_client *c, size_t max_answer)
{
    c->limits.max_answer = max_answer;
}

void http_client_free(struct http_client *c)
{
    c->broken = true;
    lose_all(c);
    c->told_ready = true;
    tell(c);
    nghttp2_session_del(c->h2);
    arena_deinit(&c->arena);
    mem_free(c);
}

// ---- calls out ---------------------------------------------------------------------------------------

static bool make_segs(struct http_call *call, const struct http_seg *segs, unsigned n)
{
    size_t bytes = 0;
    call->segs = arena_array(&call->arena, n + 1, sizeof(*call->segs));
    if (!call->segs)
        return false;
    for (unsigned i = 0; i < n; i++) {
        if (segs[i].n == 0)
            continue;
        bytes += segs[i].n;
        call->segs[++call->n_segs] = segs[i];
    }
    if (bytes > UINT32_MAX)
        return false;
    call->prefix[1] = (uint8_t)(bytes >> 24);
    call->prefix[2] = (uint8_t)(bytes >> 16);
    call->prefix[3] = (uint8_t)(bytes >> 8);
    call->prefix[4] = (uint8_t)bytes;
    call->segs[0] = (struct http_seg){call->prefix, 5, NULL};
    call->n_segs++;
    return true;
}

static nghttp2_nv nv(const char *name, struct view value)
{
    return (nghttp2_nv){(uint8_t *)name, (uint8_t *)value.p, strlen(name), value.n,
                        NGHTTP2_NV_FLAG_NO_COPY_NAME};
}

// One of another value each time: it would but push what comes again out of the peer's table (RFC 7541, 6.2.2).
static nghttp2_nv nv_of(const struct http_header *h)
{
    return (nghttp2_nv){(uint8_t *)h->name.p, (uint8_t *)h->value.p, h->name.n, h->value.n,
                        NGHTTP2_NV_FLAG_NO_INDEX};
}

struct http_call *http_client_call(struct http_client *c, struct view path,
                                   const struct http_header *more, unsigned n_more,
                                   const struct http_seg *segs, unsigned n, uint64_t timeout_us,
                                   void *user)
{
    char timeout[16];
    invariant(n_more <= HTTP_CALL_FIELDS);
    if (http_client_room(c) == 0)
        return NULL;
    struct http_call *call = mem_zalloc(sizeof(*call));
    if (!call)
        return NULL;
    arena_init(&call->arena, 512);
    call->user = user;
    call->client = c;
    call->grpc_status = -1;
    nghttp2_nv fields[8 + HTTP_CALL_FIELDS] = {
        nv(":method", VIEW("POST")),
        nv(":scheme", c->limits.secure ? VIEW("https") : VIEW("http")),
        nv(":path", path),
        nv(":authority", c->authority),
        nv("te", VIEW("trailers")),
        nv("content-type", VIEW("application/grpc")),
        nv("user-agent", VIEW("sluice")),
    };
    unsigned n_fields = 7;
    if (timeout_us > 0)
        fields[n_fields++] =
            nv("grpc-timeout", view_of(timeout, grpc_timeout_print(timeout, timeout_us)));
    for (unsigned i = 0; i < n_more; i++)
        fields[n_fields++] = nv_of(&more[i]);
    nghttp2_data_provider body = {.source = {.ptr = call}, .read_callback = read_message};
    if (!make_segs(call, segs, n) || (call->stream_id = nghttp2_submit_request(
                                          c->h2, NULL, fields, n_fields, &body, call)) < 0) {
        if (call->stream_id == NGHTTP2_ERR_STREAM_ID_NOT_AVAILABLE)
            c->draining = true; // after 2^30 calls: another connection has to follow
        arena_deinit(&call->arena);
        mem_free(call);
        return NULL;
    }
    call->next = c->live;
    call->prev = &c->live;
    if (c->live)
        c->live->prev = &call->next;
    c->live = call;
    c->n_live++;
    return call;
}

void http_call_cancel(struct http_call *call)
{
    if (!call->closed && !call->grpc_flagged)
        fail_call(call->client, call, CALL_CANCELLED);
}

struct block *http_call_take_body(struct http_call *call)
{
    struct block *b = call->body;
    call->body = NULL;
    return b;
}

// ---- bytes ------------------------------------------------------------------------------------------

void http_client_recv(struct http_client *c, const uint8_t *p, size_t n, uint64_t now_us)
{
    (void)now_us;
    if (!c->broken && nghttp2_session_mem_recv(c->h2, p, n) < 0)
        c->broken = true;
    tell(c);
}

void http_client_fill(struct http_client *c)
{
    while (!c->broken && c->out.bytes < OUTPUT_HIGH) {
        const uint8_t *p;
        ssize_t n = nghttp2_session_mem_send(c->h2, &p);
        if (n < 0 || (n > 0 && !out_copy(&c->out, p, (size_t)n)))
            c->broken = true;
        if (n <= 0)
            break;
    }
    tell(c);
}

int http_client_gather(struct http_client *c, struct iovec *iov, int max)
{
    http_client_fill(c);
    return c->broken ? 0 : out_gather(&c->out, iov, max);
}

void http_client_sent(struct http_client *c, size_t n)
{
    out_sent(&c->out, n);
    tell(c);
}

bool http_client_ready(const struct http_client *c)
{
    return c->ready && !c->broken && !c->draining;
}

bool http_client_done(const struct http_client *c)
{
    return c->broken || (c->draining && c->n_live == 0) ||
           (!nghttp2_session_want_read(c->h2) && !nghttp2_session_want_write(c->h2));
}

unsigned http_client_room(const struct http_client *c)
{
    if (!http_client_ready(c))
        return 0;
    uint32_t most =
        nghttp2_session_get_remote_settings(c->h2, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
    return most > c->n_live ? most - c->n_live : 0;
}
