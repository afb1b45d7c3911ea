/* gateway/signals.h: demand and starts as whoever scales wants them: one page of counters that only grow, of one life
 * of this process (boot_id), so that a reader can tell missing from zero. Main thread. */
#ifndef SLUICE_GATEWAY_SIGNALS_H
#define SLUICE_GATEWAY_SIGNALS_H

#include "gateway/admin.h"

#define SIGNALS_PATH "/signals"

void signals_page(struct exchange *ex, void *ctx); // ctx: the struct gateway

#endif
