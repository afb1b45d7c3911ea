/* router/ramp: which step is due when, and what holds it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "router/ramp.h"

#define PERCENT 10000u
#define HOUR 3600000000ull

static const uint32_t steps[] = {PERCENT, 5 * PERCENT, 25 * PERCENT, 50 * PERCENT, 100 * PERCENT};
static const struct ramp_rules rules = {.steps = steps, .n = 5, .wait_us = HOUR, .least = 100};
static struct ramp_state ramp;
static struct ramp_seen seen;
static uint32_t next;

static int begin(void **state)
{
    (void)state;
    ramp = (struct ramp_state){0};
    seen = (struct ramp_seen){.ready = true, .fits = true};
    return 0;
}

static enum ramp_move look(uint64_t now_us)
{
    return ramp_look(&ramp, &rules, &seen, now_us, &next);
}

static void goes_all_the_way(void **state)
{
    (void)state;
    uint64_t now_us = HOUR;
    for (unsigned i = 0; i < 5; i++) {
        while (look(now_us) == RAMP_STAY) {
            now_us += HOUR / 60;
            seen.requests += 10;
        }
        assert_int_equal(next, steps[i]);
        assert_true(i == 0 || now_us >= seen.since_us + HOUR);
        assert_true(now_us <= seen.since_us + HOUR + HOUR / 20 || i == 0);
        seen.weight = next;
        seen.since_us = now_us;
    }
    assert_int_equal(look(now_us), RAMP_DONE);
    assert_int_equal(look(now_us + 10 * HOUR), RAMP_DONE);
}

static void wants_requests(void **state)
{
    (void)state;
    seen.weight = PERCENT;
    seen.since_us = HOUR;
    assert_int_equal(look(HOUR), RAMP_STAY);
    seen.requests = 99;
    assert_int_equal(look(3 * HOUR), RAMP_STAY);
    seen.requests = 100;
    assert_int_equal(look(3 * HOUR), RAMP_GO);
    assert_int_equal(next, 5 * PERCENT);
    seen.requests = 7; // counted anew
    assert_int_equal(look(4 * HOUR), RAMP_STAY);
    seen.requests = 107;
    assert_int_equal(look(4 * HOUR + HOUR - 1), RAMP_STAY);
    assert_int_equal(look(5 * HOUR), RAMP_GO);
}

// Whatever holds it, and for however short: the wait begins anew behind it.
static void is_held(void **state)
{
    (void)state;
    for (unsigned what = RAMP_UNREADY; what <= RAMP_ALARM; what++) {
        begin(NULL);
        seen.weight = 5 * PERCENT;
        seen.since_us = 1;
        look(1);
        seen.requests = 1000;
        seen.ready = what != RAMP_UNREADY;
        seen.fits = what != RAMP_UNFIT;
        seen.alarm = what == RAMP_ALARM ? 0.5 : 0.49;
        assert_int_equal(look(2 * HOUR), RAMP_STAY);
        assert_int_equal(ramp.hold, what);
        seen.ready = seen.fits = true;
        seen.alarm = 0;
        assert_int_equal(look(2 * HOUR + 1), RAMP_STAY);
        assert_int_equal(look(3 * HOUR), RAMP_STAY);
        assert_int_equal(look(3 * HOUR + 1), RAMP_GO);
    }
    begin(NULL);
    seen.ready = false;
    assert_int_equal(look(1), RAMP_STAY); // nor does it begin
}

// An operator sets what is there already: it lasts from then on; what it has had counts.
static void set_again(void **state)
{
    (void)state;
    seen.weight = 5 * PERCENT;
    seen.since_us = HOUR;
    assert_int_equal(look(HOUR), RAMP_STAY);
    seen.requests = 100;
    seen.since_us = HOUR + HOUR / 2;
    assert_int_equal(look(2 * HOUR), RAMP_STAY);
    assert_int_equal(look(2 * HOUR + HOUR / 2 - 1), RAMP_STAY);
    assert_int_equal(look(2 * HOUR + HOUR / 2), RAMP_GO);
    assert_int_equal(next, 25 * PERCENT);
}

static void stands_aside(void **state)
{
    (void)state;
    seen.weight = 7 * PERCENT; // an operator's
    seen.requests = 1000;
    assert_int_equal(look(HOUR), RAMP_DONE);
    assert_int_equal(look(9 * HOUR), RAMP_DONE);
    seen.weight = 25 * PERCENT; // and who sets a step lets it go on
    seen.since_us = 9 * HOUR;
    assert_int_equal(look(9 * HOUR), RAMP_STAY);
    seen.requests = 2000;
    assert_int_equal(look(10 * HOUR), RAMP_GO);
    assert_int_equal(next, 50 * PERCENT);
}

static void others_share_the_rest(void **state)
{
    (void)state;
    const uint32_t file[] = {600000, 100000, 300000};
    uint32_t out[3];
    for (uint32_t w = 0; w <= EXPERIMENT_WHOLE; w += 33333) {
        ramp_weigh(file, 3, 1, w, out);
        assert_int_equal(out[0] + out[1] + out[2], EXPERIMENT_WHOLE);
        assert_int_equal(out[1], w);
        assert_in_range(out[2], out[0] / 2 - 1, out[0] / 2 + 1);
    }
    const uint32_t all[] = {0, EXPERIMENT_WHOLE};
    ramp_weigh(all, 2, 1, 50000, out);
    assert_int_equal(out[0], 950000);
    ramp_weigh((const uint32_t[]){500000, 500000}, 2, 0, 10000, out);
    assert_int_equal(out[1], 990000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(goes_all_the_way, begin),
        cmocka_unit_test_setup(wants_requests, begin),
        cmocka_unit_test_setup(is_held, begin),
        cmocka_unit_test_setup(set_again, begin),
        cmocka_unit_test_setup(stands_aside, begin),
        cmocka_unit_test(others_share_the_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
