// REST bodies become requests: JSON, binary tensors, raw binary; plain and packed; in every step size; with every
// allocation failing in turn (gRPC, too).
#include "api_decode.h"

static void ask_json(struct view body)
{
    kit_ask("POST", INFER);
    kit_send(body);
}

static void ask_binary(struct view json, struct view tail, const char *length)
{
    struct buffer b;
    buffer_init(&b);
    buffer_append(&b, json.p, json.n);
    buffer_append(&b, tail.p, tail.n);
    ask_json(buffer_view(&b));
    buffer_deinit(&b);
    kit_add("inference-header-content-length", view_str(length));
}

static const char json[] =
    "{\"id\":\"7\",\"parameters\":{\"timeout\":900},\"inputs\":[{\"name\":\"x\",\"shape\":[2,2],"
    "\"datatype\":\"FP32\",\"data\":[[1,2],[3,4.5]]},{\"data\":[\"a\",\"\\u00e9\"],\"name\":\"s\","
    "\"shape\":[2],\"datatype\":\"BYTES\"}],\"outputs\":[{\"name\":\"y\"}]}";

static void check_json(void)
{
    const float want[] = {1, 2, 3, 4.5f};
    assert_true(view_is(req.model, "m") && view_is(req.version, "3") && view_is(req.id, "7"));
    assert_int_equal(req.rows, 2);
    assert_int_equal(req.timeout_us, 900);
    assert_int_equal(req.n_inputs, 2);
    assert_memory_equal(req.inputs[0].data, want, sizeof(want));
    assert_memory_equal(req.inputs[1].data, "\1\0\0\0a\2\0\0\0\xc3\xa9", 11);
    assert_int_equal(req.format, FORMAT_OIP_JSON);
    assert_true(req.batch_key.lo || req.batch_key.hi);
}

static void json_in_every_step_size(void **state)
{
    uint8_t room[4096];
    struct view packed = gzipped(VIEW(json), room);
    for (size_t max = 1; max < 2 * sizeof(json); max += 1 + max / 4) {
        ask_json(VIEW(json));
        if (!decode(max))
            fail_msg("%s", err.text);
        check_json();
        ask_json(packed);
        kit_add("content-encoding", VIEW("gzip"));
        if (!decode(max))
            fail_msg("%s", err.text);
        check_json();
    }
}

static void every_truncation(void **state)
{
    for (size_t n = 0; n + 1 < sizeof(json); n++) {
        ask_json(view_of(json, n));
        refused(1 + n % 7, STATUS_BAD_REQUEST, NULL);
    }
}

static void codings(void **state)
{
    static const struct {
        const char *one, *two;
        enum status status; // of a plain body
    } rows[] = {{"identity", NULL, STATUS_OK},           {"", NULL, STATUS_OK},
                {"IDENTITY", NULL, STATUS_OK},           {"br", NULL, STATUS_MEDIA_TYPE},
                {"gzip, gzip", NULL, STATUS_MEDIA_TYPE}, {"gzip", NULL, STATUS_BAD_REQUEST},
                {"zstd", NULL, STATUS_BAD_REQUEST},      {"gzip", "gzip", STATUS_MEDIA_TYPE},
                {"gzip", "identity", STATUS_MEDIA_TYPE}, {"identity", "gzip", STATUS_MEDIA_TYPE}};
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ask_json(VIEW(json));
        kit_add("content-encoding", view_str(rows[i].one));
        if (rows[i].two)
            kit_add("content-encoding", view_str(rows[i].two));
        bool ok = decode(SIZE_MAX);
        if (ok != (rows[i].status == STATUS_OK) || err.status != rows[i].status)
            fail_msg("row %u: %d, %s", i, err.status, err.text);
    }
}

