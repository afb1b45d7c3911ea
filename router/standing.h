/* router/standing.h: what a desk says of its model to whoever chooses among models: words of struct model that other
 * loops read (router/table.h), told only when they have changed by enough to matter, so that origins keep their line of
 * the cache. Thinks. Thread: the home loop's. Owner: the desk.
 *
 *  S1  begins_us of a lane is when a ticket of it that came now would go: when a server is free, and what goes before it
 *      has been served in full batches. A moment, not a span: it stays true while time passes. Told when the wait
 *      has changed by a millisecond and an eighth of it.
 *  S2  share is what the servers can do of what is asked for: rows a second in full batches by t(b), over rows a second
 *      that come or were turned away (model_turned). All while that is not known and no replica is lost; then what
 *      STANDING_SPARE makes of those that are left, and without any nothing. Told in steps of 1/64.
 *  S3  What a server can do is not always its model's: devices are shared. While a full batch waits all the time, what was
 *      answered is what can be; the ratio of the two is kept (yield), and forgotten slowly when nothing waits. It is never less
 *      than a 64th: of a server that stood still for minutes it would be remembered for an hour.
 *  S4  level is what router/level.h makes of it: whether answers come late (p99 over p99_enter; without one, more than one
 *      of a hundred requests has waited for half of the time that its deadline left), replicas that are lost, the share.
 *      A pin holds instead, while there is one, and what is pinned pretends the loss that leads there: of its share is
 *      left a half (2), a quarter (3), nothing (4). What was reckoned goes on beneath it.
 *  S5  What a level does is in force beside what the rules ask for, and overwrites nothing of it: batcher.policy.
 *      From LATENCY on nothing is waited for, and batches grow no further than half of p99_leave allows, or the
 *      load needs; under `fixed` to half of max_rows. Where more than two rounds of those wait they are as
 *      large as ever. In OUTAGE who comes is refused at once.
 *  S6  row_us is t(1), but no less than what a batch had when it was recalled without an answer: whoever has no more time
 *      than that would only cost the device some, and be late. Believed until something is answered, for
 *      STANDING_CUT_US at most: then one has to test it. */
#ifndef SLUICE_ROUTER_STANDING_H
#define SLUICE_ROUTER_STANDING_H

#include "base/recent.h"
#include "router/effects.h"
#include "router/level.h"
#include "router/table.h"

#define STANDING_LOOK_US 100000 // or an eighth of hold
#define STANDING_SPARE 1.4      // Envoy's overprovisioning: five of seven replicas carry everything
#define STANDING_TAU_US 1000000
#define STANDING_LOAD 1.25 // S5: what the load needs, with a quarter to spare
#define STANDING_CUT_US 1000000
#define STANDING_ROOM                                                                              \
    (MODEL_SHARE * 9 / 10) // a model of a chain has room for others when its share is no less

struct desk;
struct ticket;

struct
    delays { // of requests in the window, by quarters of it: how much of their deadline's slack the queue took
    uint64_t since_us;
    unsigned at;
    uint32_t n[RECENT_PANES], half[RECENT_PANES], quarter[RECENT_PANES];
};

struct desk_standing {
    uint64_t look_us;                             // when it is looked at next
    uint64_t seen_us;                             // when it was last; 0: never
    uint64_t came, served;                        // rows, ever
    uint64_t came_seen, served_seen, turned_seen; // of them then
    uint64_t backlog;   // rows: the least that waited since then; UINT64_MAX: nobody has looked
    double demand;      // rows a microsecond, weighted over STANDING_TAU_US
    double yield;       // S3
    bool spread;        // the lanes were told different moments
    struct recent took; // microseconds from the queue to the answer
    struct delays delays;
    struct level_state state;      // as it is reckoned
    struct level_signals signals;  // then
    uint8_t pin;                   // of the model, as it was seen last
    uint64_t cut_us, cut_until_us; // S6
};

void standing_init(struct desk_standing *s);
// Rows came; were answered.
static inline void standing_came(struct desk_standing *s, uint32_t rows)
{
    s->came += rows;
}
static inline void standing_served(struct desk_standing *s, uint32_t rows)
{
    s->served += rows;
    s->cut_us = 0;
}
// A ticket is answered; or it is given up for its deadline.
void standing_answered(struct desk_standing *s, const struct ticket *t, uint64_t now_us);
void standing_late(struct desk *d, const struct ticket *t);
// Replicas or rules have changed: the next standing_tell looks.
static inline void standing_doubt(struct desk_standing *s)
{
    s->look_us = 0;
}
// A batch was recalled that had been out for so long.
void standing_cut(struct desk *d, uint64_t us, uint64_t now_us);
// After every decision: what waits, and when servers are free, as they are now. Looks, when it is time.
void standing_tell(struct desk *d, uint64_t now_us, struct effects *fx);
// When standing_tell is to be called, whatever happens; UINT64_MAX: when something does.
uint64_t standing_wake_us(const struct desk *d);
// The policy in force, of what the rules ask for (S5).
void standing_ease(const struct desk *d, struct policy *p);
// In OUTAGE, and nothing can be done: why, in words. NULL: it can be tried.
const char *standing_refusal(const struct desk *d);
// The level in force.
static inline enum level standing_level(const struct model *m)
{
    return (enum level)atomic_load_explicit(&m->level, memory_order_relaxed);
}

#endif
