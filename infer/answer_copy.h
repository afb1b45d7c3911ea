/* infer/answer_copy.h: a request's own rows out of a batch's answer, in memory of their own: what is to be kept for long
 * must not hold the batch's block. Thinks. Thread: the block's owner. */
#ifndef SLUICE_INFER_ANSWER_COPY_H
#define SLUICE_INFER_ANSWER_COPY_H

#include "infer/request.h"

// Bytes that the copy of a slice (of one answer) takes.
size_t answer_copy_bytes(const struct slice *s);
// block has so many bytes, and nothing in it. The answer lies in it and holds the caller's reference: rows 0, for it is
// given as a whole.
struct answer *answer_copy(struct block *block, const struct slice *s);

#endif
