/* base/mpsc.h: intrusive lock-free multi-producer single-consumer list: first in first out for each
 * producer, any order across producers. The consumer declares that it sleeps; the producer whose push
 * finds that declaration is told to wake it (writes the eventfd). All orderings are sequentially
 * consistent read-modify-writes, no fences: sanitizers do not see fences.
 * Source: D. Vyukov's intrusive MPSC node-based queue. */
#ifndef SLUICE_BASE_MPSC_H
#define SLUICE_BASE_MPSC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct mpsc_node {
    _Atomic(struct mpsc_node *) next;
};

struct mpsc {
    _Alignas(64) _Atomic(struct mpsc_node *) head; // producers push here
    _Atomic int asleep;                            // 1: the next push must wake the consumer
    _Alignas(64) struct mpsc_node *tail;           // consumer's end
    struct mpsc_node stub;
};

void mpsc_init(struct mpsc *q);
// Any thread. The node is the queue's until popped. True: the consumer sleeps, and this caller (alone)
// must wake it. `last` variant: pushes a chain first..last already linked through ->next with one
// exchange (a splice).
bool mpsc_push(struct mpsc *q, struct mpsc_node *node);
bool mpsc_push_chain(struct mpsc *q, struct mpsc_node *first, struct mpsc_node *last);
// Consumer only. NULL: empty, or a producer is in the middle of its push (it will be there soon).
struct mpsc_node *mpsc_pop(struct mpsc *q);
// Consumer only: declares sleep; false (and no declaration) when something is queued.
bool mpsc_try_sleep(struct mpsc *q);
// Consumer only: takes the declaration back (harmless when a producer already has).
void mpsc_wake(struct mpsc *q);

#endif
