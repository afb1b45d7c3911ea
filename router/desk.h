/* router/desk.h: a model's desk on its home loop: the queue, the replicas and what runs on them.
 * Inputs record what happened; desk_run decides. The doer calls desk_run after any number of inputs of a
 * turn and before it sleeps: so a burst of tickets becomes one batch, and a decision is made once.
 * Thinks. Thread: the model's home loop. Owner: the doer (desk_new .. desk_free).
 *
 *   desk.c         tickets come in, batches go out
 *   desk_ticket.c  the ways out for a ticket (T1), and what it remembers of lost connections
 *   desk_cache.c   answers that are kept (cache.h), and tickets that ask the same at a time
 *   desk_store.c   and those that other instances keep, too (store.h)
 *   desk_shadow.c  tickets that nothing served may wait for (shadow.h)
 *   desk_batch.c   a batch's life and its ends; what they mean stands in router/evidence.h
 *   replicas.c     who may have the next one
 *   preference.c   which of them come first, and when the others help
 *   device.c       which of the models that share a serial device has it next
 *   sequences.c    which replica has a sequence's state
 *   standing.c     what it says of its model to those who choose among models */
#ifndef SLUICE_ROUTER_DESK_H
#define SLUICE_ROUTER_DESK_H

#include "batcher/batcher.h"
#include "router/cache.h"
#include "router/replicas.h"
#include "router/sequences.h"
#include "router/standing.h"
#include "router/store.h"

#define DESK_HALVINGS 12 // of one batch: 4,096 rows down to the guilty one
#define DESK_ASIDE 64 // tickets that wait for a replica of their version without holding up others
// Refusals of one ticket, and for so long (as a queue waits for a lost replica): then it is given the worker's words.
#define DESK_REFUSALS 32
#define DESK_REFUSED_US 2000000
#define DESK_COPY_BYTES (4 << 20) // of one batch's answer, to be kept: what a turn has time for
#define DESK_SHADOWS 64           // that wait; and how often they look whether they may go
#define DESK_SHADOW_LOOK_US 20000
#define DESK_HELD_US 100000 // the keeper's word on a process that has ended comes within

struct batch_end {
    enum seen seen;
    bool ours;            // SEEN_LOST: we closed the connection
    uint64_t pushback_us; // grpc-retry-pushback-ms of a refusal; 0: none
    // What to tell: of SEEN_STATUS, SEEN_WRONG, SEEN_NO_ROOM; of SEEN_UNPROCESSED too, or NULL; else NULL.
    // desk_on_end takes over the reference that it holds.
    const struct failure *error;
};

struct desk {
    struct model *model;
    unsigned home;
    struct batcher batcher;
    struct replicas replicas;
    struct sequences sequences;
    struct desk_standing standing;
    uint32_t
        most_rows; // of a batch, as rules and replicas have it; what is in force is batcher.policy's
    struct batch *again, **again_last; // to be sent as they are
    unsigned n_again;
    bool again_cancelled; // of some of them the client has gone
    struct batch *sent;   // SENT and RECALLED
    uint64_t overdue_us;  // before that none of them is late; UINT64_MAX: there is none
    struct batch *spare;
    uint32_t running_rows;
    uint32_t
        passed; // batches in a row that others on its device had while something was queued here
    bool outlook_stale; // what the batcher expects of the servers is not what they are now
    struct ticket
        *lost; // of which the keeper may still say how their workers ended, wherever they are
    uint64_t held_us; // the first of them that is held is held until then; UINT64_MAX: none is
    bool stored;      // and in a store, too
    bool store_cold;  // it has had little of what was asked for: it is asked seldom
    uint32_t store_asked, store_found, store_misses;
    struct store_ask *asks;                 // of which the doer has not told yet
    struct cache_of *kept;                  // answers; NULL: there is no cache
    struct ticket *shadows, **shadows_last; // that wait, the oldest first
    uint32_t n_shadows;
    bool shadow_sent;                // a batch of them is in flight: one at a time
    struct ticket *leads;            // that lead a flight next, and are not queued yet
    uint32_t followers;              // tickets that wait in flights
    uint32_t followers_elsewhere;    // of those, who have something else to try
    char version[MODEL_VERSION_MAX]; // that who names none is thought to be answered by
    uint8_t version_bytes;
    bool version_old; // replicas came or went since
    uint64_t
        loaded_us; // when one came up last: what was kept before is stale, for it may be another model
    uint64_t wake_us;          // what was asked for; UINT64_MAX: nothing
    const struct table *table; // where those of the chain are found
    const struct chain *chain; // of its model; NULL: it has none
    void *user;                // the doer's
};

