/* http/http.h: HTTP without sockets. Bytes in -> events, responses in -> bytes out, as server
 * (HTTP/1.1 and HTTP/2 behind one `exchange`) and as HTTP/2 client (`http_client`, `http_call`).
 * Thinks: no socket, no clock, no thread; `now` (microseconds, monotonic) is an argument.
 * Memory: a connection owns its parser and buffers; an exchange owns one arena and its body and is
 * counted, so that it may outlive its connection (a request's bytes are lent out while a ticket is).
 * Thread: a connection and all its exchanges belong to one loop. */
#ifndef SLUICE_HTTP_HTTP_H
#define SLUICE_HTTP_HTTP_H

#include "base/arena.h"
#include "base/block.h"
#include "base/buffer.h"
#include "base/view.h"
#include "http/abuse.h"
#include <stdint.h>
#include <sys/uio.h>

struct http_header {
    struct view name; // lower case
    struct view value;
};

// A run of bytes to send. block != NULL: one reference is handed over with the run, given back when the
// last byte has left (or never will). block == NULL: static memory or the exchange's arena/body.
struct http_seg {
    const uint8_t *p;
    size_t n;
    struct block *block;
};

enum http_carrier { HTTP_1_0, HTTP_1_1, HTTP_2 };

struct http_limits {            // one struct for all bounds; defaults by http_limits_default
    uint32_t max_headers;       // 100 fields, cookie crumbs counted
    uint32_t max_header_bytes;  // 32 KiB: sum of name + value + 32
    uint32_t max_target;        // 8 KiB
    size_t max_body;            // 64 MiB
    uint32_t max_streams;       // 128
    uint32_t abuse_budget;      // 200 points: http/abuse.h
    uint64_t header_timeout_us; // 10 s from accept / from the first byte of the next request
    uint64_t body_timeout_us;   // 10 s without data
    uint32_t body_min_rate;     // 500 bytes/s over 20 s
    uint64_t idle_timeout_us;   // 75 s keep-alive without a request
    uint64_t
        send_timeout_us; // 30 s without progress of a reader; stream held by a zero window 10 s
    uint64_t stream_stall_us; // 10 s
};
void http_limits_default(struct http_limits *l);

// ---- server ----------------------------------------------------------------------------------------

struct http_conn;
struct exchange;

// What the rooms above supply; called from inside http_conn_recv/_on_timer/_closed, on the loop's thread.
struct http_server_ops {
    // The head is complete. May respond at once (then the body is discarded), may set ex->max_body
    // (<= limits.max_body; larger bodies are answered 413 by the room). Must not free anything.
    void (*on_head)(struct exchange *ex, void *ctx);
    // The body is whole: ex->body. Respond now or later, exactly once, with exchange_respond.
    void (*on_request)(struct exchange *ex, void *ctx);
    // More of a body that streams (ex->streams) is in ex->body; who has read it consumes it (buffer_consume). on_request
    // comes behind the last of it, also when the answer flows already. NULL: no body streams.
    void (*on_body)(struct exchange *ex, void *ctx);
    // The client has gone (reset, closed) before the response was handed over. Respond no more.
    // Called at most once and never after the response was complete.
    void (*on_gone)(struct exchange *ex, void *ctx);
    // The last byte of the response has been taken by http_conn_sent (HTTP/2: its last frame has been made;
    // at most 256 KiB of output are before it), or never will be (client gone mid-answer). Exactly once for
    // each exchange that was responded to. For the access log. NULL: not wanted.
    void (*on_sent)(struct exchange *ex, bool whole, void *ctx);
    // The room refuses a request: 400, 405, 408, 413, 414, 417, 431, 503 or 505, and `why` in printable ASCII
    // without quotes. The room above knows the client's protocol: it answers ex with exchange_respond before
    // it returns, and on_sent follows as for any answer; what it leaves unanswered gets `why` as JSON. on_head
    // may not have come for ex yet (then nor does on_sent, and its fields are those that have been read). ex
    // NULL: bytes that are no HTTP/1.1 request; only the room can answer them. c: the connection.
    void (*on_refuse)(struct http_conn *c, struct exchange *ex, unsigned status, const char *why,
                      void *ctx);
    // A body, or what became of it, is about to be charged: false refuses (503 by the room). NULL: unlimited. Every charge
    // is given back with a negative delta when the exchange is freed (ex->conn may be NULL by then). Never
    // before on_head.
    bool (*on_charge)(struct exchange *ex, int64_t delta_bytes, void *ctx);
    // HTTP/1: the peer has closed its half, and nothing tells whether it still reads. True: what it has sent whole is answered,
    // then the connection ends; a reset, or a write that fails, still means that it has gone. False, NULL: it has gone.
    bool (*on_half_close)(struct http_conn *c, void *ctx);
    // The connection costs more than it may: ABUSE_NO_NEW, ABUSE_CUT or ABUSE_WENT_ON has just become its lot,
    // each at most once. To be counted; touch nothing. NULL: not counted.
    void (*on_abuse)(struct http_conn *c, enum abuse_kind kind, enum abuse_verdict verdict,
                     void *ctx);
    // An answer that flows (exchange_start) has room for more: gives pieces with exchange_put, its end with
    // exchange_end or exchange_cut, or nothing: then its source is silent until exchange_wake. Calls nothing else of
    // this room. NULL: no answer flows.
    void (*on_want)(struct exchange *ex, void *ctx);
};

