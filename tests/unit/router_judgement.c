/* router/replicas and the desk's memory of tickets: pauses, the retry budget, siblings, ejection, doubt and
 * silence, lost connections and the keeper's word. What one end means by itself: router_evidence. */
#include "tests/unit/router_kit.h"

static const struct model_rules rules = {.max_rows = 4,
                                         .pipeline = 2,
                                         .deadline_us = 5000000,
                                         .queue_bytes = 1 << 20,
                                         .grace_us = 50000};

static struct worker_vitals vitals[2];

// Replicas 1 and 2 are local processes 101 and 102.
static void up_local(uint32_t id, uint32_t incarnation)
{
    struct replica_facts f = {.max_batch = 4,
                              .metadata = {1, 1},
                              .versions = {VIEW("1")},
                              .n_versions = 1,
                              .incarnation = incarnation,
                              .vitals = &vitals[id - 1]};
    desk_on_replica_up(office.desk, id, &f, NOW, &office.fx);
}

static int setup(void **state)
{
    (void)state;
    memset(vitals, 0, sizeof(vitals));
    office_open(&rules);
    up_local(1, 101);
    forget();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    office_close();
    return 0;
}

static struct replica *replica(uint32_t id)
{
    return replicas_find(&office.desk->replicas, id);
}

static struct batch *send_one(uint64_t now_us)
{
    lend_at(1, "", now_us + 1000000, now_us);
    run(now_us);
    return sent();
}

static void answer_one(struct batch *b, uint64_t now_us)
{
    struct ticket *t = b->tickets[0];
    answer(b, now_us, 0, 1);
    block_unref(t->slice.answer->block);
}

// ---- refusals ----------------------------------------------------------------------------------------

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
}

