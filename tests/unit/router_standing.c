/* router/standing: what a desk says of its model: the share that it can carry, when a new ticket would go, t(1); its level
 * and what that does; pins. The table of levels itself: router_level.c. */
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
    assert_in_range(atomic_load(&office.model->rate), 800, 980); // eight rows in 9 ms
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
    drop_guests(clock_us);
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
    assert_in_range(atomic_load(&office.model->rate), 2 * 800, 2 * 980);
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
    assert_in_range(atomic_load(&office.model->rate), 400, 520);
    drop_guests(clock_us);
    give_up(b[0], clock_us);
    give_up(b[1], clock_us);
}

// Nothing is answered for minutes while a full batch waits: what it can do is next to nothing, never nothing; and when it is
// well again that is soon forgotten.
static void stood_still(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        lend_at(8, "", clock_us + 900000000, clock_us);
        office.guest[office.n - 1].ticket.lane = 1;
    }
    run(clock_us);
    struct batch *b[2] = {sent(), sent()};
    for (unsigned i = 0; i < 2800; i++) {
        clock_us += STANDING_LOOK_US;
        standing_came(&office.desk->standing, 100);
        run(clock_us);
    }
    assert_int_equal(office.desk->batcher.rows, 16);
    assert_int_equal(share(), MODEL_SHARE / 64);
    drop_guests(clock_us);
    give_up(b[0], clock_us);
    give_up(b[1], clock_us);
    for (unsigned i = 0; i < 300; i++) {
        clock_us += STANDING_LOOK_US;
        standing_came(&office.desk->standing, 1);
        standing_served(&office.desk->standing, 1);
        run(clock_us);
    }
    assert_int_equal(share(), MODEL_SHARE);
}

// t is not known: five of seven carry everything, two thirds of that many what is left, none nothing.
static void unknown_times(void **state)
{
    (void)state;
    office_open(&rules);
    assert_int_equal(share(), MODEL_SHARE);
    run(NOW);
    assert_int_equal(share(), 0); // nobody has come yet
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

// ---- levels ------------------------------------------------------------------------------------------

#define S 1000000ull

static const struct model_rules by_queue = {.max_rows = 8,
                                            .pipeline = 1,
                                            .max_wait_us = 4000,
                                            .deadline_us = 5000000,
                                            .queue_bytes = 1 << 20,
                                            .grace_us = 50000,
                                            .levels = true,
                                            .hold_us = S,
                                            .window_us = 2 * S};
static struct model_rules of_levels;
static unsigned seen; // effects

static int leveled(void **state)
{
    (void)state;
    of_levels = by_queue;
    office_open(&of_levels);
    up(7, 8, "1", NOW);
    clock_us = NOW;
    seen = 0;
    forget();
    return 0;
}

#define LEVELED(f) cmocka_unit_test_setup_teardown(f, leveled, teardown)

// The next move that nobody has seen yet: 10 x before + now; -1: none.
static int moved(void)
{
    while (seen < office.fx.n) {
        const struct fx *f = &office.fx.at[seen++];
        if (f->kind == FX_NOTE && f->note.kind == NOTE_LEVEL)
            return (int)(10 * f->note.b + f->note.a);
    }
    return -1;
}

static void expect_level(enum level level, const char *cause)
{
    assert_int_equal(atomic_load(&office.model->level), level);
    assert_string_equal(atomic_load(&office.model->level_cause), cause);
}

// Nothing happens; the desk wakes when it wants to.
static void idle(uint64_t us)
{
    for (uint64_t end_us = clock_us + us;;) {
        uint64_t wake_us = standing_wake_us(office.desk);
        if (wake_us > end_us)
            break;
        clock_us = wake_us > clock_us ? wake_us : clock_us + 1;
        desk_on_wake(office.desk, clock_us, &office.fx);
    }
}

// Single requests with so much time, of which each waits and is then computed for so long.
static void serve(unsigned n, uint64_t left_us, uint64_t wait_us, uint64_t took_us)
{
    for (unsigned i = 0; i < n; i++) {
        office.n = 0;
        struct guest *g = lend_at(8, "", clock_us + left_us, clock_us);
        run(clock_us + wait_us);
        struct fx *f = next_fx(FX_DISPATCH);
        clock_us += wait_us + took_us;
        answer(f->batch, clock_us, 0, 8);
        block_unref(g->ticket.slice.answer->block);
        run(clock_us);
    }
}

static void late_in_the_queue(void **state)
{
    (void)state;
    serve(20, 100 * MS, 0, 40 * MS);
    expect_level(LEVEL_HEALTHY, "none");   // a heavy model is not in trouble for ever
    serve(50, 100 * MS, 40 * MS, 30 * MS); // more than half of the 70 ms that it leaves
    assert_int_equal(moved(), 1);
    expect_level(LEVEL_LATENCY, "latency");
    assert_int_equal(office.desk->batcher.policy.max_wait_us, 0);
    // fixed: halved, for merging only; or what the load needs
    assert_in_range(office.desk->batcher.policy.max_rows, 4, 5);
    assert_int_equal(office.model->rules.max_wait_us, 4000);
    serve(200, 100 * MS, 0, 30 * MS);
    assert_int_equal(moved(), 10);
    expect_level(LEVEL_HEALTHY, "in_time");
    assert_int_equal(office.desk->batcher.policy.max_wait_us, 4000);
    assert_int_equal(office.desk->batcher.policy.max_rows, 8);
}

// The load needs larger batches than half of them: they stay.
static void as_large_as_the_load_needs(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 60; i++) {
        batcher_learn(&office.desk->batcher, 1 + i % 8, 10 * MS + (1 + i % 8) * MS, clock_us);
    }
    for (unsigned i = 0; i < 40; i++) {
        clock_us += STANDING_LOOK_US;
        standing_came(&office.desk->standing, STANDING_LOOK_US / 2500); // 400 rows a second of 444
        desk_on_wake(office.desk, clock_us, &office.fx);
    }
    atomic_store(&office.model->pin, 1 + LEVEL_LATENCY);
    run(clock_us);
    expect_level(LEVEL_LATENCY, "pinned");
    assert_int_equal(office.desk->batcher.policy.max_rows, 8);
}

