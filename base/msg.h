/* base/msg.h: what travels between loops. A message is embedded in the object that travels (a ticket, a
 * cancel, a fresh connection); the sender gives it away until it comes back. The kind says whose it is. */
#ifndef SLUICE_BASE_MSG_H
#define SLUICE_BASE_MSG_H

#include "base/mpsc.h"
#include <stdint.h>

enum {
    MSG_ROUTER = 0,    // 0..63: router/, handled by flow and desk
    MSG_GATEWAY = 64,  // 64..127: gateway/ or worker/
    MSG_NET = 128,     // 128..191: net/ itself
    MSG_BACKENDS = 192 // 192..255: backends/
};

struct msg {
    struct mpsc_node node; // first member: a node is its message
    uint16_t kind;
    uint16_t from, to; // loop indices
};

#endif
