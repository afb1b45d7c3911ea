#include "gateway/record_files.h"

#include "base/count.h"
#include "base/date.h"
#include "base/mem.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zstd.h>

#define LEVEL 1 // of zstd: the writer shares the machine with the loops
#define SUFFIX ".jsonl.zst"
#define PART ".part"
#define SWEEP_US 60000000
#define NAMES_TRIED 1000

__attribute__((format(printf, 2, 3))) static bool fails(struct record_files *f, const char *format,
                                                        ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(f->why, sizeof(f->why), format, ap);
    va_end(ap);
    count_add(&f->errors, 1);
    return false;
}

static bool path_of(char out[PATH_MAX], const char *directory, const char *name)
{
    errno = ENAMETOOLONG;
    return snprintf(out, PATH_MAX, "%s/%s", directory, name) < PATH_MAX;
}

// ---- names ---------------------------------------------------------------------------------------------

static void name_file(char out[NAME_MAX + 1], const char *instance, uint64_t wall_us)
{
    char date[DATE_TEXT], *to = out;
    date_print(date, wall_us);
    for (unsigned i = 0; i < DATE_TEXT; i++)
        if (date[i] != '-' && date[i] != ':')
            *to++ = date[i];
    snprintf(to, NAME_MAX + 1 - (size_t)(to - out), "-%s" SUFFIX PART, instance);
}

// Whether that is what this instance names a file, and behind the date `rest`.
static bool is_ours(const char *name, const char *instance, const char *suffix)
{
    static const char form[] = "00000000T000000.000000Z-";
    char rest[INSTANCE_BYTES + sizeof(SUFFIX PART)];
    for (const char *at = form; *at; at++, name++)
        if (*at == '0' ? *name < '0' || *name > '9' : *name != *at)
            return false;
    snprintf(rest, sizeof(rest), "%s%s", instance, suffix);
    return strcmp(name, rest) == 0;
}

// Runs fn for each such file.
static void each_file(struct record_files *f, const char *suffix, uint64_t now_us,
                      void (*fn)(struct record_files *f, const char *path, uint64_t now_us))
{
    char path[PATH_MAX];
    DIR *d = opendir(f->place.directory);
    if (!d) {
        fails(f, "%s: %s", f->place.directory, strerror(errno));
        return;
    }
    for (struct dirent *e; (e = readdir(d));)
        if (is_ours(e->d_name, f->place.instance, suffix) &&
            path_of(path, f->place.directory, e->d_name))
            fn(f, path, now_us);
    closedir(d);
}

// ---- what is left behind -------------------------------------------------------------------------------

// Bytes of the whole frames that a file begins with.
static size_t whole_frames(const uint8_t *p, size_t n)
{
    size_t at = 0;
    while (at < n) {
        size_t frame = ZSTD_findFrameCompressedSize(p + at, n - at);
        if (ZSTD_isError(frame) || frame == 0)
            break;
        at += frame;
    }
    return at;
}

static size_t measure(int fd, size_t n)
{
    uint8_t *p = n > 0 ? mmap(NULL, n, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
    if (p == MAP_FAILED)
        return 0;
    size_t whole = whole_frames(p, n);
    munmap(p, n);
    return whole;
}

// The name that it has when it is closed.
static const char *closed_name(const char *path, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%.*s", (int)(strlen(path) - strlen(PART)), path);
    return out;
}

static bool finish(int fd, const char *path)
{
    char closed[PATH_MAX];
    closed_name(path, closed);
    return fsync(fd) == 0 && rename(path, closed) == 0;
}

static void take_over(struct record_files *f, const char *path, uint64_t now_us)
{
    (void)now_us;
    struct stat st;
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        fails(f, "%s: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return;
    }
    size_t whole = measure(fd, (size_t)st.st_size);
    bool cut = whole < (size_t)st.st_size;
    bool ok = (!cut || ftruncate(fd, (off_t)whole) == 0) &&
              (whole > 0 ? finish(fd, path) : unlink(path) == 0);
    if (!ok)
        fails(f, "%s: %s", path, strerror(errno));
    count_add(&f->cut, cut && ok);
    close(fd);
}

static void remove_old(struct record_files *f, const char *path, uint64_t now_us)
{
    struct stat st;
    if (stat(path, &st) == 0 && (uint64_t)st.st_mtime * 1000000 + f->place.keep_us < now_us &&
        unlink(path) != 0)
        fails(f, "%s: %s", path, strerror(errno));
}

// ---- the directory -------------------------------------------------------------------------------------

static bool make_directory(const char *path)
{
    return mkdir(path, 0750) == 0 || errno == EEXIST;
}

bool record_files_check(const char *directory, char why[FILE_WHY])
{
    struct stat st;
    if (make_directory(directory) && stat(directory, &st) == 0) {
        errno = ENOTDIR;
        if (S_ISDIR(st.st_mode) && access(directory, R_OK | W_OK | X_OK) == 0)
            return true;
    }
    snprintf(why, FILE_WHY, "predictions: file: %s: %s", directory, strerror(errno));
    return false;
}

// It is ours, and what another life has left there is in order.
static bool lock(struct record_files *f)
{
    char name[INSTANCE_BYTES + 8], path[PATH_MAX];
    if (f->lock_fd >= 0)
        return true;
    snprintf(name, sizeof(name), ".%s.lock", f->place.instance);
    int fd = -1;
    if (path_of(path, f->place.directory, name) && make_directory(f->place.directory))
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0640);
    if (fd < 0)
        return fails(f, "%s: %s", path, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        bool other = errno == EWOULDBLOCK;
        close(fd);
        return fails(f, "%s: %s", path,
                     other ? "another gateway writes there as this instance" : strerror(errno));
    }
    f->lock_fd = fd;
    each_file(f, SUFFIX PART, 0, take_over);
    return true;
}

