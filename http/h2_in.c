// Frames as they come (RFC 9113, 4 to 6): what each must be, windows and SETTINGS. A frame is a head, a fixed part, a
// payload that is passed on as it comes, and padding.
#include "http/h2_conn.h"

#define SETTINGS_MOST 32u     // rows of one frame
#define ACKS_MOST 1000u       // that wait for a peer which does not read (CVE-2019-9512, -9515)
#define CONTINUATIONS_MOST 8u // CVE-2024-28182

enum setting {
    SETTING_TABLE_SIZE = 1,
    SETTING_ENABLE_PUSH = 2,
    SETTING_FIRST_WINDOW = 4,
    SETTING_FRAME_SIZE = 5
};

// How a frame must look; what is not in it is looked at where it is read.
static const struct frame_rule {
    bool of_stream, of_connection;
    uint8_t least, most; // most: 0: any length
} rules[] = {
    [H2_DATA] = {true, false, 0, 0},           [H2_HEADERS] = {true, false, 0, 0},
    [H2_PRIORITY] = {true, false, 5, 5},       [H2_RST_STREAM] = {true, false, 4, 4},
    [H2_SETTINGS] = {false, true, 0, 0},       [H2_PUSH_PROMISE] = {true, false, 0, 0},
    [H2_PING] = {false, true, 8, 8},           [H2_GOAWAY] = {false, true, 8, 0},
    [H2_WINDOW_UPDATE] = {false, false, 4, 4}, [H2_CONTINUATION] = {true, false, 0, 0},
};

// Nobody has used it yet.
static bool is_idle(const struct h2_conn *h, uint32_t id)
{
    return id > h->last_seen || id % 2 == 0;
}

// ---- windows -----------------------------------------------------------------------------------------

// A body is kept or dropped as it comes, so its window is given back as it comes, half a window at a time. What bounds
// memory is max_body and the process's budget.
static void window_give(struct http_conn *c, uint32_t id, uint32_t *used, uint32_t window)
{
    if (*used < window / 2)
        return;
    h2_control_u32(c, H2_WINDOW_UPDATE, id, *used);
    *used = 0;
}

static enum h2_error data_begin(struct http_conn *c)
{
    struct h2_conn *h = c->h2;
    uint32_t n = h->left + h->fixed; // padding counts (6.9.1)
    h->data_of = NULL;
    if (is_idle(h, h->id))
        return H2_PROTOCOL_ERROR;
    h->recv_used += n;
    if (h->recv_used > H2_CONNECTION_WINDOW)
        return H2_FLOW_CONTROL_ERROR;
    window_give(c, 0, &h->recv_used, H2_CONNECTION_WINDOW);
    struct exchange *ex = h2_stream_of(h, h->id);
    if (!ex)
        return H2_NO_ERROR; // was on its way when the stream ended
    if (ex->whole_request)
        return H2_STREAM_CLOSED;
    ex->recv_used += n;
    if (ex->recv_used > H2_STREAM_WINDOW) {
        h2_stream_reset(c, ex, H2_FLOW_CONTROL_ERROR);
        return H2_NO_ERROR;
    }
    if (!(h->flags & H2_END_STREAM))
        window_give(c, h->id, &ex->recv_used, H2_STREAM_WINDOW);
    h->data_of = ex;
    return H2_NO_ERROR;
}

static enum h2_error on_window_update(struct http_conn *c, uint32_t more)
{
    struct h2_conn *h = c->h2;
    struct exchange *ex = h->id > 0 ? h2_stream_of(h, h->id) : NULL;
    h2_pay(c, ABUSE_WINDOW_UPDATE);
    if (h->id > 0 && is_idle(h, h->id))
        return H2_PROTOCOL_ERROR;
    if (h->id > 0 && !ex)
        return H2_NO_ERROR;
    if (ex && (more == 0 || ex->send_window + more > H2_WINDOW_MOST)) {
        h2_stream_reset(c, ex, more == 0 ? H2_PROTOCOL_ERROR : H2_FLOW_CONTROL_ERROR);
        return H2_NO_ERROR;
    }
    if (more == 0)
        return H2_PROTOCOL_ERROR;
    if (ex) {
        ex->send_window += more;
        h2_queue(h, ex);
        return H2_NO_ERROR;
    }
    if (h->send_window + more > H2_WINDOW_MOST)
        return H2_FLOW_CONTROL_ERROR;
    bool was_shut = h->send_window <= 0;
    h->send_window += more;
    if (was_shut)
        h2_queue_all(c);
    return H2_NO_ERROR;
}

