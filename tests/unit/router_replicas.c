/* router/replicas: who is up, who has credit, whom it chooses, and what it publishes. */
#include "tests/unit/router_kit.h"
#include <stdio.h>

static const struct model_rules rules = {.pipeline = 2, .deadline_us = 1000000, .grace_us = 50000};

static int setup(void **state)
{
    (void)state;
    office_open(&rules);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    office_close();
    return 0;
}

static void up_facts(uint32_t id, uint32_t max_batch, uint64_t metadata)
{
    struct replica_facts f = {.max_batch = max_batch,
                              .metadata = {metadata, 0},
                              .versions = &(struct view){"1", 1},
                              .n_versions = 1};
    desk_on_replica_up(office.desk, id, &f, NOW, &office.fx);
}

static struct replica *choose(struct view version)
{
    const struct wanted w = {.version = version, .avoid = REPLICA_NONE};
    return replicas_choose(&office.desk->replicas, &w, NOW);
}

static uint32_t ready(void)
{
    assert_int_equal(atomic_load(&office.model->ready), office.desk->replicas.n_up);
    return office.desk->replicas.n_up;
}

static void up_and_down(void **state)
{
    (void)state;
    struct desk *d = office.desk;
    assert_int_equal(d->replicas.alone_since_us, NOW);
    assert_null(replicas_find(&d->replicas, 3));
    up(3, 16, "1", NOW + 5);
    assert_int_equal(noted(NOTE_REPLICA_UP), 3);
    assert_int_equal(ready(), 1);
    assert_int_equal(d->replicas.alone_since_us, 0);
    assert_int_equal(replicas_find(&d->replicas, 3)->id, 3);
    forget();
    up(3, 16, "1", NOW + 6); // said twice
    assert_int_equal(noted(NOTE_REPLICA_UP), -1);
    assert_int_equal(ready(), 1);
    up(4, 16, "1", NOW + 7);
    assert_int_equal(ready(), 2);
    forget();
    desk_on_replica_down(d, 9, NOW + 8, &office.fx); // nobody knows it
    desk_on_replica_down(d, 3, NOW + 8, &office.fx);
    assert_int_equal(noted(NOTE_REPLICA_DOWN), 3);
    assert_int_equal(ready(), 1);
    assert_int_equal(d->replicas.alone_since_us, 0);
    forget();
    desk_on_replica_down(d, 3, NOW + 9, &office.fx);
    assert_int_equal(noted(NOTE_REPLICA_DOWN), -1);
    desk_on_replica_down(d, 4, NOW + 9, &office.fx);
    assert_int_equal(ready(), 0);
    assert_int_equal(d->replicas.alone_since_us, NOW + 9);
    assert_int_equal(d->replicas.n, 2);
}

static void what_a_batch_may_be(void **state)
{
    (void)state;
    struct model *m = office.model;
    assert_int_equal(atomic_load(&m->queue_limit), 1024);
    assert_int_equal(office.desk->batcher.policy.max_rows, 1); // until somebody says more
    up(1, 16, "1", NOW);
    assert_int_equal(office.desk->batcher.policy.max_rows, 16);
    assert_int_equal(atomic_load(&m->max_batch), 16);
    assert_int_equal(atomic_load(&m->queue_limit), 1024);
    desk_on_replica_down(office.desk, 1, NOW, &office.fx);
    assert_int_equal(atomic_load(&m->max_batch), 16); // as far as anybody knows
    up(1, 17, "1", NOW);
    assert_int_equal(office.desk->batcher.policy.max_rows, 17);
    assert_int_equal(atomic_load(&m->queue_limit), 64 * 17);
    desk_on_replica_down(office.desk, 1, NOW, &office.fx);
    up(1, 0, "1", NOW); // served singly
    assert_int_equal(office.desk->batcher.policy.max_rows, 1);
    assert_int_equal(atomic_load(&m->max_batch), 0);
    assert_int_equal(atomic_load(&m->queue_limit), 1024);
    m->rules.max_rows = 4;
    desk_on_replica_down(office.desk, 1, NOW, &office.fx);
    up(1, 3, "1", NOW);
    assert_int_equal(office.desk->batcher.policy.max_rows, 3);
    desk_on_replica_down(office.desk, 1, NOW, &office.fx);
    up(1, 64, "1", NOW);
    assert_int_equal(office.desk->batcher.policy.max_rows, 4);
    assert_int_equal(atomic_load(&m->max_batch), 64); // one request alone may be as large
    m->rules.max_rows = 1;
    desk_on_replica_down(office.desk, 1, NOW, &office.fx);
    up(1, 64, "1", NOW);
    assert_int_equal(office.desk->batcher.policy.max_rows, 1);
    m->rules.queue_rows = 7;
    desk_on_replica_down(office.desk, 1, NOW, &office.fx);
    up(1, 60, "1", NOW);
    assert_int_equal(atomic_load(&m->queue_limit), 1024); // the rules said it at its birth
}

