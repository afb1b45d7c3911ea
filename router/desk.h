/* router/desk.h: a model's desk on its home loop: the queue, the replicas and what runs on them.
 * Inputs record what happened; desk_run decides. The doer calls desk_run after any number of inputs of a
 * turn and before it sleeps: so a burst of tickets becomes one batch, and a decision is made once.
 * Thinks. Thread: the model's home loop. Owner: the doer (desk_new .. desk_free). */
#ifndef SLUICE_ROUTER_DESK_H
#define SLUICE_ROUTER_DESK_H

#include "base/rand.h"
#include "batcher/batcher.h"
#include "router/batch.h"
#include "router/effects.h"
#include "router/table.h"

#define DESK_REPLICAS 64
#define DESK_VERSIONS 8
#define DESK_HALVINGS 12 // of one batch: 4,096 rows down to the guilty one
#define DESK_ASIDE 64    // tickets that wait for a replica of their version in nobody's way
// Out so long, and several times as long as its replica takes, past its deadline: the worker hangs. Less says
// only that its clients were in a hurry; they must not cost others their connection.
#define DESK_SILENT_US 100000
#define DESK_SILENT_TIMES 4
#define DESK_REFUSED_PAUSE_US 10000 // a replica that refused is left alone so long

struct replica_facts {       // what a replica says of itself when it comes up
    uint32_t max_batch;      // 0: serves singly
    struct hash128 metadata; // of names, datatypes, shapes: replicas of one model must agree
    struct view versions[DESK_VERSIONS];
    unsigned n_versions;
};

struct replica {
    uint32_t id;
    bool up;                // counted in model.ready
    bool differs;           // connected, but kept out
    uint32_t batches, rows; // in flight
    double latency_us;      // EWMA of a batch's time
    uint64_t not_before_us;
    struct replica_facts facts;
    char version[DESK_VERSIONS][MODEL_VERSION_MAX]; // what facts.versions point at
};

enum desk_fail {
    FAIL_REFUSED,   // never processed: safe to repeat at once elsewhere
    FAIL_LOST,      // the connection went away: the worker may have died of it
    FAIL_ERROR,     // the worker says so: status and text
    FAIL_MALFORMED, // an answer that cannot be read
    FAIL_RECALLED   // cancelled by us, confirmed
};

struct desk {
    struct model *model;
    unsigned home;
    struct rand rand;
    struct batcher batcher;
    struct replica replica[DESK_REPLICAS];
    unsigned n_replicas; // slots in use, up or not
    unsigned n_up;
    uint32_t max_batch;                // of those that are up (they agree)
    struct hash128 metadata;           // likewise
    uint64_t alone_since_us;           // since when no replica is up; 0 while one is
    struct batch *again, **again_last; // to be sent as they are
    unsigned n_again;
    bool again_cancelled; // of some of them somebody has gone
    struct batch *sent;   // SENT and RECALLED
    uint64_t overdue_us;  // before that no SENT one is past its deadline; UINT64_MAX: none is SENT
    struct batch *spare;
    uint32_t running_rows;
    // Tickets at home that were aboard when a worker died. While there are any, a replica gets one batch
    // at a time: else the second death would prove nothing against those that run beside the guilty one.
    uint32_t suspects;
    uint64_t wake_us; // what was asked for; UINT64_MAX: nothing
    void *user;       // the doer's
};

// NULL: out of memory. A desk without replicas queues for rules.grace_us, then refuses.
struct desk *desk_new(struct model *m, unsigned home, uint64_t seed, uint64_t now_us);
void desk_free(struct desk *d); // nothing queued, nothing sent

void desk_on_ticket(struct desk *d, struct ticket *t, uint64_t now_us,
                    struct effects *fx); // MSG_LEND
void desk_on_cancel(struct desk *d, struct ticket *t, uint64_t now_us,
                    struct effects *fx); // MSG_CANCEL
// A replica (of the doer's numbering) can answer now. Its facts are copied.
void desk_on_replica_up(struct desk *d, uint32_t id, const struct replica_facts *facts,
                        uint64_t now_us, struct effects *fx);
// It cannot any more; its calls end as lost, before or after this.
void desk_on_replica_down(struct desk *d, uint32_t id, uint64_t now_us, struct effects *fx);
// The call of a sent batch has ended: one of the two, exactly once. The answer's block: one reference is
// handed over.
void desk_on_answer(struct desk *d, struct batch *b, struct answer *a, uint64_t now_us,
                    struct effects *fx);
// error: for FAIL_ERROR and FAIL_MALFORMED what to tell; else NULL.
void desk_on_fail(struct desk *d, struct batch *b, enum desk_fail kind, const struct error *error,
                  uint64_t now_us, struct effects *fx);
void desk_on_wake(struct desk *d, uint64_t now_us, struct effects *fx);
void desk_run(struct desk *d, uint64_t now_us, struct effects *fx);
// One JSON object: what it holds, and "wrong" when its counts do not add up.
struct json_writer;
void desk_show(const struct desk *d, uint64_t now_us, struct json_writer *w);

#endif
