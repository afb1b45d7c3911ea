/* Outgoing connections with a stand-in for the HTTP/2 client ("S" from the other side means SETTINGS, "E"
 * ends the call, "X" breaks the connection): refused, timed out, up, down, closed and freed from inside. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/mem.h"
#include "net/listen.h"
#include "net/peer.h"
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct http_client {
    struct http_client_ops ops;
    void *ctx;
    struct buffer out;
    bool done, call;
    char authority[ADDR_TEXT];
};

static int clients, fills;
static char authority[ADDR_TEXT];
static struct addr where; // the listener

struct http_client *http_client_new(const struct http_client_limits *l,
                                    const struct http_client_ops *ops, void *ctx,
                                    struct block_owner *blocks, struct view name)
{
    struct http_client *c = mem_zalloc(sizeof *c);
    c->ops = *ops;
    c->ctx = ctx;
    snprintf(authority, sizeof authority, "%.*s", VIEW_ARG(name));
    buffer_append(&c->out, "preface", 7);
    clients++;
    return c;
}

static void end_call(struct http_client *c, enum http_call_end end)
{
    if (c->call) {
        c->call = false;
        c->ops.on_end(NULL, end, c->ctx);
    }
}

void http_client_free(struct http_client *c)
{
    end_call(c, CALL_LOST);
    buffer_deinit(&c->out);
    mem_free(c);
    clients--;
}

void http_client_recv(struct http_client *c, const uint8_t *p, size_t n, uint64_t now_us)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] == 'S')
            c->ops.on_ready(c, c->ctx);
        if (p[i] == 'E')
            end_call(c, CALL_ANSWERED);
        if (p[i] == 'X')
            c->done = true;
    }
}

void http_client_fill(struct http_client *c)
{
    fills++;
}

int http_client_gather(struct http_client *c, struct iovec *iov, int max)
{
    iov[0] = (struct iovec){c->out.data + c->out.at, buffer_len(&c->out)};
    return buffer_len(&c->out) > 0;
}

void http_client_sent(struct http_client *c, size_t n)
{
    buffer_consume(&c->out, n);
}

static size_t max_answer; // the last that the client was told
void http_client_set_max_answer(struct http_client *c, size_t bytes)
{
    max_answer = bytes;
}

bool http_client_done(const struct http_client *c)
{
    return c->done;
}

// ---- the tests -----------------------------------------------------------------------------------------

static struct loop *l;
static struct peer *p;
static int ups, downs, ends, listener, remote;
static enum http_call_end last_end;
static char why_down[128];
enum { DO_NOTHING, DO_CLOSE, DO_FREE, DO_AGAIN };
static int on_end_does, on_down_does;

static void on_up(struct peer *peer, void *ctx)
{
    ups++;
    assert_non_null(peer_client(peer));
}

static void on_down(struct peer *peer, const char *why, void *ctx)
{
    downs++;
    snprintf(why_down, sizeof why_down, "%s", why);
    assert_int_equal(peer_state(peer), PEER_DOWN);
    assert_int_equal(clients, 0);
    if (on_down_does == DO_FREE) {
        peer_free(peer);
        p = NULL;
    } else if (on_down_does == DO_AGAIN) {
        on_down_does = DO_NOTHING;
        peer_connect(peer);
    }
}

static void on_end(struct http_call *call, enum http_call_end end, void *ctx)
{
    ends++;
    last_end = end;
    if (on_end_does == DO_CLOSE)
        peer_close(p);
    if (on_end_does == DO_FREE) {
        peer_free(p);
        p = NULL;
    }
}

static const struct peer_ops ops = {on_up, on_down, on_end};

static int setup(void **state)
{
    struct peer_config c = {.connect_timeout_us = 200000};
    char err[LISTEN_ERROR];
    ups = downs = ends = 0;
    on_end_does = on_down_does = DO_NOTHING;
    remote = -1;
    assert_null(addr_parse(&c.addr, VIEW("127.0.0.1:0"), 0));
    assert_int_equal(listen_open(&c.addr, 1, &listener, err), 1);
    where = c.addr;
    l = loop_new(0, "test", 1);
    p = peer_new(l, &c, &ops, NULL);
    return 0;
}

static int teardown(void **state)
{
    peer_free(p);
    if (listener >= 0)
        close(listener);
    if (remote >= 0)
        close(remote);
    loop_free(l);
    assert_int_equal(clients, 0);
    return 0;
}

static void turns(int n)
{
    for (int i = 0; i < n; i++)
        loop_turn(l, false);
}

static void say(const char *what)
{
    assert_int_equal(send(remote, what, strlen(what), MSG_NOSIGNAL), strlen(what));
    turns(4);
}

static void come_up(void)
{
    char buf[16] = {0};
    peer_connect(p);
    assert_int_equal(ups + downs, 0);
    turns(3);
    remote = accept(listener, NULL, NULL);
    assert_true(remote >= 0);
    assert_int_equal(recv(remote, buf, sizeof buf, 0), 7);
    assert_string_equal(buf, "preface");
    assert_int_equal(peer_state(p), PEER_CONNECTING);
    assert_null(peer_client(p));
    say("S");
    assert_int_equal(peer_state(p), PEER_UP);
    assert_int_equal(ups, 1);
}

static void comes_up_and_writes_when_touched(void **state)
{
    char buf[16] = {0}, want[ADDR_TEXT];
    come_up();
    assert_string_equal(authority, addr_print(&where, want));
    buffer_append(&peer_client(p)->out, "call", 4);
    peer_touch(p);
    turns(1);
    assert_int_equal(recv(remote, buf, sizeof buf, 0), 4);
    assert_int_equal(peer_bytes_in(p), 1);
    usleep(250000); // the connect's time-out is over
    turns(2);
    assert_int_equal(peer_state(p), PEER_UP);
}

static void refusal_is_told_later(void **state)
{
    close(listener);
    listener = -1;
    peer_connect(p);
    assert_int_equal(downs, 0);
    turns(5);
    assert_int_equal(downs, 1);
    assert_string_equal(why_down, "Connection refused");
}

static void silence_times_out(void **state)
{
    peer_connect(p);
    for (int i = 0; i < 20 && !downs; i++)
        loop_turn(l, true);
    assert_int_equal(downs, 1);
    assert_string_equal(why_down, "connect timed out");
}

static void peers_end_ends_the_calls(void **state)
{
    come_up();
    peer_client(p)->call = true;
    on_down_does = DO_AGAIN;
    shutdown(remote, SHUT_RDWR);
    turns(3);
    assert_int_equal(downs, 1);
    assert_int_equal(ends, 1);
    assert_int_equal(last_end, CALL_LOST);
    assert_int_equal(peer_state(p), PEER_CONNECTING); // connected anew from inside
    close(remote);
    remote = accept(listener, NULL, NULL);
    say("S");
    assert_int_equal(ups, 2);
}

static void broken_connection_goes_down(void **state)
{
    come_up();
    say("X");
    assert_int_equal(downs, 1);
}

static void the_bound_of_an_answer(void **state)
{
    peer_set_max_answer(p, 5); // not connected: for those to come
    assert_int_equal(max_answer, 0);
    come_up();
    peer_set_max_answer(p, 7);
    assert_int_equal(max_answer, 7);
}

static void freed_when_down(void **state)
{
    come_up();
    on_down_does = DO_FREE;
    say("X");
    assert_int_equal(downs, 1);
    assert_null(p);
}

static void closed_by_its_owner_is_not_told(void **state)
{
    come_up();
    peer_client(p)->call = true;
    peer_close(p);
    assert_int_equal(ends, 1);
    turns(3);
    assert_int_equal(downs, 0);
    assert_int_equal(clients, 0);
    peer_connect(p);
    peer_close(p); // before anything happened
    turns(3);
    assert_int_equal(downs, 0);
}

static void closed_or_freed_from_inside_an_end(void **state)
{
    come_up();
    peer_client(p)->call = true;
    on_end_does = DO_CLOSE;
    say("E");
    assert_int_equal(ends, 1);
    assert_int_equal(downs, 0);
    assert_int_equal(peer_state(p), PEER_DOWN);
    assert_int_equal(clients, 0);
    close(remote);
    ups = 0;
    come_up();
    peer_client(p)->call = true;
    on_end_does = DO_FREE;
    say("E");
    assert_int_equal(ends, 2);
    assert_int_equal(clients, 0);
}

// Who closed it decides what its calls are: lost, or abandoned.
static void calls_of_a_closed_one_are_abandoned(void **state)
{
    come_up();
    peer_client(p)->call = true;
    peer_close(p);
    assert_int_equal(last_end, CALL_ABANDONED);
    close(remote);
    ups = 0;
    come_up();
    peer_client(p)->call = true;
    shutdown(remote, SHUT_RDWR);
    turns(3);
    assert_int_equal(last_end, CALL_LOST);
    close(remote);
    ups = downs = 0;
    come_up();
    peer_client(p)->call = true;
    peer_free(p);
    p = NULL;
    assert_int_equal(last_end, CALL_ABANDONED);
}

// Nothing is sent, and still what there is to say is made into frames: a reset ends its call.
static void a_full_socket_does_not_stop_the_frames(void **state)
{
    static char much[1 << 20];
    come_up();
    for (int i = 0; i < 16; i++)
        buffer_append(&peer_client(p)->out, much, sizeof much);
    peer_touch(p);
    turns(50);
    assert_true(buffer_len(&peer_client(p)->out) > 0);
    int before = fills;
    peer_touch(p);
    turns(1);
    assert_int_equal(fills, before + 1);
}

static void the_process_behind_a_unix_socket_is_known(void **state)
{
    struct peer_config c = {0};
    char err[LISTEN_ERROR], path[64];
    assert_int_equal(peer_pid(p), 0);
    come_up();
    assert_int_equal(peer_pid(p), 0); // TCP
    snprintf(path, sizeof path, "unix:/tmp/sluice-peer-%d", (int)getpid());
    peer_free(p);
    close(listener);
    close(remote);
    assert_null(addr_parse(&c.addr, view_str(path), 0));
    assert_int_equal(listen_open(&c.addr, 1, &listener, err), 1);
    p = peer_new(l, &c, &ops, NULL);
    ups = 0;
    come_up();
    assert_int_equal(peer_pid(p), getpid());
    peer_close(p);
    assert_int_equal(peer_pid(p), 0);
    unlink(path + 5);
}

static void freed_from_inside_a_lost_call(void **state)
{
    come_up();
    peer_client(p)->call = true;
    on_end_does = DO_FREE;
    shutdown(remote, SHUT_RDWR);
    turns(3);
    assert_int_equal(ends, 1);
    assert_int_equal(downs, 0);
    assert_int_equal(clients, 0);
}

int main(void)
{
    alarm(300);
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(comes_up_and_writes_when_touched),
        TEST(refusal_is_told_later),
        TEST(silence_times_out),
        TEST(peers_end_ends_the_calls),
        TEST(broken_connection_goes_down),
        TEST(freed_when_down),
        TEST(the_bound_of_an_answer),
        TEST(closed_by_its_owner_is_not_told),
        TEST(closed_or_freed_from_inside_an_end),
        TEST(freed_from_inside_a_lost_call),
        TEST(calls_of_a_closed_one_are_abandoned),
        TEST(a_full_socket_does_not_stop_the_frames),
        TEST(the_process_behind_a_unix_socket_is_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
