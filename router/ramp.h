/* router/ramp.h: how a variant's weight is raised by and by: when its next step is due, and what holds it where it is. A pure
 * function of (rules, the live weight and since when it is, what is seen, now): the position on the way is the weight itself, so
 * a ramp goes on where it was after every start and at every instance, and stands aside once an operator has set a weight
 * that is no step of it. Thinks. Memory: the caller's. Thread: any, one state at a time.
 *
 *  A1  A step is followed by the next when it has lasted for `wait`, without a hold for as long, and the variant has had `least`
 *      requests meanwhile.
 *  A2  It is held while the variant has no replica that is ready, or does not fit, or a guard is half way to its verdict (of
 *      the logarithm of the evidence that it needs). What rolls an experiment back is the guard alone. */
#ifndef SLUICE_ROUTER_RAMP_H
#define SLUICE_ROUTER_RAMP_H

#include "router/experiment.h"

#define RAMP_STEPS 16

struct ramp_rules {
    const uint32_t *steps; // [n] in millionths, ascending, the last at most EXPERIMENT_WHOLE
    unsigned n;
    uint64_t wait_us;
    uint64_t least;
};

enum ramp_hold { RAMP_FREE, RAMP_UNREADY, RAMP_UNFIT, RAMP_ALARM };
extern const char *const ramp_hold_name[RAMP_FREE + 4];

struct ramp_seen {
    uint32_t weight;   // of the variant, in force
    uint64_t since_us; // when weights were set last
    uint64_t requests; // that the variant has had, ever; of a count that began anew: fewer
    bool ready, fits;
    double alarm; // the most evidence of a guard over what it needs, both as logarithms
};

struct ramp_state { // zeroed: nothing has been seen
    uint32_t weight;
    uint64_t from;       // requests when that weight was seen first
    uint64_t last;       // and at the last look
    uint64_t free_us;    // since when nothing holds it
    enum ramp_hold hold; // of the last look
};

enum ramp_move {
    RAMP_STAY,
    RAMP_GO,  // *weight is due
    RAMP_DONE // it has its last step, or stands aside
};
// now_us, and since_us: of one clock. *weight: RAMP_GO: the variant's next.
enum ramp_move ramp_look(struct ramp_state *s, const struct ramp_rules *r,
                         const struct ramp_seen *seen, uint64_t now_us, uint32_t *weight);
// The others' weights when one of n variants has `weight`: they share the rest as the file has them, or the control has it
// where the file gives them nothing. All add up to EXPERIMENT_WHOLE.
void ramp_weigh(const uint32_t *file, unsigned n, unsigned variant, uint32_t weight, uint32_t *out);

#endif
