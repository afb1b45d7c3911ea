#include "ctl/log_archive.h"

#include "base/date.h"
#include "base/view.h"
#include "ctl/complain.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zstd.h>

#define SUFFIX ".jsonl.zst"
#define DAY 8                  // bytes of "20261126"
#define NAME_FRAME 0x184D2A5Bu // of the skippable ones
#define PATH_BYTES 4096

struct archive {
    const char *directory, *to;
    char day[DAY + 1];
    char path[PATH_BYTES], fresh[PATH_BYTES]; // the day's file, and the one that takes its place
    int fd;                                   // of the latter; -1: none is made
    unsigned taken, removed;
    char why[512];
};

static bool fails(struct archive *a, const char *path)
{
    snprintf(a->why, sizeof(a->why), "%.300s: %s", path, strerror(errno));
    return false;
}

struct mapping {
    const uint8_t *p;
    size_t n;
};

// False: errno. Nothing of a file that is not there.
static bool map(const char *path, struct mapping *m)
{
    struct stat st;
    *m = (struct mapping){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT;
    bool ok = fstat(fd, &st) == 0;
    void *p =
        ok && st.st_size > 0 ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
    close(fd);
    if (!ok || p == MAP_FAILED)
        return false;
    if (p)
        *m = (struct mapping){p, (size_t)st.st_size};
    return true;
}

static void unmap(struct mapping *m)
{
    if (m->p)
        munmap((void *)(uintptr_t)m->p, m->n);
}

static bool write_all(int fd, const void *p, size_t n)
{
    for (const char *at = p; n > 0;) {
        ssize_t k = write(fd, at, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return false;
        at += k;
        n -= (size_t)k;
    }
    return true;
}

// ---- what a day's file has -------------------------------------------------------------------------------

static uint32_t load(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static bool has(const struct mapping *m, const char *name)
{
    for (size_t at = 0; at < m->n;) {
        size_t frame = ZSTD_findFrameCompressedSize(m->p + at, m->n - at);
        if (ZSTD_isError(frame))
            return false;
        if (frame > 8 && load(m->p + at) == NAME_FRAME &&
            view_eq(view_of(m->p + at + 8, frame - 8), view_str(name)))
            return true;
        at += frame;
    }
    return false;
}

static bool put_name(struct archive *a, const char *name)
{
    uint32_t n = (uint32_t)strlen(name), magic = NAME_FRAME;
    uint8_t head[8];
    for (unsigned i = 0; i < 4; i++) {
        head[i] = (uint8_t)(magic >> 8 * i);
        head[4 + i] = (uint8_t)(n >> 8 * i);
    }
    return write_all(a->fd, head, sizeof(head)) && write_all(a->fd, name, n);
}

// ---- a day -----------------------------------------------------------------------------------------------

static bool begin_fresh(struct archive *a, const struct mapping *before)
{
    if (a->fd >= 0)
        return true;
    a->fd = open(a->fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
    return (a->fd >= 0 && write_all(a->fd, before->p, before->n)) || fails(a, a->fresh);
}

static bool add(struct archive *a, const struct mapping *before, const char *name)
{
    char path[PATH_BYTES];
    struct mapping m;
    snprintf(path, sizeof(path), "%s/%s", a->directory, name);
    if (has(before, name))
        return true;
    if (!map(path, &m))
        return fails(a, path);
    bool ok = begin_fresh(a, before) &&
              ((put_name(a, name) && write_all(a->fd, m.p, m.n)) || fails(a, a->fresh));
    unmap(&m);
    a->taken += ok;
    return ok;
}

static bool sync_directory(struct archive *a)
{
    int fd = open(a->to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = (fd >= 0 && fsync(fd) == 0) || fails(a, a->to);
    if (fd >= 0)
        close(fd);
    return ok;
}

static bool put_in_place(struct archive *a)
{
    if (a->fd < 0)
        return true;
    bool ok = (fsync(a->fd) == 0 && rename(a->fresh, a->path) == 0) || fails(a, a->fresh);
    return ok && sync_directory(a);
}

static bool is_of_day(const struct archive *a, const char *name)
{
    size_t n = strlen(name);
    return n > DAY + sizeof(SUFFIX) && name[DAY] == 'T' && strncmp(name, a->day, DAY) == 0 &&
           strcmp(name + n - strlen(SUFFIX), SUFFIX) == 0;
}

static bool remove_taken(struct archive *a, struct dirent **found, int n)
{
    char path[PATH_BYTES];
    for (int i = 0; i < n; i++) {
        if (!is_of_day(a, found[i]->d_name))
            continue;
        snprintf(path, sizeof(path), "%s/%s", a->directory, found[i]->d_name);
        if (unlink(path) != 0)
            return fails(a, path);
        a->removed++;
    }
    return true;
}

// found: sorted.
static bool archive_day(struct archive *a, struct dirent **found, int n)
{
    struct mapping before;
    a->fd = -1;
    snprintf(a->path, sizeof(a->path), "%s/%s" SUFFIX, a->to, a->day);
    snprintf(a->fresh, sizeof(a->fresh), "%s/%s" SUFFIX ".new", a->to, a->day);
    if (!map(a->path, &before))
        return fails(a, a->path);
    bool ok = true;
    for (int i = 0; ok && i < n; i++)
        ok = !is_of_day(a, found[i]->d_name) || add(a, &before, found[i]->d_name);
    ok = ok && put_in_place(a) && remove_taken(a, found, n);
    if (a->fd >= 0)
        close(a->fd);
    unmap(&before);
    return ok;
}

static bool is_over(const char *day)
{
    char date[DATE_TEXT], today[DAY + 1];
    date_print(date, (uint64_t)time(NULL) * 1000000);
    snprintf(today, sizeof(today), "%.4s%.2s%.2s", date, date + 5, date + 8);
    return strspn(day, "0123456789") == DAY && strncmp(day, today, DAY) < 0;
}

static bool archive_days(struct archive *a, struct dirent **found, int n)
{
    for (int i = 0; i < n; i++) {
        if (!is_over(found[i]->d_name) || strncmp(found[i]->d_name, a->day, DAY) == 0)
            continue;
        snprintf(a->day, sizeof(a->day), "%.8s", found[i]->d_name);
        if (!archive_day(a, found, n))
            return false;
    }
    return true;
}

enum ctl_exit log_archive(const char *directory, const char *to)
{
    struct archive a = {.directory = directory, .to = to};
    struct dirent **found;
    if (mkdir(to, 0750) != 0 && errno != EEXIST)
        return complain(CTL_REFUSED, "%s: %s", to, strerror(errno));
    int n = scandir(directory, &found, NULL, alphasort);
    if (n < 0)
        return complain(CTL_REFUSED, "%s: %s", directory, strerror(errno));
    bool ok = archive_days(&a, found, n);
    for (int i = 0; i < n; i++)
        free(found[i]);
    free(found);
    if (!ok)
        return complain(CTL_REFUSED, "%s", a.why);
    printf("%u files taken, %u removed\n", a.taken, a.removed);
    return CTL_DONE;
}
