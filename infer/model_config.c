#include "infer/model_config.h"

#include "base/num.h"
#include "infer/oip_pb.h"

/* Source: triton-inference-server/common protobuf/model_config.proto. A row a field, in the order of that file. */

enum config_kind { TEXT, BOOL, INT, UINT, FLOAT, DOUBLE, ENUM, MESSAGE, MAP };
enum how { ONE, MANY, PERHAPS }; // PERHAPS: one of a choice, whose default is not told

struct pb_row {
    const char *name; // NULL: no more
    uint8_t number, kind, how;
    const void *
        of; // ENUM: its names by their numbers, NULL behind them; MESSAGE, MAP: rows of the message, of the entry
};

// clang-format off
#define HAS(name, number, kind) {name, number, kind, ONE, NULL}
#define MAY(name, number, kind) {name, number, kind, PERHAPS, NULL}
#define LISTS(name, number, kind) {name, number, kind, MANY, NULL}
#define WORD(name, number, of) {name, number, ENUM, ONE, of}
#define PART(name, number, of) {name, number, MESSAGE, ONE, of}
#define PARTS(name, number, of) {name, number, MESSAGE, MANY, of}
#define MAPS(name, number, of) {name, number, MAP, MANY, of}
#define END {NULL, 0, 0, 0, NULL}
// clang-format on

static const struct pb_row latest[] = {HAS("num_versions", 1, UINT), END};
static const struct pb_row all[] = {END};
static const struct pb_row specific[] = {LISTS("versions", 1, INT), END};
static const struct pb_row version_policy[] = {PART("latest", 1, latest), PART("all", 2, all),
                                               PART("specific", 3, specific), END};
static const char *const data_type[] = {"TYPE_INVALID", "TYPE_BOOL",   "TYPE_UINT8", "TYPE_UINT16",
                                        "TYPE_UINT32",  "TYPE_UINT64", "TYPE_INT8",  "TYPE_INT16",
                                        "TYPE_INT32",   "TYPE_INT64",  "TYPE_FP16",  "TYPE_FP32",
                                        "TYPE_FP64",    "TYPE_STRING", "TYPE_BF16",  NULL};
static const char *const input_format[] = {"FORMAT_NONE", "FORMAT_NHWC", "FORMAT_NCHW", NULL};
static const struct pb_row tensor_reshape[] = {LISTS("shape", 1, INT), END};
static const struct pb_row input[] = {HAS("name", 1, TEXT),
                                      WORD("data_type", 2, data_type),
                                      WORD("format", 3, input_format),
                                      LISTS("dims", 4, INT),
                                      PART("reshape", 5, tensor_reshape),
                                      HAS("is_shape_tensor", 6, BOOL),
                                      HAS("allow_ragged_batch", 7, BOOL),
                                      HAS("optional", 8, BOOL),
                                      HAS("is_non_linear_format_io", 9, BOOL),
                                      END};
static const struct pb_row output[] = {HAS("name", 1, TEXT),
                                       WORD("data_type", 2, data_type),
                                       LISTS("dims", 3, INT),
                                       PART("reshape", 5, tensor_reshape),
                                       HAS("label_filename", 4, TEXT),
                                       HAS("is_shape_tensor", 6, BOOL),
                                       HAS("is_non_linear_format_io", 7, BOOL),
                                       END};
static const char *const batch_input_kind[] = {"BATCH_ELEMENT_COUNT",
                                               "BATCH_ACCUMULATED_ELEMENT_COUNT",
                                               "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO",
                                               "BATCH_MAX_ELEMENT_COUNT_AS_SHAPE",
                                               "BATCH_ITEM_SHAPE",
                                               "BATCH_ITEM_SHAPE_FLATTEN",
                                               NULL};
static const struct pb_row batch_input[] = {
    WORD("kind", 1, batch_input_kind), LISTS("target_name", 2, TEXT),
    WORD("data_type", 3, data_type), LISTS("source_input", 4, TEXT), END};
static const char *const batch_output_kind[] = {"BATCH_SCATTER_WITH_INPUT_SHAPE", NULL};
static const struct pb_row batch_output[] = {LISTS("target_name", 1, TEXT),
                                             WORD("kind", 2, batch_output_kind),
                                             LISTS("source_input", 3, TEXT), END};
static const struct pb_row optimization_graph[] = {HAS("level", 1, INT), END};
static const char *const priority[] = {"PRIORITY_DEFAULT", "PRIORITY_MAX", "PRIORITY_MIN", NULL};
static const struct pb_row graphs_shape[] = {LISTS("dim", 1, INT), END};
static const struct pb_row text_to_graphs_shape[] = {HAS("key", 1, TEXT),
                                                     PART("value", 2, graphs_shape), END};
