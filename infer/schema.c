#include "infer/schema.h"

#include "base/pb.h"
#include "infer/schema_rows.h"
#include <stdio.h>

/* Sources: triton-inference-server/common protobuf/grpc_service.proto and model_config.proto; grpc/grpc-proto
 * grpc/health/v1/health.proto and grpc/reflection/v1/reflection.proto; protocolbuffers/protobuf descriptor.proto. */

struct schema_file {
    const char *name, *package;
    const struct schema_row *rows; // END closes the file
    const char *needs;             // another file, NULL: none
};

#define NO_FIELDS(name) OPEN(MESSAGE, name), CLOSE
#define CALL(name, how) ROW(METHOD, name, 0, 0, how, name "Request", name "Response", NULL)
#define NAME_AND_VERSION HAS("name", 1, STRING, ONE), HAS("version", 2, STRING, ONE)
#define PARAMETERS(number) MAPS("parameters", number, "InferParameter")
#define TENSOR_HEAD                                                                                \
    HAS("name", 1, STRING, ONE), HAS("datatype", 2, STRING, ONE), HAS("shape", 3, INT64, MANY)
#define COMPUTES(number)                                                                           \
    REFERS("compute_input", number, GROUP_OF, ONE, "StatisticDuration"),                           \
        REFERS("compute_infer", number + 1, GROUP_OF, ONE, "StatisticDuration"),                   \
        REFERS("compute_output", number + 2, GROUP_OF, ONE, "StatisticDuration")
#define CONTENTS REFERS("contents", 5, GROUP_OF, ONE, "InferTensorContents")

