/* http/conn.h: inside of the room: one server connection and what its two carriers share. Thinks. */
#ifndef SLUICE_HTTP_CONN_H
#define SLUICE_HTTP_CONN_H

#include "http/http.h"
#include "http/out.h"

#define HTTP_PREFACE_BYTES 24
extern const char http_preface[]; // of HTTP/2 (RFC 9113 3.4)

enum conn_kind { CONN_FRESH, CONN_H1, CONN_H2 };

enum h1_state {
    H1_REQUEST_LINE,
    H1_FIELDS,
    H1_BODY,
    H1_CHUNK_SIZE,
    H1_CHUNK_DATA,
    H1_CHUNK_END,
    H1_TRAILERS,
    H1_WAIT,
    H1_STOP
};

struct h1 {
    enum h1_state state;
    struct buffer line;    // of a line that is not whole yet
    struct buffer pending; // pipelined bytes behind the request at hand
    struct exchange *ex;   // the request at hand; NULL between requests
    uint64_t started_us;   // first byte of the request at hand
    uint64_t chunk_left;
    uint64_t overhead; // framing bytes of this body
    uint32_t trailer_bytes;
    bool saw_host, saw_length, saw_coding, expect_continue, close_asked, keep_asked;
    bool parsing; // inside on_head: what becomes of the body is decided after it
    bool ended;   // the peer sends nothing more, and what it has sent whole is answered
};

struct http_conn {
    const struct http_limits *limits;
    const struct http_server_ops *ops;
    void *ctx, *user;
    enum conn_kind kind;
    bool secure, done, draining;
    bool mute; // output was dropped in its middle: nothing may follow it
    struct out out;
    struct exchange *live; // not yet answered whole
    unsigned n_live;
    uint64_t accepted_us;
    uint64_t head_since_us; // first byte of the head at hand (or accept); 0: between requests
    uint64_t idle_since_us; // since when nothing is live; 0: something is
    bool closing;           // draining, and nothing is served any more: it was told
    const char *misled;     // why nothing is served here from the start; NULL: it is
    uint64_t rest_until_us; // HTTP/1.1 while draining: how long it may rest
    bool rest_begins;       // the last answer is still leaving: idle since then
    uint64_t sent_us;       // last progress of the output while something waits; 0: nothing waits
    uint64_t tick_us;       // HTTP/2: next look at the streams
    uint64_t now_us;        // of the call at hand
    struct h1 h1;
    struct h2_conn *h2;
    struct abuse abuse;
    uint8_t preface[HTTP_PREFACE_BYTES];
    unsigned n_preface;
};

// ---- exchange.c
// Where a text says what is wrong with a request: this one is about us. Known by its address.
extern const char out_of_memory[];
struct exchange *exchange_new(struct http_conn *c, enum http_carrier carrier, uint64_t now_us);
enum field_result { FIELD_OK, FIELD_TOO_MANY, FIELD_NO_MEMORY };
// Accounts for and copies one field; name is lowered.
enum field_result exchange_add_field(struct exchange *ex, struct view name, struct view value);
// Removes hop-by-hop fields and those that Connection nominates. NULL, or what is wrong.
const char *exchange_drop_hops(struct exchange *ex);
// Body bytes: false: too large or refused; *status says 413 or 503.
bool exchange_body(struct exchange *ex, const uint8_t *p, size_t n, unsigned *status);
void exchange_tell_head(struct exchange *ex);
void exchange_tell_request(struct exchange *ex, uint64_t now_us);
void exchange_tell_gone(struct exchange *ex);             // unless it was answered
void exchange_tell_sent(struct exchange *ex, bool whole); // once
void exchange_detach(struct exchange *ex);                // the connection is done with it
void exchange_lose(struct exchange *ex); // its client has gone before it was answered
// Has the room above answer it, or does it in its place; its body is freed. Not yet answered.
void exchange_refuse(struct exchange *ex, unsigned status, const char *why, uint64_t now_us);
// Rows 76, 77. The moment at which this body's clock wants a look, if nothing more of it comes until then; whether
// it has been silent for too long, or slower than the least rate over a window (a window that was well begins anew).
uint64_t exchange_body_deadline(const struct exchange *ex, const struct http_limits *l);
bool exchange_body_is_slow(struct exchange *ex, const struct http_limits *l, uint64_t now_us);
void drop_segs(const struct http_response *r); // gives the body's blocks back
#define TRAILERS_MOST 32
// Copies them for HTTP/2. False: out of memory.
bool keep_trailers(struct exchange *ex, const struct http_header *trailers, unsigned n);
// Content-Length as a number; false: it is none, or too large for 63 bits.
bool content_length_of(struct view v, int64_t *out);

