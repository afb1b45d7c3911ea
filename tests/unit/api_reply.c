// The small answers and errors, each word of them: REST and gRPC.
#include "api_kit.h"
#include "http/conn.h"
#include "infer/oip_grpc.h"

static struct arena arena;

static struct api_call ask(enum api_kind kind, bool grpc)
{
    kit_ask("GET", "/");
    return (struct api_call){.kind = kind, .grpc = grpc, .model = VIEW("m"), .version = VIEW("3")};
}

static void json_is(unsigned status, const char *body)
{
    assert_int_equal(kit_said.calls, 1);
    assert_int_equal(kit_said.status, status);
    assert_string_equal(kit_header("content-type"), "application/json");
    assert_int_equal(kit_said.n_trailers, 0);
    assert_string_equal(kit_body_text(), body);
}

// The message in its frame, with status 0 behind it.
static struct view message(void)
{
    assert_int_equal(kit_said.status, 200);
    assert_string_equal(kit_header("content-type"), "application/grpc");
    assert_string_equal(kit_trailer("grpc-status"), "0");
    struct view v = kit_body();
    assert_true(v.n >= 5 && v.p[0] == 0);
    assert_int_equal(__builtin_bswap32(load_u32(v.p + 1)), v.n - 5);
    return view_of(v.p + 5, v.n - 5);
}

static void health(void **state)
{
    for (unsigned yes = 0; yes < 2; yes++) {
        const char *flag = yes ? "true" : "false";
        unsigned status = yes ? 200 : 503;
        char body[100];
        bool ready;
        struct api_call c = ask(API_SERVER_LIVE, false);
        api_answer_live(&kit_api, &kit_ex, &c, yes, 0);
        snprintf(body, sizeof(body), "{\"live\":%s}", flag);
        json_is(status, body);
        c = ask(API_SERVER_READY, false);
        api_answer_ready(&kit_api, &kit_ex, &c, yes, 0);
        snprintf(body, sizeof(body), "{\"ready\":%s}", flag);
        json_is(status, body);
        c = ask(API_MODEL_READY, false);
        api_answer_ready(&kit_api, &kit_ex, &c, yes, 0);
        snprintf(body, sizeof(body), "{\"name\":\"m\",\"ready\":%s}", flag);
        json_is(status, body);
        static const enum api_kind kinds[] = {API_SERVER_LIVE, API_SERVER_READY, API_MODEL_READY};
        for (unsigned k = 0; k < 3; k++) {
            c = ask(kinds[k], true);
            (k ? api_answer_ready : api_answer_live)(&kit_api, &kit_ex, &c, yes, 0);
            assert_true(oip_grpc_read_ready(message(), &ready));
            assert_int_equal(ready, yes);
        }
        c = ask(API_HEALTH_CHECK, true);
        api_answer_ready(&kit_api, &kit_ex, &c, yes, 0);
        assert_true(view_eq(message(), yes ? VIEW("\x08\1") : VIEW("\x08\2")));
    }
}

static void server(void **state)
{
    struct api_call c = ask(API_SERVER_METADATA, false);
    api_answer_server(&kit_api, &kit_ex, &c, 0);
    json_is(200, "{\"name\":\"sluice\",\"version\":\"1.2\",\"extensions\":[\"binary_tensor_data\","
                 "\"model_configuration\",\"schedule_policy\",\"parameters\",\"statistics\"]}");
    kit_api.n_extensions = OIP_EXTENSIONS; // a gateway's
    c = ask(API_SERVER_METADATA, false);
    api_answer_server(&kit_api, &kit_ex, &c, 0);
    json_is(
        200,
        "{\"name\":\"sluice\",\"version\":\"1.2\",\"extensions\":[\"binary_tensor_data\","
        "\"model_configuration\",\"schedule_policy\",\"parameters\",\"statistics\",\"sequence\","
        "\"sequence(string_id)\"]}");
    struct view name, version;
    c = ask(API_SERVER_METADATA, true);
    api_answer_server(&kit_api, &kit_ex, &c, 0);
    assert_true(oip_grpc_read_model_request(message(), &name, &version));
    assert_true(view_is(name, "sluice") && view_is(version, "1.2"));
}