// Row 99 through the whole way: at most max_body, eight times what came, or 1 MiB.
static void packed_bounds(void **state)
{
    uint8_t room[4096];
    char *zeros = mem_must(2 << 20);
    memset(zeros, ' ', 2 << 20);
    struct view packed = gzipped(view_of(zeros, (1 << 20) + 1), room);
    ask_json(packed);
    kit_add("content-encoding", VIEW("gzip"));
    refused(4096, STATUS_TOO_LARGE, "body: more than 1048576 bytes when decompressed");
    kit_ask("POST", INFER);
    kit_ex.max_body = 1000;
    kit_send(gzipped(view_of(zeros, 1001), room));
    kit_add("content-encoding", VIEW("gzip"));
    refused(SIZE_MAX, STATUS_TOO_LARGE, "body: more than 1000 bytes when decompressed");
    mem_free(zeros);
}

#define TWO                                                                                        \
    "{\"inputs\":[{\"name\":\"a\",\"shape\":[1,2],\"datatype\":\"FP16\",\"parameters\":"           \
    "{\"binary_data_size\":4}},{\"name\":\"b\",\"shape\":[1],\"datatype\":\"BYTES\","              \
    "\"parameters\":{\"binary_data_size\":5}}],\"parameters\":{\"binary_data_output\":true}}"

static void binary_tensors(void **state)
{
    static const char tail[] = "abcd\1\0\0\0z";
    char length[32];
    snprintf(length, sizeof(length), "%zu", sizeof(TWO) - 1);
    for (size_t max = 1; max < 300; max += 13) {
        ask_binary(VIEW(TWO), VIEW(tail), length);
        if (!decode(max))
            fail_msg("%s", err.text);
        // Views into the body: nothing is copied.
        assert_ptr_equal(req.inputs[0].data, kit_ex.body.data + sizeof(TWO) - 1);
        assert_ptr_equal(req.inputs[1].data, kit_ex.body.data + sizeof(TWO) + 3);
        assert_int_equal(req.format, FORMAT_OIP_BINARY);
        assert_true(req.binary_output);
    }
    for (size_t n = 0; n < sizeof(tail) - 1; n++) {
        ask_binary(VIEW(TWO), view_of(tail, n), length);
        refused(SIZE_MAX, STATUS_BAD_REQUEST, NULL);
        assert_non_null(strstr(err.text, "parameters.binary_data_size"));
    }
    ask_binary(VIEW(TWO), view_of(tail, sizeof(tail)), length);
    refused(1, STATUS_BAD_REQUEST, "body: 1 bytes behind the JSON belong to no input");
}

// Row 97.
static void header_length(void **state)
{
    static const char *const bad[] = {"-1",  "+1",  "1 ",  "0x1", "18446744073709551616",
                                      "1.0", "1e1", "abc", "1,1", "99999999999999999999999999",
                                      "\t1", "--1"};
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ask_binary(VIEW(TWO), VIEW(""), bad[i]);
        refused(SIZE_MAX, STATUS_BAD_REQUEST,
                "inference-header-content-length: expected a number of bytes");
    }
    ask_json(VIEW("{}")); // an empty field is there, and no number
    kit_add("inference-header-content-length", view_of(NULL, 0));
    refused(SIZE_MAX, STATUS_BAD_REQUEST,
            "inference-header-content-length: expected a number of bytes");
    ask_binary(VIEW("{}"), VIEW(""), "3");
    refused(SIZE_MAX, STATUS_BAD_REQUEST,
            "inference-header-content-length: 3 bytes, but the body has 2");
    ask_binary(VIEW("{}"), VIEW(""), "18446744073709551615");
    refused(SIZE_MAX, STATUS_BAD_REQUEST, NULL);
    ask_binary(VIEW("{}"), VIEW(""), "2");
    kit_add("inference-header-content-length", VIEW("2"));
    refused(SIZE_MAX, STATUS_BAD_REQUEST, "inference-header-content-length: came twice");
}

