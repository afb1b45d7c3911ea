/* batcher/batcher: who shares a batch, who goes first, and what comes too late. */
#include "tests/unit/batcher_kit.h"

#include <math.h>

#define NOW 5000000ull
#define FAR (NOW + 10000000)

static const struct policy plain = {.max_rows = 8, .max_wait_us = 0};

struct world {
    struct batcher b;
    struct guest guest[2000];
    unsigned n;
    struct ticket *out[64];
};
static struct world w;

static int setup(void **state)
{
    (void)state;
    w.n = 0;
    batcher_init(&w.b, &plain);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (struct ticket *t; (t = batcher_any(&w.b)) != NULL;)
        batcher_remove(&w.b, t);
    assert_int_equal(w.b.count + w.b.rows + w.b.bytes, 0);
    batcher_deinit(&w.b);
    return 0;
}

static struct guest *add_lane(uint32_t rows, uint64_t key, uint8_t lane, uint64_t deadline_us)
{
    struct guest *g = &w.guest[w.n++];
    guest_init(g, rows, key, deadline_us);
    g->ticket.lane = lane;
    assert_true(batcher_push(&w.b, &g->ticket, NOW));
    assert_int_equal(g->ticket.place, PLACE_QUEUED);
    return g;
}

static struct guest *add(uint32_t rows, uint64_t key)
{
    return add_lane(rows, key, 1, FAR);
}

static struct batch_plan plan(void)
{
    return batcher_plan(&w.b, 64, NOW, NULL, NULL);
}

static unsigned take(void)
{
    struct batch_plan p = plan();
    assert_non_null(p.group);
    unsigned n = batcher_take(&w.b, &p, w.out, 64, NOW);
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(w.out[i]->place, PLACE_ABOARD);
    return n;
}

static void takes(unsigned n, ...)
{
    va_list wanted;
    va_start(wanted, n);
    assert_int_equal(take(), n);
    for (unsigned i = 0; i < n; i++)
        assert_ptr_equal(w.out[i], &va_arg(wanted, struct guest *)->ticket);
    va_end(wanted);
}

// ---- who shares a batch --------------------------------------------------------------------------------

static void priorities_have_their_lanes(void **state)
{
    (void)state;
    static const uint8_t lanes[] = {1, 0, 1, 2, 2, 3, 3};
    for (uint8_t i = 0; i < sizeof(lanes); i++)
        assert_int_equal(batcher_lane_of(i), lanes[i]);
    assert_int_equal(batcher_lane_of(255), 3);
}

static void equal_keys_share_and_others_do_not(void **state)
{
    (void)state;
    struct guest *a = add(2, 1), *b = add(1, 2), *c = add(3, 1);
    assert_int_equal(w.b.count, 3);
    assert_int_equal(w.b.rows, 6);
    assert_int_equal(w.b.bytes, 60);
    assert_int_equal(plan().rows, 5);
    assert_int_equal(plan().reason, BATCH_IDLE);
    takes(2, a, c);
    assert_int_equal(w.b.rows, 1);
    assert_int_equal(w.b.bytes, 10);
    takes(1, b);
    assert_null(plan().group);
    assert_true(plan().wake_us == UINT64_MAX);
}

static void a_batch_is_never_larger_than_it_may_be(void **state)
{
    (void)state;
    struct guest *a = add(3, 1), *b = add(4, 1), *c = add(2, 1), *d = add(20, 1);
    takes(2, a,
          b); // c would be the ninth; to look behind it for a smaller one would break the order
    takes(1, c);
    takes(1, d); // larger than any batch: alone
    struct guest *e = add(1, 1), *f = add(7, 1), *g = add(1, 1);
    takes(2, e, f);
    takes(1, g);
}

static void the_replica_may_take_less(void **state)
{
    (void)state;
    struct guest *a = add(1, 1), *b = add(1, 1), *c = add(1, 1), *d = add(1, 1);
    struct batch_plan p = batcher_plan(&w.b, 3, NOW, NULL, NULL);
    assert_int_equal(p.rows, 3);
    assert_int_equal(p.reason, BATCH_FULL);
    assert_int_equal(batcher_take(&w.b, &p, w.out, 2, NOW), 2); // as many as there is room for
    assert_ptr_equal(w.out[0], &a->ticket);
    assert_ptr_equal(w.out[1], &b->ticket);
    takes(2, c, d);
}

static void preferred_sizes_end_at_what_the_replica_takes(void **state)
{
    (void)state;
    w.b.policy.n_preferred = 2;
    w.b.policy.preferred[0] = 2;
    w.b.policy.preferred[1] = 4;
    for (unsigned i = 0; i < 5; i++)
        add(1, 1);
    assert_int_equal(plan().rows, 4);
    assert_int_equal(batcher_plan(&w.b, 4, NOW, NULL, NULL).reason, BATCH_FULL);
    struct batch_plan p = batcher_plan(&w.b, 3, NOW, NULL, NULL);
    assert_int_equal(p.rows, 3);
    assert_int_equal(p.reason, BATCH_FULL);
    takes(4, &w.guest[0], &w.guest[1], &w.guest[2], &w.guest[3]);
    assert_int_equal(w.b.policy.n_preferred, 2);
}

static void some_go_singly(void **state)
{
    (void)state;
    struct guest *a = &w.guest[w.n++], *b = &w.guest[w.n++], *c = &w.guest[w.n++];
    guest_init(a, 0, 1, FAR); // no first dimension
    guest_init(b, 2, 1, FAR + 5000);
    b->request.sequence = true;
    guest_init(c, 2, 1, FAR + 10000);
    c->ticket.alone = true;
    w.b.policy.max_wait_us = 1000; // not for them
    for (unsigned i = 0; i < 3; i++)
        assert_true(batcher_push(&w.b, &w.guest[i].ticket, NOW));
    assert_int_equal(w.b.rows, 5);
    takes(1, a);
    takes(1, b);
    takes(1, c);
}

static bool serves(const struct group *g, void *version)
{
    return view_eq(g->oldest->to.version, view_str(version));
}

