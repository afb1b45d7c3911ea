/* router/standing: what a desk says of its model: the share that it can carry, when a new ticket would go, t(1). */
#include "tests/unit/router_worker.h"

#define US_A_ROW 1000
#define MS 1000ull

static uint64_t clock_us;

static uint32_t share(void)
{
    return atomic_load(&office.model->share);
}

// Batches of four, one after the other, of which each takes 1 ms and 1 ms a row: t is known, nothing waits.
static int taught(void **state)
{
    remote_worker(state);
    clock_us = NOW;
    for (unsigned i = 0; i < 24; i++) {
        uint32_t rows = 1 + i % 4;
        struct guest *g = lend_at(rows, "", clock_us + 1000000, clock_us);
        run(clock_us);
        struct batch *b = sent();
        clock_us += MS + rows * US_A_ROW;
        answer(b, clock_us, 0, rows);
        block_unref(g->ticket.slice.answer->block);
        clock_us += 100 * MS;
        run(clock_us);
    }
    forget();
    return 0;
}

#define TAUGHT(f) cmocka_unit_test_setup_teardown(f, taught, teardown)

// What was recalled says that one takes longer than that, until an answer says how long, or for a second.
static void who_was_cut_says_how_long_at_least(void **state)
{
    (void)state;
    lend_at(1, "", clock_us + 9000, clock_us);
    run(clock_us);
    struct batch *b = sent();
    clock_us += 9000;
    run(clock_us); // its deadline: it is called back
    assert_int_equal(b->state, BATCH_RECALLED);
    assert_int_equal(atomic_load(&office.model->row_us), 9000);
    give_up(b, clock_us);
    clock_us += STANDING_CUT_US;
    run(clock_us);
    assert_in_range(atomic_load(&office.model->row_us), 1800, 2200);
}

static void drop_guests(void)
{
    for (unsigned i = 0; i < office.n; i++) {
        struct guest *g = &office.guest[i];
        if (g->ticket.place == PLACE_QUEUED) {
            g->ticket.cancel.from = 0;
            desk_on_cancel(office.desk, &g->ticket, clock_us, &office.fx);
        }
    }
}

// Its only ticket's.
static struct answer *answered(struct batch *b)
{
    struct ticket *t = b->tickets[0];
    answer(b, clock_us, 0, b->rows);
    return t->slice.answer;
}

static void at_rest(void **state)
{
    (void)state;
    assert_int_equal(share(), MODEL_SHARE);
    for (unsigned lane = 0; lane < POLICY_LANES; lane++)
        assert_int_equal(model_wait_us(office.model, lane, clock_us), 0);
    assert_in_range(atomic_load(&office.model->row_us), 1800, 2200);
}

// A server is busy, 16 rows wait in lane 1: two full batches.
static void what_waits(void **state)
{
    (void)state;
    lend_at(8, "", clock_us + 1000000, clock_us);
    run(clock_us);
    struct batch *b = sent();
    uint64_t full_us = 9 * MS;
    assert_in_range(model_wait_us(office.model, 0, clock_us), full_us - 2 * MS, full_us + 2 * MS);
    for (unsigned i = 0; i < 2; i++)
        lend_at(8, "", clock_us + 1000000, clock_us);
    lend_at(1, "", clock_us + 1000000, clock_us);
    office.guest[office.n - 1].ticket.lane = 1;
    run(clock_us);
    struct batch *behind = sent(); // pipeline: 2
    assert_non_null(behind);
    run(clock_us);
    uint64_t low = model_wait_us(office.model, 1, clock_us);
    assert_true(low > 2 * full_us - 4 * MS);
    assert_true(model_wait_us(office.model, 0, clock_us) < low);
    assert_int_equal(low, model_wait_us(office.model, 3, clock_us));
    // It is a moment: time passes by itself.
    assert_int_equal(model_wait_us(office.model, 1, clock_us + 5 * MS), low - 5 * MS);
    clock_us += full_us;
    drop_guests();
    struct answer *a = answered(b);
    clock_us += full_us;
    block_unref(answered(behind)->block);
    block_unref(a->block);
    run(clock_us);
    assert_int_equal(model_wait_us(office.model, 1, clock_us), 0);
}

// Told when it matters, not with every ticket.
static void told_seldom(void **state)
{
    (void)state;
    lend_at(8, "", clock_us + 1000000, clock_us);
    run(clock_us);
    struct batch *b = sent();
    uint64_t told_us = atomic_load(&office.model->begins_us[1]);
    clock_us += 500;
    run(clock_us);
    assert_int_equal(atomic_load(&office.model->begins_us[1]), told_us);
    clock_us += 20 * MS;
    give_up(b, clock_us);
    run(clock_us);
}

