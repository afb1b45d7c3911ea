/* router/replicas and the desk's memory of tickets: lost connections, the keeper's word about processes, and poison. */
#include "tests/unit/router_worker.h"

static void what_we_close_ourselves_counts_for_nothing(void **state)
{
    (void)state;
    struct batch *b = send_one(NOW);
    for (unsigned i = 0; i < 10; i++) {
        lose(b, true, NOW + i);
        run(NOW + i);
        b = sent();
    }
    const struct ticket *t = &office.guest[0].ticket;
    assert_int_equal(t->losses + t->deaths + t->alone, 0);
    assert_int_equal(t->sent, 11);
    give_up(b, NOW);
}

// Of a local process the keeper will tell: without its word no loss is a death.
static void the_third_loss_is_enough(void **state)
{
    (void)state;
    struct batch *b = send_one(NOW);
    const struct ticket *t = &office.guest[0].ticket;
    for (unsigned i = 0; i < 2; i++) {
        lose(b, false, NOW);
        assert_true(t->lost[i].alone); // from the worker's first batch on
        assert_int_equal(t->alone, i == 1);
        assert_ptr_equal(office.desk->lost, t);
        run(NOW);
        b = sent();
    }
    forget();
    lose(b, false, NOW);
    assert_int_equal(t->place, PLACE_HELD); // the keeper may say that it is poison
    assert_null(t->batch);                  // that one is over
    run(NOW);
    assert_int_equal(next_fx(FX_WAKE)->at_us, NOW + DESK_HELD_US);
    run(NOW + DESK_HELD_US - 1);
    forget();
    run(NOW + DESK_HELD_US);
    assert_int_equal(back(&office.guest[0], STATUS_WORKER_LOST), 1);
    assert_null(office.desk->lost);
    assert_int_equal(office.desk->replicas.suspects, 0);
    assert_true(office.desk->held_us == UINT64_MAX); // nobody is waited for any more
}

// A request that loses three workers, processes 201 to 203, before a word of the keeper comes.
static struct guest *lost_three_times(void)
{
    struct guest *g = lend(1);
    for (uint32_t i = 0; i < 3; i++) {
        run(NOW);
        struct batch *b = sent();
        b->incarnation = 201 + i;
        lose(b, false, NOW);
    }
    run(NOW);
    assert_int_equal(g->ticket.place, PLACE_HELD);
    forget();
    return g;
}

static void all_words_come_too_late(void **state)
{
    (void)state;
    struct guest *g = lost_three_times();
    desk_on_process_end(office.desk, 1, 202, true, NOW, &office.fx);
    assert_int_equal(back(g, STATUS_POISON), 0); // one death
    desk_on_process_end(office.desk, 1, 203, true, NOW, &office.fx);
    assert_int_equal(back(g, STATUS_POISON), 1);
    assert_null(office.desk->lost);
}

static void a_held_ticket_whose_workers_ended_in_order(void **state)
{
    (void)state;
    struct guest *g = lost_three_times();
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(back(g, STATUS_WORKER_LOST), 0);
        desk_on_process_end(office.desk, 1, 201 + i, false, NOW, &office.fx);
    }
    assert_int_equal(back(g, STATUS_WORKER_LOST), 1); // nothing is waited for any more
}

static void a_held_ticket_is_called_back(void **state)
{
    (void)state;
    struct guest *g = lost_three_times();
    desk_on_cancel(office.desk, &g->ticket, NOW, &office.fx);
    assert_int_equal(back(g, STATUS_CLIENT_GONE), 1);
    assert_null(office.desk->lost);
}

// ---- the keeper's word -------------------------------------------------------------------------------

