/* router/desk: what becomes of a batch, and of those aboard, however its call ends. */
#include "tests/unit/router_kit.h"

static const struct model_rules rules = {.max_rows = 8,
                                         .pipeline = 2,
                                         .deadline_us = 1000000,
                                         .queue_bytes = 1 << 20,
                                         .grace_us = 50000};

static int setup(void **state)
{
    (void)state;
    office_open(&rules);
    up(7, 8, "1", NOW);
    forget();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    office_close();
    return 0;
}

// ---- answers -------------------------------------------------------------------------------------------

static void everyone_gets_his_own_rows(void **state)
{
    (void)state;
    struct guest *a = lend(3), *b = lend(2);
    run(NOW + 100);
    assert_int_equal(noted(NOTE_BATCH), 5);
    struct batch *batch = sent();
    assert_int_equal(batch->rows, 5);
    assert_ptr_equal(batch->model, office.model);
    assert_ptr_equal(batch->desk, office.desk);
    assert_int_equal(batch->sent_us, NOW + 100);
    assert_int_equal(office.desk->running_rows, 5);
    assert_int_equal(atomic_load(&office.model->running), 5);
    assert_int_equal(a->ticket.queue_us, 100);
    forget();
    answer(batch, NOW + 1100, 0, 5);
    office.read = 0; // looked at again
    assert_int_equal(back(a, STATUS_OK) + back(b, STATUS_OK), 2);
    assert_int_equal(noted(NOTE_DONE), 5);
    for (unsigned i = 0; i < office.fx.n; i++) {
        if (office.fx.at[i].kind == FX_NOTE && office.fx.at[i].note.kind == NOTE_DONE)
            assert_int_equal(office.fx.at[i].note.b, 1000);
    }
    assert_int_equal(a->ticket.slice.row, 0);
    assert_int_equal(a->ticket.slice.rows, 3);
    assert_int_equal(b->ticket.slice.row, 3);
    assert_int_equal(b->ticket.slice.rows, 2);
    assert_int_equal(b->ticket.batch_rows, 5);
    assert_int_equal(b->ticket.batch_reason, BATCH_IDLE);
    assert_int_equal(b->ticket.compute_us, 1000);
    assert_int_equal(office.desk->running_rows, 0);
    forget();
    block_unref(a->ticket.slice.answer->block);
    block_unref(b->ticket.slice.answer->block);
}

static void the_workers_own_time_is_told(void **state)
{
    (void)state;
    struct guest *a = lend(3);
    run(NOW);
    answer(sent(), NOW + 1000, 700, 3);
    assert_int_equal(a->ticket.compute_us, 700);
    assert_int_equal(a->ticket.slice.rows, 0); // one request has the whole answer
    block_unref(a->ticket.slice.answer->block);
}

static void other_rows_than_asked_for(void **state)
{
    (void)state;
    struct guest *a = lend(3), *b = lend(2);
    run(NOW);
    struct batch *batch = sent();
    unsigned from = office.fx.n;
    answer(batch, NOW + 1000, 0, 6);
    office.read = from;
    assert_int_equal(noted(NOTE_WRONG_SHAPE), 7);
    assert_int_equal(noted(NOTE_HALVED), 2); // a row may be the cause
    assert_int_equal(noted(NOTE_DONE), -1);
    run(NOW + 1000);
    struct batch *half[2] = {sent(), sent()};
    from = office.fx.n;
    answer(half[0], NOW + 2000, 0, 2);
    answer(half[1], NOW + 2000, 0, 2);
    office.read = from;
    assert_int_equal(back(a, STATUS_BAD_ANSWER) + back(b, STATUS_OK), 2);
    assert_int_equal(office.desk->batcher.estimate.seen, 1); // what is wrong teaches nothing
    forget();
    block_unref(b->ticket.slice.answer->block);
}

static void every_output_has_the_rows(void **state)
{
    (void)state;
    struct guest *a = lend(3);
    run(NOW);
    struct batch *batch = sent();
    struct block *block = block_new(office.blocks, 64);
    struct tensor t[2] = {{.name = VIEW("y"), .rank = 1, .shape = {3}, .data = block->data},
                          {.name = VIEW("z"), .rank = 1, .shape = {2}, .data = block->data}};
    struct answer *wrong = answer_new(block, t, 2, 3);
    forget();
    desk_on_answer(office.desk, batch, wrong, NOW, &office.fx);
    assert_int_equal(back(a, STATUS_BAD_ANSWER), 1);
    assert_ptr_equal(next_fx(FX_UNREF)->block, block);
}

