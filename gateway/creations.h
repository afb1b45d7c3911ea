/* gateway/creations.h: experiments that operators have created while everything runs (router/creation.h). They stand behind those
 * of gateway.conf in every configuration that this process takes up, and one that comes or goes makes a snapshot of its own,
 * of the same generation, which the loops take up as that of a reload. What becomes of one that runs is gateway/trials.h's.
 *
 *   created, or read at the start ─► fits what is there? ─yes─► a part of each snapshot, as if the file had it ─► deleted
 *                                        │ no: event experiment_kept_out                ▲
 *                                        └──────── looked at again with each configuration┘
 *
 *  C1  A section of gateway.conf wins over a creation of that name, which waits behind it.
 *  C2  No creation keeps a configuration from being taken: it is left out.
 *  C3  One is kept before it is in force: in the store that instances share (gateway/creation_store.h), else in a file,
 *      state_dir/experiments/NAME.conf, which a start reads. Beside a store such a file is a copy, for a start.
 *  C4  They are put in the order in which they were created, so that of two that exclude each other the first one is in force.
 * Does. Thread: the main thread's. */
#ifndef SLUICE_GATEWAY_CREATIONS_H
#define SLUICE_GATEWAY_CREATIONS_H

#include "gateway/process.h"
#include "gateway/snapshot.h"
#include "router/creation.h"

#define CREATION_WHY 512

struct created {
    struct creation it;
    char why[CREATION_WHY];  // it is kept out of what was built last; "": it is in it
    char told[CREATION_WHY]; // likewise, of what is in force
    bool there;              // scratch of gateway/creation_store
    struct created *next;    // C4
};

// Those that state_dir has. Before the first snapshot; the log is there.
void creations_start(struct gateway *g);
void creations_free(struct gateway *g); // and nobody is answered any more
struct created *creations_find(const struct gateway *g, struct view name);
// As snapshot_new, of what a file says (nobody else has it yet), with those that fit.
struct snapshot *creations_snapshot(struct gateway *g, struct config *c, uint64_t generation,
                                    uint64_t since_us, char why[FILE_WHY]);
// One that came, or went, is in the newest snapshot: whoever waits (a reference is taken) is answered by creation_pages_taken
// when every loop has that, so that no draw is made any more without it.
void creations_answer(struct gateway *g, struct exchange *ex, const char *name, bool gone);
void creations_taken(const struct snapshot *p); // every loop has it
// The newest snapshot comes into force: an event for each that is kept out of it now, or no more.
void creations_tell(struct gateway *g);

enum creation_end {
    CREATION_DONE,
    CREATION_WRONG, // its text: in lines of it
    CREATION_TAKEN, // its name: there is one
    CREATION_FULL,  // so many are there that it may be later
    CREATION_UNKEPT // it could not be written, or there is nowhere to: nothing has changed
};
// Whether one may come or go now, and whether that one may come, whose name is set then. Else `why` says it.
enum creation_end creations_check(struct gateway *g, char why[CREATION_WHY]);
enum creation_end creations_try(struct gateway *g, struct creation *it, char why[CREATION_WHY]);
// It is in force: taken over if done, *made. who, reason: for the event.
enum creation_end creations_add(struct gateway *g, struct creation *it, const struct created **made,
                                char why[CREATION_WHY]);
enum creation_end creations_remove(struct gateway *g, struct created *c, struct view who,
                                   struct view reason, char why[CREATION_WHY]);

// Of the store: several come and go, and are in force together then, as far as they fit (C2). What comes takes the place of one of
// its name.
bool creations_put(struct gateway *g, struct creation *it, char why[CREATION_WHY]);
void creations_drop(struct gateway *g, struct created *c, struct view who, struct view why);
void creations_share(struct gateway *g, struct created *c); // it is there, too
void creations_apply(struct gateway *g); // or, where that cannot be now, creations.stale

#endif
