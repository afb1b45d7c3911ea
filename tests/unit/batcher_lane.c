/* batcher/lane: the order it keeps, beside a naive twin that looks at every ticket. */
#include "tests/unit/batcher_kit.h"

#define MS 1000ull
#define SLOT ((uint64_t)LANE_TICK_US)
#define N 400

static void an_empty_lane(void **state)
{
    (void)state;
    static struct lane l;
    lane_init(&l, 5 * MS);
    assert_null(lane_first(&l, 5 * MS));
    assert_null(lane_first(&l, 500000 * MS));
    assert_true(lane_earliest_us(&l) == UINT64_MAX);
}

static void one_ticket(void **state)
{
    (void)state;
    static struct lane l;
    struct guest g;
    for (unsigned bit = 0; bit < 25; bit++) {
        for (int off = -1; off <= 1; off++) {
            uint64_t now_us = 4096 * MS * 4096 - 3 * MS,
                     at_us = now_us + ((1ull << bit) + off) * SLOT + 7;
            lane_init(&l, now_us);
            guest_init(&g, 3, 1, at_us);
            lane_push(&l, &g.ticket, now_us);
            assert_int_equal(l.count, 1);
            assert_int_equal(l.rows, 3);
            for (uint64_t t = now_us; t < at_us; t += (at_us - t) / 3 + 1) {
                uint64_t left_us = at_us - t, bound_us = lane_earliest_us(&l);
                assert_ptr_equal(lane_first(&l, t), &g.ticket);
                assert_true(bound_us <= at_us);
                assert_true(at_us - lane_earliest_us(&l) <= left_us / 31 + SLOT);
            }
            // Past its deadline it stays the first.
            assert_ptr_equal(lane_first(&l, at_us + 70 * MS), &g.ticket);
            l.passed = 3;
            lane_remove(&l, &g.ticket);
            assert_null(lane_first(&l, at_us));
            assert_int_equal(l.count + l.rows + l.passed, 0);
            assert_null(g.ticket.prev);
        }
    }
}

static void deadlines_beyond_every_bound(void **state)
{
    (void)state;
    static struct lane l;
    struct guest far[3];
    lane_init(&l, MS);
    guest_init(&far[0], 1, 1, UINT64_MAX - 1);
    guest_init(&far[1], 1, 1, 100000000 * MS);
    guest_init(&far[2], 1, 1, 60 * MS);
    for (unsigned i = 0; i < 3; i++)
        lane_push(&l, &far[i].ticket, MS);
    assert_ptr_equal(lane_first(&l, MS), &far[2].ticket);
    lane_remove(&l, &far[2].ticket);
    assert_true(lane_earliest_us(&l) <= 100000000 * MS);
    assert_ptr_equal(lane_first(&l, 99999999 * MS), &far[1].ticket);
    lane_remove(&l, &far[1].ticket);
    assert_ptr_equal(lane_first(&l, 99999999 * MS), &far[0].ticket);
    lane_remove(&l, &far[0].ticket);
}

// Beyond the last level's reach they still go after all that is within it.
static void hours_ahead(void **state)
{
    (void)state;
    static struct lane l;
    static struct guest g[4];
    static const uint64_t hours[4] = {3, 7, 2, 1};
    for (uint64_t at = 0; at < 40; at++) { // wherever the levels' borders are
        uint64_t now_us = at * 100000 * MS;
        lane_init(&l, now_us);
        for (unsigned i = 0; i < 4; i++) {
            guest_init(&g[i], 1, 1, now_us + hours[i] * 3600000 * MS);
            lane_push(&l, &g[i].ticket, now_us);
        }
        assert_ptr_equal(lane_first(&l, now_us), &g[3].ticket);
        lane_remove(&l, &g[3].ticket);
        assert_ptr_equal(lane_first(&l, now_us), &g[2].ticket);
        lane_remove(&l, &g[2].ticket);
        assert_ptr_equal(lane_first(&l, now_us + 3600000 * MS), &g[0].ticket);
        lane_remove(&l, &g[0].ticket);
        lane_remove(&l, &g[1].ticket);
    }
}

// A caller whose clock is a little behind changes nothing.
static void time_does_not_go_back(void **state)
{
    (void)state;
    static struct lane l;
    static struct guest g[2];
    lane_init(&l, 900 * MS);
    guest_init(&g[0], 1, 1, 990 * MS);
    guest_init(&g[1], 1, 1, 950 * MS);
    lane_push(&l, &g[0].ticket, 930 * MS);
    lane_push(&l, &g[1].ticket, 910 * MS);
    assert_ptr_equal(lane_first(&l, 900 * MS), &g[1].ticket);
    assert_int_equal(l.tick, 930 * MS / SLOT);
    assert_true(lane_earliest_us(&l) == 950 * MS);
}

