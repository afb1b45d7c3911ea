/* router/standing: how long of a deadline the queue may take, for how long that counts, and how large the batches are that
 * a load needs. What a desk tells of itself: router_standing.c. */
#include "tests/unit/router_worker.h"

#define MS 1000ull
#define S 1000000ull

static struct model_rules now_in_force;
static uint64_t clock_us;

static int leveled(void **state)
{
    (void)state;
    now_in_force = rules;
    now_in_force.levels = true;
    now_in_force.hold_us = S;
    now_in_force.window_us = 2 * S;
    office_open(&now_in_force);
    up(7, 8, "1", NOW);
    clock_us = NOW;
    run(clock_us);
    forget();
    return 0;
}

#define LEVELED(f) cmocka_unit_test_setup_teardown(f, leveled, teardown)

static void pass(uint64_t us)
{
    clock_us += us;
    run(clock_us);
}

// ---- who comes late ----------------------------------------------------------------------------------

// So many were answered, for whom the queue took so much of the 100 ms that their deadline left.
static void waited(unsigned n, uint64_t wait_us)
{
    struct guest g;
    guest_init(&g, 1, 1, clock_us + 100 * MS);
    g.ticket.queued_us = clock_us;
    g.ticket.queue_us = (uint32_t)wait_us;
    for (unsigned i = 0; i < n; i++)
        standing_answered(&office.desk->standing, &g.ticket, clock_us + wait_us);
}

enum strain { IN_TIME, BETWEEN, LATE };

static enum strain strain(void)
{
    const struct level_state *s = &office.desk->standing.state;
    assert_true(s->strained_us == 0 || s->calm_us == 0);
    return s->strained_us > 0 ? LATE : s->calm_us > 0 ? IN_TIME : BETWEEN;
}

static void a_queue_may_take_a_quarter_and_must_not_take_half(void **state)
{
    (void)state;
    static const struct {
        uint64_t wait_us;
        enum strain is;
    } rows[] = {
        {0, IN_TIME},       {10 * MS, IN_TIME}, {25 * MS, IN_TIME},  {25 * MS + 1, BETWEEN},
        {40 * MS, BETWEEN}, {50 * MS, BETWEEN}, {50 * MS + 1, LATE}, {99 * MS, LATE},
    };
    pass(S);
    assert_int_equal(strain(), IN_TIME); // nobody has come
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        pass(3 * S); // what was is out of the window
        assert_int_equal(strain(), IN_TIME);
        waited(20, rows[i].wait_us);
        pass(S / 8);
        assert_int_equal(strain(), rows[i].is);
    }
}

// A few of them, and of many one of a hundred, may have waited for any time.
static void a_few_may_wait(void **state)
{
    (void)state;
    waited(20, 0);
    waited(RECENT_FEW, 90 * MS);
    pass(S / 8);
    assert_int_equal(strain(), IN_TIME);
    waited(1, 90 * MS);
    pass(S / 8);
    assert_int_equal(strain(), LATE);
    pass(3 * S);
    waited(990, 0);
    waited(10, 90 * MS);
    pass(S / 8);
    assert_int_equal(strain(), IN_TIME);
    waited(1, 30 * MS);
    pass(S / 8);
    assert_int_equal(strain(), BETWEEN);
}

// What was late counts for as long as the window is, however often it is looked at; it goes by quarters of it.
static void it_counts_for_the_window(void **state)
{
    (void)state;
    for (unsigned often = 0; often < 2; often++) {
        pass(5 * S);
        assert_int_equal(strain(), IN_TIME);
        waited(20, 90 * MS);
        for (unsigned i = 0; i < 14; i++) {
            clock_us += S / 10;
            if (often || i == 13)
                run(clock_us);
        }
        assert_int_equal(strain(), LATE);
        for (unsigned i = 0; i < 12; i++) {
            clock_us += S / 10;
            if (often || i == 11)
                run(clock_us);
        }
        assert_int_equal(strain(), IN_TIME);
    }
}

// ---- batches that a load needs --------------------------------------------------------------------------

// t(b) = 10 ms + 1 ms a row.
static void teach(void)
{
    for (unsigned i = 0; i < 100; i++)
        batcher_learn(&office.desk->batcher, 1 + i % 8, 10 * MS + (1 + i % 8) * MS, clock_us);
}

// So many rows a second come, for long.
static void load(uint32_t rows_a_second)
{
    for (unsigned i = 0; i < 60; i++) {
        standing_came(&office.desk->standing, rows_a_second / 10);
        pass(S / 10);
    }
}

