/* infer/request.h: what was asked (a request) and what a worker answered (an answer), free of any
 * protocol. Everything here is views into the body or memory of the request's arena. Read-only once
 * decoded: the home loop reads it while the ticket is out. Thinks. */
#ifndef SLUICE_INFER_REQUEST_H
#define SLUICE_INFER_REQUEST_H

#include "base/arena.h"
#include "base/block.h"
#include "base/hash.h"
#include "infer/params.h"
#include "infer/tensor.h"

#define INFER_MAX_TENSORS 256      // inputs or outputs of one request: row 96 of hostile input
#define INFER_MAX_EMPTY_ROWS 65536 // rows that hold no data: as many as the largest batch
#define INFER_MAX_VERSIONS 1024 // of a model at one server; one that says it has more is not served
#define MODEL_NAME_MAX 128      // [A-Za-z0-9._+@~-]{1,128}

struct model;

bool model_name_ok(struct view name);

struct requested_output {
    struct view name;
    bool binary;                 // answer this one in binary (REST)
    uint32_t classification;     // 0: raw tensor
    const struct params *params; // that are not known here; NULL: none
};

// Where a request comes from, for the worker of one that goes alone: metadata of its call. Empty ones are not told. All are
// printable ASCII.
struct request_trace {
    struct view id;            // x-request-id
    struct view parent, state; // traceparent, tracestate: W3C Trace Context
};

enum infer_format { FORMAT_OIP_JSON, FORMAT_OIP_BINARY, FORMAT_OIP_GRPC }; // how to answer

struct infer_request {
    struct view model, version; // version empty: the worker's choice
    struct view id;             // client's OIP id, may be empty
    struct tensor *inputs;
    struct requested_output *outputs; // n_outputs == 0: all
    struct param *params;             // those that are not known below, and those of its sequence
    uint16_t n_inputs, n_outputs, n_params;
    enum infer_format format;
    bool binary_output;                // default of outputs that do not say
    bool sequence;                     // a step of one: goes alone
    bool sequence_start, sequence_end; // first, last step of its sequence
    bool no_chain;                     // the model that it names, or an error: no other may answer
    uint64_t sequence_id; // hash of the client's sequence_id; 0: belongs to no sequence
    uint8_t priority;     // 0: default; 1 highest … 255 lowest
    uint64_t timeout_us;  // 0: none given
    uint32_t rows;        // first dimension when all inputs share it, else 0 (cannot be batched)
    size_t bytes;         // sum of the inputs' bytes: charged to the queue
    struct hash128 batch_key;          // see request_seal
    const struct request_trace *trace; // NULL: nothing; not in the batch key
};

static inline uint32_t request_rows(const struct infer_request *r)
{
    return r->rows ? r->rows : 1;
}

// What is asked, as its worker knows it; the client may have used another name.
struct target {
    struct model *model;
    struct view name, version; // version empty: the worker's choice
};

// Called once by each decoder when all is filled: computes rows, bytes and the batch key, the hash of
// (names, datatypes, non-batch shapes, requested output names, and every parameter that is kept, in whatever order). What
// is asked, and of which version, is its ticket's target. Steps of a sequence get sequence = true.
void request_seal(struct infer_request *r);

// One worker's answer to one batch, reference-counted by its block: `outputs` views point into it.
// Lives in the block's memory or in memory freed with it (block->on_free).
struct answer {
    struct block *block;    // owns all of the bytes below; every user holds one reference
    struct tensor *outputs; // shape[0] is the batch's rows when batched
    uint16_t n_outputs;
    struct view model, version;    // as the worker says
    uint64_t queue_us, compute_us; // worker's own figures, 0: not given
    const struct params *params;   // what else it says of the answer; NULL: nothing
    uint32_t rows;                 // rows of the batch, 0 when not batched
    const uint64_t **row_offsets;  // [n_outputs] NULL, or for BYTES outputs [rows + 1] byte offsets
    uint64_t number; // of one that is kept: no other one of this process has it; 0: it is not kept
};

// Who gave an answer. SOURCE_STALE: a cache, and it is older than the model's `ttl`.
enum answer_source { SOURCE_MODEL, SOURCE_CACHE, SOURCE_STALE, SOURCE_DEFAULT, SOURCES };
extern const char *const answer_source_name[SOURCES]; // as clients, logs and metrics are told

// A request's share of an answer: rows [row, row + rows) of every output; rows == 0: the whole answer. Of a request
// that was answered in parts the first one stands for all: next has the rows behind it.
struct slice {
    struct answer *answer;
    uint32_t row, rows;
    const struct slice *next; // NULL: no more
};
// The slice's own view of output k: shape[0] replaced, data narrowed. O(1).
struct tensor slice_output(const struct slice *s, unsigned k);
// Output k of it and all behind it: the rows and the bytes of all; data is the first one's.
struct tensor slice_whole(const struct slice *s, unsigned k);
// Those behind it have the same outputs, in the same order, and rows in each. False: e, of a worker that answers
// parts of one request so differently that they cannot be one answer (STATUS_BAD_ANSWER).
bool slice_agrees(const struct slice *s, struct error *e);

// Rows [row, row + rows) of a request as one of its own, in the arena: tensors narrowed, everything else shared.
// row > 0: begins where the part before it ended. NULL: out of memory.
struct infer_request *request_part(struct arena *a, const struct infer_request *r, uint32_t row,
                                   uint32_t rows, const struct infer_request *before);

// Metadata of a model as OIP gives it.
struct model_metadata {
    struct view name, platform;
    struct view *versions;
    struct tensor *inputs, *outputs; // shapes with -1 for free dimensions, no data
    uint16_t n_versions, n_inputs, n_outputs;
    uint32_t max_batch; // ModelConfig.max_batch_size; 0: never batched
    uint32_t instances; // ModelConfig.instance_group, added up; 0: not known
    bool
        serial; // ModelConfig.parameters: its server computes one batch at a time, of whatever model
    struct view
        config; // ModelConfig as its server gives it (infer/model_config.h); empty: not known
};
// Deep, into the arena. False: out of memory.
bool model_metadata_copy(struct arena *a, struct model_metadata *out,
                         const struct model_metadata *from);

#endif
