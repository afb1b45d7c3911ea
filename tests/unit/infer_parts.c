/* infer: an answer in parts is written, in every form, to the same bytes as the answer that has all of the rows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/check.h"
#include "infer/oip_grpc.h"
#include "infer/oip_rest.h"

#define ROWS 4099 // more than a step writes
#define LARGE 1024
#define OUTPUTS 4

static struct block_owner owner;
static struct arena arena;
static float floats[2 * ROWS];
static int64_t longs[ROWS];
static uint8_t texts[10 * ROWS], large[ROWS * LARGE];
static size_t text_at[ROWS + 1];

static int setup(void **state)
{
    (void)state;
    block_owner_init(&owner);
    block_owner_adopt(&owner);
    arena_init(&arena, 0);
    uint8_t *at = texts;
    for (uint32_t i = 0; i < ROWS; i++) {
        uint32_t n = i % 6;
        floats[2 * i] = (float)i / 3;
        floats[2 * i + 1] = -(float)i;
        longs[i] = (int64_t)i << 33;
        text_at[i] = (size_t)(at - texts);
        memcpy(at, &n, 4);
        memset(at + 4, 'a' + (int)(i % 26), n);
        at += 4 + n;
        memset(large + i * LARGE, (int)i, LARGE);
    }
    text_at[ROWS] = (size_t)(at - texts);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_deinit(&arena);
    block_owner_deinit(&owner);
    return 0;
}

static struct tensor output(const char *name, enum dtype dtype, uint32_t rows, int64_t columns,
                            const void *data, size_t bytes)
{
    return (struct tensor){.name = view_str(name),
                           .dtype = dtype,
                           .rank = 2,
                           .shape = {rows, columns},
                           .data = bytes ? data : NULL,
                           .bytes = bytes};
}

// What a worker answers to rows [from, from + rows). The second output has no columns.
static struct answer *answer_of(uint32_t from, uint32_t rows)
{
    struct tensor out[OUTPUTS] = {
        output("f", DT_FP32, rows, 2, floats + 2 * from, 8 * rows),
        output("none", DT_FP32, rows, 0, NULL, 0),
        output("l", DT_INT64, rows, 1, longs + from, 8 * rows),
        output("s", DT_BYTES, rows, 1, texts + text_at[from], text_at[from + rows] - text_at[from]),
    };
    struct answer *a = answer_new(block_new(&owner, 8), out, OUTPUTS, rows);
    assert_non_null(a);
    return a;
}

static struct answer *large_of(uint32_t from, uint32_t rows)
{
    struct tensor out = output("u", DT_UINT8, rows, LARGE, large + from * LARGE, rows * LARGE);
    return answer_new(block_new(&owner, 8), &out, 1, rows);
}

static const struct oip_said said = {.model = VIEW("m"), .version = VIEW("1"), .id = VIEW("i")};

// JSON, and the raw tensors behind it, in steps of so many bytes.
static struct view rest_of(const struct slice *s, bool binary, size_t step)
{
    struct infer_request r = {.model = VIEW("m"), .binary_output = binary};
    struct buffer out;
    struct error e;
    struct oip_rest w;
    buffer_init(&out);
    struct oip_seg segs[OUTPUTS * 8];
    oip_rest_begin(&w, &r, s, &said, &out, segs);
    enum oip_step did;
    do {
        size_t done, left;
        oip_rest_progress(&w, &done, &left);
        size_t all = done + left;
        did = oip_rest_step(&w, step, &e);
        oip_rest_progress(&w, &done, &left);
        assert_int_equal(done + left, all);
    } while (did == OIP_MORE);
    assert_int_equal(did, OIP_DONE);
    for (unsigned i = 0; i < w.n_binary; i++) {
        assert_non_null(segs[i].block);
        buffer_append(&out, segs[i].p, segs[i].n);
    }
    struct view text = arena_copy(&arena, buffer_view(&out));
    buffer_deinit(&out);
    return text;
}

static struct view grpc_of(const struct slice *s, unsigned *lent)
{
    struct infer_request r = {.model = VIEW("m")};
    struct oip_message m;
    struct error e;
    struct buffer out;
    bool pins;
    *lent = 0;
    buffer_init(&out);
    assert_true(oip_grpc_write_answer(&arena, &r, s, &said, &m, &pins, &e));
    for (unsigned i = 0; i < m.n; i++) {
        buffer_append(&out, m.segs[i].p, m.segs[i].n);
        *lent += m.segs[i].block != NULL;
        assert_int_equal(m.segs[i].lent, m.segs[i].block != NULL);
    }
    assert_int_equal(buffer_len(&out), m.bytes);
    assert_int_equal(pins, *lent > 0);
    struct view text = arena_copy(&arena, buffer_view(&out));
    buffer_deinit(&out);
    return text;
}

// Rows in parts of these sizes; the last one is a share of an answer that others have a share of, too.
#define PARTS 4
static void in_parts(struct slice part[PARTS], struct answer *(*of)(uint32_t, uint32_t))
{
    static const uint32_t rows[PARTS] = {1, 4000, 2, ROWS - 4003};
    uint32_t from = 0;
    for (unsigned i = 0; i < PARTS; i++) {
        bool shared = i + 1 == PARTS;
        part[i] = (struct slice){.answer = of(from - 2 * shared, rows[i] + 2 * shared),
                                 .row = 2 * shared,
                                 .rows = shared ? rows[i] : 0,
                                 .next = shared ? NULL : &part[i + 1]};
        from += rows[i];
    }
}

static void drop(const struct slice *s)
{
    for (; s; s = s->next)
        block_unref(s->answer->block);
}

static void the_same_json(void **state)
{
    (void)state;
    struct slice whole = {.answer = answer_of(0, ROWS)}, part[PARTS];
    in_parts(part, answer_of);
    for (unsigned binary = 0; binary < 2; binary++) {
        struct view want = rest_of(&whole, binary, SIZE_MAX);
        assert_true(view_eq(rest_of(part, binary, SIZE_MAX), want));
        assert_true(view_eq(rest_of(part, binary, 1000), want));
        assert_true(view_eq(rest_of(part, binary, 1), want));
    }
    drop(&whole);
    drop(part);
}

static void the_same_message(void **state)
{
    (void)state;
    unsigned lent;
    struct slice whole = {.answer = answer_of(0, ROWS)}, part[PARTS];
    in_parts(part, answer_of);
    struct view want = grpc_of(&whole, &lent);
    assert_int_equal(lent, 3);
    assert_true(view_eq(grpc_of(part, &lent), want));
    assert_int_equal(lent, 3); // those of 4,000 rows; the rest is copied
    drop(&whole);
    drop(part);
    whole.answer = large_of(0, ROWS);
    in_parts(part, large_of);
    want = grpc_of(&whole, &lent);
    assert_int_equal(lent, 1);
    assert_true(view_eq(grpc_of(part, &lent), want));
    assert_int_equal(lent, 2);
    drop(&whole);
    drop(part);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(the_same_json), TEST(the_same_message)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
