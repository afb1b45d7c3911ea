/* gateway/snapshot.h: the configuration in force, as the loops see it: immutable, numbered, counted. The main thread makes
 * one of each configuration that the keeper offers (gateway/reload.h); each loop takes it up by a task of its own, and
 * reads no other. A request holds the one that it began with, by a plain count of its loop.
 *
 *   snapshot_new ─ snapshot_first, snapshot_publish ─► in force ─ the next one is taken up ─► held by requests ─► over
 *
 *  P1  A loop holds a snapshot from the turn in which it takes it up until it has another one and no request of its has
 *      this one any more. The main thread holds the newest.
 *  P2  Whoever lets go last posts it to the main thread, which frees it. At most SNAPSHOTS_HELD live at a time. */
#ifndef SLUICE_GATEWAY_SNAPSHOT_H
#define SLUICE_GATEWAY_SNAPSHOT_H

#include "config/config.h"
#include "gateway/chains.h"
#include "gateway/experiments.h"
#include "http/http.h"
#include "net/loop.h"
#include "router/flow.h"
#include <stdatomic.h>

#define SNAPSHOTS_HELD 16

struct gateway;
struct part;
struct store_plan;

struct snapshot_hold {                  // of one loop
    _Alignas(64) _Atomic uint64_t uses; // requests that have it; the loop's, read by who looks
    struct loop_task task;              // takes it up
};

struct snapshot {
    struct gateway *gateway;
    struct config *config; // one reference
    uint64_t generation;   // of the configuration: the first that this keeper read is 1
    uint64_t since_us;     // wall clock
    struct http_limits limits;
    struct flow_rules flow;
    struct front *
        *fronts;        // of its listen sections, in their order; theirs while this is the newest
    struct view *names; // of the models: config->model_count
    struct chains *chains;
    struct experiments *experiments; // NULL: none
    struct store_plan *store;        // NULL: none
    _Atomic unsigned holders; // loops, and the main thread; and it again until `taken` has come
    struct loop_task over;    // to the main thread
    _Atomic unsigned awaited; // loops that have not taken it up yet
    bool is_ours;             // gateway/creations: the keeper did not offer it
    struct loop_task taken;   // to the main thread, when all have: reload_in_force
    struct snapshot *next, **prev; // of gateway.snaps: the main thread's
    struct snapshot_hold hold[];   // [loops]
};

// Main thread. Takes over the reference to the configuration, and reads the files that it names for models, and where it is of
// another generation than the newest, for the store. NULL: `why`
// (then the reference is dropped).
struct snapshot *snapshot_new(struct gateway *g, struct config *c, uint64_t generation,
                              uint64_t since_us, char why[FILE_WHY]);
void snapshot_drop(struct snapshot *p); // one that was not published
// Before the loops run, and the parts are there: theirs (part.snap) is this one, gateway.snap.
void snapshot_first(struct snapshot *p);
// Main thread: how many live.
unsigned snapshots_held(const struct gateway *g);
// Main thread: it is the newest, and each loop takes it up in a turn of its own (part_adopt).
void snapshot_publish(struct snapshot *p);
// A request of the part's begins, and ends.
struct snapshot *snapshot_hold(struct part *part);
void snapshot_hold_on(struct part *part, struct snapshot *p); // once more, by a request that has it
void snapshot_let_go(struct part *part, struct snapshot *p);
void snapshots_free(struct gateway *g); // the loops have stopped

// What this configuration says of a model; NULL: nothing.
static inline const struct config_model *snapshot_model(const struct snapshot *p, struct view name)
{
    return config_model_find(p->config, name);
}

#endif
