/* router/desk under `auto`: more is asked than a worker can do, by clients that ask again and again. What it can do is
 * done, although it is not known how long a batch takes, or it takes longer than it did: what is recalled at the
 * deadline of those aboard tells nothing, so some are let end. */
#include "tests/unit/router_kit.h"

#define CLIENTS 26u
#define PATIENCE_US 400000
#define PAUSE_US 5000
#define TICK_US 1000

static const struct model_rules rules = {.policy = POLICY_AUTO,
                                         .refuse_early = true,
                                         .max_rows = 4,
                                         .max_wait_us = UINT64_MAX,
                                         .deadline_us = PATIENCE_US,
                                         .queue_rows = 100000,
                                         .grace_us = 50000};

static struct crowd {
    uint64_t again_us[CLIENTS]; // when it asks the next time
    uint64_t now_us;
    uint64_t until_us;       // of the batch that the worker computes, wanted or not
    struct batch *queue[64]; // calls in the order in which they came; NULL: reset
    unsigned n;
    unsigned answered;
} crowd;

// What it was given the last time is given back.
static void let_go(struct ticket *t)
{
    if (t->error.block)
        block_unref(t->error.block);
    if (t->error.status == STATUS_OK && t->slice.answer)
        block_unref(t->slice.answer->block);
    t->error = (struct failure){0};
    t->slice.answer = NULL;
}

static int setup(void **state)
{
    (void)state;
    office_open(&rules);
    struct replica_facts facts = {
        .max_batch = 4, .metadata = {1, 1}, .n_versions = 1, .instances = 1};
    facts.versions = &(struct view){"1", 1};
    desk_on_replica_up(office.desk, 7, &facts, NOW, &office.fx);
    crowd = (struct crowd){.now_us = NOW};
    office.n = CLIENTS;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (unsigned i = 0; i < crowd.n; i++) {
        if (crowd.queue[i])
            end(crowd.queue[i], SEEN_RECALLED, crowd.now_us);
    }
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (office.guest[i].ticket.place == PLACE_QUEUED)
            desk_on_cancel(office.desk, &office.guest[i].ticket, crowd.now_us, &office.fx);
        let_go(&office.guest[i].ticket);
    }
    office_close();
    return 0;
}

static void ask_again(unsigned i, uint64_t now_us)
{
    struct guest *g = &office.guest[i];
    let_go(&g->ticket);
    guest_init(g, 1, 1, now_us + PATIENCE_US);
    g->ticket.to = (struct target){office.model, VIEW("m"), VIEW("")};
    g->ticket.key = ticket_key(&g->request, g->ticket.to.version);
    desk_on_ticket(office.desk, &g->ticket, now_us, &office.fx);
}

static void ask_all(uint64_t now_us)
{
    for (unsigned i = 0; i < CLIENTS; i++) {
        bool has = office.guest[i].ticket.place != PLACE_NONE;
        if (has)
            crowd.again_us[i] = now_us + PAUSE_US;
        else if (now_us >= crowd.again_us[i])
            ask_again(i, now_us);
    }
}

// Calls go into the worker's queue; one that is reset ends at once, and is computed all the same if that has begun.
static void obey(uint64_t now_us)
{
    while (office.read < office.fx.n) {
        struct fx f = office.fx.at[office.read++];
        if (f.kind == FX_DISPATCH)
            crowd.queue[crowd.n++] = f.batch;
        for (unsigned i = 0; f.kind == FX_CANCEL && i < crowd.n; i++) {
            if (crowd.queue[i] != f.batch)
                continue;
            crowd.queue[i] = NULL;
            end(f.batch, SEEN_RECALLED, now_us);
        }
    }
    give_back();
}

// Does one batch after the other, each in takes_us.
static void work(uint64_t takes_us, uint64_t now_us)
{
    if (crowd.n == 0 || (crowd.until_us > 0 && now_us < crowd.until_us))
        return;
    if (crowd.until_us > 0) {
        struct batch *b = crowd.queue[0];
        memmove(crowd.queue, crowd.queue + 1, --crowd.n * sizeof(crowd.queue[0]));
        crowd.until_us = 0;
        if (b) {
            crowd.answered += b->rows;
            answer(b, now_us, 0, b->rows);
        }
    }
    while (crowd.n > 0 && !crowd.queue[0]) // it had not begun
        memmove(crowd.queue, crowd.queue + 1, --crowd.n * sizeof(crowd.queue[0]));
    if (crowd.n > 0)
        crowd.until_us = now_us + takes_us;
}