static double learnt_us(void) // the mean time of 8 to 15 rows
{
    return office.desk->batcher.estimate.octave[3].us;
}

// A batch behind another begins when that one has been answered; the worker's own figure counts on a quiet
// replica only, and never as more than the time that has passed.
static void a_wait_behind_another_is_not_learnt(void **state)
{
    (void)state;
    const struct estimate *e = &office.desk->batcher.estimate;
    for (unsigned i = 0; i < 6; i++)
        lend(8);
    run(NOW);
    struct batch *first = sent(), *second = sent();
    assert_true(first->quiet && !second->quiet);
    answer(first, NOW + 1000, 0, 8);
    assert_true(e->seen == 1 && learnt_us() == 1000);
    answer(second, NOW + 2200, 50, 8);
    assert_true(e->seen == 2 && learnt_us() == 1100); // the mean of 1000 and 1200
    assert_int_equal(office.desk->batcher.learned_us, NOW + 2200);
    struct replica *r = replicas_find(&office.desk->replicas, 7);
    assert_true(r->latency_us > 1119 &&
                r->latency_us < 1121); // 1000, and a tenth of the way to 2200
    run(NOW + 3000);
    first = sent(), second = sent();
    answer(second, NOW + 3800, 0, 8); // overtakes it
    assert_true(e->seen == 3 && learnt_us() == 1000);
    answer(first, NOW + 4200, 900, 8);
    assert_true(e->seen == 4 && learnt_us() == 975);
    run(NOW + 5000);
    first = sent(), second = sent();
    answer(first, NOW + 5500, 9000, 8);
    assert_true(e->seen == 5 && learnt_us() == 880);
    answer(second, NOW + 6380, 0, 8);
    assert_true(e->seen == 6 && learnt_us() == 880);
    for (unsigned i = 0; i < 6; i++)
        block_unref(office.guest[i].ticket.slice.answer->block);
}

// A request without rows, or to a model that is served singly, is answered as a whole, whatever its shape.
static void served_singly(void **state)
{
    (void)state;
    struct guest *scalar = lend(0);
    run(NOW);
    struct batch *b = sent();
    assert_int_equal(b->rows, 0);
    assert_int_equal(office.desk->running_rows, 1);
    answer(b, NOW + 1000, 0, 5);
    assert_int_equal(scalar->ticket.error.status, STATUS_OK);
    assert_int_equal(scalar->ticket.batch_rows, 1);
    assert_true(office.desk->batcher.estimate.octave[0].n == 1);
    block_unref(scalar->ticket.slice.answer->block);
    desk_on_replica_down(office.desk, 7, NOW, &office.fx);
    up(7, 0, "1", NOW);
    struct guest *two = lend(2);
    lend(2);
    run(NOW);
    b = sent();
    assert_int_equal(b->n, 1);
    answer(b, NOW + 1000, 0, 1);
    assert_int_equal(two->ticket.error.status, STATUS_OK);
    block_unref(two->ticket.slice.answer->block);
    give_up(sent(), NOW);
    desk_on_replica_down(office.desk, 7, NOW, &office.fx);
    up(7, 1, "1", NOW); // a batch of one row has one row
    two = lend(2);
    run(NOW);
    answer(sent(), NOW + 1000, 0, 1);
    assert_int_equal(two->ticket.error.status, STATUS_BAD_ANSWER);
}

static void scalars_behind_another(void **state)
{
    (void)state;
    lend(0);
    lend(0);
    run(NOW);
    struct batch *a = sent(), *b = sent();
    answer(b, NOW + 1000, 900, 1);
    assert_true(office.desk->batcher.estimate.octave[0].n == 1);
    block_unref(office.guest[1].ticket.slice.answer->block);
    give_up(a, NOW);
}

