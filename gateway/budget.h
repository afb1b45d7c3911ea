/* gateway/budget.h: the bytes that requests and their answers may hold in the whole process, leased to the
 * loops by the slice, so that charging a body touches no shared word. A loop keeps less than two slices that it does not
 * use; the limit is as much larger inside, so that what idles at one loop is never missed at another:
 *     sum of used <= limit + slack,  and a charge that keeps sum of used <= limit is never refused.
 * What must be taken to finish what runs may go beyond the limit by so much as its caller says.
 * The lowest priority gives way first: each class leaves the last part of the limit, and of what answers may take
 * beyond it, to those above. A request's priority stands in its body: until that is read and decoded there is none,
 * and whoever comes is charged up to the limit; then it goes on, or is refused, by what the others hold:
 *     others <= share of its class  =>  admitted,  however large it is itself.
 * Thread: a lease belongs to its loop; the process's count is the one atomic. */
#ifndef SLUICE_GATEWAY_BUDGET_H
#define SLUICE_GATEWAY_BUDGET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define BUDGET_SLICE                                                                               \
    (1 << 20) // at most; a thirty-second of a loop's share where the limit is small

// Beyond the limit: what workers' answers may take, of whatever priority (a batch has many), and clients' answers
// once more.
#define BUDGET_ANSWERS ((int64_t)8 << 20)
#define BUDGET_MUST ((int64_t)1 << 60) // what is counted and never refused

// Sixteenths of the limit, by batcher_lane_of: priority 1; none or 2; 3 or 4; the rest.
#define BUDGET_CLASSES 4
static const uint8_t budget_share[BUDGET_CLASSES] = {16, 15, 12, 8};

struct budget {
    _Atomic int64_t granted; // to all leases
    _Atomic int64_t limit, slice, slack;
};

struct budget_lease {     // zeroed: nothing leased
    int64_t leased, used; // used <= leased < used + 2 slices
};

static inline int64_t budget_limit(const struct budget *b)
{
    return atomic_load_explicit(&b->limit, memory_order_relaxed);
}

static inline int64_t budget_slack(const struct budget *b)
{
    return atomic_load_explicit(&b->slack, memory_order_relaxed);
}

// Another limit from now on; what is out stays out. The slack never shrinks: a loop that rests may have two slices of the
// largest that there was.
static inline void budget_set(struct budget *b, int64_t limit, unsigned loops)
{
    int64_t slice = limit / 32 / loops;
    slice = slice < 1 ? 1 : slice > BUDGET_SLICE ? BUDGET_SLICE : slice;
    atomic_store_explicit(&b->limit, limit, memory_order_relaxed);
    atomic_store_explicit(&b->slice, slice, memory_order_relaxed);
    if (budget_slack(b) < 2 * slice * loops)
        atomic_store_explicit(&b->slack, 2 * slice * loops, memory_order_relaxed);
}

static inline void budget_init(struct budget *b, int64_t limit, unsigned loops)
{
    atomic_init(&b->slack, 0);
    atomic_init(&b->granted, 0);
    budget_set(b, limit, loops);
}

// Charges (delta > 0) or gives back (delta < 0, never refused). False: the process's limit and `beyond` are
// reached.
static inline bool budget_charge(struct budget_lease *l, struct budget *b, int64_t delta,
                                 int64_t beyond)
{
    int64_t used = l->used + delta;
    int64_t slice = atomic_load_explicit(&b->slice, memory_order_relaxed);
    if (used > l->leased) {
        int64_t more = (used - l->leased + slice - 1) / slice * slice;
        int64_t all = atomic_fetch_add_explicit(&b->granted, more, memory_order_relaxed) + more;
        if (all > budget_limit(b) + budget_slack(b) + beyond) {
            atomic_fetch_sub_explicit(&b->granted, more, memory_order_relaxed);
            return false;
        }
        l->leased += more;
    } else if (l->leased - used >= 2 * slice) { // keep one slice at hand, return the rest
        int64_t back = (l->leased - used) / slice * slice - slice;
        atomic_fetch_sub_explicit(&b->granted, back, memory_order_relaxed);
        l->leased -= back;
    }
    l->used = used;
    return true;
}

// May a request of that class go on, which holds `own` bytes of this lease itself?
static inline bool budget_admits(const struct budget_lease *l, const struct budget *b, int64_t own,
                                 unsigned class)
{
    int64_t granted = atomic_load_explicit(&b->granted, memory_order_relaxed);
    int64_t others = granted - (l->leased - l->used) - own;
    return class == 0 || others <= budget_limit(b) * budget_share[class] / 16 + budget_slack(b);
}

// How far beyond the limit answers of that class may go.
static inline int64_t budget_answers(unsigned class)
{
    return 2 * BUDGET_ANSWERS * budget_share[class] / 16;
}

#endif
