/* router/preference and slow start: which class of replicas is used, when the next one helps, and how much of its share
 * one has that has just come. */
#include "router/desk_inner.h"
#include "router/preference.h"
#include "tests/unit/router_kit.h"

static const struct model_rules planned = {.policy = POLICY_AUTO,
                                           .refuse_early = true,
                                           .max_wait_us = UINT64_MAX,
                                           .deadline_us = 1000000,
                                           .queue_rows = 100000,
                                           .grace_us = 50000};
static const struct model_rules fixed = {.pipeline = 1, .deadline_us = 1000000, .grace_us = 50000};

static int setup(void **state)
{
    (void)state;
    office_open(&planned);
    return 0;
}

static int setup_fixed(void **state)
{
    (void)state;
    office_open(&fixed);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (unsigned i = 0; i < office.n; i++) {
        struct ticket *t = &office.guest[i].ticket;
        if (t->place == PLACE_QUEUED)
            desk_on_cancel(office.desk, t, NOW, &office.fx);
        else if (t->error.status == STATUS_OK && t->slice.answer)
            block_unref(t->slice.answer->block);
    }
    office_close();
    return 0;
}

static void up_as(uint32_t id, uint8_t rank, uint32_t max_batch, uint64_t now_us)
{
    struct replica_facts facts = {
        .max_batch = max_batch, .rank = rank, .metadata = {1, 1}, .n_versions = 1};
    facts.versions = &(struct view){"1", 1};
    desk_on_replica_up(office.desk, id, &facts, now_us, &office.fx);
}

static void down(uint32_t id, uint64_t now_us)
{
    desk_on_replica_down(office.desk, id, now_us, &office.fx);
}

// t(b) = alpha + 10 b.
static void teach(struct estimate *e, uint64_t alpha_us)
{
    for (uint32_t i = 0; i < 200; i++)
        estimate_add(e, 1 << i % 5, alpha_us + 10 * (1 << i % 5));
    office.desk->batcher.learned_us = office.desk->replicas.known[1].met_us = NOW; // it is believed
}

static void teach_beside(uint64_t alpha_us)
{
    teach(&office.desk->replicas.known[1].beside, alpha_us);
    teach(&office.desk->replicas.known[1].answered, alpha_us);
}

static void lend_many(unsigned n, uint64_t deadline_us, uint64_t now_us)
{
    for (unsigned i = 0; i < n; i++)
        lend_at(1, "", deadline_us, now_us);
}

// ---- fixed -------------------------------------------------------------------------------------------

static void without_credit_it_is_saturated(void **state)
{
    (void)state;
    up_as(1, 1, 1, NOW);
    up_as(2, 0, 1, NOW);
    struct batch *b[3];
    lend_many(3, FAR, NOW);
    run(NOW);
    b[0] = sent(), b[1] = sent();
    assert_null(sent());
    assert_int_equal(b[0]->replica, 2);
    assert_int_equal(b[1]->replica, 1);
    answer(b[1], NOW + 10, 0, 1);
    answer(b[0], NOW + 20, 0, 1);
    run(NOW + 20);
    b[2] = sent();
    assert_int_equal(b[2]->replica, 2); // both have credit again
    answer(b[2], NOW + 30, 0, 1);
}

static void who_refuses_is_passed_over(void **state)
{
    (void)state;
    up_as(1, 0, 1, NOW);
    up_as(2, 1, 1, NOW);
    lend(1);
    run(NOW);
    struct batch *b = sent();
    assert_int_equal(b->replica, 1);
    end(b, SEEN_UNPROCESSED, NOW + 10);
    run(NOW + 10);
    b = sent();
    assert_int_equal(b->replica, 2);
    answer(b, NOW + 20, 0, 1);
    lend(1);
    run(NOW + 10 + REPLICA_PAUSE_US);
    b = sent();
    assert_int_equal(b->replica, 1);
    answer(b, NOW + 20 + REPLICA_PAUSE_US, 0, 1);
}

