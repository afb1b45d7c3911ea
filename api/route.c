#include "api/api.h"
#include <strings.h>

/* One row an endpoint. Paths of models are two tables: what stands before the name, and the verb behind
 * it, so that the commonest path of all is one prefix and one look-up. */

enum { GET = 1, POST = 2 };

struct row {
    struct view path;
    uint8_t methods;
    enum api_kind kind;
};

#define ROW(path, methods, kind)                                                                   \
    {                                                                                              \
        {path, sizeof(path) - 1}, methods, kind                                                    \
    }

static const struct row fixed[] = {
    ROW("/v2", GET, API_SERVER_METADATA),
    ROW("/v2/health/live", GET, API_SERVER_LIVE),
    ROW("/v2/health/ready", GET, API_SERVER_READY),
    ROW("/v2/repository/index", GET | POST, API_INDEX),
    ROW("/v2/models/stats", GET, API_STATISTICS),
    ROW("/sluice/v1/feedback", POST, API_FEEDBACK),
};

// Behind /v2/models/{m} and /v2/models/{m}/versions/{v}.
static const struct row verbs[] = {
    ROW("/infer", POST, API_INFER),      ROW("", GET, API_MODEL_METADATA),
    ROW("/ready", GET, API_MODEL_READY), ROW("/config", GET, API_MODEL_CONFIG),
    ROW("/stats", GET, API_STATISTICS),
};

static const struct row grpc_methods[] = {
    ROW("/inference.GRPCInferenceService/ModelInfer", POST, API_INFER),
    ROW("/inference.GRPCInferenceService/ServerLive", POST, API_SERVER_LIVE),
    ROW("/inference.GRPCInferenceService/ServerReady", POST, API_SERVER_READY),
    ROW("/inference.GRPCInferenceService/ServerMetadata", POST, API_SERVER_METADATA),
    ROW("/inference.GRPCInferenceService/ModelReady", POST, API_MODEL_READY),
    ROW("/inference.GRPCInferenceService/ModelMetadata", POST, API_MODEL_METADATA),
    ROW("/inference.GRPCInferenceService/ModelConfig", POST, API_MODEL_CONFIG),
    ROW("/inference.GRPCInferenceService/RepositoryIndex", POST, API_INDEX),
    ROW("/inference.GRPCInferenceService/ModelStatistics", POST, API_STATISTICS),
    ROW("/grpc.health.v1.Health/Check", POST, API_HEALTH_CHECK),
    ROW("/grpc.health.v1.Health/Watch", POST, API_HEALTH_WATCH),
    ROW("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", POST, API_REFLECT),
    ROW("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", POST, API_REFLECT),
};
_Static_assert(sizeof(grpc_methods) / sizeof(grpc_methods[0]) == API_KINDS - 1,
               "each kind but feedback has its gRPC method, and reflection two");

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

static const struct row *find(const struct row *rows, size_t n, struct view path)
{
    for (size_t i = 0; i < n; i++)
        if (view_eq(rows[i].path, path))
            return &rows[i];
    return NULL;
}

static bool starts(struct view v, struct view prefix)
{
    return v.n >= prefix.n && memcmp(v.p, prefix.p, prefix.n) == 0;
}

// Takes a path's segment off the front of *path, which stands behind a slash.
static struct view segment(struct view *path)
{
    size_t n = 0;
    while (n < path->n && path->p[n] != '/')
        n++;
    struct view v = view_of(path->p, n);
    *path = view_of(path->p + n, path->n - n);
    return v;
}

static const struct row *find_model(struct view path, struct api_call *out)
{
    static const struct view versions = {"/versions/", 10};
    out->model = segment(&path);
    if (starts(path, versions)) {
        path = view_of(path.p + versions.n, path.n - versions.n);
        out->version = segment(&path);
        if (out->version.n == 0)
            return NULL;
    }
    return out->model.n ? find(verbs, COUNT(verbs), path) : NULL;
}

static const struct row *find_rest(struct view path, struct api_call *out)
{
    static const struct view models = {"/v2/models/", 11};
    if (path.n > 1 && path.p[path.n - 1] == '/')
        path.n--;
    if (!starts(path, models) || view_is(path, "/v2/models/stats")) // not of a model of that name
        return find(fixed, COUNT(fixed), path);
    return find_model(view_of(path.p + models.n, path.n - models.n), out);
}

static bool refuse(struct api_call *out, struct error *e, enum status status, const char *text)
{
    out->kind = API_REFUSED;
    return error_set(e, status, "%s", text);
}

