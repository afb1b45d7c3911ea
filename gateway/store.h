/* gateway/store.h: one loop's connection to the store of the configuration in force, and what is asked of it for the
 * desks that live here. Does. Thread: the part's loop; what is read from elsewhere is atomic.
 * The store is never needed: what it does not answer in time was not there. */
#ifndef SLUICE_GATEWAY_STORE_H
#define SLUICE_GATEWAY_STORE_H

#include "backends/redis.h"
#include "gateway/store_plan.h"

#include "base/buffer.h"
#include "infer/stored.h"

struct desk;
struct part;
struct json_writer;
struct store_ask;

enum store_count {
    STORE_FOUND,  // answers that were there
    STORE_MISSED, // that were not
    STORE_LATE,   // that nobody could say in time
    STORE_TOLD,   // answers that were sent there
    STORE_NOT_TOLD,
    STORE_COUNTS
};
extern const char *const store_count_name[STORE_COUNTS];

struct store {
    struct redis *redis;     // NULL: there is none
    struct store_plan *plan; // its: one reference
    struct redis_stats stats;
    enum redis_state told;   // in the event log; REDIS_STATES: nothing yet
    char why[160];           // it is down or rests, in words
    struct wheel_timer look; // at the epochs, which all instances share
    uint64_t known_us;       // they are known until then
    struct buffer value;     // scratch
    _Atomic uint64_t count[STORE_COUNTS];
    _Atomic uint64_t
        fault[STORED_FAULTS]; // values that were there, and were not what they should be
};

// The snapshot's store is this loop's from now on. Where it is another one, what is asked of the one before ends
// unanswered, from inside.
void store_adopt(struct part *p);
void store_close(struct part *p);                    // the loop ends
void store_serve(struct part *p, struct desk *d);    // a desk that is new here
void store_get(struct part *p, struct store_ask *a); // FX_STORE_GET
void store_put(struct part *p, struct store_ask *a); // FX_STORE_PUT
// One JSON object: for /status.
void store_show(struct part *p, struct json_writer *w);

#endif