// Each batch is as large as its class takes; requests are split for the least.
static void classes_agree_within(void **state)
{
    (void)state;
    struct model *m = office.model;
    up_as(1, 0, 16, NOW);
    forget();
    up_as(2, 1, 4, NOW);
    assert_int_equal(noted(NOTE_REPLICA_UP), 2);
    assert_int_equal(atomic_load(&m->max_batch), 4);
    assert_int_equal(office.desk->batcher.policy.max_rows, 16);
    forget();
    up_as(3, 1, 5, NOW);
    assert_int_equal(noted(NOTE_REPLICA_DIFFERS), 3);
    forget();
    up_as(4, 2, 0, NOW); // served singly, where the others batch
    assert_int_equal(noted(NOTE_REPLICA_DIFFERS), 4);
    assert_string_equal(office.desk->replicas.at[3].why,
                        "max_batch_size: expected 16 as at the others, got 0");
    lend_many(30, FAR, NOW);
    run(NOW);
    struct batch *b[2] = {sent(), sent()};
    assert_int_equal(b[0]->replica, 1);
    assert_int_equal(b[0]->n, 16);
    assert_int_equal(b[1]->replica, 2);
    assert_int_equal(b[1]->n, 4);
    answer(b[1], NOW + 10, 0, 4);
    down(1, NOW + 20); // the next ones are for what is left
    assert_int_equal(office.desk->batcher.policy.max_rows, 4);
    assert_int_equal(atomic_load(&m->max_batch), 4);
    run(NOW + 20);
    b[1] = sent();
    assert_int_equal(b[1]->n, 4);
    up_as(1, 0, 16, NOW + 30);
    assert_int_equal(office.desk->batcher.policy.max_rows, 16);
    answer(b[0], NOW + 40, 0, 16);
    answer(b[1], NOW + 40, 0, 4);
    down(2, NOW + 50);
    assert_int_equal(atomic_load(&m->max_batch), 16);
}

// What no batch of a class has room for is not for it, as long as another one takes it.
static void too_many_rows_for_a_class(void **state)
{
    (void)state;
    up_as(1, 0, 16, NOW);
    lend(10);
    lend(10);
    run(NOW);
    struct batch *b = sent();
    up_as(2, 1, 4, NOW);
    run(NOW);
    assert_null(sent());
    answer(b, NOW + 10, 0, 10);
    run(NOW + 10);
    b = sent();
    assert_int_equal(b->replica, 1);
    answer(b, NOW + 20, 0, 10);
}

// Nor is a smaller one a sibling for what failed: it would wait for that until its deadline.
static void too_many_rows_for_a_sibling(void **state)
{
    (void)state;
    up_as(1, 0, 8, NOW);
    up_as(2, 1, 4, NOW);
    lend(3);
    lend(3);
    run(NOW);
    struct batch *b = sent();
    assert_int_equal(b->replica, 1);
    assert_int_equal(b->rows, 6);
    forget();
    end(b, SEEN_STATUS, NOW + 10);
    assert_int_equal(noted(NOTE_HALVED), 2);
    run(NOW + 10);
    struct batch *half[2] = {sent(), sent()};
    for (unsigned i = 0; i < 2; i++)
        answer(half[i], NOW + 20, 0, 3);
    lend(3); // what it takes it may have
    run(NOW + 20);
    b = sent();
    end(b, SEEN_STATUS, NOW + 30);
    run(NOW + 30);
    b = sent();
    assert_int_equal(b->replica, 2);
    answer(b, NOW + 40, 0, 3);
}

static unsigned swapped(uint32_t id, void *ctx)
{
    (void)ctx;
    return id == 1;
}

static unsigned alike(uint32_t id, void *ctx)
{
    (void)id;
    (void)ctx;
    return 0;
}

static unsigned without_the_first(uint32_t id, void *ctx)
{
    (void)ctx;
    return id == 1 ? REPLICA_RANKS : 1;
}

