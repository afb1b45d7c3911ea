/* batcher/policy: when a batch goes, row by row. */
#include "tests/unit/batcher_kit.h"

static const struct policy plain = {.max_rows = 16, .max_wait_us = 2000};
static const struct policy prefers = {
    .max_rows = 16, .max_wait_us = 2000, .preferred = {4, 8}, .n_preferred = 2};
static const struct policy one = {
    .max_rows = 16, .max_wait_us = 2000, .preferred = {1}, .n_preferred = 1};
static const struct policy eager = {.max_rows = 16, .max_wait_us = 0};

// Oldest queued at 10,000; earliest deadline at 50,000 where nothing else is said.
static const struct {
    const char *what;
    const struct policy *p;
    uint64_t rows, earliest_us, high_us, now_us;
    uint32_t take;
    enum batch_reason reason;
    uint64_t wake_us;
} rows[] = {
    {"a full batch goes", &plain, 16, 50000, 0, 10000, 16, BATCH_FULL, 0},
    {"no more than a full batch", &plain, 900, 50000, 0, 10000, 16, BATCH_FULL, 0},
    {"one row less waits", &plain, 15, 50000, 0, 10000, 0, 0, 12000},
    {"until max_wait is over", &plain, 15, 50000, 0, 11999, 0, 0, 12000},
    {"and then all go", &plain, 15, 50000, 0, 12000, 15, BATCH_WAIT, 0},
    {"late, too", &plain, 1, 50000, 0, 13000, 1, BATCH_WAIT, 0},
    {"nobody was told to wait", &eager, 3, 50000, 0, 10000, 3, BATCH_IDLE, 0},
    {"full comes before idle", &eager, 17, 50000, 0, 10000, 16, BATCH_FULL, 0},
    {"a preferred size goes", &prefers, 4, 50000, 0, 10000, 4, BATCH_PREFERRED, 0},
    {"the largest that is filled", &prefers, 8, 50000, 0, 10000, 8, BATCH_PREFERRED, 0},
    {"and no row more", &prefers, 15, 50000, 0, 10000, 8, BATCH_PREFERRED, 0},
    {"the smaller when the larger is not filled", &prefers, 7, 50000, 0, 10000, 4, BATCH_PREFERRED,
     0},
    {"below every preferred size it waits", &prefers, 3, 50000, 0, 10000, 0, 0, 12000},
    {"one row may be preferred", &one, 1, 50000, 0, 10000, 1, BATCH_PREFERRED, 0},
    {"full comes before preferred", &prefers, 16, 50000, 0, 10000, 16, BATCH_FULL, 0},
    {"a deadline that is near", &plain, 2, 12500, 0, 10500, 2, BATCH_DEADLINE, 0},
    {"less the time that it takes", &plain, 2, 13500, 1000, 10500, 2, BATCH_DEADLINE, 0},
    {"and not before", &plain, 2, 13500, 1000, 10499, 0, 0, 10500},
    {"max_wait when it ends first", &plain, 2, 15001, 1000, 10000, 0, 0, 12000},
    {"the deadline when that comes first", &plain, 2, 14999, 1000, 10000, 0, 0, 11999},
    {"what takes longer than all the time there is", &plain, 2, 900, 1000, 10000, 2, BATCH_DEADLINE,
     0},
    {"however early it is", &plain, 2, 900, 1000, 0, 2, BATCH_DEADLINE, 0},
    {"as long", &plain, 2, 1000, 1000, 10000, 2, BATCH_DEADLINE, 0},
};

static void every_row(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct summary s = {.rows = rows[i].rows,
                            .oldest_us = 10000,
                            .earliest_us = rows[i].earliest_us,
                            .high_us = rows[i].high_us};
        struct verdict v = policy_decide(rows[i].p, &s, rows[i].now_us);
        if (v.rows != rows[i].take ||
            (v.rows ? v.reason != rows[i].reason : v.wake_us != rows[i].wake_us))
            fail_msg("%s: rows %u, reason %d, wake %llu", rows[i].what, v.rows, v.reason,
                     (unsigned long long)v.wake_us);
    }
}

static void reasons_have_their_names(void **state)
{
    (void)state;
    assert_string_equal(batch_reason_name[BATCH_FULL], "full");
    assert_string_equal(batch_reason_name[BATCH_PREFERRED], "preferred");
    assert_string_equal(batch_reason_name[BATCH_IDLE], "idle");
    assert_string_equal(batch_reason_name[BATCH_WAIT], "wait");
    assert_string_equal(batch_reason_name[BATCH_DEADLINE], "deadline");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row),
        cmocka_unit_test(reasons_have_their_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
