/* gateway/events.h: the state changes of this process as they happen, for whoever watches: /events of the admin listener,
 * server-sent events (WHATWG HTML 9.2). What the event log is told, debug apart, is an event here, in the same words,
 * whatever log.level keeps out of the log; so is what the keeper tells of itself.
 * Nothing is queued for a reader. The last EVENTS_KEPT stand in one ring, and a reader is a place in it, from which it
 * pulls when its socket has room: one that does not read holds nothing but its connection (until send_timeout), and
 * where the ring has gone over it, it is told so in place of what it missed: ": lost N".
 * Does. Thread: events_tell on any loop's own thread; the rest on the main thread. */
#ifndef SLUICE_GATEWAY_EVENTS_H
#define SLUICE_GATEWAY_EVENTS_H

#include "http/http.h"
#include "net/log.h"
#include "net/loop.h"

#define EVENTS_KEPT 256
#define EVENTS_READERS 1024 // at a time; then 503

struct gateway;
struct events;

struct events *events_new(struct gateway *g, unsigned n_loops); // NULL: out of memory
void events_free(struct events *e); // its readers have gone, the loops have stopped

// A line for the event log, and an event. from: the calling thread's loop, one of g's or its main one.
void events_tell(struct gateway *g, struct loop *from, enum log_level level, const char *event,
                 const struct log_field *fields, unsigned n);

// An event of the keeper's, which has written its line itself; so many before it were lost. line: without a newline.
void events_relay(struct events *e, const char *event, struct view line, uint32_t lost);

// GET /events. last-event-id goes on behind that event, while the ring has it; an id of a process before this one: with
// all that this one has told; else from now on.
void events_page(struct exchange *ex, void *gateway);
unsigned events_readers(const struct events *e);
void events_end(struct events *e); // every answer ends, and those that come now at once

#endif