struct http_flow;

struct exchange {
    struct http_conn *conn; // NULL after the connection has gone
    enum http_carrier carrier;
    struct view method, scheme, authority;
    struct view
        path; // canonical: dot segments removed, unreserved escapes decoded; starts with '/'
    struct view query;           // without '?', raw
    struct http_header *headers; // without hop-by-hop fields
    unsigned n_headers;
    struct arena arena; // lives as long as the exchange
    struct buffer body; // de-chunked, still content-encoded
    size_t max_body;
    uint64_t started_us; // first byte of the head
    uint64_t body_us;    // body complete
    uint16_t status;     // of the response, 0 while none was given
    uint64_t sent_bytes; // response body bytes handed over
    void *user;          // the room above's
    // Set in on_head, HTTP/2 only: the body is told as it comes (on_body), and max_body bounds what is not consumed.
    bool streams;
    // The connection drains and serves no more: an answer that flows without an end of its own is to end now.
    bool closing;
    // private to http/ from here
    struct exchange *next, **prev;
    const struct http_server_ops *ops;
    void *ctx;
    uint32_t refs;
    uint32_t stream_id; // HTTP/2, while it is open
    uint32_t cap_headers, header_bytes;
    int64_t charged;      // bytes told to on_charge
    int64_t body_left;    // bytes that are still to come; -1: as many as do
    uint64_t progress_us; // last byte of the body, or last byte of the answer that a window let go
    uint64_t rate_from_us, rate_bytes; // of the body: minimum rate in windows of 20 s
    bool told;                         // on_head was called
    bool whole_request;                // the body is complete
    bool responded, discard, is_head, keep_alive, gone, sent_told;
    struct http_seg *out; // HTTP/2: the answer's segments, in the arena
    uint32_t n_out, out_at;
    size_t out_off; // in out[out_at]
    struct http_header *trailers;
    uint32_t n_trailers;
    struct http_header *fields; // of the head, until it is made
    uint32_t n_fields;
    bool head_due, failed; // the head is to be made; there was no memory for the answer
    bool continue_due;     // 100 is to be said, unless it is answered before
    struct exchange *turn_next,
        **turn_prev;        // of those that may have something to send; NULL: not among them
    int64_t send_window;    // the peer's, of this stream
    uint32_t recv_used;     // of ours, since it was last given back
    struct http_flow *flow; // NULL: the answer does not flow
};

struct view exchange_header(const struct exchange *ex, const char *lower_name); // .p NULL: absent
// Charges what the exchange holds by now (its body, its arena) and `beside`: what it holds elsewhere, or is
// about to take. What it holds less than before is given back, the rest when it is freed. False: the bound is
// reached, nothing has changed.
bool exchange_account(struct exchange *ex, size_t beside);
void exchange_ref(struct exchange *ex);
void exchange_unref(struct exchange *ex); // the connection holds one itself until the end

struct http_response {
    uint16_t status;
    const struct http_header
        *headers; // names lower case; no connection, content-length, transfer-encoding, date
    unsigned n_headers;
    const struct http_seg *body; // content-length is the sum
    unsigned n_body;
    const struct http_header *trailers; // HTTP/2 only (gRPC); with n_body == 0: Trailers-Only form
    unsigned n_trailers;
    bool close; // HTTP/1.1: close after it; HTTP/2: ignored
};
// Exactly once for each exchange (invariant). Names of headers and trailers are static, their values' memory may be
// reused on return; body segments are kept. HEAD, and 304: body suppressed by the room. Harmless after on_gone (blocks are given back).
void exchange_respond(struct exchange *ex, const struct http_response *r, uint64_t now_us);

/* ---- answers that flow: given piece by piece, and pulled. on_want asks for a piece when the one before has gone into
 * the connection's output and the client's window (HTTP/2) or socket has room: a slow client throttles its source,
 * and nothing is held for it but the piece at hand.
 *
 *   exchange_start ─► READY ──on_want: exchange_put──► READY …
 *                       │ ▲                              on_want: exchange_end, _cut ─► ENDED ─► on_sent
 *      on_want: nothing │ │ exchange_wake, exchange_ask_at
 *                       ▼ │
 *                     SILENT
 * Two clocks tell who is silent. READY is the client's: what it does not take in send_timeout_us (HTTP/2: a window that
 * stays shut for stream_stall_us) ends its connection, or its stream, and on_sent(false) says so. SILENT is the
 * source's: it may last, and the source itself says with exchange_ask_at when it wants to be asked again. */

