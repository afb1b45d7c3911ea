/* gateway/removal.h: models that no worker has any more are removed: their desk, their counts on every loop, their
 * card, their place in the table. Those that the configuration names stay.
 *
 *   home: idle for GONE_US ─► main: table_remove ─► each loop, its home last ─► main: table_release
 *
 * 1. The home finds that no worker has it, once a second, and offers it (router/table.h draws the states). A worker
 *    that is there and says that it has it no more is believed after a minute; one that is away after an hour:
 *    most of those come back, and until then clients are better off with "not ready" than with "not known".
 * 2. The main thread takes it out of the table: no request finds it from here on. A replica that comes up now
 *    makes a new model of that name, with a desk of its own.
 * 3. One task goes from loop to loop. Each lets it pass when no request of its clients refers to the model
 *    (part_use), and frees its counts. What found the model before it left the table has been counted by then, for
 *    a task runs in no other's turn. Its home is last: without requests nothing is at the desk, which is freed.
 * 4. Back at the main thread the card goes, then the model, and its index may be used again: for models that were
 *    left out since the table was full, each loop asks its workers' connections again (workers_retry).
 *
 * Does. Thread: as each line says. */
#ifndef SLUICE_GATEWAY_REMOVAL_H
#define SLUICE_GATEWAY_REMOVAL_H

#include "gateway/part.h"

void removals_start(struct gateway *g); // main thread: looks for idle models once a second
void removals_watch(struct part *p);    // p's loop: looks at its models once a second
void removals_free(
    struct gateway *g); // main thread; the loops have ended, and their homes are freed

#endif
