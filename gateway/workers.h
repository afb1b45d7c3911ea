/* gateway/workers.h: a loop's connections to the workers, and what a desk wants sent over them.
 * Thread: the part's loop; workers_state: any (atomic). */
#ifndef SLUICE_GATEWAY_WORKERS_H
#define SLUICE_GATEWAY_WORKERS_H

#include "gateway/part.h"

bool workers_build(struct part *p); // before the loop runs
void workers_start(struct part *p); // on the loop
void workers_free(struct part *p);
void workers_kick(struct part *p, unsigned id);
// What the workers have is in the table: each has been ready once, but for those that cannot be reached
// since WORKERS_UNREACHED_US; false while none has been.
#define WORKERS_UNREACHED_US 10000000
bool workers_told(const struct part *p, uint64_t now_us);
void workers_show(const struct part *p, struct json_writer *w); // an array: each one's worker_show
unsigned workers_state(const struct part *p, unsigned id);      // enum worker_state

void workers_dispatch(struct part *p, struct batch *b); // FX_DISPATCH
void workers_cancel(struct part *p, struct batch *b);   // FX_CANCEL
void workers_suspect(struct part *p, unsigned id);      // FX_SUSPECT

#endif
