// Server reflection: questions out of a body that streams, one answer each, and how it ends. What the answers say is
// compared with what others know in tests/integration/test_reflection.py.
#include "api/reflect.h"
#include "api_kit.h"
#include "infer/schema.h"
#include <unistd.h>

enum { SECOND = 1000000 };

static struct serving *serving;
static uint64_t now_us;
static const struct serving_ops ops = {.bytes = sizeof(struct serving)};

static void on_want(struct exchange *ex, void *ctx)
{
    assert_false(serving_on_want(ex->user, true, now_us));
}

static void begin(void)
{
    kit_ask("POST", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo");
    kit_ex.refs = 1;
    kit_ops.on_want = on_want;
    kit_add("content-type", VIEW("application/grpc"));
    now_us = SECOND;
    kit_flow = (struct http_flow){.state = FLOW_ENDED};
    serving = serving_new(&kit_ex, &kit_api, &ops, now_us);
    assert_non_null(serving);
    serving_route(serving, (const uint64_t[]){1, 2}, now_us);
    assert_true(kit_ex.streams);
    assert_int_equal(kit_ex.max_body, REFLECT_AHEAD);
}

static void hear(const char *p, size_t n)
{
    assert_true(buffer_append(&kit_ex.body, p, n));
    serving_on_body(serving, now_us);
}

// A question of one text field, with gRPC's prefix.
static void ask(unsigned field, const char *text)
{
    char m[300];
    size_t n = strlen(text);
    memcpy(m, (const char[]){0, 0, 0, 0, (char)(n + 2), (char)(field << 3 | 2), (char)n}, 7);
    memcpy(m + 7, text, n);
    hear(m, n + 7);
}

static bool says(const char *text)
{
    struct view v = kit_body();
    return memmem(v.p, v.n, text, strlen(text)) != NULL;
}

static void ends_as(const char *status, enum status outcome)
{
    assert_true(kit_want());
    assert_int_equal(kit_flow.state, FLOW_ENDED);
    assert_string_equal(kit_trailer("grpc-status"), status);
    assert_int_equal(serving->outcome, outcome);
    serving_on_sent(serving);
    assert_int_equal(kit_blocks.live_blocks, 0);
}

static void one_answer_each(void **state)
{
    begin();
    ask(7, "");
    assert_int_equal(kit_said.calls, 1);
    ask(4, "grpc.health.v1.Health");
    ask(3, "nothing");
    assert_true(kit_want());
    assert_true(says("inference.GRPCInferenceService") && !says("HealthCheckRequest"));
    assert_true(kit_want());
    assert_true(says("HealthCheckRequest") && !says("no such"));
    assert_true(kit_want());
    assert_true(says("no such file"));
    assert_false(kit_want()); // there is no question
    assert_int_equal(kit_flow.ask_us, UINT64_MAX);
    assert_int_equal(serving->in_bytes, 7 + 28 + 14);
    unsigned woken = kit_woken;
    ask(7, "");
    assert_int_equal(kit_woken, woken + 1);
    assert_true(kit_want());
    assert_false(serving_on_request(serving, false, now_us));
    ends_as("0", STATUS_OK);
    assert_int_equal(kit_said.n_trailers, 1);
}

static void no_question_at_all(void **state)
{
    begin();
    assert_false(serving_on_request(serving, false, now_us));
    ends_as("0", STATUS_OK);
}

// It may take ten seconds to say a message, and as long as one likes before it.
static void half_a_message(void **state)
{
    begin();
    ask(7, "");
    assert_true(kit_want());
    now_us += 3600 * (uint64_t)SECOND;
    hear("\0\0", 2);
    assert_false(kit_want());
    assert_int_equal(kit_flow.ask_us, now_us + 10 * SECOND);
    now_us += 5 * SECOND;
    hear("\0\0", 2);
    assert_false(kit_want());
    assert_int_equal(kit_flow.ask_us, now_us + 5 * SECOND);
    hear("\2\x3a", 2);
    assert_false(kit_want());
    hear("\0", 1);
    assert_true(kit_want()); // in time
    now_us += 20 * (uint64_t)SECOND;
    hear("\0", 1);
    assert_false(kit_want());
    now_us += 10 * SECOND;
    kit_flow.state = FLOW_READY; // its connection asks
    char code[4];
    snprintf(code, sizeof(code), "%u", status_table[STATUS_SLOW_CLIENT].grpc);
    ends_as(code, STATUS_SLOW_CLIENT);
}

static void a_drain(void **state)
{
    begin();
    ask(7, "");
    kit_ex.closing = true;
    assert_true(kit_want()); // what was asked is answered
    ends_as("14", STATUS_UNAVAILABLE);
}

static void messages_that_are_none(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *status;
        enum status outcome;
    } rows[] = {{"\1\0\0\0\0", 5, "12", STATUS_UNSUPPORTED},
                {"\2", 1, "12", STATUS_UNSUPPORTED},
                {"\0\0\1\0\0", 5, "8", STATUS_TOO_LARGE},
                {"\0\xff\xff\xff\xff", 5, "8", STATUS_TOO_LARGE},
                {"\0\0\0\0\2\x3a\1", 7, "3", STATUS_BAD_REQUEST},
                {"\0\0\0\0\2\x3a", 6, "13", STATUS_INTERNAL}};
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        begin();
        hear(rows[i].bytes, rows[i].n);
        serving_on_request(serving, false, now_us);
        ends_as(rows[i].status, rows[i].outcome);
    }
}

