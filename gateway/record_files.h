/* gateway/record_files.h: where records of predictions lie: files of JSON lines in one directory, compressed by zstd. What
 * is put at a time is a frame of its own (RFC 8878, 3.1), written behind the one before, whole or again: whatever ends the
 * process, the frames before it can be read.
 *
 *   DIR/20261126T163640.123456Z-INSTANCE.jsonl.zst.part ─ full, or its time is over: synced, renamed ─► ….jsonl.zst
 *
 * A `.part` that another life of this instance has left is cut behind its last whole frame and renamed. The instance is
 * locked (DIR/.INSTANCE.lock) while files are written: two at once would take each other's for left behind.
 * Does; blocks. Thread: the writer's. */
#ifndef SLUICE_GATEWAY_RECORD_FILES_H
#define SLUICE_GATEWAY_RECORD_FILES_H

#include "base/buffer.h"
#include "gateway/file.h"
#include <limits.h>
#include <stdatomic.h>

#define INSTANCE_BYTES 65 // with its NUL

struct ZSTD_CCtx_s;

struct record_place { // where, and when another file begins
    char directory[PATH_MAX];
    char instance[INSTANCE_BYTES];
    uint64_t rotate_bytes, rotate_us;
    uint64_t keep_us; // 0: closed ones are never removed
};

struct record_files {
    struct record_place place;
    int lock_fd; // -1: the directory is not ours yet
    int fd;      // -1: no file is open
    char name[NAME_MAX + 1];
    uint64_t bytes, period; // of the file: written; in which it began
    struct ZSTD_CCtx_s *zstd;
    struct buffer frame; // compressed, and not written yet
    uint64_t swept_us;   // when old ones were looked for
    char why[FILE_WHY];  // what went wrong last
    _Atomic uint64_t written, errors, closed,
        cut; // bytes; failed calls; files; files that were cut
};

// False: out of memory.
bool record_files_init(struct record_files *f);
void record_files_deinit(struct record_files *f); // closes as record_files_close
// From now on there; the file before is closed where it is. directory "": nowhere.
void record_files_move(struct record_files *f, const struct record_place *to);
// Whole lines, as one frame. False: why; it is kept, and has to be tried again by record_files_retry before more is put.
bool record_files_put(struct record_files *f, struct view lines, uint64_t wall_us);
bool record_files_retry(struct record_files *f, uint64_t wall_us);
static inline void record_files_forget(struct record_files *f)
{
    buffer_reset(&f->frame);
}
static inline bool record_files_waits(const struct record_files *f)
{
    return buffer_len(&f->frame) > 0;
}
// Closes a file whose time is over, removes old ones.
void record_files_tick(struct record_files *f, uint64_t wall_us);
// Synced and renamed. False: why.
bool record_files_close(struct record_files *f);

// The directory is there, or can be made, and takes files. False: why. Main thread, before it is moved to.
bool record_files_check(const char *directory, char why[FILE_WHY]);

#endif
