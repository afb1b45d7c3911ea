/* router/desk under the policy `auto`: who has the next batch and when, who is refused, who is dropped. */
#include "router/desk_inner.h"
#include "tests/unit/router_kit.h"

#define LEAD_US 62 // of alpha = 1000

static const struct model_rules rules = {.policy = POLICY_AUTO,
                                         .refuse_early = true,
                                         .max_rows = 64,
                                         .max_wait_us = UINT64_MAX,
                                         .deadline_us = 1000000,
                                         .queue_rows = 100000,
                                         .grace_us = 50000};

static int setup(void **state)
{
    (void)state;
    office_open(&rules);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    office_close();
    return 0;
}

static void up_with(uint32_t id, uint32_t instances, uint64_t now_us)
{
    struct replica_facts facts = {
        .max_batch = 64, .metadata = {1, 1}, .n_versions = 1, .instances = instances};
    facts.versions = &(struct view){"1", 1};
    desk_on_replica_up(office.desk, id, &facts, now_us, &office.fx);
}

// t(b) = 1000 + 20 b.
static void teach(void)
{
    for (uint32_t i = 0; i < 400; i++)
        batcher_learn(&office.desk->batcher, 1 << i % 7, 1000 + 20 * (1 << i % 7), NOW - 50000);
    office.desk->batcher.arrivals = (struct arrivals){0};
}

// The worker says how long it had it waiting, too.
static void answer_after(struct batch *b, uint64_t now_us, uint64_t compute_us, uint64_t queue_us)
{
    struct block *block = block_new(office.blocks, 64);
    struct tensor t = {.name = VIEW("y"), .rank = 1, .shape = {b->rows}, .data = block->data};
    struct answer *a = answer_new(block, &t, 1, b->rows);
    a->compute_us = compute_us;
    a->queue_us = queue_us;
    desk_on_answer(office.desk, b, a, now_us, &office.fx);
    give_back();
}

static void settle(void)
{
    forget();
    for (unsigned i = 0; i < office.n; i++) {
        struct ticket *t = &office.guest[i].ticket;
        if (t->place == PLACE_QUEUED)
            desk_on_cancel(office.desk, t, NOW, &office.fx);
        else if (t->error.status == STATUS_OK && t->slice.answer)
            block_unref(t->slice.answer->block);
    }
}

static uint64_t woken_at(void)
{
    uint64_t at_us = UINT64_MAX;
    for (unsigned i = office.read; i < office.fx.n; i++) {
        if (office.fx.at[i].kind == FX_WAKE)
            at_us = office.fx.at[i].at_us;
    }
    return at_us;
}

static void not_known_it_sends_one_at_a_time(void **state)
{
    (void)state;
    up_with(7, 1, NOW);
    for (unsigned i = 0; i < 8; i++)
        lend(1);
    run(NOW);
    struct batch *b = sent();
    assert_int_equal(b->n, 8);
    assert_int_equal(b->expected_us, 0);
    for (unsigned i = 0; i < 8; i++)
        lend(1);
    run(NOW + 10);
    assert_null(sent()); // its answer teaches
    answer_after(b, NOW + 1160, 0, 0);
    run(NOW + 1160);
    b = sent();
    assert_int_equal(b->n, 2); // a quarter
    answer_after(b, NOW + 2200, 0, 0);
    run(NOW + 2200);
    b = sent();
    assert_int_equal(b->n, 3); // half of the six that are left
    answer_after(b, NOW + 3300, 0, 0);
    settle();
}