static void equal_deadlines_first_in_first_out(void **state)
{
    (void)state;
    static struct lane l;
    static struct guest g[5];
    lane_init(&l, 0);
    for (unsigned i = 0; i < 5; i++) {
        guest_init(&g[i], 1, 1, 900 * MS + i); // of one slot
        lane_push(&l, &g[i].ticket, i * MS);
    }
    for (unsigned i = 0; i < 5; i++) {
        assert_ptr_equal(lane_first(&l, 100 * (i + 4) * MS), &g[i].ticket); // dealt out in between
        lane_remove(&l, &g[i].ticket);
    }
}

// A deadline of three milliseconds is ordered to an eighth of one.
static void short_deadlines_are_told_apart(void **state)
{
    (void)state;
    static struct lane l;
    struct guest late, soon;
    lane_init(&l, 40 * MS);
    guest_init(&late, 1, 1, 43 * MS + SLOT);
    guest_init(&soon, 1, 1, 43 * MS + SLOT - 1);
    lane_push(&l, &late.ticket, 40 * MS);
    lane_push(&l, &soon.ticket, 40 * MS);
    assert_true(lane_earliest_us(&l) == 43 * MS);
    assert_int_equal(lane_rows_before(&l, 43 * MS), 0);
    assert_int_equal(lane_rows_before(&l, 43 * MS + 1), 1);
    assert_int_equal(lane_rows_before(&l, 43 * MS + SLOT), 1);
    assert_int_equal(lane_rows_before(&l, 43 * MS + SLOT + 1), 2);
    assert_ptr_equal(lane_first(&l, 40 * MS), &soon.ticket);
    lane_remove(&l, &soon.ticket);
    assert_true(lane_earliest_us(&l) == 43 * MS + SLOT);
    lane_remove(&l, &late.ticket);
}

// What was far to either side of a border of levels stands in order when it is near.
static void short_deadlines_go_before_long_ones(void **state)
{
    (void)state;
    static struct lane l;
    struct guest slow, quick;
    uint64_t now_us = 4000 * MS; // 96 ms before 64 x 64
    lane_init(&l, now_us);
    guest_init(&slow, 1, 1, 8000 * MS);
    guest_init(&quick, 1, 1, 4200 * MS);
    lane_push(&l, &slow.ticket, now_us);
    lane_push(&l, &quick.ticket, now_us);
    assert_ptr_equal(lane_first(&l, now_us), &quick.ticket);
    lane_remove(&l, &quick.ticket);
    lane_remove(&l, &slow.ticket);
}

// ---- the twin ----------------------------------------------------------------------------------------

struct twin {
    struct lane lane;
    struct guest guest[N];
    bool in[N];
    uint64_t now_us;
    struct rand rand;
};

static uint64_t earliest(const struct twin *w, unsigned *count, uint64_t *rows)
{
    uint64_t at_us = UINT64_MAX;
    *count = 0;
    *rows = 0;
    for (unsigned i = 0; i < N; i++) {
        if (!w->in[i])
            continue;
        ++*count;
        *rows += w->guest[i].request.rows;
        if (w->guest[i].ticket.deadline_us < at_us)
            at_us = w->guest[i].ticket.deadline_us;
    }
    return at_us;
}

static void check(struct twin *w)
{
    unsigned count;
    uint64_t rows, at_us = earliest(w, &count, &rows), bound_us = lane_earliest_us(&w->lane);
    assert_int_equal(w->lane.count, count);
    assert_int_equal(w->lane.rows, rows);
    struct ticket *first = lane_first(&w->lane, w->now_us);
    assert_int_equal(first == NULL, count == 0);
    if (!first) {
        assert_true(bound_us == UINT64_MAX);
        return;
    }
    assert_true(w->in[guest_index(w->guest, first)]);
    if (first->deadline_us > w->now_us) { // else it is as late as any
        uint64_t tick_us = w->now_us / SLOT * SLOT, best_us = at_us > tick_us ? at_us : tick_us;
        uint64_t wrong_us = first->deadline_us - best_us, left_us = first->deadline_us - w->now_us;
        assert_true(wrong_us < SLOT || 32 * wrong_us < left_us);
    }
    // Never late, and exact to the slot; what is past is due now.
    bound_us = lane_earliest_us(&w->lane);
    if (at_us >= w->now_us) {
        assert_true(bound_us <= at_us);
        assert_true(at_us - bound_us <= (at_us - w->now_us) / 31 + SLOT);
    } else {
        assert_true(bound_us <= w->now_us);
    }
}

// Rows with a deadline before at_us, or as many more as rounding by a slot may say.
static uint64_t rows_due(const struct twin *w, uint64_t at_us)
{
    uint64_t rows = 0;
    for (unsigned i = 0; i < N; i++)
        rows += w->in[i] && w->guest[i].ticket.deadline_us < at_us ? w->guest[i].request.rows : 0;
    return rows;
}

