// The keeper as it lives: real processes, a gateway and workers that play their part (rows 135, 136, 137, 144).
// This program is the keeper, the gateway (forked) and, with "worker" as its first argument, a worker.
#include "base/told.h"
#include "keeper/keeper.h"
#include "net/listen.h"
#include "net/log.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
// cmocka wants the above before it
#include <cmocka.h>

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

// ---- the actors ---------------------------------------------------------------------------------------

enum play {
    GOOD,
    STUCK,
    FAILS,
    CRASHES,
    NEVER_ENDS,
    SIGNALLED_EARLY,
    DOUBTS,
    DOUBTS_ALL,
    ASKS_DRAIN,
    ASKS_DRAIN_AND_DIES, // with what the keeper said unread
    SETS_LEVEL,
    TAKES,       // what it is offered
    CLINGS,      // likewise, and has let go of sockets only when it says so
    ASKS_RELOAD, // and does not want what it is offered then
    DIES_OFFERED
};
static enum play play;
static struct boot_word heard_up[2]; // the gateway's: the first worker that came up, and the last
static volatile sig_atomic_t usr1;   // it was heard, and is not answered yet

static void on_usr1(int number)
{
    dprintf(2, "{\"event\":\"play_usr1\"}\n");
    usr1 = 1;
}

static void say(int fd, struct boot_word w)
{
    if (send(fd, &w, sizeof(w), 0) != sizeof(w))
        exit(4);
}

static void say_hangs(int fd, unsigned place, unsigned pid)
{
    say(fd, (struct boot_word){BOOT_WORKER_HANGS, place, pid, 0});
}

// What must not be believed, and at last the truth.
static void doubt(int fd)
{
    const struct boot_word *first = &heard_up[0], *last = &heard_up[1];
    if (first->pid != last->pid)
        say_hangs(fd, 1, first->pid); // has long ended
    say_hangs(fd, 1, 0);
    say_hangs(fd, 1, (unsigned)getpid()); // is no worker
    say_hangs(fd, 0, last->pid);          // no such place
    say_hangs(fd, 7, last->pid);
    say_hangs(fd, 1, last->pid);
    say_hangs(fd, 1, last->pid); // said twice: it is dying already
}

// What an operator made it say, at SIGUSR1.
static void say_wishes(int fd)
{
    if (play == DOUBTS)
        doubt(fd);
    if (play == ASKS_DRAIN || play == ASKS_DRAIN_AND_DIES)
        say(fd, (struct boot_word){.kind = BOOT_DRAIN_ASKED});
    if (play == ASKS_DRAIN)
        say(fd, (struct boot_word){.kind = BOOT_DRAIN_ASKED}); // the second changes nothing
    if (play == ASKS_DRAIN_AND_DIES)
        raise(SIGKILL);
    if (play == ASKS_RELOAD || play == TAKES)
        say(fd, (struct boot_word){.kind = BOOT_RELOAD_ASKED, .how = 5});
    if (play == CLINGS)
        say(fd, (struct boot_word){.kind = BOOT_LET_GO});
    if (play == SETS_LEVEL) {
        say(fd, (struct boot_word){.kind = BOOT_LOG_LEVEL, .how = LOG_WARN});
        say(fd, (struct boot_word){.kind = BOOT_LOG_LEVEL, .how = LOG_LEVELS}); // is none
        raise(SIGKILL);
    }
}

static void on_offer(int fd)
{
    struct boot_said said = {.word = {.kind = BOOT_TAKEN, .how = play == TAKES || play == CLINGS},
                             .text = "it does not like it"};
    if (play == DIES_OFFERED)
        raise(SIGKILL);
    if (send(fd, &said, sizeof(said), 0) != sizeof(said))
        exit(4);
}

static void say_word(int fd)
{
    struct boot_listen said = {0}; // or another, as far as it goes
    struct boot_word w;
    int fds[FDS_MAX];
    unsigned n_fds = FDS_MAX;
    if (fds_recv(fd, &said, sizeof(said), fds, &n_fds) < (long)sizeof(w))
        exit(4);
    w = said.word;
    for (unsigned i = 0; i < n_fds; i++)
        close(fds[i]);
    if (w.kind == BOOT_DRAIN && play != NEVER_ENDS)
        exit(0);
    dprintf(2, "{\"event\":\"play_word_%u\",\"place\":%u,\"pid\":%u,\"how\":%u}\n", w.kind, w.place,
            w.pid, w.how);
    if (w.kind == BOOT_LISTENER)
        dprintf(2,
                "{\"event\":\"play_listener\",\"section\":%u,\"id\":%u,\"first\":%u,\"fds\":%u}\n",
                said.section, said.id, w.how, n_fds);
    if (w.kind == BOOT_OFFER)
        on_offer(fd);
    if (w.kind != BOOT_WORKER_UP)
        return;
    if (heard_up[0].pid == 0)
        heard_up[0] = w;
    heard_up[1] = w;
    if (play == DOUBTS_ALL)
        say_hangs(fd, w.place, w.pid);
}

