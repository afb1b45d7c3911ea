/* The log: escaping, lines whole and in order from several producers, a full ring, a full disk, reopening. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "net/log.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FILE_SINK = 1 };

static char dir[64];

static uint64_t mono_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static int make_dir(void **state)
{
    snprintf(dir, sizeof dir, "/tmp/sluice-log-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    return system(cmd);
}

static const char *path_of(const char *name)
{
    static char path[2][128];
    static int turn;
    turn ^= 1;
    snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
    return path[turn];
}

static char *slurp(const char *path, size_t *n)
{
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    char *text = malloc(64u << 20);
    *n = fread(text, 1, (64u << 20) - 1, f);
    text[*n] = 0;
    fclose(f);
    return text;
}

static bool wait_text(const char *path, const char *want)
{
    for (int i = 0; i < 6000; i++, usleep(5000)) {
        size_t n;
        char *text = slurp(path, &n);
        bool has = strstr(text, want);
        free(text);
        if (has)
            return true;
    }
    return false;
}

static bool wait_lines(const char *path, unsigned want)
{
    unsigned have = 0;
    for (uint64_t end_us = mono_us() + 30000000; mono_us() < end_us; usleep(5000)) {
        struct stat st;
        have = 0;
        if (stat(path, &st) == 0) {
            size_t n;
            char *text = slurp(path, &n);
            for (size_t i = 0; i < n; i++)
                have += text[i] == '\n';
            free(text);
        }
        if (have >= want)
            return true;
    }
    print_error("%s: waited for %u lines, have %u\n", path, want, have);
    return false;
}

// ---- text ----------------------------------------------------------------------------------------------

static void assert_escaped(const char *in, size_t n, const char *want)
{
    struct buffer b;
    buffer_init(&b);
    assert_true(log_escape(&b, view_of(in, n)));
    assert_true(buffer_append(&b, "", 1));
    assert_string_equal((char *)b.data + b.at, want);
    buffer_deinit(&b);
}
#define ESCAPED(in, want) assert_escaped(in, sizeof(in) - 1, want)

static void fields_cannot_forge_lines(void **state)
{
    ESCAPED("plain text", "plain text");
    ESCAPED("a\r\nb", "a\\u000d\\u000ab");
    ESCAPED("\x1b[31m\x7f", "\\u001b[31m\\u007f");
    ESCAPED("q\"b\\", "q\\\"b\\\\");
    ESCAPED("nul\0!", "nul\\u0000!");
    ESCAPED("\xc2\x9b"
            "31m",
            "\\u009b31m"); // CSI as one character
    ESCAPED("gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f");
    ESCAPED("\xff\xc3", "\\ufffd\\ufffd");
    ESCAPED("\xc0\xaf", "\\ufffd\\ufffd");            // overlong
    ESCAPED("\xed\xa0\x80", "\\ufffd\\ufffd\\ufffd"); // surrogate
    ESCAPED("\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80");
}

static void fields_are_cut_at_1_kib(void **state)
{
    char *big = malloc(1u << 20);
    memset(big, 'x', 1u << 20);
    struct buffer b;
    buffer_init(&b);
    assert_true(log_escape(&b, view_of(big, LOG_FIELD_MAX)));
    assert_int_equal(buffer_len(&b), LOG_FIELD_MAX); // not cut
    buffer_reset(&b);
    assert_true(log_escape(&b, view_of(big, 1u << 20)));
    assert_int_equal(buffer_len(&b), LOG_FIELD_MAX + 3);
    memcpy(big + LOG_FIELD_MAX - 2, "\xf0\x9f\x98\x80", 4); // lies across the cut: goes as a whole
    buffer_reset(&b);
    assert_true(log_escape(&b, view_of(big, 1u << 20)));
    assert_int_equal(buffer_len(&b), LOG_FIELD_MAX - 2 + 3);
    buffer_deinit(&b);
    free(big);
}

static void times_are_right(void **state)
{
    // Against the C library, over leap years and century ends.
    for (uint64_t day = 0; day < 200000; day += 13) {
        uint64_t us = (day * 86400 + day % 86400) * 1000000 + day % 1000000;
        time_t secs = (time_t)(us / 1000000);
        struct tm tm;
        char want[64], got[28];
        gmtime_r(&secs, &tm);
        size_t n = strftime(want, sizeof want, "%Y-%m-%dT%H:%M:%S", &tm);
        snprintf(want + n, sizeof want - n, ".%06uZ", (unsigned)(us % 1000000));
        log_time(got, us);
        assert_string_equal(got, want);
    }
}

static void event_line_is_json(void **state)
{
    struct log *g = log_new(1, 4096);
    assert_int_equal(log_open(g, LOG_EVENTS, path_of("events")), 0);
    assert_int_equal(log_start(g), 0);
    assert_true(LOG_LINE(g, 0, LOG_WARN, 1767323045678901, "accept paused", LOG_I("fds", -3),
                         LOG_CSTR("why", "a\nb"), LOG_S("n", view_of("xyz", 2))));
    log_free(g);
    size_t n;
    char *text = slurp(path_of("events"), &n);
    assert_string_equal(text, "{\"time\":\"2026-01-02T03:04:05.678901Z\",\"level\":\"warn\","
                              "\"event\":\"accept paused\",\"fds\":-3,\"why\":\"a\\u000ab\","
                              "\"n\":\"xy\"}\n");
    free(text);
}

// Each level shows itself and what is above it; what is not shown is no loss, and is counted nowhere.
static void levels(void **state)
{
    struct log *g = log_new(1, 4096);
    struct log_stats stats;
    enum log_level level;
    assert_int_equal(log_open(g, LOG_EVENTS, path_of("levels")), 0);
    assert_int_equal(log_start(g), 0);
    assert_int_equal(log_level(g), LOG_INFO);
    for (unsigned lowest = 0; lowest < LOG_LEVELS; lowest++) {
        log_set_level(g, (enum log_level)lowest);
        for (unsigned at = 0; at < LOG_LEVELS; at++)
            assert_true(
                LOG_LINE(g, 0, (enum log_level)at, 0, log_level_name[at], LOG_I("lowest", lowest)));
        log_stats(g, LOG_EVENTS, &stats);
        assert_int_equal(stats.lines, lowest == 0 ? 4 : lowest == 1 ? 7 : lowest == 2 ? 9 : 10);
        assert_int_equal(stats.dropped, 0);
    }
    log_free(g);
    size_t n;
    char *text = slurp(path_of("levels"), &n);
    assert_non_null(strstr(text, "\"event\":\"warn\",\"lowest\":2"));
    assert_null(strstr(text, "\"event\":\"info\",\"lowest\":2"));
    free(text);
    for (unsigned i = 0; i < LOG_LEVELS; i++) {
        assert_true(log_level_parse(view_str(log_level_name[i]), &level));
        assert_int_equal(level, i);
    }
    assert_false(log_level_parse(VIEW("Info"), &level) || log_level_parse(VIEW(""), &level) ||
                 log_level_parse(VIEW("infos"), &level));
}

// ---- the thread ----------------------------------------------------------------------------------------

enum { PRODUCERS = 4, LINES = 20000 };

struct producer {
    struct log *g;
    unsigned index;
    unsigned written;
};

static void *produce(void *arg)
{
    struct producer *p = arg;
    char line[128];
    for (unsigned i = 0; i < LINES; i++) {
        int n = snprintf(line, sizeof line, "%u %u %.*s\n", p->index, i, (int)(i % 60),
                         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
        while (!log_write(p->g, p->index, FILE_SINK, view_of(line, (size_t)n)))
            usleep(200); // the ring is small on purpose
        p->written++;
    }
    return NULL;
}

static void lines_stay_whole_and_in_order(void **state)
{
    struct log *g = log_new(PRODUCERS, 10000);
    assert_int_equal(log_open(g, FILE_SINK, path_of("order")), 0);
    assert_int_equal(log_start(g), 0);
    struct producer p[PRODUCERS];
    pthread_t t[PRODUCERS];
    for (unsigned i = 0; i < PRODUCERS; i++) {
        p[i] = (struct producer){g, i, 0};
        pthread_create(&t[i], NULL, produce, &p[i]);
    }
    for (unsigned i = 0; i < PRODUCERS; i++)
        pthread_join(t[i], NULL);
    log_free(g);
    size_t n;
    char *text = slurp(path_of("order"), &n), *save = NULL;
    unsigned next[PRODUCERS] = {0};
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        unsigned who, i;
        char rest[128] = "";
        assert_true(sscanf(line, "%u %u %127s", &who, &i, rest) >= 2);
        assert_true(who < PRODUCERS);
        assert_int_equal(i, next[who]++);
        assert_int_equal(strlen(rest), i % 60);
    }
    for (unsigned i = 0; i < PRODUCERS; i++)
        assert_int_equal(next[i], LINES);
    free(text);
}

static void full_ring_drops_and_counts(void **state)
{
    struct log *g = log_new(1, 1000); // not started: nobody empties it
    assert_int_equal(log_open(g, FILE_SINK, path_of("full")), 0);
    char line[100];
    memset(line, 'x', sizeof line);
    line[99] = '\n';
    for (int i = 0; i < 10; i++)
        assert_true(log_write(g, 0, FILE_SINK, view_of(line, 100)));
    for (int i = 0; i < 5; i++)
        assert_false(log_write(g, 0, FILE_SINK, view_of(line, 100)));
    char big[2000] = {'y'};
    assert_false(log_write(g, 0, FILE_SINK, view_of(big, sizeof big)));
    struct log_stats st;
    log_stats(g, FILE_SINK, &st);
    assert_int_equal(st.lines, 10);
    assert_int_equal(st.dropped, 6);
    assert_int_equal(log_start(g), 0);
    log_free(g);
    struct stat file;
    assert_int_equal(stat(path_of("full"), &file), 0);
    assert_int_equal(file.st_size, 1000);
}

static void full_disk_costs_lines_not_time(void **state)
{
    struct log *g = log_new(1, 8192);
    assert_int_equal(log_open(g, FILE_SINK, "/dev/full"), 0);
    assert_int_equal(log_start(g), 0);
    uint64_t began_us = mono_us();
    for (int i = 0; i < 10000; i++)
        log_write(g, 0, FILE_SINK, VIEW("a line that finds no room on the disk\n"));
    assert_true(mono_us() - began_us < 20000000); // each at the disk would take longer
    struct log_stats st;
    for (uint64_t end_us = mono_us() + 30000000; mono_us() < end_us; usleep(10000)) {
        log_stats(g, FILE_SINK, &st);
        if (st.write_errors >= 2)
            break;
    }
    assert_true(st.write_errors >= 2); // tried again
    assert_int_equal(st.bytes, 0);
    assert_int_equal(st.lines + st.dropped, 10000);
    assert_true(st.dropped > 9000);
    began_us = mono_us();
    log_free(g); // gives up
    assert_true(mono_us() - began_us < 30000000);
}

// A file that may not grow (RLIMIT_FSIZE would stop the process; a pipe that is read slowly cuts writes).
static void cut_lines_are_finished_first(void **state)
{
    int fd[2];
    assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd[1]);
    struct log *g = log_new(2, 1u << 20);
    assert_int_equal(log_open(g, FILE_SINK, path), 0);
    // Both rings hold more than a pipe does: writev is cut in the middle of a line of ring 0 only if the
    // descriptor does not block; it does here, so that the order alone is seen.
    char line[1001];
    memset(line, 'a', sizeof line);
    line[1000] = '\n';
    for (int i = 0; i < 100; i++) {
        line[0] = (char)('0' + i % 10);
        assert_true(log_write(g, 0, FILE_SINK, view_of(line, 1001)));
        assert_true(log_write(g, 1, FILE_SINK, view_of(line, 1001)));
    }
    assert_int_equal(log_start(g), 0);
    size_t got = 0, want = 200 * 1001;
    unsigned lines = 0;
    char buf[777];
    while (got < want) {
        ssize_t n = read(fd[0], buf, sizeof buf);
        assert_true(n > 0);
        for (ssize_t i = 0; i < n; i++, got++) {
            if (got % 1001 == 1000) {
                assert_int_equal(buf[i], '\n');
                lines++;
            } else {
                assert_int_not_equal(buf[i], '\n');
            }
        }
    }
    assert_int_equal(lines, 200);
    log_free(g);
    close(fd[0]);
    close(fd[1]);
}

// Standard error is a pipe that nobody reads, and blocks: the other sinks go on, and the end comes.
static void unread_pipe_holds_nobody(void **state)
{
    int fd[2], saved = dup(STDERR_FILENO);
    assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
    dup2(fd[1], STDERR_FILENO);
    struct log *g = log_new(1, 1u << 20);
    assert_int_equal(log_open(g, FILE_SINK, path_of("beside")), 0);
    char line[1001];
    memset(line, 'e', sizeof line);
    line[1000] = '\n';
    for (int i = 0; i < 200; i++)
        assert_true(log_write(g, 0, LOG_EVENTS, view_of(line, 1001)));
    assert_int_equal(log_start(g), 0);
    assert_true(log_write(g, 0, FILE_SINK, VIEW("beside it\n")));
    struct log_stats beside = {0}, events = {0};
    for (int i = 0; i < 6000 && (beside.bytes == 0 || events.bytes < 4004); i++, usleep(5000)) {
        log_stats(g, FILE_SINK, &beside);
        log_stats(g, LOG_EVENTS, &events);
    }
    char buf[4096]; // a thread that hangs is let go, or its failure could not be told
    fcntl(fd[0], F_SETFL, beside.bytes ? 0 : O_NONBLOCK);
    for (int i = 0; beside.bytes == 0 && i < 1000; i++, usleep(1000))
        while (read(fd[0], buf, sizeof buf) > 0) {
        }
    log_free(g); // gives up
    dup2(saved, STDERR_FILENO);
    close(saved);
    assert_int_equal(beside.bytes, 10);
    // what is in the pipe are whole lines: keeper and workers write into the same one
    close(fd[1]);
    unsigned lines = 0;
    for (ssize_t n; (n = read(fd[0], buf, 1001)) > 0; lines++) {
        assert_int_equal(n, 1001);
        assert_int_equal(buf[1000], '\n');
    }
    assert_in_range(lines, 4, 199);
    close(fd[0]);
}

static void reopens_on_request(void **state)
{
    struct log *g = log_new(1, 0);
    assert_int_equal(log_open(g, FILE_SINK, path_of("access")), 0);
    assert_int_equal(log_start(g), 0);
    assert_true(log_write(g, 0, FILE_SINK, VIEW("one\n")));
    assert_true(wait_lines(path_of("access"), 1));
    assert_int_equal(rename(path_of("access"), path_of("access.1")), 0);
    log_reopen(g);
    struct stat st;
    for (int i = 0; i < 6000 && stat(path_of("access"), &st) < 0; i++)
        usleep(5000);
    assert_true(log_write(g, 0, FILE_SINK, VIEW("two\n")));
    assert_true(wait_lines(path_of("access"), 1));
    assert_true(wait_lines(path_of("access.1"), 1));
    log_free(g);
    size_t n;
    char *text = slurp(path_of("access"), &n);
    assert_string_equal(text, "two\n");
    free(text);
}

static void failed_reopen_keeps_the_old_file(void **state)
{
    struct log *g = log_new(1, 0);
    char moved[128];
    assert_int_equal(mkdir(path_of("sub"), 0755), 0);
    assert_int_equal(log_open(g, FILE_SINK, path_of("sub/access")), 0);
    assert_int_equal(log_start(g), 0);
    snprintf(moved, sizeof moved, "%s", path_of("moved"));
    assert_int_equal(rename(path_of("sub"), moved), 0);
    log_reopen(g);
    struct log_stats st = {0};
    for (int i = 0; i < 6000 && st.reopen_errors == 0; i++, usleep(5000))
        log_stats(g, FILE_SINK, &st);
    assert_int_equal(st.reopen_errors, 1);
    assert_true(log_write(g, 0, FILE_SINK, VIEW("kept\n")));
    log_free(g);
    assert_true(wait_lines(path_of("moved/access"), 1));
    errno = 0;
    g = log_new(1, 0);
    assert_int_equal(log_open(g, FILE_SINK, path_of("none/such")), -1);
    assert_int_equal(errno, ENOENT);
    log_free(g);
}

static unsigned open_descriptors(void)
{
    unsigned n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

// From none to a file, to another, to none and to a third: what was written for a file stands in it, once.
static void moves(void **state)
{
    struct log *g = log_new(2, 4096);
    char a[128], b[128], c[128];
    snprintf(a, sizeof a, "%s", path_of("a"));
    snprintf(b, sizeof b, "%s", path_of("b"));
    snprintf(c, sizeof c, "%s", path_of("c"));
    assert_int_equal(log_start(g), 0);
    assert_false(log_write(g, 0, FILE_SINK, VIEW("nobody asked\n")));
    unsigned before = open_descriptors();
    assert_int_equal(log_move(g, FILE_SINK, a), 0);
    assert_true(log_write(g, 1, FILE_SINK, VIEW("one\n")));
    assert_true(wait_lines(a, 1));
    assert_int_equal(log_move(g, FILE_SINK, b), 0);
    struct stat st = {0}; // what is written before the thread has seen it stands in the old one
    for (int i = 0; i < 6000 && (stat(b, &st) < 0 || st.st_size == 0); i++, usleep(5000))
        assert_true(log_write(g, 0, FILE_SINK, VIEW("two\n")));
    assert_true(st.st_size > 0);
    errno = 0;
    assert_int_equal(log_move(g, FILE_SINK, path_of("none/such")), -1);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(log_move(g, FILE_SINK, NULL), 0);
    log_reopen(g); // nothing to open
    for (int i = 0; i < 6000 && open_descriptors() > before; i++)
        usleep(5000);
    assert_int_equal(open_descriptors(), before);
    for (int i = 0; i < 5000; i++) // more than a ring holds: dropped, and nobody waits
        log_write(g, 1, FILE_SINK, VIEW("nowhere\n"));
    usleep(300000); // time to drop them: a thread that is later may find a file for some
    assert_int_equal(log_move(g, FILE_SINK, a), 0); // nobody may have seen this one yet
    assert_int_equal(log_move(g, FILE_SINK, c), 0);
    for (int i = 0; i < 6000 && open_descriptors() > before + 1; i++)
        usleep(5000); // it has, and gives it back
    for (int i = 0; i < 6000 && !log_write(g, 1, FILE_SINK, VIEW("three\n")); i++)
        usleep(5000);
    assert_true(wait_text(c, "three\n"));
    log_move(g, FILE_SINK, b); // the last wish is heard, or given back
    log_free(g);
    size_t n;
    char *text = slurp(c, &n);
    assert_true(n >= 6);
    assert_string_equal(text + n - 6, "three\n");
    assert_ptr_equal(strstr(text, "three"), text + n - 6);
    free(text);
    text = slurp(a, &n);
    assert_memory_equal(text, "one\n", 4);
    assert_null(strstr(text, "three"));
    free(text);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    alarm(300);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_cannot_forge_lines),
        cmocka_unit_test(fields_are_cut_at_1_kib),
        cmocka_unit_test(times_are_right),
        cmocka_unit_test(event_line_is_json),
        cmocka_unit_test(levels),
        cmocka_unit_test(lines_stay_whole_and_in_order),
        cmocka_unit_test(full_ring_drops_and_counts),
        cmocka_unit_test(full_disk_costs_lines_not_time),
        cmocka_unit_test(cut_lines_are_finished_first),
        cmocka_unit_test(unread_pipe_holds_nobody),
        cmocka_unit_test(reopens_on_request),
        cmocka_unit_test(failed_reopen_keeps_the_old_file),
        cmocka_unit_test(moves),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
