/* router/desk_cache: which version who names none is answered from, what takes a node at all, who leads next, and when what
 * is kept is too old because of who answered it. The flights themselves: router_flights.c; the store: router_store.c. */
#include "tests/unit/router_kit.h"

#define TTL 1000000u

static struct cache_pool pool;
static struct cache *cache;

static const struct model_rules rules = {.max_rows = 8,
                                         .pipeline = 1,
                                         .deadline_us = 5000000,
                                         .queue_bytes = 1 << 20,
                                         .grace_us = 50000,
                                         .cache_ttl_us = TTL,
                                         .cache_stale_us = TTL};

static int setup(void **state)
{
    (void)state;
    office_open(&rules);
    cache_pool_set(&pool, 1 << 20, 1);
    cache = cache_new(&pool, 1);
    desk_keep_in(office.desk, cache);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    give_back();
    for (unsigned i = 0; i < office.n; i++) {
        struct ticket *t = &office.guest[i].ticket;
        if (t->error.status == STATUS_OK && t->slice.answer)
            block_unref(t->slice.answer->block);
    }
    cache_leave(office.desk->kept);
    cache_free(cache);
    office.desk->kept = NULL;
    office_close();
    return 0;
}

static const struct cache_key keys[3] = {{{1}, true}, {{2}, true}, {{3}, true}};

static struct guest *ask_until(unsigned key, enum cache_use use, uint32_t lane,
                               uint64_t deadline_us, uint64_t now_us)
{
    struct guest *g = &office.guest[office.n++];
    guest_init(g, 1, 1, deadline_us);
    g->ticket.to = (struct target){office.model, VIEW("m"), VIEW("")};
    g->ticket.key = ticket_key(&g->request, g->ticket.to.version);
    g->ticket.lane = (uint8_t)lane;
    g->ticket.cache = (uint8_t)use;
    g->ticket.cache_key = &keys[key];
    desk_on_ticket(office.desk, &g->ticket, now_us, &office.fx);
    return g;
}

static struct guest *ask_at(unsigned key, enum cache_use use, uint64_t now_us)
{
    return ask_until(key, use, 1, now_us + 1000000, now_us);
}

// It lists them in this order; "" ends.
static void up_with(uint32_t id, const char *a, const char *b, uint64_t now_us)
{
    struct view versions[2];
    struct replica_facts facts = {.max_batch = 8, .metadata = {1, 1}, .versions = versions};
    for (const char *const *v = (const char *const[]){a, b, ""}; **v; v++)
        versions[facts.n_versions++] = view_str(*v);
    desk_on_replica_up(office.desk, id, &facts, now_us, &office.fx);
}

static void answer_all(uint64_t now_us)
{
    for (struct batch *b; run(now_us), (b = sent()) != NULL;)
        answer(b, now_us, 0, b->rows);
}

static void keep(unsigned key, uint64_t now_us)
{
    ask_at(key, CACHE_USE, now_us);
    answer_all(now_us);
    forget();
}

static uint64_t counted(enum cache_count what)
{
    return atomic_load(&office.model->cache.count[what]);
}

// ---- versions ----------------------------------------------------------------------------------------

// Of two workers with these versions: who names none is asked for under this one.
static void version_is(const char *const one[2], const char *const other[2], const char *wanted)
{
    up_with(1, one[0], one[1], NOW);
    up_with(2, other[0], other[1], NOW);
    forget();
    ask_at(0, CACHE_USE, NOW);
    const struct fx *f = next_fx(FX_STORE_GET);
    assert_non_null(f);
    assert_true(view_is(view_of(f->ask->version, f->ask->version_bytes), wanted));
    desk_on_stored(office.desk, f->ask, NULL, 0, NOW, &office.fx);
    desk_on_replica_down(office.desk, 1, NOW, &office.fx);
    desk_on_replica_down(office.desk, 2, NOW, &office.fx);
    run(NOW + 2000000); // its time is over
}

