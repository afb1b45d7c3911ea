/* batcher: rules of waiting and of who is in whose way, each by the least that makes the difference. */
#include "tests/unit/batcher_kit.h"

#define NOW 800000000ull
#define FAR (NOW + 10000000)

static struct batcher b;
static struct guest guest[200];
static unsigned n_guests;
static struct ticket *out[64];

static const struct outlook one_idle = {.servers = 1, .idle = 1};

static void open_auto(uint32_t max_rows)
{
    const struct policy p = {.kind = POLICY_AUTO, .max_rows = max_rows, .max_wait_us = UINT64_MAX};
    batcher_init(&b, &p);
    n_guests = 0;
}

static void close_auto(void)
{
    for (struct ticket *t; (t = batcher_any(&b)) != NULL;)
        batcher_remove(&b, t);
    batcher_deinit(&b);
}

static struct ticket *add(uint64_t key, uint8_t lane, uint64_t deadline_us)
{
    struct guest *g = &guest[n_guests++];
    guest_init(g, 1, key, deadline_us);
    g->ticket.lane = lane;
    assert_true(batcher_push(&b, &g->ticket, NOW));
    return &g->ticket;
}

static struct batch_plan plan(void)
{
    batcher_expect(&b, &one_idle);
    return batcher_plan(&b, 64, NOW, NULL, NULL);
}

// ---- waits ---------------------------------------------------------------------------------------------

// A row waits for those that come back. Who goes meanwhile does not end that, unless it is of a lower priority.
static void only_a_lower_priority_overtakes(void **state)
{
    (void)state;
    for (uint8_t lane = 0; lane < 4; lane++) {
        open_auto(8);
        for (unsigned i = 0; i < 200; i++)
            batcher_learn(&b, 1 + i % 8, 4000 + 20 * (1 + i % 8), NOW);
        b.trip_us = 100;
        b.arrivals.returns = (struct returns){
            .answered_us = NOW - 50, .answered = 4, .came = 1, .back = {0.75, 0.75, 0.75}};
        struct ticket *row = add(1, 1, FAR);
        assert_null(plan().group); // it waits
        for (unsigned i = 0; i < 8; i++)
            add(2, lane, FAR);
        struct batch_plan p = plan();
        assert_int_equal(p.lane, lane);
        assert_int_equal(batcher_take(&b, &p, out, 64, NOW), 8);
        p = plan();
        assert_int_equal(p.group != NULL, lane > 1);
        if (p.group) {
            assert_int_equal(batcher_take(&b, &p, out, 64, NOW), 1);
            assert_ptr_equal(out[0], row);
        }
        close_auto();
    }
}

// So many rows wait on a server that is free, for the two of four that are still to come back within 200 us.
static struct verdict waiting(uint32_t rows, uint64_t max_wait_us)
{
    const struct policy p = {.kind = POLICY_AUTO, .max_rows = 128, .max_wait_us = max_wait_us};
    struct due_rows due = {.from_us = NOW};
    struct summary s = {
        .rows = rows,
        .oldest_us = NOW - 20,
        .earliest_us = FAR,
        .n_lanes = 1,
        .lane = {{.rows = rows, .earliest_us = FAR, .due = &due}},
        .at = one_idle,
        .trusted = true,
        .alpha = 4000,
        .beta = 20,
        .high = 1,
        .trip_us = 100,
        .returns = {.answered_us = NOW - 50, .answered = 4, .came = 1, .back = {0.75, 0.75, 0.75}}};
    return policy_decide(&p, &s, NOW);
}

// Two more save 2 x 4,000 us of the device; each that waits for them pays 200 us.
static void many_do_not_wait_for_a_few(void **state)
{
    (void)state;
    assert_int_equal(waiting(1, UINT64_MAX).wake_us, NOW + 200);
    assert_int_equal(waiting(39, UINT64_MAX).rows, 0);
    assert_int_equal(waiting(41, UINT64_MAX).rows, 41);
    assert_int_equal(waiting(100, UINT64_MAX).rows, 100);
    assert_int_equal(waiting(1, 0).rows, 1);
}

