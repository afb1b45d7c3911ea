/* api/api.h: an exchange (HTTP) read as a call of the Open Inference Protocol, and answered: REST with
 * JSON or binary tensors, gRPC, health. Used by gateway and worker alike. Thinks: time, randomness and
 * model tables are arguments. Thread: the exchange's loop. Memory: the exchange's arena, for as long as
 * it lives; one struct api a loop holds the scratch. In which order the functions are called: api/serving.h. */
#ifndef SLUICE_API_API_H
#define SLUICE_API_API_H

#include "http/http.h"
#include "infer/failure.h"
#include "infer/memo.h"
#include "infer/oip.h"
#include "infer/oip_statistics.h"

struct api_carry { // exchange_respond, exchange_start and exchange_wake, or what calls them
    void (*respond)(struct exchange *ex, const struct http_response *r, uint64_t now_us);
    void (*start)(struct exchange *ex, const struct http_response *r, uint64_t now_us);
    void (*wake)(struct exchange *ex, uint64_t now_us);
    struct block_owner *blocks; // the loop's: for the pieces of answers that flow
};
struct api { // one a loop
    struct buffer scratch;
    struct api_carry carry;
    struct view server_name, server_version;
    unsigned
        n_extensions; // of oip_extensions, that it says it speaks: OIP_EXTENSIONS_CORE unless set
    struct watch *watches; // api/watch.h
};
void api_init(struct api *a, const struct api_carry *carry, struct view server_name,
              struct view server_version);
void api_deinit(struct api *a);

enum api_kind {
    API_REFUSED, // error: 404, 405, 415, …
    API_INFER,
    API_SERVER_LIVE,
    API_SERVER_READY,
    API_SERVER_METADATA,
    API_MODEL_READY,
    API_MODEL_METADATA,
    API_MODEL_CONFIG,
    API_INDEX,
    API_STATISTICS,   // call.model empty: of all
    API_HEALTH_CHECK, // grpc.health.v1: call.model is the service asked for
    API_HEALTH_WATCH,
    API_FEEDBACK, // api/feedback.h
    API_REFLECT,  // grpc.reflection.v1 and v1alpha
    API_KINDS
};

// What a listener says of the origin of a page (the Fetch standard, CORS protocol).
enum api_cors {
    CORS_OFF,      // it allows none, or none was named
    CORS_STRANGER, // not this one
    CORS_ORIGIN,   // this one
    CORS_ANY       // all
};
enum api_options { // a question about a path, not for it: API_REFUSED
    OPTIONS_NONE,
    OPTIONS_SERVER,   // OPTIONS *
    OPTIONS_PREFLIGHT // what a browser asks before a page's request
};

struct api_feedback;

struct api_call {
    enum api_kind kind;
    bool grpc;                  // how to answer
    bool ready_only;            // API_INDEX
    struct view model, version; // gRPC: known after api_read or the decoder
    const char *allow;          // API_REFUSED with STATUS_METHOD: "GET, HEAD"
    uint64_t timeout_us;        // grpc-timeout; 0: none
    // What the head says of the body; .p NULL: nothing.
    struct view content_type, content_encoding, grpc_encoding, infer_header;
    bool infer_header_twice;
    bool no_store,
        no_cache; // of cache-control: its answer is not to be kept; not to come from what is
    struct view chain, priority;                     // sluice-chain, sluice-priority
    struct view origin, asked_method, asked_headers; // origin, access-control-request-*
    enum api_options options;
    enum api_cors cors;            // set by the caller after api_route, where an origin was named
    struct view request_id;        // set by the caller after api_route: the small answers carry it
    struct request_trace trace;    // its id likewise
    struct api_feedback *feedback; // API_FEEDBACK: set by api_read, in the exchange's arena
    // API_INFER: set by the caller before api_decode_begin: what it asks may be known from before. NULL: it is not looked for.
    struct memo_ask *memo;
};

// What the head asks for. API_REFUSED: e says why; answer it with api_answer_error.
enum api_kind api_route(const struct exchange *ex, struct api_call *out, struct error *e);

// The body of the small calls (not API_INFER): names out of the message, parameters of the index.
bool api_read(struct exchange *ex, struct api_call *call, struct error *e);

// ---- inference ---------------------------------------------------------------------------------------

struct api_decoder;
// The body is whole. meta: of the model that the path names, for raw binary requests; NULL: these are
// refused. call and out stay alive. NULL: out of memory.
struct api_decoder *api_decode_begin(struct exchange *ex, const struct api_call *call,
                                     const struct model_metadata *meta, struct infer_request *out);
// OIP_DONE: out is whole and sealed; its timeout_us is the shortest that the client gave, its trace the call's. OIP_ERROR: e.
enum oip_step api_decode_step(struct api_decoder *d, size_t max_bytes, struct error *e);
// Must be called when the decoder is not needed any more and has not ended (client gone); after the end it
// is harmless.
void api_decode_drop(struct api_decoder *d);

