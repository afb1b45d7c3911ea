/* router/shadow.h: the shadow of a request (infer/infer.h): asked of another model when the request has been answered by its
 * own. Nothing that is served waits for one, or is refused for it:
 *  S1  It is lent behind FX_SETTLE, and never before: what it takes is no part of the client's time. Its deadline is its own.
 *  S2  It takes no room at its model, and waits at the desk in a list of its own until nothing else is there (desk_shadow.c).
 *  S3  None is lent while the service of either model has come down, or when as many are out at the loop as its rules allow.
 *  S4  It is tried once: no retry, no halving, no sibling, no chain, no cache.
 *  S5  How it ended is told exactly once, by FX_SHADOW. The blocks of both answers are held until then.
 * Thinks. Thread: the infer's loop's. Memory: the infer's. flow.c calls these. */
#ifndef SLUICE_ROUTER_SHADOW_H
#define SLUICE_ROUTER_SHADOW_H

#include "router/flow.h"

extern const char *const shadow_end_name[SHADOW_ENDS]; // as metrics say it

// FX_SETTLE of in, which has one, was added. It goes out, or FX_SHADOW says why not.
void shadow_begin(struct flow *f, struct infer *in, uint64_t now_us, struct effects *fx);
// A ticket of one has come home. The infer may be over by that.
void shadow_on_back(struct flow *f, struct ticket *t, uint64_t now_us, struct effects *fx);

#endif
