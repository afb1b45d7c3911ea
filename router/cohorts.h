/* router/cohorts.h: when it is known what reward a request has had. Rewards come late: who counts a request at once and its
 * reward later holds the newest requests against a variant, more so while its weight grows. So requests are counted
 * in cohorts by their time, a quarter of `within` each, and a reward in the cohort of its request; a cohort is looked at
 * when its last reward has had its time, as a whole.
 *
 *  age in quarters   0          1 2 3 4                5           6                  7
 *                    it grows   rewards are in time    too late    it may be read     too late
 *
 *  H1  A reward that comes within `within` is in time, one after five quarters is not.
 *  H2  There are COHORTS counters, used round and round, that only grow: a cohort that nobody has read in its quarter is
 *      read the next time round. The quarters around that one are for clocks that stand still for a loop's turn.
 *  H3  A request has at most one reward, between nothing and the most: the sum of a cohort is at most its number.
 *
 * So what has been read of a variant is of whole requests, and how much each of them had is a number in [0, 1], whatever came when. Thinks.
 * Thread: any. */
#ifndef SLUICE_ROUTER_COHORTS_H
#define SLUICE_ROUTER_COHORTS_H

#include "router/stats.h"

#define COHORTS 8       // counters
#define COHORT_MARKS 64 // a mark says which quarter it was; its counter is mark % COHORTS
#define COHORT_WITHIN_MIN_US 2000000

struct cohort_sum {  // of requests
    uint64_t n;      // of them
    uint64_t gained; // in millionths of the most
};

// The mark of a request of now. within_us: >= COHORT_WITHIN_MIN_US.
unsigned cohort_at(uint64_t now_us, uint64_t within_us);
// Is a reward of now in time for a request with that mark? age_s: by how much the clock's whole seconds have changed since.
bool cohort_takes(unsigned mark, uint64_t age_s, uint64_t now_us, uint64_t within_us);
// Which counter may be read now.
unsigned cohort_settled(uint64_t now_us, uint64_t within_us);
// What a reward of that value counts, in millionths: what is out of [0, most] as the nearer end.
uint64_t cohort_gain(double value, double most);
// bad: what they did not have.
struct stats_arm cohort_arm(struct cohort_sum s);

#endif
