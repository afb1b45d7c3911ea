/* router/desk: a store behind what is kept. What is asked of it and told, by whom, and what comes of each way that may
 * end; the store is the test. */
#include "base/mem.h"
#include "tests/unit/router_kit.h"

#define TTL 1000000u
#define STALE 3000000u

static struct cache_pool pool;
static struct cache *cache;

static const struct model_rules rules = {.max_rows = 8,
                                         .pipeline = 1,
                                         .deadline_us = 5000000,
                                         .queue_bytes = 1 << 20,
                                         .grace_us = 50000,
                                         .cache_ttl_us = TTL,
                                         .cache_stale_us = STALE};

static int setup(void **state)
{
    office_open(&rules);
    cache_pool_set(&pool, 1 << 20, 1);
    cache = cache_new(&pool, 1);
    desk_keep_in(office.desk, cache);
    desk_store_in(office.desk, true);
    up(7, 8, "3", NOW - 1);
    forget();
    return 0;
}

static int teardown(void **state)
{
    give_back();
    for (unsigned i = 0; i < office.n; i++) {
        struct ticket *t = &office.guest[i].ticket;
        if (t->error.status == STATUS_OK && t->slice.answer)
            block_unref(t->slice.answer->block);
    }
    for (unsigned i = 0; i < office.fx.n; i++)
        if (office.fx.at[i].kind == FX_STORE_PUT)
            store_told(office.fx.at[i].ask);
    cache_leave(office.desk->kept);
    cache_free(cache);
    office.desk->kept = NULL;
    office_close();
    return 0;
}

static const struct cache_key keys[2] = {{{1}, true}, {{2}, true}};

static struct guest *ask_as(unsigned key, enum cache_use use, const char *version)
{
    struct guest *g = &office.guest[office.n++];
    guest_init(g, 1, 1, FAR);
    g->ticket.to = (struct target){office.model, VIEW("m"), view_str(version)};
    g->ticket.key = ticket_key(&g->request, g->ticket.to.version);
    g->ticket.cache = (uint8_t)use;
    g->ticket.cache_key = &keys[key];
    g->ticket.slice.answer = NULL;
    desk_on_ticket(office.desk, &g->ticket, NOW, &office.fx);
    return g;
}

static struct guest *ask(unsigned key)
{
    return ask_as(key, CACHE_USE, "");
}

static struct store_ask *asked(void)
{
    struct fx *f = next_fx(FX_STORE_GET);
    return f ? f->ask : NULL;
}

static void nothing(struct store_ask *a, uint64_t now_us)
{
    desk_on_stored(office.desk, a, NULL, 0, now_us, &office.fx);
}

// What the store has of it: one row that is 42.
static void has(struct store_ask *a, const char *version, uint64_t stored_us, uint64_t now_us)
{
    struct block *block = block_new(office.blocks, 8);
    struct tensor t = {.name = VIEW("y"),
                       .dtype = DT_UINT64,
                       .rank = 1,
                       .shape = {1},
                       .data = block->data,
                       .bytes = 8};
    memcpy(block->data, &(uint64_t){42}, 8);
    struct answer *of = answer_new(block, &t, 1, 1);
    of->version = view_str(version);
    desk_on_stored(office.desk, a, &(struct slice){.answer = of}, stored_us, now_us, &office.fx);
    block_unref(block);
}

static uint64_t counted(enum cache_count what)
{
    return atomic_load(&office.model->cache.count[what]);
}

static uint64_t value_of(const struct guest *g)
{
    return load_u64(slice_output(&g->ticket.slice, 0).data);
}

static void compute(const char *version)
{
    run(NOW);
    struct batch *b = sent();
    assert_non_null(b);
    struct block *block = block_new(office.blocks, 8);
    struct tensor t = {.name = VIEW("y"),
                       .dtype = DT_UINT64,
                       .rank = 1,
                       .shape = {1},
                       .data = block->data,
                       .bytes = 8};
    memcpy(block->data, &(uint64_t){7}, 8);
    struct answer *a = answer_new(block, &t, 1, 1);
    a->version = view_str(version);
    desk_on_answer(office.desk, b, a, NOW, &office.fx);
    give_back();
}

// ---- asking --------------------------------------------------------------------------------------------