// One that waits for another replica is in nobody's way.
static void singles_of_each_version_have_a_group(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 100; i++) {
        struct guest *g = &w.guest[w.n++];
        guest_init(g, 1, 1, FAR + i * 1000);
        g->request.sequence = true;
        g->ticket.to.version = i == 99 ? VIEW("1") : VIEW("2");
        assert_true(batcher_push(&w.b, &g->ticket, NOW));
    }
    struct batch_plan p = batcher_plan(&w.b, 64, NOW, serves, (char[]){"1"});
    assert_non_null(p.group);
    assert_false(p.group->mixed);
    assert_int_equal(batcher_take(&w.b, &p, w.out, 64, NOW), 1);
    assert_ptr_equal(w.out[0], &w.guest[99].ticket);
    assert_null(batcher_plan(&w.b, 64, NOW, serves, (char[]){"1"}).group);
    p = batcher_plan(&w.b, 64, NOW, serves, (char[]){"2"});
    assert_int_equal(batcher_take(&w.b, &p, w.out, 64, NOW), 1);
    assert_ptr_equal(w.out[0], &w.guest[0].ticket);
}

// A key that happens to be the hash of a version is another group.
static void singles_keep_to_themselves(void **state)
{
    (void)state;
    struct guest *a = &w.guest[w.n++], *b = &w.guest[w.n++];
    guest_init(a, 1, 1, FAR);
    a->ticket.key = hash128(VIEW(""), 0);
    guest_init(b, 1, 1, FAR);
    b->request.sequence = true;
    assert_true(batcher_push(&w.b, &a->ticket, NOW));
    assert_true(batcher_push(&w.b, &b->ticket, NOW));
    assert_ptr_not_equal(a->ticket.group, b->ticket.group);
    assert_int_equal(take(), 1);
    assert_int_equal(take(), 1);
}

static void more_keys_than_groups_go_singly(void **state)
{
    (void)state;
    for (uint64_t key = 1; key <= BATCHER_GROUPS + 3; key++) {
        add(1, key);
        add(1, key);
    }
    unsigned singly = 0;
    for (unsigned i = 0; i < w.n; i++) {
        singly += w.guest[i].ticket.group->mixed;
        assert_int_equal(w.guest[i].ticket.group->mixed, w.guest[i].ticket.group->single);
    }
    assert_int_equal(singly, 8); // four keys too many
    unsigned pairs = 0, ones = 0;
    while (w.b.count > 0)
        *(take() == 2 ? &pairs : &ones) += 1;
    assert_int_equal(pairs, BATCHER_GROUPS - 1);
    assert_int_equal(ones, 8);
    // What became free is used again, in company.
    add(1, 77);
    add(1, 77);
    assert_int_equal(take(), 2);
}

static void without_memory_nothing_changes(void **state)
{
    (void)state;
    struct guest g;
    guest_init(&g, 1, 1, FAR);
    mem_fail_at(1);
    assert_false(batcher_push(&w.b, &g.ticket, NOW));
    mem_fail_at(0);
    assert_int_equal(w.b.count + w.b.rows + w.b.bytes, 0);
    assert_int_equal(g.ticket.place, PLACE_NONE);
    assert_null(batcher_any(&w.b));
    assert_null(plan().group);
}

// ---- who goes first ------------------------------------------------------------------------------------

static void lanes_are_strict(void **state)
{
    (void)state;
    struct guest *d = add_lane(3, 1, 3, NOW + 1000000), *c = add_lane(3, 1, 2, NOW + 900000);
    struct guest *b = add_lane(3, 1, 1, NOW + 800000), *a = add_lane(3, 1, 0, FAR);
    takes(2, a, b);
    takes(2, c, d);
}

static void within_a_lane_the_earliest_deadline(void **state)
{
    (void)state;
    struct guest *c = add_lane(4, 1, 1, NOW + 900000), *a = add_lane(4, 1, 1, NOW + 100000);
    struct guest *b = add_lane(4, 1, 1, NOW + 500000);
    takes(2, a, b);
    takes(1, c);
}

static void between_groups_the_lane_and_then_the_deadline(void **state)
{
    (void)state;
    struct guest *c = add_lane(1, 1, 2, NOW + 100000), *b = add_lane(1, 2, 1, NOW + 900000);
    struct guest *a = add_lane(1, 3, 1, NOW + 500000), *top = add_lane(1, 4, 0, FAR);
    takes(1, top);
    takes(1, a);
    takes(1, b);
    takes(1, c);
}

// Batches until this one goes, while there is always another of a higher lane.
static unsigned batches_until(const struct guest *g, uint64_t key)
{
    for (unsigned n = 0; n < 100; n++) {
        for (unsigned i = 0; i < 8; i++)
            add_lane(1, key, 0, NOW + 50000);
        take();
        if (g->ticket.place == PLACE_ABOARD)
            return n;
    }
    return 100;
}

static void no_lane_starves(void **state)
{
    (void)state;
    struct guest *low = add_lane(1, 1, 3, FAR);
    assert_int_equal(batches_until(low, 1), BATCHER_PASSES); // of its own group
    struct guest *again = add_lane(1, 1, 3, FAR);
    assert_int_equal(batches_until(again, 1), BATCHER_PASSES); // and counted anew
}

// Nobody was passed over while nobody was there.
static void an_empty_lane_is_not_passed_over(void **state)
{
    (void)state;
    for (unsigned n = 0; n < 3 * BATCHER_PASSES; n++) {
        for (unsigned i = 0; i < 9; i++) // one stays, so that the group does
            add_lane(1, 1, 0, NOW + 50000);
        take();
    }
    while (w.b.count > 8)
        take();
    struct guest *low = add_lane(8, 1, 3, FAR), *high = add_lane(8, 1, 0, FAR);
    while (low->ticket.place == PLACE_QUEUED)
        take();
    assert_int_equal(high->ticket.place, PLACE_ABOARD);
    assert_ptr_equal(w.out[0], &low->ticket);
    assert_int_equal(w.b.count, 0);
}

static void no_group_starves(void **state)
{
    (void)state;
    struct guest *low = add_lane(1, 2, 3, FAR);
    assert_int_equal(batches_until(low, 1), BATCHER_PASSES);
}

