#include "router/cohorts.h"

#include <math.h>

#define QUARTERS 4 // of `within`
#define READ_AT 6  // quarters

_Static_assert(READ_AT > QUARTERS + 1 && READ_AT + 1 < COHORTS, "a quarter on both sides of it");
_Static_assert(COHORT_MARKS % COHORTS == 0, "a mark has one counter");

unsigned cohort_at(uint64_t now_us, uint64_t within_us)
{
    return (unsigned)(now_us / (within_us / QUARTERS) % COHORT_MARKS);
}

// Its seconds, of one and a half times `within` and one more at most, say that the mark is of this round.
bool cohort_takes(unsigned mark, uint64_t age_s, uint64_t now_us, uint64_t within_us)
{
    unsigned age = (cohort_at(now_us, within_us) + COHORT_MARKS - mark) % COHORT_MARKS;
    return age_s <= within_us * 3 / 2000000 && age <= QUARTERS;
}

unsigned cohort_settled(uint64_t now_us, uint64_t within_us)
{
    return (cohort_at(now_us, within_us) + COHORTS - READ_AT) % COHORTS;
}

uint64_t cohort_gain(double value, double most)
{
    return (uint64_t)(1e6 * fmin(fmax(value / most, 0), 1));
}

struct stats_arm cohort_arm(struct cohort_sum s)
{
    return (struct stats_arm){.n = s.n, .bad = (double)s.n - (double)s.gained / 1e6};
}
