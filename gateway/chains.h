/* gateway/chains.h: the chains of one configuration, by model, with the answers that its files hold: made and read on the
 * main thread (the keeper makes one to see that it can be made), a part of the snapshot. Does. Immutable once made: any
 * thread reads it. */
#ifndef SLUICE_GATEWAY_CHAINS_H
#define SLUICE_GATEWAY_CHAINS_H

#include "config/config.h"
#include "gateway/file.h"
#include "router/chain.h"

struct chains;
struct gateway;

// The configuration stays for as long. NULL: why.
struct chains *chains_new(const struct config *c, char why[FILE_WHY]);
void chains_free(struct chains *all); // NULL is fine
// Of the model of that name; NULL: it has none.
const struct chain *chains_find(const struct chains *all, struct view model);

// Main thread, once a second: of the newest configuration, which steps take or give something else than their model, by
// what workers have told of both. Those are passed over from here on, or no longer; an event tells of each change.
void chains_look(struct gateway *g);

#endif