static void raw_binary(void **state)
{
    struct tensor x = {.name = VIEW("x"), .dtype = DT_FP32, .rank = 2, .shape = {-1, 4}};
    meta = (struct model_metadata){.name = VIEW("m"), .inputs = &x, .n_inputs = 1, .max_batch = 8};
    char body[32] = {0};
    ask_binary(VIEW(""), view_of(body, 32), "0");
    assert_true(decode(SIZE_MAX));
    assert_int_equal(req.rows, 2);
    assert_int_equal(req.inputs[0].shape[0], 2);
    assert_ptr_equal(req.inputs[0].data, kit_ex.body.data);
    assert_true(view_is(req.model, "m"));
    ask_binary(VIEW(""), view_of(body, 31), "0");
    refused(SIZE_MAX, STATUS_BAD_REQUEST, NULL);
    meta.n_inputs = 2;
    ask_binary(VIEW(""), view_of(body, 32), "0");
    refused(SIZE_MAX, STATUS_BAD_REQUEST, NULL);
    meta = (struct model_metadata){0};
}

#define DEEP "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":"

static void check_deep(unsigned rank)
{
    const struct tensor *x = &req.inputs[0];
    const float want[4] = {1, 2, 3, 4};
    if (err.status != STATUS_OK)
        fail_msg("%s", err.text);
    assert_int_equal(x->rank, rank);
    for (unsigned i = 0; i < rank; i++)
        assert_int_equal(tensor_dim(x, i), i == 0 || i + 1 == rank ? 2 : 1);
    assert_int_equal(x->bytes, sizeof(want));
    assert_memory_equal(x->data, want, sizeof(want));
    assert_int_equal(req.rows, 2);
}

static void many_dimensions(void **state)
{
    static const char flat[] = DEEP "[2,1,1,1,1,1,1,1,1,1,1,1,1,1,1,2],\"data\":[1,2,3,4]}]}";
    static const char nested[] =
        DEEP "[2,1,1,1,1,1,1,1,1,1,1,2],\"data\":[[[[[[[[[[[[1,2]]]]]]]]]]],"
             "[[[[[[[[[[[3,4]]]]]]]]]]]]}]}";
    static const char uneven[] =
        DEEP "[2,1,1,1,1,1,1,1,1,1,1,2],\"data\":[[[[[[[[[[[[1],[2]]]]]]]]]]],"
             "[[[[[[[[[[[3],[4]]]]]]]]]]]]}]}";
    static const char binary[] = DEEP "[2,1,1,1,1,1,1,1,1,1,1,2],\"parameters\":{"
                                      "\"binary_data_size\":16}}]}";
    const float data[4] = {1, 2, 3, 4};
    char length[16];
    snprintf(length, sizeof(length), "%zu", sizeof(binary) - 1);
    for (size_t max = 1; max < sizeof(nested); max += 1 + max / 4) {
        ask_json(VIEW(flat));
        decode(max);
        check_deep(16);
        ask_json(VIEW(nested));
        decode(max);
        check_deep(12);
        ask_binary(VIEW(binary), view_of(data, sizeof(data)), length);
        decode(max);
        check_deep(12);
        ask_json(VIEW(uneven));
        refused(max, STATUS_BAD_REQUEST,
                "inputs[0].data: nested arrays do not follow shape [2,1,1,1,1,1,1,1,1,1,1,2]");
    }
    int64_t more[4] = {1, 1, 1, -1};
    struct tensor x = {.name = VIEW("x"),
                       .dtype = DT_FP32,
                       .rank = 12,
                       .shape = {-1, 1, 1, 1, 1, 1, 1, 1},
                       .more = more};
    meta = (struct model_metadata){.name = VIEW("m"), .inputs = &x, .n_inputs = 1, .max_batch = 8};
    ask_binary(VIEW(""), view_of(data, sizeof(data)), "0");
    assert_true(decode(SIZE_MAX));
    assert_int_equal(tensor_dim(&req.inputs[0], 0), 1);
    assert_int_equal(tensor_dim(&req.inputs[0], 11), 4);
    assert_int_equal(more[3], -1); // the model's own
    meta = (struct model_metadata){0};
}

