/* tests/sim/today.h: the world speaks to a router that judges by evidence; this is what the present one hears
 * of it. */
#ifndef SLUICE_TESTS_SIM_TODAY_H
#define SLUICE_TESTS_SIM_TODAY_H

#include "router/desk.h"

#define SIM_TODAY 1

enum seen { SEEN_ANSWER, SEEN_WRONG, SEEN_STATUS, SEEN_UNPROCESSED, SEEN_LOST, SEEN_RECALLED };

struct worker_vitals {
    uint64_t probed_us;
};

struct batch_end {
    enum seen seen;
    bool ours;
    uint64_t pushback_us;
    const struct error *error;
};

static inline void desk_on_end(struct desk *d, struct batch *b, const struct batch_end *e,
                               uint64_t now_us, struct effects *fx)
{
    static const enum desk_fail as[] = {[SEEN_WRONG] = FAIL_MALFORMED,
                                        [SEEN_STATUS] = FAIL_ERROR,
                                        [SEEN_UNPROCESSED] = FAIL_REFUSED,
                                        [SEEN_LOST] = FAIL_LOST,
                                        [SEEN_RECALLED] = FAIL_RECALLED};
    desk_on_fail(d, b, as[e->seen], e->error, now_us, fx);
}

static inline void desk_on_process_end(struct desk *d, uint32_t id, uint32_t incarnation,
                                       bool crashed, uint64_t now_us, struct effects *fx)
{
    (void)d, (void)id, (void)incarnation, (void)crashed, (void)now_us, (void)fx;
}

#endif