// Many that starve: every lane has one batch in nine, and its groups take turns.
static void all_that_starve_go_in_turn(void **state)
{
    (void)state;
    struct guest *low[6];
    for (unsigned i = 0; i < 6; i++)
        low[i] = add_lane(1, 10 + i / 3, (uint8_t)(1 + i % 3), FAR);
    unsigned last = 0;
    for (unsigned n = 0; n < 2 * (BATCHER_PASSES + 3); n++) {
        for (unsigned i = 0; i < 8; i++)
            add_lane(1, 1, 0, NOW + 50000);
        take();
        for (unsigned i = 0; i < 6; i++) {
            if (low[i]->ticket.place == PLACE_ABOARD)
                last = n + 1;
        }
    }
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(low[i]->ticket.place, PLACE_ABOARD);
    assert_true(last <= 2 * (BATCHER_PASSES + 3));
}

// However many groups of a low priority are starving: a high one waits for one batch of theirs at most.
static void priority_holds_across_groups(void **state)
{
    (void)state;
    for (unsigned groups = 2; groups <= 24; groups += 11) {
        for (unsigned i = 0; i < 8 * groups; i++)
            add_lane(8, 100 + i % groups, 3, FAR);
        for (unsigned n = 0; n < 3 * groups; n++)
            take();
        struct guest *urgent = add_lane(1, 1, 0, NOW + 50000);
        unsigned n = 0;
        for (; urgent->ticket.place == PLACE_QUEUED; n++)
            take();
        assert_true(n <= 2);
        while (w.b.count > 0)
            take();
    }
}

// Rows of a lane that fill up batches of a higher one count as that lane's turn.
static void a_lane_that_only_fills_up_is_served_too(void **state)
{
    (void)state;
    struct guest *single = add_lane(1, 1, 3, FAR);
    single->request.sequence = true;
    batcher_remove(&w.b, &single->ticket);
    assert_true(batcher_push(&w.b, &single->ticket, NOW));
    unsigned n = 0;
    for (; single->ticket.place == PLACE_QUEUED && n < 400; n++) {
        add_lane(4, 2, 2, NOW + 50000);
        add_lane(4, 2, 3, NOW + 50000); // in the same batch
        take();
    }
    assert_true(n <= (BATCHER_PASSES + BATCHER_LANES) * 2);
}

// Within a lane no group waits for ever behind others with earlier deadlines.
static void groups_of_a_lane_take_turns(void **state)
{
    (void)state;
    struct guest *late = add_lane(1, 1, 1, FAR);
    unsigned n = 0;
    for (; late->ticket.place == PLACE_QUEUED; n++) {
        add_lane(8, 2, 1, NOW + 50000);
        take();
    }
    assert_int_equal(n, BATCHER_PASSES + 1);
}

// A group of which rows stay behind waits its turn anew, and as long as any: also when it is not the first one.
static void a_group_waits_anew_for_its_rest(void **state)
{
    (void)state;
    add_lane(8, 2, 1, NOW + 50000);
    struct guest *first = add_lane(8, 1, 1, FAR), *rest = add_lane(8, 1, 1, FAR);
    unsigned n = 0, went = 0;
    for (; rest->ticket.place == PLACE_QUEUED && n < 100; n++) {
        went += first->ticket.place == PLACE_QUEUED;
        take();
        add_lane(8, 2, 1, NOW + 50000);
    }
    assert_int_equal(went, BATCHER_PASSES + 1);
    assert_int_equal(n, 2 * (BATCHER_PASSES + 1));
}

static void who_waits_longer_for_its_turn_goes_first(void **state)
{
    (void)state;
    struct guest *first = add_lane(1, 2, 3, FAR);
    for (unsigned n = 0; n < 3; n++) {
        for (unsigned i = 0; i < 8; i++)
            add_lane(1, 1, 0, NOW + 50000);
        take();
    }
    struct guest *second = add_lane(1, 3, 2, FAR); // of a higher lane, but it came later
    for (unsigned n = 0; n < 20 && first->ticket.place == PLACE_QUEUED; n++) {
        for (unsigned i = 0; i < 8; i++)
            add_lane(1, 1, 0, NOW + 50000);
        take();
    }
    assert_int_equal(second->ticket.place, PLACE_QUEUED);
}

// A lane of which at least one row went was not passed over.
static void whoever_was_served_waits_anew(void **state)
{
    (void)state;
    add_lane(6, 1, 3, FAR - 1000);
    struct guest *rest = add_lane(6, 1, 3, FAR);
    assert_int_equal(batches_until(rest, 2), 2 * BATCHER_PASSES + 1);
}

// ---- by arrival ----------------------------------------------------------------------------------------

static void max_wait_counts_from_the_oldest(void **state)
{
    (void)state;
    w.b.policy.max_wait_us = 2000;
    struct guest *a = add(1, 1);
    struct guest *b = &w.guest[w.n++];
    guest_init(b, 1, 1, FAR);
    assert_true(batcher_push(&w.b, &b->ticket, NOW + 500));
    assert_int_equal(b->ticket.queued_us, NOW + 500);
    assert_null(plan().group);
    assert_true(plan().wake_us == NOW + 2000);
    batcher_remove(&w.b, &a->ticket);
    assert_int_equal(a->ticket.place, PLACE_NONE);
    assert_true(plan().wake_us == NOW + 2500);
    assert_ptr_equal(batcher_any(&w.b), &b->ticket);
    struct batch_plan p = batcher_plan(&w.b, 64, NOW + 2500, NULL, NULL);
    assert_ptr_equal(p.group, b->ticket.group);
    assert_int_equal(p.reason, BATCH_WAIT);
}

static void the_earliest_wake_of_all_groups(void **state)
{
    (void)state;
    w.b.policy.max_wait_us = 2000;
    for (unsigned i = 0; i < 3; i++) {
        struct guest *g = &w.guest[w.n++];
        guest_init(g, 1, i, FAR);
        g->ticket.queued_us = NOW - (i == 1 ? 700 : 100);
        assert_true(batcher_push(&w.b, &g->ticket, NOW));
    }
    assert_true(plan().wake_us == NOW + 1300);
}

static void near_deadlines_do_not_wait(void **state)
{
    (void)state;
    w.b.policy.max_wait_us = 20000;
    add_lane(1, 1, 1, FAR);
    add_lane(1, 1, 3, NOW + 8000); // of whatever lane
    struct batch_plan p = plan();
    assert_null(p.group);
    assert_true(p.wake_us <= NOW + 8000 - POLICY_MARGIN_US);
    assert_true(p.wake_us > NOW + 7000 - POLICY_MARGIN_US);
    p = batcher_plan(&w.b, 64, p.wake_us, NULL, NULL);
    assert_int_equal(p.rows, 2);
    assert_int_equal(p.reason, BATCH_DEADLINE);
}