// Answers its process id to whoever connects; beats, unless it plays stuck.
static int fake_gateway(const struct gateway_boot *b)
{
    if (play == FAILS)
        return 2;
    if (play == CRASHES) {
        signal(SIGABRT, SIG_DFL);
        raise(SIGKILL);
    }
    if (play == SIGNALLED_EARLY)
        kill(getpid(), SIGUSR1); // somebody turns the logs over just now
    signal(SIGUSR1, on_usr1);
    dprintf(2, "{\"event\":\"play_gateway\",\"level\":%u,\"configuration\":%u,\"more\":%d}\n",
            b->log_level, (unsigned)b->config_generation,
            memmem(b->config_text, b->config_bytes, "max_body", 8) != NULL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    struct boot_word ready = {.kind = BOOT_READY};
    if (send(b->keeper_fd, &ready, sizeof(ready), 0) != sizeof(ready))
        return 5;
    for (;;) {
        if (play != STUCK || b->page->loop[0].turn_us == 0) {
            atomic_store(&b->page->loop[0].turn_us, now_us());
            atomic_store(&b->page->main.turn_us, now_us());
        }
        if (usr1) {
            usr1 = 0;
            say_wishes(b->keeper_fd);
        }
        struct pollfd p[3] = {
            {.fd = b->keeper_fd, .events = play != ASKS_DRAIN_AND_DIES ? POLLIN : 0},
            {.fd = b->liveness_fd, .events = POLLIN},
            {.fd = b->listeners[0]->fds[0], .events = POLLIN}};
        if (poll(p, 3, 100) <= 0)
            continue;
        if (p[1].revents)
            return 3;
        if (p[0].revents)
            say_word(b->keeper_fd);
        if (p[2].revents) {
            int fd = accept(b->listeners[0]->fds[0], NULL, NULL);
            dprintf(fd, "%d", (int)getpid());
            close(fd);
        }
    }
}

static unsigned open_descriptors(void)
{
    unsigned n = 0;
    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

// worker KIND --listen unix:PATH --liveness-fd N
static int worker_main(int argc, char **argv)
{
    if (argc != 7 || strcmp(argv[3], "--listen") != 0 || strcmp(argv[5], "--liveness-fd") != 0)
        return 9;
    if (strcmp(argv[2], "crash") == 0)
        return 7;
    if (strcmp(argv[2], "stubborn") == 0)
        signal(SIGTERM, SIG_IGN);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof(a.sun_path), "%s", argv[4] + strlen("unix:"));
    dprintf(2, "{\"event\":\"play_worker\",\"descriptors\":%u}\n", open_descriptors());
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(s, (struct sockaddr *)&a, sizeof(a)) != 0 || listen(s, 5) != 0)
        return 8;
    char byte;
    return read(atoi(argv[6]), &byte, 1) == 0 ? 0 : 6; // waits for the keeper's end
}

// ---- the stage ----------------------------------------------------------------------------------------

static struct {
    pid_t keeper;
    int events; // its standard error
    char text[1 << 16];
    size_t n;
    char runtime[64];
    char conf[80]; // path of its file
    char text_of_conf[1000];
} stage;

// Looks for a line with this event that was not returned before: what different processes say has no order.
static bool find_event(const char *want, char *line, size_t size)
{
    for (char *at = stage.text, *eol; (eol = strchr(at, '\n')); at = eol + 1) {
        snprintf(line, size, "%.*s", (int)(eol - at), at);
        if (*at == '{' && strstr(line, want)) {
            *at = '-';
            return true;
        }
    }
    return false;
}

