/* gateway/creation_pages.h: operators create an experiment, and delete one that was created. Does. Thread: the main thread's;
 * ctx is the struct gateway.
 *
 * POST /v1/experiments of {"definition": TEXT, "start": BOOL, "why": TEXT}: TEXT of one section, as it would stand in gateway.conf.
 * 201 with the experiment; 400: what is wrong with the text, by line and column; 409: there is one of that name, or nowhere to
 * keep it; 503: not now, or the store does not answer.
 * POST /v1/experiments/NAME/delete of {"revision": N, "why": TEXT, "running": BOOL}: one that runs only if `running`. */
#ifndef SLUICE_GATEWAY_CREATION_PAGES_H
#define SLUICE_GATEWAY_CREATION_PAGES_H

#include "gateway/creations.h"

void creation_pages_create(struct exchange *ex, void *gateway);
void creation_pages_delete(struct exchange *ex, struct gateway *g, struct view name);
// How it has ended that one came, or went.
void creation_pages_end(struct exchange *ex, struct gateway *g, enum creation_end end,
                        const char *name, bool gone, const char *why);
// And every loop has it.
void creation_pages_taken(struct exchange *ex, struct gateway *g, const char *name, bool gone);

#endif
