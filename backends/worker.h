/* backends/worker.h: a model server as one loop sees it: one connection that carries OIP gRPC. It
 * connects, asks what the server can do, tells its owner, keeps asking (probes), and comes back after a
 * loss with jittered backoff. Any OIP gRPC server will do: ours, Triton, KServe. Does. Thread: its loop's.
 *
 *   DOWN ─timer─► CONNECTING ─SETTINGS─► ASKING ─ServerReady, index, metadata─► READY
 *    ▲                │                    │                                      │
 *    └────────────────┴──── on_down ───────┴── lost, probes failed, suspect ──────┘
 *
 * Nothing is dispatched before READY. A call ends exactly once by on_infer_end; after it no frame refers
 * to the segments that were lent. */
#ifndef SLUICE_BACKENDS_WORKER_H
#define SLUICE_BACKENDS_WORKER_H

#include "http/http.h"
#include "infer/request.h"
#include "net/peer.h"

#define WORKER_MAX_MODELS 256 // of one worker; the rest is reported and left out

enum worker_state { WORKER_DOWN, WORKER_CONNECTING, WORKER_ASKING, WORKER_READY };

struct worker;

struct worker_ops {
    // A model that this worker serves now. Metadata is valid until on_model_gone or on_down for it.
    // Called for each model before on_ready, and later when the worker loads another.
    void (*on_model)(struct worker *w, const struct model_metadata *m, void *ctx);
    void (*on_model_gone)(struct worker *w, struct view name, void *ctx);
    void (*on_ready)(struct worker *w, void *ctx);
    // The connection is gone (or was given up); every call has ended before. Models are gone with it.
    void (*on_down)(struct worker *w, const char *why, void *ctx);
    // A call of worker_infer has ended.
    void (*on_infer_end)(struct worker *w, struct http_call *call, enum http_call_end end,
                         void *user, void *ctx);
};

struct worker_config {
    struct addr addr;
    struct tls_client *tls; // NULL: plain
    const char *name;       // for logs: "cpu/0"
    uint64_t probe_interval_us, probe_timeout_us;
    unsigned probe_failures; // in a row: the connection is given up
    size_t max_answer;
    // Models to ask for when the server does not know RepositoryIndex; views stay alive.
    const struct view *known_models;
    unsigned n_known_models;
};

struct worker *worker_new(struct loop *l, const struct worker_config *c,
                          const struct worker_ops *ops,
                          void *ctx); // NULL: out of memory
void worker_start(struct worker *w);  // connects as soon as possible, and again after each loss
void worker_free(struct worker *w);   // calls end CALL_LOST first; no on_down
enum worker_state worker_state(const struct worker *w);
const char *worker_name(const struct worker *w);

// The keeper says that the process was started anew: do not sit out the backoff.
void worker_kick(struct worker *w);
// Replaces the connection: every call ends CALL_LOST. For a worker that hangs.
void worker_suspect(struct worker *w, const char *why);

// ModelInfer with this message (without the 5-octet prefix). segs are referenced until on_infer_end;
// their block references are not consumed. NULL: not ready, or no stream free.
struct http_call *worker_infer(struct worker *w, const struct http_seg *segs, unsigned n,
                               uint64_t timeout_us, void *user);
// on_infer_end(CALL_CANCELLED) follows.
void worker_cancel(struct worker *w, struct http_call *call);

// What it said of this model on this connection; NULL: nothing. Valid until on_model_gone or on_down.
const struct model_metadata *worker_model(struct worker *w, struct view name);

struct worker_stats {
    uint64_t connects, losses, probes, probe_failures, calls;
    unsigned in_flight;
    unsigned models;
    uint64_t since_us; // of the present state
};
void worker_stats(const struct worker *w, struct worker_stats *out);
// One JSON object: state, counts, models; "wrong" when what it holds does not fit its state.
struct json_writer;
void worker_show(const struct worker *w, struct json_writer *out);

#ifdef SLUICE_DOORS // gateway/doors.h: the next probe, or the time-out of the one that is out, comes earlier
void worker_skew(struct worker *w, uint64_t us);
#endif

#endif
