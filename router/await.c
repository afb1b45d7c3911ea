#include "router/await.h"

#include "base/check.h"

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void due(struct await *a, uint64_t at_us)
{
    a->due_us = a->due_us ? least(a->due_us, at_us) : at_us;
}

void await_begin(struct await *a, struct await_one *w, uint64_t until_us, uint64_t now_us)
{
    invariant(!w->waits);
    *w = (struct await_one){.prev = a->last, .look = a->look, .waits = true};
    *(a->last ? &a->last->next : &a->first) = w;
    a->last = w;
    a->n++;
    due(a, least(until_us, now_us + AWAIT_LOOK_US));
}

void await_leave(struct await *a, struct await_one *w)
{
    invariant(w->waits);
    *(w->prev ? &w->prev->next : &a->first) = w->next;
    *(w->next ? &w->next->prev : &a->last) = w->prev;
    a->n--;
    w->waits = false;
}

void await_soon(struct await *a, uint64_t now_us)
{
    if (a->n > 0)
        due(a, now_us);
}

uint64_t await_wish_us(const struct await *a)
{
    if (a->n == 0)
        return UINT64_MAX;
    return a->looks ? 0 : a->due_us;
}

// Those who begin to wait during a look have had their turn in it: so those who have not stand before them.
struct await_one *await_next(struct await *a, uint64_t now_us)
{
    if (!a->looks && await_wish_us(a) <= now_us) {
        a->looks = true;
        a->look++;
        a->due_us = 0;
    }
    struct await_one *w = a->first;
    a->looks &= w && w->look != a->look;
    if (!a->looks)
        return NULL;
    await_leave(a, w);
    return w;
}

bool await_untold(const struct await_worker *k, uint64_t now_us)
{
    return !k->told && !k->leaving && (k->asked || now_us - k->since_us < AWAIT_UNREACHED_US);
}

bool await_expects(const struct await_worker *k, uint64_t now_us)
{
    return await_untold(k, now_us) && now_us - k->since_us < AWAIT_NEW_US;
}
