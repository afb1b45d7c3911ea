/* gateway/chunks: records between a loop and the writer: in order, bounded, none twice; and what goes when it is full. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/mem.h"
#include "gateway/chunks.h"
#include <pthread.h>
#include <string.h>

#define RECORD 8192
#define MOST (8 * (uint64_t)CHUNK_BYTES)
#define A_CHUNK (CHUNK_BYTES / RECORD) // records

static struct chunks q;

static int teardown(void **state)
{
    (void)state;
    mem_fail_at(0);
    chunks_free(&q);
    return mem_live() == 0 ? 0 : -1;
}

static bool put(uint64_t number, bool required, bool promised)
{
    uint8_t *to = chunks_room(&q, RECORD, promised, MOST);
    if (!to)
        return false;
    memcpy(to, &number, sizeof(number));
    chunks_add(&q, RECORD, required);
    return true;
}

// The numbers of the next chunk, of which the first has to be `first`. False: none is there.
static bool take(uint64_t first, unsigned n)
{
    struct chunk *c = chunks_take(&q);
    if (!c)
        return false;
    assert_int_equal(c->records, n);
    assert_int_equal(c->used, n * RECORD);
    for (unsigned i = 0; i < n; i++) {
        uint64_t number;
        memcpy(&number, c->data + i * RECORD, sizeof(number));
        assert_int_equal(number, first + i);
    }
    chunk_free(c);
    return true;
}

static void in_order(void **state)
{
    (void)state;
    assert_null(chunks_take(&q));
    for (uint64_t i = 0; i < 3 * A_CHUNK + 1; i++)
        assert_true(put(i, false, false));
    for (unsigned i = 0; i < 3; i++)
        assert_true(take(i * A_CHUNK, A_CHUNK));
    assert_null(chunks_take(&q)); // the fourth is being filled
    assert_true(chunks_hand(&q));
    assert_true(take(3 * A_CHUNK, 1));
    assert_true(chunks_hand(&q)); // nothing
    assert_null(chunks_take(&q));
}

// While the writer has not taken what it has, more joins what is being filled.
static void it_fills_up(void **state)
{
    (void)state;
    put(0, false, false);
    assert_true(chunks_hand(&q));
    put(1, false, false);
    assert_false(chunks_hand(&q));
    put(2, false, false);
    assert_true(take(0, 1));
    assert_true(chunks_hand(&q));
    assert_true(take(1, 2));
}

static void the_oldest_go(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 10 * A_CHUNK; i++)
        assert_true(put(i, false, false));
    assert_int_equal(q.dropped, 2 * A_CHUNK); // eight are held, of which one is being filled
    assert_int_equal(q.records, 10 * A_CHUNK);
    for (unsigned i = 2; i < 9; i++)
        assert_true(take(i * A_CHUNK, A_CHUNK));
    assert_int_equal(atomic_load(&q.bytes), 0);
    chunks_end(&q);
    assert_true(take(9 * A_CHUNK, A_CHUNK));
}

static void what_is_required_stays(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 8 * A_CHUNK; i++)
        assert_true(put(i, i < A_CHUNK, false));
    assert_false(put(100, false, false)); // the oldest must not go: the new one does
    assert_int_equal(q.dropped, 1);
    assert_true(put(8 * A_CHUNK, true, true)); // but one that was promised has room
    assert_true(take(0, A_CHUNK));
    assert_true(take(A_CHUNK, A_CHUNK));
}

static void promises(void **state)
{
    (void)state;
    assert_true(chunks_promise(&q, 7 * CHUNK_BYTES, MOST));
    assert_false(chunks_promise(&q, 1, MOST)); // that and its chunk: one byte too many
    chunks_keep(&q, 7 * CHUNK_BYTES);
    for (uint64_t i = 0; i < 8 * A_CHUNK; i++)
        assert_true(put(i, false, false));
    assert_true(chunks_promise(&q, RECORD, MOST)); // others go for it
    assert_int_equal(q.dropped, 2 * A_CHUNK);
    for (uint64_t i = 8 * A_CHUNK; i < 20 * A_CHUNK; i++)
        assert_true(put(i, true, true));
    assert_false(chunks_promise(&q, RECORD, MOST));
    assert_int_equal(q.dropped, 8 * A_CHUNK);
    chunks_keep(&q, RECORD);
}

static void a_long_one(void **state)
{
    (void)state;
    uint8_t *to = chunks_room(&q, 3 * CHUNK_BYTES, false, MOST);
    assert_non_null(to);
    memset(to, 1, 3 * CHUNK_BYTES);
    chunks_add(&q, 3 * CHUNK_BYTES, false);
    assert_null(chunks_room(&q, MOST + 1, false, MOST));
    assert_int_equal(q.dropped, 2); // the new one, and the old one that went for it
}

static void without_memory(void **state)
{
    (void)state;
    mem_fail_at(1);
    assert_false(put(0, false, false));
    assert_int_equal(q.dropped, 1);
    for (uint64_t i = 0; i < A_CHUNK; i++)
        assert_true(put(i, false, false));
    mem_fail_at(1); // of the slots
    assert_false(put(0, false, false));
    mem_fail_at(2); // of the next chunk
    assert_false(put(0, false, false));
    assert_true(put(A_CHUNK, false, false));
    chunks_end(&q);
    assert_true(take(0, A_CHUNK));
    assert_true(take(A_CHUNK, 1));
    assert_int_equal(q.dropped, 3);
}

// ---- two threads ---------------------------------------------------------------------------------------

#define MANY 200000

static _Atomic bool over;

static void *consume(void *arg)
{
    uint64_t next = 0, seen = 0;
    for (;;) {
        bool last = atomic_load(&over);
        struct chunk *c = chunks_take(&q);
        if (!c && last)
            break;
        for (uint64_t at = 0; c && at < c->used; at += RECORD, seen++) {
            uint64_t number;
            memcpy(&number, c->data + at, sizeof(number));
            if (number < next)
                *(bool *)arg = false;
            next = number + 1;
        }
        mem_free(c);
    }
    return (void *)(uintptr_t)seen;
}

static void two_threads(void **state)
{
    (void)state;
    pthread_t thread;
    bool ordered = true;
    void *seen;
    over = false;
    assert_int_equal(pthread_create(&thread, NULL, consume, &ordered), 0);
    for (uint64_t i = 0; i < MANY; i++)
        put(i, false, false);
    chunks_end(&q);
    atomic_store(&over, true);
    pthread_join(thread, &seen);
    assert_true(ordered);
    assert_int_equal((uintptr_t)seen + q.dropped,
                     MANY); // none is lost uncounted, none is there twice
    assert_int_equal(q.bytes, 0);
}

static int teardown_threads(void **state)
{
    (void)state;
    chunks_free(&q); // what one thread takes and another one frees is not live by either's count
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(in_order, teardown),
        cmocka_unit_test_teardown(it_fills_up, teardown),
        cmocka_unit_test_teardown(the_oldest_go, teardown),
        cmocka_unit_test_teardown(what_is_required_stays, teardown),
        cmocka_unit_test_teardown(promises, teardown),
        cmocka_unit_test_teardown(a_long_one, teardown),
        cmocka_unit_test_teardown(without_memory, teardown),
        cmocka_unit_test_teardown(two_threads, teardown_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
