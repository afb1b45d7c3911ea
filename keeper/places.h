/* keeper/places.h: the replicas of all workers, each with a number and a name that it keeps for as long as the
 * configuration says the same of it: a local process (its command), or an address (its text). Another configuration is
 * planned first, since the gateway may refuse it, and applied when that has taken it.
 *
 *   SERVES ─not planned─► GOES ─the gateway has let go of it, or has ended─► STOPS ─its process has ended─► freed
 *      └─────────── the gateway has let go of it for the one that replaces it ──▲
 *   (planned again: SERVES, from anywhere; a process that is ending is started anew)
 *
 *  P1  Numbers grow and are never used again. A replica's number within its section is the lowest that no place of the
 *      section has, those that go included.
 *  P2  A process of another command replaces one of the old command, one for one, those first that do not run. It starts
 *      when `after` has ended: the one that it replaces; or, under `before`, the one that the replica before it replaced.
 *
 * places_plan thinks. The rest does; the keeper's one thread. */
#ifndef SLUICE_KEEPER_PLACES_H
#define SLUICE_KEEPER_PLACES_H

#include "config/config.h"
#include "gateway/boot.h"
#include "keeper/child.h"

enum place_state { PLACE_SERVES, PLACE_GOES, PLACE_STOPS };

struct worker_place {
    enum place_state state;
    uint32_t number, replica;
    uint32_t replaces, after; // numbers; 0: none
    bool before;
    char *section;          // title
    char *remote;           // its address as it stands in the file; NULL: a process
    char **command;         // of a process: [command_count + 5], NULL-terminated, with what we add
    unsigned command_count; // the file's
    char *program;
    struct child child;
    uint64_t kill_us;          // STOPS: SIGKILL follows then; 0: it was sent
    int liveness_fd;           // what --liveness-fd names
    char fd_text[16];          // of that descriptor
    char address[112];         // "unix:PATH"
    struct worker_place *next; // in the order of their numbers
};

struct plan_row {
    struct boot_place to_be;
    uint32_t after;
    bool old; // it is there for as long as the one that replaces it is not
};

struct places_plan { // an array of all that are to serve; all zero: none
    struct plan_row *rows;
    unsigned n, cap;
    uint32_t last; // number that was given
};

// What is to be by this configuration. last: the last number that was given. Paths are not filled in.
void places_plan(const struct worker_place *now, const struct config *c, uint32_t last,
                 struct places_plan *out);
void places_plan_deinit(struct places_plan *p);

struct keeper;

// The plan for another configuration, with a directory for the sockets of its processes. False: why.
bool places_prepare(struct keeper *k, const struct config *c, struct places_plan *out, char *why);
// It is in force: c is the configuration.
void places_apply(struct keeper *k, const struct config *c, const struct places_plan *plan);
// What the gateway that is about to start has to know: k->boot.places.
void places_for_boot(struct keeper *k);
void places_tell_all(struct keeper *k); // it has started: of the processes that run
void places_on_left(struct keeper *k, uint32_t number, uint64_t now_us);
void places_on_hangs(struct keeper *k, const struct boot_word *word);
bool places_reap(struct keeper *k, pid_t pid, int status, uint64_t now_us); // false: none of ours
void places_turn(
    struct keeper *k,
    uint64_t now_us); // starts what is due, looks at what starts, kills what does not stop
uint64_t places_wake_us(const struct keeper *k, uint64_t now_us);
void places_signal(struct keeper *k, int signal);
void places_end(struct keeper *k);     // SIGTERM to all; what does not run is over
void places_give_up(struct keeper *k); // nothing is started any more
bool places_over(const struct keeper *k);
void places_free(struct keeper *k);

#endif
