/* gateway/survey.h: asks every loop something, and answers when all have told, or when a loop has taken too long:
 * then its place says so. Desks, connections and what is remembered are their loops' own, so that each is read where
 * it lives. Does. Thread: main, but for the asking. */
#ifndef SLUICE_GATEWAY_SURVEY_H
#define SLUICE_GATEWAY_SURVEY_H

#include "base/buffer.h"
#include "gateway/process.h"

#define SURVEY_ABOUT 128 // bytes

// On p's loop: appends what it has to say of `about`, at least a byte.
typedef void survey_ask_fn(struct part *p, struct view about, struct buffer *said);

// `ask` is called on every loop, about (copied, SURVEY_ABOUT at most) in hand. `done` is called once on the main
// thread, later, with what each said ([loops.n]; empty: that loop did not answer in time, or had no memory), unless
// the process ends first. NULL: out of memory, and no call.
struct survey *survey_start(struct gateway *g, survey_ask_fn *ask, struct view about,
                            void (*done)(struct gateway *g, const struct buffer *said, void *ctx),
                            void *ctx);
// The loops have stopped: what still waits is given up. dropped is told each ctx.
void surveys_free(struct gateway *g, void (*dropped)(void *ctx));

#endif
