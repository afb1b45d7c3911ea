/* engine/pattern.h: regular expressions of tokenizers, over characters of UTF-8: sequences, | and groups, classes in
 * brackets, . \d \w \s (of ASCII) and their opposites, ? * + {m,n}, and \b at the beginning and the end. No look-around,
 * back references, lazy repetition or flags. The leftmost, longest match.
 *
 * One state a place of the expression where a character stands (Glushkov 1961; Navarro and Raffinot, "Flexible
 * Pattern Matching in Strings", 2002, 5.2), all of them in one word of bits: so a step costs the same whatever the
 * expression is. Thinks. */
#ifndef SLUICE_ENGINE_PATTERN_H
#define SLUICE_ENGINE_PATTERN_H

#include "base/view.h"
#include <stdint.h>

#define PATTERN_PLACES 63
#define PATTERN_RANGES 256
#define PATTERN_DEPTH 16

struct pattern_class {
    uint16_t first, n; // of the pattern's ranges
    bool others;       // all characters but those
};

struct pattern {
    struct pattern_class classes[PATTERN_PLACES];
    uint32_t ranges[PATTERN_RANGES][2]; // from, to
    unsigned n_places, n_ranges;
    uint64_t first, last, follow[PATTERN_PLACES];
    uint64_t ascii[128]; // the places where that character may stand
    bool word_begins, word_ends;
};

// NULL, or what about it cannot be. One that matches nothing at all (an empty text) is none.
const char *pattern_compile(struct pattern *p, struct view expression);
// The first match at *from or behind it, which must be on a character's first byte; *from: behind the match. False:
// there is none, or *steps, which counts down, came to 0.
bool pattern_find(const struct pattern *p, struct view text, size_t *from, struct view *match,
                  uint64_t *steps);

// One character of UTF-8 at *at, which is moved on; UINT32_MAX: it is none (too long a form, half a pair, cut).
uint32_t utf8_next(const unsigned char **at, const unsigned char *end);

#endif