// A further batch goes when the first is about to end, and not before, full or not.
static void the_next_one_goes_just_in_time(void **state)
{
    (void)state;
    up_with(7, 1, NOW);
    teach();
    lend(1);
    run(NOW);
    struct batch *first = sent();
    uint64_t free_us = NOW + first->expected_us;
    assert_true(first->expected_us > 900 && first->expected_us < 1100);
    assert_int_equal(office.desk->replicas.at[0].server[0].free_us, free_us);
    for (unsigned i = 0; i < 64; i++)
        lend(1);
    run(NOW + 100);
    assert_true(woken_at() == free_us - LEAD_US);
    assert_null(sent());
    run(free_us - LEAD_US - 1);
    assert_null(sent());
    run(free_us - LEAD_US);
    struct batch *second = sent();
    assert_int_equal(second->n, 64);
    assert_int_equal(second->reason, BATCH_FULL);
    assert_false(second->quiet);
    answer_after(first, free_us, 0, 0);
    answer_after(second, free_us + 2280, 0, 0);
    settle();
}

// Each instance is a server: eight of them have eight batches at once.
static void every_instance_is_a_server(void **state)
{
    (void)state;
    up_with(7, 8, NOW);
    assert_int_equal(office.desk->replicas.at[0].n_servers, 8);
    struct batch *b[9] = {NULL};
    for (unsigned i = 0; i < 8; i++) {
        lend(1);
        run(NOW + i);
        b[i] = sent();
        assert_non_null(b[i]);
        assert_int_equal(b[i]->server, i);
        assert_true(b[i]->quiet);
    }
    lend(1);
    run(NOW + 9);
    assert_null(sent());
    answer_after(b[5], NOW + 1000, 0, 0);
    run(NOW + 1000);
    b[8] = sent();
    assert_int_equal(b[8]->server, 5);
    for (unsigned i = 0; i < 9; i++) {
        if (i != 5)
            answer_after(b[i], NOW + 2000 + i, 0, 0);
    }
    settle();
    // More than are told apart share them.
    desk_on_replica_down(office.desk, 7, NOW, &office.fx);
    up_with(7, 99, NOW);
    assert_int_equal(office.desk->replicas.at[0].n_servers, REPLICA_SERVERS);
}

static void who_is_free_soonest_has_it(void **state)
{
    (void)state;
    up_with(7, 1, NOW);
    up_with(8, 1, NOW);
    teach();
    struct model_rules no_waits = rules;
    no_waits.max_wait_us = 0;
    desk_on_rules(office.desk, &no_waits);
    lend(20);
    run(NOW);
    struct batch *a = sent();
    lend(1);
    run(NOW + 10);
    struct batch *b = sent();
    assert_int_not_equal(a->replica, b->replica); // that one is idle
    lend(1);
    run(b->sent_us + b->expected_us - LEAD_US);
    struct batch *c = sent();
    assert_int_equal(c->replica, b->replica); // free before a has ended
    answer_after(b, NOW + 1100, 0, 0);
    answer_after(c, NOW + 2100, 0, 0);
    answer_after(a, NOW + 1400, 0, 0);
    // Of two that are idle, the one that has been so for longer.
    lend(1);
    run(NOW + 3000);
    struct batch *d = sent();
    assert_int_equal(d->replica, a->replica);
    answer_after(d, NOW + 4000, 0, 0);
    settle();
}

static void credit_is_by_rules_or_instances(void **state)
{
    (void)state;
    up_with(7, 2, NOW);
    struct replicas *rs = &office.desk->replicas;
    struct replica *r = &rs->at[0];
    r->batches = 2 * REPLICA_PIPELINE_AUTO - 1;
    assert_true(replicas_credit(rs, NOW));
    r->batches = 2 * REPLICA_PIPELINE_AUTO;
    assert_false(replicas_credit(rs, NOW));
    office.model->rules.policy = POLICY_FIXED;
    r->batches = 2 * REPLICA_PIPELINE_FIXED;
    assert_false(replicas_credit(rs, NOW));
    r->batches = 2 * REPLICA_PIPELINE_FIXED - 1;
    assert_true(replicas_credit(rs, NOW));
    office.model->rules.pipeline = 1;
    assert_false(replicas_credit(rs, NOW));
    r->batches = 0;
}

