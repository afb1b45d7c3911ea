#include "ctl/top.h"

#include "ctl/clock.h"
#include "ctl/columns.h"
#include "ctl/complain.h"
#include "ctl/frame.h"
#include "ctl/sse.h"
#include <errno.h>
#include <ncurses.h>
#include <stdio.h>
#include <term.h>
#include <unistd.h>

#define PAUSE_MS 200 // between two connections that are tried
#define HEADS 3      // lines above the models: the gateway's, an empty one, the table's heads

struct top {
    const struct ctl_options *options;
    const struct ask *ask;
    struct sse sse;
    struct top_frame frame;
    SCREEN *screen; // NULL: not yet, or no terminal is wanted
    enum frame_sort by;
    size_t first;         // model that is shown
    unsigned events;      // so far
    char away[ASK_ERROR]; // why nothing comes; "": it does
    bool over;
    enum ctl_exit end;
};

static volatile sig_atomic_t enough;

static void on_signal(int number)
{
    (void)number;
    enough = 1;
}

static bool end_with(struct top *t, enum ctl_exit end)
{
    t->over = true;
    t->end = end;
    return false;
}

static bool refuse(struct top *t, const char *why)
{
    return end_with(t, complain(CTL_REFUSED, "%s: %s", t->ask->address, why));
}

// ---- the terminal -----------------------------------------------------------------------------------------------

// False: what the terminal is cannot be told.
static bool open_screen(struct top *t)
{
    int known;
    if (setupterm(NULL, STDOUT_FILENO, &known) != OK) // newterm would leak what it has made by then
        return false;
    del_curterm(cur_term);
    t->screen = newterm(NULL, stdout, stdin);
    if (!t->screen)
        return false;
    cbreak();
    noecho();
    keypad(stdscr, true);
    nodelay(stdscr, true);
    set_escdelay(25);
    curs_set(0);
    return true;
}

static void close_screen(struct top *t)
{
    if (!t->screen)
        return;
    endwin();
    delscreen(t->screen);
    t->screen = NULL;
}

static void put_line(int y, struct view line, int look)
{
    int n = line.n < (size_t)COLS ? (int)line.n : COLS;
    move(y, 0);
    attrset(look);
    addnstr(line.p, n);
    if (look & A_REVERSE)
        hline(' ' | A_REVERSE, COLS);
    attrset(0);
}

static void put_foot(const struct top *t)
{
    static const char *const by[] = {"requests", "p99", "waiting", "level", "name"};
    char line[ASK_ERROR + 40];
    if (*t->away)
        snprintf(line, sizeof(line), "no connection: %s", t->away);
    else
        snprintf(line, sizeof(line),
                 "q quit  sort: r requests, l p99, w waiting, d level, n name (now: %s)  arrows: "
                 "%zu models",
                 by[t->by], t->frame.n);
    put_line(LINES - 1, view_str(line), *t->away ? A_BOLD : A_DIM);
}

static size_t room_of(void)
{
    return LINES > HEADS + 1 ? (size_t)(LINES - HEADS - 1) : 0;
}

static void draw(struct top *t)
{
    struct buffer text;
    int y = 0;
    buffer_init(&text);
    if (t->first >= t->frame.n)
        t->first = t->frame.n > 0 ? t->frame.n - 1 : 0;
    erase();
    if (frame_text(&t->frame, t->by, t->first, room_of(), &text)) {
        struct view rest = buffer_view(&text);
        while (rest.n > 0 && y < LINES - 1) {
            const char *end = memchr(rest.p, '\n', rest.n);
            size_t n = end ? (size_t)(end - rest.p) : rest.n;
            put_line(y, view_of(rest.p, n), y == 0 ? A_BOLD : y == HEADS - 1 ? A_REVERSE : 0);
            y++;
            n += end != NULL;
            rest = view_of(rest.p + n, rest.n - n);
        }
    }
    if (LINES > 1)
        put_foot(t);
    refresh();
    buffer_deinit(&text);
}

// False: it quits.
static bool take_key(struct top *t, int key)
{
    static const char sorts[] = "rlwdn";
    const char *sort = key < 128 && key > 0 ? strchr(sorts, key) : NULL;
    if (key == 'q' || key == 'Q')
        return false;
    if (sort)
        t->by = (enum frame_sort)(sort - sorts);
    else if (key == KEY_DOWN || key == KEY_NPAGE)
        t->first += key == KEY_DOWN ? 1 : room_of();
    else if (key == KEY_UP || key == KEY_PPAGE) {
        size_t by = key == KEY_UP ? 1 : room_of();
        t->first = t->first > by ? t->first - by : 0;
    } else if (key == KEY_HOME)
        t->first = 0;
    draw(t); // another size of the terminal is a key, too
    return true;
}

