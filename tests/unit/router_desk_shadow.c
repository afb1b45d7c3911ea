/* router/desk_shadow: shadows at a desk go when nobody else wants to, and leave no trace in what is reckoned. */
#include "tests/unit/router_kit.h"

static const struct model_rules rules = {
    .policy = POLICY_AUTO, .pipeline = 2, .deadline_us = 1000000, .queue_rows = 10, .levels = true};

static int setup(void **state)
{
    (void)state;
    office_open(&rules);
    up(1, 8, "1", NOW);
    forget();
    return 0;
}

// Those that were answered give their rows back, as their origins would.
static int teardown(void **state)
{
    (void)state;
    for (unsigned i = 0; i < office.n; i++)
        if (office.guest[i].ticket.slice.answer)
            block_unref(office.guest[i].ticket.slice.answer->block);
    assert_int_equal(office.desk->n_shadows, 0);
    assert_false(office.desk->shadow_sent);
    assert_int_equal(office.desk->running_rows, 0);
    office_close();
    return 0;
}

static struct guest *lend_shadow(uint32_t rows, uint64_t deadline_us)
{
    struct guest *g = &office.guest[office.n++];
    guest_init(g, rows, 1, deadline_us);
    g->ticket.to = (struct target){office.model, VIEW("m"), VIEW("")};
    g->ticket.key = ticket_key(&g->request, g->ticket.to.version);
    g->ticket.shadow = true;
    desk_on_ticket(office.desk, &g->ticket, NOW, &office.fx);
    return g;
}

static void several_go_together(void **state)
{
    (void)state;
    struct guest *a = lend_shadow(3, FAR), *b = lend_shadow(3, FAR), *c = lend_shadow(3, FAR);
    assert_int_equal(office.desk->n_shadows, 3);
    assert_int_equal(office.desk->batcher.count, 0);
    run(NOW);
    struct batch *first = sent();
    assert_int_equal(first->n, 2); // as many as the replica takes
    assert_int_equal(first->rows, 6);
    assert_null(sent()); // one at a time
    answer(first, NOW + 100, 0, 6);
    run(NOW + 100);
    struct batch *second = sent();
    assert_ptr_equal(second->tickets[0], &c->ticket);
    office.read = 0;
    assert_int_equal(back(a, STATUS_OK) + back(b, STATUS_OK), 2);
    forget();
    answer(second, NOW + 200, 0, 3);
    assert_int_equal(back(c, STATUS_OK), 1);
    assert_int_equal(office.desk->standing.came + office.desk->standing.served, 0);
    assert_int_equal(office.desk->standing.took.n, 0);
}

static void who_is_served_goes_first(void **state)
{
    (void)state;
    struct guest *s = lend_shadow(1, FAR), *g = lend(1);
    run(NOW);
    struct batch *b = sent();
    assert_ptr_equal(b->tickets[0], &g->ticket);
    assert_int_equal(b->n, 1);
    run(NOW + 1000); // there is credit, and nothing is queued; but the worker does something
    assert_null(sent());
    answer(b, NOW + 2000, 0, 1);
    run(NOW + 2000);
    b = sent();
    assert_ptr_equal(b->tickets[0], &s->ticket);
    g = lend(1); // comes behind it: there is credit, and nothing is refused for a shadow
    assert_int_equal(g->ticket.place, PLACE_QUEUED);
    answer(b, NOW + 3000, 0, 1);
    run(NOW + 3000);
    b = sent();
    assert_ptr_equal(b->tickets[0], &g->ticket);
    answer(b, NOW + 4000, 0, 1);
}

static void a_busy_worker_has_none(void **state)
{
    (void)state;
    static struct worker_vitals vitals;
    static const struct view version = VIEW("1");
    struct replica_facts facts = {.max_batch = 8,
                                  .metadata = {1, 1},
                                  .versions = &version,
                                  .n_versions = 1,
                                  .vitals = &vitals};
    desk_on_replica_down(office.desk, 1, NOW, &office.fx);
    desk_on_replica_up(office.desk, 2, &facts, NOW, &office.fx);
    forget();
    lend_shadow(1, FAR);
    uint64_t number = vitals_sent(&vitals); // of another model, or another loop
    run(NOW);
    assert_null(sent());
    assert_true(number > 0 && office.desk->wake_us <= NOW + DESK_SHADOW_LOOK_US);
    vitals_over(&vitals);
    desk_on_wake(office.desk, NOW + DESK_SHADOW_LOOK_US, &office.fx);
    struct batch *b = sent();
    assert_non_null(b);
    answer(b, NOW + 30000, 0, 1);
}

