/* archive/archive.h: closed files of a prediction log put together, one file for each day that is over (UTC). Does; blocks.
 * Thread: any; of those that archive into one directory, in whatever process, one at a time does.
 *
 *   DIR/20261126T….jsonl.zst ─┬─ TO/20261126.jsonl.zst.new ─ whole, synced: renamed ─► TO/20261126.jsonl.zst ─ old ─► gone
 *   DIR/20261126T….jsonl.zst ─┘                              and then these are removed
 *
 * A day's file has those of the day one behind the other, each after a skippable frame (RFC 8878, 3.1.2) with its name. It is
 * written anew, synced and renamed; only then what went into it is removed. So whenever it is ended, the next run goes on, and
 * takes nothing twice: what a day's file has already is removed alone. Frames are copied as they are. */
#ifndef SLUICE_ARCHIVE_ARCHIVE_H
#define SLUICE_ARCHIVE_ARCHIVE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define ARCHIVE_WHY 512

struct archive_job {
    const char *directory, *to; // `to` is made when it is not there, but not what it lies in
    uint64_t
        keep_us; // days that have been over for longer are removed, if we have made their files; 0: none
    const _Atomic bool *stop; // true: it ends as soon as it can, as ARCHIVE_BUSY; NULL: never
};

struct archive_done {
    unsigned taken, removed; // files that were put into a day's; that are there, and were removed
    unsigned days;           // files of days that were removed, being old
    char why[ARCHIVE_WHY];   // ARCHIVE_FAILED
};

// FAILED: not all was done; the next run tries again. A file that is damaged stays where it is, and the others are taken. BUSY:
// another one archives there.
enum archive_end { ARCHIVE_DONE, ARCHIVE_FAILED, ARCHIVE_BUSY };
enum archive_end archive_run(const struct archive_job *job, uint64_t wall_us,
                             struct archive_done *done);

#endif
