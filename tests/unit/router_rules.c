/* router/desk: the rules change under what waits and runs. */
#include "tests/unit/router_kit.h"

static const struct model_rules slow = {.max_rows = 8,
                                        .max_wait_us = 3000,
                                        .pipeline = 1,
                                        .queue_rows = 100,
                                        .queue_bytes = 1000,
                                        .deadline_us = 7000,
                                        .grace_us = 50000};

static int open_office(void **state)
{
    (void)state;
    office_open(&slow);
    up(7, 8, "1", NOW);
    return 0;
}

static int close_office(void **state)
{
    (void)state;
    office_close();
    return 0;
}

static void change(struct model_rules rules)
{
    desk_on_rules(office.desk, &rules);
}

static void a_wait_ends_when_nobody_asks_for_it_any_more(void **state)
{
    (void)state;
    struct model_rules quick = slow;
    quick.max_wait_us = 0;
    lend(1);
    run(NOW);
    assert_null(sent());
    change(quick);
    run(NOW + 1);
    struct batch *b = sent();
    assert_int_equal(b->reason, BATCH_IDLE);
    give_up(b, NOW + 100);
    change(slow); // and back
    lend_at(1, "", FAR, NOW + 200);
    run(NOW + 200);
    assert_null(sent());
    run(NOW + 3200);
    give_up(sent(), NOW + 3200);
}

static void batches_get_smaller_and_larger(void **state)
{
    (void)state;
    struct model_rules small = slow, all = slow;
    small.max_rows = 2;
    small.pipeline = 4;
    all.max_rows = 0;
    for (unsigned i = 0; i < 5; i++)
        lend(1);
    lend(6); // more than a batch will have: it goes alone
    change(small);
    run(NOW + 3000);
    uint32_t rows = 0;
    for (struct batch *b; (b = sent());) {
        assert_true(b->rows <= 2 || b->n == 1);
        rows += b->rows;
        give_up(b, NOW + 3000);
        run(NOW + 3000);
    }
    assert_int_equal(rows, 11);
    change(all); // what the replica takes
    for (unsigned i = 0; i < 8; i++)
        lend_at(1, "", FAR, NOW + 4000);
    run(NOW + 4000);
    struct batch *b = sent();
    assert_int_equal(b->rows, 8);
    assert_int_equal(b->reason, BATCH_FULL);
    give_up(b, NOW + 4000);
}

static void the_pipeline_counts_what_runs_already(void **state)
{
    (void)state;
    struct model_rules wide = slow;
    wide.pipeline = 2;
    for (unsigned i = 0; i < 24; i++)
        lend(1);
    run(NOW);
    struct batch *first = sent();
    assert_null(sent());
    change(wide);
    run(NOW);
    struct batch *second = sent();
    assert_non_null(second);
    assert_null(sent());
    change(slow);
    give_up(first, NOW + 100);
    run(NOW + 100);
    assert_null(sent()); // one is enough now
    give_up(second, NOW + 200);
    run(NOW + 200);
    give_up(sent(), NOW + 200);
}

static void the_other_policy(void **state)
{
    (void)state;
    struct model_rules planned = slow;
    planned.policy = POLICY_AUTO;
    planned.max_wait_us = UINT64_MAX;
    planned.pipeline = 0;
    for (unsigned i = 0; i < 3; i++)
        lend(1);
    run(NOW);
    assert_null(sent());
    change(planned);
    run(NOW + 10);
    struct batch *b = sent();
    assert_non_null(b);
    give_up(b, NOW + 500);
    change(slow);
    run(NOW + 500);
    for (unsigned i = 0; i < 8; i++)
        lend_at(1, "", FAR, NOW + 600);
    run(NOW + 600);
    b = sent();
    assert_int_equal(b->reason, BATCH_FULL);
    give_up(b, NOW + 600);
    run(NOW + 5000);
    if ((b = sent()))
        give_up(b, NOW + 5000);
}

// A policy that plans with when servers are free does so from its first ticket on.
static void who_cannot_be_in_time_is_told_at_once(void **state)
{
    (void)state;
    struct model_rules planned = slow;
    planned.policy = POLICY_AUTO;
    planned.pipeline = 0;
    for (unsigned i = 0; i < 400; i++)
        batcher_learn(&office.desk->batcher, 1 << i % 4, 10000, NOW);
    for (unsigned i = 0; i < 8; i++)
        lend(1);
    run(NOW);
    struct batch *b = sent();
    assert_int_equal(b->n, 8);
    forget();
    struct guest *waits = lend_at(1, "", NOW + 15000, NOW + 10);
    assert_int_equal(waits->ticket.place, PLACE_QUEUED); // the other one does not look so far
    desk_on_cancel(office.desk, &waits->ticket, NOW + 10, &office.fx);
    change(planned);
    forget();
    struct guest *late =
        lend_at(1, "", NOW + 15000, NOW + 20); // it is busy until 10 ms, and takes 10
    assert_int_equal(back(late, STATUS_DEADLINE), 1);
    give_up(b, NOW + 100);
}

static void what_origins_read_is_published(void **state)
{
    (void)state;
    struct model *m = office.model;
    assert_int_equal(atomic_load(&m->queue_limit), 100);
    assert_int_equal(atomic_load(&m->queue_bytes), 1000);
    assert_int_equal(atomic_load(&m->deadline_us), 7000);
    change((struct model_rules){.max_rows = 4, .grace_us = 50000});
    assert_int_equal(atomic_load(&m->queue_limit), 1024);
    assert_int_equal(atomic_load(&m->queue_bytes), 0);
    assert_int_equal(atomic_load(&m->deadline_us), 0);
    up(8, 128, "1", NOW);
    desk_on_replica_down(office.desk, 7, NOW, &office.fx);
    change((struct model_rules){.grace_us = 50000}); // by what the replicas take
    assert_int_equal(atomic_load(&m->queue_limit), 64 * 128);
    change((struct model_rules){.queue_rows = 5, .grace_us = 50000});
    assert_int_equal(atomic_load(&m->queue_limit), 5);
}

// Nothing that waits is refused; and without a replica the size that was known stays until one says another.
static void while_nobody_is_there(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 6; i++)
        lend(1);
    desk_on_replica_down(office.desk, 7, NOW, &office.fx);
    forget();
    change((struct model_rules){.queue_rows = 1, .grace_us = 50000});
    run(NOW + 100);
    assert_int_equal(count_fx(FX_POST), 0);
    assert_int_equal(office.desk->batcher.count, 6);
    up(7, 8, "1", NOW + 200);
    run(NOW + 200);
    struct batch *b = sent();
    assert_int_equal(b->rows, 6);
    give_up(b, NOW + 300);
}

int main(void)
{
#define OFFICE(test) cmocka_unit_test_setup_teardown(test, open_office, close_office)
    const struct CMUnitTest tests[] = {
        OFFICE(a_wait_ends_when_nobody_asks_for_it_any_more),
        OFFICE(batches_get_smaller_and_larger),
        OFFICE(the_pipeline_counts_what_runs_already),
        OFFICE(the_other_policy),
        OFFICE(who_cannot_be_in_time_is_told_at_once),
        OFFICE(what_origins_read_is_published),
        OFFICE(while_nobody_is_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