static uint32_t largest(void)
{
    atomic_store(&office.model->pin, 1 + LEVEL_LATENCY);
    pass(1);
    uint32_t rows = office.desk->batcher.policy.max_rows;
    atomic_store(&office.model->pin, 0);
    pass(1);
    assert_int_equal(office.desk->batcher.policy.max_rows, 8);
    return rows;
}

// fixed: half of what there may be, or more where the load needs it; all where none would be enough.
static void a_load_beyond_all_has_the_largest(void **state)
{
    (void)state;
    assert_int_equal(largest(), 4); // nothing is known
    teach();
    assert_int_equal(largest(), 4); // nobody comes
    load(300);
    assert_in_range(largest(), 6, 7);
    load(1500);
    assert_int_equal(largest(), 8);
}

// Of two half is one, as long as nothing is known.
static void half_of_two_is_one(void **state)
{
    (void)state;
    now_in_force.max_rows = 2;
    desk_on_rules(office.desk, &now_in_force);
    atomic_store(&office.model->pin, 1 + LEVEL_LATENCY);
    pass(1);
    assert_int_equal(office.desk->batcher.policy.max_rows, 1);
}

// auto: what two servers do in two batches at a time needs smaller ones than one would.
static void two_servers_need_smaller_batches(void **state)
{
    (void)state;
    now_in_force.policy = POLICY_AUTO;
    now_in_force.p99_enter_us = 400 * MS;
    now_in_force.p99_leave_us = 24 * MS; // a batch of two takes half of it
    desk_on_rules(office.desk, &now_in_force);
    teach();
    load(300);
    assert_in_range(largest(), 6, 7);
    up(8, 8, "1", clock_us);
    load(300);
    assert_in_range(largest(), 2, 3);
}

// Whatever becomes of it: rows that come are asked for, rows that are answered can be done.
static void what_comes_and_what_is_served_is_counted(void **state)
{
    (void)state;
    const struct desk_standing *s = &office.desk->standing;
    uint64_t came = s->came, served = s->served;
    lend_at(3, "", clock_us + S, clock_us);
    run(clock_us);
    assert_int_equal(s->came, came + 3);
    struct batch *b = sent();
    assert_int_equal(s->served, served);
    struct ticket *t = b->tickets[0];
    answer(b, clock_us + MS, 0, 3);
    assert_int_equal(s->served, served + 3);
    block_unref(t->slice.answer->block);
}

// ---- what is told ------------------------------------------------------------------------------------

// The wait of a lane is told anew when it has changed by more than a millisecond and an eighth of it, up or down.
static void a_wait_is_told_when_it_has_changed_by_enough(void **state)
{
    (void)state;
    teach();
    lend_at(8, "", clock_us + S, clock_us);
    run(clock_us);
    struct batch *b = sent();
    for (unsigned lane = 0; lane < POLICY_LANES; lane++) {
        _Atomic uint64_t *word = &office.model->begins_us[lane];
        atomic_store(word, 0);
        run(clock_us);
        uint64_t begins_us = atomic_load(word), wait_us = begins_us - clock_us;
        assert_in_range(wait_us, 16 * MS, 20 * MS); // until the batch ends
        uint64_t little_us = MS + wait_us / 8;
        for (unsigned more = 0; more < 2; more++) {
            uint64_t said_us = begins_us + little_us + more;
            atomic_store(word, said_us);
            run(clock_us);
            assert_int_equal(atomic_load(word), more ? begins_us : said_us);
            said_us = begins_us - little_us - more;
            atomic_store(word, said_us);
            run(clock_us);
            assert_int_equal(atomic_load(word), more ? begins_us : said_us);
        }
    }
    give_up(b, clock_us);
}

static void looks_at(_Atomic uint32_t *word, uint32_t said, uint32_t then)
{
    atomic_store(word, said);
    pass(STANDING_LOOK_US);
    assert_int_equal(atomic_load(word), then);
}

