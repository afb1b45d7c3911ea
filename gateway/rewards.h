/* gateway/rewards.h: rewards that clients post of answers (api/feedback.h): which variant each belongs to, and the sums. A pure
 * record: nothing is answered otherwise for it. Does. Thread: the loop's.
 *
 * By the request's id: each loop remembers the requests that it answered for an experiment with `rewards`, in a table of
 * its own of a fixed size: 8 places for each hash, of which the oldest is given up, after a day in any case. Other loops read
 * it without a lock. By the sticky key: the variant that the key has now.
 *
 * A guard looks at what each request has had (router/cohorts.h): at the first reward of that name that is posted by its
 * id, in time. A reward by the key is nobody's in particular, and counts in the sums alone. */
#ifndef SLUICE_GATEWAY_REWARDS_H
#define SLUICE_GATEWAY_REWARDS_H

#include "base/view.h"
#include "infer/status.h"
#include "router/stats.h"
#include <stdatomic.h>

#define REWARD_WAYS 8
#define REWARD_DAY_S (24u * 3600)
#define REWARDS_A_SECOND 20000u  // of one loop; then 503
#define REWARD_TRIALS (1u << 23) // of their ids
#define REWARD_WAITED (1u << 31) // a guard waits for its reward

struct request;
struct serving;
struct trial;
struct prom;
struct gateway;

struct reward_place { // written by its loop: word 0 while it changes
    _Atomic uint64_t tag;
    // seconds of the loop's clock << 32 | REWARD_WAITED | era << 29 | mark << 23 | the trial's id; 0: free
    _Atomic uint64_t word;
};

struct reward_memory { // zeroed: nothing is remembered
    _Atomic(struct reward_place *)
        places; // [sets * REWARD_WAYS]; made when there is something to remember
    uint32_t sets;
    uint64_t second; // of which `taken` were taken
    uint32_t taken;
    _Atomic uint64_t unknown; // rewards for requests that nobody remembers
};

void rewards_deinit(struct reward_memory *m); // the loops have stopped
// It is being answered: its id is remembered, if its experiment wants rewards.
void rewards_remember(struct request *r);
// One that was drawn is counted in its cohort, if a guard looks at rewards, and it has not been yet. Its mark; COHORT_MARKS: it was not.
unsigned rewards_enter(struct request *r);
// serving_ops.feedback
bool rewards_take(struct serving *s, struct view *variant, struct error *e);
// Main thread: of all loops together, of a slot of its names, since the start. n: rewards.
struct stats_sum rewards_sum(const struct trial *t, unsigned loops, unsigned slot);
// Main thread: their families of the metrics page.
void rewards_metrics(struct prom *o, struct gateway *g);

#endif