// What a ticket was in another life is forgotten.
static void a_ticket_is_taken_up_anew(void **state)
{
    (void)state;
    struct guest *g = lend(2);
    run(NOW);
    answer(sent(), NOW, 0, 2);
    block_unref(g->ticket.slice.answer->block);
    g->ticket.deaths = 1;
    g->ticket.alone = g->ticket.cancelled = true;
    g->ticket.place = PLACE_QUEUED;
    g->ticket.lend.from = 0;
    desk_on_ticket(office.desk, &g->ticket, NOW + 5, &office.fx);
    assert_int_equal(g->ticket.deaths + g->ticket.alone + g->ticket.cancelled, 0);
    assert_int_equal(g->ticket.queued_us, NOW + 5);
    assert_int_equal(g->ticket.batch_rows, 0);
    run(NOW + 5);
    give_up(sent(), NOW + 5);
    assert_int_equal(g->ticket.batch_rows, 0); // in no batch that was answered
    assert_int_equal(g->ticket.error.status, STATUS_INTERNAL);
    desk_on_ticket(office.desk, &g->ticket, NOW + 6, &office.fx);
    run(NOW + 6);
    answer(sent(), NOW + 7, 0, 2);
    assert_int_equal(g->ticket.error.status, STATUS_OK); // this time
    block_unref(g->ticket.slice.answer->block);
    assert_int_equal(office.desk->replicas.suspects, 0);
}

// ---- failures ------------------------------------------------------------------------------------------

// Sends whatever waits, one batch after the other, and fails each that has the guilty one aboard.
static unsigned halve(const struct guest *guilty, uint64_t now_us)
{
    unsigned calls = 0;
    for (;;) {
        run(now_us);
        struct batch *b = sent();
        if (!b)
            return calls;
        calls++;
        bool bad = false;
        for (uint32_t i = 0; i < b->n; i++)
            bad |= b->tickets[i] == &guilty->ticket;
        if (bad)
            end(b, SEEN_STATUS, now_us);
        else
            answer(b, now_us, 0, b->rows);
    }
}

static void only_the_guilty_one_fails(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 8; i++)
        lend(1);
    struct guest *guilty = &office.guest[5];
    assert_int_equal(halve(guilty, NOW), 7); // 8, 4, 4, 2, 2, 1, 1
    unsigned good = 0;
    for (unsigned i = 0; i < 8; i++) {
        struct guest *g = &office.guest[i];
        assert_int_equal(g->ticket.place, PLACE_NONE);
        if (g->ticket.error.status == STATUS_OK) {
            good++;
            block_unref(g->ticket.slice.answer->block);
        }
    }
    assert_int_equal(good, 7);
    assert_int_equal(guilty->ticket.error.status, STATUS_INTERNAL);
    assert_string_equal(guilty->ticket.error.text, "so it says");
}

static void halves_are_not_mixed_with_others(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++)
        lend(2);
    run(NOW);
    struct batch *b = sent();
    assert_int_equal(b->n, 4);
    forget();
    end(b, SEEN_STATUS, NOW);
    assert_int_equal(noted(NOTE_HALVED), 4);
    struct guest *late = lend(1);
    run(NOW);
    struct batch *half[2] = {sent(), sent()};
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(half[i]->n, 2);
        assert_int_equal(half[i]->halvings, 1);
        assert_ptr_equal(half[i]->tickets[0], &office.guest[2 * i].ticket);
        assert_int_equal(half[i]->rows, 4);
    }
    assert_int_equal(late->ticket.place, PLACE_QUEUED); // no credit is left
    for (unsigned i = 0; i < 2; i++)
        give_up(half[i], NOW); // not halved: this is no fault of a row
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(back(&office.guest[i], STATUS_INTERNAL), 1);
    halve(late, NOW);
}

static void halving_has_an_end(void **state)
{
    (void)state;
    lend(2);
    lend(2);
    run(NOW);
    struct batch *b = sent();
    b->halvings = DESK_HALVINGS;
    end(b, SEEN_STATUS, NOW);
    assert_int_equal(back(&office.guest[0], STATUS_INTERNAL), 1);
    assert_int_equal(back(&office.guest[1], STATUS_INTERNAL), 1);
    run(NOW);
    assert_null(sent());
}

static void without_memory_for_a_half(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 5; i++)
        lend(1);
    run(NOW);
    struct batch *b = sent();
    mem_fail_at(1);
    end(b, SEEN_STATUS, NOW);
    mem_fail_at(0);
    // The first half is failed with what the worker said; the second is tried.
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(back(&office.guest[i], STATUS_INTERNAL), i < 2);
    run(NOW);
    b = sent();
    assert_int_equal(b->n, 3);
    give_up(b, NOW);
}

