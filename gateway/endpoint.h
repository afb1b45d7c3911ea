/* gateway/endpoint.h: a replica of a worker, as all loops share it: its name and address, what is known of it without
 * asking, and a link of each loop. Who comes and who goes: gateway/fleet.h.
 *
 *   endpoint_new ─► each loop joins ─► serves ─► each loop leaves, when nothing is aboard there ─► over: freed
 *
 *  E1  A loop that has left refers to it no more, and says nothing of it. Each loop that has not, and each word that is on
 *      its way, holds it; the last one tells the main thread (fleet_on_over).
 *  E2  Its place in the loops' tables is used again; its id never is: what still goes by it (losses that a ticket
 *      remembers, sequences, requests to explain) finds it or nobody.
 *
 * Does. Thread: main, but for what is atomic, what a line says, and each link, which is its loop's. */
#ifndef SLUICE_GATEWAY_ENDPOINT_H
#define SLUICE_GATEWAY_ENDPOINT_H

#include "gateway/link.h"
#include "gateway/news.h"
#include "gateway/worker_start.h"
#include "router/vitals.h"

struct endpoint {
    _Alignas(64) struct worker_vitals vitals; // of all loops
    struct serial_device device;              // of all loops, when it is a serial one
    struct news news; // what its owner (the loop `place % loops`) has learnt
    struct worker_start start;
    _Atomic uint64_t replaced_us; // connections that came up before it are to be replaced
    _Atomic unsigned holders;     // E1
    struct loop_task over;
    struct gateway *gateway;

    // Constant.
    uint32_t id;                       // by which desks know it; its place is id % ENDPOINTS_MOST
    uint32_t number;                   // by which the keeper speaks of it
    char name[CONFIG_NAME_BYTES + 12]; // "cpu/0"
    char section[CONFIG_NAME_BYTES];   // title of its section
    char address[ADDR_TEXT];           // for logs
    struct addr addr;
    bool local, tls;

    // Main thread.
    uint32_t replaces; // the number of the one that goes for it; 0: none
    bool before;       // it is ready before that one goes
    bool was_ready;    // on every loop at once
    bool leaving;      // the loops have been told
    bool is_over;
    uint64_t wait_us;  // it goes when those that come for it are ready, or then; 0: it stays
    uint32_t hung_pid; // the last process of it that the keeper was asked to kill
    struct endpoint *next;

    struct link link[]; // [loops]
};

// Does not list it. NULL: why.
struct endpoint *endpoint_new(struct gateway *g, const struct config *c, const struct boot_place *b,
                              uint32_t id, const char **why);
void endpoint_free(struct endpoint *e);
struct endpoint *endpoint_by_number(const struct gateway *g,
                                    uint32_t number);            // NULL: none that stays
const char *endpoint_name(const struct gateway *g, uint32_t id); // NULL: it is no more
// Its models can be had on every loop.
bool endpoint_is_ready(struct endpoint *e);
// Of what it is on that loop: enum worker_state.
static inline unsigned endpoint_state(const struct endpoint *e, unsigned loop)
{
    return atomic_load_explicit(&e->link[loop].state, memory_order_relaxed);
}

// What one loop says to another about it, in a task; what is said while one is on its way joins it. from: the loop
// whose thread this is, which has not left.
void endpoint_say(struct endpoint *e, struct loop *from, unsigned to, enum link_word word);
void endpoint_unhold(struct endpoint *e, struct loop *from); // E1

#endif
