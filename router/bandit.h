/* router/bandit.h: weights that follow a reward: Thompson sampling (Russo, Van Roy, Kazerouni, Osband, Wen: A Tutorial on
 * Thompson Sampling (2018), section 3), with the whole of the next minute's traffic for one draw of each key: a variant's
 * weight goes to the probability that its mean reward is the best. A pure function of (rules, what was counted, the weights in force,
 * a seed). Thinks. Memory: the caller's.
 *
 * A mean's posterior is taken as normal: its mean is the sum of rewards over requests, its variance the requests' over
 * their number, and no less than one of a reward that comes once in as many requests (else a variant that has had none yet
 * would never be tried again). A request without a reward has had 0.
 *
 *  D1  No weight falls below `floor`, one that begins there rises as far as the others give way, and none moves by more than
 *      `step` at a time: what is learnt late is not lost.
 *  D2  Nothing moves before every variant has had `least` requests, and none that is seen as unready or unfit grows. */
#ifndef SLUICE_ROUTER_BANDIT_H
#define SLUICE_ROUTER_BANDIT_H

#include "router/experiment.h"
#include "router/stats.h"

#define BANDIT_DRAWS 2000
#define BANDIT_GRAIN                                                                               \
    10000u // weights are multiples of 1 %: each change cuts up the buckets (experiment.h)

struct bandit_rules {
    uint32_t floor, step; // millionths; the floors of all add up to EXPERIMENT_WHOLE at most
    uint64_t least;
    unsigned n; // variants
};

struct bandit_arm {
    struct stats_sum reward; // n: of requests
    bool stands;             // it may grow
};

// out: [r->n], which add up to EXPERIMENT_WHOLE. False: they are those that are in force.
bool bandit_weigh(const struct bandit_rules *r, const struct bandit_arm *arms,
                  const uint32_t *weights, uint64_t seed, uint32_t *out);

#endif