static void what_is_there_is_given_and_kept(void **state)
{
    struct guest *g = ask(0);
    struct store_ask *a = asked();
    assert_non_null(a);
    assert_true(view_is(store_version(a), "3"));
    assert_int_equal(g->ticket.place, PLACE_ASKS);
    assert_false(desk_is_idle(office.desk));
    run(NOW);
    assert_null(sent()); // it waits
    has(a, "3", NOW - 400000, NOW + 5000);
    office.read = 0;
    assert_int_equal(back(g, STATUS_OK), 1);
    assert_int_equal(g->ticket.source, SOURCE_CACHE);
    assert_int_equal(g->ticket.age_s, 0);
    assert_int_equal(value_of(g), 42);
    assert_int_equal(counted(CACHE_SHARED), 1);
    assert_int_equal(counted(CACHE_MISSES), 0);
    forget();
    struct guest *again = ask(0); // from memory
    assert_int_equal(back(again, STATUS_OK), 1);
    assert_null(asked());
    assert_int_equal(counted(CACHE_HITS), 1);
}

static void what_is_not_there_is_computed_and_told(void **state)
{
    struct guest *g = ask(0);
    nothing(asked(), NOW + 20000);
    assert_int_equal(counted(CACHE_MISSES), 1);
    compute("3");
    office.read = 0;
    assert_int_equal(back(g, STATUS_OK), 1);
    assert_int_equal(g->ticket.source, SOURCE_MODEL);
    struct fx *put = next_fx(FX_STORE_PUT);
    assert_non_null(put);
    assert_true(view_is(store_version(put->ask), "3"));
    assert_int_equal(put->ask->keep_us, STALE);
    assert_memory_equal(&put->ask->id.key, &keys[0], sizeof(keys[0]));
    assert_null(next_fx(FX_STORE_PUT));
}

static void a_version_that_was_named_is_asked_for(void **state)
{
    struct guest *g = ask_as(0, CACHE_USE, "2");
    struct store_ask *a = asked();
    assert_true(view_is(store_version(a), "2"));
    has(a, "2", NOW, NOW);
    office.read = 0;
    assert_int_equal(back(g, STATUS_OK), 1);
}

static void who_wants_none_asks_nobody(void **state)
{
    ask_as(0, CACHE_NONE, "");
    ask_as(1, CACHE_RENEW, "");
    assert_null(asked());
    desk_store_in(office.desk, false);
    ask(0);
    struct guest *g = ask_as(1, CACHE_ONLY_STALE, "");
    assert_int_equal(back(g, STATUS_UNAVAILABLE), 1);
    assert_null(asked());
    run(NOW);
    struct batch *b = sent();
    answer(b, NOW, 0, b->rows);
    office.read = 0;
    assert_null(next_fx(FX_STORE_PUT));
}

// On its loop the configuration has no store yet, or no more: nobody else knows that key.
static void what_only_this_process_knows_by_name_stays_here(void **state)
{
    static const struct cache_key own = {{9}, false};
    struct guest *g = &office.guest[office.n++];
    guest_init(g, 1, 1, FAR);
    g->ticket.to = (struct target){office.model, VIEW("m"), VIEW("")};
    g->ticket.key = ticket_key(&g->request, g->ticket.to.version);
    g->ticket.cache = CACHE_USE;
    g->ticket.cache_key = &own;
    desk_on_ticket(office.desk, &g->ticket, NOW, &office.fx);
    assert_null(asked());
    compute("3");
    office.read = 0;
    assert_int_equal(back(g, STATUS_OK), 1);
    office.read = 0;
    assert_null(next_fx(FX_STORE_PUT));
    assert_int_equal(counted(CACHE_STORES), 1);
}

static void what_is_renewed_is_told(void **state)
{
    ask_as(0, CACHE_RENEW, "");
    compute("3");
    office.read = 0;
    assert_non_null(next_fx(FX_STORE_PUT));
}

// ---- who waits with it ---------------------------------------------------------------------------------

static void others_wait_for_the_same_reply(void **state)
{
    struct guest *g = ask(0), *other = ask(0), *third = ask(0);
    struct store_ask *a = asked();
    assert_null(asked());
    assert_int_equal(counted(CACHE_FOLLOWERS), 2);
    has(a, "3", NOW - 3000000 + 2500000, NOW);
    office.read = 0;
    assert_int_equal(back(g, STATUS_OK) + back(other, STATUS_OK) + back(third, STATUS_OK), 3);
    assert_int_equal(other->ticket.source, SOURCE_CACHE);
    assert_int_equal(value_of(third), 42);
}

static void others_wait_for_the_model_then(void **state)
{
    struct guest *g = ask(0), *other = ask(0);
    nothing(asked(), NOW);
    compute("3");
    office.read = 0;
    assert_int_equal(back(g, STATUS_OK) + back(other, STATUS_OK), 2);
    assert_int_equal(other->ticket.source, SOURCE_MODEL);
}

