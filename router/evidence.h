/* router/evidence.h: what is concluded from what a worker does, as one pure function: docs/evidence.md is
 * the same as a table, and tests/unit/router_evidence.c tries every combination. A conclusion about one batch
 * depends on nothing but what stands in struct evidence; what a ticket went through before (its losses and
 * deaths) is judged by ticket_fate_after_loss. Thinks.
 *
 *  E1  A death needs evidence: the keeper says that the process crashed, or, of a process without a keeper,
 *      the connection was lost while the batch was the only one of ours there.
 *  E2  What we did ourselves (closed the connection, cancelled the call) counts against nothing.
 *  E3  A batch is halved only when one of its rows may be guilty, or when we had no room for its answer.
 *  E4  A refusal is no fault of a row: it is never halved, and never answered with more load at once.
 *  E5  A step of a sequence is never sent twice.
 *  E6  A batch that is out past its deadline on a worker that lives and ends batches says nothing.
 *  E7  An answer that we had no room for says that the worker answers, and nothing against it or a row. */
#ifndef SLUICE_ROUTER_EVIDENCE_H
#define SLUICE_ROUTER_EVIDENCE_H

#include "infer/status.h"
#include "infer/ticket.h"
#include <stdbool.h>
#include <stdint.h>

enum seen {      // what was seen of a batch
    SEEN_ANSWER, // a good answer
    SEEN_WRONG,  // an answer that cannot be: shape, framing, not gRPC, too large
    SEEN_STATUS, // the worker says a status that is not OK
    SEEN_UNPROCESSED, // never processed: REFUSED_STREAM, GOAWAY below it, no stream, HTTP 429, 502, 503, 504
    SEEN_NO_ROOM,  // it was being answered, and we had no room for so large an answer
    SEEN_LOST,     // its connection ended
    SEEN_RECALLED, // our cancel, confirmed
    SEEN_OVERDUE,  // it is still out, past its last deadline
    SEEN_KINDS
};

enum process_word { // what the keeper said of the process that had it
    PROCESS_UNKNOWN,
    PROCESS_ENDED,  // as it was told to: exit 0, SIGTERM, a SIGKILL of ours
    PROCESS_CRASHED // a crash signal, a SIGKILL that was not ours, a status that is not 0
};

enum liveness { LIVE_UNKNOWN, LIVE_YES, LIVE_NO }; // what its last probe says

struct evidence {
    enum seen seen;
    enum status status;        // SEEN_STATUS
    bool ours;                 // SEEN_LOST: we closed the connection
    bool local;                // a keeper watches the process and will say how it ended
    bool only;                 // the only batch of ours at that worker, as long as it was there
    bool company;              // more than one ticket aboard
    bool sequence;             // a step of a sequence
    bool sibling;              // another replica could have it, and none has had it yet
    bool silent;               // SEEN_OVERDUE: nothing of that worker has ended for long
    enum process_word process; // SEEN_LOST
    enum liveness live;        // SEEN_OVERDUE
};

enum replica_fate {
    REPLICA_KEPT,    // nothing is concluded
    REPLICA_WELL,    // it computed a batch
    REPLICA_HEARD,   // it answers, and no more can be said
    REPLICA_FAILED,  // counts against it, if a sibling answers what it could not
    REPLICA_REFUSED, // paused for this model and probed: not there any more, or overloaded?
    REPLICA_LOST,    // its connection is gone: down until it is back
    REPLICA_BUSY,    // the estimate learns
    REPLICA_SILENT,  // answers probes, computes nothing: ejected, replaced
    REPLICA_HANGS    // answers nothing: replaced
};

enum tickets_fate {
    TICKETS_ANSWERED,
    TICKETS_FAILED, // each is given the status
    TICKETS_HALVED, // a row may be guilty, or half of the answer find room: two halves go on their own
    TICKETS_SIBLING,  // as it is to another replica, once
    TICKETS_RETRIED,  // elsewhere at once, else within the retry budget, else given the status
    TICKETS_REQUEUED, // back into the queue, nothing is counted
    TICKETS_SURVIVED, // back into the queue, and each remembers it: ticket_fate_after_loss
    TICKETS_DROPPED,  // 503 worker_lost: a step of a sequence, whose state is gone
    TICKETS_OUT       // nothing yet: it is still out
};

struct outcome {
    enum replica_fate replica;
    enum tickets_fate tickets;
    bool death;  // of a worker, with these aboard
    bool guilty; // one of the rows may be the cause
};

struct outcome evidence_weigh(const struct evidence *e);

#define EVIDENCE_LOSSES TICKET_LOSSES // connections that end with the same ticket aboard: enough
#define EVIDENCE_DEATHS 2 // workers that died with it aboard: poison, if the last died of it alone

enum ticket_fate { TICKET_AGAIN, TICKET_ALONE, TICKET_LOST, TICKET_POISON };

// What becomes of a ticket that was aboard when connections ended (losses) and workers died (deaths), this
// one included. died_alone: the last loss was a death, of the only ticket of the only batch there. watched: a
// keeper said so; of other processes nobody knows what became of them, and only the third time alone is proof.
// The third loss is enough whatever the cause; poison is said only of what killed alone, and not the first one.
static inline enum ticket_fate ticket_fate_after_loss(unsigned losses, unsigned deaths,
                                                      bool died_alone, bool watched)
{
    bool enough = losses >= EVIDENCE_LOSSES;
    if (deaths >= EVIDENCE_DEATHS && died_alone && (watched || enough))
        return TICKET_POISON;
    if (enough)
        return TICKET_LOST;
    return losses >= 2 || deaths > 0 ? TICKET_ALONE : TICKET_AGAIN;
}

#endif
