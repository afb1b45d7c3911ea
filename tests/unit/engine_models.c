// The reference models of ours against their recorded answers: every case alone, the cases stacked in one
// batch, and each row of the batch against the row alone, bit by bit. Needs ../shared (SLUICE_SHARED says
// where); without it each test says that it skips.
#include "base/mem.h"
#include "tests/unit/engine_kit.h"
#include "tests/unit/file.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void path_of(char out[512], const char *model, const char *file)
{
    const char *shared = getenv("SLUICE_SHARED");
    snprintf(out, 512, "%s/models/%s/%s", shared ? shared : "../shared", model, file);
}

// A tensor of reference.json; its data is malloc'ed.
static struct engine_data load_tensor(const char *model, const json_t *t)
{
    struct engine_data d = {0};
    size_t n = 1, i;
    json_t *dim, *v;
    json_array_foreach(json_object_get(t, "shape"), i, dim)
    {
        d.shape[d.rank++] = json_integer_value(dim);
        n *= (size_t)json_integer_value(dim);
    }
    const char *bin = json_string_value(json_object_get(t, "bin"));
    if (bin) {
        char path[512];
        path_of(path, model, bin);
        struct view file = file_read(path);
        assert_non_null(file.p);
        d.data = file.p;
        d.bytes = file.n;
        return d;
    }
    const char *dtype = json_string_value(json_object_get(t, "dtype"));
    bool wide = dtype && strcmp(dtype, "i64") == 0, whole = dtype && strcmp(dtype, "i32") == 0;
    char *data = malloc(n * 8);
    json_array_foreach(json_object_get(t, "data"), i, v)
    {
        if (wide)
            ((int64_t *)(void *)data)[i] = json_integer_value(v);
        else if (whole)
            ((int32_t *)(void *)data)[i] = (int32_t)json_integer_value(v);
        else
            ((float *)(void *)data)[i] = (float)json_number_value(v);
    }
    d.data = data;
    d.bytes = n * (wide ? 8 : 4);
    return d;
}

static double check(const char *what, const float *got, const float *want, size_t n)
{
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        double off = fabs((double)got[i] - want[i]), may = 1e-4 + 1e-3 * fabs((double)want[i]);
        if (!(off <= may)) {
            print_error("%s: element %zu: expected %g, got %g\n", what, i, want[i], got[i]);
            fail();
        }
        worst = off / may > worst ? off / may : worst;
    }
    return worst;
}

// Row k of what a batch gave, against the same row alone.
static void check_rows(struct engine_instance *in, const struct engine_data *x, unsigned outputs)
{
    struct engine_error e;
    struct engine_data out[8], single[8];
    char *kept[8];
    int64_t rows = x->shape[0];
    assert_true(engine_run(in, x, out, &e));
    for (unsigned k = 0; k < outputs; k++) {
        kept[k] = malloc(out[k].bytes);
        memcpy(kept[k], out[k].data, out[k].bytes);
    }
    for (int64_t row = 0; row < rows && row < 40; row++) {
        struct engine_data one = *x;
        one.shape[0] = 1;
        one.bytes /= (size_t)rows;
        one.data = (const char *)x->data + (size_t)row * one.bytes;
        assert_true(engine_run(in, &one, single, &e));
        for (unsigned k = 0; k < outputs; k++)
            assert_memory_equal(kept[k] + (size_t)row * single[k].bytes, single[k].data,
                                single[k].bytes);
    }
    for (unsigned k = 0; k < outputs; k++)
        free(kept[k]);
}

static void run_model(const char *name, bool batches)
{
    char path[512];
    struct engine_error e;
    path_of(path, name, "model.onnx");
    struct view onnx = file_read(path);
    if (!onnx.p) {
        print_message("skipped: no %s\n", path);
        skip();
    }
    struct engine_model *m = engine_model_load(engine_any(false), onnx, 1024, &e);
    if (!m)
        print_error("%s: %s\n", name, e.text);
    assert_non_null(m);
    file_free(onnx);
    assert_int_equal(engine_model_max_batch(m) > 0, batches);
    struct engine_instance *in = engine_instance_new(m, &e);
    path_of(path, name, "reference.json");
    json_error_t je;
    json_t *ref = json_load_file(path, 0, &je), *c;
    assert_non_null(ref);
    size_t i;
    double worst = 0;
    json_array_foreach(json_object_get(ref, "cases"), i, c)
    {
        struct engine_data x[8], out[8];
        for (unsigned k = 0; k < engine_model_inputs(m); k++)
            x[k] = load_tensor(name, json_object_get(json_object_get(c, "inputs"),
                                                     engine_model_input(m, k)->name));
        if (!engine_run(in, x, out, &e)) {
            print_error("%s: %s\n", name, e.text);
            fail();
        }
        for (unsigned k = 0; k < engine_model_outputs(m); k++) {
            struct engine_data want =
                load_tensor(name, json_object_get(json_object_get(c, "outputs"),
                                                  engine_model_output(m, k)->name));
            assert_int_equal(want.bytes, out[k].bytes);
            double w = check(name, out[k].data, want.data, want.bytes / 4);
            worst = w > worst ? w : worst;
            free((void *)want.data);
        }
        if (batches && x[0].shape[0] > 1)
            check_rows(in, &x[0], engine_model_outputs(m));
        for (unsigned k = 0; k < engine_model_inputs(m); k++)
            free((void *)x[k].data);
    }
    print_message("%s: %zu cases, at most %.1f %% of the tolerance used\n", name, i, worst * 100);
    json_decref(ref);
    engine_instance_free(in);
    engine_model_free(m);
}

static void digits_mlp(void **state)
{
    (void)state;
    run_model("digits_mlp", true);
}
static void iris_logreg(void **state)
{
    (void)state;
    run_model("iris_logreg", true);
}
static void mnist_cntk(void **state)
{
    (void)state;
    run_model("mnist_cntk", false);
}
static void resnet8_cifar10(void **state)
{
    (void)state;
    run_model("resnet8_cifar10", true);
}
static void ad01_autoencoder(void **state)
{
    (void)state;
    run_model("ad01_autoencoder", true);
}
static void ultraface_rfb320(void **state)
{
    (void)state;
    run_model("ultraface_rfb320", false);
}

static void banking77_lsa(void **state)
{
    (void)state;
    run_model("banking77_lsa", true);
}

static void credit_gbt(void **state)
{
    (void)state;
    run_model("credit_gbt", true);
}

static void magika_v3_3(void **state)
{
    (void)state;
    run_model("magika_v3_3", true);
}

static void ppocr_det(void **state)
{
    (void)state;
    run_model("ppocr_det", true);
}

static void ppocr_cls(void **state)
{
    (void)state;
    run_model("ppocr_cls", true);
}

static void ppocr_rec(void **state)
{
    (void)state;
    run_model("ppocr_rec", true);
}

static void silero_vad_v5(void **state)
{
    (void)state;
    run_model("silero_vad_v5", false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digits_mlp),       cmocka_unit_test(iris_logreg),
        cmocka_unit_test(mnist_cntk),       cmocka_unit_test(resnet8_cifar10),
        cmocka_unit_test(ad01_autoencoder), cmocka_unit_test(ultraface_rfb320),
        cmocka_unit_test(ppocr_rec),        cmocka_unit_test(ppocr_cls),
        cmocka_unit_test(ppocr_det),        cmocka_unit_test(magika_v3_3),
        cmocka_unit_test(banking77_lsa),    cmocka_unit_test(silero_vad_v5),
        cmocka_unit_test(credit_gbt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
