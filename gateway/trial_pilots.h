/* gateway/trial_pilots.h: what moves a live experiment's weights by itself: a ramp (router/ramp.h) or a bandit
 * (router/bandit.h), as its section says, by what all who share a store have counted. Each move is a change as an operator
 * makes one (gateway/trials.h). Does.
 * Thread: the main thread's. */
#ifndef SLUICE_GATEWAY_TRIAL_PILOTS_H
#define SLUICE_GATEWAY_TRIAL_PILOTS_H

#include "router/bandit.h"
#include "router/ramp.h"

struct gateway;
struct trial_run;

struct trial_pilot { // zeroed: nothing has been seen
    struct ramp_state ramp;
    uint64_t tried_us; // wall clock of the last move that was wanted
};

// Several times a second, while it runs. Of instances that share a store all look, and one moves.
void pilots_look(struct gateway *g, struct trial_run *run);
// Something moves its weights now.
bool pilots_steer(const struct trial_run *run);

#endif
