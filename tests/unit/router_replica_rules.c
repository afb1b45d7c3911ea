/* router: rules of replicas, sequences and rules that change, each small; what is told of a replica. Ejection, losses and
 * silence have tests of their own. */
#include "router/chain.h"
#include "router/level.h"
#include "tests/unit/router_worker.h"

// ---- what the last replicas were ---------------------------------------------------------------------------

static uint32_t most_rows(void)
{
    return office.desk->batcher.policy.max_rows;
}

static void rules_of(uint32_t max_rows)
{
    static struct model_rules of_now;
    of_now = rules;
    of_now.max_rows = max_rows;
    desk_on_rules(office.desk, &of_now);
}

// As large as rules and replicas allow; with no replica as large as the rules say, else as the last ones allowed.
static void batches_are_as_large_as_rules_and_replicas_allow(void **state)
{
    (void)state;
    rules_of(0);
    assert_int_equal(most_rows(), 8);
    rules_of(3);
    assert_int_equal(most_rows(), 3);
    rules_of(100);
    assert_int_equal(most_rows(), 8);
    desk_on_replica_down(office.desk, 7, NOW, &office.fx);
    assert_int_equal(most_rows(), 8);
    rules_of(0);
    assert_int_equal(most_rows(), 8);
    rules_of(5);
    assert_int_equal(most_rows(), 5);
    rules_of(0);
    assert_int_equal(most_rows(), 5);
    up(7, 6, "1", NOW);
    assert_int_equal(most_rows(), 6);
}

static void a_model_is_as_its_replica_says(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        desk_on_replica_down(office.desk, 7, NOW, &office.fx);
        struct replica_facts facts = {
            .max_batch = i & 1 ? 0 : 4, .metadata = {1, 1}, .rowless = (i & 2) != 0};
        desk_on_replica_up(office.desk, 7, &facts, NOW, &office.fx);
        assert_int_equal(atomic_load(&office.model->max_batch), facts.max_batch);
        assert_int_equal(atomic_load(&office.model->single), facts.max_batch == 0);
        assert_int_equal(atomic_load(&office.model->rowless), facts.rowless);
        assert_int_equal(atomic_load(&office.model->ready), 1);
    }
}

// A request of a model that knows no rows is one row of work.
static void what_has_no_rows_is_one_row_of_work(void **state)
{
    (void)state;
    desk_on_replica_down(office.desk, 7, NOW, &office.fx);
    up(7, 0, "1", NOW);
    struct batch *b[2];
    for (unsigned i = 0; i < 2; i++) {
        lend_at(0, "", FAR, NOW);
        run(NOW);
        b[i] = sent();
        assert_int_equal(b[i]->n, 1);
        assert_int_equal(replica(7)->rows, i + 1);
        assert_int_equal(office.desk->running_rows, i + 1);
    }
    for (unsigned i = 0; i < 2; i++) {
        give_up(b[i], NOW);
        assert_int_equal(replica(7)->rows, 1 - i);
        assert_int_equal(office.desk->running_rows, 1 - i);
    }
}

// Whatever became of it at another desk, a ticket that comes begins anew: but for the workers that it lost.
static void who_comes_begins_anew(void **state)
{
    (void)state;
    struct guest *g = &office.guest[office.n++];
    guest_init(g, 1, 1, FAR);
    struct ticket *t = &g->ticket;
    t->to = (struct target){office.model, VIEW("m"), VIEW("")};
    t->losses_before = 1;
    t->refusals = t->sent = 1;
    t->alone = t->died_alone = t->watched = t->cancelled = t->let_go = true;
    t->batch_rows = t->age_s = 1;
    t->room_in_us = 1;
    t->source = SOURCE_CACHE;
    t->queued_us = 1;
    desk_on_ticket(office.desk, t, NOW, &office.fx);
    assert_int_equal(t->place, PLACE_QUEUED);
    assert_int_equal(t->losses, 1);
    assert_int_equal(t->refusals + t->sent, 0);
    assert_false(t->alone || t->died_alone || t->watched || t->cancelled || t->let_go);
    assert_int_equal(t->batch_rows + t->age_s + t->room_in_us, 0);
    assert_int_equal(t->source, SOURCE_MODEL);
    assert_int_equal(t->queued_us, NOW);
    assert_int_equal(t->wanted_us, FAR);
    run(NOW);
    give_up(sent(), NOW);
}

// ---- processes -----------------------------------------------------------------------------------------

