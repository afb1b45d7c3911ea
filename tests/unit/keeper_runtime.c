// What the keeper takes from the system: the file, the private directory, sockets, programs (row 122).
#include "gateway/file.h"
#include "keeper/relay.h"
#include "keeper/runtime.h"
#include "net/listen.h"
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
// cmocka wants the four above before it
#include <cmocka.h>

static char base[64];

static int enter(void **state)
{
    snprintf(base, sizeof(base), "/tmp/keeper-test-XXXXXX");
    return mkdtemp(base) ? chdir(base) : -1;
}

static int leave(void **state)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", base);
    return chdir("/") || system(command);
}

static void put_file(const char *path, const char *text, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    fclose(f);
}

static void files(void **state)
{
    struct buffer b;
    char why[RUNTIME_ERROR];
    buffer_init(&b);
    assert_false(file_read("none.conf", CONFIG_MAX_BYTES, &b, why));
    assert_string_equal(why, "none.conf: No such file or directory");
    assert_false(file_read("/tmp", CONFIG_MAX_BYTES, &b, why));
    assert_string_equal(why, "/tmp: not a regular file");
    mkfifo("fifo", 0600);
    assert_false(file_read("fifo", CONFIG_MAX_BYTES, &b, why)); // and does not wait for a writer
    assert_string_equal(why, "fifo: not a regular file");
    put_file("good", "loops = 1\n", 10);
    assert_true(file_read("good", CONFIG_MAX_BYTES, &b, why));
    assert_int_equal(buffer_len(&b), 10);
    buffer_reset(&b);
    char *large = calloc(1, 10 << 20);
    put_file("large", large, 10 << 20);
    assert_false(file_read("large", CONFIG_MAX_BYTES, &b, why));
    assert_string_equal(why, "large: larger than 1MiB");
    assert_true(b.cap <= 4u << 20);
    free(large);
    if (geteuid() != 0) {
        chmod("good", 0);
        assert_false(file_read("good", CONFIG_MAX_BYTES, &b, why));
        assert_string_equal(why, "good: Permission denied");
    }
    buffer_deinit(&b);
}

