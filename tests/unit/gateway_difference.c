/* gateway/difference: in what two replicas differ, in words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "gateway/difference.h"

static struct tensor x, y;
static struct model_metadata base;

static int setup(void **state)
{
    x = (struct tensor){.name = VIEW("x"), .dtype = DT_FP32, .rank = 2, .shape = {-1, 2}};
    y = (struct tensor){.name = VIEW("y"), .dtype = DT_INT8, .rank = 1, .shape = {-1}};
    base = (struct model_metadata){
        .inputs = &x, .n_inputs = 1, .outputs = &y, .n_outputs = 1, .max_batch = 16};
    return 0;
}

static void expect(const struct model_metadata *it, const char *want)
{
    char got[DIFFERENCE_TEXT];
    metadata_difference(got, it, &base);
    assert_string_equal(got, want);
}

static void each_difference_is_named(void **state)
{
    struct model_metadata it = base;
    expect(&it, "");
    it.max_batch = 8;
    expect(&it, "max_batch_size: expected 16 as at the others, got 8");
    it = base;
    it.n_outputs = 0;
    expect(&it, "outputs: expected 1 as at the others, got 0");
    struct tensor z = x;
    it = base;
    it.inputs = &z;
    expect(&it, "");
    z.shape[1] = 4;
    expect(&it, "input 0: expected x FP32 [-1,2] as at the others, got x FP32 [-1,4]");
    z = x;
    z.dtype = DT_FP16;
    expect(&it, "input 0: expected x FP32 [-1,2] as at the others, got x FP16 [-1,2]");
    z = y;
    z.name = VIEW("other");
    it = base;
    it.outputs = &z;
    expect(&it, "output 0: expected y INT8 [-1] as at the others, got other INT8 [-1]");
}

static void long_names_are_cut(void **state)
{
    static char name[5000];
    char got[DIFFERENCE_TEXT];
    struct model_metadata it = base;
    struct tensor z = x;
    memset(name, 'n', sizeof(name));
    z.name = view_of(name, sizeof(name));
    it.inputs = &z;
    metadata_difference(got, &it, &base);
    assert_int_equal(strlen(got), DIFFERENCE_TEXT - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(each_difference_is_named, setup),
        cmocka_unit_test_setup(long_names_are_cut, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