// Waits for it, at most 60 s.
static const char *event(const char *name)
{
    static char line[2000];
    char want[80];
    snprintf(want, sizeof(want), "\"event\":\"%s\"", name);
    for (uint64_t end = now_us() + 60000000; now_us() < end;) {
        if (find_event(want, line, sizeof(line)))
            return line;
        struct pollfd p = {.fd = stage.events, .events = POLLIN};
        poll(&p, 1, 100);
        size_t room = stage.n < sizeof(stage.text) - 1 ? sizeof(stage.text) - 1 - stage.n : 0;
        assert_true(room > 0); // else what it says would be lost
        ssize_t n = read(stage.events, stage.text + stage.n, room);
        if (n > 0)
            stage.n += (size_t)n;
        stage.text[stage.n] = '\0';
    }
    fail_msg("no event %s in:\n%s", name, stage.text);
    return NULL;
}

static long field(const char *line, const char *name)
{
    char want[80];
    snprintf(want, sizeof(want), "\"%s\":", name);
    const char *at = strstr(line, want);
    if (!at)
        fail_msg("no \"%s\" in %s", name, line);
    return strtol(at + strlen(want), NULL, 10);
}

static unsigned count_events(const char *name) // also those that event() has returned
{
    unsigned n = 0;
    char want[80];
    snprintf(want, sizeof(want), "\"event\":\"%s\"", name);
    for (const char *at = stage.text; (at = strstr(at, want)); at++)
        n++;
    return n;
}

static void run_keeper(const char *conf, int events)
{
    struct config_errors e;
    dup2(events, 2);
    prctl(PR_SET_PDEATHSIG, SIGKILL); // a test that is killed leaves nothing behind
    struct config *c = config_parse(view_str(conf), stage.conf, &e);
    if (!c) {
        dprintf(2, "{\"event\":\"bad_config\",\"why\":\"%s\"}\n", e.error[0].text);
        _exit(77);
    }
    int status = keeper_run(c, view_str(conf), fake_gateway);
    config_unref(c);
    exit(status);
}

// Its file says what it said at the start, and that.
static void write_conf(const char *more)
{
    FILE *f = fopen(stage.conf, "w");
    assert_non_null(f);
    fprintf(f, "%s%s\n", stage.text_of_conf, more);
    fclose(f);
}

static void start(enum play p, const char *workers)
{
    char conf[1000];
    int fds[2];
    play = p;
    memset(&stage, 0, sizeof(stage));
    snprintf(stage.runtime, sizeof(stage.runtime), "/tmp/keeper-run-XXXXXX");
    assert_non_null(mkdtemp(stage.runtime));
    snprintf(conf, sizeof(conf),
             "loops = 1 watchdog = 2s drain_delay = 0 drain_timeout = 30s runtime_dir = \"%s\"\n"
             "listen a { address = \"127.0.0.1:0\" }\n%s",
             stage.runtime, workers);
    snprintf(stage.conf, sizeof(stage.conf), "%s.conf", stage.runtime);
    snprintf(stage.text_of_conf, sizeof(stage.text_of_conf), "%s", conf);
    write_conf("");
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    stage.events = fds[0];
    fflush(NULL);
    stage.keeper = fork();
    if (stage.keeper == 0)
        run_keeper(conf, fds[1]);
    close(fds[1]);
}

#define WORKER(kind)                                                                               \
    "worker w { command = {\"/proc/self/exe\", \"worker\", \"" kind "\"} replicas = 1 }\n"

static int wait_keeper(void)
{
    int status = -1;
    for (uint64_t end = now_us() + 60000000; now_us() < end; usleep(2000)) {
        if (waitpid(stage.keeper, &status, WNOHANG) != stage.keeper)
            continue;
        close(stage.events);
        return status;
    }
    fail_msg("the keeper goes on:\n%s", stage.text);
    return -1;
}

// A scene that has to be over in time, by what it gives. A busy machine may spoil some.
static void within(uint64_t most_us, uint64_t (*scene)(void))
{
    uint64_t took_us = UINT64_MAX;
    for (int i = 0; i < 20 && took_us > most_us; i++)
        took_us = scene();
    if (took_us > most_us)
        fail_msg("it took %llu us, again and again", (unsigned long long)took_us);
}

// Nothing is left of it: no process, no directory.
static void nothing_left(void)
{
    int status;
    for (uint64_t end = now_us() + 20000000; now_us() < end; usleep(2000)) {
        pid_t pid = waitpid(-1, &status, WNOHANG); // we are the reaper of what the keeper leaves
        if (pid < 0 && errno == ECHILD) {
            assert_int_equal(rmdir(stage.runtime), 0);
            unlink(stage.conf);
            return;
        }
    }
    fail_msg("processes are left");
}

