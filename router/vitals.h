/* router/vitals.h: what all loops may know of one worker without asking: single words, relaxed. A model's
 * desk sees its own batches only, but a worker computes those of every model of every loop: whether it was
 * alone with a batch, and whether anything of it still ends, is a fact about the worker. Thinks. Thread: any.
 * Owner: the doer, one a worker in a cache line of its own, for the life of the process. */
#ifndef SLUICE_ROUTER_VITALS_H
#define SLUICE_ROUTER_VITALS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct worker_vitals {
    _Atomic uint32_t out;        // batches in flight, of all models and loops
    _Atomic uint64_t sent;       // batches ever sent
    _Atomic uint64_t ended_us;   // when a call was answered last, whatever the answer said
    _Atomic uint64_t probed_us;  // when a probe was answered last; written by the doer
    _Atomic uint64_t slowest_us; // a recent batch of its slowest model took so long
};

// A batch is sent. Returns what vitals_only wants of it later; 0: it is not the only one from the start.
static inline uint64_t vitals_sent(struct worker_vitals *v)
{
    uint32_t before = atomic_fetch_add_explicit(&v->out, 1, memory_order_relaxed);
    uint64_t number = atomic_fetch_add_explicit(&v->sent, 1, memory_order_relaxed) + 1;
    return before == 0 ? number : 0;
}

// Its call has ended, in whatever way.
static inline void vitals_over(struct worker_vitals *v)
{
    atomic_fetch_sub_explicit(&v->out, 1, memory_order_relaxed);
}

// Was it the only batch of ours at that worker for as long as it was there?
static inline bool vitals_only(const struct worker_vitals *v, uint64_t number)
{
    return number > 0 && atomic_load_explicit(&v->sent, memory_order_relaxed) == number;
}

// A call was answered, whatever the answer said.
static inline void vitals_heard(struct worker_vitals *v, uint64_t now_us)
{
    atomic_store_explicit(&v->ended_us, now_us, memory_order_relaxed);
}

// It computed a batch in took_us. The slowest model's time falls by a 16th of the difference a batch: it
// is a bound for patience, so it may be late to fall and must be quick to rise.
static inline void vitals_computed(struct worker_vitals *v, uint64_t took_us, uint64_t now_us)
{
    uint64_t slowest = atomic_load_explicit(&v->slowest_us, memory_order_relaxed);
    slowest = took_us > slowest ? took_us : slowest - (slowest - took_us) / 16;
    atomic_store_explicit(&v->slowest_us, slowest, memory_order_relaxed);
    vitals_heard(v, now_us);
}

#endif