#define FLOW_PIECES 8 // at most, for one on_want

// Instead of exchange_respond: the head of an answer that flows. r has neither body nor trailers; HTTP/1.1 sends chunks,
// HTTP/1.0 closes behind it, HEAD has no more than its head and asks for nothing. HTTP/1: the request is whole. Out of
// memory: the answer is cut.
void exchange_start(struct exchange *ex, const struct http_response *r, uint64_t now_us);
// From on_want only. A piece is kept as a segment of exchange_respond is; an empty one is none.
void exchange_put(struct exchange *ex, struct http_seg piece);
// The end, with trailers (HTTP/2 only; copied) or without; or no end: the client is to see that it did not get all.
void exchange_end(struct exchange *ex, const struct http_header *trailers, unsigned n_trailers);
void exchange_cut(struct exchange *ex);
// on_want is called at at_us, if it has given nothing and is not woken before (HTTP/2: up to half a second later).
void exchange_ask_at(struct exchange *ex, uint64_t at_us);
// The source has something again. Not from on_want. Harmless at any other time, as long as somebody holds ex.
void exchange_wake(struct exchange *ex, uint64_t now_us);

// secure: came over TLS (scheme). h2: ALPN chose h2; else the first bytes decide (preface or HTTP/1).
struct http_conn *http_conn_new(const struct http_limits *l, const struct http_server_ops *ops,
                                void *ctx, bool secure, bool h2,
                                uint64_t now_us); // NULL: out of memory
// Right after http_conn_new: the peer has taken the port for another. tls_wanted: it speaks HTTP without TLS; its first
// request is refused, 400 in words, and the connection ends. Else it speaks TLS where there is none: refused at once.
void http_conn_misled(struct http_conn *c, bool tls_wanted, uint64_t now_us);
// Frees the connection; live exchanges are told (on_gone / on_sent(false)) and live on by their refs.
void http_conn_free(struct http_conn *c, uint64_t now_us);
// Bytes from the peer. The room consumes them all (or buffers within its bounds).
void http_conn_recv(struct http_conn *c, const uint8_t *p, size_t n, uint64_t now_us);
// The peer closed its half: it has gone (nginx's rule), unless on_half_close says otherwise.
void http_conn_eof(struct http_conn *c, uint64_t now_us);
// False: backpressure: pipelined requests wait, or what the peer makes us write is not taken.
bool http_conn_wants_read(const struct http_conn *c);
// Bytes of a request (HTTP/2: of the beginning) have come, and more of it must follow.
bool http_conn_midway(const struct http_conn *c);
// What to send now: fills iov, returns how many; 0: nothing. Then say how many bytes were taken.
int http_conn_gather(struct http_conn *c, struct iovec *iov, int max, uint64_t now_us);
void http_conn_sent(struct http_conn *c, size_t n, uint64_t now_us);
// True: nothing more will come; close once gather says 0 (a short lingering read is net/'s business).
bool http_conn_done(const struct http_conn *c);
uint64_t
http_conn_deadline(const struct http_conn *c); // earliest moment on_timer wants to run; UINT64_MAX
void http_conn_on_timer(struct http_conn *c, uint64_t now_us);
// Graceful. Requests are served until serve_until_us: until then HTTP/1.1 answers with connection: close, and HTTP/2
// hears nothing, since a client opens no stream on a connection that was told to end. Called again when that
// moment has come (or for the first time then): HTTP/2 sends GOAWAY (2^31-1, then the real one), and answers
// without an end end. One that rests (HTTP/1.1), or has said nothing yet, stays open for a moment longer.
void http_conn_drain(struct http_conn *c, uint64_t serve_until_us, uint64_t now_us);
unsigned http_conn_live(const struct http_conn *c); // exchanges not yet answered whole
void *http_conn_user(struct http_conn *c);          // net's and gateway's pointer
void http_conn_set_user(struct http_conn *c, void *user);
// The value of `date` in HTTP/1.1 and HTTP/2 answers given by this thread (29 bytes, RFC 9110 5.6.7); set once
// a second by whoever reads the clock. Not set: no such field.
void http_set_date(struct view date);

// ---- HTTP/2 client (workers) -----------------------------------------------------------------------

struct http_client;
struct http_call;

