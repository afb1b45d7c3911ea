#include "keeper/backoff.h"

uint64_t backoff_after_death(struct backoff *b, uint64_t lived_us, struct rand *r)
{
    if (lived_us >= BACKOFF_LONG_LIFE_US)
        b->quick_deaths = 0;
    unsigned n = b->quick_deaths++;
    if (n == 0)
        return 0;
    uint64_t most = n - 1 < 7 ? BACKOFF_FIRST_US << (n - 1) : BACKOFF_MOST_US;
    if (most > BACKOFF_MOST_US)
        most = BACKOFF_MOST_US;
    return most - rand_below(r, most / 2 + 1);
}
