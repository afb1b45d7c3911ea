/* gateway/worker_start.h: how far a replica's process has come since it was started, and when: what scaling has to
 * reckon with before another one helps. Of the last start alone.
 *
 *   spawned      the keeper says that it runs; of a worker that runs elsewhere nobody says so
 *   listening    the first connection to it is up
 *   loaded       a model of its can be had
 *   warm         all can that its server, or the configuration, expects of it
 *   answered     the first batch was answered
 *
 * Does nothing but write words. Thread: the owner's loop, but for the last one; read by any. */
#ifndef SLUICE_GATEWAY_WORKER_START_H
#define SLUICE_GATEWAY_WORKER_START_H

#include <stdatomic.h>
#include <stdint.h>

enum start_phase {
    START_SPAWNED,
    START_LISTENING,
    START_LOADED,
    START_WARM,
    START_ANSWERED,
    START_PHASES
};
extern const char *const start_phase_name[START_PHASES];

struct worker_start {
    _Atomic uint64_t at_us[START_PHASES]; // CLOCK_MONOTONIC; 0: not, or nobody has seen it
    _Atomic uint64_t starts;              // that were heard of
};

// The keeper has started a process. Its connection may be up already: the two words overtake each other.
void start_began(struct worker_start *s, uint64_t now_us);
// It has come so far; the first time counts.
static inline void start_reached(struct worker_start *s, enum start_phase phase, uint64_t now_us)
{
    if (atomic_load_explicit(&s->at_us[phase], memory_order_relaxed) == 0)
        atomic_store_explicit(&s->at_us[phase], now_us, memory_order_relaxed);
}
void start_over(struct worker_start *s); // that process has ended

#endif