static void tried_once(void **state)
{
    (void)state;
    static const struct {
        enum seen seen;
        enum status status;
    } ends[] = {{SEEN_STATUS, STATUS_INTERNAL},
                {SEEN_WRONG, STATUS_INTERNAL},
                {SEEN_LOST, STATUS_WORKER_LOST},
                {SEEN_UNPROCESSED, STATUS_UNAVAILABLE}};
    for (unsigned i = 0; i < 4; i++) {
        struct guest *a = lend_shadow(1, FAR), *b = lend_shadow(1, FAR);
        run(NOW);
        struct batch *both = sent();
        assert_int_equal(both->n, 2);
        forget();
        end(both, ends[i].seen, NOW);
        assert_int_equal(back(a, ends[i].status) + back(b, ends[i].status), 2);
        assert_false(office.desk->again || office.desk->lost || office.desk->batcher.count > 0);
        assert_int_equal(office.desk->replicas.suspects, 0);
    }
}

static void called_home(void **state)
{
    (void)state;
    struct guest *waits = lend_shadow(8, FAR);
    struct guest *aboard = waits;
    run(NOW);
    struct batch *b = sent();
    waits = lend_shadow(1, FAR);
    struct guest *behind = lend_shadow(1, FAR);
    forget();
    desk_on_cancel(office.desk, &waits->ticket, NOW, &office.fx);
    assert_int_equal(back(waits, STATUS_CLIENT_GONE), 1);
    assert_int_equal(office.desk->n_shadows, 1);
    desk_on_cancel(office.desk, &behind->ticket, NOW, &office.fx);
    assert_int_equal(back(behind, STATUS_CLIENT_GONE), 1);
    behind = lend_shadow(1, FAR);
    forget();
    desk_on_cancel(office.desk, &aboard->ticket, NOW, &office.fx);
    assert_int_equal(count_fx(FX_CANCEL), 1);
    end(b, SEEN_RECALLED, NOW + 10);
    assert_int_equal(back(aboard, STATUS_DEADLINE), 1);
    assert_int_equal(office.desk->standing.cut_us, 0);
    run(NOW + 10);
    b = sent();
    assert_ptr_equal(b->tickets[0], &behind->ticket);
    answer(b, NOW + 20, 0, 1);
}

static void late_ones_leave(void **state)
{
    (void)state;
    struct guest *g = lend(1);
    run(NOW);
    struct batch *b = sent();
    struct guest *s = lend_shadow(1, NOW + 1000);
    forget();
    run(NOW + 999);
    assert_int_equal(back(s, STATUS_DEADLINE), 0);
    run(NOW + 1000);
    assert_int_equal(back(s, STATUS_DEADLINE), 1);
    assert_int_equal(noted(NOTE_EXPIRED), -1);
    answer(b, NOW + 2000, 0, 1);
    assert_int_equal(back(g, STATUS_OK), 1);
    assert_int_equal(office.desk->standing.took.n, 1); // that of who was served
}

static void not_taken(void **state)
{
    (void)state;
    struct guest *g = lend(1);
    run(NOW);
    struct batch *b = sent();
    for (unsigned i = 0; i < DESK_SHADOWS; i++)
        lend_shadow(1, FAR);
    forget();
    struct guest *s = lend_shadow(1, FAR);
    assert_int_equal(back(s, STATUS_UNAVAILABLE), 1); // they are bounded
    atomic_store(&office.model->level, 1);
    run(NOW);
    assert_int_equal(office.desk->n_shadows, 0); // and leave when the service comes down
    forget();
    s = lend_shadow(1, FAR);
    assert_int_equal(back(s, STATUS_UNAVAILABLE), 1);
    atomic_store(&office.model->level, 0);
    desk_on_replica_down(office.desk, 1, NOW, &office.fx);
    forget();
    s = lend_shadow(1, FAR);
    assert_int_equal(back(s, STATUS_UNAVAILABLE), 1); // nobody waits for a replica
    answer(b, NOW + 10, 0, 1);
    assert_int_equal(back(g, STATUS_OK), 1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(several_go_together),
        TEST(who_is_served_goes_first),
        TEST(a_busy_worker_has_none),
        TEST(tried_once),
        TEST(called_home),
        TEST(late_ones_leave),
        TEST(not_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
