#include "router/cache.h"

#include "base/check.h"
#include "base/mem.h"
#include "infer/copy.h"

// What an entry takes beside its block: its node and buckets, and those of the ghost that it may leave.
#define NODE_BYTES (2 * (sizeof(struct cache_node) + 16 + 2 * sizeof(struct cache_node *)))

#define BUCKETS 64 // at first

static uint64_t block_cost(const struct block *b)
{
    return b->bytes + BLOCK_OVERHEAD;
}

static uint64_t cost_of(const struct cache_node *n)
{
    return block_cost(n->answer->block) + NODE_BYTES;
}

static uint64_t entries(const struct cache *c)
{
    return c->small.count + c->main.count;
}

static uint64_t used(const struct cache *c)
{
    return (uint64_t)c->live + entries(c) * NODE_BYTES;
}

static void count(struct cache_of *of, enum cache_count what)
{
    if (of->figures)
        cache_add(&of->figures->count[what], 1);
}

// ---- the table ---------------------------------------------------------------------------------------

static struct cache_node **bucket_at(const struct cache *c, uint64_t i)
{
    if (i < BUCKETS)
        return &c->segment[0][i];
    unsigned k = 63 - (unsigned)__builtin_clzll(i / BUCKETS); // 64 << k is where it begins
    return &c->segment[k + 1][i - ((uint64_t)BUCKETS << k)];
}

static struct cache_node **bucket_of(const struct cache *c, uint64_t hash)
{
    unsigned bits = 63 - (unsigned)__builtin_clzll(c->buckets);
    uint64_t i = hash & (((uint64_t)2 << bits) - 1);
    if (i >= c->buckets)
        i -= (uint64_t)1 << bits; // not split yet
    return bucket_at(c, i);
}

// Without memory the chains become longer.
static bool grow_segment(struct cache *c)
{
    unsigned k = 63 - (unsigned)__builtin_clzll(c->buckets / BUCKETS);
    if (k + 1 >= CACHE_SEGMENTS)
        return false;
    if (!c->segment[k + 1])
        c->segment[k + 1] = mem_zalloc(((size_t)BUCKETS << k) * sizeof(*c->segment[0]));
    return c->segment[k + 1] != NULL;
}

static void split_bucket(struct cache *c)
{
    if (!grow_segment(c))
        return;
    uint64_t half = (uint64_t)1 << (63 - (unsigned)__builtin_clzll(c->buckets));
    struct cache_node *n = *bucket_at(c, c->buckets - half), *next;
    struct cache_node **stay = bucket_at(c, c->buckets - half), **leave = bucket_at(c, c->buckets);
    *stay = *leave = NULL;
    for (; n; n = next) {
        struct cache_node **to = (n->hash & half) ? leave : stay;
        next = n->chain;
        n->chain = *to;
        *to = n;
    }
    c->buckets++;
}

static bool same_id(const struct cache_id *a, const struct cache_id *b)
{
    return memcmp(a->key.bytes, b->key.bytes, sizeof(a->key.bytes)) == 0 &&
           a->key.shared == b->key.shared && hash128_eq(a->version, b->version) && a->of == b->of &&
           a->row == b->row && a->rows == b->rows;
}

static uint64_t hash_of(const struct cache *c, const struct cache_id *id)
{
    uint64_t seed = c->salt ^ id->version.lo ^ ((uint64_t)id->of << 32) ^
                    (((uint64_t)id->row << 16) * 0x9e3779b97f4a7c15ull) ^ id->rows;
    return hash64(view_of(id->key.bytes, sizeof(id->key.bytes)), seed);
}

struct cache_node *cache_find(struct cache_of *of, struct cache_id *id)
{
    id->of = of->number;
    struct cache_node *n = *bucket_of(of->cache, hash_of(of->cache, id));
    while (n && !same_id(&n->id, id))
        n = n->chain;
    return n;
}

// ---- queues and lists --------------------------------------------------------------------------------

static struct cache_queue *queue_of(struct cache *c, enum cache_place place)
{
    return place == CACHE_SMALL ? &c->small : place == CACHE_MAIN ? &c->main : &c->ghosts;
}

static void enqueue(struct cache *c, struct cache_node *n, enum cache_place place)
{
    struct cache_queue *q = queue_of(c, place);
    n->place = (uint8_t)place;
    n->newer = NULL;
    n->older = q->newest;
    *(q->newest ? &q->newest->newer : &q->oldest) = n;
    q->newest = n;
    q->count++;
    q->bytes += n->answer ? cost_of(n) : 0;
}