static struct view versions[] = {{"1", 1}, {"3", 1}};
static struct tensor m_in = {.name = {"x\"", 2}, .dtype = DT_FP32, .rank = 2, .shape = {-1, 64}};
static struct tensor m_out = {.name = {"s", 1}, .dtype = DT_BYTES, .rank = 1, .shape = {-1}};

static void model(void **state)
{
    struct model_metadata m = {.name = VIEW("m"),
                               .platform = VIEW("onnx"),
                               .versions = versions,
                               .inputs = &m_in,
                               .outputs = &m_out,
                               .n_versions = 2,
                               .n_inputs = 1,
                               .n_outputs = 1,
                               .max_batch = 8,
                               .instances = 2,
                               .serial = true};
    struct api_call c = ask(API_MODEL_METADATA, false);
    api_answer_model(&kit_api, &kit_ex, &c, &m, 0);
    json_is(
        200,
        "{\"name\":\"m\",\"versions\":[\"1\",\"3\"],\"platform\":\"onnx\",\"inputs\":[{\"name\":"
        "\"x\\\"\",\"datatype\":\"FP32\",\"shape\":[-1,64]}],\"outputs\":[{\"name\":\"s\","
        "\"datatype\":\"BYTES\",\"shape\":[-1]}]}");
    c = ask(API_MODEL_CONFIG, false);
    api_answer_model(&kit_api, &kit_ex, &c, &m, 0);
    json_is(200,
            "{\"name\":\"m\",\"platform\":\"onnx\",\"backend\":\"\",\"runtime\":\"\",\"max_batch_"
            "size\":8,\"input\":[{\"name\":\"x\\\"\",\"data_type\":\"TYPE_FP32\",\"format\":"
            "\"FORMAT_NONE\",\"dims\":[64],\"is_shape_tensor\":false,\"allow_ragged_batch\":false,"
            "\"optional\":false,\"is_non_linear_format_io\":false}],\"output\":[{\"name\":\"s\","
            "\"data_type\":\"TYPE_STRING\",\"dims\":[],\"label_filename\":\"\",\"is_shape_tensor\":"
            "false,\"is_non_linear_format_io\":false}],\"batch_input\":[],\"batch_output\":[],"
            "\"instance_group\":[{\"name\":\"\",\"kind\":\"KIND_AUTO\",\"count\":2,\"gpus\":[],"
            "\"secondary_devices\":[],\"profile\":[],\"passive\":false,\"host_policy\":\"\"}],"
            "\"default_model_filename\":\"\",\"cc_model_filenames\":{},\"metric_tags\":{},"
            "\"parameters\":{\"serial_device\":{\"string_value\":\"true\"}},\"model_warmup\":[]}");
    struct model_metadata back;
    struct error e;
    c = ask(API_MODEL_METADATA, true);
    api_answer_model(&kit_api, &kit_ex, &c, &m, 0);
    assert_true(oip_grpc_read_metadata(&arena, message(), &back, &e));
    assert_int_equal(back.n_versions, 2);
    assert_int_equal(back.inputs[0].shape[0], -1);
    assert_int_equal(back.outputs[0].dtype, DT_BYTES);
    c = ask(API_MODEL_CONFIG, true);
    api_answer_model(&kit_api, &kit_ex, &c, &m, 0);
    assert_true(oip_grpc_read_config(message(), &back, &(struct error){0}));
    assert_true(back.max_batch == 8 && back.instances == 2 && back.serial);
}

static void repository_index(void **state)
{
    struct oip_index_model lines[] = {
        {VIEW("m"), VIEW("3"), VIEW("READY"), VIEW("")},
        {VIEW("n"), VIEW(""), VIEW("UNAVAILABLE"), VIEW("no worker")}};
    struct oip_index index = {lines, 2}, back;
    struct api_call c = ask(API_INDEX, false);
    api_answer_index(&kit_api, &kit_ex, &c, &index, 0);
    json_is(200,
            "[{\"name\":\"m\",\"version\":\"3\",\"state\":\"READY\"},{\"name\":\"n\",\"state\":"
            "\"UNAVAILABLE\",\"reason\":\"no worker\"}]");
    c = ask(API_INDEX, true);
    api_answer_index(&kit_api, &kit_ex, &c, &index, 0);
    assert_true(oip_grpc_read_index(&arena, message(), &back));
    assert_int_equal(back.n, 2);
    assert_true(view_is(back.models[1].reason, "no worker"));
}