static void who_differs_is_kept_out(void **state)
{
    (void)state;
    up_facts(1, 8, 1);
    up_facts(2, 8, 2);
    assert_int_equal(noted(NOTE_REPLICA_DIFFERS), 2);
    forget();
    up_facts(3, 9, 1);
    assert_int_equal(noted(NOTE_REPLICA_DIFFERS), 3);
    forget();
    up_facts(4, 8, 1);
    assert_int_equal(noted(NOTE_REPLICA_UP), 4);
    assert_int_equal(ready(), 2);
    desk_on_replica_down(office.desk, 1, NOW, &office.fx);
    assert_int_equal(ready(), 1);
    forget();
    // The last that agreed has gone: the first of the others counts, and whoever agrees with it.
    desk_on_replica_down(office.desk, 4, NOW + 5, &office.fx);
    assert_int_equal(noted(NOTE_REPLICA_UP), 2);
    assert_int_equal(noted(NOTE_REPLICA_DIFFERS), 3);
    assert_int_equal(ready(), 1);
    assert_int_equal(office.desk->replicas.alone_since_us, 0);
    assert_int_equal(office.desk->replicas.metadata.lo + office.desk->replicas.metadata.hi, 2);
    assert_true(
        replicas_serve(&office.desk->replicas, VIEW("1"), true, NOW + 5)); // its versions are kept
    forget();
    desk_on_replica_down(office.desk, 3, NOW, &office.fx); // kept out, and gone: no news
    assert_int_equal(count_fx(FX_NOTE), 0);
    desk_on_replica_down(office.desk, 2, NOW + 6, &office.fx);
    assert_int_equal(ready(), 0); // 3 does not come back for it
    assert_int_equal(office.desk->replicas.alone_since_us, NOW + 6);
}

static void versions(void **state)
{
    (void)state;
    struct view list[INFER_MAX_VERSIONS];
    struct replica_facts f = {.max_batch = 8, .versions = list, .n_versions = 3};
    char first[] = "1", long_one[MODEL_VERSION_MAX + 1], longest[MODEL_VERSION_MAX];
    memset(long_one, 'v', sizeof(long_one));
    memset(longest, 'w', sizeof(longest));
    list[0] = view_of(long_one, sizeof(long_one)); // nobody can ask for it
    list[1] = view_str(first);
    list[2] = view_of(longest, sizeof(longest));
    desk_on_replica_up(office.desk, 1, &f, NOW, &office.fx);
    memset(first, 'x', 1); // copied
    memset(longest, 'x', sizeof(longest));
    const struct desk *d = office.desk;
    assert_int_equal(replicas_find(&office.desk->replicas, 1)->facts.n_versions, 2);
    assert_true(replicas_serve(&d->replicas, VIEW("1"), false, NOW));
    assert_true(replicas_serve(&d->replicas, VIEW(""), false, NOW));
    assert_false(replicas_serve(&d->replicas, VIEW("2"), false, NOW));
    memset(longest, 'w', sizeof(longest));
    assert_true(replicas_serve(&d->replicas, view_of(longest, sizeof(longest)), false, NOW));
    assert_false(replicas_serve(&d->replicas, view_of(long_one, sizeof(long_one)), false, NOW));
    assert_null(choose(VIEW("2")));
    assert_non_null(choose(VIEW("1")));
    // A thousand of them, in an order of the server's own; when it comes back, too.
    static char texts[INFER_MAX_VERSIONS][8];
    for (unsigned i = 0; i < INFER_MAX_VERSIONS; i++) {
        int n = snprintf(texts[i], sizeof(texts[i]), "%u", 7 * i % INFER_MAX_VERSIONS);
        list[i] = view_of(texts[i], (size_t)n);
    }
    f.n_versions = INFER_MAX_VERSIONS;
    desk_on_replica_down(office.desk, 1, NOW, &office.fx);
    desk_on_replica_up(office.desk, 1, &f, NOW, &office.fx);
    for (unsigned i = 0; i < INFER_MAX_VERSIONS; i++)
        assert_true(replicas_serve(&d->replicas, list[i], false, NOW));
    assert_false(replicas_serve(&d->replicas, VIEW("1024"), false, NOW));
    assert_false(replicas_serve(&d->replicas, VIEW("01"), false, NOW));
}

