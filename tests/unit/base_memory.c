// base/: mem, arena, buffer, block. Each is also driven with the n-th allocation failing.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/block.h"
#include "base/buffer.h"
#include "base/mem.h"
#include "base/rand.h"
#include <pthread.h>
#ifdef SLUICE_ASAN
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

static void door_fails_exactly_the_nth(void **state)
{
    uint64_t before = mem_count();
    mem_fail_at(3);
    void *a = mem_alloc(10), *b = mem_zalloc(10), *c = mem_alloc(10),
         *d = mem_alloc_aligned(10, 64);
    assert_non_null(a);
    assert_non_null(b);
    assert_null(c);
    assert_non_null(d);
    assert_int_equal((uintptr_t)d % 64, 0);
    assert_int_equal(mem_count() - before, 4);
    mem_fail_at(1);
    assert_null(mem_realloc(a, 100)); // a is still ours
    mem_fail_at(1);
    mem_fail_at(0);
    void *e = mem_alloc(0);
    assert_non_null(e);
    mem_free(a);
    mem_free(b);
    mem_free(d);
    mem_free(e);
}

// Large memory goes back a piece at a time on a thread that sweeps, and at once on others.
static void large_memory_is_swept(void **state)
{
    static const size_t sizes[] = {(1 << 20) - 1, 1 << 20, (1 << 20) + 4097, 9 << 20, 64 << 20};
    int64_t before = mem_live();
    mem_sweeps(true);
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint8_t *p = mem_alloc(sizes[i]);
        assert_non_null(p);
        memset(p, 1, sizes[i]);
        mem_free_large(p, sizes[i]);
    }
    assert_int_equal(mem_live(), before); // it is the system's, whenever that gets it
    unsigned pieces = 0;
    while (mem_sweep(4 << 20))
        pieces++;
#ifndef SLUICE_ASAN
    assert_in_range(pieces, (64 + 9) / 4, (64 + 9) / 4 + 4);
#endif
    assert_false(mem_sweep(4 << 20));
    mem_free_large(mem_alloc(2 << 20), 2 << 20);
    mem_free_large(NULL, 0);
    mem_sweeps(false); // all that is left, at once
    assert_false(mem_sweep(1));
    mem_free_large(mem_alloc(2 << 20), 2 << 20);
    assert_false(mem_sweep(1));
    assert_int_equal(mem_live(), before);
}

static void arena_gives_aligned_separate_runs(void **state)
{
    struct arena a;
    struct rand r;
    rand_seed(&r, 7);
    arena_init(&a, 1024);
    for (int life = 0; life < 3; life++) {
        struct {
            unsigned char *p;
            size_t n;
        } run[200];
        for (unsigned i = 0; i < 200; i++) {
            size_t align = (size_t)1 << rand_below(&r, 7);
            run[i].n = (size_t)rand_below(&r, i % 20 ? 100 : 5000);
            run[i].p = arena_alloc_aligned(&a, run[i].n, align);
            assert_non_null(run[i].p);
            assert_int_equal((uintptr_t)run[i].p % align, 0);
            memset(run[i].p, (int)i, run[i].n);
        }
        for (unsigned i = 0; i < 200; i++)
            for (size_t k = 0; k < run[i].n; k++)
                assert_int_equal(run[i].p[k], i);
        assert_true(a.bytes >= 200 * 50);
        arena_reset(&a);
        assert_int_equal(a.bytes, 1024);
    }
    arena_deinit(&a);
    assert_int_equal(a.bytes, 0);
    arena_thread_done();
}

static void arena_refuses_what_wraps(void **state)
{
    struct arena a;
    arena_init(&a, 0);
    assert_null(arena_array(&a, SIZE_MAX / 2, 3));
    assert_null(arena_alloc(&a, SIZE_MAX - 8));
    assert_non_null(arena_array(&a, 0, 8));
    struct view copy = arena_copy(&a, VIEW("hello"));
    assert_true(view_is(copy, "hello"));
    assert_int_equal(arena_copy(&a, view_of(NULL, 0)).n, 0);
    char *zero = arena_zalloc(&a, 300);
    for (int i = 0; i < 300; i++)
        assert_int_equal(zero[i], 0);
    arena_deinit(&a);
}

