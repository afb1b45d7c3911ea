/* backends/worker.h: a model server as one loop sees it: one connection that carries OIP gRPC. Any OIP gRPC
 * server will do: ours, Triton, MLServer, KServe. Every loop has such a connection to every server; one of them
 * is the server's owner, which alone probes it at intervals and asks what it has. Does. Thread: its loop's.
 *
 *   DOWN ─timer─► CONNECTING ─SETTINGS─► ASKING ─worker_believe─► READY
 *    ▲                │                    │ ◄──── GOAWAY ──────────┤
 *    └────────────────┴───── on_down ──────┴── lost, hangs, replaced ┘
 *
 * W1  Models are served only after worker_believe, of a roster whose questions were asked after this connection
 *     came up. That a model is not ready (any more) ends no call: those that run end as they end.
 * W2  Whether it hangs is judged by backends/probe.h alone, on this connection: by questions of ServerLive, to which
 *     any answer will do. What it has (backends/inquiry.h) is asked with a patience of its own, and proves nothing.
 * W3  A call ends exactly once by on_infer_end; after it no frame refers to the segments that were lent. It ends
 *     CALL_ABANDONED when it was we who closed the connection.
 * W4  A connection on which the server has said GOAWAY serves no models and is not judged: what runs there ends,
 *     then another one is made. */
#ifndef SLUICE_BACKENDS_WORKER_H
#define SLUICE_BACKENDS_WORKER_H

#include "backends/probe.h"
#include "backends/roster.h"
#include "http/http.h"
#include "net/peer.h"

enum worker_state { WORKER_DOWN, WORKER_CONNECTING, WORKER_ASKING, WORKER_READY, WORKER_STATES };
extern const char *const worker_state_name[WORKER_STATES];

struct worker;

struct worker_ops {
    void (*on_state)(struct worker *w, void *ctx); // worker_state says which
    void (*on_up)(struct worker *w, void *ctx);    // ASKING: it wants news of the server
    // Owner: a round of questions is over. why: empty, and worker_learnt says what it has; else why that
    // could not be learnt.
    void (*on_learnt)(struct worker *w, const char *why, void *ctx);
    // What worker_believe changes: models that are served from now on, or no more (of the connection's end
    // too, before on_down). Metadata stays valid until on_model_gone of it has returned.
    void (*on_model)(struct worker *w, const struct model_metadata *m, void *ctx);
    void (*on_model_gone)(struct worker *w, struct view name, void *ctx);
    void (*on_probed)(struct worker *w, void *ctx); // a probe was answered
    void (*on_missed)(struct worker *w, void *ctx); // the first one in a row was not
    void (*on_hangs)(struct worker *w, void *ctx);  // nor were the others: on_down follows
    // The connection is gone (or was given up); every call has ended before.
    void (*on_down)(struct worker *w, const char *why, void *ctx);
    // A call of worker_infer has ended.
    void (*on_infer_end)(struct worker *w, struct http_call *call, enum http_call_end end,
                         void *user, void *ctx);
};

struct worker_rules {         // what may change while it lives
    struct probe_rules probe; // interval: of the owner's probes, and of its rounds of questions
    size_t max_answer;
    // Owner: models that the configuration names; views stay alive until others are given.
    const struct view *known_models;
    unsigned n_known_models;
};

struct worker_config {
    struct addr addr;
    struct tls_client *tls; // NULL: plain
    const char *name;       // for logs: "cpu/0"
    bool owner;
    struct worker_rules rules;
};

struct worker *worker_new(struct loop *l, const struct worker_config *c,
                          const struct worker_ops *ops,
                          void *ctx); // NULL: out of memory
// Others from now on: what is out or waits goes by those that it began with.
void worker_set_rules(struct worker *w, const struct worker_rules *rules);
void worker_start(struct worker *w); // connects as soon as possible, and again after each loss
void worker_free(struct worker *w);  // calls end CALL_ABANDONED first; no on_down
enum worker_state worker_state(const struct worker *w);
const char *worker_name(const struct worker *w);
uint32_t worker_pid(const struct worker *w);   // peer_pid of its connection; 0: unknown
uint64_t worker_up_us(const struct worker *w); // since when its connection is up, if it is

// The keeper says that the process was started anew: do not sit out the backoff.
void worker_kick(struct worker *w);
// An answer made somebody doubt it: it is probed now, on this connection.
void worker_doubt(struct worker *w);
// Replaces the connection at the next turn: every call ends CALL_ABANDONED.
void worker_replace(struct worker *w, const char *why);

// Owner: a loop wants to hear what the server has, by questions asked from now on. Wishes are numbered,
// growing; those that come while a round runs are answered by the next.
void worker_news(struct worker *w, uint64_t wish);
// Owner: what is known, and the newest wish that it answers. NULL: nothing.
struct roster *worker_learnt(const struct worker *w, uint64_t *wish);
// That is what the server has. A reference is taken. Not up: nothing happens.
void worker_believe(struct worker *w, struct roster *r);
// on_model of each model that is served, once more: one that could not be taken in then may find room now.
void worker_repeat(struct worker *w);

// ModelInfer with this message (without the 5-byte prefix). segs are referenced until on_infer_end;
// their block references are not consumed. more: metadata beside it, as http_client_call has it. NULL: not ready, or no
// stream free (one is kept for probes).
struct http_call *worker_infer(struct worker *w, const struct http_header *more, unsigned n_more,
                               const struct http_seg *segs, unsigned n, uint64_t timeout_us,
                               void *user);
// on_infer_end(CALL_CANCELLED) follows.
void worker_cancel(struct worker *w, struct http_call *call);

// A model that is served on this connection; NULL: it is not. Valid until on_model_gone of it.
const struct model_metadata *worker_model(struct worker *w, struct view name);

// What its server has, as is believed on this connection; NULL: nothing yet. Valid until the next turn.
const struct roster *worker_roster(const struct worker *w);

struct worker_stats {
    uint64_t connects, losses, probes, probes_missed, rounds, calls;
    unsigned in_flight;
    unsigned models;
    uint64_t since_us; // of the present state
};
void worker_stats(const struct worker *w, struct worker_stats *out);
// One JSON object: state, counts, models; "wrong" when what it holds does not fit its state. why_not: why its owner does not
// serve a model that it could have; NULL: it does.
struct json_writer;
void worker_show(const struct worker *w, const char *(*why_not)(struct view name, void *ctx),
                 struct json_writer *out);

#ifdef SLUICE_DOORS // gateway/doors.h: the next probe, or the time-out of the one that is out, comes earlier
void worker_skew(struct worker *w, uint64_t us);
#endif

#endif