// All aboard are told in one text, and it lives for as long as one of them has not read it.
static void a_text_is_shared_by_all_aboard(void **state)
{
    (void)state;
    struct failure why = failure_quote(office.blocks, STATUS_BAD_REQUEST, "it says: ", VIEW("no"));
    struct guest *a = lend(1), *b = lend(1);
    run(NOW);
    struct batch *batch = sent();
    assert_int_equal(batch->n, 2);
    office.desk->replicas.max_batch = 4;
    batch->halvings = DESK_HALVINGS; // no further
    batch->shown = true;
    forget();
    desk_on_end(office.desk, batch, &(struct batch_end){.seen = SEEN_STATUS, .error = &why}, NOW,
                &office.fx);
    assert_int_equal(back(a, STATUS_BAD_REQUEST) + back(b, STATUS_BAD_REQUEST), 2);
    assert_ptr_equal(a->ticket.error.text, b->ticket.error.text);
    give_back();
    assert_int_equal(office.blocks->live_blocks, 1);
    block_unref(a->ticket.error.block);
    assert_string_equal(b->ticket.error.text, "it says: no");
    block_unref(b->ticket.error.block);
    a->ticket.error.block = b->ticket.error.block = NULL;
    assert_int_equal(office.blocks->live_blocks, 0);
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
    assert_memory_equal(replica((uint32_t)note->a)->why, note->why, 100);
    run(NOW + REPLICA_PAUSE_US);
    answer_one(sent(), NOW + REPLICA_PAUSE_US);
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

// ---- no room for the answer --------------------------------------------------------------------------

static void no_room(struct batch *b, uint64_t now_us)
{
    const struct failure *e = FAILED(STATUS_UNAVAILABLE, "no room");
    desk_on_end(office.desk, b, &(struct batch_end){.seen = SEEN_NO_ROOM, .error = e}, now_us,
                &office.fx);
}

static void nothing_against_it(uint32_t id, uint64_t now_us)
{
    assert_int_equal(noted(NOTE_REPLICA_PAUSED), -1);
    assert_int_equal(noted(NOTE_RETRIED), -1);
    assert_int_equal(count_fx(FX_PROBE), 0);
    assert_int_equal(replica(id)->not_before_us + replica(id)->refusals + replica(id)->faults, 0);
    assert_int_equal(atomic_load(&vitals[id - 1].ended_us), now_us); // it is not silent
}

static void what_has_no_room_is_halved_until_it_has(void **state)
{
    (void)state;
    up_local(2, 102); // who would answer no less
    for (unsigned i = 0; i < 4; i++)
        lend(1);
    run(NOW);
    struct batch *b = sent();
    uint32_t id = b->replica;
    forget();
    no_room(b, NOW + 5);
    nothing_against_it(id, NOW + 5);
    run(NOW + 5);
    struct batch *half[2] = {sent(), sent()};
    assert_int_equal(half[0]->n + half[1]->n, 4);
    assert_int_equal(half[0]->halvings, 1);
    answer(half[0], NOW + 6, 0, 2);
    id = half[1]->replica;
    no_room(half[1], NOW + 7);
    nothing_against_it(id, NOW + 7);
    run(NOW + 7);
    struct batch *quarter[2] = {sent(), sent()};
    forget();
    id = quarter[0]->replica;
    no_room(quarter[0], NOW + 8);
    nothing_against_it(id, NOW + 8);
    assert_int_equal(noted(NOTE_HALVED), -1);
    assert_int_equal(back(&office.guest[2], STATUS_UNAVAILABLE), 1); // alone: it is told so
    assert_string_equal(office.guest[2].ticket.error.text, "no room");
    answer(quarter[1], NOW + 9, 0, 1);
    for (unsigned i = 0; i < 4; i++) {
        if (i == 2)
            continue;
        assert_int_equal(office.guest[i].ticket.error.status, STATUS_OK);
        block_unref(office.guest[i].ticket.slice.answer->block);
    }
    run(NOW + 1000000);
    assert_null(sent());
}

// A half says nothing of a row: when it fails, a sibling is to see it first. And it is not mixed with others again.
static void a_half_without_room_is_judged_anew(void **state)
{
    (void)state;
    up_local(2, 102);
    for (unsigned i = 0; i < 4; i++)
        lend(1);
    run(NOW);
    no_room(sent(), NOW);
    run(NOW);
    struct batch *half[2] = {sent(), sent()};
    uint32_t first = half[0]->replica;
    end(half[1], SEEN_UNPROCESSED, NOW);
    lend(1);
    run(NOW);
    assert_ptr_equal(sent(), half[1]);
    assert_int_equal(half[1]->replica, first); // elsewhere, as it is
    assert_int_equal(half[1]->n, 2);
    give_up(half[1], NOW);
    run(NOW);
    give_up(sent(), NOW);
    forget();
    end(half[0], SEEN_WRONG, NOW + REPLICA_PAUSE_US);
    assert_int_equal(noted(NOTE_HALVED), -1);
    run(NOW + REPLICA_PAUSE_US);
    assert_ptr_equal(sent(), half[0]);
    assert_int_equal(half[0]->replica, 3 - first);
    assert_int_equal(half[0]->n, 2);
    give_up(half[0], NOW + REPLICA_PAUSE_US);
}

static void what_finds_no_room_is_not_halved_for_ever(void **state)
{
    (void)state;
    lend(2);
    lend(2);
    run(NOW);
    struct batch *b = sent();
    b->halvings = DESK_HALVINGS;
    no_room(b, NOW);
    assert_int_equal(back(&office.guest[0], STATUS_UNAVAILABLE), 1);
    assert_int_equal(back(&office.guest[1], STATUS_UNAVAILABLE), 1);
}

// ---- siblings and ejection ---------------------------------------------------------------------------

static void a_failure_is_shown_to_a_sibling_whole_and_once(void **state)
{
    (void)state;
    up_local(2, 102);
    lend(1);
    lend(1);
    run(NOW);
    struct batch *b = sent();
    uint32_t first = b->replica;
    forget();
    end(b, SEEN_WRONG, NOW);
    assert_int_equal(noted(NOTE_HALVED), -1);
    run(NOW);
    b = sent();
    assert_int_equal(b->n, 2);
    assert_int_equal(b->replica, 3 - first);
    forget();
    end(b, SEEN_STATUS, NOW); // it says the same: a row
    assert_int_equal(noted(NOTE_HALVED), 2);
    run(NOW);
    struct batch *half[2] = {sent(), sent()};
    end(half[0], SEEN_STATUS, NOW);
    end(half[1], SEEN_STATUS, NOW);
    assert_int_equal(back(&office.guest[0], STATUS_INTERNAL), 1);
    assert_int_equal(back(&office.guest[1], STATUS_INTERNAL), 1);
    assert_int_equal(replica(1)->faults + replica(2)->faults, 0);
}

// What halving has found out is kept when a half is refused: its rows are not mixed with others again.
static void a_refused_half_waits_as_it_is(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++)
        lend(1);
    run(NOW);
    end(sent(), SEEN_STATUS, NOW);
    run(NOW);
    struct batch *half[2] = {sent(), sent()};
    office.guest[2].ticket.refusals = DESK_REFUSALS; // one of them has been tried often enough
    forget();
    end(half[0], SEEN_UNPROCESSED, NOW);
    end(half[1], SEEN_UNPROCESSED, NOW);
    assert_int_equal(back(&office.guest[2], STATUS_UNAVAILABLE), 1);
    lend(1);
    run(NOW + REPLICA_PAUSE_US);
    struct batch *b = sent();
    assert_ptr_equal(b, half[0]);
    assert_int_equal(b->n, 2);
    assert_int_equal(b->halvings, 1);
    give_up(b, NOW);
    b = sent();
    assert_ptr_equal(b, half[1]);
    assert_int_equal(b->n, 1);
    give_up(b, NOW);
    run(NOW + REPLICA_PAUSE_US);
    give_up(sent(), NOW);
}

