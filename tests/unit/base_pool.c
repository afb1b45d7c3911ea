/* base/pool: blocks of every size keep their bytes while others come and go, are zeroed when that is asked
 * for, grow, come again last in first out, and fail at the door's n-th call like all memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/pool.h"
#include "base/rand.h"
#include <string.h>

#define HELD 200

struct held {
    unsigned char *p;
    size_t n;
    unsigned char mark;
};

static void fill(struct held *h)
{
    memset(h->p, h->mark, h->n);
}

static void check(const struct held *h)
{
    for (size_t i = 0; i < h->n; i++)
        assert_int_equal(h->p[i], h->mark);
}

static void replace(struct held *h, struct rand *r)
{
    size_t n = rand_below(r, rand_below(r, 2) ? 200 : 3000);
    check(h);
    if (rand_below(r, 3) == 0) {
        size_t kept = n < h->n ? n : h->n;
        h->p = pool_realloc(h->p, n);
        assert_non_null(h->p);
        h->n = kept;
        check(h);
    } else {
        pool_free(h->p);
        h->p = rand_below(r, 2) ? pool_alloc(n) : pool_zalloc(n, 1);
        assert_non_null(h->p);
    }
    assert_int_equal((uintptr_t)h->p % 16, 0);
    h->n = n;
    fill(h);
}

static void keeps_what_is_held(void **state)
{
    (void)state;
    struct held held[HELD] = {0};
    struct rand r;
    rand_seed(&r, 9);
    for (unsigned i = 0; i < HELD; i++)
        held[i].mark = (unsigned char)(i + 1);
    for (unsigned round = 0; round < 50000; round++)
        replace(&held[rand_below(&r, HELD)], &r);
    for (unsigned i = 0; i < HELD; i++) {
        check(&held[i]);
        pool_free(held[i].p);
    }
    pool_thread_done();
}

static void zeroes_what_was_used(void **state)
{
    (void)state;
    for (size_t n = 1; n < 1200; n += 37) {
        void *used = pool_alloc(n);
        memset(used, 0xff, n);
        pool_free(used);
        unsigned char *p = pool_zalloc(1, n);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(p[i], 0);
        pool_free(p);
    }
    pool_thread_done();
}

#ifndef SLUICE_ASAN
static void last_in_first_out(void **state)
{
    (void)state;
    void *a = pool_alloc(100), *b = pool_alloc(100);
    pool_free(a);
    pool_free(b);
    assert_ptr_equal(pool_alloc(90), b);
    assert_ptr_equal(pool_alloc(100), a);
    pool_free(a);
    pool_free(b);
    pool_thread_done();
}
#endif

static void refuses_what_wraps(void **state)
{
    (void)state;
    assert_null(pool_alloc(SIZE_MAX));
    assert_null(pool_zalloc(SIZE_MAX / 2, 3));
    void *small = pool_alloc(10), *large = pool_alloc(5000);
    assert_null(pool_realloc(small, SIZE_MAX));
    assert_null(pool_realloc(large, SIZE_MAX));
    pool_free(small);
    pool_free(large);
    pool_free(NULL);
    pool_thread_done();
}

static void fails_at_the_door(void **state)
{
    (void)state;
    pool_free(pool_alloc(100)); // one waits: a call that needs no memory counts all the same
    mem_fail_at(1);
    assert_null(pool_alloc(100));
    mem_fail_at(2);
    void *p = pool_alloc(100);
    assert_non_null(p);
    assert_null(pool_realloc(p, 900));
    memset(p, 1, 100); // it is still ours
    mem_fail_at(0);
    pool_free(p);
    pool_thread_done();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_what_is_held), cmocka_unit_test(zeroes_what_was_used),
#ifndef SLUICE_ASAN
        cmocka_unit_test(last_in_first_out),
#endif
        cmocka_unit_test(refuses_what_wraps), cmocka_unit_test(fails_at_the_door),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
