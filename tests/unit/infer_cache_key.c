/* infer/cache_key: what is one question, and what is another. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "infer/cache_key.h"

static struct tensor inputs[2];
static struct requested_output outputs[2];
static struct param params[3];
static uint8_t bytes[2][300];
static struct infer_request request;

static int setup(void **state)
{
    for (unsigned i = 0; i < sizeof(bytes[0]); i++)
        bytes[0][i] = bytes[1][i] = (uint8_t)i;
    inputs[0] = (struct tensor){.name = VIEW("a"),
                                .dtype = DT_UINT8,
                                .rank = 2,
                                .shape = {1, 300},
                                .data = bytes[0],
                                .bytes = 300};
    inputs[1] = inputs[0];
    inputs[1].name = VIEW("b");
    inputs[1].data = bytes[1];
    outputs[0] = (struct requested_output){.name = VIEW("y")};
    outputs[1] = (struct requested_output){.name = VIEW("z")};
    params[0] = (struct param){.key = VIEW("p"), .type = PARAM_STRING, .s = VIEW("v")};
    params[1] = (struct param){.key = VIEW("q"), .type = PARAM_INT64, .i = 3};
    params[2] = (struct param){.key = VIEW("r"), .type = PARAM_DOUBLE, .d = 0.5};
    request = (struct infer_request){.inputs = inputs,
                                     .outputs = outputs,
                                     .params = params,
                                     .n_inputs = 2,
                                     .n_outputs = 2,
                                     .n_params = 3};
    return 0;
}

static uint8_t secret_bytes[SIPHASH_KEY];
static const uint8_t *secret; // NULL: the keys are those that all make

static struct cache_key key_in_steps(size_t step, struct view tenant)
{
    struct cache_keying k;
    struct cache_key out;
    cache_key_begin(&k, &request, tenant, secret);
    while (!cache_key_step(&k, step, &out))
        ;
    return out;
}

static struct cache_key key(void)
{
    return key_in_steps(SIZE_MAX, VIEW(""));
}

static bool same(struct cache_key a, struct cache_key b)
{
    return memcmp(&a, &b, sizeof(a)) == 0;
}

static int setup_secret(void **state)
{
    secret = secret_bytes;
    return setup(state);
}

static int teardown(void **state)
{
    secret = NULL;
    return 0;
}

static void what_is_the_same_question(void **state)
{
    struct cache_key first = key();
    assert_int_equal(first.shared, secret == NULL);
    for (size_t step = 1; step < 700; step += 37)
        assert_true(same(key_in_steps(step, VIEW("")), first));
    request.id = VIEW("mine");
    request.priority = 7;
    request.timeout_us = 99;
    request.format = FORMAT_OIP_GRPC;
    request.binary_output = true;
    outputs[0].binary = true;
    assert_true(same(key(), first));
    struct param p = params[0]; // a map has no order
    params[0] = params[2];
    params[2] = p;
    assert_true(same(key(), first));
    uint8_t copy[300]; // nor do bytes have an address
    memcpy(copy, bytes[0], sizeof(copy));
    inputs[0].data = copy;
    assert_true(same(key(), first));
}

#define OTHER(change)                                                                              \
    do {                                                                                           \
        setup(NULL);                                                                               \
        change;                                                                                    \
        assert_false(same(key(), first));                                                          \
        seen[n++] = key();                                                                         \
    } while (0)

static void what_is_another_question(void **state)
{
    struct cache_key first = key(), seen[32];
    unsigned n = 0;
    OTHER(bytes[0][299] ^= 1);
    OTHER(bytes[1][0] ^= 1);
    OTHER(inputs[0].name = VIEW("A"));
    OTHER(inputs[0].dtype = DT_INT8);
    OTHER((inputs[0].shape[0] = 300, inputs[0].shape[1] = 1));
    OTHER(inputs[0].rank = 1);
    OTHER((inputs[0].bytes = 299, inputs[1].bytes = 301,
           inputs[1].data = &bytes[0][299])); // a byte goes over
    OTHER((inputs[0].name = VIEW("ab"), inputs[1].name = VIEW("")));
    OTHER(request.n_inputs = 1);
    OTHER(request.n_outputs = 1);
    OTHER(request.n_outputs = 0);
    OTHER(outputs[0].name = VIEW("x"));
    OTHER(outputs[1].classification = 3);
    OTHER(request.n_params = 2);
    OTHER(params[0].s = VIEW("w"));
    OTHER(params[1].i = 4);
    OTHER(params[1].type = PARAM_UINT64);
    OTHER(params[2].key = VIEW("p")); // of two with one name both count
    struct params one = {params, 1, 1};
    OTHER(inputs[0].params = &one);
    OTHER(inputs[1].params = &one);
    OTHER(outputs[0].params = &one);
    setup(NULL);
    seen[n++] = key_in_steps(SIZE_MAX, VIEW("a tenant"));
    for (unsigned i = 0; i < n; i++) {
        for (unsigned k = 0; k < i; k++)
            assert_false(same(seen[i], seen[k]));
    }
}

// Of another process nobody can say what its keys are.
static void a_secret_makes_keys_of_its_own(void **state)
{
    struct cache_key shared = key();
    secret = secret_bytes;
    struct cache_key first = key();
    assert_false(same(first, shared));
    for (unsigned i = 0; i < SIPHASH_KEY; i++) {
        secret_bytes[i] ^= 0x80;
        assert_false(same(first, key()));
        secret_bytes[i] ^= 0x80;
    }
    assert_true(same(first, key()));
}

static void steps_of_sequences_are_nothing_to_keep(void **state)
{
    assert_true(cache_key_fits(&request));
    request.sequence_id = 5;
    assert_false(cache_key_fits(&request));
    request.sequence_id = 0;
    request.sequence_start = true;
    assert_false(cache_key_fits(&request));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(what_is_the_same_question, setup),
        cmocka_unit_test_setup(what_is_another_question, setup),
        cmocka_unit_test_setup_teardown(what_is_the_same_question, setup_secret, teardown),
        cmocka_unit_test_setup_teardown(what_is_another_question, setup_secret, teardown),
        cmocka_unit_test_setup_teardown(a_secret_makes_keys_of_its_own, setup, teardown),
        cmocka_unit_test_setup(steps_of_sequences_are_nothing_to_keep, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