static void private_directory(void **state)
{
    struct runtime_dir a, b;
    struct stat st;
    char why[RUNTIME_ERROR], path[200];
    assert_true(runtime_dir_make(&a, base, why));
    assert_int_equal(stat(a.path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    snprintf(path, sizeof(path), "%s/w0-0.sock", a.path);
    put_file(path, "", 0);
    // another keeper beside it leaves it alone
    assert_true(runtime_dir_make(&b, base, why));
    assert_int_equal(access(path, F_OK), 0);
    assert_string_not_equal(a.path, b.path);
    // one that was killed holds no lock any more: the next start removes what it left
    close(b.lock_fd);
    char left[80];
    snprintf(left, sizeof(left), "%s", b.path);
    assert_true(runtime_dir_make(&b, base, why));
    assert_int_not_equal(access(left, F_OK), 0);
    assert_int_equal(access(path, F_OK), 0);
    runtime_dir_remove(&a);
    assert_int_not_equal(access(path, F_OK), 0);
    runtime_dir_remove(&b);
    assert_false(runtime_dir_make(&b, "/nonexistent", why));
    assert_string_equal(why, "runtime_dir /nonexistent: No such file or directory");
    char deep[160];
    memset(deep, 'a', sizeof(deep));
    deep[0] = '/';
    deep[159] = '\0';
    assert_false(runtime_dir_make(&b, deep, why));
    assert_non_null(strstr(why, "too long for a Unix socket"));
    runtime_dir_remove(&b); // nothing to remove
}

// A keeper that starts while others do: what it holds must exist, and stay.
static bool makes_and_keeps(int rounds)
{
    struct runtime_dir d;
    char why[RUNTIME_ERROR], lock[300];
    for (int i = 0; i < rounds; i++) {
        if (!runtime_dir_make(&d, base, why))
            return false;
        snprintf(lock, sizeof(lock), "%s/lock", d.path);
        bool kept = true;
        for (int k = 0; k < 10 && kept; k++, sched_yield())
            kept = access(lock, F_OK) == 0;
        runtime_dir_remove(&d);
        if (!kept)
            return false;
    }
    return true;
}

static void many_start_at_once(void **state)
{
    enum { KEEPERS = 8, ROUNDS = 400 };
    for (int i = 0; i < KEEPERS; i++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
            _exit(makes_and_keeps(ROUNDS) ? 0 : 1);
    }
    int failed = 0;
    for (int status; wait(&status) > 0;)
        failed += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    assert_int_equal(failed, 0);
}

static struct config *parse(const char *text)
{
    struct config_errors e;
    struct config *c = config_parse(view_str(text), "t.conf", &e);
    if (!c)
        fail_msg("%s", e.error[0].text);
    return c;
}

static unsigned open_descriptors(void)
{
    unsigned n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void sockets(void **state)
{
    struct sockets s;
    char why[RUNTIME_ERROR];
    unsigned before = open_descriptors();
    struct config *c = parse("listen a { address = 127.0.0.1:0 }\n"
                             "listen b { address = unix:b.sock }\n"
                             "admin { address = 127.0.0.1:0 }\n"
                             "worker w { addresses = {grpc://h:1} }\n");
    if (!sockets_open(&s, c, 3, why))
        fail_msg("%s", why);
    assert_int_equal(s.count, 2);
    assert_int_equal(s.listeners[0]->n, 3); // TCP: one a loop
    assert_int_equal(s.listeners[1]->n, 1); // Unix: one shared
    assert_string_equal(s.listeners[0]->wanted, "127.0.0.1:0");
    assert_true(atoi(strrchr(s.listeners[0]->address, ':') + 1) > 0);
    assert_string_equal(s.listeners[1]->name, c->listens[1].name);
    assert_true(fcntl(s.listeners[0]->fds[0], F_GETFD) & FD_CLOEXEC);
    assert_true(s.admin_fd >= 0);
    // the same port again: refused, and nothing stays open
    char text[300];
    struct sockets t;
    snprintf(text, sizeof(text),
             "listen x { address = 127.0.0.1:0 }\nlisten y { address = %s }\n"
             "worker w { addresses = {grpc://h:1} }\n",
             s.listeners[0]->address);
    struct config *d = parse(text);
    unsigned middle = open_descriptors();
    assert_false(sockets_open(&t, d, 2, why));
    assert_non_null(strstr(why, "listen \"y\""));
    assert_non_null(strstr(why, "in use"));
    assert_int_equal(open_descriptors(), middle);
    sockets_close(&s);
    assert_int_not_equal(access("b.sock", F_OK), 0);
    assert_int_equal(open_descriptors(), before);
    config_unref(c);
    config_unref(d);
}

// Takes the text's listeners as now's next, and says what came of them: "1 2+ -3": 1 stays, 2 is new, 3 is closed.
static const char *go_over(struct sockets *now, const char *text)
{
    static char said[200];
    struct sockets next;
    char why[RUNTIME_ERROR];
    struct config *c = parse(text);
    size_t n = 0;
    if (!sockets_prepare(&next, now, c, 2, why))
        fail_msg("%s", why);
    for (unsigned i = 0; i < next.count; i++)
        n += (size_t)snprintf(said + n, sizeof(said) - n, "%u%s ", next.listeners[i]->id,
                              sockets_has(now, next.listeners[i]) ? "" : "+");
    for (unsigned i = 0; i < now->count; i++)
        if (!sockets_has(&next, now->listeners[i]))
            n += (size_t)snprintf(said + n, sizeof(said) - n, "-%u ", now->listeners[i]->id);
    said[n ? n - 1 : 0] = '\0';
    sockets_commit(now, &next, c);
    for (unsigned i = 0; i < now->count; i++)
        assert_string_equal(now->listeners[i]->name, c->listens[i].name);
    config_unref(c);
    return said;
}

#define W "worker w { addresses = {grpc://h:1} }\n"

static void other_listeners(void **state)
{
    struct sockets s, t;
    char why[RUNTIME_ERROR], text[400];
    unsigned before = open_descriptors();
    struct config *c =
        parse("listen a { address = 127.0.0.1:0 }\nlisten b { address = unix:b.sock }\n" W);
    if (!sockets_open(&s, c, 2, why))
        fail_msg("%s", why);
    unsigned two = open_descriptors();
    assert_string_equal(go_over(&s, "listen b { address = unix:b.sock }\n"
                                    "listen a { address = 127.0.0.1:0 }\n" W),
                        "2 1");
    // Port 0 goes by the name, all else by the address.
    assert_string_equal(go_over(&s, "listen x { address = unix:b.sock }\n"
                                    "listen y { address = 127.0.0.1:0 }\n" W),
                        "2 3+ -1");
    snprintf(text, sizeof(text), "listen y { address = %s }\nlisten z { address = %s }\n" W,
             s.listeners[1]->address, "unix:c.sock");
    assert_string_equal(go_over(&s, text), "3 4+ -2");
    assert_int_not_equal(access("b.sock", F_OK), 0);
    // And back to port 0 of that name; the number itself goes to whom it is written for.
    assert_string_equal(go_over(&s, "listen y { address = 127.0.0.1:0 }\n"
                                    "listen z { address = unix:c.sock }\n" W),
                        "3 4");
    snprintf(text, sizeof(text),
             "listen n { address = %s }\nlisten y { address = 127.0.0.1:0 }\n" W,
             s.listeners[0]->address);
    assert_string_equal(go_over(&s, text), "3 5+ -4");
    assert_int_equal(open_descriptors(), two + 1); // two of TCP instead of one and a Unix one
    // What cannot be opened: none is, none is closed.
    struct config *bad = parse("listen n { address = unix:d.sock }\n"
                               "listen m { address = 192.0.2.1:1 }\n" W);
    assert_false(sockets_prepare(&t, &s, bad, 2, why));
    assert_non_null(strstr(why, "listen \"m\""));
    assert_int_equal(open_descriptors(), two + 1);
    assert_int_not_equal(access("d.sock", F_OK), 0);
    assert_true(sockets_has(&s, s.listeners[1]));
    // Let go of: the next ones are opened all the same, and given up.
    struct config *more = parse("listen q { address = unix:q.sock }\n" W);
    assert_true(sockets_prepare(&t, &s, more, 2, why));
    sockets_let_go(&s);
    sockets_let_go(&t);
    sockets_drop(&t, &s);
    assert_int_not_equal(access("q.sock", F_OK), 0);
    sockets_close(&s);
    assert_int_equal(open_descriptors(), before);
    config_unref(c);
    config_unref(bad);
    config_unref(more);
}

// Reads one of them: "NAME LINE lost"; NULL: none is there.
static const char *hear_relayed(int fd)
{
    static char text[200];
    struct boot_said s;
    ssize_t n = recv(fd, &s, sizeof(s), MSG_DONTWAIT);
    if (n < 0)
        return NULL;
    assert_int_equal(s.word.kind, BOOT_EVENT);
    assert_int_equal(s.text[(size_t)n - offsetof(struct boot_said, text) - 1], 0);
    snprintf(text, sizeof(text), "%.20s %.100s %u", s.text, s.text + strlen(s.text) + 1,
             s.word.how);
    return text;
}

static void relayed(struct relay *r, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        char line[20];
        snprintf(line, sizeof(line), "{%u}", i);
        relay_add(r, "e", view_str(line));
    }
}

// What waits for a gateway goes in order; what had to give way is counted at its place.
static void events_wait(void **state)
{
    static struct relay r;
    int fd[2], full = 0;
    memset(&r, 0, sizeof(r));
    relay_flush(&r, -1);
    relayed(&r, 0, RELAY_KEPT + 3);
    relay_flush(&r, -1);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fd), 0);
    relay_flush(&r, fd[0]);
    assert_string_equal(hear_relayed(fd[1]), "e {3} 3");
    for (unsigned i = 4; i < RELAY_KEPT + 3; i++)
        assert_non_null(strstr(hear_relayed(fd[1]), " 0"));
    assert_null(hear_relayed(fd[1]));
    static char longest[BOOT_TEXT];
    memset(longest, 'x', sizeof(longest));
    relay_add(&r, "e", view_of(longest, BOOT_TEXT - 2)); // with both its zeros one too many
    relayed(&r, 7, 8);
    relay_add(&r, "e", view_of(longest, BOOT_TEXT - 3));
    relay_flush(&r, fd[0]);
    assert_string_equal(hear_relayed(fd[1]), "e {7} 1");
    assert_non_null(hear_relayed(fd[1]));
    for (; r.first == r.next; full++) { // one that does not read
        relayed(&r, 0, 1);
        relay_flush(&r, fd[0]);
    }
    relayed(&r, 1, RELAY_KEPT + 1); // the one that found no room gives way
    for (int i = 0; i < full - 1; i++)
        assert_string_equal(hear_relayed(fd[1]), "e {0} 0");
    relay_flush(&r, fd[0]);
    assert_string_equal(hear_relayed(fd[1]), "e {1} 1");
    close(fd[0]);
    close(fd[1]);
}