static const struct pb_row graphs_lower_bound[] = {HAS("batch_size", 1, INT),
                                                   MAPS("input", 2, text_to_graphs_shape), END};
static const struct pb_row graphs[] = {HAS("batch_size", 1, INT),
                                       MAPS("input", 2, text_to_graphs_shape),
                                       PART("graph_lower_bound", 3, graphs_lower_bound), END};
static const struct pb_row optimization_cuda[] = {
    HAS("graphs", 1, BOOL), HAS("busy_wait_events", 2, BOOL), PARTS("graph_spec", 3, graphs),
    HAS("output_copy_stream", 4, BOOL), END};
static const struct pb_row text_to_text[] = {HAS("key", 1, TEXT), HAS("value", 2, TEXT), END};
static const struct pb_row accelerator[] = {HAS("name", 1, TEXT),
                                            MAPS("parameters", 2, text_to_text), END};
static const struct pb_row accelerators[] = {PARTS("gpu_execution_accelerator", 1, accelerator),
                                             PARTS("cpu_execution_accelerator", 2, accelerator),
                                             END};
static const struct pb_row pinned[] = {HAS("enable", 1, BOOL), END};
static const struct pb_row optimization[] = {PART("graph", 1, optimization_graph),
                                             WORD("priority", 2, priority),
                                             PART("cuda", 3, optimization_cuda),
                                             PART("execution_accelerators", 4, accelerators),
                                             PART("input_pinned_memory", 5, pinned),
                                             PART("output_pinned_memory", 6, pinned),
                                             HAS("gather_kernel_buffer_threshold", 7, UINT),
                                             HAS("eager_batching", 8, BOOL),
                                             END};
static const char *const timeout_action[] = {"REJECT", "DELAY", NULL};
static const struct pb_row queue_policy[] = {
    WORD("timeout_action", 1, timeout_action), HAS("default_timeout_microseconds", 2, UINT),
    HAS("allow_timeout_override", 3, BOOL), HAS("max_queue_size", 4, UINT), END};
static const struct pb_row uint_to_queue_policy[] = {HAS("key", 1, UINT),
                                                     PART("value", 2, queue_policy), END};
static const struct pb_row dynamic_batching[] = {
    LISTS("preferred_batch_size", 1, INT),
    HAS("max_queue_delay_microseconds", 2, UINT),
    HAS("preserve_ordering", 3, BOOL),
    HAS("priority_levels", 4, UINT),
    HAS("default_priority_level", 5, UINT),
    PART("default_queue_policy", 6, queue_policy),
    MAPS("priority_queue_policy", 7, uint_to_queue_policy),
    END};
static const struct pb_row direct[] = {HAS("max_queue_delay_microseconds", 1, UINT),
                                       HAS("minimum_slot_utilization", 2, FLOAT), END};
static const struct pb_row oldest[] = {
    HAS("max_candidate_sequences", 1, INT), LISTS("preferred_batch_size", 2, INT),
    HAS("max_queue_delay_microseconds", 3, UINT), HAS("preserve_ordering", 4, BOOL), END};
static const char *const control_kind[] = {"CONTROL_SEQUENCE_START", "CONTROL_SEQUENCE_READY",
                                           "CONTROL_SEQUENCE_END", "CONTROL_SEQUENCE_CORRID", NULL};
static const struct pb_row control[] = {
    WORD("kind", 1, control_kind),      LISTS("int32_false_true", 2, INT),
    LISTS("fp32_false_true", 3, FLOAT), LISTS("bool_false_true", 5, BOOL),
    WORD("data_type", 4, data_type),    END};
static const struct pb_row control_input[] = {HAS("name", 1, TEXT), PARTS("control", 2, control),
                                              END};
static const struct pb_row initial_state[] = {
    WORD("data_type", 1, data_type), LISTS("dims", 2, INT), MAY("zero_data", 3, BOOL),
    MAY("data_file", 4, TEXT),       HAS("name", 5, TEXT),  END};
static const struct pb_row state[] = {HAS("input_name", 1, TEXT),
                                      HAS("output_name", 2, TEXT),
                                      WORD("data_type", 3, data_type),
                                      LISTS("dims", 4, INT),
                                      PARTS("initial_state", 5, initial_state),
                                      HAS("use_same_buffer_for_input_output", 6, BOOL),
                                      HAS("use_growable_memory", 7, BOOL),
                                      END};
