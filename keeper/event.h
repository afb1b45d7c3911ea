/* keeper/event.h: what the keeper tells about itself: one JSON line an event on standard error, in the form
 * of net/log.h, so that keeper, gateway and worker read as one log. A reader that does not read costs
 * lines, never time: a line is dropped when standard error would block. */
#ifndef SLUICE_KEEPER_EVENT_H
#define SLUICE_KEEPER_EVENT_H

#include "net/log.h"

// Events below `lowest` are not told from now on. LOG_INFO at first.
void event_set_level(enum log_level lowest);
void event_write(enum log_level level, const char *event, const struct log_field *fields,
                 unsigned n);
// Who is told each event of LOG_INFO and above, whatever level is written; NULL: nobody, as at first. line: without its
// newline, until it returns. It must not make an event itself.
typedef void event_listener(void *ctx, const char *event, struct view line);
void event_listen(event_listener *fn, void *ctx);
#define EVENT(level, event, ...)                                                                   \
    event_write(level, event, (const struct log_field[]){__VA_ARGS__},                             \
                sizeof((const struct log_field[]){__VA_ARGS__}) / sizeof(struct log_field))

#endif
