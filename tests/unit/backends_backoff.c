/* backends/backoff: doubling to a cap, each wait drawn from its upper half. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "backends/backoff.h"
#include <stdbool.h>
#include <stdlib.h>

static void doubles_to_its_cap(void **state)
{
    (void)state;
    struct rand r;
    rand_seed(&r, 1);
    struct backoff b = {.first_us = 50000, .cap_us = 1000000};
    uint64_t most = b.first_us;
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t wait = backoff_next_us(&b, &r);
        if (wait < most / 2 || wait > most)
            fail_msg("try %u: %llu us, want %llu to %llu", i, (unsigned long long)wait,
                     (unsigned long long)most / 2, (unsigned long long)most);
        most = 2 * most < b.cap_us ? 2 * most : b.cap_us;
    }
    assert_int_equal(b.failures, 1000);
    backoff_reset(&b);
    assert_in_range(backoff_next_us(&b, &r), 25000, 50000);
}

// A fleet that lost its worker in the same instant does not come back in step: both halves of the range are
// used by half of the waits, and no value by many.
static void is_spread(void **state)
{
    (void)state;
    enum { N = 10000 };
    unsigned upper = 0, same = 0;
    uint64_t last = 0;
    for (unsigned i = 0; i < N; i++) {
        struct rand r;
        rand_seed(&r, i);
        struct backoff b = {.first_us = 1000000, .cap_us = 1000000};
        uint64_t wait = backoff_next_us(&b, &r);
        assert_in_range(wait, 500000, 1000000);
        upper += wait > 750000;
        same += wait == last;
        last = wait;
    }
    assert_in_range(upper, N * 45 / 100, N * 55 / 100);
    assert_in_range(same, 0, 5);
}

static void edges(void **state)
{
    (void)state;
    struct rand r;
    rand_seed(&r, 2);
    struct backoff none = {0};
    assert_int_equal(backoff_next_us(&none, &r), 0);
    struct backoff capped = {.first_us = 100, .cap_us = 10};
    assert_in_range(backoff_next_us(&capped, &r), 5, 10);
    struct backoff endless = {.first_us = 1, .cap_us = UINT64_MAX / 4, .failures = UINT32_MAX - 1};
    assert_in_range(backoff_next_us(&endless, &r), UINT64_MAX / 8, UINT64_MAX / 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(doubles_to_its_cap),
        cmocka_unit_test(is_spread),
        cmocka_unit_test(edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
