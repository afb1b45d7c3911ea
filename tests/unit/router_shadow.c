/* router/shadow: a request's shadow at its origin: when it goes, how it ends, what it holds until then. */
#include "tests/unit/router_origin.h"

#include "router/shadow.h"

#define OWN_US 3000000 // longer than the request itself has

static struct model *other;

static int setup_two(void **state)
{
    static const struct model_rules rules = {.queue_rows = 1};
    setup(state);
    other = table_add(w.table, VIEW("s"), &rules);
    atomic_store(&other->ready, 1);
    w.flow.rules.shadows = 2;
    w.flow.rules.shadow_bytes = 100;
    return 0;
}

static int teardown_two(void **state)
{
    assert_null(w.flow.shadows);
    assert_int_equal(w.flow.n_shadows + w.flow.shadow_bytes, 0);
    assert_int_equal(atomic_load(&other->room_rows), 0);
    return teardown(state);
}

static struct infer *make_shaded(uint32_t rows)
{
    struct infer *in = make(rows);
    in->shadow = arena_zalloc(&w.arena, sizeof(*in->shadow));
    in->shadow->model = other;
    in->shadow->timeout_us = OWN_US;
    return in;
}

static struct slice answer_of(uint32_t rows)
{
    struct tensor t = {.name = VIEW("y"), .dtype = DT_UINT8, .rank = 1, .shape = {rows}};
    struct block *b = block_new(w.blocks, rows);
    t.data = b->data;
    t.bytes = rows;
    return (struct slice){.answer = answer_new(b, &t, 1, rows)};
}

static const struct msg *lent(void)
{
    const struct msg *m = NULL;
    for (unsigned i = 0; i < w.fx.n; i++)
        if (w.fx.at[i].kind == FX_POST && w.fx.at[i].msg->kind == MSG_LEND)
            m = w.fx.at[i].msg;
    return m;
}

static unsigned place_of(enum fx_kind kind)
{
    unsigned i = 0;
    while (i < w.fx.n && w.fx.at[i].kind != kind)
        i++;
    return i;
}

// Answered by its model; the client's references are given back as a doer would.
static struct infer *answered(struct infer *in, uint64_t now_us)
{
    submit(in);
    forget();
    in->step.first.slice = answer_of(in->request.rows);
    in->step.first.error.status = STATUS_OK;
    flow_on_back(&w.flow, &in->step.first, now_us, &w.fx);
    assert_int_equal(count(FX_SETTLE, in), 1);
    return in;
}

static struct infer *shaded(struct infer *in)
{
    assert_null(lent());
    answered(in, NOW + 10);
    assert_ptr_equal(lent(), &in->shadow->step.first.lend);
    assert_true(place_of(FX_SETTLE) < place_of(FX_POST)); // S1
    assert_int_equal(count(FX_SHADOW, NULL) + count(FX_RELEASE, NULL), 0);
    assert_int_equal(in->state, INFER_ZOMBIE);
    block_unref(in->answer->answer->block); // sent
    forget();
    return in;
}

static void over(const struct infer *in, enum shadow_end end)
{
    assert_int_equal(count(FX_SHADOW, in), 1);
    assert_int_equal(in->shadow->end, end);
    assert_int_equal(count(FX_SETTLE, NULL), 0);
}

static void back(struct infer *in, enum status status, uint64_t now_us)
{
    struct ticket *t = &in->shadow->step.first;
    t->error = (struct failure){.status = status};
    if (status == STATUS_OK)
        t->slice = answer_of(in->request.rows);
    flow_on_back(&w.flow, t, now_us, &w.fx);
}

static void is_compared(void **state)
{
    (void)state;
    struct infer *in = shaded(make_shaded(4));
    const struct ticket *t = &in->shadow->step.first;
    assert_true(t->shadow && !t->elsewhere);
    assert_int_equal(t->charged_rows, 0); // S2: more than the model's room has
    assert_int_equal(t->cache, CACHE_NONE);
    assert_int_equal(t->deadline_us, NOW + 10 + OWN_US); // S1
    assert_int_equal(w.blocks->live_blocks, 1);          // the served answer is held
    back(in, STATUS_OK, NOW + 500);
    over(in, SHADOW_ANSWERED);
    assert_int_equal(in->shadow->took_us, 490);
    assert_int_equal(in->shadow->answer->answer->n_outputs, 1);
    assert_int_equal(count(FX_RELEASE, in), 1);
    assert_true(place_of(FX_SHADOW) < place_of(FX_UNREF)); // S5: both are there
    assert_int_equal(count(FX_UNREF, NULL), 2);
    forget();
    assert_int_equal(w.blocks->live_blocks, 0);
}

static void may_fail(void **state)
{
    (void)state;
    struct infer *in = shaded(make_shaded(1));
    back(in, STATUS_INTERNAL, NOW + 20);
    over(in, SHADOW_FAILED);
    assert_int_equal(in->shadow->error.status, STATUS_INTERNAL);
    assert_int_equal(in->error.status, STATUS_OK);
    assert_int_equal(count(FX_RELEASE, in), 1);
}

