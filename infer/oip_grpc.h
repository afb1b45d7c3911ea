/* infer/oip_grpc.h: the protobuf form (inference.GRPCInferenceService): requests read as a server,
 * batches written toward a worker, answers read from a worker and written to a client. Messages are
 * without gRPC's 5-byte prefix. Reading makes views into the message, which must stay. Thinks.
 * Bounds: those of oip_json.h; nesting is fixed by the messages (an unknown field is skipped whole). */
#ifndef SLUICE_INFER_OIP_GRPC_H
#define SLUICE_INFER_OIP_GRPC_H

#include "base/buffer.h"
#include "infer/oip.h"

// Toward a worker smaller rows are copied (measured: small iovecs lose to memcpy); toward a client larger
// ones are referenced.
#define OIP_COPY_BELOW ((size_t)4096)
#define OIP_PIN_FROM ((size_t)16 << 10)

// ---- a request, as a server --------------------------------------------------------------------------

struct oip_grpc;
// ModelInferRequest. Resumable: typed contents are converted in steps; raw ones and packed floats are
// views. out is written whole (model and version too). NULL: out of memory.
struct oip_grpc *oip_grpc_begin(struct arena *a, struct view message, struct infer_request *out);
enum oip_step oip_grpc_step(struct oip_grpc *d, size_t max_bytes, struct error *e);
bool oip_grpc_decode(struct arena *a, struct view message, struct infer_request *out,
                     struct error *e);

// ---- toward a worker ---------------------------------------------------------------------------------

// One ModelInferRequest for n requests that share a batch key (n > 1: each has rows > 0). rows: their sum,
// or 0 when one goes that is not batched. to: name and version that the worker is told. Memory: the arena's; rows from OIP_COPY_BELOW on are referenced,
// and stay the requests'. id and priority are written only when one goes alone. timeout_us: 0: none.
// False: out of memory.
bool oip_grpc_write_batch(struct arena *a, const struct target *to,
                          const struct infer_request *const *members, unsigned n, uint32_t rows,
                          uint64_t timeout_us, struct oip_message *out);

// ModelInferResponse -> answer. message lies in block; on success the answer (memory that goes with the
// block) owns the caller's reference. rows: what was asked for, 0: not batched. Every output's bytes agree
// with its shape and datatype. BYTES outputs get row_offsets when their shape[0] is rows; whether it
// is, is for the caller to see. The calling thread is the block's owner.
bool oip_grpc_read_answer(struct block *block, struct view message, uint32_t rows,
                          struct answer **out, struct error *e);
// An answer of outputs that the caller made (a worker's own): memory goes with the block, whose reference it
// takes. Outputs are copied (not their data). BYTES outputs get row_offsets. NULL: out of memory, or BYTES
// bytes that are no BYTES.
struct answer *answer_new(struct block *block, const struct tensor *outputs, unsigned n,
                          uint32_t rows);

// ---- toward a client ---------------------------------------------------------------------------------

// ModelInferResponse: raw_output_contents always, outputs in the order asked for. Rows below OIP_PIN_FROM
// are copied into the arena, larger ones lent by the answer's block (*pins: such a segment exists).
// What was asked for and is not in the answer is left out. False: e (out of memory: 503).
bool oip_grpc_write_answer(struct arena *a, const struct infer_request *request,
                           const struct slice *s, const struct oip_said *said,
                           struct oip_message *out, bool *pins, struct error *e);

// ---- the small calls ---------------------------------------------------------------------------------

// Requests, as a client. .p NULL with n == 0: out of memory, or an empty message.
struct view oip_grpc_model_request(struct arena *a, struct view name, struct view version);
struct view oip_grpc_index_request(struct arena *a, bool ready);
// Requests, as a server: ModelReady, ModelMetadata, ModelConfig; RepositoryIndex; health Check.
bool oip_grpc_read_model_request(struct view message, struct view *name, struct view *version);
bool oip_grpc_read_index_request(struct view message, bool *ready);
bool oip_grpc_read_health_request(struct view message, struct view *service);

// Answers, as a client. False: not the message. Views point into it.
bool oip_grpc_read_ready(struct view message, bool *ready); // ServerLive, ServerReady, ModelReady
bool oip_grpc_read_metadata(struct arena *a, struct view message, struct model_metadata *out,
                            struct error *e); // max_batch and instances stay 0
// Sets max_batch, instances, serial and config (a view into the message), to nothing when it cannot be used: e says why.
// instances: those of all groups that take requests, for each device; 0: it names none. Bounded by 65,536. serial: the
// parameter "serial_device" is "true".
bool oip_grpc_read_config(struct view message, struct model_metadata *out, struct error *e);
bool oip_grpc_read_index(struct arena *a, struct view message, struct oip_index *out);

// Answers, as a server: appended to a buffer. False: out of memory.
bool oip_grpc_ready(struct buffer *out, bool ready); // ServerLive, ServerReady, ModelReady
bool oip_grpc_server(struct buffer *out, struct view name, struct view version,
                     unsigned n_extensions);
bool oip_grpc_metadata(struct buffer *out, const struct model_metadata *m);
bool oip_grpc_index(struct buffer *out, const struct oip_index *index);
bool oip_grpc_health(struct buffer *out, bool serving);

#endif