static void the_word_comes_after_the_end_of_file(void **state)
{
    (void)state;
    struct guest *a = lend(1), *b = lend(1);
    run(NOW);
    lose(sent(), false, NOW);
    assert_int_equal(a->ticket.deaths + b->ticket.deaths, 0);
    desk_on_process_end(office.desk, 1, 99, true, NOW, &office.fx); // of another
    desk_on_process_end(office.desk, 2, 101, true, NOW, &office.fx);
    assert_int_equal(a->ticket.deaths + b->ticket.deaths, 0);
    desk_on_process_end(office.desk, 1, 101, true, NOW, &office.fx);
    assert_int_equal(a->ticket.deaths + b->ticket.deaths, 2);
    assert_int_equal(office.desk->replicas.suspects, 2);
    desk_on_process_end(office.desk, 1, 101, true, NOW, &office.fx); // said twice
    assert_int_equal(a->ticket.deaths + b->ticket.deaths, 2);
    run(NOW);
    struct batch *alone = sent();
    assert_int_equal(alone->n, 1);
    assert_null(sent());
    if (alone->tickets[0] == &b->ticket) {
        b = a;
        a = container_of(alone->tickets[0], struct guest, ticket);
    }
    desk_on_replica_down(office.desk, 1, NOW, &office.fx);
    up_local(1, 111);
    alone->incarnation = 111; // it was sent to the next process
    lose(alone, false, NOW);
    assert_int_equal(a->ticket.error.status, STATUS_OK);
    forget();
    desk_on_process_end(office.desk, 1, 111, true, NOW, &office.fx);
    assert_int_equal(back(a, STATUS_POISON), 1);
    assert_int_equal(noted(NOTE_POISON), 0);
    run(NOW);
    answer_one(sent(), NOW);
    assert_int_equal(b->ticket.error.status, STATUS_OK);
}

static void the_word_comes_before_the_end_of_file(void **state)
{
    (void)state;
    struct guest *a = lend(1);
    lend(1);
    run(NOW);
    struct batch *both = sent();
    desk_on_process_end(office.desk, 1, 101, true, NOW, &office.fx);
    lose(both, false, NOW);
    assert_int_equal(a->ticket.deaths, 1);
    assert_true(a->ticket.alone);
    run(NOW);
    struct batch *alone = sent();
    forget();
    lose(alone, false, NOW); // of the same process, as far as the desk knows
    assert_int_equal(back(a, STATUS_POISON), 1);
    run(NOW);
    answer_one(sent(), NOW);
}

static void an_end_in_order_is_no_death(void **state)
{
    (void)state;
    struct batch *b = send_one(NOW);
    lose(b, false, NOW);
    desk_on_process_end(office.desk, 1, 101, false, NOW, &office.fx);
    assert_null(office.desk->lost);
    assert_int_equal(office.guest[0].ticket.deaths, 0);
    assert_false(office.guest[0].ticket.alone);
    run(NOW);
    answer_one(sent(), NOW);
}

static void a_word_for_one_that_is_under_way_again(void **state)
{
    (void)state;
    struct batch *b = send_one(NOW);
    lose(b, false, NOW);
    run(NOW);
    b = sent();
    desk_on_process_end(office.desk, 1, 101, true, NOW, &office.fx);
    assert_int_equal(office.guest[0].ticket.deaths, 1);
    assert_int_equal(office.desk->replicas.suspects, 1);
    answer_one(b, NOW);
    assert_int_equal(office.desk->replicas.suspects, 0);
    assert_int_equal(office.guest[0].ticket.error.status, STATUS_OK);
}

static void the_keepers_words_are_kept_for_a_while(void **state)
{
    (void)state;
    struct replicas *rs = &office.desk->replicas;
    for (uint32_t i = 1; i <= REPLICA_WORDS + 1; i++)
        replicas_process_ended(rs, 1, i, i % 2 ? PROCESS_CRASHED : PROCESS_ENDED);
    replicas_process_ended(rs, 77, 5, PROCESS_CRASHED); // never seen
    assert_int_equal(replicas_process(replica(1), 1), PROCESS_UNKNOWN);
    assert_int_equal(replicas_process(replica(1), 2), PROCESS_ENDED);
    assert_int_equal(replicas_process(replica(1), 5), PROCESS_CRASHED);
    assert_int_equal(replicas_process(replica(1), 0), PROCESS_UNKNOWN);
}

// ---- poison ------------------------------------------------------------------------------------------