// NULL: out of memory. A desk without replicas queues for rules.grace_us, then refuses.
struct desk *desk_new(struct model *m, unsigned home, uint64_t seed, uint64_t now_us);
void desk_free(struct desk *d); // nothing queued, nothing sent
// Its answers are kept there, if its rules want it; once, before its first ticket. Without memory none are.
void desk_keep_in(struct desk *d, struct cache *c);
// There is a store behind what is kept, from now on; or there is none.
void desk_store_in(struct desk *d, bool stored);
// No replica has its model, and no request is there or on its way.
bool desk_is_idle(const struct desk *d);

void desk_on_ticket(struct desk *d, struct ticket *t, uint64_t now_us,
                    struct effects *fx); // MSG_LEND
void desk_on_cancel(struct desk *d, struct ticket *t, uint64_t now_us,
                    struct effects *fx); // MSG_CANCEL
// The model's rules are these from now on, for what is queued, too; nothing that waits is refused by them. What is
// asked for a room that has become smaller is refused until enough has left.
void desk_on_rules(struct desk *d, const struct model_rules *rules);
// What may answer for its model; stays until the next call. It is looked at for the model's level alone.
void desk_on_chain(struct desk *d, const struct table *t, const struct chain *c);
// A replica (of the doer's numbering) can answer now. Its facts are copied.
void desk_on_replica_up(struct desk *d, uint32_t id, const struct replica_facts *facts,
                        uint64_t now_us, struct effects *fx);
// It cannot any more. What runs there is not cut by this: its calls end as they end.
void desk_on_replica_down(struct desk *d, uint32_t id, uint64_t now_us, struct effects *fx);
// The list of the model's workers is another one: the classes of its replicas (router/preference.h).
void desk_on_ranks(struct desk *d, unsigned (*rank_of)(uint32_t id, void *ctx), void *ctx,
                   uint64_t now_us, struct effects *fx);
// It is down, comes no more, and has nothing in flight: what its facts pointed at may be freed. Its number is never given
// to another, so that what is still remembered of it (losses, sequences) is nobody else's.
void desk_on_replica_gone(struct desk *d, uint32_t id, uint64_t now_us);
// The keeper's word: that process has ended, before or after its connection, or without it. crashed: by a
// crash signal, a SIGKILL that was not ours, or with a status that is not 0.
void desk_on_process_end(struct desk *d, uint32_t id, uint32_t incarnation, bool crashed,
                         uint64_t now_us, struct effects *fx);
// The call of a sent batch has ended: one of the two, exactly once. The answer's block: one reference is
// handed over.
void desk_on_answer(struct desk *d, struct batch *b, struct answer *a, uint64_t now_us,
                    struct effects *fx);
void desk_on_end(struct desk *d, struct batch *b, const struct batch_end *end, uint64_t now_us,
                 struct effects *fx);
// What FX_STORE_GET asked for: the whole answer, which stays the caller's, and since when it is good (of the loop's clock; 0
// or the future: it does not matter). s NULL: it is not there, or cannot be had in time. The ask is over.
void desk_on_stored(struct desk *d, struct store_ask *a, const struct slice *s, uint64_t stored_us,
                    uint64_t now_us, struct effects *fx);
void desk_on_wake(struct desk *d, uint64_t now_us, struct effects *fx);
void desk_run(struct desk *d, uint64_t now_us, struct effects *fx);
// One JSON object: what it holds, and "wrong" when its counts do not add up.
struct json_writer;
void desk_show(const struct desk *d, uint64_t now_us, struct json_writer *w);

#endif
