// The status table, datatypes, sizes that wrap, names, batch keys, slices.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/mem.h"
#include "infer/failure.h"
#include "infer/request.h"
#include <stdio.h>

static void status_table_is_whole(void **state)
{
    for (int i = 0; i < STATUS_COUNT; i++) {
        const struct status_info *s = &status_table[i];
        assert_non_null(s->name);
        assert_non_null(s->openai);
        assert_in_range(s->http, 200, 505);
        assert_in_range(s->grpc, 0, 16);
        assert_int_equal(s->grpc == 0, i == STATUS_OK);
        for (int k = 0; k < i; k++)
            assert_string_not_equal(s->name, status_table[k].name);
    }
    assert_int_equal(status_table[STATUS_BAD_ANSWER].grpc, 14);
    assert_int_equal(status_table[STATUS_QUOTA].grpc, 8);
    assert_false(status_table[STATUS_BAD_REQUEST].retryable);
    assert_false(status_table[STATUS_POISON].retryable);
    assert_true(status_table[STATUS_WORKER_LOST].counts);
    assert_int_equal(status_from_grpc(0), STATUS_OK);
    assert_int_equal(status_from_grpc(3), STATUS_BAD_REQUEST);
    assert_int_equal(status_from_grpc(14), STATUS_WORKER_LOST);
    assert_int_equal(status_from_grpc(17), STATUS_INTERNAL);
    for (unsigned i = 1; i < 40; i++)
        assert_int_not_equal(status_from_grpc(i), STATUS_OK);
}

static void error_text_is_printable(void **state)
{
    struct error e;
    char longer[600];
    memset(longer, 'a', sizeof(longer));
    longer[599] = 0;
    assert_false(error_set(&e, STATUS_BAD_REQUEST, "a\nb\033\x80%s", "\r"));
    assert_string_equal(e.text, "a\nb???");
    error_set(&e, STATUS_QUOTA, "%s", longer);
    assert_int_equal(strlen(e.text), sizeof(e.text) - 1);
}

static void texts_become_utf8(void **state)
{
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"", ""},
        {"a\tb\nc", "a\tb\nc"},
        {"\r\x01\x7f", "???"},
        {"gr\xc3\xb6\xc3\x9f"
         "er \xe2\x82\xac \xf0\x9f\x98\x80.",
         "gr\xc3\xb6\xc3\x9f"
         "er \xe2\x82\xac \xf0\x9f\x98\x80."},
        {"\xff.\xc0\xaf.\xed\xa0\x80.\xf4\x90\x80\x80.",
         "?.??.???.????."}, // overlong, surrogate, past the last
        {"\xc2\x9b"
         "31m",
         "??31m"},              // a control character of two bytes
        {"a\xe2\x82.", "a??."}, // not whole, in the middle
        {"a\xe2\x82", "a"},     // cut there
        {"a\xf0\x9f\x98", "a"},
        {"a\xc3", "a"},
        {"a\xff", "a?"}, // begins nothing
        {"a\x80", "a?"},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[64];
        strcpy(text, rows[i].in);
        size_t n = text_clean(text, strlen(text));
        assert_string_equal(text, rows[i].out);
        assert_int_equal(n, strlen(rows[i].out));
    }
    char nul[] = "a\0b";
    assert_int_equal(text_clean(nul, 3), 3);
    assert_string_equal(nul, "a?b");
}

static void a_failure_keeps_its_text(void **state)
{
    static struct block_owner blocks; // aligned as it asks for
    char words[FAILURE_WORDS + 2];
    block_owner_init(&blocks);
    block_owner_adopt(&blocks);
    struct failure f = failure_format(&blocks, STATUS_QUOTA, "%d \xc3\xa9", 7);
    assert_int_equal(f.status, STATUS_QUOTA);
    assert_string_equal(f.text, "7 \xc3\xa9");
    block_unref(f.block);
    memset(words, 'a', sizeof(words));
    memcpy(words + FAILURE_WORDS - 1, "\xc3\xa9", 2); // of which the first byte is within the bound
    f = failure_quote(&blocks, STATUS_INTERNAL, "it says: ", view_of(words, sizeof(words)));
    assert_int_equal(strlen(f.text), 9 + FAILURE_WORDS - 1);
    assert_memory_equal(f.text, "it says: aaa", 12);
    assert_true(f.block->bytes > strlen(f.text));
    block_unref(f.block);
    f = failure_quote(&blocks, STATUS_INTERNAL, "it says: ", (struct view){0});
    assert_string_equal(f.text, "it says: ");
    block_unref(f.block);
    block_owner_trim(&blocks);
    mem_fail_at(1);
    f = failure_quote(&blocks, STATUS_INTERNAL, "it says: ", VIEW("no"));
    mem_fail_at(0);
    assert_int_equal(f.status, STATUS_INTERNAL);
    assert_string_equal(f.text, "out of memory: the reason could not be kept");
    assert_null(f.block);
    block_owner_deinit(&blocks);
}

