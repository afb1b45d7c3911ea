/* router/replicas_inner.h: what replicas.c (who is there, and what is concluded of them) and replicas_choice.c (who takes a
 * batch) share. Thinks. Thread: the desk's loop. */
#ifndef SLUICE_ROUTER_REPLICAS_INNER_H
#define SLUICE_ROUTER_REPLICAS_INNER_H

#include "router/replicas.h"

static inline uint64_t most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static inline uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline bool replicas_auto(const struct replicas *rs)
{
    return rs->model->rules.policy == POLICY_AUTO;
}

// The index of the server that is done first; r has been up.
unsigned replica_soonest(const struct replica *r, uint64_t now_us);

#endif
