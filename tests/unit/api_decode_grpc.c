// gRPC bodies become requests: frames, codings, the small calls.
#include "api_decode.h"

static void grpc_plain_and_packed(void **state)
{
    uint8_t room[4096];
    struct buffer b;
    struct arena a;
    arena_init(&a, 0);
    buffer_init(&b);
    struct view m = message(&a, "digits", &b), packed = gzipped(m, room);
    for (unsigned k = 0; k < 4; k++) {
        for (size_t max = 1; max < 300; max += 7) {
            ask_grpc(k == 3 ? packed : m, k == 3, k == 1 ? "identity" : k >= 2 ? "gzip" : NULL);
            kit_add("grpc-timeout", k & 1 ? VIEW("1m") : VIEW("500u"));
            if (!decode(max))
                fail_msg("%s", err.text);
            assert_true(view_is(req.model, "digits") && view_is(req.version, "3"));
            assert_true(view_is(req.id, "7"));
            assert_int_equal(req.bytes, 16 + 9);
            assert_int_equal(req.timeout_us, k & 1 ? 900 : 500); // the shorter of both
            assert_int_equal(req.format, FORMAT_OIP_GRPC);
        }
    }
    for (size_t n = 0; n < m.n; n++) { // cut inside the message, its frame in order
        ask_grpc(view_of(m.p, n), 0, NULL);
        refused(1 + n % 5, STATUS_BAD_REQUEST, NULL);
    }
    buffer_deinit(&b);
    arena_deinit(&a);
}

// Row 100.
static void grpc_frames(void **state)
{
    static const struct {
        struct view body;
        const char *encoding;
        enum status status;
    } rows[] = {
        {{"", 0}, NULL, STATUS_INTERNAL},
        {{"\0\0\0\0", 4}, NULL, STATUS_INTERNAL},
        {{"\0\0\0\0\5abcd", 9}, NULL, STATUS_INTERNAL},        // longer than what came
        {{"\0\0\0\0\3abcd", 9}, NULL, STATUS_INTERNAL},        // more behind it
        {{"\0\0\0\0\0\0\0\0\0\0", 10}, NULL, STATUS_INTERNAL}, // two messages
        {{"\0\xff\xff\xff\xff", 5}, NULL, STATUS_TOO_LARGE},
        {{"\2\0\0\0\0", 5}, NULL, STATUS_INTERNAL},
        {{"\xff\0\0\0\0", 5}, "gzip", STATUS_INTERNAL},
        {{"\1\0\0\0\0", 5}, NULL, STATUS_INTERNAL}, // compressed, without an encoding
        {{"\1\0\0\0\0", 5}, "identity", STATUS_INTERNAL},
        {{"\1\0\0\0\0", 5}, "gzip", STATUS_BAD_REQUEST},
        {{"\1\0\0\0\0", 5}, "snappy", STATUS_UNSUPPORTED},
        {{"\0\0\0\0\0", 5}, "snappy", STATUS_UNSUPPORTED},
        {{"\0\0\0\0\0", 5}, NULL, STATUS_BAD_REQUEST}, // an empty message: no model
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ask_grpc(VIEW(""), 0, rows[i].encoding);
        kit_send(rows[i].body);
        size_t before = kit_ex.arena.bytes;
        bool ok = decode(SIZE_MAX);
        if (ok || err.status != rows[i].status)
            fail_msg("row %u: %s (%d)", i, ok ? "taken" : err.text, err.status);
        assert_true(kit_ex.arena.bytes - before <= 16384); // nothing by the prefix
    }
}

static void small_calls(void **state)
{
    ask_grpc(VIEW("\x0a\x03"
                  "abc\x12\1"
                  "7"),
             0, NULL);
    kit_ex.path = VIEW("/inference.GRPCInferenceService/ModelMetadata");
    assert_int_equal(api_route(&kit_ex, &call, &err), API_MODEL_METADATA);
    assert_true(api_read(&kit_ex, &call, &err));
    assert_true(view_is(call.model, "abc") && view_is(call.version, "7"));
    static const struct {
        struct view message;
        const char *text;
    } bad[] = {{{"", 0}, "name: expected [A-Za-z0-9._+@~-]{1,128}"},
               {{"\x0a\x03"
                 "a/b",
                 5},
                "name: expected [A-Za-z0-9._+@~-]{1,128}"},
               {{"\x0a\1m\x12\2..", 7}, "version: expected [A-Za-z0-9._+@~-]{1,128}"},
               {{"\x0a\5m", 3}, "message: cannot be read"},
               {{"\x08\1", 2}, "message: cannot be read"},
               {{"\x0a\1\xff", 3}, "message: cannot be read"}};
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        kit_send_message(bad[i].message, 0);
        assert_int_equal(api_route(&kit_ex, &call, &err), API_MODEL_METADATA);
        assert_false(api_read(&kit_ex, &call, &err));
        assert_int_equal(err.status, STATUS_BAD_REQUEST);
        assert_string_equal(err.text, bad[i].text);
    }
    kit_ex.path = VIEW("/grpc.health.v1.Health/Check");
    kit_send_message(VIEW("\x0a\1m"), 0);
    api_route(&kit_ex, &call, &err);
    assert_true(api_read(&kit_ex, &call, &err) && view_is(call.model, "m"));
    kit_ex.path = VIEW("/inference.GRPCInferenceService/RepositoryIndex");
    kit_send_message(VIEW("\x10\1"), 0);
    api_route(&kit_ex, &call, &err);
    assert_true(api_read(&kit_ex, &call, &err) && call.ready_only);
    static const struct {
        const char *body;
        int ready; // -1: refused
    } index[] = {{"", 0},
                 {"{}", 0},
                 {"{\"ready\":true}", 1},
                 {"{\"ready\":1}", -1},
                 {"[]", -1},
                 {"{\"ready\":true,\"ready\":true}", -1},
                 {"{\"x\":[{}],\"ready\":false} ", 0},
                 {"{", -1},
                 {"{}{}", -1}};
    for (unsigned i = 0; i < sizeof(index) / sizeof(index[0]); i++) {
        kit_ask("POST", "/v2/repository/index");
        kit_send(view_str(index[i].body));
        api_route(&kit_ex, &call, &err);
        assert_int_equal(api_read(&kit_ex, &call, &err), index[i].ready >= 0);
        assert_true(index[i].ready < 0 || call.ready_only == (index[i].ready == 1));
    }
    kit_ask("POST", "/v2/repository/index");
    char *big = mem_zalloc((1 << 20) + 1);
    kit_send(view_of(big, (1 << 20) + 1));
    api_route(&kit_ex, &call, &err);
    assert_false(api_read(&kit_ex, &call, &err));
    assert_int_equal(err.status, STATUS_TOO_LARGE);
    mem_free(big);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grpc_plain_and_packed),
        cmocka_unit_test(grpc_frames),
        cmocka_unit_test(small_calls),
    };
    return cmocka_run_group_tests(tests, kit_open, kit_close);
}