static void who_is_gone_is_not_halved(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++)
        lend(1);
    run(NOW);
    struct batch *b = sent();
    forget();
    desk_on_cancel(office.desk, &office.guest[0].ticket, NOW, &office.fx);
    desk_on_cancel(office.desk, &office.guest[1].ticket, NOW, &office.fx);
    assert_int_equal(count_fx(FX_CANCEL), 0);
    end(b, SEEN_STATUS, NOW);
    assert_int_equal(back(&office.guest[0], STATUS_CLIENT_GONE), 1);
    assert_int_equal(back(&office.guest[1], STATUS_CLIENT_GONE), 1);
    assert_int_equal(office.desk->n_again, 1);
    run(NOW);
    b = sent();
    assert_int_equal(b->n, 1);
    assert_ptr_equal(b->tickets[0], &office.guest[2].ticket);
    end(b, SEEN_STATUS, NOW);
    assert_int_equal(back(&office.guest[2], STATUS_INTERNAL), 1);
}

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

// ---- cancels -------------------------------------------------------------------------------------------

static void a_cancel_is_echoed_wherever_it_finds_the_ticket(void **state)
{
    (void)state;
    struct guest *queued = lend(1), *aboard;
    desk_on_cancel(office.desk, &queued->ticket, NOW, &office.fx);
    assert_int_equal(back(queued, STATUS_CLIENT_GONE), 1);
    aboard = lend(1);
    run(NOW);
    struct batch *b = sent();
    forget();
    desk_on_cancel(office.desk, &aboard->ticket, NOW, &office.fx);
    assert_int_equal(back(aboard, STATUS_CLIENT_GONE), 0); // a frame still refers to it
    assert_int_equal(count_fx(FX_CANCEL), 1);
    struct fx *f = next_fx(FX_POST);
    assert_ptr_equal(f->msg, &aboard->ticket.cancel);
    assert_int_equal(f->msg->kind, MSG_ECHO);
    end(b, SEEN_RECALLED, NOW);
    assert_int_equal(back(aboard, STATUS_DEADLINE), 1);
    forget();
    desk_on_cancel(office.desk, &queued->ticket, NOW, &office.fx); // they cross
    assert_int_equal(count_fx(FX_POST), 1);
    assert_int_equal(back(queued, STATUS_CLIENT_GONE), 0);
}

static void a_lost_call_does_not_bring_back_who_is_gone(void **state)
{
    (void)state;
    struct guest *g = lend(1);
    run(NOW);
    struct batch *b = sent();
    desk_on_cancel(office.desk, &g->ticket, NOW, &office.fx);
    forget();
    end(b, SEEN_LOST, NOW);
    assert_int_equal(back(g, STATUS_CLIENT_GONE), 1);
    assert_int_equal(office.desk->replicas.suspects, 0);
    run(NOW);
    assert_null(sent());
}

// Those that wait to be sent again leave as soon as nobody wants them.
static void who_waits_again_can_be_cancelled(void **state)
{
    (void)state;
    lend(1);
    lend(1);
    run(NOW);
    struct batch *b = sent();
    desk_on_replica_down(office.desk, 7, NOW, &office.fx);
    end(b, SEEN_STATUS, NOW);
    run(NOW);
    assert_int_equal(office.desk->n_again, 2);
    forget();
    desk_on_cancel(office.desk, &office.guest[0].ticket, NOW, &office.fx);
    run(NOW);
    assert_int_equal(back(&office.guest[0], STATUS_CLIENT_GONE), 1);
    assert_int_equal(office.desk->n_again, 1);
    forget();
    up(7, 8, "1", NOW);
    run(NOW);
    b = sent();
    assert_ptr_equal(b->tickets[0], &office.guest[1].ticket);
    give_up(b, NOW);
}

// Of those that wait again and those that are out, whoever goes first.
static void cancels_on_both_sides(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++)
        lend(2);
    run(NOW);
    struct batch *b = sent();
    lend(8);
    run(NOW);
    struct batch *out = sent();
    end(b, SEEN_STATUS, NOW); // two halves
    desk_on_replica_down(office.desk, 7, NOW, &office.fx);
    assert_int_equal(office.desk->n_again, 2);
    desk_on_cancel(office.desk, &office.guest[0].ticket, NOW, &office.fx);
    desk_on_cancel(office.desk, &office.guest[4].ticket, NOW, &office.fx);
    forget();
    run(NOW);
    assert_int_equal(back(&office.guest[0], STATUS_CLIENT_GONE), 1);
    assert_false(office.desk->again_cancelled);
    end(out, SEEN_RECALLED, NOW);
    up(7, 8, "1", NOW);
    run(NOW);
    b = sent();
    assert_int_equal(b->n, 1);
    struct batch *other = sent();
    forget();
    desk_on_cancel(office.desk, &office.guest[1].ticket, NOW, &office.fx); // the last aboard
    assert_int_equal(count_fx(FX_CANCEL), 1);
    forget();
    desk_on_cancel(office.desk, &office.guest[2].ticket, NOW, &office.fx); // not the last
    assert_int_equal(count_fx(FX_CANCEL), 0);
    end(b, SEEN_RECALLED, NOW);
    give_up(other, NOW);
}

