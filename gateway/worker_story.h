/* gateway/worker_story.h: what is said of a worker in the event log: once for each state, by its owner's loop
 * alone, with its address and the reason. Does. Thread: the loop's. */
#ifndef SLUICE_GATEWAY_WORKER_STORY_H
#define SLUICE_GATEWAY_WORKER_STORY_H

#include "backends/roster.h"

struct link;

// Why a model that a worker could serve is not served there.
#define STORY_KEPT_OUT "the configuration gives it to another worker, or does not list it"

enum story_said { SAID_NOTHING, SAID_READY, SAID_SERVES_NOTHING, SAID_DOWN, SAID_UNREACHABLE };

struct worker_story {
    enum story_said said;
    struct hash128 why;    // of what was said last
    struct hash128 failed; // why its questions failed; zero: they do not
    struct roster *told;   // model by model
};

void story_learnt(struct link *l, struct roster *r);
void story_not_learnt(struct link *l, const char *why, bool knows_nothing);
void story_down(struct link *l, const char *why);
void story_deinit(struct worker_story *s);

#endif