static bool fill_arena(struct arena *a)
{
    for (int i = 0; i < 50; i++)
        if (!arena_alloc(a, i % 10 ? 100 : 3000))
            return false;
    return true;
}

static void arena_survives_every_failure(void **state)
{
    for (uint64_t n = 1;; n++) {
        struct arena a;
        arena_init(&a, 1024);
        mem_fail_at(n);
        bool done = fill_arena(&a);
        mem_fail_at(0);
        if (!done)
            assert_true(fill_arena(&a)); // it can go on
        arena_deinit(&a);
        if (done) {
            assert_true(n > 5);
            break;
        }
    }
    arena_thread_done();
}

static void buffer_keeps_order(void **state)
{
    struct buffer b;
    struct rand r;
    uint8_t in = 0, out = 0;
    rand_seed(&r, 3);
    buffer_init(&b);
    assert_int_equal(buffer_view(&b).n, 0);
    for (int i = 0; i < 5000; i++) {
        size_t n = (size_t)rand_below(&r, 700);
        if (r.s[0] & 1) {
            uint8_t *at = buffer_reserve(&b, n);
            assert_non_null(at);
            for (size_t k = 0; k < n; k++)
                at[k] = in++;
            buffer_commit(&b, n);
        } else {
            n = n < buffer_len(&b) ? n : buffer_len(&b);
            const char *p = buffer_view(&b).p;
            for (size_t k = 0; k < n; k++)
                assert_int_equal((uint8_t)p[k], out++);
            buffer_consume(&b, n);
        }
        assert_true(b.at <= b.end && b.end <= b.cap);
    }
    buffer_reset(&b);
    assert_int_equal(buffer_len(&b), 0);
    buffer_deinit(&b);
}

static void buffer_is_unchanged_without_memory(void **state)
{
    struct buffer b;
    char big[2000];
    memset(big, 'x', sizeof(big));
    buffer_init(&b);
    assert_true(buffer_append(&b, "abc", 3));
    for (int consumed = 0; consumed < 2; consumed++) {
        buffer_consume(&b, (size_t)consumed);
        mem_fail_at(1);
        assert_false(buffer_append(&b, big, sizeof(big)));
        mem_fail_at(0);
        assert_true(view_is(buffer_view(&b), consumed ? "bc" : "abc"));
    }
    assert_null(buffer_reserve(&b, SIZE_MAX));
    assert_null(buffer_reserve(&b, SIZE_MAX / 2 + 2));
    assert_true(buffer_append(&b, big, sizeof(big)));
    assert_int_equal(buffer_len(&b), 2002);
    assert_memory_equal(buffer_view(&b).p, "bcx", 3);
    buffer_deinit(&b);
}

static void buffer_consumes_a_stream_in_bounded_memory(void **state)
{
    struct buffer b;
    buffer_init(&b);
    for (int i = 0; i < 100000; i++) {
        assert_true(buffer_append(&b, "0123456789", 10));
        if (i)
            buffer_consume(&b, 10);
    }
    assert_true(b.cap <= 1024);
    buffer_deinit(&b);
}

static void what_is_out_is_known(void **state)
{
    (void)state;
    int64_t before = mem_live();
    void *p[6] = {mem_alloc(1), mem_zalloc(0),    mem_realloc(NULL, 9),
                  mem_must(5),  mem_must_zero(7), mem_alloc_aligned(3, 64)};
    assert_int_equal(mem_live() - before, 6);
    p[0] = mem_realloc(p[0], 5000);
    mem_fail_at(1);
    assert_null(mem_alloc(1));
    assert_int_equal(mem_live() - before, 6);
    for (unsigned i = 0; i < 6; i++)
        mem_free(p[i]);
    mem_free(NULL);
    assert_int_equal(mem_live(), before);
}

