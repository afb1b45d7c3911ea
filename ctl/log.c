#include "ctl/log.h"

#include "archive/archive.h"
#include "base/date.h"
#include "ctl/clock.h"
#include "ctl/complain.h"
#include "ctl/log_row.h"
#include "ctl/log_source.h"
#include "ctl/units.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define LOOK_MS 200 // tail: between two looks

static bool is(const char *word, const char *what)
{
    return word && strcmp(word, what) == 0;
}

static bool refuse(char why[OPTIONS_ERROR], const char *what, const char *came)
{
    snprintf(why, OPTIONS_ERROR, "log: expected %s, got \"%.80s\"", what, came ? came : "");
    return false;
}

static bool check_place(const struct ctl_options *o, bool archive, char why[OPTIONS_ERROR])
{
    if (archive && o->config)
        return refuse(why, "no --config", o->config);
    if (!o->more[0] && !o->config)
        return refuse(why,
                      archive ? "a directory behind it"
                              : "a directory, redis://HOST:PORT or --config FILE behind it",
                      NULL);
    if (o->more[0] && o->config)
        return refuse(why, "no place, which --config has", o->more[0]);
    if (archive != (o->more[1] != NULL))
        return refuse(why, archive ? "a directory for the days, too" : "no more words", o->more[1]);
    if (o->deployment && !view_is_name(view_str(o->deployment), 64))
        return refuse(why, "--deployment of 1 to 64 of A-Z a-z 0-9 . _ -", o->deployment);
    return true;
}

bool log_check(const struct ctl_options *o, char why[OPTIONS_ERROR])
{
    bool archives = is(o->argument, "archive");
    if (!check_place(o, archives, why))
        return false;
    if (o->format && !is(o->format, "jsonl") && !is(o->format, "csv"))
        return refuse(why, "--format jsonl or csv", o->format);
    if (o->keep && (!archives || units_seconds(o->keep) == 0))
        return refuse(why, "--keep as \"30d\" or \"12h\", behind archive", o->keep);
    if (o->since && units_seconds(o->since) == 0 && strspn(o->since, "0123456789-:.TZ") < 10)
        return refuse(why, "--since as \"90s\", \"2h\", \"1d\" or \"2026-01-02T03:04:05Z\"",
                      o->since);
    return true;
}

struct log_reading {
    char since[DATE_TEXT + 1]; // as records have it; "": from the beginning
    const char *model;
    bool csv;
    struct arena arena;
    struct buffer out;
    uint64_t unread; // lines that are no records
    int failed;      // errno of what could not be written; 0: all could
};

// Those to whom it was asked, and those that it answered.
static bool is_wanted(const struct log_reading *k, const struct log_row *r)
{
    struct view since = view_str(k->since), time = log_row_value(r, "time");
    size_t n = time.n < since.n ? time.n : since.n;
    if (n > 0 && memcmp(time.p, since.p, n) < 0)
        return false;
    return !k->model || view_is(log_row_value(r, "model"), k->model) ||
           view_is(log_row_value(r, "answered"), k->model);
}

static bool write_out(struct log_reading *k)
{
    struct view v = buffer_view(&k->out);
    if ((v.n > 0 && fwrite(v.p, 1, v.n, stdout) != v.n) || fflush(stdout) != 0)
        k->failed = errno;
    buffer_reset(&k->out);
    return k->failed == 0;
}

static bool take(void *ctx, struct view line)
{
    struct log_reading *k = ctx;
    struct log_row row;
    bool ok = true;
    arena_reset(&k->arena);
    if (!log_row_read(&row, &k->arena, line))
        k->unread++;
    else if (is_wanted(k, &row))
        ok = k->csv ? log_row_print(&row, &k->out)
                    : buffer_append(&k->out, line.p, line.n) && buffer_append(&k->out, "\n", 1);
    return ok && (buffer_len(&k->out) < 65536 || write_out(k));
}

