/* router/flow: an infer's life on its origin loop: it settles once, and is over when all has come home. */
#include "tests/unit/router_origin.h"

#include "router/step.h"

static void out_and_back(void **state)
{
    (void)state;
    struct infer *a = submit(make(2));
    assert_ptr_equal(posted(MSG_LEND), &a->step.first.lend);
    assert_int_equal(a->state, INFER_OUT);
    assert_int_equal(a->deadline_us, NOW + 1000000);
    assert_int_equal(a->step.first.deadline_us, NOW + 1000000);
    assert_int_equal(a->step.first.lane, 0);
    assert_ptr_equal(a->step.first.request, &a->request);
    assert_ptr_equal(a->step.first.to.model, w.model);
    assert_int_equal(count(FX_WAKE, NULL), 1);
    assert_int_equal(atomic_load(&w.model->room_rows), 2);
    assert_int_equal(atomic_load(&w.model->room_bytes), 20);
    struct infer *b = submit(make(0)); // a scalar counts as a row
    assert_int_equal(atomic_load(&w.model->room_rows), 3);
    struct infer *c = submit(make(3));
    assert_int_equal(w.flow.n_live, 3);
    home(b, STATUS_OK); // in the middle of the list
    assert_int_equal(count(FX_SETTLE, b), 1);
    assert_int_equal(count(FX_RELEASE, b), 1);
    assert_int_equal(b->state, INFER_OVER);
    assert_int_equal(b->error.status, STATUS_OK);
    assert_null(b->prev);                       // in no list
    assert_int_equal(count(FX_UNREF, NULL), 0); // the answer's block is the caller's now
    assert_int_equal(w.flow.wheel.count, 2);
    home(c, STATUS_BAD_ANSWER);
    assert_int_equal(c->error.status, STATUS_BAD_ANSWER);
    comes_back_later(c, false);
    assert_ptr_equal(w.flow.live, a);
    home(a, STATUS_WORKER_LOST);
    comes_back_later(a, true);
    assert_int_equal(w.flow.n_live, 0);
}

static void unknown_models(void **state)
{
    (void)state;
    struct infer *in = make(1);
    in->request.model = VIEW("n");
    refused(submit(in), STATUS_NOT_FOUND);
    assert_string_equal(in->error.text, "model n is not known");
    assert_int_equal(count(FX_NOTE, NULL), 0);
}

static void room_in_rows(void **state)
{
    (void)state;
    struct infer *a = submit(make(9)), *b = submit(make(1));
    assert_int_equal(b->state, INFER_OUT); // the last place
    struct infer *c = submit(make(1));
    refused(c, STATUS_UNAVAILABLE);
    assert_string_equal(c->error.text, "model m: the queue is full");
    assert_int_equal(atomic_load(&w.model->turned_rows), 1); // demand that the desk never sees
    assert_int_equal(count(FX_NOTE, NULL), 1);
    for (unsigned i = 0; i < w.fx.n; i++) {
        if (w.fx.at[i].kind == FX_NOTE)
            assert_int_equal(w.fx.at[i].note.kind, NOTE_SHED);
    }
    assert_int_equal(atomic_load(&w.model->room_rows), 10);
    home(b, STATUS_INTERNAL);
    struct infer *d = submit(make(1));
    assert_int_equal(d->state, INFER_OUT);
    home(a, STATUS_INTERNAL);
    home(d, STATUS_INTERNAL);
}

static void room_in_bytes(void **state)
{
    (void)state;
    struct infer *a = make(1), *b = make(1), *c = make(1);
    a->request.bytes = 999;
    b->request.bytes = c->request.bytes = 1;
    submit(a);
    assert_int_equal(submit(b)->state, INFER_OUT);
    refused(submit(c), STATUS_UNAVAILABLE);
    home(a, STATUS_INTERNAL);
    home(b, STATUS_INTERNAL);
    atomic_store(&w.model->queue_bytes, 0); // no bound
    struct infer *d = make(1);
    d->request.bytes = 1 << 30;
    assert_int_equal(submit(d)->state, INFER_OUT);
    home(d, STATUS_INTERNAL);
}

