// HTTP/2 as a server: streams become exchanges. What a request must be (RFC 9113, 8), the bounds, the abuse, and the life
// of a connection.
#include "http/h2_conn.h"

#include "base/check.h"
#include "base/mem.h"
#include "base/pool.h"

#define LAST_CALL_US 1000000 // how long we wait for a peer to see that we drain
#define SLOTS_FIRST 16u
#define NOTICE INT32_MAX // of a GOAWAY that refuses nothing yet (6.8)

// ---- streams -----------------------------------------------------------------------------------------

// Ids of a client are odd and follow each other: neighbours lie side by side.
static uint32_t slot_of(const struct h2_conn *h, uint32_t id)
{
    return (id / 2) & (h->slots - 1);
}

struct exchange *h2_stream_of(const struct h2_conn *h, uint32_t id)
{
    if (h->slots == 0)
        return NULL;
    for (uint32_t i = slot_of(h, id); h->slot[i]; i = (i + 1) & (h->slots - 1)) {
        if (h->slot[i]->stream_id == id)
            return h->slot[i];
    }
    return NULL;
}

static void slot_put(struct h2_conn *h, struct exchange *ex)
{
    uint32_t i = slot_of(h, ex->stream_id);
    while (h->slot[i])
        i = (i + 1) & (h->slots - 1);
    h->slot[i] = ex;
}

// False: out of memory.
static bool streams_add(struct h2_conn *h, struct exchange *ex, uint32_t id)
{
    if (2 * (h->n_slots + 1) > h->slots) {
        struct h2_conn old = *h;
        h->slots = old.slots ? 2 * old.slots : SLOTS_FIRST;
        h->slot = pool_zalloc(h->slots, sizeof(*h->slot));
        if (!h->slot) {
            h->slot = old.slot;
            h->slots = old.slots;
            return false;
        }
        for (uint32_t i = 0; i < old.slots; i++) {
            if (old.slot[i])
                slot_put(h, old.slot[i]);
        }
        pool_free(old.slot);
    }
    h->n_slots++;
    ex->stream_id = id;
    slot_put(h, ex);
    return true;
}

// What lies behind it moves up, so that it is found without a gap.
static void streams_remove(struct h2_conn *h, const struct exchange *ex)
{
    uint32_t mask = h->slots - 1, gap = slot_of(h, ex->stream_id);
    while (h->slot[gap] != ex)
        gap = (gap + 1) & mask;
    for (uint32_t i = (gap + 1) & mask; h->slot[i]; i = (i + 1) & mask) {
        uint32_t home = slot_of(h, h->slot[i]->stream_id);
        if (((i - home) & mask) >= ((i - gap) & mask)) {
            h->slot[gap] = h->slot[i];
            gap = i;
        }
    }
    h->slot[gap] = NULL;
    h->n_slots--;
}

void h2_detach(struct http_conn *c, struct exchange *ex)
{
    struct h2_conn *h = c->h2;
    if (ex->stream_id == 0)
        return;
    streams_remove(h, ex);
    h2_unqueue(h, ex);
    if (h->block_of == ex)
        h->block_of = NULL;
    if (h->data_of == ex)
        h->data_of = NULL;
}

void h2_stream_close(struct exchange *ex)
{
    exchange_ref(ex);
    exchange_tell_gone(ex); // nothing when its end has been told
    exchange_detach(ex);
    exchange_unref(ex);
}

static void stream_refuse(struct http_conn *c, uint32_t id, enum h2_error code)
{
    h2_control_u32(c, H2_RST_STREAM, id, code);
    if (code != H2_NO_ERROR)
        h2_pay(c, ABUSE_RESET_BY_US);
}

void h2_stream_reset(struct http_conn *c, struct exchange *ex, enum h2_error code)
{
    uint32_t id = ex->stream_id;
    h2_stream_close(ex);
    stream_refuse(c, id, code);
}

// ---- the connection's end ----------------------------------------------------------------------------

// The text is for who looks at the frame.
static void goaway_put(struct http_conn *c, uint32_t last, enum h2_error code, const char *text)
{
    uint8_t frame[8 + 32];
    size_t n = strlen(text);
    invariant(n <= 32);
    memcpy(h2_put_u32(h2_put_u32(frame, last), code), text, n);
    h2_control(c, H2_GOAWAY, 0, 0, frame, 8 + n);
}