static bool count(const int64_t *shape, unsigned rank, uint64_t *n)
{
    struct tensor t = {.rank = (uint8_t)rank};
    if (rank > 0)
        memcpy(t.shape, shape, rank * sizeof(*shape));
    return tensor_count(&t, n);
}

static bool size(enum dtype dtype, const int64_t *shape, unsigned rank, uint64_t *bytes)
{
    struct tensor t = {.dtype = dtype, .rank = (uint8_t)rank};
    if (rank > 0)
        memcpy(t.shape, shape, rank * sizeof(*shape));
    return tensor_size(&t, bytes);
}

static void sizes(void **state)
{
    uint64_t n;
    assert_true(count(NULL, 0, &n));
    assert_int_equal(n, 1);
    assert_true(count((int64_t[]){2, 0, 3}, 3, &n));
    assert_int_equal(n, 0);
    assert_false(count((int64_t[]){-1}, 1, &n));
    assert_false(count((int64_t[]){1LL << 32, 1LL << 32}, 2, &n));
    assert_false(count((int64_t[]){1LL << 62, 4}, 2, &n));
    assert_false(count((int64_t[]){0, 1LL << 62, 4}, 3, &n));
    assert_false(count((int64_t[]){1LL << 62, 4, 0}, 3, &n));
    assert_true(count((int64_t[]){1LL << 62}, 1, &n));
    assert_false(size(DT_FP32, (int64_t[]){1LL << 62}, 1, &n)); // the count fits, bytes do not
    assert_true(size(DT_FP64, (int64_t[]){3, 5}, 2, &n));
    assert_int_equal(n, 120);
    assert_false(size(DT_BYTES, (int64_t[]){1}, 1, &n));
    assert_false(size(DT_INVALID, (int64_t[]){1}, 1, &n));
    for (int d = 1; d < DT_COUNT; d++)
        assert_int_equal(dtype_of(view_str(dtype_table[d].name)), d);
    assert_int_equal(dtype_of(VIEW("fp32")), DT_INVALID);
    assert_int_equal(dtype_of(VIEW("")), DT_INVALID);
    assert_int_equal(dtype_of(VIEW("INVALID")), DT_INVALID);
    const uint8_t two[] = "\1\0\0\0a\0\0\0\0";
    assert_true(tensor_bytes_check(two, 9, 2));
    assert_false(tensor_bytes_check(two, 9, 1));
    assert_false(tensor_bytes_check(two, 9, 3));
    assert_false(tensor_bytes_check(two, 8, 2));
    assert_false(tensor_bytes_check((const uint8_t *)"\xff\xff\xff\xff", 4, 1));
    assert_true(tensor_bytes_check(NULL, 0, 0));
    assert_false(tensor_bytes_check(two, 9, UINT64_MAX));
}

// A walk in steps ends as the walk in one go does.
// The ninth dimension and those behind it lie elsewhere: nobody can tell.
static void many_dimensions(void **state)
{
    static const int64_t dims[TENSOR_MAX_RANK] = {3, 1, 2, 1, 2, 1, 1, 1, 5, 1, 7, 2, 1, 1, 1, 2};
    struct arena a;
    uint64_t n;
    arena_init(&a, 0);
    for (unsigned rank = 0; rank <= TENSOR_MAX_RANK; rank++) {
        struct tensor t = {.dtype = DT_FP32}, copy;
        uint64_t want = 1;
        assert_true(tensor_set_shape(&a, &t, dims, rank));
        assert_int_equal(t.rank, rank);
        for (unsigned i = 0; i < rank; i++) {
            assert_int_equal(tensor_dim(&t, i), dims[i]);
            want *= (uint64_t)dims[i];
        }
        assert_true(tensor_count(&t, &n));
        assert_int_equal(n, want);
        assert_true(tensor_size(&t, &n));
        assert_int_equal(n, 4 * want);
        copy = t;
        assert_true(tensor_own_shape(&a, &copy));
        assert_true(tensor_same_shape(&t, &copy));
        if (rank == 0)
            continue;
        tensor_set_dim(&copy, rank - 1, 1 << 20);
        assert_int_equal(tensor_dim(&t, rank - 1), dims[rank - 1]);
        assert_false(tensor_same_shape(&t, &copy));
        tensor_set_dim(&copy, rank - 1, -1);
        assert_false(tensor_count(&copy, &n));
        copy = t;
        copy.rank--;
        assert_false(tensor_same_shape(&t, &copy));
    }
    arena_deinit(&a);
}

