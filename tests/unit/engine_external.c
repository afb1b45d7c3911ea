// Weights beside the model's file: y = x + w, where w lies in a file that the test lends. Used where it lies
// while it loads, and not looked at afterwards; a place that is wrong is refused by name.
#include "base/mem.h"
#include "tests/unit/engine_kit.h"

#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define FILE_BYTES 8192

struct beside { // two files, "w.bin" and "sub/v.bin", with the same bytes
    struct engine_files files;
    _Alignas(64) uint8_t bytes[FILE_BYTES];
    unsigned mapped;
};

static bool map(struct engine_files *f, struct view location, struct view *all, char why[256])
{
    struct beside *b = container_of(f, struct beside, files);
    b->mapped++;
    *all = view_of(b->bytes, sizeof(b->bytes));
    if (view_is(location, "w.bin") || view_is(location, "sub/v.bin"))
        return true;
    snprintf(why, 256, "%.*s: No such file", VIEW_ARG(location));
    return false;
}

struct place {
    const char *location, *offset, *length; // NULL: not said
};

static struct msg external(const char *name, const int64_t *dims, unsigned rank,
                           const struct place *p)
{
    struct msg t = {0};
    const char *const keys[] = {"location", "offset", "length", "checksum"};
    const char *const values[] = {p->location, p->offset, p->length, "0123"};
    for (unsigned i = 0; i < rank; i++)
        msg_uint(&t, 1, (uint64_t)dims[i]);
    msg_uint(&t, 2, ONNX_F32);
    msg_text(&t, 8, name);
    for (unsigned i = 0; i < 4; i++) {
        struct msg entry = {0};
        if (!values[i])
            continue;
        msg_text(&entry, 1, keys[i]);
        msg_text(&entry, 2, values[i]);
        msg_msg(&t, 13, entry);
    }
    msg_uint(&t, 14, 1);
    return t;
}

// y = (x + w) + v, each of four numbers.
static struct msg sums(const struct place *w, const struct place *v)
{
    static const int64_t row[2] = {-1, 4}, four[1] = {4};
    struct msg g = {0};
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", ONNX_F32, row, 2));
    msg_msg(&g, GRAPH_CONSTANTS, external("w", four, 1, w));
    msg_msg(&g, GRAPH_CONSTANTS, external("v", four, 1, v));
    msg_msg(&g, GRAPH_NODES, onnx_node("Add", "x,w", "s"));
    msg_msg(&g, GRAPH_NODES, onnx_node("Add", "s,v", "y"));
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", ONNX_F32, NULL, 0));
    return onnx_model(g, 13);
}

static struct engine_model *load(struct msg file, struct beside *b, struct engine_error *e)
{
    struct engine_source s = {.onnx = view_of(file.p, file.n), .files = b ? &b->files : NULL};
    struct engine_model *m = engine_model_open(engine_any(false), &s, 4, e);
    free(file.p);
    return m;
}

static struct beside *numbers(void)
{
    struct beside *b = mem_must_aligned(sizeof(*b), 64);
    b->files.map = map;
    b->mapped = 0;
    for (unsigned i = 0; i < FILE_BYTES / 4; i++) {
        float f = (float)i;
        memcpy(b->bytes + 4 * (size_t)i, &f, 4);
    }
    return b;
}

static void used_where_it_lies(void **state)
{
    (void)state;
    static const struct place places[][2] = {
        {{"w.bin", "0", "16"}, {"w.bin", "4096", NULL}},   // both aligned
        {{"w.bin", "4", "16"}, {"sub/v.bin", NULL, NULL}}, // copied; another file
        {{"w.bin", "64", "16"}, {"w.bin", "64", "16"}},    // tied weights
        {{"w.bin", "8176", "16"}, {"w.bin", "0", NULL}},   // up to the last byte
        {{"./w.bin", "64", "16"}, {"w.bin", "64", "16"}},  // one file
    };
    static const float want[][4] = {{1024, 1026, 1028, 1030},
                                    {1, 3, 5, 7},
                                    {32, 34, 36, 38},
                                    {2044, 2046, 2048, 2050},
                                    {32, 34, 36, 38}};
    for (unsigned k = 0; k < 5; k++) {
        struct engine_error e = {""};
        struct beside *b = numbers();
        struct engine_model *m = load(sums(&places[k][0], &places[k][1]), b, &e);
        if (!m)
            fail_msg("%s", e.text);
        assert_int_equal(b->mapped, k == 1 ? 2 : 1);
        memset(b->bytes, 0xff, sizeof(b->bytes)); // what serves lies elsewhere by now
        mem_free(b);
        static const float x[4];
        struct engine_instance *i = engine_instance_new(m, &e);
        struct engine_data in = {x, 16, 2, {1, 4}}, out;
        assert_true(engine_run(i, &in, &out, &e));
        assert_memory_equal(out.data, want[k], 16);
        engine_instance_free(i);
        engine_model_free(m);
    }
}

