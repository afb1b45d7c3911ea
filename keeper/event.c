#include "keeper/event.h"
#include <poll.h>
#include <unistd.h>

void event_write(enum log_level level, const char *event, const struct log_field *fields,
                 unsigned n)
{
    struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT))
        return;
    log_line_fd(STDERR_FILENO, level, log_wall_us(), event, fields, n);
}