// Of one millisecond the first that came goes first, though another's deadline may have passed already.
static void late_by_less_than_a_millisecond(void **state)
{
    (void)state;
    lend_at(8, "", NOW + 900, NOW);
    struct guest *late = lend_at(8, "", NOW + 100, NOW);
    run(NOW + 500);
    assert_int_equal(back(late, STATUS_DEADLINE), 1);
    struct batch *b = sent();
    assert_null(sent());
    give_up(b, NOW);
}

// ---- without replicas ----------------------------------------------------------------------------------

static void without_a_replica_the_grace_is_waited_for(void **state)
{
    (void)state;
    lend(1);
    lend(1);
    run(NOW);
    struct batch *b = sent();
    end(b, SEEN_STATUS, NOW); // two halves wait
    desk_on_replica_down(office.desk, 7, NOW + 1000, &office.fx);
    struct guest *c = lend_at(1, "", FAR, NOW + 1000);
    forget();
    desk_on_wake(office.desk, NOW + 50999, &office.fx);
    assert_int_equal(count_fx(FX_POST), 0);
    assert_int_equal(next_fx(FX_WAKE)->at_us, NOW + 51000);
    run(NOW + 51000);
    assert_int_equal(noted(NOTE_NO_REPLICA), 3);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(back(&office.guest[i], STATUS_UNAVAILABLE), 1);
    assert_int_equal(office.desk->n_again, 0);
    assert_int_equal(c->ticket.place, PLACE_NONE);
    forget();
    assert_int_equal(back(lend_at(1, "", FAR, NOW + 51000), STATUS_UNAVAILABLE), 1); // at once
    desk_on_wake(office.desk, NOW + 51000, &office.fx);
    assert_int_equal(noted(NOTE_NO_REPLICA), -1); // nobody was waiting
    assert_int_equal(count_fx(FX_WAKE), 0);
}

static void a_version_that_nobody_has(void **state)
{
    (void)state;
    assert_int_equal(back(lend_at(1, "9", FAR, NOW), STATUS_NOT_FOUND), 1);
    struct guest *g = lend_at(1, "1", FAR, NOW);
    assert_int_equal(g->ticket.place, PLACE_QUEUED);
    desk_on_replica_down(office.desk, 7, NOW, &office.fx);
    struct guest *h = lend_at(1, "9", FAR, NOW); // it may come up with it
    assert_int_equal(h->ticket.place, PLACE_QUEUED);
    desk_on_cancel(office.desk, &h->ticket, NOW, &office.fx);
    forget();
    run(NOW + 50000);
    assert_int_equal(back(g, STATUS_UNAVAILABLE), 1);
    assert_int_equal(noted(NOTE_NO_REPLICA), 1);
}

// ---- the queue -----------------------------------------------------------------------------------------

static void without_memory_it_stays_queued(void **state)
{
    (void)state;
    struct guest *g = lend(1);
    mem_fail_at(1);
    run(NOW);
    mem_fail_at(0);
    assert_null(sent());
    assert_int_equal(g->ticket.place, PLACE_QUEUED);
    office.read = 0;
    uint64_t at_us = UINT64_MAX;
    for (struct fx *f; (f = next_fx(FX_WAKE)) != NULL;)
        at_us = f->at_us;
    assert_int_equal(at_us, NOW + 1000);
    desk_on_wake(office.desk, NOW + 1000, &office.fx);
    give_up(sent(), NOW + 1000);
}

