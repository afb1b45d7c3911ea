/* net/budget.h: private to net/: how many connections the process holds, and how many one client
 * address does. Thread: any (relaxed atomics: counts, nothing is published through them). */
#ifndef SLUICE_NET_BUDGET_H
#define SLUICE_NET_BUDGET_H

#include "net/addr.h"
#include "net/server.h"

// Room for one more connection, taken before accept; false: full. Given back with budget_release.
bool budget_reserve(struct server_budget *b);
void budget_release(struct server_budget *b);
// The address' own count; false: it has its share (nothing was counted). Unix sockets have no address.
bool budget_reserve_addr(struct server_budget *b, const struct sockaddr *sa);
void budget_release_addr(struct server_budget *b, const struct sockaddr *sa);

#endif
