#include "base/num_pow10.h"

struct num_pow10 num_pow10_table[NUM_POW10_MAX - NUM_POW10_MIN + 1];

/* Positive powers: 5^n by repeated multiplication (753 bits at the end), its 128 leading bits; the power
 * of two goes into the exponent. Negative powers: floor(2^1024 / 5^n) by repeated division, which loses
 * nothing since floor(floor(x / 5) / 5) = floor(x / 25); 5^342 has 795 bits, so 229 are left. */
#define LIMBS 17

static struct num_pow10 leading_bits(const uint64_t *x)
{
    int top = LIMBS - 1;
    while (x[top] == 0)
        top--;
    int shift = __builtin_clzll(x[top]);
    uint64_t limb[3];
    for (int i = 0; i < 3; i++)
        limb[i] = top - i >= 0 ? x[top - i] : 0;
    if (shift == 0)
        return (struct num_pow10){limb[0], limb[1]};
    return (struct num_pow10){limb[0] << shift | limb[1] >> (64 - shift),
                              limb[1] << shift | limb[2] >> (64 - shift)};
}

__attribute__((constructor)) static void fill_table(void)
{
    uint64_t x[LIMBS] = {1};
    for (int q = 0; q <= NUM_POW10_MAX; q++) {
        num_pow10_table[q - NUM_POW10_MIN] = leading_bits(x);
        unsigned __int128 carry = 0;
        for (int i = 0; i < LIMBS; i++) {
            carry += (unsigned __int128)x[i] * 5;
            x[i] = (uint64_t)carry;
            carry >>= 64;
        }
    }
    for (int i = 0; i < LIMBS; i++)
        x[i] = i == LIMBS - 1;
    for (int q = -1; q >= NUM_POW10_MIN; q--) {
        uint64_t rest = 0;
        for (int i = LIMBS - 1; i >= 0; i--) {
            unsigned __int128 part = (unsigned __int128)rest << 64 | x[i];
            x[i] = (uint64_t)(part / 5);
            rest = (uint64_t)(part % 5);
        }
        num_pow10_table[q - NUM_POW10_MIN] = leading_bits(x);
    }
}
