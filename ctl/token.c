#include "ctl/token.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool refuse(char why[TOKEN_ERROR], const char *name, const char *reason)
{
    snprintf(why, TOKEN_ERROR, "token: %.120s: %s", name, reason);
    return false;
}

#define FOR_OTHERS (S_IWGRP | S_IRWXO)

static bool is_private(int fd, const char *path, char why[TOKEN_ERROR])
{
    struct stat st;
    char reason[100];
    if (fstat(fd, &st) != 0)
        return refuse(why, path, strerror(errno));
    if (S_ISDIR(st.st_mode))
        return refuse(why, path, strerror(EISDIR));
    if (!S_ISREG(st.st_mode) || !(st.st_mode & FOR_OTHERS))
        return true;
    snprintf(reason, sizeof(reason),
             "its mode is %04o: expected 0640 or less, so that nobody else knows it",
             (unsigned)st.st_mode & 07777);
    return refuse(why, path, reason);
}

// A pipe gives it in pieces. Reads one byte more than a token may have, to see that there is none.
static ssize_t read_some(int fd, char *out, size_t size)
{
    size_t n = 0;
    while (n < size) {
        ssize_t got = read(fd, out + n, size - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        n += (size_t)got;
    }
    return (ssize_t)n;
}

bool token_read(const char *path, char out[TOKEN_BYTES + 1], char why[TOKEN_ERROR])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return refuse(why, path, strerror(errno));
    bool ok = is_private(fd, path, why);
    ssize_t n = ok ? read_some(fd, out, TOKEN_BYTES + 1) : 0;
    int error = errno;
    close(fd);
    if (!ok)
        return false;
    if (n < 0)
        return refuse(why, path, strerror(error));
    if (n > TOKEN_BYTES)
        return refuse(why, path, "longer than 256 bytes");
    const char *wrong = token_trim(out, (size_t)n);
    return !wrong || refuse(why, path, wrong);
}

bool token_take(const char *name, const char *text, char out[TOKEN_BYTES + 1],
                char why[TOKEN_ERROR])
{
    size_t n = strlen(text);
    if (n > TOKEN_BYTES)
        return refuse(why, name, "longer than 256 bytes");
    memcpy(out, text, n);
    const char *wrong = token_trim(out, n);
    return !wrong || refuse(why, name, wrong);
}
