#include "batcher/lane.h"

#include "base/check.h"

static uint64_t tick_of(uint64_t us)
{
    return us / LANE_TICK_US;
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
    uint64_t ahead = tick - l->tick;
    unsigned level = ahead < LANE_NEAR ? 0 : 58 - (unsigned)__builtin_clzll(ahead);
    level += slots_ahead(l, tick, level) >= 64; // the border is nearer than what is ahead says
    if (level >= LANE_LEVELS)
        level = LANE_LEVELS - 1;
    if (slots_ahead(l, tick, level) >= 64) // beyond every bound of ours
        tick = ((l->tick >> level) + 63) << level;
    unsigned index = (unsigned)(tick >> level) % slots_of(level);
    struct lane_slot *s = slot_at(l, level, index);
    t->slot = (uint16_t)(level << 8 | index);
    t->next = NULL;
    t->prev = s->last;
    *s->last = t;
    s->last = &t->next;
    s->rows += ticket_rows(t);
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
    s->rows -= ticket_rows(t);
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
    unsigned last = slots_of(level) - 1, by = (unsigned)nearest & last;
    uint64_t turned = bits >> by | bits << (-by & last);
    return level == 0 ? turned : (uint32_t)turned;
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
        s->rows = 0;
    }
    if (l->used[level] == 0)
        l->levels &= ~(1u << level);
    return last;
}

// Slots that time has come too near to are dealt out again around the new tick.
static __attribute__((noinline)) void deal_out(struct lane *l, uint64_t to)
{
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

// Moves l->tick to now: mostly it is there.
static inline void advance(struct lane *l, uint64_t now_us)
{
    uint64_t to = tick_of(now_us);
    if (to > l->tick)
        deal_out(l, to);
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
    return (first_slot(l, level) << level) * LANE_TICK_US;
}

// The slots of one level that hold something, nearest first: which is what is left of them.
static uint64_t next_slot(const struct lane *l, unsigned level, uint64_t *which)
{
    uint64_t number = nearest_slot(l, level) + (unsigned)__builtin_ctzll(*which);
    *which &= *which - 1;
    return number;
}

static const struct lane_slot *slot_of(const struct lane *l, unsigned level, uint64_t number)
{
    unsigned index = (unsigned)(number % slots_of(level));
    return &l->slot[level == 0 ? index : LANE_NEAR + (level - 1) * LANE_FAR + index];
}

void lane_due(const struct lane *l, struct due_rows *d)
{
    *d = (struct due_rows){.from_us = l->tick * LANE_TICK_US};
    for (uint32_t levels = l->levels; levels; levels &= levels - 1) {
        unsigned level = (unsigned)__builtin_ctz(levels);
        uint64_t which = nearest_first(l->used[level], level, nearest_slot(l, level));
        while (which) {
            uint64_t number = next_slot(l, level, &which);
            d->rows[due_edge((number << level) - l->tick + 1)] += slot_of(l, level, number)->rows;
        }
    }
    for (unsigned i = 1; i < DUE_EDGES; i++)
        d->rows[i] += d->rows[i - 1];
}

uint64_t lane_rows_before(const struct lane *l, uint64_t at_us)
{
    uint64_t rows = 0;
    for (uint32_t levels = l->levels; levels; levels &= levels - 1) {
        unsigned level = (unsigned)__builtin_ctz(levels);
        uint64_t which = nearest_first(l->used[level], level, nearest_slot(l, level));
        while (which) {
            uint64_t number = next_slot(l, level, &which);
            uint64_t tick = number << level;
            if (tick > l->tick && tick * LANE_TICK_US >= at_us)
                return rows; // what is further is later too (L2)
            rows += slot_of(l, level, number)->rows;
        }
    }
    return rows;
}
