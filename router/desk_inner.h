/* router/desk_inner.h: what the files of the desk call of one another. Private to them. */
#ifndef SLUICE_ROUTER_DESK_INNER_H
#define SLUICE_ROUTER_DESK_INNER_H

#include "router/desk.h"

// ---- desk.c ------------------------------------------------------------------------------------------

// What the rules ask for, at this level, is in force.
void desk_adopt_policy(struct desk *d);

// ---- desk_ticket.c -----------------------------------------------------------------------------------

void ticket_taken_up(struct desk *d, struct ticket *t,
                     uint64_t now_us); // it has come: nothing of an earlier life is left
void ticket_sent(struct ticket *t, uint32_t replica, uint64_t now_us); // with its batch
void ticket_answered(struct desk *d, struct ticket *t,
                     struct effects *fx); // its slice is filled in
void ticket_failed(struct desk *d, struct ticket *t, const struct failure *why,
                   struct effects *fx);                                   // why stays the caller's
void ticket_let_go(struct desk *d, struct ticket *t, struct effects *fx); // no replica is ready
void ticket_expired(struct desk *d, struct ticket *t, struct effects *fx);
// auto: it is behind more than can be served in time, and would be so late; it stood in the way of others that can be
// saved.
void ticket_refused(struct desk *d, struct ticket *t, uint64_t late_us, struct effects *fx);
void ticket_dropped(struct desk *d, struct ticket *t, struct effects *fx);
// Back into the queue with its seniority, unless it is cancelled or late.
void ticket_requeued(struct desk *d, struct ticket *t, uint64_t now_us, struct effects *fx);
// It was aboard b when b's connection was lost, not by our doing.
void ticket_survived(struct desk *d, struct ticket *t, const struct batch *b, bool death,
                     bool alone, uint64_t now_us, struct effects *fx);

// Those that the keeper's word was waited for in vain.
void tickets_released(struct desk *d, uint64_t now_us, struct effects *fx);
extern const char desk_gone_text[]; // of a sequence whose state is gone

// ---- desk_cache.c ------------------------------------------------------------------------------------

// A ticket has come that may be answered by what is kept, or by what another one is waiting for. True: it needs nothing more.
bool cache_met(struct desk *d, struct ticket *t, uint64_t now_us, struct effects *fx);
// It is queued, or asks the store: who asks the same waits for its answer. False: it does not lead.
bool cache_lead(struct desk *d, struct ticket *t);
// Its slice is filled in; of it *left bytes may be copied, and less from then on.
void cache_keep(struct desk *d, const struct ticket *t, uint64_t sent_us, uint64_t now_us,
                size_t *left, struct effects *fx);
// Who wants what is kept alone is told that it is not.
void cache_has_none(struct desk *d, struct ticket *t, struct effects *fx);
void flight_left(struct desk *d, struct ticket *t, struct effects *fx); // its outcome is known
// Of those that wait; the client of it has gone.
void flight_cancelled(struct desk *d, struct ticket *t, uint64_t now_us, struct effects *fx);
// Who follows it, and has something else to try, waits for no replica.
void flight_let_go(struct desk *d, struct ticket *leader, struct effects *fx);
// The next one that leads, to be queued as others are. NULL: none.
struct ticket *flight_next(struct desk *d);
// One came up, or went. another: what it has may be another model than it was.
void cache_replicas(struct desk *d, bool another, uint64_t now_us);
// The store has its answer, which is kept here, too. False: it is none for this ticket, or too old.
bool store_answers(struct desk *d, struct ticket *t, struct cache_id *id, const struct slice *s,
                   uint32_t epoch, uint64_t stored_us, uint64_t now_us, struct effects *fx);

// ---- desk_shadow.c -----------------------------------------------------------------------------------

void shadow_came(struct desk *d, struct ticket *t,
                 struct effects *fx);               // it waits, or is given back
void shadow_left(struct desk *d, struct ticket *t); // it waits no more
// After everything else was decided: those that nothing is in the way of go. When to call again; UINT64_MAX: none waits.
uint64_t shadows_send(struct desk *d, uint64_t now_us, struct effects *fx);

// ---- desk_store.c ------------------------------------------------------------------------------------

// It asks the store first, and leads, unless it is not for the model. False: there is none, or it is not worth it.
bool store_asked(struct desk *d, struct ticket *t, const struct cache_id *id, struct view version,
                 struct effects *fx);
void store_forgotten(struct ticket *t); // PLACE_ASKS: it asks no more
void store_keep(struct desk *d, const struct ticket *t, const struct cache_id *id,
                struct view version, uint64_t sent_us, struct effects *fx);

// ---- desk.c ------------------------------------------------------------------------------------------

// The store had nothing for it: it is for the model.
void desk_missed(struct desk *d, struct ticket *t, uint64_t now_us, struct effects *fx);
// The client of one that is aboard has gone, and nobody waits for its answer.
void desk_aboard_gone(struct desk *d, struct batch *b, uint64_t now_us, struct effects *fx);

// ---- desk_batch.c ------------------------------------------------------------------------------------

struct batch *batch_new(struct desk *d, uint32_t cap); // NULL: out of memory
void batch_free(struct desk *d, struct batch *b);
void batch_join(struct batch *b, struct ticket *t);
void batch_wait(struct desk *d, struct batch *b); // it is sent as it is when a replica has credit
// T5: removes cancelled and expired tickets. False: none is left.
bool batch_prune(struct desk *d, struct batch *b, uint64_t now_us, struct effects *fx);
void batch_send(struct desk *d, struct batch *b, struct replica *r, uint64_t now_us,
                struct effects *fx);
void batch_recall(struct desk *d, struct batch *b, uint64_t now_us, struct effects *fx);
void batch_fail(struct desk *d, struct batch *b, const struct failure *why,
                struct effects *fx); // all aboard; the batch, and why, stay the caller's

static inline uint64_t desk_least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

#endif