// ---- one file ------------------------------------------------------------------------------------------

static uint64_t period_of(const struct record_files *f, uint64_t wall_us)
{
    return wall_us / f->place.rotate_us;
}

static bool open_file(struct record_files *f, uint64_t wall_us)
{
    char path[PATH_MAX], closed[PATH_MAX];
    if (!lock(f))
        return false;
    for (unsigned i = 0; i < NAMES_TRIED; i++) { // the clock may have been set back
        name_file(f->name, f->place.instance, wall_us + i);
        if (!path_of(path, f->place.directory, f->name))
            break;
        errno = EEXIST;
        if (access(closed_name(path, closed), F_OK) == 0)
            continue;
        f->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0640);
        if (f->fd >= 0 || errno != EEXIST)
            break;
    }
    if (f->fd < 0)
        return fails(f, "%s: %s", path, strerror(errno));
    f->bytes = 0;
    f->period = period_of(f, wall_us);
    return true;
}

bool record_files_close(struct record_files *f)
{
    char path[PATH_MAX];
    if (f->fd < 0)
        return true;
    // What was not written whole is no frame.
    bool ok = path_of(path, f->place.directory, f->name) &&
              ftruncate(f->fd, (off_t)f->bytes) == 0 &&
              (f->bytes > 0 ? finish(f->fd, path) : unlink(path) == 0) &&
              file_sync_directory(f->place.directory);
    if (!ok)
        fails(f, "%s: %s", path, strerror(errno));
    count_add(&f->closed, ok && f->bytes > 0);
    close(f->fd);
    f->fd = -1;
    return ok;
}

// A file for so many bytes more.
static bool ready(struct record_files *f, size_t bytes, uint64_t wall_us)
{
    bool full = f->bytes > 0 && f->bytes + bytes > f->place.rotate_bytes;
    if (f->fd >= 0 && (full || f->period != period_of(f, wall_us)))
        record_files_close(
            f); // its error is counted and told, and the next one begins all the same
    return f->fd >= 0 || open_file(f, wall_us);
}

// ---- frames --------------------------------------------------------------------------------------------

bool record_files_init(struct record_files *f)
{
    *f = (struct record_files){.lock_fd = -1, .fd = -1, .zstd = ZSTD_createCCtx()};
    buffer_init(&f->frame);
    return f->zstd &&
           !ZSTD_isError(ZSTD_CCtx_setParameter(f->zstd, ZSTD_c_compressionLevel, LEVEL)) &&
           !ZSTD_isError(ZSTD_CCtx_setParameter(f->zstd, ZSTD_c_checksumFlag, 1));
}

static void leave(struct record_files *f)
{
    record_files_close(f);
    if (f->lock_fd >= 0)
        close(f->lock_fd);
    f->lock_fd = -1;
}

void record_files_deinit(struct record_files *f)
{
    leave(f);
    buffer_deinit(&f->frame);
    ZSTD_freeCCtx(f->zstd);
    f->zstd = NULL;
}

void record_files_move(struct record_files *f, const struct record_place *to)
{
    bool same = strcmp(f->place.directory, to->directory) == 0 &&
                strcmp(f->place.instance, to->instance) == 0;
    if (!same)
        leave(f);
    f->place = *to;
    if (!same && to->directory[0])
        lock(f); // what another life has left does not wait for the first record
}

static bool compress(struct record_files *f, struct view lines)
{
    uint8_t *to = buffer_reserve(&f->frame, ZSTD_compressBound(lines.n));
    size_t n = to ? ZSTD_compress2(f->zstd, to, ZSTD_compressBound(lines.n), lines.p, lines.n) : 0;
    if (!to || ZSTD_isError(n))
        return fails(f, "%s", to ? ZSTD_getErrorName(n) : "out of memory");
    buffer_commit(&f->frame, n);
    return true;
}

// Always from where it begins: what came of an earlier try does not matter.
static bool write_frame(struct record_files *f)
{
    struct view v = buffer_view(&f->frame);
    for (size_t at = 0; at < v.n;) {
        ssize_t n = pwrite(f->fd, v.p + at, v.n - at, (off_t)(f->bytes + at));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return fails(f, "%s/%s: %s", f->place.directory, f->name,
                         strerror(n < 0 ? errno : ENOSPC));
        at += (size_t)n;
    }
    f->bytes += v.n;
    count_add(&f->written, v.n);
    buffer_reset(&f->frame);
    return true;
}

bool record_files_retry(struct record_files *f, uint64_t wall_us)
{
    return ready(f, buffer_len(&f->frame), wall_us) && write_frame(f);
}

bool record_files_put(struct record_files *f, struct view lines, uint64_t wall_us)
{
    return compress(f, lines) && record_files_retry(f, wall_us);
}

void record_files_tick(struct record_files *f, uint64_t wall_us)
{
    if (f->fd >= 0 && f->period != period_of(f, wall_us))
        record_files_close(f);
    if (f->place.keep_us == 0 || f->lock_fd < 0 || wall_us - f->swept_us < SWEEP_US)
        return;
    f->swept_us = wall_us;
    each_file(f, SUFFIX, wall_us, remove_old);
}
