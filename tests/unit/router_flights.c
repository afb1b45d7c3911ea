/* router/desk: answers that are kept, and tickets that ask the same at a time. What is kept for how long, and given up for
 * what: router_cache.c. */
#include "tests/unit/router_kit.h"

#define TTL 1000000u
#define STALE 10000000u

static struct cache_pool pool;
static struct cache *cache;

static const struct model_rules rules = {.max_rows = 8,
                                         .pipeline = 1,
                                         .deadline_us = 5000000,
                                         .queue_bytes = 1 << 20,
                                         .grace_us = 50000,
                                         .cache_ttl_us = TTL,
                                         .cache_stale_us = STALE};

// An answer that says no version fits a model whose replica lists none.
static void up_unversioned(uint64_t now_us)
{
    struct replica_facts facts = {.max_batch = 8, .metadata = {1, 1}};
    desk_on_replica_up(office.desk, 7, &facts, now_us, &office.fx);
}

static int setup(void **state)
{
    office_open(&rules);
    cache_pool_set(&pool, 1 << 20, 1);
    cache = cache_new(&pool, 1);
    desk_keep_in(office.desk, cache);
    up_unversioned(NOW - 1);
    forget();
    return 0;
}

static int teardown(void **state)
{
    give_back();
    for (unsigned i = 0; i < office.n; i++) {
        struct ticket *t = &office.guest[i].ticket;
        if (t->slice.answer)
            block_unref(t->slice.answer->block);
    }
    cache_leave(office.desk->kept);
    cache_free(cache);
    office.desk->kept = NULL;
    office_close();
    return 0;
}

static const struct cache_key keys[3] = {{{1}, true}, {{2}, true}, {{3}, true}};

static struct guest *ask_at(unsigned key, enum cache_use use, uint32_t lane, uint64_t deadline_us,
                            uint64_t now_us)
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

static struct guest *ask(unsigned key)
{
    return ask_at(key, CACHE_USE, 1, FAR, NOW);
}

static struct batch *ask_and_send(unsigned key, uint64_t now_us)
{
    ask_at(key, CACHE_USE, 1, now_us + 1000000, now_us);
    run(now_us);
    return sent();
}

static void keep(unsigned key, uint64_t now_us)
{
    answer(ask_and_send(key, now_us), now_us, 0, 1);
    forget();
}

static uint64_t counted(enum cache_count what)
{
    return atomic_load(&office.model->cache.count[what]);
}

static void cancel(struct guest *g, uint64_t now_us)
{
    desk_on_cancel(office.desk, &g->ticket, now_us, &office.fx);
}

// ---- what is kept --------------------------------------------------------------------------------------

static void fresh_then_stale_then_none(void **state)
{
    keep(0, NOW);
    struct guest *g = ask_at(0, CACHE_USE, 1, FAR, NOW + 999999);
    assert_int_equal(back(g, STATUS_OK), 1);
    assert_int_equal(g->ticket.source, SOURCE_CACHE);
    assert_int_equal(g->ticket.age_s, 0);
    assert_int_equal(g->ticket.batch_rows, 0);
    assert_int_equal(slice_output(&g->ticket.slice, 0).bytes, 8);
    forget();
    g = ask_at(0, CACHE_ONLY_STALE, 1, FAR + TTL, NOW + TTL);
    assert_int_equal(back(g, STATUS_OK), 1);
    assert_int_equal(g->ticket.source, SOURCE_STALE);
    assert_int_equal(g->ticket.age_s, 1);
    forget();
    g = ask_at(0, CACHE_ONLY_STALE, 1, FAR + STALE, NOW + STALE);
    assert_int_equal(back(g, STATUS_UNAVAILABLE), 1);
    assert_string_equal(g->ticket.error.text, "not cached");
    g->ticket.slice.answer = NULL;
    assert_int_equal(counted(CACHE_HITS), 1);
    assert_int_equal(counted(CACHE_STALE), 1);
    struct batch *b = ask_and_send(0, NOW + TTL); // and else it is asked for
    assert_non_null(b);
    answer(b, NOW + TTL, 0, 1);
    forget();
    g = ask_at(0, CACHE_ONLY_STALE, 1, FAR + STALE, NOW + TTL + 1);
    assert_int_equal(g->ticket.source, SOURCE_CACHE);
    assert_int_equal(counted(CACHE_STORES), 2);
}

