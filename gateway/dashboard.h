/* gateway/dashboard.h: `/` of the admin listener: the page for people. It is one document that names no other: the files of
 * gateway/dashboard/, put together by tools/page when the program is built. It holds nothing of the gateway; what it shows it asks of
 * /live, /events and /status with the token that somebody types into it, so that itself it is open. Its policy (CSP) lets no
 * script and no style run but these, by their hashes. Does. Thread: the main thread. */
#ifndef SLUICE_GATEWAY_DASHBOARD_H
#define SLUICE_GATEWAY_DASHBOARD_H

struct exchange;

void dashboard_page(struct exchange *ex, void *gateway); // GET

#endif
