/* router/replicas and the desk's memory of tickets: workers that refuse. Pauses, the retry budget, and when a ticket has
 * been refused enough. */
#include "tests/unit/router_worker.h"

// ---- the replica -------------------------------------------------------------------------------------

static void a_refusal_is_not_halved_and_not_sent_again_at_once(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++)
        lend(1);
    run(NOW);
    struct batch *b = sent();
    assert_int_equal(b->n, 4);
    forget();
    end_as(b, STATUS_UNAVAILABLE, NOW);
    assert_int_equal(noted(NOTE_HALVED), -1);
    assert_int_equal(count_fx(FX_PROBE), 1);
    assert_int_equal(noted(NOTE_REPLICA_PAUSED), 1);
    run(NOW + REPLICA_PAUSE_US - 1);
    assert_null(sent());
    run(NOW + REPLICA_PAUSE_US);
    b = sent();
    assert_int_equal(b->n, 4); // in one piece
    give_up(b, NOW + REPLICA_PAUSE_US);
}

static void pauses_double_and_end_with_an_answer(void **state)
{
    (void)state;
    uint64_t now = NOW, pause = REPLICA_PAUSE_US;
    struct batch *b = send_one(now);
    for (unsigned i = 0; i < 9; i++) {
        forget();
        office.guest[0].ticket.refusals = 0; // it would not be tried for so long
        end_as(b, STATUS_NOT_FOUND, now);
        assert_int_equal(noted(NOTE_REPLICA_PAUSED), i == 0 ? 1 : -1); // once, however often
        assert_int_equal(replica(1)->not_before_us, now + pause);
        now += pause;
        pause = 2 * pause < REPLICA_PAUSE_MAX_US ? 2 * pause : REPLICA_PAUSE_MAX_US;
        office.guest[0].ticket.deadline_us = now + 1000000;
        run(now);
        b = sent();
        assert_non_null(b);
    }
    forget();
    answer_one(b, now);
    assert_int_equal(noted(NOTE_REPLICA_BACK), 1);
    assert_int_equal(replica(1)->refusals, 0);
}

// It was the process before it that paused: nobody comes back with this one's answer.
static void a_new_process_has_not_paused(void **state)
{
    (void)state;
    end_as(send_one(NOW), STATUS_UNAVAILABLE, NOW);
    desk_on_replica_down(office.desk, 1, NOW, &office.fx);
    up_local(1, 102);
    run(NOW);
    struct batch *b = sent();
    forget();
    answer_one(b, NOW);
    assert_int_equal(noted(NOTE_REPLICA_BACK), -1);
}

static void a_worker_may_ask_for_a_longer_pause(void **state)
{
    (void)state;
    struct batch *b = send_one(NOW);
    struct batch_end e = {.seen = SEEN_UNPROCESSED, .pushback_us = 700000};
    desk_on_end(office.desk, b, &e, NOW, &office.fx);
    assert_int_equal(replica(1)->not_before_us, NOW + 700000);
    run(NOW + 700000);
    e.pushback_us = UINT64_MAX; // but not for ever
    desk_on_end(office.desk, sent(), &e, NOW + 700000, &office.fx);
    assert_int_equal(replica(1)->not_before_us, NOW + 700000 + REPLICA_OPEN_MAX_US);
    desk_on_cancel(office.desk, &office.guest[0].ticket, NOW, &office.fx);
}

// Two that were under way when it began to refuse are one refusal.
static void one_volley_is_one_refusal(void **state)
{
    (void)state;
    lend(4);
    lend(4);
    run(NOW);
    struct batch *a = sent(), *b = sent();
    forget();
    end(a, SEEN_UNPROCESSED, NOW);
    end(b, SEEN_UNPROCESSED, NOW + 10);
    assert_int_equal(replica(1)->refusals, 1);
    assert_int_equal(replica(1)->not_before_us, NOW + REPLICA_PAUSE_US);
    assert_int_equal(count_fx(FX_PROBE), 1);
    run(NOW + REPLICA_PAUSE_US);
    give_up(sent(), NOW);
    give_up(sent(), NOW);
}