// One of them leaves: of the others nothing is forgotten.
static void the_list_stays(void **state)
{
    (void)state;
    up_as(1, 0, 16, NOW);
    up_as(2, 1, 16, NOW);
    up_as(3, 1, 16, NOW);
    down(3, NOW);
    teach(&office.desk->batcher.estimate, 10000);
    teach_beside(5000);
    desk_on_ranks(office.desk, without_the_first, NULL, NOW, &office.fx);
    assert_true(estimate_trusted(&office.desk->batcher.estimate));
    down(1, NOW);
    assert_in_range(estimate_mean_us(&office.desk->batcher.estimate, 1), 4900, 5200);
}

// A reload: the list is another one while they serve.
static void the_list_changes(void **state)
{
    (void)state;
    struct desk *d = office.desk;
    up_as(1, 0, 16, NOW);
    up_as(2, 1, 4, NOW);
    forget();
    desk_on_ranks(d, swapped, NULL, NOW, &office.fx);
    assert_int_equal(count_fx(FX_NOTE), 0); // nobody went
    assert_int_equal(d->batcher.policy.max_rows, 4);
    lend_many(1, FAR, NOW);
    run(NOW);
    struct batch *b = sent();
    assert_int_equal(b->replica, 2);
    answer(b, NOW + 10, 0, 1);
    forget();
    desk_on_ranks(d, alike, NULL, NOW + 10, &office.fx); // of one class: they do not agree
    assert_int_equal(noted(NOTE_REPLICA_DIFFERS), 1);
    assert_int_equal(atomic_load(&office.model->ready), 1);
    forget();
    down(2, NOW + 20);
    assert_int_equal(noted(NOTE_REPLICA_UP), 1);
}

// Who has it, not its place in the list, is what was learnt of.
static void what_is_known_goes_with_its_replicas(void **state)
{
    (void)state;
    struct desk *d = office.desk;
    struct replicas *rs = &d->replicas;
    struct estimate *known = &d->batcher.estimate, *beside = &rs->known[1].beside;
    up_as(1, 0, 8, NOW);
    up_as(2, 1, 8, NOW);
    teach(known, 10000);
    teach_beside(5000);
    d->batcher.learned_us = NOW - 1;
    lend_many(1, FAR, NOW);
    run(NOW);
    struct batch *b = sent();
    assert_int_equal(b->replica, 1);
    desk_on_ranks(d, swapped, NULL, NOW, &office.fx);
    assert_in_range(estimate_mean_us(known, 1), 4900, 5200);
    assert_in_range(estimate_mean_us(beside, 1), 9900, 10200);
    assert_int_equal(d->batcher.learned_us, NOW);
    assert_int_equal(rs->known[1].met_us, NOW - 1);
    uint32_t seen = known->seen, others = beside->seen;
    answer(b, NOW + 10010, 0, 1); // it was out meanwhile
    assert_int_equal(known->seen, seen);
    assert_int_equal(beside->seen, others + 1);
    down(2, NOW + 10010);
    assert_in_range(estimate_mean_us(known, 1), 9900, 10200);
    desk_on_ranks(d, without_the_first, NULL, NOW + 10010, &office.fx);
    assert_int_equal(rs->rank, REPLICA_RANKS);
    assert_in_range(estimate_mean_us(known, 1), 9900, 10200);
    up_as(2, 1, 8, NOW + 10010);
    assert_in_range(estimate_mean_us(known, 1), 4900, 5200);
    desk_on_ranks(d, alike, NULL, NOW + 10010, &office.fx); // the slower one is believed
    assert_in_range(estimate_mean_us(known, 1), 9900, 10200);
    assert_false(estimate_trusted(beside));
    forget();
    desk_on_ranks(d, alike, NULL, NOW + 10010, &office.fx);
    assert_int_equal(count_fx(FX_NOTE), 0);
}

