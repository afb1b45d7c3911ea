/* base/num: against the C library, which rounds right in both directions (glibc). Random bit patterns, all
 * exponents, neighbours of powers of two, subnormals, exact midpoints and what lies just beside them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/num.h"
#include "base/num_pow10.h"
#include "base/rand.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static double f64_of(uint64_t bits)
{
    double v;
    memcpy(&v, &bits, sizeof(v));
    return v;
}

static float f32_of(uint32_t bits)
{
    float v;
    memcpy(&v, &bits, sizeof(v));
    return v;
}

// Digits from the first to the last that is not 0.
static int significant(const char *s)
{
    int n = 0, zeros = 0;
    for (; *s && *s != 'e'; s++) {
        if (*s < '0' || *s > '9' || (n == 0 && *s == '0'))
            continue;
        n++;
        zeros = *s == '0' ? zeros + 1 : 0;
    }
    return n - zeros;
}

static void check_text(const char *text)
{
    double v = 1, want = strtod(text, NULL);
    enum num_error e = num_parse_f64(view_str(text), &v);
    if (isinf(want) ? e != NUM_RANGE : e != NUM_OK || memcmp(&v, &want, sizeof(v)) != 0)
        fail_msg("f64 %s: error %d, %a, want %a", text, e, v, want);
    float f = 1, want_f = strtof(text, NULL);
    e = num_parse_f32(view_str(text), &f);
    if (isinf(want_f) ? e != NUM_RANGE : e != NUM_OK || memcmp(&f, &want_f, sizeof(f)) != 0)
        fail_msg("f32 %s: error %d, %a, want %a", text, e, (double)f, (double)want_f);
}

static void check_f64(double v)
{
    char text[40], other[40];
    double back;
    if (!isfinite(v))
        return;
    unsigned n = num_print_f64(text, v);
    assert_true(n <= 32);
    text[n] = 0;
    if (num_parse_f64(view_of(text, n), &back) != NUM_OK || memcmp(&back, &v, sizeof(v)) != 0 ||
        strtod(text, NULL) != v)
        fail_msg("%a printed as %s", v, text);
    int digits = significant(text);
    if (digits > 1) { // shortest: the nearest decimal with one digit less is another double
        snprintf(other, sizeof(other), "%.*e", digits - 2, v);
        if (strtod(other, NULL) == v)
            fail_msg("%s is longer than %s", text, other);
    }
    if (digits > 0) { // nearest among its length, where the library's own choice comes back at all
        snprintf(other, sizeof(other), "%.*e", digits - 1, v);
        if (strtod(other, NULL) == v && strtold(other, NULL) != strtold(text, NULL))
            fail_msg("%s is not as near as %s", text, other);
    }
    snprintf(other, sizeof(other), "%.17g", v);
    check_text(other);
}

static void check_f32(float v)
{
    char text[40], other[40];
    float back;
    if (!isfinite(v))
        return;
    unsigned n = num_print_f32(text, v);
    assert_true(n <= 32);
    text[n] = 0;
    if (num_parse_f32(view_of(text, n), &back) != NUM_OK || memcmp(&back, &v, sizeof(v)) != 0 ||
        strtof(text, NULL) != v)
        fail_msg("%a printed as %s", (double)v, text);
    int digits = significant(text);
    if (digits > 1) {
        snprintf(other, sizeof(other), "%.*e", digits - 2, (double)v);
        if (strtof(other, NULL) == v)
            fail_msg("%s is longer than %s", text, other);
    }
    snprintf(other, sizeof(other), "%.9g", (double)v);
    check_text(other);
}

static void random_bits(void **state)
{
    struct rand r;
    rand_seed(&r, 11);
    for (int i = 0; i < 60000; i++) {
        uint64_t u = rand_u64(&r);
        check_f64(f64_of(u));
        check_f64(rand_unit(&r));
        check_f64((double)(int64_t)u);
        check_f64((double)(u % 1000000) / 1000);
        check_f32(f32_of((uint32_t)u));
        check_f32((float)rand_unit(&r));
    }
}

static void around_every_power_of_two(void **state)
{
    for (uint64_t e = 0; e < 2047; e++)
        for (uint64_t k = 0; k < 5; k++)
            check_f64(f64_of((e << 52) + k - (e ? 2 : 0)));
    for (uint32_t e = 0; e < 255; e++)
        for (uint32_t k = 0; k < 100; k++)
            check_f32(f32_of((e << 23) + k - (e ? 50 : 0)));
}

static void random_texts(void **state)
{
    struct rand r;
    rand_seed(&r, 12);
    char text[600];
    for (int i = 0; i < 60000; i++) {
        unsigned digits = 1 + (unsigned)rand_below(&r, i % 50 ? 25 : 450);
        unsigned point = (unsigned)rand_below(&r, digits + 1), n = 0;
        if (rand_below(&r, 2))
            text[n++] = '-';
        if (point == 0)
            text[n++] = '0';
        for (unsigned k = 0; k < digits; k++) {
            if (k == point)
                text[n++] = '.';
            text[n++] = (char)('0' + rand_below(&r, 10));
            if (k == 0 && point > 1 && text[n - 1] == '0')
                text[n - 1] = '1';
        }
        if (rand_below(&r, 2))
            n += (unsigned)sprintf(text + n, "%c%+d", i & 1 ? 'e' : 'E',
                                   (int)rand_below(&r, 700) - 370);
        text[n] = 0;
        check_text(text);
    }
}

// The exact decimal of a midpoint rounds to even; one digit behind it, however far, rounds up.
static void midpoints(void **state)
{
    struct rand r;
    rand_seed(&r, 13);
    char text[1300];
    for (int i = 0; i < 1500; i++) {
        uint64_t bits = rand_u64(&r) >> 1;
        if (i % 3 == 0)
            bits >>= 12; // subnormal
        double a = f64_of(bits), b = f64_of(bits + 1);
        if (!isfinite(b))
            continue;
        int n = snprintf(text, sizeof(text), "%.*Le", 800, ((long double)a + (long double)b) / 2);
        assert_true(n > 0);
        check_text(text);
        strchr(text, 'e')[-1] = '1';
        check_text(text);
        snprintf(text, sizeof(text), "%.*Le", 900, ((long double)a + (long double)b) / 2);
        strchr(text, 'e')[-1] = '1'; // past the digits that are kept
        check_text(text);
        uint32_t bits_f = (uint32_t)(bits >> 20) & 0x7fffffff;
        float fa = f32_of(bits_f), fb = f32_of(bits_f + 1);
        if (!isfinite(fb))
            continue;
        snprintf(text, sizeof(text), "%.*e", 170, ((double)fa + (double)fb) / 2);
        check_text(text);
        strchr(text, 'e')[-1] = '1';
        check_text(text);
        snprintf(text, sizeof(text), "%.18e", ((double)fa + (double)fb) / 2);
        check_text(text);
    }
}

static void known_hard_texts(void **state)
{
    static const char *const texts[] = {
        "0",
        "-0",
        "0.0",
        "-0.0e-5",
        "0e999999999",
        "1e400",
        "1e-400",
        "1e999999999",
        "1e-999999999",
        "1e99999999999999999999",
        "1e-99999999999999999999",
        "2.4703282292062327e-324",
        "2.4703282292062328e-324",
        "4.9406564584124654e-324",
        "1.7976931348623157e308",
        "1.7976931348623158e308",
        "1.7976931348623159e308",
        "2.2250738585072011e-308",
        "2.2250738585072014e-308",
        "7.0064923216240853e-46",
        "7.0064923216240854e-46",
        "3.4028235677973366e38",
        "3.40282356779733661637539395458142568447e38",
        "3.40282356779733661637539395458142568448e38",
        "1e39",
        "9007199254740993",
        "9007199254740992.9",
        "9007199254740993.00000000000000000000000000001",
        "16777217",
        "16777217.0000000000000000001",
        "123456789012345678901234567890e-30",
        "18446744073709551616",
        "99999999999999999999",
        "0.000000000000000000000000000000000000000000000000000001e54",
        "8.5e-46",
        "1e23",
        "8.41e21",
    };
    for (unsigned i = 0; i < sizeof(texts) / sizeof(*texts); i++)
        check_text(texts[i]);
    static char zeros[100000]; // a long text is no more than long
    memset(zeros, '0', sizeof(zeros));
    memcpy(zeros, "0.", 2);
    memcpy(zeros + 99000, "1e98999", 8);
    double v;
    assert_int_equal(num_parse_f64(view_str(zeros), &v), NUM_OK);
    assert_true(v == 1.0);
}

static void prints_plainly(void **state)
{
    static const struct {
        double v;
        const char *f64, *f32;
    } rows[] = {
        {0, "0", "0"},
        {-0.0, "-0.0", "-0.0"},
        {5, "5", "5"},
        {-16, "-16", "-16"},
        {0.25, "0.25", "0.25"},
        {100, "100", "100"},
        {0.1, "0.1", "0.1"},
        {0.00012, "0.00012", "0.00012"},
        {0.000001, "1e-6", "1e-6"},
        {1e10, "10000000000", "10000000000"},
        {1.5e17, "1.5e17", "1.5e17"},
        {1e30, "1e30", "1e30"},
        {123.456, "123.456", "123.456"},
        {1.0 / 3, "0.3333333333333333", "0.33333334"},
        {5e-324, "5e-324", "0"},
        {1.7976931348623157e308, "1.7976931348623157e308", NULL},
        {3.4028234663852886e38, "3.4028234663852886e38", "3.4028235e38"},
        {1.401298464324817e-45, "1.401298464324817e-45", "1e-45"},
        {2e-44, "2e-44", "2e-44"},
        {9007199254740992, "9007199254740992", "9007199000000000"},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        char text[40];
        text[num_print_f64(text, rows[i].v)] = 0;
        assert_string_equal(text, rows[i].f64);
        if (!rows[i].f32)
            continue;
        text[num_print_f32(text, (float)rows[i].v)] = 0;
        assert_string_equal(text, rows[i].f32);
    }
}

static void refuses_what_is_no_number(void **state)
{
    static const char *const bad[] = {"",     "-",   "+1",  "01",      "-01",  ".5",  "1.",
                                      "1.e5", "1e",  "1e+", "1e-",     "1 ",   " 1",  "0x1",
                                      "1_0",  "NaN", "inf", "1.5.5",   "1e5.", "--1", "1-",
                                      "1e5e", "00",  "1,0", "Infinity"};
    for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        double d;
        float f;
        assert_int_equal(num_parse_f64(view_str(bad[i]), &d), NUM_SYNTAX);
        assert_int_equal(num_parse_f32(view_str(bad[i]), &f), NUM_SYNTAX);
    }
}

static void integers(void **state)
{
    static const struct {
        const char *text;
        enum num_error i64, u64;
        int64_t value;
    } rows[] = {
        {"0", NUM_OK, NUM_OK, 0},
        {"-0", NUM_OK, NUM_SYNTAX, 0},
        {"9223372036854775807", NUM_OK, NUM_OK, INT64_MAX},
        {"9223372036854775808", NUM_RANGE, NUM_OK, INT64_MIN},
        {"-9223372036854775808", NUM_OK, NUM_SYNTAX, INT64_MIN},
        {"-9223372036854775809", NUM_RANGE, NUM_SYNTAX, 0},
        {"18446744073709551615", NUM_RANGE, NUM_OK, -1},
        {"18446744073709551616", NUM_RANGE, NUM_RANGE, 0},
        {"99999999999999999999999", NUM_RANGE, NUM_RANGE, 0},
        {"", NUM_SYNTAX, NUM_SYNTAX, 0},
        {"-", NUM_SYNTAX, NUM_SYNTAX, 0},
        {"1.0", NUM_SYNTAX, NUM_SYNTAX, 0},
        {"+1", NUM_SYNTAX, NUM_SYNTAX, 0},
        {"99999999999999999999999x", NUM_SYNTAX, NUM_SYNTAX, 0},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        int64_t s = 77;
        uint64_t u = 77;
        assert_int_equal(num_parse_i64(view_str(rows[i].text), &s), rows[i].i64);
        assert_int_equal(num_parse_u64(view_str(rows[i].text), &u), rows[i].u64);
        if (rows[i].i64 == NUM_OK)
            assert_true(s == rows[i].value);
        if (rows[i].u64 == NUM_OK)
            assert_true((int64_t)u == rows[i].value);
    }
    struct rand r;
    rand_seed(&r, 14);
    for (int i = 0; i < 20000; i++) {
        char text[40], want[40];
        int64_t v = (int64_t)(rand_u64(&r) >> rand_below(&r, 64)), back;
        v = i & 1 ? v : (int64_t)(0 - (uint64_t)v);
        unsigned n = num_print_i64(text, v);
        text[n] = 0;
        snprintf(want, sizeof(want), "%lld", (long long)v);
        assert_string_equal(text, want);
        assert_int_equal(num_parse_i64(view_of(text, n), &back), NUM_OK);
        assert_true(back == v);
        text[num_print_u64(text, (uint64_t)v)] = 0;
        snprintf(want, sizeof(want), "%llu", (unsigned long long)v);
        assert_string_equal(text, want);
    }
}

// The table against long double arithmetic: 64 good bits, so the upper half within a few units.
static void hexadecimal(void **state)
{
    struct rand r;
    rand_seed(&r, 16);
    for (unsigned i = 0; i < 10000; i++) {
        uint64_t v = i < 256 ? i * 0x0101010101010101u : rand_u64(&r);
        char text[17] = {0}, want[17];
        num_print_hex(text, v);
        snprintf(want, sizeof(want), "%016llx", (unsigned long long)v);
        assert_string_equal(text, want);
    }
}

static void table_of_powers(void **state)
{
    for (int q = NUM_POW10_MIN; q <= NUM_POW10_MAX; q++) {
        struct num_pow10 t = num_pow10_table[q - NUM_POW10_MIN];
        assert_true(t.hi >> 63);
        int e;
        char text[20];
        snprintf(text, sizeof(text), "1e%d", q);
        long double power = strtold(text, NULL);
        long double fraction = frexpl(power, &e); // 10^q = fraction * 2^e
        assert_int_equal(num_log2_pow10(q), e - 1);
        long double diff = ldexpl(fraction, 64) - (long double)t.hi;
        assert_true(diff >= -1 && diff <= 1);
        if (q >= 0 && q <= 19) {
            uint64_t exact = 1;
            for (int i = 0; i < q; i++)
                exact *= 10;
            assert_true(t.hi == exact << __builtin_clzll(exact) && t.lo == 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_of_powers),
        cmocka_unit_test(random_bits),
        cmocka_unit_test(around_every_power_of_two),
        cmocka_unit_test(random_texts),
        cmocka_unit_test(midpoints),
        cmocka_unit_test(known_hard_texts),
        cmocka_unit_test(prints_plainly),
        cmocka_unit_test(hexadecimal),
        cmocka_unit_test(refuses_what_is_no_number),
        cmocka_unit_test(integers),
    };
    return cmocka_run_group_tests_name("base: num", tests, NULL, NULL);
}