enum http_call_end {
    CALL_ANSWERED, // whole response, trailers included
    CALL_REFUSED,  // not processed by the peer (REFUSED_STREAM, GOAWAY below us, no stream left)
    CALL_NO_ROOM, // the account of blocks has no room for its answer: reset by us, and no fault of the peer
    CALL_RESET, // RST_STREAM by the peer
    CALL_LOST,  // connection gone
    CALL_ABANDONED, // connection closed by us (said by net/peer: this room knows of no other end than LOST)
    CALL_TOO_LARGE, // answer over the bound: reset by us
    CALL_MALFORMED, // broken HTTP or gRPC framing, or header blocks over the bound
    CALL_CANCELLED  // by us, confirmed: no frame refers to the lent bytes any more
};

struct http_client_ops {                                // all from the client's loop
    void (*on_ready)(struct http_client *c, void *ctx); // peer's SETTINGS came
    // Exactly once for each call, never from inside http_client_call (collect, then call: it fires from
    // recv, gather, timer or close). After it no frame refers to the request's segments.
    void (*on_end)(struct http_call *call, enum http_call_end end, void *ctx);
};

#define HTTP_GRPC_MESSAGE 2048 // bytes of grpc-message, decoded; the rest is cut

struct http_call {
    void *user;
    uint16_t status;          // :status
    int grpc_status;          // from trailers or Trailers-Only; -1: absent
    struct view grpc_message; // percent-decoded, cut, in the call's arena: any bytes
    struct block *body; // the answer's bytes after gRPC de-framing: body->data[0 .. body_bytes);
    size_t body_bytes;  // taken over by on_end's callee with http_call_take_body
    struct arena arena;
    uint32_t rst_code; // CALL_RESET: the peer's code
    // What the server asks for before the next try (grpc-retry-pushback-ms, gRFC A6); 0: nothing. A second
    // when it says "never" (negative) or what cannot be read.
    uint64_t pushback_us;
    struct http_client *client;
    // private
    struct http_call *next, **prev;
    int32_t stream_id;
    struct http_seg *segs; // segs[0] is the 5-byte prefix
    uint32_t n_segs, seg_at;
    size_t seg_off;
    uint8_t prefix[5], got_prefix[5];
    uint8_t n_prefix;
    uint32_t expect; // bytes of the answer's message
    uint32_t n_fields,
        field_bytes; // of the answer's header blocks, counted as a server counts them
    uint32_t queued; // runs of its bytes that wait in the connection's output
    bool ended, closed, grpc_flagged;
    enum http_call_end end;
};

struct http_client_limits {
    size_t max_answer;     // 256 MiB
    uint32_t frame_bytes;  // 1 MiB: SETTINGS_MAX_FRAME_SIZE we announce and use if the peer allows
    uint32_t window_bytes; // 16 MiB, connection and stream
    bool secure;           // over TLS: what :scheme says
};

struct http_client *http_client_new(const struct http_client_limits *l,
                                    const struct http_client_ops *ops, void *ctx,
                                    struct block_owner *blocks, struct view authority);
void http_client_free(struct http_client *c); // live calls end CALL_LOST first
// Of answers whose length is read from now on.
void http_client_set_max_answer(struct http_client *c, size_t max_answer);
// gRPC unary call: POST path, content-type application/grpc, te: trailers, grpc-timeout from timeout_us
// (0: none). segs are the message WITHOUT the 5-byte prefix (the room writes it); they are referenced,
// not copied, until on_end; the array itself is copied. more: fields of the head beside those, printable ASCII, at most
// HTTP_CALL_FIELDS; copied. NULL: not possible now (not ready, too many streams, draining, out of memory).
#define HTTP_CALL_FIELDS 4
struct http_call *http_client_call(struct http_client *c, struct view path,
                                   const struct http_header *more, unsigned n_more,
                                   const struct http_seg *segs, unsigned n, uint64_t timeout_us,
                                   void *user);
void http_call_cancel(struct http_call *call); // RST_STREAM CANCEL; on_end(CALL_CANCELLED) follows
struct block *http_call_take_body(struct http_call *call); // the reference is yours
void http_client_recv(struct http_client *c, const uint8_t *p, size_t n, uint64_t now_us);
int http_client_gather(struct http_client *c, struct iovec *iov, int max);
void http_client_sent(struct http_client *c, size_t n);
// Makes frames up to the bound of the output although nothing can be sent now: a reset that has been made
// ends its call, whether or not the socket takes anything.
void http_client_fill(struct http_client *c);
bool http_client_ready(const struct http_client *c);
bool http_client_done(const struct http_client *c);     // broken or drained: close it
unsigned http_client_room(const struct http_client *c); // streams that may be opened now

// ---- gRPC helpers (server side) ----------------------------------------------------------------------

// content-type starts with application/grpc?
bool grpc_is(const struct exchange *ex);
// "100m" -> microseconds; false: malformed. Saturates at 10^15.
bool grpc_timeout_parse(struct view v, uint64_t *us);
unsigned grpc_timeout_print(char out[16], uint64_t us);

#endif
