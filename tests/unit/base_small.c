// base/: histogram, random, hashes, protobuf wire, printable text.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/hash.h"
#include "base/hist.h"
#include "base/pb.h"
#include "base/printable.h"
#include "base/rand.h"
#include "base/recent.h"
#include "base/told.h"
#include <stdlib.h>

static void hist_edges_meet(void **state)
{
    for (unsigned i = 0; i < HIST_BUCKETS; i++) {
        uint64_t upper = hist_upper(i), lower = i ? hist_upper(i - 1) + 1 : 0;
        assert_int_equal(hist_index(upper), i);
        assert_int_equal(hist_index(lower), i);
        assert_true((upper - lower) * 16 <= lower || lower < 16); // the stated error
    }
    for (unsigned k = 0; k <= 40; k++) // a batch of 64 rows is one of at most 64
        assert_int_equal(hist_upper(hist_index((uint64_t)1 << k)), (uint64_t)1 << k);
    assert_int_equal(hist_upper(HIST_BUCKETS - 1), (uint64_t)1 << 40);
    assert_int_equal(hist_index(UINT64_MAX), HIST_BUCKETS - 1);
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void hist_quantiles_within_a_sixteenth(void **state)
{
    static struct hist whole, half[2];
    static uint64_t values[20000];
    struct rand r;
    rand_seed(&r, 5);
    hist_init(&whole);
    hist_init(&half[0]);
    hist_init(&half[1]);
    assert_int_equal(hist_quantile(&whole, 0.5), 0);
    for (unsigned i = 0; i < 20000; i++) {
        values[i] = rand_u64(&r) >> (25 + rand_below(&r, 39));
        hist_add(&half[i & 1], values[i]);
    }
    hist_merge(&whole, &half[0]);
    hist_merge(&whole, &half[1]);
    assert_int_equal(atomic_load(&whole.count), 20000);
    qsort(values, 20000, sizeof(*values), compare_u64);
    uint64_t sum = 0;
    for (unsigned i = 0; i < 20000; i++)
        sum += values[i];
    assert_int_equal(atomic_load(&whole.sum), sum);
    for (unsigned i = 0; i <= 1000; i++) {
        double q = i / 1000.0;
        unsigned rank = (i * 20000 + 999) / 1000;
        uint64_t exact = values[rank ? rank - 1 : 0], got = hist_quantile(&whole, q);
        assert_true(got >= exact);
        assert_true((got - exact) * 16 <= exact);
    }
    uint64_t edge = hist_upper(300);
    unsigned below = 0;
    while (below < 20000 && values[below] <= edge)
        below++;
    assert_int_equal(hist_count_le(&whole, edge), below);
    assert_int_equal(hist_count_le(&whole, UINT64_MAX), 20000);
}

static void hist_since_is_what_came_between(void **state)
{
    static struct hist now, before, since;
    for (unsigned i = 1; i <= 100; i++)
        hist_add(&now, i);
    hist_since(&since, &before, &now);
    assert_int_equal(atomic_load(&since.count), 100);
    assert_int_equal(atomic_load(&since.sum), 5050);
    for (unsigned i = 0; i < 10; i++)
        hist_add(&now, 4000);
    hist_since(&since, &before, &now);
    assert_int_equal(atomic_load(&since.count), 10);
    assert_int_equal(atomic_load(&since.sum), 40000);
    assert_int_equal(hist_quantile(&since, 0), hist_upper(hist_index(4000)));
    assert_memory_equal(&before, &now, sizeof(now));
    hist_since(&since, &before, &now);
    assert_int_equal(atomic_load(&since.count), 0);
    assert_int_equal(hist_quantile(&since, 1), 0);
}

static void rand_is_the_published_generator(void **state)
{
    struct rand r = {{1, 2, 3, 4}};
    assert_true(rand_u64(&r) == 11520); // rotl(2 * 5, 7) * 9
    assert_true(rand_u64(&r) == 0);     // s[1] is 2 ^ 3 ^ 1 = 0 now
    struct rand a, b;
    rand_seed(&a, 0);
    assert_true(a.s[0] == 0xe220a8397b1dcdafu); // splitmix64's first from 0
    rand_seed(&b, 0);
    assert_true(rand_u64(&a) == rand_u64(&b));
    unsigned hits[7] = {0};
    for (int i = 0; i < 70000; i++) {
        hits[rand_below(&a, 7)]++;
        double u = rand_unit(&a);
        assert_true(u >= 0 && u < 1);
    }
    for (int i = 0; i < 7; i++)
        assert_true(hits[i] > 9500 && hits[i] < 10500);
    assert_int_equal(rand_below(&a, 1), 0);
    assert_true(rand_below(&a, UINT64_MAX) < UINT64_MAX);
}

static void hashes_are_xxh3(void **state)
{
    assert_true(hash64(VIEW(""), 0) == 0x2d06800538d394c2u); // XXH3's empty hash
    assert_true(hash64(view_of(NULL, 0), 0) == 0x2d06800538d394c2u);
    struct hash128 empty = hash128(VIEW(""), 0);
    assert_true(empty.hi == 0x99aa06d3014798d8u && empty.lo == 0x6001c324468d497fu);
    assert_false(hash64(VIEW("a"), 0) == hash64(VIEW("a"), 1));
    assert_true(hash128_eq(hash128(VIEW("ab"), 3), hash128(VIEW("ab"), 3)));
    assert_false(hash128_eq(hash128(VIEW("ab"), 3), hash128(VIEW("ba"), 3)));
}

static void pb_reads_what_it_wrote(void **state)
{
    static const uint64_t values[] = {0,     1,          127,        128,       16383,
                                      16384, UINT32_MAX, 1ull << 63, UINT64_MAX};
    uint8_t memory[256], *end = memory;
    size_t size = 0;
    for (unsigned i = 0; i < 9; i++) {
        end = pb_w_uint(end, i + 1, values[i]);
        size += pb_uint_size(i + 1, values[i]);
        assert_int_equal(end - memory, size);
    }
    end = pb_w_bytes(end, 536870911, VIEW("abc"));
    size += pb_len_size(536870911, 3);
    end = pb_w_tag(end, 16, PB_I32);
    memcpy(end, "\x01\x02\x03\x84", 4);
    end = pb_w_tag(end + 4, 2000, PB_I64);
    memcpy(end, "\x01\x02\x03\x04\x05\x06\x07\x88", 8);
    end += 8;
    size += pb_tag_size(16) + 4 + pb_tag_size(2000) + 8;
    assert_int_equal(end - memory, size);

    struct pb_reader r;
    struct pb_field f;
    pb_read(&r, view_of(memory, size));
    for (unsigned i = 0; i < 9; i++) {
        assert_true(pb_next(&r, &f));
        assert_int_equal(f.number, i + 1);
        assert_int_equal(f.wire, PB_VARINT);
        assert_true(f.value == values[i]);
    }
    assert_true(pb_next(&r, &f));
    assert_int_equal(f.number, 536870911);
    assert_true(view_is(f.data, "abc"));
    assert_true(pb_next(&r, &f) && f.wire == PB_I32 && f.value == 0x84030201u);
    assert_true(pb_next(&r, &f) && f.wire == PB_I64 && f.value == 0x8807060504030201u);
    assert_false(pb_next(&r, &f));
    assert_null(r.error);

    // Cut anywhere: the fields before the cut, then an error or, between two fields, the end.
    unsigned clean = 0;
    for (size_t n = 0; n < size; n++) {
        uint8_t *copy = malloc(n ? n : 1); // so that ASan sees a step too far
        memcpy(copy, memory, n);
        pb_read(&r, view_of(copy, n));
        unsigned fields = 0;
        while (pb_next(&r, &f))
            fields++;
        assert_true(fields < 12);
        clean += r.error == NULL;
        free(copy);
    }
    assert_int_equal(clean, 12);
}

static void pb_refuses(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *error;
    } bad[] = {
        {"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12, "varint is longer than 64 bits"},
        {"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 11, "varint is longer than 64 bits"},
        {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 10, "length exceeds the message"},
        {"\x0a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 11, "length exceeds the message"},
        {"\x0a\x03"
         "ab",
         4, "length exceeds the message"},
        {"\x00\x01", 2, "field number is out of range"},
        {"\x02\x00", 2, "field number is out of range"},
        {"\x80\x80\x80\x80\x10\x00", 6, "field number is out of range"}, // 2^29
        {"\x0b", 1, "wire type is not supported"},
        {"\x0c", 1, "wire type is not supported"},
        {"\x0e", 1, "wire type is not supported"},
        {"\x0f", 1, "wire type is not supported"},
        {"\x08", 1, "varint is cut off"},
        {"\x0a", 1, "length is cut off"},
        {"\x80", 1, "varint is cut off"},
        {"\x0d\x01\x02\x03", 4, "fixed-size field is cut off"},
        {"\x09\x01\x02\x03\x04\x05\x06\x07", 8, "fixed-size field is cut off"},
    };
    for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct pb_reader r;
        struct pb_field f;
        pb_read(&r, view_of(bad[i].bytes, bad[i].n));
        assert_false(pb_next(&r, &f));
        assert_string_equal(r.error, bad[i].error);
        assert_false(pb_next(&r, &f)); // and stays so
    }
    struct pb_reader r;
    uint64_t v;
    pb_read(&r, VIEW("\x01\xac\x02\x80"));
    assert_true(pb_packed_varint(&r, &v) && v == 1);
    assert_true(pb_packed_varint(&r, &v) && v == 300);
    assert_false(pb_packed_varint(&r, &v));
    assert_non_null(r.error);
    pb_read(&r, view_of(NULL, 0));
    assert_false(pb_packed_varint(&r, &v));
    assert_null(r.error);
}

static void printable_is_ascii(void **state)
{
    (void)state;
    char all[256];
    for (unsigned i = 0; i < 255; i++)
        all[i] = (char)(i + 1);
    all[255] = '\0';
    printable(all);
    for (unsigned i = 0; i < 255; i++)
        assert_int_equal(all[i], i + 1 >= 0x20 && i + 1 <= 0x7e ? i + 1 : '?');
    char cut[] = "\n\0\n";
    printable(cut);
    assert_memory_equal(cut, "?\0\n", sizeof(cut)); // nothing behind the NUL
}

#define WINDOW 4000u

static void recent_forgets_by_quarters(void **state)
{
    static struct recent r;
    uint64_t now = 1000000;
    recent_turn(&r, WINDOW, now);
    assert_int_equal(recent_p99(&r), 0);
    for (unsigned i = 0; i < 200; i++)
        recent_add(&r, 100);
    assert_int_equal(recent_p99(&r), hist_upper(hist_index(100)));
    for (unsigned q = 0; q < 3; q++)
        recent_turn(&r, WINDOW, now += WINDOW / 4);
    recent_add(&r, 5000);
    assert_int_equal(r.n, 201);
    recent_turn(&r, WINDOW, now += WINDOW / 4);
    assert_int_equal(r.n, 1); // the quarter in which they came is out of the window
    recent_turn(&r, WINDOW, now += 3 * WINDOW / 4 - 1);
    assert_int_equal(r.n, 1);
    recent_turn(&r, WINDOW, now += 100 * WINDOW);
    assert_int_equal(r.n, 0);
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        assert_int_equal(r.sum[i], 0);
}

// Three of a few say nothing; one of a hundred of many neither.
static void recent_speaks_for_ninety_nine(void **state)
{
    static struct recent r;
    for (unsigned i = 0; i < 3; i++)
        recent_add(&r, 9000);
    assert_int_equal(recent_p99(&r), 0);
    recent_add(&r, 7);
    assert_int_equal(recent_p99(&r), 7);
    recent_add(&r, 9000);
    assert_int_equal(recent_p99(&r), hist_upper(hist_index(9000)));
    for (unsigned i = 0; i < 1000 - 5; i++)
        recent_add(&r, 8);
    assert_int_equal(recent_p99(&r), 8);
    for (unsigned i = 0; i < 7; i++)
        recent_add(&r, 9000);
    assert_int_equal(recent_p99(&r), hist_upper(hist_index(9000)));
}

// What comes within 100 ms of the first signal is its echo, however often.
static void told_once_is_a_wish(void **state)
{
    uint64_t first_us = 0;
    assert_int_equal(told_to_end(&first_us, 5000), TOLD_FIRST);
    assert_int_equal(told_to_end(&first_us, 5000), TOLD_ECHO);
    assert_int_equal(told_to_end(&first_us, 5090), TOLD_ECHO);
    assert_int_equal(told_to_end(&first_us, 104999), TOLD_ECHO);
    assert_int_equal(told_to_end(&first_us, 105000), TOLD_HURRY);
    assert_int_equal(told_to_end(&first_us, 105001), TOLD_HURRY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hist_edges_meet),
        cmocka_unit_test(recent_forgets_by_quarters),
        cmocka_unit_test(recent_speaks_for_ninety_nine),
        cmocka_unit_test(hist_quantiles_within_a_sixteenth),
        cmocka_unit_test(hist_since_is_what_came_between),
        cmocka_unit_test(rand_is_the_published_generator),
        cmocka_unit_test(hashes_are_xxh3),
        cmocka_unit_test(pb_reads_what_it_wrote),
        cmocka_unit_test(pb_refuses),
        cmocka_unit_test(printable_is_ascii),
        cmocka_unit_test(told_once_is_a_wish),
    };
    return cmocka_run_group_tests_name("base: small parts", tests, NULL, NULL);
}
