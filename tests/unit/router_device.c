/* router/device: its words, and models of one loop that take turns for a serial device. */
#include "tests/unit/router_kit.h"

#define LEAD_US 62 // of alpha = 1000

#define MODELS 3

static const struct model_rules rules = {.policy = POLICY_AUTO,
                                         .max_rows = 64,
                                         .max_wait_us = 0, // nobody waits for who may come back
                                         .deadline_us = 1000000,
                                         .queue_rows = 100000,
                                         .grace_us = 50000};
static struct serial_device device;
static struct device_turn turn;
static struct worker_vitals vitals;
static struct desk *desk[MODELS];

// t(b) = 1000 + 20 b, for whole batches and single rows alike.
static void teach(struct batcher *b)
{
    for (uint32_t i = 0; i < 400; i++)
        batcher_learn(b, 1 << i % 7, 1000 + 20 * (1 << i % 7), NOW - 50000);
    b->arrivals = (struct arrivals){0};
    b->trip_us = 0;
    b->half_us = 0;
}

static void bring_up(struct desk *d)
{
    struct replica_facts facts = {.max_batch = 64,
                                  .metadata = {1, 1},
                                  .n_versions = 1,
                                  .instances = 4, // of the model: but one device has them
                                  .vitals = &vitals,
                                  .device = &device,
                                  .turn = &turn};
    facts.versions = &(struct view){"1", 1};
    desk_on_replica_up(d, 7, &facts, NOW, &office.fx);
    teach(&d->batcher);
}

static int setup(void **state)
{
    (void)state;
    device = (struct serial_device){0};
    turn = (struct device_turn){0};
    memset(&vitals, 0, sizeof(vitals));
    office_open(&rules);
    desk[0] = office.desk;
    desk[1] = desk_new(table_add(office.table, VIEW("n"), &rules), 1, 1, NOW);
    desk[2] = desk_new(table_add(office.table, VIEW("o"), &rules), 1, 1, NOW);
    for (unsigned i = 0; i < MODELS; i++)
        bring_up(desk[i]);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (unsigned i = 0; i < MODELS; i++)
        desk_on_replica_down(desk[i], 7, NOW, &office.fx);
    assert_null(turn.first);
    for (unsigned i = 1; i < MODELS; i++)
        desk_free(desk[i]);
    office_close();
    return 0;
}

static void ask(unsigned model, unsigned rows, uint8_t lane)
{
    for (unsigned i = 0; i < rows; i++) {
        struct guest *g = &office.guest[office.n++];
        guest_init(g, 1, 1, FAR);
        g->ticket.key = hash128(VIEW(""), 9);
        g->ticket.to.model = desk[model]->model;
        g->ticket.lane = lane;
        desk_on_ticket(desk[model], &g->ticket, NOW, &office.fx);
    }
}

// Whose batch was dispatched next; MODELS: none.
static unsigned whose(struct batch **b)
{
    *b = sent();
    for (unsigned i = 0; i < MODELS; i++) {
        if (*b && (*b)->desk == desk[i])
            return i;
    }
    return MODELS;
}

static void answer_only(struct batch *b, uint64_t now_us)
{
    struct desk *d = b->desk;
    struct block *block = block_new(office.blocks, 64);
    struct tensor t = {.name = VIEW("y"), .rank = 1, .shape = {b->rows}, .data = block->data};
    desk_on_answer(d, b, answer_new(block, &t, 1, b->rows), now_us, &office.fx);
    give_back();
}

static void answered(struct batch *b, uint64_t now_us)
{
    struct desk *d = b->desk;
    answer_only(b, now_us);
    desk_run(d, now_us, &office.fx);
}

static void settle(void)
{
    forget();
    for (unsigned i = 0; i < office.n; i++) {
        struct ticket *t = &office.guest[i].ticket;
        struct desk *d = NULL;
        for (unsigned k = 0; !d; k++)
            d = desk[k]->model == t->to.model ? desk[k] : NULL;
        if (t->place == PLACE_QUEUED)
            desk_on_cancel(d, t, NOW, &office.fx);
        else if (t->error.status == STATUS_OK && t->slice.answer)
            block_unref(t->slice.answer->block);
    }
}

