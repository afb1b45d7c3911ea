#include "gateway/gateway.h"

#include "base/check.h"
#include "base/mem.h"
#include "base/told.h"
#include "gateway/creations.h"
#include "gateway/doors.h"
#include "gateway/front.h"
#include "gateway/levels.h"
#include "gateway/live.h"
#include "gateway/origin.h"
#include "gateway/pages.h"
#include "gateway/predictions.h"
#include "gateway/process.h"
#include "gateway/reload.h"
#include "gateway/removal.h"
#include "gateway/shadows.h"
#include "gateway/show.h"
#include "gateway/trial_store.h"
#include "gateway/trials.h"
#include "net/listen.h"
#include "net/memory.h"
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static bool say(struct gateway *g, const struct boot_word *word)
{
    return g->boot->keeper_fd >= 0 && send(g->boot->keeper_fd, word, sizeof(*word),
                                           MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof(*word);
}

bool gateway_say_hangs(struct gateway *g, uint32_t place, uint32_t pid)
{
    return say(g, &(struct boot_word){BOOT_WORKER_HANGS, place, pid, 0});
}

bool gateway_say_left(struct gateway *g, uint32_t place)
{
    return say(g, &(struct boot_word){.kind = BOOT_PLACE_LEFT, .place = place});
}

bool gateway_say_drain(struct gateway *g)
{
    return say(g, &(struct boot_word){.kind = BOOT_DRAIN_ASKED});
}

bool gateway_say_reload(struct gateway *g, uint32_t wish)
{
    return say(g, &(struct boot_word){.kind = BOOT_RELOAD_ASKED, .how = wish});
}

bool gateway_say_taken(struct gateway *g, const char *why)
{
    struct boot_said said = {.word = {.kind = BOOT_TAKEN, .how = why == NULL}};
    snprintf(said.text, sizeof(said.text), "%s", why ? why : "");
    size_t n = offsetof(struct boot_said, text) + strlen(said.text) + 1;
    return g->boot->keeper_fd >= 0 &&
           send(g->boot->keeper_fd, &said, n, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)n;
}

bool gateway_say_let_go(struct gateway *g)
{
    return say(g, &(struct boot_word){.kind = BOOT_LET_GO});
}

bool gateway_say_log_level(struct gateway *g, enum log_level level)
{
    return say(g, &(struct boot_word){.kind = BOOT_LOG_LEVEL, .how = level});
}

// ---- ending ------------------------------------------------------------------------------------------

#define CUT_GRACE_US 1000000 // for what was cut to come home: tickets that workers still hold

static bool all_idle(const struct gateway *g)
{
    if (!parts_idle(g))
        return false;
    for (const struct front *f = g->fronts; f; f = f->next) {
        if (!server_idle(f->server))
            return false;
    }
    return true;
}

static void each_server(struct gateway *g, void (*fn)(struct server *s, struct loop *from))
{
    for (const struct front *f = g->fronts; f; f = f->next)
        fn(f->server, &g->main);
}

static void end(struct gateway *g)
{
    g->phase = PHASE_OVER;
    events_end(g->events); // they leave with what this turn flushes
    live_end(g->live);
    wheel_cancel(loop_wheel(&g->main), &g->drain_timer);
    loop_stop(&g->main);
}

static void finish(struct gateway *g, uint64_t now_us)
{
    g->phase = PHASE_FINISHING;
    g->drain_until_us = now_us + g->snap->config->drain_timeout_us;
    each_server(g, server_stop_accept);
    wheel_set(loop_wheel(&g->main), &g->drain_timer, now_us + 5000);
}

static void cut(struct gateway *g, const char *why)
{
    if (g->phase == PHASE_CUTTING)
        return;
    GATEWAY_EVENT(g, NULL, LOG_WARN, "cut", LOG_CSTR("why", why));
    if (g->phase != PHASE_FINISHING)
        each_server(g, server_stop_accept);
    g->phase = PHASE_CUTTING;
    g->drain_until_us = loop_now_us(&g->main) + CUT_GRACE_US;
    each_server(g, server_cut);
    wheel_set(loop_wheel(&g->main), &g->drain_timer, loop_now_us(&g->main) + 5000);
}

static void on_drain_timer(struct wheel_timer *t, uint64_t now_us)
{
    struct gateway *g = container_of(t, struct gateway, drain_timer);
    if (g->phase == PHASE_DELAYING) {
        finish(g, now_us);
    } else if (all_idle(g) && trial_store_is_done(g)) {
        end(g);
    } else if (now_us >= g->drain_until_us && g->phase == PHASE_FINISHING) {
        cut(g, "drain_timeout has passed");
    } else if (now_us >= g->drain_until_us) {
        end(g);
    } else {
        wheel_set(loop_wheel(&g->main), t, now_us + 5000);
    }
}

// A service manager tells every process of the service to end, so that we hear it twice: by the signal and
// from the keeper. That is one wish; only the same voice asking again means that it is in a hurry. (The
// keeper then kills us: it never asks twice.)
static void drain(struct gateway *g, const char *why)
{
    uint64_t now_us = loop_now_us(&g->main);
    if (g->phase != PHASE_RUNNING) {
        GATEWAY_EVENT(g, NULL, LOG_INFO, "told_again", LOG_CSTR("why", why));
        return;
    }
    g->phase = PHASE_DELAYING;
    atomic_store(&g->draining, true);
    reload_on_drain(g);
    GATEWAY_EVENT(g, NULL, LOG_INFO, "draining", LOG_CSTR("why", why),
                  LOG_I("delay_ms", g->snap->config->drain_delay_us / 1000),
                  LOG_I("timeout_ms", g->snap->config->drain_timeout_us / 1000));
    shadows_call_all(g);
    for (const struct front *f = g->fronts; f; f = f->next)
        server_drain(f->server, &g->main, now_us + g->snap->config->drain_delay_us);
    wheel_set(loop_wheel(&g->main), &g->drain_timer, now_us + g->snap->config->drain_delay_us);
}

// ---- signals and the keeper --------------------------------------------------------------------------

static void on_term(evutil_socket_t fd, short what, void *ctx)
{
    struct gateway *g = ctx;
    enum told_how told = told_to_end(&g->told_us, loop_now_us(&g->main));
    (void)what;
    if (told != TOLD_HURRY)
        drain(g, fd == SIGTERM ? "SIGTERM" : "SIGQUIT");
    else if (g->phase != PHASE_OVER)
        cut(g, "a second signal");
}

static void on_usr1(evutil_socket_t fd, short what, void *ctx)
{
    struct gateway *g = ctx;
    (void)fd;
    (void)what;
    log_reopen(g->log);
}

static void keeper_gone(struct gateway *g)
{
    (void)g;
    _exit(
        3); // nobody is left to hold the sockets or to start us again: end at once, like our siblings
}

static void on_liveness(evutil_socket_t fd, short what, void *ctx)
{
    char byte;
    (void)what;
    ssize_t n = read(fd, &byte, 1);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        keeper_gone(ctx);
}

static void take_ticket_keys(struct gateway *g, const struct tls_ticket_keys *keys)
{
    g->ticket_keys = *keys;
    for (const struct front *f = g->fronts; f; f = f->next) {
        if (f->tls)
            tls_server_set_keys(f->tls, keys, &g->main, g->loops.loop);
    }
    GATEWAY_EVENT(g, NULL, LOG_INFO, "ticket_keys_rotated", LOG_I("keys", keys->n));
}

static void hear_word(struct gateway *g, const struct boot_word *word)
{
    if (word->kind == BOOT_DRAIN)
        drain(g, "the keeper says so");
    else if (word->kind == BOOT_WORKER_UP)
        parts_kick_worker(g, word->place);
    else if (word->kind == BOOT_WORKER_GONE)
        parts_worker_gone(g, word->place, word->pid, word->how == BOOT_CRASHED);
}

static void relay_event(struct gateway *g, const struct boot_said *said, size_t bytes)
{
    size_t name = strlen(said->text) + 1;
    if (name < bytes)
        events_relay(g->events, said->text, view_str(said->text + name), said->word.how);
}

union keeper_words { // whatever the keeper says
    struct boot_word word;
    struct boot_ticket_keys keys;
    struct boot_listen listener;
    struct boot_offer offer;
    struct boot_said said;
};

static void hear(struct gateway *g, union keeper_words *w, size_t n, const int *fds, unsigned n_fds)
{
    if (w->word.kind == BOOT_OFFER && n == sizeof(w->offer) && n_fds == 1) {
        reload_on_offer(g, &w->offer, fds[0]);
        return;
    }
    if (w->word.kind == BOOT_LISTENER && n == sizeof(w->listener)) {
        handed_add(&g->reload.handed, &w->listener, fds, n_fds);
        return;
    }
    for (unsigned i = 0; i < n_fds; i++)
        close(fds[i]);
    if (w->word.kind == BOOT_TICKET_KEYS && n == sizeof(w->keys))
        take_ticket_keys(g, &w->keys.keys);
    else if (w->word.kind == BOOT_RELOADED && n > offsetof(struct boot_said, text))
        reload_on_end(g, &w->said);
    else if (w->word.kind == BOOT_EVENT && n > offsetof(struct boot_said, text))
        relay_event(g, &w->said, n - offsetof(struct boot_said, text));
    else if (!DOOR_KEEPS_WORD(g, &w->word, hear_word))
        hear_word(g, &w->word);
}

static void on_keeper(evutil_socket_t fd, short what, void *ctx)
{
    struct gateway *g = ctx;
    union keeper_words w;
    (void)what;
    for (;;) {
        int fds[FDS_MAX];
        unsigned n_fds = FDS_MAX;
        long n = fds_recv(fd, &w, sizeof(w), fds, &n_fds);
        if (n == 0 || (n < 0 && errno == ECONNRESET))
            keeper_gone(g);
        if (n < (long)sizeof(w.word))
            return;
        w.said.text[BOOT_TEXT - 1] = '\0';
        hear(g, &w, (size_t)n, fds, n_fds);
        explicit_bzero(&w, sizeof(w));
    }
}

static struct event *watch(struct gateway *g, int fd, short what, event_callback_fn fn)
{
    struct event *e = event_new(g->main.base, fd, what, fn, g);
    if (e && event_add(e, NULL) != 0) {
        event_free(e);
        e = NULL;
    }
    return e;
}

static bool watch_all(struct gateway *g)
{
    signal(SIGINT, SIG_IGN); // Ctrl-C reaches the whole foreground group; the keeper decides
    signal(SIGHUP, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); // a file that may grow no more is an error of its write
    g->term_event = watch(g, SIGTERM, EV_SIGNAL | EV_PERSIST, on_term);
    g->quit_event = watch(g, SIGQUIT, EV_SIGNAL | EV_PERSIST, on_term);
    g->usr1_event = watch(g, SIGUSR1, EV_SIGNAL | EV_PERSIST, on_usr1);
    if (!g->term_event || !g->quit_event || !g->usr1_event)
        return false;
    sigset_t none; // what came since the fork has waited for us
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
    if (g->boot->keeper_fd >= 0)
        g->keeper_event = watch(g, g->boot->keeper_fd, EV_READ | EV_PERSIST, on_keeper);
    if (g->boot->liveness_fd >= 0)
        g->liveness_event = watch(g, g->boot->liveness_fd, EV_READ | EV_PERSIST, on_liveness);
    return (g->boot->keeper_fd < 0 || g->keeper_event) &&
           (g->boot->liveness_fd < 0 || g->liveness_event);
}

static void unwatch_all(struct gateway *g)
{
    struct event *events[] = {g->term_event, g->quit_event, g->usr1_event, g->keeper_event,
                              g->liveness_event};
    for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
        if (events[i])
            event_free(events[i]);
    }
}

