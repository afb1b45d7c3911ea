/* net/memory: limits of control groups, version 2 and 1, in a tree of files of our own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "net/memory.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MACHINE (64ull << 30)

static char root[64];

static void put(const char *path, const char *text)
{
    char whole[256];
    snprintf(whole, sizeof(whole), "%s/%s", root, path);
    for (char *at = whole + 1; (at = strchr(at, '/')); *at++ = '/') {
        *at = '\0';
        mkdir(whole, 0700);
    }
    FILE *f = fopen(whole, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static uint64_t allowed(const char *self)
{
    char path[256];
    put("self", self);
    snprintf(path, sizeof(path), "%s/self", root);
    return memory_allowed(MACHINE, path, root);
}

static void own_group(void **state)
{
    (void)state;
    put("system.slice/sluice.service/memory.max", "1073741824\n");
    assert_true(allowed("0::/system.slice/sluice.service\n") == 1ull << 30);
    put("system.slice/sluice.service/memory.max", "max\n");
    assert_true(allowed("0::/system.slice/sluice.service\n") == MACHINE);
    put("system.slice/sluice.service/memory.max", "999999999999999999\n");
    assert_true(allowed("0::/system.slice/sluice.service\n") == MACHINE);
}

static void slice_above(void **state)
{
    (void)state;
    put("small.slice/memory.max", "2147483648\n");
    put("small.slice/a.service/memory.max", "4294967296\n");
    assert_true(allowed("0::/small.slice/a.service\n") == 2ull << 30);
}

// The path is the host's; what is mounted is our own group.
static void container(void **state)
{
    (void)state;
    put("memory.max", "536870912\n");
    assert_true(allowed("0::/\n") == 512ull << 20);
    assert_true(allowed("0::/docker/0123456789abcdef\n") == 512ull << 20);
    put("memory.max", "max\n");
}

static void version_one(void **state)
{
    (void)state;
    put("memory/box/memory.limit_in_bytes", "268435456\n");
    assert_true(allowed("7:cpu,cpuacct:/box\n5:memory:/box\n0::/\n") == 256ull << 20);
    put("memory/box/memory.limit_in_bytes", "9223372036854771712\n"); // none
    assert_true(allowed("5:memory:/box\n0::/\n") == MACHINE);
}

static void nothing_to_read(void **state)
{
    (void)state;
    assert_true(memory_allowed(MACHINE, "/no/such/file", root) == MACHINE);
    assert_true(allowed("") == MACHINE);
    assert_true(allowed("junk\n:\n::\n0::\n") == MACHINE);
    put("odd/memory.max", "many\n");
    assert_true(allowed("0::/odd\n") == MACHINE);
}

static int make_root(void **state)
{
    (void)state;
    snprintf(root, sizeof(root), "/tmp/sluice-memory-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    (void)state;
    char words[128];
    snprintf(words, sizeof(words), "rm -rf %s", root);
    return system(words);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(own_group),       cmocka_unit_test(slice_above),
        cmocka_unit_test(container),       cmocka_unit_test(version_one),
        cmocka_unit_test(nothing_to_read),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
