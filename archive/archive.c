#include "archive/archive.h"

#include "base/buffer.h"
#include "base/date.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>
#include <zstd_errors.h>

#define SUFFIX ".jsonl.zst"
#define LOCK ".archive.lock"
#define DAY 8                  // bytes of "20261126"
#define NAME_FRAME 0x184D2A5Bu // of the skippable ones
#define READ_BYTES (1u << 20)
#define FRAME_MOST (64u << 20) // bytes of a frame; a log has no such

struct archive {
    const struct archive_job *job;
    struct archive_done *done;
    char today[DAY + 1];
    char day[DAY + 1];
    char path[PATH_MAX], fresh[PATH_MAX]; // the day's file, and the one that takes its place
    int fd;                               // of the latter; -1: none is made
    uint64_t bytes;                       // that it has
    unsigned added;                       // files in it that the former has not
    struct buffer names;                  // of files that the day's has, each with its NUL
    bool stopped;
};

static bool fails(struct archive *a, const char *path, const char *why)
{
    snprintf(a->done->why, sizeof(a->done->why), "%.300s: %s", path, why);
    return false;
}

static void print_day(char out[DAY + 1], uint64_t wall_us)
{
    char date[DATE_TEXT];
    date_print(date, wall_us);
    snprintf(out, DAY + 1, "%.4s%.2s%.2s", date, date + 5, date + 8);
}

static void print_path(char out[PATH_MAX], const char *directory, const char *name)
{
    // One that is too long is not there.
    if (snprintf(out, PATH_MAX, "%s/%s", directory, name) >= PATH_MAX)
        out[0] = '\0';
}

// ---- frames of a file ----------------------------------------------------------------------------------

struct frames {
    int fd;
    struct buffer in;
    bool end;
};

enum frame_found { FRAME_NEXT, FRAME_NONE, FRAME_DAMAGED, FRAME_UNREAD };

// False: errno; EINVAL: it is no file.
static bool frames_open(struct frames *f, const char *path)
{
    struct stat st;
    *f = (struct frames){.fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)};
    buffer_init(&f->in);
    if (f->fd < 0 || (fstat(f->fd, &st) == 0 && S_ISREG(st.st_mode)))
        return f->fd >= 0;
    close(f->fd);
    errno = EINVAL;
    return false;
}

static void frames_close(struct frames *f)
{
    buffer_deinit(&f->in);
    close(f->fd);
}

// False: errno.
static bool read_more(struct frames *f)
{
    uint8_t *to = buffer_reserve(&f->in, READ_BYTES);
    ssize_t n = -1;
    errno = ENOMEM;
    do
        n = to ? read(f->fd, to, READ_BYTES) : -1;
    while (n < 0 && to && errno == EINTR);
    if (n < 0)
        return false;
    buffer_commit(&f->in, (size_t)n);
    f->end = n == 0;
    return true;
}

// What it gives is consumed by the caller.
static enum frame_found next_frame(struct frames *f, struct view *out)
{
    for (;;) {
        struct view v = buffer_view(&f->in);
        size_t n = v.n > 0 ? ZSTD_findFrameCompressedSize(v.p, v.n) : 0;
        if (v.n > 0 && !ZSTD_isError(n)) {
            *out = view_of(v.p, n);
            return FRAME_NEXT;
        }
        bool torn = v.n == 0 || ZSTD_getErrorCode(n) == ZSTD_error_srcSize_wrong;
        if (f->end && v.n == 0)
            return FRAME_NONE;
        if (f->end || !torn || v.n > FRAME_MOST)
            return FRAME_DAMAGED;
        if (!read_more(f))
            return FRAME_UNREAD;
    }
}

static uint32_t load(const char *at)
{
    const uint8_t *p = (const uint8_t *)at;
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static bool is_name(struct view frame)
{
    return frame.n > 8 && load(frame.p) == NAME_FRAME;
}

// ---- writing -------------------------------------------------------------------------------------------

static bool write_out(struct archive *a, const void *p, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t k = pwrite(a->fd, (const char *)p + at, n - at, (off_t)(a->bytes + at));
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return fails(a, a->fresh, strerror(k < 0 ? errno : ENOSPC));
        at += (size_t)k;
    }
    a->bytes += n;
    return true;
}

static bool write_name(struct archive *a, const char *name)
{
    uint32_t n = (uint32_t)strlen(name), magic = NAME_FRAME;
    uint8_t head[8];
    for (unsigned i = 0; i < 4; i++) {
        head[i] = (uint8_t)(magic >> 8 * i);
        head[4 + i] = (uint8_t)(n >> 8 * i);
    }
    return write_out(a, head, sizeof(head)) && write_out(a, name, n);
}

static bool is_stopped(struct archive *a)
{
    a->stopped = a->stopped || (a->job->stop && atomic_load(a->job->stop));
    return a->stopped;
}

