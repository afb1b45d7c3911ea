#include "ctl/log_source.h"

#include "base/mem.h"
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <string.h>

bool log_source_open(struct log_source *s, const char *place, const char *deployment,
                     const char *password)
{
    bool redis = strncmp(place, "redis://", 8) == 0 || strncmp(place, "unix:", 5) == 0;
    snprintf(s->prefix, sizeof(s->prefix), "sluice:%.64s:predictions:", deployment);
    if (redis)
        return log_streams_open(s, place, password);
    s->directory = place;
    return true;
}

void log_source_close(struct log_source *s)
{
    if (s->redis)
        redisFree(s->redis);
    mem_free(s->places);
    s->redis = NULL;
    s->places = NULL;
}

bool log_source_pass(struct log_source *s)
{
    s->why[0] = '\0';
    return s->redis ? log_streams_pass(s) : log_files_pass(s);
}

struct log_place *log_source_place(struct log_source *s, const char *name)
{
    for (unsigned i = s->n; i-- > 0;)
        if (strcmp(s->places[i].name, name) == 0)
            return &s->places[i];
    struct log_place *more = mem_realloc(s->places, (s->n + 1) * sizeof(*more));
    if (!more) {
        snprintf(s->why, sizeof(s->why), "out of memory");
        return NULL;
    }
    s->places = more;
    more[s->n] = (struct log_place){0};
    snprintf(more[s->n].name, sizeof(more[s->n].name), "%s", name);
    return &more[s->n++];
}
