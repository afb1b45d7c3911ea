#include "infer/schema_rows.h"

/* Source: triton-inference-server/common protobuf/model_config.proto, in its order. */

static const struct schema_row resource[] = {
    OPEN(MESSAGE, "ModelRateLimiter.Resource"), HAS("name", 1, STRING, ONE),
    HAS("global", 2, BOOL, ONE), HAS("count", 3, UINT32, ONE), CLOSE};
static const struct schema_row rate_limiter[] = {
    OPEN(MESSAGE, "ModelRateLimiter"), HOLDS_ROWS(resource), PART("resources", 1, MANY, resource),
    HAS("priority", 2, UINT32, ONE), CLOSE};
static const struct schema_row device_kind[] = {
    OPEN(ENUM, "ModelInstanceGroup.SecondaryDevice.SecondaryDeviceKind"), IS("KIND_NVDLA", 0),
    CLOSE};
static const struct schema_row device[] = {OPEN(MESSAGE, "ModelInstanceGroup.SecondaryDevice"),
                                           HOLDS_ROWS(device_kind), WORD("kind", 1, device_kind),
                                           HAS("device_id", 2, INT64, ONE), CLOSE};
static const struct schema_row group_kind[] = {OPEN(ENUM, "ModelInstanceGroup.Kind"),
                                               IS("KIND_AUTO", 0),
                                               IS("KIND_GPU", 1),
                                               IS("KIND_CPU", 2),
                                               IS("KIND_MODEL", 3),
                                               CLOSE};
static const struct schema_row group[] = {OPEN(MESSAGE, "ModelInstanceGroup"),
                                          HOLDS_ROWS(device),
                                          HOLDS_ROWS(group_kind),
                                          HAS("name", 1, STRING, ONE),
                                          WORD("kind", 4, group_kind),
                                          HAS("count", 2, INT32, ONE),
                                          PART("rate_limiter", 6, ONE, rate_limiter),
                                          HAS("gpus", 3, INT32, MANY),
                                          PART("secondary_devices", 8, MANY, device),
                                          HAS("profile", 5, STRING, MANY),
                                          HAS("passive", 7, BOOL, ONE),
                                          HAS("host_policy", 9, STRING, ONE),
                                          CLOSE};
static const struct schema_row tensor_reshape[] = {OPEN(MESSAGE, "ModelTensorReshape"),
                                                   HAS("shape", 1, INT64, MANY), CLOSE};
static const struct schema_row input_format[] = {OPEN(ENUM, "ModelInput.Format"),
                                                 IS("FORMAT_NONE", 0), IS("FORMAT_NHWC", 1),
                                                 IS("FORMAT_NCHW", 2), CLOSE};
static const struct schema_row data_type[] = {OPEN(ENUM, "DataType"),
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
                                              CLOSE};
static const struct schema_row input[] = {OPEN(MESSAGE, "ModelInput"),
                                          HOLDS_ROWS(input_format),
                                          HAS("name", 1, STRING, ONE),
                                          WORD("data_type", 2, data_type),
                                          WORD("format", 3, input_format),
                                          HAS("dims", 4, INT64, MANY),
                                          PART("reshape", 5, ONE, tensor_reshape),
                                          HAS("is_shape_tensor", 6, BOOL, ONE),
                                          HAS("allow_ragged_batch", 7, BOOL, ONE),
                                          HAS("optional", 8, BOOL, ONE),
                                          HAS("is_non_linear_format_io", 9, BOOL, ONE),
                                          CLOSE};
static const struct schema_row output[] = {OPEN(MESSAGE, "ModelOutput"),
                                           HAS("name", 1, STRING, ONE),
                                           WORD("data_type", 2, data_type),
                                           HAS("dims", 3, INT64, MANY),
                                           PART("reshape", 5, ONE, tensor_reshape),
                                           HAS("label_filename", 4, STRING, ONE),
                                           HAS("is_shape_tensor", 6, BOOL, ONE),
                                           HAS("is_non_linear_format_io", 7, BOOL, ONE),
                                           CLOSE};
