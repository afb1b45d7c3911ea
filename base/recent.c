#include "base/recent.h"

#include <string.h>

// The oldest pane is empty, and filled from now on.
static void next_pane(struct recent *r)
{
    r->at = (r->at + 1) % RECENT_PANES;
    for (unsigned i = 0; r->pane_n[r->at] > 0 && i < HIST_BUCKETS; i++)
        r->sum[i] -= r->pane[r->at][i];
    if (r->pane_n[r->at] > 0)
        memset(r->pane[r->at], 0, sizeof(r->pane[0]));
    r->n -= r->pane_n[r->at];
    r->pane_n[r->at] = 0;
}

void recent_turn(struct recent *r, uint64_t window_us, uint64_t now_us)
{
    uint64_t pane_us = window_us / RECENT_PANES;
    for (unsigned i = 0; i < RECENT_PANES && now_us - r->since_us >= pane_us; i++) {
        next_pane(r);
        r->since_us += pane_us;
    }
    if (now_us - r->since_us >= pane_us)
        r->since_us = now_us;
}

uint64_t recent_p99(const struct recent *r)
{
    uint32_t spare = recent_spare(r->n), above = 0;
    if (r->n <= spare)
        return 0;
    unsigned i = HIST_BUCKETS;
    do
        above += r->sum[--i];
    while (above <= spare && i > 0);
    return hist_upper(i);
}
