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
    it.max_batch = 8; // by class: the router says so
    expect(&it, "");
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

static void fits(const struct model_metadata *step, const char *want)
{
    char got[DIFFERENCE_TEXT] = "";
    assert_int_equal(metadata_fits(got, step, &base), *want == 0);
    assert_string_equal(got, want);
}

// A step of a chain: the same inputs, the same outputs and perhaps more, free dimensions as they are.
static void what_may_answer_for_it(void **state)
{
    (void)state;
    struct tensor in[2] = {x, y}, out[2] = {y, x};
    struct model_metadata step = base;
    step.max_batch = 4;
    step.inputs = in;
    step.outputs = out;
    step.n_outputs = 2;
    in[0].shape[0] = 1;
    fits(&step, "");
    step.n_inputs = 2;
    fits(&step, "input y: there is none"); // it wants more than is asked with
    step.n_inputs = 0;
    fits(&step, "input x: there is none");
    step.n_inputs = 1;
    in[0].shape[1] = 3;
    fits(&step, "input x: expected FP32 [1,3], got FP32 [-1,2]");
    in[0] = x;
    in[0].rank = 1;
    fits(&step, "input x: expected FP32 [-1], got FP32 [-1,2]");
    in[0] = x;
    out[0].dtype = DT_INT16;
    fits(&step, "output y: expected INT8 [-1], got INT16 [-1]");
    step.n_outputs = 0;
    fits(&step, "output y: there is none");
    char got[DIFFERENCE_TEXT] = "";
    assert_true(outputs_fit(got, &y, 1, &base));
    assert_true(outputs_fit(got, &y, 0, &base)); // fewer than the model has
    assert_false(outputs_fit(got, &x, 1, &base));
    assert_string_equal(got, "output x: there is none");
}

// Free dimensions fit any number of rows; inputs are found by their names, wherever they stand.
static void requests_of_another_form(void **state)
{
    static const struct {
        struct tensor t;
        const char *why; // NULL: it fits
    } rows[] = {
        {{.name = {"x", 1}, .rank = 2, .shape = {7, 2}}, NULL},
        {{.name = {"x", 1}, .rank = 2, .shape = {0, 2}}, NULL},
        {{.name = {"z", 1}, .rank = 1, .shape = {5}},
         NULL}, // its worker will say something of that
        {{.name = {"x", 1}, .rank = 2, .shape = {2, 3}},
         "input x: shape: expected [-1,2], got [2,3]"},
        {{.name = {"x", 1}, .rank = 1, .shape = {2}}, "input x: shape: expected [-1,2], got [2]"},
        {{.name = {"x", 1}, .rank = 0}, "input x: shape: expected [-1,2], got []"},
        {{.name = {"v", 1}, .rank = 1, .shape = {4}}, "input v: shape: expected [3], got [4]"},
        {{.name = {"s", 1}, .rank = 0}, NULL},
        {{.name = {"s", 1}, .rank = 1, .shape = {1}}, NULL}, // a number as a list
        {{.name = {"s", 1}, .rank = 1, .shape = {2}}, "input s: shape: expected [], got [2]"},
    };
    struct tensor v = {.name = VIEW("v"), .dtype = DT_FP32, .rank = 1, .shape = {3}},
                  s = {.name = VIEW("s"), .dtype = DT_FP32}, in[] = {x, v, s};
    struct model_metadata m = base;
    char why[DIFFERENCE_TEXT];
    m.inputs = in;
    m.n_inputs = 3;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (unsigned before = 0; before < 2; before++) {
            struct tensor asked[] = {v, rows[i].t};
            asked[0].name = VIEW("other");
            struct infer_request r = {.inputs = asked + 1 - before,
                                      .n_inputs = (uint16_t)(1 + before)};
            if (request_fits(why, &r, &m) != !rows[i].why)
                fail_msg("row %u: %s", i, rows[i].why ? "taken" : why);
            if (rows[i].why)
                assert_string_equal(why, rows[i].why);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(each_difference_is_named, setup),
        cmocka_unit_test_setup(what_may_answer_for_it, setup),
        cmocka_unit_test_setup(long_names_are_cut, setup),
        cmocka_unit_test_setup(requests_of_another_form, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