// Streams that were taken finish. The client knows of those behind them that they were not processed, and repeats
// them elsewhere.
static void goaway_final(struct http_conn *c, const char *text)
{
    struct h2_conn *h = c->h2;
    h->last_call_us = 0;
    h->goaway_last = h->last_taken;
    goaway_put(c, h->last_taken, H2_NO_ERROR, text);
}

void h2_terminate(struct http_conn *c, unsigned code)
{
    if (!c->h2->cut)
        goaway_put(c, c->h2->last_taken, code, "");
    c->h2->cut = true;
}

void h2_punish(struct http_conn *c, enum abuse_kind kind, enum abuse_verdict verdict)
{
    if (verdict == ABUSE_BORNE || c->h2->cut)
        return;
    if (verdict == ABUSE_NO_NEW) {
        c->h2->late_from = c->h2->last_taken;
        goaway_final(c, abuse_name[kind]);
    } else {
        h2_terminate(c, H2_ENHANCE_YOUR_CALM);
    }
    if (c->ops->on_abuse)
        c->ops->on_abuse(c, kind, verdict, c->ctx);
}

void h2_pay(struct http_conn *c, enum abuse_kind kind)
{
    h2_punish(c, kind, abuse_pay(&c->abuse, kind, c->now_us));
}

// Graceful end (6.8): a notice that takes every stream still on its way, and, when the peer has seen it (it answers
// our PING), the GOAWAY that names the last one. What comes behind that was not processed, and clients know that they
// may repeat it.
void h2_drain(struct http_conn *c)
{
    struct h2_conn *h = c->h2;
    if (h->cut || h->last_call_us > 0 || h->goaway_last != UINT32_MAX)
        return; // it was said
    goaway_put(c, NOTICE, H2_NO_ERROR, "");
    h2_control(c, H2_PING, 0, 0, "\0\0\0\0\0\0\0", 8);
    h->last_call_us = c->now_us + LAST_CALL_US;
}

void h2_last_call(struct http_conn *c)
{
    if (c->h2->last_call_us > 0)
        goaway_final(c, "drain");
}

// ---- a header block ----------------------------------------------------------------------------------

enum { // what it has had
    SEEN_METHOD = 1,
    SEEN_SCHEME = 2,
    SEEN_PATH = 4,
    SEEN_AUTHORITY = 8,
    SEEN_FIELD = 16,
    SEEN_HOST = 32,
    SEEN_LENGTH = 64,
};

// The hard bound of a block, decoded. Up to it, what is over max_header_bytes is dropped and the stream answered 431.
static size_t block_bound(const struct http_conn *c)
{
    return 4 * (size_t)c->limits->max_header_bytes;
}

static struct exchange *stream_open(struct http_conn *c, uint32_t id)
{
    struct h2_conn *h = c->h2;
    if (id > h->goaway_last || c->done)
        return NULL;
    if (c->n_live >= c->limits->max_streams) {
        stream_refuse(c, id, H2_REFUSED_STREAM);
        return NULL;
    }
    struct exchange *ex = exchange_new(c, HTTP_2, c->now_us);
    if (ex && streams_add(h, ex, id)) {
        h->last_taken = id;
        ex->body_left = -1;
        ex->send_window = h->first_window;
        h2_tick_soon(c);
        return ex;
    }
    if (ex)
        exchange_detach(ex);
    stream_refuse(c, id, H2_REFUSED_STREAM); // out of memory; it was not processed
    return NULL;
}

void h2_block_begin(struct http_conn *c, bool last)
{
    struct h2_conn *h = c->h2;
    c->head_since_us = c->now_us;
    h->block_id = h->id;
    h->block_of = NULL;
    h->block_frames = h->block_seen = 0;
    h->block_cost = 0;
    h->block_over = false;
    h->block_ends = last;
    hpack_read_begin(&h->reader);
    if (h->id > h->late_from)
        h2_pay(c, ABUSE_LATE_STREAM);
    h->block_is_head = h->id > h->last_seen;
    if (h->block_is_head) {
        h->last_seen = h->id;
        h->block_of = stream_open(c, h->id);
        return;
    }
    h->block_of = h2_stream_of(h, h->id);
    if (!h->block_of && h->id <= h->late_from)
        h2_pay(c, ABUSE_LATE_STREAM); // it is over: decoded for nothing
    else if (h->block_of && h->block_of->whole_request)
        h2_terminate(c, H2_STREAM_CLOSED);
}

