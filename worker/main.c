// sluice-worker: a model server for one device.
#include "base/check.h"
#include "base/mem.h"
#include "base/told.h"
#include "base/version.h"
#include "engine/cpu/device.h"
#include "net/listen.h"
#include "net/log.h"
#include "worker/compute.h"
#include "worker/explain.h"
#include "worker/serve.h"
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MAX_LISTEN 8
#define DRAIN_US 10000000 // how long SIGTERM waits for what runs

static const char usage[] =
    "usage: sluice-worker --repository DIR --listen ADDR [options]\n"
    "       sluice-worker explain MODEL [options]   what a model becomes; see explain --help\n"
    "  --repository DIR   models: DIR/NAME/VERSION/model.onnx\n"
    "  --listen ADDR      127.0.0.1:8001, [::1]:0 or unix:/path; may be given up to 8 times\n"
    "  --device cpu       the device to compute on (default cpu)\n"
    "  --threads N        threads that a kernel may use (default: one for each core)\n"
    "  --instances N      batches of a model computed at the same time, at most (default: 1, or\n"
    "                     what the instance_group of its config.pbtxt says)\n"
    "  --max-batch N      rows of a batch where a model's configuration does not say (default 64)\n"
    "  --model-memory N   MiB that a model may take: constants and one run (default 4096)\n"
    "  --liveness-fd N    end when this descriptor reads end of file\n"
    "  --help-onnx        the operators of model files that are taken, in Markdown\n"
    "  --version, --help\n";

struct options {
    const char *repository, *listen[MAX_LISTEN];
    unsigned n_listen, threads, instances, max_batch, model_mib;
    int liveness_fd;
};

struct worker_process {
    struct options o;
    struct loop loop;
    struct repository repository;
    struct compute *compute;
    unsigned computing; // threads
    struct engine *engine;
    struct serve serve;
    struct http_limits limits;
    struct server *servers[MAX_LISTEN];
    struct addr at[MAX_LISTEN]; // where they listen
    struct server_budget *budget;
    struct event *term, *quit, *interrupt, *liveness;
    struct wheel_timer drain;
    uint64_t told_us; // the first signal to end came then; 0: none has
    uint64_t drain_until_us;
};

static _Noreturn void die(int status, const char *what, const char *why)
{
    fprintf(stderr, "sluice-worker: %s: %s\n", what, why);
    exit(status);
}

static unsigned number(const char *option, const char *text, unsigned low, unsigned high)
{
    char *end, why[128];
    errno = 0;
    unsigned long n = strtoul(text, &end, 10);
    if (errno || *end || end == text || text[0] == '-' || n < low || n > high) {
        snprintf(why, sizeof(why), "expected a number of %u to %u, got \"%.40s\"", low, high, text);
        die(2, option, why);
    }
    return (unsigned)n;
}

static void add_listen(struct options *o, const char *address)
{
    if (o->n_listen == MAX_LISTEN)
        die(2, "--listen", "given more than 8 times");
    o->listen[o->n_listen++] = address;
}

static bool print_ops(void)
{
    char line[2048];
    bool ok =
        puts(
            "| op | inputs | outputs | attributes | types | limits |\n|---|---|---|---|---|---|") >=
        0;
    for (unsigned i = 0; ok && engine_op_line(i, line, sizeof(line)); i++)
        ok = puts(line) >= 0;
    return ok && fflush(stdout) == 0;
}