// A batch that is overdue then says nothing of those that are in force now.
static void who_is_late_is_late_in_its_class(void **state)
{
    (void)state;
    struct desk *d = office.desk;
    up_as(1, 0, 8, NOW);
    up_as(2, 1, 8, NOW);
    teach(&d->batcher.estimate, 10000);
    teach_beside(5000);
    lend_many(1, NOW + 30000, NOW);
    run(NOW);
    struct batch *b = sent();
    assert_int_equal(b->replica, 1);
    desk_on_ranks(d, swapped, NULL, NOW, &office.fx);
    run(NOW + 30000);
    assert_int_equal(b->state, BATCH_RECALLED);
    assert_int_equal(d->batcher.missed, 0);
    assert_in_range(estimate_mean_us(&d->batcher.estimate, 1), 4900, 5200);
    assert_int_equal(d->replicas.known[1].beside.seen, 201);
    assert_int_equal(d->replicas.known[1].answered.seen, 200);
    lend_many(1, FAR, NOW + 30000);
    run(NOW + 30000); // nobody waits for that one to end
    struct batch *next = sent();
    assert_int_equal(next->replica, 2);
    end(b, SEEN_RECALLED, NOW + 30100);
    answer(next, NOW + 35000, 0, 1);
}

// What one class was doubted of is nothing against the next.
static void doubts_are_of_a_class(void **state)
{
    (void)state;
    struct desk *d = office.desk;
    up_as(1, 0, 8, NOW);
    up_as(2, 1, 8, NOW);
    teach(&d->batcher.estimate, 10000);
    teach_beside(5000);
    d->batcher.missed = 3;
    d->batcher.refusing = d->batcher.probing = true;
    d->batcher.learned_us = NOW - 500;
    down(1, NOW);
    assert_false(batcher_curious(&d->batcher));
    assert_false(d->batcher.refusing || d->batcher.probing);
    assert_int_equal(d->batcher.learned_us, NOW);
    assert_int_equal(d->replicas.known[0].met_us, NOW - 500);
}

static void sequences_begin_at_the_first(void **state)
{
    (void)state;
    up_as(1, 1, 4, NOW);
    up_as(2, 0, 4, NOW);
    for (unsigned i = 0; i < 20; i++) {
        struct guest *g = &office.guest[office.n++];
        guest_init(g, 1, 1, FAR);
        g->request.sequence = g->request.sequence_start = g->request.sequence_end = true;
        g->request.sequence_id = 100 + i;
        g->ticket.to.model = office.model;
        desk_on_ticket(office.desk, &g->ticket, NOW, &office.fx);
        struct batch *b = sent();
        assert_int_equal(b->replica, 2);
        answer(b, NOW, 0, 1);
    }
}

// ---- auto --------------------------------------------------------------------------------------------

// While what waits fits into its next batch the first class has capacity; then the next one helps.
static void a_full_batch_waits(void **state)
{
    (void)state;
    struct desk *d = office.desk;
    up_as(1, 0, 8, NOW);
    up_as(2, 1, 4, NOW);
    teach(&d->batcher.estimate, 10000);
    teach_beside(5000);
    lend_many(1, FAR, NOW);
    run(NOW);
    struct batch *b[3] = {sent()};
    assert_int_equal(b[0]->replica, 1);
    lend_many(8, FAR, NOW);
    run(NOW + 10);
    assert_null(sent());
    lend_many(1, FAR, NOW);
    run(NOW + 20);
    b[1] = sent();
    assert_non_null(b[1]);
    assert_int_equal(b[1]->replica, 2);
    assert_int_equal(b[1]->n, 4);
    assert_in_range(b[1]->expected_us, 4900, 5200); // its own time
    uint32_t seen = d->batcher.estimate.seen, beside = d->replicas.known[1].beside.seen;
    answer(b[1], NOW + 5020, 0, 4);
    assert_int_equal(d->batcher.estimate.seen, seen);
    assert_int_equal(d->replicas.known[1].beside.seen, beside + 1);
    run(NOW + 5020);
    assert_null(sent()); // five wait
    answer(b[0], NOW + 10010, 0, 1);
    run(NOW + 10010);
    b[2] = sent();
    assert_int_equal(b[2]->replica, 1);
    answer(b[2], NOW + 20000, 0, b[2]->rows);
}

