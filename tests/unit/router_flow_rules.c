/* router/flow: what is told of models that a request passed over. */
#include "tests/unit/router_origin.h"

static struct model *add(const char *name)
{
    static const struct model_rules of_model = {.queue_rows = 10, .queue_bytes = 1000};
    struct model *m = table_add(w.table, view_str(name), &of_model);
    atomic_store(&m->ready, 1);
    return m;
}

static const char *outcome_of(const struct model *m)
{
    const char *outcome = NULL;
    for (unsigned i = 0; i < w.fx.n; i++) {
        const struct fx *f = &w.fx.at[i];
        if (f->kind != FX_NOTE || f->note.kind != NOTE_STEP || f->note.model != m)
            continue;
        assert_null(outcome);
        outcome = chain_outcome((unsigned)f->note.a);
    }
    return outcome;
}

static struct ticket *lent_to(const struct model *m)
{
    struct ticket *t = NULL;
    for (unsigned i = 0; i < w.fx.n; i++)
        if (w.fx.at[i].kind == FX_POST && w.fx.at[i].msg->kind == MSG_LEND)
            t = container_of(w.fx.at[i].msg, struct ticket, lend);
    assert_true(!t || t->to.model == m);
    return t;
}

// Each of them once, and why; and that its rows were asked for, though its desk never sees them.
static void who_was_passed_over_is_told_why(void **state)
{
    (void)state;
    static const struct chain_link links[] = {{LINK_MODEL, VIEW("m")},
                                              {LINK_MODEL, VIEW("full")},
                                              {LINK_MODEL, VIEW("late")},
                                              {LINK_MODEL, VIEW("well")}};
    const struct chain c = {.links = links, .n = 4};
    struct model *full = add("full"), *late = add("late"), *well = add("well");
    atomic_store(&w.model->ready, 0);
    atomic_store(&full->share, 0);
    atomic_store(&late->row_us, 900000000);
    struct infer *in = make(2);
    in->step.to.model = w.model;
    in->chain = &c;
    submit(in);
    assert_string_equal(outcome_of(w.model), "not_ready");
    assert_string_equal(outcome_of(full), "share");
    assert_string_equal(outcome_of(late), "late");
    assert_null(outcome_of(well)); // it is asked
    assert_int_equal(atomic_load(&w.model->turned_rows), 2);
    assert_int_equal(atomic_load(&full->turned_rows), 2);
    assert_int_equal(atomic_load(&late->turned_rows), 2);
    assert_int_equal(atomic_load(&well->turned_rows), 0);
    assert_int_equal(atomic_load(&well->room_rows), 2);
    flow_on_gone(&w.flow, in, NOW, &w.fx);
    struct ticket *t = lent_to(well);
    t->error = (struct failure){.status = STATUS_CLIENT_GONE, .text = "gone"};
    flow_on_back(&w.flow, t, NOW, &w.fx);
    flow_on_echo(&w.flow, t, NOW, &w.fx);
    assert_int_equal(count(FX_RELEASE, in), 1);
}

// Who came home from so many lost workers may be what they died of: no other model is shown it. Who was there less often is.
static void who_lost_enough_workers_is_shown_to_no_other(void **state)
{
    (void)state;
    static const struct chain_link links[] = {{LINK_MODEL, VIEW("m")}, {LINK_MODEL, VIEW("well")}};
    const struct chain c = {.links = links, .n = 2};
    struct model *well = add("well");
    atomic_store(&w.model->ready, 1);
    for (uint8_t losses = 0; losses <= TICKET_LOSSES; losses++) {
        struct infer *in = make(1);
        in->step.to.model = w.model;
        in->chain = &c;
        submit(in);
        struct ticket *t = lent_to(w.model);
        t->losses = losses;
        t->error = (struct failure){.status = STATUS_WORKER_LOST, .text = "lost"};
        forget();
        flow_on_back(&w.flow, t, NOW, &w.fx);
        t = lent_to(well);
        assert_int_equal(t != NULL, losses < TICKET_LOSSES);
        if (t) {
            assert_int_equal(t->losses_before, losses);
            t->error = (struct failure){.status = STATUS_UNAVAILABLE, .text = "no"};
            flow_on_back(&w.flow, t, NOW, &w.fx);
        }
        assert_int_equal(in->error.status, t ? STATUS_UNAVAILABLE : STATUS_POISON);
        assert_int_equal(count(FX_RELEASE, in), 1);
    }
}

// The version that a client asks for is one of the model's: another model has others.
static void a_version_is_asked_of_the_model_alone(void **state)
{
    (void)state;
    static const struct chain_link links[] = {{LINK_MODEL, VIEW("m")}, {LINK_MODEL, VIEW("well")}};
    const struct chain c = {.links = links, .n = 2};
    struct model *well = add("well");
    atomic_store(&w.model->ready, 1);
    struct infer *in = make(1);
    in->step.to.model = w.model;
    in->request.version = VIEW("3");
    in->chain = &c;
    submit(in);
    struct ticket *t = lent_to(w.model);
    assert_true(view_is(t->to.version, "3"));
    t->error = (struct failure){.status = STATUS_UNAVAILABLE, .text = "no"};
    forget();
    flow_on_back(&w.flow, t, NOW, &w.fx);
    t = lent_to(well);
    assert_int_equal(t->to.version.n, 0);
    t->error = (struct failure){.status = STATUS_UNAVAILABLE, .text = "no"};
    flow_on_back(&w.flow, t, NOW, &w.fx);
    assert_int_equal(count(FX_RELEASE, in), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(who_was_passed_over_is_told_why, setup, teardown),
        cmocka_unit_test_setup_teardown(who_lost_enough_workers_is_shown_to_no_other, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_version_is_asked_of_the_model_alone, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
