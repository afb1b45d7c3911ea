/* ctl/frame.h: what `sluicectl top` shows: events of /live in, lines of text out. Thinks. One thread.
 *
 *   frame_init -> frame_take, event by event -> frame_text -> frame_deinit
 *
 * The first event has all, and no rates: they come with the second one. A member that is missing, as an older or newer gateway may
 * have it, is "-". */
#ifndef SLUICE_CTL_FRAME_H
#define SLUICE_CTL_FRAME_H

#include "base/buffer.h"
#include <jansson.h>
#include <stdint.h>

enum frame_sort { FRAME_BY_RATE, FRAME_BY_P99, FRAME_BY_WAITING, FRAME_BY_LEVEL, FRAME_BY_NAME };

struct top_frame {
    json_t *
        models; // by name: the last state that each event gave; counts only where the last event had some
    json_t *last; // that event, but for its models; NULL: none came
    uint64_t ms;  // that its counts are of; 0: nothing can be said of rates
    size_t n;     // models
    bool failed;  // out of memory
};

void frame_init(struct top_frame *f);
void frame_deinit(struct top_frame *f);
// False: it is no event of /live, or memory is out.
bool frame_take(struct top_frame *f, const json_t *event);
// A line about the gateway, the heads, a line for each model from the first-th on, at most `most`. False: out of memory, or no event.
bool frame_text(const struct top_frame *f, enum frame_sort by, size_t first, size_t most,
                struct buffer *out);

#endif
