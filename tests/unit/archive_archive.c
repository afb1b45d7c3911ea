/* archive/archive: days are whole whatever ends a run, and nothing is taken twice; what is damaged spoils nothing else; only what
 * we have made is removed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "archive/archive.h"
#include "base/mem.h"
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zstd.h>

#define NOW 1764175000000000 // 2025-11-26T16:36:40
#define DAY_US 86400000000ull

static char dir[64], from[80], to[80];
static struct archive_job job;
static struct archive_done done;

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/sluice-archive-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(from, sizeof(from), "%s/from", dir);
    snprintf(to, sizeof(to), "%s/to", dir);
    assert_int_equal(mkdir(from, 0700), 0);
    job = (struct archive_job){.directory = from, .to = to};
    return 0;
}

static int teardown(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

static void write_file(const char *directory, const char *name, const void *p, size_t n)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    fclose(f);
}

// A closed file: a frame for each word.
static void put(const char *name, const char *words)
{
    char packed[1024];
    size_t n = 0;
    for (; *words; words++)
        n += ZSTD_compress(packed + n, sizeof(packed) - n, words, 1, 1);
    write_file(from, name, packed, n);
}

static size_t read_file(const char *name, char out[65536])
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/%s", to, name);
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(out, 1, 65536, f) : 0;
    if (f)
        fclose(f);
    return n;
}

// What a day's file has, whole; "" of one that is not there.
static const char *text_of(const char *name)
{
    static char packed[65536], text[65536];
    size_t n = read_file(name, packed), used = 0;
    for (size_t at = 0; at < n;) {
        size_t frame = ZSTD_findFrameCompressedSize(packed + at, n - at);
        assert_false(ZSTD_isError(frame));
        used += ZSTD_decompress(text + used, sizeof(text) - used, packed + at, frame);
        at += frame;
    }
    text[used] = '\0';
    return text;
}

// Names, sorted, each with a space.
static const char *list(const char *directory)
{
    static char all[4096];
    struct dirent **found;
    int n = scandir(directory, &found, NULL, alphasort);
    all[0] = '\0';
    for (int i = 0; i < n; i++) {
        if (found[i]->d_name[0] != '.')
            snprintf(all + strlen(all), sizeof(all) - strlen(all), "%s ", found[i]->d_name);
        free(found[i]);
    }
    free(found);
    return all;
}

static enum archive_end run(uint64_t wall_us)
{
    return archive_run(&job, wall_us, &done);
}

static void put_three(void)
{
    put("20251124T100000.000000Z-a.jsonl.zst", "123");
    put("20251124T110000.000000Z-b.jsonl.zst", "45");
    put("20251125T000000.000000Z-a.jsonl.zst", "6");
    put("20251126T000000.000000Z-a.jsonl.zst", "7"); // today
    put("20251124T120000.000000Z-a.jsonl.zst.part", "8");
}

static void days(void **state)
{
    (void)state;
    put_three();
    assert_int_equal(run(NOW), ARCHIVE_DONE);
    assert_int_equal(done.taken, 3);
    assert_int_equal(done.removed, 3);
    assert_string_equal(text_of("20251124.jsonl.zst"), "12345");
    assert_string_equal(text_of("20251125.jsonl.zst"), "6");
    assert_string_equal(list(to), "20251124.jsonl.zst 20251125.jsonl.zst ");
    assert_string_equal(
        list(from),
        "20251124T120000.000000Z-a.jsonl.zst.part 20251126T000000.000000Z-a.jsonl.zst ");
    // One that comes late; one that is there already, as its removal did not come.
    put("20251124T100000.000000Z-a.jsonl.zst", "123");
    put("20251124T130000.000000Z-a.jsonl.zst", "9");
    assert_int_equal(run(NOW), ARCHIVE_DONE);
    assert_int_equal(done.taken, 1);
    assert_int_equal(done.removed, 2);
    assert_string_equal(text_of("20251124.jsonl.zst"), "123459");
    assert_int_equal(run(NOW + DAY_US), ARCHIVE_DONE);
    assert_string_equal(text_of("20251126.jsonl.zst"), "7");
}

static int run_until(rlim_t most)
{
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        signal(SIGXFSZ, SIG_DFL); // ends it there and then, as a kill does
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){most, RLIM_INFINITY});
        _exit(run(NOW) == ARCHIVE_DONE ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? 2 : WEXITSTATUS(status);
}

// At every byte that it writes.
static void killed_anywhere(void **state)
{
    int end = 2;
    unsigned most = 0;
    for (; end == 2; most++) {
        put_three();
        end = run_until(most);
        assert_int_not_equal(end, 1);
        put("20251124T130000.000000Z-a.jsonl.zst", "9"); // and one more comes
        assert_int_equal(run(NOW), ARCHIVE_DONE);
        assert_string_equal(text_of("20251124.jsonl.zst"), "123459");
        assert_string_equal(text_of("20251125.jsonl.zst"), "6");
        assert_string_equal(list(to), "20251124.jsonl.zst 20251125.jsonl.zst ");
        teardown(state);
        setup(state);
    }
    assert_true(most > 100);
}

static void full_disk(void **state)
{
    struct rlimit before;
    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    put_three();
    for (rlim_t most = 1; most < 120; most += 7) {
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &(struct rlimit){most, before.rlim_max}), 0);
        enum archive_end end = run(NOW);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_int_equal(end, ARCHIVE_FAILED);
        assert_non_null(strstr(done.why, "20251124.jsonl.zst.new: File too large"));
        assert_string_equal(list(to), ""); // nothing in the way of what has no room
        assert_int_equal(done.removed, 0);
    }
    assert_int_equal(run(NOW), ARCHIVE_DONE);
    assert_string_equal(text_of("20251124.jsonl.zst"), "12345");
}

static void damaged(void **state)
{
    (void)state;
    put_three();
    write_file(from, "20251124T103000.000000Z-x.jsonl.zst", "no frame at all", 15);
    char torn[64];
    size_t n = ZSTD_compress(torn, sizeof(torn), "x", 1, 1);
    write_file(from, "20251124T104000.000000Z-x.jsonl.zst", torn, n - 1);
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/20251124T105000.000000Z-fifo.jsonl.zst", from);
    assert_int_equal(mkfifo(path, 0600), 0);
    snprintf(path, sizeof(path), "%s/20251124T105500.000000Z-link.jsonl.zst", from);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(run(NOW), ARCHIVE_FAILED);
        assert_int_equal(done.taken, i == 0 ? 3 : 0);
        assert_string_equal(text_of("20251124.jsonl.zst"), "12345");
        assert_string_equal(list(to), "20251124.jsonl.zst 20251125.jsonl.zst ");
        assert_non_null(strstr(list(from), "103000.000000Z-x.jsonl.zst 20251124T104000.000000Z-x"));
        assert_non_null(strstr(list(from), "-fifo.jsonl.zst 20251124T105500.000000Z-link.jsonl"));
        assert_null(strstr(list(from), "-b.jsonl"));
    }
    // A day's file that is none: nothing is put behind what nobody can read.
    write_file(to, "20251125.jsonl.zst", "what is this", 12);
    put("20251125T010000.000000Z-a.jsonl.zst", "7");
    assert_int_equal(run(NOW), ARCHIVE_FAILED);
    assert_non_null(strstr(done.why, "20251125.jsonl.zst: is damaged, or no day"));
    assert_non_null(strstr(list(from), "20251125T010000.000000Z-a.jsonl.zst"));
    assert_int_equal(read_file("20251125.jsonl.zst", (char[65536]){0}), 12);
}

static void old_days(void **state)
{
    (void)state;
    put_three();
    assert_int_equal(run(NOW), ARCHIVE_DONE);
    write_file(to, "20200101.jsonl.zst", "somebody else's", 15);
    write_file(to, "20200102.jsonl.zst.bak", "[*M\x18", 4);
    write_file(to, "2020.jsonl.zst", "[*M\x18", 4);
    job.keep_us = DAY_US; // the 24th has been over for a day when the 26th begins
    assert_int_equal(run(NOW - 17 * 3600000000ull), ARCHIVE_DONE);
    assert_int_equal(done.days, 0);
    assert_int_equal(run(NOW), ARCHIVE_DONE);
    assert_int_equal(done.days, 1);
    assert_string_equal(list(to), "2020.jsonl.zst 20200101.jsonl.zst 20200102.jsonl.zst.bak "
                                  "20251125.jsonl.zst ");
    job.keep_us = UINT64_MAX;
    assert_int_equal(run(NOW), ARCHIVE_DONE);
    assert_int_equal(done.days, 0);
}

static void busy_missing_and_stopped(void **state)
{
    _Atomic bool stop = true;
    char path[PATH_MAX];
    (void)state;
    put_three();
    job.stop = &stop;
    assert_int_equal(run(NOW), ARCHIVE_BUSY);
    assert_string_equal(list(to), "");
    job.stop = NULL;
    snprintf(path, sizeof(path), "%s/.archive.lock", to);
    int fd = open(path, O_RDWR);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_int_equal(run(NOW), ARCHIVE_BUSY);
    assert_string_equal(list(to), "");
    close(fd);
    assert_int_equal(run(NOW), ARCHIVE_DONE);
    job.to = "/nowhere/at/all";
    assert_int_equal(run(NOW), ARCHIVE_FAILED);
    assert_string_equal(done.why, "/nowhere/at/all: No such file or directory");
    job.to = to;
    job.directory = "/nowhere";
    assert_int_equal(run(NOW), ARCHIVE_FAILED);
    assert_string_equal(done.why, "/nowhere: No such file or directory");
}

static void without_memory(void **state)
{
    (void)state;
    put_three();
    enum archive_end end = ARCHIVE_FAILED;
    unsigned n = 1;
    for (; end == ARCHIVE_FAILED && n < 100; n++) {
        mem_fail_at(n);
        end = run(NOW);
        mem_fail_at(0);
    }
    assert_int_equal(end, ARCHIVE_DONE);
    assert_true(n > 2);
    assert_string_equal(text_of("20251124.jsonl.zst"), "12345");
    assert_string_equal(text_of("20251125.jsonl.zst"), "6");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(days, setup, teardown),
        cmocka_unit_test_setup_teardown(killed_anywhere, setup, teardown),
        cmocka_unit_test_setup_teardown(full_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(damaged, setup, teardown),
        cmocka_unit_test_setup_teardown(old_days, setup, teardown),
        cmocka_unit_test_setup_teardown(busy_missing_and_stopped, setup, teardown),
        cmocka_unit_test_setup_teardown(without_memory, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
