/* gateway/card.h: what a model is (its metadata), kept where every loop and the main thread can read it:
 * written by its home when a replica comes up, copied by whoever answers a metadata request. A rare way,
 * so a plain lock will do. Made once a model, lives as long as the table. Thread: any. */
#ifndef SLUICE_GATEWAY_CARD_H
#define SLUICE_GATEWAY_CARD_H

#include "infer/request.h"
#include "router/table.h"

void card_set(struct model *m, const struct model_metadata *meta); // the model's home loop
// It is known, and of its versions that is none.
bool card_lacks(struct model *m, struct view version);
// Its versions, copied into the arena; how many. 0: none are known, or out of memory.
unsigned card_versions(struct model *m, struct arena *a, struct view **out);
// A deep copy into the arena, but for its config; false: nothing is known of the model yet, or out of memory.
bool card_copy(struct model *m, struct arena *a, struct model_metadata *out);
// Its config, into the arena; empty: none is known.
struct view card_config(struct model *m, struct arena *a);
void card_free(struct model *m);

#endif