static void too_many_before_it_is_refused_at_once(void **state)
{
    (void)state;
    up_with(7, 1, NOW);
    teach();
    lend(1);
    run(NOW);
    struct batch *first = sent();
    for (unsigned i = 0; i < 3 * 64; i++)
        lend_at(1, "", NOW + 8000, NOW);
    forget();
    struct guest *g =
        lend_at(1, "", NOW + 8900, NOW); // behind three batches of 2.3 ms, and the first
    assert_int_equal(back(g, STATUS_DEADLINE), 1);
    assert_int_equal(noted(NOTE_REFUSED), 1);
    assert_string_equal(g->ticket.error.text, "more waits before it than can be answered in time");
    assert_in_range(g->ticket.room_in_us, 100,
                    3000); // of three batches and a half, what is too much
    forget();
    g = lend_at(1, "", NOW + 20000, NOW);
    assert_int_equal(g->ticket.place, PLACE_QUEUED);
    office.model->rules.refuse_early = false;
    for (unsigned i = 0; i < 190; i++) // 742 batches of 2.3 ms
        lend_at(250, "", NOW + 8000, NOW);
    office.model->rules.refuse_early = true;
    forget();
    g = lend_at(1, "", NOW + 8900, NOW);
    assert_int_equal(back(g, STATUS_DEADLINE), 1);
    assert_in_range(g->ticket.room_in_us, 1600000, 1800000);
    office.model->rules.refuse_early = false;
    g = lend_at(1, "", NOW + 8900, NOW);
    assert_int_equal(g->ticket.place, PLACE_QUEUED);
    answer_after(first, NOW + 1000, 0, 0);
    settle();
}

// A model that is served singly: an image of 300 lines is one request.
static void a_first_dimension_may_be_no_rows(void **state)
{
    (void)state;
    struct desk *d = office.desk;
    up(7, 0, "1", NOW);
    for (unsigned i = 0; i < 20; i++)
        batcher_learn(&d->batcher, 1, 1000, NOW);
    lend(300);
    run(NOW);
    struct batch *first = sent();
    assert_int_equal(first->n, 1);
    for (unsigned i = 0; i < 3; i++)
        lend_at(100, "", NOW + 50000, NOW);
    assert_int_equal(d->batcher.rows, 3);
    assert_int_equal(d->standing.came, 4);
    struct guest *g = lend_at(1, "", NOW + 60000, NOW); // behind four of a millisecond
    assert_int_equal(g->ticket.place, PLACE_QUEUED);
    run(NOW + 10);
    assert_int_equal(atomic_load(&office.model->waiting), 4);
    assert_in_range(model_wait_us(office.model, 1, NOW), 4000, 6000);
    office.model->rules.refuse_early = false;
    for (unsigned i = 0; i < 60; i++)
        lend_at(100, "", NOW + 60000, NOW);
    office.model->rules.refuse_early = true;
    forget();
    g = lend_at(1, "", NOW + 65000, NOW);
    assert_int_equal(back(g, STATUS_DEADLINE), 1);
    assert_string_equal(g->ticket.error.text, "more waits before it than can be answered in time");
    assert_int_equal(noted(NOTE_REFUSED), 1);
    answer_after(first, NOW + 1000, 0, 0);
    settle();
}

static void heads_in_the_way_are_dropped(void **state)
{
    (void)state;
    up_with(7, 1, NOW);
    teach();
    for (unsigned i = 0; i < 30; i++)
        lend_at(1, "", NOW + 1200, NOW);
    for (unsigned i = 0; i < 50; i++)
        lend_at(1, "", NOW + 2600, NOW);
    forget();
    run(NOW);
    struct batch *b = sent();
    assert_int_equal(b->reason, BATCH_DEADLINE);
    assert_int_equal(b->n, 50);
    office.read = 0;
    unsigned dropped = 0, noted = 0;
    for (unsigned i = 0; i < 30; i++)
        dropped += back(&office.guest[i], STATUS_DEADLINE);
    for (unsigned i = 0; i < office.fx.n; i++)
        noted += office.fx.at[i].kind == FX_NOTE && office.fx.at[i].note.kind == NOTE_DROPPED;
    assert_int_equal(dropped, 30);
    assert_int_equal(noted, 30);
    assert_string_equal(office.guest[0].ticket.error.text,
                        "given up for others that can still be answered in time");
    answer_after(b, NOW + 2000, 0, 0);
    settle();
}