static void its_sibling_may_go_before_it_comes_to_it(void **state)
{
    (void)state;
    up_local(2, 102);
    struct batch *b = send_one(NOW);
    uint32_t first = b->replica;
    end(b, SEEN_WRONG, NOW);
    desk_on_replica_down(office.desk, 3 - first, NOW, &office.fx);
    run(NOW);
    b = sent();
    assert_int_equal(b->replica, first); // who else
    answer_one(b, NOW);
    assert_int_equal(replica(first)->faults, 0);
}

// Counted each time, said once in a while.
static void a_wrong_shape_is_not_said_for_every_batch(void **state)
{
    (void)state;
    const uint64_t at[] = {NOW, NOW + 1, NOW + REPLICA_SAID_US - 1, NOW + REPLICA_SAID_US};
    for (unsigned i = 0; i < 4; i++) {
        struct batch *b = send_one(at[i]);
        forget();
        unsigned from = office.fx.n;
        answer(b, at[i], 0, 3);
        bool said = false, counted = false;
        for (; from < office.fx.n; from++) {
            const struct fx *f = &office.fx.at[from];
            if (f->kind == FX_NOTE && f->note.kind == NOTE_WRONG_SHAPE) {
                counted = true;
                said = f->note.b > 0;
            }
        }
        assert_true(counted);
        assert_int_equal(said, i == 0 || i == 3);
    }
}

// Fails a batch at replica 1 and has it answered by replica 2.
static void fail_and_answer(uint64_t now_us)
{
    replica(2)->batches += 2; // no credit
    struct batch *b = send_one(now_us);
    replica(2)->batches -= 2;
    assert_int_equal(b->replica, 1);
    end(b, SEEN_STATUS, now_us);
    run(now_us);
    b = sent();
    assert_int_equal(b->replica, 2);
    answer_one(b, now_us + 10);
}

static void who_fails_what_others_answer_is_ejected(void **state)
{
    (void)state;
    up_local(2, 102);
    for (unsigned i = 0; i < REPLICA_FAULTS; i++) {
        assert_int_equal(replica(1)->standing, STANDING_CLOSED);
        forget();
        fail_and_answer(NOW + i);
    }
    assert_int_equal(noted(NOTE_REPLICA_EJECTED), 1);
    assert_int_equal(replica(1)->standing, STANDING_OPEN);
    assert_int_equal(atomic_load(&office.model->ready), 1);
    uint64_t until = replica(1)->open_until_us;
    assert_true(until >= NOW + REPLICA_OPEN_US && until < NOW + REPLICA_OPEN_US + 100);
    for (unsigned i = 0; i < 5; i++) {
        struct batch *b = send_one(NOW + 100 + i);
        assert_int_equal(b->replica, 2);
        answer_one(b, NOW + 100 + i);
    }
    for (unsigned i = 0; i < 2 * REPLICA_FAULTS; i++)
        replicas_fault(&office.desk->replicas, 2, NOW + 200, &office.fx);
    assert_int_equal(replica(2)->standing, STANDING_CLOSED); // half of them stay, whatever they do
}

