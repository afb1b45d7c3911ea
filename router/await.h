/* router/await.h: those that came before it is known who has what they ask for: after a start of the gateway process, or when
 * a worker was added that has not said yet what it has. They wait at their origin, before a flow has them, each until its
 * time. Who waits is looked at, once in each look, when a worker has told, when its time has come, and at the latest
 * AWAIT_LOOK_US after the last look: what another loop has heard, or that one is not waited for any more, is seen so. A look
 * that has begun ends before another: whose time comes meanwhile is late by what is left of it.
 * Thinks. Owner: the part of a loop; those that wait are their owners'. Thread: the loop's.
 *
 *   await_begin ─► waits ──await_leave──────────────────► its client has gone
 *                   └──await_next: its turn in a look──► it goes on, is refused, or await_begin again         */
#ifndef SLUICE_ROUTER_AWAIT_H
#define SLUICE_ROUTER_AWAIT_H

#include <stdbool.h>
#include <stdint.h>

#define AWAIT_LOOK_US 20000

struct await_one { // in who waits; zero: it does not
    struct await_one *next, *prev;
    uint64_t look; // the last one that it has had its turn in
    bool waits;
};

struct await { // zero: nobody does
    struct await_one *first, *last;
    uint32_t n;
    uint64_t look;
    bool looks;      // one has begun, and some have not had their turn
    uint64_t due_us; // the next one; 0: nothing wants one
};

// It waits, behind all others, and is looked at by until_us.
void await_begin(struct await *a, struct await_one *w, uint64_t until_us, uint64_t now_us);
void await_leave(struct await *a, struct await_one *w);
// A worker has said what it has: all are looked at now.
void await_soon(struct await *a, uint64_t now_us);
// When await_next wants to be called; UINT64_MAX: nobody waits.
uint64_t await_wish_us(const struct await *a);
// The next one whose turn it is, the oldest first; it waits no more. NULL: all have had theirs.
struct await_one *await_next(struct await *a, uint64_t now_us);

// ---- those who are to tell ------------------------------------------------------------------------------

struct await_worker {
    bool told;         // it has said what it has
    bool leaving;      // it is no more of the configuration
    bool asked;        // it is connected, and loads its models perhaps
    uint64_t since_us; // since when it is known here
};
// Those that cannot be reached are waited for so long; those that are connected and tell nothing, so long. (That they may have
// what is not known is believed of these for as long as they load: await_untold.)
#define AWAIT_UNREACHED_US 10000000
#define AWAIT_NEW_US 60000000
bool await_untold(const struct await_worker *k, uint64_t now_us);
// Whoever asks for what it may have waits for it.
bool await_expects(const struct await_worker *k, uint64_t now_us);

#endif
