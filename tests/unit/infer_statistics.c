// Statistics as Triton's extension has them: JSON to the letter, the message as its numbers say, sizes in order.
#include "base/mem.h"
#include "base/pb.h"
#include "infer/oip_statistics.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void sizes_are_in_order(void **state)
{
    static const uint32_t came[] = {8, 1, 64, 8, 3, 2, 64};
    struct oip_batch_figures list[4];
    unsigned n = 0;
    for (unsigned i = 0; i < sizeof(came) / sizeof(came[0]); i++)
        oip_batches_add(list, &n, 4, came[i], (struct oip_duration){1, 10 * came[i]});
    static const uint32_t want[] = {1, 3, 8, 64};
    assert_int_equal(n, 4); // 2 found no room
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(list[i].rows, want[i]);
    assert_true(list[2].compute.count == 2 && list[2].compute.us == 160);
    assert_true(list[3].compute.count == 2 && list[0].compute.count == 1);
}

static struct oip_batch_figures batches[] = {{1, {2, 30}}, {8, {1, 50}}};
static struct oip_figures models[] = {
    {.name = {"a\"b", 3},
     .version = {"1", 1},
     .last_ms = 1700000000123,
     .inferences = 10,
     .executions = 3,
     .success = {4, 1000},
     .fail = {1, 7},
     .queue = {3, 20},
     .compute = {3, 80},
     .cache_hit = {1, 5},
     .cache_miss = {3, 0},
     .batches = batches,
     .n_batches = 2},
    {.name = {"c", 1}},
};
static const struct oip_statistics both = {.models = models, .n = 2};

static void as_json(void **state)
{
    static const char none[] =
        "\"success\":{\"count\":0,\"ns\":0},\"fail\":{\"count\":0,\"ns\":0},\"queue\":{\"count\":0,"
        "\"ns\":0},\"compute_input\":{\"count\":0,\"ns\":0},\"compute_infer\":{\"count\":0,\"ns\":"
        "0},"
        "\"compute_output\":{\"count\":0,\"ns\":0},\"cache_hit\":{\"count\":0,\"ns\":0},"
        "\"cache_miss\":{\"count\":0,\"ns\":0}";
    static const char first[] =
        "{\"model_stats\":[{\"name\":\"a\\\"b\",\"version\":\"1\",\"last_inference\":1700000000123,"
        "\"inference_count\":10,\"execution_count\":3,\"inference_stats\":{\"success\":{\"count\":"
        "4,"
        "\"ns\":1000000},\"fail\":{\"count\":1,\"ns\":7000},\"queue\":{\"count\":3,\"ns\":20000},"
        "\"compute_input\":{\"count\":3,\"ns\":0},\"compute_infer\":{\"count\":3,\"ns\":80000},"
        "\"compute_output\":{\"count\":3,\"ns\":0},\"cache_hit\":{\"count\":1,\"ns\":5000},"
        "\"cache_miss\":{\"count\":3,\"ns\":0}},\"batch_stats\":[{\"batch_size\":1,"
        "\"compute_input\":{\"count\":2,\"ns\":0},\"compute_infer\":{\"count\":2,\"ns\":30000},"
        "\"compute_output\":{\"count\":2,\"ns\":0}},{\"batch_size\":8,\"compute_input\":{\"count\":"
        "1,"
        "\"ns\":0},\"compute_infer\":{\"count\":1,\"ns\":50000},\"compute_output\":{\"count\":1,"
        "\"ns\":0}}],\"memory_usage\":[],\"response_stats\":{}},{\"name\":\"c\",\"version\":\"\","
        "\"last_inference\":0,\"inference_count\":0,\"execution_count\":0,\"inference_stats\":{";
    static const char last[] = "},\"batch_stats\":[],\"memory_usage\":[],\"response_stats\":{}}]}";
    struct buffer out;
    buffer_init(&out);
    assert_true(oip_rest_statistics(&out, &both));
    struct view v = buffer_view(&out);
    assert_int_equal(v.n, sizeof(first) + sizeof(none) + sizeof(last) - 3);
    assert_memory_equal(v.p, first, sizeof(first) - 1);
    assert_memory_equal(v.p + sizeof(first) - 1, none, sizeof(none) - 1);
    assert_memory_equal(v.p + v.n - sizeof(last) + 1, last, sizeof(last) - 1);
    buffer_deinit(&out);
}

static void as_a_message(void **state)
{
    static const uint8_t want[] = {
        // model_stats: name, version, last_inference, inference_count, execution_count
        0x0a, 0x6f, 0x0a, 3, 'a', '"', 'b', 0x12, 1, '1', 0x18, 0xfb, 0xd0, 0x95, 0xff, 0xbc, 0x31,
        0x20, 10, 0x28, 3,
        // inference_stats: eight durations
        0x32, 0x32, 0x0a, 6, 0x08, 4, 0x10, 0xc0, 0x84, 0x3d, 0x12, 5, 0x08, 1, 0x10, 0xd8, 0x36,
        0x1a, 6, 0x08, 3, 0x10, 0xa0, 0x9c, 0x01, 0x22, 2, 0x08, 3, 0x2a, 6, 0x08, 3, 0x10, 0x80,
        0xf1, 0x04, 0x32, 2, 0x08, 3, 0x3a, 5, 0x08, 1, 0x10, 0x88, 0x27, 0x42, 2, 0x08, 3,
        // batch_stats
        0x3a, 0x12, 0x08, 1, 0x12, 2, 0x08, 2, 0x1a, 6, 0x08, 2, 0x10, 0xb0, 0xea, 0x01, 0x22, 2,
        0x08, 2, 0x3a, 0x12, 0x08, 8, 0x12, 2, 0x08, 1, 0x1a, 6, 0x08, 1, 0x10, 0xd0, 0x86, 0x03,
        0x22, 2, 0x08, 1,
        // one of which nothing is known: zeros are left out
        0x0a, 0x15, 0x0a, 1, 'c', 0x32, 0x10, 0x0a, 0, 0x12, 0, 0x1a, 0, 0x22, 0, 0x2a, 0, 0x32, 0,
        0x3a, 0, 0x42, 0};
    struct buffer out;
    buffer_init(&out);
    assert_true(oip_grpc_statistics(&out, &both));
    assert_int_equal(buffer_len(&out), sizeof(want));
    assert_memory_equal(buffer_view(&out).p, want, sizeof(want));
    buffer_deinit(&out);
}

static void no_memory(void **state)
{
    for (unsigned grpc = 0; grpc < 2; grpc++) {
        struct buffer out;
        buffer_init(&out);
        mem_fail_at(1);
        assert_false((grpc ? oip_grpc_statistics : oip_rest_statistics)(&out, &both));
        mem_fail_at(0);
        buffer_deinit(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_in_order),
        cmocka_unit_test(as_json),
        cmocka_unit_test(as_a_message),
        cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests_name("infer: statistics", tests, NULL, NULL);
}