// A new process of one that was ejected is as quick as any until it shows; of one that was well as quick as it was.
static void a_new_process_of_an_ejected_one_is_not_judged_by_the_old_one(void **state)
{
    (void)state;
    answer_one(send_one(NOW), NOW + 7000);
    assert_true(replica(1)->latency_us == 7000);
    desk_on_replica_down(office.desk, 1, NOW, &office.fx);
    up_local(1, 201);
    assert_true(replica(1)->latency_us == 7000);
    up_local(2, 102);
    for (unsigned i = 0; i < REPLICA_FAULTS; i++)
        replicas_fault(&office.desk->replicas, 1, NOW, &office.fx);
    assert_int_equal(replica(1)->standing, STANDING_OPEN);
    desk_on_replica_down(office.desk, 1, NOW, &office.fx);
    up_local(1, 201); // the same one
    assert_true(replica(1)->latency_us == 7000);
    assert_int_equal(replica(1)->standing, STANDING_OPEN);
    desk_on_replica_down(office.desk, 1, NOW, &office.fx);
    up_local(1, 202);
    assert_true(replica(1)->latency_us == 0);
    assert_int_equal(replica(1)->standing, STANDING_CLOSED);
}

// What the keeper said is about one process; of one without a number, as another machine's, it says nothing.
static void the_keeper_speaks_of_processes_that_have_a_number(void **state)
{
    (void)state;
    struct replicas *rs = &office.desk->replicas;
    replicas_process_ended(rs, 1, 101, PROCESS_CRASHED);
    assert_int_equal(replicas_process(replica(1), 101), PROCESS_CRASHED);
    assert_int_equal(replicas_process(replica(1), 102), PROCESS_UNKNOWN);
    replicas_process_ended(rs, 1, 0, PROCESS_CRASHED);
    assert_int_equal(replicas_process(replica(1), 0), PROCESS_UNKNOWN);
    for (uint32_t i = 0; i < REPLICA_WORDS; i++) // the oldest word goes
        replicas_process_ended(rs, 1, 300 + i, PROCESS_CRASHED);
    assert_int_equal(replicas_process(replica(1), 101), PROCESS_UNKNOWN);
    assert_int_equal(replicas_process(replica(1), 300), PROCESS_CRASHED);
    assert_int_equal(replicas_process(replica(1), 300 + REPLICA_WORDS - 1), PROCESS_CRASHED);
}

// ---- notes ---------------------------------------------------------------------------------------------

// What is noted of a replica names it, whatever it is.
static void notes_of_replicas_are_known_by_their_names(void **state)
{
    (void)state;
    for (unsigned i = 0; i < NOTE_KINDS; i++) {
        bool of_replica = strncmp(note_name[i], "replica_", 8) == 0 || i == NOTE_WRONG_SHAPE;
        assert_int_equal(note_of_replica[i], of_replica);
    }
}

// ---- sequences -----------------------------------------------------------------------------------------

static struct infer_request step;
static struct ticket of_step = {.request = &step};
static bool gone;

static struct replica *step_of(uint64_t sequence, bool start, uint64_t now_us)
{
    step = (struct infer_request){.sequence_id = sequence, .sequence_start = start};
    return sequences_choose(&office.desk->sequences, &office.desk->replicas, &of_step, now_us,
                            &gone);
}

// Each of those that share a place of the table is remembered: when their worker goes all are lost, and each is told once.
static void who_shares_a_place_is_remembered_as_well(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < SEQUENCES_WAYS; i++) {
        assert_ptr_equal(step_of(5 + i * SEQUENCES_MOST, true, NOW + i), replica(7));
        assert_false(gone);
    }
    up(8, 8, "1", NOW);
    for (uint64_t i = 0; i < SEQUENCES_WAYS; i++) { // whatever its hash says now
        assert_ptr_equal(step_of(5 + i * SEQUENCES_MOST, false, NOW + 10 + i), replica(7));
        assert_false(gone);
    }
    desk_on_replica_down(office.desk, 7, NOW, &office.fx);
    for (uint64_t i = 0; i < SEQUENCES_WAYS; i++) {
        assert_null(step_of(5 + i * SEQUENCES_MOST, false, NOW + 20));
        assert_true(gone);
        assert_ptr_equal(step_of(5 + i * SEQUENCES_MOST, false, NOW + 20), replica(8));
        assert_false(gone);
    }
}