static int port_of(const char *line)
{
    const char *at = strstr(line, "127.0.0.1:");
    assert_non_null(at);
    return atoi(at + strlen("127.0.0.1:"));
}

// The process id that the gateway answers with; waits in the backlog while there is none.
static long ask(int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, "127.0.0.1", &a.sin_addr);
    int s = socket(AF_INET, SOCK_STREAM, 0);
    char text[32] = "";
    struct timeval patience = {30, 0};
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    assert_int_equal(connect(s, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_true(read(s, text, sizeof(text) - 1) > 0);
    close(s);
    return atol(text);
}

// After a scene that failed: the keeper's death ends the rest.
static int clear_stage(void **state)
{
    int status;
    if (stage.keeper > 0 && waitpid(stage.keeper, &status, WNOHANG) == 0)
        kill(stage.keeper, SIGKILL);
    for (uint64_t end = now_us() + 2000000; now_us() < end; usleep(2000))
        if (waitpid(-1, &status, WNOHANG) < 0)
            break;
    return 0;
}

// ---- the scenes ---------------------------------------------------------------------------------------

static void starts_and_drains(void **state)
{
    start(GOOD, WORKER("good"));
    int port = port_of(event("listening"));
    assert_int_equal(field(event("play_worker"), "descriptors"),
                     4); // 0, 1, 2 and the liveness pipe
    event("worker_listening");
    assert_true(ask(port) > 0);
    kill(stage.keeper, SIGTERM);
    event("draining");
    assert_int_equal(field(event("gateway_exited"), "status"), 0);
    assert_int_equal(field(event("worker_exited"), "signal"), SIGTERM);
    assert_int_equal(field(event("stopped"), "status"), 0);
    assert_int_equal(wait_keeper(), 0);
    nothing_left();
}

// The gateway hears it from an operator and asks: it goes as with SIGTERM.
static void drains_when_asked(void **state)
{
    start(ASKS_DRAIN, WORKER("good"));
    event("worker_listening");
    event("ready");
    kill(stage.keeper, SIGUSR1);
    assert_non_null(strstr(event("draining"), "an operator's word"));
    assert_int_equal(field(event("gateway_exited"), "status"), 0);
    assert_int_equal(field(event("worker_exited"), "signal"), SIGTERM);
    assert_int_equal(field(event("stopped"), "status"), 0);
    assert_int_equal(count_events("draining"), 1);
    assert_int_equal(count_events("cut"), 0);
    assert_int_equal(wait_keeper(), 0);
    nothing_left();
}

// Its last word is heard when it was reaped: no signal goes to a number that may be another's by now, and none
// follows it.
static void drain_is_a_last_word(void **state)
{
    start(ASKS_DRAIN_AND_DIES, WORKER("good"));
    event("ready");
    kill(stage.keeper, SIGUSR1);
    assert_int_equal(field(event("gateway_exited"), "signal"), SIGKILL);
    event("draining");
    event("stopped");
    assert_int_equal(count_events("gateway_started"), 1);
    wait_keeper();
    nothing_left();
}

// What an operator set is the keeper's too, and the next gateway's; a level that is none is not believed.
static void level_outlives_the_gateway(void **state)
{
    start(SETS_LEVEL, WORKER("good"));
    assert_int_equal(field(event("play_gateway"), "level"), LOG_INFO);
    event("ready");
    event("worker_listening");
    kill(stage.keeper, SIGUSR1);
    event("gateway_exited"); // LOG_ERROR
    assert_int_equal(field(event("play_gateway"), "level"), LOG_WARN);
    kill(stage.keeper, SIGTERM);
    assert_int_equal(wait_keeper(), 0);
    assert_int_equal(count_events("gateway_started"), 1); // LOG_INFO, as the rest
    assert_int_equal(count_events("draining") + count_events("stopped"), 0);
    nothing_left();
}

static uint64_t kill_the_gateway(void)
{
    start(GOOD, WORKER("good"));
    int port = port_of(event("listening"));
    long worker = field(event("worker_listening"), "pid");
    assert_int_equal(field(event("gateway_started"), "generation"), 0);
    long first = ask(port);
    kill((pid_t)first, SIGKILL);
    uint64_t began = now_us();
    long second = ask(port);
    uint64_t took = now_us() - began;
    assert_int_not_equal(first, second);
    assert_int_equal(field(event("gateway_exited"), "signal"), SIGKILL);
    assert_int_equal(field(event("gateway_started"), "generation"), 1);
    assert_int_equal(kill((pid_t)worker, 0), 0); // the worker is the one it was
    assert_null(strstr(stage.text, "worker_exited"));
    kill(stage.keeper, SIGINT);
    assert_int_equal(wait_keeper(), 0);
    nothing_left();
    return took;
}

static void gateway_killed(void **state)
{
    within(500000, kill_the_gateway); // until a new connection is answered
}

static uint64_t kill_the_worker(void)
{
    start(GOOD, WORKER("good"));
    long gateway = field(event("gateway_started"), "pid");
    long first = field(event("worker_listening"), "pid");
    assert_int_equal(field(event("play_word_3"), "pid"), first); // BOOT_WORKER_UP
    kill((pid_t)first, SIGKILL);
    uint64_t began = now_us();
    assert_int_equal(field(event("worker_exited"), "signal"), SIGKILL);
    long second = field(event("worker_listening"), "pid");
    uint64_t took = now_us() - began;
    assert_int_not_equal(first, second);
    assert_int_equal(field(event("play_word_4"), "pid"), first); // BOOT_WORKER_GONE
    assert_int_equal(field(event("play_word_3"), "pid"), second);
    assert_int_equal(kill((pid_t)gateway, 0), 0);
    kill(stage.keeper, SIGTERM);
    assert_int_equal(wait_keeper(), 0);
    nothing_left();
    return took;
}

static void worker_killed(void **state)
{
    within(1000000, kill_the_worker); // row 135
}

// The gateway is told which of a worker's ends are crashes: its dying words are evidence against a request.
static void ends_say_how(void **state)
{
    static const struct {
        int signal;
        enum boot_end how;
    } end[] = {{SIGSEGV, BOOT_CRASHED},
               {SIGTERM, BOOT_ENDED},
               {SIGKILL, BOOT_CRASHED},
               {SIGINT, BOOT_ENDED},
               {SIGABRT, BOOT_CRASHED}};
    start(GOOD, WORKER("good"));
    event("ready");
    for (size_t i = 0; i < sizeof(end) / sizeof(*end); i++) {
        long pid = field(event("worker_listening"), "pid");
        assert_int_equal(field(event("play_word_3"), "pid"), pid);
        kill((pid_t)pid, end[i].signal);
        const char *line = event("play_word_4");
        assert_int_equal(field(line, "pid"), pid);
        assert_int_equal(field(line, "how"), end[i].how);
    }
    kill(stage.keeper, SIGTERM);
    assert_int_equal(wait_keeper(), 0);
    nothing_left();
}

// It is stopped, so that no signal but SIGKILL would end it. Words about others move nothing.
static uint64_t replace_a_hung_worker(void)
{
    start(DOUBTS, WORKER("good"));
    event("ready");
    long first = field(event("worker_listening"), "pid");
    assert_int_equal(field(event("play_word_3"), "pid"), first);
    kill((pid_t)first, SIGKILL);
    assert_int_equal(field(event("play_word_4"), "how"), BOOT_CRASHED);
    event("worker_exited");
    long second = field(event("play_word_3"), "pid");
    kill((pid_t)second, SIGSTOP);
    uint64_t began = now_us();
    kill(stage.keeper, SIGUSR1); // handed on: the gateway says its words
    const char *line = event("worker_hangs");
    assert_int_equal(field(line, "pid"), second);
    assert_int_equal(field(line, "replica"), 0);
    line = event("worker_exited");
    assert_int_equal(field(line, "pid"), second);
    assert_int_equal(field(line, "signal"), SIGKILL);
    assert_int_equal(field(line, "restart_in_us"), 0); // the crash before is no reason to wait
    line = event("play_word_4");
    assert_int_equal(field(line, "pid"), second);
    assert_int_equal(field(line, "how"), BOOT_ENDED);
    long third = field(event("play_word_3"), "pid");
    uint64_t took = now_us() - began;
    assert_true(third != second);
    assert_int_equal(kill((pid_t)third, 0), 0);
    assert_int_equal(count_events("worker_hangs"), 1);
    assert_int_equal(count_events("gateway_started"), 1);
    kill(stage.keeper, SIGTERM);
    assert_int_equal(wait_keeper(), 0);
    nothing_left();
    return took;
}

static void hung_worker_is_replaced(void **state)
{
    within(1000000, replace_a_hung_worker);
}

static void worker_that_hangs_at_every_start(void **state)
{
    start(DOUBTS_ALL, WORKER("good"));
    assert_int_equal(field(event("worker_exited"), "restart_in_us"), 0);
    long last = 0;
    for (int i = 0; i < 4; i++) {
        const char *line = event("worker_exited");
        long pause = field(line, "restart_in_us");
        assert_int_equal(field(line, "signal"), SIGKILL);
        assert_true(pause >= last && pause >= 50000);
        last = pause / 2;
    }
    kill(stage.keeper, SIGTERM);
    assert_int_equal(wait_keeper(), 0);
    nothing_left();
}

static void keeper_killed(void **state)
{
    start(GOOD, WORKER("stubborn"));
    event("worker_listening");
    event("ready");
    kill(stage.keeper, SIGKILL);
    assert_true(WIFSIGNALED(wait_keeper()));
    int status;
    for (uint64_t end = now_us() + 10000000; now_us() < end; usleep(2000))
        if (waitpid(-1, &status, WNOHANG) < 0)
            break;
    assert_int_equal(waitpid(-1, &status, WNOHANG), -1); // all have ended
    // what it left on disk, the next start removes
    char command[100];
    assert_int_not_equal(rmdir(stage.runtime), 0);
    snprintf(command, sizeof(command), "rm -rf %s", stage.runtime);
    assert_int_equal(system(command), 0);
}

static void stuck_gateway_is_aborted(void **state)
{
    start(STUCK, WORKER("good"));
    int port = port_of(event("listening"));
    long first = ask(port);
    const char *line = event("gateway_stuck");
    assert_int_equal(field(line, "pid"), first);
    assert_int_equal(field(line, "loop"), 0);
    assert_int_equal(field(event("gateway_exited"), "signal"), SIGABRT);
    assert_int_not_equal(ask(port), first);
    kill(stage.keeper, SIGTERM);
    assert_int_equal(wait_keeper(), 0);
    nothing_left();
}

static void stopped_gateway_is_replaced(void **state)
{
    start(GOOD, WORKER("good"));
    int port = port_of(event("listening"));
    long first = ask(port);
    kill((pid_t)first, SIGSTOP); // it would not see SIGABRT without SIGCONT
    event("gateway_stuck");
    assert_int_equal(field(event("gateway_exited"), "signal"), SIGABRT);
    assert_int_not_equal(ask(port), first);
    kill(stage.keeper, SIGTERM);
    assert_int_equal(wait_keeper(), 0);
    nothing_left();
}

static void first_start_fails(void **state)
{
    start(FAILS, WORKER("good"));
    assert_int_equal(field(event("gateway_exited"), "status"), 2);
    event("giving_up");
    int status = wait_keeper();
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 1);
    nothing_left();
}

