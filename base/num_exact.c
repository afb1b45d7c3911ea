#include "base/num_exact.h"
#include "base/check.h"

/* The decimal is compared, as exact integers, with the midpoints on both sides of a candidate, and the
 * candidate moves until it is the nearest. The guess is nearly always right or one off.
 *
 * A midpoint between two doubles has at most 768 significant digits: digits past DIGITS only say "a
 * little more". Largest number here: 801 digits (2662 bits), shifted by at most 1075 + 54. */
#define DIGITS 800
#define LIMBS 96

struct big {
    unsigned n;
    uint64_t limb[LIMBS]; // lowest first; limb[n - 1] != 0
};

static void big_mul_add(struct big *b, uint64_t factor, uint64_t add)
{
    unsigned __int128 carry = add;
    for (unsigned i = 0; i < b->n; i++) {
        carry += (unsigned __int128)b->limb[i] * factor;
        b->limb[i] = (uint64_t)carry;
        carry >>= 64;
    }
    if (carry) {
        invariant(b->n < LIMBS);
        b->limb[b->n++] = (uint64_t)carry;
    }
}

static void big_mul_pow5(struct big *b, unsigned power)
{
    const uint64_t five27 = 7450580596923828125u; // 5^27, the largest in 64 bits
    for (; power >= 27; power -= 27)
        big_mul_add(b, five27, 0);
    uint64_t rest = 1;
    for (; power; power--)
        rest *= 5;
    big_mul_add(b, rest, 0);
}

static void big_shift(struct big *b, unsigned bits)
{
    if (b->n == 0)
        return;
    big_mul_add(b, (uint64_t)1 << (bits % 64), 0);
    unsigned limbs = bits / 64;
    invariant(b->n + limbs <= LIMBS);
    memmove(b->limb + limbs, b->limb, b->n * sizeof(uint64_t));
    memset(b->limb, 0, limbs * sizeof(uint64_t));
    b->n += limbs;
}

static int big_compare(const struct big *a, const struct big *b)
{
    if (a->n != b->n)
        return a->n < b->n ? -1 : 1;
    for (unsigned i = a->n; i-- > 0;)
        if (a->limb[i] != b->limb[i])
            return a->limb[i] < b->limb[i] ? -1 : 1;
    return 0;
}

// All significant digits into b; the decimal is b * 10^(returned).
static int64_t big_digits(struct big *b, const struct num_decimal *d)
{
    int64_t scale = d->exponent;
    unsigned taken = 0;
    uint64_t run = 0, power = 1; // digits not yet in b, and 10^(how many)
    bool fraction = false, more = false;
    b->n = 0;
    for (const char *p = d->digits; p < d->digits_end; p++) {
        if (*p == '.') {
            fraction = true;
            continue;
        }
        scale -= fraction;
        if (taken == 0 && *p == '0')
            continue;
        if (taken < DIGITS) {
            run = run * 10 + (uint64_t)(*p - '0');
            power *= 10;
            taken++;
            if (power == 10000000000000000000u) {
                big_mul_add(b, power, run);
                run = 0;
                power = 1;
            }
        } else {
            more |= *p != '0';
            scale++;
        }
    }
    big_mul_add(b, power, run);
    if (more) {
        big_mul_add(b, 10, 1);
        scale--;
    }
    return scale;
}

// The decimal (digits * 10^scale) against the midpoint between the floats `bits` and `bits` + 1.
static int compare_midpoint(const struct big *digits, int64_t scale, struct num_format f,
                            uint64_t bits)
{
    uint64_t hidden = (uint64_t)1 << (f.precision - 1);
    uint64_t fraction = bits & (hidden - 1);
    int biased = (int)(bits >> (f.precision - 1));
    int exponent = f.emin - f.precision + 1 + (biased ? biased - 1 : 0);
    struct big left = *digits, right = {.n = 1};
    right.limb[0] = 2 * (biased ? fraction | hidden : fraction) + 1;
    exponent--;
    if (scale >= 0)
        big_mul_pow5(&left, (unsigned)scale);
    else
        big_mul_pow5(&right, (unsigned)-scale);
    int64_t shift = scale - exponent;
    if (shift >= 0)
        big_shift(&left, (unsigned)shift);
    else
        big_shift(&right, (unsigned)-shift);
    return big_compare(&left, &right);
}

uint64_t num_exact_round(const struct num_decimal *d, struct num_format f, uint64_t guess)
{
    uint64_t infinity = (uint64_t)(f.emax - f.emin + 2) << (f.precision - 1);
    struct big digits;
    int64_t scale = big_digits(&digits, d);
    uint64_t bits = guess < infinity ? guess : infinity - 1;
    for (;;) {
        int above = compare_midpoint(&digits, scale, f, bits);
        if (above > 0 || (above == 0 && (bits & 1))) {
            if (++bits == infinity)
                return bits;
            continue;
        }
        if (bits == 0)
            return bits;
        int below = compare_midpoint(&digits, scale, f, bits - 1);
        if (below > 0 || (below == 0 && !(bits & 1)))
            return bits;
        bits--;
    }
}
