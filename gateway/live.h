/* gateway/live.h: what is counted and what stands (gateway/tally.h), once a second, for whoever watches: /live of the admin
 * listener, server-sent events named `stats`; a dashboard and `sluicectl top` read it. The first one a reader gets has all; the
 * others have what has changed. All readers share an event's bytes, and nothing is queued for one: who was too slow
 * for one event gets all again in place of the next. Nobody watches: nothing is counted, kept or woken.
 * Does. Thread: the main thread. */
#ifndef SLUICE_GATEWAY_LIVE_H
#define SLUICE_GATEWAY_LIVE_H

#define LIVE_PATH "/live"
#define LIVE_READERS 64 // at a time; then 503

struct exchange;
struct gateway;
struct live;

struct live *live_new(struct gateway *g);           // NULL: out of memory
void live_free(struct live *v);                     // its readers have gone; NULL is fine
void live_page(struct exchange *ex, void *gateway); // GET
void live_end(struct live *v); // every answer ends, and those that come now at once

#endif