static void who_is_called_home_leaves_the_lead(void **state)
{
    struct guest *g = ask(0), *other = ask(0);
    struct store_ask *a = asked();
    desk_on_cancel(office.desk, &g->ticket, NOW, &office.fx);
    office.read = 0;
    assert_int_equal(back(g, STATUS_CLIENT_GONE), 1);
    assert_int_equal(back(other, STATUS_OK), 0);
    forget();
    compute("3"); // the other leads, and goes to the model
    has(a, "3", NOW, NOW);
    assert_int_equal(counted(CACHE_SHARED), 0);
    office.read = 0;
    assert_int_equal(back(other, STATUS_OK), 1);
    assert_int_equal(value_of(other), 7);
    assert_true(desk_is_idle(office.desk) || !office.desk->asks);
}

// ---- what is there may be none for us ------------------------------------------------------------------

static void expect_a_miss(struct guest *g)
{
    office.read = 0;
    assert_int_equal(back(g, STATUS_OK), 0);
    assert_int_equal(g->ticket.place, PLACE_QUEUED);
    assert_int_equal(counted(CACHE_SHARED), 0);
    assert_int_equal(counted(CACHE_MISSES), 1);
    forget();
    compute("3");
}

static void what_is_too_old_is_a_miss(void **state)
{
    struct guest *g = ask(0);
    has(asked(), "3", NOW - TTL, NOW);
    expect_a_miss(g);
}

static void what_is_from_the_future_is_new(void **state)
{
    struct guest *g = ask(0);
    has(asked(), "3", NOW + 3600000000ull, NOW);
    office.read = 0;
    assert_int_equal(back(g, STATUS_OK), 1);
    assert_int_equal(g->ticket.age_s, 0);
}

static void what_is_of_another_version_by_now_is_a_miss(void **state)
{
    struct guest *g = ask(0);
    struct store_ask *a = asked();
    desk_on_replica_down(office.desk, 7, NOW, &office.fx);
    up(8, 8, "4", NOW);
    has(a, "3", NOW, NOW);
    expect_a_miss(g);
}

static void what_was_flushed_meanwhile_is_a_miss(void **state)
{
    struct guest *g = ask(0);
    struct store_ask *a = asked();
    cache_flush(&office.model->cache, 1);
    has(a, "3", NOW, NOW);
    expect_a_miss(g);
}

static void what_was_stored_before_the_model_was_loaded_anew_is_a_miss(void **state)
{
    struct guest *g = ask(0);
    struct store_ask *a = asked();
    desk_on_replica_down(office.desk, 7, NOW, &office.fx);
    up(7, 8, "3", NOW);
    has(a, "3", NOW - 1, NOW);
    expect_a_miss(g);
}

// ---- what is stale ---------------------------------------------------------------------------------------

static void who_wants_what_is_kept_gets_what_is_stale(void **state)
{
    struct guest *g = ask_as(0, CACHE_ONLY_STALE, ""), *other = ask_as(0, CACHE_ONLY_STALE, "");
    struct store_ask *a = asked(), *b = asked();
    assert_non_null(b); // each for itself: they wait for no model
    has(a, "3", NOW - 2500000, NOW);
    nothing(b, NOW);
    office.read = 0;
    assert_int_equal(back(g, STATUS_OK), 1);
    assert_int_equal(g->ticket.source, SOURCE_STALE);
    assert_int_equal(g->ticket.age_s, 2);
    assert_int_equal(back(other, STATUS_UNAVAILABLE), 1);
    forget();
    struct guest *again = ask_as(0, CACHE_ONLY_STALE, ""); // it is kept here, too
    assert_null(asked());
    office.read = 0;
    assert_int_equal(back(again, STATUS_OK), 1);
    assert_int_equal(again->ticket.source, SOURCE_STALE);
    run(NOW);
    assert_null(sent());
    assert_int_equal(counted(CACHE_MISSES), 0);
}

static void what_is_older_than_stale_may_be_is_given_to_nobody(void **state)
{
    struct guest *g = ask_as(0, CACHE_ONLY_STALE, "");
    has(asked(), "3", NOW - STALE, NOW);
    office.read = 0;
    assert_int_equal(back(g, STATUS_UNAVAILABLE), 1);
}