// ---- building ----------------------------------------------------------------------------------------

// Says why there will be no gateway, in the form of every other event, and gives false.
static bool refuse(struct gateway *g, const char *what, const char *why)
{
    const struct log_field fields[] = {LOG_CSTR("what", what), LOG_CSTR("why", why)};
    (void)g;
    log_line_fd(STDERR_FILENO, LOG_ERROR, log_wall_us(), "gateway_refused", fields, 2);
    return false;
}

static bool build_log(struct gateway *g)
{
    g->log = log_new(g->loops.n + 1, g->birth->log.ring_bytes);
    if (!g->log)
        return refuse(g, "log", "out of memory");
    log_set_level(g->log, (enum log_level)g->boot->log_level);
    const char *access = g->birth->log.access;
    if (access && log_open(g->log, SINK_ACCESS, log_path(access)) != 0)
        return refuse(g, access, strerror(errno));
    return log_start(g->log) == 0 || refuse(g, "log thread", strerror(errno));
}

static bool build_loops(struct gateway *g)
{
    uint64_t seed = 0x51a1ce ^ ((uint64_t)getpid() << 20) ^ log_wall_us();
    if (getrandom(g->secret, sizeof(g->secret), 0) != sizeof(g->secret))
        return refuse(g, "getrandom", strerror(errno));
    net_init();
    if (loops_init(&g->loops, g->boot->loops, seed) != 0)
        return refuse(g, "loops", strerror(errno));
    if (loop_init(&g->main, g->loops.n, "main", seed + 1) != 0)
        return refuse(g, "main loop", strerror(errno));
    if (g->boot->page) {
        for (unsigned i = 0; i < g->loops.n; i++)
            g->loops.loop[i]->heartbeat = &g->boot->page->loop[i].turn_us;
        g->main.heartbeat = &g->boot->page->main.turn_us;
    }
    g->started_us = loop_now_us(&g->main);
    snprintf(g->boot_id, sizeof(g->boot_id), "%016llx%016llx",
             (unsigned long long)rand_u64(&g->main.rand),
             (unsigned long long)rand_u64(&g->main.rand));
    g->events = events_new(g, g->loops.n);
    g->live = live_new(g);
    return (g->events && g->live) || refuse(g, "events", "out of memory");
}

