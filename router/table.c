#include "router/table.h"

#include "base/check.h"
#include "base/mem.h"
#include "infer/request.h"
#include "router/level.h"

const char *const cache_count_name[CACHE_COUNTS] = {
    [CACHE_HITS] = "hit",           [CACHE_STALE] = "stale",        [CACHE_SHARED] = "shared",
    [CACHE_MISSES] = "miss",        [CACHE_FOLLOWERS] = "follower", [CACHE_STORES] = "store",
    [CACHE_EVICTIONS] = "eviction",
};

struct table *table_new(unsigned loops)
{
    struct table *t = mem_zalloc(sizeof(*t));
    if (t)
        t->loops = (uint16_t)loops;
    return t;
}

static void model_free(struct model *m)
{
    mem_free(atomic_load(&m->books));
    mem_free((char *)m->name.p);
    mem_free(m);
}

void table_free(struct table *t)
{
    if (!t)
        return;
    for (unsigned i = 0; i < TABLE_MODELS; i++) {
        if (table_at(t, i))
            model_free(table_at(t, i));
    }
    mem_free(t);
}

// ---- looking up --------------------------------------------------------------------------------------

static struct model *slot_at(const struct table *t, unsigned i)
{
    return atomic_load_explicit(&t->slot[i % TABLE_SLOTS], memory_order_acquire);
}

static bool has_name(const struct model *m, uint64_t hash, struct view name)
{
    return m->hash == hash && view_eq(m->name, name) &&
           atomic_load_explicit(&m->life, memory_order_relaxed) != MODEL_GONE;
}

static struct model *probe_slots(const struct table *t, uint64_t hash, struct view name)
{
    for (unsigned i = 0; i < TABLE_SLOTS; i++) {
        struct model *m = slot_at(t, (unsigned)hash + i);
        if (!m || has_name(m, hash, name))
            return m;
    }
    return NULL;
}

// A removal moves models to slots nearer to their hash, and may do so behind our back: a model that was moved from a
// slot that we had not reached to one that we had passed would be missed. It is written to the new slot, then
// counted, then overwritten at the old one: a look-up that misses it sees the count grow, and looks again.
struct model *table_find(const struct table *t, struct view name)
{
    uint64_t hash = hash64(name, 0), before;
    struct model *m;
    do {
        before = atomic_load_explicit(&t->moves, memory_order_acquire);
        m = probe_slots(t, hash, name);
    } while (!m && before != atomic_load_explicit(&t->moves, memory_order_acquire));
    return m;
}

// ---- adding and removing -----------------------------------------------------------------------------

// Models come and go seldom, and this takes a microsecond: a thread that finds it taken waits.
static void table_lock(struct table *t)
{
    while (atomic_exchange_explicit(&t->busy, true, memory_order_acquire)) {
    }
}

static void table_unlock(struct table *t)
{
    atomic_store_explicit(&t->busy, false, memory_order_release);
}

void model_set_rules(struct model *m, const struct model_rules *rules)
{
    m->rules = *rules;
    atomic_store(&m->queue_limit,
                 rules->queue_rows ? rules->queue_rows : model_queue_rows(rules->max_rows));
    atomic_store(&m->queue_bytes, rules->queue_bytes);
    atomic_store(&m->deadline_us, rules->deadline_us);
    atomic_store(&m->caches, rules->cache_ttl_us > 0);
    atomic_store(&m->cache_shared, rules->cache_shared);
}

struct tenant_books *model_books(struct model *m)
{
    struct tenant_books *b = atomic_load_explicit(&m->books, memory_order_acquire), *none = NULL;
    if (b)
        return b;
    b = mem_alloc_aligned(sizeof(*b), 64);
    if (!b)
        return NULL;
    memset(b, 0, sizeof(*b));
    if (atomic_compare_exchange_strong(&m->books, &none, b))
        return b;
    mem_free(b); // another loop was faster
    return none;
}

uint32_t model_useful(const struct model *m, uint32_t limit, uint64_t left_us)
{
    return tenants_room(limit, atomic_load_explicit(&m->rate, memory_order_relaxed),
                        atomic_load_explicit(&m->max_batch, memory_order_relaxed),
                        atomic_load_explicit(&m->ready, memory_order_relaxed), left_us);
}