// While most of the model's replicas are lost what is stale spares those that are left.
static void stale_is_good_enough_when_most_is_lost(void **state)
{
    (void)state;
    keep(0, NOW);
    atomic_store(&office.model->level, LEVEL_CAPACITY);
    struct batch *b = ask_and_send(0, NOW + TTL);
    assert_non_null(b); // not yet
    give_up(b, NOW + TTL);
    atomic_store(&office.model->level, LEVEL_PARTIAL);
    forget();
    struct guest *g = ask_at(0, CACHE_USE, 1, FAR + TTL, NOW + TTL + 1);
    assert_int_equal(back(g, STATUS_OK), 1);
    assert_int_equal(g->ticket.source, SOURCE_STALE);
    forget();
    g = ask_at(0, CACHE_RENEW, 1, FAR + TTL, NOW + TTL + 2); // who wants no kept answer gets none
    run(NOW + TTL + 2);
    b = sent();
    assert_non_null(b);
    give_up(b, NOW + TTL + 2);
    assert_int_equal(g->ticket.place, PLACE_NONE);
}

static void what_the_client_wants_of_it(void **state)
{
    struct guest *g = ask_at(0, CACHE_NONE, 1, FAR, NOW);
    run(NOW);
    answer(sent(), NOW, 0, 1);
    assert_int_equal(counted(CACHE_STORES), 0);
    keep(0, NOW);
    g = ask_at(0, CACHE_RENEW, 1, FAR, NOW + 10);
    assert_int_equal(back(g, STATUS_OK), 0);
    run(NOW + 10);
    struct batch *b = sent();
    struct guest *other = ask_at(0, CACHE_USE, 1, FAR, NOW + 10);
    assert_int_equal(back(other, STATUS_OK), 1); // what is there is good for others
    answer(b, NOW + 20, 0, 1);
    assert_int_equal(counted(CACHE_STORES), 2);
}

static void a_process_that_came_may_have_another_model(void **state)
{
    keep(0, NOW);
    desk_on_replica_down(office.desk, 7, NOW + 5, &office.fx);
    forget();
    struct guest *g = ask_at(0, CACHE_USE, 1, FAR, NOW + 6); // nobody else can answer
    assert_int_equal(back(g, STATUS_OK), 1);
    up_unversioned(NOW + 10);
    forget();
    g = ask_at(0, CACHE_ONLY_STALE, 1, FAR, NOW + 11);
    assert_int_equal(g->ticket.source, SOURCE_STALE);
    struct batch *b = ask_and_send(0, NOW + 12);
    assert_non_null(b);
    answer(b, NOW + 13, 0, 1);
}

static void answer_as(struct batch *b, struct view version, uint64_t now_us)
{
    struct block *block = block_new(office.blocks, 8);
    struct tensor t = {.name = VIEW("y"),
                       .dtype = DT_UINT64,
                       .rank = 1,
                       .shape = {1},
                       .data = block->data,
                       .bytes = 8};
    struct answer *a = answer_new(block, &t, 1, 1);
    a->version = version;
    desk_on_answer(office.desk, b, a, now_us, &office.fx);
    give_back();
}

static void up_with(uint32_t id, struct view a, struct view b)
{
    struct replica_facts facts = {.max_batch = 8,
                                  .metadata = {1, 1},
                                  .versions = (struct view[]){a, b},
                                  .n_versions = b.n ? 2 : 1};
    desk_on_replica_up(office.desk, id, &facts, NOW, &office.fx);
}

// Who names no version gets the highest that all have, from the cache too; or what workers prefer.
static void versions_are_not_mixed(void **state)
{
    desk_on_replica_down(office.desk, 7, NOW, &office.fx);
    up_with(1, VIEW("9"), VIEW("10"));
    up_with(2, VIEW("9"), VIEW(""));
    forget();
    answer_as(ask_and_send(0, NOW), VIEW("10"), NOW);
    assert_int_equal(counted(CACHE_STORES), 0); // not all have it
    answer_as(ask_and_send(0, NOW), VIEW("9"), NOW);
    assert_int_equal(counted(CACHE_STORES), 1);
    assert_int_equal(back(ask(0), STATUS_OK), 1);
    desk_on_replica_down(office.desk, 2, NOW, &office.fx);
    struct batch *b = ask_and_send(0, NOW);
    assert_non_null(b); // now it is 10
    answer_as(b, VIEW("9"), NOW);
    assert_int_equal(counted(CACHE_STORES), 2); // all prefer it
    forget();
    assert_int_equal(back(ask(0), STATUS_OK), 1);
    struct guest *g = ask_at(1, CACHE_NONE, 1, FAR, NOW);
    g = &office.guest[office.n++];
    guest_init(g, 1, 1, FAR);
    g->ticket.to = (struct target){office.model, VIEW("m"), VIEW("10")};
    g->ticket.cache = CACHE_USE;
    g->ticket.cache_key = &keys[0];
    desk_on_ticket(office.desk, &g->ticket, NOW, &office.fx);
    assert_int_equal(back(g, STATUS_OK), 0); // who names one gets none but that
    run(NOW);
    for (b = sent(); b; b = sent())
        answer_as(b, b->tickets[0]->to.version.n ? VIEW("10") : VIEW("9"), NOW), run(NOW);
}

