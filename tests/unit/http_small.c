/* The room's small parts: gRPC's fields, the purse for abuse, the output queue. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/mem.h"
#include "http/conn.h"
#include <stdio.h>

// ---- gRPC (row 102) ----------------------------------------------------------------------------------

static void content_type_tells_grpc(void **state)
{
    static const struct {
        const char *type;
        bool grpc;
    } rows[] = {
        {"application/grpc", true},
        {"application/grpc+proto", true},
        {"application/grpc;a=b", true},
        {"application/grpc-web", false},
        {"application/json", false},
        {"application/grp", false},
        {"", false},
        {"text/plain; application/grpc", false},
        {"application/grpcproto", false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct http_header h = {VIEW("content-type"), view_str(rows[i].type)};
        struct exchange ex = {.headers = &h, .n_headers = 1};
        assert_int_equal(grpc_is(&ex), rows[i].grpc);
    }
    struct exchange none = {0};
    assert_false(grpc_is(&none));
}

static void timeouts_are_read(void **state)
{
    static const struct {
        const char *text;
        uint64_t us;
    } good[] = {
        {"1H", 3600000000u},
        {"2M", 120000000},
        {"3S", 3000000},
        {"100m", 100000},
        {"7u", 7},
        {"1n", 1},
        {"1500n", 1},
        {"99999999u", 99999999},
        {"99999999n", 99999},
        {"0S", 1},
        {"00000001S", 1000000},
        {"99999999M", 1000000000000000u},
        {"99999999H", 1000000000000000u},
    };
    static const char *const bad[] = {"",    "1",   "S",    "1s", "1 S",  " 1S",
                                      "-1S", "+1S", "1.5S", "1h", "0x1S", "123456789S",
                                      "1SS", "1S ", "S1",   "1k"};
    uint64_t us;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        us = 0;
        assert_true(grpc_timeout_parse(view_str(good[i].text), &us));
        assert_int_equal(us, good[i].us);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (grpc_timeout_parse(view_str(bad[i]), &us))
            fail_msg("accepted: %s", bad[i]);
    }
}

static void timeouts_are_printed_and_never_shorter(void **state)
{
    char out[16];
    uint64_t back;
    static const uint64_t us[] = {
        1,         999,          1000,     99999999,  100000000,        100000001,
        999999999, 99999999999u, 30000000, 600000000, 123456789012345u, 1000000000000000u};
    for (size_t i = 0; i < sizeof(us) / sizeof(us[0]); i++) {
        unsigned n = grpc_timeout_print(out, us[i]);
        assert_int_equal(n, strlen(out));
        assert_in_range(n, 2, 9);
        assert_true(grpc_timeout_parse(view_of(out, n), &back));
        assert_true(back >= us[i]);
        assert_true(back - us[i] <= us[i] / 1000);
    }
    assert_int_equal(grpc_timeout_print(out, UINT64_MAX / 2), 9);
    assert_string_equal(out, "99999999H");
}

// ---- the purse ---------------------------------------------------------------------------------------

static unsigned pay_until_spent(struct abuse *a, enum abuse_kind kind, uint64_t now_us)
{
    unsigned n = 0;
    while (n < 100000 && abuse_pay(a, kind, now_us) == ABUSE_BORNE)
        n++;
    return n;
}

static void purses_are_spent_by_their_prices(void **state)
{
    static const unsigned most[] = {
        [ABUSE_RESET] = 1224,      [ABUSE_LATE_STREAM] = 1224, // 200 and 8 times 128
        [ABUSE_RESET_BY_US] = 200, [ABUSE_EMPTY_DATA] = 200,   [ABUSE_PRIORITY] = 400,
        [ABUSE_PING] = 200,        [ABUSE_SETTINGS] = 200,     [ABUSE_WINDOW_UPDATE] = 3200};
    for (enum abuse_kind kind = 0; kind <= ABUSE_WINDOW_UPDATE; kind++) {
        struct abuse a;
        abuse_init(&a, 200, 128, 1000);
        assert_int_equal(pay_until_spent(&a, kind, 1000), most[kind]);
        bool resets = kind == ABUSE_RESET || kind == ABUSE_LATE_STREAM; // each purse for itself
        assert_int_equal(abuse_pay(&a, ABUSE_PING, 1000), resets ? ABUSE_BORNE : ABUSE_CUT);
        assert_int_equal(pay_until_spent(&a, ABUSE_RESET, 1000), 1224);
    }
}

// No new streams first; who goes on as long again is cut.
static void resets_are_warned_of(void **state)
{
    struct abuse a;
    abuse_init(&a, 200, 128, 0);
    assert_int_equal(abuse_end(&a), ABUSE_CUT);
    for (unsigned i = 0; i < 1224; i++)
        assert_int_equal(abuse_pay(&a, ABUSE_RESET, 0), ABUSE_BORNE);
    assert_int_equal(abuse_pay(&a, ABUSE_RESET, 0), ABUSE_NO_NEW);
    for (unsigned i = 0; i < 1224; i++)
        assert_int_equal(abuse_pay(&a, i % 2 ? ABUSE_RESET : ABUSE_LATE_STREAM, 0), ABUSE_BORNE);
    assert_int_equal(abuse_pay(&a, ABUSE_LATE_STREAM, 0), ABUSE_WENT_ON);
    assert_int_equal(abuse_end(&a), ABUSE_WENT_ON);
}

static void resets_are_paid_for_by_time_and_by_answers(void **state)
{
    struct abuse a;
    abuse_init(&a, 200, 128, 0); // as many a second as there may be streams, for an hour
    for (uint64_t i = 1; i <= 128 * 3600; i++)
        assert_int_equal(abuse_pay(&a, ABUSE_RESET, i * 7813), ABUSE_BORNE);
    abuse_init(&a, 200, 128, 0); // a hedge each, at any pace
    for (unsigned i = 0; i < 1000000; i++) {
        assert_int_equal(abuse_pay(&a, ABUSE_RESET, 0), ABUSE_BORNE);
        abuse_answered(&a);
    }
    for (unsigned i = 0; i < 100000; i++) // past honest work buys no flood
        abuse_answered(&a);
    assert_int_equal(pay_until_spent(&a, ABUSE_RESET, 0), 1224);
    abuse_init(&a, 10, 0, 0);
    assert_int_equal(pay_until_spent(&a, ABUSE_RESET, 0), 10);
}

static void purse_refills_slowly_and_no_higher_than_full(void **state)
{
    struct abuse a;
    abuse_init(&a, 10, 128, 0);
    assert_int_equal(pay_until_spent(&a, ABUSE_PING, 0), 10);
    assert_int_equal(pay_until_spent(&a, ABUSE_PING, ABUSE_REFILL_US - 1), 0);
    assert_int_equal(pay_until_spent(&a, ABUSE_PING, 3 * ABUSE_REFILL_US + 1), 3);
    assert_int_equal(pay_until_spent(&a, ABUSE_PING, 1000 * ABUSE_REFILL_US), 10);
    for (int i = 0; i < 100; i++)
        abuse_answered(&a);
    assert_int_equal(pay_until_spent(&a, ABUSE_PING, 1000 * ABUSE_REFILL_US), 10);
    abuse_answered(&a);
    assert_int_equal(pay_until_spent(&a, ABUSE_PING, 1000 * ABUSE_REFILL_US), 1);
    // ten a second for a minute are honest; eleven are not
    abuse_init(&a, 10, 128, 0);
    for (unsigned i = 1; i <= 600; i++)
        assert_int_equal(abuse_pay(&a, ABUSE_PING, i * 100001u), ABUSE_BORNE);
    abuse_init(&a, 10, 128, 0);
    unsigned n = 0;
    while (n < 1000 && abuse_pay(&a, ABUSE_PING, n * 90000u) == ABUSE_BORNE)
        n++;
    assert_in_range(n, 50, 200);
    // a clock that has stood still for a century does not wrap
    assert_int_equal(abuse_pay(&a, ABUSE_PING, UINT64_MAX / 2), ABUSE_BORNE);
}

// ---- the output queue --------------------------------------------------------------------------------

static char digit[] = "0123", order[64];
static unsigned n_order;

static void mark(void *arg)
{
    order[n_order++] = *(char *)arg;
    order[n_order] = 0;
}

static void fill(struct out *o, struct block_owner *blocks)
{
    static const uint8_t big[5000] = {'B'};
    struct block *b = block_new(blocks, 100);
    memset(b->data, 'b', 100);
    n_order = 0;
    order[0] = 0;
    assert_true(out_mark(o, mark, digit + 0));
    assert_true(out_copy(o, "ab", 2));
    assert_true(out_copy(o, "cd", 2)); // joins
    assert_true(out_mark(o, mark, digit + 1));
    assert_true(out_copy(o, "ef", 2)); // does not join across a mark
    assert_true(out_refer(o, big, sizeof(big), NULL, mark, digit + 2));
    assert_true(out_refer(o, b->data, 100, b, NULL, NULL));
    assert_true(out_copy(o, "", 0));
    assert_true(out_copy(o, "gh", 2));
    assert_true(out_mark(o, mark, digit + 3));
    assert_int_equal(o->bytes, 2 + 2 + 2 + 5000 + 100 + 2);
}

static void output_leaves_in_order_however_it_is_cut(void **state)
{
    static struct block_owner blocks;
    block_owner_init(&blocks);
    block_owner_adopt(&blocks);
    static const size_t steps[] = {1, 2, 3, 7, 4096, 5108, 100000};
    for (size_t s = 0; s < sizeof(steps) / sizeof(steps[0]); s++) {
        for (int max = 1; max <= 8; max += 7) {
            struct out o;
            char got[6000];
            size_t n = 0;
            out_init(&o);
            fill(&o, &blocks);
            while (o.bytes > 0) {
                struct iovec iov[8];
                size_t part = 0, left = steps[s];
                int k = out_gather(&o, iov, max);
                assert_in_range(k, 1, max);
                for (int i = 0; i < k && left > 0; i++) {
                    size_t m = iov[i].iov_len < left ? iov[i].iov_len : left;
                    memcpy(got + n + part, iov[i].iov_base, m);
                    part += m;
                    left -= m;
                }
                out_sent(&o, part);
                n += part;
            }
            assert_int_equal(n, 5108);
            assert_memory_equal(got, "abcdefB", 7);
            assert_memory_equal(got + 5006, "bbbb", 4);
            assert_memory_equal(got + 5106, "gh", 2);
            assert_string_equal(order, "0123");
            assert_int_equal(blocks.live_blocks, 0);
            out_deinit(&o);
        }
    }
    block_owner_deinit(&blocks);
}

static void output_that_is_dropped_tells_once(void **state)
{
    static struct block_owner blocks;
    struct out o;
    block_owner_init(&blocks);
    block_owner_adopt(&blocks);
    out_init(&o);
    fill(&o, &blocks);
    out_sent(&o, 3);
    assert_string_equal(order, "0");
    out_deinit(&o);
    assert_string_equal(order, "0123");
    assert_int_equal(blocks.live_blocks, 0);
    block_owner_deinit(&blocks);
}

// A connection whose reader is always a little behind: for days.
static void output_that_never_empties_does_not_grow(void **state)
{
    struct out o;
    uint8_t next = 0, seen = 0;
    out_init(&o);
    for (unsigned i = 0; i < 100000; i++) {
        assert_true(out_copy(&o, &next, 1));
        assert_true(out_mark(&o, mark, digit)); // so that runs do not join
        n_order = 0;
        next++;
        if (i < 5)
            continue;
        struct iovec iov;
        assert_int_equal(out_gather(&o, &iov, 1), 1);
        assert_int_equal(*(uint8_t *)iov.iov_base, seen++);
        out_sent(&o, 1);
    }
    assert_int_equal(o.bytes, 5);
    assert_in_range(o.cap, 1, 64);
    assert_in_range(o.copy.cap, 1, 1024);
    out_deinit(&o);
}

static void output_survives_want_of_memory(void **state)
{
    struct out o;
    out_init(&o);
    mem_fail_at(1);
    assert_false(out_copy(&o, "ab", 2));
    mem_fail_at(2); // the bytes had room, the item had none
    assert_false(out_copy(&o, "ab", 2));
    mem_fail_at(0);
    assert_int_equal(o.bytes, 0);
    assert_true(out_copy(&o, "cd", 2));
    struct iovec iov;
    assert_int_equal(out_gather(&o, &iov, 1), 1);
    assert_memory_equal(iov.iov_base, "cd", 2);
    out_deinit(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(content_type_tells_grpc),
        cmocka_unit_test(timeouts_are_read),
        cmocka_unit_test(timeouts_are_printed_and_never_shorter),
        cmocka_unit_test(purses_are_spent_by_their_prices),
        cmocka_unit_test(resets_are_warned_of),
        cmocka_unit_test(resets_are_paid_for_by_time_and_by_answers),
        cmocka_unit_test(purse_refills_slowly_and_no_higher_than_full),
        cmocka_unit_test(output_leaves_in_order_however_it_is_cut),
        cmocka_unit_test(output_that_is_dropped_tells_once),
        cmocka_unit_test(output_that_never_empties_does_not_grow),
        cmocka_unit_test(output_survives_want_of_memory),
    };
    return cmocka_run_group_tests_name("http: small parts", tests, NULL, NULL);
}
