// Every path and method of OIP, REST and gRPC: what it is, or how it is refused, and with which words.
#include "api_kit.h"

static struct api_call call;
static struct error err;

static enum api_kind route(const char *method, const char *path)
{
    kit_ask(method, path);
    err = (struct error){0};
    return api_route(&kit_ex, &call, &err);
}

static enum api_kind route_as(const char *method, const char *path, const char *content_type)
{
    kit_ask(method, path);
    kit_add("content-type", view_str(content_type));
    err = (struct error){0};
    return api_route(&kit_ex, &call, &err);
}

enum { GET = 1, POST = 2 };

static const struct {
    const char *path;
    int methods;
    enum api_kind kind;
    const char *model, *version, *allow;
} rest[] = {
    {"/v2", GET, API_SERVER_METADATA, "", "", "GET, HEAD"},
    {"/v2/", GET, API_SERVER_METADATA, "", "", "GET, HEAD"},
    {"/v2/health/live", GET, API_SERVER_LIVE, "", "", "GET, HEAD"},
    {"/v2/health/ready", GET, API_SERVER_READY, "", "", "GET, HEAD"},
    {"/v2/repository/index", GET | POST, API_INDEX, "", "", "GET, HEAD, POST"},
    {"/v2/models/m", GET, API_MODEL_METADATA, "m", "", "GET, HEAD"},
    {"/v2/models/m/", GET, API_MODEL_METADATA, "m", "", "GET, HEAD"},
    {"/v2/models/m/ready", GET, API_MODEL_READY, "m", "", "GET, HEAD"},
    {"/v2/models/m/stats", GET, API_STATISTICS, "m", "", "GET, HEAD"},
    {"/v2/models/stats", GET, API_STATISTICS, "", "", "GET, HEAD"},
    {"/v2/models/stats/", GET, API_STATISTICS, "", "", "GET, HEAD"},
    {"/v2/models/stats/stats", GET, API_STATISTICS, "stats", "", "GET, HEAD"},
    {"/v2/models/stats/versions/1", GET, API_MODEL_METADATA, "stats", "1", "GET, HEAD"},
    {"/v2/models/m/versions/1/stats", GET, API_STATISTICS, "m", "1", "GET, HEAD"},
    {"/v2/models/m/config", GET, API_MODEL_CONFIG, "m", "", "GET, HEAD"},
    {"/v2/models/m/infer", POST, API_INFER, "m", "", "POST"},
    {"/v2/models/a.B_9-z/versions/7/infer", POST, API_INFER, "a.B_9-z", "7", "POST"},
    {"/v2/models/m/versions/1", GET, API_MODEL_METADATA, "m", "1", "GET, HEAD"},
    {"/v2/models/m/versions/1/ready", GET, API_MODEL_READY, "m", "1", "GET, HEAD"},
    {"/v2/models/m/versions/1/config", GET, API_MODEL_CONFIG, "m", "1", "GET, HEAD"},
    {"/v2/models/versions/versions/versions", GET, API_MODEL_METADATA, "versions", "versions",
     "GET, HEAD"},
};
#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

static void every_path_and_method(void **state)
{
    static const char *const methods[] = {"GET", "HEAD",    "POST",    "PUT", "DELETE",
                                          "get", "OPTIONS", "CONNECT", "",    "GETT"};
    for (unsigned i = 0; i < COUNT(rest); i++) {
        for (unsigned k = 0; k < COUNT(methods); k++) {
            enum api_kind kind = route(methods[k], rest[i].path);
            bool ok = k < 2 ? rest[i].methods & GET : k == 2 && rest[i].methods & POST;
            if (ok) {
                assert_int_equal(kind, rest[i].kind);
                assert_int_equal(call.kind, kind);
                assert_true(view_is(call.model, rest[i].model));
                assert_true(view_is(call.version, rest[i].version));
                assert_false(call.grpc);
                assert_null(call.allow);
                continue;
            }
            char words[64];
            snprintf(words, sizeof(words), "method: expected %s", rest[i].allow);
            assert_int_equal(kind, API_REFUSED);
            assert_int_equal(call.kind, API_REFUSED);
            assert_int_equal(err.status, STATUS_METHOD);
            assert_string_equal(call.allow, rest[i].allow);
            assert_string_equal(err.text, words);
        }
    }
}

