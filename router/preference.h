/* router/preference.h: a model on several workers, with preference. Replicas are of a class: the place of their worker in
 * the model's list, 0 the first. Thinks. Thread: the home loop's. Owner: struct replicas.
 *
 *  C1  In force is the lowest class of which a replica is ready: its size of batches, its t(b) and its servers are what the
 *      queue is planned with (batcher.policy, batcher.estimate, batcher.outlook). Of the others t(b) is kept beside.
 *  C2  A batch goes to the lowest class that has credit for it. Under `fixed` that is all: a class without credit is
 *      saturated. Under `auto`, where credit is no measure, the class in force is saturated when all its servers are busy
 *      and what waits is more than they take next, and would be answered sooner by an idle server of another class; or when
 *      its first deadline is not to be met by them, or what they do takes longer than is known. Then that one has a batch of it, none of which comes too late there.
 *  C3  How long another class takes is learnt from what it is given. What was recalled there took at least so long. Who is
 *      given nothing teaches nothing: what is known is put to the test by a batch of one when it has met no answer for
 *      PREFERENCE_DOUBT_US, and forgotten when that took less than half of it.
 *      What was late counts only while it is not in force: then whoever is late is let end, to learn how long it takes.
 *      The list may be another one after a reload: what is known of a class goes with its replicas to the class that they are
 *      of now. Of several that become one the slowest is believed.
 *  C4  Demand is measured against all (share, refusals): whoever can be answered by any of them is not refused.
 *  C5  Replicas of one class agree on the size of batches; classes may differ. Requests of many rows are split for the
 *      least of all, so that any of them can take over what another one has left. */
#ifndef SLUICE_ROUTER_PREFERENCE_H
#define SLUICE_ROUTER_PREFERENCE_H

#include "router/replicas.h"

#define PREFERENCE_DOUBT_US 10000000

// After any change of who is up or open: C1, C5. The desk forms batches anew when `moved` is set.
void preference_lead(struct replicas *rs);
struct class_known preference_unknown(void);
// The classes of the replicas are others now, and were `was` [rs->n]: C3. Call preference_lead after it.
void preference_carry(struct replicas *rs, const uint8_t *was);
// Would it be the odd one among those of its class that are up? Returns the size of batches of the others; else its own.
uint32_t preference_batch(const struct replicas *rs, const struct replica *r);

// t(b) of that class, in force or not.
const struct estimate *preference_estimate(const struct replicas *rs, unsigned rank);
// A batch that was sent to another class than the one in force was answered, and took so long; or was recalled.
void preference_learn(struct replicas *rs, const struct batch *b, uint64_t took_us,
                      uint64_t now_us);
void preference_late(struct replicas *rs, const struct batch *b, uint64_t now_us);

// auto: what the other classes can do, into the outlook on the one in force (C4).
void preference_beside(const struct replicas *rs, struct outlook *o, uint64_t now_us);
// C2: a class that should have a batch of what waits, and how many rows at most; with the outlook on its servers, and what
// its batch is planned with. rank: REPLICA_RANKS: none.
struct preference_help {
    unsigned rank;
    uint32_t cap_rows;
    struct outlook at;
    struct estimate t; // unknown, where it is put to the test
};
struct preference_help preference_helps(const struct replicas *rs, uint64_t now_us);
// It has been given that batch.
void preference_helped(struct replicas *rs, const struct preference_help *h, uint64_t now_us);

#endif
