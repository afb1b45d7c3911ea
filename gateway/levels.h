/* gateway/levels.h: the level of the instance, and what operators set: a model is pinned to a level for a while
 * (gateway/pins.h), or the instance is, which is every model that has no pin of its own. The main thread holds the pins,
 * and writes what is pinned into each model's word; its desk (router/standing.h) takes it up when it is told to look.
 * Does. Thread: the main thread. */
#ifndef SLUICE_GATEWAY_LEVELS_H
#define SLUICE_GATEWAY_LEVELS_H

#include "gateway/process.h"
#include "router/level.h"

// Before the loops run: pins that state_dir has kept are in force from the first request on.
void levels_start(struct gateway *g);
void levels_free(struct gateway *g);
// The highest level of the critical models; of a pinned instance that one.
enum level levels_instance(const struct gateway *g);

// GET and POST /v1/levels. To set: {"model": NAME (none: the instance), "level": N, "for_s": S, "why": TEXT}; to clear:
// {"model": NAME, "level": null}.
void levels_page(struct exchange *ex, void *gateway);
void levels_set_page(struct exchange *ex, void *gateway);

#endif