static const struct pb_row sequence_batching[] = {PART("direct", 3, direct),
                                                  PART("oldest", 4, oldest),
                                                  HAS("max_sequence_idle_microseconds", 1, UINT),
                                                  PARTS("control_input", 2, control_input),
                                                  PARTS("state", 5, state),
                                                  HAS("iterative_sequence", 6, BOOL),
                                                  END};
static const struct pb_row step[] = {
    HAS("model_name", 1, TEXT),         HAS("model_version", 2, INT),
    MAPS("input_map", 3, text_to_text), MAPS("output_map", 4, text_to_text),
    HAS("model_namespace", 5, TEXT),    END};
static const struct pb_row ensembling[] = {PARTS("step", 1, step),
                                           HAS("max_inflight_requests", 2, UINT), END};
static const char *const group_kind[] = {"KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL", NULL};
static const struct pb_row resource[] = {HAS("name", 1, TEXT), HAS("global", 2, BOOL),
                                         HAS("count", 3, UINT), END};
static const struct pb_row rate_limiter[] = {PARTS("resources", 1, resource),
                                             HAS("priority", 2, UINT), END};
static const char *const device_kind[] = {"KIND_NVDLA", NULL};
static const struct pb_row device[] = {WORD("kind", 1, device_kind), HAS("device_id", 2, INT), END};
static const struct pb_row group[] = {
    HAS("name", 1, TEXT),        WORD("kind", 4, group_kind),
    HAS("count", 2, INT),        PART("rate_limiter", 6, rate_limiter),
    LISTS("gpus", 3, INT),       PARTS("secondary_devices", 8, device),
    LISTS("profile", 5, TEXT),   HAS("passive", 7, BOOL),
    HAS("host_policy", 9, TEXT), END};
static const struct pb_row parameter[] = {HAS("string_value", 1, TEXT), END};
static const struct pb_row text_to_parameter[] = {HAS("key", 1, TEXT), PART("value", 2, parameter),
                                                  END};
static const struct pb_row warmup_input[] = {
    WORD("data_type", 1, data_type), LISTS("dims", 2, INT),           MAY("zero_data", 3, BOOL),
    MAY("random_data", 4, BOOL),     MAY("input_data_file", 5, TEXT), END};
static const struct pb_row text_to_warmup_input[] = {HAS("key", 1, TEXT),
                                                     PART("value", 2, warmup_input), END};
static const struct pb_row warmup[] = {HAS("name", 1, TEXT), HAS("batch_size", 2, UINT),
                                       MAPS("inputs", 3, text_to_warmup_input),
                                       HAS("count", 4, UINT), END};
static const struct pb_row operations[] = {LISTS("op_library_filename", 1, TEXT), END};
static const struct pb_row transaction_policy[] = {HAS("decoupled", 1, BOOL), END};
static const struct pb_row agent[] = {HAS("name", 1, TEXT), MAPS("parameters", 2, text_to_text),
                                      END};
static const struct pb_row repository_agents[] = {PARTS("agents", 1, agent), END};
static const struct pb_row response_cache[] = {HAS("enable", 1, BOOL), END};
static const struct pb_row family[] = {HAS("family", 1, TEXT), END};
static const struct pb_row buckets[] = {LISTS("buckets", 1, DOUBLE), END};
static const struct pb_row metric[] = {PART("metric_identifier", 1, family),
                                       PART("histogram_options", 2, buckets), END};
static const struct pb_row metrics[] = {PARTS("metric_control", 1, metric), END};
static const struct pb_row config[] = {HAS("name", 1, TEXT),
                                       HAS("platform", 2, TEXT),
                                       HAS("backend", 17, TEXT),
                                       HAS("runtime", 25, TEXT),
                                       PART("version_policy", 3, version_policy),
                                       HAS("max_batch_size", 4, INT),
                                       PARTS("input", 5, input),
                                       PARTS("output", 6, output),
                                       PARTS("batch_input", 20, batch_input),
                                       PARTS("batch_output", 21, batch_output),
                                       PART("optimization", 12, optimization),
                                       PART("dynamic_batching", 11, dynamic_batching),
                                       PART("sequence_batching", 13, sequence_batching),
                                       PART("ensemble_scheduling", 15, ensembling),
                                       PARTS("instance_group", 7, group),
                                       HAS("default_model_filename", 8, TEXT),
                                       MAPS("cc_model_filenames", 9, text_to_text),
                                       MAPS("metric_tags", 10, text_to_text),
                                       MAPS("parameters", 14, text_to_parameter),
                                       PARTS("model_warmup", 16, warmup),
                                       PART("model_operations", 18, operations),
                                       PART("model_transaction_policy", 19, transaction_policy),
                                       PART("model_repository_agents", 23, repository_agents),
                                       PART("response_cache", 24, response_cache),
                                       PART("model_metrics", 26, metrics),
                                       END};