// A field that came without a value came.
static struct view present(struct view v)
{
    return v.p ? v : VIEW("");
}

// Of several codings in a row, in one field or in two, none is undone.
static void add_coding(struct view *coding, struct view value)
{
    *coding = coding->n ? VIEW("several") : value;
}

// Directives of a request that matter to us (RFC 9111, 5.2.1.4 and 5.2.1.5); others mean nothing here. Names have any
// case, values are skipped.
static void read_cache_control(struct view v, struct api_call *out)
{
    size_t i = 0;
    while (i < v.n) {
        while (i < v.n && (v.p[i] == ' ' || v.p[i] == '\t' || v.p[i] == ','))
            i++;
        size_t from = i;
        while (i < v.n && v.p[i] != ',' && v.p[i] != '=' && v.p[i] != ' ' && v.p[i] != '\t')
            i++;
        bool is_eight = i - from == 8;
        out->no_store |= is_eight && strncasecmp(v.p + from, "no-store", 8) == 0;
        out->no_cache |= is_eight && strncasecmp(v.p + from, "no-cache", 8) == 0;
        for (bool quoted = false; i < v.n && (quoted || v.p[i] != ','); i++)
            quoted ^= v.p[i] == '"';
    }
}

#define TRACE_MOST                                                                                 \
    1024 // bytes of a field that are passed on: tracestate has 512 that all must take

// What is no metadata is not passed on: gRPC has printable ASCII (doc/PROTOCOL-HTTP2.md, Custom-Metadata).
static void read_trace(struct view v, struct view *out)
{
    bool ok = v.n <= TRACE_MOST && !out->p; // of two neither is believed, nor any behind them
    for (size_t i = 0; ok && i < v.n; i++)
        ok = v.p[i] >= 0x20 && v.p[i] <= 0x7e;
    *out = ok ? v : VIEW("");
}

// The fields of the head that this room reads, in one pass.
static void read_head(const struct exchange *ex, struct api_call *out, struct view *timeout)
{
    for (unsigned i = 0; i < ex->n_headers; i++) {
        const struct http_header *h = &ex->headers[i];
        switch (h->name.n) {
        case 6:
            if (memcmp(h->name.p, "origin", 6) == 0)
                out->origin = present(h->value);
            break;
        case 10:
            if (memcmp(h->name.p, "tracestate", 10) == 0)
                read_trace(present(h->value), &out->trace.state);
            break;
        case 11:
            if (memcmp(h->name.p, "traceparent", 11) == 0)
                read_trace(present(h->value), &out->trace.parent);
            break;
        case 12:
            if (memcmp(h->name.p, "sluice-chain", 12) == 0)
                out->chain = present(h->value);
            else if (memcmp(h->name.p, "content-type", 12) == 0)
                out->content_type = h->value;
            else if (memcmp(h->name.p, "grpc-timeout", 12) == 0)
                *timeout = present(h->value);
            break;
        case 13:
            if (memcmp(h->name.p, "grpc-encoding", 13) == 0)
                add_coding(&out->grpc_encoding, h->value);
            else if (memcmp(h->name.p, "cache-control", 13) == 0)
                read_cache_control(h->value, out);
            break;
        case 15:
            if (memcmp(h->name.p, "sluice-priority", 15) == 0)
                out->priority = present(h->value);
            break;
        case 16:
            if (memcmp(h->name.p, "content-encoding", 16) == 0)
                add_coding(&out->content_encoding, h->value);
            break;
        case 29:
            if (memcmp(h->name.p, "access-control-request-method", 29) == 0)
                out->asked_method = present(h->value);
            break;
        case 30:
            if (memcmp(h->name.p, "access-control-request-headers", 30) == 0)
                out->asked_headers = present(h->value);
            break;
        case 31:
            if (memcmp(h->name.p, "inference-header-content-length", 31) == 0) {
                out->infer_header_twice = out->infer_header.p != NULL;
                out->infer_header = present(h->value);
            }
            break;
        }
    }
}

