/* keeper/backoff.h: how long to wait before starting again what has died. Thinks: time and randomness are
 * arguments. The first death is answered at once (a worker killed once is back in well under a second);
 * deaths in quick succession wait 100 ms, 200 ms, … up to 10 s, each shortened by up to a half at random,
 * so that what died together does not come back together. A life of 10 s forgets all that.
 * What we killed ourselves (it hung) is counted apart in the same way: a crash loop at its start does not
 * make a worker wait that hangs once, and one that hangs at every start is started ever more slowly. */
#ifndef SLUICE_KEEPER_BACKOFF_H
#define SLUICE_KEEPER_BACKOFF_H

#include "base/rand.h"
#include <stdint.h>

#define BACKOFF_FIRST_US 100000ull
#define BACKOFF_MOST_US 10000000ull
#define BACKOFF_LONG_LIFE_US 10000000ull

struct restart_backoff {
    unsigned quick_deaths; // in a row
    unsigned quick_kills;  // of those by our own hand
};

// It has lived so long and died. Microseconds to wait.
uint64_t backoff_after_death(struct restart_backoff *b, uint64_t lived_us, struct rand *r);
uint64_t backoff_after_kill(struct restart_backoff *b, uint64_t lived_us,
                            struct rand *r); // we ended it

#endif