static const struct schema_row inference[] = {
    NO_FIELDS("ServerLiveRequest"),
    OPEN(MESSAGE, "ServerLiveResponse"),
    HAS("live", 1, BOOL, ONE),
    CLOSE,
    NO_FIELDS("ServerReadyRequest"),
    OPEN(MESSAGE, "ServerReadyResponse"),
    HAS("ready", 1, BOOL, ONE),
    CLOSE,
    OPEN(MESSAGE, "ModelReadyRequest"),
    NAME_AND_VERSION,
    CLOSE,
    OPEN(MESSAGE, "ModelReadyResponse"),
    HAS("ready", 1, BOOL, ONE),
    CLOSE,
    NO_FIELDS("ServerMetadataRequest"),
    OPEN(MESSAGE, "ServerMetadataResponse"),
    NAME_AND_VERSION,
    HAS("extensions", 3, STRING, MANY),
    CLOSE,
    OPEN(MESSAGE, "ModelMetadataRequest"),
    NAME_AND_VERSION,
    CLOSE,
    OPEN(MESSAGE, "ModelMetadataResponse"),
    OPEN(MESSAGE, "ModelMetadataResponse.TensorMetadata"),
    TENSOR_HEAD,
    CLOSE,
    HAS("name", 1, STRING, ONE),
    HAS("versions", 2, STRING, MANY),
    HAS("platform", 3, STRING, ONE),
    REFERS("inputs", 4, GROUP_OF, MANY, "ModelMetadataResponse.TensorMetadata"),
    REFERS("outputs", 5, GROUP_OF, MANY, "ModelMetadataResponse.TensorMetadata"),
    CLOSE,
    OPEN(MESSAGE, "InferParameter"),
    OPEN(ONEOF, "parameter_choice"),
    HAS("bool_param", 1, BOOL, CHOICE),
    HAS("int64_param", 2, INT64, CHOICE),
    HAS("string_param", 3, STRING, CHOICE),
    HAS("double_param", 4, DOUBLE, CHOICE),
    HAS("uint64_param", 5, UINT64, CHOICE),
    CLOSE,
    OPEN(MESSAGE, "InferTensorContents"),
    HAS("bool_contents", 1, BOOL, MANY),
    HAS("int_contents", 2, INT32, MANY),
    HAS("int64_contents", 3, INT64, MANY),
    HAS("uint_contents", 4, UINT32, MANY),
    HAS("uint64_contents", 5, UINT64, MANY),
    HAS("fp32_contents", 6, FLOAT, MANY),
    HAS("fp64_contents", 7, DOUBLE, MANY),
    HAS("bytes_contents", 8, BYTES, MANY),
    CLOSE,
    OPEN(MESSAGE, "ModelInferRequest"),
    OPEN(MESSAGE, "ModelInferRequest.InferInputTensor"),
    TENSOR_HEAD,
    PARAMETERS(4),
    CONTENTS,
    CLOSE,
    OPEN(MESSAGE, "ModelInferRequest.InferRequestedOutputTensor"),
    HAS("name", 1, STRING, ONE),
    PARAMETERS(2),
    CLOSE,
    HAS("model_name", 1, STRING, ONE),
    HAS("model_version", 2, STRING, ONE),
    HAS("id", 3, STRING, ONE),
    PARAMETERS(4),
    REFERS("inputs", 5, GROUP_OF, MANY, "ModelInferRequest.InferInputTensor"),
    REFERS("outputs", 6, GROUP_OF, MANY, "ModelInferRequest.InferRequestedOutputTensor"),
    HAS("raw_input_contents", 7, BYTES, MANY),
    CLOSE,
    OPEN(MESSAGE, "ModelInferResponse"),
    OPEN(MESSAGE, "ModelInferResponse.InferOutputTensor"),
    TENSOR_HEAD,
    PARAMETERS(4),
    CONTENTS,
    CLOSE,
    HAS("model_name", 1, STRING, ONE),
    HAS("model_version", 2, STRING, ONE),
    HAS("id", 3, STRING, ONE),
    PARAMETERS(4),
    REFERS("outputs", 5, GROUP_OF, MANY, "ModelInferResponse.InferOutputTensor"),
    HAS("raw_output_contents", 6, BYTES, MANY),
    CLOSE,
    OPEN(MESSAGE, "ModelConfigRequest"),
    NAME_AND_VERSION,
    CLOSE,
    OPEN(MESSAGE, "ModelConfigResponse"),
    REFERS("config", 1, GROUP_OF, ONE, "ModelConfig"),
    CLOSE,
    OPEN(MESSAGE, "RepositoryIndexRequest"),
    HAS("repository_name", 1, STRING, ONE),
    HAS("ready", 2, BOOL, ONE),
    CLOSE,
    OPEN(MESSAGE, "RepositoryIndexResponse"),
    OPEN(MESSAGE, "RepositoryIndexResponse.ModelIndex"),
    NAME_AND_VERSION,
    HAS("state", 3, STRING, ONE),
    HAS("reason", 4, STRING, ONE),
    CLOSE,
    REFERS("models", 1, GROUP_OF, MANY, "RepositoryIndexResponse.ModelIndex"),
    CLOSE,
    OPEN(MESSAGE, "ModelStatisticsRequest"),
    NAME_AND_VERSION,
    CLOSE,
    OPEN(MESSAGE, "StatisticDuration"),
    HAS("count", 1, UINT64, ONE),
    HAS("ns", 2, UINT64, ONE),
    CLOSE,
    OPEN(MESSAGE, "InferStatistics"),
    REFERS("success", 1, GROUP_OF, ONE, "StatisticDuration"),
    REFERS("fail", 2, GROUP_OF, ONE, "StatisticDuration"),
    REFERS("queue", 3, GROUP_OF, ONE, "StatisticDuration"),
    COMPUTES(4),
    REFERS("cache_hit", 7, GROUP_OF, ONE, "StatisticDuration"),
    REFERS("cache_miss", 8, GROUP_OF, ONE, "StatisticDuration"),
    CLOSE,
    OPEN(MESSAGE, "InferBatchStatistics"),
    HAS("batch_size", 1, UINT64, ONE),
    COMPUTES(2),
    CLOSE,
    OPEN(MESSAGE, "ModelStatistics"),
    NAME_AND_VERSION,
    HAS("last_inference", 3, UINT64, ONE),
    HAS("inference_count", 4, UINT64, ONE),
    HAS("execution_count", 5, UINT64, ONE),
    REFERS("inference_stats", 6, GROUP_OF, ONE, "InferStatistics"),
    REFERS("batch_stats", 7, GROUP_OF, MANY, "InferBatchStatistics"),
    CLOSE,
    OPEN(MESSAGE, "ModelStatisticsResponse"),
    REFERS("model_stats", 1, GROUP_OF, MANY, "ModelStatistics"),
    CLOSE,
    OPEN(SERVICE, "GRPCInferenceService"),
    CALL("ServerLive", ONE),
    CALL("ServerReady", ONE),
    CALL("ModelReady", ONE),
    CALL("ServerMetadata", ONE),
    CALL("ModelMetadata", ONE),
    CALL("ModelInfer", ONE),
    CALL("ModelConfig", ONE),
    CALL("RepositoryIndex", ONE),
    CALL("ModelStatistics", ONE),
    CLOSE,
    CLOSE,
};

