/* ctl/top.h: sluicectl top: a terminal that shows /live, a frame a second, until somebody wants no more; over a restart of the
 * gateway, too. --once: one frame as text; --json: the events themselves. Does (ncurses); blocks. */
#ifndef SLUICE_CTL_TOP_H
#define SLUICE_CTL_TOP_H

#include "ctl/ask.h"
#include "ctl/commands.h"

#define TOP_PATH "/live"

// CTL_DONE: q, SIGINT or SIGTERM came, or the one frame was printed. CTL_REFUSED: it said no, or what it says is no event.
// CTL_UNANSWERED: no answer at the beginning, or standard output is no terminal.
enum ctl_exit top_run(const struct ctl_options *o, const struct ask *a);

#endif
