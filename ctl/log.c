#include "ctl/log.h"

#include "archive/archive.h"
#include "base/date.h"
#include "ctl/clock.h"
#include "ctl/complain.h"
#include "ctl/log_row.h"
#include "ctl/log_source.h"
#include "ctl/units.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define DEPLOYMENT "default"
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

bool log_check(const struct ctl_options *o, char why[OPTIONS_ERROR])
{
    bool archive = is(o->argument, "archive");
    if (!o->more[0])
        return refuse(why, "a directory or redis://HOST:PORT behind it", NULL);
    if (archive != (o->more[1] != NULL))
        return refuse(why, archive ? "a directory for the days, too" : "no more words", o->more[1]);
    if (o->format && !is(o->format, "jsonl") && !is(o->format, "csv"))
        return refuse(why, "--format jsonl or csv", o->format);
    if (o->keep && (!archive || units_seconds(o->keep) == 0))
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
    bool ok = v.n == 0 || fwrite(v.p, 1, v.n, stdout) == v.n;
    buffer_reset(&k->out);
    return ok;
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

// Passes until it is over: export has one.
static enum ctl_exit read_all(struct log_source *s, struct log_reading *k, bool follows)
{
    s->skips = follows && !k->since[0];
    for (;;) {
        bool ok = log_source_pass(s);
        if (!write_out(k) || fflush(stdout) != 0)
            return complain(CTL_REFUSED, "standard output: %s", strerror(errno));
        if (!ok)
            return complain(CTL_UNANSWERED, "%s", s->why[0] ? s->why : "out of memory");
        if (!follows)
            break;
        s->skips = false;
        clock_pause(LOOK_MS);
    }
    if (k->unread > 0)
        return complain(CTL_REFUSED, "%llu lines are no records", (unsigned long long)k->unread);
    return CTL_DONE;
}

static enum ctl_exit read_log(const struct ctl_options *o)
{
    struct log_reading k = {.model = o->model, .csv = is(o->format, "csv")};
    struct log_source s = {.take = take, .ctx = &k};
    arena_init(&k.arena, 0);
    buffer_init(&k.out);
    fill_since(&k, o->since);
    enum ctl_exit end = CTL_UNANSWERED;
    if (!log_source_open(&s, o->more[0], o->deployment ? o->deployment : DEPLOYMENT,
                         getenv("SLUICE_REDIS_PASSWORD")))
        complain(end, "%s", s.why);
    else if (!k.csv || log_row_head(&k.out))
        end = read_all(&s, &k, is(o->argument, "tail"));
    log_source_close(&s);
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