static void unknown_paths(void **state)
{
    static const char *const paths[] = {
        "/",
        "/v1",
        "/v2x",
        "/v2//",
        "/V2",
        "/v2/health",
        "/v2/health/",
        "/v2/health/live/x",
        "/v2/models",
        "/v2/models/",
        "/v2/models//",
        "/v2/models//infer",
        "/v2/models/m/Infer",
        "/v2/models/m/infer/x",
        "/v2/models/m//infer",
        "/v2/models/m/versions",
        "/v2/models/m/versions/",
        "/v2/models/m/versions//infer",
        "/v2/models/m/versions/1/2",
        "/v2/models/m/generate",
        "/v2/repository",
        "/v2/repository/models/m/load",
        "/metrics",
    };
    for (unsigned i = 0; i < COUNT(paths); i++) {
        if (route("GET", paths[i]) != API_REFUSED || err.status != STATUS_NOT_FOUND)
            fail_msg("%s: not refused as unknown", paths[i]);
        assert_string_equal(err.text, "unknown path");
        assert_null(call.allow);
    }
}

// Row 120: only [A-Za-z0-9._+@~-]{1,128}, and neither "." nor "..". http/ has canonicalised the path.
static void model_names(void **state)
{
    for (unsigned c = 1; c < 256; c++) {
        char path[] = "/v2/models/m?/infer";
        path[12] = (char)c;
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  strchr("._+@~-", (char)c);
        enum api_kind kind = route("POST", path);
        if (c == '/') { // "m", and a verb that nobody knows
            assert_int_equal(err.status, STATUS_NOT_FOUND);
            continue;
        }
        assert_int_equal(kind, ok ? API_INFER : API_REFUSED);
        if (ok)
            continue;
        assert_int_equal(err.status, STATUS_BAD_REQUEST);
        assert_string_equal(err.text, "model name: expected [A-Za-z0-9._+@~-]{1,128}");
    }
    kit_ask("POST", "");
    kit_ex.path = VIEW("/v2/models/m\0x/infer");
    assert_int_equal(api_route(&kit_ex, &call, &err), API_REFUSED);
    assert_int_equal(err.status, STATUS_BAD_REQUEST);
    static const char *const bad[] = {"/v2/models/./infer", "/v2/models/../infer",
                                      "/v2/models/a%2fb/infer", "/v2/models/%00/infer"};
    for (unsigned i = 0; i < COUNT(bad); i++) {
        assert_int_equal(route("POST", bad[i]), API_REFUSED);
        assert_int_equal(err.status, STATUS_BAD_REQUEST);
    }
    char path[5000];
    for (unsigned n = 1; n < 4200; n += n < 200 ? 1 : 997) {
        int at = sprintf(path, "/v2/models/");
        memset(path + at, 'x', n);
        strcpy(path + at + n, "/infer");
        assert_int_equal(route("POST", path), n <= 128 ? API_INFER : API_REFUSED);
        assert_int_equal(err.status, n <= 128 ? STATUS_OK : STATUS_BAD_REQUEST);
    }
    assert_int_equal(route("GET", "/v2/models/m/versions/1 2"), API_REFUSED);
    assert_string_equal(err.text, "model version: expected [A-Za-z0-9._+@~-]{1,128}");
}

