#include "batcher/due.h"

#include "batcher/lane.h"

uint32_t due_late(const struct due_rows *d, double at_us)
{
    double ahead_us = at_us - (double)d->from_us;
    if (ahead_us <= 0)
        return d->rows[0]; // the first slot holds what is late already
    if (ahead_us >= (double)LANE_TICK_US * DUE_NEAR * (1 << 13))
        return d->rows[DUE_EDGES - 1];
    uint64_t whole = (uint64_t)(ahead_us / LANE_TICK_US);
    return d->rows[due_edge(whole + (ahead_us > (double)(whole * LANE_TICK_US)))];
}
