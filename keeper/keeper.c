#include "keeper/keeper.h"
#include "base/mem.h"
#include "base/told.h"
#include "keeper/event.h"
#include "keeper/state.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_monotonic_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

// ---- the gateway process ------------------------------------------------------------------------------

static int gateway_body(void *arg)
{
    struct keeper *k = arg;
    // What is the keeper's alone: above all the end of the liveness pipe whose closing is the message.
    close(k->liveness_write);
    close(k->signal_fd);
    close(k->gateway_fd);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_NAME, "sluice-gateway");
    return k->gateway_main(&k->boot);
}

bool keeper_tell(const struct keeper *k, const struct boot_word *word)
{
    return k->gateway_fd >= 0 &&
           send(k->gateway_fd, word, sizeof(*word), MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof(*word);
}

void keeper_relay(struct keeper *k)
{
    if (k->gateway.state == CHILD_RUNNING)
        relay_flush(&k->relay, k->gateway_fd);
}

static void gateway_ready(struct keeper *k)
{
    if (k->gateway.state != CHILD_STARTING)
        return;
    child_ready(&k->gateway);
    EVENT(LOG_INFO, "ready", LOG_I("pid", k->gateway.pid), LOG_I("generation", k->boot.generation),
          LOG_I("took_us", now_monotonic_us() - k->gateway.started_us));
}

static void start_gateway(struct keeper *k, uint64_t now)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) {
        EVENT(LOG_ERROR, "fork_failed", LOG_CSTR("why", strerrordesc_np(errno)));
        k->gateway.started_us = now;
        child_died(&k->gateway, true, now, &k->rand);
        return;
    }
    memset(k->boot.page, 0, sizeof(*k->boot.page));
    watchdog_reset(&k->watchdog);
    k->abort_us = 0;
    k->gateway_fd = pair[0];
    k->boot.keeper_fd = pair[1];
    k->boot.generation = k->gateway.starts;
    reload_on_gateway_gone(k);
    places_for_boot(k);
    bool forked = child_fork(&k->gateway, gateway_body, k, now, &k->rand);
    close(pair[1]);
    k->boot.keeper_fd = -1;
    if (forked) {
        EVENT(LOG_INFO, "gateway_started", LOG_I("pid", k->gateway.pid),
              LOG_I("generation", k->boot.generation), LOG_I("loops", k->boot.loops));
        places_tell_all(k); // those that were quicker
    } else {
        close(k->gateway_fd);
        k->gateway_fd = -1;
    }
}

static void set_log_level(struct keeper *k, uint32_t level)
{
    if (level >= LOG_LEVELS)
        return;
    k->boot.log_level = level;
    event_set_level((enum log_level)level);
}

static void hear_word(struct keeper *k, const struct boot_said *said)
{
    const struct boot_word *word = &said->word;
    if (word->kind == BOOT_READY)
        gateway_ready(k);
    else if (word->kind == BOOT_WORKER_HANGS)
        places_on_hangs(k, word);
    else if (word->kind == BOOT_PLACE_LEFT)
        places_on_left(k, word->place, now_monotonic_us());
    else if (word->kind == BOOT_DRAIN_ASKED)
        k->drain_asked = true; // the turn does it: this may be the last word of one that was reaped
    else if (word->kind == BOOT_RELOAD_ASKED)
        reload_ask(k, word->how);
    else if (word->kind == BOOT_TAKEN)
        reload_on_taken(k, said, now_monotonic_us());
    else if (word->kind == BOOT_LET_GO)
        reload_on_let_go(k);
    else if (word->kind == BOOT_LOG_LEVEL)
        set_log_level(k, word->how);
}

static void hear_gateway(struct keeper *k)
{
    struct boot_said said; // the longest that it says
    for (;;) {
        ssize_t n = recv(k->gateway_fd, &said, sizeof(said), MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n < 0 &&
            errno ==
                ECONNRESET) // it ended with words of ours unread: said once, before its own last ones
            continue;
        if (n <= 0) { // it has gone, or will in a moment: SIGCHLD tells the rest
            close(k->gateway_fd);
            k->gateway_fd = -1;
            return;
        }
        if (n < (ssize_t)sizeof(said.word))
            continue;
        if (n <= (ssize_t)offsetof(struct boot_said, text))
            said.text[0] = '\0';
        said.text[BOOT_TEXT - 1] = '\0';
        hear_word(k, &said);
    }
}

static void abort_gateway(struct keeper *k, uint64_t now)
{
    child_signal(&k->gateway, SIGABRT);
    child_signal(&k->gateway, SIGCONT); // a stopped process does not act on the other
    k->abort_us = now + KEEPER_ABORT_US;
}

