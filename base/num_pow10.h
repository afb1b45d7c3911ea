/* base/num_pow10.h: powers of ten to 128 bits, for parsing and printing of floats. */
#ifndef SLUICE_BASE_NUM_POW10_H
#define SLUICE_BASE_NUM_POW10_H

#include <stdint.h>

// Below the smallest, a 64-bit integer times the power is under half the smallest double; the largest is
// what printing the smallest double asks for.
#define NUM_POW10_MIN (-342)
#define NUM_POW10_MAX 324
#define NUM_POW10_EXACT 55 // 5^55 < 2^128: powers 0..55 are exact

// 10^q lies in [t, t + 1) * 2^(num_log2_pow10(q) - 127), t = hi * 2^64 + lo, top bit set.
struct num_pow10 {
    uint64_t hi, lo;
};
// Filled before main from exact integers, indexed by q - NUM_POW10_MIN.
extern struct num_pow10 num_pow10_table[NUM_POW10_MAX - NUM_POW10_MIN + 1];

// floor(log2(10^q)), right for |q| <= 1233.
static inline int num_log2_pow10(int q)
{
    return (q * 1741647) >> 19;
}

#endif
