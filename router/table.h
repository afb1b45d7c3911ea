/* router/table.h: the models that this process knows, by name: from the configuration and from what
 * workers say of themselves. A model is added once and stays as long as the process does (what belongs to
 * a name survives as long as the name); the table is bounded. Thinks. Thread: any: entries are published
 * by compare-and-swap, their shared words are atomics; `desk` and what hangs on it are the home loop's. */
#ifndef SLUICE_ROUTER_TABLE_H
#define SLUICE_ROUTER_TABLE_H

#include "base/hash.h"
#include "batcher/policy.h"
#include <stdatomic.h>
#include <stdint.h>

#define TABLE_MODELS 1024 // a worker that names more has them left out
#define MODEL_VERSION_MAX 32

// How a model is to be queued and batched: from the configuration, fixed at the model's birth.
struct model_rules {
    uint32_t max_rows; // 0: what the replicas take
    uint64_t max_wait_us;
    uint32_t preferred[POLICY_MAX_PREFERRED];
    uint32_t n_preferred;
    uint32_t pipeline;    // batches in flight a replica, >= 1
    uint32_t queue_rows;  // bound of waiting and running rows; 0: max(1024, 64 x max_rows)
    uint64_t queue_bytes; // bound of their octets
    uint64_t deadline_us; // of a request that names none
    uint64_t grace_us;    // how long to wait for a first or a lost replica
};

struct model {
    struct view name; // NUL-terminated, the table's memory
    uint64_t hash;
    uint16_t home;  // asked for by model_home, see there
    uint16_t index; // in the table: table_at(t, index) is this model
    struct model_rules rules;
    // The shared words. These are read by all and seldom written.
    _Atomic uint32_t queue_limit; // rows; kept up to date by the home
    _Atomic uint32_t ready;       // replicas that can answer
    _Atomic uint32_t max_batch; // what ready replicas take at once; 0: not known, or served singly
    _Atomic bool single;        // served singly: its first dimension counts no rows
    struct desk *desk;          // the home loop's; created there at the first need
    _Atomic(void *) user;       // the doer's
    // These are written all the time, by one side or the other: each side's have a line of their own, or
    // every request would take the line above from the other side's cache.
    _Alignas(64) _Atomic int64_t room_rows; // what origins have charged and not yet given back
    _Atomic int64_t room_bytes;
    _Alignas(64) _Atomic uint32_t waiting; // the home's: rows queued, for metrics
    _Atomic uint32_t running;              // rows dispatched, for metrics
};

struct table {
    uint16_t loops;
    _Atomic uint32_t count;
    _Atomic(struct model *) slot[2 * TABLE_MODELS];
};

// What a model may have waiting and running when nobody says: a batch's rows 64 times over.
static inline uint32_t model_queue_rows(uint32_t max_rows)
{
    return max_rows < 1024 / 64 ? 1024 : 64 * max_rows;
}

// loops: how many a model's home is drawn from. NULL: out of memory.
struct table *table_new(unsigned loops);
void table_free(struct table *t); // no other thread uses it any more
struct model *table_find(const struct table *t, struct view name); // NULL: unknown
// Finds or adds. NULL: the table is full, the name is not a model name, or memory is out.
struct model *table_add(struct table *t, struct view name, const struct model_rules *rules);
// The loop that this model's desk lives on: never remembered elsewhere, so that there may be several one day.
static inline unsigned model_home(const struct model *m)
{
    return m->home;
}
// The i-th known model in no particular order; NULL: a free slot. i < 2 * TABLE_MODELS.
static inline struct model *table_at(const struct table *t, unsigned i)
{
    return atomic_load_explicit(&t->slot[i], memory_order_acquire);
}

#endif