static void credit(void **state)
{
    (void)state;
    struct desk *d = office.desk;
    assert_false(replicas_credit(&d->replicas, NOW));
    assert_null(choose(VIEW("")));
    up(1, 8, "1", NOW);
    struct replica *r = replicas_find(&d->replicas, 1);
    assert_true(replicas_credit(&d->replicas, NOW));
    r->batches = 1;
    assert_true(replicas_credit(&d->replicas, NOW));
    d->replicas.suspects = 1; // beside a suspect one at a time
    assert_false(replicas_credit(&d->replicas, NOW));
    d->replicas.suspects = 0;
    r->batches = 2; // the pipeline
    assert_false(replicas_credit(&d->replicas, NOW));
    assert_false(replicas_serve(&d->replicas, VIEW("1"), true, NOW));
    assert_true(
        replicas_serve(&d->replicas, VIEW("1"), false, NOW)); // it has the version all the same
    r->batches = 0;
    r->not_before_us = NOW + 10;
    assert_false(replicas_credit(&d->replicas, NOW + 9));
    assert_true(replicas_credit(&d->replicas, NOW + 10));
    desk_on_replica_down(d, 1, NOW, &office.fx);
    assert_false(replicas_credit(&d->replicas, NOW + 10));
    assert_false(replicas_serve(&d->replicas, VIEW("1"), false, NOW));
    up(1, 8, "1", NOW);
    assert_true(replicas_credit(&d->replicas, NOW)); // a new life: no pause
}

static void the_first_pause_to_end(void **state)
{
    (void)state;
    struct desk *d = office.desk;
    assert_true(replicas_pause_ends(&d->replicas, NOW) == UINT64_MAX);
    for (uint32_t id = 1; id <= 4; id++)
        up(id, 8, "1", NOW);
    assert_true(replicas_pause_ends(&d->replicas, NOW) == UINT64_MAX);
    replicas_find(&d->replicas, 1)->not_before_us = NOW; // over
    replicas_find(&d->replicas, 2)->not_before_us = NOW + 300;
    replicas_find(&d->replicas, 3)->not_before_us = NOW + 200;
    replicas_find(&d->replicas, 4)->not_before_us = NOW + 100;
    desk_on_replica_down(d, 4, NOW, &office.fx);
    assert_int_equal(replicas_pause_ends(&d->replicas, NOW), NOW + 200);
    assert_int_equal(replicas_pause_ends(&d->replicas, NOW + 200), NOW + 300);
}

static void two_choices(void **state)
{
    (void)state;
    struct desk *d = office.desk;
    unsigned chosen[4] = {0};
    for (uint32_t id = 0; id < 4; id++) {
        up(id, 8, "1", NOW);
        struct replica *r = replicas_find(&d->replicas, id);
        r->rows = 10 + id;
        r->latency_us = 1000;
    }
    for (unsigned i = 0; i < 6000; i++)
        chosen[choose(VIEW(""))->id]++;
    // Of six pairs the least loaded wins three, the next two, the next one; the busiest none.
    assert_in_range(chosen[0], 2800, 3200);
    assert_in_range(chosen[1], 1800, 2200);
    assert_in_range(chosen[2], 800, 1200);
    assert_int_equal(chosen[3], 0);
    // Rows times the time of a batch: a slow one with less to do may be the busier.
    replicas_find(&d->replicas, 0)->latency_us = 5000;
    memset(chosen, 0, sizeof(chosen));
    for (unsigned i = 0; i < 1000; i++)
        chosen[choose(VIEW(""))->id]++;
    assert_int_equal(chosen[0], 0);
    // The rows that are under way and the one to come, times the time of a batch (and a microsecond).
    replicas_find(&d->replicas, 2)->batches = replicas_find(&d->replicas, 3)->batches = 2;
    struct replica *idle = replicas_find(&d->replicas, 0), *busy = replicas_find(&d->replicas, 1);
    idle->rows = 0, busy->rows = 1;
    for (unsigned i = 0; i < 60; i++) {
        idle->latency_us = 99, busy->latency_us = 50;
        assert_ptr_equal(choose(VIEW("")), idle);
        idle->latency_us = 101.5;
        assert_ptr_equal(choose(VIEW("")), busy);
    }
    idle->latency_us = 5000, busy->latency_us = 1000;
    replicas_find(&d->replicas, 2)->batches = replicas_find(&d->replicas, 3)->batches = 0;
    // Of two there is no choice.
    replicas_find(&d->replicas, 2)->batches = replicas_find(&d->replicas, 3)->batches = 2;
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(choose(VIEW(""))->id, 1);
    replicas_find(&d->replicas, 1)->batches = 2;
    assert_int_equal(choose(VIEW(""))->id, 0);
    for (uint32_t id = 0; id < 4; id++)
        replicas_find(&d->replicas, id)->batches = replicas_find(&d->replicas, id)->rows = 0;
}

