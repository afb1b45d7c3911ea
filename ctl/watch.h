/* ctl/watch.h: sluicectl watch: /events as they come, a line each, until the gateway has ended or somebody wants no more.
 * A connection that breaks off is made anew, and goes on behind the last event. Does; blocks. */
#ifndef SLUICE_CTL_WATCH_H
#define SLUICE_CTL_WATCH_H

#include "ctl/ask.h"
#include "ctl/commands.h"

#define WATCH_PATH "/events"

// CTL_DONE: the gateway has ended in order, or SIGINT or SIGTERM came. CTL_REFUSED: it said no, or what it says is no event,
// or standard output takes none. CTL_UNANSWERED: no answer; or, after a connection that broke off, none for o->timeout_ms.
enum ctl_exit watch_run(const struct ctl_options *o, const struct ask *a);

#endif