static void without_memory_nobody_is_lost(void **state)
{
    (void)state;
    mem_fail_at(1);
    assert_null(desk_new(office.model, 1, 1, NOW));
    mem_fail_at(0);
    lend(8);
    lend(8);
    run(NOW);
    struct batch *a = sent(), *b = sent();
    struct guest *waits = lend(1);
    forget();
    office.guest[0].ticket.losses = 1;
    mem_fail_at(1);
    end(a, SEEN_LOST, NOW); // alone next time: in a group of its own, for which there is no memory
    mem_fail_at(0);
    assert_int_equal(back(&office.guest[0], STATUS_UNAVAILABLE), 1);
    assert_int_equal(office.desk->replicas.suspects, 0);
    forget();
    mem_fail_at(1);
    struct guest *more = lend_at(1, "1", FAR, NOW);
    mem_fail_at(0);
    assert_int_equal(back(more, STATUS_UNAVAILABLE), 1);
    give_up(b, NOW);
    run(NOW);
    a = sent();
    assert_ptr_equal(a->tickets[0], &waits->ticket);
    give_up(a, NOW);
}

// The batches that are kept for later are small; without memory for a larger one they are kept.
static void without_memory_for_a_larger_batch(void **state)
{
    (void)state;
    lend_at(0, "", FAR, NOW);
    lend_at(0, "", FAR, NOW);
    run(NOW);
    struct batch *b[2] = {sent(), sent()};
    for (unsigned i = 0; i < 2; i++)
        give_up(b[i], NOW);
    for (unsigned i = 0; i < 8; i++)
        lend(1);
    mem_fail_at(1);
    run(NOW);
    mem_fail_at(0);
    assert_null(sent());
    run(NOW);
    struct batch *large = sent();
    assert_int_equal(large->n, 8);
    give_up(large, NOW);
}

static void what_is_published(void **state)
{
    (void)state;
    lend(8);
    lend(8);
    lend(3);
    run(NOW);
    assert_int_equal(atomic_load(&office.model->waiting), 3);
    assert_int_equal(atomic_load(&office.model->running), 16);
    struct batch *a = sent(), *b = sent();
    give_up(a, NOW);
    give_up(b, NOW);
    run(NOW);
    assert_int_equal(atomic_load(&office.model->waiting), 0);
    assert_int_equal(atomic_load(&office.model->running), 3);
    give_up(sent(), NOW);
}

static void the_rules_are_the_batchers(void **state)
{
    (void)state;
    static const struct model_rules choosy = {
        .max_rows = 8, .max_wait_us = 3000, .preferred = {2, 4}, .n_preferred = 2};
    office_close();
    office_open(&choosy);
    up(7, 8, "1", NOW);
    lend(1);
    run(NOW);
    assert_null(sent());
    run(NOW + 2999);
    assert_null(sent());
    run(NOW + 3000);
    struct batch *b = sent();
    assert_int_equal(b->reason, BATCH_WAIT);
    give_up(b, NOW);
    for (unsigned i = 0; i < 5; i++)
        lend(1);
    run(NOW);
    b = sent();
    assert_int_equal(b->reason, BATCH_PREFERRED);
    assert_int_equal(b->rows, 4);
    give_up(b, NOW);
    run(NOW + 3000);
    give_up(sent(), NOW);
}

// It asks to be woken once, not in every turn; and never for a moment that is now already, for on a clock
// that stands still it would be woken for ever.
static void wishes_to_be_woken(void **state)
{
    (void)state;
    lend(8);
    lend(8);
    run(NOW);
    struct batch *a = sent(), *b = sent();
    forget();
    struct guest *g = lend_at(1, "", NOW + 100, NOW); // of the very slot
    run(NOW);
    struct fx *f = next_fx(FX_WAKE);
    assert_int_equal(f->at_us, NOW + 1000);
    assert_ptr_equal(f->desk, office.desk);
    run(NOW);
    run(NOW + 1);
    assert_null(next_fx(FX_WAKE));
    desk_on_wake(office.desk, NOW + 2, &office.fx); // too early: asks again
    assert_non_null(next_fx(FX_WAKE));
    run(NOW + 1000);
    assert_int_equal(g->ticket.place, PLACE_NONE);
    desk_on_wake(office.desk, NOW + 1000, &office.fx);
    f = next_fx(FX_WAKE);
    assert_int_equal(f->at_us, FAR); // nothing waits; the batches are overdue then
    give_up(a, NOW);
    give_up(b, NOW);
    desk_on_wake(office.desk, NOW + 2000, &office.fx);
    assert_null(next_fx(FX_WAKE));
}