static const struct schema_row batch_input_kind[] = {
    OPEN(ENUM, "BatchInput.Kind"),
    IS("BATCH_ELEMENT_COUNT", 0),
    IS("BATCH_ACCUMULATED_ELEMENT_COUNT", 1),
    IS("BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO", 2),
    IS("BATCH_MAX_ELEMENT_COUNT_AS_SHAPE", 3),
    IS("BATCH_ITEM_SHAPE", 4),
    IS("BATCH_ITEM_SHAPE_FLATTEN", 5),
    CLOSE};
static const struct schema_row batch_input[] = {OPEN(MESSAGE, "BatchInput"),
                                                HOLDS_ROWS(batch_input_kind),
                                                WORD("kind", 1, batch_input_kind),
                                                HAS("target_name", 2, STRING, MANY),
                                                WORD("data_type", 3, data_type),
                                                HAS("source_input", 4, STRING, MANY),
                                                CLOSE};
static const struct schema_row batch_output_kind[] = {
    OPEN(ENUM, "BatchOutput.Kind"), IS("BATCH_SCATTER_WITH_INPUT_SHAPE", 0), CLOSE};
static const struct schema_row batch_output[] = {
    OPEN(MESSAGE, "BatchOutput"),         HOLDS_ROWS(batch_output_kind),
    HAS("target_name", 1, STRING, MANY),  WORD("kind", 2, batch_output_kind),
    HAS("source_input", 3, STRING, MANY), CLOSE};
static const struct schema_row latest[] = {OPEN(MESSAGE, "ModelVersionPolicy.Latest"),
                                           HAS("num_versions", 1, UINT32, ONE), CLOSE};
static const struct schema_row all[] = {OPEN(MESSAGE, "ModelVersionPolicy.All"), CLOSE};
static const struct schema_row specific[] = {OPEN(MESSAGE, "ModelVersionPolicy.Specific"),
                                             HAS("versions", 1, INT64, MANY), CLOSE};
static const struct schema_row version_policy[] = {OPEN(MESSAGE, "ModelVersionPolicy"),
                                                   HOLDS_ROWS(latest),
                                                   HOLDS_ROWS(all),
                                                   HOLDS_ROWS(specific),
                                                   OPEN(ONEOF, "policy_choice"),
                                                   PART("latest", 1, CHOICE, latest),
                                                   PART("all", 2, CHOICE, all),
                                                   PART("specific", 3, CHOICE, specific),
                                                   CLOSE};
static const struct schema_row graph[] = {OPEN(MESSAGE, "ModelOptimizationPolicy.Graph"),
                                          HAS("level", 1, INT32, ONE), CLOSE};
static const struct schema_row shape[] = {
    OPEN(MESSAGE, "ModelOptimizationPolicy.Cuda.GraphSpec.Shape"), HAS("dim", 1, INT64, MANY),
    CLOSE};
static const struct schema_row lower_bound[] = {
    OPEN(MESSAGE, "ModelOptimizationPolicy.Cuda.GraphSpec.LowerBound"),
    HAS("batch_size", 1, INT32, ONE), MAPS_TO("input", 2, STRING, shape), CLOSE};
static const struct schema_row graph_spec[] = {
    OPEN(MESSAGE, "ModelOptimizationPolicy.Cuda.GraphSpec"),
    HOLDS_ROWS(shape),
    HOLDS_ROWS(lower_bound),
    HAS("batch_size", 1, INT32, ONE),
    MAPS_TO("input", 2, STRING, shape),
    PART("graph_lower_bound", 3, ONE, lower_bound),
    CLOSE};
static const struct schema_row cuda[] = {OPEN(MESSAGE, "ModelOptimizationPolicy.Cuda"),
                                         HOLDS_ROWS(graph_spec),
                                         HAS("graphs", 1, BOOL, ONE),
                                         HAS("busy_wait_events", 2, BOOL, ONE),
                                         PART("graph_spec", 3, MANY, graph_spec),
                                         HAS("output_copy_stream", 4, BOOL, ONE),
                                         CLOSE};
static const struct schema_row accelerator[] = {
    OPEN(MESSAGE, "ModelOptimizationPolicy.ExecutionAccelerators.Accelerator"),
    HAS("name", 1, STRING, ONE), MAPS_TEXT("parameters", 2), CLOSE};
static const struct schema_row accelerators[] = {
    OPEN(MESSAGE, "ModelOptimizationPolicy.ExecutionAccelerators"), HOLDS_ROWS(accelerator),
    PART("gpu_execution_accelerator", 1, MANY, accelerator),
    PART("cpu_execution_accelerator", 2, MANY, accelerator), CLOSE};
