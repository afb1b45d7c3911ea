/* router/sequences: every step of a sequence reaches the process that had the ones before, at once. */
#include "tests/unit/router_kit.h"

static const struct model_rules rules = {.max_rows = 4,
                                         .pipeline = 1,
                                         .deadline_us = 1000000,
                                         .queue_bytes = 1 << 20,
                                         .grace_us = 50000};

static int setup(void **state)
{
    (void)state;
    office_open(&rules);
    for (uint32_t id = 1; id <= 3; id++)
        up(id, 4, "1", NOW);
    forget();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    office_close();
    return 0;
}

enum { START = 1, END = 2 };

static struct guest *step(uint64_t sequence, unsigned flags)
{
    struct guest *g = &office.guest[office.n++];
    guest_init(g, 1, 1, FAR);
    g->request.sequence = true;
    g->request.sequence_id = sequence;
    g->request.sequence_start = flags & START;
    g->request.sequence_end = flags & END;
    g->ticket.to.model = office.model;
    g->ticket.lend.from = 0;
    desk_on_ticket(office.desk, &g->ticket, NOW, &office.fx);
    return g;
}

static uint32_t answered_by(struct batch *b)
{
    assert_non_null(b);
    assert_int_equal(b->n, 1);
    struct ticket *t = b->tickets[0];
    uint32_t id = b->replica;
    answer(b, NOW, 0, 1);
    block_unref(t->slice.answer->block);
    return id;
}

static void a_sequence_stays_where_it_began(void **state)
{
    (void)state;
    unsigned met[4] = {0};
    for (uint64_t sequence = 1; sequence <= 30; sequence++) {
        step(sequence * 7919, START);
        uint32_t id = answered_by(sent());
        met[id]++;
        for (unsigned i = 0; i < 4; i++) {
            step(sequence * 7919, 0);
            assert_int_equal(answered_by(sent()), id);
        }
    }
    assert_true(met[1] > 0 && met[2] > 0 && met[3] > 0); // spread over all
}

// More than the pipeline has: those that own the worker's slots must come through.
static void no_credit_delays_a_step(void **state)
{
    (void)state;
    struct batch *b[12];
    for (unsigned i = 0; i < 12; i++) {
        step(i + 1, START);
        b[i] = sent();
        assert_non_null(b[i]);
    }
    for (unsigned i = 0; i < 12; i++)
        answered_by(b[i]);
}

static void a_sequence_whose_worker_is_gone_is_lost(void **state)
{
    (void)state;
    step(42, START);
    uint32_t id = answered_by(sent());
    desk_on_replica_down(office.desk, id, NOW, &office.fx);
    forget();
    struct guest *g = step(42, 0);
    assert_int_equal(back(g, STATUS_WORKER_LOST), 1);
    assert_null(sent());
    step(42, START); // it may begin anew
    assert_int_not_equal(answered_by(sent()), id);
}

static void another_process_has_no_state(void **state)
{
    (void)state;
    step(42, START);
    uint32_t id = answered_by(sent());
    desk_on_replica_down(office.desk, id, NOW, &office.fx);
    struct replica_facts f = {
        .max_batch = 4, .metadata = {1, 1}, .versions = &(struct view){"1", 1}, .n_versions = 1};
    f.incarnation = 5;
    desk_on_replica_up(office.desk, id, &f, NOW, &office.fx);
    forget();
    assert_int_equal(back(step(42, 0), STATUS_WORKER_LOST), 1);
}