static void half_open_takes_one_batch(void **state)
{
    (void)state;
    up_local(2, 102);
    for (unsigned i = 0; i < REPLICA_FAULTS; i++)
        fail_and_answer(NOW);
    uint64_t now = replica(1)->open_until_us;
    desk_on_wake(office.desk, now, &office.fx);
    assert_int_equal(replica(1)->standing, STANDING_HALF);
    assert_int_equal(atomic_load(&office.model->ready), 2);
    desk_on_replica_down(office.desk, 2, now, &office.fx);
    forget();
    lend_at(4, "", now + 100000, now);
    lend_at(4, "", now + 100000, now);
    run(now);
    struct batch *b = sent();
    assert_null(sent()); // one, though the pipeline has two
    end_as(b, STATUS_INTERNAL, now);
    assert_int_equal(replica(1)->standing, STANDING_OPEN);
    assert_int_equal(replica(1)->open_until_us, now + 2 * REPLICA_OPEN_US); // longer
    assert_int_equal(office.desk->replicas.alone_since_us, now);
    now = replica(1)->open_until_us;
    run(now); // those that waited too long are given back
    assert_int_equal(replica(1)->standing, STANDING_HALF);
    b = send_one(now);
    forget();
    answer_one(b, now);
    assert_int_equal(noted(NOTE_REPLICA_BACK), 1);
    assert_int_equal(replica(1)->standing, STANDING_CLOSED);
    assert_int_equal(replica(1)->opened, 0);
}

static void half_open_and_refused(void **state)
{
    (void)state;
    up_local(2, 102);
    for (unsigned i = 0; i < REPLICA_FAULTS; i++)
        fail_and_answer(NOW);
    uint64_t now = replica(1)->open_until_us;
    run(now);
    desk_on_replica_down(office.desk, 2, now, &office.fx);
    struct batch *b = send_one(now);
    forget();
    end_as(b, STATUS_UNAVAILABLE, now);
    assert_int_equal(replica(1)->standing, STANDING_OPEN);
    assert_int_equal(replica(1)->open_until_us, now + 2 * REPLICA_OPEN_US);
    assert_string_equal(replica(1)->why, "it refused the batch that tried it");
    desk_on_cancel(office.desk, &office.guest[office.n - 1].ticket, now, &office.fx);
}

// 1 s, 2, 4, 8, 16, 30, and no longer.
static void ejections_last_longer_each_time(void **state)
{
    (void)state;
    up_local(2, 102);
    uint64_t us = REPLICA_OPEN_US, now = NOW;
    for (unsigned i = 0; i < 8; i++) {
        for (unsigned k = 0; k < REPLICA_FAULTS; k++)
            replicas_fault(&office.desk->replicas, 1, now, &office.fx);
        assert_int_equal(replica(1)->open_until_us, now + us);
        now += us;
        us = 2 * us < REPLICA_OPEN_MAX_US ? 2 * us : REPLICA_OPEN_MAX_US;
        run(now);
        replica(1)->standing =
            STANDING_CLOSED; // as if the half-open batch were answered, but not forgiven
    }
}

static void what_a_worker_takes_at_most(void **state)
{
    (void)state;
    vitals_computed(&vitals[0], 1600, NOW);
    assert_int_equal(atomic_load(&vitals[0].slowest_us), 1600);
    vitals_computed(&vitals[0], 0, NOW + 1);
    assert_int_equal(atomic_load(&vitals[0].slowest_us), 1500); // falls by a 16th of the difference
    vitals_computed(&vitals[0], 2000, NOW + 2);
    assert_int_equal(atomic_load(&vitals[0].slowest_us), 2000); // rises at once
    assert_int_equal(atomic_load(&vitals[0].ended_us), NOW + 2);
    vitals_heard(&vitals[0], NOW + 3);
    assert_int_equal(atomic_load(&vitals[0].slowest_us), 2000);
    assert_int_equal(atomic_load(&vitals[0].ended_us), NOW + 3);
}