// Whoever comes back stands before all that came since, at no cost of theirs.
static void seniority_is_kept(void **state)
{
    (void)state;
    w.b.policy.max_wait_us = 2000;
    struct guest *back[3];
    for (unsigned i = 0; i < 3; i++) {
        back[i] = &w.guest[w.n++];
        guest_init(back[i], 1, 1, FAR);
        back[i]->ticket.queued_us = NOW - 300 + 100 * i;
    }
    struct guest *a = add(1, 1), *b = add(1, 1);
    assert_true(batcher_push(&w.b, &back[1]->ticket, NOW));
    assert_ptr_equal(batcher_any(&w.b), &back[1]->ticket);
    assert_true(batcher_push(&w.b, &back[2]->ticket, NOW));
    assert_true(batcher_push(&w.b, &back[0]->ticket, NOW));
    assert_true(plan().wake_us == NOW + 1700);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(back[i]->ticket.queued_us, NOW - 300 + 100 * i);
    // The oldest first, and never younger than it is.
    const struct ticket *t = batcher_any(&w.b);
    for (uint64_t senior_us = 0; t; t = t->newer) {
        assert_true(t->senior_us >= senior_us && t->senior_us <= t->queued_us);
        senior_us = t->senior_us;
        assert_ptr_equal(t->newer ? t->newer->older : t, t);
    }
    for (unsigned i = 0; i < 3; i++)
        batcher_remove(&w.b, &back[i]->ticket);
    assert_true(plan().wake_us == NOW + 2000);
    assert_ptr_equal(a->ticket.newer, &b->ticket);
}

// ---- what comes too late -------------------------------------------------------------------------------

static void the_dead_line_by_line(void **state)
{
    (void)state;
    assert_null(batcher_doomed(&w.b, NOW));
    assert_true(batcher_doom_us(&w.b) == UINT64_MAX);
    struct guest *b = add_lane(1, 1, 3, NOW + 40000), *a = add_lane(1, 2, 0, NOW + 30000);
    assert_null(batcher_doomed(&w.b, NOW));
    assert_true(batcher_doom_us(&w.b) <= NOW + 30000 && batcher_doom_us(&w.b) > NOW + 29000);
    assert_null(batcher_doomed(&w.b, NOW + 29999));
    assert_ptr_equal(batcher_doomed(&w.b, NOW + 30000), &a->ticket);
    assert_int_equal(a->ticket.place, PLACE_QUEUED); // told, not removed
    batcher_remove(&w.b, &a->ticket);
    assert_null(batcher_doomed(&w.b, NOW + 39999));
    assert_ptr_equal(batcher_doomed(&w.b, NOW + 40000), &b->ticket);
}

static void teach(uint64_t alpha, uint64_t beta, uint64_t now_us)
{
    for (uint32_t i = 0; i < 60; i++)
        batcher_learn(&w.b, 1 + i % 8, alpha + beta * (1 + i % 8), now_us);
}

static void what_takes_too_long_is_hopeless(void **state)
{
    (void)state;
    teach(10000, 1000, NOW);
    uint64_t low_us = estimate_low_us(&w.b.estimate, 4);
    assert_true(low_us > 5000 && low_us <= 14000);
    struct guest *g = add_lane(4, 1, 1, NOW + low_us);
    assert_true(batcher_hopeless(&w.b, &g->ticket, NOW));
    assert_ptr_equal(batcher_doomed(&w.b, NOW), &g->ticket);
    g->ticket.deadline_us = NOW + low_us + 1;
    assert_false(batcher_hopeless(&w.b, &g->ticket, NOW));
    assert_true(batcher_hopeless(&w.b, &g->ticket, NOW + 1));
    assert_true(batcher_hopeless(&w.b, &g->ticket, NOW + low_us + 1));
    batcher_remove(&w.b, &g->ticket);
    // More rows take longer.
    struct guest *few = add_lane(1, 1, 1, NOW + low_us - 1000);
    assert_false(batcher_hopeless(&w.b, &few->ticket, NOW));
    uint64_t one_us = estimate_low_us(&w.b.estimate, 1), at_us = batcher_doom_us(&w.b);
    assert_true(at_us + one_us <= NOW + low_us - 1000 &&
                at_us + one_us + 1000 > NOW + low_us - 1000);
    few->ticket.deadline_us = FAR;
}

static void a_queue_that_is_late_is_asked_at_once(void **state)
{
    (void)state;
    teach(10000000, 1000, 0);
    assert_true(batcher_doom_us(&w.b) == UINT64_MAX); // an empty one not at all
    add_lane(1, 1, 1, 5000000);
    assert_true(batcher_doom_us(&w.b) == 0);
}

// The worker was slow and is quick again, but everybody is refused: nobody would ever find out.
static void an_estimate_that_refuses_is_put_to_the_test(void **state)
{
    (void)state;
    teach(500000, 1000, NOW);
    struct guest g;
    guest_init(&g, 1, 1, NOW + 3000000);
    uint64_t now_us = NOW + 2900000; // 100 ms left of it, which is far too little
    assert_false(batcher_hopeless(&w.b, &g.ticket, NOW)); // with three seconds there is hope
    batcher_learn(&w.b, 1, 501000, now_us - BATCHER_DOUBT_US + 1);
    assert_true(batcher_hopeless(&w.b, &g.ticket, now_us));
    assert_false(batcher_hopeless(&w.b, &g.ticket, now_us + 1)); // not checked for a second
    assert_true(batcher_push(&w.b, &g.ticket, now_us + 1));
    assert_null(batcher_doomed(&w.b, now_us + 1));
    struct batch_plan p = batcher_plan(&w.b, 64, now_us + 1, NULL, NULL);
    batcher_take(&w.b, &p, w.out, 64, now_us + 1);
    // One batch is the test; until it has ended the others are refused as before.
    assert_true(batcher_hopeless(&w.b, &g.ticket, now_us + 2));
    batcher_learn(&w.b, 1, 2000, now_us + 2002);
    assert_false(estimate_trusted(&w.b.estimate)); // forgotten
    assert_false(batcher_hopeless(&w.b, &g.ticket, now_us + 2003));
}

