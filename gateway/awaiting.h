/* gateway/awaiting.h: requests and calls that wait at their origin until it is known who has what they ask for
 * (router/await.h), decoded as far as they can be, and charged. Does. Thread: the loop's. */
#ifndef SLUICE_GATEWAY_AWAITING_H
#define SLUICE_GATEWAY_AWAITING_H

#include "gateway/origin.h"

#define AWAITING_MOST 512  // of a loop
#define AWAITING_CALLS 256 // of these, that are no inferences
// By when a call without a deadline of its own is answered, with what is known by then: as long as a worker that cannot be
// reached is waited for.
#define AWAITING_CALL_US AWAIT_UNREACHED_US

// origin_again is called for it, once, at r->infer.deadline_us at the latest. False: so many wait already.
bool awaiting_begin(struct request *r);
void awaiting_leave(struct request *r); // its client has gone
void awaiting_soon(struct part *p);     // a worker has said what it has
void awaiting_init(struct part *p);
void awaiting_deinit(struct part *p); // no request is left

#endif
