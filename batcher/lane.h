/* batcher/lane.h: tickets of one priority, earliest deadline first, at a cost that does not depend on how
 * many wait. A bucket queue around `now`, log-linear: deadlines within 8 ms stand in slots of LANE_TICK_US, within
 * 16 ms in slots of twice that, within 32 ms of four times, and so on; a slot is first in, first out. As time
 * passes slots are dealt out into finer ones, so that what is urgent is ordered to an eighth of a millisecond
 * (deadlines of a few milliseconds need it) and what is far is not ordered in vain.
 *
 *  L1  Level 0 holds what is 0 to 63 slots of one tick ahead of tick; level k > 0 what is 32 to 63 slots of
 *      2^k ticks ahead. So a slot is never wider than a 32nd of how far it is.
 *  L2  A level's first slot begins no earlier than the last slot of the finer levels.
 *
 * Hence two deadlines can stand in the wrong order only when they differ by less than a 32nd of what is left
 * until the later one, or by less than a tick. Deadlines more than two hours ahead share the last slot.
 * Source of the shape: Varghese, Lauck, "Hashed and Hierarchical Timing Wheels" (1987); the levels double
 * instead of growing 64-fold, for there two deadlines to either side of a level's border stand in one slot
 * that is as wide as they are far. Thinks. Thread: the home loop's. */
#ifndef SLUICE_BATCHER_LANE_H
#define SLUICE_BATCHER_LANE_H

#include "batcher/due.h"
#include "infer/ticket.h"

#define LANE_TICK_US 125
#define LANE_LEVELS 21
#define LANE_NEAR 64 // slots of level 0
#define LANE_FAR 32  // slots of every other level

struct lane_slot {
    struct ticket *first, **last;
    uint32_t rows;
};

struct lane {
    uint64_t tick; // of LANE_TICK_US: every slot is relative to it
    uint32_t count;
    uint64_t rows;
    uint32_t levels;            // bit per level: it holds a ticket
    uint64_t used[LANE_LEVELS]; // bit per slot
    struct lane_slot slot[LANE_NEAR + (LANE_LEVELS - 1) * LANE_FAR];
    uint32_t passed; // batches in a row that had rows of this priority, but of other groups
};

void lane_init(struct lane *l, uint64_t now_us);
void lane_push(struct lane *l, struct ticket *t, uint64_t now_us);
void lane_remove(struct lane *l, struct ticket *t);
// The ticket that goes first; NULL: empty. Deals out as far as now_us allows.
struct ticket *lane_first(struct lane *l, uint64_t now_us);
// A lower bound of the earliest deadline, exact to its slot; UINT64_MAX: empty. Never late.
uint64_t lane_earliest_us(const struct lane *l);
// Counts what will be late when. Call lane_first before it, so that the slots are those of now.
void lane_due(const struct lane *l, struct due_rows *d);
// Rows with a deadline before at_us; never too few, to the slot.
uint64_t lane_rows_before(const struct lane *l, uint64_t at_us);

#endif