static void play(uint64_t for_us, uint64_t takes_us)
{
    for (uint64_t end_us = crowd.now_us + for_us; crowd.now_us < end_us; crowd.now_us += TICK_US) {
        uint64_t now_us = crowd.now_us;
        ask_all(now_us);
        desk_run(office.desk, now_us, &office.fx);
        obey(now_us);
        work(takes_us, now_us);
    }
}

// At least half of what the worker could have answered.
static void expect_answers(uint64_t for_us, uint64_t takes_us)
{
    unsigned could = (unsigned)(for_us / takes_us * 4);
    if (crowd.answered < could / 2)
        fail_msg("%u answered of %u that could be, %llu us each", crowd.answered, could,
                 (unsigned long long)takes_us);
    assert_int_equal(count_fx(FX_HANGS), 0);
}

static void again(void **state)
{
    teardown(state);
    setup(state);
}

static void from_the_first_request_on(void **state)
{
    for (uint64_t takes_us = 70000; takes_us < PATIENCE_US / 2; takes_us += 10000) {
        again(state);
        play(10000000, takes_us);
        expect_answers(10000000, takes_us);
    }
}

static void when_it_becomes_slower(void **state)
{
    for (uint64_t takes_us = 50000; takes_us < PATIENCE_US / 2; takes_us += 10000) {
        again(state);
        play(3000000, 40000);
        crowd.answered = 0;
        play(10000000, takes_us);
        expect_answers(10000000, takes_us);
    }
}

// Sends a batch that is late after 50 ms. True: it is recalled then.
static bool recalled(struct batch **b, uint64_t now_us)
{
    guest_init(&office.guest[0], 1, 1, now_us + 50000);
    office.guest[0].ticket.to = (struct target){office.model, VIEW("m"), VIEW("")};
    desk_on_ticket(office.desk, &office.guest[0].ticket, now_us, &office.fx);
    run(now_us);
    *b = sent();
    forget();
    run(now_us + 50000);
    return count_fx(FX_CANCEL) == 1;
}

static void the_second_in_a_row_is_let_end(void **state)
{
    (void)state;
    struct batch *b;
    assert_true(recalled(&b, NOW));
    end(b, SEEN_RECALLED, NOW + 50000);
    assert_false(recalled(&b, NOW + 100000));
    answer(b, NOW + 220000, 0, 1);
    assert_int_equal(office.desk->batcher.estimate.seen, 1);
    let_go(&office.guest[0].ticket);
    assert_true(recalled(&b, NOW + 300000)); // that one was answered
    end(b, SEEN_RECALLED, NOW + 350000);
}

// One that hangs has as long as its worker has until it is silent.
static void not_for_ever(void **state)
{
    (void)state;
    struct batch *b;
    assert_true(recalled(&b, NOW));
    end(b, SEEN_RECALLED, NOW + 50000);
    assert_false(recalled(&b, NOW + 100000));
    run(NOW + 150000 + REPLICA_SILENT_US - 1); // its deadline was 150 ms after NOW
    assert_int_equal(count_fx(FX_CANCEL), 0);
    run(NOW + 150000 + REPLICA_SILENT_US);
    assert_int_equal(count_fx(FX_CANCEL), 1);
    end(b, SEEN_RECALLED, NOW + 150000 + REPLICA_SILENT_US);
}

// Of those that are late, only what its server has begun says how long it takes.
static void what_waits_behind_it_is_recalled(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 20; i++)
        batcher_learn(&office.desk->batcher, 1 + i % 4, 1000, NOW - 50000);
    office.desk->batcher.missed = 3;
    struct batch *b;
    assert_false(recalled(&b, NOW));
    forget();
    office.n = CLIENTS;
    struct guest *g = lend_at(1, "", NOW + 100000, NOW + 50000);
    run(NOW + 60000);
    assert_non_null(sent());
    run(NOW + 100000);
    assert_int_equal(count_fx(FX_CANCEL), 1);
    end(next_fx(FX_CANCEL)->batch, SEEN_RECALLED, NOW + 100000);
    assert_int_equal(back(g, STATUS_DEADLINE), 1);
    answer(b, NOW + 200000, 0, 1);
    assert_in_range(estimate_mean_us(&office.desk->batcher.estimate, 1), 150000, 250000);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {TEST(from_the_first_request_on),
                                       TEST(when_it_becomes_slower),
                                       TEST(the_second_in_a_row_is_let_end), TEST(not_for_ever),
                                       TEST(what_waits_behind_it_is_recalled)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