static void dequeue(struct cache *c, struct cache_node *n)
{
    struct cache_queue *q = queue_of(c, n->place);
    *(n->newer ? &n->newer->older : &q->newest) = n->older;
    *(n->older ? &n->older->newer : &q->oldest) = n->newer;
    q->count--;
    q->bytes -= n->answer ? cost_of(n) : 0;
    n->place = CACHE_BARE;
}

static void list(struct cache_node **head, struct cache_node *n)
{
    n->next = *head;
    n->prev = head;
    if (n->next)
        n->next->prev = &n->next;
    *head = n;
}

static void unlist(struct cache_node *n)
{
    if (n->next)
        n->next->prev = n->prev;
    *n->prev = n->next;
}

static void free_node(struct cache *c, struct cache_node *n)
{
    struct cache_node **at = bucket_of(c, n->hash);
    while (*at != n)
        at = &(*at)->chain;
    *at = n->chain;
    unlist(n);
    c->nodes--;
    mem_free(n);
}

// Without its answer, and in no queue.
static void strip(struct cache *c, struct cache_node *n)
{
    if (n->place != CACHE_BARE)
        dequeue(c, n);
    if (!n->answer)
        return;
    if (n->of->figures) {
        cache_add(&n->of->figures->entries, -1);
        cache_add(&n->of->figures->bytes, -(int64_t)cost_of(n));
    }
    block_unref(n->answer->block);
    n->answer = NULL;
}

static void forget(struct cache *c, struct cache_node *n)
{
    strip(c, n);
    if (!n->leader)
        free_node(c, n);
}

struct cache_node *cache_claim(struct cache_of *of, struct cache_id *id)
{
    struct cache *c = of->cache;
    struct cache_node *n = cache_find(of, id);
    if (n || !(n = mem_zalloc(sizeof(*n))))
        return n;
    n->id = *id;
    n->hash = hash_of(c, id);
    n->of = of;
    n->epoch = of->epoch;
    list(&of->nodes, n);
    struct cache_node **at = bucket_of(c, n->hash);
    n->chain = *at;
    *at = n;
    if (++c->nodes > c->buckets)
        split_bucket(c);
    return n;
}

void cache_release(struct cache *c, struct cache_node *n)
{
    n->leader = NULL;
    if (n->place == CACHE_BARE)
        free_node(c, n);
}

// ---- S3-FIFO -----------------------------------------------------------------------------------------

static void trim_ghosts(struct cache *c)
{
    while (c->ghosts.count > entries(c) * 9 / 10)
        forget(c, c->ghosts.oldest);
}

// False: there is none. It went round often enough, or nobody asked for it.
static bool evict_main(struct cache *c)
{
    struct cache_node *n;
    for (unsigned round = 0; (n = c->main.oldest) != NULL; round++) {
        if (n->uses == 0 || round == CACHE_ROUNDS) {
            count(n->of, CACHE_EVICTIONS);
            forget(c, n);
            return true;
        }
        n->uses--;
        dequeue(c, n);
        enqueue(c, n, CACHE_MAIN);
    }
    return false;
}

// False: all that was there has gone on into the main queue.
static bool evict_small(struct cache *c)
{
    struct cache_node *n;
    while ((n = c->small.oldest) != NULL) {
        if (n->uses <= 1) {
            count(n->of, CACHE_EVICTIONS);
            strip(c, n);
            if (!n->leader) // C2: who is asked for at this moment needs none
                enqueue(c, n, CACHE_GHOST);
            return true;
        }
        dequeue(c, n);
        n->uses = 0;
        enqueue(c, n, CACHE_MAIN);
        if (c->main.bytes * 10 > (uint64_t)c->leased * 9)
            evict_main(c);
    }
    return false;
}

static bool evict(struct cache *c)
{
    bool small = c->small.bytes * 10 >= (uint64_t)c->leased || c->main.count == 0;
    return (small && evict_small(c)) || evict_main(c) || evict_small(c);
}

// ---- memory ------------------------------------------------------------------------------------------

void cache_pool_set(struct cache_pool *p, int64_t limit, unsigned loops)
{
    p->loops = loops;
    atomic_store_explicit(&p->limit, limit, memory_order_relaxed);
}

static int64_t limit_of(const struct cache_pool *p)
{
    return atomic_load_explicit(&p->limit, memory_order_relaxed);
}

