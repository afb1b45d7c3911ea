/* ctl/log_source.h: where a prediction log lies, read record by record: files in a directory, or streams in a Redis. What was
 * read is remembered, so that the next pass gives what has come since. Does. One thread. */
#ifndef SLUICE_CTL_LOG_SOURCE_H
#define SLUICE_CTL_LOG_SOURCE_H

#include "base/buffer.h"

#define LOG_WHY 512
#define LOG_NAME 256

// A line without its newline, for the time of the call. False: enough.
typedef bool log_take_fn(void *ctx, struct view line);

struct log_place { // a file, and how much of it; or a stream, and the last id
    char name[LOG_NAME];
    uint64_t at;
    char id[48];
};

struct log_source {
    const char *directory; // or
    struct redisContext *redis;
    char prefix[LOG_NAME];
    struct log_place *places; // [n]
    unsigned n;
    bool skips; // this pass only looks where the end is
    log_take_fn *take;
    void *ctx;
    char why[LOG_WHY];
};

// place: "redis://HOST:PORT[/DATABASE]" or "unix:PATH"; else a directory. deployment: of a Redis' keys. password: NULL: none.
// False: why.
bool log_source_open(struct log_source *s, const char *place, const char *deployment,
                     const char *password);
void log_source_close(struct log_source *s);
// All that has come since the last pass, oldest first within a file or a stream. False: why; empty: take had enough.
bool log_source_pass(struct log_source *s);

// private
bool log_files_pass(struct log_source *s);
bool log_streams_open(struct log_source *s, const char *place, const char *password);
bool log_streams_pass(struct log_source *s);
// The place of that name, made if it is new. NULL: out of memory.
struct log_place *log_source_place(struct log_source *s, const char *name);
// Each line of whole frames of the file, from *at on, which moves on. False: why.
bool log_file_lines(struct log_source *s, const char *path, uint64_t *at);

#endif
