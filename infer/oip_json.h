/* infer/oip_json.h: the JSON form of a request (OIP v2 REST, with the binary tensor extension: some
 * inputs' bytes follow the JSON). Numbers go straight into typed arrays in the request's arena, never
 * through a tree. Strict: duplicate keys, unknown datatypes, ragged or miscounted data are refused with
 * the field's name; never the body's own text. Nothing is allocated that the body does not back: an
 * element takes at least two bytes of it. Thinks.
 *
 * Bounds: 256 inputs, 256 outputs, 64 parameters, 256 keys in one object, depth 100, rank 16; a string that
 * is neither data nor skipped: OIP_MAX_TEXT.
 * Keys that we do not know are skipped; parameters that we do not know are kept (infer/params.h has their bounds). */
#ifndef SLUICE_INFER_OIP_JSON_H
#define SLUICE_INFER_OIP_JSON_H

#include "base/json.h"
#include "infer/oip.h"

struct oip_json;

// json and binary are parts of the body and must stay as long as out is used (names and data are views
// into them). out: model and version are set by the caller (from the path); the rest is written here.
// NULL: out of memory. The decoder lives in the arena.
struct oip_json *oip_json_begin(struct arena *a, struct view json, struct view binary,
                                struct infer_request *out);
// OIP_DONE: out is whole and sealed. OIP_ERROR: e tells. OIP_MORE: call again.
enum oip_step oip_json_step(struct oip_json *d, size_t max_bytes, struct error *e);

// All at once.
bool oip_json_decode(struct arena *a, struct view json, struct view binary,
                     struct infer_request *out, struct error *e);

// An answer, as an operator writes one (or a server of the protocol does): its outputs, with their data, in the arena or
// views into json. What else stands in it is not looked at.
bool oip_json_decode_answer(struct arena *a, struct view json, struct tensor **outputs, unsigned *n,
                            struct error *e);

// Raw binary request (Inference-Header-Content-Length: 0): the body is the one input of the model. At most
// one dimension may be free (besides a batch dimension, which is 1 when both are free); its size follows
// from the bytes. BYTES: the body is one element.
struct oip_raw {
    struct infer_request *out;
    struct view left; // BYTES: of the body, to be copied
    uint8_t *to;
};
bool oip_raw_begin(struct oip_raw *w, struct arena *a, struct view body,
                   const struct model_metadata *m, struct infer_request *out, struct error *e);
enum oip_step oip_raw_step(struct oip_raw *w, size_t max_bytes, struct error *e);

#endif
