/* gateway/homes.h: the desks whose home a loop is: their messages, their timers, their decisions, made once
 * a turn. Thread: the part's loop. */
#ifndef SLUICE_GATEWAY_HOMES_H
#define SLUICE_GATEWAY_HOMES_H

#include "gateway/part.h"

struct home; // a desk and what the doer keeps beside it

// The home of a model of this loop; made at the first need. NULL: out of memory.
struct home *home_of(struct part *p, struct model *m);
struct desk *home_desk(struct home *h);
void home_touch(struct home *h); // its desk had an input: it decides before the loop sleeps
// What its model takes: a request of another form is answered 400, and not queued. Copied.
void home_know_form(struct home *h, const struct model_metadata *meta);
void homes_decide(struct part *p, uint64_t now_us); // effects are left in p->fx
void homes_on_msg(struct part *p, struct msg *m);   // MSG_ROUTER
void homes_wake(struct part *p, struct desk *d, uint64_t at_us);
void homes_show(struct part *p, struct json_writer *w); // an array: each desk's desk_show
struct home *homes_first(struct part *p);               // all of them; NULL: none (left)
struct home *homes_next(struct home *h);
// Of a model that no request refers to any more. True: it has no desk any more; false: not yet.
bool homes_drop(struct part *p, struct model *m);
// The rules of this model are those of the snapshot, here at its home; `replica` has it, or is about to, if it is known.
#define HOME_NO_REPLICA (~0u)
void home_adopt(struct part *p, struct model *m, unsigned replica);
void homes_adopt(struct part *p); // of all models whose home is here
void homes_free(struct part *p);

#endif
