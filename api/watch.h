/* api/watch.h: health Watch (grpc.health.v1): the state of a service now, and again each time that it is another, until
 * the client leaves or the server drains. Thinks.
 * States are polled, since readiness changes for many reasons on many threads, and reading it is one load. A change is
 * seen within SERVING_LOOK_US; one that is undone within that time is not. A slow client gets the state that holds
 * when its window opens. */
#ifndef SLUICE_API_WATCH_H
#define SLUICE_API_WATCH_H

#include "api/serving.h"

// The answer begins to flow. False: e.
bool watch_start(struct serving *s, uint64_t now_us, struct error *e);
void watch_want(struct serving *s, uint64_t now_us); // on_want
void watch_end(struct serving *s);

#endif
