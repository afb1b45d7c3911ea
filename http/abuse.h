/* http/abuse.h: what a connection may do that costs us and brings it nothing: one purse for all of it. Each
 * row is named after the attack it answers. Thinks. */
#ifndef SLUICE_HTTP_ABUSE_H
#define SLUICE_HTTP_ABUSE_H

#include <stdbool.h>
#include <stdint.h>

enum abuse_kind {
    ABUSE_RESET,         // RST_STREAM from the peer: rapid reset, CVE-2023-44487
    ABUSE_RESET_BY_US,   // made to reset by malformed frames: MadeYouReset, CVE-2025-8671
    ABUSE_EMPTY_DATA,    // empty DATA without END_STREAM: CVE-2019-9518
    ABUSE_PRIORITY,      // CVE-2019-9513
    ABUSE_PING,          // CVE-2019-9512
    ABUSE_SETTINGS,      // CVE-2019-9515
    ABUSE_WINDOW_UPDATE, // in floods; they are part of normal life, so they cost little
    ABUSE_KINDS
};

#define ABUSE_REFILL_US 100000 // a point comes back so often: ten a second

struct abuse { // in sixteenths of a point
    uint32_t left, full;
    uint64_t refilled_us;
};

void abuse_init(struct abuse *a, uint32_t budget, uint64_t now_us);
// False: spent; the connection is to be cut.
bool abuse_pay(struct abuse *a, enum abuse_kind kind, uint64_t now_us);
void abuse_answered(struct abuse *a); // an exchange came to its end: honest work earns a point

#endif