static void an_idle_replica_that_nobody_knows_is_tried(void **state)
{
    (void)state;
    up(1, 8, "1", NOW);
    up(2, 8, "1", NOW);
    replicas_find(&office.desk->replicas, 1)->latency_us = 1; // quick, and idle too
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(choose(VIEW(""))->id, 2);
}

static void more_replicas_than_a_desk_has_room_for(void **state)
{
    (void)state;
    for (uint32_t id = 0; id < DESK_REPLICAS + 5; id++)
        up(id, 8, "1", NOW);
    assert_int_equal(ready(), DESK_REPLICAS);
    assert_null(replicas_find(&office.desk->replicas, DESK_REPLICAS));
    assert_non_null(replicas_find(&office.desk->replicas, DESK_REPLICAS - 1));
    desk_on_replica_down(office.desk, DESK_REPLICAS + 1, NOW, &office.fx);
    desk_on_replica_down(office.desk, 5, NOW, &office.fx);
    assert_int_equal(ready(), DESK_REPLICAS - 1);
    up(5, 8, "1", NOW);
    assert_int_equal(ready(), DESK_REPLICAS);
}

// The slot of one that has gone is another's when none is free, but not while a batch of it is out.
static void slots_are_given_back(void **state)
{
    (void)state;
    struct replicas *rs = &office.desk->replicas;
    for (uint32_t id = 0; id < DESK_REPLICAS; id++)
        up(id, 8, "1", NOW);
    lend(1);
    run(NOW);
    struct batch *b = sent();
    for (uint32_t id = 0; id < 2; id++)
        desk_on_replica_down(office.desk, (b->replica + id) % DESK_REPLICAS, NOW, &office.fx);
    up(100, 8, "1", NOW);
    assert_true(replicas_find(rs, 100)->up);
    assert_int_equal(replicas_find(rs, 100)->faults + replicas_find(rs, 100)->opened, 0);
    assert_null(replicas_find(rs, (b->replica + 1) % DESK_REPLICAS));
    up(101, 8, "1", NOW);
    assert_null(replicas_find(rs, 101)); // its batch is out
    desk_on_end(office.desk, b, &(struct batch_end){.seen = SEEN_LOST, .ours = true}, NOW,
                &office.fx);
    up(101, 8, "1", NOW);
    assert_true(replicas_find(rs, 101)->up);
    assert_int_equal(rs->n, DESK_REPLICAS);
    run(FAR);
    assert_int_equal(office.desk->batcher.count, 0);
    while ((b = sent()) != NULL)
        desk_on_end(office.desk, b, &(struct batch_end){.seen = SEEN_RECALLED}, FAR, &office.fx);
}

static struct ticket *lost_with(struct batch *b)
{
    struct ticket *t = b->tickets[0];
    desk_on_end(office.desk, b, &(struct batch_end){.seen = SEEN_LOST}, NOW, &office.fx);
    return t;
}

