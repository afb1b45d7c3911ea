/* Chains: which step is next (a pure function), and a flow that goes along one: what fails, what takes too long, what
 * stands no chance, what is written down. */
#include "tests/unit/router_origin.h"

#include "infer/default_answer.h"
#include <stdio.h>

static const struct chain_link links[] = {{LINK_MODEL, VIEW("m")},
                                          {LINK_MODEL, VIEW("n")},
                                          {LINK_MODEL, VIEW("o")},
                                          {LINK_DEFAULT, VIEW("default")}};
#define READY ((struct chance){.known = true, .ready = true, .share = CHAIN_LOTS})

// ---- the next one ------------------------------------------------------------------------------------

static unsigned next(const struct chain *c, const struct chance *at, struct chain_walk *walk)
{
    return chain_next(c, at, walk, NOW, 1000000);
}

static void in_order_each_once(void **state)
{
    (void)state;
    const struct chain c = {.links = links, .n = 4};
    const struct chance at[4] = {READY, READY, READY, {0}};
    struct chain_walk walk = {0};
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(next(&c, at, &walk), i);
        assert_int_equal(chain_has_more(&c, &walk, i), i < 3);
        chain_begin(&walk, i, NOW);
    }
    assert_int_equal(next(&c, at, &walk), CHAIN_END);
    assert_int_equal(walk.n, 4);
}

static void what_does_not_fit_is_passed_over(void **state)
{
    (void)state;
    const _Atomic uint32_t unfit = 1u << 1 | 1u << 3;
    const struct chain c = {.links = links, .n = 4, .unfit = &unfit};
    const struct chance at[4] = {READY, READY, READY, {0}};
    struct chain_walk walk = {0};
    chain_begin(&walk, next(&c, at, &walk), NOW);
    assert_int_equal(next(&c, at, &walk), 2);
    assert_int_equal(walk.attempt[1].passed, PASSED_UNFIT);
    chain_begin(&walk, 2, NOW);
    assert_int_equal(next(&c, at, &walk), CHAIN_END);
}

static void what_stands_no_chance_is_passed_over(void **state)
{
    (void)state;
    const struct chain c = {.links = links, .n = 4};
    struct chance at[4] = {READY, READY, {0}, {0}};
    struct chain_walk walk = {0};
    at[0].ready = false;
    at[1].wait_us = 999000;
    at[1].row_us = 1001; // a microsecond too many
    assert_int_equal(next(&c, at, &walk), 3);
    assert_int_equal(walk.n, 3);
    assert_int_equal(walk.attempt[0].passed, PASSED_NOT_READY);
    assert_int_equal(walk.attempt[1].passed, PASSED_LATE);
    assert_int_equal(walk.attempt[2].passed, PASSED_UNKNOWN);
    struct chain_walk other = {0};
    at[0].ready = true;
    at[0].wait_us = 999000;
    at[0].row_us = 1000; // just in time
    assert_int_equal(next(&c, at, &other), 0);
}

// 30 % of the lots for the first one, half of the rest for the second, and the rest for the third: which takes less of
// them than there are.
static void shares_are_drawn_one_after_the_other(void **state)
{
    (void)state;
    const struct chain c = {.links = links, .n = 3};
    struct chance at[4] = {READY, READY, READY, {0}};
    unsigned got[3] = {0}, after_all = 0;
    at[0].share = CHAIN_LOTS * 3 / 10;
    at[1].share = CHAIN_LOTS / 2;
    at[2].share = 0;
    for (uint32_t lot = 0; lot < CHAIN_LOTS; lot++) {
        struct chain_walk walk = {.lot = lot};
        unsigned i = next(&c, at, &walk);
        assert_true(i < 3);
        got[i]++;
        after_all += walk.n == 3; // beyond all shares: the first of them has it after all
    }
    assert_in_range(got[0] - after_all, CHAIN_LOTS * 3 / 10 - 2, CHAIN_LOTS * 3 / 10 + 2);
    assert_in_range(got[1], CHAIN_LOTS * 35 / 100 - 3, CHAIN_LOTS * 35 / 100 + 3);
    assert_int_equal(got[2], 0);
    assert_int_equal(got[0] + got[1], CHAIN_LOTS);
}

