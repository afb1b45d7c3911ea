/* gateway/trial_store.h: records of experiments, and what is counted of them, in the store that instances share. Does.
 * Thread: the main thread's, with a connection of its own and one that listens: a loop that is stuck holds up no change.
 *
 * Keys, all of an experiment on one slot of a Cluster:
 *   sluice:DEPLOYMENT:exp:{NAME}              hash: version ("REVISION:EPOCH:MARK"), record (router/trial_state.h, JSON)
 *   sluice:DEPLOYMENT:exp:{NAME}:c:FROM:VARIANT  hash: what is counted of it since revision FROM (router/trial_sums.h)
 *   sluice:DEPLOYMENT:exp:{NAME}:flushed      hash: a life of an instance -> its last flush: number, time, state, whose
 *   sluice:DEPLOYMENT:exp:changes             channel: the name of an experiment that has changed; "#": one has come or gone
 * Which have been created stands by itself (gateway/creation_store.h).
 *
 *   a change ─► one script compares the version and sets both fields ─► published ─► others read it
 *   each second: is the version what is in force here? ─no─► the record: taken, or written over (trial_state.h, R2 to R4)
 *   each second: what has come since ─► a flush ─► one script adds it if it is the next one
 *
 *  K1  Nobody waits for the store but the operator who asked for a change, and he for the time of one command.
 *  K2  What cannot be told now is told later: changes by the look at the version, counts by the next flush.
 *  K3  Who ends in order says so with his last flush. Whose flush is old, or has another life of the same instance behind it,
 *      was killed: whoever sees it first says so, once: what he had counted since is not in the sums. */
#ifndef SLUICE_GATEWAY_TRIAL_STORE_H
#define SLUICE_GATEWAY_TRIAL_STORE_H

#include "gateway/trials.h"
#include "router/trial_sums.h"

struct json_writer;

// Of a snapshot with a store: while it has one.
extern const struct trial_keeper trial_store;

// The newest snapshot's store from now on.
void trial_store_adopt(struct gateway *g);
// What was counted until now belongs to the record as it is: before another one is in force, or the experiment goes.
void trial_store_count(struct gateway *g, const struct trial_run *run);
// What all instances together have counted since counts_from, as it was last heard, and what this one has counted since. False:
// it has not been heard, and each counts for itself.
bool trial_store_sums(const struct gateway *g, const struct trial_run *run, unsigned variant,
                      struct trial_sums *out);
// Of those that have told of themselves lately one alone acts: the one whose life's name is first. Without a store each does.
bool trial_store_leads(const struct gateway *g, const struct trial_run *run);
// The process ends: the last flush goes out. True: it has come home, or there is no use in waiting for it. Called again
// until it is.
bool trial_store_is_done(struct gateway *g);
void trial_store_free(struct gateway *g); // the loops have stopped: nobody is told how a put ends

struct trial_store_figures {
    bool up, listens;
    unsigned known, to_flush;       // records that are; experiments whose counts are not told
    uint64_t flushed, lost, fenced; // flushes told, and lost; records written over others
};
// False: no store.
bool trial_store_read(const struct gateway *g, struct trial_store_figures *out);
// One JSON object: for /status.
void trial_store_show(const struct gateway *g, struct json_writer *w);

#endif
