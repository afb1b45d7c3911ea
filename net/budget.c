#include "net/budget.h"
#include "base/check.h"
#include "base/hash.h"
#include "base/mem.h"

#define CELLS 65536 // a row; as many as connections by default, so that chance meetings are rare
#define ROWS 2

struct server_budget {
    _Atomic unsigned max_conns, max_per_address;
    uint64_t seed; // from outside: an attacker who knew it could make others collide
    _Atomic uint32_t conns;
    _Atomic uint32_t cell[ROWS][CELLS];
};

struct server_budget *server_budget_new(unsigned max_conns, unsigned max_per_address, uint64_t seed)
{
    struct server_budget *b = mem_zalloc(sizeof *b);
    if (!b)
        return NULL;
    b->max_conns = max_conns;
    b->max_per_address = max_per_address;
    b->seed = seed;
    return b;
}

void server_budget_free(struct server_budget *b)
{
    mem_free(b);
}

void server_budget_set(struct server_budget *b, unsigned max_conns, unsigned max_per_address)
{
    atomic_store_explicit(&b->max_conns, max_conns, memory_order_relaxed);
    atomic_store_explicit(&b->max_per_address, max_per_address, memory_order_relaxed);
}

unsigned server_budget_conns(const struct server_budget *b)
{
    return atomic_load_explicit(&b->conns, memory_order_relaxed);
}

bool budget_reserve(struct server_budget *b)
{
    uint32_t was = atomic_fetch_add_explicit(&b->conns, 1, memory_order_relaxed);
    if (b->max_conns == 0 || was < b->max_conns)
        return true;
    budget_release(b);
    return false;
}

void budget_release(struct server_budget *b)
{
    uint32_t was = atomic_fetch_sub_explicit(&b->conns, 1, memory_order_relaxed);
    invariant(was > 0);
}

// The two cells of an address; false: it has none. IPv6: a client commands at least a /64.
static bool cells(struct server_budget *b, const struct sockaddr *sa, _Atomic uint32_t *at[ROWS])
{
    struct view key;
    if (sa->sa_family == AF_INET)
        key = view_of(&((const struct sockaddr_in *)sa)->sin_addr, 4);
    else if (sa->sa_family == AF_INET6)
        key = view_of(&((const struct sockaddr_in6 *)sa)->sin6_addr, 8);
    else
        return false;
    for (unsigned i = 0; i < ROWS; i++)
        at[i] = &b->cell[i][hash64(key, b->seed + i) % CELLS];
    return true;
}

static void add(_Atomic uint32_t *at[ROWS], uint32_t delta)
{
    for (unsigned i = 0; i < ROWS; i++)
        atomic_fetch_add_explicit(at[i], delta, memory_order_relaxed);
}

bool budget_reserve_addr(struct server_budget *b, const struct sockaddr *sa)
{
    _Atomic uint32_t *at[ROWS];
    if (b->max_per_address == 0 || !cells(b, sa, at))
        return true;
    bool room = false;
    for (unsigned i = 0; i < ROWS;
         i++) // counted first, so that two loops cannot both see the last place
        room |= atomic_fetch_add_explicit(at[i], 1, memory_order_relaxed) < b->max_per_address;
    if (!room)
        add(at, UINT32_MAX); // -1
    return room;
}

void budget_release_addr(struct server_budget *b, const struct sockaddr *sa)
{
    _Atomic uint32_t *at[ROWS];
    if (b->max_per_address != 0 && cells(b, sa, at))
        add(at, UINT32_MAX); // -1
}