static void the_highest_that_all_have(void **state)
{
    (void)state;
    static const struct {
        const char *one[2], *other[2], *wanted;
    } rows[] = {
        // numbers by their value, in whatever order they are listed
        {{"9", "10"}, {"10", "9"}, "10"},
        {{"10", "9"}, {"9", "10"}, "10"},
        {{"2", "3"}, {"3", "2"}, "3"},
        {{"3", "2"}, {"2", "3"}, "3"},
        // names by their letters, and of two that begin alike the longer one
        {{"a", "b"}, {"b", "a"}, "b"},
        {{"b", "a"}, {"b", "a"}, "b"},
        {{"ab", "b"}, {"b", "ab"}, "b"},
        {{"b", "ab"}, {"b", "ab"}, "b"},
        {{"a", "ab"}, {"ab", "a"}, "ab"},
        {{"ab", "a"}, {"ab", "a"}, "ab"},
        // a number is above any name
        {{"1", "b"}, {"b", "1"}, "1"},
        {{"b", "1"}, {"1", "b"}, "1"},
        {{"3", "2"}, {"2", "4"}, "2"}, // not all have a higher one
        {{"3", "2"}, {"2", ""}, "2"},  // nor here
        {{"3", "2"}, {"", ""}, "3"},   // who lists none says nothing against it
        {{"3", "2"}, {"4", "1"}, ""},  // none is everybody's
    };
    desk_store_in(office.desk, true);
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        version_is(rows[i].one, rows[i].other, rows[i].wanted);
    answer_all(NOW);
}

// The name of a version may be as long as any that a client can ask for; workers may prefer it to a number.
static void the_longest_name_is_one(void **state)
{
    (void)state;
    char longest[MODEL_VERSION_MAX + 1];
    memset(longest, 'v', MODEL_VERSION_MAX);
    longest[MODEL_VERSION_MAX] = 0;
    up_with(7, "9", longest, NOW);
    ask_at(0, CACHE_USE, NOW);
    run(NOW);
    struct batch *b = sent();
    struct block *block = block_new(office.blocks, 8);
    struct tensor t = {
        .name = VIEW("y"), .dtype = DT_UINT64, .rank = 1, .shape = {1}, .data = block->data};
    t.bytes = 8;
    struct answer *a = answer_new(block, &t, 1, 1);
    a->version = view_str(longest);
    desk_on_answer(office.desk, b, a, NOW, &office.fx);
    give_back();
    assert_int_equal(counted(CACHE_STORES), 1);
    forget();
    assert_int_equal(back(ask_at(0, CACHE_USE, NOW), STATUS_OK), 1);
}

// ---- what it costs to keep nothing -------------------------------------------------------------------

// Where nothing is kept, nobody leads, and nothing was missed.
static void where_nothing_is_kept_nobody_leads(void **state)
{
    (void)state;
    struct model_rules off = rules;
    off.cache_ttl_us = 0;
    desk_on_rules(office.desk, &off);
    up_with(7, "", "", NOW);
    struct guest *g = ask_at(0, CACHE_USE, NOW);
    assert_int_equal(g->ticket.place, PLACE_QUEUED);
    assert_null(g->ticket.flight);
    assert_int_equal(cache->nodes, 0);
    assert_int_equal(counted(CACHE_MISSES), 0);
    answer_all(NOW);
    assert_int_equal(counted(CACHE_STORES), 0);
}

// Who wants it computed anew misses nothing, asks no store, and is no follower.
static void who_renews_misses_nothing(void **state)
{
    (void)state;
    desk_store_in(office.desk, true);
    up_with(7, "", "", NOW);
    ask_at(0, CACHE_RENEW, NOW);
    assert_int_equal(count_fx(FX_STORE_GET), 0);
    assert_int_equal(counted(CACHE_MISSES), 0);
    assert_int_equal(ask_at(0, CACHE_RENEW, NOW)->ticket.place, PLACE_QUEUED);
    assert_int_equal(counted(CACHE_FOLLOWERS), 0);
    run(NOW);
    for (struct fx *f; (f = next_fx(FX_DISPATCH)) != NULL;)
        answer(f->batch, NOW, 0, f->batch->rows);
    office.read = 0;
    for (struct fx *f; (f = next_fx(FX_STORE_PUT)) != NULL;)
        store_told(f->ask);
}