static void the_end_has_a_second_look(void **state)
{
    (void)state;
    const struct chain c = {.links = links, .n = 3};
    struct chance at[4] = {READY, READY, READY, {0}};
    struct chain_walk walk = {.lot = CHAIN_LOTS - 1};
    at[0].ready = false;
    at[1].share = 1;
    assert_int_equal(next(&c, at, &walk), 2);
    chain_begin(&walk, 2, NOW);
    assert_int_equal(next(&c, at, &walk), 1); // it is ready: better than to wait for the first
    chain_begin(&walk, 1, NOW);
    assert_int_equal(next(&c, at, &walk), 0);
    chain_begin(&walk, 0, NOW);
    assert_int_equal(next(&c, at, &walk), CHAIN_END);
}

static void who_was_let_go_is_asked_again_at_the_end(void **state)
{
    (void)state;
    const struct chain c = {.links = links, .n = 2};
    struct chance at[4] = {READY, READY, {0}, {0}};
    struct chain_walk walk = {0};
    chain_begin(&walk, next(&c, at, &walk), NOW);
    chain_spare(&walk);
    at[0].ready = at[1].ready = false;
    assert_int_equal(next(&c, at, &walk), 0);
    assert_int_equal(walk.attempt[1].passed, PASSED_NOT_READY); // the second one, on the way
    chain_begin(&walk, 0, NOW);
    assert_int_equal(next(&c, at, &walk), 1);
}

static void poison_is_for_no_other_model(void **state)
{
    (void)state;
    const struct chain c = {.links = links, .n = 4};
    const struct chance at[4] = {READY, READY, READY, {0}};
    struct chain_walk walk = {0};
    chain_begin(&walk, 0, NOW);
    walk.poisonous = true;
    assert_true(chain_goes_on(&c, &walk, 0, STATUS_POISON));
    assert_int_equal(next(&c, at, &walk), 3);
    assert_int_equal(walk.attempt[1].passed, PASSED_POISON);
    const struct chain models = {.links = links, .n = 3};
    struct chain_walk other = {.poisonous = true};
    assert_int_equal(next(&models, at, &other), CHAIN_END);
    assert_int_equal(chain_verdict(&other, false), STATUS_POISON);
}

// While most of the model is lost what is kept is given first; else in its place.
static void what_is_kept_goes_first_when_most_is_lost(void **state)
{
    (void)state;
    static const struct chain_link kept[] = {
        {LINK_MODEL, VIEW("m")}, {LINK_MODEL, VIEW("n")}, {LINK_CACHED, VIEW("cached")}};
    const struct chain c = {.links = kept, .n = 3};
    struct chance at[3] = {READY, READY, {0}};
    struct chain_walk walk = {0}, other = {0};
    at[0].level = 2;
    assert_int_equal(next(&c, at, &other), 0);
    at[0].level = 3;
    assert_int_equal(next(&c, at, &walk), 2);
    chain_begin(&walk, 2, NOW);
    assert_true(chain_goes_on(&c, &walk, 2, STATUS_UNAVAILABLE));
    assert_int_equal(next(&c, at, &walk), 0);
}

static void whose_verdict_counts(void **state)
{
    (void)state;
    const struct chain c = {.links = links, .n = 4};
    const struct chain_walk walk = {0};
    assert_false(chain_goes_on(&c, &walk, 0, STATUS_BAD_REQUEST)); // the request's fault
    assert_true(chain_goes_on(&c, &walk, 1, STATUS_BAD_REQUEST));  // perhaps it is another model
    assert_false(chain_goes_on(&c, &walk, 1, STATUS_CLIENT_GONE));
    static const enum status on[] = {STATUS_DEADLINE, STATUS_UNAVAILABLE, STATUS_WORKER_LOST,
                                     STATUS_INTERNAL, STATUS_BAD_ANSWER};
    for (unsigned i = 0; i < sizeof(on) / sizeof(on[0]); i++)
        assert_true(chain_goes_on(&c, &walk, 0, on[i]));
}

