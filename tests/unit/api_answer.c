// Answers of an infer: JSON, binary, gRPC; what they say beside the tensors; what has no JSON form.
#include "api/meta.h"
#include "api_kit.h"
#include "infer/oip_grpc.h"

static struct infer_request req;
static struct slice slice;
static struct error err;
static struct answer_meta meta;

static struct { // what was taken
    struct tensor *outputs;
    unsigned n;
    uint32_t rows;
} taken;

// Rows of an answer whose memory goes with its block (but for the tensors' data, which stay the test's).
static void take(struct tensor *outputs, unsigned n, uint32_t rows)
{
    struct block *b = block_new(&kit_blocks, 16);
    struct answer *a = answer_new(b, outputs, n, rows);
    assert_non_null(a);
    a->version = VIEW("3");
    slice = (struct slice){.answer = a};
    taken.outputs = outputs;
    taken.n = n;
    taken.rows = rows;
}

static void drop(void)
{
    block_unref(slice.answer->block);
    slice.answer = NULL;
}

static void take_again(void)
{
    struct slice before = slice;
    take(taken.outputs, taken.n, taken.rows);
    slice.row = before.row;
    slice.rows = before.rows;
}

static struct api_answer *flowing;

static void on_want(struct exchange *ex, void *ctx)
{
    bool ok = api_answer_want(flowing);
    assert_int_equal(ok, !kit_flow.cut);
}

// Answered on a new exchange; how many steps it took. One that flows is taken as its client would; it may be cut.
static unsigned answer(void)
{
    struct api_call call = {.kind = API_INFER, .grpc = req.format == FORMAT_OIP_GRPC};
    struct api_answer *more = NULL;
    unsigned steps = 1;
    kit_ask("POST", "/v2/models/m/infer");
    req.model = VIEW("m");
    enum oip_step s =
        api_answer_infer(&kit_api, &kit_ex, &call, &req, &slice, &meta, 0, &more, &err);
    for (; s == OIP_MORE && !api_answer_flows(more); steps++)
        s = api_answer_step(more, 0, &err);
    if (s == OIP_MORE) {
        flowing = more;
        drop(); // it has what it needs
        for (; kit_flow.state != FLOW_ENDED; steps++)
            assert_true(kit_want());
        api_answer_drop(more);
        mem_fail_at(0);
        take_again();
        s = OIP_DONE;
    }
    assert_int_equal(s, OIP_DONE);
    assert_int_equal(kit_said.calls, 1);
    return steps;
}

static void json_is(const char *want)
{
    answer();
    assert_string_equal(kit_body_text(), want);
    assert_int_equal(kit_said.status, 200);
    assert_string_equal(kit_header("content-type"), "application/json");
    assert_int_equal(err.status, STATUS_OK);
}

// One output named y of one row.
static void one(enum dtype dtype, const void *data, size_t bytes, int64_t n)
{
    struct tensor y = {.name = VIEW("y"),
                       .dtype = dtype,
                       .rank = 2,
                       .shape = {1, n},
                       .data = data,
                       .bytes = bytes};
    take(&y, 1, 1);
}

#define DATA(dtype, shape, data)                                                                   \
    "{\"model_name\":\"m\",\"model_version\":\"3\",\"outputs\":[{\"name\":\"y\",\"datatype\":"     \
    "\"" dtype "\",\"shape\":" shape ",\"data\":" data "}]}"

