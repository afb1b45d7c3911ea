/* router/desk: those that wait, for a batch, for a replica, for memory, until their deadline; and who wakes the desk. */
#include "tests/unit/router_worker.h"

// ---- without replicas --------------------------------------------------------------------------------

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

static struct guest *lend_elsewhere(uint32_t rows)
{
    struct guest *g = &office.guest[office.n++];
    guest_init(g, rows, 1, FAR);
    g->ticket.to = (struct target){office.model, VIEW("m"), VIEW("")};
    g->ticket.key = ticket_key(&g->request, g->ticket.to.version);
    g->ticket.elsewhere = true;
    desk_on_ticket(office.desk, &g->ticket, NOW, &office.fx);
    return g;
}

// What waits is for those that take batches now, where nobody did: no more rows go than they take.
static void who_waited_for_one_that_takes_no_batches(void **state)
{
    (void)state;
    desk_on_replica_down(office.desk, 7, NOW, &office.fx);
    up(8, 0, "1", NOW);
    desk_on_replica_down(office.desk, 8, NOW, &office.fx);
    lend(3);
    lend(3);
    lend(1);
    assert_int_equal(office.desk->batcher.rows, 3);
    up(7, 4, "1", NOW);
    run(NOW);
    struct batch *b[2] = {sent(), sent()};
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(b[i]->rows, 3);
        give_up(b[i], NOW + 10);
    }
    run(NOW + 10);
    give_up(sent(), NOW + 20);
}

// Who has something else to try waits for no replica; the others do.
static void who_can_go_elsewhere_does_not_wait(void **state)
{
    (void)state;
    struct guest *aboard = lend_elsewhere(1), *with = lend(1);
    run(NOW);
    struct batch *b = sent();
    end(b, SEEN_STATUS, NOW); // two halves wait
    struct guest *queued = lend_elsewhere(1), *waits = lend(1);
    desk_on_replica_down(office.desk, 7, NOW + 1000, &office.fx);
    forget();
    run(NOW + 1000);
    assert_int_equal(back(aboard, STATUS_UNAVAILABLE), 1);
    assert_int_equal(back(queued, STATUS_UNAVAILABLE), 1);
    assert_true(aboard->ticket.let_go && queued->ticket.let_go);
    assert_int_equal(office.desk->n_again, 1);
    assert_int_equal(office.desk->batcher.count, 1);
    assert_int_equal(office.desk->batcher.elsewhere, 0);
    forget();
    assert_int_equal(back(lend_elsewhere(1), STATUS_UNAVAILABLE), 1); // at once
    forget();
    run(NOW + 51000);
    assert_int_equal(back(with, STATUS_UNAVAILABLE), 1);
    assert_int_equal(back(waits, STATUS_UNAVAILABLE), 1);
    assert_false(with->ticket.let_go || waits->ticket.let_go);
}

// It is lent as its origin made it: what stands in what is the desk's is of nobody.
static void what_is_the_desks_begins_anew(void **state)
{
    (void)state;
    struct guest *g = &office.guest[office.n++];
    struct ticket *t = &g->ticket, other;
    guest_init(g, 1, 1, FAR);
    memset(&t->losses, 0xff, sizeof(*t) - offsetof(struct ticket, losses));
    t->lost_prev = NULL; // of its list it must say so itself
    t->followers = &other;
    t->slice.answer = NULL;
    t->error = (struct failure){0};
    t->to = (struct target){office.model, VIEW("m"), VIEW("")};
    t->key = ticket_key(&g->request, t->to.version);
    desk_on_ticket(office.desk, t, NOW, &office.fx);
    assert_int_equal(t->losses + t->deaths + t->n_lost + t->refusals + t->sent, 0);
    assert_false(t->alone || t->singly || t->watched || t->died_alone || t->cancelled || t->let_go);
    assert_int_equal(t->place, PLACE_QUEUED);
    assert_int_equal(t->origin, 0);
    assert_int_equal(t->queued_us, NOW);
    assert_null(t->flight);
    assert_null(t->followers);
    assert_int_equal(t->wanted_us, FAR);
    assert_int_equal(t->batch_rows + t->age_s + t->room_in_us, 0);
    assert_int_equal(t->source, SOURCE_MODEL);
    run(NOW);
    struct batch *b = sent();
    assert_int_equal(t->sent, 1);
    give_up(b, NOW);
}

// Whom workers may have died of before goes alone here from the start, and its losses add up.
static void what_was_before_is_remembered(void **state)
{
    (void)state;
    struct guest *g = &office.guest[office.n++];
    guest_init(g, 1, 1, FAR);
    g->ticket.to = (struct target){office.model, VIEW("m"), VIEW("")};
    g->ticket.key = ticket_key(&g->request, g->ticket.to.version);
    g->ticket.losses_before = 2;
    desk_on_ticket(office.desk, &g->ticket, NOW, &office.fx);
    assert_true(g->ticket.alone);
    assert_int_equal(office.desk->replicas.suspects, 1);
    run(NOW);
    struct batch *b = sent();
    forget();
    lose(b, false, NOW);
    run(NOW);
    assert_int_equal(back(g, STATUS_WORKER_LOST), 1);
    assert_int_equal(g->ticket.losses, 3);
    assert_int_equal(office.desk->replicas.suspects, 0);
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

// ---- time --------------------------------------------------------------------------------------------

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

// ---- memory ------------------------------------------------------------------------------------------

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

// ---- how many ----------------------------------------------------------------------------------------

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

static struct guest *lend_key(uint64_t key, const char *version)
{
    struct guest *g = &office.guest[office.n++];
    guest_init(g, 1, key, FAR);
    g->ticket.to = (struct target){office.model, VIEW("m"), view_str(version)};
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
    assert_int_equal(b->tickets[0]->key.hi, 100);
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
    const struct CMUnitTest tests[] = {
        REMOTE(without_a_replica_the_grace_is_waited_for),
        REMOTE(who_can_go_elsewhere_does_not_wait),
        REMOTE(who_waited_for_one_that_takes_no_batches),
        REMOTE(what_is_the_desks_begins_anew),
        REMOTE(what_was_before_is_remembered),
        REMOTE(a_version_that_nobody_has),
        REMOTE(the_rules_are_the_batchers),
        REMOTE(wishes_to_be_woken),
        REMOTE(the_deadline_in_the_queue),
        REMOTE(late_by_less_than_a_millisecond),
        REMOTE(batches_are_used_again),
        REMOTE(without_memory_it_stays_queued),
        REMOTE(without_memory_nobody_is_lost),
        REMOTE(without_memory_for_a_larger_batch),
        REMOTE(what_is_published),
        REMOTE(those_that_stand_aside_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
