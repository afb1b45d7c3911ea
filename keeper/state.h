/* keeper/state.h: the keeper's own struct, shared by its start (start.c) and its turns (keeper.c). */
#ifndef SLUICE_KEEPER_STATE_H
#define SLUICE_KEEPER_STATE_H

#include "keeper/child.h"
#include "keeper/keeper.h"
#include "keeper/places.h"
#include "keeper/relay.h"
#include "keeper/reload.h"
#include "keeper/runtime.h"
#include "keeper/tickets.h"
#include "keeper/watchdog.h"

enum phase { RUNNING, DRAINING, STOPPING, OVER };

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
    struct worker_place *places;
    struct boot_place *boot_places;
    uint32_t last_place; // number that was given
    enum phase phase;
    bool drain_asked;     // by the gateway, for an operator
    uint64_t told_us;     // the first signal to end came then; 0: none has
    uint64_t deadline_us; // DRAINING, STOPPING: kill what is left then; 0: it has been done
    uint64_t abort_us;    // the stuck gateway was sent SIGABRT; SIGKILL follows then; 0: none
    int signal_fd;
    int gateway_fd;     // our end of the socketpair; -1: none
    int liveness_write; // never written; its closing is the message
    int status;
};

// Signals, sockets, directory, pipe, page, the workers' words; starts no process. false: said why.
bool keeper_prepare(struct keeper *k, struct config *config, struct view text);
// Says a word to the gateway process, if there is one. False: it could not be said.
bool keeper_tell(const struct keeper *k, const struct boot_word *word);
// What we have told goes on to a gateway that is ready.
void keeper_relay(struct keeper *k);
// Gives all of it back; also after a keeper_prepare that failed.
void keeper_clean_up(struct keeper *k);

#endif