static const struct schema_row health[] = {
    OPEN(MESSAGE, "HealthCheckRequest"),
    HAS("service", 1, STRING, ONE),
    CLOSE,
    OPEN(MESSAGE, "HealthCheckResponse"),
    OPEN(ENUM, "HealthCheckResponse.ServingStatus"),
    IS("UNKNOWN", 0),
    IS("SERVING", 1),
    IS("NOT_SERVING", 2),
    IS("SERVICE_UNKNOWN", 3),
    CLOSE,
    REFERS("status", 1, ENUM_OF, ONE, "HealthCheckResponse.ServingStatus"),
    CLOSE,
    OPEN(SERVICE, "Health"),
    ROW(METHOD, "Check", 0, 0, ONE, "HealthCheckRequest", "HealthCheckResponse", NULL),
    ROW(METHOD, "Watch", 0, 0, ANSWERS_STREAM, "HealthCheckRequest", "HealthCheckResponse", NULL),
    CLOSE,
    CLOSE,
};

static const struct schema_row reflection[] = {
    OPEN(MESSAGE, "ServerReflectionRequest"),
    OPEN(ONEOF, "message_request"),
    HAS("host", 1, STRING, ONE),
    HAS("file_by_filename", 3, STRING, CHOICE),
    HAS("file_containing_symbol", 4, STRING, CHOICE),
    REFERS("file_containing_extension", 5, GROUP_OF, CHOICE, "ExtensionRequest"),
    HAS("all_extension_numbers_of_type", 6, STRING, CHOICE),
    HAS("list_services", 7, STRING, CHOICE),
    CLOSE,
    OPEN(MESSAGE, "ExtensionRequest"),
    HAS("containing_type", 1, STRING, ONE),
    HAS("extension_number", 2, INT32, ONE),
    CLOSE,
    OPEN(MESSAGE, "ServerReflectionResponse"),
    OPEN(ONEOF, "message_response"),
    HAS("valid_host", 1, STRING, ONE),
    REFERS("original_request", 2, GROUP_OF, ONE, "ServerReflectionRequest"),
    REFERS("file_descriptor_response", 4, GROUP_OF, CHOICE, "FileDescriptorResponse"),
    REFERS("all_extension_numbers_response", 5, GROUP_OF, CHOICE, "ExtensionNumberResponse"),
    REFERS("list_services_response", 6, GROUP_OF, CHOICE, "ListServiceResponse"),
    REFERS("error_response", 7, GROUP_OF, CHOICE, "ErrorResponse"),
    CLOSE,
    OPEN(MESSAGE, "FileDescriptorResponse"),
    HAS("file_descriptor_proto", 1, BYTES, MANY),
    CLOSE,
    OPEN(MESSAGE, "ExtensionNumberResponse"),
    HAS("base_type_name", 1, STRING, ONE),
    HAS("extension_number", 2, INT32, MANY),
    CLOSE,
    OPEN(MESSAGE, "ListServiceResponse"),
    REFERS("service", 1, GROUP_OF, MANY, "ServiceResponse"),
    CLOSE,
    OPEN(MESSAGE, "ServiceResponse"),
    HAS("name", 1, STRING, ONE),
    CLOSE,
    OPEN(MESSAGE, "ErrorResponse"),
    HAS("error_code", 1, INT32, ONE),
    HAS("error_message", 2, STRING, ONE),
    CLOSE,
    OPEN(SERVICE, "ServerReflection"),
    ROW(METHOD, "ServerReflectionInfo", 0, 0, BOTH_STREAM, "ServerReflectionRequest",
        "ServerReflectionResponse", NULL),
    CLOSE,
    CLOSE,
};

static const struct schema_file files[] = {
    {"grpc_service.proto", "inference", inference, "model_config.proto"},
    {"model_config.proto", "inference", schema_config_file, NULL},
    {"grpc/health/v1/health.proto", "grpc.health.v1", health, NULL},
    {"grpc/reflection/v1/reflection.proto", "grpc.reflection.v1", reflection, NULL},
    {"grpc/reflection/v1alpha/reflection.proto", "grpc.reflection.v1alpha", reflection, NULL},
};
#define N_FILES (sizeof(files) / sizeof(files[0]))

// ---- names -------------------------------------------------------------------------------------------

const struct schema_file *schema_named(struct view name)
{
    for (unsigned i = 0; i < N_FILES; i++) {
        if (view_eq(view_str(files[i].name), name))
            return &files[i];
    }
    return NULL;
}

// Takes "first." off the front of *path, or all of it when it is "first".
static bool path_enter(struct view *path, const char *first)
{
    size_t n = strlen(first);
    if (path->n < n || memcmp(path->p, first, n) != 0 || (path->n > n && path->p[n] != '.'))
        return false;
    n += path->n > n;
    *path = view_of(path->p + n, path->n - n);
    return true;
}