static void it_is_said_in_what_a_replica_differs(void **state)
{
    (void)state;
    struct replica_facts f = {.max_batch = 9, .metadata = {1, 1}, .vitals = &vitals[1]};
    desk_on_replica_up(office.desk, 2, &f, NOW, &office.fx);
    assert_string_equal(replica(2)->why, "max_batch_size: expected 4 as at the others, got 9");
    f.max_batch = 4;
    f.metadata = (struct hash128){2, 2};
    desk_on_replica_up(office.desk, 2, &f, NOW, &office.fx);
    assert_non_null(strstr(replica(2)->why, "inputs or outputs"));
}

// Its client has gone while it was aboard: it does not wait for the sibling's credit.
static void who_is_gone_is_not_shown(void **state)
{
    (void)state;
    up_local(2, 102);
    struct guest *a = lend(1);
    lend(1);
    run(NOW);
    struct batch *b = sent();
    desk_on_cancel(office.desk, &a->ticket, NOW, &office.fx);
    uint32_t sibling = 3 - b->replica;
    replica(1)->batches += 2, replica(2)->batches += 2;
    end(b, SEEN_WRONG, NOW);
    forget();
    run(NOW);
    assert_int_equal(back(a, STATUS_CLIENT_GONE), 1);
    replica(1)->batches -= 2, replica(2)->batches -= 2;
    run(NOW);
    b = sent();
    assert_int_equal(b->replica, sibling);
    answer_one(b, NOW);
}

static void a_new_process_has_no_past(void **state)
{
    (void)state;
    up_local(2, 102);
    for (unsigned i = 0; i < REPLICA_FAULTS; i++)
        fail_and_answer(NOW);
    desk_on_replica_down(office.desk, 1, NOW, &office.fx);
    up_local(1, 101); // the same process: it serves its time
    assert_int_equal(replica(1)->standing, STANDING_OPEN);
    desk_on_replica_down(office.desk, 1, NOW, &office.fx);
    up_local(1, 103);
    assert_int_equal(replica(1)->standing, STANDING_CLOSED);
    assert_int_equal(atomic_load(&office.model->ready), 2);
}

// ---- doubt and silence -------------------------------------------------------------------------------

static void lose(struct batch *b, bool ours, uint64_t now_us);

// A batch of t(b) 1 ms that is out for 200 ms, past its deadline.
static struct batch *overdue(uint64_t now_us)
{
    replica(1)->latency_us = 1000;
    lend_at(1, "", now_us + 200000, now_us);
    run(now_us);
    struct batch *b = sent();
    forget();
    run(now_us + 200000);
    return b;
}

static void silent_is_what_lives_and_ends_nothing(void **state)
{
    (void)state;
    struct batch *b = overdue(NOW);
    assert_int_equal(count_fx(FX_PROBE), 1);
    assert_int_equal(count_fx(FX_HANGS), 0);
    assert_int_equal(replica(1)->doubt_us, NOW);
    run(NOW + REPLICA_SILENT_US);
    assert_int_equal(count_fx(FX_HANGS), 0); // nothing is known of its probe
    atomic_store(&vitals[0].probed_us, NOW + REPLICA_SILENT_US);
    forget();
    run(NOW + REPLICA_SILENT_US + REPLICA_FAIR_US);
    assert_int_equal(count_fx(FX_HANGS), 1);
    assert_int_equal(noted(NOTE_REPLICA_EJECTED), 1);
    assert_int_equal(replica(1)->standing, STANDING_OPEN); // though it is the last
    assert_int_equal(atomic_load(&office.model->ready), 0);
    struct batch_end lost = {.seen = SEEN_LOST, .ours = true};
    desk_on_end(office.desk, b, &lost, NOW + 3000000, &office.fx);
    assert_int_equal(office.guest[0].ticket.losses, 0);
}

