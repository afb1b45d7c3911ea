/* router/flow.h: an infer's life on its origin loop: admission, the deadline, the ticket's way out and
 * back, and settling exactly once (infer/infer.h draws the states). One step (step.h) is asked at a time, along the
 * request's chain (chain.h): the next one leaves at once when one fails or takes too long, while what is out of it is
 * still being called home.
 * Thinks. Thread: its loop's. Memory: infers are the caller's until FX_RELEASE. */
#ifndef SLUICE_ROUTER_FLOW_H
#define SLUICE_ROUTER_FLOW_H

#include "base/rand.h"
#include "router/effects.h"
#include "router/table.h"

#define FLOW_CALLED 4 // steps of one infer that are being called home at a time

struct flow_rules {
    uint64_t deadline_us;     // default, where the model says nothing
    uint64_t deadline_max_us; // longest that a client may ask for
    uint32_t shadows;         // that may be out at a time (router/shadow.h)
    uint64_t shadow_bytes;    // of requests that they may hold
};

struct flow {
    unsigned loop; // whose it is
    struct table *table;
    struct flow_rules rules;
    struct wheel wheel; // deadlines
    uint64_t wake_us;   // asked for by FX_WAKE; UINT64_MAX: none
    struct rand rand;   // of what refusals say (retry.h)
    struct infer *live; // OUT and ZOMBIE
    uint32_t n_live, n_zombies;
    struct shadow *shadows; // that are out
    uint32_t n_shadows;
    uint64_t shadow_bytes;
    struct effects *fx; // while a call runs: the wheel's callbacks write there
};

void flow_init(struct flow *f, unsigned loop, struct table *t, const struct flow_rules *r,
               uint64_t seed, uint64_t now_us);
void flow_deinit(struct flow *f); // nothing live
// Those for requests that come from now on.
void flow_set_rules(struct flow *f, const struct flow_rules *r);

// in->request is decoded and sealed, in->arrived_us, in->user, in->arena, in->chain, in->lot and in->shadow set, the rest zero;
// in->step.to.model may be set by who has looked it up already. The model stays until FX_RELEASE: the caller sees to that. One of two
// things follows: the ticket goes out, or FX_SETTLE and FX_RELEASE at once.
void flow_submit(struct flow *f, struct infer *in, uint64_t now_us, struct effects *fx);
// The client has gone: it settles as STATUS_CLIENT_GONE (FX_SETTLE says so, for the log; there is nobody to
// answer). Harmless when it has settled already.
void flow_on_gone(struct flow *f, struct infer *in, uint64_t now_us, struct effects *fx);
void flow_on_back(struct flow *f, struct ticket *t, uint64_t now_us,
                  struct effects *fx); // MSG_BACK
void flow_on_echo(struct flow *f, struct ticket *t, uint64_t now_us,
                  struct effects *fx); // MSG_ECHO
void flow_on_wake(struct flow *f, uint64_t now_us, struct effects *fx);
// All shadows are called home: nothing is to be held for them.
void flow_call_shadows(struct flow *f, uint64_t now_us, struct effects *fx);
// When a request of that lane, refused now, may come again: retry_after_ms of what its model's queue takes, or of room_in_us
// where that is known better. m: NULL: nothing is known.
uint32_t flow_retry_ms(struct flow *f, const struct model *m, unsigned lane, uint64_t room_in_us,
                       uint64_t now_us);
struct json_writer;
void flow_show(const struct flow *f, struct json_writer *w); // as desk_show

#endif