static void a_flush_reaches_what_is_on_its_way(void **state)
{
    keep(0, NOW);
    struct batch *b = ask_and_send(1, NOW);
    cache_flush(&office.model->cache, 1);
    answer(b, NOW, 0, 1);
    assert_int_equal(counted(CACHE_STORES), 1);
    b = ask_and_send(0, NOW);
    assert_non_null(b);
    answer(b, NOW, 0, 1);
    forget();
    assert_int_equal(back(ask(0), STATUS_OK), 1); // of the epoch that is now
}

static void rules_switch_it_off(void **state)
{
    struct model_rules off = rules;
    keep(0, NOW);
    off.cache_ttl_us = 0;
    desk_on_rules(office.desk, &off);
    struct guest *g = ask_at(0, CACHE_ONLY_STALE, 1, FAR, NOW);
    assert_int_equal(back(g, STATUS_UNAVAILABLE), 1);
    g->ticket.slice.answer = NULL;
    struct batch *b = ask_and_send(0, NOW);
    struct guest *other = ask(0);
    assert_int_equal(other->ticket.place, PLACE_QUEUED);
    answer(b, NOW, 0, 1);
    run(NOW);
    answer(sent(), NOW, 0, 1);
    desk_on_rules(office.desk, &rules);
    forget();
    assert_int_equal(back(ask(0), STATUS_OK), 1); // what was kept is there
}

// ---- flights -------------------------------------------------------------------------------------------

static void all_are_answered_by_one(void **state)
{
    struct batch *b = ask_and_send(0, NOW);
    struct guest *g[100];
    for (unsigned i = 0; i < 100; i++) {
        g[i] = ask_at(0, CACHE_USE, 1, FAR, NOW + i);
        assert_int_equal(g[i]->ticket.place, PLACE_WAITS);
    }
    run(NOW + 100);
    assert_null(sent());
    answer(b, NOW + 5000, 0, 1);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(back(g[i], STATUS_OK), 1);
        assert_int_equal(g[i]->ticket.source, SOURCE_MODEL);
        assert_int_equal(g[i]->ticket.batch_rows, 1);
        assert_int_equal(g[i]->ticket.queue_us + g[i]->ticket.compute_us, 5000 - i);
    }
    assert_int_equal(counted(CACHE_MISSES), 1);
    assert_int_equal(counted(CACHE_FOLLOWERS), 100);
    assert_int_equal(office.desk->followers, 0);
}

static void an_error_is_for_all_or_for_one(void **state)
{
    struct batch *b = ask_and_send(0, NOW);
    struct guest *leader = &office.guest[0], *g[3];
    for (unsigned i = 0; i < 3; i++)
        g[i] = ask(0);
    end_as(b, STATUS_INTERNAL, NOW); // for one
    assert_int_equal(back(leader, STATUS_INTERNAL), 1);
    run(NOW);
    b = sent();
    assert_int_equal(b->n, 1);
    assert_ptr_equal(b->tickets[0], &g[2]->ticket);
    forget();
    assert_int_equal(ask(0)->ticket.place, PLACE_WAITS);
    end_as(b, STATUS_BAD_REQUEST, NOW); // for all: it is the same request
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(back(g[i], STATUS_BAD_REQUEST), 1);
    assert_int_equal(counted(CACHE_STORES), 0);
    assert_int_equal(cache->nodes, 0);
}

