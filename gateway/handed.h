/* gateway/handed.h: the listeners of an offer, as the keeper hands them over, one section after the other, before the
 * offer itself: which sockets each section has, and their descriptors where this process does not have them yet. What
 * is not taken is closed. Thread: the main thread's. */
#ifndef SLUICE_GATEWAY_HANDED_H
#define SLUICE_GATEWAY_HANDED_H

#include "gateway/boot.h"

struct handed_listener {
    uint32_t id;
    char address[ADDR_TEXT];
    unsigned n_fds;
    int fds[BOOT_MAX_LOOPS]; // ours
};

struct handed {
    struct handed_listener **listeners; // [n], by the number of the section
    unsigned n, room;
    bool broken; // not in order, or no memory: the offer cannot be taken
};

// The descriptors are taken over.
void handed_add(struct handed *h, const struct boot_listen *said, const int *fds, unsigned n_fds);
void handed_drop(struct handed *h); // none is there any more

#endif
