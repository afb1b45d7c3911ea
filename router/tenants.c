#include "router/tenants.h"

#include "base/hash.h"
#include "base/mem.h"
#include <string.h>

// ---- names -------------------------------------------------------------------------------------------

#define SLOTS (2 * TENANTS)

struct named {
    _Atomic uint64_t hash; // of its name; that two are equal in 64 secret bits does not happen
    _Atomic uint32_t seen_s;
    uint8_t n; // of who is busy, as `name` is
    char name[TENANT_NAME];
};

struct tenants {
    uint64_t seed;
    _Atomic uint32_t turn; // odd: somebody adds or sweeps
    _Atomic uint32_t count;
    _Atomic uint32_t swept_s;     // when no place was found last: not before another second
    _Atomic uint16_t slot[SLOTS]; // by hash, open addressing: an index of `at`; 0: empty
    struct named at[TENANTS + 1]; // [0] is nobody's
};

struct tenants *tenants_new(uint64_t seed)
{
    struct tenants *t = mem_zalloc(sizeof(*t));
    if (t)
        t->seed = seed;
    return t;
}

void tenants_free(struct tenants *t)
{
    mem_free(t);
}

// Its place, or the empty slot where it would be. A sweep moves others about meanwhile: whoever misses it looks again, and
// finds it, while nobody else does anything.
static unsigned find_slot(const struct tenants *t, uint64_t hash)
{
    for (unsigned i = (unsigned)hash % SLOTS;; i = (i + 1) % SLOTS) {
        unsigned at = atomic_load_explicit(&t->slot[i], memory_order_acquire);
        if (at == 0 || atomic_load_explicit(&t->at[at].hash, memory_order_relaxed) == hash)
            return i;
    }
}

static uint16_t seen(struct tenants *t, unsigned at, uint32_t now_s)
{
    struct named *n = &t->at[at];
    if (atomic_load_explicit(&n->seen_s, memory_order_relaxed) != now_s)
        atomic_store_explicit(&n->seen_s, now_s, memory_order_relaxed);
    return (uint16_t)at;
}

static bool is_idle(const struct named *n, uint32_t now_s)
{
    uint32_t seen_s = atomic_load_explicit(&n->seen_s, memory_order_relaxed);
    return now_s > seen_s && now_s - seen_s > TENANT_IDLE_US / 1000000;
}

// All places are taken: those that have not been seen for long leave.
static void sweep(struct tenants *t, uint32_t now_s)
{
    uint32_t count = 0;
    for (unsigned i = 0; i < SLOTS; i++)
        atomic_store_explicit(&t->slot[i], 0, memory_order_release);
    for (unsigned at = 1; at <= TENANTS; at++) {
        uint64_t hash = atomic_load_explicit(&t->at[at].hash, memory_order_relaxed);
        if (is_idle(&t->at[at], now_s)) {
            atomic_store_explicit(&t->at[at].hash, 0, memory_order_relaxed);
            continue;
        }
        count++;
        atomic_store_explicit(&t->slot[find_slot(t, hash)], (uint16_t)at, memory_order_release);
    }
    atomic_store_explicit(&t->count, count, memory_order_relaxed);
    atomic_store_explicit(&t->swept_s, now_s, memory_order_relaxed);
}

static void name_it(struct named *n, struct view name)
{
    n->n = (uint8_t)(name.n < TENANT_NAME ? name.n : TENANT_NAME);
    for (unsigned i = 0; i < n->n; i++)
        n->name[i] = name.p[i] > 0x20 && name.p[i] < 0x7f ? name.p[i] : '?';
}

// By who is busy. TENANT_REST: no place is left.
static uint16_t add(struct tenants *t, struct view name, uint64_t hash, uint32_t now_s)
{
    uint32_t swept_s = atomic_load_explicit(&t->swept_s, memory_order_relaxed);
    if (atomic_load_explicit(&t->count, memory_order_relaxed) == TENANTS && now_s != swept_s)
        sweep(t, now_s);
    for (unsigned at = 1; at <= TENANTS; at++) {
        struct named *n = &t->at[at];
        if (atomic_load_explicit(&n->hash, memory_order_relaxed) != 0)
            continue;
        name_it(n, name);
        atomic_store_explicit(&n->seen_s, now_s, memory_order_relaxed);
        atomic_store_explicit(&n->hash, hash, memory_order_relaxed);
        atomic_store_explicit(&t->slot[find_slot(t, hash)], (uint16_t)at, memory_order_release);
        atomic_fetch_add_explicit(&t->count, 1, memory_order_relaxed);
        return (uint16_t)at;
    }
    return TENANT_REST;
}

