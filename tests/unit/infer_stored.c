// Answers as they lie in a store: what is written comes back, and what is anything else does not.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/mem.h"
#include "infer/stored.h"

static struct block_owner owner;
static const uint8_t key[STORED_KEY] = "0123456789abcdef0123456789abcde";
static const uint8_t other_key[STORED_KEY] = "0123456789abcdef0123456789abcdf";

static struct stored of_version(const char *version)
{
    return (struct stored){
        .key = key, .model = VIEW("m"), .version = view_str(version), .at_us = 7};
}

// Three rows of two floats, and three texts.
static struct answer *an_answer(void)
{
    static const char texts[] = "\1\0\0\0a\0\0\0\0\2\0\0\0bc";
    static const float floats[] = {1, 2, 3, 4, 5, 6};
    struct block *b = block_new(&owner, 64);
    assert_non_null(b);
    memcpy(b->data, floats, sizeof(floats));
    memcpy(b->data + sizeof(floats), texts, sizeof(texts) - 1);
    struct tensor t[2] = {
        {.name = VIEW("y"),
         .dtype = DT_FP32,
         .rank = 2,
         .shape = {3, 2},
         .data = b->data,
         .bytes = 24},
        {.name = VIEW("s"),
         .dtype = DT_BYTES,
         .rank = 1,
         .shape = {3},
         .data = b->data + 24,
         .bytes = 15},
    };
    struct answer *a = answer_new(b, t, 2, 3);
    assert_non_null(a);
    return a;
}

static struct buffer written(uint32_t row, uint32_t rows)
{
    struct answer *a = an_answer();
    struct slice s = {.answer = a, .row = row, .rows = rows};
    struct stored it = of_version("4");
    struct buffer out;
    buffer_init(&out);
    assert_true(stored_write(&out, &it, &s));
    block_unref(a->block);
    return out;
}

static enum stored_fault fault_of(struct view value, struct stored it)
{
    enum stored_fault fault;
    struct answer *a = stored_answer(&owner, value, &it, &fault);
    assert_true((a != NULL) == (fault == STORED_FITS));
    if (a)
        block_unref(a->block);
    return fault;
}

static void what_is_written_comes_back(void **state)
{
    struct buffer out = written(1, 2);
    struct stored it = of_version("4");
    enum stored_fault fault;
    it.at_us = 0;
    struct answer *a = stored_answer(&owner, buffer_view(&out), &it, &fault);
    assert_non_null(a);
    assert_int_equal(it.at_us, 7);
    assert_int_equal(a->rows, 2);
    assert_int_equal(a->n_outputs, 2);
    assert_true(view_is(a->model, "m") && view_is(a->version, "4"));
    assert_int_equal(a->outputs[0].shape[0], 2);
    assert_true(load_f32(a->outputs[0].data) == 3 && load_f32(a->outputs[0].data + 12) == 6);
    struct tensor last = slice_output(&(struct slice){.answer = a, .row = 1, .rows = 1}, 1);
    assert_int_equal(last.bytes, 6);
    assert_memory_equal(last.data, "\2\0\0\0bc", 6);
    block_unref(a->block);
    buffer_deinit(&out);
}

static void who_asks_for_something_else_gets_nothing(void **state)
{
    struct buffer out = written(0, 3);
    struct stored it = of_version("4"), newer = of_version("5"), none = of_version("");
    it.key = other_key;
    assert_int_equal(fault_of(buffer_view(&out), it), STORED_KEY_IS);
    assert_int_equal(fault_of(buffer_view(&out), newer), STORED_VERSION_IS);
    assert_int_equal(fault_of(buffer_view(&out), none), STORED_VERSION_IS);
    assert_int_equal(fault_of(VIEW(""), newer), STORED_FOREIGN);
    assert_int_equal(fault_of(VIEW("{\"json\": true}"), newer), STORED_FOREIGN);
    buffer_deinit(&out);
}

static void every_length_and_every_byte_counts(void **state)
{
    struct buffer out = written(0, 3);
    struct view v = buffer_view(&out);
    char *bytes = mem_must(v.n + 1);
    memcpy(bytes, v.p, v.n);
    bytes[v.n] = 0;
    for (size_t n = 0; n < v.n; n++)
        assert_int_equal(fault_of(view_of(bytes, n), of_version("4")),
                         n < 4 ? STORED_FOREIGN : STORED_TRUNCATED);
    assert_int_equal(fault_of(view_of(bytes, v.n + 1), of_version("4")), STORED_TRUNCATED);
    for (size_t i = 0; i < v.n; i++) {
        bytes[i] ^= 0x10;
        assert_int_not_equal(fault_of(view_of(bytes, v.n), of_version("4")), STORED_FITS);
        bytes[i] ^= 0x10;
    }
    assert_int_equal(fault_of(view_of(bytes, v.n), of_version("4")), STORED_FITS);
    bytes[4] = STORED_LAYOUT + 1;
    assert_int_equal(fault_of(view_of(bytes, v.n), of_version("4")), STORED_LAYOUT_IS);
    mem_free(bytes);
    buffer_deinit(&out);
}

// A value whose checksum is right and whose message is not: somebody else made it, or we did it wrong.
static void a_message_must_be_one(void **state)
{
    struct buffer out = written(0, 3);
    struct view v = buffer_view(&out);
    uint8_t *bytes = (uint8_t *)(uintptr_t)v.p;
    bytes[56] = 2; // rows
    uint64_t sum = hash64(view_of(bytes + 16, v.n - 16), STORED_LAYOUT);
    memcpy(bytes + 8, &sum, 8);
    assert_int_equal(fault_of(v, of_version("4")), STORED_MESSAGE);
    bytes[56] = 3;
    bytes[v.n - 15 - 2] ^= 0x7f; // the tag of the last raw contents
    sum = hash64(view_of(bytes + 16, v.n - 16), STORED_LAYOUT);
    memcpy(bytes + 8, &sum, 8);
    assert_int_equal(fault_of(v, of_version("4")), STORED_MESSAGE);
    buffer_deinit(&out);
}

static void memory_may_run_out(void **state)
{
    struct buffer whole = written(0, 3);
    struct answer *a = an_answer();
    struct slice s = {.answer = a, .row = 0, .rows = 3};
    struct stored it = of_version("4");
    for (unsigned n = 1; n < 50; n++) {
        struct buffer out;
        enum stored_fault fault;
        buffer_init(&out);
        mem_fail_at(n);
        bool wrote = stored_write(&out, &it, &s);
        struct answer *back = stored_answer(&owner, buffer_view(&whole), &it, &fault);
        mem_fail_at(0);
        assert_true(wrote == (buffer_len(&out) == buffer_len(&whole)));
        if (back)
            block_unref(back->block);
        buffer_deinit(&out);
    }
    block_unref(a->block);
    buffer_deinit(&whole);
}

static int set_up(void **state)
{
    block_owner_init(&owner);
    block_owner_adopt(&owner);
    return 0;
}

static int tear_down(void **state)
{
    block_owner_deinit(&owner);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_comes_back),
        cmocka_unit_test(who_asks_for_something_else_gets_nothing),
        cmocka_unit_test(every_length_and_every_byte_counts),
        cmocka_unit_test(a_message_must_be_one),
        cmocka_unit_test(memory_may_run_out),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