static void time_is_left_for_those_behind(void **state)
{
    (void)state;
    struct chain c = {.links = links, .n = 3};
    struct chance at[4] = {READY, READY, READY, {0}};
    struct chain_walk walk = {0};
    chain_begin(&walk, 0, NOW);
    at[1].row_us = 10000;
    at[2].wait_us = 5000;
    assert_int_equal(chain_patience(&c, at, &walk, 0, 160000), 160000 - 10000 - 15000);
    at[2].ready = false; // nothing is left for it
    assert_int_equal(chain_patience(&c, at, &walk, 0, 160000), 160000 - 10000 - 10000);
    assert_int_equal(chain_patience(&c, at, &walk, 0, 60000000), CHAIN_PATIENCE_US);
    at[0].row_us = 500000; // a heavy model
    assert_int_equal(chain_patience(&c, at, &walk, 0, 60000000), 16 * 500000);
    c.step_timeout_us = 7000;
    assert_int_equal(chain_patience(&c, at, &walk, 0, 60000000), 7000);
    assert_int_equal(chain_patience(&c, at, &walk, 0, 1000), 500); // less than the next one needs
    chain_begin(&walk, 1, NOW);
    chain_begin(&walk, 2, NOW);
    assert_int_equal(chain_patience(&c, at, &walk, 2, 60000000), 60000000); // the last
}

static void it_is_told(void **state)
{
    (void)state;
    const struct chain c = {.links = links, .n = 4};
    struct chain_walk walk = {.n = 4};
    char out[CHAIN_TOLD], why[200];
    walk.attempt[0] = (struct attempt){.link = 0, .passed = PASSED_NOT_READY};
    walk.attempt[1] =
        (struct attempt){.link = 1,
                         .why = {.status = STATUS_DEADLINE, .text = "it took too long"},
                         .took_us = 199600};
    walk.attempt[2] = (struct attempt){
        .link = 2, .why = {.status = STATUS_BAD_ANSWER, .text = "no"}, .took_us = 400};
    walk.attempt[3] = (struct attempt){.link = 3, .took_us = 1500};
    size_t n = chain_tell(&c, &walk, out);
    assert_string_equal(out,
                        "m;not_ready, n;timeout;dur=200, o;bad_answer;dur=0, default;ok;dur=2");
    assert_int_equal(n, strlen(out));
    walk.n = 3;
    chain_reasons(&c, &walk, why, sizeof(why));
    assert_string_equal(why, "m: no replica of the model is ready; n: it took too long; o: no");
    chain_reasons(&c, &walk, why, 20);
    assert_string_equal(why, "m: no replica of th");
    assert_int_equal(chain_verdict(&walk, false), STATUS_UNAVAILABLE);
    assert_int_equal(chain_verdict(&walk, true), STATUS_DEADLINE);
    walk.attempt[0].passed = PASSED_LATE;
    walk.n = 2;
    assert_int_equal(chain_verdict(&walk, false), STATUS_DEADLINE); // all of them were too slow
}

static void what_does_not_fit_is_not_told(void **state)
{
    (void)state;
    char name[101];
    memset(name, 'x', 100);
    name[100] = 0;
    const struct chain_link link = {LINK_MODEL, {name, 100}};
    const struct chain c = {.links = &link, .n = 1};
    struct chain_walk walk = {.n = 20};
    char out[CHAIN_TOLD];
    size_t n = chain_tell(&c, &walk, out);
    assert_int_equal(n, 9 * (100 + strlen(";ok;dur=0")) + 8 * 2); // whole ones
}

// ---- along a chain -----------------------------------------------------------------------------------

static const struct chain three = {.links = links, .n = 3, .step_timeout_us = 200000};
static struct model *model_n, *model_o;

static int setup_chain(void **state)
{
    static const struct model_rules of_model = {.queue_rows = 10, .queue_bytes = 1000};
    setup(state);
    model_n = table_add(w.table, VIEW("n"), &of_model);
    model_o = table_add(w.table, VIEW("o"), &of_model);
    atomic_store(&w.model->ready, 1);
    atomic_store(&model_n->ready, 1);
    atomic_store(&model_o->ready, 1);
    return 0;
}

static int teardown_chain(void **state)
{
    assert_int_equal(atomic_load(&model_n->room_rows) + atomic_load(&model_o->room_rows), 0);
    return teardown(state);
}

static struct infer *ask(const struct chain *c)
{
    struct infer *in = make(2);
    in->step.to.model = w.model;
    in->chain = c;
    return submit(in);
}