static void gateway_crashes_at_every_start(void **state)
{
    start(CRASHES, "worker w { addresses = {\"grpc://h:1\"} }\n");
    for (int i = 0; i < KEEPER_GATEWAY_STARTS; i++)
        assert_int_equal(field(event("gateway_exited"), "signal"), SIGKILL);
    assert_int_equal(field(event("giving_up"), "starts"), KEEPER_GATEWAY_STARTS);
    assert_int_equal(WEXITSTATUS(wait_keeper()), 1);
    nothing_left();
}

// Row 136: a worker that dies at once is started ever more slowly; the gateway goes on.
static void worker_crash_loop(void **state)
{
    start(GOOD, WORKER("crash"));
    int port = port_of(event("listening"));
    const char *line = event("worker_exited");
    assert_int_equal(field(line, "status"), 7);
    assert_int_equal(field(line, "restart_in_us"), 0);
    long last = 0;
    for (int i = 0; i < 4; i++) {
        long pause = field(event("worker_exited"), "restart_in_us");
        assert_true(pause >= last && pause >= 50000); // doubling, a half at most taken off
        last = pause / 2;
    }
    assert_true(ask(port) > 0);
    kill(stage.keeper, SIGTERM);
    assert_int_equal(wait_keeper(), 0);
    nothing_left();
}

