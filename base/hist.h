/* base/hist.h: log-linear histogram of non-negative integers (microseconds, rows): 16 linear
 * sub-buckets for each power of two, values 0..2^40. Relative error of any quantile <= 1/16 (6.25 %),
 * exact up to 32; powers of two are edges. Mergeable by addition, across loops and hosts. Writers: one
 * thread; the counters are relaxed atomics so that another thread may read a consistent enough copy at
 * any time. */
#ifndef SLUICE_BASE_HIST_H
#define SLUICE_BASE_HIST_H

#include <stdatomic.h>
#include <stdint.h>

#define HIST_SUB 16
#define HIST_BUCKETS (1 + HIST_SUB + (40 - 4) * HIST_SUB)

struct hist {
    _Atomic uint64_t count, sum;
    _Atomic uint64_t bucket[HIST_BUCKETS];
};

void hist_init(struct hist *h);
void hist_add(struct hist *h, uint64_t value);
void hist_merge(struct hist *into, const struct hist *from);
// What came since `before`, an earlier copy of now; which becomes one of now.
void hist_since(struct hist *since, struct hist *before, const struct hist *now);
// Upper edge (inclusive) of the bucket that holds the q-quantile, 0 <= q <= 1; 0 when empty.
uint64_t hist_quantile(const struct hist *h, double q);
// How many values were <= bound (exact when bound is a bucket edge; Prometheus `le` buckets).
uint64_t hist_count_le(const struct hist *h, uint64_t bound);
unsigned hist_index(uint64_t value);
uint64_t hist_upper(unsigned index);

#endif
