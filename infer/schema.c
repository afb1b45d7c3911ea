#include "infer/schema.h"

#include "base/check.h"
#include "base/pb.h"
#include <stdio.h>

/* Sources: triton-inference-server/common protobuf/grpc_service.proto and model_config.proto; grpc/grpc-proto
 * grpc/health/v1/health.proto and grpc/reflection/v1/reflection.proto; protocolbuffers/protobuf descriptor.proto. */

enum kind { END, MESSAGE, ONEOF, FIELD, MAP, ENUM, VALUE, SERVICE, METHOD };

// FieldDescriptorProto.Type
enum type {
    DOUBLE = 1,
    FLOAT = 2,
    INT64 = 3,
    UINT64 = 4,
    INT32 = 5,
    BOOL = 8,
    STRING = 9,
    GROUP_OF = 11, // a message
    BYTES = 12,
    UINT32 = 13,
    ENUM_OF = 14
};

enum { ONE, MANY, CHOICE, BOTH_STREAM, ANSWERS_STREAM }; // of a field; of a method

// END closes what MESSAGE, ENUM and SERVICE open. Names of other rows are as within their package.
struct schema_row {
    enum kind kind;
    const char *name;
    uint8_t number, type, how;
    const char *of, *answer; // a field's type, a map's value; a method's request and answer
};

struct schema_file {
    const char *name, *package;
    const struct schema_row *rows; // END closes the file
};

#define NO_FIELDS(name)                                                                            \
    {MESSAGE, name, 0, 0, 0, 0, 0},                                                                \
    {                                                                                              \
        END, 0, 0, 0, 0, 0, 0                                                                      \
    }
#define OPEN(kind, name)                                                                           \
    {                                                                                              \
        kind, name, 0, 0, 0, 0, 0                                                                  \
    }
#define CLOSE                                                                                      \
    {                                                                                              \
        END, 0, 0, 0, 0, 0, 0                                                                      \
    }
#define HAS(name, number, type, how)                                                               \
    {                                                                                              \
        FIELD, name, number, type, how, 0, 0                                                       \
    }
#define REFERS(name, number, type, how, of)                                                        \
    {                                                                                              \
        FIELD, name, number, type, how, of, 0                                                      \
    }
#define MAPS(name, number, of)                                                                     \
    {                                                                                              \
        MAP, name, number, GROUP_OF, MANY, of, 0                                                   \
    }
#define IS(name, number)                                                                           \
    {                                                                                              \
        VALUE, name, number, 0, 0, 0, 0                                                            \
    }
#define CALL(name, how)                                                                            \
    {                                                                                              \
        METHOD, name, 0, 0, how, name "Request", name "Response"                                   \
    }
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
    OPEN(MESSAGE, "TensorMetadata"),
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
    OPEN(MESSAGE, "InferInputTensor"),
    TENSOR_HEAD,
    PARAMETERS(4),
    CONTENTS,
    CLOSE,
    OPEN(MESSAGE, "InferRequestedOutputTensor"),
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
    OPEN(MESSAGE, "InferOutputTensor"),
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
    OPEN(MESSAGE, "ModelIndex"),
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
    OPEN(ENUM, "DataType"),
    IS("TYPE_INVALID", 0),
    IS("TYPE_BOOL", 1),
    IS("TYPE_UINT8", 2),
    IS("TYPE_UINT16", 3),
    IS("TYPE_UINT32", 4),
    IS("TYPE_UINT64", 5),
    IS("TYPE_INT8", 6),
    IS("TYPE_INT16", 7),
    IS("TYPE_INT32", 8),
    IS("TYPE_INT64", 9),
    IS("TYPE_FP16", 10),
    IS("TYPE_FP32", 11),
    IS("TYPE_FP64", 12),
    IS("TYPE_STRING", 13),
    IS("TYPE_BF16", 14),
    CLOSE,
    OPEN(MESSAGE, "ModelInstanceGroup"),
    HAS("count", 2, INT32, ONE),
    CLOSE,
    OPEN(MESSAGE, "ModelInput"),
    HAS("name", 1, STRING, ONE),
    REFERS("data_type", 2, ENUM_OF, ONE, "DataType"),
    HAS("dims", 4, INT64, MANY),
    CLOSE,
    OPEN(MESSAGE, "ModelOutput"),
    HAS("name", 1, STRING, ONE),
    REFERS("data_type", 2, ENUM_OF, ONE, "DataType"),
    HAS("dims", 3, INT64, MANY),
    CLOSE,
    OPEN(MESSAGE, "ModelParameter"),
    HAS("string_value", 1, STRING, ONE),
    CLOSE,
    OPEN(MESSAGE, "ModelConfig"),
    HAS("name", 1, STRING, ONE),
    HAS("platform", 2, STRING, ONE),
    HAS("max_batch_size", 4, INT32, ONE),
    REFERS("input", 5, GROUP_OF, MANY, "ModelInput"),
    REFERS("output", 6, GROUP_OF, MANY, "ModelOutput"),
    REFERS("instance_group", 7, GROUP_OF, MANY, "ModelInstanceGroup"),
    MAPS("parameters", 14, "ModelParameter"),
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
    OPEN(ENUM, "ServingStatus"),
    IS("UNKNOWN", 0),
    IS("SERVING", 1),
    IS("NOT_SERVING", 2),
    IS("SERVICE_UNKNOWN", 3),
    CLOSE,
    REFERS("status", 1, ENUM_OF, ONE, "HealthCheckResponse.ServingStatus"),
    CLOSE,
    OPEN(SERVICE, "Health"),
    {METHOD, "Check", 0, 0, ONE, "HealthCheckRequest", "HealthCheckResponse"},
    {METHOD, "Watch", 0, 0, ANSWERS_STREAM, "HealthCheckRequest", "HealthCheckResponse"},
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
    {METHOD, "ServerReflectionInfo", 0, 0, BOTH_STREAM, "ServerReflectionRequest",
     "ServerReflectionResponse"},
    CLOSE,
    CLOSE,
};

