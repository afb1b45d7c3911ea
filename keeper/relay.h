/* keeper/relay.h: our events are the gateway's to tell, too: /events of its admin listener has them. While there is no
 * gateway that is ready, or none that reads, the last RELAY_KEPT wait; what had to give way is counted. Does. */
#ifndef SLUICE_KEEPER_RELAY_H
#define SLUICE_KEEPER_RELAY_H

#include "base/view.h"
#include "gateway/boot.h"

#define RELAY_KEPT 32

struct relay {
    struct boot_said kept[RELAY_KEPT]; // [number % RELAY_KEPT]
    size_t bytes[RELAY_KEPT];
    uint64_t first, next; // numbers of the oldest that waits, and of the one to come
    uint32_t lost;        // before the one to come
};

void relay_add(struct relay *r, const char *event, struct view line);
// Sends what waits, as far as it can be without waiting. fd -1: nothing.
void relay_flush(struct relay *r, int fd);

#endif
