// base/wheel: against a plain table of deadlines, with random times, jumps, and meddling callbacks.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/rand.h"
#include "base/wheel.h"
#include <string.h>

#define TIMERS 200

struct world {
    struct wheel wheel;
    struct rand rand;
    uint64_t now_us, last_tick;
    bool meddle;
    unsigned fired;
    struct entry {
        struct wheel_timer timer;
        struct world *world;
        bool armed;        // the model's word
        bool set_this_run; // must wait for the next one
        uint64_t at_us, tick;
    } entry[TIMERS];
};

static uint64_t some_delay(struct rand *r)
{
    static const uint64_t reach[] = {1000, 20000, 5000000, 400000000, 30000000000u, 3000000000000u};
    return rand_below(r, reach[rand_below(r, 6)]);
}

static void arm(struct entry *e, uint64_t at_us)
{
    wheel_set(&e->world->wheel, &e->timer, at_us);
    e->armed = true;
    e->at_us = at_us;
    e->tick = (at_us + 999) / 1000; // the past counts as the tick at which it was set
    if (e->tick < e->world->wheel.now_ms)
        e->tick = e->world->wheel.now_ms;
}

static void cancel(struct entry *e)
{
    wheel_cancel(&e->world->wheel, &e->timer);
    assert_false(wheel_is_set(&e->timer));
    e->armed = false;
}

static void fired(struct wheel_timer *t, uint64_t now_us)
{
    struct entry *e = container_of(t, struct entry, timer);
    struct world *w = e->world;
    assert_true(e->armed);
    assert_false(e->set_this_run);
    assert_false(wheel_is_set(t));
    assert_true(e->at_us <= now_us);      // never early
    assert_true(e->tick >= w->last_tick); // in order
    w->last_tick = e->tick;
    e->armed = false;
    w->fired++;
    if (!w->meddle)
        return;
    struct entry *other = &w->entry[rand_below(&w->rand, TIMERS)];
    switch (rand_below(&w->rand, 4)) {
    case 0:
        cancel(other);
        break;
    case 1:
        arm(other, w->now_us + some_delay(&w->rand));
        other->set_this_run = true;
        break;
    case 2: // itself, at once: next run
        arm(e, w->now_us);
        e->set_this_run = true;
        break;
    }
}

static void check(struct world *w)
{
    unsigned armed = 0;
    uint64_t first = UINT64_MAX;
    for (int i = 0; i < TIMERS; i++) {
        struct entry *e = &w->entry[i];
        assert_int_equal(wheel_is_set(&e->timer), e->armed);
        bool set_this_run = e->set_this_run;
        e->set_this_run = false;
        if (!e->armed)
            continue;
        armed++;
        first = e->at_us < first ? e->at_us : first;
        // At most 1 ms late; what was set during the run waits for the next.
        if (!set_this_run)
            assert_true(e->at_us + 1000 > w->now_us);
    }
    assert_int_equal(w->wheel.count, armed);
    uint64_t next = wheel_next_us(&w->wheel);
    if (armed == 0)
        assert_true(next == UINT64_MAX);
    else // never past the first deadline's millisecond
        assert_true(next <= (first / 1000 + 1) * 1000 || next <= w->now_us + 1000);
}

static void random_life(uint64_t seed, bool meddle)
{
    static struct world w;
    memset(&w, 0, sizeof(w));
    rand_seed(&w.rand, seed);
    w.meddle = meddle;
    w.now_us = rand_below(&w.rand, 1ull << 50);
    wheel_init(&w.wheel, w.now_us);
    for (int i = 0; i < TIMERS; i++) {
        w.entry[i].world = &w;
        w.entry[i].timer.fn = fired;
    }
    for (int step = 0; step < 3000; step++) {
        struct entry *e = &w.entry[rand_below(&w.rand, TIMERS)];
        uint64_t dice = rand_below(&w.rand, 10);
        if (dice < 5) {
            arm(e, w.now_us + some_delay(&w.rand));
        } else if (dice == 5) {
            arm(e, w.now_us - rand_below(&w.rand, 5000)); // the past
        } else if (dice == 6) {
            cancel(e);
        } else {
            uint64_t next = wheel_next_us(&w.wheel);
            if (dice == 7 && next != UINT64_MAX && next > w.now_us)
                w.now_us = next;
            else
                w.now_us += some_delay(&w.rand);
            w.last_tick = 0;
            unsigned before = w.fired;
            unsigned called = wheel_run(&w.wheel, w.now_us);
            assert_int_equal(called, w.fired - before);
            check(&w);
        }
    }
    assert_true(w.fired > 100);
}

static void agrees_with_the_table(void **state)
{
    for (uint64_t seed = 0; seed < 400; seed++)
        random_life(seed, seed & 1);
}

// Sleeping until wheel_next_us each time must reach any deadline in few wake-ups, and exactly.
static void next_leads_there(void **state)
{
    static const uint64_t delays_ms[] = {
        0, 1, 63, 64, 65, 4095, 4096, 262144, 16777217, 1073741824, 1073741823, 5000000000};
    for (unsigned start = 0; start < 3; start++) {
        for (unsigned i = 0; i < sizeof(delays_ms) / sizeof(*delays_ms); i++) {
            static struct world w;
            memset(&w, 0, sizeof(w));
            w.now_us = start == 0 ? 0 : start == 1 ? 1073741823000u : 123456789012345u;
            wheel_init(&w.wheel, w.now_us);
            w.entry[0] = (struct entry){.timer.fn = fired, .world = &w};
            uint64_t at = w.now_us + delays_ms[i] * 1000;
            arm(&w.entry[0], at);
            unsigned wakes = 0;
            while (!w.fired) {
                uint64_t next = wheel_next_us(&w.wheel);
                assert_true(next <= (at + 999) / 1000 * 1000 || wakes == 0);
                if (next > w.now_us)
                    w.now_us = next;
                wheel_run(&w.wheel, w.now_us);
                assert_true(++wakes < 64);
            }
            assert_true(w.now_us < at + 1000);
            assert_true(wheel_next_us(&w.wheel) == UINT64_MAX);
        }
    }
}

static void no_time_goes_backwards(void **state)
{
    static struct world w;
    memset(&w, 0, sizeof(w));
    w.now_us = 5000000;
    wheel_init(&w.wheel, w.now_us);
    w.entry[0] = (struct entry){.timer.fn = fired, .world = &w};
    arm(&w.entry[0], 5010000);
    assert_int_equal(wheel_run(&w.wheel, 1000), 0);
    assert_int_equal(wheel_run(&w.wheel, 5009999), 0);
    assert_int_equal(wheel_run(&w.wheel, 5010000), 1);
    arm(&w.entry[0], UINT64_MAX);
    assert_int_equal(wheel_run(&w.wheel, 5010000000), 0);
    cancel(&w.entry[0]);
    cancel(&w.entry[0]);
    assert_int_equal(w.wheel.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_the_table),
        cmocka_unit_test(next_leads_there),
        cmocka_unit_test(no_time_goes_backwards),
    };
    return cmocka_run_group_tests_name("base: wheel", tests, NULL, NULL);
}
