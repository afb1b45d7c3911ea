/* api/unpack.h: decompression with a bound, in steps. Thinks. */
#ifndef SLUICE_API_UNPACK_H
#define SLUICE_API_UNPACK_H

#include "base/buffer.h"
#include "infer/oip.h"

struct unpack;

// "gzip", "x-gzip", "deflate" (zlib's form), "zstd"?
bool unpack_knows(struct view coding);
struct unpack *unpack_new(struct view coding, struct view packed); // NULL: out of memory
// Appends to out at most about max_bytes a call, and never more than max in all (then: 413).
enum oip_step unpack_step(struct unpack *u, struct buffer *out, size_t max, size_t max_bytes,
                          struct error *e);
void unpack_free(struct unpack *u); // NULL is fine

#endif
