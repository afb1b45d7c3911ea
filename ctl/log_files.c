#include "ctl/log_source.h"

#include "base/mem.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#define SUFFIX ".jsonl.zst"
#define PART ".part"
#define FRAME_MOST ((uint64_t)256 << 20) // bytes of text in a frame

static bool fails(struct log_source *s, const char *path, const char *what)
{
    snprintf(s->why, sizeof(s->why), "%.300s: %.200s", path, what);
    return false;
}

static bool give_lines(struct log_source *s, struct view text)
{
    while (text.n > 0) {
        const char *end = memchr(text.p, '\n', text.n);
        size_t n = end ? (size_t)(end - text.p) : text.n;
        if (!s->take(s->ctx, view_of(text.p, n)))
            return false;
        n += end != NULL;
        text = view_of(text.p + n, text.n - n);
    }
    return true;
}

static bool give_frame(struct log_source *s, const char *path, const uint8_t *p, size_t n)
{
    unsigned long long bytes = ZSTD_getFrameContentSize(p, n);
    if (s->skips || bytes == 0) // one that is skippable has none
        return true;
    if (bytes > FRAME_MOST)
        return fails(s, path, "not of a prediction log: a frame of no known size, or too large");
    char *text = mem_alloc((size_t)bytes);
    if (!text)
        return fails(s, path, "out of memory");
    size_t got = ZSTD_decompress(text, (size_t)bytes, p, n);
    bool ok = ZSTD_isError(got) ? fails(s, path, ZSTD_getErrorName(got))
                                : give_lines(s, view_of(text, got));
    mem_free(text);
    return ok;
}

// What is not whole is being written; of a file that is closed it is an error.
static bool give_frames(struct log_source *s, const char *path, const uint8_t *p, size_t n,
                        uint64_t *at)
{
    size_t end = strlen(path) - strlen(PART);
    bool closed = strcmp(path + end, PART) != 0;
    while (*at < n) {
        size_t frame = ZSTD_findFrameCompressedSize(p + *at, n - *at);
        if (ZSTD_isError(frame))
            return !closed || fails(s, path, "is damaged, or no file of a prediction log");
        if (!give_frame(s, path, p + *at, frame))
            return false;
        *at += frame;
    }
    return true;
}

bool log_file_lines(struct log_source *s, const char *path, uint64_t *at)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT)
        return true; // it was renamed, or removed, meanwhile: the next pass sees
    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        fails(s, path, fd < 0 ? strerror(errno) : "not a regular file");
        if (fd >= 0)
            close(fd);
        return false;
    }
    size_t n = (size_t)st.st_size;
    uint8_t *p = n > *at ? mmap(NULL, n, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
    bool ok = p != MAP_FAILED || fails(s, path, strerror(errno));
    if (ok && p) {
        ok = give_frames(s, path, p, n, at);
        munmap(p, n);
    }
    close(fd);
    return ok;
}

static int is_file(const struct dirent *e)
{
    const char *end = strstr(e->d_name, SUFFIX);
    end = end ? end + strlen(SUFFIX) : "?";
    return !*end || strcmp(end, PART) == 0;
}

static bool give_file(struct log_source *s, const char *name)
{
    char path[4096], plain[LOG_NAME];
    const char *end = strstr(name, SUFFIX);
    snprintf(path, sizeof(path), "%s/%s", s->directory, name);
    snprintf(plain, sizeof(plain), "%.*s", (int)(end - name),
             name); // that it keeps when it is closed
    struct log_position *position = log_source_position(s, plain);
    return position && log_file_lines(s, path, &position->at);
}

bool log_files_pass(struct log_source *s)
{
    struct dirent **found;
    int n = scandir(s->directory, &found, is_file, alphasort);
    if (n < 0)
        return fails(s, s->directory, strerror(errno));
    bool ok = true;
    for (int i = 0; i < n; i++) {
        ok = ok && give_file(s, found[i]->d_name);
        free(found[i]);
    }
    free(found);
    return ok;
}