static bool opens(const struct schema_row *r)
{
    return r->kind == MESSAGE || r->kind == ENUM || r->kind == SERVICE;
}

static const struct schema_row *behind(const struct schema_row *r)
{
    unsigned depth = 0;
    do {
        depth += opens(r);
        depth -= r->kind == END;
        r++;
    } while (depth > 0);
    return r;
}

// The rows of a message or an enum, wherever they stand.
static const struct schema_row *inside(const struct schema_row *r)
{
    return r->kind == INSIDE ? r->links : r;
}

// Its name where it stands: the last part of it.
static const char *own_name(const struct schema_row *r)
{
    const char *dot = strrchr(r->name, '.');
    return dot ? dot + 1 : r->name;
}

// Is it the name of something among these rows, up to their END? An enum's values are named beside it.
static bool rows_have(const struct schema_row *at, struct view path)
{
    for (; at->kind != END; at = behind(at)) {
        const struct schema_row *r = inside(at);
        struct view rest = path;
        if (r->kind == ENUM && rows_have(r + 1, path))
            return true;
        if (path_enter(&rest, own_name(r)))
            return rest.n == 0 ? path.p[path.n - 1] != '.'
                               : opens(r) && r->kind != ENUM && rows_have(r + 1, rest);
    }
    return false;
}

const struct schema_file *schema_with(struct view symbol)
{
    for (unsigned i = 0; i < N_FILES; i++) {
        struct view path = symbol;
        if (path_enter(&path, files[i].package) && path.n > 0 && rows_have(files[i].rows, path))
            return &files[i];
    }
    return NULL;
}

struct view schema_service(unsigned k, char text[SCHEMA_NAME])
{
    for (unsigned i = 0; i < N_FILES; i++) {
        for (const struct schema_row *r = files[i].rows; r->kind != END; r = behind(r)) {
            if (r->kind == SERVICE && k-- == 0)
                return view_of(
                    text, (size_t)snprintf(text, SCHEMA_NAME, "%s.%s", files[i].package, r->name));
        }
    }
    return view_of(NULL, 0);
}

// ---- descriptors -------------------------------------------------------------------------------------

struct writer {
    struct buffer *out;
    const char *package;
    bool failed;
};

static void put_text(struct writer *w, uint32_t field, struct view v)
{
    uint8_t *at = buffer_reserve(w->out, pb_len_size(field, v.n));
    w->failed |= !at;
    if (at)
        buffer_commit(w->out, (size_t)(pb_w_bytes(at, field, v) - at));
}

static void put_number(struct writer *w, uint32_t field, uint64_t v)
{
    uint8_t *at = buffer_reserve(w->out, pb_uint_size(field, v));
    w->failed |= !at;
    if (at)
        buffer_commit(w->out, (size_t)(pb_w_uint(at, field, v) - at));
}

// A message inside: its length is known when it is closed.
static size_t put_open(struct writer *w, uint32_t field)
{
    put_text(w, field, VIEW(""));
    return buffer_len(w->out);
}

static void put_close(struct writer *w, size_t from)
{
    if (w->failed)
        return;
    size_t n = buffer_len(w->out) - from;
    unsigned more = pb_varint_size(n) - 1;
    w->failed = !buffer_reserve(w->out, more);
    if (w->failed)
        return;
    uint8_t *start = w->out->data + w->out->at + from;
    memmove(start + more, start, n);
    pb_w_varint(start - 1, n);
    buffer_commit(w->out, more);
}

// ".package.name"
static void put_reference(struct writer *w, uint32_t field, const char *name)
{
    char text[SCHEMA_NAME];
    int n = snprintf(text, sizeof(text), ".%.30s.%.90s", w->package, name);
    put_text(w, field, view_of(text, (size_t)n));
}

// FieldDescriptorProto: name 1, number 3, label 4, type 5, type_name 6, oneof_index 9.
static void put_field(struct writer *w, const struct schema_row *r, const char *type_name)
{
    size_t from = put_open(w, 2);
    put_text(w, 1, view_str(r->name));
    put_number(w, 3, r->number);
    put_number(w, 4, r->how == MANY ? 3 : 1);
    put_number(w, 5, r->type);
    if (type_name)
        put_reference(w, 6, type_name);
    if (r->how == CHOICE)
        put_number(w, 9, 0);
    put_close(w, from);
}

static const char *type_name(const struct schema_row *r)
{
    return r->links ? r->links->name : r->of;
}