// Which takes longer than it would take the first one to come to it is no help.
static void a_slow_class_waits_for_a_long_queue(void **state)
{
    (void)state;
    struct desk *d = office.desk;
    up_as(1, 0, 8, NOW);
    up_as(2, 1, 8, NOW);
    teach(&d->batcher.estimate, 10000);
    teach_beside(35000);
    lend_many(1, FAR, NOW);
    run(NOW);
    struct batch *b[2] = {sent()};
    lend_many(15, FAR, NOW);
    run(NOW + 10);
    assert_null(sent());
    lend_many(16, FAR, NOW);
    run(NOW + 20);
    b[1] = sent();
    assert_int_equal(b[1]->replica, 2);
    assert_int_equal(b[1]->n, 8);
    answer(b[0], NOW + 10000, 0, 1);
    answer(b[1], NOW + 35000, 0, 8);
}

// A deadline that the first cannot meet is reason enough; and it is not refused for it.
static void a_deadline_presses(void **state)
{
    (void)state;
    struct desk *d = office.desk;
    up_as(1, 0, 8, NOW);
    up_as(2, 1, 8, NOW);
    teach(&d->batcher.estimate, 100000);
    teach_beside(5000);
    lend_many(1, FAR, NOW);
    run(NOW);
    struct batch *b[2] = {sent()};
    struct guest *g = lend_at(1, "", NOW + 120000, NOW);
    run(NOW + 10);
    b[1] = sent();
    assert_non_null(b[1]);
    assert_int_equal(b[1]->replica, 2);
    assert_ptr_equal(b[1]->tickets[0], &g->ticket);
    // While that one is busy, too: who can be answered by neither is.
    struct guest *late = lend_at(1, "", NOW + 5500, NOW);
    run(NOW + 20);
    assert_int_equal(back(late, STATUS_DEADLINE), 1);
    answer(b[0], NOW + 100000, 0, 1);
    answer(b[1], NOW + 100000, 0, 1);
}

// Its rows are not sent to where they come too late.
static void none_is_lost_to_a_slow_class(void **state)
{
    (void)state;
    struct desk *d = office.desk;
    up_as(1, 0, 8, NOW);
    up_as(2, 1, 8, NOW);
    teach(&d->batcher.estimate, 10000);
    teach_beside(35000);
    lend_many(1, FAR, NOW);
    run(NOW);
    struct batch *b = sent(), *other;
    lend_many(8, NOW + 30000, NOW);
    lend_many(40, FAR, NOW);
    run(NOW + 20);
    assert_null(sent());
    assert_true(d->wake_us > NOW + 20); // and is asked again in its time
    answer(b, NOW + 10000, 0, 1);
    run(NOW + 10000);
    b = sent(), other = sent();
    assert_int_equal(b->replica, 1);
    assert_int_equal(b->deadline_us, NOW + 30000);
    assert_int_equal(other->replica, 2); // those that have the time
    assert_int_equal(other->deadline_us, FAR);
    answer(b, NOW + 20000, 0, b->rows);
    answer(other, NOW + 45000, 0, other->rows);
}