static uint64_t cut_by_a_second_signal(void)
{
    start(NEVER_ENDS, WORKER("stubborn"));
    event("worker_listening");
    kill(stage.keeper, SIGTERM);
    kill(stage.keeper, SIGQUIT);
    event("draining");
    event("told_again"); // its echo
    usleep(TOLD_ONCE_US);
    uint64_t began = now_us();
    kill(stage.keeper, SIGTERM);
    event("cut");
    assert_int_equal(wait_keeper(), 0);
    uint64_t took = now_us() - began;
    nothing_left();
    return took;
}

static void second_signal_cuts(void **state)
{
    within(1000000, cut_by_a_second_signal);
}

static void other_signals(void **state)
{
    start(GOOD, WORKER("good"));
    event("ready");
    kill(stage.keeper, SIGUSR1);
    event("play_usr1");
    kill(stage.keeper, SIGTERM);
    assert_int_equal(wait_keeper(), 0);
    nothing_left();
}

// ---- another configuration ------------------------------------------------------------------------------

#define MORE "limits { max_body = 1MiB }"

static const char *word_of(enum boot_word_kind kind)
{
    static char word[20];
    snprintf(word, sizeof(word), "play_word_%u", kind);
    return word;
}

// What the gateway takes is the keeper's too: its next gateway begins with it, its worker is started by it.
static void reload_taken(void **state)
{
    start(TAKES, WORKER("good"));
    assert_int_equal(field(event("play_gateway"), "configuration"), 1);
    event("worker_listening");
    event("ready");
    write_conf(MORE);
    kill(stage.keeper, SIGHUP);
    const char *said = event("reloaded");
    assert_int_equal(field(said, "generation"), 2);
    assert_non_null(strstr(said, "limits: max_body: was 64MiB, is 1MiB"));
    kill(stage.keeper, SIGUSR1); // an operator asks for one more
    event("play_usr1");
    assert_int_equal(field(event("reloaded"), "generation"), 3);
    said = event(word_of(BOOT_RELOADED)); // that nobody waits for
    assert_int_equal(field(said, "place"), 0);
    assert_int_equal(field(said, "how"), 1);
    assert_int_equal(field(event(word_of(BOOT_RELOADED)), "place"), 5);
    kill((pid_t)field(event("gateway_started"), "pid"), SIGKILL);
    said = event("play_gateway");
    assert_int_equal(field(said, "configuration"), 3);
    assert_int_equal(field(said, "more"), 1);
    kill((pid_t)field(event("worker_started"), "pid"), SIGKILL);
    event("worker_exited");
    event("worker_started");
    event("worker_listening");
    kill(stage.keeper, SIGTERM);
    assert_int_equal(wait_keeper(), 0);
    nothing_left();
}

