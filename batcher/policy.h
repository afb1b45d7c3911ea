/* batcher/policy.h: when a batch goes. A pure function of a fixed-size summary of what waits, and now.
 * `fixed`: Triton's rules (triton-inference-server/server docs/user_guide/batcher.md): a full batch goes,
 * a preferred size goes, the oldest row waits at most max_wait; and ours: nobody waits past the moment at
 * which the earliest deadline could still be met, less a margin. Thinks. */
#ifndef SLUICE_BATCHER_POLICY_H
#define SLUICE_BATCHER_POLICY_H

#include <stdint.h>

enum batch_reason {
    BATCH_FULL,
    BATCH_PREFERRED,
    BATCH_IDLE,
    BATCH_WAIT,
    BATCH_DEADLINE,
    BATCH_REASONS
};
extern const char *const batch_reason_name[BATCH_REASONS];

#define POLICY_MAX_PREFERRED 8
// A batch that must leave for a deadline leaves so much before the last moment: the wake may be late by a
// tick and a turn, and the answer has a way to go too.
#define POLICY_MARGIN_US 2000

struct policy {
    uint32_t max_rows; // >= 1
    uint64_t max_wait_us;
    uint32_t preferred[POLICY_MAX_PREFERRED]; // ascending; those above max_rows are never reached
    uint32_t n_preferred;
};

struct summary { // of one group: tickets that may share a batch
    uint64_t rows;
    uint64_t oldest_us;   // when the one that waits longest was queued
    uint64_t earliest_us; // the earliest deadline
    uint64_t high_us;     // t(rows), upper quantile; 0: not known
};

struct verdict {
    uint32_t rows; // take so many now; 0: wait
    enum batch_reason reason;
    uint64_t wake_us; // rows == 0: ask again then, at the latest
};

struct verdict policy_decide(const struct policy *p, const struct summary *s, uint64_t now_us);

#endif