// Every status, its number and its words, in both forms.
static void errors(void **state)
{
    struct answer_meta meta = {.request_id = VIEW("r-1"), .model = VIEW("m")};
    for (enum status s = STATUS_BAD_REQUEST; s < STATUS_COUNT; s++) {
        const struct failure e = {.status = s, .text = "50% \"of\" \xc3\xa9\nit"};
        struct api_call c = ask(API_INFER, false);
        c.allow = s == STATUS_METHOD ? "POST" : NULL;
        c.content_encoding = VIEW("br");
        uint32_t wait = s == STATUS_UNAVAILABLE ? 2001 : 0;
        api_answer_error(&kit_api, &kit_ex, &c, &e, wait, &meta, 0);
        json_is(status_table[s].http, "{\"error\":\"50% \\\"of\\\" \xc3\xa9\\nit\"}");
        assert_string_equal(kit_header("x-request-id"), "r-1");
        assert_string_equal(kit_header("sluice-model"), "m");
        assert_int_equal(kit_header("allow") != NULL, s == STATUS_METHOD);
        if (wait) // whole seconds, and not before
            assert_string_equal(kit_header("retry-after"), "3");
        else
            assert_null(kit_header("retry-after"));
        assert_int_equal(kit_header("accept-encoding") != NULL, s == STATUS_MEDIA_TYPE);
        c.content_encoding = VIEW(""); // then it is about the media type
        api_answer_error(&kit_api, &kit_ex, &c, &e, wait, &meta, 0);
        assert_null(kit_header("accept-encoding"));
        c = ask(API_INFER, true);
        api_answer_error(&kit_api, &kit_ex, &c, &e, wait, &meta, 0);
        assert_int_equal(kit_said.status, 200);
        assert_int_equal(kit_body().n, 0);
        assert_string_equal(kit_header("content-type"), "application/grpc");
        assert_int_equal(atoi(kit_trailer("grpc-status")), status_table[s].grpc);
        assert_string_equal(kit_trailer("grpc-message"), "50%25 \"of\" %C3%A9%0Ait");
        assert_int_equal(kit_header("grpc-accept-encoding") != NULL, s == STATUS_UNSUPPORTED);
        if (wait)
            assert_string_equal(kit_trailer("grpc-retry-pushback-ms"), "2001");
    }
    // The longest text, all of it to be encoded; no call known, no metadata.
    char longest[FAILURE_WORDS + 1] = {0};
    memset(longest, '%', FAILURE_WORDS);
    const struct failure e = {.status = STATUS_INTERNAL, .text = longest};
    struct api_call c = ask(API_INFER, true);
    api_answer_error(&kit_api, &kit_ex, &c, &e, 0, NULL, 0);
    assert_int_equal(strlen(kit_trailer("grpc-message")), 3 * FAILURE_WORDS);
    kit_ask("GET", "/");
    api_answer_error(&kit_api, &kit_ex, NULL, &e, 0, NULL, 0);
    assert_int_equal(kit_said.status, 500);
    assert_int_equal(kit_said.n_headers, 1);
}

