/* keeper/child.h: one process that the keeper keeps alive: the gateway, or a replica of a local worker.
 * Does (fork, exec, kill); the keeper decides when.
 *
 *   WAITING ─child_fork─► STARTING ─child_ready─► RUNNING
 *      ▲                      │ died                 │ died
 *      └──child_died, after a pause (backoff.h)──────┴──── child_died with no way back ─► OVER
 *
 * Invariants: 1. pid > 0 exactly in STARTING and RUNNING: until child_died the process is not reaped, so
 * the number is its own and may be signalled. 2. at_us counts only in WAITING.
 * Every child: own process group (Ctrl-C at a terminal reaches the keeper alone), all signals with their
 * default meaning, those that the keeper hears blocked until its body unblocks them, killed by the kernel
 * when the keeper dies before it could say so. */
#ifndef SLUICE_KEEPER_CHILD_H
#define SLUICE_KEEPER_CHILD_H

#include "keeper/backoff.h"
#include <stdbool.h>
#include <sys/types.h>

enum child_state { CHILD_WAITING, CHILD_STARTING, CHILD_RUNNING, CHILD_OVER };

struct child {
    enum child_state state;
    pid_t pid;
    uint64_t at_us;      // WAITING: start it then
    uint64_t started_us; // monotonic, of the last start
    unsigned starts;     // so far
    bool was_ready;      // at least once in its lives
    bool killed;         // this life of it was ended by us: SIGKILL was sent
    struct restart_backoff backoff;
};

// Forks; the child runs body(arg) and exits with its result. false: fork failed, state WAITING with a
// pause.
bool child_fork(struct child *c, int (*body)(void *arg), void *arg, uint64_t now_us,
                struct rand *r);
void child_ready(struct child *c);
// It was reaped. again: back to WAITING with a pause of backoff.h, which depends on who ended it; else OVER.
void child_died(struct child *c, bool again, uint64_t now_us, struct rand *r);
static inline bool child_alive(const struct child *c)
{
    return c->pid > 0;
}
void child_signal(struct child *c, int signal); // nothing when it is not alive; SIGKILL: killed

// A local worker's program. Does not return: exec, or 127 after an event line that names the program and
// the error. words: argv, NULL-terminated; liveness_fd is made inheritable.
int child_exec_worker(const char *program, char *const *words, int liveness_fd, const char *name,
                      unsigned replica);

#endif
