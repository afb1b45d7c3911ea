/* router/sequences.h: which replica has the state of a sequence: a stateful model keeps it in the worker, so
 * that every step of a sequence must reach the process that had the ones before. Steps wait for no credit of
 * ours, since the worker's own scheduler decides which sequences run: holding back a step of one that owns a
 * slot for one that waits for it would stop both (Triton, docs/user_guide/architecture.md, stateful models).
 * Bounded: a full table forgets the sequence that was idle longest, which then goes by its hash. Thinks.
 * Thread: the home loop's. Owner: the desk. */
#ifndef SLUICE_ROUTER_SEQUENCES_H
#define SLUICE_ROUTER_SEQUENCES_H

#include "router/replicas.h"

#define SEQUENCES_MOST 4096 // remembered, of one model
#define SEQUENCES_WAYS 8    // places that one may have

struct sequence_place {
    uint64_t id; // 0: free
    uint32_t replica, incarnation;
    uint64_t used_us;
};

struct sequences {
    struct sequence_place *at; // [SEQUENCES_MOST]; NULL until one comes
};

void sequences_free(struct sequences *s);
// The replica for this step; NULL: none is ready, or the one that has the state is gone (*gone).
struct replica *sequences_choose(struct sequences *s, struct replicas *rs, const struct ticket *t,
                                 uint64_t now_us, bool *gone);

#endif
