/* infer/ticket.h: one attempt to have an infer answered, lent by its origin loop to the home loop of a
 * model, and given back exactly once. The rules (docs/architecture.md draws them):
 *  T1  A ticket that was lent comes back exactly once: answered, refused, failed, expired or cancelled.
 *  T2  While it is out its origin frees nothing that it lends: the request's views stay.
 *  T3  A cancel is a message to the home, never a reach into it; it may cross the ticket on its way back.
 *      It travels in a node of its own, which the home echoes, so that neither is freed under the other.
 *  T4  The home gives it back only when no frame refers to the lent bytes.
 *  T5  Past its deadline, or cancelled, it is never sent on.
 * Fields are written by one side at a time, as the headings say; the mailbox carries the hand-over. */
#ifndef SLUICE_INFER_TICKET_H
#define SLUICE_INFER_TICKET_H

#include "base/msg.h"
#include "infer/failure.h"
#include "infer/request.h"

#define TICKET_LOSSES 3 // then it is given back

struct group;
struct batch;
struct step;
struct cache_node;
struct store_ask;

// What is asked, as infer/cache_key.h makes it.
struct cache_key {
    uint8_t bytes[32];
    bool shared; // other instances make the same one: a store may be asked by it
};

// What a ticket wants of the answers that its home keeps.
enum cache_use {
    CACHE_NONE,  // nothing; and its own is not kept
    CACHE_USE,   // a fresh one; else its own is kept, and is that of all who ask the same meanwhile
    CACHE_RENEW, // none, but its own is kept
    CACHE_ONLY_STALE // one that is not older than the model's `stale`; else it is given back at once, STATUS_UNAVAILABLE
};

// Where the ticket is as the home sees it.
enum ticket_place {
    PLACE_NONE,   // not at any home: at its origin, or on its way
    PLACE_QUEUED, // in a lane of the batcher
    PLACE_ABOARD, // in a batch: sent, or about to be sent alone or halved
    PLACE_HELD,   // lost too often: what to tell depends on the keeper's word, which is waited for
    PLACE_ASKS,   // leads a flight, and asks the store first
    PLACE_WAITS,  // in a flight: for the answer of its leader, or to lead after it
    PLACE_SHADOW, // a shadow: until nobody is served that it could be in the way of
};

struct ticket {
    struct msg lend;   // origin -> home, and home -> origin again
    struct msg cancel; // origin -> home, echoed home -> origin

    // Written by the origin before it lends; read-only while out.
    struct step *step; // whose it is; NULL: the origin has no steps
    struct target to;
    const struct infer_request *request; // its own rows
    struct hash128 key;                  // ticket_key: those of an equal key may share a batch
    uint64_t deadline_us;
    uint32_t charged_rows;             // in the model's room, until it is home; 0: nothing is
    uint64_t charged_bytes;            // likewise
    uint8_t lane;                      // 0: served first
    uint8_t cache;                     // enum cache_use
    const struct cache_key *cache_key; // of the whole request; cache != CACHE_NONE
    uint32_t cache_row, cache_rows;    // which of its rows these are; 0, 0: all
    bool
        elsewhere; // where no replica is ready it is given back at once: there is something else to try
    uint8_t losses_before, deaths_before; // at models that were asked before this one
    bool
        shadow; // its answer is compared and not served: it takes no room, and goes when nobody else wants to
    bool lent, called; // it, and the echo of its cancel, have not come home

    // The home's while out.
    uint8_t losses;   // connections that ended with it aboard, not by our doing
    uint8_t deaths;   // of those, workers that died
    uint8_t n_lost;   // of those, local workers of which the keeper may still say how they ended
    uint8_t refusals; // times it was not processed, since refused_us
    bool alone;       // goes without company: a worker may have died of it
    bool watched;     // a keeper watches the process with which it was lost last
    bool died_alone;  // the last of its losses was a death, with nothing else of ours aboard
    uint8_t sent;     // times that it was sent; 255: or more
    struct {
        uint32_t replica, incarnation;
        uint8_t number; // which of its losses that was
        bool alone;
    } lost[TICKET_LOSSES];
    struct ticket *lost_next, **lost_prev; // of the desk's with n_lost > 0
    uint64_t held_us;                      // PLACE_HELD: until then
    bool cancelled;                        // a cancel came while aboard
    enum ticket_place place;
    uint16_t origin;     // loop index, from the message that brought it
    uint16_t slot;       // level << 8 | index, for the bitmap
    uint64_t queued_us;  // when the home first saw it
    uint64_t refused_us; // when a worker refused it first; refusals > 0
    uint64_t senior_us;  // its place in the group, by arrival: queued_us, or that of one before it
    struct group *group;
    struct ticket *next, **prev;  // in its lane's slot; PLACE_SHADOW: of the desk's shadows
    struct ticket *older, *newer; // in its group, by arrival
    struct batch *batch;
    struct store_ask *ask;              // PLACE_ASKS
    struct cache_node *flight;          // of those who ask the same at a time; NULL: it is in none
    struct ticket *followers;           // the leader's: those who wait for its answer
    struct ticket *waits, **waits_prev; // PLACE_WAITS: among them, or among those who lead next
    uint64_t wanted_us;                 // the latest deadline of it and of who follows it
    uint32_t cache_epoch;               // of the model when it came

    // The outcome: written by the home before it gives back, read by the origin after.
    struct slice slice;   // answered: holds one reference on answer->block
    bool let_go;          // refused: nobody was ready, and it had something else to try
    uint32_t batch_rows;  // 0: it was in no batch that was answered
    uint8_t batch_reason; // enum batch_reason
    uint8_t source;       // enum answer_source, of an answer
    uint32_t age_s;       // of an answer that is not the model's own
    uint32_t replica;     // that it was sent to last; sent > 0
    uint64_t batch_id;    // of the batch in which it was sent last, with others; 0: it went alone
    uint64_t
        room_in_us; // refused early: when there may be room for it, from then; 0: nothing is said
    uint64_t queue_us;    // from queued to sent (the last sending)
    uint64_t compute_us;  // the worker's own figure, or the call's time
    struct failure error; // STATUS_OK: answered; else it holds one reference on its text
};

// The request's batch key, of that version.
static inline struct hash128 ticket_key(const struct infer_request *r, struct view version)
{
    struct hash128 key = r->batch_key;
    if (version.n > 0) {
        struct hash128 of = hash128(version, key.lo);
        key.lo ^= of.lo;
        key.hi ^= of.hi;
    }
    return key;
}

static inline uint32_t ticket_rows(const struct ticket *t)
{
    return t->request->rows ? t->request->rows : 1;
}

// May share a batch with rows of an equal key.
static inline bool ticket_batches(const struct ticket *t)
{
    return t->request->rows > 0 && !t->request->sequence && !t->alone;
}

#endif
