/* gateway/fleet.h: the replicas of all workers: who serves, who comes and who goes. The keeper says which there are to be
 * (struct boot_place, at the start and with each configuration that it offers); those that are known by their number
 * stay as they are.
 *
 *  F1  One that comes is connected to by every loop. One that goes takes no new batches from then on; what is aboard ends
 *      as it would, within its deadlines; then it is closed, loop by loop, and the keeper is told: its process may end.
 *  F2  One that replaces another (a local worker whose command has changed): `before`, it is ready on every loop, then the
 *      other goes; else the other goes, its process ends, and the new one is started by the keeper. One pair of a section
 *      at a time, and the next only when the last new one was ready: what does not come up takes nothing with it.
 *  F3  An address that goes from a section stays until those that come to it are ready, for FLEET_WAIT_US at most.
 *
 * Does. Thread: main. */
#ifndef SLUICE_GATEWAY_FLEET_H
#define SLUICE_GATEWAY_FLEET_H

#include "config/config.h"
#include "gateway/boot.h"
#include "net/loop.h"

#define ENDPOINTS_MOST (2 * CONFIG_MAX_REPLICAS) // those that go have a place too
#define FLEET_WAIT_US 10000000

struct gateway;
struct endpoint;

struct fleet {                  // of the gateway
    struct endpoint *endpoints; // all, oldest first
    uint32_t round;             // of ids: each that adds some has its own
    struct wheel_timer timer;   // while somebody is to go
    bool held;                  // the keeper waits for a configuration to be in force: nobody goes
    struct tls_client *tls;     // NULL: no worker wants TLS
};

struct fleet_change { // new ones, that are not listed yet
    struct endpoint *coming;
};

// Makes those of the list that are not known, for this configuration. False: why, and nothing has changed.
bool fleet_prepare(struct gateway *g, const struct config *c, const struct boot_place *list,
                   unsigned n, struct fleet_change *out, char *why, size_t size);
// These are to be from now on: the new ones are listed and join, who is not in the list goes. joins: the loops run.
void fleet_apply(struct gateway *g, const struct config *c, const struct boot_place *list,
                 unsigned n, struct fleet_change *change, bool joins);
void fleet_drop(struct fleet_change *change); // instead
// The configuration is in force everywhere: who waits to go may.
void fleet_go_on(struct gateway *g);
void fleet_on_over(struct loop *l, struct loop_task *t); // endpoint.over
void fleet_free(struct gateway *g);                      // the loops have ended

#endif
