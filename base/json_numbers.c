#include "base/json_inside.h"
#include "base/num_decimal.h"

/* The lanes for tensors: one loop a type, the number's scan and conversion inlined into it. */

enum number_lane { LANE_F32, LANE_F64, LANE_I64, LANE_U64 };

// Integers as written: digits only. *p moves past them.
static inline const char *lane_integer(const char **p, const char *end, bool is_signed, void *out)
{
    const char *at = *p;
    bool negative = *at == '-';
    at += negative;
    if (at == end || !num_is_digit(*at))
        return "not a number";
    if (*at == '0' && end - at > 1 && num_is_digit(at[1]))
        return "not a number";
    uint64_t v = 0;
    bool over = false;
    for (; at < end && num_is_digit(*at); at++) {
        over |= __builtin_mul_overflow(v, 10, &v);
        over |= __builtin_add_overflow(v, (uint64_t)(*at - '0'), &v);
    }
    if (at < end && (*at == '.' || (*at | 0x20) == 'e'))
        return "expected an integer";
    if (over || v > (is_signed ? (uint64_t)INT64_MAX + negative : negative ? 0 : UINT64_MAX))
        return "number is out of range";
    v = negative ? -v : v;
    memcpy(out, &v, sizeof(v));
    *p = at;
    return NULL;
}

// Pictures, token ids and counts: one to seven digits, with a comma or a bracket behind them, are an integer
// that every lane holds exactly. The bytes at p[0..8) are there. Returns how many digits; 0: it is something
// else (a sign, a fraction, white space, a leading zero, a longer number).
static inline unsigned lane_short(const char *p, uint32_t *value)
{
    uint32_t first = (uint32_t)(p[0] - '0');
    if (first <= 9 &&
        (p[1] == ',' || p[1] == ']')) { // half of a picture: no wait for the word's count
        *value = first;
        return 1;
    }
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    const uint64_t ones = 0x0101010101010101, high = 0x8080808080808080;
    uint64_t x;
    memcpy(&x, p, sizeof(x));
    x ^= ones * '0'; // digits are 0..9 now, and nothing else is
    uint64_t others = ((x + ones * (0x7f - 9)) | x) & high; // a carry comes from one of them only
    unsigned n = (unsigned)__builtin_ctzll(others | (uint64_t)1 << 63) / 8;
    if (n == 0 || (p[n] != ',' && p[n] != ']') || (p[0] == '0' && n > 1))
        return 0;
    x <<= 64 - 8 * n; // zeros in front: pairs, fours, all of them
    x = (x * 10 + (x >> 8)) & 0x00ff00ff00ff00ff;
    x = (x * 100 + (x >> 16)) & 0x0000ffff0000ffff;
    *value = (uint32_t)(x * 10000 + (x >> 32));
    return n;
#else
    return 0;
#endif
}

static inline void lane_put(enum number_lane lane, void *out, size_t i, uint32_t v)
{
    switch (lane) {
    case LANE_F32:
        ((float *)out)[i] = (float)v;
        break;
    case LANE_F64:
        ((double *)out)[i] = v;
        break;
    case LANE_I64:
    case LANE_U64:
        ((uint64_t *)out)[i] = v;
        break;
    }
}

// As many short numbers as stand in a row behind p, each after a comma and perhaps a space (Python's way);
// the first becomes out[*i]. Returns where the last one ends.
static inline const char *lane_shorts(enum number_lane lane, const char *p, const char *end,
                                      void *out, size_t *i, size_t max)
{
    uint32_t v;
    while (*i < max && end - p >= 10 && *p == ',') {
        const char *q = p + 1 + (p[1] == ' ');
        unsigned n = lane_short(q, &v);
        if (n == 0)
            break;
        lane_put(lane, out, (*i)++, v);
        p = q + n;
    }
    return p;
}

// What stands for a float without a form in JSON. Out of line: it is rare, and is no number's way.
static __attribute__((noinline)) bool lane_word(enum number_lane lane, const char **p,
                                                const char *end, void *out)
{
    double v = __builtin_nan("");
    bool null = end - *p >= 4 && memcmp(*p, "null", 4) == 0;
    unsigned n = null ? 4 : json_word(*p, end, &v);
    float f = (float)v;
    if (n == 0 || (lane != LANE_F32 && lane != LANE_F64))
        return false;
    if (lane == LANE_F32)
        memcpy(out, &f, sizeof(f));
    else
        memcpy(out, &v, sizeof(v));
    *p += n;
    return true;
}