static void media_types(void **state)
{
    static const char *const good[] = {"",
                                       "application/json",
                                       "Application/JSON; charset=utf-8",
                                       "application/json ;x",
                                       "application/octet-stream",
                                       "application/x-www-form-urlencoded"};
    static const char *const bad[] = {"text/plain",       "application/jsonx",
                                      "application/xml",  "application/grpc-web",
                                      "application",      "multipart/form-data; boundary=x",
                                      "application/grpcx"};
    for (unsigned i = 0; i < COUNT(good); i++)
        assert_int_equal(route_as("POST", "/v2/models/m/infer", good[i]), API_INFER);
    for (unsigned i = 0; i < COUNT(bad); i++) {
        assert_int_equal(route_as("POST", "/v2/models/m/infer", bad[i]), API_REFUSED);
        assert_int_equal(err.status, STATUS_MEDIA_TYPE);
        assert_int_equal(call.kind, API_REFUSED);
        assert_int_equal(route_as("GET", "/v2/models/m", bad[i]), API_MODEL_METADATA);
    }
}

static const struct {
    const char *path;
    enum api_kind kind;
} grpc[] = {
    {"/inference.GRPCInferenceService/ModelInfer", API_INFER},
    {"/inference.GRPCInferenceService/ServerLive", API_SERVER_LIVE},
    {"/inference.GRPCInferenceService/ServerReady", API_SERVER_READY},
    {"/inference.GRPCInferenceService/ServerMetadata", API_SERVER_METADATA},
    {"/inference.GRPCInferenceService/ModelReady", API_MODEL_READY},
    {"/inference.GRPCInferenceService/ModelMetadata", API_MODEL_METADATA},
    {"/inference.GRPCInferenceService/ModelConfig", API_MODEL_CONFIG},
    {"/inference.GRPCInferenceService/RepositoryIndex", API_INDEX},
    {"/grpc.health.v1.Health/Check", API_HEALTH_CHECK},
    {"/grpc.health.v1.Health/Watch", API_HEALTH_WATCH},
    {"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", API_REFLECT},
    {"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", API_REFLECT},
};

static void every_grpc_method(void **state)
{
    static const char *const types[] = {"application/grpc", "application/grpc+proto",
                                        "application/grpc;x=y", "application/grpc ; x"};
    for (unsigned i = 0; i < COUNT(grpc); i++) {
        for (unsigned k = 0; k < COUNT(types); k++) {
            assert_int_equal(route_as("POST", grpc[i].path, types[k]), grpc[i].kind);
            assert_true(call.grpc);
        }
        assert_int_equal(route_as("GET", grpc[i].path, "application/grpc"), API_REFUSED);
        assert_int_equal(err.status, STATUS_UNSUPPORTED);
        assert_true(call.grpc);
        // Row 102: the wrong content-type.
        assert_int_equal(route_as("POST", grpc[i].path, "application/json"), API_REFUSED);
        assert_int_equal(err.status, STATUS_MEDIA_TYPE);
        assert_false(call.grpc);
        assert_int_equal(route("POST", grpc[i].path), API_REFUSED);
        assert_int_equal(err.status, STATUS_MEDIA_TYPE);
    }
    static const char *const unknown[] = {"/",
                                          "//",
                                          "/a/b/c",
                                          "",
                                          "/inference.GRPCInferenceService/",
                                          "/inference.GRPCInferenceService/modelinfer",
                                          "/inference.GRPCInferenceService/ModelInfer/",
                                          "/inference.GRPCInferenceService/ModelStreamInfer",
                                          "/grpc.health.v1.Health/List",
                                          "/v2/models/m/infer"};
    for (unsigned i = 0; i < COUNT(unknown); i++) {
        assert_int_equal(route_as("POST", unknown[i], "application/grpc"), API_REFUSED);
        assert_int_equal(err.status, STATUS_UNSUPPORTED);
        assert_true(call.grpc);
    }
    kit_ask("POST", grpc[0].path);
    kit_ex.carrier = HTTP_1_1;
    kit_add("content-type", VIEW("application/grpc"));
    assert_int_equal(api_route(&kit_ex, &call, &err), API_REFUSED);
    assert_int_equal(err.status, STATUS_HTTP_VERSION);
    assert_false(call.grpc);
}

