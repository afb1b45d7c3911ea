/* base/num_exact.h: the slow, exact end of float parsing. */
#ifndef SLUICE_BASE_NUM_EXACT_H
#define SLUICE_BASE_NUM_EXACT_H

#include "base/num_decimal.h"

struct num_format {
    int precision; // bits of the significand with the hidden one: 53, 24
    int emin, emax;
};

// The bits of the float nearest to the decimal (ties to even), given the bits of one close by.
// Both without sign; infinity's bits when it rounds there.
uint64_t num_exact_round(const struct num_decimal *d, struct num_format f, uint64_t guess);

#endif
