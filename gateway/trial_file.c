#include "gateway/trial_file.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define RECORD ".json"
#define CREATION ".conf"

// A name is letters, digits, '.', '-' and '_': with what stands behind it it leads nowhere else.
static bool fill_paths(const struct gateway *g, const char *name, const char *suffix,
                       char dir[PATH_MAX], char path[PATH_MAX])
{
    int n = snprintf(dir, PATH_MAX, "%s/experiments", g->birth->state_dir);
    return n < PATH_MAX && snprintf(path, PATH_MAX, "%s/%s%s", dir, name, suffix) < PATH_MAX - 8;
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
    if (!fill_paths(g, name, RECORD, dir, path) || (access(path, F_OK) != 0 && errno == ENOENT))
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

static bool save(const struct gateway *g, const char *name, const char *suffix, bool whole,
                 const struct buffer *text, char why[TRIAL_CAUSE])
{
    char dir[PATH_MAX], path[PATH_MAX], file[TRIAL_NAME + 8];
    errno = ENAMETOOLONG;
    snprintf(file, sizeof(file), "%s%s", name, suffix);
    bool kept = whole && fill_paths(g, name, suffix, dir, path) &&
                (mkdir(g->birth->state_dir, 0700) == 0 || errno == EEXIST) &&
                file_replace(dir, file, buffer_view(text));
    snprintf(why, TRIAL_CAUSE, "%s", whole ? strerror(errno) : "out of memory");
    return kept;
}

bool trial_file_save(struct gateway *g, const struct trial_state *s, char why[TRIAL_CAUSE])
{
    struct buffer text;
    buffer_init(&text);
    bool kept = save(g, s->name, RECORD, trial_state_write(&text, s), &text, why);
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

// ---- created ones ------------------------------------------------------------------------------------

bool trial_file_save_creation(struct gateway *g, const struct creation *c, char why[TRIAL_CAUSE])
{
    struct buffer text;
    buffer_init(&text);
    bool kept = save(g, c->name, CREATION, creation_write(&text, c), &text, why);
    buffer_deinit(&text);
    return kept;
}

static bool drop(const char *path)
{
    return unlink(path) == 0 || errno == ENOENT;
}

// The text first: a record without one is nobody's.
bool trial_file_drop_creation(struct gateway *g, const char *name, bool record,
                              char why[TRIAL_CAUSE])
{
    char dir[PATH_MAX], text[PATH_MAX], state[PATH_MAX];
    errno = ENAMETOOLONG;
    bool gone = fill_paths(g, name, CREATION, dir, text) &&
                fill_paths(g, name, RECORD, dir, state) && drop(text) && (!record || drop(state)) &&
                file_sync_directory(dir);
    snprintf(why, TRIAL_CAUSE, "%s", strerror(errno));
    return gone;
}

// The name that a file of a creation has; false: it is none.
static bool name_of(const char *file, char name[TRIAL_NAME + 1])
{
    size_t n = strlen(file), end = sizeof(CREATION) - 1;
    if (n <= end || n - end > TRIAL_NAME || strcmp(file + n - end, CREATION) != 0)
        return false;
    memcpy(name, file, n - end);
    name[n - end] = '\0';
    return config_name_ok(view_str(name));
}

static void read_creation(struct gateway *g, const char *name,
                          void (*take)(struct gateway *g, struct creation *it))
{
    char dir[PATH_MAX], path[PATH_MAX], why[FILE_WHY] = "", wrong[TRIAL_WRONG];
    struct creation it;
    struct buffer bytes;
    if (!fill_paths(g, name, CREATION, dir, path))
        return;
    creation_init(&it);
    buffer_init(&bytes);
    bool ok = file_read(path, CREATION_BYTES, &bytes, why);
    if (ok && !creation_read(&it, buffer_view(&bytes), wrong)) {
        snprintf(why, sizeof(why), "%s", wrong);
        ok = false;
    } else if (ok && strcmp(it.name, name) != 0) {
        snprintf(why, sizeof(why), "line 1: it is another experiment's");
        ok = false;
    }
    if (ok)
        take(g, &it);
    else
        set_aside(g, path, why);
    buffer_deinit(&bytes);
    creation_deinit(&it);
}

void trial_file_creations(struct gateway *g, void (*take)(struct gateway *g, struct creation *it))
{
    char path[PATH_MAX], name[TRIAL_NAME + 1];
    if (!g->birth->state_dir ||
        snprintf(path, PATH_MAX, "%s/experiments", g->birth->state_dir) >= PATH_MAX)
        return;
    DIR *dir = opendir(path);
    for (const struct dirent *e; dir && (e = readdir(dir));)
        if (name_of(e->d_name, name))
            read_creation(g, name, take);
    if (dir)
        closedir(dir);
}
