/* gateway/link.h: a loop's connection to one worker, with what the gateway keeps beside it. Shared by workers.c
 * (connections, what a worker has), calls.c (batches) and worker_story.c (events). It stands in its endpoint, which
 * outlives it. Thread: the loop's, but for the atomics, and `task` while `words` is not 0.
 *
 *   not there ─WORD_JOIN─► connected, or trying to ─WORD_LEAVE─► leaving: no new batches ─the last one is home─► left
 *       └─ no memory: tried again each second ─┘                                                                 */
#ifndef SLUICE_GATEWAY_LINK_H
#define SLUICE_GATEWAY_LINK_H

#include "backends/worker.h"
#include "gateway/part.h"
#include "gateway/worker_story.h"
#include "router/device.h"

struct endpoint;

enum link_word {   // what one loop says to another about a worker
    WORD_NEWS = 1, // its owner has published what it has
    WORD_WISH = 2, // to its owner: a loop wants news
    WORD_DOUBT = 4,
    WORD_REPLACE = 8,
    WORD_JOIN = 16, // the main thread's: connect to it
    WORD_LEAVE = 32
};

struct link {
    struct part *part;
    struct endpoint *endpoint;
    struct worker *worker; // NULL: it is not there (any more)
    uint32_t id;           // the endpoint's
    // Of its worker, in the part's snapshot. NULL: that has none of this name.
    const struct config_worker *section;
    bool serial;             // as the section said when its models were taken in
    bool leaving;            // no new batches
    unsigned batches;        // that are out
    struct loop_call close;  // the last of them has come home
    uint64_t born_us;        // when it joined
    bool first;              // it was there when this loop began
    struct device_turn turn; // of the desks here at the worker's device, when it is a serial one
    bool told;               // it has been ready once: its models are in the table
    bool kept_out;           // a model of it is another worker's by the configuration
    bool left_out;           // a model of it found no place in the table, or no memory
    bool said_full;          // of the first of them
    bool crowded_out;        // nor at a desk, among its replicas
    uint64_t wish;           // for news, when its connection came up
    _Atomic unsigned state;  // published: enum worker_state
    _Atomic unsigned words;  // on their way; the first one posts the task
    struct loop_task task;
    struct worker_story story; // the owner's
};

// Its place in part.links; there for as long as anything of this loop goes by its id.
static inline struct link *part_link(const struct part *p, uint32_t id)
{
    struct link *l = p->links[id % ENDPOINTS_MOST];
    return l && l->id == id ? l : NULL;
}
static inline uint64_t link_now_us(const struct link *l)
{
    return loop_now_us(l->part->loop);
}
// The class that this worker's replicas of a model of that name are of, by its place in the model's list
// (router/preference.h); REPLICA_RANKS: the configuration does not let it serve that.
unsigned link_rank(const struct link *l, struct view name);
static inline bool link_may_serve(const struct link *l, struct view name)
{
    return link_rank(l, name) < REPLICA_RANKS;
}
// A batch of its has come home.
void link_batch_home(struct link *l);

// calls.c: worker_ops.on_infer_end
void calls_on_end(struct worker *w, struct http_call *call, enum http_call_end end, void *user,
                  void *ctx);

#endif
