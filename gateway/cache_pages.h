/* gateway/cache_pages.h: the answers that are kept, for operators: how many, and how often they were good for anything; and
 * that they are not given any more. What the homes count are words that all may read, and a flush is one that they read:
 * no loop is asked. Does. Thread: the main thread's; ctx is the struct gateway. */
#ifndef SLUICE_GATEWAY_CACHE_PAGES_H
#define SLUICE_GATEWAY_CACHE_PAGES_H

#include "gateway/admin.h"

#define CACHE_PATH "/v1/cache"
#define CACHE_FLUSH_PATH "/v1/cache/flush"

void cache_stats_page(struct exchange *ex, void *ctx); // GET
void cache_flush_page(struct exchange *ex,
                      void *ctx); // POST: {"model": NAME}, or nothing: all of them

#endif