// 6.9.2: what is said of new streams holds for those that are open.
static enum h2_error on_first_window(struct http_conn *c, uint32_t window)
{
    struct h2_conn *h = c->h2;
    if (window > H2_WINDOW_MOST)
        return H2_FLOW_CONTROL_ERROR;
    int64_t more = (int64_t)window - h->first_window;
    h->first_window = window;
    for (struct exchange *ex = c->live; ex; ex = ex->next) {
        ex->send_window += more;
        if (ex->send_window > H2_WINDOW_MOST)
            return H2_FLOW_CONTROL_ERROR;
    }
    if (more > 0)
        h2_queue_all(c);
    return H2_NO_ERROR;
}

// ---- frames of one piece -----------------------------------------------------------------------------

static enum h2_error on_setting(struct http_conn *c, const uint8_t *p)
{
    uint32_t value = h2_u32(p + 2);
    switch (p[0] << 8 | p[1]) {
    case SETTING_TABLE_SIZE:
        hpack_writer_resize(&c->h2->writer, value);
        return H2_NO_ERROR;
    case SETTING_ENABLE_PUSH:
        return value > 1 ? H2_PROTOCOL_ERROR : H2_NO_ERROR;
    case SETTING_FIRST_WINDOW:
        return on_first_window(c, value);
    case SETTING_FRAME_SIZE:
        return value < H2_FRAME_OURS || value > 0xffffff ? H2_PROTOCOL_ERROR : H2_NO_ERROR;
    default:
        return H2_NO_ERROR;
    }
}

static void acknowledge(struct http_conn *c, enum h2_type type, const uint8_t *p, size_t n)
{
    h2_control(c, type, H2_ACK, 0, p, n);
    if (++c->h2->n_acks >= ACKS_MOST)
        h2_punish(c, ABUSE_FLOOD, abuse_end(&c->abuse));
}

static void on_settings(struct http_conn *c)
{
    struct h2_conn *h = c->h2;
    if (h->flags & H2_ACK)
        return;
    if (h->greeted)
        h2_pay(c, ABUSE_SETTINGS);
    h->greeted = true;
    c->head_since_us = 0;
    if (c->n_live == 0)
        c->idle_since_us = c->now_us;
    acknowledge(c, H2_SETTINGS, NULL, 0);
}

static void on_ping(struct http_conn *c, const uint8_t *p)
{
    if (c->h2->flags & H2_ACK) {
        h2_last_call(c);
        return;
    }
    h2_pay(c, ABUSE_PING);
    acknowledge(c, H2_PING, p, 8);
}

static enum h2_error on_reset(struct http_conn *c)
{
    struct h2_conn *h = c->h2;
    struct exchange *ex = h2_stream_of(h, h->id);
    if (is_idle(h, h->id))
        return H2_PROTOCOL_ERROR;
    h2_pay(c, ABUSE_RESET);
    if (ex)
        h2_stream_close(ex);
    return H2_NO_ERROR;
}

// We serve whoever's turn it is (5.3.2 lets us). But what cannot be is what it was.
static void on_priority(struct http_conn *c, const uint8_t *p)
{
    struct exchange *ex = h2_stream_of(c->h2, c->h2->id);
    h2_pay(c, ABUSE_PRIORITY);
    if (ex && (h2_u32(p) & INT32_MAX) == c->h2->id)
        h2_stream_reset(c, ex, H2_PROTOCOL_ERROR);
}

// ---- a frame's parts ---------------------------------------------------------------------------------

static enum h2_error headers_begin(struct http_conn *c)
{
    struct h2_conn *h = c->h2;
    bool first = h->type == H2_HEADERS;
    if (first && h->id % 2 == 0)
        return H2_PROTOCOL_ERROR;
    if (!first && ++h->block_frames > CONTINUATIONS_MOST) {
        h2_punish(c, ABUSE_FLOOD, abuse_end(&c->abuse));
        return H2_NO_ERROR;
    }
    h->block_bytes = h->left + (first ? 0 : h->block_bytes);
    // HPACK must see all of a block or nothing more (CVE-2024-27316 and its kin; row 49). Padding and priority are not
    // counted.
    if (h->block_bytes > 4 * (size_t)c->limits->max_header_bytes + 512)
        h2_punish(c, ABUSE_BLOCK, abuse_end(&c->abuse));
    return H2_NO_ERROR;
}