// What goes after a free server was waited for is told so: where waiting is allowed, for however short, and not else.
static void who_may_not_wait_has_not_waited(void **state)
{
    (void)state;
    static const uint64_t most_us[] = {0, 1, 100, UINT64_MAX};
    for (unsigned servers = 1; servers <= 2; servers++) {
        for (unsigned i = 0; i < sizeof(most_us) / sizeof(most_us[0]); i++) {
            const struct policy p = {
                .kind = POLICY_AUTO, .max_rows = 128, .max_wait_us = most_us[i]};
            struct due_rows due = {.from_us = NOW};
            struct summary s = {.rows = 1,
                                .oldest_us = NOW - 5000,
                                .earliest_us = FAR,
                                .n_lanes = 1,
                                .lane = {{.rows = 1, .earliest_us = FAR, .due = &due}},
                                .at = {.servers = servers, .idle = 1},
                                .trusted = true,
                                .alpha = 4000,
                                .beta = 20,
                                .high = 1,
                                .rate = 0.01, // it needs more than a row at a time
                                .trip_us = 100,
                                .returns = {.answered_us = NOW - 5000, .answered = 1}};
            struct verdict v = policy_decide(&p, &s, NOW);
            assert_int_equal(v.rows, 1);
            assert_int_equal(v.reason, most_us[i] > 0 ? BATCH_WAIT : BATCH_IDLE);
        }
    }
}

// ---- who is in whose way ---------------------------------------------------------------------------------

// A single row before it is a batch before it, where a batch is one row.
static void one_row_ahead_is_one_too_many(void **state)
{
    (void)state;
    open_auto(1);
    for (unsigned i = 0; i < 200; i++)
        batcher_learn(&b, 1, 10000, NOW);
    const struct outlook busy = {.servers = 1, .soonest_free_us = NOW + 5000};
    batcher_expect(&b, &busy);
    struct guest g;
    guest_init(&g, 1, 1, NOW + 23000);
    assert_int_equal(batcher_refuses(&b, &g.ticket, NOW), 0);
    struct ticket *before = add(1, 1, NOW + 22000);
    assert_in_range(batcher_refuses(&b, &g.ticket, NOW), 1000, 5000);
    batcher_remove(&b, before);
    add(1, 1, NOW + 24000); // it is due later: it stands behind
    assert_int_equal(batcher_refuses(&b, &g.ticket, NOW), 0);
    add(1, 2, NOW + 22000); // and so does a lower priority
    assert_int_equal(batcher_refuses(&b, &g.ticket, NOW), 0);
    add(1, 0, NOW + 24000);
    assert_in_range(batcher_refuses(&b, &g.ticket, NOW), 1000, 5000);
    close_auto();
}

// One row alone in its lane, before a lane of many that have time: the batch is as large as leaves the one in time, t(b) =
// 1 ms + 500 us a row; where nothing would, as large as any.
static void one_row_that_presses_keeps_a_batch_small(void **state)
{
    (void)state;
    static const uint32_t rows[] = {8, 8, 1, 3, 5, 7, 8};
    for (unsigned ms = 0; ms < sizeof(rows) / sizeof(rows[0]); ms++) {
        open_auto(8);
        for (unsigned i = 0; i < 200; i++)
            batcher_learn(&b, 1 + i % 8, 1000 + 500 * (1 + i % 8), NOW);
        add(1, 1, NOW + 1000 * ms);
        for (unsigned i = 0; i < 9; i++)
            add(1, 2, NOW + 9000);
        struct batch_plan p = plan();
        assert_int_equal(p.lane, 1);
        assert_int_equal(p.rows, rows[ms]);
        close_auto();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_a_lower_priority_overtakes),
        cmocka_unit_test(many_do_not_wait_for_a_few),
        cmocka_unit_test(who_may_not_wait_has_not_waited),
        cmocka_unit_test(one_row_ahead_is_one_too_many),
        cmocka_unit_test(one_row_that_presses_keeps_a_batch_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