static void without_a_replica_each_is_told(void **state)
{
    desk_on_replica_down(office.desk, 7, NOW, &office.fx);
    struct guest *g[3];
    for (unsigned i = 0; i < 3; i++)
        g[i] = ask(0);
    forget();
    run(NOW + 50000);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(back(g[i], STATUS_UNAVAILABLE), 1);
    assert_int_equal(cache->nodes, 0);
}

// Whoever leads: who has something else to try waits for no replica.
static void who_has_something_else_to_try_is_let_go(void **state)
{
    struct guest *leader = ask(0), *stays = ask(0), *goes = ask(0);
    goes->ticket.elsewhere = true;
    office.desk->followers_elsewhere++; // as if it had come so
    desk_on_replica_down(office.desk, 7, NOW, &office.fx);
    forget();
    run(NOW);
    assert_int_equal(back(goes, STATUS_UNAVAILABLE), 1);
    assert_true(goes->ticket.let_go);
    assert_int_equal(office.desk->followers, 1);
    assert_int_equal(office.desk->followers_elsewhere, 0);
    assert_int_equal(stays->ticket.place, PLACE_WAITS);
    forget();
    run(NOW + 50000);
    assert_int_equal(back(leader, STATUS_UNAVAILABLE) + back(stays, STATUS_UNAVAILABLE), 2);
}

// Nor does it wait when its leader is aboard of a batch that waits to be sent again.
static void who_follows_one_aboard_is_let_go_too(void **state)
{
    (void)state;
    struct guest *leader = ask(0), *other = ask(1), *stays = ask(0), *goes = ask(0);
    run(NOW);
    goes->ticket.elsewhere = true;
    office.desk->followers_elsewhere++; // as if it had come so
    end(sent(), SEEN_STATUS, NOW);      // two halves
    assert_int_equal(office.desk->n_again, 2);
    desk_on_replica_down(office.desk, 7, NOW, &office.fx);
    forget();
    run(NOW);
    assert_int_equal(back(goes, STATUS_UNAVAILABLE), 1);
    assert_true(goes->ticket.let_go);
    assert_int_equal(office.desk->followers, 1);
    assert_int_equal(office.desk->followers_elsewhere, 0);
    assert_int_equal(office.desk->n_again, 2);
    assert_int_equal(stays->ticket.place, PLACE_WAITS);
    forget();
    run(NOW + 50000);
    assert_int_equal(back(leader, STATUS_UNAVAILABLE) + back(other, STATUS_UNAVAILABLE) +
                         back(stays, STATUS_UNAVAILABLE),
                     3);
}

static void the_next_one_leads(void **state)
{
    struct guest *first = ask(0), *second = ask(0), *third = ask(0);
    cancel(first, NOW);
    assert_int_equal(back(first, STATUS_CLIENT_GONE), 1);
    assert_int_equal(third->ticket.place, PLACE_WAITS); // until the desk decides
    struct guest *fourth = ask(0);
    cancel(third, NOW); // it was to be the next
    assert_int_equal(back(third, STATUS_CLIENT_GONE), 1);
    run(NOW);
    struct batch *b = sent();
    assert_int_equal(b->n, 1);
    struct guest *other = b->tickets[0] == &second->ticket ? fourth : second;
    answer(b, NOW, 0, 1);
    office.read = 0;
    assert_int_equal(back(other, STATUS_OK), 1);
    assert_int_equal(office.desk->followers, 0);
}

static void a_leader_that_is_gone_is_computed_for_the_others(void **state)
{
    struct batch *b = ask_and_send(0, NOW);
    struct guest *leader = &office.guest[0], *one = ask(0), *two = ask(0);
    forget();
    cancel(leader, NOW);
    cancel(one, NOW);
    assert_int_equal(back(one, STATUS_CLIENT_GONE), 1);
    assert_int_equal(count_fx(FX_CANCEL), 0);
    answer(b, NOW, 0, 1);
    assert_int_equal(back(two, STATUS_OK), 1);
    forget();
    b = ask_and_send(1, NOW);
    leader = &office.guest[office.n - 1];
    one = ask(1);
    cancel(leader, NOW);
    assert_int_equal(count_fx(FX_CANCEL), 0);
    cancel(one, NOW); // nobody wants it now
    assert_int_equal(count_fx(FX_CANCEL), 1);
    end(b, SEEN_RECALLED, NOW);
    assert_int_equal(back(leader, STATUS_DEADLINE), 1);
}