static void all_that_a_worker_takes(void **state)
{
    (void)state;
    atomic_store(&w.model->max_batch, 4);
    struct infer *fits = submit(make(4));
    assert_int_equal(fits->step.n, 1);
    home(fits, STATUS_INTERNAL);
    atomic_store(&w.model->max_batch, 0); // not known, or served singly: the worker will say
    struct infer *any = submit(make(9));
    assert_int_equal(any->state, INFER_OUT);
    home(any, STATUS_INTERNAL);
}

static void deadlines(void **state)
{
    (void)state;
    static const struct {
        uint64_t asked, model, left;
    } row[] = {{0, 0, 1000000},         {0, 300, 300},         {700, 300, 700},
               {6000000, 300, 5000000}, {0, 6000000, 5000000}, {5000000, 0, 5000000}};
    for (unsigned i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        struct infer *in = make(1);
        in->request.timeout_us = row[i].asked;
        atomic_store(&w.model->deadline_us, row[i].model);
        submit(in);
        assert_int_equal(in->deadline_us, NOW + row[i].left);
        home(in, STATUS_INTERNAL);
    }
}

static void too_late_before_it_was_read(void **state)
{
    (void)state;
    struct infer *in = make(1);
    in->arrived_us = NOW - 500;
    in->request.timeout_us = 500;
    refused(submit(in), STATUS_DEADLINE);
    in = make(1);
    in->arrived_us = NOW - 500;
    in->request.timeout_us = 501;
    assert_int_equal(submit(in)->state, INFER_OUT);
    home(in, STATUS_INTERNAL);
}

static void asks_for_the_earliest_wake(void **state)
{
    (void)state;
    struct infer *a = make(1), *b = make(1), *c = make(1);
    a->request.timeout_us = 50000;
    b->request.timeout_us = 60000;
    c->request.timeout_us = 20000;
    submit(a);
    assert_int_equal(count(FX_WAKE, NULL), 1);
    submit(b);
    assert_int_equal(count(FX_WAKE, NULL), 0); // a is earlier
    submit(c);
    assert_int_equal(count(FX_WAKE, NULL), 1);
    uint64_t at_us = w.flow.wake_us;
    assert_true(at_us >= NOW + 20000 && at_us <= NOW + 21000);
    forget();
    flow_on_wake(&w.flow, NOW + 10000, &w.fx); // too early: asks again
    assert_int_equal(count(FX_SETTLE, NULL), 0);
    assert_int_equal(count(FX_WAKE, NULL), 1);
    assert_int_equal(w.flow.wake_us, at_us);
    home(a, STATUS_INTERNAL);
    home(b, STATUS_INTERNAL);
    home(c, STATUS_INTERNAL);
}

static void the_deadline_settles_it_whatever_the_home_does(void **state)
{
    (void)state;
    struct infer *in = make(2);
    in->request.timeout_us = 20000;
    submit(in);
    forget();
    flow_on_wake(&w.flow, NOW + 22000, &w.fx);
    assert_int_equal(count(FX_SETTLE, in), 1);
    assert_int_equal(count(FX_RELEASE, in), 0); // the home still reads what was lent
    assert_int_equal(in->error.status, STATUS_DEADLINE);
    assert_int_equal(in->state, INFER_ZOMBIE);
    assert_int_equal(w.flow.n_zombies, 1);
    assert_ptr_equal(posted(MSG_CANCEL), &in->step.first.cancel);
    assert_int_equal(atomic_load(&w.model->room_rows), 2); // still charged
    home(in, STATUS_CLIENT_GONE);
    assert_int_equal(count(FX_SETTLE, NULL) + count(FX_RELEASE, NULL), 0); // the echo is out
    assert_int_equal(in->error.status, STATUS_DEADLINE);
    forget();
    flow_on_echo(&w.flow, &in->step.first, NOW, &w.fx);
    assert_int_equal(count(FX_RELEASE, in), 1);
    assert_int_equal(in->state, INFER_OVER);
    assert_int_equal(w.flow.n_zombies, 0);
}

static void a_client_that_goes(void **state)
{
    (void)state;
    struct infer *in = submit(make(2));
    forget();
    flow_on_gone(&w.flow, in, NOW, &w.fx);
    assert_int_equal(count(FX_SETTLE, in), 1);
    assert_int_equal(in->error.status, STATUS_CLIENT_GONE);
    assert_non_null(posted(MSG_CANCEL));
    assert_int_equal(w.flow.wheel.count, 0);
    forget();
    flow_on_gone(&w.flow, in, NOW, &w.fx); // twice is once
    flow_on_wake(&w.flow, NOW + 9000000, &w.fx);
    assert_int_equal(w.fx.n, 0);
    flow_on_echo(&w.flow, &in->step.first, NOW, &w.fx); // the echo first
    assert_int_equal(count(FX_RELEASE, in), 0);
    home(in, STATUS_DEADLINE);
    assert_int_equal(count(FX_RELEASE, in), 1);
    forget();
    flow_on_gone(&w.flow, in, NOW, &w.fx);
    assert_int_equal(w.fx.n, 0);
}

