/* infer/model_config.h: a model's configuration as Triton has it (inference.ModelConfig), whole: checked when it comes from a
 * worker, told again in both forms, with what holds with us on top. What we need of it ourselves is read by
 * oip_grpc_read_config. Thinks. Thread: any. */
#ifndef SLUICE_INFER_MODEL_CONFIG_H
#define SLUICE_INFER_MODEL_CONFIG_H

#include "base/json.h"
#include "infer/request.h"

#define MODEL_CONFIG_MOST ((size_t)64 << 10) // bytes of one that is kept
#define MODEL_CONFIG_FIELDS 4096             // of all messages in it
#define MODEL_CONFIG_SERIAL "serial_device"  // a parameter of ours: model_metadata.serial

// Is every message of it whole, every field that we know of its type, every text UTF-8? False: e says which is not.
bool model_config_check(struct view message, struct error *e);
// The metadata's config (checked), but its max_batch_size is the metadata's, and serial_device, which says something of the
// worker and not of us, is left out. Without a config: what the metadata say, with serial_device. Appended; false: out of memory.
bool model_config_json(struct buffer *out,
                       const struct model_metadata *m); // one object, as Triton writes it
bool model_config_pb(struct buffer *out, const struct model_metadata *m); // a ModelConfigResponse

#endif
