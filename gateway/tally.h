/* gateway/tally.h: what has been counted, what stands, and what of it has changed since somebody looked: the same words that
 * /metrics and /status read (a shard a loop, published words), as JSON, for gateway/live. No loop is asked, so that it answers
 * when one is stuck. 12 KiB a model while it is kept. Does. Thread: the main thread. */
#ifndef SLUICE_GATEWAY_TALLY_H
#define SLUICE_GATEWAY_TALLY_H

#include "base/json.h"

struct gateway;
struct tally;

struct tally *tally_new(struct gateway *g); // NULL: out of memory. Has looked once
void tally_free(struct tally *t);           // NULL is fine
// Looks again: one object, of counts what came since the last look, of what stands all that has changed. ms: how long ago
// that was. Out of memory (w->failed): what came is lost to whoever reads this, and is in the whole.
void tally_step(struct tally *t, uint64_t ms, struct json_writer *w);
// The same of all since the process began, as of the last look.
void tally_whole(struct tally *t, struct json_writer *w);

#endif