static const struct schema_row pinned[] = {
    OPEN(MESSAGE, "ModelOptimizationPolicy.PinnedMemoryBuffer"), HAS("enable", 1, BOOL, ONE),
    CLOSE};
static const struct schema_row priority[] = {OPEN(ENUM, "ModelOptimizationPolicy.ModelPriority"),
                                             IS("PRIORITY_DEFAULT", 0), IS("PRIORITY_MAX", 1),
                                             IS("PRIORITY_MIN", 2), CLOSE};
static const struct schema_row optimization[] = {
    OPEN(MESSAGE, "ModelOptimizationPolicy"),
    HOLDS_ROWS(graph),
    HOLDS_ROWS(cuda),
    HOLDS_ROWS(accelerators),
    HOLDS_ROWS(pinned),
    HOLDS_ROWS(priority),
    PART("graph", 1, ONE, graph),
    WORD("priority", 2, priority),
    PART("cuda", 3, ONE, cuda),
    PART("execution_accelerators", 4, ONE, accelerators),
    PART("input_pinned_memory", 5, ONE, pinned),
    PART("output_pinned_memory", 6, ONE, pinned),
    HAS("gather_kernel_buffer_threshold", 7, UINT32, ONE),
    HAS("eager_batching", 8, BOOL, ONE),
    CLOSE};
static const struct schema_row timeout_action[] = {OPEN(ENUM, "ModelQueuePolicy.TimeoutAction"),
                                                   IS("REJECT", 0), IS("DELAY", 1), CLOSE};
static const struct schema_row queue_policy[] = {
    OPEN(MESSAGE, "ModelQueuePolicy"),
    HOLDS_ROWS(timeout_action),
    WORD("timeout_action", 1, timeout_action),
    HAS("default_timeout_microseconds", 2, UINT64, ONE),
    HAS("allow_timeout_override", 3, BOOL, ONE),
    HAS("max_queue_size", 4, UINT32, ONE),
    CLOSE};
static const struct schema_row dynamic_batching[] = {
    OPEN(MESSAGE, "ModelDynamicBatching"),
    HAS("preferred_batch_size", 1, INT32, MANY),
    HAS("max_queue_delay_microseconds", 2, UINT64, ONE),
    HAS("preserve_ordering", 3, BOOL, ONE),
    HAS("priority_levels", 4, UINT64, ONE),
    HAS("default_priority_level", 5, UINT64, ONE),
    PART("default_queue_policy", 6, ONE, queue_policy),
    MAPS_TO("priority_queue_policy", 7, UINT64, queue_policy),
    CLOSE};
static const struct schema_row control_kind[] = {OPEN(ENUM, "ModelSequenceBatching.Control.Kind"),
                                                 IS("CONTROL_SEQUENCE_START", 0),
                                                 IS("CONTROL_SEQUENCE_READY", 1),
                                                 IS("CONTROL_SEQUENCE_END", 2),
                                                 IS("CONTROL_SEQUENCE_CORRID", 3),
                                                 CLOSE};
static const struct schema_row control[] = {OPEN(MESSAGE, "ModelSequenceBatching.Control"),
                                            HOLDS_ROWS(control_kind),
                                            WORD("kind", 1, control_kind),
                                            HAS("int32_false_true", 2, INT32, MANY),
                                            HAS("fp32_false_true", 3, FLOAT, MANY),
                                            HAS("bool_false_true", 5, BOOL, MANY),
                                            WORD("data_type", 4, data_type),
                                            CLOSE};
static const struct schema_row control_input[] = {
    OPEN(MESSAGE, "ModelSequenceBatching.ControlInput"), HAS("name", 1, STRING, ONE),
    PART("control", 2, MANY, control), CLOSE};
static const struct schema_row initial_state[] = {
    OPEN(MESSAGE, "ModelSequenceBatching.InitialState"),
    OPEN(ONEOF, "state_data"),
    WORD("data_type", 1, data_type),
    HAS("dims", 2, INT64, MANY),
    HAS("zero_data", 3, BOOL, CHOICE),
    HAS("data_file", 4, STRING, CHOICE),
    HAS("name", 5, STRING, ONE),
    CLOSE};
