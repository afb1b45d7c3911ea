/* router/desk: batches that go again in halves, because a row may be guilty of a failure or the answer has no room. */
#include "tests/unit/router_worker.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        REMOTE(only_the_guilty_one_fails),         REMOTE(halves_are_not_mixed_with_others),
        LOCAL(a_refused_half_waits_as_it_is),      REMOTE(halving_has_an_end),
        LOCAL(a_text_is_shared_by_all_aboard),     REMOTE(without_memory_for_a_half),
        REMOTE(who_is_gone_is_not_halved),         LOCAL(what_has_no_room_is_halved_until_it_has),
        LOCAL(a_half_without_room_is_judged_anew), LOCAL(what_finds_no_room_is_not_halved_for_ever),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
