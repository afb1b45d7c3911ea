/* How the keeper comes to life and goes: everything that it holds is opened here, in the order in which a
 * failure is most useful to hear of, and closed here. */
#include "gateway/secrets.h"
#include "keeper/event.h"
#include "keeper/state.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

static unsigned count_cores(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
    return n < 1 ? 1 : n > BOOT_MAX_LOOPS ? BOOT_MAX_LOOPS : (unsigned)n;
}

static bool refuse(const char *why)
{
    EVENT(LOG_ERROR, "start_failed", LOG_CSTR("why", why));
    return false;
}

static bool refuse_errno(const char *what)
{
    char why[128];
    snprintf(why, sizeof(why), "%s: %s", what, strerrordesc_np(errno));
    return refuse(why);
}

static bool prepare_signals(struct keeper *k)
{
    static const int wanted[] = {SIGCHLD, SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1};
    sigset_t set;
    sigemptyset(&set);
    for (unsigned i = 0; i < sizeof(wanted) / sizeof(*wanted); i++) {
        signal(wanted[i], SIG_DFL); // an inherited SIG_IGN for SIGCHLD would reap for us
        sigaddset(&set, wanted[i]);
    }
    signal(SIGPIPE, SIG_IGN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    k->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return k->signal_fd >= 0 || refuse_errno("signalfd");
}

static void prepare_process(void)
{
    struct rlimit files;
    // Inherited descriptors of whoever started us go no further than the gateway's fork.
    close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

static bool prepare_places(struct keeper *k)
{
    struct places_plan plan;
    char why[RUNTIME_ERROR], program[600];
    for (unsigned i = 0; i < k->config->worker_count; i++) {
        const struct config_worker *w = &k->config->workers[i];
        if (w->command_count == 0 || runtime_find_program(w->command[0], program, sizeof(program)))
            continue;
        snprintf(why, sizeof(why), "worker \"%.60s\": program \"%.100s\" not found", w->name,
                 w->command[0]);
        return refuse(why);
    }
    bool ok = places_prepare(k, k->config, &plan, why);
    if (ok)
        places_apply(k, k->config, &plan);
    places_plan_deinit(&plan);
    return ok || refuse(why);
}

static bool prepare_sockets(struct keeper *k)
{
    char why[RUNTIME_ERROR];
    if (!sockets_open(&k->sockets, k->config, k->boot.loops, why))
        return refuse(why);
    k->boot.listeners = k->sockets.listeners;
    k->boot.admin_fd = k->sockets.admin_fd;
    k->boot.admin_address = k->sockets.admin_address;
    for (unsigned i = 0; i < k->sockets.count; i++)
        EVENT(LOG_INFO, "listening", LOG_CSTR("name", k->sockets.listeners[i]->name),
              LOG_CSTR("address", k->sockets.listeners[i]->address));
    if (k->boot.admin_fd >= 0)
        EVENT(LOG_INFO, "listening", LOG_CSTR("name", "admin"),
              LOG_CSTR("address", k->boot.admin_address));
    return true;
}

static void on_event(void *ctx, const char *event, struct view line)
{
    struct keeper *k = ctx;
    relay_add(&k->relay, event, line);
    keeper_relay(k);
}

bool keeper_prepare(struct keeper *k, struct config *config, struct view text)
{
    event_listen(on_event, k);
    k->config = config_ref(config);
    buffer_init(&k->text);
    reload_init(&k->reload);
    k->dir.lock_fd = k->sockets.admin_fd = k->boot.admin_fd = k->boot.liveness_fd = -1;
    k->boot.keeper_fd = k->gateway_fd = k->liveness_write = k->signal_fd = -1;
    int pipe_fds[2];
    uint64_t seed;
    k->boot.config_text = (const uint8_t *)text.p;
    k->boot.config_bytes = text.n;
    k->boot.config_path = k->config->path;
    k->boot.config_generation = 1;
    k->boot.config_since_us = log_wall_us();
    k->boot.log_level = k->config->log.level;
    event_set_level((enum log_level)k->boot.log_level);
    k->boot.loops = k->config->loops ? k->config->loops : count_cores();
    tickets_start(&k->tickets, &k->boot.ticket_keys, config);
    if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
        return refuse_errno("getrandom");
    rand_seed(&k->rand, seed);
    prepare_process();
    if (!prepare_signals(k))
        return false;
    if (pipe2(pipe_fds, O_CLOEXEC) != 0)
        return refuse_errno("pipe");
    k->boot.liveness_fd = pipe_fds[0];
    k->liveness_write = pipe_fds[1];
    k->boot.page = runtime_page_new();
    if (!k->boot.page)
        return refuse_errno("mmap");
    if (!prepare_sockets(k) || !prepare_places(k))
        return false;
    secrets_guard(config);
    return true;
}

static void close_fd(int fd)
{
    if (fd >= 0)
        close(fd);
}

void keeper_clean_up(struct keeper *k)
{
    event_listen(NULL, NULL);
    reload_deinit(k);
    sockets_close(&k->sockets);
    places_free(k);
    runtime_dir_remove(&k->dir);
    runtime_page_free(k->boot.page);
    close_fd(k->boot.liveness_fd);
    close_fd(k->liveness_write);
    close_fd(k->gateway_fd);
    close_fd(k->signal_fd);
    buffer_deinit(&k->text);
    config_unref(k->config);
    explicit_bzero(&k->boot.ticket_keys, sizeof(k->boot.ticket_keys));
}
