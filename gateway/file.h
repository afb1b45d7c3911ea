/* gateway/file.h: a small file that the configuration names, and the configuration itself, read whole; and what is written whole. Does. Thread: any. */
#ifndef SLUICE_GATEWAY_FILE_H
#define SLUICE_GATEWAY_FILE_H

#include "base/buffer.h"

#define FILE_WHY 512

// A regular file of at most `most` bytes, opened and read once, appended to out. False: why, in one line without a newline.
bool file_read(const char *path, size_t most, struct buffer *out, char why[FILE_WHY]);
// All of v. False: errno says why.
bool file_write(int fd, struct view v);
// dir/name is text, whole or not at all: under another name first, on the disk, then renamed. dir is made. False: errno.
bool file_replace(const char *dir, const char *name, struct view text);

#endif
