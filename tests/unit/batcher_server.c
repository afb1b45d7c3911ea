/* batcher/server: when it is free, how long a batch took there, and what a policy is told of several. */
#include "tests/unit/batcher_kit.h"

#include "batcher/server.h"

#define NOW 1000000ull

static void free_when_all_is_done(void **state)
{
    (void)state;
    struct batch_server s = {0};
    server_sent(&s, 4, 1000, 200, NOW);
    assert_true(s.in_flight == 1 && s.newest_rows == 4 && s.pending_us == 1000);
    assert_int_equal(s.free_us, NOW + 1100); // half of the way, and its time
    server_sent(&s, 7, 500, 200, NOW + 300);
    assert_true(s.in_flight == 2 && s.newest_rows == 7);
    assert_int_equal(s.free_us, NOW + 1600); // behind the first one
    // The first one took longer: the second began half of the way ago.
    server_ended(&s, 1000, true, 200, NOW + 2000);
    assert_int_equal(s.free_us, NOW + 2000 + 500 - 100);
    assert_true(s.in_flight == 1 && s.answered_us == NOW + 2000);
    server_ended(&s, 500, false, 200, NOW + 2450);
    assert_true(s.in_flight == 0 && s.pending_us == 0 && s.free_us == NOW + 2450);
    assert_int_equal(s.answered_us, NOW + 2000); // it has ended without an answer
    // Nor is it free in the past while something is there.
    server_sent(&s, 1, 50, 200, NOW + 3000);
    server_sent(&s, 1, 50, 200, NOW + 3000);
    server_ended(&s, 50, true, 200, NOW + 3500);
    assert_int_equal(s.free_us, NOW + 3500);
}

// What was recalled may be computed all the same: for as long as it was expected to be.
static void what_was_recalled_is_still_there(void **state)
{
    (void)state;
    struct batch_server s = {0}, idle = {0};
    server_sent(&s, 4, 1000, 200, NOW);
    server_sent(&s, 4, 500, 200, NOW + 10);
    server_recalled(&s, NOW + 10, 500);
    assert_true(s.in_flight == 1 && s.pending_us == 1000 &&
                server_busy_us(&s, NOW + 900) == NOW + 1600);
    server_recalled(&s, NOW, 1000);
    assert_true(s.in_flight == 0 && s.pending_us == 0 &&
                server_busy_us(&s, NOW + 900) == NOW + 1600);
    assert_true(server_before(&idle, &s, 0) && s.answered_us == 0);
    server_sent(&s, 1, 50, 200, NOW + 700); // behind it
    assert_int_equal(s.free_us, NOW + 1650);
    server_ended(&s, 50, true, 200,
                 NOW + 900); // it was not: an answer says that all before it is over
    assert_int_equal(server_busy_us(&s, NOW + 900), 0);
    // Nobody knows how long it takes.
    server_sent(&s, 4, 0, 200, NOW + 2000);
    server_recalled(&s, NOW + 2000, 0);
    assert_int_equal(server_busy_us(&s, NOW + 3000), NOW + 2000 + SERVER_RECALLED_US);
    assert_int_equal(server_busy_us(&s, NOW + 2000 + SERVER_RECALLED_US), 0);
    // Nor of what has not ended: others come first.
    server_sent(&idle, 4, 0, 200, NOW + 2000);
    assert_true(server_before(&s, &idle, NOW + 2000) && !server_before(&idle, &s, NOW + 2000));
}

// Behind another a batch began when that one was answered; on a quiet server the worker knows it better.
static void our_own_clock(void **state)
{
    (void)state;
    struct batch_server s = {.answered_us = NOW};
    assert_int_equal(server_took_us(&s, NOW - 700, false, 0, NOW + 900), 900);
    assert_int_equal(server_took_us(&s, NOW - 700, false, 450, NOW + 900), 900);
    assert_int_equal(server_took_us(&s, NOW + 100, true, 450, NOW + 900), 450);
    assert_int_equal(server_took_us(&s, NOW + 100, true, 0, NOW + 900), 800);
    assert_int_equal(server_took_us(&s, NOW + 100, true, 5000, NOW + 900),
                     800); // more than there was
}

// Two batches always in flight, and the worker says nothing, or half of the truth: t is right.
static void learnt_under_load(void **state)
{
    (void)state;
    for (uint64_t said = 0; said <= 1000; said += 500) {
        struct estimate e;
        struct batch_server s = {0};
        uint64_t sent[2], now = NOW;
        estimate_init(&e);
        server_sent(&s, 8, 0, 0, sent[0] = now);
        server_sent(&s, 8, 0, 0, sent[1] = now);
        for (unsigned i = 0; i < 40; i++) {
            now += 1000;
            uint64_t took = server_took_us(&s, sent[i % 2], i == 0, said, now);
            estimate_add(&e, 8, took);
            server_ended(&s, 0, true, 0, now);
            server_sent(&s, 8, 0, 0, sent[i % 2] = now);
            assert_int_equal(estimate_trusted(&e), i >= 7);
        }
        assert_true(estimate_mean_us(&e, 8) >= 985 && estimate_mean_us(&e, 8) <= 1000);
    }
}

static void an_outlook_on_several(void **state)
{
    (void)state;
    struct batch_server s[3] = {{.in_flight = 1, .free_us = NOW + 900, .newest_rows = 3},
                                {.in_flight = 2, .free_us = NOW + 400, .newest_rows = 5},
                                {.free_us = NOW - 50, .newest_rows = 9}};
    struct outlook o = {0};
    outlook_add(&o, &s[0], NOW);
    assert_true(o.servers == 1 && o.idle == 0 && o.soonest_free_us == NOW + 900);
    outlook_add(&o, &s[1], NOW);
    assert_true(o.servers == 2 && o.idle == 0 && o.soonest_free_us == NOW + 400);
    s[1].overtaken = true;
    outlook_at(&o, &s[1], NOW);
    assert_true(o.overtaken);
    outlook_at(&o, &s[0], NOW);
    assert_false(o.overtaken);
    outlook_at(&o, &s[1], NOW);
    assert_true(o.in_flight == 2 && o.running_rows == 5 && o.free_us == NOW + 400);
    outlook_add(&o, &s[2], NOW);
    assert_true(o.servers == 3 && o.idle == 1 && o.soonest_free_us == 0);
    outlook_add(&o, &s[0], NOW);
    assert_true(o.servers == 4 && o.idle == 1 && o.soonest_free_us == 0);
}

static void who_is_free_first(void **state)
{
    (void)state;
    struct batch_server soon = {.in_flight = 2, .pending_us = 9, .free_us = 500, .answered_us = 90};
    struct batch_server late = {.in_flight = 1, .pending_us = 9, .free_us = 900, .answered_us = 10};
    struct batch_server idle = {.free_us = 70, .answered_us = 70}, rested = {.answered_us = 20};
    assert_true(server_before(&soon, &late, 100) && !server_before(&late, &soon, 100));
    assert_true(server_before(&idle, &soon, 100) && !server_before(&soon, &idle, 100));
    assert_true(server_before(&rested, &idle, 100) && !server_before(&idle, &rested, 100));
    assert_false(server_before(&soon, &soon, 100));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(free_when_all_is_done),
        cmocka_unit_test(our_own_clock),
        cmocka_unit_test(what_was_recalled_is_still_there),
        cmocka_unit_test(learnt_under_load),
        cmocka_unit_test(an_outlook_on_several),
        cmocka_unit_test(who_is_free_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
