/* gateway/trials.h: experiments as they are live. gateway.conf seeds them; operators and guards change them while they run
 * (router/trial_state.h has the record and its rules). The main thread holds one record for each experiment of the newest
 * configuration, keeps it where it outlives the process, and puts it in force on all loops (experiments_put): no file is
 * parsed for it, requests keep what they were drawn with. Several times a second it gives what was counted to the guards
 * (router/guards.h), which roll an experiment back. Does. Thread: the main thread's.
 *
 *   a change ─► the next record ─► the keeper of records: kept ─► in force, an event ─► the operator is answered
 *                                        │ another one is there: that one is in force; 409 with both
 *                                        └ it cannot be kept: in force all the same, and said so
 *
 *  T1  A record is in force when it is kept, or when it cannot be: what protects production does not wait for a disk.
 *  T2  What is counted counts from the record's counts_from on: in this process, or in all that share a store.
 *  T3  All that share a store look at the same sums; one of them rolls back, and moves weights (trial_store_leads), so that they
 *      are wrong no oftener, and move no faster, than one would. Without the store each looks for itself. */
#ifndef SLUICE_GATEWAY_TRIALS_H
#define SLUICE_GATEWAY_TRIALS_H

#include "gateway/process.h"
#include "gateway/snapshot.h"
#include "gateway/trial_pilots.h"
#include "router/guards.h"
#include "router/trial_state.h"

#define TRIAL_CAUSE 160 // bytes of why something was not done

struct trial_counted { // of one variant, when its record began to count
    struct guard_counts counts;
    struct hist took;
    struct stats_sum rewards[TRIAL_REWARDS]; // by their slots
};

struct trial_run {
    struct trial_state state;   // in force
    bool kept;                  // where records are kept it is this one, too
    struct hash128 digest;      // of its section
    struct guards guards;       // while it runs
    bool skewed;                // has been said
    struct trial_pilot pilot;   // what moves its weights by itself
    struct trial_counted *from; // [n_variants]; NULL: all that was counted counts
    struct experiment_place *place;
    unsigned index; // in its place
    bool present;   // scratch of trials_adopt
    struct trial_run *next;
};

enum trial_put_end {
    TRIAL_KEPT,
    TRIAL_CONFLICT, // there is another one of that revision, or beyond it
    TRIAL_NOT_KEPT
};

// A record on its way to where it is kept, instead of the revision before it.
struct trial_put {
    struct gateway *gateway;
    struct trial_state next;
    struct exchange *ex;       // a reference: of whoever waits for it; NULL: nobody
    struct trial_put *waiting; // of gateway.trials: the next one
};

// Where records are kept: a directory (gateway/trial_file.h), or a store that instances share.
struct trial_keeper {
    const char *name;
    bool shared; // others change records, too: what the file seeds is put there at once
    // What is kept of that name; false: nothing, or it is not known yet.
    bool (*find)(struct gateway *g, const char *name, struct trial_state *out);
    // Ends with one call of trials_put_end, now or later.
    void (*put)(struct gateway *g, struct trial_put *p);
};

struct trials {
    struct gateway *gateway;
    struct trial_run *first;
    const struct trial_keeper *keeper; // NULL: records end with the process
    struct trial_put *waiting;
    struct wheel_timer timer;
};

// Before the loops run, with the first snapshot.
void trials_start(struct gateway *g);
void trials_free(struct gateway *g); // the loops have stopped
// The experiments of a snapshot that no loop has seen yet: what is live is put into them.
void trials_adopt(struct gateway *g, struct snapshot *snap);

struct trial_run *trials_find(struct gateway *g, struct view name);
// A change of run's, kept and in force, or refused: `why`, and nothing has changed. The stamp's mark and time are filled in.
// ex: who is answered then, as trial_pages.h has it; a reference is taken. NULL: nobody.
bool trials_change(struct gateway *g, struct trial_run *run, struct trial_change *c,
                   struct exchange *ex, char why[TRIAL_CAUSE]);
// there: TRIAL_CONFLICT: what is kept. why: TRIAL_NOT_KEPT.
void trials_put_end(struct trial_put *p, enum trial_put_end end, const struct trial_state *there,
                    const char *why);
// Another instance has changed one, as the store tells: it is in force if it is newer than what is here. One with other
// variants than this instance's section is passed over.
void trials_changed(struct gateway *g, const struct trial_state *there);

// What is counted of a variant since it counts: by all instances, where a store that they share has told, and else by this
// one. took: NULL, or filled.
struct guard_counts trials_counts(const struct gateway *g, const struct trial_run *run,
                                  unsigned variant, struct hist *took);
// Likewise, of its section's `rewards`, in their order. n: how many were posted.
void trials_rewards(const struct gateway *g, const struct trial_run *run, unsigned variant,
                    struct stats_sum out[CONFIG_MAX_REWARDS]);
bool trials_watched(const struct trial_run *run); // it has guards, and they look

#endif