static void busy_is_what_ends_batches_of_others(void **state)
{
    (void)state;
    struct batch *b = overdue(NOW);
    for (unsigned i = 1; i < 10; i++) {
        uint64_t now = NOW + i * 1000000;
        atomic_store(&vitals[0].probed_us, now);
        vitals_computed(&vitals[0], 900, now - 500000); // of another model
        run(now);
        assert_int_equal(count_fx(FX_HANGS), 0);
    }
    end(b, SEEN_RECALLED, NOW + 10000000);
}

// A neighbour that takes a second a batch makes two seconds without an end an ordinary thing.
static void patience_grows_with_the_slowest_model(void **state)
{
    (void)state;
    vitals_computed(&vitals[0], 1000000, NOW);
    struct batch *b = overdue(NOW);
    atomic_store(&vitals[0].probed_us, NOW + 20000000);
    run(NOW + 9999999);
    assert_int_equal(count_fx(FX_HANGS), 0);
    run(NOW + 9999999 + REPLICA_FAIR_US);
    assert_int_equal(count_fx(FX_HANGS), 1);
    end(b, SEEN_RECALLED, NOW + 11000000);
}

static void who_never_answered_has_the_default_deadline(void **state)
{
    (void)state;
    lend_at(1, "", NOW + 2000000, NOW);
    run(NOW);
    struct batch *b = sent();
    run(NOW + 2000000);
    assert_int_equal(replica(1)->doubt_us, NOW);
    atomic_store(&vitals[0].probed_us, NOW + 9000000);
    run(NOW + rules.deadline_us - 1);
    assert_int_equal(count_fx(FX_HANGS), 0);
    run(NOW + rules.deadline_us - 1 + REPLICA_FAIR_US);
    assert_int_equal(count_fx(FX_HANGS), 1);
    end(b, SEEN_RECALLED, NOW + rules.deadline_us + REPLICA_FAIR_US);
}

// Its batch was recalled, and since then it has had nothing to do. The next one that is overdue says more.
static void idle_is_not_silent(void **state)
{
    (void)state;
    end(overdue(NOW), SEEN_RECALLED, NOW + 200000);
    uint64_t now = NOW + 10 * REPLICA_SILENT_US;
    atomic_store(&vitals[0].probed_us, now);
    run(now);
    assert_int_equal(count_fx(FX_HANGS), 0);
    assert_int_equal(replica(1)->standing, STANDING_CLOSED);
    lend_at(2, "", now + 200000, now);
    run(now);
    struct batch *b = sent();
    forget();
    run(now + 200000);
    assert_int_equal(count_fx(FX_PROBE), 1);
    assert_int_equal(count_fx(FX_HANGS), 0); // nothing is known of its probe
    atomic_store(&vitals[0].probed_us, now + 200001);
    run(now + 200000 + REPLICA_FAIR_US);
    assert_int_equal(count_fx(FX_HANGS), 1);
    end(b, SEEN_RECALLED, now + 400000);
}

// Hurried clients made us doubt it, and now patient ones have all its credit: their deadlines are not waited for.
static void silent_with_patient_batches_aboard(void **state)
{
    (void)state;
    end(overdue(NOW), SEEN_RECALLED, NOW + 200000);
    uint64_t now = NOW + 1000000; // idle until then
    lend_at(4, "", now + 60000000, now);
    run(now);
    struct batch *b = sent();
    atomic_store(&vitals[0].probed_us, now);
    forget();
    run(now + REPLICA_SILENT_US - 1);
    assert_int_equal(count_fx(FX_HANGS), 0);
    run(now + REPLICA_SILENT_US);
    assert_int_equal(count_fx(FX_HANGS), 1);
    lose(b, true, now + REPLICA_SILENT_US);
    assert_int_equal(office.guest[1].ticket.place, PLACE_QUEUED);
    desk_on_cancel(office.desk, &office.guest[1].ticket, now, &office.fx);
}

static void an_answer_ends_all_doubt(void **state)
{
    (void)state;
    struct batch *b = overdue(NOW);
    end(b, SEEN_RECALLED, NOW + 200000);
    assert_int_equal(replica(1)->doubt_us, NOW);
    answer_one(send_one(NOW + 300000), NOW + 301000);
    assert_int_equal(replica(1)->doubt_us, 0);
}

