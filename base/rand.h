/* base/rand.h: seeded xoshiro256** (Blackman, Vigna 2018), state an argument: the thinking rooms draw
 * from what they are given, so that a seed replays. Not for secrets. */
#ifndef SLUICE_BASE_RAND_H
#define SLUICE_BASE_RAND_H

#include <stdint.h>

struct rand {
    uint64_t s[4];
};

void rand_seed(struct rand *r, uint64_t seed); // splitmix64 expansion
uint64_t rand_u64(struct rand *r);
uint64_t rand_below(struct rand *r, uint64_t n); // uniform in [0, n), n > 0, no modulo bias
double rand_unit(struct rand *r);                // uniform in [0, 1)

#endif