// Each batch has its own deadline, that of its last ticket; its memory is used again, and not its contents.
static void batches_are_used_again(void **state)
{
    (void)state;
    lend(8);
    run(NOW);
    struct batch *b = sent();
    assert_int_equal(b->deadline_us, FAR);
    void *p = arena_alloc(&b->arena, 100);
    b->call = p;
    give_up(b, NOW);
    lend_at(4, "", NOW + 140000, NOW);
    lend_at(4, "", NOW + 130000, NOW);
    run(NOW);
    assert_ptr_equal(sent(), b);
    assert_int_equal(b->n, 2);
    assert_int_equal(b->rows, 8);
    assert_int_equal(b->deadline_us, NOW + 140000);
    assert_int_equal(b->halvings + b->cancelled, 0);
    assert_null(b->call);
    assert_ptr_equal(arena_alloc(&b->arena, 100), p);
    // Another that is out when this one is overdue.
    lend_at(8, "", NOW + 190000, NOW);
    run(NOW);
    struct batch *other = sent();
    assert_ptr_not_equal(other, b);
    forget();
    desk_on_wake(office.desk, NOW + 140001, &office.fx);
    struct fx *f = next_fx(FX_PROBE);
    assert_int_equal(f->replica, 7);
    assert_ptr_equal(f->desk, office.desk);
    assert_int_equal(next_fx(FX_WAKE)->at_us, NOW + 190000);
    assert_null(next_fx(FX_PROBE));
    end(b, SEEN_RECALLED, NOW + 140000);
    end(other, SEEN_LOST, NOW + 140000);
    run(NOW + 140000);
    other = sent();
    give_up(other, NOW + 140000);
}

// Whoever gives a worker less time than it takes is told 504; the worker is none the worse for it.
static unsigned probed_after(uint64_t out_us, double latency_us)
{
    struct replica *r = replicas_find(&office.desk->replicas, 7);
    r->latency_us = latency_us;
    r->probe_us = r->doubt_us = 0;
    struct guest *g = lend_at(1, "", NOW + out_us, NOW);
    run(NOW);
    struct batch *b = sent();
    forget();
    run(NOW + out_us);
    assert_int_equal(count_fx(FX_CANCEL), 1);
    unsigned n = count_fx(FX_PROBE);
    assert_int_equal(r->doubt_us > 0, n > 0 && latency_us > 0);
    end(b, SEEN_RECALLED, NOW + out_us);
    assert_int_equal(back(g, STATUS_DEADLINE), 1);
    return n;
}

static void clients_in_a_hurry_prove_nothing(void **state)
{
    (void)state;
    assert_int_equal(probed_after(5000, 0), 0);
    assert_int_equal(probed_after(99999, 0), 0);
    assert_int_equal(probed_after(100000, 0), 1); // nobody knows how long it takes
    assert_int_equal(probed_after(100000, 25000), 1);
    assert_int_equal(probed_after(100000, 25001), 0);
    assert_int_equal(probed_after(100005, 25001.25), 1);
}

static void the_deadline_in_the_queue(void **state)
{
    (void)state;
    lend(8);
    lend(8);
    run(NOW);
    struct batch *a = sent(), *b = sent(); // all the credit there is
    struct guest *late = lend_at(2, "", NOW + 20000, NOW);
    forget();
    run(NOW);
    struct fx *f = next_fx(FX_WAKE);
    assert_true(f->at_us <= NOW + 20000 && f->at_us > NOW + 19000);
    desk_on_wake(office.desk, NOW + 19999, &office.fx);
    assert_int_equal(late->ticket.place, PLACE_QUEUED);
    forget();
    run(NOW + 20000);
    assert_int_equal(noted(NOTE_EXPIRED), 2);
    assert_int_equal(back(late, STATUS_DEADLINE), 1);
    give_up(a, NOW);
    give_up(b, NOW);
}

// A worker that was slow is quick again. Every client wants its answer within 100 ms.
static void a_worker_is_not_thought_slow_for_ever(void **state)
{
    (void)state;
    uint64_t now_us = NOW;
    unsigned refused = 0;
    for (unsigned i = 0; i < 40; i++) { // 400 to 800 ms a batch, while there was time for it
        office.n = 0;
        lend_at(1 + i % 4, "", now_us + 10000000, now_us);
        run(now_us);
        now_us += 400000;
        answer(sent(), now_us, 0, 1 + i % 4);
        block_unref(office.guest[0].ticket.slice.answer->block);
    }
    for (unsigned i = 0; i < 100; i++, now_us += 50000) { // five seconds: a request every 50 ms
        office.n = 0;
        struct guest *g = lend_at(1, "", now_us + 100000, now_us);
        run(now_us);
        struct batch *b = sent();
        if (!b) {
            assert_int_equal(g->ticket.error.status, STATUS_DEADLINE);
            refused++;
            continue;
        }
        answer(b, now_us + 2000, 0, 1);
        block_unref(g->ticket.slice.answer->block);
    }
    assert_true(refused > 0);   // it was believed at first
    assert_true(refused <= 25); // for a second
}

