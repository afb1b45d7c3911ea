/* gateway/part.h: one loop's part of the gateway: its flow, the desks whose home it is, its connections to
 * the workers, its counts. Runs the router's effects: the only place where they meet sockets. Does.
 * Thread: the loop's, but for parts_* (main thread, unless a line says otherwise). */
#ifndef SLUICE_GATEWAY_PART_H
#define SLUICE_GATEWAY_PART_H

#include "api/api.h"
#include "gateway/budget.h"
#include "gateway/metrics.h"
#include "gateway/past.h"
#include "gateway/process.h"
#include "gateway/rewards.h"
#include "gateway/snapshot.h"
#include "gateway/store.h"
#include "router/await.h"
#include "router/desk.h"
#include "router/flow.h"

struct link;
struct record_lane;
struct home;
struct removal;

struct part {
    struct gateway *gateway;
    struct loop *loop;
    struct snapshot *snap; // the configuration in force here
    struct flow flow;
    struct effects fx;
    bool running;                   // effects are being run: what comes meanwhile joins the list
    struct home *homes;             // desks that live here
    struct home *dirty;             // those with inputs since their last decision
    struct loop_flush decide;       // runs the dirty desks before the loop sleeps
    struct cache *cache;            // answers of models whose home is here
    struct wheel_timer cache_timer; // its wish to be ticked
    struct wheel_timer flow_timer;
    struct wheel_timer watch_timer; // set while a health Watch is open here
    struct wheel_timer look_timer;  // gateway/removal
    struct removal *removals;       // that wait here for uses to end
    struct await await;             // requests whose model may become known: gateway/awaiting
    uint32_t await_calls;           // of these, that are no inferences
    struct wheel_timer await_timer;
    uint32_t uses[TABLE_MODELS]; // of each model, by index: see part_use
    struct link **links;         // [ENDPOINTS_MOST], by place: see part_link
    unsigned n_links;            // that were ever used
    struct api api;              // of all listeners
    struct metrics metrics;
    struct budget_lease lease;
    uint64_t shadow_said_us;      // gateway/shadows: when one that differs was logged last
    struct loop_task shadow_call; // and, once, calls all home
    struct reward_memory rewards;
    uint64_t sampled;   // access log: error term of the sampling
    struct buffer line; // scratch for a log line
    struct past past;   // the last requests
    struct memo memo;   // bodies whose answers are kept
    struct store store;
    struct record_lane *lane; // of the prediction log
};

// Builds a part for each loop, the model table and the endpoints. False: refused, and said why.
bool parts_build(struct gateway *g);
void parts_free(struct gateway *g); // the loops have stopped
bool parts_idle(const struct gateway *g);
// The keeper has (re)started the process of this place: connect now.
void parts_kick_worker(struct gateway *g, uint32_t place);
// The keeper says that this process of a local worker has ended. Every loop hears of it, before or after its
// connection to it has ended.
void parts_worker_gone(struct gateway *g, uint32_t place, uint32_t pid, bool crashed);
// p's loop: replica `id`, a local worker, does nothing any more, and pid is the process at the other end of the
// connection. The keeper is asked, once a process, to kill it and to start another. Others have no keeper.
void parts_worker_hangs(struct part *p, unsigned id, uint32_t pid);

// A request of p's refers to the model from this turn on; not any more. Once for its exchange (counts, the
// model's name) and once for its infer: they end in any order. A model is freed when every loop's uses have ended.
static inline void part_use(struct part *p, const struct model *m)
{
    p->uses[m->index]++;
}
static inline void part_unuse(struct part *p, const struct model *m)
{
    p->uses[m->index]--;
}

// Its snapshot is another one: what the loop keeps of the configuration follows.
void part_adopt(struct part *p);

// How a model is queued and batched, from its row of the configuration.
void part_rules(const struct config_model *c, struct model_rules *out);

// What all loops' caches may hold, and hold or have leased. Main thread.
uint64_t parts_cache_limit(const struct gateway *g);
uint64_t parts_cache_leased(const struct gateway *g);
// From now on they go by that configuration; a loop's memo, when it adopts it.
void parts_set_cache(struct gateway *g, const struct config *c);

// Runs what is in part->fx, and what running it adds.
void part_run(struct part *p);

#endif
