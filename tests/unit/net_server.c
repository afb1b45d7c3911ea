/* The server glue on real loops and sockets, with a line protocol in the http room's place (every http_
 * function that the glue calls is defined here): accept, hand-over, bounds, exhaustion of descriptors,
 * time-outs, half close, slow readers, drain, TLS. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/mem.h"
#include "net/listen.h"
#include "net/server.h"
#include <errno.h>
#include <fcntl.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/net_pem.h"

// ---- the line protocol: "x\n" is echoed, "big N\n" answers N bytes, "last N\n" does and ends, given up when
// it makes no progress for send_timeout, "quit\n" ends, "stay\n" stays behind the peer's FIN -----------------------------------------------------

struct http_conn {
    const struct http_limits *l;
    struct buffer in, out;
    uint64_t deadline_us;
    bool done, secure, last, stays;
    void *user;
};

static _Atomic unsigned living, timed_out, ended;

struct http_conn *http_conn_new(const struct http_limits *l, const struct http_server_ops *ops,
                                void *ctx, bool secure, bool h2, uint64_t now_us)
{
    struct http_conn *c = mem_zalloc(sizeof *c);
    c->l = l;
    c->secure = secure;
    c->deadline_us = now_us + l->header_timeout_us;
    atomic_fetch_add(&living, 1);
    return c;
}

void http_conn_free(struct http_conn *c, uint64_t now_us)
{
    buffer_deinit(&c->in);
    buffer_deinit(&c->out);
    mem_free(c);
    atomic_fetch_sub(&living, 1);
}

static void on_line(struct http_conn *c, const char *line, size_t n)
{
    if (n >= 4 && memcmp(line, "big ", 4) == 0) {
        size_t bytes = (size_t)strtoul(line + 4, NULL, 10);
        memset(buffer_reserve(&c->out, bytes), 'b', bytes);
        buffer_commit(&c->out, bytes);
    } else if (n >= 5 && memcmp(line, "last ", 5) == 0) {
        size_t bytes = (size_t)strtoul(line + 5, NULL, 10);
        memset(buffer_reserve(&c->out, bytes), 'l', bytes);
        buffer_commit(&c->out, bytes);
        c->done = c->last = true;
    } else if (n == 5 && memcmp(line, "quit\n", 5) == 0) {
        c->done = true;
    } else if (n == 5 && memcmp(line, "stay\n", 5) == 0) {
        c->stays = true;
    } else {
        buffer_append(&c->out, line, n);
    }
}

void http_conn_recv(struct http_conn *c, const uint8_t *p, size_t n, uint64_t now_us)
{
    if (c->done)
        return; // thrown away
    buffer_append(&c->in, p, n);
    for (;;) {
        struct view v = buffer_view(&c->in);
        const char *end = v.n ? memchr(v.p, '\n', v.n) : NULL;
        if (!end)
            return;
        size_t len = (size_t)(end - v.p) + 1;
        on_line(c, v.p, len);
        buffer_consume(&c->in, len);
        c->deadline_us = now_us + (c->last ? c->l->send_timeout_us : c->l->idle_timeout_us);
    }
}

void http_conn_eof(struct http_conn *c, uint64_t now_us)
{
    c->done = !c->stays;
    atomic_fetch_add(&ended, 1);
}

bool http_conn_wants_read(const struct http_conn *c)
{
    return buffer_len(&c->out) < 65536;
}

bool http_conn_midway(const struct http_conn *c)
{
    (void)c;
    return true;
}

int http_conn_gather(struct http_conn *c, struct iovec *iov, int max, uint64_t now_us)
{
    if (buffer_len(&c->out) == 0)
        return 0;
    iov[0] = (struct iovec){c->out.data + c->out.at, buffer_len(&c->out)};
    return 1;
}

void http_conn_sent(struct http_conn *c, size_t n, uint64_t now_us)
{
    buffer_consume(&c->out, n);
    c->deadline_us =
        c->last && buffer_len(&c->out) == 0 ? UINT64_MAX : now_us + c->l->send_timeout_us;
}

bool http_conn_done(const struct http_conn *c)
{
    return c->done;
}

uint64_t http_conn_deadline(const struct http_conn *c)
{
    return c->deadline_us;
}

void http_conn_on_timer(struct http_conn *c, uint64_t now_us)
{
    atomic_fetch_add(&timed_out, 1);
    if (c->last)
        buffer_reset(&c->out); // what it was owed goes with it
    else
        buffer_append(&c->out, "late\n", 5);
    c->done = true;
    c->deadline_us = UINT64_MAX;
}

static _Atomic unsigned drained, most_drained; // in all; on one loop in one turn

void http_conn_drain(struct http_conn *c, uint64_t serve_until_us, uint64_t now_us)
{
    static _Thread_local uint64_t turn_us;
    static _Thread_local unsigned in_turn;
    in_turn = turn_us == now_us ? in_turn + 1 : 1;
    turn_us = now_us;
    if (in_turn > most_drained)
        most_drained = in_turn;
    atomic_fetch_add(&drained, 1);
    c->done |= now_us >= serve_until_us; // whatever has been answered goes first
}

void http_conn_misled(struct http_conn *c, bool tls_wanted, uint64_t now_us)
{
    const char *said = tls_wanted ? "no TLS?\n" : "TLS?\n";
    buffer_append(&c->out, said, strlen(said));
    c->done = true;
}

unsigned http_conn_live(const struct http_conn *c)
{
    return c->stays;
}

void *http_conn_user(struct http_conn *c)
{
    return c->user;
}

void http_conn_set_user(struct http_conn *c, void *user)
{
    c->user = user;
}

void exchange_respond(struct exchange *ex, const struct http_response *r, uint64_t now_us)
{
}

void exchange_start(struct exchange *ex, const struct http_response *r, uint64_t now_us)
{
}

void exchange_wake(struct exchange *ex, uint64_t now_us)
{
}

static _Atomic unsigned dates, wrong_dates;

void http_set_date(struct view date)
{
    struct tm tm = {0};
    char text[32];
    snprintf(text, sizeof text, "%.*s", VIEW_ARG(date));
    const char *end = strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    struct timespec now; // time() lags by a tick
    clock_gettime(CLOCK_REALTIME, &now);
    time_t off = end && !*end ? now.tv_sec - timegm(&tm) : 99;
    atomic_fetch_add(off < 0 || off > 2 ? &wrong_dates : &dates, 1);
}

// ---- a server on two loops ---------------------------------------------------------------------------------

static const struct http_server_ops no_ops;
static struct http_limits limits;
static struct loops set;
static struct server *server;
static struct server_budget *budget;
static struct tls_server *tls;
static struct addr where;
static int narrow; // send buffer of accepted connections; 0: the kernel's choice

static uint64_t mono_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void begin(const char *address, unsigned max_conns, unsigned max_per_address)
{
    int fds[2], n;
    char err[LISTEN_ERROR];
    assert_null(addr_parse(&where, view_str(address), 0));
    n = listen_open(&where, 2, fds, err);
    assert_true(n > 0);
    for (int i = 0; narrow && i < n; i++) // inherited by what is accepted
        setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &narrow, sizeof narrow);
    assert_int_equal(loops_init(&set, 2, 3), 0);
    budget = server_budget_new(max_conns, max_per_address, 5);
    struct server_config c = {
        .name = "test", .limits = &limits, .ops = &no_ops, .tls = tls, .budget = budget};
    server = server_new(&c, set.loop, 2, fds, (unsigned)n);
    assert_non_null(server);
    server_start(server, NULL);
    assert_int_equal(loops_start(&set), 0);
}

static void end(void)
{
    loops_stop(&set);
    server_free(server);
    loops_deinit(&set);
    assert_int_equal(server_budget_conns(budget), 0);
    server_budget_free(budget);
    assert_int_equal(living, 0);
}

static int setup(void **state)
{
    limits = (struct http_limits){
        .header_timeout_us = 10000000, .idle_timeout_us = 10000000, .send_timeout_us = 10000000};
    timed_out = 0;
    narrow = 0;
    return 0;
}

static int dial(void)
{
    int fd = socket(where.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval tv = {5, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
    if (fd >= 0 && connect(fd, &where.sa, where.len) == 0)
        return fd;
    close(fd);
    return -1;
}

// Reads `want` bytes (or to the end); what came, as text.
static const char *hear(int fd, size_t want)
{
    static char buf[4096];
    size_t got = 0;
    while (got < want) {
        ssize_t n = recv(fd, buf + got, want - got, 0);
        if (n <= 0)
            break;
        got += (size_t)n;
    }
    buf[got] = 0;
    return buf;
}

static bool talks(int fd)
{
    return send(fd, "hello\n", 6, MSG_NOSIGNAL) == 6 && strcmp(hear(fd, 6), "hello\n") == 0;
}

static bool closed(int fd) // within five seconds
{
    char c;
    return recv(fd, &c, 1, 0) == 0 || errno == ECONNRESET;
}

#define EVENTUALLY(cond)                                                                           \
    do {                                                                                           \
        uint64_t end_us = mono_us() + 20000000;                                                    \
        while (!(cond) && mono_us() < end_us)                                                      \
            usleep(2000);                                                                          \
        assert_true(cond);                                                                         \
    } while (0)

static struct server_stats stats(void)
{
    struct server_stats st;
    server_stats(server, &st);
    return st;
}

static void echoes_on(const char *address)
{
    enum { CONNS = 40 };
    int fd[CONNS];
    begin(address, 0, 0);
    for (int i = 0; i < CONNS; i++) {
        fd[i] = dial();
        assert_true(fd[i] >= 0);
        assert_true(talks(fd[i]));
    }
    // two choices: neither loop has more than a little above its half
    uint32_t a = set.loop[0]->conns, b = set.loop[1]->conns;
    assert_int_equal(a + b, CONNS);
    assert_in_range(a, CONNS / 2 - 4, CONNS / 2 + 4);
    assert_int_equal(stats().conns, CONNS);
    assert_int_equal(stats().accepted, CONNS);
    for (int i = 0; i < CONNS; i++) {
        assert_true(talks(fd[i]));
        close(fd[i]);
    }
    EVENTUALLY(stats().conns == 0);
    assert_int_equal(stats().bytes_in, CONNS * 12);
    assert_int_equal(stats().bytes_out, CONNS * 12);
    end();
}

static void echoes_over_v4_v6_and_unix(void **state)
{
    char path[64];
    echoes_on("127.0.0.1:0");
    echoes_on("[::1]:0");
    snprintf(path, sizeof path, "unix:/tmp/sluice-server-%d", getpid());
    echoes_on(path);
    unlink(path + 5);
}

static void date_is_set_every_second_on_each_loop(void **state)
{
    begin("127.0.0.1:0", 0, 0);
    uint64_t began_us = mono_us();
    dates = 0;
    EVENTUALLY(dates >= 4);
    unsigned n = dates;
    assert_true(n <= 2 * ((mono_us() - began_us) / 1000000 + 2));
    assert_int_equal(wrong_dates, 0);
    end();
}

static void bytes_may_come_singly(void **state)
{
    begin("127.0.0.1:0", 0, 0);
    int fd = dial();
    for (const char *p = "one\ntwo\n"; *p; p++) {
        assert_int_equal(send(fd, p, 1, 0), 1);
        usleep(500);
    }
    assert_string_equal(hear(fd, 8), "one\ntwo\n");
    close(fd);
    end();
}

static void silent_clients_are_timed_out(void **state)
{
    limits.header_timeout_us = 150000;
    begin("127.0.0.1:0", 0, 0);
    uint64_t began_us = mono_us();
    int silent = dial(), drip = dial();
    for (int i = 0; i < 4; i++, usleep(30000)) // dripping does not help
        send(drip, "x", 1, MSG_NOSIGNAL);
    assert_string_equal(hear(silent, 5), "late\n");
    assert_true(closed(silent));
    assert_string_equal(hear(drip, 5), "late\n");
    assert_in_range(mono_us() - began_us, 150000, 9500000); // no other time-out is below 10 s
    assert_int_equal(timed_out, 2);
    close(silent);
    close(drip);
    EVENTUALLY(stats().conns == 0);
    end();
}

static void half_closed_client_gets_its_answer(void **state)
{
    begin("127.0.0.1:0", 0, 0);
    int fd = dial();
    send(fd, "bye\n", 4, 0);
    shutdown(fd, SHUT_WR);
    assert_string_equal(hear(fd, 10), "bye\n"); // and then the end
    close(fd);
    EVENTUALLY(stats().conns == 0);
    end();
}

// Whom the room above answers behind his FIN is kept, and gone with a reset: nothing is read by then.
static void half_closed_client_resets(void **state)
{
    struct linger none = {.l_onoff = 1};
    limits.idle_timeout_us = limits.header_timeout_us = 100000000; // no timer ends it
    ended = 0;
    begin("127.0.0.1:0", 0, 0);
    int fd = dial();
    send(fd, "stay\n", 5, 0);
    shutdown(fd, SHUT_WR);
    EVENTUALLY(ended == 1);
    assert_int_equal(stats().conns, 1);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    close(fd);
    EVENTUALLY(stats().conns == 0);
    end();
}

static void end_is_orderly_while_the_client_still_sends(void **state)
{
    begin("127.0.0.1:0", 0, 0);
    int fd = dial();
    char junk[2000] = {0};
    send(fd, "last\nquit\n", 10, 0);
    for (int i = 0; i < 50; i++) // without a lingering read, a reset would overtake the answer
        send(fd, junk, sizeof junk, MSG_NOSIGNAL);
    usleep(50000);
    assert_string_equal(hear(fd, 10), "last\n");
    close(fd);
    EVENTUALLY(stats().conns == 0);
    end();
}

static void lingering_ends(void **state)
{
    begin("127.0.0.1:0", 0, 0);
    int fd = dial();
    send(fd, "quit\n", 5, 0);
    EVENTUALLY(stats().conns == 0); // although the client never closes
    close(fd);
    end();
}

static void slow_reader_gets_all_and_holds_nobody(void **state)
{
    begin("127.0.0.1:0", 0, 0);
    int slow = dial(), other = dial();
    size_t want = 30u << 20, got = 0;
    send(slow, "big 31457280\n", 13, 0);
    usleep(100000);
    assert_true(talks(other));
    char *buf = malloc(1u << 20);
    for (ssize_t n; got < want && (n = recv(slow, buf, 1u << 20, 0)) > 0;)
        got += (size_t)n;
    free(buf);
    assert_int_equal(got, want);
    close(slow);
    close(other);
    end();
}

// Connected with buffers so small that a long answer stays with the server.
static int dial_narrow(void)
{
    int fd = socket(where.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0), small = 4096;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    assert_int_equal(connect(fd, &where.sa, where.len), 0);
    return fd;
}

// Row 78: its last bytes lie in a full socket, which will never say that it can be written again.
static void reader_that_never_reads_is_closed(void **state)
{
    limits.send_timeout_us = 700000; // longer than any turn, sanitizers or not
    begin("127.0.0.1:0", 0, 0);
    int fd = dial_narrow();
    send(fd, "last 12582912\n", 14, 0);
    EVENTUALLY(stats().conns ==
               0); // by the HTTP room's time or the socket's own, whichever is seen first
    // What the kernel still held is gone as well: an orphan would keep it for minutes.
    struct pollfd p = {fd, 0, 0};
    assert_int_equal(poll(&p, 1, 5000), 1);
    assert_true(p.revents & POLLERR || p.revents & POLLHUP);
    close(fd);
    end();
}

// Over TLS the last record may be sealed and waiting when the rooms above have nothing left to give: it is
// waited for, and not for ever. Some of these lengths leave exactly that.
static void last_record_is_not_waited_for_for_ever(void **state)
{
    enum { CLIENTS = 48 };
    static struct pem pem;
    char err[TLS_ERROR];
    int fd[CLIENTS];
    SSL *ssl[CLIENTS];
    pem_make(&pem, "a.example", -60, 3600);
    tls = tls_server_new_mem(view_str(pem.cert), view_str(pem.key), NULL, 2, err);
    assert_non_null(tls);
    limits.send_timeout_us = 300000;
    narrow = 1 << 15;
    begin("127.0.0.1:0", 0, 0);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    for (int i = 0; i < CLIENTS; i++) {
        char line[32];
        fd[i] = dial_narrow();
        ssl[i] = SSL_new(ctx);
        SSL_set_fd(ssl[i], fd[i]);
        assert_int_equal(SSL_connect(ssl[i]), 1);
        int n = snprintf(line, sizeof line, "last %d\n", (i + 1) << 13);
        assert_int_equal(SSL_write(ssl[i], line, n), n);
    }
    EVENTUALLY(stats().conns == 0);
    int reset = 0;
    for (int i = 0; i < CLIENTS; i++) {
        struct pollfd p = {fd[i], 0, 0};
        poll(&p, 1, 0);
        reset += (p.revents & POLLERR) != 0;
        SSL_free(ssl[i]);
        close(fd[i]);
    }
    assert_in_range(reset, 1, CLIENTS - 1); // some fitted, some did not
    SSL_CTX_free(ctx);
    end();
    tls_server_free(tls);
    tls = NULL;
}

static void address_has_its_share(void **state)
{
    begin("127.0.0.1:0", 0, 4);
    int fd[5];
    for (int i = 0; i < 5; i++)
        fd[i] = dial();
    EVENTUALLY(stats().accepted + stats().refused_address == 5);
    assert_int_equal(stats().refused_address, 1);
    int talking = 0, refused = -1; // which one it hits is the loops' business
    for (int i = 0; i < 5; i++) {
        if (talks(fd[i]))
            talking++;
        else
            refused = i;
    }
    assert_int_equal(talking, 4);
    assert_true(refused >= 0);
    close(fd[(refused + 1) % 5]);
    fd[(refused + 1) % 5] = -1;
    EVENTUALLY(stats().conns == 3);
    int again = dial();
    assert_true(talks(again));
    for (int i = 0; i < 5; i++)
        if (fd[i] >= 0)
            close(fd[i]);
    close(again);
    end();
}

static _Atomic unsigned adopted;

static void on_adopt(struct loop *l, struct loop_task *t)
{
    (void)t;
    server_adopt(server, l->index, &limits, tls);
    atomic_fetch_add(&adopted, 1);
}

// Whoever begins after it has less time; whoever was there before has as much as ever. And another bound for all.
static void other_limits(void **state)
{
    begin("127.0.0.1:0", 0, 4);
    struct loop_task t[2] = {{.fn = on_adopt}, {.fn = on_adopt}};
    int before = dial();
    EVENTUALLY(stats().conns == 1);
    limits.header_timeout_us = 100000;
    adopted = 0;
    for (unsigned i = 0; i < 2; i++)
        loop_post_task(NULL, set.loop[i], &t[i]);
    EVENTUALLY(adopted == 2);
    for (unsigned i = 0; i < 3; i++) {
        int after = dial();
        assert_string_equal(hear(after, 5), "late\n");
        assert_true(closed(after));
        close(after);
    }
    assert_true(talks(before));
    EVENTUALLY(stats().conns == 1);
    server_budget_set(budget, 10, 1);
    int more = dial();
    assert_true(closed(more));
    close(more);
    close(before);
    EVENTUALLY(stats().conns == 0);
    end();
}

static void at_the_bound_accept_waits(void **state)
{
    begin("127.0.0.1:0", 3, 0);
    int fd[5];
    for (int i = 0; i < 5; i++)
        fd[i] = dial(); // the backlog takes them
    EVENTUALLY(stats().accepted == 3);
    usleep(300000);
    uint64_t turns = loop_turns(set.loop[0]) + loop_turns(set.loop[1]);
    usleep(500000);
    assert_true(loop_turns(set.loop[0]) + loop_turns(set.loop[1]) - turns < 100); // no spinning
    assert_int_equal(stats().accepted, 3);
    assert_true(stats().accept_paused > 0);
    // as many answers as have a place; each end makes one for the next
    struct pollfd p[5];
    int talking[5], n = 0;
    for (int i = 0; i < 5; i++) {
        p[i] = (struct pollfd){fd[i], POLLIN, 0};
        send(fd[i], "hello\n", 6, MSG_NOSIGNAL);
    }
    EVENTUALLY(poll(p, 5, 0) >= 3);
    usleep(100000); // time for one too many
    poll(p, 5, 0);
    for (int i = 0; i < 5; i++)
        if (p[i].revents)
            talking[n++] = i;
    assert_int_equal(n, 3);
    for (int i = 0; i < 3; i++) {
        close(fd[talking[i]]);
        fd[talking[i]] = -1;
    }
    for (int i = 0; i < 5; i++) {
        if (fd[i] < 0)
            continue;
        assert_string_equal(hear(fd[i], 6), "hello\n");
        close(fd[i]);
    }
    end();
}

// Row 83, in a process of its own.
static void exhausted(void)
{
    int fd[100], n = 0;
    begin("127.0.0.1:0", 0, 0);
    int probe = dup(0);
    close(probe);
    struct rlimit few = {(rlim_t)probe + 41,
                         (rlim_t)probe + 41}; // both ends of a connection are ours
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    while (n < 100 && (fd[n] = dial()) >= 0) { // in step, so that each side holds half of them
        n++;
        EVENTUALLY(stats().accepted >= (unsigned)n || stats().accept_paused > 0);
    }
    close(fd[--n]); // one end more than the server can take is left
    close(fd[--n]);
    EVENTUALLY(stats().accept_paused > 0);
    uint64_t turns = loop_turns(set.loop[0]) + loop_turns(set.loop[1]);
    usleep(400000);
    assert_true(loop_turns(set.loop[0]) + loop_turns(set.loop[1]) - turns < 100);
    for (int i = 0; i < n / 2; i++)
        close(fd[i]);
    EVENTUALLY(stats().accepted >= (unsigned)n / 2);
    usleep(300000);
    int fresh = dial();
    assert_true(talks(fresh)); // recovered
    close(fresh);
    for (int i = n / 2; i < n; i++)
        close(fd[i]);
    EVENTUALLY(stats().conns == 0);
    end();
}

static void out_of_descriptors_accept_rests_and_recovers(void **state)
{
    pid_t pid = fork();
    if (pid == 0) {
        const struct CMUnitTest tests[] = {
            {"exhausted", (CMUnitTestFunction)exhausted, setup, NULL, NULL}};
        alarm(150);
        close_range(3, ~0U, 0); // what make hands down, else the sum below would not be right
        _exit(cmocka_run_group_tests(tests, NULL, NULL));
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void drain_ends_gracefully(void **state)
{
    begin("127.0.0.1:0", 0, 0);
    int fd[6];
    for (int i = 0; i < 6; i++) {
        fd[i] = dial();
        assert_true(talks(fd[i]));
    }
    assert_false(server_idle(server));
    server_drain(server, NULL, 0);
    for (int i = 0; i < 6; i++) {
        assert_true(closed(fd[i]));
        close(fd[i]);
    }
    int late = dial(); // still accepted, told to go from its start
    assert_true(late >= 0);
    assert_true(closed(late));
    close(late);
    int waiting = dial();
    server_stop_accept(server, NULL);
    assert_true(closed(waiting)); // not left in a backlog
    close(waiting);
    EVENTUALLY(server_idle(server));
    assert_int_equal(dial(), -1);
    assert_false(stats().accepting);
    end();
}

// Until the moment has come who is there, and who comes, is served; then all of them go.
static void drain_waits_for_its_time(void **state)
{
    begin("127.0.0.1:0", 0, 0);
    int old = dial();
    assert_true(talks(old));
    server_drain(server, NULL, UINT64_MAX / 2);
    int late = dial();
    assert_true(talks(late) && talks(late) && talks(old));
    server_stop_accept(server, NULL);
    assert_true(closed(late) && closed(old));
    close(late);
    close(old);
    EVENTUALLY(server_idle(server));
    end();
}

// Turns stay short however many there are; some end while the others wait for their turn.
static void drain_goes_by_slices(void **state)
{
    enum { CONNS = 300 };
    static int fd[CONNS];
    begin("127.0.0.1:0", 0, 0);
    drained = most_drained = 0;
    for (int i = 0; i < CONNS; i++) {
        fd[i] = dial();
        assert_true(talks(fd[i]));
    }
    server_drain(server, NULL, 0);
    for (int i = 0; i < CONNS; i += 3)
        close(fd[i]);
    EVENTUALLY(stats().conns == 0);
    for (int i = 0; i < CONNS; i++) {
        if (i % 3 == 0)
            continue;
        assert_true(closed(fd[i]));
        close(fd[i]);
    }
    assert_in_range(drained, CONNS * 2 / 3, CONNS);
    assert_in_range(most_drained, 1, 64);
    end();
}

static void cut_closes_everything(void **state)
{
    begin("127.0.0.1:0", 0, 0);
    int fd[6];
    for (int i = 0; i < 6; i++) {
        fd[i] = dial();
        assert_true(talks(fd[i]));
    }
    server_stop_accept(server, NULL);
    server_cut(server, NULL);
    for (int i = 0; i < 6; i++) {
        assert_true(closed(fd[i]));
        close(fd[i]);
    }
    EVENTUALLY(server_idle(server));
    end();
}

static void stopping_with_connections_leaks_nothing(void **state)
{
    begin("127.0.0.1:0", 0, 0);
    int fd[6];
    for (int i = 0; i < 6; i++) {
        fd[i] = dial();
        assert_true(talks(fd[i]));
    }
    end();
    for (int i = 0; i < 6; i++)
        close(fd[i]);
}

static void tls_works_and_slow_hellos_end(void **state)
{
    static struct pem pem;
    char err[TLS_ERROR];
    pem_make(&pem, "a.example", -60, 3600);
    tls = tls_server_new_mem(view_str(pem.cert), view_str(pem.key), NULL, 2, err);
    assert_non_null(tls);
    limits.header_timeout_us = 400000;
    begin("127.0.0.1:0", 0, 0);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    for (int i = 0; i < 6; i++) {
        int fd = dial();
        char buf[16] = {0};
        SSL *ssl = SSL_new(ctx);
        SSL_set_fd(ssl, fd);
        assert_int_equal(SSL_connect(ssl), 1);
        assert_int_equal(SSL_write(ssl, "hello\n", 6), 6);
        assert_int_equal(SSL_read(ssl, buf, sizeof buf), 6);
        assert_string_equal(buf, "hello\n");
        assert_int_equal(SSL_write(ssl, "quit\n", 5), 5);
        assert_int_equal(SSL_read(ssl, buf, sizeof buf), 0);
        assert_int_equal(SSL_get_shutdown(ssl) & SSL_RECEIVED_SHUTDOWN, SSL_RECEIVED_SHUTDOWN);
        SSL_free(ssl);
        close(fd);
    }
    SSL_CTX_free(ctx);
    int none = dial(), half = dial(), junk = dial(); // row 81
    send(half, "\x16\x03\x01\x02\x00\x01", 6, 0);
    send(junk, "GET / HTTP/1.1\r\n\r\n", 18, 0);
    assert_string_equal(hear(junk, 8), "no TLS?\n"); // in plain
    assert_int_equal(stats().plain_on_tls, 1);
    assert_true(closed(junk));
    assert_true(closed(half));
    assert_true(closed(none));
    assert_int_equal(stats().tls_failed, 2);
    close(none);
    close(half);
    close(junk);
    end();
    tls_server_free(tls);
    tls = NULL;
}

static void tls_where_there_is_none(void **state)
{
    begin("127.0.0.1:0", 0, 0);
    int hello = dial(), other = dial();
    send(hello, "\x16\x03\x01\x02\x00\x01", 6, 0);
    assert_string_equal(hear(hello, 5), "TLS?\n");
    assert_true(closed(hello) && talks(other));
    send(other, "\x16\n", 2, 0); // not the first byte
    assert_string_equal(hear(other, 2), "\x16\n");
    assert_int_equal(stats().tls_on_plain, 1);
    close(hello);
    close(other);
    end();
}

static bool talks_tls(SSL_CTX *ctx)
{
    int fd = dial();
    char buf[16] = {0};
    SSL *ssl = SSL_new(ctx);
    SSL_set_fd(ssl, fd);
    bool ok = SSL_connect(ssl) == 1 && SSL_write(ssl, "hello\n", 6) == 6 &&
              SSL_read(ssl, buf, sizeof buf) == 6 && strcmp(buf, "hello\n") == 0;
    SSL_free(ssl);
    close(fd);
    return ok;
}

static void adopt_all(void)
{
    static struct loop_task t[2];
    adopted = 0;
    for (unsigned i = 0; i < 2; i++) {
        t[i].fn = on_adopt;
        loop_post_task(NULL, set.loop[i], &t[i]);
    }
    EVENTUALLY(adopted == 2);
}

// One socket: plain, then with TLS, then plain; who was there before goes on as it began.
static void tls_begins_and_ends(void **state)
{
    static struct pem pem;
    char err[TLS_ERROR];
    struct tls_server *first;
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    pem_make(&pem, "a.example", -60, 3600);
    begin("127.0.0.1:0", 0, 0);
    int plain = dial();
    assert_true(talks(plain));
    for (int round = 0; round < 3; round++) {
        first = tls = tls_server_new_mem(view_str(pem.cert), view_str(pem.key), NULL, 2, err);
        assert_non_null(tls);
        adopt_all();
        for (int i = 0; i < 6; i++)
            assert_true(talks_tls(ctx));
        assert_true(talks(plain));
        tls = NULL;
        adopt_all();
        tls_server_free(first);
        int more = dial();
        assert_true(talks(more));
        close(more);
    }
    close(plain);
    SSL_CTX_free(ctx);
    end();
}

static _Atomic bool is_retired;

static void on_retired(struct loop *l, struct loop_task *t)
{
    (void)l;
    (void)t;
    is_retired = true;
}

// Its loops run on, with another server beside it, and nothing of it is left.
static void a_server_retires_while_its_loops_run(void **state)
{
    begin("127.0.0.1:0", 0, 0);
    struct loop *own = loop_new(7, "own", 1);
    struct server *first = server;
    for (int round = 0; round < 20; round++) {
        int fds[2], fd[4];
        char err[LISTEN_ERROR];
        struct loop_task done = {.fn = on_retired};
        struct server_config c = {
            .name = "next", .limits = &limits, .ops = &no_ops, .budget = budget};
        assert_null(addr_parse(&where, VIEW("127.0.0.1:0"), 0));
        assert_int_equal(listen_open(&where, 2, fds, err), 2);
        server = server_new(&c, set.loop, 2, fds, 2);
        server_start(server, own);
        loop_turn(own, false);
        for (int i = 0; i < 4; i++) {
            fd[i] = dial();
            assert_true(talks(fd[i]));
        }
        server_drain(server, own, 0);
        server_stop_accept(server, own);
        loop_turn(own, false);
        for (int i = 0; i < 4; i++) {
            assert_true(closed(fd[i]));
            close(fd[i]);
        }
        EVENTUALLY(server_idle(server));
        is_retired = false;
        server_retire(server, own, &done);
        while (!is_retired)
            loop_turn(own, true);
        server_free(server);
    }
    server = first;
    uint64_t seen = dates;
    EVENTUALLY(dates > seen + 1); // the first one's clock goes on
    end();
    loop_free(own);
}

int main(void)
{
    alarm(300);
    net_init();
#define TEST(t) cmocka_unit_test_setup(t, setup)
    const struct CMUnitTest tests[] = {
        TEST(echoes_over_v4_v6_and_unix),
        TEST(date_is_set_every_second_on_each_loop),
        TEST(bytes_may_come_singly),
        TEST(silent_clients_are_timed_out),
        TEST(half_closed_client_gets_its_answer),
        TEST(half_closed_client_resets),
        TEST(end_is_orderly_while_the_client_still_sends),
        TEST(lingering_ends),
        TEST(slow_reader_gets_all_and_holds_nobody),
        TEST(reader_that_never_reads_is_closed),
        TEST(last_record_is_not_waited_for_for_ever),
        TEST(address_has_its_share),
        TEST(other_limits),
        TEST(at_the_bound_accept_waits),
        TEST(out_of_descriptors_accept_rests_and_recovers),
        TEST(drain_ends_gracefully),
        TEST(drain_waits_for_its_time),
        TEST(drain_goes_by_slices),
        TEST(cut_closes_everything),
        TEST(stopping_with_connections_leaks_nothing),
        TEST(tls_works_and_slow_hellos_end),
        TEST(tls_where_there_is_none),
        TEST(tls_begins_and_ends),
        TEST(a_server_retires_while_its_loops_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