// ---- the cost of a decision ----------------------------------------------------------------------------

static struct guest *lend_key(uint64_t key, const char *version)
{
    struct guest *g = &office.guest[office.n++];
    guest_init(g, 1, key, FAR);
    g->request.version = view_str(version);
    g->ticket.model = office.model;
    desk_on_ticket(office.desk, &g->ticket, NOW, &office.fx);
    return g;
}

// More keys than there are groups: who has no replica at hand stands aside, so many and no more, and whoever
// is behind them can go.
static void those_that_stand_aside_are_bounded(void **state)
{
    (void)state;
    up(8, 8, "2", NOW);
    lend_key(1, "1");
    lend_key(2, "1");
    run(NOW);
    struct batch *busy[2] = {sent(), sent()}; // the only replica of version 1
    for (uint64_t key = 1; key < BATCHER_GROUPS; key++)
        lend_key(key, "1");
    for (uint64_t key = 100; key < 110; key++)
        lend_key(key, "1");
    struct guest *other = lend_key(200, "2");
    run(NOW);
    struct batch *b = sent();
    assert_ptr_equal(b->tickets[0], &other->ticket);
    assert_int_equal(b->replica, 8);
    assert_int_equal(office.desk->n_again, 10);
    give_up(b, NOW);
    for (uint64_t key = 300; key < 500; key++)
        lend_key(key, "1");
    run(NOW);
    assert_null(sent());
    assert_int_equal(office.desk->n_again, DESK_ASIDE);
    assert_int_equal(office.desk->batcher.count, BATCHER_GROUPS - 1 + 210 - DESK_ASIDE);
    // In the order in which they stood aside, as soon as there is credit.
    give_up(busy[0], NOW);
    run(NOW);
    b = sent();
    assert_int_equal(b->tickets[0]->request->batch_key.hi, 100);
    assert_null(sent());
    assert_int_equal(office.desk->n_again, DESK_ASIDE); // the next one took its place
    give_up(b, NOW);
    give_up(busy[1], NOW);
    desk_on_replica_down(office.desk, 7, NOW, &office.fx);
    desk_on_replica_down(office.desk, 8, NOW, &office.fx);
    run(NOW + 50000);
    assert_int_equal(office.desk->batcher.count + office.desk->n_again, 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(everyone_gets_his_own_rows),
        TEST(the_workers_own_time_is_told),
        TEST(other_rows_than_asked_for),
        TEST(a_wait_behind_another_is_not_learnt),
        TEST(served_singly),
        TEST(scalars_behind_another),
        TEST(a_ticket_is_taken_up_anew),
        TEST(only_the_guilty_one_fails),
        TEST(halves_are_not_mixed_with_others),
        TEST(halving_has_an_end),
        TEST(without_memory_for_a_half),
        TEST(who_is_gone_is_not_halved),
        TEST(a_second_death_is_poison),
        TEST(who_was_refused_comes_back_after_a_pause),
        TEST(past_its_deadline_nobody_is_tried_again),
        TEST(a_cancel_is_echoed_wherever_it_finds_the_ticket),
        TEST(a_lost_call_does_not_bring_back_who_is_gone),
        TEST(who_waits_again_can_be_cancelled),
        TEST(cancels_on_both_sides),
        TEST(late_by_less_than_a_millisecond),
        TEST(without_a_replica_the_grace_is_waited_for),
        TEST(a_version_that_nobody_has),
        TEST(without_memory_it_stays_queued),
        TEST(without_memory_nobody_is_lost),
        TEST(without_memory_for_a_larger_batch),
        TEST(every_output_has_the_rows),
        TEST(what_is_published),
        TEST(the_rules_are_the_batchers),
        TEST(wishes_to_be_woken),
        TEST(batches_are_used_again),
        TEST(clients_in_a_hurry_prove_nothing),
        TEST(the_deadline_in_the_queue),
        TEST(a_worker_is_not_thought_slow_for_ever),
        TEST(those_that_stand_aside_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