// What is said of every answer (response metadata).
struct answer_meta {
    bool hidden;                // only the request's id is said
    struct view model, version; // that answered; empty: nobody did
    const char *source;         // answer_source_name; NULL: nobody
    bool aged;                  // age_s is told: it comes from a cache
    uint32_t age_s;
    struct view fallback;            // the model asked for, when another answered
    struct view attempts;            // what was tried, when it was more than that; ours, printable
    uint8_t degradation;             // 0..4
    struct view experiment, variant; // empty: none
    uint32_t batch_rows;             // 0: was in no batch
    const char *batch_reason;        // "full", …
    uint64_t parse_us, queue_us, compute_us, total_us;
    struct view request_id; // api_request_id; stays until the answer is given
};

// The client's x-request-id when it is 1..128 visible characters, else 32 hexadecimal digits of random,
// written to out.
struct view api_request_id(const struct exchange *ex, const uint64_t random[2], char out[32]);

struct api_answer;
// Answers an infer. The slice is only read; bytes that are referenced take a reference on its block. When
// the whole answer is small it is given at once (OIP_DONE). OIP_MORE: *more holds what is left to do: call
// api_answer_step until OIP_DONE, keeping request, slice and meta. OIP_ERROR cannot come back: an answer
// that cannot be encoded is answered as that error (e tells what was answered, for the log).
enum oip_step api_answer_infer(struct api *a, struct exchange *ex, const struct api_call *call,
                               const struct infer_request *r, const struct slice *s,
                               const struct answer_meta *meta, uint64_t now_us,
                               struct api_answer **more, struct error *e);
enum oip_step api_answer_step(struct api_answer *w, uint64_t now_us, struct error *e);
// After OIP_MORE. True: the rest is encoded by api_answer_want as the client takes it, and the caller's slice is no longer
// needed. False: go on with api_answer_step.
bool api_answer_flows(const struct api_answer *w);
// False: it was cut, for want of memory.
bool api_answer_want(struct api_answer *w);
// One that flows has ended, or the client left before the end: gives back what it holds.
void api_answer_drop(struct api_answer *w);

// ---- everything else ---------------------------------------------------------------------------------

#define API_RETRY_MS 1000 // retry-after of a 503 that has no estimate: memory is short

// The error's one shape for each protocol. retry_after_ms: in whole seconds, rounded up, as `retry-after`, as it is as
// grpc-retry-pushback-ms; 0: none. meta: NULL: only x-request-id is missing.
void api_answer_error(struct api *a, struct exchange *ex, const struct api_call *call,
                      const struct failure *e, uint32_t retry_after_ms,
                      const struct answer_meta *meta, uint64_t now_us);
// A request that the HTTP room refuses before api_route has seen it: its protocol is read off the fields that came.
void api_answer_unrouted(struct api *a, struct exchange *ex, const struct failure *e,
                         uint64_t now_us);
void api_answer_feedback(struct api *a, struct exchange *ex, const struct api_call *call,
                         struct view variant, uint64_t now_us);
void api_answer_statistics(struct api *a, struct exchange *ex, const struct api_call *call,
                           const struct oip_statistics *statistics, uint64_t now_us);
// To call.options: 200 without a body.
void api_answer_options(struct api *a, struct exchange *ex, const struct api_call *call,
                        uint64_t now_us);
// An answer of gRPC that flows: its head; its end, from on_want. why: printable ASCII without %.
void api_start_grpc(struct api *a, struct exchange *ex, const struct api_call *call,
                    uint64_t now_us);
void api_end_grpc(struct exchange *ex, enum status status, const char *why);
void api_answer_live(struct api *a, struct exchange *ex, const struct api_call *call, bool live,
                     uint64_t now_us);
// API_SERVER_READY, API_MODEL_READY, API_HEALTH_CHECK: REST says 200 or 503 as well.
void api_answer_ready(struct api *a, struct exchange *ex, const struct api_call *call, bool ready,
                      uint64_t now_us);
void api_answer_server(struct api *a, struct exchange *ex, const struct api_call *call,
                       uint64_t now_us);
void api_answer_model(struct api *a, struct exchange *ex, const struct api_call *call,
                      const struct model_metadata *m,
                      uint64_t now_us); // API_MODEL_METADATA, _CONFIG
void api_answer_index(struct api *a, struct exchange *ex, const struct api_call *call,
                      const struct oip_index *index, uint64_t now_us);

// What a browser wants to read of an answer before its page may: at most CORS_HEADERS. call: NULL: nothing.
#define CORS_HEADERS 3
unsigned cors_write(const struct api_call *call, struct http_header out[CORS_HEADERS]);

#endif