static void has_its_own_time(void **state)
{
    (void)state;
    struct infer *in = shaded(make_shaded(1));
    flow_on_wake(&w.flow, in->deadline_us + 5000, &w.fx); // what the client had is over
    assert_int_equal(count(FX_SHADOW, NULL), 0);
    flow_on_wake(&w.flow, NOW + 10 + OWN_US + 5000, &w.fx);
    over(in, SHADOW_LATE);
    assert_int_equal(count(FX_RELEASE, in), 0); // it is being called home
    forget();
    assert_int_equal(w.blocks->live_blocks, 0); // and nothing else is held for it
    back(in, STATUS_OK, NOW + OWN_US + 6000);   // the two cross
    forget();
    assert_int_equal(in->state, INFER_ZOMBIE);
    flow_on_echo(&w.flow, &in->shadow->step.first, NOW + OWN_US + 7000, &w.fx);
    assert_int_equal(count(FX_RELEASE, in), 1);
    assert_int_equal(count(FX_SHADOW, NULL), 0);
}

static void are_called_home(void **state)
{
    (void)state;
    struct infer *a = shaded(make_shaded(1)), *b = shaded(make_shaded(2));
    flow_call_shadows(&w.flow, NOW + 30, &w.fx);
    over(a, SHADOW_CALLED);
    over(b, SHADOW_CALLED);
    assert_int_equal(w.flow.wheel.count, 0);
    forget();
    struct infer *both[] = {a, b};
    for (unsigned i = 0; i < 2; i++) {
        flow_on_echo(&w.flow, &both[i]->shadow->step.first, NOW + 40, &w.fx);
        assert_int_equal(count(FX_RELEASE, both[i]), 0);
        back(both[i], STATUS_CLIENT_GONE, NOW + 40);
        assert_int_equal(count(FX_RELEASE, both[i]), 1);
    }
    flow_call_shadows(&w.flow, NOW + 50, &w.fx);
    assert_int_equal(count(FX_SHADOW, NULL), 0);
}

static void not_lent(struct infer *in, enum shadow_end end)
{
    answered(in, NOW + 10);
    assert_null(lent());
    assert_int_equal(count(FX_SHADOW, in), 1);
    assert_int_equal(in->shadow->end, end);
    assert_int_equal(count(FX_RELEASE, in), 1);
    block_unref(in->answer->answer->block);
    forget();
}

static void not_at_a_level(void **state)
{
    (void)state;
    atomic_store(&other->level, 1);
    not_lent(make_shaded(1), SHADOW_LEVEL);
    atomic_store(&other->level, 0);
    atomic_store(&w.model->level, 1);
    not_lent(make_shaded(1), SHADOW_LEVEL);
    atomic_store(&w.model->level, 0);
    atomic_store(&other->ready, 0);
    not_lent(make_shaded(1), SHADOW_ABSENT);
}

static void are_bounded(void **state)
{
    (void)state;
    struct infer *a = shaded(make_shaded(5));
    not_lent(make_shaded(6), SHADOW_FULL); // bytes
    struct infer *b = shaded(make_shaded(5));
    not_lent(make_shaded(1), SHADOW_FULL); // as many as may be
    struct infer *both[] = {a, b};
    for (unsigned i = 0; i < 2; i++) {
        back(both[i], STATUS_OK, NOW + 20);
        over(both[i], SHADOW_ANSWERED);
        forget();
    }
}

static void not_of_what_failed(void **state)
{
    (void)state;
    struct infer *in = submit(make_shaded(1));
    home(in, STATUS_INTERNAL);
    assert_int_equal(count(FX_SETTLE, in), 1);
    assert_int_equal(count(FX_SHADOW, in), 1);
    assert_int_equal(in->shadow->end, SHADOW_UNSERVED);
    in = submit(make_shaded(1)); // the client goes away first
    flow_on_gone(&w.flow, in, NOW, &w.fx);
    assert_int_equal(in->shadow->end, SHADOW_UNSERVED);
    flow_on_echo(&w.flow, &in->step.first, NOW, &w.fx);
    home(in, STATUS_CLIENT_GONE);
    in = make_shaded(11); // or it never went out
    submit(in);
    assert_int_equal(count(FX_RELEASE, in), 1);
    assert_int_equal(in->shadow->end, SHADOW_UNSERVED);
}

// More rows than the other model takes at once: parts of it, put together.
static void may_be_split(void **state)
{
    (void)state;
    static uint64_t rows[3];
    static struct tensor input = {.name = VIEW("x"), .dtype = DT_UINT64, .rank = 1, .shape = {3}};
    atomic_store(&other->max_batch, 2);
    other->queue_limit = 10;
    struct infer *in = make_shaded(3);
    input.data = (const uint8_t *)rows;
    input.bytes = sizeof(rows);
    in->request.inputs = &input;
    in->request.n_inputs = 1;
    request_seal(&in->request);
    answered(in, NOW + 10);
    block_unref(in->answer->answer->block);
    forget();
    assert_int_equal(in->shadow->step.n, 2);
    for (unsigned i = 0; i < 2; i++) {
        struct ticket *t = &in->shadow->step.tickets[i];
        assert_true(t->shadow && t->charged_rows == 0);
        assert_int_equal(count(FX_SHADOW, NULL), 0);
        t->slice = answer_of(t->request->rows);
        flow_on_back(&w.flow, t, NOW + 20, &w.fx);
    }
    over(in, SHADOW_ANSWERED);
    assert_int_equal(slice_whole(in->shadow->answer, 0).shape[0], 3);
    forget();
    assert_int_equal(w.blocks->live_blocks, 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup_two, teardown_two)
    const struct CMUnitTest tests[] = {
        TEST(is_compared),    TEST(may_fail),    TEST(has_its_own_time),   TEST(are_called_home),
        TEST(not_at_a_level), TEST(are_bounded), TEST(not_of_what_failed), TEST(may_be_split),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