// All frames of what was opened. FRAME_NONE: they are there; FRAME_UNREAD: done.why, or it is stopped.
static enum frame_found copy_frames(struct archive *a, struct frames *f, const char *path)
{
    struct view frame;
    enum frame_found it = FRAME_UNREAD;
    while (!is_stopped(a) && (it = next_frame(f, &frame)) == FRAME_NEXT) {
        if (!write_out(a, frame.p, frame.n))
            return FRAME_UNREAD;
        buffer_consume(&f->in, frame.n);
    }
    if (a->stopped)
        return FRAME_UNREAD;
    if (it == FRAME_UNREAD)
        fails(a, path, strerror(errno));
    return it;
}

// ---- what a day's file has -----------------------------------------------------------------------------

static bool has(const struct archive *a, const char *name)
{
    struct view all = buffer_view(&a->names);
    for (size_t at = 0; at < all.n; at += strlen(all.p + at) + 1)
        if (strcmp(all.p + at, name) == 0)
            return true;
    return false;
}

static bool add_name(struct archive *a, struct view name)
{
    return (buffer_append(&a->names, name.p, name.n) && buffer_append(&a->names, "", 1)) ||
           fails(a, a->path, strerror(ENOMEM));
}

static bool read_names(struct archive *a)
{
    struct frames f;
    struct view frame;
    enum frame_found it;
    buffer_reset(&a->names);
    if (!frames_open(&f, a->path))
        return errno == ENOENT || fails(a, a->path, strerror(errno));
    bool ok = true;
    while (ok && (it = next_frame(&f, &frame)) == FRAME_NEXT) {
        ok = !is_name(frame) || add_name(a, view_of(frame.p + 8, frame.n - 8));
        buffer_consume(&f.in, frame.n);
    }
    if (ok && it == FRAME_DAMAGED) // nothing behind it could be read again
        ok = fails(a, a->path, "is damaged, or no day of a prediction log: nothing is added to it");
    else if (ok && it == FRAME_UNREAD)
        ok = fails(a, a->path, strerror(errno));
    frames_close(&f);
    return ok;
}

// ---- a day ---------------------------------------------------------------------------------------------

// With all that the day's file has.
static bool begin_fresh(struct archive *a)
{
    struct frames f;
    if (a->fd >= 0)
        return true;
    a->bytes = 0;
    a->fd =
        open(a->fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0640);
    if (a->fd < 0)
        return fails(a, a->fresh, strerror(errno));
    if (!frames_open(&f, a->path))
        return errno == ENOENT || fails(a, a->path, strerror(errno));
    bool ok = copy_frames(a, &f, a->path) == FRAME_NONE;
    frames_close(&f);
    return ok;
}

// name[0] becomes NUL where it is not taken, and stays where it is.
static bool add(struct archive *a, char *name)
{
    char path[PATH_MAX];
    struct frames f;
    print_path(path, a->job->directory, name);
    if (has(a, name))
        return true;
    if (!frames_open(&f, path)) {
        if (errno != ENOENT)
            fails(a, path, strerror(errno));
        *name = '\0';
        return true;
    }
    bool ok = begin_fresh(a);
    uint64_t before = a->bytes;
    enum frame_found end = ok && write_name(a, name) ? copy_frames(a, &f, path) : FRAME_UNREAD;
    frames_close(&f);
    if (end == FRAME_DAMAGED) {
        fails(a, path, "is damaged, or no file of a prediction log: it stays where it is");
        *name = '\0';
        a->bytes = before;
        return ftruncate(a->fd, (off_t)before) == 0 || fails(a, a->fresh, strerror(errno));
    }
    a->added += end == FRAME_NONE;
    return end == FRAME_NONE;
}

