/* batcher/due.h: how many rows of a lane will be late, whatever the moment: cumulative counts by deadline on a
 * fixed grid, made in one pass over a lane's slots, so that its cost does not grow with the queue. A question
 * costs one look-up then. It never says too few: a row counts from the beginning of its slot, and the moment
 * asked for is rounded up to the next edge, both by less than a tick or a 32nd of how far it is. Thinks. */
#ifndef SLUICE_BATCHER_DUE_H
#define SLUICE_BATCHER_DUE_H

#include <stdint.h>

// Edges: 1 to 64 ticks (LANE_TICK_US) ahead of from_us, then 32 an octave, up to 65 seconds.
#define DUE_NEAR 64
#define DUE_FAR 32
#define DUE_EDGES (DUE_NEAR + 13 * DUE_FAR)

struct due_rows {
    uint64_t from_us;         // the lane's tick
    uint32_t rows[DUE_EDGES]; // with a deadline before that edge; a queue's bound is 32 bits
};

// First edge that is not before so many ticks, >= 1; the last one for all that is further.
static inline unsigned due_edge(uint64_t ticks)
{
    uint64_t x = ticks - 1;
    if (x < DUE_NEAR)
        return (unsigned)x;
    unsigned level = 58 - (unsigned)__builtin_clzll(x); // x >> level is 32 to 63
    uint64_t i = DUE_NEAR + (uint64_t)(level - 1) * DUE_FAR + (x >> level) - DUE_FAR;
    return i < DUE_EDGES ? (unsigned)i : DUE_EDGES - 1;
}

// Rows that would be late at at_us.
uint32_t due_late(const struct due_rows *d, double at_us);

#endif