// The only ticket that is lent in these effects.
static struct ticket *lent(const struct infer *in, const struct model *m)
{
    struct ticket *t = NULL;
    for (unsigned i = 0; i < w.fx.n; i++) {
        if (w.fx.at[i].kind != FX_POST || w.fx.at[i].msg->kind != MSG_LEND)
            continue;
        assert_null(t);
        t = container_of(w.fx.at[i].msg, struct ticket, lend);
        assert_int_equal(t->lend.to, m->home);
    }
    assert_non_null(t);
    assert_ptr_equal(t->to.model, m);
    assert_true(view_eq(t->to.name, m->name));
    assert_ptr_equal(t->step->infer, in);
    return t;
}

static void comes_back(struct ticket *t, enum status status, uint64_t now_us)
{
    forget();
    t->error = (struct failure){.status = status, .text = "no"};
    flow_on_back(&w.flow, t, now_us, &w.fx);
}

static unsigned used(const struct model *m)
{
    unsigned n = 0;
    for (unsigned i = 0; i < w.fx.n; i++)
        n += w.fx.at[i].kind == FX_USE && w.fx.at[i].model == m;
    return n;
}

static void who_fails_is_followed_by_the_next(void **state)
{
    (void)state;
    struct infer *in = ask(&three);
    struct ticket *first = lent(in, w.model);
    assert_int_equal(used(w.model), 0); // the caller has seen to that
    assert_true(first->elsewhere);
    assert_int_equal(first->deadline_us, NOW + 200000);
    comes_back(first, STATUS_BAD_ANSWER, NOW + 5000);
    struct ticket *second = lent(in, model_n);
    assert_int_equal(used(model_n), 1);
    assert_int_equal(count(FX_SETTLE, NULL), 0);
    assert_int_equal(atomic_load(&w.model->room_rows), 0);
    assert_int_equal(second->deadline_us, NOW + 205000);
    struct answer a = {.block = block_new(w.blocks, 1)};
    second->slice.answer = &a;
    comes_back(second, STATUS_OK, NOW + 9000);
    assert_int_equal(count(FX_SETTLE, in), 1);
    assert_int_equal(count(FX_RELEASE, in), 1);
    assert_int_equal(in->error.status, STATUS_OK);
    assert_ptr_equal(in->answer, &second->slice);
    assert_ptr_equal(in->at, second->step);
    assert_int_equal(in->source, SOURCE_MODEL);
    assert_int_equal(in->walk->n, 2);
    assert_int_equal(in->walk->attempt[0].took_us, 5000);
    assert_int_equal(in->walk->attempt[1].took_us, 4000);
    block_unref(a.block);
}

// A step that asks what is kept: for the model's own, of its key, and it takes no room.
static void what_is_kept_is_asked_for(void **state)
{
    (void)state;
    static const struct chain_link kept[] = {{LINK_MODEL, VIEW("m")},
                                             {LINK_CACHED, VIEW("cached")}};
    const struct chain c = {.links = kept, .n = 2};
    struct infer *in = make(2);
    in->step.to.model = w.model;
    in->step.cache = CACHE_USE;
    in->step.cache_key = &in->cache_key;
    in->chain = &c;
    submit(in);
    comes_back(lent(in, w.model), STATUS_UNAVAILABLE, NOW);
    atomic_store(&w.model->room_rows, 10); // the queue is full
    struct ticket *t = lent(in, w.model);
    assert_int_equal(t->cache, CACHE_ONLY_STALE);
    assert_ptr_equal(t->cache_key, &in->cache_key);
    assert_int_equal(t->charged_rows, 0);
    atomic_store(&w.model->room_rows, 0);
    struct answer a = {.block = block_new(w.blocks, 1)};
    t->slice.answer = &a;
    t->source = SOURCE_STALE;
    comes_back(t, STATUS_OK, NOW);
    assert_int_equal(in->source, SOURCE_STALE);
    block_unref(a.block);
    struct infer *none = make(2); // without a key nothing can be kept
    none->step.to.model = w.model;
    none->chain = &c;
    submit(none);
    comes_back(lent(none, w.model), STATUS_UNAVAILABLE, NOW);
    assert_int_equal(none->error.status, STATUS_UNAVAILABLE);
    assert_non_null(strstr(none->error.text, "cached: no answer to this request is kept"));
}

