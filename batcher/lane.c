#include "batcher/lane.h"

#include "base/check.h"

static uint64_t tick_of(uint64_t us)
{
    return us / 1000;
}

// Slots that level 0 is long, or any other.
static unsigned slots_of(unsigned level)
{
    return level == 0 ? LANE_NEAR : LANE_FAR;
}

static struct lane_slot *slot_at(struct lane *l, unsigned level, unsigned index)
{
    return &l->slot[level == 0 ? index : LANE_NEAR + (level - 1) * LANE_FAR + index];
}

void lane_init(struct lane *l, uint64_t now_us)
{
    *l = (struct lane){.tick = tick_of(now_us)};
    for (unsigned i = 0; i < sizeof(l->slot) / sizeof(l->slot[0]); i++)
        l->slot[i].last = &l->slot[i].first;
}

// How many slots of that level lie between now and then.
static uint64_t slots_ahead(const struct lane *l, uint64_t tick, unsigned level)
{
    return (tick >> level) - (l->tick >> level);
}

// On the finest level that reaches so far (L1).
static void place(struct lane *l, struct ticket *t)
{
    uint64_t tick = tick_of(t->deadline_us);
    if (tick < l->tick)
        tick = l->tick;
    unsigned level = 0;
    while (level + 1 < LANE_LEVELS && slots_ahead(l, tick, level) >= 64)
        level++;
    if (slots_ahead(l, tick, level) >= 64) // beyond every bound of ours
        tick = ((l->tick >> level) + 63) << level;
    unsigned index = (unsigned)(tick >> level) % slots_of(level);
    struct lane_slot *s = slot_at(l, level, index);
    t->slot = (uint16_t)(level << 8 | index);
    t->next = NULL;
    t->prev = s->last;
    *s->last = t;
    s->last = &t->next;
    l->used[level] |= 1ull << index;
    l->levels |= 1u << level;
}

static void displace(struct lane *l, struct ticket *t)
{
    unsigned level = t->slot >> 8, index = t->slot & 0xff;
    struct lane_slot *s = slot_at(l, level, index);
    if (t->next)
        t->next->prev = t->prev;
    else
        s->last = t->prev;
    *t->prev = t->next;
    if (!s->first)
        l->used[level] &= ~(1ull << index);
    if (l->used[level] == 0)
        l->levels &= ~(1u << level);
    t->next = NULL;
    t->prev = NULL;
}

// The bits of a level, turned so that bit 0 is its nearest slot.
static uint64_t nearest_first(uint64_t bits, unsigned level, uint64_t nearest)
{
    unsigned n = slots_of(level), by = (unsigned)(nearest % n);
    if (by == 0)
        return bits;
    return level == 0 ? bits >> by | bits << (64 - by) : (uint32_t)(bits >> by | bits << (32 - by));
}

// The number, counted from the beginning of time, of the nearest slot that a level can hold.
static uint64_t nearest_slot(const struct lane *l, unsigned level)
{
    return (l->tick >> level) + (level == 0 ? 0 : LANE_FAR);
}

// Takes every ticket of the n nearest slots of a level onto *last.
static struct ticket **take_slots(struct lane *l, unsigned level, uint64_t n, struct ticket **last)
{
    uint64_t nearest = nearest_slot(l, level);
    uint64_t which = nearest_first(l->used[level], level, nearest);
    if (n < slots_of(level))
        which &= (1ull << n) - 1;
    while (which) {
        unsigned index = (unsigned)(nearest + (unsigned)__builtin_ctzll(which)) % slots_of(level);
        struct lane_slot *s = slot_at(l, level, index);
        which &= which - 1;
        l->used[level] &= ~(1ull << index);
        *last = s->first;
        last = s->last;
        s->first = NULL;
        s->last = &s->first;
    }
    if (l->used[level] == 0)
        l->levels &= ~(1u << level);
    return last;
}

// Moves l->tick to now: slots that time has come too near to are dealt out again around the new tick.
static void advance(struct lane *l, uint64_t now_us)
{
    uint64_t to = tick_of(now_us);
    if (to <= l->tick)
        return;
    struct ticket *moved = NULL, **last = &moved;
    for (uint32_t levels = l->levels; levels; levels &= levels - 1) {
        unsigned level = (unsigned)__builtin_ctz(levels);
        uint64_t n = slots_ahead(l, to, level);
        if (n == 0)
            break; // coarser ones have not moved either
        last = take_slots(l, level, n, last);
    }
    l->tick = to;
    while (moved) {
        struct ticket *t = moved;
        moved = t->next;
        place(l, t);
    }
}

void lane_push(struct lane *l, struct ticket *t, uint64_t now_us)
{
    advance(l, now_us);
    place(l, t);
    l->count++;
    l->rows += ticket_rows(t);
}

void lane_remove(struct lane *l, struct ticket *t)
{
    invariant(l->count > 0 && t->prev);
    displace(l, t);
    l->count--;
    l->rows -= ticket_rows(t);
    if (l->count == 0)
        l->passed = 0;
}

// The first slot of a level that holds a ticket, as nearest_slot counts.
static uint64_t first_slot(const struct lane *l, unsigned level)
{
    uint64_t nearest = nearest_slot(l, level);
    return nearest + (unsigned)__builtin_ctzll(nearest_first(l->used[level], level, nearest));
}

static unsigned lowest_level(const struct lane *l)
{
    return (unsigned)__builtin_ctz(l->levels);
}

struct ticket *lane_first(struct lane *l, uint64_t now_us)
{
    if (l->count == 0)
        return NULL;
    advance(l, now_us);
    unsigned level = lowest_level(l);
    return slot_at(l, level, (unsigned)(first_slot(l, level) % slots_of(level)))->first;
}

uint64_t lane_earliest_us(const struct lane *l)
{
    if (l->count == 0)
        return UINT64_MAX;
    unsigned level = lowest_level(l);
    return (first_slot(l, level) << level) * 1000;
}