static struct model *model_new(const struct table *t, struct view name,
                               const struct model_rules *rules)
{
    struct model *m = mem_alloc_aligned(sizeof(*m), 64);
    char *copy = mem_alloc(name.n + 1);
    if (!m || !copy) {
        mem_free(m);
        mem_free(copy);
        return NULL;
    }
    memset(m, 0, sizeof(*m));
    memcpy(copy, name.p, name.n);
    copy[name.n] = '\0';
    m->name = view_of(copy, name.n);
    m->hash = hash64(name, 0);
    m->home = (uint16_t)(m->hash % t->loops);
    atomic_store(&m->share, MODEL_SHARE);
    atomic_store(&m->level_cause, level_cause_name[LEVEL_CAUSE_NONE]);
    model_set_rules(m, rules);
    return m;
}

static bool take_index(struct table *t, uint16_t *index)
{
    for (unsigned i = 0; i < TABLE_MODELS; i++) {
        uint64_t bit = 1ull << (i % 64);
        if (t->taken[i / 64] & bit)
            continue;
        t->taken[i / 64] |= bit;
        *index = (uint16_t)i;
        atomic_fetch_add(&t->count, 1);
        return true;
    }
    return false;
}

static void link_model(struct table *t, struct model *m)
{
    unsigned i = (unsigned)m->hash;
    while (slot_at(t, i)) // there are twice as many slots as models
        i++;
    atomic_store_explicit(&t->at[m->index], m, memory_order_release);
    atomic_store_explicit(&t->slot[i % TABLE_SLOTS], m, memory_order_release);
}

struct model *table_add(struct table *t, struct view name, const struct model_rules *rules)
{
    struct model *m = table_find(t, name), *there;
    if (m || !model_name_ok(name) || !(m = model_new(t, name, rules)))
        return m;
    table_lock(t);
    there = table_find(t, name); // another loop was faster
    bool added = !there && take_index(t, &m->index);
    if (added)
        link_model(t, m);
    table_unlock(t);
    if (added)
        return m;
    model_free(m);
    return there;
}

// Empties that slot, and no tombstone is left: what stands behind it and could be nearer to its hash is moved up
// (Knuth, The Art of Computer Programming 3, 6.4, algorithm R). So the way to a name that is not there stays
// short however many have come and gone.
static void empty_slot(struct table *t, unsigned hole)
{
    struct model *m;
    for (unsigned i = hole + 1; (m = slot_at(t, i)) != NULL; i++) {
        unsigned far = (i - (unsigned)m->hash) % TABLE_SLOTS; // from where its hash points
        if (far < i - hole)
            continue; // the hole lies before that
        atomic_store_explicit(&t->slot[hole % TABLE_SLOTS], m, memory_order_release);
        atomic_fetch_add_explicit(&t->moves, 1, memory_order_acq_rel);
        hole = i;
    }
    atomic_store_explicit(&t->slot[hole % TABLE_SLOTS], NULL, memory_order_release);
}

bool table_remove(struct table *t, struct model *m)
{
    uint8_t was = MODEL_IDLE;
    if (!atomic_compare_exchange_strong(&m->life, &was, MODEL_GONE))
        return false;
    table_lock(t);
    unsigned i = (unsigned)m->hash;
    while (slot_at(t, i) != m)
        i++;
    empty_slot(t, i);
    atomic_store_explicit(&t->at[m->index], NULL, memory_order_release);
    table_unlock(t);
    return true;
}

void table_release(struct table *t, struct model *m)
{
    invariant(atomic_load(&m->life) == MODEL_GONE);
    table_lock(t);
    t->taken[m->index / 64] &= ~(1ull << (m->index % 64));
    table_unlock(t);
    atomic_fetch_sub(&t->count, 1);
    model_free(m);
}

bool model_keep(struct model *m)
{
    uint8_t was = MODEL_IDLE;
    m->idle_us = 0;
    return atomic_compare_exchange_strong(&m->life, &was, MODEL_KEPT) || was != MODEL_GONE;
}

void model_offer(struct model *m)
{
    uint8_t was = MODEL_KEPT;
    atomic_compare_exchange_strong(&m->life, &was, MODEL_IDLE);
}

struct chance table_chance(const struct model *m, unsigned lane, uint64_t now_us)
{
    if (!m)
        return (struct chance){0};
    return (struct chance){.known = true,
                           .ready = atomic_load_explicit(&m->ready, memory_order_relaxed) > 0,
                           .level = atomic_load_explicit(&m->level, memory_order_relaxed),
                           .share = atomic_load_explicit(&m->share, memory_order_relaxed),
                           .wait_us = model_wait_us(m, lane, now_us),
                           .row_us = atomic_load_explicit(&m->row_us, memory_order_relaxed),
                           .p99_us = atomic_load_explicit(&m->p99_us, memory_order_relaxed)};
}
