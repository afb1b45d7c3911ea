#include "base/num.h"
#include "base/num_pow10.h"

/* Shortest decimals after R. Giulietti, "The Schubfach way to render doubles" (2020): of all decimals
 * that round to v, the shortest, and of those the nearest to v.
 *
 * v = c * 2^q; k is chosen so that the interval of what rounds to v holds one or more multiples of 10^k and
 * at most one of 10^(k+1). All quantities are scaled by 4 * 10^-k, cut to integers with the lowest bit
 * sticky (round to odd), which keeps every comparison right. The paper proves this for an upper bound g
 * of 10^-k; ours is the table's value plus one unit. */

static const char pairs[] =
    "00010203040506070809101112131415161718192021222324252627282930313233343536"
    "37383940414243444546474849505152535455565758596061626364656667686970717273"
    "7475767778798081828384858687888990919293949596979899";

struct decimal {
    uint64_t digits;
    int k; // value = digits * 10^k
};

// floor(c * g / 2^128), its lowest bit set when anything but g's own excess was cut off.
static inline uint64_t scale_f64(struct num_pow10 t, uint64_t c)
{
    uint64_t lo = t.lo + 1, hi = t.hi + (lo == 0);
    uint64_t low = (uint64_t)(((unsigned __int128)lo * c) >> 64);
    unsigned __int128 sum = (unsigned __int128)hi * c + low;
    return (uint64_t)(sum >> 64) | ((uint64_t)sum > 1);
}

// 64 bits of g are enough for c < 2^32: the excess stays below 2^32 in the 96-bit product.
static inline uint64_t scale_f32(struct num_pow10 t, uint64_t c)
{
    unsigned __int128 product = (unsigned __int128)(t.hi + 1) * c;
    return (uint64_t)(product >> 64) | ((uint64_t)product >> 32 > 1);
}

// lower_near: v is a power of two, so the float below is only half as far away as the one above.
static inline __attribute__((always_inline)) struct decimal
shortest(uint64_t c, int q, bool lower_near, uint64_t (*scale)(struct num_pow10, uint64_t))
{
    // floor(log10(2^q)), floor(log10(3/4 * 2^q))
    int k = (q * 1262611 - (lower_near ? 524031 : 0)) >> 22;
    int h = q + num_log2_pow10(-k) + 1;
    struct num_pow10 g = num_pow10_table[-k - NUM_POW10_MIN];
    uint64_t odd = c & 1; // the ends of the interval belong to v only when c is even
    uint64_t v = scale(g, (4 * c) << h);
    uint64_t lower = scale(g, (4 * c - 2 + lower_near) << h) + odd;
    uint64_t upper = scale(g, (4 * c + 2) << h) - odd;

    uint64_t s = v / 4;
    if (s >= 10) {
        uint64_t tens = s / 10;
        bool below = lower <= 40 * tens, above = 40 * tens + 40 <= upper;
        if (below != above)
            return (struct decimal){tens + above, k + 1};
    }
    bool below = lower <= 4 * s, above = 4 * s + 4 <= upper;
    if (below != above)
        return (struct decimal){s + above, k};
    uint64_t middle = 4 * s + 2;
    return (struct decimal){s + (v > middle || (v == middle && (s & 1))), k};
}

// How many digits of v > 0: log10(2) times the bits, one too many where v is below that power.
static unsigned digit_count(uint64_t v)
{
    static const uint64_t least[] = {0,
                                     1,
                                     10,
                                     100,
                                     1000,
                                     10000,
                                     100000,
                                     1000000,
                                     10000000,
                                     100000000,
                                     1000000000,
                                     10000000000,
                                     100000000000,
                                     1000000000000,
                                     10000000000000,
                                     100000000000000,
                                     1000000000000000,
                                     10000000000000000,
                                     100000000000000000,
                                     1000000000000000000,
                                     10000000000000000000u};
    unsigned n = ((unsigned)(64 - __builtin_clzll(v)) * 1233 >> 12) + 1;
    return n - (v < least[n]);
}

// Eight digits of v < 10^8, leading zeros too: halves, quarters and eighths side by side in one word. Each
// division is a product with the reciprocal, rounded up, that is exact for as many digits as are left.
static inline uint64_t eight_digits(uint32_t v)
{
    uint64_t x = v / 10000 | (uint64_t)(v % 10000) << 32;
    uint64_t hundreds = (x * 10486 >> 20) & 0x0000007f0000007f;
    x = hundreds | (x - 100 * hundreds) << 16;
    uint64_t tens = (x * 103 >> 10) & 0x000f000f000f000f;
    return (tens | (x - 10 * tens) << 8) + 0x3030303030303030;
}

