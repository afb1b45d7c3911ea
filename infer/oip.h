/* infer/oip.h: what the codecs of the Open Inference Protocol v2 have in common. Thinks.
 * A codec that may have much to do works in steps: step(max_bytes) looks at about so many bytes of the
 * body and returns, so that a loop never works for long. All its state is in its struct. */
#ifndef SLUICE_INFER_OIP_H
#define SLUICE_INFER_OIP_H

#include "infer/request.h"

#define OIP_STEP_ELEMENTS ((uint64_t)16 << 10) // of BYTES, however short
#define OIP_STEP_BYTES ((size_t)64 << 10)      // what a loop does of one body at a time

// Bytes of a name, an id, a key, a parameter's value: they are read in one go.
#define OIP_MAX_TEXT ((size_t)128 << 10)

enum oip_step { OIP_ERROR = -1, OIP_MORE, OIP_DONE };

// A run of bytes to send. Who owns it is said where it is made.
struct oip_seg {
    const uint8_t *p;
    size_t n;
    bool lent;           // not the arena's: a request's or an answer's bytes
    struct block *block; // of an answer's: which holds them
};

// A message to send, in pieces that lie in an arena or are lent by the tensors.
struct oip_message {
    struct oip_seg *segs;
    unsigned n;
    size_t bytes; // sum
};

// What an answer says beside its tensors.
struct oip_said {
    struct view model, version, id; // version, id: left out when empty
    const struct param *params;     // ours: keys need no escape
    unsigned n_params;
    const struct params *theirs; // the worker's, behind ours; NULL: none
};

// One line of RepositoryIndex.
struct oip_index_model {
    struct view name, version, state, reason; // state "READY", "UNAVAILABLE", …
};
struct oip_index {
    struct oip_index_model *models;
    unsigned n;
};
#define OIP_MAX_INDEX 65536 // lines of an index that we read

// What our servers say they speak beyond the core: a worker the first ones, a gateway all.
#define OIP_EXTENSIONS 7
#define OIP_EXTENSIONS_CORE 5
extern const struct view oip_extensions[OIP_EXTENSIONS];

// ---- for the decoders --------------------------------------------------------------------------------

// "inputs[3].shape" style place for messages: what is "inputs" or "outputs".
struct oip_place {
    const char *what;
    unsigned index;
    const char *field; // NULL: none
};
// A request parameter: those with a meaning are noted in r, the others are put into params[r->n_params]
// (room for INFER_MAX_PARAMS). False: wrong type or value, or too many.
bool oip_take_param(struct infer_request *r, const struct param *p, struct error *e);
// A parameter of a tensor or a requested output that is for others than the one who reads it, into its list. at NULL: of
// the answer itself. False: e says which bound it is beyond, or that it came twice.
bool oip_add_param(struct arena *a, const struct params **list, const struct param *p,
                   struct params_sum *sum, const struct oip_place *at, struct error *e);
bool oip_is_shared_memory(struct view key); // a key of that extension
// A key that says how a tensor's bytes travel on this connection: it is not for the next one.
bool oip_is_framing(struct view key);
// What came as a parameter's value, for messages: "a string", "a negative integer", ...
const char *oip_param_came(const struct param *p);
// Same name twice among the inputs (called so), or among the outputs: false.
bool oip_check_names(const struct infer_request *r, const char *inputs, struct error *e);
// The message "expected COUNT DTYPE values for shape [..], got GOT"; got UINT64_MAX: "got more".
bool oip_wrong_count(struct error *e, const struct oip_place *at, const struct tensor *t,
                     uint64_t got);
// Shape, datatype and bytes of raw data agree: else an error that says all three. BYTES are not walked.
bool oip_check_raw(struct error *e, const struct oip_place *at, const struct tensor *t);
// Seals the request when all of it is read. False: its rows hold nothing and are more than any batch has:
// they would cost their sender nothing, and the queue's room in rows.
bool oip_seal(struct infer_request *r, struct error *e);
// Room for one more behind n in an array of the arena, which doubles; the caller bounds n. NULL: out of memory.
void *oip_grown(struct arena *a, void *old, unsigned n, unsigned *cap, size_t size);
#define OIP_RANK_COUNTED                                                                           \
    255 // dimensions of a shape that are counted, to say how many came; no more are read
// "17", "255 or more". Returns out.
const char *oip_rank_text(char out[16], unsigned came);
// "[1,64]", cut when long. Returns out.
const char *oip_shape_text(char out[96], const struct tensor *t);

#endif