// An answer that crosses the cancel is nobody's: its block is given back.
static void an_answer_that_comes_too_late(void **state)
{
    (void)state;
    struct block *block = block_new(w.blocks, 64);
    struct tensor y = {.name = VIEW("y"), .data = block->data};
    struct answer *a = answer_new(block, &y, 1, 0);
    struct infer *in = submit(make(1));
    flow_on_gone(&w.flow, in, NOW, &w.fx);
    in->step.first.slice.answer = a;
    home(in, STATUS_OK);
    assert_int_equal(count(FX_UNREF, NULL), 1);
    for (unsigned i = 0; i < w.fx.n; i++) {
        if (w.fx.at[i].kind == FX_UNREF)
            assert_ptr_equal(w.fx.at[i].block, block);
    }
    assert_int_equal(in->error.status, STATUS_CLIENT_GONE);
    flow_on_echo(&w.flow, &in->step.first, NOW, &w.fx);
}

// ---- what a failure says -------------------------------------------------------------------------------

// Its text is there while it is told, then the block goes; told to nobody, it goes as well.
static void a_text_is_given_back_when_it_was_told(void **state)
{
    (void)state;
    struct infer *told = submit(make(1)), *late = submit(make(1));
    forget();
    told->step.first.error = failure_quote(w.blocks, STATUS_INTERNAL, "it says: ", VIEW("no"));
    flow_on_back(&w.flow, &told->step.first, NOW, &w.fx);
    assert_int_equal(w.fx.at[0].kind, FX_SETTLE);
    assert_string_equal(told->error.text, "it says: no");
    assert_int_equal(count(FX_UNREF, NULL), 1);
    assert_int_equal(count(FX_RELEASE, told), 1);
    forget();
    assert_int_equal(w.blocks->live_blocks, 0);
    flow_on_gone(&w.flow, late, NOW, &w.fx);
    flow_on_echo(&w.flow, &late->step.first, NOW, &w.fx);
    late->step.first.error = failure_quote(w.blocks, STATUS_INTERNAL, "it says: ", VIEW("no"));
    flow_on_back(&w.flow, &late->step.first, NOW, &w.fx);
    assert_int_equal(late->error.status, STATUS_CLIENT_GONE);
    forget();
    assert_int_equal(w.blocks->live_blocks, 0);
}

// Memory is out: the status stands, and a text that needs none.
static void a_refusal_needs_no_memory(void **state)
{
    (void)state;
    struct infer *in = make(1);
    in->request.model = VIEW("n");
    forget();
    mem_fail_at(1);
    flow_submit(&w.flow, in, NOW, &w.fx);
    mem_fail_at(0);
    refused(in, STATUS_NOT_FOUND);
    assert_string_equal(in->error.text, "out of memory: the reason could not be kept");
    assert_int_equal(count(FX_UNREF, NULL), 0);
}

// ---- the list of effects -------------------------------------------------------------------------------

static void effects_grow_and_keep_what_they_hold(void **state)
{
    (void)state;
    struct effects fx;
    effects_init(&fx, NULL);
    for (uint64_t i = 0; i < 2000; i++) {
        struct fx *f = effects_add(&fx, FX_NOTE);
        assert_int_equal(f->replica + f->note.a + f->note.b, 0); // zeroed
        f->note.a = f->note.b = i;
        f->replica = 5;
    }
    for (uint64_t i = 0; i < 2000; i++) {
        assert_int_equal(fx.at[i].kind, FX_NOTE);
        assert_int_equal(fx.at[i].note.b, i);
    }
    fx.n = 0;
    assert_int_equal(effects_add(&fx, FX_WAKE)->note.a, 0);
    effects_deinit(&fx);
    assert_null(fx.at);
    for (unsigned i = 0; i < NOTE_KINDS; i++)
        assert_non_null(note_name[i]);
    assert_string_equal(note_name[NOTE_SHED], "shed");
}

