/* gateway/trial_pages.h: live experiments, for operators: how they stand, with the effect of each variant and what may be said
 * of it however often one looks, and what is to become of them. Does. Thread: the main thread's; ctx is the struct gateway.
 *
 * One comes and goes by gateway/creation_pages.h. A change: POST /v1/experiments/NAME/VERB of {"revision": N, "why": TEXT}, with "weights_ppm": {VARIANT: N, ...} for weights,
 * all of them or those that change besides the control, which has the rest; "variant": NAME for promote. revision: the one that
 * the operator has seen; without it whatever is there. It is answered with the experiment as it is then; 409 with it and why,
 * when another revision is there, or what is asked for cannot be. */
#ifndef SLUICE_GATEWAY_TRIAL_PAGES_H
#define SLUICE_GATEWAY_TRIAL_PAGES_H

#include "gateway/trials.h"

#define TRIALS_PATH "/v1/experiments"
#define TRIAL_PATH TRIALS_PATH "/"

void trial_pages_list(struct exchange *ex, void *gateway); // GET
void trial_pages_show(struct exchange *ex, void *gateway); // GET; the name stands behind TRIAL_PATH
void trial_pages_change(struct exchange *ex, void *gateway); // POST; behind it the verb
// How it stands, and the text of one that was created.
void trial_pages_tell(struct exchange *ex, unsigned status, const struct gateway *g,
                      const struct trial_run *run);
// 409: it is not the revision that was expected, with what is there.
void trial_pages_conflict(struct exchange *ex, const struct gateway *g, const struct trial_run *run,
                          uint64_t expected);
// A change has come to its end. run: as it is now; NULL: it has gone with its section.
void trial_pages_answer(const struct trial_put *p, const struct trial_run *run, bool done);

#endif