// It is tried; what is recalled there is believed at once.
static void a_class_that_nobody_knows(void **state)
{
    (void)state;
    struct desk *d = office.desk;
    up_as(1, 0, 4, NOW);
    up_as(2, 1, 4, NOW);
    teach(&d->batcher.estimate, 10000);
    lend_many(1, FAR, NOW);
    run(NOW);
    struct batch *b[2] = {sent()};
    lend_many(5, NOW + 60000, NOW);
    run(NOW + 10);
    b[1] = sent();
    assert_int_equal(b[1]->replica, 2);
    answer(b[0], NOW + 10000, 0, 1);
    run(NOW + 60000);
    end(b[1], SEEN_RECALLED, NOW + 60100);
    assert_true(estimate_mean_us(&d->replicas.known[1].beside, b[1]->rows) > 50000);
    forget();
    lend_many(1, FAR, NOW + 60100);
    run(NOW + 60100);
    b[0] = sent();
    assert_int_equal(b[0]->replica, 1);
    lend_many(8, NOW + 100000, NOW + 60100);
    run(NOW + 60110);
    assert_null(sent());
    answer(b[0], NOW + 70000, 0, 1);
}

// What was answered as soon as it was sent took a microsecond, and says so of its own class.
static void an_answer_at_once_is_of_its_class(void **state)
{
    (void)state;
    struct desk *d = office.desk;
    up_as(1, 0, 4, NOW);
    up_as(2, 1, 4, NOW);
    teach(&d->batcher.estimate, 10000);
    lend_many(1, FAR, NOW);
    run(NOW);
    struct batch *b[2] = {sent()};
    lend_many(5, NOW + 60000, NOW);
    run(NOW + 10);
    b[1] = sent();
    assert_int_equal(b[1]->replica, 2);
    estimate_init(&d->batcher.estimate);
    const struct estimate *first = &d->batcher.estimate, *next = &d->replicas.known[1].answered;
    assert_int_equal(b[1]->rows, 1);
    answer(b[1], NOW + 10, 0, 1);
    assert_int_equal(next->octave[0].n, 1);
    assert_true(next->octave[0].us == 1);
    assert_int_equal(first->octave[0].n, 0);
    answer(b[0], NOW, 0, 1);
    assert_int_equal(first->octave[0].n, 1);
    assert_true(first->octave[0].us == 1);
    assert_int_equal(next->octave[0].n, 1);
}

// What is known of it is put to the test after a while, with little.
static void what_is_known_is_doubted(void **state)
{
    (void)state;
    struct desk *d = office.desk;
    uint64_t later_us = NOW + PREFERENCE_DOUBT_US;
    up_as(1, 0, 8, NOW);
    up_as(2, 1, 8, NOW);
    teach(&d->batcher.estimate, 10000);
    teach_beside(500000);
    d->batcher.learned_us = later_us;
    lend_many(1, later_us + 300000, later_us - 1);
    run(later_us - 1);
    struct batch *b[2] = {sent()};
    lend_many(20, later_us + 300000, later_us - 1);
    run(later_us - 1);
    assert_null(sent());
    run(later_us);
    b[1] = sent();
    assert_non_null(b[1]);
    assert_int_equal(b[1]->replica, 2);
    assert_int_equal(b[1]->n, 1);
    run(later_us + 1);
    assert_null(sent()); // one
    answer(b[1], later_us + 4000, 0, 1);
    assert_int_equal(d->replicas.known[1].beside.seen, 1); // it is another one
    run(later_us + 4000);
    b[1] = sent();
    assert_int_equal(b[1]->replica, 2);
    answer(b[0], later_us + 10000, 0, 1);
    answer(b[1], later_us + 10000, 0, b[1]->rows);
}