// Exactly n digits.
static void put_digits(char *out, uint64_t v, unsigned n)
{
    for (; n >= 8; v /= 100000000) {
        uint64_t eight = eight_digits((uint32_t)(v % 100000000));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        eight = __builtin_bswap64(eight);
#endif
        n -= 8;
        memcpy(out + n, &eight, sizeof(eight));
    }
    uint32_t rest = (uint32_t)v;
    for (; n >= 2; rest /= 100) {
        n -= 2;
        memcpy(out + n, pairs + 2 * (rest % 100), 2);
    }
    if (n)
        *out = (char)('0' + rest);
}

unsigned num_print_u64(char *out, uint64_t v)
{
    if (v < 10) { // as half of them are: counts, levels, exponents
        *out = (char)('0' + v);
        return 1;
    }
    unsigned n = digit_count(v);
    put_digits(out, v, n);
    return n;
}

unsigned num_print_i64(char *out, int64_t v)
{
    if (v >= 0)
        return num_print_u64(out, (uint64_t)v);
    *out = '-';
    return 1 + num_print_u64(out + 1, -(uint64_t)v);
}

// Eight nibbles, each in a byte of its own, to digits: those above 9 are the ones that six more carry over.
static uint64_t hex_digits(uint32_t v)
{
    const uint64_t ones = 0x0101010101010101;
    uint64_t x = __builtin_bswap32(v);
    x = (x | x << 16) & 0x0000ffff0000ffff;
    x = (x | x << 8) & 0x00ff00ff00ff00ff;
    x = ((x & 0x00f000f000f000f0) >> 4) | (x & 0x000f000f000f000f) << 8;
    return x + ones * '0' + ((x + ones * 6) >> 4 & ones) * ('a' - '0' - 10);
}

void num_print_hex(char out[16], uint64_t v)
{
    uint64_t half[2] = {hex_digits((uint32_t)(v >> 32)), hex_digits((uint32_t)v)};
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    half[0] = __builtin_bswap64(half[0]);
    half[1] = __builtin_bswap64(half[1]);
#endif
    memcpy(out, half, sizeof(half));
}

static unsigned put_exponential(char *out, uint64_t digits, unsigned n, int exponent)
{
    char *p = out;
    put_digits(p + 1, digits, n);
    p[0] = p[1];
    p[1] = '.';
    p += n > 1 ? n + 1 : 1;
    *p++ = 'e';
    p += num_print_i64(p, exponent);
    return (unsigned)(p - out);
}

// Longest: 17 digits after "0.0000", or with point and "e-308": 24 bytes.
static unsigned put_decimal(char *out, struct decimal d)
{
    while (d.digits % 10 == 0) {
        d.digits /= 10;
        d.k++;
    }
    unsigned n = digit_count(d.digits);
    int point = (int)n + d.k; // digits before the point
    if (point > 17 || point < -4)
        return put_exponential(out, d.digits, n, point - 1);
    if (d.k >= 0) {
        put_digits(out, d.digits, n);
        memset(out + n, '0', (size_t)d.k);
        return n + (unsigned)d.k;
    }
    if (point <= 0) {
        unsigned lead = 2 + (unsigned)-point;
        memcpy(out, "0.0000", 6);
        put_digits(out + lead, d.digits, n);
        return lead + n;
    }
    put_digits(out + 1, d.digits, n);
    memmove(out, out + 1, (size_t)point);
    out[point] = '.';
    return n + 1;
}

unsigned num_print_f64(char *out, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof(bits));
    unsigned sign = (unsigned)(bits >> 63);
    if (sign)
        *out++ = '-';
    bits &= ~((uint64_t)1 << 63);
    if (bits == 0) {
        memcpy(out, "0.0", 3); // "-0" would be read as an integer by many, and lose its sign
        return sign ? 4 : 1;
    }
    double size = sign ? -v : v;
    if (size < 0x1p53 && (double)(uint64_t)size == size)
        return sign + num_print_u64(out, (uint64_t)size);
    uint64_t fraction = bits & (((uint64_t)1 << 52) - 1);
    int biased = (int)(bits >> 52);
    struct decimal d = biased ? shortest(fraction | (uint64_t)1 << 52, biased - 1075,
                                         fraction == 0 && biased > 1, scale_f64)
                              : shortest(fraction, -1074, false, scale_f64);
    return sign + put_decimal(out, d);
}

unsigned num_print_f32(char *out, float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof(bits));
    unsigned sign = bits >> 31;
    if (sign)
        *out++ = '-';
    bits &= ~((uint32_t)1 << 31);
    if (bits == 0) {
        memcpy(out, "0.0", 3);
        return sign ? 4 : 1;
    }
    float size = sign ? -v : v;
    if (size < 0x1p24f && (float)(uint32_t)size == size)
        return sign + num_print_u64(out, (uint32_t)size);
    uint32_t fraction = bits & ((1u << 23) - 1);
    int biased = (int)(bits >> 23);
    struct decimal d =
        biased ? shortest(fraction | 1u << 23, biased - 150, fraction == 0 && biased > 1, scale_f32)
               : shortest(fraction, -149, false, scale_f32);
    return sign + put_decimal(out, d);
}
