/* keeper/state.h: the keeper's own struct, shared by its start (start.c) and its turns (keeper.c). */
#ifndef SLUICE_KEEPER_STATE_H
#define SLUICE_KEEPER_STATE_H

#include "keeper/child.h"
#include "keeper/keeper.h"
#include "keeper/relay.h"
#include "keeper/reload.h"
#include "keeper/runtime.h"
#include "keeper/tickets.h"
#include "keeper/watchdog.h"

enum phase { RUNNING, DRAINING, STOPPING, OVER };

struct local_worker { // one replica of a local worker
    struct child child;
    const struct config_worker *config;
    unsigned worker, replica; // as in struct boot_worker
    char *program;
    char **words;      // argv, NULL-terminated
    int liveness_fd;   // what --liveness-fd names
    char number[16];   // of that descriptor
    char address[120]; // "unix:PATH"
};

struct keeper {
    struct config *config; // in force: one reference
    struct buffer text;    // it was parsed from, after a reload; before, the caller's
    int (*gateway_main)(const struct gateway_boot *boot);
    struct gateway_boot boot;
    struct runtime_dir dir;
    struct sockets sockets;
    struct rand rand;
    struct watchdog watchdog;
    struct tickets tickets;
    struct reload_job reload;
    struct relay relay;
    struct child gateway;
    struct local_worker *workers;
    struct boot_worker *boot_workers;
    unsigned worker_count;
    enum phase phase;
    bool drain_asked;     // by the gateway, for an operator
    uint64_t deadline_us; // DRAINING, STOPPING: kill what is left then; 0: it has been done
    uint64_t abort_us;    // the stuck gateway was sent SIGABRT; SIGKILL follows then; 0: none
    int signal_fd;
    int gateway_fd;     // our end of the socketpair; -1: none
    int liveness_write; // never written; its closing is the message
    int status;
};

// Signals, sockets, directory, pipe, page, the workers' words; starts no process. false: said why.
bool keeper_prepare(struct keeper *k, struct config *config, struct view text);
// What we have told goes on to a gateway that is ready.
void keeper_relay(struct keeper *k);
// Gives all of it back; also after a keeper_prepare that failed.
void keeper_clean_up(struct keeper *k);

#endif