// Where a queue has built up batches are as large as ever.
static void as_large_as_the_queue_needs(void **state)
{
    (void)state;
    atomic_store(&office.model->pin, 1 + LEVEL_LATENCY);
    run(clock_us);
    assert_int_equal(office.desk->batcher.policy.max_rows, 4);
    for (unsigned i = 0; i < 9; i++)
        lend_at(1, "", clock_us + S, clock_us);
    run(clock_us);
    struct batch *b = sent();
    assert_int_equal(b->rows, 8);
    assert_int_equal(office.desk->batcher.policy.max_rows, 8);
    answer(b, clock_us, 0, 8);
    for (unsigned i = 0; i < 8; i++)
        block_unref(office.guest[i].ticket.slice.answer->block);
    run(clock_us += S / 4);
    b = sent();
    assert_int_equal(office.desk->batcher.policy.max_rows, 4);
    answer_one(b, clock_us);
}

// auto: half of p99_leave, by t(b); where that is not even one row, no bound would help.
static void by_the_time_of_a_batch(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 100; i++)
        batcher_learn(&office.desk->batcher, 1 + i % 8, 10 * MS + (1 + i % 8) * MS, clock_us);
    of_levels.policy = POLICY_AUTO;
    of_levels.p99_enter_us = 40 * MS;
    of_levels.p99_leave_us = 28 * MS;
    desk_on_rules(office.desk, &of_levels);
    assert_int_equal(office.desk->batcher.policy.max_rows, 8);
    atomic_store(&office.model->pin, 1 + LEVEL_LATENCY);
    run(clock_us);
    assert_in_range(office.desk->batcher.policy.max_rows, 3, 4);
    of_levels.p99_leave_us = 20 * MS;
    desk_on_rules(office.desk, &of_levels);
    run(++clock_us);
    assert_int_equal(office.desk->batcher.policy.max_rows, 8);
}

static void by_p99(void **state)
{
    (void)state;
    of_levels.p99_enter_us = 30 * MS;
    of_levels.p99_leave_us = 20 * MS;
    desk_on_rules(office.desk, &of_levels);
    serve(60, 5 * S, 0, 35 * MS);
    expect_level(LEVEL_LATENCY, "latency");
    assert_in_range(atomic_load(&office.model->p99_us), 33 * MS, 38 * MS);
    serve(200, 5 * S, 0, 25 * MS); // neither
    expect_level(LEVEL_LATENCY, "latency");
    serve(300, 5 * S, 0, 15 * MS);
    expect_level(LEVEL_HEALTHY, "in_time");
}

