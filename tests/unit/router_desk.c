/* router/desk: a worker that hangs is suspected, whichever comes first: the desk's own timer, or the cancels
 * of origins whose clocks were quicker. All else of it: tests/sim. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "router/desk.h"
#include <stdlib.h>

#define START_US 1000000u
#define DEADLINE_US 2000000u
#define TICKETS 2

struct world {
    struct table *table;
    struct desk *desk;
    struct effects fx;
    float row[4];
    struct tensor input[TICKETS];
    struct infer_request request[TICKETS];
    struct ticket ticket[TICKETS];
    struct batch *batch; // that was dispatched
};

static unsigned count(const struct world *w, enum fx_kind kind)
{
    unsigned n = 0;
    for (unsigned i = 0; i < w->fx.n; i++)
        n += w->fx.at[i].kind == kind;
    return n;
}

// One replica, one batch of TICKETS that is out with it.
static int setup(void **state)
{
    static struct world w;
    struct model_rules rules = {
        .max_rows = TICKETS, .pipeline = 2, .deadline_us = 1000000, .queue_bytes = 1 << 20};
    struct replica_facts facts = {.max_batch = 8};
    w = (struct world){.table = table_new(2)};
    effects_init(&w.fx);
    struct model *m = table_add(w.table, VIEW("m"), &rules);
    w.desk = desk_new(m, 1, 1, START_US);
    desk_on_replica_up(w.desk, 7, &facts, START_US, &w.fx);
    for (unsigned i = 0; i < TICKETS; i++) {
        w.input[i] = (struct tensor){.name = VIEW("x"),
                                     .dtype = DT_FP32,
                                     .rank = 2,
                                     .shape = {1, 4},
                                     .data = (const uint8_t *)w.row,
                                     .bytes = sizeof(w.row)};
        w.request[i] =
            (struct infer_request){.model = VIEW("m"), .inputs = &w.input[i], .n_inputs = 1};
        request_seal(&w.request[i]);
        w.ticket[i] = (struct ticket){
            .model = m, .request = &w.request[i], .deadline_us = DEADLINE_US, .lane = 1};
        desk_on_ticket(w.desk, &w.ticket[i], START_US, &w.fx);
    }
    w.fx.n = 0;
    desk_run(w.desk, START_US, &w.fx);
    for (unsigned i = 0; i < w.fx.n; i++) {
        if (w.fx.at[i].kind == FX_DISPATCH)
            w.batch = w.fx.at[i].batch;
    }
    w.fx.n = 0;
    *state = &w;
    return w.batch && w.batch->n == TICKETS ? 0 : -1;
}

static int teardown(void **state)
{
    struct world *w = *state;
    desk_on_fail(w->desk, w->batch, FAIL_RECALLED, NULL, DEADLINE_US + 1, &w->fx);
    desk_free(w->desk);
    effects_deinit(&w->fx);
    table_free(w->table);
    return 0;
}

static void cancel_all(struct world *w, uint64_t now_us)
{
    for (unsigned i = 0; i < TICKETS; i++) {
        assert_int_equal(count(w, FX_CANCEL), 0); // the others still want it
        desk_on_cancel(w->desk, &w->ticket[i], now_us, &w->fx);
    }
    assert_int_equal(count(w, FX_CANCEL), 1);
}

static void its_own_timer_suspects(void **state)
{
    struct world *w = *state;
    desk_run(w->desk, DEADLINE_US - 1, &w->fx);
    assert_int_equal(count(w, FX_SUSPECT), 0);
    desk_run(w->desk, DEADLINE_US, &w->fx);
    assert_int_equal(count(w, FX_SUSPECT), 1);
    assert_int_equal(count(w, FX_CANCEL), 1);
}

static void cancels_at_the_deadline_suspect(void **state)
{
    struct world *w = *state;
    cancel_all(w, DEADLINE_US);
    assert_int_equal(count(w, FX_SUSPECT), 1);
    desk_run(w->desk, DEADLINE_US, &w->fx); // once
    assert_int_equal(count(w, FX_SUSPECT), 1);
}

// Clients that left say nothing of the worker.
static void cancels_before_it_do_not(void **state)
{
    struct world *w = *state;
    cancel_all(w, DEADLINE_US - 1);
    desk_run(w->desk, DEADLINE_US, &w->fx);
    assert_int_equal(count(w, FX_SUSPECT), 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(its_own_timer_suspects),
        TEST(cancels_at_the_deadline_suspect),
        TEST(cancels_before_it_do_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
