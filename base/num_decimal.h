/* base/num_decimal.h: inside of num.c and the JSON number lanes: the scan of an RFC 8259 number into
 * w * 10^q, and the rounding of that to float and double. */
#ifndef SLUICE_BASE_NUM_DECIMAL_H
#define SLUICE_BASE_NUM_DECIMAL_H

#include "base/view.h"
#include <stdint.h>

struct num_decimal {
    uint64_t w;                      // the first 19 significant digits at most
    int64_t q;                       // |value| = w * 10^q, or a little more when truncated
    bool negative;                   // also of zero
    bool truncated;                  // digits other than 0 follow those in w
    const char *digits, *digits_end; // the text without sign and exponent
    int64_t exponent;                // as written
};

// q of the tables of exactly representable powers, and the largest exact w (2^53, 2^24).
#define NUM_F64_EXACT_Q 22
#define NUM_F64_EXACT_W ((uint64_t)1 << 53)
#define NUM_F32_EXACT_Q 10
#define NUM_F32_EXACT_W ((uint64_t)1 << 24)
extern const double num_f64_exact[NUM_F64_EXACT_Q + 1];
extern const float num_f32_exact[NUM_F32_EXACT_Q + 1];

// More than 19 digits were scanned: sets w, q, truncated anew from the text.
void num_scan_long(struct num_decimal *d);
// Any decimal, correctly rounded. False: overflow.
bool num_round_f64(const struct num_decimal *d, double *out);
bool num_round_f32(const struct num_decimal *d, float *out);

static inline bool num_is_digit(char c)
{
    return (unsigned char)(c - '0') < 10;
}

// Eight digits at once, or false when one of the bytes is none.
static inline bool num_eight_digits(const char *p, uint32_t *value)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    uint64_t x;
    memcpy(&x, p, 8);
    const uint64_t ones = 0x0101010101010101u;
    if (((x & ones * 0xf0) ^ ones * 0x30) | (((x + ones * 6) & ones * 0xf0) ^ ones * 0x30))
        return false;
    x -= ones * 0x30;
    x = x * 10 + (x >> 8);                                            // pairs, in every other byte
    x = (x & 0x000000ff000000ffu) * (100 + ((uint64_t)1000000 << 32)) // fours and the sum of both
        + ((x >> 16) & 0x000000ff000000ffu) * (1 + ((uint64_t)10000 << 32));
    *value = (uint32_t)(x >> 32);
    return true;
#else
    return false;
#endif
}

// Scans the number at p. Returns the end of it, or NULL: no RFC 8259 number stands there.
static inline const char *num_scan(const char *p, const char *end, struct num_decimal *d)
{
    d->negative = p < end && *p == '-';
    p += d->negative;
    if (p == end || !num_is_digit(*p))
        return NULL;
    d->digits = p;
    d->exponent = 0;
    d->truncated = false;
    uint64_t w = (uint64_t)(*p++ - '0');
    if (w == 0) {
        if (p < end && num_is_digit(*p))
            return NULL; // a leading zero
    } else {
        for (; p < end && num_is_digit(*p); p++)
            w = w * 10 + (uint64_t)(*p - '0');
    }
    int64_t q = 0;
    if (p < end && *p == '.') {
        const char *fraction = ++p;
        uint32_t eight;
        while (end - p >= 8 && num_eight_digits(p, &eight)) {
            w = w * 100000000 + eight;
            p += 8;
        }
        for (; p < end && num_is_digit(*p); p++)
            w = w * 10 + (uint64_t)(*p - '0');
        if (p == fraction)
            return NULL;
        q = fraction - p;
    }
    d->digits_end = p;
    if (p < end && (*p | 0x20) == 'e') {
        p++;
        bool negative = p < end && *p == '-';
        p += p < end && (*p == '-' || *p == '+');
        if (p == end || !num_is_digit(*p))
            return NULL;
        int64_t e = 0;
        for (; p < end && num_is_digit(*p); p++)
            if (e < 1000000000) // far beyond any range; more digits change nothing
                e = e * 10 + (*p - '0');
        d->exponent = negative ? -e : e;
    }
    d->w = w;
    d->q = q + d->exponent;
    if (__builtin_expect(d->digits_end - d->digits > 19,
                         0)) // "." counted: a look too many at 19 digits
        num_scan_long(d);
    return p;
}

/* W. Clinger, "How to read floating point numbers accurately" (1990): when w and 10^|q| are both exact,
 * one rounded operation gives the nearest value. */
static inline bool num_to_f64(const struct num_decimal *d, double *out)
{
    if (d->w <= NUM_F64_EXACT_W && d->q >= -NUM_F64_EXACT_Q && d->q <= NUM_F64_EXACT_Q &&
        !d->truncated) {
        double v = (double)d->w;
        v = d->q < 0 ? v / num_f64_exact[-d->q] : v * num_f64_exact[d->q];
        *out = d->negative ? -v : v;
        return true;
    }
    return num_round_f64(d, out);
}

static inline bool num_to_f32(const struct num_decimal *d, float *out)
{
    if (d->w <= NUM_F32_EXACT_W && d->q >= -NUM_F32_EXACT_Q && d->q <= NUM_F32_EXACT_Q &&
        !d->truncated) {
        float v = (float)d->w;
        v = d->q < 0 ? v / num_f32_exact[-d->q] : v * num_f32_exact[d->q];
        *out = d->negative ? -v : v;
        return true;
    }
    return num_round_f32(d, out);
}

#endif