static void an_estimate_that_holds_is_kept(void **state)
{
    (void)state;
    teach(500000, 1000, NOW);
    uint64_t now_us = NOW + BATCHER_DOUBT_US;
    struct guest *g = add_lane(1, 1, 1, now_us + 100000);
    assert_null(batcher_doomed(&w.b, now_us));
    struct batch_plan p = batcher_plan(&w.b, 64, now_us, NULL, NULL);
    batcher_take(&w.b, &p, w.out, 64, now_us);
    batcher_learn(&w.b, 1, 520000, now_us + 520000);
    assert_true(estimate_trusted(&w.b.estimate));
    g->ticket.deadline_us = now_us + 600000;
    assert_true(batcher_hopeless(&w.b, &g->ticket, now_us + 550000));
    // Nor is every batch a test that goes while somebody is refused.
    struct guest *plenty = add_lane(1, 1, 1, now_us + FAR);
    p = batcher_plan(&w.b, 64, now_us + 550001, NULL, NULL);
    batcher_take(&w.b, &p, w.out, 64, now_us + 550001);
    assert_int_equal(plenty->ticket.place, PLACE_ABOARD);
    batcher_learn(&w.b, 1, 2000, now_us + 552001);
    assert_true(estimate_trusted(&w.b.estimate));
    // Nobody was refused since: however quick, it is one answer among many.
    batcher_learn(&w.b, 1, 520000, now_us + 560000);
    now_us += 5 * BATCHER_DOUBT_US;
    add_lane(1, 1, 1, now_us + FAR);
    p = batcher_plan(&w.b, 64, now_us, NULL, NULL);
    batcher_take(&w.b, &p, w.out, 64, now_us);
    batcher_learn(&w.b, 1, 2000, now_us + 2000);
    assert_true(estimate_trusted(&w.b.estimate));
}

// ---- auto ----------------------------------------------------------------------------------------------

static const struct outlook quiet = {.servers = 1, .idle = 1};

// t(b) = 1000 + 20 b, at most 64 rows, one server that is free.
static void be_auto(void)
{
    w.b.policy = (struct policy){.kind = POLICY_AUTO, .max_rows = 64, .max_wait_us = UINT64_MAX};
    batcher_expect(&w.b, &quiet);
    for (uint32_t i = 0; i < 400; i++)
        batcher_learn(&w.b, 1 << i % 7, 1000 + 20 * (1 << i % 7), NOW - 20000);
    w.b.arrivals = (struct arrivals){0};
    batcher_expect(&w.b, &quiet);
}

static void auto_drops_what_stands_in_the_way(void **state)
{
    (void)state;
    be_auto();
    for (uint8_t lane = 0; lane < BATCHER_LANES; lane++) {
        struct guest *first = &w.guest[w.n];
        for (unsigned i = 0; i < 40; i++) // time for one, not for many
            add_lane(1, 1, lane, NOW + 1100 + i);
        for (unsigned i = 0; i < 60; i++)
            add_lane(1, 1, lane, NOW + 2400 + i);
        struct batch_plan p = plan();
        assert_int_equal(p.reason, BATCH_DEADLINE);
        assert_true(p.rows >= 50 && p.rows <= 60);
        unsigned dropped = 0;
        for (struct ticket *t; (t = batcher_dropped(&w.b, &p, NOW)) != NULL; dropped++) {
            assert_ptr_equal(t, &first[dropped].ticket);
            assert_int_equal(t->place, PLACE_QUEUED); // told, not removed
            batcher_remove(&w.b, t);
        }
        assert_int_equal(dropped, 40);
        assert_int_equal(batcher_take(&w.b, &p, w.out, 64, NOW), p.rows);
        assert_ptr_equal(w.out[0], &first[40].ticket);
        assert_int_equal(w.b.sent, lane + 1);
        for (struct ticket *t; (t = batcher_any(&w.b)) != NULL;)
            batcher_remove(&w.b, t);
    }
}

// What was pushed long ago is told apart as finely as what comes now: one of two cannot make it, the other can.
static void auto_counts_what_is_due_from_now(void **state)
{
    (void)state;
    be_auto();
    struct guest *late = add_lane(1, 1, 1, FAR), *in_time = add_lane(1, 1, 1, FAR + 400);
    uint64_t now_us = FAR - 980; // t(1) = 1020, t(2) = 1040
    struct batch_plan p = batcher_plan(&w.b, 64, now_us, NULL, NULL);
    assert_ptr_equal(batcher_dropped(&w.b, &p, now_us), &late->ticket);
    batcher_remove(&w.b, &late->ticket);
    assert_null(batcher_dropped(&w.b, &p, now_us));
    assert_int_equal(batcher_take(&w.b, &p, w.out, 64, now_us), 1);
    assert_ptr_equal(w.out[0], &in_time->ticket);
}

// While no server is known to be up, plans are made for one.
static void auto_expects_one_server_at_least(void **state)
{
    (void)state;
    be_auto();
    batcher_expect(&w.b, &(struct outlook){0});
    assert_int_equal(w.b.outlook.servers, 1);
    assert_int_equal(w.b.round_rows, 64);
    batcher_expect(&w.b, &(struct outlook){.servers = 3});
    assert_int_equal(w.b.round_rows, 3 * 64);
    batcher_expect(&w.b, &(struct outlook){.servers = 3, .beside = 0.5}); // beside them, in 2280 us
    assert_true(fabs(w.b.round_rows - (3 * 64 + 1140)) < 5);
}

// Rows for the device's time, beside a full batch: b / t(b) of 64 / t(64).
static void a_bid_is_its_share_of_a_full_batch(void **state)
{
    (void)state;
    be_auto();
    for (unsigned i = 0; i < 16; i++)
        add_lane(1, 1, 2, FAR);
    assert_int_equal(batcher_bid(&w.b).lane, 2);
    assert_true(fabs(batcher_bid(&w.b).share - 16.0 * 2280 / (64 * 1320)) < 0.01);
    for (unsigned i = 0; i < 84; i++)
        add_lane(1, 1, 2, FAR);
    assert_true(fabs(batcher_bid(&w.b).share - 1) < 1e-9); // it takes no more than a full one
    struct guest *single = add_lane(1, 2, 0, FAR);
    batcher_remove(&w.b, &single->ticket);
    single->request.sequence = true;
    assert_true(batcher_push(&w.b, &single->ticket, NOW));
    assert_int_equal(batcher_bid(&w.b).lane, 0);
    assert_true(fabs(batcher_bid(&w.b).share - 1) < 1e-9); // alone it is all that goes
}

