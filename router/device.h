/* router/device.h: one serial device that several models share. A worker that computes one batch at a time, of
 * whatever model, declares it (ours does; of a foreign one the configuration says so). Batches that its models' desks
 * each send when they like stand in its queue, small and too early: so a batch is formed when the device is nearly
 * free (R1 with the device's own time), and of the models that have one the best goes.
 *
 *  D1  free_us is when all that was sent there by any desk of any loop is done, as far as it was expected to take.
 *  D2  Among the desks of one loop the next turn has who was passed over DEVICE_PASSES times, then the highest lane,
 *      then the most rows for the device's time: b / t(b) as a share of what full batches of that model reach.
 *  D3  Desks of different loops do not choose among one another: who comes first when the device is nearly free has it,
 *      and the others see it busy.
 *  D4  Who has waited until the device was to be free when that began, and finds it busy again, is overtaken: by those who
 *      do not wait (`fixed`), or were luckier. A batch of it goes behind theirs. Who is passed over in turns waits for D2.
 *
 * Source of the order: batching.md R9 (by rows a device time beats by deadline). Thinks. struct device: any thread,
 * relaxed words; owner: the doer, one a worker for the life of the process. struct device_turn: one a worker and loop,
 * of that loop's thread; owner: the doer, until its last desk has left. */
#ifndef SLUICE_ROUTER_DEVICE_H
#define SLUICE_ROUTER_DEVICE_H

#include "batcher/batcher.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define DEVICE_PASSES 8

struct serial_device { // all zero: it has never had a batch
    _Atomic uint64_t free_us;
    _Atomic uint64_t pending_us; // what is in flight is expected to take, in sum
};

struct desk;

struct device_seat { // a desk's, at one device
    struct desk *desk;
    struct device_seat *next, **prev; // prev NULL: it has not sat down
    bool asked;                       // in this round
    struct batcher_bid bid;           // at its start: nobody's queue changes before it is asked
};

struct device_turn { // all zero: nobody sits there
    struct device_seat *first;
};

// A batch goes there, to be there at there_us; it has ended, half_us ago as seen from there. recalled: it may still
// be computed, so the device stays busy.
void device_sent(struct serial_device *v, uint64_t expected_us, uint64_t there_us);
void device_ended(struct serial_device *v, uint64_t expected_us, bool recalled, uint64_t half_us,
                  uint64_t now_us);
static inline uint64_t device_free_us(const struct serial_device *v)
{
    return atomic_load_explicit(&v->free_us, memory_order_relaxed);
}

void device_sit(struct device_turn *t, struct device_seat *s, struct desk *d);
void device_leave(struct device_seat *s); // nothing, when it does not sit
// D2: who has the turn, of those with something queued that were not asked yet in this round. NULL: nobody. It is asked
// now. first: a round begins.
struct desk *device_next(struct device_turn *t, bool first);
// It has sent a batch: those that have something queued and were not asked before it were passed over. Who was asked
// and did not go could not, or would not.
void device_passed(struct device_turn *t, struct desk *d);

#endif
