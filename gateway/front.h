/* gateway/front.h: one `listen` of the configuration: its server on all loops, and the contexts of its TLS. It is the
 * front of its sockets, which the keeper numbers: a section that gets another name, or turns to TLS, keeps its front.
 *
 *   front_new ─► NEW ─ the loops have its snapshot ─► SERVING ─ the newest snapshot has it not ─► GOING
 *                                                        │                                          │ the keeper says: in force
 *      freed ◄─ retired ◄─ idle, or cut when drain_timeout has passed ◄─────────────────────── LEAVING
 *
 *  F1  A loop has a front's server from its birth, and what changes of it (limits, TLS) with each snapshot.
 *  F2  GOING still accepts: if this process dies before the keeper has gone over, the next one has the same sockets.
 *  F3  The keeper opens nothing anew before it has heard that those who leave have closed their sockets here.
 * Does. Thread: the main thread's, but for expose and half_close. */
#ifndef SLUICE_GATEWAY_FRONT_H
#define SLUICE_GATEWAY_FRONT_H

#include "config/config.h"
#include "net/addr.h"
#include "net/server.h"
#include <stdatomic.h>

struct gateway;
struct snapshot;

enum front_state { FRONT_NEW, FRONT_SERVING, FRONT_GOING, FRONT_LEAVING };
extern const char *const front_state_name[];

struct front {
    struct gateway *gateway;
    uint32_t id; // of its sockets
    enum front_state state;
    bool listed;    // the newest snapshot has it
    char name[132]; // title of its section
    char address[ADDR_TEXT];
    _Atomic bool expose, half_close; // any loop
    struct server *server;
    struct tls_server *tls;    // NULL: plain. The loops take it up with the newest snapshot
    struct tls_server *before; // until they have: what they had
    // LEAVING
    bool closed, cut; // it accepts no more; time was over
    uint64_t until_us;
    struct wheel_timer timer;
    struct loop_task retired;
    struct front *next, **prev; // gateway.fronts
};

// Its server is there and does not run yet; the descriptors are taken over. NULL: `why`, and they are the caller's.
struct front *front_new(struct gateway *g, uint32_t id, const char *address, const int *fds,
                        unsigned n_fds, const struct config_listen *l, char why[TLS_ERROR]);
// NULL with why "": that section has none.
struct tls_server *front_tls(const struct gateway *g, const struct config_listen *l,
                             char why[TLS_ERROR]);
struct front *front_find(const struct gateway *g, uint32_t id); // NULL: none that serves
// The section says this of it from now on. tls: of front_tls, taken over.
void front_adopt(struct front *f, const struct config_listen *l, struct tls_server *tls);
void front_drop(struct front *f); // NEW, and not wanted; or the loops have stopped
// Another snapshot is the newest.
void fronts_publish(struct gateway *g);
// Every loop has taken up the newest snapshot: what is new accepts, what is not in it is about to go.
void fronts_in_force(struct gateway *g);
// The keeper has gone over, too: those leave. It is told when they have closed their sockets.
void fronts_leave(struct gateway *g);

#endif
