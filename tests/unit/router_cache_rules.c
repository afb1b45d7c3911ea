/* router/cache: rules that its slow model (router_cache.c) does not know of: how evenly keys are spread, how long a main
 * queue is gone round, when it wants to be called again, and what is given back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "infer/oip_grpc.h"
#include "router/cache.h"

#define MIB ((int64_t)1 << 20)

static struct block_owner blocks;
static struct cache_pool pool;
static struct cache_figures figures;
static struct cache *cache;
static struct cache_of *of;

static void open_cache(int64_t limit, uint64_t salt)
{
    pool = (struct cache_pool){0};
    cache_pool_set(&pool, limit, 1);
    cache = cache_new(&pool, salt);
    of = cache_join(cache, &figures);
}

static void close_cache(void)
{
    cache_leave(of);
    cache_free(cache);
    assert_int_equal(atomic_load(&pool.granted), 0);
}

static int setup(void **state)
{
    block_owner_init(&blocks);
    block_owner_adopt(&blocks);
    figures = (struct cache_figures){0};
    return 0;
}

static int teardown(void **state)
{
    block_owner_deinit(&blocks);
    return 0;
}

static struct cache_id id_of(uint64_t n)
{
    struct cache_id id = {0};
    memcpy(id.key.bytes, &n, sizeof(n));
    return id;
}

static bool put(uint64_t key, size_t bytes, uint64_t now_us)
{
    struct block *b = block_new(&blocks, bytes);
    struct tensor t = {.name = VIEW("y"),
                       .dtype = DT_UINT8,
                       .rank = 2,
                       .shape = {1, (int64_t)bytes},
                       .data = b->data,
                       .bytes = bytes};
    struct slice s = {.answer = answer_new(b, &t, 1, 1), .rows = 1};
    struct cache_id id = id_of(key);
    bool kept = cache_put(of, &id, &s, atomic_load(&figures.epoch), now_us, now_us, &blocks);
    block_unref(b);
    return kept;
}

static struct answer *get(uint64_t key)
{
    struct cache_id id = id_of(key);
    struct cache_node *n = cache_find(of, &id);
    return n ? cache_answer(n) : NULL;
}

// ---- the table ---------------------------------------------------------------------------------------

static unsigned longest_chain(void)
{
    unsigned longest = 0;
    for (unsigned k = 0; k < CACHE_SEGMENTS && cache->segment[k]; k++) {
        for (unsigned i = 0; i < (k ? 64u << (k - 1) : 64); i++) {
            unsigned n = 0;
            for (const struct cache_node *at = cache->segment[k][i]; at; at = at->chain)
                n++;
            longest = n > longest ? n : longest;
        }
    }
    return longest;
}

// A bucket more with each node that is added: no chain becomes long, however many there are.
static void a_table_grows_with_what_it_holds(void **state)
{
    open_cache(MIB, 7);
    for (uint64_t i = 0; i < 20000; i++) {
        struct cache_id id = id_of(i);
        assert_non_null(cache_claim(of, &id));
        assert_int_equal(cache->nodes, i + 1);
        assert_int_equal(cache->buckets, i + 1 > 64 ? i + 1 : 64);
    }
    assert_true(longest_chain() <= 16);
    close_cache();
}

static uint64_t hash_in_cache(struct cache_id id)
{
    return cache_claim(of, &id)->hash;
}

// No client knows which keys meet: that is another matter in each process, for whatever is asked.
static void the_salt_says_which_keys_meet(void **state)
{
    uint64_t hash[2];
    for (unsigned i = 0; i < 2; i++) {
        open_cache(MIB, i + 1);
        hash[i] = hash_in_cache(id_of(5));
        close_cache();
    }
    assert_true(hash[0] != hash[1]);
}

// One key asked for in many ways: versions, rows, parts, models.
static void whoever_shares_a_key_does_not_share_a_bucket(void **state)
{
    open_cache(MIB, 7);
    struct cache_figures others = {0};
    struct cache_of *first = of, *second = cache_join(cache, &others);
    uint64_t hash[6];
    struct cache_id id = id_of(5);
    unsigned n = 0;
    hash[n++] = hash_in_cache(id);
    of = second;
    hash[n++] = hash_in_cache(id);
    of = first;
    id.version = hash128(VIEW("1"), 0);
    hash[n++] = hash_in_cache(id);
    id.row = 1;
    hash[n++] = hash_in_cache(id);
    id.rows = 1;
    hash[n++] = hash_in_cache(id);
    id.row = 0;
    hash[n++] = hash_in_cache(id);
    for (unsigned i = 0; i < n; i++)
        for (unsigned k = 0; k < i; k++)
            assert_true(hash[i] != hash[k]);
    cache_leave(second);
    close_cache();
}

// ---- going round -------------------------------------------------------------------------------------

static void touch_all(const struct cache_queue *q)
{
    for (struct cache_node *n = q->oldest; n; n = n->newer)
        for (unsigned i = 0; i < CACHE_USES; i++)
            cache_touch(n);
}

static const struct cache_node *after(unsigned steps)
{
    const struct cache_node *n = cache->main.oldest;
    while (n && steps-- > 0)
        n = n->newer;
    return n;
}

// All in the main queue are asked for again and again: after so many steps one goes all the same.
static void going_round_ends(void **state)
{
    open_cache(4 * MIB, 7);
    for (uint64_t key = 0; key < 20000; key++) { // who comes is asked for, and goes on into it
        put(key, 16, 1);
        touch_all(&(struct cache_queue){.oldest = cache->small.newest});
    }
    for (uint64_t key = 20000; key < 22000; key++)
        put(key, 16, 1);
    for (unsigned seen = 0, tried = 0; seen < 3; tried++) {
        assert_true(tried < 10);
        touch_all(&cache->main);
        uint64_t small = cache->small.count, key = 0;
        struct cache_id last = after(CACHE_ROUNDS - 1)->id, goes = after(CACHE_ROUNDS)->id;
        memcpy(&key, cache->ghosts.newest->id.key.bytes, sizeof(key));
        assert_true(put(key, 16, 1)); // who comes back needs room there
        if (cache->small.count != small)
            continue; // one of the small queue made it
        seen++;
        assert_null(cache_find(of, &goes));
        assert_non_null(cache_answer(cache_find(of, &last)));
    }
    close_cache();
}

// What was kept and is not there any more was given up for others, from whichever queue.
static void what_is_given_up_is_counted(void **state)
{
    open_cache(4 * MIB, 7);
    for (uint64_t key = 0; key < 20000; key++) {
        assert_true(put(key, 16, 1));
        if (key % 2)
            touch_all(&(struct cache_queue){.oldest = cache->small.newest});
    }
    assert_true(cache->small.count > 0 && cache->main.count > 0);
    uint64_t gone = atomic_load(&figures.count[CACHE_EVICTIONS]);
    assert_int_equal(gone + atomic_load(&figures.entries),
                     atomic_load(&figures.count[CACHE_STORES]));
    close_cache();
}

// ---- when it is called again, and what it gives back ------------------------------------------------------

// There is more to do: soon. All is done: from time to time. Nothing is held: never.
static void it_says_when_it_wants_to_be_called(void **state)
{
    open_cache(8 * MIB, 7);
    assert_true(cache->tick_us == UINT64_MAX);
    for (uint64_t key = 0; key < 4000; key++)
        put(key, 4000, 100);
    assert_int_equal(cache->tick_us, 100 + CACHE_LOOK_US);
    assert_int_equal(cache->leased, 8 * MIB);
    cache_pool_set(&pool, MIB, 1);
    uint64_t now_us = 1000;
    for (; cache->leased > MIB; now_us++) {
        cache_tick(cache, now_us);
        assert_int_equal(cache->tick_us, now_us + CACHE_WORK_US);
    }
    cache_tick(cache, now_us);
    assert_int_equal(cache->tick_us, now_us + CACHE_LOOK_US);
    assert_true(cache->nodes > 0);
    cache_pool_set(&pool, 0, 1);
    for (unsigned i = 0; i < 100; i++)
        cache_tick(cache, ++now_us);
    assert_int_equal(cache->nodes, 0);
    assert_int_equal(cache->leased, 0);
    assert_true(cache->tick_us == UINT64_MAX);
    close_cache();
}

// A limit of less than a slice is given out as it is, and comes back as it is.
static void less_than_a_slice_comes_back_too(void **state)
{
    open_cache(600000, 7);
    assert_true(put(1, 4000, 1));
    assert_int_equal(cache->leased, 600000);
    cache_pool_set(&pool, 0, 1);
    for (unsigned i = 0; i < 3; i++)
        cache_tick(cache, 2 + i);
    assert_int_equal(cache->leased, 0);
    assert_int_equal(atomic_load(&pool.granted), 0);
    assert_false(put(2, 4000, 9)); // and nothing is kept
    close_cache();
}

// However much a flush leaves, a call frees no more than so many, and no less while there are.
static void what_is_flushed_goes_so_many_at_a_time(void **state)
{
    open_cache(4 * MIB, 7);
    const uint64_t all = 2 * CACHE_SWEEP + 10;
    for (uint64_t key = 0; key < all; key++)
        assert_true(put(key, 100, 1));
    assert_int_equal(cache->nodes, all);
    cache_flush(&figures, 1);
    cache_tick(cache, 2);
    assert_int_equal(cache->nodes, all - CACHE_SWEEP);
    assert_int_equal(cache->tick_us, 2 + CACHE_WORK_US);
    cache_tick(cache, 3);
    assert_int_equal(cache->nodes, 10);
    cache_tick(cache, 4);
    assert_int_equal(cache->nodes, 0);
    assert_int_equal(atomic_load(&figures.bytes), 0);
    close_cache();
}

// So does what a model leaves behind, and nothing of it remains; others' entries stay.
static void what_a_model_leaves_goes_so_many_at_a_time(void **state)
{
    open_cache(4 * MIB, 7);
    struct cache_figures theirs = {0};
    struct cache_of *mine = of, *other = cache_join(cache, &theirs);
    for (uint64_t key = 0; key < CACHE_SWEEP + 10; key++)
        assert_true(put(key, 100, 1));
    struct cache_id id = id_of(1);
    struct cache_node *stays = cache_claim(other, &id);
    cache_leave(mine);
    assert_int_equal(cache->tick_us, 0); // at once
    cache_tick(cache, 2);
    assert_int_equal(cache->nodes, 11);
    assert_int_equal(cache->tick_us, 2 + CACHE_WORK_US);
    cache_tick(cache, 3);
    assert_int_equal(cache->nodes, 1);
    assert_ptr_equal(cache_find(other, &id), stays);
    assert_ptr_equal(cache->ofs, other);
    assert_null(other->next);
    of = other;
    close_cache();
}

// ---- epochs ------------------------------------------------------------------------------------------

// A model that joins after flushes begins with the epoch that is now: what is stored since is swept by nobody.
static void who_joins_late_is_of_the_epoch_that_is_now(void **state)
{
    static struct ticket leader;
    cache_flush(&figures, 1);
    open_cache(MIB, 7);
    assert_true(put(1, 100, 1));
    struct cache_id id = id_of(2);
    struct cache_node *led = cache_claim(of, &id);
    led->leader = &leader;
    cache_tick(cache, 2);
    assert_non_null(get(1));
    assert_ptr_equal(cache_find(of, &id), led);
    cache_flush(&figures, 2);
    cache_tick(cache, 3);
    assert_null(get(1));
    assert_int_equal(atomic_load(&figures.entries), 0);
    assert_ptr_equal(cache_find(of, &id), led); // who is asked for at this moment stays
    led->leader = NULL;
    cache_release(cache, led);
    assert_int_equal(cache->nodes, 0);
    close_cache();
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_table_grows_with_what_it_holds),
        TEST(the_salt_says_which_keys_meet),
        TEST(whoever_shares_a_key_does_not_share_a_bucket),
        TEST(going_round_ends),
        TEST(what_is_given_up_is_counted),
        TEST(it_says_when_it_wants_to_be_called),
        TEST(less_than_a_slice_comes_back_too),
        TEST(what_is_flushed_goes_so_many_at_a_time),
        TEST(what_a_model_leaves_goes_so_many_at_a_time),
        TEST(who_joins_late_is_of_the_epoch_that_is_now),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
