/* ctl/log_source.h: where a prediction log lies, read record by record: files in a directory, or streams in a Redis. What was
 * read is remembered, so that the next pass gives what has come since. Does. One thread. */
#ifndef SLUICE_CTL_LOG_SOURCE_H
#define SLUICE_CTL_LOG_SOURCE_H

#include "base/buffer.h"
#include "ctl/log_where.h"

#define LOG_NAME 256

// A line without its newline, for the time of the call. False: enough.
typedef bool log_take_fn(void *ctx, struct view line);

struct log_position { // a file, and how much of it; or a stream, and the last id
    char name[LOG_NAME];
    uint64_t at;
    char id[48];
};

struct log_source {
    const char *directory; // or
    struct log_streams *streams;
    struct log_position *positions; // [n]
    unsigned n;
    bool skips; // this pass only looks where the end is
    log_take_fn *take;
    void *ctx;
    bool
        lost; // the last pass failed since somebody was not there, or not for all of it: another one goes on where it was
    char why[LOG_WHY];
};

// w outlives it. timeout_ms: of each question to a Redis. False: why.
bool log_source_open(struct log_source *s, const struct log_where *w, long timeout_ms);
void log_source_close(struct log_source *s);
// All that has come since the last pass, oldest first within a file or a stream. False: why; empty: take had enough.
bool log_source_pass(struct log_source *s);
void log_source_pause(struct log_source *s, long ms); // below a second

// private
bool log_files_pass(struct log_source *s);
bool log_streams_open(struct log_source *s, const struct log_where *w, long timeout_ms);
void log_streams_close(struct log_source *s);
bool log_streams_pass(struct log_source *s);
void log_streams_pause(struct log_source *s, long ms);
// The position in what has that name, made if it is new. NULL: out of memory.
struct log_position *log_source_position(struct log_source *s, const char *name);
// Each line of whole frames of the file, from *at on, which moves on. False: why.
bool log_file_lines(struct log_source *s, const char *path, uint64_t *at);

#endif
