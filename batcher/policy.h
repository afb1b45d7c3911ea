/* batcher/policy.h: when a batch goes, and how large. Pure functions of a fixed-size summary of what waits, and
 * now. Thinks.
 *
 * `fixed`: Triton's rules (triton-inference-server/server docs/user_guide/batcher.md): a full batch goes,
 * a preferred size goes, the oldest row waits at most max_wait; and ours: nobody waits past the moment at
 * which the earliest deadline could still be met, less a margin.
 *
 * `auto` (policy_auto.c): work-conserving but for the waits that pay. A server is one instance of a replica.
 *  R0  While t(b) is not known: one batch at a time at a server, of three sizes in turn; no wait, no drop.
 *  R1  A further batch goes behind a running one just in time, never before: what comes until then may change it.
 *      Others may do so at a device that is shared, one after the other: who is overtaken goes behind them.
 *  R2  Only when a deadline presses: the largest batch that makes nobody else late, if the rest can be served after
 *      it; else the largest of which so many rows can still make it, and the heads in its way are dropped.
 *  R3  What cannot grow goes.
 *  R4  Of several servers the last free one waits until the batch is as large as the load needs, at most alpha.
 *  R5  A single server waits for clients that were just answered and are likely to come back, if that pays.
 *  R6, R7  See batcher.h: who is refused at once, and who is hopeless.
 *  R8  The highest lane decides size and drops alone; lower ones fill up to where nobody of it becomes late.
 * Sources: Deb, Serfozo 1973 (when to wait for a larger batch); Nexus (SOSP 2019: drop the heads that stand in
 * the way of the others); Symphony (arXiv 2308.07470: deferral). */
#ifndef SLUICE_BATCHER_POLICY_H
#define SLUICE_BATCHER_POLICY_H

#include "batcher/arrivals.h"
#include "batcher/due.h"
#include <stdbool.h>
#include <stdint.h>

enum batch_reason {
    BATCH_FULL,
    BATCH_PREFERRED,
    BATCH_IDLE,     // a server had nothing else to do
    BATCH_WAIT,     // a deliberate wait has ended
    BATCH_DEADLINE, // a deadline decided when it went, or how large it is
    BATCH_REASONS
};
extern const char *const batch_reason_name[BATCH_REASONS];

#define POLICY_MAX_PREFERRED 8
#define POLICY_LANES 4
// fixed: a batch that must leave for a deadline leaves so much before the last moment: the wake may be late by a
// tick and a turn, and the answer has a way to go too. auto knows the way, and its quantile is the margin.
#define POLICY_MARGIN_US 2000
// R1: a batch is sent so much before it has to be there: a share of alpha within bounds. Timers are late by up to a
// millisecond and workers have to read it first, and what stands still meanwhile is the device.
#define POLICY_LEAD_US 50
#define POLICY_LEAD_MOST_US 2000
#define POLICY_LEAD_SHARE 16

enum policy_kind { POLICY_FIXED, POLICY_AUTO };

struct policy {
    enum policy_kind kind;
    uint32_t max_rows;    // >= 1
    uint64_t max_wait_us; // auto: of a deliberate wait for a free server
    uint32_t
        preferred[POLICY_MAX_PREFERRED]; // fixed: ascending; those above max_rows are never reached
    uint32_t n_preferred;
};

struct outlook {              // on the servers that could take a batch, as auto sees them
    uint32_t servers;         // that are up
    uint32_t idle;            // of these, without a batch
    uint32_t in_flight;       // batches at the one at hand
    uint32_t running_rows;    // of the newest of them
    uint64_t free_us;         // when that one has done all that was sent to it; 0: it is idle
    bool overtaken;           // others have it again and again: a batch may stand behind theirs
    uint64_t soonest_free_us; // the least of all servers'; 0: one is idle
    // Of servers that are not counted here, for they are used only when these are saturated: rows a microsecond, and when
    // one of them could have answered a row at the soonest; 0: there are none.
    double beside;
    uint64_t beside_us;
};

struct lane_rows { // of one lane
    uint32_t rows; // > 0
    uint64_t earliest_us;
    const struct due_rows *due; // NULL: not asked for (policy_presses)
};

struct summary {          // of one group: tickets that may share a batch
    uint64_t rows;        // of all lanes
    uint64_t oldest_us;   // when the one that waits longest was queued
    uint64_t earliest_us; // the earliest deadline
    // fixed:
    uint64_t high_us; // t(rows), upper quantile; 0: not known
    // auto:
    struct lane_rows lane[POLICY_LANES]; // with rows, in the order in which they go
    unsigned n_lanes;                    // >= 1
    struct outlook at;
    bool trusted;       // t(b) = alpha + beta * b is known
    double alpha, beta; // microseconds
    double high;        // quantile of seen / fitted
    double trip_us;     // to a server and back; 0: not known
    double rate;        // rows a microsecond that come, with those that are refused
    struct returns returns;
    uint32_t sent; // batches, ever: R0 takes turns
};

struct verdict {
    uint32_t rows; // take so many now; 0: wait
    enum batch_reason reason;
    uint64_t wake_us; // rows == 0: ask again then, at the latest
    uint64_t drop_us
        [POLICY_LANES]; // rows > 0: of that lane of the summary heads that are due before cannot be saved
};

static inline double policy_lead_us(double alpha)
{
    double us = alpha / POLICY_LEAD_SHARE;
    return us < POLICY_LEAD_US        ? POLICY_LEAD_US
           : us < POLICY_LEAD_MOST_US ? us
                                      : POLICY_LEAD_MOST_US;
}

struct verdict policy_decide(const struct policy *p, const struct summary *s, uint64_t now_us);
// auto: will the verdict look at what is due when? Then the lanes' due are to be filled in.
bool policy_presses(const struct policy *p, const struct summary *s, uint64_t now_us);
// auto, of what goes singly: 0, a batch of one may go; else ask again then (R0, R1).
uint64_t policy_turn_us(const struct summary *s, uint64_t now_us);

// policy_auto.c
struct verdict policy_auto(const struct policy *p, const struct summary *s, uint64_t now_us);

#endif
