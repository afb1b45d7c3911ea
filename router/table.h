/* router/table.h: the models that this process knows, by name: from the configuration and from what
 * workers say of themselves; bounded. Thinks. Thread: any. Look-ups take no lock; those who add and remove take
 * turns (both are rare). A model's shared words are atomics; `desk` and what hangs on it are the home loop's.
 *
 *   KEPT ─model_offer, home─► IDLE ─table_remove, main thread─► GONE ─table_release, main thread─► its memory
 *     ▲                         │                                      and its index are free
 *     └──────model_keep, home───┘
 *
 *  M1  A model is found by its name while it is KEPT or IDLE. GONE is decided by one compare-and-swap: a replica
 *      that comes up before it calls the removal off; one that comes up after it makes a new model of that name.
 *  M2  A name is found at most once, and one that is there throughout is never missed (see table_find).
 *  M3  table_remove frees nothing: others may have found the model a moment ago. The doer asks every loop, and
 *      calls table_release when none refers to it any more.
 *  M4  No other model has its index before table_release. */
#ifndef SLUICE_ROUTER_TABLE_H
#define SLUICE_ROUTER_TABLE_H

#include "base/hash.h"
#include "batcher/policy.h"
#include "router/chain.h"
#include "router/tenants.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define TABLE_MODELS 1024 // a worker that names more has them left out
#define TABLE_SLOTS (2 * TABLE_MODELS)
#define MODEL_VERSION_MAX MODEL_NAME_MAX
#define MODEL_SHARE CHAIN_LOTS // all of a model's traffic

// How a model is to be queued and batched: from the configuration in force.
struct model_rules {
    enum policy_kind policy;
    bool refuse_early; // auto: who stands behind more than can be served in time is refused at once
    uint32_t max_rows; // 0: what the replicas take
    uint64_t max_wait_us; // auto: of deliberate waits; UINT64_MAX: no bound but the policy's own
    uint32_t preferred[POLICY_MAX_PREFERRED];
    uint32_t n_preferred;
    uint32_t pipeline;      // batches in flight a replica; 0: by its instances and the policy
    uint32_t queue_rows;    // bound of waiting and running rows; 0: max(1024, 64 x max_rows)
    uint64_t queue_bytes;   // bound of their bytes
    uint64_t deadline_us;   // of a request that names none
    uint64_t grace_us;      // how long to wait for a first or a lost replica
    uint64_t slow_start_us; // how long a replica takes to have its whole share
    bool listed;            // the configuration names it: it is never removed
    // Degradation (router/standing.h).
    bool levels;           // its service may come down
    bool alternatives;     // others may answer for it: a chain, a cache
    uint64_t p99_enter_us; // 0: by what queues cost of the deadlines
    uint64_t p99_leave_us;
    uint64_t hold_us, window_us;
    uint64_t
        cache_ttl_us; // how long an answer that is kept is as good as the model's; 0: none is kept
    uint64_t cache_stale_us; // and how long it is better than none
    bool cache_shared;       // by all tenants
};

enum cache_count {
    CACHE_HITS,      // tickets that were answered from the cache, with what is fresh
    CACHE_STALE,     // and with what is stale
    CACHE_SHARED,    // from the store, which other instances fill, too
    CACHE_MISSES,    // that were not, and went to the model
    CACHE_FOLLOWERS, // and that waited for the answer of another one
    CACHE_STORES,    // answers kept
    CACHE_EVICTIONS, // and given up for others
    CACHE_COUNTS
};
extern const char *const cache_count_name[CACHE_COUNTS];

// Of a model's answers that are kept (router/cache.h). Its home writes, and all may read; but anybody moves the epoch.
struct cache_figures {
    _Atomic uint64_t count[CACHE_COUNTS];
    _Atomic uint64_t entries, bytes;
    _Atomic uint32_t epoch; // what was kept in another one is not given any more
    // Of all instances that share a store: the newest flush that is known of, in microseconds of the wall clock of whoever
    // ordered it; 0: none. It only grows.
    _Atomic uint64_t fleet_epoch;
};

// The writer's.
static inline void cache_add(_Atomic uint64_t *at, int64_t by)
{
    atomic_store_explicit(at, atomic_load_explicit(at, memory_order_relaxed) + (uint64_t)by,
                          memory_order_relaxed);
}

enum model_life { MODEL_KEPT, MODEL_IDLE, MODEL_GONE };

