/* gateway/record.h: a prediction as its origin knows it, into the log. Does. Thread: the loop's. */
#ifndef SLUICE_GATEWAY_RECORD_H
#define SLUICE_GATEWAY_RECORD_H

#include "gateway/origin.h"

// Its model's records are required: there will be room for this one. False: e.
bool record_promise(struct request *r, const struct model *m, struct error *e);
// It is settled, answered or not; what was said of it is in serving.meta.
void record_settled(struct request *r);
// It ends, perhaps without having been settled.
void record_forget(struct request *r);

#endif
