#include "gateway/record_spool.h"

#include "base/count.h"
#include "base/hash.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAGIC "SLSPOOL1"
#define TEXT_MOST (64u << 20) // bytes of a text: a longer one is none
#define NOTE_BYTES 65536      // that may be delivered twice after the process was killed

struct spool_head {
    char magic[8];
    uint64_t read;
};

__attribute__((format(printf, 2, 3))) static bool fails(struct record_spool *s, const char *format,
                                                        ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(s->why, sizeof(s->why), format, ap);
    va_end(ap);
    count_add(&s->errors, 1);
    return false;
}

static void measure(struct record_spool *s)
{
    atomic_store_explicit(&s->bytes, s->end - s->done, memory_order_relaxed);
}

static bool read_at(int fd, void *to, size_t n, uint64_t at)
{
    for (size_t got = 0; got < n;) {
        ssize_t k = pread(fd, (char *)to + got, n - got, (off_t)(at + got));
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return false;
        got += (size_t)k;
    }
    return true;
}

static bool write_at(int fd, const void *from, size_t n, uint64_t at)
{
    for (size_t put = 0; put < n;) {
        ssize_t k = pwrite(fd, (const char *)from + put, n - put, (off_t)(at + put));
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0) {
            errno = k < 0 ? errno : ENOSPC;
            return false;
        }
        put += (size_t)k;
    }
    return true;
}

static bool note(struct record_spool *s)
{
    struct spool_head h = {.magic = MAGIC, .read = s->done};
    if (!write_at(s->fd, &h, sizeof(h), 0))
        return fails(s, "predictions.spool: %s", strerror(errno));
    s->noted = s->done;
    return true;
}

static bool read_entry(int fd, uint64_t at, struct spool_entry *e, struct buffer *out)
{
    if (!read_at(fd, e, sizeof(*e), at) || e->bytes > TEXT_MOST)
        return false;
    uint8_t *to = buffer_reserve(out, e->bytes + 1);
    if (!to || !read_at(fd, to, e->bytes, at + sizeof(*e)) ||
        hash64(view_of(to, e->bytes), e->ms) != e->digest)
        return false;
    buffer_commit(out, e->bytes);
    return true;
}

// The end of what is whole, from `at` on.
static uint64_t whole_until(int fd, uint64_t at)
{
    struct spool_entry e;
    struct buffer text;
    buffer_init(&text);
    for (; read_entry(fd, at, &e, &text); at += sizeof(e) + e.bytes)
        buffer_reset(&text);
    buffer_deinit(&text);
    return at;
}

static bool take_up(struct record_spool *s, uint64_t size)
{
    struct spool_head h;
    bool known = read_at(s->fd, &h, sizeof(h), 0) && memcmp(h.magic, MAGIC, sizeof(h.magic)) == 0 &&
                 h.read >= sizeof(h) && h.read <= size;
    s->at = s->done = s->noted = known ? h.read : sizeof(h);
    s->end = known ? whole_until(s->fd, s->at) : sizeof(h);
    if (!known && size > 0 && !read_at(s->fd, &h, 1, 0))
        return fails(s, "predictions.spool: %s", strerror(errno));
    return (s->end == size || ftruncate(s->fd, (off_t)s->end) == 0) && note(s);
}

bool record_spool_open(struct record_spool *s, const char *directory)
{
    char path[PATH_MAX];
    struct stat st;
    if (mkdir(directory, 0700) != 0 && errno != EEXIST)
        return fails(s, "%s: %s", directory, strerror(errno));
    errno = ENAMETOOLONG;
    bool fits = snprintf(path, sizeof(path), "%s/predictions.spool", directory) < PATH_MAX;
    int fd = fits ? open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600) : -1;
    if (fd < 0 || fstat(fd, &st) != 0 || flock(fd, LOCK_EX | LOCK_NB) != 0) {
        fails(s, "%s: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return false;
    }
    s->fd = fd;
    if (!take_up(s, (uint64_t)st.st_size)) {
        record_spool_close(s);
        return false;
    }
    measure(s);
    return true;
}

void record_spool_close(struct record_spool *s)
{
    if (s->fd < 0)
        return;
    if (s->noted != s->done)
        note(s);
    close(s->fd);
    s->fd = -1;
}

bool record_spool_put(struct record_spool *s, const struct spool_entry *e, struct view text,
                      uint64_t most)
{
    struct spool_entry head = *e;
    if (s->fd < 0)
        return fails(s, "there is no spool: state_dir is not set, or cannot be used");
    if (s->end + sizeof(head) + text.n > most)
        return fails(s, "predictions.spool: is full");
    head.bytes = (uint32_t)text.n;
    head.digest = hash64(text, head.ms);
    // The text first: what has no head is not there.
    if (!write_at(s->fd, text.p, text.n, s->end + sizeof(head)) ||
        !write_at(s->fd, &head, sizeof(head), s->end))
        return fails(s, "predictions.spool: %s", strerror(errno));
    s->end += sizeof(head) + text.n;
    measure(s);
    return true;
}

// Emptied, it takes no room on the disk.
static void empty(struct record_spool *s)
{
    s->at = s->done = s->end = sizeof(struct spool_head);
    if (!note(s) || ftruncate(s->fd, (off_t)s->end) != 0)
        fails(s, "predictions.spool: %s", strerror(errno));
}

bool record_spool_next(struct record_spool *s, struct spool_entry *e, struct buffer *out,
                       uint64_t *behind)
{
    if (s->fd < 0 || s->at == s->end)
        return false;
    if (!read_entry(s->fd, s->at, e, out)) {
        fails(s, "predictions.spool: it is damaged, and what is behind byte %llu is given up",
              (unsigned long long)s->at);
        empty(s);
        measure(s);
        return false;
    }
    *behind = s->at += sizeof(*e) + e->bytes;
    return true;
}

void record_spool_done(struct record_spool *s, uint64_t behind)
{
    s->done = behind;
    if (s->done == s->end)
        empty(s);
    else if (s->done - s->noted >= NOTE_BYTES)
        note(s);
    measure(s);
}