// Sent means that the worker's state may have moved on: never twice.
static void a_step_is_never_sent_twice(void **state)
{
    (void)state;
    static const struct {
        enum seen seen;
        bool ours;
        enum status status;
    } ends[] = {
        {SEEN_LOST, false, STATUS_WORKER_LOST}, {SEEN_LOST, true, STATUS_WORKER_LOST},
        {SEEN_WRONG, false, STATUS_INTERNAL},   {SEEN_STATUS, false, STATUS_INTERNAL},
        {SEEN_NO_ROOM, false, STATUS_INTERNAL}, {SEEN_UNPROCESSED, false, STATUS_UNAVAILABLE}};
    for (unsigned i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        struct guest *g = step(i + 1, START);
        struct batch *b = sent();
        bool says = ends[i].seen != SEEN_LOST && ends[i].seen != SEEN_UNPROCESSED;
        struct batch_end e = {
            .seen = ends[i].seen, .ours = ends[i].ours, .error = says ? &so_it_says : NULL};
        forget();
        desk_on_end(office.desk, b, &e, NOW, &office.fx);
        assert_int_equal(back(g, ends[i].status), 1);
        run(NOW + 10000000);
        assert_null(sent());
    }
}

static void steps_wait_for_a_first_replica(void **state)
{
    (void)state;
    for (uint32_t id = 1; id <= 3; id++)
        desk_on_replica_down(office.desk, id, NOW, &office.fx);
    struct guest *g = step(9, START);
    assert_int_equal(g->ticket.place, PLACE_ABOARD); // of a batch that waits
    up(2, 4, "1", NOW);
    run(NOW);
    assert_int_equal(answered_by(sent()), 2);
    up(1, 4, "1", NOW);
    up(3, 4, "1", NOW);
    step(9, 0);
    assert_int_equal(answered_by(sent()), 2);
}

static void an_ended_sequence_is_forgotten(void **state)
{
    (void)state;
    step(9, START);
    answered_by(sent());
    assert_int_equal(office.desk->sequences.at[9].id, 9);
    step(9, END);
    answered_by(sent());
    assert_int_equal(office.desk->sequences.at[9].id, 0);
}

// What is idle longest makes room, and then goes by its hash as it did before.
static void the_table_is_bounded(void **state)
{
    (void)state;
    struct sequences *s = &office.desk->sequences;
    struct replicas *rs = &office.desk->replicas;
    struct infer_request q = {.sequence_id = 5};
    struct ticket t = {.request = &q};
    bool gone;
    uint32_t first = sequences_choose(s, rs, &t, NOW, &gone)->id;
    for (unsigned i = 1; i <= SEQUENCES_WAYS; i++) {
        q.sequence_id = 5 + i * SEQUENCES_MOST; // the same place
        assert_non_null(sequences_choose(s, rs, &t, NOW + i, &gone));
    }
    unsigned kept = 0;
    for (unsigned i = 0; i < SEQUENCES_MOST; i++) {
        assert_int_not_equal(s->at[i].id, 5);
        kept += s->at[i].id != 0;
    }
    assert_int_equal(kept, SEQUENCES_WAYS);
    q.sequence_id = 5;
    assert_int_equal(sequences_choose(s, rs, &t, NOW + 100, &gone)->id, first);
}

static void without_memory_it_goes_by_its_hash(void **state)
{
    (void)state;
    struct infer_request q = {.sequence_id = 5};
    struct ticket t = {.request = &q};
    bool gone;
    mem_fail_at(1);
    struct replica *r =
        sequences_choose(&office.desk->sequences, &office.desk->replicas, &t, NOW, &gone);
    mem_fail_at(0);
    assert_non_null(r);
    assert_null(office.desk->sequences.at);
    assert_ptr_equal(
        sequences_choose(&office.desk->sequences, &office.desk->replicas, &t, NOW, &gone), r);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_sequence_stays_where_it_began),
        TEST(no_credit_delays_a_step),
        TEST(a_sequence_whose_worker_is_gone_is_lost),
        TEST(another_process_has_no_state),
        TEST(a_step_is_never_sent_twice),
        TEST(steps_wait_for_a_first_replica),
        TEST(an_ended_sequence_is_forgotten),
        TEST(the_table_is_bounded),
        TEST(without_memory_it_goes_by_its_hash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