// Who leads has its own estimate, then and again.
static void what_is_known_stays_with_its_class(void **state)
{
    (void)state;
    struct desk *d = office.desk;
    up_as(1, 0, 8, NOW);
    up_as(2, 1, 8, NOW);
    teach(&d->batcher.estimate, 10000);
    teach_beside(5000);
    down(1, NOW);
    assert_in_range(estimate_mean_us(&d->batcher.estimate, 1), 4900, 5200);
    up_as(1, 0, 8, NOW);
    assert_in_range(estimate_mean_us(&d->batcher.estimate, 1), 9900, 10200);
    struct replica *r = replicas_find(&d->replicas, 1);
    for (unsigned i = 0; i < REPLICA_FAULTS; i++)
        replicas_fault(&d->replicas, 1, NOW, &office.fx);
    assert_int_equal(r->standing, STANDING_OPEN);
    assert_in_range(estimate_mean_us(&d->batcher.estimate, 1), 4900, 5200);
    lend_many(1, FAR, NOW);
    run(NOW);
    struct batch *b = sent();
    assert_int_equal(b->replica, 2);
    answer(b, NOW + 5000, 0, 1);
    run(r->open_until_us); // half open: it is tried
    assert_int_equal(d->replicas.rank, 0);
    lend_many(1, r->open_until_us + 500000, r->open_until_us);
    run(r->open_until_us);
    b = sent();
    assert_int_equal(b->replica, 1);
    answer(b, r->open_until_us + 10000, 0, 1);
}

// Both count when it is said which share of its traffic the model can carry, and who is refused.
static void demand_is_measured_against_all(void **state)
{
    (void)state;
    struct desk *d = office.desk;
    up_as(1, 0, 8, NOW);
    teach(&d->batcher.estimate, 10000);
    struct outlook one = replicas_outlook(&d->replicas, NOW);
    assert_true(one.beside == 0 && one.beside_us == 0);
    up_as(2, 1, 8, NOW);
    up_as(3, 1, 8, NOW);
    struct outlook all = replicas_outlook(&d->replicas, NOW); // of whom nothing is known: as quick
    assert_true(all.beside > 15.5 / 10080 && all.beside < 16.5 / 10080);
    teach_beside(20000);
    all = replicas_outlook(&d->replicas, NOW);
    assert_int_equal(all.servers, 1);
    assert_true(all.beside > 15.5 / 20080 && all.beside < 16.5 / 20080);
    run(NOW);
    assert_in_range(d->batcher.round_rows, 8 + 7, 8 + 9);
    assert_in_range(atomic_load(&office.model->rate), 1540, 1640); // 8 in 10 ms, 16 in 20
}

// Three that are served singly, two of them by half as slow again, are 2.3 of the first: no more than that are thought
// to stand before anybody.
static void every_class_serves_a_part_of_what_waits(void **state)
{
    (void)state;
    struct desk *d = office.desk;
    for (uint32_t id = 1; id <= 3; id++)
        up_as(id, id > 1, 1, NOW);
    teach(&d->batcher.estimate, 10000);
    teach_beside(15000);
    office.model->rules.refuse_early = false;
    lend_many(20, NOW + 50000, NOW);
    office.model->rules.refuse_early = true;
    struct guest *g = lend_at(1, "", NOW + 105000, NOW); // eight rounds, and one
    assert_int_equal(g->ticket.place, PLACE_QUEUED);
    forget();
    g = lend_at(1, "", NOW + 90000, NOW);
    assert_int_equal(back(g, STATUS_DEADLINE), 1);
    run(NOW);
    struct batch *b[3];
    for (unsigned i = 0; i < 3; i++)
        assert_non_null(b[i] = sent());
    assert_int_equal(d->batcher.rows, 18);
    assert_in_range(model_wait_us(office.model, 1, NOW), 75000, 85000); // seven rounds, and one
    for (unsigned i = 0; i < 3; i++)
        answer(b[i], NOW + 10000, 0, 1);
}

// ---- slow start --------------------------------------------------------------------------------------

// One batch after the other, each a millisecond. Returns how many of them `id` had.
static unsigned had_of(uint32_t id, unsigned n, uint64_t *now_us)
{
    unsigned had = 0;
    for (unsigned i = 0; i < n; i++) {
        struct guest *g = lend_at(1, "", *now_us + 1000000, *now_us);
        run(*now_us);
        struct batch *b = sent();
        assert_non_null(b);
        had += b->replica == id;
        *now_us += 1000;
        answer(b, *now_us, 0, 1);
        block_unref(g->ticket.slice.answer->block);
        g->ticket.slice.answer = NULL;
        office.n--;
        forget();
    }
    return had;
}