// What a queue is thought to wait for is thought anew when the first request comes, and when the rules are others.
static void the_outlook_is_of_todays_rules(void **state)
{
    (void)state;
    const struct batcher *q = &office.desk->batcher;
    lend(1);
    assert_int_equal(q->outlook.servers, 1); // nobody is there: as if one were
    up_with(7, 2, NOW);
    forget();
    struct model_rules less = rules;
    less.max_rows = 8;
    run(NOW);
    answer_after(sent(), NOW, 0, 0);
    desk_on_rules(office.desk, &less);
    lend(1);
    assert_int_equal(q->round_rows, 2 * 8);
    settle();
}

// The way there and back is what the worker does not account for.
static void a_quiet_batch_tells_the_way(void **state)
{
    (void)state;
    up_with(7, 1, NOW);
    const struct batcher *q = &office.desk->batcher;
    lend(4);
    run(NOW);
    answer_after(sent(), NOW + 1500, 1000, 300);
    assert_true(q->trip_us == 200);
    assert_true(q->estimate.octave[2].us == 1000);
    lend(4);
    run(NOW + 2000);
    answer_after(sent(), NOW + 3500, 1400, 300); // more than there was
    assert_true(q->trip_us == 200);
    lend(4);
    run(NOW + 4000);
    answer_after(sent(), NOW + 5000, 0, 0);
    assert_true(q->trip_us == 200);
    settle();
}

// R7 counts from when a server is free.
static void hopeless_behind_what_runs(void **state)
{
    (void)state;
    up_with(7, 1, NOW);
    teach();
    office.desk->batcher.learned_us = NOW;
    lend(64);
    run(NOW);
    struct batch *b = sent(); // until 2,280
    forget();
    struct guest *g = lend_at(1, "", NOW + 3000, NOW + 100);
    assert_int_equal(back(g, STATUS_DEADLINE), 1);
    assert_int_equal(noted(NOTE_EXPIRED), 1);
    answer_after(b, NOW + 1000, 0, 0); // sooner than it was thought
    g = lend_at(1, "", NOW + 3000, NOW + 1000);
    assert_int_equal(g->ticket.place, PLACE_QUEUED);
    settle();
}

// Who asks and leaves in turn does not have the worker begin each: what was recalled may be computed all the same.
static void who_asks_and_leaves_is_not_sent_again_at_once(void **state)
{
    (void)state;
    up_with(7, 1, NOW);
    struct guest *g = lend(1);
    run(NOW);
    struct batch *b = sent();
    desk_on_cancel(office.desk, &g->ticket, NOW + 100, &office.fx);
    end(b, SEEN_RECALLED, NOW + 200);
    lend(1);
    forget();
    run(NOW + 200);
    assert_null(sent());
    assert_true(office.desk->wake_us <= NOW + SERVER_RECALLED_US);
    run(NOW + SERVER_RECALLED_US - 1);
    assert_null(sent());
    run(NOW + SERVER_RECALLED_US);
    b = sent();
    assert_non_null(b);
    answer_after(b, NOW + 20000, 1000, 0);
    settle();
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(not_known_it_sends_one_at_a_time), TEST(the_next_one_goes_just_in_time),
        TEST(every_instance_is_a_server),       TEST(who_is_free_soonest_has_it),
        TEST(credit_is_by_rules_or_instances),  TEST(too_many_before_it_is_refused_at_once),
        TEST(a_first_dimension_may_be_no_rows), TEST(heads_in_the_way_are_dropped),
        TEST(a_quiet_batch_tells_the_way),      TEST(the_outlook_is_of_todays_rules),
        TEST(hopeless_behind_what_runs),        TEST(who_asks_and_leaves_is_not_sent_again_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