// As table.c's: it is rare, and takes some microseconds.
static void lock(struct tenants *t)
{
    uint32_t even;
    do
        even = atomic_load_explicit(&t->turn, memory_order_relaxed) & ~1u;
    while (!atomic_compare_exchange_weak_explicit(&t->turn, &even, even + 1, memory_order_acquire,
                                                  memory_order_relaxed));
}

static void unlock(struct tenants *t)
{
    atomic_fetch_add_explicit(&t->turn, 1, memory_order_release);
}

static uint16_t find(const struct tenants *t, uint64_t hash)
{
    return atomic_load_explicit(&t->slot[find_slot(t, hash)], memory_order_acquire);
}

// Nobody has left within this second: whoever makes up names costs no more than this.
static bool is_full(const struct tenants *t, uint32_t now_s)
{
    return atomic_load_explicit(&t->count, memory_order_acquire) == TENANTS &&
           atomic_load_explicit(&t->swept_s, memory_order_acquire) == now_s;
}

uint16_t tenants_find(struct tenants *t, struct view name, uint64_t now_us)
{
    uint64_t hash = hash64(name, t->seed) | 1; // 0 is nobody's
    uint32_t now_s = (uint32_t)(now_us / 1000000);
    uint32_t turn = atomic_load_explicit(&t->turn, memory_order_acquire);
    uint16_t at = find(t, hash);
    if (at > 0)
        return seen(t, at, now_s);
    bool full = is_full(t, now_s);
    // Else it may have been moved about while we looked.
    bool still = turn % 2 == 0 && turn == atomic_load_explicit(&t->turn, memory_order_relaxed);
    if (full && still)
        return TENANT_REST;
    lock(t);
    at = find(t, hash);
    at = at > 0 ? seen(t, at, now_s) : add(t, name, hash, now_s);
    unlock(t);
    return at;
}

unsigned tenants_name(const struct tenants *t, uint16_t index, char out[TENANT_NAME])
{
    struct tenants *u = (struct tenants *)t;
    unsigned n = 0;
    lock(u);
    if (index <= TENANTS && atomic_load_explicit(&t->at[index].hash, memory_order_relaxed) != 0) {
        n = t->at[index].n;
        memcpy(out, t->at[index].name, n);
    }
    unlock(u);
    return n;
}

// ---- books -------------------------------------------------------------------------------------------

static uint64_t word_of(uint32_t tenants, uint32_t more, uint32_t rows)
{
    return (uint64_t)tenants << 48 | (uint64_t)more << 32 | rows;
}

uint32_t tenants_active(const struct tenant_books *b)
{
    return (uint32_t)(atomic_load_explicit(&b->word, memory_order_relaxed) >> 48);
}

#define LEFT_MOST_US 3600000000 // longer than anybody waits

uint32_t tenants_room(uint32_t limit, uint32_t rate, uint32_t batch, uint32_t ready,
                      uint64_t left_us)
{
    uint64_t batches = (uint64_t)TENANT_BATCHES * (batch ? batch : 1) * (ready ? ready : 1);
    uint64_t ms = left_us < LEFT_MOST_US ? left_us / 2000 : LEFT_MOST_US / 2000;
    uint64_t served = rate * ms / 1000;
    uint64_t rows = served > batches ? served : batches;
    return rate == 0 || rows > limit ? limit : (uint32_t)rows;
}

// Of a tenant's part, by batcher_lane_of: what is left to those above is a quarter each.
static const uint8_t quarters[POLICY_LANES] = {4, 3, 2, 1};

// N3. The asker itself wants more than it was known to: it is taken out of the word, and counted among those.
uint32_t tenants_part(const struct tenant_books *b, uint16_t index, unsigned lane, uint32_t room,
                      uint64_t now_us)
{
    bool holds = now_us < atomic_load_explicit(&b->until_us, memory_order_relaxed);
    uint64_t word = holds ? atomic_load_explicit(&b->word, memory_order_relaxed) : 0;
    int32_t own = atomic_load_explicit(&b->of[index].wants, memory_order_relaxed);
    uint32_t others = (uint32_t)(word >> 48), more = (uint32_t)(word >> 32) & 0xffff;
    uint32_t rows = (uint32_t)word;
    others -= own != 0 && others > 0;
    more -= own == TENANT_MORE && more > 0;
    rows -= own != TENANT_MORE && (uint32_t)own <= rows ? (uint32_t)own : 0;
    if (others == 0)
        return UINT32_MAX;
    uint32_t equal = room / (others + 1);
    uint32_t rest = rows < room ? (room - rows) / (more + 1) : 0;
    uint32_t part = rest > equal ? rest : equal;
    return (uint32_t)(((uint64_t)part * quarters[lane] + 3) / 4) + (part == 0);
}

static void raise_most(struct tenant_book *t, int32_t to)
{
    if (atomic_load_explicit(&t->most, memory_order_relaxed) < to)
        atomic_store_explicit(&t->most, to, memory_order_relaxed);
}

