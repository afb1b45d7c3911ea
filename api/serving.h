/* api/serving.h: the life of one exchange from its head to its answer: read, decoded, submitted for inference,
 * encoded, answered. Gateway and worker serve with it; what differs is their serving_ops. Thinks.
 * Thread: the exchange's loop. Memory: the exchange's arena.
 *
 *   HEAD ─body whole─► DECODING ─submit─► OUT ─serving_answer─► ANSWERING ─encoded─► ANSWERED
 *    │                    │                │                        │
 *    ├─ not known yet ─► AWAITING ─serving_again─► as behind HEAD
 *    ├── small, refused ──┴────────────────┴── serving_fail         │ (too large: an error instead)
 *    ├────────────────────┴────────────────┴────────────────────────┴── client gone ─► GONE
 *    └── flows ─► FLOWING ─serving_on_want …─ serving_on_sent ─► ANSWERED
 *    (reflection: with the first message, and the body goes on; large JSON: out of ANSWERING, with its first step)
 *
 * A large body or answer takes several turns of the loop. What returns `more` wants serving_step to be called in a
 * later turn, and so until it returns false; serving_on_gone ends that wish. spent: this turn has worked for long
 * enough, decoding or encoding begins in a later one. */
#ifndef SLUICE_API_SERVING_H
#define SLUICE_API_SERVING_H

#include "api/api.h"

#define SERVING_WHY 512 // bytes of a reason that are kept

enum serving_phase {
    SERVING_HEAD,
    SERVING_AWAITING, // what it is to be decoded by, or to be answered with, may be known soon
    SERVING_DECODING,
    SERVING_OUT, // submitted, and neither answered nor refused
    SERVING_ANSWERING,
    SERVING_FLOWING,
    SERVING_ANSWERED,
    SERVING_GONE
};

struct serving;
struct serving_ops {
    size_t bytes; // of what has a struct serving as its first member
    // Of the model that s->call names; or, where it names none, whether the server is ready. False, NULL: e says
    // why the model is not known.
    bool (*ready)(struct serving *s, bool *ready, struct error *e);
    const struct model_metadata *(*metadata)(struct serving *s, struct error *e);
    // In the exchange's arena. False: e.
    bool (*index)(struct serving *s, struct oip_index *out, struct error *e);
    // Of the model, or its version, that s->call names, or of all; in the exchange's arena. False: e.
    bool (*statistics)(struct serving *s, struct oip_statistics *out, struct error *e);
    // A reward (s->call.feedback): the variant that it was counted as. False: e. NULL: there is no such path.
    bool (*feedback)(struct serving *s, struct view *variant, struct error *e);
    // *s->request is complete. True: it was accepted; serving_release then follows exactly once, answered or not,
    // perhaps before this returns. False: e.
    bool (*submit)(struct serving *s, uint64_t now_us, struct error *e);
    // What has just been refused may be answered soon. True: it waits, and serving_again follows once, or abandon. False,
    // NULL: it is refused. Not asked of whether something is ready: who asks that wants to know how it is now.
    bool (*await)(struct serving *s, uint64_t now_us);
    void (*abandon)(struct serving *s);       // OUT or AWAITING, and the client has gone
    enum api_cors (*cors)(struct serving *s); // of s->call.origin. NULL: no page of another origin
    // The first one watches what is ready: serving_look is to be called, in SERVING_LOOK_US and so on.
    void (*watched)(struct serving *s);
};

struct serving {
    const struct serving_ops *ops;
    struct api *api;
    struct exchange *ex;
    struct infer_request *request; // where it is decoded to: set before serving_route
    enum serving_phase phase;
    enum status outcome; // of the answer; STATUS_CLIENT_GONE: the client left before it
    struct view why; // the error's text, truncated, in the exchange's arena; empty with STATUS_OK
    struct api_call call;
    struct answer_meta meta; // its model to compute_us: set before serving_answer
    size_t in_bytes;         // of the body as it came: decoding may replace it
    // private
    struct api_decoder *decoder;
    const struct slice *slice;
    struct api_answer *answer; // begun, and not at its end
    bool sent;                 // on_sent came, perhaps before the answer's start returned
    struct watch *watch;       // FLOWING: API_HEALTH_WATCH
    uint64_t begun_us;         // API_REFLECT: since when a message is not whole; 0: none is
    bool heard_all;
    bool released;
    char id[32];
};

// On the head: makes ex->user, zeroed but for the above. NULL: out of memory, and it was answered so.
void *serving_new(struct exchange *ex, struct api *a, const struct serving_ops *ops,
                  uint64_t now_us);
// Reads the head; what no route takes is answered. random: for a request id.
void serving_route(struct serving *s, const uint64_t random[2], uint64_t now_us);
bool serving_on_request(struct serving *s, bool spent, uint64_t now_us);
bool serving_step(struct serving *s, uint64_t now_us);
// AWAITING: something was heard, or it has waited for long enough. As serving_on_request.
bool serving_again(struct serving *s, bool spent, uint64_t now_us);
// OUT: the answer, of which one reference on the block of each part is taken over, or the error. Harmless when the client has
// gone. slice stays as long as the exchange. retry_after_ms: 0: API_RETRY_MS with 503, else none.
bool serving_answer(struct serving *s, const struct slice *slice, bool spent, uint64_t now_us);
void serving_fail(struct serving *s, const struct failure *e, uint32_t retry_after_ms,
                  uint64_t now_us);
// Nobody who had it in hand refers to it any more: it may go with its exchange.
void serving_release(struct serving *s);
void serving_on_gone(struct serving *s);
void serving_on_body(struct serving *s, uint64_t now_us);
// As serving_step: more is wanted in a later turn.
bool serving_on_want(struct serving *s, bool spent, uint64_t now_us);
// True: it was one that flows, and no serving_step is wanted any more.
bool serving_on_sent(struct serving *s);
// To be called every SERVING_LOOK_US: wakes each health Watch whose service has another state than its client was told.
// False: there is no Watch left.
#define SERVING_LOOK_US 50000
bool serving_look(struct api *a, uint64_t now_us);
// What http/ refuses (http_server_ops.on_refuse), with or without a serving.
void serving_refuse(struct exchange *ex, struct api *a, unsigned status, const char *why,
                    uint64_t now_us);

#endif