// Sockets go with the offer, those that it has already as a number; and the next reload waits until it has let go of what
// left.
static void listeners_are_handed_over(void **state)
{
    start(CLINGS, WORKER("good"));
    event("listening");
    event("ready");
    write_conf("listen more { address = \"127.0.0.1:0\" }");
    kill(stage.keeper, SIGHUP);
    const char *said = event("play_listener");
    assert_int_equal(field(said, "section"), 0);
    assert_int_equal(field(said, "id"), 1);
    assert_int_equal(field(said, "first"), 1);
    assert_int_equal(field(said, "fds"), 0);
    said = event("play_listener");
    assert_int_equal(field(said, "section"), 1);
    assert_int_equal(field(said, "id"), 2);
    assert_int_equal(field(said, "first"), 0);
    assert_int_equal(field(said, "fds"), 1);
    event(word_of(BOOT_OFFER));
    assert_non_null(strstr(event("listening"), "\"more\""));
    event("reloaded");
    write_conf("");
    kill(stage.keeper, SIGHUP);
    assert_non_null(strstr(event("reloaded"), "removed"));
    kill(stage.keeper, SIGHUP);
    event(word_of(BOOT_RELOADED));
    event(word_of(BOOT_RELOADED));
    assert_int_equal(count_events("reloaded"), 2);
    kill(stage.keeper, SIGUSR1);
    event("play_usr1");
    assert_int_equal(field(event("reloaded"), "generation"), 4);
    kill(stage.keeper, SIGTERM);
    assert_int_equal(wait_keeper(), 0);
    nothing_left();
}

static void reload_is_not_wanted(void **state)
{
    start(ASKS_RELOAD, WORKER("good"));
    event("play_gateway");
    event("ready");
    write_conf(MORE);
    kill(stage.keeper, SIGUSR1);
    event("play_usr1");
    assert_non_null(strstr(event("reload_refused"), "it does not like it"));
    assert_int_equal(field(event(word_of(BOOT_RELOADED)), "how"), 0);
    write_conf("nonsense = 1");
    kill(stage.keeper, SIGHUP);
    assert_non_null(strstr(event("reload_refused"), ".conf:4: "));
    kill((pid_t)field(event("gateway_started"), "pid"), SIGKILL);
    const char *said = event("play_gateway");
    assert_int_equal(field(said, "configuration"), 1);
    assert_int_equal(field(said, "more"), 0);
    kill(stage.keeper, SIGTERM);
    assert_int_equal(wait_keeper(), 0);
    nothing_left();
}

