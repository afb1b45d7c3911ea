/* infer/stored.h: an answer as it lies in a store that others write to, too: a header of ours, then a ModelInferResponse.
 * What comes back is believed only when all of it fits: magic, layout, lengths, checksum, key and the model's version.
 * Thinks. Thread: any.
 *
 *    0  "SlSt"             4
 *    4  layout             2   STORED_LAYOUT
 *    6  bytes of version   2
 *    8  checksum           8   XXH3 (64 bits) of all that follows
 *   16  key               32
 *   48  stored at          8   microseconds of the wall clock
 *   56  rows               4   0: not batched
 *   60  bytes of message   4
 *   64  version, message       numbers are little-endian */
#ifndef SLUICE_INFER_STORED_H
#define SLUICE_INFER_STORED_H

#include "base/buffer.h"
#include "infer/oip_grpc.h"

#define STORED_LAYOUT 1
#define STORED_KEY 32
#define STORED_HEADER 64

struct stored {
    const uint8_t *key; // [STORED_KEY]
    struct view model, version;
    uint64_t at_us;
};

enum stored_fault {
    STORED_FITS,
    STORED_FOREIGN,   // not ours: no magic
    STORED_LAYOUT_IS, // of another layout: another release wrote it
    STORED_TRUNCATED, // its lengths are not what there is
    STORED_CHECKSUM,
    STORED_KEY_IS,     // of another key
    STORED_VERSION_IS, // of another version of the model
    STORED_MESSAGE,    // the message is none, or its rows are others
    STORED_FAULTS
};
extern const char *const stored_fault_name[STORED_FAULTS];

// Appended to out. False: out of memory, or more than a store's value may hold (STORED_MOST).
#define STORED_MOST ((size_t)4 << 20)
bool stored_write(struct buffer *out, const struct stored *it, const struct slice *s);

// Whether the value is what was asked for (key and version of `it`, whose at_us is set). message, a view into the value,
// and rows are for oip_grpc_read_answer.
enum stored_fault stored_read(struct view value, struct stored *it, struct view *message,
                              uint32_t *rows);
// The same, and the answer: its views lie in a block of its own. NULL: fault says why; STORED_FITS: out of memory.
struct answer *stored_answer(struct block_owner *blocks, struct view value, struct stored *it,
                             enum stored_fault *fault);

#endif
