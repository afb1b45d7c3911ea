#include "base/mpsc.h"

/* The list runs from tail (oldest) to head (newest). One node is always in it: the stub takes part when
 * nothing else is left. A push swaps itself in as head and then links its predecessor to itself; in
 * between the list is cut in two, and pop says "empty" although head shows that something is coming.
 *
 *   empty  <=>  tail == &stub && head == &stub                                              (1)
 *
 * Sleep: the consumer writes asleep = 1 and then reads head; a producer writes head and then reads
 * asleep. In the single total order of these sequentially consistent operations one of the two sees
 * the other, so a push is either seen by mpsc_try_sleep or told to wake. */

void mpsc_init(struct mpsc *q)
{
    atomic_init(&q->stub.next, NULL);
    atomic_init(&q->head, &q->stub);
    atomic_init(&q->asleep, 0);
    q->tail = &q->stub;
}

static void append(struct mpsc *q, struct mpsc_node *first, struct mpsc_node *last)
{
    atomic_store_explicit(&last->next, NULL, memory_order_relaxed);
    struct mpsc_node *before = atomic_exchange(&q->head, last);
    atomic_store_explicit(&before->next, first, memory_order_release);
}

bool mpsc_push_chain(struct mpsc *q, struct mpsc_node *first, struct mpsc_node *last)
{
    append(q, first, last);
    // The plain look first: an awake consumer's line is not taken away from it.
    return atomic_load(&q->asleep) && atomic_exchange(&q->asleep, 0);
}

bool mpsc_push(struct mpsc *q, struct mpsc_node *node)
{
    return mpsc_push_chain(q, node, node);
}

struct mpsc_node *mpsc_pop(struct mpsc *q)
{
    struct mpsc_node *tail = q->tail;
    struct mpsc_node *next = atomic_load_explicit(&tail->next, memory_order_acquire);
    if (tail == &q->stub) {
        if (!next)
            return NULL;
        q->tail = tail = next;
        next = atomic_load_explicit(&tail->next, memory_order_acquire);
    }
    if (!next) {
        if (atomic_load(&q->head) != tail)
            return NULL; // a producer stands between its exchange and its link
        append(q, &q->stub, &q->stub);
        next = atomic_load_explicit(&tail->next, memory_order_acquire);
        if (!next)
            return NULL; // another producer came before the stub
    }
    // Another core has written it: it is on its way while `tail` is handled.
    __builtin_prefetch(next);
    q->tail = next;
    return tail;
}

bool mpsc_try_sleep(struct mpsc *q)
{
    if (q->tail != &q->stub)
        return false;
    atomic_exchange(&q->asleep, 1);
    if (atomic_load(&q->head) == &q->stub)
        return true; // (1)
    // A producer may have taken the declaration already: its wake-up is then one too many.
    atomic_exchange(&q->asleep, 0);
    return false;
}

void mpsc_wake(struct mpsc *q)
{
    if (atomic_load(&q->asleep))
        atomic_exchange(&q->asleep, 0);
}