// The log gets all that it said, /status the beginning.
static void a_pause_is_logged_in_the_workers_words(void **state)
{
    (void)state;
    char words[600] = "";
    for (unsigned i = 0; i < 100; i++)
        strcat(words, "\xe2\x82\xac,");
    struct failure why =
        failure_quote(office.blocks, STATUS_UNAVAILABLE, "it says: ", view_str(words));
    struct batch *b = send_one(NOW);
    forget();
    desk_on_end(office.desk, b, &(struct batch_end){.seen = SEEN_STATUS, .error = &why}, NOW,
                &office.fx);
    const struct note *note = NULL;
    for (unsigned i = office.read; i < office.fx.n; i++) {
        if (office.fx.at[i].kind == FX_NOTE && office.fx.at[i].note.kind == NOTE_REPLICA_PAUSED)
            note = &office.fx.at[i].note;
        if (office.fx.at[i].kind == FX_UNREF)
            assert_non_null(note); // it goes behind the note
    }
    assert_memory_equal(note->why, "it says: ", 9);
    assert_string_equal(note->why + 9, words);
    const struct replica *r = replica((uint32_t)note->a);
    assert_memory_equal(r->why, note->why, 100);
    assert_int_equal(strlen(r->why), sizeof(r->why) - 3); // what was begun of a character has gone
    assert_int_equal(r->why[sizeof(r->why) - 4], ',');
    run(NOW + REPLICA_PAUSE_US);
    answer_one(sent(), NOW + REPLICA_PAUSE_US);
}

// ---- the tickets -------------------------------------------------------------------------------------

static void elsewhere_at_once(void **state)
{
    (void)state;
    up_local(2, 102);
    office.desk->replicas.tokens = 0; // costs none
    struct batch *b = send_one(NOW);
    uint32_t first = b->replica;
    end_as(b, STATUS_UNAVAILABLE, NOW);
    run(NOW);
    b = sent();
    assert_int_equal(b->replica, 3 - first);
    answer_one(b, NOW + 10);
    assert_int_equal(office.guest[0].ticket.error.status, STATUS_OK);
    assert_int_equal(office.guest[0].ticket.replica, 3 - first);
    assert_int_equal(office.guest[0].ticket.sent, 2);
}

static void who_was_refused_comes_back_after_a_pause(void **state)
{
    (void)state;
    struct guest *a = lend(2), *b = lend(2);
    run(NOW);
    struct batch *batch = sent();
    forget();
    end(batch, SEEN_UNPROCESSED, NOW + 50);
    assert_int_equal(noted(NOTE_RETRIED), 2);
    assert_null(a->ticket.batch);
    assert_int_equal(a->ticket.place, PLACE_QUEUED);
    run(NOW + 50);
    assert_null(sent());
    office.read = 0;
    struct fx *wake = NULL;
    for (struct fx *f; (f = next_fx(FX_WAKE)) != NULL;)
        wake = f;
    assert_true(wake->at_us <= NOW + 50 + REPLICA_PAUSE_US);
    run(NOW + 49 + REPLICA_PAUSE_US);
    assert_null(sent());
    run(NOW + 50 + REPLICA_PAUSE_US);
    batch = sent();
    assert_int_equal(batch->n, 2); // nobody died: in company
    assert_ptr_equal(a->ticket.batch, batch);
    assert_int_equal(a->ticket.deaths + b->ticket.deaths, 0);
    assert_int_equal(b->ticket.queue_us, 50 + REPLICA_PAUSE_US); // since it first came
    give_up(batch, NOW);
}

static void past_its_deadline_nobody_is_tried_again(void **state)
{
    (void)state;
    struct guest *a = lend_at(1, "", NOW + 1000, NOW), *b = lend(1);
    run(NOW);
    struct batch *batch = sent();
    assert_int_equal(batch->deadline_us, FAR);
    forget();
    end(batch, SEEN_UNPROCESSED, NOW + 1000);
    assert_int_equal(back(a, STATUS_DEADLINE), 1);
    assert_int_equal(b->ticket.place, PLACE_QUEUED);
    desk_on_cancel(office.desk, &b->ticket, NOW + 1000, &office.fx);
    assert_int_equal(back(b, STATUS_CLIENT_GONE), 1);
}