static bool build_front(struct gateway *g, unsigned index)
{
    const struct boot_listener *b = g->boot->listeners[index];
    const struct config_listen *l = &g->birth->listens[index];
    char why[TLS_ERROR];
    g->snap->fronts[index] = front_new(g, b->id, b->address, b->fds, b->n, l, why);
    return g->snap->fronts[index] || refuse(g, l->name, why);
}

static bool build_admin(struct gateway *g)
{
    char token[TOKEN_BYTES + 1] = "";
    const char *why = NULL;
    if (g->boot->admin_fd < 0)
        return true;
    const char *path = g->birth->admin.token_file;
    if (path && admin_read_token(path, token, &why) != 0)
        return refuse(g, path, why);
    g->admin =
        admin_new(&g->main, g->boot->admin_fd, view_str(token), &g->snap->limits, pages, PAGES, g);
    explicit_bzero(token, sizeof(token));
    return g->admin != NULL || refuse(g, "admin", "out of memory");
}

static bool build_config(struct gateway *g)
{
    struct config_errors errors;
    g->birth = config_parse(view_of(g->boot->config_text, g->boot->config_bytes),
                            g->boot->config_path, &errors);
    if (!g->birth)
        return refuse(g, g->boot->config_path, errors.error[0].text);
    g->ticket_keys = g->boot->ticket_keys;
    g->reload.memory_fd = -1;
    return true;
}

