/* infer/copy.h: what is to be kept for longer than the memory that it came in: a request's own rows out of a batch's answer, which must
 * not hold the batch's block; a request. Each copy is one run of memory. Thinks. Thread: the memory's owner. */
#ifndef SLUICE_INFER_COPY_H
#define SLUICE_INFER_COPY_H

#include "infer/request.h"

// Bytes that the copy of a slice (of one answer) takes.
size_t answer_copy_bytes(const struct slice *s);
// block has so many bytes, and nothing in it. The answer lies in it and holds the caller's reference: rows 0, for it is
// given as a whole.
struct answer *answer_copy(struct block *block, const struct slice *s);

// Bytes that the copy of a request takes beside the struct.
size_t request_copy_bytes(const struct infer_request *r);
// memory has so many bytes, aligned as malloc does it: all that out refers to lies in it. Model, version and trace are the caller's to set: empty.
void request_copy(struct infer_request *out, void *memory, const struct infer_request *from);

#endif