static void gateway_dies_of_an_offer(void **state)
{
    start(DIES_OFFERED, WORKER("good"));
    event("play_gateway");
    event("ready");
    write_conf(MORE);
    kill(stage.keeper, SIGHUP);
    assert_non_null(strstr(event("reload_refused"), "has ended before it had taken it"));
    const char *said = event("play_gateway");
    assert_int_equal(field(said, "configuration"), 1);
    assert_int_equal(field(said, "more"), 0);
    event("ready");
    kill(stage.keeper, SIGTERM);
    assert_int_equal(wait_keeper(), 0);
    nothing_left();
}

// A check that runs is given up with the keeper; one that is asked for while it drains is refused.
static void reload_and_the_end(void **state)
{
    start(NEVER_ENDS, WORKER("good"));
    event("ready");
    kill(stage.keeper, SIGTERM);
    event("draining");
    kill(stage.keeper, SIGHUP);
    assert_non_null(strstr(event("reload_refused"), "the gateway drains"));
    usleep(TOLD_ONCE_US);
    kill(stage.keeper, SIGTERM);
    event("cut");
    assert_int_equal(wait_keeper(), 0);
    nothing_left();
}

// Its default meaning would be death: it waits until the gateway can hear it.
static void signals_wait_for_the_gateway(void **state)
{
    start(SIGNALLED_EARLY, WORKER("good"));
    event("play_usr1");
    assert_int_equal(field(event("ready"), "generation"), 0);
    kill(stage.keeper, SIGTERM);
    assert_int_equal(wait_keeper(), 0);
    nothing_left();
}

static void port_in_use(void **state)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t n = sizeof(a);
    inet_pton(AF_INET, "127.0.0.1", &a.sin_addr);
    int s = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(s, (struct sockaddr *)&a, n) | listen(s, 1), 0);
    getsockname(s, (struct sockaddr *)&a, &n);
    char more[200];
    snprintf(more, sizeof(more), "listen b { address = \"127.0.0.1:%u\" }\n%s", ntohs(a.sin_port),
             WORKER("good"));
    start(GOOD, more);
    assert_non_null(strstr(event("start_failed"), "in use"));
    assert_int_equal(WEXITSTATUS(wait_keeper()), 1);
    close(s);
    nothing_left();
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "worker") == 0)
        return worker_main(argc, argv);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(starts_and_drains, clear_stage),
        cmocka_unit_test_teardown(drains_when_asked, clear_stage),
        cmocka_unit_test_teardown(drain_is_a_last_word, clear_stage),
        cmocka_unit_test_teardown(level_outlives_the_gateway, clear_stage),
        cmocka_unit_test_teardown(gateway_killed, clear_stage),
        cmocka_unit_test_teardown(worker_killed, clear_stage),
        cmocka_unit_test_teardown(ends_say_how, clear_stage),
        cmocka_unit_test_teardown(hung_worker_is_replaced, clear_stage),
        cmocka_unit_test_teardown(worker_that_hangs_at_every_start, clear_stage),
        cmocka_unit_test_teardown(keeper_killed, clear_stage),
        cmocka_unit_test_teardown(stuck_gateway_is_aborted, clear_stage),
        cmocka_unit_test_teardown(stopped_gateway_is_replaced, clear_stage),
        cmocka_unit_test_teardown(first_start_fails, clear_stage),
        cmocka_unit_test_teardown(gateway_crashes_at_every_start, clear_stage),
        cmocka_unit_test_teardown(worker_crash_loop, clear_stage),
        cmocka_unit_test_teardown(second_signal_cuts, clear_stage),
        cmocka_unit_test_teardown(other_signals, clear_stage),
        cmocka_unit_test_teardown(reload_taken, clear_stage),
        cmocka_unit_test_teardown(listeners_are_handed_over, clear_stage),
        cmocka_unit_test_teardown(reload_is_not_wanted, clear_stage),
        cmocka_unit_test_teardown(gateway_dies_of_an_offer, clear_stage),
        cmocka_unit_test_teardown(reload_and_the_end, clear_stage),
        cmocka_unit_test_teardown(signals_wait_for_the_gateway, clear_stage),
        cmocka_unit_test_teardown(port_in_use, clear_stage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