static void walks(void **state)
{
    static const struct {
        struct view data;
        uint64_t count;
        bool right;
    } rows[] = {
        {{"\1\0\0\0a\0\0\0\0\2\0\0\0bc", 15}, 3, true},
        {{"\1\0\0\0a\0\0\0\0\2\0\0\0bc", 15}, 2, false},
        {{"\1\0\0\0a\0\0\0\0\3\0\0\0bc", 15}, 3, false},
        {{"\0\0\0\0\0\0\0\0\0\0", 10}, 2, false},
        {{"", 0}, 0, true},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const uint8_t *data = (const uint8_t *)rows[i].data.p;
        for (uint64_t most = 1; most < 5; most++) {
            struct tensor_walk w = {0};
            enum tensor_walk_end end;
            unsigned steps = 0;
            while ((end = tensor_bytes_walk(&w, data, rows[i].data.n, rows[i].count, most)) ==
                   WALK_MORE)
                assert_true(++steps < 4);
            assert_int_equal(end, rows[i].right ? WALK_RIGHT : WALK_WRONG);
        }
        assert_int_equal(tensor_bytes_check(data, rows[i].data.n, rows[i].count), rows[i].right);
    }
}

static void names(void **state)
{
    char name[130];
    memset(name, 'n', sizeof(name));
    assert_true(model_name_ok(VIEW("digits-small_1.2")));
    assert_true(model_name_ok(VIEW("c++@v1~2")));
    assert_true(model_name_ok(view_of(name, 128)));
    assert_false(model_name_ok(view_of(name, 129)));
    static const char *const bad[] = {"",      ".",        "..",  "a/b", "a b",
                                      "a%2fb", "\xc3\xa9", "a\n", "a:b", "a%2Bb"};
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(model_name_ok(view_str(bad[i])));
    assert_false(model_name_ok(view_of("a\0b", 3)));
}

static struct infer_request request(struct tensor *in, unsigned n)
{
    return (struct infer_request){.model = VIEW("m"), .inputs = in, .n_inputs = (uint16_t)n};
}

static void batch_keys(void **state)
{
    struct tensor a = {
        .name = VIEW("x"), .dtype = DT_FP32, .rank = 2, .shape = {1, 4}, .bytes = 16};
    struct infer_request base = request(&a, 1);
    request_seal(&base);
    assert_int_equal(base.rows, 1);
    assert_int_equal(base.bytes, 16);
    assert_false(base.sequence);

#define SAME(expect, ...)                                                                          \
    do {                                                                                           \
        struct tensor t[2] = {a, a};                                                               \
        struct requested_output o = {.name = VIEW("y")};                                           \
        struct infer_request r = request(t, 1);                                                    \
        (void)o;                                                                                   \
        __VA_ARGS__;                                                                               \
        request_seal(&r);                                                                          \
        assert_int_equal(hash128_eq(base.batch_key, r.batch_key), expect);                         \
    } while (0)
    SAME(true, (void)0);
    SAME(true, t[0].shape[0] = 7); // other rows, same company
    SAME(true, r.id = VIEW("other"));
    SAME(true, r.timeout_us = 5);
    SAME(true, r.binary_output = true);
    SAME(true, r.model = VIEW("n")); // the client's words: what counts is the target
    SAME(true, r.version = VIEW("1"));
    SAME(false, t[0].name = VIEW("z"));
    SAME(false, t[0].dtype = DT_INT32);
    SAME(false, t[0].shape[1] = 5);
    SAME(false, t[0].rank = 1);
    SAME(false, r.n_inputs = 2);
    SAME(false, (r.outputs = &o, r.n_outputs = 1));
    // a dimension that does not lie in the tensor itself
    int64_t more[4] = {1, 1, 1, 2}, other[4] = {1, 1, 1, 3};
    struct tensor deep = a, deeper;
    deep.rank = 12;
    deep.more = more;
    deeper = deep;
    deeper.more = other;
    struct infer_request of_deep = request(&deep, 1), of_deeper = request(&deeper, 1);
    request_seal(&of_deep);
    request_seal(&of_deeper);
    assert_false(hash128_eq(of_deep.batch_key, of_deeper.batch_key));
    other[3] = 2;
    request_seal(&of_deeper);
    assert_true(hash128_eq(of_deep.batch_key, of_deeper.batch_key));
    // names longer than the key's run
    char name[3000];
    memset(name, 'q', sizeof(name));
    struct tensor l = a;
    l.name = view_of(name, sizeof(name));
    struct infer_request one = request(&l, 1), two = one;
    request_seal(&one);
    name[2999] = 'r';
    request_seal(&two);
    assert_false(hash128_eq(one.batch_key, two.batch_key));
    one.sequence_id = 5;
    request_seal(&one);
    assert_true(one.sequence);
    // no shared first dimension
    struct tensor t[2] = {a, a};
    t[1].shape[0] = 2;
    struct infer_request r = request(t, 2);
    request_seal(&r);
    assert_int_equal(r.rows, 0);
    t[1].shape[0] = t[0].shape[0] = 0;
    request_seal(&r);
    assert_int_equal(r.rows, 0);
    t[1].rank = 0;
    request_seal(&r);
    assert_int_equal(r.rows, 0);
}

