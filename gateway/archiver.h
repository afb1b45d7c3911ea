/* gateway/archiver.h: days of the prediction log, put together (archive/archive.h) by a thread of its own, of the lowest
 * priority: neither requests nor the log's writer wait for it. It looks when it is told where, and from time to time. Does.
 *
 *   archiver_start ─► looks ◄─ a minute, or RETRY after a failure ─┐ ─ archiver_stop ─► joined
 *                       └──────────────────────────────────────────┘ */
#ifndef SLUICE_GATEWAY_ARCHIVER_H
#define SLUICE_GATEWAY_ARCHIVER_H

#include "archive/archive.h"
#include "net/log.h"
#include "net/loop.h"
#include <limits.h>

struct config;
struct gateway;

struct archiver_word { // to the main thread, whose events are
    struct loop_task task;
    struct gateway *gateway;
    _Atomic bool busy;
    enum archive_end end;
    struct archive_done done;
};

struct archiver {
    struct gateway *gateway;
    pthread_t thread;
    bool runs;
    _Atomic bool over; // it is to end
    _Atomic uint64_t taken, days, errors;
    struct archiver_word word;
    bool failing; // told so; its thread's

    pthread_mutex_t lock; // of what follows
    pthread_cond_t changed;
    bool fresh;                             // another place, and it was not looked at yet
    char directory[PATH_MAX], to[PATH_MAX]; // to "": nowhere
    uint64_t keep_us;
};

void archiver_init(struct archiver *a, struct gateway *g);
// Main thread: its thread runs, if it did not. False: errno.
bool archiver_start(struct archiver *a);
// Main thread: where, from now on. What it does just now it ends.
void archiver_move(struct archiver *a, const struct config *c);
// Main thread: it ends, in the middle of a file if need be: the next one goes on. Nothing is told any more.
void archiver_stop(struct archiver *a);

#endif