static int64_t share_of(const struct cache_pool *p)
{
    return limit_of(p) / p->loops;
}

// A limit of less than a slice for each is given out as it is.
static int64_t slice_of(const struct cache_pool *p)
{
    return share_of(p) < CACHE_SLICE ? share_of(p) : CACHE_SLICE;
}

static bool lease(struct cache *c)
{
    struct cache_pool *p = c->pool;
    int64_t more = slice_of(p);
    if (more == 0)
        return false;
    int64_t all = atomic_fetch_add_explicit(&p->granted, more, memory_order_relaxed) + more;
    if (all <= limit_of(p)) {
        c->leased += more;
        return true;
    }
    atomic_fetch_sub_explicit(&p->granted, more, memory_order_relaxed);
    if (c->leased + more <= share_of(p))
        atomic_store_explicit(&p->hungry, true, memory_order_relaxed);
    return false;
}

static void give_back(struct cache *c, int64_t bytes)
{
    c->leased -= bytes;
    atomic_fetch_sub_explicit(&c->pool->granted, bytes, memory_order_relaxed);
    atomic_store_explicit(&c->pool->hungry, false, memory_order_relaxed);
}

static bool make_room(struct cache *c, uint64_t cost)
{
    for (unsigned moves = 0; used(c) + cost > (uint64_t)c->leased; moves++) {
        if (lease(c))
            moves = 0;
        else if (moves == CACHE_MOVES || !evict(c))
            return false;
    }
    return true;
}

static void on_block_free(struct block *b, void *arg)
{
    struct cache *c = arg;
    c->live -= (int64_t)block_cost(b);
    if (--c->blocks == 0 && c->freed)
        mem_free(c);
}

static struct answer *copy_of(struct cache *c, const struct slice *s, struct block_owner *blocks,
                              size_t bytes)
{
    struct block *b = block_new_apart(blocks, bytes, on_block_free, c);
    if (!b)
        return NULL;
    c->live += (int64_t)block_cost(b);
    c->blocks++;
    return answer_copy(b, s);
}

static bool keep(struct cache *c, struct cache_node *n, const struct slice *s,
                 struct block_owner *blocks)
{
    size_t bytes = answer_copy_bytes(s);
    enum cache_place place = n->place == CACHE_BARE    ? CACHE_SMALL
                             : n->place == CACHE_GHOST ? CACHE_MAIN
                                                       : n->place;
    if (place != n->place)
        n->uses = 0;
    strip(c, n);
    if (bytes > CACHE_ENTRY_BYTES || !make_room(c, bytes + BLOCK_OVERHEAD + NODE_BYTES) ||
        !(n->answer = copy_of(c, s, blocks, bytes)))
        return false;
    n->answer->number = atomic_fetch_add_explicit(&c->pool->numbered, 1, memory_order_relaxed) + 1;
    enqueue(c, n, place);
    return true;
}

bool cache_put(struct cache_of *of, struct cache_id *id, const struct slice *s, uint32_t epoch,
               uint64_t sent_us, uint64_t now_us, struct block_owner *blocks)
{
    struct cache *c = of->cache;
    if (epoch != atomic_load_explicit(&of->figures->epoch, memory_order_relaxed))
        return false;
    struct cache_node *n = cache_claim(of, id);
    if (!n)
        return false;
    bool kept = keep(c, n, s, blocks);
    if (kept) {
        unlist(n); // it may be among those of an epoch before
        list(&of->nodes, n);
        n->epoch = epoch;
        n->stored_us = sent_us;
        count(of, CACHE_STORES);
        cache_add(&of->figures->entries, 1);
        cache_add(&of->figures->bytes, (int64_t)cost_of(n));
        if (c->tick_us == UINT64_MAX)
            c->tick_us = now_us + CACHE_LOOK_US;
    } else if (!n->leader) {
        free_node(c, n);
    }
    trim_ghosts(c);
    return kept;
}

// ---- sweeping ----------------------------------------------------------------------------------------

// Of that list; a node that has a leader is as one without an answer. Returns how many more may be freed.
static unsigned sweep(struct cache *c, struct cache_node **head, unsigned most)
{
    for (; *head && most > 0; most--) {
        struct cache_node *n = *head;
        forget(c, n);
        if (*head == n) { // C2
            unlist(n);
            list(&n->of->nodes, n);
        }
    }
    return most;
}

