// gateway/metrics: who has answered for a model. All else is seen in tests/integration.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/metrics.h"
#include <stdio.h>

static uint64_t count_of(const struct model_metrics *mm, const char *name)
{
    for (unsigned i = 0; i < ANSWERED_BY; i++)
        if (view_is(view_of(mm->by[i].name, mm->by[i].name_bytes), name))
            return atomic_load(&mm->by[i].n);
    return 0;
}

static void as_many_as_a_chain_has_are_told_apart(void **state)
{
    static struct model_metrics mm;
    char name[MODEL_NAME_MAX + 1];
    for (unsigned round = 1; round <= 3; round++) {
        for (unsigned i = 0; i < ANSWERED_BY + 4; i++) {
            snprintf(name, sizeof(name), "model-%u", i);
            metrics_answered_by(&mm, view_str(name));
            assert_int_equal(count_of(&mm, name), i < ANSWERED_BY ? round : 0);
        }
    }
}

static void a_name_may_be_as_long_as_names_are(void **state)
{
    static struct model_metrics mm;
    char name[MODEL_NAME_MAX + 1] = "";
    for (unsigned i = 0; i < MODEL_NAME_MAX; i++)
        name[i] = 'a';
    metrics_answered_by(&mm, view_str(name));
    metrics_answered_by(&mm, view_of(name, MODEL_NAME_MAX - 1));
    metrics_answered_by(&mm, view_str(name));
    assert_int_equal(count_of(&mm, name), 2);
    name[MODEL_NAME_MAX - 1] = '\0';
    assert_int_equal(count_of(&mm, name), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_many_as_a_chain_has_are_told_apart),
        cmocka_unit_test(a_name_may_be_as_long_as_names_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
