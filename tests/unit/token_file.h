/* A token file in a directory of its own, for tests of who reads one: make before the group, clean after it. */
#ifndef SLUICE_TESTS_UNIT_TOKEN_FILE_H
#define SLUICE_TESTS_UNIT_TOKEN_FILE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char token_dir[] = "/tmp/sluice-token-XXXXXX", path[64];

static inline int make(void **state)
{
    (void)state;
    if (!mkdtemp(token_dir))
        return -1;
    snprintf(path, sizeof(path), "%s/token", token_dir);
    return 0;
}

static inline int clean(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(token_dir);
}

static inline void put(const char *bytes, size_t n, mode_t mode)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(path, mode), 0);
}

#endif