static void fill_since(struct log_reading *k, const char *since)
{
    unsigned long s = units_seconds(since);
    if (s > 0)
        date_print(k->since, ((uint64_t)time(NULL) - s) * 1000000);
    else if (since)
        snprintf(k->since, sizeof(k->since), "%.*s", (int)strcspn(since, "Z"), since);
}

// True: the pass after this one may find again who was lost. Who was never there is waited for as long as for an answer; what
// flows goes on as often as it takes.
static bool tries_again(const struct log_source *s, bool flowing, uint64_t *lost_ms, long most_ms)
{
    bool first = *lost_ms == 0;
    if (!s->lost)
        return false;
    if (first)
        *lost_ms = clock_ms();
    if (first && flowing)
        complain(CTL_DONE, "%s; trying again", s->why);
    return flowing || clock_ms() - *lost_ms < (uint64_t)most_ms;
}

// Who reads what we print wants no more: that is no error to tell of.
static enum ctl_exit not_written(int error)
{
    if (error == EPIPE) {
        signal(SIGPIPE, SIG_DFL);
        raise(SIGPIPE);
    }
    return complain(CTL_REFUSED, "standard output: %s", strerror(error));
}

// Passes until it is over: export has one that is whole.
static enum ctl_exit read_all(struct log_source *s, struct log_reading *k, bool follows,
                              long most_ms)
{
    uint64_t lost_ms = 0; // 0: the last pass was whole
    bool whole = false;   // one was
    s->skips = follows && !k->since[0];
    for (;;) {
        bool ok = log_source_pass(s);
        if (k->failed || !write_out(k))
            return not_written(k->failed);
        if (!ok && !tries_again(s, follows && whole, &lost_ms, most_ms))
            return complain(CTL_UNANSWERED, "%s", s->why[0] ? s->why : "out of memory");
        if (ok) {
            if (!follows)
                break;
            lost_ms = 0;
            whole = true;
            s->skips = false;
        }
        log_source_pause(s, LOOK_MS);
    }
    if (k->unread > 0)
        return complain(CTL_REFUSED, "%llu lines are no records", (unsigned long long)k->unread);
    return CTL_DONE;
}

static enum ctl_exit read_log(const struct ctl_options *o)
{
    struct log_reading k = {.model = o->model, .csv = is(o->format, "csv")};
    struct log_source s = {.take = take, .ctx = &k};
    struct log_where where;
    arena_init(&k.arena, 0);
    buffer_init(&k.out);
    fill_since(&k, o->since);
    enum ctl_exit end = CTL_UNANSWERED;
    if (!log_where_find(&where, o, getenv, s.why) || !log_source_open(&s, &where, o->timeout_ms))
        complain(end, "%s", s.why);
    else if (!k.csv || log_row_head(&k.out))
        end = read_all(&s, &k, is(o->argument, "tail"), o->timeout_ms);
    log_source_close(&s);
    log_where_deinit(&where);
    buffer_deinit(&k.out);
    arena_deinit(&k.arena);
    return end;
}

static enum ctl_exit archive(const struct ctl_options *o)
{
    struct archive_job job = {.directory = o->more[0],
                              .to = o->more[1],
                              .keep_us = (uint64_t)units_seconds(o->keep) * 1000000};
    struct archive_done done;
    enum archive_end end = archive_run(&job, (uint64_t)time(NULL) * 1000000, &done);
    if (end == ARCHIVE_BUSY)
        return complain(CTL_REFUSED, "%s: somebody else archives there just now", job.to);
    printf("%u files taken, %u removed", done.taken, done.removed);
    printf(job.keep_us > 0 ? ", %u days removed\n" : "\n", done.days);
    return end == ARCHIVE_DONE ? CTL_DONE : complain(CTL_REFUSED, "%s", done.why);
}

enum ctl_exit log_run(const struct ctl_options *o)
{
    return is(o->argument, "archive") ? archive(o) : read_log(o);
}
