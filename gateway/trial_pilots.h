/* gateway/trial_pilots.h: what moves a live experiment's weights by itself: a ramp (router/ramp.h) or a bandit
 * (router/bandit.h), as its section says. Each move is a change as an operator makes one (gateway/trials.h). Does.
 * Thread: the main thread's. */
#ifndef SLUICE_GATEWAY_TRIAL_PILOTS_H
#define SLUICE_GATEWAY_TRIAL_PILOTS_H

#include "router/bandit.h"
#include "router/ramp.h"

struct gateway;
struct trial_run;

struct trial_pilot { // zeroed: nothing has been seen
    struct ramp_state ramp;
    uint64_t counts_from;                       // the record's, that `from` belongs to
    struct stats_sum from[EXPERIMENT_VARIANTS]; // rewards, before it
    uint64_t tried_us;                          // wall clock of the last move that was wanted
};

// Several times a second, while it runs.
void pilots_look(struct gateway *g, struct trial_run *run);

#endif
