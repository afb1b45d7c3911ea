/* gateway/workers.h: a loop's connections to the workers, and what a desk wants sent over them.
 * Thread: the part's loop. */
#ifndef SLUICE_GATEWAY_WORKERS_H
#define SLUICE_GATEWAY_WORKERS_H

#include "gateway/difference.h"
#include "gateway/part.h"

void workers_link(struct link *l, struct endpoint *e,
                  unsigned loop);   // main: a new one, of that loop
bool workers_build(struct part *p); // before the loop runs
void workers_start(struct part *p); // on the loop
void workers_free(struct part *p);  // on the loop: it has ended
void workers_kick(struct part *p, unsigned id);
// The keeper says that process pid of it has ended: in order (or because it was asked to), or by a crash.
void workers_gone(struct part *p, unsigned id, uint32_t pid, bool crashed);
// What the workers have is in the table: each has been ready once, but for those that are not waited for any more
// (await_untold); false while none has been.
bool workers_told(const struct part *p, uint64_t now_us);
// One that may serve the model has not said yet what it has, and is waited for (await_expects). model: empty: one of those that were
// there when the loop began: what is said of all models is not whole.
bool workers_awaited(const struct part *p, struct view model, uint64_t now_us);
void workers_show(const struct part *p, struct json_writer *w); // an array: each one's worker_show
// It is there, and what it has is known.
bool workers_asked(const struct part *p, unsigned id);
// Those of its workers that had the model have been asked, and have it no more. (Without a desk it could have been any.)
bool workers_deny(const struct part *p, const struct model *m);

// In what replica id of the model differs from one that is up; false: that is not known.
bool workers_differ(const struct part *p, const struct model *m, unsigned id,
                    char out[DIFFERENCE_TEXT]);

// Its snapshot is another one: first what it says of the workers themselves, which the rules of models come from; then
// what they may serve.
void workers_adopt_sections(struct part *p);
void workers_adopt(struct part *p);
void workers_retry(struct part *p); // takes in models that were left out, if there is room by now

void workers_probe(struct part *p, unsigned id); // FX_PROBE
void workers_hangs(struct part *p, unsigned id); // FX_HANGS

// calls.c
void workers_dispatch(struct part *p, struct batch *b); // FX_DISPATCH
void workers_cancel(struct part *p, struct batch *b);   // FX_CANCEL

#ifdef SLUICE_DOORS
void workers_skew(struct part *p, unsigned id, uint64_t us); // worker_skew
#endif

#endif