// In whatever order a store answers what it was asked: nothing is left of any.
static void a_store_may_answer_in_any_order(void **state)
{
    (void)state;
    static const unsigned orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                          {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    desk_store_in(office.desk, true);
    up_with(7, "", "", NOW);
    for (unsigned i = 0; i < 6; i++) {
        struct store_ask *a[3];
        forget();
        for (unsigned k = 0; k < 3; k++) {
            assert_int_equal(ask_at(k, CACHE_USE, NOW)->ticket.place, PLACE_ASKS);
            a[k] = next_fx(FX_STORE_GET)->ask;
        }
        for (unsigned k = 0; k < 3; k++) {
            desk_on_stored(office.desk, a[orders[i][k]], NULL, 0, NOW, &office.fx);
            unsigned left = 0;
            for (const struct store_ask *at = office.desk->asks; at && left < 3; at = at->next)
                left++;
            assert_int_equal(left, 2 - k);
        }
        run(NOW);
        for (struct batch *b; (b = sent()) != NULL; run(NOW))
            give_up(b, NOW);
        assert_int_equal(cache->nodes, 0);
    }
}

// However short, it is a time to live.
static void the_shortest_time_to_live(void **state)
{
    (void)state;
    struct model_rules shortest = rules;
    shortest.cache_ttl_us = shortest.cache_stale_us = 1;
    desk_on_rules(office.desk, &shortest);
    up_with(7, "", "", NOW);
    keep(0, NOW);
    assert_int_equal(back(ask_at(0, CACHE_USE, NOW), STATUS_OK), 1);
    forget();
    assert_int_equal(back(ask_at(0, CACHE_USE, NOW + 1), STATUS_OK), 0);
    answer_all(NOW + 1);
}

// Each time that it is given counts for its staying, up to a bound.
static void what_is_given_was_asked_for(void **state)
{
    (void)state;
    up_with(7, "", "", NOW);
    keep(0, NOW);
    const struct cache_node *n = cache->small.oldest;
    assert_int_equal(n->uses, 0);
    for (unsigned i = 1; i < 6; i++) {
        forget();
        assert_int_equal(back(ask_at(0, CACHE_USE, NOW), STATUS_OK), 1);
        assert_int_equal(n->uses, i < CACHE_USES ? i : CACHE_USES);
        assert_int_equal(counted(CACHE_HITS), i);
    }
}

// ---- who leads next ----------------------------------------------------------------------------------

// Of those that wait the most urgent one: by priority, then by deadline; whoever came first or last.
static void the_most_urgent_leads_next(void **state)
{
    (void)state;
    static const struct {
        uint8_t lane;
        int64_t later_us;
    } waits[][3] = {
        {{1, -2000}, {1, 0}, {1, -1000}},
        {{1, -1000}, {1, -2000}, {1, 0}},
        {{0, 0}, {1, -2000}, {1, -1000}},
        {{2, -2000}, {1, -1000}, {1, 0}},
    };
    static const unsigned wanted[] = {0, 1, 0, 1};
    up_with(7, "", "", NOW);
    for (unsigned i = 0; i < 4; i++) {
        struct guest *g[3];
        ask_until(0, CACHE_USE, 0, FAR, NOW);
        run(NOW);
        struct batch *b = sent();
        for (unsigned k = 0; k < 3; k++)
            g[k] = ask_until(0, CACHE_USE, waits[i][k].lane,
                             (uint64_t)((int64_t)FAR + waits[i][k].later_us), NOW);
        end_as(b, STATUS_INTERNAL, NOW); // for the leader alone
        run(NOW);
        b = sent();
        assert_int_equal(b->n, 1);
        assert_ptr_equal(b->tickets[0], &g[wanted[i]]->ticket);
        end_as(b, STATUS_BAD_REQUEST, NOW); // for all
        assert_int_equal(cache->nodes, 0);
    }
}

// ---- who answered it ---------------------------------------------------------------------------------

static bool is_kept(unsigned key, uint64_t now_us)
{
    forget();
    bool kept = back(ask_at(key, CACHE_USE, now_us), STATUS_OK) == 1;
    answer_all(now_us);
    return kept;
}

// A process that comes may have another model: what it was not asked for is not given. What was sent at the very moment
// is its own.
static void what_was_sent_before_a_process_came_is_not_given(void **state)
{
    (void)state;
    up_with(1, "", "", NOW);
    keep(0, NOW);
    up_with(2, "", "", NOW + 10); // one more of those that are here
    assert_true(is_kept(0, NOW + 10));
    desk_on_replica_down(office.desk, 2, NOW + 20, &office.fx);
    assert_true(is_kept(0, NOW + 20));
    up_with(2, "", "", NOW + 30); // back, beside the other one
    assert_false(is_kept(0, NOW + 30));
    assert_true(is_kept(0, NOW + 31)); // that was sent as it came
    desk_on_replica_down(office.desk, 1, NOW + 40, &office.fx);
    desk_on_replica_down(office.desk, 2, NOW + 40, &office.fx);
    assert_true(is_kept(0, NOW + 40));
    up_with(3, "", "", NOW + 50); // nobody who was here is: under another name
    assert_false(is_kept(0, NOW + 50));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_highest_that_all_have),
        TEST(the_longest_name_is_one),
        TEST(where_nothing_is_kept_nobody_leads),
        TEST(who_renews_misses_nothing),
        TEST(a_store_may_answer_in_any_order),
        TEST(the_shortest_time_to_live),
        TEST(what_is_given_was_asked_for),
        TEST(the_most_urgent_leads_next),
        TEST(what_was_sent_before_a_process_came_is_not_given),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