static void watch_gateway(struct keeper *k, uint64_t now)
{
    if (!child_alive(&k->gateway))
        return;
    if (k->abort_us) {
        if (now >= k->abort_us)
            child_signal(&k->gateway, SIGKILL);
        return;
    }
    if (k->phase != RUNNING || now < k->watchdog.last_look_us + WATCHDOG_TICK_US)
        return;
    int stuck =
        watchdog_look(&k->watchdog, k->boot.page, k->boot.loops, k->config->watchdog_us, now);
    if (stuck != WATCHDOG_FINE) {
        bool is_main = stuck == (int)k->boot.loops;
        EVENT(LOG_ERROR, "gateway_stuck", LOG_I("pid", k->gateway.pid),
              LOG_CSTR("thread", is_main ? "main" : "loop"), LOG_I("loop", is_main ? -1 : stuck),
              LOG_I("still_us", k->watchdog.still_us[stuck]));
        abort_gateway(k, now);
    } else if (k->gateway.state == CHILD_STARTING &&
               now - k->gateway.started_us > KEEPER_START_US) {
        EVENT(LOG_ERROR, "gateway_stuck", LOG_I("pid", k->gateway.pid),
              LOG_CSTR("thread", "start"));
        abort_gateway(k, now);
    }
}

// ---- deaths -------------------------------------------------------------------------------------------

static void begin_stop(struct keeper *k, uint64_t now)
{
    k->phase = STOPPING;
    k->deadline_us = now + KEEPER_WORKER_STOP_US;
    places_end(k);
}

static const char *how(int status, int *number)
{
    *number = WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
    return WIFSIGNALED(status) ? "signal" : "status";
}

// The first start failed for a reason that a second will not cure, or too many have failed.
static bool is_hopeless(const struct keeper *k, int status)
{
    return !k->gateway.was_ready && ((WIFEXITED(status) && WEXITSTATUS(status) != 0) ||
                                     k->gateway.starts >= KEEPER_GATEWAY_STARTS);
}

static void gateway_died(struct keeper *k, int status, uint64_t now)
{
    int number;
    const char *kind = how(status, &number);
    bool hopeless = k->phase == RUNNING && is_hopeless(k, status);
    EVENT(k->phase == RUNNING || number ? LOG_ERROR : LOG_INFO, "gateway_exited",
          LOG_I("pid", k->gateway.pid), LOG_I(kind, number),
          LOG_I("lived_us", now - k->gateway.started_us));
    if (k->gateway_fd >= 0)
        hear_gateway(k); // a last word, then end of file
    if (k->gateway_fd >= 0)
        close(k->gateway_fd);
    k->gateway_fd = -1;
    k->abort_us = 0;
    reload_on_gateway_gone(k);
    child_died(&k->gateway, k->phase == RUNNING && !hopeless, now, &k->rand);
    if (hopeless)
        EVENT(LOG_ERROR, "giving_up", LOG_I("starts", k->gateway.starts));
    if (k->phase == DRAINING && number)
        k->status = 1; // requests were lost
    if (hopeless)
        k->status = 1;
    if (hopeless || k->phase == DRAINING)
        begin_stop(k, now);
}

static void reap(struct keeper *k, uint64_t now)
{
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        if (reload_reap(k, pid, status, now) || places_reap(k, pid, status, now))
            continue;
        if (pid == k->gateway.pid)
            gateway_died(k, status, now);
    }
}

// ---- signals ------------------------------------------------------------------------------------------

static void kill_all(struct keeper *k)
{
    child_signal(&k->gateway, SIGKILL);
    places_signal(k, SIGKILL);
    k->deadline_us = 0;
}

static void begin_drain(struct keeper *k, const char *why, uint64_t now)
{
    EVENT(LOG_INFO, "draining", LOG_CSTR("why", why), LOG_I("delay_us", k->config->drain_delay_us),
          LOG_I("timeout_us", k->config->drain_timeout_us));
    k->phase = DRAINING;
    k->deadline_us =
        now + k->config->drain_delay_us + k->config->drain_timeout_us + KEEPER_DRAIN_GRACE_US;
    if (!child_alive(&k->gateway)) {
        k->gateway.state = CHILD_OVER;
        begin_stop(k, now);
    } else if (!keeper_tell(k, &(struct boot_word){.kind = BOOT_DRAIN})) {
        child_signal(&k->gateway, SIGTERM);
    }
    sockets_let_go(&k->sockets); // no other gateway process follows
    sockets_let_go(&k->reload.sockets);
}

static void cut(struct keeper *k, int number)
{
    EVENT(LOG_WARN, "cut", LOG_I("signal", number));
    if (k->phase == DRAINING) {
        k->phase = STOPPING; // the gateway's end by our own hand is no failure
        places_give_up(k);
    }
    kill_all(k);
}

