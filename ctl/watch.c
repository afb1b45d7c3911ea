#include "ctl/watch.h"

#include "ctl/clock.h"
#include "ctl/complain.h"
#include "ctl/experiment.h"
#include "ctl/sse.h"
#include "ctl/words.h"
#include <errno.h>
#include <stdio.h>

#define PAUSE_MS 200 // between two connections that are tried

/*            ┌──────── broke off, or ended ─────────┐
 *  ASKING ───┴─► FLOWING ────────────────────────► ASKING AGAIN ─ nobody there, no answer in time ─► over
 *     └ refused, no answer: over                        └ refused: over */
struct watching {
    const struct ctl_options *options;
    const struct ask *ask;
    struct sse sse;
    char last_id[SSE_ID_BYTES]; // "": none yet
    enum ctl_exit end;          // why it wants no more
};

static volatile sig_atomic_t enough;

static void on_signal(int number)
{
    (void)number;
    enough = 1;
}

static void listen_to_signals(void)
{
    struct sigaction act = {.sa_handler = on_signal};
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
}

// ---- events -----------------------------------------------------------------------------------------------------

static bool refuse(struct watching *w, const char *why)
{
    w->end = complain(CTL_REFUSED, "%s: %s", w->ask->address, why);
    return false;
}

static bool print_line(struct watching *w, struct view text)
{
    if (fwrite(text.p, 1, text.n, stdout) == text.n)
        return true;
    w->end = complain(CTL_REFUSED, "standard output: %s", strerror(errno));
    return false;
}

static bool on_event(void *ctx, struct view data, const char *id)
{
    struct watching *w = ctx;
    struct buffer line;
    json_t *event = json_loadb(data.p, data.n, 0, NULL);
    buffer_init(&line);
    bool ok = words_of_event(event, &line);
    bool wanted = !w->options->argument || experiment_is_about(event, w->options->more[0]);
    if (!ok)
        refuse(w, "what it told is no event");
    else if (!wanted)
        ok = true;
    else if (w->options->json)
        ok = print_line(w, data) && print_line(w, VIEW("\n"));
    else
        ok = print_line(w, buffer_view(&line));
    if (ok && *id)
        snprintf(w->last_id, sizeof(w->last_id), "%s", id);
    json_decref(event);
    buffer_deinit(&line);
    return ok;
}

static bool on_comment(void *ctx, struct view text)
{
    const struct watching *w = ctx;
    unsigned long long lost;
    char said[40];
    snprintf(said, sizeof(said), "%.*s", text.n < 39 ? (int)text.n : 39, text.p);
    if (sscanf(said, "lost %llu", &lost) == 1)
        complain(CTL_DONE, "%s: %llu events were lost: more came than it keeps", w->ask->address,
                 lost);
    return true;
}

static bool on_bytes(void *ctx, struct view bytes)
{
    struct watching *w = ctx;
    w->end = CTL_DONE;
    if (!sse_take(&w->sse, bytes)) {
        if (w->end == CTL_DONE)
            refuse(w, "what it told is no event");
        return false;
    }
    if (fflush(stdout) == 0)
        return true;
    w->end = complain(CTL_REFUSED, "standard output: %s", strerror(errno));
    return false;
}

// ---- connections ------------------------------------------------------------------------------------------------

// An answer, and no events in it.
static enum ctl_exit complain_of(const struct watching *w, const struct ask_flow *f)
{
    struct view text = buffer_view(&f->answer);
    json_t *answer = json_loadb(text.n ? text.p : "", text.n, 0, NULL);
    enum ctl_exit end =
        f->status >= 200 && f->status <= 299
            ? complain(CTL_REFUSED, "%s: answered what is no stream of events", w->ask->address)
            : complain_refused(w->ask, f->status, answer);
    json_decref(answer);
    return end;
}

// Events flowed, and do no more. True: until_ms was set, and a connection is made anew.
static bool begins_again(struct watching *w, const struct ask_flow *f, uint64_t *until_ms,
                         const char *why)
{
    if (enough || w->end != CTL_DONE)
        return false;
    if (!f->whole)
        complain(CTL_DONE, "%s; connecting again", why);
    sse_reset(&w->sse);
    *until_ms = clock_ms() + (uint64_t)w->ask->timeout_ms;
    return true;
}

static enum ctl_exit watch(struct watching *w, struct ask_flow *f)
{
    char why[ASK_ERROR] = "";
    bool ended = false; // the last one as an answer ends: the gateway has told that it goes
    for (uint64_t until_ms = 0;;) {
        f->last_id = *w->last_id ? w->last_id : NULL;
        enum ask_end end = ask_flow(w->ask, WATCH_PATH, f, why);
        if (enough)
            return CTL_DONE;
        if (end == ASK_ANSWERED && !f->flowed)
            return complain_of(w, f);
        if (end == ASK_ANSWERED) {
            ended = f->whole;
            if (!begins_again(w, f, &until_ms, why))
                return w->end;
        } else if (ended && (end == ASK_AWAY || clock_ms() >= until_ms)) {
            return CTL_DONE;
        } else if (clock_ms() >= until_ms) {
            return complain(CTL_UNANSWERED, "%s", why);
        }
        clock_pause(PAUSE_MS);
    }
}

enum ctl_exit watch_run(const struct ctl_options *o, const struct ask *a)
{
    struct watching w = {.options = o, .ask = a};
    struct ask_flow f = {.take = on_bytes, .ctx = &w, .enough = &enough};
    sse_init(&w.sse);
    w.sse.on_event = on_event;
    w.sse.on_comment = on_comment;
    w.sse.ctx = &w;
    buffer_init(&f.answer);
    listen_to_signals();
    enum ctl_exit end = watch(&w, &f);
    buffer_deinit(&f.answer);
    sse_deinit(&w.sse);
    return end;
}
