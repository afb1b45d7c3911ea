/* router/batch.h: the tickets that travel to a replica together. Made and freed by its desk; while it is
 * sent, the doer keeps its message and its call in it. Thread: the home loop's.
 *
 *   AGAIN ─room at a replica─► SENT ─answer, failure─► freed
 *     ▲                          └─deadline of the last, all cancelled─► RECALLED ─its call ends─► freed
 *     └── half of one that failed whole, or whole for a sibling */
#ifndef SLUICE_ROUTER_BATCH_H
#define SLUICE_ROUTER_BATCH_H

#include "base/arena.h"
#include "batcher/policy.h"
#include "infer/ticket.h"

enum batch_state { BATCH_AGAIN, BATCH_SENT, BATCH_RECALLED };

struct batch {
    struct desk *desk;
    struct model *model;
    enum batch_state state;
    uint32_t replica; // id of the replica it was sent to
    uint8_t rank; // the class of that replica then; until it is sent, the least that it may have
    struct ticket **tickets;
    uint32_t n, cap;
    uint32_t
        rows; // sum over the tickets; 0: one ticket that has no rows, or a model that is served singly
    uint8_t halvings;
    bool shadow; // its tickets are shadows: it is tried once
    bool
        quiet; // nothing else was running at its server when it was sent: its time is the model's time
    bool shown;           // a sibling has had its turn with it: it fails on its own account now
    uint32_t failed_at;   // the replica that failed it, while a sibling has it; else REPLICA_NONE
    uint32_t incarnation; // of the worker it was sent to
    uint64_t number;      // vitals_sent
    struct serial_device *device; // of that replica, if it is serial
    uint32_t server;              // of that replica, which is thought to do it
    uint64_t expected_us;         // that it was thought to take; 0: not known
    enum batch_reason reason;
    uint64_t sent_us, deadline_us; // deadline of the last of its tickets
    uint64_t
        until_us; // when it is recalled: its deadline, or later where it is to teach how long it takes
    uint64_t recalled_us; // RECALLED: since then
    uint32_t cancelled;   // tickets of it
    struct batch *next, **prev;

    // The doer's, from FX_DISPATCH to the call's end. The arena is reset when the batch is freed.
    struct arena arena;
    void *call;
};

#endif