static void names(void **state)
{
    assert_non_null(schema_with(VIEW("inference.ModelInferRequest.InferInputTensor.shape")));
    assert_non_null(schema_with(VIEW("inference.TYPE_FP16")));
    assert_non_null(schema_with(VIEW("grpc.health.v1.HealthCheckResponse.SERVING")));
    static const char *const none[] = {"",
                                       ".",
                                       "inference",
                                       "inference.",
                                       "grpc",
                                       "grpc.health",
                                       "inference..",
                                       "inference.ModelInferRequest.",
                                       "inferenceX",
                                       "inference.ModelInferRequestX",
                                       "inference.ModelInferRequest.name.x",
                                       "inference.DataType.x",
                                       "inference.parameter_choice"};
    for (unsigned i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        if (schema_with(view_str(none[i])))
            fail_msg("%s", none[i]);
    }
    char text[SCHEMA_NAME];
    for (unsigned k = 0; k < 4; k++)
        assert_non_null(schema_with(schema_service(k, text)));
    assert_int_equal(schema_service(4, text).n, 0);
}

static void want_of_memory(void **state)
{
    uint64_t used = 1;
    for (uint64_t n = 1; used >= n - 1; n++) { // until a run in which none failed
        begin();
        ask(n % 2 ? 3 : 7, n % 2 ? "grpc_service.proto" : "");
        uint64_t before = mem_count();
        mem_fail_at((n + 1) / 2);
        kit_want();
        used = 2 * (mem_count() - before);
        bool whole = says(n % 2 ? "RepositoryIndex" : "inference.GRPCInferenceService");
        if (used < n)
            assert_true(whole);
        assert_true(whole || kit_flow.state == FLOW_ENDED);
        assert_true(whole || kit_flow.cut || serving->outcome == STATUS_UNAVAILABLE);
        assert_int_equal(kit_blocks.live_blocks, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_answer_each),        cmocka_unit_test(no_question_at_all),
        cmocka_unit_test(half_a_message),         cmocka_unit_test(a_drain),
        cmocka_unit_test(messages_that_are_none), cmocka_unit_test(names),
        cmocka_unit_test(want_of_memory),
    };
    alarm(300); // a test that waits for ever is one that failed
    return cmocka_run_group_tests(tests, kit_open, kit_close);
}
