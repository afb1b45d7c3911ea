/* base/wheel.h: hierarchical timer wheel: all deadlines of one loop behind one OS timer. Set, move and
 * cancel are O(1). Resolution 1 ms for what is near, coarser slots cascade: a timer never fires early,
 * and at most 1 ms + one turn late. Time is an argument (microseconds, monotonic). Timers are embedded
 * in their objects. Due timers are collected first and then called one by one: a callback may set or
 * cancel any timer, also one that is due in the same turn (it is then not called). Thread: one. */
#ifndef SLUICE_BASE_WHEEL_H
#define SLUICE_BASE_WHEEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wheel_timer {
    struct wheel_timer *next, **prev; // prev == NULL: not set
    uint64_t at_us;
    void (*fn)(struct wheel_timer *t, uint64_t now_us);
};

#define WHEEL_LEVELS 5
#define WHEEL_SLOTS 64
struct wheel {
    uint64_t now_ms;             // everything before it has fired
    uint64_t used[WHEEL_LEVELS]; // bit per slot
    struct wheel_timer *slot[WHEEL_LEVELS][WHEEL_SLOTS];
    unsigned count;
};

void wheel_init(struct wheel *w, uint64_t now_us);
static inline bool wheel_is_set(const struct wheel_timer *t)
{
    return t->prev != NULL;
}
// (Re)arms t for at_us (the past: fires at the next wheel_run). t->fn must be set.
void wheel_set(struct wheel *w, struct wheel_timer *t, uint64_t at_us);
void wheel_cancel(struct wheel *w, struct wheel_timer *t); // harmless when not set
// When wheel_run should be called next, at the earliest useful moment; UINT64_MAX: nothing set.
uint64_t wheel_next_us(const struct wheel *w);
// Fires everything due at now_us; returns how many were called.
unsigned wheel_run(struct wheel *w, uint64_t now_us);

#endif
