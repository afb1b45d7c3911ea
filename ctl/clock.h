/* ctl/clock.h: time that passes, and waiting. Does. */
#ifndef SLUICE_CTL_CLOCK_H
#define SLUICE_CTL_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static inline void clock_pause(long ms) // below a second; a signal ends it
{
    struct timespec t = {0, ms * 1000000L};
    nanosleep(&t, NULL);
}

#endif
