/* infer/prediction_inner.h: how a packed prediction lies: a packed_head, its texts, what is said beside it, and two
 * sides. What has a size of its own begins on a boundary of 8 bytes. It never leaves the process. */
#ifndef SLUICE_INFER_PREDICTION_INNER_H
#define SLUICE_INFER_PREDICTION_INNER_H

#include "infer/prediction.h"

enum { SIDE_INPUTS, SIDE_OUTPUTS, PACKED_SIDES };

struct packed_head {
    uint64_t bytes; // of all
    struct prediction_facts facts;
    uint16_t text[PREDICTION_TEXTS]; // bytes of each; they follow
    uint16_t headers, parameters;    // of the request; they follow, too
    uint16_t said, cut;              // bytes of all lists; members of them that had no room
};

struct packed_said { // a header or a parameter: its key and its value follow
    uint16_t key;
    uint8_t type; // enum param_type
    uint32_t bytes;
};

struct packed_side { // DETAIL_HASH: nothing follows; DETAIL_FULL: n tensors
    uint8_t detail;  // enum prediction_detail
    uint16_t n;      // tensors
    uint16_t redacted;
    uint64_t bytes;        // of all its tensors
    uint64_t hashed;       // of them
    struct hash128 digest; // DETAIL_HASH
};

struct packed_tensor { // its name, dimensions and what is kept of its data follow
    uint64_t bytes, kept;
    uint16_t name;
    uint8_t dtype, rank;
    bool redacted;
    uint16_t parameters; // they follow its data
};

_Static_assert(sizeof(struct packed_head) % 8 == 0 && sizeof(struct packed_side) % 8 == 0 &&
                   sizeof(struct packed_tensor) % 8 == 0,
               "what follows lies on its boundary");
_Static_assert(sizeof(struct packed_said) == 8, "as PREDICTION_SAID counts it");

static inline size_t packed_up(size_t n)
{
    return (n + 7) & ~(size_t)7;
}

#endif
