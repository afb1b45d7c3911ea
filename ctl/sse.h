/* ctl/sse.h: a stream of server-sent events (WHATWG HTML 9.2, as far as an admin listener writes it), byte by byte or in
 * pieces of any size. Thinks. One thread.
 *
 *   sse_init -> sse_take, which calls back for each event that is whole and each comment -> sse_deinit
 *
 * One that the stream ends in the middle of is none. Lines end with LF or CR LF. */
#ifndef SLUICE_CTL_SSE_H
#define SLUICE_CTL_SSE_H

#include "base/buffer.h"
#include "base/view.h"
#include <stdbool.h>

#define SSE_EVENT_BYTES (1u << 20) // of a line, and of the data of an event
#define SSE_ID_BYTES 160

struct sse {
    struct buffer line; // so far
    struct buffer data; // of the event so far
    char id[SSE_ID_BYTES];
    // False: enough.
    bool (*on_event)(void *ctx, struct view data, const char *id); // id: "" when it has none
    bool (*on_comment)(void *ctx, struct view text);               // behind ": "
    void *ctx;
};

void sse_init(struct sse *s);
void sse_deinit(struct sse *s);
void sse_reset(struct sse *s); // another stream begins
// False: a callback wants no more, something is longer than is taken, or no memory.
bool sse_take(struct sse *s, struct view bytes);

#endif