// Reads the number at *p, moves *p past it. Returns what is wrong, or NULL.
static inline __attribute__((always_inline)) const char *
lane_number(enum number_lane lane, const char **p, const char *end, void *out)
{
    const char *limit = end - *p > JSON_MAX_NUMBER + 1 ? *p + JSON_MAX_NUMBER + 1 : end;
    const char *begin = *p;
    if (lane == LANE_I64 || lane == LANE_U64) {
        const char *what = lane_integer(p, limit, lane == LANE_I64, out);
        if (what)
            return what;
    } else {
        struct num_decimal d;
        const char *after = num_scan(begin, limit, &d);
        if (!after)
            return lane_word(lane, p, end, out) ? NULL : "not a number";
        if (!(lane == LANE_F32 ? num_to_f32(&d, out) : num_to_f64(&d, out)))
            return "number is out of range";
        *p = after;
    }
    return *p - begin > JSON_MAX_NUMBER ? "number is longer than 400 characters" : NULL;
}

// A value that is no number: the token that ends the run.
static enum json_token lane_other(struct json_reader *r)
{
    switch (*r->at) {
    case '[':
        r->at++;
        return json_open(r, false);
    case '"': {
        enum json_token token = json_scan_string(r);
        if (token == JSON_STRING)
            r->expect = EXPECT_AFTER;
        return token;
    }
    }
    return json_error(r, r->at, "expected a number");
}

/* In the middle of the run the reader's state is in p alone; it is written back (leave) at every way out.
 * The comma is taken only with room for the number behind it, so that "max reached" can be resumed. */
static inline __attribute__((always_inline)) enum json_token
run(enum number_lane lane, struct json_reader *r, void *out, size_t max, size_t *n)
{
    const size_t size = lane == LANE_F32 ? sizeof(float) : sizeof(uint64_t);
    *n = 0;
    if (r->expect == EXPECT_NOTHING)
        return JSON_ERROR;
    if (r->depth == 0 || json_in_object(r))
        return json_fail(r, "expected an array of numbers");
    const char *p = r->at, *end = r->end;
    bool first = r->expect == EXPECT_FIRST_VALUE;
    for (size_t i = 0;;) {
        p = json_space(p, end);
        if (p < end && *p == ']') {
            r->at = p + 1;
            r->token_at = (size_t)(p - r->start);
            *n = i;
            json_close(r);
            return JSON_ARRAY_END;
        }
        if (p < end && !first && *p != ',') {
            *n = i;
            return json_error(r, p, "expected ',' or ']'");
        }
        if (i == max && p < end) {
            *n = i;
            r->at = p;
            r->expect = first ? EXPECT_FIRST_VALUE : EXPECT_AFTER;
            return JSON_NULL;
        }
        if (p < end && !first)
            p = json_space(p + 1, end);
        first = false;
        if (p == end) {
            *n = i;
            return json_error(r, p, "text ends too early");
        }
        if (*p != '-' && !num_is_digit(*p)) {
            if (lane_word(lane, &p, end, (char *)out + i * size)) {
                i++;
                continue;
            }
            *n = i;
            r->at = p;
            r->token_at = (size_t)(p - r->start);
            return lane_other(r);
        }
        const char *number = p;
        const char *what = lane_number(lane, &p, end, (char *)out + i * size);
        if (what) {
            *n = i;
            return json_error(r, p, what);
        }
        i++;
        if (p - number <= 7) // where one is short, others are
            p = lane_shorts(lane, p, end, out, &i, max);
    }
}

enum json_token json_numbers_f32(struct json_reader *r, float *out, size_t max, size_t *n)
{
    return run(LANE_F32, r, out, max, n);
}

enum json_token json_numbers_f64(struct json_reader *r, double *out, size_t max, size_t *n)
{
    return run(LANE_F64, r, out, max, n);
}

enum json_token json_numbers_i64(struct json_reader *r, int64_t *out, size_t max, size_t *n)
{
    return run(LANE_I64, r, out, max, n);
}

enum json_token json_numbers_u64(struct json_reader *r, uint64_t *out, size_t max, size_t *n)
{
    return run(LANE_U64, r, out, max, n);
}
