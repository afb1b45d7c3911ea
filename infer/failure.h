/* infer/failure.h: how a request failed, as a home loop tells it to an origin: a status and a text that all of
 * a batch's tickets share. Light, since every ticket and infer has one and few ever need it. Thinks.
 * Life of the text: made on one loop (failure_format, failure_quote: one reference) -> each ticket that is
 * given back with it holds a reference -> the origin gives that back when it has answered (FX_UNREF).
 * Its block is charged where all blocks are (base/block.h). */
#ifndef SLUICE_INFER_FAILURE_H
#define SLUICE_INFER_FAILURE_H

#include "base/block.h"
#include "infer/status.h"

#define FAILURE_WORDS 2048 // bytes of a worker's own words; the rest is cut, between two characters

struct failure {
    enum status status;  // STATUS_OK: there is none, and the rest says nothing
    const char *text;    // as struct error's, NUL-terminated; static, or within block
    struct block *block; // holds one reference; NULL: none is needed
};

// One whose text is a literal.
#define FAILED(as, words) (&(const struct failure){.status = (as), .text = (words)})

// Says what e says, for as long as e is there.
static inline struct failure failure_of(const struct error *e)
{
    return (struct failure){.status = e->status, .text = e->text};
}

// The text in a block of o, which is the calling thread's. Where there is no memory for it: the status, and a
// static text that says so.
__attribute__((format(printf, 3, 4))) struct failure
failure_format(struct block_owner *o, enum status status, const char *format, ...);
// ours, a few words, followed by FAILURE_WORDS of words, which come from outside: any bytes.
struct failure failure_quote(struct block_owner *o, enum status status, const char *ours,
                             struct view words);

#endif