static void its_share_grows(const struct model_rules *rules)
{
    struct model_rules k = *rules;
    uint64_t now_us = NOW;
    k.slow_start_us = 1000000;
    desk_on_rules(office.desk, &k);
    up_as(1, 0, 8, now_us);
    assert_int_equal(had_of(1, 30, &now_us), 30); // there is nobody else
    now_us = NOW + 2000000;
    up_as(2, 0, 8, now_us);
    assert_in_range(had_of(2, 100, &now_us), 8, 15);
    now_us = NOW + 2000000 + 350000;
    assert_in_range(had_of(2, 100, &now_us), 20, 45);
    now_us = NOW + 2000000 + 1000000;
    assert_in_range(had_of(2, 100, &now_us), 35, 65); // all of it
}

static void its_share_grows_fixed(void **state)
{
    (void)state;
    its_share_grows(&fixed);
}

static void its_share_grows_auto(void **state)
{
    (void)state;
    its_share_grows(&planned);
}

// It rests, but what nobody else is free for is for it.
static void nobody_waits_for_its_rest(void **state)
{
    (void)state;
    struct model_rules k = fixed;
    k.slow_start_us = 1000000;
    desk_on_rules(office.desk, &k);
    up_as(1, 0, 1, NOW);
    up_as(2, 0, 1, NOW + 2000000);
    uint64_t now_us = NOW + 2000000;
    while (had_of(2, 1, &now_us) == 0)
        ;
    assert_true(replicas_find(&office.desk->replicas, 2)->rest_us > now_us + 5000);
    lend_many(2, now_us + 500000, now_us);
    run(now_us);
    struct batch *b[2] = {sent(), sent()};
    assert_int_equal(b[0]->replica, 1);
    assert_int_equal(b[1]->replica, 2);
    answer(b[0], now_us, 0, 1);
    answer(b[1], now_us, 0, 1);
}

// Of two classes likewise: the second goes on while the first begins.
static void a_class_that_comes_back_begins_slowly(void **state)
{
    (void)state;
    struct model_rules k = fixed;
    k.slow_start_us = 1000000;
    desk_on_rules(office.desk, &k);
    up_as(2, 1, 8, NOW);
    uint64_t now_us = NOW + 2000000;
    up_as(1, 0, 8, now_us);
    assert_in_range(had_of(1, 100, &now_us), 8, 15);
    now_us = NOW + 2000000 + 1000000;
    assert_int_equal(had_of(1, 100, &now_us), 100);
}

int main(void)
{
#define FIXED(f) cmocka_unit_test_setup_teardown(f, setup_fixed, teardown)
#define AUTO(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        FIXED(without_credit_it_is_saturated),
        FIXED(who_refuses_is_passed_over),
        FIXED(classes_agree_within),
        FIXED(too_many_rows_for_a_class),
        FIXED(too_many_rows_for_a_sibling),
        FIXED(the_list_changes),
        FIXED(the_list_stays),
        FIXED(sequences_begin_at_the_first),
        AUTO(a_full_batch_waits),
        AUTO(a_slow_class_waits_for_a_long_queue),
        AUTO(a_deadline_presses),
        AUTO(none_is_lost_to_a_slow_class),
        AUTO(a_class_that_nobody_knows),
        AUTO(an_answer_at_once_is_of_its_class),
        AUTO(what_is_known_is_doubted),
        AUTO(what_is_known_stays_with_its_class),
        AUTO(demand_is_measured_against_all),
        AUTO(every_class_serves_a_part_of_what_waits),
        AUTO(what_is_known_goes_with_its_replicas),
        AUTO(who_is_late_is_late_in_its_class),
        AUTO(doubts_are_of_a_class),
        FIXED(its_share_grows_fixed),
        AUTO(its_share_grows_auto),
        FIXED(nobody_waits_for_its_rest),
        FIXED(a_class_that_comes_back_begins_slowly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
