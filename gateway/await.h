/* gateway/await.h: requests that came before it is known who has their model: after a start of the gateway process, or when
 * a worker was added that has not said yet what it has. They wait at their origin, decoded and charged, before a flow has
 * them, each until its deadline. Does. Thread: the loop's. */
#ifndef SLUICE_GATEWAY_AWAIT_H
#define SLUICE_GATEWAY_AWAIT_H

#include "gateway/origin.h"

#define AWAIT_MOST 512 // of a loop

// origin_again is called for it, once, at r->infer.deadline_us at the latest. False: so many wait already.
bool await_begin(struct request *r);
void await_leave(struct request *r); // its client has gone
void await_soon(struct part *p);     // a worker has said what it has
void await_init(struct part *p);
void await_deinit(struct part *p); // no request is left

#endif