// Never too few, and too many only by what a slot and an edge are wide.
static void check_due(struct twin *w)
{
    static struct due_rows d;
    lane_first(&w->lane, w->now_us);
    lane_due(&w->lane, &d);
    assert_int_equal(d.from_us, w->lane.tick * SLOT);
    for (unsigned k = 0; k < 40; k++) {
        uint64_t ahead_us = rand_below(&w->rand, 1ull << rand_below(&w->rand, 27));
        uint64_t at_us = w->now_us + ahead_us, wide_us = SLOT + ahead_us / 31;
        uint64_t late = due_late(&d, (double)at_us), slots = lane_rows_before(&w->lane, at_us);
        assert_true(late >= rows_due(w, at_us));
        if (ahead_us < 60000000)
            assert_true(late <= rows_due(w, at_us + 2 * wide_us));
        assert_true(slots >= rows_due(w, at_us) && slots <= rows_due(w, at_us + wide_us));
    }
    if (w->lane.count > 0)
        assert_true(due_late(&d, 1e300) == w->lane.rows);
}

static void edges_of_what_is_due(void **state)
{
    (void)state;
    assert_int_equal(due_edge(1), 0);
    assert_int_equal(due_edge(64), 63);
    unsigned before = 63;
    for (uint64_t ticks = 65; ticks < 3000000; ticks += 1 + ticks / 500) {
        unsigned i = due_edge(ticks), level = (i - DUE_NEAR) / DUE_FAR + 1;
        if (i == DUE_EDGES - 1)
            break;
        uint64_t edge = (uint64_t)(DUE_FAR + (i - DUE_NEAR) % DUE_FAR + 1) << level;
        assert_true(i == before || i == before + 1);
        assert_true(edge >= ticks && edge - (1ull << level) < ticks);
        before = i;
    }
    assert_int_equal(before, DUE_EDGES - 2);
    assert_int_equal(due_edge(UINT64_MAX), DUE_EDGES - 1);
    struct due_rows d = {.from_us = 1000, .rows = {5, 7, 9}};
    d.rows[DUE_EDGES - 1] = 11;
    assert_int_equal(due_late(&d, 900), 5);
    assert_int_equal(due_late(&d, 1000), 5);
    assert_int_equal(due_late(&d, 1000.5), 5);
    assert_int_equal(due_late(&d, 1125), 5);
    assert_int_equal(due_late(&d, 1125.5), 7);
    assert_int_equal(due_late(&d, 1375), 9);
    assert_int_equal(due_late(&d, 65.6e6), 11);
}

static void step(struct twin *w)
{
    unsigned i = (unsigned)rand_below(&w->rand, N);
    switch (rand_below(&w->rand, 8)) {
    case 0: // time goes on, at every scale
        w->now_us += rand_below(&w->rand, 1ull << rand_below(&w->rand, 24));
        break;
    case 1:
    case 2: { // the first goes
        struct ticket *t = lane_first(&w->lane, w->now_us);
        if (t) {
            lane_remove(&w->lane, t);
            w->in[guest_index(w->guest, t)] = false;
        }
        break;
    }
    case 3: // any other goes
        if (w->in[i])
            lane_remove(&w->lane, &w->guest[i].ticket);
        w->in[i] = false;
        break;
    default: {
        if (w->in[i])
            break;
        uint64_t in_us = rand_below(&w->rand, 1ull << rand_below(&w->rand, 32));
        guest_init(&w->guest[i], 1 + (uint32_t)rand_below(&w->rand, 4), 1, w->now_us + in_us);
        lane_push(&w->lane, &w->guest[i].ticket, w->now_us);
        w->in[i] = true;
    }
    }
    check(w);
}

static void beside_a_naive_twin(void **state)
{
    (void)state;
    static struct twin w;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        memset(w.in, 0, sizeof(w.in));
        rand_seed(&w.rand, seed);
        w.now_us = rand_below(&w.rand, 1ull << 40);
        lane_init(&w.lane, w.now_us);
        for (unsigned i = 0; i < 3000; i++) {
            step(&w);
            if (i % 50 == 0)
                check_due(&w);
        }
        for (struct ticket *t; (t = lane_first(&w.lane, w.now_us)) != NULL;) {
            lane_remove(&w.lane, t);
            w.in[guest_index(w.guest, t)] = false;
            check(&w);
        }
        assert_int_equal(w.lane.levels, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_lane),
        cmocka_unit_test(one_ticket),
        cmocka_unit_test(deadlines_beyond_every_bound),
        cmocka_unit_test(hours_ahead),
        cmocka_unit_test(time_does_not_go_back),
        cmocka_unit_test(equal_deadlines_first_in_first_out),
        cmocka_unit_test(short_deadlines_are_told_apart),
        cmocka_unit_test(short_deadlines_go_before_long_ones),
        cmocka_unit_test(edges_of_what_is_due),
        cmocka_unit_test(beside_a_naive_twin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
