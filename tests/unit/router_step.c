/* router/step: a request of more rows than its worker takes goes as several tickets, and is answered as one. */
#include "tests/unit/router_origin.h"

#include "router/step.h"

#define ROWS 9
#define TAKES 4

static uint64_t number[2 * ROWS]; // x, two to a row
static uint8_t words[6 * ROWS];   // s: row i is a text of i % 3 bytes
static struct tensor inputs[2];

// A request of ROWS rows for the model, which takes TAKES at once.
static struct infer *make_wide(void)
{
    struct infer *in = make(ROWS);
    uint8_t *at = words;
    for (uint32_t i = 0; i < ROWS; i++) {
        number[2 * i] = number[2 * i + 1] = i;
        uint32_t n = i % 3;
        memcpy(at, &n, 4);
        memset(at + 4, 'a' + (int)i, n);
        at += 4 + n;
    }
    inputs[0] =
        (struct tensor){.name = VIEW("x"), .dtype = DT_UINT64, .rank = 2, .shape = {ROWS, 2}};
    inputs[0].data = (const uint8_t *)number;
    inputs[0].bytes = sizeof(number);
    inputs[1] = (struct tensor){.name = VIEW("s"), .dtype = DT_BYTES, .rank = 1, .shape = {ROWS}};
    inputs[1].data = words;
    inputs[1].bytes = (size_t)(at - words);
    in->request.inputs = inputs;
    in->request.n_inputs = 2;
    request_seal(&in->request);
    atomic_store(&w.model->max_batch, TAKES);
    return in;
}

static struct infer *submit_wide(void)
{
    struct infer *in = submit(make_wide());
    assert_int_equal(in->state, INFER_OUT);
    assert_int_equal(in->step.n, 3);
    return in;
}

// What the worker answers to a part: its own rows.
static void answer_part(struct infer *in, unsigned i, const char *named)
{
    struct ticket *t = &in->step.tickets[i];
    struct tensor out[2] = {t->request->inputs[0], t->request->inputs[1]};
    out[0].name = view_str(named);
    struct block *b = block_new(w.blocks, 8);
    struct answer *a = answer_new(b, out, 2, t->request->rows);
    assert_non_null(a);
    t->slice = (struct slice){.answer = a};
    t->error.status = STATUS_OK;
    t->batch_rows = 10 + i;
    t->queue_us = 100 * i;
    t->compute_us = 300 - 100 * i;
    t->batch_reason = (uint8_t)i;
    forget();
    flow_on_back(&w.flow, t, NOW, &w.fx);
}

static void fail_part(struct infer *in, unsigned i, enum status status)
{
    struct ticket *t = &in->step.tickets[i];
    t->error = *FAILED(status, "so it says");
    forget();
    flow_on_back(&w.flow, t, NOW, &w.fx);
}

static void echo_part(struct infer *in, unsigned i)
{
    forget();
    flow_on_echo(&w.flow, &in->step.tickets[i], NOW, &w.fx);
}

static void each_part_has_its_rows(void **state)
{
    (void)state;
    struct infer *in = submit_wide();
    assert_int_equal(count(FX_POST, NULL), 3);
    assert_int_equal(atomic_load(&w.model->room_rows), ROWS);
    assert_int_equal(atomic_load(&w.model->room_bytes), in->request.bytes);
    static const uint32_t rows[] = {4, 4, 1};
    uint32_t row = 0;
    for (unsigned i = 0; i < 3; i++) {
        const struct ticket *t = &in->step.tickets[i];
        const struct infer_request *r = t->request;
        assert_int_equal(r->rows, rows[i]);
        assert_int_equal(r->inputs[0].shape[0], rows[i]);
        assert_int_equal(r->inputs[0].bytes, 16 * rows[i]);
        assert_int_equal(load_u64(r->inputs[0].data), row);
        assert_int_equal(r->inputs[1].shape[0], rows[i]);
        assert_true(tensor_bytes_check(r->inputs[1].data, r->inputs[1].bytes, rows[i]));
        assert_int_equal(r->bytes, r->inputs[0].bytes + r->inputs[1].bytes);
        assert_true(hash128_eq(t->key, in->step.tickets[0].key)); // they may go together
        assert_ptr_equal(t->to.model, w.model);
        assert_int_equal(t->deadline_us, in->deadline_us);
        row += rows[i];
    }
    for (unsigned i = 0; i < 3; i++)
        answer_part(in, i, "y");
    block_unref(in->step.tickets[0].slice.answer->block);
    block_unref(in->step.tickets[1].slice.answer->block);
    block_unref(in->step.tickets[2].slice.answer->block);
}

// In whatever order they come home.
static void they_are_put_together(void **state)
{
    (void)state;
    struct infer *in = submit_wide();
    answer_part(in, 2, "y");
    assert_int_equal(atomic_load(&w.model->room_rows), ROWS - 1); // its room was its own
    answer_part(in, 0, "y");
    assert_int_equal(count(FX_SETTLE, NULL), 0);
    answer_part(in, 1, "y");
    assert_int_equal(count(FX_SETTLE, in), 1);
    assert_int_equal(count(FX_RELEASE, in), 1);
    assert_int_equal(in->error.status, STATUS_OK);
    const struct slice *all = &in->step.tickets[0].slice;
    struct tensor y = slice_whole(all, 0), s = slice_whole(all, 1);
    assert_int_equal(y.shape[0], ROWS);
    assert_int_equal(y.bytes, sizeof(number));
    assert_int_equal(s.shape[0], ROWS);
    assert_int_equal(s.bytes, inputs[1].bytes);
    assert_int_equal(in->step.batch_rows, 12);
    assert_int_equal(in->step.queue_us, 200);
    assert_int_equal(in->step.compute_us, 300);
    assert_int_equal(in->step.batch_reason, 2); // the first that came home
    for (const struct slice *part = all; part; part = part->next)
        block_unref(part->answer->block);
}

