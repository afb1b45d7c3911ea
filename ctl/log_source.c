#include "ctl/log_source.h"

#include "base/mem.h"
#include "ctl/clock.h"
#include <stdio.h>
#include <string.h>

bool log_source_open(struct log_source *s, const struct log_where *w, long timeout_ms)
{
    s->directory = w->directory;
    return w->directory || log_streams_open(s, w, timeout_ms);
}

void log_source_close(struct log_source *s)
{
    log_streams_close(s);
    mem_free(s->positions);
    s->positions = NULL;
}

bool log_source_pass(struct log_source *s)
{
    s->why[0] = '\0';
    s->lost = false;
    return s->streams ? log_streams_pass(s) : log_files_pass(s);
}

void log_source_pause(struct log_source *s, long ms)
{
    if (s->streams)
        log_streams_pause(s, ms);
    else
        clock_pause(ms);
}

struct log_position *log_source_position(struct log_source *s, const char *name)
{
    for (unsigned i = s->n; i-- > 0;)
        if (strcmp(s->positions[i].name, name) == 0)
            return &s->positions[i];
    struct log_position *more = mem_realloc(s->positions, (s->n + 1) * sizeof(*more));
    if (!more) {
        snprintf(s->why, sizeof(s->why), "out of memory");
        return NULL;
    }
    s->positions = more;
    more[s->n] = (struct log_position){0};
    snprintf(more[s->n].name, sizeof(more[s->n].name), "%s", name);
    return &more[s->n++];
}