// "some_map" gives "SomeMapEntry": so the compilers of .proto files name it.
static void name_entry(char out[SCHEMA_NAME], const char *field)
{
    size_t n = 0;
    for (bool upper = true; *field && n < SCHEMA_NAME - sizeof("Entry"); field++) {
        if (*field != '_')
            out[n++] = upper ? (char)(*field - 'a' + 'A') : *field;
        upper = *field == '_';
    }
    memcpy(out + n, "Entry", sizeof("Entry"));
}

// A map is a repeated message of key and value (descriptor.proto, MessageOptions.map_entry = 7).
static void put_map(struct writer *w, const struct schema_row *r, const char *message)
{
    char entry[SCHEMA_NAME], full[SCHEMA_NAME];
    const struct schema_row key = HAS("key", 1, r->how, ONE);
    const struct schema_row value = HAS("value", 2, r->type, ONE);
    const struct schema_row entries = HAS(r->name, r->number, GROUP_OF, MANY);
    name_entry(entry, r->name);
    size_t from = put_open(w, 3);
    put_text(w, 1, view_str(entry));
    put_field(w, &key, NULL);
    put_field(w, &value, type_name(r));
    size_t options = put_open(w, 7);
    put_number(w, 7, 1);
    put_close(w, options);
    put_close(w, from);
    snprintf(full, sizeof(full), "%.60s.%.60s", message, entry);
    put_field(w, &entries, full);
}

// EnumDescriptorProto: name 1, value 2 { name 1, number 2 }.
static void put_enum(struct writer *w, uint32_t field, const struct schema_row *r)
{
    size_t from = put_open(w, field);
    put_text(w, 1, view_str(own_name(r)));
    for (r++; r->kind != END; r++) {
        size_t value = put_open(w, 2);
        put_text(w, 1, view_str(r->name));
        put_number(w, 2, r->number);
        put_close(w, value);
    }
    put_close(w, from);
}

static void put_message(struct writer *w, uint32_t field, const struct schema_row *message);

static void put_in_message(struct writer *w, const struct schema_row *r, const char *message)
{
    size_t choice;
    switch (r->kind) {
    case MESSAGE:
        put_message(w, 3, r);
        break;
    case ENUM:
        put_enum(w, 4, r);
        break;
    case ONEOF:
        choice = put_open(w, 8);
        put_text(w, 1, view_str(r->name));
        put_close(w, choice);
        break;
    case MAP:
        put_map(w, r, message);
        break;
    default:
        put_field(w, r, type_name(r));
        break;
    }
}

// DescriptorProto: name 1, field 2, nested_type 3, enum_type 4, oneof_decl 8. Ours nest three in one another at most.
static void put_message(struct writer *w, uint32_t field, const struct schema_row *message)
{
    size_t from = put_open(w, field);
    put_text(w, 1, view_str(own_name(message)));
    for (const struct schema_row *r = message + 1; r->kind != END; r = behind(r))
        put_in_message(w, inside(r), message->name);
    put_close(w, from);
}

// ServiceDescriptorProto: name 1, method 2 { name 1, input_type 2, output_type 3, client_streaming 5, server_streaming 6 }.
static void put_service(struct writer *w, const struct schema_row *r)
{
    size_t from = put_open(w, 6);
    put_text(w, 1, view_str(r->name));
    for (r++; r->kind != END; r++) {
        size_t method = put_open(w, 2);
        put_text(w, 1, view_str(r->name));
        put_reference(w, 2, r->of);
        put_reference(w, 3, r->answer);
        if (r->how == BOTH_STREAM)
            put_number(w, 5, 1);
        if (r->how != ONE)
            put_number(w, 6, 1);
        put_close(w, method);
    }
    put_close(w, from);
}

// FileDescriptorProto: name 1, package 2, dependency 3, message_type 4, enum_type 5, service 6, syntax 12.
bool schema_write(struct buffer *out, const struct schema_file *f)
{
    struct writer w = {.out = out, .package = f->package};
    put_text(&w, 1, view_str(f->name));
    put_text(&w, 2, view_str(f->package));
    if (f->needs)
        put_text(&w, 3, view_str(f->needs));
    for (const struct schema_row *at = f->rows; at->kind != END; at = behind(at)) {
        const struct schema_row *r = inside(at);
        if (r->kind == MESSAGE)
            put_message(&w, 4, r);
        else if (r->kind == ENUM)
            put_enum(&w, 5, r);
        else
            put_service(&w, r);
    }
    put_text(&w, 12, VIEW("proto3"));
    return !w.failed;
}