static const struct schema_row state[] = {OPEN(MESSAGE, "ModelSequenceBatching.State"),
                                          HAS("input_name", 1, STRING, ONE),
                                          HAS("output_name", 2, STRING, ONE),
                                          WORD("data_type", 3, data_type),
                                          HAS("dims", 4, INT64, MANY),
                                          PART("initial_state", 5, MANY, initial_state),
                                          HAS("use_same_buffer_for_input_output", 6, BOOL, ONE),
                                          HAS("use_growable_memory", 7, BOOL, ONE),
                                          CLOSE};
static const struct schema_row direct[] = {OPEN(MESSAGE, "ModelSequenceBatching.StrategyDirect"),
                                           HAS("max_queue_delay_microseconds", 1, UINT64, ONE),
                                           HAS("minimum_slot_utilization", 2, FLOAT, ONE), CLOSE};
static const struct schema_row oldest[] = {OPEN(MESSAGE, "ModelSequenceBatching.StrategyOldest"),
                                           HAS("max_candidate_sequences", 1, INT32, ONE),
                                           HAS("preferred_batch_size", 2, INT32, MANY),
                                           HAS("max_queue_delay_microseconds", 3, UINT64, ONE),
                                           HAS("preserve_ordering", 4, BOOL, ONE),
                                           CLOSE};
static const struct schema_row sequence_batching[] = {
    OPEN(MESSAGE, "ModelSequenceBatching"),
    HOLDS_ROWS(control),
    HOLDS_ROWS(control_input),
    HOLDS_ROWS(initial_state),
    HOLDS_ROWS(state),
    HOLDS_ROWS(direct),
    HOLDS_ROWS(oldest),
    OPEN(ONEOF, "strategy_choice"),
    PART("direct", 3, CHOICE, direct),
    PART("oldest", 4, CHOICE, oldest),
    HAS("max_sequence_idle_microseconds", 1, UINT64, ONE),
    PART("control_input", 2, MANY, control_input),
    PART("state", 5, MANY, state),
    HAS("iterative_sequence", 6, BOOL, ONE),
    CLOSE};
static const struct schema_row step[] = {OPEN(MESSAGE, "ModelEnsembling.Step"),
                                         HAS("model_name", 1, STRING, ONE),
                                         HAS("model_version", 2, INT64, ONE),
                                         MAPS_TEXT("input_map", 3),
                                         MAPS_TEXT("output_map", 4),
                                         HAS("model_namespace", 5, STRING, ONE),
                                         CLOSE};
static const struct schema_row ensembling[] = {OPEN(MESSAGE, "ModelEnsembling"), HOLDS_ROWS(step),
                                               PART("step", 1, MANY, step),
                                               HAS("max_inflight_requests", 2, UINT32, ONE), CLOSE};
static const struct schema_row parameter[] = {OPEN(MESSAGE, "ModelParameter"),
                                              HAS("string_value", 1, STRING, ONE), CLOSE};
static const struct schema_row warmup_input[] = {
    OPEN(MESSAGE, "ModelWarmup.Input"),        OPEN(ONEOF, "input_data_type"),
    WORD("data_type", 1, data_type),           HAS("dims", 2, INT64, MANY),
    HAS("zero_data", 3, BOOL, CHOICE),         HAS("random_data", 4, BOOL, CHOICE),
    HAS("input_data_file", 5, STRING, CHOICE), CLOSE};
static const struct schema_row warmup[] = {OPEN(MESSAGE, "ModelWarmup"),
                                           HOLDS_ROWS(warmup_input),
                                           HAS("name", 1, STRING, ONE),
                                           HAS("batch_size", 2, UINT32, ONE),
                                           MAPS_TO("inputs", 3, STRING, warmup_input),
                                           HAS("count", 4, UINT32, ONE),
                                           CLOSE};
static const struct schema_row operations[] = {OPEN(MESSAGE, "ModelOperations"),
                                               HAS("op_library_filename", 1, STRING, MANY), CLOSE};
static const struct schema_row transaction_policy[] = {OPEN(MESSAGE, "ModelTransactionPolicy"),
                                                       HAS("decoupled", 1, BOOL, ONE), CLOSE};
static const struct schema_row agent[] = {OPEN(MESSAGE, "ModelRepositoryAgents.Agent"),
                                          HAS("name", 1, STRING, ONE), MAPS_TEXT("parameters", 2),
                                          CLOSE};
