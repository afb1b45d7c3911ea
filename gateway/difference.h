/* gateway/difference.h: in what two replicas of a model differ, for people. Thread: any. */
#ifndef SLUICE_GATEWAY_DIFFERENCE_H
#define SLUICE_GATEWAY_DIFFERENCE_H

#include "infer/request.h"

#define DIFFERENCE_TEXT 400

// The first difference that would keep `it` from serving beside `others`; "" when there is none.
void metadata_difference(char out[DIFFERENCE_TEXT], const struct model_metadata *it,
                         const struct model_metadata *others);

#endif
