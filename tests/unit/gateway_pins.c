/* gateway/pins: the list, and the file that is kept of it: whole, or said what is wrong. */
#include "tests/unit/file.h"

#include "base/mem.h"
#include "base/pool.h"
#include "gateway/pins.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
// cmocka wants those above before it
#include <cmocka.h>

static char base[64], dir[80], path[100];
static int64_t memory;

static int setup(void **state)
{
    (void)state;
    snprintf(base, sizeof(base), "/tmp/pins-XXXXXX");
    assert_non_null(mkdtemp(base));
    snprintf(dir, sizeof(dir), "%s/state", base);
    snprintf(path, sizeof(path), "%s/pins.json", dir);
    arena_thread_done();
    pool_thread_done();
    memory = mem_live();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    rmdir(dir);
    rmdir(base);
    arena_thread_done();
    pool_thread_done();
    assert_int_equal(mem_live(), memory);
    return 0;
}

static struct pin pin(const char *model, uint8_t level, const char *why)
{
    struct pin p = {.level = level, .until_us = 1234567890123000};
    snprintf(p.model, sizeof(p.model), "%s", model);
    snprintf(p.why, sizeof(p.why), "%s", why);
    return p;
}

static void one_a_model(void **state)
{
    (void)state;
    struct pins p = {0};
    struct pin a = pin("a", 1, "x"), b = pin("", 4, "y"), again = pin("a", 3, "z");
    assert_true(pins_set(&p, &a) && pins_set(&p, &b) && pins_set(&p, &again));
    assert_int_equal(p.n, 2);
    assert_int_equal(pins_find(&p, VIEW("a"))->level, 3);
    assert_int_equal(pins_find(&p, VIEW(""))->level, 4);
    assert_null(pins_find(&p, VIEW("b")));
    assert_false(pins_clear(&p, VIEW("b")));
    assert_true(pins_clear(&p, VIEW("a")));
    assert_false(pins_clear(&p, VIEW("a")));
    assert_int_equal(p.n, 1);
    pins_free(&p);
    assert_int_equal(p.n, 0);
}

static void at_most_so_many(void **state)
{
    (void)state;
    struct pins p = {0};
    char name[16];
    for (unsigned i = 0; i <= PINS_MOST; i++) {
        snprintf(name, sizeof(name), "m%u", i);
        struct pin a = pin(name, 1, "x");
        assert_int_equal(pins_set(&p, &a), i < PINS_MOST);
    }
    struct pin known = pin("m0", 2, "x");
    assert_true(pins_set(&p, &known)); // that is no more
    pins_free(&p);
}

static void kept(void **state)
{
    (void)state;
    char why[PINS_ERROR] = "";
    struct pins p = {0}, q = {0};
    struct pin a = pin("digits", 2, "GPU \"swap\"\n\xc3\xa9"), b = pin("", 1, "all");
    assert_true(pins_load(&q, dir, why)); // nothing there yet
    assert_true(pins_set(&p, &a) && pins_set(&p, &b));
    assert_true(pins_save(&p, dir, why));
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_true(pins_load(&q, dir, why));
    assert_int_equal(q.n, 2);
    assert_int_equal(pins_find(&q, VIEW("digits"))->level, 2);
    assert_true(pins_find(&q, VIEW("digits"))->until_us == a.until_us);
    assert_string_equal(pins_find(&q, VIEW("digits"))->why, a.why);
    assert_int_equal(pins_find(&q, VIEW(""))->level, 1);
    pins_free(&q);
    pins_free(&p);
    assert_true(pins_save(&p, dir, why)); // none is a file, too
    assert_true(pins_load(&q, dir, why));
    assert_int_equal(q.n, 0);
}

static void no_place_for_it(void **state)
{
    (void)state;
    char why[PINS_ERROR] = "", below[120];
    struct pins p = {0};
    snprintf(below, sizeof(below), "%s/a/b", base);
    assert_false(pins_save(&p, below, why));
    assert_string_equal(why, "No such file or directory");
    assert_false(pins_save(&p, "/dev/null", why));
    assert_string_equal(why, "Not a directory");
    assert_false(pins_load(&p, "/dev/null", why));
}

static void bad_files(void **state)
{
    static const struct {
        const char *text, *why;
    } rows[] = {
        {"", "unexpected"},
        {"{}", "expected a list"},
        {"[1]", "expected objects in one list"},
        {"[{\"level\":5,\"until_ms\":1,\"why\":\"x\"}]",
         "level: expected a whole number from 0 to 4"},
        {"[{\"level\":-1,\"until_ms\":1,\"why\":\"x\"}]", "level: expected a whole number"},
        {"[{\"level\":1.5,\"until_ms\":1,\"why\":\"x\"}]", "level: expected a whole number"},
        {"[{\"level\":1,\"until_ms\":99999999999999999999999999,\"why\":\"x\"}]",
         "until_ms: expected"},
        {"[{\"level\":1,\"until_ms\":1}]", "expected level, until_ms and why"},
        {"[{\"level\":1,\"level\":1,\"until_ms\":1,\"why\":\"x\"}]", "each once"},
        {"[{\"level\":1,\"until_ms\":1,\"why\":\"x\",\"who\":1}]", "each once"},
        {"[{\"level\":1,\"until_ms\":1,\"why\":\"\"}]", "why: expected 1 to 160 bytes"},
        {"[{\"level\":1,\"until_ms\":1,\"why\":7}]", "why: expected a text"},
        {"[{\"level\":1,\"until_ms\":1,\"why\":\"x\"}", ""},
    };
    (void)state;
    assert_int_equal(mkdir(dir, 0700), 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char why[PINS_ERROR] = "";
        struct pins p = {0};
        FILE *f = fopen(path, "w");
        fputs(rows[i].text, f);
        fclose(f);
        if (pins_load(&p, dir, why) || (i > 0 && !strstr(why, rows[i].why)))
            fail_msg("%s: %s", rows[i].text, why);
        pins_free(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_a_model, setup, teardown),
        cmocka_unit_test_setup_teardown(at_most_so_many, setup, teardown),
        cmocka_unit_test_setup_teardown(kept, setup, teardown),
        cmocka_unit_test_setup_teardown(no_place_for_it, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_files, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