#define CHECK(DTYPE, text, type, ...)                                                              \
    do {                                                                                           \
        const type v[] = {__VA_ARGS__};                                                            \
        one(DT_##DTYPE, v, sizeof(v), 3);                                                          \
        json_is(DATA(#DTYPE, "[1,3]", text));                                                      \
        drop();                                                                                    \
    } while (0)

static void every_datatype(void **state)
{
    const float inf = __builtin_inff(), nan = __builtin_nanf("");
    CHECK(BOOL, "[true,false,true]", uint8_t, 1, 0, 2);
    CHECK(UINT8, "[0,7,255]", uint8_t, 0, 7, 255);
    CHECK(UINT16, "[0,7,65535]", uint16_t, 0, 7, 65535);
    CHECK(UINT32, "[0,7,4294967295]", uint32_t, 0, 7, UINT32_MAX);
    CHECK(UINT64, "[0,7,18446744073709551615]", uint64_t, 0, 7, UINT64_MAX);
    CHECK(INT8, "[-128,0,127]", int8_t, -128, 0, 127);
    CHECK(INT16, "[-32768,0,32767]", int16_t, -32768, 0, 32767);
    CHECK(INT32, "[-2147483648,0,2147483647]", int32_t, INT32_MIN, 0, INT32_MAX);
    CHECK(INT64, "[-9223372036854775808,0,9223372036854775807]", int64_t, INT64_MIN, 0, INT64_MAX);
    CHECK(FP32, "[0.1,-2.5,3]", float, 0.1f, -2.5f, 3);
    CHECK(FP64, "[0.1,-2.5,3]", double, 0.1, -2.5, 3);
    CHECK(FP32, "[\"Infinity\",\"-Infinity\",\"NaN\"]", float, inf, -inf, nan);
    CHECK(FP64, "[\"Infinity\",\"-Infinity\",\"NaN\"]", double, inf, -inf, nan);
    static const char bytes[] = "\1\0\0\0a\0\0\0\0\5\0\0\0\"\n\xc3\xa9\0";
    one(DT_BYTES, bytes, sizeof(bytes) - 1, 3);
    json_is(DATA("BYTES", "[1,3]", "[\"a\",\"\",\"\\\"\\n\xc3\xa9\\u0000\"]"));
    drop();
    struct tensor none = {.name = VIEW("y"), .dtype = DT_FP32, .rank = 1, .shape = {0}};
    take(&none, 1, 0);
    json_is(DATA("FP32", "[0]", "[]"));
    drop();
    none.dtype = DT_INT8;
    take(&none, 1, 0);
    json_is(DATA("INT8", "[0]", "[]"));
    drop();
}

// One row of two, in twelve dimensions: the answer's own shape stays as it is.
static void many_dimensions(void **state)
{
    const float v[4] = {1, 2, 3, 4};
    int64_t more[4] = {1, 1, 1, 2};
    struct tensor y = {.name = VIEW("y"),
                       .dtype = DT_FP32,
                       .rank = 12,
                       .shape = {2, 1, 1, 1, 1, 1, 1, 1},
                       .more = more,
                       .data = (const uint8_t *)v,
                       .bytes = sizeof(v)};
    take(&y, 1, 2);
    more[3] = 99; // the answer has its own
    slice.row = slice.rows = 1;
    json_is(DATA("FP32", "[1,1,1,1,1,1,1,1,1,1,1,2]", "[3,4]"));
    assert_int_equal(slice.answer->outputs[0].shape[0], 2);
    req.format = FORMAT_OIP_GRPC;
    answer();
    struct view body = kit_body();
    struct block *b = block_new(&kit_blocks, body.n);
    struct answer *back;
    memcpy(b->data, body.p, body.n);
    struct view message = view_of(b->data + 5, body.n - 5);
    assert_true(oip_grpc_read_answer(b, message, 0, &back, &err));
    struct tensor mine = slice_output(&slice, 0);
    assert_true(tensor_same_shape(&back->outputs[0], &mine));
    assert_memory_equal(back->outputs[0].data, v + 2, 8);
    block_unref(b);
    req = (struct infer_request){0};
    drop();
}

static void error_is(enum status status, const char *text)
{
    char body[400];
    answer();
    snprintf(body, sizeof(body), "{\"error\":\"%s\"}", text);
    assert_string_equal(kit_body_text(), body);
    assert_int_equal(kit_said.status, status_table[status].http);
    assert_int_equal(err.status, status);
    assert_string_equal(kit_header("content-type"), "application/json");
    drop();
}

// What JSON cannot say is refused with the way out, and goes in binary.
static void no_json_form(void **state)
{
    for (unsigned k = 0; k < 2; k++) {
        one(k ? DT_BF16 : DT_FP16, "abcd", 4, 2);
        error_is(STATUS_BAD_REQUEST,
                 k ? "outputs[0]: BF16 has no JSON form, ask for it with binary_data"
                   : "outputs[0]: FP16 has no JSON form, ask for it with binary_data");
    }
    one(DT_BYTES, "\2\0\0\0Z\xff", 6, 1);
    error_is(STATUS_BAD_REQUEST,
             "outputs[0]: its BYTES are not UTF-8, ask for it with binary_data");
    req = (struct infer_request){.format = FORMAT_OIP_BINARY, .binary_output = true};
    one(DT_FP16, "abcd", 4, 2);
    answer();
    assert_int_equal(kit_said.status, 200);
    assert_memory_equal(kit_body().p + kit_body().n - 4, "abcd", 4);
    drop();
    req = (struct infer_request){0};
}

// Requested outputs, in the order asked for, some in binary; those that the worker does not know are left out.
static void requested_outputs(void **state)
{
    struct tensor out[] = {{VIEW("a"), DT_INT8, 2, {1, 2}, NULL, (const uint8_t *)"\1\2", 2, NULL},
                           {VIEW("b"), DT_FP16, 2, {1, 2}, NULL, (const uint8_t *)"wxyz", 4, NULL},
                           {VIEW("c"), DT_BOOL, 1, {1}, NULL, (const uint8_t *)"\1", 1, NULL}};
    struct requested_output want[] = {
        {VIEW("c"), true, 0, NULL}, {VIEW("a"), false, 0, NULL}, {VIEW("b"), true, 0, NULL}};
    const char *json =
        "{\"model_name\":\"m\",\"model_version\":\"3\",\"id\":\"i\\\"d\",\"outputs\":["
        "{\"name\":\"c\",\"datatype\":\"BOOL\",\"shape\":[1],\"parameters\":{\"binary_data_size"
        "\":1}},{\"name\":\"a\",\"datatype\":\"INT8\",\"shape\":[1,2],\"data\":[1,2]},"
        "{\"name\":\"b\",\"datatype\":\"FP16\",\"shape\":[1,2],\"parameters\":"
        "{\"binary_data_size\":4}}]}";
    req = (struct infer_request){
        .outputs = want, .n_outputs = 3, .format = FORMAT_OIP_BINARY, .id = VIEW("i\"d")};
    take(out, 3, 1);
    answer();
    assert_string_equal(kit_header("content-type"), "application/octet-stream");
    assert_int_equal(atoi(kit_header("inference-header-content-length")), strlen(json));
    assert_int_equal(kit_body().n, strlen(json) + 5);
    assert_memory_equal(kit_body().p, json, strlen(json));
    assert_memory_equal(kit_body().p + strlen(json), "\1wxyz", 5);
    assert_int_equal(kit_said.n_lent, 0); // small: copied
    want[0].name = want[2].name = VIEW("Zqx");
    answer();
    assert_string_equal(
        kit_body_text(),
        "{\"model_name\":\"m\",\"model_version\":\"3\",\"id\":\"i\\\"d\",\"outputs\":["
        "{\"name\":\"a\",\"datatype\":\"INT8\",\"shape\":[1,2],\"data\":[1,2]}]}");
    want[1].name = VIEW("Zqy"); // and there is none
    answer();
    assert_string_equal(kit_body_text(), "{\"model_name\":\"m\",\"model_version\":\"3\",\"id\":"
                                         "\"i\\\"d\",\"outputs\":[]}");
    drop();
    req = (struct infer_request){0};
}

// Large ones: JSON in several steps, binary and gRPC lent by the answer's block.
static void large(void **state)
{
    const size_t n = 200000;
    float *values = mem_must(n * 4);
    for (size_t i = 0; i < n; i++)
        values[i] = 0.5f;
    struct tensor y = {VIEW("y"), DT_FP32, 2, {2, (int64_t)n / 2}, NULL, (const uint8_t *)values,
                       n * 4,     NULL};
    take(&y, 1, 2);
    assert_true(answer() >= 3);
    assert_int_equal(kit_woken, 0);
    const char *text = kit_body_text();
    assert_int_equal(strlen(text), strlen(DATA("FP32", "[2,100000]", "[]")) + n * 4 - 1);
    const char *p = strchr(text, '.') - 1; // the pieces of the steps meet without a seam
    for (size_t i = 0; i < n; i++, p += 4)
        assert_memory_equal(p, i + 1 < n ? "0.5," : "0.5]", 4);
    assert_string_equal(p, "}]}");
    struct requested_output twice[] = {{VIEW("y"), false, 0, NULL}, {VIEW("y"), false, 0, NULL}};
    req = (struct infer_request){.outputs = twice, .n_outputs = 2};
    slice.rows = slice.row = 1; // a row of two: from a copy, since another's reader may be faster
    answer();
    assert_null(kit_header("content-length"));
    size_t points = 0;
    for (p = kit_body_text(); *p; p++)
        points += *p == '.';
    assert_int_equal(points, n);
    assert_string_equal(p - 7, "0.5]}]}");
    slice.rows = slice.row = 0;
    req = (struct infer_request){0};
    assert_true(kit_api.scratch.cap <= (1 << 20)); // one large answer does not stay with the loop
    for (unsigned k = 0; k < 2; k++) {
        req = (struct infer_request){.format = k ? FORMAT_OIP_GRPC : FORMAT_OIP_BINARY,
                                     .binary_output = true};
        slice.rows = 1; // the second row only
        slice.row = 1;
        answer();
        assert_int_equal(kit_said.n_lent, 1);
        assert_memory_equal(kit_body().p + kit_body().n - n * 2, values + n / 2, n * 2);
    }
    drop();
    assert_int_equal(kit_blocks.live_blocks, 0);
    mem_free(values);
    req = (struct infer_request){0};
}

// Every allocation of one that flows fails in turn: refused while nothing was said, cut later, whole at last.
static void want_of_memory_in_a_flow(void **state)
{
    static float values[120000];
    struct tensor y = {VIEW("y"),      DT_FP32, 2, {2, 60000}, NULL, (const uint8_t *)values,
                       sizeof(values), NULL};
    unsigned refused = 0, cut = 0, whole = 0;
    for (unsigned i = 0; i < 120000; i++)
        values[i] = 0.5f;
    buffer_reset(&kit_said.body);
    assert_non_null(buffer_reserve(&kit_said.body, 1 << 20)); // so that the kit needs none
    kit_fails_on = true;
    for (uint64_t n = 1; whole == 0; n++) {
        assert_true(n < 300);
        buffer_deinit(&kit_api.scratch); // a loop that has just begun
        take(&y, 1, 2);
        slice.rows = 1;
        mem_fail_at(n);
        answer();
        mem_fail_at(0);
        drop();
        assert_int_equal(kit_blocks.live_blocks, 0);
        refused += kit_said.status == 503;
        cut += kit_said.status == 200 && kit_flow.cut;
        whole += kit_said.status == 200 && !kit_flow.cut;
    }
    kit_fails_on = false;
    assert_true(refused > 2 && cut > 2);
    slice = (struct slice){0};
}

// The last element of many cannot be said in JSON: one answer, the error, however far the steps had come.
// The client that goes on the way leaves nothing behind.
static void broken_late(void **state)
{
    const size_t n = 100000, each = 8;
    char *bytes = mem_must(n * each);
    for (size_t i = 0; i < n; i++)
        memcpy(bytes + i * each, i + 1 < n ? "\4\0\0\0text" : "\4\0\0\0Zqx\xff", each);
    struct tensor y = {VIEW("y"), DT_BYTES, 1, {(int64_t)n}, NULL, (const uint8_t *)bytes,
                       n * each,  NULL};
    take(&y, 1, 0);
    struct api_call call = {.kind = API_INFER};
    struct api_answer *more = NULL;
    kit_ask("POST", "/");
    assert_int_equal(
        api_answer_infer(&kit_api, &kit_ex, &call, &req, &slice, &meta, 0, &more, &err), OIP_MORE);
    api_answer_drop(more);
    assert_int_equal(kit_said.calls, 0);
    assert_true(answer() >= 3);
    assert_int_equal(kit_said.status, 400);
    assert_null(strstr(kit_body_text(), "Zqx"));
    drop();
    mem_free(bytes);
}

static void metadata_of_an_answer(void **state)
{
    meta = (struct answer_meta){.model = VIEW("m"),
                                .version = VIEW("3"),
                                .source = "model",
                                .fallback = VIEW("big\r\nx"),
                                .degradation = 9,
                                .experiment = VIEW("e"),
                                .variant = VIEW("b"),
                                .batch_rows = 8,
                                .batch_reason = "full",
                                .parse_us = 12,
                                .queue_us = 1500,
                                .compute_us = 2000000,
                                .total_us = 2001512,
                                .aged = true,
                                .age_s = 61,
                                .request_id = VIEW("r-1")};
    one(DT_INT8, "\1", 1, 1);
    json_is(
        "{\"model_name\":\"m\",\"model_version\":\"3\",\"parameters\":{\"sluice-source\":\"model\","
        "\"sluice-degradation\":\"4\",\"age_s\":61,\"sluice-fallback\":\"big??x\",\"sluice-"
        "experiment\":\"e/b\","
        "\"sluice-batch\":\"8;reason=full\",\"queue_us\":1500,\"compute_us\":2000000},\"outputs\":["
        "{\"name\":\"y\",\"datatype\":\"INT8\",\"shape\":[1,1],\"data\":[1]}]}");
    assert_string_equal(kit_header("sluice-model"), "m;version=3");
    assert_string_equal(kit_header("sluice-source"), "model");
    assert_string_equal(kit_header("sluice-degradation"), "4");
    assert_string_equal(kit_header("age"), "61");
    assert_string_equal(kit_header("sluice-fallback"), "big??x");
    assert_string_equal(kit_header("sluice-experiment"), "e/b");
    assert_string_equal(kit_header("sluice-batch"), "8;reason=full");
    assert_string_equal(kit_header("server-timing"),
                        "parse;dur=0.012, queue;dur=1.5, compute;dur=2000, total;dur=2001.512");
    assert_string_equal(kit_header("x-request-id"), "r-1");
    meta.hidden = true; // only the id
    json_is(DATA("INT8", "[1,1]", "[1]"));
    assert_int_equal(kit_said.n_headers, 2);
    assert_string_equal(kit_header("x-request-id"), "r-1");
    char longest[1000];
    memset(longest, 'n', sizeof(longest));
    struct view v = view_of(longest, sizeof(longest));
    meta = (struct answer_meta){.model = v,
                                .version = v,
                                .fallback = v,
                                .experiment = v,
                                .variant = v,
                                .source = "stale",
                                .batch_rows = UINT32_MAX,
                                .batch_reason = "a reason of more than thirty-two characters",
                                .parse_us = UINT64_MAX,
                                .queue_us = UINT64_MAX,
                                .compute_us = UINT64_MAX,
                                .total_us = UINT64_MAX,
                                .aged = true,
                                .age_s = UINT32_MAX};
    answer(); // stays within its text (ASan)
    assert_int_equal(strlen(kit_header("sluice-model")), 160 + 9 + 160);
    drop();
    // What is written down no model gave.
    meta = (struct answer_meta){.model = VIEW("m"),
                                .fallback = VIEW("m"),
                                .attempts = VIEW("m;not_ready, default;ok;dur=0"),
                                .source = answer_source_name[SOURCE_DEFAULT]};
    one(DT_INT8, "\1", 1, 1);
    answer();
    assert_null(kit_header("sluice-model"));
    assert_string_equal(kit_header("sluice-source"), "default");
    assert_string_equal(kit_header("sluice-fallback"), "m");
    assert_string_equal(kit_header("sluice-attempts"), "m;not_ready, default;ok;dur=0");
    drop();
    meta = (struct answer_meta){0};
}

// Every allocation fails in turn: the answer is 503 each time, then whole; nothing is left behind.
static void allocation_fails_anywhere(void **state)
{
    static const enum infer_format formats[] = {FORMAT_OIP_JSON, FORMAT_OIP_BINARY,
                                                FORMAT_OIP_GRPC};
    static const uint8_t data[20000];
    struct tensor out[] = {{VIEW("a"), DT_INT8, 2, {1, 20000}, NULL, data, sizeof(data), NULL},
                           {VIEW("b"), DT_INT8, 2, {1, 2}, NULL, data, 2, NULL}};
    for (unsigned k = 0; k < 3; k++) {
        req = (struct infer_request){.format = formats[k], .binary_output = k > 0};
        err.status = STATUS_UNAVAILABLE;
        unsigned failed = 0;
        for (uint64_t n = 1; err.status != STATUS_OK; n++) {
            assert_true(n < 100);
            buffer_deinit(&kit_api.scratch); // a loop that has just begun
            take(out, 2, 1);
            mem_fail_at(n);
            answer();
            mem_fail_at(0);
            drop();
            if (err.status == STATUS_OK)
                break;
            failed++;
            assert_int_equal(err.status, STATUS_UNAVAILABLE);
            if (k == 2)
                assert_string_equal(kit_trailer("grpc-status"), "14");
            else
                assert_int_equal(kit_said.status, 503);
        }
        assert_true(failed >= 1);
    }
    req = (struct infer_request){0};
}

// ---- what an answer takes is charged --------------------------------------------------------------------

static int64_t held, most;

static bool count_charge(struct exchange *ex, int64_t delta_bytes, void *ctx)
{
    if (delta_bytes > 0 && held + delta_bytes > most)
        return false;
    held += delta_bytes;
    return true;
}

static struct tensor *outputs_of(size_t bytes)
{
    static float values[1 << 20];
    static struct tensor y[3];
    for (unsigned k = 0; k < 3; k++) // two that are copied where they go as bytes, one that is lent
        y[k] = (struct tensor){VIEW("y"), DT_FP32, 2, {1, 3000}, NULL, (const uint8_t *)values,
                               12000,     NULL};
    y[2].shape[1] = (int64_t)(bytes / 4);
    y[2].bytes = bytes;
    return y;
}

static void answers_are_charged(void **state)
{
    static const enum infer_format formats[] = {FORMAT_OIP_JSON, FORMAT_OIP_BINARY,
                                                FORMAT_OIP_GRPC};
    kit_ops.on_charge = count_charge;
    for (unsigned f = 0; f < 3; f++) {
        bool json = formats[f] == FORMAT_OIP_JSON;
        held = 0;
        most = INT64_MAX;
        take(outputs_of(1 << 20), 3, 1);
        req = (struct infer_request){.format = formats[f],
                                     .binary_output = formats[f] == FORMAT_OIP_BINARY};
        answer();
        assert_int_equal(kit_said.status, 200);
        assert_int_equal(held, kit_ex.charged);
        assert_true(held >= (json ? 192 << 10 : 24000) && held < (json ? 220000 : 40000));
        int64_t whole = held;
        for (most = 0; most < whole; most += json ? 100000 : 4000) {
            held = 0;
            answer(); // refused in time: what it holds was charged before
            assert_true(held <= most && held == kit_ex.charged);
            assert_int_equal(err.status, STATUS_UNAVAILABLE);
            if (formats[f] == FORMAT_OIP_GRPC) {
                assert_string_equal(kit_trailer("grpc-status"), "14");
                assert_string_equal(kit_trailer("grpc-retry-pushback-ms"), "1000");
            } else {
                assert_int_equal(kit_said.status, 503);
                assert_string_equal(kit_header("retry-after"), "1");
            }
            assert_int_equal(kit_said.n_lent, 0);
        }
        drop();
    }
    req = (struct infer_request){0};
    kit_ops.on_charge = NULL;
}

int main(void)
{
    kit_ops.on_want = on_want;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_charged),      cmocka_unit_test(every_datatype),
        cmocka_unit_test(many_dimensions),          cmocka_unit_test(no_json_form),
        cmocka_unit_test(requested_outputs),        cmocka_unit_test(large),
        cmocka_unit_test(want_of_memory_in_a_flow), cmocka_unit_test(broken_late),
        cmocka_unit_test(metadata_of_an_answer),    cmocka_unit_test(allocation_fails_anywhere),
    };
    return cmocka_run_group_tests(tests, kit_open, kit_close);
}