static void who_takes_too_long_is_called_home_and_not_waited_for(void **state)
{
    (void)state;
    struct infer *in = ask(&three);
    struct ticket *first = lent(in, w.model);
    forget();
    flow_on_wake(&w.flow, NOW + 210000, &w.fx);
    struct ticket *second = lent(in, model_n);
    assert_true(first->called);
    struct answer a = {.block = block_new(w.blocks, 1)}, late = {.block = block_new(w.blocks, 1)};
    second->slice.answer = &a;
    comes_back(second, STATUS_OK, NOW + 220000);
    assert_int_equal(count(FX_SETTLE, in), 1);
    assert_int_equal(count(FX_RELEASE, in), 0); // the first one is still out
    assert_int_equal(in->state, INFER_ZOMBIE);
    first->slice.answer = &late;
    comes_back(first, STATUS_OK, NOW + 230000); // it crosses its cancel
    assert_int_equal(count(FX_UNREF, NULL), 1);
    assert_int_equal(count(FX_RELEASE, in), 0);
    forget();
    flow_on_echo(&w.flow, first, NOW + 230000, &w.fx);
    assert_int_equal(count(FX_RELEASE, in), 1);
    block_unref(a.block);
}

static void what_comes_home_of_an_earlier_step_changes_nothing(void **state)
{
    (void)state;
    struct infer *in = ask(&three);
    struct ticket *first = lent(in, w.model);
    forget();
    flow_on_wake(&w.flow, NOW + 210000, &w.fx);
    struct ticket *second = lent(in, model_n);
    comes_back(first, STATUS_INTERNAL, NOW + 211000);
    flow_on_echo(&w.flow, first, NOW + 211000, &w.fx);
    assert_int_equal(w.fx.n, 0);
    assert_int_equal(in->state, INFER_OUT);
    comes_back(second, STATUS_UNAVAILABLE, NOW + 212000);
    comes_back(lent(in, model_o), STATUS_UNAVAILABLE, NOW + 213000);
    assert_int_equal(in->error.status, STATUS_UNAVAILABLE);
    assert_string_equal(in->error.text,
                        "nothing of its chain answered: m: it took too long; n: no; o: no");
    comes_back_later(in, true);
    assert_int_equal(count(FX_RELEASE, in), 1);
}

static void a_full_queue_is_passed_by(void **state)
{
    (void)state;
    atomic_store(&w.model->room_rows, 9);
    struct infer *in = ask(&three);
    struct ticket *t = lent(in, model_n);
    atomic_store(&w.model->room_rows, 0);
    assert_int_equal(in->walk->attempt[0].why.status, STATUS_UNAVAILABLE);
    comes_back(t, STATUS_BAD_REQUEST, NOW); // what another model thinks of it
    comes_back(lent(in, model_o), STATUS_UNAVAILABLE, NOW);
    assert_int_equal(count(FX_SETTLE, in), 1);
}

// Whether a request can be split is asked of the model of its step.
static void a_step_is_split_as_its_model_takes_it(void **state)
{
    (void)state;
    struct infer *in = ask(&three);
    atomic_store(&model_n->max_batch, 1);
    atomic_store(&model_n->rowless, true);
    comes_back(lent(in, w.model), STATUS_UNAVAILABLE, NOW);
    struct ticket *t = lent(in, model_o);
    assert_int_equal(in->walk->attempt[1].why.status, STATUS_BAD_REQUEST);
    assert_non_null(strstr(in->walk->attempt[1].why.text, "for model n has an output"));
    comes_back(t, STATUS_UNAVAILABLE, NOW);
}

static void what_the_model_itself_finds_wrong_ends_it(void **state)
{
    (void)state;
    struct infer *in = ask(&three);
    comes_back(lent(in, w.model), STATUS_BAD_REQUEST, NOW);
    assert_int_equal(in->error.status, STATUS_BAD_REQUEST);
    assert_string_equal(in->error.text, "no");
    assert_int_equal(count(FX_RELEASE, in), 1);
}

