#include "gateway/trial_file.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

// A name is letters, digits, '.', '-' and '_': with what stands behind it it leads nowhere else.
static bool fill_paths(const struct gateway *g, const char *name, char dir[PATH_MAX],
                       char path[PATH_MAX])
{
    int n = snprintf(dir, PATH_MAX, "%s/experiments", g->birth->state_dir);
    return n < PATH_MAX && snprintf(path, PATH_MAX, "%s/%s.json", dir, name) < PATH_MAX - 8;
}

static void set_aside(struct gateway *g, const char *path, const char *why)
{
    char aside[PATH_MAX + 8];
    snprintf(aside, sizeof(aside), "%s.broken", path);
    bool moved = rename(path, aside) == 0;
    GATEWAY_EVENT(g, NULL, LOG_ERROR, "experiment_not_read", LOG_CSTR("file", path),
                  LOG_CSTR("aside", moved ? aside : ""), LOG_CSTR("why", why));
}

static bool find(struct gateway *g, const char *name, struct trial_state *out)
{
    char dir[PATH_MAX], path[PATH_MAX], why[FILE_WHY] = "", wrong[TRIAL_WRONG];
    struct buffer text;
    if (!fill_paths(g, name, dir, path) || (access(path, F_OK) != 0 && errno == ENOENT))
        return false;
    buffer_init(&text);
    bool ok = file_read(path, TRIAL_TEXT, &text, why);
    if (ok && !trial_state_read(out, buffer_view(&text), wrong)) {
        snprintf(why, sizeof(why), "%s", wrong);
        ok = false;
    } else if (ok && strcmp(out->name, name) != 0) {
        snprintf(why, sizeof(why), "name: it is another experiment's");
        ok = false;
    }
    buffer_deinit(&text);
    if (!ok)
        set_aside(g, path, why);
    return ok;
}

bool trial_file_save(struct gateway *g, const struct trial_state *s, char why[TRIAL_CAUSE])
{
    char dir[PATH_MAX], path[PATH_MAX], file[TRIAL_NAME + 8];
    struct buffer text;
    errno = ENAMETOOLONG;
    buffer_init(&text);
    snprintf(file, sizeof(file), "%s.json", s->name);
    bool whole = trial_state_write(&text, s);
    bool kept = whole && fill_paths(g, s->name, dir, path) &&
                (mkdir(g->birth->state_dir, 0700) == 0 || errno == EEXIST) &&
                file_replace(dir, file, buffer_view(&text));
    snprintf(why, TRIAL_CAUSE, "%s", whole ? strerror(errno) : "out of memory");
    buffer_deinit(&text);
    return kept;
}

// Nobody else writes there: it never conflicts.
static void put(struct gateway *g, struct trial_put *p)
{
    char why[TRIAL_CAUSE];
    bool kept = trial_file_save(g, &p->next, why);
    trials_put_end(p, kept ? TRIAL_KEPT : TRIAL_NOT_KEPT, NULL, why);
}

const struct trial_keeper trial_file = {.name = "state_dir", .find = find, .put = put};
