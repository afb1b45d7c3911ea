/* batcher/lane.h: tickets of one priority, earliest deadline first, at a cost that does not depend on how
 * many wait. A hierarchical bucket queue around `now`: deadlines within 64 ms stand in slots of 1 ms, within
 * 4 s in slots of 64 ms, and so on; a slot is first in, first out. As time passes slots cascade into finer
 * ones, so that what is urgent is ordered to the millisecond and what is far is not ordered in vain. Two
 * deadlines can stand in the wrong order only when they differ by less than a 32nd of what is left of them
 * (or 1 ms). Source of the shape: Varghese, Lauck, "Hashed and Hierarchical Timing Wheels" (1987).
 * Thinks. Thread: the home loop's. */
#ifndef SLUICE_BATCHER_LANE_H
#define SLUICE_BATCHER_LANE_H

#include "infer/ticket.h"

#define LANE_LEVELS 5
#define LANE_SLOTS 64

struct lane_slot {
    struct ticket *first, **last;
};

struct lane {
    uint64_t tick; // milliseconds: every slot is relative to it
    uint32_t count;
    uint64_t rows;
    uint64_t used[LANE_LEVELS]; // bit per slot
    struct lane_slot slot[LANE_LEVELS][LANE_SLOTS];
    uint32_t passed; // batches in a row that left it waiting
};

void lane_init(struct lane *l, uint64_t now_us);
void lane_push(struct lane *l, struct ticket *t, uint64_t now_us);
void lane_remove(struct lane *l, struct ticket *t);
// The ticket that goes first; NULL: empty. Cascades as far as now_us allows.
struct ticket *lane_first(struct lane *l, uint64_t now_us);
// A lower bound of the earliest deadline, exact to its slot; UINT64_MAX: empty. Never late.
uint64_t lane_earliest_us(const struct lane *l);

#endif
