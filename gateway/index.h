/* gateway/index.h: what clients are told of all models: those that are served, and those that a worker has and that
 * nobody can serve, with the reason. Views are of the table and of what this loop's connections believe: valid within the
 * turn. Does. Thread: the part's loop. */
#ifndef SLUICE_GATEWAY_INDEX_H
#define SLUICE_GATEWAY_INDEX_H

#include "gateway/part.h"
#include "infer/oip.h"

#define INDEX_REFUSED 4096 // lines of models that cannot be served: what is beyond is left out

// Why no worker that may serve it can; .p NULL: nothing is known of that.
struct view index_why(const struct part *p, struct view name);
// A worker has a model that should be served and cannot be, nor by another.
bool index_lacks(const struct part *p);
// One line a version.
void index_tell(const struct part *p, bool ready_only, struct arena *a, struct oip_index *out);

#endif