// Who has other parameters shares no batch; in what order they come means nothing.
static void batch_keys_of_parameters(void **state)
{
    struct param at[] = {{.key = VIEW("a"), .type = PARAM_INT64, .i = 1},
                         {.key = VIEW("b"), .type = PARAM_STRING, .s = VIEW("x")},
                         {.key = VIEW("a"), .type = PARAM_INT64, .i = 1}};
    struct params ab = {at, 2, 2}, ba = {at + 1, 2, 2}, b = {at + 1, 1, 1};
    enum { FORMS = 9 };
    struct hash128 key[FORMS];
    for (unsigned form = 0; form < FORMS; form++) {
        struct tensor in[2] = {{.name = VIEW("x"), .dtype = DT_FP32, .rank = 1, .shape = {1}},
                               {.name = VIEW("y"), .dtype = DT_FP32, .rank = 1, .shape = {1}}};
        struct requested_output out = {.name = VIEW("z")};
        struct infer_request r = request(in, 2);
        r.outputs = &out;
        r.n_outputs = 1;
        r.params = at;
        r.n_params = form == 1 ? 1 : form == 2 ? 2 : 0;
        in[0].params = form == 3 ? &ab : form == 4 ? &b : NULL;
        in[1].params = form == 5 ? &ab : NULL;
        out.params = form == 6 ? &ab : NULL;
        if (form == 7)
            at[0].type = PARAM_UINT64, in[0].params = &ab;
        if (form == 8)
            at[0].type = PARAM_INT64, in[0].params = &ba;
        request_seal(&r);
        assert_false(r.sequence);
        key[form] = r.batch_key;
    }
    for (unsigned i = 0; i < FORMS; i++)
        for (unsigned k = 0; k < i; k++)
            assert_int_equal(hash128_eq(key[i], key[k]), i == 8 && k == 3);
}

static void slices(void **state)
{
    static const uint8_t data[] = "\1\0\0\0a\0\0\0\0\2\0\0\0bc";
    const uint64_t offsets[] = {0, 5, 9, 15};
    const uint64_t *rows[2] = {NULL, offsets};
    struct tensor out[2] = {
        {.dtype = DT_INT8, .rank = 2, .shape = {3, 5}, .data = data, .bytes = 15},
        {.dtype = DT_BYTES, .rank = 2, .shape = {3, 1}, .data = data, .bytes = 15}};
    struct answer a = {.outputs = out, .n_outputs = 2, .rows = 3, .row_offsets = rows};
    struct slice s = {&a, 1, 2, NULL};
    struct tensor t = slice_output(&s, 0);
    assert_ptr_equal(t.data, data + 5);
    assert_int_equal(t.bytes, 10);
    assert_int_equal(t.shape[0], 2);
    t = slice_output(&s, 1);
    assert_ptr_equal(t.data, data + 5);
    assert_int_equal(t.bytes, 10);
    s = (struct slice){&a, 2, 1, NULL};
    t = slice_output(&s, 1);
    assert_int_equal(t.bytes, 6);
    s = (struct slice){&a, 0, 0, NULL};
    assert_int_equal(slice_output(&s, 1).bytes, 15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(status_table_is_whole),
        cmocka_unit_test(error_text_is_printable),
        cmocka_unit_test(texts_become_utf8),
        cmocka_unit_test(a_failure_keeps_its_text),
        cmocka_unit_test(sizes),
        cmocka_unit_test(many_dimensions),
        cmocka_unit_test(walks),
        cmocka_unit_test(names),
        cmocka_unit_test(batch_keys),
        cmocka_unit_test(batch_keys_of_parameters),
        cmocka_unit_test(slices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