// The head is known: is it one that may come now? How long is its fixed part?
static enum h2_error frame_begin(struct http_conn *c)
{
    struct h2_conn *h = c->h2;
    h->fixed = h->pad = 0;
    if (h->left > H2_FRAME_MOST)
        return H2_FRAME_SIZE_ERROR;
    if (!h->greeted && (h->type != H2_SETTINGS || h->flags & H2_ACK))
        return H2_PROTOCOL_ERROR; // 3.4
    if (h->block_id > 0 && (h->type != H2_CONTINUATION || h->id != h->block_id))
        return H2_PROTOCOL_ERROR;
    if (h->type > H2_CONTINUATION)
        return H2_NO_ERROR; // 4.1: ignored
    const struct frame_rule *r = &rules[h->type];
    if (h->id == 0 ? r->of_stream : r->of_connection)
        return H2_PROTOCOL_ERROR;
    if (h->left < r->least || (r->most > 0 && h->left > r->most))
        return H2_FRAME_SIZE_ERROR;
    h->fixed = r->least;
    if ((h->type == H2_DATA || h->type == H2_HEADERS) && h->flags & H2_PADDED)
        h->fixed = 1;
    switch (h->type) {
    case H2_HEADERS:
        h->fixed += h->flags & H2_WITH_PRIORITY ? 5 : 0;
        if (h->left < h->fixed)
            return H2_FRAME_SIZE_ERROR;
        return headers_begin(c);
    case H2_DATA:
        return h->left < h->fixed ? H2_FRAME_SIZE_ERROR : H2_NO_ERROR;
    case H2_CONTINUATION:
        return h->block_id == 0 ? H2_PROTOCOL_ERROR : headers_begin(c);
    case H2_PUSH_PROMISE:
        return H2_PROTOCOL_ERROR; // 8.4
    case H2_SETTINGS:
        h->fixed = h->left > 0 ? 6 : 0; // row by row
        if (h->left % 6 != 0 || (h->flags & H2_ACK && h->left > 0))
            return H2_FRAME_SIZE_ERROR;
        if (h->left / 6 > SETTINGS_MOST)
            h2_punish(c, ABUSE_FLOOD, abuse_end(&c->abuse));
        return H2_NO_ERROR;
    default:
        return H2_NO_ERROR;
    }
}

// The fixed part is there, and taken off what is left.
static enum h2_error frame_fixed(struct http_conn *c, const uint8_t *p)
{
    struct h2_conn *h = c->h2;
    switch (h->type) {
    case H2_DATA:
    case H2_HEADERS:
        if (h->flags & H2_PADDED)
            h->pad = p[0];
        if (h->pad > h->left)
            return H2_PROTOCOL_ERROR;
        if (h->type == H2_DATA)
            return data_begin(c);
        h2_block_begin(c, h->flags & H2_END_STREAM);
        return H2_NO_ERROR;
    case H2_PRIORITY:
        on_priority(c, p);
        return H2_NO_ERROR;
    case H2_RST_STREAM:
        return on_reset(c);
    case H2_SETTINGS:
        return h->fixed > 0 ? on_setting(c, p) : H2_NO_ERROR;
    case H2_PING:
        on_ping(c, p);
        return H2_NO_ERROR;
    case H2_GOAWAY:
        h->peer_leaves = true;
        return H2_NO_ERROR;
    case H2_WINDOW_UPDATE:
        return on_window_update(c, h2_u32(p) & INT32_MAX);
    default:
        return H2_NO_ERROR;
    }
}

static void frame_payload(struct http_conn *c, const uint8_t *p, size_t n)
{
    struct h2_conn *h = c->h2;
    if (h->type == H2_DATA && h->data_of)
        h2_body_bytes(c, h->data_of, p, n);
    else if (h->type == H2_HEADERS || h->type == H2_CONTINUATION)
        h2_block_bytes(c, p, n);
}

static void frame_end(struct http_conn *c)
{
    struct h2_conn *h = c->h2;
    bool last = h->flags & H2_END_STREAM;
    switch (h->type) {
    case H2_DATA:
        if (h->payload > 0 || last) // padding is no data
            h->empty_data = 0;
        else if (++h->empty_data > 1)
            h2_pay(c, ABUSE_EMPTY_DATA);
        if (last && h->data_of)
            h2_body_end(c, h->data_of);
        break;
    case H2_HEADERS:
    case H2_CONTINUATION:
        if (h->flags & H2_END_HEADERS)
            h2_block_end(c);
        break;
    case H2_SETTINGS:
        on_settings(c);
        break;
    default:
        break;
    }
}

