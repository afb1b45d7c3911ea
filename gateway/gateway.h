/* gateway/gateway.h: the gateway process: N loops that serve clients and carry out what the router
 * decides, a main thread for signals, the keeper's words and the operators' listener, one log thread.
 * Does. Everything that a request needs is reached from its loop's `struct part`; parts share nothing
 * mutable but the atomics of the model table. Main thread: everything in this file.
 *
 *   RUNNING ─SIGTERM, SIGQUIT, BOOT_DRAIN─► DELAYING ─drain_delay─► FINISHING ─idle, drain_timeout─► exit 0
 *      (readiness goes false at DELAYING; a second signal, or drain_timeout, goes through CUTTING) */
#ifndef SLUICE_GATEWAY_GATEWAY_H
#define SLUICE_GATEWAY_GATEWAY_H

#include "gateway/boot.h"

// Runs until drained or the keeper has gone; the exit status of the process. Called by the keeper's child
// right after the fork (and by tests). boot stays alive. SIGTERM, SIGQUIT and SIGUSR1 may come blocked: they are
// heard from when the gateway can act on them.
int gateway_main(const struct gateway_boot *boot);

#endif
