#include "base/num_exact.h"
#include "base/num_pow10.h"

/* Decimal to float after D. Lemire, "Number parsing at a gigabyte per second" (2021), with our own
 * error account in place of the paper's case analysis.
 *
 * W = w shifted until its top bit is set; t: the table's 128 bits of 10^q. The product W * t has 192
 * bits; x is its upper 128, shifted until the top bit is set. What x does not show is less than `unknown`
 * units of x: the product's low limb (< 1), the table's rounding (W * (< 1) < 1), both doubled by the
 * shift, and, where digits were left out, the part of w below its last digit (t * 2^lz / 2^64 < 2^(64+lz),
 * doubled by the shift). Where the midpoint between two floats lies within that reach the exact path
 * decides; anything else is certain. */

const double num_f64_exact[NUM_F64_EXACT_Q + 1] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                                   1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                                   1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
const float num_f32_exact[NUM_F32_EXACT_Q + 1] = {1e0f, 1e1f, 1e2f, 1e3f, 1e4f, 1e5f,
                                                  1e6f, 1e7f, 1e8f, 1e9f, 1e10f};

typedef unsigned __int128 wide;

void num_scan_long(struct num_decimal *d)
{
    uint64_t w = 0;
    unsigned taken = 0;
    int64_t left_out = 0;
    bool more = false;
    for (const char *p = d->digits; p < d->digits_end; p++) {
        if (*p == '.' || (taken == 0 && *p == '0'))
            continue;
        if (taken < 19) {
            w = w * 10 + (uint64_t)(*p - '0');
            taken++;
        } else {
            left_out++;
            more |= *p != '0';
        }
    }
    d->w = w;
    d->q += left_out;
    d->truncated = more;
}

static inline __attribute__((always_inline)) uint64_t round_bits(const struct num_decimal *d,
                                                                 const struct num_format f)
{
    const uint64_t infinity = (uint64_t)(f.emax - f.emin + 2) << (f.precision - 1);
    if (d->w == 0 || d->q < NUM_POW10_MIN)
        return 0;
    if (d->q > NUM_POW10_MAX)
        return infinity;
    int q = (int)d->q;
    struct num_pow10 t = num_pow10_table[q - NUM_POW10_MIN];
    int lz = __builtin_clzll(d->w);
    uint64_t w = d->w << lz;
    wide low = (wide)w * t.lo;
    wide x = (wide)w * t.hi + (uint64_t)(low >> 64);
    uint64_t rest = (uint64_t)low;
    int exponent = num_log2_pow10(q) - lz + 64; // of the product's leading bit
    if (!(x >> 127)) {
        x = x << 1 | rest >> 63;
        rest <<= 1;
        exponent--;
    }
    wide unknown = 4 + (d->truncated ? (wide)1 << (65 + lz) : 0);

    if (exponent > f.emax)
        return infinity;
    int keep = exponent >= f.emin ? f.precision : f.precision - (f.emin - exponent);
    if (keep < 0) { // under half of the smallest, unless the unknown part lifts it there
        if (keep == -1 && x >= -unknown)
            return num_exact_round(d, f, 0);
        return 0;
    }
    int cut = 128 - keep; // 75..128
    wide half = (wide)1 << (cut - 1);
    wide tail = cut == 128 ? x : x & ((half << 1) - 1);
    uint64_t kept = keep ? (uint64_t)(x >> cut) : 0;
    uint64_t bits = kept;
    if (exponent >= f.emin)
        bits += (uint64_t)(exponent - f.emin) << (f.precision - 1);
    bool exact = q >= 0 && q <= NUM_POW10_EXACT && !d->truncated;
    if (exact)
        return bits + (tail > half || (tail == half && (rest != 0 || (kept & 1))));
    if (tail <= half && half - tail < unknown)
        return num_exact_round(d, f, bits);
    return bits + (tail > half); // a carry out of the significand raises the exponent, as it should
}

bool num_round_f64(const struct num_decimal *d, double *out)
{
    uint64_t bits = round_bits(d, (struct num_format){53, -1022, 1023});
    if (bits >= (uint64_t)0x7ff << 52)
        return false;
    bits |= (uint64_t)d->negative << 63;
    memcpy(out, &bits, sizeof(bits));
    return true;
}

bool num_round_f32(const struct num_decimal *d, float *out)
{
    uint32_t bits = (uint32_t)round_bits(d, (struct num_format){24, -126, 127});
    if (bits >= (uint32_t)0xff << 23)
        return false;
    bits |= (uint32_t)d->negative << 31;
    memcpy(out, &bits, sizeof(bits));
    return true;
}
