/* router/chain.h: which step of a request's chain is asked next: a pure function of (chain, how the models stand, what
 * happened so far, time left). A chain is a model and, behind it, what else may answer for it, in order: other models,
 * the cache, the answer that the operator wrote down. Thinks. Thread: any; a walk is its request's.
 *
 *  1. In order, each link once. One that stands no chance (not known, unfit, no replica, later than the deadline) is passed over
 *     at once, and so is a model beyond its share: surplus goes down the chain before it queues.
 *  2. When the end is reached: those that were beyond their share after all, for they are ready; then those that have, or
 *     had, no replica: their desks wait for one for a while.
 *  3. While most of the model's replicas are lost (its level) the cache is asked before the model.
 *  4. After a request that workers died of, no model is asked any more: only the cache and the written answer.
 * The share is drawn once a request (lot): whoever is beyond one model's share is drawn for the next one's with what
 * is left of the lot, so that each model gets what it can carry of the traffic that reaches it. */
#ifndef SLUICE_ROUTER_CHAIN_H
#define SLUICE_ROUTER_CHAIN_H

#include "infer/default_answer.h"
#include "infer/failure.h"
#include <stdatomic.h>

#define CHAIN_STEPS 16 // behind the model
#define CHAIN_LINKS (CHAIN_STEPS + 1)
#define CHAIN_END CHAIN_LINKS
#define CHAIN_ATTEMPTS                                                                             \
    (2 *                                                                                           \
     CHAIN_LINKS) // told of a request: each link is passed over or tried, and may be tried after all
#define CHAIN_CACHE_LEVEL                                                                          \
    3 // of the model: from here on what is kept is given before anybody is asked
#define CHAIN_LOTS 65536u         // of which a share is so many
#define CHAIN_PATIENCE_US 1000000 // of one step where nobody says: at least so long
#define CHAIN_PATIENCE_TIMES 16   // and so many times what one row takes

enum link_kind { LINK_MODEL, LINK_CACHED, LINK_DEFAULT };

struct chain_link {
    enum link_kind kind;
    struct view name; // of the model; else "cached", "default"
};

struct chain {                      // immutable: of one model in one configuration
    const struct chain_link *links; // [0] is the model itself
    unsigned n;
    uint64_t step_timeout_us;            // 0: see chain_patience
    const struct default_answer *answer; // of LINK_DEFAULT
    const _Atomic uint32_t *
        unfit; // bits of links that take or give something else than the model; NULL: none is known
};

// Of a link's model, as its origin sees it without asking.
struct chance {
    bool known, ready;
    uint8_t level;    // of degradation
    uint32_t share;   // of CHAIN_LOTS that it can carry
    uint64_t wait_us; // before a batch with a new row would go
    uint64_t row_us;  // t(1); 0: not known
    uint64_t p99_us;  // likewise
};

// Why a link was passed over.
enum passed {
    PASSED_NOT,
    PASSED_UNKNOWN,
    PASSED_NOT_READY,
    PASSED_LATE,
    PASSED_SHARE,
    PASSED_POISON,
    PASSED_UNFIT,
    PASSED_REASONS
};
// How a step went, in one word for clients and metrics: enum status of one that was tried ("ok", "timeout", "poison", …);
// STATUS_COUNT + enum passed of one that was not ("not_ready", …).
#define CHAIN_OUTCOMES (STATUS_COUNT + PASSED_REASONS)
const char *chain_outcome(unsigned outcome);

struct attempt { // at one link
    uint8_t link;
    uint8_t passed; // enum passed; else it was tried:
    bool out;       // and nothing is known yet
    struct failure
        why; // STATUS_OK: it answered; else its text is the walk's until the request has settled
    uint64_t began_us, took_us;
};

struct chain_walk {         // of one request; zeroed: at the beginning
    uint32_t lot;           // < CHAIN_LOTS, by whom it comes from
    bool poisonous;         // workers died of it
    uint8_t losses, deaths; // as a ticket's, at all models so far
    uint32_t done;          // bits of links that were tried or passed over
    uint32_t spared;        // of those, the ones that may be tried after all
    unsigned n;
    struct attempt attempt[CHAIN_ATTEMPTS];
};

// The next link to try, or CHAIN_END; s: [c->n]. What is passed over on the way joins the walk's attempts.
unsigned chain_next(const struct chain *c, const struct chance *s, struct chain_walk *w,
                    uint64_t now_us, uint64_t left_us);
// How long link i may take of what is left: what those behind it need is left to them. The last that can answer has all.
uint64_t chain_patience(const struct chain *c, const struct chance *s, const struct chain_walk *w,
                        unsigned i, uint64_t left_us);
// Link i is tried from here on: the walk's last attempt.
void chain_begin(struct chain_walk *w, unsigned i, uint64_t now_us);
// Is there something else to try than link i, which is tried?
bool chain_has_more(const struct chain *c, const struct chain_walk *w, unsigned i);
// The last attempt was given back for want of a replica, since there was more to try.
void chain_spare(struct chain_walk *w);
// Link i failed so. True: the next one may be tried; false: that is the request's end, whatever stands behind.
bool chain_goes_on(const struct chain *c, const struct chain_walk *w, unsigned i,
                   enum status status);
// Nothing answered. late: the request's time is over.
enum status chain_verdict(const struct chain_walk *w, bool late);
// "NAME: why; NAME: why", cut to fit, NUL-terminated. The texts of its attempts are there.
void chain_reasons(const struct chain *c, const struct chain_walk *w, char *out, size_t size);
// "NAME;timeout;dur=200, NAME;ok;dur=3", in order, in milliseconds; what does not fit is left out. Returns its length.
#define CHAIN_TOLD 1024
size_t chain_tell(const struct chain *c, const struct chain_walk *w, char out[CHAIN_TOLD]);

#endif