// The n-th allocation fails. True: there were fewer.
static bool decode_without_memory(uint64_t n)
{
    mem_fail_at(n);
    struct api_decoder *d = api_decode_begin(&kit_ex, &call, NULL, &req);
    enum oip_step step = d ? OIP_MORE : OIP_ERROR;
    while (step == OIP_MORE)
        step = api_decode_step(d, SIZE_MAX, &err);
    mem_fail_at(0);
    if (d && step == OIP_ERROR)
        assert_int_equal(err.status, STATUS_UNAVAILABLE);
    return step == OIP_DONE;
}

static void no_memory_for_dimensions(void **state)
{
    bool ok = false;
    for (uint64_t n = 1; !ok; n++) {
        ask_json(VIEW(DEEP "[2,1,1,1,1,1,1,1,1,1,1,2],\"data\":[1,2,3,4]}]}"));
        assert_int_equal(api_route(&kit_ex, &call, &err), API_INFER);
        ok = decode_without_memory(n);
    }
}

// The n-th allocation fails, n = 1 …: 503 each time, nothing leaks (ASan), then it works.
static void allocation_fails_anywhere(void **state)
{
    uint8_t room[4096];
    struct buffer b;
    struct arena a;
    arena_init(&a, 0);
    buffer_init(&b);
    struct view packed = gzipped(VIEW(json), room), m = message(&a, "m", &b);
    for (unsigned k = 0; k < 3; k++) {
        bool ok = false;
        for (uint64_t n = 1; !ok; n++) {
            assert_true(n < 200);
            if (k == 2)
                ask_grpc(m, 0, NULL);
            else
                ask_json(k ? packed : VIEW(json));
            if (k == 1)
                kit_add("content-encoding", VIEW("gzip"));
            assert_int_equal(api_route(&kit_ex, &call, &err), API_INFER);
            ok = decode_without_memory(n);
        }
    }
    buffer_deinit(&b);
    arena_deinit(&a);
}

// The client goes in the middle of each step: nothing leaks.
static void dropped_anywhere(void **state)
{
    uint8_t room[4096];
    struct view packed = gzipped(VIEW(json), room);
    for (unsigned stop = 0; stop < 12; stop++) {
        ask_json(packed);
        kit_add("content-encoding", VIEW("gzip"));
        assert_int_equal(api_route(&kit_ex, &call, &err), API_INFER);
        struct api_decoder *d = api_decode_begin(&kit_ex, &call, NULL, &req);
        for (unsigned i = 0; i < stop; i++)
            if (api_decode_step(d, 1, &err) != OIP_MORE)
                break;
        api_decode_drop(d);
        api_decode_drop(d);
    }
}

// ---- what decoding takes is charged --------------------------------------------------------------------

static int64_t held, most, peak;

static bool count_charge(struct exchange *ex, int64_t delta_bytes, void *ctx)
{
    if (delta_bytes > 0 && held + delta_bytes > most)
        return false;
    held += delta_bytes;
    peak = held > peak ? held : peak;
    return true;
}

// 100,000 values of two bytes each, which become eight: 200 KB and 800 KB.
static struct view many_values(void)
{
    static char body[300000];
    size_t n = (size_t)sprintf(body, "{\"inputs\":[{\"name\":\"x\",\"shape\":[100000],"
                                     "\"datatype\":\"FP64\",\"data\":[0");
    for (unsigned i = 1; i < 100000; i++, n += 2)
        memcpy(body + n, ",7", 2);
    n += (size_t)sprintf(body + n, "]}]}");
    return view_of(body, n);
}