static void read_options(int argc, char **argv, struct options *o)
{
    static const struct option known[] = {
        {"repository", required_argument, NULL, 'r'},
        {"listen", required_argument, NULL, 'l'},
        {"device", required_argument, NULL, 'd'},
        {"threads", required_argument, NULL, 't'},
        {"instances", required_argument, NULL, 'i'},
        {"max-batch", required_argument, NULL, 'b'},
        {"model-memory", required_argument, NULL, 'm'},
        {"liveness-fd", required_argument, NULL, 'L'},
        {"help-onnx", no_argument, NULL, 'o'},
        {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int c;
    *o = (struct options){
        .threads = (unsigned)sysconf(_SC_NPROCESSORS_ONLN), .max_batch = 64, .liveness_fd = -1};
    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (c) {
        case 'r':
            o->repository = optarg;
            break;
        case 'l':
            add_listen(o, optarg);
            break;
        case 'd':
            if (strcmp(optarg, "cpu") != 0) {
                char why[96];
                snprintf(why, sizeof(why), "expected cpu (there is no other device), got \"%.40s\"",
                         optarg);
                die(2, "--device", why);
            }
            break;
        case 't':
            o->threads = number("--threads", optarg, 1, 1024);
            break;
        case 'i':
            o->instances = number("--instances", optarg, 1, 256);
            break;
        case 'b':
            o->max_batch = number("--max-batch", optarg, 0, 65536);
            break;
        case 'm':
            o->model_mib = number("--model-memory", optarg, 16, 1 << 24);
            break;
        case 'L':
            o->liveness_fd = (int)number("--liveness-fd", optarg, 0, 1 << 20);
            break;
        case 'o':
            exit(!print_ops());
        case 'v':
            exit(puts("sluice-worker " SLUICE_VERSION) < 0 || fflush(stdout) != 0);
        case 'h':
            exit(fputs(usage, stdout) < 0 || fflush(stdout) != 0);
        default:
            fputs(usage, stderr);
            exit(2);
        }
    }
    if (optind < argc)
        die(2, "unexpected argument", argv[optind]);
    if (!o->repository || o->n_listen == 0)
        die(2, o->repository ? "--listen" : "--repository", "is missing; see --help");
}

// ---- ending ------------------------------------------------------------------------------------------

static bool idle(struct worker_process *w)
{
    for (unsigned i = 0; i < w->o.n_listen; i++) {
        if (!server_idle(w->servers[i]))
            return false;
    }
    return serve_idle(&w->serve);
}

static void on_drain(struct wheel_timer *t, uint64_t now_us)
{
    struct worker_process *w = container_of(t, struct worker_process, drain);
    if (idle(w) || now_us >= w->drain_until_us)
        loop_stop(&w->loop);
    else
        wheel_set(loop_wheel(&w->loop), t, now_us + 5000);
}

static void on_signal(evutil_socket_t fd, short what, void *ctx)
{
    struct worker_process *w = ctx;
    (void)fd;
    (void)what;
    enum told_how told = told_to_end(&w->told_us, loop_now_us(&w->loop));
    if (told == TOLD_HURRY)
        loop_stop(&w->loop);
    if (told != TOLD_FIRST)
        return;
    w->serve.draining = true;
    w->drain_until_us = loop_now_us(&w->loop) + DRAIN_US;
    for (unsigned i = 0; i < w->o.n_listen; i++) {
        if (addr_is_unix(&w->at[i])) // now: later the name may be another worker's
            unlink(w->at[i].un.sun_path);
        server_drain(w->servers[i], &w->loop, loop_now_us(&w->loop));
        server_stop_accept(w->servers[i], &w->loop);
    }
    wheel_set(loop_wheel(&w->loop), &w->drain, loop_now_us(&w->loop) + 5000);
}

static void on_liveness(evutil_socket_t fd, short what, void *ctx)
{
    char byte;
    (void)what;
    (void)ctx;
    ssize_t n = read(fd, &byte, 1);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        _exit(0); // whoever started us is gone
}

// ---- starting ----------------------------------------------------------------------------------------

static void listen_on(struct worker_process *w, unsigned i)
{
    struct addr *a = &w->at[i];
    char err[LISTEN_ERROR], text[ADDR_TEXT];
    struct loop *loop = &w->loop;
    int fd;
    const char *why = addr_parse(a, view_str(w->o.listen[i]), 0);
    if (why)
        die(2, w->o.listen[i], why);
    if (listen_open(a, 1, &fd, err) < 0)
        die(1, "cannot listen", err);
    struct server_config c = {.name = w->o.listen[i],
                              .limits = &w->limits,
                              .ops = &serve_ops,
                              .ctx = &w->serve,
                              .budget = w->budget};
    w->servers[i] = server_new(&c, &loop, 1, &fd, 1);
    if (!w->servers[i])
        die(1, w->o.listen[i], "out of memory");
    server_start(w->servers[i], loop);
    const struct log_field fields[] = {LOG_CSTR("name", "worker"),
                                       LOG_CSTR("address", addr_print(a, text))};
    log_line_fd(STDERR_FILENO, LOG_INFO, log_wall_us(), "listening", fields, 2);
}

static void watch(struct worker_process *w)
{
    w->term = event_new(w->loop.base, SIGTERM, EV_SIGNAL | EV_PERSIST, on_signal, w);
    w->interrupt = event_new(w->loop.base, SIGINT, EV_SIGNAL | EV_PERSIST, on_signal, w);
    w->quit = event_new(w->loop.base, SIGQUIT, EV_SIGNAL | EV_PERSIST, on_signal, w);
    event_add(w->term, NULL);
    event_add(w->quit, NULL);
    if (w->o.liveness_fd < 0) {
        event_add(w->interrupt, NULL);
        return;
    }
    signal(SIGINT, SIG_IGN); // whoever started us decides
    evutil_make_socket_nonblocking(w->o.liveness_fd);
    w->liveness = event_new(w->loop.base, w->o.liveness_fd, EV_READ | EV_PERSIST, on_liveness, w);
    event_add(w->liveness, NULL);
}

static void start_engine(struct worker_process *w)
{
    struct cpu_options cpu = {.threads = w->o.threads};
    struct engine_error e;
    w->compute = compute_new(w->computing);
    if (!w->compute)
        die(1, "compute threads", strerror(errno));
    struct engine_limits limits = {.bytes = (size_t)w->o.model_mib << 20}; // 0: the engine's own
    w->engine = engine_new(cpu_device_new(cpu), compute_host(w->compute), limits, &e);
    if (!w->engine)
        die(1, "engine", e.text);
}

static void start(struct worker_process *w)
{
    char why[256];
    net_init();
    if (loop_init(&w->loop, 0, "worker", (uint64_t)getpid() ^ log_wall_us()) != 0)
        die(1, "loop", strerror(errno));
    w->computing = w->o.instances ? w->o.instances : (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    start_engine(w);
    struct repository_options o = {.max_batch = w->o.max_batch,
                                   .instances = w->o.instances ? w->o.instances : 1,
                                   .threads = w->computing};
    if (repository_load(&w->repository, w->engine, w->o.repository, o, why) != 0)
        die(1, "cannot serve", why);
    serve_init(&w->serve, &w->loop, &w->repository);
    http_limits_default(&w->limits);
    w->limits.max_streams = 1024; // gateways are few and have much to say
    w->limits.max_body = (size_t)1 << 30;
    w->limits.idle_timeout_us = UINT64_C(86400000000);
    w->limits.abuse_budget = 100000; // a gateway cancels in bursts
    w->drain.fn = on_drain;
    w->budget = server_budget_new(0, 0, rand_u64(&w->loop.rand));
    if (!w->budget)
        die(1, "connections", "out of memory");
    watch(w); // who hears that we listen may end us
    for (unsigned i = 0; i < w->o.n_listen; i++)
        listen_on(w, i);
}

static void stop(struct worker_process *w)
{
    for (unsigned i = 0; i < w->o.n_listen; i++)
        server_free(w->servers[i]);
    server_budget_free(w->budget);
    compute_stop(w->compute);
    if (serve_idle(&w->serve)) { // else what runs still refers to all of it
        serve_deinit(&w->serve);
        repository_free(&w->repository);
        engine_free(w->engine);
        compute_free(w->compute);
    }
    struct event *events[] = {w->term, w->quit, w->interrupt, w->liveness};
    for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
        if (events[i])
            event_free(events[i]);
    }
    loop_deinit(&w->loop);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "explain") == 0)
        return explain_main(argc - 1, argv + 1);
    struct worker_process *w = mem_must_aligned(sizeof(*w), 64);
    struct options o;
    read_options(argc, argv, &o);
    w->o = o;
    start(w);
    loop_run(&w->loop);
    stop(w);
    mem_free(w);
    return 0;
}
