/* infer/prediction.h: what is written down of one prediction. A loop packs it into a run of bytes of its own, which a
 * thread that has time prints as a line of JSON. What a record may not hold never leaves the loop: values are
 * left out, hashed or cut while they are packed. Thinks. Thread: any; a run of bytes has one reader.
 *
 * inputs, outputs: by the model's rules nothing, a hash, or the tensors as the Open Inference Protocol writes them in
 * JSON, their values up to a bound. The hash is XXH3 with 128 bits over datatypes, shapes, names and bytes, whichever
 * protocol carried them and in however many parts they were answered: equal values have equal hashes, which is what
 * it is for. It hides nothing: who guesses the values finds them. */
#ifndef SLUICE_INFER_PREDICTION_H
#define SLUICE_INFER_PREDICTION_H

#include "base/buffer.h"
#include "infer/request.h"

#define PREDICTION_TEXT 1024 // bytes of each text; the rest is cut
#define PREDICTION_NAME 128  // of a tensor's name
#define PREDICTION_SAID                                                                            \
    8192u // bytes of all its headers and parameters, with 8 of each; of more the last are left out
#define PREDICTION_HASHED                                                                          \
    (1u << 20) // bytes of a side that are hashed; what is behind them is not looked at

enum prediction_text {
    PREDICTION_ID, // of the request
    PREDICTION_TENANT,
    PREDICTION_ASKED,    // the model that it named
    PREDICTION_ANSWERED, // that answered, where that is another
    PREDICTION_VERSION,
    PREDICTION_EXPERIMENT,
    PREDICTION_VARIANT,
    PREDICTION_ATTEMPTS, // of its chain
    PREDICTION_TEXTS
};

enum prediction_detail { DETAIL_NONE, DETAIL_HASH, DETAIL_FULL };

struct prediction_rules {
    enum prediction_detail inputs, outputs;
    uint64_t most;   // bytes of values of each side; of more the rest is cut
    bool parameters; // those that a worker is told of: the request's, and with full inputs theirs
    // "input:NAME", "output:NAME": no value and no hash of that tensor; "tenant", "header:NAME", "parameter:NAME": left out
    const char *const *redact;
    unsigned redacts;
};

struct prediction_facts {
    uint64_t wall_us; // of the answer, since 1970
    uint64_t parse_us, queue_us, compute_us, total_us;
    const char *outcome, *source, *reason; // constants; source, reason: NULL: there is none
    uint32_t rows, batch_rows;
    uint32_t age_s; // aged
    bool aged;
    uint8_t level;
};

struct prediction {
    struct prediction_facts facts;
    struct view text[PREDICTION_TEXTS];
    const struct param *headers; // [n_headers] fields of its head, their names as keys
    unsigned n_headers;
    const struct infer_request *request;
    const struct slice *answer; // NULL: it was not answered
};

// What it takes at most.
size_t prediction_room(const struct prediction *p, const struct prediction_rules *r);
// Into `to`, on a boundary of 8 bytes, which has that room. Returns the bytes that it took, a multiple of 8.
size_t prediction_pack(void *to, const struct prediction *p, const struct prediction_rules *r);

struct prediction_place { // where it was made
    struct view instance;
    unsigned loop;
    uint64_t ms, seq; // its id, "MS-SEQ": ascends by instance and loop
};

// Bytes of the packed one at `from`.
size_t prediction_bytes(const void *from);
// Appends it as a line of JSON with its newline. False: out of memory, and out is as it was.
bool prediction_print(struct buffer *out, const void *from, const struct prediction_place *at);

#endif
