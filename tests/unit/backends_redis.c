/* backends/redis on a real loop and real sockets, before servers in the same thread that say what the test has them say:
 * what is sent and when, how each command ends, when a connection rests or is given up, and where a command goes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "backends/breaker.h"
#include "backends/redis.h"
#include "backends/redis_words.h"
#include "base/json.h"
#include "base/mem.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define TIMEOUT_US 30000000 // never, but where it is meant to
#define SOON_US 20000
#define SERVERS 3

// ---- words ---------------------------------------------------------------------------------------------

static void keys_have_slots(void **state)
{
    assert_int_equal(redis_slot(VIEW("123456789")), 0x31c3); // the specification's example
    assert_int_equal(redis_slot(VIEW("foo")), 12182);
    assert_int_equal(redis_slot(VIEW("{user1000}.following")), redis_slot(VIEW("user1000")));
    assert_int_equal(redis_slot(VIEW("foo{bar}{zap}")), redis_slot(VIEW("bar")));
    assert_int_equal(redis_slot(VIEW("foo{{bar}}zap")), redis_slot(VIEW("{bar")));
    assert_int_not_equal(redis_slot(VIEW("foo{}{bar}")), redis_slot(VIEW("bar")));
    assert_int_equal(redis_slot(VIEW("")), 0);
}

static void commands_are_arrays(void **state)
{
    char out[64];
    struct view words[] = {VIEW("SET"), VIEW("k"), VIEW("a\r\nb")};
    size_t n = redis_write(NULL, words, 3);
    assert_int_equal(redis_write(out, words, 3), n);
    assert_true(view_is(view_of(out, n), "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\na\r\nb\r\n"));
}

static void errors_are_of_kinds(void **state)
{
    assert_int_equal(redis_fault(VIEW("LOADING Redis is loading")), REDIS_FAULT_AWAY);
    assert_int_equal(redis_fault(VIEW("READONLY You can't write")), REDIS_FAULT_WRITE);
    assert_int_equal(redis_fault(VIEW("WRONGPASS x")), REDIS_FAULT_ENTRY);
    assert_int_equal(redis_fault(VIEW("MOVED 1 a:2")), REDIS_FAULT_MOVED);
    assert_int_equal(redis_fault(VIEW("ASKED")), REDIS_FAULT_OTHER);
    assert_int_equal(redis_fault(VIEW("")), REDIS_FAULT_OTHER);
}

static void redirections_are_read(void **state)
{
    struct redis_turn t;
    assert_true(redis_turn_read(VIEW("MOVED 3999 127.0.0.1:6381"), &t));
    assert_true(t.slot == 3999 && t.port == 6381 && view_is(t.host, "127.0.0.1"));
    assert_true(redis_turn_read(VIEW("ASK 16383 :1"), &t));
    assert_true(t.slot == 16383 && t.port == 1 && t.host.n == 0);
    assert_true(redis_turn_read(VIEW("MOVED 0 [::1]:6381 more"), &t) && view_is(t.host, "::1"));
    assert_true(redis_turn_read(VIEW("MOVED 0 ::1:6381"), &t) && view_is(t.host, "::1"));
    static const char *const wrong[] = {
        "",          "MOVED",         "MOVED 1",      "MOVED x a:1",     "MOVED 16384 a:1",
        "ASK 1 a:0", "ASK 1 a:65536", "MOVED 1 a:1x", "MOVED -1 a:1",    "MOVED 1 a",
        "ASK 1 a:",  "GONE 1 a:1",    "MOVED  1 a:1", "MOVED 1 a:999999"};
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_false(redis_turn_read(view_str(wrong[i]), &t));
}

static void a_third_that_fails_is_too_much(void **state)
{
    struct call_breaker b = {0};
    for (unsigned i = 0; i < 4; i++)
        assert_false(breaker_failed(&b));
    assert_true(breaker_failed(&b) && !breaker_failed(&b)); // once
    breaker_close(&b);
    for (unsigned i = 0; i < 100; i++) { // one of three
        assert_false(breaker_failed(&b));
        breaker_answered(&b);
        breaker_answered(&b);
    }
    unsigned n = 0;
    for (; !breaker_failed(&b); n++) // one of two
        breaker_answered(&b);
    assert_true(n < 10);
}

// ---- servers -------------------------------------------------------------------------------------------

static struct redis_server {
    int listener, fd; // fd -1: nobody is connected
    uint16_t port;
    unsigned accepted;
    char got[1 << 20]; // since the last `expect`
    size_t n;
    bool deaf;                   // does not accept
    struct redis_server *second; // whoever connects while somebody is there is this one's
} servers[SERVERS];

static struct loop *l;
static struct redis *r;
static struct redis_stats stats;
static struct redis_config config;
static struct addr addrs[SERVERS];
static struct {
    unsigned done;
    struct redis_answer last;
    char text[100], why[200];
    enum redis_state state;
    unsigned downs;
} seen;

static void listen_at(struct redis_server *s)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(s->port)};
    socklen_t n = sizeof(a);
    int on = 1;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(s->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    assert_int_equal(bind(s->listener, (struct sockaddr *)&a, n), 0);
    assert_int_equal(listen(s->listener, 8), 0);
    assert_int_equal(getsockname(s->listener, (struct sockaddr *)&a, &n), 0);
    s->port = ntohs(a.sin_port);
    s->fd = -1;
}

static void hang_up(struct redis_server *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    s->n = 0;
}

static void take(struct redis_server *s)
{
    int fd = s->deaf ? -1 : accept4(s->listener, NULL, NULL, SOCK_NONBLOCK);
    if (fd >= 0 && s->second && s->fd >= 0) {
        hang_up(s->second);
        s->second->fd = fd;
        s->second->accepted++;
    } else if (fd >= 0) {
        hang_up(s);
        s->fd = fd;
        s->accepted++;
    }
    ssize_t n = s->fd >= 0 ? read(s->fd, s->got + s->n, sizeof(s->got) - 1 - s->n) : -1;
    if (n > 0)
        s->n += (size_t)n;
    else if (n == 0)
        hang_up(s);
    s->got[s->n] = 0;
}

static void turn(void)
{
    struct timespec pause = {0, 200000};
    loop_turn(l, false);
    for (unsigned i = 0; i < SERVERS; i++)
        take(&servers[i]);
    nanosleep(&pause, NULL);
}

// Turns until it holds; the tests' runner ends what never does.
#define UNTIL(condition)                                                                           \
    do {                                                                                           \
        for (unsigned turns_ = 0; !(condition); turns_++) {                                        \
            turn();                                                                                \
            if (turns_ > 100000)                                                                   \
                fail_msg("never came: %s; state %u, why %s, got %s", #condition, seen.state,       \
                         seen.why, servers[0].got);                                                \
        }                                                                                          \
    } while (0)

static void say(struct redis_server *s, const char *text)
{
    size_t n = strlen(text);
    assert_true(s->fd >= 0);
    assert_int_equal(write(s->fd, text, n), (ssize_t)n);
}

// A command as it stands on the wire; what came up to its end is forgotten.
static bool has(struct redis_server *s, const char *command)
{
    struct view words[8], rest = view_str(command);
    char wire[1024];
    unsigned n = 0;
    while (n < 8) {
        const char *space = rest.n ? memchr(rest.p, ' ', rest.n) : NULL;
        words[n++] = view_of(rest.p, space ? (size_t)(space - rest.p) : rest.n);
        if (!space)
            break;
        rest = view_of(space + 1, rest.n - words[n - 1].n - 1);
    }
    size_t bytes = redis_write(wire, words, n);
    char *at = memmem(s->got, s->n, wire, bytes);
    if (!at)
        return false;
    size_t gone = (size_t)(at - s->got) + bytes;
    memmove(s->got, s->got + gone, s->n - gone + 1);
    s->n -= gone;
    return true;
}

#define EXPECT(s, command) UNTIL(has(s, command))

// ---- the client ----------------------------------------------------------------------------------------

static void on_done(const struct redis_answer *a, void *user)
{
    (void)user;
    seen.done++;
    seen.last = *a;
    snprintf(seen.text, sizeof(seen.text), "%.*s", VIEW_ARG(a->text));
}

static void on_state(struct redis *of, enum redis_state s, const char *why, void *ctx)
{
    (void)of;
    (void)ctx;
    seen.state = s;
    seen.downs += s == REDIS_DOWN;
    if (why[0])
        snprintf(seen.why, sizeof(seen.why), "%s", why);
}

static const struct redis_ops ops = {on_state};

static enum redis_sent ask(const char *command, const char *key)
{
    struct view words[] = {view_str(command), view_str(key), VIEW("v")};
    bool writes = strcmp(command, "SET") == 0;
    return redis_send(r, words, writes ? 3 : 2, writes, on_done, NULL);
}

static void start(enum redis_kind kind, unsigned n)
{
    config.kind = kind;
    config.addrs = addrs;
    config.n_addrs = n;
    r = redis_new(l, &config, &stats, &ops, NULL);
    assert_non_null(r);
}

static void start_up(void)
{
    start(REDIS_ALONE, 1);
    EXPECT(&servers[0], "PING");
    say(&servers[0], "+PONG\r\n");
    UNTIL(seen.state == REDIS_UP);
}

static int set_up(void **state)
{
    memset(&seen, 0, sizeof(seen));
    memset(&stats, 0, sizeof(stats));
    config = (struct redis_config){.timeout_us = TIMEOUT_US, .master = "mine"};
    net_init();
    l = loop_new(0, "loop-0", 1);
    for (unsigned i = 0; i < SERVERS; i++) {
        char text[40];
        servers[i].port = 0;
        servers[i].n = servers[i].accepted = 0;
        servers[i].deaf = false;
        servers[i].second = NULL;
        listen_at(&servers[i]);
        snprintf(text, sizeof(text), "127.0.0.1:%u", servers[i].port);
        assert_null(addr_parse(&addrs[i], view_str(text), 0));
    }
    return l ? 0 : -1;
}

static int tear_down(void **state)
{
    redis_free(r);
    r = NULL;
    loop_free(l);
    for (unsigned i = 0; i < SERVERS; i++) {
        hang_up(&servers[i]);
        close(servers[i].listener);
    }
    return 0;
}

// ---- one server ----------------------------------------------------------------------------------------

static void commands_of_a_turn_leave_together(void **state)
{
    start_up();
    assert_int_equal(ask("GET", "a"), REDIS_SENT);
    assert_int_equal(ask("SET", "b"), REDIS_SENT);
    assert_int_equal(ask("GET", "c"), REDIS_SENT);
    assert_int_equal(seen.done, 0); // never from inside
    UNTIL(servers[0].n > 0);
    EXPECT(&servers[0], "GET a"); // one write: all is there when something is
    assert_true(has(&servers[0], "SET b v") && has(&servers[0], "GET c"));
    say(&servers[0], "$3\r\none\r\n+OK\r\n$-");
    UNTIL(seen.done == 2);
    assert_true(seen.last.end == REDIS_END_TEXT && strcmp(seen.text, "OK") == 0);
    say(&servers[0], "1\r\n");
    UNTIL(seen.done == 3);
    assert_int_equal(seen.last.end, REDIS_END_NOTHING);
    assert_int_equal(stats.commands, 3);
}

static void answers_are_of_kinds(void **state)
{
    start_up();
    ask("GET", "a");
    EXPECT(&servers[0], "GET a");
    say(&servers[0], ":-7\r\n");
    UNTIL(seen.done == 1);
    assert_true(seen.last.end == REDIS_END_NUMBER && seen.last.number == -7);
    ask("GET", "b");
    EXPECT(&servers[0], "GET b");
    say(&servers[0], "-WRONGTYPE of something\r\n");
    UNTIL(seen.done == 2);
    assert_true(seen.last.end == REDIS_END_ERROR &&
                strcmp(seen.text, "WRONGTYPE of something") == 0);
    assert_int_equal(stats.errors, 1);
    assert_int_equal(seen.state, REDIS_UP);
}

static void what_is_late_is_told_and_its_reply_is_nobodys(void **state)
{
    config.timeout_us = SOON_US;
    start_up();
    ask("GET", "a");
    UNTIL(seen.done == 1);
    assert_int_equal(seen.last.end, REDIS_END_LATE);
    config.timeout_us = TIMEOUT_US;
    ask("GET", "b");
    say(&servers[0], "$5\r\nof-a!\r\n$4\r\nof-b\r\n");
    UNTIL(seen.done == 2);
    assert_string_equal(seen.text, "of-b");
    assert_int_equal(stats.late, 1);
}

static void a_server_that_is_late_rests_and_is_asked(void **state)
{
    config.timeout_us = SOON_US;
    start_up();
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(ask("GET", "a"), REDIS_SENT);
        UNTIL(seen.done == i + 1);
    }
    UNTIL(seen.state == REDIS_RESTING);
    assert_string_equal(seen.why, "its answers come late");
    assert_int_equal(ask("GET", "a"), REDIS_NOBODY);
    EXPECT(&servers[0], "PING");
    say(&servers[0], "$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n$1\r\n4\r\n$1\r\n5\r\n+PONG\r\n");
    UNTIL(seen.state == REDIS_UP ||
          has(&servers[0], "PING")); // the first may have come late itself
    if (seen.state != REDIS_UP)
        say(&servers[0], "+PONG\r\n");
    UNTIL(seen.state == REDIS_UP);
    assert_int_equal(seen.done, 5);
    assert_int_equal(ask("GET", "a"), REDIS_SENT);
    assert_int_equal(stats.rests, 1);
}

static void a_server_that_hangs_is_connected_to_anew(void **state)
{
    config.timeout_us = SOON_US;
    start_up();
    for (unsigned i = 0; i < 5; i++) {
        ask("GET", "a");
        UNTIL(seen.done == i + 1);
    }
    UNTIL(seen.downs == 1); // REDIS_PATIENCE_US
    assert_string_equal(seen.why, "it has not answered for 3 s");
    UNTIL(servers[0].accepted == 2);
}

static void what_is_lost_is_told_and_connected_to_again(void **state)
{
    start_up();
    ask("GET", "a");
    ask("GET", "b");
    EXPECT(&servers[0], "GET b");
    say(&servers[0], "$1\r\nx\r\n");
    UNTIL(seen.done == 1);
    hang_up(&servers[0]);
    UNTIL(seen.done == 2);
    assert_int_equal(seen.last.end, REDIS_END_LOST);
    UNTIL(seen.state == REDIS_DOWN);
    assert_int_equal(ask("GET", "c"), REDIS_NOBODY);
    EXPECT(&servers[0], "PING");
    say(&servers[0], "+PONG\r\n");
    UNTIL(seen.state == REDIS_UP);
    assert_int_equal(stats.connects, 2);
    assert_int_equal(stats.losses, 1);
}

static void a_server_that_loads_is_not_asked(void **state)
{
    start(REDIS_ALONE, 1);
    EXPECT(&servers[0], "PING");
    say(&servers[0], "-LOADING Redis is loading the dataset in memory\r\n");
    UNTIL(seen.downs == 1);
    assert_non_null(strstr(seen.why, "PING: LOADING"));
    EXPECT(&servers[0], "PING");
    say(&servers[0], "+PONG\r\n");
    UNTIL(seen.state == REDIS_UP);
}

static void who_we_are_is_said_first(void **state)
{
    config.user = "gw";
    config.password = "pw";
    config.database = 3;
    start(REDIS_ALONE, 1);
    EXPECT(&servers[0], "AUTH gw pw");
    EXPECT(&servers[0], "SELECT 3");
    EXPECT(&servers[0], "PING");
    say(&servers[0], "-WRONGPASS invalid username-password pair\r\n-NOAUTH x\r\n-NOAUTH x\r\n");
    UNTIL(seen.downs == 1);
    assert_string_equal(seen.why, "AUTH: WRONGPASS invalid username-password pair");
    EXPECT(&servers[0], "AUTH gw pw");
    EXPECT(&servers[0], "PING");
    say(&servers[0], "+OK\r\n+OK\r\n-NOPERM no permissions to run the 'ping' command\r\n");
    UNTIL(seen.state == REDIS_UP);
    assert_int_equal(ask("GET", "a"), REDIS_SENT);
}

static void writes_rest_where_they_are_refused(void **state)
{
    start_up();
    ask("SET", "a");
    EXPECT(&servers[0], "SET a v");
    say(&servers[0], "-OOM command not allowed when used memory > 'maxmemory'.\r\n");
    UNTIL(seen.done == 1);
    assert_int_equal(ask("SET", "b"), REDIS_NOBODY);
    assert_int_equal(ask("GET", "b"), REDIS_SENT); // what is there can be read
    UNTIL(ask("SET", "b") == REDIS_SENT);
}

static void what_is_under_way_is_bounded(void **state)
{
    static char large[1 << 20];
    unsigned n = 0;
    memset(large, 'x', sizeof(large));
    start_up();
    struct view words[] = {VIEW("SET"), VIEW("k"), view_of(large, sizeof(large))};
    while (redis_send(r, words, 3, true, on_done, NULL) == REDIS_SENT)
        n++;
    assert_int_equal(n, REDIS_MAX_BYTES / sizeof(large) - 1);
    assert_int_equal(stats.full, 1);
    hang_up(&servers[0]);
    UNTIL(seen.done == n);
    EXPECT(&servers[0], "PING");
    say(&servers[0], "+PONG\r\n");
    UNTIL(seen.state == REDIS_UP);
    for (n = 0; ask("GET", "a") == REDIS_SENT;)
        n++;
    assert_int_equal(n, REDIS_MAX_WAITING);
}

static void what_a_server_announces_is_not_believed(void **state)
{
    static const char *const wrong[] = {
        "*99999999\r\n", "*2147483647\r\n", "@what\r\n",
        "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"};
    start_up();
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        unsigned done = seen.done, downs = seen.downs;
        ask("GET", "a");
        EXPECT(&servers[0], "GET a");
        say(&servers[0], wrong[i]);
        UNTIL(seen.done == done + 1 && seen.downs == downs + 1);
        assert_int_equal(seen.last.end, REDIS_END_LOST);
        EXPECT(&servers[0], "PING");
        say(&servers[0], "+PONG\r\n");
        UNTIL(seen.state == REDIS_UP);
    }
}

// Where nobody is owed a reply, and behind one that is: hiredis would end the process.
static void what_was_not_asked_ends_the_connection(void **state)
{
    start_up();
    say(&servers[0], "+OK\r\n");
    UNTIL(seen.downs == 1);
    assert_string_equal(seen.why, "it says what it was not asked");
    EXPECT(&servers[0], "PING");
    say(&servers[0], "+PONG\r\n");
    UNTIL(seen.state == REDIS_UP);
    ask("GET", "a");
    ask("GET", "b");
    EXPECT(&servers[0], "GET b");
    say(&servers[0], "$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n:4\r\n");
    UNTIL(seen.downs == 2);
    assert_int_equal(seen.done, 2);
    EXPECT(&servers[0], "PING");
    say(&servers[0], "+PONG\r\n");
    UNTIL(seen.state == REDIS_UP);
}

static void answers_in_pieces(void **state)
{
    const char *all = "*3\r\n$2\r\nab\r\n:5\r\n$-1\r\n";
    start_up();
    for (unsigned i = 0; i < 5; i++) // bytes come one by one, however long it takes
        ask("GET", "a");
    EXPECT(&servers[0], "GET a");
    for (const char *p = all; *p; p++) {
        char one[2] = {*p};
        say(&servers[0], one);
        turn();
    }
    UNTIL(seen.done >= 1);
    say(&servers[0], "+a\r\n+b\r\n+c\r\n+d\r\n");
    UNTIL(seen.done == 5);
}

static void closing_tells_all(void **state)
{
    struct json_writer w;
    struct buffer page;
    start_up();
    ask("GET", "a");
    ask("GET", "b");
    buffer_init(&page);
    json_write(&w, &page);
    redis_show(r, &w);
    assert_non_null(memmem(page.data, page.end, "\"waiting\":2", 11));
    buffer_deinit(&page);
    redis_free(r);
    r = NULL;
    assert_int_equal(seen.done, 2);
    assert_int_equal(seen.last.end, REDIS_END_LOST);
    for (unsigned i = 0; i < 20; i++)
        turn();
}

static void nobody_listens(void **state)
{
    close(servers[0].listener);
    start(REDIS_ALONE, 1);
    UNTIL(seen.downs == 1);
    assert_string_equal(seen.why, "Connection refused");
    listen_at(&servers[0]); // the same port
    EXPECT(&servers[0], "PING");
    say(&servers[0], "+PONG\r\n");
    UNTIL(seen.state == REDIS_UP);
}

static void memory_may_run_out(void **state)
{
    start_up();
    unsigned sent = 0;
    for (unsigned n = 1; n <= 3; n++) {
        mem_fail_at(n);
        sent += ask("GET", "a") == REDIS_SENT;
        mem_fail_at(0);
    }
    assert_int_equal(sent, 2);
    hang_up(&servers[0]);
    UNTIL(seen.done == 2 && seen.state == REDIS_DOWN);
    for (unsigned n = 1; n < 12 && seen.state != REDIS_UP; n++) { // of a turn that connects
        mem_fail_at(n);
        turn();
        mem_fail_at(0);
    }
    UNTIL(servers[0].fd >= 0);
    EXPECT(&servers[0], "PING");
    say(&servers[0], "+PONG\r\n");
    UNTIL(seen.state == REDIS_UP);
}

// ---- Sentinels -----------------------------------------------------------------------------------------

static void name_master(struct redis_server *sentinel, const struct redis_server *master)
{
    char text[100], port[8];
    snprintf(port, sizeof(port), "%u", master->port);
    snprintf(text, sizeof(text), "*2\r\n$9\r\n127.0.0.1\r\n$%zu\r\n%s\r\n", strlen(port), port);
    say(sentinel, text);
}

#define ASKED "SENTINEL get-master-addr-by-name mine"

static void the_master_is_whom_a_sentinel_names(void **state)
{
    close(servers[0].listener); // the first of them is away
    servers[0].listener = -1;
    start(REDIS_SENTINELS, 2);
    EXPECT(&servers[1], "PING");
    say(&servers[1], "+PONG\r\n");
    EXPECT(&servers[1], ASKED);
    name_master(&servers[1], &servers[2]);
    EXPECT(&servers[2], "ROLE");
    say(&servers[2], "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n");
    UNTIL(seen.state == REDIS_UP);
    assert_int_equal(ask("GET", "a"), REDIS_SENT);
    EXPECT(&servers[2], "GET a");
    say(&servers[2], "$1\r\n1\r\n");
    UNTIL(seen.done == 1);
    // It is a replica now: the Sentinel is asked at once, and names another.
    listen_at(&servers[0]);
    ask("SET", "a");
    EXPECT(&servers[2], "SET a v");
    say(&servers[2], "-READONLY You can't write against a read only replica.\r\n");
    EXPECT(&servers[1], ASKED);
    name_master(&servers[1], &servers[0]);
    EXPECT(&servers[0], "ROLE");
    say(&servers[0], "*5\r\n$5\r\nslave\r\n$9\r\n127.0.0.1\r\n:1\r\n$9\r\nconnected\r\n:0\r\n");
    UNTIL(strcmp(seen.why, "ROLE: it is no master") == 0); // not yet
    EXPECT(&servers[1], ASKED);
    name_master(&servers[1], &servers[0]);
    EXPECT(&servers[0], "ROLE");
    say(&servers[0], "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n");
    UNTIL(seen.state == REDIS_UP);
    assert_int_equal(ask("SET", "b"), REDIS_SENT);
    EXPECT(&servers[0], "SET b v");
}

static void a_sentinel_that_knows_no_master_is_left(void **state)
{
    start(REDIS_SENTINELS, 2);
    EXPECT(&servers[0], "PING");
    say(&servers[0], "+PONG\r\n");
    EXPECT(&servers[0], ASKED);
    say(&servers[0], "*-1\r\n");
    EXPECT(&servers[1], "PING");
    say(&servers[1], "+PONG\r\n");
    EXPECT(&servers[1], ASKED);
    assert_int_equal(ask("GET", "a"), REDIS_NOBODY);
    say(&servers[1], "$4\r\nwhat\r\n");
    EXPECT(&servers[0], "PING");
}

// ---- a Cluster -----------------------------------------------------------------------------------------

static void say_slots(struct redis_server *s, unsigned cut, const struct redis_server *low,
                      const struct redis_server *high)
{
    char text[300];
    snprintf(text, sizeof(text),
             "*2\r\n*3\r\n:0\r\n:%u\r\n*3\r\n$0\r\n\r\n:%u\r\n$1\r\nx\r\n"
             "*3\r\n:%u\r\n:16383\r\n*3\r\n$9\r\n127.0.0.1\r\n:%u\r\n$1\r\ny\r\n",
             cut, low->port, cut + 1, high->port);
    say(s, text);
}

static void each_slot_has_its_node(void **state)
{
    char text[100];
    start(REDIS_CLUSTER, 1);
    EXPECT(&servers[0], "PING");
    say(&servers[0], "+PONG\r\n");
    EXPECT(&servers[0], "CLUSTER SLOTS");
    assert_int_equal(ask("GET", "foo"), REDIS_NOBODY); // nobody knows whose it is
    say_slots(&servers[0], 12181, &servers[0], &servers[1]);
    EXPECT(&servers[1], "PING");
    say(&servers[1], "+PONG\r\n");
    UNTIL(ask("GET", "foo") == REDIS_SENT); // slot 12182
    EXPECT(&servers[1], "GET foo");
    say(&servers[1], "$1\r\n1\r\n");
    UNTIL(seen.done == 1);
    assert_int_equal(ask("GET", ""), REDIS_SENT);
    UNTIL(has(&servers[0], "GET ") || servers[0].n > 0);
    say(&servers[0], "$-1\r\n");
    UNTIL(seen.done == 2);
    // It has moved to a node that is new, and then the map says so.
    ask("GET", "foo");
    EXPECT(&servers[1], "GET foo");
    snprintf(text, sizeof(text), "-MOVED 12182 127.0.0.1:%u\r\n", servers[2].port);
    say(&servers[1], text);
    UNTIL(seen.done == 3);
    assert_int_equal(seen.last.end, REDIS_END_ERROR); // it is not connected to yet
    EXPECT(&servers[2], "PING");
    say(&servers[2], "+PONG\r\n");
    UNTIL(ask("GET", "foo") == REDIS_SENT);
    EXPECT(&servers[2], "GET foo");
    // One key of it has gone back already, for this once.
    snprintf(text, sizeof(text), "-ASK 12182 127.0.0.1:%u\r\n", servers[1].port);
    say(&servers[2], text);
    EXPECT(&servers[1], "ASKING");
    EXPECT(&servers[1], "GET foo");
    say(&servers[1], "+OK\r\n$4\r\nback\r\n");
    UNTIL(seen.done == 4);
    assert_string_equal(seen.text, "back");
    ask("GET", "foo");
    EXPECT(&servers[2], "GET foo");
    assert_int_equal(stats.redirected, 1);
}

static void a_node_without_slots_goes(void **state)
{
    start(REDIS_CLUSTER, 1);
    EXPECT(&servers[0], "PING");
    say(&servers[0], "+PONG\r\n");
    EXPECT(&servers[0], "CLUSTER SLOTS");
    say_slots(&servers[0], 100, &servers[0], &servers[1]);
    EXPECT(&servers[1], "PING");
    say(&servers[1], "+PONG\r\n");
    UNTIL(stats.nodes_up == 2);
    hang_up(&servers[1]); // and whoever is left is asked
    for (;;) {
        if (servers[1].fd >= 0 && has(&servers[1], "PING"))
            say(&servers[1], "-CLUSTERDOWN not yet\r\n");
        if (has(&servers[0], "CLUSTER SLOTS"))
            break;
        turn();
    }
    say_slots(&servers[0], 100, &servers[0], &servers[2]);
    EXPECT(&servers[2], "PING");
    say(&servers[2], "+PONG\r\n");
    UNTIL(stats.nodes == 2 && stats.nodes_up == 2);
}

static void a_map_that_is_none_is_asked_for_again(void **state)
{
    static const char *const wrong[] = {
        "*0\r\n", "$4\r\nwhat\r\n", "-ERR This instance has cluster support disabled\r\n",
        "*2\r\n:1\r\n*3\r\n:0\r\n:99999\r\n*2\r\n$1\r\nx\r\n:1\r\n"};
    start(REDIS_CLUSTER, 1);
    EXPECT(&servers[0], "PING");
    say(&servers[0], "+PONG\r\n");
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        if (i + 1 < sizeof(wrong) / sizeof(wrong[0])) {
            EXPECT(&servers[0], "CLUSTER SLOTS");
            say(&servers[0], wrong[i]);
        }
        turn();
        assert_int_equal(ask("GET", "foo"), REDIS_NOBODY);
    }
}

static enum redis_sent scan(uint16_t slot)
{
    struct view words[] = {VIEW("SCAN"), VIEW("0")};
    return redis_send_to(r, slot, words, 2, on_done, NULL);
}

static void what_has_no_key_goes_to_each_that_has_slots(void **state)
{
    uint16_t slots[REDIS_MAX_NODES];
    start(REDIS_CLUSTER, 1);
    EXPECT(&servers[0], "PING");
    say(&servers[0], "+PONG\r\n");
    EXPECT(&servers[0], "CLUSTER SLOTS");
    assert_int_equal(redis_servers(r, slots), 0);
    assert_int_equal(scan(0), REDIS_NOBODY);
    say_slots(&servers[0], 4000, &servers[1], &servers[2]);
    EXPECT(&servers[1], "PING");
    UNTIL(redis_servers(r, slots) == 2); // not the one that told of them
    assert_true(slots[0] == 0 && slots[1] == 4001);
    assert_int_equal(scan(slots[0]), REDIS_NOBODY); // it has not let us in
    EXPECT(&servers[2], "PING");
    say(&servers[2], "+PONG\r\n");
    say(&servers[1], "+PONG\r\n");
    for (unsigned i = 0; i < 2; i++) {
        UNTIL(scan(slots[i]) == REDIS_SENT);
        EXPECT(&servers[1 + i], "SCAN 0");
        say(&servers[1 + i], "*0\r\n");
        UNTIL(seen.done == 1 + i);
    }
}

static void one_alone_has_all(void **state)
{
    uint16_t slots[REDIS_MAX_NODES];
    start_up();
    assert_int_equal(redis_servers(r, slots), 1);
    assert_int_equal(scan(slots[0]), REDIS_SENT);
    EXPECT(&servers[0], "SCAN 0");
}

// ---- scripts -------------------------------------------------------------------------------------------

#define DIGEST "7caf6056913504f0508c65faf2dc3f94ff65bcfd" // of "x=1"

static enum redis_sent eval(void)
{
    struct view words[] = {VIEW("k"), VIEW("a")};
    return redis_eval(r, VIEW("x=1"), words, 2, 1, on_done, NULL);
}

static void a_script_that_is_not_known_is_sent(void **state)
{
    start_up();
    assert_int_equal(eval(), REDIS_SENT);
    EXPECT(&servers[0], "EVALSHA " DIGEST " 1 k a");
    say(&servers[0], "-NOSCRIPT No matching script. Please use EVAL.\r\n");
    EXPECT(&servers[0], "SCRIPT LOAD x=1");
    EXPECT(&servers[0], "EVALSHA " DIGEST " 1 k a");
    say(&servers[0], "$40\r\n" DIGEST "\r\n:7\r\n");
    UNTIL(seen.done == 1);
    assert_true(seen.last.end == REDIS_END_NUMBER && seen.last.number == 7);
    eval();
    EXPECT(&servers[0], "EVALSHA " DIGEST " 1 k a");
    say(&servers[0], ":8\r\n");
    UNTIL(seen.done == 2);
    assert_false(has(&servers[0], "SCRIPT LOAD x=1"));
}

static void a_script_that_stays_unknown_is_an_error(void **state)
{
    start_up();
    eval();
    for (unsigned i = 0; i < 4; i++) {
        EXPECT(&servers[0], "EVALSHA " DIGEST " 1 k a");
        say(&servers[0], "-NOSCRIPT x\r\n");
        if (i < 3) {
            EXPECT(&servers[0], "SCRIPT LOAD x=1");
            say(&servers[0], "-NOPERM x\r\n");
        }
    }
    UNTIL(seen.done == 1);
    assert_int_equal(seen.last.end, REDIS_END_ERROR);
    assert_int_equal(seen.state, REDIS_UP);
}

// ---- the feed ------------------------------------------------------------------------------------------

static struct {
    unsigned fresh, messages;
    char last[40];
} fed;

static void on_fed(bool heard, struct view message, void *user)
{
    (void)user;
    fed.fresh += !heard;
    fed.messages += heard;
    if (heard)
        snprintf(fed.last, sizeof(fed.last), "%.*s", VIEW_ARG(message));
}

// servers[1] is the other end of its connection.
static void start_feed(void)
{
    memset(&fed, 0, sizeof(fed));
    servers[0].second = &servers[1];
    start_up();
    redis_listen(r, "news", on_fed, NULL);
    EXPECT(&servers[1], "PING");
    say(&servers[1], "+PONG\r\n");
    EXPECT(&servers[1], "SUBSCRIBE news");
    say(&servers[1], "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
    UNTIL(fed.fresh == 1 && redis_listens(r));
}

static void what_is_published_is_heard(void **state)
{
    start_feed();
    const char *text = "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$3\r\none\r\n"
                       "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$3\r\ntwo\r\n";
    for (const char *p = text; *p; p++) {
        say(&servers[1], (char[]){*p, 0});
        turn();
    }
    UNTIL(fed.messages == 2);
    assert_string_equal(fed.last, "two");
    ask("GET", "a"); // the other connection is not in its way
    EXPECT(&servers[0], "GET a");
    say(&servers[0], "$1\r\nx\r\n");
    UNTIL(seen.done == 1);
    EXPECT(&servers[1], "SUBSCRIBE news"); // is it alive?
    hang_up(&servers[1]);
    UNTIL(!redis_listens(r));
    EXPECT(&servers[1], "PING");
    say(&servers[1], "+PONG\r\n");
    EXPECT(&servers[1], "SUBSCRIBE news");
    UNTIL(fed.fresh == 2);
    assert_int_equal(seen.state, REDIS_UP);
}

// What no server says there: the connection is another one, or nothing has happened.
static void odd_things_are_published(void **state)
{
    static const char *const odd[] = {"+OK\r\n",
                                      ":1\r\n",
                                      "*0\r\n",
                                      "*-1\r\n",
                                      "$-1\r\n",
                                      "*1\r\n:1\r\n",
                                      "*3\r\n:1\r\n:2\r\n:3\r\n",
                                      "*3\r\n*0\r\n*0\r\n*0\r\n",
                                      "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n*-1\r\n"};
    start_feed();
    for (unsigned i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        say(&servers[1], odd[i]);
        turn();
    }
    say(&servers[1], "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$3\r\none\r\n");
    UNTIL(strcmp(fed.last, "one") == 0);
    unsigned before = servers[1].accepted;
    say(&servers[1], "what is this\r\n");
    UNTIL(servers[1].accepted == before + 1);
    EXPECT(&servers[1], "PING");
    say(&servers[1], "+PONG\r\n");
    EXPECT(&servers[1], "SUBSCRIBE news");
    say(&servers[1], "-NOPERM this user has no permissions to access one of the channels\r\n");
    UNTIL(!redis_listens(r));
    for (unsigned i = 0; i < 500; i++)
        turn();
    assert_int_equal(servers[1].accepted, before + 1); // not at once
    assert_int_equal(seen.downs, 0);
}

static void the_feed_follows_the_master(void **state)
{
    memset(&fed, 0, sizeof(fed));
    start(REDIS_SENTINELS, 1);
    redis_listen(r, "news", on_fed, NULL);
    EXPECT(&servers[0], "PING");
    say(&servers[0], "+PONG\r\n");
    EXPECT(&servers[0], "SENTINEL get-master-addr-by-name mine");
    name_master(&servers[0], &servers[1]);
    EXPECT(&servers[1], "ROLE");
    servers[1].second = NULL;
    say(&servers[1], "*1\r\n$6\r\nmaster\r\n");
    UNTIL(servers[1].accepted == 2); // the feed's: it takes the place of the other in this server
    servers[1].deaf = true;
    hang_up(&servers[1]);
    UNTIL(has(&servers[0], "SENTINEL get-master-addr-by-name mine"));
    servers[2].second = &servers[1];
    name_master(&servers[0], &servers[2]);
    EXPECT(&servers[2], "ROLE");
    say(&servers[2], "*1\r\n$6\r\nmaster\r\n");
    EXPECT(&servers[1], "ROLE"); // the second connection to servers[2]
    say(&servers[1], "*1\r\n$6\r\nmaster\r\n");
    EXPECT(&servers[1], "SUBSCRIBE news");
    UNTIL(redis_listens(r));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_have_slots),
        cmocka_unit_test(commands_are_arrays),
        cmocka_unit_test(errors_are_of_kinds),
        cmocka_unit_test(redirections_are_read),
        cmocka_unit_test(a_third_that_fails_is_too_much),
        TEST(commands_of_a_turn_leave_together),
        TEST(answers_are_of_kinds),
        TEST(what_is_late_is_told_and_its_reply_is_nobodys),
        TEST(a_server_that_is_late_rests_and_is_asked),
        TEST(a_server_that_hangs_is_connected_to_anew),
        TEST(what_is_lost_is_told_and_connected_to_again),
        TEST(a_server_that_loads_is_not_asked),
        TEST(who_we_are_is_said_first),
        TEST(writes_rest_where_they_are_refused),
        TEST(what_is_under_way_is_bounded),
        TEST(what_a_server_announces_is_not_believed),
        TEST(what_was_not_asked_ends_the_connection),
        TEST(answers_in_pieces),
        TEST(closing_tells_all),
        TEST(nobody_listens),
        TEST(memory_may_run_out),
        TEST(the_master_is_whom_a_sentinel_names),
        TEST(a_sentinel_that_knows_no_master_is_left),
        TEST(each_slot_has_its_node),
        TEST(a_node_without_slots_goes),
        TEST(a_map_that_is_none_is_asked_for_again),
        TEST(what_has_no_key_goes_to_each_that_has_slots),
        TEST(one_alone_has_all),
        TEST(a_script_that_is_not_known_is_sent),
        TEST(a_script_that_stays_unknown_is_an_error),
        TEST(what_is_published_is_heard),
        TEST(odd_things_are_published),
        TEST(the_feed_follows_the_master),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
