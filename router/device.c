#include "router/device.h"

#include "router/desk.h"

void device_sent(struct serial_device *v, uint64_t expected_us, uint64_t there_us)
{
    atomic_fetch_add_explicit(&v->pending_us, expected_us, memory_order_relaxed);
    uint64_t free_us = device_free_us(v), then_us;
    do {
        then_us = (free_us > there_us ? free_us : there_us) + expected_us;
    } while (!atomic_compare_exchange_weak_explicit(&v->free_us, &free_us, then_us,
                                                    memory_order_relaxed, memory_order_relaxed));
}

// What was expected of the past no longer counts: the next one began when this one ended.
void device_ended(struct serial_device *v, uint64_t expected_us, bool recalled, uint64_t half_us,
                  uint64_t now_us)
{
    uint64_t left_us =
        atomic_fetch_sub_explicit(&v->pending_us, expected_us, memory_order_relaxed) - expected_us;
    if (recalled)
        return;
    uint64_t free_us = left_us > half_us ? now_us + left_us - half_us : now_us;
    atomic_store_explicit(&v->free_us, free_us, memory_order_relaxed);
}

void device_sit(struct device_turn *t, struct device_seat *s, struct desk *d)
{
    *s = (struct device_seat){.desk = d, .next = t->first, .prev = &t->first};
    if (t->first)
        t->first->prev = &s->next;
    t->first = s;
}

void device_leave(struct device_seat *s)
{
    if (!s->prev)
        return;
    if (s->next)
        s->next->prev = s->prev;
    *s->prev = s->next;
    s->prev = NULL;
}

// Does a go before b?
static bool goes_before(const struct device_seat *a, const struct device_seat *b)
{
    unsigned p = a->desk->passed, q = b->desk->passed;
    if (p >= DEVICE_PASSES || q >= DEVICE_PASSES)
        return p > q;
    return a->bid.lane != b->bid.lane ? a->bid.lane < b->bid.lane : a->bid.share > b->bid.share;
}

struct desk *device_next(struct device_turn *t, bool first)
{
    struct device_seat *best = NULL;
    for (struct device_seat *s = t->first; s; s = s->next) {
        bool queued = s->desk->batcher.count > 0;
        s->asked &= !first;
        if (first && queued)
            s->bid = batcher_bid(&s->desk->batcher);
        if (!s->asked && queued && (!best || goes_before(s, best)))
            best = s;
    }
    if (!best)
        return NULL;
    best->asked = true;
    return best->desk;
}

void device_passed(struct device_turn *t, struct desk *d)
{
    for (struct device_seat *s = t->first; s; s = s->next) {
        if (s->desk == d || s->desk->batcher.count == 0)
            s->desk->passed = 0;
        else if (!s->asked)
            s->desk->passed++;
    }
}
