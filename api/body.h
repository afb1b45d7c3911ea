/* api/body.h: the bytes of a request as the codecs want them: content coding undone (REST), the one
 * message out of its gRPC frame. Resumable. Thinks.
 *
 * Bound of decompression (row 99 of hostile input): the exchange's max_body, and BODY_RATIO times what
 * came, but BODY_FREE is always allowed (a small body of zeros packs well). */
#ifndef SLUICE_API_BODY_H
#define SLUICE_API_BODY_H

#include "api/api.h"

#define BODY_RATIO 8
#define BODY_FREE ((size_t)1 << 20)

struct unpack;

struct api_body {
    struct exchange *ex;
    bool grpc;
    struct view packed;  // what is being decompressed
    struct buffer plain; // so far
    size_t max;
    struct unpack *inflater; // NULL: nothing is packed
    struct view out;
};

// False: e (unknown coding, broken frame).
bool body_begin(struct api_body *b, struct exchange *ex, const struct api_call *call,
                struct error *e);
// OIP_DONE: b->out is the body, or the message: a view into ex->body, which is the decompressed one by then.
enum oip_step body_step(struct api_body *b, size_t max_bytes, struct error *e);
void body_drop(struct api_body *b); // any time, also after the end

#endif
