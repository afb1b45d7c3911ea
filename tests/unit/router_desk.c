/* router/desk: a worker that may hang is probed, whichever comes first: the desk's own timer, or the cancels
 * of origins whose clocks were quicker; what desk and flow show of themselves. All else: tests/sim. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/mem.h"
#include "router/desk.h"
#include "router/flow.h"
#include <stdio.h>
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
    effects_init(&w.fx, NULL);
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
            .to = {.model = m}, .request = &w.request[i], .deadline_us = DEADLINE_US, .lane = 1};
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
    desk_on_end(w->desk, w->batch, &(struct batch_end){.seen = SEEN_RECALLED}, DEADLINE_US + 1,
                &w->fx);
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

static void its_own_timer_doubts(void **state)
{
    struct world *w = *state;
    desk_run(w->desk, DEADLINE_US - 1, &w->fx);
    assert_int_equal(count(w, FX_PROBE), 0);
    desk_run(w->desk, DEADLINE_US, &w->fx);
    assert_int_equal(count(w, FX_PROBE), 1);
    assert_int_equal(count(w, FX_CANCEL), 1);
}

static void cancels_at_the_deadline_doubt(void **state)
{
    struct world *w = *state;
    cancel_all(w, DEADLINE_US);
    assert_int_equal(count(w, FX_PROBE), 1);
    desk_run(w->desk, DEADLINE_US, &w->fx); // once
    assert_int_equal(count(w, FX_PROBE), 1);
}

// Clients that left say nothing of the worker.
static void cancels_before_it_do_not(void **state)
{
    struct world *w = *state;
    cancel_all(w, DEADLINE_US - 1);
    desk_run(w->desk, DEADLINE_US, &w->fx);
    assert_int_equal(count(w, FX_PROBE), 0);
}

static void expect_shown(const struct desk *d, uint64_t now_us, const char *text)
{
    struct buffer out;
    struct json_writer w;
    buffer_init(&out);
    json_write(&w, &out);
    desk_show(d, now_us, &w);
    if (!view_is(buffer_view(&out), text))
        fail_msg("got  %.*s\nwant %s", VIEW_ARG(buffer_view(&out)), text);
    buffer_deinit(&out);
}

static void desks_show_what_they_hold(void **state)
{
    struct world *w = *state;
    struct replica *r = &w->desk->replicas.at[0];
    struct replica_facts facts = {
        .max_batch = 9, .versions = (struct view[]){VIEW("1"), VIEW("2")}, .n_versions = 2};
    desk_on_replica_up(w->desk, 8, &facts, START_US, &w->fx); // another batch size: kept out
    r->latency_us = 1500;
    expect_shown(w->desk, START_US,
                 "{\"model\":\"m\",\"waiting_requests\":0,\"waiting_rows\":0,\"waiting_bytes\":0,"
                 "\"running_rows\":2,\"suspects\":0,\"followers\":0,\"shadows\":0,\"replicas\":["
                 "{\"id\":7,\"up\":true,\"differs\":false,\"breaker\":\"closed\",\"rank\":0,"
                 "\"batches\":1,\"rows\":2,"
                 "\"latency_us\":1500,\"versions\":[]},"
                 "{\"id\":8,\"up\":false,\"differs\":true,\"breaker\":\"closed\",\"rank\":0,"
                 "\"batches\":0,\"rows\":0,"
                 "\"latency_us\":0,\"versions\":[\"1\",\"2\"]}]}");
    desk_on_replica_down(w->desk, 8, START_US, &w->fx);
    desk_on_replica_down(w->desk, 7, START_US, &w->fx);
    mem_free(w->desk->replicas.at[1].version);
    w->desk->replicas.n = 1; // the second one's place is of no more interest
    r->not_before_us = START_US + 900;
    expect_shown(w->desk, START_US + 200,
                 "{\"model\":\"m\",\"waiting_requests\":0,\"waiting_rows\":0,\"waiting_bytes\":0,"
                 "\"running_rows\":2,\"suspects\":0,\"followers\":0,\"shadows\":0,\"alone_us\":200,"
                 "\"replicas\":["
                 "{\"id\":7,\"up\":false,\"differs\":false,\"breaker\":\"closed\",\"rank\":0,"
                 "\"batches\":1,\"rows\":2,"
                 "\"latency_us\":1500,\"paused_us\":700,\"versions\":[]}]}");
    r->not_before_us = START_US + 200;
    w->desk->running_rows = 3;
    expect_shown(w->desk, START_US + 200,
                 "{\"model\":\"m\",\"waiting_requests\":0,\"waiting_rows\":0,\"waiting_bytes\":0,"
                 "\"running_rows\":3,\"suspects\":0,\"followers\":0,\"shadows\":0,\"alone_us\":200,"
                 "\"replicas\":["
                 "{\"id\":7,\"up\":false,\"differs\":false,\"breaker\":\"closed\",\"rank\":0,"
                 "\"batches\":1,\"rows\":2,"
                 "\"latency_us\":1500,\"versions\":[]}],"
                 "\"wrong\":\"the rows at the replicas do not add up to running_rows\"}");
    w->desk->running_rows = 2;
    w->desk->replicas.n_up = w->desk->replicas.n_ready = 1;
    expect_shown(w->desk, START_US + 200,
                 "{\"model\":\"m\",\"waiting_requests\":0,\"waiting_rows\":0,\"waiting_bytes\":0,"
                 "\"running_rows\":2,\"suspects\":0,\"followers\":0,\"shadows\":0,\"replicas\":["
                 "{\"id\":7,\"up\":false,\"differs\":false,\"breaker\":\"closed\",\"rank\":0,"
                 "\"batches\":1,\"rows\":2,"
                 "\"latency_us\":1500,\"versions\":[]}],"
                 "\"wrong\":\"the replicas that are up are not as many as were counted\"}");
    w->desk->replicas.n_up = w->desk->replicas.n_ready = 0;
}

static void flows_show_what_they_hold(void **state)
{
    struct world *w = *state;
    static const struct {
        uint32_t live, zombies, deadlines;
        bool wrong;
    } rows[] = {{0, 0, 0, false}, {5, 2, 3, false}, {1, 1, 0, false}, {2, 3, 0, true},
                {5, 2, 2, true},  {5, 2, 4, true},  {0, 1, 0, true}};
    struct flow_rules rules = {.deadline_us = 1, .deadline_max_us = 1};
    struct flow f;
    flow_init(&f, 0, w->table, &rules, 1, START_US);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buffer out;
        struct json_writer writer;
        char text[200];
        f.n_live = rows[i].live;
        f.n_zombies = rows[i].zombies;
        f.wheel.count = rows[i].deadlines;
        buffer_init(&out);
        json_write(&writer, &out);
        flow_show(&f, &writer);
        snprintf(
            text, sizeof(text), "{\"live\":%u,\"zombies\":%u,\"deadlines\":%u,\"shadows\":0%s}",
            rows[i].live, rows[i].zombies, rows[i].deadlines,
            rows[i].wrong ? ",\"wrong\":\"every live infer has a deadline or is a zombie: these "
                            "do not add up\""
                          : "");
        if (!view_is(buffer_view(&out), text))
            fail_msg("got  %.*s\nwant %s", VIEW_ARG(buffer_view(&out)), text);
        buffer_deinit(&out);
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(its_own_timer_doubts),      TEST(cancels_at_the_deadline_doubt),
        TEST(cancels_before_it_do_not),  TEST(desks_show_what_they_hold),
        TEST(flows_show_what_they_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