struct model {
    struct view name; // NUL-terminated, the table's memory
    uint64_t hash;
    uint16_t home;            // asked for by model_home, see there
    uint16_t index;           // in the table: table_at(t, index) is this model
    struct model_rules rules; // the home loop's, once it is in the table: model_set_rules
    // The shared words. These are read by all and seldom written.
    _Atomic uint32_t queue_limit; // rows; kept up to date by the home
    _Atomic uint64_t queue_bytes; // of the rules; 0: no bound
    _Atomic uint64_t deadline_us; // likewise; 0: it names none
    _Atomic uint32_t ready;       // replicas that can answer
    _Atomic uint32_t max_batch; // what ready replicas take at once; 0: not known, or served singly
    _Atomic bool single;        // served singly: its first dimension counts no rows
    _Atomic bool caches;        // answers are kept: its tickets want a key
    _Atomic bool cache_shared;  // which has no tenant in it
    _Atomic bool rowless;       // an output of it has no rows: its answers cannot be put together
    _Atomic uint8_t life;       // enum model_life
    // Its standing: told by its desk (router/standing.h) for whoever chooses among models before it lends, and for
    // /status.
    _Atomic uint8_t level;             // enum level, in force
    _Atomic(const char *) level_cause; // of its last move: a word, constant
    _Atomic uint64_t level_since_us;   // of that move; 0: it has not moved
    _Atomic uint8_t pin;      // an operator's, written by the main thread: 1 + that level; 0: none
    _Atomic uint32_t share;   // what it can carry of its traffic now, of MODEL_SHARE
    _Atomic uint32_t row_us;  // what one row takes; 0: not known
    _Atomic uint64_t cost_ns; // what a row takes of a server's time in a full batch; 0: not known
    _Atomic uint32_t p99_us;  // from the queue to the answer, over the window; 0: not known
    _Atomic uint32_t rate;    // rows a second that its servers can do; 0: not known
    _Atomic(struct tenant_books *) books;     // of its tenants; made at the first need
    _Atomic uint64_t begins_us[POLICY_LANES]; // when a new ticket of that lane goes: model_wait_us
    struct desk *desk;                        // the home loop's; created there at the first need
    uint64_t idle_us;     // the home loop's: since when no replica has it; 0: one has
    _Atomic(void *) user; // the doer's
    // These are written all the time, by one side or the other: each side's have a line of their own, or
    // every request would take the line above from the other side's cache.
    _Alignas(64) _Atomic int64_t room_rows; // what origins have charged and not yet given back
    _Atomic int64_t room_bytes;
    _Atomic uint64_t turned_rows;          // that never came to the desk, ever: demand all the same
    _Alignas(64) _Atomic uint32_t waiting; // the home's: rows queued, for metrics
    _Atomic uint32_t running;              // rows dispatched, for metrics
    struct cache_figures cache;
};

struct table {
    uint16_t loops;
    _Atomic uint32_t count;                    // indices in use
    _Atomic bool busy;                         // somebody adds or removes
    uint64_t taken[TABLE_MODELS / 64];         // a bit for each index in use; of who is busy
    _Atomic(struct model *) at[TABLE_MODELS];  // by index; NULL also: it is GONE
    _Atomic uint64_t moves;                    // models that were moved to another slot
    _Atomic(struct model *) slot[TABLE_SLOTS]; // by hash, open addressing
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
// Main thread. An idle model is GONE from here on; false: it is not idle (any more), and stays.
bool table_remove(struct table *t, struct model *m);
// Main thread. What was removed is freed: no thread refers to it.
void table_release(struct table *t, struct model *m);
// Home loop. Others rules from now on; what origins read of them is published. Of a model with a desk the queue's
// bound may follow from its replicas: call desk_on_rules.
void model_set_rules(struct model *m, const struct model_rules *rules);
// Home loop. A replica has it, or is about to: it is not to be removed. False: it is GONE; table_add makes another.
bool model_keep(struct model *m);
// Home loop. No replica has it: it may be removed.
void model_offer(struct model *m);
// How long a new ticket of that lane would wait at its home before it goes, as its desk said last (within a
// millisecond, or an eighth).
static inline uint64_t model_wait_us(const struct model *m, unsigned lane, uint64_t now_us)
{
    uint64_t at_us = atomic_load_explicit(&m->begins_us[lane], memory_order_relaxed);
    return at_us > now_us ? at_us - now_us : 0;
}
// Any loop: rows that asked for this model were answered otherwise, or refused, before its desk saw them. Its desk counts
// them when it says which share of its traffic it can carry.
static inline void model_turned(struct model *m, uint32_t rows)
{
    atomic_fetch_add_explicit(&m->turned_rows, rows, memory_order_relaxed);
}
// Of its tenants: made now, if there are none. NULL: out of memory, and they are not told apart.
struct tenant_books *model_books(struct model *m);
// What is of use of its room, of `limit` rows, to a request that has left_us.
uint32_t model_useful(const struct model *m, uint32_t limit, uint64_t left_us);
// The loop that this model's desk lives on: never remembered elsewhere, so that there may be several one day.
static inline unsigned model_home(const struct model *m)
{
    return m->home;
}
// What chance a request of that lane stands with it, as far as its origin can see. m: NULL: it is not known.
struct chance table_chance(const struct model *m, unsigned lane, uint64_t now_us);
// The model of that index, < TABLE_MODELS; NULL: none.
static inline struct model *table_at(const struct table *t, unsigned i)
{
    return atomic_load_explicit(&t->at[i], memory_order_acquire);
}

#endif