static int freed;
static void on_free(struct block *b, void *arg)
{
    assert_ptr_equal(arg, &freed);
    freed++;
}

static void *unref_elsewhere(void *arg)
{
    struct block **b = arg;
    for (int i = 0; i < 100; i++)
        block_unref(b[i]);
    return NULL;
}

static void blocks_go_home_to_die(void **state)
{
    static struct block_owner home, other; // the sanitizer's stack is not aligned enough
    struct block *b[100];
    block_owner_init(&home);
    block_owner_init(&other);
    block_owner_adopt(&home);
    freed = 0;
    for (int i = 0; i < 100; i++) {
        b[i] = block_new(&home, (size_t)i * 1000);
        assert_true(b[i]->bytes >= (size_t)i * 1000);
        memset(b[i]->data, i, b[i]->bytes);
        b[i]->on_free = on_free;
        b[i]->arg = &freed;
    }
    assert_int_equal(home.live_blocks, 100);
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, unref_elsewhere, b), 0);
    pthread_join(t, NULL);
    assert_int_equal(freed, 0);
    assert_int_equal(block_owner_collect(&home), 100);
    assert_int_equal(freed, 100);
    assert_int_equal(home.live_bytes, 0);

    // Two owners on one thread, as in the simulator.
    struct block *one = block_new(&home, 100);
    one->on_free = on_free;
    one->arg = &freed;
    block_ref(one);
    block_ref_many(one, 2);
    for (int i = 0; i < 3; i++)
        assert_false(block_unref(one));
    block_owner_adopt(&other);
    assert_true(mpsc_try_sleep(&home.returns));
    assert_true(block_unref(one)); // last, away from home, and home sleeps
    assert_int_equal(freed, 100);
    block_owner_adopt(&home);
    assert_int_equal(block_owner_collect(&home), 1);
    assert_int_equal(freed, 101);
    one = block_new(&home, 100);
    block_unref(one); // at home: at once
    assert_int_equal(home.live_blocks, 0);
    mem_fail_at(1);
    assert_null(block_new(&home, 100)); // also from the spares
    mem_fail_at(0);
    assert_null(block_new(&home, SIZE_MAX - 10));
    block_owner_deinit(&home);
    block_owner_deinit(&other);
}

#ifdef SLUICE_ASAN
// Does the leak checker look, and say where? It would end every other test just the same when it cannot.
__attribute__((noinline)) static void lose_memory(void)
{
    for (int i = 0; i < 16; i++) // a register may still know of the last
        *(volatile char *)mem_must(100) = 1;
}

static void a_leak_is_reported_with_its_place(void **state)
{
    static char said[65536];
    size_t n = 0;
    int out[2], status;
    assert_int_equal(pipe(out), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(out[1], STDERR_FILENO);
        lose_memory();
        exit(0);
    }
    close(out[1]);
    for (ssize_t k; n + 1 < sizeof(said) && (k = read(out[0], said + n, sizeof(said) - 1 - n)) > 0;)
        n += (size_t)k;
    close(out[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) != 0);
    assert_non_null(strstr(said, "detected memory leaks"));
    assert_non_null(strstr(said, "lose_memory"));
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(door_fails_exactly_the_nth),
        cmocka_unit_test(what_is_out_is_known),
        cmocka_unit_test(large_memory_is_swept),
        cmocka_unit_test(arena_gives_aligned_separate_runs),
        cmocka_unit_test(arena_refuses_what_wraps),
        cmocka_unit_test(arena_survives_every_failure),
        cmocka_unit_test(buffer_keeps_order),
        cmocka_unit_test(buffer_is_unchanged_without_memory),
        cmocka_unit_test(buffer_consumes_a_stream_in_bounded_memory),
        cmocka_unit_test(blocks_go_home_to_die),
#ifdef SLUICE_ASAN
        cmocka_unit_test(a_leak_is_reported_with_its_place),
#endif
    };
    return cmocka_run_group_tests_name("base: memory", tests, NULL, NULL);
}
