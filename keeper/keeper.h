/* keeper/keeper.h: sluice's first process. It holds the listening sockets, starts the gateway process and the
 * local workers and starts again what dies; it parses nothing from the network. Does. One thread, so that
 * forking is simple; its only waits are poll() on its signals and on the gateway's socketpair.
 *
 *   RUNNING ─SIGTERM, SIGINT─► DRAINING ─the gateway has ended─► STOPPING ─all workers have ended─► OVER
 *      └─ the gateway cannot start ─────────────────────────────────▲
 *   (another signal to end kills what is left, from anywhere)
 *
 * The gateway is a fork without exec: struct gateway_boot crosses as memory, sockets as descriptors.
 * Workers are fork and exec; they inherit 0, 1, 2 and the liveness pipe, nothing else. */
#ifndef SLUICE_KEEPER_KEEPER_H
#define SLUICE_KEEPER_KEEPER_H

#include "base/view.h"
#include "config/config.h"
#include "gateway/boot.h"

#define KEEPER_GATEWAY_STARTS 5          // without ever getting ready: give up
#define KEEPER_START_US 30000000ull      // a gateway that is not ready by then is aborted
#define KEEPER_ABORT_US 10000000ull      // from SIGABRT (time for a core) to SIGKILL
#define KEEPER_WORKER_STOP_US 5000000ull // from SIGTERM to SIGKILL
#define KEEPER_DRAIN_GRACE_US 3000000ull // beyond drain_delay + drain_timeout
#define KEEPER_SOCKET_POLL_US 10000ull   // looks for a starting worker's socket

// Runs until told to stop. text: what `config` was parsed from; both stay until the call returns.
// gateway: gateway_main, run in the forked child. Returns the exit status: 0 after a drain in order or a
// cut by a second signal; 1 when it could not start, the gateway failed at its first start, or died
// while it drained.
int keeper_run(struct config *config, struct view text,
               int (*gateway)(const struct gateway_boot *boot));

#endif
