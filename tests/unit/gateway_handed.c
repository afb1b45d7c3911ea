/* gateway/handed: listeners as the keeper hands them over: in order, in parts, broken off, and not as they should be. No
 * descriptor is lost in any of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"
#include "gateway/handed.h"
#include <fcntl.h>
#include <unistd.h>

static struct handed handed;
static unsigned before;

static unsigned open_descriptors(void)
{
    unsigned n = 0;
    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static int setup(void **state)
{
    (void)state;
    before = open_descriptors();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    handed_drop(&handed);
    assert_int_equal(open_descriptors(), before);
    return 0;
}

// Of that section: the sockets' id, and n of them.
static void add(unsigned section, unsigned id, unsigned n, bool first)
{
    int fds[BOOT_MAX_LOOPS + 1];
    struct boot_listen said = {
        .word = {.kind = BOOT_LISTENER, .how = first}, .section = section, .id = id};
    snprintf(said.address, sizeof(said.address), "127.0.0.1:%u", id);
    for (unsigned i = 0; i < n; i++)
        fds[i] = dup(0);
    handed_add(&handed, &said, fds, n);
}

static void in_order(void **state)
{
    (void)state;
    add(0, 7, 0, true); // known already
    add(1, 9, 2, false);
    for (unsigned i = 2; i < 20; i++)
        add(i, 100 + i, 1, false);
    assert_false(handed.broken);
    assert_int_equal(handed.n, 20);
    assert_int_equal(handed.listeners[0]->id, 7);
    assert_int_equal(handed.listeners[0]->n_fds, 0);
    assert_int_equal(handed.listeners[1]->n_fds, 2);
    assert_string_equal(handed.listeners[19]->address, "127.0.0.1:119");
    handed.listeners[1]->n_fds = 1; // the other one is taken
    close(handed.listeners[1]->fds[1]);
}

static void in_parts(void **state)
{
    (void)state;
    add(0, 1, 100, true);
    add(0, 1, 100, false);
    add(0, 1, 56, false);
    assert_false(handed.broken);
    assert_int_equal(handed.n, 1);
    assert_int_equal(handed.listeners[0]->n_fds, BOOT_MAX_LOOPS);
    add(0, 1, 1, false); // more than there are loops
    assert_true(handed.broken);
}

// The offer that these were for never came.
static void the_next_offer(void **state)
{
    (void)state;
    add(0, 1, 2, true);
    add(1, 2, 2, false);
    add(0, 3, 1, true);
    assert_int_equal(handed.n, 1);
    assert_int_equal(handed.listeners[0]->id, 3);
    assert_int_equal(open_descriptors(), before + 1);
    add(5, 1, 1, false); // one that is missing
    assert_true(handed.broken);
    add(1, 1, 1, false); // none of it is taken any more
    assert_int_equal(handed.n, 1);
    assert_int_equal(open_descriptors(), before + 1);
    add(0, 4, 1, true);
    assert_false(handed.broken);
}

static void not_in_order(void **state)
{
    (void)state;
    add(1, 1, 1, true);
    assert_true(handed.broken);
    add(0, 1, 1, true);
    add(0, 2, 1, false); // other sockets for the same section
    assert_true(handed.broken);
}

static void no_memory(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= 2; n++) {
        mem_fail_at(n);
        add(0, 1, 2, true);
        mem_fail_at(0);
        assert_true(handed.broken);
        assert_int_equal(open_descriptors(), before);
    }
    add(0, 1, 2, true);
    assert_false(handed.broken);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(in_order), TEST(in_parts), TEST(the_next_offer), TEST(not_in_order), TEST(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
