/* infer/likeness.h: how like two answers to one request are, output by output. Outputs are matched by their names; shapes and
 * datatypes must be equal. Of numbers with a fraction the differences are told, of everything else whether elements are
 * equal. Bounded work, whatever the answers' size: of large outputs some elements are looked at, evenly spread (of BYTES the
 * first ones). Thinks. Thread: any; both answers are read only. */
#ifndef SLUICE_INFER_LIKENESS_H
#define SLUICE_INFER_LIKENESS_H

#include "infer/request.h"

#define LIKENESS_OUTPUTS 16        // those behind are not looked at
#define LIKENESS_ELEMENTS 65536    // of all outputs of an answer together
#define LIKENESS_BYTES (256 << 10) // likewise, of BYTES

enum likeness_kind {
    LIKE_VALUES,  // they can be compared
    LIKE_MISSING, // one of the two does not have it
    LIKE_DTYPE,
    LIKE_SHAPE,
    LIKE_KINDS
};

struct likeness {     // of one output
    struct view name; // the answer's
    enum likeness_kind kind;
    uint64_t elements, equal; // LIKE_VALUES: looked at; and of those within the tolerance
    double max_abs,
        max_rel; // of finite FP16, BF16, FP32, FP64: |a - b|, and that of the larger of |a| and |b|
};

// a was served. An element with a fraction is equal when |a - b| <= tolerance x max(1, |a|, |b|), or both are NaN or the same
// infinity; any other when it has the same bytes. Returns how many of out are filled in: a's outputs in their order, then
// those that b alone has.
unsigned likeness_find(const struct slice *a, const struct slice *b, double tolerance,
                       struct likeness out[LIKENESS_OUTPUTS]);

#endif