// Is the stream's fault: reset, and the block still decoded to its end.
static void block_reject(struct http_conn *c, enum h2_error code)
{
    h2_stream_reset(c, c->h2->block_of, code);
}

static bool method_is_fine(struct view v)
{
    for (size_t i = 0; i < v.n; i++) {
        if (v.p[i] <= ' ' || v.p[i] > '~' || strchr("\"(),/:;<=>?@[\\]{}", v.p[i]))
            return false;
    }
    return v.n > 0;
}

// RFC 3986 3.1.
static bool scheme_is_fine(struct view v)
{
    for (size_t i = 0; i < v.n; i++) {
        char c = v.p[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        bool other = (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.';
        if (!letter && (i == 0 || !other))
            return false;
    }
    return v.n > 0;
}

// Bytes that an authority may be made of; whether they make one is looked at later.
static bool authority_is_fine(struct view v)
{
    for (size_t i = 0; i < v.n; i++) {
        if (v.p[i] <= ' ' || v.p[i] > '~' || strchr("\"#/<>?\\^`{|}", v.p[i]))
            return false;
    }
    return true;
}

static enum field_result pseudo_keep(struct exchange *ex, struct view name, struct view value,
                                     struct view *to)
{
    size_t cost = name.n + value.n + 32;
    if (cost > ex->conn->limits->max_header_bytes - ex->header_bytes)
        return FIELD_TOO_MANY;
    ex->header_bytes += (uint32_t)cost;
    if (!to) // :scheme is what the connection is
        return FIELD_OK;
    *to = arena_copy(&ex->arena, value);
    return value.n == 0 || to->p ? FIELD_OK : FIELD_NO_MEMORY;
}

// 8.3.1. False: malformed.
static bool pseudo_is_fine(struct h2_conn *h, struct exchange *ex, const struct hpack_field *f,
                           struct view **to)
{
    unsigned seen;
    bool fine;
    *to = NULL;
    if (view_is(f->name, ":method")) {
        seen = SEEN_METHOD;
        fine = method_is_fine(f->value);
        *to = &ex->method;
    } else if (view_is(f->name, ":path")) {
        seen = SEEN_PATH;
        fine = f->value.n > 0;
        *to = &ex->path;
    } else if (view_is(f->name, ":authority")) {
        seen = SEEN_AUTHORITY;
        fine = authority_is_fine(f->value);
        *to = &ex->authority;
    } else {
        seen = SEEN_SCHEME;
        fine = view_is(f->name, ":scheme") && scheme_is_fine(f->value);
    }
    fine &= !(h->block_seen & (seen | SEEN_FIELD));
    h->block_seen |= seen;
    return fine;
}

// 8.2.2, and what may stand once. False: malformed.
static bool field_is_fine(struct h2_conn *h, const struct hpack_field *f)
{
    unsigned seen = h->block_seen;
    int64_t length;
    h->block_seen |= SEEN_FIELD;
    switch (f->name.n) { // most are none of these, and are told so by their length
    case 2:
        return !view_is(f->name, "te") || view_is(f->value, "trailers");
    case 4:
        if (!view_is(f->name, "host"))
            return true;
        h->block_seen |= SEEN_HOST;
        return authority_is_fine(f->value);
    case 7:
        return !view_is(f->name, "upgrade");
    case 10:
        return !view_is(f->name, "connection") && !view_is(f->name, "keep-alive");
    case 14:
        if (!view_is(f->name, "content-length"))
            return true;
        h->block_seen |= SEEN_LENGTH;
        return !(seen & SEEN_LENGTH) && content_length_of(f->value, &length);
    case 16:
        return !view_is(f->name, "proxy-connection");
    case 17:
        return !view_is(f->name, "transfer-encoding");
    default:
        return true;
    }
}

// A field that is counted and no more: of trailers, or of a head that is too large. False: past the hard bound, for
// one byte of HPACK can stand for thousands (rows 57, 59).
static bool field_drop(struct http_conn *c, size_t cost)
{
    struct h2_conn *h = c->h2;
    if (h->block_is_head && !h->block_over)
        h->block_cost = h->block_of->header_bytes;
    h->block_cost += cost;
    h->block_over |= h->block_is_head || h->block_cost > c->limits->max_header_bytes;
    return h->block_cost <= block_bound(c);
}

static void on_field(struct http_conn *c, const struct hpack_field *f)
{
    struct h2_conn *h = c->h2;
    struct exchange *ex = h->block_of;
    bool pseudo = f->name.n > 0 && f->name.p[0] == ':';
    struct view *to = NULL;
    if (!f->fine || (pseudo && !h->block_is_head) ||
        !(pseudo ? pseudo_is_fine(h, ex, f, &to) : field_is_fine(h, f))) {
        block_reject(c, H2_PROTOCOL_ERROR);
        return;
    }
    enum field_result r = FIELD_TOO_MANY;
    if (h->block_is_head && (pseudo || !h->block_over)) // a refusal must know the method
        r = pseudo ? pseudo_keep(ex, f->name, f->value, to)
                   : exchange_add_field(ex, f->name, f->value);
    if (r == FIELD_NO_MEMORY ||
        (r == FIELD_TOO_MANY && !field_drop(c, f->name.n + f->value.n + 32)))
        block_reject(c, H2_INTERNAL_ERROR);
}

// As many whole fields as there are; returns how many bytes are left.
static size_t read_fields(struct http_conn *c, const uint8_t *p, size_t n)
{
    struct h2_conn *h = c->h2;
    const uint8_t *end = p + n;
    struct hpack_field f;
    enum hpack_result r;
    while (!h->cut && (r = hpack_read(&h->reader, &p, end, &f)) != HPACK_MORE) {
        if (r != HPACK_FIELD)
            h2_terminate(c, r == HPACK_BROKEN ? H2_COMPRESSION_ERROR : H2_INTERNAL_ERROR);
        else if (h->block_of)
            on_field(c, &f);
    }
    return (size_t)(end - p);
}

void h2_block_bytes(struct http_conn *c, const uint8_t *p, size_t n)
{
    struct buffer *b = &c->h2->block;
    bool held = buffer_len(b) > 0;
    bool ok = !held || buffer_append(b, p, n);
    size_t all = held ? buffer_len(b) : n;
    size_t left = ok ? read_fields(c, held ? b->data + b->at : p, all) : 0;
    if (held && ok)
        buffer_consume(b, all - left);
    else if (left > 0)
        ok = buffer_append(b, p + n - left, left);
    if (!ok)
        h2_terminate(c, H2_INTERNAL_ERROR);
}

// ---- requests ----------------------------------------------------------------------------------------

// 8.3.1, 8.5: what a request must have. False: malformed.
static bool head_is_whole(const struct h2_conn *h, const struct exchange *ex)
{
    unsigned seen = h->block_seen, all = SEEN_METHOD | SEEN_SCHEME | SEEN_PATH;
    if (view_is(ex->method, "CONNECT"))
        return (seen & (all | SEEN_AUTHORITY)) == (SEEN_METHOD | SEEN_AUTHORITY);
    if ((seen & all) != all || !(seen & (SEEN_AUTHORITY | SEEN_HOST)))
        return false;
    return ex->path.n == 0 || ex->path.p[0] == '/' || // empty: it was too large to be kept
           (view_is(ex->path, "*") && view_is(ex->method, "OPTIONS"));
}

// NULL, or what is wrong with a request that is one.
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
    struct h2_conn *h = c->h2;
    unsigned status;
    struct view length = exchange_header(ex, "content-length");
    if (!head_is_whole(h, ex) ||
        (length.p && content_length_of(length, &ex->body_left) && last && ex->body_left > 0)) {
        h2_stream_reset(c, ex, H2_PROTOCOL_ERROR);
        return;
    }
    ex->is_head = view_is(ex->method, "HEAD");
    ex->whole_request = last; // also of one that is refused now: nothing of it is left to be reset
    if (h->block_over) {
        exchange_refuse(ex, 431, "fields: too many or too large", c->now_us);
        return;
    }
    const char *why = check_head(ex, &status);
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
    if (!last || ex->body_left > 0) {
        h2_stream_reset(c, ex, H2_PROTOCOL_ERROR);
    } else if (c->h2->block_over && !ex->responded) {
        ex->whole_request = true;
        exchange_refuse(ex, 431, "trailers: too many or too large", c->now_us);
    } else {
        exchange_tell_request(ex, c->now_us);
    }
}

void h2_block_end(struct http_conn *c)
{
    struct h2_conn *h = c->h2;
    struct exchange *ex = h->block_of;
    c->head_since_us = 0;
    h->block_id = 0;
    h->block_of = NULL;
    if (h->cut)
        return;
    if (buffer_len(&h->block) > 0) { // cut in the middle of a field
        h2_terminate(c, H2_COMPRESSION_ERROR);
        return;
    }
    buffer_deinit(&h->block);
    buffer_init(&h->block);
    hpack_read_end(&h->reader);
    if (!ex)
        return;
    exchange_ref(ex);
    if (h->block_is_head)
        on_head(c, ex, h->block_ends);
    else
        on_trailers(c, ex, h->block_ends);
    exchange_unref(ex);
}

void h2_body_bytes(struct http_conn *c, struct exchange *ex, const uint8_t *p, size_t n)
{
    unsigned status;
    if (ex->body_left >= 0 && n > (uint64_t)ex->body_left) { // 8.1.1
        h2_stream_reset(c, ex, H2_PROTOCOL_ERROR);
        return;
    }
    ex->progress_us = c->now_us;
    ex->rate_bytes += n;
    bool kept = exchange_body(ex, p, n, &status);
    if (ex->body_left > 0)
        ex->body_left -= (int64_t)n;
    if (kept)
        return;
    if (ex->responded) // its answer flows: no other can be given
        h2_stream_reset(c, ex, H2_ENHANCE_YOUR_CALM);
    else
        exchange_refuse(ex, status,
                        status == 413 ? "body: larger than limits.max_body"
                                      : "no room for the body now",
                        c->now_us);
}

void h2_body_end(struct http_conn *c, struct exchange *ex)
{
    if (ex->body_left > 0)
        h2_stream_reset(c, ex, H2_PROTOCOL_ERROR);
    else
        exchange_tell_request(ex, c->now_us);
}

// ---- life --------------------------------------------------------------------------------------------

bool h2_init(struct http_conn *c, uint64_t now_us)
{
    struct h2_conn *h = mem_zalloc(sizeof(*h));
    if (!h)
        return false;
    c->h2 = h;
    c->now_us = now_us;
    c->tick_us = UINT64_MAX;
    c->kind = CONN_H2;
    h->goaway_last = h->late_from = UINT32_MAX;
    h->last = &h->first;
    h->send_window = h->first_window = 65535;
    hpack_reader_init(&h->reader);
    hpack_writer_init(&h->writer);
    buffer_init(&h->block);
    buffer_init(&h->control);
    uint8_t rows[4 * 6], *at = rows;
    const struct {
        uint8_t id;
        uint32_t value;
    } settings[] = {
        {3, c->limits->max_streams},
        {4, H2_STREAM_WINDOW},
        {5, H2_FRAME_MOST},
        {6, c->limits->max_header_bytes},
    };
    for (unsigned i = 0; i < 4; i++) {
        *at++ = 0;
        *at++ = settings[i].id;
        at = h2_put_u32(at, settings[i].value);
    }
    h2_control(c, H2_SETTINGS, 0, 0, rows, sizeof(rows));
    h2_control_u32(c, H2_WINDOW_UPDATE, 0, H2_CONNECTION_WINDOW - 65535);
    return !h->broken;
}

void h2_tick(struct http_conn *c, uint64_t now_us)
{
    const struct http_limits *l = c->limits;
    uint64_t next_us = UINT64_MAX; // when nobody but sources is waited for
    c->now_us = now_us;
    if (c->h2->last_call_us > 0 && now_us >= c->h2->last_call_us)
        h2_last_call(c);
    for (struct exchange *ex = c->live, *next; ex; ex = next) {
        next = ex->next;
        uint64_t at = flow_is_silent(ex) ? flow_deadline(ex) : now_us;
        next_us = at < next_us ? at : next_us;
        if (ex->told && !ex->whole_request && !ex->responded &&
            exchange_body_is_slow(ex, l, now_us))
            exchange_refuse(ex, 408, "body: it did not come in time", now_us);
        else if (now_us >= flow_deadline(ex))
            exchange_wake(ex, now_us);
        else if (ex->responded && !flow_is_silent(ex) && c->out.bytes == 0 &&
                 now_us >= ex->progress_us + l->stream_stall_us)
            h2_stream_reset(c, ex, H2_CANCEL); // its window stays shut (CVE-2019-9517)
    }
    c->tick_us = next_us < now_us + H2_TICK_US ? now_us + H2_TICK_US : next_us;
}

void h2_deinit(struct http_conn *c)
{
    struct h2_conn *h = c->h2;
    hpack_reader_deinit(&h->reader);
    hpack_writer_deinit(&h->writer);
    buffer_deinit(&h->block);
    buffer_deinit(&h->control);
    pool_free(h->slot);
    mem_free(h);
    c->h2 = NULL;
}
