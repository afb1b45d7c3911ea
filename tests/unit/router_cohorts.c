/* router/cohorts: rewards that come late, in any order, and looks that come now and then: what has been read is always whole
 * requests, each with all that it had in time. Fixed seeds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/rand.h"
#include "router/cohorts.h"
#include <string.h>

#define QUARTERS 2000

static struct rand dice;

static void what_is_in_time(void **state)
{
    (void)state;
    static const uint64_t withins[] = {COHORT_WITHIN_MIN_US, 2700000, 3333333, 60000000,
                                       12ull * 3600 * 1000000};
    rand_seed(&dice, 1);
    for (unsigned i = 0; i < 200000; i++) {
        uint64_t within = withins[i % 5], at = rand_u64(&dice) >> 12;
        uint64_t age = (uint64_t)((double)within * 20 * rand_unit(&dice));
        bool takes = cohort_takes(cohort_at(at, within), (at + age) / 1000000 - at / 1000000,
                                  at + age, within);
        if (age <= within)
            assert_true(takes);
        if (age >= within / 4 * 5)
            assert_false(takes);
    }
}

// Of a quarter: what there was, and of that what had been read.
static void what_was_read_is_whole(void **state)
{
    (void)state;
    static const uint64_t withins[] = {COHORT_WITHIN_MIN_US, 60000000};
    for (unsigned w = 0; w < 2; w++) {
        static struct cohort_sum truth[QUARTERS + COHORTS];
        struct cohort_sum counted[COHORTS] = {{0}}, read[COHORTS] = {{0}};
        uint64_t within = withins[w], quarter = within / 4, now = 0, end = QUARTERS * quarter;
        unsigned upto[COHORTS] = {0}, looks = 0; // quarters that were read: those before
        memset(truth, 0, sizeof(truth));
        struct waiting { // requests
            uint64_t at;
            unsigned gain;
        } list[64];
        unsigned n = 0;
        rand_seed(&dice, 2 + w);
        while ((now += rand_below(&dice, (uint32_t)(quarter / 4))) < end) {
            if (n < 64) {
                list[n++] = (struct waiting){now, rand_below(&dice, 1000001)};
                truth[now / quarter].n++;
                counted[cohort_at(now, within) % COHORTS].n++;
            }
            unsigned k = rand_below(&dice, n);
            const struct waiting r = list[k];
            if (now - r.at > 2 * within || rand_below(&dice, 3) == 0) { // early, late, or too late
                unsigned mark = cohort_at(r.at, within);
                list[k] = list[--n];
                if (cohort_takes(mark, now / 1000000 - r.at / 1000000, now, within)) {
                    truth[r.at / quarter].gained += r.gain;
                    counted[mark % COHORTS].gained += r.gain;
                }
            }
            if (rand_below(&dice, 10) > 0)
                continue;
            unsigned c = cohort_settled(now, within);
            looks++;
            read[c] = counted[c];
            if (now / quarter >= 6)
                upto[c] = (unsigned)(now / quarter) - 5;
        }
        for (unsigned c = 0; c < COHORTS; c++) {
            struct cohort_sum whole = {0};
            for (unsigned q = c; q < upto[c]; q += COHORTS) {
                whole.n += truth[q].n;
                whole.gained += truth[q].gained;
            }
            assert_int_equal(read[c].n, whole.n);
            assert_int_equal(read[c].gained, whole.gained);
            assert_true(whole.n > 100 && looks > QUARTERS / 4);
        }
    }
}

static void what_is_out_of_bounds_is_the_nearer_end(void **state)
{
    (void)state;
    assert_int_equal(cohort_gain(1, 1), 1000000);
    assert_int_equal(cohort_gain(1, 4), 250000);
    assert_int_equal(cohort_gain(4.0001, 4), 1000000);
    assert_int_equal(cohort_gain(1e12, 1), 1000000);
    assert_int_equal(cohort_gain(0, 1), 0);
    assert_int_equal(cohort_gain(-3, 1), 0);
    assert_int_equal(cohort_gain(-1e12, 1e9), 0);
    struct stats_arm none = cohort_arm((struct cohort_sum){0}),
                     some = cohort_arm((struct cohort_sum){10, 2500000});
    assert_true(none.n == 0 && none.bad == 0);
    assert_true(some.n == 10 && some.bad == 7.5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_in_time),
        cmocka_unit_test(what_was_read_is_whole),
        cmocka_unit_test(what_is_out_of_bounds_is_the_nearer_end),
    };
    return cmocka_run_group_tests_name("router/cohorts", tests, NULL, NULL);
}