// What was flushed is set apart; what was stored since stands first.
static void look_at_epoch(struct cache_of *of)
{
    uint32_t epoch = atomic_load_explicit(&of->figures->epoch, memory_order_relaxed);
    if (epoch == of->epoch || of->old)
        return;
    struct cache_node *n = of->nodes, *next;
    of->epoch = epoch;
    of->nodes = NULL;
    of->old = n;
    if (n)
        n->prev = &of->old;
    for (; n && n->epoch == epoch; n = next) {
        next = n->next;
        unlist(n);
        list(&of->nodes, n);
    }
}

static void delist_of(struct cache_of *of)
{
    if (of->next)
        of->next->prev = of->prev;
    *of->prev = of->next;
}

// True: there is more of it. It is gone when nothing of a model that has gone is left.
static bool sweep_of(struct cache *c, struct cache_of *of, unsigned *most)
{
    if (of->figures) {
        look_at_epoch(of);
        *most = sweep(c, &of->old, *most);
        return of->old != NULL;
    }
    *most = sweep(c, &of->old, *most);
    *most = sweep(c, &of->nodes, *most);
    if (of->old || of->nodes)
        return true;
    delist_of(of);
    mem_free(of);
    return false;
}

// Others have less than their share, or the limit is a lower one, and this loop has more. True: there is more to do.
static bool share_out(struct cache *c)
{
    struct cache_pool *p = c->pool;
    int64_t slice = slice_of(p) > 0 ? slice_of(p) : CACHE_SLICE;
    bool over = atomic_load_explicit(&p->granted, memory_order_relaxed) > limit_of(p) ||
                atomic_load_explicit(&p->hungry, memory_order_relaxed);
    bool idle = c->leased > 0 && used(c) + 2 * (uint64_t)slice <= (uint64_t)c->leased;
    if (!idle && (!over || c->leased <= share_of(p)))
        return false;
    if (slice > c->leased)
        slice = c->leased;
    for (unsigned n = 0; used(c) + (uint64_t)slice > (uint64_t)c->leased; n++) {
        if (n == CACHE_SWEEP || !evict(c))
            return n == CACHE_SWEEP;
    }
    give_back(c, slice);
    return true;
}

void cache_tick(struct cache *c, uint64_t now_us)
{
    unsigned most = CACHE_SWEEP;
    bool more = false;
    for (struct cache_of *of = c->ofs, *next; of; of = next) {
        next = of->next;
        more |= sweep_of(c, of, &most);
    }
    more |= share_out(c);
    trim_ghosts(c);
    uint64_t later_us = c->nodes > 0 || c->leased > 0 ? now_us + CACHE_LOOK_US : UINT64_MAX;
    c->tick_us = more ? now_us + CACHE_WORK_US : later_us;
}

// ---- life --------------------------------------------------------------------------------------------

struct cache *cache_new(struct cache_pool *p, uint64_t salt)
{
    struct cache *c = mem_zalloc(sizeof(*c));
    if (!c)
        return NULL;
    c->pool = p;
    c->salt = salt;
    c->buckets = BUCKETS;
    c->tick_us = UINT64_MAX;
    c->segment[0] = mem_zalloc(BUCKETS * sizeof(*c->segment[0]));
    if (c->segment[0])
        return c;
    mem_free(c);
    return NULL;
}

void cache_free(struct cache *c)
{
    for (struct cache_of *of = c->ofs, *next; of; of = next) {
        unsigned all = UINT32_MAX;
        next = of->next;
        invariant(!of->figures && !sweep_of(c, of, &all));
    }
    give_back(c, c->leased);
    for (unsigned k = 0; k < CACHE_SEGMENTS; k++)
        mem_free(c->segment[k]);
    c->freed = true;
    if (c->blocks == 0)
        mem_free(c);
}

struct cache_of *cache_join(struct cache *c, struct cache_figures *figures)
{
    struct cache_of *of = mem_zalloc(sizeof(*of));
    if (!of)
        return NULL;
    of->cache = c;
    of->figures = figures;
    of->epoch = atomic_load_explicit(&figures->epoch, memory_order_relaxed);
    of->number = ++c->numbers;
    of->next = c->ofs;
    of->prev = &c->ofs;
    if (of->next)
        of->next->prev = &of->next;
    c->ofs = of;
    return of;
}

void cache_leave(struct cache_of *of)
{
    of->figures = NULL;
    of->cache->tick_us = 0;
}
