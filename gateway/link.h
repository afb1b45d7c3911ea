/* gateway/link.h: a loop's connection to one worker, with what the gateway keeps beside it. Shared by workers.c
 * (connections, what a worker has), calls.c (batches) and worker_story.c (events). Thread: the loop's, but for
 * the atomics, and `task` while `words` is not 0. Lives until all loops have ended. */
#ifndef SLUICE_GATEWAY_LINK_H
#define SLUICE_GATEWAY_LINK_H

#include "backends/worker.h"
#include "gateway/part.h"
#include "gateway/worker_story.h"
#include "router/device.h"

enum link_word {   // what one loop says to another about a worker
    WORD_NEWS = 1, // its owner has published what it has
    WORD_WISH = 2, // to its owner: a loop wants news
    WORD_DOUBT = 4,
    WORD_REPLACE = 8
};

struct link {
    struct part *part;
    struct worker *worker; // NULL: the loop has ended
    unsigned id;
    struct device_turn turn; // of the desks here at the worker's device, when it is a serial one
    bool told;               // it has been ready once: its models are in the table
    bool kept_out;           // a model of it is another worker's by the configuration
    bool left_out;           // a model of it found no place in the table, or no memory
    uint64_t wish;           // for news, when its connection came up
    _Atomic unsigned state;  // published: enum worker_state
    _Atomic unsigned words;  // on their way; the first one posts the task
    struct loop_task task;
    struct worker_story story; // the owner's
};

static inline struct endpoint *link_endpoint(const struct link *l)
{
    return &l->part->gateway->replicas[l->id];
}
static inline uint64_t link_now_us(const struct link *l)
{
    return loop_now_us(l->part->loop);
}
// Does the configuration let this worker serve a model of that name?
bool link_may_serve(const struct link *l, struct view name);

// calls.c: worker_ops.on_infer_end
void calls_on_end(struct worker *w, struct http_call *call, enum http_call_end end, void *user,
                  void *ctx);

#endif
