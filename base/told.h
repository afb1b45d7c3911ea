/* base/told.h: a process that is told to end by signals. Thinks: time is an argument. The first one is a wish, another
 * one means hurry. Service managers tell every process of a service, and some tell each twice (timeout(1) does, within
 * 90 us): what comes within TOLD_ONCE_US of the first is its echo. */
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
