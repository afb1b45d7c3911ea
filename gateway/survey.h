/* gateway/survey.h: asks every loop to show what it holds (desks, flow, connections to workers, blocks) and
 * answers when all have, or when a loop has taken too long: then its place says so. Desks and connections
 * are their loops' own, so that each is printed where it lives. Does. Thread: main, but for the printing. */
#ifndef SLUICE_GATEWAY_SURVEY_H
#define SLUICE_GATEWAY_SURVEY_H

#include "gateway/process.h"

// `done` is called once on the main thread, later, with one JSON text a loop ([loops.n]; empty: that loop
// did not answer in time), unless the process ends first. NULL: out of memory, and no call.
struct survey *survey_start(struct gateway *g,
                            void (*done)(struct gateway *g, const struct buffer *said, void *ctx),
                            void *ctx);
// The loops have stopped: what still waits is given up. dropped is told each ctx.
void surveys_free(struct gateway *g, void (*dropped)(void *ctx));

#endif
