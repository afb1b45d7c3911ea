/* Addresses and listening sockets: what is understood, what is refused and with which words, ports in use,
 * Unix socket files left behind, descriptors handed over. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "net/listen.h"
#include "net/loop.h"
#include <arpa/inet.h>
#include <errno.h>
#include <event2/dns.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *round_trip(const char *text)
{
    static char out[ADDR_TEXT];
    struct addr a;
    const char *why = addr_parse(&a, view_str(text), 0);
    return why ? why : addr_print(&a, out);
}

static void addresses_are_understood(void **state)
{
    static const char *const same[] = {"127.0.0.1:8080",    "0.0.0.0:0",   "[::1]:80",
                                       "[::]:65535",        "unix:/run/s", "worker-3.lan:9000",
                                       "[2001:db8::7]:443", "a_b.c:1"};
    for (unsigned i = 0; i < sizeof same / sizeof *same; i++)
        assert_string_equal(round_trip(same[i]), same[i]);
    assert_string_equal(round_trip("localhost:80"), "127.0.0.1:80");
    assert_string_equal(round_trip("unix:///run/s.sock"), "unix:/run/s.sock");
    assert_string_equal(round_trip("unix:rel/s.sock"), "unix:rel/s.sock");
    struct addr a;
    char out[ADDR_TEXT];
    assert_null(addr_parse(&a, VIEW("10.1.2.3"), 8001));
    assert_string_equal(addr_print(&a, out), "10.1.2.3:8001");
    assert_string_equal(addr_print_host(&a, out), "10.1.2.3");
    assert_null(addr_parse(&a, VIEW("[::1]"), 8001));
    assert_string_equal(addr_print(&a, out), "[::1]:8001");
    assert_string_equal(a.host, "::1");
    assert_null(addr_parse(&a, VIEW("grpc.example"), 8001));
    assert_true(addr_is_name(&a));
    assert_int_equal(a.port, 8001);
}

static void nonsense_is_refused_with_a_reason(void **state)
{
    static const char *const bad[] = {"",
                                      ":80",
                                      "127.0.0.1",
                                      "127.0.0.1:",
                                      "127.0.0.1:65536",
                                      "127.0.0.1:-1",
                                      "127.0.0.1:+1",
                                      "127.0.0.1: 1",
                                      "127.0.0.1:80x",
                                      "127.0.0.1:000080",
                                      "300.0.0.1:80",
                                      "1.2.3:80",
                                      "::1:80",
                                      "[::1:80",
                                      "[::1]80",
                                      "[::1]:",
                                      "[1.2.3.4]:80",
                                      "[fe80::1%eth0]:80",
                                      "unix:",
                                      "host name:80",
                                      "http://h:80",
                                      "-h:80",
                                      ".h:80"};
    struct addr a;
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (!addr_parse(&a, view_str(bad[i]), 0))
            fail_msg("accepted: %s", bad[i]);
    }
    char big[400];
    memset(big, 'a', sizeof big);
    memcpy(big, "unix:/", 6);
    assert_non_null(addr_parse(&a, view_of(big, sizeof big), 0));
    assert_non_null(addr_parse(&a, view_of(big + 6, 300), 80));
    assert_non_null(addr_parse(&a, view_of("a\0b:80", 6), 0));
    // every cut of a good one ends without reading past its end
    for (size_t n = 0; n < 20; n++)
        addr_parse(&a, view_of("[2001:db8::7]:443xxx", n), 0);
}

static int connect_to(const struct addr *a)
{
    int fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, &a->sa, a->len) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static void port_zero_is_reported_and_shared(void **state)
{
    static const char *const where[] = {"127.0.0.1:0", "[::1]:0"};
    for (unsigned k = 0; k < 2; k++) {
        struct addr a, seen;
        int fds[3];
        char err[LISTEN_ERROR];
        assert_null(addr_parse(&a, view_str(where[k]), 0));
        assert_int_equal(listen_open(&a, 3, fds, err), 3);
        assert_int_not_equal(a.port, 0);
        for (int i = 0; i < 3; i++) {
            assert_true(listen_addr_of(fds[i], &seen));
            assert_int_equal(seen.port, a.port);
            assert_true(fcntl(fds[i], F_GETFL) & O_NONBLOCK);
            assert_true(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
        }
        int c = connect_to(&a);
        assert_true(c >= 0);
        assert_false(listen_addr_of(c, &seen));
        close(c);
        listen_close(&a, fds, 3, true);
        assert_int_equal(connect_to(&a), -1);
    }
}

static void port_in_use_is_named(void **state)
{
    struct addr a, b;
    int fds[2], more[2];
    char err[LISTEN_ERROR], want[LISTEN_ERROR];
    assert_null(addr_parse(&a, VIEW("127.0.0.1:0"), 0));
    assert_int_equal(listen_open(&a, 2, fds, err), 2);
    b = a; // SO_REUSEPORT alone would let us have it a second time
    assert_int_equal(listen_open(&b, 2, more, err), -1);
    snprintf(want, sizeof want, "listen 127.0.0.1:%u: port in use", a.port);
    assert_string_equal(err, want);
    listen_close(&a, fds, 2, true);
    assert_int_equal(listen_open(&b, 2, more, err), 2); // free again at once
    listen_close(&b, more, 2, true);
    assert_null(addr_parse(&a, VIEW("192.0.2.1:80"), 0));
    assert_int_equal(listen_open(&a, 1, fds, err), -1);
    assert_string_equal(err, "listen 192.0.2.1:80: no such address on this machine");
    assert_null(addr_parse(&a, VIEW("example.com:80"), 0));
    assert_int_equal(listen_open(&a, 1, fds, err), -1);
}

static void unix_files_left_behind_are_replaced(void **state)
{
    char dir[] = "/tmp/sluice-listen-XXXXXX", text[128], err[LISTEN_ERROR];
    assert_non_null(mkdtemp(dir));
    snprintf(text, sizeof text, "unix:%s/s", dir);
    struct addr a;
    int fd, other;
    assert_null(addr_parse(&a, view_str(text), 0));
    assert_int_equal(listen_open(&a, 4, &fd, err), 1);
    assert_int_equal(listen_open(&a, 1, &other, err), -1); // somebody listens
    assert_non_null(strstr(err, "in use by another process"));
    assert_non_null(strstr(err, text));
    close(fd); // killed: the file stays
    assert_int_equal(listen_open(&a, 1, &fd, err), 1);
    int c = connect_to(&a);
    assert_true(c >= 0);
    close(c);
    listen_close(&a, &fd, 1, true);
    assert_int_equal(access(a.un.sun_path, F_OK), -1);
    int plain = open(a.un.sun_path, O_CREAT | O_WRONLY, 0600);
    close(plain);
    assert_int_equal(listen_open(&a, 1, &fd, err), -1); // a file of somebody's is not deleted
    assert_non_null(strstr(err, "is no socket"));
    assert_int_equal(unlink(a.un.sun_path), 0);
    rmdir(dir);
    assert_int_equal(listen_open(&a, 1, &fd, err), -1);
    assert_non_null(strstr(err, "No such file"));
}

static void descriptors_travel(void **state)
{
    int pair[2], fds[3], got[2], pipes[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(pipe(pipes), 0);
    fds[0] = pipes[0];
    fds[1] = pipes[1];
    fds[2] = pipes[1];
    assert_int_equal(fds_send(pair[0], "ab", 2, fds, 2), 2);
    unsigned n = 2;
    char buf[8];
    assert_int_equal(fds_recv(pair[1], buf, sizeof buf, got, &n), 2);
    assert_int_equal(n, 2);
    assert_true(fcntl(got[0], F_GETFD) & FD_CLOEXEC);
    assert_int_equal(write(got[1], "x", 1), 1);
    assert_int_equal(read(pipes[0], buf, 1), 1);
    close(got[0]);
    close(got[1]);
    // more than there is room for: those that do not fit are closed, not leaked
    int before = dup(0);
    close(before);
    assert_int_equal(fds_send(pair[0], "ab", 2, fds, 3), 2);
    n = 1;
    assert_int_equal(fds_recv(pair[1], buf, sizeof buf, got, &n), 2);
    assert_int_equal(n, 1);
    close(got[0]);
    int after = dup(0);
    assert_int_equal(after, before);
    close(after);
    assert_int_equal(fds_send(pair[0], "c", 1, NULL, 0), 1);
    n = 2;
    assert_int_equal(fds_recv(pair[1], buf, sizeof buf, got, &n), 1);
    assert_int_equal(n, 0);
    close(pair[0]);
    n = 2;
    assert_int_equal(fds_recv(pair[1], buf, sizeof buf, got, &n), 0);
    close(pair[1]);
    close(pipes[0]);
    close(pipes[1]);
}

static struct addr answer;
static const char *answer_why;
static int answers;
static void on_answer(const struct addr *a, const char *why, void *ctx)
{
    answers++;
    answer_why = why;
    if (a)
        answer = *a;
}

// /etc/hosts has localhost everywhere; "ip6-localhost" or the host's own name may miss: asked for through
// the resolver with a name that addr_parse does not shortcut.
static void names_are_looked_up_later(void **state)
{
    struct loop *l = loop_new(0, "test", 1);
    struct addr a;
    assert_null(addr_parse(&a, VIEW("x:1234"), 0));
    snprintf(a.host, sizeof a.host, "localhost");
    assert_non_null(addr_resolve(l, &a, on_answer, NULL));
    assert_int_equal(answers, 0); // never from inside
    for (int i = 0; i < 50 && !answers; i++)
        loop_turn(l, true);
    assert_int_equal(answers, 1);
    if (!answer_why)
        assert_int_equal(answer.port, 1234);
    struct addr_lookup *q = addr_resolve(l, &a, on_answer, NULL);
    addr_resolve_cancel(q);
    snprintf(a.host, sizeof a.host, "no-such-name.invalid");
    q = addr_resolve(l, &a, on_answer, NULL);
    addr_resolve_cancel(q);
    for (int i = 0; i < 5; i++)
        loop_turn(l, true);
    assert_int_equal(answers, 1); // cancelled: nothing is told
    loop_free(l);
}

// Who is not connected when the others are turned away does not get in; who is, is not lost.
static void nobody_new_is_let_in(void **state)
{
    struct addr a;
    char err[LISTEN_ERROR];
    int fds[1];
    assert_null(addr_parse(&a, VIEW("127.0.0.1:0"), 0));
    assert_int_equal(listen_open(&a, 1, fds, err), 1);
    int before = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int after = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(connect(before, &a.sa, a.len), 0);
    assert_true(listen_turn_away(fds[0]));
    assert_int_equal(connect(after, &a.sa, a.len), -1);
    assert_int_equal(errno, EINPROGRESS);
    int got = accept4(fds[0], NULL, NULL, SOCK_CLOEXEC);
    assert_true(got >= 0);
    assert_int_equal(send(before, "x", 1, 0), 1); // only SYNs are dropped
    char byte;
    assert_int_equal(recv(got, &byte, 1, 0), 1);
    assert_int_equal(accept4(fds[0], NULL, NULL, SOCK_CLOEXEC), -1);
    assert_int_equal(errno, EAGAIN);
    listen_close(&a, fds, 1, false);
    struct pollfd p = {after, POLLOUT, 0}; // its SYN comes again, and finds the port closed
    assert_int_equal(poll(&p, 1, 20000), 1);
    int why = 0;
    socklen_t n = sizeof(why);
    getsockopt(after, SOL_SOCKET, SO_ERROR, &why, &n);
    assert_int_equal(why, ECONNREFUSED);
    close(before);
    close(after);
    close(got);
}

static void nobody_new_is_let_in_by_a_file(void **state)
{
    struct addr a;
    char err[LISTEN_ERROR], text[64];
    int fds[1];
    snprintf(text, sizeof(text), "unix:/tmp/net_listen-%d.sock", (int)getpid());
    assert_null(addr_parse(&a, view_str(text), 0));
    assert_int_equal(listen_open(&a, 1, fds, err), 1);
    int before = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int after = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(before, &a.sa, a.len), 0);
    assert_false(listen_turn_away(fds[0]));
    assert_int_equal(connect(after, &a.sa, a.len), -1);
    assert_int_equal(errno, ECONNREFUSED);
    int got = accept4(fds[0], NULL, NULL, SOCK_CLOEXEC);
    assert_true(got >= 0);
    assert_int_equal(accept4(fds[0], NULL, NULL, SOCK_CLOEXEC), -1);
    assert_int_equal(errno, EAGAIN);
    listen_close(&a, fds, 1, true);
    close(before);
    close(after);
    close(got);
}

// The first address may be one that is not reached: whoever comes back after a failure finds the others.
static void every_address_of_a_name_has_its_turn(void **state)
{
    char hosts[] = "/tmp/sluice-hosts-XXXXXX";
    int fd = mkstemp(hosts);
    dprintf(fd, "127.0.0.1 many.test\n127.0.0.2 many.test\n127.0.0.3 many.test\n");
    struct loop *l = loop_new(0, "test", 1);
    l->dns = evdns_base_new(l->base, EVDNS_BASE_DISABLE_WHEN_INACTIVE);
    assert_int_equal(evdns_base_load_hosts(l->dns, hosts), 0);
    struct addr a;
    assert_null(addr_parse(&a, VIEW("many.test:80"), 0));
    unsigned seen = 0;
    for (int i = 0; i < 200 && seen != 7; i++) {
        answers = 0;
        assert_non_null(addr_resolve(l, &a, on_answer, NULL));
        while (!answers)
            loop_turn(l, true);
        assert_null(answer_why);
        seen |= 1u << ((ntohl(answer.in.sin_addr.s_addr) & 3) - 1);
    }
    assert_int_equal(seen, 7);
    loop_free(l);
    close(fd);
    unlink(hosts);
}

int main(void)
{
    alarm(300);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_understood),
        cmocka_unit_test(nonsense_is_refused_with_a_reason),
        cmocka_unit_test(port_zero_is_reported_and_shared),
        cmocka_unit_test(port_in_use_is_named),
        cmocka_unit_test(unix_files_left_behind_are_replaced),
        cmocka_unit_test(nobody_new_is_let_in),
        cmocka_unit_test(nobody_new_is_let_in_by_a_file),
        cmocka_unit_test(descriptors_travel),
        cmocka_unit_test(names_are_looked_up_later),
        cmocka_unit_test(every_address_of_a_name_has_its_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
