/* gateway/pages.h: what the admin listener has: a row a method and path (gateway/admin.h). Reading is GET; what
 * changes something is POST, runs on the main thread and goes on to the loops as tasks, or to all of them by a
 * word that they read. Thread: the main thread's; ctx is the struct gateway. */
#ifndef SLUICE_GATEWAY_PAGES_H
#define SLUICE_GATEWAY_PAGES_H

#include "gateway/admin.h"

enum { PAGES = 20 };
extern const struct admin_page pages[PAGES];

#endif