static void words(void **state)
{
    (void)state;
    struct serial_device v = {0};
    device_sent(&v, 1000, NOW);
    assert_int_equal(device_free_us(&v), NOW + 1000);
    device_sent(&v, 500, NOW + 100); // behind it
    assert_int_equal(device_free_us(&v), NOW + 1500);
    device_ended(&v, 1000, false, 50, NOW + 2000); // it took longer: the other began 50 us ago
    assert_int_equal(device_free_us(&v), NOW + 2450);
    device_ended(&v, 500, true, 50, NOW + 2100); // taken back: it may still be computed
    assert_int_equal(device_free_us(&v), NOW + 2450);
    assert_int_equal(atomic_load(&v.pending_us), 0);
    device_sent(&v, 0, NOW + 3000); // not known
    device_ended(&v, 0, false, 50, NOW + 3500);
    assert_int_equal(device_free_us(&v), NOW + 3500);
}

// Another model's batch keeps the device busy: what is queued here waits until it is nearly free, and grows.
static void one_sees_what_another_sends(void **state)
{
    (void)state;
    struct batch *b;
    ask(0, 8, 1);
    desk_run(desk[0], NOW, &office.fx);
    assert_int_equal(whose(&b), 0);
    assert_true(b->quiet); // the first one that the worker ever has
    uint64_t free_us = NOW + b->expected_us;
    assert_int_equal(device_free_us(&device), free_us);
    ask(1, 1, 1);
    forget();
    desk_run(desk[1], NOW + 10, &office.fx);
    assert_null(sent());
    assert_int_equal(desk[1]->wake_us, free_us - LEAD_US);
    ask(1, 4, 1);
    desk_run(desk[1], free_us - LEAD_US - 1, &office.fx);
    assert_null(sent());
    struct batch *second;
    desk_run(desk[1], free_us - LEAD_US, &office.fx);
    assert_int_equal(whose(&second), 1);
    assert_int_equal(second->n, 5);
    assert_false(second->quiet); // its worker's figure is not the device's time for it
    answered(b, free_us);
    estimate_init(&desk[1]->batcher.estimate);
    answered(second, free_us + 1100);
    assert_true(desk[1]->batcher.estimate.octave[2].n == 1);
    assert_true(desk[1]->batcher.estimate.octave[2].us == 1100); // behind the other model's
    settle();
}

// Loops read their clocks when they like: another's answer may be later than what is now for this one.
static void an_answer_of_tomorrow(void **state)
{
    (void)state;
    struct batch *b;
    estimate_init(&desk[0]->batcher.estimate); // what is settled takes no such figure
    for (uint64_t ahead_us = 0; ahead_us < 2; ahead_us++) {
        ask(0, 1, 1);
        desk_run(desk[0], NOW + ahead_us * 5000, &office.fx);
        assert_int_equal(whose(&b), 0);
        b->quiet = false;
        atomic_store(&vitals.ended_us, NOW + ahead_us * 5000 + 1000 + ahead_us);
        answered(b, NOW + ahead_us * 5000 + 1000);
        assert_true(desk[0]->batcher.estimate.octave[0].us < 2000);
    }
    settle();
}

// Whoever is asked: the best has it, and the others find the device busy.
static void the_most_rows_for_its_time_go_first(void **state)
{
    (void)state;
    struct batch *b;
    ask(0, 2, 1);
    ask(1, 40, 1);
    ask(2, 20, 1);
    forget();
    for (unsigned i = 0; i < 2; i++) {
        desk_run(desk[0], NOW, &office.fx);
        desk_run(desk[2], NOW, &office.fx);
    }
    assert_int_equal(whose(&b), 1);
    assert_int_equal(b->n, 40);
    assert_null(sent());
    assert_int_equal(desk[0]->passed, 1);
    assert_int_equal(desk[2]->passed, 1);
    assert_true(desk[0]->wake_us < UINT64_MAX && desk[2]->wake_us < UINT64_MAX);
    forget();
    answered(b, NOW + 1500); // sooner than it was thought: who waits is not left until its wake
    assert_int_equal(whose(&b), 2);
    answered(b, NOW + 3000);
    assert_int_equal(whose(&b), 0);
    answered(b, NOW + 4500);
    assert_int_equal(desk[0]->passed, 0);
    settle();
}

