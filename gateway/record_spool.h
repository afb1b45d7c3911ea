/* gateway/record_spool.h: records that wait on the disk for a Redis that is away: one file, read in the order in which it was
 * written, emptied when all of it has been read. What another life of the process has left in it is read first; of its last
 * entries some may have been delivered already (the place up to which it was read is noted now and then): whoever delivers
 * them again has to notice, by their ids.
 *
 *   head: "SLSPOOL1", the offset of the first entry that was not read      entries: struct spool_entry, text
 *
 * Does; blocks. Thread: the writer's. */
#ifndef SLUICE_GATEWAY_RECORD_SPOOL_H
#define SLUICE_GATEWAY_RECORD_SPOOL_H

#include "base/buffer.h"
#include "gateway/file.h"
#include <limits.h>
#include <stdatomic.h>

struct spool_entry {
    uint32_t bytes; // of the text
    uint32_t loop;
    uint64_t ms, seq;
    uint64_t digest; // of the text
};

struct record_spool {
    int fd;           // -1: there is none
    uint64_t at, end; // of the next entry to be read; behind the last one
    uint64_t done;    // before it all was delivered
    uint64_t noted;   // in the head
    char why[FILE_WHY];
    _Atomic uint64_t bytes, errors; // that wait; failed calls
};

// Opens, or makes, DIRECTORY/predictions.spool. False: why.
bool record_spool_open(struct record_spool *s, const char *directory);
void record_spool_close(struct record_spool *s);
// Appends an entry while there are no more than `most` bytes in it. False: why, and nothing is there of it.
bool record_spool_put(struct record_spool *s, const struct spool_entry *e, struct view text,
                      uint64_t most);
// The next one, its text appended to out; *behind: for record_spool_done. False: there is none.
bool record_spool_next(struct record_spool *s, struct spool_entry *e, struct buffer *out,
                       uint64_t *behind);
// All before `behind` is delivered.
void record_spool_done(struct record_spool *s, uint64_t behind);
static inline bool record_spool_is_empty(const struct record_spool *s)
{
    return s->done == s->end;
}

#endif
