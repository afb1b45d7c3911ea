/* infer/infer.h: one inference on its way. It lives, settles and is freed on its origin loop; it settles
 * exactly once: first good answer, end of the chain, deadline, or client gone.
 *
 *   NEW ─flow_submit─► OUT ─all tickets back─► SETTLED ───────────────────────────────────► OVER
 *    │                 │ ▲└─end of its chain, deadline, gone─► ZOMBIE ─all tickets and echoes back─► OVER
 *    │                 └─┘ a step failed or took too long: the next one of its chain
 *    └─refused at once─► SETTLED ─► OVER
 *
 * Memory: the caller's (the gateway keeps it in the exchange's arena); it stays until FX_RELEASE. */
#ifndef SLUICE_INFER_INFER_H
#define SLUICE_INFER_INFER_H

#include "base/wheel.h"
#include "infer/ticket.h"

struct flow;
struct chain;
struct chain_walk;
struct tenant_books;

enum infer_state { INFER_NEW, INFER_OUT, INFER_SETTLED, INFER_ZOMBIE, INFER_OVER };

// One attempt at one target: one ticket, or as many as the request has batches of rows (router/step.h).
struct step {
    struct infer *infer; // whose
    struct step *before; // the one that was begun before it; NULL: it is the first
    struct target to;
    const struct cache_key *cache_key; // of the request; NULL: none
    enum cache_use cache;
    bool elsewhere; // when no replica is ready there is something else to try: nobody waits for one
    bool shadow;    // see struct shadow
    uint8_t losses, deaths; // that the request has met with before (ticket.h)
    struct ticket *tickets; // [n] in the order of their rows: first, or in the infer's arena
    uint32_t n;
    struct tenant_books
        *books;        // of its model, where its tenant is charged (router/tenants.h); else NULL
    uint32_t out;      // tickets and echoes that have not come home
    uint32_t answered; // tickets
    bool over;         // its outcome is known: what comes home now is too late
    struct ticket first;

    // Of its answered tickets: the most of each, and the first one's reason.
    uint32_t batch_rows;
    uint8_t batch_reason;
    uint8_t source; // enum answer_source
    uint32_t age_s;
    uint64_t queue_us, compute_us;
    uint64_t batch_id; // of the first of them that had one; 0: each went alone
};

// How a shadow ended, or why it was never lent.
enum shadow_end {
    SHADOW_ANSWERED,
    SHADOW_FAILED, // shadow.error says why
    SHADOW_LATE,   // its own deadline passed
    SHADOW_CALLED, // its loop wanted it home: a drain, or its memory
    // Never lent:
    SHADOW_UNSERVED, // the request's own model has not answered it
    SHADOW_LEVEL,    // the service of one of the two models has come down
    SHADOW_ABSENT,   // no replica of its model is ready
    SHADOW_FULL,     // as many are out at its loop as may be, or hold as much
    SHADOW_ENDS
};

// A copy of a request for another model, whose answer is compared with the one that was served, and dropped
// (router/shadow.h). It is lent when the request has been answered, so that nobody waits for it; until it is home its infer
// is a zombie. Memory: the caller's, as the infer's.
struct shadow {
    struct model *model; // set by the caller, who sees to it that it stays until FX_RELEASE
    uint64_t timeout_us; // likewise: of its own, from its lending on

    // flow's.
    struct step step;
    struct wheel_timer timer;
    struct shadow *next, **prev; // of those that are out
    uint64_t lent_us;

    // Valid while FX_SHADOW runs.
    enum shadow_end end;
    uint64_t took_us;           // from its lending to its end
    struct failure error;       // SHADOW_FAILED
    const struct slice *answer; // SHADOW_ANSWERED: to be compared with the infer's own
};

struct infer {
    // Set by the caller before flow_submit.
    struct infer_request request;
    uint64_t arrived_us;
    void *user;
    struct arena
        *arena; // of its memory: for a request that is split, and for the steps behind the first
    const struct chain *chain;  // router/chain.h; NULL: the model alone
    struct cache_key cache_key; // step.cache_key points here when there is one
    uint32_t lot;               // likewise: of whom it comes from
    uint16_t tenant;            // router/tenants.h; 0: tenants are not tracked
    struct shadow *shadow;      // NULL: none

    // flow's.
    uint64_t deadline_us;
    struct flow *flow; // router/flow.h; set by flow_submit
    enum infer_state state;
    struct wheel_timer timer;   // the deadline, or that of its step
    struct infer *next, **prev; // of the flow's live ones
    struct step step;        // the first; its target is set by the caller, or found by flow_submit
    struct step *at;         // the last that was begun
    struct chain_walk *walk; // along its chain; NULL: it has none, or was refused before
    uint64_t room_in_us;     // as its last ticket said it (ticket.h)

    // Valid from FX_SETTLE on: how it ended.
    struct failure
        error; // status STATUS_OK: answered. Its text, and those of the walk's attempts, are there while
               // FX_SETTLE runs, and not for longer
    const struct slice *answer; // the rows; one reference on the block of each part is the infer's
    uint8_t source;             // enum answer_source: whose they are
    uint32_t retry_after_ms; // when there may be room for it (router/retry.h); 0: nothing is said
};

#endif
