// Who waits until it is known who has what it asks for: turns, looks, times; and who is waited for.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "router/await.h"

#define MANY 6
#define NEVER UINT64_MAX

static struct await all;
static struct await_one one[MANY];

static int empty(void **state)
{
    all = (struct await){0};
    for (unsigned i = 0; i < MANY; i++)
        one[i] = (struct await_one){0};
    return 0;
}

static void begin(unsigned i, uint64_t until_us, uint64_t now_us)
{
    await_begin(&all, &one[i], until_us, now_us);
}

static int next(uint64_t now_us)
{
    struct await_one *w = await_next(&all, now_us);
    assert_true(!w || !w->waits);
    return w ? (int)(w - one) : -1;
}

static void the_oldest_first_and_each_once(void **state)
{
    for (unsigned i = 0; i < 3; i++)
        begin(i, NEVER, 100);
    assert_true(await_wish_us(&all) == 100 + AWAIT_LOOK_US);
    assert_int_equal(next(100 + AWAIT_LOOK_US - 1), -1);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(next(200 + AWAIT_LOOK_US), i);
        begin(i, NEVER, 200 + AWAIT_LOOK_US); // nothing is known of it yet
    }
    assert_int_equal(next(200 + AWAIT_LOOK_US), -1);
    assert_int_equal(all.n, 3);
    assert_true(await_wish_us(&all) == 200 + 2 * AWAIT_LOOK_US);
}

static void a_look_goes_on_in_a_later_turn(void **state)
{
    for (unsigned i = 0; i < 4; i++)
        begin(i, NEVER, 100);
    await_soon(&all, 150);
    assert_true(await_wish_us(&all) == 150);
    assert_int_equal(next(150), 0);
    begin(0, NEVER, 150);
    assert_true(await_wish_us(&all) == 0); // at once
    begin(4, 160, 155);         // came meanwhile: it has had its turn, and a time of its own
    await_leave(&all, &one[2]); // one whose turn was to come
    assert_int_equal(next(155), 1);
    assert_int_equal(next(155), 3);
    assert_int_equal(next(155), -1);
    assert_true(await_wish_us(&all) == 160);
    assert_int_equal(next(160), 0);
    assert_int_equal(next(160), 4);
    assert_int_equal(next(160), -1);
    assert_true(await_wish_us(&all) == NEVER && all.n == 0);
}

static void news_in_the_middle_of_a_look(void **state)
{
    begin(0, NEVER, 100);
    begin(1, NEVER, 100);
    await_soon(&all, 150);
    assert_int_equal(next(150), 0);
    begin(0, NEVER, 150);
    await_soon(&all, 150);
    assert_int_equal(next(150), 1);
    assert_int_equal(next(150), -1);
    assert_int_equal(next(151), 0); // looked at again, for what was told behind its turn
    assert_int_equal(next(151), -1);
}

static void who_leaves(void **state)
{
    for (unsigned i = 0; i < 3; i++)
        begin(i, 300, 100);
    await_leave(&all, &one[1]);
    assert_false(one[1].waits);
    await_leave(&all, &one[0]);
    assert_int_equal(next(300), 2);
    assert_int_equal(next(300), -1);
    begin(0, 400, 300);
    await_leave(&all, &one[0]);
    assert_true(await_wish_us(&all) == NEVER);
    await_soon(&all, 310); // nobody is there to hear it
    begin(1, 500, 320);
    assert_true(await_wish_us(&all) == 400 || await_wish_us(&all) == 500);
    assert_int_equal(next(320), -1);
}

static void who_is_waited_for(void **state)
{
    const uint64_t born_us = 1000, out_us = born_us + AWAIT_UNREACHED_US,
                   old_us = born_us + AWAIT_NEW_US;
    struct await_worker k = {.since_us = born_us};
    assert_true(await_untold(&k, out_us - 1) && await_expects(&k, out_us - 1));
    assert_false(await_untold(&k, out_us) || await_expects(&k, out_us));
    k.asked = true; // it loads its models
    assert_true(await_untold(&k, out_us) && await_expects(&k, old_us - 1));
    assert_true(await_untold(&k, old_us)); // for as long as it takes: but nobody waits for that
    assert_false(await_expects(&k, old_us));
    k.leaving = true;
    assert_false(await_untold(&k, born_us) || await_expects(&k, born_us));
    k.leaving = false;
    k.told = true;
    assert_false(await_untold(&k, born_us) || await_expects(&k, born_us));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(the_oldest_first_and_each_once, empty),
        cmocka_unit_test_setup(a_look_goes_on_in_a_later_turn, empty),
        cmocka_unit_test_setup(news_in_the_middle_of_a_look, empty),
        cmocka_unit_test_setup(who_leaves, empty),
        cmocka_unit_test(who_is_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
