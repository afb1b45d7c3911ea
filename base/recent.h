/* base/recent.h: the values of the last while: a log-linear histogram (base/hist.h's buckets) over a window that moves on
 * by quarters. To add one costs two increments; what is out of the window goes a quarter at a time. Thinks. One thread. */
#ifndef SLUICE_BASE_RECENT_H
#define SLUICE_BASE_RECENT_H

#include "base/hist.h"

#define RECENT_PANES 4
#define RECENT_FEW 3 // a high quantile leaves out so many at least

struct recent {  // all zero: empty
    unsigned at; // the pane that is filled
    uint64_t since_us;
    uint32_t n, pane_n[RECENT_PANES];
    uint32_t sum[HIST_BUCKETS], pane[RECENT_PANES][HIST_BUCKETS];
};

static inline void recent_add(struct recent *r, uint64_t value)
{
    unsigned i = hist_index(value);
    r->n++;
    r->pane_n[r->at]++;
    r->sum[i]++;
    r->pane[r->at][i]++;
}

// Forgets what is older than the window.
void recent_turn(struct recent *r, uint64_t window_us, uint64_t now_us);
// So many values may be above a figure that speaks for all but one of a hundred.
static inline uint32_t recent_spare(uint32_t n)
{
    return n / 100 > RECENT_FEW ? n / 100 : RECENT_FEW;
}
// p99: upper edge of the bucket with the largest value that recent_spare are above. 0: there are no more than these.
uint64_t recent_p99(const struct recent *r);

#endif
