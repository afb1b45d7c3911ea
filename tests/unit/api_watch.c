// Health Watch: what a watcher is told, and when; how it ends.
#include "api/serving.h"
#include "api_kit.h"
#include <unistd.h>

enum { STARTED_US = 1000, NOW_US = 2000 };

static struct { // what the doer knows
    bool ready, unknown, not_told;
    unsigned asked, watched;
} doer;

static struct serving *serving;

static bool doer_ready(struct serving *s, bool *ready, struct error *e)
{
    doer.asked++;
    if (s->call.model.n > 0 && doer.unknown)
        return error_set(e, STATUS_NOT_FOUND, "unknown");
    if (s->call.model.n > 0 && doer.not_told)
        return error_set(e, STATUS_UNAVAILABLE, "not yet");
    *ready = doer.ready;
    return true;
}

static void doer_watched(struct serving *s)
{
    doer.watched++;
}

static const struct serving_ops ops = {
    .bytes = sizeof(struct serving), .ready = doer_ready, .watched = doer_watched};

static void on_want(struct exchange *ex, void *ctx)
{
    assert_false(serving_on_want(ex->user, true, *(uint64_t *)ctx));
}

static uint64_t now_us;

static void watch_of(const char *service, const char *timeout)
{
    char message[100];
    int n = snprintf(message, sizeof(message), "\x0a%c%s", (int)strlen(service), service);
    kit_ask("POST", "/grpc.health.v1.Health/Watch");
    kit_ex.refs = 1;
    kit_ex.started_us = STARTED_US;
    kit_ex.ctx = &now_us;
    kit_ops.on_want = on_want;
    kit_add("content-type", VIEW("application/grpc"));
    if (timeout)
        kit_add("grpc-timeout", view_str(timeout));
    kit_woken = 0;
    now_us = NOW_US;
    serving = serving_new(&kit_ex, &kit_api, &ops, now_us);
    assert_non_null(serving);
    serving_route(serving, (const uint64_t[]){1, 2}, now_us);
    kit_send_message(view_of(message, *service ? (size_t)n : 0), 0);
    assert_false(serving_on_request(serving, false, now_us));
}

// The next message has this status; -1: there is none.
static void hears(int status)
{
    buffer_reset(&kit_said.body);
    bool any = kit_want();
    struct view v = kit_body();
    assert_int_equal(any, status >= 0);
    if (status == 0)
        assert_memory_equal(v.p, "\0\0\0\0\0", v.n == 5 ? 5 : 99);
    else if (status > 0)
        assert_memory_equal(v.p, ((char[]){0, 0, 0, 0, 2, 8, (char)status}), v.n == 7 ? 7 : 99);
    else
        assert_int_equal(v.n, 0);
}

static void ends_as(const char *status, enum status outcome)
{
    kit_flow.state = FLOW_READY; // its connection asks
    assert_true(kit_want());
    assert_int_equal(kit_flow.state, FLOW_ENDED);
    assert_string_equal(kit_trailer("grpc-status"), status);
    assert_int_equal(serving->outcome, outcome);
    serving_on_sent(serving);
    assert_int_equal(serving->phase, SERVING_ANSWERED);
    assert_null(kit_api.watches);
}

static void each_change_once(void **state)
{
    doer.ready = true;
    watch_of("m", NULL);
    assert_int_equal(kit_said.status, 200);
    assert_string_equal(kit_header("content-type"), "application/grpc");
    assert_int_equal(serving->phase, SERVING_FLOWING);
    assert_int_equal(doer.watched, 1);
    hears(1);
    hears(-1);
    assert_true(serving_look(&kit_api, now_us));
    assert_int_equal(kit_woken, 0); // it is as it was
    doer.ready = false;
    serving_look(&kit_api, now_us);
    assert_int_equal(kit_woken, 1);
    hears(2);
    hears(-1);
    doer.unknown = true;
    serving_look(&kit_api, now_us);
    hears(3);
    doer.unknown = false;
    doer.not_told = true;
    serving_look(&kit_api, now_us);
    hears(0);
    hears(-1);
    doer.not_told = false;
    doer.ready = true;
    serving_look(&kit_api, now_us);
    doer.ready = false; // before the client's window opens: it hears what is so, not what was
    hears(2);
    hears(-1);
    serving_on_sent(serving); // the client has left
    assert_false(serving_look(&kit_api, now_us));
}

static void the_server_and_its_names(void **state)
{
    static const char *const names[] = {"", "inference.GRPCInferenceService"};
    doer.unknown = true; // no model is known
    doer.ready = true;
    for (unsigned i = 0; i < 2; i++) {
        watch_of(names[i], NULL);
        hears(1);
        serving_on_sent(serving);
    }
    watch_of("m", NULL);
    hears(3); // and it may come
    hears(-1);
    serving_on_sent(serving);
    doer.unknown = false;
}

static void a_drain_is_told_and_ends_it(void **state)
{
    doer.ready = true;
    watch_of("", NULL);
    hears(1);
    hears(-1);
    doer.ready = false;
    serving_look(&kit_api, now_us);
    hears(2);
    hears(-1);
    kit_ex.closing = true;
    ends_as("14", STATUS_UNAVAILABLE);
}

static void a_deadline(void **state)
{
    doer.ready = true;
    watch_of("", "5S");
    hears(1);
    hears(-1);
    assert_int_equal(kit_flow.ask_us, STARTED_US + 5000000);
    now_us = kit_flow.ask_us;
    ends_as("4", STATUS_DEADLINE);
}

static void want_of_memory(void **state)
{
    uint64_t used = 1;
    doer.ready = true;
    for (uint64_t n = 1; used >= n - 1; n++) { // until a run in which none failed
        kit_ask("POST", "/grpc.health.v1.Health/Watch");
        kit_add("content-type", VIEW("application/grpc"));
        kit_send_message(VIEW(""), 0);
        uint64_t before = mem_count();
        mem_fail_at(n);
        serving = serving_new(&kit_ex, &kit_api, &ops, NOW_US);
        if (serving) {
            serving_route(serving, (const uint64_t[]){1, 2}, NOW_US);
            serving_on_request(serving, false, NOW_US);
        }
        used = mem_count() - before;
        mem_fail_at(0);
        assert_int_equal(kit_said.calls, 1);
        if (serving && serving->phase == SERVING_FLOWING)
            serving_on_sent(serving);
        else
            assert_string_equal(kit_trailer("grpc-status"), "14");
        assert_null(kit_api.watches);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_change_once),
        cmocka_unit_test(the_server_and_its_names),
        cmocka_unit_test(a_drain_is_told_and_ends_it),
        cmocka_unit_test(a_deadline),
        cmocka_unit_test(want_of_memory),
    };
    alarm(300); // a test that waits for ever is one that failed
    return cmocka_run_group_tests(tests, kit_open, kit_close);
}