// Without traffic, too: what was late is out of the window one day.
static void nobody_comes(void **state)
{
    (void)state;
    serve(80, 100 * MS, 40 * MS, 30 * MS);
    expect_level(LEVEL_LATENCY, "latency");
    idle(30 * S);
    expect_level(LEVEL_HEALTHY, "in_time");
    assert_int_equal(standing_wake_us(office.desk), UINT64_MAX);
}

// Who gives less time than one row takes says nothing of us; who is given up does.
static void given_up(void **state)
{
    (void)state;
    serve(40, 100 * MS, 0, 20 * MS);
    struct guest g;
    guest_init(&g, 1, 1, 0);
    g.ticket.to.model = office.model;
    g.ticket.queued_us = clock_us;
    g.ticket.deadline_us = clock_us + 1;
    for (unsigned i = 0; i < 20; i++)
        standing_late(office.desk, &g.ticket);
    idle(3 * S);
    run(clock_us += S / 4);
    assert_int_equal(office.desk->standing.state.strained_us, 0);
    g.ticket.deadline_us = clock_us + 100 * MS;
    for (unsigned i = 0; i < 20; i++)
        standing_late(office.desk, &g.ticket);
    run(clock_us += S / 4);
    assert_int_not_equal(office.desk->standing.state.strained_us, 0);
}

// Who left no time for a row alone says nothing of us.
static void given_up_that_no_time_was_for(void **state)
{
    (void)state;
    struct desk_standing *s = &office.desk->standing;
    uint64_t one_us = estimate_mean_us(&office.desk->batcher.estimate, 1);
    assert_in_range(one_us, 1800, 2200);
    struct guest g;
    guest_init(&g, 1, 1, 0);
    g.ticket.to.model = office.model;
    g.ticket.queued_us = clock_us;
    g.ticket.deadline_us = clock_us + one_us;
    uint32_t before = s->took.n, *took = &s->took.sum[hist_index(one_us + 1)], of_it = *took;
    standing_late(office.desk, &g.ticket);
    assert_int_equal(s->took.n, before);
    g.ticket.deadline_us++;
    standing_late(office.desk, &g.ticket);
    assert_int_equal(s->took.n, before + 1);
    assert_int_equal(*took, of_it + 1); // it took all of its time at least
    g.ticket.shadow = true;
    standing_late(office.desk, &g.ticket);
    assert_int_equal(s->took.n, before + 1);
}

// A rate is between two looks: what came before the first one came at nobody knows which.
static void the_first_look(void **state)
{
    (void)state;
    struct desk_standing *s = &office.desk->standing;
    assert_int_equal(s->seen_us, 0);
    standing_came(s, 1000);
    run(clock_us);
    assert_int_equal(s->seen_us, clock_us);
    assert_true(s->demand == 0);
    standing_came(s, 1000);
    run(clock_us += STANDING_LOOK_US);
    double demand = s->demand; // 0.01, of a tenth of the time that counts
    assert_true(demand > 0.0009 && demand < 0.001);
    standing_doubt(s); // nor is there one in no time
    run(clock_us);
    assert_true(s->demand == demand);
}

static void outage(void **state)
{
    (void)state;
    desk_on_replica_down(office.desk, 7, clock_us, &office.fx);
    run(clock_us);
    assert_int_equal(moved(), 1);
    expect_level(LEVEL_LATENCY, "nobody_can_answer");
    idle(S + S / 2);
    assert_int_equal(moved(), 14); // no chain, no cache: nothing between
    expect_level(LEVEL_OUTAGE, "nobody_can_answer");
    forget();
    struct guest *g = lend_at(1, "", clock_us + S, clock_us);
    assert_int_equal(back(g, STATUS_UNAVAILABLE), 1); // at once
    assert_string_equal(g->ticket.error.text, "no replica of the model is ready");
    up(7, 8, "1", clock_us);
    g = lend_at(1, "", clock_us + S, clock_us); // it is held, and answers all the same
    run(clock_us);
    expect_level(LEVEL_OUTAGE, "nobody_can_answer");
    struct batch *b = sent();
    assert_non_null(b);
    answer_one(b, clock_us);
    idle(2 * S);
    expect_level(LEVEL_HEALTHY, "all_back");
}

