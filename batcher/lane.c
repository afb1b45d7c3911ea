#include "batcher/lane.h"

#include "base/check.h"

static uint64_t tick_of(uint64_t us)
{
    return us / 1000;
}

static unsigned digit(uint64_t tick, unsigned level)
{
    return (unsigned)(tick >> (6 * level)) & (LANE_SLOTS - 1);
}

void lane_init(struct lane *l, uint64_t now_us)
{
    *l = (struct lane){.tick = tick_of(now_us)};
    for (unsigned level = 0; level < LANE_LEVELS; level++) {
        for (unsigned i = 0; i < LANE_SLOTS; i++)
            l->slot[level][i].last = &l->slot[level][i].first;
    }
}

// The level is that of the highest digit in which the deadline differs from l->tick: all of a level is
// later than all of the level below.
static void place(struct lane *l, struct ticket *t)
{
    uint64_t tick = tick_of(t->deadline_us);
    if (tick < l->tick)
        tick = l->tick;
    uint64_t differs = tick ^ l->tick;
    unsigned level = differs ? (unsigned)(63 - __builtin_clzll(differs)) / 6 : 0;
    unsigned index = digit(tick, level);
    if (level >= LANE_LEVELS) { // further than 12 days: beyond every bound of ours
        level = LANE_LEVELS - 1;
        index = LANE_SLOTS - 1;
    }
    struct lane_slot *s = &l->slot[level][index];
    t->slot = (uint16_t)(level << 8 | index);
    t->next = NULL;
    t->prev = s->last;
    *s->last = t;
    s->last = &t->next;
    l->used[level] |= 1ull << index;
}

static void displace(struct lane *l, struct ticket *t)
{
    unsigned level = t->slot >> 8, index = t->slot & 0xff;
    struct lane_slot *s = &l->slot[level][index];
    if (t->next)
        t->next->prev = t->prev;
    else
        s->last = t->prev;
    *t->prev = t->next;
    if (!s->first)
        l->used[level] &= ~(1ull << index);
    t->next = NULL;
    t->prev = NULL;
}

// Takes every ticket of the slots in `which` of a level, oldest slot first, onto *last.
static struct ticket **take_slots(struct lane *l, unsigned level, uint64_t which,
                                  struct ticket **last)
{
    which &= l->used[level];
    l->used[level] &= ~which;
    while (which) {
        struct lane_slot *s = &l->slot[level][__builtin_ctzll(which)];
        which &= which - 1;
        *last = s->first;
        last = s->last;
        s->first = NULL;
        s->last = &s->first;
    }
    return last;
}

// Moves l->tick to now: slots that time has reached are dealt out again around the new tick.
static void advance(struct lane *l, uint64_t now_us)
{
    uint64_t to = tick_of(now_us);
    if (to <= l->tick)
        return;
    struct ticket *moved = NULL, **last = &moved;
    for (unsigned level = 0; level < LANE_LEVELS && l->count > 0; level++) {
        uint64_t reached;
        if (to >> (6 * (level + 1)) != l->tick >> (6 * (level + 1)))
            reached = ~0ull; // the whole level lies behind
        else if (level == 0)
            reached = (1ull << digit(to, 0)) - 1; // what is due in this very tick stays
        else
            reached = 2 * (1ull << digit(to, level)) - 1;
        last = take_slots(l, level, reached, last);
    }
    *last = NULL;
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

static int lowest_level(const struct lane *l)
{
    for (int level = 0; level < LANE_LEVELS; level++) {
        if (l->used[level])
            return level;
    }
    return -1;
}

struct ticket *lane_first(struct lane *l, uint64_t now_us)
{
    if (l->count == 0)
        return NULL;
    advance(l, now_us);
    int level = lowest_level(l);
    invariant(level >= 0);
    return l->slot[level][__builtin_ctzll(l->used[level])].first;
}

uint64_t lane_earliest_us(const struct lane *l)
{
    int level = l->count ? lowest_level(l) : -1;
    if (level < 0)
        return UINT64_MAX;
    uint64_t index = (uint64_t)__builtin_ctzll(l->used[level]);
    uint64_t above = l->tick >> (6 * (level + 1)) << (6 * (level + 1));
    uint64_t tick = above | index << (6 * level);
    return (tick > l->tick ? tick : l->tick) * 1000;
}