// Demand that never comes to the desk counts: what was turned away, twice of what the one server can do.
static void turned_away(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 80; i++) {
        clock_us += STANDING_LOOK_US;
        model_turned(office.model, 2 * 8 * STANDING_LOOK_US / (9 * MS));
        run(clock_us);
    }
    assert_in_range(share(), MODEL_SHARE * 45 / 100, MODEL_SHARE * 56 / 100);
    assert_int_equal(standing_wake_us(office.desk), clock_us + STANDING_LOOK_US);
    for (unsigned i = 0; i < 80; i++) { // it ends, and nobody comes: the desk wakes by itself
        clock_us += STANDING_LOOK_US;
        desk_on_wake(office.desk, clock_us, &office.fx);
    }
    assert_int_equal(share(), MODEL_SHARE);
    assert_int_equal(standing_wake_us(office.desk), UINT64_MAX);
}

// A second server takes half.
static void two_servers(void **state)
{
    (void)state;
    up(8, 8, "1", clock_us);
    for (unsigned i = 0; i < 80; i++) {
        clock_us += STANDING_LOOK_US;
        model_turned(office.model, 2 * 8 * STANDING_LOOK_US / (9 * MS));
        run(clock_us);
    }
    assert_true(share() > MODEL_SHARE * 9 / 10);
}

// Others use its device: with a full batch waiting all the time only half of what t promises is done.
static void shared_device(void **state)
{
    (void)state;
    uint64_t full_us = 9 * MS;
    for (unsigned i = 0; i < 4; i++) {
        lend_at(8, "", clock_us + 90000000, clock_us);
        office.guest[office.n - 1].ticket.lane = 1;
    }
    run(clock_us);
    struct batch *b[2] = {sent(), sent()};
    assert_non_null(b[1]);
    double can = 8.0 / (double)full_us;
    for (unsigned i = 0; i < 40; i++) {
        uint32_t rows = (uint32_t)(can * STANDING_LOOK_US);
        clock_us += STANDING_LOOK_US;
        standing_came(&office.desk->standing, rows);
        standing_served(&office.desk->standing, rows / 2);
        run(clock_us);
    }
    assert_in_range(share(), MODEL_SHARE * 40 / 100, MODEL_SHARE * 60 / 100);
    drop_guests();
    give_up(b[0], clock_us);
    give_up(b[1], clock_us);
}

// t is not known: five of seven carry everything, two thirds of that many what is left, none nothing.
static void unknown_times(void **state)
{
    (void)state;
    office_open(&rules);
    assert_int_equal(share(), MODEL_SHARE);
    for (uint32_t id = 1; id <= 7; id++)
        up(id, 8, "1", NOW);
    run(NOW);
    assert_int_equal(share(), MODEL_SHARE);
    for (uint32_t id = 1; id <= 2; id++)
        desk_on_replica_down(office.desk, id, NOW, &office.fx);
    run(NOW);
    assert_int_equal(share(), MODEL_SHARE);
    for (uint32_t id = 3; id <= 5; id++)
        desk_on_replica_down(office.desk, id, NOW, &office.fx);
    run(NOW);
    assert_in_range(share(), MODEL_SHARE * 38 / 100, MODEL_SHARE * 40 / 100);
    for (uint32_t id = 6; id <= 7; id++)
        desk_on_replica_down(office.desk, id, NOW, &office.fx);
    run(NOW);
    assert_int_equal(share(), 0);
    assert_int_equal(standing_wake_us(office.desk), UINT64_MAX); // only a replica can change it
    // Those that are not missed any more leave the two that came back alone.
    up(6, 8, "1", NOW);
    up(7, 8, "1", NOW);
    for (uint32_t id = 1; id <= 5; id++)
        replicas_forget(&office.desk->replicas, id, NOW);
    run(NOW);
    assert_int_equal(office.desk->replicas.n_known, 2);
    assert_int_equal(share(), MODEL_SHARE);
    office_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TAUGHT(at_rest),       TAUGHT(who_was_cut_says_how_long_at_least),
        TAUGHT(what_waits),    TAUGHT(told_seldom),
        TAUGHT(turned_away),   TAUGHT(two_servers),
        TAUGHT(shared_device), cmocka_unit_test(unknown_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
