#include "base/hist.h"

#include "base/count.h"

/* Buckets are (lower, upper], so that round bounds are edges: bucket 0 is 0 alone, bucket i + 1 holds the v
 * whose v - 1 = w has the place i. w < 16: w itself. Else, with e the place of its highest bit (4..39): the
 * four bits below it choose one of 16 sub-buckets, each 2^(e-4) wide; the width over the lower edge is at
 * most 1/16. */

unsigned hist_index(uint64_t value)
{
    uint64_t w = value - 1;
    if (value <= HIST_SUB)
        return (unsigned)value;
    unsigned e = 63 - (unsigned)__builtin_clzll(w);
    if (e >= 40)
        return HIST_BUCKETS - 1;
    return 1 + (e - 3) * HIST_SUB + (unsigned)((w >> (e - 4)) & (HIST_SUB - 1));
}

uint64_t hist_upper(unsigned index)
{
    if (index <= HIST_SUB)
        return index;
    unsigned e = (index - 1) / HIST_SUB + 3, sub = (index - 1) % HIST_SUB;
    return (uint64_t)(HIST_SUB + sub + 1) << (e - 4);
}

void hist_init(struct hist *h)
{
    atomic_init(&h->count, 0);
    atomic_init(&h->sum, 0);
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        atomic_init(&h->bucket[i], 0);
}

void hist_add(struct hist *h, uint64_t value)
{
    count_add(&h->bucket[hist_index(value)], 1);
    count_add(&h->sum, value);
    count_add(&h->count, 1);
}

void hist_merge(struct hist *into, const struct hist *from)
{
    count_add(&into->count, count_get(&from->count));
    count_add(&into->sum, count_get(&from->sum));
    for (unsigned i = 0; i < HIST_BUCKETS; i++) {
        uint64_t n = count_get(&from->bucket[i]);
        if (n)
            count_add(&into->bucket[i], n);
    }
}

static void since(_Atomic uint64_t *out, _Atomic uint64_t *before, const _Atomic uint64_t *now)
{
    uint64_t n = count_get(now);
    atomic_store_explicit(out, n - count_get(before), memory_order_relaxed);
    atomic_store_explicit(before, n, memory_order_relaxed);
}

void hist_since(struct hist *out, struct hist *before, const struct hist *now)
{
    since(&out->count, &before->count, &now->count);
    since(&out->sum, &before->sum, &now->sum);
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        since(&out->bucket[i], &before->bucket[i], &now->bucket[i]);
}

uint64_t hist_quantile(const struct hist *h, double q)
{
    uint64_t total = 0; // of the buckets, not ->count: a writer may be between the two
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        total += count_get(&h->bucket[i]);
    if (total == 0)
        return 0;
    double exact = q * (double)total;
    uint64_t rank = exact > 0 ? (uint64_t)exact : 0;
    if ((double)rank < exact)
        rank++;
    if (rank == 0)
        rank = 1;
    uint64_t seen = 0;
    for (unsigned i = 0; i < HIST_BUCKETS; i++) {
        seen += count_get(&h->bucket[i]);
        if (seen >= rank)
            return hist_upper(i);
    }
    return hist_upper(HIST_BUCKETS - 1);
}

uint64_t hist_count_le(const struct hist *h, uint64_t bound)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < HIST_BUCKETS && hist_upper(i) <= bound; i++)
        n += count_get(&h->bucket[i]);
    return n;
}