static bool build_snapshot(struct gateway *g)
{
    char why[FILE_WHY];
    creations_start(g);
    struct snapshot *p = creations_snapshot(g, config_ref(g->birth), g->boot->config_generation,
                                            g->boot->config_since_us, why);
    if (p)
        snapshot_first(p);
    return p || refuse(g, g->boot->config_path, why);
}

#define FDS_AT_HAND 16 // operators, log files that are opened again, certificates

// Before listeners are there, the first ones' sockets apart.
static unsigned descriptors_left(const struct gateway *g)
{
    struct rlimit files;
    int lowest = dup(STDERR_FILENO); // the lowest free one: so many are open
    if (lowest < 0 || getrlimit(RLIMIT_NOFILE, &files) != 0)
        return UINT_MAX;
    close(lowest);
    if (files.rlim_cur > UINT_MAX)
        return UINT_MAX;
    uint64_t first = (uint64_t)g->loops.n * g->birth->listen_count;
    uint64_t left = files.rlim_cur + first - (uint64_t)lowest;
    return left < UINT_MAX ? (unsigned)left : UINT_MAX;
}

// limits.max_connections, or less if descriptors are fewer. What we need ourselves is never a client's, so that the
// operators' listener answers and workers are connected to when clients have all the rest: a listener has its socket
// and one to spare.
unsigned gateway_connections(const struct gateway *g, const struct config *c)
{
    uint64_t ours = FDS_AT_HAND + g->loops.n * (config_replicas(c) + 2 * (uint64_t)c->listen_count);
    uint64_t left = g->descriptors > ours ? g->descriptors - ours : 1;
    return left < c->limits.max_connections ? (unsigned)left : c->limits.max_connections;
}