static void a_higher_lane_goes_before_more_rows(void **state)
{
    (void)state;
    struct batch *b, *next;
    ask(0, 1, 0);
    ask(1, 64, 1);
    desk_run(desk[1], NOW, &office.fx);
    assert_int_equal(whose(&b), 0);
    forget();
    answered(b, NOW + 1000);
    assert_int_equal(whose(&next), 1);
    answered(next, NOW + 4000);
    settle();
}

// The other is asked first, and may not: that one has its turn all the same.
static void who_cannot_go_leaves_the_turn(void **state)
{
    (void)state;
    struct batch *b;
    desk[1]->replicas.at[0].not_before_us = NOW + 10000; // it was refused
    ask(0, 2, 1);
    ask(1, 40, 1);
    desk_run(desk[0], NOW, &office.fx);
    assert_int_equal(whose(&b), 0);
    assert_int_equal(desk[1]->passed, 0); // it was asked
    answered(b, NOW + 1000);
    settle();
}

// Whichever of the two has sat down first.
static void nobody_is_passed_over_for_ever(void **state)
{
    (void)state;
    struct batch *b;
    uint64_t now_us = NOW;
    for (unsigned low = 0; low < 2; low++, now_us += 5000) {
        unsigned high = 1 - low, others = 0;
        ask(low, 1, 3);
        for (;; others++) {
            ask(high, 20, 0);
            desk_run(desk[high], now_us, &office.fx);
            if (whose(&b) != high)
                break;
            now_us += 1400;
            forget();
            answer_only(b, now_us);
        }
        assert_int_equal(others, DEVICE_PASSES);
        assert_ptr_equal(b->desk, desk[low]);
        forget();
        answered(b, now_us + 1000);
        assert_int_equal(whose(&b), high);
        answered(b, now_us + 3000);
    }
    settle();
}

// Of several that starve the one that was passed over most, whatever its lane.
static void who_was_passed_over_most_goes_first(void **state)
{
    (void)state;
    for (unsigned most = 0; most < MODELS; most++) {
        for (unsigned i = 0; i < MODELS; i++) {
            ask(i, 1, i == most ? 3 : 0);
            desk[i]->passed = DEVICE_PASSES + (i == most);
        }
        assert_ptr_equal(device_next(&turn, true), desk[most]);
        settle();
    }
}

// `fixed` is told to wait by nobody, but what it sends counts for the others.
static void fixed_takes_no_turns(void **state)
{
    (void)state;
    struct batch *b;
    desk_on_replica_down(desk[0], 7, NOW, &office.fx);
    desk[0]->model->rules.policy = desk[0]->batcher.policy.kind = POLICY_FIXED;
    desk[0]->batcher.policy.max_wait_us = 0;
    bring_up(desk[0]);
    device_sent(&device, 5000, NOW);
    ask(0, 3, 1);
    desk_run(desk[0], NOW, &office.fx);
    assert_int_equal(whose(&b), 0);
    assert_int_equal(device_free_us(&device), NOW + 5000 + b->expected_us);
    answered(b, NOW + 1000);
    settle();
}

// Others do not wait for it, one after the other: who finds it busy again when it was to be free goes behind them.
static void who_is_overtaken_goes_behind(void **state)
{
    (void)state;
    struct batch *b, *next;
    device_sent(&device, 5000, NOW);
    ask(0, 70, 1);
    desk_run(desk[0], NOW, &office.fx);
    device_sent(&device, 5000, NOW);
    desk_run(desk[0], NOW + 5000 - LEAD_US, &office.fx);
    assert_int_equal(whose(&b), MODELS);
    device_sent(&device, 5000, NOW);
    desk_run(desk[0], NOW + 4999, &office.fx);
    assert_int_equal(whose(&b), MODELS);
    desk_run(desk[0], NOW + 5000, &office.fx);
    assert_int_equal(whose(&b), 0);
    assert_int_equal(b->n, 64);
    assert_int_equal(whose(&next), MODELS); // one: the rest waits again
    assert_int_equal(device_free_us(&device), NOW + 15000 + b->expected_us);
    desk_run(desk[0], NOW + 5001, &office.fx);
    assert_int_equal(whose(&next), MODELS);
    answer_only(b, NOW + 6000);
    settle();
}