// A figure is told anew when it has changed by more than a sixteenth, up or down.
static void a_figure_is_told_when_it_has_changed_by_enough(void **state)
{
    (void)state;
    teach();
    pass(STANDING_LOOK_US);
    struct model *m = office.model;
    assert_true(office.desk->standing.demand == 0);
    assert_int_equal(atomic_load(&m->share), MODEL_SHARE); // of nothing
    assert_in_range(atomic_load(&m->rate), 430, 460);      // eight rows in 18 ms
    assert_in_range(atomic_load(&m->row_us), 10500, 11500);
    _Atomic uint32_t *words[] = {&m->rate, &m->row_us};
    for (unsigned i = 0; i < 2; i++) {
        uint32_t is = atomic_load(words[i]), little = is / 16;
        looks_at(words[i], is + little, is + little);
        looks_at(words[i], is + little + 1, is);
        looks_at(words[i], is - little, is - little);
        looks_at(words[i], is - little - 1, is);
    }
    uint64_t is = atomic_load(&m->cost_ns), little = is / 16;
    assert_in_range(is, 2200000, 2300000); // of a row, in the largest batch
    assert_int_equal(is, estimate_mean_us(&office.desk->batcher.estimate, 8) * 1000 / 8);
    for (unsigned more = 0; more < 2; more++) {
        const uint64_t said[] = {is + little + more, is - little - more};
        for (unsigned i = 0; i < 2; i++) {
            atomic_store(&m->cost_ns, said[i]);
            pass(STANDING_LOOK_US);
            assert_int_equal(atomic_load(&m->cost_ns), more ? is : said[i]);
        }
    }
}

// What waits goes in rounds, of which each is a batch of every server.
static void several_servers_share_what_waits(void **state)
{
    (void)state;
    up(8, 8, "1", clock_us);
    teach();
    struct batch *b[4];
    for (unsigned i = 0; i < 8; i++)
        lend_at(8, "", clock_us + S, clock_us);
    run(clock_us);
    for (unsigned i = 0; i < 4; i++)
        assert_non_null(b[i] = sent());
    assert_int_equal(office.desk->batcher.rows,
                     32); // two rounds, behind the two batches of a server
    run(clock_us);
    uint64_t full_us = office.desk->batcher.full_us;
    assert_in_range(full_us, 17 * MS, 19 * MS);
    assert_int_equal(office.desk->batcher.lane_rows[0], 0);
    uint64_t free_us = model_wait_us(office.model, 0, clock_us);
    assert_int_equal(model_wait_us(office.model, POLICY_LANES - 1, clock_us),
                     free_us + 2 * full_us);
    drop_guests(clock_us);
    for (unsigned i = 0; i < 4; i++)
        give_up(b[i], clock_us);
}

// Only while a full batch waits what was answered is what can be.
static void what_can_be_done_shows_while_a_full_batch_waits(void **state)
{
    (void)state;
    struct desk_standing *s = &office.desk->standing;
    teach();
    pass(S);
    for (unsigned i = 0; i < 3; i++)
        lend_at(i < 2 ? 8 : 7, "", clock_us + 9 * S, clock_us);
    run(clock_us);
    struct batch *b[2] = {sent(), sent()};
    assert_non_null(b[1]);
    assert_int_equal(office.desk->batcher.rows, 7);
    pass(S / 10);
    pass(S / 10);
    assert_true(s->yield == 1);
    lend_at(1, "", clock_us + 9 * S, clock_us);
    standing_tell(office.desk, clock_us, &office.fx);
    pass(S / 10); // it waited for all of this tenth: nothing was done, of a full batch that could
    pass(S / 10);
    assert_in_range(1e6 * s->yield, 562499, 562501); // a quarter of the difference, twice
    standing_served(s, 1000);                        // more than it could is no more than all
    pass(S / 10);
    assert_in_range(1e6 * s->yield, 671874, 671876);
    drop_guests(clock_us);
    run(clock_us);
    pass(S / 10); // nothing waits: it is forgotten by and by
    assert_in_range(1e6 * s->yield, 685311, 685313);
    give_up(b[0], clock_us);
    give_up(b[1], clock_us);
}