static void programs_and_files(void **state)
{
    char path[600];
    assert_true(runtime_find_program("sh", path, sizeof(path)));
    assert_true(path[0] == '/');
    assert_false(runtime_find_program("no-such-program-here", path, sizeof(path)));
    assert_false(runtime_find_program("./good", path, sizeof(path)));
    assert_false(runtime_find_program("/tmp", path, sizeof(path))); // a directory is none
    put_file("cert.pem", "x", 1);
    struct config *c =
        parse("listen a { address = 127.0.0.1:0 certificate = cert.pem key = no.pem }\n"
              "admin { address = 127.0.0.1:0 token_file = no.token }\n"
              "worker w { command = {no-such-program-here} }\n");
    int fd = open("said", O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_int_equal(runtime_check_files(c, "g.conf", fd), 3);
    char said[1000] = "";
    assert_true(pread(fd, said, sizeof(said) - 1, 0) > 0);
    close(fd);
    assert_non_null(strstr(said, "g.conf: listen \"a\": key: no.pem: No such file or directory\n"));
    assert_non_null(
        strstr(said, "g.conf: admin: token_file: no.token: No such file or directory\n"));
    assert_non_null(strstr(said, "g.conf: worker \"w\": program \"no-such-program-here\" not found "
                                 "beside sluice nor in PATH\n"));
    config_unref(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files),
        cmocka_unit_test(private_directory),
        cmocka_unit_test(many_start_at_once),
        cmocka_unit_test(sockets),
        cmocka_unit_test(other_listeners),
        cmocka_unit_test(events_wait),
        cmocka_unit_test(other_listeners),
        cmocka_unit_test(programs_and_files),
    };
    return cmocka_run_group_tests(tests, enter, leave);
}