// One that comes no more leaves nothing behind but what tickets remember of it, by its number: whoever has its slot, and
// even its process id, is another.
static void slots_of_those_that_left(void **state)
{
    (void)state;
    struct replicas *rs = &office.desk->replicas;
    struct worker_vitals vitals = {0};
    struct replica_facts facts = {.max_batch = 8, .incarnation = 77, .vitals = &vitals};
    desk_on_replica_gone(office.desk, 1, NOW); // never seen
    desk_on_replica_up(office.desk, 1, &facts, NOW, &office.fx);
    up(2, 8, "", NOW);
    lend(1);
    run(NOW);
    struct batch *b = sent();
    while (b->replica != 1) { // of the two
        desk_on_end(office.desk, b, &(struct batch_end){.seen = SEEN_RECALLED}, NOW, &office.fx);
        lend(1);
        run(NOW);
        b = sent();
    }
    desk_on_replica_down(office.desk, 1, NOW, &office.fx);
    struct ticket *t = lost_with(b);
    assert_int_equal(t->losses, 1);
    desk_on_replica_gone(office.desk, 1, NOW);
    assert_null(replicas_find(rs, 1));
    assert_int_equal(rs->n, 2); // the other one stays where it is
    assert_int_equal(rs->at[0].id, REPLICA_NONE);
    assert_int_equal(ready(), 1);
    desk_on_replica_up(office.desk, 4097, &facts, NOW, &office.fx);
    assert_ptr_equal(replicas_find(rs, 4097), &rs->at[0]);
    assert_int_equal(rs->n, 2);
    desk_on_process_end(office.desk, 4097, 77, true, NOW, &office.fx);
    assert_int_equal(t->deaths, 0);
    desk_on_process_end(office.desk, 1, 77, true, NOW, &office.fx);
    assert_int_equal(t->deaths, 1);
    for (run(NOW); (b = sent()) != NULL;)
        desk_on_end(office.desk, b, &(struct batch_end){.seen = SEEN_RECALLED}, NOW, &office.fx);
    for (uint32_t id = 2; id <= 4097; id += 4095) {
        desk_on_replica_down(office.desk, id, NOW, &office.fx);
        desk_on_replica_gone(office.desk, id, NOW);
    }
    assert_int_equal(rs->n, 0);
    assert_int_equal(rs->n_known, 1); // the last one is missed
    up(9, 8, "", NOW);
    assert_int_equal(rs->n_known, 1);
    run(FAR);
}

static void idle_without_replicas_and_requests(void **state)
{
    (void)state;
    struct desk *d = office.desk;
    assert_true(desk_is_idle(d));
    up_facts(1, 8, 1);
    assert_false(desk_is_idle(d));
    up_facts(2, 4, 1);                           // differs: somebody has it all the same
    desk_on_replica_down(d, 1, NOW, &office.fx); // that one is let in
    assert_false(desk_is_idle(d));
    lend(1);
    desk_on_replica_down(d, 2, NOW, &office.fx);
    assert_false(desk_is_idle(d)); // one waits
    run(NOW + rules.grace_us);
    assert_true(desk_is_idle(d));
    atomic_store(&office.model->room_rows, 1); // on its way here
    assert_false(desk_is_idle(d));
    atomic_store(&office.model->room_rows, 0);
    up_facts(1, 8, 1);
    lend(1);
    run(NOW + rules.grace_us);
    struct batch *b = sent();
    desk_on_replica_down(d, 1, NOW, &office.fx);
    assert_false(desk_is_idle(d)); // one is out
    desk_on_end(d, b, &(struct batch_end){.seen = SEEN_RECALLED}, FAR, &office.fx);
    assert_true(desk_is_idle(d));
}

// One after the other is not missed any more, but for the last; nor does it matter who is up, or was never seen.
static void the_last_one_is_missed_for_ever(void **state)
{
    (void)state;
    struct replicas *rs = &office.desk->replicas;
    for (uint32_t id = 1; id <= 3; id++)
        up_facts(id, 8, 1);
    for (uint32_t id = 1; id <= 3; id++)
        desk_on_replica_down(office.desk, id, NOW, &office.fx);
    static const struct {
        uint32_t id;
        unsigned known;
    } left[] = {{9, 3}, {1, 2}, {1, 2}, {2, 1}, {3, 1}};
    for (unsigned i = 0; i < sizeof(left) / sizeof(left[0]); i++) {
        replicas_forget(rs, left[i].id, NOW);
        assert_int_equal(rs->n_known, left[i].known);
    }
    up_facts(1, 8, 1);
    assert_int_equal(rs->n_known, 2);
    replicas_forget(rs, 1, NOW);
    assert_int_equal(rs->n_known, 2);
    assert_int_equal(ready(), 1);
    replicas_forget(rs, 3, NOW);
    assert_int_equal(rs->n_known, 1);
    desk_on_replica_down(office.desk, 1, NOW, &office.fx);
    replicas_vacate(rs, 1, NOW); // and when its place has gone as well
    assert_int_equal(rs->n_known, 1);
    up_facts(2, 8, 1);
    assert_int_equal(rs->n_known, 1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(up_and_down),
        TEST(what_a_batch_may_be),
        TEST(who_differs_is_kept_out),
        TEST(versions),
        TEST(credit),
        TEST(the_first_pause_to_end),
        TEST(two_choices),
        TEST(an_idle_replica_that_nobody_knows_is_tried),
        TEST(more_replicas_than_a_desk_has_room_for),
        TEST(slots_are_given_back),
        TEST(slots_of_those_that_left),
        TEST(the_last_one_is_missed_for_ever),
        TEST(idle_without_replicas_and_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
