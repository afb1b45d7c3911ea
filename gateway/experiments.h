/* gateway/experiments.h: the experiments of one configuration, by the name that clients ask for, with the keys that its files
 * hold, and what was counted of each variant: made on the main thread (the keeper makes one to see that it can be made),
 * a part of the snapshot. Does. Immutable once made but for its atomics: any thread reads it.
 *
 * What operators and guards change of one that runs (gateway/trials.h) takes no other snapshot: the pointer to it does,
 * and each draw reads one of them. The one before is freed when every loop has had a turn since: a draw ends in its turn. */
#ifndef SLUICE_GATEWAY_EXPERIMENTS_H
#define SLUICE_GATEWAY_EXPERIMENTS_H

#include "api/trait.h"
#include "base/hist.h"
#include "config/config.h"
#include "gateway/file.h"
#include "infer/status.h"
#include "router/cohorts.h"
#include "router/guards.h"

struct gateway;
struct prom;
struct shadow_counts;

// Of one loop, which alone writes them.
struct reward_counts { // of one name: written by its loop
    _Atomic uint64_t n;
    _Atomic uint64_t sum, squares; // bits of doubles
};

struct cohort_counts {          // written by its loop
    _Atomic uint64_t n, gained; // as of struct cohort_sum
};

#define TRIAL_REWARDS 16u // names that a variant may have had since the start

struct trial_counts {
    _Atomic uint64_t requests[STATUS_COUNT]; // that were drawn, by outcome
    _Atomic uint64_t forced;                 // by testers: counted nowhere else here
    _Atomic uint64_t fallbacks;              // of the answers, those that another model gave
    struct hist took;                        // microseconds, of answers
    struct reward_counts rewards[TRIAL_REWARDS];
    struct cohort_counts cohorts[COHORTS]; // of the reward that a guard looks at
    _Atomic uint64_t outside[DRAW_HOWS]; // of a name that clients ask for: whom no experiment took
    _Atomic(struct shadow_counts *)
        shadow; // of a shadow, and nothing else then (gateway/shadows.h)
};

// What was counted of a variant, of a shadow, or of a name that clients ask for: configurations that have it hand it on.
struct trial {
    unsigned refs; // the main thread's
    char name[CONFIG_NAME_BYTES],
        variant
            [CONFIG_NAME_BYTES]; // of the experiment, and the variant's or the shadow's; or of the model, and none
    uint32_t id;                 // no other trial's, ever; not 0
    // The main thread's; a slot is one name's for ever.
    char reward[TRIAL_REWARDS][CONFIG_NAME_BYTES];
    unsigned n_rewards;
    struct cohort_sum settled[COHORTS];   // of all loops, as each was when it was last read
    struct trial_counts *_Atomic shard[]; // [loops], made when there is something to count
};

#define EXPERIMENT_ERAS 4u

struct experiment_keep { // what stands beside an experiment
    const struct config_experiment *config;
    struct trial **trials;        // [variants]
    struct trial **shadow_trials; // [shadows]
    uint8_t *reward_slots; // [variants][CONFIG_MAX_REWARDS]: of config->rewards, in their trials
    _Atomic uint32_t unfit;
    unsigned era;    // < EXPERIMENT_ERAS: the next one where a guard waits another time for rewards
    char *force_key; // NULL: testers cannot say
    size_t force_bytes;
};

struct experiment_place { // what stands around a site
    struct experiment_site site;
    const struct trait *traits;    // [site.n_traits]
    struct experiment_keep *keeps; // [site.n]
    struct trial *outside;
};

struct experiments {
    struct arena arena;
    unsigned loops;
    struct experiment_place *places; // [n] by their model's name
    unsigned n;
};

// before: NULL, or those of the configuration before, whose counts go on. The configuration stays for as long. NULL without
// an experiment, or with why not (then why[0]).
struct experiments *experiments_new(const struct config *c, const struct experiments *before,
                                    unsigned loops, char why[FILE_WHY]);
void experiments_free(struct experiments *all); // NULL is fine
// What clients reach by that name; NULL: a model, or nothing.
const struct experiment_place *experiments_find(const struct experiments *all, struct view model);

// Main thread: the index-th experiment of the place goes on by that from the next draw of each loop. gateway: NULL before
// any loop has seen the place: then it has all that it takes. False: out of memory, and nothing has changed.
bool experiments_put(struct gateway *gateway, struct experiment_place *p, unsigned index,
                     const struct experiment_live *live);
void experiments_forget(struct gateway *g); // the loops have stopped: none before is read any more

// Which variant that request is. False: e, of a `sluice-variant` that does not hold.
bool experiments_draw(const struct experiment_place *p, struct exchange *ex,
                      const struct infer_request *r, struct view request_id, uint64_t wall_s,
                      struct experiment_draw *out, struct error *e);
// Of the loop; NULL: out of memory (then it is not counted).
struct trial_counts *experiments_counts(struct trial *t, unsigned loop);
struct trial *experiments_trial(const struct experiment_place *p, const struct experiment_draw *d);

// Of all loops together, those that were drawn.
uint64_t experiments_requests(const struct trial *t, unsigned loops);
// Of all loops together. slow: of answers, those that took longer than slow_us, by the edges of the histogram; 0: nobody asks; took: NULL, or filled anew.
struct guard_counts experiments_sum(const struct trial *t, unsigned loops, uint64_t slow_us,
                                    struct hist *took);

// Main thread, several times a second: the cohort that may be read now of a trial whose rewards have so long.
void experiments_settle(struct trial *t, unsigned loops, uint64_t now_us, uint64_t within_us);
// Main thread: of all cohorts that were read.
struct cohort_sum experiments_settled(const struct trial *t);

// Main thread, once a second: which variants take or give something else than their control, by what workers have told
// of both. Those are not drawn from here on, or again; an event tells of each change.
void experiments_look(struct gateway *g);

// Main thread: their families of the metrics page.
void experiments_metrics(struct prom *o, struct gateway *g);

#endif