// Only signals cut: the first one behind an operator's drain is as good as none.
static void on_end_signal(struct keeper *k, int number, uint64_t now)
{
    const char *name = number == SIGTERM ? "SIGTERM" : number == SIGINT ? "SIGINT" : "SIGQUIT";
    enum told_how told = told_to_end(&k->told_us, now);
    if (k->phase == RUNNING)
        begin_drain(k, name, now);
    else if (told == TOLD_HURRY)
        cut(k, number);
    else
        EVENT(LOG_INFO, "told_again", LOG_CSTR("why", name));
}

static void on_signal(struct keeper *k, int number, uint64_t now)
{
    switch (number) {
    case SIGTERM:
    case SIGINT:
    case SIGQUIT:
        on_end_signal(k, number, now);
        break;
    case SIGUSR1:
        child_signal(&k->gateway, SIGUSR1);
        break;
    case SIGHUP:
        reload_ask(k, 0);
        break;
    default: // SIGCHLD: reap() looks at every turn
        break;
    }
}

// ---- the turn -----------------------------------------------------------------------------------------

static bool all_over(const struct keeper *k)
{
    return !child_alive(&k->gateway) && places_over(k);
}

static void rotate_tickets(struct keeper *k, uint64_t now)
{
    struct boot_ticket_keys said = {.word.kind = BOOT_TICKET_KEYS};
    if (!tickets_due(&k->tickets, &k->boot.ticket_keys, now) || k->gateway_fd < 0)
        return; // a gateway that starts later has them from the boot
    said.keys = k->boot.ticket_keys;
    k->tickets.untold = send(k->gateway_fd, &said, sizeof(said), MSG_NOSIGNAL | MSG_DONTWAIT) < 0;
    explicit_bzero(&said, sizeof(said));
}

// What time brings: starts that are due, looks, deadlines.
static void advance(struct keeper *k, uint64_t now)
{
    rotate_tickets(k, now);
    keeper_relay(k);
    if (k->drain_asked && k->phase == RUNNING)
        begin_drain(k, "an operator's word", now);
    reload_turn(k, now);
    places_turn(k, now);
    if (k->gateway.state == CHILD_WAITING && now >= k->gateway.at_us)
        start_gateway(k, now);
    watch_gateway(k, now);
    if (k->phase >= DRAINING && k->deadline_us && now >= k->deadline_us) {
        EVENT(LOG_ERROR, "drain_timed_out",
              LOG_CSTR("phase", k->phase == DRAINING ? "gateway" : "workers"));
        if (k->phase == DRAINING) {
            child_signal(&k->gateway, SIGKILL);
            k->deadline_us = 0;
        } else {
            kill_all(k);
        }
    }
    if (k->phase == STOPPING && all_over(k))
        k->phase = OVER;
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t next_wake(const struct keeper *k, uint64_t now)
{
    uint64_t at = sooner(now + WATCHDOG_TICK_US, places_wake_us(k, now));
    if (k->gateway.state == CHILD_WAITING)
        at = sooner(at, k->gateway.at_us);
    if (k->deadline_us)
        at = sooner(at, k->deadline_us);
    return sooner(at, reload_wake_us(&k->reload));
}

static void wait_for_news(struct keeper *k, uint64_t until_us)
{
    struct pollfd p[2] = {{.fd = k->signal_fd, .events = POLLIN},
                          {.fd = k->gateway_fd, .events = POLLIN}}; // -1 is skipped
    uint64_t now = now_monotonic_us();
    uint64_t wait_us = until_us > now ? until_us - now : 0;
    struct timespec t = {(time_t)(wait_us / 1000000), (long)(wait_us % 1000000) * 1000};
    if (ppoll(p, 2, &t, NULL) <= 0)
        return;
    if (p[1].revents)
        hear_gateway(k);
    struct signalfd_siginfo s;
    while (read(k->signal_fd, &s, sizeof(s)) == sizeof(s))
        on_signal(k, (int)s.ssi_signo, now_monotonic_us());
}

int keeper_run(struct config *config, struct view text,
               int (*gateway)(const struct gateway_boot *boot))
{
    struct keeper *k = mem_must_zero(sizeof(*k));
    k->gateway_main = gateway;
    if (keeper_prepare(k, config, text)) {
        while (k->phase != OVER) {
            uint64_t now = now_monotonic_us();
            reap(k, now);
            advance(k, now);
            if (k->phase != OVER)
                wait_for_news(k, next_wake(k, now));
        }
        EVENT(LOG_INFO, "stopped", LOG_I("status", k->status));
    } else {
        k->status = 1;
    }
    keeper_clean_up(k);
    int status = k->status;
    mem_free(k);
    return status;
}
