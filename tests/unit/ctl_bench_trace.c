/* ctl/bench_trace: what is asked again, and when; and how answers are compared. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "ctl/bench_trace.h"
#include <math.h>
#include <stdio.h>

static struct bench_trace trace;

static int teardown(void **state)
{
    (void)state;
    bench_trace_free(&trace);
    return 0;
}

static bool add(const char *time, const char *outcome, unsigned total_us, const char *inputs,
                const char *model)
{
    char line[512];
    snprintf(line, sizeof(line),
             "{\"time\":\"%s\",\"model\":\"m\",\"outcome\":\"%s\",\"total_us\":%u,\"inputs\":%s}",
             time, outcome, total_us, inputs);
    return bench_trace_add(&trace, view_str(line), &(struct bench_again){.model = model});
}

#define WHOLE "[{\"name\":\"x\",\"shape\":[1],\"datatype\":\"INT32\",\"data\":[7]}]"

static void in_their_rhythm(void **state)
{
    (void)state;
    assert_true(add("2024-02-29T23:59:59.500000Z", "ok", 500000, WHOLE, NULL));
    assert_true(add("2024-03-01T00:00:01.000000Z", "ok", 0, WHOLE, "other"));
    assert_true(add("2024-02-29T23:59:58.000000Z", "ok", 1000, WHOLE, NULL));
    bench_trace_sort(&trace, 2);
    assert_int_equal(trace.n, 3);
    assert_int_equal(trace.at[0].due_us, 0);
    assert_int_equal(trace.at[1].due_us, (1001000) / 2);
    assert_int_equal(trace.at[2].due_us, (3001000) / 2);
    assert_string_equal(trace.at[0].model, "m");
    assert_string_equal(trace.at[2].model, "other");
    assert_string_equal(trace.at[0].body, "{\"inputs\":" WHOLE "}");
}

static void passed_over(void **state)
{
    (void)state;
    static const char *const inputs[] = {"null", "[]", "{\"hash\":\"0\"}", "[{\"raw\":\"\"}]",
                                         "[{\"data\":[1],\"cut\":true}]"};
    for (unsigned i = 0; i < 5; i++)
        assert_true(add("2024-02-29T23:59:59.500000Z", "ok", 1, inputs[i], NULL));
    assert_true(add("2024-02-29T23:59:59.500000Z", "deadline", 1, WHOLE, NULL));
    assert_true(add("yesterday", "ok", 1, WHOLE, NULL));
    assert_int_equal(trace.passed_over, 7);
    assert_int_equal(trace.n, 0);
    bench_trace_sort(&trace, 1);
    assert_false(bench_trace_add(&trace, VIEW("[]"), &(struct bench_again){0}));
    assert_false(bench_trace_add(&trace, VIEW("{"), &(struct bench_again){0}));
}

#define RECORD                                                                                     \
    "{\"time\":\"2024-02-29T23:59:59.500000Z\",\"model\":\"m\",\"outcome\":\"ok\",\"tenant\":"     \
    "\"acme\","                                                                                    \
    "\"inputs\":" WHOLE

static bool add_said(const char *said, const char *tenant_header)
{
    char line[2048];
    snprintf(line, sizeof(line), RECORD ",%s}", said);
    return bench_trace_add(&trace, view_str(line),
                           &(struct bench_again){.tenant_header = tenant_header});
}

static const char *field(size_t i, size_t k)
{
    return json_string_value(json_array_get(trace.at[i].fields, k));
}

static void parameters_headers_and_tenant(void **state)
{
    (void)state;
    assert_true(add_said("\"parameters\":{\"k\":5,\"s\":\"x\"}", NULL));
    assert_string_equal(trace.at[0].body,
                        "{\"inputs\":" WHOLE ",\"parameters\":{\"k\":5,\"s\":\"x\"}}");
    assert_int_equal(json_array_size(trace.at[0].fields), 0);
    assert_true(
        add_said("\"headers\":{\"x-a\":\"1\",\"Content-Length\":\"9\",\"grpc-timeout\":\"1S\","
                 "\"host\":\"h\",\"x-b\":\"\"}",
                 "x-tenant"));
    assert_int_equal(json_array_size(trace.at[1].fields), 3);
    assert_string_equal(field(1, 0), "x-a: 1");
    assert_string_equal(field(1, 1), "x-b;");
    assert_string_equal(field(1, 2), "x-tenant: acme");
    // It is said once.
    assert_true(add_said("\"headers\":{\"x-tenant\":\"other\"}", "X-Tenant"));
    assert_int_equal(json_array_size(trace.at[2].fields), 1);
    assert_string_equal(field(2, 0), "x-tenant: other");
}

// Nothing of a log becomes another field, or another request.
static void what_cannot_be_sent(void **state)
{
    (void)state;
    static const char *const said[] = {"\"cut\":1",
                                       "\"parameters\":[]",
                                       "\"headers\":[]",
                                       "\"headers\":{\"x\":1}",
                                       "\"headers\":{\"\":\"v\"}",
                                       "\"headers\":{\"x: y\":\"v\"}",
                                       "\"headers\":{\"x\":\"a\\r\\nb: c\"}",
                                       "\"headers\":{\"x\":\"a\\u0000b\"}",
                                       "\"headers\":{\"x\":\"\\u007f\"}",
                                       "\"headers\":{\"x\\n\":\"v\"}",
                                       "\"tenant\":\"a\\nb\""};
    for (size_t i = 0; i < sizeof(said) / sizeof(said[0]); i++) {
        assert_true(add_said(said[i], "x-tenant"));
        assert_int_equal(trace.passed_over, i + 1);
    }
    assert_int_equal(trace.n, 0);
}

static void at_random(void **state)
{
    (void)state;
    enum { N = 20000 };
    assert_true(bench_trace_poisson(&trace, N, 1000, 1, "m", VIEW("{}")));
    double mean = (double)trace.at[N - 1].due_us / (N - 1), square = 0;
    for (unsigned i = 1; i < N; i++) {
        assert_true(trace.at[i].due_us >= trace.at[i - 1].due_us);
        double gap = (double)(trace.at[i].due_us - trace.at[i - 1].due_us);
        square += (gap - mean) * (gap - mean) / N;
    }
    assert_true(fabs(mean - 1000) < 30);         // a second and a rate of 1,000
    assert_true(fabs(sqrt(square) - mean) < 50); // as an exponential distribution has it
    assert_string_equal(trace.body, "{}");
}

static enum bench_verdict compare(const char *recorded, const char *answer, double tolerance,
                                  double *worst)
{
    json_t *was = json_loads(recorded, 0, NULL);
    *worst = 0;
    enum bench_verdict v = bench_compare(was, view_str(answer), tolerance, worst);
    json_decref(was);
    return v;
}

static void answers(void **state)
{
    (void)state;
    double worst;
    const char *was = "[{\"name\":\"p\",\"shape\":[2],\"data\":[1.0,-200]}]";
    assert_int_equal(
        compare(was, "{\"outputs\":[{\"name\":\"p\",\"shape\":[2],\"data\":[1,-200]}]}", 0, &worst),
        BENCH_EQUAL);
    assert_true(worst == 0);
    const char *near = "{\"outputs\":[{\"name\":\"p\",\"shape\":[2],\"data\":[1.0,-201.0]}]}";
    assert_int_equal(compare(was, near, 0.01, &worst), BENCH_EQUAL); // of 201
    assert_int_equal(compare(was, near, 0.001, &worst), BENCH_DIFFERS);
    assert_true(worst == 1);
    assert_int_equal(compare(was,
                             "{\"outputs\":[{\"name\":\"p\",\"shape\":[1,2],\"data\":[1,-200]}]}",
                             1, &worst),
                     BENCH_DIFFERS);
    assert_int_equal(
        compare(was, "{\"outputs\":[{\"name\":\"q\",\"shape\":[2],\"data\":[1,-200]}]}", 1, &worst),
        BENCH_DIFFERS);
    assert_int_equal(
        compare(was, "{\"outputs\":[{\"name\":\"p\",\"shape\":[2],\"data\":[1]}]}", 1, &worst),
        BENCH_DIFFERS);
    assert_int_equal(compare(was, "{\"error\":\"no\"}", 1, &worst), BENCH_UNKNOWN);
    assert_int_equal(compare(was, "nonsense", 1, &worst), BENCH_UNKNOWN);
    was = "[{\"name\":\"t\",\"shape\":[1],\"data\":[\"a\"]}]";
    assert_int_equal(
        compare(was, "{\"outputs\":[{\"name\":\"t\",\"shape\":[1],\"data\":[\"a\"]}]}", 0, &worst),
        BENCH_EQUAL);
    assert_int_equal(
        compare(was, "{\"outputs\":[{\"name\":\"t\",\"shape\":[1],\"data\":[\"b\"]}]}", 9, &worst),
        BENCH_DIFFERS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(in_their_rhythm, teardown),
        cmocka_unit_test_teardown(passed_over, teardown),
        cmocka_unit_test_teardown(parameters_headers_and_tenant, teardown),
        cmocka_unit_test_teardown(what_cannot_be_sent, teardown),
        cmocka_unit_test_teardown(at_random, teardown),
        cmocka_unit_test_teardown(answers, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