static bool on_turn(void *ctx)
{
    struct top *t = ctx;
    int key;
    while (t->screen && (key = getch()) != ERR) {
        if (!take_key(t, key))
            return end_with(t, CTL_DONE);
    }
    return !t->over;
}

// ---- events -----------------------------------------------------------------------------------------------------

static bool print(struct top *t, struct view text)
{
    if (fwrite(text.p, 1, text.n, stdout) == text.n && fflush(stdout) == 0)
        return true;
    return end_with(t, complain(CTL_REFUSED, "standard output: %s", strerror(errno)));
}

// One frame, as text.
static bool print_frame(struct top *t)
{
    struct buffer text;
    buffer_init(&text);
    bool ok = frame_text(&t->frame, t->by, 0, t->frame.n, &text) || refuse(t, "out of memory");
    ok = ok && print(t, buffer_view(&text));
    buffer_deinit(&text);
    return ok;
}

static bool show(struct top *t, struct view data)
{
    bool rates = t->frame.ms > 0;
    *t->away = '\0';
    if (t->options->json && (rates || !t->options->once) &&
        !(print(t, data) && print(t, VIEW("\n"))))
        return false;
    if (t->options->once && rates && !t->options->json && !print_frame(t))
        return false;
    if (t->options->once || t->options->json)
        return !(t->options->once && rates) || end_with(t, CTL_DONE);
    if (!t->screen && !open_screen(t))
        return end_with(t, complain(CTL_UNANSWERED, "top: TERM names no terminal that is known"));
    draw(t);
    return true;
}

static bool on_event(void *ctx, struct view data, const char *id)
{
    struct top *t = ctx;
    json_t *event = json_loadb(data.p, data.n, 0, NULL);
    (void)id;
    bool ok = frame_take(&t->frame, event) || refuse(t, "what it told is no event of /live");
    json_decref(event);
    t->events += ok;
    return ok && show(t, data);
}

static bool on_comment(void *ctx, struct view text)
{
    (void)ctx;
    (void)text;
    return true;
}

static bool on_bytes(void *ctx, struct view bytes)
{
    struct top *t = ctx;
    return sse_take(&t->sse, bytes) || t->over || refuse(t, "what it told is no event of /live");
}

// ---- connections ------------------------------------------------------------------------------------------------

static void pause_between(struct top *t)
{
    for (uint64_t until_ms = clock_ms() + PAUSE_MS; !enough && !t->over && clock_ms() < until_ms;) {
        clock_pause(20);
        on_turn(t);
    }
}

// Nothing flows, for this reason: a live view goes on, one that never began does not.
static void on_away(struct top *t, enum ask_end end, const struct ask_flow *f, const char *why)
{
    if (end == ASK_ANSWERED && !f->flowed)
        end_with(t, complain_unflowed(t->ask, f));
    else if (t->events == 0 || !t->screen)
        end_with(t, complain(CTL_UNANSWERED, "%s",
                             f->whole ? "the gateway ended before a second was over" : why));
    if (t->over)
        return;
    snprintf(t->away, sizeof(t->away), "%s", f->whole ? "the gateway has ended" : why);
    sse_reset(&t->sse);
    draw(t);
    pause_between(t);
}

static void top(struct top *t, struct ask_flow *f)
{
    char why[ASK_ERROR] = "";
    while (!t->over && !enough) {
        enum ask_end end = ask_flow(t->ask, TOP_PATH, f, why);
        if (!t->over && !enough)
            on_away(t, end, f, why);
    }
}

enum ctl_exit top_run(const struct ctl_options *o, const struct ask *a)
{
    struct top t = {.options = o, .ask = a};
    struct ask_flow f = {.take = on_bytes, .turn = on_turn, .ctx = &t, .enough = &enough};
    struct sigaction act = {.sa_handler = on_signal};
    if (!o->once && !o->json && (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)))
        return complain(CTL_UNANSWERED, "top: expected a terminal; without one: --once, or --json");
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    sse_init(&t.sse);
    t.sse.on_event = on_event;
    t.sse.on_comment = on_comment;
    t.sse.ctx = &t;
    frame_init(&t.frame);
    buffer_init(&f.answer);
    top(&t, &f);
    close_screen(&t);
    buffer_deinit(&f.answer);
    frame_deinit(&t.frame);
    sse_deinit(&t.sse);
    return t.end;
}