// Of the others of its chain: somebody with room, somebody without, nobody. The best of them counts.
static void what_is_left_beside_a_model(void **state)
{
    (void)state;
    static const struct chain_link links[] = {{LINK_MODEL, VIEW("m")},
                                              {LINK_MODEL, VIEW("nobody")},
                                              {LINK_MODEL, VIEW("one")},
                                              {LINK_MODEL, VIEW("two")},
                                              {LINK_DEFAULT, VIEW("default")}};
    const struct chain c = {.links = links, .n = 5};
    struct model *one = table_add(office.table, VIEW("one"), &rules);
    struct model *two = table_add(office.table, VIEW("two"), &rules);
    static const struct {
        unsigned ready[2];
        uint32_t share[2];
        enum level_rest rest;
    } rows[] = {
        {{0, 0}, {MODEL_SHARE, MODEL_SHARE}, LEVEL_REST_NONE},
        {{1, 0}, {MODEL_SHARE, MODEL_SHARE}, LEVEL_REST_ROOM},
        {{0, 1}, {MODEL_SHARE, MODEL_SHARE}, LEVEL_REST_ROOM},
        {{1, 0}, {STANDING_ROOM, 0}, LEVEL_REST_ROOM},
        {{1, 0}, {STANDING_ROOM - 1, MODEL_SHARE}, LEVEL_REST_FULL},
        {{1, 1}, {0, 0}, LEVEL_REST_FULL},
        {{1, 1}, {0, MODEL_SHARE}, LEVEL_REST_ROOM},
        {{1, 1}, {MODEL_SHARE, 0}, LEVEL_REST_ROOM},
    };
    desk_on_chain(office.desk, office.table, &c);
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        atomic_store(&one->ready, rows[i].ready[0]);
        atomic_store(&two->ready, rows[i].ready[1]);
        atomic_store(&one->share, rows[i].share[0]);
        atomic_store(&two->share, rows[i].share[1]);
        pass(S);
        assert_int_equal(office.desk->standing.signals.rest, rows[i].rest);
    }
    desk_on_chain(office.desk, NULL, NULL);
    pass(S);
    assert_int_equal(office.desk->standing.signals.rest, LEVEL_REST_NONE);
}

// It is looked at every tenth of a second, or eight times in a hold that is shorter; for as long as something may change by
// time alone the desk wants to be woken for that.
static void it_is_looked_at_often_enough(void **state)
{
    (void)state;
    static const struct {
        uint64_t hold_us, after_us;
    } rows[] = {
        {80 * MS, 10 * MS + 1}, {800 * MS - 8, 100 * MS}, {800 * MS, 100 * MS}, {60 * S, 100 * MS}};
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        now_in_force.hold_us = rows[i].hold_us;
        desk_on_rules(office.desk, &now_in_force);
        waited(20, 90 * MS);
        forget();
        desk_on_wake(office.desk, ++clock_us, &office.fx);
        assert_int_equal(strain(), LATE);
        assert_int_equal(standing_wake_us(office.desk), clock_us + rows[i].after_us);
        const struct fx *f, *last = NULL;
        while ((f = next_fx(FX_WAKE)) != NULL)
            last = f;
        assert_non_null(last);
        assert_int_equal(last->at_us, clock_us + rows[i].after_us);
    }
    now_in_force.hold_us = 80 * MS;
    now_in_force.levels = false;
    desk_on_rules(office.desk, &now_in_force);
    pass(1);
    assert_int_equal(office.desk->standing.look_us, clock_us + 100 * MS);
    assert_true(standing_wake_us(office.desk) == UINT64_MAX); // and nothing is waited for
}

// A worker's slowest model: quick to rise, slow to fall.
static void the_slowest_time_of_a_worker(void **state)
{
    (void)state;
    static const uint64_t took_us[][2] = {{7000, 7000}, {600, 6600},  {9000, 9000},
                                          {9000, 9000}, {1000, 8500}, {8500, 8500}};
    uint64_t now_us = NOW;
    for (unsigned i = 0; i < sizeof(took_us) / sizeof(took_us[0]); i++) {
        struct batch *b = send_one(now_us);
        now_us += took_us[i][0];
        answer_one(b, now_us);
        assert_int_equal(atomic_load(&vitals[0].slowest_us), took_us[i][1]);
        assert_int_equal(atomic_load(&vitals[0].ended_us), now_us);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LEVELED(a_queue_may_take_a_quarter_and_must_not_take_half),
        LEVELED(a_few_may_wait),
        LEVELED(it_counts_for_the_window),
        LEVELED(a_load_beyond_all_has_the_largest),
        LEVELED(half_of_two_is_one),
        LEVELED(two_servers_need_smaller_batches),
        LEVELED(what_comes_and_what_is_served_is_counted),
        LEVELED(a_wait_is_told_when_it_has_changed_by_enough),
        LEVELED(a_figure_is_told_when_it_has_changed_by_enough),
        LEVELED(several_servers_share_what_waits),
        LEVELED(what_can_be_done_shows_while_a_full_batch_waits),
        LEVELED(what_is_left_beside_a_model),
        LEVELED(it_is_looked_at_often_enough),
        LOCAL(the_slowest_time_of_a_worker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
