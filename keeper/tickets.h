/* keeper/tickets.h: the keys that seal TLS session tickets. They live in the keeper, so that sessions resume
 * over restarts of the gateway, and not for longer than they must: who learns a key can read the TLS 1.2
 * sessions whose tickets it sealed. A new one seals from each TICKETS_LIFE_US on; the ones before still open
 * what they have sealed, until TLS_TICKET_KEYS newer ones are there. Thinks; `now` is an argument. */
#ifndef SLUICE_KEEPER_TICKETS_H
#define SLUICE_KEEPER_TICKETS_H

#include "config/config.h"
#include "net/tls.h"

#define TICKETS_LIFE_US (24ull * 3600 * 1000000)

struct tickets {
    bool used;          // a listener has a certificate
    uint64_t rotate_us; // when the next key is due; 0: no clock was seen yet
    bool untold;        // the gateway could not be told of the last one
};

// Draws the first key.
void tickets_start(struct tickets *t, struct tls_ticket_keys *keys, const struct config *c);
// Another configuration is in force.
void tickets_adopt(struct tickets *t, const struct config *c);
// Rotates what is due. True: the gateway is to be told of the keys.
bool tickets_due(struct tickets *t, struct tls_ticket_keys *keys, uint64_t now_us);

#endif