static void without_a_token_it_is_given_the_workers_words(void **state)
{
    (void)state;
    struct replicas *rs = &office.desk->replicas;
    struct batch *b = send_one(NOW);
    rs->tokens = 0.5; // and a tenth for a batch that is sent
    rs->tokens_us = NOW;
    forget();
    end_as(b, STATUS_UNAVAILABLE, NOW);
    assert_int_equal(back(&office.guest[0], STATUS_UNAVAILABLE), 1);
    assert_string_equal(office.guest[0].ticket.error.text, "so it says");
    rs->tokens = 0.9; // what a second brings is enough
    b = send_one(NOW + 1000000);
    end_as(b, STATUS_UNAVAILABLE, NOW + 1000000);
    assert_int_equal(office.guest[1].ticket.place, PLACE_QUEUED);
    assert_true(rs->tokens > 2.9 && rs->tokens < 3.1); // 0.9 + 0.1 + 3 - 1
    rs->tokens = 1e9;
    assert_true(replicas_may_retry(rs, VIEW(""), NOW + 1000000));
    assert_true(rs->tokens == RETRY_MOST - 1);
    desk_on_cancel(office.desk, &office.guest[1].ticket, NOW, &office.fx);
}

static void one_token_is_enough_and_less_is_not(void **state)
{
    (void)state;
    struct replicas *rs = &office.desk->replicas;
    end(send_one(NOW), SEEN_UNPROCESSED, NOW); // the only one there is pauses
    rs->tokens_us = NOW;
    rs->tokens = 0.999;
    assert_false(replicas_may_retry(rs, VIEW(""), NOW));
    rs->tokens = 1;
    assert_true(replicas_may_retry(rs, VIEW(""), NOW));
    assert_true(rs->tokens == 0);
    desk_on_cancel(office.desk, &office.guest[0].ticket, NOW, &office.fx);
}

static void a_ticket_is_refused_for_so_long_at_most(void **state)
{
    (void)state;
    struct batch *b = send_one(NOW);
    end(b, SEEN_UNPROCESSED, NOW);
    uint64_t now = NOW + DESK_REFUSED_US - 1;
    office.guest[0].ticket.deadline_us = now + 10000000;
    run(now);
    end(sent(), SEEN_UNPROCESSED, now);
    assert_int_equal(office.guest[0].ticket.place, PLACE_QUEUED);
    now += REPLICA_PAUSE_MAX_US;
    run(now);
    b = sent();
    forget();
    end_as(b, STATUS_UNAVAILABLE, now);
    assert_int_equal(back(&office.guest[0], STATUS_UNAVAILABLE), 1);
    assert_string_equal(office.guest[0].ticket.error.text, "so it says");
    b = send_one(now + REPLICA_PAUSE_MAX_US);
    office.guest[1].ticket.refusals = 1;
    office.guest[1].ticket.refused_us = now + REPLICA_PAUSE_MAX_US - DESK_REFUSED_US;
    forget();
    end_as(b, STATUS_UNAVAILABLE, now + REPLICA_PAUSE_MAX_US);
    assert_int_equal(back(&office.guest[1], STATUS_UNAVAILABLE), 1); // to the microsecond
}

static void a_ticket_is_refused_so_often_at_most(void **state)
{
    (void)state;
    struct batch *b = send_one(NOW);
    office.guest[0].ticket.refusals = DESK_REFUSALS - 1;
    office.guest[0].ticket.refused_us = NOW;
    end(b, SEEN_UNPROCESSED, NOW);
    run(NOW + REPLICA_PAUSE_US);
    b = sent();
    forget();
    end(b, SEEN_UNPROCESSED, NOW + REPLICA_PAUSE_US);
    assert_int_equal(back(&office.guest[0], STATUS_UNAVAILABLE), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOCAL(a_refusal_is_not_halved_and_not_sent_again_at_once),
        LOCAL(pauses_double_and_end_with_an_answer),
        LOCAL(a_new_process_has_not_paused),
        LOCAL(a_worker_may_ask_for_a_longer_pause),
        LOCAL(one_volley_is_one_refusal),
        LOCAL(a_pause_is_logged_in_the_workers_words),
        LOCAL(elsewhere_at_once),
        REMOTE(who_was_refused_comes_back_after_a_pause),
        REMOTE(past_its_deadline_nobody_is_tried_again),
        LOCAL(without_a_token_it_is_given_the_workers_words),
        REMOTE(one_token_is_enough_and_less_is_not),
        LOCAL(a_ticket_is_refused_for_so_long_at_most),
        LOCAL(a_ticket_is_refused_so_often_at_most),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