int64_t gateway_bytes(const struct config *c)
{
    return c->limits.bytes_in_flight ? (int64_t)c->limits.bytes_in_flight : memory_total() / 4;
}

static bool build_predictions(struct gateway *g)
{
    char why[FILE_WHY] = "out of memory";
    g->predictions = predictions_new(g);
    if (!g->predictions || !predictions_prepare(g->predictions, g->birth, why))
        return refuse(g, "predictions", why);
    predictions_adopt(g->predictions, g->birth, g->snap->store);
    return true;
}

static bool build(struct gateway *g)
{
    if (!build_config(g) || !build_loops(g) || !build_log(g) || !build_snapshot(g) ||
        !build_predictions(g))
        return false;
    g->descriptors = descriptors_left(g);
    g->connections =
        server_budget_new(gateway_connections(g, g->birth),
                          g->birth->limits.max_connections_per_address, rand_u64(&g->main.rand));
    if (!g->connections)
        return refuse(g, "listeners", "out of memory");
    if (!parts_build(g))
        return false;
    for (unsigned i = 0; i < g->birth->listen_count; i++) {
        if (!build_front(g, i))
            return false;
    }
    g->drain_timer.fn = on_drain_timer;
    return build_admin(g) && (watch_all(g) || refuse(g, "signals", strerror(errno)));
}

static void run(struct gateway *g)
{
    DOORS_OPEN(g);
    levels_start(g);
    trials_start(g);
    if (loops_start(&g->loops) != 0) {
        refuse(g, "threads", strerror(errno));
        g->exit_status = 1;
        return;
    }
    fronts_publish(g);
    fronts_in_force(g);
    removals_start(g);
    fleet_go_on(g);
    if (g->admin)
        admin_start(g->admin);
    GATEWAY_EVENT(g, NULL, LOG_INFO, "gateway_started", LOG_I("loops", g->loops.n),
                  LOG_I("generation", g->boot->generation), LOG_I("pid", getpid()));
    say(g, &(struct boot_word){.kind = BOOT_READY});
    loop_run(&g->main);
    loops_stop(&g->loops);
}

static void tear_down(struct gateway *g)
{
    // Clients first, then what answers them: an exchange that dies tells its infer, which needs its part.
    while (g->fronts)
        front_drop(g->fronts);
    show_drop(g);
    reload_drop(g);
    levels_free(g);
    trials_free(g);
    creations_free(g);
    admin_free(g->admin);
    parts_free(g);
    predictions_stop(g->predictions);
    predictions_free(g->predictions);
    DOORS_CLOSE(g);
    unwatch_all(g);
    log_free(g->log);
    live_free(g->live);
    events_free(g->events);
    loops_deinit(&g->loops);
    loop_deinit(&g->main);
    server_budget_free(g->connections);
    snapshots_free(g);
    config_unref(g->birth);
}

int gateway_main(const struct gateway_boot *boot)
{
    static struct gateway
        *g; // leak checkers find what a process holds that ends without giving it back
    mem_map_large();
    g = mem_must_aligned(sizeof(*g), 64);
    g->boot = boot;
    if (!build(g))
        return 1; // the process ends: what was built goes with it
    run(g);
    int status = g->exit_status;
    if (!parts_idle(g)) { // a worker still holds what was lent to it, and the time to wait is over
        predictions_stop(g->predictions);
        log_free(g->log);
        return status;
    }
    tear_down(g);
    mem_free(g);
    return status;
}