static void deaths_are_told_to_the_next(void **state)
{
    (void)state;
    struct infer *in = ask(&three);
    struct ticket *first = lent(in, w.model);
    first->losses = 1;
    first->deaths = 1;
    comes_back(first, STATUS_WORKER_LOST, NOW);
    struct ticket *second = lent(in, model_n);
    assert_int_equal(second->losses_before, 1);
    assert_int_equal(second->deaths_before, 1);
    second->losses = 2;
    second->deaths = 2;
    comes_back(second, STATUS_POISON, NOW);
    assert_int_equal(count(FX_POST, NULL), 0);
    assert_int_equal(in->error.status, STATUS_POISON);
}

static void who_wants_no_chain_has_none(void **state)
{
    (void)state;
    struct infer *in = make(1);
    in->step.to.model = w.model;
    in->chain = &three;
    in->request.no_chain = true;
    submit(in);
    assert_null(in->walk);
    assert_false(lent(in, w.model)->elsewhere);
    comes_back(&in->step.first, STATUS_UNAVAILABLE, NOW);
    assert_string_equal(in->error.text, "no");
    struct infer *step = make(1); // of a sequence: its state is there and nowhere else
    step->step.to.model = w.model;
    step->chain = &three;
    step->request.sequence_id = 7;
    submit(step);
    assert_null(step->walk);
    comes_back(&step->step.first, STATUS_UNAVAILABLE, NOW);
}

static void the_deadline_ends_it_wherever_it_is(void **state)
{
    (void)state;
    struct infer *in = make(1);
    in->step.to.model = w.model;
    in->chain = &three;
    in->request.timeout_us = 300000;
    submit(in);
    struct ticket *first = lent(in, w.model);
    forget();
    flow_on_wake(&w.flow, NOW + 210000, &w.fx);
    struct ticket *second = lent(in, model_n);
    forget();
    flow_on_wake(&w.flow, NOW + 310000, &w.fx);
    assert_int_equal(in->error.status, STATUS_DEADLINE);
    assert_string_equal(in->error.text,
                        "nothing of its chain answered: m: it took too long; n: it took too long");
    struct ticket *out[] = {first, second};
    for (unsigned i = 0; i < 2; i++) {
        comes_back(out[i], STATUS_CLIENT_GONE, NOW + 310000);
        flow_on_echo(&w.flow, out[i], NOW + 310000, &w.fx);
    }
    assert_int_equal(count(FX_RELEASE, in), 1);
}

static void a_client_that_leaves_ends_it(void **state)
{
    (void)state;
    struct infer *in = ask(&three);
    struct ticket *t = lent(in, w.model);
    forget();
    flow_on_gone(&w.flow, in, NOW + 1000, &w.fx);
    assert_int_equal(in->error.status, STATUS_CLIENT_GONE);
    assert_int_equal(in->walk->attempt[0].why.status, STATUS_CLIENT_GONE);
    comes_back(t, STATUS_CLIENT_GONE, NOW + 1000);
    flow_on_echo(&w.flow, t, NOW + 1000, &w.fx);
    assert_int_equal(count(FX_RELEASE, in), 1);
}

// Nobody is ready: the last hope is that the first one comes back, and there it waits.
static void with_nobody_ready_it_waits_for_the_model(void **state)
{
    (void)state;
    atomic_store(&w.model->ready, 0);
    atomic_store(&model_n->ready, 0);
    atomic_store(&model_o->ready, 0);
    struct infer *in = ask(&three);
    struct ticket *t = lent(in, w.model);
    assert_false(t->elsewhere);
    assert_ptr_equal(t, &in->step.first);
    assert_int_equal(t->deadline_us, in->deadline_us);
    assert_int_equal(in->walk->n, 4);
    comes_back(t, STATUS_UNAVAILABLE, NOW);
    comes_back(lent(in, model_n), STATUS_UNAVAILABLE, NOW);
    comes_back(lent(in, model_o), STATUS_UNAVAILABLE, NOW);
    assert_int_equal(count(FX_SETTLE, in), 1);
}

// At the deadline it is over, however quick the next one might be; a microsecond before it is asked.
static void at_the_deadline_nothing_more_is_tried(void **state)
{
    (void)state;
    for (uint64_t before_us = 0; before_us < 2; before_us++) {
        struct infer *in = ask(&three);
        comes_back(lent(in, w.model), STATUS_INTERNAL, NOW + 1000000 - before_us);
        if (before_us)
            comes_back(lent(in, model_n), STATUS_INTERNAL, NOW + 1000000);
        assert_int_equal(count(FX_SETTLE, in), 1);
        assert_int_equal(in->error.status, STATUS_DEADLINE);
        assert_int_equal(in->walk->n, 1 + before_us);
        forget();
    }
}