// ---- bytes -------------------------------------------------------------------------------------------

// n bytes in one piece, or NULL: they have not all come.
static const uint8_t *take(struct h2_conn *h, const uint8_t **p, const uint8_t *end, size_t n)
{
    const uint8_t *from = *p;
    size_t there = (size_t)(end - from);
    if (h->n_held == 0 && there >= n) {
        *p += n;
        return from;
    }
    size_t part = n - h->n_held < there ? n - h->n_held : there;
    memcpy(h->held + h->n_held, from, part);
    *p += part;
    h->n_held += (uint8_t)part;
    if (h->n_held < n)
        return NULL;
    h->n_held = 0;
    return h->held;
}

static bool read_preface(struct http_conn *c, const uint8_t **p, const uint8_t *end)
{
    struct h2_conn *h = c->h2;
    while (*p < end && h->n_held < HTTP_PREFACE_BYTES) {
        if (*(*p)++ != (uint8_t)http_preface[h->n_held++]) {
            h2_terminate(c, H2_PROTOCOL_ERROR);
            return false;
        }
    }
    if (h->n_held < HTTP_PREFACE_BYTES)
        return false;
    h->n_held = 0;
    h->at = H2_AT_HEAD;
    return true;
}

static bool read_head(struct http_conn *c, const uint8_t **p, const uint8_t *end)
{
    struct h2_conn *h = c->h2;
    const uint8_t *head = take(h, p, end, H2_FRAME_HEAD);
    if (!head)
        return false;
    h->left = (uint32_t)head[0] << 16 | (uint32_t)head[1] << 8 | head[2];
    h->type = head[3];
    h->flags = head[4];
    h->id = h2_u32(head + 5) & INT32_MAX;
    h->at = H2_AT_FIXED;
    enum h2_error wrong = frame_begin(c);
    if (wrong != H2_NO_ERROR)
        h2_terminate(c, wrong);
    return true;
}

static bool read_fixed(struct http_conn *c, const uint8_t **p, const uint8_t *end)
{
    struct h2_conn *h = c->h2;
    const uint8_t *part = take(h, p, end, h->fixed);
    if (!part)
        return false;
    h->left -= h->fixed;
    enum h2_error wrong = frame_fixed(c, part);
    if (wrong != H2_NO_ERROR)
        h2_terminate(c, wrong);
    if (h->type == H2_SETTINGS && h->left > 0)
        return true; // the next row
    h->payload = h->left - h->pad;
    h->at = H2_AT_PAYLOAD;
    return true;
}

static bool read_payload(struct http_conn *c, const uint8_t **p, const uint8_t *end)
{
    struct h2_conn *h = c->h2;
    size_t there = (size_t)(end - *p), n = h->left - h->pad;
    n = n < there ? n : there;
    h->left -= (uint32_t)n;
    *p += n;
    if (n > 0)
        frame_payload(c, *p - n, n);
    if (h->left > h->pad)
        return false;
    h->at = H2_AT_PADDING;
    return true;
}

static bool read_padding(struct http_conn *c, const uint8_t **p, const uint8_t *end)
{
    struct h2_conn *h = c->h2;
    size_t there = (size_t)(end - *p), n = h->left < there ? h->left : there;
    h->left -= (uint32_t)n;
    *p += n;
    if (h->left > 0)
        return false;
    h->at = H2_AT_HEAD;
    frame_end(c);
    return true;
}

// One part of a frame; false: the bytes are at their end.
static bool read_part(struct http_conn *c, const uint8_t **p, const uint8_t *end)
{
    switch (c->h2->at) {
    case H2_AT_PREFACE:
        return read_preface(c, p, end);
    case H2_AT_HEAD:
        return read_head(c, p, end);
    case H2_AT_FIXED:
        return read_fixed(c, p, end);
    case H2_AT_PAYLOAD:
        return read_payload(c, p, end);
    default:
        return read_padding(c, p, end);
    }
}

void h2_recv(struct http_conn *c, const uint8_t *p, size_t n, uint64_t now_us)
{
    const uint8_t *end = p + n;
    c->now_us = now_us;
    while (!c->h2->cut && !c->h2->broken && read_part(c, &p, end))
        ;
}
