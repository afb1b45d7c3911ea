/* router/desk: what an answer brings to those aboard, and what is learnt from it. */
#include "tests/unit/router_worker.h"

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
    assert_int_equal(a->ticket.sent, 1);
    assert_int_equal(a->ticket.replica, 7);
    assert_int_equal(a->ticket.slice.rows, 0); // one request has the whole answer
    block_unref(a->ticket.slice.answer->block);
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

// ---- of the wrong shape ------------------------------------------------------------------------------

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

// ---- learnt ------------------------------------------------------------------------------------------

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        REMOTE(everyone_gets_his_own_rows),
        REMOTE(the_workers_own_time_is_told),
        REMOTE(served_singly),
        REMOTE(a_ticket_is_taken_up_anew),
        REMOTE(other_rows_than_asked_for),
        REMOTE(every_output_has_the_rows),
        LOCAL(a_wrong_shape_is_not_said_for_every_batch),
        REMOTE(a_wait_behind_another_is_not_learnt),
        REMOTE(scalars_behind_another),
        REMOTE(a_worker_is_not_thought_slow_for_ever),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
