// What a size of images that was not met yet costs: how many kernels the library is asked to make, counted by standing
// between the engine and the library. Nothing is timed.
#include "engine/engine.h"
#include "tests/unit/engine_kit.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>
#include <oneapi/dnnl/dnnl.h>

enum { CONVS = 3, CHANNELS = 8 };

static unsigned made, alive; // primitives

dnnl_status_t dnnl_primitive_create(dnnl_primitive_t *p, const_dnnl_primitive_desc_t desc)
{
    static dnnl_status_t (*create)(dnnl_primitive_t *, const_dnnl_primitive_desc_t);
    if (!create)
        *(void **)&create = dlsym(RTLD_NEXT, "dnnl_primitive_create");
    made++;
    alive++;
    return create(p, desc);
}

dnnl_status_t dnnl_primitive_destroy(dnnl_primitive_t p)
{
    static dnnl_status_t (*destroy)(dnnl_primitive_t);
    if (!destroy)
        *(void **)&destroy = dlsym(RTLD_NEXT, "dnnl_primitive_destroy");
    alive--;
    return destroy(p);
}

// Three convolutions one behind the other, of images of any size.
static struct engine_model *load(void)
{
    static const int64_t image[] = {-1, CHANNELS, -1, -1};
    static const int64_t kernels[CONVS][4] = {
        {CHANNELS, CHANNELS, 3, 3}, {CHANNELS, CHANNELS, 1, 1}, {CHANNELS, CHANNELS, 5, 3}};
    struct engine_error e;
    struct msg g = {0};
    struct rand dice;
    rand_seed(&dice, 3);
    msg_msg(&g, GRAPH_INPUTS, onnx_value("v0", ONNX_F32, image, 4));
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("v3", ONNX_F32, NULL, 0));
    for (unsigned i = 0; i < CONVS; i++) {
        char weights[8], in[32], out[8];
        snprintf(weights, sizeof(weights), "w%u", i);
        snprintf(in, sizeof(in), "v%u,%s", i, weights);
        snprintf(out, sizeof(out), "v%u", i + 1);
        graph_noise(&g, weights, 4, kernels[i], &dice);
        msg_msg(&g, GRAPH_NODES, onnx_node("Conv", in, out));
    }
    struct msg file = onnx_model(g, 13);
    struct engine_model *m = engine_model_load(engine_any(false), view_of(file.p, file.n), 64, &e);
    free(file.p);
    if (!m)
        fail_msg("%s", e.text);
    assert_true(engine_model_max_batch(m) > 0);
    return m;
}

static struct engine_instance *instance(struct engine_model *m)
{
    struct engine_error e;
    struct engine_instance *in = engine_instance_new(m, &e);
    assert_non_null(in);
    return in;
}

// How many primitives a run of that size makes.
static unsigned costs(struct engine_instance *in, int64_t rows, int64_t side)
{
    struct engine_error e;
    struct engine_data x = {.rank = 4, .shape = {rows, CHANNELS, side, side}}, y;
    unsigned before = made;
    x.bytes = (size_t)(rows * CHANNELS * side * side) * sizeof(float);
    float *pixels = calloc(1, x.bytes);
    x.data = pixels;
    if (!engine_run(in, &x, &y, &e))
        fail_msg("%s", e.text);
    free(pixels);
    return made - before;
}

// A kernel for a size, and, where it wants weights in another form, two that turn them.
static unsigned of_a_size(void)
{
    return 3 * CONVS;
}

static void a_load_tries_two_sizes(void **state)
{
    (void)state;
    unsigned before = made;
    struct engine_model *m = load();
    if (made == before)
        skip(); // the library has nothing fast for this machine
    assert_in_range(made - before, 2 * CONVS, 2 * CONVS + of_a_size());
    engine_model_free(m);
    assert_int_equal(alive, 0);
}

static void a_size_is_made_once(void **state)
{
    (void)state;
    unsigned before = made;
    struct engine_model *m = load();
    if (made == before)
        skip();
    struct engine_instance *one = instance(m), *two = instance(m);
    assert_in_range(costs(one, 1, 40), CONVS, of_a_size());
    assert_int_equal(costs(one, 1, 40), 0);
    assert_int_equal(costs(one, 5, 40), 0); // whatever the rows
    assert_int_equal(costs(two, 2, 40), 0); // and the instance
    assert_in_range(costs(two, 1, 44), CONVS, of_a_size());
    assert_int_equal(costs(one, 3, 44), 0);
    assert_int_equal(costs(one, 1, 64), 0); // it was loaded with that one
    unsigned held = alive;
    engine_instance_free(two);
    assert_int_equal(alive, held); // the other one has both
    engine_instance_free(one);
    assert_int_equal(alive, CONVS); // the model's own
    engine_model_free(m);
    assert_int_equal(alive, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_load_tries_two_sizes),
        cmocka_unit_test(a_size_is_made_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