enum { MAX_BATCH_SIZE = 4, PARAMETERS = 14 }; // of ModelConfig

// ---- checking ------------------------------------------------------------------------------------------

static const struct pb_row *row_of(const struct pb_row *rows, uint32_t number)
{
    for (; rows->name; rows++)
        if (rows->number == number)
            return rows;
    return NULL;
}

static enum pb_wire wire_of(enum config_kind kind)
{
    return kind == FLOAT ? PB_I32 : kind == DOUBLE ? PB_I64 : PB_VARINT;
}

static bool is_packed(enum config_kind kind, struct view run)
{
    struct pb_reader r;
    uint64_t v;
    if (kind == FLOAT || kind == DOUBLE)
        return run.n % (kind == FLOAT ? 4 : 8) == 0;
    pb_read(&r, run);
    while (pb_packed_varint(&r, &v))
        ;
    return !r.error;
}

static bool fault(struct error *e, const struct pb_row *row, const char *why)
{
    return error_set(e, STATUS_BAD_ANSWER, "the worker's configuration: %s%s%s",
                     row ? row->name : "", row ? ": " : "", why);
}

static bool check(const struct pb_row *rows, const struct pb_row *at, struct view message,
                  unsigned *left, struct error *e);

static bool check_field(const struct pb_row *row, const struct pb_field *f, unsigned *left,
                        struct error *e)
{
    if (row->kind >= MESSAGE && f->wire == PB_LEN)
        return check(row->of, row, f->data, left, e);
    if (row->kind == TEXT && f->wire == PB_LEN)
        return oip_text(f->data) || fault(e, row, "expected UTF-8");
    if (row->how == MANY && row->kind < MESSAGE && row->kind != TEXT && f->wire == PB_LEN)
        return is_packed(row->kind, f->data) || fault(e, row, "a list ends too early");
    return (row->kind != TEXT && row->kind < MESSAGE && f->wire == wire_of(row->kind)) ||
           fault(e, row, "a field has another wire type");
}

static bool check(const struct pb_row *rows, const struct pb_row *at, struct view message,
                  unsigned *left, struct error *e)
{
    struct pb_reader r;
    struct pb_field f;
    pb_read(&r, message);
    while (pb_next(&r, &f)) {
        if ((*left)-- == 0)
            return fault(e, NULL, "more than 4096 fields");
        const struct pb_row *row = row_of(rows, f.number);
        if (row && !check_field(row, &f, left, e))
            return false;
    }
    return !r.error || fault(e, at, r.error);
}

bool model_config_check(struct view message, struct error *e)
{
    unsigned left = MODEL_CONFIG_FIELDS;
    if (message.n > MODEL_CONFIG_MOST)
        return fault(e, NULL, "more than 64 KiB");
    return check(config, NULL, message, &left, e);
}

// ---- what is told --------------------------------------------------------------------------------------

static bool is_serial_device(struct view entry)
{
    struct pb_reader r;
    struct pb_field f;
    bool is = false;
    pb_read(&r, entry);
    while (pb_next(&r, &f))
        is |= f.number == 1 && f.wire == PB_LEN && view_is(f.data, MODEL_CONFIG_SERIAL);
    return is;
}

// The worker's message with ours behind it: of a field that comes twice the last one counts.
static bool compose(struct buffer *out, const struct model_metadata *m)
{
    struct pb_reader r;
    struct pb_field f;
    uint8_t ours[16], *end = pb_w_uint(ours, MAX_BATCH_SIZE, m->max_batch);
    bool ok = true;
    pb_read(&r, m->config);
    for (const uint8_t *from = r.at; ok && pb_next(&r, &f); from = r.at) {
        if (f.number != PARAMETERS || f.wire != PB_LEN || !is_serial_device(f.data))
            ok = buffer_append(out, from, (size_t)(r.at - from));
    }
    return ok && buffer_append(out, ours, (size_t)(end - ours));
}

bool model_config_pb(struct buffer *out, const struct model_metadata *m)
{
    struct buffer told;
    uint8_t head[16];
    buffer_init(&told);
    bool ok = compose(&told, m);
    size_t n = buffer_len(&told);
    ok = ok && buffer_append(out, head, (size_t)(pb_w_len(head, 1, n) - head)) &&
         buffer_append(out, buffer_view(&told).p, n);
    buffer_deinit(&told);
    return ok;
}