// However little it is.
static void one_that_is_overtaken_goes_behind(void **state)
{
    (void)state;
    struct batch *b;
    device_sent(&device, 5000, NOW);
    ask(0, 1, 1);
    desk_run(desk[0], NOW, &office.fx);
    device_sent(&device, 5000, NOW);
    desk_run(desk[0], NOW + 4999, &office.fx);
    assert_int_equal(whose(&b), MODELS);
    desk_run(desk[0], NOW + 5000, &office.fx);
    assert_int_equal(whose(&b), 0);
    answer_only(b, NOW + 11000);
    settle();
}

// It was free as promised, but its replica was paused then: that wait is over.
static void who_could_not_go_is_not_overtaken(void **state)
{
    (void)state;
    struct batch *b;
    device_sent(&device, 5000, NOW);
    ask(0, 1, 1);
    desk_run(desk[0], NOW, &office.fx);
    replicas_find(&desk[0]->replicas, 7)->not_before_us = NOW + 8000;
    desk_run(desk[0], NOW + 5000, &office.fx);
    device_sent(&device, 10000, NOW + 5000);
    desk_run(desk[0], NOW + 9000, &office.fx);
    assert_int_equal(whose(&b), MODELS);
    desk_run(desk[0], NOW + 15000, &office.fx);
    assert_int_equal(whose(&b), 0);
    answer_only(b, NOW + 16000);
    settle();
}

// What it was to be free at before anybody waited is no promise.
static void who_has_not_waited_is_not_overtaken(void **state)
{
    (void)state;
    struct batch *b;
    device_sent(&device, 5000, NOW);
    desk_run(desk[0], NOW, &office.fx);
    device_sent(&device, 20000, NOW);
    ask(0, 1, 1);
    desk_run(desk[0], NOW + 6000, &office.fx);
    desk_run(desk[0], NOW + 24000, &office.fx);
    assert_int_equal(whose(&b), MODELS);
    desk_run(desk[0], NOW + 25000, &office.fx); // it is free
    assert_int_equal(whose(&b), 0);
    answer_only(b, NOW + 26000);
    settle();
}

// Nor does it help who is passed over by those of its own loop, before it starves.
static void turns_are_not_overtaken(void **state)
{
    (void)state;
    struct batch *b;
    device_sent(&device, 5000, NOW);
    ask(0, 3, 1);
    desk[0]->passed = DEVICE_PASSES - 1;
    desk_run(desk[0], NOW, &office.fx);
    device_sent(&device, 5000, NOW);
    desk_run(desk[0], NOW + 5000, &office.fx);
    assert_int_equal(whose(&b), MODELS);
    desk[0]->passed = DEVICE_PASSES;
    desk_run(desk[0], NOW + 5000, &office.fx);
    assert_int_equal(whose(&b), MODELS);
    device_sent(&device, 5000, NOW);
    desk_run(desk[0], NOW + 10000, &office.fx);
    assert_int_equal(whose(&b), 0);
    answer_only(b, NOW + 15000);
    settle();
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words),
        TEST(one_sees_what_another_sends),
        TEST(an_answer_of_tomorrow),
        TEST(the_most_rows_for_its_time_go_first),
        TEST(a_higher_lane_goes_before_more_rows),
        TEST(who_cannot_go_leaves_the_turn),
        TEST(nobody_is_passed_over_for_ever),
        TEST(who_was_passed_over_most_goes_first),
        TEST(fixed_takes_no_turns),
        TEST(who_is_overtaken_goes_behind),
        TEST(one_that_is_overtaken_goes_behind),
        TEST(who_has_not_waited_is_not_overtaken),
        TEST(turns_are_not_overtaken),
        TEST(who_could_not_go_is_not_overtaken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
