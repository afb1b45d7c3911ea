#include "keeper/event.h"
#include <poll.h>
#include <unistd.h>

static enum log_level lowest = LOG_INFO; // the process has one thread

static event_listener *listener;
static void *listener_ctx;

void event_listen(event_listener *fn, void *ctx)
{
    listener = fn;
    listener_ctx = ctx;
}

static void tell_listener(enum log_level level, uint64_t wall_us, const char *event,
                          const struct log_field *fields, unsigned n)
{
    struct buffer line;
    buffer_init(&line);
    if (log_format(&line, level, wall_us, event, fields, n)) {
        struct view v = buffer_view(&line);
        v.n--; // its newline
        listener(listener_ctx, event, v);
    }
    buffer_deinit(&line);
}

void event_set_level(enum log_level level)
{
    lowest = level;
}

void event_write(enum log_level level, const char *event, const struct log_field *fields,
                 unsigned n)
{
    uint64_t wall_us = log_wall_us();
    if (listener && level >= LOG_INFO)
        tell_listener(level, wall_us, event, fields, n);
    if (level < lowest)
        return;
    struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT))
        return;
    log_line_fd(STDERR_FILENO, level, wall_us, event, fields, n);
}
