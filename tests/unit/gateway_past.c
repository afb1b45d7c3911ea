/* gateway/past: what a loop remembers of its last requests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/mem.h"
#include "gateway/past.h"
#include <stdio.h>

static struct past past;

static void open_past(uint32_t n)
{
    assert_true(past_init(&past, n));
}

static int teardown(void **state)
{
    (void)state;
    mem_fail_at(0);
    past_deinit(&past);
    return mem_live() == 0 ? 0 : -1;
}

static struct past_request *add(const char *id)
{
    return past_add(&past, (struct view[PAST_WORDS]){view_str(id)});
}

static const struct past_request *find(const char *id)
{
    return past_find(&past, view_str(id));
}

static void the_last_ones(void **state)
{
    (void)state;
    char id[16];
    open_past(5);
    assert_null(find("r1"));
    assert_null(find(""));
    for (uint32_t i = 1; i <= 23; i++) {
        snprintf(id, sizeof(id), "r%u", i);
        add(id)->rows = i;
        for (uint32_t k = 1; k <= i; k++) {
            snprintf(id, sizeof(id), "r%u", k);
            const struct past_request *r = find(id);
            if (k + 5 <= i)
                assert_null(r);
            else
                assert_int_equal(r->rows, k);
        }
    }
    assert_null(find("r2")); // as r23 begins
    assert_null(find("r234"));
    add("a-long-id-of-one");
    add("a-long-id-of-another");
    assert_null(find("a-long-id-of-on"));
    assert_null(find("b-long-id-of-one"));
    assert_non_null(find("a-long-id-of-one"));
}

static void one_slot(void **state)
{
    (void)state;
    open_past(1);
    add("a");
    assert_non_null(find("a"));
    add("b");
    assert_null(find("a"));
    assert_int_equal(find("b")->number, 2);
}

// A client that repeats its id means what it asked last.
static void the_newest_of_an_id(void **state)
{
    (void)state;
    open_past(3);
    add("a")->rows = 1;
    add("b")->rows = 2;
    add("a")->rows = 3;
    assert_int_equal(find("a")->rows, 3);
    add("c");
    add("b")->rows = 5; // over the one slot behind the first a
    assert_int_equal(find("a")->rows, 3);
    assert_int_equal(find("b")->rows, 5);
    add("d");
    assert_null(find("a"));
}

// Its tickets come home when it has long been told: only if it is still there.
static void by_number(void **state)
{
    (void)state;
    open_past(2);
    uint64_t a = add("a")->number;
    add("b");
    assert_ptr_equal(past_at(&past, a), find("a"));
    add("c");
    assert_null(past_at(&past, a));
    assert_non_null(past_at(&past, a + 2));
}

static void said(const struct past_request *r, enum past_word word, const char *want)
{
    struct view got = past_text(r, word);
    assert_int_equal(got.n, strlen(want));
    assert_memory_equal(got.p, want, got.n);
}

static void texts(void **state)
{
    (void)state;
    open_past(1);
    const struct view words[PAST_WORDS] = {[PAST_WORD_ID] = VIEW("id"),
                                           [PAST_WORD_CLIENT] = VIEW("::1"),
                                           [PAST_WORD_ASKED] = VIEW("digits"),
                                           [PAST_WORD_WHY] = VIEW("the queue is full")};
    const struct past_request *r = past_add(&past, words);
    said(r, PAST_WORD_ID, "id");
    said(r, PAST_WORD_CLIENT, "::1");
    said(r, PAST_WORD_ASKED, "digits");
    said(r, PAST_WORD_ANSWERED, "");
    said(r, PAST_WORD_VERSION, "");
    said(r, PAST_WORD_WHY, "the queue is full");
    r = add("x"); // nothing is left of the one that was there
    said(r, PAST_WORD_ID, "x");
    said(r, PAST_WORD_CLIENT, "");
    said(r, PAST_WORD_WHY, "");
}

static void long_texts_are_cut(void **state)
{
    (void)state;
    char text[2 * PAST_TEXT];
    memset(text, 'x', sizeof(text));
    struct view all = view_of(text, sizeof(text));
    open_past(1);
    struct view words[PAST_WORDS] = {view_of(text, PAST_ID)};
    for (unsigned w = 1; w < PAST_WORDS; w++)
        words[w] = all;
    const struct past_request *r = past_add(&past, words);
    size_t sum = 0;
    for (unsigned w = 0; w < PAST_WORDS; w++)
        sum += past_text(r, (enum past_word)w).n;
    assert_int_equal(past_text(r, PAST_WORD_ID).n, PAST_ID); // never
    assert_int_equal(past_text(r, PAST_WORD_ANSWERED).n, PAST_NAME);
    assert_int_equal(past_text(r, PAST_WORD_ATTEMPTS).n, PAST_TRIED);
    assert_int_equal(sum, PAST_TEXT);
    assert_true(past_text(r, PAST_WORD_WHY).n >= 128);
    assert_ptr_equal(past_find(&past, view_of(text, PAST_ID)), r);
    assert_null(past_find(&past, view_of(text, PAST_ID - 1)));
}

static void nothing_is_remembered(void **state)
{
    (void)state;
    open_past(0);
    assert_int_equal(past.n, 0);
    assert_null(find("a"));
}

static void another_number(void **state)
{
    (void)state;
    open_past(4);
    for (unsigned i = 0; i < 6; i++)
        add("a");
    assert_true(past_resize(&past, 4)); // the same: nothing is forgotten
    assert_int_equal(find("a")->number, 6);
    assert_true(past_resize(&past, 2));
    assert_null(find("a"));
    assert_null(past_at(&past, 6)); // whose tickets come home now
    assert_int_equal(add("b")->number, 7);
    assert_int_equal(find("b")->number, 7);
    assert_null(find("")); // a slot that nobody has had is nobody's
    assert_true(past_resize(&past, 0));
    assert_null(find("b"));
    assert_null(past_at(&past, 7));
    for (unsigned n = 1; n <= 2; n++) {
        mem_fail_at(n);
        assert_false(past_resize(&past, 3));
        mem_fail_at(0);
        assert_int_equal(past.n, 0);
    }
    assert_true(past_resize(&past, 3));
    assert_int_equal(add("c")->number, 8);
    mem_fail_at(2);
    assert_false(past_resize(&past, 5));
    mem_fail_at(0);
    assert_int_equal(find("c")->number, 8); // as before
}

static void no_memory(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= 2; n++) {
        mem_fail_at(n);
        assert_false(past_init(&past, 4));
        mem_fail_at(0);
        past_deinit(&past);
    }
    open_past(4);
}

#define TEST(f) cmocka_unit_test_teardown(f, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_last_ones),
        TEST(one_slot),
        TEST(the_newest_of_an_id),
        TEST(by_number),
        TEST(texts),
        TEST(long_texts_are_cut),
        TEST(nothing_is_remembered),
        TEST(no_memory),
        TEST(another_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
