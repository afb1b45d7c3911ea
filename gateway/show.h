/* gateway/show.h: /status and /healthz of the admin listener: what every loop, desk, worker and listener
 * is doing, as JSON, from published words only. Thread: the main thread's. */
#ifndef SLUICE_GATEWAY_SHOW_H
#define SLUICE_GATEWAY_SHOW_H

#include "base/buffer.h"
#include <stdbool.h>

void show_page(struct buffer *out, void *gateway);
bool show_healthy(
    void *gateway); // every loop has turned within the watchdog's time, and we do not drain

#endif