// One deadline for all, and time: nobody is dropped.
static void auto_takes_all_when_there_is_time(void **state)
{
    (void)state;
    be_auto();
    struct guest *a = add(2, 1), *b = add(1, 1);
    struct batch_plan p = plan();
    assert_int_equal(p.reason, BATCH_IDLE);
    assert_null(batcher_dropped(&w.b, &p, NOW));
    takes(2, a, b);
}

// A lower lane fills up to where nobody of the higher one becomes late, and its own late ones are dropped.
static void auto_lets_the_higher_lane_decide(void **state)
{
    (void)state;
    be_auto();
    for (unsigned i = 0; i < 4; i++)
        add_lane(1, 1, 0, NOW + 1700);
    for (unsigned i = 0; i < 60; i++)
        add_lane(1, 1, 3, NOW + (i < 20 ? 1150 : 90000));
    struct batch_plan p = plan();
    assert_int_equal(p.lane, 0);
    assert_true(p.rows > 15 && p.rows <= 34); // t(34) = 1680
    assert_true(p.drop_us[0] == 0 && p.drop_us[1] == 0);
    unsigned dropped = 0;
    for (struct ticket *t; (t = batcher_dropped(&w.b, &p, NOW)) != NULL; dropped++) {
        assert_int_equal(t->lane, 3);
        batcher_remove(&w.b, t);
    }
    assert_true(dropped == 0 || dropped == 20);
    unsigned n = batcher_take(&w.b, &p, w.out, 64, NOW);
    assert_int_equal(n, p.rows);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(w.out[i]->lane, 0);
}

// A starving lane leads, and decides then.
static void auto_keeps_the_bound_on_starving(void **state)
{
    (void)state;
    be_auto();
    w.b.policy.max_rows = 8;
    struct guest *low = add_lane(1, 1, 3, FAR);
    assert_int_equal(batches_until(low, 1), BATCHER_PASSES);
}

static void auto_sends_singles_in_turn(void **state)
{
    (void)state;
    be_auto();
    struct guest *g = &w.guest[w.n++];
    guest_init(g, 1, 1, FAR);
    g->request.sequence = true;
    assert_true(batcher_push(&w.b, &g->ticket, NOW));
    struct outlook busy = {.servers = 1, .in_flight = 1, .free_us = NOW + 700};
    batcher_expect(&w.b, &busy);
    assert_null(plan().group);
    double open_us = (double)NOW + 700 - policy_lead_us(w.b.estimate.alpha);
    assert_true(plan().wake_us == (uint64_t)ceil(open_us));
    batcher_trip(&w.b, 300); // it has half a way to go
    assert_true(plan().wake_us == (uint64_t)ceil(open_us - 150));
    batcher_expect(&w.b, &quiet);
    assert_int_equal(plan().rows, 1);
    assert_int_equal(plan().reason, BATCH_IDLE);
    takes(1, g);
}

// R7: counted from when a server is free, with the way there and back.
static void auto_knows_who_is_hopeless(void **state)
{
    (void)state;
    be_auto();
    uint64_t low_us = estimate_low_us(&w.b.estimate, 1);
    assert_true(low_us > 900);
    batcher_trip(&w.b, 200);
    struct outlook busy = {
        .servers = 1, .in_flight = 1, .free_us = NOW + 5000, .soonest_free_us = NOW + 5000};
    struct guest *g = add_lane(1, 1, 1, NOW + low_us + 201);
    w.b.learned_us = NOW;
    assert_false(batcher_hopeless(&w.b, &g->ticket, NOW));
    assert_true(batcher_hopeless(&w.b, &g->ticket, NOW + 1));
    uint64_t doom_us = batcher_doom_us(&w.b);
    assert_true(doom_us <= NOW + 1 && doom_us + LANE_TICK_US > NOW);
    batcher_expect(&w.b, &busy);
    assert_true(batcher_hopeless(&w.b, &g->ticket, NOW));
    assert_ptr_equal(batcher_doomed(&w.b, NOW), &g->ticket);
    g->ticket.deadline_us = NOW + 5000 + low_us + 101; // and half of the way back
    assert_false(batcher_hopeless(&w.b, &g->ticket, NOW));
    g->ticket.deadline_us--;
    assert_true(batcher_hopeless(&w.b, &g->ticket, NOW));
}

// R6: who has time for two full batches (of 2,280 us), and stands behind more.
static void auto_refuses_who_stands_behind_too_many(void **state)
{
    (void)state;
    be_auto();
    struct guest late, soon, high;
    guest_init(&late, 1, 1, NOW + 6000);
    guest_init(&soon, 1, 1, NOW + 4000);
    guest_init(&high, 1, 1, NOW + 6000);
    high.ticket.lane = 0;
    for (unsigned i = 0; i < 2 * 64; i++) {
        assert_false(batcher_refuses(&w.b, &late.ticket, NOW));
        add_lane(1, 1 + i % 3, 1, NOW + 5000); // of whatever group
    }
    assert_true(batcher_refuses(&w.b, &late.ticket, NOW));
    assert_false(batcher_refuses(&w.b, &soon.ticket, NOW)); // it may be served by dropping others
    assert_false(batcher_refuses(&w.b, &high.ticket, NOW)); // it goes before them
    late.ticket.deadline_us = NOW + 6900;                   // three batches are 6,840: too near
    assert_in_range(batcher_refuses(&w.b, &late.ticket, NOW), 150, 600);
    late.ticket.deadline_us = NOW + 8000;
    assert_false(batcher_refuses(&w.b, &late.ticket, NOW));
    struct outlook two = {.servers = 2, .idle = 1};
    late.ticket.deadline_us = NOW + 6000;
    batcher_expect(&w.b, &two);
    assert_false(batcher_refuses(&w.b, &late.ticket, NOW));
    batcher_expect(&w.b, &quiet);
    for (unsigned i = 0; i < 128; i++)
        w.guest[i].ticket.deadline_us = NOW + 5000;
    for (unsigned i = 0; i < 64; i++) // those that are due after it are not ahead of it
        batcher_remove(&w.b, &w.guest[i].ticket);
    for (unsigned i = 0; i < 64; i++)
        add_lane(1, 1, 1, NOW + 900000);
    assert_false(batcher_refuses(&w.b, &late.ticket, NOW));
    estimate_init(&w.b.estimate);
    batcher_expect(&w.b, &quiet);
    late.ticket.deadline_us = NOW + 1;
    assert_false(batcher_refuses(&w.b, &late.ticket, NOW)); // nothing is known
    late.ticket.deadline_us = NOW + 4000;
    batcher_expect(&w.b, &(struct outlook){.servers = 1, .soonest_free_us = NOW + 5000});
    assert_false(batcher_refuses(&w.b, &late.ticket, NOW)); // but of one that was recalled
}