// ---- JSON ----------------------------------------------------------------------------------------------

static void put_message(struct json_writer *w, const struct pb_row *rows, struct view message);

static void put_enum(struct json_writer *w, const char *const *names, uint64_t v)
{
    for (uint64_t i = 0; names[i]; i++) {
        if (i == v) {
            json_w_string(w, view_str(names[i]));
            return;
        }
    }
    json_w_i64(w, (int64_t)v); // of a newer server
}

static void put_value(struct json_writer *w, const struct pb_row *row, const struct pb_field *f)
{
    float f32;
    double f64;
    memcpy(&f32, &f->value, sizeof(f32));
    memcpy(&f64, &f->value, sizeof(f64));
    switch ((enum config_kind)row->kind) {
    case TEXT:
        json_w_string(w, f->data);
        break;
    case BOOL:
        json_w_bool(w, f->value != 0);
        break;
    case INT:
        json_w_i64(w, (int64_t)f->value);
        break;
    case UINT:
        json_w_u64(w, f->value);
        break;
    case FLOAT:
        json_w_f32(w, f32);
        break;
    case DOUBLE:
        json_w_f64(w, f64);
        break;
    case ENUM:
        put_enum(w, row->of, f->value);
        break;
    case MESSAGE:
    case MAP:
        put_message(w, row->of, f->data);
        break;
    }
}

// The values of a list of numbers in one run.
static void put_packed(struct json_writer *w, const struct pb_row *row, struct view run)
{
    struct pb_field f = {.wire = wire_of(row->kind)};
    size_t size = row->kind == FLOAT ? 4 : 8;
    struct pb_reader r;
    if (f.wire == PB_VARINT) {
        pb_read(&r, run);
        while (pb_packed_varint(&r, &f.value))
            put_value(w, row, &f);
        return;
    }
    for (size_t at = 0; at < run.n; at += size) {
        memcpy(&f.value, run.p + at, size);
        put_value(w, row, &f);
    }
}

// An entry of a map, whose rows are key and value; a member of the object.
static void put_entry(struct json_writer *w, const struct pb_row *rows, struct view entry)
{
    char number[24];
    struct pb_reader r;
    struct pb_field f, key = {0}, value = {0};
    pb_read(&r, entry);
    while (pb_next(&r, &f)) {
        if (f.number == 1)
            key = f;
        else if (f.number == 2)
            value = f;
    }
    json_w_key(w,
               rows[0].kind == TEXT ? key.data : view_of(number, num_print_u64(number, key.value)));
    put_value(w, &rows[1], &value);
}

static void put_item(struct json_writer *w, const struct pb_row *row, const struct pb_field *f)
{
    if (row->kind == MAP)
        put_entry(w, row->of, f->data);
    else if (row->kind < MESSAGE && row->kind != TEXT && f->wire == PB_LEN)
        put_packed(w, row, f->data);
    else
        put_value(w, row, f);
}

static void put_list(struct json_writer *w, const struct pb_row *row, struct view message)
{
    struct pb_reader r;
    struct pb_field f;
    bool map = row->kind == MAP;
    json_w_key(w, view_str(row->name));
    map ? json_w_object(w) : json_w_array(w);
    pb_read(&r, message);
    while (pb_next(&r, &f)) {
        if (f.number == row->number)
            put_item(w, row, &f);
    }
    map ? json_w_object_end(w) : json_w_array_end(w);
}

static void put_one(struct json_writer *w, const struct pb_row *row, struct view message)
{
    struct pb_reader r;
    struct pb_field f, last = {0};
    pb_read(&r, message);
    while (pb_next(&r, &f)) {
        if (f.number == row->number)
            last = f;
    }
    if (last.number == 0 && (row->how == PERHAPS || row->kind == MESSAGE))
        return; // else its default is told: as Triton does
    json_w_key(w, view_str(row->name));
    put_value(w, row, &last);
}

static void put_message(struct json_writer *w, const struct pb_row *rows, struct view message)
{
    json_w_object(w);
    for (; rows->name; rows++) {
        if (rows->how == MANY)
            put_list(w, rows, message);
        else
            put_one(w, rows, message);
    }
    json_w_object_end(w);
}

bool model_config_json(struct buffer *out, const struct model_metadata *m)
{
    struct json_writer w;
    struct buffer told;
    buffer_init(&told);
    json_write(&w, out);
    bool ok = compose(&told, m);
    if (ok)
        put_message(&w, config, buffer_view(&told));
    buffer_deinit(&told);
    return ok && !w.failed;
}
