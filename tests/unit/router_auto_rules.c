/* router/desk under the policy `auto`: versions of which one has a server at hand and another has none. */
#include "router/desk_inner.h"
#include "tests/unit/router_kit.h"

static const struct model_rules rules = {.policy = POLICY_AUTO,
                                         .max_rows = 8,
                                         .pipeline = 1,
                                         .max_wait_us = 0,
                                         .deadline_us = 1000000,
                                         .queue_rows = 1000,
                                         .grace_us = 50000};

static int setup(void **state)
{
    (void)state;
    office_open(&rules);
    for (unsigned i = 0; i < 200; i++)
        batcher_learn(&office.desk->batcher, 1 + i % 8, 1000 + 20 * (1 + i % 8), NOW - 50000);
    office.desk->batcher.arrivals = (struct arrivals){0};
    up(1, 8, "1", NOW);
    up(2, 8, "2", NOW);
    forget();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    office_close();
    return 0;
}

static void answered(struct batch *b, uint64_t now_us)
{
    struct ticket *t[8];
    unsigned n = b->n;
    memcpy(t, b->tickets, n * sizeof(t[0]));
    answer(b, now_us, 0, b->rows);
    for (unsigned i = 0; i < n; i++)
        block_unref(t[i]->slice.answer->block);
}

// The server of another version is idle: what that cannot take stays in the queue, where others join it.
static void who_has_no_server_at_hand_stays_queued(void **state)
{
    (void)state;
    lend_at(1, "2", FAR, NOW);
    run(NOW);
    struct batch *first = sent();
    assert_int_equal(first->replica, 2);
    struct guest *waits[3];
    for (unsigned i = 0; i < 3; i++) {
        waits[i] = lend_at(1, "2", FAR, NOW + 10 + i);
        run(NOW + 10 + i);
        assert_null(sent());
        assert_int_equal(waits[i]->ticket.place, PLACE_QUEUED);
        assert_int_equal(office.desk->n_again, 0);
    }
    lend_at(1, "1", FAR, NOW + 20); // and is in nobody's way
    run(NOW + 20);
    struct batch *other = sent();
    assert_int_equal(other->replica, 1);
    answered(first, NOW + 1020);
    run(NOW + 1020);
    struct batch *second = sent();
    assert_int_equal(second->replica, 2);
    assert_int_equal(second->n, 3);
    answered(second, NOW + 2100);
    answered(other, NOW + 2100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(who_has_no_server_at_hand_stays_queued, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