static const struct schema_row repository_agents[] = {OPEN(MESSAGE, "ModelRepositoryAgents"),
                                                      HOLDS_ROWS(agent),
                                                      PART("agents", 1, MANY, agent), CLOSE};
static const struct schema_row response_cache[] = {OPEN(MESSAGE, "ModelResponseCache"),
                                                   HAS("enable", 1, BOOL, ONE), CLOSE};
static const struct schema_row identifier[] = {
    OPEN(MESSAGE, "ModelMetrics.MetricControl.MetricIdentifier"), HAS("family", 1, STRING, ONE),
    CLOSE};
static const struct schema_row histogram[] = {
    OPEN(MESSAGE, "ModelMetrics.MetricControl.HistogramOptions"), HAS("buckets", 1, DOUBLE, MANY),
    CLOSE};
static const struct schema_row metric_control[] = {OPEN(MESSAGE, "ModelMetrics.MetricControl"),
                                                   HOLDS_ROWS(identifier),
                                                   HOLDS_ROWS(histogram),
                                                   OPEN(ONEOF, "metric_options"),
                                                   PART("metric_identifier", 1, ONE, identifier),
                                                   PART("histogram_options", 2, CHOICE, histogram),
                                                   CLOSE};
static const struct schema_row metrics[] = {OPEN(MESSAGE, "ModelMetrics"),
                                            HOLDS_ROWS(metric_control),
                                            PART("metric_control", 1, MANY, metric_control), CLOSE};
const struct schema_row schema_config[] = {
    OPEN(MESSAGE, "ModelConfig"),
    OPEN(ONEOF, "scheduling_choice"),
    HAS("name", 1, STRING, ONE),
    HAS("platform", 2, STRING, ONE),
    HAS("backend", 17, STRING, ONE),
    HAS("runtime", 25, STRING, ONE),
    PART("version_policy", 3, ONE, version_policy),
    HAS("max_batch_size", 4, INT32, ONE),
    PART("input", 5, MANY, input),
    PART("output", 6, MANY, output),
    PART("batch_input", 20, MANY, batch_input),
    PART("batch_output", 21, MANY, batch_output),
    PART("optimization", 12, ONE, optimization),
    PART("dynamic_batching", 11, CHOICE, dynamic_batching),
    PART("sequence_batching", 13, CHOICE, sequence_batching),
    PART("ensemble_scheduling", 15, CHOICE, ensembling),
    PART("instance_group", 7, MANY, group),
    HAS("default_model_filename", 8, STRING, ONE),
    MAPS_TEXT("cc_model_filenames", 9),
    MAPS_TEXT("metric_tags", 10),
    MAPS_TO("parameters", 14, STRING, parameter),
    PART("model_warmup", 16, MANY, warmup),
    PART("model_operations", 18, ONE, operations),
    PART("model_transaction_policy", 19, ONE, transaction_policy),
    PART("model_repository_agents", 23, ONE, repository_agents),
    PART("response_cache", 24, ONE, response_cache),
    PART("model_metrics", 26, ONE, metrics),
    CLOSE};
const struct schema_row schema_config_file[] = {HOLDS_ROWS(rate_limiter),
                                                HOLDS_ROWS(group),
                                                HOLDS_ROWS(tensor_reshape),
                                                HOLDS_ROWS(input),
                                                HOLDS_ROWS(output),
                                                HOLDS_ROWS(batch_input),
                                                HOLDS_ROWS(batch_output),
                                                HOLDS_ROWS(version_policy),
                                                HOLDS_ROWS(optimization),
                                                HOLDS_ROWS(queue_policy),
                                                HOLDS_ROWS(dynamic_batching),
                                                HOLDS_ROWS(sequence_batching),
                                                HOLDS_ROWS(ensembling),
                                                HOLDS_ROWS(parameter),
                                                HOLDS_ROWS(warmup),
                                                HOLDS_ROWS(operations),
                                                HOLDS_ROWS(transaction_policy),
                                                HOLDS_ROWS(repository_agents),
                                                HOLDS_ROWS(response_cache),
                                                HOLDS_ROWS(metrics),
                                                HOLDS_ROWS(schema_config),
                                                HOLDS_ROWS(data_type),
                                                CLOSE};
