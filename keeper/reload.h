/* keeper/reload.h: another configuration comes into force (SIGHUP, or an operator's word through the gateway).
 * A child of its own reads the file and checks it whole, so that nothing that it holds can harm the keeper; what it
 * found good is parsed again here from the same bytes, and offered to the gateway. One runs at a time; those that
 * are asked for meanwhile are one, which begins when it is over.
 *
 *   IDLE ─reload_ask─► CHECKING ─the child found it good─► OFFERED ─BOOT_TAKEN─► IDLE, in force
 *    ▲                    │ not good, or not in time          │ refused; the gateway has ended
 *    └────────────────────┴───────────────────────────────────┘ nothing has changed
 *
 * Sockets that it wants are opened before it is offered, and go with the offer; those that it has no more are closed when
 * it is in force: by us at once, by the gateway in its own time (BOOT_LET_GO), for which the next one waits, since it may
 * want the same address.
 * Without a gateway (it is about to be started again) it is in force as soon as it was found good.
 * Does. The keeper's one thread. */
#ifndef SLUICE_KEEPER_RELOAD_H
#define SLUICE_KEEPER_RELOAD_H

#include "base/buffer.h"
#include "config/config.h"
#include "gateway/boot.h"
#include "keeper/child.h"
#include "keeper/places.h"
#include "keeper/runtime.h"

#define RELOAD_CHECK_US 30000000ull // a file on a disk that does not answer is given up
#define RELOAD_LET_GO_US                                                                           \
    5000000ull              // a gateway that does not say that it has let go is not waited for
#define RELOAD_SEND_MS 2000 // nor one that takes no offer

enum reload_state { RELOAD_IDLE, RELOAD_CHECKING, RELOAD_OFFERED };

struct reload_job { // the one that runs, and the one that is asked for
    enum reload_state state;
    bool asked;       // another one
    uint32_t wish;    // the newest of the gateway's; 0: none
    uint32_t answers; // those up to it are answered by the one that runs
    struct child child;
    uint64_t kill_us; // CHECKING: it is given up then
    int memory_fd,
        said_fd;        // the file's bytes; what the child says: what has changed, or what is wrong
    struct buffer text; // of the configuration, while it is not in force
    struct config *config;  // OFFERED
    struct sockets sockets; // OFFERED: those of it
    struct places_plan places;
    uint64_t
        let_go_us; // the gateway closes sockets that left with the last one: until then; 0: none
    uint64_t since_us; // OFFERED: wall clock
    char said[BOOT_TEXT];
    size_t said_bytes;
};

struct keeper;

void reload_init(struct reload_job *r);
void reload_ask(struct keeper *k, uint32_t wish); // wish 0: a signal
void reload_turn(struct keeper *k, uint64_t now_us);
bool reload_reap(struct keeper *k, pid_t pid, int status,
                 uint64_t now_us); // false: not its child
void reload_on_taken(struct keeper *k, const struct boot_said *said, uint64_t now_us);
void reload_on_let_go(struct keeper *k);
void reload_on_gateway_gone(struct keeper *k); // and one that starts numbers its wishes anew
uint64_t reload_wake_us(const struct reload_job *r);
void reload_deinit(struct keeper *k); // before its sockets are closed

#endif