static void who_wants_what_is_kept_is_called_home_at_once(void **state)
{
    struct guest *g = ask_as(0, CACHE_ONLY_STALE, "");
    struct store_ask *a = asked();
    desk_on_cancel(office.desk, &g->ticket, FAR, &office.fx);
    office.read = 0;
    assert_int_equal(back(g, STATUS_CLIENT_GONE), 1);
    has(a, "3", NOW, NOW);
    assert_null(office.desk->asks);
}

static void while_most_is_lost_what_is_stale_is_as_good(void **state)
{
    atomic_store(&office.model->level, LEVEL_PARTIAL);
    struct guest *g = ask(0), *other = ask(0);
    has(asked(), "3", NOW - TTL - 1, NOW);
    office.read = 0;
    assert_int_equal(back(g, STATUS_OK) + back(other, STATUS_OK), 2);
    assert_int_equal(g->ticket.source, SOURCE_STALE);
    assert_int_equal(other->ticket.source, SOURCE_STALE);
    assert_int_equal(counted(CACHE_SHARED), 1);
    atomic_store(&office.model->level, LEVEL_HEALTHY);
    forget();
    struct guest *later = ask(0);
    has(asked(), "3", NOW - TTL - 1, NOW);
    compute("3");
    office.read = 0;
    assert_int_equal(back(later, STATUS_OK), 1);
    assert_int_equal(later->ticket.source, SOURCE_MODEL);
    assert_int_equal(counted(CACHE_SHARED), 1);
}

// Who asks anew does not wait for the store, and may be quicker.
static void what_is_newer_here_stays(void **state)
{
    struct guest *g = ask_as(0, CACHE_ONLY_STALE, "");
    struct store_ask *a = asked();
    struct guest *anew = ask_as(0, CACHE_RENEW, "");
    compute("3");
    has(a, "3", NOW - TTL - 1, NOW);
    office.read = 0;
    assert_int_equal(back(anew, STATUS_OK) + back(g, STATUS_OK), 2);
    forget();
    struct guest *later = ask(0);
    office.read = 0;
    assert_int_equal(back(later, STATUS_OK), 1);
    assert_int_equal(value_of(later), 7);
}

// A last resort is asked for, however little is found.
static void a_last_resort_is_asked_for_every_time(void **state)
{
    office.desk->store_cold = true;
    for (unsigned i = 0; i < 20; i++) {
        struct guest *g = ask_as(i % 2, CACHE_ONLY_STALE, "");
        struct store_ask *a = asked();
        assert_non_null(a);
        nothing(a, NOW);
        office.read = 0;
        assert_int_equal(back(g, STATUS_UNAVAILABLE), 1);
        forget();
    }
}

// One that joins others, or is the first, loads nothing anew: what is stored is as good as before.
static void what_was_stored_before_we_began_is_good(void **state)
{
    struct guest *g = ask(0);
    struct store_ask *a = asked();
    up(8, 8, "3", NOW);
    has(a, "3", NOW - 500000, NOW);
    office.read = 0;
    assert_int_equal(back(g, STATUS_OK), 1);
}

static void rules_may_switch_it_off_meanwhile(void **state)
{
    struct guest *g = ask(0);
    struct store_ask *a = asked();
    struct model_rules off = rules;
    off.cache_ttl_us = 0;
    desk_on_rules(office.desk, &off);
    has(a, "3", NOW, NOW);
    expect_a_miss(g);
    office.read = 0;
    assert_null(next_fx(FX_STORE_PUT));
}

static void a_flush_is_known_once(void **state)
{
    struct cache_figures *f = &office.model->cache;
    uint32_t before = atomic_load(&f->epoch);
    assert_true(cache_fleet_flush(f, 10));
    assert_int_not_equal(atomic_load(&f->epoch), before);
    before = atomic_load(&f->epoch);
    assert_false(cache_fleet_flush(f, 10));
    assert_false(cache_fleet_flush(f, 9));
    assert_int_equal(atomic_load(&f->epoch), before);
    cache_flush(f, 3); // our clock is behind
    assert_int_equal(atomic_load(&f->fleet_epoch), 11);
    assert_int_not_equal(atomic_load(&f->epoch), before);
}

// ---- is it worth it? -----------------------------------------------------------------------------------