static bool sync_directory(struct archive *a)
{
    int fd = open(a->job->to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = (fd >= 0 && fsync(fd) == 0) || fails(a, a->job->to, strerror(errno));
    if (fd >= 0)
        close(fd);
    return ok;
}

static bool put_in_place(struct archive *a)
{
    if (a->added == 0)
        return true;
    if (fsync(a->fd) != 0 || rename(a->fresh, a->path) != 0)
        return fails(a, a->fresh, strerror(errno));
    a->done->taken += a->added;
    close(a->fd);
    a->fd = -1;
    return sync_directory(a);
}

static bool is_of_day(const struct archive *a, const char *name)
{
    size_t n = strlen(name);
    return n > DAY + sizeof(SUFFIX) && name[DAY] == 'T' && strncmp(name, a->day, DAY) == 0 &&
           strcmp(name + n - strlen(SUFFIX), SUFFIX) == 0;
}

static bool remove_taken(struct archive *a, struct dirent **found, int n)
{
    char path[PATH_MAX];
    for (int i = 0; i < n; i++) {
        if (!is_of_day(a, found[i]->d_name))
            continue;
        print_path(path, a->job->directory, found[i]->d_name);
        if (unlink(path) != 0 && errno != ENOENT)
            return fails(a, path, strerror(errno));
        a->done->removed++;
    }
    return true;
}

// found: sorted.
static bool archive_day(struct archive *a, struct dirent **found, int n)
{
    char name[DAY + sizeof(SUFFIX) + 8];
    a->fd = -1;
    a->added = 0;
    snprintf(name, sizeof(name), "%s" SUFFIX, a->day);
    print_path(a->path, a->job->to, name);
    snprintf(name, sizeof(name), "%s" SUFFIX ".new", a->day);
    print_path(a->fresh, a->job->to, name);
    bool ok = read_names(a);
    for (int i = 0; ok && i < n; i++)
        ok = !is_of_day(a, found[i]->d_name) || add(a, found[i]->d_name);
    ok = ok && put_in_place(a) && remove_taken(a, found, n);
    if (a->fd >= 0) { // of no use, and in the way of what the disk has no room for
        close(a->fd);
        unlink(a->fresh);
    }
    return ok;
}

static bool is_day(const char *name)
{
    return strspn(name, "0123456789") == DAY;
}

static bool archive_days(struct archive *a, struct dirent **found, int n)
{
    for (int i = 0; i < n && !is_stopped(a); i++) {
        const char *name = found[i]->d_name;
        bool over = is_day(name) && strncmp(name, a->today, DAY) < 0;
        if (!over || strncmp(name, a->day, DAY) == 0)
            continue;
        snprintf(a->day, sizeof(a->day), "%.8s", name);
        if (!is_of_day(a, name))
            a->day[0] = '\0'; // another one's
        else if (!archive_day(a, found, n))
            return false;
    }
    return true;
}

// ---- days that are old ---------------------------------------------------------------------------------

// Each of ours begins with a name.
static bool is_ours(const char *path)
{
    char head[4];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
    bool ours = fd >= 0 && read(fd, head, sizeof(head)) == sizeof(head) && load(head) == NAME_FRAME;
    if (fd >= 0)
        close(fd);
    return ours;
}

static bool remove_old(struct archive *a, uint64_t wall_us)
{
    char oldest[DAY + 1], path[PATH_MAX];
    if (a->job->keep_us == 0 || a->job->keep_us >= wall_us)
        return true;
    print_day(oldest,
              wall_us - a->job->keep_us); // it, or a part of it, has not been over for so long
    DIR *d = opendir(a->job->to);
    if (!d)
        return fails(a, a->job->to, strerror(errno));
    bool ok = true;
    for (struct dirent *e; ok && (e = readdir(d));) {
        if (!is_day(e->d_name) || strcmp(e->d_name + DAY, SUFFIX) != 0 ||
            strncmp(e->d_name, oldest, DAY) >= 0)
            continue;
        print_path(path, a->job->to, e->d_name);
        if (!is_ours(path))
            continue;
        ok = unlink(path) == 0 || errno == ENOENT || fails(a, path, strerror(errno));
        a->done->days += ok;
    }
    closedir(d);
    return ok;
}

// ---- a run ---------------------------------------------------------------------------------------------

// -1: `end` says why there is no lock to be had.
static int lock(struct archive *a, enum archive_end *end)
{
    char path[PATH_MAX];
    print_path(path, a->job->to, LOCK);
    *end = ARCHIVE_FAILED;
    if (mkdir(a->job->to, 0750) != 0 && errno != EEXIST) {
        fails(a, a->job->to, strerror(errno));
        return -1;
    }
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0640);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
        return fd;
    if (fd >= 0 && errno == EWOULDBLOCK)
        *end = ARCHIVE_BUSY;
    fails(a, path, strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

static bool archive_all(struct archive *a)
{
    struct dirent **found;
    int n = scandir(a->job->directory, &found, NULL, alphasort);
    if (n < 0)
        return fails(a, a->job->directory, strerror(errno));
    bool ok = archive_days(a, found, n);
    for (int i = 0; i < n; i++)
        free(found[i]);
    free(found);
    return ok;
}

enum archive_end archive_run(const struct archive_job *job, uint64_t wall_us,
                             struct archive_done *done)
{
    struct archive a = {.job = job, .done = done};
    enum archive_end end;
    *done = (struct archive_done){0};
    print_day(a.today, wall_us);
    int fd = lock(&a, &end);
    if (fd < 0)
        return end;
    buffer_init(&a.names);
    remove_old(&a, wall_us); // first: it makes room
    archive_all(&a);
    buffer_deinit(&a.names);
    close(fd);
    return a.stopped ? ARCHIVE_BUSY : done->why[0] ? ARCHIVE_FAILED : ARCHIVE_DONE;
}