static void charges_what_it_takes(void **state)
{
    static uint8_t packed[300000];
    for (int zip = 0; zip < 2; zip++) {
        for (size_t step = 1000; step <= 1000000; step *= 10) {
            kit_ops.on_charge = count_charge;
            held = peak = 0;
            most = INT64_MAX;
            kit_ask("POST", INFER);
            if (zip) {
                uLongf n = sizeof(packed);
                struct view v = many_values();
                assert_int_equal(compress(packed, &n, (const Bytef *)v.p, v.n), Z_OK);
                kit_add("content-encoding", VIEW("deflate"));
                kit_send(view_of(packed, n));
            } else {
                kit_send(many_values());
            }
            assert_non_null(arena_alloc(&kit_ex.arena, 1)); // where http/ put the head
            if (!decode(step))
                fail_msg("%s", err.text);
            assert_int_equal(held, kit_ex.arena.bytes + kit_ex.body.cap);
            assert_int_equal(held, kit_ex.charged); // what http/ gives back in the end
            assert_true(held >= (zip ? 1000000 : 800000) && held < 1400000);
            assert_true(peak >= held && peak < 1800000);
        }
    }
    kit_ops.on_charge = NULL;
}

static void refuses_what_cannot_be_charged(void **state)
{
    kit_ops.on_charge = count_charge;
    for (most = 0; most < 800000; most += 100000) {
        held = 0;
        kit_ask("POST", INFER);
        kit_send(many_values());
        refused(1000, STATUS_UNAVAILABLE,
                "body: the memory that requests may hold at a time is taken");
        assert_true(held <= most && held == kit_ex.charged);
    }
    kit_ops.on_charge = NULL;
}

// What the head says of the request, and what its parameters do.
static void words_of_the_head(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value, *why;
        unsigned priority;
        bool no_chain;
    } rows[] = {
        {"sluice-priority", "7", NULL, 7, false},
        {"sluice-priority", "1000", NULL, 255, false},
        {"sluice-priority", "-1", "sluice-priority: expected a non-negative integer", 0, false},
        {"sluice-priority", "", "sluice-priority: expected a non-negative integer", 0, false},
        {"sluice-chain", "none", NULL, 3, true},
        {"sluice-chain", "", "sluice-chain: expected none", 0, false},
        {"sluice-chair", "none", NULL, 3, false},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ask_json(VIEW("{\"parameters\":{\"priority\":3},\"inputs\":[{\"name\":\"x\",\"shape\":[1],"
                      "\"datatype\":\"INT8\",\"data\":[1]}]}"));
        kit_add(rows[i].name, view_str(rows[i].value));
        if (rows[i].why) {
            refused(SIZE_MAX, STATUS_BAD_REQUEST, rows[i].why);
            continue;
        }
        assert_true(decode(SIZE_MAX));
        assert_int_equal(req.priority, rows[i].priority);
        assert_int_equal(req.no_chain, rows[i].no_chain);
        assert_false(req.sequence);
    }
    ask_json(VIEW(
        "{\"parameters\":{\"sluice-chain\":\"none\"},\"inputs\":[{\"name\":\"x\",\"shape\":[1],"
        "\"datatype\":\"INT8\",\"data\":[1]}]}"));
    assert_true(decode(SIZE_MAX) && req.no_chain && !req.sequence);
    ask_json(VIEW("{\"parameters\":{\"sluice-chain\":true},\"inputs\":[]}"));
    refused(SIZE_MAX, STATUS_BAD_REQUEST, "parameters.sluice-chain: expected \"none\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_in_every_step_size),
        cmocka_unit_test(every_truncation),
        cmocka_unit_test(words_of_the_head),
        cmocka_unit_test(codings),
        cmocka_unit_test(packed_bounds),
        cmocka_unit_test(binary_tensors),
        cmocka_unit_test(header_length),
        cmocka_unit_test(raw_binary),
        cmocka_unit_test(many_dimensions),
        cmocka_unit_test(no_memory_for_dimensions),
        cmocka_unit_test(allocation_fails_anywhere),
        cmocka_unit_test(dropped_anywhere),
        cmocka_unit_test(charges_what_it_takes),
        cmocka_unit_test(refuses_what_cannot_be_charged),
    };
    return cmocka_run_group_tests(tests, kit_open, kit_close);
}