// While something has to hold for longer, or may come down, and only then: from the first microsecond of a clock.
static void it_wakes_while_time_may_move_it(void **state)
{
    (void)state;
    struct desk_standing *s = &office.desk->standing;
    run(clock_us);
    assert_int_equal(share(), MODEL_SHARE);
    assert_int_equal(standing_wake_us(office.desk), UINT64_MAX);
    static const struct level_state moving[] = {
        {.strained_us = 1}, {.short_us = 1}, {.level = LEVEL_LATENCY}};
    for (unsigned i = 0; i < sizeof(moving) / sizeof(moving[0]); i++) {
        s->state = moving[i];
        assert_int_equal(standing_wake_us(office.desk), s->look_us);
    }
    s->state = (struct level_state){.calm_us = 1};
    assert_int_equal(standing_wake_us(office.desk), UINT64_MAX);
}

static void pinned(void **state)
{
    (void)state;
    static const uint32_t left[LEVELS] = {MODEL_SHARE, MODEL_SHARE, MODEL_SHARE / 2,
                                          MODEL_SHARE / 4, 0};
    for (unsigned level = 0; level < LEVELS; level++) {
        atomic_store(&office.model->pin, (uint8_t)(1 + level));
        run(++clock_us); // at once, whatever is held
        expect_level(level, "pinned");
        assert_int_equal(share(), left[level]);
    }
    forget();
    struct guest *g = lend_at(1, "", clock_us + S, clock_us);
    assert_int_equal(back(g, STATUS_UNAVAILABLE), 1);
    assert_string_equal(g->ticket.error.text,
                        "an operator has set the model to level 4, as if nothing could answer");
    atomic_store(&office.model->pin, 0);
    run(++clock_us);
    for (unsigned i = 0; i + 1 < LEVELS; i++) // each told once
        assert_int_equal(moved(), 11 * (int)i + 1);
    assert_int_equal(moved(), 40);
    expect_level(LEVEL_HEALTHY, "unpinned");
    assert_int_equal(share(), MODEL_SHARE);
    assert_int_equal(standing_wake_us(office.desk), UINT64_MAX);
}

// What is reckoned goes on beneath a pin, and holds when that is gone.
static void beneath_a_pin(void **state)
{
    (void)state;
    atomic_store(&office.model->pin, 1 + LEVEL_CAPACITY);
    desk_on_replica_down(office.desk, 7, clock_us, &office.fx);
    run(clock_us);
    idle(5 * S);
    expect_level(LEVEL_CAPACITY, "pinned");
    atomic_store(&office.model->pin, 0);
    run(clock_us);
    expect_level(LEVEL_OUTAGE, "unpinned");
}

static void switched_off(void **state)
{
    (void)state;
    atomic_store(&office.model->pin, 1 + LEVEL_OUTAGE);
    run(clock_us);
    of_levels.levels = false;
    desk_on_rules(office.desk, &of_levels);
    run(++clock_us);
    expect_level(LEVEL_HEALTHY, "rules");
    assert_int_equal(share(), MODEL_SHARE);
    desk_on_replica_down(office.desk, 7, clock_us, &office.fx);
    run(clock_us);
    idle(20 * S);
    expect_level(LEVEL_HEALTHY, "rules");
    assert_int_equal(share(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TAUGHT(who_was_cut_says_how_long_at_least),
        TAUGHT(at_rest),
        TAUGHT(what_waits),
        TAUGHT(told_seldom),
        TAUGHT(turned_away),
        TAUGHT(two_servers),
        TAUGHT(shared_device),
        TAUGHT(stood_still),
        TAUGHT(given_up_that_no_time_was_for),
        cmocka_unit_test(unknown_times),
        LEVELED(late_in_the_queue),
        LEVELED(as_large_as_the_load_needs),
        LEVELED(as_large_as_the_queue_needs),
        LEVELED(by_the_time_of_a_batch),
        LEVELED(by_p99),
        LEVELED(nobody_comes),
        LEVELED(given_up),
        LEVELED(the_first_look),
        LEVELED(outage),
        LEVELED(it_wakes_while_time_may_move_it),
        LEVELED(pinned),
        LEVELED(beneath_a_pin),
        LEVELED(switched_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
