/* infer/infer.h: one inference on its way. It lives, settles and is freed on its origin loop; it settles
 * exactly once: first good answer, end of the chain, deadline, or client gone.
 *
 *   NEW ─flow_submit─► OUT ─ticket back─► SETTLED ──────────────────────► OVER
 *    │                  └─deadline, gone─► ZOMBIE ─ticket and echo back─► OVER
 *    └─refused at once─► SETTLED ─► OVER
 *
 * Memory: the caller's (the gateway keeps it in the exchange's arena); it stays until FX_RELEASE. */
#ifndef SLUICE_INFER_INFER_H
#define SLUICE_INFER_INFER_H

#include "base/wheel.h"
#include "infer/ticket.h"

struct flow;

enum infer_state { INFER_NEW, INFER_OUT, INFER_SETTLED, INFER_ZOMBIE, INFER_OVER };

struct infer {
    // Set by the caller before flow_submit.
    struct infer_request request;
    uint64_t arrived_us;
    void *user;

    // flow's.
    uint64_t deadline_us;
    struct flow *flow; // router/flow.h; set by flow_submit
    enum infer_state state;
    bool ticket_out, cancel_out; // what must come home before OVER
    uint32_t charged_rows;       // in the model's room, and its bytes; 0: nothing is
    struct wheel_timer timer;    // the deadline
    struct infer *next, **prev;  // of the flow's live ones
    struct ticket ticket;        // the one attempt that may be out

    // Valid from FX_SETTLE on: how it ended.
    struct failure
        error; // status STATUS_OK: answered, ticket.slice holds the rows. Its text is there
               // while FX_SETTLE runs, and not for longer
    uint32_t
        retry_after_s; // with STATUS_UNAVAILABLE, and a STATUS_DEADLINE that was told early; 0: nothing is said
};

#endif
