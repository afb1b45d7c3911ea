/* batcher/server.h: one instance of a replica as a server: it does one batch at a time, first come first served.
 * When it will be free is what auto plans with, and a batch behind another is timed by it. Thinks. Thread: the
 * home loop's. Owner: the desk. */
#ifndef SLUICE_BATCHER_SERVER_H
#define SLUICE_BATCHER_SERVER_H

#include "batcher/policy.h"

struct batch_server {     // all zero: it has never had a batch
    uint32_t in_flight;   // batches sent to it that have not ended
    uint32_t newest_rows; // of the one sent last
    uint64_t pending_us;  // what those in flight are expected to take, in sum
    uint64_t
        free_us; // when it will have done them; none: past, or when it will have done what was recalled
    uint64_t answered_us; // when it answered a batch last
    uint64_t others_us; // until when others keep its device busy, if it shares one; set by the desk
    bool overtaken;     // and they have been before us for too long; likewise
};

// What is recalled before anybody knows how long it takes keeps its server busy for so long: who asks and leaves in
// turn would else have a worker begin each.
#define SERVER_RECALLED_US 10000

// A batch goes to it, expected to take so long (0: not known); trip_us: there and back.
void server_sent(struct batch_server *s, uint32_t rows, uint64_t expected_us, double trip_us,
                 uint64_t now_us);
// One of them has ended, answered or not; what was expected of it.
void server_ended(struct batch_server *s, uint64_t expected_us, bool answered, double trip_us,
                  uint64_t now_us);
// One of them has ended since we recalled it: free_us stays what it was.
void server_recalled(struct batch_server *s, uint64_t sent_us, uint64_t expected_us);
// How long a batch that is answered now took: call it before server_ended. quiet: nothing was in flight when it was
// sent; then the worker's own figure counts (0: none given), else our clock from the answer before it: behind a
// running batch the worker's figure might be half the truth, and that is fatal under load.
uint64_t server_took_us(const struct batch_server *s, uint64_t sent_us, bool quiet,
                        uint64_t compute_us, uint64_t now_us);

// Counts a server that is up in the outlook.
void outlook_add(struct outlook *o, const struct batch_server *s, uint64_t now_us);
// It is the one at hand.
void outlook_at(struct outlook *o, const struct batch_server *s, uint64_t now_us);

// Until when it has work; 0: it is idle.
static inline uint64_t server_busy_us(const struct batch_server *s, uint64_t now_us)
{
    uint64_t own_us = s->in_flight > 0 || s->free_us > now_us ? s->free_us : 0;
    return s->others_us > now_us && s->others_us > own_us ? s->others_us : own_us;
}

// Is a free before b? Of two that are idle, the one that has been so for longer.
bool server_before(const struct batch_server *a, const struct batch_server *b, uint64_t now_us);

#endif
