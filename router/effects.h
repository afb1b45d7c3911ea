/* router/effects.h: what a thinking object wants done. It writes effects; the doer (gateway/, or the
 * simulator) runs the list, in order, after the call has returned, so that nothing is re-entered and
 * nothing is hidden. Thread: the list belongs to the caller, one a loop. */
#ifndef SLUICE_ROUTER_EFFECTS_H
#define SLUICE_ROUTER_EFFECTS_H

#include "base/block.h"
#include "base/msg.h"
#include "infer/infer.h"

// Messages between loops (base/msg.h): which end of which embedded node arrives.
enum router_msg {
    MSG_LEND = MSG_ROUTER, // ticket.lend, to its home: desk_on_ticket
    MSG_BACK,              // ticket.lend, to its origin: flow_on_back
    MSG_CANCEL,            // ticket.cancel, to its home: desk_on_cancel
    MSG_ECHO               // ticket.cancel, to its origin: flow_on_echo
};

struct desk;
struct batch;
struct store_ask;

enum fx_kind {
    FX_POST, // msg: give it to loop msg->to
    FX_DISPATCH, // batch: send it to batch->replica; its end comes as desk_on_answer or desk_on_fail, once
    FX_CANCEL, // batch: reset its call; its end still comes
    FX_PROBE, // desk, replica: ask now whether it lives and still has the model. What comes of it comes as
              // desk_on_replica_down or _up, or as lost connections
    FX_HANGS, // desk, replica: it lives and computes nothing: replace every loop's connection to it (calls
              // end as lost, by us); the keeper kills and starts a local process
    FX_USE,    // model: an infer refers to it, by one more step, until FX_RELEASE
    FX_SETTLE, // infer: answer the client from infer->error or infer->answer
    FX_SHADOW, // infer: how its shadow ended, once, behind FX_SETTLE; both answers are there while it runs
    FX_RELEASE, // infer: nothing refers to it any more: free it. Follows FX_SETTLE, at once or later
    FX_UNREF,   // block: give one reference back
    FX_WAKE,    // desk (or NULL: the flow) wants its on_wake at at_us; replaces its earlier wish
    FX_STORE_GET, // ask: look for it in the store; what comes of it comes as desk_on_stored, once (router/store.h)
    FX_STORE_PUT, // ask: put it into the store, or not; then store_told
    FX_NOTE       // note: something for metrics and logs; nothing depends on it
};

enum note_kind {
    NOTE_BATCH,   // a, rows; b, reason: a batch was sent
    NOTE_DONE,    // a, rows; b, microseconds: a batch was answered
    NOTE_SHED,    // a, rows; b, enum refusal: refused at the origin
    NOTE_EXPIRED, // a, rows: given back, its deadline cannot be met
    NOTE_REFUSED, // a, rows: given back on arrival, too many stand before it
    NOTE_DROPPED, // a, rows: given back, for others that can be saved
    NOTE_HALVED,  // a, tickets: a batch failed whole and was halved
    NOTE_RETRIED, // a, tickets: back into the queue after a lost or refusing worker
    NOTE_POISON,  // b, digest of the batch key: workers died of it
    NOTE_WRONG_SHAPE, // a, replica: answered other rows than it was asked for; b, it was not said lately
    NOTE_STEP,        // a, how a step of a chain went at the model: chain_outcome
    NOTE_REPLICA_UP,      // a, replica
    NOTE_REPLICA_DOWN,    // a, replica
    NOTE_REPLICA_DIFFERS, // a, replica: its metadata is not that of the others: kept out
    NOTE_REPLICA_PAUSED,  // a, replica: it refuses; once, however often
    NOTE_REPLICA_EJECTED, // a, replica: fails what others answer, or computes nothing
    NOTE_REPLICA_BACK,    // a, replica: answers again after one of the two
    NOTE_NO_REPLICA,      // a, tickets given back: nobody is left that could answer
    NOTE_LEVEL, // a, the level in force from now on; b, the one before: the desk's standing says why
    NOTE_KINDS
};
// Why a request is refused for want of room or time, before it costs a device anything.
enum refusal {
    REFUSAL_NONE,
    REFUSAL_QUEUE,    // the queue is full
    REFUSAL_PRIORITY, // what is left of it is kept for higher priorities
    REFUSAL_TENANT,   // its tenant has its part
    REFUSAL_LATE,     // more waits before it than can be answered in time: NOTE_REFUSED
    REFUSAL_MEMORY,   // what is left of limits.bytes_in_flight is kept for higher priorities
    REFUSALS
};
extern const char *const refusal_name[REFUSALS];
extern const char *const note_name[NOTE_KINDS];
extern const bool note_of_replica[NOTE_KINDS]; // a is a replica

struct note {
    enum note_kind kind;
    struct model *model;
    uint64_t a, b;
    const char *why; // of a replica's note: in words, or ""; valid while the effects run. Else NULL
};

struct fx {
    enum fx_kind kind;
    uint32_t replica; // FX_PROBE, FX_HANGS
    union {
        struct msg *msg;
        struct batch *batch;
        struct infer *infer;
        struct model *model; // FX_USE
        struct block *block;
        struct {
            struct desk *desk; // FX_WAKE, FX_PROBE, FX_HANGS
            uint64_t at_us;
        };
        struct store_ask *ask;
        struct note note;
    };
};

struct effects {
    struct fx *at;
    unsigned n, cap;
    struct block_owner *blocks; // of its loop: for the texts of failures
};

void effects_init(struct effects *fx, struct block_owner *blocks);
void effects_deinit(struct effects *fx);
// Room for one more, zeroed but for its kind. Never fails: the list is bounded by what one call may want
// (a few for each ticket it touches), so memory for it is a bound of ours.
struct fx *effects_add(struct effects *fx, enum fx_kind kind);

static inline void fx_post(struct effects *fx, struct msg *m, unsigned kind, unsigned from,
                           unsigned to)
{
    m->kind = (uint16_t)kind;
    m->from = (uint16_t)from;
    m->to = (uint16_t)to;
    effects_add(fx, FX_POST)->msg = m;
}

static inline void fx_note(struct effects *fx, enum note_kind kind, struct model *m, uint64_t a,
                           uint64_t b)
{
    effects_add(fx, FX_NOTE)->note = (struct note){.kind = kind, .model = m, .a = a, .b = b};
}

// Gives e's reference on its text back, when the effects so far have been run.
static inline void fx_forget(struct effects *fx, const struct failure *e)
{
    if (e->block)
        effects_add(fx, FX_UNREF)->block = e->block;
}

static inline void fx_wake(struct effects *fx, struct desk *d, uint64_t at_us)
{
    struct fx *f = effects_add(fx, FX_WAKE);
    f->desk = d;
    f->at_us = at_us;
}

#endif