// A row of lane 1 waits for those that come back. A full batch of lane 3 goes meanwhile, for the server is free; but
// the next turn is the row's, whatever comes back: else full batches would move its waiting on for ever.
static void auto_waits_for_company_until_it_is_overtaken(void **state)
{
    (void)state;
    static const struct policy planned = {
        .kind = POLICY_AUTO, .max_rows = 8, .max_wait_us = UINT64_MAX};
    const struct outlook idle = {.servers = 1, .idle = 1};
    w.b.policy = planned;
    for (unsigned i = 0; i < 200; i++)
        batcher_learn(&w.b, 1 + i % 8, 4000 + 20 * (1 + i % 8), NOW);
    w.b.trip_us = 100;
    w.b.arrivals.returns = (struct returns){
        .answered_us = NOW - 50, .answered = 4, .came = 1, .back = {0.75, 0.75, 0.75}};
    struct guest *row = add_lane(1, 1, 1, FAR);
    batcher_expect(&w.b, &idle);
    assert_null(plan().group);
    for (unsigned i = 0; i < 16; i++)
        add_lane(1, 2, 3, FAR);
    batcher_expect(&w.b, &idle);
    struct batch_plan p = plan();
    assert_int_equal(p.lane, 3);
    assert_int_equal(batcher_take(&w.b, &p, w.out, 64, NOW), 8);
    batcher_expect(&w.b, &idle);
    p = plan();
    assert_int_equal(p.lane, 1);
    assert_int_equal(batcher_take(&w.b, &p, w.out, 64, NOW), 1);
    assert_ptr_equal(w.out[0], &row->ticket);
    add_lane(1, 1, 1, FAR); // and the one after it waits again
    batcher_expect(&w.b, &idle);
    assert_int_equal(plan().lane, 3);
}

// R6 is for those that have time for two full batches, and the way there and back twice.
static void auto_refuses_nobody_in_a_hurry(void **state)
{
    (void)state;
    be_auto();
    batcher_trip(&w.b, 200);
    for (unsigned i = 0; i < 192; i++)
        add_lane(1, 1, 0, NOW + 2000);
    struct guest g;
    guest_init(&g, 1, 1, NOW + 2 * w.b.full_high_us + 200);
    assert_true(batcher_refuses(&w.b, &g.ticket, NOW) > 0);
    g.ticket.deadline_us--;
    assert_int_equal(batcher_refuses(&w.b, &g.ticket, NOW), 0);
}

// Nobody is thought to be in time before it is known how long a full batch takes, nor who is larger than one.
static void auto_knows_who_is_in_time(void **state)
{
    (void)state;
    struct guest g;
    guest_init(&g, 64, 1, FAR);
    w.b.policy = (struct policy){.kind = POLICY_AUTO, .max_rows = 64};
    batcher_expect(&w.b, &quiet);
    assert_false(batcher_timely(&w.b, &g.ticket, NOW));
    be_auto();
    assert_true(batcher_timely(&w.b, &g.ticket, NOW));
    g.request.rows = 65;
    assert_false(batcher_timely(&w.b, &g.ticket, NOW));
    g.request.rows = 1;
    g.ticket.deadline_us = NOW + w.b.full_high_us;
    assert_false(batcher_timely(&w.b, &g.ticket, NOW));
    g.ticket.deadline_us++;
    assert_true(batcher_timely(&w.b, &g.ticket, NOW));
    for (unsigned i = 0; i < 64; i++)
        add_lane(1, 1, 3, FAR);
    assert_false(batcher_timely(&w.b, &g.ticket, NOW)); // behind whatever is queued
}

// Who has missed every server here may still be answered by one beside them.
static void auto_hopes_for_a_server_beside(void **state)
{
    (void)state;
    be_auto();
    w.b.learned_us = NOW;
    struct guest *g = add_lane(1, 1, 1, NOW + 500);
    assert_true(batcher_hopeless(&w.b, &g->ticket, NOW));
    batcher_expect(&w.b, &(struct outlook){.servers = 1, .idle = 1, .beside_us = NOW + 499});
    assert_false(batcher_hopeless(&w.b, &g->ticket, NOW));
    batcher_expect(&w.b, &(struct outlook){.servers = 1, .idle = 1, .beside_us = NOW + 500});
    assert_true(batcher_hopeless(&w.b, &g->ticket, NOW));
}

// One late batch when nothing is known, three when something is: and what ends then is believed at once.
static void late_batches_make_it_curious(void **state)
{
    (void)state;
    assert_false(batcher_curious(&w.b));
    batcher_missed(&w.b);
    assert_true(batcher_curious(&w.b));
    be_auto();
    for (unsigned i = 0; i < 3; i++) {
        assert_false(batcher_curious(&w.b));
        batcher_missed(&w.b);
    }
    assert_true(batcher_curious(&w.b));
    batcher_learn(&w.b, 8, 11600, NOW);
    assert_in_range(estimate_mean_us(&w.b.estimate, 8), 11400, 11800);
    assert_false(batcher_curious(&w.b));
}

static void those_with_something_else_to_try_are_counted(void **state)
{
    (void)state;
    struct guest g[3];
    for (unsigned i = 0; i < 3; i++) {
        guest_init(&g[i], 1, 1, FAR);
        g[i].ticket.elsewhere = i != 1;
        assert_true(batcher_push(&w.b, &g[i].ticket, NOW));
    }
    assert_int_equal(w.b.elsewhere, 2);
    for (unsigned i = 0; i < 3; i++) {
        batcher_remove(&w.b, &g[i].ticket);
        assert_int_equal(w.b.elsewhere, i < 2);
    }
}

