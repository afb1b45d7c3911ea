/* gateway/show.h: /status and /healthz of the admin listener: what every loop, desk, worker and listener
 * is doing, as JSON. From published words, so that it answers even when a loop is stuck; what the loops that
 * work say of what they hold is added (survey.h). Thread: the main thread's. */
#ifndef SLUICE_GATEWAY_SHOW_H
#define SLUICE_GATEWAY_SHOW_H

#include "gateway/process.h"
#include <stdbool.h>

void show_page(struct exchange *ex, void *gateway); // answers a little later
void show_drop(struct gateway *g);                  // the loops have stopped: nobody will say more
const char *show_phase(const struct gateway *g);    // "running", "draining" …
bool show_healthy(
    void *gateway); // every loop has turned within the watchdog's time, and we do not drain

#endif