// So many that find nothing, or something now and then; each is a question of its own.
static unsigned asks_of(unsigned n, unsigned found_every)
{
    static struct cache_key key = {.shared = true};
    static uint64_t questions;
    unsigned asks = 0;
    for (unsigned i = 0; i < n; i++) {
        struct guest *g = &office.guest[0];
        guest_init(g, 1, 1, FAR);
        memcpy(key.bytes, &(uint64_t){++questions}, 8);
        g->ticket.to = (struct target){office.model, VIEW("m"), VIEW("")};
        g->ticket.key = ticket_key(&g->request, g->ticket.to.version);
        g->ticket.cache = CACHE_USE;
        g->ticket.cache_key = &key;
        desk_on_ticket(office.desk, &g->ticket, NOW, &office.fx);
        struct store_ask *a = asked();
        asks += a != NULL;
        if (a && found_every && i % found_every == 0)
            has(a, "3", NOW, NOW);
        else if (a)
            nothing(a, NOW);
        if (g->ticket.place == PLACE_QUEUED)
            desk_on_cancel(office.desk, &g->ticket, NOW, &office.fx);
        else
            block_unref(g->ticket.slice.answer->block);
        give_back();
        office.fx.n = office.read = office.given = 0;
    }
    return asks;
}

static void who_finds_nothing_asks_seldom(void **state)
{
    assert_int_equal(asks_of(1024, 0), 1024);
    assert_int_equal(asks_of(800, 0), 100);
    assert_int_equal(asks_of(8 * 924, 0), 924);
    assert_int_equal(asks_of(8 * 1023 + 1, 8), 1024); // those that ask find
    assert_int_equal(asks_of(1024, 50), 1024);        // two of a hundred are enough
    assert_int_equal(asks_of(1024, 50), 1024);
    assert_int_equal(asks_of(1024, 300), 1024); // a third of one is not
    assert_int_equal(asks_of(80, 300), 10);
}

static void what_is_away_is_not_judged(void **state)
{
    struct guest *g = &office.guest[0];
    for (unsigned i = 0; i < 2000; i++) {
        guest_init(g, 1, 1, FAR);
        g->ticket.to = (struct target){office.model, VIEW("m"), VIEW("")};
        g->ticket.key = ticket_key(&g->request, g->ticket.to.version);
        g->ticket.cache = CACHE_USE;
        g->ticket.cache_key = &keys[0];
        desk_on_ticket(office.desk, &g->ticket, NOW, &office.fx);
        struct store_ask *a = asked();
        assert_non_null(a);
        a->unheard = true;
        nothing(a, NOW);
        desk_on_cancel(office.desk, &g->ticket, NOW, &office.fx);
        give_back();
        office.fx.n = office.read = office.given = 0;
    }
}

static void without_memory_it_goes_to_the_model(void **state)
{
    for (uint64_t n = 1; n < 10; n++) {
        mem_fail_at(n);
        ask(0);
        mem_fail_at(0);
        struct store_ask *a = asked();
        mem_fail_at(n);
        if (a)
            has(a, "3", NOW, NOW);
        mem_fail_at(0);
        run(NOW);
        forget();
        cache_flush(&office.model->cache, 1);
        for (struct batch *b = office.desk->sent; b; b = office.desk->sent)
            answer(b, NOW, 0, b->rows);
    }
    assert_null(office.desk->asks);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_there_is_given_and_kept),
        TEST(what_is_not_there_is_computed_and_told),
        TEST(a_version_that_was_named_is_asked_for),
        TEST(who_wants_none_asks_nobody),
        TEST(what_only_this_process_knows_by_name_stays_here),
        TEST(what_is_renewed_is_told),
        TEST(who_wants_what_is_kept_gets_what_is_stale),
        TEST(what_is_older_than_stale_may_be_is_given_to_nobody),
        TEST(who_wants_what_is_kept_is_called_home_at_once),
        TEST(while_most_is_lost_what_is_stale_is_as_good),
        TEST(what_is_newer_here_stays),
        TEST(a_last_resort_is_asked_for_every_time),
        TEST(others_wait_for_the_same_reply),
        TEST(others_wait_for_the_model_then),
        TEST(who_is_called_home_leaves_the_lead),
        TEST(what_is_too_old_is_a_miss),
        TEST(what_is_from_the_future_is_new),
        TEST(what_is_of_another_version_by_now_is_a_miss),
        TEST(what_was_flushed_meanwhile_is_a_miss),
        TEST(what_was_stored_before_the_model_was_loaded_anew_is_a_miss),
        TEST(what_was_stored_before_we_began_is_good),
        TEST(rules_may_switch_it_off_meanwhile),
        TEST(a_flush_is_known_once),
        TEST(who_finds_nothing_asks_seldom),
        TEST(what_is_away_is_not_judged),
        TEST(without_memory_it_goes_to_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
