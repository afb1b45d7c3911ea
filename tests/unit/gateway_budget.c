/* gateway/budget: the two sentences at the head of budget.h, for small limits and large ones, by chance. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/rand.h"
#include "gateway/budget.h"
#include <stdlib.h>

#define LOOPS 8

static const int64_t limits[] = {1, 100, 65536, 1 << 20, 3 << 20, 64 << 20, (int64_t)1 << 33};
#define LIMITS (sizeof(limits) / sizeof(limits[0]))

// What one loop has used and given back is another's, to the last byte.
static void nothing_stays_behind(void **state)
{
    (void)state;
    for (unsigned i = 0; i < LIMITS; i++) {
        struct budget b;
        struct budget_lease l[LOOPS] = {0};
        budget_init(&b, limits[i], LOOPS);
        for (unsigned round = 0; round < 3; round++) {
            for (unsigned k = 0; k < LOOPS; k++) {
                assert_true(budget_charge(&l[k], &b, limits[i], 0));
                assert_true(budget_charge(&l[k], &b, -limits[i], 0));
                assert_int_equal(l[k].used, 0);
            }
        }
        assert_true(atomic_load(&b.granted) <= b.slack);
        assert_true(b.slack <= limits[i] / 16 + 2 * LOOPS);
    }
}

static void past_the_limit(void **state)
{
    (void)state;
    struct budget b;
    struct budget_lease a = {0}, other = {0};
    budget_init(&b, 65536, 2);
    assert_true(budget_charge(&a, &b, 65536, 0));
    assert_false(budget_charge(&other, &b, 65536, 0));
    assert_false(budget_charge(&a, &b, 1 << 20, 0));
    assert_int_equal(a.used, 65536); // a refusal changes nothing
    assert_int_equal(other.used, 0);
    assert_true(budget_charge(&a, &b, -1000, 0));
    assert_true(budget_charge(&other, &b, 1000, 0));
}

// What must be taken goes past the limit, so far as is said, and then nothing else does.
static void beyond_the_limit(void **state)
{
    (void)state;
    struct budget b;
    struct budget_lease a = {0}, other = {0};
    budget_init(&b, 65536, 2);
    assert_true(budget_charge(&a, &b, 65536, 0));
    assert_false(budget_charge(&other, &b, 70000, 60000));
    assert_true(budget_charge(&other, &b, 60000, 60000));
    assert_false(budget_charge(&a, &b, 10000, 60000 - 10000));
    assert_false(budget_charge(&a, &b, 10000, 0));
    assert_true(budget_charge(&a, &b, 1 << 20, BUDGET_MUST)); // what cannot be refused
    assert_true(budget_charge(&a, &b, -(1 << 20), 0));
    assert_true(budget_charge(&other, &b, -60000, 0));
    assert_true(budget_charge(&a, &b, -1000, 0));
    assert_true(budget_charge(&other, &b, 1000, 0));
}

static void by_chance(void **state)
{
    (void)state;
    struct rand r;
    rand_seed(&r, 7);
    for (unsigned round = 0; round < 20 * LIMITS; round++) {
        struct budget b;
        struct budget_lease l[LOOPS] = {0};
        int64_t limit = limits[round % LIMITS], sum = 0, leased = 0;
        budget_init(&b, limit, LOOPS);
        for (unsigned step = 0; step < 2000; step++) {
            struct budget_lease *one = &l[rand_below(&r, LOOPS)];
            int64_t most = rand_below(&r, 4) ? limit / 10 : limit + limit / 4;
            int64_t delta = (int64_t)rand_below(&r, (uint64_t)most + 2);
            if (rand_below(&r, 2))
                delta = one->used > 0 ? -(int64_t)(1 + rand_below(&r, (uint64_t)one->used)) : 0;
            bool ok = budget_charge(one, &b, delta, 0);
            assert_true(ok || (delta > 0 && sum + delta > limit));
            sum += ok ? delta : 0;
            assert_true(sum <= limit + b.slack);
            leased = 0;
            for (unsigned k = 0; k < LOOPS; k++) {
                assert_true(l[k].used >= 0 && l[k].used <= l[k].leased);
                assert_true(l[k].leased < l[k].used + 2 * b.slice);
                leased += l[k].leased;
            }
            assert_int_equal(leased, atomic_load(&b.granted));
        }
    }
}

// The lower a class, the sooner it is refused; what a request holds itself is never a reason.
static void the_lowest_gives_way_first(void **state)
{
    (void)state;
    struct budget b;
    struct budget_lease a = {0}, other = {0};
    budget_init(&b, 16 << 20, 2);
    int64_t most[BUDGET_CLASSES] = {INT64_MAX, (15 << 20) + b.slack, (12 << 20) + b.slack,
                                    (8 << 20) + b.slack};
    for (int64_t held = 0; held <= 16 << 20; held += 1 << 20) {
        for (unsigned k = 0; k < BUDGET_CLASSES; k++) {
            assert_int_equal(budget_admits(&a, &b, 0, k), held <= most[k]);
            assert_int_equal(budget_admits(&other, &b, 0, k), held <= most[k]);
            assert_true(budget_admits(&a, &b, held, k)); // all of it is its own
        }
        assert_true(budget_charge(&a, &b, held < 16 << 20 ? 1 << 20 : 0, 0));
    }
    assert_int_equal(budget_answers(0), 2 * BUDGET_ANSWERS);
    for (unsigned k = 1; k < BUDGET_CLASSES; k++)
        assert_true(budget_answers(k) < budget_answers(k - 1));
    assert_true(budget_answers(BUDGET_CLASSES - 1) >=
                BUDGET_ANSWERS); // what has been computed, once
}

// Whatever idles at other loops: no class is refused while the others hold no more than its share.
static void shares_by_chance(void **state)
{
    (void)state;
    struct rand r;
    rand_seed(&r, 11);
    for (unsigned round = 0; round < 20 * LIMITS; round++) {
        struct budget b;
        struct budget_lease l[LOOPS] = {0};
        int64_t limit = limits[round % LIMITS], sum = 0;
        budget_init(&b, limit, LOOPS);
        for (unsigned step = 0; step < 500; step++) {
            struct budget_lease *one = &l[rand_below(&r, LOOPS)];
            int64_t delta = (int64_t)rand_below(&r, (uint64_t)limit / 4 + 2);
            if (rand_below(&r, 2))
                delta = -(int64_t)rand_below(&r, (uint64_t)one->used + 1);
            sum += budget_charge(one, &b, delta, 0) ? delta : 0;
            int64_t own = (int64_t)rand_below(&r, (uint64_t)one->used + 1);
            for (unsigned k = 0; k < BUDGET_CLASSES; k++) {
                bool admits = budget_admits(one, &b, own, k);
                assert_true(admits || sum - own > limit * budget_share[k] / 16);
                assert_true(!admits || k == 0 ||
                            sum - own <= limit * budget_share[k] / 16 + b.slack);
                assert_true(!admits || k == 0 || budget_admits(one, &b, own, k - 1));
            }
        }
    }
}

// Another limit while some is out: what is out stays, what is asked for goes by the new one, and all comes back.
static void another_limit(void **state)
{
    struct rand r;
    (void)state;
    rand_seed(&r, 9);
    for (unsigned round = 0; round < 200; round++) {
        struct budget b;
        struct budget_lease l[LOOPS] = {0};
        int64_t limit = limits[round % LIMITS], sum = 0;
        budget_init(&b, limit, LOOPS);
        for (unsigned step = 0; step < 500; step++) {
            struct budget_lease *one = &l[rand_below(&r, LOOPS)];
            if (step % 50 == 49)
                budget_set(&b, limit = limits[rand_below(&r, LIMITS)], LOOPS);
            int64_t delta = (int64_t)rand_below(&r, (uint64_t)limit / 4 + 2);
            bool took = budget_charge(one, &b, delta, 0);
            assert_true(took || sum + delta > limit);
            sum += took ? delta : 0;
            delta = (int64_t)rand_below(&r, (uint64_t)one->used + 1);
            assert_true(budget_charge(one, &b, -delta, 0));
            sum -= delta;
        }
        for (unsigned i = 0; i < LOOPS; i++) {
            assert_true(budget_charge(&l[i], &b, -l[i].used, 0));
            assert_true(budget_charge(&l[i], &b, 0, 0));
        }
        assert_true(atomic_load(&b.granted) <= atomic_load(&b.slack));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_limit),    cmocka_unit_test(nothing_stays_behind),
        cmocka_unit_test(past_the_limit),   cmocka_unit_test(beyond_the_limit),
        cmocka_unit_test(by_chance),        cmocka_unit_test(the_lowest_gives_way_first),
        cmocka_unit_test(shares_by_chance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