// Its book is one of those that are looked at.
static void use(struct tenant_books *b, uint16_t index)
{
    uint32_t used = atomic_load_explicit(&b->used, memory_order_relaxed);
    while (used <= index &&
           !atomic_compare_exchange_weak_explicit(&b->used, &used, index + 1u, memory_order_relaxed,
                                                  memory_order_relaxed)) {
    }
}

void tenants_refused(struct tenant_books *b, uint16_t index)
{
    struct tenant_book *t = &b->of[index];
    use(b, index);
    if (!atomic_load_explicit(&t->refused, memory_order_relaxed))
        atomic_store_explicit(&t->refused, true, memory_order_relaxed);
}

bool tenants_take(struct tenant_books *b, uint16_t index, uint32_t rows, uint32_t part)
{
    struct tenant_book *t = &b->of[index];
    int32_t had = atomic_fetch_add_explicit(&t->rows, (int32_t)rows, memory_order_relaxed);
    if (had >= 0 && (uint32_t)had >= part) {
        atomic_fetch_sub_explicit(&t->rows, (int32_t)rows, memory_order_relaxed);
        tenants_refused(b, index);
        return false;
    }
    use(b, index);
    raise_most(t, had + (int32_t)rows);
    return true;
}

void tenants_give(struct tenant_books *b, uint16_t index, uint32_t rows)
{
    atomic_fetch_sub_explicit(&b->of[index].rows, (int32_t)rows, memory_order_relaxed);
}

// ---- what is wanted ----------------------------------------------------------------------------------

static int32_t take_most(struct tenant_book *t, bool turn)
{
    int32_t most = atomic_load_explicit(&t->most, memory_order_relaxed);
    int32_t out = most > t->was_most ? most : t->was_most;
    if (!turn)
        return out;
    t->was_most = most;
    atomic_store_explicit(&t->most, atomic_load_explicit(&t->rows, memory_order_relaxed),
                          memory_order_relaxed);
    return out;
}

static bool take_refused(struct tenant_book *t, bool turn)
{
    bool refused = atomic_load_explicit(&t->refused, memory_order_relaxed);
    bool out = refused || t->was_refused;
    if (turn) {
        t->was_refused = refused;
        atomic_store_explicit(&t->refused, false, memory_order_relaxed);
    }
    return out;
}

// Max-min: who wants less than an equal part of what is left has it, and is out of the way; until nobody does. In one pass:
// how many want something, more than `level`, and what those want that do not.
struct room_wanted {
    uint32_t tenants, more, rows;
};

static struct room_wanted wanted_at(const struct tenant_books *b, uint32_t used, int32_t level)
{
    struct room_wanted w = {0};
    for (uint32_t i = 0; i < used; i++) {
        int32_t wants = atomic_load_explicit(&b->of[i].wants, memory_order_relaxed);
        w.tenants += wants > 0;
        w.more += wants > level;
        w.rows += wants <= level ? (uint32_t)wants : 0;
    }
    return w;
}

static int32_t level_of(const struct tenant_books *b, uint32_t used, uint32_t room)
{
    struct room_wanted w;
    int32_t level = -1, next = 0;
    while (next > level) {
        level = next;
        w = wanted_at(b, used, level);
        next = w.more > 0 ? (int32_t)((room - w.rows) / w.more) : level;
    }
    return level;
}

void tenants_reckon(struct tenant_books *b, uint32_t room, uint64_t now_us)
{
    uint32_t used = atomic_load_explicit(&b->used, memory_order_relaxed);
    bool turn = now_us >= b->pane_us;
    if (turn)
        b->pane_us = now_us + TENANTS_PANE_US;
    for (uint32_t i = 0; i < used; i++) {
        struct tenant_book *t = &b->of[i];
        bool refused = take_refused(t, turn);
        int32_t most = take_most(t, turn), wants = refused ? TENANT_MORE : most;
        if (atomic_load_explicit(&t->wants, memory_order_relaxed) != wants)
            atomic_store_explicit(&t->wants, wants, memory_order_relaxed);
    }
    int32_t level = level_of(b, used, room < INT32_MAX ? room : INT32_MAX - 1);
    struct room_wanted w = wanted_at(b, used, level);
    for (uint32_t i = 0; i < used; i++)
        if (atomic_load_explicit(&b->of[i].wants, memory_order_relaxed) > level)
            atomic_store_explicit(&b->of[i].wants, TENANT_MORE, memory_order_relaxed);
    atomic_store_explicit(&b->word, word_of(w.tenants, w.more, w.rows), memory_order_relaxed);
    atomic_store_explicit(&b->until_us, now_us + 2 * TENANTS_PANE_US, memory_order_relaxed);
}
