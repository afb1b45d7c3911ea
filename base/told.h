/* base/told.h: signals that end a process. Thinks: time is an argument. The first one drains, a second one ends it at
 * once. Service managers signal every process of a service, and some send each signal twice (timeout(1) does, within
 * 90 us): what comes within TOLD_ONCE_US of the first is a repetition of it. */
#ifndef SLUICE_BASE_TOLD_H
#define SLUICE_BASE_TOLD_H

#include <stdint.h>

#define TOLD_ONCE_US 100000

enum told_how { TOLD_FIRST, TOLD_ECHO, TOLD_HURRY };

// A signal at now_us, which is not 0. *first_us: when the first one came; 0: none has.
static inline enum told_how told_to_end(uint64_t *first_us, uint64_t now_us)
{
    if (*first_us)
        return now_us < *first_us + TOLD_ONCE_US ? TOLD_ECHO : TOLD_HURRY;
    *first_us = now_us;
    return TOLD_FIRST;
}

#endif
