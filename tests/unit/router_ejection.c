/* router/replicas: a failure is shown to a sibling; who fails what others answer, or differs from them, is kept out. */
#include "tests/unit/router_worker.h"

// ---- siblings ----------------------------------------------------------------------------------------

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

static void who_is_not_there_has_no_faults(void **state)
{
    (void)state;
    up_local(2, 102);
    replicas_fault(&office.desk->replicas, 3, NOW, &office.fx); // nobody
    desk_on_replica_down(office.desk, 2, NOW, &office.fx);
    forget();
    for (unsigned i = 0; i < REPLICA_FAULTS; i++)
        replicas_fault(&office.desk->replicas, 2, NOW, &office.fx);
    assert_int_equal(replica(2)->faults, 0);
    assert_int_equal(count_fx(FX_NOTE), 0);
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

// ---- ejection ----------------------------------------------------------------------------------------

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

// Its time is over, but until somebody has looked it is ejected: the batch that tries it is to be known as one.
static void who_is_tried_is_half_open(void **state)
{
    (void)state;
    up_local(2, 102);
    for (unsigned i = 0; i < REPLICA_FAULTS; i++)
        fail_and_answer(NOW);
    uint64_t over_us = replica(1)->open_until_us;
    assert_false(replica_usable(replica(1), over_us));
    run(over_us);
    assert_int_equal(replica(1)->standing, STANDING_HALF);
    assert_true(replica_usable(replica(1), over_us));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOCAL(a_failure_is_shown_to_a_sibling_whole_and_once),
        LOCAL(who_is_not_there_has_no_faults),
        LOCAL(its_sibling_may_go_before_it_comes_to_it),
        LOCAL(who_is_gone_is_not_shown),
        LOCAL(it_is_said_in_what_a_replica_differs),
        LOCAL(who_fails_what_others_answer_is_ejected),
        LOCAL(half_open_takes_one_batch),
        LOCAL(half_open_and_refused),
        LOCAL(ejections_last_longer_each_time),
        LOCAL(a_new_process_has_no_past),
        LOCAL(who_is_tried_is_half_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