static void a_way_is_learnt(void **state)
{
    (void)state;
    batcher_trip(&w.b, 200);
    assert_true(w.b.trip_us == 200);
    batcher_trip(&w.b, 300);
    assert_true(w.b.trip_us == 205);
    batcher_trip(&w.b, 1000000); // a hiccup counts as four times what it was
    assert_true(w.b.trip_us == 205 + 0.05 * 3 * 205);
    w.b.trip_us = 0;
}

// Those that are refused count too.
static void arrivals_are_counted_under_auto_only(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 10; i++)
        batcher_came(&w.b, 3, NOW + i * 10);
    assert_int_equal(w.b.arrivals.returns.came, 0);
    be_auto();
    batcher_learn(&w.b, 4, 1080, NOW);
    assert_int_equal(w.b.arrivals.returns.answered, 4);
    for (unsigned i = 0; i < 10; i++)
        batcher_came(&w.b, 3, NOW + i * 10);
    assert_int_equal(w.b.arrivals.returns.came, 30);
}

// A row just now, and one as long ago as is remembered: that of ten full batches, or of a tenth of a second.
static void the_rate_is_that_of_ten_full_batches(void **state)
{
    (void)state;
    for (unsigned known = 0; known < 2; known++) {
        if (known)
            be_auto();
        else
            w.b.policy.kind = POLICY_AUTO;
        batcher_came(&w.b, 1, NOW - 10000);
        struct guest *g = add(1, 1);
        plan();
        double remembered_us = known ? 10 * (double)w.b.full_us : 100000;
        assert_true(fabs(w.b.arrivals.weight - (1 - exp(-10000 / remembered_us))) < 1e-9);
        batcher_remove(&w.b, &g->ticket);
    }
}

// ---- beside a naive twin -------------------------------------------------------------------------------

static void every_ticket_once_in_order(void **state)
{
    (void)state;
    struct rand r;
    rand_seed(&r, 3);
    uint64_t now_us = NOW, rows = 0;
    unsigned in = 0, out = 0;
    while (out < 1900) {
        if (w.n < 1900 && rand_below(&r, 3) > 0) {
            struct guest *g = &w.guest[w.n++];
            guest_init(g, 1 + (uint32_t)rand_below(&r, 5), rand_below(&r, 4), now_us + 1000000000);
            g->ticket.lane = (uint8_t)rand_below(&r, 4);
            assert_true(batcher_push(&w.b, &g->ticket, now_us));
            rows += g->request.rows;
            in++;
        } else if (w.b.count > 0) {
            struct batch_plan p = batcher_plan(&w.b, 6, now_us, NULL, NULL);
            unsigned n = batcher_take(&w.b, &p, w.out, 64, now_us);
            uint32_t batch_rows = 0;
            for (unsigned i = 0; i < n; i++) {
                assert_int_equal(w.out[i]->key.hi, w.out[0]->key.hi);
                assert_null(w.out[i]->group);
                batch_rows += w.out[i]->request->rows;
            }
            assert_true(batch_rows <= 6);
            rows -= batch_rows;
            out += n;
        }
        assert_int_equal(w.b.count, in - out);
        assert_int_equal(w.b.rows, rows);
        assert_int_equal(w.b.bytes, 10 * rows);
        now_us += rand_below(&r, 2000);
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(priorities_have_their_lanes),
        TEST(equal_keys_share_and_others_do_not),
        TEST(a_batch_is_never_larger_than_it_may_be),
        TEST(the_replica_may_take_less),
        TEST(preferred_sizes_end_at_what_the_replica_takes),
        TEST(some_go_singly),
        TEST(singles_of_each_version_have_a_group),
        TEST(singles_keep_to_themselves),
        TEST(more_keys_than_groups_go_singly),
        TEST(without_memory_nothing_changes),
        TEST(lanes_are_strict),
        TEST(within_a_lane_the_earliest_deadline),
        TEST(between_groups_the_lane_and_then_the_deadline),
        TEST(no_lane_starves),
        TEST(an_empty_lane_is_not_passed_over),
        TEST(priority_holds_across_groups),
        TEST(groups_of_a_lane_take_turns),
        TEST(a_lane_that_only_fills_up_is_served_too),
        TEST(no_group_starves),
        TEST(all_that_starve_go_in_turn),
        TEST(a_group_waits_anew_for_its_rest),
        TEST(who_waits_longer_for_its_turn_goes_first),
        TEST(whoever_was_served_waits_anew),
        TEST(max_wait_counts_from_the_oldest),
        TEST(the_earliest_wake_of_all_groups),
        TEST(near_deadlines_do_not_wait),
        TEST(seniority_is_kept),
        TEST(the_dead_line_by_line),
        TEST(what_takes_too_long_is_hopeless),
        TEST(a_queue_that_is_late_is_asked_at_once),
        TEST(an_estimate_that_refuses_is_put_to_the_test),
        TEST(an_estimate_that_holds_is_kept),
        TEST(auto_drops_what_stands_in_the_way),
        TEST(auto_counts_what_is_due_from_now),
        TEST(auto_expects_one_server_at_least),
        TEST(a_bid_is_its_share_of_a_full_batch),
        TEST(auto_takes_all_when_there_is_time),
        TEST(auto_lets_the_higher_lane_decide),
        TEST(auto_keeps_the_bound_on_starving),
        TEST(auto_sends_singles_in_turn),
        TEST(auto_knows_who_is_hopeless),
        TEST(auto_refuses_who_stands_behind_too_many),
        TEST(auto_waits_for_company_until_it_is_overtaken),
        TEST(auto_refuses_nobody_in_a_hurry),
        TEST(auto_knows_who_is_in_time),
        TEST(auto_hopes_for_a_server_beside),
        TEST(late_batches_make_it_curious),
        TEST(those_with_something_else_to_try_are_counted),
        TEST(a_way_is_learnt),
        TEST(arrivals_are_counted_under_auto_only),
        TEST(the_rate_is_that_of_ten_full_batches),
        TEST(every_ticket_once_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
