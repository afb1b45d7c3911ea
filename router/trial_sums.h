/* router/trial_sums.h: what was counted of a variant, as numbers that add up: over loops, over instances, over the lives of an
 * instance. And the order in which an instance tells a store of them, so that each is added once.
 *
 * A flush is what has come since the one before, with a number: 1, 2, 3 ... of an instance's life and an experiment. The store
 * remembers the last number of each life, adds the next one and no other. So a flush whose end is not known is sent
 * again as it was; one that was added is known to be; and a store that has gone back (a failover, a restart without its last second)
 * says where it is, and gets from there on what it has lost, as far as it is remembered.
 *
 *  F1  One flush of an experiment is out at a time. What is counted meanwhile waits in one sum: it takes no more room
 *      however long the store is away.
 *  F2  The last FLUSH_KEPT flushes are remembered, of which all but the newest have been added.
 *  F3  What the store has lost before those is lost, and said.
 *
 * Thinks. Memory: the caller's, but for the texts. Thread: the main thread's. */
#ifndef SLUICE_ROUTER_TRIAL_SUMS_H
#define SLUICE_ROUTER_TRIAL_SUMS_H

#include "base/buffer.h"
#include "router/stats.h"

#define TRIAL_SUMS_REWARDS 16u
#define TRIAL_SUMS_NAME 136 // bytes of a reward's name, and its NUL

struct trial_reward { // as it was posted
    char name[TRIAL_SUMS_NAME];
    struct stats_sum of;
};

struct trial_sums {
    uint64_t requests;           // that were drawn
    uint64_t ended, errors;      // that were answered or failed; of those, that failed
    uint64_t answers, fallbacks; // of the answers, those that another model gave
    uint64_t settled, gained;    // as of struct cohort_sum (router/cohorts.h), of what was read
    uint64_t took_us;            // all answers together
    uint64_t took[HIST_BUCKETS]; // answers, by base/hist.h's buckets of microseconds
    unsigned n_rewards;
    struct trial_reward rewards[TRIAL_SUMS_REWARDS]; // each name once, in any order
};

// Of that name, made with 0 where it has none. NULL: there is no room for it, or it is too long.
struct stats_sum *trial_sums_reward(struct trial_sums *s, struct view name);

bool trial_sums_is_zero(const struct trial_sums *s);
// Rewards that `into` has no room for are left out.
void trial_sums_add(struct trial_sums *into, const struct trial_sums *more);
// What has come between: now less before. Where something is less than it was, it has been counted anew from 0; of rewards
// that goes by their number, since their values may be negative.
void trial_sums_since(struct trial_sums *out, const struct trial_sums *now,
                      const struct trial_sums *before);

// "requests 12 errors 1 b17 11 rewards:click 2 reward_sum:click 1.5 reward_squares:click 1.25 ...": what is not 0, appended: fields
// of a hash in the store, and what they grow by; those that begin with "reward_" are no whole numbers. False: out of memory.
bool trial_sums_write(struct buffer *out, const struct trial_sums *s);
// One field as the store has it. False: none of ours, or no such number: nothing is taken. Rewards are ours whose names `into` has.
bool trial_sums_take(struct trial_sums *into, struct view field, struct view value);

// ---- flushes -----------------------------------------------------------------------------------------

#define FLUSH_KEPT 8

struct trial_flush {
    uint64_t number;    // 0: none
    struct buffer text; // the owner's
};

struct trial_flushes {
    struct trial_flush kept[FLUSH_KEPT]; // by number, round and round
    uint64_t newest;                     // that was made; 0: none was
    uint64_t next;                       // to be sent; newest + 1: all have been added
    bool out;                            // it is on its way
    bool forced; // the store has lost more than is remembered: it goes on from here
};

void trial_flushes_init(struct trial_flushes *f);
void trial_flushes_deinit(struct trial_flushes *f);
// Whether the next one may be made: all have been added.
static inline bool trial_flushes_are_added(const struct trial_flushes *f)
{
    return !f->out && f->next == f->newest + 1;
}
// The next one, empty: its text is to be written. Takes the place of the oldest; NULL: that has not been added yet.
struct trial_flush *trial_flushes_make(struct trial_flushes *f);
// That one was not made after all.
void trial_flushes_unmake(struct trial_flushes *f);
// The one to be sent now, which is out from here on; NULL: none, or one is out.
struct trial_flush *trial_flushes_send(struct trial_flushes *f);
// How it ended. Nobody knows, or it was not sent: it goes again.
void trial_flushes_unsent(struct trial_flushes *f);
void trial_flushes_added(struct trial_flushes *f); // now, or before
// The store has no more than `last`. How many flushes are lost to it: 0 but for F3.
uint64_t trial_flushes_gap(struct trial_flushes *f, uint64_t last);

#endif
