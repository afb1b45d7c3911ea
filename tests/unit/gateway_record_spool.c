/* gateway/record_spool: records that wait on the disk: in order, over processes that die, on disks that are full. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "gateway/record_spool.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST (1u << 20)

static char dir[64], path[128];
static struct record_spool spool = {.fd = -1};

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/sluice-spool-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/predictions.spool", dir);
    spool = (struct record_spool){.fd = -1};
    assert_true(record_spool_open(&spool, dir));
    return 0;
}

static int teardown(void **state)
{
    char command[128];
    (void)state;
    record_spool_close(&spool);
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

static bool put(uint64_t n)
{
    char text[32];
    struct spool_entry e = {.loop = 3, .ms = n, .seq = n + 1};
    snprintf(text, sizeof(text), "record %llu", (unsigned long long)n);
    return record_spool_put(&spool, &e, view_str(text), MOST);
}

// The next one is that; behind it 0: there is none.
static uint64_t next(uint64_t n)
{
    char text[32];
    uint64_t behind = 0;
    struct spool_entry e;
    struct buffer got;
    buffer_init(&got);
    if (record_spool_next(&spool, &e, &got, &behind)) {
        snprintf(text, sizeof(text), "record %llu", (unsigned long long)n);
        assert_true(view_is(buffer_view(&got), text));
        assert_int_equal(e.loop, 3);
        assert_int_equal(e.ms, n);
        assert_int_equal(e.seq, n + 1);
    }
    buffer_deinit(&got);
    return behind;
}

// The process dies and another one takes over.
static void again(void)
{
    close(spool.fd);
    spool = (struct record_spool){.fd = -1};
    assert_true(record_spool_open(&spool, dir));
}

static off_t size(void)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_size;
}

static void in_order(void **state)
{
    (void)state;
    assert_true(record_spool_is_empty(&spool));
    off_t nothing = size();
    assert_int_equal(next(0), 0);
    for (uint64_t i = 0; i < 10; i++)
        assert_true(put(i));
    uint64_t behind = 0;
    for (uint64_t i = 0; i < 10; i++) {
        behind = next(i);
        assert_true(behind > 0);
    }
    assert_int_equal(next(0), 0);
    assert_false(record_spool_is_empty(&spool)); // they are read, and not delivered
    assert_true(spool.bytes > 0);
    record_spool_done(&spool, behind);
    assert_true(record_spool_is_empty(&spool));
    assert_int_equal(spool.bytes, 0);
    assert_int_equal(size(), nothing); // nor do they take room
    assert_true(put(10));
    assert_true(next(10) > 0);
}

static void over_processes(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 10; i++)
        put(i);
    for (uint64_t i = 0; i < 4; i++)
        record_spool_done(&spool, next(i));
    record_spool_close(&spool); // in order: it is noted how far it came
    assert_true(record_spool_open(&spool, dir));
    assert_true(next(4) > 0);
    again(); // not delivered
    assert_true(next(4) > 0);
    record_spool_done(&spool, next(5));
    again(); // delivered, and not noted: it comes again
    assert_true(next(4) > 0);
    struct record_spool second = {.fd = -1};
    assert_false(record_spool_open(&second, dir)); // somebody has it
}

// Every place at which a process may have died while it wrote.
static void torn(void **state)
{
    (void)state;
    put(0);
    off_t one = size();
    put(1);
    off_t two = size();
    for (off_t n = two; n >= one; n--) {
        assert_int_equal(truncate(path, n), 0);
        again();
        assert_true(next(0) > 0);
        assert_true(n < two ? next(1) == 0 : next(1) > 0);
        assert_int_equal(size(), n < two ? one : two);
        assert_true(put(2));
        again();
        next(0);
        next(n < two ? 2 : 1);
        assert_true(n < two ? next(0) == 0 : next(2) > 0);
        again();
        assert_int_equal(truncate(path, one), 0);
        again();
        put(1);
    }
}

static void damaged(void **state)
{
    (void)state;
    put(0);
    put(1);
    off_t end = size();
    int fd = open(path, O_RDWR);
    assert_int_equal(pwrite(fd, "?", 1, end - 1), 1); // under us
    assert_true(next(0) > 0);
    assert_int_equal(next(1), 0);
    assert_non_null(strstr(spool.why, "damaged"));
    assert_true(record_spool_is_empty(&spool)); // what cannot be read holds up nothing
    put(2);
    assert_true(next(2) > 0);
    // And what is no spool at all.
    assert_int_equal(pwrite(fd, "something else, and long enough", 31, 0), 31);
    close(fd);
    again();
    assert_true(record_spool_is_empty(&spool));
    assert_true(put(3));
    again();
    assert_true(next(3) > 0);
}

static void full(void **state)
{
    struct rlimit before, small;
    struct spool_entry e = {.ms = 1};
    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    put(0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    for (rlim_t more = 0; more < 40; more += 8) { // in its text, or its head
        small.rlim_cur = (rlim_t)size() + more;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        assert_false(put(1));
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        again();
        assert_true(next(0) > 0);
        assert_int_equal(next(1), 0);
        again();
    }
    assert_true(put(1));
    assert_false(record_spool_put(&spool, &e, VIEW("x"), spool.end)); // its own bound
    assert_non_null(strstr(spool.why, "is full"));
    assert_true(next(0) > 0);
    assert_true(next(1) > 0);
    record_spool_close(&spool);
    assert_false(put(2));
    assert_non_null(strstr(spool.why, "there is no spool"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(over_processes, setup, teardown),
        cmocka_unit_test_setup_teardown(torn, setup, teardown),
        cmocka_unit_test_setup_teardown(damaged, setup, teardown),
        cmocka_unit_test_setup_teardown(full, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
