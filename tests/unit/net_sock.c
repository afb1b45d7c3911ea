/* Plain streams: every byte comes through whatever the pieces, slow readers hold, ends are told once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "net/loop.h"
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/net_sock.h"

static struct loop *l;
static struct echo e;
static int peer;

static void begin(int ours, int theirs)
{
    e = (struct echo){0};
    buffer_init(&e.b);
    peer = theirs;
    fcntl(theirs, F_SETFL, O_NONBLOCK);
    assert_int_equal(sock_init(&e.s, l, ours, NULL, &echo_ops), 0);
    sock_start(&e.s);
}

static int setup(void **state)
{
    int pair[2];
    l = loop_new(0, "test", 1);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
        return -1;
    begin(pair[0], pair[1]);
    return 0;
}

static int setup_tcp(void **state)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int lfd = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0);
    l = loop_new(0, "test", 1);
    if (bind(lfd, (struct sockaddr *)&a, len) < 0 || listen(lfd, 1) < 0 ||
        getsockname(lfd, (struct sockaddr *)&a, &len) < 0 ||
        connect(c, (struct sockaddr *)&a, len) < 0)
        return -1;
    begin(accept4(lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), c);
    close(lfd);
    return 0;
}

static int teardown(void **state)
{
    sock_close(&e.s);
    buffer_deinit(&e.b);
    if (peer >= 0)
        close(peer);
    loop_free(l);
    return 0;
}

static void turns(int n)
{
    for (int i = 0; i < n; i++)
        loop_turn(l, false);
}

static uint8_t pattern(size_t i)
{
    return (uint8_t)(i * 31 + (i >> 8) * 7 + (i >> 16));
}

// Sends `total` bytes in pieces of `piece`, reads the echo in pieces of `sip`; the other side turns.
static void pass(size_t total, size_t piece, size_t sip)
{
    uint8_t *out = malloc(piece), *in = malloc(sip);
    size_t sent = 0, got = 0;
    for (unsigned idle = 0; got < total && idle < 100000; idle++) {
        size_t n = total - sent < piece ? total - sent : piece;
        for (size_t i = 0; i < n; i++)
            out[i] = pattern(sent + i);
        ssize_t put = n ? send(peer, out, n, MSG_NOSIGNAL) : 0;
        if (put > 0)
            sent += (size_t)put;
        loop_turn(l, false);
        ssize_t took = recv(peer, in, sip, 0);
        for (ssize_t i = 0; i < took; i++)
            if (in[i] != pattern(got + (size_t)i))
                fail_msg("byte %zu is wrong", got + (size_t)i);
        if (took > 0)
            got += (size_t)took;
        if (put > 0 || took > 0)
            idle = 0;
    }
    free(out);
    free(in);
    assert_int_equal(got, total);
    assert_int_equal(e.got, total);
    assert_int_equal(e.s.bytes_in, total);
    assert_int_equal(e.s.bytes_out, total);
    assert_int_equal(buffer_len(&e.b), 0);
}

static void every_byte_comes_back(void **state)
{
    pass(4u << 20, 100000, 150000);
}

static void byte_by_byte(void **state)
{
    pass(3000, 1, 1);
}

static void slow_reader_loses_nothing(void **state)
{
    pass(3u << 20, 3u << 20, 20000);
}

static void pause_holds_and_resume_goes_on(void **state)
{
    e.paused = true;
    assert_int_equal(send(peer, "hello", 5, 0), 5);
    turns(3);
    assert_int_equal(e.got, 0);
    e.paused = false;
    sock_resume(&e.s);
    turns(2);
    assert_int_equal(e.got, 5);
}

static void fin_behind_data_is_seen_and_we_may_answer(void **state)
{
    char buf[16];
    assert_int_equal(send(peer, "last", 4, 0), 4);
    shutdown(peer, SHUT_WR); // one edge for both
    turns(3);
    assert_int_equal(e.got, 4);
    assert_int_equal(e.eofs, 1);
    assert_int_equal(recv(peer, buf, sizeof buf, 0), 4);
    sock_shut(&e.s);
    turns(1);
    assert_int_equal(recv(peer, buf, sizeof buf, 0), 0);
    assert_int_equal(e.eofs, 1);
    assert_int_equal(e.errors, 0);
}

static void owner_may_close_when_told_of_the_end(void **state)
{
    e.close_on_eof = true;
    close(peer);
    peer = -1;
    turns(3);
    assert_int_equal(e.eofs + e.errors, 1);
    assert_int_equal(e.s.fd, -1);
}

static void reset_is_told_once_with_its_name(void **state)
{
    struct linger hard = {1, 0};
    turns(2);
    setsockopt(peer, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(peer);
    peer = -1;
    turns(3);
    assert_int_equal(e.errors, 1);
    assert_int_equal(e.eofs, 0);
    assert_string_equal(e.why, "Connection reset by peer");
}

static void writing_to_the_dead_is_an_error_not_a_signal(void **state)
{
    e.paused = true; // the end is not seen by reading
    turns(2);
    buffer_append(&e.b, "x", 1);
    close(peer);
    peer = -1;
    sock_flush(&e.s);
    turns(3);
    assert_int_equal(e.errors, 1);
}

static void flood_does_not_starve_the_turn(void **state)
{
    int big = 4 << 20;
    e.sink = true;
    setsockopt(peer, SOL_SOCKET, SO_SNDBUF, &big, sizeof big);
    uint8_t *out = calloc(1, 1u << 20);
    size_t put = 0;
    for (ssize_t n; put < (8u << 20) && (n = send(peer, out, 1u << 20, MSG_NOSIGNAL)) > 0;)
        put += (size_t)n;
    free(out);
    loop_turn(l, false);
    assert_true(e.got <= 2 * LOOP_SCRATCH);
    while (e.got < put) {
        size_t before = e.got;
        loop_turn(l, true); // goes on by itself, without sleeping
        assert_true(e.got > before);
    }
}

int main(void)
{
    alarm(300);
#define BOTH(t)                                                                                    \
    cmocka_unit_test_setup_teardown(t, setup, teardown),                                           \
        cmocka_unit_test_setup_teardown(t, setup_tcp, teardown)
    const struct CMUnitTest tests[] = {
        BOTH(every_byte_comes_back),
        BOTH(byte_by_byte),
        BOTH(slow_reader_loses_nothing),
        BOTH(pause_holds_and_resume_goes_on),
        BOTH(fin_behind_data_is_seen_and_we_may_answer),
        BOTH(owner_may_close_when_told_of_the_end),
        cmocka_unit_test_setup_teardown(reset_is_told_once_with_its_name, setup_tcp, teardown),
        cmocka_unit_test_setup_teardown(writing_to_the_dead_is_an_error_not_a_signal, setup,
                                        teardown),
        BOTH(flood_does_not_starve_the_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