// A model's own deadline before the default, never more than the longest; whoever has come keeps its own.
static void rules_of_requests_to_come(void **state)
{
    (void)state;
    static const struct {
        uint64_t model_us, default_us, max_us, want_us;
    } row[] = {{7000, 100000, 200000, 7000},
               {0, 100000, 200000, 100000},
               {0, 50000, 200000, 50000},
               {7000, 50000, 5000, 5000}};
    for (unsigned i = 0; i < 4; i++) {
        struct model_rules k = {.queue_rows = 10, .deadline_us = row[i].model_us};
        model_set_rules(w.model, &k);
        flow_set_rules(&w.flow, &(struct flow_rules){.deadline_us = row[i].default_us,
                                                     .deadline_max_us = row[i].max_us});
        assert_int_equal(submit(make(1))->deadline_us, NOW + row[i].want_us);
    }
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(w.in[i].deadline_us, NOW + row[i].want_us);
        home(&w.in[i], STATUS_UNAVAILABLE);
    }
}

static struct infer *refused_early(uint64_t room_in_us)
{
    struct infer *in = submit(make(1));
    in->step.first.room_in_us = room_in_us;
    home(in, STATUS_DEADLINE);
    return in;
}

// From what the queue takes, in its lane; or what the home knows better. Never all at the same moment.
static void who_is_refused_is_told_when_there_is_room(void **state)
{
    (void)state;
    static const struct {
        uint64_t begins_us;
        uint32_t from_ms, to_ms;
    } row[] = {{0, RETRY_UNKNOWN_US / 1000, RETRY_UNKNOWN_US * 3 / 2000},
               {NOW + 1000, RETRY_LEAST_US / 1000, RETRY_LEAST_US * 3 / 2000},
               {NOW + 4000000, 4000, 6000},
               {NOW + 3600000000, RETRY_MOST_US / 1000, RETRY_MOST_US * 3 / 2000}};
    atomic_store(&w.model->room_rows, 10);
    for (unsigned i = 0; i < 4; i++) {
        atomic_store(&w.model->begins_us[0], row[i].begins_us);
        atomic_store(&w.model->begins_us[1], NOW + 30000000); // another lane
        uint32_t first = 0;
        bool differ = false;
        for (unsigned k = 0; k < 20; k++, w.n = 0) {
            struct infer *in = make(1);
            uint32_t ms = submit(in)->retry_after_ms;
            assert_int_equal(in->error.status, STATUS_UNAVAILABLE);
            assert_in_range(ms, row[i].from_ms, row[i].to_ms);
            first = k == 0 ? ms : first;
            differ |= ms != first;
        }
        assert_true(differ);
    }
    atomic_store(&w.model->room_rows, 0);
    assert_in_range(refused_early(2000000)->retry_after_ms, 2000, 3000);
}

static void when_to_come_again_in_figures(void **state)
{
    (void)state;
    static const struct {
        uint64_t wait_us, random;
        uint32_t ms;
    } row[] = {{0, 0, 600},
               {0, 300000, 900},
               {0, 300001, 600},
               {1, 0, 20},
               {19999, 0, 20},
               {20000, 10000, 30},
               {20000, 10001, 20},
               {21000, 0, 21},
               {1000000, 500000, 1500},
               {60000000, 0, 60000},
               {60000001, 30000000, 90000},
               {UINT64_MAX, 0, 60000}};
    for (unsigned i = 0; i < sizeof(row) / sizeof(*row); i++)
        assert_int_equal(retry_after_ms(row[i].wait_us, row[i].random), row[i].ms);
}

static void who_cannot_come_again_is_told_nothing(void **state)
{
    (void)state;
    static const enum status none[] = {STATUS_DEADLINE, STATUS_POISON, STATUS_INTERNAL,
                                       STATUS_BAD_REQUEST, STATUS_TOO_LARGE};
    for (unsigned i = 0; i < 5; i++) {
        struct infer *in = submit(make(1));
        home(in, none[i]);
        comes_back_later(in, false);
    }
    struct infer *in = make(1);
    in->request.sequence_id = 5; // its state is gone with the worker
    submit(in);
    home(in, STATUS_WORKER_LOST);
    comes_back_later(in, false);
}

