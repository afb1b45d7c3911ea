#include "gateway/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_BYTES 16384

__attribute__((format(printf, 2, 3))) static bool refuse(char why[FILE_WHY], const char *format,
                                                         ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(why, FILE_WHY, format, ap);
    va_end(ap);
    return false;
}

static bool read_all(int fd, const char *path, size_t most, struct buffer *out, char why[FILE_WHY])
{
    size_t before = buffer_len(out);
    while (buffer_len(out) - before <= most) {
        uint8_t *at = buffer_reserve(out, READ_BYTES);
        if (!at)
            return refuse(why, "%s: out of memory", path);
        ssize_t n = read(fd, at, READ_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return refuse(why, "%s: %s", path, strerror(errno));
        if (n == 0)
            return true;
        buffer_commit(out, (size_t)n);
    }
    return refuse(why, "%s: larger than %zuMiB", path, most >> 20);
}

bool file_read(const char *path, size_t most, struct buffer *out, char why[FILE_WHY])
{
    // O_NONBLOCK: a FIFO in its place must not hold us. The one descriptor is checked and read, so it
    // does not matter what the name points to afterwards.
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    if (fd < 0)
        return refuse(why, "%s: %s", path, strerror(errno));
    bool ok = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    if (!ok)
        refuse(why, "%s: not a regular file", path);
    ok = ok && read_all(fd, path, most, out, why);
    close(fd);
    return ok;
}

bool file_write(int fd, struct view v)
{
    while (v.n > 0) {
        ssize_t n = write(fd, v.p, v.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        v = view_of(v.p + n, v.n - (size_t)n);
    }
    return true;
}

static bool sync_dir(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;
    int error = errno;
    if (fd >= 0)
        close(fd);
    errno = error;
    return ok;
}

bool file_replace(const char *dir, const char *name, struct view text)
{
    char path[PATH_MAX], fresh[PATH_MAX];
    errno = ENAMETOOLONG;
    if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= PATH_MAX ||
        snprintf(fresh, sizeof(fresh), "%s/%s.new", dir, name) >= PATH_MAX)
        return false;
    if (mkdir(dir, 0700) != 0 && errno != EEXIST)
        return false;
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return false;
    bool ok = file_write(fd, text) && fsync(fd) == 0;
    int error = errno;
    close(fd);
    errno = error;
    return ok && rename(fresh, path) == 0 && sync_dir(dir);
}
