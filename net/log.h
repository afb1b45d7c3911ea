/* net/log.h: one log thread; producers (loops, the main thread) never wait for a disk. Each
 * producer has a bounded single-producer ring a sink; a full ring drops the line and counts it.
 * Sinks are files (appended, reopened on request) or standard error. ENOSPC and EIO are counted and
 * tried again while the rings take what they can. Lines are whole: a line is in the file whole or
 * not at all (but for a disk that fills in the middle: the rest follows when there is room).
 * Thread: log_write by producer i on producer i's thread only; log_reopen, log_stats on any. */
#ifndef SLUICE_NET_LOG_H
#define SLUICE_NET_LOG_H

#include "base/buffer.h"
#include "base/view.h"
#include <stdbool.h>
#include <stdint.h>

#define LOG_SINKS 4
#define LOG_FIELD_MAX 1024 // bytes of one field's value before escaping; the rest is cut (row 133)
#define LOG_RING (4u << 20)

enum { LOG_EVENTS = 0 }; // sink 0: the event log, standard error unless log_open says otherwise

struct log;

// n_producers: loops + main thread. ring_bytes 0: LOG_RING. NULL: out of memory.
struct log *log_new(unsigned n_producers, size_t ring_bytes);
// Before log_start. path NULL: standard error. 0, or -1 with errno.
int log_open(struct log *g, unsigned sink, const char *path);
int log_start(struct log *g); // starts the thread; 0 or -1 with errno
void log_free(struct log *g); // writes what is left (giving up after 2 s of errors), joins, frees
// After log_start, one thread: the sink is another file from the next look of the log thread on; path NULL: none, and
// what is written to it from then on is dropped. 0, or -1 with errno: nothing has changed.
int log_move(struct log *g, unsigned sink, const char *path);
void log_reopen(struct log *g); // any thread: every file sink is opened anew (SIGUSR1)

// A whole line with its '\n'. False: dropped (counted).
bool log_write(struct log *g, unsigned producer, unsigned sink, struct view line);

struct log_stats {
    uint64_t lines, bytes, dropped, write_errors, reopen_errors;
};
void log_stats(const struct log *g, unsigned sink, struct log_stats *out);

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_LEVELS };
extern const char *const log_level_name[LOG_LEVELS]; // "debug", "info", "warn", "error"
bool log_level_parse(struct view name, enum log_level *out);
// Any thread: from now on log_line writes nothing below `lowest`, whoever the producer. LOG_INFO at first.
void log_set_level(struct log *g, enum log_level lowest);
enum log_level log_level(const struct log *g);

struct log_field {
    const char *key; // constant, needs no escaping
    enum { LOG_STR, LOG_INT } type;
    struct view str;
    int64_t num;
};
#define LOG_S(k, v) ((struct log_field){.key = (k), .type = LOG_STR, .str = (v)})
#define LOG_CSTR(k, s) ((struct log_field){.key = (k), .type = LOG_STR, .str = view_str(s)})
#define LOG_I(k, n) ((struct log_field){.key = (k), .type = LOG_INT, .num = (int64_t)(n)})

// True also where the level is too low to be written; who would only put fields together for that asks
// log_level before.
// {"time":"2026-01-02T03:04:05.678901Z","level":"warn","event":"accept paused","why":"…"}
bool log_line(struct log *g, unsigned producer, enum log_level level, uint64_t wall_us,
              const char *event, const struct log_field *fields, unsigned n);
#define LOG_LINE(g, producer, level, wall_us, event, ...)                                          \
    log_line(g, producer, level, wall_us, event, (const struct log_field[]){__VA_ARGS__},          \
             sizeof((const struct log_field[]){__VA_ARGS__}) / sizeof(struct log_field))
// The same line straight to a descriptor, for programs without a log thread (the keeper).
void log_line_fd(int fd, enum log_level level, uint64_t wall_us, const char *event,
                 const struct log_field *fields, unsigned n);
// The same line into b (emptied first). False: out of memory.
bool log_format(struct buffer *b, enum log_level level, uint64_t wall_us, const char *event,
                const struct log_field *fields, unsigned n);
// Appends v as the inside of a JSON string: control characters, quotes, backslash and DEL escaped,
// invalid UTF-8 as \ufffd, cut at LOG_FIELD_MAX bytes (then "…" follows). False: out of memory.
bool log_escape(struct buffer *out, struct view v);
// "2026-01-02T03:04:05.678901Z"; 28 bytes with the NUL.
void log_time(char out[28], uint64_t wall_us);
uint64_t log_wall_us(void); // now, for callers without a loop

#endif
