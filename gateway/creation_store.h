/* gateway/creation_store.h: experiments that operators have created, in the store that instances share: each that comes or goes
 * there does so on all. Does. Thread: the main thread's, over the connection of gateway/trial_store.h.
 *
 * Key: sluice:DEPLOYMENT:exp-created  hash: the name of each -> as router/creation.h writes it; "#" -> how often one has come or gone
 *
 *   created, deleted ─► one script looks whether it may be, does it, counts "#" up ─► published ─► others look
 *   each second: is "#" what was heard? ─no─► what is not known here is read, what is not there any more goes
 *
 *  S1  Of two that create one name at once, the store takes one.
 *  S2  A store that counts less than was heard has gone back: what is known here is put there again. So it is with one that has never
 *      had any, and with what an instance has created before it had a store.
 *  S3  Without the store everybody goes on with what he has, and none comes or goes. */
#ifndef SLUICE_GATEWAY_CREATION_STORE_H
#define SLUICE_GATEWAY_CREATION_STORE_H

#include "gateway/creations.h"
#include "gateway/trial_shop.h"

#define CREATION_FEED "#" // on the channel: one has come or gone

void creation_store_look(struct trial_shop *shop);
// The page is answered when it has ended (creation_pages_end); a reference on ex is taken. `it` is taken over. False: why, and
// nothing has changed.
bool creation_store_create(struct gateway *g, struct creation *it, struct exchange *ex,
                           char why[CREATION_WHY]);
bool creation_store_delete(struct gateway *g, const struct created *c, struct exchange *ex,
                           struct view who, struct view reason, char why[CREATION_WHY]);

#endif