static void one_that_fails_fails_them_all(void **state)
{
    (void)state;
    struct infer *in = submit_wide();
    answer_part(in, 0, "y");
    fail_part(in, 1, STATUS_INTERNAL);
    assert_int_equal(count(FX_SETTLE, in), 1);
    assert_int_equal(in->error.status, STATUS_INTERNAL);
    assert_int_equal(in->state, INFER_ZOMBIE);
    assert_int_equal(count(FX_UNREF, NULL), 1); // the answer that nobody will have
    assert_ptr_equal(posted(MSG_CANCEL), &in->step.tickets[2].cancel);
    assert_int_equal(atomic_load(&w.model->room_rows), 1);
    echo_part(in, 2);
    assert_int_equal(count(FX_RELEASE, NULL), 0);
    answer_part(in, 2, "y"); // it crossed the cancel
    assert_int_equal(count(FX_UNREF, NULL), 1);
    assert_int_equal(count(FX_RELEASE, in), 1);
}

static void all_that_are_out_are_called_home(void **state)
{
    (void)state;
    struct infer *in = submit_wide();
    answer_part(in, 1, "y");
    forget();
    flow_on_gone(&w.flow, in, NOW, &w.fx);
    assert_int_equal(count(FX_SETTLE, in), 1);
    assert_int_equal(count(FX_POST, NULL), 2);
    assert_int_equal(count(FX_UNREF, NULL), 1);
    fail_part(in, 0, STATUS_CLIENT_GONE);
    fail_part(in, 2, STATUS_INTERNAL);
    assert_int_equal(count(FX_SETTLE, NULL), 0);
    echo_part(in, 2);
    assert_int_equal(count(FX_RELEASE, NULL), 0);
    echo_part(in, 0);
    assert_int_equal(count(FX_RELEASE, in), 1);
}

static void parts_that_do_not_agree_are_no_answer(void **state)
{
    (void)state;
    struct infer *in = submit_wide();
    answer_part(in, 0, "y");
    answer_part(in, 1, "z");
    answer_part(in, 2, "y");
    assert_int_equal(in->error.status, STATUS_BAD_ANSWER);
    assert_string_equal(in->error.text,
                        "the worker's output 0 differs between parts of the request, and they "
                        "cannot be put together");
    assert_int_equal(count(FX_UNREF, NULL), 4); // three answers and this text
    assert_int_equal(count(FX_RELEASE, in), 1);
}

static void what_it_takes_is_known_before(void **state)
{
    (void)state;
    struct infer *in = make_wide();
    assert_int_equal(step_memory(w.model, &make(TAKES)->request), 0);
    size_t want = step_memory(w.model, &in->request), before = w.arena.bytes;
    submit(in);
    assert_true(want >= 3 * sizeof(struct ticket));
    assert_true(w.arena.bytes <= before + want + 2 * 4096); // chunks
    fail_part(in, 0, STATUS_INTERNAL);
    for (unsigned i = 1; i < 3; i++) {
        echo_part(in, i);
        fail_part(in, i, STATUS_INTERNAL);
    }
}

static void why_it_is_not_split(void **state)
{
    (void)state;
    struct infer *in = make_wide();
    in->request.sequence = true;
    refused(submit(in), STATUS_BAD_REQUEST);
    assert_string_equal(in->error.text, "inputs: expected at most 4 rows for model m in a request "
                                        "that goes alone, got 9");
    in = make_wide();
    atomic_store(&w.model->rowless, true);
    refused(submit(in), STATUS_BAD_REQUEST);
    assert_string_equal(in->error.text, "inputs: expected at most 4 rows, for model m has an "
                                        "output without rows, got 9");
    atomic_store(&w.model->rowless, false);
    atomic_store(&w.model->queue_limit, 8);
    refused(submit(make_wide()), STATUS_TOO_LARGE);
    atomic_store(&w.model->queue_limit, 10);
    struct infer *first = submit(make(2));
    refused(submit(make_wide()), STATUS_UNAVAILABLE); // there would be room for eight
    assert_int_equal(atomic_load(&w.model->room_rows), 2);
    home(first, STATUS_INTERNAL);
}

// The n-th allocation fails, until none is left to fail.
static void without_memory(void **state)
{
    (void)state;
    unsigned failed = 0;
    struct infer *in;
    for (uint64_t n = 1;; n++) {
        w.n = 0;
        arena_deinit(&w.arena);
        arena_init(&w.arena, 64);
        memset(&w.in[0], 0, sizeof(w.in[0]));
        in = make_wide();
        forget();
        mem_fail_at(n);
        flow_submit(&w.flow, in, NOW, &w.fx);
        mem_fail_at(0);
        if (in->error.status == STATUS_OK)
            break;
        failed++;
        assert_int_equal(in->error.status, STATUS_UNAVAILABLE);
        assert_int_equal(atomic_load(&w.model->room_rows), 0);
    }
    assert_true(failed > 0);
    for (unsigned i = 0; i < 3; i++)
        fail_part(in, i, STATUS_INTERNAL);
    echo_part(in, 1);
    echo_part(in, 2);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_part_has_its_rows),
        TEST(they_are_put_together),
        TEST(one_that_fails_fails_them_all),
        TEST(all_that_are_out_are_called_home),
        TEST(parts_that_do_not_agree_are_no_answer),
        TEST(what_it_takes_is_known_before),
        TEST(why_it_is_not_split),
        TEST(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