static void a_second_death_is_poison(void **state)
{
    (void)state;
    struct guest *a = lend(2), *b = lend(2);
    run(NOW);
    struct batch *both = sent();
    replicas_process_ended(&office.desk->replicas, 7, 5, PROCESS_CRASHED); // what it will be
    both->incarnation = 5;
    forget();
    end(both, SEEN_LOST, NOW);
    assert_int_equal(noted(NOTE_RETRIED), 2);
    assert_int_equal(office.desk->replicas.suspects, 2);
    struct guest *c = lend(2);
    run(NOW);
    struct batch *alone = sent();
    assert_null(sent()); // one at a time beside a suspect
    assert_int_equal(alone->n, 1);
    assert_ptr_equal(alone->tickets[0], &a->ticket);
    alone->incarnation = 5;
    forget();
    end(alone, SEEN_LOST, NOW);
    assert_int_equal(noted(NOTE_POISON), 0);
    assert_int_equal(back(a, STATUS_POISON), 1);
    assert_int_equal(office.desk->replicas.suspects, 1);
    forget();
    run(NOW);
    alone = sent();
    assert_ptr_equal(alone->tickets[0], &b->ticket);
    answer(alone, NOW, 0, 2);
    assert_int_equal(office.desk->replicas.suspects, 0);
    assert_int_equal(b->ticket.error.status, STATUS_OK);
    halve(c, NOW);
    block_unref(b->ticket.slice.answer->block);
}

// Innocent ones that were aboard with it twice: only who kills alone is poison.
static void company_is_no_proof(void **state)
{
    (void)state;
    struct guest *a = lend(1);
    lend(1);
    run(NOW);
    struct batch *both = sent();
    lose(both, false, NOW);
    run(NOW);
    both = sent();
    assert_int_equal(both->n, 2); // one loss and no word: in company
    both->incarnation = 111;
    desk_on_process_end(office.desk, 1, 111, true, NOW, &office.fx);
    lose(both, false, NOW);
    assert_int_equal(a->ticket.deaths, 1);
    desk_on_process_end(office.desk, 1, 101, true, NOW, &office.fx);
    assert_int_equal(a->ticket.deaths, 2); // but never alone
    run(NOW);
    struct batch *alone = sent();
    assert_int_equal(alone->n, 1);
    assert_null(sent());
    answer_one(alone, NOW);
    assert_int_equal(a->ticket.error.status, STATUS_OK);
    run(NOW);
    answer_one(sent(), NOW);
}

// Of a remote one: only a loss with nothing else of ours there says something.
static void without_a_keeper(void **state)
{
    (void)state;
    desk_on_replica_down(office.desk, 1, NOW, &office.fx);
    up_local(1, 0);
    struct batch *b = send_one(NOW);
    uint64_t other = vitals_sent(&vitals[0]); // of another model
    assert_int_equal(other, 0);
    lose(b, false, NOW);
    assert_int_equal(office.guest[0].ticket.deaths, 0);
    assert_null(office.desk->lost);
    run(NOW);
    b = sent(); // the other one is still there
    lose(b, false, NOW);
    assert_int_equal(office.guest[0].ticket.deaths, 0);
    vitals_over(&vitals[0]);
    run(NOW);
    b = sent();
    lose(b, false, NOW);
    assert_int_equal(office.guest[0].ticket.error.status, STATUS_WORKER_LOST); // the third
    b = send_one(NOW);
    lose(b, false, NOW);
    assert_int_equal(office.guest[1].ticket.deaths, 1);
    run(NOW);
    lose(sent(), false, NOW);
    assert_int_equal(office.guest[1].ticket.place,
                     PLACE_QUEUED); // a line that flaps looks the same
    run(NOW);
    lose(sent(), false, NOW);
    assert_int_equal(office.guest[1].ticket.error.status,
                     STATUS_POISON); // the third time alone is proof
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOCAL(what_we_close_ourselves_counts_for_nothing),
        LOCAL(the_third_loss_is_enough),
        LOCAL(all_words_come_too_late),
        LOCAL(a_held_ticket_whose_workers_ended_in_order),
        LOCAL(a_held_ticket_is_called_back),
        LOCAL(the_word_comes_after_the_end_of_file),
        LOCAL(the_word_comes_before_the_end_of_file),
        LOCAL(an_end_in_order_is_no_death),
        LOCAL(a_word_for_one_that_is_under_way_again),
        LOCAL(the_keepers_words_are_kept_for_a_while),
        REMOTE(a_second_death_is_poison),
        LOCAL(company_is_no_proof),
        LOCAL(without_a_keeper),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
