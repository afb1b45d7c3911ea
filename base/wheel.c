#include "base/wheel.h"
#include "base/check.h"

/* Source: G. Varghese, T. Lauck, "Hashed and hierarchical timing wheels" (1987), scheme 7.
 *
 * A timer's tick is ceil(at_us / 1000). Written in base 64, the tick and now_ms agree in their higher
 * digits; the highest digit in which they differ is the timer's level, and that digit its slot.
 *   (1) Every timer of level L is due before every timer of level L + 1.
 *   (2) On each level only slots after now's digit are used (on level 0 also now's own).
 * When now_ms reaches the first tick that a slot of a higher level stands for, the slot's timers are
 * placed anew and land on lower levels. A tick past the last digit (12 days) stands in for itself at
 * the last tick that the wheel can tell, and is placed anew from there. */

#define DIGIT 6
#define SPAN_MASK (((uint64_t)1 << (DIGIT * WHEEL_LEVELS)) - 1)

static uint64_t tick_of(uint64_t at_us)
{
    return at_us / 1000 + (at_us % 1000 != 0);
}

void wheel_init(struct wheel *w, uint64_t now_us)
{
    *w = (struct wheel){.now_ms = now_us / 1000};
}

static void link_at(struct wheel_timer **head, struct wheel_timer *t)
{
    t->next = *head;
    if (t->next)
        t->next->prev = &t->next;
    t->prev = head;
    *head = t;
}

static void place(struct wheel *w, struct wheel_timer *t)
{
    uint64_t tick = tick_of(t->at_us);
    if (tick < w->now_ms)
        tick = w->now_ms;
    if ((tick ^ w->now_ms) > SPAN_MASK)
        tick = w->now_ms | SPAN_MASK;
    uint64_t differ = (tick ^ w->now_ms) | 1;
    unsigned level = (63 - (unsigned)__builtin_clzll(differ)) / DIGIT;
    unsigned slot = (unsigned)(tick >> (DIGIT * level)) & (WHEEL_SLOTS - 1);
    link_at(&w->slot[level][slot], t);
    w->used[level] |= (uint64_t)1 << slot;
}

static void unlink_timer(struct wheel *w, struct wheel_timer *t)
{
    struct wheel_timer **head = t->prev;
    *head = t->next;
    if (t->next) {
        t->next->prev = head;
    } else {
        uintptr_t first = (uintptr_t)&w->slot[0][0], at = (uintptr_t)head;
        if (at >= first && at < first + sizeof(w->slot)) { // it was the slot's only timer
            size_t i = (at - first) / sizeof(*head);
            w->used[i / WHEEL_SLOTS] &= ~((uint64_t)1 << (i % WHEEL_SLOTS));
        }
    }
    t->prev = NULL;
    t->next = NULL;
}

void wheel_cancel(struct wheel *w, struct wheel_timer *t)
{
    if (!t->prev)
        return;
    unlink_timer(w, t);
    w->count--;
}

void wheel_set(struct wheel *w, struct wheel_timer *t, uint64_t at_us)
{
    debug_invariant(t->fn);
    if (t->prev)
        unlink_timer(w, t);
    else
        w->count++;
    t->at_us = at_us;
    place(w, t);
}

// The first used slot and the first tick that it stands for. False: the wheel is empty.
static bool first_slot(const struct wheel *w, unsigned *level, unsigned *slot, uint64_t *tick)
{
    for (unsigned l = 0; l < WHEEL_LEVELS; l++) { // (1)
        if (!w->used[l])
            continue;
        *level = l;
        *slot = (unsigned)__builtin_ctzll(w->used[l]); // (2)
        uint64_t higher = w->now_ms >> (DIGIT * (l + 1)) << (DIGIT * (l + 1));
        *tick = higher | (uint64_t)*slot << (DIGIT * l);
        return true;
    }
    return false;
}

uint64_t wheel_next_us(const struct wheel *w)
{
    unsigned level, slot;
    uint64_t tick, us;
    if (!first_slot(w, &level, &slot, &tick))
        return UINT64_MAX;
    if (tick == w->now_ms && (tick & SPAN_MASK) == SPAN_MASK) {
        // On the last tick of a span: are these due, or stand-ins that wait for the next span?
        const struct wheel_timer *t = w->slot[level][slot];
        while (t && tick_of(t->at_us) > tick)
            t = t->next;
        tick += t == NULL;
    }
    return __builtin_mul_overflow(tick, 1000, &us) ? UINT64_MAX - 1 : us;
}

// Places all timers of a list that was taken out of its slot.
static void place_all(struct wheel *w, struct wheel_timer *list)
{
    for (struct wheel_timer *t = list, *next; t; t = next) {
        next = t->next;
        place(w, t);
    }
}

// Moves all timers due by `until` behind *tail, in the order of their ticks.
static void collect(struct wheel *w, uint64_t until, struct wheel_timer **tail)
{
    unsigned level, slot;
    uint64_t tick;
    while (first_slot(w, &level, &slot, &tick) && tick <= until) {
        w->now_ms = tick;
        struct wheel_timer *list = w->slot[level][slot], *far = NULL;
        w->slot[level][slot] = NULL;
        w->used[level] &= ~((uint64_t)1 << slot);
        if (level > 0) {
            place_all(w, list);
            continue;
        }
        for (struct wheel_timer *t = list, *next; t; t = next) {
            next = t->next;
            if (tick_of(t->at_us) <= tick) {
                t->next = NULL;
                t->prev = tail;
                *tail = t;
                tail = &t->next;
            } else { // this slot only stood in for a tick past the last digit
                t->next = far;
                far = t;
            }
        }
        if (far && tick == until) { // the next span is not ours to enter yet: look again next time
            place_all(w, far);
            return;
        }
        if (far) {
            w->now_ms = tick + 1; // where the next span begins
            place_all(w, far);
        }
    }
    if (until > w->now_ms)
        w->now_ms = until;
}

unsigned wheel_run(struct wheel *w, uint64_t now_us)
{
    struct wheel_timer *due = NULL;
    unsigned called = 0;
    collect(w, now_us / 1000, &due);
    while (due) { // callbacks set and cancel as they like, what is still due included
        struct wheel_timer *t = due;
        unlink_timer(w, t);
        w->count--;
        called++;
        t->fn(t, now_us);
    }
    return called;
}