// A model's queue is measured by the time that is left, to the microsecond.
static void who_has_no_time_for_a_queue_passes_it_by(void **state)
{
    (void)state;
    for (uint32_t over_us = 0; over_us < 2; over_us++) {
        struct infer *in = make(2);
        in->step.to.model = w.model;
        in->chain = &three;
        in->arrived_us = NOW - 300000; // 700 ms are left
        atomic_store(&w.model->row_us, 700000 + over_us);
        forget();
        submit(in);
        comes_back(lent(in, over_us ? model_n : w.model), STATUS_BAD_REQUEST, NOW + 10);
        if (over_us) { // of another model
            comes_back(lent(in, model_o), STATUS_BAD_REQUEST, NOW + 10);
        }
        assert_int_equal(count(FX_SETTLE, in), 1);
        assert_int_equal(in->walk->n, over_us ? 3 : 1);
        assert_int_equal(in->walk->attempt[0].passed, over_us ? PASSED_LATE : PASSED_NOT);
    }
}

static void calls_home_are_bounded(void **state)
{
    (void)state;
    static struct chain_link many[CHAIN_LINKS] = {{LINK_MODEL, VIEW("m")}};
    static char names[CHAIN_LINKS][8];
    const struct model_rules of_model = {.queue_rows = 10};
    for (unsigned i = 1; i < CHAIN_LINKS; i++) {
        snprintf(names[i], sizeof(names[i]), "x%u", i);
        many[i] = (struct chain_link){LINK_MODEL, view_str(names[i])};
        atomic_store(&table_add(w.table, many[i].name, &of_model)->ready, 1);
    }
    const struct chain c = {.links = many, .n = CHAIN_LINKS, .step_timeout_us = 1000};
    struct infer *in = ask(&c);
    struct ticket *out[FLOW_CALLED + 1];
    unsigned n = 0;
    for (uint64_t at = NOW;; at += 4000) {
        struct ticket *t = NULL;
        for (unsigned i = 0; i < w.fx.n; i++)
            if (w.fx.at[i].kind == FX_POST && w.fx.at[i].msg->kind == MSG_LEND)
                t = container_of(w.fx.at[i].msg, struct ticket, lend);
        if (!t)
            break;
        assert_true(n <= FLOW_CALLED);
        out[n++] = t;
        forget();
        flow_on_wake(&w.flow, at + 4000, &w.fx);
    }
    assert_int_equal(n, FLOW_CALLED);
    assert_int_equal(count(FX_SETTLE, in), 1);
    assert_int_equal(in->error.status, STATUS_UNAVAILABLE);
    for (unsigned i = 0; i < n; i++) {
        comes_back(out[i], STATUS_CLIENT_GONE, NOW + 90000);
        flow_on_echo(&w.flow, out[i], NOW + 90000, &w.fx);
    }
    assert_int_equal(count(FX_RELEASE, in), 1);
}

// ---- what is written down ----------------------------------------------------------------------------

static void the_written_answer_is_given_by_the_row(void **state)
{
    (void)state;
    struct error e;
    struct default_answer *d = default_answer_read(
        VIEW("{\"model_name\":\"any\",\"outputs\":[{\"name\":\"p\",\"datatype\":\"FP32\","
             "\"shape\":[1,2],\"data\":[0.5,2]},{\"name\":\"s\",\"datatype\":\"BYTES\","
             "\"shape\":[1],\"data\":[\"ab\"]}]}"),
        &e);
    assert_non_null(d);
    const struct chain c = {.links = links, .n = 4, .answer = d};
    atomic_store(&w.model->ready, 0);
    atomic_store(&model_n->ready, 0);
    atomic_store(&model_o->ready, 0);
    struct infer *in = ask(&c);
    assert_int_equal(count(FX_POST, NULL), 0);
    assert_int_equal(count(FX_SETTLE, in), 1);
    assert_int_equal(in->error.status, STATUS_OK);
    assert_int_equal(in->source, SOURCE_DEFAULT);
    const struct answer *a = in->answer->answer;
    assert_int_equal(a->n_outputs, 2);
    assert_int_equal(a->outputs[0].shape[0], 2);
    assert_int_equal(a->outputs[0].bytes, 16);
    assert_float_equal(load_f32(a->outputs[0].data + 12), 2, 0);
    assert_int_equal(a->outputs[1].bytes, 12);
    assert_memory_equal(a->outputs[1].data + 6, "\2\0\0\0ab", 6);
    block_unref(a->block);
    // What it has not got it cannot give.
    struct requested_output wants = {.name = VIEW("q")};
    struct infer *other = make(1);
    other->step.to.model = w.model;
    other->chain = &c;
    other->request.outputs = &wants;
    other->request.n_outputs = 1;
    submit(other);
    for (unsigned i = 0; i < 3; i++) // it has a second look at the models, and waits
        comes_back(&other->at->first, STATUS_UNAVAILABLE, NOW);
    assert_int_equal(other->error.status, STATUS_UNAVAILABLE);
    assert_non_null(strstr(other->error.text, "default: it has no output q"));
    default_answer_free(d);
}