// Rows 102, 103.
static void grpc_timeouts(void **state)
{
    static const struct {
        const char *text;
        uint64_t us; // 0: malformed
    } rows[] = {{"1n", 1},       {"0n", 1},         {"999n", 1},
                {"1000n", 1},    {"5u", 5},         {"100m", 100000},
                {"2S", 2000000}, {"1M", 60000000},  {"99999999H", 1000000000000000},
                {"", 0},         {"m", 0},          {"1", 0},
                {"-1m", 0},      {"+1m", 0},        {"1 m", 0},
                {"1mm", 0},      {"123456789m", 0}, {"1h", 0},
                {"0x1m", 0}};
    for (unsigned i = 0; i < COUNT(rows); i++) {
        kit_ask("POST", grpc[0].path);
        kit_add("content-type", VIEW("application/grpc"));
        kit_add("grpc-timeout", *rows[i].text ? view_str(rows[i].text) : view_of(NULL, 0));
        enum api_kind kind = api_route(&kit_ex, &call, &err);
        if (rows[i].us && (kind != API_INFER || call.timeout_us != rows[i].us))
            fail_msg("%s: %d, %llu us", rows[i].text, kind, (unsigned long long)call.timeout_us);
        if (rows[i].us)
            continue;
        assert_int_equal(kind, API_REFUSED);
        assert_int_equal(err.status, STATUS_BAD_REQUEST);
        assert_string_equal(err.text,
                            "grpc-timeout: expected 1 to 8 digits and one of H M S m u n");
    }
}

static void fields_of_the_head(void **state)
{
    kit_ask("POST", "/v2/models/m/infer");
    kit_add("content-encoding", VIEW("gzip"));
    kit_add("inference-header-content-length", VIEW("12"));
    kit_add("grpc-encoding", VIEW("zstd"));
    kit_add("grpc-timeout", VIEW("nonsense")); // means nothing to REST
    assert_int_equal(api_route(&kit_ex, &call, &err), API_INFER);
    assert_true(view_is(call.content_encoding, "gzip"));
    assert_true(view_is(call.infer_header, "12"));
    assert_false(call.infer_header_twice);
    assert_int_equal(call.timeout_us, 0);
    kit_add("inference-header-content-length", VIEW("12"));
    assert_int_equal(api_route(&kit_ex, &call, &err), API_INFER);
    assert_true(call.infer_header_twice);
}

static void cache_control(void **state)
{
    static const struct {
        const char *text;
        bool no_store, no_cache;
    } rows[] = {{"no-store", true, false},
                {"No-Cache", false, true},
                {" ,max-age=0 ,, NO-STORE\t, no-cache", true, true},
                {"no-cache=\"a, no-store\"", false, true},
                {"private=\"no-store", false, false},
                {"no-stored, xno-cache, no-cach", false, false},
                {"", false, false}};
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        kit_ask("POST", "/v2/models/m/infer");
        kit_add("cache-control", view_str(rows[i].text));
        assert_int_equal(api_route(&kit_ex, &call, &err), API_INFER);
        if (call.no_store != rows[i].no_store || call.no_cache != rows[i].no_cache)
            fail_msg("%s: %d %d", rows[i].text, call.no_store, call.no_cache);
        kit_add("cache-control", VIEW("no-store")); // several fields are one list
        assert_int_equal(api_route(&kit_ex, &call, &err), API_INFER);
        assert_true(call.no_store && call.no_cache == rows[i].no_cache);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cache_control), cmocka_unit_test(every_path_and_method),
        cmocka_unit_test(unknown_paths), cmocka_unit_test(model_names),
        cmocka_unit_test(media_types),   cmocka_unit_test(every_grpc_method),
        cmocka_unit_test(grpc_timeouts), cmocka_unit_test(fields_of_the_head),
    };
    return cmocka_run_group_tests(tests, kit_open, kit_close);
}