static bool route_grpc(const struct exchange *ex, struct api_call *out, struct view timeout,
                       struct error *e)
{
    if (ex->carrier != HTTP_2)
        return refuse(out, e, STATUS_HTTP_VERSION, "gRPC needs HTTP/2");
    out->grpc = true;
    if (!view_is(ex->method, "POST"))
        return refuse(out, e, STATUS_UNSUPPORTED, "gRPC needs method POST");
    const struct row *row = find(grpc_methods, COUNT(grpc_methods), ex->path);
    if (!row)
        return refuse(out, e, STATUS_UNSUPPORTED, "unknown service or method");
    out->kind = row->kind;
    if (!timeout.p)
        return true;
    if (!grpc_timeout_parse(timeout, &out->timeout_us))
        return refuse(out, e, STATUS_BAD_REQUEST,
                      "grpc-timeout: expected 1 to 8 digits and one of H M S m u n");
    if (out->timeout_us == 0)
        out->timeout_us = 1; // less than a microsecond is still a deadline
    return true;
}

// A path that is there was asked for by a method that it has not.
static bool refuse_method(const struct exchange *ex, struct api_call *out, unsigned methods,
                          struct error *e)
{
    static const char *const allow[] = {
        [GET] = "GET, HEAD", [POST] = "POST", [GET | POST] = "GET, HEAD, POST"};
    out->allow = allow[methods];
    if (out->origin.p && out->asked_method.p && view_is(ex->method, "OPTIONS"))
        out->options = OPTIONS_PREFLIGHT;
    refuse(out, e, STATUS_METHOD, "");
    return error_set(e, STATUS_METHOD, "method: expected %s", out->allow);
}

static bool route_rest(const struct exchange *ex, struct api_call *out, struct error *e)
{
    if (starts(ex->path, VIEW("/inference.GRPCInferenceService/")) ||
        starts(ex->path, VIEW("/grpc.health.v1.Health/")) ||
        starts(ex->path, VIEW("/grpc.reflection.v1")))
        return refuse(out, e, STATUS_MEDIA_TYPE, "content-type: expected application/grpc");
    const struct row *row = find_rest(ex->path, out);
    if (!row && view_is(ex->method, "OPTIONS") && view_is(ex->path, "/*")) {
        out->options = OPTIONS_SERVER;
        out->allow = "GET, HEAD, POST, OPTIONS";
    }
    if (!row)
        return refuse(out, e, STATUS_NOT_FOUND, "unknown path");
    bool get = view_is(ex->method, "GET") || view_is(ex->method, "HEAD");
    if (!(get && row->methods & GET) && !(row->methods & POST && view_is(ex->method, "POST")))
        return refuse_method(ex, out, row->methods, e);
    if (out->model.n && !model_name_ok(out->model))
        return refuse(out, e, STATUS_BAD_REQUEST, "model name: expected [A-Za-z0-9._+@~-]{1,128}");
    if (out->version.n && !model_name_ok(out->version))
        return refuse(out, e, STATUS_BAD_REQUEST,
                      "model version: expected [A-Za-z0-9._+@~-]{1,128}");
    out->kind = row->kind;
    return true;
}

// Media types that a body of infer may say: application/x-www-form-urlencoded is what curl -d says.
static bool media_type_ok(struct view v)
{
    static const struct view known[] = {{"application/json", 16},
                                        {"application/octet-stream", 24},
                                        {"application/x-www-form-urlencoded", 33}};
    size_t n = 0;
    while (n < v.n && v.p[n] != ';' && v.p[n] != ' ' && v.p[n] != '\t')
        n++;
    for (unsigned i = 0; i < COUNT(known); i++)
        if (n == known[i].n && strncasecmp(v.p, known[i].p, n) == 0)
            return true;
    return n == 0;
}

static bool is_grpc(struct view content_type)
{
    static const struct view grpc = {"application/grpc", 16}, proto = {"+proto", 6};
    if (!starts(content_type, grpc))
        return false;
    struct view rest = view_of(content_type.p + grpc.n, content_type.n - grpc.n);
    if (starts(rest, proto)) // any other message format (+json) is none that we read
        rest = view_of(rest.p + proto.n, rest.n - proto.n);
    return rest.n == 0 || rest.p[0] == ';' || rest.p[0] == ' ';
}

enum api_kind api_route(const struct exchange *ex, struct api_call *out, struct error *e)
{
    struct view timeout = {0};
    *out = (struct api_call){0};
    read_head(ex, out, &timeout);
    if (is_grpc(out->content_type))
        return route_grpc(ex, out, timeout, e) ? out->kind : API_REFUSED;
    if (!route_rest(ex, out, e))
        return API_REFUSED;
    if (out->kind == API_INFER && !media_type_ok(out->content_type))
        refuse(out, e, STATUS_MEDIA_TYPE,
               "content-type: expected application/json or application/octet-stream");
    return out->kind;
}
