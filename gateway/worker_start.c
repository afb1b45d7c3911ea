#include "gateway/worker_start.h"

const char *const start_phase_name[START_PHASES] = {"spawned", "listening", "loaded", "warm",
                                                    "answered"};

void start_began(struct worker_start *s, uint64_t now_us)
{
    uint64_t heard_us = atomic_load_explicit(&s->at_us[START_LISTENING], memory_order_relaxed);
    atomic_fetch_add_explicit(&s->starts, 1, memory_order_relaxed);
    start_reached(s, START_SPAWNED, heard_us > 0 ? heard_us : now_us);
}

void start_over(struct worker_start *s)
{
    for (unsigned i = 0; i < START_PHASES; i++)
        atomic_store_explicit(&s->at_us[i], 0, memory_order_relaxed);
}