// ---- flow.c
enum flow_state { FLOW_READY, FLOW_SILENT, FLOW_ENDED };
struct http_flow { // in the exchange's arena
    enum flow_state state;
    bool asking; // inside on_want
    bool cut;
    uint64_t ask_us;
    struct http_seg piece[FLOW_PIECES]; // what ex->out is
};
static inline bool is_flowing(const struct exchange *ex)
{
    return ex->flow && ex->flow->state != FLOW_ENDED;
}
// The room above reads its body as it comes: until it is answered whole.
static inline bool is_streaming(const struct exchange *ex)
{
    return ex->streams && (!ex->responded || is_flowing(ex));
}
static inline bool flow_is_silent(const struct exchange *ex)
{
    return ex->flow && ex->flow->state == FLOW_SILENT;
}
// What was held has been taken: asks for more. False: there is none now, and the source is silent.
bool flow_ask(struct exchange *ex);
void flow_tell_closing(struct http_conn *c); // all of them
static inline uint64_t flow_deadline(const struct exchange *ex)
{
    return flow_is_silent(ex) ? ex->flow->ask_us : UINT64_MAX;
}

// ---- h1.c
void h1_init(struct http_conn *c);
void h1_recv(struct http_conn *c, const uint8_t *p, size_t n, uint64_t now_us);
void h1_resume(struct http_conn *c, uint64_t now_us); // pipelined requests, after an answer
void h1_end_input(struct http_conn *c);               // nothing more will come
void h1_rest(struct http_conn *c);                    // gives back what a long line needed
void h1_respond(struct exchange *ex, const struct http_response *r, uint64_t now_us);
void h1_start(struct exchange *ex, const struct http_response *r, uint64_t now_us);
void h1_refuse(struct http_conn *c, unsigned status, const char *why, uint64_t now_us);
void h1_deinit(struct http_conn *c);

// ---- h2_server.c, h2_in.c, h2_out.c
bool h2_init(struct http_conn *c, uint64_t now_us); // false: out of memory
void h2_recv(struct http_conn *c, const uint8_t *p, size_t n, uint64_t now_us);
void h2_respond(struct exchange *ex, const struct http_response *r, uint64_t now_us);
void h2_start(struct exchange *ex, const struct http_response *r, uint64_t now_us);
void h2_wake(struct exchange *ex);
void h2_detach(struct http_conn *c, struct exchange *ex); // the stream is over
void h2_fill(struct http_conn *c, uint64_t now_us);       // frames into c->out
void h2_drain(struct http_conn *c);
void h2_terminate(struct http_conn *c, unsigned code); // GOAWAY; nothing more is read
void h2_tick(struct http_conn *c, uint64_t now_us);    // time-outs of streams
void h2_deinit(struct http_conn *c);

// ---- path.c
// The canonical form of a target's path and query into the arena. Returns NULL, or what is wrong.
const char *path_canonical(struct arena *a, struct view target, struct view *path,
                           struct view *query);
bool authority_ok(struct view v);
bool authorities_ok(
    struct view v); // one, or several with commas between: of a channel of gRPC to many addresses

const char *http_reason(unsigned status);
#define HTTP_ALLOWED "GET, HEAD, POST" // what is ever served, for a 405 that knows no better
extern _Thread_local char http_date[32];
extern _Thread_local unsigned http_date_n;

#endif