// However often that happens, others aboard are none of its business.
static void followers_that_come_and_go(void **state)
{
    ask(0);
    struct guest *other = ask(1);
    run(NOW);
    struct batch *b = sent();
    assert_int_equal(b->n, 2);
    forget();
    cancel(&office.guest[0], NOW);
    for (unsigned i = 0; i < 3; i++)
        cancel(ask(0), NOW);
    assert_int_equal(count_fx(FX_CANCEL), 0);
    assert_int_equal(b->cancelled, 1);
    cancel(other, NOW);
    assert_int_equal(count_fx(FX_CANCEL), 1);
    end(b, SEEN_RECALLED, NOW);
}

static void each_has_its_own_deadline(void **state)
{
    struct batch *b = ask_and_send(0, NOW);
    b->until_us = b->deadline_us; // as one that need not teach
    struct guest *longer = ask_at(0, CACHE_USE, 1, FAR + 500000, NOW);
    assert_int_equal(b->deadline_us, FAR + 500000);
    assert_true(b->until_us >= b->deadline_us);  // nor is it recalled before
    assert_int_equal(b->until_us, FAR + 500000); // it is not sent to teach
    forget();
    run(FAR + 1); // the leader's is over
    assert_int_equal(count_fx(FX_CANCEL), 0);
    cancel(&office.guest[0], FAR + 1);
    answer(b, FAR + 400000, 0, 1);
    assert_int_equal(back(longer, STATUS_OK), 1);
}

static void who_is_more_urgent_leads(void **state)
{
    struct batch *before = ask_and_send(1, NOW); // the only credit
    struct guest *slow = ask_at(0, CACHE_USE, 3, FAR, NOW);
    struct guest *soon = ask_at(0, CACHE_USE, 3, FAR - 1000, NOW);
    struct guest *first = ask_at(0, CACHE_USE, 0, FAR, NOW);
    struct guest *last = ask_at(0, CACHE_USE, 3, FAR - 2000, NOW);
    assert_int_equal(slow->ticket.place, PLACE_WAITS);
    assert_int_equal(soon->ticket.place, PLACE_WAITS);
    assert_int_equal(first->ticket.place, PLACE_QUEUED);
    assert_int_equal(last->ticket.place, PLACE_WAITS);
    assert_int_equal(office.desk->batcher.count, 1);
    answer(before, NOW, 0, 1);
    run(NOW);
    struct batch *b = sent();
    assert_ptr_equal(b->tickets[0], &first->ticket);
    forget();
    answer(b, NOW, 0, 1);
    assert_int_equal(back(slow, STATUS_OK) + back(soon, STATUS_OK) + back(last, STATUS_OK), 3);
}

// The n-th allocation fails: it is asked for, and answered, all the same.
static void without_memory_it_is_a_miss(void **state)
{
    for (uint64_t n = 1; n < 8; n++) {
        struct batch *b;
        mem_fail_at(n);
        ask_at(0, CACHE_USE, 1, FAR, NOW);
        ask_at(0, CACHE_USE, 1, FAR, NOW);
        mem_fail_at(0);
        run(NOW);
        while ((b = sent()) != NULL) {
            answer(b, NOW, 0, b->rows);
            run(NOW);
        }
        cache_flush(&office.model->cache, 1);
    }
    assert_int_equal(office.desk->followers, 0);
    for (unsigned i = 0; i < office.n; i++) {
        if (office.guest[i].ticket.error.status != STATUS_OK)
            office.guest[i].ticket.slice.answer = NULL;
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(fresh_then_stale_then_none),
        TEST(stale_is_good_enough_when_most_is_lost),
        TEST(what_the_client_wants_of_it),
        TEST(a_process_that_came_may_have_another_model),
        TEST(versions_are_not_mixed),
        TEST(a_flush_reaches_what_is_on_its_way),
        TEST(rules_switch_it_off),
        TEST(all_are_answered_by_one),
        TEST(an_error_is_for_all_or_for_one),
        TEST(without_a_replica_each_is_told),
        TEST(who_has_something_else_to_try_is_let_go),
        TEST(who_follows_one_aboard_is_let_go_too),
        TEST(the_next_one_leads),
        TEST(a_leader_that_is_gone_is_computed_for_the_others),
        TEST(followers_that_come_and_go),
        TEST(each_has_its_own_deadline),
        TEST(who_is_more_urgent_leads),
        TEST(without_memory_it_is_a_miss),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
