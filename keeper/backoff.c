#include "keeper/backoff.h"

static uint64_t pause_us(unsigned n, struct rand *r) // after n deaths in quick succession
{
    if (n == 0)
        return 0;
    uint64_t most = n - 1 < 7 ? BACKOFF_FIRST_US << (n - 1) : BACKOFF_MOST_US;
    if (most > BACKOFF_MOST_US)
        most = BACKOFF_MOST_US;
    return most - rand_below(r, most / 2 + 1);
}

static void forget(struct restart_backoff *b, uint64_t lived_us)
{
    if (lived_us >= BACKOFF_LONG_LIFE_US)
        *b = (struct restart_backoff){0};
}

uint64_t backoff_after_death(struct restart_backoff *b, uint64_t lived_us, struct rand *r)
{
    forget(b, lived_us);
    return pause_us(b->quick_deaths++, r);
}

uint64_t backoff_after_kill(struct restart_backoff *b, uint64_t lived_us, struct rand *r)
{
    forget(b, lived_us);
    return pause_us(b->quick_kills++, r);
}
