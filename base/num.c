#include "base/num.h"
#include "base/num_decimal.h"

enum num_error num_parse_f64(struct view v, double *out)
{
    struct num_decimal d;
    if (v.n == 0 || num_scan(v.p, v.p + v.n, &d) != v.p + v.n)
        return NUM_SYNTAX;
    return num_to_f64(&d, out) ? NUM_OK : NUM_RANGE;
}

enum num_error num_parse_f32(struct view v, float *out)
{
    struct num_decimal d;
    if (v.n == 0 || num_scan(v.p, v.p + v.n, &d) != v.p + v.n)
        return NUM_SYNTAX;
    return num_to_f32(&d, out) ? NUM_OK : NUM_RANGE;
}

// All digits are looked at even past an overflow: a letter later on is a syntax error still.
static enum num_error parse_digits(const char *p, const char *end, uint64_t *out)
{
    uint64_t v = 0;
    bool over = false;
    if (p == end)
        return NUM_SYNTAX;
    for (; p < end; p++) {
        if (!num_is_digit(*p))
            return NUM_SYNTAX;
        over |= __builtin_mul_overflow(v, 10, &v);
        over |= __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v);
    }
    *out = v;
    return over ? NUM_RANGE : NUM_OK;
}

enum num_error num_parse_u64(struct view v, uint64_t *out)
{
    return v.n ? parse_digits(v.p, v.p + v.n, out) : NUM_SYNTAX;
}

enum num_error num_parse_i64(struct view v, int64_t *out)
{
    if (v.n == 0)
        return NUM_SYNTAX;
    bool negative = v.p[0] == '-';
    uint64_t u;
    enum num_error e = parse_digits(v.p + negative, v.p + v.n, &u);
    if (e != NUM_OK)
        return e;
    if (u > (uint64_t)INT64_MAX + negative)
        return NUM_RANGE;
    *out = (int64_t)(negative ? -u : u);
    return NUM_OK;
}