// What the HTTP room refuses by a number, before the call is known.
static void unrouted_refusals(void **state)
{
    static const struct {
        unsigned http;
        enum status status;
    } rows[] = {{400, STATUS_BAD_REQUEST}, {405, STATUS_METHOD},      {408, STATUS_SLOW_CLIENT},
                {413, STATUS_TOO_LARGE},   {414, STATUS_LONG_TARGET}, {417, STATUS_EXPECTATION},
                {431, STATUS_HEADERS},     {503, STATUS_UNAVAILABLE}, {505, STATUS_HTTP_VERSION}};
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct failure e = {.status = status_from_http(rows[i].http), .text = "field: what"};
        assert_int_equal(e.status, rows[i].status);
        kit_ask("POST", "/");
        kit_ex.carrier = HTTP_1_1; // gRPC is not spoken there, whatever its fields say
        kit_add("content-type", VIEW("application/grpc"));
        api_answer_unrouted(&kit_api, &kit_ex, &e, 0);
        json_is(rows[i].http, "{\"error\":\"field: what\"}");
        assert_int_equal(kit_header("allow") != NULL, rows[i].http == 405);
        assert_int_equal(kit_header("retry-after") != NULL, rows[i].http == 503);
        kit_ask("POST", "/");
        kit_add("content-type", VIEW("application/grpc+proto"));
        api_answer_unrouted(&kit_api, &kit_ex, &e, 0);
        assert_int_equal(kit_said.status, 200);
        assert_int_equal(kit_body().n, 0);
        assert_int_equal(atoi(kit_trailer("grpc-status")), status_table[e.status].grpc);
        assert_string_equal(kit_trailer("grpc-message"), "field: what");
        assert_int_equal(kit_trailer("grpc-retry-pushback-ms") != NULL, rows[i].http == 503);
    }
    assert_int_equal(status_from_http(500), STATUS_INTERNAL);
    assert_int_equal(status_from_http(999), STATUS_INTERNAL);
}

// The numbers of the status table and the words of HTTP/1.1 for them are two lists of two rooms.
static void each_status_has_its_reason_phrase(void **state)
{
    for (enum status s = STATUS_OK; s < STATUS_COUNT; s++) {
        if (s != STATUS_CLIENT_GONE) // never sent
            assert_string_not_equal(http_reason(status_table[s].http), http_reason(299));
    }
}

static void request_ids(void **state)
{
    static const struct {
        const char *came;
        bool kept;
    } rows[] = {{"a", true},     {"0123-ABC/~!", true}, {"", false},         {"a b", false},
                {"a\tb", false}, {"a\x7f", false},      {"\xc3\xa9", false}, {"a\r\nx: y", false}};
    const uint64_t random[2] = {UINT64_C(0x0123456789abcdef), 1};
    char out[32], longest[129];
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        kit_ask("GET", "/");
        kit_add("x-request-id", view_str(rows[i].came));
        struct view id = api_request_id(&kit_ex, random, out);
        assert_true(view_is(id, rows[i].kept ? rows[i].came : "0123456789abcdef0000000000000001"));
    }
    memset(longest, 'x', sizeof(longest));
    for (size_t n = 128; n <= 129; n++) {
        kit_ask("GET", "/");
        kit_add("x-request-id", view_of(longest, n));
        assert_int_equal(api_request_id(&kit_ex, random, out).n, n == 128 ? 128 : 32);
    }
}

// Out of memory: a status without a body, or 503; never nothing.
static void allocation_fails_anywhere(void **state)
{
    for (unsigned grpc = 0; grpc < 2; grpc++) {
        for (uint64_t n = 1; n < 5; n++) {
            struct api_call c = ask(API_SERVER_METADATA, grpc);
            buffer_deinit(&kit_api.scratch);
            mem_fail_at(n);
            api_answer_server(&kit_api, &kit_ex, &c, 0);
            mem_fail_at(0);
            assert_int_equal(kit_said.calls, 1);
            if (n <= 2 && grpc)
                assert_string_equal(kit_trailer("grpc-status"), "14");
            else if (n <= 2)
                assert_int_equal(kit_said.status, 503);
        }
    }
}

static int open_kit(void **state)
{
    kit_open(state);
    arena_init(&arena, 0);
    return 0;
}

static int close_kit(void **state)
{
    arena_deinit(&arena);
    kit_close(state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(health),
        cmocka_unit_test(server),
        cmocka_unit_test(model),
        cmocka_unit_test(repository_index),
        cmocka_unit_test(errors),
        cmocka_unit_test(unrouted_refusals),
        cmocka_unit_test(each_status_has_its_reason_phrase),
        cmocka_unit_test(request_ids),
        cmocka_unit_test(allocation_fails_anywhere),
    };
    return cmocka_run_group_tests(tests, open_kit, close_kit);
}