// Its cancel is not confirmed: the socket is full. It is probed once a second until it ends.
static void a_recall_that_is_not_confirmed(void **state)
{
    (void)state;
    lend_at(1, "", NOW + 60000, NOW); // less than a fair chance
    run(NOW);
    struct batch *b = sent();
    forget();
    run(NOW + 60000);
    assert_int_equal(count_fx(FX_CANCEL), 1);
    assert_int_equal(count_fx(FX_PROBE), 0);
    uint64_t now = NOW + 60000;
    for (unsigned i = 0; i < 21; i++) {
        now += REPLICA_FAIR_US;
        run(now);
    }
    assert_int_equal(count_fx(FX_PROBE), 3);
    end(b, SEEN_RECALLED, now);
}

// ---- losses and the keeper's word --------------------------------------------------------------------

static void lose(struct batch *b, bool ours, uint64_t now_us)
{
    desk_on_end(office.desk, b, &(struct batch_end){.seen = SEEN_LOST, .ours = ours}, now_us,
                &office.fx);
}

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
        assert_int_equal(t->alone, i == 1);
        assert_ptr_equal(office.desk->lost, t);
        run(NOW);
        b = sent();
    }
    forget();
    lose(b, false, NOW);
    assert_int_equal(t->place, PLACE_HELD); // the keeper may say that it is poison
    run(NOW);
    assert_int_equal(next_fx(FX_WAKE)->at_us, NOW + DESK_HELD_US);
    run(NOW + DESK_HELD_US - 1);
    forget();
    run(NOW + DESK_HELD_US);
    assert_int_equal(back(&office.guest[0], STATUS_WORKER_LOST), 1);
    assert_null(office.desk->lost);
    assert_int_equal(office.desk->replicas.suspects, 0);
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

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_refusal_is_not_halved_and_not_sent_again_at_once),
        TEST(pauses_double_and_end_with_an_answer),
        TEST(a_worker_may_ask_for_a_longer_pause),
        TEST(one_volley_is_one_refusal),
        TEST(elsewhere_at_once),
        TEST(a_text_is_shared_by_all_aboard),
        TEST(a_pause_is_logged_in_the_workers_words),
        TEST(without_a_token_it_is_given_the_workers_words),
        TEST(a_ticket_is_refused_for_so_long_at_most),
        TEST(a_ticket_is_refused_so_often_at_most),
        TEST(what_has_no_room_is_halved_until_it_has),
        TEST(a_half_without_room_is_judged_anew),
        TEST(what_finds_no_room_is_not_halved_for_ever),
        TEST(a_failure_is_shown_to_a_sibling_whole_and_once),
        TEST(a_refused_half_waits_as_it_is),
        TEST(its_sibling_may_go_before_it_comes_to_it),
        TEST(a_wrong_shape_is_not_said_for_every_batch),
        TEST(who_fails_what_others_answer_is_ejected),
        TEST(half_open_takes_one_batch),
        TEST(half_open_and_refused),
        TEST(ejections_last_longer_each_time),
        TEST(what_a_worker_takes_at_most),
        TEST(it_is_said_in_what_a_replica_differs),
        TEST(who_is_gone_is_not_shown),
        TEST(a_new_process_has_no_past),
        TEST(silent_is_what_lives_and_ends_nothing),
        TEST(idle_is_not_silent),
        TEST(busy_is_what_ends_batches_of_others),
        TEST(patience_grows_with_the_slowest_model),
        TEST(who_never_answered_has_the_default_deadline),
        TEST(silent_with_patient_batches_aboard),
        TEST(an_answer_ends_all_doubt),
        TEST(a_recall_that_is_not_confirmed),
        TEST(what_we_close_ourselves_counts_for_nothing),
        TEST(the_third_loss_is_enough),
        TEST(all_words_come_too_late),
        TEST(a_held_ticket_whose_workers_ended_in_order),
        TEST(a_held_ticket_is_called_back),
        TEST(the_word_comes_after_the_end_of_file),
        TEST(the_word_comes_before_the_end_of_file),
        TEST(an_end_in_order_is_no_death),
        TEST(company_is_no_proof),
        TEST(a_word_for_one_that_is_under_way_again),
        TEST(without_a_keeper),
        TEST(the_keepers_words_are_kept_for_a_while),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