// Who was idle longest makes room, wherever it stands.
static void who_was_idle_longest_makes_room(void **state)
{
    (void)state;
    for (uint64_t idle = 0; idle < SEQUENCES_WAYS; idle++) {
        uint64_t first = 100 * (idle + 1);
        for (uint64_t i = 0; i < SEQUENCES_WAYS; i++)
            step_of(first + i * SEQUENCES_MOST, true, NOW);
        for (uint64_t i = 0; i < SEQUENCES_WAYS; i++)
            if (i != idle)
                step_of(first + i * SEQUENCES_MOST, false, NOW + 1);
        step_of(first + SEQUENCES_WAYS * SEQUENCES_MOST, true, NOW + 2);
        unsigned found = 0;
        for (unsigned i = 0; i < SEQUENCES_MOST; i++) {
            uint64_t id = office.desk->sequences.at[i].id;
            assert_true(id != first + idle * SEQUENCES_MOST);
            found += id % SEQUENCES_MOST == first;
        }
        assert_int_equal(found, SEQUENCES_WAYS);
    }
}

// ---- levels and chains -----------------------------------------------------------------------------------

// A clock may begin anywhere.
static void what_holds_since_the_first_microsecond_holds(void **state)
{
    (void)state;
    const struct level_rules k = {.enter = 10, .leave = 5, .hold_us = 100};
    const struct level_signals g = {.strain = 11, .ready = 1, .known = 1, .share_ppm = 1000000};
    struct level_state s = {0};
    assert_false(level_step(&s, &k, &g, 1));
    assert_false(level_step(&s, &k, &g, 100));
    assert_true(level_step(&s, &k, &g, 101));
    assert_int_equal(s.level, LEVEL_LATENCY);
}

// Capacity is short below one bound, and back from a higher one on: between them it is what it was.
static void between_the_bounds_capacity_is_what_it_was(void **state)
{
    (void)state;
    const struct level_rules k = {.enter = 10, .leave = 5, .hold_us = 100};
    struct level_signals g = {
        .ready = 1, .known = 1, .alternatives = true, .rest = LEVEL_REST_ROOM};
    struct level_state s = {0};
    static const struct {
        uint32_t share_ppm;
        bool is_short;
    } rows[] = {
        {1000000, false},          {LEVEL_SHARE_BACK - 1, false},
        {LEVEL_SHARE_LOW, false},  {LEVEL_SHARE_LOW - 1, true},
        {LEVEL_SHARE_LOW, true},   {LEVEL_SHARE_BACK - 1, true},
        {LEVEL_SHARE_BACK, false}, {LEVEL_SHARE_LOW, false},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        g.share_ppm = rows[i].share_ppm;
        level_step(&s, &k, &g, 1000 + i);
        assert_int_equal(s.short_us > 0, rows[i].is_short);
    }
}

// A model whose answers take long at times is waited for four times as long as nearly all of them take.
static void patience_is_four_times_what_nearly_all_take(void **state)
{
    (void)state;
    static const struct chain_link links[] = {{LINK_MODEL, VIEW("m")}, {LINK_MODEL, VIEW("n")}};
    const struct chain c = {.links = links, .n = 2};
    struct chance at[2] = {{.known = true, .ready = true, .share = CHAIN_LOTS},
                           {.known = true, .ready = true, .share = CHAIN_LOTS}};
    struct chain_walk walk = {0};
    chain_begin(&walk, 0, NOW);
    at[0].p99_us = CHAIN_PATIENCE_US / 4;
    assert_int_equal(chain_patience(&c, at, &walk, 0, 600000000), CHAIN_PATIENCE_US);
    at[0].p99_us = 2 * CHAIN_PATIENCE_US;
    assert_int_equal(chain_patience(&c, at, &walk, 0, 600000000), 8 * CHAIN_PATIENCE_US);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        REMOTE(batches_are_as_large_as_rules_and_replicas_allow),
        REMOTE(a_model_is_as_its_replica_says),
        REMOTE(what_has_no_rows_is_one_row_of_work),
        REMOTE(who_comes_begins_anew),
        LOCAL(a_new_process_of_an_ejected_one_is_not_judged_by_the_old_one),
        LOCAL(the_keeper_speaks_of_processes_that_have_a_number),
        cmocka_unit_test(notes_of_replicas_are_known_by_their_names),
        REMOTE(who_shares_a_place_is_remembered_as_well),
        REMOTE(who_was_idle_longest_makes_room),
        cmocka_unit_test(what_holds_since_the_first_microsecond_holds),
        cmocka_unit_test(between_the_bounds_capacity_is_what_it_was),
        cmocka_unit_test(patience_is_four_times_what_nearly_all_take),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
