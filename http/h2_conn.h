/* http/h2_conn.h: inside of the room: HTTP/2 as a server (RFC 9113), for one connection. Frames come in through h2_in.c,
 * become exchanges in h2_server.c, and answers become frames in h2_out.c. An exchange is its stream: attached, as long as
 * that is open. Thinks.
 *
 *   bytes ─► h2_in: frames, windows, SETTINGS ─► h2_server: head, body, trailers ─► exchange ─► the room above
 *   c->out ◄─ h2_out: control frames first, then the streams in turn, a frame each ◄───────────── its answer
 *
 * What waits is bounded: control frames by what they cost whoever makes us write them (abuse.h) and by not reading on
 * (http_conn_wants_read); answers are kept in their exchanges, which are charged, and made into frames when there is room. */
#ifndef SLUICE_HTTP_H2_CONN_H
#define SLUICE_HTTP_H2_CONN_H

#include "http/conn.h"
#include "http/hpack.h"

enum h2_error {
    H2_NO_ERROR = 0,
    H2_PROTOCOL_ERROR = 1,
    H2_INTERNAL_ERROR = 2,
    H2_FLOW_CONTROL_ERROR = 3,
    H2_SETTINGS_TIMEOUT = 4,
    H2_STREAM_CLOSED = 5,
    H2_FRAME_SIZE_ERROR = 6,
    H2_REFUSED_STREAM = 7,
    H2_CANCEL = 8,
    H2_COMPRESSION_ERROR = 9,
    H2_ENHANCE_YOUR_CALM = 11
};

enum h2_type {
    H2_DATA,
    H2_HEADERS,
    H2_PRIORITY,
    H2_RST_STREAM,
    H2_SETTINGS,
    H2_PUSH_PROMISE,
    H2_PING,
    H2_GOAWAY,
    H2_WINDOW_UPDATE,
    H2_CONTINUATION
};

enum { H2_END_STREAM = 1, H2_ACK = 1, H2_END_HEADERS = 4, H2_PADDED = 8, H2_WITH_PRIORITY = 0x20 };

#define H2_FRAME_HEAD 9u
#define H2_WINDOW_MOST INT32_MAX
#define H2_STREAM_WINDOW (1u << 20) // what we give
#define H2_CONNECTION_WINDOW (16u << 20)
#define H2_FRAME_MOST (1u << 20)  // of a frame that comes
#define H2_FRAME_OURS (16u << 10) // of one that we make: what every peer takes

enum h2_at { H2_AT_PREFACE, H2_AT_HEAD, H2_AT_FIXED, H2_AT_PAYLOAD, H2_AT_PADDING };

struct h2_conn {
    // The frame at hand.
    enum h2_at at;
    uint8_t held[H2_FRAME_HEAD], n_held; // of its head or its fixed part, while that is not whole
    uint8_t type, flags, fixed, pad;     // fixed: bytes before the payload
    uint32_t id, left, payload;          // left: bytes to come, padding included
    struct exchange *data_of;            // DATA: its stream, while that is open
    // The connection.
    bool greeted;         // the peer's SETTINGS came
    bool cut;             // ended by us: its GOAWAY is on its way, nothing more is read
    bool broken;          // no frame can be made any more
    bool peer_leaves;     // its GOAWAY came
    uint32_t last_seen;   // the highest stream that the peer has used, taken or not
    uint32_t last_taken;  // that became an exchange
    uint32_t goaway_last; // what our GOAWAY said: none behind it is taken; UINT32_MAX: all are
    uint32_t
        late_from; // opened behind this one they are an offence (ABUSE_NO_NEW); UINT32_MAX: none is
    uint64_t
        last_call_us; // draining: when the final GOAWAY goes at the latest; 0: not draining, or gone
    unsigned empty_data;
    uint32_t n_acks; // of those among `control`
    // The header block at hand.
    struct hpack_reader reader;
    struct buffer block;       // what is not a whole field yet
    uint32_t block_id;         // its stream; 0: none is at hand
    struct exchange *block_of; // its exchange, while that is attached; NULL: it is only decoded
    unsigned block_frames;     // CONTINUATION so far
    unsigned block_seen;       // pseudo-fields and others, as bits
    size_t block_bytes;        // of it, as it comes
    size_t block_cost;         // of its fields so far, as exchange_add_field counts
    bool block_is_head;        // else trailers
    bool block_ends;           // END_STREAM
    bool block_over;           // past max_headers or max_header_bytes: what follows is dropped
    // Streams, by id.
    struct exchange **slot;
    uint32_t slots, n_slots; // a power of two; at most half of them are taken
    // What goes out.
    struct hpack_writer writer;
    struct buffer control;          // whole frames, before all others
    struct exchange *first, **last; // whose turn it is: those that may have something to send
    int64_t send_window;            // of the connection
    int64_t first_window;           // of a new stream: the peer's SETTINGS_INITIAL_WINDOW_SIZE
    uint32_t recv_used;             // of our window, since it was last given back
};

static inline uint32_t h2_u32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline uint8_t *h2_put_u32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
    return p + 4;
}

static inline uint8_t *h2_put_head(uint8_t *p, size_t n, enum h2_type type, unsigned flags,
                                   uint32_t id)
{
    p[0] = (uint8_t)(n >> 16);
    p[1] = (uint8_t)(n >> 8);
    p[2] = (uint8_t)n;
    p[3] = (uint8_t)type;
    p[4] = (uint8_t)flags;
    return h2_put_u32(p + 5, id);
}

// A client is waited for: its streams are looked at.
#define H2_TICK_US 500000
static inline void h2_tick_soon(struct http_conn *c)
{
    if (c->tick_us > c->now_us + H2_TICK_US || c->tick_us < c->now_us)
        c->tick_us = c->now_us + H2_TICK_US;
}

// ---- h2_server.c
// The stream's exchange; NULL: idle, or over.
struct exchange *h2_stream_of(const struct h2_conn *h, uint32_t id);
void h2_pay(struct http_conn *c, enum abuse_kind kind);
void h2_punish(struct http_conn *c, enum abuse_kind kind, enum abuse_verdict verdict);
// The stream is over, whatever is left to be sent of it.
void h2_stream_close(struct exchange *ex);
// RST_STREAM, and it is over.
void h2_stream_reset(struct http_conn *c, struct exchange *ex, enum h2_error code);
void h2_last_call(struct http_conn *c);
// A HEADERS frame begins a block: of a new stream, or trailers.
void h2_block_begin(struct http_conn *c, bool last);
void h2_block_bytes(struct http_conn *c, const uint8_t *p, size_t n);
void h2_block_end(struct http_conn *c);
void h2_body_bytes(struct http_conn *c, struct exchange *ex, const uint8_t *p, size_t n);
void h2_body_end(struct http_conn *c, struct exchange *ex);

// ---- h2_out.c
// A control frame. Out of memory: the connection is broken.
void h2_control(struct http_conn *c, enum h2_type type, unsigned flags, uint32_t id, const void *p,
                size_t n);
void h2_control_u32(struct http_conn *c, enum h2_type type, uint32_t id, uint32_t v);
// It may have something to send: its turn comes.
void h2_queue(struct h2_conn *h, struct exchange *ex);
void h2_unqueue(struct h2_conn *h, struct exchange *ex);
// All that have an answer: windows have opened.
void h2_queue_all(struct http_conn *c);

#endif
