/* infer/memo: what is recalled of a body is what the decoder makes of it; who is told apart; what is bounded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/count.h"
#include "base/mem.h"
#include "base/rand.h"
#include "infer/cache_key.h"
#include "infer/memo.h"
#include "infer/oip_json.h"

#define MIB ((uint64_t)1 << 20)

static struct memo memo;
static uint8_t secret[SIPHASH_KEY];
static struct cache_key key;
static struct arena arena;

static int setup(void **state)
{
    arena_init(&arena, 0);
    memset(secret, 7, sizeof(secret));
    memo_bound(&memo, MIB);
    return 0;
}

static int teardown(void **state)
{
    memo_bound(&memo, 0);
    assert_int_equal(count_get(&memo.bytes), 0);
    assert_null(memo.newest);
    memo = (struct memo){0};
    arena_deinit(&arena);
    return 0;
}

static struct memo_ask ask_of(struct view body)
{
    return (struct memo_ask){
        .memo = &memo, .secret = secret, .parts = {body, VIEW("m"), VIEW("3")}, .key = &key};
}

static struct cache_key key_of(const struct infer_request *r)
{
    struct cache_keying k;
    struct cache_key out;
    cache_key_begin(&k, r, VIEW(""), secret);
    assert_true(cache_key_step(&k, SIZE_MAX, &out));
    return out;
}

static void decode(struct arena *a, struct view body, struct infer_request *out)
{
    struct error e = {0};
    *out = (struct infer_request){0};
    if (!oip_json_decode(a, body, VIEW(""), out, &e))
        fail_msg("%s", e.text);
}

// As a gateway does it with a body that is not known. False: it is known.
static bool keep(struct memo_ask *a, uint64_t answer, struct view printed)
{
    struct infer_request r;
    if (memo_recall(a, &arena, &r))
        return false;
    decode(&arena, a->parts[0], &r);
    key = key_of(&r);
    a->keyed = true;
    memo_keep(a, &r, answer, printed);
    return true;
}

static bool known(struct memo_ask a)
{
    struct infer_request r;
    return memo_recall(&a, &arena, &r);
}

// ---- what is recalled ----------------------------------------------------------------------------------

static void same_params(const struct param *a, const struct param *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        assert_true(view_eq(a[i].key, b[i].key) && a[i].type == b[i].type);
        assert_true(view_eq(a[i].s, b[i].s));
        if (a[i].type == PARAM_BOOL)
            assert_int_equal(a[i].b, b[i].b);
        else
            assert_int_equal(a[i].u, b[i].u);
    }
}

static void same_list(const struct params *a, const struct params *b)
{
    assert_int_equal(a ? a->n : 0, b ? b->n : 0);
    if (a)
        same_params(a->at, b->at, a->n);
}

static void same_request(const struct infer_request *a, const struct infer_request *b)
{
    assert_true(view_eq(a->id, b->id));
    assert_int_equal(a->n_inputs, b->n_inputs);
    assert_int_equal(a->n_outputs, b->n_outputs);
    assert_int_equal(a->n_params, b->n_params);
    assert_int_equal(a->format, b->format);
    assert_int_equal(a->binary_output, b->binary_output);
    assert_int_equal(a->priority, b->priority);
    assert_int_equal(a->timeout_us, b->timeout_us);
    assert_int_equal(a->rows, b->rows);
    assert_int_equal(a->bytes, b->bytes);
    assert_true(hash128_eq(a->batch_key, b->batch_key));
    same_params(a->params, b->params, a->n_params);
    for (unsigned i = 0; i < a->n_inputs; i++) {
        const struct tensor *t = &a->inputs[i], *u = &b->inputs[i];
        assert_true(view_eq(t->name, u->name) && t->dtype == u->dtype && tensor_same_shape(t, u));
        assert_true(view_eq(view_of(t->data, t->bytes), view_of(u->data, u->bytes)));
        same_list(t->params, u->params);
    }
    for (unsigned i = 0; i < a->n_outputs; i++) {
        const struct requested_output *o = &a->outputs[i], *p = &b->outputs[i];
        assert_true(view_eq(o->name, p->name) && o->binary == p->binary);
        assert_int_equal(o->classification, p->classification);
        same_list(o->params, p->params);
    }
}

static const char *const bodies[] = {
    "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1,2],\"data\":[1,2.5]}]}",
    "{\"id\":\"q\\\"7\",\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1,2],\"data\":"
    "[1,2]}]}",
    "{\"parameters\":{\"priority\":3,\"timeout\":70,\"mine\":\"a\\u00e9\",\"n\":-4,\"d\":0.5,\"t\":"
    "true},"
    "\"inputs\":[{\"name\":\"a\",\"datatype\":\"INT64\",\"shape\":[2,1],\"data\":[1,2]},"
    "{\"name\":\"b\",\"parameters\":{\"k\":\"v\",\"l\":2},\"datatype\":\"BYTES\",\"shape\":[2],"
    "\"data\":[\"\",\"two\"]}],"
    "\"outputs\":[{\"name\":\"y\",\"parameters\":{\"classification\":3,\"o\":\"p\"}},"
    "{\"name\":\"z\",\"parameters\":{\"binary_data\":true}}]}",
    "{\"parameters\":{\"binary_data_output\":true},"
    "\"inputs\":[{\"name\":\"x\",\"datatype\":\"UINT8\",\"shape\":[1,1,1,1,1,1,1,1,1,2],\"data\":["
    "1,2]}]}",
    "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"BOOL\",\"shape\":[0],\"data\":[]}]}",
};

static void what_is_recalled_is_what_is_decoded(void **state)
{
    for (unsigned i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        char text[1024];
        struct arena its;
        struct infer_request fresh, back;
        arena_init(&its, 0);
        snprintf(text, sizeof(text), "%s", bodies[i]);
        struct memo_ask first = ask_of(view_str(text)), second;
        assert_false(memo_recall(&first, &its, &back));
        decode(&its, view_str(text), &fresh);
        key = key_of(&fresh);
        first.keyed = first.anybody = true;
        memo_keep(&first, &fresh, i + 1, VIEW(""));
        memset(text, 'x', sizeof(text)); // its memory goes
        arena_deinit(&its);
        decode(&arena, view_str(bodies[i]), &fresh);
        second = ask_of(view_str(bodies[i]));
        key = (struct cache_key){0};
        assert_true(memo_recall(&second, &arena, &back));
        same_request(&back, &fresh);
        struct cache_key mine = key_of(&back), theirs = key_of(&fresh);
        assert_memory_equal(&mine, &theirs, sizeof(mine));
        assert_memory_equal(&key, &theirs, sizeof(key));
        assert_true(second.keyed && second.anybody);
    }
    assert_int_equal(count_get(&memo.hits), sizeof(bodies) / sizeof(bodies[0]));
}

// ---- who is told apart ---------------------------------------------------------------------------------

static void every_part_tells_apart(void **state)
{
    struct view body = view_str(bodies[0]);
    struct memo_ask a = ask_of(body), b;
    assert_true(keep(&a, 1, VIEW("")));
    assert_true(known(ask_of(body)));
    for (unsigned i = 0; i < MEMO_PARTS; i++) {
        char other[256];
        b = ask_of(body);
        snprintf(other, sizeof(other), "%.*s ", VIEW_ARG(b.parts[i]));
        b.parts[i] = view_str(other);
        assert_false(known(b));
        b.parts[i] = b.parts[i].p && a.parts[i].p ? (struct view){0} : VIEW(""); // absent, or empty
        assert_false(known(b));
    }
    b = ask_of(body);
    b.parts[1] = VIEW("m3"), b.parts[2] = VIEW("");
    assert_false(known(b));
    b = ask_of(body);
    b.parts[3] = b.parts[2], b.parts[2] = (struct view){0};
    assert_false(known(b));
    secret[3]++;
    assert_false(known(ask_of(body)));
    secret[3]--;
    assert_true(known(ask_of(body)));
}

static void each_byte_of_a_body_tells_apart(void **state)
{
    char text[256];
    struct memo_ask a = ask_of(view_str(bodies[0]));
    keep(&a, 1, VIEW(""));
    size_t n = (size_t)snprintf(text, sizeof(text), "%s", bodies[0]);
    for (size_t i = 0; i < n * 8; i++) {
        text[i / 8] ^= (char)(1 << i % 8);
        assert_false(known(ask_of(view_of(text, n))));
        text[i / 8] ^= (char)(1 << i % 8);
    }
    for (size_t i = 0; i < n; i++)
        assert_false(known(ask_of(view_of(text, i))));
    assert_true(known(ask_of(view_of(text, n))));
}

// ---- what is kept of it --------------------------------------------------------------------------------

static void is_printed(struct memo_ask *a, uint64_t answer, const char *want)
{
    struct view v = memo_printed(a, answer);
    assert_int_equal(v.n, strlen(want));
    assert_memory_equal(v.p ? v.p : "", want, v.n);
}

static void an_answer_is_printed_for_itself(void **state)
{
    struct memo_ask a = ask_of(view_str(bodies[0])), b = ask_of(view_str(bodies[1]));
    is_printed(&a, 7, ""); // it was not asked yet
    keep(&a, 7, VIEW("seven"));
    keep(&b, 8, VIEW(""));
    is_printed(&a, 7, "seven");
    is_printed(&a, 8, "");
    is_printed(&a, 0, "");
    is_printed(&b, 8, "");
    struct infer_request r;
    struct memo_ask again = ask_of(view_str(bodies[0]));
    assert_true(memo_recall(&again, &arena, &r));
    memo_keep(&again, &r, 7, VIEW("it has one"));
    is_printed(&again, 7, "seven");
    memo_keep(&again, &r, 9, VIEW("nine"));
    is_printed(&again, 7, "");
    is_printed(&again, 9, "nine");
    assert_true(known(again));
}

static void what_is_not_kept(void **state)
{
    static char text[MEMO_ENTRY_BYTES];
    struct infer_request r;
    struct memo_ask a = ask_of(view_str(bodies[0]));
    decode(&arena, view_str(bodies[0]), &r);
    memo_keep(&a, &r, 1, VIEW("")); // it was not looked for
    assert_false(memo_recall(&a, &arena, &r));
    decode(&arena, view_str(bodies[0]), &r);
    memo_keep(&a, &r, 1, VIEW("")); // it has no key
    a.keyed = true;
    memo_keep(&a, &r, 0, VIEW("")); // its answer is not kept
    assert_false(known(a));
    memo_keep(&a, &r, 1,
              view_of(text, sizeof(text))); // the answer is too large, the question is not
    assert_true(known(a));
    is_printed(&a, 1, "");
    struct tensor large = {.dtype = DT_UINT8, .data = (uint8_t *)text, .bytes = sizeof(text)};
    r = (struct infer_request){.inputs = &large, .n_inputs = 1};
    memo_keep(&a, &r, 2, VIEW(""));
    assert_false(known(a));
}

// ---- bounds --------------------------------------------------------------------------------------------

static struct memo_ask numbered(unsigned i, char text[128])
{
    int n = snprintf(text, 128,
                     "{\"id\":\"%u\",\"inputs\":[{\"name\":\"x\",\"datatype\":\"BOOL\",\"shape\":["
                     "0],\"data\":[]}]}",
                     i);
    return ask_of(view_of(text, (size_t)n));
}

static void no_more_than_the_bound(void **state)
{
    struct rand rand;
    char text[128];
    int64_t before = mem_live();
    rand_seed(&rand, 5);
    for (unsigned i = 0; i < 100000; i++) {
        struct memo_ask a = numbered((unsigned)rand_below(&rand, 4000), text);
        static char printed[2000];
        keep(&a, i + 1, view_of(printed, rand_below(&rand, sizeof(printed))));
        assert_true(count_get(&memo.bytes) <= memo.bound);
        if (i % 1000 == 0)
            memo_bound(&memo, rand_below(&rand, MIB));
        if (i % 1000 == 0)
            assert_true(count_get(&memo.bytes) <= memo.bound);
        arena_reset(&arena);
    }
    memo_bound(&memo, 0);
    assert_int_equal(count_get(&memo.bytes), 0);
    arena_deinit(&arena);
    assert_int_equal(mem_live(), before);
}

// Who is asked for stays while others come and go; all of it is used.
static void who_is_asked_for_stays(void **state)
{
    char text[128];
    struct memo_ask a = numbered(0, text);
    keep(&a, 1, VIEW(""));
    for (unsigned i = 1; i < 20000; i++) {
        a = numbered(i, text);
        assert_true(keep(&a, i + 1, VIEW("")));
        assert_true(known(numbered(i, text)));
        if (i % 100 == 0)
            assert_true(known(numbered(0, text)));
        arena_reset(&arena);
    }
    assert_false(known(numbered(1, text)));
    assert_true(count_get(&memo.bytes) > MIB - 1024);
}

// Of bodies that never come again few are looked at; those that do change that.
static void looks_in_vain(void **state)
{
    char text[128];
    struct infer_request r;
    unsigned looked = 0, i = 0;
    for (; i < MEMO_VAIN; i++) {
        struct memo_ask a = numbered(i, text);
        assert_true(keep(&a, 1, VIEW("")) && a.named);
        arena_reset(&arena);
    }
    for (; i < MEMO_VAIN + 10 * MEMO_SOME; i++) {
        struct memo_ask a = numbered(i, text);
        assert_true(keep(&a, 1, VIEW("")));
        looked += a.named;
        arena_reset(&arena);
    }
    assert_int_equal(looked, 10);
    for (unsigned k = 0; k < MEMO_SOME; k++) { // the last one that came in comes again
        struct memo_ask a = numbered(i - 1, text);
        looked += memo_recall(&a, &arena, &r);
    }
    assert_int_equal(looked, 11);
    for (unsigned k = 0; k < 1000; k++) // and again
        assert_true(known(numbered(i - 1, text)));
    assert_int_equal(memo.vain, 0);
}

static void without_memory_it_is_as_if_nobody_had_asked(void **state)
{
    struct memo_ask a = ask_of(view_str(bodies[2]));
    struct infer_request r, back;
    decode(&arena, view_str(bodies[2]), &r);
    for (unsigned n = 1;; n++) {
        a = ask_of(view_str(bodies[2]));
        assert_false(memo_recall(&a, &arena, &back));
        a.keyed = true;
        uint64_t calls = mem_count();
        mem_fail_at(n);
        memo_keep(&a, &r, 1, VIEW("y"));
        mem_fail_at(0);
        if (mem_count() - calls < n)
            break;
    }
    struct arena its;
    arena_init(&its, 0);
    mem_fail_at(1);
    assert_false(memo_recall(&a, &its, &back));
    mem_fail_at(0);
    assert_true(memo_recall(&a, &its, &back));
    same_request(&back, &r);
    arena_deinit(&its);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_recalled_is_what_is_decoded, setup, teardown),
        cmocka_unit_test_setup_teardown(every_part_tells_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(each_byte_of_a_body_tells_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(an_answer_is_printed_for_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_not_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(no_more_than_the_bound, setup, teardown),
        cmocka_unit_test_setup_teardown(who_is_asked_for_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(looks_in_vain, setup, teardown),
        cmocka_unit_test_setup_teardown(without_memory_it_is_as_if_nobody_had_asked, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