static void wrong_places(void **state)
{
    (void)state;
    static const struct {
        struct place w, v;
        const char *why;
    } rows[] = {
#define FINE {"w.bin", "0", "16"}
        {{"../w.bin", "0", "16"}, FINE, "tensor \"w\": location: expected a path below"},
        {{"sub/../w.bin", "0", "16"}, FINE, "location: expected a path below"},
        {{"/w.bin", "0", "16"}, FINE, "location: expected a path below"},
        {{"", "0", "16"}, FINE, "location: expected a path below"},
        {{NULL, "0", "16"}, FINE, "location: expected a path below"},
        {{"sub//v.bin", "0", "16"}, FINE, "location: expected a path below"},
        {{"..", "0", "16"}, FINE, "location: expected a path below"},
        {{".", "0", "16"}, FINE, "location: expected a path below"},
        {{".//w.bin", "0", "16"}, FINE, "location: expected a path below"},
        {{"sub/./v.bin", "0", "16"}, FINE, "location: expected a path below"},
        {{"./w.bin", "40", "16"}, {"w.bin", "32", "16"}, "their external data overlaps"},
        {{"none", "0", "16"}, FINE, "tensor \"w\": none: No such file"},
        {{"w.bin", "0", "15"},
         FINE,
         "expected an offset and a length of 16 bytes, got \"0\" and \"15\""},
        {{"w.bin", "-4", "16"}, FINE, "expected an offset"},
        {{"w.bin", "0x10", "16"}, FINE, "expected an offset"},
        {{"w.bin", "99999999999999999999", "16"}, FINE, "expected an offset"},
        {{"w.bin", "18446744073709551615", NULL}, FINE, "w.bin is too short: expected 16 bytes"},
        {{"w.bin", "8180", NULL},
         FINE,
         "w.bin is too short: expected 16 bytes from 8180 on, the file has 8192"},
        {{"w.bin", "32", "16"},
         {"w.bin", "40", "16"},
         "tensors \"w\" and \"v\": their external data overlaps"},
        {{"w.bin", "40", "16"},
         {"w.bin", "32", "16"},
         "tensors \"v\" and \"w\": their external data overlaps"},
    };
    struct beside *b = numbers();
    for (unsigned k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
        struct engine_error e = {""};
        assert_null(load(sums(&rows[k].w, &rows[k].v), b, &e));
        if (!strstr(e.text, rows[k].why))
            fail_msg("want \"%s\", got \"%s\"", rows[k].why, e.text);
    }
    mem_free(b);
    struct engine_error e = {""};
    assert_null(load(sums(&rows[8].v, &rows[8].v), NULL, &e));
    assert_string_equal(e.text, "tensor \"w\": external data is not at hand");
}

// A tensor of 64 GiB that its file does not have takes no memory.
static void nothing_is_taken_for_what_is_not_there(void **state)
{
    (void)state;
    static const int64_t row[2] = {-1, 4}, huge[2] = {1 << 15, 1 << 15};
    struct engine_error e = {""};
    struct beside *b = numbers();
    struct place p = {"w.bin", "0", NULL};
    struct msg g = {0};
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", ONNX_F32, row, 2));
    msg_msg(&g, GRAPH_CONSTANTS, external("w", huge, 2, &p));
    msg_msg(&g, GRAPH_NODES, onnx_node("Add", "x,w", "y"));
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", ONNX_F32, NULL, 0));
    assert_null(load(onnx_model(g, 13), b, &e));
    assert_non_null(strstr(e.text, "w.bin is too short: expected 4294967296 bytes"));
    mem_free(b);
}

// An input that is an initializer too has that as its default, and nobody can set it; a node's optional input may be
// left out, by an empty name or by an end.
static void defaults_and_left_out(void **state)
{
    (void)state;
    static const int64_t row[2] = {-1, 4}, four[1] = {4};
    static const float three[4] = {3, 3, 3, 3}, x[4] = {-1, 1, 5, 9}, want[4] = {2, 3, 3, 3};
    struct engine_error e = {""};
    struct msg g = {0}, most = {0};
    msg_uint(&most, 2, ONNX_F32); // a scalar
    msg_text(&most, 8, "most");
    msg_bytes(&most, 9, three, 4);
    msg_msg(&g, GRAPH_INPUTS, onnx_value("x", ONNX_F32, row, 2));
    msg_msg(&g, GRAPH_INPUTS, onnx_value("w", ONNX_F32, four, 1));
    msg_msg(&g, GRAPH_CONSTANTS, onnx_tensor("w", ONNX_F32, four, 1, three, 16));
    msg_msg(&g, GRAPH_CONSTANTS, most);
    msg_msg(&g, GRAPH_NODES, onnx_node("Add", "x,w", "s"));
    msg_msg(&g, GRAPH_NODES, onnx_node("Clip", "s,,most", "c"));
    msg_msg(&g, GRAPH_NODES, onnx_node("Clip", "c", "y"));
    msg_msg(&g, GRAPH_OUTPUTS, onnx_value("y", ONNX_F32, NULL, 0));
    struct engine_model *m = load(onnx_model(g, 13), NULL, &e);
    if (!m)
        fail_msg("%s", e.text);
    assert_int_equal(engine_model_inputs(m), 1);
    assert_string_equal(engine_model_input(m, 0)->name, "x");
    struct engine_instance *i = engine_instance_new(m, &e);
    struct engine_data in = {x, 16, 2, {1, 4}}, out;
    assert_true(engine_run(i, &in, &out, &e));
    assert_memory_equal(out.data, want, 16);
    engine_instance_free(i);
    engine_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(used_where_it_lies),
        cmocka_unit_test(wrong_places),
        cmocka_unit_test(defaults_and_left_out),
        cmocka_unit_test(nothing_is_taken_for_what_is_not_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
