/* How the keeper comes to life and goes: everything that it holds is opened here, in the order in which a
 * failure is most useful to hear of, and closed here. */
#include "base/mem.h"
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
    static const int wanted[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGUSR1};
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

// argv: the command, then --listen ADDRESS --liveness-fd N.
static bool prepare_worker(struct keeper *k, struct local_worker *w)
{
    static char *const listen = (char *)(uintptr_t) "--listen";
    static char *const liveness = (char *)(uintptr_t) "--liveness-fd";
    char program[600], why[200];
    unsigned n = w->config->command_count;
    if (!runtime_find_program(w->config->command[0], program, sizeof(program))) {
        snprintf(why, sizeof(why), "worker \"%.60s\": program \"%.100s\" not found",
                 w->config->name, w->config->command[0]);
        return refuse(why);
    }
    snprintf(w->address, sizeof(w->address), "unix:%s/w%u-%u.sock", k->dir.path, w->worker,
             w->replica);
    w->program = mem_must(strlen(program) + 1);
    memcpy(w->program, program, strlen(program) + 1);
    w->words = mem_must_zero((n + 5) * sizeof(*w->words));
    for (unsigned i = 0; i < n; i++)
        w->words[i] = (char *)(uintptr_t)w->config->command[i]; // execv's type; not written to
    w->liveness_fd = k->boot.liveness_fd;
    snprintf(w->number, sizeof(w->number), "%d", w->liveness_fd);
    w->words[n] = listen;
    w->words[n + 1] = w->address;
    w->words[n + 2] = liveness;
    w->words[n + 3] = w->number;
    return true;
}

static bool prepare_workers(struct keeper *k)
{
    unsigned n = 0;
    for (unsigned i = 0; i < k->config->worker_count; i++)
        n += k->config->workers[i].replicas;
    if (n == 0)
        return true;
    char why[RUNTIME_ERROR];
    if (!runtime_dir_make(&k->dir, k->config->runtime_dir, why))
        return refuse(why);
    k->workers = mem_must_zero(n * sizeof(*k->workers)); // bounds: 4,096 sections, 64 replicas
    k->boot_workers = mem_must_zero(n * sizeof(*k->boot_workers));
    for (unsigned i = 0; i < k->config->worker_count; i++) {
        for (unsigned r = 0; r < k->config->workers[i].replicas; r++) {
            struct local_worker *w = &k->workers[k->worker_count];
            w->config = &k->config->workers[i];
            w->worker = i;
            w->replica = r;
            k->boot_workers[k->worker_count++] = (struct boot_worker){
                .name = w->config->name, .worker = i, .replica = r, .address = w->address};
            if (!prepare_worker(k, w))
                return false;
        }
    }
    k->boot.workers = k->boot_workers;
    k->boot.worker_count = k->worker_count;
    return true;
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
    if (!prepare_sockets(k) || !prepare_workers(k))
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
    for (unsigned i = 0; i < k->worker_count; i++) {
        struct local_worker *w = &k->workers[i];
        mem_free(w->words);
        mem_free(w->program);
    }
    mem_free(k->workers);
    mem_free(k->boot_workers);
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