static const struct schema_file files[] = {
    {"grpc_service.proto", "inference", inference},
    {"grpc/health/v1/health.proto", "grpc.health.v1", health},
    {"grpc/reflection/v1/reflection.proto", "grpc.reflection.v1", reflection},
    {"grpc/reflection/v1alpha/reflection.proto", "grpc.reflection.v1alpha", reflection},
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

// Is it the name of something among these rows, up to their END? An enum's values are named beside it.
static bool rows_have(const struct schema_row *r, struct view path)
{
    for (; r->kind != END; r = behind(r)) {
        struct view rest = path;
        if (r->kind == ENUM && rows_have(r + 1, path))
            return true;
        if (path_enter(&rest, r->name))
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
    if (r->how == CHOICE) {
        put_number(w, 9, 0);
    }
    put_close(w, from);
}

// A map is a repeated message of key and value (descriptor.proto, MessageOptions.map_entry = 7).
static void put_map(struct writer *w, const struct schema_row *r, const char *inside)
{
    char entry[] = "ParametersEntry", full[SCHEMA_NAME];
    static const struct schema_row key = HAS("key", 1, STRING, ONE);
    const struct schema_row value = REFERS("value", 2, GROUP_OF, ONE, r->of);
    size_t from = put_open(w, 3);
    put_text(w, 1, view_str(entry));
    put_field(w, &key, NULL);
    put_field(w, &value, value.of);
    size_t options = put_open(w, 7);
    put_number(w, 7, 1);
    put_close(w, options);
    put_close(w, from);
    snprintf(full, sizeof(full), "%.90s.%s", inside, entry);
    put_field(w, r, full);
}

// EnumDescriptorProto: name 1, value 2 { name 1, number 2 }.
static void put_enum(struct writer *w, uint32_t field, const struct schema_row *r)
{
    size_t from = put_open(w, field);
    put_text(w, 1, view_str(r->name));
    for (r++; r->kind != END; r++) {
        size_t value = put_open(w, 2);
        put_text(w, 1, view_str(r->name));
        put_number(w, 2, r->number);
        put_close(w, value);
    }
    put_close(w, from);
}

// DescriptorProto: name 1, field 2, nested_type 3, enum_type 4, oneof_decl 8. Ours nest one in another at most.
static void put_message(struct writer *w, uint32_t field, const struct schema_row *r,
                        const char *outer)
{
    char inside[SCHEMA_NAME];
    snprintf(inside, sizeof(inside), "%.60s%s%.60s", outer, *outer ? "." : "", r->name);
    size_t from = put_open(w, field), choice;
    put_text(w, 1, view_str(r->name));
    for (r++; r->kind != END; r = behind(r)) {
        switch (r->kind) {
        case MESSAGE:
            put_message(w, 3, r, inside);
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
            put_map(w, r, inside);
            break;
        default:
            put_field(w, r, r->of);
            break;
        }
    }
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

// FileDescriptorProto: name 1, package 2, message_type 4, enum_type 5, service 6, syntax 12.
bool schema_write(struct buffer *out, const struct schema_file *f)
{
    struct writer w = {.out = out, .package = f->package};
    put_text(&w, 1, view_str(f->name));
    put_text(&w, 2, view_str(f->package));
    for (const struct schema_row *r = f->rows; r->kind != END; r = behind(r)) {
        if (r->kind == MESSAGE)
            put_message(&w, 4, r, "");
        else if (r->kind == ENUM)
            put_enum(&w, 5, r);
        else
            put_service(&w, r);
    }
    put_text(&w, 12, VIEW("proto3"));
    return !w.failed;
}