static void written_answers_that_are_none(void **state)
{
    (void)state;
    static const struct {
        const char *json, *why;
    } rows[] = {
        {"", "body: "},
        {"{\"outputs\":[]}", "outputs: expected at least one"},
        {"{}", "outputs: missing"},
        {"{\"inputs\":[],\"outputs\":[]}", "inputs: an answer has none"},
        {"{\"outputs\":[{\"name\":\"p\",\"datatype\":\"FP32\",\"shape\":[1,2],\"data\":[0.5]}]}",
         "outputs[0].data: expected 2 FP32 values for shape [1,2], got 1"},
        {"{\"outputs\":[{\"name\":\"p\",\"datatype\":\"FP32\",\"shape\":[1]}]}",
         "outputs[0].data: missing"},
        {"{\"outputs\":[{\"name\":\"p\",\"datatype\":\"FP32\",\"shape\":[1],\"data\":[1]},"
         "{\"name\":\"p\",\"datatype\":\"FP32\",\"shape\":[1],\"data\":[1]}]}",
         "outputs[1].name: same name as outputs[0]"},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct error e;
        assert_null(default_answer_read(view_str(rows[i].json), &e));
        assert_memory_equal(e.text, rows[i].why, strlen(rows[i].why));
    }
}

int main(void)
{
#define WITH(t) cmocka_unit_test_setup_teardown(t, setup_chain, teardown_chain)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_order_each_once),
        cmocka_unit_test(what_does_not_fit_is_passed_over),
        cmocka_unit_test(what_stands_no_chance_is_passed_over),
        cmocka_unit_test(shares_are_drawn_one_after_the_other),
        cmocka_unit_test(the_end_has_a_second_look),
        cmocka_unit_test(who_was_let_go_is_asked_again_at_the_end),
        cmocka_unit_test(poison_is_for_no_other_model),
        cmocka_unit_test(what_is_kept_goes_first_when_most_is_lost),
        cmocka_unit_test(whose_verdict_counts),
        cmocka_unit_test(time_is_left_for_those_behind),
        cmocka_unit_test(it_is_told),
        cmocka_unit_test(what_does_not_fit_is_not_told),
        WITH(who_fails_is_followed_by_the_next),
        WITH(what_is_kept_is_asked_for),
        WITH(who_takes_too_long_is_called_home_and_not_waited_for),
        WITH(what_comes_home_of_an_earlier_step_changes_nothing),
        WITH(a_full_queue_is_passed_by),
        WITH(a_step_is_split_as_its_model_takes_it),
        WITH(what_the_model_itself_finds_wrong_ends_it),
        WITH(deaths_are_told_to_the_next),
        WITH(who_wants_no_chain_has_none),
        WITH(the_deadline_ends_it_wherever_it_is),
        WITH(a_client_that_leaves_ends_it),
        WITH(with_nobody_ready_it_waits_for_the_model),
        WITH(at_the_deadline_nothing_more_is_tried),
        WITH(who_has_no_time_for_a_queue_passes_it_by),
        WITH(calls_home_are_bounded),
        WITH(the_written_answer_is_given_by_the_row),
        cmocka_unit_test(written_answers_that_are_none),
    };
    return cmocka_run_group_tests_name("router_chain", tests, NULL, NULL);
}
