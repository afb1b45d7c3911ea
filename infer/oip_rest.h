/* infer/oip_rest.h: answers in REST form: JSON with flat data, or JSON followed by raw tensors (binary
 * tensor extension); metadata; errors. Everything is appended to a buffer of the caller. Non-finite
 * floats have no JSON form: they are the strings "NaN", "Infinity", "-Infinity". Thinks. */
#ifndef SLUICE_INFER_OIP_REST_H
#define SLUICE_INFER_OIP_REST_H

#include "base/json.h"
#include "infer/oip.h"

// An answer on its way into JSON. Resumable: a large tensor is written in steps.
struct oip_rest {
    const struct infer_request *request;
    const struct slice *slice;
    const struct oip_said *said;
    struct buffer *out;
    struct oip_seg *binary; // the outputs that follow the JSON: lent by their answers' blocks
    unsigned n_binary;
    // What stands behind the head, from before: set after oip_rest_begin, stays for the first step. Empty: it is to be written.
    struct view known;
    size_t head; // bytes of the head, once that is written
    // private
    const struct slice *part;  // whose rows of the output are being written
    unsigned index;            // of the output in the answers
    struct tensor tensor;      // those
    uint64_t i, n;             // elements of the output: done, all
    uint64_t part_i, part_end; // where the part's begin and end
    size_t at;                 // BYTES: bytes of the part done
    size_t before;             // bytes of the parts before it
    unsigned k, n_wanted;
    bool any; // an output stands in it
    uint8_t state;
};

// binary: room for as many segments as there are outputs (oip_rest_outputs), times the slices.
void oip_rest_begin(struct oip_rest *w, const struct infer_request *request,
                    const struct slice *slice, const struct oip_said *said, struct buffer *out,
                    struct oip_seg *binary);
unsigned oip_rest_outputs(const struct infer_request *request, const struct answer *a);
// An output that was asked for and is not in the answer is left out: whether that may be is looked at where the answer comes.
// OIP_ERROR: an output has no JSON form (400), BYTES that are not UTF-8 (400, ask for binary), out of memory (503).
enum oip_step oip_rest_step(struct oip_rest *w, size_t max_bytes, struct error *e);

// Nothing but memory can keep it from becoming JSON: its outputs are numbers, and none goes behind the JSON.
bool oip_rest_is_sure(const struct oip_rest *w);
// The same rows lie elsewhere from now on, in as many parts.
void oip_rest_move(struct oip_rest *w, const struct slice *slice);

// Of the bytes (as they lie in the answer) that become JSON, how many have, and how many have not yet.
void oip_rest_progress(const struct oip_rest *w, size_t *done, size_t *left);

// The request's k-th wanted output: its index in the answer; UINT32_MAX: the answer has none of that name.
unsigned oip_wanted_output(const struct infer_request *request, const struct answer *a, unsigned k,
                           bool *binary);

// Each appends one JSON text; false: out of memory.
bool oip_rest_error(struct buffer *out, const char *text);
bool oip_rest_live(struct buffer *out, bool live);
bool oip_rest_ready(struct buffer *out, bool ready);
bool oip_rest_model_ready(struct buffer *out, struct view name, bool ready);
bool oip_rest_server(struct buffer *out, struct view name, struct view version,
                     unsigned n_extensions);
bool oip_rest_model(struct buffer *out, const struct model_metadata *m);
bool oip_rest_index(struct buffer *out, const struct oip_index *index);
// Body of POST /v2/repository/index: "" or {"ready": bool}.
bool oip_rest_read_index_request(struct arena *a, struct view body, bool *ready, struct error *e);

#endif