// Each lane leaves the last part of the room to those above it.
static void the_lowest_priority_is_refused_first(void **state)
{
    (void)state;
    static const struct {
        uint8_t priority;
        uint32_t taken; // of 1,600 rows
    } row[] = {{1, 1600}, {0, 1500}, {3, 1200}, {9, 800}};
    atomic_store(&w.model->queue_limit, 1600);
    for (unsigned i = 0; i < 4; i++) {
        atomic_store(&w.model->room_rows, row[i].taken);
        struct infer *no = make(1), *yes = make(1);
        no->request.priority = yes->request.priority = row[i].priority;
        refused(submit(no), STATUS_UNAVAILABLE);
        assert_string_equal(no->error.text,
                            i == 0 ? "model m: the queue is full"
                                   : "model m: what is left of the queue is kept for higher "
                                     "priorities");
        assert_int_equal(step_foresee(w.model, 0, no->step.first.lane, 1, NOW),
                         i == 0 ? REFUSAL_QUEUE : REFUSAL_PRIORITY);
        atomic_store(&w.model->room_rows, row[i].taken - 1);
        assert_int_equal(step_foresee(w.model, 0, no->step.first.lane, 1, NOW), REFUSAL_NONE);
        assert_int_equal(submit(yes)->state, INFER_OUT);
        home(yes, STATUS_INTERNAL);
    }
    atomic_store(&w.model->room_rows, 0);
}

static struct infer *of_tenant(uint16_t tenant)
{
    struct infer *in = make(1);
    in->tenant = tenant;
    return submit(in);
}

static int32_t held_by(uint16_t tenant)
{
    return atomic_load(&w.model->books->of[tenant].rows);
}

// One has all of the room until another one comes; then it gets no more until it has less than its part.
static void tenants_share_the_room(void **state)
{
    (void)state;
    struct model_rules k = {.queue_rows = 6};
    model_set_rules(w.model, &k);
    struct infer *a[6];
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal((a[i] = of_tenant(1))->state, INFER_OUT);
    struct infer *full = of_tenant(2);
    assert_int_equal(full->error.status, STATUS_UNAVAILABLE); // nothing is taken from anybody
    comes_back_later(full, true);
    assert_int_equal(held_by(2), 0);
    tenants_reckon(w.model->books, 6, NOW); // as its home does
    home(a[0], STATUS_INTERNAL);
    assert_int_equal(step_foresee(w.model, 1, 0, 1, NOW), REFUSAL_TENANT);
    assert_int_equal(step_foresee(w.model, 2, 0, 1, NOW), REFUSAL_NONE);
    w.n = 6;
    struct infer *more = of_tenant(1);
    assert_int_equal(more->error.status, STATUS_QUOTA);
    assert_string_equal(more->error.text,
                        "model m: the tenant has its part of the queue, and others want theirs");
    comes_back_later(more, true);
    assert_int_equal(held_by(1), 5);
    struct infer *other = of_tenant(2);
    assert_int_equal(other->state, INFER_OUT);
    for (unsigned i = 1; i < 4; i++)
        home(a[i], STATUS_INTERNAL);
    w.n = 0; // these are over
    assert_int_equal(held_by(1), 2);
    struct infer *again = of_tenant(1);
    assert_int_equal(again->state, INFER_OUT);
    home(again, STATUS_INTERNAL);
    home(other, STATUS_INTERNAL);
    home(a[4], STATUS_INTERNAL);
    home(a[5], STATUS_INTERNAL);
    assert_int_equal(held_by(1) + held_by(2), 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(out_and_back),
        TEST(unknown_models),
        TEST(room_in_rows),
        TEST(room_in_bytes),
        TEST(all_that_a_worker_takes),
        TEST(deadlines),
        TEST(rules_of_requests_to_come),
        TEST(too_late_before_it_was_read),
        TEST(asks_for_the_earliest_wake),
        TEST(the_deadline_settles_it_whatever_the_home_does),
        TEST(a_client_that_goes),
        TEST(an_answer_that_comes_too_late),
        TEST(a_text_is_given_back_when_it_was_told),
        TEST(a_refusal_needs_no_memory),
        TEST(effects_grow_and_keep_what_they_hold),
        TEST(who_is_refused_is_told_when_there_is_room),
        TEST(when_to_come_again_in_figures),
        TEST(who_cannot_come_again_is_told_nothing),
        TEST(the_lowest_priority_is_refused_first),
        TEST(tenants_share_the_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
