/* router/cache.h: answers of models whose home is one loop, kept for those who ask again. S3-FIFO (Yang, Zhang, Qiu, Yue,
 * Rashmi: "FIFO queues are all you need for cache eviction", SOSP 2023, algorithm 1), bounded in bytes: what is new
 * stands in a small queue, a tenth of all; who was asked for more than once by its end goes on into the main queue, the
 * others leave a ghost, by which they go into the main queue when they come back. In the main queue who was asked for goes round.
 * Where we differ: an entry has a size; there are as many ghosts as nine tenths of the entries, whatever their sizes;
 * going round ends after CACHE_ROUNDS steps; an answer that replaces an older one stays in its queue.
 *
 *   node: BARE ─put─► SMALL ─asked for twice─► MAIN ─► gone
 *           ▲           └──────► GHOST ─put────►┘
 *           └─ a flight (router/desk_cache.c) has the node, and no answer yet
 *
 *  C1  used <= leased: all loops together hold no more than the pool's limit. An answer that was evicted and is still
 *      being sent counts until it is gone.
 *  C2  A node with a leader stays, whatever becomes of its answer.
 *  C3  Nothing here takes longer the more is held: what a flush, or a model that goes, leaves is swept by cache_tick.
 *
 * Thinks. Memory: one struct cache a loop, one struct cache_of a desk, which stays until it is swept. Thread: the loop's, but for the pool's words and the
 * figures, which all may read; cache_flush: any. */
#ifndef SLUICE_ROUTER_CACHE_H
#define SLUICE_ROUTER_CACHE_H

#include "base/block.h"
#include "infer/ticket.h"
#include "router/table.h"

#define CACHE_SLICE ((int64_t)1 << 20)
#define CACHE_ENTRY_BYTES ((size_t)1 << 20) // of one answer; larger ones are not kept
#define CACHE_MOVES 64                      // evictions that one answer is worth
#define CACHE_ROUNDS 1024
#define CACHE_SWEEP 256    // nodes that cache_tick frees at a time
#define CACHE_WORK_US 1000 // until cache_tick goes on, and until it looks again
#define CACHE_LOOK_US 1000000
#define CACHE_USES 3 // that are counted
#define CACHE_SEGMENTS 32

struct cache_pool { // of the process
    _Atomic int64_t granted, limit;
    _Atomic bool hungry;       // a loop that holds less than its share was refused
    _Atomic uint64_t numbered; // answers that were kept ever: the last one's answer.number
    unsigned loops;
};

// Whose answer it is: of which model (cache_of.number), which version of it was asked for (0: none), and which rows of
// the request (0, 0: all of them).
struct cache_id {
    struct cache_key key;
    struct hash128 version;
    uint32_t of, row, rows;
};

enum cache_place { CACHE_BARE, CACHE_SMALL, CACHE_MAIN, CACHE_GHOST };

struct cache_node {
    struct cache_id id;
    uint64_t hash;
    struct cache_node *chain;         // in its bucket
    struct cache_node *newer, *older; // in its queue
    struct cache_node *next, **prev;  // of its model
    struct cache_of *of;
    struct answer *answer; // of SMALL and MAIN: holds a reference on its block
    uint64_t stored_us;    // when it was sent for: its age counts from here
    uint32_t epoch;
    uint8_t place, uses;
    struct ticket *leader; // of a flight; NULL: none
};

struct cache_queue {
    struct cache_node *newest, *oldest;
    uint64_t bytes, count;
};

struct cache {
    struct cache_pool *pool;
    struct cache_of *ofs;
    struct cache_queue small, main, ghosts;
    int64_t leased, live; // bytes; live: of blocks, those that are only being sent included
    uint64_t blocks;
    uint64_t salt;
    uint32_t numbers;
    bool freed; // as soon as no block is out
    // Linear hashing (Litwin 1980): a bucket is split with each node that is added, so that no turn moves all.
    struct cache_node **segment[CACHE_SEGMENTS]; // of 64, 64, 128, 256, … buckets
    uint64_t buckets, nodes;
    uint64_t tick_us; // when cache_tick wants to be called; UINT64_MAX: not
};

// The entries of one model.
struct cache_of {
    struct cache *cache;
    struct cache_figures *figures;  // the model's; NULL: it has gone
    struct cache_node *nodes, *old; // old: of epochs before, to be swept
    uint32_t epoch, number;
    struct cache_of *next, **prev;
};

void cache_pool_set(struct cache_pool *p, int64_t limit, unsigned loops); // any thread
// salt: random, so that no client knows which keys meet in a bucket. NULL: out of memory.
struct cache *cache_new(struct cache_pool *p, uint64_t salt);
void cache_free(struct cache *c); // all models have left; what is still being sent may be there
// NULL: out of memory.
struct cache_of *cache_join(struct cache *c, struct cache_figures *figures);
void cache_leave(struct cache_of *of); // nobody leads
// Sweeps, and gives memory to loops that have less. To be called at cache->tick_us.
void cache_tick(struct cache *c, uint64_t now_us);

// NULL: not there. An answer of an epoch before is none: cache_answer.
struct cache_node *cache_find(struct cache_of *of, struct cache_id *id);
static inline struct answer *cache_answer(const struct cache_node *n)
{
    bool now = n->epoch == atomic_load_explicit(&n->of->figures->epoch, memory_order_relaxed);
    return now ? n->answer : NULL;
}
// Its answer was asked for.
static inline void cache_touch(struct cache_node *n)
{
    n->uses += n->uses < CACHE_USES;
}
// The node of that id, made if need be, for a leader. NULL: out of memory.
struct cache_node *cache_claim(struct cache_of *of, struct cache_id *id);
// Nobody leads there any more.
void cache_release(struct cache *c, struct cache_node *n);
// Keeps a copy of the slice's rows. epoch: that of the time when it was asked. False: it is not kept.
bool cache_put(struct cache_of *of, struct cache_id *id, const struct slice *s, uint32_t epoch,
               uint64_t sent_us, uint64_t now_us, struct block_owner *blocks);
// There was a flush at that moment, here or elsewhere. False: it is known already. Any thread.
// The epoch moves before, so that no answer of before is stored under a name of after; and behind it, so that none that is
// read under a name of before is given after.
static inline bool cache_fleet_flush(struct cache_figures *figures, uint64_t at_us)
{
    uint64_t known = atomic_load(&figures->fleet_epoch);
    if (at_us <= known)
        return false;
    atomic_fetch_add(&figures->epoch, 1);
    while (at_us > known && !atomic_compare_exchange_weak(&figures->fleet_epoch, &known, at_us))
        ;
    atomic_fetch_add(&figures->epoch, 1);
    return true;
}
// Of now on nothing of the model that is kept is given, here or at another instance. at_us: of the wall clock. Any thread.
static inline void cache_flush(struct cache_figures *figures, uint64_t at_us)
{
    uint64_t known = atomic_load(&figures->fleet_epoch); // of one whose clock is ahead, perhaps
    while (!cache_fleet_flush(figures, at_us > known ? at_us : known + 1))
        known = atomic_load(&figures->fleet_epoch);
}

#endif
