/* router/replicas: doubt of a worker whose batches are overdue, and when it counts as silent. */
#include "tests/unit/router_worker.h"

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

// Whoever gives a worker less time than it takes is told 504; the worker is none the worse for it.
static unsigned probed_after(uint64_t out_us, double latency_us)
{
    struct replica *r = replicas_find(&office.desk->replicas, 7);
    r->latency_us = latency_us;
    r->probe_us = r->doubt_us = 0;
    office.desk->batcher.missed = 0; // each is the first that is late
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

// Replica 1 was silent, has served its time, and is tried with a batch that has a minute; sibling: 2 could have it.
static struct batch *tried(bool sibling, uint64_t *now_us)
{
    struct batch *b = overdue(NOW);
    uint64_t now = NOW + REPLICA_SILENT_US;
    atomic_store(&vitals[0].probed_us, now);
    run(now);
    lose(b, true, now);
    up_local(2, 102);
    replica(2)->batches += rules.pipeline; // it is the other's turn
    *now_us = now += REPLICA_OPEN_US;
    lend_at(1, "", now + 60000000, now);
    if (!sibling)
        desk_on_replica_down(office.desk, 2, now, &office.fx);
    forget();
    run(now);
    replica(2)->batches -= rules.pipeline;
    assert_int_equal(count_fx(FX_PROBE), sibling);
    b = sent();
    assert_int_equal(b->replica, 1);
    assert_int_equal(replica(1)->standing, STANDING_HALF);
    atomic_store(&vitals[0].probed_us, now + 1);
    return b;
}

// Its deadline is not waited for: whoever is well could have it.
static void silent_when_it_is_tried(void **state)
{
    (void)state;
    uint64_t now;
    struct batch *b = tried(true, &now);
    run(now + REPLICA_SILENT_US - 1);
    assert_int_equal(count_fx(FX_HANGS), 0);
    now += REPLICA_SILENT_US;
    run(now);
    assert_int_equal(count_fx(FX_HANGS), 1);
    assert_int_equal(replica(1)->standing, STANDING_OPEN);
    lose(b, true, now);
    forget();
    run(now);
    b = sent();
    assert_int_equal(b->replica, 2);
    answer_one(b, now);
}

// Whom nobody else could serve is given its time.
static void tried_without_a_sibling(void **state)
{
    (void)state;
    uint64_t now;
    struct batch *b = tried(false, &now);
    run(now + 10 * REPLICA_SILENT_US);
    assert_int_equal(count_fx(FX_HANGS), 0);
    answer_one(b, now + 10 * REPLICA_SILENT_US);
    assert_int_equal(replica(1)->standing, STANDING_CLOSED);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOCAL(what_a_worker_takes_at_most),
        REMOTE(clients_in_a_hurry_prove_nothing),
        LOCAL(silent_is_what_lives_and_ends_nothing),
        LOCAL(busy_is_what_ends_batches_of_others),
        LOCAL(patience_grows_with_the_slowest_model),
        LOCAL(who_never_answered_has_the_default_deadline),
        LOCAL(idle_is_not_silent),
        LOCAL(silent_with_patient_batches_aboard),
        LOCAL(silent_when_it_is_tried),
        LOCAL(tried_without_a_sibling),
        LOCAL(an_answer_ends_all_doubt),
        LOCAL(a_recall_that_is_not_confirmed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
