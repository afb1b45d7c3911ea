/* gateway/difference.h: in what two replicas of a model differ, or two models of a chain, or a request and its model, for
 * people. Thread: any. */
#ifndef SLUICE_GATEWAY_DIFFERENCE_H
#define SLUICE_GATEWAY_DIFFERENCE_H

#include "infer/request.h"

#define DIFFERENCE_TEXT 400

// The first difference of inputs or outputs that would keep `it` from serving beside `others`; "" when there is none.
void metadata_difference(char out[DIFFERENCE_TEXT], const struct model_metadata *it,
                         const struct model_metadata *others);

// Has the request the ranks and dimensions that the model's metadata give? Free dimensions fit any; inputs that these do
// not name are not looked at. False: why, of the first that has not.
bool request_fits(char why[DIFFERENCE_TEXT], const struct infer_request *r,
                  const struct model_metadata *m);
// Can a step of a chain answer for the model that was asked? It takes what that takes, and has all that it gives; free
// dimensions fit any. False: why.
bool metadata_fits(char why[DIFFERENCE_TEXT], const struct model_metadata *step,
                   const struct model_metadata *asked);
// The same of outputs that are written down: each is one of the model's.
bool outputs_fit(char why[DIFFERENCE_TEXT], const struct tensor *outputs, unsigned n,
                 const struct model_metadata *asked);

#endif
